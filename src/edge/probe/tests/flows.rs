//! Flows over several steps against a small shop: what is kept, what is put right, and what never leaves.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::*;
use crate::model::probe::{Capture, Place, SECRETS, That, Until};

/// Orders that are made, read and cancelled.
#[derive(Default)]
struct Shop {
    orders: Vec<String>,
    /// The order that is open after so many looks.
    opens_after: usize,
    looks: usize,
    /// What it cannot do.
    broken: Option<&'static str>,
}

fn answer(status: u16, headers: &str, body: &Value) -> String {
    let body = body.to_string();
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

impl Shop {
    fn answers(&mut self, head: &str) -> String {
        let line = head.lines().next().unwrap_or_default().to_owned();
        let (method, path) = (line.split(' ').next().unwrap_or_default(), line.split(' ').nth(1).unwrap_or_default());
        if self.broken == Some(method) {
            return answer(500, "", &json!({"said": "tok3n-canary"}));
        }
        match (method, path) {
            ("POST", "/login") => answer(200, "Set-Cookie: sid=c00kie; Path=/\r\nX-Csrf: cs7f\r\n", &json!({})),
            ("POST", "/orders") => {
                let id = format!("o/{}", self.orders.len() + 1);
                self.orders.push(id.clone());
                answer(201, "", &json!({"order": {"id": id, "state": "new"}}))
            }
            ("GET", _) => {
                self.looks += 1;
                let state = if self.looks > self.opens_after { "open" } else { "new" };
                answer(200, "", &json!({"order": {"state": state, "total": 19.95}}))
            }
            ("DELETE", _) => {
                let known = self.orders.iter().position(|id| path.ends_with(&id.replace('/', "%2F")));
                known.map(|at| self.orders.remove(at));
                answer(if known.is_some() { 200 } else { 404 }, "", &json!({}))
            }
            _ => answer(404, "", &json!({})),
        }
    }
}

async fn open(shop: Shop) -> (Server, Arc<Mutex<Shop>>) {
    let shop = Arc::new(Mutex::new(shop));
    let inside = shop.clone();
    let server = Server::start(move |mut stream, _, heard| {
        let shop = inside.clone();
        async move {
            loop {
                let head = heard.read(&mut stream).await?;
                let answer = shop.lock().unwrap().answers(&head);
                stream.write_all(answer.as_bytes()).await.ok()?;
            }
        }
    });
    (server.await, shop)
}

fn kept(name: &str, from: Place) -> Capture {
    Capture { name: name.into(), from }
}

/// Places an order, waits until it is open, and cancels it afterwards.
fn order() -> Check {
    let place = Step {
        headers: vec![("Authorization".into(), "Bearer ${secrets.token}".into()), ("X-Csrf".into(), "${csrf}".into())],
        body: Some(Body::Json(json!({"ref": "synth-${run.id}"}))),
        capture: vec![kept("id", Place::Json("$.order.id".into()))],
        expect: Expect { status: vec![201], that: vec![That("json.order.state == 'new'".into())], ..Expect::default() },
        ..step("place", "POST", "/orders")
    };
    let read = Step {
        expect: Expect { that: vec![That("json.order.state == 'open' && latency < duration('5s')".into())], ..Expect::default() },
        until: Some(Until { every: Duration::from_millis(5), within: Duration::from_secs(5) }),
        ..step("read", "GET", "/orders/${id}")
    };
    let login = Step {
        capture: vec![kept("csrf", Place::Header("X-Csrf".into())), kept("sid", Place::Cookie("sid".into()))],
        ..step("login", "POST", "/login")
    };
    let cancel = Step {
        expect: Expect { status: vec![200, 404], ..Expect::default() },
        headers: vec![("Cookie".into(), "sid=${sid}".into())],
        ..step("cancel", "DELETE", "/orders/${id}")
    };
    let mut secrets = Vars::default();
    secrets.set(&format!("{SECRETS}token"), "tok3n-canary".into());
    Check { setup: vec![login], teardown: vec![cancel], secrets, ..check(vec![place, read]) }
}

#[tokio::test]
async fn what_an_answer_brings_is_there_for_the_next_step_and_for_what_puts_it_right() {
    let (server, shop) = open(Shop { opens_after: 3, ..Shop::default() }).await;
    let run = flow(&order(), server.address).await;
    assert_pass(&run.outcome);
    assert_eq!((run.left, run.answered.len()), (None, 2), "setup is no answer of the version");
    let heads = server.heads();
    let lines: Vec<&str> = heads.iter().map(|head| head.lines().next().unwrap()).collect();
    let (read, cancel) = ("GET /orders/o%2F1 HTTP/1.1", "DELETE /orders/o%2F1 HTTP/1.1");
    assert_eq!(lines, ["POST /login HTTP/1.1", "POST /orders HTTP/1.1", read, read, read, read, cancel]);
    assert!(heads[1].contains("Bearer tok3n-canary") && heads[1].contains("x-csrf: cs7f"), "{}", heads[1]);
    assert!(heads[6].contains("cookie: sid=c00kie"), "{}", heads[6]);
    let id = heads[1].lines().find_map(|line| line.strip_prefix("x-haldane-run: ")).unwrap().to_owned();
    assert!(heads.iter().all(|head| head.contains(&format!("x-haldane-run: {id}"))), "every request says of which run it is");
    assert!(heads[1].contains(&format!("synth-{id}")) && heads[1].contains(&format!("idempotency-key: {id}-place")));
    assert!(shop.lock().unwrap().orders.is_empty(), "nothing is left");
}

#[tokio::test]
async fn what_was_made_is_put_right_also_when_a_step_fails() {
    let (server, shop) = open(Shop { broken: Some("GET"), ..Shop::default() }).await;
    let run = flow(&order(), server.address).await;
    let (class, step, said, status) = fail(run.outcome);
    assert_eq!((class, step.as_str(), status), (Class::HttpStatus, "read", Some(500)));
    assert!(said.starts_with("GET /orders/${id} answered 500, expected 2xx, asked "), "{said}");
    assert!(shop.lock().unwrap().orders.is_empty() && run.left.is_none());
}

#[tokio::test]
async fn what_was_never_made_is_not_put_right_and_what_cannot_be_is_told() {
    let (server, _shop) = open(Shop { broken: Some("POST"), ..Shop::default() }).await;
    let run = flow(&order(), server.address).await;
    assert!(matches!(&run.outcome, Outcome::Void { class: Class::Setup, said } if said.contains("POST /login answered 500")));
    assert_eq!((server.heads().len(), run.left), (1, None));
    let (server, shop) = open(Shop { broken: Some("DELETE"), ..Shop::default() }).await;
    let run = flow(&order(), server.address).await;
    assert_pass(&run.outcome);
    assert_eq!(run.left.as_deref(), Some("DELETE /orders/${id} answered 500, expected 200 or 404"));
    assert_eq!(shop.lock().unwrap().orders.len(), 1);
}

#[tokio::test]
async fn who_stops_asking_does_not_stop_what_puts_it_right() {
    let (server, shop) = open(Shop { opens_after: 20, ..Shop::default() }).await;
    let check = Arc::new(order());
    let asked = tokio::spawn({
        let (check, at) = (check.clone(), server.address);
        async move { prober().run(&check, at, at).await }
    });
    while shop.lock().unwrap().orders.is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    asked.abort();
    let emptied = async {
        while !shop.lock().unwrap().orders.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, emptied).await.expect("the order is cancelled all the same");
}

#[tokio::test]
async fn no_secret_and_no_answer_is_in_any_sentence() {
    let wrong = |change: fn(&mut Check)| {
        let mut check = order();
        change(&mut check);
        check
    };
    let first = |check: &mut Check| check.steps.first_mut().unwrap().expect.status = vec![202];
    let cases = [
        wrong(first),
        wrong(|check| check.steps[0].expect.that = vec![That("json.order.id == 1".into())]),
        wrong(|check| check.steps[0].capture = vec![kept("id", Place::Json("$.gone".into()))]),
        wrong(|check| check.steps[1].expect.that = vec![That("json.order.total == 'x'".into())]),
    ];
    for mut check in cases {
        check.steps[1].until = None;
        let (server, _) = open(Shop::default()).await;
        let run = flow(&check, server.address).await;
        let text = format!("{run:?} {check:?}");
        assert!(!text.contains("tok3n") && !text.contains("o/1") && !text.contains("19.95"), "{text}");
        assert!(matches!(run.outcome, Outcome::Fail { .. }), "{run:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_to_look_into_fails_and_one_that_nobody_looks_into_does_not() {
    let body = json!({"order": {"id": "x".repeat(exchange::BODY_CAP)}});
    let large = answer(201, "", &body);
    let looks = Check { setup: vec![], steps: vec![Step { headers: vec![], ..order().steps.remove(0) }], teardown: vec![], ..order() };
    let (_, _, said, _) = fail(run(&looks, Server::answering(large.clone()).await.address).await);
    assert!(said.contains("more than 256 KiB"), "{said}");
    assert_pass(&run(&get(), Server::answering(large).await.address).await);
}

#[test]
fn variables_that_nobody_sets_are_told_with_their_step() {
    let mut check = order();
    check.teardown[0].path = "/orders/${order}".into();
    assert_eq!(
        check.validate().unwrap_err().to_string(),
        "teardown[0]: there is no ${order}; capture it in a step before this one, or use run.id or secrets.NAME"
    );
    check.teardown[0].path = "/orders/${id}".into();
    check.validate().unwrap();
    check.steps[0].path = "/${id}".into();
    assert!(check.validate().unwrap_err().to_string().starts_with("steps[0]: there is no ${id}"), "not before it is captured");
}
