//! The real kube `Controller` on this server.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::{Controller, controller, controller::Action, watcher},
};
use serde_json::{Value, json};

use crate::sim::{
    ApiServer, Fault, SimClock, Store, World,
    api::{
        faults::{Stage, once},
        kinds::Kind,
        request::Verb,
    },
    json,
};

const LAST: u64 = 4;
const HOUR: u64 = 3_600;

struct Context {
    client: Client,
    clock: SimClock,
}

/// Counts `data.n` up to [`LAST`], at most one an hour. Its only memory is the object.
async fn reconcile(object: Arc<ConfigMap>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let number = |text: Option<&String>| text.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let n = number(object.data.as_ref().and_then(|data| data.get("n")));
    let (due, now) = (number(object.annotations().get("due")), context.clock.elapsed().as_secs());
    if n >= LAST {
        return Ok(Action::await_change());
    }
    if now < due {
        return Ok(Action::requeue(Duration::from_secs(due - now)));
    }
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let next = json!({
        "metadata": {"resourceVersion": object.resource_version(), "annotations": {"due": (now + HOUR).to_string()}},
        "data": {"n": (n + 1).to_string()},
    });
    maps.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(next)).await?;
    Ok(Action::requeue(Duration::from_secs(HOUR)))
}

/// Runs until it is dropped.
async fn run(client: Client, clock: SimClock) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let config = controller::Config::default().concurrency(1);
    Controller::new(maps, watcher::Config::default().labels("count=yes"))
        .with_config(config)
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(5)), Arc::new(Context { client, clock }))
        .for_each(|_| std::future::ready(()))
        .await;
}

fn seeded(seed: u64, objects: usize) -> (ApiServer, World) {
    let api = ApiServer::new(seed);
    for index in 0..objects {
        api.seed(&counter(&format!("c{index}")));
    }
    let world = World::start(&api, seed);
    (api, world)
}

fn counter(name: &str) -> Value {
    let metadata = json!({"name": name, "namespace": "default", "labels": {"count": "yes"}});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"n": "0"}, "metadata": metadata})
}

fn counted(store: &Store) -> bool {
    store.list(Kind::of_plural("configmaps"), "default").all(|map| json::text(map, "/data/n") == LAST.to_string())
}

/// Whether it converges within a virtual day.
async fn converges(api: &ApiServer, world: &World) -> bool {
    let client = api.client("haldane");
    tokio::select! {
        () = run(client, api.clock()) => false,
        done = world.until(Duration::from_secs(24 * HOUR), counted) => done,
    }
}

fn requests(api: &ApiServer, verb: Verb) -> usize {
    api.log().iter().filter(|entry| entry.call.verb == verb).count()
}

#[tokio::test(start_paused = true)]
async fn a_real_controller_converges_in_virtual_hours() {
    let (api, world) = seeded(1, 5);
    assert!(converges(&api, &world).await);
    assert_eq!(api.writes("haldane").len(), 20);
    assert!(api.clock().elapsed() >= Duration::from_secs(3 * HOUR));
}

/// kube keeps its objects in hash maps with a random order: what several objects that are due in the same millisecond do to the
/// log is not repeatable, and no fake can make it so. So they come one after the other.
#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_request_log() {
    async fn transcript(seed: u64) -> String {
        let (api, world) = seeded(seed, 1);
        let more = async {
            for name in ["d1", "d2", "d3"] {
                tokio::time::sleep(Duration::from_secs(1)).await;
                api.seed(&counter(name));
            }
            std::future::pending::<()>().await;
        };
        let done = tokio::select! { done = converges(&api, &world) => done, () = more => false };
        assert!(done);
        api.transcript()
    }
    let first = transcript(2).await;
    for _ in 0..10 {
        assert_eq!(transcript(2).await, first);
    }
    assert_ne!(transcript(3).await, first);
}

#[tokio::test(start_paused = true)]
async fn trap_20_a_watch_is_opened_again_at_every_timeout_and_nothing_is_listed_again() {
    let (api, world) = seeded(4, 1);
    let client = api.client("haldane");
    tokio::select! {
        () = run(client, api.clock()) => {}
        _ = world.until(Duration::from_secs(24 * HOUR), |_| false) => {}
    }
    assert_eq!(requests(&api, Verb::List), 1);
    // 24 h in rounds of 290 s: 297.9.
    let watches = requests(&api, Verb::Watch);
    assert!((285..=300).contains(&watches), "{watches} watches in a day");
    assert_eq!(api.writes("haldane").len(), 4, "and a day after the end nothing is written");
}

#[tokio::test(start_paused = true)]
async fn a_cut_watch_resumes_where_it_was() {
    let (api, world) = seeded(5, 1);
    let disturb = async {
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_mins(1)).await;
            api.cut_watches("configmaps");
        }
        std::future::pending::<()>().await;
    };
    let done = tokio::select! { done = converges(&api, &world) => done, () = disturb => false };
    assert!(done);
    assert_eq!(requests(&api, Verb::List), 1, "no list, only watches from where it was");
    assert!(requests(&api, Verb::Watch) > 50);
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_lists_again() {
    let (api, world) = seeded(6, 1);
    let disturb = async {
        tokio::time::sleep(Duration::from_mins(1)).await;
        api.expire_watches("configmaps");
        std::future::pending::<()>().await;
    };
    let done = tokio::select! { done = converges(&api, &world) => done, () = disturb => false };
    assert!(done);
    assert_eq!(requests(&api, Verb::List), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stale_list_is_caught_by_the_precondition() {
    let (api, world) = seeded(7, 1);
    let past = api.read(Store::version);
    let disturb = async {
        tokio::time::sleep(Duration::from_mins(1)).await;
        api.on_request(once(Fault::Stale { version: past }, |call, stage| call.verb == Verb::List && stage == Stage::Before));
        api.expire_watches("configmaps");
        std::future::pending::<()>().await;
    };
    let done = tokio::select! { done = converges(&api, &world) => done, () = disturb => false };
    assert!(done);
    let conflicts = api.log().iter().filter(|entry| entry.outcome.effect() == Some(409)).count();
    assert_eq!((conflicts, api.writes("haldane").len()), (1, 4), "the write on the ground of the past was refused, and none came twice");
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_write_is_survived_by_the_next_incarnation() {
    for k in 1..=20 {
        let (api, world) = seeded(k, 5);
        api.crash_after_write("haldane", usize::try_from(k).expect("small"));
        let first = api.incarnation("haldane");
        tokio::select! {
            () = run(first.client.clone(), api.clock()) => panic!("a controller does not end"),
            () = first.crashed() => {}
            () = tokio::time::sleep(Duration::from_secs(24 * HOUR)) => panic!("write {k} never came"),
        }
        assert_eq!(api.writes("haldane").len() as u64, k, "it died with that write, which took place");
        let of_the_dead = api.log().len();
        assert!(converges(&api, &world).await, "after a crash at write {k}");
        assert_eq!(api.writes("haldane").len(), 20, "nothing was done twice");
        assert!(api.log().iter().skip(of_the_dead).all(|entry| entry.call.incarnation != first.id));
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_incarnation_is_never_answered() {
    let api = ApiServer::new(8);
    let life = api.incarnation("haldane");
    let maps: Api<ConfigMap> = Api::namespaced(life.client.clone(), "default");
    let parked = maps.get_opt("x");
    life.kill();
    assert!(life.is_crashed());
    assert!(tokio::time::timeout(Duration::from_secs(HOUR), parked).await.is_err());
    life.crashed().await;
    assert!(api.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_single_fault_of_a_write_converges() {
    let faults = [
        Fault::Answer(crate::sim::Refusal::of(500, "a bad day")),
        Fault::Answer(crate::sim::Refusal::of(409, "somebody was faster")),
        Fault::Disconnect,
        Fault::Delay(Duration::from_secs(30)),
    ];
    for fault in faults {
        for after in [false, true] {
            for k in 1..=LAST {
                let (api, world) = seeded(k, 1);
                let mut seen = 0;
                api.on_request(once(fault.clone(), move |call, stage| {
                    let counts = call.is_write() && (stage == Stage::Before) != after;
                    seen += u64::from(counts);
                    counts && seen == k
                }));
                assert!(converges(&api, &world).await, "{fault:?} at write {k}, after the effect: {after}");
                assert_eq!(api.writes("haldane").len() as u64, LAST, "{fault:?} at write {k}, after the effect: {after}");
            }
        }
    }
}
