//! `ProbeRun`: one run of a probe that may have changed production, written down before it does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    probe::{SecretVariable, Step, Sweep, Target},
    release::DeliveryRef,
};

/// A run of a ProductionProbe with a teardown, from before its first request that may change something until what it made is put
/// right. Haldane makes and deletes these. One that stays is tried again and again; deleting it means to give up on what that run made.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "haldane.dev",
    version = "v1alpha1",
    kind = "ProbeRun",
    plural = "proberuns",
    shortname = "pr",
    namespaced,
    status = "ProbeRunStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Probe","type":"string","jsonPath":".spec.probeRef.name"}"#,
    printcolumn = r#"{"name":"Delivery","type":"string","jsonPath":".spec.deliveryRef.name"}"#,
    printcolumn = r#"{"name":"Run","type":"string","jsonPath":".spec.run"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Tries","type":"integer","jsonPath":".status.tries"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ProbeRunSpec {
    /// The probe.
    pub probe_ref: ProbeRevision,
    /// For which Delivery it ran.
    pub delivery_ref: DeliveryRef,
    /// The name of the run: ${run.id} in what it made, and the header X-Haldane-Run of its requests.
    #[schemars(length(min = 16, max = 64), regex(pattern = "^[0-9a-f]+$"))]
    pub run: String,
    /// Which process runs it.
    #[schemars(length(min = 1, max = 128))]
    pub holder: String,
    /// Whoever runs it has put it right by then, if it still can.
    pub until: MicroTime,
    /// How it is put right.
    pub put_right: PutRight,
}

/// Which probe, as it was when it ran.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeRevision {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its uid.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Its generation.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub generation: i64,
}

/// What it takes to put a run right when neither its process nor its probe is there any more. Secrets stand in it by name alone.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PutRight {
    /// Where: a ready pod behind this Service that is no canary, looked up when it is needed.
    pub target: Target,
    /// The Secrets that the requests use, read anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secrets: Vec<SecretVariable>,
    /// The requests of the probe's setup that are made anew, as they bring what is not written down: a session, a token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub setup: Vec<Step>,
    /// The probe's teardown.
    #[schemars(length(min = 1, max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub teardown: Vec<Step>,
    /// The probe's sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
}

/// How far it is.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeRunStatus {
    /// Left: its teardown was tried and did not put it right. Absent: nobody has tried yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RunPhase>,
    /// Values of answers that its teardown names. Never a secret, nor what a cookie or a header brought or any header is sent with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub kept: Vec<KeptValue>,
    /// How often its teardown was tried and failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub tries: Option<i32>,
    /// When that was, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_try: Option<MicroTime>,
    /// What could not be put right, or why nobody could try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
}

/// Left: its teardown was tried and did not put it right.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunPhase {
    /// Its teardown was tried and did not put it right.
    Left,
}

/// A value that teardown names.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptValue {
    /// What teardown calls it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The value.
    #[schemars(length(max = 1024))]
    pub value: String,
}
