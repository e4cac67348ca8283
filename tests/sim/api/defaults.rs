//! What the real server fills in and refuses, for the kinds whose defaults a comparison would meet.

use serde_json::{Value, json};

use super::{
    super::json::{self, default},
    kinds::{DEPLOYMENT, Key, NAMESPACE, POD, REPLICA_SET, ROUTING, SERVICE},
    refusal::Refusal,
    routing,
};

/// Fills the defaults of the kind. `old` keeps what is given once, such as the address of a Service.
pub fn fill(key: &Key, new: &mut Value, old: Option<&Value>, serial: u64) {
    match key.kind {
        kind if kind == &DEPLOYMENT => deployment(new),
        kind if kind == &REPLICA_SET => {
            default(new, "/spec/replicas", json!(1));
            template(new, "/spec/template");
        }
        kind if kind == &POD => {
            template(new, "");
            default(new, "/status/phase", json!("Pending"));
        }
        kind if kind == &SERVICE => service(new, old, serial),
        kind if kind.group == ROUTING => routing::fill(key, new),
        kind if kind == &NAMESPACE && old.is_none() => {
            default(new, "/spec/finalizers", json!(["kubernetes"]));
            default(new, "/status", json!({"phase": "Active"}));
            default(new, "/metadata/labels/kubernetes.io~1metadata.name", key.name.clone().into());
        }
        _ => {}
    }
}

fn deployment(new: &mut Value) {
    default(new, "/spec/replicas", json!(1));
    default(new, "/spec/strategy/type", json!("RollingUpdate"));
    if json::text(new, "/spec/strategy/type") == "RollingUpdate" {
        default(new, "/spec/strategy/rollingUpdate/maxSurge", json!("25%"));
        default(new, "/spec/strategy/rollingUpdate/maxUnavailable", json!("25%"));
    }
    default(new, "/spec/revisionHistoryLimit", json!(10));
    default(new, "/spec/progressDeadlineSeconds", json!(600));
    template(new, "/spec/template");
}

fn template(new: &mut Value, at: &str) {
    let spec = format!("{at}/spec");
    default(new, &format!("{spec}/restartPolicy"), json!("Always"));
    default(new, &format!("{spec}/terminationGracePeriodSeconds"), json!(30));
    default(new, &format!("{spec}/dnsPolicy"), json!("ClusterFirst"));
    default(new, &format!("{spec}/securityContext"), json!({}));
    default(new, &format!("{spec}/schedulerName"), json!("default-scheduler"));
    for list in ["containers", "initContainers"] {
        let containers = new.pointer_mut(&format!("{spec}/{list}")).and_then(Value::as_array_mut);
        containers.into_iter().flatten().for_each(container);
    }
}

fn container(container: &mut Value) {
    let image = json::text(container, "/image");
    let moves = !image.contains('@') && image.rsplit('/').next().is_some_and(|n| !n.contains(':') || n.ends_with(":latest"));
    default(container, "/imagePullPolicy", json!(if moves { "Always" } else { "IfNotPresent" }));
    default(container, "/resources", json!({}));
    default(container, "/terminationMessagePath", json!("/dev/termination-log"));
    default(container, "/terminationMessagePolicy", json!("File"));
    let ports = container.pointer_mut("/ports").and_then(Value::as_array_mut);
    ports.into_iter().flatten().for_each(|port| default(port, "/protocol", json!("TCP")));
}

fn service(new: &mut Value, old: Option<&Value>, serial: u64) {
    default(new, "/spec/type", json!("ClusterIP"));
    default(new, "/spec/sessionAffinity", json!("None"));
    default(new, "/spec/internalTrafficPolicy", json!("Cluster"));
    let address = old.map_or("", |object| json::text(object, "/spec/clusterIP")).to_owned();
    let address = if address.is_empty() { format!("10.96.{}.{}", serial / 250 % 250, serial % 250 + 1) } else { address };
    default(new, "/spec/clusterIP", json!(address));
    for port in new.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let number = port["port"].clone();
        default(port, "/protocol", json!("TCP"));
        default(port, "/targetPort", number);
    }
}

/// Refuses what the real server refuses and a controller could plausibly send.
pub fn check(key: &Key, new: &Value, old: Option<&Value>) -> Result<(), Refusal> {
    if key.kind == &DEPLOYMENT || key.kind == &REPLICA_SET {
        workload(key, new, old)?;
    }
    if key.kind.routes() {
        routing::check(key, new)?;
    }
    let finalizers = |object| json::list(object, "/metadata/finalizers").to_vec();
    if let Some(old) = old.filter(|object| json::is_terminating(object)) {
        let stood = finalizers(old);
        if finalizers(new).iter().any(|name| !stood.contains(name)) {
            let why = "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted";
            return Err(Refusal::invalid(key, why));
        }
    }
    if key.kind == &super::kinds::CONTROLLER_REVISION && old.is_some_and(|object| object["data"] != new["data"]) {
        return Err(Refusal::invalid(key, "data: Invalid value: field is immutable"));
    }
    Ok(())
}

fn workload(key: &Key, new: &Value, old: Option<&Value>) -> Result<(), Refusal> {
    if old.is_some_and(|object| object["spec"]["selector"] != new["spec"]["selector"]) {
        return Err(Refusal::invalid(key, "spec.selector: Invalid value: field is immutable"));
    }
    let selector = json::strings(new, "/spec/selector/matchLabels");
    let labels = json::strings(new, "/spec/template/metadata/labels");
    if !json::selects(&selector, &labels) {
        let why = "spec.template.metadata.labels: Invalid value: `selector` does not match template `labels`";
        return Err(Refusal::invalid(key, why));
    }
    if json::list(new, "/spec/template/spec/containers").is_empty() {
        return Err(Refusal::invalid(key, "spec.template.spec.containers: Required value"));
    }
    if json::count(new, "/spec/replicas") < 0 {
        return Err(Refusal::invalid(key, "spec.replicas: Invalid value: must be greater than or equal to 0"));
    }
    Ok(())
}
