//! One log: opened, read, opened again where it ended, and heard line by line.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::AsyncBufReadExt as _;
use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    super::book::Side,
    Parts, Source, hear,
    hearing::{Hearing, Sign},
    reading::{Budget, Recent, Splitter, timed},
};
use crate::{
    clock::Clock,
    edge::logs::{Lines, LogError, Part, PodLogs, Whose},
    model::logs::LogRules,
};

/// Of what stable wrote before: its beginning, which has what an app says as it starts …
const HEAD: u32 = 256 * 1024;
/// … and its last lines.
const TAIL: u32 = 5000;
/// Of what a container wrote before it was started again: the last seconds of it, from the last line on that is known.
const LAST_WORDS: u32 = 1024 * 1024;
/// Of one log, in bytes a second; what is above that is skipped, and for as long nothing is said.
const MOST: usize = 5 * 1024 * 1024;
/// A log is opened again so long after it ended; twice as long each time that it ends at once, at most the second.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// It ended at once.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Streams may stall without an end: a silent one is opened again after this, and any after [`WHOLE`] and up to as long again.
const SILENT: Duration = Duration::from_mins(2);
const WHOLE: Duration = Duration::from_mins(15);

/// Reads one log for as long as it is there.
pub(super) struct Stream {
    logs: Arc<dyn PodLogs>,
    budgets: (Arc<Budget>, Budget),
    clock: Arc<dyn Clock>,
    namespace: String,
    side: Side,
    source: watch::Receiver<Source>,
    rules: Arc<LogRules>,
    hearing: Arc<Mutex<Hearing>>,
    recent: Recent,
    restarts: u32,
}

/// How a reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// With the log, or with the connection.
    Over,
    /// There was more than may be read.
    TooMuch,
}

impl Stream {
    pub(super) fn new(
        parts: &Parts,
        (side, source): (Side, watch::Receiver<Source>),
        rules: &Arc<LogRules>,
        hearing: Arc<Mutex<Hearing>>,
    ) -> Self {
        let restarts = source.borrow().restarts;
        Self {
            logs: parts.logs.clone(),
            budgets: (parts.budget.clone(), Budget::a_second(MOST)),
            clock: parts.clock.clone(),
            namespace: parts.key.namespace.clone().unwrap_or_default(),
            side,
            source,
            rules: rules.clone(),
            hearing,
            recent: Recent::default(),
            restarts,
        }
    }

    pub(super) async fn run(mut self) {
        let mut pause = AGAIN.0;
        let mut learnt = self.side == Side::Canary;
        loop {
            let began = Instant::now();
            let ended = match self.once(learnt).await {
                Ok(ended) => {
                    learnt = true;
                    ended
                }
                Err(why) => {
                    self.says(Some(why.to_string()));
                    Ended::Over
                }
            };
            if ended == Ended::TooMuch {
                let now = self.clock.now();
                self.recent.skip_to(now);
                hear(&self.hearing).flooded(&self.pod(), now);
            }
            pause = if began.elapsed() > AT_ONCE { AGAIN.0 } else { (pause * 2).min(AGAIN.1) };
            sleep(if ended == Ended::TooMuch { AGAIN.0 } else { pause }).await;
        }
    }

    /// Reads it to its end: first what was written before, where that is to be learnt.
    async fn once(&mut self, learnt: bool) -> Result<Ended, LogError> {
        if !learnt {
            for part in [Part::Head(HEAD), Part::Tail(TAIL)] {
                let lines = self.open(part).await?;
                self.read(lines, part).await;
            }
        }
        let restarts = self.source.borrow().restarts;
        if restarts > self.restarts {
            self.restarts = restarts;
            // Its last words may be gone already: nothing is missed then that could be had.
            let part = Part::Before(self.recent.since(), LAST_WORDS);
            if let Ok(lines) = self.open(part).await {
                self.read(lines, part).await;
            }
        }
        let part = Part::From(self.recent.since());
        let lines = self.open(part).await?;
        self.says(None);
        Ok(self.read(lines, part).await)
    }

    fn pod(&self) -> String {
        self.source.borrow().pod.clone()
    }

    fn says(&self, why: Option<String>) {
        hear(&self.hearing).stands(&self.pod(), why);
    }

    async fn open(&self, part: Part) -> Result<Lines, LogError> {
        let source = self.source.borrow().clone();
        let whose = Whose { namespace: &self.namespace, pod: &source.pod, container: source.container.as_deref() };
        self.logs.open(whose, part).await
    }

    async fn read(&mut self, mut lines: Lines, part: Part) -> Ended {
        let learns = matches!(part, Part::Head(_));
        let goes_on = matches!(part, Part::From(_));
        // Not all at the same moment: a name is as good as chance for that.
        let whole = Instant::now() + WHOLE + Duration::from_secs(self.pod().bytes().map(u64::from).sum::<u64>() % WHOLE.as_secs());
        let mut splitter = Splitter::default();
        // The log of a container that was started again is another one.
        let (mut source, restarts) = (self.source.clone(), self.restarts);
        while Instant::now() < whole {
            let bytes = tokio::select! {
                biased;
                again = source.wait_for(|source| source.restarts > restarts), if goes_on => {
                    drop(again);
                    break;
                }
                bytes = timeout(SILENT, lines.fill_buf()) => bytes,
            };
            let Ok(Ok(bytes)) = bytes else { break };
            let taken = bytes.len();
            if taken == 0 {
                break;
            }
            splitter.feed(bytes, |line| self.line(line, learns));
            lines.consume_unpin(taken);
            // The other parts are read once, and bounded.
            let within = self.budgets.1.take(taken) & self.budgets.0.take(taken);
            if !within && goes_on {
                return Ended::TooMuch;
            }
        }
        splitter.end(|line| self.line(line, learns));
        Ended::Over
    }

    fn line(&mut self, line: &[u8], past: bool) {
        let (at, line) = timed(line);
        let now = self.clock.now();
        if at.is_some_and(|at| !past && !self.recent.is_new(at, line)) {
            return;
        }
        if let Some(sign) = Sign::of(&self.rules, line) {
            let at: Timestamp = at.unwrap_or(now);
            let warm = self.source.borrow().warm().is_some_and(|warm| warm <= at);
            hear(&self.hearing).line(sign, self.side, (at, warm, past));
        }
    }
}
