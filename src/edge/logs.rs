//! Opens the log of a container, as the kubelet hands it out by the API server. Nothing is read here.

use futures::{AsyncBufRead, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::LogParams};
use tokio::time::timeout;

use super::kube::{KubeError, LIMIT};

/// Lines, each with its time before it, until the container or the connection ends.
pub type Lines = Box<dyn AsyncBufRead + Send + Unpin>;

/// Which part of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// So many bytes from its beginning.
    Head(u32),
    /// So many of its last lines.
    Tail(u32),
    /// What was written from then on (all, where no time is given), and what is written from now on.
    From(Option<Timestamp>),
    /// What the container wrote from then on before it was started again.
    Before(Option<Timestamp>, u32),
}

/// Whose log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose<'a> {
    /// Where it lives.
    pub namespace: &'a str,
    /// The pod.
    pub pod: &'a str,
    /// The container; none: its only one.
    pub container: Option<&'a str>,
}

/// Why a log cannot be read, in a few words that go on "its log …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The container has not started yet.
    #[error("is not there yet: its container has not started")]
    NotStarted,
    /// 401 or 403.
    #[error(
        "cannot be read: the API server refuses it; Haldane needs get on pods/log in this namespace: update its chart (ClusterRole haldane-delivery)"
    )]
    Refused,
    /// No answer in time.
    #[error("cannot be read: no answer within {} s; is the kubelet of its node there?", LIMIT.as_secs())]
    Slow,
    /// Anything else.
    #[error("cannot be read: {said}")]
    Other {
        /// In the words of the API server.
        said: String,
    },
}

/// Opens logs. The tests have one of their own.
pub trait PodLogs: Send + Sync {
    /// Opens this part of a log.
    fn open<'a>(&'a self, whose: Whose<'a>, part: Part) -> BoxFuture<'a, Result<Lines, LogError>>;
}

impl PodLogs for Client {
    fn open<'a>(&'a self, whose: Whose<'a>, part: Part) -> BoxFuture<'a, Result<Lines, LogError>> {
        let api: Api<Pod> = Api::namespaced(self.clone(), whose.namespace);
        let params = params(whose.container, part);
        Box::pin(async move {
            match timeout(LIMIT, api.log_stream(whose.pod, &params)).await {
                Ok(Ok(lines)) => Ok(Box::new(Box::pin(lines)) as Lines),
                Ok(Err(error)) => Err(LogError::from(KubeError::new("read the log".to_owned(), error))),
                Err(_) => Err(LogError::Slow),
            }
        })
    }
}

fn params(container: Option<&str>, part: Part) -> LogParams {
    let params = LogParams { container: container.map(str::to_owned), timestamps: true, ..LogParams::default() };
    match part {
        Part::Head(bytes) => LogParams { limit_bytes: Some(bytes.into()), ..params },
        Part::Tail(lines) => LogParams { tail_lines: Some(lines.into()), ..params },
        Part::From(since) => LogParams { follow: true, since_time: since, ..params },
        Part::Before(since, bytes) => LogParams { previous: true, since_time: since, limit_bytes: Some(bytes.into()), ..params },
    }
}

impl From<KubeError> for LogError {
    fn from(error: KubeError) -> Self {
        match error {
            KubeError::Refused { .. } => Self::Refused,
            KubeError::Slow { .. } => Self::Slow,
            // The kubelet's own words for it, through the API server.
            KubeError::Invalid { said, .. } if said.contains("is waiting to start") || said.contains("ContainerCreating") => {
                Self::NotStarted
            }
            KubeError::Invalid { said, .. } | KubeError::Busy { said, .. } | KubeError::Conflict { said, .. } => Self::Other { said },
            other @ (KubeError::Absent { .. } | KubeError::Unreadable { .. } | KubeError::Unreachable { .. }) => {
                Self::Other { said: other.to_string() }
            }
        }
    }
}

/// Logs that nobody may read.
#[cfg(test)]
pub(crate) struct NoLogs;

#[cfg(test)]
impl PodLogs for NoLogs {
    fn open<'a>(&'a self, _: Whose<'a>, _: Part) -> BoxFuture<'a, Result<Lines, LogError>> {
        Box::pin(async { Err(LogError::Refused) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_asked_for_with_times_and_only_what_goes_on_is_followed() {
        let since = Timestamp::from_second(1).ok();
        for (part, follow, previous) in [
            (Part::Head(9), false, false),
            (Part::Tail(9), false, false),
            (Part::From(since), true, false),
            (Part::Before(since, 9), false, true),
        ] {
            let params = params(Some("app"), part);
            assert_eq!((params.timestamps, params.follow, params.previous), (true, follow, previous), "{part:?}");
            assert_eq!(params.container.as_deref(), Some("app"));
        }
    }

    #[test]
    fn what_keeps_a_log_from_being_read_says_what_to_do() {
        let call = || "read the log".to_owned();
        let refused = LogError::from(KubeError::Refused { call: call(), said: "forbidden".to_owned() });
        assert!(refused.to_string().contains("get on pods/log"), "{refused}");
        let said = "container \"app\" in pod \"shop-1\" is waiting to start: ContainerCreating".to_owned();
        assert_eq!(LogError::from(KubeError::Invalid { call: call(), said }), LogError::NotStarted);
        let said = "container nope is not valid for pod shop-1".to_owned();
        assert_eq!(
            LogError::from(KubeError::Invalid { call: call(), said }).to_string(),
            "cannot be read: container nope is not valid for pod shop-1"
        );
    }
}
