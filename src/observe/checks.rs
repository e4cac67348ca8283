//! `ProductionProbes` of the plan as checks that can be run, or what is wrong with them.

use std::{sync::Arc, time::Duration};

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service as RawService};
use kube::{Api, Client, ResourceExt as _, core::DeserializeGuard};
use serde_json::Value;

pub mod by_hand;
pub mod put_right;

use super::{cron_jobs, problems::labels, services, workloads::owns_any};
use crate::{
    api::probe::{
        Burst as RawBurst, Capture as RawCapture, Method, ProductionProbe, ProductionProbeSpec, Request as RawRequest, Scheme as RawScheme,
        SecretKey, SecretVariable, Step as RawStep, Sweep as RawSweep, Target as RawTarget, Via, Vote,
    },
    edge::{
        kube::{KubeError, get},
        probe::Page,
    },
    model::{
        decision::Reason,
        phase::after,
        plan::Plan,
        probe::{
            AnsweredBy, Body, Capture, Check, Compare, Expect, Knock, Load, Place, SECRETS, Scheme, Step, Suite, Sweep, That, Until, Vars,
            Wanted,
        },
        window::Windows,
    },
    observe::probes::Burst,
};

const ROLLOUT: Duration = Duration::from_secs(15);
const ALWAYS: Duration = Duration::from_mins(3);
/// Of a suite, which takes minutes.
const SUITE_ROLLOUT: Duration = Duration::from_mins(10);
const SUITE_ALWAYS: Duration = Duration::from_hours(1);
/// Of a load: once, before the version has customers; few rollouts take longer.
const LOAD_ROLLOUT: Duration = Duration::from_hours(24);
/// How often the right answer is asked for again.
const EVERY: Duration = Duration::from_secs(1);
/// The key of a `ConfigMap` that holds a certificate authority.
const CA: &str = "ca.crt";

/// One probe of the plan.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Probe {
    /// What is asked.
    pub(super) check: Arc<Check>,
    /// Behind which Service.
    pub(super) service: String,
    /// At which of its ports; none: the only one.
    pub(super) port: Option<String>,
    /// While a version rolls out.
    pub(super) rollout: Duration,
    /// At the beginning of each stage of it.
    pub(super) burst: Option<Burst>,
    /// At rest.
    pub(super) always: Duration,
    /// It decides.
    pub(super) votes: bool,
    /// Pods are asked wherever they can be.
    pub(super) pods: bool,
    /// It goes by the route where it can.
    pub(super) route: bool,
    /// As whom customers know what is asked, if that is said.
    pub(super) host: Option<String>,
    /// When it was made or changed.
    pub(super) changed: Option<Timestamp>,
    /// Where its runs are written down, if they have to be.
    pub(super) page: Option<Arc<Page>>,
}

/// Reads the probes of the plan of a Delivery. One that cannot be run is a problem instead.
pub(super) async fn read(
    client: &Client,
    (namespace, delivery): (&str, &str),
    plan: &Plan,
    services: &[RawService],
) -> Result<(Vec<Probe>, Vec<Reason>), KubeError> {
    let api: Api<DeserializeGuard<ProductionProbe>> = Api::namespaced(client.clone(), namespace);
    let read = try_join_all(plan.probes.iter().map(|name| one(client, &api, (namespace, delivery), (name, services)))).await?;
    let (mut probes, mut problems) = (Vec::new(), Vec::new());
    for probe in read {
        match probe {
            Ok(probe) => probes.push(probe),
            Err(problem) => problems.push(problem),
        }
    }
    Ok((probes, problems))
}

async fn one(
    client: &Client,
    api: &Api<DeserializeGuard<ProductionProbe>>,
    (namespace, delivery): (&str, &str),
    (name, services): (&str, &[RawService]),
) -> Result<Result<Probe, Reason>, KubeError> {
    let raw = match get(api, "ProductionProbe", name).await? {
        None => return Ok(Err(Reason::ProbeMissing { probe: name.to_owned() })),
        Some(DeserializeGuard(Ok(raw))) => raw,
        Some(DeserializeGuard(Err(invalid))) => {
            let why = format!("it cannot be decoded ({})", invalid.error);
            return Ok(Err(Reason::ProbeInvalid { probe: name.to_owned(), why }));
        }
    };
    let trust = trust(client, namespace, &raw.spec.target).await?;
    let secrets = secrets(client, namespace, &raw.spec.secrets, (SECRETS_FIELD, |secret: &str| refused(secret, namespace))).await?;
    let suite = suite(client, namespace, &raw.spec, services).await?;
    let made = trust.and_then(|trust| probe(name, &raw.spec, (trust, secrets?), suite?));
    let made = made.map(|probe| Probe { changed: changed(&raw), page: put_right::page(namespace, delivery, &raw, &probe.check), ..probe });
    Ok(made.map_err(|why| Reason::ProbeInvalid { probe: name.to_owned(), why }))
}

/// When somebody wrote its spec last, at the latest: the API server's times are whole seconds, cut.
fn changed(raw: &ProductionProbe) -> Option<Timestamp> {
    let writes = raw.metadata.managed_fields.iter().flatten().filter(|entry| owns_any(entry));
    let written = writes.filter_map(|entry| entry.time.as_ref()).max();
    Some(after(written.or(raw.metadata.creation_timestamp.as_ref())?.0, Duration::from_secs(1)))
}

/// The certificate authorities that it names; what cannot be had, in a sentence.
async fn trust(client: &Client, namespace: &str, target: &RawTarget) -> Result<Result<Option<Vec<u8>>, String>, KubeError> {
    let Some(ca) = &target.ca_ref else { return Ok(Ok(None)) };
    let map: Option<ConfigMap> = get(&Api::namespaced(client.clone(), namespace), "ConfigMap", &ca.name).await?;
    let pem = map.and_then(|map| map.data?.remove(CA)).map(|pem| Some(pem.into_bytes()));
    Ok(pem.ok_or_else(|| format!("ConfigMap {} with the key {CA} does not exist; create it or change target.caRef", ca.name)))
}

/// Where a probe names its Secrets.
const SECRETS_FIELD: &str = "secrets[].secretRef";

/// The Secrets that it names; what cannot be had, in a sentence.
pub(super) async fn secrets(
    client: &Client,
    namespace: &str,
    named: &[SecretVariable],
    (field, refused): (&str, impl Fn(&str) -> String),
) -> Result<Result<Vars, String>, KubeError> {
    let mut vars = Vars::default();
    for variable in named {
        let SecretKey { name: secret, key } = &variable.secret_ref;
        match self::secret(client, namespace, &variable.secret_ref, (field, &refused)).await?.map(String::from_utf8) {
            Ok(Ok(value)) => vars.set(&format!("{SECRETS}{}", variable.name), value.trim_end_matches(['\r', '\n']).to_owned()),
            Ok(Err(_)) => return Ok(Err(format!("the key {key} of Secret {secret} is not text; see {field}"))),
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(vars))
}

/// The value of one key of a Secret that this field names; why it cannot be had, in a sentence, and if it may not be read, what to do.
pub(super) async fn secret(
    client: &Client,
    namespace: &str,
    SecretKey { name, key }: &SecretKey,
    (field, refused): (&str, impl Fn(&str) -> String),
) -> Result<Result<Vec<u8>, String>, KubeError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let read = match get(&api, "Secret", name).await {
        Err(KubeError::Refused { .. }) => return Ok(Err(refused(name))),
        read => read?,
    };
    let value = read.and_then(|read| read.data?.remove(key)).map(|bytes| bytes.0);
    Ok(value.ok_or_else(|| format!("Secret {name} with the key {key} does not exist; create it or change {field}")))
}

pub(super) fn refused(secret: &str, namespace: &str) -> String {
    format!(
        "Secret {secret} may not be read; let Haldane: kubectl create role haldane-probes --verb=get --resource=secrets --resource-name={secret} -n \
         {namespace}; kubectl create rolebinding haldane-probes --role=haldane-probes --serviceaccount=haldane-system:haldane -n {namespace}"
    )
}

fn probe(name: &str, spec: &ProductionProbeSpec, (trust, secrets): (Option<Vec<u8>>, Vars), suite: Option<Suite>) -> Result<Probe, String> {
    let (rollout, always) = match &suite {
        Some(Suite { load: Some(_), .. }) => (LOAD_ROLLOUT, SUITE_ALWAYS),
        Some(_) => (SUITE_ROLLOUT, SUITE_ALWAYS),
        None => (ROLLOUT, ALWAYS),
    };
    let route = spec.target.via.contains(&Via::Route) && !spec.steps.is_empty();
    let schedule = spec.schedule.clone().unwrap_or_default();
    let service = spec.target.service_ref.name.clone();
    let all = |steps: &[RawStep]| steps.iter().map(step).collect::<Vec<Step>>();
    let (setup, steps, teardown) = (all(&spec.setup), all(&spec.steps), all(&spec.teardown));
    let longest = setup.iter().chain(&steps).map(|step| step.deadline).max().unwrap_or_default();
    let check = Check {
        name: name.to_owned(),
        scheme: scheme(&spec.target),
        host: host(&spec.target),
        setup,
        steps,
        knock: knock(spec),
        suite: suite.map(Box::new),
        teardown,
        sweep: spec.sweep.as_ref().map(|raw| Box::new(sweep(raw))),
        secrets,
        deadline: Check::DEADLINE.max(longest),
        trust,
        tester: None,
        answered_by: spec
            .target
            .answered_by
            .as_ref()
            .filter(|_| route)
            .map(|by| AnsweredBy { header: by.header.clone(), wanted: Wanted::Anybody }),
    };
    if route && check.answered_by.is_none() {
        return Err("target.answeredBy: via Route needs the header by which an answer says which version gave it".to_owned());
    }
    check.validate().map_err(|error| error.to_string())?;
    Ok(Probe {
        check: Arc::new(check),
        port: spec.target.service_ref.port.clone(),
        service,
        rollout: schedule.rollout.map_or(rollout, |span| span.0),
        always: schedule.always.map_or(always, |span| span.0),
        burst: schedule.burst.as_ref().and_then(burst),
        votes: spec.vote.unwrap_or_default() == Vote::Vote,
        pods: !route || spec.target.via.contains(&Via::Pods),
        route,
        host: spec.target.host.clone(),
        changed: None,
        page: None,
    })
}

/// The suite that it runs, if it does; what keeps it from that, in a sentence.
async fn suite(
    client: &Client,
    namespace: &str,
    spec: &ProductionProbeSpec,
    services: &[RawService],
) -> Result<Result<Option<Suite>, String>, KubeError> {
    let Some(job) = &spec.job else { return Ok(Ok(None)) };
    let not_within = match Windows::read(&job.not_within) {
        Ok(windows) => windows,
        Err(error) => return Ok(Err(format!("job.notWithin: {error}"))),
    };
    let name = &job.cron_job_ref.name;
    let Some(raw) = cron_jobs::one(client, namespace, name).await? else {
        return Ok(Err(format!("CronJob {name} does not exist; create it or change job.cronJobRef")));
    };
    let template = raw.data.pointer("/spec/jobTemplate/spec").cloned().unwrap_or_default();
    let labels = labels(template.get("template").unwrap_or(&Value::Null));
    if raw.data.pointer("/spec/suspend").and_then(Value::as_bool) != Some(true) {
        return Ok(Err(format!("CronJob {name} is not suspended, so it also runs by itself; set spec.suspend to true in it")));
    }
    if let Some(service) = services.iter().find(|service| services::reaches(service, &labels)) {
        let service = service.name_any();
        return Ok(Err(format!("Service {service} would send customers to the pods of CronJob {name}; give its pods other labels")));
    }
    Ok(Ok(Some(Suite {
        cron_job: name.clone(),
        job: template,
        within: job.within.map_or(Suite::WITHIN, |span| span.0),
        fails_with: if job.fails_with.is_empty() { vec![1] } else { job.fails_with.clone() },
        not_within,
        seed: 0,
        load: job.load.as_ref().and_then(|load| Some(Load { per_second: u32::try_from(load.per_second).ok()?, lasts: load.r#for.0 })),
    })))
}

/// Exactly one of these and of steps, as the API server demands.
fn knock(spec: &ProductionProbeSpec) -> Option<Knock> {
    let grpc = spec.grpc.as_ref().map(|grpc| Knock::Grpc { service: grpc.service.clone().unwrap_or_default() });
    grpc.or_else(|| spec.tcp.as_ref().map(|_| Knock::Tcp))
}

/// None: it has no runs.
fn burst(raw: &RawBurst) -> Option<Burst> {
    let runs = u32::try_from(raw.runs).ok()?;
    Some(Burst { runs, every: raw.within.0.checked_div(runs)? })
}

fn scheme(target: &RawTarget) -> Scheme {
    match target.scheme.unwrap_or_default() {
        RawScheme::HTTP => Scheme::Http,
        RawScheme::HTTPS => Scheme::Https,
    }
}

fn host(target: &RawTarget) -> String {
    target.host.clone().unwrap_or_else(|| target.service_ref.name.clone())
}

fn sweep(raw: &RawSweep) -> Sweep {
    Sweep {
        list: request("list", &raw.list),
        items: raw.items.clone(),
        named: raw.named.json_path.clone(),
        prefix: raw.named.prefix.clone(),
        older_than: raw.older_than.map_or(Sweep::OLDER_THAN, |span| span.0),
        delete: request("delete", &raw.delete),
    }
}

/// A step that asks for no more than a fine answer.
fn request(name: &str, raw: &RawRequest) -> Step {
    Step {
        name: name.to_owned(),
        method: method(raw.method.unwrap_or_default()).to_owned(),
        path: raw.path.clone(),
        headers: raw.headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect(),
        body: raw.json.as_ref().map(|json| Body::Json(json.clone().into_iter().collect())),
        expect: Expect::default(),
        capture: Vec::new(),
        until: None,
        compare: None,
        deadline: Step::DEADLINE,
    }
}

fn step(raw: &RawStep) -> Step {
    let expect = raw.expect.clone().unwrap_or_default();
    let within = expect.within.map(|span| span.0);
    let until = raw.until.as_ref().map(|until| Until { every: until.every.map_or(EVERY, |span| span.0), within: until.within.0 });
    Step {
        expect: Expect { status: expect.status, within, that: expect.that.into_iter().map(That).collect() },
        capture: raw.capture.iter().filter_map(capture).collect(),
        until,
        compare: raw.compare.as_ref().map(|compare| Compare { ignore: compare.ignore.clone() }),
        // A step that may take long by its own words gets the time to be seen late, not only cut off.
        deadline: Step::DEADLINE
            .max(within.unwrap_or_default().saturating_mul(2))
            .saturating_add(until.map_or(Duration::ZERO, |until| until.within)),
        ..request(&raw.name, &raw.request)
    }
}

/// The API server takes none that names no place.
fn capture(raw: &RawCapture) -> Option<Capture> {
    let json = raw.json_path.clone().map(Place::Json);
    let from = json.or_else(|| raw.header.clone().map(Place::Header)).or_else(|| raw.cookie.clone().map(Place::Cookie))?;
    Some(Capture { name: raw.name.clone(), from })
}

fn method(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Options => "OPTIONS",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn made(spec: Value, trust: Option<&str>) -> Result<Probe, String> {
        probe("place-order", &serde_json::from_value(spec).unwrap(), (trust.map(|t| t.as_bytes().to_vec()), Vars::default()), None)
    }

    #[test]
    fn a_small_probe_gets_every_default() {
        let probe =
            made(json!({"target": {"serviceRef": {"name": "shop"}}, "steps": [{"name": "home", "request": {"path": "/"}}]}), None).unwrap();
        assert_eq!((probe.rollout, probe.always, probe.votes), (Duration::from_secs(15), Duration::from_mins(3), true));
        let step = probe.check.steps.first().unwrap();
        assert_eq!((step.method.as_str(), step.deadline, probe.check.host.as_str()), ("GET", Step::DEADLINE, "shop"));
    }

    #[test]
    fn everything_that_is_written_is_asked() {
        let spec = json!({"target": {"serviceRef": {"name": "shop", "port": "https"}, "scheme": "HTTPS", "host": "shop.example.com"},
            "schedule": {"rollout": "5s", "always": "1m"}, "vote": "Report", "mutates": true,
            "steps": [{"name": "place", "request": {"method": "POST", "path": "/orders", "headers": [{"name": "X-A", "value": "b"}], "json": {"a": 1}},
                "expect": {"status": [201], "within": "8s"}}]});
        let probe = made(spec, Some("-----BEGIN CERTIFICATE-----")).unwrap();
        assert_eq!((probe.rollout, probe.votes, probe.port.as_deref()), (Duration::from_secs(5), false, Some("https")));
        let step = probe.check.steps.first().unwrap();
        assert_eq!(step.body, Some(Body::Json(json!({"a": 1}))));
        assert_eq!(
            (step.expect.status.as_slice(), step.expect.within, step.deadline),
            ([201].as_slice(), Some(Duration::from_secs(8)), Duration::from_secs(16))
        );
    }

    #[test]
    fn by_the_route_it_needs_to_know_who_answers() {
        let spec = |via: Value, more: Value| {
            let mut spec =
                json!({"target": {"serviceRef": {"name": "shop"}, "via": via}, "steps": [{"name": "home", "request": {"path": "/"}}]});
            spec["target"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            made(spec, None)
        };
        let by = || json!({"answeredBy": {"header": "X-Shop-Version"}});
        assert!(spec(json!(["Route"]), json!({})).unwrap_err().starts_with("target.answeredBy: "));
        let ways = |via: Value| spec(via, by()).map(|probe| (probe.pods, probe.route, probe.check.answered_by.is_some())).unwrap();
        assert_eq!(ways(json!([])), (true, false, false), "the header is read where it is needed");
        assert_eq!(ways(json!(["Pods"])), (true, false, false));
        assert_eq!(ways(json!(["Route"])), (false, true, true));
        assert_eq!(ways(json!(["Route", "Pods"])), (true, true, true));
        let mut named = by();
        named["host"] = json!("shop.example.com");
        assert_eq!(spec(json!(["Route"]), named).unwrap().host.as_deref(), Some("shop.example.com"));
    }

    #[test]
    fn one_that_cannot_be_run_says_where_and_what_to_write() {
        let spec = json!({"target": {"serviceRef": {"name": "shop"}}, "steps": [{"name": "home", "request": {"path": "/", "headers": [{"name": "Host", "value": "x"}]}}]});
        assert!(made(spec, None).unwrap_err().starts_with("steps[0].headers[0]: "));
    }
}
