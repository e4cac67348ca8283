//! The `EndpointSlice` controller: which pods are behind a Service. One slice each; a real one splits at 100 endpoints.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    super::{
        api::{
            kinds::{ENDPOINT_SLICE, Key, POD, SERVICE},
            managed::Writer,
            write::Deletion,
        },
        json::{self, flag, set, text},
    },
    Turn, owner,
};

const OF: &str = "kubernetes.io/service-name";

fn writer() -> Writer {
    Writer { user: "endpointslice-controller".to_owned(), manager: "kube-controller-manager".to_owned() }
}

/// One pass over one Service.
pub fn sync(turn: &mut Turn<'_>, key: &Key) -> Option<Duration> {
    let stands = slices(turn, key);
    let service = turn.store.get(key).filter(|s| !json::strings(s, "/spec/selector").is_empty()).cloned();
    let Some(service) = service else {
        for slice in stands {
            turn.delete(&writer(), &slice, &Deletion::default());
        }
        return None;
    };
    let selector = json::strings(&service, "/spec/selector");
    let pods = turn.store.list(&POD, &key.namespace).filter(|pod| json::selects(&selector, &json::labels(pod)));
    let pods: Vec<Value> = pods.filter(|pod| is_addressed(pod)).cloned().collect();
    let unready_too = flag(&service, "/spec/publishNotReadyAddresses");
    let endpoints: Vec<Value> = pods.iter().map(|pod| endpoint(pod, unready_too)).collect();
    let ports = ports(&service, pods.first());
    if let Some(slice) = stands.first() {
        turn.edit(&writer(), slice, "", |object| {
            set(object, "/endpoints", Value::Array(endpoints));
            set(object, "/ports", ports);
        });
    } else {
        let made = json!({
            "metadata": {
                "generateName": format!("{}-", key.name),
                "labels": {OF: key.name, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
                "ownerReferences": [owner::reference(&service)],
            },
            "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
        });
        // Refused only where the namespace is going: then no slice is right.
        turn.store.create(&writer(), &ENDPOINT_SLICE, &key.namespace, made).ok();
    }
    None
}

fn slices(turn: &Turn<'_>, key: &Key) -> Vec<Key> {
    let mine = |slice: &&Value| json::labels(slice).get(OF) == Some(&key.name);
    let all = turn.store.list(&ENDPOINT_SLICE, &key.namespace).filter(mine);
    all.map(|slice| Key::new(&ENDPOINT_SLICE, json::namespace(slice), json::name(slice))).collect()
}

fn is_addressed(pod: &Value) -> bool {
    !text(pod, "/status/podIP").is_empty() && !["Succeeded", "Failed"].contains(&text(pod, "/status/phase"))
}

fn endpoint(pod: &Value, unready_too: bool) -> Value {
    let (serving, terminating) = (json::holds(pod, "Ready"), json::is_terminating(pod));
    json!({
        "addresses": [text(pod, "/status/podIP")],
        "conditions": {"ready": unready_too || (serving && !terminating), "serving": serving, "terminating": terminating},
        "nodeName": text(pod, "/spec/nodeName"),
        "targetRef": {"kind": "Pod", "namespace": json::namespace(pod), "name": json::name(pod), "uid": json::uid(pod)},
    })
}

/// A named target port is whatever the pod calls so.
fn ports(service: &Value, pod: Option<&Value>) -> Value {
    let one = |port: &Value| {
        let target = &port["targetPort"];
        let named = target.as_str().and_then(|name| pod.and_then(|pod| port_of(pod, name)));
        let number = target.as_i64().or(named);
        json!({"name": text(port, "/name"), "port": number, "protocol": port["protocol"]})
    };
    json::list(service, "/spec/ports").iter().map(one).filter(|port| !port["port"].is_null()).collect()
}

fn port_of(pod: &Value, name: &str) -> Option<i64> {
    let containers = json::list(pod, "/spec/containers").iter();
    containers.flat_map(|c| json::list(c, "/ports")).find(|port| text(port, "/name") == name).map(|p| json::count(p, "/containerPort"))
}

/// The Services that may have to do with a pod.
pub fn interested(turn: &Turn<'_>, pod: &Value) -> Vec<Key> {
    let takes = |service: &&Value| json::selects(&json::strings(service, "/spec/selector"), &json::labels(pod));
    let all = turn.store.list(&SERVICE, json::namespace(pod)).filter(takes);
    all.map(|service| Key::new(&SERVICE, json::namespace(service), json::name(service))).collect()
}
