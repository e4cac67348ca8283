//! Prints the CustomResourceDefinitions. The only user of `serde_yaml`, and only for writing.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use super::{command::Command, delivery::Delivery, hold::Hold, probe::ProductionProbe, release::Release};

/// The definitions of all our kinds.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![Command::crd(), Delivery::crd(), Hold::crd(), ProductionProbe::crd(), Release::crd()]
}

/// The same as one YAML stream.
///
/// # Errors
/// None that is known: the definitions are plain maps.
pub fn yaml() -> Result<String, serde_yaml::Error> {
    definitions().iter().map(|crd| Ok(format!("---\n{}", serde_yaml::to_string(crd)?))).collect()
}
