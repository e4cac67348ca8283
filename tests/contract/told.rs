//! What the model tells by webhook is what GitHub tells: its headers, its fields, their types.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    forge::{Checks, Method, faults::wrong_types, hooks::Delivery, hooks::EVENTS},
    names::undeclared,
    parts::Description,
    prism::Prism,
    support::{Stage, raw},
};

/// As the description names an event.
fn name(delivery: &Delivery) -> String {
    let named = [Some(delivery.event.as_str()), delivery.action.as_deref()];
    named.into_iter().flatten().collect::<Vec<_>>().join("-").replace('_', "-")
}

/// Whatever there is to tell.
async fn told() -> Vec<Delivery> {
    let stage = Stage::new();
    stage.hub.webhook("http://127.0.0.1:1/github", "s3cret");
    stage.hub.user("ada@acme.test", "ada");
    let repo = &stage.repo;
    let first = repo.commit("main", "The beginning");
    repo.merge(repo.change("a", "One"), Method::Merge);
    let two = repo.merge(repo.change("b", "Two"), Method::Squash);
    repo.force_push("main", &first);
    repo.delete_branch("a");
    for checks in [Checks::actions("ci"), Checks::actions("ci").running(2), Checks::actions("ci").done("failure")] {
        repo.checks(&two, checks);
    }
    repo.checks(&two, Checks::of("scanner"));
    repo.checks(&two, Checks::of("scanner").done("success"));
    for state in ["pending", "success"] {
        repo.status(&two, "ci/other", state);
    }
    repo.package("checkout", "sha-1");
    stage.hub.hooks_settle().await;
    stage.hub.deliveries()
}

async fn asked(prism: &Prism, delivery: &Delivery, body: &str) -> (u16, Value) {
    let headers: Vec<(&str, &str)> = delivery.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let answer = raw(&prism.url, "POST", &format!("/{}", name(delivery)), &headers, body).await.unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

#[tokio::test]
async fn every_event_of_the_model_is_as_github_describes_it() {
    let description = Description::webhooks(&EVENTS.map(|event| &*event.replace('_', "-").leak()));
    let (prism, told) = (Prism::alone(&description), told().await);
    let (mut wrong, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    for delivery in &told {
        let kind = name(delivery);
        let (status, said) = asked(&prism, delivery, std::str::from_utf8(&delivery.payload).unwrap()).await;
        if status != 200 {
            let words = said["validation"].as_array().cloned().unwrap_or_else(|| vec![said.clone()]);
            wrong.extend(words.iter().map(|word| format!("{kind}: {} {}", word["location"], word["message"])));
        }
        let payload: Value = serde_json::from_slice(&delivery.payload).unwrap();
        let schema = &description.document["paths"][format!("/{kind}")]["post"]["requestBody"]["content"]["application/json"]["schema"];
        wrong.extend(undeclared(&description, schema, &payload).into_iter().map(|at| format!("{kind}: GitHub has no {at}")));
        // The validator takes a schema that it does not understand for one that fits everything.
        let other = wrong_types(payload).to_string();
        assert_eq!(asked(&prism, delivery, &other).await.0, 422, "{kind} with other types");
        kinds.insert(kind);
    }
    assert!(
        wrong.is_empty(),
        "{} things are not as GitHub describes them:\n{}",
        wrong.len(),
        wrong.into_iter().collect::<Vec<_>>().join("\n")
    );
    let all = [
        "check-suite-completed",
        "check-suite-requested",
        "package-published",
        "push",
        "registry-package-published",
        "status",
        "workflow-run-completed",
        "workflow-run-in-progress",
        "workflow-run-requested",
    ];
    assert_eq!(kinds, all.map(str::to_owned).into());
}
