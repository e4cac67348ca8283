//! Who may come in: JWTs, tokens, `ETag`s, limits, manifests.

use std::time::Duration;

use haldane::clock::Clock as _;
use serde_json::json;

use crate::{
    forge::{TokenForm, keys::AppKey, limits::Limits},
    support::{Stage, jwt, openssl, raw},
};

#[tokio::test]
async fn a_token_is_given_for_a_jwt_that_openssl_signed_and_dies_after_an_hour() {
    let stage = Stage::new();
    let there = stage.get("/repos/acme/checkout/installation", &stage.jwt(300)).await;
    assert_eq!((there.status, &there.json()["id"]), (200, &json!(stage.installation)));
    let token = stage.token().await;
    assert_eq!(token.len(), 40);
    assert_eq!(stage.get("/repos/acme/checkout", &token).await.json()["default_branch"], "main");
    stage.clock.advance(Duration::from_secs(3599));
    assert_eq!(stage.get("/repos/acme/checkout", &token).await.status, 200);
    stage.clock.advance(Duration::from_secs(1));
    let late = stage.get("/repos/acme/checkout", &token).await;
    assert_eq!((late.status, &late.json()["message"]), (401, &json!("Bad credentials")));
}

#[tokio::test]
async fn a_jwt_is_refused_for_what_is_wrong_with_it() {
    let stage = Stage::new();
    let app = stage.hub.app();
    let now = stage.clock.now().as_second();
    let fine = json!({"iat": now - 60, "exp": now + 600, "iss": app.id});
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = fine.clone();
        claims[name] = value;
        claims
    };
    let other = AppKey::generate().pem;
    for (pem, claims, status, said) in [
        (&app.pem, fine.clone(), 200, "Haldane"),
        (&app.pem, with("iss", json!(app.id.to_string())), 200, "Haldane"),
        (&app.pem, with("iss", json!(app.client_id)), 200, "Haldane"),
        (&app.pem, with("exp", json!(now + 601)), 401, "too far in the future"),
        (&app.pem, with("exp", json!(now)), 401, "future time at which the assertion expires"),
        (&app.pem, with("iat", json!(now + 5)), 401, "'iat'"),
        (&app.pem, with("iss", json!("nobody")), 404, "Integration not found"),
        (&app.pem, with("iss", json!(null)), 401, "'iss'"),
        (&other, fine.clone(), 401, "could not be decoded"),
    ] {
        let answer = stage.get("/app", &jwt(pem, &claims)).await;
        assert!(answer.status == status && answer.text().contains(said), "{claims}: {} {}", answer.status, answer.text());
    }
    for token in ["a.b.c", "not-a-jwt"] {
        assert_eq!(stage.get("/app", token).await.status, 401, "{token}");
    }
    let key = openssl(&["rsa", "-check", "-noout"], app.pem.as_bytes());
    assert!(String::from_utf8_lossy(&key).contains("RSA key ok"));
}

#[tokio::test]
async fn tokens_have_the_length_that_is_wanted_and_open_what_they_were_made_for() {
    let stage = Stage::new();
    stage.hub.repository("acme/other");
    stage.hub.token_form(TokenForm::Long);
    let long = stage.token().await;
    assert!(long.len() > 400 && long.starts_with(&format!("ghs_{}_", stage.hub.app().id)), "{long}");
    assert_eq!(stage.get("/repos/acme/other", &long).await.status, 200);
    stage.hub.token_form(TokenForm::Length(255));
    let path = format!("/app/installations/{}/access_tokens", stage.installation);
    let body = r#"{"repositories": ["checkout"], "permissions": {"contents": "read"}}"#;
    let answer = stage.call("POST", &path, &stage.jwt(300), &[], body).await.json();
    let narrow = answer["token"].as_str().unwrap();
    assert_eq!((narrow.len(), &answer["permissions"]), (255, &json!({"contents": "read"})));
    assert_eq!(stage.get("/repos/acme/checkout", narrow).await.status, 200);
    assert_eq!(stage.get("/repos/acme/other", narrow).await.status, 404);
    let unknown = stage.call("POST", &path, &stage.jwt(300), &[], r#"{"repositories": ["nothing"]}"#).await;
    assert_eq!(unknown.status, 422);
    let much = stage.call("POST", &path, &stage.jwt(300), &[], r#"{"permissions": {"contents": "write"}}"#).await;
    assert_eq!(much.status, 422);
}

#[tokio::test]
async fn what_was_revoked_suspended_or_uninstalled_is_closed() {
    let stage = Stage::new();
    let token = stage.token().await;
    stage.hub.revoke_tokens(stage.installation);
    assert_eq!(stage.get("/repos/acme/checkout", &token).await.status, 401);
    let token = stage.token().await;
    stage.hub.suspend(stage.installation);
    assert_eq!(stage.get("/repos/acme/checkout", &token).await.status, 403);
    let path = format!("/app/installations/{}/access_tokens", stage.installation);
    assert_eq!(stage.call("POST", &path, &stage.jwt(300), &[], "").await.status, 403);
    stage.hub.unsuspend(stage.installation);
    assert_eq!(stage.get("/repos/acme/checkout", &token).await.status, 200);
    stage.hub.uninstall(stage.installation);
    assert_eq!(stage.get("/repos/acme/checkout", &token).await.status, 401);
    assert_eq!(stage.get("/repos/acme/checkout/installation", &stage.jwt(300)).await.status, 404);
}

#[tokio::test]
async fn an_etag_answers_304_for_free_and_only_to_the_token_that_got_it() {
    let stage = Stage::new();
    let (one, other) = (stage.token().await, stage.token().await);
    let first = stage.get("/repos/acme/checkout", &one).await;
    let etag = first.header("etag").to_owned();
    let used = stage.hub.meter(stage.installation).rest;
    let again = stage.call("GET", "/repos/acme/checkout", &one, &[("if-none-match", &etag)], "").await;
    assert_eq!((again.status, again.body.len(), again.header("x-ratelimit-used")), (304, 0, first.header("x-ratelimit-used")));
    assert_eq!(stage.hub.meter(stage.installation).rest, used);
    let rotated = stage.call("GET", "/repos/acme/checkout", &other, &[("if-none-match", &etag)], "").await;
    assert_eq!(rotated.status, 200);
    stage.repo.rename("till");
    let moved = stage.call("GET", "/repos/acme/till", &one, &[("if-none-match", &etag)], "").await;
    assert_eq!(moved.status, 200);
}

#[tokio::test]
async fn too_many_requests_at_the_same_time_are_refused() {
    let stage = Stage::new();
    let token = stage.token().await;
    stage.hub.limits(Limits { together: 0, ..Limits::default() });
    let refused = stage.get("/repos/acme/checkout", &token).await;
    assert!(refused.status == 403 && refused.text().contains("secondary rate limit"), "{}", refused.text());
    stage.hub.limits(Limits { together: 1, ..Limits::default() });
    for _ in 0..3 {
        assert_eq!(stage.get("/repos/acme/checkout", &token).await.status, 200, "each is over before the next");
    }
}

#[tokio::test]
async fn the_hour_and_the_minute_have_limits_and_the_meter_knows_who_asked() {
    let stage = Stage::new();
    let token = stage.token().await;
    stage.hub.limits(Limits { rest: 3, graphql: 1, ..Limits::default() });
    for left in ["2", "1", "0"] {
        let answer = stage.get("/repos/acme/checkout", &token).await;
        assert_eq!((answer.status, answer.header("x-ratelimit-remaining")), (200, left));
    }
    let refused = stage.get("/repos/acme/checkout", &token).await;
    assert_eq!((refused.status, refused.header("x-ratelimit-remaining")), (403, "0"));
    let said = format!("API rate limit exceeded for installation ID {}.", stage.installation);
    assert_eq!(refused.json()["message"], said);
    let reset: i64 = refused.header("x-ratelimit-reset").parse().unwrap();
    assert_eq!(reset - stage.clock.now().as_second(), 3600);
    // The other budget is untouched, then it has its own end, said in an answer of 200.
    let cost = stage.query(&token, "{ rateLimit { cost remaining resetAt } }", json!({})).await;
    assert_eq!(cost["data"]["rateLimit"]["remaining"], 0);
    let over = stage.query(&token, "{ rateLimit { cost } }", json!({})).await;
    assert_eq!(over["errors"][0]["type"], "RATE_LIMITED");
    let used = stage.hub.meter(stage.installation);
    assert_eq!((used.requests, used.rest, used.graphql), (6, 3, 1));
    stage.clock.advance(Duration::from_hours(1));
    let token = stage.token().await;
    stage.hub.limits(Limits { rest_minute: 2, ..Limits::default() });
    for status in [200, 200, 403] {
        assert_eq!(stage.get("/repos/acme/checkout", &token).await.status, status);
    }
    let refused = stage.get("/repos/acme/checkout", &token).await;
    assert!(refused.text().contains("secondary rate limit") && refused.header("retry-after") == "60");
    stage.clock.advance(Duration::from_mins(1));
    assert_eq!(stage.get("/repos/acme/checkout", &token).await.status, 200);
}

#[tokio::test]
async fn a_confirmed_manifest_becomes_an_app_once() {
    let stage = Stage::new();
    let manifest = json!({
        "name": "Haldane of acme", "redirect_url": "http://127.0.0.1:1/done", "hook_attributes": {"url": "http://127.0.0.1:1/hooks"},
        "default_permissions": {"contents": "read"}, "default_events": ["push"],
    });
    let form = form_urlencoded::Serializer::new(String::new()).append_pair("manifest", &manifest.to_string()).finish();
    let headers = [("user-agent", "selftest"), ("content-type", "application/x-www-form-urlencoded")];
    let said = raw(stage.hub.url(), "POST", "/organizations/acme/settings/apps/new?state=s%201", &headers, &form).await.unwrap();
    let back = said.header("location").to_owned();
    assert!(said.status == 302 && back.starts_with("http://127.0.0.1:1/done?code=") && back.ends_with("&state=s+1"), "{back}");
    let code = back.split(['=', '&']).nth(1).unwrap();
    let path = format!("/app-manifests/{code}/conversions");
    let headers = [("user-agent", "selftest")];
    let made = raw(stage.hub.url(), "POST", &path, &headers, "").await.unwrap();
    assert_eq!(made.status, 201);
    let app = made.json();
    assert_eq!((&app["slug"], &app["permissions"]), (&json!("haldane-of-acme"), &json!({"contents": "read"})));
    assert_eq!(app["webhook_secret"].as_str().unwrap().len(), 40);
    let now = stage.clock.now().as_second();
    let token = jwt(app["pem"].as_str().unwrap(), &json!({"iat": now, "exp": now + 60, "iss": app["id"]}));
    assert_eq!(stage.get("/app", &token).await.json()["name"], "Haldane of acme");
    assert_eq!(raw(stage.hub.url(), "POST", &path, &headers, "").await.unwrap().status, 404);
    let late = stage.hub.confirm_manifest(manifest, "acme");
    stage.clock.advance(Duration::from_hours(1));
    assert_eq!(raw(stage.hub.url(), "POST", &format!("/app-manifests/{late}/conversions"), &headers, "").await.unwrap().status, 404);
}

#[tokio::test]
async fn who_does_not_say_who_they_are_is_sent_away() {
    let stage = Stage::new();
    let token = format!("Bearer {}", stage.token().await);
    let nameless = raw(stage.hub.url(), "GET", "/repos/acme/checkout", &[("authorization", &token)], "").await.unwrap();
    assert_eq!(nameless.status, 403);
    let nobody = raw(stage.hub.url(), "GET", "/repos/acme/checkout", &[("user-agent", "selftest")], "").await.unwrap();
    assert_eq!(nobody.status, 404);
    let version = [("user-agent", "selftest"), ("authorization", token.as_str()), ("x-github-api-version", "2020-01-01")];
    assert_eq!(raw(stage.hub.url(), "GET", "/repos/acme/checkout", &version, "").await.unwrap().status, 400);
}
