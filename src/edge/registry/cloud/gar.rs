//! Google's registries: the metadata server gives a token of our `ServiceAccount`'s identity (Workload Identity), for an hour.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::Request;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Case, Cloud, CloudError, Desk};
use crate::clock::Clock;
use crate::edge::registry::Login;
use crate::edge::registry::wire::SetupError;

/// Only within the node, so without TLS.
const METADATA: &str = "http://metadata.google.internal";
const PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// Logins for Artifact Registry and what is left of Container Registry.
pub struct Gar {
    desk: Desk,
    metadata: String,
}

#[derive(Deserialize)]
struct Answered {
    access_token: String,
    expires_in: u32,
}

impl Gar {
    /// By the metadata server of the node.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        Ok(Self { desk: Desk::new("Google Cloud", None, clock)?, metadata: METADATA.to_owned() })
    }

    /// Asks there instead, as `GCE_METADATA_HOST` would say: a base URL without a path.
    #[must_use]
    pub fn at(self, metadata: String) -> Self {
        Self { metadata, ..self }
    }

    async fn fetch(&self, case: Case<'_>) -> Result<(String, String, Timestamp), CloudError> {
        let request = Request::get(format!("{}{PATH}", self.metadata)).header("Metadata-Flavor", "Google");
        let answer = case.send(request, String::new()).await?;
        // Without it somebody else answers in its place (a captive network, a name that is not theirs).
        if answer.headers.get("metadata-flavor").is_none_or(|value| value != "Google") {
            return Err(case.unreadable("who answers is not the metadata server"));
        }
        let given: Answered = case.json(&answer)?;
        Ok(("oauth2accesstoken".to_owned(), given.access_token, case.after(given.expires_in.into())))
    }
}

impl Cloud for Gar {
    fn login<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Option<Login>, CloudError>> {
        Box::pin(async move {
            if !(host == "gcr.io" || host.ends_with(".gcr.io") || host.ends_with("-docker.pkg.dev")) {
                return Ok(None);
            }
            self.desk.login(host, |case| self.fetch(case)).await
        })
    }
}
