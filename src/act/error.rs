//! Why a write did not happen, sorted by what comes next: look again, wait, or tell a person.

use crate::control::lease::NotLeading;

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The object is not as it was when the decision was made: 409, or 422 for a failed test of a JSON patch.
    #[error("{what} has changed since it was read; it is read again")]
    Conflict {
        /// The object.
        what: String,
    },
    /// We lack the right.
    #[error("not allowed to write {what}; {say}")]
    Forbidden {
        /// The object.
        what: String,
        /// What a person types to grant it.
        say: String,
    },
    /// The object is not there.
    #[error("{what} is gone; it is looked for again")]
    Gone {
        /// The object.
        what: String,
    },
    /// Admission, quota or validation said no; its own words say what to do.
    #[error("{what} was refused: {message}")]
    Refused {
        /// The object.
        what: String,
        /// What the API server said.
        message: String,
    },
    /// No answer in time, or too busy to give one. The write may have happened all the same.
    #[error("the API server did not answer in time about {what}; it is tried again")]
    Slow {
        /// The object.
        what: String,
    },
    /// The lead is over.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    /// Anything else.
    #[error("the API server failed on {what}; it is tried again")]
    Other {
        /// The object.
        what: String,
        /// How.
        #[source]
        source: Box<kube::Error>,
    },
}

/// When it is worth trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// With a fresh look, at once.
    AtOnce,
    /// After a while that grows.
    Backoff,
    /// When a person or the cluster has changed something; look now and then.
    Later,
    /// Not by this process.
    Never,
}

impl ActError {
    /// When it is worth trying again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Conflict { .. } | Self::Gone { .. } => Retry::AtOnce,
            Self::Slow { .. } | Self::Other { .. } => Retry::Backoff,
            Self::Forbidden { .. } | Self::Refused { .. } => Retry::Later,
            Self::NotLeading(_) => Retry::Never,
        }
    }

    /// One word for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "conflict",
            Self::Forbidden { .. } => "forbidden",
            Self::Gone { .. } => "gone",
            Self::Refused { .. } => "refused",
            Self::Slow { .. } => "slow",
            Self::NotLeading(_) => "not_leading",
            Self::Other { .. } => "other",
        }
    }

    /// A conflict about an object.
    pub(super) fn conflict(what: &str) -> Self {
        Self::Conflict { what: what.to_owned() }
    }

    /// What an answer of the API server means.
    pub(super) fn of(what: &str, namespace: &str, error: kube::Error) -> Self {
        let what = what.to_owned();
        let kube::Error::Api(status) = &error else { return Self::Other { what, source: Box::new(error) } };
        let message = status.message.clone();
        match status.code {
            409 => Self::Conflict { what },
            404 => Self::Gone { what },
            // A failed `test` has no causes (seen on 1.34: `"details": {}`); an invalid object names its fields.
            422 if status.details.as_ref().is_none_or(|d| d.causes.is_empty() && d.kind.is_empty()) => Self::Conflict { what },
            401 => Self::Forbidden { what, say: "the API server does not accept Haldane's token; restart its pod".to_owned() },
            // Rights and admission share the code; only a lack of rights says `User "…" cannot patch resource "…"`.
            403 if message.contains(" cannot ") && message.contains(" resource ") => Self::Forbidden { what, say: grant(namespace) },
            400 | 403 | 413 | 422 => Self::Refused { what, message },
            408 | 429 | 503 | 504 => Self::Slow { what },
            _ => Self::Other { what, source: Box::new(error) },
        }
    }
}

fn grant(namespace: &str) -> String {
    crate::model::decision::Reason::NotGranted { namespace: namespace.to_owned() }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, message: &str, details: Option<&str>) -> ActError {
        let mut status = kube::core::Status::failure(message, "x").with_code(code);
        status.details = details.map(|d| serde_json::from_str(d).unwrap());
        ActError::of("Service shop", "shop", kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn a_failed_test_is_a_conflict_and_an_invalid_object_is_told() {
        assert_eq!(answer(422, "the server rejected our request due to an error in our request", Some("{}")).label(), "conflict");
        let invalid = r#"{"name":"d","kind":"Deployment","causes":[{"reason":"FieldValueRequired","message":"Required value","field":"spec.template"}]}"#;
        assert_eq!(answer(422, "Deployment.apps \"d\" is invalid", Some(invalid)).label(), "refused");
        assert_eq!(answer(409, "", None).label(), "conflict");
    }

    #[test]
    fn a_lack_of_rights_says_how_to_grant_them_and_a_quota_speaks_for_itself() {
        let rights = answer(403, r#"services "s" is forbidden: User "haldane" cannot patch resource "services" in API group """#, None);
        assert!(rights.to_string().contains("kubectl create rolebinding"), "{rights}");
        let quota = answer(403, "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1", None);
        assert!(quota.to_string().contains("exceeded quota"), "{quota}");
    }

    #[test]
    fn each_kind_of_failure_has_its_own_next_step() {
        let cases = [(409, Retry::AtOnce), (404, Retry::AtOnce), (403, Retry::Later), (429, Retry::Backoff), (500, Retry::Backoff)];
        for (code, retry) in cases {
            assert_eq!(answer(code, "", None).retry(), retry, "{code}");
        }
    }
}
