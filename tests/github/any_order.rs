//! Whatever is told when, and whatever goes wrong in between: merges come to the same Releases as their facts alone.

use std::time::Duration;

use haldane::model::source::{MergePlan, Queue, Rules};
use proptest::prelude::*;

use crate::{
    forge::{Checks, Fault, HookFault, Wrong},
    street::plan,
    town::Town,
};

/// Longer than all steps take: 30 × 30 s.
const IMAGE_TIMEOUT: Duration = Duration::from_mins(20);

/// What becomes of a merge in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Green,
    Red,
    Unbuilt,
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Merge,
    /// The checks of that merge end.
    Checks(usize),
    /// Its image comes.
    Image(usize),
    /// The next webhook has this fate.
    Hook(HookFault),
    /// The next answers of the API are wrong.
    Wrong(Wrong, u32),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let hook = prop::sample::select(vec![HookFault::Drop, HookFault::Twice, HookFault::Late, HookFault::WrongSecret]);
    let wrong = prop::sample::select(vec![Wrong::Status(502), Wrong::Truncated, Wrong::Types, Wrong::Secondary(Some(7))]);
    let step = prop_oneof![
        2 => Just(Step::Merge),
        2 => (0..5_usize).prop_map(Step::Checks),
        2 => (0..5_usize).prop_map(Step::Image),
        2 => hook.prop_map(Step::Hook),
        2 => (wrong, 1..4_u32).prop_map(|(wrong, times)| Step::Wrong(wrong, times)),
        3 => (1..30_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 5..30)
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![3 => Just(Fate::Green), 1 => Just(Fate::Red), 1 => Just(Fate::Unbuilt)];
    prop::collection::vec(fate, 1..6)
}

/// What happened, and what came of it: the good merges, and the Releases.
struct Story {
    town: Town,
    fates: Vec<Fate>,
    merges: Vec<String>,
}

impl Story {
    fn merge(&mut self) {
        if self.merges.len() < self.fates.len() {
            let commit = self.town.homes[0].repo.land(&format!("Change {}", self.merges.len()));
            self.town.homes[0].repo.checks(&commit, Checks::actions("ci").running(1));
            self.merges.push(commit);
        }
    }

    fn checks(&self, at: usize) {
        if let (Some(commit), Some(fate)) = (self.merges.get(at), self.fates.get(at)) {
            let word = if *fate == Fate::Red { "failure" } else { "success" };
            self.town.homes[0].repo.checks(commit, Checks::actions("ci").done(word));
        }
    }

    fn image(&self, at: usize) {
        if let Some(commit) = self.merges.get(at).filter(|_| self.fates[at] != Fate::Unbuilt) {
            self.town.build(commit);
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Merge => self.merge(),
            Step::Checks(at) => self.checks(at),
            Step::Image(at) => self.image(at),
            Step::Hook(fault) => self.town.github.hook_faults(&[fault]),
            Step::Wrong(wrong, times) => self.town.github.fault(Fault { prefix: "/graphql".to_owned(), times, wrong }),
            Step::Pass(seconds) => self.town.pass(seconds).await,
        }
    }

    /// All that is to come has come, and nobody says so.
    async fn rest(&mut self) {
        self.town.github.hook_faults(&[HookFault::Drop; 100]);
        while self.merges.len() < self.fates.len() {
            self.merge();
        }
        for at in 0..self.merges.len() {
            self.checks(at);
            self.image(at);
        }
        // A sweep, the longest pause after failures, and the time that an image may take.
        self.town.pass(2 * IMAGE_TIMEOUT.as_secs()).await;
    }
}

/// The good merges, and the Releases.
fn told(fates: &[Fate], steps: Vec<Step>, queue: Queue) -> (Vec<String>, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let rules = Rules { image_timeout: IMAGE_TIMEOUT, ..plan().rules };
        let mut town = Town::new(1, |_| MergePlan { queue, rules: rules.clone(), ..plan() });
        town.opens_the_door().await;
        town.wakes().await;
        let mut story = Story { town, fates: fates.to_vec(), merges: Vec::new() };
        for step in steps {
            story.step(step).await;
        }
        story.rest().await;
        let good = story.merges.iter().zip(fates).filter(|(_, fate)| **fate == Fate::Green).map(|(commit, _)| commit.clone());
        (good.collect(), story.town.homes[0].releases())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_after_the_other_every_good_merge_is_a_release_in_order(fates in fates(), steps in steps()) {
        let (good, made) = told(&fates, steps, Queue::Each);
        prop_assert_eq!(made, good);
    }

    #[test]
    fn with_the_newest_first_the_newest_good_merge_is_the_last_release(fates in fates(), steps in steps()) {
        let (good, made) = told(&fates, steps, Queue::Latest);
        let forward: Vec<&String> = good.iter().filter(|commit| made.contains(commit)).collect();
        prop_assert_eq!(made.iter().collect::<Vec<_>>(), forward, "only good ones, forward, each once");
        prop_assert_eq!(made.last(), good.last());
    }
}
