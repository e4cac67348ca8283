//! Webhooks: what is told, to whom, and the ways in which it does not arrive.
//!
//! Deliveries go out one after the other, in the order of what happened, unless a knob says otherwise. Each is remembered with
//! what the receiver said. The receiver is spoken to in plain HTTP.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    git::NOTHING,
    hub::Hub,
    keys::{guid, signatures},
    model::{Checks, Repo, Status, Suite, moment},
    shapes,
};

/// What there is to subscribe to.
pub const EVENTS: [&str; 6] = ["check_suite", "package", "push", "registry_package", "status", "workflow_run"];
/// GitHub's own limit: "terminates the connection" after 10 s.
const LIMIT: Duration = Duration::from_secs(10);
/// Larger events are not sent.
const LARGEST: usize = 25 << 20;
/// How long deliveries are remembered, and can be repeated.
pub const KEPT: SignedDuration = SignedDuration::from_hours(3 * 24);
/// Commits in a push event.
const COMMITS: &str = "--max-count=2048";

/// A delivery, sent or on its way.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    pub id: u64,
    /// The same for every attempt.
    pub guid: String,
    #[serde(skip)]
    pub app: u64,
    pub event: String,
    pub action: Option<String>,
    pub installation_id: u64,
    pub repository_id: u64,
    pub redelivery: bool,
    pub delivered_at: String,
    #[serde(skip)]
    pub at: Timestamp,
    /// `OK`, `failed to connect`, `timed out`, `Invalid HTTP Response: 503`; none: on its way.
    pub status: Option<String>,
    /// 0: nobody answered.
    pub status_code: u16,
    /// In seconds.
    pub duration: f64,
    /// Never here.
    pub throttled_at: Option<String>,
    #[serde(skip)]
    pub headers: Vec<(String, String)>,
    #[serde(skip)]
    pub payload: Bytes,
    #[serde(skip)]
    pub answer: String,
}

/// What becomes of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookFault {
    /// Nothing goes wrong with this one.
    None,
    /// It never arrives; GitHub remembers that it timed out.
    Drop,
    /// It arrives twice.
    Twice,
    /// It arrives after the next one.
    Late,
    /// Signed with another secret.
    WrongSecret,
    /// So many milliseconds later, and all behind it, too.
    Delay(u64),
}

/// How what was held goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Release {
    InOrder,
    Reversed,
}

/// One request to a receiver.
#[derive(Clone, Debug)]
pub struct Parcel {
    delivery: u64,
    url: String,
    headers: Vec<(String, String)>,
    body: Bytes,
    delay: Duration,
    lost: bool,
}

/// What is on its way.
pub struct Outbox {
    waiting: Mutex<Waiting>,
    sender: mpsc::UnboundedSender<Parcel>,
    under_way: watch::Sender<usize>,
}

#[derive(Default)]
struct Waiting {
    plan: VecDeque<HookFault>,
    hold: bool,
    held: Vec<Parcel>,
    late: Vec<Parcel>,
}

impl Outbox {
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Parcel>) {
        let (sender, inbox) = mpsc::unbounded_channel();
        (Self { waiting: Mutex::default(), sender, under_way: watch::Sender::new(0) }, inbox)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn plan(&self, faults: &[HookFault]) {
        self.waiting().plan.extend(faults);
    }

    pub fn hold(&self) {
        self.waiting().hold = true;
    }

    pub fn release(&self, order: Release) {
        let mut waiting = self.waiting();
        waiting.hold = false;
        let mut held = std::mem::take(&mut waiting.held);
        if order == Release::Reversed {
            held.reverse();
        }
        for parcel in held {
            self.send(parcel);
        }
    }

    /// Until nothing is under way. What is held or late is not.
    pub async fn settle(&self) {
        let _ = self.under_way.subscribe().wait_for(|count| *count == 0).await;
    }

    fn next_fault(&self) -> HookFault {
        self.waiting().plan.pop_front().unwrap_or(HookFault::None)
    }

    fn post(&self, mut parcel: Parcel, fault: HookFault) {
        let mut waiting = self.waiting();
        match fault {
            HookFault::Late => return waiting.late.push(parcel),
            HookFault::Drop => parcel.lost = true,
            HookFault::Delay(ms) => parcel.delay = Duration::from_millis(ms),
            HookFault::None | HookFault::Twice | HookFault::WrongSecret => {}
        }
        let copies = if fault == HookFault::Twice { 2 } else { 1 };
        let mut parcels = vec![parcel; copies];
        parcels.append(&mut waiting.late);
        if waiting.hold {
            waiting.held.append(&mut parcels);
        } else {
            for parcel in parcels {
                self.send(parcel);
            }
        }
    }

    fn send(&self, parcel: Parcel) {
        self.under_way.send_modify(|count| *count += 1);
        if self.sender.send(parcel).is_err() {
            self.under_way.send_modify(|count| *count -= 1);
        }
    }
}

/// Carries parcels until there are no more.
pub async fn carry(hub: Arc<Hub>, mut inbox: mpsc::UnboundedReceiver<Parcel>) {
    while let Some(parcel) = inbox.recv().await {
        sleep(parcel.delay).await;
        let began = hub.now();
        let (status, code, answer) = if parcel.lost { ("timed out".to_owned(), 0, String::new()) } else { said(&parcel).await };
        let now = hub.now();
        if let Some(delivery) = hub.lock().deliveries.iter_mut().find(|delivery| delivery.id == parcel.delivery) {
            delivery.status = Some(status);
            (delivery.status_code, delivery.answer, delivery.duration) = (code, answer, now.duration_since(began).as_secs_f64());
            (delivery.at, delivery.delivered_at) = (now, moment(now));
        }
        hub.outbox.under_way.send_modify(|count| *count -= 1);
    }
}

async fn said(parcel: &Parcel) -> (String, u16, String) {
    match timeout(LIMIT, deliver(parcel)).await {
        Err(_) => ("timed out".to_owned(), 0, String::new()),
        Ok(Err(_)) => ("failed to connect".to_owned(), 502, String::new()),
        Ok(Ok((code @ 200..=299, answer))) => ("OK".to_owned(), code, answer),
        Ok(Ok((code, answer))) => (format!("Invalid HTTP Response: {code}"), code, answer),
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn deliver(parcel: &Parcel) -> Result<(u16, String), Failed> {
    let uri: Uri = parcel.url.parse()?;
    let (host, port) = (uri.host().ok_or("no host")?, uri.port_u16().unwrap_or(80));
    let stream = TcpStream::connect((host, port)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let carried = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::post(path).header("Host", format!("{host}:{port}"));
    for (name, value) in &parcel.headers {
        request = request.header(name, value);
    }
    let response = sender.send_request(request.body(Full::new(parcel.body.clone()))?).await?;
    let code = response.status().as_u16();
    let answer = response.into_body().collect().await?.to_bytes();
    carried.abort();
    Ok((code, String::from_utf8_lossy(&answer).into_owned()))
}

/// Tells every app that is there and wants to know.
fn emit(hub: &Hub, repo: u64, event: &str, action: Option<&str>, payload: &Value) {
    let mut told = Vec::new();
    let mut guard = hub.lock();
    let state = &mut *guard;
    let Some(repo) = state.repos.get(&repo) else { return };
    for app in state.apps.values().filter(|app| app.events.iter().any(|wanted| wanted == event)) {
        let there = state.installations.values().find(|there| there.app == app.id && there.covers(repo) && there.suspended.is_none());
        if let (Some(_), Some(installation)) = (&app.webhook, there) {
            told.push((app.id, installation.id, repo.id));
        }
    }
    for (app, installation, repository_id) in told {
        let mut payload = payload.clone();
        payload["installation"] = json!({"id": installation, "node_id": format!("I_{installation}")});
        let payload = Bytes::from(payload.to_string());
        if payload.len() > LARGEST {
            continue;
        }
        let id = state.next_id();
        state.deliveries.push(Delivery {
            id,
            guid: guid(&format!("delivery {id}")),
            app,
            event: event.to_owned(),
            action: action.map(str::to_owned),
            installation_id: installation,
            repository_id,
            redelivery: false,
            delivered_at: moment(hub.now()),
            at: hub.now(),
            status: None,
            status_code: 0,
            duration: 0.0,
            throttled_at: None,
            headers: Vec::new(),
            payload,
            answer: String::new(),
        });
        let fault = hub.outbox.next_fault();
        pack(hub, state, id, fault);
    }
}

/// Signs a delivery and gives it away.
fn pack(hub: &Hub, state: &mut super::model::State, id: u64, fault: HookFault) {
    let Some(delivery) = state.deliveries.iter_mut().find(|delivery| delivery.id == id) else { return };
    let Some(webhook) = state.apps.get(&delivery.app).and_then(|app| app.webhook.clone()) else { return };
    let mut headers = vec![
        ("Accept".to_owned(), "*/*".to_owned()),
        ("Content-Type".to_owned(), "application/json".to_owned()),
        ("User-Agent".to_owned(), "GitHub-Hookshot/f4e1a2b".to_owned()),
        ("X-GitHub-Delivery".to_owned(), delivery.guid.clone()),
        ("X-GitHub-Event".to_owned(), delivery.event.clone()),
        ("X-GitHub-Hook-ID".to_owned(), delivery.app.to_string()),
        ("X-GitHub-Hook-Installation-Target-ID".to_owned(), delivery.app.to_string()),
        ("X-GitHub-Hook-Installation-Target-Type".to_owned(), "integration".to_owned()),
    ];
    if let Some(secret) = webhook.secret {
        let secret = if fault == HookFault::WrongSecret { format!("not {secret}") } else { secret };
        headers.extend(signatures(&secret, &delivery.payload).map(|(name, value)| (name.to_owned(), value)));
    }
    delivery.headers.clone_from(&headers);
    let body = delivery.payload.clone();
    hub.outbox.post(Parcel { delivery: id, url: webhook.url, headers, body, delay: Duration::ZERO, lost: false }, fault);
}

/// Once more the same, under the same GUID. None: it is not remembered (any more).
pub fn redeliver(hub: &Hub, app: u64, id: u64) -> Option<()> {
    let now = hub.now();
    let mut state = hub.lock();
    let old = state.deliveries.iter().find(|old| old.id == id && old.app == app && now.duration_since(old.at) < KEPT)?.clone();
    let id = state.next_id();
    let again = Delivery { id, redelivery: true, at: now, delivered_at: moment(now), status: None, status_code: 0, ..old };
    state.deliveries.push(again);
    pack(hub, &mut state, id, HookFault::None);
    Some(())
}

/// A ref moved.
pub fn pushed(hub: &Hub, id: u64, name: &str, before: &str, after: &str) {
    // What a push brought is asked of git a commit at a time.
    if hub.lock().apps.values().all(|app| app.webhook.is_none()) {
        return;
    }
    let Some(Place { git, full_name, about, .. }) = place(hub, id) else { return };
    let (created, deleted) = (before == NOTHING, after == NOTHING);
    let commit = |commit: &super::git::Commit| {
        let changed = git.changes(None, &commit.oid);
        let paths = |letter: char| changed.iter().filter(|(at, _)| *at == letter).map(|(_, path)| path.clone()).collect::<Vec<_>>();
        json!({
            "id": commit.oid, "tree_id": commit.tree, "distinct": true, "message": commit.message,
            "timestamp": moment(commit.committer.at), "url": format!("{}/{full_name}/commit/{}", hub.url, commit.oid),
            "author": {"name": commit.author.name, "email": commit.author.email},
            "committer": {"name": commit.committer.name, "email": commit.committer.email},
            "added": paths('A'), "removed": paths('D'), "modified": paths('M'),
        })
    };
    let range = if created { after.to_owned() } else { format!("{before}..{after}") };
    let new = if deleted { Vec::new() } else { git.log(&["--reverse", COMMITS, &range]) };
    let pusher = new.last().map_or(("ghost", "ghost@users.noreply.github.com"), |newest| (&newest.author.name, &newest.author.email));
    let payload = json!({
        "ref": name, "before": before, "after": after, "created": created, "deleted": deleted,
        "forced": !created && !deleted && !git.is_ancestor(before, after), "base_ref": null,
        "compare": format!("{}/{full_name}/compare/{before}...{after}", hub.url),
        "commits": new.iter().map(commit).collect::<Vec<_>>(),
        "head_commit": if deleted { Value::Null } else { git.commit(after).as_ref().map_or(Value::Null, commit) },
        "repository": about, "pusher": {"name": pusher.0, "email": pusher.1},
        "sender": shapes::account(&hub.url, pusher.0, "User"),
    });
    emit(hub, id, "push", None, &payload);
}

/// A suite is new, runs or is done.
pub fn checked(hub: &Hub, id: u64, oid: &str, suite: &Suite) {
    let Some(place) = place(hub, id) else { return };
    let Checks { app, event, workflow, status, conclusion, runs } = &suite.checks;
    let (api, created, updated) = (&place.api, moment(suite.created), moment(suite.updated));
    let head_commit = place.git.commit(oid).as_ref().map(shapes::small_commit);
    let common = json!({"id": suite.id, "head_branch": suite.branch, "head_sha": oid, "status": status, "conclusion": conclusion,
        "created_at": created, "updated_at": updated, "pull_requests": [], "head_commit": head_commit});
    let action = if status == "completed" { "completed" } else { "requested" };
    if status == "completed" || status == "queued" {
        let mut shown = common.clone();
        shown["node_id"] = json!(format!("CS_{}", suite.id));
        (shown["before"], shown["after"]) = (Value::Null, json!(oid));
        shown["app"] = shapes::writer(&hub.url, app, &created);
        shown["latest_check_runs_count"] = json!(runs);
        shown["url"] = json!(format!("{api}/check-suites/{}", suite.id));
        shown["check_runs_url"] = json!(format!("{api}/check-suites/{}/check-runs", suite.id));
        let payload = json!({"action": action, "check_suite": shown, "repository": place.about, "sender": ghost(hub)});
        emit(hub, id, "check_suite", Some(action), &payload);
    }
    if let Some(workflow) = workflow {
        let action = if status == "in_progress" { "in_progress" } else { action };
        let workflow = shapes::workflow(api, &place.html, workflow, &created);
        let title = head_commit.and_then(|commit| Some(commit["message"].as_str()?.lines().next()?.to_owned()));
        // A run has a number of its own; here it is its suite's.
        let url = format!("{api}/actions/runs/{}", suite.id);
        let mut run = common;
        let of_run = json!({
            "name": workflow["name"], "path": workflow["path"],
            "node_id": format!("WFR_{}", suite.id), "event": event, "run_number": 1, "run_attempt": 1, "run_started_at": created,
            "workflow_id": workflow["id"], "workflow_url": workflow["url"], "check_suite_id": suite.id,
            "check_suite_node_id": format!("CS_{}", suite.id), "check_suite_url": format!("{api}/check-suites/{}", suite.id), "url": url,
            "html_url": format!("{}/actions/runs/{}", place.html, suite.id), "previous_attempt_url": null, "actor": ghost(hub),
            "triggering_actor": ghost(hub), "repository": place.small, "head_repository": place.small,
        });
        shapes::extend(&mut run, of_run);
        // GitHub's description of the event between them does not have it.
        if action != "in_progress" {
            run["display_title"] = json!(title);
        }
        for name in ["artifacts", "cancel", "jobs", "logs", "rerun"] {
            run[format!("{name}_url")] = json!(format!("{url}/{name}"));
        }
        let payload = json!({"action": action, "workflow_run": run, "workflow": workflow, "repository": place.about, "sender": ghost(hub)});
        emit(hub, id, "workflow_run", Some(action), &payload);
    }
}

/// A status was set.
pub fn status_set(hub: &Hub, id: u64, oid: &str, status: &Status) {
    let Some(place) = place(hub, id) else { return };
    let commit = place.git.commit(oid).map(|commit| shapes::commit(&hub.url, &place.api, &place.html, &place.users, &commit));
    let payload = json!({
        "id": status.id, "sha": oid, "name": place.full_name, "context": status.context, "state": status.state,
        "description": status.description, "target_url": status.target_url, "branches": [], "commit": commit,
        "created_at": moment(status.created), "updated_at": moment(status.created), "repository": place.about,
        "sender": ghost(hub),
    });
    emit(hub, id, "status", None, &payload);
}

/// A manifest came into the registry. Both events tell of it, and only a manifest of one platform says its commit.
pub fn package_published(hub: &Hub, id: u64, name: &str, tag: &str, digest: &str) {
    let Some(place) = place(hub, id) else { return };
    let (namespace, now) = (place.about["owner"]["login"].clone(), moment(hub.now()));
    let html = format!("{}/packages/{name}", place.html);
    let package = json!({
        "id": id, "name": name, "namespace": namespace, "ecosystem": "CONTAINER", "package_type": "CONTAINER", "description": "",
        "owner": place.about["owner"], "html_url": html, "created_at": now, "updated_at": now, "registry": null,
        "package_version": {"id": 1, "version": digest, "name": digest, "description": "", "summary": "", "html_url": html,
            "package_url": format!("{namespace}/{name}:{tag}"), "installation_command": format!("docker pull {name}:{tag}"),
            "metadata": [], "package_files": [],
            "container_metadata": {"tag": {"name": tag, "digest": digest}, "labels": {"revision": ""}, "manifest": {"digest": digest}}},
    });
    for event in ["package", "registry_package"] {
        let mut payload = json!({"action": "published", "repository": place.about, "sender": ghost(hub)});
        payload[event] = package.clone();
        emit(hub, id, event, Some("published"), &payload);
    }
}

/// Who did what nobody did.
fn ghost(hub: &Hub) -> Value {
    shapes::account(&hub.url, "ghost", "User")
}

/// Where something happened.
struct Place {
    git: super::git::Git,
    full_name: String,
    about: Value,
    small: Value,
    users: BTreeMap<String, String>,
    api: String,
    html: String,
}

fn place(hub: &Hub, id: u64) -> Option<Place> {
    let state = hub.lock();
    let repo: &Repo = state.repos.get(&id)?;
    let full_name = repo.full_name();
    let (api, html) = (format!("{}/repos/{full_name}", hub.url), format!("{}/{full_name}", hub.url));
    let (about, small) = (shapes::repository(&hub.url, repo), shapes::small_repository(&hub.url, repo));
    Some(Place { git: repo.git.clone(), full_name, about, small, users: state.users.clone(), api, html })
}
