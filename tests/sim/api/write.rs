//! How a write becomes a stored object: preconditions, subresources, generation, finalizers, field managers.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    super::json::{self, is_terminating, remove, set},
    defaults,
    kinds::{Key, Kind, NAMESPACE, POD},
    managed::{self, Writer},
    patch,
    refusal::Refusal,
    store::Store,
};

/// What the owner of the dependents asks to happen to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    #[default]
    Background,
    Foreground,
    Orphan,
}

/// `DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub struct Deletion {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub propagation: Propagation,
    /// Seconds; only pods have a grace.
    pub grace: Option<i64>,
}

impl Deletion {
    /// No grace, as the kubelet's last delete of a pod.
    pub fn now() -> Self {
        Self { grace: Some(0), ..Self::default() }
    }

    /// With that propagation.
    pub fn with(propagation: Propagation) -> Self {
        Self { propagation, ..Self::default() }
    }
}

/// Where the system keeps what no writer of the object may set.
const SYSTEM: [&str; 5] = ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

impl Store {
    /// POST. Needs the namespace to be there and not on its way out.
    pub fn create(&mut self, by: &Writer, kind: &'static Kind, namespace: &str, mut object: Value) -> Result<Value, Refusal> {
        if json::name(&object).is_empty() {
            let prefix = json::text(&object, "/metadata/generateName").to_owned();
            let name = if prefix.is_empty() { prefix } else { format!("{prefix}{}", self.rng.letters(5)) };
            set(&mut object, "/metadata/name", name.into());
        }
        let key = Key::new(kind, namespace, json::name(&object));
        if key.name.is_empty() {
            return Err(Refusal::invalid(&key, "metadata.name: Required value: name or generateName is required"));
        }
        self.check_namespace(&key)?;
        if self.get(&key).is_some() {
            return Err(Refusal::already_exists(&key));
        }
        self.stamp(&key, &mut object);
        let serial = self.uids;
        defaults::fill(&key, &mut object, None, serial);
        defaults::check(&key, &object, None)?;
        managed::record(None, &mut object, by, "", &self.clock.seconds());
        Ok(self.commit(&by.user, &key, object, false).as_ref().clone())
    }

    fn check_namespace(&self, key: &Key) -> Result<(), Refusal> {
        if !key.kind.namespaced {
            return Ok(());
        }
        let home = Key::new(&NAMESPACE, "", &key.namespace);
        let home = self.get(&home).ok_or_else(|| Refusal::not_found(&home))?;
        if !is_terminating(home) {
            return Ok(());
        }
        let why = format!("unable to create new content in namespace {} because it is being terminated", key.namespace);
        Err(Refusal::of(403, format!("{} \"{}\" is forbidden: {why}", key.kind.resource(), key.name)))
    }

    /// Uid, times and type: given by the server, whatever the body says. A created object has no status where it is a subresource.
    fn stamp(&mut self, key: &Key, object: &mut Value) {
        self.uids += 1;
        for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "managedFields"] {
            remove(object, &format!("/metadata/{field}"));
        }
        set(object, "/apiVersion", key.kind.api_version().into());
        set(object, "/kind", key.kind.kind.into());
        set(object, "/metadata/uid", format!("00000000-0000-4000-8000-{:012x}", self.uids).into());
        set(object, "/metadata/creationTimestamp", self.clock.seconds().into());
        if key.kind.namespaced {
            set(object, "/metadata/namespace", key.namespace.clone().into());
        }
        if key.kind.generation {
            set(object, "/metadata/generation", json!(1));
        }
        if key.kind.status {
            remove(object, "/status");
        }
    }

    /// PUT of the object ("" as subresource) or of its status.
    pub fn update(&mut self, by: &Writer, key: &Key, subresource: &str, new: Value) -> Result<Value, Refusal> {
        let old = self.get(key).cloned().ok_or_else(|| Refusal::not_found(key))?;
        if new == old {
            // The usual case of a controller's pass over something that is as it should be: not worth the work below.
            return Ok(old);
        }
        let version = json::text(&new, "/metadata/resourceVersion");
        if version.is_empty() && key.kind.is_custom() {
            let why = "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update";
            return Err(Refusal::invalid(key, why));
        }
        if !version.is_empty() && version != json::text(&old, "/metadata/resourceVersion") {
            return Err(Refusal::conflict(key));
        }
        if !json::uid(&new).is_empty() && json::uid(&new) != json::uid(&old) {
            return Err(Refusal::precondition(key, "UID", json::uid(&new), json::uid(&old)));
        }
        if !json::name(&new).is_empty() && json::name(&new) != key.name {
            return Err(Refusal::of(400, "the name of the object does not match the name on the URL"));
        }
        let merged = self.merge(key, subresource, &old, new);
        defaults::check(key, &merged, Some(&old))?;
        Ok(self.put(by, key, subresource, &old, merged).as_ref().clone())
    }

    /// PATCH, which is an update of what the patch makes of the stored object.
    pub fn patch(&mut self, by: &Writer, key: &Key, subresource: &str, content_type: &str, body: &Value) -> Result<Value, Refusal> {
        let mut object = self.get(key).cloned().ok_or_else(|| Refusal::not_found(key))?;
        patch::apply(&mut object, content_type, body)?;
        self.update(by, key, subresource, object)
    }

    /// Reads, changes and writes the whole object in one go: how this world's own controllers write.
    pub fn edit(&mut self, by: &Writer, key: &Key, subresource: &str, change: impl FnOnce(&mut Value)) -> Result<Value, Refusal> {
        let mut object = self.get(key).cloned().ok_or_else(|| Refusal::not_found(key))?;
        change(&mut object);
        self.update(by, key, subresource, object)
    }

    /// What the write may change, laid over what it may not.
    fn merge(&self, key: &Key, subresource: &str, old: &Value, new: Value) -> Value {
        if subresource == "status" {
            let mut merged = old.clone();
            set(&mut merged, "/status", new.get("status").cloned().unwrap_or(Value::Null));
            set(&mut merged, "/metadata/managedFields", new["metadata"]["managedFields"].clone());
            return merged;
        }
        let mut merged = new;
        for field in SYSTEM {
            let pointer = format!("/metadata/{field}");
            set(&mut merged, &pointer, old.pointer(&pointer).cloned().unwrap_or(Value::Null));
        }
        set(&mut merged, "/metadata/name", key.name.clone().into());
        if key.kind.namespaced {
            set(&mut merged, "/metadata/namespace", key.namespace.clone().into());
        }
        set(&mut merged, "/apiVersion", key.kind.api_version().into());
        set(&mut merged, "/kind", key.kind.kind.into());
        if key.kind.status {
            set(&mut merged, "/status", old.get("status").cloned().unwrap_or(Value::Null));
        }
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            drop_empty(&mut merged, &format!("/metadata/{field}"));
        }
        defaults::fill(key, &mut merged, Some(old), self.uids);
        merged
    }

    fn put(&mut self, by: &Writer, key: &Key, subresource: &str, old: &Value, mut new: Value) -> Arc<Value> {
        set(&mut new, "/metadata/resourceVersion", old["metadata"]["resourceVersion"].clone());
        managed::record(Some(old), &mut new, by, subresource, &self.clock.seconds());
        if &new == old {
            // A write that changes nothing leaves the resourceVersion (seen): such a write is no fence.
            return Arc::new(new);
        }
        if key.kind.generation && spec_changed(key.kind, old, &new) {
            let next = json::count(old, "/metadata/generation") + 1;
            set(&mut new, "/metadata/generation", next.into());
        }
        let gone = is_terminating(&new) && nothing_keeps(key, &new);
        self.commit(&by.user, key, new, gone)
    }

    /// DELETE. An object that something keeps (a finalizer, a grace) is marked and stays; the answer is the object.
    pub fn delete(&mut self, by: &Writer, key: &Key, how: &Deletion) -> Result<Value, Refusal> {
        let mut object = self.get(key).cloned().ok_or_else(|| Refusal::not_found(key))?;
        let asked = [("UID", &how.uid, "/metadata/uid"), ("ResourceVersion", &how.resource_version, "/metadata/resourceVersion")];
        for (field, wanted, pointer) in asked {
            if let Some(wanted) = wanted.as_ref().filter(|w| *w != json::text(&object, pointer)) {
                return Err(Refusal::precondition(key, field, wanted, json::text(&object, pointer)));
            }
        }
        let before = object.clone();
        self.mark_deleted(key, how, &mut object);
        if nothing_keeps(key, &object) {
            return Ok(self.commit(&by.user, key, object, true).as_ref().clone());
        }
        if object == before {
            return Ok(object);
        }
        if key.kind.generation {
            let next = json::count(&before, "/metadata/generation") + 1;
            set(&mut object, "/metadata/generation", next.into());
        }
        Ok(self.commit(&by.user, key, object, false).as_ref().clone())
    }

    fn mark_deleted(&self, key: &Key, how: &Deletion, object: &mut Value) {
        let extra = match how.propagation {
            Propagation::Background => None,
            Propagation::Foreground => Some("foregroundDeletion"),
            Propagation::Orphan => Some("orphan"),
        };
        if let Some(name) = extra.filter(|_| !is_terminating(object)) {
            let mut finalizers = json::list(object, "/metadata/finalizers").to_vec();
            finalizers.push(name.into());
            set(object, "/metadata/finalizers", Value::Array(finalizers));
        }
        let stood = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
        let grace = match (key.kind == &POD, json::text(object, "/spec/nodeName").is_empty()) {
            (true, false) => how.grace.or_else(|| json::int(object, "/spec/terminationGracePeriodSeconds")).unwrap_or(30),
            _ => 0,
        };
        let grace = stood.map_or(grace, |stood| stood.min(grace));
        set(object, "/metadata/deletionGracePeriodSeconds", grace.into());
        json::default(object, "/metadata/deletionTimestamp", self.clock.seconds().into());
        if key.kind == &NAMESPACE {
            set(object, "/status/phase", "Terminating".into());
        }
    }
}

/// The real server decodes into types that do not tell an empty map from none.
fn drop_empty(object: &mut Value, pointer: &str) {
    let empty = |v: &Value| v.as_object().is_some_and(Map::is_empty) || v.as_array().is_some_and(Vec::is_empty);
    if object.pointer(pointer).is_some_and(empty) {
        remove(object, pointer);
    }
}

/// A deleted object without finalizers goes at once, except a pod in its grace and a namespace with content.
fn nothing_keeps(key: &Key, object: &Value) -> bool {
    let in_grace = key.kind == &POD && json::count(object, "/metadata/deletionGracePeriodSeconds") > 0;
    let has_content = key.kind == &NAMESPACE && !json::list(object, "/spec/finalizers").is_empty();
    json::list(object, "/metadata/finalizers").is_empty() && !in_grace && !has_content
}

/// For a custom kind everything but metadata and status counts.
fn spec_changed(kind: &Kind, old: &Value, new: &Value) -> bool {
    if !kind.is_custom() {
        return old["spec"] != new["spec"];
    }
    let rest = |object: &Value| {
        let mut object = object.clone();
        remove(&mut object, "/metadata");
        remove(&mut object, "/status");
        object
    };
    rest(old) != rest(new)
}
