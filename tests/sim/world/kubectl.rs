//! Owners who write whole manifests: client-side apply, replace, Helm.

use serde_json::{Map, Value};

use super::{
    super::{
        api::{
            kinds::{Key, Kind},
            managed::Writer,
            patch::merge_key,
            refusal::Refusal,
        },
        json,
    },
    World,
};

const LAST_APPLIED: &str = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";

fn key_and_kind(manifest: &Value) -> (Key, &'static Kind) {
    let kind = Kind::of_manifest(manifest).unwrap_or_else(|| panic!("the simulated server has no kind for {manifest}"));
    (Key::new(kind, json::namespace(manifest), json::name(manifest)), kind)
}

impl World {
    /// `kubectl apply`: what the last apply named and this one does not is removed; what neither names stays.
    /// Whether something changed.
    pub fn apply(&self, manifest: &Value) -> Result<bool, Refusal> {
        let (key, _) = key_and_kind(manifest);
        let last = self.api.read(|store| store.get(&key).map(|live| json::text(live, LAST_APPLIED).to_owned()));
        let last = last.and_then(|text| serde_json::from_str(&text).ok());
        let mut wanted = manifest.clone();
        json::set(&mut wanted, LAST_APPLIED, manifest.to_string().into());
        self.three_way("kubectl-client-side-apply", last.as_ref(), &wanted)
    }

    /// `helm upgrade`: as an apply, with the last release remembered by Helm.
    pub fn helm_upgrade(&self, manifest: &Value) -> Result<bool, Refusal> {
        let (key, _) = key_and_kind(manifest);
        let last = self.brain().releases.insert(key, manifest.clone());
        self.three_way("helm", last.as_ref(), manifest)
    }

    /// `kubectl replace`: a PUT without resourceVersion; what the manifest does not name is gone.
    pub fn replace(&self, manifest: &Value) -> Result<(), Refusal> {
        self.put("kubectl-replace", manifest)
    }

    /// `helm upgrade --force`: a replace too.
    pub fn helm_force(&self, manifest: &Value) -> Result<(), Refusal> {
        let (key, _) = key_and_kind(manifest);
        self.brain().releases.insert(key, manifest.clone());
        self.put("helm", manifest)
    }

    fn put(&self, manager: &str, manifest: &Value) -> Result<(), Refusal> {
        let (key, _) = key_and_kind(manifest);
        self.api.write(|store| store.update(&Writer::new(manager), &key, "", manifest.clone())).map(|_| ())
    }

    fn three_way(&self, manager: &str, last: Option<&Value>, wanted: &Value) -> Result<bool, Refusal> {
        let (key, kind) = key_and_kind(wanted);
        let by = Writer::new(manager);
        self.api.write(|store| {
            let before = store.version();
            match store.get(&key) {
                None => store.create(&by, kind, &key.namespace, wanted.clone())?,
                Some(_) => store.edit(&by, &key, "", |live| merge(live, last, wanted))?,
            };
            Ok(store.version() != before)
        })
    }
}

/// The three-way merge of kubectl and Helm, on strategic lists too.
fn merge(live: &mut Value, last: Option<&Value>, wanted: &Value) {
    let Value::Object(fields) = wanted else {
        *live = wanted.clone();
        return;
    };
    if !live.is_object() {
        *live = Value::Object(Map::new());
    }
    let Some(map) = live.as_object_mut() else { return };
    for dropped in last.and_then(Value::as_object).into_iter().flat_map(Map::keys).filter(|key| !fields.contains_key(*key)) {
        map.remove(dropped);
    }
    for (field, value) in fields {
        if value.is_null() {
            map.remove(field);
            continue;
        }
        let place = map.entry(field.clone()).or_insert(Value::Null);
        let last = last.and_then(|last| last.get(field));
        match (value.as_array(), merge_key(field, value)) {
            (Some(items), Some(key)) => merge_list(place, last, items, key),
            _ => merge(place, last, value),
        }
    }
}

fn merge_list(place: &mut Value, last: Option<&Value>, items: &[Value], key: &str) {
    if !place.is_array() {
        *place = Value::Array(Vec::new());
    }
    let Some(items_now) = place.as_array_mut() else { return };
    let before = last.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let among = |those: &[Value], one: &Value| those.iter().any(|other| other.get(key) == one.get(key));
    items_now.retain(|have| among(items, have) || !among(before, have));
    for item in items {
        let past = before.iter().find(|old| old.get(key) == item.get(key));
        match items_now.iter_mut().find(|have| have.get(key) == item.get(key)) {
            Some(have) => merge(have, past, item),
            None => items_now.push(item.clone()),
        }
    }
}
