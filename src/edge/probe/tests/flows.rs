//! Flows over several steps against a small shop: what is kept, what is put right, and what never leaves.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::*;
use crate::{
    api::probe_run::{ProbeRevision, PutRight},
    model::probe::{Capture, Place, SECRETS, Sweep, That, Until},
};

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
        async move { prober().run(&check, at, at, None).await }
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

/// A page for the runs of a check.
fn entry(ledger: &Arc<InMemory>) -> Entry {
    let cancel = json!([{"name": "cancel", "request": {"method": "DELETE", "path": "/orders/${id}"}}]);
    let put_right: PutRight = serde_json::from_value(json!({"target": {"serviceRef": {"name": "shop"}}, "teardown": cancel})).unwrap();
    let probe = ProbeRevision { name: "place-order".into(), ..ProbeRevision::default() };
    let page = Page { namespace: "demo".into(), delivery: "shop".into(), probe, put_right, most: 20 };
    Entry { ledger: ledger.clone(), page: Arc::new(page) }
}

async fn written(check: &Check, at: std::net::SocketAddr, ledger: &Arc<InMemory>) -> Run {
    timeout(2 * LONG, prober().run(&Arc::new(check.clone()), at, at, Some(entry(ledger)))).await.expect("an outcome in time")
}

fn lines(ledger: &InMemory) -> Vec<String> {
    ledger.lines.lock().unwrap().clone()
}

#[tokio::test]
async fn a_run_is_written_down_before_it_changes_anything_and_what_teardown_needs_before_it_goes_on() {
    let (server, shop) = open(Shop::default()).await;
    let ledger = Arc::new(InMemory::default());
    let mut check = order();
    check.setup.insert(0, step("look", "GET", "/"));
    check.setup[0].expect.status = vec![200];
    let run = written(&check, server.address, &ledger).await;
    assert_pass(&run.outcome);
    assert_eq!(lines(&ledger), ["open place-order", r#"keep {"id": "o/1"}"#, "close None"]);
    assert!(shop.lock().unwrap().orders.is_empty() && run.unwritten.is_none());

    // One that only reads is never written down, and one that cannot be changes nothing.
    let ledger = Arc::new(InMemory::default());
    *ledger.refuses.lock().unwrap() = Some("open");
    let before = server.heads().len();
    let run = written(&check, server.address, &ledger).await;
    let sent = server.heads().into_iter().skip(before).collect::<Vec<_>>();
    assert!(sent.len() == 1 && sent[0].starts_with("GET / "), "{sent:?}");
    assert_eq!(run.unwritten.as_deref(), Some("its ProbeRun cannot be written: no right"));
    assert_eq!(
        run.outcome,
        Outcome::Void { class: Class::Prober, said: "POST /login was not sent: its ProbeRun cannot be written: no right".into() }
    );
}

#[tokio::test]
async fn a_run_whose_order_cannot_be_written_down_goes_no_further_and_is_put_right() {
    let (server, shop) = open(Shop::default()).await;
    let ledger = Arc::new(InMemory::default());
    *ledger.refuses.lock().unwrap() = Some("keep");
    let run = written(&order(), server.address, &ledger).await;
    assert!(
        matches!(&run.outcome, Outcome::Void { class: Class::Prober, said } if said.starts_with("POST /orders was answered, and the run went no further"))
    );
    assert!(server.heads().iter().all(|head| !head.starts_with("GET ")), "the next step was not sent");
    assert!(shop.lock().unwrap().orders.is_empty());
    assert_eq!(lines(&ledger), ["open place-order", "close None"]);
}

#[tokio::test]
async fn what_is_left_is_written_down_and_is_put_right_by_another_process() {
    let (server, shop) = open(Shop { broken: Some("DELETE"), ..Shop::default() }).await;
    let ledger = Arc::new(InMemory::default());
    let run = written(&order(), server.address, &ledger).await;
    assert_eq!(lines(&ledger).pop().unwrap(), format!("close {:?}", run.left.as_deref()));
    let name = ledger.open.lock().unwrap()[0].clone();
    // All that another process knows: no step, no session, and the one value that was kept.
    let check = Check { setup: order().setup_anew(), steps: vec![], ..order() };
    let kept = std::collections::BTreeMap::from([("id".to_owned(), "o/1".to_owned())]);
    let again = async || prober().put_right(&check, server.address, &name, &kept).await;
    assert_eq!(again().await.as_deref(), Some("DELETE /orders/${id} answered 500, expected 200 or 404"));
    shop.lock().unwrap().broken = None;
    assert_eq!(again().await, None);
    assert!(shop.lock().unwrap().orders.is_empty());
    assert_eq!(again().await, None, "twice does no harm");
    let heads = server.heads();
    let last = heads.last().unwrap();
    assert!(last.contains("cookie: sid=c00kie") && last.contains(&format!("x-haldane-run: {}", name.as_str())), "{last}");
    shop.lock().unwrap().broken = Some("POST");
    assert!(again().await.unwrap().starts_with("POST /login answered 500"), "without a session nobody knows whether it is there");
}

/// A shop whose orders can be listed, with what they are called.
fn swept(answer_to: &'static str) -> Check {
    let sweep = Sweep {
        list: step("list", "GET", "/list"),
        items: "$.orders[*]".into(),
        named: "$.ref".into(),
        prefix: "synth-".into(),
        older_than: Sweep::OLDER_THAN,
        delete: step("delete", "DELETE", "/orders/${item.id}"),
    };
    let place = Step {
        body: Some(Body::Json(json!({"ref": "synth-${run.id}"}))),
        capture: vec![kept("id", Place::Json(answer_to.into()))],
        ..step("place", "POST", "/orders")
    };
    Check { teardown: vec![step("cancel", "DELETE", "/orders/${id}")], sweep: Some(Box::new(sweep)), ..check(vec![place]) }
}

/// It keeps what is posted, and lists it with what was there before.
async fn listing(before: Vec<Value>) -> (Server, Arc<Mutex<Vec<Value>>>) {
    let orders = Arc::new(Mutex::new(before));
    let inside = orders.clone();
    let server = Server::start(move |mut stream, _, heard| {
        let orders = inside.clone();
        async move {
            loop {
                let head = heard.read(&mut stream).await?;
                let said = {
                    let mut orders = orders.lock().unwrap();
                    let (method, rest) = head.split_once(' ').unwrap();
                    match method {
                        "POST" => {
                            let mut order: Value = serde_json::from_str(head.split_once("\r\n\r\n").unwrap().1).unwrap();
                            order["id"] = json!(format!("new-{}", orders.len()));
                            orders.push(order.clone());
                            answer(201, "", &order)
                        }
                        "DELETE" => {
                            let id = rest.split(' ').next().unwrap().rsplit('/').next().unwrap();
                            let there = orders.len();
                            orders.retain(|order| order["id"] != id);
                            answer(if orders.len() < there { 200 } else { 410 }, "", &json!({}))
                        }
                        _ => answer(200, "", &json!({"orders": *orders})),
                    }
                };
                stream.write_all(said.as_bytes()).await.ok()?;
            }
        }
    });
    (server.await, orders)
}

#[tokio::test]
async fn what_teardown_cannot_know_is_found_by_the_name_of_its_run_and_nothing_else_is_touched() {
    let old = RunName::new(jiff::Timestamp::from_second(1_700_000_000).unwrap(), [1; RunName::RANDOM]);
    let others = vec![json!({"id": "a", "ref": "customer"}), json!({"id": "b", "ref": format!("synth-{}", old.as_str())})];
    let (server, orders) = listing(others.clone()).await;
    // The answer has no such value, so nobody knows what was made.
    let run = flow(&swept("$.number"), server.address).await;
    assert_eq!((fail(run.outcome).0, run.left), (Class::Assertion, None));
    assert_eq!(*orders.lock().unwrap(), others, "the order of this run is gone, and no other");

    // The hourly sweep takes what it is told to, and no customer's.
    let all = |run: &RunName| run.as_str() == old.as_str();
    let swept_away = prober().sweep(&swept("$.id"), server.address, &all).await;
    assert_eq!(swept_away, Swept { gone: 1, left: None });
    assert_eq!(orders.lock().unwrap().len(), 1);
    assert_eq!(prober().sweep(&swept("$.id"), server.address, &|_: &RunName| true).await, Swept { gone: 0, left: None });
}

#[tokio::test]
async fn a_sweep_is_bounded_and_tells_what_it_could_not_do() {
    let name = |n: u8| RunName::new(jiff::Timestamp::from_second(1_700_000_000).unwrap(), [n; RunName::RANDOM]);
    let many: Vec<Value> = (0..60).map(|n| json!({"id": format!("o{n}"), "ref": format!("synth-{}", name(n).as_str())})).collect();
    let (server, orders) = listing(many).await;
    let every = |_: &RunName| true;
    assert_eq!(prober().sweep(&swept("$.id"), server.address, &every).await.gone, Sweep::MOST);
    assert_eq!(orders.lock().unwrap().len(), 10);
    let broken = Server::answering("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n").await;
    let failed = prober().sweep(&swept("$.id"), broken.address, &every).await;
    assert_eq!(failed, Swept { gone: 0, left: Some("GET /list answered 500, expected 2xx".into()) });
}
