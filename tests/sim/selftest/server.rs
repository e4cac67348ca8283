//! The API server, asked by a real client.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{
    apps::v1::Deployment,
    authorization::v1::SelfSubjectAccessReview,
    core::v1::{ConfigMap, Pod, Service},
};
use kube::{
    Api, Error,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent, WatchParams},
    core::PartialObjectMeta,
};
use serde_json::{Value, json};

use super::support::{Shop, V2};
use crate::sim::{
    ApiServer, Fault, Refusal,
    api::{
        access,
        faults::{Stage, once},
        log::Outcome,
    },
    json,
};

fn config(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"app": name}}, "data": {"n": "0"}})).expect("a ConfigMap")
}

fn maps(api: &ApiServer) -> Api<ConfigMap> {
    Api::namespaced(api.client("haldane"), "default")
}

fn json_patch(operations: Value) -> Patch<()> {
    Patch::Json(serde_json::from_value(operations).expect("a JSON patch"))
}

fn version(object: &ConfigMap) -> String {
    object.metadata.resource_version.clone().expect("stored objects have one")
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> (u16, String) {
    match result {
        Err(Error::Api(status)) => (status.code, status.reason),
        other => panic!("expected a refusal of the API, got {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn create_get_list_and_the_usual_refusals() {
    let api = ApiServer::new(1);
    let maps = maps(&api);
    let made = maps.create(&PostParams::default(), &config("a")).await.expect("created");
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    assert_eq!(code(maps.create(&PostParams::default(), &config("a")).await), (409, "AlreadyExists".into()));
    assert_eq!(code(maps.get("b").await), (404, "NotFound".into()));
    let mut generated = config("");
    generated.metadata.name = None;
    generated.metadata.generate_name = Some("gen-".into());
    let name = maps.create(&PostParams::default(), &generated).await.expect("created").metadata.name.expect("named");
    assert!(name.starts_with("gen-") && name.len() == 9, "{name}");
    for (selector, hits) in [("app=a", 1), ("app!=a", 1), ("app in (a, b)", 1), ("app", 2), ("!app", 0), ("app=b", 0)] {
        let found = maps.list(&ListParams::default().labels(selector)).await.expect("a list");
        assert_eq!(found.items.len(), hits, "{selector}");
    }
    let by_field = maps.list(&ListParams::default().fields("metadata.name=a")).await.expect("a list");
    assert_eq!(by_field.items.len(), 1);
    let elsewhere: Api<ConfigMap> = Api::namespaced(api.client("haldane"), "nowhere");
    assert_eq!(code(elsewhere.create(&PostParams::default(), &config("a")).await).0, 404);
}

#[tokio::test(start_paused = true)]
async fn trap_21_a_stale_resource_version_is_a_conflict_in_every_conditional_write() {
    let api = ApiServer::new(2);
    let maps = maps(&api);
    let old = maps.create(&PostParams::default(), &config("a")).await.expect("created");
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"n": "1"}}))).await.expect("patched");
    assert_eq!(code(maps.replace("a", &PostParams::default(), &old).await), (409, "Conflict".into()));
    let merge = Patch::Merge(json!({"metadata": {"resourceVersion": version(&old)}, "data": {"n": "2"}}));
    assert_eq!(code(maps.patch("a", &PatchParams::default(), &merge).await).0, 409);
    let stale = Preconditions { resource_version: old.metadata.resource_version.clone(), uid: None };
    let params = DeleteParams { preconditions: Some(stale), ..DeleteParams::default() };
    assert_eq!(code(maps.delete("a", &params).await).0, 409);
    let other = Preconditions { uid: Some("other".into()), resource_version: None };
    let params = DeleteParams { preconditions: Some(other), ..DeleteParams::default() };
    assert_eq!(code(maps.delete("a", &params).await).0, 409);
    assert_eq!(maps.get("a").await.expect("still there").data.expect("data")["n"], "1");
}

#[tokio::test(start_paused = true)]
async fn trap_30_a_failed_test_in_a_json_patch_is_422_and_changes_nothing() {
    let api = ApiServer::new(3);
    let maps = maps(&api);
    maps.create(&PostParams::default(), &config("a")).await.expect("created");
    let patch = json_patch(json!([
        {"op": "replace", "path": "/data/n", "value": "1"},
        {"op": "test", "path": "/metadata/uid", "value": "other"},
    ]));
    assert_eq!(code(maps.patch("a", &PatchParams::default(), &patch).await), (422, "Invalid".into()));
    assert_eq!(maps.get("a").await.expect("there").data.expect("data")["n"], "0");
}

#[tokio::test(start_paused = true)]
async fn trap_31_a_write_that_changes_nothing_leaves_the_resource_version() {
    let api = ApiServer::new(4);
    let maps = maps(&api);
    let made = maps.create(&PostParams::default(), &config("a")).await.expect("created");
    tokio::time::sleep(Duration::from_mins(1)).await;
    let params = PatchParams { field_manager: Some("another".into()), ..PatchParams::default() };
    let same = maps.patch("a", &params, &Patch::Merge(json!({"data": {"n": "0"}}))).await.expect("taken");
    assert_eq!(version(&same), version(&made));
    let put = maps.replace("a", &PostParams::default(), &same).await.expect("taken");
    assert_eq!(version(&put), version(&made));
    let moved = maps.patch("a", &params, &Patch::Merge(json!({"data": {"n": "1"}}))).await.expect("taken");
    assert_ne!(version(&moved), version(&made));
}

#[tokio::test(start_paused = true)]
async fn server_side_apply_is_refused_in_clear_words() {
    let api = ApiServer::new(5);
    let maps = maps(&api);
    let apply = maps.patch("a", &PatchParams::apply("us").force(), &Patch::Apply(&config("a"))).await;
    // The object is not there, so the patch does not even get so far; with it, it does.
    assert_eq!(code(apply).0, 404);
    maps.create(&PostParams::default(), &config("a")).await.expect("created");
    assert_eq!(code(maps.patch("a", &PatchParams::apply("us").force(), &Patch::Apply(&config("a"))).await).0, 501);
}

#[tokio::test(start_paused = true)]
async fn status_and_object_leave_each_other_alone_and_the_generation_counts_the_spec() {
    let shop = Shop::open(6).await;
    let deployments: Api<Deployment> = Api::namespaced(shop.api.client("haldane"), "shop");
    let before = deployments.get("web").await.expect("there");
    let both = Patch::Merge(json!({"spec": {"replicas": 4}, "status": {"replicas": 77}}));
    let spec = deployments.patch("web", &PatchParams::default(), &both).await.expect("patched");
    assert_eq!(spec.status, before.status);
    assert_eq!(spec.metadata.generation, before.metadata.generation.map(|g| g + 1));
    let both = Patch::Merge(json!({"spec": {"replicas": 9}, "status": {"replicas": 77}}));
    let status = deployments.patch_status("web", &PatchParams::default(), &both).await.expect("patched");
    assert_eq!(status.spec.expect("spec").replicas, Some(4));
    assert_eq!(status.status.expect("status").replicas, Some(77));
    assert_eq!(status.metadata.generation, spec.metadata.generation);
    let scaled = deployments.patch_scale("web", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 2}}))).await;
    assert_eq!(scaled.expect("scaled").spec.expect("spec").replicas, Some(2));
    assert_eq!(deployments.get_scale("web").await.expect("read").spec.expect("spec").replicas, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_json_patch_leaves_an_entry_of_its_manager_and_the_next_can_drop_it() {
    let shop = Shop::open(7).await;
    let services: Api<Service> = Api::namespaced(shop.api.client("haldane"), "shop");
    let params = PatchParams { field_manager: Some("haldane".into()), ..PatchParams::default() };
    let pin = json_patch(json!([{"op": "add", "path": "/spec/selector/track", "value": "x"}]));
    let pinned = services.patch("web", &params, &pin).await.expect("pinned");
    let managers = |service: &Service| -> Vec<String> {
        service.metadata.managed_fields.iter().flatten().filter_map(|entry| entry.manager.clone()).collect()
    };
    assert_eq!(managers(&pinned), ["kubectl-client-side-apply", "haldane"]);
    let index = managers(&pinned).iter().position(|m| m == "haldane").expect("there");
    let drop = json_patch(json!([
        {"op": "test", "path": format!("/metadata/managedFields/{index}/manager"), "value": "haldane"},
        {"op": "remove", "path": format!("/metadata/managedFields/{index}")},
    ]));
    let dropped = services.patch("web", &params, &drop).await.expect("dropped");
    assert_eq!(managers(&dropped), ["kubectl-client-side-apply"]);
    assert_ne!(dropped.metadata.resource_version, pinned.metadata.resource_version, "that is a change as well");
    // A deployment's fields, by their own path.
    let deployments: Api<Deployment> = Api::namespaced(shop.api.client("haldane"), "shop");
    let patch = json_patch(json!([
        {"op": "add", "path": "/spec/paused", "value": true},
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": V2},
    ]));
    let paused = deployments.patch("web", &params, &patch).await.expect("patched");
    let fields = paused.metadata.managed_fields.into_iter().flatten().find(|e| e.manager.as_deref() == Some("haldane"));
    let wanted = json!({"f:spec": {"f:paused": {}, "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"app\"}": {"f:image": {}}}}}}});
    assert_eq!(fields.and_then(|e| e.fields_v1).map(|f| f.0), Some(wanted));
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_keeps_a_deleted_object_until_it_is_taken_off() {
    let api = ApiServer::new(8);
    let maps = maps(&api);
    let mut kept = config("a");
    kept.metadata.finalizers = Some(vec!["haldane.dev/keep".into()]);
    maps.create(&PostParams::default(), &kept).await.expect("created");
    maps.delete("a", &DeleteParams::default()).await.expect("marked").left().expect("the object");
    let marked = maps.get("a").await.expect("still there");
    assert!(marked.metadata.deletion_timestamp.is_some());
    let more = Patch::Merge(json!({"metadata": {"finalizers": ["haldane.dev/keep", "another.dev/too"]}}));
    assert_eq!(code(maps.patch("a", &PatchParams::default(), &more).await).0, 422);
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": null}}))).await.expect("the last word");
    assert_eq!(code(maps.get("a").await).0, 404);
    maps.create(&PostParams::default(), &config("b")).await.expect("created");
    assert!(maps.delete("b", &DeleteParams::default()).await.expect("gone").is_right(), "a plain delete answers with a Status");
}

#[tokio::test(start_paused = true)]
async fn metadata_alone_when_only_metadata_is_asked_for() {
    let shop = Shop::open(9).await;
    let pods: Api<Pod> = Api::namespaced(shop.api.client("haldane"), "shop");
    let list = pods.list_metadata(&ListParams::default().labels("app=web")).await.expect("a list");
    assert_eq!(list.items.len(), 3);
    let first: &PartialObjectMeta<Pod> = &list.items[0];
    assert!(first.metadata.labels.as_ref().is_some_and(|l| l.contains_key("pod-template-hash")));
    let body = shop.api.log().last().expect("logged").call.accept.clone();
    assert!(body.contains("as=PartialObjectMetadataList"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_what_a_selector_sees_and_ends_at_its_timeout() {
    let api = ApiServer::new(10);
    let maps = maps(&api);
    maps.create(&PostParams::default(), &config("a")).await.expect("created");
    let params = WatchParams::default().labels("app=a").timeout(10);
    let stream = maps.watch(&params, "0").await.expect("a watch");
    let write = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for label in ["b", "a"] {
            maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": {"app": label}}})))
                .await
                .expect("patched");
        }
    };
    let start = api.clock().elapsed();
    let (events, ()) = futures::join!(stream.try_collect::<Vec<_>>(), write);
    assert!((9..=11).contains(&(api.clock().elapsed() - start).as_secs()));
    let names: Vec<&str> = events
        .as_ref()
        .expect("no error")
        .iter()
        .map(|event| match event {
            WatchEvent::Added(_) => "added",
            WatchEvent::Deleted(_) => "deleted",
            _ => "other",
        })
        .collect();
    assert_eq!(names, ["added", "deleted", "added"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_a_forgotten_version_is_told_410() {
    let api = ApiServer::new(11);
    let maps = maps(&api);
    let made = maps.create(&PostParams::default(), &config("a")).await.expect("created");
    maps.create(&PostParams::default(), &config("b")).await.expect("created");
    api.expire_watches("configmaps");
    let mut stream = maps.watch(&WatchParams::default(), &version(&made)).await.expect("a watch").boxed();
    assert!(matches!(stream.next().await, Some(Ok(WatchEvent::Error(status))) if status.code == 410));
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn held_back_events_come_when_they_are_released() {
    let api = ApiServer::new(12);
    let maps = maps(&api);
    api.hold_watches("configmaps");
    let mut stream = maps.watch(&WatchParams::default(), "1").await.expect("a watch").boxed();
    maps.create(&PostParams::default(), &config("a")).await.expect("created");
    assert!(tokio::time::timeout(Duration::from_hours(1), stream.next()).await.is_err(), "nothing for an hour");
    api.release_watches("configmaps");
    assert!(matches!(stream.next().await, Some(Ok(WatchEvent::Added(_)))));
}

#[tokio::test(start_paused = true)]
async fn every_fault_is_what_it_says() {
    let api = ApiServer::new(13);
    let maps = maps(&api);
    maps.create(&PostParams::default(), &config("a")).await.expect("created");
    let before = api.read(crate::sim::Store::version);
    let touch = |n: u32| Patch::Merge(json!({"data": {"n": n.to_string()}}));
    let patch = |n: u32| {
        let maps = maps.clone();
        async move { maps.patch("a", &PatchParams::default(), &touch(n)).await }
    };

    for refusal in [409, 422, 500, 503, 504] {
        api.on_request(once(Fault::Answer(Refusal::of(refusal, "a bad day")), |call, stage| call.is_write() && stage == Stage::Before));
        assert_eq!(code(patch(1).await).0, refusal);
    }
    assert_eq!(api.read(crate::sim::Store::version), before, "refused before the effect");
    api.on_request(once(Fault::Answer(Refusal::of(429, "slowly").retry_after(7)), |call, _| call.is_write()));
    let told = patch(1).await;
    assert!(matches!(told, Err(Error::Api(s)) if s.code == 429 && s.details.as_ref().is_some_and(|d| d.retry_after_seconds == 7)));

    api.on_request(once(Fault::Disconnect, |call, stage| call.is_write() && stage == Stage::Before));
    assert!(matches!(patch(2).await, Err(Error::Service(_))));
    assert_eq!(api.read(crate::sim::Store::version), before);
    api.on_request(once(Fault::Disconnect, |call, stage| call.is_write() && matches!(stage, Stage::After { .. })));
    assert!(matches!(patch(3).await, Err(Error::Service(_))), "the reply is lost");
    assert_eq!(maps.get("a").await.expect("there").data.expect("data")["n"], "3", "but it took place");
    assert!(api.log().iter().any(|entry| entry.outcome == Outcome::Lost(200)));

    api.on_request(once(Fault::Delay(Duration::from_secs(20)), |call, _| call.is_write()));
    let start = api.clock().elapsed();
    patch(4).await.expect("late");
    assert!(api.clock().elapsed() - start >= Duration::from_secs(20));

    api.on_request(once(Fault::Stale { version: before }, |call, _| call.is_about("configmaps") && !call.is_write()));
    assert_eq!(maps.get("a").await.expect("there").data.expect("data")["n"], "0", "from the past");
    assert_eq!(maps.get("a").await.expect("there").data.expect("data")["n"], "4");
}

#[tokio::test(start_paused = true)]
async fn rights_are_answered_and_enforced_by_one_rule() {
    let api = ApiServer::new(14);
    api.set_access(access::read_only("haldane", &["default"]));
    let reviews: Api<SelfSubjectAccessReview> = Api::all(api.client("haldane"));
    let ask = |namespace: &str| {
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {}, "spec":
        {"resourceAttributes": {"namespace": namespace, "verb": "patch", "group": "apps", "resource": "deployments"}}})
    };
    for (namespace, allowed) in [("default", false), ("shop", true)] {
        let review = serde_json::from_value(ask(namespace)).expect("a review");
        let answer = reviews.create(&PostParams::default(), &review).await.expect("answered");
        assert_eq!(answer.status.expect("a status").allowed, allowed, "{namespace}");
    }
    assert_eq!(code(maps(&api).create(&PostParams::default(), &config("a")).await).0, 403);
    assert_eq!(json::name(&json!({"metadata": {"name": "x"}})), "x");
    assert!(api.writes("haldane").is_empty(), "asking for rights is no write");
}
