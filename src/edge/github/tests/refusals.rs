//! A GitHub that is ill, slow, or has had enough.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    server::{MINT, door},
    *,
};
use crate::clock::Clock;

async fn asks(github: &GitHub) -> Result<Sha, ForgeError> {
    github.heads(&[main_branch()]).await?.remove(0)
}

async fn reads(github: &GitHub) -> Result<Option<String>, ForgeError> {
    github.file(&shop(), &sha(1), "a", 100).await
}

fn head() -> Value {
    json!({ "h0": { "at": { "target": { "oid": sha(1) } } } })
}

#[tokio::test]
async fn a_post_that_is_answered_with_an_error_is_sent_once() {
    for status in [500, 502, 503, 504, 429, 403] {
        let server = Server::new(move |_| with(status, &[("retry-after", "0")], "<html>")).await;
        asks(&server.person()).await.unwrap_err();
        assert_eq!(server.lines(), ["POST /graphql"], "{status}");
    }
}

#[tokio::test]
async fn an_ill_forge_is_told_by_its_status_and_words() {
    for (status, body, said) in [
        (500, json!({ "message": "oh\nno" }).to_string(), "500: oh no"),
        (502, "<html>".to_owned(), "502: Bad Gateway"),
        (503, "x".repeat(1 << 20), "503: Service Unavailable"),
        (302, String::new(), "302: Found"),
    ] {
        let server = Server::new(move |_| with(status, &[], body.clone())).await;
        assert_eq!(reads(&server.person()).await, Err(ForgeError::Ill { said: said.to_owned() }));
    }
    let many = json!({ "message": "x".repeat(5000) });
    let server = Server::new(move |_| says(500, &many)).await;
    assert!(reads(&server.person()).await.unwrap_err().to_string().len() < 300);
}

#[tokio::test]
async fn nobody_there_is_ill() {
    let server = Server::new(|_| Reply::Never).await;
    let github = server.person();
    drop(server);
    // The port may be given to somebody else, whose answer is none of GitHub's either.
    assert!(asks(&github).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn no_answer_in_ten_seconds_is_slow() {
    let server = Server::new(|_| Reply::Never).await;
    let watch = crate::clock::Stopwatch::start();
    assert_eq!(asks(&server.person()).await, Err(ForgeError::Slow { limit: LIMIT }));
    assert_eq!(watch.elapsed().as_secs(), 10);
}

/// The status, headers and words of a refusal, and when it is over, in seconds from now.
type Refusal = (u16, Vec<(&'static str, String)>, &'static str, i64);

fn silences(now: i64) -> Vec<Refusal> {
    let (spent, left) = (("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-remaining", "4000".to_owned()));
    let after = |seconds: i64| ("retry-after", seconds.to_string());
    let resets = |seconds: i64| ("x-ratelimit-reset", (now + seconds).to_string());
    let secondary = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
    vec![
        (403, vec![after(90), left.clone()], secondary, 90),
        (429, vec![after(7)], "", 7),
        (403, vec![spent.clone(), resets(1800)], "API rate limit exceeded for installation ID 7.", 1800),
        (429, vec![spent.clone(), resets(1800)], "", 1800),
        (403, vec![left.clone(), resets(1800)], secondary, 60),
        (429, vec![], "", 60),
        (403, vec![spent.clone()], "", 60),
        // Our clock is ahead.
        (403, vec![spent.clone(), resets(-30)], "", 60),
        (403, vec![spent, ("x-ratelimit-reset", "soon".to_owned())], "", 60),
        (429, vec![("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT".to_owned())], "", 60),
        // More than anybody means.
        (429, vec![after(i64::MAX)], "", 7200),
    ]
}

#[tokio::test]
async fn a_forge_that_has_had_enough_is_not_asked_until_it_says() {
    let now = Server::new(|_| Reply::Never).await.clock.now();
    for (status, headers, message, seconds) in silences(now.as_second()) {
        let shown = format!("{status} {headers:?} {message}");
        let server = Server::new(move |_| {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            with(status, &headers, json!({ "message": message }).to_string())
        })
        .await;
        let github = server.person();
        let until = now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        assert_eq!(asks(&github).await, Err(ForgeError::Limited { until }), "{shown}");
        assert_eq!(github.budgets()[0].silent_until, Some(until), "{shown}");
        server.clock.move_on(SignedDuration::from_secs(seconds - 1));
        assert_eq!(asks(&github).await, Err(ForgeError::Limited { until }), "{shown}");
        assert_eq!(reads(&github).await, Err(ForgeError::Limited { until }), "{shown}: secondary limits are for both APIs");
        assert_eq!(server.asked().len(), 1, "{shown}");
        server.clock.move_on(SignedDuration::from_secs(1));
        assert_ne!(asks(&github).await, Err(ForgeError::Limited { until }), "{shown}");
        assert_eq!(server.asked().len(), 2, "{shown}");
    }
}

#[tokio::test]
async fn a_403_that_is_not_about_limits_is_a_refusal() {
    let server = Server::new(|_| says(403, &json!({ "message": "Resource not accessible by integration" }))).await;
    let said = "403: Resource not accessible by integration".to_owned();
    assert_eq!(asks(&server.person()).await, Err(ForgeError::Denied { said }));
}

#[tokio::test]
async fn graphql_says_that_it_has_had_enough_with_a_200() {
    for error in [
        json!({ "type": "RATE_LIMITED", "message": "API rate limit exceeded" }),
        json!({ "type": "RATE_LIMIT", "code": "graphql_rate_limit", "message": "API rate limit already exceeded" }),
        json!({ "message": "You have exceeded a secondary rate limit." }),
    ] {
        let server = Server::new(move |_| {
            let reset = "1763640060";
            with(200, &[("x-ratelimit-reset", reset)], json!({ "errors": [error] }).to_string())
        })
        .await;
        let github = server.person();
        let until = server.clock.now().checked_add(SignedDuration::from_mins(1)).unwrap();
        assert_eq!(asks(&github).await, Err(ForgeError::Limited { until }));
        assert_eq!(reads(&github).await, Err(ForgeError::Limited { until }));
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test]
async fn one_installation_that_is_limited_does_not_silence_another() {
    let server = Server::new(|asked| {
        let ends = Timestamp::MAX.to_string();
        match asked.line.as_str() {
            "GET /repos/other/site/installation" => says(200, &json!({ "id": 8 })),
            "POST /app/installations/8/access_tokens" => says(201, &json!({ "token": "ghs_other", "expires_at": ends })),
            _ if asked.headers["authorization"] == "Bearer ghs_other" => data(&head()),
            _ => door(asked, Timestamp::MAX).unwrap_or_else(|| with(429, &[("retry-after", "60")], "")),
        }
    })
    .await;
    let github = server.app();
    let heads = github.heads(&[main_branch(), branch("other/site", "main")]).await.unwrap();
    assert!(matches!(heads[0], Err(ForgeError::Limited { .. })));
    assert_eq!(heads[1], Ok(sha(1)));
    let silent: Vec<_> = github.budgets().into_iter().map(|budget| (budget.of, budget.silent_until.is_some())).collect();
    assert_eq!(silent, [("(app)".to_owned(), false), ("acme".to_owned(), true), ("other".to_owned(), false)]);
}

#[tokio::test]
async fn no_token_is_made_for_a_question_that_may_not_be_asked() {
    let server = Server::with_app(|_| with(429, &[("retry-after", "7000")], "")).await;
    let github = server.app();
    asks(&github).await.unwrap_err();
    server.clock.move_on(SignedDuration::from_mins(58));
    assert!(matches!(asks(&github).await, Err(ForgeError::Limited { .. })));
    assert_eq!(server.times(MINT), 1);
}

#[tokio::test]
async fn a_spent_budget_closes_its_own_api_alone() {
    let server = Server::new(|asked| {
        let spent = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795176600")];
        if asked.line.starts_with("GET ") { with(200, &spent, "text") } else { data(&head()) }
    })
    .await;
    let github = server.person();
    assert_eq!(reads(&github).await, Ok(Some("text".to_owned())), "the answer itself is good");
    assert!(matches!(reads(&github).await, Err(ForgeError::Limited { .. })));
    assert_eq!(asks(&github).await, Ok(sha(1)));
}

#[tokio::test]
async fn budgets_can_be_read() {
    let server = Server::with_app(|asked| {
        if asked.line.starts_with("GET ") {
            let core = [("x-ratelimit-limit", "5000"), ("x-ratelimit-remaining", "4990"), ("x-ratelimit-reset", "1795176600")];
            return with(200, &core, "text");
        }
        let mut answer = head();
        answer["rateLimit"] = json!({ "cost": 2, "limit": 12500, "remaining": 12000, "resetAt": "2026-11-20T12:30:00Z" });
        data(&answer)
    })
    .await;
    let github = server.app();
    asks(&github).await.unwrap();
    asks(&github).await.unwrap();
    reads(&github).await.unwrap();
    let [app, acme] = github.budgets().try_into().unwrap();
    assert_eq!((app.of.as_str(), app.rest.calls, app.rest.limit), ("(app)", 2, None));
    let resets = "2026-11-20T12:30:00Z".parse().ok();
    let rest = Rate { limit: Some(5000), remaining: Some(4990), resets: Timestamp::from_second(1_795_176_600).ok(), calls: 1, cost: 1 };
    let graphql = Rate { limit: Some(12500), remaining: Some(12000), resets, calls: 2, cost: 4 };
    assert_eq!(acme, Budget { of: "acme".to_owned(), rest, graphql, silent_until: None });
}

#[tokio::test]
async fn a_forge_that_is_ill_is_not_asked_for_the_rest_of_a_thousand() {
    let server = Server::new(|_| with(502, &[], "")).await;
    let branches: Vec<_> = (0..1000).map(|number| branch(&format!("acme/r{number}"), "")).collect();
    let error = server.person().heads(&branches).await.unwrap_err();
    assert_eq!(error, ForgeError::Ill { said: "502: Bad Gateway".to_owned() });
    assert_eq!(server.asked().len(), 1);
    let branches: Vec<_> = (0..100).map(|number| branch(&format!("owner{number}/shop"), "")).collect();
    assert_eq!(server.app().heads(&branches).await, Err(error));
    assert_eq!(server.asked().len(), 2);
}
