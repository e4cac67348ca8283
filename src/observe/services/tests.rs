use serde_json::{Value, json};

use super::*;
use crate::{api::delivery::DeliverySpec, observe::tests};

fn service(name: &str, selector: &Value, more: &Value) -> Raw {
    let mut spec = more.clone();
    spec.as_object_mut().unwrap().insert("selector".to_owned(), selector.clone());
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
}

fn plan(workload: &Value) -> Plan {
    Plan::try_from(&serde_json::from_value::<DeliverySpec>(json!({"workloads": [workload]})).unwrap()).unwrap()
}

fn found(template_app: &str, running_app: &str) -> Found {
    let template = |app: &str| json!({"metadata": {"labels": {"app": app, "tier": "web"}}, "spec": {"containers": [{"name": "app"}]}});
    let mut workload = tests::workload(&template(template_app));
    workload.replica_sets = vec![tests::replica_set("h1", &template(running_app))];
    Found {
        workload: Some(workload),
        raw: None,
        pods: Vec::new(),
        selector: [("app".to_owned(), running_app.to_owned())].into_iter().collect(),
        problems: Vec::new(),
        canary: None,
    }
}

fn words(plan: &Plan, services: &[Raw], found: &Found) -> Vec<&'static str> {
    problems(plan, &selecting(plan, services, std::slice::from_ref(found), &[])).iter().map(Reason::word).collect()
}

#[test]
fn a_pin_is_read_and_left_out_of_the_owners_selector() {
    let mut raw = service("shop", &json!({"app": "shop", "pod-template-hash": "h1"}), &json!({}));
    assert_eq!(pin(&raw).0, Pin::Off, "without our annotation it is the owner's own key");
    raw.metadata.annotations = Some([(PINNED_ANNOTATION.to_owned(), "2026-11-21T00:00:00Z".to_owned())].into());
    let (found, selector) = pin(&raw);
    assert_eq!(found, Pin::Stable(PodHash::new("h1")));
    assert_eq!(selector, [("app".to_owned(), "shop".to_owned())].into());
    let canary = service("shop", &json!({"app": "shop", "haldane.dev/track": "canary"}), &json!({}));
    assert_eq!(pin(&canary), (Pin::Canary, [("app".to_owned(), "shop".to_owned())].into()));
}

#[test]
fn services_are_found_by_whom_they_select() {
    let services = [
        service("shop", &json!({"app": "shop", "haldane.dev/track": "canary"}), &json!({})),
        service("other", &json!({"app": "cart"}), &json!({})),
        service("none", &json!({}), &json!({})),
        service("all-web", &json!({"tier": "web"}), &json!({})),
    ];
    let (plan, found) = (plan(&json!({"name": "shop"})), [found("shop", "shop")]);
    let names: Vec<String> = selecting(&plan, &services, &found, &[]).iter().map(|s| name(s.raw)).collect();
    assert_eq!(names, ["all-web", "shop"]);
}

#[test]
fn which_service_is_measured_must_be_clear() {
    let shop = service("shop", &json!({"app": "shop"}), &json!({"ports": [{"name": "http", "port": 80}]}));
    let internal = service("internal", &json!({"app": "shop"}), &json!({}));
    let found = found("shop", "shop");
    let any = plan(&json!({"name": "shop"}));
    let named = plan(&json!({"name": "shop", "serviceRef": {"name": "shop", "port": "http"}}));
    let wrong_port = plan(&json!({"name": "shop", "serviceRef": {"name": "shop", "port": "grpc"}}));
    let missing = plan(&json!({"name": "shop", "serviceRef": {"name": "gone"}}));
    let both = [shop.clone(), internal];
    assert_eq!(words(&any, &[], &found), [""; 0], "a worker");
    assert_eq!(words(&any, std::slice::from_ref(&shop), &found), [""; 0]);
    assert_eq!(words(&any, &both, &found), ["ServiceAmbiguous"]);
    assert_eq!(words(&named, &both, &found), [""; 0]);
    assert_eq!(words(&wrong_port, &both, &found), ["Invalid"]);
    assert_eq!(words(&missing, &both, &found), ["ServiceMissing"]);
}

#[test]
fn a_service_that_went_ahead_of_the_template_is_told() {
    let found = found("shop-new", "shop");
    let any = plan(&json!({"name": "shop"}));
    assert_eq!(words(&any, &[service("shop", &json!({"app": "shop-new"}), &json!({}))], &found), ["ServiceChangedAhead"]);
    assert_eq!(words(&any, &[service("shop", &json!({"app": "shop"}), &json!({}))], &found), [""; 0]);
}

#[test]
fn what_one_write_cannot_move_is_told() {
    for (spec, expected) in [
        (json!({"clusterIP": "None"}), "headless"),
        (json!({"sessionAffinity": "ClientIP"}), "sessionAffinity"),
        (json!({"type": "ExternalName"}), "ExternalName"),
    ] {
        let told = reasons(&serde_json::from_value(spec).unwrap());
        assert!(told.len() == 1 && told.iter().all(|t| t.contains(expected)), "{expected}: {told:?}");
    }
    let plain = json!({"clusterIP": "192.0.2.9", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None", "type": "ClusterIP"});
    assert_eq!(reasons(&serde_json::from_value(plain).unwrap()), [""; 0]);
}

#[test]
fn what_follows_a_write_late_is_told() {
    let neg = json!({"cloud.google.com/neg": r#"{"exposed_ports": {"80": {}}}"#});
    let nlb = json!({"service.beta.kubernetes.io/aws-load-balancer-nlb-target-type": "ip"});
    let instances = json!({"service.beta.kubernetes.io/aws-load-balancer-nlb-target-type": "instance"});
    for (annotations, spec, expected) in [
        (json!({}), json!({"internalTrafficPolicy": "Local"}), Some("internalTrafficPolicy")),
        (json!({}), json!({"externalTrafficPolicy": "Local"}), Some("externalTrafficPolicy")),
        (json!({}), json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false}), Some("pods as targets")),
        (neg, json!({"type": "ClusterIP"}), Some("pods as targets")),
        (nlb, json!({"type": "LoadBalancer"}), Some("pods as targets")),
        (instances, json!({"type": "LoadBalancer"}), None),
        (json!({}), json!({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}), None),
    ] {
        let raw: Raw = serde_json::from_value(json!({"metadata": {"name": "shop", "annotations": annotations}, "spec": spec})).unwrap();
        let told = gradual(&raw);
        assert_eq!(told.is_some(), expected.is_some(), "{spec}");
        assert!(told.unwrap_or_default().contains(expected.unwrap_or_default()), "{spec}");
    }
}

#[test]
fn pods_that_a_load_balancer_makes_ready_cannot_be_kept_apart() {
    let pod = |gates: Value| {
        let raw = json!({"metadata": {"name": "p"}, "spec": {"containers": [], "readinessGates": gates}});
        vec![pods::read(&serde_json::from_value::<RawPod>(raw).unwrap(), "shop")]
    };
    let told = gate(&pod(json!([{"conditionType": "target-health.elbv2.k8s.aws/k8s-shop"}])));
    assert!(told.is_some_and(|told| told.contains("target-health.elbv2.k8s.aws/k8s-shop")));
    assert_eq!(gate(&pod(json!([{"conditionType": "acme.example/warm"}]))), None);
}

#[test]
fn ready_pods_of_others_behind_a_service_are_strangers() {
    let raw = |name: &str, app: &str, ready: &str, track: Option<&str>| {
        let mut labels: BTreeMap<&str, &str> = [("app", app), ("tier", "web")].into();
        if let Some(track) = track {
            labels.insert("haldane.dev/track", track);
            labels.insert("haldane.dev/delivery", "shop");
        }
        let pod: RawPod = serde_json::from_value(json!({"metadata": {"name": name, "labels": labels},
            "status": {"conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-11-21T00:00:00Z"}]}}))
        .unwrap();
        pods::read(&pod, "shop")
    };
    let pods = [
        raw("mine", "shop", "True", None),
        raw("theirs", "cart", "True", None),
        raw("unready", "cart", "False", None),
        raw("late", "shop", "True", Some("canary")),
    ];
    let mut found = found("shop", "shop");
    found.workload.as_mut().unwrap().pods = vec![pods.first().unwrap().pod.clone()];
    let (plan, found) = (plan(&json!({"name": "shop"})), [found]);
    let services = [service("wide", &json!({"tier": "web"}), &json!({})), service("shop", &json!({"app": "shop"}), &json!({}))];
    let all = selecting(&plan, &services, &found, &[]);
    let told: Vec<(bool, Vec<String>)> = all.iter().map(|s| (same_or_narrower(s), strangers(s, &pods))).collect();
    assert_eq!(told, [(true, vec![]), (false, vec!["theirs".to_owned()])]);
}

#[test]
fn only_ready_pods_are_routable() {
    let slice: EndpointSlice = serde_json::from_value(json!({"metadata": {}, "addressType": "IPv4", "endpoints": [
        {"addresses": ["192.0.2.1"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "b"}},
        {"addresses": ["192.0.2.2"], "conditions": {"ready": false}, "targetRef": {"kind": "Pod", "name": "c"}},
        {"addresses": ["192.0.2.3"], "targetRef": {"kind": "Pod", "name": "a"}},
        {"addresses": ["192.0.2.4"], "conditions": {"ready": true, "terminating": true}, "targetRef": {"kind": "Pod", "name": "d"}}]}))
    .unwrap();
    assert_eq!(ready_pods(&slice), ["a", "b"]);
}

/// Pinned by that Delivery, whatever it selects.
fn pinned(name: &str, selector: &Value, by: &str) -> Raw {
    let mut raw = service(name, selector, &json!({}));
    raw.metadata.annotations = Some([(PINNED_ANNOTATION.to_owned(), format!("2026-11-21T00:00:00Z by {by}"))].into());
    raw
}

#[test]
fn a_service_with_our_pin_stays_in_sight_wherever_its_owner_points_it() {
    let (plan, found) = (plan(&json!({"name": "shop"})), [found("shop", "shop")]);
    let moved = json!({"app": "elsewhere", "pod-template-hash": "h1"});
    let services = [pinned("ours", &moved, "checkout"), pinned("foreign", &moved, "cart"), service("free", &moved, &json!({}))];
    assert!(selecting(&plan, &services, &found, &[]).is_empty());
    let left = left(&plan, &services, &found, ("checkout", &["cart".to_owned()]));
    assert!(left.iter().all(|s| s.pinned_since.is_some()));
    let told: Vec<_> = left.iter().map(|s| (s.name.as_str(), s.workload.as_str(), s.pin.clone(), s.fits.clone())).collect();
    assert_eq!(told, [("ours", "shop", Pin::Stable(PodHash::new("h1")), vec![])]);
}

#[test]
fn a_pin_of_another_delivery_is_left_to_it_and_told() {
    let (plan, found) = (plan(&json!({"name": "shop"})), [found("shop", "shop")]);
    let services = [pinned("web", &json!({"tier": "web", "pod-template-hash": "h9"}), "cart")];
    let seen = |others: &[String]| selecting(&plan, &services, &found, others).len();
    assert_eq!((seen(&["cart".to_owned()]), seen(&[])), (0, 1), "one that is gone has no say");
    let told = shared(&plan, &services, &found, &["cart".to_owned()]);
    let says: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert_eq!(
        says,
        [
            "Service web cannot be switched by one write: Delivery cart has pinned it, so it selects pods of both; make its selector narrower"
        ]
    );
    assert_eq!(shared(&plan, &services, &found, &[]), []);
}

#[test]
fn a_version_whose_pods_a_service_would_leave_out_is_told_before_it_starts() {
    let any = plan(&json!({"name": "shop"}));
    let narrow = [service("shop", &json!({"app": "shop", "tier": "web"}), &json!({}))];
    let mut found = found("shop", "shop");
    found.workload.as_mut().unwrap().template = json!({"metadata": {"labels": {"app": "shop", "tier": "api"}}});
    let told = |found: &Found, rolling: bool| {
        let found = std::slice::from_ref(found);
        let all = selecting(&any, &narrow, found, &[]);
        let of = all.first().unwrap();
        (left_out(of, rolling), fits(&of.selector, of.found))
    };
    let h1 = Pin::Stable(PodHash::new("h1"));
    assert!(told(&found, false).0.is_some_and(|why| why.contains("which lack tier=web; put that into the template of Deployment shop")));
    assert_eq!(told(&found, true), (None, vec![h1.clone()]), "what waits behind a rollout says nothing of it");
    found.canary = Some(labels(&found.workload.as_ref().unwrap().template));
    assert!(told(&found, true).0.is_some(), "{:?}", told(&found, true).1);
    found.canary = Some([("app".to_owned(), "shop".to_owned()), ("tier".to_owned(), "web".to_owned())].into());
    assert_eq!(told(&found, true), (None, vec![h1, Pin::Canary]));
}
