//! `${name}` in what a step sends: the run's own name, secrets, and what earlier answers brought.

use std::{collections::BTreeMap, fmt};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// What a variable stands for: the name of the run, unique, for objects that a probe makes.
pub const RUN: &str = "run.id";
/// Before the name of a secret.
pub const SECRETS: &str = "secrets.";

/// All but the unreserved characters of RFC 3986, section 2.3: what is put into a path stays one segment of it.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the variables of a run stand for. Any of it may be secret: `Debug` tells only the names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Vars(BTreeMap<String, String>);

impl Vars {
    /// The value of a variable from now on.
    pub fn set(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// The value of a variable, if it has one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The names of all that have a value.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The text with its variables filled in.
    ///
    /// # Errors
    /// The name of the first one that has no value.
    pub fn fill<'a>(&self, text: &'a str) -> Result<String, &'a str> {
        self.filled(text, str::to_owned)
    }

    /// The same for a path: each value is one segment of it, or a part of one.
    ///
    /// # Errors
    /// The name of the first one that has no value.
    pub fn fill_path<'a>(&self, path: &'a str) -> Result<String, &'a str> {
        self.filled(path, |value| utf8_percent_encode(value, SEGMENT).to_string())
    }

    /// The same for every string of a JSON value; names of members stay as they are.
    ///
    /// # Errors
    /// The name of the first one that has no value.
    pub fn fill_json<'a>(&self, json: &'a Value) -> Result<Value, &'a str> {
        Ok(match json {
            Value::String(text) => Value::String(self.fill(text)?),
            Value::Array(items) => Value::Array(items.iter().map(|item| self.fill_json(item)).collect::<Result<_, _>>()?),
            Value::Object(members) => {
                let filled = members.iter().map(|(name, member)| self.fill_json(member).map(|member| (name.clone(), member)));
                Value::Object(filled.collect::<Result<_, _>>()?)
            }
            other => other.clone(),
        })
    }

    fn filled<'a>(&self, text: &'a str, write: impl Fn(&str) -> String) -> Result<String, &'a str> {
        let mut filled = String::with_capacity(text.len());
        for part in parts(text) {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Name(name) => filled.push_str(&write(self.get(name).ok_or(name)?)),
            }
        }
        Ok(filled)
    }
}

impl fmt::Debug for Vars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The variables that a text names.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    parts(text).filter_map(|part| if let Part::Name(name) = part { Some(name) } else { None })
}

/// The variables that the strings of a JSON value name.
#[must_use]
pub(super) fn names_in(json: &Value) -> Vec<&str> {
    match json {
        Value::String(text) => names(text).collect(),
        Value::Array(items) => items.iter().flat_map(names_in).collect(),
        Value::Object(members) => members.values().flat_map(names_in).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

/// A part of a text.
pub(super) enum Part<'a> {
    /// As it stands.
    Text(&'a str),
    /// A variable.
    Name(&'a str),
}

/// A `${` without its end is text, and so is everything else.
pub(super) fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some((name, after)) = rest.strip_prefix("${").and_then(|after| after.split_once('}')) {
            rest = after;
            return Some(Part::Name(name));
        }
        // The `$` of a `${` that is not ended stays with the text after it.
        let from = rest.char_indices().nth(1).map_or(rest.len(), |(at, _)| at);
        let end = rest.get(from..).and_then(|later| later.find("${")).map_or(rest.len(), |at| from + at);
        let (part, after) = rest.split_at(end);
        rest = after;
        Some(Part::Text(part))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vars() -> Vars {
        let mut vars = Vars::default();
        for (name, value) in [("run.id", "r1"), ("id", "a/b ?"), ("secrets.token", "s3cret")] {
            vars.set(name, value.to_owned());
        }
        vars
    }

    #[test]
    fn variables_are_filled_in_where_they_stand() {
        assert_eq!(vars().fill("synth-${run.id}-${run.id}").as_deref(), Ok("synth-r1-r1"));
        assert_eq!(vars().fill("Bearer ${secrets.token}").as_deref(), Ok("Bearer s3cret"));
        assert_eq!(vars().fill("no $ and no ${ end").as_deref(), Ok("no $ and no ${ end"));
        assert_eq!(vars().fill("$${id}").as_deref(), Ok("$a/b ?"));
        assert_eq!(vars().fill("").as_deref(), Ok(""));
        assert_eq!(vars().fill("é${id}é").as_deref(), Ok("éa/b ?é"));
    }

    #[test]
    fn what_comes_into_a_path_cannot_lead_elsewhere() {
        assert_eq!(vars().fill_path("/orders/${id}?x=${run.id}").as_deref(), Ok("/orders/a%2Fb%20%3F?x=r1"));
    }

    #[test]
    fn strings_of_json_are_filled_and_names_of_members_are_not() {
        let filled = vars().fill_json(&json!({"ref": "synth-${run.id}", "${id}": [1, {"a": "${id}"}], "n": null})).unwrap();
        assert_eq!(filled, json!({"ref": "synth-r1", "${id}": [1, {"a": "a/b ?"}], "n": null}));
    }

    #[test]
    fn one_without_a_value_is_named_and_values_never_are() {
        assert_eq!(vars().fill("/${id}/${gone}"), Err("gone"));
        assert_eq!(vars().fill_json(&json!(["${x}"])), Err("x"));
        assert_eq!(format!("{:?}", vars()), r#"{"id", "run.id", "secrets.token"}"#);
        assert_eq!(names("${a}-${b.c}$").collect::<Vec<_>>(), ["a", "b.c"]);
        assert_eq!(names_in(&json!({"x": ["${a}", {"y": "${b}"}], "z": 1})), ["a", "b"]);
    }
}
