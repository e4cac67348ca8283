//! The door as GitHub, registries, attackers and the other replica meet it: real sockets, raw bytes.
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

use std::{fs, time::Duration};

use aws_lc_rs::hmac;
use jiff::Timestamp;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc::unbounded_channel,
};

use super::*;
use crate::{clock::Clock, control::lease::Elector};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OLD: &str = "fedcba9876543210fedcba9876543210";
const TOKEN: &str = "registry-0123456789abcdef";

struct Epoch;

impl Clock for Epoch {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

fn secrets(files: &[(&str, &str)]) -> Result<Secrets, SecretsError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    Secrets::read(folder.path())
}

fn ours() -> Arc<Secrets> {
    Arc::new(
        secrets(&[("webhookSecret", "0123456789abcdef0123456789abcdef\n"), ("webhookSecretOld", OLD), ("registryToken", TOKEN)]).unwrap(),
    )
}

/// A door with nobody behind it: what it says of a good call is that it was taken.
struct Bench {
    address: SocketAddr,
    door: Arc<Door>,
}

async fn open(leadership: Leadership) -> Bench {
    let (nudge, _) = unbounded_channel();
    let board = Arc::new(MergeBoard::new(None, Arc::new(Epoch), nudge));
    let door = Arc::new(Door::new(ours(), board, leadership, Relay::default()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, door.clone()));
    Bench { address, door }
}

async fn leading() -> Bench {
    open(Elector::alone(&Epoch)).await
}

fn sign(secret: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    format!("X-Hub-Signature-256: sha256={}", hex::encode(tag))
}

fn push() -> Vec<u8> {
    json!({"ref": "refs/heads/main", "repository": {"full_name": "acme/shop"}}).to_string().into_bytes()
}

const JSON: &str = "Content-Type: application/json";
const PUSH: &str = "X-GitHub-Event: push";

impl Bench {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn post(&self, path: &str, headers: &[&str], body: &[u8]) -> (u16, String) {
        let mut stream = self.connect().await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: door\r\nContent-Length: {}\r\n{}\r\n\r\n", body.len(), headers.join("\r\n"));
        stream.write_all(head.as_bytes()).await.unwrap();
        // It may be refused before it is written.
        let _ = stream.write_all(body).await;
        answer(&mut stream).await
    }

    async fn github(&self, headers: &[&str], body: &[u8]) -> u16 {
        let signature = sign(SECRET, body);
        self.post("/github", &[&[signature.as_str(), JSON], headers].concat(), body).await.0
    }

    fn counted(&self, outcome: Outcome) -> u64 {
        self.door.metrics().with_label_values(&[outcome.label()]).get()
    }
}

async fn answer(stream: &mut TcpStream) -> (u16, String) {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut buffer).await.unwrap_or(0);
        read.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if n == 0 || length.is_some_and(|length| body.len() >= length) {
                return (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned());
            }
        } else if n == 0 {
            return (0, String::new());
        }
    }
}

#[tokio::test]
async fn a_signed_push_is_taken_with_the_new_secret_and_with_the_one_before() {
    let bench = leading().await;
    for secret in [SECRET, OLD] {
        let (status, says) = bench.post("/github", &[&sign(secret, &push()), JSON, PUSH], &push()).await;
        assert_eq!((status, says.as_str()), (202, "thank you"));
    }
    assert_eq!(bench.counted(Outcome::Ignored), 2, "nobody waits for acme/shop");
}

/// The example of GitHub's documentation, "Validating webhook deliveries".
#[test]
fn the_published_test_vector_is_verified() {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"It's a Secret to Everybody");
    let mut headers = HeaderMap::new();
    let text = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    headers.insert("x-hub-signature-256", text.parse().unwrap());
    let signature = super::secrets::signature(&headers).unwrap();
    assert!(hmac::verify(&key, b"Hello, World!", &signature).is_ok());
}

#[tokio::test]
async fn without_a_signature_or_with_a_wrong_one_nothing_is_done() {
    let (bench, body) = (leading().await, push());
    let wrong = [
        "X-None: 1".to_owned(),
        "X-Hub-Signature: sha1=7d38cdd689735b008b3c702edd92eea23791c5f6".to_owned(),
        "X-Hub-Signature-256: sha256=".to_owned(),
        "X-Hub-Signature-256: sha256=00".to_owned(),
        format!("X-Hub-Signature-256: sha256={}", "0".repeat(64)),
        format!("X-Hub-Signature-256: sha256={}", "ä".repeat(32)),
        sign("another secret of the same kind", &body),
        sign(SECRET, b"another body"),
        sign(SECRET, &body).replace("sha256", "sha1"),
    ];
    for header in &wrong {
        assert_eq!(bench.post("/github", &[header, JSON, PUSH], &body).await.0, 401, "{header}");
    }
    assert_eq!(bench.counted(Outcome::Forged), 9);
    // What opens one way opens no other.
    assert_eq!(bench.post("/relayed", &[&sign(SECRET, &body), JSON], &body).await.0, 401);
    assert_eq!(bench.post("/registry", &[&sign(SECRET, &body), JSON], &body).await.0, 401);
}

#[tokio::test]
async fn a_replayed_delivery_is_known_and_one_that_was_refused_is_not() {
    let (bench, id) = (leading().await, "X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958");
    assert_eq!(bench.github(&[PUSH, id], b"{\"repository\": ").await, 400, "truncated");
    assert_eq!(bench.counted(Outcome::Known), 0);
    for _ in 0..3 {
        assert_eq!(bench.github(&[PUSH, id], &push()).await, 202);
    }
    assert_eq!((bench.counted(Outcome::Ignored), bench.counted(Outcome::Known)), (1, 2));
}

#[tokio::test]
async fn what_github_might_send_besides_is_answered_and_harmless() {
    let bench = leading().await;
    assert_eq!(bench.github(&["X-GitHub-Event: ping"], br#"{"zen": "Design for failure."}"#).await, 200);
    assert_eq!(bench.github(&["X-GitHub-Event: star"], &push()).await, 202);
    assert_eq!(bench.github(&[], &push()).await, 202, "no event at all");
    for odd in ["{}", r#"{"repository": null}"#, r#"{"repository": {"full_name": null}}"#, r#"{"repository": {"full_name": "../../etc"}}"#]
    {
        assert_eq!(bench.github(&[PUSH], odd.as_bytes()).await, 202, "{odd}");
    }
    for broken in ["", "null", "[]", "\"\"", r#"{"repository": "acme/shop"}"#, r#"{"repository": {"full_name": 7}}"#] {
        assert_eq!(bench.github(&[PUSH], broken.as_bytes()).await, 400, "{broken}");
    }
    let form = b"payload=%7B%7D";
    assert_eq!(bench.post("/github", &[&sign(SECRET, form), "Content-Type: application/x-www-form-urlencoded", PUSH], form).await.0, 415);
    let mut get = bench.connect().await;
    get.write_all(b"GET /github HTTP/1.1\r\nHost: door\r\n\r\n").await.unwrap();
    assert_eq!(answer(&mut get).await.0, 405);
}

#[tokio::test]
async fn more_than_a_mebibyte_is_refused_before_it_is_read() {
    let (bench, one) = (leading().await, BODY + 1);
    let mut stream = bench.connect().await;
    let head = format!("POST /github HTTP/1.1\r\nHost: door\r\n{}\r\nContent-Length: {one}\r\n\r\n", sign(SECRET, b""));
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.0, 413, "as it says");
    // And when it does not say: a stream without an end.
    let mut stream = bench.connect().await;
    let head = format!("POST /github HTTP/1.1\r\nHost: door\r\n{}\r\nTransfer-Encoding: chunked\r\n\r\n", sign(SECRET, b""));
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let endless = tokio::spawn(async move {
        let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 0x10000], b"\r\n"].concat();
        let mut written = 0_u64;
        // 1 GiB, if it were taken.
        while written < 1 << 30 && writer.write_all(&chunk).await.is_ok() {
            written += 0x10000;
        }
        written
    });
    let mut read = [0; 12];
    reader.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"HTTP/1.1 413");
    drop(reader);
    let written = endless.await.unwrap();
    assert!(written < 64 << 20, "{written} bytes were taken off the sender before it was cut off");
}

#[tokio::test]
async fn a_caller_that_dribbles_is_cut_off_and_keeps_nobody_waiting() {
    let bench = leading().await;
    let mut slow = Vec::new();
    for _ in 0..READERS {
        let mut stream = bench.connect().await;
        let head = format!("POST /github HTTP/1.1\r\nHost: door\r\n{}\r\nContent-Length: 100\r\n\r\nx", sign(SECRET, b""));
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(bench.github(&[PUSH], &push()).await, 503, "all readers are taken: said at once");
    tokio::time::sleep(SLOW).await;
    assert_eq!(answer(&mut slow[0]).await.0, 408);
    assert_eq!(bench.github(&[PUSH], &push()).await, 202);
}

#[tokio::test]
async fn one_address_calls_so_often_and_no_more() {
    let (bench, body) = (leading().await, push());
    assert_eq!(bench.github(&[PUSH], &body).await, 202);
    // Its purse, and what it would earn within the hour: a slow machine earns while it spends.
    let later = Instant::now() + Duration::from_hours(1);
    while bench.door.limiter.takes(bench.address.ip(), later) {}
    assert_eq!(bench.github(&[PUSH], &body).await, 429);
    // Who guesses, too, and finds nothing out by it.
    assert_eq!(bench.post("/registry", &["Authorization: Bearer guessed"], b"{}").await.0, 429);
}

#[tokio::test]
async fn registries_show_a_token_and_tell_of_pushes() {
    let (bench, bearer) = (leading().await, format!("Authorization: Bearer {TOKEN}"));
    let pushed = json!({"events": [{"action": "push", "target": {"repository": "acme/shop", "tag": "v2"}}]}).to_string();
    assert_eq!(bench.post("/registry", &[&bearer], pushed.as_bytes()).await, (202, "thank you".to_owned()));
    let pulled = pushed.replace("push", "pull");
    assert_eq!(bench.post("/registry", &[&bearer], pulled.as_bytes()).await, (202, "nothing was pushed".to_owned()));
    for wrong in ["Authorization: Bearer registry-0123456789abcdeX", "Authorization: Bearer ", "X-None: 1"] {
        assert_eq!(bench.post("/registry", &[wrong], pushed.as_bytes()).await.0, 401, "{wrong}");
    }
}

#[test]
fn names_are_taken_from_what_registries_and_packages_send() {
    let said = |value: serde_json::Value| serde_json::from_value::<RegistrySays>(value).unwrap().about();
    let harbor = json!({"type": "PUSH_ARTIFACT", "event_data": {"repository": {"repo_full_name": "acme/shop"}}});
    assert_eq!(said(harbor), [About::Image("acme/shop".to_owned())]);
    let twice = json!({"events": [{"action": "push", "target": {"repository": "a/b"}}, {"action": "push", "target": {"repository": "a/b"}}, {"action": null}]});
    assert_eq!(said(twice), [About::Image("a/b".to_owned())]);
    let package = json!({"repository": null, "registry_package": {"name": "Shop", "namespace": "Acme"}});
    let package: GitHubSays = serde_json::from_value(package).unwrap();
    assert_eq!(package.about(), Some(About::Image("acme/shop".to_owned())));
}

#[tokio::test]
async fn a_replica_that_does_not_lead_hands_on_to_the_one_that_does_and_no_further() {
    let (_proofs, nobody) = tokio::sync::watch::channel(None);
    let leader = leading().await;
    let follower = |at| open(Leadership::new(nobody.clone(), tokio::sync::watch::channel(at).1));
    let (first, alone) = (follower(Some(leader.address)).await, follower(None).await);
    assert_eq!(first.github(&[PUSH], &push()).await, 202);
    assert_eq!((first.counted(Outcome::Relayed), leader.counted(Outcome::Ignored)), (1, 1));
    assert_eq!(alone.github(&[PUSH], &push()).await, 503, "nobody leads");
    // One that still believes in a leader of before.
    let second = follower(Some(first.address)).await;
    assert_eq!(second.github(&[PUSH], &push()).await, 503);
    assert_eq!((first.counted(Outcome::NoLeader), second.counted(Outcome::NoLeader)), (1, 1));
    // What the leader cannot be told is not taken for known: it may be sent again.
    let gone = follower(Some("127.0.0.1:1".parse().unwrap())).await;
    let id = "X-GitHub-Delivery: 1";
    assert_eq!(gone.github(&[PUSH, id], &push()).await, 503);
    assert_eq!(gone.github(&[PUSH, id], &push()).await, 503);
    assert_eq!(gone.counted(Outcome::Known), 0);
}

#[test]
fn a_door_without_a_lock_is_not_opened() {
    assert!(matches!(secrets(&[]), Err(SecretsError::None { .. })));
    assert!(matches!(secrets(&[("webhookSecret", " \n")]), Err(SecretsError::None { .. })));
    assert!(matches!(secrets(&[("webhookSecret", "short")]), Err(SecretsError::Short { .. })));
    assert!(secrets(&[("registryToken", TOKEN)]).is_ok());
    let only = secrets(&[("registryToken", TOKEN)]).unwrap();
    let body = push();
    let forged = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b""), &body);
    assert!(!only.signed(&body, forged.as_ref()), "no secret of GitHub's: nothing is signed by it");
}
