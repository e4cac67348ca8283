//! Worlds for the tests of this room.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::client::Body;
use serde_json::{Value, json};

use super::{MergeBoard, Observer, ProbeBoard, probes::Edges};
use crate::{
    api::delivery::Delivery,
    clock::SystemClock,
    edge::{
        kube::Cluster,
        logs::NoLogs,
        probe::{Entry, InMemory, Prober, ScriptedSuites, Swept},
    },
    model::{
        decision::Reason,
        phase::State,
        plan::Plan,
        probe::{Check, Run, RunName},
        route::{Course, Route, RouteKind, RouteName, Word},
        template,
        version::{PodHash, Weight, WorkloadName},
        world::{Observation, ReplicaSet, Workload},
    },
};

/// A workload `shop` of that template with two replicas.
pub(super) fn workload(template: &Value) -> Workload {
    Workload {
        name: WorkloadName::new("shop"),
        uid: "stable".to_owned(),
        resource_version: "1".to_owned(),
        paused: true,
        gate_marked: true,
        put_back: None,
        replicas: 2,
        max_unavailable: 0,
        at_once: 1,
        min_ready: std::time::Duration::ZERO,
        observed: true,
        stuck: false,
        template: template.clone(),
        replica_sets: Vec::new(),
        pods: Vec::new(),
        canary: None,
        canary_left: 0,
        last_writer: None,
        refused: None,
        differs: None,
        owns_fields: false,
    }
}

/// A `ReplicaSet` of that template with two pods.
pub(super) fn replica_set(hash: &str, template: &Value) -> ReplicaSet {
    ReplicaSet { template: template::hash(template), pod_hash: PodHash::new(hash), wanted: 2, pods: 2, available: 2, raw: template.clone() }
}

/// A route to a Service `shop`, as its owner wrote it.
pub(super) fn route() -> Route {
    Route {
        name: RouteName { kind: RouteKind::HTTPRoute, name: "shop".to_owned() },
        uid: "route".to_owned(),
        workload: WorkloadName::new("shop"),
        service: "shop".to_owned(),
        course: Some(Course::Left),
        most: Weight::ZERO,
        since: None,
        changed_by: None,
        unfit: None,
        no_testers: None,
        word: Word::Taken,
        closed: None,
        owns_fields: false,
        edge: None,
    }
}

pub(super) struct Silent;

impl Prober for Silent {
    fn run<'a>(&'a self, _: &'a Arc<Check>, _: SocketAddr, _: SocketAddr, _: Option<Entry>) -> BoxFuture<'a, Run> {
        Box::pin(std::future::pending())
    }

    fn put_right<'a>(
        &'a self,
        _: &'a Check,
        _: SocketAddr,
        _: &'a RunName,
        _: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Option<String>> {
        Box::pin(std::future::pending())
    }

    fn sweep<'a>(&'a self, _: &'a Check, _: SocketAddr, _: &'a (dyn Fn(&RunName) -> bool + Send + Sync)) -> BoxFuture<'a, Swept> {
        Box::pin(std::future::pending())
    }

    fn metrics<'a>(&'a self, _: std::net::SocketAddr, _: &'a str) -> futures::future::BoxFuture<'a, Result<String, String>> {
        Box::pin(std::future::pending())
    }
}

/// What an API server with one Deployment, its `ReplicaSet`, a pod and a Service says.
fn answer(path: &str, allowed: bool) -> (u16, Value) {
    let template =
        json!({"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"name": "app", "image": "shop:1", "newerThanUs": 1}]}});
    let owner = |kind: &str, uid: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": uid, "uid": uid, "controller": true}]);
    let list = |items: Value| (200, json!({"metadata": {}, "items": items}));
    match path.rsplit('/').next().unwrap_or_default() {
        "selfsubjectaccessreviews" => (200, json!({"metadata": {}, "spec": {}, "status": {"allowed": allowed}})),
        "demo" => (200, json!({"metadata": {"name": "demo"}})),
        "shop" => (
            200,
            json!({"metadata": {"name": "shop", "uid": "d", "resourceVersion": "5", "generation": 1},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "shop"}}, "template": template}, "status": {"observedGeneration": 1}}),
        ),
        "replicasets" => list(
            json!([{"metadata": {"name": "shop-h1", "uid": "r", "labels": {"pod-template-hash": "h1"}, "ownerReferences": owner("Deployment", "d")},
            "spec": {"replicas": 1, "template": template}, "status": {"replicas": 1, "availableReplicas": 1}}]),
        ),
        "pods" => list(
            json!([{"metadata": {"name": "shop-h1-a", "labels": {"app": "shop", "pod-template-hash": "h1"}, "ownerReferences": owner("ReplicaSet", "r")},
            "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T00:00:00Z"}]}}]),
        ),
        "services" => list(
            json!([{"metadata": {"name": "shop"}, "spec": {"selector": {"app": "shop"}}}, {"metadata": {"name": "cart"}, "spec": {"selector": {"app": "cart"}}}]),
        ),
        "shop-canary" | "home" => {
            (404, json!({"kind": "Status", "status": "Failure", "code": 404, "message": "not found", "reason": "NotFound"}))
        }
        "odd" => (
            200,
            json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "ProductionProbe", "metadata": {"name": "odd"}, "spec": {"target": 7}}),
        ),
        _ => list(json!([])),
    }
}

/// What is observed there, and which paths were read for it.
async fn observed(allowed: bool) -> (Observation, Vec<String>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let paths = asked.clone();
    let server = tower::service_fn(move |request: http::Request<Body>| {
        paths.lock().unwrap().push(request.uri().to_string());
        let (code, body) = answer(request.uri().path(), allowed);
        async move {
            Ok::<_, std::convert::Infallible>(
                http::Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap(),
            )
        }
    });
    let (nudge, _nudges) = tokio::sync::mpsc::unbounded_channel();
    let edges = Edges {
        prober: Arc::new(Silent),
        ledger: Arc::new(InMemory::default()),
        suites: Arc::new(ScriptedSuites::default()),
        logs: Arc::new(NoLogs),
    };
    let board = Arc::new(ProbeBoard::new(edges, Arc::new(SystemClock), nudge.clone()));
    let merges = Arc::new(MergeBoard::new(None, Arc::new(SystemClock), nudge));
    let observer = Observer::new(Cluster::new(kube::Client::new(server, "demo")), board, merges, <_>::default(), "haldane-system");
    let delivery: Delivery = serde_json::from_value(json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery",
        "metadata": {"name": "checkout", "namespace": "demo", "finalizers": ["haldane.dev/ungate"]},
        "spec": {"workloads": [{"name": "shop"}], "verify": {"probes": [{"name": "home"}, {"name": "odd"}]}}}))
    .unwrap();
    let plan = Plan::try_from(&delivery.spec).unwrap();
    let now = Timestamp::UNIX_EPOCH;
    let seen = observer.observe(&delivery, &plan, &State::new(now), now).await.unwrap();
    let asked = asked.lock().unwrap().clone();
    (seen, asked)
}

#[tokio::test]
async fn one_app_is_read_whole_and_never_from_an_old_cache() {
    let (seen, asked) = observed(true).await;
    let says: Vec<String> = seen.problems.iter().map(ToString::to_string).collect();
    assert_eq!(seen.problems.first(), Some(&Reason::ProbeMissing { probe: "home".to_owned() }));
    assert!(says.len() == 2 && says.iter().any(|s| s.starts_with("ProductionProbe odd cannot be run: it cannot be decoded (")), "{says:?}");
    let workload = seen.workloads.first().unwrap();
    assert!(workload.rolled_to(&workload.template_hash()), "{workload:?}");
    assert_eq!(workload.ready(&PodHash::new("h1")), 1);
    assert_eq!(workload.template.pointer("/spec/containers/0/newerThanUs"), Some(&json!(1)), "fields that we do not know stay");
    assert_eq!(seen.services.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["shop"]);
    assert!(seen.finalizer && !seen.deleting && !seen.namespace_terminating);
    assert!(asked.iter().all(|path| !path.contains("resourceVersion=")), "{asked:?}");
    assert!(asked.iter().all(|path| !path.contains("endpointslices")), "at rest nobody needs to know who is routable: {asked:?}");
}

#[tokio::test]
async fn a_namespace_that_did_not_opt_in_is_not_read() {
    let (seen, asked) = observed(false).await;
    assert_eq!(seen.problems, [Reason::NotGranted { namespace: "demo".to_owned() }]);
    assert_eq!(asked.len(), 2, "{asked:?}");
}
