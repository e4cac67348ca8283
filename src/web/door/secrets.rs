//! What calls are signed with: files of a Secret, read again while the process runs, so that a secret is changed without a restart.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
    time::Duration,
};

use aws_lc_rs::{constant_time, hmac};
use http::HeaderMap;

/// Where GitHub says what it signed with.
const HEADER: &str = "x-hub-signature-256";
/// The secret of the webhook, and the one before it: while GitHub is told the new one, both count.
const GITHUB: [&str; 2] = ["webhookSecret", "webhookSecretOld"];
/// What registries show.
const REGISTRY: &str = "registryToken";
/// How often the files are read again. The kubelet itself takes up to a minute or two to change them.
const AGAIN: Duration = Duration::from_secs(20);
/// Bytes of a secret: below, it can be guessed from one call that was overheard.
const LEAST: usize = 16;

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// Not readable.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Too short to keep anybody out.
    #[error("{path} has less than {LEAST} characters; make one with: openssl rand -hex 32")]
    Short {
        /// Which.
        path: PathBuf,
    },
    /// None at all.
    #[error("{folder} has neither webhookSecret nor registryToken, and a door without a lock is not opened")]
    None {
        /// Where.
        folder: PathBuf,
    },
}

/// What calls must know.
pub struct Secrets {
    folder: PathBuf,
    now: RwLock<Read>,
}

struct Read {
    github: Vec<hmac::Key>,
    registry: Option<Vec<u8>>,
    relay: Option<hmac::Key>,
}

impl Secrets {
    /// Of the files of this folder.
    ///
    /// # Errors
    /// When there is no secret, or one is too short.
    pub fn read(folder: &Path) -> Result<Self, SecretsError> {
        Ok(Self { folder: folder.to_owned(), now: RwLock::new(read(folder)?) })
    }

    /// Reads them again, for ever. While they cannot be read, those of before count.
    pub async fn keep_reading(&self) {
        loop {
            tokio::time::sleep(AGAIN).await;
            match read(&self.folder) {
                Ok(new) => *self.now.write().unwrap_or_else(PoisonError::into_inner) = new,
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the secrets of webhooks stay as they were"),
            }
        }
    }

    /// Whether GitHub signed this.
    pub(super) fn signed(&self, body: &[u8], signature: &[u8]) -> bool {
        // In constant time each; which of the two it was is no secret.
        self.get().github.iter().any(|key| hmac::verify(key, body, signature).is_ok())
    }

    /// Whether this is what registries show.
    pub(super) fn is_registry(&self, token: &str) -> bool {
        self.get().registry.as_deref().is_some_and(|ours| constant_time::verify_slices_are_equal(ours, token.as_bytes()).is_ok())
    }

    /// Whether another replica signed this.
    pub(super) fn relayed(&self, body: &[u8], signature: &[u8]) -> bool {
        self.get().relay.as_ref().is_some_and(|key| hmac::verify(key, body, signature).is_ok())
    }

    /// Signed for another replica, as the value of the header.
    pub(super) fn sign_relayed(&self, body: &[u8]) -> Option<String> {
        self.get().relay.as_ref().map(|key| format!("sha256={}", hex::encode(hmac::sign(key, body))))
    }

    fn get(&self) -> std::sync::RwLockReadGuard<'_, Read> {
        self.now.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(folder: &Path) -> Result<Read, SecretsError> {
    let mut github = Vec::new();
    for name in GITHUB {
        github.extend(secret(folder, name)?);
    }
    let registry = secret(folder, REGISTRY)?;
    let first = github.first().or(registry.as_ref()).ok_or_else(|| SecretsError::None { folder: folder.to_owned() })?;
    // Another key than GitHub's, so that what one signs never counts as the other's.
    let relay = hmac::sign(&key(first), b"from one replica of haldane to another");
    Ok(Read { relay: Some(key(relay.as_ref())), github: github.iter().map(|secret| key(secret)).collect(), registry })
}

fn key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

/// A file without the blanks at its ends; none: there is no such file, or nothing in it.
fn secret(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, SecretsError> {
    let path = folder.join(name);
    match fs::read(&path) {
        Ok(bytes) => match bytes.trim_ascii() {
            [] => Ok(None),
            short if short.len() < LEAST => Err(SecretsError::Short { path }),
            secret => Ok(Some(secret.to_vec())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SecretsError::File { path, source }),
    }
}

/// What the caller says it signed with. `sha1=`, which GitHub sends beside it, is not looked at.
pub(super) fn signature(headers: &HeaderMap) -> Option<Vec<u8>> {
    let text = headers.get(HEADER)?.to_str().ok()?.strip_prefix("sha256=")?;
    // 32 bytes of SHA-256.
    hex::decode(text).ok().filter(|bytes| bytes.len() == 32)
}
