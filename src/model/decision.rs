//! What was decided: where the delivery goes, what is written to the world, why, and when to look again.

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    phase::{State, Why},
    route::{Course, RouteName},
    source::Merge,
    version::{PodHash, ReleaseName, Weight, WorkloadName},
    world::Pin,
};
use crate::api::{
    command::CommandResult,
    release::{OriginType, Outcome},
};

/// One decision. Effects are carried out in order; then the state is recorded; then people are told.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Where the delivery stands from now on.
    pub next: State,
    /// Writes to the world, in order. Each is idempotent and has its precondition in it.
    pub effects: Vec<Effect>,
    /// Why: the sentence that every surface shows.
    pub reason: Reason,
    /// What it waits for.
    pub wait: Wait,
    /// The version that should serve.
    pub desired: Option<ReleaseName>,
    /// Reasons not to move forward that apply now.
    pub holds: Vec<Reason>,
    /// Things that people should be told once, as Events.
    pub notes: Vec<Reason>,
    /// What production looks like, for the conditions.
    pub health: Health,
    /// What is merged and newer than the newest Release, newest first.
    pub ahead: Vec<Ahead>,
}

/// A commit that is not a Release, or not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// What people call it.
    pub version: String,
    /// The first line of its message.
    pub title: String,
    /// What it comes to, in one word: `Building`, `Ready`, `ChecksFailed`, `NoArtifact` or `Refused`.
    pub state: &'static str,
    /// What it waits for, or what is wrong with it.
    pub why: String,
}

/// What the conditions say about production.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Health {
    /// Production is not fine, and why.
    pub unavailable: Option<Why>,
    /// What serves was asked and answered well: none says that nobody asked.
    pub verified: Option<Result<(), Why>>,
    /// The probes that fail too often at rest to be believed.
    pub mute: Vec<String>,
    /// The requests of users are counted and cannot judge.
    pub mute_requests: bool,
    /// Nothing will happen until a person acts.
    pub stalled: Option<Why>,
    /// The share asked for and the share that the pods give.
    pub weight: Option<(Weight, Weight)>,
    /// When the step that is baking has baked, once its pods are there.
    pub until: Option<Timestamp>,
    /// In how long nobody would be served by the other version any more, were it taken back now; none: not known.
    pub way_back: Option<Duration>,
}

/// When to look again. Waiting is a value, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// At once: something was just written whose effect the next decision needs.
    Now,
    /// When something changes, and at the latest then.
    Until(Timestamp),
    /// When something changes that nobody tells us about; look every second or so.
    Poll,
    /// Only when something changes.
    Change,
}

impl Wait {
    /// The earlier of two.
    #[must_use]
    pub fn sooner(self, other: Self) -> Self {
        let rank = |w: &Self| match w {
            Self::Now => 0,
            Self::Poll => 1,
            Self::Until(_) => 2,
            Self::Change => 3,
        };
        match (self, other) {
            (Self::Until(a), Self::Until(b)) => Self::Until(a.min(b)),
            (a, b) if rank(&a) <= rank(&b) => a,
            (_, b) => b,
        }
    }
}

/// One write to the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Put our finalizer on the Delivery.
    AddFinalizer,
    /// Take it off: the last write of a Delivery that goes.
    RemoveFinalizer,
    /// Keep the templates in a `ControllerRevision` and make the Release, in this order. Both may be there already.
    RecordRelease {
        /// Its name.
        name: ReleaseName,
        /// What people call it.
        version: String,
        /// Its image.
        image: String,
        /// Where it came from.
        origin: OriginType,
        /// By workload, as the owner wrote them.
        templates: BTreeMap<WorkloadName, Value>,
    },
    /// Make the Release of a commit on the branch; its templates are composed with the owner's afterwards.
    RecordMerge(Box<Merge>),
    /// Keep the composed templates of a Release that a person made, in a `ControllerRevision` of its name.
    KeepTemplates {
        /// The Release.
        release: ReleaseName,
        /// By workload.
        templates: BTreeMap<WorkloadName, Value>,
    },
    /// `paused: true` on the owner's Deployment, with the annotation that explains it.
    CloseGate {
        /// Which.
        workload: WorkloadName,
        /// Demand the resourceVersion that was seen (adoption), or only the uid (status moves it all the time).
        exact: bool,
    },
    /// Let the owner's Deployment roll to a proven template, and only to that.
    OpenGate {
        /// Which.
        workload: WorkloadName,
        /// The template to write in the same patch; none: the owner's own is the proven one, and is tested for.
        template: Option<Value>,
        /// The Release whose template is put back afterwards, inert.
        put_back: Option<ReleaseName>,
        /// For good: the annotations of the gate go too.
        leave: bool,
    },
    /// Write a template into a Deployment whose gate is closed.
    PutTemplate {
        /// Which.
        workload: WorkloadName,
        /// The template.
        template: Value,
        /// What the put-back annotation says from then on.
        put_back: Option<ReleaseName>,
    },
    /// Drop the entries of ours in the object's managedFields.
    DropOwnership(Target),
    /// One write of one key of a Service's selector.
    PinService {
        /// Which.
        service: String,
        /// What it says from then on.
        pin: Pin,
    },
    /// One write of a route's rules.
    SendRoute {
        /// Which.
        route: RouteName,
        /// Where it leads from then on.
        course: Course,
    },
    /// Make the Service in front of a canary, or make it what it should be.
    MakeCanaryService {
        /// The owner's Service beside which it stands.
        service: String,
        /// The routes that will lead to it, so that they are found whatever the plan says later.
        routes: Vec<RouteName>,
    },
    /// Remove it.
    RemoveCanaryService {
        /// The owner's Service beside which it stands.
        service: String,
    },
    /// Make the Job that runs a `CronJob` once before a version. One of that name that is there already is the same.
    RunBefore {
        /// Its name.
        job: String,
        /// The `CronJob` that it is made of.
        cron_job: String,
        /// The Release that it runs for.
        release: ReleaseName,
        /// Its spec, with the image of that Release.
        spec: Value,
    },
    /// Write the image of the version that serves into a `CronJob`, and nothing else.
    SetImage {
        /// Its name.
        cron_job: String,
        /// The image.
        image: String,
        /// The places in the template of its pods that have another: `/spec/containers/0/image`.
        places: Vec<String>,
    },
    /// Remove such a Job, pods and all.
    RemoveJob {
        /// Its name.
        job: String,
    },
    /// Make the canary Deployment beside a workload.
    CreateCanary {
        /// Beside which.
        workload: WorkloadName,
        /// The Release that it runs.
        release: ReleaseName,
        /// Its template, as the owner wrote it.
        template: Value,
        /// Pods.
        replicas: u32,
    },
    /// Change the number of its pods.
    ScaleCanary {
        /// Beside which.
        workload: WorkloadName,
        /// Pods.
        replicas: u32,
    },
    /// Remove it, pods and all.
    DeleteCanary {
        /// Beside which.
        workload: WorkloadName,
    },
    /// Write what became of a Release.
    SettleRelease {
        /// Which.
        release: ReleaseName,
        /// The word.
        outcome: Outcome,
        /// Why.
        why: Why,
        /// The one that took its place.
        superseded_by: Option<ReleaseName>,
        /// When the try that this speaks of began.
        started: Option<Timestamp>,
    },
    /// Write what became of a command.
    SettleCommand {
        /// Which.
        command: String,
        /// Done or Void.
        result: CommandResult,
        /// In a sentence.
        message: String,
    },
    /// Remove a Release and its templates: old, and neither live nor needed for a way back.
    ForgetRelease {
        /// Which.
        release: ReleaseName,
    },
}

/// An object of the owner's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A Deployment.
    Workload(WorkloadName),
    /// A Service.
    Service(String),
    /// A route.
    Route(RouteName),
    /// A `CronJob`.
    CronJob(String),
}

macro_rules! reasons {
    ($( $(#[$doc:meta])* $name:ident $({ $($field:ident: $ty:ty),* $(,)? })? => $text:literal, )*) => {
        /// Why: one word for machines, one sentence for people. Worded here and nowhere else.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the fields are the blanks of the sentence beside them")]
        pub enum Reason {
            $( $(#[$doc])* $name $({ $($field: $ty),* })?, )*
        }

        impl Reason {
            /// The word.
            #[must_use]
            pub fn word(&self) -> &'static str {
                match self { $( Self::$name $({ $($field: _),* })? => stringify!($name), )* }
            }
        }

        impl fmt::Display for Reason {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $( Self::$name $({ $($field),* })? => write!(f, $text), )* }
            }
        }
    };
}

reasons! {
    /// At rest, and the desired version serves.
    Serving { version: String } => "{version} serves",
    /// Waits for the workload before adoption.
    WorkloadRolling { workload: String } => "Deployment {workload} is still rolling out; it is adopted when it is complete",
    /// It will not become complete.
    WorkloadStuck { workload: String } => "Deployment {workload} does not become complete (ProgressDeadlineExceeded); mend it: kubectl describe deployment {workload}",
    /// The gate was closed.
    Adopted { workload: String, version: String } => "Deployment {workload} is gated: it keeps {version}, and every change of its template rides a canary first",
    /// Nobody told this Haldane of a forge.
    NoForge { repository: String } => "this Haldane knows no forge, so nothing is known of {repository}; its administrator gives it one: the chart's value github.secretName",
    /// The administrator has not given it to this namespace.
    RepositoryNotGranted { repository: String, namespace: String } => "{repository} is not given to namespace {namespace}; its administrator does that: the chart's value github.grants",
    /// A person must mend what keeps a forge or a registry from answering.
    SourceUnread { why: String } => "no newer version can be found: {why}",
    /// A forge or a registry does not answer, and will by itself.
    SourceSilent { why: String } => "nothing newer is seen for now: {why}; what runs goes on, and it is asked again",
    /// The forge leads from its old name to its new one.
    RepositoryRenamed { repository: String, now: String } => "{repository} is called {now} now and is followed there, until somebody takes the old name; write {now} into spec.source.github.repository",
    /// Its image was not built from it.
    ImageRefused { version: String, why: String } => "{version} is merged and not delivered: {why}",
    /// Somebody wrote the history of the branch anew.
    BranchRewritten { repository: String, branch: String, desired: String, head: String } => "{branch} of {repository} was rewritten: {desired} is not on it any more, {head} is its head; what runs goes on. If {head} is right: kubectl haldane adopt",
    /// A tag went back by itself, or by somebody's hand.
    TagMovedBack { tag: String, version: String, newer: String } => "{tag} names {version} again, which is older than {newer}; what runs goes on. If {version} is wanted: kubectl haldane adopt",
    /// The file in its repository sets what it may not.
    NotAllowed { version: String, why: String } => "{version} is merged and not delivered: {why}",
    /// The file in its repository cannot be read.
    ConfigBroken { version: String, why: String } => "{version} is merged and not delivered: {why}",
    /// The newest version is not delivered.
    ReleaseRefused { why: String } => "{why}",
    /// A new version is seen.
    ReleaseSeen { version: String } => "{version} is desired",
    /// What runs before it runs.
    Preparing { version: String, cron_job: String } => "CronJob {cron_job} is run once for {version}, before any pod of it starts",
    /// What runs before it failed.
    BeforeFailed { version: String, cron_job: String, job: String, failure: String } => "{version} was not started: the run of CronJob {cron_job} before it failed ({failure}); no traffic was touched; see: kubectl logs job/{job}",
    /// The cluster refuses its pods.
    BeforeRefused { job: String, word: String, says: String } => "the cluster refuses the pods of Job {job} ({word}): {says}",
    /// An earlier one has not ended.
    BeforeBusy { cron_job: String, job: String } => "CronJob {cron_job} is run when Job {job} has ended, which an earlier rollout left to end by itself; if it hangs: kubectl delete job {job}",
    /// Kubernetes runs it, too.
    BeforeRunsByItself { cron_job: String } => "CronJob {cron_job} is not suspended, so it would run by its schedule, too; set spec.suspend: true in its manifest",
    /// No such `CronJob`.
    CronJobMissing { cron_job: String, field: &'static str } => "CronJob {cron_job} does not exist in this namespace; create it or take it out of {field}",
    /// It has nothing to do with the version.
    CronJobForeign { cron_job: String, repository: String, field: &'static str } => "no container of CronJob {cron_job} gets the image of this version: none uses {repository}, or none is named so; see {field}[].containers",
    /// Its pods would serve.
    CronJobReached { cron_job: String, by: String } => "{by} selects the pods of CronJob {cron_job} and would take them for pods that serve; give them other labels",
    /// Somebody else's word stands in it.
    CronJobDiffers { cron_job: String, image: String, version: String } => "CronJob {cron_job} has {image} and not the image of {version}, which serves; it is left so until the next version goes live",
    /// Two masters.
    CronJobDelivered { cron_job: String, by: String } => "CronJob {cron_job} already belongs to Delivery {by}; take it out of spec.cronJobs of one of the two",
    /// It could not follow.
    CronJobsNotGranted { namespace: String } => "Haldane may not patch CronJobs in namespace {namespace}, so none would follow a version; give it that right (ClusterRole haldane-delivery has it), or take them out of spec.cronJobs",
    /// Somebody else has not said anything yet.
    ExternalWaits { version: String, check: String, before: &'static str, said: String, since: String } => "{version} waits for the word of {check} before {before}: its question {said}; it is asked again and again since {since}",
    /// Somebody else says that it may go on.
    ExternalPassed { version: String, check: String, before: &'static str } => "{check} lets {version} go on to {before}",
    /// Somebody else says no.
    ExternalFailed { version: String, check: String, before: &'static str, status: u16 } => "{version} was taken back by the word of {check}, whatever was measured: before {before} it answered {status} and Fail",
    /// Nobody can be asked.
    ExternalUnasked { check: String, why: String } => "{check} of spec.verify.external cannot be asked: {why}",
    /// What versions share is beyond its bound.
    QueryHolds { query: String, value: String, bound: String, since: String } => "query {query} is {value}, which is {bound}, since {since}: nothing goes forward while it is; see spec.verify.queries",
    /// Nobody knows how what they share is.
    QuerySilent { query: String, why: String, since: String } => "query {query} gives no number since {since}: {why}; nothing goes forward without one, see spec.verify.queries",
    /// The canary starts and is asked before anybody reaches it.
    Preflight { version: String } => "the canary of {version} starts and is probed; nobody else reaches it",
    /// At a step.
    Baking { version: String, served: Weight, asked: Weight } => "{version} gets {served} of new connections by pods (asked {asked}) and bakes",
    /// At a step, by routes.
    Sharing { version: String, share: Weight } => "{version} gets {share} of the requests and bakes",
    /// Only those who ask for it reach it.
    Testing { version: String, mark: String } => "{version} is reached by testers alone ({mark}) and bakes",
    /// The canary grows.
    Growing { version: String, wanted: u32 } => "the canary of {version} grows to its full size of {wanted} pods",
    /// All traffic is on the canary.
    Guarding { version: String, what: &'static str } => "all {what} go to the canary of {version}; the old pods stay warm",
    /// Stable is rolled.
    GuardEnds { version: String, waits: String, pairs: u32 } => "the guard of {version} ends, as {waits} waits: each probe saw it answer well {pairs} times under all of the traffic",
    RollingInPlace { version: String } => "stable rolls to {version} in place, by its own strategy, and serves meanwhile; its new pods are asked as they come",
    RollingStable { version: String } => "stable rolls to {version} without traffic while the canary serves; then traffic comes back to it",
    /// It serves.
    WentLive { version: String } => "{version} is live",
    /// Traffic is off the canary while more is asked.
    Suspended { version: String, failure: String } => "traffic is off the canary of {version} while it is asked again: {failure}",
    /// The canary failed.
    CanaryFailed { version: String, failure: String } => "{version} was taken back: {failure}",
    /// The canary's pods fail by themselves.
    CanaryCrashed { version: String, failure: String } => "{version} was taken back: {failure}",
    /// A live version failed while young.
    LiveFailed { version: String, failure: String } => "{version} failed after it went live: {failure}",
    /// A person wants it back.
    RolledBackBy { version: String, by: String, why: String } => "{version} was taken back by {by}: {why}",
    /// A person ended the rollout.
    Aborted { version: String, by: String, why: String } => "the rollout of {version} was ended by {by}: {why}",
    /// Took too long.
    DeadlineExceeded { version: String, waited_for: String } => "{version} did not get all traffic by its deadline ({waited_for}); back to stable, undecided",
    /// The owner took the wish back.
    Withdrawn { version: String, live: String } => "{version} is no longer desired: {live} is",
    /// A newer one came before its turn.
    Overtaken { version: String, by: String } => "{by} came before it was the turn of {version}",
    /// A newer one takes it back while it is on its way.
    Reverted { version: String, by: String } => "{by} reverts {version} and takes its place",
    /// Nothing but its name is new.
    SameContent { version: String, live: String } => "{version} is live: it is the same content as {live}, which serves",
    /// A newer one took its place.
    Superseded { version: String, by: String } => "{version} was held or failing when {by} came; {by} takes its place",
    /// The Delivery goes.
    DeliveryDeleted => "the Delivery is being deleted: the proven version serves and the gate is opened",
    /// Back, and waiting for pods.
    GoingBack { from: String, to: String, why: String } => "{from} goes back to {to}: {why}",
    /// The bad content waits.
    Quarantined { version: String, why: String } => "{version} stays off: {why}; ship something newer, or: kubectl haldane retry",
    /// Returning.
    Returning { version: String, why: String } => "{version} comes back: {why}",
    /// A person holds.
    Held { by: String, message: String } => "held by {by}: {message}",
    /// A person must say yes first.
    ApprovalRequired { delivery: String, version: String, step: usize, share: String } => "{version} waits for an approval before step {step} ({share}): kubectl haldane approve {delivery}",
    /// A person said yes.
    Approved { version: String, step: usize, by: String, why: String } => "step {step} of {version} is approved by {by}: {why}",
    /// It failed beyond its barrier.
    Halted { version: String, why: String, barrier: String } => "{version} is halted ({why}); by itself nothing takes it back: {barrier}. Decide: kubectl haldane rollback, retry or promote",
    /// It may be bad, and it has all of the traffic beyond its barrier.
    Doubted { version: String, failure: String, barrier: String } => "{version} is asked again before it goes on ({failure}); by itself nothing takes it back: {barrier}",
    /// A policy lets nothing start now.
    WindowClosed { policy: String, until: String } => "by DeliveryPolicy {policy} no version starts now; {until}",
    /// A policy lets no more start.
    CapReached { policy: String, apps: String, cap: usize } => "it starts when one of those before it has ended ({apps}): DeliveryPolicy {policy} lets no more than {cap} be on their way at once",
    /// Several apps fail at once.
    SharedCause { count: usize, apps: String, minutes: u64 } => "{count} apps were suspended or failed within {minutes} minutes ({apps}), so what they share may be the cause; nothing moves forward until no more of them do",
    /// No such policy.
    PolicyMissing { policy: String } => "DeliveryPolicy {policy} does not exist in this namespace; create it, or take it out of spec.policyRef",
    /// It says something that is not so.
    PolicyInvalid { policy: String, why: String } => "DeliveryPolicy {policy} cannot be followed, so nothing new moves forward: {why}",
    /// Nobody lets us read what holds for all.
    RulesUnread { namespace: String, why: String } => "the policies and holds of namespace {namespace} cannot be read, so nothing new moves forward: {why}",
    /// It was told to observe.
    OnlyObserved => "spec.mode is Observe: what is on its way goes back, and the gate is opened",
    /// What it would do.
    WouldDeliver { workload: String, version: String, way: String } => "nothing is written in mode Observe; in mode Deliver Deployment {workload} would be gated at {version}, and every change of its template would go over {way}",
    /// The probes say nothing.
    NoData { why: String } => "no verdict: {why}",
    /// Others know late of what is new.
    Unsettled => "the API server was away; those who move traffic may know late which pods are there now, so nothing moves forward for twice as long as that lasted, a minute at most",
    /// Users ask too seldom.
    RequestsMute { version: String } => "the requests of users cannot judge {version}, for stable's own pods differ by them as much as a bad version would, and no probe votes; it stays at its step (spec.verify.probes, spec.verify.noTraffic, or: kubectl haldane promote)",
    NoTraffic { version: String } => "users ask {version} too seldom to judge it by their requests, and no probe votes; it stays at its step (spec.verify.noTraffic, or: kubectl haldane promote)",
    /// A step lasts until enough is known.
    Gathering { version: String, share: Weight } => "{version} has {share} of the traffic and stays there until its requests have shown that it is no worse; how far that is: kubectl haldane why",
    /// It may be worse.
    UnderSuspicion { version: String, purse: &'static str } => "{version} gets no more of the traffic: its {purse} look worse than those of the version before, and are not certain yet; kubectl haldane why",
    /// Errors jumped while there was nothing to compare with.
    ErrorsJumped { version: String, jump: String } => "{version} shares the traffic with the version before once more, to see whose fault it is: {jump}",
    /// It shares once more.
    AskedAgain { version: String } => "{version} shares the traffic with the version before once more, as errors had jumped under all of it; it gets all of it back after two quiet minutes",
    /// Nobody knows why.
    Unexplained { version: String, jump: String } => "{version} stays as it is: {jump}; side by side it was no worse, three times. Decide: kubectl haldane promote or rollback",
    /// Canary and stable fail alike.
    BothFailing { failure: String } => "canary and stable fail alike, so nobody can be blamed: {failure}",
    /// The cluster refuses pods.
    ClusterRefuses { word: String, says: String } => "the cluster refuses the canary's pods ({word}): {says}",
    /// Stable comes first.
    StableLacksRoom { workload: String, says: String } => "the cluster refuses a pod of Deployment {workload} ({says}); the canary makes room and begins anew when all of stable's pods are there",
    /// A person opened the gate.
    Ungated { workload: String } => "Deployment {workload} was resumed by hand and is left so; kubectl haldane adopt closes the gate again",
    /// The gate was opened together with another template.
    GateForced { workload: String, by: String } => "Deployment {workload} was unpaused with an unproven template by {by}; the proven one is put back and theirs becomes a Release",
    /// Somebody changed a template while the gate was open for a proven one.
    FoughtBy { workload: String, by: String } => "{by} writes its template into Deployment {workload} while it rolls; the canary serves until that stops",
    /// Stable's new pods do not start.
    StableNotRolling { workload: String } => "the new pods of Deployment {workload} do not get available; the canary serves until they do",
    /// The workload is away.
    ScaledToZero { workload: String } => "Deployment {workload} is scaled to 0; the rollout goes on when it is back",
    /// No such workload.
    WorkloadMissing { workload: String } => "Deployment {workload} does not exist in this namespace; create it or name another in spec.workloads",
    /// No such container.
    ContainerMissing { workload: String, container: String, field: &'static str } => "Deployment {workload} has no container {container}; see {field}",
    /// No such Service.
    ServiceMissing { service: String } => "Service {service} does not exist in this namespace or does not select the pods; see spec.workloads[].serviceRef",
    /// Which of several?
    ServiceAmbiguous { workload: String, services: String } => "several Services select the pods of {workload} ({services}); name the one that is measured in spec.workloads[].serviceRef",
    /// The Service no longer fits.
    ServiceChangedAhead { service: String } => "Service {service} selects no ready pod of the live version; it was changed ahead of the template: undo that change, or kubectl haldane promote",
    /// No such route.
    RouteMissing { route: String } => "{route} does not exist in this namespace; create it or take it out of spec.workloads[].routeRefs",
    /// It cannot be shared out.
    RouteUnfit { route: String, why: String } => "{route} cannot give a canary its share: {why}",
    /// Those who serve it do not take it.
    RouteRefused { route: String, why: String } => "{route} is not served as it stands: {why}",
    /// Nobody serves it.
    RouteSilent { route: String } => "no Gateway has taken {route}; see its parentRefs, and: kubectl get gateway -A",
    /// It was written and not read.
    RouteStale { route: String } => "{route} was written and those who serve it have not read it yet; see whether their controller runs",
    /// Another hand writes it, too.
    RouteFoughtBy { route: String, by: String } => "{by} has changed {route} while a version is on its way by it; it is written again in a minute, and at once on the way back",
    /// The same, once.
    RouteChanged { route: String, by: String } => "{by} has changed {route} while a version is on its way by it; its share is written again",
    /// Testers cannot be told apart.
    CapacitySmall { version: String, most: Weight } => "by the capacity Small {version} gets at most {most} beside stable; then stable rolls to it in place",
    TestersSkipped { route: String, why: String } => "testers are passed over on {route}: {why}",
    /// It cannot go the way of the customers.
    ProbeNotByRoute { probe: String, why: String } => "ProductionProbe {probe} asks pods alone, and nothing by the route: {why}",
    /// Two masters.
    AlreadyDelivered { workload: String, by: String } => "Deployment {workload} already belongs to Delivery {by}; remove one of the two",
    /// One write is no switch there.
    SwitchNotProvable { service: String, why: String } => "Service {service} cannot be switched by one write: {why}",
    /// The canary would live in another world.
    CanaryWouldDiffer { workload: String, why: String } => "a canary of Deployment {workload} would not be treated like the pods that serve: {why}; make it fit both",
    /// Its traffic follows late.
    SwitchGradual { service: String, why: String } => "Service {service} is not switched by one write ({why}): both versions serve side by side, a quarter of the pods at most the new one, and then stable takes it in place",
    /// Two versions cannot stand side by side.
    CannotRunTwo { workload: String, why: String } => "two versions of {workload} cannot run side by side: {why}; change that, or make the Delivery anew without Deployment {workload}",
    /// No such probe.
    ProbeMissing { probe: String } => "ProductionProbe {probe} does not exist in this namespace; create it or take it out of spec.verify.probes, or of the file in the repository",
    /// It is no time for its suite.
    SuiteQuiet { probe: String, until: String } => "ProductionProbe {probe} is not started now (job.notWithin), {until}; the version waits for it",
    /// Others have all the places.
    SuiteQueued { probe: String, most: u16 } => "ProductionProbe {probe} waits for its turn: {most} suites run, and no more may at once (suites.atOnce of the chart); the version waits for it",
    /// Others send all that may be sent.
    LoadQueued { probe: String, most: u32 } => "ProductionProbe {probe} waits for its turn: all loads together send at most {most} requests a second (suites.requestsPerSecond of the chart); the version waits for it",
    /// It never may.
    LoadTooMuch { probe: String, sends: u32, most: u32 } => "ProductionProbe {probe} would send {sends} requests a second, and all loads together may send {most} (suites.requestsPerSecond of the chart); state less in job.load, or let the chart allow more",
    /// The probe cannot be run.
    ProbeInvalid { probe: String, why: String } => "ProductionProbe {probe} cannot be run: {why}",
    /// It leaves things behind.
    ProbeStopped { probe: String, says: String } => "ProductionProbe {probe} is stopped: three times in a row its teardown did not put right what its steps had made ({says}); mend the teardown or the app, then change the probe",
    /// It fails now and then while all is well.
    ProbeFlaky { probe: String, flakes: usize, runs: usize } => "ProductionProbe {probe} does not vote from now on: at rest it has begun to fail {flakes} times in {runs} runs, which is more than 2 %; it is measured, and votes again at 1 %",
    /// It does so seldom again.
    ProbeSteady { probe: String, flakes: usize, runs: usize } => "ProductionProbe {probe} votes again: at rest it has begun to fail {flakes} times in {runs} runs",
    /// Since it was made, nobody has given it a right answer.
    ProbeUnanswered { probe: String, says: String } => "nobody has given ProductionProbe {probe} a right answer yet ({says}); it is asked from Haldane's pods, so look at its port and path, at NetworkPolicies and at strict mTLS, or ask from where you sit: kubectl haldane probe run {probe}",
    /// Nobody could put right what it would make.
    ProbeBarred { probe: String, why: String } => "ProductionProbe {probe} is not run: {why}",
    /// The namespace did not opt in.
    NotGranted { namespace: String } => "namespace {namespace} has not opted in: kubectl create rolebinding haldane --clusterrole=haldane-delivery --serviceaccount=haldane-system:haldane -n {namespace}",
    /// The manifest names `paused`.
    PausedInManifest { workload: String, by: String } => "the manifest of Deployment {workload} names spec.paused (owned by {by}), so each apply would open the gate; take the field out of it",
    /// The spec cannot be read.
    Invalid { why: String } => "{why}",
    /// Nothing is proven yet.
    NothingProven { workload: String } => "Deployment {workload} has no ready pod, so nothing is proven that could be kept; it is adopted when it runs",
    /// The templates of a Release are gone.
    TemplateLost { release: String } => "the ControllerRevision {release} is gone, so this version cannot be made any more; ship it again",
    /// Traffic is not confirmed to be off a failed canary.
    WayBackBlocked { why: String } => "the way back is not confirmed: {why}",
    /// Production at rest fails.
    ProductionFailing { failure: String } => "production fails its probe: {failure}",
    /// A foreign hand took the pin off.
    PinLost { service: String } => "the pin of Service {service} was taken off by somebody else's write and is put back",
    /// A pin that would select nothing.
    PinWouldBeEmpty { service: String } => "Service {service} has its pin taken off: no ready pod matches it",
    /// The owner's template was not put back on the way out.
    LeftBehind { workload: String, version: String } => "Deployment {workload} keeps the proven {version}; the owner's unproven template is in ControllerRevision and was not put back",
}

impl Reason {
    /// The probe that is missing or wrong, where that is the reason.
    #[must_use]
    pub fn probe(&self) -> Option<&str> {
        match self {
            Self::ProbeMissing { probe }
            | Self::ProbeInvalid { probe, .. }
            | Self::ProbeStopped { probe, .. }
            | Self::ProbeBarred { probe, .. } => Some(probe),
            _ => None,
        }
    }
}

impl Reason {
    /// It ends by itself, or with a word that is given before our eyes: nothing is to be mended.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(
            self,
            Self::Held { .. }
                | Self::ApprovalRequired { .. }
                | Self::ExternalWaits { .. }
                | Self::QueryHolds { .. }
                | Self::SuiteQuiet { .. }
                | Self::SuiteQueued { .. }
                | Self::LoadQueued { .. }
                | Self::WindowClosed { .. }
                | Self::CapReached { .. }
                | Self::SharedCause { .. }
        )
    }

    /// The step that waits for an approval, from 1, where that is the reason.
    #[must_use]
    pub fn waits_for(&self) -> Option<usize> {
        if let Self::ApprovalRequired { step, .. } = self { Some(*step) } else { None }
    }
}

impl From<&Reason> for Why {
    fn from(reason: &Reason) -> Self {
        Self { word: reason.word().to_owned(), says: reason.to_string() }
    }
}

impl Decision {
    /// Stays in a state for a reason, with nothing to write.
    #[must_use]
    pub fn stay(state: &State, reason: Reason, wait: Wait) -> Self {
        Self {
            next: state.clone(),
            effects: Vec::new(),
            reason,
            wait,
            desired: None,
            holds: Vec::new(),
            notes: Vec::new(),
            health: Health::default(),
            ahead: Vec::new(),
        }
    }

    /// The same with these writes before everything else.
    #[must_use]
    pub fn first(mut self, mut effects: Vec<Effect>) -> Self {
        effects.append(&mut self.effects);
        self.effects = effects;
        self
    }
}

/// The pin that a hash makes.
#[must_use]
pub fn stable(hash: &PodHash) -> Pin {
    Pin::Stable(hash.clone())
}
