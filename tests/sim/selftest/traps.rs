//! The traps that are about what controllers and server do, by their number in the notes.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::{ROLL, Shop, V1, V2, V3, manifest, service};
use crate::sim::{
    Key,
    api::{
        access,
        kinds::{DELIVERY, DEPLOYMENT, POD},
        managed::Writer,
        write::{Deletion, Propagation},
    },
    json::{self, count},
    world::manifests,
};

#[tokio::test(start_paused = true)]
async fn trap_01_a_pin_without_the_gate_loses_all_endpoints_at_a_restart() {
    let shop = Shop::open(11).await;
    shop.pin("pod-template-hash", &shop.live_hash());
    shop.world.rollout_restart("shop", "web").expect("not paused");
    assert!(shop.world.until(ROLL, |store| crate::sim::world::traffic::shares(store)[0].routed.is_empty()).await);
    shop.rolled(V1).await;
    assert_eq!(shop.routed(), 0);
    assert!(!shop.world.reapply_service(&service()).expect("apply"), "the owner's apply is unchanged and heals nothing");
    shop.quiet().await;
    assert_eq!(shop.routed(), 0);
}

#[tokio::test(start_paused = true)]
async fn trap_02_the_first_listed_pod_in_mid_restart_may_have_a_hash_of_the_past() {
    let mut found = false;
    for seed in 0..8 {
        let shop = Shop::open(seed).await;
        let old = shop.live_hash();
        // Another second is another template, so another hash: it may sort before the old one or after it.
        tokio::time::sleep(Duration::from_secs(seed)).await;
        shop.world.rollout_restart("shop", "web").expect("not paused");
        let old_first = |store: &crate::sim::Store| {
            let first = store.list(&POD, "shop").next();
            first.is_some_and(|p| json::is_terminating(p) && json::labels(p)["pod-template-hash"] == old)
        };
        found |= shop.world.until(ROLL, old_first).await;
    }
    assert!(found, "in no seed a terminating pod was listed first");
}

#[tokio::test(start_paused = true)]
async fn trap_03_a_label_pin_loses_all_endpoints_at_an_undo() {
    let shop = Shop::open(13).await;
    shop.world.edit_template("shop", "web", |template| json::set(template, "/metadata/labels/track", "new".into()));
    shop.rolled(V1).await;
    shop.pin("track", "new");
    shop.quiet().await;
    assert_eq!(shop.routed(), 3);
    shop.world.rollout_undo("shop", "web").expect("not paused");
    shop.rolled(V1).await;
    assert_eq!(shop.routed(), 0);
}

#[tokio::test(start_paused = true)]
async fn trap_04_the_owners_old_tag_wins_over_an_image_that_somebody_applied() {
    let shop = Shop::open(14).await;
    shop.world.server_side_apply_image("deployer", "shop", "web", V2);
    shop.rolled(V2).await;
    assert!(shop.world.apply(&manifest(V1)).expect("apply"));
    shop.rolled(V1).await;
}

#[tokio::test(start_paused = true)]
async fn trap_07_the_selector_of_a_service_is_one_field_to_its_owners() {
    let shop = Shop::open(15).await;
    shop.pin("track", "new");
    let service = shop.api.read(|store| store.find(&crate::sim::api::kinds::SERVICE, "shop", "web").cloned()).expect("there");
    let owners: Vec<&Value> = json::list(&service, "/metadata/managedFields")
        .iter()
        .filter(|entry| entry.pointer("/fieldsV1/f:spec/f:selector").is_some())
        .collect();
    assert_eq!(owners.len(), 1);
    assert_eq!(owners[0]["manager"], "pinner");
    assert_eq!(owners[0]["fieldsV1"]["f:spec"]["f:selector"], json!({}));
}

#[tokio::test(start_paused = true)]
async fn trap_08_a_foreground_delete_removes_an_owned_canary_before_the_finalizer_acts() {
    for block in [true, false] {
        let shop = Shop::open(16).await;
        let admin = Writer::new("admin");
        let delivery = json!({"metadata": {"name": "web", "finalizers": ["haldane.dev/keep"]}, "spec": {}});
        let delivery = shop.api.write(|store| store.create(&admin, &DELIVERY, "shop", delivery)).expect("a Delivery");
        let mut canary = manifests::deployment("shop", "canary", V2, 1);
        let owner = json!([{"apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery", "name": "web", "uid": json::uid(&delivery),
            "blockOwnerDeletion": block}]);
        json::set(&mut canary, "/metadata/ownerReferences", owner);
        shop.api.seed(&canary);
        shop.quiet().await;
        let delivery = Key::new(&DELIVERY, "shop", "web");
        shop.world.delete(&delivery, &Deletion::with(Propagation::Foreground));
        let gone = |store: &crate::sim::Store| {
            store.find(&DEPLOYMENT, "shop", "canary").is_none()
                && !store.list(&POD, "shop").any(|p| json::labels(p)["app"] == "canary" && !json::is_terminating(p))
        };
        assert!(shop.world.until(Duration::from_secs(5), gone).await, "the canary should be gone in some seconds");
        let left = shop.api.read(|store| store.get(&delivery).cloned()).expect("the finalizer holds the Delivery");
        assert!(json::list(&left, "/metadata/finalizers").contains(&json!("haldane.dev/keep")));
    }
}

#[tokio::test(start_paused = true)]
async fn trap_09_a_finalizer_in_a_namespace_without_our_role_keeps_it_terminating() {
    let shop = Shop::open(17).await;
    shop.api.seed(&json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "ours", "namespace": "shop", "finalizers": ["haldane.dev/keep"]}}));
    shop.api.set_access(access::read_only("haldane", &["shop"]));
    shop.world.delete_namespace("shop");
    let home = Key::new(&crate::sim::api::kinds::NAMESPACE, "", "shop");
    assert!(!shop.world.until(Duration::from_mins(10), |store| store.get(&home).is_none()).await);
    assert_eq!(shop.pods().len(), 0, "all else is gone");
    let ours: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::namespaced(shop.api.client("haldane"), "shop");
    let patch = json!([{"op": "remove", "path": "/metadata/finalizers"}]);
    let patch = kube::api::Patch::<()>::Json(serde_json::from_value(patch).expect("a patch"));
    let refused = ours.patch("ours", &kube::api::PatchParams::default(), &patch).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 403));
    shop.api.set_access(access::everything());
    ours.patch("ours", &kube::api::PatchParams::default(), &patch).await.expect("allowed now");
    assert!(shop.world.until(Duration::from_secs(10), |store| store.get(&home).is_none()).await);
}

#[tokio::test(start_paused = true)]
async fn trap_10_an_orphaned_replicaset_is_adopted_and_undo_brings_its_labels_into_stable() {
    let shop = Shop::gated(18).await;
    let mut canary = manifests::deployment("shop", "web-canary", V2, 1);
    json::set(&mut canary, "/spec/template/metadata/labels", json!({"app": "web", "track": "canary"}));
    json::set(&mut canary, "/spec/selector/matchLabels", json!({"track": "canary"}));
    shop.api.seed(&canary);
    shop.quiet().await;
    shop.world.delete_deployment("shop", "web-canary", Propagation::Orphan);
    shop.quiet().await;
    let stable = json::uid(&shop.deployment()).to_owned();
    let of_canary = |set: &&Value| json::labels(set).get("track").is_some_and(|t| t == "canary");
    let set = shop.sets().iter().find(of_canary).cloned().expect("its ReplicaSet stays");
    assert_eq!(set["metadata"]["ownerReferences"][0]["uid"], json!(stable), "adopted by the user's Deployment");
    assert_eq!(shop.ready(), [V1; 3], "and scaled away, because the current one has all that is wanted");
    shop.world.resume("shop", "web");
    shop.rolled(V1).await;
    shop.world.rollout_undo("shop", "web").expect("not paused");
    let template = shop.deployment()["spec"]["template"].clone();
    assert_eq!(json::text(&template, "/metadata/labels/track"), "canary");
}

#[tokio::test(start_paused = true)]
async fn trap_17_a_container_killed_again_and_again_comes_back_later_and_later() {
    let shop = Shop::open(19).await;
    let pod = json::name(&shop.pods()[0]).to_owned();
    let is_ready = |store: &crate::sim::Store| store.find(&POD, "shop", &pod).is_some_and(|p| json::holds(p, "Ready"));
    let mut pauses = Vec::new();
    for _ in 0..3 {
        shop.world.kill_container("shop", &pod);
        assert!(shop.world.until(ROLL, |store| !is_ready(store)).await);
        let start = shop.api.clock().elapsed();
        assert!(shop.world.until(ROLL, is_ready).await);
        pauses.push((shop.api.clock().elapsed() - start).as_secs());
    }
    // Seen: 2.0, 13.8, 24.0 s.
    assert!(pauses[0] <= 3 && (10..=15).contains(&pauses[1]) && (20..=26).contains(&pauses[2]), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn trap_18_scaling_raises_the_generation() {
    let shop = Shop::open(20).await;
    let before = count(&shop.deployment(), "/metadata/generation");
    shop.world.scale("shop", "web", 5);
    assert_eq!(count(&shop.deployment(), "/metadata/generation"), before + 1);
}

#[tokio::test(start_paused = true)]
async fn trap_26_from_zero_a_paused_deployment_runs_the_waiting_template_or_the_newest_set_but_not_the_live_one() {
    // v1 was live, and the template that waits, v2, has a ReplicaSet of its own from before.
    let shop = Shop::open(21).await;
    shop.world.set_image("shop", "web", V2);
    shop.rolled(V2).await;
    shop.world.set_image("shop", "web", V1);
    shop.rolled(V1).await;
    shop.world.pause("shop", "web");
    shop.world.set_image("shop", "web", V2);
    shop.quiet().await;
    assert_eq!(shop.ready(), [V1; 3]);
    shop.world.scale("shop", "web", 0);
    shop.quiet().await;
    shop.world.scale("shop", "web", 3);
    shop.quiet().await;
    assert_eq!(shop.ready(), [V2; 3], "no canary, no gate");

    // The template that waits has no ReplicaSet: the newest created runs, which is not the one that was live.
    shop.world.scale("shop", "web", 0);
    shop.world.set_image("shop", "web", V3);
    shop.quiet().await;
    shop.world.scale("shop", "web", 3);
    shop.quiet().await;
    assert_eq!(shop.ready(), [V2; 3]);
}

#[tokio::test(start_paused = true)]
async fn trap_27_while_paused_no_replicaset_is_made() {
    let shop = Shop::gated(22).await;
    let live = json::name(&shop.sets()[0]).to_owned();
    shop.world.delete_replicaset("shop", &live);
    assert!(shop.world.until(ROLL, |store| super::support::ready_images(store).is_empty()).await);
    assert!(!shop.world.until(Duration::from_hours(1), |store| super::support::ready_images(store).len() == 3).await);
    assert_eq!((shop.sets().len(), shop.pods().len()), (0, 0));

    let mut restored = manifests::deployment("shop", "restored", V1, 3);
    json::set(&mut restored, "/spec/paused", true.into());
    shop.api.seed(&restored);
    shop.quiet().await;
    assert_eq!((shop.sets().len(), shop.pods().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn trap_28_a_hash_pin_and_a_resume_by_hand_end_with_no_endpoints() {
    let shop = Shop::gated(23).await;
    shop.pin("pod-template-hash", &shop.live_hash());
    shop.world.set_image("shop", "web", V2);
    shop.world.resume("shop", "web");
    shop.rolled(V2).await;
    assert_eq!(shop.routed(), 0);
}
