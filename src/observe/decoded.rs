//! Objects of our kinds, and those among them that do not fit our types: one of another version's, or a damaged one, is no
//! reason to stop every app of its namespace.

use kube::{
    Api, Resource,
    core::{ApiResource, DynamicObject},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::edge::kube::{Cluster, KubeError};

/// What was listed of one kind.
#[derive(Debug)]
pub(super) struct Decoded<K> {
    /// Those that fit.
    pub(super) all: Vec<K>,
    /// Those that do not.
    pub(super) damaged: Vec<Damaged>,
}

/// An object that does not fit its type.
#[derive(Clone, Debug)]
pub(super) struct Damaged {
    object: DynamicObject,
    said: String,
}

/// Those of a namespace with these labels. `leaving`: the Delivery goes, and with it perhaps the definitions of our kinds; then
/// a kind that is gone has no objects.
pub(super) async fn read<K>(cluster: &Cluster, namespace: &str, labels: &str, leaving: bool) -> Result<Decoded<K>, KubeError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let kind = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), namespace, &kind);
    match cluster.list(&api, &kind.plural, labels).await {
        Err(KubeError::Absent { .. }) if leaving => Ok(Decoded { all: Vec::new(), damaged: Vec::new() }),
        listed => listed.map(decoded),
    }
}

pub(super) fn decoded<K: DeserializeOwned + Resource>(objects: Vec<DynamicObject>) -> Decoded<K> {
    let (mut all, mut damaged) = (Vec::new(), Vec::new());
    for object in objects {
        match object.clone().try_parse() {
            Ok(decoded) => all.push(decoded),
            Err(error) => damaged.push(Damaged { object, said: error.to_string() }),
        }
    }
    Decoded { all, damaged }
}

impl Damaged {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    /// A text in it, where there is one.
    pub(super) fn text(&self, pointer: &str) -> Option<&str> {
        self.at(pointer)?.as_str()
    }

    /// What is there, if anything is.
    pub(super) fn at(&self, pointer: &str) -> Option<&Value> {
        self.object.data.pointer(pointer).filter(|value| !value.is_null())
    }

    /// It is on its way out.
    pub(super) fn ending(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// What is wrong with it, in a sentence's first half.
    pub(super) fn says(&self, kind: &str) -> String {
        format!("{kind} {} cannot be decoded ({})", self.name(), self.said)
    }
}
