//! One request and its answer, over the pooled client that kube brings along (hyper-util, hyper-rustls with aws-lc-rs).
//!
//! Deliberately absent: redirects (who may be followed with what is decided where it is known), proxies, compression, retries.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Most that is read of the body of an error: its codes are in the first lines.
const ERROR_CAP: usize = 8 * 1024;
/// Most that headers may take, and the read buffer: one request at a time and registry × 64 KiB.
const HEAD_CAP: usize = 64 * 1024;
/// Connections that are kept open for the next question: polls come every few seconds while something is built.
const IDLE: usize = 2;
const IDLE_FOR: Duration = Duration::from_secs(30);
/// Characters of what a connection did that are shown.
const SAID: usize = 200;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("haldane/", env!("CARGO_PKG_VERSION")));

/// Why no client could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The extra CA is none.
    #[error("the CA for registries holds no certificate; give PEM blocks that begin with BEGIN CERTIFICATE")]
    NoCertificate,
    /// One of the extra CAs cannot be read.
    #[error("the CA for registries is not valid: its certificate number {number} cannot be read")]
    Broken {
        /// Which, from 1.
        number: usize,
    },
    /// Should not be.
    #[error("TLS could not be set up")]
    Tls,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::edge) enum WireError {
    /// What the connection did.
    Broken(String),
    /// The answer is longer than so many bytes.
    TooLong(usize),
}

/// An answer, read to its end; that of an error to [`ERROR_CAP`].
#[derive(Debug)]
pub(in crate::edge) struct Answer {
    pub(in crate::edge) status: StatusCode,
    pub(in crate::edge) headers: HeaderMap,
    pub(in crate::edge) body: Bytes,
}

/// The client. It has no time limit of its own: the whole of a question has one.
pub(in crate::edge) struct Wire {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Wire {
    /// A client that trusts the system's CAs and these, in PEM.
    pub(in crate::edge) fn new(extra_ca: Option<&[u8]>) -> Result<Self, SetupError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls(extra_ca)?).https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE)
            .pool_idle_timeout(IDLE_FOR)
            .http1_max_buf_size(HEAD_CAP)
            .build(connector);
        Ok(Self { client })
    }

    /// Asks, and reads at most `cap` bytes of the body.
    pub(in crate::edge) async fn ask(&self, mut request: Request<Full<Bytes>>, cap: usize) -> Result<Answer, WireError> {
        request.headers_mut().insert(USER_AGENT, AGENT);
        let response = self.client.request(request).await.map_err(|error| WireError::Broken(broken(&error)))?;
        let (head, body) = response.into_parts();
        let body = if head.status.is_success() { whole(body, cap).await? } else { beginning(body).await };
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

async fn whole(mut body: Incoming, cap: usize) -> Result<Bytes, WireError> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| WireError::Broken("the connection ended in the middle of its answer".to_owned()))?;
        if let Some(data) = frame.data_ref() {
            if read.len() + data.len() > cap {
                return Err(WireError::TooLong(cap));
            }
            read.extend_from_slice(data);
        }
    }
    Ok(read.into())
}

/// Of an error the status is what counts, so a body that breaks is as good as none.
async fn beginning(mut body: Incoming) -> Bytes {
    let mut read = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            read.extend(data.iter().take(ERROR_CAP - read.len()));
        }
        if read.len() >= ERROR_CAP {
            break;
        }
    }
    read.into()
}

fn tls(extra_ca: Option<&[u8]>) -> Result<ClientConfig, SetupError> {
    let mut roots = RootCertStore::empty();
    // One that cannot be read is no reason to distrust the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = extra_ca {
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            count += 1;
            let broken = SetupError::Broken { number: count };
            roots.add(certificate.map_err(|_| broken.clone())?).map_err(|_| broken)?;
        }
        if count == 0 {
            return Err(SetupError::NoCertificate);
        }
    }
    // Named, never the process's default: another crate may have installed one, or none.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|_| SetupError::Tls)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// What the connection did. A certificate's own words stay away: anything may stand there.
fn broken(error: &ClientError) -> String {
    let mut chain = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(tls) = tls_of(cause) {
            return not_trusted(tls).to_owned();
        }
        chain.push(cause.to_string());
        next = cause.source();
    }
    let said = if chain.is_empty() { error.to_string() } else { chain.join(": ") };
    said.chars().filter(|c| !c.is_control()).take(SAID).collect()
}

/// `io::Error` hides what it carries from `source`, so it is looked into; one may carry another.
fn tls_of<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let carried = || tls_of(cause.downcast_ref::<std::io::Error>()?.get_ref()?);
    cause.downcast_ref().or_else(carried)
}

fn not_trusted(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is not signed by a CA that Haldane trusts; give its CA to Haldane as the CA for registries"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => "its certificate is for another host",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "its certificate is not valid yet",
            _ => "its certificate is not valid",
        },
        rustls::Error::InvalidMessage(_) => "it does not speak TLS on this port; name it as insecure if that is meant",
        _ => "the TLS handshake failed",
    }
}
