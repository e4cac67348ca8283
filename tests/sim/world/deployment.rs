//! The Deployment controller: what `kube-controller-manager` 1.34 does, in its order, so that the gate can be believed.

use std::{cmp::Reverse, time::Duration};

use serde_json::{Value, json};

use super::{
    super::{
        api::{
            kinds::{DEPLOYMENT, Key, REPLICA_SET},
            managed::Writer,
            write::Deletion,
        },
        json::{self, count, flag, set},
        rng,
    },
    Turn, owner, progress,
    scaling::{self, Sizes},
};

pub const REVISION: &str = "/metadata/annotations/deployment.kubernetes.io~1revision";
pub const HASH: &str = "pod-template-hash";

/// All that one pass looks at. `new` is the `ReplicaSet` that equals the template; the others are old.
pub struct Pass {
    pub key: Key,
    pub deployment: Value,
    pub new: Option<Value>,
    pub old: Vec<Value>,
}

impl Pass {
    /// Old ones first, as the real lists are built.
    pub fn all(&self) -> impl Iterator<Item = &Value> {
        self.old.iter().chain(self.new.iter())
    }

    pub fn active(&self) -> impl Iterator<Item = &Value> {
        self.all().filter(|set| count(set, "/spec/replicas") > 0)
    }

    pub fn sizes(&self) -> Sizes {
        Sizes::of(&self.deployment)
    }
}

/// The name that writes of this controller carry.
pub fn writer() -> Writer {
    Writer { user: "deployment-controller".to_owned(), manager: "kube-controller-manager".to_owned() }
}

/// One pass over one Deployment.
pub fn sync(turn: &mut Turn<'_>, key: &Key) -> Option<Duration> {
    let deployment = turn.store.get(key)?.clone();
    let sets = claim(turn, &deployment);
    let (new, old) = split(&deployment, sets);
    let mut pass = Pass { key: key.clone(), deployment, new, old };
    if json::is_terminating(&pass.deployment) {
        progress::sync_status(turn, &pass);
        return None;
    }
    progress::note_pause(turn, &mut pass);
    let paused = flag(&pass.deployment, "/spec/paused");
    if paused || is_scaling(&pass) {
        // No ReplicaSet is made here: a paused Deployment without one stays without.
        sync_revision(turn, &mut pass);
        let scaled = scaling::scale(turn, &pass);
        if paused && !scaled {
            clean_up(turn, &pass);
        }
        progress::sync_status(turn, &pass);
        return None;
    }
    let recreates = json::text(&pass.deployment, "/spec/strategy/type") == "Recreate";
    let emptying = recreates && scaling::empty_old(turn, &pass);
    if !emptying {
        find_or_make_new(turn, &mut pass);
    }
    sync_revision(turn, &mut pass);
    let moved = emptying || scaling::roll(turn, &pass);
    if !moved && progress::is_complete(&pass) {
        clean_up(turn, &pass);
    }
    progress::sync_rollout(turn, &pass)
}

/// Ours by owner reference; orphans that match are adopted, what no longer matches is released.
fn claim(turn: &mut Turn<'_>, deployment: &Value) -> Vec<Value> {
    let selector = json::strings(deployment, "/spec/selector/matchLabels");
    let sets: Vec<Value> = turn.store.list(&REPLICA_SET, json::namespace(deployment)).cloned().collect();
    let mut ours = Vec::new();
    for set in sets {
        let matches = json::selects(&selector, &json::labels(&set));
        let key = Key::new(&REPLICA_SET, json::namespace(&set), json::name(&set));
        match owner::controller(&set) {
            Some(uid) if uid == json::uid(deployment) && matches => ours.push(set),
            Some(uid) if uid == json::uid(deployment) => {
                let released = |object: &mut Value| owner::release(object, json::uid(deployment));
                turn.edit(&writer(), &key, "", released);
            }
            None if matches && !json::is_terminating(&set) && !json::is_terminating(deployment) => {
                ours.extend(turn.edit(&writer(), &key, "", |object| owner::adopt(object, deployment)));
            }
            _ => {}
        }
    }
    ours
}

/// Oldest first; the first that equals the template is the new one.
fn split(deployment: &Value, mut sets: Vec<Value>) -> (Option<Value>, Vec<Value>) {
    sets.sort_by_key(age);
    let wanted = plain(&deployment["spec"]["template"]);
    let new = sets.iter().position(|set| plain(&set["spec"]["template"]) == wanted).map(|index| sets.remove(index));
    (new, sets)
}

/// Sorts oldest first; of one second, by name.
pub fn age(set: &Value) -> (String, String) {
    (json::text(set, "/metadata/creationTimestamp").to_owned(), json::name(set).to_owned())
}

fn plain(template: &Value) -> Value {
    let mut template = template.clone();
    json::remove(&mut template, &format!("/metadata/labels/{HASH}"));
    template
}

/// Made from the template and the count of collisions only, so the same template gives the same hash after a recreate.
pub fn template_hash(deployment: &Value) -> String {
    let collisions = count(deployment, "/status/collisionCount");
    let bytes = format!("{}{collisions}", deployment["spec"]["template"]);
    rng::safe_encode(rng::fnv32(bytes.as_bytes()))
}

fn is_scaling(pass: &Pass) -> bool {
    let wanted = count(&pass.deployment, "/spec/replicas");
    pass.active().any(|set| scaling::desired(set).is_some_and(|desired| desired != wanted))
}

fn revision(set: &Value) -> i64 {
    json::text(set, REVISION).parse().unwrap_or(0)
}

/// The `ReplicaSet` that equals the template gets the highest revision, also when it is an old one that came back.
fn sync_revision(turn: &mut Turn<'_>, pass: &mut Pass) {
    let next = pass.old.iter().map(revision).max().unwrap_or(0) + 1;
    let Some(new) = pass.new.as_ref() else { return };
    let mut number = revision(new);
    if number < next {
        number = next;
        let key = Key::new(&REPLICA_SET, json::namespace(new), json::name(new));
        let set_it = |set: &mut Value| json::set(set, REVISION, number.to_string().into());
        pass.new = turn.edit(&writer(), &key, "", set_it).or(pass.new.take());
    }
    if json::text(&pass.deployment, REVISION) != number.to_string() {
        let set_it = |deployment: &mut Value| json::set(deployment, REVISION, number.to_string().into());
        if let Some(stored) = turn.edit(&writer(), &pass.key, "", set_it) {
            pass.deployment = stored;
        }
    }
}

fn find_or_make_new(turn: &mut Turn<'_>, pass: &mut Pass) {
    if pass.new.is_some() {
        return;
    }
    let hash = template_hash(&pass.deployment);
    let set = replica_set(pass, &hash);
    let namespace = pass.key.namespace.clone();
    match turn.store.create(&writer(), &REPLICA_SET, &namespace, set) {
        Ok(made) => {
            pass.new = Some(made);
            progress::note_new(turn, pass);
        }
        Err(refusal) if refusal.reason == "AlreadyExists" => {
            // Somebody else's ReplicaSet has that name: another hash is tried in the next pass.
            let next = count(&pass.deployment, "/status/collisionCount") + 1;
            turn.edit(&writer(), &pass.key, "status", |d| set_value(d, "/status/collisionCount", next));
        }
        // The namespace is going: nothing to be done.
        Err(_) => {}
    }
}

fn set_value(object: &mut Value, pointer: &str, number: i64) {
    set(object, pointer, number.into());
}

fn replica_set(pass: &Pass, hash: &str) -> Value {
    let deployment = &pass.deployment;
    let mut template = deployment["spec"]["template"].clone();
    set(&mut template, &format!("/metadata/labels/{HASH}"), hash.into());
    let mut selector = deployment["spec"]["selector"].clone();
    set(&mut selector, &format!("/matchLabels/{HASH}"), hash.into());
    let sizes = pass.sizes();
    let replicas = scaling::size_of_new(pass, 0);
    let mut made = json!({
        "metadata": {
            "name": format!("{}-{hash}", pass.key.name),
            "labels": template["metadata"]["labels"],
            "annotations": {"deployment.kubernetes.io/revision": revision_of_next(pass)},
            "ownerReferences": [owner::reference(deployment)],
        },
        "spec": {
            "replicas": replicas, "selector": selector, "template": template,
            "minReadySeconds": count(deployment, "/spec/minReadySeconds"),
        },
    });
    scaling::annotate(&mut made, sizes);
    made
}

fn revision_of_next(pass: &Pass) -> String {
    (pass.old.iter().map(revision).max().unwrap_or(0) + 1).to_string()
}

/// Old `ReplicaSets` without pods, beyond `revisionHistoryLimit`, oldest first.
fn clean_up(turn: &mut Turn<'_>, pass: &Pass) {
    let limit = usize::try_from(count(&pass.deployment, "/spec/revisionHistoryLimit")).unwrap_or(0);
    let mut alive: Vec<&Value> = pass.old.iter().filter(|set| !json::is_terminating(set)).collect();
    alive.sort_by_key(|set| Reverse((revision(set), age(set))));
    for set in alive.into_iter().skip(limit) {
        let empty = count(set, "/spec/replicas") == 0 && count(set, "/status/replicas") == 0;
        if empty && count(set, "/metadata/generation") <= count(set, "/status/observedGeneration") {
            let key = Key::new(&REPLICA_SET, json::namespace(set), json::name(set));
            turn.delete(&writer(), &key, &Deletion::default());
        }
    }
}

/// Every Deployment of the namespace that may have to do with a `ReplicaSet`.
pub fn interested(turn: &Turn<'_>, set: &Value) -> Vec<Key> {
    let of = |d: &Value| Key::new(&DEPLOYMENT, json::namespace(d), json::name(d));
    let all = turn.store.list(&DEPLOYMENT, json::namespace(set));
    match owner::controller(set) {
        Some(uid) => all.filter(|d| json::uid(d) == uid).map(of).collect(),
        None => all.map(of).collect(),
    }
}
