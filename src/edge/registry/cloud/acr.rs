//! Azure Container Registry: our `ServiceAccount`'s token → a token of Entra ID (workload identity federation) → the registry's own.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Case, Cloud, CloudError, Desk, encoded};
use crate::clock::Clock;
use crate::edge::registry::Login;
use crate::edge::registry::wire::SetupError;

/// Where Entra ID is, unless in a cloud of its own.
const AUTHORITY: &str = "https://login.microsoftonline.com";
const SCOPE: &str = "https://containerregistry.azure.net/.default";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Who comes with a token of the registry instead of a name.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
/// A refresh token lives three hours (AAD-OAuth.md of Azure/acr) and does not say so; it is renewed long before.
const LIVES: i64 = 3600;
const DOMAINS: [&str; 3] = [".azurecr.io", ".azurecr.cn", ".azurecr.us"];

/// Logins for registries at Azure.
pub struct Acr {
    desk: Desk,
    tenant: String,
    client: String,
    token_file: PathBuf,
    authority: String,
    exchange: Option<String>,
}

#[derive(Deserialize)]
struct Access {
    access_token: String,
}

#[derive(Deserialize)]
struct Refresh {
    refresh_token: String,
}

impl Acr {
    /// As `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_FEDERATED_TOKEN_FILE` say, which AKS sets.
    ///
    /// # Errors
    /// When the extra CA cannot be read.
    pub fn new(
        tenant: String,
        client: String,
        token_file: PathBuf,
        extra_ca: Option<&[u8]>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        let desk = Desk::new("Azure", extra_ca, clock)?;
        Ok(Self { desk, tenant, client, token_file, authority: AUTHORITY.to_owned(), exchange: None })
    }

    /// Asks there instead: `AZURE_AUTHORITY_HOST`, and what stands for the registry itself. Base URLs.
    #[must_use]
    pub fn at(self, authority: Option<String>, exchange: Option<String>) -> Self {
        Self { authority: authority.unwrap_or(self.authority), exchange, ..self }
    }

    async fn fetch(&self, case: Case<'_>) -> Result<(String, String, Timestamp), CloudError> {
        let assertion = case.identity(&self.token_file).await?;
        let uri = format!("{}/{}/oauth2/v2.0/token", self.authority.trim_end_matches('/'), encoded(&self.tenant));
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client),
            ("client_assertion_type", ASSERTION),
            ("client_assertion", &assertion),
            ("scope", SCOPE),
        ];
        let access: Access = case.json(&case.form(uri, &fields).await?)?;
        let base = self.exchange.clone().unwrap_or_else(|| format!("https://{}", case.host));
        let fields =
            [("grant_type", "access_token"), ("service", case.host), ("tenant", &self.tenant), ("access_token", &access.access_token)];
        let refresh: Refresh = case.json(&case.form(format!("{}/oauth2/exchange", base.trim_end_matches('/')), &fields).await?)?;
        Ok((NOBODY.to_owned(), refresh.refresh_token, case.after(LIVES)))
    }
}

impl Cloud for Acr {
    fn login<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Option<Login>, CloudError>> {
        Box::pin(async move {
            if !DOMAINS.iter().any(|domain| host.ends_with(domain)) {
                return Ok(None);
            }
            self.desk.login(host, |case| self.fetch(case)).await
        })
    }
}
