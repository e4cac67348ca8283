//! Both programs for real, as processes on loopback: what the load reports must be what the shop was told to do.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(20);

/// The example's program, built from the sources as they are now.
fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<String> = OnceLock::new();
    let messages = BUILT.get_or_init(|| {
        let built = std::process::Command::new(env!("CARGO"))
            .args(["build", "--offline", "--example", "shop", "--example", "load", "--message-format=json"])
            .args(if cfg!(debug_assertions) { None } else { Some("--release") })
            .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        String::from_utf8(built.stdout).unwrap()
    });
    let is_it = |message: &Value| {
        message.pointer("/target/name").is_some_and(|found| found == name)
            && message.pointer("/target/kind/0").is_some_and(|kind| kind == "example")
    };
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let executable = messages.filter(is_it).find_map(|message| Some(message.get("executable")?.as_str()?.into()));
    executable.expect("cargo says where it put the program")
}

struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(name: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut child =
            Command::new(program(name)).args(args).envs(env.iter().copied()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line_with(&mut self, text: &str) -> String {
        let found = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("the program ended");
                if line.contains(text) {
                    return line;
                }
            }
        };
        timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("no line with {text:?}"))
    }

    async fn terminate(&self) {
        let id = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").arg(id).status().await.unwrap().success());
    }

    async fn ended_well(&mut self) {
        assert!(timeout(LIMIT, self.child.wait()).await.expect("it ends").unwrap().success());
    }
}

/// A shop on a free port, and the URL under which it listens.
async fn shop(env: &[(&str, &str)]) -> (Running, String) {
    let mut shop = Running::start("shop", &[], &[&[("SHOP_PORT", "0")], env].concat());
    let started: Value = serde_json::from_str(&shop.line_with("start").await).unwrap();
    let port = started.pointer("/details/port").and_then(Value::as_u64).unwrap();
    (shop, format!("http://127.0.0.1:{port}"))
}

/// Where a run leaves its files.
fn file(name: &str) -> String {
    std::env::temp_dir().join(format!("haldane-load-{}-{name}", std::process::id())).display().to_string()
}

fn take(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::remove_file(path).unwrap();
    text
}

fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

#[tokio::test]
async fn a_version_that_fails_after_twenty_requests_is_seen_to_fail_from_the_next_one_on() {
    let (mut shop, url) = shop(&[("SHOP_VERSION", "v2"), ("SHOP_FAIL", "path=/orders,code=500,after=20")]).await;
    let (json, log) = (file("after.json"), file("after.csv"));
    let args = ["--target", &url, "--path", "/orders", "--path", "POST /orders", "--fresh", "40", "--keepalive", "2"];
    let more = ["--keepalive-rate", "40", "--max-requests", "60", "--json", &json, "--log", &log];
    let mut load = Running::start("load", &[&args[..], &more[..]].concat(), &[]);
    load.ended_well().await;
    shop.terminate().await;
    assert!(shop.line_with("stop").await.contains(r#""requests":60"#));
    shop.ended_well().await;

    let report: Value = serde_json::from_str(&take(&json)).unwrap();
    let sums = ["/requests", "/ok", "/failed", "/failures/http_500/v2", "/versions/v2/all/failed", "/reconnects"];
    assert_eq!(sums.map(|sum| number(&report, sum)), [60, 20, 40, 40, 40, 0]);
    assert_eq!(number(&report, "/keepalive_connects"), 2);
    let log = take(&log);
    let ended = |text: &str| log.lines().skip(1).filter(|line| line.contains(text)).count();
    assert_eq!((ended(",v2,"), ended(",500,v2,"), ended(",fresh,") + ended(",keepalive,")), (60, 40, 60));
}

#[tokio::test]
async fn slow_requests_are_mixed_in_on_connections_of_both_kinds() {
    let (mut shop, url) = shop(&[("SHOP_VERSION", "v1")]).await;
    let log = file("slow.csv");
    let args = ["--target", &url, "--host", "shop.test", "--slow", "20", "--slow-path", "/slow?ms=200", "--max-requests", "200"];
    let mut load = Running::start("load", &[&args[..], &["--keepalive-rate", "50", "--log", &log]].concat(), &[]);
    load.ended_well().await;
    shop.terminate().await;
    shop.ended_well().await;
    let log = take(&log);
    let of = |kind: &str| log.lines().filter(|line| line.contains(kind) && line.contains("/slow?ms=200,200,v1")).count();
    assert!(of(",fresh,") > 5 && of(",keepalive,") > 5 && (25..=55).contains(&(of(",fresh,") + of(",keepalive,"))), "{log}");
    let took = |line: &str| line.split(',').nth(2).and_then(|us| us.parse::<u64>().ok());
    assert!(log.lines().filter(|line| line.contains("/slow")).all(|line| took(line) >= Some(200_000)), "{log}");
}

#[tokio::test]
async fn customers_of_a_shop_that_drains_lose_nothing_and_leave() {
    let (mut shop, url) = shop(&[("SHOP_VERSION", "v1"), ("SHOP_ON_TERM", "drain")]).await;
    let json = file("drain.json");
    let args = ["--target", &url, "--keepalive-rate", "100", "--json", &json, "--watch-version", "v1"];
    let mut load = Running::start("load", &args, &[]);
    load.line_with("watch v1 first").await;
    shop.terminate().await;
    // The listener stays open for 3 s; two lines are between one and two.
    load.line_with("requests=").await;
    load.line_with("requests=").await;
    load.terminate().await;
    load.line_with("watch v1 last").await;
    load.ended_well().await;
    shop.ended_well().await;

    let report: Value = serde_json::from_str(&take(&json)).unwrap();
    assert_eq!(number(&report, "/failed"), 0, "{report:#}");
    assert!(number(&report, "/keepalive_connects") > 20, "Connection: close was not followed: {report:#}");
}

#[tokio::test]
async fn a_shop_that_exits_cuts_what_it_works_on_and_the_report_says_so() {
    let (mut shop, url) = shop(&[("SHOP_VERSION", "v1")]).await;
    let json = file("exit.json");
    let args = ["--target", &url, "--path", "/slow?ms=400", "--path", "/products", "--duration", "2s", "--json", &json];
    let mut load = Running::start("load", &[&args[..], &["--watch-version", "v1"]].concat(), &[]);
    load.line_with("watch v1 first").await;
    load.line_with("requests=").await;
    shop.terminate().await;
    shop.ended_well().await;
    load.ended_well().await;

    let report: Value = serde_json::from_str(&take(&json)).unwrap();
    let cut = number(&report, "/failures/eof/-") + number(&report, "/failures/reset/-");
    assert!(cut > 10, "requests in flight were hidden: {report:#}");
    assert!(number(&report, "/failures/refused/-") > 50, "{report:#}");
    assert!(number(&report, "/longest_gap/us") > 500_000, "{report:#}");
    assert_eq!(number(&report, "/requests"), number(&report, "/ok") + number(&report, "/failed"));
}

#[tokio::test]
async fn a_stranger_is_refused_before_a_packet_leaves() {
    let load = Command::new(program("load")).args(["--target", "http://8.8.8.8:80"]).output().await.unwrap();
    assert!(!load.status.success());
    assert!(String::from_utf8_lossy(&load.stderr).contains("never asks anybody else"));
}
