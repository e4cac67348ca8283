//! Reading foreign objects as JSON. They are never decoded into types, so that fields newer than ours are seen as they are.

use serde_json::Value;

/// The text there; empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number there; 0 if there is none.
pub(crate) fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// Whether `true` stands there.
pub(crate) fn flag(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

/// The list there; empty if there is none.
pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The name of an object.
pub(crate) fn name(value: &Value) -> &str {
    text(value, "/metadata/name")
}

/// A label of an object.
pub(crate) fn label<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.pointer("/metadata/labels")?.get(key)?.as_str()
}

/// An annotation of an object.
pub(crate) fn annotation<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// A moment, as Kubernetes writes it.
pub(crate) fn moment(value: &Value, pointer: &str) -> Option<jiff::Timestamp> {
    text(value, pointer).parse().ok()
}

/// Every key of `wanted` stands in `labels` with the same value. An empty selector selects nothing, as with Services.
pub(crate) fn covers(wanted: &Value, labels: &Value) -> bool {
    let Some(wanted) = wanted.as_object().filter(|w| !w.is_empty()) else { return false };
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether a `LabelSelector` selects these labels. An empty one selects everything, an absent one nothing.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    let Some(selector) = selector.as_object() else { return false };
    let exact = selector.get("matchLabels").and_then(Value::as_object);
    let exact = exact.is_none_or(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)));
    let set = selector.get("matchExpressions").and_then(Value::as_array);
    exact && set.is_none_or(|all| all.iter().all(|e| expression(e, labels)))
}

fn expression(expression: &Value, labels: &Value) -> bool {
    let has = labels.get(text(expression, "/key"));
    let among = has.is_some_and(|value| list(expression, "/values").contains(value));
    match text(expression, "/operator") {
        "In" => among,
        "NotIn" => !among,
        "Exists" => has.is_some(),
        "DoesNotExist" => has.is_none(),
        _ => false,
    }
}

/// The same selector in the notation of a query.
pub(crate) fn query(selector: &Value) -> String {
    let exact = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    let exact = exact.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let set = list(selector, "/matchExpressions").iter().map(|e| {
        let key = text(e, "/key");
        let values: Vec<&str> = list(e, "/values").iter().filter_map(Value::as_str).collect();
        match text(e, "/operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        }
    });
    exact.chain(set).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_select_as_in_kubernetes() {
        let labels = json!({"app": "shop", "tier": "web"});
        assert!(covers(&json!({"app": "shop"}), &labels));
        assert!(!covers(&json!({}), &labels), "a Service without a selector selects nothing");
        assert!(!covers(&json!({"app": "shop", "x": "y"}), &labels));
        assert!(selects(&json!({}), &labels), "an empty LabelSelector selects everything");
        assert!(!selects(&Value::Null, &labels));
        let set = json!({"matchLabels": {"app": "shop"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["web"]}, {"key": "x", "operator": "DoesNotExist"}]});
        assert!(selects(&set, &labels));
        assert_eq!(query(&set), "app=shop,tier in (web),!x");
        assert!(!selects(&json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["web"]}]}), &labels));
    }
}
