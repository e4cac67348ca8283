//! What is asked of a GitHub that is well, and what is made of the answers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{server::Asked, *};
use crate::model::source::{BODY, CheckFacts, CommitStatus, Conclusion, PullRequest, StatusState, Suite, TITLE};

fn at(number: usize) -> Value {
    json!({ "at": { "target": { "oid": sha(number) } } })
}

#[tokio::test]
async fn heads_come_in_the_order_of_the_question_and_each_is_asked_once() {
    let server = Server::new(|_| data(&json!({ "h0": at(1), "h1": at(2) }))).await;
    let (shop, site) = (main_branch(), branch("acme/site", ""));
    let heads = server.person().heads(&[site.clone(), shop.clone(), site]).await.unwrap();
    assert_eq!(heads, [Ok(sha(2)), Ok(sha(1)), Ok(sha(2))]);
    let variables = &server.asked()[0].body["variables"];
    let wanted = json!({ "o0": "acme", "n0": "shop", "r0": "refs/heads/main", "o1": "acme", "n1": "site" });
    assert_eq!(*variables, wanted);
    assert_eq!(server.person().heads(&[]).await, Ok(vec![]));
}

#[tokio::test]
async fn one_that_fails_does_not_fail_the_others() {
    let forbidden = "Resource not accessible by integration";
    let server = Server::new(move |_| {
        says(
            200,
            &json!({
                "data": { "h0": at(1), "h1": null, "h2": { "at": null }, "h3": null, "h4": { "at": { "target": null } }, "h5": at(6) },
                "errors": [
                    { "type": "NOT_FOUND", "path": ["h1"], "message": "Could not resolve to a Repository" },
                    { "type": "FORBIDDEN", "path": ["h3", "at"], "message": forbidden },
                    { "message": "Something went wrong", "path": ["h5", "at", "target"] },
                ],
            }),
        )
    })
    .await;
    let branches = ["a/a", "a/b", "a/c", "a/d", "a/e", "a/f"].map(|name| branch(name, "main"));
    let heads = server.person().heads(&branches).await.unwrap();
    assert_eq!(heads[0], Ok(sha(1)));
    assert_eq!(heads[1], Err(absent("a/b")));
    assert_eq!(heads[2], Err(absent("branch main of a/c")));
    assert_eq!(heads[3], Err(ForgeError::Denied { said: format!("a/d: {forbidden}, at h3.at") }));
    assert!(matches!(&heads[4], Err(ForgeError::Unreadable { said }) if said.starts_with("a/e: at.target")), "{heads:?}");
    assert!(matches!(&heads[5], Err(ForgeError::Ill { said }) if said.contains("Something went wrong")), "{heads:?}");
}

#[tokio::test]
async fn a_hundred_and_one_heads_are_two_documents_for_each_installation() {
    let server = Server::new(|asked| {
        let many = asked.body["variables"].as_object().unwrap().keys().filter(|key| key.starts_with('n')).count();
        data(&Value::Object((0..many).map(|number| (format!("h{number}"), at(number))).collect()))
    })
    .await;
    let branches: Vec<_> = (0..101).map(|number| branch(&format!("acme/r{number:03}"), "")).collect();
    let heads = server.person().heads(&branches).await.unwrap();
    assert_eq!((heads[99].clone(), heads[100].clone()), (Ok(sha(99)), Ok(sha(0))));
    assert_eq!(server.documents().len(), 2);
}

#[tokio::test]
async fn an_account_without_the_app_does_not_fail_the_others() {
    let server = Server::with_app(|_| data(&json!({ "h0": at(1) }))).await;
    let heads = server.app().heads(&[branch("other/site", ""), main_branch()]).await.unwrap();
    assert_eq!(heads, [Err(absent("other/site")), Ok(sha(1))]);
}

/// A commit with these parents, as GitHub has it.
fn node(number: usize, parents: &[usize]) -> Value {
    json!({
        "oid": sha(number),
        "message": format!("Commit {number}\n\nWith a body."),
        "committedDate": "2026-11-20T10:00:00Z",
        "url": format!("https://github.com/acme/shop/commit/{}", sha(number)),
        "author": { "name": "Ada Lovelace", "user": { "login": "ada" } },
        "parents": { "nodes": parents.iter().take(1).map(|parent| json!({ "oid": sha(*parent) })).collect::<Vec<_>>() },
        "associatedPullRequests": { "nodes": [{ "number": 12, "title": "Cheaper shipping" }] },
    })
}

fn page(head: usize, nodes: &[Value], next: Option<&str>) -> Value {
    let info = json!({ "hasNextPage": next.is_some(), "endCursor": next });
    let target = json!({ "oid": sha(head), "history": { "pageInfo": info, "nodes": nodes } });
    json!({ "repository": { "nameWithOwner": "acme/shop", "at": { "name": "main", "target": target } } })
}

fn next_page(head: usize, nodes: &[Value], next: Option<&str>) -> Value {
    json!({ "repository": { "at": page(head, nodes, next)["repository"]["at"]["target"] } })
}

fn numbers(history: &History) -> Vec<Sha> {
    history.commits.iter().map(|commit| commit.sha.clone()).collect()
}

/// 9 merges 8 and 7 of a branch into 5; 5 and 3 are on main; 2 and 1 too.
fn with_a_merge() -> Vec<Value> {
    vec![node(9, &[5, 8]), node(8, &[7]), node(7, &[3]), node(5, &[3]), node(3, &[2]), node(2, &[1]), node(1, &[])]
}

#[tokio::test]
async fn a_history_goes_by_first_parents_and_leaves_out_what_a_merge_brought() {
    let server = Server::new(|_| data(&page(9, &with_a_merge(), None))).await;
    let github = server.person();
    for (since, limit, wanted, end) in [
        (Some(2), 10, vec![9, 5, 3], HistoryEnd::Reached),
        (Some(9), 10, vec![], HistoryEnd::Reached),
        (None, 10, vec![9, 5, 3, 2, 1], HistoryEnd::Open),
        (None, 2, vec![9, 5], HistoryEnd::Open),
        (Some(2), 3, vec![9, 5, 3], HistoryEnd::Reached),
        // An ancestor, but main never pointed at it.
        (Some(8), 10, vec![9, 5, 3, 2, 1], HistoryEnd::Diverged),
        (Some(4), 10, vec![9, 5, 3, 2, 1], HistoryEnd::Diverged),
    ] {
        let history = github.history(&main_branch(), since.map(sha).as_ref(), limit).await.unwrap();
        assert_eq!((numbers(&history), history.end), (wanted.into_iter().map(sha).collect(), end), "since {since:?}");
        assert_eq!(history.branch, "main");
    }
    assert!(server.lines().iter().all(|line| line == "POST /graphql"), "no answer needed a comparison");
}

/// Clocks of committers are wrong, and a rebase keeps old dates.
#[tokio::test]
async fn the_order_is_that_of_the_line_and_never_that_of_the_dates() {
    let dated = |number: usize, parents: &[usize], year: u16| {
        let mut commit = node(number, parents);
        commit["committedDate"] = format!("{year}-11-20T10:00:00Z").into();
        commit
    };
    // GitHub lists by date where it can.
    let listed = [dated(1, &[], 2031), dated(2, &[1], 2030), dated(3, &[2], 2010)];
    let server = Server::new(move |_| data(&page(3, &listed, None))).await;
    let history = server.person().history(&main_branch(), None, 10).await.unwrap();
    assert_eq!(numbers(&history), [sha(3), sha(2), sha(1)]);
}

#[tokio::test]
async fn a_commit_is_told_as_people_know_it() {
    let server = Server::new(|_| {
        let mut bare = node(1, &[]);
        bare["message"] = "One line".into();
        bare["author"] = json!({ "name": "Charles Babbage", "user": null });
        bare["associatedPullRequests"] = Value::Null;
        let mut long = node(2, &[1]);
        long["message"] = format!("{}\n\n{}the end", "t".repeat(TITLE + 1), "ü".repeat(BODY)).into();
        data(&page(3, &[node(3, &[2]), long, bare], None))
    })
    .await;
    let history = server.person().history(&main_branch(), None, 10).await.unwrap();
    let [commit, long, bare] = history.commits.try_into().unwrap();
    assert_eq!((commit.title.as_str(), commit.body.as_str(), commit.author.as_str()), ("Commit 3", "With a body.", "ada"));
    assert_eq!(commit.pull_request, Some(PullRequest { number: 12, title: "Cheaper shipping".to_owned() }));
    assert_eq!(commit.committed.to_string(), "2026-11-20T10:00:00Z");
    assert_eq!((long.title.len(), long.body.chars().count()), (TITLE, BODY));
    assert!(long.body.ends_with("the end"), "trailers are kept");
    assert_eq!((bare.title.as_str(), bare.body.as_str(), bare.author.as_str()), ("One line", "", "Charles Babbage"));
    assert_eq!(bare.pull_request, None);
}

#[tokio::test]
async fn pages_are_read_from_the_same_head_until_the_line_is_known() {
    let server = Server::new(|asked| match asked.variable("after").as_str() {
        None => data(&page(9, &[node(9, &[5]), node(8, &[7])], Some("one"))),
        Some("one") => data(&next_page(9, &[node(7, &[3])], Some("two"))),
        Some(_) => data(&next_page(9, &[node(5, &[3]), node(3, &[])], None)),
    })
    .await;
    let history = server.person().history(&main_branch(), Some(&sha(3)), 10).await.unwrap();
    assert_eq!((numbers(&history), history.end), (vec![sha(9), sha(5)], HistoryEnd::Reached));
    let oids: Vec<_> = server.documents().iter().map(|asked| asked.variable("oid").clone()).collect();
    assert_eq!(oids, [Value::Null, json!(sha(9)), json!(sha(9))]);
}

#[tokio::test]
async fn a_line_that_was_not_read_to_the_commit_is_capped_if_that_comes_before_it_and_else_diverged() {
    for (status, body, wanted) in [
        (200, json!({ "status": "ahead", "ahead_by": 12 }), Ok(HistoryEnd::Capped)),
        (200, json!({ "status": "diverged" }), Ok(HistoryEnd::Diverged)),
        // The last commit read is an ancestor of the one that was asked for, which is thus not further down.
        (200, json!({ "status": "behind" }), Ok(HistoryEnd::Diverged)),
        (404, json!({ "message": "Not Found" }), Ok(HistoryEnd::Diverged)),
        (200, json!({ "status": "sideways" }), Err("unreadable")),
        (200, json!({}), Err("unreadable")),
        (502, json!({}), Err("ill")),
    ] {
        let server =
            Server::new(
                move |asked| {
                    if asked.line.starts_with("GET ") { says(status, &body) } else { data(&page(9, &with_a_merge(), Some("more"))) }
                },
            )
            .await;
        let answer = server.person().history(&main_branch(), Some(&sha(1)), 2).await;
        let told = match &answer {
            Ok(history) => Ok(history.end),
            Err(ForgeError::Unreadable { .. }) => Err("unreadable"),
            Err(ForgeError::Ill { .. }) => Err("ill"),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(told, wanted);
        assert_eq!(server.lines()[1], format!("GET /repos/acme/shop/compare/{}...{}?per_page=1", sha(1), sha(5)));
    }
}

#[tokio::test]
async fn a_history_without_end_is_read_for_ten_pages() {
    let server = Server::new(|asked| match asked.line.starts_with("GET ") {
        true => says(200, &json!({ "status": "ahead" })),
        false if asked.variable("oid").is_null() => data(&page(9, &[node(9, &[5])], Some("on"))),
        false => data(&next_page(9, &[node(8, &[8])], Some("on"))),
    })
    .await;
    let history = server.person().history(&main_branch(), Some(&sha(1)), 10).await.unwrap();
    assert_eq!((numbers(&history), history.end), (vec![sha(9)], HistoryEnd::Capped));
    assert_eq!(server.documents().len(), 10);
}

#[tokio::test]
async fn without_the_right_to_read_pull_requests_a_history_is_as_good() {
    let server = Server::new(|_| {
        let mut commit = node(9, &[]);
        commit["associatedPullRequests"] = Value::Null;
        let path = json!(["repository", "at", "target", "history", "nodes", 0, "associatedPullRequests"]);
        let errors = json!([{ "type": "FORBIDDEN", "path": path, "message": "Resource not accessible by integration" }]);
        says(200, &json!({ "data": page(9, &[commit], None), "errors": errors }))
    })
    .await;
    let history = server.person().history(&main_branch(), None, 10).await.unwrap();
    assert_eq!(history.commits[0].pull_request, None);
}

#[tokio::test]
async fn a_repository_that_was_renamed_says_so() {
    for (called, renamed) in [("Acme/Shop", None), ("acme/store", Some("acme/store"))] {
        let mut answer = page(9, &[node(9, &[])], None);
        answer["repository"]["nameWithOwner"] = called.into();
        let server = Server::new(move |_| data(&answer)).await;
        let history = server.person().history(&main_branch(), None, 10).await.unwrap();
        assert_eq!(history.renamed.map(|renamed| renamed.to_string()).as_deref(), renamed);
    }
}

#[tokio::test]
async fn a_branch_or_repository_that_is_not_there_has_no_history() {
    for (answer, what) in
        [(json!({ "repository": null }), "acme/shop"), (json!({ "repository": { "at": null } }), "branch main of acme/shop")]
    {
        let server = Server::new(move |_| data(&answer)).await;
        assert_eq!(server.person().history(&main_branch(), None, 10).await, Err(absent(what)));
    }
}

fn suite(app: u64, status: &str, conclusion: impl Into<Value>) -> Value {
    json!({
        "app": { "slug": format!("app-{app}"), "databaseId": app },
        "status": status,
        "conclusion": conclusion.into(),
        "createdAt": "2026-11-20T10:00:00Z",
        "workflowRun": null,
        "checkRuns": { "totalCount": 3 },
    })
}

fn facts(suites: &[Value], next: Option<&str>, contexts: &Value) -> Value {
    let info = json!({ "hasNextPage": next.is_some(), "endCursor": next });
    json!({ "checkSuites": { "pageInfo": info, "nodes": suites }, "status": { "contexts": contexts } })
}

#[tokio::test]
async fn checks_are_told_without_our_own() {
    let server = Server::with_app(|_| {
        let mut push = suite(1, "COMPLETED", "SUCCESS");
        push["workflowRun"] = json!({ "event": "push", "workflow": { "name": "CI" } });
        let contexts = json!([{ "context": "jenkins", "state": "ERROR" }, { "context": "haldane/prod", "state": "PENDING" }]);
        let (ours, rerun) = (suite(42, "QUEUED", Value::Null), suite(3, "IN_PROGRESS", "FAILURE"));
        data(&json!({ "repository": { "c0": facts(&[push, ours, rerun], None, &contexts), "c1": null } }))
    })
    .await;
    let checks = server.app().checks(&shop(), &[sha(1), sha(2)]).await.unwrap();
    let created = "2026-11-20T10:00:00Z".parse().unwrap();
    let (event, workflow) = (Some("push".to_owned()), Some("CI".to_owned()));
    let ci = Suite { app: "app-1".to_owned(), conclusion: Some(Conclusion::Success), event, workflow, runs: 3, created };
    let rerun = Suite { app: "app-3".to_owned(), conclusion: None, event: None, workflow: None, runs: 3, created };
    let statuses = vec![CommitStatus { context: "jenkins".to_owned(), state: StatusState::Failure }];
    assert_eq!(checks, BTreeMap::from([(sha(1), CheckFacts { suites: vec![ci, rerun], statuses })]));
}

#[tokio::test]
async fn each_conclusion_and_state_has_its_meaning() {
    let conclusions = [
        (json!("SUCCESS"), Conclusion::Success),
        (json!("NEUTRAL"), Conclusion::Neutral),
        (json!("SKIPPED"), Conclusion::Skipped),
        (json!("CANCELLED"), Conclusion::Cancelled),
        (json!("FAILURE"), Conclusion::Failure),
        (json!("TIMED_OUT"), Conclusion::Failure),
        (json!("STARTUP_FAILURE"), Conclusion::Failure),
        (json!("ACTION_REQUIRED"), Conclusion::Failure),
        (json!("STALE"), Conclusion::Unknown),
        (json!("MADE_UP"), Conclusion::Unknown),
        (Value::Null, Conclusion::Unknown),
    ];
    let states = [
        ("SUCCESS", StatusState::Success),
        ("FAILURE", StatusState::Failure),
        ("ERROR", StatusState::Failure),
        ("PENDING", StatusState::Pending),
        ("EXPECTED", StatusState::Pending),
        ("MADE_UP", StatusState::Pending),
    ];
    let suites: Vec<_> = conclusions.iter().map(|(said, _)| suite(1, "COMPLETED", said.clone())).collect();
    let contexts = json!(states.map(|(said, _)| json!({ "context": said, "state": said })));
    let answer = json!({ "repository": { "c0": facts(&suites, None, &contexts) } });
    let server = Server::new(move |_| data(&answer)).await;
    let checks = server.person().checks(&shop(), &[sha(1)]).await.unwrap();
    let told = |number: usize| checks[&sha(1)].suites[number].conclusion;
    for (number, (said, meaning)) in conclusions.iter().enumerate() {
        assert_eq!(told(number), Some(*meaning), "{said}");
    }
    for (status, (said, meaning)) in checks[&sha(1)].statuses.iter().zip(states) {
        assert_eq!(status.state, meaning, "{said}");
    }
}

#[tokio::test]
async fn more_than_fifty_suites_are_read_on_and_more_than_three_hundred_are_a_mistake() {
    let page = |asked: &Asked, last: usize| {
        let number = asked.variable("after").as_str().map_or(0, |after| after.parse::<usize>().unwrap());
        let suites = vec![suite(number as u64, "COMPLETED", "SUCCESS"); 50];
        let facts = facts(&suites, (number < last).then(|| (number + 1).to_string()).as_deref(), &json!([]));
        data(&json!({ "repository": { (if number == 0 { "c0" } else { "at" }): facts } }))
    };
    let server = Server::new(move |asked| page(asked, 5)).await;
    let checks = server.person().checks(&shop(), &[sha(1)]).await.unwrap();
    assert_eq!(checks[&sha(1)].suites.len(), 300);
    let server = Server::new(move |asked| page(asked, 6)).await;
    let error = server.person().checks(&shop(), &[sha(1)]).await.unwrap_err();
    assert!(error.to_string().contains("there are more than 300 check suites"), "{error}");
}

#[tokio::test]
async fn a_commit_of_which_not_all_is_known_is_left_out_and_if_none_is_left_that_is_an_error() {
    let server = Server::new(|asked| {
        let path = json!(["repository", "c1", "checkSuites", "nodes", 0, "workflowRun"]);
        let errors = json!([{ "type": "FORBIDDEN", "path": path, "message": "Resource not accessible by integration" }]);
        let whole = facts(&[suite(1, "COMPLETED", "SUCCESS")], None, &json!([]));
        let first = if *asked.variable("c0") == json!(sha(1)) { whole.clone() } else { Value::Null };
        says(200, &json!({ "data": { "repository": { "c0": first, "c1": whole } }, "errors": errors }))
    })
    .await;
    let github = server.person();
    let checks = github.checks(&shop(), &[sha(1), sha(2)]).await.unwrap();
    assert_eq!(checks.into_keys().collect::<Vec<_>>(), [sha(1)]);
    let denied = github.checks(&shop(), &[sha(3), sha(2)]).await.unwrap_err();
    assert!(matches!(&denied, ForgeError::Denied { said } if said.contains("c1.checkSuites")), "{denied}");
}

#[tokio::test]
async fn eleven_commits_are_two_documents() {
    let server = Server::new(|asked| {
        let many = asked.body["variables"].as_object().unwrap().len() - 2;
        let facts = facts(&[], None, &json!([]));
        data(&json!({ "repository": (0..many).map(|at| (format!("c{at}"), facts.clone())).collect::<BTreeMap<_, _>>() }))
    })
    .await;
    let commits: Vec<_> = (1..=11).map(sha).collect();
    let checks = server.person().checks(&shop(), &commits).await.unwrap();
    assert_eq!((checks.len(), server.documents().len()), (11, 2));
    assert_eq!(server.person().checks(&shop(), &[]).await, Ok(BTreeMap::new()));
}

#[tokio::test]
async fn a_file_is_read_raw_at_its_commit_and_no_further_than_wanted() {
    let server = Server::new(|asked| {
        let raw = |text: &'static [u8]| with(200, &[("content-type", "application/vnd.github.raw+json; charset=utf-8")], text);
        match asked.line.split('?').next().unwrap() {
            "GET /repos/acme/shop/contents/a%20b/%C3%BC%3F.yaml" => raw(b"name: shop\n"),
            "GET /repos/acme/shop/contents/data" => raw(b"\xff\xfe"),
            "GET /repos/acme/shop/contents/folder" => says(200, &json!([{ "type": "file" }])),
            _ => says(404, &json!({ "message": "Not Found", "documentation_url": "https://docs.github.com" })),
        }
    })
    .await;
    let github = server.person();
    let file = async |path: &'static str, limit| github.file(&shop(), &sha(1), path, limit).await;
    assert_eq!(file("a b/ü?.yaml", 11).await, Ok(Some("name: shop\n".to_owned())));
    let what = format!("a b/ü?.yaml of acme/shop at {}", sha(1).short());
    assert_eq!(file("a b/ü?.yaml", 10).await, Err(ForgeError::TooLong { what, limit: 10 }));
    assert_eq!(file("none.yaml", 1).await, Ok(None), "what says that there is none is no file, and has no limit");
    assert_eq!(file("folder", 100).await, Ok(None));
    assert!(file("data", 100).await.unwrap().is_some_and(|text| text.contains('\u{fffd}')), "what is no text is shown as such");
    let asked = server.asked();
    assert_eq!(asked[0].headers["accept"], "application/vnd.github.raw+json");
    assert_eq!(asked[0].headers["x-github-api-version"], "2022-11-28");
    assert!(asked[0].line.ends_with(&format!("?ref={}", sha(1))));
}

#[tokio::test]
async fn a_path_that_leads_elsewhere_is_not_asked_for() {
    let server = Server::new(|_| with(200, &[("content-type", "text/plain")], "secret")).await;
    let github = server.person();
    for path in ["../../../../user", "a/../b", "a//b", "", ".", "a/./b"] {
        assert_eq!(github.file(&shop(), &sha(1), path, 100).await, Ok(None), "{path}");
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn names_are_data_in_a_document_and_never_a_part_of_it() {
    let server = Server::new(|_| data(&json!({ "repository": null, "h0": null }))).await;
    let evil = Branch {
        repository: Repository { owner: "a\"){viewer{login}}#".to_owned(), name: "../x".to_owned() },
        name: Some("b\"}}".to_owned()),
    };
    let github = server.person();
    let _ = github.heads(std::slice::from_ref(&evil)).await;
    let _ = github.history(&evil, None, 1).await;
    let _ = github.file(&evil.repository, &sha(1), "f", 1).await;
    assert!(server.documents().iter().all(|asked| !asked.document().contains("viewer")));
    let last = server.lines().pop().unwrap();
    assert!(last.starts_with("GET /repos/a%22%29%7Bviewer%7Blogin%7D%7D%23/..%2Fx/contents/f?"), "{last}");
}
