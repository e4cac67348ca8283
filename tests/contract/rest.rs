//! Every call of REST that our client makes is one that GitHub describes, and every answer of the model is one that GitHub gives.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    middle::Heard,
    names::undeclared,
    source,
    walk::{BESIDES, OURS, Walk, walk},
};

/// What GitHub calls the operation of a call.
fn operation<'a>(walk: &'a Walk, heard: &Heard) -> &'a Value {
    walk.description.operation(&heard.method, &heard.path).unwrap_or_else(|| panic!("GitHub has no such call: {}", heard.line()))
}

fn of_rest(heard: &[Heard]) -> impl Iterator<Item = &Heard> {
    heard.iter().filter(|heard| heard.path != "/graphql")
}

/// Names in the call and in the answer that the description does not have.
fn unknown_names(walk: &Walk, heard: &Heard) -> Vec<String> {
    let (description, operation) = (&walk.description, operation(walk, heard));
    let parameters: Vec<&Value> = operation["parameters"].as_array().into_iter().flatten().map(|entry| description.follow(entry)).collect();
    let is = |name: &str| parameters.iter().any(|parameter| parameter["in"] == "query" && parameter["name"] == name);
    let mut found: Vec<String> = heard.query.iter().filter(|(name, _)| !is(name)).map(|(name, _)| format!("?{name}")).collect();
    let schema = |of: &Value, media: &str| description.follow(of)["content"].get(media).map(|content| content["schema"].clone());
    let json = |body: &[u8]| serde_json::from_slice::<Value>(body).ok();
    match (json(&heard.asked), schema(&operation["requestBody"], "application/json")) {
        (Some(asked), Some(schema)) => found.extend(undeclared(description, &schema, &asked).into_iter().map(|at| format!("asked{at}"))),
        _ if heard.asked.is_empty() => {}
        _ => found.push("asked: a body where none is described, or none of JSON".to_owned()),
    }
    if let (Some(answer), Some(schema)) = (json(&heard.answer), schema(&operation["responses"][heard.status.to_string()], heard.media())) {
        found.extend(undeclared(description, &schema, &answer).into_iter().map(|at| format!("answered{at}")));
    }
    found
}

#[tokio::test]
async fn what_we_ask_and_what_the_model_answers_is_what_github_describes() {
    let walk = walk().await;
    let mut wrong = BTreeSet::new();
    for heard in of_rest(&walk.ours).chain(of_rest(&walk.besides)) {
        let words = heard.wrong.iter().cloned().chain(unknown_names(walk, heard));
        let called = operation(walk, heard)["operationId"].as_str().unwrap_or_default();
        wrong.extend(words.map(|word| format!("{called} {}: {word}", heard.status)));
    }
    assert!(
        wrong.is_empty(),
        "{} things are not as GitHub describes them:\n{}",
        wrong.len(),
        wrong.into_iter().collect::<Vec<_>>().join("\n")
    );
}

/// The validator takes a schema that it does not understand for one that fits everything. So each is seen to refuse something.
#[tokio::test]
async fn the_same_answers_with_other_types_are_refused() {
    let walk = walk().await;
    assert!(!walk.spoilt.is_empty());
    let unseen: Vec<String> = walk.spoilt.iter().filter(|heard| heard.wrong.is_empty()).map(Heard::line).collect();
    assert_eq!(unseen, Vec::<String>::new());
}

/// Each of these is wrong by one thing.
#[tokio::test]
async fn a_call_that_github_does_not_describe_is_found() {
    let walk = walk().await;
    assert_eq!(walk.askew.len(), 12);
    for heard in &walk.askew {
        let names = walk.description.operation(&heard.method, &heard.path).map(|_| unknown_names(walk, heard)).unwrap_or_default();
        assert!(
            heard.wrong.iter().chain(&names).any(|word| word.contains("request") || word.starts_with(['?']) || word.starts_with("asked")),
            "{heard:?}"
        );
    }
}

#[tokio::test]
async fn every_call_of_the_client_was_made_and_answered() {
    let mut known: Vec<&str> = OURS.iter().map(|(file, _)| *file).collect();
    known.sort_unstable();
    assert_eq!(source::calls(), known, "src/edge/github makes other calls than those of OURS in walk.rs: add what is new, and walk it");
    let walk = walk().await;
    let answered = |heard: &'static [Heard]| -> BTreeSet<&str> {
        of_rest(heard).filter(|heard| heard.status < 300).filter_map(|heard| operation(walk, heard)["operationId"].as_str()).collect()
    };
    assert_eq!(answered(&walk.ours), OURS.iter().map(|(_, operation)| *operation).collect());
    assert_eq!(BESIDES.iter().filter(|operation| !answered(&walk.besides).contains(*operation)).count(), 0, "of what the model has");
}

/// What of the description was seen, for the reader; the model answers with no other status to what our client asks.
const SEEN: [&str; 19] = [
    "apps/create-from-manifest 201",
    "apps/create-from-manifest 404",
    "apps/create-installation-access-token 201",
    "apps/create-installation-access-token 403",
    "apps/create-installation-access-token 422",
    "apps/get-repo-installation 200",
    "apps/get-repo-installation 301",
    "apps/get-repo-installation 401",
    "apps/get-repo-installation 403",
    "apps/get-repo-installation 404",
    "apps/list-webhook-deliveries 200",
    "apps/redeliver-webhook-delivery 202",
    "repos/compare-commits-with-basehead 200",
    "repos/compare-commits-with-basehead 404",
    "repos/get-content 200",
    "repos/get-content 301",
    "repos/get-content 401",
    "repos/get-content 403",
    "repos/get-content 404",
];

#[tokio::test]
async fn refusals_are_among_what_is_held_against_the_description() {
    let walk = walk().await;
    let named = |heard: &Heard| format!("{} {}", operation(walk, heard)["operationId"].as_str().unwrap_or_default(), heard.status);
    let seen: BTreeSet<String> = of_rest(&walk.ours).map(named).collect();
    assert_eq!(seen, SEEN.map(str::to_owned).into());
    assert!(walk.ours.iter().any(|heard| heard.query.iter().any(|(name, _)| name == "cursor")), "no list was longer than its page");
}
