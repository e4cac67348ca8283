//! What a Deployment says of itself: status, Available, Progressing.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    super::{
        clock,
        json::{self, count, flag, set, text},
    },
    Turn,
    deployment::{Pass, writer},
};

/// Counts and conditions, without judging the progress.
pub fn sync_status(turn: &mut Turn<'_>, pass: &Pass) {
    let status = measured(turn, pass);
    store(turn, pass, status);
}

/// Counts, conditions, and whether the roll is done, moving or overdue. Says when to look again.
pub fn sync_rollout(turn: &mut Turn<'_>, pass: &Pass) -> Option<Duration> {
    let mut status = measured(turn, pass);
    let stands = json::condition(&pass.deployment, "Progressing").cloned().unwrap_or_default();
    let settled = count(&status, "/replicas") == count(&status, "/updatedReplicas") && text(&stands, "/reason") == "NewReplicaSetAvailable";
    let mut look_again = None;
    if !settled {
        if complete(&pass.deployment, &status) {
            put(turn, &mut status, "Progressing", "True", "NewReplicaSetAvailable", true);
        } else if progressed(&pass.deployment, &status) {
            put(turn, &mut status, "Progressing", "True", "ReplicaSetUpdated", true);
        } else {
            let left = time_left(turn, pass, &stands);
            if left == Some(Duration::ZERO) {
                put(turn, &mut status, "Progressing", "False", "ProgressDeadlineExceeded", false);
            }
            look_again = left.filter(|left| !left.is_zero());
        }
        look_again = look_again.or_else(|| (!complete(&pass.deployment, &status)).then(|| deadline(pass)));
    }
    store(turn, pass, status);
    look_again
}

fn deadline(pass: &Pass) -> Duration {
    Duration::from_secs(u64::try_from(count(&pass.deployment, "/spec/progressDeadlineSeconds")).unwrap_or(600) + 1)
}

/// Until the roll is overdue; `None` when it cannot become so, or is.
fn time_left(turn: &Turn<'_>, pass: &Pass, stands: &Value) -> Option<Duration> {
    if ["", "NewReplicaSetAvailable", "ProgressDeadlineExceeded"].contains(&text(stands, "/reason")) {
        return None;
    }
    let since = clock::parse(text(stands, "/lastUpdateTime"))?;
    let waited = turn.store.now().duration_since(since);
    Some(deadline(pass).saturating_sub(Duration::try_from(waited).unwrap_or(Duration::ZERO)))
}

/// Whether every wanted pod is of the newest template, available, and alone.
pub fn is_complete(pass: &Pass) -> bool {
    complete(&pass.deployment, &counts(pass))
}

fn complete(deployment: &Value, status: &Value) -> bool {
    let wanted = count(deployment, "/spec/replicas");
    ["/updatedReplicas", "/replicas", "/availableReplicas"].iter().all(|field| count(status, field) == wanted)
        && count(status, "/observedGeneration") >= count(deployment, "/metadata/generation")
}

fn progressed(deployment: &Value, status: &Value) -> bool {
    let was = &deployment["status"];
    let old = |status: &Value| count(status, "/replicas") - count(status, "/updatedReplicas");
    ["/updatedReplicas", "/readyReplicas", "/availableReplicas"].iter().any(|field| count(status, field) > count(was, field))
        || old(status) < old(was)
}

fn counts(pass: &Pass) -> Value {
    let sum = |field: &str| pass.all().map(|set| count(set, field)).sum::<i64>();
    let available = sum("/status/availableReplicas");
    json!({
        "observedGeneration": count(&pass.deployment, "/metadata/generation"),
        "replicas": sum("/status/replicas"),
        "updatedReplicas": pass.new.as_ref().map_or(0, |set| count(set, "/status/replicas")),
        "readyReplicas": sum("/status/readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": (sum("/spec/replicas") - available).max(0),
    })
}

fn measured(turn: &Turn<'_>, pass: &Pass) -> Value {
    let mut status = counts(pass);
    for kept in ["conditions", "collisionCount"] {
        set(&mut status, &format!("/{kept}"), pass.deployment["status"][kept].clone());
    }
    let sizes = pass.sizes();
    let enough = count(&status, "/availableReplicas") >= sizes.wanted - sizes.unavailable;
    let (state, reason) = if enough { ("True", "MinimumReplicasAvailable") } else { ("False", "MinimumReplicasUnavailable") };
    put(turn, &mut status, "Available", state, reason, false);
    // The real type leaves zeros out.
    for field in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"] {
        if count(&status, &format!("/{field}")) == 0 {
            json::remove(&mut status, &format!("/{field}"));
        }
    }
    status
}

/// The pause and its end are told in Progressing, so the deadline does not run while paused.
pub fn note_pause(turn: &mut Turn<'_>, pass: &mut Pass) {
    let reason = json::condition(&pass.deployment, "Progressing").map_or("", |c| text(c, "/reason")).to_owned();
    let told = reason == "DeploymentPaused";
    if reason == "ProgressDeadlineExceeded" || flag(&pass.deployment, "/spec/paused") == told {
        return;
    }
    let mut status = pass.deployment["status"].clone();
    let reason = if told { "DeploymentResumed" } else { "DeploymentPaused" };
    put(turn, &mut status, "Progressing", "Unknown", reason, false);
    store(turn, pass, status);
    if let Some(stored) = turn.store.get(&pass.key) {
        pass.deployment = stored.clone();
    }
}

/// A `ReplicaSet` was made for the template: the deadline runs anew from here.
pub fn note_new(turn: &mut Turn<'_>, pass: &mut Pass) {
    let mut status = pass.deployment["status"].clone();
    put(turn, &mut status, "Progressing", "True", "NewReplicaSetCreated", true);
    store(turn, pass, status);
    if let Some(stored) = turn.store.get(&pass.key) {
        pass.deployment = stored.clone();
    }
}

/// Sets one condition. Unless `touch`, one that says the same already stays as it is.
fn put(turn: &Turn<'_>, status: &mut Value, kind: &str, state: &str, reason: &str, touch: bool) {
    let now = clock::whole_seconds(turn.store.now());
    let mut list = status["conditions"].as_array().cloned().unwrap_or_default();
    let stands = list.iter().position(|c| text(c, "/type") == kind);
    let old = stands.map(|index| list.remove(index));
    let same_state = old.as_ref().is_some_and(|c| text(c, "/status") == state);
    let same = same_state && old.as_ref().is_some_and(|c| text(c, "/reason") == reason);
    let since = old.as_ref().filter(|_| same_state).map_or(now.as_str(), |c| text(c, "/lastTransitionTime"));
    let made = json!({
        "type": kind, "status": state, "reason": reason, "message": reason,
        "lastTransitionTime": since, "lastUpdateTime": now,
    });
    let condition = match old.filter(|_| same && !touch) {
        Some(old) => old,
        None => made,
    };
    list.insert(stands.unwrap_or(list.len()), condition);
    set(status, "/conditions", Value::Array(list));
}

fn store(turn: &mut Turn<'_>, pass: &Pass, status: Value) {
    turn.edit(&writer(), &pass.key, "status", |deployment| set(deployment, "/status", status));
}
