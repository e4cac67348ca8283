//! Whose fields are whose: `metadata.managedFields` after a write of ours is made to say what it said before.
//!
//! Tried on a real API server (1.34.4), and kept true by `tests/requests.rs`:
//! - A JSON patch of ours takes each field that it changes from the entry of whoever had it, whole `f:selector` included
//!   (a selector is atomic), and lists it under our name. A field that it removes vanishes from every entry.
//! - A patch may replace `metadata.managedFields`. The same patch's own changes are counted after that, so an entry of
//!   ours comes back with them; only a following patch that changes nothing else leaves none.
//! - Such a patch is stored word for word, entries of others included, also for fields that are not there right now.
//!
//! So where an owner applies on the server's side, each write is followed by one that puts back the others' entries as
//! they were before it; elsewhere the last one is, at rest. That is sound: the values
//! are either the owner's own again, or ones that the owner's next apply shall change back (the proven template while
//! theirs waits). With the entry restored, a server-side apply of the owner neither conflicts nor forgets to remove what
//! was taken out of the manifest, which an unowned field would suffer. Where the restore is lost (a crash between the
//! two, a foreign write in between), our entry is dropped later and the field is unowned: nobody's apply fails by that.

use serde_json::{Value, json};

use super::patch::Ops;
use crate::api::FIELD_MANAGER;

fn entries(object: &Value) -> Vec<Value> {
    object.pointer("/metadata/managedFields").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn is_ours(entry: &Value) -> bool {
    entry.get("manager").and_then(Value::as_str) == Some(FIELD_MANAGER)
}

/// The entries of everybody else.
pub(super) fn others(object: &Value) -> Vec<Value> {
    entries(object).into_iter().filter(|entry| !is_ours(entry)).collect()
}

/// Whether an entry of ours is listed.
pub(super) fn listed(object: &Value) -> bool {
    entries(object).iter().any(is_ours)
}

/// An entry of somebody who applies on the server's side.
pub(super) fn applies(entry: &Value) -> bool {
    entry.get("operation").and_then(Value::as_str) == Some("Apply")
}

fn same_owner(a: &Value, b: &Value) -> bool {
    ["manager", "operation", "subresource", "apiVersion"].iter().all(|key| a.get(key) == b.get(key))
}

/// What the list shall say: the entries of others as they were before our write, unless they have written since.
fn restored(before: &[Value], live: &Value) -> Vec<Value> {
    let now = others(live);
    let mut list: Vec<Value> = now
        .iter()
        .map(|entry| {
            // Our taking of a field leaves the time of the entry alone; a write of its owner moves it.
            let was = before.iter().find(|b| same_owner(b, entry) && b.get("time") == entry.get("time"));
            was.unwrap_or(entry).clone()
        })
        .collect();
    list.extend(before.iter().filter(|b| !now.iter().any(|entry| same_owner(b, entry))).cloned());
    // An empty list would say "keep what is there"; one empty entry is how the API clears it.
    if list.is_empty() { vec![json!({})] } else { list }
}

/// Adds the operation that takes us off the list and gives the others what they had.
pub(super) fn give_back(ops: Ops, before: &[Value], live: &Value) -> Ops {
    ops.replace(&["metadata", "managedFields"], Value::Array(restored(before, live)))
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "json! is easier to read without a reference to it")]
mod tests {
    use super::*;

    fn entry(manager: &str, time: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": "Update", "apiVersion": "v1", "time": time, "fieldsV1": fields})
    }

    fn object(list: Value) -> Value {
        json!({"metadata": {"managedFields": list}})
    }

    #[test]
    fn the_owner_gets_back_what_our_write_took() {
        let before = vec![entry("helm", "1", json!({"f:spec": {"f:selector": {}, "f:ports": {}}}))];
        let live = object(json!([entry("helm", "1", json!({"f:spec": {"f:ports": {}}})), entry("haldane", "2", json!({}))]));
        assert_eq!(restored(&before, &live), before);
    }

    #[test]
    fn an_owner_who_lost_everything_is_listed_again() {
        let before = vec![entry("helm", "1", json!({"f:spec": {"f:selector": {}}}))];
        assert_eq!(restored(&before, &object(json!([entry("haldane", "2", json!({}))]))), before);
    }

    #[test]
    fn who_has_written_since_is_believed() {
        let before = vec![entry("helm", "1", json!({"f:spec": {"f:selector": {}}}))];
        let newer = entry("helm", "3", json!({"f:spec": {"f:ports": {}}}));
        let live = object(json!([newer, entry("haldane", "2", json!({}))]));
        assert_eq!(restored(&before, &live), vec![newer]);
    }

    #[test]
    fn nobody_is_written_as_nobody() {
        assert_eq!(restored(&[], &object(json!([entry("haldane", "2", json!({}))]))), vec![json!({})]);
    }
}
