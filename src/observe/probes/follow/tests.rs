use std::collections::BTreeSet;

use futures::{TryStreamExt as _, future::BoxFuture, stream};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::sleep,
};

use super::*;
use crate::{
    api::{
        duration::Span,
        verify::{LogAlert, LogsSpec},
    },
    decide::judge::{
        block::{Block, Manner},
        book::{self, Verdict},
    },
    edge::{
        logs::{Lines, LogError, Part, Whose},
        probe::InMemory,
    },
    model::world::Probes,
    observe::{
        probes::{ProbeBoard, Watch},
        tests::Silent as NoProbes,
    },
};

/// Wall time that follows tokio's.
struct Ticking(Instant);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        after(Timestamp::from_second(1_000_000).unwrap(), self.0.elapsed())
    }
}

/// What each pod has written, in bytes; and how its log is handed out.
struct Cluster {
    began: Instant,
    pods: Mutex<BTreeMap<String, Log>>,
    grown: watch::Sender<()>,
    /// Each stream breaks off after so many lines.
    breaks: Mutex<Option<usize>>,
    opened: Mutex<Vec<(String, Part)>>,
}

#[derive(Default)]
struct Log {
    lines: Vec<(Timestamp, Vec<u8>)>,
    before: Vec<(Timestamp, Vec<u8>)>,
    refused: Option<LogError>,
}

impl Cluster {
    fn now(&self) -> Timestamp {
        Ticking(self.began).now()
    }

    fn writes(&self, pod: &str, line: &[u8]) {
        let at = self.now();
        self.pods.lock().unwrap().entry(pod.to_owned()).or_default().lines.push((at, line.to_vec()));
        self.grown.send_replace(());
    }

    fn refuses(&self, pod: &str, why: Option<LogError>) {
        self.pods.lock().unwrap().entry(pod.to_owned()).or_default().refused = why;
    }

    /// It was started again: its log is another one now.
    fn restarts(&self, pod: &str, last_words: &[u8]) {
        let at = self.now();
        let mut pods = self.pods.lock().unwrap();
        let log = pods.entry(pod.to_owned()).or_default();
        log.before = std::mem::take(&mut log.lines);
        log.before.push((at, last_words.to_vec()));
    }
}

fn bytes((at, line): &(Timestamp, Vec<u8>)) -> Vec<u8> {
    [format!("{at} ").as_bytes(), line, b"\n"].concat()
}

/// As the kubelet's: in whole seconds.
fn since(lines: &[(Timestamp, Vec<u8>)], since: Option<Timestamp>) -> usize {
    since.map_or(0, |since| lines.iter().position(|(at, _)| at.as_second() >= since.as_second()).unwrap_or(lines.len()))
}

struct Logs(Arc<Cluster>);

impl PodLogs for Logs {
    fn open<'a>(&'a self, whose: Whose<'a>, part: Part) -> BoxFuture<'a, Result<Lines, LogError>> {
        assert_eq!((whose.namespace, whose.container), ("demo", Some("app")));
        self.0.opened.lock().unwrap().push((whose.pod.to_owned(), part));
        let (cluster, pod) = (self.0.clone(), whose.pod.to_owned());
        Box::pin(async move {
            let (once, place) = {
                let pods = cluster.pods.lock().unwrap();
                let Some(log) = pods.get(&pod) else { return Err(LogError::NotStarted) };
                if let Some(why) = &log.refused {
                    return Err(why.clone());
                }
                match part {
                    Part::Head(_) | Part::Tail(_) => (Some(log.lines.iter().map(bytes).collect::<Vec<_>>()), 0),
                    Part::Before(from, _) => {
                        let place = since(&log.before, from);
                        (Some(log.before.iter().skip(place).map(bytes).collect()), 0)
                    }
                    Part::From(from) => (None, since(&log.lines, from)),
                }
            };
            if let Some(once) = once {
                return Ok(Box::new(Box::pin(stream::iter(once.into_iter().map(Ok)).into_async_read())) as Lines);
            }
            let grown = cluster.grown.subscribe();
            let breaks = *cluster.breaks.lock().unwrap();
            let lines = stream::unfold((cluster, pod, place, grown, breaks), |(cluster, pod, place, mut grown, left)| async move {
                if left == Some(0) {
                    return None;
                }
                loop {
                    let line = cluster.pods.lock().unwrap().get(&pod)?.lines.get(place).map(bytes);
                    if let Some(line) = line {
                        let left = left.map(|left| left - 1);
                        return Some((Ok(line), (cluster, pod, place + 1, grown, left)));
                    }
                    grown.changed().await.ok()?;
                }
            });
            Ok(Box::new(Box::pin(lines.into_async_read())) as Lines)
        })
    }
}

struct Bench {
    board: ProbeBoard,
    cluster: Arc<Cluster>,
    nudges: UnboundedReceiver<Key>,
    rules: Arc<LogRules>,
}

fn key() -> Key {
    Key::new("shop").within("demo")
}

fn bench(alerts: &[LogAlert]) -> Bench {
    let began = Instant::now();
    let (grown, _) = watch::channel(());
    let cluster = Arc::new(Cluster { began, pods: Mutex::default(), grown, breaks: Mutex::default(), opened: Mutex::default() });
    let (nudge, nudges) = unbounded_channel();
    let logs = Arc::new(Logs(cluster.clone()));
    let board = ProbeBoard::new(Arc::new(NoProbes), Arc::new(InMemory::default()), logs, Arc::new(Ticking(began)), nudge);
    let rules = Arc::new(LogRules::read(&LogsSpec { alerts: alerts.to_vec(), ..LogsSpec::default() }).unwrap());
    Bench { board, cluster, nudges, rules }
}

fn alert(contains: &str, absolute: bool) -> LogAlert {
    let (name, within) = ("flow".to_owned(), Some(Span(Duration::from_mins(1))));
    LogAlert { name, contains: Some(contains.to_owned()), within, absolute: Some(absolute), ..LogAlert::default() }
}

fn terms() -> Terms {
    Terms { logs: Some(Manner::of(Block::S5)), restarts: Some(1), ..Terms::default() }
}

impl Bench {
    /// One pod of the canary, two of stable, ready for a long time.
    fn watch(&self, course: Course) {
        self.watch_with(course, 0);
    }

    fn watch_with(&self, course: Course, restarts: u32) {
        let source = |pod: &str, restarts| Source {
            pod: pod.to_owned(),
            container: Some("app".to_owned()),
            ready: Timestamp::from_second(999_000).ok(),
            restarts,
        };
        let (canary, stable) = (vec![source("c1", restarts)], vec![source("s1", 0), source("s2", 0)]);
        let followed = Followed { rules: self.rules.clone(), canary, stable, course };
        self.board.watch(&key(), Watch { about: "v2".into(), stage: "Canary 0".into(), follower: Some(followed), ..Watch::default() });
    }

    fn shared(&self) {
        self.watch(Course::Shared { terms: Box::new(terms()), traffic: (2000, 8000) });
    }

    fn all_write(&self, line: &[u8]) {
        for pod in ["c1", "s1", "s2"] {
            self.cluster.writes(pod, line);
        }
    }

    fn read(&self) -> Probes {
        self.board.read(&key())
    }

    fn heard(&self) -> Heard {
        self.read().logs.unwrap()
    }

    fn book(&self) -> book::Book {
        book::Book::open(terms()).with(&self.read().samples)
    }

    /// Lines of the canary and of stable that were counted, of each kind.
    fn counted(&self) -> BTreeMap<String, (u32, u32)> {
        let mut all = BTreeMap::<String, (u32, u32)>::new();
        for (signature, tally) in self
            .read()
            .samples
            .into_iter()
            .filter_map(|dated| if let Input::Logs(lines) = dated.input { Some(lines) } else { None })
            .flatten()
        {
            let sum = all.entry(signature).or_default();
            *sum = (sum.0 + tally.canary.failed, sum.1 + tally.stable.failed);
        }
        all
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_stable_does_not_write_is_found_and_told_without_its_data() {
    let mut bench = bench(&[]);
    bench.all_write(b"INFO started");
    bench.cluster.writes("s1", b"ERROR lost order 1");
    bench.shared();
    sleep(Duration::from_secs(2)).await;
    for second in 0..120_u32 {
        sleep(Duration::from_secs(1)).await;
        bench.all_write(format!("ERROR lost order {second}").as_bytes());
        bench.cluster.writes("c1", format!("ERROR cannot charge card {second} of 'ana'").as_bytes());
    }
    let Verdict::Fail(failure) = bench.book().verdict() else { panic!("{:?}", bench.counted()) };
    assert!(failure.says.starts_with("logs: \"ERROR cannot charge card # of …\": "), "{}", failure.says);
    assert_eq!(
        bench.counted().keys().collect::<Vec<_>>(),
        ["\"ERROR cannot charge card # of …\""],
        "what stable wrote before is nothing new"
    );
    assert!(bench.nudges.try_recv().is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_both_sides_write_takes_nothing_back() {
    let bench = bench(&[alert("slow", false)]);
    bench.all_write(b"INFO started");
    bench.shared();
    for second in 0..300_u32 {
        sleep(Duration::from_secs(1)).await;
        bench.all_write(format!("ERROR slow query {second}").as_bytes());
        if second % 7 == 0 {
            bench.all_write(b"ERROR rare");
        }
    }
    assert!(bench.book().wealth() < 3.0, "{} {:?}", bench.book().wealth(), bench.counted());
    assert_eq!(bench.heard(), Heard::default());
}

#[tokio::test(start_paused = true)]
async fn an_alert_is_evidence_when_there_are_more_than_are_nothing() {
    let bench = bench(&[LogAlert { more_than: Some(3), ..alert("FlowAlertError", false) }]);
    bench.all_write(b"INFO started");
    bench.shared();
    sleep(Duration::from_secs(3)).await;
    (0..3).for_each(|_| bench.cluster.writes("c1", b"info: FlowAlertError x"));
    sleep(Duration::from_secs(20)).await;
    assert!(bench.counted().is_empty(), "{:?}", bench.counted());
    for _ in 0..90 {
        sleep(Duration::from_secs(1)).await;
        bench.cluster.writes("c1", b"info: FlowAlertError x");
    }
    let Verdict::Fail(failure) = bench.book().verdict() else { panic!("{:?}", bench.counted()) };
    assert!(failure.says.starts_with("logs: alert flow: ") && failure.says.contains(" lines on canary, 0 on stable"), "{}", failure.says);
    assert_eq!(bench.heard().alarm, None, "it is not absolute");
}

#[tokio::test(start_paused = true)]
async fn an_absolute_alert_is_a_fact_at_once_unless_stable_writes_it_too() {
    for (both, told) in [(false, true), (true, false)] {
        let mut bench = bench(&[alert("data lost", true)]);
        bench.all_write(b"INFO started");
        if both {
            bench.cluster.writes("s2", b"data lost");
        }
        bench.watch(Course::Apart);
        sleep(Duration::from_secs(3)).await;
        while bench.nudges.try_recv().is_ok() {}
        bench.cluster.writes("c1", b"\x1b[31mdata lost\x1b[0m of 17");
        sleep(Duration::from_millis(1100)).await;
        assert_eq!(bench.heard().alarm.is_some(), told);
        assert_eq!(bench.nudges.try_recv().is_ok(), told);
        sleep(Duration::from_mins(5)).await;
        assert_eq!(bench.heard().alarm.is_some(), told, "what was seen stays true");
        if let Some(alarm) = bench.heard().alarm {
            assert!(alarm.starts_with("alert flow: 1 line on canary within 1m, 0 on stable; it is absolute"), "{alarm}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_breaks_off_again_and_again_is_counted_once() {
    let bench = bench(&[]);
    *bench.cluster.breaks.lock().unwrap() = Some(60);
    bench.all_write(b"INFO started");
    bench.shared();
    sleep(Duration::from_secs(3)).await;
    for n in 0..400_u32 {
        sleep(Duration::from_millis(500)).await;
        bench.cluster.writes("c1", format!("ERROR lost {n}").as_bytes());
    }
    sleep(Duration::from_mins(1)).await;
    assert_eq!(bench.counted().get("\"ERROR lost #\""), Some(&(400, 0)));
    let opened = bench.cluster.opened.lock().unwrap().len();
    assert!((12..100).contains(&opened), "{opened}");
}

#[tokio::test(start_paused = true)]
async fn the_last_words_of_a_container_are_heard_and_what_follows_too() {
    let bench = bench(&[alert("panic", true)]);
    bench.all_write(b"INFO started");
    bench.watch(Course::Apart);
    sleep(Duration::from_secs(3)).await;
    *bench.cluster.breaks.lock().unwrap() = Some(1);
    bench.cluster.restarts("c1", b"panic: lost");
    bench.cluster.writes("c1", b"INFO started again");
    bench.watch_with(Course::Apart, 1);
    sleep(Duration::from_secs(20)).await;
    assert!(bench.heard().alarm.is_some(), "{:?}", bench.cluster.opened.lock().unwrap());
    let opened = bench.cluster.opened.lock().unwrap();
    assert_eq!(opened.iter().filter(|(_, part)| matches!(part, Part::Before(..))).count(), 1, "once");
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_read_is_named_and_nobody_is_blamed() {
    let bench = bench(&[alert("lost", true)]);
    bench.cluster.writes("s1", b"INFO started");
    bench.cluster.refuses("s2", Some(LogError::Slow));
    bench.cluster.refuses("c1", Some(LogError::Refused));
    bench.shared();
    sleep(Duration::from_secs(20)).await;
    let silent = bench.heard().silent.unwrap();
    assert!(
        silent.why.starts_with("pod c1 of the canary: its log cannot be read: the API server refuses it; Haldane needs get on pods/log"),
        "{}",
        silent.why
    );
    assert!(bench.read().samples.is_empty());
    bench.cluster.refuses("c1", None);
    bench.cluster.writes("c1", b"INFO started");
    sleep(Duration::from_secs(12)).await;
    assert_eq!(bench.heard().silent, None, "one of stable's is enough");
    bench.cluster.refuses("s1", Some(LogError::Slow));
    *bench.cluster.breaks.lock().unwrap() = Some(0);
    bench.cluster.writes("s1", b"INFO");
    bench.cluster.pods.lock().unwrap().remove("s1");
    bench.cluster.grown.send_replace(());
    sleep(Duration::from_secs(12)).await;
    assert!(bench.heard().silent.unwrap().why.contains(" of stable: its log "));
    bench.cluster.writes("c1", b"lost");
    sleep(Duration::from_secs(12)).await;
    assert_eq!(bench.heard().alarm, None, "nobody knows whether stable writes that, too");
}

#[tokio::test(start_paused = true)]
async fn more_than_can_be_read_says_nothing_until_it_ends() {
    let bench = bench(&[]);
    bench.all_write(b"INFO started");
    bench.shared();
    sleep(Duration::from_secs(3)).await;
    let much = vec![b'x'; 1024 * 1024];
    (0..8).for_each(|_| bench.cluster.writes("c1", &much));
    sleep(Duration::from_secs(2)).await;
    assert!(bench.heard().silent.unwrap().why.contains("is more than 5 MiB a second"), "{:?}", bench.heard());
    sleep(Duration::from_secs(20)).await;
    assert_eq!(bench.heard().silent, None);
    for n in 0..10 {
        bench.cluster.writes("c1", format!("ERROR lost {n}").as_bytes());
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(10)).await;
    assert_eq!(bench.counted().get("\"ERROR lost #\""), Some(&(10, 0)), "and what comes then is heard");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_just_started_is_only_heard_by_alerts() {
    let bench = bench(&[alert("no schema", true)]);
    bench.all_write(b"INFO started");
    bench.shared();
    let young = |bench: &Bench| {
        let mut followed =
            bench.board.watched.lock().unwrap().get(&key()).unwrap().follower.as_ref().unwrap().told.borrow().followed.clone();
        followed.canary[0].ready = Some(bench.cluster.now());
        bench.board.watch(&key(), Watch { about: "v2".into(), stage: "Canary 0".into(), follower: Some(followed), ..Watch::default() });
    };
    young(&bench);
    for _ in 0..25 {
        sleep(Duration::from_secs(1)).await;
        bench.cluster.writes("c1", b"ERROR database is not there yet, trying again");
    }
    sleep(Duration::from_secs(10)).await;
    assert!(bench.counted().is_empty(), "{:?}", bench.counted());
    bench.cluster.writes("c1", b"no schema");
    sleep(Duration::from_secs(2)).await;
    assert!(bench.heard().alarm.is_some());
}

#[tokio::test(start_paused = true)]
async fn whatever_is_in_a_log_it_is_read_on() {
    let bench = bench(&[]);
    bench.all_write(b"INFO started");
    bench.shared();
    sleep(Duration::from_secs(2)).await;
    let hostile: BTreeSet<&[u8]> =
        [&b""[..], b"\xff\xfe\x00", b"ERROR", b"{\"level\":\"error\"", b"level=error \x1b[", b"ERROR \xc3\x28 \x00"].into();
    for _ in 0..20 {
        for line in &hostile {
            bench.cluster.writes("c1", line);
        }
        bench.cluster.writes("c1", &vec![b'E'; 100_000]);
        sleep(Duration::from_secs(1)).await;
    }
    bench.cluster.writes("c1", b"ERROR lost");
    sleep(Duration::from_secs(10)).await;
    assert!(bench.counted().contains_key("\"ERROR lost\""), "{:?}", bench.counted());
    for kind in 0..500_u32 {
        let letters: String = format!("{kind:03}").bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
        bench.cluster.writes("c1", format!("ERROR lost {letters}").as_bytes());
    }
    sleep(Duration::from_secs(10)).await;
    assert!(bench.counted().len() <= 64, "{}", bench.counted().len());
}
