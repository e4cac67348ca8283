//! What the lines of a rollout come to: which kinds of errors are new, how often each side writes them, and which alerts were raised.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{super::book::Side, Followed};
use crate::{
    api::duration::Span,
    decide::judge::words::counted,
    model::{
        logs::{Alert, LogRules, plain, signature},
        phase::{after, before},
    },
};

/// Kinds of error lines that stable is known to write. 4096 × 8 bytes = 32 KiB; beyond that nothing new is told apart.
const KNOWN: usize = 4096;
/// Kinds that only the canary wrote at first. 64 × ~200 bytes = 13 KiB.
const NEW: usize = 64;
/// Parts of the time in which an alert counts. 2 × 60 × 16 bytes = 2 KiB for each side, as twice the time is kept.
const PARTS: u32 = 60;
/// How many times as often as stable's a canary's pod must write what an alert is about (research on probes, §5).
const CLEARLY: u64 = 3;
/// After more was written than is read, so long nothing is said.
const FLOODED: Duration = Duration::from_secs(5);
const MUCH: &str = "is more than 5 MiB a second, or all logs together more than 30 MiB, so it is not read whole; let it log less, or take spec.verify.logs out";

/// What a line counts for.
pub(super) struct Sign {
    error: Option<String>,
    /// One bit for each alert.
    alerts: u16,
}

impl Sign {
    /// None: for nothing.
    pub(super) fn of(rules: &LogRules, line: &[u8]) -> Option<Self> {
        let line = plain(line);
        let error = rules.errors.hits(&line).then(|| signature(&line)).flatten();
        let alerts = rules.alerts.iter().take(16).enumerate().fold(0, |bits, (at, alert)| bits | u16::from(alert.lines.hits(&line)) << at);
        (error.is_some() || alerts != 0).then_some(Self { error, alerts })
    }
}

/// What was heard so far in a rollout.
pub(super) struct Hearing {
    rules: Arc<LogRules>,
    /// Lines from then on are of this rollout.
    since: Timestamp,
    known: HashSet<u64>,
    /// New kinds, and how often each side wrote them since the look before.
    new: BTreeMap<String, [u32; 2]>,
    ears: Vec<Ear>,
    pods: BTreeMap<String, Standing>,
    /// A rule has taken the version back: that stays so.
    alarm: Option<String>,
}

/// One alert.
struct Ear {
    window: [Window; 2],
    /// Since the look before, of pods that have started.
    fresh: [u32; 2],
    /// It was raised: from then on it is evidence.
    raised: bool,
}

/// How one log stands.
struct Standing {
    /// Why it cannot be read; none: it is read.
    why: Option<String>,
    /// More was written than is read.
    flooded: Option<Timestamp>,
}

/// What the looks of a second come to.
pub(super) struct Look {
    /// Lines since the look before: of the canary, of stable.
    pub(super) lines: Vec<(String, [u32; 2])>,
    /// A rule that takes the version back, in a sentence.
    pub(super) alarm: Option<String>,
}

fn place(side: Side) -> usize {
    match side {
        Side::Canary => 0,
        Side::Stable => 1,
    }
}

fn hash(signature: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    signature.hash(&mut hasher);
    hasher.finish()
}

impl Hearing {
    pub(super) fn new(rules: Arc<LogRules>, since: Timestamp) -> Self {
        let ears = rules.alerts.iter().map(|alert| Ear::new(alert.within)).collect();
        Self { rules, since, known: HashSet::new(), new: BTreeMap::new(), ears, pods: BTreeMap::new(), alarm: None }
    }

    /// A log is read, or why it is not.
    pub(super) fn stands(&mut self, pod: &str, why: Option<String>) {
        let flooded = self.pods.get(pod).and_then(|known| known.flooded);
        self.pods.insert(pod.to_owned(), Standing { why, flooded });
    }

    /// More was written than is read.
    pub(super) fn flooded(&mut self, pod: &str, now: Timestamp) {
        if let Some(standing) = self.pods.get_mut(pod) {
            standing.flooded = Some(now);
        }
    }

    /// Others are gone.
    pub(super) fn keep(&mut self, there: impl Fn(&str) -> bool) {
        self.pods.retain(|pod, _| there(pod));
    }

    /// Counts a line. `warm`: its pod had started by then. `past`: it is read to learn from alone.
    pub(super) fn line(&mut self, sign: Sign, side: Side, (at, warm, past): (Timestamp, bool, bool)) {
        let live = at >= self.since && !past;
        let counts = live && warm;
        let raised = self.ears.iter_mut().enumerate().filter(|(bit, _)| !past && sign.alerts & (1 << bit) != 0);
        for (_, ear) in raised {
            add(&mut ear.fresh, side, counts);
            if let Some(window) = ear.window.get_mut(place(side)) {
                window.add(at);
            }
        }
        let Some(error) = sign.error else { return };
        if let Some(lines) = self.new.get_mut(&error) {
            return add(lines, side, counts);
        }
        match side {
            // What stable writes, or wrote first, is nothing new.
            Side::Stable if self.known.len() < KNOWN => drop(self.known.insert(hash(&error))),
            Side::Canary if counts && self.new.len() < NEW && self.known.len() < KNOWN && !self.known.contains(&hash(&error)) => {
                self.new.insert(error, [1, 0]);
            }
            Side::Stable | Side::Canary => {}
        }
    }

    /// What was heard since the look before. `whole`: nothing of it is missing; else it says nothing.
    pub(super) fn look(&mut self, pods: (u32, u32), whole: bool, now: Timestamp) -> Look {
        let rules = self.rules.clone();
        let mut lines: Vec<(String, [u32; 2])> = Vec::new();
        for (alert, ear) in rules.alerts.iter().zip(&mut self.ears) {
            let ([canary, stable], lately) = ear.heard(now);
            let fresh = std::mem::take(&mut ear.fresh);
            let clearly = canary.saturating_mul(pods.1.into()) > CLEARLY.saturating_mul(stable).saturating_mul(pods.0.into());
            let raised = whole && pods.0 > 0 && pods.1 > 0 && canary > u64::from(alert.more_than) && clearly;
            ear.raised |= raised;
            if raised && alert.absolute && lately <= u64::from(alert.more_than) {
                self.alarm.get_or_insert_with(|| alarmed(alert, canary, lately));
            }
            if ear.raised && fresh != [0, 0] {
                lines.push((alert.title(), fresh));
            }
        }
        let heard = self.new.iter_mut().filter(|(_, lines)| **lines != [0, 0]);
        lines.extend(heard.map(|(signature, lines)| (signature.clone(), std::mem::take(lines))));
        Look { lines, alarm: self.alarm.clone() }
    }

    /// Whose log should be read and is not whole, and why: any of the canary's, and all of stable's.
    pub(super) fn silent(&self, followed: &Followed, now: Timestamp) -> Option<String> {
        let missing = |pod: &str| match self.pods.get(pod) {
            None => Some("has not been read yet".to_owned()),
            Some(Standing { why: Some(why), .. }) => Some(why.clone()),
            Some(Standing { flooded, .. }) => flooded.is_some_and(|flooded| after(flooded, FLOODED) > now).then(|| MUCH.to_owned()),
        };
        let ready = |sources: &[super::Source]| -> Vec<(String, Option<String>)> {
            let ready = sources.iter().filter(|source| source.ready.is_some());
            ready.map(|source| (source.pod.clone(), missing(&source.pod))).collect()
        };
        let stable = ready(&followed.stable);
        let nobody = !stable.is_empty() && stable.iter().all(|(_, why)| why.is_some());
        let of_stable = stable.into_iter().filter(|_| nobody).find_map(|(pod, why)| Some(format!("pod {pod} of stable: its log {}", why?)));
        let of_canary =
            || ready(&followed.canary).into_iter().find_map(|(pod, why)| Some(format!("pod {pod} of the canary: its log {}", why?)));
        of_stable.or_else(of_canary)
    }
}

fn add(lines: &mut [u32; 2], side: Side, counts: bool) {
    if let Some(lines) = lines.get_mut(place(side)).filter(|_| counts) {
        *lines = lines.saturating_add(1);
    }
}

fn alarmed(alert: &Alert, canary: u64, stable: u64) -> String {
    format!(
        "{}: {} on canary within {}, {stable} on stable; it is absolute (spec.verify.logs), a rule outside of the bound for false rollbacks",
        alert.title(),
        counted(canary),
        Span(alert.within)
    )
}

impl Ear {
    fn new(within: Duration) -> Self {
        Self { window: [Window::new(within), Window::new(within)], fresh: [0, 0], raised: false }
    }

    /// In the time until now on both sides, and on stable in twice that time: what it wrote a little earlier is no less its own.
    fn heard(&self, now: Timestamp) -> ([u64; 2], u64) {
        let [canary, stable] = &self.window;
        ([canary.sum(now, 1), stable.sum(now, 1)], stable.sum(now, 2))
    }
}

/// How often in the time until now, by the time of the lines.
struct Window {
    within: Duration,
    parts: VecDeque<(i64, u64)>,
}

impl Window {
    fn new(within: Duration) -> Self {
        Self { within, parts: VecDeque::new() }
    }

    fn part(&self, at: Timestamp) -> i64 {
        let length = (self.within / PARTS).as_millis().max(1);
        at.as_millisecond().div_euclid(i64::try_from(length).unwrap_or(i64::MAX))
    }

    fn add(&mut self, at: Timestamp) {
        let part = self.part(at);
        match self.parts.iter_mut().rev().find(|(known, _)| *known <= part) {
            Some((known, lines)) if *known == part => *lines += 1,
            _ => {
                // Lines come nearly in order; of what is older than all, the oldest part is good enough a place.
                let place = self.parts.iter().position(|(known, _)| *known > part).unwrap_or(self.parts.len());
                self.parts.insert(place, (part, 1));
            }
        }
        while self.parts.len() > 2 * PARTS as usize + 1 {
            self.parts.pop_front();
        }
    }

    /// In so many times the time until now.
    fn sum(&self, now: Timestamp, times: u32) -> u64 {
        let oldest = self.part(before(now, self.within * times));
        self.parts.iter().filter(|(part, _)| *part >= oldest).fold(0, |sum, (_, lines)| sum.saturating_add(*lines))
    }
}
