//! Something that is remembered, up to so many; past it the oldest is forgotten.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) struct Memory<K, V> {
    most: usize,
    inner: Mutex<Inner<K, V>>,
}

struct Inner<K, V> {
    count: u64,
    entries: HashMap<K, (u64, V)>,
}

impl<K: Eq + Hash + Clone, V: Clone> Memory<K, V> {
    pub(super) fn of(most: usize) -> Self {
        Self { most, inner: Mutex::new(Inner { count: 0, entries: HashMap::new() }) }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.inner().entries.get(key).map(|(_, value)| value.clone())
    }

    pub(super) fn put(&self, key: K, value: V) {
        let mut inner = self.inner();
        inner.count += 1;
        let count = inner.count;
        inner.entries.insert(key, (count, value));
        if inner.entries.len() > self.most {
            let oldest = inner.entries.iter().min_by_key(|(_, (count, _))| *count).map(|(key, _)| key.clone());
            oldest.and_then(|key| inner.entries.remove(&key));
        }
    }

    pub(super) fn forget(&self, key: &K) {
        self.inner().entries.remove(key);
    }

    fn inner(&self) -> MutexGuard<'_, Inner<K, V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let memory = Memory::of(2);
        memory.put("a", 1);
        memory.put("b", 2);
        memory.put("a", 3);
        memory.put("c", 4);
        assert_eq!([memory.get(&"a"), memory.get(&"b"), memory.get(&"c")], [Some(3), None, Some(4)]);
        memory.forget(&"a");
        assert_eq!(memory.get(&"a"), None);
    }
}
