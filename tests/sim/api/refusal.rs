//! What the server says when it says no: a `metav1.Status` with the real one's codes, reasons and words.

use serde_json::{Value, json};

use super::kinds::Key;

/// A refused request.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub code: u16,
    pub reason: String,
    pub message: String,
    /// Seconds, sent as the `Retry-After` header and in the details.
    pub retry_after: Option<u32>,
}

impl Refusal {
    /// Any code, with the reason that Kubernetes gives with it.
    pub fn of(code: u16, message: impl Into<String>) -> Self {
        let reason = match code {
            400 => "BadRequest",
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            410 => "Expired",
            422 => "Invalid",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "Unknown",
        };
        Self { code, reason: reason.to_owned(), message: message.into(), retry_after: None }
    }

    /// 429, or 503, with the seconds to wait.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub fn not_found(key: &Key) -> Self {
        Self::of(404, format!("{} \"{}\" not found", key.kind.resource(), key.name))
    }

    pub fn already_exists(key: &Key) -> Self {
        let message = format!("{} \"{}\" already exists", key.kind.resource(), key.name);
        Self { reason: "AlreadyExists".to_owned(), ..Self::of(409, message) }
    }

    /// A stale resourceVersion.
    pub fn conflict(key: &Key) -> Self {
        let what = "the object has been modified; please apply your changes to the latest version and try again";
        Self::of(409, format!("Operation cannot be fulfilled on {} \"{}\": {what}", key.kind.resource(), key.name))
    }

    /// A uid or resourceVersion that a delete or update insists on, and that is not so.
    pub fn precondition(key: &Key, field: &str, asked: &str, is: &str) -> Self {
        let what = format!("Precondition failed: {field} in precondition: {asked}, {field} in object meta: {is}");
        Self::of(409, format!("Operation cannot be fulfilled on {} \"{}\": {what}", key.kind.resource(), key.name))
    }

    pub fn invalid(key: &Key, why: &str) -> Self {
        Self::of(422, format!("{} \"{}\" is invalid: {why}", key.kind.kind, key.name))
    }

    /// A JSON patch that does not apply, a failed `test` too: 422, not 409 (seen).
    pub fn unfit_patch(why: &str) -> Self {
        Self::of(422, format!("the server rejected our request due to an error in our request: {why}"))
    }

    pub fn expired(asked: u64, oldest: u64) -> Self {
        Self::of(410, format!("too old resource version: {asked} ({oldest})"))
    }

    /// The body that goes over the wire.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if let Some(seconds) = self.retry_after {
            super::super::json::set(&mut status, "/details", json!({"retryAfterSeconds": seconds}));
        }
        status
    }
}
