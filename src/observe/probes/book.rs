//! What the probes of one Delivery saw: bounded, and in an order that is never in doubt.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    contract::Contract,
    steady::{Steadiness, Turned},
};
use crate::{
    decide::judge::{
        book::{Dated, Input, Pair},
        probes::{ProbeTerms, Seen, Turn},
    },
    model::{
        probe::{Answerer, Done},
        world::{NotStarted, RestSample, Told, Voice},
    },
};

/// Of each kind. 512 × ~500 bytes = 256 kB per rollout at worst. What is counted is stored once a minute, which are some 60 blocks.
const SAMPLES: usize = 256;
/// Runs at rest per probe: enough to tell a flake from a failure.
const REST: usize = 5;

/// So many runs at rest without one that passed are told: one is a flake, and two pods are asked at once.
const IN_VAIN: usize = 2;

/// Names under which one side answers: one, where the header names the version, and a few where it names the pod.
const ANSWERERS: usize = 16;

/// Results of one rollout, or of one version at rest.
#[derive(Default)]
pub(super) struct Book {
    samples: VecDeque<Dated>,
    rest: VecDeque<RestSample>,
    due: BTreeMap<String, Timestamp>,
    last: Option<Timestamp>,
    turns: BTreeMap<String, usize>,
    /// When suites ended that say enough for a while.
    ran: BTreeMap<String, Instant>,
    answerers: BTreeMap<String, Answerers>,
    /// Suites that are due and not started, and why.
    waiting: BTreeMap<String, NotStarted>,
    outlives: Outlives,
}

/// What outlives what the results are about: what probes left behind, and what is usual for them.
#[derive(Default)]
pub(super) struct Outlives {
    left: LeftByProbe,
    history: Option<History>,
    /// Why runs cannot be written down, by probe, and how often in a row.
    barred: BTreeMap<String, (u32, String)>,
    /// When what a probe has left is swept next.
    sweeps: BTreeMap<String, Instant>,
    /// Whether it is steady enough to vote, by probe.
    steady: BTreeMap<String, Steadiness>,
    /// Whose voice that took or gave back, since that was last asked for.
    turned: Vec<Voice>,
}

/// Runs at rest of the version that serves, since we began to ask it: what is usual for its probes.
#[derive(Default)]
struct History {
    /// The version.
    of: String,
    /// It is asked now. In a rollout what runs may be another one.
    now: bool,
    /// By probe: runs, and failures among them.
    runs: BTreeMap<String, (u32, u32)>,
    /// What it answers.
    contract: Contract,
}

/// What could not be put right, by probe.
type LeftByProbe = BTreeMap<String, Left>;

/// What a probe could not put right.
#[derive(Default)]
struct Left {
    /// How often in a row.
    times: u32,
    /// The last time, in a sentence.
    says: String,
}

/// How often in a row something may be left before the probe is stopped: once is a flake, and each time an object stays in production.
const LEFT: u32 = 3;
/// So often in a row a run may not be written down before that is told: once is a hiccup of the API server.
const UNWRITTEN: u32 = 2;
/// The first sweep comes so soon after the lead was gained: a process may have died.
const FIRST_SWEEP: Duration = Duration::from_secs(20);
/// From one sweep to the next.
const SWEEP: Duration = Duration::from_hours(1);

/// Who answered to a probe when pods were asked at their own addresses. 2 × 16 × 128 bytes = 4 kB per probe at worst.
#[derive(Default)]
struct Answerers {
    canary: Vec<Answerer>,
    stable: Vec<Answerer>,
}

/// Which side of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Canary,
    Stable,
}

impl Book {
    /// Every result from now on ends after this.
    pub(super) fn begin_after(&mut self, after: Option<Timestamp>) {
        self.last = self.last.max(after);
        // What is stored need not be told again.
        self.samples.retain(|sample| after.is_none_or(|after| sample.at > after));
    }

    /// A time that no other result has, in whole microseconds as the status stores it, and later than all before.
    fn stamp(&mut self, now: Timestamp) -> Timestamp {
        let micros = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
        let next = self.last.and_then(|last| last.checked_add(Duration::from_micros(1)).ok());
        let stamp = next.map_or(micros, |next| micros.max(next));
        self.last = Some(stamp);
        stamp
    }

    /// Adds a paired run.
    pub(super) fn pair(&mut self, probe: String, turn: Turn, seen: (Seen, Seen), now: Timestamp) {
        let (canary, stable) = seen;
        let at = self.stamp(now);
        self.samples.push_back(Dated { at, input: Input::Pair(Pair { probe, turn, canary, stable }) });
        self.hold(true);
    }

    /// Adds what the meter made of the users' requests.
    pub(super) fn blocks(&mut self, blocks: Vec<Dated>) {
        for block in blocks {
            let at = self.stamp(block.at);
            self.samples.push_back(Dated { at, ..block });
        }
        self.hold(false);
    }

    /// The latest pairs of probes, or the latest blocks: many of one kind do not push out the other.
    fn hold(&mut self, pairs: bool) {
        let of_kind = |sample: &Dated| matches!(sample.input, Input::Pair(_)) == pairs;
        let mut over = self.samples.iter().filter(|sample| of_kind(sample)).count().saturating_sub(SAMPLES);
        self.samples.retain(|sample| {
            let goes = over > 0 && of_kind(sample);
            over -= usize::from(goes);
            !goes
        });
    }

    /// Learns who answers where only that side can.
    pub(super) fn learn(&mut self, probe: &str, side: Side, answered: Vec<Option<Answerer>>) {
        let known = self.answerers.entry(probe.to_owned()).or_default();
        let known = match side {
            Side::Canary => &mut known.canary,
            Side::Stable => &mut known.stable,
        };
        for who in answered.into_iter().flatten() {
            known.retain(|other| *other != who);
            known.push(who);
        }
        let over = known.len().saturating_sub(ANSWERERS);
        known.drain(..over);
    }

    /// Whether an answer tells by whom it was given.
    pub(super) fn told(&self, probe: &str) -> Told {
        match self.answerers.get(probe) {
            Some(Answerers { canary, stable }) if !canary.is_empty() && !stable.is_empty() => {
                if canary.iter().any(|who| stable.contains(who)) { Told::Alike } else { Told::Apart }
            }
            Some(_) | None => Told::Unsaid,
        }
    }

    /// The answerers that are the canary, where they can be told from stable's.
    pub(super) fn canary(&self, probe: &str) -> Option<Vec<Answerer>> {
        if self.told(probe) != Told::Apart {
            return None;
        }
        self.answerers.get(probe).map(|known| known.canary.clone())
    }

    /// What runs at rest is this version: what is usual begins anew with another.
    pub(super) fn knows(&mut self, version: &str) {
        if self.outlives.history.as_ref().is_none_or(|known| known.of != version) {
            self.outlives.history = Some(History { of: version.to_owned(), now: true, ..History::default() });
        }
        if let Some(known) = &mut self.outlives.history {
            known.now = true;
        }
    }

    /// What is known of a probe before the rollout.
    pub(super) fn terms(&self, probe: &ProbeTerms) -> ProbeTerms {
        let (runs, flakes) = self.outlives.history.as_ref().and_then(|known| known.runs.get(&probe.name)).copied().unwrap_or_default();
        ProbeTerms { runs, flakes, ..probe.clone() }
    }

    /// What stable answers: of the version that served before the rollout and, when that was not asked, what it says beside the canary.
    pub(super) fn contract(&mut self) -> &mut Contract {
        &mut self.outlives.history.get_or_insert_default().contract
    }

    /// Learns what the version that serves answers at rest.
    pub(super) fn answered_at_rest(&mut self, probe: &str, done: &[Done]) {
        if let Some(known) = self.outlives.history.as_mut().filter(|known| known.now) {
            known.contract.learn(probe, done);
        }
    }

    /// Adds a run at rest. Whether that says something new about the probe itself.
    pub(super) fn at_rest(&mut self, probe: &str, wrong: Option<String>, now: Timestamp) -> bool {
        let mut turned = None;
        if let Some(known) = self.outlives.history.as_mut().filter(|known| known.now) {
            let (runs, flakes) = known.runs.entry(probe.to_owned()).or_default();
            (*runs, *flakes) = (runs.saturating_add(1), flakes.saturating_add(u32::from(wrong.is_some())));
            let steady = self.outlives.steady.entry(probe.to_owned()).or_default();
            let name = probe.to_owned();
            turned = match steady.saw(wrong.is_some()) {
                Some(Turned { mute: true, runs, flakes }) => Some(Voice::Lost { probe: name, runs, flakes }),
                Some(Turned { mute: false, runs, flakes }) => Some(Voice::Back { probe: name, runs, flakes }),
                None => wrong.clone().filter(|_| steady.in_vain() == Some(IN_VAIN)).map(|says| Voice::Never { probe: name, says }),
            };
        }
        let news = turned.is_some();
        if matches!(turned, Some(Voice::Lost { .. } | Voice::Back { .. })) {
            // What it said so far is what it lost its voice for.
            self.rest.retain(|said| said.probe != probe);
        }
        self.outlives.turned.extend(turned);
        if !self.is_mute(probe) {
            self.keep_at_rest(probe, wrong, now);
        }
        news
    }

    /// It has run, and never passed.
    pub(super) fn untried(&self, probe: &str) -> bool {
        self.outlives.steady.get(probe).is_some_and(|steady| steady.in_vain().is_some())
    }

    fn keep_at_rest(&mut self, probe: &str, wrong: Option<String>, now: Timestamp) {
        let at = self.stamp(now);
        self.rest.push_back(RestSample { at, probe: probe.to_owned(), wrong });
        if self.rest.iter().filter(|r| r.probe == probe).count() > REST
            && let Some(oldest) = self.rest.iter().position(|r| r.probe == probe)
        {
            self.rest.remove(oldest);
        }
    }

    /// It fails too often at rest to vote.
    pub(super) fn is_mute(&self, probe: &str) -> bool {
        self.outlives.steady.get(probe).is_some_and(Steadiness::is_mute)
    }

    /// The probes that fail too often at rest to vote.
    pub(super) fn all_mute(&self) -> Vec<String> {
        self.outlives.steady.iter().filter(|(_, steady)| steady.is_mute()).map(|(probe, _)| probe.clone()).collect()
    }

    /// Whose voice was taken or given back since this was last asked.
    pub(super) fn turned(&mut self) -> Vec<Voice> {
        std::mem::take(&mut self.outlives.turned)
    }

    /// Whether the last run of this probe at rest passed; none: it has not run.
    pub(super) fn healthy(&self, probe: &str) -> Option<bool> {
        self.rest.iter().rev().find(|r| r.probe == probe).map(|r| r.wrong.is_none())
    }

    /// Whose turn it is among so many: each time another's, also across stages.
    pub(super) fn turn(&mut self, of: &str, among: usize) -> usize {
        let turn = self.turns.entry(of.to_owned()).or_default();
        let now = *turn;
        *turn = turn.wrapping_add(1);
        now.checked_rem(among).unwrap_or(0)
    }

    /// When this suite ended last, in whichever stage.
    pub(super) fn ran(&self, suite: &str) -> Option<Instant> {
        self.ran.get(suite).copied()
    }

    /// It has ended now, and need not run again soon.
    pub(super) fn has_run(&mut self, suite: &str) {
        self.ran.insert(suite.to_owned(), Instant::now());
    }

    /// Why this suite is not started now, or that it is. Whether that changes what people are told.
    pub(super) fn waits(&mut self, suite: &str, why: Option<NotStarted>) -> bool {
        let before = self.all_waiting();
        match why {
            Some(why) => self.waiting.insert(suite.to_owned(), why),
            None => self.waiting.remove(suite),
        };
        self.all_waiting() != before
    }

    /// The suites that are due and not started now, and why.
    pub(super) fn all_waiting(&self) -> Vec<(String, NotStarted)> {
        self.waiting.iter().map(|(suite, why)| (suite.clone(), why.clone())).collect()
    }

    /// When this probe runs next; none: it has nobody to ask.
    pub(super) fn due(&mut self, probe: &str, at: Option<Timestamp>) {
        match at {
            Some(at) => self.due.insert(probe.to_owned(), at),
            None => self.due.remove(probe),
        };
    }

    /// When the next of these runs.
    pub(super) fn next<'a>(&self, probes: impl Iterator<Item = &'a String>) -> Option<Timestamp> {
        probes.filter_map(|probe| self.due.get(probe)).min().copied()
    }

    /// What a run could not put right, or that it could. Whether that stops the probe.
    pub(super) fn left(&mut self, probe: &str, says: Option<&str>) -> bool {
        let Some(says) = says else {
            if !self.stopped(probe) {
                self.outlives.left.remove(probe);
            }
            return false;
        };
        let left = self.outlives.left.entry(probe.to_owned()).or_default();
        left.times = left.times.saturating_add(1);
        says.clone_into(&mut left.says);
        left.times == LEFT
    }

    /// It leaves things behind in production and is not run any more.
    pub(super) fn stopped(&self, probe: &str) -> bool {
        self.outlives.left.get(probe).is_some_and(|left| left.times >= LEFT)
    }

    /// The probes that are stopped, and what they left.
    pub(super) fn all_stopped(&self) -> Vec<(String, String)> {
        let stopped = self.outlives.left.iter().filter(|(_, left)| left.times >= LEFT);
        stopped.map(|(probe, left)| (probe.clone(), left.says.clone())).collect()
    }

    /// Why a run could not be written down, or that it could. Whether that changes what people are told.
    pub(super) fn unwritten(&mut self, probe: &str, why: Option<&str>) -> bool {
        let times = self.outlives.barred.get(probe).map_or(0, |(times, _)| *times);
        self.bar(probe, why.map(|why| (times.saturating_add(1), why.to_owned())))
    }

    /// Why no other run may begin, or that one may again. Whether that changes what people are told.
    pub(super) fn barred(&mut self, probe: &str, why: Option<String>) -> bool {
        self.bar(probe, why.map(|why| (UNWRITTEN, why)))
    }

    fn bar(&mut self, probe: &str, why: Option<(u32, String)>) -> bool {
        let before = self.all_barred();
        match why {
            Some(why) => self.outlives.barred.insert(probe.to_owned(), why),
            None => self.outlives.barred.remove(probe),
        };
        self.all_barred() != before
    }

    /// The probes that are not run now, and why.
    pub(super) fn all_barred(&self) -> Vec<(String, String)> {
        let told = self.outlives.barred.iter().filter(|(_, (times, _))| *times >= UNWRITTEN);
        told.map(|(probe, (_, why))| (probe.clone(), why.clone())).collect()
    }

    /// When what this probe has left is swept next.
    pub(super) fn next_sweep(&mut self, probe: &str) -> Instant {
        *self.outlives.sweeps.entry(probe.to_owned()).or_insert_with(|| Instant::now() + FIRST_SWEEP)
    }

    /// It was swept.
    pub(super) fn swept(&mut self, probe: &str) {
        self.outlives.sweeps.insert(probe.to_owned(), Instant::now() + SWEEP);
    }

    /// That outlives what the results are about.
    pub(super) fn what_outlives(&mut self) -> Outlives {
        std::mem::take(&mut self.outlives)
    }

    /// What was known before; of the history, if it is of a version that is still meant.
    pub(super) fn goes_on_with(&mut self, outlives: Outlives, meant: impl Fn(&str) -> bool) {
        let history = outlives.history.filter(|known| meant(&known.of)).map(|known| History { now: false, ..known });
        self.outlives = Outlives { history, ..outlives };
    }

    /// It is another probe now, of the same name.
    pub(super) fn begins(&mut self, probe: &str) {
        self.waiting.remove(probe);
        self.outlives.left.remove(probe);
        self.outlives.steady.remove(probe);
        self.contract().forget(probe);
    }

    pub(super) fn samples(&self) -> Vec<Dated> {
        self.samples.iter().cloned().collect()
    }

    pub(super) fn rest(&self) -> Vec<RestSample> {
        self.rest.iter().cloned().collect()
    }
}
