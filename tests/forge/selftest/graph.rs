//! GraphQL: what fits the schema is answered field by field, what does not is an error.

use serde_json::{Value, json};

use crate::{forge::Checks, support::Stage};

const CHECKS: &str = "query($oid: GitObjectID!) { repository(owner: \"acme\", name: \"checkout\") { object(oid: $oid) { ...Checks } } }
fragment Checks on Commit {
  checkSuites(first: 50) {
    nodes { app { slug databaseId } status conclusion createdAt workflowRun { event workflow { name } } checkRuns(first: 1) { totalCount } }
    pageInfo { hasNextPage endCursor }
  }
  status { contexts { context state } }
  statusCheckRollup { state }
}";

async fn checks(stage: &Stage, token: &str, oid: &str) -> Value {
    stage.query(token, CHECKS, json!({"oid": oid})).await["data"]["repository"]["object"].clone()
}

#[tokio::test]
async fn checks_and_statuses_are_those_of_the_commit_and_the_latest() {
    let stage = Stage::new();
    let (first, second) = (stage.repo.commit("main", "first"), stage.repo.commit("main", "second"));
    let token = stage.token().await;
    let none = json!({"checkSuites": {"nodes": [], "pageInfo": {"hasNextPage": false, "endCursor": null}}, "status": null, "statusCheckRollup": null});
    assert_eq!(checks(&stage, &token, &first).await, none);
    stage.repo.checks(&first, Checks::of("idle-app"));
    assert_eq!(checks(&stage, &token, &first).await["statusCheckRollup"], json!(null), "a suite without a run says nothing");
    stage.repo.checks(&first, Checks::actions("ci").running(3));
    stage.repo.status(&first, "ci/other", "pending");
    stage.repo.status(&first, "ci/other", "success");
    let seen = checks(&stage, &token, &first).await;
    assert_eq!(seen["status"]["contexts"], json!([{"context": "ci/other", "state": "SUCCESS"}]));
    assert_eq!(seen["statusCheckRollup"]["state"], "PENDING");
    let suites = &seen["checkSuites"]["nodes"];
    assert_eq!(
        (&suites[0]["app"]["slug"], &suites[0]["status"], &suites[0]["workflowRun"]),
        (&json!("idle-app"), &json!("QUEUED"), &json!(null))
    );
    assert_eq!(
        suites[1],
        json!({"app": {"slug": "github-actions", "databaseId": 15368}, "status": "IN_PROGRESS", "conclusion": null,
            "createdAt": "2026-01-05T09:00:00Z", "workflowRun": {"event": "push", "workflow": {"name": "ci"}}, "checkRuns": {"totalCount": 3}})
    );
    stage.repo.checks(&first, Checks::actions("ci").done("failure"));
    stage.repo.checks(&first, Checks::actions("ci").event("merge_group").done("success"));
    let seen = checks(&stage, &token, &first).await;
    assert_eq!((seen["checkSuites"]["nodes"].as_array().unwrap().len(), &seen["statusCheckRollup"]["state"]), (3, &json!("FAILURE")));
    assert_eq!(checks(&stage, &token, &second).await, none);
}

#[tokio::test]
async fn one_name_that_is_wrong_leaves_the_others_their_data() {
    let stage = Stage::new();
    let head = stage.repo.commit("main", "first");
    stage.hub.repository("other/secret");
    let token = stage.token().await;
    let query = "query Heads {
      a: repository(owner: \"acme\", name: \"nothing\") { ...head }
      b: repository(owner: \"acme\", name: \"checkout\") { ...head branch: ref(qualifiedName: \"refs/heads/nothing\") { name } }
      c: repository(owner: \"other\", name: \"secret\") { ...head }
    }
    fragment head on Repository { __typename ref(qualifiedName: \"main\") { name prefix target { __typename oid } } }";
    let answer = stage.query(&token, query, json!({})).await;
    let target = json!({"__typename": "Commit", "oid": head});
    let reference = json!({"name": "main", "prefix": "refs/heads/", "target": target});
    assert_eq!(answer["data"], json!({"a": null, "b": {"__typename": "Repository", "ref": reference, "branch": null}, "c": null}));
    let errors = answer["errors"].as_array().unwrap();
    let said = |at: usize| (errors[at]["type"].clone(), errors[at]["path"].clone(), errors[at]["message"].clone());
    let message = |name: &str| json!(format!("Could not resolve to a Repository with the name '{name}'."));
    assert_eq!(said(0), (json!("NOT_FOUND"), json!(["a"]), message("acme/nothing")));
    assert_eq!(said(1), (json!("NOT_FOUND"), json!(["c"]), message("other/secret")));
    assert_eq!((errors.len(), &errors[0]["locations"][0]["line"]), (2, &json!(2)));
}

#[tokio::test]
async fn what_the_schema_does_not_know_is_refused_before_anything_is_read() {
    let stage = Stage::new();
    let token = stage.token().await;
    for query in [
        "{ repository(owner: \"acme\", name: \"checkout\") { colour } }",
        "{ repository(owner: \"acme\") { name } }",
        "{ repository(owner: \"acme\", name: 7) { name } }",
        "query($name: String!) { repository(owner: \"acme\", name: $name) { name } }",
        "{ repository(owner: \"acme\", name: \"checkout\") { defaultBranchRef { target { history(first: 1) { totalCount } } } } }",
        "{ repository(owner: \"acme\"",
    ] {
        let answer = stage.query(&token, query, json!({})).await;
        assert!(answer.get("data").is_none() && answer["errors"][0]["message"].is_string(), "{query}: {answer}");
    }
}

#[tokio::test]
async fn a_connection_wants_to_know_how_many_and_not_too_many() {
    let stage = Stage::new();
    stage.repo.commit("main", "first");
    let token = stage.token().await;
    let history = |arguments: &str| {
        format!(
            "{{ repository(owner: \"acme\", name: \"checkout\") {{ object(expression: \"main\") {{ ... on Commit {{ checkSuites{arguments} {{ totalCount }} }} }} }} }}"
        )
    };
    for (arguments, kind) in [
        ("", "MISSING_PAGINATION_BOUNDARIES"),
        ("(first: 101)", "EXCESSIVE_PAGINATION"),
        ("(first: 1, after: \"x\")", "INVALID_CURSOR_ARGUMENTS"),
    ] {
        let answer = stage.query(&token, &history(arguments), json!({})).await;
        assert_eq!(answer["errors"][0]["type"], kind, "{answer}");
        assert_eq!(answer["errors"][0]["path"], json!(["repository", "object", "checkSuites"]));
    }
}

#[tokio::test]
async fn a_query_costs_what_github_says_that_it_costs() {
    let stage = Stage::new();
    let token = stage.token().await;
    // GitHub's own example: 1 + 100 + 100 × 50 requests are 51 points; here with other connections.
    let deep = "query($first: Int!) { repository(owner: \"acme\", name: \"checkout\") { object(expression: \"main\") { ... on Commit {
      history(first: $first) { nodes { checkSuites(first: 50) { nodes { checkRuns(first: 60) { totalCount } } } } } } } } rateLimit { cost nodeCount used } }";
    let seen = stage.query(&token, deep, json!({"first": 100})).await["data"]["rateLimit"].clone();
    assert_eq!(seen, json!({"cost": 51, "nodeCount": 305_100, "used": 51}));
    let cheap = stage.query(&token, "{ rateLimit { cost used } }", json!({})).await["data"]["rateLimit"].clone();
    assert_eq!(cheap, json!({"cost": 1, "used": 52}));
    assert_eq!(stage.hub.meter(stage.installation).graphql, 52);
    let large = deep.replace("first: 60", "first: 100");
    let refused = stage.query(&token, &large, json!({"first": 100})).await;
    assert_eq!(refused["errors"][0]["type"], "MAX_NODE_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn a_permission_that_the_app_lacks_closes_the_field_and_no_more() {
    let stage = Stage::new();
    let head = stage.repo.commit("main", "first");
    stage.repo.checks(&head, Checks::actions("ci").done("success"));
    stage.hub.forbid("actions");
    stage.hub.forbid("pull_requests");
    let token = stage.token().await;
    let query = "{ repository(owner: \"acme\", name: \"checkout\") { object(expression: \"main\") { ... on Commit { oid
      associatedPullRequests(first: 1) { totalCount } checkSuites(first: 1) { nodes { status workflowRun { event } } } } } } }";
    let answer = stage.query(&token, query, json!({})).await;
    let object =
        json!({"oid": head, "associatedPullRequests": null, "checkSuites": {"nodes": [{"status": "COMPLETED", "workflowRun": null}]}});
    assert_eq!(answer["data"]["repository"]["object"], object);
    let kinds: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|error| error["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["FORBIDDEN", "FORBIDDEN"]);
}

#[tokio::test]
async fn a_long_first_line_goes_on_in_the_body() {
    let stage = Stage::new();
    let long = "x".repeat(80);
    stage.repo.commit("main", &format!("{long}\n\nand a body"));
    let token = stage.token().await;
    let query = "{ repository(owner: \"acme\", name: \"checkout\") { object(expression: \"main\") { ... on Commit { message messageHeadline messageBody url } } } }";
    let seen = stage.query(&token, query, json!({})).await["data"]["repository"]["object"].clone();
    assert_eq!(seen["message"], json!(format!("{long}\n\nand a body")));
    assert_eq!(seen["messageHeadline"], json!(format!("{}…", "x".repeat(71))));
    assert_eq!(seen["messageBody"], json!(format!("…{}\n\nand a body", "x".repeat(9))));
    assert_eq!(seen["url"], json!(format!("{}/acme/checkout/commit/{}", stage.hub.url(), stage.repo.head("main"))));
}

#[tokio::test]
async fn enterprise_server_has_the_same_under_its_own_paths() {
    let stage = Stage::new();
    let token = stage.token().await;
    let body = json!({"query": "{ repository(owner: \"acme\", name: \"checkout\") { nameWithOwner } }"}).to_string();
    let answer = stage.call("POST", "/api/graphql", &token, &[], &body).await;
    assert_eq!(answer.json(), json!({"data": {"repository": {"nameWithOwner": "acme/checkout"}}}));
    assert_eq!(stage.get("/api/v3/repos/acme/checkout", &token).await.json()["full_name"], "acme/checkout");
    stage.repo.rename("till");
    let moved = stage.get("/api/v3/repos/acme/checkout", &token).await;
    let path = moved.header("location").strip_prefix(stage.hub.url()).unwrap().to_owned();
    assert!(path.starts_with("/api/v3/"), "{path}");
    assert_eq!(stage.get(&path, &token).await.json()["name"], "till");
}
