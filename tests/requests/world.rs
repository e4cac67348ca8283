//! A small world: one Deployment, one Service, one Delivery.

use std::sync::Arc;

use haldane::{
    act::Actor,
    api::delivery::Delivery,
    clock::Clock,
    control::lease::{Elector, LeaderProof},
    edge::kube::Cluster,
    model::{
        version::{PodHash, ReleaseName, WorkloadName},
        world::{Canary, Observation, Pin, Service, Workload},
    },
};
use jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};

pub const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/web";
pub const SERVICE: &str = "/api/v1/namespaces/shop/services/web";
pub const DELIVERY: &str = "/apis/haldane.dev/v1alpha1/namespaces/shop/deliveries/web";

pub struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }
}

pub fn proof() -> LeaderProof {
    Elector::alone(&Noon).current().unwrap()
}

pub fn actor(client: Client) -> Actor {
    Actor::new(Cluster::new(client), Arc::new(Noon))
}

pub fn web() -> WorkloadName {
    WorkloadName::new("web")
}

pub fn release(name: &str) -> ReleaseName {
    ReleaseName::new(name)
}

pub fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": image}]}})
}

pub fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "du", "resourceVersion": "10", "annotations": {"theirs": "1"},
            "managedFields": [{"manager": "helm", "operation": "Update", "apiVersion": "apps/v1", "time": "t", "fieldsV1": {"f:spec": {}}}]},
        "spec": {"replicas": 3, "minReadySeconds": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template("web:1")}})
}

pub fn service() -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop", "uid": "su", "resourceVersion": "20"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]}})
}

pub fn delivery(object: &Value) -> Delivery {
    serde_json::from_value(object.clone()).unwrap()
}

pub fn delivery_object() -> Value {
    json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery",
        "metadata": {"name": "web", "namespace": "shop", "uid": "dl", "resourceVersion": "30", "generation": 1},
        "spec": {"workloads": [{"name": "web"}]}})
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What `observe` would make of these objects.
pub fn seen(deployment: &Value, service: &Value) -> Observation {
    let canary = Canary {
        name: "web-canary".to_owned(),
        uid: "cu".to_owned(),
        resource_version: "40".to_owned(),
        deleting: false,
        release: Some(release("web-2")),
        wanted: 1,
        observed: true,
        stuck: false,
        refused: None,
        pods: Vec::new(),
        ending: 0,
    };
    let workload = Workload {
        name: web(),
        uid: text(deployment, "/metadata/uid"),
        resource_version: text(deployment, "/metadata/resourceVersion"),
        paused: deployment.pointer("/spec/paused") == Some(&json!(true)),
        gate_marked: false,
        put_back: None,
        replicas: 3,
        max_unavailable: 0,
        at_once: 1,
        min_ready: std::time::Duration::ZERO,
        observed: true,
        stuck: false,
        template: deployment.pointer("/spec/template").cloned().unwrap_or_default(),
        replica_sets: Vec::new(),
        pods: Vec::new(),
        canary: Some(canary),
        canary_left: 0,
        last_writer: None,
        refused: None,
        differs: None,
        owns_fields: false,
    };
    let service = Service {
        name: "web".to_owned(),
        uid: text(service, "/metadata/uid"),
        resource_version: text(service, "/metadata/resourceVersion"),
        shape: Service::shape_of(service),
        workload: web(),
        pin: Pin::Off,
        pinned_since: None,
        fits: Vec::new(),
        routable: Vec::new(),
        no_switch: None,
        gradual: None,
        owns_fields: false,
    };
    Observation { workloads: vec![workload], services: vec![service], ..Observation::default() }
}

pub fn hash() -> Pin {
    Pin::Stable(PodHash::new("abc"))
}
