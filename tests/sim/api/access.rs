//! Who may do what. The same rule answers `SelfSubjectAccessReviews` and guards the requests, as RBAC does.

use serde_json::Value;

use super::{super::json, request::Call};

/// One question to RBAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub user: String,
    pub verb: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

/// Answers it.
pub type Rule = Box<dyn Fn(&Access) -> bool + Send>;

impl Access {
    /// What the call needs.
    pub fn of(call: &Call) -> Self {
        Self {
            user: call.user.clone(),
            verb: call.verb.name().to_owned(),
            group: call.kind.map_or("", |k| k.group).to_owned(),
            resource: call.kind.map_or("", |k| k.plural).to_owned(),
            subresource: call.subresource.clone(),
            namespace: call.namespace.clone(),
            name: call.name.clone(),
        }
    }

    /// What a `SelfSubjectAccessReview` asks about.
    pub fn of_review(user: &str, review: &Value) -> Self {
        let field = |name: &str| json::text(review, &format!("/spec/resourceAttributes/{name}")).to_owned();
        Self {
            user: user.to_owned(),
            verb: field("verb"),
            group: field("group"),
            resource: field("resource"),
            subresource: field("subresource"),
            namespace: field("namespace"),
            name: field("name"),
        }
    }

    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

/// Everybody may do everything.
pub fn everything() -> Rule {
    Box::new(|_| true)
}

/// `user` may not write in these namespaces, except its own kinds: a namespace without our `RoleBinding`.
pub fn read_only(user: &str, namespaces: &[&str]) -> Rule {
    let (user, namespaces) = (user.to_owned(), namespaces.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
    Box::new(move |asked| asked.user != user || !asked.is_write() || asked.group == "haldane.dev" || !namespaces.contains(&asked.namespace))
}
