//! Worlds for the tests of this room.

use serde_json::Value;

use crate::model::{
    template,
    version::{PodHash, WorkloadName},
    world::{ReplicaSet, Workload},
};

/// A workload `shop` of that template with two replicas.
pub(super) fn workload(template: &Value) -> Workload {
    Workload {
        name: WorkloadName::new("shop"),
        uid: "stable".to_owned(),
        resource_version: "1".to_owned(),
        paused: true,
        gate_marked: true,
        put_back: None,
        replicas: 2,
        max_unavailable: 0,
        observed: true,
        stuck: false,
        template: template.clone(),
        replica_sets: Vec::new(),
        pods: Vec::new(),
        canary: None,
        last_writer: None,
        owns_fields: false,
    }
}

/// A `ReplicaSet` of that template with two pods.
pub(super) fn replica_set(hash: &str, template: &Value) -> ReplicaSet {
    ReplicaSet { template: template::hash(template), pod_hash: PodHash::new(hash), wanted: 2, pods: 2, available: 2, raw: template.clone() }
}
