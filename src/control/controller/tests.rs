//! The loop on a small API server: lists, watches that stay silent or say one thing, and refusals.

use std::{
    collections::BTreeMap,
    sync::{Mutex, atomic::AtomicU32},
};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use jiff::Timestamp;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::unbounded_channel,
    time::{Instant, sleep, timeout},
};

use super::*;
use crate::{
    clock::Clock,
    control::{
        lease::{Elector, LeaderProof},
        memory::{Memories, Memory},
        reconcile::Error,
        turn::{Pass, Passed},
    },
    metrics::PassResult,
};

type Answer = Response<BoxBody<Bytes, std::io::Error>>;

struct Epoch;

impl Clock for Epoch {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

/// What the API server does: by plural, the objects of a list, or a refusal; and what a watch says after one second.
#[derive(Clone, Default)]
struct Server {
    lists: BTreeMap<&'static str, Vec<Value>>,
    refuses: Vec<&'static str>,
    news: BTreeMap<&'static str, Value>,
}

impl Server {
    fn client(self) -> Client {
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        Client::new(
            tower::service_fn(move |request: Request<Body>| {
                let (server, told) = (self.clone(), told.clone());
                async move { Ok::<_, std::io::Error>(server.answer(&request, &told)) }
            }),
            "default",
        )
    }

    fn answer(&self, request: &Request<Body>, told: &Mutex<Vec<String>>) -> Answer {
        let plural = request.uri().path().rsplit('/').next().unwrap_or_default();
        let is_watch = request.uri().query().unwrap_or_default().contains("watch=true");
        if self.refuses.contains(&plural) {
            let status =
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "Forbidden", "code": 403});
            return whole(403, &status);
        }
        if !is_watch {
            let items = self.lists.get(plural).cloned().unwrap_or_default();
            return whole(200, &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}));
        }
        let mut told = told.lock().unwrap();
        let news = self.news.get(plural).filter(|_| !told.iter().any(|t| t == plural)).cloned();
        told.push(plural.to_owned());
        let said = async move {
            sleep(Duration::from_secs(1)).await;
            match news {
                Some(object) => Ok(Frame::data(Bytes::from(format!("{}\n", json!({"type": "MODIFIED", "object": object}))))),
                None => std::future::pending().await,
            }
        };
        Response::new(http_body_util::BodyExt::boxed(StreamBody::new(stream::once(said).chain(stream::pending()))))
    }
}

fn whole(code: u16, body: &Value) -> Answer {
    let body = http_body_util::Full::new(Bytes::from(body.to_string())).map_err(|never| match never {});
    Response::builder().status(code).body(body.boxed()).unwrap()
}

fn delivery(name: &str) -> Value {
    json!({
        "apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery",
        "metadata": {"namespace": "shop", "name": name, "uid": name, "resourceVersion": "1"},
        "spec": {"workloads": [{"name": name}]},
    })
}

/// Notes when it was asked about whom; does what its script says.
#[derive(Clone, Default)]
struct Script {
    seen: Arc<Mutex<Vec<(String, Instant)>>>,
    panics: &'static str,
    fails: &'static str,
    hangs: &'static str,
    finished: Arc<AtomicU32>,
    takes: Duration,
}

impl Script {
    fn times(&self, name: &str) -> Vec<Instant> {
        self.seen.lock().unwrap().iter().filter(|(n, _)| n == name).map(|(_, at)| *at).collect()
    }
}

impl Pass for Script {
    fn pass<'a>(&'a self, key: &'a Key, _: &'a LeaderProof, _: &'a mut Memory) -> BoxFuture<'a, Result<Passed, Error>> {
        async move {
            self.seen.lock().unwrap().push((key.name.clone(), Instant::now()));
            assert!(key.name != self.panics, "out of order");
            if key.name == self.hangs {
                std::future::pending::<()>().await;
            }
            if key.name == self.fails {
                return Err(Error::Unanswered { limit: Duration::ZERO });
            }
            sleep(self.takes).await;
            self.finished.fetch_add(1, Ordering::Relaxed);
            Ok(Passed::Again(Duration::from_mins(10)))
        }
        .boxed()
    }

    fn gone(&self, _: &Key) {}
}

struct Run {
    script: Script,
    ctx: Arc<Ctx>,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
    nudge: tokio::sync::mpsc::UnboundedSender<Key>,
    synced: Arc<Synced>,
}

fn run(server: Server, script: Script, leadership: crate::control::lease::Leadership) -> Run {
    let ctx = Arc::new(Ctx {
        pass: Box::new(script.clone()),
        leadership,
        memories: Memories::default(),
        metrics: Arc::new(Metrics::new().unwrap()),
    });
    let (nudge, nudges) = unbounded_channel();
    let (stop, synced) = (CancellationToken::new(), Arc::<Synced>::default());
    let scope = Scope::Namespace("shop".to_owned());
    let watches = Watches {
        cluster: Cluster::new(server.client()),
        scope,
        home: "haldane-system".to_owned(),
        index: Arc::default(),
        synced: synced.clone(),
        concurrency: CONCURRENCY,
    };
    let ended = tokio::spawn(watches.run(ctx.clone(), nudges, stop.clone()));
    Run { script, ctx, stop, ended, nudge, synced }
}

fn leading(server: Server, script: Script) -> Run {
    run(server, script, Elector::alone(&Epoch))
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_decoded_does_not_stop_the_other_nine() {
    let names: Vec<String> = (0..9).map(|n| format!("app-{n}")).collect();
    let mut listed: Vec<Value> = names.iter().map(|n| delivery(n)).collect();
    listed.insert(
        4,
        json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery", "metadata": {"namespace": "shop", "name": "poison"}, "spec": 7}),
    );
    let run = leading(Server { lists: [("deliveries", listed)].into(), ..Server::default() }, Script::default());
    sleep(Duration::from_secs(5)).await;
    for name in names {
        assert_eq!(run.script.times(&name).len(), 1, "{name}");
    }
    assert_eq!(run.script.times("poison").len(), 1, "and it is told on the object itself");
    assert!(run.synced.done());
}

#[tokio::test(start_paused = true)]
async fn a_panic_over_one_does_not_stop_the_others_and_slows_down() {
    let listed = ["good", "bad"].map(delivery).to_vec();
    let script = Script { panics: "bad", ..Script::default() };
    let run = leading(Server { lists: [("deliveries", listed)].into(), ..Server::default() }, script);
    sleep(Duration::from_mins(1)).await;
    let tries = run.script.times("bad");
    let pauses: Vec<u64> = tries.windows(2).map(|w| (w[1] - w[0]).as_secs()).collect();
    assert_eq!(pauses, [0, 0, 0, 1, 3, 6, 12, 25], "200 ms, doubling");
    run.nudge.send(Key::new("shop", "good")).unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(run.script.times("good").len(), 2);
    assert!(run.ctx.metrics.render().unwrap().contains(&format!("haldane_panics_total {}", tries.len())));
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_hangs_is_dropped_after_its_limit_and_the_others_go_on() {
    let listed = ["good", "stuck"].map(delivery).to_vec();
    let script = Script { hangs: "stuck", ..Script::default() };
    let run = leading(Server { lists: [("deliveries", listed)].into(), ..Server::default() }, script);
    sleep(crate::control::turn::PASS + Duration::from_secs(5)).await;
    assert_eq!(run.script.times("good").len(), 1);
    assert_eq!(run.script.times("stuck").len(), 2);
    run.ctx.metrics.pass(PassResult::Done, Duration::ZERO);
    assert!(run.ctx.metrics.render().unwrap().contains("haldane_reconciles_total{result=\"slow\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_watch_does_not_slow_the_others_down() {
    let changed =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "shop", "name": "app", "resourceVersion": "2"}});
    let server = Server {
        lists: [("deliveries", ["app", "other"].map(delivery).to_vec())].into(),
        refuses: vec!["services", "holds", "productionprobes"],
        news: [("deployments", changed)].into(),
    };
    let run = leading(server, Script::default());
    sleep(Duration::from_secs(3)).await;
    let seen = run.script.times("app");
    assert_eq!(seen.len(), 2, "once at the start, once for its Deployment");
    assert!(seen[1] - seen[0] < Duration::from_millis(1500), "{:?}", seen[1] - seen[0]);
    assert_eq!(run.script.times("other").len(), 1);
    assert!(run.ctx.metrics.render().unwrap().contains("haldane_watch_errors_total{object=\"Service\"}"));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_may_not_be_read_does_not_end_the_loop() {
    let run = leading(Server { refuses: vec!["deliveries"], ..Server::default() }, Script::default());
    sleep(Duration::from_mins(5)).await;
    assert!(!run.ended.is_finished());
    assert!(run.synced.refused() && !run.synced.done());
}

#[tokio::test(start_paused = true)]
async fn a_follower_does_nothing() {
    let holder = crate::control::lease::Holder::new("pod", "1").unwrap();
    let (_elector, leadership) = Elector::new(Server::default().client(), "haldane-system", "haldane", holder, Arc::new(Epoch));
    let server = Server { lists: [("deliveries", vec![delivery("app")])].into(), ..Server::default() };
    let run = run(server, Script::default(), leadership);
    sleep(Duration::from_mins(20)).await;
    assert_eq!(run.script.times("app"), []);
    assert!(run.synced.done(), "but it knows what there is, for when it leads");
}

#[tokio::test(start_paused = true)]
async fn the_pass_in_hand_finishes_before_the_loop_ends_and_nothing_new_begins() {
    let server = Server { lists: [("deliveries", vec![delivery("app")])].into(), ..Server::default() };
    let run = leading(server, Script { takes: Duration::from_millis(1500), ..Script::default() });
    sleep(Duration::from_millis(100)).await;
    run.stop.cancel();
    run.nudge.send(Key::new("shop", "app")).unwrap();
    timeout(Duration::from_millis(1500), run.ended).await.unwrap().unwrap();
    assert_eq!(run.script.finished.load(Ordering::Relaxed), 1);
    assert_eq!(run.script.times("app").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_takes_too_long_is_dropped_at_the_end() {
    let server = Server { lists: [("deliveries", vec![delivery("app")])].into(), ..Server::default() };
    let run = leading(server, Script { hangs: "app", ..Script::default() });
    sleep(Duration::from_millis(100)).await;
    run.stop.cancel();
    timeout(GRACE + Duration::from_millis(10), run.ended).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_and_a_change_does_not_wait_for_it() {
    let server = Server { lists: [("deliveries", vec![delivery("app")])].into(), ..Server::default() };
    let run = leading(server, Script { fails: "app", ..Script::default() });
    sleep(Duration::from_secs(20)).await;
    let before = run.script.times("app").len();
    assert_eq!(before, 7, "at 0, 0.2, 0.6, 1.4, 3, 6.2 and 12.6 s");
    run.nudge.send(Key::new("shop", "app")).unwrap();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(run.script.times("app").len(), before + 1);
}
