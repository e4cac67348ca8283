//! The `ReplicaSet` controller: as many pods as wanted, no matter whose template.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    super::{
        api::{
            kinds::{Key, POD, REPLICA_SET},
            managed::Writer,
            write::Deletion,
        },
        clock,
        json::{self, count, set, text},
    },
    Turn, owner,
};

fn writer() -> Writer {
    Writer { user: "replicaset-controller".to_owned(), manager: "kube-controller-manager".to_owned() }
}

/// One pass over one `ReplicaSet`; says when a pod will have been ready for long enough.
pub fn sync(turn: &mut Turn<'_>, key: &Key) -> Option<Duration> {
    let replica_set = turn.store.get(key)?.clone();
    let mut pods = claim(turn, &replica_set);
    pods.retain(is_active);
    if !json::is_terminating(&replica_set) {
        let wanted = usize::try_from(count(&replica_set, "/spec/replicas")).unwrap_or(0);
        for _ in pods.len()..wanted {
            let made = turn.store.create(&writer(), &POD, &key.namespace, pod(&replica_set));
            pods.extend(made.ok());
        }
        pods.sort_by_key(worth);
        for gone in pods.split_off(wanted.min(pods.len())) {
            let key = Key::new(&POD, json::namespace(&gone), json::name(&gone));
            let how = Deletion { uid: Some(json::uid(&gone).to_owned()), ..Deletion::default() };
            turn.delete(&writer(), &key, &how);
        }
    }
    tell(turn, key, &replica_set, &pods)
}

fn claim(turn: &mut Turn<'_>, replica_set: &Value) -> Vec<Value> {
    let selector = json::strings(replica_set, "/spec/selector/matchLabels");
    let all: Vec<Value> = turn.store.list(&POD, json::namespace(replica_set)).cloned().collect();
    let mut ours = Vec::new();
    for pod in all {
        let matches = json::selects(&selector, &json::labels(&pod));
        match owner::controller(&pod) {
            Some(uid) if uid == json::uid(replica_set) => ours.push(pod),
            None if matches && is_active(&pod) && !json::is_terminating(replica_set) => {
                let key = Key::new(&POD, json::namespace(&pod), json::name(&pod));
                ours.extend(turn.edit(&writer(), &key, "", |pod| owner::adopt(pod, replica_set)));
            }
            _ => {}
        }
    }
    ours
}

fn is_active(pod: &Value) -> bool {
    !json::is_terminating(pod) && !["Succeeded", "Failed"].contains(&text(pod, "/status/phase"))
}

/// The most worth keeping first: ready, then running, then with a node; of equals the older, by name at last.
fn worth(pod: &Value) -> (bool, bool, bool, String, String) {
    let created = text(pod, "/metadata/creationTimestamp").to_owned();
    let running = text(pod, "/status/phase") == "Running";
    (!json::holds(pod, "Ready"), !running, text(pod, "/spec/nodeName").is_empty(), created, json::name(pod).to_owned())
}

fn pod(replica_set: &Value) -> Value {
    let mut pod = replica_set["spec"]["template"].clone();
    set(&mut pod, "/metadata/generateName", format!("{}-", json::name(replica_set)).into());
    set(&mut pod, "/metadata/ownerReferences", json!([owner::reference(replica_set)]));
    pod
}

fn tell(turn: &mut Turn<'_>, key: &Key, replica_set: &Value, pods: &[Value]) -> Option<Duration> {
    let needed = Duration::from_secs(u64::try_from(count(replica_set, "/spec/minReadySeconds")).unwrap_or(0));
    let waits: Vec<Duration> = pods.iter().filter_map(|pod| until_available(turn, pod, needed)).collect();
    let template = json::strings(replica_set, "/spec/template/metadata/labels");
    let labelled = pods.iter().filter(|pod| json::selects(&template, &json::labels(pod))).count();
    let available = waits.iter().filter(|wait| wait.is_zero()).count();
    let mut status = json!({"replicas": pods.len(), "observedGeneration": count(replica_set, "/metadata/generation")});
    for (field, number) in [("fullyLabeledReplicas", labelled), ("readyReplicas", waits.len()), ("availableReplicas", available)] {
        if number > 0 {
            set(&mut status, &format!("/{field}"), number.into());
        }
    }
    turn.edit(&writer(), key, "status", |object| set(object, "/status", status));
    waits.into_iter().filter(|wait| !wait.is_zero()).min()
}

/// `None` for a pod that is not ready; zero for one that has been ready for `needed`.
fn until_available(turn: &Turn<'_>, pod: &Value, needed: Duration) -> Option<Duration> {
    let ready = json::condition(pod, "Ready").filter(|c| text(c, "/status") == "True")?;
    let since = clock::parse(text(ready, "/lastTransitionTime"))?;
    let been = Duration::try_from(turn.store.now().duration_since(since)).unwrap_or(Duration::ZERO);
    Some(needed.saturating_sub(been))
}

/// The `ReplicaSets` that may have to do with a pod.
pub fn interested(turn: &Turn<'_>, pod: &Value) -> Vec<Key> {
    let of = |set: &Value| Key::new(&REPLICA_SET, json::namespace(set), json::name(set));
    let all = turn.store.list(&REPLICA_SET, json::namespace(pod));
    match owner::controller(pod) {
        Some(uid) => all.filter(|set| json::uid(set) == uid).map(of).collect(),
        None => all.map(of).collect(),
    }
}
