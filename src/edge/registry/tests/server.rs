//! A registry that behaves as told, and notes what it heard.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::clock::Clock;

/// A moment that a test owns.
pub(crate) struct TestClock(Mutex<Timestamp>);

impl TestClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new("2026-11-06T08:49:37Z".parse().unwrap())))
    }

    pub(crate) fn advance(&self, seconds: i64) {
        *self.0.lock().unwrap() += SignedDuration::from_secs(seconds);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// Names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Heard {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// One answer; none of these keep the connection.
pub(crate) enum Reply {
    Bytes(Vec<u8>),
    Silence,
}

impl Reply {
    pub(crate) fn new(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        Self::cut(status, headers, body.as_ref(), body.as_ref().len())
    }

    pub(crate) fn empty(status: u16, headers: &[(&str, &str)]) -> Self {
        Self::new(status, headers, "")
    }

    /// The head promises so many bytes of body.
    pub(crate) fn cut(status: u16, headers: &[(&str, &str)], body: &[u8], promised: usize) -> Self {
        let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let lines = lines.concat();
        let head = format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {promised}\r\n{lines}\r\n");
        Self::Bytes([head.as_bytes(), body].concat())
    }
}

type Answer = Arc<dyn Fn(&Heard) -> Reply + Send + Sync>;

/// A server that lives as long as this value.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Heard) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(None, Arc::new(answer)).await
    }

    async fn listen(tls: Option<TlsAcceptor>, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let note = heard.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, answer, note) = (tls.clone(), answer.clone(), note.clone());
                connections.spawn(async move {
                    match tls {
                        None => talk(stream, answer, note).await,
                        Some(tls) => talk(tls.accept(stream).await.ok()?, answer, note).await,
                    }
                });
            }
        });
        Self { address, heard, tasks }
    }

    /// When this returns, nothing listens there.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// What it heard since it was asked last.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.heard.lock().unwrap().drain(..).map(|heard| heard.line()).collect()
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answer: Answer, note: Arc<Mutex<Vec<Heard>>>) -> Option<()> {
    let mut raw = Vec::new();
    while !raw.ends_with(b"\r\n\r\n") {
        raw.push(stream.read_u8().await.ok()?);
        if !raw[0].is_ascii_alphabetic() {
            // A TLS handshake: what plain servers say to it.
            return stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await.ok();
        }
    }
    let text = String::from_utf8(raw).unwrap();
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let (method, path) = (first.next()?, first.next()?);
    let headers: BTreeMap<String, String> =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let heard = Heard { method, path, headers, body: String::from_utf8(body).unwrap() };
    let reply = answer(&heard);
    let head_only = heard.method == "HEAD";
    note.lock().unwrap().push(heard);
    let Reply::Bytes(mut bytes) = reply else { return std::future::pending().await };
    if head_only {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        bytes.truncate(end + 4);
    }
    stream.write_all(&bytes).await.ok()?;
    stream.shutdown().await.ok()
}

/// Signs a certificate for 127.0.0.1.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    pub(crate) async fn start(&self, answer: impl Fn(&Heard) -> Reply + Send + Sync + 'static) -> Server {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_no_client_auth().with_single_cert(vec![certificate.into()], key).unwrap();
        Server::listen(Some(TlsAcceptor::from(Arc::new(config))), Arc::new(answer)).await
    }
}
