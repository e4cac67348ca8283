//! What runs before a version.

use std::time::Duration;

use serde_json::json;

use super::{
    live_and_quiet,
    toy::{Toy, cron_job},
};
use crate::{
    api::{command::Action, release::Outcome},
    model::{
        before::{Job, Ran},
        cron_job::PlannedCronJob,
        phase::{Phase, after},
        version::ReleaseName,
        world::{Command, Hold, RestSample, Trouble},
    },
};

/// A shop with these `CronJobs` to run before each version.
fn with(names: &[&str]) -> Toy {
    given(Toy::adopted(4), names)
}

fn given(mut toy: Toy, names: &[&str]) -> Toy {
    for name in names {
        toy.plan.before.push(PlannedCronJob { name: (*name).to_owned(), containers: vec![] });
        toy.seen.cron_jobs.push(cron_job(name, "v0"));
    }
    toy
}

fn last(toy: &mut Toy) -> &mut Job {
    toy.seen.jobs.last_mut().unwrap()
}

fn reason(toy: &Toy) -> (&'static str, String) {
    let reason = &toy.last.as_ref().unwrap().reason;
    (reason.word(), reason.to_string())
}

/// Ships and waits until the first of them runs.
fn running(toy: &mut Toy, version: &str) {
    let had = toy.seen.jobs.len();
    toy.set_image(version);
    toy.until(|t| t.seen.jobs.len() > had && t.quiet());
}

fn passes(toy: &mut Toy, count: usize) {
    for _ in 0..count {
        toy.pass();
    }
}

fn order(toy: &mut Toy, action: Action) {
    let release = toy.state.phase.rollout().map(|r| r.release.clone()).or(toy.state.quarantine.last().map(|q| q.release.clone()));
    let name = format!("c{}", toy.now);
    toy.seen.commands.push(Command { name, release: release.unwrap(), action, step: None, by: "ana".into(), reason: None });
}

#[test]
fn it_runs_once_with_the_new_image_and_nothing_else_moves_until_it_has_ended() {
    let mut toy = with(&["migrate"]);
    running(&mut toy, "v2");
    passes(&mut toy, 20);
    assert_eq!(toy.story(), "record v2; run migrate v2");
    assert_eq!(toy.phase(), "Preparing");
    assert_eq!(reason(&toy), ("Preparing", "CronJob migrate is run once for v2, before any pod of it starts".into()));
    last(&mut toy).ran = Ran::Complete;
    toy.until(|t| t.live() == "v2" && t.quiet());
    assert_eq!(toy.story(), "pin v1; canary 1; pin off; canary 4; pin canary; open; close; pin stable; canary away; pin off; v2 Live");
    passes(&mut toy, 20);
    assert_eq!((toy.story().as_str(), toy.seen.jobs.len()), ("", 1), "it is kept for people");
}

#[test]
fn several_run_one_after_the_other() {
    let mut toy = with(&["migrate", "seed"]);
    running(&mut toy, "v2");
    last(&mut toy).ran = Ran::Complete;
    toy.until(|t| t.seen.jobs.len() == 2 && t.quiet());
    assert_eq!(toy.story(), "record v2; run migrate v2; run seed v2");
    // What has run is stored: it does not run again when its Job is removed.
    toy.seen.jobs.remove(0);
    passes(&mut toy, 10);
    last(&mut toy).ran = Ran::Complete;
    toy.until(|t| t.live() == "v2" && t.quiet());
    assert!(!toy.story().contains("run"));
}

#[test]
fn one_that_fails_takes_the_version_back_before_it_was_there() {
    let mut toy = with(&["migrate"]);
    running(&mut toy, "v2");
    last(&mut toy).ran = Ran::Failed("BackoffLimitExceeded, container app ended last with exit code 3".into());
    toy.until(live_and_quiet);
    assert_eq!(toy.story(), "record v2; run migrate v2; v2 RolledBack", "no pin, no canary");
    let Phase::RolledBack { why, outcome, .. } = toy.state.phase.clone() else { panic!("{:?}", toy.state.phase) };
    assert_eq!((why.word.as_str(), outcome), ("BeforeFailed", Outcome::RolledBack));
    let job = last(&mut toy).name.clone();
    assert_eq!(
        why.says,
        format!(
            "v2 was not started: the run of CronJob migrate before it failed (BackoffLimitExceeded, container app ended last with exit \
             code 3); no traffic was touched; see: kubectl logs job/{job}"
        )
    );
    passes(&mut toy, 20);
    assert_eq!(toy.story(), "", "nothing starts it again");
    order(&mut toy, Action::Retry);
    toy.until(|t| t.seen.jobs.len() == 2 && t.quiet());
    assert_eq!(toy.story(), "command Done; run migrate v2", "each try has a run of its own");
    last(&mut toy).ran = Ran::Complete;
    toy.until(|t| t.live() == "v2" && t.quiet());
}

#[test]
fn by_a_route_one_that_fails_leaves_the_route_as_it_is() {
    let mut toy = given(Toy::by_route(4), &["migrate"]);
    toy.until(live_and_quiet);
    toy.story();
    running(&mut toy, "v2");
    last(&mut toy).ran = Ran::Failed("BackoffLimitExceeded".into());
    toy.until(live_and_quiet);
    assert_eq!(toy.story(), "record v2; run migrate v2; v2 RolledBack");
}

#[test]
fn a_cron_job_that_cannot_be_run_holds_and_says_so() {
    type Spoil = fn(&mut Toy);
    let cases: [(&str, Spoil, &str); 4] = [
        ("missing", |t| t.seen.cron_jobs.clear(), "CronJobMissing"),
        ("awake", |t| t.seen.cron_jobs[0].suspended = false, "BeforeRunsByItself"),
        ("reached", |t| t.seen.cron_jobs[0].reached_by = Some("Service shop".into()), "CronJobReached"),
        (
            "foreign",
            |t| t.seen.cron_jobs[0].job = json!({"template": {"spec": {"containers": [{"name": "x", "image": "r/y:1"}]}}}),
            "CronJobForeign",
        ),
    ];
    for (what, spoil, word) in cases {
        let mut toy = with(&["migrate"]);
        let whole = toy.seen.cron_jobs.clone();
        spoil(&mut toy);
        toy.set_image("v2");
        passes(&mut toy, 10);
        assert_eq!((toy.story().as_str(), reason(&toy).0), ("record v2", word), "{what}");
        toy.seen.cron_jobs = whole;
        toy.until(|t| !t.seen.jobs.is_empty());
    }
    let mut named = with(&["migrate"]);
    named.seen.cron_jobs[0].job = json!({"template": {"spec": {"containers": [{"name": "x", "image": "r/y:1"}]}}});
    named.plan.before[0].containers = vec!["x".into()];
    running(&mut named, "v2");
    assert_eq!(named.story(), "record v2; run migrate v2");
}

#[test]
fn what_the_cluster_refuses_holds_until_the_deadline_and_leaves_nothing() {
    let mut toy = with(&["migrate"]);
    running(&mut toy, "v2");
    let refused = Trouble::Refused { word: "ImagePullBackOff".into(), says: "image r/shop:v2 cannot be had".into() };
    (last(&mut toy).refused, last(&mut toy).started) = (Some(refused), false);
    let job = last(&mut toy).name.clone();
    passes(&mut toy, 5);
    assert_eq!(
        reason(&toy),
        ("BeforeRefused", format!("the cluster refuses the pods of Job {job} (ImagePullBackOff): image r/shop:v2 cannot be had"))
    );
    toy.until(live_and_quiet);
    assert_eq!(toy.story(), "record v2; run migrate v2; v2 Undecided; remove a migrate");
    let mut podless = with(&["migrate"]);
    running(&mut podless, "v2");
    (last(&mut podless).podless, last(&mut podless).started) = (true, false);
    passes(&mut podless, 5);
    assert_eq!(reason(&podless).0, "BeforeRefused");
}

#[test]
fn one_that_has_begun_is_left_to_end_and_nothing_else_runs_before_that() {
    let mut toy = with(&["migrate"]);
    running(&mut toy, "v2");
    order(&mut toy, Action::Abort);
    toy.until(|t| matches!(t.state.phase, Phase::RolledBack { .. }) && t.quiet());
    assert_eq!(toy.story(), "record v2; run migrate v2; v2 Undecided; command Done");
    toy.set_image("v3");
    passes(&mut toy, 20);
    let first = last(&mut toy).name.clone();
    assert_eq!((toy.story().as_str(), reason(&toy).0), ("record v3", "BeforeBusy"));
    assert!(reason(&toy).1.contains(&format!("when Job {first} has ended")));
    last(&mut toy).ran = Ran::Failed("DeadlineExceeded".into());
    toy.until(|t| t.seen.jobs.len() == 2);
    assert_eq!(toy.story(), "run migrate v3");
    last(&mut toy).ran = Ran::Complete;
    toy.until(|t| t.live() == "v3" && t.quiet());
}

#[test]
fn a_hold_of_a_person_keeps_it_from_beginning_and_not_from_ending() {
    let hold = || Hold { name: "h".into(), release: None, message: "freeze".into(), until: None, by: "ana".into() };
    let mut toy = with(&["migrate"]);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Preparing");
    toy.seen.holds.push(hold());
    passes(&mut toy, 10);
    assert_eq!(toy.story(), "record v2");
    toy.seen.holds.clear();
    toy.until(|t| !t.seen.jobs.is_empty());
    toy.seen.holds.push(hold());
    last(&mut toy).ran = Ran::Complete;
    passes(&mut toy, 10);
    assert_eq!((toy.story().as_str(), toy.phase()), ("run migrate v2", "Preparing"));
    assert_eq!(toy.state.phase.rollout().unwrap().prepared, ["migrate"]);
    toy.seen.holds.clear();
    toy.until(|t| t.live() == "v2" && t.quiet());
}

#[test]
fn a_wish_that_is_taken_back_while_it_runs_ends_the_rollout() {
    let mut toy = with(&["migrate"]);
    running(&mut toy, "v2");
    toy.set_image("v1");
    toy.until(live_and_quiet);
    assert_eq!((toy.phase(), toy.story().as_str()), ("Live", "record v2; run migrate v2; v2 Superseded"));
}

#[test]
fn the_way_back_to_an_older_version_runs_nothing() {
    let mut toy = with(&["migrate"]);
    running(&mut toy, "v2");
    last(&mut toy).ran = Ran::Complete;
    toy.until(|t| t.live() == "v2" && t.quiet());
    toy.story();
    for n in 0..3 {
        let at = after(toy.now, Duration::from_secs(n));
        toy.seen.probes.rest.push(RestSample { at, probe: "home".into(), wrong: Some("500".into()) });
    }
    toy.until(|t| t.live() == "v1" && t.quiet());
    assert!(!toy.story().contains("run"));
}

#[test]
fn the_last_runs_are_kept_for_people_and_older_ones_go() {
    let mut toy = with(&["migrate"]);
    for n in 2..9 {
        running(&mut toy, &format!("v{n}"));
        last(&mut toy).ran = if n % 3 == 0 { Ran::Failed("BackoffLimitExceeded".into()) } else { Ran::Complete };
        toy.until(live_and_quiet);
    }
    passes(&mut toy, 3);
    let kept: Vec<(bool, &str)> = toy
        .seen
        .jobs
        .iter()
        .map(|j| (j.ran == Ran::Complete, toy.seen.release(j.release.as_ref().unwrap()).unwrap().version.as_str()))
        .collect();
    assert_eq!(kept, [(true, "v5"), (false, "v6"), (true, "v7"), (true, "v8")]);
    last(&mut toy).release = Some(ReleaseName::new("forgotten"));
    passes(&mut toy, 3);
    assert_eq!(toy.seen.jobs.len(), 3, "with its Release a run is forgotten");
}

#[test]
fn a_delivery_that_goes_while_it_runs_goes_and_leaves_it_to_end() {
    let mut toy = with(&["migrate"]);
    running(&mut toy, "v2");
    last(&mut toy).ran = Ran::Complete;
    toy.until(|t| t.live() == "v2" && t.quiet());
    running(&mut toy, "v3");
    toy.seen.deleting = true;
    toy.until(|t| !t.seen.finalizer);
    assert_eq!(toy.seen.jobs.len(), 1, "what has ended goes with it");
    assert_eq!(toy.seen.jobs[0].ran, Ran::Running);
    assert!(!toy.w().paused);
}
