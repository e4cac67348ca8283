//! The rounds of one probe: whom it asks next, and what is asked again at once.
//!
//! A failure of the canary alone is repeated at once with the same two pods, which is enough to take traffic off it; then again and again
//! for some seconds as long as it stays so, so that a verdict is not one moment's ([`crate::decide::judge::probes`]). The next sample
//! follows soon, at the next pod.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use prometheus::IntCounterVec;
use tokio::{
    sync::{mpsc::UnboundedSender, watch},
    time::{Instant, sleep_until},
};

use super::{
    Asks, Door, Key, Target, Watched,
    book::{Book, Side},
    lock,
    places::Places,
    terms,
};
use crate::{
    clock::Clock,
    decide::judge::probes::{PAIRS, Seen, Turn},
    edge::probe::{Entry, Ledger, Prober, Suites},
    model::{
        phase::after,
        probe::{Answerer, Check, Outcome, Run, Suite},
    },
};

/// After a sample in which the canary alone failed, and while traffic is off it: soon, but not in the same stall.
const SOON: Duration = Duration::from_secs(5);
/// When the other pairs of a sample follow the first (research on the judge, §7): weather of some seconds is weather for few of them.
const REPEATS: [Duration; PAIRS as usize - 1] =
    [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Of what a target did wrong, as it is shown.
const SENTENCE: usize = 300;
const NO_STABLE: &str = "no stable pod is ready";

/// Runs one probe of one Delivery.
pub(super) struct Asker {
    pub(super) prober: Arc<dyn Prober>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) suites: Arc<dyn Suites>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) nudge: UnboundedSender<Key>,
    pub(super) runs: IntCounterVec,
    pub(super) sweeps: IntCounterVec,
    pub(super) book: Arc<Mutex<Book>>,
    pub(super) places: Places,
    pub(super) key: Key,
}

/// What a round calls for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The schedule.
    Wait,
    /// Another round soon: the canary alone failed.
    Soon,
}

/// Which way a sample goes.
enum By<'a> {
    /// To this canary pod, beside a pod of stable.
    Pods(&'a Target, Option<&'a Target>),
    /// By the route, as one of those who test beside one who is not; the answerers that are the canary.
    Route(&'a Door, &'a [Answerer]),
}

/// The ways, as they are counted.
const PODS: &str = "pods";
pub(super) const ROUTE: &str = "route";
const SUITE: &str = "suite";

impl Asker {
    /// Runs until it is dropped.
    pub(super) async fn run(self, mut told: watch::Receiver<(Watched, bool)>) {
        // What a suite has shown, it has shown for other stages as well.
        let mut last: Option<Instant> = lock(&self.book).ran(&told.borrow().0.check.name);
        let mut doubted = false;
        // Where the next round begins: at the pod after the one that failed.
        let mut first = 0;
        // The door that the last round could have gone through.
        let mut entered: Option<Door> = None;
        let began = Instant::now();
        let (mut room, mut rounds) = (began, 0_u32);
        loop {
            let (mut probe, eager) = told.borrow_and_update().clone();
            probe.every = every(&probe, rounds);
            let opens = self.opens(&probe).filter(|_| entered.is_none());
            let stopped = lock(&self.book).stopped(&probe.check.name);
            let due = due(&probe, eager || doubted, last, opens).filter(|_| !stopped).map(|due| due.max(room));
            match due {
                Some(due) => self.announce(&probe, due),
                None => lock(&self.book).due(&probe.check.name, None),
            }
            tokio::select! {
                biased;
                changed = told.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                () = self.sweep_due(&probe) => {
                    self.sweep(&probe).await;
                    continue;
                }
                () = at(due) => {}
            }
            // It may have been stopped by what another process has left.
            if lock(&self.book).stopped(&probe.check.name) {
                continue;
            }
            let place = match self.admits(&probe, began, &mut told).await {
                Ok(place) => place,
                Err(again) => {
                    room = Instant::now() + again;
                    continue;
                }
            };
            last = Some(Instant::now());
            rounds = rounds.saturating_add(1);
            let door = self.open_door(&probe, entered.as_ref()).cloned();
            // Provisional: while it runs, the next one is not in the past.
            self.announce(&probe, Instant::now() + probe.every);
            let then = self.round(&probe, door.as_ref(), &told, &mut first).await;
            drop(place);
            entered = door;
            doubted = then == Then::Soon;
            if doubted || probe.check.suite.is_some() {
                last = Some(Instant::now());
            }
            if probe.check.suite.is_some() && !doubted {
                lock(&self.book).has_run(&probe.check.name);
            }
        }
    }

    fn announce(&self, probe: &Watched, due: Instant) {
        if matches!(probe.asks, Asks::Rest { .. }) {
            return;
        }
        let wait = due.saturating_duration_since(Instant::now());
        lock(&self.book).due(&probe.check.name, Some(after(self.clock.now(), wait)));
    }

    async fn round(&self, probe: &Watched, door: Option<&Door>, told: &watch::Receiver<(Watched, bool)>, first: &mut usize) -> Then {
        match &probe.asks {
            Asks::Pair { canary, stable, .. } => self.pairs(probe, (canary, first), stable, door, told).await,
            Asks::Rest { pods } => {
                self.rest(probe, pods).await;
                Then::Wait
            }
        }
    }

    /// Every canary pod once, and then the route, until one of them fails. A pod that has left in the meantime is not asked: its silence
    /// would be held against its version.
    async fn pairs(
        &self,
        probe: &Watched,
        (canary, first): (&[Target], &mut usize),
        stable: &[Target],
        door: Option<&Door>,
        told: &watch::Receiver<(Watched, bool)>,
    ) -> Then {
        let known = || lock(&self.book).canary(&probe.check.name);
        // Where the route alone is to be asked, pods are asked all the same while there is no way by it.
        let pods = probe.pods || door.is_none() || known().is_none();
        let begin = first.checked_rem(canary.len()).unwrap_or(0);
        // One pod of many says for all what a suite can say; the next one is another round's.
        let most = if probe.check.suite.is_some() { 1 } else { canary.len() };
        let in_turn = canary.iter().enumerate().cycle().skip(begin).take(canary.len().min(most));
        let mut well = true;
        for (at, target) in in_turn.filter(|_| pods) {
            if !still_asked(told, target) {
                continue;
            }
            let beside = self.turn(&probe.check.name, stable);
            well = self.sample(probe, told, &By::Pods(target, beside)).await;
            if !well {
                *first = at + 1;
                break;
            }
        }
        if let Some(door) = door.filter(|_| well)
            && let Some(known) = known()
        {
            well = self.sample(probe, told, &By::Route(door, &known)).await;
        }
        if probe.votes {
            self.nudge();
        }
        if well { Then::Wait } else { Then::Soon }
    }

    /// One sample: pairs as long as the canary alone fails. Whether the first of them went well.
    async fn sample(&self, probe: &Watched, told: &watch::Receiver<(Watched, bool)>, by: &By<'_>) -> bool {
        let began = Instant::now();
        // Both sides of it draw the same lots, and so does what repeats it.
        let seeded = Watched { check: seeded(&probe.check), ..probe.clone() };
        let probe = &seeded;
        if !self.pair(probe, told, by, Turn::First).await {
            return true;
        }
        if probe.check.suite.is_none() {
            self.pair(probe, told, by, Turn::AtOnce).await;
        }
        let others = usize::from(terms(&probe.check).pairs()) - 1;
        for after in REPEATS.into_iter().take(others) {
            sleep_until(began + after).await;
            if !self.pair(probe, told, by, Turn::Repeat).await {
                break;
            }
        }
        false
    }

    /// One pair; whether the canary alone failed.
    async fn pair(&self, probe: &Watched, told: &watch::Receiver<(Watched, bool)>, by: &By<'_>, turn: Turn) -> bool {
        let (canary, stable) = match by {
            By::Pods(canary, stable) => (canary, stable),
            By::Route(door, known) => return self.pair_by_route(probe, (door, known), told, turn).await,
        };
        let beside = async {
            match stable {
                Some(stable) => Some(self.ask_pod(probe, stable, stable, Side::Stable).await),
                None => None,
            }
        };
        let (on_canary, on_stable) = tokio::join!(self.ask_pod(probe, canary, stable.unwrap_or(canary), Side::Canary), beside);
        let seen = match on_stable {
            Some(on_stable) => self.both(probe, on_canary, on_stable),
            // Nobody of stable answers: that is stable failing, so a canary that answers may be the mend, and one that
            // does not is not to blame alone.
            None => (seen(on_canary.outcome), Seen::Fail(NO_STABLE.to_owned())),
        };
        if !still_asked(told, canary) {
            return false;
        }
        self.note(probe, probe.check.name.clone(), turn, seen)
    }

    /// Writes a pair down, under the name of the probe and its way; whether it is worth another: the canary alone failed. What only
    /// reports is not asked twice, for nothing waits for it.
    pub(super) fn note(&self, probe: &Watched, name: String, turn: Turn, seen: (Seen, Seen)) -> bool {
        let canary_alone = matches!(seen, (Seen::Fail(_), Seen::Pass));
        let weighty = !matches!(seen, (Seen::Pass, Seen::Pass));
        let votes = probe.votes && !lock(&self.book).is_mute(&probe.check.name);
        if votes {
            lock(&self.book).pair(name, turn, seen, self.clock.now());
            if weighty {
                self.nudge();
            }
        }
        canary_alone && votes
    }

    /// What both sides say, with their answers compared where each alone is as expected.
    pub(super) fn both(&self, probe: &Watched, canary: Run, stable: Run) -> (Seen, Seen) {
        let (mut on_canary, on_stable) = (seen(canary.outcome), seen(stable.outcome));
        if probe.compares && on_stable == Seen::Pass {
            let mut book = lock(&self.book);
            let contract = book.contract();
            contract.learn(&probe.check.name, &stable.done);
            if on_canary == Seen::Pass {
                on_canary = shortened(contract.seen(&probe.check, &canary.done));
            }
        }
        (on_canary, on_stable)
    }

    /// One pod. It says who it is, where that will be asked for.
    async fn ask_pod(&self, probe: &Watched, target: &Target, home: &Target, side: Side) -> Run {
        let check = &probe.check;
        let mut run = self.ask((probe, check), (target.at, home.at), PODS, label(side)).await;
        if check.answered_by.is_some() {
            lock(&self.book).learn(&check.name, side, std::mem::take(&mut run.answered));
        }
        run
    }

    /// One pod; when it fails, another one at once, to tell a bad pod from a bad version.
    async fn rest(&self, probe: &Watched, pods: &[Target]) {
        let name = &probe.check.name;
        let before = lock(&self.book).healthy(name);
        let check = seeded(&probe.check);
        for _ in 0..2 {
            let Some(target) = self.turn(name, pods) else { return };
            let run = self.ask((probe, &check), (target.at, target.at), PODS, "rest").await;
            let wrong = match seen(run.outcome) {
                Seen::Void(_) => return,
                Seen::Pass => {
                    lock(&self.book).answered_at_rest(name, &run.done);
                    None
                }
                Seen::Fail(said) | Seen::Busy(said) => Some(said),
            };
            let healthy = wrong.is_none();
            if probe.votes && lock(&self.book).at_rest(name, wrong, self.clock.now()) {
                self.nudge();
            }
            if healthy {
                break;
            }
        }
        let now = lock(&self.book).healthy(name);
        if now != before || now == Some(false) {
            self.nudge();
        }
    }

    /// One run at an address, of the probe's own check or of one that asks the same another way. What it made is put right at `home`.
    pub(super) async fn ask(
        &self,
        (probe, check): (&Watched, &Arc<Check>),
        (at, home): (SocketAddr, SocketAddr),
        via: &str,
        side: &str,
    ) -> Run {
        if let Some(suite) = &check.suite {
            return self.run_suite(check, suite, at, side).await;
        }
        let entry = probe.page.as_ref().map(|page| Entry { ledger: self.ledger.clone(), page: page.clone() });
        let run = self.prober.run(check, at, home, entry).await;
        let told = {
            let mut book = lock(&self.book);
            let left = book.left(&check.name, run.left.as_deref());
            book.unwritten(&check.name, run.unwritten.as_deref()) || left
        };
        if told {
            self.nudge();
        }
        let result = run.outcome.class().map_or("pass", |class| class.label());
        self.runs.with_label_values(&[via, side, result]).inc();
        run
    }

    async fn run_suite(&self, check: &Check, suite: &Suite, at: SocketAddr, side: &str) -> Run {
        let namespace = self.key.namespace.clone().unwrap_or_default();
        let outcome = self.suites.run(&namespace, check, suite, at).await;
        self.runs.with_label_values(&[SUITE, side, outcome.class().map_or("pass", |class| class.label())]).inc();
        Run::from(outcome)
    }

    pub(super) fn turn<'a>(&self, of: &str, among: &'a [Target]) -> Option<&'a Target> {
        among.get(lock(&self.book).turn(of, among.len()))
    }

    pub(super) fn nudge(&self) {
        // Nobody listens any more: then nobody needs to be told.
        let _ = self.nudge.send(self.key.clone());
    }
}

/// What a run says about whom it asked.
pub(super) fn seen(outcome: Outcome) -> Seen {
    match outcome {
        Outcome::Pass { .. } => Seen::Pass,
        Outcome::Fail { class, said, .. } if class.votes() => Seen::Fail(short(&said)),
        Outcome::Fail { said, .. } | Outcome::Void { said, .. } => Seen::Void(short(&said)),
    }
}

fn shortened(seen: Seen) -> Seen {
    match seen {
        Seen::Pass => Seen::Pass,
        Seen::Fail(said) => Seen::Fail(short(&said)),
        Seen::Busy(said) => Seen::Busy(short(&said)),
        Seen::Void(said) => Seen::Void(short(&said)),
    }
}

pub(super) fn label(side: Side) -> &'static str {
    match side {
        Side::Canary => "canary",
        Side::Stable => "stable",
    }
}

/// With another seed, if it draws lots.
fn seeded(check: &Arc<Check>) -> Arc<Check> {
    let Some(suite) = &check.suite else { return check.clone() };
    let mut random = [0; 4];
    // Without randomness it is the seed of before, which is a seed all the same.
    let seed = aws_lc_rs::rand::fill(&mut random).map_or(suite.seed, |()| u32::from_le_bytes(random));
    Arc::new(Check { suite: Some(Box::new(Suite { seed, ..(**suite).clone() })), ..(**check).clone() })
}

/// Waits until then; for ever, if it is never.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// From one round to the next, after so many of them in this stage.
fn every(probe: &Watched, rounds: u32) -> Duration {
    let burst = probe.burst.filter(|burst| rounds < burst.runs && matches!(probe.asks, Asks::Pair { .. }));
    burst.map_or(probe.every, |burst| probe.every.min(burst.every))
}

/// When the next round begins, at the latest when a door opens; none: there is nobody to ask.
fn due(probe: &Watched, soon: bool, last: Option<Instant>, opens: Option<Instant>) -> Option<Instant> {
    let (somebody, every) = match &probe.asks {
        Asks::Pair { canary, .. } => (!canary.is_empty(), if soon { probe.every.min(SOON) } else { probe.every }),
        Asks::Rest { pods } => (!pods.is_empty(), probe.every),
    };
    let now = Instant::now();
    let due = last.map_or(now, |last| last + every);
    somebody.then(|| opens.map_or(due, |opens| opens.min(due)).max(now))
}

fn still_asked(told: &watch::Receiver<(Watched, bool)>, target: &Target) -> bool {
    matches!(&told.borrow().0.asks, Asks::Pair { canary, .. } if canary.contains(target))
}

fn short(text: &str) -> String {
    if text.chars().count() <= SENTENCE { text.to_owned() } else { text.chars().take(SENTENCE - 1).chain(['…']).collect() }
}
