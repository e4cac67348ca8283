//! gRPC's health protocol at a port of its own: `grpc.health.v1.Health/Check` over HTTP/2 without TLS, and nothing else.
//!
//! An answer is a message of one field (`SERVING` 1, `NOT_SERVING` 2) behind five bytes, and trailers with the status.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::shop::Shop;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const PATH: &str = "/grpc.health.v1.Health/Check";
const SERVING: [u8; 7] = [0, 0, 0, 0, 2, 8, 1];
const NOT_SERVING: [u8; 7] = [0, 0, 0, 0, 2, 8, 2];

/// Serves until the process ends.
pub(crate) async fn listen(port: u16, shop: Arc<Shop>) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port)).await.with_context(|| format!("cannot listen on port {port}"))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let shop = Arc::clone(&shop);
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = answer(request.uri().path(), &shop);
                    async move { Ok::<_, Infallible>(answer) }
                });
                // A client that goes away is no event for a shop.
                let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(())
}

type Frames = futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>;

fn answer(path: &str, shop: &Shop) -> Response<StreamBody<Frames>> {
    let (message, status) = match (path, shop.serves()) {
        (PATH, true) => (Some(SERVING), "0"),
        (PATH, false) => (Some(NOT_SERVING), "0"),
        _ => (None, "12"),
    };
    let trailers = HeaderMap::from_iter([(STATUS, HeaderValue::from_static(status))]);
    let message = message.map(|message| Ok(Frame::data(Bytes::copy_from_slice(&message))));
    let frames: Vec<_> = message.into_iter().chain([Ok(Frame::trailers(trailers))]).collect();
    let mut response = Response::new(StreamBody::new(futures::stream::iter(frames)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
