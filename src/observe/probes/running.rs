//! A probe that is being asked, and what its task is told.

use tokio::{sync::watch, task::JoinHandle};

use super::{Asks, Watched, book::Book};
use crate::model::world::ByRoute;

/// The task of one probe; it ends with this.
pub(super) struct Running {
    probe: watch::Sender<(Watched, bool)>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    pub(super) fn begin(probe: watch::Sender<(Watched, bool)>, task: JoinHandle<()>) -> Self {
        Self { probe, task }
    }

    /// It is the same probe.
    pub(super) fn asks_for(&self, wanted: &Watched) -> bool {
        self.probe.borrow().0.check == wanted.check
    }

    /// Goes on for this probe; else another task must.
    pub(super) fn serves(&self, wanted: &Watched) -> bool {
        let (now, _) = &*self.probe.borrow();
        let same_kind =
            matches!((&now.asks, &wanted.asks), (Asks::Pair { .. }, Asks::Pair { .. }) | (Asks::Rest { .. }, Asks::Rest { .. }));
        same_kind && now.check == wanted.check && now.votes == wanted.votes && !self.task.is_finished()
    }

    /// What is known of it, if it is to go by the route.
    pub(super) fn by_route(&self, book: &Book) -> Option<ByRoute> {
        let (probe, _) = &*self.probe.borrow();
        let (check, service) = (&probe.check, probe.route_of.clone()?);
        let header = check.answered_by.as_ref()?.header.clone();
        Some(ByRoute { probe: check.name.clone(), service, header, told: book.told(&check.name) })
    }

    pub(super) fn tell(&self, wanted: Watched, eager: bool) {
        let wanted = (wanted, eager);
        self.probe.send_if_modified(|now| {
            let changed = *now != wanted;
            *now = wanted;
            changed
        });
    }
}
