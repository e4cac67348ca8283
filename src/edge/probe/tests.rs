//! The prober against real sockets: what a person would read about a target that behaves like this.
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

mod flows;
mod knocks;
mod server;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::model::{
    probe::{AnsweredBy, Answerer, Body, Expect, Step, Vars, Wanted},
    route::Testers,
};
use server::{Ca, Server, talk};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(20);

/// On a busy machine our own lag is real; only the test about lag wants to see it.
fn prober() -> HttpProber {
    HttpProber::with_lag(Reach::Anywhere, Duration::from_hours(1))
}

fn step(name: &str, method: &str, path: &str) -> Step {
    Step {
        name: name.into(),
        method: method.into(),
        path: path.into(),
        headers: Vec::new(),
        body: None,
        expect: Expect::default(),
        capture: Vec::new(),
        until: None,
        compare: None,
        deadline: LONG,
    }
}

fn check(steps: Vec<Step>) -> Check {
    Check {
        name: "place-order".into(),
        scheme: Scheme::Http,
        host: "shop.example.com".into(),
        setup: Vec::new(),
        steps,
        suite: None,
        teardown: Vec::new(),
        sweep: None,
        secrets: Vars::default(),
        deadline: LONG,
        trust: None,
        tester: None,
        answered_by: None,
        knock: None,
    }
}

fn get() -> Check {
    check(vec![step("read", "GET", "/orders?token=s3cr3t")])
}

fn hasty() -> Check {
    check(vec![Step { deadline: SHORT, ..step("read", "GET", "/orders") }])
}

/// Runs with a limit of its own, so that no bug can hang the tests.
async fn run(check: &Check, target: SocketAddr) -> Outcome {
    flow(check, target).await.outcome
}

async fn flow(check: &Check, target: SocketAddr) -> Run {
    timeout(2 * LONG, prober().run(&Arc::new(check.clone()), target, target, None)).await.expect("an outcome in time")
}

fn fail(outcome: Outcome) -> (Class, String, String, Option<u16>) {
    match outcome {
        Outcome::Fail { class, step, said, status, .. } => (class, step, said, status),
        other => panic!("not a fail: {other:?}"),
    }
}

fn void_of(outcome: Outcome) -> (Class, String) {
    match outcome {
        Outcome::Void { class, said } => (class, said),
        other => panic!("not void: {other:?}"),
    }
}

fn assert_pass(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Pass { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_good_target_passes_and_sees_the_real_host_and_our_marks() {
    let server = Server::answering("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
    let mut place = step("place", "POST", "/orders");
    place.headers = vec![("Authorization".into(), "Bearer t".into())];
    place.body = Some(Body::Json(serde_json::json!({"ref": "synth-1"})));
    place.expect.status = vec![201];
    assert_pass(&run(&check(vec![place]), server.address).await);
    let head = server.heads().remove(0);
    let mark = format!("user-agent: haldane-probe/{}\r\n", env!("CARGO_PKG_VERSION"));
    let wanted = [
        "content-type: application/json\r\n",
        "x-haldane-probe: place-order\r\n",
        "connection: close\r\n",
        &mark,
        "authorization: Bearer t\r\n",
    ];
    assert!(head.starts_with("POST /orders HTTP/1.1\r\nhost: shop.example.com\r\n"), "{head}");
    assert!(wanted.iter().all(|line| head.contains(line)), "{head}");
    assert!(head.ends_with("{\"ref\":\"synth-1\"}"), "{head}");
}

#[tokio::test]
async fn a_wrong_status_is_told_with_what_was_expected_and_without_query_or_body() {
    let server = Server::answering("HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\ns3cr3t").await;
    let mut wanted = get();
    wanted.steps[0].expect.status = vec![200, 404];
    let outcome = run(&wanted, server.address).await;
    assert!(!format!("{outcome:?}").contains("s3cr3t"), "{outcome:?}");
    let said = "GET /orders answered 500, expected 200 or 404".to_owned();
    assert_eq!(fail(outcome), (Class::HttpStatus, "read".into(), said, Some(500)));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = Server::answering(OK).await;
    let answer = format!("HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n", elsewhere.address);
    let server = Server::answering(answer).await;
    let (class, _, said, status) = fail(run(&get(), server.address).await);
    assert_eq!((class, status), (Class::HttpStatus, Some(302)));
    assert_eq!(said, "GET /orders answered 302, expected 2xx (redirects are not followed)");
    assert!(elsewhere.heads().is_empty());
}

#[tokio::test]
async fn a_target_that_never_answers_is_slow_at_the_first_byte() {
    let server = Server::answering("").await;
    let (class, _, said, status) = fail(run(&hasty(), server.address).await);
    assert_eq!((class, status), (Class::Timeout, None));
    assert_eq!(said, "GET /orders got no first byte of an answer within 150ms");
}

#[tokio::test]
async fn a_body_that_trickles_is_slow_at_the_body() {
    let server = Server::start(|mut stream, _, heard| async move {
        heard.request(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await.ok()?;
        loop {
            stream.write_all(b"x").await.ok()?;
            sleep(Duration::from_millis(10)).await;
        }
    });
    let (class, _, said, status) = fail(run(&hasty(), server.await.address).await);
    assert_eq!((class, status), (Class::Timeout, Some(200)));
    assert_eq!(said, "GET /orders got no end of the answer's body within 150ms");
}

#[tokio::test]
async fn an_answer_later_than_promised_fails_with_both_numbers() {
    let server = Server::start(|mut stream, _, heard| async move {
        heard.request(&mut stream).await?;
        sleep(SHORT).await;
        stream.write_all(OK.as_bytes()).await.ok()
    });
    let mut wanted = get();
    wanted.steps[0].expect.within = Some(Duration::from_millis(20));
    let (class, _, said, status) = fail(run(&wanted, server.await.address).await);
    assert_eq!((class, status), (Class::Assertion, Some(200)));
    assert!(said.starts_with("GET /orders took ") && said.ends_with("ms, expected within 20ms"), "{said}");
}

#[tokio::test]
async fn a_port_on_which_nothing_listens_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (class, _, said, _) = fail(run(&get(), address).await);
    assert_eq!((class, said.as_str()), (Class::Connect, "GET /orders found the connection refused: nothing listens on the port"));
}

#[tokio::test]
async fn a_target_that_accepts_and_closes_is_a_connection_failure() {
    let server = Server::start(|_, _, _| async { None }).await;
    let (class, _, said, _) = fail(run(&get(), server.address).await);
    assert_eq!((class, said.as_str()), (Class::Connect, "GET /orders found the connection closed before the answer was complete"));
}

#[tokio::test]
async fn a_target_that_dies_in_the_middle_of_its_body_fails_with_its_status() {
    let server = Server::start(|mut stream, _, heard| async move {
        heard.request(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf").await.ok()
    });
    let (class, _, _, status) = fail(run(&get(), server.await.address).await);
    assert_eq!((class, status), (Class::Connect, Some(200)));
}

#[tokio::test]
async fn something_that_is_not_http_is_told_as_such() {
    let server = Server::answering("220 mail.example.com ESMTP\r\n\r\n").await;
    let (class, _, said, _) = fail(run(&get(), server.address).await);
    assert_eq!((class, said.as_str()), (Class::Assertion, "GET /orders was answered with something that is not HTTP/1.1"));
}

#[tokio::test]
async fn headers_without_end_are_bounded() {
    let many = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "X-More: 1\r\n".repeat(101));
    let large = format!("HTTP/1.1 200 OK\r\nX-Large: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(80 * 1024));
    for answer in [many, large] {
        let server = Server::answering(answer).await;
        let (class, _, said, _) = fail(run(&get(), server.address).await);
        assert_eq!(class, Class::Assertion);
        assert_eq!(said, "GET /orders was answered with more headers than 100, or larger than 64 KiB");
    }
}

#[tokio::test]
async fn of_a_body_without_end_only_the_first_part_is_read() {
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = sent.clone();
    let server = Server::start(move |mut stream, _, heard| {
        let count = count.clone();
        async move {
            heard.request(&mut stream).await?;
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await.ok()?;
            loop {
                stream.write_all(&[b'x'; 4096]).await.ok()?;
                count.fetch_add(4096, std::sync::atomic::Ordering::Relaxed);
            }
        }
    });
    assert_pass(&run(&get(), server.await.address).await);
    // What was read plus what the kernel's buffers hold on both sides.
    let sent = sent.load(std::sync::atomic::Ordering::Relaxed);
    assert!(sent < exchange::BODY_CAP + 16 * 1024 * 1024, "{sent} bytes were taken");
}

fn three(second: &str) -> Check {
    check(vec![step("one", "GET", "/1"), step("two", second, "/2"), step("three", "GET", "/3")])
}

#[tokio::test]
async fn later_steps_use_the_same_connection_and_only_the_last_asks_to_close() {
    let server = Server::answering(OK).await;
    assert_pass(&run(&three("GET"), server.address).await);
    assert_eq!(server.connections(), [0, 0, 0]);
    let closes: Vec<bool> = server.heads().iter().map(|head| head.contains("connection: close")).collect();
    assert_eq!(closes, [false, false, true]);
}

#[tokio::test]
async fn a_step_that_must_not_be_sent_twice_gets_a_connection_of_its_own() {
    let server = Server::answering(OK).await;
    assert_pass(&run(&three("POST"), server.address).await);
    assert_eq!(server.connections(), [0, 1, 1]);
}

#[tokio::test]
async fn a_target_that_closes_between_steps_is_connected_to_again() {
    let close = |say: &'static str| {
        Server::start(move |mut stream, _, heard| async move {
            heard.request(&mut stream).await?;
            stream.write_all(say.as_bytes()).await.ok()
        })
    };
    for say in [OK, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"] {
        for second in ["GET", "POST"] {
            let server = close(say).await;
            assert_pass(&run(&three(second), server.address).await);
            assert_eq!(server.connections(), [0, 1, 2]);
        }
    }
}

#[tokio::test]
async fn a_connection_that_takes_the_next_request_and_closes_without_an_answer_is_replaced_once() {
    let server = Server::start(|mut stream, number, heard| async move {
        heard.request(&mut stream).await?;
        stream.write_all(OK.as_bytes()).await.ok()?;
        if number == 0 {
            return heard.request(&mut stream).await;
        }
        talk(stream, heard, OK.into()).await
    });
    let server = server.await;
    assert_pass(&run(&three("GET"), server.address).await);
    assert_eq!(server.connections(), [0, 0, 1, 1]);
}

#[tokio::test]
async fn the_first_failure_ends_the_flow_and_names_its_step() {
    let server = Server::answering("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(fail(run(&three("GET"), server.address).await).1, "one");
    assert_eq!(server.heads().len(), 1);
}

#[tokio::test]
async fn the_flows_deadline_counts_all_steps_together() {
    let server = Server::start(|mut stream, _, heard| async move {
        heard.request(&mut stream).await?;
        sleep(Duration::from_millis(600)).await;
        stream.write_all(OK.as_bytes()).await.ok()?;
        stream.read_to_end(&mut Vec::new()).await.ok().map(|_| ())
    });
    let flow = Check { deadline: Duration::from_secs(1), ..three("GET") };
    let outcome = run(&flow, server.await.address).await;
    assert!(matches!(outcome, Outcome::Fail { took, .. } if took < Duration::from_millis(1500)), "{outcome:?}");
    let (class, step, said, _) = fail(outcome);
    assert_eq!((class, step.as_str()), (Class::Timeout, "two"));
    assert_eq!(said, "GET /2 got no first byte of an answer before the flow's 1s were over");
}

fn over_tls(trust: Option<Vec<u8>>) -> Check {
    Check { scheme: Scheme::Https, host: "shop.example.com:8443".into(), trust, ..three("GET") }
}

#[tokio::test]
async fn over_tls_the_right_ca_passes_and_the_server_sees_the_real_name() {
    let ca = Ca::new();
    let server = ca.serve("shop.example.com").await;
    assert_pass(&run(&over_tls(Some(ca.pem())), server.address).await);
    let heads = server.heads();
    assert_eq!((heads.len(), heads[0].as_str()), (4, "shop.example.com"));
    assert!(heads[1].contains("\r\nhost: shop.example.com:8443\r\n"), "{heads:?}");
}

#[tokio::test]
async fn over_tls_a_wrong_ca_a_wrong_name_and_plain_http_are_told_apart() {
    let (ca, other) = (Ca::new(), Ca::new());
    let right = ca.serve("shop.example.com").await;
    let wrong_name = ca.serve("evil.example.com").await;
    let plain = Server::answering(OK).await;
    let closing = Server::start(|_, _, _| async { None }).await;
    let table = [
        (right.address, other.pem(), "its certificate is not signed by a trusted CA"),
        (wrong_name.address, ca.pem(), "its certificate is for another host"),
        (closing.address, ca.pem(), "the connection ended during the TLS handshake"),
    ];
    for (target, pem, why) in table {
        let (class, _, said, _) = fail(run(&over_tls(Some(pem)), target).await);
        assert_eq!((class, said), (Class::Tls, format!("GET /1 was not sent: {why}")));
    }
    let slow = Check { deadline: SHORT, ..over_tls(Some(ca.pem())) };
    let (class, _, said, _) = fail(run(&slow, plain.address).await);
    assert_eq!((class, said.as_str()), (Class::Timeout, "GET /1 found no end of the TLS handshake before the flow's 150ms were over"));
    let speaks = Server::start(|mut stream, _, _| async move {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await.ok()?;
        stream.read_to_end(&mut Vec::new()).await.ok().map(|_| ())
    });
    let (class, _, said, _) = fail(run(&over_tls(Some(ca.pem())), speaks.await.address).await);
    assert_eq!((class, said.as_str()), (Class::Tls, "GET /1 was not sent: it does not speak TLS on this port"));
}

#[tokio::test]
async fn a_check_that_is_wrong_does_not_reach_the_target() {
    let server = Server::answering(OK).await;
    let wrong = Check { host: "http://x".into(), ..get() };
    let (class, said) = void_of(run(&wrong, server.address).await);
    assert_eq!(class, Class::Spec);
    assert!(said.starts_with("host: give the DNS name"), "{said}");
    let (class, said) = void_of(run(&over_tls(Some(b"no pem".to_vec())), server.address).await);
    assert_eq!(class, Class::Spec);
    assert!(said.starts_with("the CA bundle holds no certificate"), "{said}");
    let (class, said) = void_of(HttpProber::new(Reach::Cluster).run(&Arc::new(get()), server.address, server.address, None).await.outcome);
    assert_eq!((class, said.as_str()), (Class::Spec, "127.0.0.1 is a loopback address; probes are not sent there"));
    assert!(server.heads().is_empty());
}

#[tokio::test]
async fn when_we_are_late_ourselves_the_target_is_not_blamed() {
    let server = Server::start(|mut stream, _, heard| async move {
        heard.request(&mut stream).await?;
        std::thread::sleep(Duration::from_millis(300));
        stream.write_all(OK.as_bytes()).await.ok()
    });
    let server = server.await;
    let mut wanted = get();
    wanted.steps[0].expect.within = Some(Duration::from_millis(20));
    let late = HttpProber::new(Reach::Anywhere);
    for check in [wanted, hasty()] {
        let (class, said) =
            void_of(timeout(LONG, late.run(&Arc::new(check.clone()), server.address, server.address, None)).await.unwrap().outcome);
        assert_eq!(class, Class::Prober);
        assert!(said.contains("but the prober itself was "), "{said}");
    }
}

#[tokio::test]
async fn a_ninth_flow_waits_for_a_place_and_a_stuck_target_is_not_blamed_for_it() {
    let stuck = Server::answering("").await;
    let good = Server::answering(OK).await;
    let prober = prober();
    let mut flows = JoinSet::new();
    for _ in 0..MAX_FLOWS {
        let (prober, target) = (prober.clone(), stuck.address);
        flows.spawn(async move { prober.run(&Arc::new(get()), target, target, None).await.outcome });
    }
    let all_asked = async {
        while stuck.heads().len() < MAX_FLOWS {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, all_asked).await.expect("all eight are under way");
    let hasty = Check { deadline: SHORT, ..get() };
    let (class, said) = void_of(prober.run(&Arc::new(hasty), good.address, good.address, None).await.outcome);
    assert_eq!((class, said.as_str()), (Class::Prober, "all 8 places for flows were taken for 150ms; the target was not asked"));
    assert!(good.heads().is_empty());

    // Dropping the flows gives their places back and closes their connections.
    flows.shutdown().await;
    assert_pass(&timeout(LONG, prober.run(&Arc::new(get()), good.address, good.address, None)).await.unwrap().outcome);
}

#[tokio::test]
async fn dropping_a_flow_closes_its_connection() {
    let (gone, mut told) = tokio::sync::mpsc::channel(1);
    let server = Server::start(move |mut stream, _, heard| {
        let gone = gone.clone();
        async move {
            heard.request(&mut stream).await?;
            stream.read_to_end(&mut Vec::new()).await.ok()?;
            gone.send(()).await.ok()
        }
    });
    let server = server.await;
    assert!(timeout(SHORT, prober().run(&Arc::new(get()), server.address, server.address, None)).await.is_err(), "still waiting");
    timeout(LONG, told.recv()).await.expect("closed").unwrap();
}

fn by_version(wanted: Wanted, check: Check) -> Check {
    Check { answered_by: Some(AnsweredBy { header: "X-Shop-Version".into(), wanted }), ..check }
}

fn versioned(status: &str, version: &str) -> String {
    format!("HTTP/1.1 {status}\r\nx-shop-version: {version}\r\nX-Other: s3cr3t\r\nContent-Length: 2\r\n\r\nok")
}

fn who(version: &str) -> Answerer {
    Answerer::new(version).unwrap()
}

#[tokio::test]
async fn who_answered_is_learnt_by_one_header_and_nothing_can_show_it() {
    let server = Server::answering(versioned("200 OK", "s3cr3t-v2")).await;
    let run = flow(&by_version(Wanted::Anybody, three("GET")), server.address).await;
    assert_pass(&run.outcome);
    assert_eq!(run.answered, vec![Some(who("s3cr3t-v2")); 3]);
    assert!(!format!("{run:?}").contains("s3cr3t"), "{run:?}");
    assert_eq!(flow(&get(), server.address).await.answered, [None], "nobody asked for it");
    let failing = Server::answering(versioned("500 Oops", "v2")).await;
    let run = flow(&by_version(Wanted::Anybody, get()), failing.address).await;
    assert_eq!((run.says_who(), fail(run.outcome).0), (true, Class::HttpStatus), "a failing version says who it is as well");
    let long = Server::answering(versioned("200 OK", &"v".repeat(Answerer::MAX + 1))).await;
    assert_eq!(flow(&by_version(Wanted::Anybody, get()), long.address).await.answered, [None]);
}

#[tokio::test]
async fn an_answer_of_another_version_is_misrouted_whatever_is_wrong_with_it() {
    for status in ["200 OK", "500 Oops"] {
        let server = Server::answering(versioned(status, "v1")).await;
        for wanted in [Wanted::Of(vec![who("v2")]), Wanted::NotOf(vec![who("v0"), who("v1")])] {
            let run = flow(&by_version(wanted, three("GET")), server.address).await;
            let said = "GET /1 was answered by another version than was asked".to_owned();
            assert_eq!(void_of(run.outcome), (Class::Misrouted, said));
        }
        assert_eq!(server.heads().len(), 2, "nothing more is asked of it");
    }
    let server = Server::answering(versioned("200 OK", "v1")).await;
    for wanted in [Wanted::Of(vec![who("v1")]), Wanted::NotOf(vec![who("v2")])] {
        assert_pass(&run(&by_version(wanted, get()), server.address).await);
    }
}

#[tokio::test]
async fn a_later_step_that_meets_another_version_is_misrouted_too() {
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let server = Server::start(move |mut stream, _, heard| {
        let count = count.clone();
        async move {
            loop {
                heard.request(&mut stream).await?;
                let version = if count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 { "v1" } else { "v2" };
                stream.write_all(versioned("200 OK", version).as_bytes()).await.ok()?;
            }
        }
    });
    let (class, said) = void_of(run(&by_version(Wanted::NotOf(vec![who("v2")]), three("GET")), server.await.address).await);
    assert_eq!((class, said.as_str()), (Class::Misrouted, "GET /2 was answered by another version than was asked"));
}

#[tokio::test]
async fn where_nobody_says_who_answered_a_pass_is_worth_nothing_and_a_failure_stays_one() {
    let silent = Server::answering(OK).await;
    let (class, said) = void_of(run(&by_version(Wanted::Of(vec![who("v2")]), get()), silent.address).await);
    assert_eq!((class, said.as_str()), (Class::Misrouted, "no answer said by X-Shop-Version which version gave it"));
    // The Gateway answers so when it cannot reach the version at all.
    let gateway = Server::answering("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").await;
    let failed = flow(&by_version(Wanted::Of(vec![who("v2")]), get()), gateway.address).await;
    assert_eq!((failed.says_who(), fail(failed.outcome).0), (false, Class::HttpStatus));
}

#[tokio::test]
async fn every_request_of_a_tester_has_the_mark_once() {
    let marked = async |tester: Option<Testers>, headers: Vec<(String, String)>| {
        let server = Server::answering(OK).await;
        let mut check = Check { tester, ..three("GET") };
        check.steps.iter_mut().for_each(|step| step.headers.clone_from(&headers));
        assert_pass(&run(&check, server.address).await);
        let heads = server.heads();
        let lines = |head: &String| {
            let ours = head.lines().map(str::to_lowercase).filter(|l| l.starts_with("x-track") || l.starts_with("cookie"));
            ours.collect::<Vec<_>>().join(" | ")
        };
        assert_eq!(heads.len(), 3);
        assert!(heads.iter().all(|head| lines(head) == lines(&heads[0])), "{heads:?}");
        lines(&heads[0])
    };
    let cookies = || vec![("Cookie".to_owned(), "a=b; c=d".to_owned()), ("X-Track".to_owned(), "mine".to_owned())];
    assert_eq!(marked(None, Vec::new()).await, "");
    assert_eq!(marked(Some(Testers::Header("X-Track".into())), Vec::new()).await, "x-track: canary");
    assert_eq!(marked(Some(Testers::Header("x-track".into())), cookies()).await, "cookie: a=b; c=d | x-track: canary");
    assert_eq!(marked(Some(Testers::Cookie("track".into())), Vec::new()).await, "cookie: track=canary");
    assert_eq!(marked(Some(Testers::Cookie("track".into())), cookies()).await, "x-track: mine | cookie: a=b; c=d; track=canary");
}
