//! What one Delivery looks like in the cluster now: its objects and the user's, read with the user's rights.

use anyhow::Result;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    batch::v1::CronJob,
    core::v1::{Pod, Service},
};
use kube::{ResourceExt as _, api::ListParams};
use serde_json::Value;

use super::{
    connect::{Cluster, within},
    json,
};
use crate::{
    api::{
        DELIVERY_LABEL, POD_TEMPLATE_HASH, TRACK_CANARY, TRACK_LABEL, WORKLOAD_LABEL,
        delivery::{CronJobSpec, Delivery, RouteRef},
        hold::Hold,
        release::Release,
    },
    observe::{gateways, routes},
};

/// One Delivery and what stands around it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) delivery: Delivery,
    pub(crate) releases: Vec<Release>,
    /// Those that apply to it.
    pub(crate) holds: Vec<Hold>,
    /// In the order of the spec.
    pub(crate) workloads: Vec<Workload>,
    /// In the order of the spec; none: it does not exist, or could not be read.
    pub(crate) cron_jobs: Vec<(CronJobSpec, Option<Value>)>,
    /// Every Service of the namespace that selects pods of a workload.
    pub(crate) services: Vec<Value>,
    /// The routes of its workloads, those that are there.
    pub(crate) routes: Vec<Value>,
    /// The Gateways that serve them, as far as the user may read them.
    pub(crate) gateways: Vec<Value>,
    /// What could not be read, and why.
    pub(crate) unread: Vec<String>,
}

/// A workload and what stands beside it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Workload {
    pub(crate) name: String,
    /// None: it does not exist.
    pub(crate) deployment: Option<Value>,
    pub(crate) canary: Option<Value>,
    pub(crate) replica_sets: Vec<Value>,
    /// Of both sides.
    pub(crate) pods: Vec<Value>,
}

impl Workload {
    /// The `ReplicaSet` with pods, when there is exactly one: what runs.
    pub(crate) fn running(&self) -> Option<&Value> {
        let mut active =
            self.replica_sets.iter().filter(|rs| json::number(rs, "/spec/replicas") > 0 || json::number(rs, "/status/replicas") > 0);
        active.next().filter(|_| active.next().is_none())
    }

    /// The pods of one side.
    pub(crate) fn side(&self, canary: bool) -> impl Iterator<Item = &Value> {
        self.pods.iter().filter(move |p| is_canary(p) == canary)
    }
}

/// Whether an object carries the mark of the new side.
pub(crate) fn is_canary(object: &Value) -> bool {
    json::label(object, TRACK_LABEL) == Some(TRACK_CANARY)
}

/// Whether a Service selects pods with these labels, with or without a pin of ours.
pub(crate) fn serves(service: &Value, labels: &Value) -> bool {
    let mut selector = service.pointer("/spec/selector").cloned().unwrap_or_default();
    if let Some(keys) = selector.as_object_mut() {
        keys.remove(POD_TEMPLATE_HASH);
        keys.remove(TRACK_LABEL);
    }
    json::covers(&selector, labels)
}

/// Whether a Hold applies to a Delivery.
pub(crate) fn applies(hold: &Hold, delivery: &str) -> bool {
    hold.spec.delivery_ref.as_ref().is_none_or(|r| r.name == delivery)
}

/// Reads all of it. What the user may not read is named, and the rest is shown.
pub(crate) async fn read(cluster: &Cluster, name: &str) -> Result<Seen> {
    let delivery = cluster.delivery(Some(name)).await?;
    let name = delivery.name_any();
    let mut seen = Seen {
        delivery,
        releases: vec![],
        holds: vec![],
        workloads: vec![],
        cron_jobs: vec![],
        services: vec![],
        routes: vec![],
        gateways: vec![],
        unread: vec![],
    };
    let all = ListParams::default();
    let (releases, holds) = (cluster.of::<Release>(), cluster.of::<Hold>());
    let releases = seen.kept("Releases", within("releases", releases.list(&all)).await.map(|l| l.items));
    seen.releases = releases.into_iter().filter(|r| r.spec.delivery_ref.name == name).collect();
    let holds = seen.kept("Holds", within("holds", holds.list(&all)).await.map(|l| l.items));
    seen.holds = holds.into_iter().filter(|h| applies(h, &name)).collect();
    let canaries = cluster.values::<Deployment>(&format!("{DELIVERY_LABEL}={name}")).await;
    let canaries = seen.kept("canary Deployments", canaries);
    for workload in seen.delivery.spec.workloads.clone() {
        let workload = seen.workload(cluster, &workload.name, &canaries).await;
        seen.workloads.push(workload);
    }
    for cron_job in seen.delivery.spec.cron_jobs.clone() {
        let found = cluster.value::<CronJob>(&cron_job.name).await;
        let found = seen.kept("CronJobs", found);
        seen.cron_jobs.push((cron_job, found));
    }
    let services = seen.kept("Services", cluster.values::<Service>("").await);
    let labels: Vec<Value> =
        seen.workloads.iter().filter_map(|w| w.deployment.as_ref()?.pointer("/spec/template/metadata/labels").cloned()).collect();
    let front = |s: &Value| is_canary(s) && json::label(s, DELIVERY_LABEL).is_some();
    seen.services = services.into_iter().filter(|s| !front(s) && labels.iter().any(|l| serves(s, l))).collect();
    seen.routes(cluster).await;
    Ok(seen)
}

impl Seen {
    fn kept<T: Default>(&mut self, what: &str, answer: Result<T>) -> T {
        answer.unwrap_or_else(|error| {
            self.unread.push(format!("{what}: {error}"));
            T::default()
        })
    }

    /// Routes and their Gateways. Those who may not read a Gateway see the routes all the same.
    async fn routes(&mut self, cluster: &Cluster) {
        let named: Vec<RouteRef> = self.delivery.spec.workloads.iter().flat_map(|w| w.route_refs.clone()).collect();
        for route in named {
            let found = cluster.dynamic(&routes::kind(route.kind), &cluster.namespace, &route.name).await;
            let found = self.kept("routes", found);
            self.routes.extend(found);
        }
        let mut parents: Vec<(String, String)> = Vec::new();
        for parent in self.routes.iter().flat_map(|route| json::list(route, "/spec/parentRefs")) {
            let namespace = Some(json::text(parent, "/namespace")).filter(|n| !n.is_empty()).unwrap_or(&cluster.namespace);
            parents.push((namespace.to_owned(), json::text(parent, "/name").to_owned()));
        }
        parents.dedup();
        for (namespace, name) in parents {
            self.gateways.extend(cluster.dynamic(&gateways::gateway(), &namespace, &name).await.ok().flatten());
        }
    }

    async fn workload(&mut self, cluster: &Cluster, name: &str, canaries: &[Value]) -> Workload {
        let deployment = self.kept("the Deployment", cluster.value::<Deployment>(name).await);
        let mut workload = Workload { name: name.to_owned(), ..Workload::default() };
        workload.canary = canaries.iter().find(|c| json::label(c, WORKLOAD_LABEL) == Some(name)).cloned();
        let Some(deployment) = deployment else { return workload };
        let selector = deployment.pointer("/spec/selector").map(json::query).unwrap_or_default();
        workload.pods = self.kept("pods", cluster.values::<Pod>(&selector).await);
        let sets = self.kept("ReplicaSets", cluster.values::<ReplicaSet>(&selector).await);
        let uid = json::text(&deployment, "/metadata/uid").to_owned();
        workload.replica_sets = sets.into_iter().filter(|rs| owner(rs) == uid).collect();
        workload.deployment = Some(deployment);
        workload
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        self.delivery.name_any()
    }
}

/// The uid of the controlling owner.
pub(crate) fn owner(object: &Value) -> &str {
    let owners = json::list(object, "/metadata/ownerReferences");
    owners.iter().find(|o| json::flag(o, "/controller")).map(|o| json::text(o, "/uid")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pinned_service_still_belongs_to_its_workload() {
        let labels = json!({"app": "shop"});
        for selector in [
            json!({"app": "shop"}),
            json!({"app": "shop", "pod-template-hash": "6c9d"}),
            json!({"app": "shop", "haldane.dev/track": "canary"}),
        ] {
            assert!(serves(&json!({"spec": {"selector": selector}}), &labels));
        }
        assert!(!serves(&json!({"spec": {"selector": {"pod-template-hash": "6c9d"}}}), &labels));
        assert!(!serves(&json!({"spec": {}}), &labels), "a Service whose endpoints somebody else writes is not ours to judge");
    }

    #[test]
    fn what_runs_is_only_known_when_one_replica_set_has_pods() {
        let set = |pods: i64| json!({"spec": {"replicas": pods}, "status": {"replicas": pods}});
        let of = |sets: Vec<Value>| Workload { replica_sets: sets, ..Workload::default() };
        assert!(of(vec![set(0), set(3)]).running().is_some());
        assert!(of(vec![set(1), set(3)]).running().is_none());
        assert!(of(vec![set(0)]).running().is_none());
    }
}
