//! All that our client can ask, asked once, and all that the model answers besides; everything by way of Prism.

use std::time::Duration;

use haldane::{
    clock::Clock as _,
    edge::{
        forge::Forge as _,
        github::{Access, GitHub as Client, app},
    },
    model::source::{Branch, HistoryEnd, Repository, Sha},
};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::{
    forge::{Checks, Fault, Method, Wrong, faults::wrong_types, keys::AppKey, limits::Limits},
    middle::{Canned, Heard, Middle},
    parts::Description,
    prism::Prism,
    support::{Stage, raw},
};

/// What our client calls: where in `src/edge/github`, and GitHub's name of the operation.
pub const OURS: [(&str, &str); 7] = [
    ("app.rs", "apps/create-from-manifest"),
    ("desk.rs", "apps/create-installation-access-token"),
    ("desk.rs", "apps/get-repo-installation"),
    ("file.rs", "repos/get-content"),
    ("history.rs", "repos/compare-commits-with-basehead"),
    ("redelivery.rs", "apps/list-webhook-deliveries"),
    ("redelivery.rs", "apps/redeliver-webhook-delivery"),
];

/// What the model answers besides.
pub const BESIDES: [&str; 9] = [
    "apps/get-authenticated",
    "apps/get-installation",
    "apps/get-webhook-config-for-app",
    "apps/get-webhook-delivery",
    "apps/list-installations",
    "apps/list-repos-accessible-to-installation",
    "repos/get",
    "repos/get-branch",
    "repos/get-commit",
];

pub struct Walk {
    pub description: Description,
    /// What our client asked.
    pub ours: Vec<Heard>,
    /// What was asked besides.
    pub besides: Vec<Heard>,
    /// Of every answer of a kind, the same with other types in it.
    pub spoilt: Vec<Heard>,
    /// Calls that GitHub does not describe.
    pub askew: Vec<Heard>,
}

/// Once for all tests.
pub async fn walk() -> &'static Walk {
    static WALK: OnceCell<Walk> = OnceCell::const_new();
    WALK.get_or_init(walked).await
}

async fn walked() -> Walk {
    let stage = Stage::new();
    let operations: Vec<&str> = OURS.iter().map(|(_, name)| *name).chain(BESIDES).collect();
    let description = Description::rest(&operations);
    let behind = Middle::behind(stage.hub.url()).await;
    let prism = Prism::before(&behind.url, &description);
    let middle = Middle::before(&prism.url, stage.hub.url()).await;
    as_our_client(&stage, &middle.url).await;
    let ours = middle.heard();
    besides(&stage, &middle.url).await;
    let besides = middle.heard();
    let mut kinds = std::collections::BTreeSet::new();
    for heard in ours.iter().chain(&besides).filter(|heard| heard.path != "/graphql") {
        let operation = description.operation(&heard.method, &heard.path).map(|operation| operation["operationId"].clone());
        if !kinds.insert((operation.map(|id| id.to_string()), heard.status)) || heard.media() != "application/json" {
            continue;
        }
        behind.say(Canned { status: heard.status, headers: heard.headers.clone(), body: spoilt(&heard.answer) });
        let query: Vec<String> = heard.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let path = format!("{}?{}", heard.path, query.join("&"));
        let headers: &[(&str, &str)] = if heard.asked.is_empty() { &[] } else { &[("content-type", "application/json")] };
        raw(&middle.url, &heard.method, &path, headers, &String::from_utf8_lossy(&heard.asked)).await.unwrap();
    }
    let spoilt = middle.heard();
    askew(&middle.url).await;
    Walk { description, ours, besides, spoilt, askew: middle.heard() }
}

/// What nobody should ask.
async fn askew(url: &str) {
    for (method, path, body) in [
        ("GET", "/app/hook/deliveries?per_page=many", ""),
        ("GET", "/app/hook/deliveries?status=lost", ""),
        ("GET", "/app/hook/deliveries?pages=2", ""),
        ("GET", "/repos/acme/till/installations", ""),
        ("POST", "/repos/acme/till/installation", ""),
        ("POST", "/app/installations/seven/access_tokens", ""),
        ("POST", "/app/installations/7/access_tokens", r#"{"permissions": {"checks": "all"}}"#),
        ("POST", "/app/installations/7/access_tokens", r#"{"permissions": {"chicks": "read"}}"#),
        ("POST", "/app/installations/7/access_tokens", r#"{"permission": {}}"#),
        ("POST", "/app/installations/7/access_tokens", r#"{"repositories": "till"}"#),
        ("POST", "/app/hook/deliveries/7/attempts", "{}"),
        ("POST", "/app-manifests/abc/conversions", "{}"),
    ] {
        raw(url, method, path, &[("content-type", "application/json"), ("user-agent", "contract")], body).await.unwrap();
    }
}

/// The same as another type.
fn spoilt(answer: &[u8]) -> Vec<u8> {
    let value = serde_json::from_slice(answer).unwrap_or_default();
    let other = wrong_types(value);
    if other.as_object().is_none_or(serde_json::Map::is_empty) { b"[\"spoilt\"]".to_vec() } else { other.to_string().into_bytes() }
}

fn branch(name: Option<&str>) -> Branch {
    Branch { repository: Repository::parse("acme/checkout").unwrap(), name: name.map(str::to_owned) }
}

async fn as_our_client(stage: &Stage, url: &str) {
    let (hub, repo) = (&stage.hub, &stage.repo);
    let made = a_new_app(stage, url).await;
    // A repository with some history, and somebody who does not listen.
    hub.webhook("http://127.0.0.1:1/github", "s3cret");
    let first = repo.commit("main", "The beginning");
    // Later than the beginning, so that the branch's own next commit is behind it in the list of all.
    stage.clock.advance(Duration::from_mins(1));
    let one = repo.change("a", "One");
    stage.clock.advance(Duration::from_mins(1));
    repo.merge(one, Method::Merge);
    let two = repo.merge(repo.change("b", "Two"), Method::Squash);
    let files = [(".haldane/delivery.yaml", "steps: []\n"), ("haldane.json", "{}")];
    let head = repo.commit_files("main", "Three", &files);
    repo.checks(&two, Checks::actions("ci").done("failure"));
    repo.checks(&head, Checks::actions("ci").done("success"));
    repo.checks(&head, Checks::of("scanner").running(1));
    repo.status(&head, "ci/other", "success");
    hub.hooks_settle().await;

    let app = hub.app();
    let client = || Client::new(url, Access::app(app.id, app.pem.as_bytes()).unwrap(), stage.clock.clone()).unwrap();
    let ours = client();
    let (sha, name) = (|text: &str| Sha::parse(text).unwrap(), Repository::parse("acme/checkout").unwrap());
    for known in [None, Some("main")] {
        assert_eq!(ours.heads(&[branch(known)]).await.unwrap()[0].as_ref().unwrap().as_str(), head);
        ours.history(&branch(known), None, 20).await.unwrap();
    }
    // As far as wanted, and what was deployed is further down: is it before that?
    let history = ours.history(&branch(None), Some(&sha(&first)), 1).await.unwrap();
    assert_eq!(history.end, HistoryEnd::Capped);
    let checks = ours.checks(&name, &[sha(&head), sha(&two)]).await.unwrap();
    assert_eq!(checks.len(), 2);
    for (path, there) in [("haldane.json", true), (".haldane/delivery.yaml", true), (".haldane", false), ("none.yaml", false)] {
        assert_eq!(ours.file(&name, &sha(&head), path, 1024).await.unwrap().is_some(), there, "{path}");
    }
    assert!(ours.repeat_missed(stage.clock.now() - Duration::from_mins(10)).await.unwrap() > 0);
    long_lists(stage, &ours).await;
    // What is refused.
    let elsewhere = Branch { repository: Repository::parse("other/shop").unwrap(), name: None };
    assert!(ours.heads(&[elsewhere]).await.unwrap()[0].is_err());
    let other_line = stage.hub.repository("acme/other").commit("main", "Another beginning");
    assert_eq!(ours.history(&branch(None), Some(&sha(&other_line)), 1).await.unwrap().end, HistoryEnd::Diverged);
    let stranger = Access::app(app.id, AppKey::generate().pem.as_bytes()).unwrap();
    assert!(Client::new(url, stranger, stage.clock.clone()).unwrap().heads(&[branch(None)]).await.is_err());
    hub.revoke_tokens(stage.installation);
    ours.file(&name, &sha(&head), "haldane.json", 1024).await.unwrap();
    assert!(app::exchange(url, &made).await.is_err(), "a code counts once");
    hub.fault(Fault { prefix: "/repos/acme/checkout/contents".to_owned(), times: 1, wrong: Wrong::Secondary(Some(60)) });
    assert!(ours.file(&name, &sha(&head), "haldane.json", 1024).await.is_err());
    hub.limits(Limits { rest: 0, ..Limits::default() });
    assert!(client().heads(&[branch(None)]).await.is_err());
    hub.limits(Limits::default());
    let before = client();
    before.heads(&[branch(None)]).await.unwrap();
    repo.rename("till");
    assert!(before.file(&name, &sha(&head), "haldane.json", 1024).await.unwrap().is_some(), "by its old name");
    assert!(client().file(&name, &sha(&head), "haldane.json", 1024).await.unwrap().is_some(), "by its old name, from the beginning");
    let one = client();
    // What it was granted has changed meanwhile.
    hub.fault(Fault { prefix: "/app/installations".to_owned(), times: 1, wrong: Wrong::Status(422) });
    assert!(one.heads(&[branch(None)]).await.is_err());
    hub.suspend(stage.installation);
    assert!(one.heads(&[branch(None)]).await.is_err());
    hub.unsuspend(stage.installation);
}

/// What has more than one page.
async fn long_lists(stage: &Stage, ours: &Client) {
    let head = stage.repo.head("main");
    for number in 0..51 {
        stage.repo.checks(&head, Checks::of(&format!("app-{number}")).done("success"));
    }
    let name = Repository::parse("acme/checkout").unwrap();
    assert_eq!(ours.checks(&name, &[Sha::parse(&head).unwrap()]).await.unwrap().len(), 1);
    // Every attempt is listed, also the repeated ones: soon these are more than a page of a hundred.
    for _ in 0..3 {
        stage.hub.hooks_settle().await;
        assert!(ours.repeat_missed(stage.clock.now() - Duration::from_mins(10)).await.unwrap() > 0);
    }
    // What came with a merge is read, too, and so four commits of the branch are not on the first page of four.
    assert_eq!(ours.history(&branch(None), None, 4).await.unwrap().commits.len(), 4);
}

async fn a_new_app(stage: &Stage, url: &str) -> String {
    let hooks = Some("https://haldane.acme.example/github".to_owned());
    let manifest = app::Manifest { name: "Another".to_owned(), hooks, back: "http://127.0.0.1:1/made".to_owned() };
    let code = stage.hub.confirm_manifest(manifest.json(), "acme");
    assert_eq!(app::exchange(url, &code).await.unwrap().page.rsplit('/').next(), Some("another"));
    code
}

async fn besides(stage: &Stage, url: &str) {
    let (jwt, token) = (stage.jwt(300), stage.token().await);
    let delivery = stage.hub.deliveries()[0].id;
    let head = stage.repo.head("main");
    let of_app = [
        "/app".to_owned(),
        "/app/installations".to_owned(),
        format!("/app/installations/{}", stage.installation),
        "/app/installations/1".to_owned(),
        "/app/hook/config".to_owned(),
        format!("/app/hook/deliveries/{delivery}"),
        "/app/hook/deliveries?status=success".to_owned(),
    ];
    let of_repository = [
        "/installation/repositories?per_page=1".to_owned(),
        "/repos/acme/till".to_owned(),
        "/repos/acme/none".to_owned(),
        "/repos/acme/checkout".to_owned(),
        "/repos/acme/till/branches/main".to_owned(),
        "/repos/acme/till/branches/none".to_owned(),
        format!("/repos/acme/till/commits/{head}"),
        "/repos/acme/till/commits/none".to_owned(),
        "/repos/acme/till/contents/haldane.json".to_owned(),
        format!("/repos/acme/till/compare/{head}~2...{head}?per_page=1"),
    ];
    let with = |token: &str, path: String| {
        let bearer = format!("Bearer {token}");
        async move { raw(url, "GET", &path, &[("user-agent", "contract"), ("authorization", &bearer)], "").await.unwrap().status }
    };
    for path in of_app {
        with(&jwt, path).await;
    }
    for path in of_repository {
        with(&token, path).await;
    }
    assert_eq!(with("ghs_none", "/repos/acme/till".to_owned()).await, 401);
    assert_eq!(with("ghs_none", "/app".to_owned()).await, 401);
    stage.hub.repository("acme/empty");
    assert_eq!(with(&token, "/repos/acme/empty/commits/main".to_owned()).await, 409);
    // A token for one repository, with fewer rights.
    let path = format!("/app/installations/{}/access_tokens", stage.installation);
    let bearer = format!("Bearer {jwt}");
    for (body, status) in [
        (json!({"repositories": ["till"], "permissions": {"contents": "read"}}), 201),
        (json!({"repositories": ["none"]}), 422),
        (json!({"permissions": {"contents": "write"}}), 422),
    ] {
        let headers = [("user-agent", "contract"), ("authorization", &*bearer), ("content-type", "application/json")];
        assert_eq!(raw(url, "POST", &path, &headers, &body.to_string()).await.unwrap().status, status);
    }
}
