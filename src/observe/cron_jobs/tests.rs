//! What is made of a `CronJob` as it was read.

use kube::core::Selector;
use serde_json::json;

use super::*;

#[test]
fn pods_that_would_be_taken_for_the_apps_are_found_out() {
    let service: RawService =
        serde_json::from_value(json!({"metadata": {"name": "shop"}, "spec": {"selector": {"app": "shop", "pod-template-hash": "x"}}}))
            .unwrap();
    let mut pinned = service.clone();
    pinned.metadata.annotations = Some([("haldane.dev/pinned-since".to_owned(), "2026-11-21T12:00:00Z by shop".to_owned())].into());
    let labelled = |app: &str| [("app".to_owned(), app.to_owned())].into();
    assert_eq!(reached_by(&labelled("shop"), &[pinned], &[]), Some("Service shop".into()), "whatever it is pinned to now");
    assert_eq!(reached_by(&labelled("migrate"), &[service], &[]), None);
    assert_eq!(reached_by(&BTreeMap::new(), &[serde_json::from_value(json!({"metadata": {"name": "none"}})).unwrap()], &[]), None);
    let found = Found {
        workload: Some(super::super::tests::workload(&json!({}))),
        raw: None,
        pods: Vec::new(),
        selector: Selector::from_iter([("app".to_owned(), "shop".to_owned())]),
        problems: Vec::new(),
        canary: None,
    };
    assert_eq!(reached_by(&labelled("shop"), &[], &[found]), Some("Deployment shop".into()));
}

#[test]
fn what_a_cron_job_says_is_kept_to_the_last_field() {
    let raw = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "migrate"}, "spec": {"suspend": true,
        "jobTemplate": {"spec": {"fieldOfTomorrow": 1, "template": {"spec": {}}}}}});
    let read = cron_job(&serde_json::from_value(raw).unwrap(), &[], &[]);
    assert!(read.suspended && read.reached_by.is_none());
    assert_eq!(read.job, json!({"fieldOfTomorrow": 1, "template": {"spec": {}}}));
}
