//! What holds of the routes of an app, stored and served, in every state and at each moment that a configuration comes to be served.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{
    app::NAMESPACE,
    sim::{
        Key, Store,
        api::{
            kinds::{DELIVERY, GRPC_ROUTE, HTTP_ROUTE, POD, SERVICE},
            store::Change,
        },
        json::{self, count, labels, text},
        world::{
            plane::{Plane, Served},
            routing::{self, Request, RouteShare},
            traffic::Routed,
        },
    },
    town::USER,
};

/// The longest request: a pod that ends sooner after its last one cuts it.
const LONGEST: Duration = Duration::from_millis(800);
/// What a tester says, whatever the header is called.
const TESTER: &str = "canary";
const TRACK: &str = "haldane.dev/track";

type Found = Result<(), String>;

/// What is remembered of routes and of who gets their requests.
#[derive(Default)]
pub struct Book {
    /// The spec of each route as its owner wrote it.
    home: BTreeMap<Key, Value>,
    /// Routes that once failed nobody.
    served: BTreeMap<Key, bool>,
    /// By whom requests are served now, and until when others were, by uid.
    reached: BTreeMap<String, Option<Duration>>,
}

impl Book {
    /// Takes a change in: what the owner wrote is home.
    pub fn learn(&mut self, change: &Change) {
        let spec = &change.object["spec"];
        let same = change.before.as_deref().is_some_and(|before| before["spec"] == *spec);
        if !change.key.kind.routes() || change.by == USER || same {
            return;
        }
        let mut home = spec.clone();
        if let Some(before) = self.home.get(&change.key).filter(|_| canary_of(spec).is_some()) {
            // Somebody edits what is in use: our part of it is not theirs.
            home["rules"] = before["rules"].clone();
        }
        self.home.insert(change.key.clone(), home);
    }

    /// I24: at rest a route is as its owner wrote it.
    pub fn is_home(&self, store: &Store) -> Found {
        for (key, home) in &self.home {
            let Some(route) = store.get(key) else { continue };
            let notes = json::strings(route, "/metadata/annotations");
            let ours = json::list(route, "/metadata/managedFields").iter().any(|entry| text(entry, "/manager") == USER);
            if route["spec"] != *home {
                return Err(format!("I24: {key} is not as its owner wrote it: {}", route["spec"]["rules"]));
            }
            if ours || notes.keys().any(|note| note.starts_with("haldane.dev/")) {
                return Err(format!("I24: {key} still carries something of ours"));
            }
        }
        Ok(())
    }

    /// Everything that holds at every moment for routes that a Delivery names.
    pub fn look(&mut self, plane: &Plane, store: &Store, change: Option<&Change>, now: Duration, disturbed: bool) -> Found {
        let served = plane.served();
        let mut reached: Vec<String> = Vec::new();
        let mut found: Found = Ok(());
        for (delivery, key) in routed(store) {
            found = found.and(refers_to_what_is_there(store, &key));
            found = found.and(unverified_share(plane, store, delivery, &key, self.home.get(&key)));
            for share in shares(plane, store, &served, &key) {
                reached.extend(share.pods.iter().filter_map(|(pod, _)| uid(store, &pod.pod)));
                let fails = share.failed > 0.0;
                if !fails {
                    self.served.insert(key.clone(), true);
                } else if !disturbed && self.served.contains_key(&key) {
                    found = found.and(Err(format!(
                        "I1: {key} fails {:.0} % of a rule's requests: {}",
                        share.failed * 100.0,
                        share.why.join(", ")
                    )));
                }
            }
        }
        for (uid, until) in &mut self.reached {
            until.get_or_insert(now);
            if reached.contains(uid) {
                *until = None;
            }
        }
        self.reached.extend(reached.into_iter().map(|uid| (uid, None)));
        if !disturbed {
            found = found.and(self.cuts_nobody(plane, change, now));
        }
        found
    }

    /// I1: a pod that ends had its last request long enough ago.
    fn cuts_nobody(&self, plane: &Plane, change: Option<&Change>, now: Duration) -> Found {
        let Some(change) = change.filter(|change| change.key.kind == &POD) else { return Ok(()) };
        let (pod, stood) = (&change.object, change.before.as_deref().is_some_and(|pod| !json::is_terminating(pod)));
        if !stood || !json::is_terminating(pod) || plane.drains(text(pod, "/spec/containers/0/image")) {
            return Ok(());
        }
        let Some(until) = self.reached.get(json::uid(pod)) else { return Ok(()) };
        match until {
            Some(until) if now >= *until + LONGEST => Ok(()),
            Some(until) => Err(format!("I1: {} ends {:?} after its last request", json::name(pod), now.saturating_sub(*until))),
            None => Err(format!("I1: {} ends while it gets requests", json::name(pod))),
        }
    }
}

/// Each route that a Delivery names.
fn routed(store: &Store) -> Vec<(&Value, Key)> {
    let mut all = Vec::new();
    for delivery in store.list(&DELIVERY, NAMESPACE) {
        for named in json::list(delivery, "/spec/workloads").iter().flat_map(|workload| json::list(workload, "/routeRefs")) {
            let kind = if text(named, "/kind") == "GRPCRoute" { &GRPC_ROUTE } else { &HTTP_ROUTE };
            let key = Key::new(kind, NAMESPACE, text(named, "/name"));
            if store.get(&key).is_some() {
                all.push((delivery, key));
            }
        }
    }
    all
}

/// Every rule by itself, whoever it is for.
fn shares(plane: &Plane, store: &Store, served: &Served, key: &Key) -> Vec<RouteShare> {
    let rules = served.routes.get(key).map_or(&[][..], |(spec, _)| json::list(spec, "/rules"));
    rules.iter().map(|rule| routing::of_rule(plane, store, served, NAMESPACE, rule)).collect()
}

fn uid(store: &Store, pod: &str) -> Option<String> {
    store.find(&POD, NAMESPACE, pod).map(|pod| json::uid(pod).to_owned())
}

fn backends(spec: &Value) -> impl Iterator<Item = &Value> {
    json::list(spec, "/rules").iter().flat_map(|rule| json::list(rule, "/backendRefs"))
}

/// The Service of ours that the rules name.
pub fn canary_of(spec: &Value) -> Option<&str> {
    backends(spec).map(|backend| text(backend, "/name")).find(|name| name.ends_with("-canary"))
}

/// I3: no route names a Service that is not there, whatever its weight.
fn refers_to_what_is_there(store: &Store, key: &Key) -> Found {
    let spec = store.get(key).map_or(&Value::Null, |route| &route["spec"]);
    let missing = backends(spec).map(|backend| text(backend, "/name")).find(|name| store.find(&SERVICE, NAMESPACE, name).is_none());
    missing.map_or(Ok(()), |name| Err(format!("I3: {key} names Service {name}, which is not there")))
}

/// I2: of what the app gets, no more reaches an unproven version than its step allows, for each request that the owner's rules take.
/// What is written counts: that it is served later cannot be helped.
fn unverified_share(plane: &Plane, store: &Store, delivery: &Value, key: &Key, home: Option<&Value>) -> Found {
    let allowed = match text(delivery, "/status/phase") {
        _ if text(delivery, "/status/rollout/direction") == "Return" => return Ok(()),
        "Canary" => {
            let step = usize::try_from(count(delivery, "/status/rollout/step")).unwrap_or(0);
            json::list(delivery, "/spec/rollout/steps").get(step).map_or(100, |step| count(step, "/weight"))
        }
        "RollingBack" if text(delivery, "/status/rollout/back/at").contains("Finalizing") => return Ok(()),
        "Promoting" | "Guarding" | "Finalizing" => return Ok(()),
        _ => 0,
    };
    let stored = Served::of(store);
    for request in home.map(requests).unwrap_or_default() {
        let share = routing::under(plane, store, &stored, key, &request);
        let (new, all) = (share.fraction(is_canary), share.fraction(|pod| is_of(delivery, pod)));
        #[allow(clippy::cast_precision_loss, reason = "0 to 100")]
        let most = all * allowed as f64 / 100.0;
        if new > most + 1e-9 && all > new {
            let phase = text(delivery, "/status/phase");
            return Err(format!("I2: {new:.3} of {} through {key} reach the canary in {phase}, {most:.3} are allowed", request.path));
        }
    }
    Ok(())
}

fn is_canary(pod: &Routed) -> bool {
    pod.labels.contains_key(TRACK)
}

fn is_of(delivery: &Value, pod: &Routed) -> bool {
    pod.labels.get("app").is_some_and(|app| app == text(delivery, "/spec/workloads/0/name"))
}

/// One request for each match of the rules.
fn requests(spec: &Value) -> Vec<Request> {
    let matches = json::list(spec, "/rules").iter().flat_map(|rule| json::list(rule, "/matches"));
    let one = |one: &Value| {
        let headers: Vec<(&str, &str)> = json::list(one, "/headers").iter().map(|h| (text(h, "/name"), text(h, "/value"))).collect();
        let method = text(one, "/method");
        let call = format!("/{}/{}", text(one, "/method/service"), text(one, "/method/method"));
        let path = if one.get("path").is_some() { text(one, "/path/value") } else { &call };
        let request = Request::with(&headers).to(path);
        Request { method: if method.is_empty() { request.method.clone() } else { method.to_owned() }, ..request }
    };
    matches.map(one).collect()
}

/// The header by which a tester reaches the canary, if the rules have one.
pub fn testers(spec: &Value) -> Option<&str> {
    let matches = json::list(spec, "/rules").iter().flat_map(|rule| json::list(rule, "/matches"));
    let mut headers = matches.flat_map(|one| json::list(one, "/headers"));
    headers.find(|header| text(header, "/value") == TESTER).map(|header| text(header, "/name"))
}

/// What the canary gets by the weights of the first rule that names it beside something else, in per cent.
pub fn weight(spec: &Value) -> Option<i64> {
    let canary = canary_of(spec)?;
    let stable = canary.trim_end_matches("-canary");
    let of =
        |rule: &Value, name: &str| json::list(rule, "/backendRefs").iter().find(|b| text(b, "/name") == name).map(|b| count(b, "/weight"));
    let both = json::list(spec, "/rules").iter().find_map(|rule| Some((of(rule, stable)?, of(rule, canary)?)));
    both.map(|(stable, canary)| 100 * canary / (stable + canary).max(1))
}

/// A Service that was made for a canary.
pub fn is_ours(service: &Value) -> bool {
    labels(service).contains_key("haldane.dev/delivery")
}
