//! The probe board: asks production in the background and keeps what came of it, one small book of results per Delivery.
//!
//! Every observe says anew what is to be asked ([`ProbeBoard::watch`]) and reads what is known ([`ProbeBoard::read`]). What a
//! result means for a rollout is decided elsewhere. The board begins empty with each leadership and keeps nothing on disk.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use prometheus::{IntCounterVec, Opts};
use tokio::sync::{mpsc::UnboundedSender, watch};

use crate::{
    api::delivery::Delivery,
    clock::Clock,
    decide::judge::probes::ProbeTerms,
    edge::{
        logs::PodLogs,
        probe::{Ledger, Page, Prober, Suites},
    },
    model::{
        external::{Question, Word},
        probe::{Check, Scheme},
        query::{PlannedQuery, Queried},
        route::Testers,
        world::Probes,
    },
};

mod asking;
mod book;
mod contract;
mod door;
pub mod falls;
pub mod follow;
pub mod meter;
pub mod places;
mod query;
mod round;
mod running;
mod steady;
mod sweep;
mod word;

use asking::{Asking, Known, Parts};
use book::Book;
use falls::{Fallible, Falls};
use follow::{Budget, Followed, Follower};
use meter::{Meter, Metered};
use places::Places;
use running::Running;

/// Of all logs together, in bytes a second: twenty Deliveries that roll out at once with 1.5 MiB each.
const LOGS: usize = 30 * 1024 * 1024;

/// Which Delivery.
pub type Key = ObjectRef<Delivery>;

/// What is to be asked for one Delivery now.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Watch {
    /// The rollout in flight, or the version at rest: results about another one are dropped.
    pub about: String,
    /// The stage of the rollout: another one begins with a round at once.
    pub stage: String,
    /// Traffic is off the canary and waits for more to be known: rounds follow soon.
    pub eager: bool,
    /// Results end after this: those up to here are counted already, maybe by a leader whose clock is ahead of ours.
    pub after: Option<Timestamp>,
    /// Each by its own schedule.
    pub probes: Vec<Watched>,
    /// What the app counts of its users' requests, if it is judged by them.
    pub meter: Option<Metered>,
    /// Whose word is asked for.
    pub questions: Vec<Question>,
    /// What is shared, and asked for.
    pub queries: Vec<PlannedQuery>,
    /// Whose logs are read, if it is judged by them.
    pub follower: Option<Followed>,
    /// Whose restarts are counted.
    pub fallible: Fallible,
}

/// One probe and whom it asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// What is asked. Its name is unique in the Delivery.
    pub check: Arc<Check>,
    /// From the beginning of one round to the next.
    pub every: Duration,
    /// When it was made or changed, as the API server says.
    pub changed: Option<Timestamp>,
    /// How its rounds begin in each stage of a rollout.
    pub burst: Option<Burst>,
    /// Its results are evidence. Else they are only counted.
    pub votes: bool,
    /// Pods are asked in every round, also where the route is.
    pub pods: bool,
    /// Answers of the two sides are compared, where the probe says so: the new side is meant to go forward.
    pub compares: bool,
    /// Where its runs are written down, if they may have to be put right.
    pub page: Option<Arc<Page>>,
    /// It is to go by the routes of this Service.
    pub route_of: Option<String>,
    /// Whom.
    pub asks: Asks,
}

/// Rounds close together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// So many.
    pub runs: u32,
    /// From the beginning of one to the next.
    pub every: Duration,
}

/// Whom a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks {
    /// In each round every canary pod, beside a stable pod at the same time.
    Pair {
        /// Ready pods of the new side.
        canary: Vec<Target>,
        /// Ready pods of the other.
        stable: Vec<Target>,
        /// And the way by the route, while there is one.
        door: Option<Door>,
    },
    /// In each round one of these, in turn.
    Rest {
        /// Ready pods of what serves.
        pods: Vec<Target>,
    },
}

/// A pod that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub pod: String,
    /// Where.
    pub at: SocketAddr,
}

/// Where customers come in, while those who test can be told from the others there and the others reach stable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// The Gateway's.
    pub at: SocketAddr,
    /// How its listener is spoken to.
    pub scheme: Scheme,
    /// What customers ask for.
    pub host: String,
    /// By what those who test are known.
    pub tester: Testers,
    /// The canary has a share of the others, too.
    pub shared: bool,
    /// It is so since then.
    pub since: Timestamp,
}

/// By what it looks and asks.
#[derive(Clone)]
pub struct Edges {
    /// Runs the flows of probes, and reads metrics.
    pub prober: Arc<dyn Prober>,
    /// Where runs that may change production are written down.
    pub ledger: Arc<dyn Ledger>,
    /// Runs suites.
    pub suites: Arc<dyn Suites>,
    /// Reads logs.
    pub logs: Arc<dyn PodLogs>,
}

/// Asks in the background, for every Delivery that is watched.
pub struct ProbeBoard {
    edges: Edges,
    /// Of the logs of all Deliveries.
    budget: Arc<Budget>,
    clock: Arc<dyn Clock>,
    nudge: UnboundedSender<Key>,
    runs: IntCounterVec,
    sweeps: IntCounterVec,
    places: Places,
    watched: Mutex<HashMap<Key, Slot>>,
}

/// One Delivery.
struct Slot {
    about: String,
    stage: String,
    /// The probes that vote.
    voting: Vec<ProbeTerms>,
    /// When each probe was made or changed.
    changed: BTreeMap<String, Timestamp>,
    book: Arc<Mutex<Book>>,
    running: BTreeMap<String, Running>,
    meter: Option<Meter>,
    asking: BTreeMap<String, Asking<Question, Option<Word>>>,
    queried: BTreeMap<String, Asking<PlannedQuery, Queried>>,
    follower: Option<Follower>,
    falls: Falls,
}

impl ProbeBoard {
    /// An empty board. `nudge` is told of a Delivery whose results are worth a look; runs that may change production are written down in
    /// the ledger.
    #[must_use]
    pub fn new(edges: Edges, clock: Arc<dyn Clock>, nudge: UnboundedSender<Key>) -> Self {
        let runs =
            counter("probe_runs_total", "Probe flows by what came of them: pass, or the class of the failure.", &["via", "side", "result"]);
        let sweeps =
            counter("probe_sweeps_total", "Sweeps for what runs of probes have left, by what came of them: done, or left.", &["result"]);
        let budget = Arc::new(Budget::a_second(LOGS));
        Self { edges, budget, clock, nudge, runs, sweeps, places: Places::of(places::SUITES, places::LOAD), watched: Mutex::default() }
    }

    /// The same, which runs so many suites at once, of whichever Deliveries, and loads that send so many requests a second to either side.
    #[must_use]
    pub fn with_suites(self, most: u16, load: u32) -> Self {
        Self { places: Places::of(most, load), ..self }
    }

    /// Counts every flow by way (pods, route), side (canary, stable, rest) and what came of it (pass, or the class). To be registered.
    #[must_use]
    pub fn metrics(&self) -> IntCounterVec {
        self.runs.clone()
    }

    /// Counts every sweep by what came of it (done, left). To be registered.
    #[must_use]
    pub fn sweeps(&self) -> IntCounterVec {
        self.sweeps.clone()
    }

    /// Says what is to be asked from now on. The same again changes nothing.
    pub fn watch(&self, key: &Key, wanted: Watch) {
        let mut all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = all.entry(key.clone()).or_insert_with(|| Slot::empty(&wanted));
        if slot.about != wanted.about {
            // The tasks first: none of them may write into the new book.
            let outlives = lock(&slot.book).what_outlives();
            // What the meter has read before is what it measures by.
            *slot = Slot { meter: slot.meter.take(), ..Slot::empty(&wanted) };
            lock(&slot.book).goes_on_with(outlives, |known| !wanted.stage.is_empty() || known == wanted.about);
        }
        if slot.stage != wanted.stage {
            slot.running.clear();
            slot.stage.clone_from(&wanted.stage);
        }
        slot.changed = wanted.probes.iter().filter_map(|p| Some((p.check.name.clone(), p.changed?))).collect();
        slot.voting = wanted.probes.iter().filter(|p| p.votes).map(|p| terms(&p.check)).collect();
        lock(&slot.book).begin_after(wanted.after);
        if wanted.stage.is_empty() {
            lock(&slot.book).knows(&wanted.about);
        }
        slot.running.retain(|name, running| {
            let wanted = wanted.probes.iter().find(|p| p.check.name == *name);
            if wanted.is_some_and(|p| !running.asks_for(p)) {
                lock(&slot.book).begins(name);
            }
            wanted.is_some_and(|p| running.serves(p))
        });
        slot.meter = wanted.meter.map(|metered| self.metered(key, slot.meter.take(), metered, (&slot.about, &slot.book)));
        let named = |question: &Question| question.name.clone();
        self.ask(key, &mut slot.asking, (wanted.questions, named), word::ask);
        self.ask(key, &mut slot.queried, (wanted.queries, |query: &PlannedQuery| query.name.clone()), query::ask);
        slot.follower = wanted.follower.map(|followed| self.follower(key, slot.follower.take(), followed, (&slot.about, &slot.book)));
        self.count_falls(key, slot, &wanted.fallible);
        for probe in wanted.probes {
            match slot.running.get(&probe.check.name) {
                Some(running) => running.tell(probe, wanted.eager),
                None => {
                    slot.running.insert(probe.check.name.clone(), self.start(key, &slot.book, probe, wanted.eager));
                }
            }
        }
    }

    /// What is known.
    #[must_use]
    pub fn read(&self, key: &Key) -> Probes {
        let all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = all.get(key) else { return Probes::default() };
        let mut book = lock(&slot.book);
        let turned = book.turned();
        let next = book.next(slot.running.keys());
        let by_route = slot.running.values().filter_map(|running| running.by_route(&book)).collect();
        let voting = slot.voting.iter().filter(|probe| !book.is_mute(&probe.name)).map(|probe| book.terms(probe)).collect();
        Probes {
            meters: slot.meter.as_ref().map(Meter::known),
            logs: slot.follower.as_ref().map(Follower::known),
            voting,
            samples: book.samples(),
            rest: book.rest(),
            next,
            by_route,
            stopped: book.all_stopped(),
            barred: book.all_barred(),
            not_started: book.all_waiting(),
            mute: book.all_mute(),
            turned,
            untried: slot.changed.iter().filter(|(probe, _)| book.untried(probe)).map(|(probe, at)| (probe.clone(), *at)).collect(),
        }
    }

    /// What others say whose word is asked for, by their names; those who have not said anything are absent.
    #[must_use]
    pub fn words(&self, key: &Key) -> BTreeMap<String, Word> {
        let all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let asking = all.get(key).into_iter().flat_map(|slot| &slot.asking);
        asking.filter_map(|(name, asking)| Some((name.clone(), asking.known()?))).collect()
    }

    /// What is known of the queries of what is shared, by their names.
    #[must_use]
    pub fn queried(&self, key: &Key) -> BTreeMap<String, Queried> {
        let all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let queried = all.get(key).into_iter().flat_map(|slot| &slot.queried);
        queried.map(|(name, asking)| (name.clone(), asking.known())).collect()
    }

    /// A run of this probe was put right after its process had gone, or not, and then what is left of it.
    pub fn put_right(&self, key: &Key, probe: &str, left: Option<&str>) {
        let all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(key).is_some_and(|slot| lock(&slot.book).left(probe, left)) {
            // Nobody listens any more: then nobody needs to be told.
            let _ = self.nudge.send(key.clone());
        }
    }

    /// The Delivery is gone.
    pub fn forget(&self, key: &Key) {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Leadership is gone: another asks now, and what we know is no longer of use.
    pub fn forget_all(&self) {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn metered(&self, key: &Key, meter: Option<Meter>, metered: Metered, (about, book): (&str, &Arc<Mutex<Book>>)) -> Meter {
        if let Some(meter) = meter.filter(|meter| meter.serves(&metered)) {
            meter.tell(metered, about, book);
            return meter;
        }
        let parts =
            meter::Parts { prober: self.edges.prober.clone(), clock: self.clock.clone(), nudge: self.nudge.clone(), key: key.clone() };
        Meter::begin(parts, metered, about, book)
    }

    /// Asks these, and nothing else; what is asked already is not asked anew.
    fn ask<Q, A, F>(
        &self,
        key: &Key,
        asking: &mut BTreeMap<String, Asking<Q, A>>,
        (questions, named): (Vec<Q>, impl Fn(&Q) -> String),
        ask: impl Fn(Parts, Q, Known<A>) -> F,
    ) where
        Q: Clone + PartialEq,
        A: Clone + Default,
        F: Future<Output = ()> + Send + 'static,
    {
        asking.retain(|name, _| questions.iter().any(|question| named(question) == *name));
        for question in questions {
            let name = named(&question);
            if asking.get(&name).is_some_and(|asking| asking.asks(&question)) {
                continue;
            }
            let parts = Parts { prober: self.edges.prober.clone(), clock: self.clock.clone(), nudge: self.nudge.clone(), key: key.clone() };
            let again = asking.remove(&name).is_some();
            asking.insert(name, Asking::begin(parts, question, again, &ask));
        }
    }

    fn follower(&self, key: &Key, before: Option<Follower>, followed: Followed, (about, book): (&str, &Arc<Mutex<Book>>)) -> Follower {
        if let Some(goes_on) = before.filter(|before| before.serves(&followed, about)) {
            goes_on.tell(followed, book);
            return goes_on;
        }
        let (logs, budget) = (self.edges.logs.clone(), self.budget.clone());
        let parts = follow::Parts { logs, budget, clock: self.clock.clone(), nudge: self.nudge.clone(), key: key.clone() };
        Follower::begin(parts, followed, about, book)
    }

    /// A minute in which a pod fell counts when it is over: then somebody has to look.
    fn count_falls(&self, key: &Key, slot: &mut Slot, fallible: &Fallible) {
        let (told, later) = slot.falls.look(fallible, self.clock.now());
        if let Some(told) = told {
            lock(&slot.book).blocks(vec![told]);
        }
        if later {
            let (nudge, key) = (self.nudge.clone(), key.clone());
            tokio::spawn(async move {
                tokio::time::sleep(falls::OVER).await;
                // Nobody listens any more: then nobody needs to be told.
                let _ = nudge.send(key);
            });
        }
    }

    fn start(&self, key: &Key, book: &Arc<Mutex<Book>>, probe: Watched, eager: bool) -> Running {
        let (probe, told) = watch::channel((probe, eager));
        let asker = round::Asker {
            prober: self.edges.prober.clone(),
            ledger: self.edges.ledger.clone(),
            suites: self.edges.suites.clone(),
            clock: self.clock.clone(),
            nudge: self.nudge.clone(),
            runs: self.runs.clone(),
            sweeps: self.sweeps.clone(),
            book: book.clone(),
            places: self.places.clone(),
            key: key.clone(),
        };
        Running::begin(probe, tokio::spawn(asker.run(told)))
    }
}

impl Slot {
    fn empty(wanted: &Watch) -> Self {
        Self {
            about: wanted.about.clone(),
            stage: wanted.stage.clone(),
            voting: Vec::new(),
            changed: BTreeMap::new(),
            book: Arc::default(),
            running: BTreeMap::new(),
            meter: None,
            asking: BTreeMap::new(),
            queried: BTreeMap::new(),
            follower: None,
            falls: Falls::default(),
        }
    }
}

/// What is known of a probe by its spec alone.
fn terms(check: &Check) -> ProbeTerms {
    ProbeTerms { name: check.name.clone(), mutating: check.mutates(), suite: check.suite.is_some(), ..ProbeTerms::default() }
}

fn lock(book: &Mutex<Book>) -> std::sync::MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::expect_used, reason = "the names and the labels are constants that are valid")]
fn counter(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("a valid metric")
}

#[cfg(test)]
mod tests;
