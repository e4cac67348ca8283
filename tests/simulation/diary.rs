//! What an outsider sees, in words and in order: the golden text of the stories.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;

use crate::{
    app,
    invariants::CRON_IMAGE,
    routes::{self, is_ours},
    sim::{
        Answer, ApiServer, SimClock, Store,
        api::{
            kinds::{CRON_JOB, DELIVERY, DEPLOYMENT, NEW_EVENT, POD, RELEASE, SERVICE},
            store::Change,
        },
        json::{self, count, flag, text},
        world::{
            plane::Plane,
            routing::{self, Request},
            traffic,
        },
    },
    town::{USER, lock},
};

/// Shorter pauses are not worth a line.
const PAUSE: Duration = Duration::from_secs(4);

/// Clones write into the same book.
#[derive(Clone)]
pub struct Diary {
    book: Arc<Mutex<Book>>,
    clock: SimClock,
}

#[derive(Default)]
struct Book {
    lines: Vec<(Duration, String)>,
    traffic: BTreeMap<String, String>,
    probes: BTreeMap<(String, String), (String, usize)>,
}

impl Diary {
    pub fn new(clock: SimClock) -> Self {
        Self { book: Arc::default(), clock }
    }

    /// Reads along from now on.
    pub fn read(&self, api: &ApiServer, plane: &Plane) {
        let (diary, routed) = (self.clone(), plane.clone());
        api.observe(Box::new(move |store, change| {
            for (who, words) in words(change) {
                diary.tell(who, words);
            }
            diary.traffic(store);
            diary.routes(&routed, store);
            Ok(())
        }));
        let (diary, routed) = (self.clone(), plane.clone());
        plane.watch(Box::new(move |store| diary.routes(&routed, store)));
    }

    /// A line of its own.
    pub fn tell(&self, who: &str, words: impl AsRef<str>) {
        let line = format!("{who:<8} {}", words.as_ref());
        lock(&self.book).lines.push((self.clock.elapsed(), line));
    }

    /// An answer that a probe got. Told when it is another than before, and whenever it is a failure.
    pub fn probe(&self, api: &ApiServer, probe: &str, ip: &str, answer: Answer) {
        let version = api.read(|store| {
            let pod = store.list(&POD, "").find(|p| text(p, "/status/podIP") == ip);
            pod.map(|p| app::tag(text(p, "/spec/containers/0/image")).to_owned()).unwrap_or_default()
        });
        let said = match answer {
            Answer::Status(code) => code.to_string(),
            Answer::Refused => "connection refused".to_owned(),
            Answer::Timeout => "no answer".to_owned(),
        };
        let fresh = {
            let mut book = lock(&self.book);
            let place = book.probes.entry((probe.to_owned(), version.clone())).or_default();
            let fresh = place.0 != said;
            *place = (said.clone(), place.1 + 1);
            fresh
        };
        if fresh || said != "200" {
            self.tell("probe", format!("{probe}: {version} answers {said}"));
        }
    }

    fn traffic(&self, store: &Store) {
        for share in traffic::shares(store) {
            let by: Vec<String> = share.by_image().iter().map(|(image, pods)| format!("{} on {pods}", app::tag(image))).collect();
            self.turned(&share.service, &by);
        }
    }

    /// Whom everybody reaches through each route, and whom its testers.
    fn routes(&self, plane: &Plane, store: &Store) {
        for (key, (spec, _)) in &plane.served().routes {
            let of = |headers: &[(&str, &str)]| -> Vec<String> {
                let share = routing::of_request(plane, store, key, &Request::with(headers));
                let failed = (share.failed > 0.0).then(|| format!("{:.0} % fail", share.failed * 100.0));
                let by = share.by_image().into_iter().map(|(image, part)| format!("{} gets {part} %", image_name(&image)));
                by.chain(failed).collect()
            };
            self.turned(&format!("route {}", key.name), &of(&[]));
            let testers = routes::testers(spec).map(|header| of(&[(header, "canary")]));
            self.turned(&format!("testers of {}", key.name), &testers.unwrap_or_else(|| vec!["none".to_owned()]));
        }
    }

    /// Tells who serves there now, if that is another than before.
    fn turned(&self, place: &str, by: &[String]) {
        let now = if by.is_empty() { "nobody serves".to_owned() } else { by.join(", ") };
        let before = lock(&self.book).traffic.insert(place.to_owned(), now.clone());
        if before.as_ref() != Some(&now) {
            self.tell("traffic", format!("{place}: {now}"));
        }
    }

    /// From now on: what was before is no part of the story.
    pub fn begin(&self) {
        let mut book = lock(&self.book);
        book.lines.clear();
        book.probes.clear();
    }

    /// The story so far.
    pub fn text(&self) -> String {
        let book = lock(&self.book);
        let mut out = String::new();
        let mut last = book.lines.first().map_or(Duration::ZERO, |(at, _)| *at);
        for (at, line) in &book.lines {
            let gap = at.saturating_sub(last);
            if gap >= PAUSE {
                // To five seconds: a story is the same one when a pod took some milliseconds more.
                let rounded = (gap.as_secs() + 2) / 5 * 5;
                out.push_str("         … ");
                out.push_str(&rounded.to_string());
                out.push_str(" s\n");
            }
            last = *at;
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

fn words(change: &Change) -> Vec<(&'static str, String)> {
    let kind = change.key.kind;
    let before = change.before.as_deref();
    let now = change.object.as_ref();
    let name = json::name(now);
    if kind == &DELIVERY {
        return delivery(before, now, change.removed);
    }
    if kind == &RELEASE {
        let outcome = text(now, "/status/outcome");
        let told = !outcome.is_empty() && before.is_none_or(|b| text(b, "/status/outcome") != outcome);
        return if told { vec![("release", format!("{} is {outcome}", text(now, "/spec/version")))] } else { Vec::new() };
    }
    if kind == &NEW_EVENT && before.is_none() {
        return vec![("event", format!("{} {}", text(now, "/type"), text(now, "/reason")))];
    }
    if change.by != USER {
        return Vec::new();
    }
    if kind == &SERVICE {
        return if is_ours(now) { made(before, name, change.removed) } else { service(before, now) };
    }
    if kind.routes() {
        return route(before, now, name);
    }
    if kind == &DEPLOYMENT {
        let ours = json::labels(now).contains_key("haldane.dev/workload");
        return if ours { canary(before, now, change.removed) } else { owners(before, now, name) };
    }
    if kind == &CRON_JOB && before.map(|before| text(before, CRON_IMAGE)) != Some(text(now, CRON_IMAGE)) {
        return vec![("write", format!("CronJob {name} to {}", app::tag(text(now, CRON_IMAGE))))];
    }
    Vec::new()
}

fn delivery(before: Option<&Value>, now: &Value, removed: bool) -> Vec<(&'static str, String)> {
    let name = json::name(now);
    if removed {
        return vec![("then", format!("Delivery {name} is gone"))];
    }
    let said = |d: &Value| (text(d, "/status/phase").to_owned(), text(d, "/status/message").to_owned());
    let (phase, message) = said(now);
    if phase.is_empty() || before.map(said) == Some((phase.clone(), message.clone())) {
        return Vec::new();
    }
    vec![("then", format!("{name} is {phase}: {message}"))]
}

fn service(before: Option<&Value>, now: &Value) -> Vec<(&'static str, String)> {
    let pin = |s: &Value| {
        let selector = json::strings(s, "/spec/selector");
        match (selector.get("haldane.dev/track"), selector.get("pod-template-hash")) {
            (Some(track), _) => track.clone(),
            (None, Some(_)) => "stable".to_owned(),
            (None, None) => String::new(),
        }
    };
    let name = json::name(now);
    match (before.map(pin).unwrap_or_default(), pin(now)) {
        (was, is) if was == is => Vec::new(),
        (_, is) if is.is_empty() => vec![("write", format!("Service {name} as its owner wrote it"))],
        (_, is) => vec![("write", format!("Service {name} pinned to {is}"))],
    }
}

/// A Service in front of the canary.
fn made(before: Option<&Value>, name: &str, removed: bool) -> Vec<(&'static str, String)> {
    match before {
        None => vec![("write", format!("Service {name} made"))],
        Some(_) if removed => vec![("write", format!("Service {name} ends"))],
        Some(_) => Vec::new(),
    }
}

fn route(before: Option<&Value>, now: &Value, name: &str) -> Vec<(&'static str, String)> {
    let said = |route: &Value| match (routes::weight(&route["spec"]), routes::testers(&route["spec"])) {
        (None, None) => "as its owner wrote it".to_owned(),
        (weight, None) => format!("with {} % to the canary", weight.unwrap_or(0)),
        (weight, Some(_)) => format!("with testers and {} % to the canary", weight.unwrap_or(0)),
    };
    if before.map(said) == Some(said(now)) { Vec::new() } else { vec![("write", format!("route {name} {}", said(now)))] }
}

/// `v2` of ours, `help` of another app.
fn image_name(image: &str) -> &str {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.starts_with(app::APP) { app::tag(image) } else { name.split(':').next().unwrap_or(name) }
}

fn image(object: &Value) -> &str {
    app::tag(text(object, "/spec/template/spec/containers/0/image"))
}

fn canary(before: Option<&Value>, now: &Value, removed: bool) -> Vec<(&'static str, String)> {
    let pods = count(now, "/spec/replicas");
    let told = match before {
        _ if removed || json::is_terminating(now) => "canary ends".to_owned(),
        None => format!("canary of {} with {pods}", image(now)),
        Some(before) if count(before, "/spec/replicas") != pods => format!("canary of {} to {pods}", image(now)),
        Some(_) => return Vec::new(),
    };
    vec![("write", told)]
}

fn owners(before: Option<&Value>, now: &Value, name: &str) -> Vec<(&'static str, String)> {
    let Some(before) = before else { return Vec::new() };
    let template = before.pointer("/spec/template") != now.pointer("/spec/template");
    let told = match (flag(before, "/spec/paused"), flag(now, "/spec/paused")) {
        (false, true) => format!("gate of {name} closed"),
        (true, false) => format!("gate of {name} opened for {}", image(now)),
        (false, false) if template => format!("{} written into the open {name}", image(now)),
        (true, true) if template => format!("{} put into {name}, inert", image(now)),
        _ => return Vec::new(),
    };
    vec![("write", told)]
}
