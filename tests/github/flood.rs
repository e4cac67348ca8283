//! What a stranger can take from the door: a body without end must not become memory.
//!
//! The door stands in a process of its own (this program once more), so that its memory is its own.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use haldane::{
    clock::SystemClock,
    control::lease::Elector,
    observe::MergeBoard,
    web::door::{Door, Relay, serve},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc::unbounded_channel,
};

use crate::street::secrets;

/// Says to this program that it is the door.
const DOOR: &str = "HALDANE_TEST_DOOR";
/// 1 GiB.
const FLOOD: u64 = 1 << 30;
const CHUNK: usize = 1 << 16;
/// 4 MiB, in the KiB of `/proc`.
const GROWS: u64 = 4 << 10;
/// As long as a signature, and of nothing that we know.
const FORGED: &str = "X-Hub-Signature-256: sha256=0000000000000000000000000000000000000000000000000000000000000000";

/// No test by itself: the other end of the one below.
#[tokio::test]
async fn the_door_in_a_process_of_its_own() {
    if std::env::var_os(DOOR).is_none() {
        return;
    }
    let (nudge, _) = unbounded_channel();
    let board = Arc::new(MergeBoard::new(None, Arc::new(SystemClock), nudge));
    let door = Door::new(secrets(), board, Elector::alone(&SystemClock), Relay::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("\ndoor {}", listener.local_addr().unwrap());
    // Until the pipe from the one who started it is closed.
    let closed = tokio::task::spawn_blocking(|| std::io::stdin().lines().count());
    tokio::select! { () = serve(listener, Arc::new(door)) => {} _ = closed => {} }
}

struct Apart {
    child: Child,
    address: SocketAddr,
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Apart {
    fn open() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "flood::the_door_in_a_process_of_its_own", "--nocapture", "--test-threads=1"])
            .env(DOOR, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.strip_prefix("door ")?.parse().ok()).expect("its address");
        Self { child, address }
    }

    /// The most memory that it ever had, in KiB.
    fn most(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Sends as much of the flood as is taken; the status of the answer, and how many bytes went out.
    async fn flood(&self, path: &str, framing: &str, patient: bool) -> (u16, u64) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let proof = if path == "/registry" { "Authorization: Bearer guessed" } else { FORGED };
        let head = format!("POST {path} HTTP/1.1\r\nHost: door\r\n{proof}\r\nContent-Type: application/json\r\n{framing}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let chunked = framing.contains("chunked");
        let sending = async move {
            let data = vec![b'x'; CHUNK];
            let chunk = if chunked { [format!("{CHUNK:x}\r\n").as_bytes(), &data, b"\r\n"].concat() } else { data };
            let mut bytes = 0;
            while bytes < FLOOD && writer.write_all(&chunk).await.is_ok() {
                bytes += CHUNK as u64;
            }
            bytes
        };
        let answered = async move {
            let mut line = [0; 12];
            let read = reader.read_exact(&mut line).await.is_ok();
            // One that has its answer and goes on all the same, as long as anybody listens.
            if patient {
                let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
            }
            if read { String::from_utf8_lossy(&line[9..]).parse().unwrap_or(0) } else { 0 }
        };
        let (sent, status) = tokio::join!(sending, answered);
        (status, sent)
    }
}

#[tokio::test]
async fn a_gibibyte_at_the_door_takes_no_memory() {
    let door = Apart::open();
    let length = format!("Content-Length: {FLOOD}");
    // The first calls build what every process builds once.
    for _ in 0..20 {
        door.flood("/github", "Content-Length: 2000000", false).await;
    }
    let before = door.most();
    let mut told = Vec::new();
    for (path, framing) in [
        ("/github", length.as_str()),
        ("/github", "Transfer-Encoding: chunked"),
        ("/registry", length.as_str()),
        ("/registry", "Transfer-Encoding: chunked"),
        ("/relayed", length.as_str()),
        ("/relayed", "Transfer-Encoding: chunked"),
        ("/nowhere", "Transfer-Encoding: chunked"),
    ] {
        let (status, sent) = door.flood(path, framing, true).await;
        told.push(format!("{path} {}: {status} after {} KiB", framing.split(':').next().unwrap(), sent >> 10));
        // The answer may be lost when the other side closes with bytes unread.
        assert!([0, 401, 404, 413].contains(&status), "{told:?}");
        assert!(sent < FLOOD, "all of it was taken: {told:?}");
    }
    let grown = door.most() - before;
    println!("a flood of 1 GiB at {} ways in: {grown} KiB more at most, of {before} KiB\n{}", told.len(), told.join("\n"));
    assert!(grown < GROWS, "{grown} KiB more than {before} KiB: {told:?}");
}
