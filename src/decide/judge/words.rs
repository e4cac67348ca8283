//! The sentences of the judge: where, how many of how many on either side, and how sure.

use super::{
    bet::{Share, Tally},
    book::{Book, Input},
    latency::EDGES,
    logs::Line,
    mirror::ENOUGH,
    probes::{Probe, Seen},
    sums::Sums,
    terms::Purse,
};

const EDGE_NAMES: [&str; EDGES] = ["p50", "p90", "p99"];

/// Why the canary failed, when this purse weighs most.
pub(super) fn failure(book: &Book, purse: Purse, wealth: f64) -> String {
    let what = match purse {
        Purse::Errors => errors(book),
        Purse::Probes => probes(book),
        Purse::Latency => latency(book),
        Purse::Logs => format!("logs: {}", lines(book).unwrap_or_default()),
        Purse::Platform => format!("restarts: {}", restarts(book)),
    };
    format!("{what}; evidence {wealth:.0}, {:.0} is a verdict", book.terms.bound())
}

fn errors(book: &Book) -> String {
    let top = book.strata.iter().enumerate().map(|(at, share)| (at, share.wealth()));
    let (at, most) = top.fold((0, 0.0), |best, one| if one.1 > best.1 { one } else { best });
    let count = u32::try_from(book.strata.len()).unwrap_or(u32::MAX).max(1);
    let alone = most * 0.25 / f64::from(count) > 0.75 * book.errors.wealth();
    match (book.terms.strata.get(at), book.sums.get(at)) {
        (Some(stratum), Some(sums)) if alone => format!("errors of {stratum}: {}", compared(*sums, "failed")),
        _ => format!("errors: {}", compared(sum(&book.sums), "failed")),
    }
}

fn latency(book: &Book) -> String {
    let at = book.latency.top();
    let name = EDGE_NAMES.get(at).copied().unwrap_or_default();
    let sums = book.slow.get(at).copied().unwrap_or_default();
    format!("latency: {}", compared(sums, &format!("were slower than stable's {name}")))
}

/// The lines that speak loudest.
fn lines(book: &Book) -> Option<String> {
    let Line { signature, lines: (canary, stable), .. } = book.logs.top()?;
    Some(format!("{signature}: {} on canary, {stable} on stable", counted(*canary)))
}

/// So many lines.
#[must_use]
pub fn counted(lines: u64) -> String {
    if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") }
}

fn restarts(book: &Book) -> String {
    let (minutes, events) = book.minutes;
    let usual = book.terms.restarts.unwrap_or(1);
    format!("{events} in {minutes} minutes of the canary's pods, {usual} a day and pod {} usual", if usual == 1 { "is" } else { "are" })
}

fn probes(book: &Book) -> String {
    let wealth = |at: usize| book.probes.get(at).map_or(0.0, Probe::wealth);
    let at = (0..book.probes.len()).fold(0, |best, at| if wealth(at) > wealth(best) { at } else { best });
    let [confirmed, unsure, good] = book.probes.get(at).map_or([0; 3], Probe::counts);
    let name = book.terms.probes.get(at).map(|terms| terms.name.clone()).unwrap_or_default();
    let all = u64::from(confirmed) + u64::from(unsure) + u64::from(good);
    let said = book.said.clone().unwrap_or(name);
    let part = if unsure > 0 { format!(", {unsure} more in part") } else { String::new() };
    format!("{said}; {confirmed} of {all} samples failed on the canary alone{part}")
}

/// Both sides in one sentence.
fn compared(sums: Sums, what: &str) -> String {
    let side = |(asked, failed): (u64, u64)| format!("{failed} of {asked} ({})", percent(failed, asked));
    format!("{} {what} on canary, {} on stable", side(sums.canary), side(sums.stable))
}

fn sum(all: &[Sums]) -> Sums {
    let add = |one: (u64, u64), other: (u64, u64)| (one.0.saturating_add(other.0), one.1.saturating_add(other.1));
    all.iter().fold(Sums::default(), |sum, one| Sums { canary: add(sum.canary, one.canary), stable: add(sum.stable, one.stable) })
}

/// What is known of users' requests: both sides, and at a step how far the evidence to go on is. Empty where nobody counts them.
#[must_use]
pub fn standing(book: &Book, step: Option<usize>) -> Vec<String> {
    if book.terms.errors.is_none() {
        return Vec::new();
    }
    let mut said = vec![format!("errors: {}", compared(sum(&book.sums), "failed"))];
    if book.terms.latency.is_some() {
        said.push(latency(book));
    }
    let needed = needed(book.terms.margin);
    said.extend(step.map(|step| {
        let so_far = book.promotion(step).min(1e6);
        let requests = match book.seen.asked {
            asked if asked >= needed => format!("{asked} requests"),
            asked => format!("{asked} requests, {needed} where none fails"),
        };
        format!("to go on: evidence {so_far:.1}, {ENOUGH:.0} is enough ({requests})")
    }));
    said
}

/// What is known of its log. None: it is not read.
#[must_use]
pub fn logs_standing(book: &Book) -> Option<String> {
    book.terms.logs?;
    let kinds = match book.logs.kinds() {
        0 | 1 => String::new(),
        kinds => format!("; {kinds} kinds of lines in all"),
    };
    Some(lines(book).map_or_else(|| "nothing new, and no alert".to_owned(), |lines| lines + &kinds))
}

/// How often its pods were restarted. None: never.
#[must_use]
pub fn restarts_standing(book: &Book) -> Option<String> {
    (book.minutes.1 > 0).then(|| restarts(book))
}

/// With two digits behind the point, by whole numbers.
fn percent(part: u64, all: u64) -> String {
    let hundredths = part.saturating_mul(10_000).checked_div(all).unwrap_or(0);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

/// A suite failed on the canary alone, and again when it was repeated.
pub(super) fn proven(said: &str) -> String {
    format!("{said}; twice")
}

/// All that failed, failed on one pod.
#[must_use]
pub fn one_client(says: &str) -> String {
    format!(
        "{says}; all of it on one pod, as one client that stays with its pod would do, so nothing is proven before another pod or a probe fails"
    )
}

/// What one input says against the canary, or that something changes, for people; none: it speaks for going on alone.
#[must_use]
pub fn told(input: &Input) -> Option<(&'static str, String)> {
    let all = |tallies: &mut dyn Iterator<Item = &Tally>| {
        let mut sums = Sums::default();
        tallies.for_each(|tally| sums.add(tally));
        sums
    };
    Some(match input {
        Input::Errors(strata) => (Purse::Errors.word(), compared(all(&mut strata.iter().map(|(_, tally)| tally)), "failed")),
        Input::Latency(edges) => {
            let slow = edges.iter().zip(EDGE_NAMES).map(|(tally, name)| {
                format!(
                    "{} of {} and {} of {} slower than {name}",
                    tally.canary.failed, tally.canary.asked, tally.stable.failed, tally.stable.asked
                )
            });
            (Purse::Latency.word(), format!("canary and stable: {}", slow.collect::<Vec<_>>().join(", ")))
        }
        Input::Logs(lines) => {
            let lines =
                lines.iter().map(|(signature, tally)| format!("\"{signature}\" {} to {}", tally.canary.failed, tally.stable.failed));
            (Purse::Logs.word(), format!("canary and stable: {}", lines.collect::<Vec<_>>().join(", ")))
        }
        Input::Platform { pod_minutes, events } => (Purse::Platform.word(), format!("{events} in {pod_minutes} pod-minutes of the canary")),
        Input::Pair(pair) => {
            let (canary, stable) = (answered(&pair.canary), answered(&pair.stable));
            (Purse::Probes.word(), format!("{}: canary {canary}, stable {stable}", pair.probe))
        }
        Input::Alone(side) => ("alone", format!("{} of {} failed under all of the traffic; nothing is bet", side.failed, side.asked)),
        Input::Whole(true) => ("traffic", "all of it goes to the canary".to_owned()),
        Input::Whole(false) => ("traffic", "both sides share it".to_owned()),
        Input::Stage => ("stage", "a stage begins".to_owned()),
        Input::Mirror { .. } => return None,
    })
}

fn answered(seen: &Seen) -> String {
    match seen {
        Seen::Pass => "passed".to_owned(),
        Seen::Fail(says) => format!("failed ({says})"),
        Seen::Busy(says) => format!("was busy ({says})"),
        Seen::Void(says) => format!("gave no answer ({says})"),
    }
}

/// Suspended and given back too often.
pub(super) fn too_often(said: &str) -> String {
    format!("{said}; it was good again each time that its traffic was taken off, and is not tried once more")
}

/// Errors jumped under all of the traffic.
pub(super) fn jumped(book: &Book) -> String {
    let Sums { canary, stable } = sum(&book.sums);
    let (asked, failed) = (canary.0.saturating_add(stable.0), canary.1.saturating_add(stable.1));
    format!(
        "{} failures in two blocks under all of the traffic, more than three times what is usual; side by side {} failed",
        book.watch.failed,
        percent(failed, asked)
    )
}

/// What little traffic can say: what was asked in so many minutes, what would be needed, and what the probes rule out instead. None: traffic
/// is enough, or has no vote.
#[must_use]
pub fn little_traffic(book: &Book, minutes: u32) -> Option<String> {
    let needed = needed(book.terms.margin);
    let asked = book.seen.asked;
    if asked >= needed || book.terms.errors.is_none() {
        return None;
    }
    let errors = format!("errors: {asked} requests in {minutes} min, {needed} needed");
    let (good, all) = book.probes.iter().fold((0_u64, 0_u64), |(good, all), probe| {
        let [confirmed, unsure, passed] = probe.counts();
        let passed = u64::from(passed);
        (good + passed, all + passed + u64::from(confirmed) + u64::from(unsure))
    });
    let fewest = book.probes.iter().map(|probe| probe.counts()[2]).min().unwrap_or(0);
    Some(match (all, good == all) {
        (0, _) => errors,
        // The rule of three: of n that all passed, 3/n is the upper 95 % limit.
        (_, true) if fewest >= 3 => format!(
            "{errors}; judged by probes: {good} of {all} pairs passed, a fault share above {} % is ruled out at 95 %",
            300_u32.div_ceil(fewest)
        ),
        _ => format!("{errors}; judged by probes: {good} of {all} pairs passed"),
    })
}

/// Requests to the canary without a failure that clear the margin at 95 %: 3/m. Where there is no margin, as many as one of 0.5 % needs.
#[must_use]
pub fn needed(margin: f64) -> u32 {
    (1..=30_000_u32).find(|requests| f64::from(*requests) * margin >= 3.0 - 1e-9).unwrap_or(600)
}

/// What a purse weighs now, for people: its word, its weight in percent and its evidence.
#[must_use]
pub fn purses(book: &Book) -> Vec<(Purse, f64, f64)> {
    let all = Purse::ALL.into_iter().zip(book.terms.weights());
    all.filter(|(_, weight)| *weight > 0.0).map(|(purse, weight)| (purse, weight, book.evidence(purse))).collect()
}

/// The evidence against each of the busiest strata.
#[must_use]
pub fn strata(book: &Book) -> Vec<(&str, f64, Sums)> {
    let names = book.terms.strata.iter().map(String::as_str);
    let wealth = book.strata.iter().map(Share::wealth);
    names.zip(wealth).zip(&book.sums).map(|((name, wealth), sums)| (name, wealth, *sums)).collect()
}
