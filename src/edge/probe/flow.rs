//! The steps of one run, in their order, with what they keep for each other; and what is put right afterwards.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderMap, HeaderValue, Request};
use http_body_util::Full;
use hyper::body::Bytes;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    exchange::{self, Answer, Keep, Progress},
    fault::{Fault, Limit, Phase, rounded},
    knock,
    ledger::{Alive, Entry, Unwritten},
    line::Line,
};
use crate::{
    clock::{Clock as _, Stopwatch, SystemClock},
    model::probe::{Answerer, Body, Check, Class, Done, Heard, Knock, RUN, RunName, Shape, Step, Untrue, Vars},
};

/// A body above this is looked into beside the reactor: at 10 µs a value, 8 KiB of them are a few milliseconds.
const AT_ONCE: usize = 8 * 1024;
/// What a run takes beyond its steps, its teardown and a sweep for what that could not know: a wait for each write of the ledger.
const SPARE: Duration = Duration::from_secs(30);

/// How a flow ended early.
pub(super) struct Ended {
    pub(super) step: String,
    pub(super) fault: Fault,
}

/// One run of a check.
pub(super) struct Flow<'a> {
    check: &'a Check,
    vars: Vars,
    /// Its name, which no other run has.
    pub(super) run: RunName,
    /// Something was sent that may have changed the target.
    wrote: bool,
    /// When the part of it that is under way must be over.
    ends: Instant,
    /// Where it is written down.
    entry: Option<Entry>,
    /// It is written down.
    alive: Option<Alive>,
    /// Why it could not be.
    pub(super) unwritten: Option<Unwritten>,
    /// How long writing it down took: our own time.
    pub(super) writing: Duration,
    /// The steps that were run.
    pub(super) done: Vec<Done>,
    /// The answer that was heard last in the step under way.
    answer: (Option<u16>, Option<Shape>),
}

/// What is known of an answer when it was looked into.
struct Found {
    /// Values for later steps, by their names.
    kept: Vec<(String, String)>,
    /// Its shape, where that is compared.
    shape: Option<Shape>,
}

impl<'a> Flow<'a> {
    /// One with a name of its own; none: this machine has no randomness.
    pub(super) fn new(check: &'a Check, entry: Option<Entry>) -> Option<Self> {
        let mut random = [0; RunName::RANDOM];
        aws_lc_rs::rand::fill(&mut random).ok()?;
        Some(Self { entry, ..Self::again(check, &RunName::new(SystemClock.now(), random), &BTreeMap::new()) })
    }

    /// One that has run and has to be put right, with what is known of it.
    pub(super) fn again(check: &'a Check, run: &RunName, kept: &BTreeMap<String, String>) -> Self {
        let mut vars = check.secrets.clone();
        for (name, value) in kept {
            vars.set(name, value.clone());
        }
        vars.set(RUN, run.as_str().to_owned());
        Self {
            check,
            vars,
            run: run.clone(),
            wrote: false,
            ends: Instant::now() + check.deadline,
            entry: None,
            alive: None,
            unwritten: None,
            writing: Duration::ZERO,
            done: Vec::new(),
            answer: (None, None),
        }
    }

    /// Setup and the steps. `answered` is told who gave each answer to a step.
    pub(super) async fn go(&mut self, line: &mut Line, answered: &mut Vec<Option<Answerer>>) -> Result<(), Ended> {
        let check = self.check;
        self.may_take(check.deadline);
        if let Some(knock) = &check.knock {
            return self.knock(knock, line).await;
        }
        self.set_up(line).await?;
        for (index, step) in check.steps.iter().enumerate() {
            let last = index + 1 == check.steps.len();
            let mut who = None;
            let done = self.written_step(step, last, line, &mut who).await;
            // Whatever else is wrong with it: the answer of another version says nothing about the one that was asked.
            let misrouted = check.answered_by.as_ref().is_some_and(|by| by.is_misrouted(who.as_ref()));
            answered.push(who);
            let other = || Fault::new(Class::Misrouted, "was answered by another version than was asked");
            (if misrouted { Err(other()) } else { done }).map_err(|fault| ended(step, fault))?;
        }
        Ok(())
    }

    async fn knock(&mut self, knock: &Knock, line: &Line) -> Result<(), Ended> {
        let watch = Stopwatch::start();
        let (name, label) = knock::named(knock, self.check, line);
        let result = knock::knock(knock, self.check, self.run.as_str(), line).await;
        let wrong = result.as_ref().err().map(|fault| fault.said.clone());
        let status = result.as_ref().err().and_then(|fault| fault.status);
        self.done.push(Done { step: name.to_owned(), status, took: watch.elapsed(), wrong, shape: None });
        result.map_err(|fault| Ended { step: name.to_owned(), fault: Fault { said: format!("{label} {}", fault.said), ..fault } })
    }

    /// The steps that prepare. One that fails may be the doing of a third party: nothing was learnt about the target.
    pub(super) async fn set_up(&mut self, line: &mut Line) -> Result<(), Ended> {
        for step in &self.check.setup {
            self.written_step(step, false, line, &mut None).await.map_err(|fault| {
                let class = if fault.class.votes() { Class::Setup } else { fault.class };
                ended(step, Fault { class, ..fault })
            })?;
        }
        Ok(())
    }

    /// Puts right what was made, if anything may have been, and closes its page. What could not be, in a sentence.
    pub(super) async fn put_right(&mut self, mut line: Line) -> Option<String> {
        let left = if self.wrote { self.tear_down(&mut line).await } else { None };
        if let (Some(entry), Some(_)) = (&self.entry, &self.alive) {
            entry.ledger.close(&entry.page, &self.run, left.as_deref()).await;
        }
        self.alive = None;
        left
    }

    /// Each step of the teardown, whatever came of the one before. What it cannot know is looked for by the name of the run.
    pub(super) async fn tear_down(&mut self, line: &mut Line) -> Option<String> {
        self.may_take(Check::TEARDOWN);
        let check = self.check;
        let (mut left, mut unknown) = (None, false);
        for step in &check.teardown {
            // What was never captured was never made, or its answer never came.
            if self.filled(step).is_err_and(|fault| fault.class == Class::Spec) {
                unknown = true;
                continue;
            }
            if let Err(fault) = self.step(step, false, line, &mut None).await {
                left.get_or_insert(ended(step, fault).fault.said);
            }
        }
        // Without what the setup brings nobody may look; and then nothing was made either.
        if let Some(sweep) = check.sweep.as_deref().filter(|sweep| unknown && self.filled(&sweep.list).is_ok()) {
            let own = self.run.clone();
            let swept = self.sweep(line, sweep, &move |run| *run == own).await;
            left = left.or(swept.left);
        }
        left
    }

    /// What follows must be over after this long.
    pub(super) fn may_take(&mut self, limit: Duration) {
        self.ends = Instant::now() + limit;
    }

    pub(super) fn ends(&self) -> Instant {
        self.ends
    }

    pub(super) fn vars(&self) -> &Vars {
        &self.vars
    }

    /// A step of a run that is written down: before it is sent, if it may change something, and with what it brings, before the next.
    async fn written_step(&mut self, step: &Step, last: bool, line: &mut Line, who: &mut Option<Answerer>) -> Result<(), Fault> {
        if self.entry.is_some() && self.alive.is_none() && step.may_change() {
            self.open().await?;
        }
        self.step(step, last, line, who).await?;
        if self.alive.is_some() && self.check.keeps_of(step) { self.keep().await } else { Ok(()) }
    }

    async fn open(&mut self) -> Result<(), Fault> {
        let Some(entry) = self.entry.clone() else { return Ok(()) };
        let watch = Stopwatch::start();
        let opened = entry.ledger.open(&entry.page, &self.run, self.check.deadline + 2 * Check::TEARDOWN + SPARE).await;
        self.wrote_down(&watch);
        match opened {
            Ok(alive) => {
                self.alive = Some(alive);
                Ok(())
            }
            Err(why) => {
                let fault = Fault::new(Class::Prober, format!("was not sent: {why}"));
                self.unwritten = Some(why);
                Err(fault)
            }
        }
    }

    async fn keep(&mut self) -> Result<(), Fault> {
        let Some(entry) = self.entry.clone() else { return Ok(()) };
        let kept = self.check.kept(&self.vars);
        if kept.is_empty() {
            return Ok(());
        }
        let watch = Stopwatch::start();
        let written = entry.ledger.keep(&entry.page, &self.run, &kept).await;
        self.wrote_down(&watch);
        written.map_err(|why| {
            let fault = Fault::new(Class::Prober, format!("was answered, and the run went no further: {why}"));
            self.unwritten = Some(why);
            fault
        })
    }

    /// No target is late for what we do in between.
    fn wrote_down(&mut self, watch: &Stopwatch) {
        let took = watch.elapsed();
        self.writing += took;
        self.ends += took;
    }

    pub(super) fn request(&self, step: &Step, last: bool) -> Result<Request<Full<Bytes>>, Fault> {
        exchange::request(self.check, step, self.run.as_str(), last)
    }

    /// One step; what came of it is noted, and `who` is told who answered.
    async fn step(&mut self, step: &Step, last: bool, line: &mut Line, who: &mut Option<Answerer>) -> Result<(), Fault> {
        let watch = Stopwatch::start();
        self.answer = (None, None);
        let result = self.asked(step, last, line, who).await;
        let (status, shape) = std::mem::take(&mut self.answer);
        let wrong = result.as_ref().err().map(|fault| fault.said.clone());
        self.done.push(Done { step: step.name.clone(), status, took: watch.elapsed(), wrong, shape });
        result
    }

    /// One step, until it is as it should be, where it may be asked again.
    async fn asked(&mut self, step: &Step, last: bool, line: &mut Line, who: &mut Option<Answerer>) -> Result<(), Fault> {
        let filled = self.filled(step)?;
        let began = Instant::now();
        let step_ends = began + step.deadline;
        let (end, limit) =
            if step_ends < self.ends { (step_ends, Limit::Step(step.deadline)) } else { (self.ends, Limit::Flow(self.check.deadline)) };
        let mut asked = 0_u32;
        loop {
            asked += 1;
            let done = self.once(&filled, last && step.until.is_none(), (end, limit), line, who).await;
            let Some(until) = step.until else { return done };
            let fault = match done {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            let answered = matches!(fault.class, Class::Assertion | Class::HttpStatus);
            if !answered || began.elapsed() + until.every > until.within || Instant::now() + until.every >= end {
                let said = format!("{}, asked {asked} times in {}", fault.said, rounded(began.elapsed()));
                return Err(Fault { said, ..fault });
            }
            sleep(until.every).await;
        }
    }

    /// One request, and what its answer is worth.
    async fn once(
        &mut self,
        step: &Step,
        last: bool,
        (end, limit): (Instant, Limit),
        line: &mut Line,
        who: &mut Option<Answerer>,
    ) -> Result<(), Fault> {
        let request = self.request(step, last)?;
        self.wrote |= !request.method().is_safe();
        let mut progress = Progress { phase: Phase::Connect, status: None, who: None };
        let by = self.check.answered_by.as_ref().map(|by| by.header.as_str());
        let keep = match (step.reads_body(), &step.compare) {
            (true, _) => Keep::All,
            (false, Some(_)) => Keep::IfSmall,
            (false, None) => Keep::Nothing,
        };
        let done = timeout_at(end, exchange::exchange(line, request, (by, keep), &mut progress)).await;
        (*who, self.answer) = (progress.who.take(), (progress.status, None));
        match done {
            Ok(answer) => self.judge(step, answer?).await,
            Err(_) => Err(Fault::too_late(progress.phase, limit, progress.status)),
        }
    }

    /// Whether the answer is what the step demands; what it keeps is known from now on.
    async fn judge(&mut self, step: &Step, answer: Answer) -> Result<(), Fault> {
        let (status, took) = (answer.status, answer.took);
        if !step.expect.accepts(status) {
            let redirect = if (300..=399).contains(&status) { " (redirects are not followed)" } else { "" };
            let said = format!("answered {status}, expected {}{redirect}", step.expect.wanted());
            return Err(Fault { status: Some(status), ..Fault::new(Class::HttpStatus, said) });
        }
        if !step.capture.is_empty() || !step.expect.that.is_empty() || step.compare.is_some() {
            let found = looked_into(step, answer).await.map_err(|fault| Fault { status: Some(status), ..fault })?;
            for (name, value) in found.kept {
                self.vars.set(&name, value);
            }
            self.answer = (Some(status), found.shape);
        }
        match step.expect.within {
            Some(within) if took > within => Err(Fault::too_slow(took, within, status)),
            _ => Ok(()),
        }
    }

    /// The step with its variables filled in.
    pub(super) fn filled(&self, step: &Step) -> Result<Step, Fault> {
        filled(&self.vars, step)
    }
}

/// The step with these variables filled in.
pub(super) fn filled(vars: &Vars, step: &Step) -> Result<Step, Fault> {
    let missing = |name: &str| Fault::new(Class::Spec, format!("was not sent: there is no ${{{name}}}"));
    let header = |(name, value): &(String, String)| {
        let value = vars.fill(value).map_err(missing)?;
        match HeaderValue::from_str(&value) {
            Ok(_) => Ok((name.clone(), value)),
            Err(_) => Err(Fault::new(Class::Assertion, format!("was not sent: what came for its header {name} is no header's value"))),
        }
    };
    let body = step.body.as_ref().map(|body| -> Result<Body, &str> {
        Ok(match body {
            Body::Json(json) => Body::Json(vars.fill_json(json)?),
            Body::Text(text) => Body::Text(vars.fill(text)?),
        })
    });
    Ok(Step {
        path: vars.fill_path(&step.path).map_err(missing)?,
        headers: step.headers.iter().map(header).collect::<Result<_, _>>()?,
        body: body.transpose().map_err(missing)?,
        ..step.clone()
    })
}

/// A fault with the words of the manifest: what was filled in may be secret.
pub(super) fn ended(step: &Step, mut fault: Fault) -> Ended {
    fault.said = format!("{} {} {}", step.method, step.shown_path(), fault.said);
    Ended { step: step.name.clone(), fault }
}

/// What a step keeps of an answer that is as it demands.
async fn looked_into(step: &Step, answer: Answer) -> Result<Found, Fault> {
    let large = answer.body.as_ref().is_some_and(|body| body.len() > AT_ONCE);
    let (that, capture) = (step.expect.that.clone(), step.capture.clone());
    // What is too large to be looked into has no shape that is known.
    let compare = step.compare.clone().filter(|_| answer.body.is_some());
    let look = move || {
        let heard = Heard {
            status: answer.status,
            headers: named(&answer.headers),
            json: answer.body.as_deref().and_then(|body| serde_json::from_slice(body).ok()),
            took: answer.took,
        };
        for that in that {
            that.holds(&heard).map_err(|untrue| match untrue {
                Untrue::Answer(said) => Fault::new(Class::Assertion, said),
                Untrue::Spec(said) => Fault::new(Class::Spec, said),
            })?;
        }
        let kept = capture.iter().map(|capture| Ok((capture.name.clone(), capture.of(&heard)?)));
        let kept = kept.collect::<Result<Vec<_>, String>>().map_err(|said| Fault::new(Class::Assertion, said))?;
        let shape = compare.as_ref().map(|compare| Shape::of(heard.status, heard.json.as_ref(), compare));
        Ok(Found { kept, shape })
    };
    if !large {
        return look();
    }
    // It cannot be stopped, but it ends: an answer has a size, and an expression a bound of what it costs.
    let ours = || Fault::new(Class::Prober, "was answered, and looking into the answer was interrupted");
    timeout(Step::DEADLINE, tokio::task::spawn_blocking(look)).await.map_err(|_| ours())?.map_err(|_| ours())?
}

fn named(headers: &HeaderMap) -> std::collections::BTreeMap<String, Vec<String>> {
    let mut named = std::collections::BTreeMap::<String, Vec<String>>::new();
    for (name, value) in headers {
        named.entry(name.as_str().to_owned()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    named
}
