//! Says at once when a version answers for the first time, and when it has stopped answering.

use crate::clock::readable;
use crate::outcome::Outcome;

/// A version that has not answered for this long has stopped; if it comes back, that is said too.
const QUIET_US: i64 = 1_000_000;

/// One watched version. Times are those at which its requests started.
pub(crate) struct Watch {
    version: String,
    last: Option<Last>,
    answering: bool,
}

struct Last {
    start_us: i64,
    kind: String,
    path: String,
}

impl Watch {
    pub(crate) fn new(version: &str) -> Self {
        Self { version: version.to_owned(), last: None, answering: false }
    }

    /// A line if this answer is the version's first, or its first after a silence.
    pub(crate) fn see(&mut self, outcome: &Outcome) -> Option<String> {
        if outcome.version.as_deref() != Some(self.version.as_str()) {
            return None;
        }
        let word = if self.last.is_none() { "first" } else { "again" };
        // Answers arrive in another order than their requests left.
        if self.last.as_ref().is_none_or(|last| last.start_us < outcome.start_us) {
            self.last = Some(Last { start_us: outcome.start_us, kind: outcome.kind.to_string(), path: outcome.ask.name.clone() });
        }
        let news = !std::mem::replace(&mut self.answering, true);
        news.then(|| self.line(word)).flatten()
    }

    /// A line if the version has been silent long enough.
    pub(crate) fn quiet(&mut self, now_us: i64) -> Option<String> {
        let last = self.last.as_ref()?;
        if now_us.saturating_sub(last.start_us) < QUIET_US { None } else { self.end() }
    }

    /// The last line at the end of a run, if it has not been said yet.
    pub(crate) fn end(&mut self) -> Option<String> {
        std::mem::replace(&mut self.answering, false).then(|| self.line("last")).flatten()
    }

    fn line(&self, word: &str) -> Option<String> {
        let Last { start_us, kind, path } = self.last.as_ref()?;
        Some(format!("watch {} {word} {} {start_us} {kind} {path}", self.version, readable(*start_us)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tests::answer;

    #[test]
    fn first_last_and_again_are_each_said_once() {
        let mut watch = Watch::new("v2");
        assert_eq!(watch.see(&answer(0, "v1", 200)), None);
        assert_eq!(watch.see(&answer(5, "v2", 200)).unwrap(), "watch v2 first 1970-01-01T00:00:00.000005Z 5 fresh /products");
        assert_eq!(watch.see(&answer(900, "v2", 200)), None);
        assert_eq!(watch.quiet(1_000_000), None);
        assert!(watch.quiet(1_000_900).unwrap().starts_with("watch v2 last 1970-01-01T00:00:00.000900Z 900 "));
        assert_eq!(watch.quiet(9_000_000), None);
        assert!(watch.see(&answer(9_500_000, "v2", 500)).unwrap().starts_with("watch v2 again "));
        assert!(watch.end().unwrap().starts_with("watch v2 last "));
        assert_eq!(watch.end(), None);
    }
}
