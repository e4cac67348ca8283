//! Which Deliveries an object concerns: by the name of a workload or of a route, and by namespace.
//!
//! Kept from the events of the watch on Deliveries. Deliberately absent: the Deliveries themselves; a pass reads its own
//! from the API server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use kube::{ResourceExt as _, runtime::watcher::Event};

use super::{Guarded, Key};
use crate::api::delivery::RouteKind;

/// The workloads and routes that each Delivery names, and the way back from them.
#[derive(Debug, Default)]
pub struct Index {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    current: Table,
    /// What a list has shown so far; it takes the place of the current one when it is complete.
    listing: Option<Table>,
}

/// Namespace → Delivery → workloads, and routes as `HTTPRoute/shop`, which is no name of a workload.
type Table = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

impl Index {
    /// Takes in an event of the watch. Returns the Deliveries that are gone by it.
    pub fn apply(&self, event: &Event<Guarded>) -> Vec<Key> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => tables.listing = Some(Table::new()),
            Event::InitApply(object) => {
                insert(tables.listing.get_or_insert_default(), object);
            }
            Event::InitDone => {
                let Some(listed) = tables.listing.take() else { return Vec::new() };
                let before = std::mem::replace(&mut tables.current, listed);
                return keys(&before).into_iter().filter(|key| !contains(&tables.current, key)).collect();
            }
            Event::Apply(object) => insert(&mut tables.current, object),
            Event::Delete(object) => {
                let key = Key::of(object);
                if let Some(names) = tables.current.get_mut(&key.namespace) {
                    names.remove(&key.name);
                }
                return vec![key];
            }
        }
        Vec::new()
    }

    /// The Deliveries that name this workload.
    #[must_use]
    pub fn by_workload(&self, namespace: &str, workload: &str) -> Vec<Key> {
        self.select(namespace, |workloads| workloads.contains(workload))
    }

    /// The Deliveries that name this route.
    #[must_use]
    pub fn by_route(&self, namespace: &str, kind: RouteKind, route: &str) -> Vec<Key> {
        self.select(namespace, |named| named.contains(&route_key(kind, route)))
    }

    /// All Deliveries of a namespace.
    #[must_use]
    pub fn by_namespace(&self, namespace: &str) -> Vec<Key> {
        self.select(namespace, |_| true)
    }

    /// All Deliveries.
    #[must_use]
    pub fn all(&self) -> Vec<Key> {
        keys(&self.tables.lock().unwrap_or_else(PoisonError::into_inner).current)
    }

    /// Looks through one namespace: KEP-95 has at most 1,500 objects of a kind there, which is some microseconds.
    fn select(&self, namespace: &str, wanted: impl Fn(&BTreeSet<String>) -> bool) -> Vec<Key> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let of = tables.current.get(namespace).into_iter().flatten();
        of.filter(|(_, workloads)| wanted(workloads)).map(|(name, _)| Key::new(namespace, name)).collect()
    }
}

/// One that cannot be decoded is known by its name, without workloads.
fn insert(table: &mut Table, object: &Guarded) {
    let workloads = object.0.iter().flat_map(|delivery| &delivery.spec.workloads);
    let named = workloads.flat_map(|w| std::iter::once(w.name.clone()).chain(w.route_refs.iter().map(|r| route_key(r.kind, &r.name))));
    table.entry(object.namespace().unwrap_or_default()).or_default().insert(object.name_any(), named.collect());
}

fn route_key(kind: RouteKind, name: &str) -> String {
    format!("{kind:?}/{name}")
}

fn contains(table: &Table, key: &Key) -> bool {
    table.get(&key.namespace).is_some_and(|names| names.contains_key(&key.name))
}

fn keys(table: &Table) -> Vec<Key> {
    table.iter().flat_map(|(namespace, names)| names.keys().map(move |name| Key::new(namespace, name))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn delivery(namespace: &str, name: &str, workloads: &[&str]) -> Guarded {
        let workloads: Vec<_> = workloads.iter().map(|w| json!({"name": w})).collect();
        serde_json::from_value(json!({
            "apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery",
            "metadata": {"namespace": namespace, "name": name}, "spec": {"workloads": workloads},
        }))
        .unwrap()
    }

    fn listed(objects: Vec<Guarded>) -> Index {
        let index = Index::default();
        relist(&index, objects);
        index
    }

    fn relist(index: &Index, objects: Vec<Guarded>) -> Vec<Key> {
        index.apply(&Event::Init);
        for object in objects {
            index.apply(&Event::InitApply(object));
        }
        index.apply(&Event::InitDone)
    }

    #[test]
    fn a_workload_leads_to_every_delivery_that_names_it_in_its_own_namespace() {
        let index = listed(vec![
            delivery("shop", "checkout", &["web", "worker"]),
            delivery("shop", "twin", &["web"]),
            delivery("other", "checkout", &["web"]),
        ]);
        assert_eq!(index.by_workload("shop", "web"), [Key::new("shop", "checkout"), Key::new("shop", "twin")]);
        assert_eq!(index.by_workload("shop", "worker"), [Key::new("shop", "checkout")]);
        assert_eq!(index.by_workload("shop", "cron"), []);
        assert_eq!(index.by_namespace("other"), [Key::new("other", "checkout")]);
        assert_eq!(index.all().len(), 3);
    }

    #[test]
    fn a_route_leads_to_those_that_name_it_by_its_kind() {
        let mut raw = serde_json::to_value(delivery("shop", "checkout", &["web"]).0.unwrap()).unwrap();
        raw["spec"]["workloads"][0]["routeRefs"] = json!([{"name": "web"}, {"kind": "GRPCRoute", "name": "api"}]);
        let index = listed(vec![serde_json::from_value(raw).unwrap()]);
        let found =
            [("web", RouteKind::HTTPRoute), ("api", RouteKind::GRPCRoute)].map(|(name, kind)| index.by_route("shop", kind, name).len());
        assert_eq!(found, [1, 1]);
        assert_eq!(index.by_route("shop", RouteKind::GRPCRoute, "web"), []);
        assert_eq!(index.by_route("other", RouteKind::HTTPRoute, "web"), []);
    }

    #[test]
    fn a_workload_that_is_no_longer_named_leads_nowhere() {
        let index = listed(vec![delivery("shop", "checkout", &["web"])]);
        assert_eq!(index.apply(&Event::Apply(delivery("shop", "checkout", &["api"]))), []);
        assert_eq!(index.by_workload("shop", "web"), []);
        assert_eq!(index.by_workload("shop", "api"), [Key::new("shop", "checkout")]);
    }

    #[test]
    fn a_delivery_that_went_while_the_watch_was_broken_is_told_as_gone() {
        let index = listed(vec![delivery("shop", "checkout", &["web"]), delivery("shop", "cart", &["cart"])]);
        assert_eq!(relist(&index, vec![delivery("shop", "cart", &["cart"])]), [Key::new("shop", "checkout")]);
        assert_eq!(index.by_workload("shop", "web"), []);
        assert_eq!(index.apply(&Event::Delete(delivery("shop", "cart", &["cart"]))), [Key::new("shop", "cart")]);
        assert_eq!(index.all(), []);
    }

    #[test]
    fn while_a_list_is_under_way_the_old_one_counts() {
        let index = listed(vec![delivery("shop", "checkout", &["web"])]);
        index.apply(&Event::Init);
        assert_eq!(index.by_workload("shop", "web"), [Key::new("shop", "checkout")]);
    }

    #[test]
    fn one_that_cannot_be_decoded_is_known_by_its_name() {
        let broken: Guarded = serde_json::from_value(json!({
            "apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery",
            "metadata": {"namespace": "shop", "name": "broken"}, "spec": {"workloads": 7},
        }))
        .unwrap();
        let index = listed(vec![broken]);
        assert_eq!(index.by_namespace("shop"), [Key::new("shop", "broken")]);
        assert_eq!(index.by_workload("shop", "broken"), []);
    }
}
