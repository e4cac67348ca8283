use std::{collections::VecDeque, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, sleep},
};

use super::*;
use crate::{
    api::probe_run::{ProbeRevision, PutRight},
    decide::judge::{
        book::{Book, Dated, Input, Verdict},
        probes::{ProbeTerms, Seen, Turn, by_route},
        terms::Terms,
    },
    edge::{
        logs::NoLogs,
        probe::{Entry, InMemory, Room, ScriptedSuites, Swept},
    },
    model::{
        phase::after,
        probe::{AnsweredBy, Answerer, Class, Compare, Done, Expect, Outcome, Run, RunName, Scheme, Shape, Step, Sweep, Vars, Wanted},
        route::Testers,
        world::{Told, Voice},
    },
};

mod suites;

/// How long every flow takes.
const FLOW: Duration = Duration::from_millis(10);

mod contract;
mod queries;

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
    /// Behind the door: who answers one who tests, and whether well.
    to_testers: Mutex<(&'static str, bool)>,
    /// And who answers the next customers; none left: v1, well.
    to_customers: Mutex<VecDeque<(&'static str, bool)>>,
    /// Every pod says this of itself; nothing: v2 of a canary's, v1 of stable's.
    says: Mutex<Option<&'static str>>,
    /// What the canary answers, and what stable does, where that is compared.
    bodies: Mutex<[serde_json::Value; 2]>,
    /// What every run leaves.
    leaves: Mutex<Option<String>>,
    /// Whose items a sweep finds; and the sweeps: when, where, and how many were meant.
    found: Mutex<Vec<RunName>>,
    swept: Mutex<Vec<(Duration, u16, usize)>>,
    /// What a query comes to, and which were asked.
    numbers: Mutex<Option<Result<Vec<f64>, String>>>,
    queries: Mutex<Vec<String>>,
}

/// Where the door is.
const DOOR: u16 = 443;

impl Scripted {
    /// Who answers at this port, and whether well.
    fn answers(&self, check: &Check, port: u16) -> (&'static str, bool) {
        let bad = self.bad.lock().unwrap().contains(&port);
        match (port, &check.tester) {
            (DOOR, Some(_)) => *self.to_testers.lock().unwrap(),
            (DOOR, None) => self.to_customers.lock().unwrap().pop_front().unwrap_or(("v1", true)),
            (port, _) => (self.says.lock().unwrap().unwrap_or(if port > 100 { "v1" } else { "v2" }), !bad),
        }
    }
}

impl Scripted {
    fn done(&self, check: &Check, stable: bool) -> Vec<Done> {
        let bodies = self.bodies.lock().unwrap();
        let body = &bodies[usize::from(stable)];
        let compared = check.steps.iter().filter_map(|step| Some((step, step.compare.as_ref()?)));
        let shape = |compare| Some(Shape::of(200, Some(body), compare));
        compared
            .map(|(step, compare)| Done { step: step.name.clone(), status: Some(200), took: FLOW, wrong: None, shape: shape(compare) })
            .collect()
    }
}

impl Prober for Scripted {
    fn run<'a>(&'a self, check: &'a Arc<Check>, target: SocketAddr, _: SocketAddr, _: Option<Entry>) -> BoxFuture<'a, Run> {
        let since = self.started.lock().unwrap().unwrap().elapsed();
        self.asked.lock().unwrap().push((since, target.port()));
        Box::pin(async move {
            sleep(FLOW).await;
            if *self.sick.lock().unwrap() {
                return Outcome::Void { class: Class::Prober, said: "we were late".to_owned() }.into();
            }
            let (version, well) = self.answers(check, target.port());
            let who = Answerer::new(version);
            let misrouted = check.answered_by.as_ref().is_some_and(|by| by.is_misrouted(who.as_ref()));
            let outcome = if misrouted {
                Outcome::Void { class: Class::Misrouted, said: "GET / was answered by another version than was asked".to_owned() }
            } else if well {
                Outcome::Pass { took: FLOW }
            } else {
                let said = "GET / answered 500, expected 2xx".to_owned();
                Outcome::Fail { class: Class::HttpStatus, step: "home".to_owned(), said, status: Some(500), took: FLOW }
            };
            let done = self.done(check, target.port() > 100);
            Run { left: self.leaves.lock().unwrap().clone(), answered: vec![who], done, ..Run::from(outcome) }
        })
    }

    fn metrics<'a>(&'a self, _: SocketAddr, _: &'a str) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async { Err("are not shown".to_owned()) })
    }

    fn numbers<'a>(&'a self, query: &'a str) -> BoxFuture<'a, Result<Vec<f64>, String>> {
        self.queries.lock().unwrap().push(query.to_owned());
        let answer = self.numbers.lock().unwrap().clone().unwrap_or_else(|| Err("nobody answers".to_owned()));
        Box::pin(async move { answer })
    }

    fn put_right<'a>(
        &'a self,
        _: &'a Check,
        _: SocketAddr,
        _: &'a RunName,
        _: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { None })
    }

    fn sweep<'a>(&'a self, _: &'a Check, home: SocketAddr, meant: &'a (dyn Fn(&RunName) -> bool + Send + Sync)) -> BoxFuture<'a, Swept> {
        let runs = self.found.lock().unwrap();
        let gone = runs.iter().filter(|run| meant(run)).count();
        self.swept.lock().unwrap().push((self.started.lock().unwrap().unwrap().elapsed(), home.port(), gone));
        Box::pin(async move { Swept { gone, left: None } })
    }
}

struct Bench {
    board: ProbeBoard,
    prober: Arc<Scripted>,
    ledger: Arc<InMemory>,
    suites: Arc<ScriptedSuites>,
    nudges: UnboundedReceiver<Key>,
}

fn bench() -> Bench {
    let prober = Arc::new(Scripted::default());
    *prober.started.lock().unwrap() = Some(Instant::now());
    *prober.to_testers.lock().unwrap() = ("v2", true);
    let (nudge, nudges) = unbounded_channel();
    let ledger = Arc::new(InMemory::default());
    let suites = Arc::new(ScriptedSuites::default());
    let edges = Edges { prober: prober.clone(), ledger: ledger.clone(), suites: suites.clone(), logs: Arc::new(NoLogs) };
    let board = ProbeBoard::new(edges, Arc::new(Ticking(Instant::now())), nudge);
    Bench { board, prober, ledger, suites, nudges }
}

fn key() -> Key {
    Key::new("shop").within("demo")
}

fn target(number: u16) -> Target {
    Target { pod: format!("pod-{number}"), at: SocketAddr::from(([192, 0, 2, 1], number)) }
}

/// What is in the book of one pair.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    at: Timestamp,
    probe: String,
    turn: Turn,
    canary: Seen,
    stable: Seen,
}

impl From<Dated> for Sample {
    fn from(dated: Dated) -> Self {
        let Input::Pair(pair) = dated.input else { panic!("probes bring pairs: {dated:?}") };
        Self { at: dated.at, probe: pair.probe, turn: pair.turn, canary: pair.canary, stable: pair.stable }
    }
}

fn probe(sample: &Sample) -> &str {
    &sample.probe
}

fn check() -> Arc<Check> {
    let step = Step {
        name: "home".to_owned(),
        method: "GET".to_owned(),
        path: "/".to_owned(),
        headers: Vec::new(),
        body: None,
        expect: Expect::default(),
        capture: Vec::new(),
        until: None,
        compare: None,
        deadline: Step::DEADLINE,
    };
    Arc::new(Check {
        name: "home".to_owned(),
        scheme: Scheme::Http,
        host: "shop".to_owned(),
        setup: Vec::new(),
        steps: vec![step],
        suite: None,
        teardown: Vec::new(),
        sweep: None,
        secrets: Vars::default(),
        deadline: Check::DEADLINE,
        trust: None,
        tester: None,
        answered_by: None,
        knock: None,
    })
}

fn asking(asks: Asks, every: u64) -> Watch {
    let probe = Watched {
        check: check(),
        every: Duration::from_secs(every),
        burst: None,
        votes: true,
        changed: Some(Timestamp::UNIX_EPOCH),
        pods: true,
        compares: true,
        page: None,
        route_of: None,
        asks,
    };
    Watch { about: "v2".to_owned(), stage: "Preflight".to_owned(), probes: vec![probe], ..Watch::default() }
}

/// Canary pods are 1…, stable pods 101….
fn pair(canary: u16, stable: u16) -> Watch {
    asking(Asks::Pair { canary: (1..=canary).map(target).collect(), stable: (101..=100 + stable).map(target).collect(), door: None }, 15)
}

fn at_rest(pods: u16) -> Watch {
    asking(Asks::Rest { pods: (101..=100 + pods).map(target).collect() }, 180)
}

/// One canary pod, one of stable, and a door since the beginning; where pods are asked too, and whether customers meet the canary.
fn with_door(pods: bool, shared: bool) -> Watch {
    let mut watch = pair(1, 1);
    let (at, tester) = (SocketAddr::from(([192, 0, 2, 80], DOOR)), Testers::Header("X-Haldane-Track".to_owned()));
    let since = Timestamp::UNIX_EPOCH;
    for probe in &mut watch.probes {
        let answered_by = Some(AnsweredBy { header: "X-Shop-Version".to_owned(), wanted: Wanted::Anybody });
        probe.check = Arc::new(Check { answered_by, ..(*probe.check).clone() });
        (probe.pods, probe.route_of) = (pods, Some("shop".to_owned()));
        if let Asks::Pair { door, .. } = &mut probe.asks {
            *door = Some(Door { at, scheme: Scheme::Http, host: "shop.example.com".to_owned(), tester: tester.clone(), shared, since });
        }
    }
    watch
}

/// The same with the way by the route shut.
fn shut(mut watch: Watch) -> Watch {
    for probe in &mut watch.probes {
        if let Asks::Pair { door, .. } = &mut probe.asks {
            *door = None;
        }
    }
    watch
}

impl Bench {
    async fn pass(&self, millis: u64) {
        // In small steps, so that every task runs in between, as it would.
        sleep(Duration::from_millis(millis)).await;
    }

    fn samples(&self) -> Vec<Sample> {
        self.board.read(&key()).samples.into_iter().map(Sample::from).collect()
    }

    /// The canary pods that were asked, in their order.
    fn canaries(&self) -> Vec<u16> {
        self.asked().into_iter().filter(|port| *port < 100 && *port != DOOR).collect()
    }

    fn asked(&self) -> Vec<u16> {
        self.prober.asked.lock().unwrap().iter().map(|(_, port)| *port).collect()
    }

    fn runs(&self, via: &str, side: &str, result: &str) -> u64 {
        self.board.metrics().with_label_values(&[via, side, result]).get()
    }

    /// What pairs by the route are in the book, and what each side was seen to do.
    fn by_route(&self) -> Vec<(Turn, Seen, Seen)> {
        self.samples().into_iter().filter(|s| s.probe == by_route("home")).map(|s| (s.turn, s.canary, s.stable)).collect()
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
    assert_eq!((bench.samples().len(), bench.canaries()), (2, vec![1, 2]), "at once");
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
async fn a_bad_canary_is_in_doubt_within_moments_and_asked_again_for_some_seconds() {
    let mut bench = bench();
    bench.prober.bad.lock().unwrap().push(1);
    bench.board.watch(&key(), pair(1, 2));
    bench.pass(100).await;
    let samples = bench.samples();
    assert_eq!(samples.iter().map(|s| s.turn).collect::<Vec<_>>(), [Turn::First, Turn::AtOnce]);
    assert!(samples.windows(2).all(|pair| matches!(pair, [a, b] if a.at < b.at)), "in an order that is never in doubt");
    assert!(bench.nudged() >= 2, "every failure is worth a look");
    bench.pass(4_000).await;
    assert_eq!(bench.samples().iter().skip(2).map(|s| s.turn).collect::<Vec<_>>(), [Turn::Repeat; 4]);
    assert_eq!(bench.asked(), [1, 101].repeat(6), "the same two pods again");
    bench.pass(4_800).await;
    assert_eq!(bench.samples().len(), 6, "and then not without a pause");
    bench.pass(300).await;
    assert_eq!(bench.samples().len(), 8);
    assert_eq!(bench.asked().split_off(12), [1, 102, 1, 102], "beside another pod of stable");
}

#[tokio::test(start_paused = true)]
async fn the_next_sample_after_a_failure_is_of_the_next_pod() {
    let bench = bench();
    bench.prober.bad.lock().unwrap().extend([1, 2]);
    bench.board.watch(&key(), pair(3, 1));
    bench.pass(4_500).await;
    assert_eq!(bench.canaries(), [1; 6]);
    bench.pass(10_000).await;
    assert_eq!(bench.canaries().split_off(6), [2; 6]);
    bench.pass(5_000).await;
    assert_eq!(bench.canaries().split_off(12)[..3], [3, 1, 1], "one that answers well is followed by the next at once");
}

#[tokio::test(start_paused = true)]
async fn what_changes_something_is_asked_three_times() {
    let bench = bench();
    bench.prober.bad.lock().unwrap().push(1);
    let mut watch = pair(1, 1);
    for probe in &mut watch.probes {
        let mut check = (*probe.check).clone();
        check.steps.iter_mut().for_each(|step| step.method = "POST".to_owned());
        probe.check = Arc::new(check);
    }
    bench.board.watch(&key(), watch);
    bench.pass(4_500).await;
    let known = bench.board.read(&key());
    assert!(known.voting.iter().all(|terms| terms.mutating));
    assert_eq!(bench.samples().len(), 4, "at once, and twice more");
}

#[tokio::test(start_paused = true)]
async fn what_is_usual_at_rest_is_known_in_the_rollout_and_forgotten_with_the_version() {
    let bench = bench();
    let known = || bench.board.read(&key()).voting.first().map(|terms| (terms.runs, terms.flakes));
    let of = |about: &str, watch: Watch| Watch { about: about.to_owned(), ..watch };
    let rest = |about| of(about, Watch { stage: String::new(), ..at_rest(2) });
    bench.board.watch(&key(), rest("v1"));
    bench.pass(180_000 * 4 + 1_000).await;
    bench.prober.bad.lock().unwrap().extend([101, 102]);
    bench.pass(180_000).await;
    assert_eq!(known(), Some((7, 2)), "five good ones, and one that failed twice");
    bench.board.watch(&key(), of("v2 since now", pair(1, 1)));
    assert_eq!(known(), Some((7, 2)));
    bench.board.watch(&key(), of("v2 since now", Watch { stage: "Finalizing".to_owned(), ..at_rest(2) }));
    bench.pass(180_000).await;
    assert_eq!(known(), Some((7, 2)), "what stable takes in a rollout is not the version that was usual");
    bench.board.watch(&key(), of("v1 since now", Watch { stage: "Preflight".to_owned(), ..pair(1, 1) }));
    bench.board.watch(&key(), rest("v1"));
    assert_eq!(known(), Some((7, 2)), "it has come back");
    bench.board.watch(&key(), rest("v2"));
    assert_eq!(known(), Some((0, 0)));
}

#[tokio::test(start_paused = true)]
async fn one_flake_is_repeated_and_the_next_sample_follows_soon() {
    let bench = bench();
    bench.prober.bad.lock().unwrap().push(1);
    bench.board.watch(&key(), pair(1, 1));
    bench.pass(15).await;
    bench.prober.bad.lock().unwrap().clear();
    bench.pass(14_900).await;
    let told: Vec<(Turn, Seen)> = bench.samples().into_iter().map(|s| (s.turn, s.canary)).collect();
    assert!(
        matches!(
            told.as_slice(),
            [(Turn::First, Seen::Fail(_)), (Turn::AtOnce, Seen::Pass), (Turn::Repeat, Seen::Pass), (Turn::First, Seen::Pass), ..]
        ),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn while_suspended_a_round_comes_soon() {
    let bench = bench();
    bench.board.watch(&key(), pair(1, 1));
    bench.pass(5_000).await;
    bench.board.watch(&key(), Watch { eager: true, ..pair(1, 1) });
    bench.pass(10_100).await;
    assert_eq!(bench.samples().len(), 4, "one before, one at once, two more");
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
    assert_eq!((bench.samples().len(), bench.canaries()), (2, vec![1, 1, 2]), "the pair in flight is dropped");
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
    assert!(matches!(bench.samples().last().unwrap(), Sample { canary: Seen::Void(_), stable: Seen::Void(_), turn: Turn::First, .. }));
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
    assert_eq!((bench.runs("pods", "canary", "http-status"), bench.runs("pods", "stable", "pass")), (1, 1));
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

const GOOD: (Turn, Seen, Seen) = (Turn::First, Seen::Pass, Seen::Pass);

fn failing() -> Seen {
    Seen::Fail("GET / answered 500, expected 2xx".to_owned())
}

#[tokio::test(start_paused = true)]
async fn by_the_route_a_pair_more_is_run_in_each_round_once_the_route_is_served() {
    let bench = bench();
    bench.board.watch(&key(), with_door(true, false));
    bench.pass(2_900).await;
    assert_eq!(bench.samples().iter().map(probe).collect::<Vec<_>>(), ["home"], "applied is not served");
    bench.pass(200).await;
    assert_eq!(bench.samples().iter().map(probe).collect::<Vec<_>>(), ["home", "home", "home by the route"], "then at once");
    bench.pass(15_000).await;
    assert_eq!(bench.by_route(), [GOOD, GOOD]);
    assert_eq!((bench.runs("route", "canary", "pass"), bench.runs("route", "stable", "pass")), (2, 2));
    assert_eq!(bench.asked().iter().filter(|port| **port == DOOR).count(), 4);
}

#[tokio::test(start_paused = true)]
async fn where_the_route_alone_is_to_be_asked_pods_are_asked_until_there_is_a_way() {
    let bench = bench();
    bench.board.watch(&key(), shut(with_door(false, false)));
    bench.pass(100).await;
    assert_eq!(bench.asked(), [1, 101], "in Preflight there is none");
    bench.pass(5_000).await;
    bench.board.watch(&key(), with_door(false, false));
    bench.pass(30_000).await;
    assert_eq!(bench.asked(), [1, 101, DOOR, DOOR, DOOR, DOOR], "and then not any more");
    bench.board.watch(&key(), shut(with_door(false, false)));
    bench.pass(15_000).await;
    assert_eq!(bench.asked().split_off(6), [1, 101], "at full weight again");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_has_not_met_the_pods_asks_them_before_it_goes_by_the_route() {
    let bench = bench();
    bench.pass(10_000).await;
    bench.board.watch(&key(), with_door(false, false));
    bench.pass(100).await;
    assert_eq!(bench.asked(), [1, 101, DOOR, DOOR]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_by_the_route_alone_is_a_verdict_though_pods_answer_well() {
    let mut bench = bench();
    *bench.prober.to_testers.lock().unwrap() = ("v2", false);
    bench.pass(10_000).await;
    bench.board.watch(&key(), with_door(true, false));
    bench.pass(4_500).await;
    let sample = [Turn::First, Turn::AtOnce, Turn::Repeat, Turn::Repeat, Turn::Repeat, Turn::Repeat];
    let told: Vec<(Turn, Seen, Seen)> = sample.map(|turn| (turn, failing(), Seen::Pass)).into();
    assert_eq!(bench.by_route(), told);
    assert_eq!(bench.samples().iter().filter(|s| s.probe == "home").count(), 1);
    assert!(bench.nudged() >= 6, "every failure is worth a look");
    bench.pass(10_000).await;
    let known = bench.board.read(&key());
    let ways = known.voting.iter().cloned().chain([ProbeTerms { name: by_route("home"), ..ProbeTerms::default() }]).collect();
    let verdict = Book::open(Terms { probes: ways, ..Terms::default() }).with(&known.samples).verdict();
    assert!(matches!(&verdict, Verdict::Fail(failure) if failure.says.starts_with("home by the route: ")), "{verdict:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_which_nobody_says_whose_it_is_is_of_the_side_that_was_asked() {
    let bench = bench();
    *bench.prober.to_testers.lock().unwrap() = ("", false);
    bench.pass(10_000).await;
    bench.board.watch(&key(), with_door(true, true));
    bench.pass(15).await;
    bench.pass(15).await;
    assert_eq!(bench.by_route().first(), Some(&(Turn::First, failing(), Seen::Pass)), "the Gateway cannot reach the canary");
}

#[tokio::test(start_paused = true)]
async fn a_canary_answered_for_by_stable_is_misrouted_and_no_evidence() {
    let bench = bench();
    *bench.prober.to_testers.lock().unwrap() = ("v1", false);
    bench.pass(10_000).await;
    bench.board.watch(&key(), with_door(true, false));
    bench.pass(100).await;
    assert_eq!(bench.by_route(), [], "pods have spoken");
    assert_eq!(bench.runs("route", "canary", "misrouted"), 1);
    bench.board.watch(&key(), Watch { stage: "Canary 1".to_owned(), ..with_door(false, false) });
    bench.pass(100).await;
    let said = "GET / was answered by another version than was asked".to_owned();
    assert_eq!(bench.by_route(), [(Turn::First, Seen::Void(said), Seen::Pass)], "where nobody else speaks, that is told");
}

#[tokio::test(start_paused = true)]
async fn stable_is_asked_again_where_the_weight_led_to_the_canary() {
    let bench = bench();
    bench.pass(10_000).await;
    // Of the fourth nobody knows who failed.
    bench.prober.to_customers.lock().unwrap().extend([("v2", true), ("v2", false), ("v2", true), ("", false), ("v1", true)]);
    bench.board.watch(&key(), with_door(true, true));
    bench.pass(200).await;
    assert_eq!(bench.by_route(), [GOOD]);
    assert_eq!(bench.runs("route", "stable", "misrouted"), 3);
    assert_eq!(bench.runs("route", "canary", "pass"), 1, "the canary is not asked again");
}

#[tokio::test(start_paused = true)]
async fn stable_that_is_never_met_ends_after_five_more_and_is_no_evidence() {
    let bench = bench();
    bench.pass(10_000).await;
    bench.prober.to_customers.lock().unwrap().extend([("v2", true); 20]);
    bench.board.watch(&key(), with_door(true, true));
    bench.pass(200).await;
    assert_eq!((bench.by_route(), bench.runs("route", "stable", "misrouted")), (Vec::new(), 6));
    bench.board.watch(&key(), Watch { stage: "Canary 1".to_owned(), ..with_door(true, false) });
    bench.pass(200).await;
    assert_eq!(bench.runs("route", "stable", "misrouted"), 7, "without a share nothing else is to be expected of another try");
}

#[tokio::test(start_paused = true)]
async fn versions_that_say_the_same_are_asked_at_their_pods() {
    let bench = bench();
    *bench.prober.says.lock().unwrap() = Some("v");
    bench.pass(10_000).await;
    bench.board.watch(&key(), with_door(false, false));
    bench.pass(100).await;
    assert_eq!(bench.asked(), [1, 101], "nobody could tell who answered");
    let by_route = bench.board.read(&key()).by_route;
    let told: Vec<_> = by_route.iter().map(|p| (p.probe.as_str(), p.service.as_str(), p.header.as_str(), p.told)).collect();
    assert_eq!(told, [("home", "shop", "X-Shop-Version", Told::Alike)]);
    *bench.prober.says.lock().unwrap() = Some("");
    bench.board.watch(&key(), Watch { about: "v3".to_owned(), ..with_door(false, false) });
    bench.pass(100).await;
    assert_eq!(bench.board.read(&key()).by_route.first().map(|p| p.told), Some(Told::Unsaid), "another rollout learns anew");
    *bench.prober.says.lock().unwrap() = None;
    bench.pass(15_000).await;
    assert_eq!(bench.board.read(&key()).by_route.first().map(|p| p.told), Some(Told::Apart));
}

#[tokio::test(start_paused = true)]
async fn another_share_keeps_the_door_open_and_a_pair_that_it_shuts_upon_is_dropped() {
    let bench = bench();
    bench.pass(10_000).await;
    bench.board.watch(&key(), with_door(false, false));
    bench.pass(25).await;
    assert_eq!(bench.by_route(), [GOOD]);
    let mut moved = with_door(false, true);
    if let Some(Asks::Pair { door: Some(door), .. }) = moved.probes.first_mut().map(|p| &mut p.asks) {
        door.since = Timestamp::from_second(24).unwrap();
    }
    bench.board.watch(&key(), moved);
    bench.pass(15_000).await;
    assert_eq!(bench.by_route(), [GOOD, GOOD], "testers are on it all the time");
    bench.pass(15_000 - 15).await;
    bench.board.watch(&key(), shut(with_door(false, false)));
    bench.pass(100).await;
    assert_eq!(bench.by_route(), [GOOD, GOOD]);
}

/// One whose runs have to be put right.
fn written(mut watch: Watch) -> Watch {
    let step = serde_json::json!([{"name": "cancel", "request": {"method": "DELETE", "path": "/orders/1"}}]);
    let put_right: PutRight =
        serde_json::from_value(serde_json::json!({"target": {"serviceRef": {"name": "shop"}}, "teardown": step})).unwrap();
    let probe = ProbeRevision { name: "home".to_owned(), ..ProbeRevision::default() };
    let page = Page { namespace: "demo".to_owned(), delivery: "shop".to_owned(), probe, put_right, most: 20 };
    watch.probes.iter_mut().for_each(|probe| probe.page = Some(Arc::new(page.clone())));
    watch
}

#[tokio::test(start_paused = true)]
async fn a_probe_with_too_many_open_runs_is_not_run_and_goes_on_when_one_is_put_right() {
    let mut bench = bench();
    *bench.ledger.room.lock().unwrap() = Some(Room::Unknown);
    bench.board.watch(&key(), written(at_rest(1)));
    bench.pass(10_000).await;
    assert_eq!((bench.asked(), bench.board.read(&key()).barred), (vec![], vec![]), "the list is on its way");
    bench.pass(25_000).await;
    let barred = bench.board.read(&key()).barred;
    assert!(matches!(barred.as_slice(), [(_, why)] if why.contains("cannot be listed")), "{barred:?}");
    *bench.ledger.room.lock().unwrap() = Some(Room::Full(20));
    bench.pass(400_000).await;
    assert!(bench.asked().is_empty());
    let (barred, nudged) = (bench.board.read(&key()).barred, bench.nudged());
    assert!(matches!(barred.as_slice(), [(probe, why)] if probe == "home" && why.starts_with("20 of its runs are open")), "{barred:?}");
    assert_eq!(nudged, 2, "each is told once");
    bench.board.watch(&key(), Watch { about: "v3".to_owned(), ..written(at_rest(1)) });
    assert_eq!(bench.board.read(&key()).barred.len(), 1, "another version is no reason to go on");
    *bench.ledger.room.lock().unwrap() = None;
    bench.pass(1_100).await;
    assert_eq!((bench.asked(), bench.board.read(&key()).barred), (vec![101], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_leaves_things_behind_is_stopped_also_when_another_process_put_them_there() {
    let mut bench = bench();
    bench.board.watch(&key(), written(at_rest(1)));
    bench.pass(100).await;
    bench.nudged();
    for left in [Some("500"), Some("500"), None, Some("500"), Some("500")] {
        bench.board.put_right(&key(), "home", left);
    }
    assert_eq!((bench.nudged(), bench.board.read(&key()).stopped), (0, vec![]), "not three in a row");
    bench.board.put_right(&key(), "home", Some("500"));
    assert_eq!((bench.nudged(), bench.board.read(&key()).stopped), (1, vec![("home".to_owned(), "500".to_owned())]));
    let runs = bench.asked().len();
    bench.pass(400_000).await;
    assert_eq!(bench.asked().len(), runs, "it is not run any more");
    bench.board.put_right(&Key::new("other").within("demo"), "home", Some("500"));
    assert_eq!(bench.nudged(), 0, "a Delivery that is gone has nobody to tell");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_swept_soon_and_then_every_hour_through_what_is_proven() {
    let bench = bench();
    let name = |second: i64, byte: u8| RunName::new(Timestamp::from_second(second).unwrap(), [byte; RunName::RANDOM]);
    let step = Step { name: "list".to_owned(), ..check().steps.first().unwrap().clone() };
    let sweep = Sweep {
        list: step.clone(),
        items: "$[*]".to_owned(),
        named: "$.ref".to_owned(),
        prefix: "synth-".to_owned(),
        older_than: Sweep::OLDER_THAN,
        delete: step,
    };
    let swept = |watch: Watch| {
        let mut watch = written(watch);
        watch
            .probes
            .iter_mut()
            .for_each(|probe| probe.check = Arc::new(Check { sweep: Some(Box::new(sweep.clone())), ..(*probe.check).clone() }));
        watch
    };
    // One of a run that is open, one that is older than an hour from the second sweep on, and one of the future.
    bench.prober.found.lock().unwrap().extend([name(1, 1), name(2, 2), name(100_000, 3)]);
    bench.ledger.open.lock().unwrap().push(name(1, 1));
    bench.board.watch(&key(), swept(at_rest(1)));
    bench.pass(100_000).await;
    bench.board.watch(&key(), Watch { about: "v3".to_owned(), ..swept(pair(1, 1)) });
    bench.pass(3_600_000).await;
    let seen: Vec<(u64, u16, usize)> =
        bench.prober.swept.lock().unwrap().iter().map(|(at, port, gone)| (at.as_secs(), *port, *gone)).collect();
    assert_eq!(seen, [(20, 101, 0), (3620, 101, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_flakes_at_rest_does_not_vote_whatever_version_serves_until_it_is_steady() {
    let mut bench = bench();
    let every = |watch: Watch| Watch { stage: String::new(), ..watch };
    let round = Duration::from_mins(3);
    // Each tenth round fails, at either pod.
    let flaky = async |bench: &Bench, rounds: u32, flakes: bool| {
        for n in 1..=rounds {
            let now = if flakes && n % 10 == 0 { vec![101, 102] } else { vec![] };
            *bench.prober.bad.lock().unwrap() = now;
            sleep(round).await;
        }
    };
    bench.board.watch(&key(), every(Watch { about: "v1".to_owned(), ..at_rest(2) }));
    sleep(Duration::from_secs(1)).await;
    flaky(&bench, 60, true).await;
    bench.board.watch(&key(), every(Watch { about: "v2".to_owned(), ..at_rest(2) }));
    sleep(Duration::from_secs(1)).await;
    flaky(&bench, 100, true).await;
    assert_eq!((bench.board.read(&key()).voting.len(), bench.board.read(&key()).mute), (1, vec![]), "not yet 200 runs");
    flaky(&bench, 60, true).await;
    bench.nudged();
    let seen = bench.board.read(&key());
    assert_eq!((seen.voting, seen.rest, seen.mute), (vec![], vec![], vec!["home".to_owned()]));
    assert!(matches!(seen.turned.as_slice(), [Voice::Lost { runs: 200, flakes, .. }] if *flakes > 4), "{:?}", seen.turned);
    assert_eq!(bench.board.read(&key()).turned, vec![], "it is told once");
    // It says nothing against a canary either.
    bench.prober.bad.lock().unwrap().push(1);
    bench.board.watch(&key(), pair(1, 1));
    bench.pass(60_000).await;
    assert!(bench.samples().is_empty() && !bench.canaries().is_empty(), "it is asked, and not heard");
    bench.board.watch(&key(), every(Watch { about: "v3".to_owned(), ..at_rest(2) }));
    flaky(&bench, 1200, false).await;
    let seen = bench.board.read(&key());
    assert_eq!((seen.voting.len(), seen.mute.len()), (1, 0));
    assert!(matches!(seen.turned.as_slice(), [Voice::Back { .. }]), "{:?}", seen.turned);
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_has_ever_answered_is_told_of_at_once_and_stays_doubtful_until_it_passes() {
    let bench = bench();
    *bench.prober.bad.lock().unwrap() = vec![101, 102];
    bench.board.watch(&key(), Watch { stage: String::new(), ..at_rest(2) });
    bench.pass(1_000).await;
    let seen = bench.board.read(&key());
    assert!(matches!(seen.turned.as_slice(), [Voice::Never { says, .. }] if !says.is_empty()), "{:?}", seen.turned);
    assert_eq!(seen.untried, BTreeMap::from([("home".to_owned(), Timestamp::UNIX_EPOCH)]));
    bench.pass(3_600_000).await;
    assert_eq!(bench.board.read(&key()).turned, vec![], "it is told once");
    bench.prober.bad.lock().unwrap().clear();
    bench.pass(3_600_000).await;
    *bench.prober.bad.lock().unwrap() = vec![101, 102];
    bench.pass(3_600_000).await;
    let seen = bench.board.read(&key());
    assert_eq!((seen.turned, seen.untried), (vec![], BTreeMap::new()), "it has passed once: now production fails");
}

#[tokio::test(start_paused = true)]
async fn a_burst_comes_first_and_then_the_schedule() {
    let bench = bench();
    let mut watch = pair(1, 1);
    watch.probes.iter_mut().for_each(|probe| probe.burst = Some(Burst { runs: 20, every: Duration::from_secs(6) }));
    bench.board.watch(&key(), watch.clone());
    bench.pass(119_000).await;
    assert_eq!(bench.samples().len(), 20, "20 in two minutes");
    bench.pass(31_000).await;
    assert_eq!(bench.samples().len(), 22, "one in 15 s");
    watch.stage = "Canary 1".to_owned();
    bench.board.watch(&key(), watch);
    bench.pass(31_000).await;
    assert_eq!(bench.samples().len(), 28, "anew in the next stage");
}
