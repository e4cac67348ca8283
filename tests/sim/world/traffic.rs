//! Who would get a new connection right now: the question that most invariants are about.
//!
//! Pure over the store, so that an observer can ask it in every stored state.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::{
    api::{
        kinds::{ENDPOINT_SLICE, POD, SERVICE},
        store::Store,
    },
    json::{self, Labels, flag, text},
};

/// One pod behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    pub pod: String,
    pub ip: String,
    /// Image of the first container, as the pod's spec has it.
    pub image: String,
    pub labels: Labels,
    pub hash: String,
}

impl Routed {
    pub fn of(pod: &Value, ip: &str) -> Self {
        let labels = json::labels(pod);
        Self {
            pod: json::name(pod).to_owned(),
            ip: ip.to_owned(),
            image: text(pod, "/spec/containers/0/image").to_owned(),
            hash: labels.get(super::deployment::HASH).cloned().unwrap_or_default(),
            labels,
        }
    }
}

/// Where the new connections of one Service go.
#[derive(Clone, Debug)]
pub struct Share {
    pub namespace: String,
    pub service: String,
    pub selector: Labels,
    /// Each gets the same part.
    pub routed: Vec<Routed>,
    /// Pods that the selector takes and that are ready and not going, whether or not the slice has them already.
    pub matching_ready: usize,
}

impl Share {
    /// The part of the new connections that goes to pods for which `of` holds: 0 to 1; 0 when nobody serves.
    pub fn fraction(&self, of: impl Fn(&Routed) -> bool) -> f64 {
        let hit = self.routed.iter().filter(|pod| of(pod)).count();
        #[allow(clippy::cast_precision_loss, reason = "a few pods")]
        let part = hit as f64 / self.routed.len().max(1) as f64;
        part
    }

    /// Pods by image.
    pub fn by_image(&self) -> BTreeMap<String, usize> {
        self.routed.iter().fold(BTreeMap::new(), |mut counts, pod| {
            *counts.entry(pod.image.clone()).or_default() += 1;
            counts
        })
    }
}

/// All Services with a selector, by namespace and name.
pub fn shares(store: &Store) -> Vec<Share> {
    let services = store.list(&SERVICE, "").filter(|s| !json::strings(s, "/spec/selector").is_empty());
    services.map(|service| of_service(store, service)).collect()
}

/// One Service.
pub fn share(store: &Store, namespace: &str, name: &str) -> Option<Share> {
    store.find(&SERVICE, namespace, name).map(|service| of_service(store, service))
}

fn of_service(store: &Store, service: &Value) -> Share {
    let (namespace, name) = (json::namespace(service), json::name(service));
    let selector = json::strings(service, "/spec/selector");
    let mine = |slice: &&Value| text(slice, "/metadata/labels/kubernetes.io~1service-name") == name;
    let endpoints: Vec<&Value> =
        store.list(&ENDPOINT_SLICE, namespace).filter(mine).flat_map(|slice| json::list(slice, "/endpoints")).collect();
    let ready: Vec<&Value> = endpoints.iter().copied().filter(|e| flag(e, "/conditions/ready")).collect();
    // kube-proxy: where no endpoint is ready, those that end but still serve are used.
    let dying = || endpoints.iter().copied().filter(|e| flag(e, "/conditions/serving") && flag(e, "/conditions/terminating"));
    let used = if ready.is_empty() { dying().collect() } else { ready };
    let routed = used.into_iter().filter_map(|endpoint| routed(store, namespace, endpoint)).collect();
    let takes = |pod: &&Value| json::selects(&selector, &json::labels(pod)) && json::holds(pod, "Ready") && !json::is_terminating(pod);
    let matching_ready = store.list(&POD, namespace).filter(takes).count();
    Share { namespace: namespace.to_owned(), service: name.to_owned(), selector, routed, matching_ready }
}

fn routed(store: &Store, namespace: &str, endpoint: &Value) -> Option<Routed> {
    // A slice that still names a pod that is gone sends its connections nowhere; no version gets them.
    let pod = store.find(&POD, namespace, text(endpoint, "/targetRef/name"))?;
    Some(Routed::of(pod, text(endpoint, "/addresses/0")))
}
