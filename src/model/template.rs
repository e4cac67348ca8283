//! Pod templates as content: when are two the same, and what is one with another image.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::version::{Identity, TemplateHash, WorkloadName};
use crate::api::{POD_TEMPLATE_HASH, TRACK_LABEL};

/// Digits of an identity: 64 bits. A Delivery sees some ten thousand versions in its life, so two of them share one
/// with a chance of about 10⁸ / 2⁶⁵ < 10⁻¹¹.
const DIGITS: usize = 16;

/// The template without what Kubernetes or Haldane put there, so that equal content is equal JSON.
///
/// Gone are: `creationTimestamp`, the label `pod-template-hash`, every `haldane.dev/` label, nulls and empty maps and lists.
#[must_use]
pub fn normalise(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("creationTimestamp");
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.retain(|key, _| key != POD_TEMPLATE_HASH && key != TRACK_LABEL && !key.starts_with("haldane.dev/"));
        }
    }
    prune(&mut template);
    template
}

fn prune(value: &mut Value) {
    let empty = |v: &Value| match v {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    match value {
        Value::Object(map) => {
            // `emptyDir: {}` says something by being there, so a map that is empty from the start stays.
            map.retain(|_, v| !v.is_null());
            for v in map.values_mut() {
                let was_empty = empty(v);
                prune(v);
                if empty(v) && !was_empty {
                    *v = Value::Null;
                }
            }
            map.retain(|_, v| !v.is_null());
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Identity of one template.
#[must_use]
pub fn hash(template: &Value) -> TemplateHash {
    // serde_json's map is sorted, so that equal values print equal.
    TemplateHash::new(digest(&normalise(template).to_string()))
}

/// Identity of a version: of all its templates together.
#[must_use]
pub fn identity(templates: &BTreeMap<WorkloadName, Value>) -> Identity {
    let lines: Vec<String> = templates.iter().map(|(name, template)| format!("{name}={}", hash(template))).collect();
    Identity::new(digest(&lines.join("\n")))
}

/// A short digest of a text.
#[must_use]
pub fn digest(text: &str) -> String {
    let sum = Sha256::digest(text.as_bytes());
    let mut hex = String::new();
    for byte in sum.iter().take(DIGITS / 2) {
        // Writing to a text cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// The repository part of an image: without tag and digest.
#[must_use]
pub fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    match name.rsplit_once(':') {
        // A colon before a slash belongs to the port of the registry.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// What people call an image: its tag, else the first digits of its digest, else `latest`.
#[must_use]
pub fn tag(image: &str) -> String {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    if let Some((_, tag)) = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        return tag.to_owned();
    }
    digest.map_or_else(|| "latest".to_owned(), |d| d.trim_start_matches("sha256:").chars().take(12).collect())
}

/// The image of the first container: the one that gives a version its name.
#[must_use]
pub fn main_image(template: &Value) -> Option<&str> {
    template.pointer("/spec/containers/0/image").and_then(Value::as_str)
}

/// The template with `image` in every container and init container that is named in `containers`, or, when that is
/// empty, that uses the same repository.
#[must_use]
pub fn with_image(template: &Value, image: &str, containers: &[String]) -> Value {
    let mut template = template.clone();
    for list in ["/spec/containers", "/spec/initContainers"] {
        for container in template.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if takes(container, image, containers) {
                container["image"] = Value::String(image.to_owned());
            }
        }
    }
    template
}

/// Whether any container of the template gets the image by that rule.
#[must_use]
pub fn takes_image(template: &Value, image: &str, containers: &[String]) -> bool {
    taking(template, image, containers).next().is_some()
}

/// Where the template has another image than by that rule, and which: `/spec/containers/0/image`.
#[must_use]
pub fn other_images(template: &Value, image: &str, containers: &[String]) -> Vec<(String, String)> {
    let stored = taking(template, image, containers).filter_map(|(place, container)| Some((place, container.get("image")?.as_str()?)));
    stored.filter(|(_, old)| *old != image).map(|(place, old)| (place, old.to_owned())).collect()
}

fn taking<'a>(template: &'a Value, image: &'a str, containers: &'a [String]) -> impl Iterator<Item = (String, &'a Value)> {
    let of = move |list: &'static str| template.pointer(list).and_then(Value::as_array).into_iter().flatten().enumerate();
    let all = ["/spec/containers", "/spec/initContainers"].into_iter().flat_map(move |list| of(list).map(move |(at, c)| (list, at, c)));
    all.filter(|(_, _, container)| takes(container, image, containers)).map(|(list, at, c)| (format!("{list}/{at}/image"), c))
}

fn takes(container: &Value, image: &str, containers: &[String]) -> bool {
    let named = container.get("name").and_then(Value::as_str).is_some_and(|name| containers.iter().any(|c| c == name));
    let same = container.get("image").and_then(Value::as_str).is_some_and(|old| repository(old) == repository(image));
    named || (containers.is_empty() && same)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_kubernetes_adds_does_not_make_another_version() {
        let wished = json!({"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"name": "app", "image": "shop:1"}], "volumes": [{"emptyDir": {}}]}});
        let stored = json!({"metadata": {"creationTimestamp": null, "labels": {"app": "shop", "pod-template-hash": "abc"}},
            "spec": {"containers": [{"name": "app", "image": "shop:1", "resources": null}], "volumes": [{"emptyDir": {}}]}});
        assert_eq!(hash(&wished), hash(&stored));
    }

    #[test]
    fn every_change_of_the_owner_makes_another_version() {
        let base = json!({"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"name": "app", "image": "shop:1"}]}});
        for (pointer, value) in [("/spec/containers/0/image", json!("shop:2")), ("/metadata/labels/app", json!("other"))] {
            let mut other = base.clone();
            *other.pointer_mut(pointer).unwrap() = value;
            assert_ne!(hash(&base), hash(&other), "{pointer}");
        }
    }

    #[test]
    fn an_empty_volume_is_not_no_volume() {
        let with = json!({"spec": {"volumes": [{"name": "a", "emptyDir": {}}]}});
        let without = json!({"spec": {"volumes": [{"name": "a"}]}});
        assert_ne!(hash(&with), hash(&without));
    }

    #[test]
    fn images_are_told_apart_from_ports_and_digests() {
        assert_eq!(repository("192.0.2.1:5000/shop:v1@sha256:ab"), "192.0.2.1:5000/shop");
        assert_eq!(repository("192.0.2.1:5000/shop"), "192.0.2.1:5000/shop");
        assert_eq!(tag("192.0.2.1:5000/shop"), "latest");
        assert_eq!(tag("shop:v2@sha256:abcd"), "v2");
        assert_eq!(tag("shop@sha256:0123456789abcdef"), "0123456789ab");
    }

    #[test]
    fn a_released_image_goes_where_its_repository_is_or_where_it_is_told() {
        let template = json!({"spec": {"containers": [{"name": "app", "image": "r/shop:1"}, {"name": "proxy", "image": "r/proxy:1"}], "initContainers": [{"name": "migrate", "image": "r/shop:1"}]}});
        let by_repository = with_image(&template, "r/shop:2", &[]);
        assert_eq!(by_repository.pointer("/spec/containers/0/image").unwrap(), "r/shop:2");
        assert_eq!(by_repository.pointer("/spec/containers/1/image").unwrap(), "r/proxy:1");
        assert_eq!(by_repository.pointer("/spec/initContainers/0/image").unwrap(), "r/shop:2");
        let places: Vec<String> = other_images(&template, "r/shop:2", &[]).into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, ["/spec/containers/0/image", "/spec/initContainers/0/image"]);
        assert_eq!(other_images(&by_repository, "r/shop:2", &[]), []);
        let told = with_image(&template, "r/other:2", &["proxy".to_owned()]);
        assert_eq!(told.pointer("/spec/containers/0/image").unwrap(), "r/shop:1");
        assert_eq!(told.pointer("/spec/containers/1/image").unwrap(), "r/other:2");
    }
}
