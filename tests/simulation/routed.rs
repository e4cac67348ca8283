//! The stories of an app behind a route. `UPDATE=1` writes them anew.

use std::time::Duration;

use serde_json::json;

use crate::{
    app::{self, APP, GATEWAY, NAMESPACE, V2, Way},
    script::held_for,
    sim::{
        Behaviour, Key, Lag, Store, Trouble,
        api::{
            kinds::{DELIVERY, HTTP_ROUTE},
            managed::Writer,
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
    let town = Town::open_by(Way::Route, SEED).await;
    town.diary.begin();
    town
}

fn route() -> Key {
    Key::new(&HTTP_ROUTE, NAMESPACE, APP)
}

fn bad() -> Behaviour {
    Behaviour::answering(Answers::Always(500))
}

#[tokio::test(start_paused = true)]
async fn a_good_version_goes_live() {
    let town = open().await;
    town.set_image(V2);
    town.live("v2").await;
    told(&town, "route-good", "A good version goes all the way, testers first.").await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_version_leaves_before_its_first_customer() {
    let town = open().await;
    town.world.set_behaviour(V2, bad());
    town.set_image(V2);
    town.phase("RolledBack").await;
    told(&town, "route-bad-first", "A bad version leaves before its first customer.").await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_turns_bad_for_its_testers_leaves_before_its_first_customer() {
    let town = open().await;
    town.set_image(V2);
    town.phase("Canary").await;
    town.world.set_behaviour(V2, bad());
    town.phase("RolledBack").await;
    told(&town, "route-bad-for-testers", "A version that turns bad while its testers have it.").await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_turns_bad_at_a_weight_is_suspended_then_taken_back() {
    let town = open().await;
    town.set_image(V2);
    at(&town, 25).await;
    town.world.set_behaviour(V2, bad());
    town.phase("RolledBack").await;
    told(&town, "route-bad-at-a-step", "A version that turns bad at a fourth of the requests.").await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_fails_under_all_of_the_traffic_goes_back_in_one_write() {
    let town = open().await;
    town.world.set_behaviour(V2, Behaviour::answering(Answers::FailsWhenServingAll));
    town.set_image(V2);
    town.phase("RolledBack").await;
    told(&town, "route-bad-in-guarding", "A version that fails only when it serves everything.").await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_deleted_at_a_step() {
    let town = open().await;
    town.set_image(V2);
    town.phase("Canary").await;
    town.delete_delivery(Propagation::Background);
    town.until("the Delivery is gone", |s| s.find(&DELIVERY, NAMESPACE, APP).is_none()).await;
    told(&town, "route-deleted-in-canary", "The Delivery is deleted at a step.").await;
}

/// Traefik's default: two seconds between two configurations.
#[tokio::test(start_paused = true)]
async fn a_slow_data_plane_fails_nobody_on_the_way_up_and_on_the_way_back() {
    for behaviour in [Behaviour::default(), Behaviour::answering(Answers::FailsWhenServingAll)] {
        for lag in [Lag::throttled(Duration::from_secs(2)), Lag::of(Duration::from_secs(2))] {
            let town = open().await;
            town.world.set_lag(lag);
            town.world.set_behaviour(V2, behaviour.clone());
            town.set_image(V2);
            let ends = |phase: &str| ["Live", "RolledBack"].contains(&phase);
            town.phase("Preflight").await;
            town.until("it ends", |s| s.find(&DELIVERY, NAMESPACE, APP).is_some_and(|d| ends(place::text(d, "/status/phase")))).await;
            town.rest().await;
            town.check();
            town.home().unwrap();
        }
    }
}

/// The canary has that share of what is written.
async fn at(town: &Town, percent: i64) {
    let so = |s: &Store| s.get(&route()).is_some_and(|r| crate::routes::weight(&r["spec"]).unwrap_or(0) == percent);
    town.until(&format!("the canary has {percent} %"), so).await;
}

/// What the route's status says is never proof, and nothing stops the way back.
#[tokio::test(start_paused = true)]
async fn a_status_that_says_nothing_or_no_does_not_stop_the_way_back() {
    for trouble in [Trouble::Silent, Trouble::Refused("UnsupportedValue"), Trouble::Stuck] {
        let town = open().await;
        town.set_image(V2);
        at(&town, 25).await;
        town.pass(Duration::from_secs(3)).await;
        town.world.set_trouble(&route(), trouble);
        town.world.set_behaviour(V2, bad());
        let since = town.api.clock().elapsed();
        at(&town, 0).await;
        // Two rounds of probes, five seconds apart at most, and a second one at once.
        assert!(town.api.clock().elapsed() < since + Duration::from_secs(12), "{trouble:?}\n{}", town.report());
        // Who says nothing cannot be told from who still serves it as it stood: the pods stay until something is said.
        town.pass(Duration::from_mins(1)).await;
        assert!(town.api.read(|s| held_for(s, "GoingBack")), "{}", town.report());
        town.world.set_trouble(&route(), Trouble::None);
        town.phase("RolledBack").await;
        town.rest().await;
        town.check();
    }
}

#[tokio::test(start_paused = true)]
async fn no_weight_is_given_while_the_gateway_is_not_programmed() {
    let town = open().await;
    town.watchman.disturb(Duration::from_mins(3));
    town.does("the Gateway loses its address", |w| w.set_programmed(NAMESPACE, GATEWAY, false));
    town.set_image(V2);
    town.until("it is told", |s| held_for(s, "RouteRefused")).await;
    town.pass(Duration::from_secs(90)).await;
    assert_eq!(crate::routes::canary_of(&town.get(&HTTP_ROUTE, APP).unwrap()["spec"]), None, "{}", town.report());
    town.does("the Gateway has its address again", |w| w.set_programmed(NAMESPACE, GATEWAY, true));
    town.live("v2").await;
    town.check();
}

/// A tool that keeps writing its own rules back: told, never a fight.
#[tokio::test(start_paused = true)]
async fn rules_that_are_written_back_are_no_fight() {
    let town = open().await;
    town.set_image(V2);
    at(&town, 25).await;
    let before = town.api.writes("haldane").len();
    for _ in 0..6 {
        town.does("kubectl apply of the route", |w| w.apply(&app::route(APP)).unwrap());
        town.pass(Duration::from_secs(5)).await;
    }
    let writes = town.api.writes("haldane").split_off(before);
    let ours = writes.iter().filter(|entry| entry.call.is_about("httproutes")).count();
    assert!(ours <= 3, "{ours} writes of the route in half a minute\n{}", town.report());
    town.check();
}

#[tokio::test(start_paused = true)]
async fn what_a_person_changes_in_mid_rollout_is_kept() {
    let town = open().await;
    town.set_image(V2);
    at(&town, 25).await;
    town.does("kubectl edit of the route's host names", |w| {
        let by = Writer::new("kubectl-edit");
        w.api().write(|s| s.edit(&by, &route(), "", |r| r["spec"]["hostnames"] = json!(["other.test"]))).unwrap();
    });
    town.live("v2").await;
    town.check();
    town.home().unwrap();
    let hosts = town.get(&HTTP_ROUTE, APP).unwrap()["spec"]["hostnames"].clone();
    assert_eq!(hosts, json!(["other.test"]));
}

/// Traffic first, pods second, also where the data plane does not follow: what the status says of an older generation is no proof
/// that it serves, but it is proof that it does not.
#[tokio::test(start_paused = true)]
async fn the_pods_of_a_canary_stay_for_as_long_as_its_route_is_not_read() {
    for trouble in [Trouble::Refused("UnsupportedValue"), Trouble::Stuck] {
        let town = open().await;
        town.set_image(V2);
        at(&town, 25).await;
        town.pass(Duration::from_secs(3)).await;
        town.world.set_trouble(&route(), trouble);
        town.world.set_behaviour(V2, bad());
        at(&town, 0).await;
        town.pass(Duration::from_mins(2)).await;
        town.check();
        town.world.set_trouble(&route(), Trouble::None);
        town.phase("RolledBack").await;
        town.rest().await;
        town.check();
        town.home().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_canary_serves_on_for_as_long_as_the_way_home_is_not_read() {
    for trouble in [Trouble::Refused("UnsupportedValue"), Trouble::Stuck] {
        let town = open().await;
        town.set_image(V2);
        at(&town, 100).await;
        town.phase("Finalizing").await;
        town.world.set_trouble(&route(), trouble);
        town.pass(Duration::from_mins(2)).await;
        town.check();
        town.world.set_trouble(&route(), Trouble::None);
        town.live("v2").await;
        town.check();
        town.home().unwrap();
    }
}
