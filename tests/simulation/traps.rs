//! What a real cluster did to this design before it was built (research 12), by number, with the controller in it.

use std::time::Duration;

use crate::{
    app::{self, APP, NAMESPACE, V2},
    sim::{
        Store,
        api::kinds::{DEPLOYMENT, SERVICE},
        json,
    },
    town::Town,
};

#[tokio::test(start_paused = true)]
async fn trap_01_no_service_is_pinned_to_a_hash_behind_an_open_gate() {
    let town = Town::open(3).await;
    town.set_image(V2);
    town.phase("Preflight").await;
    let pinned =
        |s: &Store| s.find(&SERVICE, NAMESPACE, APP).is_some_and(|s| json::strings(s, "/spec/selector").contains_key("pod-template-hash"));
    town.until("it is pinned", pinned).await;
    town.watchman.opened();
    town.world.resume(NAMESPACE, APP);
    // Once the gate is closed again it is pinned anew, and rightly: that it never was before that, the watchman says.
    town.until("the pin is off", |s| !pinned(s)).await;
    town.check();
}

#[tokio::test(start_paused = true)]
async fn trap_08_a_canary_has_no_owner_so_no_foreground_delete_takes_it() {
    let town = Town::open(3).await;
    town.set_image(V2);
    town.phase("Guarding").await;
    let canary = town.get(&DEPLOYMENT, "web-canary").expect("the canary");
    assert!(json::list(&canary, "/metadata/ownerReferences").is_empty());
}

#[tokio::test(start_paused = true)]
async fn trap_14_every_service_over_the_pods_is_pinned() {
    let town = Town::built(3).await;
    let mut second = app::service("internal");
    second["spec"]["selector"] = serde_json::json!({"app": APP});
    town.api.seed(&second);
    town.start();
    town.api.seed(&app::probe(APP));
    let mut delivery = app::delivery(APP);
    delivery["spec"]["workloads"][0]["serviceRef"] = serde_json::json!({"name": APP});
    town.api.seed(&delivery);
    town.phase("Live").await;
    town.rest().await;
    town.set_image(V2);
    town.phase("Canary").await;
    let both = town.api.read(|s| {
        s.history()
            .iter()
            .filter(|c| c.key.kind == &SERVICE && json::strings(&c.object, "/spec/selector").contains_key("pod-template-hash"))
            .map(|c| c.key.name.clone())
            .collect::<std::collections::BTreeSet<_>>()
    });
    assert_eq!(both.into_iter().collect::<Vec<_>>(), ["internal", "web"]);
    town.live("v2").await;
    town.check();
}

#[tokio::test(start_paused = true)]
async fn trap_18_a_change_of_scale_is_no_new_version() {
    let town = Town::open(3).await;
    let before = town.api.writes("haldane").len();
    town.world.scale(NAMESPACE, APP, 5);
    town.rest().await;
    assert_eq!(town.api.writes("haldane").len(), before, "{}", town.report());
}

#[tokio::test(start_paused = true)]
async fn trap_26_what_waits_in_a_workload_at_zero_does_not_run_when_it_comes_back() {
    let town = Town::open(3).await;
    town.watchman.disturb(Duration::from_mins(1));
    town.world.scale(NAMESPACE, APP, 0);
    town.rest().await;
    town.set_image(V2);
    town.rest().await;
    town.watchman.disturb(Duration::from_secs(20));
    town.world.scale(NAMESPACE, APP, 3);
    town.live("v2").await;
    town.check();
}

#[tokio::test(start_paused = true)]
async fn trap_27_a_deleted_replicaset_is_made_again_behind_the_gate() {
    let town = Town::open(3).await;
    let set =
        town.api.read(|s| s.list(&crate::sim::api::kinds::REPLICA_SET, NAMESPACE).next().map(|s| json::name(s).to_owned()).expect("one"));
    town.watchman.disturb(Duration::from_secs(15));
    town.world.delete_replicaset(NAMESPACE, &set);
    town.until("its pods are back", |s| {
        s.find(&DEPLOYMENT, NAMESPACE, APP)
            .is_some_and(|d| json::flag(d, "/spec/paused") && json::count(d, "/status/availableReplicas") == 3)
    })
    .await;
    town.rest().await;
    town.check();
}
