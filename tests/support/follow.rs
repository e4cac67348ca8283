//! The life of a Delivery as `kubectl get --watch` tells it.

use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Bed, begin, now_us};

/// One state of a Delivery and when it was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) at_us: i64,
    pub(crate) object: Value,
}

impl Seen {
    fn text(&self, at: &str) -> &str {
        self.object.pointer(at).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn phase(&self) -> &str {
        self.text("/status/phase")
    }

    pub(crate) fn live(&self) -> &str {
        self.text("/status/live/version")
    }

    pub(crate) fn reason(&self) -> &str {
        self.text("/status/reason")
    }

    pub(crate) fn message(&self) -> &str {
        self.text("/status/message")
    }

    /// Which step, from 1.
    pub(crate) fn step(&self) -> Option<i64> {
        self.object.pointer("/status/rollout/step").and_then(Value::as_i64)
    }

    /// Until when the rollout stays where it is, Unix µs.
    pub(crate) fn until_us(&self) -> Option<i64> {
        self.text("/status/rollout/until").parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond)
    }

    /// Its status speaks of its spec as it is.
    pub(crate) fn condition(&self, type_: &str) -> &str {
        let all = self.object.pointer("/status/conditions").and_then(Value::as_array);
        let one = all.into_iter().flatten().find(|c| c.pointer("/type").and_then(Value::as_str) == Some(type_));
        one.and_then(|c| c.pointer("/status")).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn is_live(&self, version: &str) -> bool {
        self.phase() == "Live" && self.live() == version && self.condition("Ready") == "True"
    }

    pub(crate) fn is_back(&self, version: &str) -> bool {
        self.phase() == "RolledBack" && self.live() == version
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} live={} {}: {}", self.phase(), self.live(), self.reason(), self.message())
    }
}

/// A watch; every state since its start is kept.
pub(crate) struct Follow {
    child: Child,
    states: Receiver<Seen>,
    pub(crate) past: Vec<Seen>,
}

impl Follow {
    pub(crate) fn start(bed: &Bed, namespace: &str, delivery: &str) -> Result<Self> {
        let mut command = bed.command("kubectl");
        // A list of one: of a single object that is named, kubectl drops the first event of the watch, and with it a change between its
        // two requests.
        let one = format!("--field-selector=metadata.name={delivery}");
        command.args(["-n", namespace, "get", "deliveries", &one, "--watch", "-o", "json"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let output = child.stdout.take().context("no stdout")?;
        let (sender, states) = channel();
        std::thread::spawn(move || {
            for object in serde_json::Deserializer::from_reader(output).into_iter().map_while(Result::ok) {
                if sender.send(Seen { at_us: now_us(), object }).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, states, past: Vec::new() })
    }

    /// The first state from now on that is as wanted. What was seen before does not count.
    pub(crate) fn until(&mut self, limit: Duration, what: &str, wanted: impl Fn(&Seen) -> bool) -> Result<Seen> {
        let began = begin();
        loop {
            match self.states.recv_timeout(limit.saturating_sub(began.elapsed())) {
                Ok(seen) => {
                    self.past.push(seen.clone());
                    if wanted(&seen) {
                        return Ok(seen);
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("not {what} after {limit:?}. {}", self.story()),
                Err(RecvTimeoutError::Disconnected) => bail!("the watch ended before it was {what}. {}", self.story()),
            }
        }
    }

    /// The last states, for a message.
    pub(crate) fn story(&self) -> String {
        let mut lines: Vec<String> = self.past.iter().map(ToString::to_string).collect();
        lines.dedup();
        let skipped = lines.len().saturating_sub(8);
        format!("Seen: {}", lines.split_off(skipped).join(" → "))
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        // It may have ended by itself when the API server went away.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
