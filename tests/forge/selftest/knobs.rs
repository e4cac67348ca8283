//! Faults, and the fake in the hands of a shell script.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    forge::{Fault, Wrong},
    support::{Stage, raw},
};

fn fault(prefix: &str, times: u32, wrong: Wrong) -> Fault {
    Fault { prefix: prefix.to_owned(), times, wrong }
}

#[tokio::test]
async fn the_next_calls_under_a_path_go_wrong_and_the_one_after_does_not() {
    let stage = Stage::new();
    let token = stage.token().await;
    stage.hub.fault(fault("/repos/acme", 2, Wrong::Status(502)));
    stage.hub.fault(fault("/repos", 1, Wrong::Status(429)));
    stage.hub.fault(fault("/repos", 1, Wrong::Secondary(Some(7))));
    assert_eq!(stage.query(&token, "{ rateLimit { cost } }", json!({})).await["data"]["rateLimit"]["cost"], 1);
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(stage.get("/repos/acme/checkout", &token).await);
    }
    assert_eq!(seen.iter().map(|answer| answer.status).collect::<Vec<_>>(), [502, 502, 429, 403, 200]);
    assert!(seen[3].header("retry-after") == "7" && seen[3].text().contains("secondary rate limit"));
}

#[tokio::test]
async fn a_body_ends_in_the_middle_or_says_nonsense() {
    let stage = Stage::new();
    let token = stage.token().await;
    stage.hub.fault(fault("/repos", 1, Wrong::Truncated));
    assert!(stage.try_call("GET", "/repos/acme/checkout", &token, &[], "").await.is_err());
    stage.hub.fault(fault("/repos", 1, Wrong::Types));
    let seen = stage.get("/repos/acme/checkout", &token).await.json();
    assert_eq!((&seen["id"], &seen["private"]), (&json!(stage.repo.id().to_string()), &json!("true")));
    assert!(seen["full_name"].is_number());
    stage.hub.fault(fault("/graphql", 1, Wrong::Null("repository".to_owned())));
    let query = "{ repository(owner: \"acme\", name: \"checkout\") { nameWithOwner } }";
    assert_eq!(stage.query(&token, query, json!({})).await["data"], json!({"repository": null}));
    stage.hub.fault(fault("/graphql", 1, Wrong::Replaced("acme/".to_owned(), "evil/".to_owned())));
    assert_eq!(stage.query(&token, query, json!({})).await["data"]["repository"]["nameWithOwner"], "evil/checkout");
}

#[tokio::test]
async fn what_was_done_is_done_though_the_answer_never_came() {
    let stage = Stage::new();
    let path = format!("/app/installations/{}/access_tokens", stage.installation);
    stage.hub.fault(fault("/app", 1, Wrong::Lost));
    let jwt = stage.jwt(300);
    let waited = async {
        // The request is remembered when it was done; only then is it given up.
        while !stage.hub.seen().iter().any(|seen| seen.path == path && seen.status == 201) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = stage.call("POST", &path, &jwt, &[], "") => panic!("answered: {answer:?}"),
        done = tokio::time::timeout(Duration::from_secs(30), waited) => done.unwrap(),
    }
}

async fn admin(stage: &Stage, path: &str, body: Value) -> Value {
    let answer = raw(stage.hub.url(), "POST", &format!("/_fake/{path}"), &[], &body.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

#[tokio::test]
async fn a_script_can_do_what_a_test_can() {
    let stage = Stage::new();
    let about = json!({"repository": "acme/shop"});
    let with = |more: Value| {
        let mut all = about.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let made = admin(&stage, "repositories", json!({"name": "acme/shop", "workflows": ["ci"]})).await;
    assert_eq!(made["clone_url"], json!(format!("{}/acme/shop.git", stage.hub.url())));
    let first = admin(&stage, "commits", with(json!({"message": "first", "files": {"a": "b"}}))).await["sha"].clone();
    admin(&stage, "commits", with(json!({"message": "cheaper", "branch": "one"}))).await;
    let number = admin(&stage, "pulls", with(json!({"branch": "one", "title": "cheaper"}))).await["number"].clone();
    let head = admin(&stage, "merges", with(json!({"number": number, "method": "squash"}))).await["sha"].clone();
    admin(
        &stage,
        "suites",
        with(json!({"commit": "main", "workflow": "ci", "event": "push", "status": "completed", "conclusion": "success", "runs": 2})),
    )
    .await;
    admin(&stage, "statuses", with(json!({"commit": head, "context": "ci/other", "state": "success"}))).await;
    let token = stage.token().await;
    let query = "{ repository(owner: \"acme\", name: \"shop\") { defaultBranchRef { target { oid ... on Commit {
      statusCheckRollup { state } checkSuites(first: 5) { totalCount } parents(first: 1) { nodes { oid } } } } } } }";
    let target = stage.query(&token, query, json!({})).await["data"]["repository"]["defaultBranchRef"]["target"].clone();
    let parents = json!({"nodes": [{"oid": first}]});
    assert_eq!(
        target,
        json!({"oid": head, "statusCheckRollup": {"state": "SUCCESS"}, "checkSuites": {"totalCount": 1}, "parents": parents})
    );
    let revert = admin(&stage, "reverts", with(json!({"commit": head}))).await["sha"].clone();
    admin(&stage, "force-pushes", with(json!({"branch": "main", "commit": first}))).await;
    let seen = stage.get(&format!("/repos/acme/shop/compare/{}...main", revert.as_str().unwrap()), &token).await.json();
    assert_eq!((&seen["status"], &seen["behind_by"]), (&json!("behind"), &json!(2)));
    admin(&stage, "faults", json!({"prefix": "/repos", "wrong": {"status": 500}})).await;
    assert_eq!(stage.get("/repos/acme/shop", &token).await.status, 500);
    admin(&stage, "faults", json!({"prefix": "/repos", "wrong": "truncated"})).await;
    assert!(stage.try_call("GET", "/repos/acme/shop", &token, &[], "").await.is_err());
    let meter = raw(stage.hub.url(), "GET", "/_fake/meter", &[], "").await.unwrap().json();
    let caller = &meter["callers"][format!("installation {}", stage.installation)];
    assert_eq!((&caller["graphql"], caller["rest"].as_u64()), (&json!(1), Some(stage.hub.meter(stage.installation).rest)));
    let wrong = raw(stage.hub.url(), "POST", "/_fake/commits", &[], r#"{"repository": "acme/nothing", "message": "x"}"#).await.unwrap();
    assert_eq!((wrong.status, wrong.json()["message"].clone()), (422, json!("there is no acme/nothing")));
}
