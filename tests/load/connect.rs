//! Opening connections. Fresh ones walk through the source ports themselves.
//!
//! A Service's address translation remembers a client's port for up to 120 s and sends a new connection from the same port
//! to the old pod, which may be gone. One walk is 28,000 ports: at 50/s a port comes back after nine minutes.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};

/// Above the node ports (30000–32767), inside the kernel's own range for outgoing connections.
const FIRST: u32 = 33_000;
const PORTS: u32 = 28_000;
/// Ports that others hold are stepped over; after so many the kernel chooses.
const TRIES: u32 = 16;

/// An open connection: the half that requests go into. The other half is a task that ends with the connection.
pub(crate) type Connection = SendRequest<Empty<Bytes>>;

/// Where the walk through the source ports stands.
pub(crate) struct SourcePorts(AtomicU32);

impl SourcePorts {
    /// Begins where a run at 50/s that had never stopped would be now: two runs in a row do not share ports.
    pub(crate) fn at(unix_us: i64) -> Self {
        Self(AtomicU32::new(u32::try_from(unix_us.rem_euclid(i64::from(PORTS) * 20_000) / 20_000).unwrap_or_default()))
    }

    fn next(&self) -> u16 {
        u16::try_from(FIRST + self.0.fetch_add(1, Ordering::Relaxed) % PORTS).unwrap_or_default()
    }

    /// A new connection from the next free port.
    pub(crate) async fn connect(&self, target: SocketAddr) -> io::Result<Connection> {
        for _ in 0..TRIES {
            let port = self.next();
            let (socket, from) = match target {
                SocketAddr::V4(_) => (TcpSocket::new_v4()?, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
                SocketAddr::V6(_) => (TcpSocket::new_v6()?, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
            };
            let opened = match socket.bind(from) {
                Ok(()) => socket.connect(target).await,
                Err(error) => Err(error),
            };
            match opened {
                Ok(stream) => return speak(stream).await,
                Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable) => {}
                Err(error) => return Err(error),
            }
        }
        open(target).await
    }
}

/// A new connection from whatever port the kernel gives.
pub(crate) async fn open(target: SocketAddr) -> io::Result<Connection> {
    speak(TcpStream::connect(target).await?).await
}

async fn speak(stream: TcpStream) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Its error reaches the request that is in flight; without one, the connection was idle and nobody lost anything.
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_back_only_after_a_whole_walk() {
        let ports = SourcePorts::at(1_795_000_000_000_000);
        let walk: std::collections::BTreeSet<u16> = (0..PORTS).map(|_| ports.next()).collect();
        assert_eq!(walk.len(), 28_000);
        assert!(walk.first() >= Some(&33_000) && walk.last() < Some(&61_000));
    }

    #[test]
    fn a_run_begins_where_the_one_before_would_be_now() {
        let (first, later) = (SourcePorts::at(1_795_000_000_000_000).next(), SourcePorts::at(1_795_000_010_000_000).next());
        assert_eq!((u32::from(later) + PORTS - u32::from(first)) % PORTS, 500);
    }
}
