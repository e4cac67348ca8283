use kube::{
    Client,
    api::ApiResource,
    client::Body,
    runtime::{reflector::store::Writer, watcher::Event},
};

use super::*;
use crate::{
    api::probe_run::{ProbeRevision, PutRight},
    clock::SystemClock,
    control::lease::Elector,
};

/// Method, path and body of every call; the answer is its code.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

fn ledger(code: u16) -> (ProbeRuns, Asked) {
    let asked = Asked::default();
    let log = asked.clone();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let log = log.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let path = parts.uri.path().trim_start_matches("/apis/haldane.dev/v1alpha1/namespaces/demo/").to_owned();
            log.lock().unwrap().push((format!("{} {path}", parts.method), serde_json::from_slice(&body).unwrap_or_default()));
            let said = if code < 300 {
                json!({"metadata": {"resourceVersion": "7"}})
            } else {
                json!({"kind": "Status", "status": "Failure", "code": code, "message": "no"})
            };
            Ok::<_, std::convert::Infallible>(
                http::Response::builder().status(code).body(Body::from(said.to_string().into_bytes())).unwrap(),
            )
        }
    });
    let cluster = Cluster::new(Client::new(service, "demo"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let leadership = Elector::alone(&*clock);
    (ProbeRuns::new(cluster, clock, leadership, "pod/process"), asked)
}

fn page() -> Page {
    let step = json!({"name": "cancel", "request": {"method": "DELETE", "path": "/orders/${id}?t=${secrets.token}"}});
    let put_right: PutRight = serde_json::from_value(json!({"target": {"serviceRef": {"name": "shop"}}, "teardown": [step]})).unwrap();
    let probe = ProbeRevision { name: "order-bot".into(), uid: "u".into(), generation: 3 };
    Page { namespace: "demo".into(), delivery: "shop".into(), probe, put_right, most: 2 }
}

fn name(byte: u8) -> RunName {
    RunName::new(Timestamp::from_second(1_800_000_000).unwrap(), [byte; RunName::RANDOM])
}

fn calls(asked: &Asked) -> Vec<String> {
    asked.lock().unwrap().iter().map(|(call, _)| call.clone()).collect()
}

#[tokio::test]
async fn a_run_is_three_small_writes_and_it_is_known_as_long_as_it_is_under_way() {
    let (ledger, asked) = ledger(200);
    let (page, run) = (page(), name(1));
    let alive = ledger.open(&page, &run, Duration::from_mins(3)).await.unwrap();
    assert!(ledger.is_here(&run) && ledger.is_open("demo", &run));
    ledger.keep(&page, &run, &BTreeMap::from([("id".to_owned(), "o/1".to_owned())])).await.unwrap();
    ledger.close(&page, &run, None).await;
    drop(alive);
    assert!(!ledger.is_here(&run));
    let object = format!("proberuns/order-bot-{}", run.as_str());
    assert_eq!(calls(&asked), ["POST proberuns".to_owned(), format!("PATCH {object}/status"), format!("DELETE {object}")]);
    let asked = asked.lock().unwrap();
    let written: ProbeRun = serde_json::from_value(asked[0].1.clone()).unwrap();
    assert_eq!((written.spec.holder.as_str(), written.spec.run.as_str()), ("pod/process", run.as_str()));
    assert_eq!((written.spec.put_right, written.metadata.owner_references), (page.put_right, None), "it outlives its probe");
    assert_eq!(asked[1].1, json!({"status": {"kept": [{"name": "id", "value": "o/1"}]}}));
}

#[tokio::test]
async fn what_is_left_stays_written_down_and_is_counted() {
    let (ledger, asked) = ledger(200);
    let run = name(1);
    let alive = ledger.open(&page(), &run, Duration::from_mins(3)).await.unwrap();
    ledger.close(&page(), &run, Some("DELETE /orders/${id} answered 500")).await;
    drop(alive);
    let status = asked.lock().unwrap()[1].1["status"].clone();
    assert_eq!((&status["phase"], &status["tries"], &status["kept"]), (&json!("Left"), &json!(1), &Value::Null), "what was kept stays");
    let mut stored: ProbeRun = serde_json::from_value(asked.lock().unwrap()[0].1.clone()).unwrap();
    stored.status = serde_json::from_value(status).unwrap();
    let proof = ledger.leadership.current().unwrap();
    ledger.tried(&proof, &stored, &"x".repeat(600)).await.unwrap();
    ledger.waits(&proof, &stored, "nobody").await.unwrap();
    ledger.forget(&proof, &stored).await.unwrap();
    let asked = asked.lock().unwrap();
    assert_eq!(asked[2].1["status"]["tries"], 2);
    assert_eq!(asked[2].1["status"]["message"].as_str().map(|said| said.chars().count()), Some(MESSAGE));
    assert_eq!(asked[3].1, json!({"status": {"message": "nobody"}}), "that is no try");
    assert!(asked[4].0.starts_with("DELETE "));
}

#[tokio::test]
async fn a_run_that_cannot_be_written_down_is_not_under_way() {
    let (ledger, _) = ledger(403);
    let refused = ledger.open(&page(), &name(1), Duration::from_mins(3)).await.unwrap_err();
    assert!(refused.to_string().starts_with("its ProbeRun cannot be written: ProbeRun order-bot-"), "{refused}");
    assert!(!ledger.is_here(&name(1)));
    // It may have been written all the same, and nobody knows what is: so any run may be open.
    assert!(ledger.is_open("demo", &name(2)));
    assert_eq!(ledger.room(&page()), Room::Unknown);
}

#[tokio::test]
async fn as_many_runs_are_open_as_are_stored_or_under_way_here() {
    let (ledger, _) = ledger(200);
    let mut writer = Writer::<DynamicObject>::new(ApiResource::erase::<ProbeRun>(&()));
    let stored = |run: &RunName, namespace: &str, probe: &str| -> DynamicObject {
        serde_json::from_value(
            json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "ProbeRun", "metadata": {"name": run.as_str(), "namespace": namespace},
            "spec": {"run": run.as_str(), "probeRef": {"name": probe}}}),
        )
        .unwrap()
    };
    ledger.follow(Some(vec![writer.as_reader()]));
    assert_eq!((ledger.room(&page()), ledger.is_open("demo", &name(1))), (Room::Free, false));
    let one = ledger.open(&page(), &name(1), Duration::from_mins(3)).await.unwrap();
    assert_eq!(ledger.room(&page()), Room::Free);
    let two = ledger.open(&page(), &name(2), Duration::from_mins(3)).await.unwrap();
    assert_eq!((ledger.room(&page()), ledger.room(&Page { namespace: "other".into(), ..page() })), (Room::Full(2), Room::Free));
    drop((one, two));
    assert_eq!(ledger.room(&page()), Room::Free);
    for object in [stored(&name(3), "demo", "order-bot"), stored(&name(4), "demo", "another"), stored(&name(5), "other", "order-bot")] {
        writer.apply_watcher_event(&Event::Apply(object));
    }
    assert_eq!((ledger.room(&page()), ledger.is_open("demo", &name(3)), ledger.is_open("demo", &name(5))), (Room::Free, true, false));
    writer.apply_watcher_event(&Event::Apply(stored(&name(6), "demo", "order-bot")));
    assert_eq!(ledger.room(&page()), Room::Full(2));
}
