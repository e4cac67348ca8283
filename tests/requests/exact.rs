//! Verb, path, query and body of every effect.

use std::collections::BTreeMap;

use haldane::{
    act::{ActError, Done},
    api::{
        command::CommandResult,
        release::{OriginType, Outcome},
        status::DeliveryStatus,
    },
    model::{
        before::{Job, Ran},
        cron_job::CronJob,
        decision::{Effect, Target},
        phase::Why,
        world::{Observation, Pin},
    },
};
use serde_json::{Value, json};

use super::{fake::Fake, world::*};

const PATCHED: &str = "PATCH /apis/apps/v1/namespaces/shop/deployments/web?&fieldManager=haldane ";
const PINNED: &str = "PATCH /api/v1/namespaces/shop/services/web?&fieldManager=haldane ";

fn fake(objects: &[(&str, Value)]) -> Fake {
    Fake::with(objects)
}

async fn act(fake: &Fake, effects: &[Effect]) -> Result<Done, ActError> {
    let (deployment, service) = (fake.object(DEPLOYMENT), fake.object(SERVICE));
    let delivery = delivery(&delivery_object());
    actor(fake.client()).act(&proof(), &delivery, &seen(&deployment, &service), effects).await
}

fn gated(template: Value) -> Value {
    let mut object = deployment();
    object["spec"]["paused"] = json!(true);
    object["spec"]["template"] = template;
    object
}

#[track_caller]
fn body(line: &str, begins: &str) -> Value {
    serde_json::from_str(line.strip_prefix(begins).unwrap_or_else(|| panic!("{line}"))).unwrap()
}

fn why() -> Why {
    Why { word: "CanaryFailed".to_owned(), says: "v2 was taken back".to_owned() }
}

#[tokio::test]
async fn the_gate_closes_with_tests_of_uid_and_version_at_adoption() {
    let fake = fake(&[(DEPLOYMENT, deployment())]);
    act(&fake, &[Effect::CloseGate { workload: web(), exact: true }]).await.unwrap();
    let patch = body(&fake.writes()[0], PATCHED);
    assert_eq!(patch[0], json!({"op": "test", "path": "/metadata/uid", "value": "du"}));
    assert_eq!(patch[1], json!({"op": "test", "path": "/metadata/resourceVersion", "value": "10"}));
    assert_eq!(patch[2], json!({"op": "add", "path": "/spec/paused", "value": true}));
    assert_eq!(patch[3]["path"], "/metadata/annotations/haldane.dev~1gate");
    assert!(patch[3]["value"].as_str().unwrap().contains("kubectl haldane ungate web"));
}

#[tokio::test]
async fn in_a_hurry_the_gate_closes_with_a_test_of_the_uid_alone() {
    let fake = fake(&[(DEPLOYMENT, deployment())]);
    let seen = seen(&fake.object(DEPLOYMENT), &Value::Null);
    fake.0.lock().unwrap().objects.get_mut(DEPLOYMENT).unwrap()["metadata"]["resourceVersion"] = json!("11");
    let effects = [Effect::CloseGate { workload: web(), exact: false }];
    actor(fake.client()).act(&proof(), &delivery(&delivery_object()), &seen, &effects).await.unwrap();
    let patch = body(&fake.writes()[0], PATCHED);
    assert_eq!(patch.as_array().unwrap().iter().filter(|op| op["op"] == "test").count(), 1);
    assert!(act(&fake, &[]).await.is_ok());
}

#[tokio::test]
async fn an_adoption_of_something_that_has_changed_writes_nothing() {
    let fake = fake(&[(DEPLOYMENT, deployment())]);
    let seen = seen(&fake.object(DEPLOYMENT), &Value::Null);
    fake.0.lock().unwrap().objects.get_mut(DEPLOYMENT).unwrap()["metadata"]["resourceVersion"] = json!("11");
    let effects = [Effect::CloseGate { workload: web(), exact: true }];
    let done = actor(fake.client()).act(&proof(), &delivery(&delivery_object()), &seen, &effects).await;
    assert!(matches!(done, Err(ActError::Conflict { .. })));
    assert!(fake.writes().is_empty());
}

#[tokio::test]
async fn the_gate_opens_for_the_owners_template_only_if_it_is_still_that() {
    let fake = fake(&[(DEPLOYMENT, gated(template("web:2")))]);
    act(&fake, &[Effect::OpenGate { workload: web(), template: None, put_back: None, leave: false }]).await.unwrap();
    let patch = body(&fake.writes()[0], PATCHED);
    assert_eq!(patch[2], json!({"op": "test", "path": "/spec/template", "value": template("web:2")}));
    assert_eq!(patch[3], json!({"op": "replace", "path": "/spec/paused", "value": false}));
    assert_eq!(patch.as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn the_gate_opens_with_a_whole_template_and_a_note_of_what_goes_back() {
    let fake = fake(&[(DEPLOYMENT, gated(template("web:3")))]);
    let effect = Effect::OpenGate { workload: web(), template: Some(template("web:2")), put_back: Some(release("web-3")), leave: false };
    act(&fake, &[effect]).await.unwrap();
    let patch = body(&fake.writes()[0], PATCHED);
    assert_eq!(patch[3], json!({"op": "replace", "path": "/spec/template", "value": template("web:2")}));
    assert_eq!(patch[4], json!({"op": "replace", "path": "/spec/paused", "value": false}));
    assert_eq!(patch[5], json!({"op": "add", "path": "/metadata/annotations/haldane.dev~1put-back", "value": "web-3"}));
}

#[tokio::test]
async fn left_for_good_the_deployment_has_no_word_of_ours() {
    let mut object = gated(template("web:2"));
    object["metadata"]["annotations"] = json!({"theirs": "1", "haldane.dev/gate": "x", "haldane.dev/put-back": "web-3"});
    let fake = fake(&[(DEPLOYMENT, object)]);
    act(&fake, &[Effect::OpenGate { workload: web(), template: None, put_back: None, leave: true }]).await.unwrap();
    assert_eq!(fake.object(DEPLOYMENT)["metadata"]["annotations"], json!({"theirs": "1"}));
}

#[tokio::test]
async fn a_template_is_put_only_behind_a_closed_gate() {
    let open = fake(&[(DEPLOYMENT, deployment())]);
    let effect = Effect::PutTemplate { workload: web(), template: template("web:9"), put_back: None };
    assert!(matches!(act(&open, std::slice::from_ref(&effect)).await, Err(ActError::Conflict { .. })));
    let closed = fake(&[(DEPLOYMENT, gated(template("web:2")))]);
    act(&closed, &[effect]).await.unwrap();
    assert_eq!(body(&closed.writes()[0], PATCHED)[2], json!({"op": "test", "path": "/spec/paused", "value": true}));
    assert_eq!(closed.object(DEPLOYMENT)["spec"]["template"], template("web:9"));
}

#[tokio::test]
async fn a_second_write_of_an_object_builds_on_the_first() {
    let fake = fake(&[(DEPLOYMENT, deployment())]);
    let effects = [
        Effect::CloseGate { workload: web(), exact: true },
        Effect::PutTemplate { workload: web(), template: template("web:9"), put_back: None },
    ];
    act(&fake, &effects).await.unwrap();
    assert_eq!(fake.log().iter().filter(|line| line.starts_with("GET")).count(), 1);
    assert_eq!(body(&fake.writes()[1], PATCHED)[1]["value"], "11");
}

#[tokio::test]
async fn a_pin_is_one_key_in_one_patch() {
    let fake = fake(&[(SERVICE, service())]);
    let pin = |pin| Effect::PinService { service: "web".to_owned(), pin };
    act(&fake, &[pin(hash())]).await.unwrap();
    act(&fake, &[pin(Pin::Canary)]).await.unwrap();
    act(&fake, &[pin(Pin::Canary)]).await.unwrap();
    act(&fake, &[pin(Pin::Off)]).await.unwrap();
    let writes = fake.writes();
    assert_eq!(writes.len(), 3, "a pin that stands is not written again: {writes:#?}");
    assert_eq!(
        body(&writes[0], PINNED),
        json!([
            {"op": "test", "path": "/metadata/uid", "value": "su"},
            {"op": "test", "path": "/metadata/resourceVersion", "value": "20"},
            {"op": "add", "path": "/spec/selector/pod-template-hash", "value": "abc"},
            {"op": "add", "path": "/metadata/annotations", "value": {"haldane.dev/pinned-since": "2026-11-21T12:00:00Z by web"}},
        ])
    );
    assert_eq!(body(&writes[1], PINNED)[2], json!({"op": "remove", "path": "/spec/selector/pod-template-hash"}));
    assert_eq!(body(&writes[1], PINNED)[3], json!({"op": "add", "path": "/spec/selector/haldane.dev~1track", "value": "canary"}));
    assert_eq!(body(&writes[2], PINNED)[2], json!({"op": "remove", "path": "/spec/selector/haldane.dev~1track"}));
    assert_eq!(body(&writes[2], PINNED)[3], json!({"op": "remove", "path": "/metadata/annotations/haldane.dev~1pinned-since"}));
    assert_eq!(fake.object(SERVICE)["spec"], service()["spec"]);
}

#[tokio::test]
async fn the_way_back_does_not_wait_for_an_edit_of_a_label_but_for_one_of_the_selector() {
    let pin = [Effect::PinService { service: "web".to_owned(), pin: hash() }];
    let label: fn(&mut Value) = |s| {
        s["metadata"]["resourceVersion"] = json!("25");
        s["metadata"]["labels"] = json!({"a": "b"});
    };
    let relabelled = fake(&[(SERVICE, service())]);
    relabelled.0.lock().unwrap().before_patch = Some((SERVICE.to_owned(), label));
    act(&relabelled, &pin).await.unwrap();
    assert_eq!(relabelled.object(SERVICE)["spec"]["selector"], json!({"app": "web", "pod-template-hash": "abc"}));

    let selector: fn(&mut Value) = |s| {
        s["metadata"]["resourceVersion"] = json!("25");
        s["spec"]["selector"] = json!({"app": "other"});
    };
    let changed = fake(&[(SERVICE, service())]);
    changed.0.lock().unwrap().before_patch = Some((SERVICE.to_owned(), selector));
    assert!(matches!(act(&changed, &pin).await, Err(ActError::Conflict { .. })));
    assert_eq!(changed.object(SERVICE)["spec"]["selector"], json!({"app": "other"}));
}

#[tokio::test]
async fn ownership_is_given_back_word_for_word() {
    let mut object = deployment();
    let helm = object["metadata"]["managedFields"][0].clone();
    let ours = json!({"manager": "haldane", "operation": "Update", "apiVersion": "apps/v1", "time": "u", "fieldsV1": {"f:spec": {"f:paused": {}}}});
    object["metadata"]["managedFields"] = json!([ours, helm]);
    let fake = fake(&[(DEPLOYMENT, object)]);
    act(&fake, &[Effect::DropOwnership(Target::Workload(web()))]).await.unwrap();
    let patch = body(&fake.writes()[0], PATCHED);
    assert_eq!(patch[2], json!({"op": "replace", "path": "/metadata/managedFields", "value": [helm]}));
    assert_eq!(patch.as_array().unwrap().len(), 3);
    act(&fake, &[Effect::DropOwnership(Target::Workload(web()))]).await.unwrap();
    assert_eq!(fake.writes().len(), 1, "nothing of ours is left to drop");
}

#[tokio::test]
async fn a_canary_is_made_scaled_and_deleted() {
    let fake = fake(&[(DEPLOYMENT, deployment())]);
    let create = |name: &str| Effect::CreateCanary { workload: web(), release: release(name), template: template("web:2"), replicas: 1 };
    act(&fake, &[create("web-2")]).await.unwrap();
    let made = body(&fake.writes()[0], "POST /apis/apps/v1/namespaces/shop/deployments?&fieldManager=haldane ");
    let own = json!({"haldane.dev/delivery": "web", "haldane.dev/workload": "web", "haldane.dev/track": "canary"});
    assert_eq!(made["spec"]["selector"], json!({"matchLabels": own}));
    assert_eq!(made["spec"]["minReadySeconds"], 2);
    assert_eq!(made["metadata"]["annotations"], json!({"haldane.dev/release": "web-2"}));
    act(&fake, &[create("web-2")]).await.unwrap();
    assert!(matches!(act(&fake, &[create("web-3")]).await, Err(ActError::Conflict { .. })));

    let canary = format!("{DEPLOYMENT}-canary");
    fake.0.lock().unwrap().objects.get_mut(&canary).unwrap()["metadata"]["uid"] = json!("cu");
    act(&fake, &[Effect::ScaleCanary { workload: web(), replicas: 3 }, Effect::DeleteCanary { workload: web() }]).await.unwrap();
    let writes = fake.writes();
    let scaled = body(&writes[writes.len() - 2], &format!("PATCH {canary}?&fieldManager=haldane "));
    assert_eq!(
        scaled,
        json!([{"op": "test", "path": "/metadata/uid", "value": "cu"}, {"op": "replace", "path": "/spec/replicas", "value": 3}])
    );
    let deleted = body(writes.last().unwrap(), &format!("DELETE {canary} "));
    assert_eq!(deleted, json!({"propagationPolicy": "Background", "preconditions": {"uid": "cu"}}));
    act(&fake, &[Effect::DeleteCanary { workload: web() }]).await.unwrap();
}

#[tokio::test]
async fn what_runs_before_a_version_is_made_once_and_removed_by_its_uid() {
    const JOBS: &str = "/apis/batch/v1/namespaces/shop/jobs";
    let fake = fake(&[]);
    let run = |name: &str| Effect::RunBefore {
        job: "web-2-abc".to_owned(),
        cron_job: "migrate".to_owned(),
        release: release(name),
        spec: json!({"backoffLimit": 0, "template": template("web:2")}),
    };
    act(&fake, &[run("web-2")]).await.unwrap();
    act(&fake, &[run("web-2")]).await.unwrap();
    assert!(matches!(act(&fake, &[run("web-3")]).await, Err(ActError::Refused { .. })), "it is another's");
    let made = body(&fake.writes()[0], &format!("POST {JOBS}?&fieldManager=haldane "));
    assert_eq!(
        made,
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {
                "name": "web-2-abc", "namespace": "shop", "annotations": {"haldane.dev/release": "web-2"},
                "labels": {"haldane.dev/delivery": "web", "haldane.dev/before": "migrate", "app.kubernetes.io/managed-by": "haldane"},
            },
            "spec": {
                "backoffLimit": 0, "ttlSecondsAfterFinished": 604_800,
                "template": {
                    "metadata": {"labels": {"app": "web", "haldane.dev/delivery": "web", "haldane.dev/before": "migrate"}},
                    "spec": {"containers": [{"name": "app", "image": "web:2"}]},
                },
            },
        })
    );
    let job = Job {
        name: "web-2-abc".to_owned(),
        uid: "ju".to_owned(),
        cron_job: "migrate".to_owned(),
        release: Some(release("web-2")),
        created: "2026-11-21T12:00:00Z".parse().unwrap(),
        ran: Ran::Complete,
        refused: None,
        podless: false,
        started: true,
    };
    let seen = Observation { jobs: vec![job], ..Observation::default() };
    let remove = [Effect::RemoveJob { job: "web-2-abc".to_owned() }];
    for _ in 0..2 {
        actor(fake.client()).act(&proof(), &delivery(&delivery_object()), &seen, &remove).await.unwrap();
    }
    let writes = fake.writes();
    let removed = body(&writes[writes.len() - 2], &format!("DELETE {JOBS}/web-2-abc "));
    assert_eq!((&removed["preconditions"]["uid"], &removed["propagationPolicy"]), (&json!("ju"), &json!("Background")));
}

#[tokio::test]
async fn a_cron_job_gets_an_image_in_one_patch_of_what_was_seen_and_its_owner_keeps_every_field() {
    const NIGHTLY: &str = "/apis/batch/v1/namespaces/shop/cronjobs/nightly";
    let helm = json!({"manager": "helm", "operation": "Apply", "apiVersion": "batch/v1", "time": "t", "fieldsV1": {"f:spec": {}}});
    let job = json!({"template": template("web:1")});
    let fake = fake(&[(
        NIGHTLY,
        json!({"apiVersion": "batch/v1", "kind": "CronJob",
            "metadata": {"name": "nightly", "uid": "nu", "resourceVersion": "50", "managedFields": [helm]},
            "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": job}}, "status": {"lastScheduleTime": "2026-11-21T03:00:00Z"}}),
    )]);
    let nightly = CronJob { name: "nightly".to_owned(), uid: "nu".to_owned(), suspended: false, job, reached_by: None, owns_fields: false };
    let seen = Observation { cron_jobs: vec![nightly], ..Observation::default() };
    let set = [Effect::SetImage {
        cron_job: "nightly".to_owned(),
        image: "web:2".to_owned(),
        places: vec!["/spec/containers/0/image".to_owned()],
    }];
    let before = fake.object(NIGHTLY);
    actor(fake.client()).act(&proof(), &delivery(&delivery_object()), &seen, &set).await.unwrap();
    let patched = format!("PATCH {NIGHTLY}?&fieldManager=haldane ");
    assert_eq!(
        body(&fake.writes()[0], &patched),
        json!([
            {"op": "test", "path": "/metadata/uid", "value": "nu"},
            {"op": "test", "path": "/metadata/resourceVersion", "value": "50"},
            {"op": "replace", "path": "/spec/jobTemplate/spec/template/spec/containers/0/image", "value": "web:2"},
        ])
    );
    assert_eq!(fake.writes().len(), 1, "{:#?}", fake.writes());
    let (mut after, mut wanted) = (fake.object(NIGHTLY), before);
    wanted["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
    after["metadata"]["resourceVersion"] = json!("50");
    assert_eq!(after, wanted);
    let again = actor(fake.client()).act(&proof(), &delivery(&delivery_object()), &seen, &set).await;
    assert!(matches!(again, Err(ActError::Conflict { .. })), "its Jobs are not as they were seen");
    let disown = [Effect::DropOwnership(Target::CronJob("nightly".to_owned()))];
    let ours = json!({"manager": "haldane", "operation": "Update", "apiVersion": "batch/v1", "time": "u", "fieldsV1": {"f:spec": {}}});
    fake.0.lock().unwrap().objects.get_mut(NIGHTLY).unwrap()["metadata"]["managedFields"] = json!([ours, helm]);
    actor(fake.client()).act(&proof(), &delivery(&delivery_object()), &seen, &disown).await.unwrap();
    assert_eq!(
        body(fake.writes().last().unwrap(), &patched)[2],
        json!({"op": "replace", "path": "/metadata/managedFields", "value": [helm]})
    );
}

#[tokio::test]
async fn a_canary_whose_deployment_is_gone_is_found_by_its_name_and_removed_if_it_is_ours() {
    let path = "/apis/apps/v1/namespaces/shop/deployments/web-canary";
    let canary = |delivery: &str| {
        let labels = json!({"haldane.dev/delivery": delivery, "haldane.dev/workload": "web"});
        json!({"metadata": {"name": "web-canary", "uid": "cu", "resourceVersion": "1", "labels": labels}})
    };
    let delete = [Effect::DeleteCanary { workload: web() }];
    let unseen = Observation::default();
    let ours = fake(&[(path, canary("web"))]);
    actor(ours.client()).act(&proof(), &delivery(&delivery_object()), &unseen, &delete).await.unwrap();
    let deleted = body(&ours.writes()[0], &format!("DELETE {path} "));
    assert_eq!(deleted, json!({"propagationPolicy": "Background", "preconditions": {"uid": "cu"}}));
    actor(ours.client()).act(&proof(), &delivery(&delivery_object()), &unseen, &delete).await.unwrap();
    let theirs = fake(&[(path, canary("other"))]);
    actor(theirs.client()).act(&proof(), &delivery(&delivery_object()), &unseen, &delete).await.unwrap();
    assert!(theirs.writes().is_empty());
}

#[tokio::test]
async fn templates_come_before_their_release_and_both_may_be_there() {
    let fake = fake(&[]);
    let templates = BTreeMap::from([(web(), template("web:2"))]);
    let effect = Effect::RecordRelease {
        name: release("web-2"),
        version: "2".to_owned(),
        image: "web:2".to_owned(),
        origin: OriginType::Workload,
        templates: templates.clone(),
    };
    act(&fake, std::slice::from_ref(&effect)).await.unwrap();
    act(&fake, &[effect]).await.unwrap();
    let writes = fake.writes();
    let kept = body(&writes[0], "POST /apis/apps/v1/namespaces/shop/controllerrevisions?&fieldManager=haldane ");
    assert_eq!(kept["data"], json!({"templates": {"web": template("web:2")}}));
    assert_eq!(kept["metadata"], json!({"name": "web-2", "namespace": "shop", "labels": {"haldane.dev/delivery": "web"}}));
    let made = body(&writes[1], "POST /apis/haldane.dev/v1alpha1/namespaces/shop/releases?&fieldManager=haldane ");
    let identity = haldane::model::template::identity(&templates);
    assert_eq!(
        made["spec"],
        json!({"deliveryRef": {"name": "web"}, "version": "2", "image": "web:2", "templateHash": identity.as_str(), "origin": {"type": "Workload"}})
    );
    act(&fake, &[Effect::ForgetRelease { release: release("web-2") }, Effect::ForgetRelease { release: release("web-2") }]).await.unwrap();
    assert!(fake.0.lock().unwrap().objects.is_empty());
}

#[tokio::test]
async fn another_content_under_the_name_of_a_release_is_an_error_that_names_both() {
    let kept = |image: &str| BTreeMap::from([(web(), template(image))]);
    let record = |image: &str| Effect::RecordRelease {
        name: release("web-2"),
        version: "2".to_owned(),
        image: image.to_owned(),
        origin: OriginType::Workload,
        templates: kept(image),
    };
    let identity = |image: &str| haldane::model::template::identity(&kept(image)).to_string();
    let fake = fake(&[]);
    act(&fake, &[record("web:2")]).await.unwrap();
    let (rel, revision) =
        ("/apis/haldane.dev/v1alpha1/namespaces/shop/releases/web-2", "/apis/apps/v1/namespaces/shop/controllerrevisions/web-2");
    for (lost, left) in [(revision, rel), (rel, revision)] {
        let whole = fake.0.lock().unwrap().objects.clone();
        fake.0.lock().unwrap().objects.remove(lost);
        let error = act(&fake, &[record("web:2b")]).await.unwrap_err();
        assert_eq!(error.retry(), haldane::act::Retry::Later, "not at once and for ever");
        let told = error.to_string();
        assert!(told.contains(&identity("web:2")) && told.contains(&identity("web:2b")), "{told}");
        let names: Vec<String> = fake.0.lock().unwrap().objects.keys().cloned().collect();
        assert_eq!(names, [left], "nothing is written under that name");
        fake.0.lock().unwrap().objects = whole;
    }
}

#[tokio::test]
async fn a_release_of_a_person_is_what_a_crash_left_kept_under_its_name() {
    let rel = "/apis/haldane.dev/v1alpha1/namespaces/shop/releases/web-2";
    let fake = fake(&[(rel, json!({"metadata": {"resourceVersion": "1"}}))]);
    let kept = |image: &str| BTreeMap::from([(web(), template(image))]);
    for image in ["web:2", "web:2b"] {
        act(&fake, &[Effect::KeepTemplates { release: release("web-2"), templates: kept(image) }]).await.unwrap();
        let identity = haldane::model::template::identity(&kept("web:2"));
        assert_eq!(fake.object(rel)["status"]["templateHash"], identity.as_str());
    }
}

#[tokio::test]
async fn a_release_and_a_command_are_settled_once() {
    let (rel, command) =
        ("/apis/haldane.dev/v1alpha1/namespaces/shop/releases/web-2", "/apis/haldane.dev/v1alpha1/namespaces/shop/commands/c");
    let fake = fake(&[(rel, json!({"metadata": {"resourceVersion": "1"}})), (command, json!({"metadata": {"resourceVersion": "1"}}))]);
    let settle =
        Effect::SettleRelease { release: release("web-2"), outcome: Outcome::RolledBack, why: why(), superseded_by: None, started: None };
    act(&fake, std::slice::from_ref(&settle)).await.unwrap();
    act(&fake, &[settle]).await.unwrap();
    act(&fake, &[Effect::SettleCommand { command: "c".to_owned(), result: CommandResult::Done, message: "done".to_owned() }])
        .await
        .unwrap();
    let writes = fake.writes();
    assert_eq!(writes.len(), 2, "{writes:#?}");
    let status = body(&writes[0], &format!("PATCH {rel}/status?&fieldManager=haldane&fieldValidation=Strict "));
    assert_eq!(status["status"]["conditions"][0]["status"], "False");
    let status = body(&writes[1], &format!("PATCH {command}/status?&fieldManager=haldane&fieldValidation=Strict "));
    assert_eq!(status, json!({"status": {"result": "Done", "message": "done"}}));
}

#[tokio::test]
async fn the_finalizer_comes_and_goes_and_a_namespace_that_ends_is_not_held_up() {
    let fake = fake(&[(DELIVERY, delivery_object())]);
    let done = act(&fake, &[Effect::AddFinalizer]).await.unwrap();
    assert_eq!(done.delivery_version.as_deref(), Some("31"));
    let object = fake.object(DELIVERY);
    let gone = delivery(&object);
    actor(fake.client()).act(&proof(), &gone, &seen(&Value::Null, &Value::Null), &[Effect::RemoveFinalizer]).await.unwrap();
    let patch = body(fake.writes().last().unwrap(), &format!("PATCH {DELIVERY}?&fieldManager=haldane "));
    assert_eq!(
        patch,
        json!([
            {"op": "test", "path": "/metadata/uid", "value": "dl"},
            {"op": "test", "path": "/metadata/finalizers/0", "value": "haldane.dev/ungate"},
            {"op": "remove", "path": "/metadata/finalizers/0"},
        ])
    );
    let nothing = Fake::default();
    actor(nothing.client()).act(&proof(), &gone, &seen(&Value::Null, &Value::Null), &[Effect::RemoveFinalizer]).await.unwrap();
}

#[tokio::test]
async fn the_status_is_one_strict_patch_and_none_when_nothing_is_new() {
    let fake = fake(&[(DELIVERY, delivery_object())]);
    let status = DeliveryStatus { phase: Some("Live".to_owned()), ..DeliveryStatus::default() };
    let actor = actor(fake.client());
    assert!(actor.record(&proof(), &delivery(&fake.object(DELIVERY)), None, &status).await.unwrap().is_some());
    assert!(actor.record(&proof(), &delivery(&fake.object(DELIVERY)), None, &status).await.unwrap().is_none());
    assert_eq!(fake.log().len(), 1);
    assert_eq!(
        body(&fake.log()[0], &format!("PATCH {DELIVERY}/status?&fieldManager=haldane&fieldValidation=Strict ")),
        json!([
            {"op": "test", "path": "/metadata/uid", "value": "dl"},
            {"op": "test", "path": "/metadata/resourceVersion", "value": "30"},
            {"op": "add", "path": "/status", "value": {"phase": "Live"}},
        ])
    );
}

#[tokio::test]
async fn the_first_failure_ends_the_run() {
    let fake = fake(&[(SERVICE, service())]);
    let effects = [Effect::CloseGate { workload: web(), exact: false }, Effect::PinService { service: "web".to_owned(), pin: hash() }];
    assert!(matches!(act(&fake, &effects).await, Err(ActError::Gone { .. })));
    assert!(fake.writes().is_empty());
}

#[tokio::test]
async fn a_change_is_told_once_and_bad_news_is_a_warning() {
    use haldane::{
        act::announce::Announcer,
        model::{
            decision::{Decision, Reason, Wait},
            phase::State,
        },
    };
    let fake = fake(&[]);
    let announcer = Announcer::new(haldane::edge::kube::Cluster::new(fake.client()), std::sync::Arc::new(Noon), "haldane-0");
    let mut decision = Decision::stay(&State::new(jiff::Timestamp::UNIX_EPOCH), Reason::WentLive { version: "2".to_owned() }, Wait::Change);
    decision.notes = vec![Reason::PinLost { service: "web".to_owned() }];
    let delivery = delivery(&delivery_object());
    announcer.announce(&proof(), &delivery, None, &decision).await;
    let known = DeliveryStatus { phase: Some("Adopting".to_owned()), reason: Some("WentLive".to_owned()), ..DeliveryStatus::default() };
    announcer.announce(&proof(), &delivery, Some(&known), &decision).await;
    let told: Vec<Value> =
        fake.writes().iter().map(|line| body(line, "POST /apis/events.k8s.io/v1/namespaces/shop/events?&fieldManager=haldane ")).collect();
    let short: Vec<_> = told.iter().map(|e| (e["reason"].as_str().unwrap(), e["type"].as_str().unwrap())).collect();
    assert_eq!(short, [("PinLost", "Warning"), ("WentLive", "Normal")], "what happened, then how it stands");
    assert_eq!(told[1]["note"], "2 is live");
    assert_eq!(told[0]["regarding"]["uid"], "dl");
}
