//! The door of the API: who asks, whether they may still ask, and what every answer has around it.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::{
    graphql,
    hub::Hub,
    keys::{Jwt, against, issuer, sha256},
    limits::{Bucket, Refusal, Resource, Seen},
    model::Token,
    rest,
};
use std::sync::Arc;

/// A request; its path is without `/api/v3`.
pub struct Ask {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Ask {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn number(&self, name: &str, default: usize) -> usize {
        self.parameter(name).and_then(|text| text.parse().ok()).unwrap_or(default)
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(status: u16, value: &Value) -> Self {
        let kind = ("content-type".to_owned(), "application/json; charset=utf-8".to_owned());
        Self { status, headers: vec![kind], body: value.to_string().into_bytes() }
    }

    /// As GitHub says no.
    pub fn error(status: u16, message: &str) -> Self {
        let mut said = json!({"message": message, "documentation_url": "https://docs.github.com/rest"});
        // What is wrong with a request is said in another form.
        if status != 422 {
            said["status"] = json!(status.to_string());
        }
        Self::json(status, &said)
    }

    pub fn not_found() -> Self {
        Self::error(404, "Not Found")
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub enum Caller {
    App(u64),
    Installation(Token),
    Nobody,
}

impl Caller {
    /// As the meter has it.
    pub fn name(&self) -> String {
        match self {
            Self::App(id) => format!("app {id}"),
            Self::Installation(token) => format!("installation {}", token.installation),
            Self::Nobody => "nobody".to_owned(),
        }
    }
}

/// What the API says. The time of a fault is up to [`super::serve`].
pub fn answer(hub: &Arc<Hub>, ask: &Ask) -> Reply {
    if ask.header("user-agent").is_none_or(str::is_empty) {
        return Reply::error(403, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header.");
    }
    let version = ask.header("x-github-api-version").unwrap_or("2022-11-28");
    if !["2022-11-28", "2026-03-10"].contains(&version) {
        return Reply::error(400, "The X-GitHub-Api-Version header names a version that is not supported.");
    }
    let caller = match caller(hub, ask) {
        Ok(caller) => caller,
        Err(reply) => {
            remember(hub, ask, &Caller::Nobody, reply.status, Resource::Core, 0);
            return reply;
        }
    };
    let reply = if ask.path == "/graphql" { of_graphql(hub, ask, &caller) } else { of_rest(hub, ask, &caller) };
    let request_id = hub.new_guid().to_uppercase();
    reply.with("x-github-request-id", request_id).with("x-github-api-version-selected", version)
}

fn of_rest(hub: &Arc<Hub>, ask: &Ask, caller: &Caller) -> Reply {
    let name = caller.name();
    let minute = if ask.method == "GET" || ask.method == "HEAD" { 1 } else { 5 };
    let taken = hub.lock().take(&name, Resource::Core, 1, minute, hub.now());
    let mut bucket = match taken {
        Ok(bucket) => bucket,
        Err(refusal) => {
            let reply = refused(hub, caller, refusal, Resource::Core);
            remember(hub, ask, caller, reply.status, Resource::Core, 0);
            return reply;
        }
    };
    let mut reply = rest::answer(hub, ask, caller);
    let mut points = 1;
    if ask.method == "GET" && reply.status == 200 {
        // The header is part of what is hashed: another token is another ETag, though nothing has changed.
        let authorization = ask.header("authorization").unwrap_or_default();
        let etag = format!("W/\"{}\"", sha256(&[authorization.as_bytes(), &reply.body]));
        if ask.header("if-none-match").is_some_and(|known| matches(known, &etag)) {
            reply = Reply { status: 304, body: Vec::new(), ..reply };
            points = 0;
            if let Some(less) = hub.lock().refund(&name, Resource::Core) {
                bucket = less;
            }
        }
        reply = reply.with("etag", etag).with("cache-control", "private, max-age=60, s-maxage=60").with("vary", VARY);
    }
    remember(hub, ask, caller, reply.status, Resource::Core, points);
    counted(reply, Resource::Core, &bucket)
}

const VARY: &str = "Accept, Authorization, Cookie, X-GitHub-OTP,Accept-Encoding, Accept, X-Requested-With";

fn of_graphql(hub: &Arc<Hub>, ask: &Ask, caller: &Caller) -> Reply {
    let Caller::Installation(token) = caller else {
        remember(hub, ask, caller, 401, Resource::Graphql, 0);
        return Reply::error(401, "This endpoint requires you to be authenticated.");
    };
    if ask.method != "POST" {
        return Reply::not_found();
    }
    let query = match graphql::Query::read(&ask.body) {
        Ok(query) => query,
        Err(reply) => return reply,
    };
    let prepared = query.prepare();
    let points = prepared.as_deref().map_or(1, |prepared| prepared.asked.points());
    let bucket = hub.lock().take(&caller.name(), Resource::Graphql, points, 1, hub.now());
    let (reply, points) = match bucket {
        Err(refusal) => (refused(hub, caller, refusal, Resource::Graphql), 0),
        Ok(bucket) => {
            let value = match prepared {
                Ok(prepared) => prepared.execute(hub, token, &bucket),
                Err(errors) => errors,
            };
            (counted(Reply::json(200, &value), Resource::Graphql, &bucket), points)
        }
    };
    remember(hub, ask, caller, reply.status, Resource::Graphql, points);
    reply
}

fn remember(hub: &Hub, ask: &Ask, caller: &Caller, status: u16, resource: Resource, points: u64) {
    let seen = Seen { at: hub.now(), method: ask.method.clone(), path: ask.path.clone(), status, caller: caller.name(), resource, points };
    hub.lock().seen.push(seen);
}

fn counted(reply: Reply, resource: Resource, bucket: &Bucket) -> Reply {
    let name = if resource == Resource::Core { "core" } else { "graphql" };
    reply
        .with("x-ratelimit-limit", bucket.limit)
        .with("x-ratelimit-remaining", bucket.remaining())
        .with("x-ratelimit-used", bucket.used)
        .with("x-ratelimit-reset", bucket.reset.as_second())
        .with("x-ratelimit-resource", name)
}

fn refused(hub: &Hub, caller: &Caller, refusal: Refusal, resource: Resource) -> Reply {
    if refusal == Refusal::Secondary {
        return secondary(Some(60));
    }
    let message = format!("API rate limit exceeded for {}.", caller.name().replace("installation", "installation ID"));
    let reply = match resource {
        // GraphQL says it in an answer of 200.
        Resource::Graphql => Reply::json(200, &json!({"errors": [{"type": "RATE_LIMITED", "message": message}]})),
        Resource::Core => Reply::error(403, &message),
    };
    let bucket = hub.lock().buckets.get(&(caller.name(), resource)).copied();
    let Some(mut bucket) = bucket else { return reply };
    // A query may cost more than what is left; what is said then is that nothing is.
    bucket.used = bucket.limit;
    counted(reply, resource, &bucket)
}

/// The secondary limit.
pub fn secondary(retry_after: Option<u32>) -> Reply {
    let reply = Reply::error(
        403,
        "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. For more on scraping GitHub and how it \
         may affect your rights, please review our Terms of Service.",
    );
    match retry_after {
        Some(seconds) => reply.with("retry-after", seconds),
        None => reply,
    }
}

/// `If-None-Match`, compared weakly.
fn matches(known: &str, etag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    known.split(',').any(|tag| tag.trim() == "*" || bare(tag) == bare(etag))
}

fn caller(hub: &Hub, ask: &Ask) -> Result<Caller, Reply> {
    let Some(header) = ask.header("authorization") else { return Ok(Caller::Nobody) };
    let bad = || Reply::error(401, "Bad credentials");
    let (scheme, text) = header.split_once(' ').ok_or_else(bad)?;
    if !(scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token")) {
        return Err(bad());
    }
    if text.starts_with("ghs_") {
        let token = hub.token(text).ok_or_else(bad)?;
        let suspended = hub.lock().installations.get(&token.installation).is_none_or(|there| there.suspended.is_some());
        return if suspended { Err(Reply::error(403, "This installation has been suspended")) } else { Ok(Caller::Installation(token)) };
    }
    if !text.contains('.') {
        return Err(bad());
    }
    app(hub, text).map(Caller::App)
}

fn app(hub: &Hub, text: &str) -> Result<u64, Reply> {
    let undecodable = || Reply::error(401, "A JSON web token could not be decoded");
    let jwt = Jwt::parse(text).ok_or_else(undecodable)?;
    if jwt.header.get("alg").and_then(Value::as_str) != Some("RS256") {
        return Err(undecodable());
    }
    let Some(issuer) = issuer(&jwt.claims) else {
        return Err(Reply::error(401, "'Issuer' claim ('iss') must be an Integer"));
    };
    let state = hub.lock();
    let Some(app) = state.apps.values().find(|app| app.id.to_string() == issuer || app.client_id == issuer) else {
        return Err(Reply::error(404, "Integration not found"));
    };
    if !app.key.signed(&jwt.message, &jwt.signature) {
        return Err(undecodable());
    }
    against(&jwt.claims, hub.now()).map_or(Ok(app.id), |message| Err(Reply::error(401, message)))
}
