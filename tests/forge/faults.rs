//! What can go wrong between a client and GitHub, for the next N calls under a path.

use serde::Deserialize;
use serde_json::Value;

use super::model::State;

/// A fault that waits for its calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Of the path without `/api/v3`, e.g. `/repos/acme`; GraphQL is `/graphql`.
    pub prefix: String,
    /// For so many calls.
    #[serde(default = "once")]
    pub times: u32,
    pub wrong: Wrong,
}

fn once() -> u32 {
    1
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// This status and an error page, without doing anything: 500, 502, 503, 429.
    Status(u16),
    /// The secondary limit: 403 with `retry-after` in seconds, where there is one.
    Secondary(Option<u32>),
    /// The connection ends in the middle of the body.
    Truncated,
    /// Text where numbers should be, numbers where text should be.
    Types,
    /// Every field of that name is null, whatever the schema says.
    Null(String),
    /// One text of the body becomes another: for values that nobody has foreseen.
    Replaced(String, String),
    /// It is done, and the answer never comes.
    Lost,
}

impl Wrong {
    /// Whether the call itself is done as if nothing were wrong.
    pub fn comes_after(&self) -> bool {
        !matches!(self, Self::Status(_) | Self::Secondary(_))
    }
}

impl State {
    /// The fault of this call, which is thereby used up.
    pub fn fault(&mut self, path: &str) -> Option<Wrong> {
        let fault = self.faults.iter_mut().find(|fault| fault.times > 0 && path.starts_with(&fault.prefix))?;
        fault.times -= 1;
        Some(fault.wrong.clone())
    }
}

/// Every field of that name as null.
pub fn nulls(value: Value, field: &str) -> Value {
    match value {
        Value::Object(map) => {
            let nulled = |(name, value)| if name == field { (name, Value::Null) } else { (name, nulls(value, field)) };
            Value::Object(map.into_iter().map(nulled).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(|value| nulls(value, field)).collect()),
        leaf => leaf,
    }
}

/// Every leaf as another type, and lists as objects.
pub fn wrong_types(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(map.into_iter().map(|(name, value)| (name, wrong_types(value))).collect()),
        Value::Array(list) => Value::Object(list.into_iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect()),
        Value::String(text) => Value::from(text.len()),
        Value::Number(number) => Value::String(number.to_string()),
        Value::Bool(value) => Value::String(value.to_string()),
        Value::Null => Value::from(0),
    }
}
