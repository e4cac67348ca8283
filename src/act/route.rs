//! A route's rules, in one write, and the Service in front of a canary that they lead to.

use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{
    calls::{Calls, Kind, text, what},
    error::ActError,
    patch::Ops,
    session::{Session, Touched},
};
use crate::{
    api::{self, BESIDE_ANNOTATION, DELIVERY_LABEL, FIELD_MANAGER, ROUTED_ANNOTATION, ROUTES_ANNOTATION, TRACK_CANARY, TRACK_LABEL},
    model::{
        decision::Target,
        route::{Course, Pair, Route, RouteName, canary_service, canary_shape},
        template,
        world::Observation,
    },
};

/// Those who serve a route write its status after each of our writes, so a version is soon an old one; each try reads it anew.
const TRIES: usize = 4;

/// A route and where it is to lead.
pub(super) struct Sent<'a> {
    pub(super) route: &'a RouteName,
    pub(super) course: &'a Course,
    /// Whose it is from now on.
    pub(super) delivery: &'a str,
    pub(super) now: jiff::Timestamp,
}

/// Sends a route on its course. What its owner wrote meanwhile stays: the rules are made from those that are there.
pub(super) async fn send(
    calls: Calls<'_>,
    seen: &Observation,
    touched: Option<Touched>,
    sent: &Sent<'_>,
) -> (Option<Touched>, Result<(), ActError>) {
    let (kind, name) = (Kind::of_route(sent.route), sent.route.name.as_str());
    let gone = || ActError::Gone { what: what(kind, name) };
    let Some(known) = seen.routes.iter().find(|route| route.name == *sent.route) else { return (touched, Err(gone())) };
    let mut touched = touched;
    let mut last = Err(gone());
    for _ in 0..TRIES {
        let mut object = match touched.take() {
            Some(touched) => touched,
            None => match calls.get(kind, name).await {
                Ok(live) => Touched::new(Target::Route(sent.route.clone()), live),
                // Without it nobody comes by it.
                Err(ActError::Gone { .. }) if sent.course.is_closed() => return (None, Ok(())),
                Err(error) => return (None, Err(error)),
            },
        };
        if object.uid() != known.uid {
            return (None, Err(ActError::conflict(&what(kind, name))));
        }
        let ops = match ops(&object, known, calls.namespace, sent) {
            Ok(ops) => ops,
            Err(error) => return (Some(object), Err(error)),
        };
        last = object.write(calls, ops).await;
        match last {
            Err(ActError::Conflict { .. }) => {}
            _ => return (Some(object), last),
        }
    }
    (None, last)
}

fn ops(touched: &Touched, known: &Route, namespace: &str, sent: &Sent<'_>) -> Result<Ops, ActError> {
    let object = &touched.object;
    let canary = canary_service(&known.service);
    let pair = Pair { namespace, stable: &known.service, canary: &canary };
    let rules = object.pointer("/spec/rules").cloned().unwrap_or_default();
    // Rules that cannot be shared can still lead nobody to the canary.
    let unshared = |why| if sent.course.is_closed() { pair.rules(&rules, &Course::Stable) } else { Err(why) };
    let wanted = pair
        .rules(&rules, sent.course)
        .or_else(unshared)
        .map_err(|why| ActError::Refused { what: touched.what(), message: format!("it cannot give a canary its share: {why}") })?;
    let ops = touched.exactly();
    let changed = wanted != rules;
    let ops = match (changed, object.pointer("/spec/rules").is_some()) {
        (false, _) => ops,
        (true, true) => ops.replace(&["spec", "rules"], wanted.clone()),
        (true, false) => ops.add(&["spec", "rules"], wanted.clone()),
    };
    let digest = template::digest(&wanted.to_string());
    let stands = !changed && annotation(object, ROUTED_ANNOTATION).and_then(|said| api::read_routed(said).2) == Some(digest.as_str());
    Ok(match sent.course {
        Course::Left => ops.annotation(object, ROUTED_ANNOTATION, None),
        Course::Stable | Course::Shared { .. } if stands => ops,
        Course::Stable | Course::Shared { .. } => {
            ops.annotation(object, ROUTED_ANNOTATION, Some(&api::routed(sent.now, sent.delivery, &digest)))
        }
    })
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// Makes the Service in front of the canary, or brings it to what it should be.
pub(super) async fn make_service(session: &Session<'_>, stable: &str, routes: &[RouteName]) -> Result<(), ActError> {
    let calls = session.calls;
    let beside = calls.get(Kind::Service, stable).await?;
    let delivery = session.delivery.name_any();
    let (name, named) = (canary_service(stable), named(routes));
    let wanted = service(&beside, &name, &delivery, calls.namespace, &named);
    if calls.create(Kind::Service, &name, &wanted).await? {
        return Ok(());
    }
    let there = calls.get(Kind::Service, &name).await?;
    let label = |key: &str| there.pointer("/metadata/labels").and_then(|labels| labels.get(key)).and_then(Value::as_str);
    if label(DELIVERY_LABEL) != Some(delivery.as_str()) || label(TRACK_LABEL) != Some(TRACK_CANARY) {
        let message = format!("it stands where the Service of the canary of {delivery} would, and it is not ours; rename it");
        return Err(ActError::Refused { what: what(Kind::Service, &name), message });
    }
    if !text(&there, "/metadata/deletionTimestamp").is_empty() {
        return Err(ActError::conflict(&what(Kind::Service, &name)));
    }
    let ops = Ops::exactly(text(&there, "/metadata/uid"), text(&there, "/metadata/resourceVersion"));
    let field = |ops: Ops, field: &str| match wanted.pointer(&format!("/spec/{field}")) {
        Some(value) => ops.add(&["spec", field], value.clone()),
        None => ops,
    };
    let ops = field(field(ops, "selector"), "ports").annotation(&there, ROUTES_ANNOTATION, Some(&named));
    calls.patch(Kind::Service, &name, ops).await.map(|_| ())
}

/// Removes it, if it is ours.
pub(super) async fn remove_service(session: &Session<'_>, stable: &str) -> Result<(), ActError> {
    let there = session.seen.canary_services.iter().find(|canary| canary.service == stable && !canary.deleting);
    let Some(canary) = there else { return Ok(()) };
    session.calls.delete(Kind::Service, &canary.name, Some(&canary.uid)).await
}

fn named(routes: &[RouteName]) -> String {
    routes.iter().map(|route| format!("{:?}/{}", route.kind, route.name)).collect::<Vec<_>>().join(",")
}

/// The owner's labels and annotations are not copied: an owner's monitor that goes by them would count everything twice.
fn service(beside: &Value, name: &str, delivery: &str, namespace: &str, routes: &str) -> Value {
    let mut spec = canary_shape(beside.get("spec").unwrap_or(&Value::Null));
    for kept in ["ipFamilies", "ipFamilyPolicy", "publishNotReadyAddresses"] {
        if let (Some(spec), Some(value)) = (spec.as_object_mut(), beside.pointer(&format!("/spec/{kept}"))) {
            spec.insert(kept.to_owned(), value.clone());
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {DELIVERY_LABEL: delivery, TRACK_LABEL: TRACK_CANARY, "app.kubernetes.io/managed-by": FIELD_MANAGER},
            "annotations": {ROUTES_ANNOTATION: routes, BESIDE_ANNOTATION: text(beside, "/metadata/name")},
        },
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_of_a_canary_is_its_own_and_reaches_nobody_else() {
        let beside = json!({
            "metadata": {"name": "shop", "labels": {"team": "a"}, "annotations": {"x": "y"}},
            "spec": {
                "type": "LoadBalancer", "clusterIP": "192.0.2.9", "ipFamilies": ["IPv4"], "selector": {"app": "shop"},
                "ports": [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30001}],
            },
        });
        let made = service(&beside, "shop-canary", "shop", "default", "HTTPRoute/shop");
        assert_eq!(
            made["spec"],
            json!({
                "selector": {"app": "shop", "haldane.dev/track": "canary"}, "ipFamilies": ["IPv4"],
                "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
            })
        );
        assert_eq!(
            made["metadata"]["labels"],
            json!({"haldane.dev/delivery": "shop", "haldane.dev/track": "canary", "app.kubernetes.io/managed-by": "haldane"})
        );
        assert_eq!(made["metadata"]["annotations"], json!({"haldane.dev/routes": "HTTPRoute/shop", "haldane.dev/beside": "shop"}));
    }
}
