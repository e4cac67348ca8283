//! How many pods each `ReplicaSet` of a Deployment gets: rolling, recreating, and scaling in proportion.

use std::cmp::{Ordering, Reverse};

use serde_json::Value;

use super::{
    super::{
        api::kinds::{Key, POD, REPLICA_SET},
        json::{self, count, set},
    },
    Turn,
    deployment::{Pass, age, writer},
    owner,
};

const DESIRED: &str = "/metadata/annotations/deployment.kubernetes.io~1desired-replicas";
const MAX: &str = "/metadata/annotations/deployment.kubernetes.io~1max-replicas";

/// The numbers of a Deployment's spec, resolved.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub wanted: i64,
    pub surge: i64,
    pub unavailable: i64,
}

impl Sizes {
    /// Surge is rounded up, unavailable down; both 0 would stop the roll, so one may be unavailable then.
    pub fn of(deployment: &Value) -> Self {
        let wanted = count(deployment, "/spec/replicas");
        if json::text(deployment, "/spec/strategy/type") == "Recreate" {
            return Self { wanted, surge: 0, unavailable: 0 };
        }
        let part = |name: &str, up: bool| {
            let value = deployment.pointer(&format!("/spec/strategy/rollingUpdate/{name}"));
            value.map_or(0, |value| resolve(value, wanted, up))
        };
        let (surge, unavailable) = (part("maxSurge", true), part("maxUnavailable", false));
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Self { wanted, surge, unavailable: unavailable.min(wanted) }
    }

    fn at_least(self) -> i64 {
        self.wanted - self.unavailable
    }
}

fn resolve(value: &Value, total: i64, up: bool) -> i64 {
    let percent = value.as_str().and_then(|text| text.strip_suffix('%')).and_then(|text| text.parse::<i64>().ok());
    match percent {
        Some(percent) if up => (percent * total + 99) / 100,
        Some(percent) => percent * total / 100,
        None => value.as_i64().unwrap_or(0),
    }
}

/// What the Deployment wanted when this `ReplicaSet` was last sized.
pub fn desired(set: &Value) -> Option<i64> {
    json::text(set, DESIRED).parse().ok()
}

/// Remembers on the `ReplicaSet` what it was sized for.
pub fn annotate(replica_set: &mut Value, sizes: Sizes) {
    set(replica_set, DESIRED, sizes.wanted.to_string().into());
    set(replica_set, MAX, (sizes.wanted + sizes.surge).to_string().into());
}

fn resize(turn: &mut Turn<'_>, pass: &Pass, replica_set: &Value, replicas: i64) -> bool {
    let key = Key::new(&REPLICA_SET, json::namespace(replica_set), json::name(replica_set));
    let change = |object: &mut Value| {
        set(object, "/spec/replicas", replicas.into());
        annotate(object, pass.sizes());
    };
    turn.edit(&writer(), &key, "", change);
    replicas != size(replica_set)
}

fn size(replica_set: &Value) -> i64 {
    count(replica_set, "/spec/replicas")
}

fn total(pass: &Pass) -> i64 {
    pass.all().map(size).sum()
}

/// What the new `ReplicaSet` may have now, given what it has.
pub fn size_of_new(pass: &Pass, has: i64) -> i64 {
    let sizes = pass.sizes();
    let room = sizes.wanted + sizes.surge - total(pass);
    if room <= 0 { has } else { has + room.min(sizes.wanted - has) }
}

/// One step of a rolling update; whether something was sized.
pub fn roll(turn: &mut Turn<'_>, pass: &Pass) -> bool {
    let Some(new) = pass.new.as_ref() else { return false };
    let wanted = pass.sizes().wanted;
    let target = match size(new).cmp(&wanted) {
        Ordering::Equal => size(new),
        Ordering::Greater => wanted,
        Ordering::Less => size_of_new(pass, size(new)),
    };
    if target != size(new) {
        return resize(turn, pass, new, target);
    }
    shrink_old(turn, pass, new)
}

fn shrink_old(turn: &mut Turn<'_>, pass: &Pass, new: &Value) -> bool {
    if pass.old.iter().map(size).sum::<i64>() == 0 {
        return false;
    }
    let available = |set: &Value| count(set, "/status/availableReplicas");
    let new_unavailable = size(new) - available(new);
    let allowed = total(pass) - pass.sizes().at_least() - new_unavailable;
    if allowed <= 0 {
        return false;
    }
    let mut sizes: Vec<(&Value, i64)> = pass.old.iter().map(|set| (set, size(set))).collect();
    // Those that serve nothing go first, whatever the availability.
    let mut left = allowed;
    for (set, target) in &mut sizes {
        let idle = (size(set) - available(set)).clamp(0, left);
        *target -= idle;
        left -= idle;
    }
    let mut spare = pass.all().map(available).sum::<i64>() - pass.sizes().at_least();
    for (_, target) in &mut sizes {
        let cut = (*target).min(spare.max(0));
        *target -= cut;
        spare -= cut;
    }
    let mut moved = false;
    for (set, target) in sizes {
        if target != size(set) {
            moved |= resize(turn, pass, set, target);
        }
    }
    moved
}

/// The first half of a Recreate: all old pods away. Whether any is still there, its grace included.
pub fn empty_old(turn: &mut Turn<'_>, pass: &Pass) -> bool {
    for set in pass.old.iter().filter(|set| size(set) > 0) {
        resize(turn, pass, set, 0);
    }
    let old: Vec<&str> = pass.old.iter().map(json::uid).collect();
    let is_old = |pod: &Value| owner::controller(pod).is_some_and(|uid| old.contains(&uid));
    turn.store.list(&POD, &pass.key.namespace).any(is_old)
}

/// Follows a changed `spec.replicas` without rolling; whether something was sized.
pub fn scale(turn: &mut Turn<'_>, pass: &Pass) -> bool {
    let sizes = pass.sizes();
    if let Some(only) = active_or_latest(pass) {
        let stale = desired(only) != Some(sizes.wanted);
        return (size(only) != sizes.wanted || stale) && resize(turn, pass, only, sizes.wanted);
    }
    if pass.new.as_ref().is_some_and(|new| is_saturated(pass, new)) {
        let mut moved = false;
        for set in pass.old.iter().filter(|set| size(set) > 0) {
            moved |= resize(turn, pass, set, 0);
        }
        return moved;
    }
    if json::text(&pass.deployment, "/spec/strategy/type") == "Recreate" {
        return false;
    }
    in_proportion(turn, pass)
}

/// Scaled from 0, a paused Deployment takes the set that equals the waiting template, else the newest: not the one that was live.
fn active_or_latest(pass: &Pass) -> Option<&Value> {
    let active: Vec<&Value> = pass.active().collect();
    match active.as_slice() {
        [] => pass.new.as_ref().or_else(|| pass.old.iter().max_by_key(|set| age(set))),
        [only] => Some(only),
        _ => None,
    }
}

fn is_saturated(pass: &Pass, new: &Value) -> bool {
    let wanted = pass.sizes().wanted;
    size(new) == wanted && desired(new) == Some(wanted) && count(new, "/status/availableReplicas") == wanted
}

fn in_proportion(turn: &mut Turn<'_>, pass: &Pass) -> bool {
    let sizes = pass.sizes();
    let mut sets: Vec<&Value> = pass.active().collect();
    let allowed = if sizes.wanted > 0 { sizes.wanted + sizes.surge } else { 0 };
    let to_add = allowed - sets.iter().map(|set| size(set)).sum::<i64>();
    // Up: of equal sizes the newer first. Down: the older first.
    if to_add > 0 {
        sets.sort_by_key(|set| (Reverse(size(set)), Reverse(age(set))));
    } else {
        sets.sort_by_key(|set| (Reverse(size(set)), age(set)));
    }
    let mut added = 0;
    let mut targets = Vec::new();
    for set in &sets {
        let share = proportion(pass, set, to_add, added);
        added += share;
        targets.push(size(set) + share);
    }
    if let Some(first) = targets.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    let mut moved = false;
    for (set, target) in sets.into_iter().zip(targets) {
        moved |= resize(turn, pass, set, target);
    }
    moved
}

fn proportion(pass: &Pass, set: &Value, to_add: i64, added: i64) -> i64 {
    if size(set) == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let sizes = pass.sizes();
    let fraction = if sizes.wanted == 0 {
        -size(set)
    } else {
        let was = json::text(set, MAX).parse().ok().filter(|was| *was > 0);
        let was = was.unwrap_or_else(|| count(&pass.deployment, "/status/replicas").max(1));
        // Rounded half up, as `RoundToInt32` does for positive numbers.
        (2 * size(set) * (sizes.wanted + sizes.surge) + was) / (2 * was) - size(set)
    };
    if to_add > 0 { fraction.min(to_add - added) } else { fraction.max(to_add - added) }
}
