//! Who asks, and with which token.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::future::join_all;
use jiff::SignedDuration;
use octocrab::jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};

use super::{
    super::wire::RAW,
    server::{Asked, LOOK_UP, MINT, door, key, public_key},
    *,
};

const LONG_TOKEN: usize = 4000;

fn head() -> Reply {
    data(&json!({ "h0": { "at": { "target": { "oid": sha(1) } } } }))
}

async fn asks(github: &GitHub) -> Result<Sha, ForgeError> {
    github.heads(&[main_branch()]).await?.remove(0)
}

#[tokio::test]
async fn eight_who_come_at_once_look_up_one_installation_and_mint_one_token() {
    let server = Server::with_app(|_| head()).await;
    let github = server.app();
    let answers = join_all((0..8).map(|_| asks(&github))).await;
    assert_eq!(answers, vec![Ok(sha(1)); 8]);
    assert_eq!((server.times(LOOK_UP), server.times(MINT), server.documents().len()), (1, 1, 8));
    assert!(server.documents().iter().all(|asked| asked.bearer() == "ghs_installation"));
}

#[tokio::test]
async fn fifty_repositories_of_one_account_are_one_question_about_it() {
    let server = Server::with_app(|_| head()).await;
    let github = server.app();
    let branches: Vec<_> = (0..50).map(|number| branch(&format!("acme/r{number}"), "")).collect();
    let answers = join_all(branches.iter().map(|branch| github.heads(std::slice::from_ref(branch)))).await;
    assert_eq!(answers, vec![Ok(vec![Ok(sha(1))]); 50]);
    assert_eq!(server.lines().iter().filter(|line| line.ends_with("/installation")).count(), 1);
}

#[tokio::test]
async fn a_repository_that_is_not_there_says_nothing_of_its_neighbours() {
    let gone = "GET /repos/acme/gone/installation";
    let server = Server::new(move |asked| match door(asked, jiff::Timestamp::MAX) {
        Some(_) if asked.line == gone => says(404, &json!({ "message": "Not Found" })),
        answer => answer.unwrap_or_else(head),
    })
    .await;
    let github = server.app();
    let branches = ["acme/gone", "acme/here", "acme/there"].map(|name| branch(name, ""));
    let answers = join_all(branches.iter().map(|branch| github.heads(std::slice::from_ref(branch)))).await;
    assert_eq!(answers, [Ok(vec![Err(absent("acme/gone"))]), Ok(vec![Ok(sha(1))]), Ok(vec![Ok(sha(1))])]);
    assert_eq!(server.times(gone), 1);
}

#[tokio::test]
async fn eight_who_wait_for_a_forge_that_is_ill_ask_it_once() {
    let server = Server::new(|asked| match asked.line.as_str() {
        MINT => says(503, &json!({ "message": "tired" })),
        _ => door(asked, jiff::Timestamp::MAX).unwrap(),
    })
    .await;
    let github = server.app();
    let answers = join_all((0..8).map(|_| asks(&github))).await;
    assert_eq!(answers, vec![Err(ForgeError::Ill { said: "503: tired".to_owned() }); 8]);
    assert_eq!((server.times(LOOK_UP), server.times(MINT)), (1, 1));
}

#[tokio::test]
async fn a_repository_of_a_known_account_is_not_looked_up() {
    let server = Server::with_app(|asked| {
        let of = |at| json!({ "at": { "target": { "oid": sha(at) } } });
        data(&if asked.variable("o1").is_null() { json!({ "h0": of(1) }) } else { json!({ "h0": of(1), "h1": of(2) }) })
    })
    .await;
    let github = server.app();
    asks(&github).await.unwrap();
    let heads = github.heads(&[branch("Acme/shop", "main"), branch("acme/site", "")]).await.unwrap();
    assert_eq!(heads, [Ok(sha(1)), Ok(sha(2))]);
    assert_eq!((server.times(LOOK_UP), server.times(MINT)), (1, 1));
}

#[tokio::test]
async fn the_app_proves_itself_by_a_signature_that_lasts_ten_minutes_and_began_a_minute_ago() {
    let server = Server::with_app(|_| head()).await;
    asks(&server.app()).await.unwrap();
    let mut rules = Validation::new(Algorithm::RS256);
    rules.validate_exp = false;
    let trusted = DecodingKey::from_rsa_pem(public_key().as_bytes()).unwrap();
    for asked in server.asked().iter().filter(|asked| asked.line == LOOK_UP || asked.line == MINT) {
        let claims = decode::<Value>(asked.bearer(), &trusted, &rules).unwrap().claims;
        let now = server.clock.now().as_second();
        assert_eq!(claims, json!({ "iat": now - 60, "exp": now + 540, "iss": "42" }));
    }
}

#[tokio::test]
async fn a_token_is_asked_to_read_and_nothing_more_of_what_was_granted() {
    let server = Server::with_app(|_| head()).await;
    asks(&server.app()).await.unwrap();
    let minted = server.asked().into_iter().find(|asked| asked.line == MINT).unwrap();
    assert_eq!(minted.body, json!({ "permissions": { "checks": "read", "contents": "read", "metadata": "read" } }));
}

#[tokio::test]
async fn a_token_is_renewed_five_minutes_before_its_end() {
    let server = Server::with_app(|_| head()).await;
    let github = server.app();
    asks(&github).await.unwrap();
    server.clock.move_on(SignedDuration::from_mins(54));
    asks(&github).await.unwrap();
    assert_eq!(server.times(MINT), 1);
    server.clock.move_on(SignedDuration::from_mins(1));
    asks(&github).await.unwrap();
    assert_eq!(server.times(MINT), 2);
}

#[tokio::test]
async fn a_token_that_lasts_a_minute_is_used_for_most_of_it() {
    let minted = Mutex::new(None::<jiff::Timestamp>);
    let clock = server::Hands::new();
    let shared = clock.clone();
    let mut server = Server::new(move |asked| {
        let now = shared.now();
        *minted.lock().unwrap() = Some(now);
        door(asked, now.checked_add(SignedDuration::from_mins(1)).unwrap()).unwrap_or_else(head)
    })
    .await;
    server.clock = clock;
    let github = server.app();
    for (seconds, times) in [(0, 1), (44, 1), (1, 2)] {
        server.clock.move_on(SignedDuration::from_secs(seconds));
        asks(&github).await.unwrap();
        assert_eq!(server.times(MINT), times);
    }
}

/// One that mints `ghs_1`, `ghs_2` and so on.
async fn one_that_takes_only(token: &'static str) -> Server {
    let minted = AtomicUsize::new(0);
    Server::new(move |asked: &Asked| {
        if asked.line == MINT {
            let number = minted.fetch_add(1, Ordering::SeqCst) + 1;
            return says(201, &json!({ "token": format!("ghs_{number}"), "expires_at": "2026-11-20T13:00:00Z" }));
        }
        if asked.line.ends_with("/graphql") && asked.bearer() != token {
            return says(401, &json!({ "message": "Bad credentials" }));
        }
        door(asked, jiff::Timestamp::MAX).unwrap_or_else(head)
    })
    .await
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_forgotten_and_renewed_once() {
    let server = one_that_takes_only("ghs_2").await;
    let github = server.app();
    assert_eq!(asks(&github).await, Ok(sha(1)));
    assert_eq!(asks(&github).await, Ok(sha(1)));
    assert_eq!((server.times(MINT), server.documents().len()), (2, 3));
}

#[tokio::test]
async fn eight_whose_token_is_not_taken_renew_it_once() {
    let server = one_that_takes_only("ghs_2").await;
    let github = server.app();
    assert_eq!(join_all((0..8).map(|_| asks(&github))).await, vec![Ok(sha(1)); 8]);
    assert_eq!(server.times(MINT), 2);
}

#[tokio::test]
async fn a_token_that_is_not_taken_either_is_the_end_of_it() {
    let server = one_that_takes_only("ghs_0").await;
    let denied = asks(&server.app()).await.unwrap_err();
    assert_eq!(denied, ForgeError::Denied { said: "401: Bad credentials".to_owned() });
    assert_eq!((server.times(MINT), server.documents().len()), (2, 2));
}

#[tokio::test]
async fn a_person_whose_token_is_not_taken_is_told_at_once() {
    let server = Server::new(|_| says(401, &json!({ "message": "Bad credentials" }))).await;
    assert!(matches!(asks(&server.person()).await, Err(ForgeError::Denied { .. })));
    assert_eq!(server.lines(), ["POST /graphql"]);
    assert_eq!(server.asked()[0].bearer(), "ghp_person");
}

#[tokio::test]
async fn a_token_may_be_of_any_length() {
    let long = "a".repeat(LONG_TOKEN);
    let token = format!("ghs_42_{long}");
    let minted = token.clone();
    let server = Server::new(move |asked| {
        if asked.line == MINT {
            return says(201, &json!({ "token": minted, "expires_at": "2026-11-20T13:00:00Z" }));
        }
        door(asked, jiff::Timestamp::MAX).unwrap_or_else(head)
    })
    .await;
    assert_eq!(asks(&server.app()).await, Ok(sha(1)));
    assert_eq!(server.documents()[0].bearer(), token);
}

#[tokio::test]
async fn a_repository_without_the_app_is_not_asked_for_again_for_two_minutes() {
    let server = Server::new(|_| says(404, &json!({ "message": "Not Found" }))).await;
    let github = server.app();
    for (minutes, times) in [(0, 1), (1, 1), (1, 2)] {
        server.clock.move_on(SignedDuration::from_mins(minutes));
        assert_eq!(asks(&github).await, Err(absent("acme/shop")));
        assert_eq!(server.times(LOOK_UP), times);
    }
}

#[tokio::test]
async fn an_installation_that_is_gone_is_looked_up_again() {
    let gone = AtomicUsize::new(0);
    let server = Server::new(move |asked| {
        if asked.line == MINT && gone.fetch_add(1, Ordering::SeqCst) == 0 {
            return says(404, &json!({ "message": "Not Found" }));
        }
        door(asked, jiff::Timestamp::MAX).unwrap_or_else(head)
    })
    .await;
    let github = server.app();
    assert_eq!(asks(&github).await, Err(absent("the app's installation on acme")));
    assert_eq!(asks(&github).await, Ok(sha(1)));
    assert_eq!(server.times(LOOK_UP), 2);
}

#[tokio::test]
async fn what_a_suspended_installation_is_told_is_passed_on() {
    let server = Server::new(|asked| match asked.line.as_str() {
        MINT => says(403, &json!({ "message": "This installation has been suspended" })),
        _ => door(asked, jiff::Timestamp::MAX).unwrap(),
    })
    .await;
    let said = "403: This installation has been suspended".to_owned();
    assert_eq!(asks(&server.app()).await, Err(ForgeError::Denied { said }));
}

#[tokio::test]
async fn a_repository_that_was_renamed_is_followed_on_the_same_host_alone() {
    let server = Server::with_app(|asked| match asked.line.as_str() {
        "GET /repositories/5/contents/a?ref=1" => with(200, &[("content-type", RAW)], "moved"),
        line if line.contains("/old/") => with(301, &[("location", "/repositories/5/contents/a?ref=1")], ""),
        _ => with(302, &[("location", "http://127.0.0.1:1/steal")], ""),
    })
    .await;
    let github = server.app();
    let old = Repository::parse("acme/old").unwrap();
    assert_eq!(github.file(&old, &sha(1), "a", 10).await, Ok(Some("moved".to_owned())));
    assert_eq!(github.file(&shop(), &sha(1), "a", 10).await, Err(ForgeError::Ill { said: "302: Found".to_owned() }));
}

#[tokio::test]
async fn nothing_that_is_shown_holds_a_secret() {
    let server = Server::new(|asked| {
        let echo = asked.headers["authorization"].to_str().unwrap();
        match asked.line.as_str() {
            MINT => says(201, &json!({ "token": "ghs_installation", "expires_at": "ghs_installation" })),
            line if line.ends_with("/installation") => door(asked, jiff::Timestamp::MAX).unwrap(),
            _ => says(500, &json!({ "message": format!("what is {echo}?") })),
        }
    })
    .await;
    let (app, person) = (server.app(), server.person());
    let errors = [asks(&app).await.unwrap_err(), asks(&person).await.unwrap_err()];
    let words = errors.iter().map(ToString::to_string).collect::<Vec<_>>();
    let shown = format!("{app:?} {person:?} {errors:?} {words:?} {:?} {:?}", app.budgets(), person.budgets());
    assert!(shown.contains("what is Bearer …?"), "{shown}");
    let jwts = server.asked().iter().map(|asked| asked.bearer().to_owned()).collect::<BTreeSet<_>>();
    assert!(jwts.len() > 1);
    for secret in jwts.iter().map(String::as_str).chain(["ghs_installation", "ghp_person", "PRIVATE KEY"]) {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    for line in key().lines().filter(|line| !line.is_empty()) {
        assert!(!shown.contains(line));
    }
}

#[test]
fn what_is_no_key_token_or_address_is_refused_with_words() {
    assert_eq!(Access::app(1, b"-----BEGIN PUBLIC KEY-----").unwrap_err(), SetupError::Key);
    for token in ["", " \n", "a b", "ä"] {
        assert_eq!(Access::token(token).unwrap_err(), SetupError::Token);
    }
    assert!(Access::token("ghp_x\n").is_ok(), "files end with a new line");
}

#[tokio::test]
async fn an_address_leads_to_both_apis() {
    let server = Server::new(|_| head()).await;
    let github = server.client("/api/v3/", Access::token("ghp_person").unwrap());
    asks(&github).await.unwrap();
    let _ = github.file(&shop(), &sha(1), "a", 10).await;
    assert_eq!(server.lines(), ["POST /api/graphql".to_owned(), format!("GET /api/v3/repos/acme/shop/contents/a?ref={}", sha(1))]);
    let refused = |base: &str| match Wire::new(base) {
        Err(SetupError::Base { base, .. }) => base,
        _ => panic!("{base} is taken"),
    };
    for base in ["", "api.github.com", "ftp://api.github.com", "https://github.com", "https://api.github.com/?a=b", "https://"] {
        refused(base);
    }
    assert_eq!(refused("https://me:secret@ghe.acme.example/api/v3"), "ghe.acme.example/api/v3");
}
