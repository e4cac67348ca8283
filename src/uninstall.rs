//! What comes before an uninstallation: every Delivery is deleted, and the controller, which is still there, opens every
//! gate. Nothing else is deleted; the Deliveries' YAML is in their owners' Git.

use std::{collections::BTreeMap, time::Duration};

use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams},
};
use tokio::time::{sleep, timeout};

use crate::api::delivery::Delivery;

/// For one call.
const CALL: Duration = Duration::from_secs(10);
/// Gates take seconds to minutes; one list a second is nothing beside that.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How many Deliveries an error names.
const NAMED: usize = 20;

/// Why Haldane cannot be uninstalled yet.
#[derive(Debug, thiserror::Error)]
pub enum UninstallError {
    /// No right to do it.
    #[error("the API server refuses to {what}; it takes the verbs list and delete on deliveries.haldane.dev: {source}")]
    Refused {
        /// The call.
        what: String,
        /// What the API server said.
        source: Box<kube::Error>,
    },
    /// Some are still there.
    #[error(
        "after {limit:?} there are still Deliveries: {}. Is the controller running (kubectl -n haldane-system get pods)? Does a GitOps \
         sync make them anew? Why each waits: kubectl get dlv -A -o wide{}", few(left),
        trouble.as_ref().map(|said| format!(". The last call failed: {said}")).unwrap_or_default()
    )]
    Left {
        /// `namespace/name`.
        left: Vec<String>,
        /// How long was waited.
        limit: Duration,
        /// What the last call that failed was told, when it was the last one.
        trouble: Option<String>,
    },
}

fn few(left: &[String]) -> String {
    let named = left.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match left.len().saturating_sub(NAMED) {
        0 if left.is_empty() => "which ones is not known".to_owned(),
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Deletes all Deliveries (in these namespaces; none named: in all), waits until they are gone, and returns how many there
/// were. `say` gets a line for each of them. One that is made anew meanwhile is deleted, too.
///
/// # Errors
/// When it is not allowed, or when some are left after `limit`.
pub async fn ungate_all(client: Client, namespaces: &[String], limit: Duration, say: impl FnMut(&str)) -> Result<usize, UninstallError> {
    let mut work = Work { client, known: BTreeMap::new(), trouble: None, say };
    match timeout(limit, work.until_gone(namespaces)).await {
        Ok(Ok(())) => Ok(work.known.len()),
        Ok(Err(refused)) => Err(refused),
        Err(_) => {
            let left = work.known.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
            Err(UninstallError::Left { left, limit, trouble: work.trouble })
        }
    }
}

struct Work<S> {
    client: Client,
    /// By `namespace/name`: whether it was there when we last looked.
    known: BTreeMap<String, bool>,
    trouble: Option<String>,
    say: S,
}

impl<S: FnMut(&str)> Work<S> {
    async fn until_gone(&mut self, namespaces: &[String]) -> Result<(), UninstallError> {
        loop {
            match self.look(namespaces).await {
                Ok(true) => return Ok(()),
                Ok(false) => self.trouble = None,
                Err(Failed { what, why: Why::Said(error) }) if is_refusal(&error) => {
                    return Err(UninstallError::Refused { what, source: error });
                }
                // The API server has its bad moments; the limit is the limit for those, too.
                Err(Failed { what, why }) => self.trouble = Some(format!("{what}: {why}")),
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Deletes what is there and not on its way out; whether nothing was.
    async fn look(&mut self, namespaces: &[String]) -> Result<bool, Failed> {
        let found = self.list(namespaces).await?;
        self.tell_gone(&found);
        for delivery in &found {
            let key = key(delivery);
            if delivery.metadata.deletion_timestamp.is_none() {
                self.delete(delivery).await?;
                (self.say)(&format!("{key}: deleted; its Deployments go back to their owner"));
            }
            self.known.insert(key, true);
        }
        Ok(found.is_empty())
    }

    fn tell_gone(&mut self, found: &[DynamicObject]) {
        for (name, there) in self.known.iter_mut().filter(|(_, there)| **there) {
            if !found.iter().any(|delivery| key(delivery) == *name) {
                *there = false;
                (self.say)(&format!("{name}: gone"));
            }
        }
    }

    async fn list(&self, namespaces: &[String]) -> Result<Vec<DynamicObject>, Failed> {
        let kind = ApiResource::erase::<Delivery>(&());
        let apis: Vec<Api<DynamicObject>> = match namespaces {
            [] => vec![Api::all_with(self.client.clone(), &kind)],
            named => named.iter().map(|namespace| Api::namespaced_with(self.client.clone(), namespace, &kind)).collect(),
        };
        let mut found = Vec::new();
        for api in apis {
            // Without the definition there are no Deliveries.
            found.extend(call("list Deliveries", api.list(&ListParams::default())).await?.into_iter().flat_map(|list| list.items));
        }
        Ok(found)
    }

    async fn delete(&self, delivery: &DynamicObject) -> Result<(), Failed> {
        let kind = ApiResource::erase::<Delivery>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &delivery.namespace().unwrap_or_default(), &kind);
        let what = format!("delete Delivery {}", key(delivery));
        call(&what, api.delete(&delivery.name_any(), &DeleteParams::default())).await.map(|_| ())
    }
}

fn key(delivery: &DynamicObject) -> String {
    format!("{}/{}", delivery.namespace().unwrap_or_default(), delivery.name_any())
}

/// A call that did not succeed.
struct Failed {
    what: String,
    why: Why,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error(transparent)]
    Said(Box<kube::Error>),
    #[error("no answer within {CALL:?}")]
    Silence,
}

fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 401 || status.code == 403)
}

/// One call within its limit. None: there is no such thing.
async fn call<T>(what: &str, made: impl Future<Output = kube::Result<T>>) -> Result<Option<T>, Failed> {
    let why = match timeout(CALL, made).await {
        Ok(Ok(value)) => return Ok(Some(value)),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(None),
        Ok(Err(error)) => Why::Said(Box::new(error)),
        Err(_) => Why::Silence,
    };
    Err(Failed { what: what.to_owned(), why })
}
