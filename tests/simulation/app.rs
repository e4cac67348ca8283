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
/// Another app, which shares a rule with ours.
pub const HELP: &str = "help";
pub const GATEWAY: &str = "edge";

/// How the app gets its share of the traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    #[default]
    Service,
    Route,
    /// By its route, and with the capacity Small: stable takes a version in place.
    Small,
}

impl Way {
    /// Every sweep goes these ways.
    pub const SWEPT: [Self; 3] = [Self::Service, Self::Route, Self::Small];

    pub fn by_route(self) -> bool {
        self != Self::Service
    }
}

/// What an app runs before the story begins.
pub fn first_image(name: &str) -> String {
    if name == HELP { format!("registry/{HELP}:v1") } else { V1.to_owned() }
}

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

/// Three rules, as people write them: with a filter and no weight, beside another app, and for the other app alone.
pub fn route(name: &str) -> Value {
    let path = |value: &str| json!([{"path": {"type": "PathPrefix", "value": value}}]);
    let marked = json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-api", "value": "1"}]}}]);
    let rules = json!([
        {"matches": path("/api"), "filters": marked, "backendRefs": [{"name": name, "port": 80}]},
        {"matches": path("/"), "backendRefs": [{"name": name, "port": 80, "weight": 3}, {"name": HELP, "port": 80, "weight": 1}]},
        {"matches": path("/static"), "backendRefs": [{"name": HELP, "port": 80}]},
    ]);
    manifests::route("HTTPRoute", NAMESPACE, name, GATEWAY, &rules)
}

/// The Gateway above it.
pub fn gateway() -> Value {
    manifests::gateway(NAMESPACE, GATEWAY)
}

/// Delivered that way: by its route, testers come first.
pub fn by(way: Way, mut delivery: Value) -> Value {
    if way == Way::Small {
        delivery["spec"]["rollout"]["capacity"] = "Small".into();
    }
    if way.by_route() {
        let workload = &mut delivery["spec"]["workloads"][0];
        workload["routeRefs"] = json!([{"kind": "HTTPRoute", "name": workload["name"]}]);
        let steps = &mut delivery["spec"]["rollout"]["steps"];
        let bake = steps[0]["bake"].clone();
        if let Some(steps) = steps.as_array_mut() {
            steps.insert(0, json!({"testers": {}, "bake": bake}));
        }
    }
    delivery
}

/// The owner's `CronJob` of the app's image.
pub const CRON_JOB: &str = "nightly";

/// It, with that image.
pub fn cron_job(image: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": CRON_JOB, "namespace": NAMESPACE},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"backoffLimit": 1, "template": {
            "metadata": {"labels": {"app": CRON_JOB}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": image}]},
        }}}},
    })
}

/// Delivered with it.
pub fn with_cron_job(mut delivery: Value) -> Value {
    delivery["spec"]["cronJobs"] = json!([{"name": CRON_JOB}]);
    delivery
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

/// Judged by its users' requests, too.
pub fn counted(mut delivery: Value) -> Value {
    delivery["spec"]["verify"]["requests"] =
        json!({"counter": "requests_total", "failed": "code=\"500\"", "from": {"scrape": {"port": "8080"}}});
    // A jump is two blocks of 15 s.
    delivery["spec"]["rollout"]["guard"] = "2m".into();
    delivery
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

/// One that orders, cancels, and finds by its name what it could not cancel.
pub fn ordering_probe(name: &str) -> Value {
    let mut made = hurried_probe(name);
    let spec = made["spec"].as_object_mut().unwrap();
    spec.insert("schedule".to_owned(), json!({"rollout": "5s", "always": "30s"}));
    spec.insert("mutates".to_owned(), true.into());
    spec.insert(
        "steps".to_owned(),
        json!([{"name": "order", "request": {"method": "POST", "path": "/orders"}, "capture": [{"name": "id", "jsonPath": "$.id"}]}]),
    );
    spec.insert("teardown".to_owned(), json!([{"name": "cancel", "request": {"method": "DELETE", "path": "/orders/${id}"}}]));
    let delete = json!({"method": "DELETE", "path": "/orders/${item.id}"});
    let sweep = json!({"list": {"path": "/orders"}, "items": "$[*]", "named": {"jsonPath": "$.ref", "prefix": "synth-"}, "delete": delete});
    spec.insert("sweep".to_owned(), sweep);
    made
}

/// The tag of an image.
pub fn tag(image: &str) -> &str {
    image.rsplit(':').next().unwrap_or(image)
}
