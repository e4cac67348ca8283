//! One branch: when is what of it read?
//!
//! Its line of commits, when it was stirred or when another Release is the newest. Of the commits that are still open, what ran
//! on them (every 30 s, and when stirred) and their image (5 s after the first look, then later and later). A commit that is
//! settled, or older than one that is ready, is not asked about again until it is stirred.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use jiff::Timestamp;
use tokio::{
    sync::{Notify, mpsc::UnboundedSender, watch},
    time::Instant,
};

use super::{Key, Sources, Watch};
use crate::{
    clock::Clock,
    decide::source::{Readiness, readiness},
    edge::{
        forge::ForgeError,
        registry::{ImageRef, RegistryError},
    },
    model::source::{Built, CheckFacts, CommitFacts, History, Merges, Queue, Sha, Unsaid, When},
};

/// Commits of a line that are read down to the newest Release: 300 merges in the time of one build, or waiting for their turn. At
/// worst 300 × (4,000 characters of a message + 1 KiB) = 1.5 MB of one Delivery; what is older will not be delivered.
const LINE: usize = 300;
/// Commits of a line that are read where nothing is delivered yet: what is older was never waited for.
const BEGINNING: usize = 30;
/// Open commits that are asked about together: one document of the forge holds ten. The others have their turn in the next rounds.
const OPEN: usize = 10;
/// From one look at what runs on a commit to the next: a build of 10 minutes is 20 points of 12,500 an hour.
const CHECKS: Duration = Duration::from_secs(30);
/// Open commits that are looked at so often; more of them wait longer, so that no crowd costs more than 3 documents × 5 points in 30 s:
/// 1,800 points an hour.
const CROWD: usize = 30;
/// After the first look for an image, and after the last.
const IMAGE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));
/// After the first failure, and after the last.
const AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));
/// From the beginning of one round to that of the next, however often it is stirred: a merge with its checks is a dozen events, and
/// GitHub gives 5,000 points an hour to a small App. 1 s leaves half of the two in which a merge is to be seen.
const GAP: Duration = Duration::from_secs(1);
/// Nothing is open: only a stir wakes it, and this.
const IDLE: Duration = Duration::from_mins(10);

/// Reads one branch.
pub(super) struct Reader {
    pub(super) sources: Sources,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) nudge: UnboundedSender<Key>,
    pub(super) key: Key,
    pub(super) known: Arc<Mutex<Merges>>,
    pub(super) stir: Arc<Notify>,
}

/// What the reader remembers from one round to the next.
#[derive(Default)]
struct Memory {
    /// What was read, and the commit that it ends before.
    line: Option<(History, Option<Sha>)>,
    commits: BTreeMap<Sha, Open>,
    failures: u32,
}

/// One commit.
struct Open {
    facts: CommitFacts,
    checks: Turn,
    image: Turn,
    looks: u32,
}

/// When something of a commit is asked about.
#[derive(Clone, Copy, Default)]
struct Turn {
    /// None: not any more.
    due: Option<Instant>,
    /// None: never.
    asked: Option<Instant>,
}

impl Turn {
    fn now() -> Self {
        Self { due: Some(Instant::now()), asked: None }
    }

    /// It was asked about; none: it is not any more.
    fn after(pause: Option<Duration>) -> Self {
        let now = Instant::now();
        Self { due: pause.map(|pause| now + pause), asked: Some(now) }
    }
}

/// Why a round begins; each asks for more than the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    /// Something is due, or another thing is wanted.
    Due,
    /// Nothing was due for [`IDLE`]: what seemed settled is looked at once more. Checks run again, and images come late.
    Idle,
    /// Something happened in the repository: everything is read.
    Stirred,
}

/// How a round went.
struct Round {
    unsaid: Option<Unsaid>,
    pause: Duration,
    /// What the end of the pause means.
    then: Wake,
    /// What was asked for and not done, because something could not be read: the next round owes it, whatever it begins with.
    owed: Wake,
}

impl Reader {
    /// Until nobody wants to know any more.
    pub(super) async fn run(self, mut told: watch::Receiver<Watch>) {
        let mut memory = Memory::default();
        let mut wake = Wake::Stirred;
        loop {
            let wanted = told.borrow_and_update().clone();
            let began = Instant::now();
            // What was said before the round is answered by it, also where the round begins for another reason.
            if self.stir.notified().now_or_never().is_some() {
                wake = Wake::Stirred;
            }
            let round = self.round(&wanted, &mut memory, wake).await;
            self.publish(&wanted, &memory, round.unsaid);
            wake = tokio::select! {
                changed = told.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    Wake::Due
                }
                () = self.stir.notified() => Wake::Stirred,
                () = tokio::time::sleep(round.pause) => round.then,
            };
            wake = wake.max(round.owed);
            if wake == Wake::Stirred {
                tokio::time::sleep_until(began + GAP).await;
            }
        }
    }

    async fn round(&self, wanted: &Watch, memory: &mut Memory, wake: Wake) -> Round {
        if wake != Wake::Due {
            for open in memory.commits.values_mut() {
                let now = Some(Instant::now());
                (open.checks.due, open.image.due, open.looks) = (now, now, 0);
            }
        }
        let unsaid = self.read(wanted, memory, wake).await.err();
        memory.failures = if unsaid.is_some() { memory.failures.saturating_add(1) } else { 0 };
        let next = memory.next(wanted, self.clock.now());
        let pause = match &unsaid {
            Some(Failure { until: Some(until), .. }) => {
                let rest = until.duration_since(self.clock.now());
                Duration::try_from(rest).unwrap_or_default().max(AGAIN.0)
            }
            Some(_) => growing(AGAIN, memory.failures),
            None => next.map_or(IDLE, |at| at.saturating_duration_since(Instant::now()).max(GAP)),
        };
        let then = if unsaid.is_none() && next.is_none() { Wake::Idle } else { Wake::Due };
        let owed = if unsaid.is_some() { wake } else { Wake::Due };
        Round { unsaid: unsaid.map(|failure| failure.unsaid), pause, then, owed }
    }

    async fn read(&self, wanted: &Watch, memory: &mut Memory, wake: Wake) -> Result<(), Failure> {
        let forge = &self.sources.forge;
        if wake == Wake::Stirred || memory.line.as_ref().is_none_or(|(_, since)| *since != wanted.since) {
            let limit = if wanted.since.is_some() { LINE } else { BEGINNING };
            let history = forge.history(&wanted.plan.branch, wanted.since.as_ref(), limit).await?;
            memory.take(history, wanted.since.clone(), self.clock.now());
        }
        let asked: Vec<Sha> = memory.due(wanted, self.clock.now(), wake, |open| open.checks);
        if !asked.is_empty() && wanted.plan.rules.when != When::Image {
            let mut found = forge.checks(&wanted.plan.branch.repository, &asked).await?;
            let crowd = memory.open(wanted, self.clock.now(), wake).len().div_ceil(CROWD);
            let pause = CHECKS.saturating_mul(u32::try_from(crowd).unwrap_or(u32::MAX).max(1));
            for sha in asked {
                // One that was not read whole is not one without checks.
                memory.checked(&sha, found.remove(&sha), pause);
            }
        }
        for sha in memory.due(wanted, self.clock.now(), wake, |open| open.image) {
            let built = self.image(wanted, &sha).await?;
            memory.looked(&sha, built);
        }
        Ok(())
    }

    async fn image(&self, wanted: &Watch, sha: &Sha) -> Result<Built, Failure> {
        let tag = wanted.plan.image.tag_of(sha);
        let person = |says: String| Built::Unsaid(Unsaid { person: true, says });
        let image = match ImageRef::new(&wanted.plan.image.repository, &tag) {
            Ok(image) => image,
            Err(error) => return Ok(person(error.to_string())),
        };
        let logins = match self.sources.logins.of(&wanted.logins, &image).await {
            Ok(logins) => logins,
            Err(says) => return Ok(person(says)),
        };
        let digest = match self.sources.registry.digest(&image, &logins).await {
            Ok(None) => return Ok(Built::Absent),
            Ok(Some(digest)) => digest,
            Err(error) => return unsaid(&error),
        };
        match self.sources.registry.origin(&image, &digest, &logins).await {
            Ok(origin) => Ok(Built::Found { digest, revision: origin.revision }),
            Err(error) => unsaid(&error),
        }
    }

    /// Shows what is known now, and says so if it is news.
    fn publish(&self, wanted: &Watch, memory: &Memory, unsaid: Option<Unsaid>) {
        // What belongs to another end of the line would be taken for this one's.
        let history = memory.line.as_ref().filter(|(_, since)| *since == wanted.since).map(|(history, _)| history.clone());
        let facts = memory.commits.iter().map(|(sha, open)| (sha.clone(), open.facts.clone())).collect();
        let now = Merges { history, facts, unsaid };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != now {
            *known = now;
            // Nobody listens any more once the process ends.
            let _ = self.nudge.send(self.key.clone());
        }
    }
}

impl Memory {
    /// Another line: what is not on it any more is forgotten, what came to it is open.
    fn take(&mut self, history: History, since: Option<Sha>, now: Timestamp) {
        let mut before = std::mem::take(&mut self.commits);
        for commit in &history.commits {
            let fresh = || Open {
                facts: CommitFacts { seen: now, checks: None, image: Built::Unasked },
                checks: Turn::now(),
                image: Turn::now(),
                looks: 0,
            };
            self.commits.insert(commit.sha.clone(), before.remove(&commit.sha).unwrap_or_else(fresh));
        }
        self.line = Some((history, since));
    }

    /// The commits about which something may still be learnt, newest first.
    fn open<'a>(&'a self, wanted: &'a Watch, now: Timestamp, wake: Wake) -> Vec<(&'a Sha, &'a Open)> {
        let mut open = Vec::new();
        for commit in self.line.iter().flat_map(|(history, _)| &history.commits) {
            let Some(known) = self.commits.get(&commit.sha) else { continue };
            match readiness(&commit.sha, &known.facts, &wanted.plan, now) {
                Readiness::Ready(_) if wanted.plan.queue == Queue::Latest => break,
                Readiness::Ready(_) => {}
                Readiness::Refused(_) | Readiness::ChecksFailed(_) | Readiness::NoArtifact(_) if wake == Wake::Due => {}
                _ => open.push((&commit.sha, known)),
            }
        }
        open
    }

    /// Those to be asked about now: first who was never asked about, or longest ago, so that nobody waits behind others for ever. Among
    /// equals the newest, or, one after the other, the oldest: the others wait for it.
    fn due(&self, wanted: &Watch, now: Timestamp, wake: Wake, which: impl Fn(&Open) -> Turn) -> Vec<Sha> {
        let moment = Instant::now();
        let turns = self.open(wanted, now, wake).into_iter().map(|(sha, open)| (sha, which(open)));
        let mut due: Vec<_> = turns.filter(|(_, turn)| turn.due.is_some_and(|at| at <= moment)).collect();
        if wanted.plan.queue == Queue::Each {
            due.reverse();
        }
        due.sort_by_key(|(_, turn)| turn.asked);
        due.into_iter().take(OPEN).map(|(sha, _)| sha.clone()).collect()
    }

    fn checked(&mut self, sha: &Sha, facts: Option<CheckFacts>, pause: Duration) {
        if let Some(open) = self.commits.get_mut(sha) {
            if facts.is_some() {
                open.facts.checks = facts;
            }
            open.checks = Turn::after(Some(pause));
        }
    }

    fn looked(&mut self, sha: &Sha, image: Built) {
        if let Some(open) = self.commits.get_mut(sha) {
            // What was found is taken by its digest for ever; the tag may move as it likes.
            let found = matches!(open.facts.image, Built::Found { .. });
            open.looks = open.looks.saturating_add(1);
            open.image = Turn::after((!matches!(image, Built::Found { .. })).then(|| growing(IMAGE, open.looks)));
            if !found {
                open.facts.image = image;
            }
        }
    }

    /// When something is due; none: nothing is.
    fn next(&self, wanted: &Watch, now: Timestamp) -> Option<Instant> {
        let images = |open: &Open| if matches!(open.facts.image, Built::Found { .. }) { None } else { open.image.due };
        let checks = |open: &Open| if wanted.plan.rules.when == When::Image { None } else { open.checks.due };
        let moments = self.open(wanted, now, Wake::Due).into_iter().flat_map(|(_, open)| [checks(open), images(open)]);
        moments.flatten().min()
    }
}

/// A read that failed: all of it is read again later.
struct Failure {
    unsaid: Unsaid,
    until: Option<Timestamp>,
}

impl From<ForgeError> for Failure {
    fn from(error: ForgeError) -> Self {
        let (person, until) = match &error {
            ForgeError::Absent { .. } | ForgeError::Denied { .. } | ForgeError::TooLong { .. } => (true, None),
            ForgeError::Limited { until } => (false, Some(*until)),
            ForgeError::Slow { .. } | ForgeError::Ill { .. } | ForgeError::Unreadable { .. } => (false, None),
        };
        Self { unsaid: Unsaid { person, says: error.to_string() }, until }
    }
}

/// What a registry did not say is known of that image; only its wish to be left alone is known of all.
fn unsaid(error: &RegistryError) -> Result<Built, Failure> {
    let says = error.to_string();
    match error {
        RegistryError::Limited { until, .. } => Err(Failure { unsaid: Unsaid { person: false, says }, until: Some(*until) }),
        RegistryError::Denied { .. } => Ok(Built::Unsaid(Unsaid { person: true, says })),
        RegistryError::Slow { .. } | RegistryError::Ill { .. } | RegistryError::Unreadable { .. } => {
            Ok(Built::Unsaid(Unsaid { person: false, says }))
        }
    }
}

/// Twice as long each time.
fn growing((first, last): (Duration, Duration), times: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times.saturating_sub(1).min(16)).unwrap_or(u32::MAX)).min(last)
}
