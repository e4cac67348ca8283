//! Whatever was seen when: what is merged comes to the same Releases as its facts alone.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    source::{at as seen_at, branch, commit, found, merge, merges, run, sha, short},
    toy::Toy,
};
use crate::{
    api::release::Outcome,
    model::{
        phase::after,
        plan::Source,
        source::{Built, CheckFacts, CommitFacts, Conclusion, History, HistoryEnd, Queue, Unsaid, When},
    },
};

/// What becomes of a commit in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Green,
    Red,
    Cancelled,
    /// Its checks pass, and nobody builds it.
    Unbuilt,
    /// Its image is that of another commit.
    Stranger,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The next commit comes to the branch.
    Land,
    /// The checks of that commit end.
    Checks(usize),
    /// Its image comes.
    Image(usize),
    /// Somebody looks, and sees of each fact by a bit whether it is there already; the last two: whether the newest commit and the
    /// newest Release are.
    Look(u32),
}

/// Longer than all looks take.
const IMAGE_TIMEOUT: Duration = Duration::from_hours(10);
const ALL: u32 = u32::MAX;
/// The commit that is live before.
const BASE: u8 = 200;

struct Line {
    fates: Vec<Fate>,
    landed: usize,
    checked: Vec<bool>,
    built: Vec<bool>,
    toy: Toy,
}

impl Line {
    fn new(fates: &[Fate], queue: Queue) -> Self {
        // What is live came before all of these.
        let mut toy = branch(queue);
        merge(&mut toy, BASE);
        toy.until(|t| t.live() == short(BASE) && t.quiet());
        if let Source::Merge(plan) = &mut toy.plan.source {
            (plan.rules.when, plan.rules.image_timeout) = (When::Checks, IMAGE_TIMEOUT);
        }
        Self { fates: fates.to_vec(), landed: 0, checked: vec![false; fates.len()], built: vec![false; fates.len()], toy }
    }

    fn go(&mut self, steps: Vec<Step>) {
        for step in steps {
            self.step(step);
        }
    }

    fn step(&mut self, step: Step) {
        let here = |at: usize, landed: usize| at % landed.max(1);
        match step {
            Step::Land => self.landed = (self.landed + 1).min(self.fates.len()),
            Step::Checks(at) if self.landed > 0 => self.checked[here(at, self.landed)] = true,
            Step::Image(at) if self.landed > 0 => self.built[here(at, self.landed)] = true,
            Step::Checks(_) | Step::Image(_) => {}
            Step::Look(bits) => self.look(bits),
        }
    }

    fn facts(&self, at: usize, bits: u32) -> CommitFacts {
        let sees = |bit: usize| bits >> (bit % 30) & 1 == 1;
        let conclusion = match self.fates[at] {
            Fate::Red => Conclusion::Failure,
            Fate::Cancelled => Conclusion::Cancelled,
            Fate::Green | Fate::Unbuilt | Fate::Stranger => Conclusion::Success,
        };
        let ended = (self.checked[at] && sees(2 * at)).then_some(conclusion);
        let suites = vec![run("ci", "push", ended)];
        // One that was never read is unread, not without checks.
        let checks = (ended.is_some() || sees(2 * at + 7)).then_some(CheckFacts { suites, statuses: vec![] });
        let number = u8::try_from(at + 1).unwrap();
        let image = match self.fates[at] {
            Fate::Unbuilt => Built::Absent,
            _ if !self.built[at] => Built::Absent,
            _ if !sees(2 * at + 1) && sees(2 * at + 8) => Built::Unsaid(Unsaid { person: false, says: "it is ill".into() }),
            _ if !sees(2 * at + 1) => Built::Unasked,
            Fate::Stranger => found(number, Some(&sha(99))),
            Fate::Green | Fate::Red | Fate::Cancelled => found(number, Some(&sha(number))),
        };
        // Since before the first pass: the 10 hours are over when the test says so.
        CommitFacts { seen: seen_at(0), checks, image, config: None }
    }

    /// What is known is shown, and one pass is made of it.
    fn look(&mut self, bits: u32) {
        let landed = if bits >> 30 & 1 == 1 { self.landed } else { self.landed.saturating_sub(1) };
        let releases = merges(&self.toy);
        let lag = usize::from(bits >> 31 & 1 == 0);
        // The line ends before the newest Release, or before an older one: that is what was wanted when it was read.
        let numbered = |at: usize| (1..=self.fates.len()).find(|n| short(number(*n)) == releases[at].0);
        let since = releases.len().checked_sub(1 + lag).and_then(numbered);
        // And then it was read from a branch that had the newest, which was made of it.
        let landed = landed.max(releases.len().checked_sub(1).and_then(numbered).unwrap_or(0));
        let numbers = (since.unwrap_or(0) + 1..=landed).rev();
        let end = if since.is_some() { HistoryEnd::Reached } else { HistoryEnd::Open };
        let commits = numbers.clone().map(|n| commit(number(n))).collect();
        self.toy.seen.merges.history = Some(History { branch: "main".into(), renamed: None, commits, end });
        self.toy.seen.merges.facts = numbers.map(|n| (sha(number(n)), self.facts(n - 1, bits))).collect();
        self.toy.pass();
    }

    /// Everything is there and seen, for as long as it takes.
    fn rest(&mut self) {
        (self.landed, self.checked, self.built) = (self.fates.len(), vec![true; self.fates.len()], vec![true; self.fates.len()]);
        for _ in 0..2 {
            let mut still = 0;
            for passes in 0.. {
                assert!(passes < 5000, "no end: {:?}", self.toy.log);
                self.look(ALL);
                let over = merges(&self.toy).iter().all(|(_, _, outcome)| matches!(outcome, Some(Outcome::Live | Outcome::Superseded)));
                still = if over && self.toy.quiet() && self.toy.phase() == "Live" { still + 1 } else { 0 };
                if still == 3 {
                    break;
                }
            }
            // What was not built by then will not be.
            self.toy.now = after(self.toy.now, IMAGE_TIMEOUT);
        }
    }

    fn versions(&self) -> Vec<String> {
        let mut all = merges(&self.toy);
        all.sort_by_key(|(_, place, _)| *place);
        all.into_iter().map(|(version, ..)| version).filter(|version| *version != short(BASE)).collect()
    }
}

fn number(n: usize) -> u8 {
    u8::try_from(n).unwrap()
}

fn green(fates: &[Fate]) -> Vec<String> {
    fates.iter().zip(1..).filter(|(fate, _)| **fate == Fate::Green).map(|(_, n)| short(n)).collect()
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        4 => Just(Fate::Green),
        1 => Just(Fate::Red),
        1 => Just(Fate::Cancelled),
        1 => Just(Fate::Unbuilt),
        1 => Just(Fate::Stranger),
    ];
    prop::collection::vec(fate, 1..8)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::Land),
        2 => (0..8_usize).prop_map(Step::Checks),
        2 => (0..8_usize).prop_map(Step::Image),
        4 => any::<u32>().prop_map(Step::Look),
        1 => Just(Step::Look(ALL)),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn one_after_the_other_every_good_merge_is_live_once_and_in_order(fates in fates(), steps in steps()) {
        let mut line = Line::new(&fates, Queue::Each);
        line.go(steps);
        line.rest();
        prop_assert_eq!(line.versions(), green(&fates));
        prop_assert!(merges(&line.toy).iter().all(|(_, _, outcome)| *outcome == Some(Outcome::Live)));
    }

    #[test]
    fn with_the_newest_first_it_ends_at_the_newest_good_one_and_never_goes_back(fates in fates(), steps in steps()) {
        let mut line = Line::new(&fates, Queue::Latest);
        line.go(steps);
        let before = line.versions().len();
        line.rest();
        prop_assert!(line.versions().len() <= before + 1, "of all that is there the newest alone: {:?}", line.versions());
        let (made, green) = (line.versions(), green(&fates));
        let in_order: Vec<&String> = green.iter().filter(|version| made.contains(version)).collect();
        prop_assert_eq!(made.iter().collect::<Vec<_>>(), in_order, "only good ones, forward, each once");
        prop_assert_eq!(made.last(), green.last());
        if let Some(newest) = green.last() {
            prop_assert_eq!(&line.toy.live(), newest);
        }
    }
}
