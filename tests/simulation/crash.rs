//! A crash at every write of five histories: the end is the same, and nothing that holds is ever broken.
//!
//! The writes are learned from a run without faults, never counted by hand. Three families: the process dies after the write
//! took place; it dies before the write takes place; the write takes place and its answer is lost.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    app::Way,
    script::Script,
    sim::{
        Fault,
        api::faults::{Stage, once},
    },
    town::{Town, USER, lock},
};

const SEED: u64 = 7;
/// More writes than without a fault: what was under way is looked at anew, and said again.
const MORE: usize = 6;
/// Looks at something that is settled.
const TRIGGERS: usize = 20;

/// What happens to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// The process dies with it; it took place.
    CrashAfter,
    /// The process dies with it; it did not take place.
    CrashBefore,
    /// It took place and its answer is lost.
    LostReply,
}

impl Blow {
    pub const ALL: [Self; 3] = [Self::CrashAfter, Self::CrashBefore, Self::LostReply];
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CrashAfter => "crash-after",
            Self::CrashBefore => "crash-before",
            Self::LostReply => "lost-reply",
        })
    }
}

/// One history with one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub script: Script,
    pub way: Way,
    pub seed: u64,
    pub blow: Option<(Blow, usize)>,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} seed={}", self.script, self.seed)?;
        match self.way {
            Way::Service => {}
            Way::Route => write!(f, " way=route")?,
            Way::Small => write!(f, " way=small")?,
        }
        self.blow.map_or(Ok(()), |(blow, k)| write!(f, " {blow}={k}"))
    }
}

impl Schedule {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let script = Script::named(words.next()?)?;
        let mut schedule = Self { script, way: Way::Service, seed: SEED, blow: None };
        for word in words {
            let (name, number) = word.split_once('=')?;
            if name == "way" {
                schedule.way = if number == "small" { Way::Small } else { Way::Route };
                continue;
            }
            match Blow::ALL.iter().find(|b| b.to_string() == name) {
                Some(blow) => schedule.blow = Some((*blow, number.parse().ok()?)),
                None => schedule.seed = number.parse().ok()?,
            }
        }
        Some(schedule)
    }

    /// What to type to see it again.
    fn command(&self) -> String {
        format!("SCHEDULE='{self}' cargo test --test simulation replay -- --nocapture")
    }
}

/// How a schedule ended.
struct Ended {
    writes: usize,
    state: Value,
    story: String,
}

async fn played(schedule: Schedule) -> Ended {
    let town = Town::hurried_by(schedule.way, schedule.seed).await;
    town.diary.begin();
    let before = town.api.writes(USER).len();
    if let Some((blow, k)) = schedule.blow {
        strike(&town, blow, k);
    }
    schedule.script.play(&town).await;
    let writes = town.api.writes(USER).len() - before;
    let state = town.end_state();
    settled(&town).await;
    Ended { writes, state, story: town.report() }
}

/// Makes a write of the controller's go wrong: the k-th from now on.
pub fn strike(town: &Town, blow: Blow, k: usize) {
    match blow {
        Blow::CrashAfter => town.api.crash_after_write(USER, k),
        Blow::CrashBefore => {
            let mut seen = 0;
            town.api.on_request(once(Fault::Crash, move |call, stage| {
                let counts = call.user == USER && call.is_write() && !call.is_background() && stage == Stage::Before;
                seen += usize::from(counts);
                counts && seen == k
            }));
        }
        Blow::LostReply => {
            let mut seen = 0;
            town.api.on_request(once(Fault::Disconnect, move |call, stage| {
                let took = matches!(stage, Stage::After { code } if code < 300);
                let counts = call.user == USER && call.is_write() && !call.is_background() && took;
                seen += usize::from(counts);
                counts && seen == k
            }));
        }
    }
}

/// I11: looked at again and again, nothing is written.
pub async fn settled(town: &Town) {
    town.api.clear_faults();
    let before = town.api.writes(USER).len();
    for n in 0..TRIGGERS {
        town.touch(n);
        town.pass(Duration::from_millis(100)).await;
    }
    town.pass(Duration::from_secs(2)).await;
    let more = town.api.writes(USER).split_off(before);
    assert!(more.is_empty(), "I11: at rest it wrote {:?}\n{}", more.iter().map(ToString::to_string).collect::<Vec<_>>(), town.report());
    town.check();
}

/// Runs on its own paused clock; what went wrong, in words.
fn run(schedule: Schedule) -> Result<Ended, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(played(schedule))));
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        text.unwrap_or_else(|| "no words".to_owned())
    })
}

/// The same end as without the fault, and hardly more writes.
fn judged(schedule: Schedule, golden: &Ended) -> Result<(), String> {
    let ended = run(schedule)?;
    if ended.state != golden.state {
        let (is, should) = (pretty(&ended.state), pretty(&golden.state));
        let differs: Vec<String> = diff(&should, &is);
        return Err(format!("another end:\n{}\n{}", differs.join("\n"), ended.story));
    }
    if ended.writes > golden.writes + MORE {
        return Err(format!("{} writes, {} without the fault\n{}", ended.writes, golden.writes, ended.story));
    }
    Ok(())
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

fn diff(should: &str, is: &str) -> Vec<String> {
    let (a, b): (Vec<&str>, Vec<&str>) = (should.lines().collect(), is.lines().collect());
    let gone = a.iter().filter(|l| !b.contains(l)).map(|l| format!("- {l}"));
    let new = b.iter().filter(|l| !a.contains(l)).map(|l| format!("+ {l}"));
    gone.chain(new).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long the sweep takes is printed, and nothing depends on it")]
fn every_crash_and_every_lost_reply_ends_the_same() {
    let wall = Instant::now();
    let histories: Vec<Schedule> =
        Way::SWEPT.into_iter().flat_map(|way| Script::ALL.map(|script| Schedule { script, way, seed: SEED, blow: None })).collect();
    let golden: Vec<Ended> = histories.iter().map(|h| run(*h).unwrap_or_else(|what| panic!("{h}: {what}"))).collect();
    let mut schedules: Vec<(Schedule, usize)> = Vec::new();
    for (at, (history, golden)) in histories.iter().zip(&golden).enumerate() {
        println!("{history}: {} writes", golden.writes);
        for blow in Blow::ALL {
            // SWEEP=all tries everything; else every crash after a write, and every fourth of the others; by a route, where the same
            // code writes more often, every second and every eighth, and of what is the same again in place every fourth and sixteenth.
            let whole = std::env::var("SWEEP").is_ok_and(|s| s == "all");
            let seldom = match history.way {
                Way::Service => 1,
                Way::Route => 2,
                Way::Small => 4,
            };
            let every = if whole { 1 } else { seldom * if blow == Blow::CrashAfter { 1 } else { 4 } };
            schedules.extend((1..=golden.writes).step_by(every).map(|k| (Schedule { blow: Some((blow, k)), ..*history }, at)));
        }
    }
    let (next, failed, ran) = (AtomicUsize::new(0), Arc::new(Mutex::new(Vec::new())), AtomicUsize::new(0));
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((schedule, at)) = schedules.get(next.fetch_add(1, Ordering::AcqRel)) {
                    if let Err(what) = judged(*schedule, &golden[*at]) {
                        lock(&failed).push((*schedule, what));
                    }
                    ran.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
    });
    let failed = lock(&failed);
    println!("{} schedules in {:?}, {} failed", ran.load(Ordering::Acquire), wall.elapsed(), failed.len());
    assert_eq!(ran.load(Ordering::Acquire), schedules.len(), "nothing is skipped");
    for (schedule, what) in failed.iter() {
        println!("{schedule}: {}\n  {}", what.lines().take(6).collect::<Vec<_>>().join("\n  "), schedule.command());
    }
    assert!(failed.is_empty(), "{} of {} schedules failed; the first: {}", failed.len(), schedules.len(), failed[0].0.command());
}

/// One schedule, by hand: the whole story is printed.
#[test]
fn replay() {
    let Ok(text) = std::env::var("SCHEDULE") else { return };
    let schedule = Schedule::parse(&text).unwrap_or_else(|| panic!("SCHEDULE is like 'good seed=7 crash-after=12', not {text:?}"));
    let golden = run(Schedule { blow: None, ..schedule }).unwrap_or_else(|what| panic!("without the fault: {what}"));
    match schedule.blow {
        None => println!("{}", golden.story),
        Some(_) => match judged(schedule, &golden) {
            Ok(()) => println!("{schedule} ends as it should\n{}", run(schedule).map_or_else(|e| e, |e| e.story)),
            Err(what) => panic!("{schedule}: {what}"),
        },
    }
}
