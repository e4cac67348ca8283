//! JSON patches with their tests, and what it takes to leave a user's object as it was.

use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation, jsonptr::PointerBuf};
use serde_json::{Value, json};

/// A JSON patch that grows. Paths are lists of keys, so that `/` and `~` in a key are escaped here and nowhere else.
#[derive(Clone, Debug, Default)]
pub(super) struct Ops(Vec<PatchOperation>);

fn pointer(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().copied())
}

impl Ops {
    /// A patch of exactly that object.
    pub(super) fn of(uid: &str) -> Self {
        Self::default().test(&["metadata", "uid"], json!(uid))
    }

    /// A patch of exactly that object in exactly that version.
    pub(super) fn exactly(uid: &str, version: &str) -> Self {
        Self::of(uid).test(&["metadata", "resourceVersion"], json!(version))
    }

    pub(super) fn test(mut self, path: &[&str], value: Value) -> Self {
        self.0.push(PatchOperation::Test(TestOperation { path: pointer(path), value }));
        self
    }

    pub(super) fn add(mut self, path: &[&str], value: Value) -> Self {
        self.0.push(PatchOperation::Add(AddOperation { path: pointer(path), value }));
        self
    }

    pub(super) fn replace(mut self, path: &[&str], value: Value) -> Self {
        self.0.push(PatchOperation::Replace(ReplaceOperation { path: pointer(path), value }));
        self
    }

    pub(super) fn remove(mut self, path: &[&str]) -> Self {
        self.0.push(PatchOperation::Remove(RemoveOperation { path: pointer(path) }));
        self
    }

    /// Sets an annotation, or removes it. The object is the one that the patch is made for: where it has no annotations
    /// at all, the map is made first.
    pub(super) fn annotation(self, object: &Value, key: &str, value: Option<&str>) -> Self {
        let made = self.0.iter().any(|op| *op.path() == pointer(&["metadata", "annotations"]));
        let there = object.pointer("/metadata/annotations");
        match value {
            Some(text) if there.is_some_and(|all| all.get(key).and_then(Value::as_str) == Some(text)) => self,
            Some(text) if there.is_some() || made => self.add(&["metadata", "annotations", key], json!(text)),
            Some(text) => self.add(&["metadata", "annotations"], json!({ key: text })),
            None if there.is_some_and(|all| all.get(key).is_some()) => self.remove(&["metadata", "annotations", key]),
            None => self,
        }
    }

    /// Whether it would change something.
    pub(super) fn changes(&self) -> bool {
        self.0.iter().any(|op| !matches!(op, PatchOperation::Test(_)))
    }

    pub(super) fn build(self) -> Patch {
        Patch(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_slashes_are_escaped() {
        let patch = Ops::default().add(&["spec", "selector", "haldane.dev/track"], json!("canary")).build();
        assert_eq!(
            serde_json::to_value(patch).unwrap(),
            json!([{"op": "add", "path": "/spec/selector/haldane.dev~1track", "value": "canary"}])
        );
    }

    #[test]
    fn annotations_of_others_survive_ours() {
        let mut with = json!({"metadata": {"annotations": {"theirs": "1"}}});
        let patch = Ops::default().annotation(&with, "a", Some("x")).annotation(&with, "b", Some("y")).annotation(&with, "c", None).build();
        json_patch::patch(&mut with, &patch).unwrap();
        assert_eq!(with, json!({"metadata": {"annotations": {"theirs": "1", "a": "x", "b": "y"}}}));
        let mut without = json!({"metadata": {}});
        let patch = Ops::default().annotation(&without, "a", Some("x")).annotation(&without, "b", Some("y")).build();
        json_patch::patch(&mut without, &patch).unwrap();
        assert_eq!(without, json!({"metadata": {"annotations": {"a": "x", "b": "y"}}}));
    }

    #[test]
    fn nothing_but_tests_is_no_change() {
        let object = json!({"metadata": {"annotations": {"a": "x"}}});
        assert!(!Ops::of("u").annotation(&object, "a", Some("x")).annotation(&object, "b", None).changes());
        assert!(Ops::of("u").annotation(&object, "a", None).changes());
    }
}
