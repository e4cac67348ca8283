//! What a registry says of a tag, as a fact or as the reason why it is not known.

use std::sync::Arc;

use super::{Logins, LoginsFor, round::Failure};
use crate::{
    edge::registry::{ImageRef, Registry, RegistryError},
    model::source::{Built, Unsaid},
};

/// The registries, and what opens them.
pub(super) struct Images {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) logins: Arc<dyn Logins>,
}

impl Images {
    /// The image that a tag names now.
    ///
    /// # Errors
    /// When the registry wants to be left alone: that is known of all its images.
    pub(super) async fn of(&self, repository: &str, tag: &str, logins: &LoginsFor) -> Result<Built, Failure> {
        let person = |says: String| Built::Unsaid(Unsaid { person: true, says });
        let image = match ImageRef::new(repository, tag) {
            Ok(image) => image,
            Err(error) => return Ok(person(error.to_string())),
        };
        let logins = match self.logins.of(logins, &image).await {
            Ok(logins) => logins,
            Err(says) => return Ok(person(says)),
        };
        let digest = match self.registry.digest(&image, &logins).await {
            Ok(None) => return Ok(Built::Absent),
            Ok(Some(digest)) => digest,
            Err(error) => return unsaid(&error),
        };
        match self.registry.origin(&image, &digest, &logins).await {
            Ok(origin) => Ok(Built::Found { digest, revision: origin.revision }),
            Err(error) => unsaid(&error),
        }
    }
}

fn unsaid(error: &RegistryError) -> Result<Built, Failure> {
    let says = error.to_string();
    match error {
        RegistryError::Limited { until, .. } => Err(Failure { unsaid: Unsaid { person: false, says }, until: Some(*until) }),
        RegistryError::Denied { .. } => Ok(Built::Unsaid(Unsaid { person: true, says })),
        RegistryError::Slow { .. } | RegistryError::Ill { .. } | RegistryError::Unreadable { .. } => {
            Ok(Built::Unsaid(Unsaid { person: false, says }))
        }
    }
}
