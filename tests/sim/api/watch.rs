//! A watch: the changes after a version, as JSON lines, until it ends, is cut, or expires.

use std::{collections::BTreeMap, io, time::Duration};

use bytes::Bytes;
use futures::Stream;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{
    ApiServer, State,
    kinds::Kind,
    refusal::Refusal,
    request::Call,
    selector::Selector,
    serve::{is_partial, present},
    store::Change,
};

/// As the real server: about one bookmark a minute.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);
/// A real server picks 30 to 60 minutes where the client names no timeout; one value keeps runs alike.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(30);

/// What a test does to the watches of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Control {
    /// Counts the cuts: a stream that began under a smaller number ends.
    pub cuts: u64,
    /// Counts the expiries: such a stream says 410 and ends.
    pub expiries: u64,
    /// Nothing arrives, not even the end: a half-open connection.
    pub held: bool,
}

/// By plural of the kind.
pub(super) type Controls = BTreeMap<&'static str, Control>;

struct Feed {
    server: ApiServer,
    bell: watch::Receiver<u64>,
    call: Call,
    kind: &'static Kind,
    selector: Selector,
    began: Control,
    cursor: u64,
    /// The state of the beginning has to be told first.
    initial: bool,
    deadline: Instant,
    bookmark_at: Instant,
    over: bool,
}

enum Step {
    Lines(Vec<Value>),
    Last(Vec<Value>),
    End,
    Wait,
    Held,
    Dead,
}

/// The body of the answer to a watch.
pub(super) fn stream(
    server: &ApiServer,
    state: &State,
    call: Call,
    kind: &'static Kind,
) -> Result<impl Stream<Item = Result<Frame<Bytes>, io::Error>> + Send + use<>, Refusal> {
    let selector = Selector::parse(call.parameter("labelSelector"), call.parameter("fieldSelector"))?;
    let asked: u64 = call.parameter("resourceVersion").parse().unwrap_or(0);
    let timeout = call.parameter("timeoutSeconds").parse().map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let now = Instant::now();
    let feed = Feed {
        server: server.clone(),
        bell: server.bell(),
        kind,
        selector,
        began: state.watches.get(kind.plural).copied().unwrap_or_default(),
        cursor: asked,
        initial: asked == 0 || call.parameter("sendInitialEvents") == "true",
        deadline: now + timeout,
        bookmark_at: now + BOOKMARK_EVERY,
        over: false,
        call,
    };
    Ok(futures::stream::unfold(feed, Feed::next))
}

impl Feed {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, io::Error>, Self)> {
        loop {
            if self.over {
                return None;
            }
            self.bell.mark_unchanged();
            let server = self.server.clone();
            match server.with(|state| self.step(state)) {
                Step::Lines(events) => return Some((Ok(lines(&events)), self)),
                Step::Last(events) => {
                    self.over = true;
                    return Some((Ok(lines(&events)), self));
                }
                Step::End => return None,
                Step::Wait => {}
                // Also the deadline passes unseen, as on a half-open connection.
                Step::Held => {
                    self.bell.changed().await.ok()?;
                    continue;
                }
                Step::Dead => std::future::pending::<()>().await,
            }
            let alarm = self.deadline.min(self.bookmark_at);
            tokio::select! {
                biased;
                rung = self.bell.changed() => rung.ok()?,
                () = tokio::time::sleep_until(alarm) => continue,
            }
            // A real watch cache is some milliseconds behind; how many is the seed's choice.
            let lag = server.with(|state| state.watch_lag(self.kind.plural));
            tokio::time::sleep(lag).await;
        }
    }

    fn step(&mut self, state: &State) -> Step {
        let control = state.watches.get(self.kind.plural).copied().unwrap_or_default();
        if state.crashed.contains(&self.call.incarnation) {
            return Step::Dead;
        }
        if control.held {
            return Step::Held;
        }
        if control.cuts > self.began.cuts {
            return Step::End;
        }
        let too_old = !self.initial && self.cursor < state.store.oldest();
        if control.expiries > self.began.expiries || too_old {
            let refusal = Refusal::expired(self.cursor, state.store.oldest());
            return Step::Last(vec![json!({"type": "ERROR", "object": refusal.status()})]);
        }
        let events = if self.initial { self.state_of_now(state) } else { self.news(state) };
        self.cursor = state.store.version().max(self.cursor);
        self.finish(events)
    }

    fn state_of_now(&mut self, state: &State) -> Vec<Value> {
        self.initial = false;
        let objects = state.store.list(self.kind, &self.call.namespace).filter(|o| self.takes(o));
        let mut events: Vec<Value> = objects.map(|o| self.event("ADDED", o)).collect();
        if self.call.parameter("sendInitialEvents") == "true" {
            events.push(self.bookmark(state.store.version(), &json!({"k8s.io/initial-events-end": "true"})));
        }
        events
    }

    fn news(&self, state: &State) -> Vec<Value> {
        state.store.since(self.cursor).iter().filter(|c| c.key.kind == self.kind).filter_map(|c| self.tell(c)).collect()
    }

    /// Seen through a selector, an object may appear and vanish without being made or removed.
    fn tell(&self, change: &Change) -> Option<Value> {
        let before = change.before.as_ref().is_some_and(|o| self.takes(o));
        let after = !change.removed && self.takes(&change.object);
        let kind = match (before, after) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return None,
        };
        Some(self.event(kind, &change.object))
    }

    fn takes(&self, object: &Value) -> bool {
        let (namespace, name) = (&self.call.namespace, &self.call.name);
        (namespace.is_empty() || namespace == super::super::json::namespace(object))
            && (name.is_empty() || name == super::super::json::name(object))
            && self.selector.takes(object)
    }

    fn event(&self, kind: &str, object: &Value) -> Value {
        json!({"type": kind, "object": present(object.clone(), &self.call)})
    }

    fn bookmark(&self, version: u64, annotations: &Value) -> Value {
        let (api_version, kind) = if is_partial(&self.call) {
            ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadata")
        } else {
            (self.kind.api_version(), self.kind.kind)
        };
        let metadata = json!({"resourceVersion": version.to_string(), "annotations": annotations, "creationTimestamp": null});
        json!({"type": "BOOKMARK", "object": {"apiVersion": api_version, "kind": kind, "metadata": metadata}})
    }

    fn finish(&mut self, mut events: Vec<Value>) -> Step {
        let now = Instant::now();
        if now >= self.bookmark_at {
            self.bookmark_at = now + BOOKMARK_EVERY;
            if self.call.parameter("allowWatchBookmarks") == "true" {
                events.push(self.bookmark(self.cursor, &json!({})));
            }
        }
        match (events.is_empty(), now >= self.deadline) {
            (true, true) => Step::End,
            (false, true) => Step::Last(events),
            (true, false) => Step::Wait,
            (false, false) => Step::Lines(events),
        }
    }
}

fn lines(events: &[Value]) -> Frame<Bytes> {
    let text: String = events.iter().map(|event| format!("{event}\n")).collect();
    Frame::data(Bytes::from(text))
}
