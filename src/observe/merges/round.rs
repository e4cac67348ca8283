//! One branch: when is what of it read?
//!
//! Its line of commits, when it was stirred or when another Release is the newest. Of the commits that are still open, what ran
//! on them (every 30 s, and when stirred) and their image (5 s after the first look, then later and later). A commit that is
//! settled, or older than one that is ready, is not asked about again until it is stirred.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::FutureExt as _;
use jiff::Timestamp;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{LoginsFor, Shown, Subject, Watch, images::Images};
use crate::{
    decide::source::{Readiness, is_of, readiness},
    edge::forge::{Forge, ForgeError},
    model::{
        repo_config::LIMIT,
        source::{Built, CheckFacts, CommitFacts, ConfigFile, ConfigPlan, History, ImagePlan, MergePlan, Merges, Queue, Sha, Unsaid, When},
    },
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
pub(super) const AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));
/// Failures in a row from which on people are told of one that may heal by itself: what the next try mends is nobody's trouble.
const TOLD: u32 = 2;
/// From the beginning of one round to that of the next, however often it is stirred: a merge with its checks is a dozen events, and
/// GitHub gives 5,000 points an hour to a small App. 1 s leaves half of the two in which a merge is to be seen.
pub(super) const GAP: Duration = Duration::from_secs(1);
/// Nothing is open: only a stir wakes it, and this.
const IDLE: Duration = Duration::from_mins(10);

/// Reads one branch.
pub(super) struct Reader {
    pub(super) forge: Arc<dyn Forge>,
    pub(super) images: Images,
    pub(super) shown: Shown,
    pub(super) stir: Arc<Notify>,
}

/// What one round is about.
struct Wanted {
    plan: MergePlan,
    since: Option<Sha>,
    logins: LoginsFor,
}

impl Wanted {
    fn of(watch: Watch) -> Option<Self> {
        match watch.subject {
            Subject::Branch { plan, since } => Some(Self { plan: *plan, since, logins: watch.logins }),
            Subject::Tag(_) => None,
        }
    }
}

/// What the reader remembers from one round to the next.
#[derive(Default)]
struct Memory {
    /// What was read, and the commit that it ends before.
    line: Option<(History, Option<Sha>)>,
    commits: BTreeMap<Sha, Open>,
    failures: u32,
    /// What the rounds that failed should have read: the next one does.
    owed: Wake,
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

/// Why a round begins; each reads all that the one before it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    /// Something is due, or another thing is wanted.
    #[default]
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
}

impl Reader {
    /// Until nobody wants to know any more.
    pub(super) async fn run(self, mut told: watch::Receiver<Watch>) {
        let mut memory = Memory::default();
        let mut wake = Wake::Stirred;
        loop {
            let Some(wanted) = Wanted::of(told.borrow_and_update().clone()) else { return };
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
            if wake == Wake::Stirred {
                tokio::time::sleep_until(began + GAP).await;
            }
        }
    }

    async fn round(&self, wanted: &Wanted, memory: &mut Memory, wake: Wake) -> Round {
        let wake = wake.max(memory.owed);
        if wake != Wake::Due {
            for open in memory.commits.values_mut() {
                let now = Some(Instant::now());
                (open.checks.due, open.image.due, open.looks) = (now, now, 0);
            }
        }
        let failure = self.read(wanted, memory, wake).await.err();
        (memory.failures, memory.owed) = if failure.is_some() { (memory.failures.saturating_add(1), wake) } else { (0, Wake::Due) };
        let next = memory.next(wanted, self.shown.clock.now());
        let pause = match &failure {
            Some(failure) => failure.pause(self.shown.clock.now()).unwrap_or_else(|| growing(AGAIN, memory.failures)),
            None => next.map_or(IDLE, |at| at.saturating_duration_since(Instant::now()).max(GAP)),
        };
        let then = if failure.is_none() && next.is_none() { Wake::Idle } else { Wake::Due };
        Round { unsaid: failure.and_then(|failure| failure.told(memory.failures)), pause, then }
    }

    async fn read(&self, wanted: &Wanted, memory: &mut Memory, wake: Wake) -> Result<(), Failure> {
        let forge = &self.forge;
        if wake == Wake::Stirred || memory.line.as_ref().is_none_or(|(_, since)| *since != wanted.since) {
            let limit = if wanted.since.is_some() { LINE } else { BEGINNING };
            let history = forge.history(&wanted.plan.branch, wanted.since.as_ref(), limit).await?;
            memory.take(history, wanted.since.clone(), self.shown.clock.now());
        }
        let asked: Vec<Sha> = memory.due(wanted, self.shown.clock.now(), wake, |open| open.checks);
        if !asked.is_empty() && wanted.plan.rules.when != When::Image {
            let mut found = forge.checks(&wanted.plan.branch.repository, &asked).await?;
            let crowd = memory.open(wanted, self.shown.clock.now(), wake).len().div_ceil(CROWD);
            let pause = CHECKS.saturating_mul(u32::try_from(crowd).unwrap_or(u32::MAX).max(1));
            for sha in asked {
                // One that was not read whole is not one without checks.
                memory.checked(&sha, found.remove(&sha), pause);
            }
        }
        for sha in memory.due(wanted, self.shown.clock.now(), wake, |open| open.image) {
            let built = self.images.of(&wanted.plan.image.repository, &wanted.plan.image.tag_of(&sha), &wanted.logins).await?;
            memory.looked(&sha, built, &wanted.plan.image);
        }
        if let Some(config) = &wanted.plan.config
            && let Some(sha) = memory.unread(wanted, self.shown.clock.now())
        {
            let file = self.config(wanted, config, &sha).await?;
            memory.read(&sha, file);
        }
        Ok(())
    }

    /// The file at a commit, which is the same for ever.
    async fn config(&self, wanted: &Wanted, config: &ConfigPlan, sha: &Sha) -> Result<ConfigFile, Failure> {
        match self.forge.file(&wanted.plan.branch.repository, sha, &config.path, LIMIT).await {
            Ok(Some(text)) => Ok(ConfigFile::Text(text)),
            Ok(None) => Ok(ConfigFile::Absent),
            Err(ForgeError::TooLong { limit, .. }) => Ok(ConfigFile::Unusable(format!("longer than {limit} bytes"))),
            Err(error) => Err(error.into()),
        }
    }

    /// Shows what is known now.
    fn publish(&self, wanted: &Wanted, memory: &Memory, unsaid: Option<Unsaid>) {
        // What belongs to another end of the line would be taken for this one's.
        let history = memory.line.as_ref().filter(|(_, since)| *since == wanted.since).map(|(history, _)| history.clone());
        let facts = memory.commits.iter().map(|(sha, open)| (sha.clone(), open.facts.clone())).collect();
        self.shown.publish(Merges { history, facts, tag: None, unsaid });
    }
}

impl Memory {
    /// Another line: what is not on it any more is forgotten, what came to it is open.
    fn take(&mut self, history: History, since: Option<Sha>, now: Timestamp) {
        let mut before = std::mem::take(&mut self.commits);
        for commit in &history.commits {
            let fresh = || Open {
                facts: CommitFacts { seen: now, checks: None, image: Built::Unasked, config: None },
                checks: Turn::now(),
                image: Turn::now(),
                looks: 0,
            };
            self.commits.insert(commit.sha.clone(), before.remove(&commit.sha).unwrap_or_else(fresh));
        }
        self.line = Some((history, since));
    }

    /// The commits about which something may still be learnt, newest first.
    fn open<'a>(&'a self, wanted: &'a Wanted, now: Timestamp, wake: Wake) -> Vec<(&'a Sha, &'a Open)> {
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
    fn due(&self, wanted: &Wanted, now: Timestamp, wake: Wake, which: impl Fn(&Open) -> Turn) -> Vec<Sha> {
        let moment = Instant::now();
        let turns = self.open(wanted, now, wake).into_iter().map(|(sha, open)| (sha, which(open)));
        let mut due: Vec<_> = turns.filter(|(_, turn)| turn.due.is_some_and(|at| at <= moment)).collect();
        if wanted.plan.queue == Queue::Each {
            due.reverse();
        }
        due.sort_by_key(|(_, turn)| turn.asked);
        due.into_iter().take(OPEN).map(|(sha, _)| sha.clone()).collect()
    }

    /// The commit that waits for nothing but its file: the newest, or, one after the other, the oldest.
    fn unread(&self, wanted: &Wanted, now: Timestamp) -> Option<Sha> {
        let only = MergePlan { config: None, ..wanted.plan.clone() };
        let waits =
            |open: &Open, sha: &Sha| open.facts.config.is_none() && matches!(readiness(sha, &open.facts, &only, now), Readiness::Ready(_));
        let open = self.open(wanted, now, Wake::Due);
        let mut waiting = open.into_iter().filter(|(sha, open)| waits(open, sha)).map(|(sha, _)| sha);
        match wanted.plan.queue {
            Queue::Latest => waiting.next(),
            Queue::Each => waiting.next_back(),
        }
        .cloned()
    }

    fn read(&mut self, sha: &Sha, file: ConfigFile) {
        if let Some(open) = self.commits.get_mut(sha) {
            open.facts.config = Some(file);
        }
    }

    fn checked(&mut self, sha: &Sha, facts: Option<CheckFacts>, pause: Duration) {
        if let Some(open) = self.commits.get_mut(sha) {
            if facts.is_some() {
                open.facts.checks = facts;
            }
            open.checks = Turn::after(Some(pause));
        }
    }

    fn looked(&mut self, sha: &Sha, image: Built, plan: &ImagePlan) {
        if let Some(open) = self.commits.get_mut(sha) {
            // What was found is taken by its digest for ever, and the tag may move as it likes; but what is of another commit may
            // be put right.
            let found = is_of(sha, &open.facts.image, plan);
            open.looks = open.looks.saturating_add(1);
            open.image = Turn::after((!matches!(image, Built::Found { .. })).then(|| growing(IMAGE, open.looks)));
            if !found {
                open.facts.image = image;
            }
        }
    }

    /// When something is due; none: nothing is.
    fn next(&self, wanted: &Wanted, now: Timestamp) -> Option<Instant> {
        let images = |open: &Open| if matches!(open.facts.image, Built::Found { .. }) { None } else { open.image.due };
        let checks = |open: &Open| if wanted.plan.rules.when == When::Image { None } else { open.checks.due };
        let moments = self.open(wanted, now, Wake::Due).into_iter().flat_map(|(_, open)| [checks(open), images(open)]);
        moments.flatten().min()
    }
}

/// A read that failed: all of it is read again later.
pub(super) struct Failure {
    pub(super) unsaid: Unsaid,
    pub(super) until: Option<Timestamp>,
}

impl Failure {
    /// How long whoever did not say wants to be left alone; none: it did not say that, either.
    pub(super) fn pause(&self, now: Timestamp) -> Option<Duration> {
        Some(Duration::try_from(self.until?.duration_since(now)).unwrap_or_default().max(AGAIN.0))
    }

    /// What people are told when it is the last of so many in a row; none: nothing yet.
    pub(super) fn told(self, failures: u32) -> Option<Unsaid> {
        (self.unsaid.person || self.until.is_some() || failures >= TOLD).then_some(self.unsaid)
    }
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

/// Twice as long each time.
pub(super) fn growing((first, last): (Duration, Duration), times: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times.saturating_sub(1).min(16)).unwrap_or(u32::MAX)).min(last)
}
