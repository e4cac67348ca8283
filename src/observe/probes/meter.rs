//! The meter: reads what the pods of one Delivery count of their users' requests, and makes blocks of it for the judge.
//!
//! Once a second while canary and stable share the traffic; at rest every few seconds, to know what is usual: how long bursts last, which requests
//! are the busiest, where slow begins. Deliberately absent: what a block means ([`crate::decide::judge`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::join_all;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc::UnboundedSender, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{Key, book::Book, lock};
use crate::{
    clock::Clock,
    decide::judge::{
        book::{Dated, Input},
        collect::{Collector, Reading, Scrape, Stratum, WARM_UP_S},
        terms::{STRATA, Terms},
    },
    decide::verdict::PATIENCE,
    edge::{probe::Prober, prometheus::Series},
    model::{
        measure::{Counted, Counters, From, Measures, exposition::Sample},
        phase::after,
        probe::Vars,
        version::WorkloadName,
        world::{Meters, Silent},
    },
};

mod history;
mod kept;

use history::{History, STEP_S};

/// While both sides share the traffic: a block for promotion lasts two of them.
const ROLLING: Duration = Duration::from_secs(1);
/// At rest.
const RESTING: Duration = Duration::from_secs(STEP_S as u64);

/// What is to be counted for one Delivery now.
#[derive(Clone, Debug, PartialEq)]
pub struct Metered {
    /// What of the metrics.
    pub measures: Arc<Measures>,
    /// What questions to somebody who keeps the numbers are filled in from; why that cannot be had, in a sentence.
    pub secrets: Result<Vars, String>,
    /// Ready pods of the new side.
    pub canary: Vec<Pod>,
    /// Ready pods of what is proven.
    pub stable: Vec<Pod>,
    /// What is compared.
    pub course: Course,
}

/// A pod that counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its name.
    pub pod: String,
    /// Where its metrics are.
    pub at: SocketAddr,
    /// Ready since then.
    pub since: Timestamp,
    /// Its workload, where there are several.
    pub of: Option<WorkloadName>,
}

/// What is compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Course {
    /// Nothing: stable alone serves, and is learnt from.
    Rest,
    /// Nothing: the canary has none of the users, or what serves is not one side or the other.
    Beside,
    /// Both sides serve users, by these terms; or the canary serves all.
    Shared {
        /// What was agreed when the rollout began.
        terms: Box<Terms>,
        /// All of the traffic is on the canary.
        whole: bool,
    },
}

/// What the task is told.
#[derive(Clone)]
struct Told {
    metered: Metered,
    /// Which rollout, or which version at rest.
    about: String,
    book: Arc<Mutex<Book>>,
}

/// The task of one Delivery; it ends with this.
pub(super) struct Meter {
    told: watch::Sender<Told>,
    known: Arc<Mutex<Meters>>,
    task: JoinHandle<()>,
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Meter {
    pub(super) fn begin(parts: Parts, metered: Metered, about: &str, book: &Arc<Mutex<Book>>) -> Self {
        let (told, heard) = watch::channel(Told { metered, about: about.to_owned(), book: book.clone() });
        let known = Arc::new(Mutex::new(Meters::default()));
        let reader = Reader {
            parts,
            known: known.clone(),
            before: BTreeMap::new(),
            history: History::default(),
            open: None,
            asked: None,
            failing: <_>::default(),
            told: (false, false, false),
        };
        Self { told, known, task: tokio::spawn(reader.run(heard)) }
    }

    /// Goes on for these metrics; else another must.
    pub(super) fn serves(&self, metered: &Metered) -> bool {
        self.told.borrow().metered.measures == metered.measures && !self.task.is_finished()
    }

    pub(super) fn tell(&self, metered: Metered, about: &str, book: &Arc<Mutex<Book>>) {
        self.told.send_if_modified(|now| {
            let changed = now.metered != metered || now.about != about || !Arc::ptr_eq(&now.book, book);
            *now = Told { metered, about: about.to_owned(), book: book.clone() };
            changed
        });
    }

    pub(super) fn known(&self) -> Meters {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// What every meter shares.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) prober: Arc<dyn Prober>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) nudge: UnboundedSender<Key>,
    pub(super) key: Key,
}

/// Reads, and remembers what was read before.
struct Reader {
    parts: Parts,
    known: Arc<Mutex<Meters>>,
    before: BTreeMap<String, Counted>,
    history: History,
    open: Option<Open>,
    /// When somebody who keeps the numbers was asked at rest.
    asked: Option<Timestamp>,
    /// What is remembered of a rollout while nothing is compared in it: where requests have failed.
    failing: (String, BTreeSet<String>),
    /// What a look at the Delivery would make of it: it is read, somebody shows nothing, and has done so for long.
    told: (bool, bool, bool),
}

/// Blocks that are being filled, and for what.
struct Open {
    about: String,
    terms: Terms,
    whole: bool,
    collector: Collector,
    /// Pods of the canary on which requests have failed.
    failing: BTreeSet<String>,
    /// What somebody else keeps is asked for from this moment on.
    from: Timestamp,
}

/// One look at all pods.
struct Sight<'a> {
    now: Timestamp,
    read: BTreeMap<String, Counted>,
    canary: Vec<Grown<'a>>,
    stable: Vec<Grown<'a>>,
    /// Pods of the canary on which requests may have failed.
    failing: Vec<String>,
    /// Who shows nothing, and why.
    silent: Option<String>,
}

/// What one pod has counted since the look before.
struct Grown<'a> {
    pod: &'a Pod,
    readings: BTreeMap<String, Reading>,
}

impl Reader {
    async fn run(mut self, mut heard: watch::Receiver<Told>) {
        let mut last: Option<Instant> = None;
        loop {
            let told = heard.borrow_and_update().clone();
            self.turned(&told);
            let every = every(&told.metered);
            let due = last.map_or_else(Instant::now, |last| last + every);
            tokio::select! {
                biased;
                changed = heard.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                () = sleep_until(due) => {}
            }
            last = Some(Instant::now());
            self.look(&told).await;
        }
    }

    /// What is compared may have changed: blocks belong to one course of one rollout.
    fn turned(&mut self, told: &Told) {
        let now = self.parts.clock.now();
        let goes_on = |open: &Open| matches!(&told.metered.course, Course::Shared { terms, whole } if open.about == told.about && *whole == open.whole && **terms == open.terms);
        if self.open.as_ref().is_some_and(|open| !goes_on(open))
            && let Some(mut open) = self.open.take()
            && open.about == told.about
        {
            // Whether all of the traffic is on it is not the meter's to say.
            let whole = open.whole;
            put(&told.book, open.collector.cut(now, whole));
            self.failing = (open.about, open.failing);
        }
        if let (Course::Shared { terms, whole }, None) = (&told.metered.course, &self.open) {
            let collector = Collector::new(terms, *whole, now);
            let (about, failing) = std::mem::take(&mut self.failing);
            let failing = if about == told.about { failing } else { BTreeSet::new() };
            self.open = Some(Open { about: told.about.clone(), terms: (**terms).clone(), whole: *whole, collector, failing, from: now });
        }
    }

    async fn look(&mut self, told: &Told) {
        let metered = &told.metered;
        let sight = match &*metered.measures {
            Measures::Counters(counters) => self.counted(metered, counters).await,
            Measures::Kept(kept) => self.kept(metered, kept).await,
        };
        let Sight { now, mut read, canary, stable, failing, silent } = sight;
        if metered.course == Course::Rest && is_scraped(metered) {
            let each = stable.iter().map(|grown| (grown.pod.pod.as_str(), grown.readings.values().map(|reading| reading.side)));
            self.history.add(now, each);
        }
        let known = is_counted(metered) || !(canary.is_empty() && stable.is_empty());
        // A block is over when something is known of its end.
        if let Some(open) = self.open.as_mut().filter(|_| known) {
            open.failing.extend(failing);
            let blocks = scraped(&mut open.collector, now, &canary, &stable);
            let weighty = blocks.iter().any(is_weighty);
            put(&told.book, blocks);
            if weighty {
                self.nudge();
            }
        }
        drop((stable, canary));
        self.learn(metered, &read, silent, now);
        self.before.retain(|pod, _| metered.stable.iter().chain(&metered.canary).any(|known| known.pod == *pod));
        self.before.append(&mut read);
    }

    /// What the pods count themselves.
    async fn counted<'a>(&self, metered: &'a Metered, counters: &Counters) -> Sight<'a> {
        let pods: Vec<&Pod> = metered.stable.iter().chain(&metered.canary).collect();
        let pages = match &counters.from {
            From::Scrape { path, .. } => join_all(pods.iter().map(|pod| self.page(counters, path, pod))).await,
            From::Prometheus { .. } => self.series(counters, &pods).await,
        };
        let now = self.parts.clock.now();
        let mut read = BTreeMap::new();
        let mut wrong = BTreeMap::new();
        for (pod, page) in pods.iter().zip(pages) {
            match page {
                Ok(counted) => drop(read.insert(pod.pod.clone(), counted)),
                Err(why) => drop(wrong.insert(pod.pod.clone(), why)),
            }
        }
        let edges = edges(&metered.course);
        let stable = self.grown(&metered.stable, &read, edges, now);
        let canary = self.grown(&metered.canary, &read, edges, now);
        let fails = |grown: &&Grown<'_>| grown.readings.values().any(|reading| reading.side.failed > 0);
        let failing = canary.iter().filter(fails).map(|grown| grown.pod.pod.clone()).collect();
        let silent = silent(metered, &read, &wrong);
        Sight { now, read, canary, stable, failing, silent }
    }

    async fn page(&self, measures: &Counters, path: &str, pod: &Pod) -> Result<Counted, String> {
        let page = self.parts.prober.metrics(pod.at, path).await?;
        measures.count(&page).map(|counted| named(counted, pod)).ok_or_else(|| format!("have no counter {} ({path})", measures.counter))
    }

    /// What Prometheus knows of each of these pods.
    async fn series(&self, measures: &Counters, pods: &[&Pod]) -> Vec<Result<Counted, String>> {
        let buckets = measures.buckets();
        let names = std::iter::once(measures.counter.as_str()).chain(buckets.as_deref()).collect::<Vec<_>>().join("|");
        let of: Vec<&str> = pods.iter().map(|pod| pod.pod.as_str()).collect();
        let namespace = self.parts.key.namespace.as_deref().unwrap_or_default();
        // Names of objects have no letter that is one of an expression, but for the dot, which stands for itself, too.
        let query = format!("{{__name__=~\"{names}\",namespace=\"{namespace}\",pod=~\"{}\"}}", of.join("|"));
        let found = match self.parts.prober.series(&query).await {
            Ok(found) => found,
            Err(why) => return pods.iter().map(|_| Err(why.clone())).collect(),
        };
        let samples = |pod: &Pod, name: Option<&str>| {
            let (pod, name) = (pod.pod.clone(), name.map(str::to_owned));
            let label = |series: &Series, label: &str| series.labels.get(label).cloned();
            let found =
                found.iter().filter(move |s| label(s, "pod").as_ref() == Some(&pod) && name.is_some() && label(s, "__name__") == name);
            found.map(|s| Sample::new(s.labels.iter().map(|(label, value)| (label.as_str(), value.as_str())), s.value))
        };
        let each = pods.iter().map(|pod| {
            let counted = measures.counted(samples(pod, Some(&measures.counter)), samples(pod, buckets.as_deref()));
            let none = || format!("have no counter {} in Prometheus (by the labels namespace and pod)", measures.counter);
            counted.map(|counted| named(counted, pod)).ok_or_else(none)
        });
        each.collect()
    }

    /// What these pods have counted since the look before; a young one counts neither way.
    fn grown<'a>(&self, pods: &'a [Pod], read: &BTreeMap<String, Counted>, edges: Option<[f64; 3]>, now: Timestamp) -> Vec<Grown<'a>> {
        let warm = |pod: &&Pod| after(pod.since, Duration::from_secs(WARM_UP_S.into())) <= now;
        let since = |pod: &'a Pod| {
            let readings = read.get(&pod.pod)?.since(self.before.get(&pod.pod)?, edges)?;
            Some(Grown { pod, readings })
        };
        pods.iter().filter(warm).filter_map(since).collect()
    }

    /// What is known for the next rollout.
    fn learn(&mut self, metered: &Metered, read: &BTreeMap<String, Counted>, silent: Option<String>, now: Timestamp) {
        let usual = (metered.course == Course::Rest && is_scraped(metered)).then(|| self.history.usual(now)).flatten();
        let mut all = Counted::default();
        let rests = metered.course == Course::Rest;
        metered.stable.iter().filter(|_| rests).filter_map(|pod| read.get(&pod.pod)).for_each(|counted| all.add(counted));
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if rests && !read.is_empty() {
            known.strata = all.busiest().into_iter().take(STRATA).collect();
            let buckets = all.buckets();
            let bound = |at: usize| buckets.get(at).map_or(0.0, |(bound, _)| *bound);
            known.edges = crate::decide::judge::latency::edges(&buckets).map(|edges| edges.map(bound));
            known.looked = true;
        }
        known.usual = usual.or(known.usual);
        known.failing = self.open.as_ref().map_or(self.failing.1.len(), |open| open.failing.len());
        known.silent = silent.map(|why| {
            let since = known.silent.as_ref().map_or(now, |silent| silent.since);
            Silent { since, why }
        });
        let lasts = known.silent.as_ref().is_some_and(|silent| after(silent.since, PATIENCE) <= now);
        let told = (known.looked, known.silent.is_some(), lasts);
        drop(known);
        if std::mem::replace(&mut self.told, told) != told {
            self.nudge();
        }
    }

    fn nudge(&self) {
        // Nobody listens any more: then nobody needs to be told.
        let _ = self.parts.nudge.send(self.parts.key.clone());
    }
}

/// How often it is looked. Prometheus looks at each pod at a moment of its own: two of its looks are compared, so that each pod has as many
/// in them.
fn every(metered: &Metered) -> Duration {
    match &*metered.measures {
        Measures::Counters(Counters { from: From::Prometheus { every }, .. }) => *every * 2,
        Measures::Counters(_) if metered.course == Course::Rest => RESTING,
        Measures::Counters(_) => ROLLING,
        Measures::Kept(kept) => kept.every,
    }
}

/// Something in it may change what is decided: a block in which requests were counted.
fn is_weighty(dated: &Dated) -> bool {
    match &dated.input {
        Input::Errors(strata) => !strata.is_empty(),
        Input::Alone(side) => side.failed > 0,
        Input::Mirror { .. }
        | Input::Latency(_)
        | Input::Logs(_)
        | Input::Platform { .. }
        | Input::Pair(_)
        | Input::Whole(_)
        | Input::Stage => false,
    }
}

fn edges(course: &Course) -> Option<[f64; 3]> {
    match course {
        Course::Shared { terms, .. } => terms.edges,
        Course::Rest | Course::Beside => None,
    }
}

/// Who shows nothing, and why. Only those who serve users are missed.
fn silent(metered: &Metered, read: &BTreeMap<String, Counted>, wrong: &BTreeMap<String, String>) -> Option<String> {
    let shared = matches!(metered.course, Course::Shared { .. });
    let whole = matches!(metered.course, Course::Shared { whole: true, .. });
    let missed = |side: &str, pods: &[Pod]| {
        let nobody = !pods.is_empty() && !pods.iter().any(|pod| read.contains_key(&pod.pod));
        let why = pods.iter().find_map(|pod| Some((pod, wrong.get(&pod.pod)?)))?;
        nobody.then(|| format!("pod {} of {side}: its metrics {}", why.0.pod, why.1))
    };
    let stable = || missed("stable", &metered.stable).filter(|_| !whole);
    let canary = || missed("the canary", &metered.canary).filter(|_| shared);
    stable().or_else(canary)
}

/// Whoever answers has all numbers up to now.
fn is_counted(metered: &Metered) -> bool {
    matches!(&*metered.measures, Measures::Counters(_))
}

/// Its numbers are those of the moment.
fn is_scraped(metered: &Metered) -> bool {
    matches!(&*metered.measures, Measures::Counters(Counters { from: From::Scrape { .. }, .. }))
}

fn named(counted: Counted, pod: &Pod) -> Counted {
    match &pod.of {
        Some(workload) => counted.of(workload),
        None => counted,
    }
}

fn put(book: &Mutex<Book>, blocks: Vec<Dated>) {
    if !blocks.is_empty() {
        lock(book).blocks(blocks);
    }
}

/// One look at both sides.
fn scraped(collector: &mut Collector, now: Timestamp, canary: &[Grown<'_>], stable: &[Grown<'_>]) -> Vec<Dated> {
    let (on_canary, on_stable) = (summed(canary), summed(stable));
    let names: BTreeSet<&str> = on_canary.keys().chain(on_stable.keys()).copied().collect();
    let reading = |side: &BTreeMap<&str, Reading>, name: &str| side.get(name).copied().unwrap_or_default();
    let strata: Vec<Stratum<'_>> =
        names.iter().map(|name| Stratum { name, canary: reading(&on_canary, name), stable: reading(&on_stable, name) }).collect();
    let count = |pods: &[Grown<'_>]| u32::try_from(pods.len()).unwrap_or(u32::MAX);
    collector.scrape(now, Scrape { strata: &strata, lines: &[], pods: (count(canary), count(stable)) })
}

fn summed<'a>(pods: &'a [Grown<'_>]) -> BTreeMap<&'a str, Reading> {
    let mut all = BTreeMap::<&str, Reading>::new();
    for (name, reading) in pods.iter().flat_map(|grown| &grown.readings) {
        all.entry(name).or_default().add(*reading);
    }
    all
}

#[cfg(test)]
mod tests;
