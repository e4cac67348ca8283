//! The kinds that this server knows, and the name of one stored object.

use std::fmt;

/// One resource of the API, as discovery tells it.
///
/// `status`: has a status subresource, so a write of the object leaves the status alone and the other way round.
/// `generation`: `metadata.generation` counts the changes of its spec.
#[allow(clippy::struct_field_names, reason = "`kind` is what the API calls it")]
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub group: &'static str,
    pub plural: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    pub status: bool,
    pub generation: bool,
}

const fn row(group: &'static str, plural: &'static str, version: &'static str, kind: &'static str) -> Kind {
    Kind { group, plural, version, kind, namespaced: true, status: false, generation: false }
}

/// With a status and a counted spec: most kinds that a controller drives.
const fn driven(group: &'static str, plural: &'static str, version: &'static str, kind: &'static str) -> Kind {
    Kind { status: true, generation: true, ..row(group, plural, version, kind) }
}

const OURS: &str = "haldane.dev";
pub const ROUTING: &str = "gateway.networking.k8s.io";

pub static POD: Kind = driven("", "pods", "v1", "Pod");
pub static SERVICE: Kind = Kind { status: true, ..row("", "services", "v1", "Service") };
pub static NAMESPACE: Kind = Kind { namespaced: false, status: true, ..row("", "namespaces", "v1", "Namespace") };
pub static DEPLOYMENT: Kind = driven("apps", "deployments", "v1", "Deployment");
pub static REPLICA_SET: Kind = driven("apps", "replicasets", "v1", "ReplicaSet");
pub static CONTROLLER_REVISION: Kind = row("apps", "controllerrevisions", "v1", "ControllerRevision");
pub static ENDPOINT_SLICE: Kind = row("discovery.k8s.io", "endpointslices", "v1", "EndpointSlice");
pub static LEASE: Kind = row("coordination.k8s.io", "leases", "v1", "Lease");
pub static EVENT: Kind = row("", "events", "v1", "Event");
pub static NEW_EVENT: Kind = row("events.k8s.io", "events", "v1", "Event");
pub static DELIVERY: Kind = driven(OURS, "deliveries", "v1alpha1", "Delivery");
pub static RELEASE: Kind = driven(OURS, "releases", "v1alpha1", "Release");
pub static HTTP_ROUTE: Kind = driven(ROUTING, "httproutes", "v1", "HTTPRoute");
pub static GRPC_ROUTE: Kind = driven(ROUTING, "grpcroutes", "v1", "GRPCRoute");
pub static GATEWAY: Kind = driven(ROUTING, "gateways", "v1", "Gateway");
pub static GATEWAY_CLASS: Kind = Kind { namespaced: false, ..driven(ROUTING, "gatewayclasses", "v1", "GatewayClass") };
pub static CRD: Kind =
    Kind { namespaced: false, ..driven("apiextensions.k8s.io", "customresourcedefinitions", "v1", "CustomResourceDefinition") };
/// Asked, never stored.
pub static ACCESS_REVIEW: Kind =
    Kind { namespaced: false, ..row("authorization.k8s.io", "selfsubjectaccessreviews", "v1", "SelfSubjectAccessReview") };

static SECRET: Kind = row("", "secrets", "v1", "Secret");
static CONFIG_MAP: Kind = row("", "configmaps", "v1", "ConfigMap");
static PROBE: Kind = driven(OURS, "productionprobes", "v1alpha1", "ProductionProbe");
pub static PROBE_RUN: Kind = driven(OURS, "proberuns", "v1alpha1", "ProbeRun");
static POLICY: Kind = driven(OURS, "deliverypolicies", "v1alpha1", "DeliveryPolicy");
static HOLD: Kind = driven(OURS, "holds", "v1alpha1", "Hold");
static COMMAND: Kind = driven(OURS, "commands", "v1alpha1", "Command");
/// Stored only: nothing in this world runs it.
pub static CRON_JOB: Kind = driven("batch", "cronjobs", "v1", "CronJob");
/// Stored and watched only: nothing in this world acts on these three.
static AUTOSCALER: Kind = driven("autoscaling", "horizontalpodautoscalers", "v2", "HorizontalPodAutoscaler");
static JOB: Kind = driven("batch", "jobs", "v1", "Job");
static BUDGET: Kind = driven("policy", "poddisruptionbudgets", "v1", "PodDisruptionBudget");
/// Listed only.
static NETWORK_POLICY: Kind = row("networking.k8s.io", "networkpolicies", "v1", "NetworkPolicy");

/// Every kind of the server.
pub static KINDS: [&Kind; 30] = [
    &POD,
    &SERVICE,
    &NAMESPACE,
    &DEPLOYMENT,
    &REPLICA_SET,
    &CONTROLLER_REVISION,
    &ENDPOINT_SLICE,
    &LEASE,
    &EVENT,
    &NEW_EVENT,
    &DELIVERY,
    &RELEASE,
    &CRD,
    &ACCESS_REVIEW,
    &SECRET,
    &CONFIG_MAP,
    &PROBE,
    &PROBE_RUN,
    &POLICY,
    &HOLD,
    &COMMAND,
    &AUTOSCALER,
    &BUDGET,
    &NETWORK_POLICY,
    &JOB,
    &CRON_JOB,
    &HTTP_ROUTE,
    &GRPC_ROUTE,
    &GATEWAY,
    &GATEWAY_CLASS,
];

impl Kind {
    /// The kind behind a path of the API.
    pub fn of_path(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
        KINDS.into_iter().find(|k| k.group == group && k.version == version && k.plural == plural)
    }

    /// The kind that a manifest names.
    pub fn of_manifest(manifest: &serde_json::Value) -> Option<&'static Kind> {
        let (version, kind) = (super::super::json::text(manifest, "/apiVersion"), super::super::json::text(manifest, "/kind"));
        KINDS.into_iter().find(|k| k.api_version() == version && k.kind == kind)
    }

    /// The kind with that plural; the first group wins, as `kubectl get` does it.
    pub fn of_plural(plural: &str) -> &'static Kind {
        KINDS.into_iter().find(|k| k.plural == plural).unwrap_or_else(|| panic!("the simulated server has no {plural}"))
    }

    /// As `apiVersion` has it.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `deployments.apps`, as messages of the server have it.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// A kind that a CRD defines: stricter about updates, and items of a list carry their type.
    pub fn is_custom(&self) -> bool {
        self.group == OURS || self.group == ROUTING
    }

    /// A route of the Gateway API that this world serves.
    pub fn routes(&self) -> bool {
        self == &HTTP_ROUTE || self == &GRPC_ROUTE
    }

    /// Whether `/scale` is served.
    pub fn scales(&self) -> bool {
        self == &DEPLOYMENT || self == &REPLICA_SET
    }
}

/// Names one stored object. Ordered, because every walk over the store must be the same in every run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub kind: &'static Kind,
    pub namespace: String,
    pub name: String,
}

impl Key {
    /// For a cluster-wide kind the namespace is "".
    pub fn new(kind: &'static Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.namespaced { namespace.to_owned() } else { String::new() };
        Self { kind, namespace, name: name.to_owned() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.resource(), self.namespace, self.name)
    }
}
