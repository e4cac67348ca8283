//! From bytes to lines, each once: in fixed memory, whatever a log holds.

use std::{
    collections::{HashSet, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::model::phase::before;

/// Of a line, in bytes: what comes after is not looked at. 25 logs × 8 KiB = 200 KiB a rollout.
const LINE: usize = 8 * 1024;
/// A log is opened again from so long before its last line: times are asked for in whole seconds, and lines of the two outputs of a container
/// are not in order.
const OVERLAP: Duration = Duration::from_secs(2);
/// Lines are known again for so long.
const KNOWN: Duration = Duration::from_secs(4);
/// And so many of them: 25 logs × 8192 × ~40 bytes = 8 MiB a rollout at worst.
const LINES: usize = 8192;

/// Cuts bytes into lines.
#[derive(Default)]
pub(super) struct Splitter {
    line: Vec<u8>,
}

impl Splitter {
    /// Each line that ends in these bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.keep(line);
            each(&self.line);
            self.line.clear();
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.keep(bytes);
    }

    /// What was begun and will not end.
    pub(super) fn end(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.line.is_empty() {
            each(&self.line);
            self.line.clear();
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
}

/// The time that the kubelet has put before a line, and the line.
pub(super) fn timed(line: &[u8]) -> (Option<Timestamp>, &[u8]) {
    let parsed = line.iter().position(|byte| *byte == b' ').and_then(|end| {
        let (time, rest) = line.split_at_checked(end)?;
        let time: Timestamp = std::str::from_utf8(time).ok()?.parse().ok()?;
        Some((Some(time), rest.get(1..)?))
    });
    parsed.unwrap_or((None, line))
}

/// The lines of the last seconds, so that none is counted twice when a log is opened again. Live lines are never judged by their order.
#[derive(Default)]
pub(super) struct Recent {
    last: Option<Timestamp>,
    order: VecDeque<(Timestamp, u64)>,
    known: HashSet<u64>,
}

impl Recent {
    /// From when on the log is to be read again; none: from its beginning.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.last.map(|last| before(last, OVERLAP))
    }

    /// What was written until then is not wanted any more.
    pub(super) fn skip_to(&mut self, now: Timestamp) {
        *self = Self { last: Some(crate::model::phase::after(now, OVERLAP)), ..Self::default() };
    }

    /// Whether this line is another one than those before it.
    pub(super) fn is_new(&mut self, at: Timestamp, line: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        (at.as_nanosecond(), line).hash(&mut hasher);
        let hash = hasher.finish();
        if !self.known.insert(hash) {
            return false;
        }
        self.order.push_back((at, hash));
        let last = self.last.map_or(at, |last| last.max(at));
        self.last = Some(last);
        let old = before(last, KNOWN);
        while self.order.len() > LINES || self.order.front().is_some_and(|(at, _)| *at < old) {
            if let Some((_, hash)) = self.order.pop_front() {
                self.known.remove(&hash);
            }
        }
        true
    }
}

/// How many bytes a second may be read.
pub(in super::super) struct Budget {
    most: usize,
    spent: Mutex<(Option<Instant>, usize)>,
}

impl Budget {
    pub(in super::super) fn a_second(most: usize) -> Self {
        Self { most, spent: Mutex::default() }
    }

    /// Takes so many; whether that was still within it.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let now = Instant::now();
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let (second, sum) = &mut *spent;
        if second.is_none_or(|second| now.duration_since(second) >= Duration::from_secs(1)) {
            (*second, *sum) = (Some(now), 0);
        }
        *sum = sum.saturating_add(bytes);
        *sum <= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
        for chunk in chunks {
            splitter.feed(chunk, |line| lines.push(line.to_vec()));
        }
        splitter.end(|line| lines.push(line.to_vec()));
        assert!(splitter.line.capacity() <= 2 * LINE, "{}", splitter.line.capacity());
        lines
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn lines_are_whole_wherever_the_bytes_are_cut() {
        let text = b"one\n\ntwo \xff\x00 three\nfour";
        let whole = lines(&[text]);
        assert_eq!(whole, [&b"one"[..], b"", b"two \xff\x00 three", b"four"]);
        for cut in 0..text.len() {
            let (head, tail) = text.split_at(cut);
            assert_eq!(lines(&[head, tail]), whole, "{cut}");
        }
    }

    #[test]
    fn of_a_line_without_end_the_head_is_kept_and_the_next_one_is_whole() {
        let long = vec![b'x'; 1024 * 1024];
        let found = lines(&[b"head ", &long, &long, b"\nnext\n"]);
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [LINE, 4]);
        assert!(found[0].starts_with(b"head x"));
    }

    #[test]
    fn the_time_is_the_kubelets_and_a_line_without_is_a_line() {
        let (time, line) = timed(b"2026-01-01T00:00:00.123456789Z level=error\xff");
        assert_eq!((time, line), ("2026-01-01T00:00:00.123456789Z".parse().ok(), &b"level=error\xff"[..]));
        assert_eq!(timed(b"2026-01-01T00:00:00Z ").1, b"");
        for line in [&b""[..], b" ", b"panic: lost", b"\xff\xfe \x00"] {
            assert_eq!(timed(line), (None, line));
        }
    }

    #[test]
    fn a_log_that_is_opened_again_repeats_nothing_and_loses_nothing() {
        let mut recent = Recent::default();
        assert_eq!(recent.since(), None);
        let mut heard = Vec::new();
        let log: Vec<(Timestamp, String)> = (0..40).map(|n| (at(n / 4), format!("line {}", n % 3))).collect();
        // What stderr wrote comes after what stdout wrote later.
        let late = (at(3), "late".to_owned());
        let disordered = log.iter().take(20).chain([&late]);
        let again = |recent: &Recent| recent.since().unwrap();
        for (time, line) in disordered {
            if recent.is_new(*time, line.as_bytes()) {
                heard.push((*time, line.clone()));
            }
        }
        let since = again(&recent);
        assert_eq!(since, at(2));
        for (time, line) in log.iter().filter(|(time, _)| *time >= since).chain([&late]) {
            if recent.is_new(*time, line.as_bytes()) {
                heard.push((*time, line.clone()));
            }
        }
        heard.sort();
        let mut all: Vec<_> = log.into_iter().chain([late]).collect();
        all.sort();
        all.dedup();
        heard.dedup();
        assert_eq!(heard, all);
    }

    #[test]
    fn what_is_remembered_of_lines_is_bounded() {
        let mut recent = Recent::default();
        for n in 0..100_000_u32 {
            assert!(recent.is_new(at(1), &n.to_le_bytes()));
        }
        assert_eq!((recent.order.len(), recent.known.len()), (LINES, LINES));
        recent.is_new(at(100), b"later");
        assert_eq!(recent.order.len(), 1);
        recent.skip_to(at(200));
        assert_eq!(recent.since(), Some(at(200)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_is_for_each_second() {
        let budget = Budget::a_second(100);
        assert!(budget.take(60) && budget.take(40) && !budget.take(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(budget.take(100) && !budget.take(1));
    }
}
