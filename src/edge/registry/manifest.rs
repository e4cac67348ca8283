//! What manifests and configs say of their origin. Bytes in, facts out.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Origin;
use crate::model::source::Digest;

/// What a registry must be told that we take: it answers 404 for a type that is left out.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Platforms that are looked at: Debian's official images have nine. Each costs two GETs.
const PLATFORMS: usize = 32;

/// Characters of a revision or a source that are kept: 1024 remembered × 2 × 512 = 1 MiB.
const TEXT: usize = 512;

const REVISION: &str = "org.opencontainers.image.revision";
const SOURCE: &str = "org.opencontainers.image.source";

/// Types of a config that has labels; an artifact's config is something else.
const CONFIGS: [&str; 2] = ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// A manifest, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Manifest {
    /// Of several platforms.
    Index {
        /// By its annotations.
        says: Origin,
        /// Those that can run.
        platforms: Vec<Digest>,
    },
    /// Of one.
    Image {
        /// By its annotations.
        says: Origin,
        /// Where its labels are; none: it can have none.
        config: Option<Digest>,
    },
}

type Texts = BTreeMap<String, String>;

#[derive(Deserialize)]
struct Document {
    annotations: Option<Texts>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    media_type: Option<String>,
    platform: Option<Platform>,
    annotations: Option<Texts>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

#[derive(Deserialize)]
struct Config {
    config: Option<Inner>,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(rename = "Labels")]
    labels: Option<Texts>,
}

impl Manifest {
    /// Reads one; else what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(bytes).map_err(|error| format!("manifest: {}", place(&error)))?;
        let says = document.annotations.as_ref().map(Origin::of).unwrap_or_default();
        match (document.manifests, document.config, document.layers) {
            (Some(manifests), None, None) => Ok(Self::Index { says, platforms: platforms(&manifests)? }),
            (None, Some(config), _) => {
                let labelled = config.media_type.as_deref().is_some_and(|media| CONFIGS.contains(&media));
                Ok(Self::Image { says, config: labelled.then(|| config.digest()).transpose()? })
            }
            // Two readers of one manifest must not see two images: CVE-2021-41190.
            (Some(_), _, _) => Err("manifest: it is an index and an image at once".to_owned()),
            (None, None, _) => Err("manifest: it is neither an index nor an image".to_owned()),
        }
    }
}

fn platforms(manifests: &[Descriptor]) -> Result<Vec<Digest>, String> {
    let platforms = manifests.iter().filter(|entry| !entry.is_attestation()).map(Descriptor::digest).collect::<Result<Vec<_>, _>>()?;
    if platforms.len() > PLATFORMS { Err(format!("manifest: more than {PLATFORMS} platforms")) } else { Ok(platforms) }
}

impl Descriptor {
    fn digest(&self) -> Result<Digest, String> {
        Digest::parse(&self.digest).ok_or_else(|| "manifest: a digest in it is not of SHA-256".to_owned())
    }

    /// What builders put beside the images: it says things of them, and does not run.
    fn is_attestation(&self) -> bool {
        let unknown = self.platform.as_ref().is_some_and(|p| p.architecture == "unknown" && p.os == "unknown");
        unknown || self.annotations.as_ref().is_some_and(|texts| texts.contains_key("vnd.docker.reference.type"))
    }
}

impl Origin {
    /// By the labels of a config; else what is wrong with it.
    pub(super) fn of_config(bytes: &[u8]) -> Result<Self, String> {
        let config: Config = serde_json::from_slice(bytes).map_err(|error| format!("config of the image: {}", place(&error)))?;
        Ok(config.config.and_then(|inner| inner.labels).as_ref().map(Self::of).unwrap_or_default())
    }

    fn of(texts: &Texts) -> Self {
        let of = |key: &str| texts.get(key).filter(|text| (1..=TEXT).contains(&text.len())).cloned();
        Self { revision: of(REVISION), source: of(SOURCE) }
    }

    /// Whether nobody else need be asked.
    pub(super) fn is_whole(&self) -> bool {
        self.revision.is_some() && self.source.is_some()
    }

    /// What this says, and where it says nothing, what the other says.
    #[must_use]
    pub(super) fn or(self, other: Self) -> Self {
        Self { revision: self.revision.or(other.revision), source: self.source.or(other.source) }
    }

    /// What all say; one that says nothing is of no other's opinion.
    pub(super) fn agreed(all: &[Self]) -> Self {
        let Some((first, rest)) = all.split_first() else { return Self::default() };
        let revision = first.revision.clone().filter(|_| rest.iter().all(|other| other.revision == first.revision));
        let source = first.source.clone().filter(|_| rest.iter().all(|other| other.source == first.source));
        Self { revision, source }
    }
}

/// Where it does not fit, without the text itself.
fn place(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "it has other fields than the OCI image specification says",
        serde_json::error::Category::Eof => "it ends in the middle",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is not JSON",
    };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn digest(c: char) -> Digest {
        Digest::parse(&format!("sha256:{}", c.to_string().repeat(64))).unwrap()
    }

    fn parse(value: &Value) -> Result<Manifest, String> {
        Manifest::parse(value.to_string().as_bytes())
    }

    fn origin(revision: &str, source: &str) -> Origin {
        let own = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Origin { revision: own(revision), source: own(source) }
    }

    #[test]
    fn an_index_is_its_platforms_without_attestations() {
        let index = json!({
            "schemaVersion": 2, "annotations": {REVISION: "r", "other": "x"},
            "manifests": [
                {"digest": digest('a').as_str(), "platform": {"architecture": "amd64", "os": "linux"}},
                {"digest": digest('b').as_str()},
                {"digest": digest('c').as_str(), "platform": {"architecture": "unknown", "os": "unknown"}},
                {"digest": digest('d').as_str(), "annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
            ],
        });
        assert_eq!(parse(&index), Ok(Manifest::Index { says: origin("r", ""), platforms: vec![digest('a'), digest('b')] }));
    }

    #[test]
    fn an_image_is_its_annotations_and_its_config() {
        for (media, config) in
            [(CONFIGS[0], Some(digest('a'))), (CONFIGS[1], Some(digest('a'))), ("application/vnd.cncf.helm.config.v1+json", None)]
        {
            let image =
                json!({"config": {"mediaType": media, "digest": digest('a').as_str()}, "layers": [{}], "annotations": {SOURCE: "s"}});
            assert_eq!(parse(&image), Ok(Manifest::Image { says: origin("", "s"), config }), "{media}");
        }
    }

    #[test]
    fn what_is_no_manifest_is_told_without_its_text() {
        let config = json!({"mediaType": CONFIGS[0], "digest": digest('a').as_str()});
        for (value, said) in [
            (json!({"manifests": [], "config": config}), "an index and an image at once"),
            (json!({"manifests": [], "layers": []}), "an index and an image at once"),
            (json!({"schemaVersion": 1, "fsLayers": []}), "neither an index nor an image"),
            (json!({"config": {"mediaType": CONFIGS[0], "digest": "sha512:s3cret"}}), "not of SHA-256"),
            (json!({"annotations": {"a": 1}, "manifests": []}), "other fields"),
            (json!(["s3cret"]), "other fields"),
            (json!({"manifests": vec![json!({"digest": digest('a').as_str()}); 33]}), "more than 32 platforms"),
        ] {
            let error = parse(&value).unwrap_err();
            assert!(error.contains(said) && !error.contains("s3cret"), "{error}");
        }
        assert!(Manifest::parse(b"<html>").unwrap_err().contains("not JSON"));
        assert!(Manifest::parse(b"{\"manifests\":").unwrap_err().contains("ends in the middle"));
    }

    #[test]
    fn labels_are_read_where_there_are_any() {
        let of = |value: Value| Origin::of_config(value.to_string().as_bytes()).unwrap();
        assert_eq!(of(json!({"config": {"Labels": {REVISION: "r", SOURCE: "s"}}})), origin("r", "s"));
        assert_eq!(of(json!({"config": {"Labels": {REVISION: "", SOURCE: "x".repeat(513)}}})), Origin::default());
        for value in [json!({"config": {"Labels": null}}), json!({"config": null}), json!({})] {
            assert_eq!(of(value), Origin::default());
        }
        assert!(Origin::of_config(b"{\"config\": []}").is_err());
    }

    #[test]
    fn platforms_agree_or_say_nothing() {
        for (all, means) in [
            (vec![], origin("", "")),
            (vec![origin("r", "s")], origin("r", "s")),
            (vec![origin("r", "s"), origin("r", "t")], origin("r", "")),
            (vec![origin("r", "s"), origin("", "s")], origin("", "s")),
            (vec![origin("", "s"), origin("r", "s")], origin("", "s")),
        ] {
            assert_eq!(Origin::agreed(&all), means, "{all:?}");
        }
        assert_eq!(origin("r", "").or(origin("x", "s")), origin("r", "s"));
        assert!(origin("r", "s").is_whole() && !origin("r", "").is_whole());
    }
}
