//! The life of the process: accept, serve, and the ways to end.
//!
//! `exit` returns and lets the kernel cut what is in flight. `shutdown` closes the listener, lets idle connections go and finishes
//! requests in flight. `drain` keeps accepting for 3 s and answers with `Connection: close`, so that clients leave by themselves.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::config::{Config, OnTerm, TlsFiles};
use crate::shop::Shop;

const DRAIN: Duration = Duration::from_secs(3);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
const OOM_CHUNK: usize = 8 << 20;
/// 128 × 8 MiB = 1 GiB at worst, for the day on which somebody sets `SHOP_OOM` without a memory limit.
const OOM_CHUNKS: usize = 128;

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    ExitAtStart,
    Crash,
    NotKilled,
    Signal,
}

impl Stop {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::ExitAtStart => "SHOP_EXIT_AT_START",
            Self::Crash => "SHOP_CRASH_AFTER",
            Self::NotKilled => "SHOP_OOM reached 1 GiB and was not killed",
            Self::Signal => "signal",
        }
    }

    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::ExitAtStart | Self::Crash | Self::NotKilled => ExitCode::FAILURE,
            Self::Signal => ExitCode::SUCCESS,
        }
    }
}

/// What the connections are told about the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    Draining,
    Finishing,
}

/// Serves until something ends the process; returns when the process may end.
pub(crate) async fn run(config: &Config, listener: TcpListener, tls: Option<TlsAcceptor>, shop: Arc<Shop>) -> anyhow::Result<Stop> {
    let (phase, _) = watch::channel(Phase::Serving);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let fault = fault(config);
    tokio::pin!(fault);
    tokio::select! {
        never = accept(&listener, tls.as_ref(), &shop, &phase) => match never {},
        end = &mut fault => return Ok(end),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    match config.on_term {
        OnTerm::Exit => return Ok(Stop::Signal),
        OnTerm::Shutdown => {}
        OnTerm::Drain => {
            phase.send_replace(Phase::Draining);
            tokio::select! {
                never = accept(&listener, tls.as_ref(), &shop, &phase) => match never {},
                end = &mut fault => return Ok(end),
                () = sleep(DRAIN) => {}
            }
        }
    }
    drop(listener);
    phase.send_replace(Phase::Finishing);
    // Every connection holds a receiver: the channel is closed when the last of them is done.
    phase.closed().await;
    Ok(Stop::Signal)
}

/// The fault that ends the process by itself, if one is switched on.
async fn fault(config: &Config) -> Stop {
    let crash = async {
        match config.crash_after {
            Some(after) => sleep(after).await,
            None => std::future::pending().await,
        }
        Stop::Crash
    };
    let oom = async {
        if !config.oom {
            std::future::pending::<()>().await;
        }
        let mut hoard = Vec::new();
        while hoard.len() < OOM_CHUNKS {
            // Written, not only reserved: untouched pages cost nothing.
            hoard.push(std::hint::black_box(vec![1_u8; OOM_CHUNK]));
            sleep(Duration::from_millis(5)).await;
        }
        Stop::NotKilled
    };
    tokio::select! { end = crash => end, end = oom => end }
}

async fn accept(
    listener: &TcpListener,
    tls: Option<&TlsAcceptor>,
    shop: &Arc<Shop>,
    phase: &watch::Sender<Phase>,
) -> std::convert::Infallible {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors: the next attempt would fail at once, too.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        tokio::spawn(handshake(stream, tls.cloned(), Arc::clone(shop), phase.subscribe()));
    }
}

async fn handshake(stream: TcpStream, tls: Option<TlsAcceptor>, shop: Arc<Shop>, phase: watch::Receiver<Phase>) {
    // A failure here only means that small answers wait for each other.
    let _ = stream.set_nodelay(true);
    match tls {
        None => connection(stream, shop, phase).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await {
                connection(stream, shop, phase).await;
            }
        }
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, shop: Arc<Shop>, mut phase: watch::Receiver<Phase>) {
    let seen = phase.clone();
    let service = service_fn(|request| shop.answer(request, *seen.borrow()));
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    // A client that goes away is no event for a shop: how a connection ends is not looked at.
    tokio::select! {
        _ = &mut served => return,
        _ = phase.wait_for(|phase| *phase == Phase::Finishing) => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = served.await;
}

/// Reads the certificate and key once; a renewed file needs a new pod.
pub(crate) fn tls_acceptor(files: &TlsFiles) -> anyhow::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(&files.cert)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&files.key)?;
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
