//! Reading and writing places in a JSON object, by pointer (RFC 6901).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Labels, selectors, annotations.
pub type Labels = BTreeMap<String, String>;

/// The text at `pointer`, or "".
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The number at `pointer`.
pub fn int(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

/// The number at `pointer`, or 0.
pub fn count(value: &Value, pointer: &str) -> i64 {
    int(value, pointer).unwrap_or(0)
}

/// Whether `pointer` holds `true`.
pub fn flag(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// The list at `pointer`, or nothing.
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The map of strings at `pointer`.
pub fn strings(value: &Value, pointer: &str) -> Labels {
    let map = value.pointer(pointer).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(key, v)| Some((key.clone(), v.as_str()?.to_owned()))).collect()
}

/// Labels of the object itself.
pub fn labels(value: &Value) -> Labels {
    strings(value, "/metadata/labels")
}

/// Name of the object.
pub fn name(value: &Value) -> &str {
    text(value, "/metadata/name")
}

/// Namespace of the object, or "".
pub fn namespace(value: &Value) -> &str {
    text(value, "/metadata/namespace")
}

/// Uid of the object.
pub fn uid(value: &Value) -> &str {
    text(value, "/metadata/uid")
}

/// Whether the object is on its way out.
pub fn is_terminating(value: &Value) -> bool {
    value.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null())
}

/// Whether `labels` hold every pair of `selector`. An empty selector selects nothing here, as for a Service.
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Sets the place, making the maps on the way. A `null` takes the place away.
pub fn set(value: &mut Value, pointer: &str, new: Value) {
    let mut place = value;
    let mut parts = pointer.split('/').skip(1).map(unescape).peekable();
    while let Some(part) = parts.next() {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Some(map) = place.as_object_mut() else { return };
        if parts.peek().is_none() {
            if new.is_null() {
                map.remove(&part);
            } else {
                map.insert(part, new);
            }
            return;
        }
        if new.is_null() && !map.contains_key(&part) {
            return;
        }
        place = map.entry(part).or_insert_with(|| Value::Object(Map::new()));
    }
}

/// Takes the place away, if it is there.
pub fn remove(value: &mut Value, pointer: &str) {
    set(value, pointer, Value::Null);
}

/// Sets the place only where nothing is.
pub fn default(value: &mut Value, pointer: &str, new: Value) {
    if value.pointer(pointer).is_none_or(Value::is_null) {
        set(value, pointer, new);
    }
}

/// One segment of a pointer, so that `app.kubernetes.io/name` can be one.
pub fn escape(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

fn unescape(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

/// The condition of that type.
pub fn condition<'a>(value: &'a Value, kind: &str) -> Option<&'a Value> {
    list(value, "/status/conditions").iter().find(|c| text(c, "/type") == kind)
}

/// Whether the condition stands and is "True".
pub fn holds(value: &Value, kind: &str) -> bool {
    condition(value, kind).is_some_and(|c| text(c, "/status") == "True")
}
