//! Which namespace may deliver from which repository. One app of Haldane's can read all repositories that it is installed on; a
//! Delivery may name any of them; so the administrator says whose they are, and what is not said is not given.

use serde::Deserialize;

use crate::model::source::Repository;

/// What the administrator has given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Grants(Vec<Grant>);

/// Some repositories for some namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// `acme/checkout`, or all of an owner's: `acme/*`.
    pub repositories: Vec<String>,
    /// Names of namespaces, or `*`.
    pub namespaces: Vec<String>,
}

/// Why grants cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GrantsError {
    /// It is no list of them.
    #[error("the grants are no list of {{\"repositories\": [\"acme/*\"], \"namespaces\": [\"shop\"]}} in JSON")]
    Form(#[source] serde_json::Error),
    /// A pattern that would give nothing, or more than it says.
    #[error("the grants name {0:?}; a repository is owner/name, all of an owner's are owner/*")]
    Repository(String),
}

impl Grants {
    /// Of JSON: a list of grants; an empty text gives nothing.
    ///
    /// # Errors
    /// When it is no such list, or names what is no repository.
    pub fn parse(text: &str) -> Result<Self, GrantsError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let grants: Self = serde_json::from_str(text).map_err(GrantsError::Form)?;
        let named = grants.0.iter().flat_map(|grant| &grant.repositories);
        match named.into_iter().find(|name| pattern(name).is_none()) {
            Some(name) => Err(GrantsError::Repository(name.clone())),
            None => Ok(grants),
        }
    }

    /// Whether that namespace may deliver from that repository.
    #[must_use]
    pub fn allow(&self, repository: &Repository, namespace: &str) -> bool {
        let theirs = |grant: &&Grant| grant.namespaces.iter().any(|name| name == "*" || name == namespace);
        let fits = |name: &String| {
            pattern(name)
                .is_some_and(|(owner, one)| owner.eq_ignore_ascii_case(&repository.owner) && one.is_none_or(|one| one.is(repository)))
        };
        self.0.iter().filter(theirs).any(|grant| grant.repositories.iter().any(fits))
    }
}

/// An owner, and one repository or all.
fn pattern(text: &str) -> Option<(String, Option<Repository>)> {
    match text.strip_suffix("/*") {
        Some(owner) => Repository::parse(&format!("{owner}/any")).map(|all| (all.owner, None)),
        None => Repository::parse(text).map(|one| (one.owner.clone(), Some(one))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(grants: &str, repository: &str, namespace: &str) -> bool {
        Grants::parse(grants).unwrap().allow(&Repository::parse(repository).unwrap(), namespace)
    }

    #[test]
    fn what_is_not_given_is_not_allowed() {
        let grants = r#"[{"repositories": ["acme/checkout", "tools/*"], "namespaces": ["shop"]}, {"repositories": ["acme/site"], "namespaces": ["*"]}]"#;
        for (repository, namespace, allowed) in [
            ("acme/checkout", "shop", true),
            ("Acme/Checkout", "shop", true),
            ("acme/checkout", "pay", false),
            ("acme/checkout-2", "shop", false),
            ("acme/other", "shop", false),
            ("tools/any", "shop", true),
            ("tools2/any", "shop", false),
            ("acme/site", "pay", true),
        ] {
            assert_eq!(allows(grants, repository, namespace), allowed, "{repository} for {namespace}");
        }
        assert!(!allows("", "acme/checkout", "shop"), "nothing said is nothing given");
    }

    #[test]
    fn what_reads_as_more_than_it_says_is_refused() {
        for wrong in [
            r#"[{"repositories": ["*"], "namespaces": ["shop"]}]"#,
            r#"[{"repositories": ["*/*"], "namespaces": ["shop"]}]"#,
            r#"[{"repositories": ["acme"], "namespaces": ["shop"]}]"#,
            r#"[{"repositories": ["a/b"]}]"#,
            "{}",
            r#"[{"repositories": ["a/b"], "namespaces": ["x"], "more": 1}]"#,
        ] {
            assert!(Grants::parse(wrong).is_err(), "{wrong}");
        }
    }
}
