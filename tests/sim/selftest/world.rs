//! Rolling, probes and bad versions, as a real cluster does them.

use std::time::Duration;

use serde_json::json;

use super::support::{ROLL, Shop, V1, V2, manifest};
use crate::sim::{
    Answer, Answers, Behaviour,
    api::kinds::DEPLOYMENT,
    json::{self, count},
    world::{kubelet, traffic},
};

#[tokio::test(start_paused = true)]
async fn a_rolling_update_never_has_too_few_or_too_many() {
    for seed in 0..5 {
        let shop = Shop::open(seed).await;
        shop.api.observe(Box::new(|store, _| {
            let ready = super::support::ready_images(store).len();
            let all: i64 = store.list(&crate::sim::api::kinds::REPLICA_SET, "shop").map(|set| count(set, "/spec/replicas")).sum();
            // 3 wanted: surge ceil(0.75) = 1, unavailable floor(0.75) = 0.
            if ready < 3 || all > 4 { Err(format!("{ready} ready, {all} wanted")) } else { Ok(()) }
        }));
        shop.world.set_image("shop", "web", V2);
        shop.rolled(V2).await;
        assert!(shop.api.violations().is_empty(), "seed {seed}: {:?}", shop.api.violations());
        assert_eq!(shop.world.share("shop", "web").by_image(), [(V2.to_owned(), 3)].into());
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_finds_what_may_not_be() {
    let shop = Shop::open(31).await;
    shop.api.observe(Box::new(|store, _| {
        let old = traffic::share(store, "shop", "web").is_some_and(|s| s.by_image().contains_key(V2));
        if old { Err("v2 gets traffic".to_owned()) } else { Ok(()) }
    }));
    shop.world.set_image("shop", "web", V2);
    shop.rolled(V2).await;
    assert!(!shop.api.violations().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_version_that_never_gets_ready_exceeds_the_progress_deadline_and_stable_stays() {
    let shop = Shop::open(32).await;
    shop.world.set_behaviour(V2, Behaviour::never_ready());
    let start = shop.api.clock().elapsed();
    shop.world.set_image("shop", "web", V2);
    let overdue = |store: &crate::sim::Store| {
        let deployment = store.find(&DEPLOYMENT, "shop", "web");
        deployment.and_then(|d| json::condition(d, "Progressing")).is_some_and(|c| json::text(c, "/reason") == "ProgressDeadlineExceeded")
    };
    assert!(shop.world.until(Duration::from_secs(700), overdue).await);
    let took = (shop.api.clock().elapsed() - start).as_secs();
    assert!((600..=606).contains(&took), "{took} s");
    assert_eq!(shop.ready(), [V1; 3]);
}

#[tokio::test(start_paused = true)]
async fn min_ready_seconds_hold_a_pod_back_from_being_available() {
    let shop = Shop::open(33).await;
    let mut slow = manifest(V2);
    json::set(&mut slow, "/spec/minReadySeconds", json!(20));
    let start = shop.api.clock().elapsed();
    shop.world.apply(&slow).expect("apply");
    shop.rolled(V2).await;
    assert!((shop.api.clock().elapsed() - start).as_secs() >= 60, "three pods, one after the other, 20 s each");
}

#[tokio::test(start_paused = true)]
async fn bad_versions_say_why() {
    let bad = [
        (Behaviour::crash_looping(), "CrashLoopBackOff"),
        (Behaviour { oom: true, ..Behaviour::default() }, "OOMKilled"),
        (Behaviour { image_pull_error: true, ..Behaviour::default() }, "ImagePullBackOff"),
        (Behaviour { unschedulable: true, ..Behaviour::default() }, "Unschedulable"),
    ];
    for (behaviour, reason) in bad {
        let shop = Shop::open(34).await;
        shop.world.set_behaviour(V2, behaviour);
        shop.world.set_image("shop", "web", V2);
        let said = |store: &crate::sim::Store| {
            store.list(&crate::sim::api::kinds::POD, "shop").any(|pod| pod["status"].to_string().contains(reason))
        };
        assert!(shop.world.until(ROLL, said).await, "nobody said {reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn pods_tell_the_digest_that_they_run() {
    let shop = Shop::open(35).await;
    let pod = &shop.pods()[0];
    let id = json::text(pod, "/status/containerStatuses/0/imageID");
    assert_eq!(id, kubelet::image_id(V1));
    assert!(id.starts_with("registry/app@sha256:") && id.len() == "registry/app@sha256:".len() + 64, "{id}");
    assert_eq!(kubelet::image_id("registry/app@sha256:abc"), "registry/app@sha256:abc");
}

#[tokio::test(start_paused = true)]
async fn probes_see_what_the_version_does() {
    let shop = Shop::open(36).await;
    let ip = json::text(&shop.pods()[0], "/status/podIP").to_owned();
    let ask = || shop.world.ask(&ip);
    assert_eq!(ask(), Answer::Status(200));
    shop.world.set_behaviour(V1, Behaviour::answering(Answers::FailsAfterRequests(2)));
    assert_eq!([ask(), ask()], [Answer::Status(200), Answer::Status(500)], "one request was asked before");
    shop.world.set_behaviour(V1, Behaviour::answering(Answers::FailsWhenServingAll));
    assert_eq!(ask(), Answer::Status(500));
    shop.world.set_behaviour(V1, Behaviour::answering(Answers::Silent));
    assert_eq!(ask(), Answer::Timeout);
    assert_eq!(shop.world.ask("192.0.2.1"), Answer::Timeout);
    shop.world.set_behaviour(V1, Behaviour::answering(Answers::FailsRate(30)));
    let failed = (0..1_000).filter(|_| ask() == Answer::Status(500)).count();
    assert!((240..360).contains(&failed), "{failed} of 1000");
}

#[tokio::test(start_paused = true)]
async fn old_replicasets_beyond_the_history_limit_go() {
    let shop = Shop::open(37).await;
    let mut short = manifest(V1);
    json::set(&mut short, "/spec/revisionHistoryLimit", json!(1));
    shop.world.apply(&short).expect("apply");
    for version in 2..6 {
        let image = format!("registry/app:v{version}");
        shop.world.set_image("shop", "web", &image);
        shop.rolled(&image).await;
    }
    assert_eq!(shop.sets().len(), 2);
    assert_eq!(json::text(&shop.deployment(), "/metadata/annotations/deployment.kubernetes.io~1revision"), "5");
}

#[tokio::test(start_paused = true)]
async fn recreate_has_no_two_versions_at_once() {
    let shop = Shop::open(38).await;
    let mut recreate = manifest(V1);
    json::set(&mut recreate, "/spec/strategy", json!({"type": "Recreate", "rollingUpdate": null}));
    shop.world.apply(&recreate).expect("apply");
    shop.quiet().await;
    shop.api.observe(Box::new(|store, _| {
        let mut images: Vec<&str> =
            store.list(&crate::sim::api::kinds::POD, "shop").map(|p| json::text(p, "/spec/containers/0/image")).collect();
        images.sort_unstable();
        images.dedup();
        if images.len() > 1 { Err(format!("{images:?}")) } else { Ok(()) }
    }));
    shop.world.set_image("shop", "web", V2);
    shop.rolled(V2).await;
    assert!(shop.api.violations().is_empty(), "{:?}", shop.api.violations());
}

#[tokio::test(start_paused = true)]
async fn one_seed_is_one_history_and_another_seed_another() {
    async fn history(seed: u64) -> Vec<String> {
        let shop = Shop::open(seed).await;
        shop.world.set_image("shop", "web", V2);
        shop.rolled(V2).await;
        shop.api.read(|store| store.history().iter().map(|c| format!("{} {} {} {}", c.at, c.by, c.key, c.object)).collect())
    }
    let first = history(39).await;
    assert_eq!(first, history(39).await);
    assert_ne!(first, history(40).await);
}
