//! The snippets of the page that people read. A test that told Flux something else would prove nothing about them.

use anyhow::{Context as _, Result};
use serde_json::Value;

const PAGE: &str = include_str!("../../deploy/gitops.md");

/// The YAML that follows this mark.
fn snippet(mark: &str) -> Result<Value> {
    let marked = format!("<!-- {mark} -->\n```yaml\n");
    let (_, after) = PAGE.split_once(&marked).with_context(|| format!("deploy/gitops.md has no snippet {mark}"))?;
    let (yaml, _) = after.split_once("```").with_context(|| format!("the snippet {mark} does not end"))?;
    serde_saphyr::from_str(yaml).with_context(|| format!("the snippet {mark} is no YAML"))
}

/// The Kustomization that does not wait.
pub(crate) fn kustomization() -> Result<Value> {
    snippet("flux: kustomization")
}

/// The same, with what makes it say what became of a version.
pub(crate) fn with_health() -> Result<Value> {
    let (mut whole, health) = (kustomization()?, snippet("flux: health")?);
    let spec = whole.pointer_mut("/spec").and_then(Value::as_object_mut).context("the Kustomization has no spec")?;
    spec.extend(health.pointer("/spec").and_then(Value::as_object).cloned().context("the lines for health are not in a spec")?);
    Ok(whole)
}

/// The same without one of its lines.
pub(crate) fn without(mut kustomization: Value, line: &str) -> Result<Value> {
    let spec = kustomization.pointer_mut("/spec").and_then(Value::as_object_mut);
    spec.and_then(|spec| spec.remove(line)).with_context(|| format!("spec.{line} is not on the page, so it cannot be left out"))?;
    Ok(kustomization)
}
