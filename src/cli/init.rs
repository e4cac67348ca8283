//! `init`: from a Deployment to a Delivery and a probe, with what adoption will do said before it is done.

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{PersistentVolumeClaim, Service},
};
use kube::{ResourceExt as _, api::ListParams};
use serde_json::{Value, json};

use super::{
    End, args,
    connect::{Cluster, bare, within},
    json::{self, flag, list, text},
    seen, yaml,
};
use crate::{
    api::{TRACK_LABEL, delivery::Delivery, probe::ProductionProbe},
    model::decision::Reason,
};

/// Looks, and prints or creates.
pub(crate) async fn run(cluster: &Cluster, args: &args::Init) -> Result<End> {
    let name = workload(&args.workload)?;
    let deployment = cluster.value::<Deployment>(name).await?;
    let deployment = deployment.with_context(|| Reason::WorkloadMissing { workload: name.to_owned() }.to_string())?;
    let around = Around {
        services: cluster.values::<Service>("").await?,
        claims: cluster.values::<PersistentVolumeClaim>("").await.unwrap_or_default(),
        deliveries: within("deliveries", cluster.of::<Delivery>().list(&ListParams::default())).await.map(|l| l.items).unwrap_or_default(),
        namespace: cluster.namespace.clone(),
    };
    let proposal = propose(args, &deployment, &around)?;
    let delivery: Delivery = serde_json::from_value(proposal.delivery.clone())?;
    let probe: Option<ProductionProbe> = proposal.probe.clone().map(serde_json::from_value).transpose()?;
    for note in &proposal.notes {
        eprintln!("note: {note}");
    }
    eprint!("{}", adoption(name, &delivery.name_any()));
    if args.apply {
        let said = if args.dry_run { "created (dry run)" } else { "created" };
        if let Some(probe) = probe {
            println!("productionprobe.haldane.dev/{} {said}", cluster.create(&probe, args.dry_run).await?.name_any());
        }
        println!("delivery.haldane.dev/{} {said}", cluster.create(&delivery, args.dry_run).await?.name_any());
    } else {
        print!("{}", proposal.yaml());
    }
    Ok(End::Done)
}

fn workload(given: &str) -> Result<&str> {
    match given.split_once('/') {
        None | Some(("deploy" | "deployment" | "deployments" | "deployment.apps" | "deployments.apps", _)) => Ok(bare(given)),
        Some((kind, _)) => bail!("{kind} cannot be delivered yet; only Deployments can"),
    }
}

/// What stands around the Deployment.
struct Around {
    services: Vec<Value>,
    claims: Vec<Value>,
    deliveries: Vec<Delivery>,
    namespace: String,
}

/// What would be created.
#[derive(Debug)]
struct Proposal {
    delivery: Value,
    probe: Option<Value>,
    /// Whether the path of the probe is a guess.
    guessed: bool,
    notes: Vec<String>,
}

fn propose(args: &args::Init, deployment: &Value, around: &Around) -> Result<Proposal> {
    let workload = json::name(deployment);
    let name = args.name.as_deref().unwrap_or(workload);
    if name.len() > 40 {
        bail!(
            "{name} is longer than the 40 characters that a Delivery's name may have, so that the names of Releases fit; give a shorter one: --name"
        );
    }
    if let Some(why) = cannot_run_two(deployment, &around.claims) {
        bail!("{}", Reason::CannotRunTwo { workload: workload.to_owned(), why });
    }
    if let Some(other) = around.deliveries.iter().find(|d| d.spec.workloads.iter().any(|w| w.name == workload)) {
        bail!("{}", Reason::AlreadyDelivered { workload: workload.to_owned(), by: other.name_any() });
    }
    let labels = deployment.pointer("/spec/template/metadata/labels").cloned().unwrap_or_default();
    let services: Vec<&Value> = around.services.iter().filter(|s| seen::serves(s, &labels)).collect();
    let service = choose(workload, args.service.as_deref(), &services)?;
    let mut entry = json!({"name": workload});
    if let Some(service) = service.filter(|_| services.len() > 1) {
        put(&mut entry, "serviceRef", json!({"name": json::name(service)}));
    }
    let mut spec = json!({"workloads": [entry]});
    let asked = service.map(|s| asked(deployment, s, args.probe_path.as_deref()));
    let probe = asked.as_ref().map(|asked| probe(name, around, asked));
    if let Some(probe) = &probe {
        put(&mut spec, "verify", json!({"probes": [{"name": json::name(probe)}]}));
    }
    if args.manual {
        put(&mut spec, "source", json!({"manual": {}}));
    }
    let delivery = json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery", "metadata": {"name": name, "namespace": around.namespace}, "spec": spec});
    Ok(Proposal { delivery, probe, guessed: asked.is_some_and(|a| a.guessed), notes: notes(deployment, service) })
}

fn put(object: &mut Value, key: &str, value: Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
}

/// The Service that is measured: the one that was named, or the only one. None: a worker.
fn choose<'a>(workload: &str, named: Option<&str>, services: &[&'a Value]) -> Result<Option<&'a Value>> {
    let choices = || services.iter().map(|s| json::name(s)).collect::<Vec<_>>().join(", ");
    match (named, services) {
        (Some(named), _) => {
            let found = services.iter().find(|s| json::name(s) == bare(named)).copied();
            Ok(Some(found.with_context(|| Reason::ServiceMissing { service: named.to_owned() }.to_string())?))
        }
        (None, []) => Ok(None),
        (None, [only]) => Ok(Some(only)),
        (None, _) => bail!("several Services select the pods of {workload} ({}); say which one is measured: --service NAME", choices()),
    }
}

/// What the probe asks for.
struct Asked {
    service: String,
    port: Option<String>,
    path: String,
    https: bool,
    host: Option<String>,
    guessed: bool,
}

fn asked(deployment: &Value, service: &Value, path: Option<&str>) -> Asked {
    let containers = list(deployment, "/spec/template/spec/containers");
    let found = containers.iter().find_map(|c| Some((c, c.pointer("/readinessProbe/httpGet")?)));
    let ports = list(service, "/spec/ports");
    let get = found.map_or(&Value::Null, |(_, get)| get);
    let port = found.and_then(|(container, get)| ports.iter().find(|p| same_port(p, get.get("port"), container)));
    let port = port.or_else(|| ports.first()).filter(|_| ports.len() > 1);
    let host = list(get, "/httpHeaders").iter().find(|h| text(h, "/name").eq_ignore_ascii_case("host"));
    let known = path.or_else(|| found.map(|_| Some(text(get, "/path")).filter(|p| p.starts_with('/')).unwrap_or("/")));
    Asked {
        service: json::name(service).to_owned(),
        port: port.map(|p| text(p, "/name").to_owned()),
        path: known.unwrap_or("/").to_owned(),
        https: text(get, "/scheme") == "HTTPS",
        host: host.map(|h| text(h, "/value").to_owned()),
        guessed: known.is_none(),
    }
}

/// Whether a port of a Service leads to that port of a container, which either side may call by name or by number.
fn same_port(port: &Value, wanted: Option<&Value>, container: &Value) -> bool {
    let target = port.get("targetPort").or_else(|| port.get("port"));
    let number = |value: Option<&Value>| match value {
        Some(Value::String(name)) => {
            list(container, "/ports").iter().find(|p| text(p, "/name") == name).map(|p| json::number(p, "/containerPort"))
        }
        other => other.and_then(Value::as_i64),
    };
    number(target).is_some() && number(target) == number(wanted)
}

fn probe(name: &str, around: &Around, asked: &Asked) -> Value {
    let mut service = json!({"name": asked.service});
    if let Some(port) = &asked.port {
        put(&mut service, "port", json!(port));
    }
    let mut target = json!({"serviceRef": service});
    if asked.https {
        put(&mut target, "scheme", json!("HTTPS"));
    }
    if let Some(host) = &asked.host {
        put(&mut target, "host", json!(host));
    }
    let steps = json!([{"name": "ready", "request": {"path": asked.path}, "expect": {"status": [200]}}]);
    json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "ProductionProbe", "metadata": {"name": format!("{name}-ready"), "namespace": around.namespace},
        "spec": {"target": target, "steps": steps}})
}

/// What does not forbid it and still should be known.
fn notes(deployment: &Value, service: Option<&Value>) -> Vec<String> {
    let mut notes = Vec::new();
    if service.is_none() {
        notes.push("no Service selects its pods, so it is delivered as a worker: the canary takes work as soon as it runs, and no probe is written".to_owned());
    }
    let containers = list(deployment, "/spec/template/spec/containers");
    if service.is_some() && !containers.iter().any(|c| c.get("readinessProbe").is_some()) {
        notes.push("it has no readiness probe: a new pod gets traffic before it can serve; add one first".to_owned());
    }
    if deployment.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1) < 2 {
        notes.push("it has a single replica: the smallest share that a canary beside it can get is 50 %".to_owned());
    }
    notes
}

/// Why two versions cannot stand side by side.
pub(crate) fn cannot_run_two(deployment: &Value, claims: &[Value]) -> Option<String> {
    if text(deployment, "/spec/strategy/type") == "Recreate" {
        return Some("its strategy is Recreate; set spec.strategy.type: RollingUpdate if two versions may run at once".to_owned());
    }
    let spec = deployment.pointer("/spec/template/spec")?;
    if flag(spec, "/hostNetwork") {
        return Some("its pods use the network of their node (hostNetwork)".to_owned());
    }
    let ports = list(spec, "/containers").iter().flat_map(|c| list(c, "/ports"));
    if let Some(port) = ports.into_iter().map(|p| json::number(p, "/hostPort")).find(|p| *p > 0) {
        return Some(format!("its pods claim port {port} of their node (hostPort)"));
    }
    let volumes = list(spec, "/volumes").iter().map(|v| text(v, "/persistentVolumeClaim/claimName")).filter(|n| !n.is_empty());
    for name in volumes {
        let claim = claims.iter().find(|c| json::name(c) == name);
        let modes: Vec<&str> = claim.map(|c| list(c, "/spec/accessModes").iter().filter_map(Value::as_str).collect()).unwrap_or_default();
        if claim.is_some() && !modes.iter().any(|m| matches!(*m, "ReadWriteMany" | "ReadOnlyMany")) {
            return Some(format!("volume claim {name} can be used by one side only ({})", modes.join(", ")));
        }
    }
    let ours = deployment.pointer("/spec/template/metadata/labels").is_some_and(|l| l.get(TRACK_LABEL).is_some());
    ours.then(|| format!("its pod template carries the label {TRACK_LABEL}, which marks canaries; take it out"))
}

fn adoption(workload: &str, delivery: &str) -> String {
    format!(
        "What adoption of Deployment {workload} does: once it is fully rolled out, Haldane sets spec.paused: true on it (the gate) and an annotation that\n\
         explains it. No pod restarts. From then on every change of its template waits until a canary beside it has proven it. `kubectl rollout\n\
         restart` is refused by kubectl behind a gate; kubectl haldane restart {delivery} does it. Deleting the Delivery takes the gate off again.\n"
    )
}

impl Proposal {
    fn yaml(&self) -> String {
        let rollout = "Every change of this Deployment's template rides a canary before it acts. With the defaults: 5, 25 and 50 % of the\n\
                       traffic for 2m each, then all of it for 10m with the old pods warm beside it. To change that: kubectl explain dlv.spec.rollout"
            .to_owned();
        let source = "Releases name the image: kubectl haldane release NAME --image IMAGE. All else comes from the Deployment's template."
            .to_owned();
        let checks = "What judges a new version, beside its own pods. Each probe is run against canary and stable at once.".to_owned();
        let comments = [("/spec/workloads", rollout), ("/spec/source", source), ("/spec/verify", checks)];
        let mut out = String::new();
        if let Some(probe) = &self.probe {
            let steps = if self.guessed {
                "CHANGE THIS PATH: no readiness probe by HTTP was found, so it is a guess."
            } else {
                "From the readiness probe. It only shows that a pod is up: better ask for what customers do, step by step."
            };
            let comments = [
                ("/spec/steps", steps.to_owned()),
                ("/spec/target", "Asked at the address of each pod, with the real host name.".to_owned()),
            ];
            out.push_str(&yaml::document(probe, &comments));
            out.push_str("---\n");
        }
        out + &yaml::document(&self.delivery, &comments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        json!({"metadata": {"name": "checkout"}, "spec": {"replicas": 3, "template": {"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": [
            {"name": "app", "image": "r/checkout:v1", "ports": [{"name": "web", "containerPort": 8080}],
             "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}}}]}}}})
    }

    fn service(name: &str) -> Value {
        json!({"metadata": {"name": name}, "spec": {"selector": {"app": "checkout"}, "ports": [{"name": "metrics", "port": 9090}, {"name": "http", "port": 80, "targetPort": "web"}]}})
    }

    fn around(services: Vec<Value>) -> Around {
        Around { services, claims: vec![], deliveries: vec![], namespace: "shop".to_owned() }
    }

    fn args() -> args::Init {
        args::Init {
            workload: "deploy/checkout".into(),
            service: None,
            name: None,
            probe_path: None,
            manual: false,
            apply: false,
            dry_run: false,
        }
    }

    #[test]
    fn a_deployment_becomes_a_delivery_and_a_probe_that_can_be_piped_to_apply() {
        let proposal = propose(&args(), &deployment(), &around(vec![service("checkout")])).unwrap();
        let expected = r#"apiVersion: haldane.dev/v1alpha1
kind: ProductionProbe
metadata:
  name: checkout-ready
  namespace: shop
spec:
  # From the readiness probe. It only shows that a pod is up: better ask for what customers do, step by step.
  steps:
  - expect:
      status:
      - 200
    name: ready
    request:
      path: /healthz
  # Asked at the address of each pod, with the real host name.
  target:
    serviceRef:
      name: checkout
      port: http
---
apiVersion: haldane.dev/v1alpha1
kind: Delivery
metadata:
  name: checkout
  namespace: shop
spec:
  # What judges a new version, beside its own pods. Each probe is run against canary and stable at once.
  verify:
    probes:
    - name: checkout-ready
  # Every change of this Deployment's template rides a canary before it acts. With the defaults: 5, 25 and 50 % of the
  # traffic for 2m each, then all of it for 10m with the old pods warm beside it. To change that: kubectl explain dlv.spec.rollout
  workloads:
  - name: checkout
"#;
        assert_eq!(proposal.yaml(), expected);
        assert!(serde_json::from_value::<Delivery>(proposal.delivery).is_ok());
        assert!(serde_json::from_value::<ProductionProbe>(proposal.probe.unwrap()).is_ok());
        assert!(proposal.notes.is_empty());
    }

    #[test]
    fn several_services_are_asked_about_and_the_answer_is_written_down() {
        let two = around(vec![service("checkout"), service("admin")]);
        let says = propose(&args(), &deployment(), &two).unwrap_err().to_string();
        assert!(says.contains("(checkout, admin)") && says.contains("--service"), "{says}");
        let named = args::Init { service: Some("admin".into()), ..args() };
        let proposal = propose(&named, &deployment(), &two).unwrap();
        assert_eq!(proposal.delivery.pointer("/spec/workloads/0/serviceRef/name").unwrap(), "admin");
        let wrong = args::Init { service: Some("x".into()), ..args() };
        assert!(propose(&wrong, &deployment(), &two).is_err());
    }

    #[test]
    fn what_cannot_be_delivered_is_refused_with_the_reason() {
        let one = around(vec![service("checkout")]);
        let mut recreate = deployment();
        recreate["spec"]["strategy"] = json!({"type": "Recreate"});
        let says = propose(&args(), &recreate, &one).unwrap_err().to_string();
        assert!(says.starts_with("two versions of checkout cannot run side by side: its strategy is Recreate"), "{says}");
        let mut claim = deployment();
        claim["spec"]["template"]["spec"]["volumes"] = json!([{"persistentVolumeClaim": {"claimName": "data"}}]);
        let claims = vec![json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}})];
        assert!(cannot_run_two(&claim, &claims).unwrap().contains("ReadWriteOnce"));
        let mut port = deployment();
        port["spec"]["template"]["spec"]["containers"][0]["ports"][0]["hostPort"] = json!(8080);
        assert!(cannot_run_two(&port, &[]).unwrap().contains("8080"));
        assert!(workload("sts/db").is_err());
        let mut taken = one;
        taken.deliveries = vec![crate::cli::status::tests::delivery()];
        assert!(propose(&args(), &deployment(), &taken).unwrap_err().to_string().contains("already belongs to Delivery checkout"));
    }

    #[test]
    fn a_worker_has_no_probe_and_a_guess_is_marked() {
        let worker = propose(&args(), &deployment(), &around(vec![])).unwrap();
        assert!(worker.probe.is_none() && worker.notes[0].contains("as a worker"));
        let mut bare = deployment();
        bare["spec"]["template"]["spec"]["containers"][0].as_object_mut().unwrap().remove("readinessProbe");
        let proposal = propose(&args(), &bare, &around(vec![service("checkout")])).unwrap();
        assert!(proposal.yaml().contains("CHANGE THIS PATH") && proposal.notes[0].contains("no readiness probe"));
    }
}
