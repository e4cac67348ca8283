//! The merge board: reads in the background what forges and registries say of the branches that versions come from.
//!
//! Every observe says anew what is to be known ([`MergeBoard::watch`]) and reads what is known ([`MergeBoard::read`]). What it means is
//! decided in `decide::source`. Nothing that anybody announces is believed: an event only stirs ([`MergeBoard::stir`]), and then the
//! facts are read. The board begins empty with each leadership; all that must last is in Release objects.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    sync::{Notify, mpsc::UnboundedSender, watch},
    task::JoinHandle,
    time::Instant,
};

use super::probes::Key;
use crate::{
    clock::Clock,
    edge::{
        forge::{Forge, ForgeError},
        registry::{ImageRef, Login, Registry},
    },
    model::{
        decision::Reason,
        source::{Branch, MergePlan, Merges, Repository, Sha},
    },
};

mod grants;
mod logins;
mod meter;
mod round;

pub use grants::{Grant, Grants, GrantsError};
pub use logins::SecretLogins;
pub use meter::ForgeMeter;

use round::Reader;

/// From one look at all heads to the next: "without a webhook it knows within a minute". 1,000 branches are 10 documents of one
/// point each: 600 points an hour of 12,500.
pub const SWEEP: Duration = Duration::from_mins(1);
/// From one question for events that did not arrive to the next, and how far back each goes: twice that, so that one that fails
/// is made up for. 12 calls an hour.
const RECALL: Duration = Duration::from_mins(5);
/// Branches in one document.
const BATCH: usize = 100;

/// What is to be known for one Delivery now.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// Which commits, and what must be known of them.
    pub plan: MergePlan,
    /// The commit of the newest Release: what is older is settled.
    pub since: Option<Sha>,
    /// Where the logins for the registry are looked for.
    pub logins: LoginsFor,
}

/// Where the logins for the registry of a Delivery are looked for, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginsFor {
    /// The namespace of the Delivery.
    pub namespace: String,
    /// Names of its Secrets: the one that the Delivery names, then those of its pods.
    pub secrets: Vec<String>,
    /// The `ServiceAccount` of its pods.
    pub account: String,
}

/// Whether anybody waits for what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stirred {
    /// No Delivery's versions come from there.
    Nobody,
    /// It is read again.
    Somebody,
}

/// Finds logins.
pub trait Logins: Send + Sync {
    /// Those for this image, in the order in which they are to be tried.
    ///
    /// # Errors
    /// In a sentence, what a person must mend: a Secret that is not there, or cannot be read.
    fn of<'a>(&'a self, whose: &'a LoginsFor, image: &'a ImageRef) -> BoxFuture<'a, Result<Vec<Login>, String>>;
}

/// Who answers the questions of the board.
#[derive(Clone)]
pub struct Sources {
    /// The forge.
    pub forge: Arc<dyn Forge>,
    /// Who may deliver from which of its repositories.
    pub grants: Arc<Grants>,
    /// The registries.
    pub registry: Arc<dyn Registry>,
    /// What opens them.
    pub logins: Arc<dyn Logins>,
}

/// Reads in the background, for every Delivery that is watched.
pub struct MergeBoard {
    sources: Option<Sources>,
    clock: Arc<dyn Clock>,
    nudge: UnboundedSender<Key>,
    slots: Mutex<HashMap<Key, Slot>>,
}

/// One Delivery.
struct Slot {
    wanted: watch::Sender<Watch>,
    known: Arc<Mutex<Merges>>,
    stir: Arc<Notify>,
    /// The head that the last sweep saw.
    head: Option<Sha>,
    task: JoinHandle<()>,
}

impl Slot {
    /// The head of what was read of the branch; none: nothing yet, or the last read failed.
    fn read(&self) -> Option<Sha> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let history = known.history.as_ref().filter(|_| known.unsaid.is_none())?;
        let newest = history.commits.first().map(|commit| commit.sha.clone());
        newest.or_else(|| self.wanted.borrow().since.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MergeBoard {
    /// An empty board; without sources none of its questions has an answer. `nudge` is told of a Delivery of whose branch something new is known.
    #[must_use]
    pub fn new(sources: Option<Sources>, clock: Arc<dyn Clock>, nudge: UnboundedSender<Key>) -> Self {
        Self { sources, clock, nudge, slots: Mutex::default() }
    }

    /// What the forge still grants, to be shown; none: there is no forge.
    ///
    /// # Errors
    /// When a name in it is wrong: a mistake in that file.
    pub fn meter(&self) -> Result<Option<ForgeMeter>, prometheus::Error> {
        self.sources.as_ref().map(|sources| ForgeMeter::new(sources.forge.clone())).transpose()
    }

    /// Says what is to be known from now on. The same again changes nothing.
    pub fn watch(&self, key: &Key, wanted: Watch) {
        let Some(sources) = &self.sources else { return };
        let mut slots = self.lock();
        if let Some(slot) = slots.get(key)
            && !slot.task.is_finished()
            && slot.wanted.borrow().plan.branch == wanted.plan.branch
        {
            slot.wanted.send_if_modified(|now| {
                let changed = *now != wanted;
                *now = wanted;
                changed
            });
            return;
        }
        let (sender, told) = watch::channel(wanted);
        let (known, stir) = (Arc::<Mutex<Merges>>::default(), Arc::<Notify>::default());
        let reader = Reader {
            sources: sources.clone(),
            clock: self.clock.clone(),
            nudge: self.nudge.clone(),
            key: key.clone(),
            known: known.clone(),
            stir: stir.clone(),
        };
        let task = tokio::spawn(reader.run(told));
        slots.insert(key.clone(), Slot { wanted: sender, known, stir, head: None, task });
    }

    /// Why nothing will be known of this repository, if so: nobody set up a forge, or nobody gave it to that namespace.
    #[must_use]
    pub fn closed(&self, repository: &Repository, namespace: &str) -> Option<Reason> {
        match &self.sources {
            None => Some(Reason::NoForge { repository: repository.to_string() }),
            Some(sources) if sources.grants.allow(repository, namespace) => None,
            Some(_) => Some(Reason::RepositoryNotGranted { repository: repository.to_string(), namespace: namespace.to_owned() }),
        }
    }

    /// What is known.
    #[must_use]
    pub fn read(&self, key: &Key) -> Merges {
        self.lock().get(key).map(|slot| slot.known.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap_or_default()
    }

    /// The Delivery is gone, or its versions come from elsewhere.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    /// Leadership is gone: another reads now.
    pub fn forget_all(&self) {
        self.lock().clear();
    }

    /// Something may have changed in that repository: its facts are read again at once.
    pub fn stir(&self, repository: &Repository) -> Stirred {
        self.stir_those(|plan| plan.branch.repository.is(repository))
    }

    /// An image may have come to that repository of a registry, which is named without its host.
    pub fn stir_image(&self, path: &str) -> Stirred {
        self.stir_those(|plan| ImageRef::new(&plan.image.repository, "any").is_ok_and(|image| image.path == path))
    }

    fn stir_those(&self, which: impl Fn(&MergePlan) -> bool) -> Stirred {
        let mut stirred = Stirred::Nobody;
        for slot in self.lock().values().filter(|slot| which(&slot.wanted.borrow().plan)) {
            slot.stir.notify_one();
            stirred = Stirred::Somebody;
        }
        stirred
    }

    /// Looks at the heads of all branches every [`SWEEP`], for ever, and stirs those that moved.
    pub async fn sweep(self: Arc<Self>) {
        let Some(forge) = self.sources.as_ref().map(|sources| sources.forge.clone()) else { return std::future::pending().await };
        let mut due = Instant::now();
        loop {
            due += SWEEP;
            tokio::time::sleep_until(due).await;
            let branches = self.branches();
            for batch in branches.chunks(BATCH) {
                match forge.heads(batch).await {
                    Ok(heads) => self.moved(batch, &heads),
                    Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "a sweep of {} branches failed", batch.len()),
                }
            }
        }
    }

    /// Asks every [`RECALL`], for ever, that events which did not arrive are sent again. They say nothing that a sweep would not
    /// find, but sooner: what ran on a commit is read twice a minute, a door that answered late is told at once.
    pub async fn recall(self: Arc<Self>) {
        let Some(forge) = self.sources.as_ref().map(|sources| sources.forge.clone()) else { return std::future::pending().await };
        loop {
            tokio::time::sleep(RECALL).await;
            if self.lock().is_empty() {
                continue;
            }
            let since = self
                .clock
                .now()
                .saturating_sub(jiff::SignedDuration::try_from(RECALL * 2).unwrap_or_default())
                .unwrap_or(jiff::Timestamp::MIN);
            match forge.repeat_missed(since).await {
                Ok(0) => {}
                Ok(events) => tracing::info!(events, "asked for webhooks that did not arrive"),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "webhooks that did not arrive could not be asked for");
                }
            }
        }
    }

    fn branches(&self) -> Vec<Branch> {
        let mut branches: Vec<Branch> = self.lock().values().map(|slot| slot.wanted.borrow().plan.branch.clone()).collect();
        branches.sort();
        branches.dedup();
        branches
    }

    fn moved(&self, branches: &[Branch], heads: &[Result<Sha, ForgeError>]) {
        let heads: HashMap<&Branch, &Result<Sha, ForgeError>> = branches.iter().zip(heads).collect();
        for slot in self.lock().values_mut() {
            let branch = slot.wanted.borrow().plan.branch.clone();
            let Some(head) = heads.get(&branch) else { continue };
            // What went wrong is read, and then told, by the one whose branch it is.
            if head.is_err() || (head.as_ref().ok() != slot.head.as_ref() && head.as_ref().ok() != slot.read().as_ref()) {
                slot.stir.notify_one();
            }
            slot.head = head.as_ref().ok().cloned();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
