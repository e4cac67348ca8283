//! The rest of the cluster: controllers, scheduler, kubelet and endpoints, over the same store, on virtual time and a seed.
//!
//! One task runs one workqueue. Each piece of work is one pass of one controller over one object, done in one go under the
//! store's lock; between passes lie seeded delays, so that another seed gives another order. The world writes past the API: its
//! writes are in the history and seen by observers and watches, not in the request log, and no fault meets them.

pub mod acts;
pub mod behaviour;
mod collect;
mod deployment;
mod endpoints;
mod gateway;
pub mod kubectl;
pub mod kubelet;
pub mod manifests;
mod owner;
pub mod plane;
mod progress;
mod queue;
mod replicaset;
pub mod routing;
mod scaling;
pub mod traffic;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{task::JoinHandle, time::Instant};

use self::{
    behaviour::{Answer, Answers, Behaviour},
    plane::{Lag, Plane, Trouble},
    queue::{Queue, Work},
    routing::{Request, RouteShare},
    traffic::Share,
};
use super::{
    api::{
        ApiServer,
        kinds::{
            DEPLOYMENT, EVENT, GATEWAY, GATEWAY_CLASS, GRPC_ROUTE, HTTP_ROUTE, Key, LEASE, NAMESPACE, NEW_EVENT, POD, REPLICA_SET, SERVICE,
        },
        managed::Writer,
        store::{Change, Store},
        write::Deletion,
    },
    json,
    rng::Rng,
};

/// The cluster around the API server. It lives as long as this value.
pub struct World {
    api: ApiServer,
    brain: Arc<Mutex<Brain>>,
    plane: Plane,
    task: JoinHandle<()>,
}

/// What the world's controllers remember outside the store.
struct Brain {
    rng: Rng,
    queue: Queue,
    /// The last version that was looked at.
    seen: u64,
    behaviours: BTreeMap<String, Behaviour>,
    pods: BTreeMap<String, kubelet::Run>,
    addresses: u64,
    /// Requests that each pod was asked, by uid.
    asked: BTreeMap<String, u64>,
    /// When each pod showed what it had counted, how many requests that were, and how many failed.
    counted: BTreeMap<String, (Instant, f64, f64)>,
    /// What Helm remembers of its last release.
    releases: BTreeMap<Key, Value>,
    plane: Plane,
}

/// One piece of work: the store, locked, and the memory.
pub struct Turn<'a> {
    store: &'a mut Store,
    rng: &'a mut Rng,
    behaviours: &'a BTreeMap<String, Behaviour>,
    pods: &'a mut BTreeMap<String, kubelet::Run>,
    addresses: &'a mut u64,
    plane: &'a Plane,
}

impl Turn<'_> {
    /// Edits if it is still there. A refusal means that somebody was faster: the change comes back through the queue.
    fn edit(&mut self, by: &Writer, key: &Key, subresource: &str, change: impl FnOnce(&mut Value)) -> Option<Value> {
        self.store.edit(by, key, subresource, change).ok()
    }

    fn delete(&mut self, by: &Writer, key: &Key, how: &Deletion) {
        self.store.delete(by, key, how).ok();
    }

    /// By the first container whose image a test has spoken of.
    fn behaviour_of(&self, pod: &Value) -> Behaviour {
        let mut images = json::list(pod, "/spec/containers").iter().map(|c| json::text(c, "/image"));
        images.find_map(|image| self.behaviours.get(image)).cloned().unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl World {
    /// Starts the cluster around the server.
    pub fn start(api: &ApiServer, seed: u64) -> Self {
        let plane = Plane::default();
        let brain = Brain {
            rng: Rng::new(seed),
            queue: Queue::default(),
            seen: 0,
            behaviours: BTreeMap::new(),
            pods: BTreeMap::new(),
            addresses: 0,
            asked: BTreeMap::new(),
            counted: BTreeMap::new(),
            releases: BTreeMap::new(),
            plane: plane.clone(),
        };
        let brain = Arc::new(Mutex::new(brain));
        let task = tokio::spawn(run(api.clone(), brain.clone()));
        Self { api: api.clone(), brain, plane, task }
    }

    /// The server that this world lives in.
    pub fn api(&self) -> &ApiServer {
        &self.api
    }

    /// How pods of that image behave from now on, also those that run already.
    pub fn set_behaviour(&self, image: &str, behaviour: Behaviour) {
        let pods: Vec<Key> = self.api.read(|store| store.list(&POD, "").map(|pod| key_of(&POD, pod)).collect());
        self.plane.set_drains(image, behaviour.drains);
        let mut brain = self.brain();
        brain.behaviours.insert(image.to_owned(), behaviour);
        for pod in pods {
            brain.queue.add(Work::Pod(pod), Duration::from_millis(1));
        }
        drop(brain);
        // The world's task sleeps until its next appointment: wake it for this one.
        self.api.wake();
    }

    /// What an HTTP probe of that address would see now. It counts as a request to the pod.
    pub fn ask(&self, ip: &str) -> Answer {
        let mut brain = self.brain();
        let brain = &mut *brain;
        let found = self.api.read(|store| {
            let pod = store.list(&POD, "").find(|pod| json::text(pod, "/status/podIP") == ip)?;
            Some((json::uid(pod).to_owned(), json::text(pod, "/spec/containers/0/image").to_owned(), serves_all(&self.plane, store, ip)))
        });
        let Some((uid, image, alone)) = found else { return Answer::Timeout };
        if !brain.pods.get(&uid).is_some_and(kubelet::Run::listens) {
            return Answer::Refused;
        }
        let asked = brain.asked.entry(uid).or_default();
        *asked += 1;
        let fails = |fails: bool| Answer::Status(if fails { 500 } else { 200 });
        match brain.behaviours.get(&image).map_or(&Answers::Ok, |b| &b.answers) {
            Answers::Ok => Answer::Status(200),
            Answers::Always(code) => Answer::Status(*code),
            Answers::FailsAfterRequests(n) => fails(*asked > *n),
            Answers::FailsRate(percent) => fails(brain.rng.below(100) < *percent),
            Answers::FailsWhenServingAll => fails(alone),
            Answers::Silent => Answer::Timeout,
        }
    }

    /// What the pod at that address shows of its users' requests: a hundred a second come to the Service that selects it, by new
    /// connections.
    pub fn page(&self, ip: &str) -> Option<String> {
        let shares = self.shares();
        let part = shares.iter().map(|share| share.fraction(|pod| pod.ip == ip)).fold(0.0, f64::max);
        let (uid, image) = self.api.read(|store| {
            let pod = store.list(&POD, "").find(|pod| json::text(pod, "/status/podIP") == ip)?;
            Some((json::uid(pod).to_owned(), json::text(pod, "/spec/containers/0/image").to_owned()))
        })?;
        let mut brain = self.brain();
        let brain = &mut *brain;
        brain.pods.get(&uid).filter(|run| run.listens())?;
        let meet = f64::from(brain.behaviours.get(&image).map_or(0, |behaviour| behaviour.users_meet)) / 100.0;
        let now = Instant::now();
        let (last, asked, failed) = brain.counted.entry(uid).or_insert((now, 0.0, 0.0));
        let came = now.duration_since(*last).as_secs_f64() * 100.0 * part;
        (*last, *asked, *failed) = (now, *asked + came, *failed + came * meet);
        Some(format!("requests_total{{code=\"200\"}} {:.0}\nrequests_total{{code=\"500\"}} {failed:.0}\n", *asked - *failed))
    }

    /// Where new connections of every Service go right now.
    pub fn shares(&self) -> Vec<Share> {
        self.api.read(traffic::shares)
    }

    /// Where new connections of one Service go right now.
    pub fn share(&self, namespace: &str, service: &str) -> Share {
        self.api.read(|store| traffic::share(store, namespace, service)).unwrap_or_else(|| panic!("no Service {namespace}/{service}"))
    }

    /// The data plane behind the routes.
    pub fn plane(&self) -> &Plane {
        &self.plane
    }

    /// How far the data plane is behind, from now on.
    pub fn set_lag(&self, lag: Lag) {
        self.plane.set_lag(lag);
    }

    /// What is wrong with a route at the data plane, from now on.
    pub fn set_trouble(&self, route: &Key, trouble: Trouble) {
        self.plane.set_trouble(route, trouble);
        self.look_at(Work::Route(route.clone()));
    }

    /// Whether the Gateway takes requests, from now on.
    pub fn set_programmed(&self, namespace: &str, gateway: &str, programmed: bool) {
        let gateway = Key::new(&GATEWAY, namespace, gateway);
        self.plane.set_down(&gateway, !programmed);
        self.look_at(Work::Gateway(gateway));
    }

    fn look_at(&self, work: Work) {
        self.api.read(|store| self.plane.read(store));
        self.brain().queue.add(work, Duration::from_millis(1));
        self.api.wake();
    }

    /// Which pods a GET of `/` through the route reaches now, and with which probability.
    pub fn share_of_route(&self, namespace: &str, route: &str, headers: &[(&str, &str)]) -> RouteShare {
        self.share_of_request(namespace, route, &Request::with(headers))
    }

    /// The same for any request.
    pub fn share_of_request(&self, namespace: &str, route: &str, request: &Request) -> RouteShare {
        let served = self.plane.served();
        let key = routing::find(&served, namespace, route).unwrap_or_else(|| Key::new(&HTTP_ROUTE, namespace, route));
        self.api.read(|store| routing::of_request(&self.plane, store, &key, request))
    }

    /// What one request through the route is answered, and by which pod's image.
    pub fn ask_route(&self, namespace: &str, route: &str, request: &Request) -> (Answer, Option<String>) {
        let share = self.share_of_request(namespace, route, request);
        #[allow(clippy::cast_precision_loss, reason = "a thousandth is enough")]
        let mut lot = self.brain().rng.below(1_000) as f64 / 1_000.0;
        for (pod, part) in share.pods {
            lot -= part;
            if lot < 0.0 {
                return (self.ask(&pod.ip), Some(pod.image));
            }
        }
        // Seen: 503 of Traefik and 500 of Envoy.
        (Answer::Status(503), None)
    }

    /// Waits, on virtual time, until the stored state is so; whether it became so within the limit.
    pub async fn until(&self, limit: Duration, is_so: impl Fn(&Store) -> bool) -> bool {
        let mut bell = self.api.bell();
        let met = async {
            while !self.api.read(&is_so) {
                if bell.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, met).await.is_ok()
    }

    /// Runs until nothing has changed for 30 s, or the limit. Leases and events do not count. Whether it became quiet.
    pub async fn settle(&self, limit: Duration) -> bool {
        self.settle_for(Duration::from_secs(30), limit).await
    }

    /// The same with another idea of quiet: longer than the longest wait that is still work, such as a bake.
    pub async fn settle_for(&self, quiet: Duration, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut bell = self.api.bell();
        let (mut last, mut since) = (self.last_change(), Instant::now());
        loop {
            let quiet_at = since + quiet;
            let rung = tokio::time::timeout_at(quiet_at.min(end), bell.changed()).await;
            if rung.is_err() {
                return quiet_at <= end;
            }
            let now = self.last_change();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    }

    fn last_change(&self) -> u64 {
        let background = [&LEASE, &EVENT, &NEW_EVENT];
        let counts = |change: &&Change| !background.contains(&change.key.kind);
        self.api.read(|store| store.history().iter().rev().find(counts).map_or(0, |change| change.version))
    }

    fn brain(&self) -> MutexGuard<'_, Brain> {
        self.brain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a Service has this pod and no other version behind it. Where there are routes, they say who serves everybody: a Service
/// that one of them splits has one version behind it all the time.
fn serves_all(plane: &Plane, store: &Store, ip: &str) -> bool {
    if !plane.served().routes.is_empty() {
        return routing::serves_all(plane, store, ip);
    }
    traffic::shares(store).iter().any(|share| share.routed.iter().any(|pod| pod.ip == ip) && share.by_image().len() == 1)
}

fn key_of(kind: &'static super::Kind, object: &Value) -> Key {
    Key::new(kind, json::namespace(object), json::name(object))
}

async fn run(api: ApiServer, brain: Arc<Mutex<Brain>>) {
    let mut bell = api.bell();
    loop {
        bell.mark_unchanged();
        let next = {
            let mut brain = brain.lock().unwrap_or_else(PoisonError::into_inner);
            brain.work(&api);
            brain.queue.next().into_iter().chain(brain.plane.next()).min()
        };
        let alarm = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            rung = bell.changed() => if rung.is_err() { return },
            () = alarm => {}
        }
    }
}

impl Brain {
    fn work(&mut self, api: &ApiServer) {
        self.look(api);
        while let Some(work) = self.queue.due() {
            let again = api.write(|store| self.pass(store, &work));
            self.look(api);
            if let Some(time) = again {
                self.queue.add(work, time.max(Duration::from_millis(1)));
            }
        }
        api.read(|store| self.plane.advance(store));
    }

    fn pass(&mut self, store: &mut Store, work: &Work) -> Option<Duration> {
        let Self { rng, behaviours, pods, addresses, plane, .. } = self;
        let turn = &mut Turn { store, rng, behaviours, pods, addresses, plane };
        match work {
            Work::Deployment(key) => deployment::sync(turn, key),
            Work::ReplicaSet(key) => replicaset::sync(turn, key),
            Work::Pod(key) => kubelet::sync(turn, key),
            Work::Service(key) => endpoints::sync(turn, key),
            Work::Namespace(key) => collect::namespace(turn, key),
            Work::Route(key) => gateway::route(turn, key),
            Work::Gateway(key) => gateway::gateway(turn, key),
            Work::Collect => collect::sync(turn),
        }
    }

    /// Puts whoever is interested in the new changes into the queue.
    fn look(&mut self, api: &ApiServer) {
        let fresh: Vec<(Work, Duration)> = api.write(|store| {
            let changes = store.since(self.seen).to_vec();
            self.seen = store.version();
            let Self { rng, behaviours, pods, addresses, plane, .. } = self;
            let turn = Turn { store, rng, behaviours, pods, addresses, plane };
            if changes.iter().any(Plane::reads) {
                plane.read(turn.store);
            }
            let work: Vec<Work> = changes.iter().flat_map(|change| interested(&turn, change)).collect();
            work.into_iter().map(|work| (work.clone(), delay(turn.rng, &work))).collect()
        });
        for (work, delay) in fresh {
            self.queue.add(work, delay);
        }
    }
}

/// Informers and workqueues of real controllers: some tens of milliseconds; the collector is slower.
fn delay(rng: &mut Rng, work: &Work) -> Duration {
    match work {
        Work::Collect => rng.millis(100, 400),
        Work::Pod(_) => rng.millis(1, 10),
        // Seen: 8–14 ms in the middle.
        Work::Route(_) | Work::Gateway(_) => rng.millis(2, 20),
        _ => rng.millis(5, 45),
    }
}

fn interested(turn: &Turn<'_>, change: &Change) -> Vec<Work> {
    let (key, object) = (&change.key, change.object.as_ref());
    let mut work = Vec::new();
    if key.kind == &DEPLOYMENT {
        work.push(Work::Deployment(key.clone()));
    } else if key.kind == &REPLICA_SET {
        work.push(Work::ReplicaSet(key.clone()));
        work.extend(deployment::interested(turn, object).into_iter().map(Work::Deployment));
    } else if key.kind == &POD {
        work.push(Work::Pod(key.clone()));
        work.extend(replicaset::interested(turn, object).into_iter().map(Work::ReplicaSet));
        let before = change.before.as_deref().into_iter().flat_map(|pod| endpoints::interested(turn, pod));
        work.extend(endpoints::interested(turn, object).into_iter().chain(before).map(Work::Service));
        if change.removed {
            // A Recreate waits for the last pod to be gone; its ReplicaSet may not change any more by then.
            let all = turn.store.list(&DEPLOYMENT, &key.namespace);
            work.extend(all.map(|d| Work::Deployment(key_of(&DEPLOYMENT, d))));
        }
    } else if key.kind == &SERVICE {
        work.push(Work::Service(key.clone()));
        if change.removed || change.before.is_none() {
            work.extend(routes(turn).filter(|route| names(turn, route, key)).map(Work::Route));
        }
    } else if key.kind.routes() {
        work.push(Work::Route(key.clone()));
    } else if key.kind == &GATEWAY || key.kind == &GATEWAY_CLASS {
        work.extend((key.kind == &GATEWAY).then(|| Work::Gateway(key.clone())));
        work.extend(routes(turn).map(Work::Route));
    } else if key.kind == &NAMESPACE && json::is_terminating(object) {
        work.push(Work::Namespace(key.clone()));
    }
    let owned = !json::list(object, "/metadata/ownerReferences").is_empty();
    if change.removed || json::is_terminating(object) || (owned && change.before.is_none()) {
        work.push(Work::Collect);
    }
    work
}

fn routes(turn: &Turn<'_>) -> impl Iterator<Item = Key> {
    let of = |kind: &'static super::Kind| turn.store.list(kind, "").map(move |route| key_of(kind, route));
    of(&HTTP_ROUTE).chain(of(&GRPC_ROUTE))
}

fn names(turn: &Turn<'_>, route: &Key, service: &Key) -> bool {
    let rules = turn.store.get(route).map_or(&[][..], |route| json::list(route, "/spec/rules"));
    rules.iter().flat_map(|rule| json::list(rule, "/backendRefs")).any(|backend| json::text(backend, "/name") == service.name)
}
