//! What the definitions of the Gateway API (1.3) fill in and refuse.

use serde_json::{Value, json};

use super::{
    super::json::{self, default},
    kinds::{GATEWAY, HTTP_ROUTE, Key, ROUTING},
    refusal::Refusal,
};

/// Rules of a route, backends of a rule.
const MOST: usize = 16;
const MOST_MATCHES: usize = 64;
/// Over all rules of a route.
const MOST_MATCHES_IN_ALL: usize = 128;
const HEAVIEST: i64 = 1_000_000;

/// Fills the defaults of the kind.
pub fn fill(key: &Key, new: &mut Value) {
    if key.kind == &GATEWAY {
        each(new, "/spec/listeners", |listener| default(listener, "/allowedRoutes/namespaces/from", json!("Same")));
        let waiting = |kind: &str| {
            json!({"type": kind, "status": "Unknown", "reason": "Pending", "message": "Waiting for controller",
                "lastTransitionTime": "1970-01-01T00:00:00Z"})
        };
        default(new, "/status", json!({"conditions": [waiting("Accepted"), waiting("Programmed")]}));
    }
    if !key.kind.routes() {
        return;
    }
    let http = key.kind == &HTTP_ROUTE;
    each(new, "/spec/parentRefs", |parent| {
        default(parent, "/group", ROUTING.into());
        default(parent, "/kind", json!("Gateway"));
    });
    if http {
        default(new, "/spec/rules", json!([{}]));
    }
    each(new, "/spec/rules", |rule| {
        if http {
            default(rule, "/matches", json!([{}]));
        }
        each(rule, "/matches", |one| matching(one, http));
        each(rule, "/backendRefs", |backend| {
            service_reference(backend);
            default(backend, "/weight", json!(1));
            each(backend, "/filters", filter);
        });
        each(rule, "/filters", filter);
    });
}

fn each(object: &mut Value, list: &str, change: impl FnMut(&mut Value)) {
    object.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten().for_each(change);
}

fn matching(one: &mut Value, http: bool) {
    if http {
        default(one, "/path/type", json!("PathPrefix"));
        default(one, "/path/value", json!("/"));
    } else if one.get("method").is_some() {
        default(one, "/method/type", json!("Exact"));
    }
    for list in ["/headers", "/queryParams"] {
        each(one, list, |wanted| default(wanted, "/type", json!("Exact")));
    }
}

fn service_reference(backend: &mut Value) {
    default(backend, "/group", json!(""));
    default(backend, "/kind", json!("Service"));
}

fn filter(filter: &mut Value) {
    if let Some(backend) = filter.pointer_mut("/requestMirror/backendRef") {
        service_reference(backend);
    }
    if filter.get("requestRedirect").is_some() {
        default(filter, "/requestRedirect/statusCode", json!(302));
    }
}

/// Refuses what the definitions refuse and a controller that adds rules, backends and weights could plausibly send.
pub fn check(key: &Key, route: &Value) -> Result<(), Refusal> {
    let rules = json::list(route, "/spec/rules");
    let refuse = |why: String| Err(Refusal::invalid(key, &why));
    if rules.len() > MOST {
        return refuse(format!("spec.rules: Too many: {}: must have at most {MOST} items", rules.len()));
    }
    let mut names: Vec<&str> = rules.iter().map(|rule| json::text(rule, "/name")).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair.first() == pair.last()) {
        return refuse("spec.rules: Invalid value: \"array\": Rule name must be unique within the route".to_owned());
    }
    let mut matches = 0;
    for (at, rule) in rules.iter().enumerate() {
        let (here, backends) = (json::list(rule, "/matches").len(), json::list(rule, "/backendRefs"));
        matches += here;
        if here > MOST_MATCHES {
            return refuse(format!("spec.rules[{at}].matches: Too many: {here}: must have at most {MOST_MATCHES} items"));
        }
        if backends.len() > MOST {
            return refuse(format!("spec.rules[{at}].backendRefs: Too many: {}: must have at most {MOST} items", backends.len()));
        }
        for (nth, backend) in backends.iter().enumerate() {
            let (weight, place) = (json::count(backend, "/weight"), format!("spec.rules[{at}].backendRefs[{nth}]"));
            if !(0..=HEAVIEST).contains(&weight) {
                return refuse(format!("{place}.weight: Invalid value: {weight}: should be between 0 and {HEAVIEST}"));
            }
            if json::text(backend, "/kind") == "Service" && json::count(backend, "/port") == 0 {
                return refuse(format!("{place}: Invalid value: \"object\": Must have port for Service reference"));
            }
        }
    }
    if matches > MOST_MATCHES_IN_ALL {
        let why = "While 16 rules and 64 matches per rule are allowed, the total number of matches across all rules in a route must be less than 128";
        return refuse(format!("spec.rules: Invalid value: \"array\": {why}"));
    }
    Ok(())
}
