//! Writes to the owner's Deployment: the gate, and for a while its template.

use serde_json::{Value, json};

use super::{
    error::ActError,
    patch::Ops,
    session::{AsSeen, Session, Touched, paused},
};
use crate::{
    api::{GATE_ANNOTATION, PUT_BACK_ANNOTATION},
    model::version::{ReleaseName, WorkloadName},
};

/// What the annotation of the gate says: `kubectl rollout restart` on a paused Deployment tells people to resume it.
fn gate_text(delivery: &str) -> String {
    format!(
        "Delivery {delivery} keeps this Deployment paused: a change of its template starts nothing here, it rides a canary first. \
         Do not `kubectl rollout resume`: it rolls whatever the manifest says. Instead: kubectl haldane ungate {delivery}, or kubectl haldane restart {delivery}"
    )
}

/// Pauses it.
pub(super) async fn close_gate(session: &mut Session<'_>, name: &WorkloadName, exact: bool) -> Result<(), ActError> {
    let demand = if exact { AsSeen::Exactly } else { AsSeen::Identity };
    let touched = session.workload(name, demand).await?;
    // Without a test of the version, making the map of annotations could wipe one that was made meanwhile.
    let no_annotations = touched.object.pointer("/metadata/annotations").is_none();
    let ops = if exact || no_annotations { touched.exactly() } else { Ops::of(touched.uid()) };
    let ops = if paused(&touched.object) { ops } else { ops.add(&["spec", "paused"], json!(true)) };
    let ops = ops.annotation(&touched.object, GATE_ANNOTATION, Some(&gate_text(&delivery_name(session))));
    session.write(touched, ops).await
}

/// Lets it roll to a proven template, and to no other.
pub(super) async fn open_gate(
    session: &mut Session<'_>,
    name: &WorkloadName,
    template: Option<&Value>,
    put_back: Option<&ReleaseName>,
    leave: bool,
) -> Result<(), ActError> {
    let touched = session.workload(name, AsSeen::Gate).await?;
    let live = &touched.object;
    let ops = with_template(touched.exactly(), &touched, template);
    let ops = if paused(live) { ops.replace(&["spec", "paused"], json!(false)) } else { ops };
    let ops = ops.annotation(live, PUT_BACK_ANNOTATION, put_back.filter(|_| !leave).map(ReleaseName::as_str));
    // Without the annotation an open gate is ours; with it, a person resumed.
    let ops = ops.annotation(live, GATE_ANNOTATION, None);
    session.write(touched, ops).await
}

fn with_template(ops: Ops, touched: &Touched, template: Option<&Value>) -> Ops {
    let stored = touched.object.pointer("/spec/template");
    let ops = ops.test(&["spec", "template"], stored.cloned().unwrap_or_default());
    match template {
        Some(template) if Some(template) != stored => ops.replace(&["spec", "template"], template.clone()),
        _ => ops,
    }
}

/// Writes a template that starts nothing, because the gate is closed.
pub(super) async fn put_template(
    session: &mut Session<'_>,
    name: &WorkloadName,
    template: &Value,
    put_back: Option<&ReleaseName>,
) -> Result<(), ActError> {
    let touched = session.workload(name, AsSeen::Gate).await?;
    let ops = touched.exactly().test(&["spec", "paused"], json!(true));
    let stored = touched.object.pointer("/spec/template");
    let ops = if stored == Some(template) { ops } else { ops.replace(&["spec", "template"], template.clone()) };
    let ops = ops.annotation(&touched.object, PUT_BACK_ANNOTATION, put_back.map(ReleaseName::as_str));
    session.write(touched, ops).await
}

fn delivery_name(session: &Session<'_>) -> String {
    session.delivery.metadata.name.clone().unwrap_or_default()
}
