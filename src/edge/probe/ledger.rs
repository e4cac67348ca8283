//! Where a run that will have to be put right is written down before it changes anything. What is written, and where, is not known here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;

use crate::{
    api::probe_run::{ProbeRevision, PutRight},
    model::probe::RunName,
};

/// What is the same for every run of a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Namespace of the probe.
    pub namespace: String,
    /// The Delivery that it runs for.
    pub delivery: String,
    /// The probe.
    pub probe: ProbeRevision,
    /// How a run is put right.
    pub put_right: PutRight,
    /// Runs that may be open at once.
    pub most: usize,
}

/// A run that is under way in this process. It counts as such until this is dropped, however the run ends.
#[derive(Clone, Debug, Default)]
pub struct Alive(Arc<()>);

impl Alive {
    /// Says whether it still is.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch(Arc::downgrade(&self.0))
    }
}

/// Whether a run is under way.
#[derive(Clone, Debug)]
pub struct Watch(std::sync::Weak<()>);

impl Watch {
    /// It is.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// A run could not be written down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its ProbeRun cannot be written: {said}")]
pub struct Unwritten {
    /// Why not.
    pub said: String,
}

/// Whether another run may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It may.
    Free,
    /// So many are open.
    Full(usize),
    /// Which ones are open is not known yet.
    Unknown,
}

/// Keeps the runs that are open.
pub trait Ledger: Send + Sync {
    /// Writes a run down. From then on it may change something, for so long at most.
    fn open<'a>(&'a self, page: &'a Page, run: &'a RunName, within: Duration) -> BoxFuture<'a, Result<Alive, Unwritten>>;

    /// Writes down what its teardown will need.
    fn keep<'a>(&'a self, page: &'a Page, run: &'a RunName, kept: &'a BTreeMap<String, String>) -> BoxFuture<'a, Result<(), Unwritten>>;

    /// It is put right and forgotten; or something is left, in a sentence, and it stays open. What cannot be written here is done
    /// again by whoever finds the run.
    fn close<'a>(&'a self, page: &'a Page, run: &'a RunName, left: Option<&'a str>) -> BoxFuture<'a, ()>;

    /// Whether another run of this probe may begin.
    fn room(&self, page: &Page) -> Room;

    /// This run is open, or may be.
    fn is_open(&self, namespace: &str, run: &RunName) -> bool;
}

/// A page of a ledger.
#[derive(Clone)]
pub struct Entry {
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// The page.
    pub page: Arc<Page>,
}

#[cfg(test)]
pub(crate) mod memory {
    //! A ledger that a test can read.

    use std::{
        collections::BTreeMap,
        sync::{Mutex, PoisonError},
        time::Duration,
    };

    use futures::future::BoxFuture;

    use super::{Alive, Ledger, Page, Room, RunName, Unwritten};

    /// What was written, in order, and what it refuses.
    #[derive(Default)]
    pub(crate) struct InMemory {
        pub(crate) lines: Mutex<Vec<String>>,
        /// It refuses what begins with this.
        pub(crate) refuses: Mutex<Option<&'static str>>,
        pub(crate) room: Mutex<Option<Room>>,
        pub(crate) open: Mutex<Vec<RunName>>,
    }

    impl InMemory {
        fn write(&self, line: String) -> Result<(), Unwritten> {
            let refuses = *self.refuses.lock().unwrap_or_else(PoisonError::into_inner);
            if refuses.is_some_and(|word| line.starts_with(word)) {
                return Err(Unwritten { said: "no right".to_owned() });
            }
            self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            Ok(())
        }
    }

    impl Ledger for InMemory {
        fn open<'a>(&'a self, page: &'a Page, run: &'a RunName, _: Duration) -> BoxFuture<'a, Result<Alive, Unwritten>> {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).push(run.clone());
            Box::pin(async move { self.write(format!("open {}", page.probe.name)).map(|()| Alive::default()) })
        }

        fn keep<'a>(&'a self, _: &'a Page, _: &'a RunName, kept: &'a BTreeMap<String, String>) -> BoxFuture<'a, Result<(), Unwritten>> {
            Box::pin(async move { self.write(format!("keep {kept:?}")) })
        }

        fn close<'a>(&'a self, _: &'a Page, _: &'a RunName, left: Option<&'a str>) -> BoxFuture<'a, ()> {
            Box::pin(async move { drop(self.write(format!("close {left:?}"))) })
        }

        fn room(&self, _: &Page) -> Room {
            self.room.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(Room::Free)
        }

        fn is_open(&self, _: &str, run: &RunName) -> bool {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).contains(run)
        }
    }
}
