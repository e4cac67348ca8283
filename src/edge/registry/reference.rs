//! Names of images: what a person writes as what a registry takes. The grammar is that of the `distribution/reference` package.

use std::net::Ipv6Addr;

use super::ImageRef;
use crate::model::source::Digest;
use crate::model::template;

/// Characters of host and path together that a registry takes.
const NAME: usize = 255;
/// Characters of a tag that a registry takes.
const TAG: usize = 128;
/// Characters of a host name in DNS, and of each of its labels.
const HOST: usize = 253;
const LABEL: usize = 63;

/// What is meant where no host is written.
const DOCKER_HUB: &str = "docker.io";
/// Its old name; the same place.
const DOCKER_HUB_OLD: &str = "index.docker.io";

/// Why a text is not an image that a registry could have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefError {
    /// `…@sha256:…`.
    #[error("the image is pinned to a digest; name it by a tag, the digest is what Haldane finds out")]
    Digest,
    /// Not a host.
    #[error("{host:?} is no host of a registry; write ghcr.io or registry.example.com:5000, without https://")]
    Host {
        /// What stands in its place.
        host: String,
    },
    /// Not a path.
    #[error("{path:?} is no repository; a repository is small letters and digits, joined by . _ __ or -, with / between its parts")]
    Path {
        /// What stands in its place.
        path: String,
    },
    /// Not a tag.
    #[error("{tag:?} is no tag; a tag is up to 128 letters, digits, . _ and -, and begins with none of . and -")]
    Tag {
        /// What stands in its place.
        tag: String,
    },
    /// Longer than registries take.
    #[error("the name of the image is longer than {NAME} characters; no registry takes that")]
    TooLong,
}

impl ImageRef {
    /// Of what a person writes: `nginx`, `acme/checkout:v1`, `registry.example.com:5000/checkout`. Without a tag it is `latest`,
    /// without a host Docker Hub.
    ///
    /// # Errors
    /// When no registry takes it, or it names a digest.
    pub fn parse(text: &str) -> Result<Self, ImageRefError> {
        if text.contains('@') {
            return Err(ImageRefError::Digest);
        }
        Self::new(template::repository(text), &template::tag(text))
    }

    /// Of a repository as a person writes it, `ghcr.io/acme/checkout`, and a tag.
    ///
    /// # Errors
    /// When no registry takes it.
    pub fn new(repository: &str, tag: &str) -> Result<Self, ImageRefError> {
        if repository.contains('@') {
            return Err(ImageRefError::Digest);
        }
        if !is_tag(tag) {
            return Err(ImageRefError::Tag { tag: tag.to_owned() });
        }
        // As Docker does: `acme/checkout` is a path at Docker Hub, `acme.io/checkout` and `localhost/checkout` begin with a host.
        let (host, path) = match repository.split_once('/') {
            Some((host, path)) if host == "localhost" || host.bytes().any(|b| matches!(b, b'.' | b':') || b.is_ascii_uppercase()) => {
                (host, path)
            }
            _ => (DOCKER_HUB, repository),
        };
        if !is_host(host) {
            return Err(ImageRefError::Host { host: host.to_owned() });
        }
        if !path.split('/').all(is_component) {
            return Err(ImageRefError::Path { path: path.to_owned() });
        }
        let host = if host.eq_ignore_ascii_case(DOCKER_HUB_OLD) { DOCKER_HUB.to_owned() } else { host.to_ascii_lowercase() };
        let path = if host == DOCKER_HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        if host.len() + 1 + path.len() > NAME {
            return Err(ImageRefError::TooLong);
        }
        Ok(Self { host, path, tag: tag.to_owned() })
    }

    /// Without the tag, `ghcr.io/acme/checkout`.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    /// What pods are given, `ghcr.io/acme/checkout@sha256:…`.
    #[must_use]
    pub fn at(&self, digest: &Digest) -> String {
        format!("{}/{}@{digest}", self.host, self.path)
    }

    /// Where its API is: Docker Hub's is not where its name says.
    pub(super) fn api(&self) -> &str {
        if self.host == DOCKER_HUB { "registry-1.docker.io" } else { &self.host }
    }
}

fn is_host(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, port)| {
            address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        });
    }
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    name.len() <= HOST && name.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_label(label: &str) -> bool {
    (1..=LABEL).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(component: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let joint = |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|b| b == b'-');
    component.starts_with(word) && component.ends_with(word) && component.split(word).all(joint)
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= TAG && tag.starts_with(word) && tag.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_they_mean_to_docker() {
        for (text, whole) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("acme/checkout:v1", "docker.io/acme/checkout:v1"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/acme/checkout", "docker.io/acme/checkout:latest"),
            ("localhost/shop", "localhost/shop:latest"),
            ("localhost:5000/shop:v1", "localhost:5000/shop:v1"),
            ("192.0.2.1:5000/a/b/c:x", "192.0.2.1:5000/a/b/c:x"),
            ("[2001:db8::1]:5000/shop:v1", "[2001:db8::1]:5000/shop:v1"),
            ("GHCR.io/acme/checkout", "ghcr.io/acme/checkout:latest"),
            ("ghcr.io/a__b/c-d.e--f:Sha_1.2-3", "ghcr.io/a__b/c-d.e--f:Sha_1.2-3"),
        ] {
            assert_eq!(ImageRef::parse(text).map(|image| image.to_string()), Ok(whole.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_no_registry_takes_is_refused_with_the_part_that_is_wrong() {
        let kind = |text: &str| match ImageRef::parse(text).unwrap_err() {
            ImageRefError::Digest => "digest",
            ImageRefError::Host { .. } => "host",
            ImageRefError::Path { .. } => "path",
            ImageRefError::Tag { .. } => "tag",
            ImageRefError::TooLong => "long",
        };
        for (text, part) in [
            ("shop@sha256:ab", "digest"),
            ("https://ghcr.io/acme/shop", "host"),
            ("-a.io/shop", "host"),
            ("a..io/shop", "host"),
            ("a.io:0/shop", "host"),
            ("a.io:65536/shop", "host"),
            ("a.io:+80/shop", "host"),
            ("[::g]:80/shop", "host"),
            ("a.io:/shop", "host"),
            ("user@a.io/shop", "digest"),
            ("", "path"),
            ("ghcr.io/", "path"),
            ("ghcr.io/acme//shop", "path"),
            ("ghcr.io/Acme/shop", "path"),
            ("ghcr.io/acme/../shop", "path"),
            ("ghcr.io/a___b", "path"),
            ("ghcr.io/a._b", "path"),
            ("ghcr.io/acme/shop?x", "path"),
            ("ghcr.io/acme/shöp", "path"),
            ("shop:", "tag"),
            ("shop:.a", "tag"),
            ("shop:a b", "tag"),
            ("shop:{sha}", "tag"),
        ] {
            assert_eq!(kind(text), part, "{text}");
        }
        assert_eq!(kind(&format!("shop:{}", "a".repeat(129))), "tag");
        assert_eq!(kind(&format!("ghcr.io/{}", "a".repeat(248))), "long");
        assert!(ImageRef::parse(&format!("ghcr.io/{}:{}", "a".repeat(247), "a".repeat(128))).is_ok());
    }

    #[test]
    fn a_digest_goes_where_the_tag_was() {
        let image = ImageRef::new("acme/checkout", "v1").unwrap();
        let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
        assert_eq!(image.repository(), "docker.io/acme/checkout");
        assert_eq!(image.at(&digest), format!("docker.io/acme/checkout@{digest}"));
        assert_eq!(image.api(), "registry-1.docker.io");
        assert_eq!(ImageRef::new("a.io/shop@sha256:ab", "v1"), Err(ImageRefError::Digest));
    }
}
