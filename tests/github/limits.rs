//! What a crowd costs: a thousand repositories for an hour, three hundred merges in a minute.

use std::collections::BTreeMap;

use haldane::model::source::{MergePlan, Queue};

use crate::{
    forge::{Checks, HookFault, limits::Used},
    street::plan,
    town::Town,
};

/// Points of GraphQL that an hour of looking may cost: 10 documents a minute.
const SWEEPS: u64 = 600;
/// Points that GitHub gives to an app on 1,000 repositories: 5,000, and 50 for each beyond 20, at most.
const GIVEN: u64 = 12_500;

fn spent(before: Used, after: Used) -> u64 {
    after.graphql - before.graphql
}

/// What CI does after a merge, by the second after it.
#[derive(Clone, Copy)]
enum Step {
    Queued,
    Running,
    Image,
    Green,
}

const CI: [(u64, Step); 4] = [(3, Step::Queued), (10, Step::Running), (240, Step::Image), (300, Step::Green)];

fn step(town: &Town, home: usize, commit: &str, step: Step) {
    let repo = &town.homes[home].repo;
    match step {
        Step::Queued => repo.checks(commit, Checks::actions("ci")),
        Step::Running => repo.checks(commit, Checks::actions("ci").running(3)),
        Step::Image => town.build(commit),
        Step::Green => repo.checks(commit, Checks::actions("ci").done("success")),
    }
}

#[tokio::test]
async fn a_thousand_repositories_are_looked_at_for_six_hundred_points_an_hour() {
    let mut town = Town::new(1000, |_| plan());
    town.opens_the_door().await;
    let nothing = town.used();
    town.wakes().await;
    let woken = town.used();
    // And the moment in which the sixtieth look begins.
    town.pass(3601).await;
    let quiet = town.used();
    // 100 merges spread over most of an hour, each with a build of five minutes.
    let mut agenda: BTreeMap<u64, Vec<(usize, String, Step)>> = BTreeMap::new();
    let mut merges = Vec::new();
    for second in 0..3600 {
        if second % 32 == 0 && merges.len() < 100 {
            let home = merges.len() * 7;
            let commit = town.homes[home].repo.land(&format!("Change {second}"));
            for (after, step) in CI {
                agenda.entry(second + after).or_default().push((home, commit.clone(), step));
            }
            merges.push((home, commit));
        }
        for (home, commit, what) in agenda.remove(&second).unwrap_or_default() {
            step(&town, home, &commit, what);
        }
        town.pass(1).await;
    }
    let busy = town.used();
    let (start, quiet, busy) = (spent(nothing, woken), spent(woken, quiet), spent(quiet, busy));
    println!("1,000 repositories, in points: {start} at the start, {quiet} in a quiet hour, {busy} in one with 100 merges");
    assert_eq!(start, 1000, "each branch is read once");
    assert_eq!(quiet, SWEEPS, "a quiet hour costs its looks and nothing else");
    assert!(busy - quiet <= 100 * 30, "100 merges cost {} points", busy - quiet);
    assert!(busy * 2 <= GIVEN, "a busy hour costs {busy} points of {GIVEN}");
    assert!(town.github.seen().iter().all(|seen| seen.status < 400), "GitHub never had to refuse");
    for (home, commit) in merges {
        assert_eq!(town.homes[home].releases(), [commit]);
    }
}

fn queued(queue: Queue) -> MergePlan {
    MergePlan { queue, ..plan() }
}

/// Every second repository one after the other. Some merges are red; builds end in another order than they began, and of the
/// webhooks a third comes late, twice or not at all.
#[tokio::test]
async fn of_three_hundred_merges_in_a_minute_none_is_lost() {
    use HookFault::{Drop, Late, None, Twice};
    const HOMES: usize = 50;
    const MERGES: usize = 300;
    let mut town = Town::new(HOMES, |at| queued(if at % 2 == 0 { Queue::Each } else { Queue::Latest }));
    town.opens_the_door().await;
    town.wakes().await;
    let faults = [None, None, Late, None, Twice, None, None, Drop, None, Late, Late, None, None, Drop, Twice];
    town.github.hook_faults(&faults.repeat(200));
    let before = town.used();
    let mut agenda: BTreeMap<usize, Vec<(usize, String, bool)>> = BTreeMap::new();
    let mut good = vec![Vec::new(); HOMES];
    let (mut merged, mut most) = (0, 0);
    for second in 0..120 {
        for _ in 0..if second < 60 { MERGES / 60 } else { 0 } {
            let (home, green) = (merged % HOMES, merged % 11 != 3);
            let commit = town.homes[home].repo.land(&format!("Change {merged}"));
            town.homes[home].repo.checks(&commit, Checks::actions("ci").running(1));
            if green {
                good[home].push(commit.clone());
            }
            agenda.entry(second + 5 + merged * 13 % 40).or_default().push((home, commit, green));
            merged += 1;
        }
        for (home, commit, green) in agenda.remove(&second).unwrap_or_default() {
            town.build(&commit);
            town.homes[home].repo.checks(&commit, Checks::actions("ci").done(if green { "success" } else { "failure" }));
        }
        town.pass(1).await;
        most = most.max(town.held());
    }
    town.pass(120).await;
    let used = town.used();
    let (calls, points, told) = (used.requests - before.requests, spent(before, used), town.github.deliveries().len());
    println!("300 merges in a minute: {told} webhooks, {calls} calls, {points} points; the board held {most} commits at most");
    for (at, home) in town.homes.iter().enumerate() {
        let (made, good) = (home.releases(), &good[at]);
        assert_eq!(made.last(), good.last(), "{at}: the newest good one");
        let forward: Vec<&String> = good.iter().filter(|commit| made.contains(commit)).collect();
        assert_eq!(made.iter().collect::<Vec<_>>(), forward, "{at}: only good ones, in their order");
        assert!(at % 2 == 1 || made == *good, "{at}: every one had its turn: {made:?} of {good:?}");
    }
    assert_eq!(merged, MERGES);
    assert!(most <= MERGES, "{most} commits were held at once");
    // Its commits and its checks for a merge, for its builds and for what was lost.
    assert!(calls <= 7 * MERGES as u64, "{calls} calls for {MERGES} merges");
    assert!(town.github.seen().iter().all(|seen| seen.status < 400), "GitHub never had to refuse");
}

/// All on one branch, whose first merge builds the longest, and every one wants its turn.
#[tokio::test]
async fn three_hundred_merges_that_wait_for_the_first_have_their_turn_in_order() {
    const MERGES: usize = 300;
    const MESSAGE: usize = 16 << 10;
    let mut town = Town::new(1, |_| queued(Queue::Each));
    town.wakes().await;
    let mut merges = Vec::new();
    for second in 0..60 {
        for _ in 0..MERGES / 60 {
            let commit = town.homes[0].repo.land(&format!("Change {second}\n\n{}", "long ".repeat(MESSAGE / 5)));
            if !merges.is_empty() {
                town.build(&commit);
                town.homes[0].repo.checks(&commit, Checks::actions("ci").done("success"));
            }
            merges.push(commit);
        }
        town.pass(1).await;
    }
    let before = town.used();
    town.pass(600).await;
    let points = spent(before, town.used());
    assert_eq!(town.homes[0].releases(), Vec::<String>::new(), "the first one is not ready");
    let (held, bytes) = (town.held(), town.bytes());
    println!("300 merges wait in a line: {points} points in 10 minutes, {held} commits of {} KiB held", bytes >> 10);
    assert_eq!(held, MERGES);
    assert!(bytes < 3 << 19, "{bytes} bytes of {MERGES} messages of {MESSAGE}");
    assert!(points * 6 <= 2400, "{points} points in 10 minutes");
    town.build(&merges[0]);
    town.homes[0].repo.checks(&merges[0], Checks::actions("ci").done("success"));
    town.pass(120).await;
    assert_eq!(town.homes[0].releases(), merges);
    assert_eq!(town.held(), 0, "what is delivered is forgotten");
}
