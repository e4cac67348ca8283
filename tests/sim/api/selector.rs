//! Label and field selectors of a list or watch.

use serde_json::Value;

use super::super::json;
use super::refusal::Refusal;

/// Which objects a list or watch is about.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Clone, Debug)]
enum Requirement {
    Is(String, Vec<String>),
    IsNot(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// From the two query parameters; either may be "".
    pub fn parse(labels: &str, fields: &str) -> Result<Self, Refusal> {
        Ok(Self { labels: requirements(labels)?, fields: requirements(fields)? })
    }

    /// Whether the object is selected.
    pub fn takes(&self, object: &Value) -> bool {
        let labels = json::labels(object);
        let field = |path: &str| {
            let found = object.pointer(&format!("/{}", path.replace('.', "/")));
            Some(found.and_then(Value::as_str).unwrap_or("").to_owned())
        };
        self.labels.iter().all(|r| r.met(|key| labels.get(key).cloned())) && self.fields.iter().all(|r| r.met(field))
    }
}

impl Requirement {
    fn met(&self, look: impl Fn(&str) -> Option<String>) -> bool {
        match self {
            Self::Is(key, values) => look(key).is_some_and(|v| values.contains(&v)),
            Self::IsNot(key, values) => look(key).is_none_or(|v| !values.contains(&v)),
            Self::Exists(key) => look(key).is_some(),
            Self::Absent(key) => look(key).is_none(),
        }
    }
}

fn requirements(text: &str) -> Result<Vec<Requirement>, Refusal> {
    clauses(text).into_iter().map(|clause| requirement(clause.trim())).collect()
}

/// Splits at the commas that are not inside `in (a, b)`.
fn clauses(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    let parts = text.split(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.filter(|clause| !clause.trim().is_empty()).collect()
}

fn requirement(clause: &str) -> Result<Requirement, Refusal> {
    let one = |key: &str, value: &str| (key.trim().to_owned(), vec![value.trim().to_owned()]);
    if let Some((key, set)) = clause.split_once(" notin ") {
        return Ok(Requirement::IsNot(key.trim().to_owned(), members(set)?));
    }
    if let Some((key, set)) = clause.split_once(" in ") {
        return Ok(Requirement::Is(key.trim().to_owned(), members(set)?));
    }
    for (sign, wanted) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((key, value)) = clause.split_once(sign) {
            let (key, values) = one(key, value);
            return Ok(if wanted { Requirement::Is(key, values) } else { Requirement::IsNot(key, values) });
        }
    }
    Ok(match clause.strip_prefix('!') {
        Some(key) => Requirement::Absent(key.trim().to_owned()),
        None => Requirement::Exists(clause.to_owned()),
    })
}

fn members(set: &str) -> Result<Vec<String>, Refusal> {
    let inner = set.trim().strip_prefix('(').and_then(|s| s.strip_suffix(')'));
    let inner = inner.ok_or_else(|| Refusal::of(400, format!("unable to parse requirement: {set}")))?;
    Ok(inner.split(',').map(|value| value.trim().to_owned()).collect())
}
