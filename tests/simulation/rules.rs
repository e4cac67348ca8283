//! What people say of many Deliveries at once, seen through the real loop: windows, caps, a Hold on everything, approvals.

use std::time::Duration;

use serde_json::{Value, json};

use haldane::{act::evidence::Evidence, decide::judge::book::Verdict, model::external::Word};

use crate::{
    app::{self, APP, NAMESPACE, V2, V3},
    script::held_for,
    sim::{
        Behaviour, Store,
        api::{
            kinds::{CONTROLLER_REVISION, DELIVERY, DEPLOYMENT, KINDS},
            write::Deletion,
        },
        json as place,
        world::behaviour::Answers,
    },
    town::{Town, lock},
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

#[tokio::test(start_paused = true)]
async fn a_word_that_was_given_outlives_the_controller_and_one_that_was_not_is_asked_for_again() {
    let town = Town::built(SEED).await;
    town.start();
    town.api.seed(&app::hurried_probe(APP));
    let mut delivery = app::hurried(APP);
    delivery["spec"]["verify"]["external"] = json!([{"name": "board", "at": "Start", "url": "https://changes.example.com/"}]);
    town.api.seed(&delivery);
    town.phase("Live").await;
    town.set_image(V2);
    held(&town, "ExternalWaits").await;
    town.until("its answer is told", |s| {
        s.find(&DELIVERY, NAMESPACE, APP).unwrap()["status"]["message"].to_string().contains("answered 503")
    })
    .await;
    assert_eq!(town.api.read(|store| store.list(&DEPLOYMENT, NAMESPACE).count()), 1, "there is no canary");
    let asked = lock(&town.orders).asked;
    town.stop();
    town.start();
    town.pass(Duration::from_mins(1)).await;
    assert!(lock(&town.orders).asked > asked, "the next one does not ask");
    lock(&town.orders).word = Some(Word::Pass);
    // It is stored that it was given, and the process ends before it has made anything of that.
    town.until("the word is stored", |s| s.find(&DELIVERY, NAMESPACE, APP).unwrap()["status"]["rollout"]["external"][0]["passed"] == true)
        .await;
    town.stop();
    lock(&town.orders).word = Some(Word::Fail(200));
    town.start();
    town.live("v2").await;
    town.check();
}

/// What is kept of the versions that were judged, by their place: the first is the oldest.
fn evidence(town: &Town) -> Vec<Evidence> {
    let kept = |o: &&Value| !o["metadata"]["labels"]["haldane.dev/evidence"].is_null();
    town.api.read(|store| store.list(&CONTROLLER_REVISION, NAMESPACE).filter(kept).map(|o| Evidence::read(o).unwrap()).collect())
}

#[tokio::test(start_paused = true)]
async fn a_verdict_is_recomputed_to_the_last_bit_and_its_record_goes_with_its_release() {
    let town = Town::open(SEED).await;
    town.behave(V2, Behaviour::answering(Answers::Always(500)));
    town.set_image(V2);
    town.phase("RolledBack").await;
    town.rest().await;
    let kept = evidence(&town);
    assert_eq!(kept.len(), 1, "{}", town.report());
    let replayed = kept[0].journal.replay().unwrap();
    assert!(replayed.is_the_same() && replayed.from.is_none());
    let Verdict::Fail(failure) = replayed.book().verdict() else { panic!("{:?}", replayed.book().verdict()) };
    let told = town.status()["message"].to_string();
    assert!(told.contains(&failure.says.replace('"', "\\\"")), "{told}\n{}", failure.says);
    town.set_image(V3);
    town.live("v3").await;
    town.rest().await;
    let replayed: Vec<_> = evidence(&town).iter().map(|kept| kept.journal.replay().unwrap()).collect();
    assert!(replayed.len() == 2 && replayed.iter().all(|r| r.is_the_same() && r.from.is_none()), "{}", town.report());
    delete(&town, "Release", NAMESPACE, &kept[0].release);
    town.pass(Duration::from_secs(5)).await;
    assert_eq!(evidence(&town).len(), 1, "its record went with it");
    town.check();
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_process_had_not_written_down_is_told_and_the_rest_recomputed() {
    let town = Town::open(SEED).await;
    town.set_image(V2);
    // Nothing is written in the first minute.
    town.phase("Canary").await;
    town.stop();
    town.start();
    town.live("v2").await;
    town.rest().await;
    let replayed = evidence(&town)[0].journal.replay().unwrap();
    assert!(replayed.is_the_same() && replayed.from.is_some());
    town.check();
}
