//! What people read of a Delivery, and what Haldane itself needs after a restart: one object, written in one call.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{delivery::Capacity, release::Outcome, verify::ExternalAt};

/// How many past rollouts the status keeps: 5 × 150 bytes.
pub const HISTORY: usize = 5;
/// How many quarantined contents it keeps: 16 × 200 bytes. The oldest goes first; it is the least likely to come again.
pub const QUARANTINE: usize = 16;
/// The largest whole number that every JSON reader keeps exactly: 2^53 - 1, in microseconds the year 2255.
const MICROSECONDS: i64 = 9_007_199_254_740_991;

/// Where the delivery stands, and why.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryStatus {
    /// The generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = MICROSECONDS))]
    pub observed_generation: Option<i64>,
    /// Adopting, Live, Preparing, Preflight, Canary, Promoting, Guarding, Finalizing, Halted, RollingBack or RolledBack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Why, in one sentence with the numbers. The same one stands in Events, in the plugin and everywhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Since when the phase stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<MicroTime>,
    /// The version that should serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Version>,
    /// The version that was proven and serves: what the ready pods really run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveVersion>,
    /// The version that a `rollback` would bring back now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_back: Option<WayBack>,
    /// The rollout in flight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// The last one that was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rollback: Option<LastRollback>,
    /// Reasons not to move forward that apply now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub holds: Vec<Told>,
    /// Contents that are not started again until a person says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub quarantine: Vec<QuarantineEntry>,
    /// Merges that are newer than the newest Release and wait for something, or will not be delivered; newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub ahead: Vec<AheadCommit>,
    /// The last rollouts, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub history: Vec<HistoryEntry>,
    /// The workloads whose gate is ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub gated: Vec<Gated>,
    /// A person resumed a workload by hand, and that is respected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ungated: bool,
    /// The last Command that was dealt with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub last_command: Option<String>,
    /// Available, Ready, Reconciling, Stalled, Verified, Held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A version.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// Its Release.
    #[schemars(length(max = 63))]
    pub release: String,
    /// What people call it.
    #[schemars(length(max = 128))]
    pub version: String,
    /// Its commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub commit: Option<String>,
}

/// The version that serves.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveVersion {
    /// Its Release.
    #[schemars(length(max = 63))]
    pub release: String,
    /// What people call it.
    #[schemars(length(max = 128))]
    pub version: String,
    /// What the ready pods run, by the digest of their images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub digests: Vec<DigestPods>,
    /// Since when it has all of the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<MicroTime>,
}

/// How many pods run an image.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestPods {
    /// The digest.
    #[schemars(length(max = 80))]
    pub digest: String,
    /// Ready pods.
    #[schemars(range(min = 0, max = 100_000))]
    pub pods: i32,
}

/// What a rollback would do now.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayBack {
    /// The Release that would serve.
    #[schemars(length(max = 63))]
    pub release: String,
    /// What people call it.
    #[schemars(length(max = 128))]
    pub version: String,
    /// Route or Service (one write each), or Rollout (its pods start first).
    #[schemars(length(max = 16))]
    pub by: String,
    /// In how many seconds nobody would be served by the other version any more, about; absent: not known yet. By one write as
    /// measured on the way back, by a rollout as long as pods of this app took to get ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub expected: Option<i32>,
}

/// The rollout in flight.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The Release that is on its way.
    #[schemars(length(max = 63))]
    pub release: String,
    /// The good one that it started from.
    #[schemars(length(max = 63))]
    pub from: String,
    /// Forward or Return.
    #[schemars(length(max = 16))]
    pub direction: String,
    /// Why an older version comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Told>,
    /// The version before `from`: what a rollback goes back to once this rollout is over without a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub previous: Option<String>,
    /// Which step of the plan, from 1; absent before the first and after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub step: Option<i32>,
    /// How many steps the plan has.
    #[schemars(range(min = 0, max = 20))]
    pub steps: i32,
    /// The steps that a person has approved, from 1; one more than there are steps is all of the traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 21), inner(range(min = 1, max = 21)))]
    pub approved: Vec<i32>,
    /// The step that it stands before and that waits for an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 21))]
    pub awaits: Option<i32>,
    /// The share of traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<WeightStatus>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<MicroTime>,
    /// Until when it stays where it is, at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<MicroTime>,
    /// Traffic is off the canary, reversibly, since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_since: Option<MicroTime>,
    /// Another template that somebody wrote while stable rolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fought: Option<FoughtStatus>,
    /// It failed beyond its barrier and waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<HaltedStatus>,
    /// The CronJobs that have run for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(min = 1, max = 52)))]
    pub prepared: Vec<String>,
    /// The words of others that were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub external: Vec<SoughtStatus>,
    /// How many pods may be there beside stable; absent: as many as it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// Pods of the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<PodCount>,
    /// What it is on its way back for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<Back>,
    /// What was seen so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

/// Somebody else's word, see spec.verify.external.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SoughtStatus {
    /// Whose.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Before what.
    pub at: ExternalAt,
    /// It is asked for since then.
    pub since: MicroTime,
    /// It was given, and the version may go on.
    pub passed: bool,
}

/// A template that somebody else wrote into a Deployment while it rolled to the proven one.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoughtStatus {
    /// The identity of that template.
    #[schemars(length(max = 64))]
    pub template: String,
    /// When it was seen last while the gate was open.
    pub at: MicroTime,
}

/// A share of traffic in percent of new connections.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightStatus {
    /// The share that the step asks for.
    #[schemars(range(min = 0, max = 100))]
    pub asked: i32,
    /// The share that the ready pods give.
    #[schemars(range(min = 0, max = 100))]
    pub served: i32,
}

/// Pods.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodCount {
    /// Ready.
    #[schemars(range(min = 0, max = 100_000))]
    pub ready: i32,
    /// Wanted.
    #[schemars(range(min = 0, max = 100_000))]
    pub wanted: i32,
}

/// Why and how a rollout goes back.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// What becomes of the Release.
    pub outcome: Outcome,
    /// Why.
    #[serde(flatten)]
    pub why: Told,
    /// The phase it was in.
    #[schemars(length(max = 32))]
    pub at: String,
}

/// Why and where a rollout was halted.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaltedStatus {
    /// Why.
    #[serde(flatten)]
    pub why: Told,
    /// The phase it was in.
    #[schemars(length(max = 32))]
    pub at: String,
}

/// A reason: one word, one sentence.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// One word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// One sentence.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// What was seen of a rollout so far: the book of bets against its version, and the gist of it for people.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// What 1 has become in bets that the version is worse than the one before it, as a decimal number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16))]
    pub against: String,
    /// How much against it is a verdict: among as many good versions one is taken back at most.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub bound: i32,
    /// Each probe, by each way that it goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub probes: Vec<ProbeEvidence>,
    /// The requests of users, as the app counts them: errors, latency, and what is still needed to go on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(max = 200)))]
    pub requests: Vec<String>,
    /// What its log says that stable's does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub logs: Option<String>,
    /// How often its pods were restarted, if they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub restarts: Option<String>,
    /// The last failure of the canary alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub failure: Option<String>,
    /// Both sides fail since then, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub both: Option<SinceWhy>,
    /// Nothing was learnt since then, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void: Option<SinceWhy>,
    /// Samples up to here are counted, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = MICROSECONDS))]
    pub until: Option<i64>,
    /// The book itself, with every bit of it, for Haldane alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub book: Option<String>,
}

/// What a probe has seen, in samples of up to five pairs.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeEvidence {
    /// The probe, and its way where that is not the pods' own addresses.
    #[schemars(length(max = 80))]
    pub name: String,
    /// Samples whose first pair did not fail on the canary alone.
    #[schemars(range(min = 0, max = 100_000_000))]
    pub good: i32,
    /// Good ones at this stage.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000_000))]
    pub here: i32,
    /// Samples of which some pairs failed on the canary alone.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000_000))]
    pub unsure: i32,
    /// Samples of which all did.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000_000))]
    pub failed: i32,
}

/// Something that lasts, and why.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinceWhy {
    /// Since when, in microseconds.
    #[schemars(range(min = 0, max = MICROSECONDS))]
    pub since: i64,
    /// Why.
    #[schemars(length(max = 512))]
    pub why: String,
}

/// The last version that was taken back.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastRollback {
    /// The bad version's Release.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub release: String,
    /// RolledBack or Undecided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The bad version.
    #[schemars(length(max = 128))]
    pub from: String,
    /// The version that serves since.
    #[schemars(length(max = 128))]
    pub to: String,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<MicroTime>,
    /// Why, in one word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Why, in one sentence with the numbers.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// A content that is not started again by itself.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineEntry {
    /// Its identity.
    #[schemars(length(max = 64))]
    pub identity: String,
    /// The Release that failed with it.
    #[schemars(length(max = 63))]
    pub release: String,
    /// RolledBack or Undecided.
    pub outcome: Outcome,
    /// Why.
    #[serde(flatten)]
    pub why: Told,
}

/// A merge that is not a Release, or not yet.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AheadCommit {
    /// What people call it.
    #[schemars(length(max = 64))]
    pub version: String,
    /// The first line of its message.
    #[schemars(length(max = 100))]
    pub title: String,
    /// Building, Ready, ChecksFailed, NoArtifact or Refused.
    #[schemars(length(max = 32))]
    pub state: String,
    /// What it waits for, or what is wrong with it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub message: String,
}

/// A past rollout.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Its Release.
    #[schemars(length(max = 63))]
    pub release: String,
    /// What people call it.
    #[schemars(length(max = 128))]
    pub version: String,
    /// What became of it.
    pub outcome: Outcome,
    /// When.
    pub at: MicroTime,
}

/// A workload whose gate is ours.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gated {
    /// Its name.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Its uid.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Its owner had paused it before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_paused: bool,
}

/// The kinds of conditions.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionType {
    /// Production is fine.
    Available,
    /// The desired version is live.
    Ready,
    /// Something is on its way.
    Reconciling,
    /// Nothing happens until a person acts.
    Stalled,
    /// What serves was asked and answered well.
    Verified,
    /// Something keeps a rollout from moving forward.
    Held,
}
