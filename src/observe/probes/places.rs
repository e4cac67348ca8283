//! Whether a run of a probe may begin now, and if not, what keeps it: too many that are open, a time in which its suite is not started,
//! suites of others that have all the places, or loads of others that send all that may be sent.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

use super::{Watched, lock, round::Asker};
use crate::{
    edge::probe::Room,
    model::{probe::Load, world::NotStarted},
};

/// How soon it is looked again whether another run may begin.
const ROOM: Duration = Duration::from_secs(1);
/// The same, where a time of the week keeps it: clocks are set meanwhile.
const QUIET: Duration = Duration::from_mins(1);
/// So long after the lead was gained it may not be known which runs are open: a list takes less, also with its second try.
const KNOWN: Duration = Duration::from_secs(30);
/// Suites at once where nobody says otherwise. 4 pairs are 8 pods of tests, and a few times that of load on what they ask.
pub const SUITES: u16 = 4;
/// What all loads send to either side where nobody says otherwise, in requests a second: little beside what anybody drives load for, and
/// what a forgotten one may cost is bounded by it.
pub const LOAD: u32 = 100;

/// What all suites share.
#[derive(Clone)]
pub(super) struct Places {
    /// The places: of each a pair of Jobs in a rollout, one Job at rest.
    free: Arc<Semaphore>,
    most: u16,
    /// What loads may still send, in requests a second to either side.
    unsent: Arc<Semaphore>,
    load: u32,
}

/// What a run has of them until it ends.
#[derive(Default)]
pub(super) struct Place {
    _suite: Option<OwnedSemaphorePermit>,
    _load: Option<OwnedSemaphorePermit>,
}

impl Places {
    pub(super) fn of(most: u16, load: u32) -> Self {
        // With none at all, no suite would ever run, and every version would wait for it.
        let most = most.max(1);
        let unsent = usize::try_from(load).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(usize::from(most))), most, unsent: Arc::new(Semaphore::new(unsent)), load }
    }
}

impl Asker {
    /// What a run needs to begin, and gives back at its end; else how soon that is looked at again.
    pub(super) async fn admits(
        &self,
        probe: &Watched,
        began: Instant,
        told: &mut watch::Receiver<(Watched, bool)>,
    ) -> Result<Place, Duration> {
        if !self.has_room(probe, began) {
            return Err(ROOM);
        }
        let Some(suite) = &probe.check.suite else { return Ok(Place::default()) };
        self.is_free_of_quiet(probe)?;
        let places = &self.places;
        // What it sends comes first: who waits for that keeps no place from others.
        let load = match suite.load {
            Some(load) => Some(self.may_send(probe, load, told).await?),
            None => None,
        };
        let full = NotStarted::Full { most: places.most };
        let place = self.its_turn(probe, (&places.free, 1), full, told).await?;
        // It may have waited for long.
        self.is_free_of_quiet(probe)?;
        self.waits(probe, None);
        Ok(Place { _suite: Some(place), _load: load })
    }

    async fn may_send(
        &self,
        probe: &Watched,
        load: Load,
        told: &mut watch::Receiver<(Watched, bool)>,
    ) -> Result<OwnedSemaphorePermit, Duration> {
        let (sends, most) = (load.per_second, self.places.load);
        let loaded = NotStarted::Loaded { sends, most };
        if sends > most {
            self.waits(probe, Some(loaded));
            return Err(QUIET);
        }
        self.its_turn(probe, (&self.places.unsent, sends), loaded, told).await
    }

    /// So many of those, when it is its turn; while it waits, people are told why.
    async fn its_turn(
        &self,
        probe: &Watched,
        (of, many): (&Arc<Semaphore>, u32),
        why: NotStarted,
        told: &mut watch::Receiver<(Watched, bool)>,
    ) -> Result<OwnedSemaphorePermit, Duration> {
        if let Ok(had) = of.clone().try_acquire_many_owned(many) {
            return Ok(had);
        }
        self.waits(probe, Some(why));
        tokio::select! {
            biased;
            // Whether it is still to run is asked anew, and it comes last again.
            _ = told.changed() => Err(Duration::ZERO),
            had = of.clone().acquire_many_owned(many) => had.map_err(|_| ROOM),
        }
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
