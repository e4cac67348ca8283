//! The built plugin against a small API server: what it prints, what it writes, and the number it ends with.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test stops at what it did not expect")]

use std::{
    path::PathBuf,
    process::Output,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::IntoResponse,
};
use serde_json::{Value, json};
use tokio::process::Command;

/// Every write, as `POST path body`.
type Writes = Arc<Mutex<Vec<(String, Value)>>>;

/// A server with one Delivery in it, and a kubeconfig for it.
struct Server {
    kubeconfig: PathBuf,
    writes: Writes,
}

impl Server {
    async fn start(name: &str, delivery: Value) -> Self {
        let writes = Writes::default();
        let state = (Arc::new(delivery), writes.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(state);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let kubeconfig = std::env::temp_dir().join(format!("haldane-plugin-{name}-{}.json", std::process::id()));
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "k", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "shop"}}]});
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Self { kubeconfig, writes }
    }

    async fn run(&self, args: &[&str]) -> (i32, String) {
        let kubeconfig = self.kubeconfig.to_str().unwrap();
        plugin(&[args, &["--kubeconfig", kubeconfig]].concat()).await
    }

    fn written(&self) -> Vec<(String, Value)> {
        self.writes.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

async fn answer(State((delivery, writes)): State<(Arc<Value>, Writes)>, method: Method, uri: Uri, body: Bytes) -> impl IntoResponse {
    let path = uri.path();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if path.ends_with("/selfsubjectreviews") {
        let mut review = body;
        review["status"] = json!({"userInfo": {"username": "ana@example.com"}});
        return (StatusCode::CREATED, review.to_string());
    }
    if method != Method::GET {
        writes.lock().unwrap().push((format!("{method} {path}"), body.clone()));
        let mut made = body;
        if let Some(prefix) = made.pointer("/metadata/generateName").and_then(Value::as_str).map(str::to_owned) {
            made["metadata"]["name"] = json!(prefix + "x1");
        }
        return (StatusCode::CREATED, made.to_string());
    }
    let kept = writes.lock().unwrap().iter().find(|(at, _)| at.starts_with("POST") && path.contains("/commands/")).map(|(_, c)| c.clone());
    let found = match path {
        "/apis/haldane.dev/v1alpha1/namespaces/shop/deliveries/checkout" => Some(delivery.as_ref().clone()),
        "/apis/haldane.dev/v1alpha1/namespaces/shop/deliveries" => {
            Some(json!({"kind": "DeliveryList", "apiVersion": "haldane.dev/v1alpha1", "metadata": {}, "items": [delivery.as_ref()]}))
        }
        "/apis/haldane.dev/v1alpha1/namespaces/shop/productionprobes/order" => Some(order_bot()),
        _ => kept.map(|mut command| {
            command["metadata"]["name"] = json!("checkout-abort-x1");
            command["status"] = json!({"result": "Done", "message": "carried out"});
            command
        }),
    };
    let Some(found) = found else {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound", "code": 404,
            "message": format!("{path} not found")});
        return (StatusCode::NOT_FOUND, status.to_string());
    };
    (StatusCode::OK, found.to_string())
}

fn order_bot() -> Value {
    json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "ProductionProbe", "metadata": {"name": "order", "namespace": "shop"}, "spec": {
        "target": {"serviceRef": {"name": "checkout"}}, "mutates": true,
        "secrets": [{"name": "token", "secretRef": {"name": "bot", "key": "token"}}],
        "steps": [{"name": "place", "request": {"method": "POST", "path": "/orders", "json": {"ref": "synth-${run.id}"},
            "headers": [{"name": "Authorization", "value": "Bearer ${secrets.token}"}]}, "expect": {"status": [201]}}]}})
}

async fn plugin(args: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_kubectl-haldane")).args(args).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout) + &text(stderr))
}

fn delivery(status: &Value) -> Value {
    json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery", "metadata": {"name": "checkout", "namespace": "shop", "uid": "u"},
        "spec": {"workloads": [{"name": "checkout"}]}, "status": status})
}

fn rolling() -> Value {
    delivery(&json!({"phase": "Canary", "reason": "Baking", "message": "v2 bakes", "live": {"release": "a", "version": "v1"},
        "desired": {"release": "b", "version": "v2"}, "rollout": {"release": "b", "from": "a", "direction": "Forward", "step": 1, "steps": 3}}))
}

#[tokio::test]
async fn a_slip_in_the_command_line_is_never_taken_for_a_verdict() {
    assert_eq!(plugin(&["promte"]).await.0, 64);
    let (code, help) = plugin(&["--help"]).await;
    assert_eq!(code, 0);
    assert!(help.contains("Exit codes:") && help.contains("\n  4   timeout"), "{help}");
    let (code, says) = plugin(&["status", "--kubeconfig", "/does/not/exist"]).await;
    assert_eq!(code, 5);
    assert!(says.starts_with("error: /does/not/exist cannot be read"), "{says}");
}

#[tokio::test]
async fn the_table_shows_the_stored_sentence() {
    let server = Server::start("table", rolling()).await;
    let (code, text) = server.run(&["status"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("checkout   v2        v1     Canary") && text.contains("v2 bakes"), "{text}");
}

#[tokio::test]
async fn a_probe_is_sketched_without_a_secret_and_changes_nothing_without_a_word() {
    let server = Server::start("probe", rolling()).await;
    let (code, text) = server.run(&["probe", "run", "pp/order", "--dry-run"]).await;
    assert_eq!(code, 0, "{text}");
    let expected = "# steps: place, expects 201\ncurl -sS -i -X POST 'http://checkout/orders' -H 'Content-Type: application/json' \
                    -H 'Authorization: Bearer '\"${TOKEN}\" -d '{\"ref\":\"synth-'\"${RUN_ID}\"'\"}'\n";
    assert_eq!(text, expected);
    let (code, text) = server.run(&["probe", "run", "order"]).await;
    assert_eq!((code, text.as_str()), (2, "error: ProductionProbe order changes production; see --dry-run, and run it with --yes\n"));
    let (code, text) = server.run(&["probe", "run", "order", "--yes"]).await;
    assert!(code == 2 && text.contains("Secret bot with the key token does not exist"), "{code} {text}");
    let (code, text) = server.run(&["probe", "run", "gone"]).await;
    assert_eq!((code, text.as_str()), (2, "error: there is no ProductionProbe gone in namespace shop\n"));
    assert_eq!(server.written(), []);
}

#[tokio::test]
async fn an_abort_is_one_command_in_the_users_name_and_waits_for_its_answer() {
    let server = Server::start("abort", rolling()).await;
    let (code, text) = server.run(&["abort", "-m", "errors in the shop"]).await;
    assert_eq!(code, 0, "{text}");
    let expected = "takes traffic of checkout back to v1 in one write; b is not started again by itself\ncommand.haldane.dev/checkout-abort-x1 created\nDone: carried out\n";
    assert_eq!(text, expected);
    let written = server.written();
    let [(at, order)] = written.as_slice() else { panic!("{written:?}") };
    assert_eq!(at, "POST /apis/haldane.dev/v1alpha1/namespaces/shop/commands");
    assert_eq!(
        order["spec"],
        json!({"deliveryRef": {"name": "checkout"}, "release": "b", "action": "Abort", "reason": "errors in the shop", "by": "ana@example.com"})
    );
}

#[tokio::test]
async fn an_order_that_cannot_apply_writes_nothing() {
    let server = Server::start("void", delivery(&json!({"phase": "Live", "live": {"release": "a", "version": "v1"}}))).await;
    let (code, text) = server.run(&["promote", "checkout"]).await;
    assert_eq!((code, text.as_str()), (5, "error: nothing is in flight: checkout is Live\n"));
    assert_eq!(server.written(), []);
}

#[tokio::test]
async fn a_hold_says_who_holds_until_when_and_how_it_ends() {
    let server = Server::start("hold", rolling()).await;
    let (code, text) = server.run(&["hold", "dlv/checkout", "-m", "black friday", "--until", "2h"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("hold.haldane.dev/checkout-hold-x1 created") && text.contains("kubectl haldane unhold checkout"), "{text}");
    let written = server.written();
    assert_eq!(written[0].1.pointer("/spec/by").unwrap(), "ana@example.com");
    assert!(written[0].1.pointer("/spec/until").is_some());
}
