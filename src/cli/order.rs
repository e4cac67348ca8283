//! `promote`, `approve`, `abort`, `rollback`, `retry`, `adopt`: one Command each, refused early where it cannot apply.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kube::{ResourceExt as _, api::ObjectMeta};

use super::{
    End, args,
    connect::{Cluster, bare, within},
};
use crate::{
    api::{
        DELIVERY_LABEL,
        command::{Action, Command, CommandResult, CommandSpec},
        delivery::Delivery,
        release::{DeliveryRef, Release},
        status::DeliveryStatus,
    },
    clock::Stopwatch,
};

/// How long a person is kept waiting for the answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How often it looks for it.
const LOOK: Duration = Duration::from_millis(250);

/// What a person names, where the order leaves it open.
#[derive(Debug, Clone, Default)]
pub(crate) struct About {
    /// The Release.
    pub(crate) release: Option<String>,
    /// The step, from 1.
    pub(crate) step: Option<i32>,
}

impl About {
    /// That Release.
    pub(crate) fn release(release: Option<String>) -> Self {
        Self { release, step: None }
    }
}

/// An order that can apply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sound {
    /// The Release that it is about.
    pub(crate) release: String,
    /// The step that is approved.
    pub(crate) step: Option<i32>,
    /// What will happen.
    pub(crate) says: String,
}

/// Gives one of the orders that need no Release.
pub(crate) async fn run(cluster: &Cluster, action: Action, args: &args::Order) -> Result<End> {
    let delivery = cluster.delivery(args.named.name.as_deref()).await?;
    give(cluster, &delivery, action, About::default(), args.reason.as_deref()).await
}

/// `approve`: of the step that waits, or of one that is named.
pub(crate) async fn approve(cluster: &Cluster, args: &args::Approve) -> Result<End> {
    let delivery = cluster.delivery(args.order.named.name.as_deref()).await?;
    let about = About { step: args.step, ..About::default() };
    give(cluster, &delivery, Action::Approve, about, args.order.reason.as_deref()).await
}

/// `retry`: takes a Delivery, a Release, or both.
pub(crate) async fn retry(cluster: &Cluster, args: &args::Retry) -> Result<End> {
    let mut wanted = args.release.clone();
    let mut name = args.name.as_deref().map(bare).map(str::to_owned);
    if let (Some(given), None) = (&name, &wanted)
        && let Some(release) = within("releases", cluster.of::<Release>().get_opt(given)).await?
    {
        wanted = name.replace(release.spec.delivery_ref.name);
    }
    let delivery = cluster.delivery(name.as_deref()).await?;
    if let Some(wanted) = &wanted {
        let release = within("releases", cluster.of::<Release>().get_opt(wanted)).await?;
        let release = release.with_context(|| format!("there is no Release {wanted} in namespace {}", cluster.namespace))?;
        if release.spec.delivery_ref.name != delivery.name_any() {
            bail!("Release {wanted} belongs to Delivery {}", release.spec.delivery_ref.name);
        }
    }
    give(cluster, &delivery, Action::Retry, About::release(wanted), args.reason.as_deref()).await
}

/// Writes a Command and waits for its answer.
pub(crate) async fn give(cluster: &Cluster, delivery: &Delivery, action: Action, about: About, why: Option<&str>) -> Result<End> {
    let sound = sound(action, delivery, about)?;
    println!("{}", sound.says);
    let order = command(delivery, action, &sound, why, &cluster.whoami().await);
    let name = cluster.create(&order, false).await?.name_any();
    println!("command.haldane.dev/{name} created");
    let watch = Stopwatch::start();
    while watch.elapsed() < ANSWER {
        let now = within("commands", cluster.of::<Command>().get_opt(&name)).await?;
        let status = now.with_context(|| format!("Command {name} is gone before it was answered"))?.status.unwrap_or_default();
        if let Some(result) = status.result {
            println!("{result:?}: {}", status.message.unwrap_or_default());
            return Ok(if result == CommandResult::Done { End::Done } else { End::Bad });
        }
        tokio::time::sleep(LOOK).await;
    }
    println!("no answer within {}s; the order stands. Is the controller running? kubectl haldane doctor", ANSWER.as_secs());
    Ok(End::Timeout)
}

fn command(delivery: &Delivery, action: Action, sound: &Sound, why: Option<&str>, by: &str) -> Command {
    let spec = CommandSpec {
        delivery_ref: DeliveryRef { name: delivery.name_any() },
        release: sound.release.clone(),
        action,
        step: sound.step,
        reason: why.map(|w| w.chars().take(256).collect()),
        by: by.to_owned(),
    };
    let labels = [(DELIVERY_LABEL.to_owned(), delivery.name_any())].into();
    let generate = format!("{}-{}-", delivery.name_any(), format!("{action:?}").to_lowercase());
    Command { metadata: ObjectMeta { generate_name: Some(generate), labels: Some(labels), ..ObjectMeta::default() }, spec, status: None }
}

/// What an order is about and does, or why it cannot apply now.
pub(crate) fn sound(action: Action, delivery: &Delivery, about: About) -> Result<Sound> {
    let (name, status) = (delivery.name_any(), delivery.status.clone().unwrap_or_default());
    match action {
        Action::Promote => promote(&name, &status),
        Action::Abort => abort(&name, &status),
        Action::Rollback => rollback(&name, &status),
        Action::Retry => retried(&name, &status, about.release),
        Action::Adopt => adopt(&name, &status),
        Action::Approve => approved(&name, &status, about.step),
    }
}

fn in_flight(name: &str, status: &DeliveryStatus) -> Result<String> {
    let phase = status.phase.as_deref().unwrap_or("not looked at yet");
    let rollout = status.rollout.as_ref().with_context(|| format!("nothing is in flight: {name} is {phase}"))?;
    if phase == "RollingBack" {
        bail!("{} is on its way back already: {}", rollout.release, status.message.as_deref().unwrap_or_default());
    }
    Ok(rollout.release.clone())
}

fn proven(status: &DeliveryStatus) -> String {
    status.live.as_ref().map_or_else(|| "the proven version".to_owned(), |v| v.version.clone())
}

fn promote(name: &str, status: &DeliveryStatus) -> Result<Sound> {
    let release = in_flight(name, status)?;
    let next = status.rollout.as_ref().and_then(|r| r.step.map(|step| (step, r.steps)));
    let says = match (status.phase.as_deref(), next) {
        (Some("Finalizing"), _) => bail!("{release} has all of the traffic and stable is being rolled; there is no step left to end"),
        (Some("Guarding"), _) => format!("ends the guard of {release}: stable is rolled to it next"),
        (_, Some((step, steps))) if step < steps => {
            format!("takes {release} to step {} of {steps} as soon as its pods are ready", step + 1)
        }
        (_, Some(_)) => format!("takes all traffic of {name} to {release} as soon as its pods are ready"),
        (_, None) => format!("takes {release} to its next step as soon as its pods are ready"),
    };
    Ok(Sound { release, step: None, says: format!("{says}; a verdict against it still takes it back") })
}

fn approved(name: &str, status: &DeliveryStatus, step: Option<i32>) -> Result<Sound> {
    let release = in_flight(name, status)?;
    let (awaits, steps) = status.rollout.as_ref().map_or((None, 0), |r| (r.awaits, r.steps));
    let step =
        step.or(awaits).with_context(|| format!("nothing of {release} waits for an approval; to give one ahead, name its --step"))?;
    let what = if step > steps { "take all of the traffic".to_owned() } else { format!("enter step {step} of {steps}") };
    Ok(Sound { says: format!("lets {release} {what}; a verdict against it still takes it back"), release, step: Some(step) })
}

fn abort(name: &str, status: &DeliveryStatus) -> Result<Sound> {
    let release = in_flight(name, status)?;
    if status.rollout.as_ref().is_some_and(|r| r.direction == "Return") {
        bail!("{release} is being brought back because the version after it failed; there is nothing better to go back to");
    }
    let live = proven(status);
    let how = match status.phase.as_deref() {
        Some("Finalizing") => "as soon as enough of its pods are ready",
        _ => "in one write",
    };
    Ok(Sound {
        says: format!("takes traffic of {name} back to {live} {how}; {release} is not started again by itself"),
        release,
        step: None,
    })
}

fn rollback(name: &str, status: &DeliveryStatus) -> Result<Sound> {
    // Who types this in a hurry means "take it off", and need not know whether it has gone live yet.
    if status.rollout.is_some() {
        let Sound { release, .. } = abort(name, status)?;
        let live = proven(status);
        return Ok(Sound {
            says: format!("takes traffic of {name} back to {live} in one write; {release} is quarantined"),
            release,
            step: None,
        });
    }
    let (Some(live), Some(back)) = (&status.live, &status.way_back) else {
        bail!("there is no earlier version of {name} to go back to");
    };
    let how = if back.by == "Rollout" { "its pods start first, then the traffic moves" } else { "in one write" };
    Ok(Sound {
        release: live.release.clone(),
        step: None,
        says: format!("takes {name} from {} back to {}: {how}; {} is quarantined", live.version, back.version, live.release),
    })
}

fn retried(name: &str, status: &DeliveryStatus, release: Option<String>) -> Result<Sound> {
    if let Some(halted) = status.rollout.as_ref().filter(|r| r.halted.is_some() && release.as_ref().is_none_or(|named| *named == r.release))
    {
        let release = halted.release.clone();
        return Ok(Sound { says: format!("forgets what was seen of {release} and asks it anew where it stands"), release, step: None });
    }
    let latest = status.desired.as_ref().map(|d| d.release.clone()).filter(|d| status.quarantine.iter().any(|q| q.release == *d));
    let release = release.or(latest).or_else(|| status.quarantine.last().map(|q| q.release.clone()));
    let release = release.with_context(|| format!("nothing of {name} is in quarantine; name the Release: kubectl get releases"))?;
    if let Some(rollout) = status.rollout.as_ref().filter(|r| r.release == release) {
        bail!("{} is on its way already", rollout.release);
    }
    if status.live.as_ref().is_some_and(|l| l.release == release) {
        bail!("{release} is live");
    }
    let Some(entry) = status.quarantine.iter().find(|q| q.release == release) else {
        bail!("{release} is not in quarantine; to ship that version, make it the desired one (kubectl haldane release, or its template)");
    };
    let says =
        format!("lifts the quarantine of {release} ({}); it is tried again behind a canary if it is still desired", entry.why.message);
    Ok(Sound { release, step: None, says })
}

fn adopt(name: &str, status: &DeliveryStatus) -> Result<Sound> {
    let live = status.live.as_ref().map(|l| l.release.clone());
    let release = live.with_context(|| format!("{name} was never adopted; that happens by itself: kubectl haldane why {name}"))?;
    let says = format!("closes the gate of {name} again: what runs is kept, and every change of its template rides a canary first");
    Ok(Sound { release, step: None, says })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::status::tests::delivery;

    fn with(status: Value) -> Delivery {
        let mut delivery = delivery();
        delivery.status = Some(serde_json::from_value(status).unwrap());
        delivery
    }

    fn refusal(action: Action, delivery: &Delivery) -> String {
        sound(action, delivery, About::default()).unwrap_err().to_string()
    }

    #[test]
    fn an_abort_says_where_traffic_goes_and_names_the_release() {
        let order = sound(Action::Abort, &delivery(), About::default()).unwrap();
        assert_eq!(order.release, "checkout-v2-1a2b3");
        assert_eq!(order.says, "takes traffic of checkout back to v1 in one write; checkout-v2-1a2b3 is not started again by itself");
        assert_eq!(command(&delivery(), Action::Abort, &order, None, "ana").metadata.generate_name.unwrap(), "checkout-abort-");
    }

    #[test]
    fn a_rollback_in_a_hurry_takes_off_what_is_on_its_way() {
        let order = sound(Action::Rollback, &delivery(), About::default()).unwrap();
        assert_eq!(
            order,
            Sound {
                release: "checkout-v2-1a2b3".into(),
                step: None,
                says: "takes traffic of checkout back to v1 in one write; checkout-v2-1a2b3 is quarantined".into()
            }
        );
        let rest = with(
            json!({"phase": "Live", "live": {"release": "b", "version": "v2"}, "wayBack": {"release": "a", "version": "v1", "by": "Rollout"}}),
        );
        let order = sound(Action::Rollback, &rest, About::default()).unwrap();
        assert_eq!(
            (order.release.as_str(), order.says.as_str()),
            ("b", "takes checkout from v2 back to v1: its pods start first, then the traffic moves; b is quarantined")
        );
    }

    #[test]
    fn orders_that_cannot_apply_are_refused_before_anything_is_written() {
        let rest = with(json!({"phase": "Live", "live": {"release": "a", "version": "v1"}}));
        assert_eq!(refusal(Action::Promote, &rest), "nothing is in flight: checkout is Live");
        assert_eq!(refusal(Action::Abort, &rest), "nothing is in flight: checkout is Live");
        assert_eq!(refusal(Action::Rollback, &rest), "there is no earlier version of checkout to go back to");
        assert!(refusal(Action::Retry, &rest).starts_with("nothing of checkout is in quarantine"));
        assert!(refusal(Action::Adopt, &with(json!({"phase": "Adopting"}))).starts_with("checkout was never adopted"));
        assert!(
            sound(Action::Retry, &rest, About::release(Some("z".into()))).unwrap_err().to_string().starts_with("z is not in quarantine")
        );
        let back = with(
            json!({"phase": "RollingBack", "message": "v2 goes back", "rollout": {"release": "b", "from": "a", "direction": "Forward", "steps": 3}}),
        );
        assert_eq!(refusal(Action::Abort, &back), "b is on its way back already: v2 goes back");
    }

    #[test]
    fn a_promotion_says_which_step_comes() {
        let says = |delivery: &Delivery| sound(Action::Promote, delivery, About::default()).unwrap().says;
        assert!(says(&delivery()).starts_with("takes checkout-v2-1a2b3 to step 2 of 3"));
        let guarding = with(json!({"phase": "Guarding", "rollout": {"release": "b", "from": "a", "direction": "Forward", "steps": 3}}));
        assert!(says(&guarding).starts_with("ends the guard of b"));
    }

    #[test]
    fn an_approval_names_the_step_that_waits() {
        let waiting = |awaits: Value| {
            with(
                json!({"phase": "Canary", "rollout": {"release": "b", "from": "a", "direction": "Forward", "step": 2, "steps": 3, "awaits": awaits}}),
            )
        };
        let step = |step| About { step, ..About::default() };
        let order = sound(Action::Approve, &waiting(json!(3)), About::default()).unwrap();
        assert_eq!(order.says, "lets b enter step 3 of 3; a verdict against it still takes it back");
        assert_eq!(command(&delivery(), Action::Approve, &order, None, "ana").spec.step, Some(3));
        assert!(sound(Action::Approve, &waiting(json!(4)), About::default()).unwrap().says.starts_with("lets b take all of the traffic"));
        assert_eq!(
            refusal(Action::Approve, &waiting(Value::Null)),
            "nothing of b waits for an approval; to give one ahead, name its --step"
        );
        assert_eq!(sound(Action::Approve, &waiting(Value::Null), step(Some(3))).unwrap().step, Some(3));
    }

    #[test]
    fn a_retry_takes_what_is_desired_before_what_is_only_old() {
        let entry = |release: &str| json!({"identity": release, "release": release, "outcome": "RolledBack", "reason": "CanaryFailed", "message": "it failed"});
        let two =
            with(json!({"phase": "RolledBack", "desired": {"release": "b", "version": "v2"}, "quarantine": [entry("b"), entry("c")]}));
        let order = sound(Action::Retry, &two, About::default()).unwrap();
        assert_eq!(
            order,
            Sound {
                release: "b".into(),
                step: None,
                says: "lifts the quarantine of b (it failed); it is tried again behind a canary if it is still desired".into()
            }
        );
        assert_eq!(sound(Action::Retry, &two, About::release(Some("c".into()))).unwrap().release, "c");
    }
}
