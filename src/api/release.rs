//! `Release`: one version of an app, and what became of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{delivery::StepSpec, verify::ProbeRef};

/// One version: an image and the template around it, and where it came from. Immutable; tries are told in its status.
///
/// The template itself lies in a `ControllerRevision` of the same name.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "haldane.dev",
    version = "v1alpha1",
    kind = "Release",
    shortname = "rel",
    namespaced,
    status = "ReleaseStatus",
    derive = "PartialEq",
    validation = Rule::new("self.spec == oldSelf.spec").message("spec: a Release never changes; make another one"),
    printcolumn = r#"{"name":"Delivery","type":"string","jsonPath":".spec.deliveryRef.name"}"#,
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".spec.version"}"#,
    printcolumn = r#"{"name":"Outcome","type":"string","jsonPath":".status.outcome"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Image","type":"string","priority":1,"jsonPath":".spec.image"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.message"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseSpec {
    /// The Delivery that it is a version of.
    pub delivery_ref: DeliveryRef,
    /// What people call it: a tag, a commit.
    #[schemars(length(min = 1, max = 128))]
    pub version: String,
    /// The commit that it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = "^[0-9a-f]{7,64}$"))]
    pub commit: Option<String>,
    /// The image.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// Its place among the Releases that merges made, from 1: the greatest is the newest. Order on the branch, not in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub place: Option<i64>,
    /// There is no way back from it, and why: a migration that the version before it cannot live with. Its rollout gets all of the
    /// traffic only after an Approve, and once it has traffic nothing takes it back by itself. Beside the old version a failure
    /// takes its traffic off and halts it; with all of the traffic it halts it and moves nothing. Then a person decides: Rollback,
    /// Retry or Promote. A failure before it has traffic takes it back as any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barrier: Option<Barrier>,
    /// Identity of (image, normalised template) over all workloads. Absent: the image alone is wished for, and the
    /// controller composes it with the owner's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = "^[0-9a-f]+$"))]
    pub template_hash: Option<String>,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What it reverts: commits (`3f2a1c9…`) and pull requests (`#12`); at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 64), regex(pattern = "^([0-9a-f]{7,64}|#[0-9]{1,10})$")))]
    pub reverts: Vec<String>,
    /// What the file in its repository set at its commit (`spec.config` of the Delivery).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ReleaseConfig>,
    /// It is not delivered, and why: what the file in its repository says at its commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
}

/// How a version is delivered by the word of its own repository.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseConfig {
    /// In place of those of the Delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    pub steps: Option<Vec<StepSpec>>,
    /// Besides those of the Delivery.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub probes: Vec<ProbeRef>,
}

/// Why a version is not delivered.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// `ConfigBroken`: the file cannot be read. `NotAllowed`: it sets what `spec.config.allow` of the Delivery does not name.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// In a sentence, with the line of the file.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// A Delivery of this namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRef {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = super::delivery::NAME))]
    pub name: String,
}

/// Why there is no way back from a version.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// As the trailer `Haldane-Barrier` of the commit says.
    #[schemars(length(max = 256))]
    pub reason: String,
}

/// Where a version came from.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// Who or what made it. Adopted: it ran when the workload was adopted. Workload: the owner changed the template.
    /// Manual: a person or CI asked for it. Merge: a commit on the branch. Tag: a tag moved to it.
    #[serde(rename = "type")]
    pub type_: OriginType,
    /// A link to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub url: Option<String>,
    /// The people behind it; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 128)))]
    pub authors: Vec<String>,
    /// The first line of the commit's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub title: Option<String>,
    /// The pull requests that came with it; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(range(min = 1, max = 1_000_000_000)))]
    pub pull_requests: Vec<u64>,
    /// The commits that came with it since the version that was live when it was made, newest first; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub commits: Vec<OriginCommit>,
    /// How many there are, when there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub commit_count: Option<u64>,
}

/// A commit that came with a version.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OriginCommit {
    /// Which.
    #[schemars(length(max = 64), regex(pattern = "^[0-9a-f]{7,64}$"))]
    pub commit: String,
    /// The first line of its message.
    #[schemars(length(max = 256))]
    pub title: String,
    /// Who wrote it.
    #[schemars(length(max = 128))]
    pub author: String,
    /// The pull request that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub pull_request: Option<u64>,
}

/// Who or what made a Release.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OriginType {
    /// It ran when the workload was adopted.
    Adopted,
    /// The owner changed the workload's template.
    Workload,
    /// A person or CI asked for it.
    Manual,
    /// A commit on the branch.
    Merge,
    /// A tag moved to it.
    Tag,
}

/// What became of a Release.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseStatus {
    /// The latest word on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Why, in one sentence with the numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Identity of (image, normalised template), when the spec leaves it to the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub template_hash: Option<String>,
    /// How often it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub tries: Option<i32>,
    /// When its latest try began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When its latest try ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// The Release that took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub superseded_by: Option<String>,
    /// `Succeeded`: True when it went live, False when it did not and will not by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The latest word on a Release. Waiting: its turn has not come. Rolling: under way. Live: it serves. RolledBack: found bad
/// and taken back; its content is quarantined. Undecided: taken back without a verdict. Superseded: a newer one took its
/// place. Refused: it cannot be delivered. Halted: it failed beyond its barrier and waits for a person.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Its turn has not come.
    Waiting,
    /// Under way.
    Rolling,
    /// It serves.
    Live,
    /// Found bad and taken back; its content is quarantined.
    RolledBack,
    /// Taken back without a verdict (deadline, abort); not started again by itself.
    Undecided,
    /// A newer one took its place.
    Superseded,
    /// It cannot be delivered.
    Refused,
    /// It failed, there is no way back from it by itself, and it waits for a person.
    Halted,
}
