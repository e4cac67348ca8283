//! What one decision may look at. Filled by `observe` from live reads; complete, or the reconcile ends with an error.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    before::Job,
    cron_job::CronJob,
    decision::Reason,
    external::Word as Said,
    phase::{State, Why},
    policy::Policy,
    query::Queried,
    repo_config::RepoConfig,
    route::{CanaryService, Route},
    source::{Brought, Merges, Sha},
    template,
    version::{Identity, PodHash, ReleaseName, TemplateHash, WorkloadName},
};
use crate::{
    api::{command::Action, release::Outcome},
    decide::judge::{block::Manner, book::Dated, latency::EDGES, probes::ProbeTerms},
};

/// The world around one Delivery at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Name of the Delivery; Releases are named after it.
    pub delivery: String,
    /// The Delivery is being deleted.
    pub deleting: bool,
    /// Its finalizer is set.
    pub finalizer: bool,
    /// Its namespace is being deleted.
    pub namespace_terminating: bool,
    /// What is wrong with what the Delivery names; any of these stops every forward move.
    pub problems: Vec<Reason>,
    /// In the plan's order; the missing ones are absent here and a problem above.
    pub workloads: Vec<Workload>,
    /// Every Service that selects pods of a workload, by name, and those that carry our pin and fit none any more.
    pub services: Vec<Service>,
    /// The routes that the plan names, those that are there.
    pub routes: Vec<Route>,
    /// The Services in front of our canaries.
    pub canary_services: Vec<CanaryService>,
    /// The `CronJobs` that the plan names, those that are there.
    pub cron_jobs: Vec<CronJob>,
    /// The Jobs that were made to run before a version, oldest first.
    pub jobs: Vec<Job>,
    /// Every Release of the Delivery, oldest first.
    pub releases: Vec<Release>,
    /// Holds that apply now.
    pub holds: Vec<Hold>,
    /// Commands that have no result yet, oldest first.
    pub commands: Vec<Command>,
    /// The policies that bind it, the nearest first.
    pub policies: Vec<Policy>,
    /// When the API server was away of late, oldest first.
    pub outages: Vec<Outage>,
    /// Who of all Deliveries was suspended or failed lately.
    pub troubled: Vec<Troubled>,
    /// What the probes saw.
    pub probes: Probes,
    /// What others say whose word is asked for, by their names.
    pub external: BTreeMap<String, Said>,
    /// What is known of the queries of what is shared, by their names; those that have not been asked are absent.
    pub queries: BTreeMap<String, Queried>,
    /// What is known of the branch, or the tag, that versions come from; nothing, where they come from elsewhere.
    pub merges: Merges,
}

/// A time in which the API server did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// From then on.
    pub from: Timestamp,
    /// Until then.
    pub to: Timestamp,
}

/// One workload and what stands beside it.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "facts as Kubernetes states them, each on its own")]
pub struct Workload {
    /// Its name.
    pub name: WorkloadName,
    /// Of the object now.
    pub uid: String,
    /// Of the object now; the precondition of every write.
    pub resource_version: String,
    /// `spec.paused`.
    pub paused: bool,
    /// Our annotation of the gate is on it. A person who resumes leaves it there; a replace or a recreation loses it, and
    /// we take it off when we open the gate ourselves.
    pub gate_marked: bool,
    /// The Release named in our put-back annotation.
    pub put_back: Option<ReleaseName>,
    /// `spec.replicas`.
    pub replicas: u32,
    /// How many may be missing at once: `maxUnavailable`, rounded down as Kubernetes does.
    pub max_unavailable: u32,
    /// How many pods a roll of it replaces at once: those above the number and those that may be missing; at least one.
    pub at_once: u32,
    /// How long a pod must be ready before the next ones follow: `minReadySeconds`.
    pub min_ready: Duration,
    /// `status.observedGeneration` is the generation.
    pub observed: bool,
    /// The condition Progressing says `ProgressDeadlineExceeded`.
    pub stuck: bool,
    /// `spec.template`, as stored.
    pub template: Value,
    /// Its `ReplicaSets`, newest revision last.
    pub replica_sets: Vec<ReplicaSet>,
    /// Its pods that are not ending, whichever `ReplicaSet` they belong to.
    pub pods: Vec<Pod>,
    /// The canary Deployment beside it.
    pub canary: Option<Canary>,
    /// Pods marked as canary that are there and not ending, whether or not their Deployment still is.
    pub canary_left: u32,
    /// The manager whose write opened the gate or changed the template last, when it is not us.
    pub last_writer: Option<String>,
    /// What the cluster refused to create of it (ReplicaFailure): quota, admission.
    pub refused: Option<Trouble>,
    /// What would treat its canary's pods otherwise than those that serve, if it was looked for and found.
    pub differs: Option<String>,
    /// A write of ours is still listed as owner of fields.
    pub owns_fields: bool,
}

/// A `ReplicaSet` of the owner's Deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaSet {
    /// Identity of its template.
    pub template: TemplateHash,
    /// Its `pod-template-hash` label.
    pub pod_hash: PodHash,
    /// `spec.replicas`.
    pub wanted: u32,
    /// `status.replicas`.
    pub pods: u32,
    /// `status.availableReplicas`.
    pub available: u32,
    /// Its template, as stored.
    pub raw: Value,
}

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its `pod-template-hash`.
    pub pod_hash: Option<PodHash>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Ready since; none: not ready.
    pub ready_since: Option<Timestamp>,
    /// Its address.
    pub ip: Option<String>,
    /// The digest parts of its containers' imageIDs, sorted, each once.
    pub digests: Vec<String>,
    /// How often its containers were started again by themselves.
    pub restarts: u32,
    /// What keeps it from serving, if anything.
    pub trouble: Option<Trouble>,
}

/// What keeps a pod from serving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The version's own fault: crash loop, killed for memory, ended with an error again and again.
    Fault {
        /// The reason that Kubernetes gives, e.g. `CrashLoopBackOff`.
        word: String,
        /// In a sentence.
        says: String,
    },
    /// The cluster's refusal: no room, no image, quota, admission.
    Refused {
        /// e.g. `Unschedulable`, `ImagePullBackOff`.
        word: String,
        /// In a sentence.
        says: String,
    },
}

/// The canary Deployment beside a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The precondition of every write.
    pub resource_version: String,
    /// It is on its way out.
    pub deleting: bool,
    /// The Release that it runs.
    pub release: Option<ReleaseName>,
    /// `spec.replicas`.
    pub wanted: u32,
    /// `status.observedGeneration` is the generation.
    pub observed: bool,
    /// The condition Progressing says `ProgressDeadlineExceeded`: it was given its time and did not get ready.
    pub stuck: bool,
    /// What the cluster refused to create (ReplicaFailure): quota, admission.
    pub refused: Option<Trouble>,
    /// Its pods that are not ending.
    pub pods: Vec<Pod>,
    /// Its pods that are ending.
    pub ending: u32,
}

/// A Service that selects pods of a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Of the object now.
    pub uid: String,
    /// The precondition of every write.
    pub resource_version: String,
    /// Its selector and ports, by [`Service::shape_of`]. A foreign write that left these alone does not stop a pin.
    pub shape: Value,
    /// The workload whose pods it selects.
    pub workload: WorkloadName,
    /// What our key in its selector says.
    pub pin: Pin,
    /// Since when the pin stands, from our annotation.
    pub pinned_since: Option<Timestamp>,
    /// The pins with which it would select pods: its own selector fits the labels of that side. With another it serves nobody.
    pub fits: Vec<Pin>,
    /// Names of pods that are ready in its `EndpointSlices`.
    pub routable: Vec<String>,
    /// Why one write of its selector is no switch of its traffic, if so.
    pub no_switch: Option<String>,
    /// Why its traffic follows a write of its selector late, or not everywhere, if so: then both sides match until stable is the new
    /// version.
    pub gradual: Option<String>,
    /// A write of ours is still listed as owner of fields.
    pub owns_fields: bool,
}

/// A key of ours in a Service's selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// As the owner wrote it: both sides match.
    Off,
    /// Only pods of that `ReplicaSet`.
    Stable(PodHash),
    /// Only pods marked `haldane.dev/track: canary`.
    Canary,
}

/// A Release of the Delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// Its name.
    pub name: ReleaseName,
    /// What people call it.
    pub version: String,
    /// The commit, if known.
    pub commit: Option<String>,
    /// The image.
    pub image: String,
    /// A person or CI asked for it; with the source `manual`, the newest of these is desired.
    pub manual: bool,
    /// Its place on the line of merges, from 1; none: it is not from a merge. The greatest is the newest.
    pub place: Option<i64>,
    /// The commits that came with it, newest first, and how many there are with those that are left out.
    pub brought: (Vec<Brought>, u64),
    /// Why there is no way back from it, if so.
    pub barrier: Option<String>,
    /// What it reverts: commits and `#12`.
    pub reverts: Vec<String>,
    /// What its repository sets at its commit.
    pub config: Option<RepoConfig>,
    /// Why it is not delivered, if so.
    pub refused: Option<Why>,
    /// Its identity; none: not composed yet.
    pub identity: Option<Identity>,
    /// Its templates by workload, from its `ControllerRevision`; none: not there (any more).
    pub templates: Option<BTreeMap<WorkloadName, Value>>,
    /// The latest word on it.
    pub outcome: Option<Outcome>,
    /// How often it was started.
    pub tries: u32,
    /// When it was made.
    pub created: Timestamp,
}

/// A reason of a person not to move forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its name.
    pub name: String,
    /// Only this Release.
    pub release: Option<ReleaseName>,
    /// Why.
    pub message: String,
    /// Until when.
    pub until: Option<Timestamp>,
    /// Who.
    pub by: String,
}

/// An app that was suspended or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Troubled {
    /// Which: its namespace and name. What is told in one namespace names no app of another.
    pub app: String,
    /// Its name, where it is of this namespace.
    pub name: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// An order of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its name.
    pub name: String,
    /// Which Release it is about.
    pub release: ReleaseName,
    /// The order.
    pub action: Action,
    /// With an approval: the step, from 1.
    pub step: Option<usize>,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
}

/// What the probes saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probes {
    /// The probes that vote, with what is known of them on stable.
    pub voting: Vec<ProbeTerms>,
    /// Paired runs of the rollout in flight, oldest first.
    pub samples: Vec<Dated>,
    /// Runs at rest, against the live pods, oldest first: when, and what was wrong.
    pub rest: Vec<RestSample>,
    /// The next paired run is due then.
    pub next: Option<Timestamp>,
    /// Those that are to go by the route as well.
    pub by_route: Vec<ByRoute>,
    /// Those that are not run any more, as they leave things behind in production, and what.
    pub stopped: Vec<(String, String)>,
    /// What is known of the users' requests; none: nobody counts them.
    pub meters: Option<Meters>,
    /// What is known of the log lines; none: nobody reads them.
    pub logs: Option<Heard>,
    /// Those that are not run now, as their runs cannot be written down, and why.
    pub barred: Vec<(String, String)>,
    /// Suites that are due and not started now, and why.
    pub not_started: Vec<(String, NotStarted)>,
    /// Those that fail too often at rest to vote.
    pub mute: Vec<String>,
    /// What that has changed since the last look.
    pub turned: Vec<Voice>,
    /// Those that have not passed at rest since this leader asks them, and when each was made or changed.
    pub untried: BTreeMap<String, Timestamp>,
}

/// What is known of the users' requests, as the app counts them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meters {
    /// Stable's metrics have been read.
    pub looked: bool,
    /// The busiest strata of stable, the busiest first.
    pub strata: Vec<String>,
    /// Where slow begins, in seconds; none: no histogram is read.
    pub edges: Option<[f64; EDGES]>,
    /// What is usual; none: nothing is known.
    pub usual: Option<Usual>,
    /// Pods of the canary on which users' requests have failed in this rollout, as far as this leader has seen.
    pub failing: usize,
    /// Who should show metrics and does not.
    pub silent: Option<Silent>,
}

/// What is usual of an app's requests, from what stable did at rest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usual {
    /// How they are bet on; none: stable blames itself with any manner, so they have no vote.
    pub manner: Option<Manner>,
    /// They fail in bursts.
    pub bursty: bool,
    /// The upper 99 % quantile of the failure rate per step, 0 to 1.
    pub day: Option<f64>,
    /// The failure rate, 0 to 1.
    pub rate: Option<f64>,
}

/// What is known of the log lines of a rollout beside what was counted of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Whose log should be read and is not.
    pub silent: Option<Silent>,
    /// The canary wrote what its owner wants no version to write, and stable did not: how often, in a sentence.
    pub alarm: Option<String>,
}

/// Metrics, logs or answers that are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// Since then.
    pub since: Timestamp,
    /// Whose, and why.
    pub why: String,
}

/// Why a suite that is due is not started now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotStarted {
    /// It is a time in which it should not be.
    Quiet {
        /// It should be from then on; none: no such time is seen.
        until: Option<Timestamp>,
    },
    /// So many suites run, which is as many as may.
    Full {
        /// How many.
        most: u16,
    },
    /// Its load would be more than all loads together may send now, or ever.
    Loaded {
        /// What it sends, in requests a second.
        sends: u32,
        /// What all may.
        most: u32,
    },
}

/// What the runs of a probe at rest say about the probe itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Voice {
    /// It fails now and then, and votes no more.
    Lost {
        /// The probe.
        probe: String,
        /// The runs that are known.
        runs: usize,
        /// How often one failed after one that passed.
        flakes: usize,
    },
    /// It votes again.
    Back {
        /// The probe.
        probe: String,
        /// The runs that are known.
        runs: usize,
        /// How often one failed after one that passed.
        flakes: usize,
    },
    /// Nobody has given it a right answer since this leader asks.
    Never {
        /// The probe.
        probe: String,
        /// What was wrong, in a sentence.
        says: String,
    },
}

/// A probe that is to go by the route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByRoute {
    /// Its name.
    pub probe: String,
    /// By the routes of this Service.
    pub service: String,
    /// The header by which it is told who answered.
    pub header: String,
    /// What the pods of either side said by it.
    pub told: Told,
}

/// What canary and stable say of themselves, each asked at its own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// One of them has not said anything.
    Unsaid,
    /// Both say the same.
    Alike,
    /// They can be told apart.
    Apart,
}

/// One run at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestSample {
    /// When it ended.
    pub at: Timestamp,
    /// Which probe.
    pub probe: String,
    /// What was wrong, in a sentence; none: it passed.
    pub wrong: Option<String>,
}

impl Observation {
    /// The newest Release that a merge made.
    #[must_use]
    pub fn newest_merge(&self) -> Option<&Release> {
        self.releases.iter().filter(|r| r.place.is_some()).max_by_key(|r| r.place)
    }

    /// The commit of the newest Release that a merge made: what is read of the branch ends before it.
    #[must_use]
    pub fn desired_commit(&self) -> Option<Sha> {
        Sha::parse(self.newest_merge()?.commit.as_deref()?)
    }

    /// What the repository of the version on its way, else of the live one, sets.
    #[must_use]
    pub fn config(&self, state: &State) -> Option<&RepoConfig> {
        let name = state.phase.rollout().map(|rollout| &rollout.release).or(state.live.as_ref().map(|live| &live.release))?;
        self.merge_of(self.release(name)?)?.config.as_ref()
    }

    /// The Release of the merge whose image this one has: itself, or the one whose template the owner has changed since.
    #[must_use]
    pub fn merge_of<'a>(&'a self, release: &'a Release) -> Option<&'a Release> {
        let same_image = || self.releases.iter().filter(|r| r.place.is_some() && r.image == release.image).max_by_key(|r| r.place);
        Some(release).filter(|release| release.place.is_some()).or_else(same_image)
    }

    /// The Release of that name.
    #[must_use]
    pub fn release(&self, name: &ReleaseName) -> Option<&Release> {
        self.releases.iter().find(|r| r.name == *name)
    }

    /// The Release of that identity; the newest, if several have it.
    #[must_use]
    pub fn release_of(&self, identity: &Identity) -> Option<&Release> {
        self.releases.iter().rev().find(|r| r.identity.as_ref() == Some(identity))
    }

    /// The workload of that name.
    #[must_use]
    pub fn workload(&self, name: &WorkloadName) -> Option<&Workload> {
        self.workloads.iter().find(|w| w.name == *name)
    }

    /// The Services of that workload.
    pub fn services_of<'a>(&'a self, workload: &'a WorkloadName) -> impl Iterator<Item = &'a Service> {
        self.services.iter().filter(move |s| s.workload == *workload)
    }
}

impl Release {
    /// It says that it takes back what this other one brought.
    #[must_use]
    pub fn takes_back(&self, other: &Self) -> bool {
        self.reverts.iter().any(|said| match said.strip_prefix('#') {
            Some(number) => other.brought.0.iter().any(|commit| commit.pull_request.is_some_and(|n| n.to_string() == number)),
            None => other.commit.iter().chain(other.brought.0.iter().map(|brought| &brought.commit)).any(|commit| commit.starts_with(said)),
        })
    }

    /// Identity of its template for that workload.
    #[must_use]
    pub fn template_hash(&self, workload: &WorkloadName) -> Option<TemplateHash> {
        self.templates.as_ref()?.get(workload).map(template::hash)
    }
}

impl Workload {
    /// Identity of `spec.template`.
    #[must_use]
    pub fn template_hash(&self) -> TemplateHash {
        template::hash(&self.template)
    }

    /// The `ReplicaSet` of that template: the one with the most available pods, if several have it.
    #[must_use]
    pub fn replica_set(&self, template: &TemplateHash) -> Option<&ReplicaSet> {
        self.replica_sets.iter().filter(|rs| rs.template == *template).max_by_key(|rs| (rs.available, rs.wanted))
    }

    /// How many pods of that `ReplicaSet` are ready.
    #[must_use]
    pub fn ready(&self, hash: &PodHash) -> u32 {
        count(self.pods.iter().filter(|p| p.ready_since.is_some() && p.pod_hash.as_ref() == Some(hash)))
    }

    /// The Deployment runs that template and nothing else, with all the pods it wants.
    #[must_use]
    pub fn rolled_to(&self, template: &TemplateHash) -> bool {
        let Some(current) = self.replica_set(template) else { return self.replicas == 0 && self.template_hash() == *template };
        // Behind a closed gate a template that is written means nothing for the pods, so nothing needs to be observed of it.
        (self.observed || self.paused)
            && current.wanted == self.replicas
            && current.available >= self.replicas
            && self.replica_sets.iter().all(|rs| rs.pod_hash == current.pod_hash || (rs.wanted == 0 && rs.pods == 0))
    }

    /// The `ReplicaSet` that is meant to have pods, when it is the only one.
    #[must_use]
    pub fn only_active(&self) -> Option<&ReplicaSet> {
        let mut active = self.replica_sets.iter().filter(|rs| rs.wanted > 0 || rs.pods > 0);
        active.next().filter(|_| active.next().is_none())
    }
}

impl Service {
    /// What of a Service, as stored, a pin depends on.
    #[must_use]
    pub fn shape_of(service: &Value) -> Value {
        json!({"selector": service.pointer("/spec/selector"), "ports": service.pointer("/spec/ports")})
    }
}

impl Canary {
    /// How many of its pods are ready.
    #[must_use]
    pub fn ready(&self) -> u32 {
        count(self.pods.iter().filter(|p| p.ready_since.is_some()))
    }

    /// As many pods as wanted are ready; since when.
    #[must_use]
    pub fn ready_since(&self) -> Option<Timestamp> {
        let since: Vec<Timestamp> = self.pods.iter().filter_map(|p| p.ready_since).collect();
        let enough = self.observed && !self.deleting && self.wanted > 0 && since.len() >= self.wanted as usize;
        since.into_iter().max().filter(|_| enough)
    }
}

/// Length of an iterator, as Kubernetes counts pods.
pub fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
