use proptest::prelude::*;

use super::*;
use crate::{
    api::{
        delivery::{Capacity, DeliverySpec, WorkloadRef},
        verify::ExternalAt,
    },
    decide::judge::{
        book::{Book, Dated, Input, Pair},
        probes::{ProbeTerms, Seen, Turn},
        terms::Terms,
    },
    model::{
        decision::{Reason, Wait},
        external::Sought,
        phase::{Adopted, Fought, Live, Quarantined, State},
        version::{Identity, TemplateHash},
    },
};

fn delivery(status: Option<DeliveryStatus>) -> Delivery {
    let workload: WorkloadRef = serde_json::from_value(serde_json::json!({"name": "shop"})).unwrap();
    let mut delivery = Delivery::new(
        "shop",
        DeliverySpec {
            mode: None,
            policy_ref: None,
            workloads: vec![workload],
            cron_jobs: vec![],
            source: None,
            rollout: None,
            verify: None,
            config: None,
        },
    );
    delivery.metadata.generation = Some(3);
    delivery.status = status;
    delivery
}

fn seconds(at: i64) -> Timestamp {
    Timestamp::from_second(at).unwrap()
}

fn decision(state: &State) -> Decision {
    Decision::stay(state, Reason::Serving { version: "v1".to_owned() }, Wait::Change)
}

fn told_of(state: &State, before: Option<DeliveryStatus>) -> DeliveryStatus {
    status_of(None, &decision(state), &Observation::default(), &delivery(before), seconds(5000))
}

prop_compose! {
    fn second()(at in 0i64..4_000_000_000) -> Timestamp { seconds(at) }
}

prop_compose! {
    fn micro()(at in 0i64..4_000_000_000_000_000) -> Timestamp { Timestamp::from_microsecond(at).unwrap() }
}

fn name() -> impl Strategy<Value = ReleaseName> {
    "[a-z0-9]{1,20}".prop_map(ReleaseName::new)
}

fn why() -> impl Strategy<Value = Why> {
    ("[A-Z][a-z]{1,12}", ".{0,40}").prop_map(|(word, says)| Why { word, says })
}

fn outcome_of() -> impl Strategy<Value = Outcome> {
    prop_oneof![Just(Outcome::RolledBack), Just(Outcome::Undecided)]
}

fn stage() -> impl Strategy<Value = Stage> {
    prop_oneof![
        Just(Stage::Preparing),
        Just(Stage::Preflight),
        (0usize..20).prop_map(|step| Stage::Canary { step }),
        Just(Stage::Promoting),
        second().prop_map(|until| Stage::Guarding { until }),
        Just(Stage::Finalizing),
        (outcome_of(), why(), "[A-Z][a-z]{1,9}").prop_map(|(outcome, why, at)| Stage::RollingBack { outcome, why, at }),
    ]
}

fn seen() -> impl Strategy<Value = Seen> {
    prop_oneof![Just(Seen::Pass), ".{0,40}".prop_map(Seen::Fail), ".{0,20}".prop_map(Seen::Void)]
}

prop_compose! {
    fn book()(
        names in prop::collection::btree_set("[a-z]{1,8}", 0..4),
        runs in 0u32..1000, flakes in 0u32..40,
        pairs in prop::collection::vec((0usize..4, 0usize..3, seen(), seen()), 0..30),
        began in micro(),
    ) -> Book {
        let probes: Vec<ProbeTerms> =
            names.into_iter().map(|name| ProbeTerms { name, runs, flakes, ..ProbeTerms::default() }).collect();
        let turns = [Turn::First, Turn::AtOnce, Turn::Repeat];
        let inputs = (1..).zip(pairs).filter_map(|(micros, (probe, turn, canary, stable))| {
            let pair = Pair { probe: probes.get(probe)?.name.clone(), turn: turns[turn], canary, stable };
            Some(Dated { at: began + std::time::Duration::from_micros(micros), input: Input::Pair(pair) })
        });
        let inputs: Vec<Dated> = inputs.collect();
        Book::begun(Terms { probes, ..Terms::default() }, began).with(&inputs)
    }
}

prop_compose! {
    fn rollout()(
        release in name(), from in name(), back in prop::option::of(why()), started_at in second(),
        stage in stage(), book in book(), suspended in prop::option::of(second()),
        fought in prop::option::of(("[0-9a-f]{16}", second())),
        approved in prop::collection::vec(0usize..21, 0..=4), halted in prop::option::of(why()),
        prepared in prop::collection::vec("[a-z]{1,12}", 0..=4), small in any::<bool>(),
        sought in prop::collection::vec(("[a-z]{1,12}", any::<bool>(), second(), any::<bool>()), 0..=4),
    ) -> Phase {
        let fought = fought.map(|(template, at)| Fought { template: TemplateHash::new(template), at });
        let direction = back.map_or(Direction::Forward, Direction::Return);
        let capacity = if small { Capacity::Small } else { Capacity::Full };
        let asked = |(name, start, since, passed)| Sought { name, at: if start { ExternalAt::Start } else { ExternalAt::Promote }, since, passed };
        let sought = sought.into_iter().map(asked).collect();
        Phase::Rolling(Rollout { release, from, direction, started_at, stage, book, suspended, fought, approved, halted, prepared, sought, capacity })
    }
}

fn at_rest() -> impl Strategy<Value = Phase> {
    prop_oneof![
        Just(Phase::Live),
        (name(), outcome_of(), why()).prop_map(|(release, outcome, why)| Phase::RolledBack { release, outcome, why })
    ]
}

prop_compose! {
    fn states()(
        phase in prop_oneof![at_rest(), rollout()], since in second(), live in (name(), second()), previous in prop::option::of(name()),
        quarantine in prop::collection::vec(("[0-9a-f]{16}", name(), outcome_of(), why()), 0..=6),
        adopted in prop::collection::vec(("[a-z]{1,10}", "[0-9a-f]{8}", any::<bool>()), 0..=3),
        last_command in prop::option::of("[a-z]{1,10}"), ungated in any::<bool>(),
    ) -> State {
        let (release, proven) = live;
        State {
            phase, since, live: Some(Live { release, since: proven }), previous,
            quarantine: quarantine.into_iter().map(|(identity, release, outcome, why)| {
                Quarantined { identity: Identity::new(identity), release, outcome, why }
            }).collect(),
            adopted: adopted.into_iter().map(|(name, uid, was_paused)| Adopted { name, uid, was_paused }).collect(),
            last_command, ungated,
        }
    }
}

/// As the API server stores it.
fn stored(status: &DeliveryStatus) -> DeliveryStatus {
    serde_json::from_str(&serde_json::to_string(status).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn a_restart_finds_the_state_that_was_recorded(state in states()) {
        let status = stored(&told_of(&state, None));
        prop_assert_eq!(State::read(&status, seconds(9)), state);
    }

    #[test]
    fn the_same_decision_again_changes_nothing(state in states()) {
        let once = stored(&told_of(&state, None));
        let again = status_of(None, &decision(&state), &Observation::default(), &delivery(Some(once.clone())), seconds(6000));
        prop_assert_eq!(stored(&again), once);
    }

    #[test]
    fn a_damaged_status_is_read_without_a_panic(phase in ".{0,12}", state in states(), step in any::<i32>(), since in any::<i64>()) {
        let mut status = told_of(&state, None);
        status.phase = Some(phase);
        if let Some(rollout) = &mut status.rollout {
            rollout.step = Some(step);
            rollout.evidence =
                Some(crate::api::status::Evidence { until: Some(since), bound: step, book: Some(format!("{since}")), ..Default::default() });
        }
        let read = State::read(&status, seconds(9));
        prop_assert_eq!((&read.live, &read.adopted), (&state.live, &state.adopted));
        prop_assert_eq!(read.phase.rollout().is_some(), state.phase.rollout().is_some());
    }
}

#[test]
fn without_a_rollout_in_it_a_damaged_status_means_live_and_an_empty_one_adoption() {
    let status = |json| State::read(&serde_json::from_value(json).unwrap(), seconds(9)).phase;
    assert_eq!(status(serde_json::json!({})), Phase::Adopting);
    assert_eq!(status(serde_json::json!({"phase": "Canary"})), Phase::Adopting);
    assert_eq!(status(serde_json::json!({"phase": "Canary", "live": {"release": "r", "version": "v"}})), Phase::Live);
}

#[test]
fn a_rollout_that_cannot_be_read_goes_back_undecided() {
    for phase in ["Fizzling", "Canary", "Guarding", "RollingBack", ""] {
        let json = serde_json::json!({"phase": phase, "live": {"release": "r1", "version": "v1"},
            "rollout": {"release": "r2", "from": "r1", "direction": "Forward", "steps": 3}});
        let state = State::read(&serde_json::from_value(json).unwrap(), seconds(9));
        let read = state.phase.rollout().map(|r| r.stage.clone());
        assert!(matches!(read, Some(Stage::RollingBack { outcome: Outcome::Undecided, .. })), "{phase}: {read:?}");
    }
}

/// Twenty probes with long names, each in doubt, and long sentences.
fn full_book() -> Book {
    let name = |n: usize| format!("probe-{n:026}");
    let probes = (0..20).map(|n| ProbeTerms { name: name(n), runs: 100_000, flakes: 1000, ..ProbeTerms::default() }).collect();
    let seen = |says: &str| Seen::Fail(says.repeat(512));
    let pair = |n, canary, stable| Pair { probe: name(n), turn: Turn::First, canary, stable };
    let pairs = (0..20)
        .map(|n| pair(n, seen("f"), Seen::Pass))
        .chain([pair(0, seen("b"), seen("b")), pair(1, Seen::Void("v".repeat(512)), Seen::Pass)]);
    let inputs: Vec<Dated> = (2..).zip(pairs).map(|(at, pair)| Dated { at: seconds(at), input: Input::Pair(pair) }).collect();
    Book::begun(Terms { probes, ..Terms::default() }, seconds(1)).with(&inputs)
}

fn full() -> (Decision, DeliveryStatus) {
    let why = || Why { word: "W".repeat(64), says: "ü".repeat(1024) };
    let release = |n: usize| ReleaseName::new(format!("{n:063}"));
    let state = State {
        phase: Phase::Rolling(Rollout {
            release: release(1),
            from: release(2),
            direction: Direction::Return(why()),
            started_at: seconds(1),
            stage: Stage::RollingBack { outcome: Outcome::RolledBack, why: why(), at: "Finalizing".to_owned() },
            book: full_book(),
            suspended: Some(seconds(1)),
            fought: Some(Fought { template: TemplateHash::new("f".repeat(16)), at: seconds(1) }),
            approved: (0..21).collect(),
            halted: None,
            prepared: vec![],
            sought: (0..4)
                .map(|n| Sought { name: format!("{n:063}"), at: ExternalAt::Promote, since: seconds(1), passed: false })
                .collect(),
            capacity: Capacity::Small,
        }),
        since: seconds(1),
        live: Some(Live { release: release(2), since: seconds(1) }),
        previous: Some(release(3)),
        quarantine: (0..16)
            .map(|n| Quarantined {
                identity: Identity::new(format!("{n:016x}")),
                release: release(n),
                outcome: Outcome::RolledBack,
                why: Why { word: "CanaryFailed".to_owned(), ..why() },
            })
            .collect(),
        adopted: (0..8).map(|n| Adopted { name: format!("{n:052}"), uid: "u".repeat(36), was_paused: true }).collect(),
        last_command: Some("c".repeat(63)),
        ungated: true,
    };
    let hold = || Reason::Held { by: "b".repeat(128), message: "m".repeat(1024) };
    let mut decision = Decision::stay(&state, Reason::Invalid { why: "x".repeat(5000) }, Wait::Now);
    decision.holds = (0..20).map(|_| hold()).collect();
    decision.health.unavailable = Some(why());
    decision.health.stalled = Some(why());
    decision.health.verified = Some(Err(why()));
    let entry = HistoryEntry { release: "r".repeat(63), version: "v".repeat(128), outcome: Outcome::Live, at: time(seconds(1)) };
    (decision, DeliveryStatus { history: vec![entry; 5], ..DeliveryStatus::default() })
}

#[test]
fn with_everything_at_its_bound_it_is_six_kilobytes_and_the_rollout_survives() {
    let (decision, before) = full();
    let status = status_of(None, &decision, &Observation::default(), &delivery(Some(before)), seconds(9));
    assert!(
        shape::size(&status) <= shape::LIMIT,
        "{} bytes: {}",
        shape::size(&status),
        serde_json::to_value(&status)
            .unwrap()
            .as_object()
            .unwrap()
            .iter()
            .map(|(k, v)| format!("{k} {}", v.to_string().len()))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let read = State::read(&stored(&status), seconds(9));
    let (rollout, wrote) = (read.phase.rollout().unwrap(), decision.next.phase.rollout().unwrap());
    assert_eq!((&rollout.release, &rollout.from, &rollout.book), (&wrote.release, &wrote.from, &wrote.book));
    assert_eq!(read.adopted, decision.next.adopted);
    assert!(read.quarantine.len() >= 4);
    assert_eq!(read.quarantine.last().map(|q| &q.identity), decision.next.quarantine.last().map(|q| &q.identity));
}

#[test]
fn a_rollout_that_ends_is_history_once() {
    let rolling = Rollout {
        release: ReleaseName::new("r2"),
        from: ReleaseName::new("r1"),
        direction: Direction::Forward,
        started_at: seconds(1),
        stage: Stage::Finalizing,
        book: Book::open(Terms::default()),
        suspended: None,
        fought: None,
        approved: vec![],
        halted: None,
        prepared: vec![],
        sought: vec![],
        capacity: Capacity::Full,
    };
    let live = |name: &str| Some(Live { release: ReleaseName::new(name), since: seconds(1) });
    let state = State { phase: Phase::Rolling(rolling), live: live("r1"), ..State::new(seconds(1)) };
    let before = told_of(&state, None);
    let after = told_of(&State { phase: Phase::Live, live: live("r2"), previous: Some(ReleaseName::new("r1")), ..state }, Some(before));
    assert_eq!(after.history.iter().map(|h| (h.release.as_str(), h.outcome)).collect::<Vec<_>>(), [("r2", Outcome::Live)]);
    assert_eq!(after.way_back.as_ref().map(|w| (w.release.as_str(), w.by.as_str())), Some(("r1", "Rollout")));
    let again = told_of(&State::read(&after, seconds(9)), Some(after.clone()));
    assert_eq!(again.history, after.history);
}

#[test]
fn conditions_say_the_table() {
    let live = Some(Live { release: ReleaseName::new("r1"), since: seconds(1) });
    let of = |phase: Phase| {
        let status = told_of(&State { phase, live: live.clone(), ..State::new(seconds(1)) }, None);
        status.conditions.iter().map(|c| format!("{}={}", c.type_, c.status)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of(Phase::Live), "Available=True Ready=True Verified=Unknown Held=False");
    let why = Why { word: "CanaryFailed".to_owned(), says: "POST failed".to_owned() };
    let back = Phase::RolledBack { release: ReleaseName::new("r2"), outcome: Outcome::RolledBack, why };
    assert_eq!(of(back), "Available=True Ready=False Stalled=True Verified=Unknown Held=False");
}

#[test]
fn a_condition_keeps_the_time_at_which_it_turned() {
    let state =
        State { phase: Phase::Live, live: Some(Live { release: ReleaseName::new("r1"), since: seconds(1) }), ..State::new(seconds(1)) };
    let first = told_of(&state, None);
    let later = status_of(None, &decision(&state), &Observation::default(), &delivery(Some(first.clone())), seconds(9999));
    assert_eq!(first.conditions, later.conditions);
}
