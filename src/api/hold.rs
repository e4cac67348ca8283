//! `Hold`: a reason not to move forward, as an object of its own, so that a GitOps sync cannot undo it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::release::DeliveryRef;

/// Nothing new moves forward while this object is there. The way back is never held.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "haldane.dev",
    version = "v1alpha1",
    kind = "Hold",
    namespaced,
    derive = "PartialEq",
    printcolumn = r#"{"name":"Delivery","type":"string","jsonPath":".spec.deliveryRef.name"}"#,
    printcolumn = r#"{"name":"By","type":"string","jsonPath":".spec.by"}"#,
    printcolumn = r#"{"name":"Until","type":"string","jsonPath":".spec.until"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".spec.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(
    validation = Rule::new("self.by == oldSelf.by").message("by: a Hold stays with the one who made it; delete it and make another one"),
    validation = Rule::new("!has(self.release) || has(self.deliveryRef)").message("release: say of which Delivery, too (deliveryRef)")
)]
#[serde(rename_all = "camelCase")]
pub struct HoldSpec {
    /// The Delivery that is held. Absent: every one in this namespace; in Haldane's own namespace, every one there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_ref: Option<DeliveryRef>,
    /// Only this Release is held. Absent: every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub release: Option<String>,
    /// Why, for the people who wait.
    #[schemars(length(min = 1, max = 256))]
    pub message: String,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Who holds: the user name that the API server knows the sender by. 340: a service account's at its longest.
    #[schemars(length(min = 1, max = 340))]
    pub by: String,
}
