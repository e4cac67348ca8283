//! `spec.verify` of a Delivery: what judges a new version.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    delivery::NAME,
    duration::Span,
    probe::{Header, SecretKey, SecretVariable},
};

/// A number of Kubernetes has no such form of its own: floats are not read alike everywhere.
const DECIMAL: &str = "^-?[0-9]{1,15}([.][0-9]{1,15})?$";

/// What judges a new version.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.latency) || has(self.requests)").message("latency: needs requests, which says where the numbers are"))]
#[x_kube(validation = Rule::new("!has(self.latency) || !has(self.requests) || !has(self.requests.from.json)").message("latency: is read by scrape and prometheus; from.json has no histogram"))]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// `ProductionProbe`s of this namespace, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub probes: Vec<ProbeRef>,
    /// The requests of users, as the app itself counts them: canary is compared with stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<RequestsSpec>,
    /// How long requests take, as the app itself measures it. Needs `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencySpec>,
    /// Somebody else's word: a change board, a calendar, a suite of tests. Each is asked by a POST, again and again until it has said
    /// something, and the version waits for it. Never asked on a way back. Default: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub external: Vec<ExternalSpec>,
    /// What versions share, a database say, asked of the Prometheus that Haldane was set up with, every 15 seconds while one rolls out. Beyond its
    /// bound no version goes forward, and none is taken back: a number of what is shared says nothing of one version. Never asked on a way
    /// back. Default: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub queries: Vec<QuerySpec>,
    /// What the app writes to its log while a version rolls out: canary is compared with stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<LogsSpec>,
    /// Of so many good versions one may be taken back wrongly. Default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 20, max = 100_000))]
    pub one_false_rollback_in: Option<u32>,
    /// What happens when users ask too seldom to judge a version by their requests before its deadline, and no probe votes. Default
    /// Hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_traffic: Option<NoTraffic>,
}

/// Hold (the default): the version stays at its step, and what `onDeadline` says happens at the deadline. Promote: it goes on when its
/// steps have baked.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoTraffic {
    /// It stays at its step.
    #[default]
    Hold,
    /// It goes on when its steps have baked.
    Promote,
}

/// How an app counts its requests. Haldane tells canary and stable apart by pod: the app needs no label for that.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.from.json) || (has(self.counter) && has(self.failed))").message("counter and failed: say what the pods count; only from.json does without"))]
#[x_kube(validation = Rule::new("!has(self.from.json) || !(has(self.counter) || has(self.failed) || has(self.only) || has(self.by))").message("counter, failed, only and by: are of scrape and prometheus; from.json has asked and failed of its own"))]
pub struct RequestsSpec {
    /// The counter of requests, as `http_requests_total`; of a histogram its `_count`. Needed, but with `from.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[a-zA-Z_:][a-zA-Z0-9_:]*$"))]
    pub counter: Option<String>,
    /// Which of its series are failures, as in PromQL: `code=~"5.."`. Needed, but with `from.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub failed: Option<String>,
    /// Which of its series are requests of users, as in PromQL: `handler!~"/healthz|/metrics"`. Leave out what Kubernetes and Haldane
    /// ask themselves: it would count as users who are content. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub only: Option<String>,
    /// Labels by which requests are compared with their like, as `handler` and `method`. Name those that differ in how often they
    /// fail or how long they take, and none of which there are hundreds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(min = 1, max = 128), regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub by: Vec<String>,
    /// Where the numbers are.
    pub from: MetricsFrom,
}

/// The histogram of how long requests take.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencySpec {
    /// Its name without `_bucket`, as `http_request_duration_seconds`; it is where the counter of `requests` is.
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[a-zA-Z_:][a-zA-Z0-9_:]*$"))]
    pub histogram: String,
}

/// Where metrics are read: each pod itself, the Prometheus that Haldane was set up with, or somebody else who answers in JSON.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("[has(self.scrape), has(self.prometheus), has(self.json)].filter(one, one).size() == 1").message("from: exactly one of scrape, prometheus and json"))]
pub struct MetricsFrom {
    /// Each pod, once a second while a version rolls out and every 5 seconds at rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrape: Option<ScrapeSpec>,
    /// The Prometheus of the cluster (`prometheus.url` of the chart), where the series of a pod have its name in the label `pod` and
    /// its namespace in `namespace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusSpec>,
    /// Somebody else who keeps the numbers and answers in JSON: Datadog, New Relic, Elasticsearch and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<JsonSpec>,
}

/// Somebody who keeps numbers and answers in JSON. He is asked again and again how many requests the pods of one side had in a piece of
/// time, and how many of those failed: once for the canary, once for stable. In url, headers and body, `${pods}` stands for the names of
/// the pods, `${from}` and `${to}` for the time in seconds since 1970 (from included, to not), `${fromMs}` and `${toMs}` for the same in
/// milliseconds. Numbers that are not all there yet would be wrong: see `delay`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JsonSpec {
    /// Where he is asked: `https://…`, or within the cluster `http://<service>.<namespace>.svc…`. What stands for a variable is encoded;
    /// encode the rest yourself. No secret can be in it: others write URLs down.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://[0-9A-Za-z.-]+(:[0-9]{1,5})?([/?][!-~]*)?$"))]
    #[x_kube(validation = Rule::new("self.startsWith('https://') || self.matches('^http://[^/?:]+[.]svc([.]cluster[.]local)?([:/?]|$)')").message("url: http:// is for names of this cluster alone (<service>.<namespace>.svc); use https://"))]
    pub url: String,
    /// Headers of the question, as `Authorization: Bearer ${secrets.token}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub headers: Vec<Header>,
    /// Secrets for the headers and the body: ${secrets.NAME}.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secrets: Vec<SecretVariable>,
    /// The body of a POST, as it is sent. Default: it is asked by a GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8192))]
    pub body: Option<String>,
    /// What stands between two names in `${pods}`. Default `,`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub join: Option<String>,
    /// Where in the answer the number of requests is, as a JSONPath (RFC 9535). Of several numbers it is their sum; where there is none, nothing
    /// is known.
    #[schemars(length(min = 1, max = 512))]
    pub asked: String,
    /// Where the number of those is that failed. Where there is none, none has failed: so try it out on a day that had failures.
    #[schemars(length(min = 1, max = 512))]
    pub failed: String,
    /// The least piece of time that is asked for. Default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('5m')").message("interval: between 10s and 5m"))]
    pub interval: Option<Span>,
    /// How old a moment must be for its numbers to be all there. Default 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('10m')").message("delay: at most 10m"))]
    pub delay: Option<Span>,
}

/// Where a pod shows its metrics.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScrapeSpec {
    /// The name of a container's port, or a number.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)$"))]
    pub port: String,
    /// Default /metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/[!-~]*$"))]
    pub path: Option<String>,
}

/// A number of what versions share, and the bound beyond which none goes forward. No answer, and one that is no number, hold as well.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.holdsAbove) != has(self.holdsBelow)").message("exactly one of holdsAbove and holdsBelow"))]
#[serde(rename_all = "camelCase")]
pub struct QuerySpec {
    /// What people call it.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: String,
    /// In PromQL, as `max(pg_stat_activity_count) / 100`. Of several series the worst counts.
    #[schemars(length(min = 1, max = 2048))]
    pub query: String,
    /// More holds: a decimal number in quotes, as "0.8".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = DECIMAL))]
    pub holds_above: Option<String>,
    /// Less holds: a decimal number in quotes, as "3".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = DECIMAL))]
    pub holds_below: Option<String>,
}

/// What judges of an app's log. It is read only while a version rolls out, from every pod of the canary (20 at most) and from five of
/// stable: error lines that stable does not write speak against a version, and so do your alerts.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogsSpec {
    /// The container whose log is read. Default: the one that `kubectl logs` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub container: Option<String>,
    /// Which lines are errors, as a regular expression: `" E[0-9]{4} "`. Default: lines of a level from error on as loggers write it, panics
    /// and uncaught exceptions. What such lines have in common, without numbers, names in quotes and the like, is compared with what
    /// stable writes and has written; how often it comes is bet on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub errors: Option<String>,
    /// Lines that should not come, whether they are errors or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub alerts: Vec<LogAlert>,
}

/// Lines that should not come. When the canary has written too many of them, and per pod three times as many as stable, what follows is
/// evidence against it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.contains) != has(self.matches)").message("exactly one of contains and matches"))]
#[serde(rename_all = "camelCase")]
pub struct LogAlert {
    /// Its name, as people read it.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: String,
    /// A text in the line, letter by letter: `FlowAlertError`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub contains: Option<String>,
    /// A regular expression that fits a part of the line: `payment [0-9]+ lost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub matches: Option<String>,
    /// So many lines of all pods together are nothing yet. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub more_than: Option<u32>,
    /// In this time, until now. Default 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('1h')").message("within: between 10s and 1h"))]
    pub within: Option<Span>,
    /// A version that writes such lines while stable does not is taken back at once, whatever its other evidence says. This is a rule of
    /// yours: `oneFalseRollbackIn` does not bound how often it errs. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absolute: Option<bool>,
}

/// The Prometheus of the cluster. Its numbers are as old as its last look at a pod, so it takes minutes where reading pods takes seconds.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PrometheusSpec {
    /// How often it looks at each pod (`scrape_interval`). Default 15s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('2m')").message("interval: between 5s and 2m"))]
    pub interval: Option<Span>,
}

/// A `ProductionProbe` of this namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeRef {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: String,
}

/// Somebody whose word is waited for. The POST has a JSON body with `check`, `at`, `namespace`, `delivery`, `release`, `version`, `image`,
/// `weight` (its share of the traffic in percent), `key` (the same for the same question, however often it is asked), and, where they are known,
/// `commit` and `url`. An answer of 200 to 299 lets the version go on, unless it is JSON with a member `verdict`: that is Pass, Hold or
/// Fail. Fail takes the version back. Hold, another answer, or none, makes it wait. Of an answer nothing is shown or kept but that
/// word and the status; redirects are not followed.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalSpec {
    /// What people call it.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: String,
    /// Before what its word is waited for.
    pub at: ExternalAt,
    /// Where it is asked: `https://…`, or within the cluster `http://<service>.<namespace>.svc…`. Put no secret into it: it is no Secret.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^https?://[0-9A-Za-z.-]+(:[0-9]{1,5})?([/?][!-~]*)?$"))]
    #[x_kube(validation = Rule::new("self.startsWith('https://') || self.matches('^http://[^/?:]+[.]svc([.]cluster[.]local)?([:/?]|$)')").message("url: http:// is for names of this cluster alone (<service>.<namespace>.svc); use https://"))]
    pub url: String,
    /// What the question is signed with: the header `X-Haldane-Signature` is `sha256=` and the HMAC-SHA256, in hex, of the header
    /// `X-Haldane-Timestamp` (seconds since 1970), a dot, and the body. 16 characters at least. Default: it is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKey>,
    /// How long one answer may take. What takes longer is asked for again. Default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('30s')").message("within: between 1s and 30s"))]
    pub within: Option<Span>,
}

/// Before what a word is waited for. Start: before the version gets its first pod, and before what `rollout.before` runs. Promote: before it
/// gets all of the traffic.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExternalAt {
    /// Before its first pod.
    Start,
    /// Before all of the traffic.
    Promote,
}
