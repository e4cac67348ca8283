//! What a data plane serves now: what was stored some time ago. Its state is all that is remembered of routes outside the store.
//!
//! It reads routes, Gateways, Services and their `EndpointSlice`s together, as one configuration, and a configuration comes to be
//! served some time after what it says was stored. Who is reached by it is asked in `routing`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use super::super::{
    api::{
        kinds::{ENDPOINT_SLICE, GATEWAY, GATEWAY_CLASS, GRPC_ROUTE, HTTP_ROUTE, Key, Kind, SERVICE},
        store::{Change, Store},
    },
    json::{self, flag, text},
};

/// How far what is served is behind what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    delay: Duration,
    throttle: Duration,
}

impl Lag {
    /// Contour with Envoy, as seen: the last old request up to 8 ms after the write.
    pub const QUICK: Self = Self { delay: Duration::from_millis(10), throttle: Duration::ZERO };

    /// Every change comes that late, in order.
    pub fn of(delay: Duration) -> Self {
        Self { delay, throttle: Duration::ZERO }
    }

    /// Traefik, as seen: a change after a quiet time is served soon, the next one not before `throttle` is over, and what came
    /// between them comes with it.
    pub fn throttled(throttle: Duration) -> Self {
        Self { delay: Duration::from_millis(40), throttle }
    }
}

/// A bad day of a route at its data plane. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    #[default]
    None,
    /// It is not read any more: neither what is served nor the status moves.
    Stuck,
    /// Changes are served, and the status does not say so.
    Silent,
    /// Changes are refused with that reason; what was served before goes on.
    Refused(&'static str),
}

/// One address behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub pod: String,
    pub uid: String,
    pub ip: String,
}

/// One configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Served {
    /// The spec of each route and whether a Gateway takes its requests.
    pub routes: BTreeMap<Key, (Value, bool)>,
    /// The ready endpoints of every Service, by namespace and name.
    pub services: BTreeMap<(String, String), Vec<Endpoint>>,
}

/// Looks at every configuration at the moment that it comes to be served, and at the stored state of that moment.
pub type Watcher = Box<dyn FnMut(&Store) + Send>;

/// The data plane. Clones are the same one.
///
/// Its lock is the innermost: it is taken where the store is locked already, and no other is taken under it.
#[derive(Clone, Default)]
pub struct Plane {
    state: Arc<Mutex<State>>,
}

struct State {
    lag: Lag,
    now: Arc<Served>,
    coming: VecDeque<(Instant, Arc<Served>)>,
    /// When the newest configuration came or comes to be served.
    newest: Option<Instant>,
    troubles: BTreeMap<Key, Trouble>,
    down: BTreeSet<Key>,
    /// Images whose pods serve on while they end.
    drains: BTreeSet<String>,
    watchers: Vec<Watcher>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            lag: Lag::QUICK,
            now: Arc::default(),
            coming: VecDeque::new(),
            newest: None,
            troubles: BTreeMap::new(),
            down: BTreeSet::new(),
            drains: BTreeSet::new(),
            watchers: Vec::new(),
        }
    }
}

impl Plane {
    /// What is served now.
    pub fn served(&self) -> Arc<Served> {
        self.state().now.clone()
    }

    /// From now on.
    pub fn watch(&self, watcher: Watcher) {
        self.state().watchers.push(watcher);
    }

    pub fn trouble(&self, route: &Key) -> Trouble {
        self.state().troubles.get(route).copied().unwrap_or_default()
    }

    pub fn is_down(&self, gateway: &Key) -> bool {
        self.state().down.contains(gateway)
    }

    pub fn drains(&self, image: &str) -> bool {
        self.state().drains.contains(image)
    }

    pub(super) fn set_lag(&self, lag: Lag) {
        self.state().lag = lag;
    }

    pub(super) fn set_trouble(&self, route: &Key, trouble: Trouble) {
        self.state().troubles.insert(route.clone(), trouble);
    }

    pub(super) fn set_down(&self, gateway: &Key, down: bool) {
        let mut state = self.state();
        if down {
            state.down.insert(gateway.clone())
        } else {
            state.down.remove(gateway)
        };
    }

    pub(super) fn set_drains(&self, image: &str, drains: bool) {
        let mut state = self.state();
        if drains {
            state.drains.insert(image.to_owned())
        } else {
            state.drains.remove(image)
        };
    }

    /// Whether a configuration is made of such objects.
    pub(super) fn reads(change: &Change) -> bool {
        let kinds: [&Kind; 6] = [&HTTP_ROUTE, &GRPC_ROUTE, &GATEWAY, &GATEWAY_CLASS, &SERVICE, &ENDPOINT_SLICE];
        kinds.contains(&change.key.kind)
    }

    /// Reads what is stored now; it will be served later.
    pub(super) fn read(&self, store: &Store) {
        let mut state = self.state();
        let last = state.coming.back().map_or_else(|| state.now.clone(), |(_, served)| served.clone());
        let read = state.configuration(store, &last);
        if read == *last {
            return;
        }
        let (now, read) = (Instant::now(), Arc::new(read));
        let open = state.newest.map_or(now, |newest| newest + state.lag.throttle);
        let due = open.max(now + state.lag.delay);
        let throttled = !state.lag.throttle.is_zero();
        match state.coming.back_mut() {
            // It waits for the throttle: what is newer takes its place.
            Some((at, waiting)) if throttled && *at > now => *waiting = read,
            _ => {
                state.coming.push_back((due, read));
                state.newest = Some(due);
            }
        }
    }

    /// When the next configuration comes to be served.
    pub(super) fn next(&self) -> Option<Instant> {
        self.state().coming.front().map(|(at, _)| *at)
    }

    /// Serves what is due.
    pub(super) fn advance(&self, store: &Store) {
        loop {
            let mut watchers = {
                let mut state = self.state();
                let Some((_, served)) = state.coming.pop_front_if(|(at, _)| *at <= Instant::now()) else { return };
                state.now = served;
                std::mem::take(&mut state.watchers)
            };
            for watcher in &mut watchers {
                watcher(store);
            }
            self.state().watchers.append(&mut watchers);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn configuration(&self, store: &Store, last: &Served) -> Served {
        let mut read = Served::of(store);
        for (key, (spec, open)) in &mut read.routes {
            let frozen = matches!(self.troubles.get(key), Some(Trouble::Stuck | Trouble::Refused(_)));
            if let Some((before, _)) = last.routes.get(key).filter(|_| frozen) {
                spec.clone_from(before);
            }
            *open = store.get(key).is_some_and(|route| gateways(store, route).iter().any(|gateway| !self.down.contains(gateway)));
        }
        read
    }
}

impl Served {
    /// What is stored now, as if it were served at once by Gateways that all take requests.
    pub fn of(store: &Store) -> Self {
        let mut read = Self::default();
        for kind in [&HTTP_ROUTE, &GRPC_ROUTE] {
            for route in store.list(kind, "") {
                let key = Key::new(kind, json::namespace(route), json::name(route));
                read.routes.insert(key, (route["spec"].clone(), true));
            }
        }
        if read.routes.is_empty() {
            return read;
        }
        for service in store.list(&SERVICE, "") {
            let (namespace, name) = (json::namespace(service), json::name(service));
            read.services.insert((namespace.to_owned(), name.to_owned()), endpoints(store, namespace, name));
        }
        read
    }
}

/// The Gateways that a route names and that are there.
pub fn gateways(store: &Store, route: &Value) -> Vec<Key> {
    let parents = json::list(route, "/spec/parentRefs").iter().filter(|parent| text(parent, "/kind") == "Gateway");
    parents.map(|parent| gateway(route, parent)).filter(|key| store.get(key).is_some()).collect()
}

/// The Gateway that one parent names.
pub fn gateway(route: &Value, parent: &Value) -> Key {
    let named = text(parent, "/namespace");
    Key::new(&GATEWAY, if named.is_empty() { json::namespace(route) } else { named }, text(parent, "/name"))
}

fn endpoints(store: &Store, namespace: &str, service: &str) -> Vec<Endpoint> {
    let mine = |slice: &&Value| text(slice, "/metadata/labels/kubernetes.io~1service-name") == service;
    let all = store.list(&ENDPOINT_SLICE, namespace).filter(mine).flat_map(|slice| json::list(slice, "/endpoints"));
    let one = |endpoint: &Value| Endpoint {
        pod: text(endpoint, "/targetRef/name").to_owned(),
        uid: text(endpoint, "/targetRef/uid").to_owned(),
        ip: text(endpoint, "/addresses/0").to_owned(),
    };
    all.filter(|endpoint| flag(endpoint, "/conditions/ready")).map(one).collect()
}
