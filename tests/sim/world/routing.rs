//! Whom a request through a route would reach now: rules, weights, endpoints.
//!
//! Pure over a configuration and the store. Deliberately absent: query parameters, which match nothing here.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use super::{
    super::{
        api::{
            kinds::{GRPC_ROUTE, HTTP_ROUTE, Key, POD},
            store::Store,
        },
        json::{self, count, text},
    },
    plane::{Endpoint, Plane, Served},
    traffic::Routed,
};

/// What is asked. The path of a gRPC call is `/package.Service/Method`.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub method: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// GET of `/`.
    pub fn with(headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { path: "/".to_owned(), method: "GET".to_owned(), headers }
    }

    /// Of that path.
    pub fn to(self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self }
    }
}

/// Where requests go. The parts and what fails are 1 together, except where the data plane answers by itself, as for a redirect.
#[derive(Clone, Debug, Default)]
pub struct RouteShare {
    /// Each pod once, with the probability that a request reaches it.
    pub pods: Vec<(Routed, f64)>,
    /// The part of the requests that nobody answers well.
    pub failed: f64,
    /// Why, in words.
    pub why: Vec<String>,
}

impl RouteShare {
    /// The part of the requests that reaches pods for which `of` holds.
    pub fn fraction(&self, of: impl Fn(&Routed) -> bool) -> f64 {
        self.pods.iter().filter(|(pod, _)| of(pod)).map(|(_, part)| part).sum()
    }

    /// Per cent of the requests by image, rounded.
    pub fn by_image(&self) -> BTreeMap<String, u64> {
        let mut parts: BTreeMap<String, f64> = BTreeMap::new();
        for (pod, part) in &self.pods {
            *parts.entry(pod.image.clone()).or_default() += part;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
        let percent = |part: f64| (part * 100.0).round() as u64;
        parts.into_iter().map(|(image, part)| (image, percent(part))).collect()
    }

    fn fail(&mut self, part: f64, why: String) {
        self.failed += part;
        self.why.push(why);
    }

    fn reach(&mut self, pod: Routed, part: f64) {
        match self.pods.iter_mut().find(|(have, _)| have.pod == pod.pod) {
            Some((_, have)) => *have += part,
            None => self.pods.push((pod, part)),
        }
    }
}

/// The route of that name, of either kind.
pub fn find(served: &Served, namespace: &str, name: &str) -> Option<Key> {
    let keys = [&HTTP_ROUTE, &GRPC_ROUTE].map(|kind| Key::new(kind, namespace, name));
    keys.into_iter().find(|key| served.routes.contains_key(key))
}

/// Whom the request reaches now.
pub fn of_request(plane: &Plane, store: &Store, route: &Key, request: &Request) -> RouteShare {
    under(plane, store, &plane.served(), route, request)
}

/// Whom it reaches under that configuration.
pub fn under(plane: &Plane, store: &Store, served: &Served, route: &Key, request: &Request) -> RouteShare {
    let mut nobody = RouteShare::default();
    let Some((spec, open)) = served.routes.get(route) else {
        nobody.fail(1.0, format!("{route} is not served"));
        return nobody;
    };
    if !open {
        nobody.fail(1.0, format!("no Gateway takes requests for {route}"));
        return nobody;
    }
    let Some(rule) = rule_for(route, json::list(spec, "/rules"), request) else {
        nobody.fail(1.0, format!("no rule of {route} takes {}", request.path));
        return nobody;
    };
    of_rule(plane, store, served, &route.namespace, rule)
}

/// Whom the requests of one rule reach.
pub fn of_rule(plane: &Plane, store: &Store, served: &Served, namespace: &str, rule: &Value) -> RouteShare {
    let mut share = RouteShare::default();
    if json::list(rule, "/filters").iter().any(|filter| text(filter, "/type") == "RequestRedirect") {
        return share;
    }
    let backends: Vec<(&Value, i64)> = json::list(rule, "/backendRefs").iter().map(|b| (b, count(b, "/weight"))).collect();
    let total: i64 = backends.iter().map(|(_, weight)| weight).sum();
    if total == 0 {
        // Seen: 503 of Traefik, 500 of Envoy.
        share.fail(1.0, "all weights are 0".to_owned());
        return share;
    }
    for (backend, weight) in backends.into_iter().filter(|(_, weight)| *weight > 0) {
        #[allow(clippy::cast_precision_loss, reason = "at most 16 million")]
        let part = weight as f64 / total as f64;
        let home = text(backend, "/namespace");
        let service = (if home.is_empty() { namespace } else { home }.to_owned(), json::text(backend, "/name").to_owned());
        match served.services.get(&service) {
            None => share.fail(part, format!("Service {} is missing", service.1)),
            Some(none) if none.is_empty() => share.fail(part, format!("Service {} has no ready endpoint", service.1)),
            Some(endpoints) => endpoints.iter().for_each(|one| knock(plane, store, &service.0, one, part, endpoints.len(), &mut share)),
        }
    }
    share
}

fn knock(plane: &Plane, store: &Store, namespace: &str, endpoint: &Endpoint, part: f64, of: usize, share: &mut RouteShare) {
    #[allow(clippy::cast_precision_loss, reason = "a few pods")]
    let part = part / of as f64;
    let pod = store.find(&POD, namespace, &endpoint.pod).filter(|pod| json::uid(pod) == endpoint.uid);
    let Some(pod) = pod.filter(|pod| answers(plane, pod)) else {
        return share.fail(part, format!("pod {} does not answer any more", endpoint.pod));
    };
    share.reach(Routed::of(pod, &endpoint.ip), part);
}

/// Whether some route leads everybody whom it leads to this version to this version alone.
pub fn serves_all(plane: &Plane, store: &Store, ip: &str) -> bool {
    let served = plane.served();
    let app = |image: &str| image.rsplit_once(':').map_or(image, |(name, _)| name).to_owned();
    served.routes.iter().any(|(route, (spec, _))| {
        let for_all = |rule: &&Value| json::list(rule, "/matches").iter().all(|one| json::list(one, "/headers").is_empty());
        json::list(spec, "/rules").iter().filter(for_all).any(|rule| {
            let pods = of_rule(plane, store, &served, &route.namespace, rule).pods;
            let image = pods.iter().find(|(pod, _)| pod.ip == ip).map(|(pod, _)| pod.image.clone());
            image.is_some_and(|image| pods.iter().all(|(pod, _)| pod.image == image || app(&pod.image) != app(&image)))
        })
    })
}

/// An app that does not drain is gone at SIGTERM.
fn answers(plane: &Plane, pod: &Value) -> bool {
    let running = pod.pointer("/status/containerStatuses/0/state/running").is_some();
    running && (!json::is_terminating(pod) || plane.drains(text(pod, "/spec/containers/0/image")))
}

/// What wins among the matches that take a request; more is better, from the left.
type Rank = (bool, usize, bool, usize);

fn rule_for<'a>(route: &Key, rules: &'a [Value], request: &Request) -> Option<&'a Value> {
    let mut best: Option<(Rank, &Value)> = None;
    for rule in rules {
        let matches = json::list(rule, "/matches");
        // Without a match every request is taken: a GRPCRoute may be so.
        let all: Option<Rank> = matches.is_empty().then_some((false, 0, false, 0));
        let rank = matches.iter().filter_map(|one| rank(route, one, request)).max().or(all);
        // Of equals the first rule wins.
        if rank > best.as_ref().map(|(rank, _)| *rank) {
            best = rank.map(|rank| (rank, rule));
        }
    }
    best.map(|(_, rule)| rule)
}

fn rank(route: &Key, one: &Value, request: &Request) -> Option<Rank> {
    if !json::list(one, "/queryParams").is_empty() {
        return None;
    }
    let wanted = json::list(one, "/headers");
    let has = |header: &Value| {
        let same = |(name, value): &(String, String)| name.eq_ignore_ascii_case(text(header, "/name")) && says(header, value);
        request.headers.iter().any(same)
    };
    if !wanted.iter().all(has) {
        return None;
    }
    if route.kind == &GRPC_ROUTE {
        let (exact, length) = call(one, &request.path)?;
        return Some((exact, length, false, wanted.len()));
    }
    let path = text(one, "/path/value");
    let exact = match text(one, "/path/type") {
        "Exact" => (path == request.path).then_some(true),
        "PathPrefix" => begins(&request.path, path).then_some(false),
        _ => says(&one["path"], &request.path).then_some(false),
    }?;
    let method = text(one, "/method");
    (method.is_empty() || method == request.method).then_some((exact, path.len(), !method.is_empty(), wanted.len()))
}

/// Whether the value is the wanted one; an expression takes the whole of it, as Envoy has it.
fn says(wanted: &Value, value: &str) -> bool {
    let wants = text(wanted, "/value");
    match text(wanted, "/type") {
        "RegularExpression" => Regex::new(&format!("^(?:{wants})$")).is_ok_and(|expression| expression.is_match(value)),
        _ => wants == value,
    }
}

/// By whole segments: `/shop` takes `/shop/cart` and not `/shopping`.
fn begins(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a gRPC match takes the call; whether it names both parts, and how long what it names is.
fn call(one: &Value, path: &str) -> Option<(bool, usize)> {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
    let fits = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
    let (wants, does) = (text(one, "/method/service"), text(one, "/method/method"));
    let exact = one.get("method").is_none() || text(one, "/method/type") == "Exact";
    (exact && fits(wants, service) && fits(does, method)).then_some((!wants.is_empty() && !does.is_empty(), wants.len() + does.len()))
}
