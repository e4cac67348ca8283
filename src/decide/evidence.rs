//! How paired samples add up to a verdict: the counting rule behind one small interface, [`Book::add`] and [`Book::verdict`].
//!
//! The rule (research on probes, simulated there: 0.25 % of good releases go back with one probe at 2 % flake on both
//! sides, a broken one goes after 2 samples): a canary-only failure is repeated at once; repeated, it is *confirmed*.
//! One confirmed failure suspends, two among the last five conclusive samples fail, and so does a score of four, where
//! each canary-only failure adds one and each stable-only failure takes one away. Both sides failing is no sample, and
//! neither is a run that says nothing about the target.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How many conclusive samples are looked back on.
const WINDOW: usize = 5;
/// How many confirmed failures among them are a fail.
const CONFIRMED: usize = 2;
/// The score that is a fail by itself: a slow leak.
const SCORE: u32 = 4;
/// How many good samples in a row end a suspension.
const RECOVERED: usize = 3;

/// What one side of a pair saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// As expected.
    Pass,
    /// Not as expected, in a sentence.
    Fail(String),
    /// Nothing was learnt about the target, and why.
    Void(String),
}

/// Which way a pair took. Both ways of a probe have one name and one count: good pairs of either are good pairs of the probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// To this canary pod, beside a pod of stable.
    Pod(String),
    /// By the route, as one of those who test beside one who is not.
    Route,
}

/// One paired run of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it ended. Unique among the samples of a rollout.
    pub at: Timestamp,
    /// Which probe.
    pub probe: String,
    /// Which way.
    pub way: Way,
    /// It repeats the sample before it, at once.
    pub rerun: bool,
    /// What the canary did.
    pub canary: Seen,
    /// What stable did.
    pub stable: Seen,
}

/// The evidence of one rollout. Small, and stored in status, so that a restart neither forgets nor counts twice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Book {
    /// The last conclusive samples, oldest first: true is a confirmed failure of the canary alone.
    pub recent: Vec<bool>,
    /// Canary-only failures minus stable-only failures, at least 0.
    pub score: u32,
    /// Good pairs at this stage, by probe.
    pub good: BTreeMap<String, u32>,
    /// Pairs in all.
    pub pairs: u32,
    /// Pairs in which the canary alone failed.
    pub canary_only: u32,
    /// Pairs in which stable alone failed.
    pub stable_only: u32,
    /// The last failure of the canary alone, with both sides.
    pub failure: Option<String>,
    /// Both sides fail since then, and how.
    pub both: Option<(Timestamp, String)>,
    /// Nothing was learnt since then, and why.
    pub void: Option<(Timestamp, String)>,
    /// Samples up to here are in the book.
    pub until: Option<Timestamp>,
}

/// What the evidence says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The canary is bad.
    Fail(String),
    /// It may be bad: take traffic off it, reversibly, and ask on.
    Suspend(String),
    /// Both sides fail: nobody can be blamed.
    Both(String),
    /// Nothing is learnt.
    Void(String),
    /// Nothing speaks against it.
    Fine,
}

impl Sample {
    /// What one side did, with the probe and its way.
    fn said(&self, what: &str) -> String {
        match &self.way {
            Way::Pod(_) => format!("{}: {what}", self.probe),
            Way::Route => format!("{} by the route: {what}", self.probe),
        }
    }
}

impl Book {
    /// The book with these samples in it as well; those that it has already are not counted twice.
    #[must_use]
    pub fn with(&self, samples: &[Sample]) -> Self {
        let mut book = self.clone();
        for sample in samples.iter().filter(|s| self.until.is_none_or(|until| s.at > until)) {
            book.add(sample);
        }
        book
    }

    /// Counts one sample.
    pub fn add(&mut self, sample: &Sample) {
        self.until = Some(sample.at);
        match (&sample.canary, &sample.stable) {
            (Seen::Void(why), _) | (_, Seen::Void(why)) => {
                let why = if sample.way == Way::Route { sample.said(why) } else { why.clone() };
                self.void.get_or_insert((sample.at, why));
                return;
            }
            (Seen::Fail(canary), Seen::Fail(_)) => {
                self.both.get_or_insert((sample.at, sample.said(canary)));
                self.void = None;
                return;
            }
            (Seen::Fail(canary), Seen::Pass) => self.canary_alone(sample, canary),
            (Seen::Pass, Seen::Fail(_)) => {
                self.stable_only += 1;
                self.score = self.score.saturating_sub(1);
                self.good(&sample.probe);
            }
            (Seen::Pass, Seen::Pass) => self.good(&sample.probe),
        }
        self.pairs += 1;
        self.both = None;
        self.void = None;
    }

    fn canary_alone(&mut self, sample: &Sample, canary: &str) {
        self.canary_only += 1;
        self.failure = Some(format!("{} on canary, passed on stable", sample.said(canary)));
        if sample.rerun {
            self.remember(true);
        } else {
            self.score += 1;
        }
    }

    fn good(&mut self, probe: &str) {
        *self.good.entry(probe.to_owned()).or_default() += 1;
        self.remember(false);
    }

    fn remember(&mut self, bad: bool) {
        self.recent.push(bad);
        let over = self.recent.len().saturating_sub(WINDOW);
        self.recent.drain(..over);
    }

    /// What the evidence says now.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let failure = || self.failure.clone().unwrap_or_default();
        let confirmed = self.recent.iter().filter(|bad| **bad).count();
        if confirmed >= CONFIRMED {
            return Verdict::Fail(format!("{}; confirmed {confirmed} times in {} samples", failure(), self.recent.len()));
        }
        if self.score >= SCORE {
            return Verdict::Fail(format!("{}; {} of {} pairs failed on the canary alone", failure(), self.canary_only, self.pairs));
        }
        if confirmed > 0 && self.recent.iter().rev().take_while(|bad| !**bad).count() < RECOVERED {
            return Verdict::Suspend(failure());
        }
        if let Some((_, both)) = &self.both {
            return Verdict::Both(both.clone());
        }
        if let Some((_, void)) = &self.void {
            return Verdict::Void(void.clone());
        }
        Verdict::Fine
    }

    /// Good pairs at this stage of the probe that has the fewest, of `voting` probes.
    #[must_use]
    pub fn good_of_each(&self, voting: usize) -> u32 {
        if self.good.len() < voting { 0 } else { self.good.values().copied().min().unwrap_or(0) }
    }

    /// The same evidence at the beginning of a stage: good pairs are wanted anew.
    #[must_use]
    pub fn next_stage(&self) -> Self {
        Self { good: BTreeMap::new(), ..self.clone() }
    }

    /// What must be stored at once when it changes; the rest may be lost in a crash without harm.
    #[must_use]
    pub fn weighty(&self) -> (u32, u32, bool, bool) {
        (self.canary_only, self.stable_only, self.both.is_some(), self.void.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: i64, rerun: bool, canary: bool, stable: bool) -> Sample {
        let seen = |good| if good { Seen::Pass } else { Seen::Fail("GET / answered 500, expected 200".to_owned()) };
        Sample {
            at: Timestamp::from_second(second).unwrap(),
            probe: "home".to_owned(),
            way: Way::Pod("p".to_owned()),
            rerun,
            canary: seen(canary),
            stable: seen(stable),
        }
    }

    /// `C` canary-only, `c` its re-run, `S` stable-only, `B` both fail, `.` good.
    fn book(script: &str) -> Book {
        let samples: Vec<Sample> = (1i64..)
            .zip(script.chars())
            .map(|(at, kind)| match kind {
                'C' => sample(at, false, false, true),
                'c' => sample(at, true, false, true),
                'S' => sample(at, false, true, false),
                'B' => sample(at, false, false, false),
                _ => sample(at, false, true, true),
            })
            .collect();
        Book::default().with(&samples)
    }

    #[test]
    fn one_failure_alone_does_nothing() {
        assert_eq!(book("..C.").verdict(), Verdict::Fine);
    }

    #[test]
    fn a_repeated_failure_suspends_and_three_good_ones_lift_it() {
        assert!(matches!(book("..Cc").verdict(), Verdict::Suspend(_)));
        assert!(matches!(book("..Cc..").verdict(), Verdict::Suspend(_)));
        assert_eq!(book("..Cc...").verdict(), Verdict::Fine);
    }

    #[test]
    fn two_confirmed_of_five_fail() {
        assert!(matches!(book("CcCc").verdict(), Verdict::Fail(_)));
        assert!(matches!(book("Cc...Cc").verdict(), Verdict::Fail(_)));
        assert!(!matches!(book("Cc....Cc").verdict(), Verdict::Fail(_)), "the first has left the window");
    }

    #[test]
    fn a_slow_leak_fails_by_score_and_stable_failures_speak_for_the_canary() {
        assert!(matches!(book("C.C.C.C").verdict(), Verdict::Fail(_)));
        assert_eq!(book("C.C.CSC").verdict(), Verdict::Fine);
    }

    #[test]
    fn both_failing_is_no_sample_and_a_good_pair_ends_it() {
        assert!(matches!(book(".B").verdict(), Verdict::Both(_)));
        assert_eq!(book(".BBBB").pairs, 1);
        assert_eq!(book(".B.").verdict(), Verdict::Fine);
    }

    #[test]
    fn both_ways_of_a_probe_are_one_and_a_failure_says_which_way_it_came() {
        let by_route = |second, rerun, canary, stable| Sample { way: Way::Route, ..sample(second, rerun, canary, stable) };
        let book = Book::default().with(&[sample(1, false, true, true), by_route(2, false, true, true)]);
        assert_eq!((book.good_of_each(1), book.good_of_each(2)), (2, 0), "two ways are not two probes");
        let one = Book::default().with(&[by_route(1, false, true, true)]);
        assert_eq!(one.good_of_each(1), 1, "either way will do");
        let book = book.with(&[by_route(3, false, false, true), by_route(4, true, false, true)]);
        let said = "home by the route: GET / answered 500, expected 200 on canary, passed on stable";
        assert_eq!(book.verdict(), Verdict::Suspend(said.to_owned()));
        let void = Sample {
            canary: Seen::Void("GET / was answered by another version than was asked".to_owned()),
            ..by_route(1, false, true, true)
        };
        let said = "home by the route: GET / was answered by another version than was asked";
        assert_eq!(Book::default().with(&[void]).verdict(), Verdict::Void(said.to_owned()));
    }

    #[test]
    fn samples_are_never_counted_twice() {
        let samples = [sample(1, false, false, true), sample(2, true, false, true)];
        let once = Book::default().with(&samples);
        assert_eq!(once.with(&samples), once);
    }

    #[test]
    fn every_probe_must_have_spoken() {
        let book = book("...");
        assert_eq!(book.good_of_each(1), 3);
        assert_eq!(book.good_of_each(2), 0);
        assert_eq!(book.next_stage().good_of_each(1), 0);
    }
}
