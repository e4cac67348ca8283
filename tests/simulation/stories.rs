//! What an operator would read, kept as text: a change in behaviour is a diff. `UPDATE=1` writes it anew.

use std::{path::PathBuf, time::Duration};

use serde_json::json;

use crate::{
    app::{self, APP, NAMESPACE, V1, V2, V3},
    crash::settled,
    script::held_for,
    sim::{
        Behaviour, Key, Store,
        api::{
            kinds::{CRON_JOB, DELIVERY, DEPLOYMENT, REPLICA_SET},
            write::{Deletion, Propagation},
        },
        json as place,
        world::behaviour::Answers,
    },
    town::Town,
};

const SEED: u64 = 7;

/// Compares the story with its text, and looks at what must hold at every end.
pub async fn told(town: &Town, name: &str, title: &str) {
    town.rest().await;
    let text = format!("# {title}\n{}", town.diary.text());
    let there = town.api.read(|s| s.find(&DELIVERY, NAMESPACE, APP).is_some());
    let end = if there { town.home() } else { town.gone() };
    assert!(end.is_ok(), "{end:?}\n{}", town.report());
    town.check();
    if there {
        settled(town).await;
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/stories").join(format!("{name}.txt"));
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let same = essence(&kept) == essence(&text);
    if std::env::var("UPDATE").is_ok() && !same {
        return std::fs::write(&path, &text).expect("the story");
    }
    assert!(same, "the story {name} is another one now (UPDATE=1 keeps it):\n{text}");
}

/// What a story must say the same way each time: what the owner did, every write, and what became of a version, in this
/// order. What is seen between them (probes, traffic, sentences that last a moment) takes turns as the tasks of one moment
/// do; it is kept for people to read.
fn essence(story: &str) -> Vec<&str> {
    let lasting = |line: &&str| ["owner ", "write ", "release "].iter().any(|kind| line.starts_with(kind));
    let mut lines: Vec<&str> = story.lines().filter(lasting).collect();
    lines.dedup();
    lines
}

async fn open() -> Town {
    let town = Town::open(SEED).await;
    town.diary.begin();
    town
}

async fn gone(town: &Town) {
    town.until("the Delivery is gone", |s| s.find(&DELIVERY, NAMESPACE, APP).is_none()).await;
}

fn live_set(store: &Store) -> String {
    let set = store
        .list(&REPLICA_SET, NAMESPACE)
        .find(|s| place::count(s, "/spec/replicas") > 0 && !place::labels(s).contains_key("haldane.dev/track"));
    set.map(|s| place::name(s).to_owned()).expect("a ReplicaSet with pods")
}

fn manifest(image: &str) -> serde_json::Value {
    app::deployment(APP, image)
}

#[tokio::test(start_paused = true)]
async fn a_good_version_goes_live() {
    let town = open().await;
    town.set_image(V2);
    town.live("v2").await;
    told(&town, "good", "A good version goes all the way.").await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_version_leaves_before_its_first_customer() {
    let town = open().await;
    town.world.set_behaviour(V2, Behaviour::answering(Answers::Always(500)));
    town.set_image(V2);
    town.phase("RolledBack").await;
    told(&town, "bad-first", "A bad version leaves before its first customer.").await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_turns_bad_at_the_first_step_is_suspended_then_taken_back() {
    let town = open().await;
    town.set_image(V2);
    town.phase("Canary").await;
    town.world.set_behaviour(V2, Behaviour::answering(Answers::Always(500)));
    town.phase("RolledBack").await;
    told(&town, "bad-at-a-step", "A version that turns bad at its first step.").await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_fails_under_all_of_the_traffic_goes_back_in_one_write() {
    let town = open().await;
    town.world.set_behaviour(V2, Behaviour::answering(Answers::FailsWhenServingAll));
    town.set_image(V2);
    town.phase("RolledBack").await;
    told(&town, "bad-in-guarding", "A version that fails only when it serves everything.").await;
}

#[tokio::test(start_paused = true)]
async fn a_held_version_is_superseded_by_its_mend() {
    let town = open().await;
    town.world.set_behaviour(V2, Behaviour { image_pull_error: true, ..Behaviour::default() });
    town.set_image(V2);
    town.until("v2 is held", |s| held_for(s, "ClusterRefuses")).await;
    town.pass(Duration::from_secs(30)).await;
    town.set_image(V3);
    town.live("v3").await;
    told(&town, "superseded", "An image that cannot be pulled holds; its mend takes over.").await;
}

#[tokio::test(start_paused = true)]
async fn a_version_is_withdrawn_by_its_owner() {
    let town = open().await;
    town.set_image(V2);
    town.phase("Canary").await;
    town.set_image(V1);
    town.phase("Live").await;
    told(&town, "withdrawn", "The owner takes a version back in mid-rollout.").await;
}

#[tokio::test(start_paused = true)]
async fn a_template_that_changes_in_finalizing_is_the_next_version() {
    let town = open().await;
    town.set_image(V2);
    town.phase("Finalizing").await;
    town.until("the gate is open", |s| s.find(&DEPLOYMENT, NAMESPACE, APP).is_some_and(|d| !place::flag(d, "/spec/paused"))).await;
    // Between that write and ours, Kubernetes may begin to roll it: nobody can forbid that.
    town.watchman.opened();
    town.set_image(V3);
    town.live("v3").await;
    told(&town, "changed-in-finalizing", "The owner ships v3 while stable rolls to v2.").await;
}

#[tokio::test(start_paused = true)]
async fn a_gate_opened_by_hand_is_respected() {
    let town = open().await;
    town.set_image(V2);
    town.phase("Canary").await;
    town.watchman.opened();
    town.does("kubectl rollout resume deploy/web", |w| w.resume(NAMESPACE, APP));
    town.rest().await;
    town.phase("Live").await;
    told(&town, "resumed-by-hand", "A person opens the gate in mid-rollout.").await;
}

#[tokio::test(start_paused = true)]
async fn a_forced_helm_upgrade_is_undone_and_rides_the_canary() {
    let town = open().await;
    town.set_image(V2);
    town.phase("Canary").await;
    town.watchman.opened();
    town.does("helm upgrade --force with v3", |w| w.helm_force(&manifest(V3)).unwrap());
    town.live("v3").await;
    told(&town, "helm-force", "helm upgrade --force in mid-rollout.").await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_replicaset_is_made_again() {
    let town = open().await;
    town.set_image(V2);
    town.phase("Canary").await;
    town.watchman.disturb(Duration::from_secs(15));
    let set = town.api.read(live_set);
    town.does("kubectl delete rs of stable", |w| w.delete_replicaset(NAMESPACE, &set));
    town.live("v2").await;
    told(&town, "replicaset-deleted", "Somebody deletes the ReplicaSet of stable in mid-rollout.").await;
}

#[tokio::test(start_paused = true)]
async fn scaled_to_nothing_and_back() {
    let town = open().await;
    town.set_image(V2);
    town.phase("Canary").await;
    town.watchman.disturb(Duration::from_secs(90));
    town.does("kubectl scale --replicas=0", |w| w.scale(NAMESPACE, APP, 0));
    town.pass(Duration::from_mins(1)).await;
    town.does("kubectl scale --replicas=3", |w| w.scale(NAMESPACE, APP, 3));
    town.live("v2").await;
    told(&town, "scaled-to-zero", "Scaled to nothing in mid-rollout, and back.").await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_deleted_and_made_again() {
    let town = open().await;
    town.set_image(V2);
    town.phase("Canary").await;
    // What serves the users is pinned to stable at this moment: that pin must come off when its pods are gone.
    town.watchman.disturb(Duration::from_secs(40));
    town.watchman.opened();
    town.does("kubectl delete deploy/web", |w| w.delete_deployment(NAMESPACE, APP, Propagation::Background));
    town.pass(Duration::from_secs(20)).await;
    town.does("kubectl apply of web with v2", |w| w.apply(&manifest(V2)).unwrap());
    town.live("v2").await;
    told(&town, "deployment-recreated", "The Deployment is deleted in mid-rollout and made again.").await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_deleted_at_a_step() {
    let town = open().await;
    town.set_image(V2);
    town.phase("Canary").await;
    town.delete_delivery(Propagation::Background);
    gone(&town).await;
    told(&town, "deleted-in-canary", "The Delivery is deleted at a step.").await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_deleted_in_finalizing() {
    for (how, name) in [(Propagation::Background, "deleted-in-finalizing"), (Propagation::Foreground, "deleted-in-finalizing-foreground")] {
        let town = open().await;
        town.set_image(V2);
        town.phase("Finalizing").await;
        town.pass(Duration::from_secs(1)).await;
        town.delete_delivery(how);
        gone(&town).await;
        told(&town, name, "The Delivery is deleted while stable rolls.").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_young_version_that_fails_comes_back() {
    let town = open().await;
    town.set_image(V2);
    town.live("v2").await;
    town.diary.begin();
    town.diary.tell("world", "v2 begins to fail");
    town.world.set_behaviour(V2, Behaviour::answering(Answers::Always(500)));
    town.phase("RolledBack").await;
    told(&town, "young-version-fails", "A version fails ten minutes after it went live.").await;
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_takes_the_image_at_the_end_and_gives_it_back() {
    let town = Town::with_cron_job(SEED).await;
    town.diary.begin();
    town.set_image(V2);
    town.live("v2").await;
    town.diary.tell("world", "v2 begins to fail");
    town.world.set_behaviour(V2, Behaviour::answering(Answers::Always(500)));
    town.phase("RolledBack").await;
    told(&town, "cron-job", "A CronJob takes the image of a version that goes live, and gives it back with that version.").await;
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_that_its_owner_changed_ahead_is_told_and_left() {
    let town = Town::with_cron_job(SEED).await;
    town.diary.begin();
    town.world.set_behaviour(V2, Behaviour::answering(Answers::FailsWhenServingAll));
    town.set_image(V2);
    town.set_cron_image(V2);
    town.phase("RolledBack").await;
    town.rest().await;
    town.set_image(V3);
    town.live("v3").await;
    told(&town, "cron-job-ahead", "The owner changes the CronJob together with the Deployment.").await;
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_that_is_not_there_holds_a_version_before_it_starts() {
    let town = Town::with_cron_job(SEED).await;
    town.diary.begin();
    town.does("kubectl delete cronjob nightly", |w| {
        w.delete(&Key::new(&CRON_JOB, NAMESPACE, app::CRON_JOB), &Deletion::with(Propagation::Background))
    });
    town.set_image(V2);
    town.until("it is held", |s| held_for(s, "CronJobMissing")).await;
    town.pass(Duration::from_mins(1)).await;
    town.create("kubectl create of the CronJob with v1", &app::cron_job(V1));
    town.live("v2").await;
    told(&town, "cron-job-missing", "A CronJob that is not there holds a version before it starts.").await;
}

#[tokio::test(start_paused = true)]
async fn both_sides_failing_hold() {
    let town = open().await;
    town.set_image(V2);
    town.phase("Canary").await;
    town.diary.tell("world", "a dependency of both is down");
    for image in [V1, V2] {
        town.world.set_behaviour(image, Behaviour::answering(Answers::Always(503)));
    }
    town.until("it is held", |s| held_for(s, "BothFailing")).await;
    town.pass(Duration::from_mins(1)).await;
    town.diary.tell("world", "the dependency is back");
    for image in [V1, V2] {
        town.world.set_behaviour(image, Behaviour::default());
    }
    town.live("v2").await;
    told(&town, "both-fail", "Both sides fail: nobody is blamed, nothing moves.").await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_is_the_versions_own_fault() {
    let town = open().await;
    town.world.set_behaviour(V2, Behaviour::crash_looping());
    town.set_image(V2);
    town.phase("RolledBack").await;
    told(&town, "crash-loop", "A version that does not start.").await;
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_delivery_stops_nobody_else() {
    let town = Town::built(SEED).await;
    town.start();
    town.adopt(APP).await;
    for n in 0..8 {
        let name = format!("app{n}");
        town.settle_app(&name).await;
        town.api.seed(&app::probe(&name));
        town.api.seed(&app::hurried(&name));
    }
    for n in 0..8 {
        town.phase_of(&format!("app{n}"), "Live").await;
    }
    town.diary.begin();
    town.create(
        "a Delivery that cannot be read",
        &json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery", "metadata": {"name": "poison", "namespace": NAMESPACE},
            "spec": {"workloads": "all of them"}}),
    );
    town.pass(Duration::from_secs(20)).await;
    town.set_image(V2);
    town.live("v2").await;
    told(&town, "poisoned", "One Delivery cannot be read; the others do not notice.").await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_only_users_find_bad_is_taken_back_by_their_requests() {
    let town = Town::counted(SEED).await;
    // A canary of one pod by a Service would be in doubt for ever: its failures may be those of one client.
    town.watchman.disturb(Duration::from_secs(30));
    town.does("kubectl scale --replicas=8", |w| w.scale(NAMESPACE, APP, 8));
    town.pass(Duration::from_secs(30)).await;
    town.diary.begin();
    town.world.set_behaviour(V2, Behaviour { users_meet: 30, ..Behaviour::default() });
    town.set_image(V2);
    town.phase("RolledBack").await;
    assert!(!town.diary.text().contains("50 %"), "it goes no further than its first step");
    let reason =
        town.api.read(|s| place::text(s.find(&DELIVERY, NAMESPACE, APP).expect("it is there"), "/status/lastRollback/message").to_owned());
    assert!(reason.contains("errors: ") && reason.contains("failed on canary"), "{reason}");
    told(&town, "counted-bad", "Its users find it bad, and no probe does.").await;
}

#[tokio::test(start_paused = true)]
async fn a_good_version_goes_live_when_its_users_have_shown_it() {
    let town = Town::counted(SEED).await;
    town.diary.begin();
    town.set_image(V2);
    town.live("v2").await;
    told(&town, "counted-good", "Its users have shown that it is good.").await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_everybody_under_all_of_the_traffic_takes_nothing_back() {
    let town = Town::counted(SEED).await;
    town.diary.begin();
    town.set_image(V2);
    town.phase("Guarding").await;
    town.pass(Duration::from_secs(5)).await;
    for image in [V1, V2] {
        town.world.set_behaviour(image, Behaviour { users_meet: 40, ..Behaviour::default() });
    }
    town.phase("Canary").await;
    town.pass(Duration::from_mins(3)).await;
    for image in [V1, V2] {
        town.world.set_behaviour(image, Behaviour::default());
    }
    town.live("v2").await;
    told(&town, "counted-outage", "Everybody fails under all of the traffic, for three minutes.").await;
}
