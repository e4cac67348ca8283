//! Suites: minutes long, one pod a round, and once is enough for a while.

use super::*;
use crate::model::{
    probe::{Load, Suite},
    window::Windows,
    world::NotStarted,
};

/// A suite that is run once a minute at most. It takes a minute.
fn suite(canary: u16, stable: u16) -> Watch {
    let mut watch = pair(canary, stable);
    for probe in &mut watch.probes {
        let suite = Suite {
            cron_job: "e2e".to_owned(),
            job: serde_json::Value::Null,
            within: Duration::from_mins(5),
            fails_with: vec![1],
            not_within: <_>::default(),
            seed: 0,
            load: None,
        };
        probe.check = Arc::new(Check { steps: Vec::new(), suite: Some(Box::new(suite)), ..(*probe.check).clone() });
        probe.every = Duration::from_mins(10);
    }
    watch
}

fn at_stage(stage: &str, watch: Watch) -> Watch {
    Watch { stage: stage.to_owned(), ..watch }
}

impl Bench {
    /// The pods that suites ran against, and with which seeds.
    fn suites(&self) -> (Vec<u16>, Vec<u32>) {
        self.suites.ran.lock().unwrap().iter().map(|(at, seed)| (at.port(), *seed)).unzip()
    }
}

#[tokio::test(start_paused = true)]
async fn one_canary_pod_of_many_is_asked_beside_one_of_stable_with_the_same_lots() {
    let bench = bench();
    bench.board.watch(&key(), suite(3, 2));
    bench.pass(61_000).await;
    let (asked, seeds) = bench.suites();
    assert_eq!(asked, [1, 101]);
    assert!(matches!(seeds.as_slice(), [one, other] if one == other), "{seeds:?}");
    assert_eq!(bench.samples().iter().map(|s| (s.canary.clone(), s.stable.clone())).collect::<Vec<_>>(), [(Seen::Pass, Seen::Pass)]);
    assert_eq!((bench.runs("suite", "canary", "pass"), bench.runs("pods", "canary", "pass")), (1, 0));
    let terms = bench.board.read(&key()).voting;
    assert!(terms.iter().all(|terms| terms.suite && terms.pairs() == 2));
}

#[tokio::test(start_paused = true)]
async fn what_it_has_shown_holds_for_the_next_stage_and_it_is_repeated_when_it_is_due() {
    let bench = bench();
    bench.board.watch(&key(), at_stage("Canary 0", suite(1, 1)));
    bench.pass(61_000).await;
    bench.board.watch(&key(), at_stage("Canary 1", suite(1, 1)));
    bench.pass(9 * 60_000).await;
    assert_eq!(bench.suites().0, [1, 101], "not for a stage alone");
    bench.pass(3 * 60_000).await;
    assert_eq!(bench.suites().0, [1, 101, 1, 101]);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_on_the_canary_alone_is_repeated_once_and_with_the_same_lots() {
    let bench = bench();
    bench.suites.codes.lock().unwrap().push((target(1).at, 1));
    bench.board.watch(&key(), suite(1, 1));
    bench.pass(121_000).await;
    let (asked, seeds) = bench.suites();
    assert_eq!(asked.get(..4), Some([1, 101, 1, 101].as_slice()));
    assert!(seeds.iter().take(4).all(|seed| Some(seed) == seeds.first()), "{seeds:?}");
    let samples = bench.samples();
    assert_eq!(samples.iter().map(|s| s.turn).collect::<Vec<_>>(), [Turn::First, Turn::Repeat]);
    let said = |s: &Sample| s.canary == Seen::Fail("suite e2e ended with exit code 1".to_owned()) && s.stable == Seen::Pass;
    assert!(samples.iter().all(said), "{samples:?}");
}

#[tokio::test(start_paused = true)]
async fn an_exit_code_that_says_nothing_is_no_sample() {
    let bench = bench();
    bench.suites.codes.lock().unwrap().push((target(1).at, 2));
    bench.board.watch(&key(), suite(1, 1));
    bench.pass(61_000).await;
    assert!(
        matches!(bench.samples().as_slice(), [Sample { canary: Seen::Void(why), .. }] if why.contains("exit code 2, which says nothing"))
    );
}

#[tokio::test(start_paused = true)]
async fn one_is_not_started_in_its_quiet_time_and_runs_when_that_is_over() {
    let mut bench = bench();
    let mut watch = suite(1, 1);
    for probe in &mut watch.probes {
        // The clock of the bench begins with 1970, on a Thursday.
        let windows = serde_json::json!([{"days": ["Thu"], "from": "00:00", "to": "00:05"}]);
        let not_within = Windows::read(&serde_json::from_value::<Vec<_>>(windows).unwrap()).unwrap();
        let suite = Suite { not_within, ..(**probe.check.suite.as_ref().unwrap()).clone() };
        probe.check = Arc::new(Check { suite: Some(Box::new(suite)), ..(*probe.check).clone() });
    }
    bench.board.watch(&key(), watch);
    bench.pass(100).await;
    let quiet = NotStarted::Quiet { until: Some(Timestamp::from_second(300).unwrap()) };
    assert_eq!((bench.board.read(&key()).not_started, bench.nudged()), (vec![("home".to_owned(), quiet)], 1));
    bench.pass(299_800).await;
    assert_eq!((bench.suites().0, bench.nudged()), (vec![], 0), "it is told once");
    bench.pass(1_000).await;
    assert_eq!((bench.suites().0, bench.board.read(&key()).not_started, bench.nudged()), (vec![1, 101], vec![], 1));
}

#[tokio::test(start_paused = true)]
async fn no_more_run_at_once_than_may_and_the_others_say_that_they_wait() {
    let mut bench = bench();
    bench.board = bench.board.with_suites(1, 100);
    let keys: Vec<Key> = ["a", "b", "c"].map(|name| Key::new(name).within("demo")).into();
    for key in &keys {
        bench.board.watch(key, suite(1, 1));
        bench.pass(10).await;
    }
    let waiting = |bench: &Bench| keys.iter().map(|key| bench.board.read(key).not_started.len()).collect::<Vec<_>>();
    assert_eq!((bench.suites().0.len(), waiting(&bench)), (2, vec![0, 1, 1]), "one pair");
    assert_eq!(bench.board.read(&keys[1]).not_started, [("home".to_owned(), NotStarted::Full { most: 1 })]);
    // Who is gone takes no place.
    bench.board.forget(&keys[1]);
    bench.pass(61_000).await;
    assert_eq!((bench.suites().0.len(), waiting(&bench)), (4, vec![0, 0, 0]));
    // What is no suite needs no place.
    bench.board.watch(&keys[1], pair(1, 1));
    bench.pass(1_000).await;
    assert!(!bench.board.read(&keys[1]).samples.is_empty());
}

/// The same as a load.
fn load(per_second: u32) -> Watch {
    let mut watch = suite(1, 1);
    for probe in &mut watch.probes {
        let load = Some(Load { per_second, lasts: Duration::from_mins(1) });
        let suite = Suite { load, ..(**probe.check.suite.as_ref().unwrap()).clone() };
        probe.check = Arc::new(Check { suite: Some(Box::new(suite)), ..(*probe.check).clone() });
    }
    watch
}

#[tokio::test(start_paused = true)]
async fn loads_send_no_more_together_than_may_be_sent_and_one_that_states_more_never_begins() {
    let mut bench = bench();
    bench.board = bench.board.with_suites(9, 100);
    let keys: Vec<Key> = ["a", "b", "c", "d"].map(|name| Key::new(name).within("demo")).into();
    for (key, sends) in keys.iter().zip([60, 60, 40, 101]) {
        bench.board.watch(key, load(sends));
        bench.pass(10).await;
    }
    let waiting = |bench: &Bench, of: usize| bench.board.read(&keys[of]).not_started.into_iter().map(|(_, why)| why).next();
    let loaded = |sends| Some(NotStarted::Loaded { sends, most: 100 });
    // 60 of 100 are taken, and who waits for 60 lets nobody pass who waits for less: it would wait for ever.
    assert_eq!([0, 1, 2, 3].map(|of| waiting(&bench, of)), [None, loaded(60), loaded(40), loaded(101)]);
    assert_eq!(bench.suites().0.len(), 2);
    bench.pass(61_000).await;
    assert_eq!([0, 1, 2, 3].map(|of| waiting(&bench, of)), [None, None, None, loaded(101)]);
    assert_eq!(bench.suites().0.len(), 6);
    bench.pass(10 * 60_000).await;
    assert!(bench.board.read(&keys[3]).samples.is_empty());
}
