//! Runs a probe flow against one address and says what came of it, in one sentence with the numbers.
//!
//! The address is given (a pod's); the `Host` header and the name in the certificate are the real ones. Deliberately
//! absent: name lookup, proxies, redirects (they would leave the pod), retries (they would hide failures), cookies, and any rule
//! about what a failure means for a rollout. What the target answers is looked into where a step says so, and is gone with the run: a status
//! code and timings leave, and, where a check asks for it, the one header by which an answer says which version gave it.

mod exchange;
mod fault;
mod flow;
mod knock;
mod lag;
mod ledger;
mod line;
mod reach;
mod scrape;
mod suites;
mod sweep;
mod trust;
mod word;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::prometheus::{Prometheus, Series};
use crate::clock::Stopwatch;
use crate::model::external::Question;
use crate::model::measure::kept;
use crate::model::probe::{Check, Class, Outcome, Run, RunName, Scheme};

use fault::rounded;
use flow::{Ended, Flow};
use lag::Lag;
#[cfg(test)]
pub(crate) use ledger::memory::InMemory;
pub use ledger::{Alive, Entry, Ledger, Page, Room, Unwritten, Watch};
use line::Line;
pub use reach::Reach;
use scrape::Pages;
pub use suites::Suites;
#[cfg(test)]
pub(crate) use suites::scripted::Scripted as ScriptedSuites;
pub use sweep::Swept;
use trust::Trust;
pub use word::Answer;

/// Flows at once in this process. 8 × (128 KiB read buffer + 64 KiB of body to send) = 1.5 MiB, and 8 × ~1 ms of CPU for a TLS
/// handshake = 8 ms, well under [`LAG`]: flows do not make each other late. 200 at once did (research 05 §2.4).
pub const MAX_FLOWS: usize = 8;

/// How late our own timer may fire before a time that we measured means nothing.
pub const LAG: Duration = Duration::from_millis(50);

const NO_PROMETHEUS: &str = "are in no Prometheus: Haldane was set up without one (prometheus.url of the chart)";
const NOBODY_TO_ASK: &str = "Haldane was set up without a Prometheus (prometheus.url of the chart)";

/// Runs checks. The simulation has its own, which answers without a network.
pub trait Prober: Send + Sync {
    /// Runs all steps against this address, and what puts right what they made against `home`, a pod of what is proven. Dropping the
    /// future ends everything that it has begun; a run that has something to put right goes on to its end. One that may have is written
    /// down in `entry` before it changes anything.
    fn run<'a>(&'a self, check: &'a Arc<Check>, target: SocketAddr, home: SocketAddr, entry: Option<Entry>) -> BoxFuture<'a, Run>;

    /// Puts a run right that another process has left, by what was written down of it: its setup and its teardown, against `home`. What
    /// could not be, in a sentence. It may be done twice.
    fn put_right<'a>(
        &'a self,
        check: &'a Check,
        home: SocketAddr,
        run: &'a RunName,
        kept: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Option<String>>;

    /// Deletes what the runs that are meant have made, as far as the sweep of the check finds it.
    fn sweep<'a>(&'a self, check: &'a Check, home: SocketAddr, meant: &'a (dyn Fn(&RunName) -> bool + Send + Sync))
    -> BoxFuture<'a, Swept>;

    /// The page of metrics at this address; why there is none, in a few words that go on "its metrics …".
    fn metrics<'a>(&'a self, at: SocketAddr, path: &'a str) -> BoxFuture<'a, Result<String, String>>;

    /// The series that a query of Prometheus selects; why there are none, in a few words that go on "its metrics …".
    fn series<'a>(&'a self, query: &'a str) -> BoxFuture<'a, Result<Vec<Series>, String>> {
        let _ = query;
        Box::pin(async { Err(NO_PROMETHEUS.to_owned()) })
    }

    /// What somebody else who keeps numbers answers; why they are not known, in a few words that go on "its metrics …".
    fn kept(&self, question: kept::Question) -> BoxFuture<'_, Result<Value, String>> {
        let _ = question;
        Box::pin(async { Err("are not known: nobody can be asked from here".to_owned()) })
    }

    /// The numbers that a query of Prometheus comes to, one for each series; why there are none, in a clause.
    fn numbers<'a>(&'a self, query: &'a str) -> BoxFuture<'a, Result<Vec<f64>, String>> {
        let _ = query;
        Box::pin(async { Err(NOBODY_TO_ASK.to_owned()) })
    }

    /// What somebody else says to this question now.
    fn word<'a>(&'a self, question: &'a Question, now: Timestamp) -> BoxFuture<'a, Answer> {
        let _ = (question, now);
        Box::pin(async { Answer::wait("was not sent: nobody can be asked from here") })
    }
}

/// Asks over real sockets. Clones share the places and the parsed CAs.
#[derive(Clone)]
pub struct HttpProber {
    shared: Arc<Shared>,
    prometheus: Option<Arc<Prometheus>>,
}

struct Shared {
    places: Semaphore,
    questions: Semaphore,
    trust: Trust,
    pages: Pages,
    reach: Reach,
    lag: Duration,
}

impl HttpProber {
    /// A prober that speaks only to addresses in this reach.
    #[must_use]
    pub fn new(reach: Reach) -> Self {
        Self::with_lag(reach, LAG)
    }

    fn with_lag(reach: Reach, lag: Duration) -> Self {
        let (places, questions) = (Semaphore::new(MAX_FLOWS), Semaphore::new(word::MAX_QUESTIONS));
        let shared = Shared { places, questions, trust: Trust::default(), pages: Pages::default(), reach, lag };
        Self { shared: Arc::new(shared), prometheus: None }
    }

    /// The same, which asks this Prometheus for series.
    #[must_use]
    pub fn with_prometheus(self, prometheus: Option<Prometheus>) -> Self {
        Self { prometheus: prometheus.map(Arc::new), ..self }
    }

    async fn flow(&self, check: &Check, target: SocketAddr, home: SocketAddr, entry: Option<Entry>) -> Run {
        let mut run = Run::from(void(Class::Prober, String::new()));
        run.outcome = self.asked(check, (target, home), entry, &mut run).await;
        run
    }

    async fn asked(&self, check: &Check, (target, home): (SocketAddr, SocketAddr), entry: Option<Entry>, run: &mut Run) -> Outcome {
        if let Err(error) = check.validate() {
            return void(Class::Spec, error.to_string());
        }
        if let Err(said) = self.may_be_asked([target, home]) {
            return void(Class::Spec, said);
        }
        let _place = match self.place(check.deadline).await {
            Ok(place) => place,
            Err(said) => return void(Class::Prober, format!("{said}; the target was not asked")),
        };
        // Before the flow's clock starts: parsing CAs is our own time.
        let lines = (self.line(check, target).await, self.line(check, home).await);
        let (mut line, homeward) = match lines {
            (Ok(line), Ok(homeward)) => (line, homeward),
            (Err(error), _) | (_, Err(error)) => return void(Class::Spec, error),
        };
        let Some(mut flow) = Flow::new(check, entry) else {
            return void(Class::Prober, "this machine gives no randomness, so the run has no name".to_owned());
        };
        let watch = Stopwatch::start();
        let mut lag = Lag::new();
        let ended = tokio::select! {
            biased;
            ended = flow.go(&mut line, &mut run.answered) => ended,
            never = lag.watch() => match never {},
        };
        let took = watch.elapsed().saturating_sub(flow.writing);
        drop(line);
        run.left = flow.put_right(homeward).await;
        run.name = Some(flow.run.clone());
        run.done = std::mem::take(&mut flow.done);
        run.unwritten = flow.unwritten.take().map(|why| why.to_string());
        let unsaid = check.answered_by.as_ref().filter(|by| by.is_unsaid(&run.answered));
        match ended {
            Ok(()) if let Some(by) = unsaid => void(Class::Misrouted, format!("no answer said by {} which version gave it", by.header)),
            Ok(()) => Outcome::Pass { took },
            Err(ended) => self.judged(ended, took, lag.worst()),
        }
    }

    /// What is put right, or swept, is asked at one address.
    async fn at_home(&self, check: &Check, home: SocketAddr) -> Result<(SemaphorePermit<'_>, Line), String> {
        self.may_be_asked([home])?;
        let place = self.place(Check::TEARDOWN).await?;
        Ok((place, self.line(check, home).await?))
    }

    fn asker(&self) -> word::Asker<'_> {
        word::Asker { trust: &self.shared.trust, reach: self.shared.reach, lookup: word::system }
    }

    fn may_be_asked(&self, addresses: impl IntoIterator<Item = SocketAddr>) -> Result<(), String> {
        let refused = |at: SocketAddr| Some(format!("{} is {}; probes are not sent there", at.ip(), self.shared.reach.refuses(at.ip())?));
        addresses.into_iter().find_map(refused).map_or(Ok(()), Err)
    }

    async fn place(&self, within: Duration) -> Result<SemaphorePermit<'_>, String> {
        match timeout(within, self.shared.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(format!("all {MAX_FLOWS} places for flows were taken for {}", rounded(within))),
        }
    }

    async fn line(&self, check: &Check, target: SocketAddr) -> Result<Line, String> {
        let tls = match check.scheme {
            Scheme::Http => None,
            Scheme::Https => {
                let config = self.shared.trust.config(check.trust.as_deref()).await.map_err(|error| error.to_string())?;
                let config = trust::speaking(config, check.knock.as_ref());
                let name = ServerName::try_from(check.server_name().to_owned()).map_err(|_| "host: not a name for TLS".to_owned())?;
                Some((config, name))
            }
        };
        Ok(Line::new(target, tls))
    }

    fn judged(&self, Ended { step, fault }: Ended, took: Duration, lag: Duration) -> Outcome {
        if fault.about_time && lag > self.shared.lag {
            return void(Class::Prober, format!("{}, but the prober itself was {} late", fault.said, rounded(lag)));
        }
        if !fault.class.votes() {
            return void(fault.class, fault.said);
        }
        Outcome::Fail { class: fault.class, step, said: fault.said, status: fault.status, took }
    }
}

impl Prober for HttpProber {
    fn run<'a>(&'a self, check: &'a Arc<Check>, target: SocketAddr, home: SocketAddr, entry: Option<Entry>) -> BoxFuture<'a, Run> {
        if check.teardown.is_empty() {
            return Box::pin(self.flow(check, target, home, None));
        }
        // Whoever asked may be gone before the answer: what was made is put right all the same.
        let (prober, check) = (self.clone(), Arc::clone(check));
        let running = tokio::spawn(async move { prober.flow(&check, target, home, entry).await });
        let cut_off = || void(Class::Prober, "the run was cut off".to_owned());
        Box::pin(async move { running.await.unwrap_or_else(|_| cut_off().into()) })
    }

    fn put_right<'a>(
        &'a self,
        check: &'a Check,
        home: SocketAddr,
        run: &'a RunName,
        kept: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            let (_place, mut line) = match self.at_home(check, home).await {
                Ok(home) => home,
                Err(said) => return Some(said),
            };
            let mut flow = Flow::again(check, run, kept);
            match flow.set_up(&mut line).await {
                Ok(()) => flow.tear_down(&mut line).await,
                // Without what it brings, teardown would leave out what it is needed for.
                Err(ended) => Some(ended.fault.said),
            }
        })
    }

    fn sweep<'a>(
        &'a self,
        check: &'a Check,
        home: SocketAddr,
        meant: &'a (dyn Fn(&RunName) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Swept> {
        Box::pin(async move {
            let failed = |said| Swept { gone: 0, left: Some(said) };
            let Some(sweep) = &check.sweep else { return Swept::default() };
            let anew = Check { setup: check.setup_anew(), ..check.clone() };
            let (_place, mut line) = match self.at_home(check, home).await {
                Ok(home) => home,
                Err(said) => return failed(said),
            };
            let Some(mut flow) = Flow::new(&anew, None) else { return failed("this machine gives no randomness".to_owned()) };
            match flow.set_up(&mut line).await {
                Ok(()) => flow.sweep(&mut line, sweep, meant).await,
                Err(ended) => failed(ended.fault.said),
            }
        })
    }

    fn metrics<'a>(&'a self, at: SocketAddr, path: &'a str) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async move {
            match self.shared.reach.refuses(at.ip()) {
                Some(what) => Err(format!("are not asked for: {} is {what}", at.ip())),
                None => self.shared.pages.page(at, path).await,
            }
        })
    }

    fn series<'a>(&'a self, query: &'a str) -> BoxFuture<'a, Result<Vec<Series>, String>> {
        Box::pin(async move {
            match &self.prometheus {
                Some(prometheus) => prometheus.series(query).await,
                None => Err(NO_PROMETHEUS.to_owned()),
            }
        })
    }

    fn kept(&self, question: kept::Question) -> BoxFuture<'_, Result<Value, String>> {
        Box::pin(async move {
            let Ok(_place) = self.shared.questions.acquire().await else { return Err("are not asked for".to_owned()) };
            self.asker().numbers(question).await
        })
    }

    fn numbers<'a>(&'a self, query: &'a str) -> BoxFuture<'a, Result<Vec<f64>, String>> {
        Box::pin(async move {
            match &self.prometheus {
                Some(prometheus) => prometheus.numbers(query).await,
                None => Err(NOBODY_TO_ASK.to_owned()),
            }
        })
    }

    fn word<'a>(&'a self, question: &'a Question, now: Timestamp) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let Ok(_place) = self.shared.questions.acquire().await else { return Answer::wait("was not sent") };
            self.asker().ask(question, now).await
        })
    }
}

fn void(class: Class, said: String) -> Outcome {
    Outcome::Void { class, said }
}

#[cfg(test)]
mod tests;
