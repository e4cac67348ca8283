//! The connection to one target: opened at its address, without any name lookup or proxy, and reused while it lasts.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::model::probe::Class;

use super::fault::{Fault, Phase};

/// The most that a response's headers may take. The read buffer passes it by one read at most: 8 flows × 128 KiB = 1 MiB.
pub(super) const HEAD_CAP: usize = 64 * 1024;
/// hyper's own default, said here because it is a promise of ours.
pub(super) const MAX_HEADERS: usize = 100;

/// How to reach the target, and the connection that an earlier step left open.
pub(super) struct Line {
    target: SocketAddr,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    idle: Option<Wire>,
}

/// An open connection.
pub(super) struct Wire {
    pub(super) sender: SendRequest<Full<Bytes>>,
    /// Whether an earlier step has used it.
    pub(super) used: bool,
    /// Moves the bytes; ends with this value.
    _driver: JoinSet<()>,
}

impl Line {
    pub(super) fn new(target: SocketAddr, tls: Option<(Arc<ClientConfig>, ServerName<'static>)>) -> Self {
        Self { target, tls, idle: None }
    }

    /// Keeps a connection for the next step.
    pub(super) fn keep(&mut self, wire: Wire) {
        self.idle = Some(Wire { used: true, ..wire });
    }

    /// The connection of the step before, if it still stands.
    pub(super) async fn idle(&mut self) -> Option<Wire> {
        let mut wire = self.idle.take()?;
        wire.sender.ready().await.is_ok().then_some(wire)
    }

    /// A new connection for requests.
    pub(super) async fn open(&mut self, phase: &mut Phase) -> Result<Wire, Fault> {
        let not_sent = |fault: Fault| match fault.class {
            Class::Tls => Fault { said: format!("was not sent: {}", fault.said), ..fault },
            _ => fault,
        };
        wire(self.connect(phase).await.map_err(not_sent)?).await
    }

    /// A new connection, with TLS if that is spoken.
    pub(super) async fn connect(&self, phase: &mut Phase) -> Result<Box<dyn Stream>, Fault> {
        *phase = Phase::Connect;
        let stream = TcpStream::connect(self.target).await.map_err(|error| not_connected(&error))?;
        stream.set_nodelay(true).map_err(|error| not_connected(&error))?;
        let Some((config, name)) = &self.tls else { return Ok(Box::new(stream)) };
        *phase = Phase::Tls;
        let connector = TlsConnector::from(config.clone());
        Ok(Box::new(connector.connect(name.clone(), stream).await.map_err(|error| not_trusted(&error))?))
    }

    /// The port that is asked.
    pub(super) fn port(&self) -> u16 {
        self.target.port()
    }
}

/// A connection, plain or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

async fn wire(stream: Box<dyn Stream>) -> Result<Wire, Fault> {
    let mut settings = http1::Builder::new();
    // The buffer's cap alone may be passed by one read, so the size of the head is limited by itself.
    settings.max_buf_size(HEAD_CAP).max_header_size(HEAD_CAP).max_headers(MAX_HEADERS);
    let (sender, connection) = settings.handshake(TokioIo::new(stream)).await.map_err(|error| Fault::broken(&error))?;
    let mut driver = JoinSet::new();
    // Its error reaches whoever waits for the response.
    driver.spawn(async move { drop(connection.await) });
    Ok(Wire { sender, used: false, _driver: driver })
}

/// What the target did, or what our own side lacks: no port, no descriptor, no route, no permission is not its fault.
fn not_connected(error: &std::io::Error) -> Fault {
    const OUT_OF_FILES: [i32; 2] = [23, 24];
    let ours = matches!(
        error.kind(),
        ErrorKind::AddrNotAvailable | ErrorKind::NetworkUnreachable | ErrorKind::PermissionDenied | ErrorKind::OutOfMemory
    );
    if ours || error.raw_os_error().is_some_and(|code| OUT_OF_FILES.contains(&code)) {
        return Fault::new(Class::Prober, format!("could not be sent from here: {}", error.kind()));
    }
    let said = match error.kind() {
        ErrorKind::ConnectionRefused => "found the connection refused: nothing listens on the port".to_owned(),
        ErrorKind::ConnectionReset => "found the connection reset".to_owned(),
        kind => format!("could not connect: {kind}"),
    };
    Fault::new(Class::Connect, said)
}

/// In our words: those of a certificate are the target's, and it may put anything there.
fn not_trusted(error: &std::io::Error) -> Fault {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let why = match tls {
        Some(rustls::Error::InvalidCertificate(problem)) => match problem {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => "its certificate is not signed by a trusted CA",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => "its certificate is for another host",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "its certificate is not valid yet",
            _ => "its certificate is not valid",
        },
        Some(rustls::Error::InvalidMessage(_)) => "it does not speak TLS on this port",
        Some(rustls::Error::AlertReceived(_)) => "it refused the TLS handshake",
        Some(_) => "the TLS handshake failed",
        None => "the connection ended during the TLS handshake",
    };
    Fault::new(Class::Tls, why)
}
