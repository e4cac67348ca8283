//! When each request is sent: by the clock, never by the answer before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use http::HeaderValue;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc::UnboundedSender, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::args::{Args, Ask};
use crate::client::{Client, Standing};
use crate::clock::Clock;
use crate::connect::SourcePorts;
use crate::outcome::{Kind, Outcome};

/// 250/s that all wait for their 5 s are 1,250; what would go beyond is skipped and said, so that a stalled
/// target costs a bounded number of sockets.
const IN_FLIGHT: usize = 2000;

/// What the schedule itself knows at the end.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Ran {
    /// Not sent because too many requests were waiting for their answers.
    pub(crate) skipped: u64,
    /// How late the latest request left, against the clock: large values mean that this program lacked CPU.
    pub(crate) latest_start_us: u64,
}

/// Requests that take long, so that some are under way whenever something is moved.
struct Slow {
    percent: u8,
    ask: Arc<Ask>,
}

impl Slow {
    /// Scattered over the numbers and the same in every run: every twentieth would always be the same client's. The multiplier is
    /// Knuth's (The Art of Computer Programming, vol. 3, §6.4): 2^64 by the golden ratio.
    fn comes(&self, number: u64) -> bool {
        let lot = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        (lot * 100) >> 32 < u64::from(self.percent)
    }
}

/// The plan of one run.
pub(crate) struct Schedule {
    client: Client,
    asks: Vec<Arc<Ask>>,
    slow: Slow,
    standing: Vec<Arc<Standing>>,
    fresh_rate: u32,
    keepalive_rate: u32,
    duration: Duration,
    max_requests: u64,
    planned: AtomicU64,
    skipped: AtomicU64,
    latest_start_us: AtomicU64,
    in_flight: Arc<Semaphore>,
}

impl Schedule {
    pub(crate) fn new(args: &Args, clock: Clock) -> anyhow::Result<Self> {
        let target = args.target.address();
        let host = args.host.clone().unwrap_or_else(|| target.to_string());
        Ok(Self {
            client: Client {
                target,
                host: HeaderValue::from_str(&host).context("--host")?,
                timeout: args.timeout,
                ports: SourcePorts::at(clock.now_us()),
                clock,
            },
            asks: args.paths.iter().cloned().map(Arc::new).collect(),
            slow: Slow { percent: args.slow, ask: Arc::new(args.slow_path.clone()) },
            standing: (0..args.keepalive).map(|_| Arc::default()).collect(),
            fresh_rate: args.fresh,
            keepalive_rate: if args.keepalive == 0 { 0 } else { args.keepalive_rate },
            duration: args.duration,
            max_requests: args.max_requests,
            planned: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            latest_start_us: AtomicU64::new(0),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
        })
    }

    /// Sends everything; ends with the duration, the last request, or a signal. Requests in flight go on, and report by `outcomes`.
    pub(crate) async fn run(self, outcomes: UnboundedSender<Outcome>) -> anyhow::Result<Ran> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (stop, stopped) = watch::channel(false);
        let run = Arc::new(self);
        let streams = async {
            tokio::join!(
                Arc::clone(&run).stream(Kind::Fresh, run.fresh_rate, stopped.clone(), outcomes.clone()),
                Arc::clone(&run).stream(Kind::Keepalive, run.keepalive_rate, stopped.clone(), outcomes.clone()),
            );
        };
        tokio::pin!(streams);
        tokio::select! {
            () = &mut streams => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = sleep(run.duration) => {}
        }
        stop.send_replace(true);
        Ok(Ran { skipped: run.skipped.load(Ordering::Relaxed), latest_start_us: run.latest_start_us.load(Ordering::Relaxed) })
    }

    async fn stream(self: Arc<Self>, kind: Kind, rate: u32, mut stopped: watch::Receiver<bool>, outcomes: UnboundedSender<Outcome>) {
        let start = Instant::now();
        for number in 0.. {
            let Some(due) = due(start, number, rate) else {
                return;
            };
            tokio::select! {
                () = sleep_until(due) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            if self.planned.fetch_add(1, Ordering::Relaxed) >= self.max_requests {
                return;
            }
            self.start(kind, number, due, &outcomes);
        }
    }

    fn start(self: &Arc<Self>, kind: Kind, number: u64, due: Instant, outcomes: &UnboundedSender<Outcome>) {
        let late = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.latest_start_us.fetch_max(late, Ordering::Relaxed);
        let (Ok(place), Some(ask)) = (Arc::clone(&self.in_flight).try_acquire_owned(), self.ask(kind, number)) else {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let standing = match kind {
            Kind::Fresh => None,
            Kind::Keepalive => turn(&self.standing, number),
        };
        let (run, outcomes) = (Arc::clone(self), outcomes.clone());
        tokio::spawn(async move {
            let outcome = run.client.send(ask, standing.as_deref()).await;
            // The book is gone only when the whole program ends.
            let _ = outcomes.send(outcome);
            drop(place);
        });
    }

    /// Now and then something slow; else the paths take turns, and a keep-alive client begins each round one further, so that every client asks for every path.
    fn ask(&self, kind: Kind, number: u64) -> Option<Arc<Ask>> {
        if self.slow.comes(number) {
            return Some(Arc::clone(&self.slow.ask));
        }
        let round = match kind {
            Kind::Fresh => 0,
            Kind::Keepalive => u64::try_from(self.standing.len()).ok().and_then(|clients| number.checked_div(clients)).unwrap_or(0),
        };
        let shift = if self.standing.len().is_multiple_of(self.asks.len()) { round } else { 0 };
        turn(&self.asks, number + shift)
    }
}

fn due(start: Instant, number: u64, rate: u32) -> Option<Instant> {
    let micros = number.checked_mul(1_000_000)?.checked_div(u64::from(rate))?;
    start.checked_add(Duration::from_micros(micros))
}

fn turn<T>(of: &[Arc<T>], number: u64) -> Option<Arc<T>> {
    let index = number.checked_rem(u64::try_from(of.len()).ok()?)?;
    of.get(usize::try_from(index).ok()?).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_sets_the_pace() {
        let start = Instant::now();
        assert_eq!(due(start, 0, 50), Some(start));
        assert_eq!(due(start, 50, 50), Some(start + Duration::from_secs(1)));
        assert_eq!(due(start, 3, 0), None, "a rate of 0 sends nothing");
    }

    #[test]
    fn slow_requests_come_as_often_as_asked_for_and_to_every_client() {
        let slow = |percent| Slow { percent, ask: Arc::new("/slow?ms=800".parse().unwrap()) };
        let of_client = |client: u64| (0..10_000_u64).map(|round| round * 5 + client).filter(|number| slow(5).comes(*number)).count();
        for client in 0..5 {
            assert!((450..=550).contains(&of_client(client)), "client {client}: {}", of_client(client));
        }
        assert!(!(0..1_000).any(|number| slow(0).comes(number)));
        assert!((0..1_000).all(|number| slow(100).comes(number)));
    }

    #[test]
    fn turns_come_round_and_nobody_takes_none() {
        let paths = [Arc::new('a'), Arc::new('b')];
        let taken: String = (0..5).filter_map(|number| turn(&paths, number)).map(|path| *path).collect();
        assert_eq!(taken, "ababa");
        assert!(turn::<char>(&[], 3).is_none());
    }
}
