//! Prints the definitions of our kinds. The only user of `serde_yaml`, and only for writing.
//!
//! What is derived from the types is made into what Kubernetes' own tools would write: no `nullable` (an absent field is
//! the one way to say nothing), no schema defaults (they are filled in by [`crate::model::plan`]), no number formats that
//! the API server does not know, and the text of a kind where `kubectl explain` looks for it first.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt as _;

use super::{
    command::Command, delivery::Delivery, hold::Hold, policy::DeliveryPolicy, probe::ProductionProbe, probe_run::ProbeRun, release::Release,
};

/// The formats of numbers and strings that the API server knows and our types use. Others only bring a warning.
const FORMATS: [&str; 3] = ["int32", "int64", "date-time"];

/// The definitions of all our kinds.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut all =
        vec![Command::crd(), Delivery::crd(), DeliveryPolicy::crd(), Hold::crd(), ProbeRun::crd(), ProductionProbe::crd(), Release::crd()];
    for version in all.iter_mut().flat_map(|crd| &mut crd.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            tidy(schema);
            title(schema);
        }
    }
    all
}

/// The same as one YAML stream.
///
/// # Errors
/// None that is known: the definitions are plain maps.
pub fn yaml() -> Result<String, serde_yaml::Error> {
    let mut documents = String::new();
    for crd in definitions() {
        documents.push_str("---\n");
        documents.push_str(&serde_yaml::to_string(&crd)?);
    }
    Ok(documents.lines().flat_map(|line| [whole(line), "\n"]).collect())
}

/// Bounds are `f64` in the type and whole numbers in fact.
fn whole(line: &str) -> &str {
    let bound = ["minimum: ", "maximum: "].iter().any(|key| line.trim_start().starts_with(key));
    if bound { line.strip_suffix(".0").unwrap_or(line) } else { line }
}

fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.default = None;
    schema.title = None;
    if schema.format.as_deref().is_some_and(|format| !FORMATS.contains(&format)) {
        schema.format = None;
    }
    for (name, property) in schema.properties.iter_mut().flatten() {
        tidy(property);
        if name == "conditions" {
            items(property).for_each(bound_condition);
        }
    }
    items(schema).for_each(tidy);
    if let Some(JSONSchemaPropsOrBool::Schema(inner)) = &mut schema.additional_properties {
        tidy(inner);
    }
}

fn items(schema: &mut JSONSchemaProps) -> impl Iterator<Item = &mut JSONSchemaProps> {
    schema.items.as_mut().into_iter().flat_map(|items| match items {
        JSONSchemaPropsOrArray::Schema(one) => std::slice::from_mut(one.as_mut()),
        JSONSchemaPropsOrArray::Schemas(many) => many.as_mut_slice(),
    })
}

/// The bounds of `metav1.Condition`, which the type from k8s-openapi does not carry.
fn bound_condition(condition: &mut JSONSchemaProps) {
    for (name, property) in condition.properties.iter_mut().flatten() {
        match name.as_str() {
            "message" => property.max_length = Some(32_768),
            "reason" => (property.min_length, property.max_length) = (Some(1), Some(1024)),
            "type" => (property.min_length, property.max_length) = (Some(1), Some(316)),
            "status" => property.enum_ = Some(["True", "False", "Unknown"].map(|s| JSON(s.into())).to_vec()),
            "observedGeneration" => property.minimum = Some(0.0),
            _ => {}
        }
    }
}

/// `kubectl explain` of a kind shows the text of the root, which the derive fills with a word about itself.
fn title(root: &mut JSONSchemaProps) {
    let spec = root.properties.as_ref().and_then(|p| p.get("spec")).and_then(|spec| spec.description.clone());
    root.description = spec.or(root.description.take());
}
