//! A cluster with an app in it and the real controller beside it, which is started again whenever it dies.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt as _};
use haldane::{
    clock::Clock,
    control::{Identity, Options, Parts, run},
    edge::probe::{self, Entry, Prober, Swept},
    model::{
        external::{Question, Word},
        probe::{Check, Class, Outcome, Run, RunName},
    },
};
use jiff::Timestamp;
use serde_json::Value;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{self, APP, NAMESPACE, V1, V2, V3, Way},
    diary::Diary,
    invariants::{CRON_IMAGE, Watchman, i16, i24},
    sim::{
        Answer, ApiServer, Behaviour, Incarnation, Key, SimClock, Store, World,
        api::{
            kinds::{CONTROLLER_REVISION, CRON_JOB, DELIVERY, DEPLOYMENT, HTTP_ROUTE, POD, RELEASE, SERVICE},
            write::{Deletion, Propagation},
        },
        json,
    },
};

/// As the API server knows the controller.
pub const USER: &str = "haldane";
/// No step of any story takes longer.
pub const LONG: Duration = Duration::from_mins(8);
/// A dead controller is back after that.
const RESTART: Duration = Duration::from_secs(2);

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Self::now(self)
    }
}

/// The cluster, the app and the controller.
pub struct Town {
    pub api: ApiServer,
    pub world: Arc<World>,
    pub diary: Diary,
    pub watchman: Watchman,
    controllers: Mutex<Vec<Controller>>,
    seed: u64,
    pub way: Way,
    /// What a probe has ordered.
    pub orders: Arc<Mutex<Orders>>,
}

/// The orders of a probe, in an app that keeps them whatever becomes of its pods.
#[derive(Default)]
pub struct Orders {
    pub open: BTreeSet<RunName>,
    pub all: usize,
    /// What somebody else says whose word a version waits for, and how often that was asked.
    pub word: Option<Word>,
    pub asked: usize,
}

/// A process that Kubernetes starts again.
struct Controller {
    task: JoinHandle<()>,
    life: Arc<Mutex<Option<Life>>>,
}

struct Life {
    incarnation: Arc<Incarnation>,
    alive: Arc<AtomicBool>,
}

impl Controller {
    fn kill(&self) {
        if let Some(life) = lock(&self.life).as_ref() {
            life.incarnation.kill();
            life.alive.store(false, Ordering::Release);
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.task.abort();
        self.kill();
    }
}

impl Town {
    /// Three pods of v1 behind a Service, and no controller yet.
    pub async fn built(seed: u64) -> Self {
        Self::built_by(Way::Service, seed).await
    }

    /// The same for an app of that way: its route stands too.
    pub async fn built_by(way: Way, seed: u64) -> Self {
        let api = ApiServer::new(seed);
        let world = Arc::new(World::start(&api, seed));
        api.add_namespace(NAMESPACE);
        let (diary, watchman) = (Diary::new(api.clock()), Watchman::new(api.clock(), world.plane()));
        let town = Self { diary, watchman, api, world, controllers: Mutex::default(), seed, way, orders: Arc::default() };
        for image in [V1, V2, V3] {
            town.behave(image, Behaviour::default());
        }
        town.diary.read(&town.api, town.world.plane());
        town.watchman.watch(&town.api);
        if way.by_route() {
            town.settle_app(app::HELP).await;
        }
        town.settle_app(APP).await;
        if way.by_route() {
            town.api.seed(&app::gateway());
            town.world.apply(&app::route(APP)).unwrap();
            town.world.settle_for(Duration::from_secs(3), LONG).await;
        }
        town
    }

    /// The pods of an image behave so. Where stable rolls with its traffic on it, they drain as well: whoever is gone at SIGTERM loses
    /// requests in any roll of Kubernetes.
    pub fn behave(&self, image: &str, behaviour: Behaviour) {
        let drains = behaviour.drains || self.way == Way::Small;
        self.world.set_behaviour(image, Behaviour { drains, ..behaviour });
    }

    /// The same with a controller that has adopted it.
    pub async fn open(seed: u64) -> Self {
        Self::open_by(Way::Service, seed).await
    }

    pub async fn open_by(way: Way, seed: u64) -> Self {
        let town = Self::built_by(way, seed).await;
        town.start();
        town.adopt(APP).await;
        town
    }

    /// The same in a hurry.
    pub async fn hurried(seed: u64) -> Self {
        Self::hurried_by(Way::Service, seed).await
    }

    pub async fn hurried_by(way: Way, seed: u64) -> Self {
        let town = Self::built_by(way, seed).await;
        town.api.seed(&app::hurried_probe(APP));
        town.api.seed(&app::cron_job(app::V1));
        town.api.seed(&app::with_cron_job(app::by(way, app::hurried(APP))));
        town.start();
        town.phase("Live").await;
        town.rest().await;
        town
    }

    /// The same as open, judged by its users' requests.
    pub async fn counted(seed: u64) -> Self {
        let town = Self::built(seed).await;
        town.api.seed(&app::probe(APP));
        town.api.seed(&app::counted(app::delivery(APP)));
        town.start();
        town.phase("Live").await;
        town.rest().await;
        town
    }

    /// The same as open, with a `CronJob` of the app's image.
    pub async fn with_cron_job(seed: u64) -> Self {
        let town = Self::built(seed).await;
        town.api.seed(&app::cron_job(app::V1));
        town.api.seed(&app::probe(APP));
        town.api.seed(&app::with_cron_job(app::delivery(APP)));
        town.start();
        town.phase("Live").await;
        town.rest().await;
        town
    }

    pub async fn adopt(&self, name: &str) {
        self.api.seed(&app::probe(name));
        self.api.seed(&app::by(self.way, app::delivery(name)));
        self.phase_of(name, "Live").await;
        self.rest().await;
    }

    /// One more app, its pods ready.
    pub async fn settle_app(&self, name: &str) {
        self.world.apply(&app::deployment(name, &app::first_image(name))).unwrap();
        self.world.apply(&app::service(name)).unwrap();
        let all = |store: &Store| {
            store.find(&DEPLOYMENT, NAMESPACE, name).is_some_and(|d| json::count(d, "/status/availableReplicas") == app::REPLICAS)
        };
        assert!(self.world.until(LONG, all).await, "{name} never became available");
        self.world.settle_for(Duration::from_secs(3), LONG).await;
    }

    /// Starts a controller that is alone.
    pub fn start(&self) {
        self.start_as(Arc::new(|_| Identity::Alone));
    }

    /// Starts a controller; `identity` is asked for each of its lives, counted from 0.
    pub fn start_as(&self, identity: Arc<dyn Fn(usize) -> Identity + Send + Sync>) {
        let life = Arc::new(Mutex::new(None));
        let supervisor = Supervisor {
            api: self.api.clone(),
            world: self.world.clone(),
            diary: self.diary.clone(),
            watchman: self.watchman.clone(),
            life: life.clone(),
            lives: AtomicUsize::new(0),
            seed: self.seed,
            orders: self.orders.clone(),
        };
        let task = tokio::spawn(supervisor.run(identity));
        lock(&self.controllers).push(Controller { task, life });
    }

    /// Ends every controller for good.
    pub fn stop(&self) {
        lock(&self.controllers).clear();
        self.watchman.absent();
    }

    /// Waits until the app is in that phase.
    pub async fn phase(&self, phase: &str) {
        self.phase_of(APP, phase).await;
    }

    pub async fn phase_of(&self, name: &str, phase: &str) {
        let so = |store: &Store| store.find(&DELIVERY, NAMESPACE, name).is_some_and(|d| json::text(d, "/status/phase") == phase);
        self.until(&format!("{name} is {phase}"), so).await;
    }

    /// Waits until the stored state is so.
    pub async fn until(&self, what: &str, so: impl Fn(&Store) -> bool) {
        assert!(self.world.until(LONG, so).await, "never came: {what}\n{}", self.report());
    }

    /// Waits until the app's version with that tag is live and nothing is in flight.
    pub async fn live(&self, tag: &str) {
        let so = |store: &Store| {
            store.find(&DELIVERY, NAMESPACE, APP).is_some_and(|d| {
                json::text(d, "/status/live/version") == tag && ["Live", "RolledBack"].contains(&json::text(d, "/status/phase"))
            })
        };
        self.until(&format!("{tag} is live"), so).await;
        self.rest().await;
    }

    /// Lets virtual time pass.
    pub async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Until nothing is stored for five seconds.
    pub async fn rest(&self) {
        assert!(self.world.settle_for(Duration::from_secs(8), LONG).await, "it never came to rest\n{}", self.report());
    }

    // ---- what people do

    /// `kubectl set image`.
    pub fn set_image(&self, image: &str) {
        self.diary.tell("owner", format!("kubectl set image deploy/{APP} app={}", app::tag(image)));
        self.world.set_image(NAMESPACE, APP, image);
    }

    /// `kubectl set image` of its `CronJob`.
    pub fn set_cron_image(&self, image: &str) {
        self.diary.tell("owner", format!("kubectl set image cronjob/{} app={}", app::CRON_JOB, app::tag(image)));
        let key = Key::new(&CRON_JOB, NAMESPACE, app::CRON_JOB);
        let by = crate::sim::api::managed::Writer::new("kubectl-set");
        self.api.write(|store| store.edit(&by, &key, "", |c| *c.pointer_mut(CRON_IMAGE).unwrap() = image.into())).unwrap();
    }

    /// An act in words, then the act.
    pub fn does<R>(&self, words: &str, act: impl FnOnce(&World) -> R) -> R {
        self.diary.tell("owner", words);
        act(&self.world)
    }

    /// `kubectl delete dlv`.
    pub fn delete_delivery(&self, propagation: Propagation) {
        let how = if matches!(propagation, Propagation::Foreground) { " --cascade=foreground" } else { "" };
        self.diary.tell("owner", format!("kubectl delete dlv {APP}{how}"));
        self.world.delete(&Key::new(&DELIVERY, NAMESPACE, APP), &Deletion::with(propagation));
    }

    /// A Hold or a Command.
    pub fn create(&self, words: &str, manifest: &Value) {
        self.diary.tell("owner", words);
        self.api.seed(manifest);
    }

    /// Something changes on the Delivery that means nothing.
    pub fn touch(&self, n: usize) {
        let key = Key::new(&DELIVERY, NAMESPACE, APP);
        let by = crate::sim::api::managed::Writer::new("kubectl-annotate");
        self.api.write(|store| store.edit(&by, &key, "", |d| json::set(d, "/metadata/annotations/touched", n.to_string().into()))).ok();
    }

    // ---- what is there

    pub fn get(&self, kind: &'static crate::sim::Kind, name: &str) -> Option<Value> {
        self.api.read(|store| store.find(kind, NAMESPACE, name).cloned())
    }

    pub fn deployment(&self) -> Value {
        self.get(&DEPLOYMENT, APP).unwrap_or_default()
    }

    pub fn service(&self) -> Value {
        self.get(&SERVICE, APP).unwrap_or_default()
    }

    pub fn status(&self) -> Value {
        self.get(&DELIVERY, APP).map(|d| d["status"].clone()).unwrap_or_default()
    }

    /// Everything that should be the same at the end, however the way there was.
    pub fn end_state(&self) -> Value {
        self.api.read(|store| {
            let kinds = [&DEPLOYMENT, &CRON_JOB, &SERVICE, &HTTP_ROUTE, &DELIVERY, &RELEASE, &CONTROLLER_REVISION];
            let objects =
                kinds.iter().flat_map(|kind| store.list(kind, NAMESPACE).map(|o| (format!("{} {}", kind.kind, json::name(o)), masked(o))));
            // What was bet on is never the same twice.
            let objects = objects.filter(|(_, object)| object["metadata"]["labels"]["haldane.dev/evidence"].is_null());
            let mut all: serde_json::Map<String, Value> = objects.collect();
            let mut pods: Vec<String> = store.list(&POD, NAMESPACE).map(|p| json::text(p, "/spec/containers/0/image").to_owned()).collect();
            pods.sort();
            all.insert("pods".to_owned(), pods.into());
            Value::Object(all)
        })
    }

    /// At rest the owner's objects are as they wrote them.
    pub fn home(&self) -> Result<(), String> {
        self.api.read(i24)?;
        self.watchman.is_home(&self.api)
    }

    /// After the Delivery is gone, everything is its owner's again.
    pub fn gone(&self) -> Result<(), String> {
        self.api.read(i16)?;
        self.watchman.is_home(&self.api)
    }

    /// What happened, for a failing test.
    pub fn report(&self) -> String {
        let log: Vec<String> = self.api.writes(USER).iter().map(ToString::to_string).collect();
        format!(
            "{}\n--- writes\n{}\n--- violations\n{}\n--- status\n{:#}",
            self.diary.text(),
            log.join("\n"),
            self.violations().join("\n"),
            self.status()
        )
    }

    /// What broke an invariant.
    pub fn violations(&self) -> Vec<String> {
        self.watchman.overdue(&self.api);
        let mut all: Vec<String> = self.api.violations().iter().map(|v| format!("{} {}: {}", v.at, v.change, v.what)).collect();
        all.extend(self.watchman.defects());
        all
    }

    /// Everything as it should be whenever a story is over.
    pub fn check(&self) {
        let found = self.violations();
        assert!(found.is_empty(), "{}\n{}", found.join("\n"), self.report());
    }
}

/// Without what differs from run to run.
fn masked(object: &Value) -> Value {
    let mut object = object.clone();
    for place in
        ["/metadata/uid", "/metadata/resourceVersion", "/metadata/creationTimestamp", "/metadata/managedFields", "/metadata/generation"]
    {
        json::remove(&mut object, place);
    }
    match object["kind"].as_str() {
        Some("Deployment" | "CronJob" | "Service" | "HTTPRoute") => json::remove(&mut object, "/status"),
        Some("Release") => {
            let outcome = object["status"]["outcome"].clone();
            object["status"] = outcome;
        }
        Some("Delivery") => {
            let status = object["status"].clone();
            let releases: Vec<Value> = json::list(&status, "/quarantine")
                .iter()
                .map(|q| serde_json::json!([q["release"], q["outcome"], q["why"]["reason"]]))
                .collect();
            object["status"] = serde_json::json!({
                "phase": status["phase"], "reason": status["reason"], "live": status["live"]["version"],
                "desired": status["desired"]["version"], "quarantine": releases,
            });
        }
        _ => {}
    }
    json::remove(&mut object, "/metadata/annotations/deployment.kubernetes.io~1revision");
    json::remove(&mut object, "/metadata/annotations/touched");
    object
}

struct Supervisor {
    api: ApiServer,
    world: Arc<World>,
    diary: Diary,
    watchman: Watchman,
    life: Arc<Mutex<Option<Life>>>,
    lives: AtomicUsize,
    seed: u64,
    orders: Arc<Mutex<Orders>>,
}

impl Supervisor {
    async fn run(self, identity: Arc<dyn Fn(usize) -> Identity + Send + Sync>) {
        loop {
            let life = self.lives.fetch_add(1, Ordering::AcqRel);
            let incarnation = Arc::new(self.api.incarnation(USER));
            let alive = Arc::new(AtomicBool::new(true));
            *lock(&self.life) = Some(Life { incarnation: incarnation.clone(), alive: alive.clone() });
            self.watchman.present();
            let parts = Parts {
                client: incarnation.client.clone(),
                clock: Arc::new(self.api.clock()),
                sources: None,
                hooks: None,
                prober: Arc::new(SimProber {
                    api: self.api.clone(),
                    world: self.world.clone(),
                    diary: self.diary.clone(),
                    alive: alive.clone(),
                    orders: self.orders.clone(),
                }),
                identity: identity(life),
                options: Options {
                    instance: format!("haldane-{}-{life}", self.seed),
                    compare_definitions: false,
                    listen: None,
                    ..Options::default()
                },
            };
            // Everything that it has begun ends with it.
            let mut process = JoinSet::new();
            process.spawn(run(parts, CancellationToken::new()));
            tokio::select! {
                biased;
                () = incarnation.crashed() => {}
                ended = process.join_next() => self.watchman.defect(format!("the controller ended by itself: {ended:?}")),
            }
            alive.store(false, Ordering::Release);
            self.watchman.absent();
            drop(process);
            tokio::time::sleep(RESTART).await;
        }
    }
}

/// Asks the pods of the world instead of a network.
struct SimProber {
    api: ApiServer,
    world: Arc<World>,
    diary: Diary,
    alive: Arc<AtomicBool>,
    orders: Arc<Mutex<Orders>>,
}

/// Between what a flow does one after the other.
const MOMENT: Duration = Duration::from_millis(300);

impl SimProber {
    /// Orders, asks, and cancels; a process that is gone does nothing more.
    async fn order(&self, check: &Check, target: SocketAddr, entry: Entry) -> Run {
        let number = u16::try_from(lock(&self.orders).all).unwrap();
        let mut random = [0; RunName::RANDOM];
        random[..2].copy_from_slice(&number.to_be_bytes());
        random[2] = target.ip().to_string().bytes().fold(0, u8::wrapping_add);
        let run = RunName::new(self.api.clock().now(), random);
        let void = |why: String| Outcome::Void { class: Class::Prober, said: why };
        let _alive = match entry.ledger.open(&entry.page, &run, Duration::from_mins(3)).await {
            Ok(alive) => alive,
            Err(why) => return Run { unwritten: Some(why.to_string()), ..Run::from(void(why.to_string())) },
        };
        self.moment().await;
        {
            let mut orders = lock(&self.orders);
            orders.open.insert(run.clone());
            orders.all += 1;
        }
        self.moment().await;
        let kept = BTreeMap::from([("id".to_owned(), run.as_str().to_owned())]);
        let outcome = match entry.ledger.keep(&entry.page, &run, &kept).await {
            Ok(()) => self.ask(check, target).await,
            Err(why) => void(why.to_string()),
        };
        self.moment().await;
        lock(&self.orders).open.remove(&run);
        entry.ledger.close(&entry.page, &run, None).await;
        Run::from(outcome)
    }

    async fn moment(&self) {
        tokio::time::sleep(MOMENT).await;
        if !self.alive.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
    }

    async fn ask(&self, check: &Check, target: SocketAddr) -> Outcome {
        let took = Duration::from_millis(5);
        tokio::time::sleep(took).await;
        if !self.alive.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
        let (Some(step), ip) = (check.steps.first(), target.ip().to_string()) else {
            return Outcome::Void { class: Class::Spec, said: "no step".to_owned() };
        };
        let answer = self.world.ask(&ip);
        self.diary.probe(&self.api, &check.name, &ip, answer);
        let fail = |class, said: String, status, took| Outcome::Fail { class, step: step.name.clone(), said, status, took };
        let asked = format!("{} {}", step.method, step.shown_path());
        match answer {
            Answer::Status(code) if step.expect.accepts(code) => Outcome::Pass { took },
            Answer::Status(code) => {
                fail(Class::HttpStatus, format!("{asked} answered {code}, expected {}", step.expect.wanted()), Some(code), took)
            }
            Answer::Refused => fail(Class::Connect, format!("{asked} was refused"), None, took),
            Answer::Timeout => {
                tokio::time::sleep(step.deadline).await;
                fail(Class::Timeout, format!("{asked} did not answer within {:?}", step.deadline), None, step.deadline)
            }
        }
    }
}

impl Prober for SimProber {
    fn run<'a>(&'a self, check: &'a Arc<Check>, target: SocketAddr, _: SocketAddr, entry: Option<Entry>) -> BoxFuture<'a, Run> {
        match entry {
            Some(entry) => self.order(check, target, entry).boxed(),
            None => self.ask(check, target).map(Run::from).boxed(),
        }
    }

    fn put_right<'a>(
        &'a self,
        check: &'a Check,
        _: SocketAddr,
        run: &'a RunName,
        kept: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Option<String>> {
        async move {
            self.moment().await;
            // Without the number of the order nobody can cancel it, unless it is found by its name.
            if kept.contains_key("id") || check.sweep.is_some() {
                lock(&self.orders).open.remove(run);
            }
            None
        }
        .boxed()
    }

    fn sweep<'a>(&'a self, _: &'a Check, _: SocketAddr, _: &'a (dyn Fn(&RunName) -> bool + Send + Sync)) -> BoxFuture<'a, Swept> {
        std::future::ready(Swept::default()).boxed()
    }

    fn word<'a>(&'a self, _: &'a Question, _: Timestamp) -> BoxFuture<'a, probe::Answer> {
        Box::pin(async move {
            self.moment().await;
            let mut orders = lock(&self.orders);
            orders.asked += 1;
            let word = orders.word.clone().unwrap_or_else(|| Word::Wait("was answered 503".to_owned()));
            probe::Answer { word, again: Duration::from_secs(15) }
        })
    }

    fn metrics<'a>(&'a self, at: SocketAddr, _: &'a str) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            if !self.alive.load(Ordering::Acquire) {
                std::future::pending::<()>().await;
            }
            self.world.page(&at.ip().to_string()).ok_or_else(|| "cannot be had: nothing answers".to_owned())
        })
    }
}

/// A test that panicked while it held this has failed already.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
