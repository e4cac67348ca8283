//! Bad days of the API: one fault at every write of two histories, watches that break, an API that is away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    app::{APP, NAMESPACE, V2},
    crash::settled,
    script::Script,
    sim::{
        Behaviour, Fault, Key, Refusal, Store,
        api::{
            faults::{Stage, once},
            kinds::{DELIVERY, SERVICE},
            managed::Writer,
            request::Verb,
            write::Propagation,
        },
        json,
        world::behaviour::Answers,
    },
    town::{Town, USER},
};

const SEED: u64 = 11;
const FAULTS: [(&str, u16); 5] = [("422", 422), ("429", 429), ("500", 500), ("503", 503), ("409", 409)];

async fn with(script: Script, name: &str, k: usize) -> bool {
    let town = Town::hurried(SEED).await;
    town.diary.begin();
    let fault = match FAULTS.iter().find(|(n, _)| *n == name) {
        Some((_, 429)) => Fault::Answer(Refusal::of(429, "too many requests").retry_after(2)),
        Some((_, code)) => Fault::Answer(Refusal::of(*code, "a bad day")),
        None => Fault::Disconnect,
    };
    let (mut seen, api) = (0, town.api.clone());
    town.api.on_request(once(fault, move |call, stage| {
        let counts = call.user == USER && call.is_write() && !call.is_background() && stage == Stage::Before;
        seen += usize::from(counts);
        let _ = &api;
        counts && seen == k
    }));
    script.play(&town).await;
    let reached = town.api.writes(USER).len() >= k;
    settled(&town).await;
    reached
}

/// Every fourth write with each fault, shifted, so that every write meets one of them. The crash sweep has the lost replies.
#[tokio::test(start_paused = true)]
async fn one_bad_answer_at_any_write_ends_well() {
    let mut ran = 0;
    for script in [Script::Good, Script::BadFirst] {
        for (at, name) in ["409", "422", "429", "500", "503", "refused"].iter().enumerate() {
            let mut k = 1 + at;
            while k <= 24 {
                with(script, name, k).await;
                ran += 1;
                k += 6;
            }
        }
    }
    println!("{ran} schedules");
}

/// A genuine foreign write just before ours.
#[tokio::test(start_paused = true)]
async fn a_foreign_write_in_between_is_a_conflict_and_nothing_worse() {
    let town = Town::hurried(SEED).await;
    let api = town.api.clone();
    let disturb = async {
        for n in 0..200 {
            tokio::time::sleep(Duration::from_millis(170)).await;
            for kind in [&crate::sim::api::kinds::DEPLOYMENT, &crate::sim::api::kinds::SERVICE, &DELIVERY] {
                let key = crate::sim::Key::new(kind, NAMESPACE, APP);
                let note = format!("{n}");
                api.write(|s| s.edit(&Writer::new("annotator"), &key, "", |o| json::set(o, "/metadata/annotations/n", note.into()))).ok();
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! { () = Script::Good.play(&town) => {}, () = disturb => {} }
    settled(&town).await;
}

#[tokio::test(start_paused = true)]
async fn broken_and_expired_watches_delay_nothing_for_long() {
    for expire in [false, true] {
        let town = Town::hurried(SEED).await;
        let api = town.api.clone();
        let disturb = async {
            loop {
                tokio::time::sleep(Duration::from_secs(3)).await;
                for plural in ["deliveries", "deployments", "services", "releases"] {
                    if expire { api.expire_watches(plural) } else { api.cut_watches(plural) }
                }
            }
        };
        tokio::select! { () = Script::Superseded.play(&town) => {}, () = disturb => {} }
        settled(&town).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_api_away_for_half_a_minute_in_each_phase() {
    for phase in ["Preflight", "Canary", "Promoting", "Guarding", "Finalizing"] {
        let town = Town::open(SEED).await;
        town.diary.begin();
        town.set_image(V2);
        if phase != "Promoting" {
            town.phase(phase).await;
        }
        let until = town.api.clock().elapsed() + Duration::from_secs(30);
        let clock = town.api.clock();
        town.watchman.unheard(Duration::from_secs(62));
        town.api.on_request(Box::new(move |call, stage| {
            (clock.elapsed() < until && call.user == USER && stage == Stage::Before).then_some(Fault::Disconnect)
        }));
        town.live("v2").await;
        town.check();
        settled(&town).await;
    }
}

/// Users are off a failing version although not one status can be stored.
#[tokio::test(start_paused = true)]
async fn a_refused_status_never_stops_the_way_back() {
    let town = Town::open(SEED).await;
    town.set_image(V2);
    town.phase("Canary").await;
    town.pass(Duration::from_secs(3)).await;
    town.api.on_request(Box::new(|call, stage| {
        (call.user == USER && call.is_about("deliveries/status") && stage == Stage::Before)
            .then(|| Fault::Answer(Refusal::of(403, "no rights")))
    }));
    town.world.set_behaviour(V2, Behaviour::answering(Answers::Always(500)));
    town.pass(Duration::from_secs(20)).await;
    let share = town.world.share(NAMESPACE, APP);
    assert!(share.fraction(|p| p.image == V2) <= 0.0, "{}", town.report());
    town.api.clear_faults();
    town.phase("RolledBack").await;
    town.rest().await;
    town.check();
}

/// I17: nothing that serves changes while no controller runs.
#[tokio::test(start_paused = true)]
async fn a_controller_that_is_away_changes_nothing() {
    for phase in ["Preflight", "Canary", "Guarding", "Finalizing"] {
        let town = Town::open(SEED).await;
        town.set_image(V2);
        town.phase(phase).await;
        town.pass(Duration::from_secs(2)).await;
        town.stop();
        town.pass(Duration::from_secs(10)).await;
        let before = town.world.share(NAMESPACE, APP).by_image();
        town.pass(Duration::from_mins(5)).await;
        assert_eq!(town.world.share(NAMESPACE, APP).by_image(), before, "in {phase}");
        town.start();
        town.live("v2").await;
        town.check();
    }
}

/// Deleted in any phase, also in the foreground: everything is the owner's again.
#[tokio::test(start_paused = true)]
async fn deleted_in_any_phase() {
    for phase in ["Preflight", "Canary", "Guarding", "Finalizing"] {
        for how in [Propagation::Background, Propagation::Foreground] {
            let town = Town::open(SEED).await;
            town.set_image(V2);
            town.phase(phase).await;
            town.delete_delivery(how);
            town.until("it is gone", |s| s.find(&DELIVERY, NAMESPACE, APP).is_none()).await;
            town.rest().await;
            let end = town.gone();
            assert!(end.is_ok(), "{phase}: {end:?}\n{}", town.report());
            town.check();
        }
    }
}

/// Two controllers that both believe they lead, all the way: their writes collide, and what one of them does the other finds done.
#[tokio::test(start_paused = true)]
async fn two_that_both_lead() {
    for script in Script::ALL {
        let town = Town::hurried(SEED).await;
        town.diary.begin();
        town.start();
        script.play(&town).await;
        settled(&town).await;
    }
}

/// A server that lags: every other list shows what was there some writes ago.
#[tokio::test(start_paused = true)]
async fn lists_that_are_a_little_old() {
    for script in Script::ALL {
        for behind in [1, 4] {
            let town = Town::hurried(SEED).await;
            town.diary.begin();
            let current = Arc::new(AtomicU64::new(0));
            let (writes, mut asked) = (current.clone(), 0);
            town.api.observe(Box::new(move |store, _| {
                writes.store(store.version(), Ordering::Relaxed);
                Ok(())
            }));
            town.api.on_request(Box::new(move |call, stage| {
                let list = call.user == USER && call.verb == Verb::List && stage == Stage::Before;
                asked += usize::from(list);
                let now = current.load(Ordering::Relaxed);
                // As if by chance: were it every second one, the same kind might be old at each look, and for ever.
                (list && (asked.wrapping_mul(0x9e37_79b9) >> 16) % 2 == 0 && now > behind).then(|| Fault::Stale { version: now - behind })
            }));
            script.play(&town).await;
            town.api.clear_faults();
            settled(&town).await;
        }
    }
}

/// Somebody's `kubectl edit`.
fn edited(town: &Town, kind: &'static crate::sim::Kind, pointer: &'static str, value: serde_json::Value) {
    let (by, key) = (Writer::new("kubectl-edit"), Key::new(kind, NAMESPACE, APP));
    town.api.write(|store| store.edit(&by, &key, "", |object| json::set(object, pointer, value))).expect("edited");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_pointed_elsewhere_in_mid_rollout_loses_our_pin() {
    let town = Town::open(3).await;
    town.set_image(V2);
    town.phase("Preflight").await;
    let selector = |s: &Store| s.find(&SERVICE, NAMESPACE, APP).map(|s| json::strings(s, "/spec/selector")).unwrap_or_default();
    town.until("it is pinned", |s| selector(s).contains_key("pod-template-hash")).await;
    edited(&town, &SERVICE, "/spec/selector/app", "elsewhere".into());
    town.until("it is as its owner wrote it", |s| selector(s).keys().eq(["app"])).await;
    let notes = town.service().pointer("/metadata/annotations").cloned().unwrap_or_default();
    assert_eq!(notes.get("haldane.dev/pinned-since"), None, "{notes}");
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_cannot_be_decoded_and_is_deleted_opens_its_gate() {
    let town = Town::open(3).await;
    edited(&town, &DELIVERY, "/spec/workloads", "all of them".into());
    town.pass(Duration::from_secs(20)).await;
    assert!(json::flag(&town.deployment(), "/spec/paused"), "nothing is moved while it stands");
    town.delete_delivery(Propagation::Background);
    town.until("the Delivery is gone", |s| s.find(&DELIVERY, NAMESPACE, APP).is_none()).await;
    assert!(!json::flag(&town.deployment(), "/spec/paused"), "{}", town.report());
    town.check();
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_contradicts_itself_and_is_deleted_opens_its_gate() {
    let town = Town::open(3).await;
    edited(&town, &DELIVERY, "/spec/rollout/steps", serde_json::json!([{"weight": 50}, {"weight": 10}]));
    town.until("it is said", |s| s.find(&DELIVERY, NAMESPACE, APP).is_some_and(|d| json::text(d, "/status/reason") == "Invalid")).await;
    town.delete_delivery(Propagation::Background);
    town.until("the Delivery is gone", |s| s.find(&DELIVERY, NAMESPACE, APP).is_none()).await;
    assert!(!json::flag(&town.deployment(), "/spec/paused"), "{}", town.report());
}
