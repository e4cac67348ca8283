//! What the shop answers. Everything here is in memory and bounded; a pod knows only the orders that it took itself.
//!
//! Paths: `/`, `/products`, `/orders` (POST creates, GET counts all and those not cancelled, GET with `?item=mug` lists the latter whose
//! item begins so, and counts the cancelled), `/orders/{id}` (GET shows, DELETE cancels), `/orders/{id}/payment` (POST pays), `/slow?ms=800`,
//! `/healthz` (ready?), `/livez` (alive?), `/metrics`, `/admin/ready?value=false`, `/admin/fail?path=/orders&code=500`, `/admin/heal`.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::config::{Config, Readiness};
use crate::faults::{Faults, Rule};
use crate::metrics::Metrics;
use crate::serve::Phase;
use crate::store;

/// 100,000 orders × about 100 bytes = 10 MB at worst; the oldest leaves first. As many as customers of the demo place in ten minutes.
const ORDERS_KEPT: usize = 100_000;
/// How long the bank takes.
const PAYMENT: Duration = Duration::from_millis(100);
/// No more are counted in a second.
const CROWD: usize = 10_000;
const BODY_LIMIT: usize = 16 << 10;
/// So many failing answers to probes are logged with their time; a measurement needs the first two.
const PROBES_LOGGED: u64 = 20;
const SLOWEST: Duration = Duration::from_mins(1);

/// The shop's whole state, shared by its connections.
pub(crate) struct Shop {
    version: String,
    version_header: HeaderValue,
    ready_from: Option<Instant>,
    ready: AtomicBool,
    faults: Mutex<Faults>,
    leaked: Mutex<Vec<u8>>,
    requests: AtomicU64,
    recent: Mutex<VecDeque<Instant>>,
    probes_failed: AtomicU64,
    orders: Mutex<BTreeMap<u64, Order>>,
    last_order: AtomicU64,
    store: Option<SocketAddr>,
    metrics: Metrics,
}

#[derive(Clone)]
struct Order {
    item: String,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Placed,
    /// It is paid from then on.
    Paid {
        from: Instant,
    },
    Cancelled,
}

/// An answer before the version is put on it; `handler` is its name in the metrics.
struct Answer {
    handler: &'static str,
    status: StatusCode,
    content: Content,
    location: Option<String>,
}

enum Content {
    Json(Value),
    Html(String),
    Metrics(String),
}

impl Shop {
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            version: config.version.clone(),
            version_header: HeaderValue::from_str(&config.version)?,
            ready_from: match config.readiness {
                Readiness::After(delay) => Instant::now().checked_add(delay),
                Readiness::Never => None,
            },
            ready: AtomicBool::new(true),
            faults: Mutex::new(config.faults.clone()),
            leaked: Mutex::default(),
            requests: AtomicU64::new(0),
            recent: Mutex::default(),
            probes_failed: AtomicU64::new(0),
            orders: Mutex::default(),
            last_order: AtomicU64::new(0),
            store: config.store,
            metrics: Metrics::new(&config.version)?,
        })
    }

    /// Customer requests so far: those that `after=` counts.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Customer requests that were begun in the last second, this one among them.
    fn crowd(&self) -> u64 {
        let now = Instant::now();
        let mut recent = locked(&self.recent);
        recent.push_back(now);
        while recent.len() > CROWD || recent.front().is_some_and(|begun| now.duration_since(*begun) > Duration::from_secs(1)) {
            recent.pop_front();
        }
        recent.len() as u64
    }

    /// Whether it serves, as those are told who ask by gRPC; a fault of the path `/grpc` says that it does not.
    pub(crate) fn serves(&self) -> bool {
        let number = self.requests.load(Ordering::Relaxed) + 1;
        self.readiness(Phase::Serving).status == StatusCode::OK && locked(&self.faults).harm("/grpc", number, 1).code.is_none()
    }

    /// Answers one request; never fails, so that only the environment's faults are seen.
    pub(crate) async fn answer(&self, request: Request<Incoming>, phase: Phase) -> Result<Response<Full<Bytes>>, Infallible> {
        let began = Instant::now();
        let answer = self.route(request, phase).await;
        self.metrics.count(answer.handler, answer.status.as_u16(), began.elapsed());
        Ok(self.dress(answer, phase))
    }

    async fn route(&self, request: Request<Incoming>, phase: Phase) -> Answer {
        let (parts, body) = request.into_parts();
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let names = (segments.next(), segments.next(), segments.next());
        match (&parts.method, names) {
            (_, (Some("healthz"), None, _)) => self.readiness(phase),
            (_, (Some("livez"), None, _)) => Answer::json("/livez", StatusCode::OK, json!({})),
            (&Method::GET, (Some("metrics"), None, _)) => self.metrics_page(),
            (&Method::POST, (Some("admin"), Some(verb), None)) => self.admin(verb, query),
            (method, names) => {
                let handler = handler_of(names);
                let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
                let harm = locked(&self.faults).harm(path, number, self.crowd());
                if let Some(complaint) = &harm.log {
                    crate::complain(&self.version, &format!("{complaint} for request {number}"));
                }
                // Written to, so that the machine has to give it.
                locked(&self.leaked).extend(std::iter::repeat_n(1, harm.leak_kib << 10));
                sleep(Duration::from_millis(harm.ms)).await;
                if let (Some(code), Some(store)) = (harm.poison, self.store) {
                    // It has lost its own data when it cannot be reached.
                    drop(store::ask(store, &Method::POST, &format!("/admin/fail?path=/orders&code={code}"), Bytes::new()).await);
                }
                if let Some(code) = harm.code {
                    self.log_failed_probe(&parts, code);
                    return Answer::injected(handler, code);
                }
                let mut answer = match (self.store, names) {
                    (Some(store), (Some("orders"), ..)) => stored(store, method, handler, &parts.uri, body).await,
                    _ => self.customer(method, names, query, body).await,
                };
                if let Content::Json(json) = &mut answer.content {
                    for name in &harm.drop {
                        without(json, name);
                    }
                }
                answer
            }
        }
    }

    /// When a probe is told that something is broken, so that a measurement knows where the time begins.
    fn log_failed_probe(&self, request: &http::request::Parts, code: u16) {
        let Some(probe) = request.headers.get("x-haldane-probe").and_then(|name| name.to_str().ok()) else { return };
        if self.probes_failed.fetch_add(1, Ordering::Relaxed) < PROBES_LOGGED {
            crate::log("probe-failed", &self.version, &json!({"probe": probe, "path": request.uri.path(), "code": code}));
        }
    }

    async fn customer(&self, method: &Method, names: (Option<&str>, Option<&str>, Option<&str>), query: &str, body: Incoming) -> Answer {
        let handler = handler_of(names);
        match (method, names) {
            (&Method::GET, (None, ..)) => self.page(),
            (&Method::GET, (Some("products"), None, _)) => Answer::json(handler, StatusCode::OK, products()),
            (&Method::POST, (Some("orders"), None, _)) => self.place(body).await,
            (&Method::GET, (Some("orders"), None, _)) if query.starts_with("item=") => {
                let prefix = query.trim_start_matches("item=");
                let orders = locked(&self.orders);
                let (gone, open): (Vec<_>, Vec<_>) = orders
                    .iter()
                    .filter(|(_, order)| order.item.starts_with(prefix))
                    .partition(|(_, order)| order.state == State::Cancelled);
                let open: Vec<_> = open.into_iter().map(|(id, order)| order.json(*id)).collect();
                Answer::json(handler, StatusCode::OK, json!({"orders": open, "cancelled": gone.len()}))
            }
            (&Method::GET, (Some("orders"), None, _)) => {
                let orders = locked(&self.orders);
                let open = orders.values().filter(|order| order.state != State::Cancelled).count();
                Answer::json(handler, StatusCode::OK, json!({"orders": orders.len(), "open": open}))
            }
            (&Method::GET, (Some("orders"), Some(id), None)) => self.order(handler, id, |_| true),
            (&Method::DELETE, (Some("orders"), Some(id), None)) => self.order(handler, id, |order| {
                order.state = State::Cancelled;
                true
            }),
            (&Method::POST, (Some("orders"), Some(id), Some("payment"))) => self.order(handler, id, |order| {
                let may = order.state == State::Placed;
                if may {
                    order.state = State::Paid { from: Instant::now() + PAYMENT };
                }
                may
            }),
            (&Method::GET, (Some("slow"), None, _)) => slow(query).await,
            _ if handler == "other" => Answer::json(handler, StatusCode::NOT_FOUND, json!({"error": "no such page"})),
            _ => Answer::json(handler, StatusCode::METHOD_NOT_ALLOWED, json!({"error": "not with this method"})),
        }
    }

    fn readiness(&self, phase: Phase) -> Answer {
        let started = self.ready_from.is_some_and(|from| Instant::now() >= from);
        let ready = started && self.ready.load(Ordering::Relaxed) && phase == Phase::Serving;
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Answer::json("/healthz", status, json!({"ready": ready}))
    }

    fn metrics_page(&self) -> Answer {
        match self.metrics.text() {
            Ok(text) => Answer { handler: "/metrics", status: StatusCode::OK, content: Content::Metrics(text), location: None },
            Err(error) => Answer::json("/metrics", StatusCode::INTERNAL_SERVER_ERROR, json!({"error": error.to_string()})),
        }
    }

    /// Makes a live version fail and heal, so that a test need not ship a new one.
    fn admin(&self, verb: &str, query: &str) -> Answer {
        let done = |what: Value| Answer::json("/admin", StatusCode::OK, what);
        let refused = |why: String| Answer::json("/admin", StatusCode::BAD_REQUEST, json!({"error": why}));
        match verb {
            "ready" => match query.strip_prefix("value=").map(str::parse::<bool>) {
                Some(Ok(value)) => {
                    self.ready.store(value, Ordering::Relaxed);
                    done(json!({"ready": value}))
                }
                _ => refused("value=true or value=false".to_owned()),
            },
            "fail" => match query.replace('&', ",").replace("%2F", "/").parse::<Rule>() {
                Ok(rule) => {
                    locked(&self.faults).add(rule);
                    done(json!({"failing": query}))
                }
                Err(error) => refused(format!("{error:#}")),
            },
            "heal" => {
                *locked(&self.faults) = Faults::default();
                done(json!({"healed": true}))
            }
            _ => Answer::json("/admin", StatusCode::NOT_FOUND, json!({"error": "ready, fail or heal"})),
        }
    }

    fn page(&self) -> Answer {
        let html = format!(
            "<!doctype html><title>Shop</title><h1>Shop {}</h1><p><a href=\"/products\">Products</a></p>\n",
            escaped(&self.version)
        );
        Answer { handler: "/", status: StatusCode::OK, content: Content::Html(html), location: None }
    }

    /// Takes an order for `{"item": "mug"}`; any other body, also none, is an order for a mug.
    async fn place(&self, body: Incoming) -> Answer {
        let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
            return Answer::json("/orders", StatusCode::PAYLOAD_TOO_LARGE, json!({"error": "the order could not be read"}));
        };
        let wish: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        let item = wish.get("item").and_then(Value::as_str).unwrap_or("mug").chars().take(40).collect::<String>();
        let id = self.last_order.fetch_add(1, Ordering::Relaxed) + 1;
        let order = Order { item, state: State::Placed };
        let content = order.json(id);
        let mut orders = locked(&self.orders);
        orders.insert(id, order);
        if orders.len() > ORDERS_KEPT {
            orders.pop_first();
        }
        Answer { location: Some(format!("/orders/{id}")), ..Answer::json("/orders", StatusCode::CREATED, content) }
    }

    /// An order, after something was done with it; false where that is not to be done with it any more.
    fn order(&self, handler: &'static str, id: &str, act: impl FnOnce(&mut Order) -> bool) -> Answer {
        let id = id.parse().unwrap_or_default();
        match locked(&self.orders).get_mut(&id).map(|order| (act(order), order.json(id))) {
            Some((true, order)) => Answer::json(handler, StatusCode::OK, order),
            Some((false, order)) => Answer::json(handler, StatusCode::CONFLICT, order),
            None => Answer::json(handler, StatusCode::NOT_FOUND, json!({"error": "this pod has no such order"})),
        }
    }

    /// Puts the version on the answer, and sends the client away while draining.
    fn dress(&self, answer: Answer, phase: Phase) -> Response<Full<Bytes>> {
        let (kind, text) = match answer.content {
            Content::Html(html) => ("text/html; charset=utf-8", html),
            Content::Metrics(text) => ("text/plain; version=0.0.4", text),
            Content::Json(mut value) => {
                if let Value::Object(fields) = &mut value {
                    fields.insert("version".to_owned(), self.version.clone().into());
                }
                ("application/json", value.to_string())
            }
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert("x-shop-version", self.version_header.clone());
        if let Some(location) = answer.location.and_then(|path| HeaderValue::from_str(&path).ok()) {
            headers.insert(LOCATION, location);
        }
        if phase != Phase::Serving {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl Order {
    fn json(&self, id: u64) -> Value {
        let state = match self.state {
            State::Placed => "placed",
            State::Paid { from } if Instant::now() < from => "paying",
            State::Paid { .. } => "paid",
            State::Cancelled => "cancelled",
        };
        json!({"id": id, "item": self.item, "state": state})
    }
}

impl Answer {
    fn json(handler: &'static str, status: StatusCode, content: Value) -> Self {
        Self { handler, status, content: Content::Json(content), location: None }
    }

    fn injected(handler: &'static str, code: u16) -> Self {
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::json(handler, status, json!({"error": "switched on by SHOP_FAIL or /admin/fail"}))
    }
}

/// What another shop says about orders, which keeps them.
async fn stored(store: SocketAddr, method: &Method, handler: &'static str, uri: &http::Uri, body: Incoming) -> Answer {
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
        return Answer::json(handler, StatusCode::PAYLOAD_TOO_LARGE, json!({"error": "the order could not be read"}));
    };
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    match store::ask(store, method, path, body.to_bytes()).await {
        Ok((status, content)) => Answer::json(handler, status, content),
        Err(error) => Answer::json(handler, StatusCode::BAD_GATEWAY, json!({"error": format!("{error:#}")})),
    }
}

fn handler_of(names: (Option<&str>, Option<&str>, Option<&str>)) -> &'static str {
    match names {
        (None, ..) => "/",
        (Some("products"), None, _) => "/products",
        (Some("orders"), None, _) => "/orders",
        (Some("orders"), Some(_), None) => "/orders/{id}",
        (Some("orders"), Some(_), Some("payment")) => "/orders/{id}/payment",
        (Some("slow"), None, _) => "/slow",
        _ => "other",
    }
}

fn products() -> Value {
    json!({"products": [{"item": "mug", "cents": 900}, {"item": "shirt", "cents": 1900}, {"item": "poster", "cents": 1200}]})
}

async fn slow(query: &str) -> Answer {
    let ms = query.strip_prefix("ms=").map_or(Ok(800), str::parse);
    let Ok(wait) = ms.map(Duration::from_millis) else {
        return Answer::json("/slow", StatusCode::BAD_REQUEST, json!({"error": "ms= takes milliseconds"}));
    };
    let wait = wait.min(SLOWEST);
    sleep(wait).await;
    Answer::json("/slow", StatusCode::OK, json!({"waited_ms": wait.as_millis()}))
}

/// Without the members of this name, however deep.
fn without(json: &mut Value, name: &str) {
    match json {
        Value::Object(members) => {
            members.remove(name);
            members.values_mut().for_each(|member| without(member, name));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| without(item, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// A panic elsewhere must not turn into a second one here.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
