//! What is made of Jobs and their pods as they were read.

use serde_json::{Value, json};

use super::*;

fn pod(status: Value) -> RawPod {
    let mut pod = json!({"metadata": {"name": "p", "ownerReferences": [
        {"apiVersion": "batch/v1", "kind": "Job", "name": "shop-1", "uid": "j", "controller": true}]}});
    pod["status"] = status;
    serde_json::from_value(pod).unwrap()
}

fn read_job(status: Value, pods: &[RawPod]) -> Job {
    let mut raw = json!({"metadata": {"name": "shop-1", "uid": "j", "creationTimestamp": "2026-11-21T12:00:00Z",
        "labels": {"haldane.dev/delivery": "shop", "haldane.dev/before": "migrate"}, "annotations": {"haldane.dev/release": "shop-v2"}}});
    raw["status"] = status;
    job(&serde_json::from_value(raw).unwrap(), pods, "shop")
}

fn condition(kind: &str, reason: &str) -> Value {
    json!([{"type": kind, "status": "True", "reason": reason}])
}

#[test]
fn a_job_that_failed_says_with_which_exit_code_its_last_pod_ended() {
    let ended = |code: i32, at: &str| {
        pod(
            json!({"phase": "Failed", "containerStatuses": [{"name": "migrate", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "finishedAt": at}}}]}),
        )
    };
    let pods = [ended(3, "2026-11-21T12:02:00Z"), ended(1, "2026-11-21T12:01:00Z")];
    let status = json!({"failed": 2, "conditions": condition("Failed", "BackoffLimitExceeded")});
    let failed = read_job(status.clone(), &pods);
    assert_eq!(failed.ran, Ran::Failed("BackoffLimitExceeded, container migrate ended last with exit code 3".into()));
    assert_eq!((failed.cron_job.as_str(), failed.release), ("migrate", Some(ReleaseName::new("shop-v2"))));
    assert_eq!(read_job(status, &[]).ran, Ran::Failed("BackoffLimitExceeded".into()), "where its pods are gone");
}

#[test]
fn a_job_ends_by_its_last_condition_and_not_by_the_one_before() {
    assert_eq!(read_job(json!({"succeeded": 1, "conditions": condition("Complete", "")}), &[]).ran, Ran::Complete);
    assert_eq!(read_job(json!({"succeeded": 1, "conditions": condition("SuccessCriteriaMet", "")}), &[]).ran, Ran::Running);
    assert_eq!(read_job(json!({"failed": 1, "conditions": condition("FailureTarget", "")}), &[]).ran, Ran::Running);
}

#[test]
fn what_never_ran_anything_is_told_from_what_may_have() {
    let waiting = pod(json!({"containerStatuses": [{"name": "migrate", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}));
    let running = pod(json!({"containerStatuses": [{"name": "migrate", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {}}}]}));
    let unpulled = read_job(json!({"active": 1}), &[waiting]);
    assert!(unpulled.waits() && matches!(&unpulled.refused, Some(Trouble::Refused { word, .. }) if word == "ImagePullBackOff"));
    assert!(read_job(json!({}), &[]).waits(), "no pod of it is made");
    assert!(!read_job(json!({"active": 1}), &[]).waits(), "its pod is on its way into the list");
    assert!(!read_job(json!({"active": 1}), &[running]).waits());
    assert!(!read_job(json!({"failed": 1}), &[]).waits());
}
