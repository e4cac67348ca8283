#![allow(clippy::needless_pass_by_value, reason = "json! is easier to read without a reference to it")]

use serde_json::json;

use super::*;
use crate::model::version::Weight;

fn object(spec: Value, annotations: Value, parents: Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {
            "name": "shop", "namespace": "shop", "uid": "u", "generation": 7, "annotations": annotations,
            "managedFields": [
                {"manager": "helm", "operation": "Update", "time": "2026-11-21T00:00:00Z"},
                {"manager": "kubectl-edit", "operation": "Update", "time": "2026-11-21T00:10:00Z"},
                {"manager": "contour", "operation": "Update", "subresource": "status", "time": "2026-11-21T00:20:00Z"},
            ],
        },
        "spec": spec, "status": {"parents": parents},
    }))
    .unwrap()
}

fn wanted() -> Wanted {
    let name = RouteName { kind: RouteKind::HTTPRoute, name: "shop".to_owned() };
    Wanted { name, workload: WorkloadName::new("shop"), service: "shop".to_owned(), planned: true }
}

fn rules(stable: u64, canary: u64) -> Value {
    let backend = |name: &str, weight: u64| json!({"name": name, "port": 80, "weight": weight});
    json!([{"backendRefs": [backend("shop", stable), backend("shop-canary", canary)]}])
}

fn read(rules: &Value, annotations: Value) -> Route {
    route(&object(json!({"rules": rules}), annotations, json!([])), "shop", &wanted(), None)
}

#[test]
fn ours_is_told_from_what_others_made_of_it() {
    let ours = rules(75, 25);
    let since: jiff::Timestamp = "2026-11-21T00:20:00Z".parse().unwrap();
    let mark = || json!({ROUTED_ANNOTATION: crate::api::routed(since, "shop", &template::digest(&ours.to_string()))});
    let quarter = Some(Course::Shared { weight: Weight::new(25), testers: None });
    let seen = read(&ours, mark());
    assert_eq!((seen.course, seen.since, seen.changed_by), (quarter.clone(), Some(since), None));
    let seen = read(&rules(10, 90), mark());
    assert_eq!(seen.changed_by.as_deref(), Some("kubectl-edit"), "who serves it writes its status, not its rules");
    assert_eq!(seen.course, Some(Course::Shared { weight: Weight::new(90), testers: None }));
    let home = json!([{"backendRefs": [{"name": "shop", "port": 80}]}]);
    let seen = read(&home, mark());
    assert_eq!((seen.course, seen.changed_by.is_some()), (Some(Course::Stable), true));
    let seen = read(&home, json!({}));
    assert_eq!((seen.course, seen.changed_by, seen.since), (Some(Course::Left), None, None));
}

#[test]
fn what_is_read_late_counts_from_then() {
    let rules = rules(75, 25);
    let written = |at: &str| {
        let since: jiff::Timestamp = at.parse().unwrap();
        let mark = crate::api::routed(since, "shop", &template::digest(&rules.to_string()));
        read(&rules, json!({ROUTED_ANNOTATION: mark})).since.unwrap().to_string()
    };
    // Those who serve it wrote its status at 00:20:00.
    assert_eq!(written("2026-11-21T00:19:59.5Z"), "2026-11-21T00:19:59.5Z");
    assert_eq!(written("2026-11-21T00:19:40Z"), "2026-11-21T00:20:01Z");
    assert_eq!(written("2026-11-21T00:21:00Z"), "2026-11-21T00:21:00Z");
}

fn parent(kinds: &[(&str, &str, i64)]) -> Value {
    let condition = |(kind, status, generation): &(&str, &str, i64)| json!({"type": kind, "status": status, "observedGeneration": generation, "reason": "Why", "message": "so"});
    json!({"conditions": kinds.iter().map(condition).collect::<Vec<_>>()})
}

#[test]
fn good_words_of_an_old_state_are_stale_and_bad_ones_are_no_refusal() {
    let said = |parents: Value| word(&object(json!({}), json!({}), parents));
    let good = parent(&[("Accepted", "True", 7), ("ResolvedRefs", "True", 7)]);
    let bad = parent(&[("Accepted", "False", 7)]);
    assert_eq!(said(json!([])), Word::Silent);
    assert_eq!(said(json!([good])), Word::Taken);
    assert_eq!(said(json!([parent(&[("Accepted", "True", 6)])])), Word::Stale);
    assert_eq!(said(json!([parent(&[("Accepted", "False", 6)])])), Word::Stale);
    assert_eq!(said(json!([bad])), Word::Refused("Accepted=False (Why): so".to_owned()));
    assert_eq!(said(json!([bad, good])), Word::Taken, "one that takes it is enough");
    let unresolved = parent(&[("Accepted", "True", 7), ("ResolvedRefs", "False", 7)]);
    assert_eq!(said(json!([good, unresolved])), Word::Refused("ResolvedRefs=False (Why): so".to_owned()));
}

#[test]
fn the_routes_that_a_service_leads_from_are_read_back() {
    let names: Vec<String> = named("HTTPRoute/shop,GRPCRoute/api,Other/x,broken").iter().map(ToString::to_string).collect();
    assert_eq!(names, ["HTTPRoute shop", "GRPCRoute api"]);
}
