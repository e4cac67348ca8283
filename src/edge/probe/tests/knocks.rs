//! Questions without steps, against servers that speak gRPC's health protocol, or do not.

use std::convert::Infallible;

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Bytes, Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::model::probe::{Compare, Knock};

fn knock(knock: Knock) -> Check {
    Check { knock: Some(knock), ..check(Vec::new()) }
}

fn health(service: &str) -> Check {
    knock(Knock::Grpc { service: service.into() })
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// A message and a status, as a server of gRPC writes them.
fn said(message: &[u8], status: &str) -> Answer {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_str(status).unwrap());
    let framed = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], message].concat();
    let parts = [Ok(Frame::data(framed.into())), Ok(Frame::trailers(trailers))];
    let body = http_body_util::BodyExt::boxed(StreamBody::new(futures::stream::iter(parts)));
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

/// The overall server serves, `down` does not, and there is no other.
async fn orders(request: Request<Incoming>) -> Result<Answer, Infallible> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.uri().authority().unwrap().as_str(), "shop.example.com");
    assert_eq!(request.headers()["x-haldane-probe"], "place-order");
    let asked = request.into_body().collect().await.unwrap().to_bytes();
    let name = asked.get(7..).unwrap_or_default();
    Ok(match name {
        b"" | b"up" => said(&[8, 1], "0"),
        b"down" => said(&[8, 2], "0"),
        b"new" => said(&[], "0"),
        b"odd" => said(&[9, 9, 9], "0"),
        b"busy" => said(&[], "14"),
        _ => {
            let missing = Response::builder().header("content-type", "application/grpc").header("grpc-status", "5");
            missing.body(http_body_util::BodyExt::boxed(Full::new(Bytes::new()))).unwrap()
        }
    })
}

async fn grpc() -> Server {
    Server::start(|stream, _, _| async move {
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(orders)).await.ok()
    })
    .await
}

async fn told(service: &str) -> String {
    let server = grpc().await;
    let (class, step, said, _) = fail(run(&health(service), server.address).await);
    assert_eq!((class, step.as_str()), (Class::Assertion, "grpc"));
    said
}

#[tokio::test]
async fn a_server_that_serves_passes_as_a_whole_and_by_service() {
    let server = grpc().await;
    assert_pass(&run(&health(""), server.address).await);
    let run = flow(&health("up"), server.address).await;
    assert_pass(&run.outcome);
    assert_eq!(run.done.iter().map(|done| (done.step.as_str(), done.wrong.is_none())).collect::<Vec<_>>(), [("grpc", true)]);
}

#[tokio::test]
async fn one_that_does_not_serve_is_told_by_its_word() {
    assert_eq!(told("down").await, "gRPC health of down answered NOT_SERVING, expected SERVING");
    assert_eq!(told("new").await, "gRPC health of new answered UNKNOWN, expected SERVING");
    assert_eq!(told("gone").await, "gRPC health of gone answered NOT_FOUND: it knows no such service");
    assert_eq!(told("busy").await, "gRPC health of busy answered UNAVAILABLE, expected OK");
    assert_eq!(told("odd").await, "gRPC health of odd was answered with something that is no answer of health");
}

#[tokio::test]
async fn a_long_name_is_asked_as_it_is() {
    let name = "a".repeat(200);
    let server = Server::start(|stream, _, _| async move {
        let answer = |request: Request<Incoming>| async {
            let asked = request.into_body().collect().await.unwrap().to_bytes();
            // 200 as a varint of two bytes, behind the prefix and the field.
            assert_eq!(asked[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 0x01]);
            assert_eq!(asked.len(), 208);
            Ok::<_, Infallible>(said(&[8, 1], "0"))
        };
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(answer)).await.ok()
    })
    .await;
    assert_pass(&run(&health(&name), server.address).await);
}

#[tokio::test]
async fn a_server_of_grpc_without_health_and_one_of_http_are_told_apart() {
    let answering = |status: u16, kind: &'static str, grpc: &'static str| async move {
        Server::start(move |stream, _, _| async move {
            let answer = move |_: Request<Incoming>| async move {
                let answer = Response::builder().status(status).header("content-type", kind).header("grpc-status", grpc);
                Ok::<_, Infallible>(answer.body(Full::new(Bytes::new())).unwrap())
            };
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(answer)).await.ok()
        })
        .await
    };
    for (status, kind, grpc, class, words) in [
        (200, "application/grpc", "12", Class::Assertion, "answered UNIMPLEMENTED: it does not have grpc.health.v1.Health"),
        (200, "application/grpc", "99", Class::Assertion, "answered a status that gRPC does not have, expected OK"),
        (200, "application/grpc", "x", Class::Assertion, "was answered without a status of gRPC"),
        (200, "text/html", "0", Class::Assertion, "was answered with something that is not gRPC"),
        (404, "text/html", "0", Class::HttpStatus, "answered 404 of HTTP, expected gRPC"),
    ] {
        let server = answering(status, kind, grpc).await;
        let (is, _, said, code) = fail(run(&health(""), server.address).await);
        assert_eq!((is, said.as_str(), code), (class, format!("gRPC health {words}").as_str(), Some(status)));
    }
}

#[tokio::test]
async fn what_is_no_http_2_is_told() {
    let server = Server::answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    let (class, _, said, _) = fail(run(&health(""), server.address).await);
    assert_eq!((class, said.as_str()), (Class::Assertion, "gRPC health was answered with something that is not HTTP/2"));
}

#[tokio::test]
async fn a_request_that_is_reset_and_a_connection_that_ends_are_told() {
    // Settings of ours, and then RST_STREAM (type 3) of stream 1 with REFUSED_STREAM (7), or GOAWAY (type 7).
    let reset: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];
    let goaway: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
    for (frame, words) in
        [(reset, "found its request reset by the other side"), (goaway, "found the connection ended by the other side (GOAWAY)")]
    {
        let server = Server::start(move |mut stream, _, _| async move {
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.ok()?;
            // The preface, and the request behind it.
            let mut heard = [0; 4096];
            let mut read = 0;
            while read < 120 {
                read += stream.read(&mut heard).await.ok().filter(|more| *more > 0)?;
            }
            stream.write_all(frame).await.ok()?;
            while stream.read(&mut heard).await.ok()? > 0 {}
            Some(())
        })
        .await;
        let (class, _, said, _) = fail(run(&health(""), server.address).await);
        assert_eq!((class, said.as_str()), (Class::Connect, format!("gRPC health {words}").as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_never_answers_is_late() {
    let server = Server::start(|stream, _, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
        Some(())
    })
    .await;
    let (class, _, said, _) = fail(run(&health(""), server.address).await);
    assert_eq!((class, said.as_str()), (Class::Timeout, "gRPC health got no first byte of an answer within 10s"));
}

#[tokio::test]
async fn over_tls_the_certificate_is_verified() {
    let (ca, other) = (Ca::new(), Ca::new());
    let acceptor = ca.acceptor("shop.example.com", &["h2"]);
    let server = Server::start(move |stream, _, _| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await.ok()?;
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(orders)).await.ok()
        }
    })
    .await;
    let trusting = |ca: &Ca, check: Check| Check { scheme: Scheme::Https, trust: Some(ca.pem()), ..check };
    assert_pass(&run(&trusting(&ca, health("up")), server.address).await);
    let (class, _, said, _) = fail(run(&trusting(&other, health("")), server.address).await);
    assert_eq!((class, said.as_str()), (Class::Tls, "gRPC health failed: its certificate is not signed by a trusted CA"));

    let plain = ca.serve("shop.example.com").await;
    assert_pass(&run(&trusting(&ca, knock(Knock::Tcp)), plain.address).await);
    let elsewhere = Check { host: "other.example.com".into(), ..trusting(&ca, knock(Knock::Tcp)) };
    let (class, _, said, _) = fail(run(&elsewhere, plain.address).await);
    let words = format!("TLS on port {} failed: its certificate is for another host", plain.address.port());
    assert_eq!((class, said), (Class::Tls, words));
}

#[tokio::test]
async fn a_port_takes_a_connection_or_does_not() {
    let server = Server::answering(OK).await;
    assert_pass(&run(&knock(Knock::Tcp), server.address).await);
    assert!(server.heads().is_empty(), "nothing is sent");
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (class, step, said, _) = fail(run(&knock(Knock::Tcp), free).await);
    let words = format!("TCP port {} found the connection refused: nothing listens on the port", free.port());
    assert_eq!((class, step.as_str(), said), (Class::Connect, "tcp", words));
}

#[tokio::test]
async fn the_shape_of_an_answer_leaves_and_its_values_do_not() {
    let body = r#"{"id":1,"mail":"ana@example.com","card":{"number":"4111"}}"#;
    let server = Server::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    let looks = check(vec![Step { compare: Some(Compare::default()), ..step("read", "GET", "/orders") }, step("again", "GET", "/orders")]);
    let run = flow(&looks, server.address).await;
    assert_pass(&run.outcome);
    assert!(run.name.is_some());
    let [read, again] = run.done.as_slice() else { panic!("{:?}", run.done) };
    assert!(read.shape.is_some() && again.shape.is_none() && read.status == Some(200));
    let told = format!("{run:?}");
    assert!(told.contains("number") && !told.contains("4111") && !told.contains("ana@"), "{told}");
    // More than can be looked into is compared by its status alone.
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n{}", "x".repeat(300_000));
    let server = Server::answering(long).await;
    let run = flow(&looks, server.address).await;
    assert_pass(&run.outcome);
    assert!(run.done.iter().all(|done| done.shape.is_none()));
}
