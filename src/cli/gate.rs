//! `ungate` and `restart`: the two commands that touch the user's own objects.
//!
//! Order is the safety: pins off first, because a Service that is pinned to a hash loses all its pods when its Deployment
//! rolls; then the gate, with the proven template in the same patch, so that nothing unproven acts.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, Deployment},
    core::v1::Service,
};
use serde_json::{Value, json};

use super::{
    End, args,
    connect::Cluster,
    json::{self, flag, text},
    order,
    seen::{self, Seen, Workload},
    status::view::{self, Pin},
};
use crate::{
    api::{PINNED_ANNOTATION, POD_TEMPLATE_HASH, TRACK_LABEL, command::Action},
    clock::Stopwatch,
    model::template,
};

/// How long an aborted rollout gets to come home: a settle time and the pods' own end, with room.
const HOME: Duration = Duration::from_mins(2);
/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);
/// What `kubectl rollout restart` sets.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

/// Takes the gate off.
pub(crate) async fn ungate(cluster: &Cluster, args: &args::Ungate) -> Result<End> {
    let name = kube::ResourceExt::name_any(&cluster.delivery(args.named.name.as_deref()).await?);
    let mut seen = seen::read(cluster, &name).await?;
    if let Some(release) = in_flight(&seen) {
        if !args.abort {
            bail!(
                "{release} is on its way, and its gate must stay closed; wait for it (kubectl haldane wait {name}), or: kubectl haldane ungate {name} --abort"
            );
        }
        if args.dry_run {
            println!("would end the rollout of {release} first");
            return Ok(End::Done);
        }
        order::give(cluster, &seen.delivery, Action::Abort, order::About::default(), Some("ungate")).await?;
        seen = home(cluster, &name).await?;
    }
    complete(&seen)?;
    let steps: Vec<Opening> = seen.workloads.iter().map(opening).collect::<Result<_>>()?;
    let revisions = cluster.values::<ControllerRevision>("").await.unwrap_or_default();
    let kept: Vec<Option<Kept>> = steps.iter().map(|s| s.waiting.map(|template| kept(&revisions, template))).collect();
    for service in seen.services.iter().filter(|s| view::service(s).pin != Pin::Off) {
        println!("service/{}: pin off", json::name(service));
        if !args.dry_run {
            cluster.patch::<Service>(service, unpin(service)).await?;
        }
    }
    for (step, kept) in steps.iter().zip(kept) {
        open(cluster, step, kept, args.dry_run).await?;
    }
    if args.dry_run {
        println!("{name}: nothing was written (--dry-run)");
    } else {
        println!("{name}: from now on its changes act at once, without a canary. To close the gate again: kubectl haldane adopt {name}");
    }
    Ok(End::Done)
}

async fn open(cluster: &Cluster, step: &Opening<'_>, kept: Option<Kept>, dry_run: bool) -> Result<()> {
    let name = json::name(step.deployment);
    if !flag(step.deployment, "/spec/paused") {
        println!("deployment/{name}: gate is open already");
        return Ok(());
    }
    match (&kept, step.waiting) {
        (Some(Kept::Revision(revision)), _) => {
            println!("deployment/{name}: the template that waits is kept in controllerrevision/{revision}; the proven one takes its place");
        }
        (Some(Kept::Nowhere), Some(waiting)) if !dry_run => {
            let file = format!("{name}-template-{}.json", template::hash(waiting));
            std::fs::write(&file, serde_json::to_string_pretty(waiting)? + "\n")
                .with_context(|| format!("{file} cannot be written, so nothing was changed"))?;
            println!("deployment/{name}: the template that waits is kept in ./{file}; the proven one takes its place");
        }
        (Some(Kept::Nowhere), _) => {
            println!("deployment/{name}: the template that waits would be kept in a file here; the proven one takes its place");
        }
        (None, _) => {}
    }
    println!("deployment/{name}: gate off (paused: false)");
    if !dry_run {
        cluster.patch::<Deployment>(step.deployment, step.changes.clone()).await?;
    }
    Ok(())
}

/// The Release on its way.
fn in_flight(seen: &Seen) -> Option<String> {
    let status = seen.delivery.status.as_ref()?;
    status.rollout.as_ref().map(|r| r.release.clone())
}

/// Waits until an aborted rollout is over and its canary is gone.
async fn home(cluster: &Cluster, name: &str) -> Result<Seen> {
    let watch = Stopwatch::start();
    loop {
        let seen = seen::read(cluster, name).await?;
        if in_flight(&seen).is_none() && seen.workloads.iter().all(|w| w.canary.is_none()) {
            return Ok(seen);
        }
        if watch.elapsed() > HOME {
            bail!("the rollout is not over after {}s, so the gate was not touched; see: kubectl haldane why {name}", HOME.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A guess about what is pinned or what runs must never be acted on.
fn complete(seen: &Seen) -> Result<()> {
    if let Some(unread) = seen.unread.first() {
        bail!("could not read {unread}; without that nothing is written");
    }
    if let Some(canary) = seen.workloads.iter().find_map(|w| w.canary.as_ref()) {
        bail!("canary Deployment {} is still there; see: kubectl haldane doctor", json::name(canary));
    }
    Ok(())
}

/// How one gate is opened.
#[derive(Debug)]
struct Opening<'a> {
    deployment: &'a Value,
    /// The owner's template, when it is not the one that runs.
    waiting: Option<&'a Value>,
    changes: Vec<Value>,
}

fn opening(workload: &Workload) -> Result<Opening<'_>> {
    let deployment = workload.deployment.as_ref().with_context(|| format!("Deployment {} does not exist", workload.name))?;
    let owners = deployment.pointer("/spec/template").context("a Deployment without a template")?;
    let mut changes = Vec::new();
    let mut waiting = None;
    if flag(deployment, "/spec/paused") {
        let runs = workload.running().and_then(|rs| rs.pointer("/spec/template"));
        let runs = runs.with_context(|| {
            format!("it is not clear which template of Deployment {} runs (not exactly one of its ReplicaSets has pods)", workload.name)
        })?;
        if template::hash(owners) != template::hash(runs) {
            waiting = Some(owners);
            changes.push(json!({"op": "test", "path": "/spec/template", "value": owners}));
            changes.push(json!({"op": "replace", "path": "/spec/template", "value": without_hash(runs)}));
        }
        changes.push(json!({"op": "replace", "path": "/spec/paused", "value": false}));
    }
    Ok(Opening { deployment, waiting, changes })
}

/// A `ReplicaSet`'s template as its Deployment had it: equal but for the label that Kubernetes adds, so that opening the
/// gate finds that `ReplicaSet` again and starts no pod.
fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(POD_TEMPLATE_HASH);
    }
    template
}

/// Where a template lies that is about to be replaced.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    Revision(String),
    Nowhere,
}

fn kept(revisions: &[Value], waiting: &Value) -> Kept {
    let wanted = template::hash(waiting);
    let holds = |value: &Value| value.pointer("/spec/containers").is_some() && template::hash(value) == wanted;
    let found = revisions.iter().find(|r| r.get("data").is_some_and(|data| anywhere(data, &holds)));
    found.map_or(Kept::Nowhere, |r| Kept::Revision(json::name(r).to_owned()))
}

fn anywhere(value: &Value, is: &impl Fn(&Value) -> bool) -> bool {
    is(value) || value.as_object().is_some_and(|map| map.values().any(|v| anywhere(v, is)))
}

/// The patch that makes a Service as its owner wrote it.
pub(crate) fn unpin(service: &Value) -> Vec<Value> {
    let mut changes = Vec::new();
    for key in [POD_TEMPLATE_HASH, TRACK_LABEL] {
        if service.pointer("/spec/selector").and_then(|s| s.get(key)).is_some() {
            changes.push(json!({"op": "remove", "path": format!("/spec/selector/{}", escaped(key))}));
        }
    }
    if json::annotation(service, PINNED_ANNOTATION).is_some() {
        changes.push(json!({"op": "remove", "path": format!("/metadata/annotations/{}", escaped(PINNED_ANNOTATION))}));
    }
    changes
}

/// A key inside a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// A restart through the gate.
pub(crate) async fn restart(cluster: &Cluster, args: &args::Restart) -> Result<End> {
    let name = kube::ResourceExt::name_any(&cluster.delivery(args.named.name.as_deref()).await?);
    let seen = seen::read(cluster, &name).await?;
    let writes = restarts(&seen, &cluster.now().to_string())?;
    for (deployment, changes) in &writes {
        if !args.dry_run {
            cluster.patch::<Deployment>(deployment, changes.clone()).await?;
        }
        println!("deployment/{}: {RESTARTED} set", json::name(deployment));
    }
    if args.dry_run {
        println!("nothing was written (--dry-run)");
    } else if writes.iter().all(|(d, _)| flag(d, "/spec/paused")) {
        println!(
            "kubectl refuses `rollout restart` behind a gate. This is the same annotation on the same template: it becomes a Release of the same \
             image, its new pods are proven behind a canary, and then all others are replaced. See: kubectl haldane wait {name}"
        );
    } else {
        println!(
            "the gate is open, so the pods are replaced at once, without a canary. See: kubectl rollout status deployment -n {}",
            cluster.namespace
        );
    }
    Ok(End::Done)
}

/// The patches of a restart, or why there is none.
fn restarts<'a>(seen: &'a Seen, at: &str) -> Result<Vec<(&'a Value, Vec<Value>)>> {
    let name = seen.name();
    if let Some(release) = in_flight(seen) {
        bail!("{release} is on its way, and its pods are new already; wait for it (kubectl haldane wait {name}), then restart");
    }
    let mut writes = Vec::new();
    for workload in &seen.workloads {
        let deployment = workload.deployment.as_ref().with_context(|| format!("Deployment {} does not exist", workload.name))?;
        // A restart on top of a template that is held back would be another content, and no quarantine would know it.
        if flag(deployment, "/spec/paused") && view::waits(seen, workload, deployment) {
            bail!(
                "Deployment {} has a template that waits and is not live, and a restart would ship that, too; see: kubectl haldane why {name}. \
                 To restart what runs, put the live template back first",
                workload.name
            );
        }
        writes.push((deployment, annotate(deployment, at)));
    }
    Ok(writes)
}

fn annotate(deployment: &Value, at: &str) -> Vec<Value> {
    let metadata = deployment.pointer("/spec/template/metadata");
    match metadata.and_then(|m| m.get("annotations")).filter(|a| a.is_object()) {
        Some(_) => vec![json!({"op": "add", "path": format!("/spec/template/metadata/annotations/{}", escaped(RESTARTED)), "value": at})],
        None => vec![json!({"op": "add", "path": "/spec/template/metadata/annotations", "value": {RESTARTED: at}})],
    }
}

/// Whether a Deployment's gate is open by hand: it carries our mark and acts at once.
pub(crate) fn opened(deployment: &Value) -> bool {
    json::annotation(deployment, crate::api::GATE_ANNOTATION).is_some()
        && !flag(deployment, "/spec/paused")
        && !text(deployment, "/metadata/uid").is_empty()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test stops at what it did not expect")]
mod tests {
    use super::*;
    use crate::cli::status::tests::seen;

    fn at_rest() -> Seen {
        let mut seen = seen();
        if let Some(status) = &mut seen.delivery.status {
            status.rollout = None;
        }
        seen.workloads[0].canary = None;
        seen
    }

    #[test]
    fn the_gate_is_opened_with_what_runs_and_never_with_what_waits() {
        let seen = at_rest();
        let opening = opening(&seen.workloads[0]).unwrap();
        let image = |at: &Value| text(at, "/spec/containers/0/image").to_owned();
        assert_eq!(image(opening.waiting.unwrap()), "r/checkout:v2");
        let [test, template, paused] = opening.changes.as_slice() else { panic!("{:?}", opening.changes) };
        assert_eq!((text(test, "/op"), text(test, "/path")), ("test", "/spec/template"));
        assert_eq!(image(&template["value"]), "r/checkout:v1");
        assert_eq!(template.pointer("/value/metadata/labels"), Some(&json!({"app": "checkout"})), "no pod-template-hash");
        assert_eq!(paused, &json!({"op": "replace", "path": "/spec/paused", "value": false}));
    }

    #[test]
    fn an_unknown_running_template_opens_nothing() {
        let mut seen = at_rest();
        seen.workloads[0].replica_sets.clear();
        assert!(opening(&seen.workloads[0]).unwrap_err().to_string().contains("which template"));
    }

    #[test]
    fn what_cannot_be_read_stops_it() {
        let mut seen = at_rest();
        assert!(complete(&seen).is_ok());
        seen.unread.push("Services: forbidden".to_owned());
        assert!(complete(&seen).is_err());
    }

    #[test]
    fn a_pin_is_taken_off_with_its_annotation() {
        let service = json!({"metadata": {"annotations": {"haldane.dev/pinned-since": "x"}}, "spec": {"selector": {"app": "shop", "haldane.dev/track": "canary"}}});
        assert_eq!(
            unpin(&service),
            [
                json!({"op": "remove", "path": "/spec/selector/haldane.dev~1track"}),
                json!({"op": "remove", "path": "/metadata/annotations/haldane.dev~1pinned-since"})
            ]
        );
    }

    #[test]
    fn the_owners_template_is_found_wherever_a_revision_keeps_it() {
        let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"image": "v2"}]}});
        let revisions = [
            json!({"metadata": {"name": "other"}, "data": {}}),
            json!({"metadata": {"name": "r"}, "data": {"templates": {"checkout": template}}}),
        ];
        assert_eq!(kept(&revisions, &template), Kept::Revision("r".into()));
        assert_eq!(kept(&revisions[..1], &template), Kept::Nowhere);
    }

    #[test]
    fn a_restart_ships_nothing_that_waits() {
        let mut seen = at_rest();
        assert!(restarts(&seen, "now").unwrap_err().to_string().contains("would ship that, too"));
        let runs = seen.workloads[0].replica_sets[0]["spec"]["template"].clone();
        seen.workloads[0].deployment.as_mut().unwrap()["spec"]["template"] = without_hash(&runs);
        let writes = restarts(&seen, "now").unwrap();
        assert_eq!(writes[0].1, [json!({"op": "add", "path": "/spec/template/metadata/annotations", "value": {RESTARTED: "now"}})]);
    }
}
