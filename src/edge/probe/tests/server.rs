//! Servers that behave as told, and note what they heard.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::OK;

/// A server that lives as long as this value.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// The head of each request, with the number of its connection (from 0).
    heard: Arc<Mutex<Vec<(usize, String)>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Handles each connection in its own task: the stream, its number, and where to note what was heard.
    pub(super) async fn start<F, R>(handle: F) -> Self
    where
        F: Fn(TcpStream, usize, Heard) -> R + Send + 'static,
        R: Future<Output = Option<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let note = heard.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let handled = handle(stream, number, Heard { number, all: note.clone() });
                connections.spawn(async move { handled.await.unwrap_or_default() });
            }
        });
        Self { address, heard, _tasks: tasks }
    }

    /// Gives the same answer to every request, for as long as the client stays.
    pub(super) async fn answering(answer: impl Into<String>) -> Self {
        let answer = Arc::<str>::from(answer.into());
        Self::start(move |stream, _, heard| talk(stream, heard, answer.clone())).await
    }

    pub(super) fn heads(&self) -> Vec<String> {
        self.heard.lock().unwrap().iter().map(|(_, head)| head.clone()).collect()
    }

    pub(super) fn connections(&self) -> Vec<usize> {
        self.heard.lock().unwrap().iter().map(|(number, _)| *number).collect()
    }
}

pub(super) struct Heard {
    number: usize,
    all: Arc<Mutex<Vec<(usize, String)>>>,
}

impl Heard {
    /// Reads one request, with its body; `None` when the client is gone.
    pub(super) async fn request<S: AsyncRead + Unpin>(&self, stream: &mut S) -> Option<()> {
        self.read(stream).await.map(drop)
    }

    /// The same, and what was read.
    pub(super) async fn read<S: AsyncRead + Unpin>(&self, stream: &mut S) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).await.ok()?;
        let all = head + &String::from_utf8(body).unwrap();
        self.all.lock().unwrap().push((self.number, all.clone()));
        Some(all)
    }
}

pub(super) async fn talk<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, heard: Heard, answer: Arc<str>) -> Option<()> {
    loop {
        heard.request(&mut stream).await?;
        stream.write_all(answer.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
    }
}

pub(super) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    /// What ends TLS under a certificate for this host, and speaks one of these protocols.
    pub(super) fn acceptor(&self, host: &str, protocols: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate.into()], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Serves, and notes the name that the client asked for before its request.
    pub(super) async fn serve(&self, host: &str) -> Server {
        let acceptor = self.acceptor(host, &[]);
        Server::start(move |stream, number, heard| {
            let acceptor = acceptor.clone();
            async move {
                let stream = acceptor.accept(stream).await.ok()?;
                let asked = stream.get_ref().1.server_name().unwrap_or("none").to_owned();
                heard.all.lock().unwrap().push((number, asked));
                talk(stream, heard, OK.into()).await
            }
        })
        .await
    }
}
