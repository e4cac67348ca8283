//! The API server: a handle that many may hold, over one state.
//!
//! Everything that happens is ordered by one lock and by virtual time, so one seed gives one history. Every request takes a few
//! seeded milliseconds of virtual time: without that, a controller that loops without waiting would never let the clock move,
//! and a test could not end it.

pub mod access;
mod defaults;
pub mod faults;
mod handle;
pub mod kinds;
pub mod log;
pub mod managed;
pub mod patch;
pub mod refusal;
pub mod request;
mod routing;
pub mod selector;
mod serve;
pub mod store;
mod watch;
pub mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::watch as bell;

use self::{
    faults::{Fault, Hook, Stage},
    kinds::Kind,
    log::{Entry, Outcome},
    request::Call,
    store::{Observer, Store, Violation},
};
use super::{
    clock::SimClock,
    rng::{self, Rng},
};

/// How the server behaves on a good day. Milliseconds are virtual.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub seed: u64,
    /// Least and most time of a request.
    pub latency_ms: (u64, u64),
    /// How far a watch is behind the store.
    pub watch_lag_ms: (u64, u64),
}

impl Options {
    /// 1–4 ms a request, watches 0–12 ms behind.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, latency_ms: (1, 4), watch_lag_ms: (0, 12) }
    }
}

/// The in-memory API server. Clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    state: Arc<Mutex<State>>,
    bell: Arc<bell::Sender<u64>>,
    clock: SimClock,
}

struct State {
    store: Store,
    options: Options,
    /// The delays of each question, by its hash.
    asked: BTreeMap<u32, Rng>,
    log: Vec<Entry>,
    hooks: Vec<Hook>,
    rule: access::Rule,
    incarnations: u32,
    crashed: BTreeSet<u32>,
    watches: watch::Controls,
}

impl State {
    fn latency(&mut self, method: &str, path: &str, body: &[u8]) -> Duration {
        let body = serde_json::from_slice(body).map(what_is_meant).unwrap_or_default();
        self.delay(&format!("{method} {path} {body}"), self.options.latency_ms)
    }

    fn watch_lag(&mut self, plural: &str) -> Duration {
        self.delay(&format!("watch {plural}"), self.options.watch_lag_ms)
    }

    /// The n-th delay of one question is the seed's, whatever else is asked meanwhile: of two writes that are sent at once the
    /// same one arrives first in every run, however often something else was written to the same place before.
    fn delay(&mut self, question: &str, (low, high): (u64, u64)) -> Duration {
        let hash = rng::fnv32(question.as_bytes());
        let seed = self.options.seed ^ u64::from(hash);
        self.asked.entry(hash).or_insert_with(|| Rng::new(seed)).millis(low, high)
    }

    fn ask_hooks(&mut self, call: &Call, stage: Stage) -> Option<Fault> {
        self.hooks.iter_mut().find_map(|hook| hook(call, stage))
    }

    fn close(&mut self, number: u64, outcome: Outcome) {
        if let Some(entry) = usize::try_from(number).ok().and_then(|index| self.log.get_mut(index)) {
            entry.outcome = outcome;
        }
    }
}

/// A body without what counts the writes of others: identities, versions, and what a JSON patch expects to find.
fn what_is_meant(body: Value) -> Value {
    match body {
        Value::Object(map) => {
            let counted = |key: &str| ["uid", "resourceVersion"].contains(&key);
            map.into_iter().filter(|(key, _)| !counted(key)).map(|(key, value)| (key, what_is_meant(value))).collect()
        }
        Value::Array(items) => items.into_iter().filter(|item| item["op"] != "test").map(what_is_meant).collect(),
        other => other,
    }
}

/// One life of a process that uses the API: its client, and the news of its death.
pub struct Incarnation {
    pub id: u32,
    pub client: kube::Client,
    server: ApiServer,
}

impl Incarnation {
    /// Resolves when a fault has killed this incarnation. Race the controller against it, drop the controller, start another.
    pub async fn crashed(&self) {
        let mut bell = self.server.bell();
        while !self.is_crashed() {
            if bell.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether it is dead.
    pub fn is_crashed(&self) -> bool {
        self.server.with(|state| state.crashed.contains(&self.id))
    }

    /// Kills it from outside: `kill -9`.
    pub fn kill(&self) {
        self.server.kill(self.id);
    }
}

impl ApiServer {
    /// An empty cluster with the namespaces `default` and `kube-system`, on a Monday morning.
    pub fn new(seed: u64) -> Self {
        Self::with_options(Options::seeded(seed), SimClock::monday())
    }

    /// The same with its own options and clock.
    pub fn with_options(options: Options, clock: SimClock) -> Self {
        let state = State {
            store: Store::new(clock, options.seed),
            options,
            asked: BTreeMap::new(),
            log: Vec::new(),
            hooks: Vec::new(),
            rule: access::everything(),
            incarnations: 0,
            crashed: BTreeSet::new(),
            watches: BTreeMap::new(),
        };
        let server = Self { state: Arc::new(Mutex::new(state)), bell: Arc::new(bell::channel(0).0), clock };
        server.add_namespace("default");
        server.add_namespace("kube-system");
        server
    }

    /// The clock that this cluster lives by.
    pub fn clock(&self) -> SimClock {
        self.clock
    }

    /// A client of `user` that lives as long as the test.
    pub fn client(&self, user: &str) -> kube::Client {
        self.incarnation(user).client
    }

    /// A client of `user` that a fault may kill.
    ///
    /// `kube::Client::new` has no retry layer of its own, so what the server says is what the caller gets.
    pub fn incarnation(&self, user: &str) -> Incarnation {
        let id = self.with(|state| {
            state.incarnations += 1;
            state.incarnations
        });
        let (server, user) = (self.clone(), user.to_owned());
        let service = tower::service_fn(move |request| {
            let (server, user) = (server.clone(), user.clone());
            async move { server.handle(user, id, request).await }
        });
        Incarnation { id, client: kube::Client::new(service, "default"), server: self.clone() }
    }

    /// Looks at the stored state.
    pub fn read<R>(&self, look: impl FnOnce(&Store) -> R) -> R {
        self.with(|state| look(&state.store))
    }

    /// Changes the stored state past the API: no latency, no log, no faults. For this world's own controllers and for seeding.
    pub fn write<R>(&self, change: impl FnOnce(&mut Store) -> R) -> R {
        self.with(|state| change(&mut state.store))
    }

    /// Stores the manifest as `kubectl create` of an admin would.
    pub fn seed(&self, manifest: &Value) -> Value {
        let kind = Kind::of_manifest(manifest).unwrap_or_else(|| panic!("the simulated server has no kind for {manifest}"));
        let namespace = super::json::namespace(manifest).to_owned();
        let by = managed::Writer::new("kubectl-create");
        self.write(|store| store.create(&by, kind, &namespace, manifest.clone()))
            .unwrap_or_else(|refusal| panic!("seeding {manifest}: {refusal:?}"))
    }

    /// Makes a namespace.
    pub fn add_namespace(&self, name: &str) {
        self.seed(&serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    }

    /// Every request so far.
    pub fn log(&self) -> Vec<Entry> {
        self.with(|state| state.log.clone())
    }

    /// The writes of `user` that took place, without leases and events.
    pub fn writes(&self, user: &str) -> Vec<Entry> {
        let mut log = self.log();
        log.retain(|entry| entry.call.user == user && entry.wrote() && !entry.call.is_background());
        log
    }

    /// The log as text, one request a line.
    pub fn transcript(&self) -> String {
        self.log().iter().map(|entry| format!("{entry}\n")).collect()
    }

    /// Adds a fault hook. See [`faults`].
    pub fn on_request(&self, hook: Hook) {
        self.with(|state| state.hooks.push(hook));
    }

    /// The bad day is over: no hook stays.
    pub fn clear_faults(&self) {
        self.with(|state| state.hooks.clear());
    }

    /// The incarnation of `user` that makes the `k`-th write from now on dies with it; the write has taken place.
    pub fn crash_after_write(&self, user: &str, k: usize) {
        self.on_request(faults::crash_after(user, k));
    }

    fn kill(&self, incarnation: u32) {
        self.with(|state| state.crashed.insert(incarnation));
        self.ring();
    }

    /// Ends the watches of that kind, as a broken connection does; a client resumes them where they were.
    pub fn cut_watches(&self, plural: &str) {
        self.control(plural, |control| control.cuts += 1);
    }

    /// Says 410 on the watches of that kind and forgets the past; a client lists again.
    pub fn expire_watches(&self, plural: &str) {
        self.with(|state| state.store.compact());
        self.control(plural, |control| control.expiries += 1);
    }

    /// Nothing arrives on watches of that kind, running ones and new ones, until [`Self::release_watches`].
    pub fn hold_watches(&self, plural: &str) {
        self.control(plural, |control| control.held = true);
    }

    /// What was held back arrives now.
    pub fn release_watches(&self, plural: &str) {
        self.control(plural, |control| control.held = false);
    }

    fn control(&self, plural: &str, change: impl FnOnce(&mut watch::Control)) {
        let plural = Kind::of_plural(plural).plural;
        self.with(|state| change(state.watches.entry(plural).or_default()));
        self.ring();
    }

    /// Who may do what, from now on.
    pub fn set_access(&self, rule: access::Rule) {
        self.with(|state| state.rule = rule);
    }

    /// Shows `observer` every stored state from now on.
    pub fn observe(&self, observer: Observer) {
        self.with(|state| state.store.add_observer(observer));
    }

    /// What the observers found.
    pub fn violations(&self) -> Vec<Violation> {
        self.read(|store| store.violations().to_vec())
    }

    /// A signal that something may have changed: a stored object, a fault, a crash.
    pub fn bell(&self) -> bell::Receiver<u64> {
        self.bell.subscribe()
    }

    /// Wakes everybody who waits for a change, without one.
    pub fn wake(&self) {
        self.ring();
    }

    fn ring(&self) {
        self.bell.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panics inside a closure has failed already; its other tasks may still finish.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let before = state.store.version();
        let result = act(&mut state);
        let changed = state.store.version() != before;
        drop(state);
        if changed {
            self.ring();
        }
        result
    }
}
