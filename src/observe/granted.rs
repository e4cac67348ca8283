//! Whether a namespace has opted in: may we patch its Deployments, and its `CronJobs`? Asked of the API server, remembered for a short while.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};

use crate::{
    edge::kube::{KubeError, within},
    model::phase::after,
};

/// A right that is taken away shows at the next write anyway.
const ALLOWED: Duration = Duration::from_mins(1);
/// Somebody who has just opted in should not wait long.
const REFUSED: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Right {
    /// To patch Deployments: the namespace has opted in.
    Deployments,
    /// To patch `CronJobs`.
    CronJobs,
}

impl Right {
    /// The group, and the plural.
    fn resource(self) -> (&'static str, &'static str) {
        match self {
            Self::Deployments => ("apps", "deployments"),
            Self::CronJobs => ("batch", "cronjobs"),
        }
    }
}

/// The answers so far.
#[derive(Default)]
pub(super) struct Granted {
    known: Mutex<HashMap<(String, Right), (bool, Timestamp)>>,
}

impl Granted {
    /// Whether we have that right there.
    pub(super) async fn ask(&self, client: &Client, namespace: &str, right: Right, now: Timestamp) -> Result<bool, KubeError> {
        let key = (namespace.to_owned(), right);
        if let Some(known) = self.known(&key, now) {
            return Ok(known);
        }
        let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
        let call = format!("ask whether {} of namespace {namespace} may be patched", right.resource().1);
        let answer = within(call, api.create(&PostParams::default(), &question(namespace, right))).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        self.keep(key, allowed, now);
        Ok(allowed)
    }

    fn known(&self, key: &(String, Right), now: Timestamp) -> Option<bool> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(_, until)| now < *until).map(|(allowed, _)| *allowed)
    }

    fn keep(&self, key: (String, Right), allowed: bool, now: Timestamp) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Namespaces come and go; what is over is dropped here, so that the map stays as small as the cluster.
        known.retain(|_, (_, until)| now < *until);
        known.insert(key, (allowed, after(now, if allowed { ALLOWED } else { REFUSED })));
    }
}

fn question(namespace: &str, right: Right) -> SelfSubjectAccessReview {
    let (group, resource) = right.resource();
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some("patch".to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..SelfSubjectAccessReviewSpec::default() };
    SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_forgotten_sooner_than_a_grant() {
        let granted = Granted::default();
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let of = |namespace: &str| (namespace.to_owned(), Right::Deployments);
        granted.keep(of("yes"), true, at(0));
        granted.keep(of("no"), false, at(0));
        let known = |second: i64| (granted.known(&of("yes"), at(second)), granted.known(&of("no"), at(second)));
        assert_eq!(known(9), (Some(true), Some(false)));
        assert_eq!(known(10), (Some(true), None));
        assert_eq!(known(60), (None, None));
        assert_eq!(granted.known(&("yes".to_owned(), Right::CronJobs), at(0)), None, "each right is asked for by itself");
    }
}
