//! What the process counts, in the text format of Prometheus.
//!
//! Every label has a closed set of values: names of objects never become labels, so the number of series does not grow with
//! the number of apps (the known way in which such controllers run out of memory). Which app it was, says the log.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
};

use crate::{control::Key, model::decision::Effect};

/// Seconds of a pass: a pass at rest is a few reads of some milliseconds each; its limit is a minute.
const PASS_SECONDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// All of them.
pub struct Metrics {
    registry: Registry,
    passes: IntCounterVec,
    pass_seconds: Histogram,
    effects: IntCounterVec,
    status_writes: IntCounterVec,
    events: IntCounterVec,
    panics: IntCounter,
    undecodable: IntCounter,
    leader: IntGauge,
    deliveries: IntGaugeVec,
    api_errors: IntCounterVec,
    watch_errors: IntCounterVec,
    definitions_outdated: IntGauge,
    phases: Mutex<BTreeMap<Key, &'static str>>,
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassResult {
    /// To its end.
    Done,
    /// The Delivery was not there any more.
    Gone,
    /// Something had changed meanwhile.
    Conflict,
    /// With an error.
    Failed,
    /// Not within its limit.
    Slow,
    /// With a panic.
    Panicked,
}

impl PassResult {
    fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Gone => "gone",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
            Self::Slow => "slow",
            Self::Panicked => "panicked",
        }
    }
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It was done.
    Done,
    /// There was nothing to do.
    Unchanged,
    /// It failed.
    Failed,
}

impl Attempt {
    fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
        }
    }
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// When two of them have the same name: a mistake in this file, which its test finds.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("haldane".to_owned()), None)?;
        let r = &registry;
        let metrics = Self {
            passes: counters(r, "reconciles_total", "Passes over a Delivery, by how they ended.", "result")?,
            pass_seconds: added(
                r,
                Histogram::with_opts(HistogramOpts::new("reconcile_seconds", "Seconds of a pass.").buckets(PASS_SECONDS.to_vec()))?,
            )?,
            effects: counters(r, "effects_total", "Writes to the world that were decided and carried out.", "kind")?,
            status_writes: counters(r, "status_writes_total", "Writes of a status, by result.", "result")?,
            events: counters(r, "events_total", "Events for people, by result.", "result")?,
            panics: added(r, IntCounter::new("panics_total", "Passes that ended with a panic. Each is a defect.")?)?,
            undecodable: added(r, IntCounter::new("undecodable_total", "Passes over a Delivery that cannot be decoded.")?)?,
            leader: added(r, IntGauge::new("leader", "1 while this process leads.")?)?,
            deliveries: gauges(r, "deliveries", "Deliveries by phase, as the leader saw them last.", "phase")?,
            api_errors: counters(r, "api_errors_total", "Calls to the API server that failed, by kind of failure.", "kind")?,
            watch_errors: counters(r, "watch_errors_total", "Watches that broke or were refused, by kind of object.", "object")?,
            definitions_outdated: added(
                r,
                IntGauge::new("definitions_outdated", "1 while the CRDs in the cluster are older than this controller.")?,
            )?,
            phases: Mutex::default(),
            registry,
        };
        Ok(metrics)
    }

    /// Shows what another room counts by itself, too.
    ///
    /// # Errors
    /// When there is one of that name already.
    pub fn add(&self, other: impl Collector + 'static) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(other))
    }

    /// A pass ended.
    pub fn pass(&self, result: PassResult, took: Duration) {
        self.passes.with_label_values(&[result.label()]).inc();
        self.pass_seconds.observe(took.as_secs_f64());
        if result == PassResult::Panicked {
            self.panics.inc();
        }
    }

    /// Effects were carried out.
    pub fn effects(&self, effects: &[Effect]) {
        for effect in effects {
            self.effects.with_label_values(&[kind(effect)]).inc();
        }
    }

    /// A status was written, or not.
    pub fn status_write(&self, attempt: Attempt) {
        self.status_writes.with_label_values(&[attempt.label()]).inc();
    }

    /// An Event was written, or not.
    pub fn event(&self, attempt: Attempt) {
        self.events.with_label_values(&[attempt.label()]).inc();
    }

    /// A Delivery could not be decoded.
    pub fn undecodable(&self) {
        self.undecodable.inc();
    }

    /// Whether this process leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
        if !leads {
            self.phases.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Whether the CRDs in the cluster are older than this controller.
    pub fn definitions_outdated(&self, outdated: bool) {
        self.definitions_outdated.set(outdated.into());
    }

    /// The phase of a Delivery.
    pub fn phase(&self, key: &Key, phase: &'static str) {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), phase);
    }

    /// A Delivery is gone.
    pub fn forget(&self, key: &Key) {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// A call to the API server failed.
    pub fn api_error(&self, error: &kube::Error) {
        self.api_errors.with_label_values(&[failure(error)]).inc();
    }

    /// A watch broke.
    pub fn watch_error(&self, object: &'static str) {
        self.watch_errors.with_label_values(&[object]).inc();
    }

    /// All of them as text.
    ///
    /// # Errors
    /// When one cannot be written as text: none that is known.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        self.deliveries.reset();
        for phase in self.phases.lock().unwrap_or_else(PoisonError::into_inner).values() {
            self.deliveries.with_label_values(&[*phase]).inc();
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

fn added<M: prometheus::core::Collector + Clone + 'static>(registry: &Registry, metric: M) -> Result<M, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
    added(registry, IntCounterVec::new(Opts::new(name, help), &[label])?)
}

fn gauges(registry: &Registry, name: &str, help: &str, label: &str) -> Result<IntGaugeVec, prometheus::Error> {
    added(registry, IntGaugeVec::new(Opts::new(name, help), &[label])?)
}

fn kind(effect: &Effect) -> &'static str {
    match effect {
        Effect::SendRoute { .. } => "SendRoute",
        Effect::MakeCanaryService { .. } => "MakeCanaryService",
        Effect::RemoveCanaryService { .. } => "RemoveCanaryService",
        Effect::AddFinalizer => "AddFinalizer",
        Effect::RemoveFinalizer => "RemoveFinalizer",
        Effect::RecordRelease { .. } => "RecordRelease",
        Effect::RecordMerge(_) => "RecordMerge",
        Effect::KeepTemplates { .. } => "KeepTemplates",
        Effect::CloseGate { .. } => "CloseGate",
        Effect::OpenGate { .. } => "OpenGate",
        Effect::PutTemplate { .. } => "PutTemplate",
        Effect::DropOwnership(_) => "DropOwnership",
        Effect::PinService { .. } => "PinService",
        Effect::RunBefore { .. } => "RunBefore",
        Effect::SetImage { .. } => "SetImage",
        Effect::RemoveJob { .. } => "RemoveJob",
        Effect::CreateCanary { .. } => "CreateCanary",
        Effect::ScaleCanary { .. } => "ScaleCanary",
        Effect::DeleteCanary { .. } => "DeleteCanary",
        Effect::SettleRelease { .. } => "SettleRelease",
        Effect::SettleCommand { .. } => "SettleCommand",
        Effect::ForgetRelease { .. } => "ForgetRelease",
    }
}

fn failure(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) => match status.code {
            401 | 403 => "refused",
            404 => "absent",
            409 => "conflict",
            422 => "invalid",
            429 => "throttled",
            500..=599 => "server",
            _ => "other",
        },
        kube::Error::SerdeError(_) => "unreadable",
        _ => "network",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_are_counted_by_phase_and_never_named() {
        let metrics = Metrics::new().unwrap();
        metrics.phase(&Key::new("shop", "checkout"), "Live");
        metrics.phase(&Key::new("shop", "cart"), "Live");
        metrics.phase(&Key::new("shop", "cart"), "Canary");
        metrics.pass(PassResult::Panicked, Duration::from_millis(7));
        let text = metrics.render().unwrap();
        assert!(text.contains("haldane_deliveries{phase=\"Live\"} 1\n"), "{text}");
        assert!(text.contains("haldane_deliveries{phase=\"Canary\"} 1\n"), "{text}");
        assert!(text.contains("haldane_reconciles_total{result=\"panicked\"} 1\n"), "{text}");
        assert!(text.contains("haldane_panics_total 1\n"), "{text}");
        assert!(!text.contains("cart"), "{text}");
        metrics.forget(&Key::new("shop", "checkout"));
        assert!(!metrics.render().unwrap().contains("phase=\"Live\""));
    }
}
