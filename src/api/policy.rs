//! `DeliveryPolicy`: what holds for many Deliveries: defaults, when versions may start, how many at once, and limits.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{delivery::RolloutSpec, duration::Span};

/// What holds for many Deliveries of a namespace: defaults, when versions may start, how many at once, and limits.
///
/// A Delivery goes by the policy that its spec.policyRef names, else by the one called default in its namespace. The one
/// called default in Haldane's own namespace binds every Delivery besides; where both speak, the stricter counts. None of
/// it ever keeps a version from being taken back.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "haldane.dev",
    version = "v1alpha1",
    kind = "DeliveryPolicy",
    plural = "deliverypolicies",
    shortname = "dpol",
    namespaced,
    derive = "PartialEq",
    status = "DeliveryPolicyStatus",
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name":"Rollouts","type":"integer","jsonPath":".spec.caps.rollouts"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Accepted\")].message"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryPolicySpec {
    /// What a Delivery has that does not say otherwise, in the form of its spec. Those of the policy that a Delivery goes by come
    /// before those of the one in Haldane's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Defaults>,
    /// When a version may start. Absent: at any time. One that has started goes on after its window: half-way is no good place to
    /// wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub windows: Vec<WindowSpec>,
    /// Days on which it is otherwise: nothing starts, or, with open, everything may. Where both are said of a day, nothing starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub exceptions: Vec<ExceptionSpec>,
    /// How much may be on its way at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Caps>,
    /// What a Delivery cannot go below or above, whatever its own spec or its repository says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
}

/// How it is with a policy.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeliveryPolicyStatus {
    /// Accepted: it can be followed. False: what is wrong with it; nothing new moves forward until that is mended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What a Delivery has that does not say otherwise.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Defaults {
    /// How a new version takes over. Each field of it counts for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,
}

/// A time of the week.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.from != self.to").message("window: from and to are the same; for a whole day write 00:00 and 24:00"))]
pub struct WindowSpec {
    /// The days on which it opens.
    #[schemars(length(min = 1, max = 7))]
    pub days: Vec<Day>,
    /// When it opens, as 09:00.
    #[schemars(length(max = 5), regex(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// When it closes, as 16:00; up to 24:00. Not after from: on the next day.
    #[schemars(length(max = 5), regex(pattern = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"))]
    pub to: String,
    /// Where these are the times, as Europe/Berlin (IANA). Default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = ZONE))]
    pub time_zone: Option<String>,
}

const ZONE: &str = "^[A-Za-z][A-Za-z0-9_+/-]*$";
const DATE: &str = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$";

/// Days of the week.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// Days on which it is otherwise.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.to) || self.to >= self.from").message("exception: to is before from"))]
pub struct ExceptionSpec {
    /// The first day, as 2026-12-21.
    #[schemars(length(max = 10), regex(pattern = DATE))]
    pub from: String,
    /// The last day. Default: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10), regex(pattern = DATE))]
    pub to: Option<String>,
    /// Where these days are, as Europe/Berlin (IANA). Default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = ZONE))]
    pub time_zone: Option<String>,
    /// Versions may start on these days, whatever the windows say. Default false: none starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
    /// Why, for the people who wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub message: Option<String>,
}

/// How much may be on its way at once.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// Rollouts at once, of all Deliveries that go by this policy. A further one starts when one of them has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub rollouts: Option<i32>,
}

/// What a Delivery cannot go below or above.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitsSpec {
    /// The least bake of every step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('24h')").message("bake: at most 24h"))]
    pub bake: Option<Span>,
    /// The least guard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('24h')").message("guard: at most 24h"))]
    pub guard: Option<Span>,
    /// The most that the first share may be, in percent. A Delivery that begins with more gets a step with this one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub first_weight: Option<u8>,
}
