use std::{collections::BTreeMap, net::SocketAddr, sync::Mutex, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, sleep},
};

use super::*;
use crate::edge::{
    logs::NoLogs,
    probe::{Entry, InMemory, ScriptedSuites, Swept},
};
use crate::{
    decide::judge::{
        bet::Side,
        block::{Block, Manner},
        book::{Book, Verdict},
    },
    model::{
        measure::{
            Matchers,
            kept::{self, Kept},
        },
        phase::after,
        probe::{Check, Run, RunName},
        world::Probes,
    },
    observe::probes::{Edges, ProbeBoard, Watch},
};

/// Wall time that follows tokio's.
struct Ticking(Instant);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        after(Timestamp::from_second(1_000_000).unwrap(), self.0.elapsed())
    }
}

/// Pods that count so many requests a second, and of them so many failed; by port. One that is not there shows nothing.
struct Pods {
    began: Instant,
    rates: Mutex<BTreeMap<u16, (u64, u64)>>,
    /// Restarted then: counts begin anew.
    restarted: Mutex<BTreeMap<u16, Instant>>,
    asked: Mutex<Vec<u16>>,
}

impl Prober for Pods {
    fn run<'a>(&'a self, _: &'a Arc<Check>, _: SocketAddr, _: SocketAddr, _: Option<Entry>) -> BoxFuture<'a, Run> {
        Box::pin(std::future::pending())
    }

    fn put_right<'a>(
        &'a self,
        _: &'a Check,
        _: SocketAddr,
        _: &'a RunName,
        _: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Option<String>> {
        Box::pin(std::future::pending())
    }

    fn sweep<'a>(&'a self, _: &'a Check, _: SocketAddr, _: &'a (dyn Fn(&RunName) -> bool + Send + Sync)) -> BoxFuture<'a, Swept> {
        Box::pin(std::future::pending())
    }

    fn metrics<'a>(&'a self, at: SocketAddr, path: &'a str) -> BoxFuture<'a, Result<String, String>> {
        assert_eq!(path, "/metrics");
        self.asked.lock().unwrap().push(at.port());
        let since = self.restarted.lock().unwrap().get(&at.port()).copied().unwrap_or(self.began);
        let seconds = u64::try_from(since.elapsed().as_millis()).unwrap();
        let page = self.rates.lock().unwrap().get(&at.port()).map(|(well, failed)| {
            let counted = |rate: &u64| rate * seconds / 1000;
            format!("requests_total{{code=\"200\"}} {}\nrequests_total{{code=\"500\"}} {}\n", counted(well), counted(failed))
        });
        Box::pin(async move { page.ok_or_else(|| "cannot be had: nothing answers on port 9".to_owned()) })
    }

    /// What somebody else knows: of the last 20 seconds only the half.
    fn kept(&self, question: kept::Question) -> BoxFuture<'_, Result<Value, String>> {
        let read = |name: &str| question.to.path.split(['?', '&']).find_map(|part| part.strip_prefix(name)).unwrap().to_owned();
        let second = |name: &str| u64::try_from(read(name).parse::<i64>().unwrap() - 1_000_000).unwrap_or(0);
        let (from, to) = (second("from="), second("to="));
        let sure = self.began.elapsed().as_secs().saturating_sub(20).clamp(from, to);
        let rates = self.rates.lock().unwrap();
        let mut sums = [0, 0];
        for pod in read("pods=").split("%2C") {
            let port: u16 = pod.strip_prefix("pod-").unwrap().parse().unwrap();
            self.asked.lock().unwrap().push(port);
            let Some((well, failed)) = rates.get(&port) else {
                return Box::pin(async { Err("are not known: api.example.com answered 503".to_owned()) });
            };
            let counted = |rate: u64| rate * (sure - from) + rate * (to - sure) / 2;
            sums = [sums[0] + counted(well + failed), sums[1] + counted(*failed)];
        }
        Box::pin(async move { Ok(json!({"asked": sums[0], "failed": sums[1]})) })
    }

    /// What was seen at the last look of every 15 s; each pod is looked at some seconds later than the one before.
    fn series<'a>(&'a self, query: &'a str) -> BoxFuture<'a, Result<Vec<Series>, String>> {
        assert_eq!(query, "{__name__=~\"requests_total\",namespace=\"demo\",pod=~\"pod-101|pod-102|pod-1\"}");
        let seconds = self.began.elapsed().as_secs();
        let mut found = Vec::new();
        for (at, (port, (well, failed))) in (0..).zip(self.rates.lock().unwrap().iter()) {
            let seen = (seconds + 15 - at * 4) / 15 * 15;
            for (code, rate) in [("200", well), ("500", failed)] {
                let labels = [("__name__", "requests_total"), ("pod", &format!("pod-{port}")), ("namespace", "demo"), ("code", code)];
                let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
                found.push(Series { labels, value: f64::from(u32::try_from(rate * seen).unwrap()) });
            }
        }
        Box::pin(async move { Ok(found) })
    }
}

struct Bench {
    board: ProbeBoard,
    pods: Arc<Pods>,
    nudges: UnboundedReceiver<Key>,
}

fn bench(rates: &[(u16, (u64, u64))]) -> Bench {
    let began = Instant::now();
    let rates = Mutex::new(rates.iter().copied().collect());
    let pods = Arc::new(Pods { began, rates, restarted: Mutex::default(), asked: Mutex::default() });
    let (nudge, nudges) = unbounded_channel();
    let edges = Edges {
        prober: pods.clone(),
        ledger: Arc::new(InMemory::default()),
        suites: Arc::new(ScriptedSuites::default()),
        logs: Arc::new(NoLogs),
    };
    Bench { board: ProbeBoard::new(edges, Arc::new(Ticking(began)), nudge), pods, nudges }
}

fn key() -> Key {
    Key::new("shop").within("demo")
}

fn measures() -> Arc<Measures> {
    Arc::new(Measures::Counters(counters()))
}

fn counters() -> Counters {
    Counters {
        from: From::Scrape { port: "metrics".into(), path: "/metrics".into() },
        counter: "requests_total".into(),
        failed: Matchers::parse("code=\"500\"").unwrap(),
        only: None,
        by: vec![],
        histogram: None,
    }
}

/// Ready for a long time; a canary's port is below 100.
fn pod(port: u16) -> Pod {
    Pod { pod: format!("pod-{port}"), at: ([192, 0, 2, 1], port).into(), since: Timestamp::from_second(999_000).unwrap(), of: None }
}

fn watch(course: Course, canary: &[u16], stable: &[u16]) -> Watch {
    let pods = |ports: &[u16]| ports.iter().map(|port| pod(*port)).collect();
    let meter = Metered { measures: measures(), secrets: Ok(Vars::default()), canary: pods(canary), stable: pods(stable), course };
    Watch { about: "v2".into(), stage: "Canary 0".into(), meter: Some(meter), ..Watch::default() }
}

fn at_rest(stable: &[u16]) -> Watch {
    Watch { about: "v1".into(), stage: String::new(), ..watch(Course::Rest, &[], stable) }
}

fn terms() -> Terms {
    Terms { errors: Some(Manner::of(Block::S5)), ..Terms::default() }
}

fn shared(whole: bool) -> Course {
    Course::Shared { terms: Box::new(terms()), whole }
}

fn inputs(probes: &Probes) -> Vec<Input> {
    probes.samples.iter().map(|dated| dated.input.clone()).collect()
}

fn errors(probes: &Probes) -> Vec<(Side, Side)> {
    let blocks = inputs(probes).into_iter().filter_map(|input| if let Input::Errors(strata) = input { Some(strata) } else { None });
    blocks.map(|strata| strata.first().map(|(_, tally)| (tally.canary, tally.stable)).unwrap_or_default()).collect()
}

#[tokio::test(start_paused = true)]
async fn at_rest_it_learns_what_is_usual_and_says_that_it_has_looked() {
    let mut bench = bench(&[(101, (90, 10)), (102, (90, 10))]);
    bench.board.watch(&key(), at_rest(&[101, 102]));
    assert!(!bench.board.read(&key()).meters.unwrap().looked);
    bench.nudges.recv().await.unwrap();
    assert!(bench.board.read(&key()).meters.unwrap().looked);
    sleep(Duration::from_mins(2)).await;
    let known = bench.board.read(&key()).meters.unwrap();
    let usual = known.usual.unwrap();
    assert_eq!((usual.manner, usual.bursty), (Some(Manner::of(Block::S15)), false), "two minutes are no history");
    assert!((usual.rate.unwrap() - 0.1).abs() < 0.001, "{usual:?}");
    assert_eq!(known.strata, [String::new()]);
    assert!(bench.board.read(&key()).samples.is_empty());
    let asked = bench.pods.asked.lock().unwrap().len();
    assert!((48..=52).contains(&asked), "every 5 s each: {asked}");
}

#[tokio::test(start_paused = true)]
async fn side_by_side_blocks_are_made_and_the_judge_takes_them() {
    let mut bench = bench(&[(1, (4, 1)), (101, (50, 0)), (102, (45, 0))]);
    bench.board.watch(&key(), at_rest(&[101, 102]));
    bench.nudges.recv().await.unwrap();
    bench.board.watch(&key(), watch(shared(false), &[1], &[101, 102]));
    sleep(Duration::from_millis(11_500)).await;
    let probes = bench.board.read(&key());
    let blocks = errors(&probes);
    assert_eq!(blocks.len(), 2, "{blocks:?}");
    assert_eq!(blocks[1], (Side::new(25, 5), Side::new(475, 0)));
    assert!(inputs(&probes).iter().filter(|input| matches!(input, Input::Mirror { .. })).count() >= 4);
    assert!(probes.samples.windows(2).all(|pair| pair[0].at < pair[1].at), "each has a moment of its own");
    assert!(bench.nudges.try_recv().is_ok(), "a block is worth a look");
    sleep(Duration::from_mins(1)).await;
    let book = Book::open(terms()).with(&bench.board.read(&key()).samples);
    let Verdict::Fail(failure) = book.verdict() else { panic!("{:?}", book.verdict()) };
    assert!(failure.says.starts_with("errors: "), "{}", failure.says);
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_is_not_told_again_and_nothing_is_lost_between() {
    let bench = bench(&[(1, (5, 0)), (101, (95, 0))]);
    bench.board.watch(&key(), watch(shared(false), &[1], &[101]));
    sleep(Duration::from_secs(20)).await;
    let first = bench.board.read(&key()).samples;
    let until = first.last().unwrap().at;
    let course = watch(shared(false), &[1], &[101]);
    bench.board.watch(&key(), Watch { after: Some(until), ..course });
    assert!(bench.board.read(&key()).samples.is_empty());
    sleep(Duration::from_secs(20)).await;
    let asked: u32 = first
        .iter()
        .chain(&bench.board.read(&key()).samples)
        .filter_map(|dated| match &dated.input {
            Input::Mirror { canary, .. } => Some(canary.asked),
            _ => None,
        })
        .sum();
    assert!((180..=200).contains(&asked), "5 a second for 40 s less the first and the open block: {asked}");
}

#[tokio::test(start_paused = true)]
async fn under_all_of_the_traffic_the_canary_is_counted_alone() {
    let bench = bench(&[(1, (90, 10)), (101, (0, 0))]);
    bench.board.watch(&key(), watch(shared(false), &[1], &[101]));
    sleep(Duration::from_millis(3500)).await;
    bench.board.watch(&key(), watch(shared(true), &[1], &[101]));
    sleep(Duration::from_secs(12)).await;
    let alone: Vec<Side> = inputs(&bench.board.read(&key()))
        .into_iter()
        .filter_map(|input| if let Input::Alone(side) = input { Some(side) } else { None })
        .collect();
    assert_eq!(alone, [Side::new(600, 60), Side::new(500, 50)], "a block ends with the look after its time");
    assert!(!inputs(&bench.board.read(&key())).iter().any(|input| matches!(input, Input::Whole(_))), "that is not for the meter to say");
}

#[tokio::test(start_paused = true)]
async fn a_pod_counts_when_it_is_warm_and_a_restart_is_no_failure() {
    let bench = bench(&[(1, (0, 50)), (2, (5, 0)), (101, (95, 0))]);
    let mut course = watch(shared(false), &[1, 2], &[101]);
    let young = after(Timestamp::from_second(1_000_000).unwrap(), Duration::from_secs(1));
    course.meter.as_mut().unwrap().canary[0].since = young;
    bench.board.watch(&key(), course);
    sleep(Duration::from_secs(16)).await;
    assert!(errors(&bench.board.read(&key())).iter().all(|(canary, _)| canary.failed == 0), "what fails is a pod that has just begun");
    bench.pods.restarted.lock().unwrap().insert(2, Instant::now());
    sleep(Duration::from_secs(5)).await;
    let blocks = errors(&bench.board.read(&key()));
    assert!(blocks.iter().all(|(canary, _)| canary.asked <= 26), "{blocks:?}");
    sleep(Duration::from_secs(20)).await;
    assert!(errors(&bench.board.read(&key())).iter().any(|(canary, _)| canary.failed > 0), "now it is warm");
}

#[tokio::test(start_paused = true)]
async fn without_a_share_nothing_is_compared() {
    let bench = bench(&[(1, (0, 5)), (101, (95, 0))]);
    bench.board.watch(&key(), watch(Course::Beside, &[1], &[101]));
    sleep(Duration::from_secs(30)).await;
    assert!(bench.board.read(&key()).samples.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_shows_nothing_is_named_since_when_and_why() {
    let mut bench = bench(&[(101, (95, 0))]);
    bench.board.watch(&key(), watch(shared(false), &[1], &[101]));
    bench.nudges.recv().await.unwrap();
    let silent = |bench: &Bench| bench.board.read(&key()).meters.unwrap().silent;
    let first = silent(&bench).unwrap();
    assert_eq!(first.why, "pod pod-1 of the canary: its metrics cannot be had: nothing answers on port 9");
    sleep(Duration::from_secs(14)).await;
    assert!(bench.nudges.try_recv().is_err());
    sleep(Duration::from_secs(3)).await;
    assert!(bench.nudges.try_recv().is_ok(), "by now a look at it holds");
    assert_eq!(silent(&bench).unwrap().since, first.since);
    bench.pods.rates.lock().unwrap().insert(1, (5, 0));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(silent(&bench), None);
    bench.board.watch(&key(), watch(Course::Beside, &[2], &[101]));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(silent(&bench), None, "nobody asks it yet");
    bench.pods.rates.lock().unwrap().remove(&101);
    sleep(Duration::from_secs(2)).await;
    assert!(silent(&bench).unwrap().why.starts_with("pod pod-101 of stable: "));
}

#[tokio::test(start_paused = true)]
async fn the_next_rollout_begins_a_book_of_its_own_with_what_was_read_before() {
    let mut bench = bench(&[(1, (5, 0)), (101, (95, 0))]);
    bench.board.watch(&key(), at_rest(&[101]));
    bench.nudges.recv().await.unwrap();
    bench.board.watch(&key(), watch(shared(false), &[1], &[101]));
    sleep(Duration::from_secs(7)).await;
    assert!(!bench.board.read(&key()).samples.is_empty());
    bench.board.watch(&key(), Watch { about: "v3".into(), ..watch(Course::Beside, &[1], &[101]) });
    assert!(bench.board.read(&key()).samples.is_empty());
    assert!(bench.board.read(&key()).meters.unwrap().looked, "it is the same app");
    bench.board.watch(&key(), Watch { meter: None, about: "v3".into(), ..Watch::default() });
    assert_eq!(bench.board.read(&key()).meters, None);
}

fn by_prometheus(mut watch: Watch) -> Watch {
    let meter = watch.meter.as_mut().unwrap();
    let from = From::Prometheus { every: Duration::from_secs(15) };
    meter.measures = Arc::new(Measures::Counters(Counters { from, ..counters() }));
    let terms = Terms { errors: Some(Manner::of(Block::S60)), ..Terms::default() };
    meter.course = Course::Shared { terms: Box::new(terms), whole: false };
    watch
}

#[tokio::test(start_paused = true)]
async fn through_prometheus_as_many_looks_of_each_pod_are_compared() {
    let bench = bench(&[(1, (5, 0)), (101, (50, 0)), (102, (45, 0))]);
    bench.board.watch(&key(), by_prometheus(watch(shared(false), &[1], &[101, 102])));
    sleep(Duration::from_mins(10)).await;
    let blocks = errors(&bench.board.read(&key()));
    assert_eq!(blocks.len(), 9, "{blocks:?}");
    assert!(blocks.iter().all(|(canary, stable)| (canary.asked, stable.asked) == (300, 5700)), "{blocks:?}");
}

#[tokio::test(start_paused = true)]
async fn through_prometheus_a_bad_version_is_found_out_and_a_good_one_is_not_blamed() {
    for (rates, bad) in [((4, 1), true), ((95, 5), false)] {
        let bench = bench(&[(1, rates), (101, (95, 5)), (102, (95, 5))]);
        bench.board.watch(&key(), by_prometheus(watch(shared(false), &[1], &[101, 102])));
        sleep(Duration::from_mins(20)).await;
        let book = Book::open(Terms { errors: Some(Manner::of(Block::S60)), ..Terms::default() }).with(&bench.board.read(&key()).samples);
        assert_eq!(matches!(book.verdict(), Verdict::Fail(_)), bad, "{:?}", book.wealth());
    }
}

fn by_json(mut watch: Watch) -> Watch {
    let meter = watch.meter.as_mut().unwrap();
    let spec = json!({
        "url": "https://api.example.com/?pods=${pods}&from=${from}&to=${to}", "asked": "$.asked", "failed": "$.failed",
        "headers": [{"name": "key", "value": "${secrets.key}"}],
        "secrets": [{"name": "key", "secretRef": {"name": "numbers", "key": "key"}}],
    });
    meter.measures = Arc::new(Measures::Kept(Kept::read(&serde_json::from_value(spec).unwrap()).unwrap()));
    let mut secrets = Vars::default();
    secrets.set("secrets.key", "canary-of-the-key".to_owned());
    meter.secrets = Ok(secrets);
    if let Course::Shared { terms, .. } = &mut meter.course {
        terms.errors = Some(Manner::of(Block::S60));
    }
    watch
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_keeps_is_asked_for_when_it_is_complete_and_no_second_twice() {
    let bench = bench(&[(1, (4, 1)), (101, (50, 0)), (102, (45, 0))]);
    bench.board.watch(&key(), by_json(watch(shared(false), &[1], &[101, 102])));
    sleep(Duration::from_secs(631)).await;
    let probes = bench.board.read(&key());
    let blocks = errors(&probes);
    assert!(blocks.len() >= 8 && blocks.iter().all(|sides| *sides == (Side::new(300, 60), Side::new(5700, 0))), "{blocks:?}");
    assert_eq!(probes.meters.unwrap().failing, 1, "it has one pod");
    let book = Book::open(Terms { errors: Some(Manner::of(Block::S60)), ..Terms::default() }).with(&probes.samples);
    assert!(matches!(book.verdict(), Verdict::Fail(_)), "{:?}", book.wealth());
}

#[tokio::test(start_paused = true)]
async fn whose_failures_they_were_is_not_known_so_each_pod_may_be_it() {
    let bench = bench(&[(1, (5, 1)), (2, (5, 0)), (101, (50, 0))]);
    bench.board.watch(&key(), by_json(watch(shared(false), &[1, 2], &[101])));
    sleep(Duration::from_mins(3)).await;
    assert_eq!(bench.board.read(&key()).meters.unwrap().failing, 2);
}

#[tokio::test(start_paused = true)]
async fn at_rest_somebody_else_is_asked_seldom_and_when_he_is_silent_it_is_told() {
    let mut bench = bench(&[(101, (50, 0))]);
    bench.board.watch(&key(), by_json(at_rest(&[101])));
    bench.nudges.recv().await.unwrap();
    assert!(bench.board.read(&key()).meters.unwrap().looked);
    sleep(Duration::from_mins(61)).await;
    let asked = bench.pods.asked.lock().unwrap().len();
    assert!((12..=14).contains(&asked), "{asked}");
    bench.pods.rates.lock().unwrap().clear();
    sleep(Duration::from_mins(6)).await;
    let known = bench.board.read(&key()).meters.unwrap();
    assert_eq!(known.silent.unwrap().why, "stable: its metrics are not known: api.example.com answered 503");
    bench.pods.rates.lock().unwrap().insert(101, (50, 0));
    sleep(Duration::from_mins(1)).await;
    assert_eq!(bench.board.read(&key()).meters.unwrap().silent, None, "it is asked again soon");
}

#[tokio::test(start_paused = true)]
async fn what_a_silent_time_held_is_asked_for_later_and_a_young_pod_counts_neither_way() {
    let bench = bench(&[(101, (95, 0))]);
    bench.board.watch(&key(), by_json(watch(shared(false), &[1], &[101])));
    sleep(Duration::from_secs(200)).await;
    let known = bench.board.read(&key());
    assert!(known.meters.as_ref().unwrap().silent.as_ref().unwrap().why.starts_with("the canary: its metrics are not known"));
    assert!(errors(&known).is_empty());
    bench.pods.rates.lock().unwrap().insert(1, (5, 0));
    sleep(Duration::from_secs(90)).await;
    let blocks = errors(&bench.board.read(&key()));
    let canary: u32 = blocks.iter().map(|(canary, _)| canary.asked).sum();
    assert!(canary >= 5 * 150, "{blocks:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_just_begun_is_not_asked_for_and_neither_is_the_other_side() {
    let bench = bench(&[(1, (5, 0)), (101, (95, 0))]);
    let mut watch = by_json(watch(shared(false), &[1], &[101]));
    watch.meter.as_mut().unwrap().canary[0].since = Timestamp::from_second(1_000_000).unwrap();
    bench.board.watch(&key(), watch);
    sleep(Duration::from_secs(115)).await;
    assert!(bench.pods.asked.lock().unwrap().is_empty());
    sleep(Duration::from_secs(30)).await;
    assert_eq!(bench.pods.asked.lock().unwrap().len(), 2);
}
