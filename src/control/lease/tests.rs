//! Electors against one Lease in memory, on paused time: what an operator would see of who leads.
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

mod cluster;

use serde_json::json;
use tokio::time::sleep;

use super::*;
use crate::clock::Stopwatch;
use cluster::{Cluster, Link, Process, Stopped};

const SOON: Duration = Duration::from_millis(100);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn the_first_start_leads_at_once() {
    let cluster = Cluster::default();
    let proof = cluster.start("a", "1").leads_within(SOON).await;
    assert_eq!((proof.epoch(), proof.fence()), (1, "1.1"));
    let lease = cluster.stored().lease.clone().unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "a/1");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 8);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_start_together_one_leads_and_goes_on_leading() {
    let cluster = Cluster::default();
    let (a, b) = (cluster.start("a", "1"), cluster.start("b", "1"));
    sleep(SOON).await;
    let first = a.leads();
    for _ in 0..600 {
        assert!(a.leads() != b.leads(), "exactly one");
        assert_eq!(a.leads(), first, "always the same");
        sleep(SOON).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_kill_another_pod_leads_within_ten_seconds_whenever_it_happens() {
    for millis in (0..3000).step_by(130) {
        let cluster = Cluster::default();
        let mut a = cluster.start("a", "1");
        let first = a.leads_within(SOON).await;
        let mut b = cluster.start("b", "1");
        sleep(secs(5) + Duration::from_millis(millis)).await;
        a.kill();
        let second = b.leads_within(secs(10)).await;
        assert_eq!(second.epoch(), first.epoch() + 1, "a new term");
        assert_eq!(first.ensure(), Err(NotLeading { epoch: 1 }), "the old proof is void");
    }
}

#[tokio::test(start_paused = true)]
async fn everybody_knows_where_the_leader_is_and_nobody_is_sent_to_one_that_was() {
    let cluster = Cluster::default();
    let here = |n| Some(SocketAddr::from(([10, 0, 0, n], 8081)));
    let mut a = cluster.start_at("a", "1", here(1));
    a.leads_within(SOON).await;
    let mut b = cluster.start_at("b", "1", here(2));
    sleep(secs(2)).await;
    assert_eq!((a.leadership.leader_at(), b.leadership.leader_at()), (here(1), here(1)));
    // It hands over: until another leads, there is nobody to go to.
    a.shutdown.cancel();
    b.leads_within(secs(3)).await;
    assert_eq!(b.leadership.leader_at(), here(2));
    b.shutdown.cancel();
    sleep(secs(1)).await;
    let mut c = cluster.start("c", "1");
    c.leads_within(secs(3)).await;
    assert_eq!(cluster.stored().lease.clone().unwrap()["metadata"]["annotations"], json!({}), "it takes no webhooks");
    assert_eq!(c.leadership.leader_at(), None);
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_only_just_started_waits_out_a_lease_that_it_cannot_judge() {
    let cluster = Cluster::default();
    let mut a = cluster.start("a", "1");
    a.leads_within(SOON).await;
    a.kill();
    sleep(secs(60)).await;
    let mut b = cluster.start("b", "1");
    sleep(Duration::from_millis(7900)).await;
    assert!(!b.leads(), "it has not seen the lease stand still for 8 s");
    b.leads_within(secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_pods_next_process_leads_at_once() {
    let cluster = Cluster::default();
    let mut old = cluster.start("a", "1");
    let first = old.leads_within(SOON).await;
    let b = cluster.start("b", "1");
    sleep(secs(3)).await;
    old.kill();
    let second = cluster.start("a", "2").leads_within(SOON).await;
    assert_eq!(second.epoch(), first.epoch() + 1);
    assert_ne!(second.fence(), first.fence());
    assert!(!b.leads());
}

#[tokio::test(start_paused = true)]
async fn two_processes_that_claim_to_be_one_pod_do_not_take_it_from_each_other_for_ever() {
    let cluster = Cluster::default();
    let mut one = cluster.start("a", "1");
    one.leads_within(SOON).await;
    let mut two = cluster.start("a", "2");
    two.leads_within(SOON).await;
    sleep(secs(30)).await;
    assert!(two.leads() && !one.leads());
    assert_eq!(cluster.stored().lease.as_ref().unwrap()["spec"]["leaseTransitions"], 2);
}

#[tokio::test(start_paused = true)]
async fn on_shutdown_the_lease_is_given_back_and_another_leads_within_a_second() {
    let cluster = Cluster::default();
    let mut a = cluster.start("a", "1");
    let proof = a.leads_within(SOON).await;
    let mut b = cluster.start("b", "1");
    sleep(secs(3)).await;
    a.shutdown.cancel();
    timeout(SOON, a.task).await.expect("ends soon").unwrap();
    assert!(proof.ensure().is_err());
    assert_eq!(cluster.stored().writes.last().unwrap(), "", "released");
    b.leads_within(secs(1) + SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_shuts_down_leaves_the_leader_alone() {
    let cluster = Cluster::default();
    let mut a = cluster.start("a", "1");
    a.leads_within(SOON).await;
    let b = cluster.start("b", "1");
    sleep(secs(3)).await;
    b.shutdown.cancel();
    timeout(SOON, b.task).await.expect("ends soon").unwrap();
    sleep(secs(3)).await;
    assert!(a.leads());
    assert!(cluster.stored().writes.iter().all(|holder| holder == "a/1"));
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_within_eight_seconds_with_the_api_server_away() {
    let cluster = Cluster::default();
    let mut a = cluster.start("a", "1");
    a.leads_within(SOON).await;
    a.link(Link::Cut);
    sleep(Duration::from_millis(2500)).await;
    a.shutdown.cancel();
    timeout(secs(8), a.task).await.expect("ends").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_stops_two_seconds_before_another_starts() {
    for link in [Link::Cut, Link::Refused] {
        let cluster = Cluster::default();
        let mut a = cluster.start("a", "1");
        let proof = a.leads_within(SOON).await;
        let mut b = cluster.start("b", "1");
        sleep(Duration::from_millis(4700)).await;
        a.link(link);
        let cut = Stopwatch::start();
        timeout(secs(7), a.leadership.lost(&proof)).await.expect("told that it is over");
        assert!(cut.elapsed() <= LEAD, "{:?}", cut.elapsed());
        assert!(proof.ensure().is_err() && !a.leads());
        let ended = Stopwatch::start();
        b.leads_within(secs(5)).await;
        assert!(ended.elapsed() >= MARGIN, "{link:?}: only {:?} between the two", ended.elapsed());

        a.link(Link::Up);
        sleep(secs(20)).await;
        assert!(b.leads() && !a.leads(), "back again, it does not take the lead away");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hiccup_of_three_seconds_changes_nothing() {
    let cluster = Cluster::default();
    let mut a = cluster.start("a", "1");
    let proof = a.leads_within(SOON).await;
    for link in [Link::Cut, Link::Refused, Link::Slow(1900)] {
        a.link(link);
        sleep(secs(3)).await;
        a.link(Link::Up);
        sleep(secs(4)).await;
        assert_eq!(proof.ensure(), Ok(()), "{link:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_arrived_but_whose_answer_was_lost_does_not_end_the_term() {
    let cluster = Cluster::default();
    let mut a = cluster.start("a", "1");
    let proof = a.leads_within(SOON).await;
    a.link(Link::SlowWrites(2500));
    sleep(Duration::from_millis(4100)).await;
    a.link(Link::Up);
    for _ in 0..50 {
        assert_eq!(proof.ensure(), Ok(()));
        sleep(SOON).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_arrives_after_the_end_does_not_bring_the_term_back() {
    let cluster = Cluster::default();
    let mut a = cluster.start("a", "1");
    let proof = a.leads_within(SOON).await;
    a.link(Link::SlowWrites(9000));
    sleep(Duration::from_millis(4500)).await;
    a.link(Link::SlowWrites(1500));
    timeout(secs(2), a.leadership.lost(&proof)).await.expect("over");
    for _ in 0..20 {
        assert!(proof.ensure().is_err());
        sleep(SOON).await;
    }
    a.link(Link::Up);
    assert_ne!(a.leads_within(secs(4)).await.fence(), proof.fence());
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_for_all_there_is_a_new_term_with_a_new_fence() {
    let cluster = Cluster::default();
    let mut a = cluster.start("a", "1");
    let first = a.leads_within(SOON).await;
    a.link(Link::Cut);
    sleep(secs(30)).await;
    a.link(Link::Up);
    let second = a.leads_within(secs(4)).await;
    assert_ne!(first.fence(), second.fence());
    assert!(first.ensure().is_err(), "a proof of the old term does not come back to life");
}

#[tokio::test(start_paused = true)]
async fn a_conflict_at_renewal_by_another_holder_ends_the_term() {
    let cluster = Cluster::default();
    let mut a = cluster.start("a", "1");
    let proof = a.leads_within(SOON).await;
    {
        let mut stored = cluster.stored();
        let mut lease = stored.lease.clone().unwrap();
        lease["spec"]["holderIdentity"] = json!("b/1");
        stored.store(lease);
    }
    timeout(RENEW + SOON, a.leadership.lost(&proof)).await.expect("noticed at the next renewal");
    assert!(proof.ensure().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_conflict_at_renewal_by_somebodys_label_does_not_end_the_term_and_keeps_the_label() {
    let cluster = Cluster::default();
    let mut a = cluster.start("a", "1");
    let proof = a.leads_within(SOON).await;
    for _ in 0..10 {
        {
            let mut stored = cluster.stored();
            let mut lease = stored.lease.clone().unwrap();
            lease["metadata"]["labels"] = json!({"team": "platform"});
            stored.store(lease);
        }
        sleep(Duration::from_millis(3300)).await;
        assert_eq!(proof.ensure(), Ok(()));
    }
    assert_eq!(cluster.stored().lease.as_ref().unwrap()["metadata"]["labels"]["team"], "platform");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_does_not_make_a_second_leader() {
    let cluster = Cluster::default();
    let mut a = cluster.start("a", "1");
    let proof = a.leads_within(SOON).await;
    let b = cluster.start("b", "1");
    sleep(secs(3)).await;
    cluster.stored().lease = None;
    for _ in 0..100 {
        sleep(SOON).await;
        assert!(proof.ensure().is_ok() && !b.leads());
    }
    assert_eq!(cluster.stored().lease.as_ref().unwrap()["spec"]["holderIdentity"], "a/1");
}

#[tokio::test(start_paused = true)]
async fn an_elector_that_died_ends_its_proofs_all_the_same() {
    let mut a = Cluster::default().start("a", "1");
    let proof = a.leads_within(SOON).await;
    a.kill();
    timeout(LEAD, a.leadership.lost(&proof)).await.expect("told in time");
    assert!(!a.leads());
}

#[tokio::test(start_paused = true)]
async fn alone_it_leads_for_ever() {
    let mut leadership = Elector::alone(&Stopped);
    let proof = leadership.gained().await;
    assert!(timeout(secs(100_000), leadership.lost(&proof)).await.is_err());
    assert_eq!(proof.ensure(), Ok(()));
}

/// Links fail and heal, processes die and come back, answers are late or lost: never two valid proofs at one moment,
/// never one epoch twice, and when all is well again somebody leads.
#[tokio::test(start_paused = true)]
async fn whatever_happens_there_are_never_two() {
    for seed in 0..40_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut roll = move |sides: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % sides
        };
        let cluster = Cluster::default();
        let mut pods = [cluster.start("a", "0"), cluster.start("b", "0"), cluster.start("c", "0")];
        let mut terms = std::collections::BTreeMap::new();
        for beat in 0..3000_u64 {
            let who = usize::try_from(roll(3)).unwrap();
            match roll(120) {
                0 => pods[who].link(Link::Cut),
                1 => pods[who].link(Link::Refused),
                2 => pods[who].link(Link::Slow(roll(4000))),
                3 | 4 => pods[who].link(Link::Up),
                5 if roll(4) == 0 => {
                    pods[who].kill();
                    pods[who] = cluster.start(["a", "b", "c"][who], &beat.to_string());
                }
                6 if roll(4) == 0 => {
                    pods[who].shutdown.cancel();
                    let next = cluster.start(["a", "b", "c"][who], &beat.to_string());
                    let old = std::mem::replace(&mut pods[who], next);
                    // The kubelet starts a container only after the one before has ended.
                    old.kill();
                }
                _ => {}
            }
            sleep(SOON).await;
            let valid: Vec<_> = pods.iter().filter_map(|pod| pod.leadership.current()).collect();
            assert!(valid.len() <= 1, "seed {seed}, {beat}: {valid:?}");
            for proof in valid {
                let holder = terms.entry(proof.epoch()).or_insert_with(|| proof.fence().to_owned());
                assert_eq!(holder, proof.fence(), "seed {seed}: one epoch, two terms");
            }
        }
        for pod in &pods {
            pod.link(Link::Up);
        }
        sleep(secs(15)).await;
        assert_eq!(pods.iter().filter(|pod| pod.leads()).count(), 1, "seed {seed}: somebody leads again");
        assert!(terms.len() > 3, "seed {seed}: {} terms are too few to show anything", terms.len());
        pods.iter().for_each(Process::kill);
    }
}
