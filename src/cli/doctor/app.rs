//! Rules about the app itself: what would hurt behind any canary.

use serde_json::Value;

use super::{Finding, Snapshot, risk, wrong};
use crate::cli::{
    json::{list, name, selects},
    status::view,
};

fn object(deployment: &Value) -> String {
    format!("Deployment/{}", name(deployment))
}

/// Images that cannot be had.
pub(crate) fn images(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for (delivery, deployment) in snapshot.delivered() {
        let selector = deployment.pointer("/spec/selector").unwrap_or(&Value::Null);
        let own = snapshot.pods.iter().filter(|p| selects(selector, p.pointer("/metadata/labels").unwrap_or(&Value::Null)));
        for pod in own {
            let Some(trouble) = view::trouble(pod) else { continue };
            let image =
                ["ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull"].iter().any(|w| trouble.starts_with(w));
            if image {
                let mend = format!("kubectl describe pod {}; see the name of the image and imagePullSecrets", name(pod));
                found.push(wrong(format!("Pod/{}", name(pod)), trouble, mend).of(delivery));
            }
        }
    }
    found
}

/// Without a readiness probe a pod gets traffic before it can serve.
pub(crate) fn readiness(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    for (delivery, deployment) in snapshot.delivered() {
        let probed = list(deployment, "/spec/template/spec/containers").iter().any(|c| c.get("readinessProbe").is_some());
        if !probed && snapshot.services_of(deployment).next().is_some() {
            let says = "it has no readiness probe: a canary gets traffic before it can serve, and is blamed for it";
            found.push(
                wrong(object(deployment), says, "add one: kubectl explain deployment.spec.template.spec.containers.readinessProbe")
                    .of(delivery),
            );
        }
    }
    found
}

/// A single replica has no share smaller than a half, and no reserve.
pub(crate) fn replicas(snapshot: &Snapshot) -> Vec<Finding> {
    let single = snapshot.delivered().filter(|(_, w)| w.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1) == 1);
    let mend = |w: &Value| format!("kubectl scale deployment {} --replicas=3", name(w));
    single
        .map(|(d, w)| {
            risk(object(w), "it has a single replica: the smallest share for a canary is 50 %, and a lost pod is an outage", mend(w)).of(d)
        })
        .collect()
}

/// Pods that stop before their traffic has left lose requests in every rollout.
pub(crate) fn shutdown(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    for (delivery, deployment) in snapshot.delivered().filter(|(_, w)| snapshot.services_of(w).next().is_some()) {
        let spec = deployment.pointer("/spec/template/spec").unwrap_or(&Value::Null);
        let grace = spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(30);
        let waits = list(spec, "/containers").iter().any(|c| c.pointer("/lifecycle/preStop").is_some());
        if grace == 0 {
            let says = "terminationGracePeriodSeconds is 0: its pods are killed in the middle of requests";
            found.push(wrong(object(deployment), says, format!("kubectl patch deployment {} -p '{{\"spec\":{{\"template\":{{\"spec\":{{\"terminationGracePeriodSeconds\":30}}}}}}}}'", name(deployment))).of(delivery));
        } else if !waits {
            let says =
                "no container waits in preStop: a pod that ends at once on SIGTERM refuses connections that are still on their way to it";
            let mend = "let it go on serving for some seconds: lifecycle: {preStop: {sleep: {seconds: 5}}} (or see to it in the app)";
            found.push(risk(object(deployment), says, mend).of(delivery));
        }
    }
    found
}
