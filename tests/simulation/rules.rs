//! What people say of many Deliveries at once, seen through the real loop: windows, caps, a Hold on everything, approvals.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    app::{self, APP, NAMESPACE, V2},
    script::held_for,
    sim::{
        Store,
        api::{
            kinds::{DELIVERY, KINDS},
            write::Deletion,
        },
        json as place,
    },
    town::Town,
};

const SEED: u64 = 11;
/// Haldane's own namespace.
const HOME: &str = "haldane-system";

fn object(kind: &str, namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "haldane.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

fn delete(town: &Town, kind: &str, namespace: &str, name: &str) {
    let kind = KINDS.iter().find(|k| k.kind == kind).unwrap();
    town.world.delete(&crate::sim::Key::new(kind, namespace, name), &Deletion::default());
}

fn at_home(town: &Town) {
    town.api.add_namespace(HOME);
}

async fn held(town: &Town, reason: &'static str) {
    town.until(reason, |s| held_for(s, reason)).await;
}

#[tokio::test(start_paused = true)]
async fn a_window_in_haldanes_namespace_binds_all_and_its_end_is_noticed() {
    let town = Town::open(SEED).await;
    at_home(&town);
    let closed = json!({"exceptions": [{"from": "1970-01-01", "to": "2999-12-31"}]});
    town.create("a freeze", &object("DeliveryPolicy", HOME, "default", &closed));
    town.set_image(V2);
    held(&town, "WindowClosed").await;
    assert!(place::text(&town.get(&DELIVERY, APP).unwrap(), "/status/message").contains("haldane-system/default"));
    town.pass(Duration::from_mins(30)).await;
    assert_eq!(town.status()["phase"], "Live");
    delete(&town, "DeliveryPolicy", HOME, "default");
    town.live("v2").await;
    town.check();
}

#[tokio::test(start_paused = true)]
async fn a_hold_in_haldanes_namespace_holds_all_and_one_that_names_a_delivery_does_not() {
    let town = Town::open(SEED).await;
    at_home(&town);
    let hold = |name: &str, spec: Value| object("Hold", HOME, name, &spec);
    let named = json!({"deliveryRef": {"name": APP}, "message": "of another web", "by": "ben"});
    town.create("a Hold on a Delivery of that namespace", &hold("named", named));
    town.create("a Hold on everything", &hold("all", json!({"message": "black friday", "by": "ana"})));
    town.set_image(V2);
    held(&town, "Held").await;
    assert_eq!(town.status()["message"], "held by ana: black friday");
    delete(&town, "Hold", HOME, "all");
    town.live("v2").await;
    town.check();
}

#[tokio::test(start_paused = true)]
async fn no_more_apps_roll_at_once_than_the_cap_lets() {
    let town = Town::built(SEED).await;
    at_home(&town);
    town.create("a cap", &object("DeliveryPolicy", HOME, "default", &json!({"caps": {"rollouts": 2}})));
    town.start();
    let names: Vec<String> = (0..5).map(|n| format!("app{n}")).collect();
    for name in &names {
        town.settle_app(name).await;
        town.api.seed(&app::hurried_probe(name));
        town.api.seed(&app::hurried(name));
    }
    for name in &names {
        town.phase_of(name, "Live").await;
    }
    for name in &names {
        town.world.set_image(NAMESPACE, name, V2);
    }
    let rolling = |store: &Store| store.list(&DELIVERY, NAMESPACE).filter(|d| d.pointer("/status/rollout").is_some()).count();
    let done = |store: &Store| {
        assert!(rolling(store) <= 2, "{} roll at once", rolling(store));
        store.list(&DELIVERY, NAMESPACE).filter(|d| place::text(d, "/status/live/version") == "v2").count() == 5
    };
    town.until("all are live", done).await;
    town.check();
}

#[tokio::test(start_paused = true)]
async fn an_approval_outlives_the_controller() {
    let town = Town::built(SEED).await;
    town.start();
    town.api.seed(&app::hurried_probe(APP));
    let mut delivery = app::hurried(APP);
    delivery["spec"]["rollout"]["steps"][1]["approval"] = "Required".into();
    town.api.seed(&delivery);
    town.phase("Live").await;
    town.set_image(V2);
    held(&town, "ApprovalRequired").await;
    let rollout = town.status()["rollout"].clone();
    assert_eq!((&rollout["step"], &rollout["awaits"]), (&json!(1), &json!(2)));
    let order = json!({"deliveryRef": {"name": APP}, "release": rollout["release"], "action": "Approve", "step": 2, "by": "ana"});
    town.api.crash_after_write(crate::town::USER, 1);
    town.create("kubectl haldane approve web", &object("Command", NAMESPACE, "yes", &order));
    town.live("v2").await;
    let answer = KINDS.iter().find(|k| k.kind == "Command").and_then(|kind| town.get(kind, "yes")).unwrap();
    assert_eq!(answer["status"]["result"], "Done");
    town.check();
}
