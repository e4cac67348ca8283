//! `status`: all deliveries of the namespace as a table, or one as a tree.

pub(crate) mod routes;
pub(crate) mod tree;
pub(crate) mod view;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::Result;
use jiff::Timestamp;
use kube::{ResourceExt as _, api::ListParams};

use super::{
    End, args,
    connect::{Cluster, within},
    paint::{Cell, Paint, Style, ago, of_phase, row},
    seen,
};
use crate::api::delivery::Delivery;

/// How often `-w` looks again. Its reads are small and few (7 lists), so that no watch has to be kept alive.
const LOOK: Duration = Duration::from_secs(2);

/// Prints it, once or again and again.
pub(crate) async fn run(cluster: &Cluster, args: &args::Status) -> Result<End> {
    let paint = Paint::stdout();
    let mut last = None;
    loop {
        let now = cluster.now();
        // What is printed says how long things stand; what counts as a change is the same picture at a fixed moment.
        let (text, picture) = match (&args.name, args.output) {
            (None, args::Output::Json) => {
                let all = table_of(cluster).await?;
                let json = serde_json::to_string_pretty(&all)? + "\n";
                (json.clone(), json)
            }
            (None, args::Output::Text) => {
                let all = table_of(cluster).await?;
                (table(&all, &cluster.namespace, now, paint), table(&all, &cluster.namespace, Timestamp::MIN, paint))
            }
            (Some(name), output) => {
                let view = view::of(&seen::read(cluster, name).await?);
                match output {
                    args::Output::Json => (serde_json::to_string_pretty(&view)? + "\n", serde_json::to_string(&view)?),
                    args::Output::Text => (tree::tree(&view, now, paint), tree::tree(&view, Timestamp::MIN, paint)),
                }
            }
        };
        let screen = args.watch && std::io::stdout().is_terminal() && args.output == args::Output::Text;
        if screen || last.as_ref() != Some(&picture) {
            show(&text, screen, args.watch)?;
            last = Some(picture);
        }
        if !args.watch {
            return Ok(End::Done);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn show(text: &str, screen: bool, again: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if screen {
        // Home and clear what is below, rather than clear and draw: no flicker.
        write!(out, "\u{1b}[H\u{1b}[J")?;
    }
    write!(out, "{text}")?;
    if again && !screen {
        writeln!(out)?;
    }
    Ok(out.flush()?)
}

async fn table_of(cluster: &Cluster) -> Result<Vec<Delivery>> {
    Ok(within("deliveries", cluster.of::<Delivery>().list(&ListParams::default())).await?.items.into_iter().map(view::quiet).collect())
}

/// All deliveries, as `kubectl get` shows them, with the sentence.
pub(crate) fn table(all: &[Delivery], namespace: &str, now: Timestamp, paint: Paint) -> String {
    if all.is_empty() {
        return format!("There is no Delivery in namespace {namespace}. Make one: kubectl haldane init deploy/NAME\n");
    }
    let rows = all.iter().map(|delivery| {
        let status = delivery.status.clone().unwrap_or_default();
        let weight = status.rollout.as_ref().and_then(|r| r.weight).map(|w| format!("{}%", w.served)).unwrap_or_default();
        let phase = status.phase.unwrap_or_default();
        let (style, since) = (of_phase(&phase), status.since.map(|at| ago(at.0, now)).unwrap_or_default());
        let mut row: Vec<Cell> = vec![
            Cell::styled(delivery.name_any(), Style::Bold),
            status.desired.map(|v| v.version).unwrap_or_default().into(),
            status.live.map(|v| v.version).unwrap_or_default().into(),
            Cell::styled(phase, style),
        ];
        row.extend([weight, since, status.reason.unwrap_or_default(), status.message.unwrap_or_default()].map(Cell::from));
        row
    });
    let head = row(["NAME", "DESIRED", "LIVE", "PHASE", "WEIGHT", "SINCE", "REASON", "WHY"]);
    paint.columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}
