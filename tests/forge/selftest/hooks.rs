//! Webhooks: what is told, that it is signed, and the ways in which it goes wrong.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    forge::{Checks, HookFault, Method, hooks::Release},
    support::{Receiver, Stage, openssl},
};

async fn listening() -> (Stage, Receiver) {
    let (stage, receiver) = (Stage::new(), Receiver::start().await);
    stage.hub.webhook(&receiver.url, "s3cret");
    (stage, receiver)
}

fn heads(receiver: &Receiver) -> Vec<String> {
    receiver.events("push").iter().map(|push| push["head_commit"]["message"].as_str().unwrap_or("deleted").to_owned()).collect()
}

/// As openssl signs it.
fn signed(body: &[u8], secret: &str) -> String {
    let said = String::from_utf8(openssl(&["dgst", "-sha256", "-hmac", secret], body)).unwrap();
    format!("sha256={}", said.rsplit(' ').next().unwrap().trim())
}

#[tokio::test]
async fn a_push_is_told_with_a_signature_that_openssl_finds_right() {
    let (stage, receiver) = listening().await;
    let first = stage.repo.commit("main", "first");
    let second = stage.repo.commit("main", "second");
    stage.hub.hooks_settle().await;
    let told = receiver.told();
    assert_eq!(told.len(), 2);
    assert_eq!(told[1].header("x-hub-signature-256"), signed(&told[1].body, "s3cret"));
    assert_eq!(told[1].header("x-github-event"), "push");
    let push = told[1].json();
    for (name, value) in [
        ("ref", json!("refs/heads/main")),
        ("before", json!(first)),
        ("after", json!(second)),
        ("created", json!(false)),
        ("deleted", json!(false)),
        ("forced", json!(false)),
    ] {
        assert_eq!(push[name], value, "{name}");
    }
    assert_eq!((&push["head_commit"]["id"], push["commits"].as_array().unwrap().len()), (&json!(second), 1));
    assert_eq!((&push["repository"]["full_name"], &push["installation"]["id"]), (&json!("acme/checkout"), &json!(stage.installation)));
    assert!(told[0].json()["created"] == true && told[0].header("x-github-delivery") != told[1].header("x-github-delivery"));
}

#[tokio::test]
async fn rewritten_and_deleted_branches_are_told_as_such() {
    let (stage, receiver) = listening().await;
    let first = stage.repo.commit("main", "first");
    stage.repo.commit("main", "second");
    stage.repo.force_push("main", &first);
    stage.repo.commit("feature", "third");
    stage.repo.delete_branch("feature");
    stage.hub.hooks_settle().await;
    let pushes = receiver.events("push");
    let told: Vec<_> = pushes.iter().map(|push| (push["created"] == true, push["forced"] == true, push["deleted"] == true)).collect();
    let (new, plain, forced, gone) = ((true, false, false), (false, false, false), (false, true, false), (false, false, true));
    assert_eq!(told, [new, plain, forced, new, gone]);
    assert_eq!(pushes[4]["head_commit"], Value::Null);
}

#[tokio::test]
async fn a_workflow_starts_on_the_head_of_a_push_and_is_told_until_it_ends() {
    let receiver = Receiver::start().await;
    let stage = Stage::new();
    let repo = stage.hub.repository_with("acme/built", &["ci"]);
    stage.hub.webhook(&receiver.url, "s3cret");
    repo.commit("main", "first");
    let numbers = [repo.change("one", "one"), repo.change("two", "two")];
    let head = repo.merge_group(&numbers);
    repo.commit("main", "words [skip ci]");
    repo.checks(&head, Checks::actions("ci").running(2));
    repo.checks(&head, Checks::actions("ci").done("success"));
    repo.status(&head, "ci/other", "success");
    repo.package("built", "sha-1");
    stage.hub.hooks_settle().await;
    let of_head = |event: &str, name: &str| -> Vec<_> {
        let mine = receiver.events(event).into_iter().filter(|told| told[name]["head_sha"] == json!(head));
        mine.map(|told| format!("{} {}", told["action"].as_str().unwrap(), told[name]["status"].as_str().unwrap())).collect()
    };
    assert_eq!(of_head("workflow_run", "workflow_run"), ["requested queued", "in_progress in_progress", "completed completed"]);
    assert_eq!(of_head("check_suite", "check_suite"), ["requested queued", "completed completed"]);
    // main, one, two, and the group: its first commit and the one that says so start nothing.
    let started: Vec<_> = receiver.events("workflow_run").iter().filter(|told| told["action"] == "requested").cloned().collect();
    assert_eq!(started.len(), 4);
    assert_eq!(started[3]["workflow_run"]["head_branch"], "main");
    assert_eq!((receiver.events("status").len(), receiver.events("package").len(), receiver.events("registry_package").len()), (1, 1, 1));
    assert_eq!(receiver.events("registry_package")[0]["registry_package"]["package_version"]["container_metadata"]["tag"]["name"], "sha-1");
}

#[tokio::test]
async fn deliveries_are_lost_doubled_late_and_wrongly_signed_as_told() {
    let (stage, receiver) = listening().await;
    stage.hub.hook_faults(&[
        HookFault::Drop,
        HookFault::Twice,
        HookFault::Late,
        HookFault::None,
        HookFault::WrongSecret,
        HookFault::Delay(1),
    ]);
    for message in ["lost", "double", "late", "early", "forged", "slow"] {
        stage.repo.commit("main", message);
    }
    stage.hub.hooks_settle().await;
    assert_eq!(heads(&receiver), ["double", "double", "early", "late", "forged", "slow"]);
    let told = receiver.told();
    assert_eq!(told[0].header("x-github-delivery"), told[1].header("x-github-delivery"));
    for (at, right) in [(3, true), (4, false), (5, true)] {
        assert_eq!(told[at].header("x-hub-signature-256") == signed(&told[at].body, "s3cret"), right, "{at}");
    }
}

#[tokio::test]
async fn what_is_held_goes_out_in_the_order_that_a_test_wants() {
    let (stage, receiver) = listening().await;
    stage.hub.hold_hooks();
    for message in ["one", "two", "three"] {
        stage.repo.commit("main", message);
    }
    stage.hub.hooks_settle().await;
    assert_eq!(heads(&receiver), Vec::<String>::new());
    stage.hub.release_hooks(Release::Reversed);
    stage.repo.commit("main", "four");
    stage.hub.hooks_settle().await;
    assert_eq!(heads(&receiver), ["three", "two", "one", "four"]);
}

#[tokio::test]
async fn what_failed_is_listed_and_comes_again_under_the_same_guid() {
    let (stage, receiver) = listening().await;
    receiver.answers(503);
    stage.hub.hook_faults(&[HookFault::None, HookFault::Drop]);
    stage.repo.commit("main", "refused");
    stage.repo.commit("main", "lost");
    stage.hub.hooks_settle().await;
    receiver.answers(202);
    stage.repo.commit("main", "fine");
    stage.hub.hooks_settle().await;
    let app = stage.jwt(300);
    let page = stage.get("/app/hook/deliveries?per_page=2", &app).await;
    let link = page.header("link").to_owned();
    let next = link.strip_prefix(&format!("<{}", stage.hub.url())).unwrap().split('>').next().unwrap().to_owned();
    let mut listed = page.json().as_array().unwrap().clone();
    listed.extend(stage.get(&next, &app).await.json().as_array().unwrap().clone());
    let codes: Vec<_> = listed.iter().map(|one| (one["status"].as_str().unwrap(), one["status_code"].as_u64().unwrap())).collect();
    assert_eq!(codes, [("OK", 202), ("timed out", 0), ("Invalid HTTP Response: 503", 503)]);
    let failures = stage.get("/app/hook/deliveries?status=failure", &app).await.json();
    assert_eq!(failures.as_array().unwrap().len(), 1, "what nobody answered is no failure: {failures}");
    for old in &listed[1..] {
        let path = format!("/app/hook/deliveries/{}/attempts", old["id"]);
        assert_eq!(stage.call("POST", &path, &app, &[], "").await.status, 202);
    }
    stage.hub.hooks_settle().await;
    assert_eq!(heads(&receiver), ["refused", "fine", "lost", "refused"]);
    assert_eq!(receiver.told()[2].header("x-github-delivery"), listed[1]["guid"].as_str().unwrap());
    let newest = stage.get("/app/hook/deliveries?per_page=1", &app).await.json()[0].clone();
    assert_eq!((&newest["redelivery"], &newest["guid"], &newest["status"]), (&json!(true), &listed[2]["guid"], &json!("OK")));
    let whole = stage.get(&format!("/app/hook/deliveries/{}", newest["id"]), &app).await.json();
    assert_eq!(whole["request"]["payload"]["head_commit"]["message"], "refused");
    assert_eq!(whole["request"]["headers"]["X-GitHub-Event"], "push");
    stage.clock.advance(Duration::from_hours(3 * 24));
    assert_eq!(stage.get("/app/hook/deliveries", &stage.jwt(300)).await.json(), json!([]));
    let path = format!("/app/hook/deliveries/{}/attempts", newest["id"]);
    assert_eq!(stage.call("POST", &path, &stage.jwt(300), &[], "").await.status, 404);
}

#[tokio::test]
async fn nobody_is_told_of_what_they_cannot_see() {
    let (stage, receiver) = listening().await;
    stage.hub.repository("other/thing").commit("main", "elsewhere");
    stage.hub.suspend(stage.installation);
    stage.repo.commit("main", "while suspended");
    stage.hub.unsuspend(stage.installation);
    let number = stage.repo.change("one", "one");
    stage.repo.merge(number, Method::Squash);
    stage.hub.hooks_settle().await;
    assert_eq!(heads(&receiver), ["one", "one (#1)"]);
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_a_delivery_that_failed() {
    let stage = Stage::new();
    // A place that is taken, and where nobody listens.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    stage.hub.webhook(&format!("http://{}/", taken.local_addr().unwrap()), "s3cret");
    stage.repo.commit("main", "first");
    stage.hub.hooks_settle().await;
    let deliveries = stage.hub.deliveries();
    assert_eq!((deliveries[0].status.as_deref(), deliveries[0].status_code), (Some("failed to connect"), 502));
}
