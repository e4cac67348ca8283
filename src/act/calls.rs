//! The calls to the API server: each asks for the lead first, has a time limit, is made once, and speaks JSON as it is
//! stored, so that a field newer than our types is never lost.

use std::time::Duration;

use kube::{
    api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions},
    core::Request,
};
use serde_json::Value;

use super::{error::ActError, patch::Ops};
use crate::{
    api::FIELD_MANAGER,
    control::lease::LeaderProof,
    edge::kube::Cluster,
    model::route::{RouteKind, RouteName},
};

/// For one call.
const LIMIT: Duration = Duration::from_secs(10);

/// The kinds that we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Deployment,
    Job,
    CronJob,
    Service,
    HttpRoute,
    GrpcRoute,
    ControllerRevision,
    Delivery,
    Policy,
    Release,
    Command,
    ProbeRun,
    Event,
}

impl Kind {
    pub(super) fn of_route(route: &RouteName) -> Self {
        match route.kind {
            RouteKind::HTTPRoute => Self::HttpRoute,
            RouteKind::GRPCRoute => Self::GrpcRoute,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
            Self::Service => "Service",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::ControllerRevision => "ControllerRevision",
            Self::Delivery => "Delivery",
            Self::Policy => "DeliveryPolicy",
            Self::Release => "Release",
            Self::Command => "Command",
            Self::ProbeRun => "ProbeRun",
            Self::Event => "Event",
        }
    }

    /// Group and version as in the path, and the plural.
    fn resource(self) -> (&'static str, &'static str) {
        match self {
            Self::Deployment => ("apis/apps/v1", "deployments"),
            Self::Job => ("apis/batch/v1", "jobs"),
            Self::CronJob => ("apis/batch/v1", "cronjobs"),
            Self::Service => ("api/v1", "services"),
            Self::HttpRoute => ("apis/gateway.networking.k8s.io/v1", "httproutes"),
            Self::GrpcRoute => ("apis/gateway.networking.k8s.io/v1", "grpcroutes"),
            Self::ControllerRevision => ("apis/apps/v1", "controllerrevisions"),
            Self::Delivery => ("apis/haldane.dev/v1alpha1", "deliveries"),
            Self::Policy => ("apis/haldane.dev/v1alpha1", "deliverypolicies"),
            Self::Release => ("apis/haldane.dev/v1alpha1", "releases"),
            Self::Command => ("apis/haldane.dev/v1alpha1", "commands"),
            Self::ProbeRun => ("apis/haldane.dev/v1alpha1", "proberuns"),
            Self::Event => ("apis/events.k8s.io/v1", "events"),
        }
    }

    fn path(self, namespace: &str) -> String {
        let (group, plural) = self.resource();
        format!("/{group}/namespaces/{namespace}/{plural}")
    }
}

/// The API of one namespace, while we lead.
#[derive(Clone, Copy)]
pub(super) struct Calls<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) namespace: &'a str,
    pub(super) proof: &'a LeaderProof,
}

type Built = Result<http::Request<Vec<u8>>, kube::core::request::Error>;

impl Calls<'_> {
    fn request(&self, kind: Kind) -> Request {
        Request::new(kind.path(self.namespace))
    }

    async fn send(&self, kind: Kind, what: &str, request: Built) -> Result<Value, ActError> {
        self.proof.ensure()?;
        let failed = |error| ActError::of(what, self.namespace, error);
        let request = request.map_err(|error| failed(kube::Error::BuildRequest(error)))?;
        match tokio::time::timeout(LIMIT, self.cluster.client.request::<Value>(request)).await {
            Ok(answer) => {
                let answer = answer.map_err(failed)?;
                self.cluster.note(kind.resource().1, answer.pointer("/metadata/resourceVersion").and_then(Value::as_str));
                Ok(answer)
            }
            Err(_) => Err(ActError::Slow { what: what.to_owned() }),
        }
    }

    /// An object as it is now.
    pub(super) async fn get(&self, kind: Kind, name: &str) -> Result<Value, ActError> {
        self.send(kind, &what(kind, name), self.request(kind).get(name, &GetParams::default())).await
    }

    /// A JSON patch; the object as it is after it.
    pub(super) async fn patch(&self, kind: Kind, name: &str, ops: Ops) -> Result<Value, ActError> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.send(kind, &what(kind, name), self.request(kind).patch(name, &params, &Patch::<()>::Json(ops.build()))).await
    }

    /// A JSON patch of the status, in which an unknown field is an error and not lost in silence.
    pub(super) async fn patch_status(&self, kind: Kind, name: &str, ops: Ops) -> Result<Value, ActError> {
        let patch = Patch::<()>::Json(ops.build());
        self.send(kind, &what(kind, name), self.request(kind).patch_subresource("status", name, &strict(), &patch)).await
    }

    /// A merge patch of the status.
    pub(super) async fn merge_status(&self, kind: Kind, name: &str, status: &Value) -> Result<Value, ActError> {
        let patch = Patch::Merge(serde_json::json!({ "status": status }));
        self.send(kind, &what(kind, name), self.request(kind).patch_subresource("status", name, &strict(), &patch)).await
    }

    /// Makes an object; true if it was made, false if one of that name is there.
    pub(super) async fn create(&self, kind: Kind, name: &str, object: &Value) -> Result<bool, ActError> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.send(kind, &what(kind, name), self.request(kind).create(&params, object.to_string().into_bytes())).await {
            Ok(_) => Ok(true),
            Err(ActError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes an object and, in the background, what it owns. One that is not there is deleted.
    pub(super) async fn delete(&self, kind: Kind, name: &str, uid: Option<&str>) -> Result<(), ActError> {
        let preconditions = uid.map(|uid| Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::background() };
        match self.send(kind, &what(kind, name), self.request(kind).delete(name, &params)).await {
            Ok(_) | Err(ActError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn strict() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }.validation_strict()
}

/// How messages name an object.
pub(super) fn what(kind: Kind, name: &str) -> String {
    format!("{} {name}", kind.name())
}

/// A text at a place in an object; empty if it is not there.
pub(super) fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
