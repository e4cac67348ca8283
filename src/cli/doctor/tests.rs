//! Each rule finds its fault in a namespace that is otherwise well, and a well one has no findings.

#![allow(clippy::indexing_slicing, reason = "a test stops at what it did not expect")]

use serde_json::json;

use super::*;

fn delivery(name: &str, workload: &str) -> Delivery {
    serde_json::from_value(
        json!({"metadata": {"name": name}, "spec": {"workloads": [{"name": workload}], "verify": {"probes": [{"name": "ready"}]}},
        "status": {"phase": "Live", "live": {"release": "a", "version": "v1"}}}),
    )
    .unwrap()
}

fn deployment(name: &str) -> Value {
    json!({"metadata": {"name": name, "uid": "u", "annotations": {"haldane.dev/gate": "x"}}, "spec": {"replicas": 3, "paused": true,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app", "image": "r/a:1", "readinessProbe": {}, "lifecycle": {"preStop": {}}}]}}}})
}

/// A namespace in which all is well.
fn well() -> Snapshot {
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "checkout", "pod-template-hash": "6c9d"}}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let binding = json!({"roleRef": {"kind": "ClusterRole", "name": "haldane-delivery"}, "subjects": [{"kind": "ServiceAccount", "name": "haldane", "namespace": "haldane-system"}]});
    let lease = json!({"metadata": {"name": "haldane"}, "spec": {"leaseDurationSeconds": 10, "renewTime": "2026-01-01T11:59:55.000000Z"}});
    Snapshot {
        now: "2026-01-01T12:00:00Z".parse().unwrap(),
        namespace: "shop".into(),
        controller: "haldane-system".into(),
        definitions: Some(crate::api::crd_yaml::definitions().into_iter().map(|d| serde_json::to_value(d).unwrap()).collect()),
        leases: Some(vec![lease]),
        bindings: Some(vec![binding]),
        deliveries: vec![delivery("checkout", "checkout")],
        probes: vec![serde_json::from_value(json!({"metadata": {"name": "ready"}, "spec": {"target": {"serviceRef": {"name": "checkout"}}, "steps": [{"name": "a", "request": {"path": "/"}}]}})).unwrap()],
        deployments: vec![deployment("checkout")],
        pods: vec![pod],
        services: vec![json!({"metadata": {"name": "checkout"}, "spec": {"selector": {"app": "checkout"}}})],
        ..Snapshot::default()
    }
}

fn canary(of: &str) -> Value {
    json!({"metadata": {"name": "checkout-canary", "labels": {"haldane.dev/delivery": of, "haldane.dev/workload": "checkout"}}, "spec": {"replicas": 1}})
}

fn all(snapshot: &Snapshot) -> Vec<Finding> {
    CLUSTER.iter().flat_map(|rule| rule(snapshot)).chain(findings(snapshot)).collect()
}

/// The one finding after a change, as `grade object: what`.
fn one(change: impl FnOnce(&mut Snapshot)) -> String {
    let mut snapshot = well();
    change(&mut snapshot);
    let found = all(&snapshot);
    let [only] = found.as_slice() else { panic!("expected one finding, got {found:#?}") };
    assert!(!only.mend.is_empty());
    format!("{:?} {}: {}", only.grade, only.object, only.wrong)
}

fn spec(snapshot: &mut Snapshot) -> &mut Value {
    &mut snapshot.deployments[0]["spec"]
}

fn pin(snapshot: &mut Snapshot, key: &str, value: &str) {
    snapshot.services[0]["spec"]["selector"][key] = json!(value);
}

fn rolling(snapshot: &mut Snapshot) {
    snapshot.deliveries[0].status = Some(
        serde_json::from_value(json!({"phase": "Canary", "rollout": {"release": "b", "from": "a", "direction": "Forward", "steps": 3}}))
            .unwrap(),
    );
}

#[test]
fn where_all_is_well_nothing_is_found() {
    assert_eq!(all(&well()), []);
    let mut flying = well();
    rolling(&mut flying);
    pin(&mut flying, "pod-template-hash", "6c9d");
    flying.deployments.push(canary("checkout"));
    assert_eq!(all(&flying), [], "a pin and a canary belong to a rollout");
}

#[test]
fn how_merges_are_heard_of_is_told_where_they_are_delivered() {
    let mut heard = well();
    assert_eq!(cluster::hearing(&[heard.clone()]), None, "nobody delivers merges");
    let source = json!({"github": {"repository": "acme/shop"}, "image": {"repository": "ghcr.io/acme/shop", "tag": "sha-{sha}"}});
    heard.deliveries[0].spec.source = Some(serde_json::from_value(source).unwrap());
    assert!(cluster::hearing(&[heard.clone()]).unwrap().contains("takes no webhooks"));
    heard.leases.as_mut().unwrap()[0]["metadata"]["annotations"] = json!({"haldane.dev/leader-address": "10.0.0.1:8081"});
    assert!(cluster::hearing(&[heard]).unwrap().starts_with("the controller takes webhooks"));
}

#[test]
fn what_may_not_be_read_is_not_called_wrong() {
    let blind = Snapshot { definitions: None, leases: None, bindings: None, ..well() };
    assert_eq!(all(&blind), []);
}

#[test]
fn kinds_that_are_missing_or_old_are_found() {
    let gone = one(|s| s.definitions.as_mut().unwrap().retain(|d| json::name(d) != "holds.haldane.dev"));
    assert_eq!(gone, "Wrong CustomResourceDefinition/holds.haldane.dev: it is not installed");
    let old = one(|s| {
        let delivery = s.definitions.as_mut().unwrap().iter_mut().find(|d| json::name(d) == "deliveries.haldane.dev").unwrap();
        let status = delivery.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/status/properties").unwrap();
        status.as_object_mut().unwrap().remove("quarantine");
    });
    assert!(old.contains("it lacks .status.quarantine (1 fields)"), "{old}");
}

#[test]
fn a_controller_that_is_away_is_found() {
    assert!(one(|s| s.leases = Some(vec![])).contains("no controller has ever run"));
    let old = one(|s| s.leases.as_mut().unwrap()[0]["spec"]["renewTime"] = json!("2026-01-01T11:50:00.000000Z"));
    assert_eq!(old, "Wrong Lease/haldane: nobody has renewed it for 10m: the controller does not run");
}

#[test]
fn a_namespace_that_did_not_opt_in_is_found_with_the_command() {
    let mut snapshot = well();
    snapshot.bindings = Some(vec![]);
    let found = all(&snapshot);
    assert_eq!(found[0].wrong, "namespace shop has not opted in");
    assert_eq!(
        found[0].mend,
        "kubectl create rolebinding haldane --clusterrole=haldane-delivery --serviceaccount=haldane-system:haldane -n shop"
    );
}

#[test]
fn names_that_lead_nowhere_are_found() {
    assert!(
        one(|s| s.deliveries[0].spec.workloads[0].name = "x".into()).starts_with("Wrong Delivery/checkout: Deployment x does not exist")
    );
    assert!(one(|s| s.deliveries[0].spec.workloads[0].containers = vec!["x".into()]).contains("has no container x"));
    assert!(one(|s| s.probes.clear()).contains("ProductionProbe ready does not exist"));
    assert!(
        one(|s| s.probes[0].spec.target.service_ref.name = "x".into()).starts_with("Wrong ProductionProbe/ready: Service x does not exist")
    );
    assert!(
        one(|s| s.services.push(json!({"metadata": {"name": "admin"}, "spec": {"selector": {"app": "checkout"}}})))
            .contains("(checkout, admin)")
    );
    let named = one(|s| s.deliveries[0].spec.workloads[0].service_ref = Some(serde_json::from_value(json!({"name": "x"})).unwrap()));
    assert!(named.contains("Service x does not exist in this namespace or does not select the pods"), "{named}");
}

#[test]
fn what_a_run_has_left_is_found() {
    let run = |status: serde_json::Value| -> crate::api::probe_run::ProbeRun {
        let cancel = json!([{"name": "cancel", "request": {"method": "DELETE", "path": "/orders/${id}"}}]);
        serde_json::from_value(json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "ProbeRun", "metadata": {"name": "bot-1", "namespace": "shop"},
            "spec": {"probeRef": {"name": "bot", "uid": "u", "generation": 1}, "deliveryRef": {"name": "checkout"}, "run": "00", "holder": "h",
                "until": "2026-01-01T00:00:00.000000Z", "putRight": {"target": {"serviceRef": {"name": "shop"}}, "teardown": cancel}}, "status": status}))
        .unwrap()
    };
    let under_way = Snapshot { runs: vec![run(json!({"kept": [{"name": "id", "value": "7"}]}))], ..well() };
    assert_eq!(all(&under_way), []);
    let left =
        one(|s| s.runs.push(run(json!({"phase": "Left", "tries": 4, "message": "DELETE /orders/${id} answered 500, expected 2xx"}))));
    assert!(
        left.starts_with("Wrong ProbeRun/bot-1: a run of ProductionProbe bot has left something in production, tried 4 times: DELETE"),
        "{left}"
    );
}

#[test]
fn two_masters_are_found_and_the_younger_is_named() {
    let found = one(|s| s.deliveries.push(delivery("zweite", "checkout")));
    assert!(found.starts_with("Wrong Delivery/zweite: Deployment checkout already belongs to Delivery checkout"), "{found}");
}

#[test]
fn an_open_gate_and_a_manifest_that_opens_it_are_found() {
    assert!(one(|s| spec(s)["paused"] = json!(false)).contains("was resumed by hand"));
    let manifest = json!({"spec": {"paused": false}}).to_string();
    assert!(
        one(|s| s.deployments[0]["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json!(manifest))
            .contains("owned by kubectl apply")
    );
    let applied = json!([{"manager": "argocd", "operation": "Apply", "fieldsV1": {"f:spec": {"f:paused": {}}}}]);
    assert!(one(|s| s.deployments[0]["metadata"]["managedFields"] = applied).contains("owned by argocd"));
    let mut finalizing = well();
    rolling(&mut finalizing);
    spec(&mut finalizing)["paused"] = json!(false);
    assert_eq!(all(&finalizing), [], "while stable is rolled, the open gate is Haldane's own");
}

#[test]
fn what_has_a_command_that_mends_it_is_told_once() {
    let mut opened = well();
    spec(&mut opened)["paused"] = json!(false);
    let says = "Deployment checkout was resumed by hand and is left so; kubectl haldane adopt closes the gate again";
    let stalled =
        json!({"type": "Stalled", "status": "True", "reason": "Ungated", "message": says, "lastTransitionTime": "2026-01-01T11:59:00Z"});
    opened.deliveries[0].status = Some(serde_json::from_value(json!({"ungated": true, "conditions": [stalled]})).unwrap());
    let mends: Vec<String> = findings(&opened).into_iter().map(|f| f.mend).collect();
    assert_eq!(mends, ["kubectl haldane adopt checkout"]);
}

#[test]
fn pins_that_hurt_are_found_with_the_patch_that_takes_them_off() {
    assert!(one(|s| pin(s, "pod-template-hash", "6c9d")).contains("left behind"));
    assert!(
        one(|s| {
            rolling(s);
            pin(s, "haldane.dev/track", "canary");
        })
        .contains("it serves nobody")
    );
    assert!(
        one(|s| {
            rolling(s);
            pin(s, "pod-template-hash", "6c9d");
            spec(s)["paused"] = json!(false);
        })
        .contains("the next roll leaves it without pods")
    );
    let mut left = well();
    pin(&mut left, "pod-template-hash", "6c9d");
    assert_eq!(
        all(&left)[0].mend,
        r#"kubectl patch service checkout --type=json -p '[{"op":"remove","path":"/spec/selector/pod-template-hash"}]'"#
    );
}

#[test]
fn a_service_in_front_of_a_canary_is_no_pin_and_is_found_when_it_is_left_behind() {
    let front = || {
        let labels = json!({"haldane.dev/delivery": "checkout", "haldane.dev/track": "canary"});
        let selector = json!({"app": "checkout", "haldane.dev/track": "canary"});
        json!({"metadata": {"name": "checkout-canary", "labels": labels}, "spec": {"selector": selector}})
    };
    let mut flying = well();
    rolling(&mut flying);
    flying.services.push(front());
    assert_eq!(all(&flying), []);
    assert!(one(|s| s.services.push(front())).contains("it was left behind"));
}

#[test]
fn an_orphaned_canary_is_found() {
    assert_eq!(
        one(|s| s.deployments.push(canary("gone"))),
        "Wrong Deployment/checkout-canary: it is a canary of Delivery gone, which is gone"
    );
}

#[test]
fn autoscalers_and_budgets_that_fight_are_found() {
    let scaler =
        |name: &str, target: &str| json!({"metadata": {"name": name}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": target}}});
    let of_canary = one(|s| {
        s.deployments.push(canary("checkout"));
        s.autoscalers.push(scaler("h", "checkout-canary"));
    });
    assert!(of_canary.contains("which is a canary"), "{of_canary}");
    assert!(
        one(|s| s.autoscalers = vec![scaler("a", "checkout"), scaler("b", "checkout")])
            .starts_with("Wrong HorizontalPodAutoscaler/b: it and a scale")
    );
    let budget =
        |name: &str, kind: &str| json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": "checkout"}}, kind: 2}});
    assert!(one(|s| s.budgets.push(budget("p", "minAvailable"))).starts_with("Risk PodDisruptionBudget/p"));
    assert!(one(|s| s.budgets = vec![budget("p", "maxUnavailable"), budget("q", "maxUnavailable")]).contains("no pod can be evicted"));
}

#[test]
fn apps_that_would_hurt_are_found() {
    assert!(one(|s| spec(s)["strategy"] = json!({"type": "Recreate"})).contains("cannot run side by side"));
    assert!(
        one(|s| {
            spec(s)["template"]["spec"]["containers"][0].as_object_mut().unwrap().remove("readinessProbe");
        })
        .contains("no readiness probe")
    );
    assert!(one(|s| spec(s)["replicas"] = json!(1)).starts_with("Risk Deployment/checkout: it has a single replica"));
    assert!(one(|s| spec(s)["template"]["spec"]["terminationGracePeriodSeconds"] = json!(0)).contains("killed in the middle"));
    assert!(
        one(|s| {
            spec(s)["template"]["spec"]["containers"][0].as_object_mut().unwrap().remove("lifecycle");
        })
        .starts_with("Risk ")
    );
    let pull = one(|s| {
        s.pods.push(json!({"metadata": {"name": "q", "labels": {"app": "checkout"}}, "status": {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}}));
    });
    assert_eq!(pull, "Wrong Pod/q: ImagePullBackOff: no such image");
}

#[test]
fn what_the_controller_says_is_wrong_is_passed_on() {
    let with = |status: Value| one(|s| s.deliveries[0].status = Some(serde_json::from_value(status).unwrap()));
    let bad = with(
        json!({"desired": {"release": "b", "version": "v2"}, "quarantine": [{"identity": "i", "release": "b", "outcome": "RolledBack", "reason": "CanaryFailed", "message": "it failed"}]}),
    );
    assert_eq!(bad, "Wrong Delivery/checkout: b is desired and in quarantine: it failed");
    assert!(
        with(json!({"holds": [{"reason": "NoData", "message": "no verdict: neither side answers"}]}))
            .ends_with("NoData: no verdict: neither side answers")
    );
}

#[test]
fn about_one_delivery_only_its_own_is_told() {
    let mut snapshot = well();
    snapshot.deliveries.push(delivery("cart", "cart"));
    snapshot.deployments.push(canary("gone"));
    let found = about(findings(&snapshot), "checkout");
    assert_eq!(
        found.iter().map(|f| f.object.as_str()).collect::<Vec<_>>(),
        ["Deployment/checkout-canary"],
        "cart's missing Deployment is not checkout's"
    );
    assert_eq!(about(findings(&snapshot), "cart").len(), 2);
}

#[test]
fn findings_read_as_what_where_and_how_to_mend() {
    let found = vec![
        ("shop".to_owned(), wrong("Service/checkout", "it serves nobody", "kubectl patch service x; or: kubectl haldane why y")),
        (String::new(), risk("Lease/x", "old", "look")),
    ];
    let expected = "\
WRONG Service/checkout in shop: it serves nobody
      kubectl -n shop patch service x; or: kubectl haldane -n shop why y
RISK  Lease/x: old
      look
      not looked at: pods: forbidden
1 wrong, 1 at risk.
";
    assert_eq!(text(&found, None, &["pods: forbidden".to_owned()], Paint(false)), expected);
    assert_eq!(text(&[], None, &[], Paint(false)), "Nothing is wrong.\n");
    assert_eq!(text(&[], Some("told"), &[], Paint(false)), "      merges: told\nNothing is wrong.\n");
}
