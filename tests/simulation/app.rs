//! What is delivered: a small web app, its Service, its probe, and how it is delivered.

use serde_json::{Value, json};

use crate::sim::world::manifests;

pub const NAMESPACE: &str = "shop";
pub const APP: &str = "web";
pub const V1: &str = "registry/web:v1";
pub const V2: &str = "registry/web:v2";
pub const V3: &str = "registry/web:v3";
/// Pods of the owner's Deployment.
pub const REPLICAS: i64 = 3;

/// The owner's Deployment with that image.
pub fn deployment(name: &str, image: &str) -> Value {
    let mut made = manifests::deployment(NAMESPACE, name, image, REPLICAS);
    made["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "TEAM", "value": "shop"}]);
    made
}

/// Its Service.
pub fn service(name: &str) -> Value {
    manifests::service(NAMESPACE, name)
}

/// One path, asked every five seconds in a rollout.
pub fn probe(name: &str) -> Value {
    json!({
        "apiVersion": "haldane.dev/v1alpha1", "kind": "ProductionProbe",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "target": {"serviceRef": {"name": name, "port": "http"}},
            "schedule": {"rollout": "5s", "always": "60s"},
            "steps": [{"name": "home", "request": {"path": "/"}}],
        },
    })
}

/// One pod of four, then half, each for 20 s; half a minute of guard.
pub fn delivery(name: &str) -> Value {
    json!({
        "apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "workloads": [{"name": name}],
            "rollout": {
                "steps": [{"weight": 25, "bake": "20s"}, {"weight": 50, "bake": "20s"}],
                "guard": "30s", "settle": "5s", "deadline": "10m", "rollbackWindow": "1h",
            },
            "verify": {"probes": [{"name": name}]},
        },
    })
}

/// The same in a hurry, where what counts is the order and not the time.
pub fn hurried(name: &str) -> Value {
    let mut made = delivery(name);
    made["spec"]["rollout"]["steps"] = json!([{"weight": 25, "bake": "2s"}, {"weight": 50, "bake": "2s"}]);
    made["spec"]["rollout"]["guard"] = "3s".into();
    made["spec"]["rollout"]["settle"] = "2s".into();
    made
}

/// Asked every second in a rollout.
pub fn hurried_probe(name: &str) -> Value {
    let mut made = probe(name);
    made["spec"]["schedule"] = json!({"rollout": "1s", "always": "60s"});
    made
}

/// The tag of an image.
pub fn tag(image: &str) -> &str {
    image.rsplit(':').next().unwrap_or(image)
}
