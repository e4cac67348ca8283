//! The book of one Release: all purses, one sum, one bound.
//!
//! `W = Σ w·E` with weights that were fixed before the first bet. Each E is an e-process against "the canary is no worse", so W is one, and
//! P(W ever reaches 1/α) ≤ α: under any dependence of the purses, at every look, through restarts and phases (Ville 1939; Vovk and Wang
//! 2021). Purses are never multiplied: one bad pod moves all of them at once. Suspending, holding and rechecking are no verdicts and cost
//! nothing of α.

use jiff::Timestamp;

use super::{
    arms::clamped,
    bet::{Share, Side, Tally},
    latency::{EDGES, Latency},
    logs::Logs,
    mirror::{Absolute, Mirror, together},
    platform::Platform,
    probes::{Probe, ProbeTerms, Says, Seen, Turn},
    recheck::{RECHECKS, Usual, Watch},
    sums::Sums,
    terms::{PROBES, Purse, Terms},
    words,
};

/// Of what a target did wrong, as it is kept, in letters.
const SENTENCE: usize = 300;

/// Evidence of one purse that is worth to wait for more: 1/0.05.
const SUSPECTED: f64 = 20.0;

/// One paired run of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Which probe.
    pub probe: String,
    /// Which pair of its sample.
    pub turn: Turn,
    /// What the canary did.
    pub canary: Seen,
    /// What stable did.
    pub stable: Seen,
}

/// Something that the book takes in.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A block of errors: the place of each stratum ([`Terms::place`]) and its tally. Strata without a request may be left out.
    Errors(Vec<(usize, Tally)>),
    /// A short block for promotion: both sides, and for each ratio of the terms what would be fair.
    Mirror {
        /// The canary.
        canary: Side,
        /// Stable.
        stable: Side,
        /// Σ E·q for each of [`Terms::ratios`]; nothing where nothing failed.
        fair: Vec<f64>,
    },
    /// A block of latency: for each edge how many were slower.
    Latency([Tally; EDGES]),
    /// A block of log lines: each signature that history does not know.
    Logs(Vec<(String, Tally)>),
    /// Whole minutes of canary pods and in how many of them a pod was restarted or killed.
    Platform {
        /// Pods × minutes.
        pod_minutes: u32,
        /// Those with an event.
        events: u32,
    },
    /// A pair of a probe.
    Pair(Pair),
    /// A block of all of the traffic on the canary: there is nothing to compare with.
    Alone(Side),
    /// From here on the canary has all of the traffic, or no longer.
    Whole(bool),
    /// A stage begins: good samples are wanted anew.
    Stage,
}

/// An input and when it ended. Unique among the inputs of a book, and later than those before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Dated {
    /// When.
    pub at: Timestamp,
    /// What.
    pub input: Input,
}

/// Why the book fails the canary.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The purse that weighs most.
    pub purse: Purse,
    /// What people read: where, the counts of both sides, the evidence and its bound.
    pub says: String,
    /// W when it passed the bound.
    pub wealth: f64,
}

/// What the evidence says.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The canary is bad. It stays so.
    Fail(Failure),
    /// It may be bad: take traffic off it, reversibly, and ask on.
    Suspend(String),
    /// It was suspended too often, and good again each time: nothing is proven, and there is no use in another try.
    TooOften(String),
    /// Errors jumped under all of the traffic: open the split again and ask on.
    Recheck(String),
    /// A whole suite failed on the canary alone, twice.
    Proven(String),
    /// They jump again, and side by side it was no worse so often that it is not asked once more.
    Unexplained(String),
    /// Both sides fail: nobody can be blamed.
    Both(String),
    /// Nothing is learnt.
    Void(String),
    /// Nothing speaks against it.
    Fine,
}

/// The evidence of one Release, from Preflight to the end of the time in which it may be taken back.
#[derive(Clone, Debug, PartialEq)]
pub struct Book {
    pub(super) terms: Terms,
    pub(super) errors: Share,
    /// One for each of the busiest strata.
    pub(super) strata: Vec<Share>,
    /// The same, and behind them all others.
    pub(super) sums: Vec<Sums>,
    pub(super) latency: Latency,
    pub(super) slow: [Sums; EDGES],
    pub(super) logs: Logs,
    pub(super) platform: Platform,
    /// Minutes of pods, and those with an event.
    pub(super) minutes: (u64, u64),
    pub(super) probes: Vec<Probe>,
    pub(super) mirrors: Vec<Mirror>,
    pub(super) absolute: Absolute,
    /// What promotion has seen of the canary.
    pub(super) seen: Side,
    pub(super) watch: Watch,
    pub(super) whole: bool,
    pub(super) said: Option<String>,
    pub(super) failed: Option<Failure>,
    pub(super) both: Option<(Timestamp, String)>,
    pub(super) void: Option<(Timestamp, String)>,
    pub(super) until: Option<Timestamp>,
}

impl Book {
    /// An empty book.
    #[must_use]
    pub fn open(terms: Terms) -> Self {
        let terms = terms.held();
        Self {
            errors: Share::default(),
            strata: vec![Share::default(); terms.strata.len()],
            sums: vec![Sums::default(); terms.strata.len() + 1],
            latency: Latency::default(),
            slow: [Sums::default(); EDGES],
            logs: Logs::default(),
            platform: Platform::default(),
            minutes: (0, 0),
            probes: vec![Probe::default(); terms.probes.len()],
            mirrors: vec![Mirror::default(); terms.ratios.len()],
            absolute: Absolute::default(),
            seen: Side::default(),
            watch: Watch::default(),
            whole: false,
            said: None,
            failed: None,
            both: None,
            void: None,
            until: None,
            terms,
        }
    }

    /// An empty book of what is seen from then on.
    #[must_use]
    pub fn begun(terms: Terms, at: Timestamp) -> Self {
        Self { until: Some(at), ..Self::open(terms) }
    }

    /// What was agreed.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The book with these probes as well, up to [`super::terms::PROBES`]; what is known of others stays. The first are those of
    /// Preflight. One that a person adds in mid-rollout begins at 1, which lifts a book below 1 to 1 at most: the bound is off by one
    /// part in as many as are added, and no evidence decides who is.
    #[must_use]
    pub fn admitting<'a>(&self, probes: impl IntoIterator<Item = &'a ProbeTerms>) -> Self {
        let mut book = self.clone();
        for probe in probes {
            if book.terms.probes.len() < PROBES && book.terms.probes.iter().all(|known| known.name != probe.name) {
                book.terms.probes.push(probe.clone());
                book.probes.push(Probe::default());
            }
        }
        book
    }

    /// The same evidence where a stage begins, with all of the traffic on the canary or not: good samples are wanted anew.
    #[must_use]
    pub fn next_stage(&self, whole: bool) -> Self {
        let mut book = self.clone();
        book.turn(whole);
        book.probes.iter_mut().for_each(Probe::next_stage);
        book
    }

    /// The book with these inputs in it as well; those that it has already are not counted twice.
    #[must_use]
    pub fn with(&self, inputs: &[Dated]) -> Self {
        let mut book = self.clone();
        for dated in inputs.iter().filter(|dated| self.until.is_none_or(|until| dated.at > until)) {
            book.take(dated);
        }
        book
    }

    /// Takes in one input, whatever its moment. User metrics are not bet on under all of the traffic.
    pub fn take(&mut self, dated: &Dated) {
        self.until = self.until.max(Some(dated.at));
        match &dated.input {
            Input::Errors(strata) => self.block(dated.at, strata),
            Input::Mirror { canary, stable, fair } => self.mirror(*canary, *stable, fair),
            Input::Latency(edges) => self.slower(edges),
            Input::Logs(lines) => {
                if self.terms.logs.is_some() && !self.whole {
                    self.logs.bet(lines);
                }
            }
            Input::Platform { pod_minutes, events } => self.restarted(*pod_minutes, *events),
            Input::Pair(pair) => self.pair(dated.at, pair),
            Input::Alone(side) => {
                if self.whole {
                    self.watch.block(*side, self.usual());
                }
            }
            Input::Whole(whole) => self.turn(*whole),
            Input::Stage => self.probes.iter_mut().for_each(Probe::next_stage),
        }
        self.decide();
    }

    /// The canary has all of the traffic, or no longer.
    fn turn(&mut self, whole: bool) {
        if !whole && self.whole {
            self.watch.given(self.usual());
        }
        self.whole = whole;
    }

    fn usual(&self) -> Usual {
        Usual { day: self.terms.usual_rate, concurrent: self.concurrent() }
    }

    fn block(&mut self, at: Timestamp, strata: &[(usize, Tally)]) {
        if self.whole || self.terms.errors.is_none() {
            return;
        }
        let tallies: Vec<Tally> = strata.iter().map(|(_, tally)| *tally).collect();
        self.errors.bet(&tallies);
        self.watch.beside(at, tallies.iter().fold(Side::default(), |all, tally| all.plus(tally.canary).plus(tally.stable)));
        let others = self.strata.len();
        for (place, tally) in strata {
            if let Some(share) = self.strata.get_mut(*place) {
                share.bet(&[*tally]);
            }
            if let Some(sums) = self.sums.get_mut((*place).min(others)) {
                sums.add(tally);
            }
        }
    }

    fn mirror(&mut self, canary: Side, stable: Side, fair: &[f64]) {
        if self.whole {
            return;
        }
        for (mirror, fair) in self.mirrors.iter_mut().zip(fair) {
            mirror.bet(&[Tally { canary, stable, fair: *fair }]);
        }
        self.absolute.bet(canary, self.terms.margin);
        self.seen = self.seen.plus(canary);
    }

    fn slower(&mut self, edges: &[Tally; EDGES]) {
        if self.whole || self.terms.latency.is_none() {
            return;
        }
        self.latency.bet(edges);
        self.slow.iter_mut().zip(edges).for_each(|(sums, tally)| sums.add(tally));
    }

    fn restarted(&mut self, pod_minutes: u32, events: u32) {
        let Some(usual) = self.terms.restarts else { return };
        self.platform.bet(usual, pod_minutes, events);
        let (minutes, before) = self.minutes;
        self.minutes = (minutes.saturating_add(u64::from(pod_minutes)), before.saturating_add(u64::from(events.min(pod_minutes))));
    }

    fn pair(&mut self, at: Timestamp, pair: &Pair) {
        let known = self.terms.probes.iter().zip(&mut self.probes).find(|(terms, _)| terms.name == pair.probe);
        let Some((terms, probe)) = known else { return };
        let says = Says::of(&pair.canary, &pair.stable, self.whole);
        probe.pair(terms, pair.turn, says, self.whole);
        match (says, &pair.canary, &pair.stable) {
            (Says::Nothing, Seen::Void(why) | Seen::Busy(why), _) | (Says::Nothing, _, Seen::Void(why) | Seen::Busy(why)) => {
                self.void.get_or_insert((at, shortened(why)));
                return;
            }
            (Says::Both, Seen::Fail(why) | Seen::Busy(why), _) => {
                self.both.get_or_insert((at, shortened(&format!("{}: {why}", pair.probe))));
                self.void = None;
                return;
            }
            (Says::CanaryOnly, Seen::Fail(why) | Seen::Busy(why), _) => {
                self.said = Some(shortened(&format!("{}: {why} on canary, passed on stable", pair.probe)));
            }
            _ => {}
        }
        (self.both, self.void) = (None, None);
    }

    /// The failure rate of both sides together while they stood beside each other.
    fn concurrent(&self) -> Option<f64> {
        let (asked, failed) = self.sums.iter().fold((0, 0), |(asked, failed): (u64, u64), sums| {
            let (canary, stable) = (sums.canary, sums.stable);
            (asked.saturating_add(canary.0).saturating_add(stable.0), failed.saturating_add(canary.1).saturating_add(stable.1))
        });
        // In parts of a million: whole numbers, so that a count past 2^53 is no matter.
        let millionths = failed.saturating_mul(1_000_000).checked_div(asked)?;
        Some(f64::from(u32::try_from(millionths).unwrap_or(1_000_000).min(1_000_000)) / 1e6)
    }

    /// The evidence of one purse: how much 1 has become.
    #[must_use]
    pub fn evidence(&self, purse: Purse) -> f64 {
        match purse {
            Purse::Errors if self.strata.is_empty() => self.errors.wealth(),
            // A fault of one small endpoint is lost in the sum of all: a quarter looks at the busiest alone.
            Purse::Errors => 0.75 * self.errors.wealth() + 0.25 * mean(self.strata.iter().map(Share::wealth)),
            Purse::Probes => mean(self.probes.iter().map(Probe::wealth)),
            Purse::Latency => self.latency.wealth(),
            Purse::Logs => self.logs.wealth(),
            Purse::Platform => self.platform.wealth(),
        }
    }

    /// W: the evidence of all purses together. 1 in an empty book, and where nobody speaks.
    #[must_use]
    pub fn wealth(&self) -> f64 {
        let weights = self.terms.weights();
        let each = Purse::ALL.into_iter().zip(weights).filter(|(_, weight)| *weight > 0.0);
        let sum = each.fold(0.0, |sum, (purse, weight)| sum + weight * self.evidence(purse));
        if sum > 0.0 { clamped(sum) } else { 1.0 }
    }

    fn decide(&mut self) {
        let wealth = self.wealth();
        if self.failed.is_none() && wealth >= self.terms.bound() {
            let purse = self.top();
            self.failed = Some(Failure { purse, says: shortened(&words::failure(self, purse, wealth)), wealth });
        }
    }

    /// The purse with the most evidence, where that is enough to give the canary no more than it has: of good ones a twentieth waits for
    /// that at most, and none is taken back for it (Ville 1939).
    #[must_use]
    pub fn suspected(&self) -> Option<Purse> {
        let speaking = Purse::ALL.into_iter().filter(|purse| self.terms.speaks(*purse)).map(|purse| (purse, self.evidence(purse)));
        let most =
            speaking.fold(None, |most: Option<(Purse, f64)>, one| if most.is_none_or(|most| one.1 > most.1) { Some(one) } else { most });
        most.filter(|(_, evidence)| *evidence >= SUSPECTED).map(|(purse, _)| purse)
    }

    /// The purse that weighs most.
    #[must_use]
    pub fn top(&self) -> Purse {
        let weighed = |(purse, weight): (Purse, f64)| (purse, weight * self.evidence(purse));
        let all = Purse::ALL.into_iter().zip(self.terms.weights()).map(weighed);
        all.fold((Purse::Errors, 0.0), |best, one| if one.1 > best.1 { one } else { best }).0
    }

    /// What the evidence says now.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if let Some(failed) = &self.failed {
            return Verdict::Fail(failed.clone());
        }
        let said = || self.said.clone().unwrap_or_default();
        if self.each_probe().any(|(terms, probe)| probe.is_proven(terms)) {
            return Verdict::Proven(words::proven(&said()));
        }
        if self.probes.iter().any(Probe::flaps) {
            return Verdict::TooOften(words::too_often(&said()));
        }
        if self.probes.iter().any(|probe| probe.doubt > 0) {
            return Verdict::Suspend(said());
        }
        if self.whole && self.watch.wanted {
            let jumped = words::jumped(self);
            return if self.watch.used >= RECHECKS { Verdict::Unexplained(jumped) } else { Verdict::Recheck(jumped) };
        }
        if let Some((_, both)) = &self.both {
            return Verdict::Both(both.clone());
        }
        if let Some((_, void)) = &self.void {
            return Verdict::Void(void.clone());
        }
        Verdict::Fine
    }

    /// The evidence that the step, from 0, may be left: [`super::mirror::ENOUGH`] is enough. The last ratio is that of all later steps.
    #[must_use]
    pub fn promotion(&self, step: usize) -> f64 {
        let mirror = self.mirrors.get(step).or(self.mirrors.last());
        let absolute = Some(&self.absolute).filter(|_| self.terms.margin > 0.0 && self.terms.margin < 1.0);
        mirror.map_or(0.0, |mirror| together(mirror, absolute))
    }

    /// Good samples at this stage of the one of these probes that has the fewest, whichever way they came; 0 where there is none. A suite that
    /// passed once has shown enough for all stages.
    #[must_use]
    pub fn good_of_each<'a>(&self, probes: impl IntoIterator<Item = &'a str>) -> u32 {
        let good = |name: &str| {
            let known = self.terms.probes.iter().zip(&self.probes);
            known.filter(|(terms, _)| terms.is_of(name)).fold(0_u32, |sum, (terms, probe)| sum.saturating_add(probe.good(terms)))
        };
        probes.into_iter().map(good).min().unwrap_or(0)
    }

    /// How often the split was opened again to ask, and since when it is quiet there: from the last block in which both sides together
    /// failed far more than usual.
    #[must_use]
    pub fn rechecked(&self) -> (u8, Option<Timestamp>) {
        (self.watch.used, self.watch.loud)
    }

    /// Requests of users to the canary that were counted for going on.
    #[must_use]
    pub fn asked(&self) -> u32 {
        self.seen.asked
    }

    /// The last failure of the canary alone, with both sides.
    #[must_use]
    pub fn said(&self) -> Option<&str> {
        self.said.as_deref()
    }

    /// Every probe with what is known of it.
    pub fn each_probe(&self) -> impl Iterator<Item = (&ProbeTerms, &Probe)> {
        self.terms.probes.iter().zip(&self.probes)
    }

    /// Inputs up to here are in the book.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// Both sides fail since then, and how.
    #[must_use]
    pub fn both(&self) -> Option<&(Timestamp, String)> {
        self.both.as_ref()
    }

    /// Nothing was learnt since then, and why.
    #[must_use]
    pub fn void(&self) -> Option<&(Timestamp, String)> {
        self.void.as_ref()
    }
}

fn mean(each: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = each.fold((0.0, 0_u32), |(sum, count), one| (sum + one, count + 1));
    if count == 0 { 1.0 } else { sum / f64::from(count) }
}

fn shortened(sentence: &str) -> String {
    sentence.chars().take(SENTENCE).collect()
}

#[cfg(test)]
mod tests;
