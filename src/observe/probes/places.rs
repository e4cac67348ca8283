//! Whether a run of a probe may begin now, and if not, what keeps it: too many that are open, a time in which its suite is not started, or
//! suites of others that have all the places.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

use super::{Watched, lock, round::Asker};
use crate::{edge::probe::Room, model::world::NotStarted};

/// How soon it is looked again whether another run may begin.
const ROOM: Duration = Duration::from_secs(1);
/// The same, where a time of the week keeps it: clocks are set meanwhile.
const QUIET: Duration = Duration::from_mins(1);
/// So long after the lead was gained it may not be known which runs are open: a list takes less, also with its second try.
const KNOWN: Duration = Duration::from_secs(30);
/// Suites at once where nobody says otherwise. 4 pairs are 8 pods of tests, and a few times that of load on what they ask.
pub const SUITES: u16 = 4;

/// The places of all suites: of each a pair of Jobs in a rollout, one Job at rest.
#[derive(Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    most: u16,
}

impl Places {
    pub(super) fn of(most: u16) -> Self {
        // With none at all, no suite would ever run, and every version would wait for it.
        let most = most.max(1);
        Self { free: Arc::new(Semaphore::new(usize::from(most))), most }
    }
}

impl Asker {
    /// What a run needs to begin, and gives back at its end; else how soon that is looked at again.
    pub(super) async fn admits(
        &self,
        probe: &Watched,
        began: Instant,
        told: &mut watch::Receiver<(Watched, bool)>,
    ) -> Result<Option<OwnedSemaphorePermit>, Duration> {
        if !self.has_room(probe, began) {
            return Err(ROOM);
        }
        if probe.check.suite.is_none() {
            return Ok(None);
        }
        self.is_free_of_quiet(probe)?;
        let place = if let Ok(place) = self.places.free.clone().try_acquire_owned() {
            place
        } else {
            self.waits(probe, Some(NotStarted::Full { most: self.places.most }));
            tokio::select! {
                biased;
                // Whether it is still to run is asked anew, and it comes last again.
                _ = told.changed() => return Err(Duration::ZERO),
                place = self.places.free.clone().acquire_owned() => place.map_err(|_| ROOM)?,
            }
        };
        // It may have waited for long.
        self.is_free_of_quiet(probe)?;
        self.waits(probe, None);
        Ok(Some(place))
    }

    /// It is no time in which its suite is not started; else how soon that is looked at again.
    fn is_free_of_quiet(&self, probe: &Watched) -> Result<(), Duration> {
        let now = self.clock.now();
        let Some(suite) = probe.check.suite.as_ref().filter(|suite| suite.not_within.cover(now)) else { return Ok(()) };
        let until = suite.not_within.free(now);
        self.waits(probe, Some(NotStarted::Quiet { until }));
        let left = until.and_then(|until| Duration::try_from(until.duration_since(now)).ok());
        Err(left.map_or(QUIET, |left| left.clamp(ROOM, QUIET)))
    }

    fn waits(&self, probe: &Watched, why: Option<NotStarted>) {
        let changed = lock(&self.book).waits(&probe.check.name, why);
        if changed {
            self.nudge();
        }
    }

    /// Whether another run of it may begin; else people are told why not, where that does not pass by itself.
    fn has_room(&self, probe: &Watched, began: Instant) -> bool {
        let Some(page) = &probe.page else { return true };
        let name = &probe.check.name;
        let why = match self.ledger.room(page) {
            // What bars it, if anything does, is a write that failed; the next one will tell.
            Room::Free => return true,
            Room::Full(open) => format!("{open} of its runs are open, and no more may be (maxOpen); see kubectl get proberuns -o wide"),
            Room::Unknown if began.elapsed() < KNOWN => return false,
            Room::Unknown => {
                "it cannot be listed which of its runs are open; see the rights of Haldane on proberuns.haldane.dev".to_owned()
            }
        };
        if lock(&self.book).barred(name, Some(why)) {
            self.nudge();
        }
        false
    }
}
