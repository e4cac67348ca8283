//! `metadata.managedFields` for updates: who wrote which field last.
//!
//! Exact for maps, for lists of named things (containers, env, volumes) and for the atomic selector of a Service; other lists
//! are one field each. Applies are not modelled: the server refuses them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::super::json as place;

/// Who writes, as the request says.
#[derive(Clone, Debug)]
pub struct Writer {
    /// The authenticated user.
    pub user: String,
    /// `fieldManager`, or else the user agent; here the user.
    pub manager: String,
}

impl Writer {
    /// A user who names no field manager.
    pub fn new(user: &str) -> Self {
        Self { user: user.to_owned(), manager: user.to_owned() }
    }
}

type Path = Vec<String>;
type Paths = BTreeSet<Path>;

/// What the server itself keeps is owned by nobody.
const UNOWNED: [&str; 9] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
];

/// Puts the entries into `new`: what changed against `old` belongs to the writer now, and to nobody else.
pub fn record(old: Option<&Value>, new: &mut Value, writer: &Writer, subresource: &str, time: &str) {
    let before = old.map(leaves).unwrap_or_default();
    let after = leaves(new);
    let changed: Paths = after.iter().filter(|(path, v)| before.get(*path) != Some(v)).map(|(path, _)| path.clone()).collect();
    let removed: Paths = before.into_keys().filter(|path| !after.contains_key(path)).collect();

    let mut entries = base(old, new);
    let identity = json!({"manager": writer.manager, "operation": "Update", "apiVersion": new["apiVersion"]});
    let ours = |entry: &Value| {
        ["manager", "operation", "apiVersion"].iter().all(|field| entry[*field] == identity[*field])
            && place::text(entry, "/subresource") == subresource
    };
    if !changed.is_empty() && !entries.iter().any(ours) {
        let mut entry = identity.clone();
        if !subresource.is_empty() {
            place::set(&mut entry, "/subresource", subresource.into());
        }
        entries.push(entry);
    }
    for entry in &mut entries {
        let is_ours = ours(entry);
        let had = parse(&entry["fieldsV1"]);
        let mut has: Paths = had.difference(&removed).filter(|path| is_ours || !changed.contains(*path)).cloned().collect();
        if is_ours {
            has.extend(changed.iter().cloned());
        }
        // Whoever writes another value into a field of its own moves the time of its entry, too.
        if has != had || (is_ours && !changed.is_empty()) || entry.get("time").is_none() {
            place::set(entry, "/time", time.into());
            place::set(entry, "/fieldsType", "FieldsV1".into());
            place::set(entry, "/fieldsV1", render(&has));
        }
    }
    entries.retain(|entry| entry["fieldsV1"].as_object().is_some_and(|fields| !fields.is_empty()));
    place::set(new, "/metadata/managedFields", Value::Array(entries));
}

/// The entries to start from: the request's own list when it has one, so that a patch may drop an entry. A request without
/// any keeps the stored list (a client that does not know the field must not delete it), and `[{}]` empties it.
fn base(old: Option<&Value>, new: &Value) -> Vec<Value> {
    let asked = place::list(new, "/metadata/managedFields");
    let stored = old.map_or(&[][..], |object| place::list(object, "/metadata/managedFields"));
    let list = if asked.is_empty() { stored } else { asked };
    list.iter().filter(|entry| entry.as_object().is_some_and(|e| !e.is_empty())).cloned().collect()
}

fn leaves(object: &Value) -> BTreeMap<Path, Value> {
    let mut found = BTreeMap::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                for (field, inner) in value.as_object().into_iter().flatten() {
                    if !UNOWNED.contains(&field.as_str()) {
                        walk(inner, &mut vec![f("metadata"), f(field)], &mut found);
                    }
                }
            }
            _ => walk(value, &mut vec![f(key)], &mut found),
        }
    }
    found
}

fn walk(value: &Value, path: &mut Path, found: &mut BTreeMap<Path, Value>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(map) if !is_atomic(path) => map.iter().map(|(key, v)| (f(key), v)).collect(),
        Value::Array(items) if items.iter().all(|item| item.get("name").is_some()) => {
            items.iter().map(|item| (format!("k:{}", json!({"name": item["name"]})), item)).collect()
        }
        _ => Vec::new(),
    };
    if inner.is_empty() {
        found.insert(path.clone(), value.clone());
        return;
    }
    for (segment, v) in inner {
        path.push(segment);
        walk(v, path, found);
        path.pop();
    }
}

/// The selectors of Service, Deployment and `ReplicaSet` are one field each: whoever writes a key owns them all.
fn is_atomic(path: &Path) -> bool {
    path.len() == 2 && path.first().is_some_and(|p| p == "f:spec") && path.last().is_some_and(|p| p == "f:selector")
}

fn f(name: &str) -> String {
    format!("f:{name}")
}

fn render(paths: &Paths) -> Value {
    let mut root = Map::new();
    for path in paths {
        let mut place = &mut root;
        for segment in path {
            let next = place.entry(segment.clone()).or_insert_with(|| json!({}));
            let Some(map) = next.as_object_mut() else { break };
            place = map;
        }
    }
    Value::Object(root)
}

fn parse(fields: &Value) -> Paths {
    let mut paths = Paths::new();
    collect(fields, &mut Path::new(), &mut paths);
    paths.remove(&Path::new());
    paths
}

fn collect(fields: &Value, path: &mut Path, paths: &mut Paths) {
    let inner = fields.as_object().filter(|map| !map.is_empty());
    let Some(inner) = inner else {
        paths.insert(path.clone());
        return;
    };
    for (segment, value) in inner {
        path.push(segment.clone());
        collect(value, path, paths);
        path.pop();
    }
}
