//! Owner references: who made an object, who controls it.

use serde_json::{Value, json};

use super::super::json::{self, flag, text};

/// The reference that a controller puts on what it makes.
pub fn reference(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": json::name(owner), "uid": json::uid(owner),
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// The uid of the controller of an object.
pub fn controller(object: &Value) -> Option<&str> {
    json::list(object, "/metadata/ownerReferences").iter().find(|r| flag(r, "/controller")).map(|r| text(r, "/uid"))
}

/// Takes an orphan.
pub fn adopt(object: &mut Value, owner: &Value) {
    let mut list = json::list(object, "/metadata/ownerReferences").to_vec();
    list.push(reference(owner));
    json::set(object, "/metadata/ownerReferences", Value::Array(list));
}

/// Takes the reference to that owner off.
pub fn release(object: &mut Value, uid: &str) {
    let mut list = json::list(object, "/metadata/ownerReferences").to_vec();
    list.retain(|r| text(r, "/uid") != uid);
    json::set(object, "/metadata/ownerReferences", Value::Array(list));
}
