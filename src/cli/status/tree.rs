//! One Delivery as text.

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::{
    routes::RouteView,
    view::{CronJobView, Gate, HoldView, Pin, PodView, ServiceView, Side, View, WorkloadView},
};
use crate::{
    api::status::{AheadCommit, DeliveryStatus, Evidence, LastRollback, ProbeEvidence, RolloutStatus, WayBack},
    cli::paint::{Cell, Paint, Style, ago, between, of_phase, row, span},
    model::template,
};

/// The whole picture.
pub(crate) fn tree(view: &View, now: Timestamp, paint: Paint) -> String {
    let status = view.delivery.status.clone().unwrap_or_default();
    let mut blocks = vec![header(view, &status, now, paint)];
    let rows = view.workloads.iter().fold(workload_head(), workload).into_iter().chain(view.cron_jobs.iter().map(cron_job));
    blocks.push(paint.columns(&rows.collect::<Vec<_>>()));
    if !view.services.is_empty() {
        blocks.push(services(&view.services, now, paint));
    }
    if !view.routes.is_empty() {
        blocks.push(routes(&view.routes, paint));
    }
    if !view.unread.is_empty() {
        blocks.push(view.unread.iter().flat_map(|u| ["could not be read: ", u, "\n"]).collect());
    }
    blocks.join("\n")
}

fn header(view: &View, status: &DeliveryStatus, now: Timestamp, paint: Paint) -> String {
    let delivery = &view.delivery;
    let phase = status.phase.as_deref().unwrap_or_default();
    let mut rows = vec![vec![
        "Delivery:".into(),
        Cell::styled(format!("{}/{}", delivery.namespace().unwrap_or_default(), delivery.name_any()), Style::Bold),
    ]];
    rows.push(vec!["Phase:".into(), Cell::styled(standing(status, now), of_phase(phase))]);
    if let Some(message) = &status.message {
        rows.push(row(["Why:", message]));
    }
    let version = |version: &str, release: &str| format!("{version}   ({release})");
    if let Some(desired) = &status.desired {
        rows.push(row(["Desired:", &version(&desired.version, &desired.release)]));
    }
    rows.extend(status.ahead.iter().map(|commit| row(["Ahead:", &ahead(commit)])));
    if let Some(live) = &status.live {
        let since = live.since.as_ref().map(|at| format!("   for {}", ago(at.0, now))).unwrap_or_default();
        rows.push(row(["Live:", &(version(&live.version, &live.release) + &since)]));
    }
    if let Some(back) = &status.way_back {
        rows.push(row(["Way back:", &format!("{} by {}{}", version(&back.version, &back.release), back.by, expected(back))]));
    }
    if let Some(rollout) = &status.rollout {
        rows.push(row(["Rollout:", &rolling(rollout)]));
        rows.extend(left(view, now).map(|left| row(["Time left:", &left])));
        rows.extend(rollout.evidence.as_ref().map(|e| row(["Evidence:", &evidence(e)])));
    }
    let probes =
        if view.probes.is_empty() { "none; new versions are judged by their pods alone".to_owned() } else { view.probes.join(", ") };
    rows.push(row(["Probes:", &probes]));
    rows.extend(view.holds.iter().map(|h| vec!["Hold:".into(), Cell::styled(hold(h, now), Style::Warn)]));
    rows.extend(status.holds.iter().map(|h| vec!["Held:".into(), Cell::styled(format!("{}: {}", h.reason, h.message), Style::Warn)]));
    rows.extend(
        status
            .quarantine
            .iter()
            .map(|q| row(["Quarantine:", &format!("{} ({:?}, {}): {}", q.release, q.outcome, q.why.reason, q.why.message)])),
    );
    rows.extend(status.last_rollback.as_ref().map(|l| row(["Last rollback:", &last_rollback(l, now)])));
    paint.columns(&rows)
}

fn expected(back: &WayBack) -> String {
    back.expected.map(|seconds| format!(", about {seconds} s")).unwrap_or_default()
}

/// A merge that is no Release (yet), and why.
fn ahead(commit: &AheadCommit) -> String {
    let why = match (commit.state.as_str(), commit.message.as_str()) {
        ("Building", what) => format!("waits for {what}"),
        (state, "") => state.to_owned(),
        (state, why) => format!("{state}: {why}"),
    };
    format!("{}   {why}   {:?}", commit.version, commit.title)
}

/// Phase, reason, since.
pub(crate) fn standing(status: &DeliveryStatus, now: Timestamp) -> String {
    let Some(phase) = &status.phase else { return "not looked at yet; is the controller running? kubectl haldane doctor".to_owned() };
    let reason = status.reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
    let since = status.since.as_ref().map(|at| format!(" for {}", ago(at.0, now))).unwrap_or_default();
    format!("{phase}{reason}{since}")
}

fn rolling(rollout: &RolloutStatus) -> String {
    let mut parts = vec![format!("{} from {}", rollout.release, rollout.from)];
    if rollout.direction == "Return" {
        parts.push("on the way back to an older version".to_owned());
    }
    parts.extend(rollout.step.map(|step| format!("step {step} of {}", rollout.steps)));
    parts.extend(rollout.weight.map(|w| format!("{} % asked, {} % served", w.asked, w.served)));
    parts.extend(rollout.canary.map(|c| format!("canary {}/{} ready", c.ready, c.wanted)));
    parts.extend(rollout.suspended_since.as_ref().map(|_| "traffic is off the canary for now".to_owned()));
    parts.join(", ")
}

fn left(view: &View, now: Timestamp) -> Option<String> {
    let left = view.left.as_ref()?;
    let still = |what: &str, at: Timestamp| match between(now, at) {
        rest if rest.is_zero() => format!("the {what} is over"),
        rest => format!("{what} {}", span(rest)),
    };
    let parts: Vec<String> =
        left.stage.iter().map(|(what, at)| still(what, *at)).chain(left.deadline.map(|at| still("deadline", at))).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The evidence in a line: how much it is, and the samples of each probe.
pub(crate) fn evidence(evidence: &Evidence) -> String {
    let against = format!("{} against it, {} is a verdict", evidence.against, evidence.bound);
    let probe = |probe: &ProbeEvidence| {
        let bad =
            [(probe.failed, "failed"), (probe.unsure, "unsure")].map(|(count, word)| (count > 0).then(|| format!(", {count} {word}")));
        format!("; {} {} good ({} here){}", probe.name, probe.good, probe.here, bad.into_iter().flatten().collect::<String>())
    };
    against + &evidence.probes.iter().map(probe).collect::<String>()
}

fn hold(hold: &HoldView, now: Timestamp) -> String {
    let which = hold.spec.release.as_ref().map(|r| format!(" only {r},")).unwrap_or_default();
    let until = match &hold.spec.until {
        Some(until) if until.0 <= now => format!("ended {} ago", ago(until.0, now)),
        Some(until) => format!("{} left", span(between(now, until.0))),
        None => "until it is taken off".to_owned(),
    };
    format!("{} by {}:{which} {} ({until})", hold.name, hold.spec.by, hold.spec.message)
}

/// What was taken back last.
pub(crate) fn last_rollback(last: &LastRollback, now: Timestamp) -> String {
    let when = last.at.as_ref().map(|at| format!(" {} ago", ago(at.0, now))).unwrap_or_default();
    format!("{} to {}{when} ({}): {}", last.from, last.to, last.reason, last.message)
}

fn workload_head() -> Vec<Vec<Cell>> {
    vec![row(["SIDE", "NAME", "READY", "RESTARTS", "IMAGE", "STATE"])]
}

fn workload(mut rows: Vec<Vec<Cell>>, workload: &WorkloadView) -> Vec<Vec<Cell>> {
    match &workload.stable {
        Some(side) => rows.extend(side_rows("stable", side)),
        None => rows.push(vec![
            "stable".into(),
            workload.name.clone().into(),
            "".into(),
            "".into(),
            "".into(),
            Cell::styled("does not exist", Style::Bad),
        ]),
    }
    rows.extend(workload.canary.iter().flat_map(|side| side_rows("canary", side)));
    rows
}

fn cron_job(cron_job: &CronJobView) -> Vec<Cell> {
    let state = match (&cron_job.image, cron_job.differs) {
        (None, _) => Cell::styled("does not exist", Style::Bad),
        (Some(_), true) => Cell::styled("not the image that serves", Style::Warn),
        (Some(_), false) => Cell::default(),
    };
    let image = cron_job.image.as_deref().map(template::tag).unwrap_or_default();
    vec![Cell::styled("cron", Style::Bold), format!("CronJob/{}", cron_job.name).into(), "".into(), "".into(), image.into(), state]
}

fn side_rows(word: &str, side: &Side) -> Vec<Vec<Cell>> {
    let style = if side.ready >= side.wanted { Style::Good } else { Style::Warn };
    let count = Cell::styled(format!("{}/{}", side.ready, side.wanted), style);
    let state = side.gate.map(gate).or_else(|| side.release.clone()).unwrap_or_default();
    let head =
        vec![Cell::styled(word, Style::Bold), format!("Deployment/{}", side.deployment).into(), count, "".into(), "".into(), state.into()];
    let last = side.pods.len().saturating_sub(1);
    let pods = side.pods.iter().enumerate().map(|(at, pod)| pod_row(if at == last { "└ " } else { "├ " }, pod));
    std::iter::once(head).chain(pods).collect()
}

fn gate(gate: Gate) -> String {
    match (gate.closed, gate.template_waits) {
        (true, false) => "gate closed",
        (true, true) => "gate closed, another template waits",
        (false, false) => "gate open",
        (false, true) => "gate open, rolling to another template",
    }
    .to_owned()
}

fn pod_row(branch: &str, pod: &PodView) -> Vec<Cell> {
    let ready = if pod.ready { Cell::styled("yes", Style::Good) } else { Cell::styled("no", Style::Warn) };
    let state = match (&pod.trouble, pod.ending) {
        (_, true) => Cell::from("ending"),
        (Some(trouble), false) => Cell::styled(trouble.clone(), Style::Bad),
        (None, false) => Cell::default(),
    };
    vec!["".into(), format!("{branch}{}", pod.name).into(), ready, pod.restarts.to_string().into(), pod.digest.clone().into(), state]
}

fn routes(routes: &[RouteView], paint: Paint) -> String {
    let rows = routes.iter().map(|r| {
        let canary = r.canary.map_or_else(|| "changed by somebody".to_owned(), |share| format!("{share} %"));
        row([r.name.as_str(), &canary, r.test.as_deref().unwrap_or_default()])
    });
    paint.columns(&std::iter::once(row(["ROUTE", "CANARY", "TEST IT"])).chain(rows).collect::<Vec<_>>())
}

fn services(services: &[ServiceView], now: Timestamp, paint: Paint) -> String {
    let rows = services.iter().map(|s| {
        let pin = match &s.pin {
            Pin::Off => "as its owner wrote it".to_owned(),
            Pin::Stable(hash) => format!("stable (pod-template-hash={hash})"),
            Pin::Canary => "canary".to_owned(),
        };
        row([s.name.as_str(), &pin, &s.since.map(|at| ago(at, now)).unwrap_or_default()])
    });
    paint.columns(&std::iter::once(row(["SERVICE", "PINNED TO", "FOR"])).chain(rows).collect::<Vec<_>>())
}
