//! `wait` and `release --wait`: every change as a line, and the end as an exit code.

use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::ResourceExt as _;

use super::{
    End, args,
    connect::{Cluster, within},
};
use crate::{
    api::{
        delivery::Delivery,
        release::{Outcome, Release, ReleaseStatus},
        status::DeliveryStatus,
    },
    clock::Stopwatch,
};

/// How often it looks: two small reads, so that a change is told within a second and a half.
const LOOK: Duration = Duration::from_secs(1);

/// Waits for whatever is in flight.
pub(crate) async fn run(cluster: &Cluster, args: &args::WaitArgs) -> Result<End> {
    let delivery = cluster.delivery(args.named.name.as_deref()).await?;
    let status = delivery.status.clone().unwrap_or_default();
    let release =
        concerned(&status).with_context(|| format!("Delivery {} has no version yet; see: kubectl haldane why", delivery.name_any()))?;
    until_over(cluster, &delivery.name_any(), &release, args.limit.timeout.0).await
}

/// The Release that a person who waits means: the one on its way, else the one that is desired.
fn concerned(status: &DeliveryStatus) -> Option<String> {
    let rolling = status.rollout.as_ref().map(|r| &r.release);
    let desired = status.desired.as_ref().map(|d| &d.release);
    rolling.or(desired).or(status.live.as_ref().map(|l| &l.release)).cloned()
}

/// Waits until a Release has its outcome, and prints every change.
pub(crate) async fn until_over(cluster: &Cluster, delivery: &str, release: &str, limit: Duration) -> Result<End> {
    let watch = Stopwatch::start();
    let mut told = None;
    loop {
        let seen = cluster.delivery(Some(delivery)).await;
        let wanted = within("releases", cluster.of::<Release>().get_opt(release)).await;
        let (seen, wanted) = match (seen, wanted) {
            (Ok(seen), Ok(wanted)) => (seen, wanted.with_context(|| format!("Release {release} is gone"))?),
            // The API server may be away for a moment; that decides nothing.
            (Err(error), _) | (_, Err(error)) if watch.elapsed() < limit => {
                eprintln!("{:>5}s  {error:#}", watch.elapsed().as_secs());
                tokio::time::sleep(LOOK).await;
                continue;
            }
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        let status = seen.status.clone().unwrap_or_default();
        let line = line(&status);
        if told.as_ref() != Some(&line.key) {
            println!("{:>5}s  {}", watch.elapsed().as_secs(), line.text);
            told = Some(line.key);
        }
        let outcome = wanted.status.clone().unwrap_or_default();
        if let Some(end) = over(release, &status, &outcome) {
            println!("{:>5}s  {}", watch.elapsed().as_secs(), last_word(&wanted, &status));
            return Ok(end);
        }
        if watch.elapsed() >= limit {
            let end = not_over(&seen);
            println!("{:>5}s  {}", watch.elapsed().as_secs(), unfinished(&seen, release, end));
            return Ok(end);
        }
        tokio::time::sleep(LOOK.min(limit.saturating_sub(watch.elapsed()).max(Duration::from_millis(10)))).await;
    }
}

/// A line, and what makes it another one: the numbers in a sentence tick, and that alone is no news.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    key: (String, String, Option<i32>),
    text: String,
}

fn line(status: &DeliveryStatus) -> Line {
    let (phase, reason) = (status.phase.clone().unwrap_or_default(), status.reason.clone().unwrap_or_default());
    let step = status.rollout.as_ref().and_then(|r| r.step);
    let message = status.message.as_deref().unwrap_or("the controller has not looked at it yet");
    Line { text: format!("{phase:<12} {reason:<16} {message}").trim_start().to_owned(), key: (phase, reason, step) }
}

/// How it ended, if it has.
fn over(release: &str, status: &DeliveryStatus, wanted: &ReleaseStatus) -> Option<End> {
    if status.rollout.as_ref().is_some_and(|r| r.release == release) {
        // An outcome beside a rollout of the same Release is that of an earlier try.
        return None;
    }
    let again =
        wanted.template_hash.as_ref().and_then(|hash| status.quarantine.iter().find(|q| q.identity == *hash && q.release != release));
    if let Some(entry) = again {
        // The same content failed under another name, so this one is not started.
        return Some(ended(entry.outcome));
    }
    match wanted.outcome? {
        Outcome::Live => status.live.as_ref().is_some_and(|l| l.release == release).then_some(End::Done),
        Outcome::Waiting | Outcome::Rolling | Outcome::Halted => None,
        other => Some(ended(other)),
    }
}

fn ended(outcome: Outcome) -> End {
    if outcome == Outcome::RolledBack { End::Bad } else { End::Undecided }
}

fn last_word(release: &Release, delivery: &DeliveryStatus) -> String {
    let status = release.status.clone().unwrap_or_default();
    let said = |outcome: &str, reason: &str, message: &str| format!("{outcome:<12} {reason:<16} {message}").trim_end().to_owned();
    match status.outcome {
        Some(outcome) if status.message.is_some() => {
            said(&format!("{outcome:?}"), status.reason.as_deref().unwrap_or_default(), status.message.as_deref().unwrap_or_default())
        }
        _ => said(
            delivery.phase.as_deref().unwrap_or_default(),
            delivery.reason.as_deref().unwrap_or_default(),
            delivery.message.as_deref().unwrap_or_default(),
        ),
    }
}

/// The time is over: is it only slow, or does it wait for a person?
fn not_over(delivery: &Delivery) -> End {
    let status = delivery.status.clone().unwrap_or_default();
    let says = |type_: &str| status.conditions.iter().any(|c| c.type_ == type_ && c.status == "True");
    if says("Held") || says("Stalled") || !status.holds.is_empty() { End::Held } else { End::Timeout }
}

fn unfinished(delivery: &Delivery, release: &str, end: End) -> String {
    let status = delivery.status.clone().unwrap_or_default();
    let why: Vec<String> = status.holds.iter().map(|h| format!("{}: {}", h.reason, h.message)).collect();
    let name = delivery.name_any();
    match end {
        End::Held => format!("{release} is held and waits for a person. {} See: kubectl haldane why {name}", why.join("; ")),
        _ => format!("{release} has no outcome yet. See: kubectl haldane why {name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::status::tests::delivery;

    fn outcome(word: &str) -> ReleaseStatus {
        serde_json::from_value(json!({"outcome": word})).unwrap()
    }

    fn status(json: serde_json::Value) -> DeliveryStatus {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn every_outcome_has_its_number() {
        let rest = status(json!({"live": {"release": "a", "version": "1"}}));
        for (word, end) in [
            ("Live", Some(End::Done)),
            ("RolledBack", Some(End::Bad)),
            ("Undecided", Some(End::Undecided)),
            ("Superseded", Some(End::Undecided)),
            ("Refused", Some(End::Undecided)),
            ("Waiting", None),
            ("Rolling", None),
        ] {
            assert_eq!(over("a", &rest, &outcome(word)), end, "{word}");
        }
        assert_eq!(over("b", &rest, &outcome("Live")), None, "it was live once, and is not");
        assert_eq!(over("a", &rest, &ReleaseStatus::default()), None);
    }

    #[test]
    fn the_outcome_of_an_earlier_try_ends_nothing() {
        let again = status(json!({"rollout": {"release": "a", "from": "b", "direction": "Forward", "steps": 3}}));
        assert_eq!(over("a", &again, &outcome("RolledBack")), None);
    }

    #[test]
    fn content_that_failed_under_another_name_is_not_waited_for() {
        let entry = json!({"identity": "i", "release": "old", "outcome": "RolledBack", "reason": "CanaryFailed", "message": "it failed"});
        let quarantined = status(json!({"phase": "Live", "quarantine": [entry]}));
        let wanted: ReleaseStatus = serde_json::from_value(json!({"templateHash": "i", "outcome": "Waiting"})).unwrap();
        assert_eq!(over("new", &quarantined, &wanted), Some(End::Bad));
        assert_eq!(over("old", &quarantined, &wanted), None, "its own entry stands beside its own outcome");
    }

    #[test]
    fn ticking_numbers_are_no_news_and_a_step_is() {
        let mut first = delivery().status.unwrap();
        let before = line(&first);
        first.message = Some("v2 has 21 % of new connections".to_owned());
        assert_eq!(line(&first).key, before.key);
        first.rollout.as_mut().unwrap().step = Some(2);
        assert_ne!(line(&first).key, before.key);
        assert_eq!(before.text, "Canary       Baking           v2 gets 20 % of new connections by pods (asked 5 %) and bakes");
    }

    #[test]
    fn a_timeout_says_whether_a_person_is_needed() {
        let mut delivery = delivery();
        assert_eq!(not_over(&delivery), End::Timeout);
        delivery.status = Some(status(json!({"holds": [{"reason": "Held", "message": "held by ana: black friday"}]})));
        assert_eq!(not_over(&delivery), End::Held);
        assert_eq!(
            unfinished(&delivery, "r", End::Held),
            "r is held and waits for a person. Held: held by ana: black friday See: kubectl haldane why checkout"
        );
    }

    #[test]
    fn what_one_waits_for_is_what_is_on_its_way_else_what_is_desired() {
        assert_eq!(concerned(&delivery().status.unwrap()).unwrap(), "checkout-v2-1a2b3");
        assert_eq!(
            concerned(&status(json!({"desired": {"release": "d", "version": ""}, "live": {"release": "l", "version": ""}}))).unwrap(),
            "d"
        );
        assert_eq!(concerned(&DeliveryStatus::default()), None);
    }
}
