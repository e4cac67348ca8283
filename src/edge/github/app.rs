//! Haldane's own GitHub App: what it may do, and how it comes into being by GitHub's manifest flow ("Registering a GitHub App from
//! a manifest"): a person sends the manifest with their browser, and what comes back is exchanged once for the key.

use octocrab::secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::edge::forge::ForgeError;

use super::{
    access::SetupError,
    desk::unreadable,
    wire::{Call, JSON, MOST, Question, Wire},
};

/// What there is to hear, and what must be readable for it and for the facts.
const EVENTS: [&str; 6] = ["check_suite", "package", "push", "registry_package", "status", "workflow_run"];
const MAY_READ: [&str; 7] = ["actions", "checks", "contents", "metadata", "packages", "pull_requests", "statuses"];

/// What a person is asked to make.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its name, which no other App of that GitHub has.
    pub name: String,
    /// Where its webhooks go; none: it has none, and branches are looked at once a minute.
    pub hooks: Option<String>,
    /// Where the person's browser is sent back to.
    pub back: String,
}

/// An App that was made. What is secret in it is never shown.
#[derive(Debug)]
pub struct NewApp {
    /// Its number.
    pub id: u64,
    /// Its page, where it is installed on repositories.
    pub page: String,
    /// Its private key, in PEM.
    pub key: SecretString,
    /// What its webhooks are signed with, if it has any.
    pub webhook_secret: Option<SecretString>,
}

#[derive(Deserialize)]
struct Converted {
    id: u64,
    html_url: String,
    pem: String,
    webhook_secret: Option<String>,
}

impl Manifest {
    /// As GitHub takes it.
    #[must_use]
    pub fn json(&self) -> Value {
        let permissions: serde_json::Map<String, Value> = MAY_READ.into_iter().map(|name| (name.to_owned(), "read".into())).collect();
        // GitHub wants an address even of hooks that are off.
        let hooks = self.hooks.as_deref().unwrap_or("https://example.com/");
        json!({
            "name": self.name,
            "url": "https://github.com/haldane-dev/haldane",
            "description": "Haldane delivers what is merged to Kubernetes, behind a canary.",
            "public": false,
            "redirect_url": self.back,
            "hook_attributes": {"url": hooks, "active": self.hooks.is_some()},
            "default_permissions": permissions,
            "default_events": if self.hooks.is_some() { &EVENTS[..] } else { &[] },
        })
    }
}

/// Exchanges what came back for the App. It counts once, and for an hour.
///
/// # Errors
/// When the address is none, GitHub does not know the code, or cannot be reached.
pub async fn exchange(base: &str, code: &str) -> Result<NewApp, ExchangeError> {
    let wire = Wire::new(base)?;
    let route = super::wire::path(["app-manifests", code, "conversions"]);
    let question = Question { what: "the new app".to_owned(), call: Call::Post(route, None), accept: JSON, most: MOST };
    let answer = wire.ask(None, &question).await?.good(&question)?;
    // Without the words of the reader: they may repeat the key.
    let made: Converted = serde_json::from_slice(&answer.body).map_err(|_| unreadable(&question.what, &"that is no app with a key"))?;
    Ok(NewApp { id: made.id, page: made.html_url, key: made.pem.into(), webhook_secret: made.webhook_secret.map(SecretString::from) })
}

/// Why there is no App.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The address is none.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// GitHub did not give it.
    #[error(transparent)]
    Forge(#[from] ForgeError),
}
