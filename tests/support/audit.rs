//! Who wrote what, as the API server recorded it.

use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Bed, CONTROLLER};

/// One write.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) user: String,
    pub(crate) verb: String,
    /// With its subresource: `deliveries/status`.
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) code: i64,
    /// It was only asked what it would do.
    pub(crate) dry: bool,
    /// When it arrived, Unix µs.
    pub(crate) asked_us: i64,
    /// When it was answered, Unix µs.
    pub(crate) done_us: i64,
}

impl Write {
    fn read(line: &str) -> Option<Self> {
        let event: Value = serde_json::from_str(line).ok()?;
        let text = |at: &str| event.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let time = |at: &str| event.pointer(at)?.as_str()?.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond);
        let sub = text("/objectRef/subresource");
        let resource = text("/objectRef/resource");
        Some(Self {
            user: text("/user/username"),
            verb: text("/verb"),
            resource: if sub.is_empty() { resource } else { format!("{resource}/{sub}") },
            namespace: text("/objectRef/namespace"),
            name: text("/objectRef/name"),
            code: event.pointer("/responseStatus/code").and_then(Value::as_i64).unwrap_or_default(),
            dry: text("/requestURI").contains("dryRun=All"),
            asked_us: time("/requestReceivedTimestamp")?,
            done_us: time("/stageTimestamp")?,
        })
    }

    /// By the controller, and about an app: neither its lease, an Event, nor a question about rights, which is a POST and stores nothing.
    pub(crate) fn ours(&self) -> bool {
        self.user == CONTROLLER && !["leases", "events", "selfsubjectaccessreviews"].contains(&self.resource.as_str())
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.code < 400
    }
}

/// A place in the log.
#[derive(Clone, Copy)]
pub(crate) struct Mark(u64);

impl Bed {
    /// From here on.
    pub(crate) fn audit_mark(&self) -> Result<Mark> {
        Ok(Mark(std::fs::metadata(&self.audit_log).with_context(|| format!("{}", self.audit_log.display()))?.len()))
    }

    /// Every write since then, in order. The API server writes a line before it answers, so nothing is missing.
    pub(crate) fn writes_since(&self, mark: Mark) -> Result<Vec<Write>> {
        let mut file = std::fs::File::open(&self.audit_log)?;
        file.seek(SeekFrom::Start(mark.0))?;
        let mut writes = Vec::new();
        for line in BufReader::new(file).lines() {
            writes.extend(Write::read(&line?));
        }
        writes.sort_by_key(|write| write.done_us);
        Ok(writes)
    }
}

/// How many by `verb resource`, for a message.
pub(crate) fn by_kind<'a>(writes: impl IntoIterator<Item = &'a Write>) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for write in writes {
        *counts.entry(format!("{} {}", write.verb, write.resource)).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}
