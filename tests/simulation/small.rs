//! The stories of a cluster that cannot hold both sides at full size: capacity Small. `UPDATE=1` writes them anew.

use serde_json::json;

use crate::{
    app::{NAMESPACE, V1, V2, Way},
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

async fn open(way: Way) -> Town {
    let town = Town::open_by(way, SEED).await;
    // Stable rolls with its traffic on it, as it would without us: whoever is gone at SIGTERM loses requests then.
    for image in [V1, V2] {
        town.world.set_behaviour(image, drains(Answers::Ok));
    }
    let defaults = json!({"rollout": {"capacity": "Small"}});
    town.create(
        "a policy: capacity Small",
        &json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "DeliveryPolicy", "metadata": {"name": "default", "namespace": NAMESPACE}, "spec": {"defaults": defaults}}),
    );
    town.rest().await;
    town.diary.begin();
    town
}

fn drains(answers: Answers) -> Behaviour {
    Behaviour { drains: true, ..Behaviour::answering(answers) }
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
    for (way, name) in [(Way::Service, "small-good"), (Way::Route, "small-route-good")] {
        let town = open(way).await;
        town.set_image(V2);
        town.phase("Finalizing").await;
        stays_small(&town);
        assert_eq!(town.status()["wayBack"]["by"], "Rollout");
        town.live("v2").await;
        told(&town, name, "Capacity Small: a good version is tried on one pod, then stable takes it in place.").await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_only_when_it_serves_everything_goes_back_by_its_template() {
    for (way, name) in [(Way::Service, "small-bad"), (Way::Route, "small-route-bad")] {
        let town = open(way).await;
        town.world.set_behaviour(V2, drains(Answers::FailsWhenServingAll));
        town.set_image(V2);
        town.phase("RolledBack").await;
        told(&town, name, "Capacity Small: a version fails when it serves everything.").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_young_version_comes_back_without_a_canary() {
    let town = open(Way::Route).await;
    town.set_image(V2);
    town.live("v2").await;
    town.world.set_behaviour(V2, drains(Answers::Always(500)));
    town.phase("RolledBack").await;
    assert_eq!(town.status()["live"]["version"], "v1");
    town.rest().await;
    town.check();
    town.home().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_deleted_while_stable_rolls_leaves_one_version() {
    for way in Way::SWEPT {
        let town = open(way).await;
        town.set_image(V2);
        town.phase("Finalizing").await;
        town.delete_delivery(Propagation::Background);
        town.until("the Delivery is gone", |s| s.find(&DELIVERY, NAMESPACE, "web").is_none()).await;
        town.rest().await;
        town.check();
        town.gone().unwrap();
    }
}
