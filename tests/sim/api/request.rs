//! One request, as the server understands it.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    kinds::{ACCESS_REVIEW, EVENT, Key, Kind, LEASE, NEW_EVENT},
    managed::Writer,
    refusal::Refusal,
};

/// What is asked, in the words of RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// As RBAC writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// One request. `kind` is `None` for discovery.
#[derive(Clone, Debug)]
pub struct Call {
    pub number: u64,
    pub at: Timestamp,
    pub user: String,
    pub incarnation: u32,
    pub verb: Verb,
    pub kind: Option<&'static Kind>,
    pub namespace: String,
    pub name: String,
    pub subresource: String,
    /// Path with query, as it was sent.
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub content_type: String,
    pub accept: String,
    pub body: Option<Value>,
}

impl Call {
    /// From the parts of an HTTP request. An unknown path is a refusal, as on a real server.
    pub fn parse(method: &http::Method, uri: &http::Uri, headers: &http::HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        let header = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        let query = query(uri.query().unwrap_or(""));
        let place = Place::of(uri.path())?;
        let verb = verb(method, &place, query.get("watch").is_some_and(|w| w == "true" || w == "1"))?;
        let body = match body {
            [] => None,
            bytes => Some(serde_json::from_slice(bytes).map_err(|e| Refusal::of(400, format!("the body is not JSON: {e}")))?),
        };
        Ok(Self {
            number: 0,
            at: Timestamp::UNIX_EPOCH,
            user: String::new(),
            incarnation: 0,
            verb,
            kind: place.kind,
            namespace: place.namespace,
            name: place.name,
            subresource: place.subresource,
            path: uri.path_and_query().map_or("", |p| p.as_str()).to_owned(),
            query,
            content_type: header("content-type").split(';').next().unwrap_or("").to_owned(),
            accept: header("accept"),
            body,
        })
    }

    /// Whether it means to change something that is stored. Asking for one's rights is a POST, and changes nothing.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb, Verb::Get | Verb::List | Verb::Watch) && self.kind.is_some_and(|k| k != &ACCESS_REVIEW)
    }

    /// Leases and events: written all the time, and never what a story is about.
    pub fn is_background(&self) -> bool {
        self.kind.is_some_and(|k| [&LEASE, &EVENT, &NEW_EVENT].contains(&k))
    }

    /// The object it is about; for a create, without the name.
    pub fn key(&self) -> Option<Key> {
        self.kind.map(|kind| Key::new(kind, &self.namespace, &self.name))
    }

    /// Whether it is about that resource, by its plural, or plural/subresource.
    pub fn is_about(&self, resource: &str) -> bool {
        let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        self.kind.is_some_and(|k| k.plural == plural) && self.subresource == subresource
    }

    pub(super) fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    pub(super) fn writer(&self) -> Writer {
        let manager = self.parameter("fieldManager");
        let manager = if manager.is_empty() { &self.user } else { manager };
        Writer { user: self.user.clone(), manager: manager.to_owned() }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.user, self.verb.name(), self.path)
    }
}

#[derive(Default)]
struct Place {
    kind: Option<&'static Kind>,
    namespace: String,
    name: String,
    subresource: String,
}

impl Place {
    fn of(path: &str) -> Result<Self, Refusal> {
        let parts: Vec<String> = path.split('/').filter(|p| !p.is_empty()).map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Ok(Self::default()),
        };
        let (namespace, rest) = match rest {
            [] => return Ok(Self::default()),
            // A namespace itself, or its status, is addressed like the things in it.
            ["namespaces", name, "status" | "finalize"] => ("", &["namespaces", name, "status"][..]),
            ["namespaces", namespace, inner @ ..] if !inner.is_empty() => (*namespace, inner),
            other => ("", other),
        };
        let plural = rest.first().copied().unwrap_or("");
        let kind =
            Kind::of_path(group, version, plural).ok_or_else(|| Refusal::of(404, "the server could not find the requested resource"))?;
        let part = |index: usize| rest.get(index).copied().unwrap_or("").to_owned();
        Ok(Self { kind: Some(kind), namespace: namespace.to_owned(), name: part(1), subresource: part(2) })
    }
}

fn verb(method: &http::Method, place: &Place, watch: bool) -> Result<Verb, Refusal> {
    let one = !place.name.is_empty();
    Ok(match method.as_str() {
        "GET" if watch => Verb::Watch,
        "GET" if one || place.kind.is_none() => Verb::Get,
        "GET" => Verb::List,
        "POST" => Verb::Create,
        "PUT" => Verb::Update,
        "PATCH" => Verb::Patch,
        "DELETE" if one => Verb::Delete,
        "DELETE" => Verb::DeleteCollection,
        other => return Err(Refusal::of(405, format!("the server does not allow {other}"))),
    })
}

fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(key, value)| (decode(key), decode(&value.replace('+', " ")))).collect()
}

/// Percent-decoding; what is not an escape stays as it is.
fn decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or("").as_bytes().to_vec();
    for part in parts {
        let code = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let Some(byte) = code {
            bytes.push(byte);
            bytes.extend_from_slice(part.get(2..).unwrap_or("").as_bytes());
        } else {
            bytes.push(b'%');
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
