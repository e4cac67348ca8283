//! Says on each `DeliveryPolicy` whether it can be followed, also where no Delivery goes by it yet: whoever writes one looks there first.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::join_all};
use kube::{
    Api, Client, ResourceExt as _,
    api::DynamicObject,
    runtime::{Controller, controller::Action, watcher},
};
use serde_json::Value;

use super::{controller::Scope, lease::LeaderProof};
use crate::{
    act::{ActError, Actor},
    api::policy::{DeliveryPolicy, DeliveryPolicySpec},
    model::policy::Policy,
};

/// After a write that failed.
const AGAIN: Duration = Duration::from_secs(10);
/// As for the other watches: shorter than proxies cut one off.
const WATCH_TIMEOUT_S: u32 = 290;
/// Policies are few, and rarely change.
const CONCURRENCY: u16 = 1;

struct Desk {
    actor: Actor,
    proof: LeaderProof,
}

/// Where policies are: in what is looked after, and in Haldane's own namespace.
pub(super) fn scopes(looked_after: impl Iterator<Item = Scope>, home: &str) -> Vec<Scope> {
    let mut scopes: Vec<Scope> = looked_after.collect();
    let home = Scope::Namespace(home.to_owned());
    if !scopes.contains(&Scope::Cluster) && !scopes.contains(&home) {
        scopes.push(home);
    }
    scopes
}

/// Tells for as long as it is polled: while we lead by this proof.
pub(super) async fn keep_telling(client: Client, actor: Actor, scopes: Vec<Scope>, proof: LeaderProof) -> Infallible {
    let desk = Arc::new(Desk { actor, proof });
    let loops = scopes.iter().map(|scope| {
        let api: Api<DynamicObject> = scope.dynamic::<DeliveryPolicy>(&client);
        let kind = kube::core::ApiResource::erase::<DeliveryPolicy>(&());
        let config = watcher::Config::default().timeout(WATCH_TIMEOUT_S);
        Controller::new_with(api, config, kind)
            .with_config(kube::runtime::controller::Config::default().concurrency(CONCURRENCY))
            .run(tell, failed, desk.clone())
            .for_each(|_| std::future::ready(()))
    });
    join_all(loops).await;
    // A scope whose watch ended: the lead's end takes the rest down.
    std::future::pending().await
}

async fn tell(policy: Arc<DynamicObject>, desk: Arc<Desk>) -> Result<Action, ActError> {
    let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
    let generation = policy.metadata.generation.unwrap_or_default();
    let problem = problem(policy.data.get("spec").unwrap_or(&Value::Null));
    desk.actor.tell_policy(&desk.proof, (&namespace, &name), generation, problem.as_deref(), policy.data.get("status")).await?;
    Ok(Action::await_change())
}

#[expect(clippy::needless_pass_by_value, reason = "as kube calls it")]
fn failed(policy: Arc<DynamicObject>, error: &ActError, _: Arc<Desk>) -> Action {
    tracing::info!(policy = policy.name_any(), error = error as &dyn std::error::Error, "a policy could not be told how it is; again soon");
    Action::requeue(AGAIN)
}

/// Why it cannot be followed.
fn problem(spec: &Value) -> Option<String> {
    match serde_json::from_value::<DeliveryPolicySpec>(spec.clone()) {
        Ok(spec) => Policy::read(String::new(), &spec).err().map(|wrong| wrong.to_string()),
        Err(wrong) => Some(format!("it cannot be decoded ({wrong})")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_policy_of_all_is_told_also_where_few_namespaces_are_looked_after() {
        let of = |names: &[&str]| scopes(Scope::all(&names.iter().map(ToString::to_string).collect::<Vec<_>>()).into_iter(), "home");
        let named = |name: &str| Scope::Namespace(name.to_owned());
        assert_eq!(of(&[]), [Scope::Cluster]);
        assert_eq!(of(&["shop"]), [named("shop"), named("home")]);
        assert_eq!(of(&["home"]), [named("home")]);
    }

    #[test]
    fn what_cannot_be_followed_is_said_and_what_can_is_not() {
        assert_eq!(problem(&json!({})), None);
        assert_eq!(problem(&json!({"caps": {"rollouts": 2}})), None);
        let zone = json!({"windows": [{"days": ["Mon"], "from": "09:00", "to": "10:00", "timeZone": "Europe/Atlantis"}]});
        assert!(problem(&zone).is_some_and(|said| said.contains("Europe/Atlantis is no time zone")));
        assert!(problem(&json!({"caps": {"rollouts": "two"}})).is_some_and(|said| said.contains("cannot be decoded")));
    }
}
