//! Sockets, and what goes wrong on them.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};

use super::{
    admin,
    api::{self, Ask, Reply, secondary},
    faults::{Wrong, nulls, wrong_types},
    hooks::{self, Parcel},
    hub::Hub,
    limits::{Place, Resource, Seen},
    rest, transport,
};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Serves until it is told to stop, on a runtime of its own.
pub fn run(hub: &Arc<Hub>, listener: std::net::TcpListener, inbox: mpsc::UnboundedReceiver<Parcel>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).expect("a socket");
        tokio::spawn(hooks::carry(Arc::clone(hub), inbox));
        tokio::select! {
            never = accept(hub, &listener) => match never {},
            _ = stopped => {}
        }
    });
    runtime.shutdown_background();
}

async fn accept(hub: &Arc<Hub>, listener: &TcpListener) -> Infallible {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let hub = Arc::clone(hub);
        tokio::spawn(async move {
            let service = service_fn(|request| respond(Arc::clone(&hub), request));
            // How a client leaves is not looked at.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(hub: Arc<Hub>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let (path, enterprise) = without_prefix(head.uri.path());
    let query = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let mut ask = Ask { method: head.method.to_string(), path, query, headers: head.headers, body };
    ask.headers.insert("x-fake-prefix", HeaderValue::from_static(if enterprise { "/api/v3" } else { "" }));
    if let Some(wanted) = transport::wanted(&ask.path) {
        let reply = transport::serve(&hub, &ask, wanted).await;
        return Ok(response(reply, false));
    }
    if ask.path.starts_with("/_fake/") {
        return Ok(response(blocking(hub, ask, admin::answer).await, false));
    }
    let wrong = hub.lock().fault(&ask.path);
    if let Some(wrong) = wrong.as_ref().filter(|wrong| !wrong.comes_after()) {
        return Ok(response(instead(&hub, &ask, wrong), false));
    }
    let Ok(_place) = Place::take(&hub) else {
        return Ok(response(instead(&hub, &ask, &Wrong::Secondary(Some(60))), false));
    };
    let reply = blocking(hub, ask, answer).await;
    Ok(match wrong {
        None => response(reply, false),
        Some(Wrong::Truncated) => response(reply, true),
        Some(Wrong::Types) => {
            response(changed(reply, |body| wrong_types(serde_json::from_slice(body).unwrap_or_default()).to_string()), false)
        }
        Some(Wrong::Null(field)) => {
            response(changed(reply, |body| nulls(serde_json::from_slice(body).unwrap_or_default(), &field).to_string()), false)
        }
        Some(Wrong::Replaced(from, to)) => response(changed(reply, |body| String::from_utf8_lossy(body).replace(&from, &to)), false),
        // Until the client goes away.
        Some(_) => std::future::pending().await,
    })
}

fn answer(hub: &Arc<Hub>, ask: &Ask) -> Reply {
    let path: Vec<&str> = ask.path.trim_matches('/').split('/').collect();
    match (ask.method.as_str(), path.as_slice()) {
        ("POST", ["settings", "apps", "new"]) => rest::confirm(hub, "ada", ask),
        ("POST", ["organizations", owner, "settings", "apps", "new"]) => rest::confirm(hub, owner, ask),
        _ => api::answer(hub, ask),
    }
}

/// git is waited for on another thread; a panic is an answer of 500 that says it.
async fn blocking(hub: Arc<Hub>, ask: Ask, answer: fn(&Arc<Hub>, &Ask) -> Reply) -> Reply {
    match spawn_blocking(move || answer(&hub, &ask)).await {
        Ok(reply) => reply,
        Err(error) => {
            let said = error.try_into_panic().ok();
            let text = said.and_then(|said| {
                said.downcast::<String>().map(|text| *text).or_else(|said| said.downcast::<&str>().map(|text| (*text).to_owned())).ok()
            });
            Reply::error(500, &text.unwrap_or_default())
        }
    }
}

/// REST of Enterprise Server is under `/api/v3`, its GraphQL at `/api/graphql`.
fn without_prefix(path: &str) -> (String, bool) {
    if path == "/api/graphql" {
        return ("/graphql".to_owned(), true);
    }
    match path.strip_prefix("/api/v3") {
        Some(rest) if rest.starts_with('/') => (rest.to_owned(), true),
        _ => (path.to_owned(), false),
    }
}

fn instead(hub: &Hub, ask: &Ask, wrong: &Wrong) -> Reply {
    let reply = match wrong {
        Wrong::Secondary(seconds) => secondary(*seconds),
        Wrong::Status(code @ 400..=499) => Reply::error(*code, "A fault that was asked for"),
        Wrong::Status(code) => {
            let kind = ("content-type".to_owned(), "text/html; charset=utf-8".to_owned());
            Reply { status: *code, headers: vec![kind], body: b"<html><title>Unicorn!</title></html>".to_vec() }
        }
        _ => Reply::not_found(),
    };
    let resource = if ask.path == "/graphql" { Resource::Graphql } else { Resource::Core };
    let (at, method, path, caller) = (hub.now(), ask.method.clone(), ask.path.clone(), "nobody".to_owned());
    hub.lock().seen.push(Seen { at, method, path, status: reply.status, caller, resource, points: 0 });
    reply
}

fn changed(reply: Reply, change: impl FnOnce(&[u8]) -> String) -> Reply {
    Reply { body: change(&reply.body).into_bytes(), ..reply }
}

fn response(reply: Reply, truncated: bool) -> Response<Body> {
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    let whole = Bytes::from(reply.body);
    let frames: Vec<io::Result<Frame<Bytes>>> = if truncated {
        // It says how long it will be, and ends in the middle.
        let half = whole.slice(..whole.len() / 2);
        vec![Ok(Frame::data(half)), Err(io::Error::from(io::ErrorKind::UnexpectedEof))]
    } else {
        vec![Ok(Frame::data(whole.clone()))]
    };
    if reply.status != 304 {
        response = response.header("content-length", whole.len());
    }
    let body = BodyExt::boxed_unsync(StreamBody::new(futures::stream::iter(frames)));
    response.body(body).unwrap_or_else(|error| panic!("an answer that is none: {error}"))
}
