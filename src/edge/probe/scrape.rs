//! Reads the page on which a pod shows its metrics, over connections that stay open from one look to the next.
//!
//! Deliberately absent: redirects, proxies, compression, retries. A page that is late or too large is none.

use std::{net::SocketAddr, time::Duration};

use http::{
    Request,
    header::{ACCEPT, HeaderValue, USER_AGENT},
};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;

use super::line::HEAD_CAP;

/// The next look is a second later.
const DEADLINE: Duration = Duration::from_secs(1);
/// 20 pods × 4 MiB = 80 MiB at the very worst; a page of an app is some 50 KiB.
const PAGE: usize = 4 * 1024 * 1024;
/// Between two looks at rest lie 5 s.
const IDLE_FOR: Duration = Duration::from_secs(15);
const AGENT: HeaderValue = HeaderValue::from_static(concat!("haldane/", env!("CARGO_PKG_VERSION")));
const FORMAT: HeaderValue = HeaderValue::from_static("text/plain;version=0.0.4");

/// The connections.
pub(super) struct Pages {
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Default for Pages {
    fn default() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(DEADLINE));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(IDLE_FOR)
            .http1_max_buf_size(HEAD_CAP)
            .build(tcp);
        Self { client }
    }
}

impl Pages {
    /// The page at this address.
    pub(super) async fn page(&self, at: SocketAddr, path: &str) -> Result<String, String> {
        let late = |_| format!("did not come within {} ms", DEADLINE.as_millis());
        timeout(DEADLINE, self.whole(at, path)).await.map_err(late)?
    }

    async fn whole(&self, at: SocketAddr, path: &str) -> Result<String, String> {
        let request = Request::get(format!("http://{at}{path}")).header(USER_AGENT, AGENT).header(ACCEPT, FORMAT);
        let request = request.body(Empty::new()).map_err(|_| format!("have a path that is none: {path}"))?;
        let answer = self.client.request(request).await.map_err(|_| format!("cannot be had: nothing answers on port {}", at.port()))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("cannot be had: {path} on port {} answered {}", at.port(), status.as_u16()));
        }
        let body = Limited::new(answer.into_body(), PAGE).collect().await;
        let broken = |_| format!("broke off, or are more than {} MiB", PAGE / 1024 / 1024);
        String::from_utf8(body.map_err(broken)?.to_bytes().into()).map_err(|_| "are not text".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Answers every request on every connection with these bytes, and then nothing.
    async fn serves(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut asked = [0; 4096];
                    while stream.read(&mut asked).await.is_ok_and(|read| read > 0) {
                        let _ = stream.write_all(answer).await;
                    }
                });
            }
        });
        at
    }

    async fn page(answer: &'static [u8]) -> Result<String, String> {
        Pages::default().page(serves(answer).await, "/metrics").await
    }

    #[tokio::test]
    async fn a_page_is_read_and_the_connection_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 4096];
            let mut heads = Vec::new();
            for _ in 0..2 {
                let read = stream.read(&mut asked).await.unwrap();
                heads.push(String::from_utf8_lossy(&asked[..read]).into_owned());
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nup 1\n").await.unwrap();
            }
            heads
        });
        let pages = Pages::default();
        assert_eq!(pages.page(at, "/metrics").await, Ok("up 1\n".to_owned()));
        assert_eq!(pages.page(at, "/metrics").await, Ok("up 1\n".to_owned()));
        let heads = served.await.unwrap();
        assert!(heads[0].starts_with("GET /metrics HTTP/1.1\r\n") && heads[0].contains(&format!("host: {at}")), "{heads:?}");
    }

    #[tokio::test]
    async fn what_is_no_page_says_why() {
        assert!(page(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await.unwrap_err().contains("/metrics on port"));
        assert!(
            page(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n")
                .await
                .unwrap_err()
                .contains("302")
        );
        assert!(page(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe").await.unwrap_err().contains("not text"));
        assert!(page(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nup").await.unwrap_err().contains("did not come"));
        assert!(page(b"SSH-2.0-OpenSSH\r\n").await.unwrap_err().contains("nothing answers"));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(Pages::default().page(closed, "/metrics").await.unwrap_err().contains("nothing answers"));
    }

    #[tokio::test]
    async fn a_page_without_an_end_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let much = vec![b'x'; 65_536];
            while stream.write_all(&much).await.is_ok() {}
        });
        let error = Pages::default().page(at, "/metrics").await.unwrap_err();
        assert!(error.contains("MiB") || error.contains("did not come"), "{error}");
    }
}
