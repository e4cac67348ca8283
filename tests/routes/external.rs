//! A version that waits for somebody else's word: a server beside the cluster that checks what it is asked, and a Service that leads to it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::hmac;
use serde_json::{Value, json};

use super::{Bed, ROLLOUT, Shop, bed, calm, says, tell};
use crate::support::{now_us, rest::Hand, shop::Setup};

/// What the board and its Delivery know of each other.
const SECRET: &str = "what-the-board-and-haldane-know";

/// A change board: what it answers, and what it was asked.
struct Board {
    port: u16,
    at: IpAddr,
    answer: Arc<Mutex<&'static str>>,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Board {
    fn open(bed: &Bed) -> Result<Self> {
        let at = bed.this_end()?;
        let listener = TcpListener::bind((at, 0))?;
        let (answer, asked) = (Arc::new(Mutex::new("503 Service Unavailable\r\nRetry-After: 5\r\n\r\n")), Arc::default());
        let board = Self { port: listener.local_addr()?.port(), at, answer, asked };
        let (answer, asked) = (board.answer.clone(), board.asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                match question(&stream) {
                    Ok(question) => asked.lock().unwrap_or_else(PoisonError::into_inner).push(question),
                    Err(error) => eprintln!("     the board was asked what it cannot take: {error:#}"),
                }
                let answer = *answer.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = (&stream).write_all(format!("HTTP/1.1 {answer}").as_bytes());
            }
        });
        Ok(board)
    }

    fn answers(&self, with: &'static str) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = with;
    }

    /// What it was asked, each question with a right signature of that minute.
    fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It is Service `board` of the namespace, and the Delivery waits for its word.
    fn is_asked(&self, shop: &Shop, at: &str) -> Result<()> {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "board"}, "spec": {"ports": [{"name": "http", "port": 80}]}});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "board", "labels": {"kubernetes.io/service-name": "board"}}, "addressType": "IPv4",
            "ports": [{"name": "http", "port": self.port, "protocol": "TCP"}], "endpoints": [{"addresses": [self.at], "conditions": {"ready": true}}]});
        for object in [service, slice] {
            shop.apply(&object)?;
        }
        let verify = json!({"spec": {"verify": {"external": [{
            "name": "board", "at": at, "url": format!("http://board.{}.svc/changes", shop.ns), "secretRef": {"name": "board", "key": "hmac"},
        }]}}});
        shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", &verify.to_string()]).map(drop)
    }
}

/// One question, if it is signed as it should be.
fn question(stream: &TcpStream) -> Result<Value> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut signature, mut time, mut length) = (String::new(), String::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        ensure!(reader.read_line(&mut line)? > 0, "it breaks off");
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            match name.to_ascii_lowercase().as_str() {
                "x-haldane-signature" => signature = value.to_owned(),
                "x-haldane-timestamp" => time = value.to_owned(),
                "content-length" => length = value.parse()?,
                _ => {}
            }
        } else {
            head = line.to_owned();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    ensure!(head == "POST /changes HTTP/1.1", "{head}");
    let signed = [time.as_bytes(), b".", &body].concat();
    let claimed = hex::decode(signature.strip_prefix("sha256=").context("no signature")?)?;
    let right = hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), &signed, &claimed);
    ensure!(right.is_ok(), "the signature {signature} is not of {}", String::from_utf8_lossy(&signed));
    let age = now_us() / 1_000_000 - time.parse::<i64>()?;
    ensure!(age.abs() < 60, "it is {age} s old");
    Ok(serde_json::from_slice(&body)?)
}

/// A shop, and a board whose Secret Haldane may not read yet.
fn with_board<'a>(bed: &'a Bed, namespace: &str, at: &str) -> Result<(Shop<'a>, Board)> {
    let shop = Shop::delivered(bed, namespace, Setup { settle: "1s", ..Setup::by_route() })?;
    let board = Board::open(bed)?;
    shop.kubectl(&["create", "secret", "generic", "board", &format!("--from-literal=hmac={SECRET}")])?;
    board.is_asked(&shop, at)?;
    Ok((shop, board))
}

fn grant(shop: &Shop) -> Result<()> {
    shop.kubectl(&["create", "role", "haldane-board", "--verb=get", "--resource=secrets", "--resource-name=board"])?;
    let account = "--serviceaccount=haldane-system:haldane";
    shop.kubectl(&["create", "rolebinding", "haldane-board", "--role=haldane-board", account]).map(drop)
}

#[test]
fn no_pod_of_a_version_starts_before_the_board_has_said_yes() -> Result<()> {
    let _calm = calm();
    let (shop, board) = with_board(bed()?, "ext-start", "Start")?;
    let mut life = shop.follow()?;
    let told = life.until(ROLLOUT, "told that the Secret may not be read", says("ExternalUnasked"))?;
    tell(told.message());
    grant(&shop)?;
    life.until(ROLLOUT, "at rest", |seen| seen.is_live("v1") && seen.condition("Ready") == "True")?;
    let load = shop.customers(30, 3)?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "waiting", |seen| seen.reason() == "ExternalWaits" && seen.message().contains("was answered 503"))?;
    board.answers("200 OK\r\nRetry-After: 5\r\n\r\n{\"verdict\": \"Hold\", \"why\": \"<b>ask ana</b>\"}");
    let held = life.until(ROLLOUT, "held", |seen| seen.message().contains("was answered 200 and Hold"))?;
    tell(held.message());
    ensure!(!held.object.to_string().contains("ask ana"), "something of the answer is shown: {}", held.object);
    ensure!(
        shop.canary_pods()?.is_empty() && shop.object("deployment", "shop-canary")?.is_none(),
        "a pod started without the board's word"
    );
    board.answers("200 OK\r\n\r\n{\"verdict\": \"Pass\"}");
    let begun = now_us();
    life.until(ROLLOUT, "started", |seen| seen.phase() == "Preflight" && seen.reason() == "Preflight")?;
    tell(&format!("ext-start: {} ms from yes to the record of it", (now_us() - begun) / 1000));
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    let asked = board.asked();
    tell(&format!("ext-start: asked {} times, at last: {}", asked.len(), asked.last().context("never")?));
    ensure!(asked.windows(2).all(|two| two[0] == two[1]), "the same question had other words: {asked:#?}");
    let first = asked.first().context("never asked")?;
    let image = format!("{}/shop:v2", shop.bed.registry);
    for (member, value) in [("at", "Start"), ("delivery", "shop"), ("namespace", "ext-start"), ("version", "v2"), ("image", image.as_str())]
    {
        ensure!(first[member] == value, "{member} is not {value}: {first}");
    }
    ensure!(first["weight"] == 0 && first["key"].as_str().is_some_and(|key| key.starts_with("ext-start/shop-")), "{first}");
    shop.is_at_rest("v2", Hand::Haldane)?;
    let report = load.stop()?;
    ensure!(report.failed() == 0, "{report}");
    shop.close()
}

#[test]
fn a_no_before_all_of_the_traffic_takes_it_back() -> Result<()> {
    let _calm = calm();
    let (shop, board) = with_board(bed()?, "ext-promote", "Promote")?;
    grant(&shop)?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    life.until(ROLLOUT, "at rest", |seen| seen.is_live("v1") && seen.condition("Ready") == "True")?;
    shop.set_image("v2")?;
    let waits = life.until(ROLLOUT, "waiting at 50 %", |seen| seen.reason() == "ExternalWaits" && seen.message().contains("503"))?;
    ensure!(waits.phase() == "Canary" && waits.step() == Some(3), "{}", life.story());
    board.answers("200 OK\r\n\r\n{\"verdict\": \"Fail\"}");
    let begun = now_us();
    let back = life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    tell(&format!("ext-promote: {} ms from no to v1 again; {}", (now_us() - begun) / 1000, back.message()));
    ensure!(back.message().contains("by the word of board, whatever was measured"), "{}", back.message());
    let no = back.object["status"]["lastRollback"]["release"].as_str().unwrap_or_default();
    let replayed = shop.plugin(&["replay", no])?;
    tell(&replayed);
    ensure!(
        replayed.contains("nothing speaks against it") && replayed.contains("to the last bit"),
        "it was no verdict of the book: {replayed}"
    );
    let asked = board.asked();
    ensure!(asked.iter().all(|question| question["at"] == "Promote" && question["weight"] == 50), "{asked:#?}");
    let release = shop.kubectl(&["get", "releases", "-o", "json"])?;
    let releases: Value = serde_json::from_str(&release)?;
    let outcomes: Vec<&Value> = releases["items"].as_array().into_iter().flatten().map(|r| &r["status"]["reason"]).collect();
    ensure!(outcomes.contains(&&json!("ExternalFailed")), "{outcomes:?}");
    shop.is_at_rest("v1", Hand::Haldane)?;
    let report = load.stop()?;
    tell(&format!("ext-promote: {report}"));
    ensure!(report.failed() == 0, "{report}");
    shop.close()
}
