//! A Delivery in mid-rollout, and what a person reads of it.

#![allow(clippy::indexing_slicing, reason = "a test stops at what it did not expect")]

use serde_json::json;

use super::{tree::tree, view, *};
use crate::cli::seen::{Seen, Workload};

/// The moment that the objects below are about.
pub(crate) fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// At the first of three steps, with one failure.
pub(crate) fn delivery() -> Delivery {
    serde_json::from_value(json!({
        "metadata": {"name": "checkout", "namespace": "shop"},
        "spec": {"workloads": [{"name": "checkout"}], "verify": {"probes": [{"name": "place-order"}]}},
        "status": {
            "phase": "Canary", "reason": "Baking", "since": "2026-01-01T11:58:48Z",
            "message": "v2 gets 20 % of new connections by pods (asked 5 %) and bakes",
            "desired": {"release": "checkout-v2-1a2b3", "version": "v2"},
            "live": {"release": "checkout-v1-9f8e7", "version": "v1", "since": "2025-12-30T09:00:00Z"},
            "wayBack": {"release": "checkout-v1-9f8e7", "version": "v1", "by": "Service"},
            "rollout": {
                "release": "checkout-v2-1a2b3", "from": "checkout-v1-9f8e7", "direction": "Forward", "step": 1, "steps": 3,
                "weight": {"asked": 5, "served": 20}, "startedAt": "2026-01-01T11:57:00Z", "until": "2026-01-01T12:00:48Z",
                "canary": {"ready": 1, "wanted": 1},
                "evidence": {"against": "3.20", "bound": 1000, "probes": [{"name": "place-order", "good": 11, "here": 4, "unsure": 1, "failed": 0}],
                    "failure": "place-order: POST /orders answered 500 on canary, 201 on stable"},
            },
        },
    }))
    .unwrap()
}

fn pod(name: &str, image: &str, canary: bool, ready: bool) -> serde_json::Value {
    let mut labels = json!({"app": "checkout"});
    if canary {
        labels["haldane.dev/track"] = json!("canary");
    }
    let state = if ready { json!({"running": {}}) } else { json!({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}) };
    json!({"metadata": {"name": name, "labels": labels}, "status": {
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        "containerStatuses": [{"imageID": format!("r/checkout@sha256:{image}0000000000000"), "restartCount": 2, "state": state}]}})
}

/// The same with the objects around it.
pub(crate) fn seen() -> Seen {
    let template = |image: &str, hash: Option<&str>| {
        let mut labels = json!({"app": "checkout"});
        if let Some(hash) = hash {
            labels["pod-template-hash"] = json!(hash);
        }
        json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": image}]}})
    };
    let workload = Workload {
        name: "checkout".to_owned(),
        deployment: Some(json!({"metadata": {"name": "checkout", "uid": "u", "resourceVersion": "7"},
            "spec": {"replicas": 2, "paused": true, "template": template("r/checkout:v2", None)}})),
        canary: Some(
            json!({"metadata": {"name": "checkout-canary", "annotations": {"haldane.dev/release": "checkout-v2-1a2b3"}}, "spec": {"replicas": 1}}),
        ),
        replica_sets: vec![
            json!({"metadata": {"name": "checkout-6c9d"}, "spec": {"replicas": 2, "template": template("r/checkout:v1", Some("6c9d"))}}),
        ],
        pods: vec![
            pod("checkout-canary-77-b", "b", true, false),
            pod("checkout-6c9d-z", "a", false, true),
            pod("checkout-6c9d-a", "a", false, true),
        ],
    };
    let hold = serde_json::from_value(
        json!({"metadata": {"name": "all-hold-x"}, "spec": {"message": "black friday", "by": "ana", "until": "2026-01-01T14:00:00Z"}}),
    );
    Seen {
        delivery: delivery(),
        cron_jobs: vec![],
        releases: vec![],
        holds: vec![hold.unwrap()],
        workloads: vec![workload],
        services: vec![json!({"metadata": {"name": "checkout", "annotations": {"haldane.dev/pinned-since": "2026-01-01T11:57:30Z"}},
            "spec": {"selector": {"app": "checkout", "pod-template-hash": "6c9d"}}})],
        routes: vec![],
        gateways: vec![],
        unread: vec![],
    }
}

#[test]
fn a_rollout_reads_from_the_sentence_down_to_the_pods() {
    let expected = "\
Delivery:    shop/checkout
Phase:       Canary (Baking) for 72s
Why:         v2 gets 20 % of new connections by pods (asked 5 %) and bakes
Desired:     v2   (checkout-v2-1a2b3)
Live:        v1   (checkout-v1-9f8e7)   for 2d3h
Way back:    v1   (checkout-v1-9f8e7) by Service
Rollout:     checkout-v2-1a2b3 from checkout-v1-9f8e7, step 1 of 3, 5 % asked, 20 % served, canary 1/1 ready
Time left:   bake 48s, deadline 27m
Evidence:    3.20 against it, 1000 is a verdict; place-order 11 good (4 here), 1 unsure
Probes:      place-order
Hold:        all-hold-x by ana: black friday (2h left)

SIDE     NAME                         READY   RESTARTS   IMAGE          STATE
stable   Deployment/checkout          2/2                               gate closed, another template waits
         ├ checkout-6c9d-a            yes     2          a00000000000
         └ checkout-6c9d-z            yes     2          a00000000000
canary   Deployment/checkout-canary   0/1                               checkout-v2-1a2b3
         └ checkout-canary-77-b       no      2          b00000000000   ImagePullBackOff: not found

SERVICE    PINNED TO                         FOR
checkout   stable (pod-template-hash=6c9d)   2m30s
";
    assert_eq!(tree(&view::of(&seen()), now(), Paint(false)), expected);
}

#[test]
fn a_route_shows_its_share_and_how_to_test() {
    let mut seen = seen();
    seen.delivery.spec.workloads[0].route_refs = serde_json::from_value(json!([{"name": "shop"}])).unwrap();
    let testers = crate::model::route::Testers::Header("X-Haldane-Track".to_owned());
    let course = crate::model::route::Course::Shared { weight: crate::model::version::Weight::new(5), testers: Some(testers) };
    let pair = crate::model::route::Pair { namespace: "shop", stable: "checkout", canary: "checkout-canary" };
    let rules = pair.rules(&json!([{"backendRefs": [{"name": "checkout", "port": 80, "weight": 1}]}]), &course).unwrap();
    seen.routes = vec![json!({"kind": "HTTPRoute", "metadata": {"name": "shop", "namespace": "shop"},
        "spec": {"hostnames": ["shop.test"], "rules": rules}})];
    let text = tree(&view::of(&seen), now(), Paint(false));
    let block = "\
ROUTE            CANARY   TEST IT
HTTPRoute/shop   5 %      curl -H 'X-Haldane-Track: canary' https://shop.test/
";
    assert!(text.ends_with(block), "{text}");
}

#[test]
fn a_cron_job_shows_its_image_and_whether_it_is_the_one_that_serves() {
    let mut seen = seen();
    let live = json!({"metadata": {"name": "checkout-v1-9f8e7"}, "spec": {"deliveryRef": {"name": "checkout"}, "version": "v1", "image": "r/checkout:v1"}});
    seen.releases = vec![serde_json::from_value(live).unwrap()];
    let named = |name: &str| serde_json::from_value(json!({"name": name})).unwrap();
    let there =
        |image: &str| json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}}}});
    seen.cron_jobs =
        vec![(named("nightly"), Some(there("r/checkout:v1"))), (named("weekly"), Some(there("r/checkout:v2"))), (named("monthly"), None)];
    let text = tree(&view::of(&seen), now(), Paint(false));
    let rows: Vec<Vec<&str>> =
        text.lines().filter(|line| line.starts_with("cron ")).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["cron", "CronJob/nightly", "v1"]);
    assert_eq!(rows[1].join(" "), "cron CronJob/weekly v2 not the image that serves");
    assert_eq!(rows[2].join(" "), "cron CronJob/monthly does not exist");
}

#[test]
fn time_alone_is_no_change() {
    let view = view::of(&seen());
    assert_eq!(tree(&view, Timestamp::MIN, Paint(false)), tree(&view, Timestamp::MIN, Paint(false)));
    assert_ne!(tree(&view, now(), Paint(false)), tree(&view, Timestamp::MIN, Paint(false)));
}

#[test]
fn where_releases_name_the_image_a_stale_image_in_the_template_does_not_wait() {
    let mut seen = seen();
    seen.delivery.spec.source = Some(serde_json::from_value(json!({"manual": {}})).unwrap());
    let side = view::of(&seen).workloads[0].stable.clone().unwrap();
    assert!(!side.gate.unwrap().template_waits);
}

#[test]
fn the_table_has_the_sentence_of_each() {
    let mut fresh = delivery();
    fresh.metadata.name = Some("cart".to_owned());
    fresh.status = None;
    let expected = "\
NAME       DESIRED   LIVE   PHASE    WEIGHT   SINCE   REASON   WHY
checkout   v2        v1     Canary   20%      72s     Baking   v2 gets 20 % of new connections by pods (asked 5 %) and bakes
cart
";
    assert_eq!(table(&[delivery(), fresh], "shop", now(), Paint(false)), expected);
    assert!(table(&[], "shop", now(), Paint(false)).contains("kubectl haldane init"));
}

#[test]
fn a_workload_that_is_gone_is_said_to_be_gone() {
    let mut seen = seen();
    seen.workloads[0] = Workload { name: "checkout".to_owned(), ..Workload::default() };
    seen.unread.push("Services: forbidden".to_owned());
    let text = tree(&view::of(&seen), now(), Paint(false));
    assert!(text.contains("stable   checkout") && text.contains("does not exist"), "{text}");
    assert!(text.ends_with("could not be read: Services: forbidden\n"), "{text}");
}
