//! Somebody else's word on a version.

use std::time::Duration;

use super::{live_and_quiet, toy::Toy, toy::cron_job};
use crate::{
    api::{command::Action, release::Outcome, verify::ExternalAt},
    decide::{check::check, decide},
    model::{
        cron_job::PlannedCronJob,
        external::{Address, PlannedExternal, Word},
        phase::{Phase, Stage},
        world::{Command, Hold},
    },
};

fn planned(name: &str, at: ExternalAt) -> PlannedExternal {
    let to = Address::parse("https://changes.example.com").unwrap();
    PlannedExternal { name: name.into(), at, to, secret: None, within: Duration::from_secs(10) }
}

/// A shop of twenty pods whose versions wait for the word of `board`.
fn asking(at: ExternalAt) -> Toy {
    let mut toy = Toy::adopted(20);
    toy.plan.external.push(planned("board", at));
    toy.set_image("v2");
    toy
}

fn says(toy: &mut Toy, word: Word) {
    toy.seen.external.insert("board".into(), word);
}

fn waits(toy: &Toy) -> bool {
    toy.last.as_ref().is_some_and(|d| d.reason.word() == "ExternalWaits") && toy.quiet()
}

fn message(toy: &Toy) -> String {
    toy.last.as_ref().unwrap().reason.to_string()
}

fn passes(toy: &mut Toy, count: usize) {
    for _ in 0..count {
        toy.pass();
    }
}

fn outcome(toy: &Toy, version: &str) -> Option<Outcome> {
    toy.seen.releases.iter().find(|r| r.version == version).unwrap().outcome
}

#[test]
fn no_pod_of_a_version_starts_before_somebody_elses_word() {
    let mut toy = asking(ExternalAt::Start);
    toy.until(waits);
    passes(&mut toy, 20);
    assert_eq!((toy.story().as_str(), toy.phase()), ("record v2", "Preflight"));
    assert!(
        message(&toy).starts_with("v2 waits for the word of board before its first pod: its question has no answer yet; "),
        "{}",
        message(&toy)
    );
    assert_eq!(toy.last.as_ref().unwrap().health.stalled, None, "it ends by itself");
    says(&mut toy, Word::Wait("was answered 503".into()));
    toy.pass();
    assert!(message(&toy).contains("its question was answered 503; it is asked again and again since 2027-01-15T"), "{}", message(&toy));
    says(&mut toy, Word::Pass);
    toy.pass();
    let notes: Vec<String> = toy.last.as_ref().unwrap().notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        (notes, toy.story()),
        (vec!["board lets v2 go on to its first pod".to_owned()], String::new()),
        "stored before anything is done"
    );
    // A leader that has just begun knows no word of others.
    toy.seen.external.clear();
    toy.until(|t| t.live() == "v2" && t.quiet());
    assert!(toy.story().starts_with("pin v1; canary 1; "), "the canary starts");
}

#[test]
fn what_runs_before_a_version_waits_for_that_word_too() {
    let mut toy = asking(ExternalAt::Start);
    toy.plan.before.push(PlannedCronJob { name: "migrate".into(), containers: vec![] });
    toy.seen.cron_jobs.push(cron_job("migrate", "v0"));
    toy.until(waits);
    passes(&mut toy, 20);
    assert_eq!((toy.story().as_str(), toy.phase()), ("record v2", "Preparing"));
    says(&mut toy, Word::Pass);
    toy.until(|t| !t.seen.jobs.is_empty());
}

#[test]
fn a_no_at_the_start_costs_nothing_and_sticks() {
    let mut toy = asking(ExternalAt::Start);
    toy.until(waits);
    says(&mut toy, Word::Fail(200));
    toy.until(live_and_quiet);
    assert_eq!((toy.phase(), outcome(&toy, "v2")), ("RolledBack", Some(Outcome::RolledBack)));
    assert!(!toy.story().contains("canary"), "no pod of it ever started");
    assert!(
        message(&toy)
            .contains("v2 was taken back by the word of board, whatever was measured: before its first pod it answered 200 and Fail"),
        "{}",
        message(&toy)
    );
    assert_eq!(toy.state.quarantine.len(), 1);
}

#[test]
fn all_of_the_traffic_waits_for_that_word_and_a_no_takes_it_back() {
    for (word, phase) in [(Word::Pass, "Live"), (Word::Fail(201), "RolledBack")] {
        let mut toy = asking(ExternalAt::Promote);
        toy.until(waits);
        assert_eq!(toy.state.phase.rollout().unwrap().stage, Stage::Canary { step: 2 }, "it has 50 %");
        let notes = toy.state.phase.rollout().unwrap().sought.len();
        says(&mut toy, Word::Wait("was answered 200 and Hold".into()));
        passes(&mut toy, 50);
        assert!(message(&toy).contains("before all of the traffic: its question was answered 200 and Hold; "), "{}", message(&toy));
        assert_eq!((toy.phase(), notes), ("Canary", 1));
        says(&mut toy, word);
        toy.until(live_and_quiet);
        assert_eq!(toy.phase(), phase);
    }
}

#[test]
fn who_waits_for_a_word_still_goes_back_and_its_deadline_counts() {
    let mut toy = asking(ExternalAt::Promote);
    toy.until(waits);
    toy.canary_fails = true;
    toy.until(live_and_quiet);
    assert_eq!(outcome(&toy, "v2"), Some(Outcome::RolledBack));

    for at in [ExternalAt::Start, ExternalAt::Promote] {
        let mut toy = asking(at);
        toy.until(waits);
        toy.until(|t| matches!(t.state.phase, Phase::RolledBack { .. }) && t.quiet());
        assert_eq!(outcome(&toy, "v2"), Some(Outcome::Undecided));
        assert!(message(&toy).contains("(v2 waits for the word of board"), "{}", message(&toy));
    }
}

#[test]
fn a_newer_version_takes_the_place_of_one_that_waits_for_a_word() {
    let mut toy = asking(ExternalAt::Start);
    toy.until(waits);
    toy.set_image("v3");
    toy.until(|t| outcome(t, "v2") == Some(Outcome::Superseded));
    toy.seen.external.clear();
    toy.until(|t| waits(t) && t.seen.releases.iter().any(|r| r.version == "v3"));
    assert!(message(&toy).starts_with("v3 waits for the word of board"), "it is asked of each version: {}", message(&toy));
}

#[test]
fn a_version_that_comes_back_asks_nobody() {
    let mut toy = Toy::adopted(20);
    toy.set_image("v2");
    toy.until(|t| t.live() == "v2" && t.quiet());
    toy.plan.external = vec![planned("board", ExternalAt::Start), planned("late", ExternalAt::Promote)];
    let release = toy.state.live.as_ref().unwrap().release.clone();
    let reason = Some("it is slow".into());
    toy.seen.commands.push(Command { name: "c1".into(), release, action: Action::Rollback, step: None, by: "ana".into(), reason });
    toy.until(|t| t.live() == "v1" && t.quiet());
}

#[test]
fn a_word_about_one_question_answers_no_other() {
    let mut toy = asking(ExternalAt::Start);
    toy.plan.external.push(planned("late", ExternalAt::Promote));
    toy.until(waits);
    // Nobody has asked it yet.
    toy.seen.external.insert("late".into(), Word::Fail(200));
    passes(&mut toy, 20);
    assert_eq!(toy.phase(), "Preflight");
    toy.seen.external.remove("late");
    says(&mut toy, Word::Pass);
    toy.until(|t| waits(t) && message(t).contains("the word of late"));
    // Whoever is not asked any more holds nothing.
    toy.plan.external.retain(|planned| planned.name != "late");
    toy.until(|t| t.live() == "v2" && t.quiet());
}

#[test]
fn a_hold_and_a_word_are_both_waited_for() {
    let mut toy = asking(ExternalAt::Start);
    let hold = Hold { name: "h".into(), release: None, message: "black friday".into(), until: None, by: "ana".into() };
    toy.until(waits);
    toy.seen.holds.push(hold);
    says(&mut toy, Word::Pass);
    toy.until(|t| t.phase() == "Preflight" && t.w().canary.is_some() && t.quiet());
    passes(&mut toy, 20);
    assert_eq!(toy.phase(), "Preflight");
    toy.seen.holds.clear();
    toy.until(|t| t.live() == "v2" && t.quiet());
}

#[test]
fn a_decision_that_goes_on_without_that_word_is_not_carried_out() {
    let mut toy = asking(ExternalAt::Promote);
    toy.until(waits);
    let mut decision = decide(&toy.plan, &toy.state, &toy.seen, toy.now);
    let mut rollout = toy.state.phase.rollout().unwrap().clone();
    rollout.stage = Stage::Promoting;
    decision.next = toy.state.to(Phase::Rolling(rollout), toy.now);
    decision.holds.clear();
    let broken = check(&toy.plan, &toy.state, &toy.seen, &decision, toy.now).unwrap_err();
    assert_eq!((broken.rule, broken.what.as_str()), ("I20", "goes on without the word of board"));
}
