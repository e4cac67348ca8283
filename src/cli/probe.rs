//! `probe run`: one run of a ProductionProbe from where the user sits, by the controller's own prober.
//!
//! It decides nothing and writes no object. A run that changes something is put right by this process alone: there is no `ProbeRun` of it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::{
    End,
    args::{self, ProbeRun},
    connect::{Cluster, bare, within},
    forward::Forward,
    paint::{Cell, Paint, Style, row},
};
use crate::{
    api::probe::{ProductionProbe, ProductionProbeSpec},
    edge::probe::{HttpProber, Prober as _, Reach},
    model::probe::{Check, Class, Done, Knock, Outcome, RUN, Run, SECRETS, Scheme, Step, shell_name},
    observe::{
        checks::by_hand::{self, Behind, Nobody},
        probes::Target,
    },
};

/// `probe`
pub(crate) async fn run(cluster: &Cluster, args: &args::Probe) -> Result<End> {
    let args::Probe::Run(args) = args;
    match once(cluster, args).await {
        Err(error) => {
            eprintln!("error: {error:#}");
            Ok(End::Undecided)
        }
        end => end,
    }
}

async fn once(cluster: &Cluster, args: &ProbeRun) -> Result<End> {
    let name = bare(&args.name);
    let found = within("productionprobes", cluster.of::<ProductionProbe>().get_opt(name)).await?;
    let spec = found.with_context(|| format!("there is no ProductionProbe {name} in namespace {}", cluster.namespace))?.spec;
    let written = by_hand::as_written(name, &spec).map_err(|why| anyhow!("ProductionProbe {name} cannot be run: {why}"))?;
    if args.dry_run {
        print!("{}", sketch(&written));
        return Ok(End::Done);
    }
    if written.mutates() && !args.yes {
        bail!("ProductionProbe {name} changes production; see --dry-run, and run it with --yes");
    }
    let check = by_hand::check(&cluster.client, &cluster.namespace, name, &spec).await?;
    let check = Arc::new(check.map_err(|why| anyhow!("ProductionProbe {name} cannot be run: {why}"))?);
    let behind = by_hand::behind(&cluster.client, &cluster.namespace, &spec.target).await?;
    let behind = behind.map_err(|(Nobody::Now(why) | Nobody::Left(why))| anyhow!(why))?;
    let (pod, home) = chosen(&behind, args)?;
    let pods: Api<Pod> = Api::namespaced(cluster.patient()?, &cluster.namespace);
    let forward = Forward::open(pods.clone(), &pod.pod, pod.at.port()).await?;
    let homeward = Forward::open(pods, &home.pod, home.at.port()).await?;
    println!("{name} on pod {}, port {}", pod.pod, pod.at.port());
    if written.mutates() {
        println!("it changes production; no ProbeRun is written, so what it makes is put right by this process alone");
    }
    let run = told(&check, &forward, &homeward).await;
    let run = judged(&check, &forward, run).await;
    print!("{}", text(&check, &run, Paint::stdout()));
    if let Some(step) = failed(&check, &run) {
        print!("{}", by_curl(cluster, (&check, &spec, step), pod, &run));
    }
    Ok(match run.outcome {
        Outcome::Pass { .. } => End::Done,
        Outcome::Fail { .. } => End::Bad,
        Outcome::Void { .. } => End::Undecided,
    })
}

/// The run, to its end: what it made is put right also when somebody has lost patience.
async fn told(check: &Arc<Check>, forward: &Forward, homeward: &Forward) -> Run {
    let prober = HttpProber::new(Reach::Anywhere);
    let running = prober.run(check, forward.at, homeward.at, None);
    tokio::pin!(running);
    loop {
        tokio::select! {
            run = &mut running => return run,
            Ok(()) = tokio::signal::ctrl_c(), if !check.teardown.is_empty() => {
                eprintln!("it goes on until what it made is put right");
            }
        }
    }
}

/// With what is known of the way to the pod: its end on this machine takes every connection.
async fn judged(check: &Check, forward: &Forward, run: Run) -> Run {
    let trouble = match (&run.outcome, &check.knock, check.scheme) {
        (Outcome::Pass { .. }, Some(Knock::Tcp), Scheme::Http) => forward.is_taken().await.err(),
        (Outcome::Fail { class: Class::Connect | Class::Tls | Class::Timeout, .. }, ..) => forward.trouble().await,
        _ => None,
    };
    let Some(why) = trouble else { return run };
    let refused = why.contains("connection refused");
    let said = if refused { "nothing listens on the port of the pod".to_owned() } else { format!("the pod could not be reached: {why}") };
    let mut done = run.done;
    if let Some(last) = done.iter_mut().rev().find(|done| done.wrong.is_some() || check.knock.is_some()) {
        last.wrong = Some(said.clone());
    }
    let outcome = match run.outcome {
        Outcome::Pass { took } | Outcome::Fail { took, .. } if refused => {
            Outcome::Fail { class: Class::Connect, step: String::new(), said, status: None, took }
        }
        _ => Outcome::Void { class: Class::Prober, said },
    };
    Run { outcome, done, ..run }
}

/// Whom to ask, and who puts right what was made.
fn chosen<'a>(behind: &'a Behind, args: &ProbeRun) -> Result<(&'a Target, &'a Target)> {
    let Behind { stable, canary } = behind;
    let all = || stable.iter().chain(canary);
    let names = || all().map(|pod| pod.pod.as_str()).collect::<Vec<_>>().join(", ");
    let pod = match (&args.pod, args.canary) {
        (Some(name), _) => {
            let name = bare(name);
            all()
                .find(|pod| pod.pod == name)
                .with_context(|| format!("no pod {name} is ready behind the Service; there are: {}", names()))?
        }
        (None, true) => canary.first().with_context(|| format!("no pod of a canary is ready; there are: {}", names()))?,
        (None, false) => all().next().context("no pod is ready")?,
    };
    Ok((pod, stable.first().unwrap_or(pod)))
}

/// What would be sent, as it is written.
fn sketch(check: &Check) -> String {
    let mut out = String::new();
    let line = |text: String| format!("{text}\n");
    match &check.knock {
        Some(Knock::Tcp) => out += &line("opens a connection to the port, and closes it".to_owned()),
        Some(Knock::Grpc { service }) if service.is_empty() => out += &line("asks grpc.health.v1.Health/Check of the server".to_owned()),
        Some(Knock::Grpc { service }) => out += &line(format!("asks grpc.health.v1.Health/Check of {service}")),
        None => {}
    }
    for (at, step) in check.all_steps() {
        let list = at.split('[').next().unwrap_or_default();
        out += &line(format!("# {list}: {}, expects {}{}", step.name, step.expect.wanted(), demands(step)));
        out += &line(check.curl(step, None));
    }
    if let Some(sweep) = &check.sweep {
        out += &line("# sweep: not part of a run by hand, but for what its teardown cannot know".to_owned());
        out += &line(check.curl(&sweep.list, None));
    }
    out
}

fn demands(step: &Step) -> String {
    let within = step.expect.within.map(|within| format!(", within {within:?}"));
    let that = step.expect.that.iter().map(|that| format!(", {}", that.0));
    within.into_iter().chain(that).collect()
}

/// Every step with what came of it, and the verdict.
fn text(check: &Check, run: &Run, paint: Paint) -> String {
    let mut rows: Vec<Vec<Cell>> = run.done.iter().map(|done| told_step(check, done)).collect();
    let ran = |step: &Step| run.done.iter().any(|done| done.step == step.name);
    let not_run = check.all_steps().filter(|(_, step)| !ran(step));
    rows.extend(not_run.map(|(_, step)| row(["-", &step.name, &request(step), "", "", "not run"])));
    let verdict = match &run.outcome {
        Outcome::Pass { took } => paint.text(&format!("pass, in {}", millis(*took)), Style::Good),
        Outcome::Fail { class, said, .. } => paint.text(&format!("fail ({class}): {said}"), Style::Bad),
        Outcome::Void { class, said } => paint.text(&format!("could not be run ({class}): {said}"), Style::Warn),
    };
    let left = run.left.iter().map(|left| {
        let name = run.name.as_ref().map(|name| format!("; the run is {}", name.as_str())).unwrap_or_default();
        paint.text(&format!("left behind: {left}{name}\n"), Style::Bad)
    });
    format!("{}{}{verdict}\n", paint.columns(&rows), left.collect::<String>())
}

fn told_step(check: &Check, done: &Done) -> Vec<Cell> {
    let asked = check.all_steps().find(|(_, step)| step.name == done.step).map(|(_, step)| request(step)).unwrap_or_default();
    let (word, style) = if done.wrong.is_some() { ("FAIL", Style::Bad) } else { ("ok", Style::Good) };
    let status = done.status.map(|status| status.to_string()).unwrap_or_default();
    let mut cells = vec![Cell::styled(word, style)];
    cells.extend(row([&done.step, &asked, &status, &millis(done.took), done.wrong.as_deref().unwrap_or_default()]));
    cells
}

fn request(step: &Step) -> String {
    format!("{} {}", step.method, step.shown_path())
}

fn millis(took: Duration) -> String {
    format!("{} ms", took.as_millis())
}

/// The step that failed, of those that are asked with curl; none: all went well.
fn failed<'a>(check: &'a Check, run: &Run) -> Option<&'a Step> {
    let wrong = run.done.iter().find(|done| done.wrong.is_some())?;
    check.all_steps().map(|(_, step)| step).find(|step| step.name == wrong.step)
}

/// How to ask the same by hand.
fn by_curl(cluster: &Cluster, (check, spec, step): (&Check, &ProductionProbeSpec, &Step), pod: &Target, run: &Run) -> String {
    let (namespace, port) = (&cluster.namespace, pod.at.port());
    let mut lines = vec![format!("\nthe same by hand:\nkubectl -n {namespace} port-forward pod/{} {port} &", pod.pod)];
    let mut names: Vec<&str> = step.names().collect();
    names.dedup();
    for name in names {
        let value = match name.strip_prefix(SECRETS) {
            Some(secret) => spec.secrets.iter().find(|named| named.name == secret).map(|named| {
                let key = named.secret_ref.key.replace('.', r"\.");
                format!("$(kubectl -n {namespace} get secret {} -o jsonpath='{{.data.{key}}}' | base64 -d)", named.secret_ref.name)
            }),
            None if name == RUN => run.name.as_ref().map(|name| name.as_str().to_owned()),
            None => None,
        };
        let captured = || format!("…   # {}", bringer(check, name));
        lines.push(format!("{}={}", shell_name(name), value.unwrap_or_else(captured)));
    }
    lines.push(check.curl(step, Some(port)));
    lines.join("\n") + "\n"
}

/// What brings the value of a variable.
fn bringer(check: &Check, name: &str) -> String {
    let step = check.all_steps().find(|(_, step)| step.capture.iter().any(|capture| capture.name == name));
    step.map(|(_, step)| format!("what {} brings", step.name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::probe::RunName;

    fn check() -> Check {
        let spec = json!({"target": {"serviceRef": {"name": "shop"}}, "mutates": true,
            "secrets": [{"name": "token", "secretRef": {"name": "bot", "key": "t.k"}}],
            "steps": [
                {"name": "place", "request": {"method": "POST", "path": "/orders?x=1", "json": {"ref": "synth-${run.id}"},
                    "headers": [{"name": "Authorization", "value": "Bearer ${secrets.token}"}]},
                    "expect": {"status": [201], "within": "800ms", "that": ["json.id > 0"]}, "capture": [{"name": "id", "jsonPath": "$.id"}]},
                {"name": "read", "request": {"path": "/orders/${id}"}}],
            "teardown": [{"name": "cancel", "request": {"method": "DELETE", "path": "/orders/${id}"}}]});
        by_hand::as_written("buy", &serde_json::from_value(spec).unwrap()).unwrap()
    }

    fn done(step: &str, status: u16, wrong: Option<&str>) -> Done {
        Done { step: step.into(), status: Some(status), took: Duration::from_millis(12), wrong: wrong.map(Into::into), shape: None }
    }

    #[test]
    fn what_would_be_sent_has_neither_secrets_nor_values() {
        let expected = "\
# steps: place, expects 201, within 800ms, json.id > 0
curl -sS -i -X POST 'http://shop/orders?x=1' -H 'Content-Type: application/json' -H 'Authorization: Bearer '\"${TOKEN}\" -d '{\"ref\":\"synth-'\"${RUN_ID}\"'\"}'
# steps: read, expects 2xx
curl -sS -i 'http://shop/orders/'\"${ID}\"
# teardown: cancel, expects 2xx
curl -sS -i -X DELETE 'http://shop/orders/'\"${ID}\"
";
        assert_eq!(sketch(&check()), expected);
        let knock = |spec| sketch(&by_hand::as_written("p", &serde_json::from_value(spec).unwrap()).unwrap());
        assert_eq!(knock(json!({"target": {"serviceRef": {"name": "db"}}, "tcp": {}})), "opens a connection to the port, and closes it\n");
        assert_eq!(
            knock(json!({"target": {"serviceRef": {"name": "db"}}, "grpc": {"service": "a.B"}})),
            "asks grpc.health.v1.Health/Check of a.B\n"
        );
    }

    #[test]
    fn every_step_is_told_and_the_one_that_failed_with_why() {
        let said = "GET /orders/${id} answered 500, expected 2xx".to_owned();
        let outcome = Outcome::Fail { class: Class::HttpStatus, step: "read".into(), said, status: Some(500), took: Duration::ZERO };
        let wrong = Some("answered 500, expected 2xx");
        let name = RunName::new(jiff::Timestamp::UNIX_EPOCH, [7; RunName::RANDOM]);
        let run = Run {
            left: Some("DELETE /orders/${id} answered 500, expected 2xx".into()),
            name: Some(name),
            done: vec![done("place", 201, None), done("read", 500, wrong), done("cancel", 500, wrong)],
            ..Run::from(outcome)
        };
        let expected = "\
ok     place    POST /orders           201   12 ms
FAIL   read     GET /orders/${id}      500   12 ms   answered 500, expected 2xx
FAIL   cancel   DELETE /orders/${id}   500   12 ms   answered 500, expected 2xx
left behind: DELETE /orders/${id} answered 500, expected 2xx; the run is 0000000007070707070707070707
fail (http-status): GET /orders/${id} answered 500, expected 2xx
";
        assert_eq!(text(&check(), &run, Paint(false)), expected);
        assert_eq!(failed(&check(), &run).map(|step| step.name.as_str()), Some("read"));
    }

    #[test]
    fn what_was_not_run_is_told_as_such() {
        let outcome = Outcome::Void { class: Class::Prober, said: "all places were taken".into() };
        let told = text(&check(), &Run::from(outcome), Paint(false));
        assert!(
            told.contains("-   place    POST /orders") && told.ends_with("could not be run (prober): all places were taken\n"),
            "{told}"
        );
    }

    #[test]
    fn a_pod_is_chosen_by_name_or_by_its_side() {
        let pod = |name: &str| Target { pod: name.into(), at: ([10, 0, 0, 1], 8080).into() };
        let behind = Behind { stable: vec![pod("s1"), pod("s2")], canary: vec![pod("c1")] };
        let args = |name: Option<&str>, canary: bool| ProbeRun {
            name: "buy".into(),
            pod: name.map(Into::into),
            canary,
            dry_run: false,
            yes: false,
        };
        let chosen = |name, canary| chosen(&behind, &args(name, canary)).map(|(pod, home)| (pod.pod.clone(), home.pod.clone())).unwrap();
        assert_eq!(chosen(None, false), ("s1".into(), "s1".into()));
        assert_eq!(chosen(Some("pod/s2"), false), ("s2".into(), "s1".into()));
        assert_eq!(chosen(None, true), ("c1".into(), "s1".into()));
        let none = super::chosen(&Behind { canary: Vec::new(), ..behind.clone() }, &args(None, true)).unwrap_err();
        assert_eq!(none.to_string(), "no pod of a canary is ready; there are: s1, s2");
    }
}
