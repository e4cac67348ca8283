//! Suites that are not started now, and the versions that wait for them.

use jiff::Timestamp;

use super::{live_and_quiet, toy::Toy};
use crate::model::{phase::Stage, world::NotStarted};

/// A shop whose probe of its own is a suite that does not run now.
fn waiting(why: NotStarted) -> Toy {
    let mut toy = Toy::adopted(20);
    toy.seen.probes.voting[0].suite = true;
    toy.mute = true;
    toy.seen.probes.not_started = vec![("home".into(), why)];
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Preflight" && t.w().canary.as_ref().is_some_and(|canary| canary.ready() > 0) && t.quiet());
    for _ in 0..50 {
        toy.pass();
    }
    assert_eq!(toy.phase(), "Preflight");
    toy
}

fn said(toy: &Toy) -> (&'static str, String) {
    let reason = &toy.last.as_ref().unwrap().reason;
    (reason.word(), reason.to_string())
}

fn quiet(until: Option<&str>) -> NotStarted {
    NotStarted::Quiet { until: until.map(|until| until.parse::<Timestamp>().unwrap()) }
}

#[test]
fn a_version_waits_for_its_suite_until_the_quiet_is_over_and_says_until_when() {
    let mut toy = waiting(quiet(Some("2027-01-15T22:00:00Z")));
    let words = "ProductionProbe home is not started now (job.notWithin), until 2027-01-15T22:00:00Z; the version waits for it";
    assert_eq!(said(&toy), ("SuiteQuiet", words.to_owned()));
    assert_eq!(toy.last.as_ref().unwrap().health.stalled, None, "it ends by itself");
    toy.seen.probes.not_started.clear();
    toy.mute = false;
    toy.until(live_and_quiet);
    assert_eq!(toy.live(), "v2");
}

#[test]
fn one_that_waits_for_a_place_and_one_that_has_no_time_at_all_say_so() {
    let (word, words) = said(&waiting(NotStarted::Full { most: 4 }));
    assert_eq!(word, "SuiteQueued");
    assert!(words.starts_with("ProductionProbe home waits for its turn: 4 suites run, and no more may at once"), "{words}");
    let (word, words) = said(&waiting(quiet(None)));
    assert!(word == "SuiteQuiet" && words.contains("and there is no time at which it is;"), "{words}");
}

#[test]
fn a_load_that_waits_says_so_and_one_that_is_too_much_calls_a_person() {
    let toy = waiting(NotStarted::Loaded { sends: 60, most: 100 });
    let (word, words) = said(&toy);
    assert!(word == "LoadQueued" && words.contains("at most 100 requests a second (suites.requestsPerSecond of the chart)"), "{words}");
    assert_eq!(toy.last.as_ref().unwrap().health.stalled, None, "it ends by itself");
    let toy = waiting(NotStarted::Loaded { sends: 500, most: 100 });
    assert_eq!(said(&toy).0, "LoadTooMuch");
    assert!(toy.last.as_ref().unwrap().health.stalled.is_some(), "it does not end by itself");
}

#[test]
fn what_has_passed_in_this_rollout_is_not_waited_for_and_the_way_back_never_is() {
    let mut toy = Toy::adopted(20);
    toy.seen.probes.voting[0].suite = true;
    toy.set_image("v2");
    toy.until(|t| t.state.phase.rollout().is_some_and(|rollout| rollout.stage == Stage::Canary { step: 0 }) && t.quiet());
    toy.seen.probes.not_started = vec![("home".into(), quiet(None)), ("of another rollout".into(), quiet(None))];
    toy.pass();
    let good = toy.state.phase.rollout().unwrap().book.good_of_each(["home"]);
    assert_eq!(toy.last.as_ref().unwrap().holds, [], "it has passed {good} times");
    toy.canary_fails = true;
    toy.until(live_and_quiet);
    assert_eq!(toy.live(), "v1");
}
