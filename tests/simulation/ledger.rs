//! A bot that orders and cancels, and a controller that dies at each of its writes, at rest and in a rollout: no order is left, and
//! nothing is written down any more.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crate::{
    app::{self, APP, NAMESPACE, V2},
    crash::{Blow, strike},
    sim::{
        Store,
        api::{kinds::PROBE_RUN, write::Propagation},
        json,
    },
    town::{Town, USER, lock},
};

const SEED: u64 = 11;

/// What the bot does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum During {
    Rest,
    Rollout,
}

fn open_runs(store: &Store) -> usize {
    store.list(&PROBE_RUN, NAMESPACE).count()
}

/// A town with a bot in it, that is struck at a write, and in the end has no Delivery any more. Orders in all, and writes.
async fn played(during: During, blow: Option<(Blow, usize)>) -> (usize, usize) {
    let town = Town::built(SEED).await;
    town.api.seed(&app::ordering_probe(APP));
    town.api.seed(&app::hurried(APP));
    town.start();
    town.phase("Live").await;
    town.pass(Duration::from_secs(70)).await;
    let before = town.api.writes(USER).len();
    if let Some((blow, k)) = blow {
        strike(&town, blow, k);
    }
    if during == During::Rollout {
        town.set_image(V2);
    }
    town.pass(Duration::from_mins(4)).await;
    let writes = town.api.writes(USER).len() - before;
    town.api.clear_faults();
    if during == During::Rollout {
        let is_live = |store: &Store| {
            store
                .find(&crate::sim::api::kinds::DELIVERY, NAMESPACE, APP)
                .is_some_and(|d| json::text(d, "/status/live/version") == app::tag(V2))
        };
        town.until("v2 is live", is_live).await;
    }
    town.delete_delivery(Propagation::Background);
    town.until("no run is written down", |store| open_runs(store) == 0).await;
    town.pass(Duration::from_secs(30)).await;
    let orders = lock(&town.orders);
    assert!(orders.open.is_empty(), "{:?} of {} orders are open\n{}", orders.open, orders.all, town.report());
    town.check();
    (orders.all, writes)
}

fn run(during: During, blow: Option<(Blow, usize)>) -> Result<(usize, usize), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(played(during, blow))))
        .map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "no words".to_owned()))
}

fn every(during: During, step: usize, most: usize) {
    let (orders, writes) = run(during, None).unwrap();
    assert!(orders >= 4, "the bot ordered {orders} times");
    let mut wrong = Vec::new();
    for blow in Blow::ALL {
        for k in (1..=writes.min(most)).step_by(step) {
            if let Err(what) = run(during, Some((blow, k))) {
                wrong.push(format!("{during:?} {blow}={k}: {what}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} failed; the first: {}", wrong.len(), wrong[0]);
}

#[test]
fn a_bot_at_rest_leaves_no_order_whichever_of_its_writes_is_the_last() {
    every(During::Rest, 1, 7);
}

#[test]
fn a_bot_in_a_rollout_leaves_no_order_whenever_the_controller_dies() {
    every(During::Rollout, 6, 60);
}
