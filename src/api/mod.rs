//! What users write and read: the kinds of `haldane.dev/v1alpha1`.
//!
//! Conventions: enum values are `CamelCase`; references are local to the namespace; unions go by presence with a CEL rule
//! "exactly one"; every field has bounds and a text for `kubectl explain`. Defaults are filled in by [`crate::model::plan`],
//! not by the schema, so that a policy may change them later without touching stored objects.

#![allow(clippy::doc_markdown, reason = "people read these texts in kubectl explain, where backticks are only noise")]
#![allow(unreachable_pub, reason = "KubeSchema writes each struct a second time, inside a function")]

use jiff::Timestamp;

pub mod command;
pub mod crd_yaml;
pub mod delivery;
pub mod duration;
pub mod hold;
pub mod policy;
pub mod probe;
pub mod probe_run;
pub mod release;
pub mod status;
pub mod verify;

/// The DeliveryPolicy that is meant where none is named.
pub const DEFAULT_POLICY: &str = "default";
/// The label that says which Delivery an object of ours belongs to.
pub const DELIVERY_LABEL: &str = "haldane.dev/delivery";
/// The label on what was bet on in the last rollout of a Release, by its name.
pub const EVIDENCE_LABEL: &str = "haldane.dev/evidence";
/// The label on a ProbeRun that says which ProductionProbe ran.
pub const PROBE_LABEL: &str = "haldane.dev/probe";
/// The label that marks the pods (and only the pods) of the new side: `haldane.dev/track: canary`.
pub const TRACK_LABEL: &str = "haldane.dev/track";
/// The value of [`TRACK_LABEL`].
pub const TRACK_CANARY: &str = "canary";
/// The label on a canary Deployment that names the workload it stands beside.
pub const WORKLOAD_LABEL: &str = "haldane.dev/workload";
/// The label on a Job, and on its pods, that names the CronJob that it was made of to run before a version.
pub const BEFORE_LABEL: &str = "haldane.dev/before";
/// The annotation on a canary Deployment, or on a Job that ran before it, that names its Release.
pub const RELEASE_ANNOTATION: &str = "haldane.dev/release";
/// The annotation on a gated Deployment: what it means, and what to type instead of `kubectl rollout resume`.
pub const GATE_ANNOTATION: &str = "haldane.dev/gate";
/// The annotation on a Deployment whose template we replaced for a while: the Release whose template goes back in, inert.
pub const PUT_BACK_ANNOTATION: &str = "haldane.dev/put-back";
/// The annotation of the lease that says where its holder takes webhooks that others hand on to it; absent: nobody takes any.
pub const LEADER_ADDRESS_ANNOTATION: &str = "haldane.dev/leader-address";
/// The annotation on a pinned Service: since when, and by which Delivery (see [`pinned`]).
pub const PINNED_ANNOTATION: &str = "haldane.dev/pinned-since";
/// The annotation on a route that leads to a canary: since when, by which Delivery, and as what (see [`routed`]).
pub const ROUTED_ANNOTATION: &str = "haldane.dev/routed-since";
/// The annotation on the Service in front of a canary: the routes that lead to it, as `HTTPRoute/shop`, with commas between.
pub const ROUTES_ANNOTATION: &str = "haldane.dev/routes";
/// The annotation on the Service in front of a canary: the owner's Service beside which it stands.
pub const BESIDE_ANNOTATION: &str = "haldane.dev/beside";
/// The finalizer on a Delivery: it opens the gate and clears up before the object goes.
pub const FINALIZER: &str = "haldane.dev/ungate";
/// The field manager of every write of ours.
pub const FIELD_MANAGER: &str = "haldane";
/// The label that Kubernetes puts on the pods of a ReplicaSet.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// What [`PINNED_ANNOTATION`] says of a pin: `2026-11-21T00:00:00Z by checkout`.
#[must_use]
pub fn pinned(since: Timestamp, by: &str) -> String {
    format!("{since}{BY}{by}")
}

/// Since when a pin stands and whose it is, as far as its annotation can be read.
#[must_use]
pub fn read_pinned(annotation: &str) -> (Option<Timestamp>, Option<&str>) {
    let (since, by) = annotation.split_once(BY).map_or((annotation, None), |(since, by)| (since, Some(by)));
    (since.parse().ok(), by)
}

/// What [`ROUTED_ANNOTATION`] says of rules: `2026-11-21T00:00:00Z by checkout as 0123456789abcdef`, the digest of what was written.
#[must_use]
pub fn routed(since: Timestamp, by: &str, digest: &str) -> String {
    format!("{}{AS}{digest}", pinned(since, by))
}

/// Since when rules stand as they were written, whose they are, and their digest, as far as the annotation can be read.
#[must_use]
pub fn read_routed(annotation: &str) -> (Option<Timestamp>, Option<&str>, Option<&str>) {
    let (pinned, digest) = annotation.split_once(AS).map_or((annotation, None), |(pinned, digest)| (pinned, Some(digest)));
    let (since, by) = read_pinned(pinned);
    (since, by, digest)
}

const BY: &str = " by ";
const AS: &str = " as ";
