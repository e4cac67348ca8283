//! What a pod says of itself: ready, its images, and what keeps it from serving, sorted by whose fault that is.
//!
//! The version's own faults speak against it at once; what the cluster refuses holds and blames nobody. The sentences have
//! names, codes and the scheduler's own words, never an argument, a variable or a log line: those may hold secrets.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod as Raw, PodCondition};

use crate::{
    api::{DELIVERY_LABEL, POD_TEMPLATE_HASH, TRACK_CANARY, TRACK_LABEL},
    model::{
        version::PodHash,
        world::{Pod, Trouble},
    },
};

/// Of a sentence: two lines of a terminal and well within a condition's message.
const SENTENCE: usize = 300;

/// The annotation by which `kubectl logs` chooses among containers.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// One pod as it was read.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// What decisions look at.
    pub(super) pod: Pod,
    /// On its way out.
    pub(super) ending: bool,
    /// Ended for good (evicted, its node lost): only its replacement will serve.
    pub(super) over: bool,
    /// The uid of what controls it.
    pub(super) owner: Option<String>,
    /// Made from a canary of this Delivery, also when that canary is gone already.
    pub(super) ours: bool,
    /// Its labels.
    pub(super) labels: BTreeMap<String, String>,
    /// The conditions beyond its own that must be true before it is ready.
    pub(super) gates: Vec<String>,
    /// Its containers' ports, by name.
    pub(super) ports: BTreeMap<String, u16>,
    /// The container whose log `kubectl logs` takes.
    pub(super) container: Option<String>,
}

/// Reads one pod.
pub(super) fn read(raw: &Raw, delivery: &str) -> Seen {
    let label = |key: &str| raw.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let status = raw.status.as_ref();
    let over = status.and_then(|s| s.phase.as_deref()).is_some_and(|phase| phase == "Failed" || phase == "Succeeded");
    let ready = condition(raw, "Ready").filter(|c| c.status == "True" && !over);
    Seen {
        ending: raw.metadata.deletion_timestamp.is_some(),
        over,
        owner: raw.metadata.owner_references.iter().flatten().find(|o| o.controller == Some(true)).map(|o| o.uid.clone()),
        ours: label(TRACK_LABEL) == Some(TRACK_CANARY) && label(DELIVERY_LABEL) == Some(delivery),
        labels: raw.metadata.labels.clone().unwrap_or_default(),
        gates: raw.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten()).map(|gate| gate.condition_type.clone()).collect(),
        ports: ports(raw),
        container: container(raw),
        pod: Pod {
            name: raw.metadata.name.clone().unwrap_or_default(),
            pod_hash: label(POD_TEMPLATE_HASH).map(PodHash::new),
            created: raw.metadata.creation_timestamp.as_ref().map(|time| time.0),
            ready_since: ready.and_then(|c| c.last_transition_time.as_ref()).map(|time| time.0),
            ip: status.and_then(|s| s.pod_ip.clone()).filter(|ip| !ip.is_empty()),
            digests: digests(raw),
            restarts: restarts(raw),
            trouble: trouble(raw),
        },
    }
}

/// The pods of one side that count. One that is over counts only while its replacement is not there: else an evicted pod,
/// which stays listed for hours, would hold every rollout.
pub(super) fn counting<'a>(pods: impl Iterator<Item = &'a Seen>, wanted: u32) -> Vec<Pod> {
    let (over, there): (Vec<&Seen>, Vec<&Seen>) = pods.filter(|p| !p.ending).partition(|p| p.over);
    let missing = (wanted as usize).saturating_sub(there.len());
    there.into_iter().chain(over.into_iter().take(missing)).map(|seen| seen.pod.clone()).collect()
}

fn condition<'a>(raw: &'a Raw, kind: &str) -> Option<&'a PodCondition> {
    raw.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

fn ports(raw: &Raw) -> BTreeMap<String, u16> {
    let containers = raw.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|c| c.ports.iter().flatten());
    ports.filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?))).collect()
}

/// Of an imageID only the digest: the name before it is one that the runtime picked.
fn digests(raw: &Raw) -> Vec<String> {
    let containers = raw.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    let digest = |id: &str| id.rsplit_once('@').map_or(id, |(_, digest)| digest).to_owned();
    let all: BTreeSet<String> = containers.map(|c| digest(&c.image_id)).filter(|d| d.contains(':')).collect();
    all.into_iter().collect()
}

/// The one that its owner has marked, else the first.
fn container(raw: &Raw) -> Option<String> {
    let names = || raw.spec.iter().flat_map(|spec| &spec.containers).map(|container| &container.name);
    let marked = raw.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DEFAULT_CONTAINER));
    marked.filter(|marked| names().any(|name| name == *marked)).or_else(|| names().next()).cloned()
}

/// How often containers ended and were started again. A node that was rebooted says nothing about them.
fn restarts(raw: &Raw) -> u32 {
    let containers = raw.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    let by_itself = |c: &&ContainerStatus| last_end(c).is_none_or(|end| end.reason.as_deref() != Some("ContainerStatusUnknown"));
    containers.filter(by_itself).fold(0, |sum, c| sum.saturating_add(u32::try_from(c.restart_count).unwrap_or(0)))
}

/// What keeps it from serving: first its own faults, then what the cluster refuses.
fn trouble(raw: &Raw) -> Option<Trouble> {
    let status = raw.status.as_ref()?;
    let containers: Vec<&ContainerStatus> =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten()).collect();
    let own = || containers.iter().find_map(|c| fault(c));
    let refused = || containers.iter().find_map(|c| refusal(c, raw));
    // A pod that was evicted or lost its node shows terminated containers, too; they are not its own doing.
    lost(raw).or_else(own).or_else(|| unscheduled(raw)).or_else(refused)
}

fn fault(container: &ContainerStatus) -> Option<Trouble> {
    let waiting = container.state.as_ref().and_then(|s| s.waiting.as_ref());
    let word = waiting.and_then(|w| w.reason.as_deref()).unwrap_or_default();
    let name = &container.name;
    let ended = last_end(container);
    if let Some(end) = ended.filter(|e| e.reason.as_deref() == Some("OOMKilled")) {
        let says = format!(
            "container {name} was killed for using more memory than its limit (exit code {}); raise the limit or mend the leak",
            end.exit_code
        );
        return Some(own("OOMKilled", &says));
    }
    let cannot_start = ended.is_some_and(|e| matches!(e.reason.as_deref(), Some("StartError" | "ContainerCannotRun")));
    let said = waiting.and_then(|w| w.message.as_deref()).unwrap_or_default();
    if cannot_start || (matches!(word, "RunContainerError" | "CreateContainerError") && is_about_the_command(said)) {
        let says = format!("the command of container {name} cannot be started; see: kubectl describe pod");
        return Some(own("StartError", &says));
    }
    if word == "CrashLoopBackOff" {
        let code = ended.map_or_else(String::new, |e| format!(", the last time with exit code {}", e.exit_code));
        let says = format!("container {name} has ended {} times{code}; see: kubectl logs --previous", container.restart_count);
        return Some(own("CrashLoopBackOff", &says));
    }
    let end = ended.filter(|e| e.exit_code != 0 && e.reason.as_deref() != Some("ContainerStatusUnknown"))?;
    let running_again = container.state.as_ref().is_none_or(|s| s.terminated.is_none());
    let ends = container.restart_count + i32::from(!running_again);
    let says =
        format!("container {name} has ended {ends} times, the last time with exit code {}; see: kubectl logs --previous", end.exit_code);
    (ends >= 2).then(|| own("Error", &says))
}

/// How its latest run ended: this one, if it is over, else the one before.
fn last_end(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let ended = |state: &'_ Option<ContainerState>| state.as_ref().is_some_and(|s| s.terminated.is_some());
    let state = if ended(&container.state) { &container.state } else { &container.last_state };
    state.as_ref()?.terminated.as_ref()
}

/// The runtime says so of a command that is not in the image or must not be run; everything else (a timeout, a name that is
/// still taken) is the node's.
fn is_about_the_command(said: &str) -> bool {
    ["executable file not found", "no such file or directory", "permission denied", "no command specified", "exec format error"]
        .iter()
        .any(|words| said.contains(words))
}

fn lost(raw: &Raw) -> Option<Trouble> {
    let status = raw.status.as_ref()?;
    if let Some(disrupted) = condition(raw, "DisruptionTarget").filter(|c| c.status == "True") {
        let word = disrupted.reason.as_deref().unwrap_or("DisruptionTarget");
        return Some(refused(word, &format!("the cluster takes the pod off its node: {}", disrupted.message.as_deref().unwrap_or(word))));
    }
    let word = status.reason.as_deref()?;
    let gone = status.phase.as_deref() == Some("Failed") || word == "NodeLost";
    gone.then(|| refused(word, &format!("the cluster took the pod off its node: {}", status.message.as_deref().unwrap_or(word))))
}

fn unscheduled(raw: &Raw) -> Option<Trouble> {
    let scheduled = condition(raw, "PodScheduled").filter(|c| c.status == "False")?;
    let said = scheduled.message.as_deref().unwrap_or("no node takes the pod");
    Some(refused(scheduled.reason.as_deref().unwrap_or("Unschedulable"), said))
}

fn refusal(container: &ContainerStatus, raw: &Raw) -> Option<Trouble> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let word = waiting.reason.as_deref()?;
    let name = &container.name;
    match word {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => {
            let image = image(raw, name).unwrap_or(&container.image);
            Some(refused(
                word,
                &format!("image {image} of container {name} cannot be had; check its name, the registry and imagePullSecrets"),
            ))
        }
        "CreateContainerConfigError" => {
            let said = waiting.message.as_deref().unwrap_or("a ConfigMap or Secret is missing");
            Some(refused(word, &format!("container {name} cannot be made: {said}; create it or change the reference")))
        }
        "CreateContainerError" | "RunContainerError" | "PostStartHookError" => {
            Some(refused(word, &format!("the node cannot start container {name}; see: kubectl describe pod")))
        }
        _ => None,
    }
}

fn image<'a>(raw: &'a Raw, container: &str) -> Option<&'a String> {
    let spec = raw.spec.as_ref()?;
    spec.init_containers.iter().flatten().chain(&spec.containers).find(|c| c.name == container)?.image.as_ref()
}

fn own(word: &str, says: &str) -> Trouble {
    Trouble::Fault { word: word.to_owned(), says: sentence(says) }
}

/// The cluster's refusal in those words.
pub(super) fn refused(word: &str, says: &str) -> Trouble {
    Trouble::Refused { word: word.to_owned(), says: sentence(says) }
}

/// On one line, and not too long.
pub(super) fn sentence(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= SENTENCE { line } else { line.chars().take(SENTENCE - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests;
