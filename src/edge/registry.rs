//! Registries of images (OCI distribution): which digest a tag names, and which commit it was built from.
//!
//! Deliberately absent: lists of tags (the tag is known, so one HEAD answers), pulling, retries (a fact that could not be read is
//! read again when it is due; only a login that has run out is renewed, once).

mod access;
mod challenge;
pub mod cloud;
pub mod keychain;
mod manifest;
mod memory;
mod oci;
mod reference;
pub(in crate::edge) mod wire;

#[cfg(test)]
mod tests;

pub use keychain::{Keychain, KeychainError};
pub use oci::{LIMIT, OciRegistry, Settings};
pub use reference::ImageRefError;
pub use wire::SetupError;

use std::{fmt, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::model::source::Digest;

/// An image by tag, `ghcr.io/acme/checkout:sha-3f2a1c9`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    /// Host and port of the registry, e.g. `ghcr.io`; what Docker leaves away (`docker.io`, `library/`) is filled in.
    pub host: String,
    /// The path there, e.g. `acme/checkout`.
    pub path: String,
    /// e.g. `sha-3f2a1c9`.
    pub tag: String,
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.host, self.path, self.tag)
    }
}

/// A name and a word that a registry takes, and where we have them from.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// e.g. `Secret ghcr`; shown.
    pub from: String,
    /// Never shown.
    pub username: String,
    /// Never shown.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("from", &self.from).finish_non_exhaustive()
    }
}

/// What an image says of its own origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// `org.opencontainers.image.revision`: of the index, else of the manifest, else the label of the configs, where all
    /// platforms say the same.
    pub revision: Option<String>,
    /// `org.opencontainers.image.source`, the same way.
    pub source: Option<String>,
}

/// What of a registry is asked.
pub trait Registry: Send + Sync {
    /// The digest that this tag names now; none: there is no such tag (yet). Logins are tried in their order, then none.
    ///
    /// # Errors
    /// When the registry did not say.
    fn digest<'a>(&'a self, image: &'a ImageRef, logins: &'a [Login]) -> BoxFuture<'a, Result<Option<Digest>, RegistryError>>;

    /// What the image of that digest says of its origin. The same for ever, so it is remembered.
    ///
    /// # Errors
    /// When the registry did not say.
    fn origin<'a>(&'a self, image: &'a ImageRef, digest: &'a Digest, logins: &'a [Login]) -> BoxFuture<'a, Result<Origin, RegistryError>>;
}

/// Why a registry did not say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// 401 or 403 with every login, and without one.
    #[error(
        "{host} refuses to show {path} (tried: {tried}); name a Secret of type kubernetes.io/dockerconfigjson in spec.source.image.pullSecretRef or in the pods' imagePullSecrets, or let the administrator give one for {host}"
    )]
    Denied {
        /// The registry.
        host: String,
        /// The repository.
        path: String,
        /// Where the logins came from, or `no login`.
        tried: String,
    },
    /// 429.
    #[error("{host} wants no more questions until {until:.0}")]
    Limited {
        /// The registry.
        host: String,
        /// Until then nothing is asked.
        until: Timestamp,
    },
    /// No answer in time.
    #[error("{host} did not answer within {limit:?}")]
    Slow {
        /// The registry.
        host: String,
        /// For how long we waited.
        limit: Duration,
    },
    /// It is ill, or cannot be reached.
    #[error("{host} cannot be reached or is ill ({said})")]
    Ill {
        /// The registry.
        host: String,
        /// What it said, or what the connection did.
        said: String,
    },
    /// Its answer is not what the protocol says.
    #[error("{host} answered something that cannot be read ({said})")]
    Unreadable {
        /// The registry.
        host: String,
        /// Where it does not fit.
        said: String,
    },
}
