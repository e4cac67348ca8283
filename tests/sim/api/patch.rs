//! The three patches that the server takes.

use serde_json::{Map, Value};

use super::refusal::Refusal;

/// Applies the body to the object, in the way that the content type names.
pub fn apply(object: &mut Value, content_type: &str, body: &Value) -> Result<(), Refusal> {
    match content_type {
        "application/json-patch+json" => json_patch(object, body),
        "application/merge-patch+json" => {
            json_patch::merge(object, body);
            Ok(())
        }
        "application/strategic-merge-patch+json" => {
            strategic(object, body);
            Ok(())
        }
        "application/apply-patch+yaml" => {
            Err(Refusal::of(501, "this server does not know server-side apply: Haldane owns no field of anybody's objects"))
        }
        other => Err(Refusal::of(415, format!("the body of the request was in an unknown format: {other}"))),
    }
}

fn json_patch(object: &mut Value, body: &Value) -> Result<(), Refusal> {
    let patch: json_patch::Patch =
        serde_json::from_value(body.clone()).map_err(|e| Refusal::of(400, format!("error decoding patch: {e}")))?;
    // All or nothing: `json_patch::patch` takes its steps back when a later one fails.
    json_patch::patch(object, &patch).map_err(|e| Refusal::unfit_patch(&e.to_string()))
}

/// Maps are merged, `null` removes, lists of keyed things are merged by their key, other lists are replaced.
pub fn strategic(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(map) = target.as_object_mut() else { return };
    for (field, change) in changes.iter().filter(|(field, _)| !field.starts_with('$')) {
        if change.is_null() {
            map.remove(field);
            continue;
        }
        let place = map.entry(field.clone()).or_insert(Value::Null);
        match (change.as_array(), merge_key(field, change)) {
            (Some(items), Some(key)) => merge_list(place, items, key),
            _ => strategic(place, change),
        }
    }
}

/// The `patchMergeKey` of a list field.
pub fn merge_key(field: &str, list: &Value) -> Option<&'static str> {
    let key = match field {
        "containers" | "initContainers" | "env" | "volumes" | "imagePullSecrets" => "name",
        "ports" if list.get(0).is_some_and(|port| port.get("containerPort").is_some()) => "containerPort",
        "ports" => "port",
        "volumeMounts" => "mountPath",
        "conditions" => "type",
        "ownerReferences" => "uid",
        _ => return None,
    };
    Some(key)
}

fn merge_list(place: &mut Value, items: &[Value], key: &str) {
    if !place.is_array() {
        *place = Value::Array(Vec::new());
    }
    let Some(list) = place.as_array_mut() else { return };
    for item in items {
        let same = list.iter().position(|have| have.get(key) == item.get(key));
        if item.get("$patch").is_some_and(|what| what == "delete") {
            list.retain(|have| have.get(key) != item.get(key));
        } else if let Some(have) = same.and_then(|index| list.get_mut(index)) {
            strategic(have, item);
        } else {
            list.push(item.clone());
        }
    }
}
