//! From a request to the store and back: every verb except watch.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    super::json::{self, remove, set},
    access::{Access, Rule},
    kinds::{ACCESS_REVIEW, KINDS, Key, Kind},
    refusal::Refusal,
    request::{Call, Verb},
    selector::Selector,
    store::Store,
    write::{Deletion, Propagation},
};

/// Code and body.
pub type Answer = Result<(u16, Value), Refusal>;

/// Answers the call. `stale` makes a read come from that older version.
pub fn serve(store: &mut Store, call: &Call, rule: &Rule, stale: Option<u64>) -> Answer {
    let Some(kind) = call.kind else { return discovery(&call.path) };
    if kind == &ACCESS_REVIEW {
        return Ok(review(call, rule));
    }
    if !rule(&Access::of(call)) {
        let what = format!("{} is forbidden: User \"{}\" cannot {}", kind.resource(), call.user, call.verb.name());
        return Err(Refusal::of(403, format!("{what} resource in the namespace \"{}\"", call.namespace)));
    }
    if !call.parameter("dryRun").is_empty() {
        return Err(Refusal::of(501, "this server does not know dryRun"));
    }
    let key = Key::new(kind, &call.namespace, &call.name);
    match call.subresource.as_str() {
        "" => {}
        "status" if kind.status => {}
        "scale" if kind.scales() => return scale(store, call, &key),
        "eviction" if kind.plural == "pods" => return evict(store, call, &key),
        _ => return Err(Refusal::of(404, "the server could not find the requested resource")),
    }
    answer(store, call, &key, stale)
}

fn answer(store: &mut Store, call: &Call, key: &Key, stale: Option<u64>) -> Answer {
    let by = call.writer();
    let body = || call.body.clone().ok_or_else(|| Refusal::of(400, "the request has no body"));
    let stored = match call.verb {
        Verb::Get => {
            let past = stale.and_then(|version| store.as_of(version).get(key).cloned());
            let found = if stale.is_some() { past.as_deref().cloned() } else { store.get(key).cloned() };
            found.ok_or_else(|| Refusal::not_found(key))?
        }
        Verb::List => return list(store, call, key.kind, stale).map(|body| (200, body)),
        Verb::Watch => return Err(Refusal::of(500, "a watch is not answered here")),
        Verb::Create => {
            let created = store.create(&by, key.kind, &call.namespace, body()?)?;
            return Ok((201, present(created, call)));
        }
        Verb::Update => store.update(&by, key, &call.subresource, body()?)?,
        Verb::Patch => store.patch(&by, key, &call.subresource, &call.content_type, &body()?)?,
        Verb::Delete => {
            let kept = store.delete(&by, key, &deletion(call))?;
            if store.get(key).is_none() {
                return Ok((200, gone(key, &kept)));
            }
            kept
        }
        Verb::DeleteCollection => return delete_all(store, call, key.kind),
    };
    Ok((200, present(stored, call)))
}

fn list(store: &Store, call: &Call, kind: &'static Kind, stale: Option<u64>) -> Result<Value, Refusal> {
    let selector = Selector::parse(call.parameter("labelSelector"), call.parameter("fieldSelector"))?;
    let past: Vec<Arc<Value>> = stale
        .map(|version| store.as_of(version))
        .unwrap_or_default()
        .into_iter()
        .filter(|(key, _)| key.kind == kind && (call.namespace.is_empty() || key.namespace == call.namespace))
        .map(|(_, object)| object)
        .collect();
    let now: Vec<&Value> = match stale {
        Some(_) => past.iter().map(AsRef::as_ref).collect(),
        None => store.list(kind, &call.namespace).collect(),
    };
    let items = now.into_iter().filter(|object| selector.takes(object)).map(|object| {
        let mut item = present(object.clone(), call);
        if !kind.is_custom() && !is_partial(call) {
            // A real list of a built-in kind leaves the type out of its items.
            remove(&mut item, "/apiVersion");
            remove(&mut item, "/kind");
        }
        item
    });
    let items: Vec<Value> = items.collect();
    let version = stale.unwrap_or(store.version()).to_string();
    let (api_version, name) = if is_partial(call) {
        ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned())
    } else {
        (kind.api_version(), format!("{}List", kind.kind))
    };
    Ok(json!({"apiVersion": api_version, "kind": name, "metadata": {"resourceVersion": version}, "items": items}))
}

/// Whether only the metadata are wanted.
pub fn is_partial(call: &Call) -> bool {
    call.accept.contains("as=PartialObjectMetadata")
}

/// The object in the shape that the Accept header asks for.
pub fn present(object: Value, call: &Call) -> Value {
    if !is_partial(call) {
        return object;
    }
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
}

fn deletion(call: &Call) -> Deletion {
    let empty = Value::Null;
    let body = call.body.as_ref().unwrap_or(&empty);
    let some = |pointer: &str| Some(json::text(body, pointer).to_owned()).filter(|t| !t.is_empty());
    let asked = some("/propagationPolicy").unwrap_or_else(|| call.parameter("propagationPolicy").to_owned());
    let propagation = match asked.as_str() {
        "Foreground" => Propagation::Foreground,
        "Orphan" => Propagation::Orphan,
        _ => Propagation::Background,
    };
    let grace = json::int(body, "/gracePeriodSeconds").or_else(|| call.parameter("gracePeriodSeconds").parse().ok());
    Deletion { uid: some("/preconditions/uid"), resource_version: some("/preconditions/resourceVersion"), propagation, grace }
}

fn delete_all(store: &mut Store, call: &Call, kind: &'static Kind) -> Answer {
    let selector = Selector::parse(call.parameter("labelSelector"), call.parameter("fieldSelector"))?;
    let taken = |object: &&Value| selector.takes(object);
    let keys: Vec<Key> = store.list(kind, &call.namespace).filter(taken).map(|o| key_of(kind, o)).collect();
    for key in keys {
        store.delete(&call.writer(), &key, &deletion(call))?;
    }
    Ok((200, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})))
}

fn key_of(kind: &'static Kind, object: &Value) -> Key {
    Key::new(kind, json::namespace(object), json::name(object))
}

fn gone(key: &Key, last: &Value) -> Value {
    let details = json!({"name": key.name, "group": key.kind.group, "kind": key.kind.plural, "uid": json::uid(last)});
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

fn evict(store: &mut Store, call: &Call, key: &Key) -> Answer {
    store.delete(&call.writer(), key, &Deletion::default())?;
    Ok((201, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})))
}

/// `autoscaling/v1` Scale over `spec.replicas`.
fn scale(store: &mut Store, call: &Call, key: &Key) -> Answer {
    let object = store.get(key).cloned().ok_or_else(|| Refusal::not_found(key))?;
    let mut shown = as_scale(&object);
    match call.verb {
        Verb::Get => return Ok((200, shown)),
        Verb::Update => shown = call.body.clone().unwrap_or_default(),
        Verb::Patch => super::patch::apply(&mut shown, &call.content_type, &call.body.clone().unwrap_or_default())?,
        _ => return Err(Refusal::of(405, "the server does not allow this method on the requested resource")),
    }
    let mut wanted = object;
    set(&mut wanted, "/spec/replicas", json::count(&shown, "/spec/replicas").into());
    let version = json::text(&shown, "/metadata/resourceVersion").to_owned();
    set(&mut wanted, "/metadata/resourceVersion", version.into());
    let stored = store.update(&call.writer(), key, "", wanted)?;
    Ok((200, as_scale(&stored)))
}

fn as_scale(object: &Value) -> Value {
    let selector: Vec<String> =
        json::strings(object, "/spec/selector/matchLabels").iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        set(&mut metadata, &format!("/{field}"), object["metadata"][field].clone());
    }
    json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata,
        "spec": {"replicas": json::count(object, "/spec/replicas")},
        "status": {"replicas": json::count(object, "/status/replicas"), "selector": selector.join(",")},
    })
}

fn review(call: &Call, rule: &Rule) -> (u16, Value) {
    let mut body = call.body.clone().unwrap_or_default();
    let allowed = rule(&Access::of_review(&call.user, &body));
    set(&mut body, "/status", json!({"allowed": allowed}));
    (201, body)
}

fn discovery(path: &str) -> Answer {
    let path = path.split('?').next().unwrap_or("").trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let body = match parts.as_slice() {
        ["version"] => json!({"major": "1", "minor": "34", "gitVersion": "v1.34.4", "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "2026-01-01T00:00:00Z", "goVersion": "go1.24", "compiler": "gc", "platform": "linux/amd64"}),
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ["apis"] => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups()}),
        ["api", version] => resources("", version),
        ["apis", group, version] => resources(group, version),
        ["healthz" | "readyz" | "livez"] => json!("ok"),
        _ => return Err(Refusal::of(404, "the server could not find the requested resource")),
    };
    Ok((200, body))
}

fn groups() -> Vec<Value> {
    let mut seen: Vec<(&str, &str)> = KINDS.iter().filter(|k| !k.group.is_empty()).map(|k| (k.group, k.version)).collect();
    seen.sort_unstable();
    seen.dedup();
    let entry = |(group, version): (&str, &str)| {
        let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
        json!({"name": group, "versions": [version], "preferredVersion": version})
    };
    seen.into_iter().map(entry).collect()
}

fn resources(group: &str, version: &str) -> Value {
    let mine = KINDS.iter().filter(|k| k.group == group && k.version == version);
    let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let resources: Vec<Value> =
        mine.map(|k| json!({"name": k.plural, "singularName": "", "namespaced": k.namespaced, "kind": k.kind, "verbs": verbs})).collect();
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
}
