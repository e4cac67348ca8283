//! The shape of an answer: which fields it has and of which types. Two versions are compared by it, and no value is ever part of it.
//!
//! What stable gives back now and then without a field, or with null in its place, is optional; that is learnt from its answers, over
//! several of them. The elements of a list have one shape together, and so have the members of an object whose names are no names of
//! fields (an id, an address of mail): these are data, and are neither kept nor shown.

use std::collections::BTreeMap;

use serde_json::Value;

/// What of an answer is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compare {
    /// Fields, and all that is in them: `$.meta.trace`, `$.items[*].note`.
    pub ignore: Vec<String>,
}

impl Compare {
    /// Steps of a probe whose answers are compared: 5 × [`Shape::MOST`] fields × ~150 bytes = 375 kB of memory a probe, at worst.
    pub const STEPS: usize = 5;
    /// Fields that are left out of a comparison.
    pub const IGNORED: usize = 32;
}

/// The shape of one answer, or of all that were learnt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The statuses.
    statuses: Vec<u16>,
    /// What is in the body; none: no answer had JSON.
    root: Option<Node>,
    /// An answer had none.
    bare: bool,
    /// Fields were left out, as there are too many.
    cut: bool,
}

/// The shape of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    /// The types that were seen, a bit each.
    types: u8,
    /// Objects that were seen here.
    objects: u32,
    /// Their fields.
    fields: BTreeMap<String, Self>,
    /// What is in the lists.
    items: Option<Box<Self>>,
    /// An object had no such field.
    optional: bool,
}

const NULL: u8 = 1;
const BOOLEAN: u8 = 2;
const NUMBER: u8 = 4;
const STRING: u8 = 8;
const LIST: u8 = 16;
const OBJECT: u8 = 32;
/// With the words that people read.
const TYPES: [(u8, &str); 5] =
    [(BOOLEAN, "true or false"), (NUMBER, "a number"), (STRING, "a string"), (LIST, "a list"), (OBJECT, "an object")];
/// Members whose names are none of fields.
const ANY: &str = "*";
/// The longest name of a field.
const NAME: usize = 64;
/// What lies deeper is not looked at, on either side.
const DEPTH: usize = 12;

impl Shape {
    /// Fields of one shape. A body of 256 KiB may have 30,000; those of a contract have fewer.
    pub const MOST: usize = 500;

    /// That of an answer; `json` none: its body is no JSON.
    #[must_use]
    pub fn of(status: u16, json: Option<&Value>, compare: &Compare) -> Self {
        let mut space = Room { left: Self::MOST, cut: false, ignore: &compare.ignore };
        let root = json.map(|json| {
            let mut node = Node::default();
            node.take(json, "$", DEPTH, &mut space);
            node
        });
        Self { statuses: vec![status], bare: root.is_none(), root, cut: space.cut }
    }

    /// Learns another answer of the same side.
    pub fn learn(&mut self, other: &Self) {
        let fresh: Vec<u16> = other.statuses.iter().copied().filter(|status| !self.statuses.contains(status)).collect();
        self.statuses.extend(fresh);
        self.cut |= other.cut;
        self.bare |= other.bare;
        match (&mut self.root, &other.root) {
            (Some(known), Some(other)) => {
                let mut left = Self::MOST.saturating_sub(known.size());
                known.learn(other, &mut left);
            }
            (known @ None, Some(other)) => *known = Some(other.clone()),
            (_, None) => {}
        }
    }

    /// What this answer of a canary lacks of what stable is known to answer, as the rest of a sentence that begins with the request.
    #[must_use]
    pub fn lacks(&self, stable: &Self) -> Option<String> {
        if let Some(status) = self.statuses.iter().find(|status| !stable.statuses.contains(status)) {
            let usual: Vec<String> = stable.statuses.iter().map(u16::to_string).collect();
            return Some(format!("answered {status} ({} on stable)", usual.join(" or ")));
        }
        let known = stable.root.as_ref()?;
        let Some(root) = &self.root else {
            return (!stable.bare).then(|| "answered with something that is not JSON (it is on stable)".to_owned());
        };
        let mut found = Vec::new();
        root.lacks(known, "$", self.cut, &mut found);
        let more = found.len().saturating_sub(1);
        let first = found.into_iter().next()?;
        Some(if more > 0 { format!("{first}, and {more} more of its fields differ") } else { first })
    }
}

/// What of a shape may still be taken in.
struct Room<'a> {
    left: usize,
    cut: bool,
    ignore: &'a [String],
}

impl Node {
    /// Takes in a value that was seen at this path.
    fn take(&mut self, value: &Value, path: &str, depth: usize, room: &mut Room<'_>) {
        self.types |= type_of(value);
        match value {
            Value::Object(members) if depth > 0 => {
                let before = self.objects;
                self.objects = self.objects.saturating_add(1);
                for (name, member) in members {
                    self.take_member(shown(name), member, (path, depth, before), room);
                }
                let gone = self.fields.iter_mut().filter(|(name, _)| !members.contains_key(name.as_str()));
                gone.for_each(|(_, field)| field.optional = true);
            }
            Value::Array(items) if depth > 0 => {
                let path = format!("{path}[*]");
                if !room.ignore.contains(&path) {
                    let node = self.items.get_or_insert_default();
                    for item in items {
                        node.take(item, &path, depth - 1, room);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {}
        }
    }

    fn take_member(&mut self, name: &str, value: &Value, (path, depth, before): (&str, usize, u32), room: &mut Room<'_>) {
        let path = format!("{path}.{name}");
        if room.ignore.contains(&path) {
            return;
        }
        if !self.fields.contains_key(name) {
            let Some(left) = room.left.checked_sub(1) else {
                room.cut = true;
                return;
            };
            room.left = left;
            let field = Self { optional: before > 0 || name == ANY, ..Self::default() };
            self.fields.insert(name.to_owned(), field);
        }
        if let Some(field) = self.fields.get_mut(name) {
            field.take(value, &path, depth - 1, room);
        }
    }

    fn learn(&mut self, other: &Self, left: &mut usize) {
        self.types |= other.types;
        self.optional |= other.optional;
        if other.objects > 0 {
            for (name, theirs) in &other.fields {
                match self.fields.get_mut(name) {
                    Some(field) => field.learn(theirs, left),
                    None if theirs.size() <= *left => {
                        *left -= theirs.size();
                        let field = Self { optional: theirs.optional || self.objects > 0, ..theirs.clone() };
                        self.fields.insert(name.clone(), field);
                    }
                    // Answers before had none of it: it is optional, and need not be known.
                    None => {}
                }
            }
            let gone = self.fields.iter_mut().filter(|(name, _)| !other.fields.contains_key(name.as_str()));
            gone.for_each(|(_, field)| field.optional = true);
            self.objects = self.objects.saturating_add(other.objects);
        }
        match (&mut self.items, &other.items) {
            (Some(items), Some(theirs)) => items.learn(theirs, left),
            (items @ None, Some(theirs)) if theirs.size() <= *left => {
                *left -= theirs.size();
                *items = Some(theirs.clone());
            }
            _ => {}
        }
    }

    fn size(&self) -> usize {
        1 + self.fields.values().chain(self.items.as_deref()).map(Self::size).sum::<usize>()
    }

    /// It may be missing, or null in its place.
    fn may_be_gone(&self) -> bool {
        self.optional || self.types & NULL > 0
    }

    fn lacks(&self, stable: &Self, path: &str, cut: bool, found: &mut Vec<String>) {
        let known = stable.types & !NULL;
        if known == 0 {
            return;
        }
        let fresh = self.types & !NULL & !known;
        if self.types & NULL > 0 && !stable.may_be_gone() {
            found.push(format!("answered with null for {path} ({} on stable)", named(known)));
        } else if fresh > 0 {
            found.push(format!("answered with {} for {path} ({} on stable)", named(fresh), named(known)));
        }
        if self.objects > 0 {
            for (name, field) in &stable.fields {
                let path = format!("{path}.{name}");
                let whole = !field.may_be_gone() && !cut;
                match self.fields.get(name) {
                    None if whole => found.push(format!("answered without {path} ({} on stable)", named(field.types))),
                    Some(theirs) if whole && theirs.optional => {
                        found.push(format!("answered without {path} in a part of the list ({} on stable)", named(field.types)));
                    }
                    None => {}
                    Some(theirs) => theirs.lacks(field, &path, cut, found),
                }
            }
        }
        if let (Some(items), Some(known)) = (&self.items, &stable.items) {
            items.lacks(known, &format!("{path}[*]"), cut, found);
        }
    }
}

fn type_of(value: &Value) -> u8 {
    match value {
        Value::Null => NULL,
        Value::Bool(_) => BOOLEAN,
        Value::Number(_) => NUMBER,
        Value::String(_) => STRING,
        Value::Array(_) => LIST,
        Value::Object(_) => OBJECT,
    }
}

fn named(types: u8) -> String {
    let names: Vec<&str> = TYPES.iter().filter(|(bit, _)| types & bit > 0).map(|(_, name)| *name).collect();
    names.join(" or ")
}

/// A name as it is kept: that of a field, or [`ANY`].
fn shown(name: &str) -> &str {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    // Eight digits in a name are a number that somebody was given.
    let is_name = name.len() <= NAME && name.starts_with(first) && name.chars().all(rest) && digits < 8;
    if is_name { name } else { ANY }
}

/// What is wrong with a path of what is ignored, and what to write instead.
#[must_use]
pub(super) fn path_is_valid(path: &str) -> bool {
    let Some(mut rest) = path.strip_prefix('$').filter(|rest| !rest.is_empty()) else { return false };
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[*]") {
            rest = after;
            continue;
        }
        let Some(after) = rest.strip_prefix('.') else { return false };
        let end = after.find(['.', '[']).unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        if name.is_empty() || (name != ANY && shown(name) != name) {
            return false;
        }
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shape(json: &Value) -> Shape {
        Shape::of(200, Some(json), &Compare::default())
    }

    fn known(answers: &[Value]) -> Shape {
        let mut all = answers.iter().map(shape);
        let mut known = all.next().unwrap();
        all.for_each(|answer| known.learn(&answer));
        known
    }

    fn lacks(canary: &Value, stable: &[Value]) -> String {
        shape(canary).lacks(&known(stable)).unwrap_or_default()
    }

    #[test]
    fn a_field_that_is_lost_is_told_with_what_it_was() {
        let order = json!({"id": 1, "state": "open", "lines": [{"sku": "tea", "count": 2}]});
        assert_eq!(lacks(&json!({"id": 2, "lines": []}), std::slice::from_ref(&order)), "answered without $.state (a string on stable)");
        assert_eq!(
            lacks(&json!({"id": "2", "state": "x", "lines": []}), std::slice::from_ref(&order)),
            "answered with a string for $.id (a number on stable)"
        );
        assert_eq!(
            lacks(&json!({"id": 2, "state": "x", "lines": [{"sku": "tea"}]}), std::slice::from_ref(&order)),
            "answered without $.lines[*].count (a number on stable)"
        );
        assert_eq!(
            lacks(&json!({"id": 2, "state": "x", "lines": [{"sku": "tea", "count": 1}, {"sku": "pot"}]}), std::slice::from_ref(&order)),
            "answered without $.lines[*].count in a part of the list (a number on stable)"
        );
        assert_eq!(
            lacks(&json!({"state": null, "lines": {}}), std::slice::from_ref(&order)),
            "answered without $.id (a number on stable), and 2 more of its fields differ"
        );
        assert_eq!(lacks(&json!([1]), std::slice::from_ref(&order)), "answered with a list for $ (an object on stable)");
    }

    #[test]
    fn values_new_fields_and_empty_lists_are_fine() {
        let order = json!({"id": 1, "state": "open", "lines": [{"sku": "tea"}], "total": 1});
        for same in [
            json!({"id": 7, "state": "gone", "lines": [], "total": 2.5}),
            json!({"id": 7, "state": "gone", "lines": [{"sku": "pot", "weight": 3}], "total": 0, "note": "new"}),
            order.clone(),
        ] {
            assert_eq!(lacks(&same, std::slice::from_ref(&order)), "", "{same}");
        }
        assert_eq!(lacks(&json!({"lines": [{"sku": 7}]}), &[json!({"lines": []})]), "", "nothing is known of what is in it");
    }

    #[test]
    fn what_stable_sometimes_leaves_out_is_no_loss() {
        let often =
            [json!({"id": 1, "note": "x", "to": null}), json!({"id": 2}), json!({"id": 3, "note": null, "to": {"name": "a", "zip": "1"}})];
        for fine in [
            json!({"id": 1}),
            json!({"id": 1, "note": null}),
            json!({"id": 1, "to": null}),
            json!({"id": 1, "note": "x", "to": {"name": "b", "zip": "2"}}),
        ] {
            assert_eq!(lacks(&fine, &often), "", "{fine}");
        }
        assert_eq!(lacks(&json!({"id": 1, "note": 5}), &often), "answered with a number for $.note (a string on stable)");
        assert_eq!(lacks(&json!({"id": 1, "to": {"name": "b"}}), &often), "answered without $.to.zip (a string on stable)");
        assert_eq!(lacks(&json!({"id": null}), &often), "answered with null for $.id (a number on stable)");
        assert_eq!(
            lacks(&json!({"id": true}), &[json!({"id": 1}), json!({"id": "a"})]),
            "answered with true or false for $.id (a number or a string on stable)"
        );
    }

    #[test]
    fn without_json_only_the_status_is_compared() {
        let page = |status| Shape::of(status, None, &Compare::default());
        assert_eq!(page(200).lacks(&page(200)), None);
        assert_eq!(page(204).lacks(&page(200)).as_deref(), Some("answered 204 (200 on stable)"));
        assert_eq!(page(200).lacks(&shape(&json!({}))).as_deref(), Some("answered with something that is not JSON (it is on stable)"));
        assert_eq!(shape(&json!({})).lacks(&page(200)), None);
        let mut both = page(204);
        both.learn(&shape(&json!({"id": 1})));
        assert_eq!(page(204).lacks(&both), None);
        assert_eq!(shape(&json!({})).lacks(&both).as_deref(), Some("answered without $.id (a number on stable)"));
    }

    #[test]
    fn names_that_are_data_are_neither_kept_nor_shown() {
        let by_mail = |mail: &str, order: Value| json!({"customers": {mail: order}, "by": {"a1b2c3d4e5f60718": 1, "7": 2}});
        let stable =
            [by_mail("ana@example.com", json!({"id": 1, "city": "Rome"})), by_mail("bob@example.com", json!({"id": 2, "city": "Bonn"}))];
        let told = lacks(&by_mail("eve@example.com", json!({"id": 3})), &stable);
        assert_eq!(told, "answered without $.customers.*.city (a string on stable)");
        assert_eq!(lacks(&json!({"customers": {}, "by": {}}), &stable), "");
        let kept = format!("{:?}", known(&stable));
        assert!(!kept.contains("example") && !kept.contains("a1b2") && !kept.contains("Rome"), "{kept}");
        let hostile = "x\n<script>".to_owned() + &"y".repeat(5000);
        assert!(!format!("{:?}", shape(&json!({hostile: 1}))).contains("script"));
    }

    #[test]
    fn what_is_ignored_is_not_looked_at() {
        let compare = Compare { ignore: vec!["$.meta".to_owned(), "$.lines[*].note".to_owned(), "$.tags[*]".to_owned()] };
        let of = |json: Value| Shape::of(200, Some(&json), &compare);
        let stable = of(json!({"id": 1, "meta": {"trace": "x"}, "lines": [{"note": "a", "sku": "b"}], "tags": ["a"]}));
        assert_eq!(of(json!({"id": 1, "lines": [{"sku": "b"}], "tags": [1]})).lacks(&stable), None);
        assert!(of(json!({"id": 1, "lines": [{}], "tags": [1]})).lacks(&stable).is_some());
        for path in ["$.a", "$.a.b-c[*].d_1", "$[*].x", "$.a.*.b", "$[*]"] {
            assert!(path_is_valid(path), "{path}");
        }
        for path in ["", "$", "a", "$.", "$..a", "$.a[0]", "$['a']", "$.a b", "$.a[*", "$.12"] {
            assert!(!path_is_valid(path), "{path}");
        }
    }

    #[test]
    fn shapes_are_bounded_and_one_that_is_cut_blames_nobody_for_what_is_missing() {
        let wide = |from: usize| Value::Object((from..from + 2 * Shape::MOST).map(|n| (format!("f{n}"), json!(1))).collect());
        let (mut stable, canary) = (shape(&wide(0)), shape(&wide(10)));
        assert!(stable.cut && stable.root.as_ref().unwrap().size() <= Shape::MOST + 1);
        assert_eq!(canary.lacks(&stable), None);
        for at in 0..20 {
            stable.learn(&shape(&wide(at * 300)));
        }
        assert!(stable.root.as_ref().unwrap().size() <= Shape::MOST + 1);
        let deep = (0..100).fold(json!(1), |inner, _| json!({"a": inner}));
        assert!(shape(&deep).root.unwrap().size() <= DEPTH + 2);
    }
}
