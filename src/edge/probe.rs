//! Runs a probe flow against one address and says what came of it, in one sentence with the numbers.
//!
//! The address is given (a pod's); the `Host` header and the name in the certificate are the real ones. Deliberately
//! absent: name lookup, proxies, redirects (they would leave the pod), retries (they would hide failures), cookies, and any rule
//! about what a failure means for a rollout. What the target answers is never kept: a status code and timings leave, and, where a
//! check asks for it, the one header by which an answer says which version gave it.

mod exchange;
mod fault;
mod lag;
mod line;
mod reach;
mod trust;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rustls_pki_types::ServerName;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::clock::Stopwatch;
use crate::model::probe::{Answerer, Check, Class, Outcome, Run, Scheme, Step};

use exchange::{Answer, Progress};
use fault::{Fault, Limit, Phase, rounded};
use lag::Lag;
use line::Line;
pub use reach::Reach;
use trust::Trust;

/// Flows at once in this process. 8 × (128 KiB read buffer + 64 KiB of body to send) = 1.5 MiB, and 8 × ~1 ms of CPU for a TLS
/// handshake = 8 ms, well under [`LAG`]: flows do not make each other late. 200 at once did (research 05 §2.4).
pub const MAX_FLOWS: usize = 8;

/// How late our own timer may fire before a time that we measured means nothing.
pub const LAG: Duration = Duration::from_millis(50);

/// Runs checks. The simulation has its own, which answers without a network.
pub trait Prober: Send + Sync {
    /// Runs all steps against this address. Dropping the future ends everything that it has begun.
    fn run<'a>(&'a self, check: &'a Check, target: SocketAddr) -> BoxFuture<'a, Run>;
}

/// Asks over real sockets. Clones share the places and the parsed CAs.
#[derive(Clone)]
pub struct HttpProber {
    shared: Arc<Shared>,
}

struct Shared {
    places: Semaphore,
    trust: Trust,
    reach: Reach,
    lag: Duration,
}

/// What ended a flow.
struct Ended {
    step: String,
    fault: Fault,
}

impl HttpProber {
    /// A prober that speaks only to addresses in this reach.
    #[must_use]
    pub fn new(reach: Reach) -> Self {
        Self::with_lag(reach, LAG)
    }

    fn with_lag(reach: Reach, lag: Duration) -> Self {
        let shared = Shared { places: Semaphore::new(MAX_FLOWS), trust: Trust::default(), reach, lag };
        Self { shared: Arc::new(shared) }
    }

    async fn flow(&self, check: &Check, target: SocketAddr) -> Run {
        let mut answered = Vec::new();
        let outcome = self.asked(check, target, &mut answered).await;
        Run { outcome, answered }
    }

    async fn asked(&self, check: &Check, target: SocketAddr, answered: &mut Vec<Option<Answerer>>) -> Outcome {
        if let Err(error) = check.validate() {
            return void(Class::Spec, error.to_string());
        }
        if let Some(what) = self.shared.reach.refuses(target.ip()) {
            return void(Class::Spec, format!("{} is {what}; probes are not sent there", target.ip()));
        }
        let Ok(Ok(_place)) = timeout(check.deadline, self.shared.places.acquire()).await else {
            let limit = rounded(check.deadline);
            return void(Class::Prober, format!("all {MAX_FLOWS} places for flows were taken for {limit}; the target was not asked"));
        };
        // Before the flow's clock starts: parsing CAs is our own time.
        let line = match self.line(check, target).await {
            Ok(line) => line,
            Err(error) => return void(Class::Spec, error),
        };
        let watch = Stopwatch::start();
        let mut lag = Lag::new();
        let ended = tokio::select! {
            biased;
            ended = steps(check, line, answered) => ended,
            never = lag.watch() => match never {},
        };
        let unsaid = check.answered_by.as_ref().filter(|by| by.is_unsaid(answered));
        match ended {
            Ok(()) if let Some(by) = unsaid => void(Class::Misrouted, format!("no answer said by {} which version gave it", by.header)),
            Ok(()) => Outcome::Pass { took: watch.elapsed() },
            Err(ended) => self.judged(ended, watch.elapsed(), lag.worst()),
        }
    }

    async fn line(&self, check: &Check, target: SocketAddr) -> Result<Line, String> {
        let tls = match check.scheme {
            Scheme::Http => None,
            Scheme::Https => {
                let config = self.shared.trust.config(check.trust.as_deref()).await.map_err(|error| error.to_string())?;
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
    fn run<'a>(&'a self, check: &'a Check, target: SocketAddr) -> BoxFuture<'a, Run> {
        Box::pin(self.flow(check, target))
    }
}

async fn steps(check: &Check, mut line: Line, answered: &mut Vec<Option<Answerer>>) -> Result<(), Ended> {
    let flow_ends = Instant::now() + check.deadline;
    for (index, step) in check.steps.iter().enumerate() {
        let last = index + 1 == check.steps.len();
        let mut who = None;
        let done = run_step(check, step, last, flow_ends, &mut line, &mut who).await;
        // Whatever else is wrong with it: the answer of another version says nothing about the one that was asked.
        let misrouted = check.answered_by.as_ref().is_some_and(|by| by.is_misrouted(who.as_ref()));
        answered.push(who);
        let done = if misrouted { Err(Fault::new(Class::Misrouted, "was answered by another version than was asked")) } else { done };
        done.map_err(|fault| {
            let said = format!("{} {} {}", step.method, step.shown_path(), fault.said);
            Ended { step: step.name.clone(), fault: Fault { said, ..fault } }
        })?;
    }
    Ok(())
}

/// One step; `who` is told who answered as soon as the head of the answer is there.
async fn run_step(
    check: &Check,
    step: &Step,
    last: bool,
    flow_ends: Instant,
    line: &mut Line,
    who: &mut Option<Answerer>,
) -> Result<(), Fault> {
    let request = exchange::request(check, step, last)?;
    let step_ends = Instant::now() + step.deadline;
    let (end, limit) =
        if step_ends < flow_ends { (step_ends, Limit::Step(step.deadline)) } else { (flow_ends, Limit::Flow(check.deadline)) };
    let mut progress = Progress { phase: Phase::Connect, status: None, who: None };
    let by = check.answered_by.as_ref().map(|by| by.header.as_str());
    let done = timeout_at(end, exchange::exchange(line, request, by, &mut progress)).await;
    *who = progress.who.take();
    match done {
        Ok(answer) => judge(step, &answer?),
        Err(_) => Err(Fault::too_late(progress.phase, limit, progress.status)),
    }
}

/// The status first: a wrong answer that came fast is a wrong answer, and one that came slowly too.
fn judge(step: &Step, answer: &Answer) -> Result<(), Fault> {
    if !step.expect.accepts(answer.status) {
        let redirect = if (300..=399).contains(&answer.status) { " (redirects are not followed)" } else { "" };
        let said = format!("answered {}, expected {}{redirect}", answer.status, step.expect.wanted());
        return Err(Fault { status: Some(answer.status), ..Fault::new(Class::HttpStatus, said) });
    }
    match step.expect.within {
        Some(within) if answer.took > within => Err(Fault::too_slow(answer.took, within, answer.status)),
        _ => Ok(()),
    }
}

fn void(class: Class, said: String) -> Outcome {
    Outcome::Void { class, said }
}

#[cfg(test)]
mod tests;
