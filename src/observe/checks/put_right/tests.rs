use std::sync::Mutex;

use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::api::{TRACK_CANARY, TRACK_LABEL};

/// An API server that knows these objects, by the last part of their path.
fn server(objects: Value) -> (Client, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = asked.clone();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        log.lock().unwrap().push(request.uri().to_string());
        let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let (code, body) = match &objects[name] {
            Value::Null => (404, json!({"kind": "Status", "status": "Failure", "code": 404, "message": "not found", "reason": "NotFound"})),
            Value::Array(items) => (200, json!({"metadata": {}, "items": items})),
            Value::Number(code) => {
                let code = u16::try_from(code.as_u64().unwrap()).unwrap();
                (code, json!({"kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": "Forbidden"}))
            }
            object => (200, object.clone()),
        };
        async move {
            let body = Body::from(body.to_string().into_bytes());
            Ok::<_, std::convert::Infallible>(http::Response::builder().status(code).body(body).unwrap())
        }
    });
    (Client::new(service, "demo"), asked)
}

fn pod(name: &str, ready: bool, canary: bool, ip: &str) -> Value {
    let mut labels = json!({"app": "shop"});
    if canary {
        labels[TRACK_LABEL] = json!(TRACK_CANARY);
    }
    let status = if ready { "True" } else { "False" };
    json!({"metadata": {"name": name, "labels": labels}, "status": {"podIP": ip,
        "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": "2026-11-22T00:00:00Z"}]}})
}

fn service(pin: &Value) -> Value {
    let mut selector = json!({"app": "shop"});
    selector.as_object_mut().unwrap().extend(pin.as_object().unwrap().clone());
    json!({"metadata": {"name": "shop", "annotations": {"haldane.dev/pinned-since": "2026-11-22T00:00:00Z by shop"}},
        "spec": {"selector": selector, "ports": [{"port": 80, "targetPort": 8080}]}})
}

fn probe() -> ProductionProbe {
    serde_json::from_value(json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "ProductionProbe",
        "metadata": {"name": "order-bot", "uid": "u", "generation": 4}, "spec": {
            "target": {"serviceRef": {"name": "shop"}}, "mutates": true, "maxOpen": 3,
            "secrets": [{"name": "password", "secretRef": {"name": "bot", "key": "password"}}, {"name": "other", "secretRef": {"name": "other", "key": "x"}}],
            "setup": [
                {"name": "login", "request": {"method": "POST", "path": "/login", "json": {"password": "${secrets.password}"}},
                    "capture": [{"name": "sid", "cookie": "sid"}]},
                {"name": "look", "request": {"path": "/?${secrets.other}"}}],
            "steps": [{"name": "place", "request": {"method": "POST", "path": "/orders"}, "capture": [{"name": "id", "jsonPath": "$.id"}]}],
            "teardown": [{"name": "cancel", "request": {"method": "DELETE", "path": "/orders/${id}", "headers": [{"name": "Cookie", "value": "sid=${sid}"}]}}],
            "sweep": {"list": {"path": "/orders"}, "items": "$[*]", "named": {"jsonPath": "$.ref", "prefix": "synth-"}, "olderThan": "2h",
                "delete": {"method": "DELETE", "path": "/orders/${item.id}"}}}}))
    .unwrap()
}

/// What is written down of a run of that probe.
fn run() -> ProbeRunSpec {
    let raw = probe();
    let mut secrets = crate::model::probe::Vars::default();
    secrets.set("secrets.password", "s3cret-canary".into());
    secrets.set("secrets.other", "s3cret-other".into());
    let made = super::super::probe("order-bot", &raw.spec, (None, secrets), None).unwrap();
    let page = page("demo", "shop", &raw, &made.check).unwrap();
    assert_eq!((page.most, page.probe.generation, page.delivery.as_str()), (3, 4, "shop"));
    let spec = ProbeRunSpec {
        probe_ref: page.probe.clone(),
        delivery_ref: crate::api::release::DeliveryRef { name: page.delivery.clone() },
        run: "00".to_owned(),
        holder: "pod/1".to_owned(),
        until: k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(Timestamp::UNIX_EPOCH),
        put_right: page.put_right.clone(),
    };
    assert!(!json!(spec).to_string().contains("s3cret"), "a secret is written down");
    spec
}

fn secret() -> Value {
    // "n3w" in base64.
    json!({"metadata": {"name": "bot"}, "data": {"password": "bjN3"}})
}

async fn found(objects: Value, turn: usize) -> Result<(Check, SocketAddr), Nobody> {
    put_right(&server(objects).0, "demo", &run(), turn).await.unwrap()
}

#[tokio::test]
async fn a_run_is_put_right_by_what_was_written_down_with_secrets_read_anew() {
    let pods = json!([pod("s1", true, false, "10.0.0.1")]);
    let (client, asked) = server(json!({"shop": service(&json!({})), "pods": pods, "bot": secret()}));
    let (check, home) = put_right(&client, "demo", &run(), 0).await.unwrap().unwrap();
    assert_eq!((home.to_string().as_str(), check.name.as_str()), ("10.0.0.1:8080", "order-bot"));
    let names = |steps: &[Step]| steps.iter().map(|step| step.name.clone()).collect::<Vec<_>>();
    assert_eq!((names(&check.setup), names(&check.steps), names(&check.teardown)), (vec!["login".into()], vec![], vec!["cancel".into()]));
    assert_eq!(check.secrets.get("secrets.password"), Some("n3w"));
    assert_eq!(check.sweep.map(|sweep| sweep.older_than), Some(Duration::from_hours(2)));
    let asked = asked.lock().unwrap().join(" ");
    assert!(asked.contains("/secrets/bot") && !asked.contains("other"), "only the Secrets that it takes: {asked}");
}

#[tokio::test]
async fn it_is_put_right_through_a_ready_pod_of_what_is_proven_whatever_the_service_selects_now() {
    let world = |pods: Value, pin: Value| json!({"shop": service(&pin), "pods": pods, "bot": secret()});
    let all = json!([
        pod("c1", true, true, "10.0.0.9"),
        pod("s1", false, false, "10.0.0.1"),
        pod("s2", true, false, "10.0.0.2"),
        pod("s3", true, false, "10.0.0.3")
    ]);
    for pin in [json!({}), json!({"haldane.dev/track": "canary"}), json!({"pod-template-hash": "h1"})] {
        let (client, asked) = server(world(all.clone(), pin));
        let (_, home) = put_right(&client, "demo", &run(), 0).await.unwrap().unwrap();
        assert_eq!(home.ip().to_string(), "10.0.0.2");
        let asked = asked.lock().unwrap().join(" ");
        assert!(asked.contains("labelSelector=app%3Dshop") && !asked.contains("track") && !asked.contains("hash"), "{asked}");
    }
    assert_eq!(found(world(all, json!({})), 1).await.unwrap().1.ip().to_string(), "10.0.0.3", "another one at the next try");
    let only_canary = json!([pod("c1", true, true, "10.0.0.9"), pod("s1", false, false, "10.0.0.1")]);
    assert_eq!(found(world(only_canary, json!({})), 0).await.unwrap().1.ip().to_string(), "10.0.0.9");
}

#[tokio::test]
async fn a_teardown_that_was_mended_since_puts_earlier_runs_right_too_and_that_of_another_probe_does_not() {
    let world = |change: &dyn Fn(&mut Value)| {
        let mut changed = serde_json::to_value(probe()).unwrap();
        (changed["metadata"]["generation"], changed["spec"]["teardown"][0]["request"]["path"]) = (json!(5), json!("/mended/${id}"));
        change(&mut changed);
        json!({"shop": service(&json!({})), "pods": [pod("s1", true, false, "10.0.0.1")], "bot": secret(), "order-bot": changed})
    };
    let path = async |world: Value| found(world, 0).await.unwrap().0.teardown[0].path.clone();
    assert_eq!(path(world(&|_| {})).await, "/mended/${id}");
    let before = "/orders/${id}";
    assert_eq!(path(world(&|probe| probe["metadata"]["generation"] = json!(4))).await, before, "it is as it was");
    assert_eq!(path(world(&|probe| probe["metadata"]["uid"] = json!("v"))).await, before, "another one of that name");
    assert_eq!(path(world(&|probe| probe["spec"]["teardown"] = json!([]))).await, before, "one that puts nothing right any more");
    assert_eq!(path(world(&|probe| probe["spec"]["steps"] = json!(7))).await, before, "one that cannot be read");
}

#[tokio::test]
async fn nobody_to_ask_is_said() {
    let none = json!({"shop": service(&json!({})), "pods": [pod("s1", false, false, "10.0.0.1")], "bot": secret()});
    assert_eq!(found(none, 0).await.unwrap_err(), Nobody::Now("no pod behind Service shop is ready".into()));
    assert_eq!(found(json!({"pods": []}), 0).await.unwrap_err(), Nobody::Left("Service shop does not exist any more".into()));
    let refused = json!({"shop": service(&json!({})), "pods": [pod("s1", true, false, "10.0.0.1")], "bot": 403});
    assert!(matches!(found(refused, 0).await.unwrap_err(), Nobody::Now(why) if why.starts_with("Secret bot may not be read")));
}

#[tokio::test]
async fn a_process_has_gone_when_its_pod_has_or_when_its_container_ended_since() {
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    let (then, before, later) = (at(1_800_000_000), at(1_799_999_000).to_string(), at(1_800_000_001).to_string());
    let pod = |uid: &str, container: Value| {
        let mut container = container;
        (container["name"], container["image"], container["imageID"]) = (json!("controller"), json!(""), json!(""));
        (container["ready"], container["restartCount"]) = (json!(true), json!(0));
        json!({"metadata": {"name": uid, "uid": uid}, "status": {"phase": "Running", "containerStatuses": [container]}})
    };
    let ended = |at: &str| json!({"exitCode": 137, "finishedAt": at});
    let pods = json!([
        pod("runs", json!({"state": {"running": {"startedAt": before}}})),
        pod("again", json!({"state": {"running": {"startedAt": later}}, "lastState": {"terminated": ended(&later)}})),
        pod("before", json!({"state": {"running": {"startedAt": before}}, "lastState": {"terminated": ended(&before)}})),
        pod("waits", json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended(&later)}})),
    ]);
    let (client, _) = server(json!({"pods": pods}));
    let mut gone = Vec::new();
    for uid in ["runs", "again", "before", "waits", "evicted"] {
        gone.push(has_gone(&client, "home", uid, then).await.unwrap());
    }
    assert_eq!(gone, [false, true, false, true, true]);
    let (refused, _) = server(json!({"pods": 403}));
    assert!(!has_gone(&refused, "home", "evicted", then).await.unwrap(), "where we may not look, it may be there");
}
