//! From what is known of a branch to the Release that is desired. Each trap of merges has its test, with its name.

use std::time::Duration;

use jiff::Timestamp;

use super::toy::Toy;
use crate::{
    api::{command::Action, release::Outcome},
    decide::source::{Checks, Readiness, barrier, checks, problem, readiness, reverts},
    model::{
        plan::Source,
        repo_config::Permitted,
        source::{
            Branch, Built, CheckFacts, Commit, CommitFacts, CommitStatus, Conclusion, ConfigFile, ConfigPlan, Digest, History, HistoryEnd,
            ImagePlan, MergePlan, PullRequest, Queue, Repository, Rules, Sha, StatusState, Suite, TagPlan, Unsaid, When,
        },
        version::ReleaseName,
        world::Command,
    },
};

const MINUTE: Duration = Duration::from_mins(1);

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(super) fn sha(n: u8) -> Sha {
    Sha::parse(&format!("{n:02x}").repeat(20)).unwrap()
}

pub(super) fn digest(n: u8) -> Digest {
    Digest::parse(&format!("sha256:{}", format!("{n:02x}").repeat(32))).unwrap()
}

fn rules(when: When) -> Rules {
    Rules { when, without_checks: false, grace: 2 * MINUTE, image_timeout: 15 * MINUTE }
}

pub(super) fn plan(when: When) -> MergePlan {
    MergePlan {
        branch: Branch { repository: Repository::parse("acme/shop").unwrap(), name: Some("main".into()) },
        rules: rules(when),
        image: ImagePlan { repository: "r/shop".into(), tag: "sha-{sha}".into(), pull_secret: None, revision_required: false },
        queue: Queue::Latest,
        config: None,
    }
}

pub(super) fn run(workflow: &str, event: &str, conclusion: Option<Conclusion>) -> Suite {
    Suite { app: "github-actions".into(), conclusion, event: Some(event.into()), workflow: Some(workflow.into()), runs: 3, created: at(0) }
}

fn app(name: &str, runs: u32, conclusion: Option<Conclusion>) -> Suite {
    Suite { app: name.into(), conclusion, event: None, workflow: None, runs, created: at(0) }
}

fn status(context: &str, state: StatusState) -> CommitStatus {
    CommitStatus { context: context.into(), state }
}

fn said(suites: Vec<Suite>, statuses: Vec<CommitStatus>, when: When, now: Timestamp) -> Checks {
    checks(&CheckFacts { suites, statuses }, &rules(when), at(0), now)
}

const GOOD: Option<Conclusion> = Some(Conclusion::Success);

fn none<T>() -> Vec<T> {
    Vec::new()
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn the_checks_of_a_commit() {
    use Checks::{Failed, NotBuilt, Passed, Pending};
    use Conclusion as C;
    let (soon, late) = (at(60), at(600));
    let says = |checks: Checks| match checks {
        Passed => "passed".to_owned(),
        Pending(what) => format!("waits for {what}"),
        Failed(what) => format!("failed: {what}"),
        NotBuilt(what) => format!("not built: {what}"),
    };
    let table = [
        ("all is well", vec![run("ci", "push", GOOD)], none(), late, "passed"),
        ("one runs", vec![run("ci", "push", GOOD), run("e2e", "push", None)], none(), late, "waits for the workflow e2e"),
        (
            "one failed",
            vec![run("ci", "push", Some(C::Failure)), run("e2e", "push", None)],
            none(),
            late,
            "failed: the workflow ci: failed",
        ),
        ("a merge queue ran it before it landed", vec![run("ci", "merge_group", GOOD)], none(), late, "passed"),
        (
            "the run of the pull request shares the commit",
            vec![run("ci", "pull_request", Some(C::Failure)), run("ci", "push", GOOD)],
            none(),
            late,
            "passed",
        ),
        (
            "skipped and neutral are no failure",
            vec![run("ci", "push", GOOD), run("docs", "push", Some(C::Skipped)), app("lint", 1, Some(C::Neutral))],
            none(),
            late,
            "passed",
        ),
        (
            "cancelled for a newer commit",
            vec![run("ci", "push", Some(C::Cancelled))],
            none(),
            late,
            "not built: the workflow ci: cancelled",
        ),
        (
            "an app that is merely installed, at first",
            vec![run("ci", "push", GOOD), app("idle", 0, None)],
            none(),
            soon,
            "waits for the checks of idle",
        ),
        ("an app that is merely installed, for ever", vec![run("ci", "push", GOOD), app("idle", 0, None)], none(), late, "passed"),
        ("an app with checks", vec![app("scan", 2, None)], none(), late, "waits for the checks of scan"),
        (
            "a status of another system",
            vec![run("ci", "push", GOOD)],
            vec![status("jenkins", StatusState::Pending)],
            late,
            "waits for the status jenkins",
        ),
        ("a status that failed", vec![], vec![status("jenkins", StatusState::Failure)], late, "failed: the status jenkins failed"),
        ("our own status", vec![run("ci", "push", GOOD)], vec![status("haldane/shop", StatusState::Pending)], late, "passed"),
        ("nothing yet", none(), none(), soon, "waits for its first check"),
        (
            "a conclusion of tomorrow",
            vec![run("ci", "push", Some(C::Unknown))],
            none(),
            late,
            "failed: the workflow ci: ended in a way that is not known here",
        ),
    ];
    let mut wrong = Vec::new();
    for (name, suites, statuses, now, expected) in table {
        let is = says(said(suites, statuses, When::Checks, now));
        if is != expected {
            wrong.push(format!("{name}: {is}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_run_again_speaks_for_the_one_before() {
    let again = Suite { created: at(30), ..run("ci", "push", GOOD) };
    assert_eq!(said(vec![run("ci", "push", Some(Conclusion::Failure)), again], vec![], When::Checks, at(600)), Checks::Passed);
    let failed_again = Suite { created: at(30), ..run("ci", "push", Some(Conclusion::Failure)) };
    assert!(matches!(said(vec![run("ci", "push", GOOD), failed_again], vec![], When::Checks, at(600)), Checks::Failed(_)));
}

#[test]
fn without_any_check_it_holds_unless_it_was_told_to_proceed() {
    let nothing = CheckFacts::default();
    let Checks::Pending(what) = checks(&nothing, &rules(When::Checks), at(0), at(600)) else { panic!("it proceeds") };
    assert!(what.contains("onNoChecks: Proceed"), "{what}");
    let proceed = Rules { without_checks: true, ..rules(When::Checks) };
    assert!(matches!(checks(&nothing, &proceed, at(0), at(60)), Checks::Pending(_)), "they may still come");
    assert_eq!(checks(&nothing, &proceed, at(0), at(600)), Checks::Passed);
}

#[test]
fn named_workflows_and_signals_wait_for_what_they_name() {
    let named = || When::Workflows(vec!["ci".into(), "image".into()]);
    assert_eq!(said(vec![run("ci", "push", GOOD)], vec![], named(), at(0)), Checks::Pending("a run of the workflow image".into()));
    let both = vec![run("ci", "push", GOOD), run("image", "push", GOOD), run("nightly", "push", Some(Conclusion::Failure))];
    assert_eq!(said(both, vec![], named(), at(0)), Checks::Passed);
    let skipped = vec![run("ci", "push", GOOD), run("image", "push", Some(Conclusion::Skipped))];
    assert_eq!(said(skipped, vec![], named(), at(0)), Checks::NotBuilt("the workflow image was skipped".into()));
    let signal = || When::Signal("qa/ok".into());
    assert_eq!(said(vec![], vec![], signal(), at(0)), Checks::Pending("the status qa/ok".into()));
    assert_eq!(said(vec![], vec![status("qa/ok", StatusState::Success)], signal(), at(0)), Checks::Passed);
}

fn facts(checks: Vec<Suite>, image: Built) -> CommitFacts {
    CommitFacts { seen: at(0), checks: Some(CheckFacts { suites: checks, statuses: vec![] }), image, config: None }
}

pub(super) fn found(n: u8, revision: Option<&Sha>) -> Built {
    Built::Found { digest: digest(n), revision: revision.map(ToString::to_string) }
}

#[test]
fn image_and_checks_join_from_either_side() {
    let plan = plan(When::Checks);
    let (passed, runs) = (|| vec![run("ci", "push", GOOD)], || vec![run("ci", "push", None)]);
    let state = |suites, image| readiness(&sha(1), &facts(suites, image), &plan, at(60));
    assert!(matches!(state(runs(), found(1, None)), Readiness::Building(_)));
    assert!(matches!(state(passed(), Built::Absent), Readiness::Building(_)));
    assert_eq!(state(passed(), found(1, None)), Readiness::Ready(digest(1)));
    let late = readiness(&sha(1), &facts(passed(), Built::Absent), &plan, at(1000));
    assert_eq!(late, Readiness::NoArtifact(format!("no image r/shop:sha-{} came", sha(1))));
}

#[test]
fn an_image_of_another_commit_is_refused() {
    let (mut plan, other) = (plan(When::Image), sha(9));
    let state = |plan: &MergePlan, revision: Option<&Sha>| readiness(&sha(1), &facts(vec![], found(1, revision)), plan, at(0));
    assert_eq!(state(&plan, Some(&sha(1))), Readiness::Ready(digest(1)));
    assert_eq!(state(&plan, Some(&other)), Readiness::Refused(format!("r/shop:sha-{} says that it was built from {other}", sha(1))));
    plan.image.revision_required = true;
    assert!(matches!(state(&plan, None), Readiness::Refused(_)));
    (plan.image.revision_required, plan.image.tag) = (false, "latest".into());
    assert!(matches!(state(&plan, None), Readiness::Refused(_)), "nothing binds a moving tag to a commit");
}

#[test]
fn a_trailer_makes_a_barrier_and_a_mention_does_not() {
    assert_eq!(
        barrier("Drops the old table.\n\nSigned-off-by: Ana\nHaldane-Barrier: the table is gone\n"),
        Some("the table is gone".into())
    );
    assert_eq!(barrier("Haldane-Barrier: in the middle\n\nand the end"), None);
    assert_eq!(barrier(""), None);
}

pub(super) fn commit(n: u8) -> Commit {
    Commit {
        sha: sha(n),
        title: format!("change {n}"),
        body: String::new(),
        author: if n.is_multiple_of(2) { "ana" } else { "ben" }.into(),
        committed: at(0),
        pull_request: Some(PullRequest { number: u64::from(n), title: format!("change {n}") }),
        url: format!("https://forge/acme/shop/commit/{}", sha(n)),
    }
}

/// A toy whose versions come from a branch; live is what was adopted.
pub(super) fn branch(queue: Queue) -> Toy {
    let mut toy = Toy::adopted(4);
    toy.plan.source = Source::Merge(Box::new(MergePlan { queue, ..plan(When::Image) }));
    toy
}

/// The branch has these commits since the newest Release, newest first; the ready ones have their image.
fn shows(toy: &mut Toy, commits: &[(u8, bool)], end: HistoryEnd) {
    let made: Vec<Commit> = commits.iter().map(|(n, _)| commit(*n)).collect();
    toy.seen.merges.history = Some(History { branch: "main".into(), renamed: None, commits: made, end });
    let image = |n, ready| if ready { found(n, None) } else { Built::Absent };
    let now = toy.now;
    toy.seen.merges.facts = commits
        .iter()
        .map(|(n, ready)| (sha(*n), CommitFacts { seen: now, checks: None, image: image(*n, *ready), config: None }))
        .collect();
    toy.seen.problems.retain(|p| !matches!(p, crate::model::decision::Reason::BranchRewritten { .. }));
    let problem = problem(&toy.plan.source, &toy.seen);
    toy.seen.problems.extend(problem);
}

fn passes(toy: &mut Toy, n: usize) {
    for _ in 0..n {
        toy.pass();
    }
}

pub(super) fn short(n: u8) -> String {
    sha(n).short().to_owned()
}

/// The Releases of merges: what, and what became of it.
pub(super) fn merges(toy: &Toy) -> Vec<(String, i64, Option<Outcome>)> {
    toy.seen.releases.iter().filter_map(|r| Some((r.version.clone(), r.place?, r.outcome))).collect()
}

#[test]
fn a_merge_becomes_a_release_and_rides_the_canary() {
    let mut toy = branch(Queue::Latest);
    shows(&mut toy, &[(1, true)], HistoryEnd::Open);
    toy.pass();
    shows(&mut toy, &[], HistoryEnd::Reached);
    toy.until(|t| t.live() == short(1) && t.quiet());
    assert_eq!(merges(&toy), [(short(1), 1, Some(Outcome::Live))]);
    let image = toy.w().template.pointer("/spec/containers/0/image").cloned();
    assert_eq!(image, Some(format!("r/shop@{}", digest(1)).into()));
    toy.pass();
    assert!(toy.quiet(), "the same again makes nothing");
}

#[test]
fn the_newest_that_is_ready_is_desired_and_one_without_an_image_is_passed_by() {
    let mut toy = branch(Queue::Latest);
    shows(&mut toy, &[(3, false), (2, true), (1, true)], HistoryEnd::Open);
    toy.pass();
    assert_eq!(merges(&toy), [(short(2), 1, None)]);
    toy.until(|t| t.live() == short(2) && t.quiet());
    shows(&mut toy, &[(5, true)], HistoryEnd::Reached);
    toy.pass();
    assert_eq!(merges(&toy).last(), Some(&(short(5), 2, None)));
    // Two more before that one had its turn.
    shows(&mut toy, &[(7, true), (6, true)], HistoryEnd::Reached);
    toy.until(|t| t.live() == short(7) && t.quiet());
    let table = [(short(2), 1, Some(Outcome::Live)), (short(5), 2, Some(Outcome::Superseded)), (short(7), 3, Some(Outcome::Live))];
    assert_eq!(merges(&toy), table);
}

#[test]
fn what_is_merged_and_no_release_yet_is_told_with_its_reason() {
    let mut toy = branch(Queue::Latest);
    let ahead = |toy: &Toy| {
        let decision = crate::decide::decide(&toy.plan, &toy.state, &toy.seen, toy.now);
        decision.ahead.into_iter().map(|a| (a.version, a.state, a.why)).collect::<Vec<_>>()
    };
    shows(&mut toy, &[(3, false), (2, true), (1, false)], HistoryEnd::Open);
    let waits = |n| (short(n), "Building", format!("the image r/shop:sha-{}", sha(n)));
    assert_eq!(ahead(&toy), [waits(3)], "2 becomes a Release, and 1 came before it");
    toy.until(|t| t.live() == short(2) && t.quiet());
    shows(&mut toy, &[(9, false), (8, false), (7, false), (6, false), (5, false), (4, false)], HistoryEnd::Reached);
    assert_eq!(ahead(&toy), [waits(9), waits(8), waits(7), waits(6), waits(5)], "five at most");
}

#[test]
fn what_keeps_newer_merges_from_being_seen_is_told_and_what_runs_goes_on() {
    let mut toy = branch(Queue::Latest);
    shows(&mut toy, &[(1, true)], HistoryEnd::Open);
    toy.pass();
    shows(&mut toy, &[], HistoryEnd::Reached);
    toy.until(|t| t.live() == short(1) && t.quiet());
    let told = |toy: &Toy| {
        let decision = crate::decide::decide(&toy.plan, &toy.state, &toy.seen, toy.now);
        assert!(decision.effects.is_empty() && decision.health.unavailable.is_none(), "{:?}", decision.effects);
        let holds: Vec<&str> = decision.holds.iter().map(crate::model::decision::Reason::word).collect();
        (decision.reason.to_string(), holds.join(", "), decision.health.stalled.map_or_else(String::new, |why| why.word))
    };
    let unsaid = |person, says: &str| Some(Unsaid { person, says: says.to_owned() });
    let held = |says: &str, holds: &str, stalled: &str| (says.to_owned(), holds.to_owned(), stalled.to_owned());
    toy.seen.merges.unsaid = unsaid(false, "the forge is ill");
    let silent = "nothing newer is seen for now: the forge is ill; what runs goes on, and it is asked again";
    assert_eq!(told(&toy), held(silent, "SourceSilent", ""));
    toy.seen.merges.unsaid = unsaid(true, "the key is old");
    assert_eq!(told(&toy), held("no newer version can be found: the key is old", "SourceUnread", "SourceUnread"));
    toy.seen.merges.unsaid = None;
    toy.seen.merges.history.as_mut().unwrap().renamed = Repository::parse("acme/store");
    let (says, holds, stalled) = told(&toy);
    assert!(says.starts_with("acme/shop is called acme/store now") && (&*holds, &*stalled) == ("RepositoryRenamed", ""), "{says} {holds}");
    // A fact that stands comes before one that is missing for a while.
    shows(&mut toy, &[(2, true)], HistoryEnd::Reached);
    toy.seen.merges.facts.get_mut(&sha(2)).unwrap().image = found(2, Some(&sha(3)));
    toy.seen.merges.unsaid = unsaid(false, "the forge is ill");
    let refused = format!("{} is merged and not delivered: r/shop:sha-{} says that it was built from {}", short(2), sha(2), sha(3));
    assert_eq!(told(&toy), held(&refused, "ImageRefused, SourceSilent", "ImageRefused"));
}

#[test]
fn what_was_read_before_the_newest_release_makes_nothing_twice() {
    let mut toy = branch(Queue::Latest);
    shows(&mut toy, &[(2, true), (1, true)], HistoryEnd::Open);
    toy.until(|t| t.live() == short(2) && t.quiet());
    passes(&mut toy, 3);
    assert_eq!(merges(&toy), [(short(2), 1, Some(Outcome::Live))]);
}

#[test]
fn late_facts_never_move_it_backwards() {
    let mut toy = branch(Queue::Latest);
    shows(&mut toy, &[(2, true), (1, false)], HistoryEnd::Open);
    toy.pass();
    // What is read from now on ends before the newest Release: the image of the older commit comes too late.
    shows(&mut toy, &[], HistoryEnd::Reached);
    toy.until(|t| t.live() == short(2) && t.quiet());
    passes(&mut toy, 3);
    assert_eq!(merges(&toy).len(), 1);
}

#[test]
fn one_after_the_other_waits_for_what_is_building() {
    let mut toy = each();
    shows(&mut toy, &[(3, true), (2, false), (1, true)], HistoryEnd::Reached);
    toy.pass();
    assert_eq!(merges(&toy).last(), Some(&(short(1), 2, None)));
    shows(&mut toy, &[(3, true), (2, false)], HistoryEnd::Reached);
    toy.until(|t| t.live() == short(1) && t.quiet());
    shows(&mut toy, &[(3, true), (2, true)], HistoryEnd::Reached);
    toy.pass();
    shows(&mut toy, &[(3, true)], HistoryEnd::Reached);
    toy.pass();
    shows(&mut toy, &[], HistoryEnd::Reached);
    toy.until(|t| t.live() == short(2));
    toy.until(|t| t.live() == short(3) && t.quiet());
    assert!(merges(&toy).iter().all(|(_, _, outcome)| *outcome == Some(Outcome::Live)), "{:?}", merges(&toy));
}

#[test]
fn a_rewritten_branch_holds_until_a_person_says_that_it_is_right() {
    let mut toy = branch(Queue::Latest);
    shows(&mut toy, &[(1, true)], HistoryEnd::Open);
    toy.pass();
    shows(&mut toy, &[], HistoryEnd::Reached);
    toy.until(|t| t.live() == short(1) && t.quiet());
    shows(&mut toy, &[(7, true)], HistoryEnd::Diverged);
    passes(&mut toy, 3);
    assert_eq!((toy.live(), merges(&toy).len()), (short(1).as_str().into(), 1), "nothing moves");
    let says = toy.last.as_ref().unwrap().reason.to_string();
    assert!(says.contains("was rewritten") && says.contains(&short(7)), "{says}");
    toy.seen.commands.push(Command {
        name: "c1".into(),
        release: ReleaseName::new("any"),
        action: Action::Adopt,
        step: None,
        by: "ana".into(),
        reason: None,
    });
    toy.pass();
    shows(&mut toy, &[], HistoryEnd::Reached);
    toy.until(|t| t.live() == short(7) && t.quiet());
    assert!(toy.seen.commands.is_empty());
}

#[test]
fn a_bad_merge_is_taken_back_and_the_next_one_goes_by_itself() {
    let mut toy = branch(Queue::Latest);
    shows(&mut toy, &[(1, true)], HistoryEnd::Open);
    toy.pass();
    shows(&mut toy, &[], HistoryEnd::Reached);
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "RolledBack" && t.quiet());
    assert_eq!(merges(&toy), [(short(1), 1, Some(Outcome::RolledBack))]);
    toy.canary_fails = false;
    shows(&mut toy, &[(2, true)], HistoryEnd::Reached);
    toy.pass();
    shows(&mut toy, &[], HistoryEnd::Reached);
    toy.until(|t| t.live() == short(2) && t.quiet());
}

#[test]
fn what_the_owner_changes_rides_with_the_image_of_the_merge() {
    let mut toy = branch(Queue::Latest);
    shows(&mut toy, &[(1, true)], HistoryEnd::Open);
    toy.pass();
    shows(&mut toy, &[], HistoryEnd::Reached);
    toy.until(|t| t.live() == short(1) && t.quiet());
    toy.set_image("stale");
    passes(&mut toy, 3);
    assert!(toy.quiet() && toy.phase() == "Live", "a stale tag in the owner's template is ignored");
    toy.workload().template["spec"]["containers"][0]["env"] = serde_json::json!([{"name": "COLOUR", "value": "red"}]);
    toy.until(|t| t.live().starts_with(&format!("{}-", short(1))) && t.quiet());
}

fn outcome(toy: &Toy, version: &str) -> Option<Outcome> {
    toy.seen.releases.iter().rev().find(|r| r.version == version).unwrap().outcome
}

fn reason(toy: &Toy) -> String {
    toy.last.as_ref().unwrap().reason.to_string()
}

/// One merge more, which becomes a Release in this pass.
pub(super) fn merge(toy: &mut Toy, n: u8) {
    shows(toy, &[(n, true)], HistoryEnd::Reached);
    toy.pass();
    shows(toy, &[], HistoryEnd::Reached);
}

/// The same with this message, and with the image of another commit.
fn merge_as(toy: &mut Toy, n: u8, body: &str, image: u8) {
    shows(toy, &[(n, true)], HistoryEnd::Reached);
    toy.seen.merges.history.as_mut().unwrap().commits[0].body = body.into();
    toy.seen.merges.facts.get_mut(&sha(n)).unwrap().image = found(image, None);
    toy.pass();
    shows(toy, &[], HistoryEnd::Reached);
}

fn live_on(n: u8) -> Toy {
    let mut toy = branch(Queue::Latest);
    merge(&mut toy, n);
    toy.until(|t| t.live() == short(n) && t.quiet());
    toy
}

#[test]
fn what_a_message_takes_back() {
    let said = |title: &str, body: &str| {
        reverts(&Commit { title: title.into(), body: body.into(), ..commit(1) }, &Repository::parse("Acme/Shop").unwrap())
    };
    let git = "This reverts commit 3F2A1C9d00000000000000000000000000000000.";
    assert_eq!(said("Revert \"Sells pears\"", git), ["3f2a1c9d00000000000000000000000000000000"]);
    assert_eq!(said("Revert \"Sells pears (#12)\" (#13)", ""), ["#12"]);
    assert_eq!(said("Revert \"Sells pears\" (#13)", "Reverts acme/shop#12"), ["#12"]);
    assert_eq!(said("x", "This reverts commit 3f2a1c9, reversing\nchanges made to 1234567."), ["3f2a1c9"]);
    let none = [
        ("Revert the scale", ""),
        ("x", "Reverts to 3f2a1c9"),
        ("x", "This reverts commit abc."),
        ("Revert \"a (#0)\"", ""),
        ("x", "Reverts acme/other#2"),
        ("x", "Reverts acme/shop#12345678901"),
    ];
    for (title, body) in none {
        assert!(said(title, body).is_empty(), "{title} {body}");
    }
}

#[test]
fn a_revert_of_what_is_on_its_way_takes_its_place_at_once() {
    for stage in ["Preflight", "Canary", "Guarding"] {
        let mut toy = live_on(1);
        merge(&mut toy, 2);
        toy.until(|t| t.phase() == stage);
        merge_as(&mut toy, 3, &format!("This reverts commit {}.", sha(2)), 3);
        toy.until(|t| t.live() == short(3) && t.quiet());
        assert_eq!(outcome(&toy, &short(2)), Some(Outcome::Superseded), "{stage}");
        assert!(toy.state.quarantine.is_empty());
    }
    // Whatever else is merged waits for its turn.
    let mut toy = live_on(1);
    merge(&mut toy, 2);
    toy.until(|t| t.phase() == "Canary");
    merge_as(&mut toy, 3, &format!("Like {}.", sha(2)), 3);
    toy.until(|t| t.live() == short(3) && t.quiet());
    assert_eq!(outcome(&toy, &short(2)), Some(Outcome::Live));
}

#[test]
fn a_revert_brings_back_a_content_that_was_once_taken_back_and_no_other_commit_does() {
    let mut toy = live_on(1);
    toy.canary_fails = true;
    merge(&mut toy, 2);
    toy.until(|t| t.phase() == "RolledBack" && t.quiet());
    toy.canary_fails = false;
    // The same image again, of a commit that changed a comment.
    merge_as(&mut toy, 3, "", 2);
    toy.until(Toy::quiet);
    assert_eq!((toy.live(), outcome(&toy, &short(3))), (short(1).as_str().into(), Some(Outcome::RolledBack)));
    // A revert of something else.
    merge_as(&mut toy, 4, &format!("This reverts commit {}.", sha(9)), 2);
    toy.until(Toy::quiet);
    assert_eq!((toy.live(), outcome(&toy, &short(4))), (short(1).as_str().into(), Some(Outcome::RolledBack)));
    // It was taken away, and that is taken back: landed again.
    merge_as(&mut toy, 5, &format!("This reverts commit {}.", sha(2)), 1);
    toy.until(|t| t.live() == short(5) && t.quiet());
    toy.canary_fails = true;
    merge_as(&mut toy, 6, &format!("This reverts commit {}.", sha(5)), 2);
    toy.until(|t| outcome(t, &short(6)) == Some(Outcome::RolledBack) && t.quiet());
    // Found bad again, it stays off: nobody has said anything new.
    passes(&mut toy, 5);
    assert_eq!(toy.story().matches(&format!("{} RolledBack", short(6))).count(), 1);
    toy.canary_fails = false;
    merge_as(&mut toy, 7, &format!("This reverts commit {}.", sha(5)), 2);
    toy.until(Toy::quiet);
    assert_eq!((toy.live(), outcome(&toy, &short(7))), (short(5).as_str().into(), Some(Outcome::RolledBack)));
}

#[test]
fn a_commit_with_the_image_of_the_live_one_is_live_without_a_rollout() {
    let mut toy = live_on(1);
    let before = toy.story();
    assert!(before.contains("canary"), "{before}");
    merge_as(&mut toy, 2, "", 1);
    toy.until(|t| t.live() == short(2) && t.quiet());
    let story = toy.story();
    assert!(!story.contains("canary") && !story.contains("open"), "{story}");
    assert_eq!(outcome(&toy, &short(2)), Some(Outcome::Live));
}

#[test]
fn what_came_with_a_version_is_counted_from_the_live_one() {
    let mut toy = live_on(1);
    merge(&mut toy, 2);
    toy.until(|t| t.phase() == "Canary");
    merge(&mut toy, 3);
    shows(&mut toy, &[(6, true), (5, false), (4, false)], HistoryEnd::Reached);
    toy.pass();
    shows(&mut toy, &[], HistoryEnd::Reached);
    let brought = |toy: &Toy, n: u8| {
        let (told, count) = &toy.seen.releases.iter().find(|r| r.version == short(n)).unwrap().brought;
        (told.iter().map(|b| b.commit.get(..2).unwrap().to_owned()).collect::<Vec<_>>().join(" "), *count)
    };
    assert_eq!(brought(&toy, 1), ("01".into(), 1), "nobody knows what was live before the first");
    assert_eq!(brought(&toy, 3), ("03 02".into(), 2));
    assert_eq!(brought(&toy, 6), ("06 05 04 03 02".into(), 5));
    toy.until(|t| t.live() == short(6) && t.quiet());
    let many: Vec<(u8, bool)> = (10..40).rev().map(|n| (n, n == 39)).collect();
    shows(&mut toy, &many, HistoryEnd::Capped);
    toy.pass();
    let (told, count) = brought(&toy, 39);
    assert_eq!((told.split(' ').count(), count), (20, 30), "20 are told, and how many there are");
}

#[test]
fn a_branch_that_was_set_back_goes_back_when_a_person_says_so() {
    let mut toy = live_on(1);
    merge(&mut toy, 2);
    toy.until(|t| t.live() == short(2) && t.quiet());
    shows(&mut toy, &[(1, true)], HistoryEnd::Diverged);
    passes(&mut toy, 3);
    assert_eq!((toy.live(), merges(&toy).len()), (short(2).as_str().into(), 2));
    adopt(&mut toy);
    toy.pass();
    shows(&mut toy, &[], HistoryEnd::Reached);
    toy.until(|t| t.live() == short(1) && t.quiet());
    assert_eq!(merges(&toy).last(), Some(&(short(1), 3, Some(Outcome::Live))), "the same commit anew, at a place of its own");
}

fn adopt(toy: &mut Toy) {
    let release = ReleaseName::new("any");
    toy.seen.commands.push(Command { name: "c1".into(), release, action: Action::Adopt, step: None, by: "ana".into(), reason: None });
}

/// A toy whose versions come from a tag.
fn tag(names: Built) -> Toy {
    let mut toy = Toy::adopted(4);
    let image = ImagePlan { tag: "stable".into(), ..plan(When::Image).image };
    toy.plan.source = Source::Tag(Box::new(TagPlan { image, queue: Queue::Latest }));
    moves(&mut toy, names);
    toy
}

fn moves(toy: &mut Toy, names: Built) {
    toy.seen.merges.tag = Some(names);
    toy.seen.problems.retain(|p| !matches!(p, crate::model::decision::Reason::TagMovedBack { .. }));
    let problem = problem(&toy.plan.source, &toy.seen);
    toy.seen.problems.extend(problem);
}

#[test]
fn a_tag_that_moves_names_the_version_by_its_digest() {
    let mut toy = tag(found(1, None));
    toy.until(|t| t.live() == "0101010" && t.quiet());
    let image = toy.w().template.pointer("/spec/containers/0/image").cloned();
    assert_eq!(image, Some(format!("r/shop@{}", digest(1)).into()));
    // One that says its commit is called by it.
    moves(&mut toy, found(2, Some(&sha(7))));
    toy.until(|t| t.live() == short(7) && t.quiet());
    assert_eq!(merges(&toy).len(), 2);
    passes(&mut toy, 3);
    assert!(toy.quiet());
}

#[test]
fn a_tag_that_goes_back_holds_until_a_person_says_that_it_is_right() {
    let mut toy = tag(found(1, None));
    toy.until(|t| t.live() == "0101010" && t.quiet());
    moves(&mut toy, found(2, None));
    toy.until(|t| t.live() == "0202020" && t.quiet());
    moves(&mut toy, found(1, None));
    passes(&mut toy, 3);
    assert_eq!(toy.live(), "0202020");
    assert!(reason(&toy).contains("r/shop:stable names 0101010 again, which is older than 0202020"), "{}", reason(&toy));
    adopt(&mut toy);
    toy.pass();
    moves(&mut toy, found(1, None));
    toy.until(|t| t.live() == "0101010" && t.quiet());
    assert_eq!(merges(&toy).iter().map(|(_, place, _)| *place).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(toy.seen.commands.is_empty());
}

#[test]
fn a_tag_that_is_not_there_or_names_no_commit_is_told_and_nothing_moves() {
    let mut toy = tag(Built::Absent);
    passes(&mut toy, 2);
    assert_eq!((toy.live(), reason(&toy).as_str()), ("v1".into(), "no newer version can be found: there is no r/shop:stable"));
    let Source::Tag(plan) = &mut toy.plan.source else { panic!() };
    plan.image.revision_required = true;
    moves(&mut toy, found(1, None));
    passes(&mut toy, 2);
    assert!(merges(&toy).is_empty() && reason(&toy).contains("org.opencontainers.image.revision"), "{}", reason(&toy));
    moves(&mut toy, found(1, Some(&sha(1))));
    toy.until(|t| t.live() == short(1) && t.quiet());
}

/// A toy whose repository may set its steps, with that file at commit 1.
fn configured(file: Option<ConfigFile>) -> Toy {
    let mut toy = branch(Queue::Latest);
    let Source::Merge(plan) = &mut toy.plan.source else { panic!() };
    plan.config = Some(ConfigPlan { path: ".haldane.yaml".into(), permitted: Permitted { steps: true, probes: false } });
    shows(&mut toy, &[(1, true)], HistoryEnd::Open);
    toy.seen.merges.facts.get_mut(&sha(1)).unwrap().config = file;
    toy
}

#[test]
fn the_file_of_a_commit_sets_the_steps_of_its_rollout_and_of_no_other() {
    let text = "rollout:\n  steps:\n  - {weight: 50, bake: 7m}\n";
    let mut toy = configured(Some(ConfigFile::Text(text.into())));
    toy.pass();
    toy.until(|t| t.phase() == "Canary");
    let asked = |toy: &Toy| toy.last.as_ref().unwrap().health.weight.unwrap().0.percent();
    assert_eq!(asked(&toy), 50);
    let began = toy.now;
    toy.until(|t| t.phase() == "Guarding");
    assert!(toy.now.duration_since(began).as_secs() >= 7 * 60, "its bake");
    shows(&mut toy, &[], HistoryEnd::Reached);
    toy.until(|t| t.live() == short(1) && t.quiet());
    // A template that the owner changes rides as that commit says, too.
    toy.workload().template["spec"]["containers"][0]["env"] = serde_json::json!([{"name": "COLOUR", "value": "red"}]);
    toy.until(|t| t.phase() == "Canary");
    assert_eq!(asked(&toy), 50);
    toy.until(|t| t.phase() == "Live" && t.quiet());
    // The next one has no file.
    shows(&mut toy, &[(2, true)], HistoryEnd::Reached);
    toy.seen.merges.facts.get_mut(&sha(2)).unwrap().config = Some(ConfigFile::Absent);
    toy.until(|t| t.phase() == "Canary");
    assert_ne!(asked(&toy), 50);
}

#[test]
fn a_file_that_is_wrong_refuses_its_commit_and_what_runs_goes_on() {
    let table = [
        (
            ConfigFile::Text("verify:\n  probes: [{name: order}]\n".into()),
            ".haldane.yaml: line 2: verify.probes is not in spec.config.allow",
            "NotAllowed",
        ),
        (ConfigFile::Text("rollout: [".into()), ".haldane.yaml: line 1: ", "ConfigBroken"),
        (ConfigFile::Unusable("longer than 16384 bytes".into()), ".haldane.yaml: longer than 16384 bytes", "ConfigBroken"),
    ];
    for (file, says, word) in table {
        let mut toy = configured(Some(file));
        passes(&mut toy, 3);
        shows(&mut toy, &[], HistoryEnd::Reached);
        toy.until(Toy::quiet);
        assert_eq!((toy.live(), outcome(&toy, &short(1))), ("v1".into(), Some(Outcome::Refused)));
        assert!(reason(&toy).contains(says), "{}", reason(&toy));
        assert_eq!(toy.seen.releases.iter().find_map(|r| r.refused.as_ref()).unwrap().word, word);
        // The next one is delivered, and takes the place of nothing.
        shows(&mut toy, &[(2, true)], HistoryEnd::Reached);
        toy.seen.merges.facts.get_mut(&sha(2)).unwrap().config = Some(ConfigFile::Absent);
        toy.pass();
        shows(&mut toy, &[], HistoryEnd::Reached);
        toy.until(|t| t.live() == short(2) && t.quiet());
        assert_eq!(outcome(&toy, &short(1)), Some(Outcome::Refused));
    }
}

#[test]
fn a_file_that_nobody_has_read_yet_is_waited_for() {
    let mut toy = configured(None);
    passes(&mut toy, 3);
    assert!(merges(&toy).is_empty());
    let ahead = toy.last.as_ref().unwrap().ahead.first().cloned().unwrap();
    assert_eq!((ahead.state, ahead.why.as_str()), ("Building", "its file .haldane.yaml"));
}

/// One after the other, since commit 9, which is live.
fn each() -> Toy {
    let mut toy = branch(Queue::Each);
    merge(&mut toy, 9);
    toy.until(|t| t.live() == short(9) && t.quiet());
    toy
}

#[test]
fn one_after_the_other_begins_with_the_newest() {
    let mut toy = branch(Queue::Each);
    shows(&mut toy, &[(3, false), (2, true), (1, true)], HistoryEnd::Open);
    toy.pass();
    assert_eq!(merges(&toy), [(short(2), 1, None)], "what was merged before anybody asked was never waited for");
}

#[test]
fn a_template_that_is_changed_before_a_turn_does_not_stop_the_line() {
    for fails in [false, true] {
        let mut toy = each();
        toy.seen.holds.push(crate::model::world::Hold {
            name: "h".into(),
            release: None,
            message: "wait".into(),
            until: None,
            by: "ana".into(),
        });
        merge(&mut toy, 5);
        passes(&mut toy, 2);
        toy.workload().template["spec"]["containers"][0]["env"] = serde_json::json!([{"name": "COLOUR", "value": "red"}]);
        passes(&mut toy, 2);
        toy.seen.holds.clear();
        toy.canary_fails = fails;
        let whole = |t: &Toy| if fails { t.phase() == "RolledBack" } else { t.live().starts_with(&format!("{}-", short(5))) };
        toy.until(|t| whole(t) && t.quiet());
        assert_eq!(outcome(&toy, &short(5)), Some(Outcome::Superseded), "its image had its turn with the new template");
        toy.canary_fails = false;
        merge(&mut toy, 6);
        toy.until(|t| t.live() == short(6) && t.quiet());
    }
}

#[test]
fn what_went_live_meanwhile_does_not_come_with_the_next_one() {
    let mut toy = live_on(1);
    merge(&mut toy, 2);
    toy.until(|t| t.phase() == "Canary");
    merge(&mut toy, 3);
    toy.until(|t| t.live() == short(2));
    merge(&mut toy, 4);
    let brought = &toy.seen.releases.iter().find(|r| r.version == short(4)).unwrap().brought;
    assert_eq!((brought.0.iter().map(|b| b.commit.get(..2).unwrap()).collect::<Vec<_>>(), brought.1), (vec!["04", "03"], 2));
}

#[test]
fn what_was_read_before_an_order_is_not_held_against_it() {
    let mut toy = live_on(1);
    shows(&mut toy, &[(7, true)], HistoryEnd::Diverged);
    adopt(&mut toy);
    passes(&mut toy, 2);
    // The line is still the one that was read before commit 7 became a Release.
    shows(&mut toy, &[(7, true)], HistoryEnd::Diverged);
    toy.until(|t| t.live() == short(7) && t.quiet());
    assert_eq!((merges(&toy).len(), reason(&toy)), (2, format!("{} serves", short(7))));
}

#[test]
fn a_merge_is_not_made_a_release_while_the_way_back_is_stored() {
    let mut toy = live_on(1);
    merge(&mut toy, 2);
    toy.until(|t| t.phase() == "Canary");
    toy.canary_fails = true;
    for n in 3..200 {
        shows(&mut toy, &[(n, true)], HistoryEnd::Reached);
        let decision = crate::decide::decide(&toy.plan, &toy.state, &toy.seen, toy.now);
        let made = decision.effects.iter().any(|e| matches!(e, crate::model::decision::Effect::RecordMerge(_)));
        let rollout = decision.next.phase.rollout();
        let back = rollout.is_some_and(|r| r.suspended.is_some() || matches!(r.stage, crate::model::phase::Stage::RollingBack { .. }));
        assert!(!(made && back), "{decision:?}");
        shows(&mut toy, &[], HistoryEnd::Reached);
        toy.pass();
        if toy.phase() == "RolledBack" {
            return;
        }
    }
    panic!("it never came back");
}

#[test]
fn a_probe_that_only_its_own_file_names_stops_that_commit_and_not_the_next() {
    let file = |probe: &str| Some(ConfigFile::Text(format!("verify: {{probes: [{{name: {probe}}}]}}\n")));
    let mut toy = configured(file("gone"));
    let Source::Merge(plan) = &mut toy.plan.source else { panic!() };
    plan.config.as_mut().unwrap().permitted.probes = true;
    toy.pass();
    shows(&mut toy, &[], HistoryEnd::Reached);
    let missing = crate::model::decision::Reason::ProbeMissing { probe: "gone".into() };
    toy.until(|t| t.phase() == "Preflight");
    toy.seen.problems.push(missing.clone());
    passes(&mut toy, 3);
    assert_eq!(toy.phase(), "Preflight");
    shows(&mut toy, &[(2, true)], HistoryEnd::Reached);
    toy.seen.merges.facts.get_mut(&sha(2)).unwrap().config = Some(ConfigFile::Absent);
    passes(&mut toy, 2);
    shows(&mut toy, &[], HistoryEnd::Reached);
    toy.until(|t| t.phase() == "Live");
    toy.seen.problems.clear();
    toy.until(|t| t.live() == short(2) && t.quiet());
    assert_eq!(outcome(&toy, &short(1)), Some(Outcome::Superseded));
}

#[test]
fn a_forge_that_is_silent_makes_nobody_look_more_often() {
    let mut toy = live_on(1);
    toy.seen.merges.unsaid = Some(Unsaid { person: false, says: "the forge is ill".into() });
    toy.pass();
    let last = toy.last.as_ref().unwrap();
    assert_eq!((last.reason.word(), last.wait), ("SourceSilent", crate::model::decision::Wait::Change));
}
