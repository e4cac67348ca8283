//! What somebody else keeps of the requests of both sides, piece of time by piece of time.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{Course, Grown, Metered, Pod, Reader, Sight};
use crate::{
    decide::judge::{
        bet::Side,
        collect::{Reading, WARM_UP_S},
    },
    model::{
        measure::{
            Counted,
            kept::{Kept, Window},
        },
        phase::{after, before},
    },
};

/// At rest it is asked whether he answers at all, and nothing is made of what he says: 12 questions an hour.
const RESTING: Duration = Duration::from_mins(5);

/// The pods of one side that are asked for.
struct Asked<'a> {
    side: &'static str,
    pods: Vec<&'a Pod>,
}

impl Reader {
    /// One side is one answer: whose requests they were is known, but not which of its pods had them.
    pub(super) async fn kept<'a>(&mut self, metered: &'a Metered, kept: &Kept) -> Sight<'a> {
        let now = self.parts.clock.now();
        let shared = matches!(metered.course, Course::Shared { .. });
        let whole = matches!(metered.course, Course::Shared { whole: true, .. });
        let mut sight =
            Sight { now, read: BTreeMap::new(), canary: Vec::new(), stable: Vec::new(), failing: Vec::new(), silent: self.still_silent() };
        let Some(window) = self.window(metered, kept, now) else { return sight };
        // Cold caches are nobody's fault.
        let warm = |pod: &&Pod| !shared || after(pod.since, Duration::from_secs(WARM_UP_S.into())) <= window.from;
        let of = |side, pods: &'a [Pod], wanted: bool| Asked { side, pods: pods.iter().filter(|_| wanted).filter(warm).collect() };
        let stable = of("stable", &metered.stable, !whole);
        let canary = of("the canary", &metered.canary, shared);
        let wanted = [(&stable, !whole), (&canary, shared)];
        let told = if wanted.iter().any(|(asked, wanted)| *wanted && asked.pods.is_empty()) {
            // One side without the other compares nothing.
            None
        } else {
            match self.both(metered, kept, (&stable, &canary), window).await {
                Ok(told) => Some(told),
                Err(why) => {
                    sight.silent = Some(why);
                    return sight;
                }
            }
        };
        sight.silent = None;
        self.asked_until(window.to);
        let Some((on_stable, on_canary)) = told else { return sight };
        sight.read = stable.pods.iter().chain(&canary.pods).map(|pod| (pod.pod.clone(), Counted::default())).collect();
        if shared {
            // Each failure may have been on another pod.
            let most = usize::try_from(on_canary.failed).unwrap_or(usize::MAX);
            sight.failing = canary.pods.iter().map(|pod| pod.pod.clone()).take(most).collect();
            (sight.stable, sight.canary) = (grown(stable.pods, on_stable), grown(canary.pods, on_canary));
        }
        sight
    }

    /// What is asked for now; none: it is not yet time.
    fn window(&mut self, metered: &Metered, kept: &Kept, now: Timestamp) -> Option<Window> {
        let whole_seconds = |at: Timestamp| Timestamp::from_second(at.as_second()).unwrap_or(at);
        let to = whole_seconds(before(now, kept.delay));
        if let Some(open) = &self.open {
            let window = Window { from: whole_seconds(open.from), to };
            return (after(window.from, kept.every) <= to).then_some(window);
        }
        let (looked, silent, _) = self.told;
        let rests = metered.course == Course::Rest && looked && !silent;
        if rests && self.asked.is_some_and(|asked| after(asked, RESTING) > now) {
            return None;
        }
        self.asked = Some(now);
        Some(Window { from: before(to, kept.every), to })
    }

    fn asked_until(&mut self, until: Timestamp) {
        if let Some(open) = &mut self.open {
            open.from = until;
        }
    }

    /// Between two answers what was wrong stays wrong.
    fn still_silent(&self) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.silent.as_ref().map(|silent| silent.why.clone())
    }

    async fn both(
        &self,
        metered: &Metered,
        kept: &Kept,
        (stable, canary): (&Asked<'_>, &Asked<'_>),
        window: Window,
    ) -> Result<(Side, Side), String> {
        let (stable, canary) = tokio::join!(self.one(metered, kept, stable, window), self.one(metered, kept, canary, window));
        Ok((stable?, canary?))
    }

    async fn one(&self, metered: &Metered, kept: &Kept, Asked { side, pods }: &Asked<'_>, window: Window) -> Result<Side, String> {
        if pods.is_empty() {
            return Ok(Side::default());
        }
        let said = |why: String| format!("{side}: its metrics {why}");
        let secrets = metered.secrets.as_ref().map_err(|why| said(format!("are not asked for: {why}")))?;
        let names: Vec<&str> = pods.iter().map(|pod| pod.pod.as_str()).collect();
        let question = kept.question(secrets, &names, window).map_err(said)?;
        let answer = self.parts.prober.kept(question).await.map_err(said)?;
        kept.count(&answer).map_err(said)
    }
}

/// All of it stands beside the first pod.
fn grown(pods: Vec<&Pod>, side: Side) -> Vec<Grown<'_>> {
    let first = BTreeMap::from([(String::new(), Reading { side, ..Reading::default() })]);
    let readings = std::iter::once(first).chain(std::iter::repeat_with(BTreeMap::new));
    pods.into_iter().zip(readings).map(|(pod, readings)| Grown { pod, readings }).collect()
}
