//! What the forge still grants, for Prometheus: read off when somebody looks.

use std::sync::Arc;

use prometheus::{
    IntCounterVec, IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::edge::forge::Forge;

/// The budgets of a forge.
pub struct ForgeMeter {
    forge: Arc<dyn Forge>,
    remaining: IntGaugeVec,
    limit: IntGaugeVec,
    calls: IntCounterVec,
    points: IntCounterVec,
}

impl ForgeMeter {
    pub(super) fn new(forge: Arc<dyn Forge>) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["api"]);
        let counter = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["api"]);
        Ok(Self {
            forge,
            remaining: gauge("forge_budget_remaining", "Points that the forge still gives this hour; of several installations the least.")?,
            limit: gauge("forge_budget_limit", "Points that the forge gives in an hour, where the fewest are left.")?,
            calls: counter("forge_calls_total", "Calls to the forge.")?,
            points: counter("forge_points_total", "What these calls cost, in the forge's points.")?,
        })
    }
}

impl Collector for ForgeMeter {
    fn desc(&self) -> Vec<&Desc> {
        [self.remaining.desc(), self.limit.desc(), self.calls.desc(), self.points.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for budget in self.forge.budgets() {
            let label = [budget.api];
            if let (Some(remaining), Some(limit)) = (budget.remaining, budget.limit) {
                let bounded = |points: u64| i64::try_from(points).unwrap_or(i64::MAX);
                self.remaining.with_label_values(&label).set(bounded(remaining));
                self.limit.with_label_values(&label).set(bounded(limit));
            }
            for (counter, now) in [(&self.calls, budget.calls), (&self.points, budget.points)] {
                let counter = counter.with_label_values(&label);
                // It only ever grows: a client lives as long as its process.
                counter.inc_by(now.saturating_sub(counter.get()));
            }
        }
        [self.remaining.collect(), self.limit.collect(), self.calls.collect(), self.points.collect()].concat()
    }
}
