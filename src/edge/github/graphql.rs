//! An answer of GraphQL: data with holes, and beside it what made them. A part is used where it is whole.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::edge::forge::ForgeError;

use super::{budget::Spent, desk::unreadable, wire::words};

/// What every document asks for beside its own matter: what it cost.
pub(super) const COST: &str = "rateLimit{cost limit remaining resetAt}";

/// What a document brought.
#[derive(Debug)]
pub(super) struct Said {
    what: String,
    data: Option<Map<String, Value>>,
    faults: Vec<Fault>,
}

/// One of `errors`.
#[derive(Debug)]
struct Fault {
    /// GitHub's `type`, e.g. `NOT_FOUND`.
    kind: String,
    /// What a validator says beside it, e.g. `undefinedField`: the document does not fit the schema.
    invalid: bool,
    message: String,
    /// Where in `data`; empty: everywhere.
    path: Vec<String>,
}

impl Fault {
    /// Of whatever stands there; never fails, since it says that something else has.
    fn new(error: &Value) -> Self {
        let text = |key: &str| error.get(key).and_then(Value::as_str);
        let segment = |part: &Value| part.as_str().map_or_else(|| part.to_string(), ToOwned::to_owned);
        Self {
            kind: text("type").or(text("code")).unwrap_or_default().to_owned(),
            invalid: error.get("extensions").and_then(|more| more.get("code")).is_some(),
            message: text("message").or(error.as_str()).unwrap_or("an error without words").to_owned(),
            path: error.get("path").and_then(Value::as_array).map(|path| path.iter().map(segment).collect()).unwrap_or_default(),
        }
    }

    /// GitHub has used three names for it, and words alone for its secondary limits.
    fn about_limits(&self) -> bool {
        matches!(self.kind.as_str(), "RATE_LIMITED" | "RATE_LIMIT" | "graphql_rate_limit")
            || self.message.to_ascii_lowercase().contains("secondary rate limit")
    }

    /// Whether it made a hole in, around or inside of that part.
    fn touches(&self, part: &[&str]) -> bool {
        !self.path.is_empty() && self.path.iter().zip(part).all(|(ours, theirs)| ours == theirs)
    }

    fn error(&self, what: &str) -> ForgeError {
        let said = if self.path.is_empty() { self.message.clone() } else { format!("{}, at {}", self.message, self.path.join(".")) };
        let said = words(&format!("{what}: {said}"));
        match self.kind.as_str() {
            "NOT_FOUND" => ForgeError::Absent { what: what.to_owned() },
            "FORBIDDEN" | "INSUFFICIENT_SCOPES" | "UNAUTHORIZED" | "UNAUTHENTICATED" => ForgeError::Denied { said },
            _ if self.invalid => ForgeError::Unreadable { said },
            _ => ForgeError::Ill { said },
        }
    }
}

impl Said {
    pub(super) fn read(what: &str, body: &[u8]) -> Result<Self, ForgeError> {
        let answer: Value = serde_json::from_slice(body).map_err(|error| unreadable(what, &error))?;
        let Value::Object(mut answer) = answer else {
            return Err(unreadable(what, &"it is no object"));
        };
        let faults = match answer.get("errors") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(errors)) => errors.iter().map(Fault::new).collect(),
            Some(other) => vec![Fault::new(other)],
        };
        let data = match answer.remove("data") {
            Some(Value::Object(data)) => Some(data),
            None | Some(Value::Null) => None,
            Some(_) => return Err(unreadable(what, &"data is no object")),
        };
        Ok(Self { what: what.to_owned(), data, faults })
    }

    pub(super) fn limited(&self) -> bool {
        self.faults.iter().any(Fault::about_limits)
    }

    pub(super) fn spent(&self) -> Option<Spent> {
        let spent = self.data.as_ref()?.get("rateLimit")?;
        serde_json::from_value(spent.clone()).ok()
    }

    /// Itself, if there is any data.
    pub(super) fn answered(self) -> Result<Self, ForgeError> {
        match (&self.data, self.faults.first()) {
            (Some(_), _) => Ok(self),
            (None, Some(fault)) => Err(fault.error(&self.what)),
            (None, None) => Err(unreadable(&self.what, &"it has neither data nor errors")),
        }
    }

    /// That the one repository that was asked about is there.
    pub(super) fn has_repository(&self, what: &str) -> Result<(), ForgeError> {
        match self.data.as_ref().and_then(|data| data.get("repository")) {
            Some(Value::Object(_)) => Ok(()),
            Some(Value::Null) => {
                let why = self.part::<Value>(&["repository"], what, &[]).err();
                Err(why.unwrap_or_else(|| ForgeError::Absent { what: what.to_owned() }))
            }
            _ => Err(unreadable(what, &"repository is no object")),
        }
    }

    /// A part of the data, about `what`; none: it is null, and nothing says that this is a mistake. Holes made below fields of
    /// the names in `spare` do not count.
    pub(super) fn part<T: DeserializeOwned>(&self, path: &[&str], what: &str, spare: &[&str]) -> Result<Option<T>, ForgeError> {
        let counts = |fault: &&Fault| !fault.path.iter().any(|name| spare.contains(&name.as_str()));
        if let Some(fault) = self.faults.iter().filter(counts).find(|fault| fault.touches(path)) {
            return Err(fault.error(what));
        }
        let mut here: Option<&Value> = None;
        for name in path {
            let object = match here {
                None => self.data.as_ref(),
                Some(Value::Null) => return self.null(what),
                Some(Value::Object(object)) => Some(object),
                Some(_) => return Err(unreadable(what, &format!("what holds {name} is no object"))),
            };
            here = Some(object.and_then(|object| object.get(*name)).ok_or_else(|| unreadable(what, &format!("{name} is missing")))?);
        }
        match here {
            None | Some(Value::Null) => self.null(what),
            Some(value) => serde_path_to_error::deserialize(value).map(Some).map_err(|error| unreadable(what, &error)),
        }
    }

    /// A null may be an answer, but not while something is said to have failed without saying where.
    fn null<T>(&self, what: &str) -> Result<Option<T>, ForgeError> {
        self.faults.iter().find(|fault| fault.path.is_empty()).map_or(Ok(None), |fault| Err(fault.error(what)))
    }
}
