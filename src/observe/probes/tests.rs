use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, sleep},
};

use super::*;
use crate::{
    decide::evidence::{Sample, Seen},
    model::{
        phase::after,
        probe::{Class, Expect, Outcome, Scheme, Step},
    },
};

/// How long every flow takes.
const FLOW: Duration = Duration::from_millis(10);

/// Wall time that follows tokio's.
struct Ticking(Instant);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        after(Timestamp::UNIX_EPOCH, self.0.elapsed())
    }
}

/// Says of each pod (by the last part of its address) how it is: bad, sick prober, else fine. And who was asked.
#[derive(Default)]
struct Scripted {
    bad: Mutex<Vec<u16>>,
    sick: Mutex<bool>,
    asked: Mutex<Vec<(Duration, u16)>>,
    started: Mutex<Option<Instant>>,
}

impl Prober for Scripted {
    fn run<'a>(&'a self, _: &'a Check, target: SocketAddr) -> BoxFuture<'a, Outcome> {
        let since = self.started.lock().unwrap().unwrap().elapsed();
        self.asked.lock().unwrap().push((since, target.port()));
        Box::pin(async move {
            sleep(FLOW).await;
            if *self.sick.lock().unwrap() {
                return Outcome::Void { class: Class::Prober, said: "we were late".to_owned() };
            }
            if self.bad.lock().unwrap().contains(&target.port()) {
                let said = "GET / answered 500, expected 2xx".to_owned();
                return Outcome::Fail { class: Class::HttpStatus, step: "home".to_owned(), said, status: Some(500), took: FLOW };
            }
            Outcome::Pass { took: FLOW }
        })
    }
}

struct Bench {
    board: ProbeBoard,
    prober: Arc<Scripted>,
    nudges: UnboundedReceiver<Key>,
}

fn bench() -> Bench {
    let prober = Arc::new(Scripted::default());
    *prober.started.lock().unwrap() = Some(Instant::now());
    let (nudge, nudges) = unbounded_channel();
    Bench { board: ProbeBoard::new(prober.clone(), Arc::new(Ticking(Instant::now())), nudge), prober, nudges }
}

fn key() -> Key {
    Key::new("shop").within("demo")
}

fn target(number: u16) -> Target {
    Target { pod: format!("pod-{number}"), at: SocketAddr::from(([192, 0, 2, 1], number)) }
}

fn check() -> Arc<Check> {
    let step = Step {
        name: "home".to_owned(),
        method: "GET".to_owned(),
        path: "/".to_owned(),
        headers: Vec::new(),
        body: None,
        expect: Expect::default(),
        deadline: Step::DEADLINE,
    };
    Arc::new(Check {
        name: "home".to_owned(),
        scheme: Scheme::Http,
        host: "shop".to_owned(),
        steps: vec![step],
        deadline: Check::DEADLINE,
        trust: None,
    })
}

fn asking(asks: Asks, every: u64) -> Watch {
    let probe = Watched { check: check(), every: Duration::from_secs(every), votes: true, asks };
    Watch { about: "v2".to_owned(), stage: "Preflight".to_owned(), eager: false, after: None, probes: vec![probe] }
}

/// Canary pods are 1…, stable pods 101….
fn pair(canary: u16, stable: u16) -> Watch {
    asking(Asks::Pair { canary: (1..=canary).map(target).collect(), stable: (101..=100 + stable).map(target).collect() }, 15)
}

fn at_rest(pods: u16) -> Watch {
    asking(Asks::Rest { pods: (101..=100 + pods).map(target).collect() }, 180)
}

impl Bench {
    async fn pass(&self, millis: u64) {
        // In small steps, so that every task runs in between, as it would.
        sleep(Duration::from_millis(millis)).await;
    }

    fn samples(&self) -> Vec<Sample> {
        self.board.read(&key()).samples
    }

    fn asked(&self) -> Vec<u16> {
        self.prober.asked.lock().unwrap().iter().map(|(_, port)| *port).collect()
    }

    fn nudged(&mut self) -> usize {
        std::iter::from_fn(|| self.nudges.try_recv().ok()).count()
    }
}

#[tokio::test(start_paused = true)]
async fn every_canary_pod_is_asked_beside_a_stable_one_once_per_interval() {
    let mut bench = bench();
    bench.board.watch(&key(), pair(2, 3));
    bench.pass(100).await;
    assert_eq!(bench.samples().iter().map(|s| s.pod.as_str()).collect::<Vec<_>>(), ["pod-1", "pod-2"], "at once");
    assert!(bench.nudged() >= 1, "the first result of a stage is worth a look");
    assert_eq!(bench.board.read(&key()).next, Some(Timestamp::from_second(15).unwrap()));
    bench.board.watch(&key(), pair(2, 3));
    bench.pass(14_800).await;
    assert_eq!(bench.samples().len(), 2, "watching the same again starts nothing");
    bench.pass(200).await;
    assert_eq!(bench.samples().len(), 4);
    let asked = bench.prober.asked.lock().unwrap().clone();
    let mut stable: Vec<u16> = asked.iter().map(|(_, port)| *port).filter(|port| *port > 100).collect();
    assert_eq!(stable, [101, 102, 103, 101], "stable pods take turns");
    stable.clear();
    let together = asked.chunks(2).all(|pair| matches!(pair, [(a, _), (b, _)] if a == b));
    assert!(together, "both sides are asked at the same time");
}

#[tokio::test(start_paused = true)]
async fn a_bad_canary_is_confirmed_twice_within_moments_and_then_asked_every_second() {
    let mut bench = bench();
    bench.prober.bad.lock().unwrap().push(1);
    bench.board.watch(&key(), pair(1, 2));
    bench.pass(100).await;
    let samples = bench.samples();
    assert_eq!(samples.iter().map(|s| s.rerun).collect::<Vec<_>>(), [false, true, false, true]);
    assert!(samples.windows(2).all(|pair| matches!(pair, [a, b] if a.at < b.at)), "in an order that is never in doubt");
    assert!(bench.nudged() >= 4, "every failure is worth a look");
    let asked = bench.asked();
    assert_eq!(asked, [1, 101, 1, 101, 1, 102, 1, 102], "the same two pods again");
    bench.pass(900).await;
    assert_eq!(bench.samples().len(), 4, "and then not without a pause");
    bench.pass(100).await;
    assert_eq!(bench.samples().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn one_flake_is_repeated_once_and_changes_no_schedule() {
    let bench = bench();
    bench.prober.bad.lock().unwrap().push(1);
    bench.board.watch(&key(), pair(1, 1));
    bench.pass(15).await;
    bench.prober.bad.lock().unwrap().clear();
    bench.pass(14_900).await;
    let told: Vec<(bool, Seen)> = bench.samples().into_iter().map(|s| (s.rerun, s.canary)).collect();
    assert!(matches!(told.as_slice(), [(false, Seen::Fail(_)), (true, Seen::Pass)]), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn while_suspended_a_round_comes_every_second() {
    let bench = bench();
    bench.board.watch(&key(), pair(1, 1));
    bench.pass(5_000).await;
    bench.board.watch(&key(), Watch { eager: true, ..pair(1, 1) });
    bench.pass(3_100).await;
    assert_eq!(bench.samples().len(), 5, "one before, one at once, three more");
}

#[tokio::test(start_paused = true)]
async fn another_stage_is_asked_at_once_and_keeps_what_is_known() {
    let bench = bench();
    bench.board.watch(&key(), pair(1, 1));
    bench.pass(5_000).await;
    bench.board.watch(&key(), Watch { stage: "Canary 0".to_owned(), ..pair(1, 1) });
    bench.pass(100).await;
    assert_eq!(bench.samples().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn another_rollout_begins_with_nothing() {
    let bench = bench();
    bench.board.watch(&key(), pair(1, 1));
    bench.pass(5).await;
    bench.board.watch(&key(), Watch { about: "v3".to_owned(), ..pair(2, 1) });
    bench.pass(100).await;
    assert_eq!(bench.samples().iter().map(|s| s.pod.as_str()).collect::<Vec<_>>(), ["pod-1", "pod-2"], "the pair in flight is dropped");
}

#[tokio::test(start_paused = true)]
async fn without_a_stable_pod_or_a_sound_prober_nothing_is_learnt() {
    let bench = bench();
    bench.prober.bad.lock().unwrap().push(1);
    bench.board.watch(&key(), pair(1, 0));
    bench.pass(100).await;
    let told: Vec<Seen> = bench.samples().into_iter().map(|s| s.stable).collect();
    assert_eq!(told, [Seen::Fail("no stable pod is ready".to_owned())]);
    *bench.prober.sick.lock().unwrap() = true;
    bench.board.watch(&key(), Watch { stage: "Canary 0".to_owned(), ..pair(1, 1) });
    bench.pass(100).await;
    assert!(matches!(bench.samples().last().unwrap(), Sample { canary: Seen::Void(_), stable: Seen::Void(_), rerun: false, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_canary_pod_that_has_left_is_not_held_against_its_version() {
    let bench = bench();
    bench.prober.bad.lock().unwrap().push(1);
    bench.board.watch(&key(), pair(1, 1));
    bench.pass(5).await;
    bench.board.watch(&key(), pair(0, 1));
    bench.pass(60_000).await;
    assert_eq!(bench.samples(), []);
    assert_eq!(bench.board.read(&key()).next, None);
}

#[tokio::test(start_paused = true)]
async fn results_end_after_those_that_are_counted_already() {
    let bench = bench();
    let counted = Timestamp::from_second(1_000).unwrap();
    bench.board.watch(&key(), Watch { after: Some(counted), ..pair(1, 1) });
    bench.pass(100).await;
    assert!(bench.samples().iter().all(|s| s.at > counted && s.at.subsec_nanosecond() % 1_000 == 0));
}

#[tokio::test(start_paused = true)]
async fn what_only_reports_is_counted_and_is_no_evidence() {
    let bench = bench();
    bench.prober.bad.lock().unwrap().push(1);
    let mut watch = pair(1, 1);
    watch.probes.iter_mut().for_each(|p| p.votes = false);
    bench.board.watch(&key(), watch);
    bench.pass(100).await;
    assert_eq!(bench.board.read(&key()), Probes { next: Some(Timestamp::from_second(15).unwrap()), ..Probes::default() });
    let runs = |side: &str, result: &str| bench.board.metrics().with_label_values(&["demo", "home", side, result]).get();
    assert_eq!((runs("canary", "http-status"), runs("stable", "pass")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn at_rest_one_pod_in_turn_is_asked_and_a_failure_is_repeated_on_another() {
    let mut bench = bench();
    bench.board.watch(&key(), at_rest(3));
    bench.pass(100).await;
    assert_eq!(bench.nudged(), 1, "it is known now");
    bench.pass(180_000).await;
    assert_eq!(bench.asked(), [101, 102]);
    assert_eq!(bench.nudged(), 0, "no news");
    bench.prober.bad.lock().unwrap().extend([103, 101]);
    bench.pass(180_000).await;
    assert_eq!(bench.asked(), [101, 102, 103, 101]);
    assert_eq!(bench.nudged(), 1);
    let rest = bench.board.read(&key()).rest;
    assert_eq!(rest.iter().map(|r| r.wrong.is_none()).collect::<Vec<_>>(), [true, true, false, false]);
    bench.prober.bad.lock().unwrap().clear();
    bench.pass(180_000).await;
    assert_eq!(bench.nudged(), 1, "it is well again");
    bench.pass(3_600_000).await;
    assert_eq!(bench.board.read(&key()).rest.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_is_asked_no_more() {
    let bench = bench();
    bench.board.watch(&key(), pair(1, 1));
    bench.pass(100).await;
    bench.board.forget(&key());
    let asked = bench.asked().len();
    bench.pass(120_000).await;
    assert_eq!((bench.asked().len(), bench.board.read(&key())), (asked, Probes::default()));
    bench.board.watch(&key(), pair(1, 1));
    bench.board.forget_all();
    bench.pass(120_000).await;
    assert_eq!(bench.asked().len(), asked);
}

#[tokio::test(start_paused = true)]
async fn the_book_of_a_long_rollout_stays_small() {
    let bench = bench();
    bench.board.watch(&key(), pair(1, 1));
    bench.pass(15_000 * 300).await;
    assert_eq!(bench.samples().len(), 256);
}
