//! Objects → what a person wants to know of one Delivery. Pure; `-o json` prints it as it is.

use jiff::Timestamp;
use kube::ResourceExt as _;
use serde::Serialize;
use serde_json::Value;

use super::routes::{self, RouteView};
use crate::{
    api::{
        PINNED_ANNOTATION, POD_TEMPLATE_HASH, RELEASE_ANNOTATION, TRACK_LABEL,
        delivery::{CronJobSpec, Delivery},
        hold::HoldSpec,
        read_pinned,
        status::{DeliveryStatus, RolloutStatus},
    },
    cli::{
        json,
        seen::{Seen, Workload},
    },
    model::{plan::Plan, template},
};

/// One Delivery.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View {
    pub(crate) delivery: Delivery,
    pub(crate) workloads: Vec<WorkloadView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cron_jobs: Vec<CronJobView>,
    pub(crate) services: Vec<ServiceView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<RouteView>,
    pub(crate) probes: Vec<String>,
    pub(crate) holds: Vec<HoldView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) left: Option<Left>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unread: Vec<String>,
}

/// Both sides of a workload.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WorkloadView {
    pub(crate) name: String,
    /// None: it does not exist.
    pub(crate) stable: Option<Side>,
    pub(crate) canary: Option<Side>,
}

/// A Deployment and its pods.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Side {
    pub(crate) deployment: String,
    pub(crate) ready: i64,
    pub(crate) wanted: i64,
    /// Of stable: what its gate says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gate: Option<Gate>,
    /// Of the canary: its Release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) release: Option<String>,
    pub(crate) pods: Vec<PodView>,
}

/// What keeps template changes from acting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Gate {
    pub(crate) closed: bool,
    /// The template is not the one that runs.
    pub(crate) template_waits: bool,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodView {
    pub(crate) name: String,
    pub(crate) ready: bool,
    pub(crate) ending: bool,
    pub(crate) restarts: i64,
    pub(crate) digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trouble: Option<String>,
}

/// A `CronJob` that takes the image of the version that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CronJobView {
    pub(crate) name: String,
    /// Of its first container; none: it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    /// Somebody wrote another image than that into it.
    pub(crate) differs: bool,
}

/// A Service and where its traffic is pinned to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceView {
    pub(crate) name: String,
    pub(crate) pin: Pin,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
}

/// The key of ours in a selector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Pin {
    /// None: both sides match.
    Off,
    /// Pods of that `ReplicaSet`.
    Stable(String),
    /// The canary's pods.
    Canary,
}

/// A Hold.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HoldView {
    pub(crate) name: String,
    pub(crate) spec: HoldSpec,
}

/// Until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Left {
    /// What ends by then, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stage: Option<(String, Timestamp)>,
    /// When all traffic must have moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<Timestamp>,
}

/// What the cluster shows of it.
pub(crate) fn of(seen: &Seen) -> View {
    let status = seen.delivery.status.clone().unwrap_or_default();
    let mut holds: Vec<HoldView> = seen.holds.iter().map(|h| HoldView { name: h.name_any(), spec: h.spec.clone() }).collect();
    holds.sort_by(|a, b| a.name.cmp(&b.name));
    View {
        workloads: seen.workloads.iter().map(|w| workload(seen, w)).collect(),
        cron_jobs: seen.cron_jobs.iter().map(|(named, found)| cron_job(seen, named, found.as_ref())).collect(),
        services: seen.services.iter().map(service).collect(),
        routes: routes::of(seen),
        probes: seen.delivery.spec.verify.iter().flat_map(|v| v.probes.iter().map(|p| p.name.clone())).collect(),
        holds,
        left: left(&seen.delivery, &status),
        unread: seen.unread.clone(),
        delivery: quiet(seen.delivery.clone()),
    }
}

/// Without the noise that kubectl does not print either.
pub(crate) fn quiet(mut delivery: Delivery) -> Delivery {
    delivery.metadata.managed_fields = None;
    delivery
}

fn workload(seen: &Seen, workload: &Workload) -> WorkloadView {
    let pods = |canary| {
        let mut pods: Vec<PodView> = workload.side(canary).map(pod).collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        pods
    };
    let side = |deployment: &Value, canary: bool| {
        let pods = pods(canary);
        Side {
            deployment: json::name(deployment).to_owned(),
            ready: i64::try_from(pods.iter().filter(|p| p.ready && !p.ending).count()).unwrap_or_default(),
            wanted: deployment.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1),
            gate: (!canary).then(|| gate(seen, workload, deployment)),
            release: json::annotation(deployment, RELEASE_ANNOTATION).filter(|_| canary).map(str::to_owned),
            pods,
        }
    };
    WorkloadView {
        name: workload.name.clone(),
        stable: workload.deployment.as_ref().map(|d| side(d, false)),
        canary: workload.canary.as_ref().map(|d| side(d, true)),
    }
}

fn cron_job(seen: &Seen, named: &CronJobSpec, found: Option<&Value>) -> CronJobView {
    let pods = found.and_then(|found| found.pointer("/spec/jobTemplate/spec/template"));
    let live = seen.delivery.status.iter().flat_map(|status| &status.live).map(|live| live.release.as_str()).next();
    let serves = seen.releases.iter().find(|release| Some(release.name_any().as_str()) == live);
    let others = pods.zip(serves).map(|(pods, release)| template::other_images(pods, &release.spec.image, &named.containers));
    CronJobView {
        name: named.name.clone(),
        image: pods.and_then(template::main_image).map(str::to_owned),
        differs: others.is_some_and(|others| !others.is_empty()),
    }
}

fn gate(seen: &Seen, workload: &Workload, deployment: &Value) -> Gate {
    Gate { closed: json::flag(deployment, "/spec/paused"), template_waits: waits(seen, workload, deployment) }
}

/// Whether the owner's template is another than the one that runs. Where Releases name the image, the image in the
/// owner's template says nothing.
pub(crate) fn waits(seen: &Seen, workload: &Workload, deployment: &Value) -> bool {
    let (Some(owners), Some(runs)) = (deployment.pointer("/spec/template"), workload.running().and_then(|rs| rs.pointer("/spec/template")))
    else {
        return false;
    };
    let plan = Plan::try_from(&seen.delivery.spec);
    let manual = plan.is_ok_and(|p| p.source == crate::model::plan::Source::Manual);
    let spec = seen.delivery.spec.workloads.iter().find(|w| w.name == workload.name);
    let owners = match (manual, template::main_image(runs), spec) {
        (true, Some(image), Some(spec)) => template::with_image(owners, image, &spec.containers),
        _ => owners.clone(),
    };
    template::hash(&owners) != template::hash(runs)
}

/// A pod as people look at it.
fn pod(pod: &Value) -> PodView {
    let containers = json::list(pod, "/status/containerStatuses");
    let conditions = json::list(pod, "/status/conditions");
    PodView {
        name: json::name(pod).to_owned(),
        ready: conditions.iter().any(|c| json::text(c, "/type") == "Ready" && json::text(c, "/status") == "True"),
        ending: pod.pointer("/metadata/deletionTimestamp").is_some(),
        restarts: containers.iter().map(|c| json::number(c, "/restartCount")).sum(),
        digest: containers.first().map(|c| digest(json::text(c, "/imageID"))).unwrap_or_default(),
        trouble: trouble(pod),
    }
}

/// The first twelve digits of the digest in an `imageID`.
fn digest(image_id: &str) -> String {
    image_id.rsplit_once("sha256:").map(|(_, digits)| digits.chars().take(12).collect()).unwrap_or_default()
}

/// What Kubernetes says that keeps a pod from serving, in Kubernetes' words.
pub(crate) fn trouble(pod: &Value) -> Option<String> {
    let said = |word: &str, says: &str| if says.is_empty() { word.to_owned() } else { format!("{word}: {says}") };
    let waiting =
        ["/status/initContainerStatuses", "/status/containerStatuses"].into_iter().flat_map(|list| json::list(pod, list)).find_map(|c| {
            let waits = json::text(c, "/state/waiting/reason");
            let died = json::text(c, "/lastState/terminated/reason");
            match (waits, died) {
                ("CrashLoopBackOff", "OOMKilled") => Some("CrashLoopBackOff: OOMKilled".to_owned()),
                ("" | "ContainerCreating" | "PodInitializing", _) => None,
                (waits, _) => Some(said(waits, json::text(c, "/state/waiting/message"))),
            }
        });
    let unscheduled = || {
        let conditions = json::list(pod, "/status/conditions").iter();
        let mut refused = conditions.filter(|c| json::text(c, "/type") == "PodScheduled" && json::text(c, "/status") == "False");
        refused.next().map(|c| said(json::text(c, "/reason"), json::text(c, "/message")))
    };
    waiting.or_else(unscheduled)
}

/// Where a Service's traffic is pinned to.
pub(crate) fn service(service: &Value) -> ServiceView {
    let key = |key: &str| service.pointer("/spec/selector").and_then(|s| s.get(key)).and_then(Value::as_str);
    let pin = match (key(TRACK_LABEL), key(POD_TEMPLATE_HASH)) {
        (Some(_), _) => Pin::Canary,
        (None, Some(hash)) => Pin::Stable(hash.to_owned()),
        (None, None) => Pin::Off,
    };
    let since = json::annotation(service, PINNED_ANNOTATION).and_then(|said| read_pinned(said).0).filter(|_| pin != Pin::Off);
    ServiceView { name: json::name(service).to_owned(), pin, since }
}

fn left(delivery: &Delivery, status: &DeliveryStatus) -> Option<Left> {
    let rollout = status.rollout.as_ref()?;
    let phase = status.phase.as_deref().unwrap_or_default();
    let what = if phase == "Guarding" { "guard" } else { "bake" };
    let stage = rollout.until.as_ref().map(|until| (what.to_owned(), until.0));
    // Once all traffic has moved, the deadline has been met.
    let runs = matches!(phase, "Preparing" | "Preflight" | "Canary" | "Promoting");
    Some(Left { stage, deadline: deadline(delivery, rollout).filter(|_| runs) })
}

fn deadline(delivery: &Delivery, rollout: &RolloutStatus) -> Option<Timestamp> {
    let plan = Plan::try_from(&delivery.spec).ok()?;
    rollout.started_at.as_ref()?.0.checked_add(plan.deadline).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pods_trouble_is_told_in_kubernetes_words() {
        let crash =
            json!({"status": {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}}]}});
        assert_eq!(trouble(&crash).unwrap(), "CrashLoopBackOff: back-off 10s");
        let room = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}});
        assert_eq!(trouble(&room).unwrap(), "Unschedulable: 0/1 nodes");
        let starts = json!({"status": {"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}});
        assert_eq!(trouble(&starts), None);
    }

    #[test]
    fn a_digest_is_short_whatever_the_runtime_puts_before_it() {
        assert_eq!(digest("docker-pullable://r/shop@sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(digest("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(digest(""), "");
    }

    #[test]
    fn a_pin_is_read_from_the_selector_and_not_from_the_annotation() {
        let pinned = json!({"metadata": {"name": "shop", "annotations": {"haldane.dev/pinned-since": "2026-01-01T00:00:00Z"}}, "spec": {"selector": {"app": "shop"}}});
        assert_eq!(service(&pinned), ServiceView { name: "shop".into(), pin: Pin::Off, since: None });
    }
}
