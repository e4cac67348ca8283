//! The purse of the probes: samples of up to five pairs, and what each of them is worth.
//!
//! A canary-only failure is repeated up to four times; a sample is confirmed (C) when all five pairs failed on the canary alone, unsure (U)
//! when one to four did, good (G) when the first did not. In any weather that both sides share, with a chance p to fail, a pair is
//! canary-only with p·(1−p) ≤ ¼, so that C has a chance of 4⁻⁵ = 1/1024 at most, with no assumption on flakes (research on the judge, §7).
//! Suspending is another thing: two canary-only pairs in a row take the traffic off, reversibly, and cost no evidence. In a storm that takes
//! a whole sample.
//!
//! A version that fails under traffic alone passes as soon as that is taken off: by such samples it is never more than unsure. Its doubts
//! are counted instead, those of late: a rule outside of the bound.

use serde::{Deserialize, Serialize};

use super::arms::Arms;

/// Pairs of a sample of a flow that changes nothing.
pub const PAIRS: u8 = 5;
/// Of one that does: 4⁻³ = 1/64, so that one broken probe is out after three samples.
pub const MUTATING_PAIRS: u8 = 3;
/// Of a suite: of tests that ran twice on both sides with the same seed, failed on the canary alone both times, and ran at the same moment on
/// stable, one is enough. That is a fact of its own and not the book's bound, which 4⁻² = 1/16 could not keep.
pub const SUITE_PAIRS: u8 = 2;
/// How many good samples in a row end the first doubt about a probe; as many more each later one.
const RECOVERED: u8 = 2;
/// How often traffic may be taken off and given back, as a probe says.
const FLAPS: u8 = 3;
/// Under all of the traffic another try is at the cost of every customer; a probe that is known to flake has its tries all the same.
const WHOLE_FLAP: u8 = 2;
/// More than one run in so many failing is flaky: at 1 % two times within 30 of the 120 samples of a long guard are one in 30,000.
const STEADY: u32 = 100;
/// After so many good samples in calm one time is forgotten: at 2 % flake one sample in 2,500 suspends, four of them so close together in
/// one rollout of a million.
const CALM: u8 = 20;

/// The share of pairs that fail on the canary, as each bet expects it.
const BROKEN: [f64; 4] = [0.1, 0.3, 0.6, 0.98];
/// The last is cash.
const START: [f64; 5] = [0.2; 5];
/// Spread anew after each sample.
const MIXED: f64 = 0.005;

/// No history: one pair in ten may be canary-only.
const UNKNOWN: f64 = 0.10;
/// However good the history, so many may be: an outage begins before stable's first failure tells of it. With 0.015 (research) a rollout that
/// meets an outage at 50 % was lost in 0.1 to 0.2 % of the runs, at a flake of 0.5 %.
const LEAST_UNSURE: f64 = 0.03;
/// Fewer runs than this are no history: none of 100 failing still leaves 3 % (3/100, 95 %).
const HISTORY: u32 = 100;
/// A failure of stable in the last ten samples: p·(1−p) ≤ ¼ whatever the weather.
const STORM: f64 = 0.25;
/// So many of them, and traffic is taken off by a whole sample only: one alone would be a flake, and keep customers on a bad version for
/// seconds.
const STORMY: u32 = 2;
const REMEMBERED: u16 = 0b11_1111_1111;
/// A probe that would be canary-only in half of its samples says nothing.
const NOTHING: f64 = 0.5;

/// What is known of a probe before the rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProbeTerms {
    /// Its name.
    pub name: String,
    /// Its flow changes something: samples have three pairs.
    #[serde(skip_serializing_if = "is_default")]
    pub mutating: bool,
    /// It is a suite: samples have two pairs, and both failing on the canary alone is a verdict.
    #[serde(skip_serializing_if = "is_default")]
    pub suite: bool,
    /// Runs of it on stable before the rollout.
    pub runs: u32,
    /// Failures among them.
    pub flakes: u32,
    /// Samples of stable against stable.
    pub paired: u32,
    /// Those among them that one side alone failed in all pairs.
    #[serde(skip_serializing_if = "is_default")]
    pub one_sided: u32,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The name under which a probe that goes the way of the customers has evidence of its own: a fault on that way alone would be hidden
/// by pods that answer well at their own addresses.
#[must_use]
pub fn by_route(probe: &str) -> String {
    format!("{probe}{BY_ROUTE}")
}

const BY_ROUTE: &str = " by the route";

impl ProbeTerms {
    /// It is this probe, whichever way it goes.
    #[must_use]
    pub fn is_of(&self, probe: &str) -> bool {
        self.name == probe || self.name.strip_suffix(BY_ROUTE) == Some(probe)
    }

    /// Pairs of a sample of it.
    #[must_use]
    pub fn pairs(&self) -> u8 {
        match (self.suite, self.mutating) {
            (true, _) => SUITE_PAIRS,
            (false, true) => MUTATING_PAIRS,
            (false, false) => PAIRS,
        }
    }

    /// It seldom fails on stable, as far as is known.
    fn steady(&self) -> bool {
        self.runs < HISTORY || self.flakes <= self.runs / STEADY
    }

    /// How often at most a sample of a good canary is C, and U. None: too often for the probe to say anything.
    #[must_use]
    pub fn chances(&self, storm: bool) -> Option<(f64, f64)> {
        let weather = (0..self.pairs()).fold(1.0, |chance, _| chance * 0.25);
        let seen = (f64::from(self.one_sided) + 1.0) / (f64::from(self.paired) + 1.0);
        let confirmed = if self.one_sided > 0 { seen.max(weather) } else { weather };
        let flaky = if self.runs == 0 { 0.0 } else { 2.0 * f64::from(self.flakes) / f64::from(self.runs) };
        let unsure = flaky.max(if self.runs < HISTORY { UNKNOWN } else { LEAST_UNSURE }).max(if storm { STORM } else { 0.0 });
        (confirmed + unsure <= NOTHING).then_some((confirmed, unsure))
    }
}

/// What one side of a pair saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// As expected.
    Pass,
    /// Not as expected, in a sentence.
    Fail(String),
    /// It gave up for want of capacity (a timeout, 429, 503), in a sentence: under all of the traffic an idle old pod proves nothing.
    Busy(String),
    /// Nothing was learnt about the target, and why.
    Void(String),
}

/// Which pair of a sample it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The first.
    First,
    /// One at once after a canary-only first one: for suspending, no part of the sample.
    AtOnce,
    /// One of the others, 0.3, 1, 2 and 4 s after the first.
    Repeat,
}

/// How a sample ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// All pairs failed on the canary alone.
    Confirmed,
    /// The first did, another did not.
    Unsure,
    /// The first did not.
    Good,
}

/// What a pair says, both sides together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    CanaryOnly,
    StableOnly,
    Good,
    Both,
    Nothing,
}

/// One probe in a rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    pub(super) arms: Arms<5>,
    /// The last ten samples, one bit each: stable failed.
    pub(super) storms: u16,
    /// Canary-only pairs of the sample under way.
    pub(super) open: u8,
    /// Good samples that are still to come before traffic is given back.
    pub(super) doubt: u8,
    /// How often traffic was taken off because of it, of late.
    pub(super) flaps: u8,
    /// Good samples without a doubt since then.
    pub(super) calm: u8,
    /// Good samples at this stage.
    pub(super) stage: u32,
    /// Confirmed, unsure and good samples.
    pub(super) counts: [u32; 3],
}

impl Default for Probe {
    fn default() -> Self {
        Self { arms: Arms::new(START), storms: 0, open: 0, doubt: 0, flaps: 0, calm: 0, stage: 0, counts: [0; 3] }
    }
}

/// The factors of one sample, for each of the four bets: with g, u and c such that G ≤ U and G ≤ C, the mean is at most 1 as long as C and U
/// are no more likely than their bounds; without that a canary that is better than its bound would win.
fn factors(class: Class, pairs: u8, confirmed: f64, unsure: f64) -> [f64; 5] {
    let mut factors = [1.0; 5];
    let good = 1.0 - unsure - confirmed;
    for (factor, broken) in factors.iter_mut().zip(BROKEN) {
        let all = (0..pairs).fold(1.0, |product, _| product * broken);
        let g = (1.0 - broken) / good;
        let c = (all / confirmed).max(g);
        let u = ((broken - all) / unsure).max(g);
        let mean = confirmed * c + unsure * u + good * g;
        let paid = match class {
            Class::Confirmed => c,
            Class::Unsure => u,
            Class::Good => g,
        };
        *factor = paid / mean;
    }
    factors
}

impl Probe {
    /// How much 1 has become.
    #[must_use]
    pub fn wealth(&self) -> f64 {
        self.arms.wealth()
    }

    /// Confirmed, unsure and good samples so far.
    #[must_use]
    pub fn counts(&self) -> [u32; 3] {
        self.counts
    }

    /// Good samples at this stage.
    #[must_use]
    pub fn at_this_stage(&self) -> u32 {
        self.stage
    }

    pub(super) fn next_stage(&mut self) {
        self.stage = 0;
    }

    /// Traffic was taken off because of it and given back too often.
    #[must_use]
    pub fn flaps(&self) -> bool {
        self.flaps > FLAPS
    }

    /// What a suite has to show in a rollout: that it passed once. The others are asked anew at each stage.
    pub(super) fn good(&self, terms: &ProbeTerms) -> u32 {
        match (terms.suite, self.counts) {
            (true, [_, _, 0]) => 0,
            (true, _) => u32::MAX,
            (false, _) => self.stage,
        }
    }

    /// A whole sample of a suite failed on the canary alone.
    pub(super) fn is_proven(&self, terms: &ProbeTerms) -> bool {
        terms.suite && self.counts[0] > 0
    }

    /// Counts a pair. `whole`: the canary has all of the traffic.
    pub(super) fn pair(&mut self, terms: &ProbeTerms, turn: Turn, says: Says, whole: bool) {
        match turn {
            Turn::First => self.first(terms, says),
            Turn::AtOnce => self.at_once(terms, says, whole),
            Turn::Repeat => self.repeat(terms, says, whole),
        }
    }

    /// Good samples in a row that end a doubt.
    fn wanted(&self) -> u8 {
        RECOVERED.saturating_mul(self.flaps.max(1))
    }

    fn first(&mut self, terms: &ProbeTerms, says: Says) {
        if self.open > 0 {
            // Its repeats were lost, in a crash or with the pod.
            self.close(terms, Class::Unsure, false);
        }
        match says {
            Says::CanaryOnly => {
                self.open = 1;
                // The second pair may take as long as the first: minutes, in which nobody should meet what it found.
                if terms.suite {
                    self.doubted(false);
                }
            }
            Says::Good => self.close(terms, Class::Good, false),
            Says::StableOnly => self.close(terms, Class::Good, true),
            Says::Both => self.remember(true),
            Says::Nothing => {}
        }
    }

    fn at_once(&mut self, terms: &ProbeTerms, says: Says, whole: bool) {
        if self.open > 0 && says == Says::CanaryOnly && self.storms.count_ones() < STORMY {
            self.doubted(whole && terms.steady());
        }
    }

    fn doubted(&mut self, dear: bool) {
        if self.doubt == 0 {
            self.flaps = self.flaps.saturating_add(if dear { WHOLE_FLAP } else { 1 });
            self.calm = 0;
        }
        self.doubt = self.wanted();
    }

    fn repeat(&mut self, terms: &ProbeTerms, says: Says, whole: bool) {
        if self.open == 0 {
            return;
        }
        if says != Says::CanaryOnly {
            self.close(terms, Class::Unsure, matches!(says, Says::StableOnly | Says::Both));
            return;
        }
        self.open += 1;
        if self.open >= terms.pairs() {
            self.doubted(whole && terms.steady());
            self.close(terms, Class::Confirmed, false);
        }
    }

    /// The weather of the sample itself does not count for it: what a bet is paid must be known before it is made.
    fn close(&mut self, terms: &ProbeTerms, class: Class, stable_failed: bool) {
        if let Some((confirmed, unsure)) = terms.chances(self.storms != 0) {
            self.arms.play(factors(class, terms.pairs(), confirmed, unsure));
            self.arms.mix(START, MIXED);
        }
        self.open = 0;
        let [confirmed, unsure, good] = &mut self.counts;
        let count = match class {
            Class::Confirmed => confirmed,
            Class::Unsure => unsure,
            Class::Good => good,
        };
        *count = count.saturating_add(1);
        if class == Class::Good {
            self.stage = self.stage.saturating_add(1);
            match self.doubt {
                0 => self.calms(),
                _ => self.doubt -= 1,
            }
        } else if self.doubt > 0 {
            self.doubt = self.wanted();
        }
        self.remember(stable_failed);
    }

    fn calms(&mut self) {
        self.calm = if self.flaps > 0 { self.calm.saturating_add(1) } else { 0 };
        if self.calm >= CALM {
            (self.flaps, self.calm) = (self.flaps - 1, 0);
        }
    }

    fn remember(&mut self, stable_failed: bool) {
        self.storms = ((self.storms << 1) | u16::from(stable_failed)) & REMEMBERED;
    }
}

impl Says {
    /// `whole`: the canary has all of the traffic, and what it refuses for want of capacity is no fault that an idle pod could disprove.
    pub(super) fn of(canary: &Seen, stable: &Seen, whole: bool) -> Self {
        let void = |seen: &Seen| matches!(seen, Seen::Void(_)) || (whole && matches!(seen, Seen::Busy(_)));
        if void(canary) || void(stable) {
            return Self::Nothing;
        }
        match (canary == &Seen::Pass, stable == &Seen::Pass) {
            (true, true) => Self::Good,
            (true, false) => Self::StableOnly,
            (false, true) => Self::CanaryOnly,
            (false, false) => Self::Both,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> ProbeTerms {
        ProbeTerms { name: "home".to_owned(), runs: 1000, flakes: 5, paired: 1000, ..ProbeTerms::default() }
    }

    /// `C` canary-only first, `c` repeated, `!` at once, `S` stable-only, `s` repeated stable-only, `B` both, `b` repeated both, `v` void, `.` good, `,` repeated good.
    fn probe(terms: &ProbeTerms, script: &str) -> (Probe, bool) {
        let mut probe = Probe::default();
        let mut suspended = false;
        for pair in script.chars() {
            let (turn, says) = match pair {
                'C' => (Turn::First, Says::CanaryOnly),
                'c' => (Turn::Repeat, Says::CanaryOnly),
                '!' => (Turn::AtOnce, Says::CanaryOnly),
                'S' => (Turn::First, Says::StableOnly),
                's' => (Turn::Repeat, Says::StableOnly),
                'B' => (Turn::First, Says::Both),
                'b' => (Turn::Repeat, Says::Both),
                'v' => (Turn::First, Says::Nothing),
                ',' => (Turn::Repeat, Says::Good),
                _ => (Turn::First, Says::Good),
            };
            let before = probe.flaps;
            probe.pair(terms, turn, says, false);
            suspended |= probe.flaps > before;
        }
        (probe, suspended)
    }

    #[test]
    fn a_total_break_is_out_after_two_samples_and_a_mutating_one_after_three() {
        assert!(probe(&known(), "Ccccc").0.wealth() < 2500.0);
        assert!(probe(&known(), "CccccCcccc").0.wealth() >= 2500.0);
        let mutating = ProbeTerms { mutating: true, ..known() };
        assert!(probe(&mutating, "CccCcc").0.wealth() < 2500.0);
        assert!(probe(&mutating, "CccCccCcc").0.wealth() >= 2500.0);
        let unknown = ProbeTerms::default();
        assert!(probe(&unknown, "CccccCcccc").0.wealth() >= 2500.0, "without history as well");
    }

    #[test]
    fn a_suite_takes_traffic_off_at_once_and_is_a_verdict_when_it_failed_twice() {
        let suite = ProbeTerms { suite: true, ..known() };
        let (once, suspended) = probe(&suite, "C");
        assert!(suspended && once.doubt == 2 && !once.is_proven(&suite));
        let (passed, _) = probe(&suite, "C,");
        assert!(!passed.is_proven(&suite) && passed.counts == [0, 1, 0], "one that passed the second time was no more than unsure");
        assert!(probe(&suite, "Cc").0.is_proven(&suite));
        assert!(!probe(&suite, "Cb").0.is_proven(&suite) && !probe(&suite, "Cs").0.is_proven(&suite), "stable failed as well");
        assert!(!probe(&known(), "Ccccc").0.is_proven(&known()), "only suites are");
        let mut good = probe(&suite, ".").0;
        good.next_stage();
        assert_eq!((good.good(&suite), good.good(&known()), Probe::default().good(&suite)), (u32::MAX, 0, 0));
    }

    #[test]
    fn factors_by_hand() {
        // r = 0.6, p_C = 1/1024, p_U = 0.1: g = 0.4/0.89902, c = 0.07776·1024, u = 0.52224/0.1.
        let (g, c, u) = (0.4 / (0.9 - 1.0 / 1024.0), 0.07776 * 1024.0, 5.2224);
        let mean = c / 1024.0 + 0.1 * u + (0.9 - 1.0 / 1024.0) * g;
        for (class, paid) in [(Class::Confirmed, c), (Class::Unsure, u), (Class::Good, g)] {
            let factor = factors(class, 5, 1.0 / 1024.0, 0.1)[2];
            assert!((factor - paid / mean).abs() < 1e-12, "{class:?} {factor}");
        }
    }

    #[test]
    fn the_mean_factor_is_at_most_one_for_every_canary_within_the_bounds() {
        for pairs in [3, 5] {
            for storm in [false, true] {
                let terms = ProbeTerms { mutating: pairs == 3, ..known() };
                let (confirmed, unsure) = terms.chances(storm).unwrap();
                for part_c in [0.0, 0.3, 1.0] {
                    for part_u in [0.0, 0.5, 1.0] {
                        let (c, u) = (confirmed * part_c, unsure * part_u);
                        let of = |class| factors(class, pairs, confirmed, unsure);
                        let (at_c, at_u, at_g) = (of(Class::Confirmed), of(Class::Unsure), of(Class::Good));
                        for arm in 0..5 {
                            let mean = c * at_c[arm] + u * at_u[arm] + (1.0 - c - u) * at_g[arm];
                            assert!(mean <= 1.0 + 1e-12, "{pairs} pairs, storm {storm}, {part_c} {part_u}: {mean}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn any_shared_weather_is_within_the_bounds_of_a_storm() {
        let (confirmed, unsure) = known().chances(true).unwrap();
        for percent in 0..=100 {
            let alone = f64::from(percent) / 100.0 * (1.0 - f64::from(percent) / 100.0);
            assert!(alone.powi(5) <= confirmed && alone - alone.powi(5) <= unsure, "{percent}");
        }
    }

    #[test]
    fn bounds_come_from_history_by_hand() {
        assert_eq!(ProbeTerms::default().chances(false), Some((1.0 / 1024.0, 0.10)));
        assert_eq!(known().chances(false), Some((1.0 / 1024.0, 0.03)));
        assert_eq!(ProbeTerms { flakes: 20, ..known() }.chances(false), Some((1.0 / 1024.0, 0.04)));
        assert_eq!(known().chances(true), Some((1.0 / 1024.0, 0.25)));
        assert_eq!(ProbeTerms { one_sided: 4, ..known() }.chances(false), Some((5.0 / 1001.0, 0.03)));
        assert_eq!(ProbeTerms { flakes: 400, ..known() }.chances(false), None, "what fails so often says nothing");
        let hostile = ProbeTerms { runs: 1, flakes: u32::MAX, paired: 0, one_sided: u32::MAX, ..known() };
        assert_eq!(hostile.chances(false), None);
    }

    #[test]
    fn four_times_of_late_is_too_often_and_two_under_all_of_the_traffic() {
        let after = |script: &str| probe(&known(), script).0;
        assert!(!after(&"C!,..".repeat(3)).flaps());
        assert!(after(&("C!,..".repeat(2) + "....C!,......" + "C!")).flaps());
        assert_eq!(after(&("C!,..".to_owned() + &".".repeat(20))).flaps, 0, "calm is forgotten");
        assert_eq!(after(&("C!,..".to_owned() + &".".repeat(19))).flaps, 1);
        let mut whole = Probe::default();
        for turn in [Turn::First, Turn::AtOnce] {
            whole.pair(&known(), turn, Says::CanaryOnly, true);
        }
        assert_eq!((whole.flaps, whole.doubt, whole.flaps()), (2, 4, false));
        let flaky = ProbeTerms { flakes: 11, ..known() };
        let mut whole = Probe::default();
        for turn in [Turn::First, Turn::AtOnce] {
            whole.pair(&flaky, turn, Says::CanaryOnly, true);
        }
        assert_eq!(whole.flaps, 1);
    }

    #[test]
    fn in_a_storm_a_whole_sample_suspends() {
        assert!(probe(&known(), "SC!").1 && !probe(&known(), "SSC!").1);
        assert!(!probe(&known(), "SSC!ccc").1 && probe(&known(), "SSC!cccc").1);
    }

    #[test]
    fn two_in_a_row_suspend_and_two_good_samples_end_the_doubt() {
        assert!(!probe(&known(), "..C,").1);
        assert!(!probe(&known(), ".!").1, "at once after what?");
        let (doubted, suspended) = probe(&known(), "..C!,");
        assert!(suspended && doubted.doubt == 2);
        assert_eq!(probe(&known(), "C!,.").0.doubt, 1);
        assert_eq!(probe(&known(), "C!,.C,.").0.doubt, 1, "in a row");
        assert_eq!(probe(&known(), "C!,..").0.doubt, 0);
    }

    #[test]
    fn both_failing_is_no_sample_but_a_storm() {
        let (probe_after, _) = probe(&known(), ".B");
        assert_eq!(probe_after.counts, [0, 0, 1]);
        assert_eq!(probe_after.storms, 1);
        assert_eq!(probe(&known(), "v").0, Probe::default());
        assert_eq!(probe(&known(), &("S".to_owned() + &".".repeat(9))).0.storms, 512);
        assert_eq!(probe(&known(), &("S".to_owned() + &".".repeat(10))).0.storms, 0, "after ten samples it is over");
        let (in_storm, calm) = (probe(&known(), "Ss.C,").0.wealth(), probe(&known(), "...C,").0.wealth());
        assert!(in_storm < calm, "{in_storm} {calm}");
    }

    #[test]
    fn a_sample_that_lost_its_repeats_is_unsure() {
        assert_eq!(probe(&known(), "Ccc.").0.counts, [0, 1, 1]);
        assert_eq!(probe(&known(), "Cccb").0.counts, [0, 1, 0]);
        assert_eq!(probe(&known(), "ccccc").0, Probe::default(), "repeats of nothing");
    }

    #[test]
    fn years_of_good_samples_and_of_bad_ones_stay_numbers() {
        for script in [".", "Ccccc", "C,"] {
            let wealth = probe(&known(), &script.repeat(20_000)).0.wealth();
            assert!(wealth.is_finite() && wealth > 0.0);
        }
        // The bold bets have lost all but what is spread anew (1/1000 each), and that has cost 0.996^2000 = 1/3000: two samples more.
        let late = |confirmed| probe(&known(), &(".".repeat(2_000) + &"Ccccc".repeat(confirmed))).0.wealth();
        assert!(late(3) < 2500.0 && late(4) >= 2500.0, "after a week of good samples: {} {}", late(3), late(4));
    }
}
