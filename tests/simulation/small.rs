//! The stories of a cluster that cannot hold both sides at full size: capacity Small. `UPDATE=1` writes them anew.

use crate::{
    app::{NAMESPACE, V2, Way},
    sim::{
        Behaviour,
        api::{
            kinds::{DELIVERY, POD},
            write::Propagation,
        },
        json as place,
        world::behaviour::Answers,
    },
    stories::told,
    town::Town,
};

const SEED: u64 = 7;

async fn open() -> Town {
    let town = Town::open_by(Way::Small, SEED).await;
    town.diary.begin();
    town
}

/// Pods of the app are never more than one above what its owner wants, the ones that end not counted.
fn stays_small(town: &Town) {
    let most = town.api.read(|store| {
        store
            .list(&POD, NAMESPACE)
            .filter(|pod| !place::is_terminating(pod) && place::labels(pod).get("app").is_some_and(|app| app == "web"))
            .count()
    });
    assert!(most <= 4, "{most} pods at once\n{}", town.report());
}

#[tokio::test(start_paused = true)]
async fn stable_takes_a_good_version_in_place() {
    let town = open().await;
    town.set_image(V2);
    town.phase("Finalizing").await;
    stays_small(&town);
    assert_eq!(town.status()["wayBack"]["by"], "Rollout");
    town.live("v2").await;
    told(&town, "small-good", "Capacity Small: a good version is tried on one pod, then stable takes it in place.").await;
}

#[tokio::test(start_paused = true)]
async fn what_fails_only_when_it_serves_everything_goes_back_by_its_template() {
    let town = open().await;
    town.behave(V2, Behaviour::answering(Answers::FailsWhenServingAll));
    town.set_image(V2);
    town.phase("RolledBack").await;
    told(&town, "small-bad", "Capacity Small: a version fails when it serves everything.").await;
}

#[tokio::test(start_paused = true)]
async fn a_young_version_comes_back_without_a_canary() {
    let town = open().await;
    town.set_image(V2);
    town.live("v2").await;
    town.behave(V2, Behaviour::answering(Answers::Always(500)));
    town.phase("RolledBack").await;
    told(&town, "small-young", "Capacity Small: a version that begins to fail when it is live.").await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_deleted_while_stable_rolls_leaves_one_version() {
    let town = open().await;
    town.set_image(V2);
    town.phase("Finalizing").await;
    town.delete_delivery(Propagation::Background);
    town.until("the Delivery is gone", |s| s.find(&DELIVERY, NAMESPACE, "web").is_none()).await;
    told(&town, "small-deleted", "Capacity Small: the Delivery is deleted when stable is about to roll.").await;
}
