//! Events: each change is told once, in the sentence that every other surface shows.
//!
//! Written by hand and not with kube's recorder: that one reads a clock of its own, and folds two sentences of one reason
//! into a count.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use kube::Resource;
use serde_json::json;

use super::{
    calls::{Calls, Kind},
    releases::cut,
};
use crate::{
    api::{delivery::Delivery, status::DeliveryStatus},
    clock::Clock,
    control::lease::LeaderProof,
    edge::kube::Cluster,
    model::decision::{Decision, Reason},
};

/// The same sentence about the same Delivery is told once in this time.
const QUIET: SignedDuration = SignedDuration::from_mins(10);
/// Sentences about one Delivery in that time. A rollout of 20 steps has some 30 changes; a flapping one has no end.
const FLOOD: usize = 60;
/// Length of a note, as the API bounds it.
const NOTE: usize = 1024;

/// Tells people.
pub struct Announcer {
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    /// This process, as Events name it.
    instance: String,
    /// By (uid, reason, sentence), when it was told.
    told: Mutex<HashMap<(String, &'static str, String), Timestamp>>,
}

impl Announcer {
    /// `instance` is the name of this pod.
    #[must_use]
    pub fn new(cluster: Cluster, clock: Arc<dyn Clock>, instance: &str) -> Self {
        Self { cluster, clock, instance: cut(instance, 128), told: Mutex::default() }
    }

    /// Tells each note, what happened, and then of a change of phase or reason since `before`, how it stands. An Event that cannot be written is lost, and
    /// nothing else.
    pub async fn announce(&self, proof: &LeaderProof, delivery: &Delivery, before: Option<&DeliveryStatus>, decision: &Decision) {
        let phase = decision.next.phase.label();
        let changed = before.is_none_or(|b| b.phase.as_deref() != Some(phase) || b.reason.as_deref() != Some(decision.reason.word()));
        let news = Some(&decision.reason).filter(|_| changed);
        for reason in decision.notes.iter().chain(news) {
            if self.is_news(delivery, reason) {
                self.tell(proof, delivery, phase, reason).await;
            }
        }
    }

    fn is_news(&self, delivery: &Delivery, reason: &Reason) -> bool {
        let now = self.clock.now();
        let uid = delivery.metadata.uid.clone().unwrap_or_default();
        // Nothing under this lock can leave the map half changed.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| now.duration_since(*at) < QUIET);
        if told.keys().filter(|(of, _, _)| *of == uid).count() >= FLOOD {
            return false;
        }
        told.insert((uid, reason.word(), reason.to_string()), now).is_none()
    }

    async fn tell(&self, proof: &LeaderProof, delivery: &Delivery, phase: &str, reason: &Reason) {
        let namespace = delivery.metadata.namespace.as_deref().unwrap_or_default();
        let now = self.clock.now();
        // The reason is in the name, so that two Events of one moment are two.
        let name = format!(
            "{}.{:x}.{}",
            delivery.metadata.name.as_deref().unwrap_or_default(),
            now.as_microsecond(),
            reason.word().to_lowercase()
        );
        let event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(now),
            "reportingController": "haldane.dev/haldane",
            "reportingInstance": self.instance,
            "regarding": delivery.object_ref(&()),
            "action": phase,
            "reason": reason.word(),
            "note": cut(&reason.to_string(), NOTE),
            "type": if is_bad_news(reason) { "Warning" } else { "Normal" },
        });
        let calls = Calls { cluster: &self.cluster, namespace, proof };
        if let Err(error) = calls.create(Kind::Event, &name, &event).await {
            tracing::warn!(error = &error as &dyn std::error::Error, reason = reason.word(), "an Event is lost");
        }
    }
}

/// Whether people should look: production or a version is not well, or somebody has to act.
#[must_use]
#[allow(clippy::too_many_lines, reason = "one line per reason")]
pub fn is_bad_news(reason: &Reason) -> bool {
    use Reason as R;
    match reason {
        R::WorkloadStuck { .. }
        | R::Suspended { .. }
        | R::Halted { .. }
        | R::SharedCause { .. }
        | R::PolicyMissing { .. }
        | R::PolicyInvalid { .. }
        | R::RulesUnread { .. }
        | R::Doubted { .. }
        | R::CanaryFailed { .. }
        | R::CanaryCrashed { .. }
        | R::LiveFailed { .. }
        | R::RolledBackBy { .. }
        | R::DeadlineExceeded { .. }
        | R::GoingBack { .. }
        | R::Quarantined { .. }
        | R::Returning { .. }
        | R::NoData { .. }
        | R::RequestsMute { .. }
        | R::NoTraffic { .. }
        | R::ErrorsJumped { .. }
        | R::UnderSuspicion { .. }
        | R::AskedAgain { .. }
        | R::Unexplained { .. }
        | R::BothFailing { .. }
        | R::ClusterRefuses { .. }
        | R::StableLacksRoom { .. }
        | R::Ungated { .. }
        | R::GateForced { .. }
        | R::FoughtBy { .. }
        | R::StableNotRolling { .. }
        | R::WorkloadMissing { .. }
        | R::ContainerMissing { .. }
        | R::ServiceMissing { .. }
        | R::RouteMissing { .. }
        | R::RouteUnfit { .. }
        | R::RouteRefused { .. }
        | R::RouteSilent { .. }
        | R::RouteStale { .. }
        | R::RouteFoughtBy { .. }
        | R::RouteChanged { .. }
        | R::TestersSkipped { .. }
        | R::ProbeNotByRoute { .. }
        | R::ServiceAmbiguous { .. }
        | R::ServiceChangedAhead { .. }
        | R::AlreadyDelivered { .. }
        | R::SwitchNotProvable { .. }
        | R::CanaryWouldDiffer { .. }
        | R::CannotRunTwo { .. }
        | R::BeforeFailed { .. }
        | R::BeforeRefused { .. }
        | R::ExternalFailed { .. }
        | R::ExternalUnasked { .. }
        | R::QuerySilent { .. }
        | R::BeforeRunsByItself { .. }
        | R::CronJobMissing { .. }
        | R::CronJobForeign { .. }
        | R::CronJobReached { .. }
        | R::CronJobDiffers { .. }
        | R::CronJobDelivered { .. }
        | R::CronJobsNotGranted { .. }
        | R::ProbeMissing { .. }
        | R::ProbeInvalid { .. }
        | R::LoadTooMuch { .. }
        | R::ProbeStopped { .. }
        | R::ProbeBarred { .. }
        | R::ProbeFlaky { .. }
        | R::ProbeUnanswered { .. }
        | R::NotGranted { .. }
        | R::PausedInManifest { .. }
        | R::Invalid { .. }
        | R::NothingProven { .. }
        | R::TemplateLost { .. }
        | R::WayBackBlocked { .. }
        | R::ProductionFailing { .. }
        | R::PinLost { .. }
        | R::PinWouldBeEmpty { .. }
        | R::LeftBehind { .. }
        | R::BranchRewritten { .. }
        | R::NoForge { .. }
        | R::RepositoryNotGranted { .. }
        | R::SourceUnread { .. }
        | R::TagMovedBack { .. }
        | R::NotAllowed { .. }
        | R::ConfigBroken { .. }
        | R::ReleaseRefused { .. }
        | R::SourceSilent { .. }
        | R::RepositoryRenamed { .. }
        | R::ImageRefused { .. } => true,
        R::Gathering { .. }
        | R::Serving { .. }
        | R::WorkloadRolling { .. }
        | R::Adopted { .. }
        | R::ReleaseSeen { .. }
        | R::Preparing { .. }
        | R::BeforeBusy { .. }
        | R::Preflight { .. }
        | R::Baking { .. }
        | R::Sharing { .. }
        | R::Testing { .. }
        | R::CapacitySmall { .. }
        | R::SwitchGradual { .. }
        | R::Growing { .. }
        | R::Guarding { .. }
        | R::GuardEnds { .. }
        | R::RollingInPlace { .. }
        | R::RollingStable { .. }
        | R::WentLive { .. }
        | R::Aborted { .. }
        | R::Withdrawn { .. }
        | R::Superseded { .. }
        | R::Reverted { .. }
        | R::SameContent { .. }
        | R::Overtaken { .. }
        | R::DeliveryDeleted
        | R::Held { .. }
        | R::ApprovalRequired { .. }
        | R::ExternalWaits { .. }
        | R::QueryHolds { .. }
        | R::SuiteQuiet { .. }
        | R::SuiteQueued { .. }
        | R::LoadQueued { .. }
        | R::ExternalPassed { .. }
        | R::OnlyObserved
        | R::Unsettled
        | R::WouldDeliver { .. }
        | R::WindowClosed { .. }
        | R::CapReached { .. }
        | R::Approved { .. }
        | R::ProbeSteady { .. }
        | R::ScaledToZero { .. } => false,
    }
}
