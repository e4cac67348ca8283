//! `Command`: the one door through which people steer a delivery.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::release::DeliveryRef;

/// One order, given once. It names the Release that it is about, and is void when that is over.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "haldane.dev",
    version = "v1alpha1",
    kind = "Command",
    namespaced,
    status = "CommandStatus",
    derive = "PartialEq",
    validation = Rule::new("self.spec == oldSelf.spec").message("spec: a Command never changes; make another one"),
    validation = Rule::new("!has(self.spec.step) || self.spec.action == 'Approve'").message("spec.step: belongs to the action Approve"),
    printcolumn = r#"{"name":"Delivery","type":"string","jsonPath":".spec.deliveryRef.name"}"#,
    printcolumn = r#"{"name":"Action","type":"string","jsonPath":".spec.action"}"#,
    printcolumn = r#"{"name":"Release","type":"string","jsonPath":".spec.release"}"#,
    printcolumn = r#"{"name":"By","type":"string","jsonPath":".spec.by"}"#,
    printcolumn = r#"{"name":"Result","type":"string","jsonPath":".status.result"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct CommandSpec {
    /// The Delivery.
    pub delivery_ref: DeliveryRef,
    /// The Release that the order is about.
    #[schemars(length(min = 1, max = 63))]
    pub release: String,
    /// The order. Promote: go on to the next step now; verdicts still count. Abort: take the rollout back; not a verdict,
    /// and not started again by itself. Rollback: take the live version back to the last good one. Retry: lift the
    /// quarantine of the Release and try it again. Adopt: close the gate again after it was opened by hand. Approve: let the
    /// rollout enter a step that needs an approval.
    pub action: Action,
    /// With Approve: the step that is approved, from 1; one more than there are steps is all of the traffic. Absent: the next one
    /// that needs an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 21))]
    pub step: Option<i32>,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
    /// Who gives it: the user name that the API server knows the sender by. 340: a service account's at its longest.
    #[schemars(length(min = 1, max = 340))]
    pub by: String,
}

/// The orders that there are.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Go on to the next step now; the bake and the guard end, verdicts still count.
    Promote,
    /// Take the rollout back; not a verdict, and not started again by itself.
    Abort,
    /// Take the live version back to the last good one.
    Rollback,
    /// Lift the quarantine of the Release and try it again.
    Retry,
    /// Close the gate again after it was opened by hand.
    Adopt,
    /// Let the rollout enter a step that needs an approval.
    Approve,
}

/// What became of an order.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandStatus {
    /// Done, or Void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<CommandResult>,
    /// In one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
}

/// Done: it was carried out. Void: it came too late or does not apply; nothing was done.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandResult {
    /// It was carried out.
    Done,
    /// It came too late or does not apply; nothing was done.
    Void,
}
