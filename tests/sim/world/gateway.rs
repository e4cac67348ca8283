//! The controller of routes and Gateways: it says in the status what it has read, which is not what is served.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    super::{
        api::{
            kinds::{GATEWAY_CLASS, Key, SERVICE},
            managed::Writer,
        },
        clock,
        json::{self, set, text},
    },
    Turn,
    plane::{self, Trouble},
};

/// Where no `GatewayClass` names another one.
const CONTROLLER: &str = "gateway.example/controller";

fn writer() -> Writer {
    Writer::new("gateway-controller")
}

/// One pass over one route.
pub fn route(turn: &mut Turn<'_>, key: &Key) -> Option<Duration> {
    let trouble = turn.plane.trouble(key);
    if matches!(trouble, Trouble::Stuck | Trouble::Silent) {
        return None;
    }
    let route = turn.store.get(key)?.clone();
    let now = clock::whole_seconds(turn.store.now());
    let mut parents: Vec<Value> = Vec::new();
    for parent in json::list(&route, "/spec/parentRefs") {
        let gateway = plane::gateway(&route, parent);
        // Nobody speaks for a Gateway that is not there.
        let Some(controller) = controller(turn, &gateway) else { continue };
        let before = json::list(&route, "/status/parents").iter().find(|one| one["parentRef"] == *parent);
        let conditions = [accepted(trouble), resolved(turn, key, &route)];
        let conditions: Vec<Value> = conditions.into_iter().map(|one| dated(one, before, &route, &now)).collect();
        parents.push(json!({"parentRef": parent, "controllerName": controller, "conditions": conditions}));
    }
    if !parents.is_empty() {
        turn.edit(&writer(), key, "status", |object| set(object, "/status/parents", Value::Array(parents)));
    }
    None
}

/// Type, whether it holds, reason, message.
type Said = (&'static str, bool, &'static str, String);

fn accepted(trouble: Trouble) -> Said {
    match trouble {
        Trouble::Refused(reason) => ("Accepted", false, reason, "the route is not valid here".to_owned()),
        _ => ("Accepted", true, "Accepted", "the route is valid".to_owned()),
    }
}

/// Weight 0 or not: a Service that is missing is told.
fn resolved(turn: &Turn<'_>, key: &Key, route: &Value) -> Said {
    let backends = json::list(route, "/spec/rules").iter().flat_map(|rule| json::list(rule, "/backendRefs"));
    for backend in backends {
        let (kind, name, home) = (text(backend, "/kind"), text(backend, "/name"), text(backend, "/namespace"));
        if kind != "Service" {
            return ("ResolvedRefs", false, "InvalidKind", format!("{kind} {name} is no backend"));
        }
        if turn.store.find(&SERVICE, if home.is_empty() { &key.namespace } else { home }, name).is_none() {
            return ("ResolvedRefs", false, "BackendNotFound", format!("service {name} not found"));
        }
    }
    ("ResolvedRefs", true, "ResolvedRefs", "all references are resolved".to_owned())
}

fn dated((kind, holds, reason, message): Said, before: Option<&Value>, object: &Value, now: &str) -> Value {
    let status = if holds { "True" } else { "False" };
    let stood = before.and_then(|b| json::list(b, "/conditions").iter().find(|c| text(c, "/type") == kind));
    let since = stood.filter(|c| text(c, "/status") == status).map_or(now, |c| text(c, "/lastTransitionTime"));
    json!({"type": kind, "status": status, "reason": reason, "message": message,
        "observedGeneration": object["metadata"]["generation"], "lastTransitionTime": since})
}

/// Who answers for the Gateway, if it is there.
fn controller(turn: &Turn<'_>, gateway: &Key) -> Option<String> {
    let gateway = turn.store.get(gateway)?;
    let class = turn.store.find(&GATEWAY_CLASS, "", text(gateway, "/spec/gatewayClassName"));
    Some(class.map_or(CONTROLLER, |class| text(class, "/spec/controllerName")).to_owned())
}

/// One pass over one Gateway.
pub fn gateway(turn: &mut Turn<'_>, key: &Key) -> Option<Duration> {
    let object = turn.store.get(key)?.clone();
    let now = clock::whole_seconds(turn.store.now());
    let programmed: Said = if turn.plane.is_down(key) {
        ("Programmed", false, "AddressNotAssigned", "no address can be given to it".to_owned())
    } else {
        ("Programmed", true, "Programmed", "it takes requests".to_owned())
    };
    let accepted: Said = ("Accepted", true, "Accepted", "it is valid".to_owned());
    let before = object["status"].clone();
    let conditions: Value = [accepted, programmed].into_iter().map(|one| dated(one, Some(&before), &object, &now)).collect();
    turn.edit(&writer(), key, "status", |object| set(object, "/status/conditions", conditions));
    None
}
