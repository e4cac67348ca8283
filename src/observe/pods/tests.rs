use serde_json::{Value, json};

use super::*;

fn pod(status: &Value) -> Raw {
    serde_json::from_value(json!({
        "metadata": {"name": "shop-7d9c-abcde", "labels": {"app": "shop", "pod-template-hash": "7d9c"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-7d9c", "uid": "rs-1", "controller": true}]},
        "spec": {"containers": [{"name": "app", "image": "reg/shop:2", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": status,
    }))
    .unwrap()
}

fn app(state: &Value, last: &Value, restarts: i32) -> Value {
    json!({"phase": "Running", "containerStatuses": [{"name": "app", "image": "reg/shop:2", "imageID": "", "ready": false,
        "restartCount": restarts, "state": state, "lastState": last}]})
}

fn ended(code: i32, reason: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": "2026-11-21T00:00:00Z", "finishedAt": "2026-11-21T00:00:01Z"}})
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

fn running() -> Value {
    json!({"running": {"startedAt": "2026-11-21T00:00:00Z"}})
}

#[test]
fn faults_of_the_version_are_told_from_refusals_of_the_cluster() {
    let none = json!({});
    let cases = [
        ("crash loop", app(&waiting("CrashLoopBackOff", "back-off 20s"), &ended(1, "Error"), 3), Some("fault CrashLoopBackOff")),
        ("crash loop of what ends well", app(&waiting("CrashLoopBackOff", ""), &ended(0, "Completed"), 3), Some("fault CrashLoopBackOff")),
        ("killed for memory once", app(&running(), &ended(137, "OOMKilled"), 1), Some("fault OOMKilled")),
        ("killed for memory now", app(&ended(137, "OOMKilled"), &none, 0), Some("fault OOMKilled")),
        ("memory beats crash loop", app(&waiting("CrashLoopBackOff", ""), &ended(137, "OOMKilled"), 4), Some("fault OOMKilled")),
        ("ended once", app(&running(), &ended(1, "Error"), 1), None),
        ("ended once, not yet restarted", app(&ended(1, "Error"), &none, 0), None),
        ("ended twice", app(&ended(1, "Error"), &ended(1, "Error"), 1), Some("fault Error")),
        ("ended twice and runs", app(&running(), &ended(2, "Error"), 2), Some("fault Error")),
        ("rebooted node", app(&running(), &ended(137, "ContainerStatusUnknown"), 2), None),
        (
            "no such command",
            app(&waiting("RunContainerError", "exec: \"/nope --token=hunter2\": no such file or directory"), &none, 0),
            Some("fault StartError"),
        ),
        ("no such command, later", app(&waiting("CrashLoopBackOff", ""), &ended(128, "StartError"), 2), Some("fault StartError")),
        (
            "node is slow",
            app(&waiting("CreateContainerError", "context deadline exceeded"), &none, 0),
            Some("refused CreateContainerError"),
        ),
        ("image is not there", app(&waiting("ErrImagePull", "not found"), &none, 0), Some("refused ErrImagePull")),
        ("image pull waits", app(&waiting("ImagePullBackOff", "429"), &none, 0), Some("refused ImagePullBackOff")),
        ("image name is none", app(&waiting("InvalidImageName", ""), &none, 0), Some("refused InvalidImageName")),
        ("image must not be pulled", app(&waiting("ErrImageNeverPull", ""), &none, 0), Some("refused ErrImageNeverPull")),
        (
            "config is missing",
            app(&waiting("CreateContainerConfigError", "configmap \"a\" not found"), &none, 0),
            Some("refused CreateContainerConfigError"),
        ),
        ("starts", app(&waiting("ContainerCreating", ""), &none, 0), None),
        ("runs", app(&running(), &none, 0), None),
        (
            "no room",
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient cpu."}]}),
            Some("refused Unschedulable"),
        ),
        (
            "evicted",
            json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory.",
            "containerStatuses": [{"name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": ended(137, "OOMKilled")}]}),
            Some("refused Evicted"),
        ),
        ("node is lost", json!({"phase": "Running", "reason": "NodeLost"}), Some("refused NodeLost")),
        (
            "drained",
            json!({"phase": "Running", "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]}),
            Some("refused EvictionByEvictionAPI"),
        ),
    ];
    for (name, status, expected) in cases {
        let found = read(&pod(&status), "shop").pod.trouble;
        let told = found.as_ref().map(|trouble| match trouble {
            Trouble::Fault { word, .. } => format!("fault {word}"),
            Trouble::Refused { word, .. } => format!("refused {word}"),
        });
        assert_eq!(told.as_deref(), expected, "{name}: {found:?}");
        assert!(!format!("{found:?}").contains("hunter2"), "{name} tells an argument");
    }
}

#[test]
fn an_init_container_that_crashes_is_a_fault_too() {
    let status = json!({"phase": "Pending", "initContainerStatuses": [{"name": "migrate", "image": "", "imageID": "", "ready": false,
        "restartCount": 3, "state": waiting("CrashLoopBackOff", ""), "lastState": ended(1, "Error")}],
        "containerStatuses": [{"name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": waiting("PodInitializing", "")}]});
    let trouble = read(&pod(&status), "shop").pod.trouble;
    assert_eq!(
        trouble,
        Some(own("CrashLoopBackOff", "container migrate has ended 3 times, the last time with exit code 1; see: kubectl logs --previous"))
    );
}

#[test]
fn a_sentence_fits_a_condition() {
    let long = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "node\n".repeat(500)}]});
    let Some(Trouble::Refused { says, .. }) = read(&pod(&long), "shop").pod.trouble else { panic!("no trouble") };
    assert_eq!(says.chars().count(), SENTENCE);
    assert!(!says.contains('\n'));
}

#[test]
fn a_ready_pod_is_read_with_its_digest_and_ports() {
    let status = json!({"phase": "Running", "podIP": "192.0.2.7",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T00:00:05Z"}],
        "containerStatuses": [
            {"name": "app", "image": "other/name:1", "imageID": "192.0.2.1:5000/shop@sha256:aa", "ready": true, "restartCount": 0, "state": running()},
            {"name": "side", "image": "x", "imageID": "docker-pullable://r/side@sha256:bb", "ready": true, "restartCount": 0, "state": running()}]});
    let seen = read(&pod(&status), "shop");
    assert_eq!(seen.pod.ready_since, Some("2026-11-21T00:00:05Z".parse().unwrap()));
    assert_eq!(seen.pod.digests, ["sha256:aa", "sha256:bb"]);
    assert_eq!(seen.pod.pod_hash, Some(PodHash::new("7d9c")));
    assert_eq!((seen.owner.as_deref(), seen.ports.get("http")), (Some("rs-1"), Some(&8080)));
    assert!(!seen.ours && !seen.ending && !seen.over);
}

#[test]
fn an_evicted_pod_counts_only_until_its_replacement_is_there() {
    let evicted = read(&pod(&json!({"phase": "Failed", "reason": "Evicted"})), "shop");
    let healthy = read(&pod(&json!({"phase": "Running"})), "shop");
    assert_eq!(counting([&evicted].into_iter(), 1).len(), 1);
    assert_eq!(counting([&evicted, &healthy].into_iter(), 1), std::slice::from_ref(&healthy.pod));
}
