//! Orders in one place: a shop with `SHOP_STORE` hands everything about orders on to another shop, as others do to a database.
//!
//! Without it each pod knows only the orders that it took itself.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);
/// 1000 orders × about 100 bytes, as many as a shop keeps.
const MOST: usize = 256 << 10;

/// What the store answers.
pub(crate) async fn ask(store: SocketAddr, method: &Method, path: &str, body: Bytes) -> anyhow::Result<(StatusCode, Value)> {
    timeout(PATIENCE, asked(store, method, path, body)).await.context("the store did not answer in time")?
}

async fn asked(store: SocketAddr, method: &Method, path: &str, body: Bytes) -> anyhow::Result<(StatusCode, Value)> {
    let stream = TcpStream::connect(store).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, store.to_string())
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let answer = Limited::new(response.into_body(), MOST).collect().await.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
    drop(sender);
    driver.abort();
    Ok((status, serde_json::from_slice(&answer)?))
}
