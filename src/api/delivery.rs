//! `Delivery`: how one app is delivered. What users write; its status is in [`super::status`].

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{duration::Span, status::DeliveryStatus, verify::Verify};

/// A name that went would leave a gate closed, and in mid-rollout a canary, that nobody looks after any more; one that came
/// would have nothing proven to stand on. Before anything is adopted a wrong name can be put right.
const SAME_WORKLOADS: &str = "!has(oldSelf.status) || !has(oldSelf.status.gated) || size(oldSelf.status.gated) == 0 || \
    (size(self.spec.workloads) == size(oldSelf.spec.workloads) && self.spec.workloads.all(w, oldSelf.spec.workloads.exists(o, o.name == w.name)))";

/// What runs before a version is suspended and never runs by itself.
const ONE_PART: &str = "!has(self.spec.cronJobs) || !has(self.spec.rollout) || !has(self.spec.rollout.before) || \
    self.spec.cronJobs.all(c, !self.spec.rollout.before.exists(b, b.cronJobRef.name == c.name))";

/// How one app is delivered: its workloads, where new versions come from, how they roll out, and what checks them.
///
/// The smallest is `workloads: [{name: checkout}]`: every change of that Deployment's template rides a canary.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "haldane.dev",
    version = "v1alpha1",
    kind = "Delivery",
    plural = "deliveries",
    shortname = "dlv",
    namespaced,
    status = "DeliveryStatus",
    derive = "PartialEq",
    validation = Rule::new("size(self.metadata.name) <= 40").message("metadata.name: at most 40 characters, so that the names of Releases and canaries fit"),
    validation = Rule::new("!has(self.spec.config) || (has(self.spec.source) && has(self.spec.source.github))").message("spec.config: a file of the repository that spec.source.github names"),
    validation = Rule::new(ONE_PART).message("spec.cronJobs: what runs before a version has its image already; take it out of spec.cronJobs or out of spec.rollout.before"),
    validation = Rule::new(SAME_WORKLOADS).message("spec.workloads: their Deployments are gated, so their names stay as they are; to deliver others, delete this Delivery, which opens the gates, and make it anew"),
    printcolumn = r#"{"name":"Desired","type":"string","jsonPath":".status.desired.version"}"#,
    printcolumn = r#"{"name":"Live","type":"string","jsonPath":".status.live.version"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Weight","type":"integer","jsonPath":".status.rollout.weight.served"}"#,
    printcolumn = r#"{"name":"Verified","type":"string","jsonPath":".status.conditions[?(@.type==\"Verified\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason"}"#,
    printcolumn = r#"{"name":"Since","type":"date","jsonPath":".status.since"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Commit","type":"string","priority":1,"jsonPath":".status.desired.commit"}"#,
    printcolumn = r#"{"name":"Back","type":"string","priority":1,"jsonPath":".status.wayBack.version"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.message"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct DeliverySpec {
    /// Whether it delivers, or only says what it would do. Default Deliver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The DeliveryPolicy of this namespace that it goes by. Default: the one called default, if there is one. The one called default in
    /// Haldane's own namespace binds it besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_ref: Option<PolicyRef>,
    /// The workloads of this app, 1 to 8; the order is the order of rolling. All of them get a new version, or none.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub workloads: Vec<WorkloadRef>,
    /// CronJobs of this app, at most 8, which take the image of a version when it goes live: at the end of its rollout, in one write of
    /// nothing else. One that is taken back before that never touches them; one that is taken back afterwards gives them back the image of
    /// before. Runs that have begun end as they are. A CronJob has no gate: whoever writes another image into it has it run at its next
    /// time, proven or not. That is told, and left so until the next version goes live; so ship by the Deployment or by a source, and leave
    /// these images to Haldane. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub cron_jobs: Vec<CronJobSpec>,
    /// Where new versions come from. Absent: the workload's own template, as kubectl, Helm or GitOps write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// How a new version takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,
    /// What judges a new version, and production at rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// What the app's own repository may set, by a file in it. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigSpec>,
}

/// Deliver (the default): changes ride a canary. Observe: nothing is written but the status, which says what would be done; a version on
/// its way goes back first, and the gates are opened.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Changes ride a canary.
    #[default]
    Deliver,
    /// Nothing is written but the status.
    Observe,
}

/// A DeliveryPolicy of this namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRef {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: String,
}

/// A file in the app's repository that sets how its versions are delivered. It is read at the commit of each version and has the
/// form of this spec: `rollout.steps`, `verify.probes`. A version whose file is broken, or sets what is not allowed, is Refused.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigSpec {
    /// Where it lies. Default `.haldane.yaml`. Without such a file a version is delivered as this Delivery says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$"))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(part, part == '.' || part == '..')").message("path: from the root of the repository, without . and .."))]
    pub path: Option<String>,
    /// What it may set. Steps: `rollout.steps`, in place of those of this Delivery. Probes: `verify.probes`, besides those of this
    /// Delivery.
    #[schemars(length(min = 1, max = 2))]
    pub allow: Vec<Allowed>,
}

/// What a file in the app's repository may set. Steps: `rollout.steps`. Probes: `verify.probes`.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Allowed {
    /// `rollout.steps`, in place of the Delivery's.
    Steps,
    /// `verify.probes`, besides the Delivery's.
    Probes,
}

/// One workload of the app.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// What it is. Default Deployment.
    #[serde(default)]
    pub kind: WorkloadKind,
    /// Its name in this namespace.
    #[schemars(length(min = 1, max = 52), regex(pattern = NAME))]
    pub name: String,
    /// The containers and init containers whose image the source sets. Default: all that use the repository of the
    /// released image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub containers: Vec<String>,
    /// The Service that is measured and moved; every other Service that selects these pods moves with it.
    /// Default: the only one that selects these pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_ref: Option<ServiceRef>,
    /// The routes of the Gateway API by which the world reaches that Service. A new version then gets its share of requests by their
    /// weights. Default: none; its share is that of its pods behind the Service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.all(r, self.exists_one(o, o.name == r.name && (has(o.kind) ? o.kind : 'HTTPRoute') == (has(r.kind) ? r.kind : 'HTTPRoute')))").message("routeRefs: name each route once"))]
    pub route_refs: Vec<RouteRef>,
}

/// A CronJob of the app.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CronJobSpec {
    /// Its name in this namespace.
    #[schemars(length(min = 1, max = 52), regex(pattern = NAME))]
    pub name: String,
    /// Its containers and init containers that get the image of the version. Default: all that use the repository of that image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub containers: Vec<String>,
}

/// The pattern of a Kubernetes object name (RFC 1123 label).
pub const NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Kinds of workloads that can be delivered.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    #[default]
    Deployment,
}

/// A Service of this namespace and one of its ports.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceRef {
    /// Name of the Service.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: String,
    /// Name of the port. Default: the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub port: Option<String>,
}

/// A route of this namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteRef {
    /// What it is. Default HTTPRoute.
    #[serde(default)]
    pub kind: RouteKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Kinds of routes whose backends have weights.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RouteKind {
    /// For HTTP.
    #[default]
    HTTPRoute,
    /// For gRPC.
    GRPCRoute,
}

/// Where new versions come from: merges (`github` with `image`), a tag that moves (`image` alone), or CI and people (`manual`).
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("has(self.manual) != (has(self.image) || has(self.github))").message("source: set exactly one of: image (with github, or a tag that moves), manual"),
    validation = Rule::new("!has(self.github) || has(self.image)").message("source: github needs image: the image that is built from a commit"),
    validation = Rule::new("!has(self.github) || !has(self.image) || self.image.tag.contains('{sha}') || self.image.tag.contains('{sha7}')").message("image.tag: say with {sha} or {sha7} which commit it is of"),
    validation = Rule::new("has(self.github) || !has(self.image) || !self.image.tag.contains('{')").message("image.tag: {sha} is of a commit, and there is no github; without it name a tag that moves, e.g. stable")
)]
pub struct Source {
    /// Commits on a branch; `image` says how the image of each is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<GithubSource>,
    /// The image; the image in the owner's template is not used, everything else in it rides along. Without `github`: whatever
    /// its tag names is desired, by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
    /// Releases are made by CI or people (`kubectl haldane release --image …`); the image in the owner's template is
    /// not used, everything else in it rides along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<Manual>,
    /// Which of several that wait is next. Default Latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueSpec>,
}

/// Which of several Releases that wait is next. Latest (the default): the newest, those before it are superseded. Each: one
/// after the other.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueSpec {
    /// The newest.
    #[default]
    Latest,
    /// One after the other.
    Each,
}

/// Commits on a branch at GitHub.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GithubSource {
    /// e.g. `acme/checkout`.
    #[schemars(length(max = 201), regex(pattern = "^[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}$"))]
    pub repository: String,
    /// Default: the repository's default branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 244))]
    pub branch: Option<String>,
    /// What must have passed on a commit, besides that there is its image. Default: everything that runs on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<WhenSpec>,
}

/// What must have passed on a commit.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.type == 'Workflows') == has(self.workflows)").message("when: workflows belong to the type Workflows"),
    validation = Rule::new("(self.type == 'Signal') == has(self.context)").message("when: context belongs to the type Signal"),
    validation = Rule::new("self.type == 'Checks' || !has(self.onNoChecks)").message("when: onNoChecks belongs to the type Checks")
)]
pub struct WhenSpec {
    /// Image: nothing, that there is an image is enough. Checks: everything that runs on the commit. Workflows: these. Signal: a
    /// commit status.
    #[serde(rename = "type")]
    pub type_: WhenType,
    /// Names of workflows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 128)))]
    pub workflows: Option<Vec<String>>,
    /// The context of the commit status, e.g. `qa/ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub context: Option<String>,
    /// What becomes of a commit on which nothing runs. Default Hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_no_checks: Option<OnNoChecks>,
    /// How long checks may take to appear. Default 2m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1h')").message("grace: at most 1h"))]
    pub grace: Option<Span>,
}

/// What must have passed on a commit.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhenType {
    /// Nothing.
    Image,
    /// Everything that runs on it.
    Checks,
    /// These workflows.
    Workflows,
    /// A commit status.
    Signal,
}

/// What becomes of a commit on which nothing runs. Hold (the default): it waits. Proceed: it is delivered.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnNoChecks {
    /// It waits.
    #[default]
    Hold,
    /// It is delivered.
    Proceed,
}

/// The image that is built from a commit.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSource {
    /// e.g. `ghcr.io/acme/checkout`.
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[a-z0-9][a-zA-Z0-9._:/-]*[a-z0-9]$"))]
    pub repository: String,
    /// With `github` the tag of a commit's image, with `{sha}` (the whole) or `{sha7}` (its first 7 digits) in it, e.g. `sha-{sha}`.
    /// Without it a tag that moves, e.g. `stable`; it is looked at every minute, and when a registry tells of a push.
    #[schemars(length(min = 1, max = 128))]
    pub tag: String,
    /// A Secret of type `kubernetes.io/dockerconfigjson` that opens the registry. Default: those of the pods and of their
    /// `ServiceAccount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret_ref: Option<SecretRef>,
    /// The image must name its commit itself, by the label `org.opencontainers.image.revision`. One that names another is refused
    /// in any case. Default false: the tag is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_revision_label: Option<bool>,
    /// How long the image of a commit may take to appear before it counts as never built. Default 15m. Without meaning for a tag
    /// that moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('24h')").message("timeout: at most 24h"))]
    pub timeout: Option<Span>,
}

/// A Secret of this namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Releases are made by CI or people.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manual {}

/// How a new version takes over.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// Stops on the way up; 100 is implied. Default: testers (header X-Haldane-Track), where the workload has routes, then 5, 25 and 50 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(
        validation = Rule::new("self.filter(s, has(s.weight)).map(s, s.weight).isSorted() && self.filter(s, has(s.weight)).all(s, self.exists_one(t, has(t.weight) && t.weight == s.weight))").message("steps: weights must ascend"),
        validation = Rule::new("size(self.filter(s, has(s.testers))) <= (has(self[0].testers) ? 1 : 0)").message("steps: testers come first")
    )]
    pub steps: Option<Vec<StepSpec>>,
    /// How long all traffic stays on the canary, the old pods warm beside it, before stable is rolled. With the capacity Small: how long
    /// stable serves alone after it was rolled, before the version is live. A newer Release that
    /// waits ends a guard once each voting probe has seen 30 good pairs in it; a limit of a policy stays the least. Default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('24h')").message("guard: at most 24h"))]
    pub guard: Option<Span>,
    /// How many pods may be there beside stable while a version rolls out. Default Full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// How long after going live a failing version is still taken back by itself. Default 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('720h')").message("rollbackWindow: at most 720h"))]
    pub rollback_window: Option<Span>,
    /// How long a rollout may take until all traffic has moved, holds included. Default 30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('168h')").message("deadline: between 1s and 168h"))]
    pub deadline: Option<Span>,
    /// What happens at the deadline. Default Return.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_deadline: Option<OnDeadline>,
    /// How long traffic gets to leave pods before they are changed: the way of the router plus the longest request.
    /// Default 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('10m')").message("settle: at most 10m"))]
    pub settle: Option<Span>,
    /// What runs once for each new version, with its image, one after the other, before any pod of it starts; a migration, say. When one
    /// fails, so does the version, and no traffic was touched. It runs anew for a retry, and never on a way back. The deadline counts. A
    /// Job that has begun is never cut short: when its rollout ends before it (an abort, a newer version, the deadline), it goes on to its
    /// own end, and nothing else is run before that; give the CronJob an activeDeadlineSeconds if it may hang. Of each the last three Jobs
    /// that ended well and the last that failed are kept, a week at most. Default: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(validation = Rule::new("self.all(b, self.exists_one(o, o.cronJobRef.name == b.cronJobRef.name))").message("before: name each CronJob once"))]
    pub before: Vec<BeforeRef>,
}

/// How many pods may be there beside stable. Full (the default): as many as stable has, so that all of the traffic moves to the canary,
/// and back, in one write. Small: at most a quarter of stable's, but one at least. Shares above what these can carry are cut to it; then
/// the canary leaves, and stable rolls in place by its own strategy, asked as it goes. The way back takes longer then: see
/// status.wayBack.expected.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Capacity {
    /// As many as stable has.
    #[default]
    Full,
    /// At most a quarter of them.
    Small,
}

/// What runs before a new version.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BeforeRef {
    /// The CronJob of this namespace that says what runs. It must be suspended, so that nothing else runs it; the rest of its schedule means
    /// nothing.
    pub cron_job_ref: CronJobRef,
    /// Its containers and init containers that get the image of the version. Default: all that use the repository of that image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub containers: Vec<String>,
}

/// A CronJob of this namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CronJobRef {
    /// Its name.
    #[schemars(length(min = 1, max = 52), regex(pattern = NAME))]
    pub name: String,
}

/// A stop on the way up: a share of everybody, or those who ask for it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.weight) != has(self.testers)").message("steps: set exactly one of: weight, testers"))]
pub struct StepSpec {
    /// Share of the canary in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub weight: Option<u8>,
    /// Requests that carry a mark reach the canary, here and at every later step; all others reach stable. Takes routeRefs; a workload
    /// without any passes over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub testers: Option<TestersSpec>,
    /// The least time there. Default 2m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('24h')").message("bake: at most 24h"))]
    pub bake: Option<Span>,
    /// Whether a person must say yes before it is entered: `kubectl haldane approve`. It waits at the step before, until the deadline.
    /// Default None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
}

/// Whether a person must say yes before a step. None (the default): nobody. Required: it is entered after an Approve.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Approval {
    /// Nobody.
    #[default]
    None,
    /// It is entered after an Approve.
    Required,
}

/// Who tests: requests with that header, or that cookie, set to `canary`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!(has(self.header) && has(self.cookie))").message("testers: header or cookie, not both"))]
pub struct TestersSpec {
    /// The name of the header. Default X-Haldane-Track.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[-0-9A-Za-z]+$"))]
    pub header: Option<String>,
    /// The name of the cookie. Takes a data plane that matches headers by regular expressions; one that does not says so on the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[-_0-9A-Za-z]+$"))]
    pub cookie: Option<String>,
}

/// What happens when a rollout reaches its deadline. Return (the default): back to stable, outcome Undecided, not
/// quarantined. Hold: it stays where it is and says so.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnDeadline {
    /// Back to stable; outcome Undecided, not quarantined.
    #[default]
    Return,
    /// Stay and say so.
    Hold,
}
