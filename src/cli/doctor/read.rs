//! Fills the snapshots, with the user's rights.

use anyhow::Result;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        coordination::v1::Lease,
        core::v1::{PersistentVolumeClaim, Pod, Service},
        policy::v1::PodDisruptionBudget,
        rbac::v1::RoleBinding,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Resource,
    api::{DynamicObject, ListParams},
    core::{ApiResource, DeserializeGuard, error_boundary::InvalidObject},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Snapshot;
use crate::{
    api::{delivery::Delivery, probe::ProductionProbe, probe_run::ProbeRun},
    cli::{
        args,
        connect::{Cluster, values, within},
    },
};

/// One snapshot for each namespace that is meant.
pub(crate) async fn all(cluster: &Cluster, args: &args::Doctor) -> Result<Vec<Snapshot>> {
    let mut base = Snapshot { now: cluster.now(), controller: args.controller_namespace.clone(), ..Snapshot::default() };
    let definitions: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &ApiResource::erase::<CustomResourceDefinition>(&()));
    base.definitions = kept(&mut base.unread, "cluster definitions of kinds", values(&definitions, "").await).map(ours);
    let leases = Api::namespaced_with(cluster.client.clone(), &base.controller, &ApiResource::erase::<Lease>(&()));
    base.leases = kept(&mut base.unread, "cluster leases of the controller", values(&leases, "").await);
    let mut snapshots = Vec::new();
    for namespace in namespaces(cluster, args).await? {
        snapshots.push(one(cluster, &namespace, base.clone()).await);
    }
    Ok(snapshots)
}

fn ours(definitions: Vec<Value>) -> Vec<Value> {
    definitions.into_iter().filter(|d| crate::cli::json::text(d, "/spec/group") == "haldane.dev").collect()
}

/// The namespaces with something of ours in them, or the one that was named.
async fn namespaces(cluster: &Cluster, args: &args::Doctor) -> Result<Vec<String>> {
    if !args.all_namespaces {
        return Ok(vec![cluster.namespace.clone()]);
    }
    let deliveries: Api<Delivery> = Api::all(cluster.client.clone());
    let found = within("deliveries", deliveries.list(&ListParams::default())).await.map(|l| l.items).unwrap_or_default();
    let canaries: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &ApiResource::erase::<Deployment>(&()));
    let canaries = values(&canaries, crate::api::DELIVERY_LABEL).await.unwrap_or_default();
    let of_canaries = canaries.iter().map(|c| crate::cli::json::text(c, "/metadata/namespace").to_owned());
    let mut names: Vec<String> = found.into_iter().filter_map(|d| d.metadata.namespace).chain(of_canaries).collect();
    if names.is_empty() {
        names.push(cluster.namespace.clone());
    }
    names.sort();
    names.dedup();
    Ok(names)
}

async fn one(cluster: &Cluster, namespace: &str, base: Snapshot) -> Snapshot {
    let mut seen = Snapshot { namespace: namespace.to_owned(), ..base };
    let unread = &mut seen.unread;
    seen.bindings = foreign::<RoleBinding>(cluster, namespace, "role bindings", unread).await;
    seen.deployments = foreign::<Deployment>(cluster, namespace, "Deployments", unread).await.unwrap_or_default();
    seen.pods = foreign::<Pod>(cluster, namespace, "pods", unread).await.unwrap_or_default();
    seen.services = foreign::<Service>(cluster, namespace, "Services", unread).await.unwrap_or_default();
    seen.claims = foreign::<PersistentVolumeClaim>(cluster, namespace, "volume claims", unread).await.unwrap_or_default();
    seen.autoscalers = foreign::<HorizontalPodAutoscaler>(cluster, namespace, "autoscalers", unread).await.unwrap_or_default();
    seen.budgets = foreign::<PodDisruptionBudget>(cluster, namespace, "disruption budgets", unread).await.unwrap_or_default();
    seen.deliveries = typed(cluster, namespace, "Deliveries", unread).await;
    seen.probes = typed::<ProductionProbe>(cluster, namespace, "ProductionProbes", unread).await;
    seen.runs = typed::<ProbeRun>(cluster, namespace, "ProbeRuns", unread).await;
    seen
}

fn kept<T>(unread: &mut Vec<String>, what: &str, answer: Result<T>) -> Option<T> {
    answer.map_err(|error| unread.push(format!("{what}: {error}"))).ok()
}

async fn foreign<K: Resource<DynamicType = ()>>(
    cluster: &Cluster,
    namespace: &str,
    what: &str,
    unread: &mut Vec<String>,
) -> Option<Vec<Value>> {
    let api = Api::namespaced_with(cluster.client.clone(), namespace, &ApiResource::erase::<K>(&()));
    kept(unread, what, values(&api, "").await)
}

async fn typed<K>(cluster: &Cluster, namespace: &str, what: &str, unread: &mut Vec<String>) -> Vec<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    // One that cannot be decoded is told, and hides none of the others.
    let api: Api<DeserializeGuard<K>> = Api::namespaced(cluster.client.clone(), namespace);
    let all = kept(unread, what, within(what, api.list(&ListParams::default())).await).map(|l| l.items).unwrap_or_default();
    let readable = all.into_iter().filter_map(|object| {
        let why = |invalid: InvalidObject| {
            let name = invalid.metadata.name.unwrap_or_default();
            format!("{}/{name} in {namespace}: it cannot be decoded ({}); apply it again", K::kind(&()), invalid.error)
        };
        object.0.map_err(|invalid| unread.push(why(invalid))).ok()
    });
    readable.collect()
}
