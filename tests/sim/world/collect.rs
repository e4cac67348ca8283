//! The garbage collector and the end of a namespace.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{
    super::{
        api::{
            kinds::{Key, NAMESPACE},
            managed::Writer,
            write::{Deletion, Propagation},
        },
        json::{self, flag, text},
    },
    Turn, owner,
};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

fn writer() -> Writer {
    Writer { user: "generic-garbage-collector".to_owned(), manager: "kube-controller-manager".to_owned() }
}

/// How an owner stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Solid,
    /// Deleted in the foreground: it waits for its dependents to go.
    Waiting,
    /// Deleted with its dependents left behind.
    Leaving,
}

/// Walks all owner references once.
pub fn sync(turn: &mut Turn<'_>) -> Option<Duration> {
    let owners: BTreeMap<String, Owner> = turn.store.all().map(|(_, o)| (json::uid(o).to_owned(), standing(o))).collect();
    let owned: Vec<(Key, Value)> = turn.store.all().filter(|(_, o)| has_owner(o)).map(|(k, o)| (k.clone(), o.clone())).collect();
    let mut blocked: Vec<String> = Vec::new();
    for (key, object) in owned {
        for reference in json::list(&object, "/metadata/ownerReferences") {
            if owners.get(text(reference, "/uid")) == Some(&Owner::Leaving) {
                turn.edit(&writer(), &key, "", |object| owner::release(object, text(reference, "/uid")));
            }
        }
        let standing: Vec<Option<Owner>> =
            json::list(&object, "/metadata/ownerReferences").iter().map(|r| owners.get(text(r, "/uid")).copied()).collect();
        let kept = standing.iter().any(|o| matches!(o, Some(Owner::Solid | Owner::Leaving)));
        if !kept {
            collect(turn, &key, &object, standing.contains(&Some(Owner::Waiting)));
        }
        if turn.store.get(&key).is_some() {
            let blocking = json::list(&object, "/metadata/ownerReferences").iter().filter(|r| flag(r, "/blockOwnerDeletion"));
            blocked.extend(blocking.map(|r| text(r, "/uid").to_owned()));
        }
    }
    let leaving: Vec<(Key, Value)> = turn
        .store
        .all()
        .filter(|(_, o)| json::is_terminating(o) && standing(o) != Owner::Solid)
        .map(|(k, o)| (k.clone(), o.clone()))
        .collect();
    for (key, object) in leaving {
        match standing(&object) {
            Owner::Leaving => unfinalize(turn, &key, ORPHAN),
            Owner::Waiting if !blocked.iter().any(|uid| uid == json::uid(&object)) => unfinalize(turn, &key, FOREGROUND),
            _ => {}
        }
    }
    None
}

fn has_owner(object: &Value) -> bool {
    !json::list(object, "/metadata/ownerReferences").is_empty()
}

fn standing(object: &Value) -> Owner {
    let has = |name: &str| json::list(object, "/metadata/finalizers").iter().any(|f| f == name);
    match json::is_terminating(object) {
        true if has(ORPHAN) => Owner::Leaving,
        true if has(FOREGROUND) => Owner::Waiting,
        _ => Owner::Solid,
    }
}

/// A dependent of a waiting owner goes in the foreground as well, at once: no finalizer of the owner holds that back.
fn collect(turn: &mut Turn<'_>, key: &Key, object: &Value, waiting: bool) {
    if json::is_terminating(object) {
        return;
    }
    let propagation = if waiting { Propagation::Foreground } else { Propagation::Background };
    let how = Deletion { uid: Some(json::uid(object).to_owned()), ..Deletion::with(propagation) };
    turn.delete(&writer(), key, &how);
}

fn unfinalize(turn: &mut Turn<'_>, key: &Key, name: &str) {
    turn.edit(&writer(), key, "", |object| {
        let mut list = json::list(object, "/metadata/finalizers").to_vec();
        list.retain(|finalizer| finalizer != name);
        json::set(object, "/metadata/finalizers", Value::Array(list));
    });
}

/// Deletes what is in a namespace that goes, then the namespace. Objects with finalizers keep it Terminating.
pub fn namespace(turn: &mut Turn<'_>, key: &Key) -> Option<Duration> {
    let home = turn.store.get(key).filter(|home| json::is_terminating(home))?;
    let name = json::name(home).to_owned();
    let content: Vec<Key> = turn.store.all().filter(|(k, _)| k.namespace == name).map(|(k, _)| k.clone()).collect();
    let by = Writer { user: "namespace-controller".to_owned(), manager: "kube-controller-manager".to_owned() };
    if content.is_empty() {
        let emptied = |home: &mut Value| json::set(home, "/spec/finalizers", Value::Array(Vec::new()));
        turn.edit(&by, &Key::new(&NAMESPACE, "", &name), "", emptied);
        return None;
    }
    for inner in content {
        if turn.store.get(&inner).is_some_and(|object| !json::is_terminating(object)) {
            turn.delete(&by, &inner, &Deletion::default());
        }
    }
    Some(Duration::from_millis(500))
}
