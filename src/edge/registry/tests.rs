//! The client against a registry that misbehaves: what is asked, what is never sent, what a person would read.

pub(super) mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::*;
use server::{Ca, Heard, Reply, Server, TestClock};

const REVISION: &str = "org.opencontainers.image.revision";
const SOURCE: &str = "org.opencontainers.image.source";
const UNAUTHORIZED: &str = r#"{"errors":[{"code":"UNAUTHORIZED","message":"s3cret"}]}"#;
const UNKNOWN: &str = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"s3cret"}]}"#;

fn digest_of(bytes: &[u8]) -> Digest {
    let hex = Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    Digest::parse(&format!("sha256:{hex}")).unwrap()
}

fn some_digest() -> Digest {
    digest_of(b"image")
}

fn there() -> Reply {
    Reply::empty(200, &[("Docker-Content-Digest", some_digest().as_str())])
}

fn login(name: &str) -> Login {
    Login { from: format!("Secret {name}"), username: name.to_owned(), password: "s3cret".to_owned() }
}

fn basic(name: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:s3cret")))
}

fn client(insecure: &[&Server], clock: &Arc<TestClock>) -> OciRegistry {
    let insecure = insecure.iter().map(|server| server.host()).collect();
    OciRegistry::new(&Settings { insecure, extra_ca: None }, clock.clone()).unwrap()
}

fn image(server: &Server) -> ImageRef {
    ImageRef::new(&format!("{}/acme/shop", server.host()), "v1").unwrap()
}

/// A client of this registry alone, the image there, and the clock that both follow.
async fn registry(answer: impl Fn(&Heard) -> Reply + Send + Sync + 'static) -> (Server, OciRegistry, ImageRef, Arc<TestClock>) {
    let server = Server::start(answer).await;
    let clock = TestClock::new();
    let (client, image) = (client(&[&server], &clock), image(&server));
    (server, client, image, clock)
}

// ---- which digest a tag names

#[tokio::test]
async fn one_head_says_what_a_tag_names() {
    let (server, client, image, _) = registry(|_| there()).await;
    assert_eq!(client.digest(&image, &[]).await, Ok(Some(some_digest())));
    let heard = server.heard().remove(0);
    assert_eq!(heard.line(), "HEAD /v2/acme/shop/manifests/v1");
    let accept: Vec<&str> = heard.header("accept").split(", ").collect();
    assert_eq!(
        accept,
        [
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.docker.distribution.manifest.v2+json"
        ]
    );
    assert_eq!(heard.header("authorization"), "");
    assert!(heard.header("user-agent").starts_with("haldane/"));
    assert_eq!(server.heard().len(), 1);
}

#[tokio::test]
async fn a_registry_that_does_not_state_the_digest_is_asked_for_the_bytes() {
    for head in [
        Reply::empty as fn(u16, &[(&str, &str)]) -> Reply,
        |_, _| Reply::empty(405, &[]),
        |_, _| Reply::empty(200, &[("Docker-Content-Digest", "sha512:ab")]),
    ] {
        let (server, client, image, _) =
            registry(move |heard| if heard.method == "HEAD" { head(200, &[]) } else { Reply::new(200, &[], "image") }).await;
        assert_eq!(client.digest(&image, &[]).await, Ok(Some(some_digest())));
        assert_eq!(server.lines(), ["HEAD /v2/acme/shop/manifests/v1", "GET /v2/acme/shop/manifests/v1"]);
    }
}

#[tokio::test]
async fn a_tag_that_is_not_there_costs_one_request_once_we_know_that_we_may_see_it() {
    let (server, client, image, clock) = registry(|_| Reply::new(404, &[], UNKNOWN)).await;
    assert_eq!(client.digest(&image, &[]).await, Ok(None));
    assert_eq!(server.lines(), ["HEAD /v2/acme/shop/manifests/v1", "GET /v2/acme/shop/manifests/v1"]);
    assert_eq!(client.digest(&image, &[]).await, Ok(None));
    assert_eq!(server.lines(), ["HEAD /v2/acme/shop/manifests/v1"]);
    clock.advance(3601);
    assert_eq!(client.digest(&image, &[]).await, Ok(None));
    assert_eq!(server.lines().len(), 2, "what was open once is looked at again after an hour");
}

#[tokio::test]
async fn a_404_that_means_unauthorized_is_not_taken_for_absent() {
    for code in ["DENIED", "UNAUTHORIZED"] {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"s3cret"}}]}}"#);
        let (_server, client, image, _) = registry(move |_| Reply::new(404, &[], &body)).await;
        let error = client.digest(&image, &[login("a"), login("b")]).await.unwrap_err();
        let tried = "Secret a, Secret b".to_owned();
        assert_eq!(error, RegistryError::Denied { host: image.host.clone(), path: image.path.clone(), tried });
    }
}

#[tokio::test]
async fn a_registry_that_hides_from_strangers_is_told_who_we_are() {
    let (server, client, image, _) = registry(|heard| match (heard.path.as_str(), heard.header("authorization")) {
        ("/v2/", "") => Reply::empty(401, &[("WWW-Authenticate", "Basic realm=\"x\"")]),
        (_, "") => Reply::new(404, &[], UNKNOWN),
        _ => there(),
    })
    .await;
    assert_eq!(client.digest(&image, &[]).await, Ok(None));
    server.lines();
    assert_eq!(client.digest(&image, &[login("ada")]).await, Ok(None), "what has worked is asked first");
    let anew = OciRegistry::new(&Settings { insecure: BTreeSet::from([server.host()]), extra_ca: None }, TestClock::new()).unwrap();
    assert_eq!(anew.digest(&image, &[login("ada")]).await, Ok(Some(some_digest())));
}

// ---- who may ask

/// Asks for a token of `realm` and takes `Bearer <name><number>` while `valid` says so; counts the tokens.
struct Tokens {
    given: AtomicUsize,
    from: Mutex<usize>,
}

fn token_registry(state: Arc<Tokens>, field: &'static str, seconds: u64) -> impl Fn(&Heard) -> Reply + Send + Sync {
    move |heard| {
        if heard.path.starts_with("/token") {
            if heard.header("authorization") != basic("ada") {
                return Reply::new(401, &[], UNAUTHORIZED);
            }
            let number = state.given.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::new(200, &[], json!({field: format!("t{number}"), "expires_in": seconds}).to_string());
        }
        let number = heard.header("authorization").strip_prefix("Bearer t").and_then(|number| number.parse::<usize>().ok());
        if number.is_some_and(|number| number > *state.from.lock().unwrap()) {
            return there();
        }
        let host = heard.header("host");
        let asks = format!(r#"Bearer realm="http://{host}/token",service="reg",scope="repository:acme/shop:pull",error="x""#);
        Reply::new(401, &[("WWW-Authenticate", &asks)], UNAUTHORIZED)
    }
}

fn tokens() -> Arc<Tokens> {
    Arc::new(Tokens { given: AtomicUsize::new(0), from: Mutex::new(0) })
}

#[tokio::test]
async fn a_token_is_asked_for_once_while_it_lives() {
    for field in ["token", "access_token"] {
        let (server, client, image, clock) = registry(token_registry(tokens(), field, 300)).await;
        let logins = [login("ada")];
        assert_eq!(client.digest(&image, &logins).await, Ok(Some(some_digest())));
        let ask = "GET /token?service=reg&scope=repository%3Aacme%2Fshop%3Apull";
        let head = "HEAD /v2/acme/shop/manifests/v1";
        assert_eq!(server.lines(), [head, ask, head]);
        clock.advance(289);
        assert_eq!(client.digest(&image, &logins).await, Ok(Some(some_digest())));
        assert_eq!(server.lines(), [head]);
        clock.advance(1);
        assert_eq!(client.digest(&image, &logins).await, Ok(Some(some_digest())));
        assert_eq!(server.lines(), [head, ask, head]);
    }
}

#[tokio::test]
async fn a_token_that_is_not_taken_any_more_is_renewed_once() {
    let state = tokens();
    let (server, client, image, _) = registry(token_registry(state.clone(), "token", 300)).await;
    let logins = [login("ada")];
    assert_eq!(client.digest(&image, &logins).await, Ok(Some(some_digest())));
    *state.from.lock().unwrap() = 1;
    assert_eq!(client.digest(&image, &logins).await, Ok(Some(some_digest())));
    assert_eq!(state.given.load(Ordering::SeqCst), 2);
    // And if the new one is not taken either, that is the answer.
    *state.from.lock().unwrap() = 100;
    server.lines();
    assert!(matches!(client.digest(&image, &logins).await, Err(RegistryError::Denied { .. })));
    assert_eq!(state.given.load(Ordering::SeqCst), 3);
    assert_eq!(server.lines().len(), 4, "old token, token, new token, token without a login");
}

#[tokio::test]
async fn a_400_for_an_old_token_renews_it_and_for_a_new_one_is_told() {
    let old = Arc::new(AtomicBool::new(false));
    let says = old.clone();
    let (_server, client, image, _) = registry(move |heard| match heard.header("authorization") {
        "" => Reply::empty(401, &[("WWW-Authenticate", "Basic realm=\"x\"")]),
        // Once: then the next is new.
        _ if says.swap(false, Ordering::SeqCst) => Reply::empty(400, &[]),
        _ => there(),
    })
    .await;
    let logins = [login("ada")];
    old.store(true, Ordering::SeqCst);
    let error = client.digest(&image, &logins).await.unwrap_err();
    assert_eq!(error, RegistryError::Unreadable { host: image.host.clone(), said: "it answered 400".to_owned() });
    assert_eq!(client.digest(&image, &logins).await, Ok(Some(some_digest())));
    old.store(true, Ordering::SeqCst);
    assert_eq!(client.digest(&image, &logins).await, Ok(Some(some_digest())));
}

#[tokio::test]
async fn logins_are_tried_in_turn_and_what_worked_comes_first() {
    let (server, client, image, _) = registry(|heard| match heard.header("authorization") {
        authorization if authorization == basic("bob") => there(),
        _ => Reply::empty(401, &[("WWW-Authenticate", "Basic realm=\"x\"")]),
    })
    .await;
    let logins = [login("ada"), login("bob"), login("eve")];
    assert_eq!(client.digest(&image, &logins).await, Ok(Some(some_digest())));
    let sent: Vec<String> = server.heard().iter().map(|heard| heard.header("authorization").to_owned()).collect();
    assert_eq!(sent, [String::new(), basic("ada"), basic("bob")]);
    server.lines();
    assert_eq!(client.digest(&image, &logins).await, Ok(Some(some_digest())));
    assert_eq!(server.lines().len(), 1);
    let error = client.digest(&image, &[login("eve")]).await.unwrap_err();
    assert!(error.to_string().contains("(tried: Secret eve)"), "{error}");
    assert!(client.digest(&image, &[]).await.unwrap_err().to_string().contains("(tried: no login)"));
}

#[tokio::test]
async fn a_login_that_the_token_server_refuses_does_not_close_what_is_open_to_all() {
    let (_server, client, image, _) = registry(|heard| match (heard.path.starts_with("/token"), heard.header("authorization")) {
        (true, "") => Reply::new(200, &[], r#"{"token": "all"}"#),
        (true, _) => Reply::new(403, &[], UNAUTHORIZED),
        (false, "Bearer all") => there(),
        _ => Reply::empty(401, &[("WWW-Authenticate", &format!("Bearer realm=\"http://{}/token\"", heard.header("host")))]),
    })
    .await;
    assert_eq!(client.digest(&image, &[login("ada")]).await, Ok(Some(some_digest())));
}

#[tokio::test]
async fn a_registry_on_tls_does_not_send_a_login_anywhere_without() {
    let thief = Server::start(|_| Reply::new(200, &[], r#"{"token": "t"}"#)).await;
    let ca = Ca::new();
    let asks = format!("Bearer realm=\"http://{}/token\"", thief.host());
    let server = ca.start(move |_| Reply::empty(401, &[("WWW-Authenticate", &asks)])).await;
    let settings = Settings { insecure: BTreeSet::from([thief.host()]), extra_ca: Some(ca.pem()) };
    let client = OciRegistry::new(&settings, TestClock::new()).unwrap();
    let error = client.digest(&image(&server), &[login("ada")]).await.unwrap_err();
    assert!(error.to_string().contains("for a token, but not by https"), "{error}");
    assert!(matches!(error, RegistryError::Unreadable { .. }));
    assert_eq!(thief.heard().len(), 0);
    assert_eq!(server.heard().len(), 1);
}

#[tokio::test]
async fn a_registry_is_trusted_by_its_ca_and_never_spoken_to_without_tls() {
    let ca = Ca::new();
    let server = ca.start(|_| there()).await;
    let of = |extra_ca| OciRegistry::new(&Settings { insecure: BTreeSet::new(), extra_ca }, TestClock::new()).unwrap();
    assert_eq!(of(Some(ca.pem())).digest(&image(&server), &[]).await, Ok(Some(some_digest())));
    let error = of(None).digest(&image(&server), &[]).await.unwrap_err();
    assert!(error.to_string().contains("not signed by a CA that Haldane trusts"), "{error}");
    let plain = Server::start(|_| there()).await;
    let error = of(None).digest(&image(&plain), &[]).await.unwrap_err();
    assert!(error.to_string().contains("does not speak TLS on this port"), "{error}");
    assert_eq!(plain.heard().len(), 0);
}

#[test]
fn a_ca_that_is_none_is_told() {
    let of = |pem: &[u8]| {
        let settings = Settings { insecure: BTreeSet::new(), extra_ca: Some(pem.to_vec()) };
        OciRegistry::new(&settings, TestClock::new()).err()
    };
    assert_eq!(of(b"hello"), Some(SetupError::NoCertificate));
    assert_eq!(of(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), Some(SetupError::Broken { number: 1 }));
}

// ---- what goes wrong

#[tokio::test]
async fn a_registry_that_wants_silence_says_until_when() {
    for (path, headers, until) in [
        ("/v2/", vec![("Retry-After", "120")], "2026-11-06T08:51:37Z"),
        ("/v2/", vec![("Retry-After", "Fri, 06 Nov 2026 08:52:00 GMT")], "2026-11-06T08:52:00Z"),
        ("/v2/", vec![], "2026-11-06T08:50:37Z"),
        ("/token", vec![("Retry-After", "5")], "2026-11-06T08:49:42Z"),
    ] {
        let (server, client, image, _) = registry(move |heard| {
            let asks = format!("Bearer realm=\"http://{}/token\"", heard.header("host"));
            if heard.path.starts_with(path) { Reply::empty(429, &headers) } else { Reply::empty(401, &[("WWW-Authenticate", &asks)]) }
        })
        .await;
        let error = client.digest(&image, &[]).await.unwrap_err();
        assert_eq!(error, RegistryError::Limited { host: image.host.clone(), until: until.parse().unwrap() });
        // Until then nobody asks in that name, about whatever image; in another name one does.
        let calls = server.heard().len();
        let other = ImageRef { path: "acme/other".to_owned(), ..image.clone() };
        assert_eq!(client.digest(&other, &[]).await.unwrap_err(), error);
        assert_eq!(server.heard().len(), calls);
        let login = Login { from: "Secret x".to_owned(), username: "x".to_owned(), password: "y".to_owned() };
        assert!(client.digest(&image, &[login]).await.is_err());
        assert!(server.heard().len() > calls);
    }
}

#[tokio::test]
async fn what_a_registry_says_of_its_illness_is_shown_by_its_codes_alone() {
    for (status, ill, said) in [
        (503, true, "it answered 503: UNAVAILABLE"),
        (500, true, "it answered 500: UNAVAILABLE"),
        (418, false, "it answered 418: UNAVAILABLE"),
        (302, false, "it answered 302: UNAVAILABLE"),
    ] {
        let body = r#"{"errors":[{"code":"UNAVAILABLE","message":"s3cret"},{"code":"s3cret <b>"}]}"#;
        let (server, client, image, _) = registry(move |_| Reply::new(status, &[("Location", "/elsewhere")], body)).await;
        let error = client.origin(&image, &some_digest(), &[]).await.unwrap_err();
        let (host, said) = (image.host.clone(), said.to_owned());
        assert_eq!(error, if ill { RegistryError::Ill { host, said } } else { RegistryError::Unreadable { host, said } });
        assert_eq!(server.heard().len(), 1, "no retries, and redirects of manifests are not followed");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_illness() {
    let (_server, client, image, _) = registry(|_| Reply::cut(200, &[], b"{\"sch", 900)).await;
    let error = client.origin(&image, &some_digest(), &[]).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Ill { said, .. } if said.contains("in the middle")), "{error}");
}

#[tokio::test]
async fn nobody_there_is_an_illness_that_says_so() {
    let server = Server::start(|_| there()).await;
    let clock = TestClock::new();
    let (client, image) = (client(&[&server], &clock), image(&server));
    server.stop().await;
    let error = client.digest(&image, &[]).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Ill { said, .. } if said.contains("refused")), "{error}");
}

#[tokio::test]
async fn answers_longer_than_any_honest_one_are_not_read() {
    let long = |bytes: usize| " ".repeat(bytes);
    let (_server, client, image, _) = registry(move |_| Reply::new(200, &[], long(4 * 1024 * 1024 + 1))).await;
    let error = client.origin(&image, &some_digest(), &[]).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Unreadable { said, .. } if said == "its answer is longer than 4194304 bytes"), "{error}");

    let (_server, client, image, _) = registry(move |heard| {
        let asks = format!("Bearer realm=\"http://{}/token\"", heard.header("host"));
        if heard.path.starts_with("/token") {
            Reply::new(200, &[], long(64 * 1024 + 1))
        } else {
            Reply::empty(401, &[("WWW-Authenticate", &asks)])
        }
    })
    .await;
    let error = client.digest(&image, &[]).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Unreadable { said, .. } if said.ends_with("more than 65536 bytes")), "{error}");

    // Of an error only the beginning counts; it is an error all the same.
    let (_server, client, image, _) = registry(move |_| Reply::new(503, &[], long(1024 * 1024))).await;
    assert!(matches!(client.origin(&image, &some_digest(), &[]).await, Err(RegistryError::Ill { .. })));
}

#[tokio::test(start_paused = true)]
async fn no_question_takes_longer_than_its_limit() {
    let (_server, client, image, _) = registry(|_| Reply::Silence).await;
    let watch = crate::clock::Stopwatch::start();
    let slow = RegistryError::Slow { host: image.host.clone(), limit: Duration::from_secs(10) };
    assert_eq!(client.digest(&image, &[]).await, Err(slow.clone()));
    assert_eq!(client.origin(&image, &some_digest(), &[]).await, Err(slow));
    let took = watch.elapsed();
    assert!((20..=21).contains(&took.as_secs()), "{took:?}");
}

// ---- what an image was built from

/// Manifests and configs by digest, as a registry keeps them.
#[derive(Clone, Default)]
struct Content(BTreeMap<String, Vec<u8>>);

impl Content {
    fn put(&mut self, value: &Value) -> Digest {
        let bytes = value.to_string().into_bytes();
        let digest = digest_of(&bytes);
        self.0.insert(digest.to_string(), bytes);
        digest
    }

    fn image(&mut self, labels: &Value, annotations: &Value) -> Digest {
        let config = self.put(&json!({"architecture": "amd64", "os": "linux", "config": {"Labels": labels}}));
        let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.as_str(), "size": 1});
        self.put(&json!({"schemaVersion": 2, "config": config, "layers": [], "annotations": annotations}))
    }

    fn index(&mut self, platforms: &[&Digest], annotations: &Value) -> Digest {
        let attestation = json!({"digest": digest_of(b"attestation").as_str(), "platform": {"architecture": "unknown", "os": "unknown"}});
        let platforms =
            platforms.iter().map(|digest| json!({"digest": digest.as_str(), "platform": {"architecture": "amd64", "os": "linux"}}));
        let manifests: Vec<Value> = platforms.chain([attestation]).collect();
        self.put(&json!({"schemaVersion": 2, "manifests": manifests, "annotations": annotations}))
    }

    fn answer(&self, heard: &Heard) -> Reply {
        let digest = heard.path.rsplit('/').next().unwrap();
        self.0.get(digest).map_or_else(|| Reply::new(404, &[], UNKNOWN), |bytes| Reply::new(200, &[], bytes))
    }
}

fn origin(revision: &str, source: &str) -> Origin {
    let own = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Origin { revision: own(revision), source: own(source) }
}

#[tokio::test]
async fn the_origin_is_where_builders_write_it() {
    let mut content = Content::default();
    let both = |revision: &str, source: &str| json!({REVISION: revision, SOURCE: source});
    let (none, null) = (json!({}), Value::Null);
    let r1 = content.image(&both("r1", "s"), &null);
    let also_r1 = content.image(&both("r1", "t"), &none);
    let r2 = content.image(&both("r2", "s"), &none);
    let plain = content.image(&null, &null);
    let annotated = content.image(&both("r2", "s"), &json!({REVISION: "r1"}));
    let whole = content.image(&both("r2", "s"), &both("r1", "s1"));
    let cases = [
        ("labels", r1.clone(), origin("r1", "s"), 2),
        ("nothing", plain.clone(), origin("", ""), 2),
        ("annotations go before labels", annotated.clone(), origin("r1", "s"), 2),
        ("annotations that say all", whole, origin("r1", "s1"), 1),
        ("an index that says all", content.index(&[&r2], &both("r1", "s")), origin("r1", "s"), 1),
        ("an index that says half", content.index(&[&r2], &json!({REVISION: "r1"})), origin("r1", "s"), 3),
        ("platforms that agree", content.index(&[&r1, &annotated], &none), origin("r1", "s"), 5),
        ("platforms that agree in half", content.index(&[&r1, &also_r1], &none), origin("r1", ""), 5),
        ("platforms that do not agree", content.index(&[&r1, &r2], &null), origin("", "s"), 5),
        ("a platform that says nothing", content.index(&[&r1, &plain], &null), origin("", ""), 5),
        ("no platform", content.index(&[], &null), origin("", ""), 1),
    ];
    let (server, client, image, _) = registry(move |heard| content.answer(heard)).await;
    for (name, digest, means, requests) in cases {
        assert_eq!(client.origin(&image, &digest, &[]).await, Ok(means.clone()), "{name}");
        assert_eq!(server.lines().len(), requests, "{name}");
        assert_eq!(client.origin(&image, &digest, &[]).await, Ok(means), "{name}");
        assert_eq!(server.lines(), Vec::<String>::new(), "{name}: the same for ever");
    }
}

#[tokio::test]
async fn what_has_another_digest_is_not_believed() {
    let mut content = Content::default();
    let digest = content.image(&json!({REVISION: "r1"}), &Value::Null);
    let other = content.image(&json!({REVISION: "r2"}), &Value::Null);
    let bytes = content.0.get(other.as_str()).unwrap().clone();
    content.0.insert(digest.to_string(), bytes);
    let index = content.index(&[&some_digest()], &Value::Null);
    let (_server, client, image, _) = registry(move |heard| content.answer(heard)).await;
    let said = |error: RegistryError| match error {
        RegistryError::Unreadable { said, .. } => said,
        other => panic!("{other}"),
    };
    assert!(said(client.origin(&image, &digest, &[]).await.unwrap_err()).contains("has another digest"));
    assert!(said(client.origin(&image, &index, &[]).await.unwrap_err()).contains("is not there (any more)"));
}

#[tokio::test]
async fn a_config_that_is_kept_elsewhere_is_fetched_without_the_login() {
    let mut content = Content::default();
    let digest = content.image(&json!({REVISION: "r1"}), &Value::Null);
    let kept = content.clone();
    let store = Server::start(move |heard| kept.answer(heard)).await;
    let away = format!("http://{}/signed/", store.host());
    let server = Server::start(move |heard| {
        let name = heard.path.rsplit('/').next().unwrap();
        match heard.path.split('/').nth(4).unwrap() {
            _ if heard.header("authorization") != basic("ada") => Reply::empty(401, &[("WWW-Authenticate", "Basic realm=\"x\"")]),
            "manifests" => content.answer(heard),
            // First to another place of its own, then away.
            "blobs" => Reply::empty(307, &[("Location", &format!("/v2/acme/shop/cache/{name}"))]),
            _ => Reply::empty(302, &[("Location", &format!("{away}{name}"))]),
        }
    })
    .await;
    let clock = TestClock::new();
    let client = client(&[&server, &store], &clock);
    assert_eq!(client.origin(&image(&server), &digest, &[login("ada")]).await, Ok(origin("r1", "")));
    let stored = store.heard();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].header("authorization"), "");
    let paths: Vec<String> = server.heard().iter().map(|heard| heard.path.split('/').nth(4).unwrap().to_owned()).collect();
    assert_eq!(paths, ["manifests", "manifests", "blobs", "cache"]);
}

#[tokio::test]
async fn a_login_does_not_come_back_from_another_host() {
    let mut content = Content::default();
    let digest = content.image(&json!({REVISION: "r1"}), &Value::Null);
    let home = Arc::<Mutex<String>>::default();
    let back = home.clone();
    let store = Server::start(move |heard| {
        let name = heard.path.rsplit('/').next().unwrap();
        Reply::empty(302, &[("Location", &format!("http://{}/v2/acme/shop/back/{name}", back.lock().unwrap()))])
    })
    .await;
    let away = format!("http://{}/", store.host());
    let server = Server::start(move |heard| {
        let name = heard.path.rsplit('/').next().unwrap();
        match heard.path.split('/').nth(4).unwrap() {
            "back" => Reply::empty(302, &[("Location", &format!("/v2/acme/shop/again/{name}"))]),
            "again" => content.answer(heard),
            _ if heard.header("authorization") != basic("ada") => Reply::empty(401, &[("WWW-Authenticate", "Basic realm=\"x\"")]),
            "manifests" => content.answer(heard),
            _ => Reply::empty(302, &[("Location", &format!("{away}{name}"))]),
        }
    })
    .await;
    *home.lock().unwrap() = server.host();
    let clock = TestClock::new();
    let client = client(&[&server, &store], &clock);
    assert_eq!(client.origin(&image(&server), &digest, &[login("ada")]).await, Ok(origin("r1", "")));
    let heard = server.heard();
    let back: Vec<&str> = heard.iter().rev().take(2).map(|heard| heard.header("authorization")).collect();
    assert!(heard.last().unwrap().path.contains("/again/"));
    assert_eq!(back, ["", ""]);
}

#[tokio::test]
async fn redirects_that_lead_nowhere_are_told() {
    let mut content = Content::default();
    let digest = content.image(&json!({REVISION: "r1"}), &Value::Null);
    let thief = Server::start(|_| there()).await;
    let thief_at = format!("http://{}/", thief.host());
    for (location, means) in [
        (Some(thief_at.as_str()), "it redirects a blob to a place without TLS"),
        (Some("/v2/acme/shop/blobs/again"), "it redirects a blob more than 3 times"),
        (Some("https://x@192.0.2.1/"), "it redirects a blob to a place without TLS"),
        (Some("//192.0.2.1/x"), "it redirects a blob without saying where"),
        (None, "it redirects a blob without saying where"),
    ] {
        let (kept, location) = (content.clone(), location.map(str::to_owned));
        let (server, client, image, _) = registry(move |heard| {
            if heard.path.contains("/blobs/") {
                Reply::empty(307, &location.iter().map(|to| ("Location", to.as_str())).collect::<Vec<_>>())
            } else {
                kept.answer(heard)
            }
        })
        .await;
        let error = client.origin(&image, &digest, &[]).await.unwrap_err();
        assert_eq!(error, RegistryError::Unreadable { host: image.host.clone(), said: means.to_owned() });
        assert!(server.heard().len() <= 5);
    }
    assert_eq!(thief.heard().len(), 0);
}

#[tokio::test]
async fn a_store_that_refuses_is_ill_and_no_matter_of_logins() {
    let mut content = Content::default();
    let digest = content.image(&json!({REVISION: "r1"}), &Value::Null);
    let store = Server::start(|_| Reply::empty(403, &[])).await;
    let away = format!("http://{}/", store.host());
    let server =
        Server::start(
            move |heard| {
                if heard.path.contains("/blobs/") { Reply::empty(307, &[("Location", &away)]) } else { content.answer(heard) }
            },
        )
        .await;
    let clock = TestClock::new();
    let error = client(&[&server, &store], &clock).origin(&image(&server), &digest, &[login("ada")]).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Ill { said, .. } if said.contains("keeps blobs answered 403")), "{error}");
}
