//! `replay`: the verdict on a version once more, from what was recorded, bet by bet.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Value, json};

use super::{
    End, args,
    connect::Cluster,
    paint::{Paint, row},
};
use crate::{
    act::evidence::Evidence,
    api::EVIDENCE_LABEL,
    decide::judge::{
        book::{Book, Verdict},
        journal::Replayed,
        words,
    },
};

/// Prints it, of a file.
pub(crate) fn of_file(path: &Path) -> Result<End> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    print(&Evidence::read(&value).with_context(|| format!("{} holds no evidence of a Release", path.display()))?)
}

/// Prints it, of a Release.
pub(crate) async fn run(cluster: &Cluster, args: &args::Replay) -> Result<End> {
    let found = cluster.values::<ControllerRevision>(&format!("{EVIDENCE_LABEL}={}", args.of)).await?;
    if found.is_empty() {
        bail!(
            "there is no evidence of a Release {}: nothing was bet on, or it is gone; see: kubectl get releases -n {}",
            args.of,
            cluster.namespace
        );
    }
    print(&Evidence::read(&json!({"items": found})).with_context(|| format!("the evidence of Release {} cannot be read", args.of))?)
}

fn print(evidence: &Evidence) -> Result<End> {
    let replayed = evidence.journal.replay()?;
    print!("{}", text(evidence, &replayed, Paint::stdout()));
    Ok(if replayed.is_the_same() { End::Done } else { End::Bad })
}

fn text(evidence: &Evidence, replayed: &Replayed, paint: Paint) -> String {
    let mut rows = vec![row(["TIME", "OF", "SEEN", "AGAINST IT"])];
    rows.extend(replayed.from.as_ref().map(|book| {
        let since = "what was seen before is not recorded: the process that saw it ended, or there was no room";
        row([&book.until().map(second).unwrap_or_default(), "", since, &against(book)])
    }));
    rows.extend(replayed.bets.iter().filter_map(|(dated, book)| {
        let (of, seen) = words::told(&dated.input)?;
        Some(row([&second(dated.at), of, &seen, &against(book)]))
    }));
    let head = format!("{}, the rollout that began at {}:\n\n", evidence.release, second(evidence.started_at));
    format!("{head}{}\n{}", paint.columns(&rows), verdict(replayed))
}

/// What everything comes to.
fn verdict(replayed: &Replayed) -> String {
    let book = replayed.book();
    let (wealth, bound) = (against(book), format!("{:.0}", book.terms().bound()));
    let said = match book.verdict() {
        Verdict::Fail(failure) => format!("it is bad: {}", failure.says),
        Verdict::Proven(says) => format!("it is bad, by the word of its suite and outside of the bound: {says}"),
        Verdict::TooOften(says) => format!("it is bad, by a rule of counting and outside of the bound: {says}"),
        Verdict::Suspend(says) => format!("its traffic is off while it is asked again: {says}"),
        Verdict::Recheck(says) | Verdict::Unexplained(says) => format!("errors jumped: {says}"),
        Verdict::Both(says) => format!("both sides fail, and nobody is blamed: {says}"),
        Verdict::Void(says) => format!("nothing is learnt: {says}"),
        Verdict::Fine => "nothing speaks against it that would be a verdict".to_owned(),
    };
    let purses = words::purses(book)
        .into_iter()
        .map(|(purse, weight, evidence)| format!("{} {:.0} % × {evidence:.4}", purse.word(), weight * 100.0));
    let sum = format!("Against it: {wealth} = {}; {bound} is a verdict\n", purses.collect::<Vec<_>>().join(" + "));
    let same = if replayed.is_the_same() {
        "Recomputed, it is the same as what was recorded, to the last bit\n".to_owned()
    } else {
        format!(
            "RECOMPUTED, IT IS NOT WHAT WAS RECORDED, which is {}: the record was changed, or another version wrote it\n",
            against(&replayed.recorded)
        )
    };
    format!("Verdict: {said}\n{sum}{same}")
}

fn against(book: &Book) -> String {
    format!("{:.4}", book.wealth())
}

fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
