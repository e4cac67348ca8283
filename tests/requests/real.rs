//! The same against a real API server. A rule that only a fake has seen is not done.

use std::time::Duration;

use haldane::{
    act::ActError,
    api::{crd_yaml, delivery::Delivery, release::OriginType, status::DeliveryStatus},
    model::{
        decision::{Effect, Target},
        world::{Observation, Pin},
    },
};
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

use super::world::*;
use crate::plane::apiserver::ApiServer;

async fn start() -> Client {
    let server = tokio::task::spawn_blocking(ApiServer::own).await.unwrap();
    let kubeconfig = Kubeconfig::read_from(&server.kubeconfig).unwrap();
    let client = Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()).unwrap();
    let up = tokio::time::timeout(Duration::from_mins(1), async {
        // The allocator of Service addresses is the last part to be ready.
        while ready(&client).await.is_err() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    up.await.expect("the API server takes Services");
    client
}

async fn ready(client: &Client) -> kube::Result<()> {
    namespace(client).await?;
    apply(client, "", "Service", &their_service()).await.map(|_| ())
}

async fn namespace(client: &Client) -> kube::Result<()> {
    let api = Api::<DynamicObject>::all_with(client.clone(), &resource("", "Namespace"));
    let object = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})).unwrap();
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        done => done.map(|_| ()),
    }
}

fn resource(group: &str, kind: &str) -> ApiResource {
    let version = if group == "haldane.dev" { "v1alpha1" } else { "v1" };
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

fn api(client: &Client, group: &str, kind: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), "shop", &resource(group, kind))
}

async fn get(client: &Client, group: &str, kind: &str) -> Value {
    serde_json::to_value(api(client, group, kind).get("web").await.unwrap()).unwrap()
}

/// The owner's server-side apply, which fails on any field that somebody else owns.
async fn apply(client: &Client, group: &str, kind: &str, object: &Value) -> kube::Result<DynamicObject> {
    api(client, group, kind).patch("web", &PatchParams::apply("owner"), &Patch::Apply(object)).await
}

fn their_deployment(image: &str, env: &[&str]) -> Value {
    let env: Vec<Value> = env.iter().map(|name| json!({"name": name, "value": "1"})).collect();
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": image, "env": env}]}}}})
}

fn their_service() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]}})
}

async fn look(client: &Client) -> Observation {
    seen(&get(client, "apps", "Deployment").await, &get(client, "", "Service").await)
}

async fn act(client: &Client, seen: &Observation, effects: &[Effect]) -> Result<(), ActError> {
    actor(client.clone()).act(&proof(), &delivery(&delivery_object()), seen, effects).await.map(|_| ())
}

fn owners(object: &Value) -> Value {
    object["metadata"]["managedFields"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_real_api_server_makes_of_it() {
    let client = start().await;
    apply(&client, "apps", "Deployment", &their_deployment("web:1", &["V"])).await.unwrap();
    a_pin_leaves_no_trace(&client).await;
    the_gate_leaves_the_owners_fields_to_the_owner(&client).await;
    a_stale_look_is_a_conflict_and_nonsense_is_refused(&client).await;
    a_canary_stands_beside_it(&client).await;
    Box::pin(our_own_kinds(&client)).await;
}

async fn a_pin_leaves_no_trace(client: &Client) {
    let before = get(client, "", "Service").await;
    for pin in [hash(), Pin::Canary, Pin::Off] {
        act(client, &look(client).await, &[Effect::PinService { service: "web".to_owned(), pin }]).await.unwrap();
        assert_eq!(owners(&get(client, "", "Service").await), owners(&before));
    }
    let after = get(client, "", "Service").await;
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(after["metadata"]["annotations"], Value::Null);
    apply(client, "", "Service", &their_service()).await.expect("the owner's apply meets no conflict");
}

async fn the_gate_leaves_the_owners_fields_to_the_owner(client: &Client) {
    let v1 = get(client, "apps", "Deployment").await["spec"]["template"].clone();
    act(client, &look(client).await, &[Effect::CloseGate { workload: web(), exact: true }]).await.unwrap();
    apply(client, "apps", "Deployment", &their_deployment("web:2", &["V", "X"])).await.unwrap();
    let gated = get(client, "apps", "Deployment").await;
    assert_eq!(gated["spec"]["paused"], true, "the owner's apply does not open the gate");

    let open = Effect::OpenGate { workload: web(), template: Some(v1.clone()), put_back: Some(release("web-2")), leave: false };
    act(client, &look(client).await, &[open]).await.unwrap();
    let opened = get(client, "apps", "Deployment").await;
    assert_eq!((&opened["spec"]["template"], opened["spec"]["paused"] == true), (&v1, false));
    assert_eq!(owners(&opened), owners(&gated), "field owners are as the owner left them, for a template that is not theirs");

    act(client, &look(client).await, &[Effect::CloseGate { workload: web(), exact: false }]).await.unwrap();
    let put = Effect::PutTemplate { workload: web(), template: gated["spec"]["template"].clone(), put_back: None };
    act(client, &look(client).await, &[put]).await.unwrap();
    assert_eq!(owners(&get(client, "apps", "Deployment").await), owners(&gated));
    let applied = apply(client, "apps", "Deployment", &their_deployment("web:3", &["V"])).await.expect("no conflict with us");
    let env = applied.data.pointer("/spec/template/spec/containers/0/env").unwrap().as_array().unwrap().len();
    assert_eq!(env, 1, "what the owner takes out of the manifest goes, although we wrote it last");

    let leave = Effect::OpenGate { workload: web(), template: None, put_back: None, leave: true };
    act(client, &look(client).await, &[leave, Effect::DropOwnership(Target::Workload(web()))]).await.unwrap();
    let left = get(client, "apps", "Deployment").await;
    assert_eq!((left["spec"]["paused"] == true, &left["metadata"]["annotations"]), (false, &Value::Null));
}

async fn a_stale_look_is_a_conflict_and_nonsense_is_refused(client: &Client) {
    let stale = look(client).await;
    apply(client, "apps", "Deployment", &their_deployment("web:4", &[])).await.unwrap();
    let open = Effect::OpenGate { workload: web(), template: None, put_back: None, leave: false };
    assert!(matches!(act(client, &stale, &[open]).await, Err(ActError::Conflict { .. })));
    let raw =
        json!([{"op": "test", "path": "/metadata/resourceVersion", "value": "1"}, {"op": "add", "path": "/spec/paused", "value": true}]);
    let patch = Patch::<()>::Json(serde_json::from_value(raw).unwrap());
    let failed = api(client, "apps", "Deployment").patch("web", &PatchParams::default(), &patch).await.unwrap_err();
    assert!(
        matches!(&failed, kube::Error::Api(status) if status.code == 422 && status.details.as_ref().is_none_or(|d| d.causes.is_empty()))
    );

    act(client, &look(client).await, &[Effect::CloseGate { workload: web(), exact: true }]).await.unwrap();
    let nonsense = Effect::PutTemplate { workload: web(), template: json!({"spec": {"containers": []}}), put_back: None };
    assert!(matches!(act(client, &look(client).await, &[nonsense]).await, Err(ActError::Refused { .. })));
}

async fn a_canary_stands_beside_it(client: &Client) {
    let create = Effect::CreateCanary { workload: web(), release: release("web-5"), template: template("web:5"), replicas: 1 };
    act(client, &look(client).await, std::slice::from_ref(&create)).await.unwrap();
    act(client, &look(client).await, &[create]).await.expect("making it twice is making it once");
    let canary = serde_json::to_value(api(client, "apps", "Deployment").get("web-canary").await.unwrap()).unwrap();
    let mut seen = look(client).await;
    for beside in seen.workloads.iter_mut().filter_map(|w| w.canary.as_mut()) {
        beside.uid = String::from("another");
    }
    let scale = Effect::ScaleCanary { workload: web(), replicas: 3 };
    let delete = Effect::DeleteCanary { workload: web() };
    for effect in [&scale, &delete] {
        assert!(
            matches!(act(client, &seen, std::slice::from_ref(effect)).await, Err(ActError::Conflict { .. })),
            "another object of that name"
        );
    }
    for beside in seen.workloads.iter_mut().filter_map(|w| w.canary.as_mut()) {
        beside.uid = String::from(canary["metadata"]["uid"].as_str().unwrap());
    }
    act(client, &seen, &[scale, delete.clone(), delete]).await.unwrap();
    assert!(api(client, "apps", "Deployment").get_opt("web-canary").await.unwrap().is_none());
}

async fn our_own_kinds(client: &Client) {
    for crd in crd_yaml::definitions() {
        Api::all(client.clone()).create(&PostParams::default(), &crd).await.unwrap();
    }
    let deliveries: Api<Delivery> = Api::namespaced(client.clone(), "shop");
    let wanted: Delivery = serde_json::from_value(json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery",
        "metadata": {"name": "web"}, "spec": {"workloads": [{"name": "web"}]}}))
    .unwrap();
    tokio::time::timeout(Duration::from_secs(30), async {
        while deliveries.create(&PostParams::default(), &wanted).await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .unwrap();
    let state = haldane::model::phase::State::new(jiff::Timestamp::UNIX_EPOCH);
    let reason = haldane::model::decision::Reason::DeliveryDeleted;
    let decision = haldane::model::decision::Decision::stay(&state, reason, haldane::model::decision::Wait::Change);
    let announcer =
        haldane::act::announce::Announcer::new(haldane::edge::kube::Cluster::new(client.clone()), std::sync::Arc::new(Noon), "haldane-0");
    announcer.announce(&proof(), &deliveries.get("web").await.unwrap(), None, &decision).await;
    let events = api(client, "events.k8s.io", "Event").list(&kube::api::ListParams::default()).await.unwrap().items;
    // The API server writes Events of its own when it is slow to start.
    let told = events.iter().filter(|e| e.data.pointer("/regarding/name") == Some(&json!("web")));
    assert_eq!(told.count(), 1, "{events:?}");
    let (actor, delivery, seen) = (actor(client.clone()), deliveries.get("web").await.unwrap(), look(client).await);
    let templates = std::collections::BTreeMap::from([(web(), template("web:5"))]);
    let (name, version, image) = (release("web-5"), "5".to_owned(), "web:5".to_owned());
    let why = haldane::model::phase::Why { word: "WentLive".to_owned(), says: "5 is live".to_owned() };
    let effects = [
        Effect::AddFinalizer,
        Effect::RecordRelease { name: name.clone(), version, image, origin: OriginType::Workload, templates: templates.clone() },
        Effect::KeepTemplates { release: name.clone(), templates },
        Effect::SettleRelease {
            release: name.clone(),
            outcome: haldane::api::release::Outcome::Live,
            why,
            superseded_by: None,
            started: None,
        },
    ];
    let done = actor.act(&proof(), &delivery, &seen, &effects).await.unwrap();
    let status = DeliveryStatus { phase: Some("Live".to_owned()), ..DeliveryStatus::default() };
    assert!(matches!(actor.record(&proof(), &delivery, None, &status).await, Err(ActError::Conflict { .. })), "the finalizer moved it");
    assert!(actor.record(&proof(), &delivery, done.delivery_version.as_deref(), &status).await.unwrap().is_some());
    let settled = serde_json::to_value(api(client, "haldane.dev", "Release").get("web-5").await.unwrap()).unwrap();
    assert_eq!((&settled["status"]["outcome"], &settled["status"]["conditions"][0]["status"]), (&json!("Live"), &json!("True")));
    let delivery = deliveries.get("web").await.unwrap();
    actor.act(&proof(), &delivery, &seen, &[Effect::ForgetRelease { release: name }, Effect::RemoveFinalizer]).await.unwrap();
    assert_eq!(deliveries.get("web").await.unwrap().metadata.finalizers, None);
}
