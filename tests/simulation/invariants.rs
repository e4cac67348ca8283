//! What holds in every stored state, as functions over the store and the change that made it.
//!
//! The numbers are those of the crate's documentation. A test that lets the world take pods away, or a person open the gate,
//! says so to the [`Watchman`]; nothing else is excused.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use haldane::model::{template, version::Weight};
use serde_json::Value;

use crate::{
    app::{APP, NAMESPACE},
    routes::{self, is_ours},
    sim::{
        ApiServer, Kind, SimClock, Store,
        api::{
            kinds::{CONTROLLER_REVISION, CRON_JOB, DELIVERY, DEPLOYMENT, POD, RELEASE, REPLICA_SET, SERVICE},
            store::Change,
        },
        json::{self, count, flag, labels, text},
        world::plane::Plane,
    },
    town::{USER, lock},
};

const HASH: &str = "pod-template-hash";
const TRACK: &str = "haldane.dev/track";
/// A pin that matches nobody is off after this.
const EMPTY_PIN: Duration = Duration::from_secs(2);
/// Where a `CronJob` has the image of its container.
pub const CRON_IMAGE: &str = "/spec/jobTemplate/spec/template/spec/containers/0/image";
const IMAGE: &str = "/spec/template/spec/containers/0/image";

/// Looks at every stored state. Clones are the same one.
#[derive(Clone)]
pub struct Watchman {
    watch: Arc<Mutex<Watch>>,
    clock: SimClock,
    plane: Plane,
}

/// What the invariants need to remember.
#[derive(Default)]
pub struct Watch {
    /// Until then the world takes pods away.
    disturbed: Duration,
    /// Until then what the controller is late with is not its fault: the API or the process was away.
    late: Duration,
    absent: bool,
    /// A foreign hand opened a gate: its template may get pods.
    opened: bool,
    /// Images that were proven.
    proven: BTreeSet<String>,
    /// The owner's newest template.
    newest: Option<Value>,
    /// Services that once had all their pods.
    served: BTreeSet<String>,
    /// Services whose pin matches nobody, since when.
    empty: BTreeMap<String, Duration>,
    routes: routes::Book,
    defects: Vec<String>,
}

pub type Found = Result<(), String>;

impl Watchman {
    pub fn new(clock: SimClock, plane: &Plane) -> Self {
        Self { watch: Arc::default(), clock, plane: plane.clone() }
    }

    /// From now on.
    pub fn watch(&self, api: &ApiServer) {
        let watchman = self.clone();
        api.observe(Box::new(move |store, change| {
            let mut watch = lock(&watchman.watch);
            let now = watchman.clock.elapsed();
            watch.learn(store, change);
            let found = [
                i1(&mut watch, store, now),
                i2(store, now, &watch),
                i3(store, change),
                i5(store),
                i7(store, change),
                i15(change),
                i17(&watch, change),
                i22(&mut watch, store, now),
                i23(&watch, change),
                i23_of_cron_jobs(store, change),
                i25(&watch, store),
                routed(&mut watch, &watchman.plane, store, Some(change), now),
            ];
            let broken: Vec<String> = found.into_iter().filter_map(Result::err).collect();
            if broken.is_empty() { Ok(()) } else { Err(broken.join("; ")) }
        }));
        let watchman = self.clone();
        self.plane.watch(Box::new(move |store| {
            let (mut watch, now) = (lock(&watchman.watch), watchman.clock.elapsed());
            if let Err(what) = routed(&mut watch, &watchman.plane, store, None, now) {
                watch.defects.push(format!("{} once served: {what}", watchman.clock.now()));
            }
        }));
    }

    /// I24 for routes.
    pub fn is_home(&self, api: &ApiServer) -> Found {
        api.read(|store| lock(&self.watch).routes.is_home(store))
    }

    /// The world takes pods away for that long.
    pub fn disturb(&self, span: Duration) {
        lock(&self.watch).disturbed = self.clock.elapsed() + span;
    }

    /// The API is away for that long.
    pub fn unheard(&self, span: Duration) {
        lock(&self.watch).late = self.clock.elapsed() + span;
    }

    /// A foreign hand opens the gate.
    pub fn opened(&self) {
        lock(&self.watch).opened = true;
    }

    /// No controller runs.
    pub fn absent(&self) {
        lock(&self.watch).absent = true;
    }

    /// A controller runs again.
    pub fn present(&self) {
        let mut watch = lock(&self.watch);
        watch.absent = false;
        // The first look after a start.
        watch.late = watch.late.max(self.clock.elapsed() + Duration::from_secs(1));
    }

    pub fn defect(&self, what: String) {
        lock(&self.watch).defects.push(what);
    }

    pub fn defects(&self) -> Vec<String> {
        lock(&self.watch).defects.clone()
    }

    /// What only the passing of time shows.
    pub fn overdue(&self, api: &ApiServer) {
        let mut watch = lock(&self.watch);
        let now = self.clock.elapsed();
        if let Err(what) = api.read(|store| i22(&mut watch, store, now)) {
            watch.defects.push(what);
        }
    }
}

impl Watch {
    fn learn(&mut self, store: &Store, change: &Change) {
        self.routes.learn(change);
        let object = change.object.as_ref();
        let proves = ["Finalizing", "Live"].contains(&text(object, "/status/phase"));
        if change.key.kind == &DELIVERY && json::name(object) == APP && proves {
            let release = text(object, "/status/rollout/release");
            let release = if release.is_empty() { text(object, "/status/live/release") } else { release };
            let image = store.find(&RELEASE, NAMESPACE, release).map(|r| text(r, "/spec/image").to_owned());
            self.proven.extend(image);
        }
        let foreign = change.by != USER && !change.by.starts_with("system:") && !change.by.contains("controller");
        if change.key.kind == &DEPLOYMENT && json::name(object) == APP && foreign && !change.removed {
            let template = |d: &Value| d.pointer("/spec/template").map(template::normalise);
            let now = template(object);
            if change.before.as_deref().and_then(template) != now {
                self.newest = now;
            }
        }
    }
}

fn routed(watch: &mut Watch, plane: &Plane, store: &Store, change: Option<&Change>, now: Duration) -> Found {
    let disturbed = now < watch.disturbed;
    watch.routes.look(plane, store, change, now, disturbed)
}

fn is_canary(object: &Value) -> bool {
    labels(object).contains_key("haldane.dev/workload")
}

fn app_of(store: &Store, service: &Value) -> Option<Value> {
    store.find(&DEPLOYMENT, NAMESPACE, json::name(service)).cloned()
}

fn floor(deployment: &Value) -> usize {
    // 25 % of three, rounded down, may be missing: none; of four: one.
    let replicas = count(deployment, "/spec/replicas");
    usize::try_from(replicas - replicas / 4).unwrap_or(0)
}

fn ready(store: &Store, selector: &json::Labels) -> Vec<Value> {
    let takes = |p: &&Value| json::selects(selector, &labels(p)) && json::holds(p, "Ready") && !json::is_terminating(p);
    store.list(&POD, NAMESPACE).filter(takes).cloned().collect()
}

fn without_pin(service: &Value) -> json::Labels {
    let mut selector = json::strings(service, "/spec/selector");
    selector.remove(HASH);
    selector.remove(TRACK);
    selector
}

fn pinned(service: &Value) -> bool {
    let selector = json::strings(service, "/spec/selector");
    selector.contains_key(HASH) || selector.contains_key(TRACK)
}

/// I1: enough ready pods are selectable through each Service, always.
fn i1(watch: &mut Watch, store: &Store, now: Duration) -> Found {
    if now < watch.disturbed {
        return Ok(());
    }
    for service in store.list(&SERVICE, NAMESPACE).filter(|service| !is_ours(service)) {
        let Some(deployment) = app_of(store, service) else { continue };
        let reached = ready(store, &json::strings(service, "/spec/selector")).len();
        if reached >= floor(&deployment) {
            watch.served.insert(json::name(service).to_owned());
        } else if watch.served.contains(json::name(service)) {
            return Err(format!("I1: Service {} reaches {reached} ready pods, {} are needed", json::name(service), floor(&deployment)));
        }
    }
    Ok(())
}

/// I2: no more of the traffic reaches an unproven version than its step allows; none before its first.
fn i2(store: &Store, now: Duration, watch: &Watch) -> Found {
    for delivery in store.list(&DELIVERY, NAMESPACE) {
        let phase = text(delivery, "/status/phase");
        if text(delivery, "/status/rollout/direction") == "Return" {
            continue;
        }
        let Some(service) = store.find(&SERVICE, NAMESPACE, json::name(delivery)) else { continue };
        let Some(deployment) = app_of(store, service) else { continue };
        let reached = ready(store, &json::strings(service, "/spec/selector"));
        let canaries = reached.iter().filter(|p| labels(p).get(TRACK).is_some_and(|t| t == "canary")).count();
        let stable = ready(store, &without_pin(service)).len()
            - ready(store, &without_pin(service)).iter().filter(|p| labels(p).contains_key(TRACK)).count();
        let replicas = u32::try_from(count(&deployment, "/spec/replicas")).unwrap_or(0);
        let allowed = match phase {
            "Preparing" | "Preflight" => 0,
            "Canary" => {
                let step = usize::try_from(count(delivery, "/status/rollout/step")).unwrap_or(0);
                let weight = json::list(delivery, "/spec/rollout/steps").get(step).map_or(100, |s| count(s, "/weight"));
                Weight::new(u8::try_from(weight).unwrap_or(100)).pods_beside(replicas) as usize
            }
            "RollingBack" if !text(delivery, "/status/rollout/back/at").contains("Finalizing") => 0,
            _ => usize::MAX,
        };
        if canaries > allowed && stable > 0 && now >= watch.disturbed {
            return Err(format!("I2: {canaries} canary pods are reached in {phase}, {allowed} are allowed"));
        }
    }
    Ok(())
}

/// I3: a pin matches a ready pod at the moment it is written.
fn i3(store: &Store, change: &Change) -> Found {
    let service = change.object.as_ref();
    if change.key.kind != &SERVICE || change.by != USER || !pinned(service) || is_ours(service) {
        return Ok(());
    }
    let selector = json::strings(service, "/spec/selector");
    if change.before.as_deref().is_some_and(|b| json::strings(b, "/spec/selector") == selector) {
        return Ok(());
    }
    if ready(store, &selector).is_empty() { Err("I3: a pin was written that matches no ready pod".to_owned()) } else { Ok(()) }
}

/// I22: a pin that matches nobody, while somebody else is ready, comes off at once.
fn i22(watch: &mut Watch, store: &Store, now: Duration) -> Found {
    let mut found = Ok(());
    let services: Vec<Value> = store.list(&SERVICE, NAMESPACE).filter(|service| !is_ours(service)).cloned().collect();
    for service in services {
        let name = json::name(&service).to_owned();
        let empty = pinned(&service)
            && ready(store, &json::strings(&service, "/spec/selector")).is_empty()
            && !ready(store, &without_pin(&service)).is_empty();
        let since = watch.empty.get(&name).copied();
        // While nobody is there to act, the time does not count.
        let since = since.filter(|_| !watch.absent).map(|s| s.max(watch.late));
        if let Some(since) = since
            && now > since + EMPTY_PIN
        {
            found = Err(format!("I22: the pin of Service {name} matched no ready pod for {:?}", now.saturating_sub(since)));
        }
        if empty {
            watch.empty.insert(name, since.unwrap_or(now));
        } else {
            watch.empty.remove(&name);
        }
    }
    found
}

/// I5: at most one canary for a workload.
fn i5(store: &Store) -> Found {
    let mut seen = BTreeSet::new();
    for canary in store.list(&DEPLOYMENT, NAMESPACE).filter(|d| is_canary(d) && !json::is_terminating(d)) {
        if !seen.insert(labels(canary)["haldane.dev/workload"].clone()) {
            return Err("I5: two canaries of one workload".to_owned());
        }
    }
    Ok(())
}

/// I7: what is quarantined gets no canary.
fn i7(store: &Store, change: &Change) -> Found {
    let canary = change.object.as_ref();
    if change.key.kind != &DEPLOYMENT || change.before.is_some() || !is_canary(canary) {
        return Ok(());
    }
    let release = text(canary, "/metadata/annotations/haldane.dev~1release");
    for delivery in store.list(&DELIVERY, NAMESPACE) {
        if json::list(delivery, "/status/quarantine").iter().any(|q| text(q, "/release") == release) {
            return Err(format!("I7: the quarantined {release} gets a canary"));
        }
    }
    Ok(())
}

/// I15: of the owner's objects, only our own few fields are written.
fn i15(change: &Change) -> Found {
    let kind = change.key.kind;
    if change.by != USER {
        return Ok(());
    }
    let ours = ["deliveries", "releases", "proberuns", "controllerrevisions", "commands", "events", "leases"];
    let made = (kind == &DEPLOYMENT && is_canary(&change.object)) || (kind == &SERVICE && is_ours(&change.object));
    // A policy is told how it is: its status alone.
    let told = kind.plural == "deliverypolicies"
        && !change.removed
        && change.before.as_deref().is_some_and(|before| before.get("spec") == change.object.get("spec"));
    if ours.contains(&kind.plural) || made || told {
        return Ok(());
    }
    let (Some(before), true) = (change.before.as_deref(), [&DEPLOYMENT, &SERVICE, &CRON_JOB].contains(&kind) || kind.routes()) else {
        return Err(format!("I15: writes {}", change.key));
    };
    if change.removed || owners_part(before, kind) != owners_part(&change.object, kind) {
        return Err(format!("I15: changes more of {} than is ours", change.key));
    }
    Ok(())
}

fn owners_part(object: &Value, kind: &Kind) -> Value {
    let mut part = object.clone();
    let metadata = ["managedFields", "resourceVersion", "generation"].map(|f| format!("/metadata/{f}"));
    for place in &metadata {
        json::remove(&mut part, place);
    }
    if kind.routes() {
        json::remove(&mut part, "/spec/rules");
    } else if kind == &SERVICE {
        json::remove(&mut part, &format!("/spec/selector/{HASH}"));
        json::remove(&mut part, "/spec/selector/haldane.dev~1track");
    } else if kind == &CRON_JOB {
        json::remove(&mut part, CRON_IMAGE);
    } else {
        json::remove(&mut part, "/spec/paused");
        json::remove(&mut part, "/spec/template");
    }
    if let Some(notes) = part.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        notes.retain(|key, _| !key.starts_with("haldane.dev/"));
    }
    if part.pointer("/metadata/annotations").and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
        json::remove(&mut part, "/metadata/annotations");
    }
    part
}

/// I17: a controller that is away writes nothing.
fn i17(watch: &Watch, change: &Change) -> Found {
    if watch.absent && change.by == USER { Err(format!("I17: {} is written by a dead controller", change.key)) } else { Ok(()) }
}

/// I23: no unproven template gets pods in the owner's Deployment.
fn i23(watch: &Watch, change: &Change) -> Found {
    let set = change.object.as_ref();
    if change.key.kind != &REPLICA_SET || watch.opened || watch.proven.is_empty() || is_canary_set(set) || change.removed {
        return Ok(());
    }
    let image = text(set, IMAGE);
    if !text(set, "/metadata/labels/app").starts_with(APP) || watch.proven.contains(image) || count(set, "/spec/replicas") == 0 {
        return Ok(());
    }
    Err(format!("I23: the unproven {image} gets {} pods", count(set, "/spec/replicas")))
}

/// I23: a `CronJob` has no gate, so the controller gives it the image of what is proven and serves, and no other.
fn i23_of_cron_jobs(store: &Store, change: &Change) -> Found {
    let image = |cron_job: &Value| text(cron_job, CRON_IMAGE).to_owned();
    let (before, now) = (change.before.as_deref().map(image), image(&change.object));
    if change.key.kind != &CRON_JOB || change.by != USER || before.as_ref() == Some(&now) {
        return Ok(());
    }
    let status = |place: &str| store.find(&DELIVERY, NAMESPACE, APP).map_or("", |d| text(d, place));
    let serves = if status("/status/phase") == "Finalizing" { status("/status/rollout/release") } else { status("/status/live/release") };
    let proven = store.find(&RELEASE, NAMESPACE, serves).is_some_and(|release| text(release, "/spec/image") == now);
    if proven { Ok(()) } else { Err(format!("I23: CronJob {} gets the unproven {now}", json::name(&change.object))) }
}

fn is_canary_set(set: &Value) -> bool {
    labels(set).contains_key(TRACK) || json::strings(set, "/spec/template/metadata/labels").contains_key(TRACK)
}

/// I25: the owner's newest template is somewhere, always.
fn i25(watch: &Watch, store: &Store) -> Found {
    let Some(newest) = &watch.newest else { return Ok(()) };
    let here = store
        .find(&DEPLOYMENT, NAMESPACE, APP)
        .is_none_or(|d| d.pointer("/spec/template").map(template::normalise).as_ref() == Some(newest));
    let kept = || {
        store.list(&CONTROLLER_REVISION, NAMESPACE).any(|r| {
            let templates = r.pointer("/data/templates").and_then(Value::as_object);
            templates.into_iter().flatten().any(|(_, t)| template::normalise(t) == *newest)
        })
    };
    if here || kept() { Ok(()) } else { Err("I25: the owner's newest template is lost".to_owned()) }
}

/// I24: at rest the owner's objects are as they wrote them, `paused` and its annotation excepted.
pub fn i24(store: &Store) -> Found {
    let manager = |o: &Value| json::list(o, "/metadata/managedFields").iter().any(|e| text(e, "/manager") == USER);
    for service in store.list(&SERVICE, NAMESPACE) {
        let notes = json::strings(service, "/metadata/annotations");
        if is_ours(service) {
            return Err(format!("I24: Service {} is left", json::name(service)));
        }
        if pinned(service) || notes.keys().any(|k| k.starts_with("haldane.dev/")) || manager(service) {
            return Err(format!("I24: Service {} still carries something of ours", json::name(service)));
        }
    }
    for cron_job in store.list(&CRON_JOB, NAMESPACE) {
        if manager(cron_job) || cron_job.to_string().contains("haldane.dev/") {
            return Err(format!("I24: CronJob {} carries something of ours", json::name(cron_job)));
        }
    }
    for deployment in store.list(&DEPLOYMENT, NAMESPACE) {
        if is_canary(deployment) {
            return Err(format!("I24: {} is left", json::name(deployment)));
        }
        if manager(deployment) {
            return Err(format!("I24: Deployment {} has fields of ours", json::name(deployment)));
        }
    }
    Ok(())
}

/// I16: after the Delivery is gone, everything is its owner's again.
pub fn i16(store: &Store) -> Found {
    i24(store)?;
    for deployment in store.list(&DEPLOYMENT, NAMESPACE) {
        let notes = json::strings(deployment, "/metadata/annotations");
        if flag(deployment, "/spec/paused") || notes.keys().any(|k| k.starts_with("haldane.dev/")) {
            return Err(format!("I16: Deployment {} is still gated", json::name(deployment)));
        }
    }
    if store.find(&DELIVERY, NAMESPACE, APP).is_some() { Err("I16: the Delivery is still there".to_owned()) } else { Ok(()) }
}
