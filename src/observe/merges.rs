//! The merge board: reads in the background what forges and registries say of the branches and tags that versions come from.
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
        source::{Branch, ImagePlan, MergePlan, Merges, Repository, Sha, Unsaid},
    },
};

mod grants;
mod images;
mod logins;
mod meter;
mod round;
mod tag;

pub use grants::{Grant, Grants, GrantsError};
pub use logins::SecretLogins;
pub use meter::ForgeMeter;

use images::Images;
use round::{AGAIN, Failure, Reader, growing};

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
    /// Of what.
    pub subject: Subject,
    /// Where the logins for the registry are looked for.
    pub logins: LoginsFor,
}

/// What names the versions of a Delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// A branch.
    Branch {
        /// Which commits, and what must be known of them.
        plan: Box<MergePlan>,
        /// The commit of the newest Release: what is older is settled.
        since: Option<Sha>,
    },
    /// A tag that moves.
    Tag(ImagePlan),
}

impl Subject {
    fn branch(&self) -> Option<&Branch> {
        match self {
            Self::Branch { plan, .. } => Some(&plan.branch),
            Self::Tag(_) => None,
        }
    }

    fn since(&self) -> Option<&Sha> {
        match self {
            Self::Branch { since, .. } => since.as_ref(),
            Self::Tag(_) => None,
        }
    }

    fn image(&self) -> &ImagePlan {
        match self {
            Self::Branch { plan, .. } => &plan.image,
            Self::Tag(image) => image,
        }
    }

    /// What is known of the one is nothing of the other.
    fn is_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Branch { plan, .. }, Self::Branch { plan: new, .. }) => {
                (&plan.branch, &plan.image, &plan.config) == (&new.branch, &new.image, &new.config)
            }
            (Self::Tag(image), Self::Tag(new)) => image == new,
            _ => false,
        }
    }
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
    /// The forge; none: versions come from tags alone.
    pub forge: Option<Arc<dyn Forge>>,
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

/// Where a reader shows what it knows.
struct Shown {
    key: Key,
    known: Arc<Mutex<Merges>>,
    nudge: UnboundedSender<Key>,
    clock: Arc<dyn Clock>,
}

impl Shown {
    /// Shows it, and says so if it is news.
    fn publish(&self, now: Merges) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != now {
            *known = now;
            // Nobody listens any more once the process ends.
            let _ = self.nudge.send(self.key.clone());
        }
    }
}

/// One Delivery.
struct Slot {
    wanted: watch::Sender<Watch>,
    known: Arc<Mutex<Merges>>,
    stir: Arc<Notify>,
    /// Sweeps in a row that learnt nothing at all, and what is told of that.
    missed: u32,
    unswept: Option<Unsaid>,
    task: JoinHandle<()>,
}

impl Slot {
    fn known(&self) -> std::sync::MutexGuard<'_, Merges> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The forge leads from the name that is watched to this one.
    fn is_now(&self, repository: &Repository) -> bool {
        self.known().history.as_ref().and_then(|history| history.renamed.as_ref()).is_some_and(|renamed| renamed.is(repository))
    }

    /// Nobody listens any more once the process ends.
    fn tell(&mut self, key: &Key, unswept: Option<Unsaid>, nudge: &UnboundedSender<Key>) {
        if self.unswept != unswept {
            self.unswept = unswept;
            let _ = nudge.send(key.clone());
        }
    }

    /// The head of what was read of the branch; none: nothing yet, or the last read failed.
    fn read(&self) -> Option<Sha> {
        let known = self.known();
        let history = known.history.as_ref().filter(|_| known.unsaid.is_none())?;
        let newest = history.commits.first().map(|commit| commit.sha.clone());
        newest.or_else(|| self.wanted.borrow().subject.since().cloned())
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
        self.forge().map(ForgeMeter::new).transpose()
    }

    /// Says what is to be known from now on. The same again changes nothing.
    pub fn watch(&self, key: &Key, wanted: Watch) {
        let Some(sources) = &self.sources else { return };
        let mut slots = self.lock();
        if let Some(slot) = slots.get(key)
            && !slot.task.is_finished()
            && slot.wanted.borrow().subject.is_of(&wanted.subject)
        {
            slot.wanted.send_if_modified(|now| {
                let changed = *now != wanted;
                *now = wanted;
                changed
            });
            return;
        }
        let images = Images { registry: sources.registry.clone(), logins: sources.logins.clone() };
        let (known, stir) = (Arc::<Mutex<Merges>>::default(), Arc::<Notify>::default());
        let shown = Shown { key: key.clone(), known: known.clone(), nudge: self.nudge.clone(), clock: self.clock.clone() };
        let (sender, told) = watch::channel(wanted);
        let is_tag = matches!(sender.borrow().subject, Subject::Tag(_));
        let task = match sources.forge.clone().filter(|_| !is_tag) {
            Some(forge) => tokio::spawn(Reader { forge, images, shown, stir: stir.clone() }.run(told)),
            None if is_tag => tokio::spawn(tag::run(images, shown, stir.clone(), told)),
            // Without a forge nothing can be known of a branch, and `closed` says so.
            None => return,
        };
        slots.insert(key.clone(), Slot { wanted: sender, known, stir, missed: 0, unswept: None, task });
    }

    /// Why nothing will be known of this repository, if so: nobody set up a forge, or nobody gave it to that namespace.
    #[must_use]
    pub fn closed(&self, repository: &Repository, namespace: &str) -> Option<Reason> {
        match self.sources.as_ref().filter(|sources| sources.forge.is_some()) {
            None => Some(Reason::NoForge { repository: repository.to_string() }),
            Some(sources) if sources.grants.allow(repository, namespace) => None,
            Some(_) => Some(Reason::RepositoryNotGranted { repository: repository.to_string(), namespace: namespace.to_owned() }),
        }
    }

    /// What is known.
    #[must_use]
    pub fn read(&self, key: &Key) -> Merges {
        let slots = self.lock();
        let Some(slot) = slots.get(key) else { return Merges::default() };
        let known = slot.known().clone();
        Merges { unsaid: known.unsaid.or_else(|| slot.unswept.clone()), ..known }
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
        let named = |slot: &Slot| slot.wanted.borrow().subject.branch().is_some_and(|branch| branch.repository.is(repository));
        self.stir_those(|slot| named(slot) || slot.is_now(repository))
    }

    /// An image may have come to that repository of a registry, which is named without its host.
    pub fn stir_image(&self, path: &str) -> Stirred {
        let named =
            |slot: &Slot| ImageRef::new(&slot.wanted.borrow().subject.image().repository, "any").is_ok_and(|image| image.path == path);
        self.stir_those(named)
    }

    fn stir_those(&self, which: impl Fn(&Slot) -> bool) -> Stirred {
        let mut stirred = Stirred::Nobody;
        for slot in self.lock().values().filter(|slot| which(slot)) {
            slot.stir.notify_one();
            stirred = Stirred::Somebody;
        }
        stirred
    }

    /// Looks at the heads of all branches every [`SWEEP`], for ever, and stirs those that moved. One that fails is made up for
    /// sooner, so that what is told of it is not told for longer than it lasts.
    pub async fn sweep(self: Arc<Self>) {
        let Some(forge) = self.forge() else { return std::future::pending().await };
        let (mut due, mut failures) = (Instant::now(), 0_u32);
        loop {
            due = if failures == 0 { due + SWEEP } else { Instant::now() + growing(AGAIN, failures) };
            tokio::time::sleep_until(due).await;
            let branches = self.branches();
            let mut failed = false;
            for batch in branches.chunks(BATCH) {
                match forge.heads(batch).await {
                    Ok(heads) => self.moved(batch, &heads),
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "a sweep of {} branches failed", batch.len());
                        self.missed(batch, &error);
                        failed = true;
                    }
                }
            }
            failures = if failed { failures.saturating_add(1) } else { 0 };
        }
    }

    /// Asks every [`RECALL`], for ever, that events which did not arrive are sent again. They say nothing that a sweep would not
    /// find, but sooner: what ran on a commit is read twice a minute, a door that answered late is told at once.
    pub async fn recall(self: Arc<Self>) {
        let Some(forge) = self.forge() else { return std::future::pending().await };
        loop {
            tokio::time::sleep(RECALL).await;
            if self.branches().is_empty() {
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

    fn forge(&self) -> Option<Arc<dyn Forge>> {
        self.sources.as_ref()?.forge.clone()
    }

    fn branches(&self) -> Vec<Branch> {
        let mut branches: Vec<Branch> = self.lock().values().filter_map(|slot| slot.wanted.borrow().subject.branch().cloned()).collect();
        branches.sort();
        branches.dedup();
        branches
    }

    /// A sweep learnt nothing of these. That is told without a word to their readers: who has nothing to ask would not notice, and
    /// a thousand questions to a forge that is ill would not help.
    fn missed(&self, branches: &[Branch], error: &ForgeError) {
        let of_these = |slot: &Slot| slot.wanted.borrow().subject.branch().is_some_and(|branch| branches.contains(branch));
        for (key, slot) in self.lock().iter_mut().filter(|(_, slot)| of_these(slot)) {
            slot.missed = slot.missed.saturating_add(1);
            slot.tell(key, Failure::from(error.clone()).told(slot.missed), &self.nudge);
        }
    }

    fn moved(&self, branches: &[Branch], heads: &[Result<Sha, ForgeError>]) {
        let heads: HashMap<&Branch, &Result<Sha, ForgeError>> = branches.iter().zip(heads).collect();
        for (key, slot) in self.lock().iter_mut() {
            let branch = slot.wanted.borrow().subject.branch().cloned();
            let Some(head) = branch.as_ref().and_then(|branch| heads.get(branch)) else { continue };
            slot.missed = 0;
            slot.tell(key, None, &self.nudge);
            // What went wrong is read, and then told, by the one whose branch it is.
            if head.is_err() || head.as_ref().ok() != slot.read().as_ref() {
                slot.stir.notify_one();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
