//! What stable answers to the steps whose answers are compared, learnt from each of its answers; and what a canary's answer lacks of it.

use std::collections::BTreeMap;

use crate::{
    decide::judge::probes::Seen,
    model::probe::{Check, Done, Shape},
};

/// So many answers of stable are known before a loss is believed: what the first ones had by chance is no promise.
const ENOUGH: u32 = 3;

/// By probe and step. Bounded as [`crate::model::probe::Compare::STEPS`] says.
#[derive(Default)]
pub(super) struct Contract(BTreeMap<(String, String), Known>);

struct Known {
    shape: Shape,
    answers: u32,
}

impl Contract {
    /// Learns from a run of stable that went well.
    pub(super) fn learn(&mut self, probe: &str, done: &[Done]) {
        for (step, shape) in shapes(done) {
            let key = (probe.to_owned(), step.to_owned());
            match self.0.get_mut(&key) {
                Some(known) => {
                    known.shape.learn(shape);
                    known.answers = known.answers.saturating_add(1);
                }
                None => {
                    self.0.insert(key, Known { shape: shape.clone(), answers: 1 });
                }
            }
        }
    }

    /// What a run of the canary that went well says when its answers are compared.
    pub(super) fn seen(&self, check: &Check, done: &[Done]) -> Seen {
        let lacking = shapes(done).find_map(|(step, shape)| {
            let known = self.0.get(&(check.name.clone(), step.to_owned()))?;
            let step = check.steps.iter().find(|asked| asked.name == step)?;
            Some((format!("{} {} {}", step.method, step.shown_path(), shape.lacks(&known.shape)?), known.answers))
        });
        match lacking {
            None => Seen::Pass,
            Some((said, answers)) if answers < ENOUGH => {
                Seen::Void(format!("{said}; {answers} of {ENOUGH} answers of stable are known, which is too few to say that it matters"))
            }
            Some((said, _)) => Seen::Fail(said),
        }
    }

    /// It is another probe now, of the same name.
    pub(super) fn forget(&mut self, probe: &str) {
        self.0.retain(|(name, _), _| name != probe);
    }
}

fn shapes(done: &[Done]) -> impl Iterator<Item = (&str, &Shape)> {
    done.iter().filter_map(|done| Some((done.step.as_str(), done.shape.as_ref()?)))
}
