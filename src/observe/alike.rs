//! What selects the pods that serve and would leave out those of a canary, or the other way round.
//!
//! A canary without the way to its database fails, and one that has a way of its own proves nothing. Looked at before a pod starts.
//! A policy of another namespace that names these pods is not seen.

use std::collections::BTreeMap;

use futures::try_join;
use k8s_openapi::{
    api::{
        networking::v1::{NetworkPolicy, NetworkPolicyPeer},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Api, ResourceExt as _,
    core::{Selector, SelectorExt as _},
};

use super::{problems::labels, workloads::Found};
use crate::{
    api::{DELIVERY_LABEL, POD_TEMPLATE_HASH, TRACK_CANARY, TRACK_LABEL, WORKLOAD_LABEL},
    edge::kube::{Cluster, KubeError},
    model::world::Workload,
};

/// The label by which Kubernetes tells a namespace's name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// No `ReplicaSet` is named so: the name of the canary's is not known before it is there.
const UNKNOWN: &str = "-";

type Labels = BTreeMap<String, String>;

/// What selects pods in a namespace: the object and the field, and the selector.
type Selecting = (String, Selector);

/// What would treat the canary of a workload otherwise than the pods that serve; of those that are there, in their order.
pub(super) async fn read(cluster: &Cluster, namespace: &str, delivery: &str, found: &[Found]) -> Result<Vec<Option<String>>, KubeError> {
    let (policies, budgets) = (Api::namespaced(cluster.client.clone(), namespace), Api::namespaced(cluster.client.clone(), namespace));
    let read = try_join!(cluster.list(&policies, "networkpolicies", ""), cluster.list(&budgets, "poddisruptionbudgets", ""));
    let (policies, budgets): (Vec<NetworkPolicy>, Vec<PodDisruptionBudget>) = match read {
        // Whoever runs us may not let us read these.
        Err(KubeError::Refused { .. }) => (Vec::new(), Vec::new()),
        read => read?,
    };
    let all: Vec<Selecting> =
        policies.iter().flat_map(|policy| of_policy(policy, namespace)).chain(budgets.iter().filter_map(of_budget)).collect();
    let of = |found: &Found, workload: &Workload| differs(&all, &serving(workload)?, &to_come(delivery, workload, found.canary.as_ref()));
    Ok(found.iter().filter_map(|found| Some(of(found, found.workload.as_ref()?))).collect())
}

fn of_policy<'a>(policy: &'a NetworkPolicy, namespace: &'a str) -> impl Iterator<Item = Selecting> + 'a {
    let spec = policy.spec.iter();
    let object = move |field: &str| format!("{field} of NetworkPolicy {}", policy.name_any());
    let own = spec.clone().map(move |s| (object("spec.podSelector"), s.pod_selector.clone().unwrap_or_default()));
    let from = spec.clone().flat_map(|s| s.ingress.iter().flatten()).flat_map(|rule| rule.from.iter().flatten());
    let to = spec.flat_map(|s| s.egress.iter().flatten()).flat_map(|rule| rule.to.iter().flatten());
    let peers = move |peers, field| peer_selectors(peers, namespace).map(move |selector| (object(field), selector));
    own.chain(peers(from.collect(), "spec.ingress")).chain(peers(to.collect(), "spec.egress")).filter_map(parsed)
}

/// Of these peers those that can be pods of this namespace.
fn peer_selectors<'a>(peers: Vec<&'a NetworkPolicyPeer>, namespace: &str) -> impl Iterator<Item = LabelSelector> + use<'a> {
    let here = Labels::from([(NAMESPACE_NAME.to_owned(), namespace.to_owned())]);
    let reaches = move |peer: &&NetworkPolicyPeer| {
        let namespaces = peer.namespace_selector.clone().map(Selector::try_from);
        namespaces.is_none_or(|selector| selector.is_ok_and(|selector| selector.matches(&here)))
    };
    peers.into_iter().filter(reaches).filter_map(|peer| peer.pod_selector.clone())
}

fn of_budget(budget: &PodDisruptionBudget) -> Option<Selecting> {
    let selector = budget.spec.as_ref()?.selector.clone()?;
    parsed((format!("spec.selector of PodDisruptionBudget {}", budget.name_any()), selector))
}

/// The API server takes none that does not parse.
fn parsed((field, selector): (String, LabelSelector)) -> Option<Selecting> {
    Some((field, Selector::try_from(selector).ok()?))
}

/// The labels of the pods that serve; none: there are none.
fn serving(workload: &Workload) -> Option<Labels> {
    let sets = workload.replica_sets.iter().rev();
    sets.clone().find(|set| set.available > 0).or_else(|| sets.clone().find(|set| set.wanted > 0)).map(|set| labels(&set.raw))
}

/// The labels of a canary's pods, those of the one that is there before those that it would have.
fn to_come(delivery: &str, workload: &Workload, canary: Option<&Labels>) -> Labels {
    let own =
        [(DELIVERY_LABEL, delivery), (WORKLOAD_LABEL, workload.name.as_str()), (TRACK_LABEL, TRACK_CANARY), (POD_TEMPLATE_HASH, UNKNOWN)];
    let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
    canary.cloned().unwrap_or_else(|| labels(&workload.template)).into_iter().chain(own).collect()
}

/// The first of these that fits one of the two alone, in words.
fn differs(all: &[Selecting], serve: &Labels, to_come: &Labels) -> Option<String> {
    let (field, selector) = all.iter().find(|(_, selector)| selector.matches(serve) != selector.matches(to_come))?;
    let (fits, not) =
        if selector.matches(serve) { ("the pods that serve", "the canary's") } else { ("the canary's pods", "those that serve") };
    Some(format!("{field} ({selector}) fits {fits} and not {not}"))
}

#[cfg(test)]
mod tests;
