//! A second app beside the shop, as small as one can be.

use serde_json::{Value, json};

use super::shop::Shop;

/// A Deployment of one pod.
pub(crate) fn tiny(shop: &Shop, name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {
            "enableServiceLinks": false, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "shop", "image": format!("{}/shop:v1", shop.bed.registry),
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1}}],
        }},
    }})
}

/// The smallest Delivery of a Deployment, which is over soon.
pub(crate) fn smallest(name: &str) -> Value {
    json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery", "metadata": {"name": name}, "spec": {
        "workloads": [{"name": name}], "rollout": {"steps": [{"weight": 50, "bake": "1s"}], "guard": "1s", "settle": "1s"},
    }})
}
