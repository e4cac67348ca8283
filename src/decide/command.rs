//! Orders of people: which apply now, and what is answered. An order names its Release; one that comes late is void and
//! says so. The state remembers the last order that was carried out before the order itself is marked done, so that a
//! crash in between neither loses it nor carries it out twice.

use super::{Case, approval};
use crate::{
    api::command::{Action, CommandResult},
    model::{
        decision::{Decision, Effect, Reason},
        phase::{Phase, Stage},
        world::Command,
    },
};

/// The oldest order of these kinds that applies now and was not carried out yet. One that has to wait, as a retry does while
/// another version is on its way, is in nobody's way.
pub fn pending<'a>(case: &Case<'a>, wanted: impl Fn(Action) -> bool) -> Option<&'a Command> {
    case.seen.commands.iter().find(|c| wanted(c.action) && !done(case, c) && void(case, c).is_none())
}

fn done(case: &Case<'_>, command: &Command) -> bool {
    case.state.last_command.as_deref() == Some(command.name.as_str())
}

/// Why an order does not apply; none: it does.
fn void(case: &Case<'_>, command: &Command) -> Option<String> {
    let no = |text: &str| Some(text.to_owned());
    match (&case.state.phase, command.action) {
        (Phase::Rolling(rollout), Action::Promote | Action::Abort | Action::Rollback | Action::Approve) => {
            if rollout.release != command.release {
                return Some(format!("{} is not on its way, {} is", command.release, rollout.release));
            }
            match (&rollout.stage, command.action) {
                (Stage::RollingBack { .. }, _) => no("it is already on its way back"),
                (Stage::Finalizing, Action::Promote) => no("it has all of the traffic already"),
                (_, Action::Approve) => approval::about(case, rollout, command).err(),
                _ => None,
            }
        }
        (_, Action::Promote | Action::Abort | Action::Approve) => no("no rollout is in flight"),
        (Phase::Adopting, Action::Rollback) => no("nothing is proven yet"),
        (Phase::Live | Phase::RolledBack { .. }, Action::Rollback) => {
            let live = case.state.live.as_ref().map(|l| &l.release);
            match &case.state.previous {
                _ if live != Some(&command.release) => Some(format!("{} is not live", command.release)),
                None => no("there is no version before this one to go back to"),
                Some(previous) => match case.seen.release(previous) {
                    Some(release) if release.templates.is_some() => None,
                    _ => no("the templates of the version before this one are gone"),
                },
            }
        }
        (Phase::Rolling(rollout), Action::Retry) if rollout.halted.is_some() && rollout.release == command.release => None,
        (_, Action::Retry) if case.state.quarantine.iter().any(|q| q.release == command.release) => None,
        (_, Action::Retry) => Some(format!("{} is not quarantined", command.release)),
        (_, Action::Adopt) if opened(case) || rewritten(case) => None,
        (_, Action::Adopt) => no("no gate was opened by hand, no branch rewritten and no tag moved back"),
    }
}

/// A person opened a gate.
#[must_use]
pub fn opened(case: &Case<'_>) -> bool {
    case.seen.workloads.iter().any(|w| !w.paused && w.gate_marked)
}

fn rewritten(case: &Case<'_>) -> bool {
    case.seen.problems.iter().any(|p| matches!(p, Reason::BranchRewritten { .. } | Reason::TagMovedBack { .. }))
}

/// Answers the orders that are done or void.
#[must_use]
pub fn acknowledged(case: &Case<'_>, mut decision: Decision) -> Decision {
    for command in &case.seen.commands {
        let answer = if done(case, command) {
            Some((CommandResult::Done, "carried out".to_owned()))
        } else {
            void(case, command).map(|why| (CommandResult::Void, why))
        };
        if let Some((result, message)) = answer {
            decision.effects.push(Effect::SettleCommand { command: command.name.clone(), result, message });
        }
    }
    decision
}

/// Who gave an order and why, for the reason that people read.
#[must_use]
pub fn words(command: &Command) -> (String, String) {
    (command.by.clone(), command.reason.clone().unwrap_or_else(|| "no reason given".to_owned()))
}
