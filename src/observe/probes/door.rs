//! The way by the route: one pair more in each round, by the way that customers take.
//!
//! Both sides are asked at the same address, the canary as one of those who test. Behind that address stand both versions, so the
//! answers have to say who gave them: one of the other version is no failure of the one that was asked, and no success either.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::{
    Asks, Door, Watched,
    book::Side,
    round::{Asker, ROUTE, label},
};
use crate::{
    decide::judge::probes::{self, Seen, Turn},
    model::{
        phase::after,
        probe::{AnsweredBy, Answerer, Check, Class, Outcome, Run, Wanted},
    },
};

/// Applied is not served: those who serve a route took up to 2 s to do what it says.
const SERVED: Duration = Duration::from_secs(3);
/// How often stable is asked again when a share of everybody goes to the canary: at a half, one request in 64 has then
/// still not met stable.
const AGAIN: usize = 5;

impl Asker {
    /// When the door of this probe opens, if it has one.
    pub(super) fn opens(&self, probe: &Watched) -> Option<Instant> {
        let door = door(probe)?;
        Some(Instant::now() + after(door.since, SERVED).duration_since(self.clock.now()).try_into().unwrap_or(Duration::ZERO))
    }

    /// The door, when it is open. One that was gone through stays open when another share goes by it.
    pub(super) fn open_door<'a>(&self, probe: &'a Watched, entered: Option<&Door>) -> Option<&'a Door> {
        door(probe).filter(|door| entered.is_some_and(|entered| door.is(entered)) || after(door.since, SERVED) <= self.clock.now())
    }

    /// One pair; whether the canary alone failed.
    pub(super) async fn pair_by_route(
        &self,
        probe: &Watched,
        (door, canary): (&Door, &[Answerer]),
        told: &watch::Receiver<(Watched, bool)>,
        turn: Turn,
    ) -> bool {
        let (as_tester, as_customer) = checks(&probe.check, door, canary);
        let (on_canary, on_stable) = tokio::join!(
            self.ask((probe, &as_tester), (door.at, door.at), ROUTE, label(Side::Canary)),
            self.ask_stable((probe, &as_customer), door)
        );
        let seen = self.both(probe, on_canary, on_stable);
        // It was shut while somebody stood in it.
        if !self::door(&told.borrow().0).is_some_and(|now| now.is(door)) {
            return false;
        }
        // Where pods are asked as well, what they say stands: that nothing was learnt by the route is no reason to wait.
        if probe.pods && matches!(seen, (Seen::Void(_), _) | (_, Seen::Void(_))) {
            return false;
        }
        self.note(probe, probes::by_route(&probe.check.name), turn, seen)
    }

    /// A customer, who may reach the canary by its share: then stable has not been asked yet. Nor may it have been where nobody says
    /// who failed.
    async fn ask_stable(&self, asked: (&Watched, &Arc<Check>), door: &Door) -> Run {
        let mut run = self.ask(asked, (door.at, door.at), ROUTE, label(Side::Stable)).await;
        for _ in 0..AGAIN {
            if !(door.shared && may_be_the_canarys(&run)) {
                break;
            }
            run = self.ask(asked, (door.at, door.at), ROUTE, label(Side::Stable)).await;
        }
        run
    }
}

impl Door {
    /// The same way, whatever share goes by it.
    fn is(&self, other: &Self) -> bool {
        *self == Self { shared: self.shared, since: self.since, ..other.clone() }
    }
}

fn may_be_the_canarys(run: &Run) -> bool {
    match &run.outcome {
        Outcome::Pass { .. } => false,
        Outcome::Fail { .. } => !run.says_who(),
        Outcome::Void { class, .. } => *class == Class::Misrouted,
    }
}

fn door(probe: &Watched) -> Option<&Door> {
    match &probe.asks {
        Asks::Pair { door, .. } => door.as_ref(),
        Asks::Rest { .. } => None,
    }
}

/// As one who tests, and as a customer.
fn checks(check: &Check, door: &Door, canary: &[Answerer]) -> (Arc<Check>, Arc<Check>) {
    let by = |wanted| check.answered_by.as_ref().map(|by| AnsweredBy { header: by.header.clone(), wanted });
    let at_the_door = Check { scheme: door.scheme, host: door.host.clone(), ..check.clone() };
    let as_tester = Check { tester: Some(door.tester.clone()), answered_by: by(Wanted::Of(canary.to_vec())), ..at_the_door.clone() };
    (Arc::new(as_tester), Arc::new(Check { answered_by: by(Wanted::NotOf(canary.to_vec())), ..at_the_door }))
}
