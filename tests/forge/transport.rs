//! git over smart HTTP, through git's own `http-backend` (CGI, RFC 3875).

use std::{process::Stdio, sync::Arc};

use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{
    api::{Ask, Reply},
    git::command,
    hub::Hub,
};

/// The repository and the rest of a path that git asks for; none: it is not git that asks.
pub fn wanted(path: &str) -> Option<(&str, &str, &str)> {
    let mut parts = path.trim_start_matches('/').splitn(3, '/');
    let (owner, name, rest) = (parts.next()?, parts.next()?, parts.next()?);
    matches!(rest, "info/refs" | "git-upload-pack" | "git-receive-pack").then_some((owner, name.trim_end_matches(".git"), rest))
}

/// What git says; after a push the news are told before the client knows that it is done.
pub async fn serve(hub: &Arc<Hub>, ask: &Ask, (owner, name, rest): (&str, &str, &str)) -> Reply {
    let Some((id, dir)) = hub.lock().repo(owner, name).map(|repo| (repo.id, repo.git.dir.clone())) else { return Reply::not_found() };
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&ask.query).finish();
    let mut backend = Command::from(command(hub.root()));
    backend
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", hub.root())
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", format!("/{}/{rest}", dir.file_name().unwrap_or_default().to_string_lossy()))
        .env("REQUEST_METHOD", &ask.method)
        .env("QUERY_STRING", query)
        .env("REMOTE_USER", "ada")
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("CONTENT_TYPE", ask.header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", ask.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", ask.header("content-encoding").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    if let Some(protocol) = ask.header("git-protocol") {
        backend.env("GIT_PROTOCOL", protocol);
    }
    let Ok(mut child) = backend.spawn() else { return Reply::error(500, "git does not start") };
    let mut input = child.stdin.take().expect("a pipe");
    let (written, done) = tokio::join!(
        async {
            let written = input.write_all(&ask.body).await;
            drop(input);
            written
        },
        child.wait_with_output()
    );
    let Ok(done) = done else { return Reply::error(500, "git does not end") };
    // A backend that has read enough closes its input; what it says counts.
    drop(written);
    if rest == "git-receive-pack" {
        let hub = Arc::clone(hub);
        let _ = tokio::task::spawn_blocking(move || hub.notice(id)).await;
    }
    parse(&done.stdout)
}

/// Headers, an empty line, the body; `Status` is the status, else it is 200.
fn parse(output: &[u8]) -> Reply {
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(output.len());
    let (head, body) = output.split_at(end);
    let mut reply = Reply { status: 200, headers: Vec::new(), body: body.get(4..).unwrap_or_default().to_vec() };
    for line in String::from_utf8_lossy(head).lines() {
        let Some((name, value)) = line.split_once(": ") else { continue };
        if name.eq_ignore_ascii_case("status") {
            reply.status = value.get(..3).and_then(|code| code.parse().ok()).unwrap_or(500);
        } else {
            reply.headers.push((name.to_owned(), value.to_owned()));
        }
    }
    reply
}
