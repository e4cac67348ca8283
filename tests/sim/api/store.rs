//! What etcd would hold, with its whole history: the present for reads, the past for watches and stale reads.
//!
//! Nothing here knows about HTTP. How a write becomes a stored object is in `write`.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    super::{clock::SimClock, json, rng::Rng},
    kinds::{Key, Kind},
};

/// One stored change.
#[derive(Clone, Debug)]
pub struct Change {
    pub version: u64,
    pub at: Timestamp,
    pub key: Key,
    pub by: String,
    pub before: Option<Arc<Value>>,
    /// What is stored now; of a removed object, what was stored last.
    pub object: Arc<Value>,
    pub removed: bool,
}

/// Something that may never be seen, and was.
#[derive(Clone, Debug)]
pub struct Violation {
    pub at: Timestamp,
    pub version: u64,
    pub change: String,
    pub what: String,
}

/// Looks at every stored state; an error is a violation.
///
/// It returns instead of panicking, because a panic inside somebody's write would be caught by that somebody.
pub type Observer = Box<dyn FnMut(&Store, &Change) -> Result<(), String> + Send>;

/// The stored objects and how they came to be.
pub struct Store {
    pub(super) clock: SimClock,
    pub(super) rng: Rng,
    objects: BTreeMap<Key, Arc<Value>>,
    version: u64,
    oldest: u64,
    history: Vec<Change>,
    pub(super) uids: u64,
    observers: Vec<Observer>,
    violations: Vec<Violation>,
}

impl Store {
    /// Empty, at version 1: "0" has a meaning of its own in the API.
    pub fn new(clock: SimClock, seed: u64) -> Self {
        Self {
            clock,
            rng: Rng::new(seed),
            objects: BTreeMap::new(),
            version: 1,
            oldest: 0,
            history: Vec::new(),
            uids: 0,
            observers: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// The time of the cluster.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The resourceVersion of the last change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The object, if it is there.
    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key).map(Arc::as_ref)
    }

    /// By kind, namespace and name.
    pub fn find(&self, kind: &'static Kind, namespace: &str, name: &str) -> Option<&Value> {
        self.get(&Key::new(kind, namespace, name))
    }

    /// All of a kind, of one namespace or (with "") of all, by namespace and name.
    pub fn list(&self, kind: &'static Kind, namespace: &str) -> impl Iterator<Item = &Value> {
        let first = Key { kind, namespace: namespace.to_owned(), name: String::new() };
        self.objects
            .range(first..)
            .take_while(move |(key, _)| key.kind == kind)
            .filter(move |(key, _)| namespace.is_empty() || key.namespace == namespace)
            .map(|(_, object)| object.as_ref())
    }

    /// Everything, in the order of the keys.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.objects.iter().map(|(key, object)| (key, object.as_ref()))
    }

    /// The state as it was when `version` was the last one: what a lagging replica would still answer.
    pub fn as_of(&self, version: u64) -> BTreeMap<Key, Arc<Value>> {
        let mut past = BTreeMap::new();
        for change in self.history.iter().take_while(|c| c.version <= version) {
            if change.removed {
                past.remove(&change.key);
            } else {
                past.insert(change.key.clone(), change.object.clone());
            }
        }
        past
    }

    /// Everything that was stored so far, in order.
    pub fn history(&self) -> &[Change] {
        &self.history
    }

    /// The changes after `version`.
    pub fn since(&self, version: u64) -> &[Change] {
        let start = self.history.partition_point(|c| c.version <= version);
        self.history.get(start..).unwrap_or(&[])
    }

    /// The oldest version that a watch may start from.
    pub fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Forgets the past for watches: one that asks for an older version is answered with 410. The history itself stays readable.
    pub fn compact(&mut self) {
        self.oldest = self.version;
    }

    /// What the observers found.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    pub(super) fn add_observer(&mut self, observer: Observer) {
        self.observers.push(observer);
    }

    /// Stores `object`, or takes it away, as one change.
    pub(super) fn commit(&mut self, by: &str, key: &Key, mut object: Value, removed: bool) -> Arc<Value> {
        self.version += 1;
        json::set(&mut object, "/metadata/resourceVersion", self.version.to_string().into());
        let object = Arc::new(object);
        let before = if removed { self.objects.remove(key) } else { self.objects.insert(key.clone(), object.clone()) };
        let (version, at, by) = (self.version, self.now(), by.to_owned());
        self.history.push(Change { version, at, key: key.clone(), by, before, object: object.clone(), removed });
        self.show_observers();
        object
    }

    fn show_observers(&mut self) {
        let Some(change) = self.history.last().cloned() else { return };
        let mut observers = std::mem::take(&mut self.observers);
        for observer in &mut observers {
            if let Err(what) = observer(self, &change) {
                let said = format!("{} wrote {}", change.by, change.key);
                self.violations.push(Violation { at: change.at, version: change.version, change: said, what });
            }
        }
        self.observers = observers;
    }
}
