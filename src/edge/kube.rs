//! Calls to the API server: a time limit on every one, and one kind of error for reads and writes alike.
//!
//! Deliberately absent: retries. A reconcile that fails is run again with fresh reads; a call that is repeated below it
//! would act on what was true before (the client is built without retries of its own for the same reason).

use std::{fmt::Debug, time::Duration};

use kube::{Api, Resource, api::ListParams, core::Status};
use serde::de::DeserializeOwned;

/// For one call. The API server itself gives up on a read after 60 s; an answer that takes 10 s is as good as none to a
/// rollout that must be able to turn back within 15 s.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Invalid input has other words: `Deployment.apps "x" is invalid: spec…`.
const PATCH_FAILED: &str = "the server rejected our request due to an error in our request";

/// Why the API server did not do what was asked. Names the call and says what a person can do.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// No answer in time.
    #[error("{call}: the API server did not answer within {limit:?}")]
    Slow {
        /// What was asked.
        call: String,
        /// For how long we waited.
        limit: Duration,
    },
    /// 401 or 403.
    #[error("{call}: the API server refuses it ({said}); give the ServiceAccount of Haldane the right by its ClusterRole or RoleBinding")]
    Refused {
        /// What was asked.
        call: String,
        /// Its words.
        said: String,
    },
    /// 404.
    #[error("{call}: it does not exist (any more)")]
    Absent {
        /// What was asked.
        call: String,
    },
    /// 409, or a `test` of a JSON patch that failed: somebody wrote in between.
    #[error("{call}: somebody else wrote in between ({said})")]
    Conflict {
        /// What was asked.
        call: String,
        /// Its words.
        said: String,
    },
    /// Any other 4xx.
    #[error("{call}: the API server finds it invalid ({said})")]
    Invalid {
        /// What was asked.
        call: String,
        /// Its words.
        said: String,
    },
    /// 429 or 5xx.
    #[error("{call}: the API server is overloaded or ill ({code}: {said})")]
    Busy {
        /// What was asked.
        call: String,
        /// Of HTTP.
        code: u16,
        /// Its words.
        said: String,
    },
    /// The answer is not what our types say.
    #[error("{call}: the answer cannot be read ({said}); are the CustomResourceDefinitions those of this version?")]
    Unreadable {
        /// What was asked.
        call: String,
        /// Where it does not fit.
        said: String,
    },
    /// No connection.
    #[error("{call}: the API server cannot be reached")]
    Unreachable {
        /// What was asked.
        call: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Read again at once and decide anew.
    Fresh,
    /// Read again after a pause that grows.
    Later,
    /// It will not heal by asking again soon: a person must act.
    Person,
}

impl KubeError {
    /// A failed call as one of ours.
    #[must_use]
    pub fn new(call: impl Into<String>, error: kube::Error) -> Self {
        let call = call.into();
        match error {
            kube::Error::Api(status) => Self::answered(call, &status),
            kube::Error::SerdeError(said) => Self::Unreadable { call, said: said.to_string() },
            other => Self::Unreachable { call, source: Box::new(other) },
        }
    }

    fn answered(call: String, status: &Status) -> Self {
        let said = status.message.clone();
        match status.code {
            401 | 403 => Self::Refused { call, said },
            404 => Self::Absent { call },
            409 => Self::Conflict { call, said },
            // What it says when a JSON patch does not apply (a `test` that fails, a path that is gone): it never says which.
            422 if said.contains(PATCH_FAILED) => Self::Conflict { call, said },
            code @ (429 | 500..=599) => Self::Busy { call, code, said },
            _ => Self::Invalid { call, said },
        }
    }

    /// One word, for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Slow { .. } => "slow",
            Self::Refused { .. } => "refused",
            Self::Absent { .. } => "absent",
            Self::Conflict { .. } => "conflict",
            Self::Invalid { .. } => "invalid",
            Self::Busy { .. } => "busy",
            Self::Unreadable { .. } => "unreadable",
            Self::Unreachable { .. } => "unreachable",
        }
    }

    /// Whether and when to look again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            // Both mean that the world is not as it was read.
            Self::Conflict { .. } | Self::Absent { .. } => Retry::Fresh,
            Self::Slow { .. } | Self::Busy { .. } | Self::Unreachable { .. } => Retry::Later,
            Self::Refused { .. } | Self::Invalid { .. } | Self::Unreadable { .. } => Retry::Person,
        }
    }
}

/// One call with the time limit.
///
/// # Errors
/// As [`KubeError`] has them.
pub async fn within<T>(call: impl Into<String>, future: impl Future<Output = kube::Result<T>>) -> Result<T, KubeError> {
    let call = call.into();
    match tokio::time::timeout(LIMIT, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(KubeError::new(call, error)),
        Err(_) => Err(KubeError::Slow { call, limit: LIMIT }),
    }
}

/// One object as it is now; none: it is not there.
///
/// # Errors
/// As [`KubeError`] has them, `Absent` excepted.
pub async fn get<K>(api: &Api<K>, what: &str, name: &str) -> Result<Option<K>, KubeError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    within(format!("read {what} {name}"), api.get_opt(name)).await
}

/// Every object that fits these labels (a selector; empty: all), as they are now. No `resourceVersion` is given, so that the
/// API server answers from the quorum and never from an old cache.
///
/// # Errors
/// As [`KubeError`] has them.
pub async fn list<K>(api: &Api<K>, what: &str, labels: &str) -> Result<Vec<K>, KubeError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let call = if labels.is_empty() { format!("list {what}") } else { format!("list {what} with {labels}") };
    let all = ListParams { label_selector: Some(labels.to_owned()).filter(|l| !l.is_empty()), ..ListParams::default() };
    within(call, api.list(&all)).await.map(|list| list.items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: u16, message: &str) -> KubeError {
        let status = Status::failure(message, "").with_code(code).boxed();
        KubeError::new("patch Deployment shop", kube::Error::Api(status))
    }

    #[test]
    fn a_failed_test_of_a_patch_is_a_conflict_and_not_invalid_input() {
        let failed = "the server rejected our request due to an error in our request";
        for (code, message, label, retry) in [
            (422, failed, "conflict", Retry::Fresh),
            (422, "Deployment.apps \"shop\" is invalid: spec.replicas: Invalid value: -1", "invalid", Retry::Person),
            (409, "the object has been modified", "conflict", Retry::Fresh),
            (404, "not found", "absent", Retry::Fresh),
            (403, "forbidden", "refused", Retry::Person),
            (429, "too many requests", "busy", Retry::Later),
            (503, "etcd leader changed", "busy", Retry::Later),
        ] {
            let error = answered(code, message);
            assert_eq!((error.label(), error.retry()), (label, retry), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_waits_for_ever() {
        let never = std::future::pending::<kube::Result<()>>();
        assert_eq!(within("read Pod a", never).await.unwrap_err().label(), "slow");
    }
}
