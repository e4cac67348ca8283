//! P9: what asking costs. A flow of three steps over TLS with a CA of its own, as a probe runs it: processor time per run, and what 200 of
//! them at once do to each other and to memory.
//!
//! The server runs in a thread of its own, whose time is not counted; its memory is.

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    time::Duration,
};

use futures::future::join_all;
use haldane::{
    clock::Stopwatch,
    edge::probe::{HttpProber, Prober as _, Reach},
    model::probe::{Body, Check, Expect, Outcome, Scheme, Step, Vars},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::table::{line, rank};

const HOST: &str = "shop.example.com";
const AT_ONCE: usize = 200;
/// Processor time of one run.
const COST: Duration = Duration::from_micros(1500);
/// Memory of the process while 200 run at once.
const MEMORY_KIB: u64 = 64 * 1024;

/// `n` runs one after another, and then 200 at once.
pub(crate) fn cost(n: usize) {
    let Some((pem, address)) = server() else { return eprintln!("P9: the server did not start") };
    let check = Arc::new(check(pem));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return eprintln!("P9: no runtime") };
    runtime.block_on(async {
        let prober = HttpProber::new(Reach::Anywhere);
        let run = || async { prober.run(&check, address, address, None).await.outcome };
        // The CA is parsed once, and kept.
        if let outcome @ (Outcome::Fail { .. } | Outcome::Void { .. }) = run().await {
            return eprintln!("P9: the flow does not pass: {outcome:?}");
        }
        let mut each = Vec::with_capacity(n);
        for _ in 0..n {
            let before = on_cpu();
            run().await;
            each.push(on_cpu().saturating_sub(before).as_secs_f64() * 1e3);
        }
        let (p50, p99) = (rank(&mut each, 50), rank(&mut each, 99));
        let mean = each.iter().sum::<f64>() / each.len().max(1) as f64;
        let holds = mean <= COST.as_secs_f64() * 1e3;
        line(
            "P9",
            "processor time of a flow of 3 steps over TLS",
            &format!("mean {mean:.2} ms, median {p50:.2}, p99 {p99:.2}"),
            "1.5 ms",
            Some(holds),
        );
        let watch = Stopwatch::start();
        let outcomes = join_all((0..AT_ONCE).map(|_| run())).await;
        let wrong = outcomes.iter().filter(|outcome| !matches!(outcome, Outcome::Pass { .. })).count();
        let took = watch.elapsed().as_millis();
        line("P9", "200 at once: those that did not pass", &format!("{wrong}, all done in {took} ms"), "0", Some(wrong == 0));
        let most = peak_kib();
        let said = format!("{:.1} MiB, the server's part too", most as f64 / 1024.0);
        line("P9", "most memory of the process", &said, "64 MiB", Some(most <= MEMORY_KIB));
    });
}

fn check(ca: Vec<u8>) -> Check {
    let step = |name: &str, method: &str, path: &str, body: Option<serde_json::Value>| Step {
        name: name.to_owned(),
        method: method.to_owned(),
        path: path.to_owned(),
        headers: vec![("Authorization".to_owned(), "Bearer 0123456789abcdef".to_owned())],
        body: body.map(Body::Json),
        expect: Expect::default(),
        capture: Vec::new(),
        until: None,
        compare: None,
        deadline: Step::DEADLINE,
    };
    Check {
        name: "cost".to_owned(),
        scheme: Scheme::Https,
        host: HOST.to_owned(),
        setup: Vec::new(),
        steps: vec![
            step("products", "GET", "/products", None),
            step("order", "POST", "/orders", Some(serde_json::json!({"item": "tea"}))),
            step("read", "GET", "/orders/1", None),
        ],
        knock: None,
        suite: None,
        teardown: Vec::new(),
        sweep: None,
        secrets: Vars::default(),
        deadline: Check::DEADLINE,
        trust: Some(ca),
        tester: None,
        answered_by: None,
    }
}

/// A server in a thread of its own, which lives as long as the process; its CA and its address.
fn server() -> Option<(Vec<u8>, SocketAddr)> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || serve(&tell));
    told.recv().ok()
}

fn serve(tell: &mpsc::Sender<(Vec<u8>, SocketAddr)>) -> Option<()> {
    let mut ca = CertificateParams::new(Vec::new()).ok()?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().ok()?).ok()?;
    let key = KeyPair::generate().ok()?;
    let certificate = CertificateParams::new(vec![HOST.to_owned()]).ok()?.signed_by(&key, &ca).ok()?;
    let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).ok()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate.into()], key).ok()?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.ok()?;
        tell.send((ca.pem().into_bytes(), listener.local_addr().ok()?)).ok()?;
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { talk(acceptor.accept(stream).await.ok()?).await });
        }
        Some(())
    })
}

/// Answers each request, whatever it is. Those of this flow come one by one and in one piece each.
async fn talk(mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>) -> Option<()> {
    let mut heard = Vec::new();
    loop {
        if stream.read_buf(&mut heard).await.ok()? == 0 {
            return None;
        }
        let ends = heard.windows(4).position(|four| four == b"\r\n\r\n");
        let whole = ends.is_some_and(|end| !heard.starts_with(b"POST") || heard.len() > end + 4);
        if whole {
            heard.clear();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}").await.ok()?;
            stream.flush().await.ok()?;
        }
    }
}

/// How long this thread has run so far: the first number of its `schedstat`, in nanoseconds.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or_default())
}

/// The most memory that this process has had.
fn peak_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
