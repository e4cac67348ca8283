//! The finalizer of a Delivery.

use serde_json::json;

use super::{
    calls::{Kind, text},
    error::ActError,
    patch::Ops,
    session::Session,
};
use crate::api::FINALIZER;

/// Puts it on.
pub(super) async fn add(session: &mut Session<'_>) -> Result<(), ActError> {
    let metadata = &session.delivery.metadata;
    let finalizers = metadata.finalizers.clone().unwrap_or_default();
    if finalizers.iter().any(|f| f == FINALIZER) {
        return Ok(());
    }
    let (name, uid) = (metadata.name.as_deref().unwrap_or_default(), metadata.uid.as_deref().unwrap_or_default());
    let ops = Ops::exactly(uid, metadata.resource_version.as_deref().unwrap_or_default());
    let ops = if finalizers.is_empty() {
        ops.add(&["metadata", "finalizers"], json!([FINALIZER]))
    } else {
        ops.add(&["metadata", "finalizers", "-"], json!(FINALIZER))
    };
    let done = session.calls.patch(Kind::Delivery, name, ops).await;
    kept(session, done)
}

/// Takes it off. Where the namespace goes, our rights may be gone before; then there is nothing left to protect.
pub(super) async fn remove(session: &mut Session<'_>) -> Result<(), ActError> {
    let metadata = &session.delivery.metadata;
    let finalizers = metadata.finalizers.clone().unwrap_or_default();
    let Some(at) = finalizers.iter().position(|f| f == FINALIZER) else { return Ok(()) };
    let (name, uid) = (metadata.name.as_deref().unwrap_or_default(), metadata.uid.as_deref().unwrap_or_default());
    let path = ["metadata", "finalizers", &at.to_string()];
    // The test of the very element is the precondition: the last write must not lose against one of a status.
    let ops = Ops::of(uid).test(&path, json!(FINALIZER)).remove(&path);
    let done = session.calls.patch(Kind::Delivery, name, ops).await;
    kept(session, done)
}

fn kept(session: &mut Session<'_>, done: Result<serde_json::Value, ActError>) -> Result<(), ActError> {
    match done {
        Ok(object) => {
            session.delivery_version = Some(text(&object, "/metadata/resourceVersion").to_owned());
            Ok(())
        }
        Err(ActError::Gone { .. }) => Ok(()),
        Err(ActError::Forbidden { .. } | ActError::Refused { .. }) if session.seen.namespace_terminating => Ok(()),
        Err(error) => Err(error),
    }
}
