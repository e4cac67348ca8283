//! `ProductionProbe`: how production is asked whether it is fine.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    delivery::{CronJobRef, NAME, ServiceRef},
    duration::Span,
    policy::WindowSpec,
};

/// A check that is run against production all the time, and against canary and stable side by side while a version rolls out.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "haldane.dev",
    version = "v1alpha1",
    kind = "ProductionProbe",
    plural = "productionprobes",
    shortname = "pp",
    namespaced,
    derive = "PartialEq",
    printcolumn = r#"{"name":"Service","type":"string","jsonPath":".spec.target.serviceRef.name"}"#,
    printcolumn = r#"{"name":"Vote","type":"string","jsonPath":".spec.vote"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(
    validation = Rule::new("(has(self.steps) ? 1 : 0) + (has(self.grpc) ? 1 : 0) + (has(self.tcp) ? 1 : 0) + (has(self.job) ? 1 : 0) == 1").message("say what is asked: exactly one of steps, grpc, tcp, job"),
    validation = Rule::new("!has(self.job) || !has(self.schedule) || ((!has(self.schedule.rollout) || duration(self.schedule.rollout) >= duration('1m')) && (!has(self.schedule.always) || duration(self.schedule.always) >= duration('1m')) && !has(self.schedule.burst))").message("job: a suite runs once a minute at most, and in no burst"),
    validation = Rule::new("!has(self.schedule) || !has(self.schedule.burst) || !(has(self.mutates) && self.mutates)").message("burst: only for a probe that changes nothing"),
    validation = Rule::new("has(self.steps) || !(has(self.setup) || has(self.teardown) || has(self.sweep) || has(self.secrets) || (has(self.mutates) && self.mutates))").message("setup, teardown, sweep, secrets and mutates: only with steps"),
    validation = Rule::new("has(self.steps) || !has(self.target.via) || !('Route' in self.target.via)").message("via Route: only with steps; the others ask pods at their own addresses"),
    validation = Rule::new("(!has(self.setup) || self.setup.all(s, !has(s.compare))) && (!has(self.teardown) || self.teardown.all(s, !has(s.compare)))").message("compare: only in steps, not in setup or teardown"),
    validation = Rule::new("!has(self.steps) || self.steps.filter(s, has(s.compare)).size() <= 5").message("compare: at most five steps of a probe"),
    validation = Rule::new("(has(self.mutates) && self.mutates) || !has(self.steps) || self.steps.all(s, !has(s.request.method) || s.request.method in ['GET', 'HEAD', 'OPTIONS'])").message("mutates: set it to true to say that steps other than GET, HEAD and OPTIONS may change production"),
    validation = Rule::new("(has(self.mutates) && self.mutates) || !has(self.sweep)").message("mutates: a probe with a sweep changes production; set it to true"),
    validation = Rule::new("!has(self.maxOpen) || has(self.teardown)").message("maxOpen: only runs with a teardown are written down"),
    validation = Rule::new("(has(self.mutates) && self.mutates) || !has(self.teardown)").message("mutates: a probe with a teardown changes production; set it to true"),
    validation = Rule::new("(has(self.mutates) && self.mutates) || !has(self.setup) || self.setup.all(s, !has(s.request.method) || s.request.method in ['GET', 'HEAD', 'OPTIONS'])").message("mutates: set it to true to say that steps other than GET, HEAD and OPTIONS may change production")
)]
#[serde(rename_all = "camelCase")]
pub struct ProductionProbeSpec {
    /// What is asked.
    pub target: Target,
    /// How often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Whether it decides. Default Vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vote: Option<Vote>,
    /// Must be true when a step may change production.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutates: Option<bool>,
    /// Secrets of this namespace that steps use, as ${secrets.NAME} in a path, a header or the body. They are read at each look,
    /// by name, and never shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secrets: Vec<SecretVariable>,
    /// Requests that prepare, before the steps. One that is not as expected ends the run, and says nothing about the version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub setup: Vec<Step>,
    /// The requests, in order; the first that is not as expected ends the run. Exactly one of steps, grpc, tcp and job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub steps: Vec<Step>,
    /// Asks the target by the gRPC health protocol (grpc.health.v1.Health/Check, over HTTP/2; over TLS with scheme HTTPS). Fine is SERVING,
    /// within 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcHealth>,
    /// Opens a connection to the port and closes it; with scheme HTTPS also the TLS handshake, with the certificate verified. Fine is what
    /// is done within 10s. It says no more than that somebody listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpConnect>,
    /// Runs a suite of tests of yours as a Job, in whichever image: against a pod of the canary and, at the same moment, against one of
    /// stable. It has to pass once in a rollout; one that fails on the canary alone, twice in a row, takes the version back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<SuiteJob>,
    /// Requests that put right what the steps have made, after each run, whatever came of it and each whatever came of the one before;
    /// they go to a pod of the version that is proven. One that uses a value that was never captured is left out. They never decide;
    /// a probe whose teardown fails three times in a row is stopped, and people are told. Each run is written down as a ProbeRun before
    /// it changes anything, so that it is put right also when its process is killed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub teardown: Vec<Step>,
    /// How what a run has made is found by the name of the run, where its teardown cannot know it: after an answer that never came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
    /// Runs with a teardown that may be open at once, as ProbeRuns: with so many, no other begins before one of them is put right.
    /// Default 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_open: Option<i32>,
}

/// A question by the gRPC health protocol.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GrpcHealth {
    /// The service, as shop.v1.Orders. Default: the server as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255), regex(pattern = "^[!-~]*$"))]
    pub service: Option<String>,
}

/// A suite of tests. Its containers are told by their environment: HALDANE_TARGET (the address of the pod, as http://10.1.2.3:8080),
/// HALDANE_HOST, HALDANE_URL and HALDANE_CONNECT_TO (curl's --connect-to), HALDANE_RUN_ID, HALDANE_DEADLINE_SECONDS, HALDANE_SEED (the same on
/// both sides). Exit code 0 passes; what is neither that nor in failsWith says nothing. Of a JUnit report in its termination log, or at the
/// end of its log, the names of the tests that failed are told.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.load) || duration(self.load.for) < duration(has(self.within) ? self.within : '10m')").message("load: for must be shorter than within (10m), in which its pod starts and ends"))]
#[serde(rename_all = "camelCase")]
pub struct SuiteJob {
    /// The CronJob that it is made of, in this namespace. It must be suspended: Haldane alone runs it.
    pub cron_job_ref: CronJobRef,
    /// How long it may run. Default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('1h')").message("within: between 10s and 1h"))]
    pub within: Option<Span>,
    /// The exit codes that say: the target is wrong. Default 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(range(min = 1, max = 255)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub fails_with: Vec<i32>,
    /// Times of the week in which it is not started, at rest or for a version; one that runs goes on. A version that needs it waits, and says
    /// until when. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub not_within: Vec<WindowSpec>,
    /// It is a load: what it sends so many times a second, for so long, its containers are told as HALDANE_RATE and HALDANE_DURATION_SECONDS.
    /// Runs in rollouts alone, never at rest. Default: it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadSpec>,
}

/// A stated load. One pod of the canary gets it, and at the same moment one pod of stable beside what its users ask: state what a pod bears.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadSpec {
    /// Requests a second, to each of the two pods. All loads of the cluster together may state no more than suites.requestsPerSecond of the
    /// chart (100) for either side; what is stated is held by the tool in the image.
    #[schemars(range(min = 1, max = 10000))]
    pub per_second: i32,
    /// For how long, as 1m.
    #[x_kube(validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('30m')").message("for: between 5s and 30m"))]
    pub r#for: Span,
}

/// A connection, and nothing more.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TcpConnect {}

/// Looks for what runs have made and deletes it: that of a run whose teardown could not know it, at once, and every hour that of runs
/// which are long over. At most 50 objects at a time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.list.method) || self.list.method in ['GET', 'POST']").message("list: with method GET or POST"),
    validation = Rule::new("has(self.delete.method) && self.delete.method in ['POST', 'PUT', 'PATCH', 'DELETE']").message("delete: say its method: POST, PUT, PATCH or DELETE"),
    validation = Rule::new("!has(self.list.method) || self.list.method != 'POST' || has(self.list.json)").message("list: with method POST, say what is searched for in json"),
    validation = Rule::new("!self.list.path.contains('${item.')").message("list: there is no ${item.…} before there are items")
)]
#[serde(rename_all = "camelCase")]
pub struct Sweep {
    /// The request that lists what is there. May use ${secrets.NAME}, and what the setup captures.
    pub list: Request,
    /// Where the items are in its answer, as $.orders[*] (JSONPath, RFC 9535).
    #[schemars(length(min = 1, max = 512), regex(pattern = "^[$]"))]
    pub items: String,
    /// By what an item is known as a run's.
    pub named: Named,
    /// An item is deleted in the hourly sweep when its run began so long ago, which its name tells. Default 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('15m') && duration(self) <= duration('168h')").message("olderThan: between 15m and 168h"))]
    pub older_than: Option<Span>,
    /// The request that deletes an item: ${item.NAME} is a member of it. Fine are 200 to 299, 404 and 410.
    pub delete: Request,
}

/// A text of an item that begins with a prefix of yours and ends with the name of the run, as "synth-${run.id}" makes it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    /// Where that text is in an item, as $.ref.
    #[schemars(length(min = 1, max = 512), regex(pattern = "^[$]"))]
    pub json_path: String,
    /// What stands before the name of the run. What begins otherwise, or goes on otherwise, is nobody's run and never touched.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[!-~]+$"))]
    pub prefix: String,
}

/// A secret that steps use.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretVariable {
    /// What steps call it: ${secrets.NAME}.
    #[schemars(length(min = 1, max = 63), regex(pattern = VARIABLE))]
    pub name: String,
    /// Where it is.
    pub secret_ref: SecretKey,
}

/// A key of a Secret in this namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecretKey {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// The pattern of a variable.
const VARIABLE: &str = "^[A-Za-z][A-Za-z0-9_]*$";

/// What is asked: pods behind a Service, at their own addresses, with the real host name; and on request the way that customers take.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.via) || !('Route' in self.via) || has(self.answeredBy)").message("answeredBy: via Route needs the header by which an answer says which version gave it"))]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The Service whose pods are asked, and the port.
    pub service_ref: ServiceRef,
    /// Which way, while a version rolls out. Default: Pods. Where Route alone is named, pods are asked as long as there is no way
    /// by the route: before testers are on it, at full weight, and where answers do not tell the versions apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub via: Vec<Via>,
    /// By what an answer says which version gave it. Needed for Route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<AnsweredBy>,
    /// How pods are spoken to; by the route it is the Gateway's listener that says. Default HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// The `Host` header and, with HTTPS, the name in the certificate. Default: the name of the Service; by the route, the first of
    /// its hostnames that is a whole one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?$"))]
    pub host: Option<String>,
    /// The certificate authorities, for HTTPS: of pods, and of the Gateway with Route. Default: the well-known ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
}

/// Pods (the default): each pod at its own address. Route: the address of the Gateway, as one of those who test beside a customer who
/// is not, while testers are on an HTTPRoute in `routeRefs`; answers of another version than was asked are told apart from failures.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Via {
    /// Each pod at its own address.
    Pods,
    /// The way that customers take.
    Route,
}

/// A header by which an answer says which version gave it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnsweredBy {
    /// The name of a header of the app's answers whose value differs between versions, such as `X-Shop-Version`. The value is
    /// compared with what the pods of either version answer; it may have up to 128 characters, and it is never shown.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub header: String,
}

/// HTTP (the default): plain text. HTTPS: TLS, with the host name verified.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheme {
    /// Plain text.
    #[default]
    HTTP,
    /// TLS, with the host name verified.
    HTTPS,
}

/// A certificate authority in PEM, key `ca.crt`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaRef {
    /// What holds it. Default ConfigMap.
    #[serde(default)]
    pub kind: CaKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What holds a certificate authority.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CaKind {
    /// A ConfigMap.
    #[default]
    ConfigMap,
}

/// How often a probe runs.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// While a version rolls out. Default 15s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')").message("rollout: between 1s and 1h"))]
    pub rollout: Option<Span>,
    /// At rest. Default 3m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("always: between 1s and 24h"))]
    pub always: Option<Span>,
    /// Runs close together at the beginning of each step of a rollout, for faults that are rare: 20 runs find one that one request in ten
    /// meets with a chance of 88 %. Only where no step changes anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Burst>,
}

/// Runs close together, at even distances, one a second at most. After them, and where rollout is shorter than their distance, that counts.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("duration(self.within).getSeconds() >= self.runs").message("burst: at most one run a second; give within more time"))]
pub struct Burst {
    /// How many, against each pod of the canary.
    #[schemars(range(min = 2, max = 60))]
    pub runs: i32,
    /// In which time, as 2m.
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('10m')").message("within: between 10s and 10m"))]
    pub within: Span,
}

/// Whether the probe decides. Vote (the default): failures on the canary alone take it back. Report: it is
/// measured and shown, and never decides.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Vote {
    /// Failures on the canary alone take it back.
    #[default]
    Vote,
    /// Measured and shown; never decides.
    Report,
}

/// One request and what is expected of the answer.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name, for the reason that people read.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: String,
    /// The request.
    pub request: Request,
    /// What is expected. Default: any status from 200 to 299.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// What is kept of the answer, for later steps as ${NAME}.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub capture: Vec<Capture>,
    /// Ask again until the answer is as expected. Only for what may be asked twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// Compares the canary's answer with what stable answers to the same step, also where both are as expected: a status that stable never
    /// gives, a field of its JSON that is lost, or one of another type fails the canary. Values are never looked at; new fields are fine.
    /// An empty object compares the whole answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<Compare>,
}

/// How the answers of the two versions are compared: by status and, where stable's is JSON, by the names and types of its fields. A field
/// that all of stable's answers had since it serves may not be missing, or null; any other may. The elements of a list are taken
/// together, and so are members whose names are no names of fields (ids). Of more than 500 fields the rest is left out, and below 12 levels.
/// Not compared are answers of more than 256 KiB, versions that revert another, and a way back.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Compare {
    /// Fields that are not compared, with all that is in them, as the reason names them: $.order.note, $.items[*].price, $.byId.*.note.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256), regex(pattern = r"^[$](\.([A-Za-z_][-A-Za-z0-9_]*|[*])|\[[*]\])+$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub ignore: Vec<String>,
}

/// A value of an answer.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("(has(self.jsonPath) ? 1 : 0) + (has(self.header) ? 1 : 0) + (has(self.cookie) ? 1 : 0) == 1").message("capture: say where the value is: exactly one of jsonPath, header, cookie"))]
#[serde(rename_all = "camelCase")]
pub struct Capture {
    /// What later steps call it: ${NAME}.
    #[schemars(length(min = 1, max = 63), regex(pattern = VARIABLE))]
    pub name: String,
    /// The first string, number or boolean that this JSONPath (RFC 9535) finds in the body, as $.order.id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub json_path: Option<String>,
    /// The value of this header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub header: Option<String>,
    /// The value of this cookie, which the answer sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub cookie: Option<String>,
}

/// How long the right answer is waited for.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Until {
    /// From one request to the next. Default 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('1m')").message("every: between 100ms and 1m"))]
    pub every: Option<Span>,
    /// From the first request to the last.
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('1m')").message("within: between 100ms and 1m"))]
    pub within: Span,
}

/// An HTTP request.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.json) || (has(self.method) && self.method in ['POST', 'PUT', 'PATCH', 'DELETE'])").message("json: only with method POST, PUT, PATCH or DELETE"))]
pub struct Request {
    /// Default GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// Path and query; begins with `/`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^/[!-~]*$"))]
    pub path: String,
    /// Headers beside those that every request has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub headers: Vec<Header>,
    /// The body, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_json")]
    pub json: Option<BTreeMap<String, serde_json::Value>>,
}

fn any_json(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "maxProperties": 256})
}

/// The method. Default GET. Those other than GET, HEAD and OPTIONS need `mutates: true`.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads.
    #[default]
    Get,
    /// Reads the headers only.
    Head,
    /// Asks what is possible.
    Options,
    /// Creates.
    Post,
    /// Replaces.
    Put,
    /// Changes.
    Patch,
    /// Removes.
    Delete,
}

/// A header.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Its name. Those that frame, route or mark the request (Host, Content-Length, User-Agent and their like) are set by
    /// the prober; for Host, see `target.host`.
    #[x_kube(validation = Rule::new("!(self.lowerAscii() in ['host', 'connection', 'content-length', 'transfer-encoding', 'te', 'trailer', 'upgrade', 'keep-alive', 'proxy-connection', 'proxy-authorization', 'expect', 'user-agent', 'x-haldane-probe', 'x-haldane-run'])").message("name: this header is set by the prober itself; remove it (for Host, set target.host)"))]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub name: String,
    /// Its value.
    #[schemars(length(max = 2048), regex(pattern = "^[ -~\t]*$"))]
    pub value: String,
}

/// What is expected of an answer.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Expect {
    /// The statuses that are fine. Default: 200 to 299.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 200, max = 599)))]
    pub status: Vec<u16>,
    /// The longest time that is fine, from the request to the last byte of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1ms') && duration(self) < duration('5m')").message("within: at least 1ms and less than 5m"))]
    pub within: Option<Span>,
    /// What else must be true: expressions in CEL over status, headers (by names in small letters), json (the body) and latency, as
    /// json.state == 'open' or latency < duration('300ms').
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 512)))]
    pub that: Vec<String>,
}
