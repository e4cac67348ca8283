//! The follower: reads the logs of canary and stable while a version rolls out, and makes blocks of them for the judge.
//!
//! One task for each log, and one that looks each second at what they heard. A log that cannot be read is silence: it holds, and blames
//! nobody. Deliberately absent: what a block means ([`crate::decide::judge`]), and lines: of each only what it counts for is kept.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc::UnboundedSender, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{
    Key,
    book::{Book, Side},
    lock,
};
use crate::{
    clock::Clock,
    decide::{
        judge::{
            bet,
            book::{Dated, Input},
            collect::{Collector, Lines, Reading, Scrape, Stratum, WARM_UP_S},
            terms::Terms,
        },
        verdict::PATIENCE,
    },
    edge::logs::PodLogs,
    model::{
        logs::LogRules,
        phase::after,
        world::{Heard, Silent},
    },
};

mod hearing;
mod reading;
mod stream;

use hearing::{Hearing, Look};
pub(super) use reading::Budget;
use stream::Stream;

/// From one look to the next.
const LOOK: Duration = Duration::from_secs(1);

/// Whose logs are read for one Delivery now.
#[derive(Clone, Debug, PartialEq)]
pub struct Followed {
    /// What of them judges.
    pub rules: Arc<LogRules>,
    /// Pods of the new side.
    pub canary: Vec<Source>,
    /// Pods of what is proven.
    pub stable: Vec<Source>,
    /// What is compared.
    pub course: Course,
}

/// A pod that writes a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub pod: String,
    /// Which of its containers; none: it has but one.
    pub container: Option<String>,
    /// Ready since then; none: its log need not be there.
    pub ready: Option<Timestamp>,
    /// How often its containers were started again.
    pub restarts: u32,
}

impl Source {
    /// From then on its lines are those of an app that has started.
    fn warm(&self) -> Option<Timestamp> {
        Some(after(self.ready?, Duration::from_secs(WARM_UP_S.into())))
    }
}

/// What is compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Course {
    /// Nothing: one side has no users, or has them all. Alerts that are absolute are heard all the same.
    Apart,
    /// Both sides serve users.
    Shared {
        /// What was agreed when the rollout began.
        terms: Box<Terms>,
        /// The traffic of the pods whose logs are read, in parts of any size: of the canary, of stable.
        traffic: (u32, u32),
    },
}

/// What the task is told.
#[derive(Clone)]
struct Told {
    followed: Followed,
    book: Arc<Mutex<Book>>,
}

/// What every follower shares.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) logs: Arc<dyn PodLogs>,
    pub(super) budget: Arc<Budget>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) nudge: UnboundedSender<Key>,
    pub(super) key: Key,
}

/// The task of one rollout; it ends with this.
pub(super) struct Follower {
    told: watch::Sender<Told>,
    known: Arc<Mutex<Heard>>,
    about: String,
    task: JoinHandle<()>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    pub(super) fn begin(parts: Parts, followed: Followed, about: &str, book: &Arc<Mutex<Book>>) -> Self {
        let hearing = Arc::new(Mutex::new(Hearing::new(followed.rules.clone(), parts.clock.now())));
        let (told, heard) = watch::channel(Told { followed, book: book.clone() });
        let known = Arc::new(Mutex::new(Heard::default()));
        let listener = Listener { parts, hearing, known: known.clone(), streams: BTreeMap::new(), open: None, told: (false, false, false) };
        Self { told, known, about: about.to_owned(), task: tokio::spawn(listener.run(heard)) }
    }

    /// Goes on for these rules in this rollout; else another must.
    pub(super) fn serves(&self, followed: &Followed, about: &str) -> bool {
        self.about == about && self.told.borrow().followed.rules == followed.rules && !self.task.is_finished()
    }

    pub(super) fn tell(&self, followed: Followed, book: &Arc<Mutex<Book>>) {
        self.told.send_if_modified(|now| {
            let changed = now.followed != followed || !Arc::ptr_eq(&now.book, book);
            *now = Told { followed, book: book.clone() };
            changed
        });
    }

    pub(super) fn known(&self) -> Heard {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Looks at what the streams heard.
struct Listener {
    parts: Parts,
    hearing: Arc<Mutex<Hearing>>,
    known: Arc<Mutex<Heard>>,
    streams: BTreeMap<String, Followee>,
    open: Option<(Terms, Collector)>,
    /// What a look at the Delivery would make of it: somebody is silent, has been so for long, and a rule took the version back.
    told: (bool, bool, bool),
}

/// The task of one log; it ends with this.
struct Followee {
    source: watch::Sender<Source>,
    task: JoinHandle<()>,
}

impl Drop for Followee {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    async fn run(mut self, mut heard: watch::Receiver<Told>) {
        let mut due = Instant::now() + LOOK;
        loop {
            let told = heard.borrow_and_update().clone();
            self.follow(&told.followed);
            self.turned(&told);
            tokio::select! {
                biased;
                changed = heard.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                () = sleep_until(due) => {}
            }
            due = Instant::now() + LOOK;
            self.look(&told);
        }
    }

    /// One task for each pod that is there, and none for one that is gone.
    fn follow(&mut self, followed: &Followed) {
        let sides = [(Side::Canary, &followed.canary), (Side::Stable, &followed.stable)];
        let wanted = || sides.iter().flat_map(|(side, sources)| sources.iter().map(move |source| (*side, source)));
        self.streams.retain(|pod, _| wanted().any(|(_, source)| source.pod == *pod));
        hear(&self.hearing).keep(|pod| wanted().any(|(_, source)| source.pod == pod));
        for (side, source) in wanted() {
            if let Some(known) = self.streams.get(&source.pod) {
                known.source.send_if_modified(|now| {
                    *now != *source && {
                        *now = source.clone();
                        true
                    }
                });
            } else {
                let (sender, told) = watch::channel(source.clone());
                let stream = Stream::new(&self.parts, (side, told), &followed.rules, self.hearing.clone());
                self.streams.insert(source.pod.clone(), Followee { source: sender, task: tokio::spawn(stream.run()) });
            }
        }
    }

    /// What is compared may have changed: a block belongs to one share of the traffic.
    fn turned(&mut self, told: &Told) {
        let now = self.parts.clock.now();
        let terms = match &told.followed.course {
            Course::Shared { terms, .. } => Some(terms),
            Course::Apart => None,
        };
        if self.open.as_ref().is_some_and(|(open, _)| terms.is_none_or(|terms| **terms != *open))
            && let Some((_, mut collector)) = self.open.take()
        {
            put(&told.book, collector.cut(now, false));
        }
        if let (Some(terms), None) = (terms, &self.open) {
            self.open = Some(((**terms).clone(), Collector::new(&of_logs(terms), false, now)));
        }
    }

    fn look(&mut self, told: &Told) {
        let now = self.parts.clock.now();
        let followed = &told.followed;
        let (look, silent) = {
            let mut hearing = hear(&self.hearing);
            let silent = hearing.silent(followed, now);
            (hearing.look((count(&followed.canary), count(&followed.stable)), silent.is_none(), now), silent)
        };
        let blocks = match (&followed.course, &mut self.open) {
            (Course::Shared { traffic, .. }, Some((_, collector))) if silent.is_none() => {
                scraped(collector, now, &look, *traffic, followed)
            }
            _ => Vec::new(),
        };
        let weighty =
            blocks.iter().any(|dated| matches!(&dated.input, Input::Logs(lines) if lines.iter().any(|(_, t)| t.canary.failed > 0)));
        put(&told.book, blocks);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.alarm = look.alarm;
        known.silent = silent.map(|why| {
            let since = known.silent.as_ref().map_or(now, |silent| silent.since);
            Silent { since, why }
        });
        let lasts = known.silent.as_ref().is_some_and(|silent| after(silent.since, PATIENCE) <= now);
        let told = (known.silent.is_some(), lasts, known.alarm.is_some());
        drop(known);
        if std::mem::replace(&mut self.told, told) != told || weighty {
            // Nobody listens any more: then nobody needs to be told.
            let _ = self.parts.nudge.send(self.parts.key.clone());
        }
    }
}

/// The terms by which lines alone are collected. Faults that are logged hit pods as well as requests, so the larger share is the fair one.
fn of_logs(terms: &Terms) -> Terms {
    Terms { errors: None, latency: None, by_pods: true, ..terms.clone() }
}

/// One look at both sides.
fn scraped(collector: &mut Collector, now: Timestamp, look: &Look, traffic: (u32, u32), followed: &Followed) -> Vec<Dated> {
    let served = |parts: u32| Reading { side: bet::Side::new(parts, 0), ..Reading::default() };
    let strata = [Stratum { name: "", canary: served(traffic.0), stable: served(traffic.1) }];
    let line = |(signature, [canary, stable]): &'_ (String, [u32; 2])| (signature.clone(), *canary, *stable);
    let lines: Vec<(String, u32, u32)> = look.lines.iter().map(line).collect();
    let lines: Vec<Lines<'_>> =
        lines.iter().map(|(signature, canary, stable)| Lines { signature, canary: *canary, stable: *stable }).collect();
    collector.scrape(now, Scrape { strata: &strata, lines: &lines, pods: (count(&followed.canary), count(&followed.stable)) })
}

fn count(sources: &[Source]) -> u32 {
    crate::model::world::count(sources.iter().filter(|source| source.ready.is_some()))
}

fn put(book: &Mutex<Book>, blocks: Vec<Dated>) {
    if !blocks.is_empty() {
        lock(book).blocks(blocks);
    }
}

fn hear(hearing: &Mutex<Hearing>) -> std::sync::MutexGuard<'_, Hearing> {
    hearing.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
