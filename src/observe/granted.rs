//! Whether a namespace has opted in: may we patch its Deployments? Asked of the API server, remembered for a short while.

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

/// The answers so far.
#[derive(Default)]
pub(super) struct Granted {
    known: Mutex<HashMap<String, (bool, Timestamp)>>,
}

impl Granted {
    /// Whether we may change Deployments there.
    pub(super) async fn ask(&self, client: &Client, namespace: &str, now: Timestamp) -> Result<bool, KubeError> {
        if let Some(known) = self.known(namespace, now) {
            return Ok(known);
        }
        let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
        let call = format!("ask whether Deployments of namespace {namespace} may be patched");
        let answer = within(call, api.create(&PostParams::default(), &question(namespace))).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        self.keep(namespace, allowed, now);
        Ok(allowed)
    }

    fn known(&self, namespace: &str, now: Timestamp) -> Option<bool> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(namespace).filter(|(_, until)| now < *until).map(|(allowed, _)| *allowed)
    }

    fn keep(&self, namespace: &str, allowed: bool, now: Timestamp) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Namespaces come and go; what is over is dropped here, so that the map stays as small as the cluster.
        known.retain(|_, (_, until)| now < *until);
        known.insert(namespace.to_owned(), (allowed, after(now, if allowed { ALLOWED } else { REFUSED })));
    }
}

fn question(namespace: &str) -> SelfSubjectAccessReview {
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some("patch".to_owned()),
        group: Some("apps".to_owned()),
        resource: Some("deployments".to_owned()),
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
        granted.keep("yes", true, at(0));
        granted.keep("no", false, at(0));
        let known = |second: i64| (granted.known("yes", at(second)), granted.known("no", at(second)));
        assert_eq!(known(9), (Some(true), Some(false)));
        assert_eq!(known(10), (Some(true), None));
        assert_eq!(known(60), (None, None));
    }
}
