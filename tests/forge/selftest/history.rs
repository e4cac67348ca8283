//! What git says, seen through the API: pushes, merges, rewrites, files.

use serde_json::{Value, json};

use crate::{
    forge::Method,
    support::{Stage, git},
};

const HISTORY: &str = "query($owner: String!, $name: String!, $first: Int!, $after: String) {
  repository(owner: $owner, name: $name) {
    nameWithOwner
    defaultBranchRef { name target { oid ... on Commit { history(first: $first, after: $after) {
      nodes { oid messageHeadline messageBody parents(first: 2) { totalCount nodes { oid } } author { name user { login } }
        associatedPullRequests(first: 1) { nodes { number title } } }
      pageInfo { hasNextPage endCursor }
    } } } }
  }
}";

async fn history(stage: &Stage, token: &str, first: u32, after: Option<&str>) -> Value {
    let variables = json!({"owner": "acme", "name": "checkout", "first": first, "after": after});
    let answer = stage.query(token, HISTORY, variables).await;
    assert_eq!(answer.get("errors"), None, "{answer}");
    answer["data"]["repository"].clone()
}

/// What is remembered of git's answers must not hide what moves, nor show one repository what is in another.
#[tokio::test]
async fn changes_land_as_merges_on_their_own_copy_alone() {
    let stage = Stage::new();
    let first = stage.repo.commit("main", "The beginning");
    let copy = stage.repo.copy("acme/copy");
    let token = stage.token().await;
    assert_eq!(history(&stage, &token, 5, None).await["defaultBranchRef"]["target"]["oid"], first.as_str());
    let elsewhere = copy.land("Elsewhere");
    let merge = stage.repo.land("Here\n\nand why");
    let seen = history(&stage, &token, 5, None).await;
    assert_eq!(seen["defaultBranchRef"]["target"]["oid"], merge.as_str());
    let nodes = seen["defaultBranchRef"]["target"]["history"]["nodes"].clone();
    assert_eq!((&nodes[0]["messageHeadline"], &nodes[0]["parents"]["totalCount"]), (&json!("Here"), &json!(2)));
    assert_eq!(nodes[0]["parents"]["nodes"][0]["oid"], first.as_str());
    assert_eq!(stage.repo.git().entries(&merge, "changes/").len(), 2);
    // What is in the copy is not here.
    let other = "query($oid: GitObjectID!) { repository(owner: \"acme\", name: \"checkout\") { object(oid: $oid) { oid } } }";
    assert_eq!(stage.query(&token, other, json!({"oid": elsewhere})).await["data"]["repository"]["object"], Value::Null);
}

#[tokio::test]
async fn a_merge_that_git_pushes_over_http_is_the_head_and_its_history() {
    let stage = Stage::new();
    let folder = tempfile::TempDir::new().unwrap();
    let dir = folder.path();
    git(dir, &["init", "--quiet", "--initial-branch", "main", "."]).await;
    git(dir, &["commit", "--quiet", "--allow-empty", "-m", "first"]).await;
    git(dir, &["checkout", "--quiet", "-b", "feature"]).await;
    git(dir, &["commit", "--quiet", "--allow-empty", "-m", "cheaper shipping\n\nfor all"]).await;
    git(dir, &["checkout", "--quiet", "main"]).await;
    git(dir, &["merge", "--quiet", "--no-ff", "-m", "Merge feature", "feature"]).await;
    git(dir, &["push", "--quiet", &stage.repo.clone_url(), "main"]).await;
    let head = git(dir, &["rev-parse", "HEAD"]).await;
    let first_parent = git(dir, &["rev-parse", "HEAD^1"]).await;
    stage.hub.user("grace@acme.test", "grace");
    let token = stage.token().await;
    let seen = history(&stage, &token, 10, None).await;
    let target = &seen["defaultBranchRef"]["target"];
    assert_eq!((&seen["nameWithOwner"], &target["oid"]), (&json!("acme/checkout"), &json!(head)));
    let nodes = target["history"]["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3, "the side of the merge is history, too");
    assert_eq!(nodes[0]["parents"]["totalCount"], 2);
    assert_eq!(nodes[0]["parents"]["nodes"][0]["oid"], json!(first_parent));
    assert_eq!(nodes[0]["author"], json!({"name": "Grace", "user": {"login": "grace"}}));
    let side = nodes.iter().find(|node| node["messageHeadline"] == "cheaper shipping").unwrap();
    assert_eq!(side["messageBody"], "for all");
    // And git takes back what it gave.
    git(dir, &["clone", "--quiet", &stage.repo.clone_url(), "again"]).await;
    assert_eq!(git(&dir.join("again"), &["rev-parse", "HEAD"]).await, head);
}

#[tokio::test]
async fn history_has_pages_and_goes_on_where_it_ended() {
    let stage = Stage::new();
    let made: Vec<String> = (0..5).map(|number| stage.repo.commit("main", &format!("change {number}"))).collect();
    let token = stage.token().await;
    let (mut seen, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = history(&stage, &token, 2, after.as_deref()).await["defaultBranchRef"]["target"]["history"].clone();
        seen.extend(page["nodes"].as_array().unwrap().iter().map(|node| node["oid"].as_str().unwrap().to_owned()));
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
        after = Some(page["pageInfo"]["endCursor"].as_str().unwrap().to_owned());
    }
    seen.reverse();
    assert_eq!(seen, made);
}

#[tokio::test]
async fn each_way_to_merge_makes_the_commits_that_it_makes_at_github() {
    let stage = Stage::new();
    let first = stage.repo.commit("main", "first");
    let numbers: Vec<u64> = ["one", "two", "three"].iter().map(|name| stage.repo.change(name, &format!("change {name}"))).collect();
    let branch = stage.repo.head("three");
    let merge = stage.repo.merge(numbers[0], Method::Merge);
    let squash = stage.repo.merge(numbers[1], Method::Squash);
    let rebase = stage.repo.merge(numbers[2], Method::Rebase);
    let revert = stage.repo.revert(&merge);
    let commit = |oid: &str| stage.repo.git().commit(oid).unwrap();
    assert_eq!(commit(&merge).parents, [first, stage.repo.head("one")]);
    assert_eq!(commit(&merge).message, "Merge pull request #1 from acme/one\n\nchange one");
    assert_eq!((commit(&squash).parents, commit(&squash).message), (vec![merge.clone()], "change two (#2)".to_owned()));
    assert_eq!((commit(&rebase).parents, commit(&rebase).message), (vec![squash.clone()], "change three".to_owned()));
    assert_ne!(rebase, branch);
    assert!(commit(&revert).message.contains(&format!("This reverts commit {merge}")), "{}", commit(&revert).message);
    let token = stage.token().await;
    let seen = history(&stage, &token, 10, None).await["defaultBranchRef"]["target"]["history"]["nodes"].clone();
    let pull = |oid: &str| {
        let node = seen.as_array().unwrap().iter().find(|node| node["oid"] == oid).unwrap();
        node["associatedPullRequests"]["nodes"][0]["number"].clone()
    };
    assert_eq!([&merge, &squash, &rebase, &revert].map(|oid| pull(oid)), [json!(1), json!(2), json!(3), json!(null)]);
}

#[tokio::test]
async fn a_merge_queue_lands_several_commits_in_one_push() {
    let stage = Stage::new();
    let first = stage.repo.commit("main", "first");
    let numbers = [stage.repo.change("one", "one"), stage.repo.change("two", "two")];
    let head = stage.repo.merge_group(&numbers);
    let made = stage.repo.git().log(&[&format!("{first}..{head}")]);
    assert_eq!(made.iter().map(|commit| commit.message.as_str()).collect::<Vec<_>>(), ["two (#2)", "one (#1)"]);
}

#[tokio::test]
async fn a_comparison_tells_ahead_behind_identical_and_diverged() {
    let stage = Stage::new();
    let first = stage.repo.commit("main", "first");
    let second = stage.repo.commit("main", "second");
    let token = stage.token().await;
    let compare = async |base: &str, head: &str| stage.get(&format!("/repos/acme/checkout/compare/{base}...{head}"), &token).await;
    for (base, head, status, ahead, behind) in
        [(&first, "main", "ahead", 1, 0), (&second, first.as_str(), "behind", 0, 1), (&second, "main", "identical", 0, 0)]
    {
        let seen = compare(base, head).await.json();
        assert_eq!((&seen["status"], &seen["ahead_by"], &seen["behind_by"]), (&json!(status), &json!(ahead), &json!(behind)));
    }
    stage.repo.force_push("main", &first);
    let third = stage.repo.commit("main", "third, instead of second");
    let seen = compare(&second, "main").await.json();
    assert_eq!((&seen["status"], &seen["merge_base_commit"]["sha"]), (&json!("diverged"), &json!(first)));
    assert_eq!(seen["commits"][0]["sha"], json!(third));
    assert_eq!(compare("nothing", "main").await.status, 404);
    let branch = stage.get("/repos/acme/checkout/branches/main", &token).await.json();
    assert_eq!(branch["commit"]["sha"], json!(third));
    assert_eq!(stage.get("/repos/acme/checkout/branches/nothing", &token).await.status, 404);
    // What no branch has any more is still there for who knows its name.
    assert_eq!(stage.get(&format!("/repos/acme/checkout/commits/{second}"), &token).await.json()["sha"], json!(second));
    let sha = stage.call("GET", "/repos/acme/checkout/commits/main", &token, &[("accept", "application/vnd.github.sha")], "").await;
    assert_eq!(sha.text(), third);
    assert_eq!(stage.get("/repos/acme/checkout/commits/nothing", &token).await.status, 422);
}

#[tokio::test]
async fn a_file_is_that_of_the_commit_that_was_asked_for() {
    let stage = Stage::new();
    let old = stage.repo.commit_files("main", "old", &[("deploy/haldane.yaml", "weight: 1\n"), ("README", "words\n")]);
    stage.repo.commit_files("main", "new", &[("deploy/haldane.yaml", "weight: 2\n")]);
    let token = stage.token().await;
    let path = "/repos/acme/checkout/contents/deploy/haldane.yaml";
    let file = stage.get(&format!("{path}?ref={old}"), &token).await.json();
    assert_eq!((&file["type"], &file["size"], &file["encoding"]), (&json!("file"), &json!(10), &json!("base64")));
    assert_eq!(openssl_base64(file["content"].as_str().unwrap()), "weight: 1\n");
    let raw = stage.call("GET", path, &token, &[("accept", "application/vnd.github.raw+json")], "").await;
    assert_eq!(raw.text(), "weight: 2\n");
    let folder = stage.get("/repos/acme/checkout/contents/deploy", &token).await.json();
    assert_eq!(folder[0]["path"], "deploy/haldane.yaml");
    let root = stage.get("/repos/acme/checkout/contents/", &token).await.json();
    assert_eq!(root.as_array().unwrap().iter().map(|entry| entry["type"].as_str().unwrap()).collect::<Vec<_>>(), ["file", "dir"]);
    assert_eq!(stage.get("/repos/acme/checkout/contents/nothing", &token).await.status, 404);
    let blob = stage.query(&token, "query($what: String) { repository(owner: \"acme\", name: \"checkout\") { object(expression: $what) { __typename ... on Blob { text byteSize } } } }", json!({"what": format!("{old}:deploy/haldane.yaml")})).await;
    assert_eq!(blob["data"]["repository"]["object"], json!({"__typename": "Blob", "text": "weight: 1\n", "byteSize": 10}));
}

fn openssl_base64(text: &str) -> String {
    String::from_utf8(crate::support::openssl(&["base64", "-d"], text.as_bytes())).unwrap()
}

#[tokio::test]
async fn an_empty_repository_has_no_head_and_a_renamed_one_leads_on() {
    let stage = Stage::new();
    let token = stage.token().await;
    assert_eq!(history(&stage, &token, 1, None).await["defaultBranchRef"], json!(null));
    assert_eq!(stage.get("/repos/acme/checkout/commits/main", &token).await.status, 409);
    let head = stage.repo.commit("main", "first");
    stage.repo.rename("till");
    let moved = stage.get("/repos/acme/checkout/branches/main", &token).await;
    assert_eq!(moved.status, 301);
    let path = moved.header("location").strip_prefix(stage.hub.url()).unwrap().to_owned();
    assert_eq!(stage.get(&path, &token).await.json()["commit"]["sha"], json!(head));
    let seen = history(&stage, &token, 1, None).await;
    assert_eq!((&seen["nameWithOwner"], &seen["defaultBranchRef"]["target"]["oid"]), (&json!("acme/till"), &json!(head)));
    stage.repo.delete();
    assert_eq!(stage.get("/repos/acme/till", &token).await.status, 404);
}
