//! `why`: the sentence first, then what it rests on.

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::{ResourceExt as _, api::ListParams};
use serde::Serialize;
use serde_json::Value;

use super::{
    End, args,
    connect::{Cluster, within},
    json,
    paint::{Cell, Paint, Style, ago, row},
    status::{tree, view},
};
use crate::{
    api::{
        delivery::{Approval, Delivery, StepSpec},
        probe::{ProductionProbe, ProductionProbeSpec},
        release::{Release, ReleaseConfig},
        status::{Evidence, SinceWhy},
    },
    decide::judge::probes::by_route,
    model::probe::Step,
    observe::checks::by_hand::as_written,
};

/// How many Events are shown.
const EVENTS: usize = 10;

/// What there is to say.
#[derive(Debug, Serialize)]
struct Why {
    delivery: Delivery,
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<Release>,
    events: Vec<Value>,
    /// How to ask by hand what failed last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by_hand: Vec<String>,
}

/// Prints it.
pub(crate) async fn run(cluster: &Cluster, args: &args::Why) -> Result<End> {
    let delivery = cluster.delivery(args.named.name.as_deref()).await?;
    let release = match &args.release {
        None => None,
        Some(name) => {
            let found = within("releases", cluster.of::<Release>().get_opt(name)).await?;
            Some(found.with_context(|| format!("there is no Release {name}; see: kubectl get releases -n {}", cluster.namespace))?)
        }
    };
    let about: Vec<String> = match &release {
        Some(release) => vec![release.name_any()],
        None => involved(&delivery),
    };
    let events = events(cluster, &about).await.unwrap_or_default();
    let by_hand = if release.is_none() { by_hand(cluster, &delivery).await } else { Vec::new() };
    let why = Why { delivery: view::quiet(delivery), release, events, by_hand };
    match args.output {
        args::Output::Json => println!("{}", serde_json::to_string_pretty(&why)?),
        args::Output::Text => print!("{}", text(&why, cluster.now(), Paint::stdout())),
    }
    Ok(End::Done)
}

/// How to ask by hand what failed last, from the probe as it is written now. Nothing, where it was no probe, or is not to be had.
async fn by_hand(cluster: &Cluster, delivery: &Delivery) -> Vec<String> {
    let status = delivery.status.clone().unwrap_or_default();
    let canary = status.rollout.is_some();
    let failed = status.rollout.and_then(|rollout| rollout.evidence?.failure);
    let Some(said) = failed.or_else(|| status.last_rollback.map(|last| last.message)) else { return Vec::new() };
    let mut named = delivery.spec.verify.iter().flat_map(|verify| &verify.probes);
    let Some((name, said)) = named.find_map(|probe| Some((&probe.name, failure_of(&said, &probe.name)?))) else {
        return Vec::new();
    };
    let Ok(Some(probe)) = within("productionprobes", cluster.of::<ProductionProbe>().get_opt(name)).await else { return Vec::new() };
    asked_by_hand(name, &probe.spec, said, canary)
}

/// What is said of a probe in a sentence about it.
fn failure_of<'a>(said: &'a str, probe: &str) -> Option<&'a str> {
    said.split_once(&format!("{probe}: ")).or_else(|| said.split_once(&format!("{}: ", by_route(probe)))).map(|(_, said)| said)
}

fn asked_by_hand(name: &str, spec: &ProductionProbeSpec, said: &str, canary: bool) -> Vec<String> {
    let Ok(check) = as_written(name, spec) else { return Vec::new() };
    let yes = if check.mutates() { " --yes" } else { "" };
    let side = if canary { " --canary" } else { "" };
    let begins = |step: &Step| said.starts_with(&format!("{} {} ", step.method, step.shown_path()));
    let step = check.all_steps().map(|(_, step)| step).find(|step| begins(step));
    let whole = format!("kubectl haldane probe run {name}{side}{yes}");
    std::iter::once(whole).chain(step.map(|step| check.curl(step, None))).collect()
}

/// The objects whose Events tell the story: the Delivery and what it wants.
fn involved(delivery: &Delivery) -> Vec<String> {
    let status = delivery.status.clone().unwrap_or_default();
    let mut about = vec![delivery.name_any()];
    about.extend(status.desired.map(|d| d.release).into_iter().chain(status.rollout.map(|r| r.release)));
    about.dedup();
    about
}

async fn events(cluster: &Cluster, about: &[String]) -> Result<Vec<Value>> {
    let api = cluster.foreign::<Event>();
    let mut all = Vec::new();
    for name in about {
        let query = ListParams::default().fields(&format!("involvedObject.name={name}"));
        for event in within("events", api.list(&query)).await?.items {
            all.push(serde_json::to_value(event)?);
        }
    }
    Ok(newest(all))
}

/// The newest Events of our kinds, newest first.
fn newest(mut events: Vec<Value>) -> Vec<Value> {
    events.retain(|e| matches!(json::text(e, "/involvedObject/kind"), "Delivery" | "Release"));
    events.sort_by_key(|e| std::cmp::Reverse(happened(e)));
    events.truncate(EVENTS);
    events
}

fn happened(event: &Value) -> Option<Timestamp> {
    ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"]
        .into_iter()
        .find_map(|at| json::moment(event, at))
}

fn text(why: &Why, now: Timestamp, paint: Paint) -> String {
    let mut blocks = vec![match &why.release {
        Some(release) => of_release(release, now, paint),
        None => of_delivery(&why.delivery, now, paint),
    }];
    let status = why.delivery.status.clone().unwrap_or_default();
    let about = |release: &str| why.release.as_ref().is_none_or(|r| r.name_any() == release);
    if let Some(rollout) = status.rollout.as_ref().filter(|r| about(&r.release))
        && let Some(evidence) = &rollout.evidence
    {
        blocks.push(evidence_of(&rollout.release, evidence, now, paint));
    }
    if let Some(last) = status.last_rollback.as_ref().filter(|_| why.release.is_none()) {
        blocks.push(format!("Last rollback: {}\n", tree::last_rollback(last, now)));
    }
    if !why.by_hand.is_empty() {
        blocks.push(format!("By hand:\n{}\n", why.by_hand.join("\n")));
    }
    let rows = why.events.iter().map(|e| {
        let style = if json::text(e, "/type") == "Warning" { Style::Bad } else { Style::Plain };
        let mut row: Vec<Cell> = row([&happened(e).map(|at| ago(at, now)).unwrap_or_default()]);
        row.extend([Cell::styled(json::text(e, "/reason"), style), json::text(e, "/message").into()]);
        row
    });
    if !why.events.is_empty() {
        blocks.push(paint.columns(&std::iter::once(row(["EVENT", "REASON", "MESSAGE"])).chain(rows).collect::<Vec<_>>()));
    }
    blocks.join("\n")
}

fn of_delivery(delivery: &Delivery, now: Timestamp, paint: Paint) -> String {
    let status = delivery.status.clone().unwrap_or_default();
    let sentence = status.message.clone().unwrap_or_else(|| "nothing is told yet".to_owned());
    let mut rows = vec![row(["Phase:", &tree::standing(&status, now)])];
    if let (Some(desired), Some(live)) = (&status.desired, &status.live) {
        rows.push(row(["Desired, live:", &format!("{}, {}", desired.version, live.version)]));
    }
    rows.extend(status.holds.iter().map(|h| row(["Waits for:", &format!("{}: {}", h.reason, h.message)])));
    rows.extend(status.rollout.iter().filter_map(|r| r.until.as_ref()).map(|at| row(["Not before:", &at.0.to_string()])));
    rows.extend(
        status.rollout.iter().filter_map(|r| r.back.as_ref()).map(|b| row(["Goes back:", &format!("{}: {}", b.why.reason, b.why.message)])),
    );
    // What is well says nothing; what is not is the answer.
    let bad = |type_: &str, status: &str| match type_ {
        "Stalled" | "Held" => status == "True",
        "Available" | "Ready" | "Verified" => status != "True",
        _ => false,
    };
    rows.extend(
        status
            .conditions
            .iter()
            .filter(|c| bad(&c.type_, &c.status))
            .map(|c| row(["Condition:", &format!("{}={} ({}): {}", c.type_, c.status, c.reason, c.message)])),
    );
    format!("{}\n\n{}", paint.text(&sentence, Style::Bold), paint.columns(&rows))
}

fn of_release(release: &Release, now: Timestamp, paint: Paint) -> String {
    let status = release.status.clone().unwrap_or_default();
    let sentence = status.message.clone().unwrap_or_else(|| "nothing is told of this Release yet".to_owned());
    let outcome = status.outcome.map_or_else(|| "none yet".to_owned(), |o| format!("{o:?}"));
    let reason = status.reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
    let mut rows =
        vec![row(["Release:", &release.name_any()]), row(["Version:", &release.spec.version]), row(["Image:", &release.spec.image])];
    rows.push(row(["Outcome:", &format!("{outcome}{reason}")]));
    rows.extend(release.spec.commit.iter().map(|c| row(["Commit:", c])));
    rows.extend(brought(release));
    rows.extend((!release.spec.reverts.is_empty()).then(|| row(["Reverts:", &release.spec.reverts.join(", ")])));
    rows.extend(release.spec.config.as_ref().map(|config| row(["Its file sets:", &set(config)])));
    rows.extend(status.tries.map(|tries| row(["Tries:", &tries.to_string()])));
    rows.extend(status.started_at.iter().map(|at| row(["Began:", &format!("{} ago", ago(at.0, now))])));
    rows.extend(status.finished_at.iter().map(|at| row(["Ended:", &format!("{} ago", ago(at.0, now))])));
    rows.extend(status.superseded_by.iter().map(|by| row(["Superseded by:", by])));
    format!("{}\n\n{}", paint.text(&sentence, Style::Bold), paint.columns(&rows))
}

/// The commits that came with it.
fn brought(release: &Release) -> Vec<Vec<Cell>> {
    let Some(origin) = &release.spec.origin else { return Vec::new() };
    let told = origin.commits.iter().map(|commit| {
        let request = commit.pull_request.map(|number| format!(" (#{number})")).unwrap_or_default();
        let short = commit.commit.get(..7).unwrap_or(&commit.commit);
        format!("{short} {}{request}, {}", commit.title, commit.author)
    });
    let more = origin.commit_count.map(|count| format!("… {count} in all"));
    told.chain(more).enumerate().map(|(at, text)| row([if at == 0 { "Brings:" } else { "" }, &text])).collect()
}

/// What the file in its repository sets, in a line.
fn set(config: &ReleaseConfig) -> String {
    let bake = |step: &StepSpec| step.bake.map(|bake| format!(" for {bake}")).unwrap_or_default();
    let approval = |step: &StepSpec| if step.approval == Some(Approval::Required) { " after an approval" } else { "" };
    let steps = config.steps.iter().map(|steps| {
        let share = |step: &StepSpec| step.weight.map_or_else(|| "testers".to_owned(), |weight| format!("{weight} %"));
        let steps: Vec<String> = steps.iter().map(|step| format!("{}{}{}", share(step), bake(step), approval(step))).collect();
        format!("steps {}", steps.join(", "))
    });
    let probes = (!config.probes.is_empty()).then(|| {
        let names: Vec<&str> = config.probes.iter().map(|probe| probe.name.as_str()).collect();
        format!("probes {}", names.join(", "))
    });
    steps.chain(probes).collect::<Vec<_>>().join("; ")
}

fn evidence_of(release: &str, evidence: &Evidence, now: Timestamp, paint: Paint) -> String {
    let bound = format!("{}; {} is a verdict, for of so many good versions one at most gets there", evidence.against, evidence.bound);
    let mut rows = vec![row(["Against it:", &bound])];
    rows.extend(evidence.probes.iter().map(|probe| {
        let counts = format!("{} good ({} at this stage), {} unsure, {} failed", probe.good, probe.here, probe.unsure, probe.failed);
        row([&format!("{}:", probe.name), &counts])
    }));
    rows.extend(evidence.requests.iter().filter_map(|said| said.split_once(": ")).map(|(what, said)| row([&format!("{what}:"), said])));
    rows.extend(evidence.logs.iter().map(|said| row(["logs:", said])));
    rows.extend(evidence.restarts.iter().map(|said| row(["restarts:", said])));
    rows.extend(evidence.failure.iter().map(|f| row(["Last failure:", f])));
    let lasts = |word: &str, since: &SinceWhy| {
        let at = Timestamp::from_microsecond(since.since).map(|at| ago(at, now)).unwrap_or_default();
        row([word, &format!("for {at}: {}", since.why)])
    };
    rows.extend(evidence.both.iter().map(|b| lasts("Both fail:", b)));
    rows.extend(evidence.void.iter().map(|v| lasts("No answer:", v)));
    format!("Evidence on {release}\n{}", paint.columns(&rows))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::status::tests::{delivery, now};

    #[test]
    fn the_sentence_comes_first_then_what_it_rests_on() {
        let event = |at: &str, kind: &str, message: &str| json!({"type": "Warning", "reason": "Suspended", "message": message, "lastTimestamp": at, "involvedObject": {"kind": kind}});
        let events = newest(vec![
            event("2026-01-01T11:58:00Z", "Delivery", "older"),
            event("2026-01-01T11:59:00Z", "Release", "newer"),
            event("2026-01-01T11:59:30Z", "Deployment", "of another kind with the same name"),
        ]);
        let by_hand = vec!["kubectl haldane probe run place-order --canary".to_owned()];
        let why = Why { delivery: delivery(), release: None, events, by_hand };
        let expected = "\
v2 gets 20 % of new connections by pods (asked 5 %) and bakes

Phase:           Canary (Baking) for 72s
Desired, live:   v2, v1
Not before:      2026-01-01T12:00:48Z

Evidence on checkout-v2-1a2b3
Against it:     3.20; 1000 is a verdict, for of so many good versions one at most gets there
place-order:    11 good (4 at this stage), 1 unsure, 0 failed
Last failure:   place-order: POST /orders answered 500 on canary, 201 on stable

By hand:
kubectl haldane probe run place-order --canary

EVENT   REASON      MESSAGE
60s     Suspended   newer
2m      Suspended   older
";
        assert_eq!(text(&why, now(), Paint(false)), expected);
    }

    #[test]
    fn what_failed_can_be_asked_by_hand() {
        let spec = json!({"target": {"serviceRef": {"name": "shop"}}, "mutates": true, "steps": [
            {"name": "list", "request": {"path": "/orders"}},
            {"name": "place", "request": {"method": "POST", "path": "/orders", "headers": [{"name": "Authorization", "value": "Bearer tok3n"}]}},
            {"name": "read", "request": {"path": "/orders/1"}}]});
        let asked = |sentence: &str| {
            let said = failure_of(sentence, "buy").unwrap_or("nothing of it");
            asked_by_hand("buy", &serde_json::from_value(spec.clone()).unwrap(), said, true)
        };
        let whole = "kubectl haldane probe run buy --canary --yes";
        let post = r#"curl -sS -i -X POST 'http://shop/orders' -H 'Authorization: '"${AUTHORIZATION}""#;
        assert_eq!(asked("v2 was taken back: buy: POST /orders answered 500 on canary, passed on stable"), [whole, post]);
        assert_eq!(asked("buy by the route: GET /orders answered 500")[1], "curl -sS -i 'http://shop/orders'");
        assert_eq!(asked("buy: TCP port 80 found the connection refused"), [whole]);
        assert_eq!(asked("sell: GET /orders answered 500"), [whole]);
    }

    #[test]
    fn a_release_is_told_in_its_own_words() {
        let release: Release = serde_json::from_value(json!({"metadata": {"name": "checkout-v2-1a2b3"},
            "spec": {"deliveryRef": {"name": "checkout"}, "version": "v2", "image": "r/checkout:v2"},
            "status": {"outcome": "RolledBack", "reason": "CanaryFailed", "message": "v2 was taken back: place-order failed", "tries": 1}}))
        .unwrap();
        let told = of_release(&release, now(), Paint(false));
        assert!(told.starts_with("v2 was taken back: place-order failed\n\n"), "{told}");
        assert!(told.contains("Outcome:   RolledBack (CanaryFailed)\n"), "{told}");
    }

    #[test]
    fn a_release_of_merges_says_what_came_with_it() {
        let commit = |sha: &str, title: &str, request: Option<u64>| json!({"commit": sha.repeat(40), "title": title, "author": "ana", "pullRequest": request});
        let release: Release = serde_json::from_value(json!({"metadata": {"name": "checkout-aaaaaaa-1a2b3"},
            "spec": {"deliveryRef": {"name": "checkout"}, "version": "aaaaaaa", "image": "r/checkout@sha256:00", "reverts": ["#11"],
                "origin": {"type": "Merge", "commits": [commit("a", "Sells pears", Some(12)), commit("b", "Weighs", None)], "commitCount": 30},
                "config": {"steps": [{"weight": 10, "bake": "5m"}, {"weight": 50}], "probes": [{"name": "order"}]}}}))
        .unwrap();
        let told = of_release(&release, now(), Paint(false));
        let expected = "\
Brings:          aaaaaaa Sells pears (#12), ana
                 bbbbbbb Weighs, ana
                 … 30 in all
Reverts:         #11
Its file sets:   steps 10 % for 5m, 50 %; probes order
";
        assert!(told.contains(expected), "{told}");
    }
}
