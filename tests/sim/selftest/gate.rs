//! The rows of "a paused Deployment": tried on a real 1.34 cluster, imitated here.

use serde_json::json;

use super::support::{ROLL, Shop, V1, V2, manifest, service};
use crate::sim::{
    api::write::Propagation,
    json::{self, count, flag},
};

#[tokio::test(start_paused = true)]
async fn set_image_on_a_paused_deployment_starts_nothing() {
    let shop = Shop::gated(1).await;
    shop.world.set_image("shop", "web", V2);
    shop.quiet().await;
    assert_eq!(shop.ready(), [V1; 3]);
    assert_eq!(shop.sets().len(), 1, "no ReplicaSet is made while paused");
    assert_eq!(count(&shop.deployment(), "/status/updatedReplicas"), 0);
    assert_eq!(
        json::condition(&shop.deployment(), "Progressing").map(|c| json::text(c, "/reason").to_owned()).as_deref(),
        Some("DeploymentPaused")
    );
}

#[tokio::test(start_paused = true)]
async fn apply_and_helm_upgrade_keep_paused_and_a_foreign_selector_key() {
    let shop = Shop::gated(2).await;
    let hash = shop.live_hash();
    shop.pin("pod-template-hash", &hash);
    shop.world.apply(&manifest(V2)).expect("apply");
    shop.world.helm_upgrade(&manifest(V2)).expect("helm upgrade");
    assert!(!shop.world.reapply_service(&service()).expect("apply"), "kubectl says unchanged");
    shop.quiet().await;
    assert!(flag(&shop.deployment(), "/spec/paused"));
    assert_eq!(shop.ready(), [V1; 3]);
    assert_eq!(shop.world.share("shop", "web").selector["pod-template-hash"], hash);
}

#[tokio::test(start_paused = true)]
async fn restart_and_undo_of_a_paused_deployment_are_refused() {
    let shop = Shop::gated(3).await;
    let said = shop.world.rollout_restart("shop", "web").expect_err("refused");
    assert_eq!(said, "can't restart paused deployment (run rollout resume first)");
    assert!(shop.world.rollout_undo("shop", "web").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_comes_back_on_the_old_template() {
    let shop = Shop::gated(4).await;
    shop.world.set_image("shop", "web", V2);
    let gone = json::name(&shop.pods()[0]).to_owned();
    shop.world.delete_pod("shop", &gone);
    shop.quiet().await;
    assert_eq!(shop.ready(), [V1; 3]);
    assert!(shop.pods().iter().all(|pod| json::name(pod) != gone));
}

#[tokio::test(start_paused = true)]
async fn scaling_a_paused_deployment_works_on_the_old_template() {
    let shop = Shop::gated(5).await;
    shop.world.set_image("shop", "web", V2);
    for replicas in [6, 2] {
        shop.world.scale("shop", "web", replicas);
        shop.quiet().await;
        assert_eq!(shop.ready(), vec![V1; usize::try_from(replicas).expect("small")]);
    }
}

#[tokio::test(start_paused = true)]
async fn scaling_in_mid_roll_is_shared_in_proportion_while_paused() {
    let shop = Shop::open(6).await;
    shop.world.scale("shop", "web", 10);
    shop.rolled(V1).await;
    shop.world.set_behaviour(V2, crate::sim::Behaviour::never_ready());
    shop.world.set_image("shop", "web", V2);
    shop.quiet().await;
    shop.world.pause("shop", "web");
    let sizes = |shop: &Shop| shop.sets().iter().map(|set| count(set, "/spec/replicas")).collect::<Vec<_>>();
    let mut before = sizes(&shop);
    before.sort_unstable();
    // 10 wanted, surge 3, 2 may be unavailable: 8 old ones stay, 5 new ones never become ready.
    assert_eq!(before, [5, 8]);
    shop.world.scale("shop", "web", 20);
    shop.quiet().await;
    let mut after = sizes(&shop);
    after.sort_unstable();
    // 25 in all: 8 x 25 / 13 = 15, and the rest.
    assert_eq!(after, [10, 15]);
}

#[tokio::test(start_paused = true)]
async fn delete_and_recreate_with_the_same_template_gives_the_same_hash() {
    let shop = Shop::gated(7).await;
    let hash = shop.live_hash();
    shop.pin("pod-template-hash", &hash);
    shop.world.delete_deployment("shop", "web", Propagation::Background);
    assert!(shop.world.until(ROLL, |store| super::support::ready_images(store).is_empty()).await);
    shop.quiet().await;
    assert_eq!(shop.routed(), 0);
    shop.world.apply(&manifest(V1)).expect("apply");
    shop.rolled(V1).await;
    assert_eq!(shop.live_hash(), hash);
    assert_eq!(shop.routed(), 3, "the pin matches again");
}

#[tokio::test(start_paused = true)]
async fn replace_and_helm_force_drop_paused_labels_and_pin() {
    for force in [false, true] {
        let shop = Shop::gated(8).await;
        shop.pin("pod-template-hash", &shop.live_hash());
        let (deployment, plain) = (manifest(V2), service());
        if force {
            shop.world.helm_force(&deployment).expect("helm");
            shop.world.helm_force(&plain).expect("helm");
        } else {
            shop.world.replace(&deployment).expect("replace");
            shop.world.replace(&plain).expect("replace");
        }
        shop.rolled(V2).await;
        assert!(!flag(&shop.deployment(), "/spec/paused"));
        assert_eq!(json!(shop.world.share("shop", "web").selector), json!({"app": "web"}));
    }
}

#[tokio::test(start_paused = true)]
async fn resume_rolls_to_whatever_the_template_then_says() {
    let shop = Shop::gated(9).await;
    shop.world.set_image("shop", "web", "registry/app:v3");
    shop.world.set_image("shop", "web", V2);
    shop.quiet().await;
    shop.world.resume("shop", "web");
    shop.rolled(V2).await;
    assert_eq!(shop.ready(), [V2; 3]);
    assert_eq!(shop.sets().len(), 2, "the template in between never had a ReplicaSet");
}
