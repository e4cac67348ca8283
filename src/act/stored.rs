//! What survives a restart: [`State`] as the status tells it, and back.
//!
//! Reading never fails. A status that somebody damaged is read as the safest that it can mean: a rollout in flight that
//! makes no sense goes back to the version it came from, undecided; without one, the recorded version is live; without
//! that, adoption begins anew.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::releases::cut;
use crate::{
    api::{
        delivery::Capacity,
        release::Outcome,
        status::{
            Back, DeliveryStatus, Evidence, FoughtStatus, Gated, HaltedStatus, LiveVersion, ProbeEvidence, QUARANTINE, QuarantineEntry,
            RolloutStatus, SinceWhy, SoughtStatus, Told,
        },
    },
    decide::judge::{
        book::Book,
        probes::{Probe, ProbeTerms},
        terms::Terms,
        words,
    },
    model::{
        external::Sought,
        phase::{Adopted, Direction, Fought, Live, Phase, Quarantined, Rollout, Stage, State, Why},
        version::{Identity, ReleaseName, TemplateHash},
    },
};

/// Length of a sentence, as the schema bounds it.
pub(super) const MESSAGE: usize = 1024;
/// How many `CronJobs` have run before, as the schema bounds it.
const PREPARED: usize = 4;
/// How many words are asked for, as the schema bounds it.
const SOUGHT: usize = 4;
/// Length of a text in the evidence.
const EVIDENCE: usize = 512;
/// Length of a sentence on requests, on the log or on restarts.
const REQUESTS: usize = 200;

impl State {
    /// What the status says, read in the safest way.
    #[must_use]
    pub fn read(status: &DeliveryStatus, now: Timestamp) -> Self {
        let live = status
            .live
            .as_ref()
            .filter(|live| !live.release.is_empty())
            .map(|live| Live { release: ReleaseName::new(&live.release), since: at(live.since.as_ref(), now) });
        let previous = match &status.rollout {
            Some(rollout) => rollout.previous.clone(),
            None => status.way_back.as_ref().map(|back| back.release.clone()),
        };
        Self {
            phase: phase(status, live.is_some(), now),
            since: at(status.since.as_ref(), now),
            live,
            previous: previous.filter(|name| !name.is_empty()).map(ReleaseName::new),
            quarantine: status.quarantine.iter().map(quarantined).collect(),
            adopted: status.gated.iter().map(|g| Adopted { name: g.name.clone(), uid: g.uid.clone(), was_paused: g.was_paused }).collect(),
            last_command: status.last_command.clone(),
            ungated: status.ungated,
        }
    }
}

fn phase(status: &DeliveryStatus, live: bool, now: Timestamp) -> Phase {
    if let Some(rollout) = status.rollout.as_ref().filter(|r| !r.release.is_empty() && !r.from.is_empty()) {
        let label = rollout.halted.as_ref().map_or(status.phase.as_deref(), |h| Some(&h.at)).unwrap_or_default();
        let known = book(rollout.evidence.as_ref());
        return Phase::Rolling(Rollout {
            release: ReleaseName::new(&rollout.release),
            from: ReleaseName::new(&rollout.from),
            direction: direction(rollout),
            started_at: at(rollout.started_at.as_ref(), at(status.since.as_ref(), now)),
            // On the way home and back nothing is asked of the book any more.
            stage: if known.is_some() || ["Finalizing", "RollingBack"].contains(&label) {
                stage(label, rollout)
            } else {
                unreadable_at(label)
            },
            halted: rollout.halted.as_ref().map(|halted| why(&halted.why)),
            book: known.unwrap_or_else(|| Book::open(Terms::default())),
            suspended: rollout.suspended_since.as_ref().map(|time| time.0),
            prepared: rollout.prepared.clone(),
            sought: rollout
                .external
                .iter()
                .map(|s| Sought { name: s.name.clone(), at: s.at, since: s.since.0, passed: s.passed })
                .collect(),
            capacity: rollout.capacity.unwrap_or_default(),
            approved: rollout.approved.iter().filter_map(|step| usize::try_from(*step).ok()?.checked_sub(1)).collect(),
            fought: rollout.fought.as_ref().map(|f| Fought { template: TemplateHash::new(&f.template), at: f.at.0 }),
        });
    }
    match (status.phase.as_deref(), &status.last_rollback) {
        _ if !live => Phase::Adopting,
        (Some("Adopting"), _) => Phase::Adopting,
        (Some("RolledBack"), Some(last)) if !last.release.is_empty() => Phase::RolledBack {
            release: ReleaseName::new(&last.release),
            outcome: last.outcome.unwrap_or(Outcome::Undecided),
            why: Why { word: last.reason.clone(), says: last.message.clone() },
        },
        _ => Phase::Live,
    }
}

fn direction(rollout: &RolloutStatus) -> Direction {
    if rollout.direction == "Return" { Direction::Return(rollout.why.as_ref().map_or_else(unreadable, why)) } else { Direction::Forward }
}

fn stage(phase: &str, rollout: &RolloutStatus) -> Stage {
    let step = rollout.step.and_then(|step| usize::try_from(step).ok()).and_then(|step| step.checked_sub(1));
    match (phase, step, &rollout.until, &rollout.back) {
        ("Preparing", ..) => Stage::Preparing,
        ("Preflight", ..) => Stage::Preflight,
        ("Canary", Some(step), ..) => Stage::Canary { step },
        ("Promoting", ..) => Stage::Promoting,
        ("Guarding", _, Some(until), _) => Stage::Guarding { until: until.0 },
        ("Finalizing", ..) => Stage::Finalizing,
        ("RollingBack", _, _, Some(back)) => Stage::RollingBack { outcome: back.outcome, why: why(&back.why), at: back.at.clone() },
        _ => unreadable_at(phase),
    }
}

fn unreadable_at(phase: &str) -> Stage {
    Stage::RollingBack { outcome: Outcome::Undecided, why: unreadable(), at: cut(phase, 32) }
}

fn unreadable() -> Why {
    Why {
        word: "StatusUnreadable".to_owned(),
        says: "the recorded rollout could not be read, so it goes back to the version it came from".to_owned(),
    }
}

fn why(told: &Told) -> Why {
    Why { word: told.reason.clone(), says: told.message.clone() }
}

pub(super) fn told(why: &Why) -> Told {
    Told { reason: cut(&why.word, 64), message: cut(&why.says, MESSAGE) }
}

fn at(time: Option<&MicroTime>, otherwise: Timestamp) -> Timestamp {
    time.map_or(otherwise, |time| time.0)
}

/// Whole microseconds: what is stored must read back as the same, or each look would find a change. Whole seconds would cut a bake
/// of a few seconds short.
pub(super) fn time(at: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at))
}

fn quarantined(entry: &QuarantineEntry) -> Quarantined {
    Quarantined {
        identity: Identity::new(&entry.identity),
        release: ReleaseName::new(&entry.release),
        outcome: entry.outcome,
        why: why(&entry.why),
    }
}

/// The part of the status that a state is read from again; what else it says is for people.
pub(super) fn essence(state: &State) -> DeliveryStatus {
    let over = state.quarantine.len().saturating_sub(QUARANTINE);
    DeliveryStatus {
        phase: Some(state.phase.label().to_owned()),
        since: Some(time(state.since)),
        live: state.live.as_ref().map(|live| LiveVersion {
            release: live.release.to_string(),
            since: Some(time(live.since)),
            ..LiveVersion::default()
        }),
        rollout: state.phase.rollout().map(|rollout| in_flight(rollout, state.previous.as_ref())),
        quarantine: state.quarantine.iter().skip(over).map(entry).collect(),
        gated: state.adopted.iter().map(|a| Gated { name: a.name.clone(), uid: a.uid.clone(), was_paused: a.was_paused }).collect(),
        last_command: state.last_command.clone(),
        ungated: state.ungated,
        ..DeliveryStatus::default()
    }
}

fn entry(quarantined: &Quarantined) -> QuarantineEntry {
    QuarantineEntry {
        identity: quarantined.identity.to_string(),
        release: quarantined.release.to_string(),
        outcome: quarantined.outcome,
        why: told(&quarantined.why),
    }
}

fn in_flight(rollout: &Rollout, previous: Option<&ReleaseName>) -> RolloutStatus {
    let (direction, why) = match &rollout.direction {
        Direction::Forward => ("Forward", None),
        Direction::Return(why) => ("Return", Some(told(why))),
    };
    let status = RolloutStatus {
        release: rollout.release.to_string(),
        from: rollout.from.to_string(),
        direction: direction.to_owned(),
        why,
        previous: previous.map(ToString::to_string),
        started_at: Some(time(rollout.started_at)),
        suspended_since: rollout.suspended.map(time),
        halted: rollout.halted.as_ref().map(|why| HaltedStatus { why: told(why), at: rollout.stage.label().to_owned() }),
        prepared: rollout.prepared.iter().take(PREPARED).cloned().collect(),
        external: rollout
            .sought
            .iter()
            .take(SOUGHT)
            .map(|s| SoughtStatus { name: cut(&s.name, 63), at: s.at, since: time(s.since), passed: s.passed })
            .collect(),
        capacity: Some(rollout.capacity).filter(|capacity| *capacity != Capacity::Full),
        approved: rollout.approved.iter().filter_map(|step| i32::try_from(step + 1).ok()).collect(),
        fought: rollout.fought.as_ref().map(|f| FoughtStatus { template: f.template.to_string(), at: time(f.at) }),
        evidence: Some(evidence(rollout)),
        ..RolloutStatus::default()
    };
    match &rollout.stage {
        Stage::Preparing | Stage::Preflight | Stage::Promoting | Stage::Finalizing => status,
        Stage::Canary { step } => RolloutStatus { step: i32::try_from(step + 1).ok(), ..status },
        Stage::Guarding { until } => RolloutStatus { until: Some(time(*until)), ..status },
        Stage::RollingBack { outcome, why, at } => {
            RolloutStatus { back: Some(Back { outcome: *outcome, why: told(why), at: at.clone() }), ..status }
        }
    }
}

fn small(count: u32) -> i32 {
    // The bound of the schema; a rollout with more pairs than that is no longer a rollout.
    i32::try_from(count.min(100_000_000)).unwrap_or(i32::MAX)
}

fn evidence(rollout: &Rollout) -> Evidence {
    let book = &rollout.book;
    let step = if let Stage::Canary { step } = rollout.stage { Some(step) } else { None };
    let lasting =
        |since: Option<&(Timestamp, String)>| since.map(|(at, why)| SinceWhy { since: at.as_microsecond(), why: cut(why, EVIDENCE) });
    let probe = |(terms, probe): (&ProbeTerms, &Probe)| {
        let [failed, unsure, good] = probe.counts().map(small);
        ProbeEvidence { name: terms.name.clone(), good, here: small(probe.at_this_stage()), unsure, failed }
    };
    Evidence {
        against: decimal(book.wealth()),
        bound: rounded(book.terms().bound()),
        probes: book.each_probe().map(probe).collect(),
        requests: words::standing(book, step).iter().map(|said| cut(said, REQUESTS)).collect(),
        logs: words::logs_standing(book).map(|said| cut(&said, REQUESTS)),
        restarts: words::restarts_standing(book).map(|said| cut(&said, REQUESTS)),
        failure: book.said().map(|text| cut(text, EVIDENCE)),
        both: lasting(book.both()),
        void: lasting(book.void()),
        until: book.until().map(Timestamp::as_microsecond),
        book: serde_json::to_string(book).ok(),
    }
}

/// Two digits behind the point where they matter.
fn decimal(number: f64) -> String {
    match number {
        small if small < 100.0 => format!("{small:.2}"),
        large if large < 1e12 => format!("{large:.0}"),
        huge => format!("{huge:.1e}"),
    }
}

/// Whole, within the bound of the schema.
fn rounded(number: f64) -> i32 {
    format!("{:.0}", number.clamp(0.0, 1_000_000.0)).parse().unwrap_or(0)
}

/// The book that was stored. None: it cannot be read, which is never the same as an empty one.
fn book(evidence: Option<&Evidence>) -> Option<Book> {
    match evidence.and_then(|evidence| evidence.book.as_deref()) {
        Some(stored) => serde_json::from_str(stored).ok(),
        None => Some(Book::open(Terms::default())),
    }
}
