//! The Gateways of a route: whether they serve, and where they take requests.

use std::{net::IpAddr, time::Duration};

use futures::future::join_all;
use kube::{
    Api,
    core::{ApiResource, DynamicObject},
};
use serde_json::Value;
use tokio::{net::lookup_host, time::timeout};

use super::routes::gateway_api;
use crate::{
    edge::kube::{Cluster, KubeError, get},
    model::route::{Edge, Route},
};

/// For the name of a Gateway: a resolver that answers at all does so within a few round trips.
const LOOKUP: Duration = Duration::from_secs(2);

/// What the Gateways of a route say.
#[derive(Default)]
pub(super) struct Gateways {
    /// None of them serves, and why the first does not.
    pub(super) refusal: Option<String>,
    /// Where the first that serves takes requests for it.
    pub(super) edge: Option<Edge>,
}

/// How a Gateway is asked for.
#[must_use]
pub fn gateway() -> ApiResource {
    gateway_api("Gateway", "gateways")
}

/// Reads them. Where we may not, the route's own status has to do.
pub(super) async fn read(cluster: &Cluster, namespace: &str, route: &DynamicObject) -> Result<Gateways, KubeError> {
    let kind = gateway();
    let mut refusal = None;
    for parent in list(&route.data, "/spec/parentRefs").iter().filter(|parent| text(parent, "kind").is_none_or(|kind| kind == "Gateway")) {
        let Some(name) = text(parent, "name") else { continue };
        let of = text(parent, "namespace").unwrap_or(namespace);
        let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), of, &kind);
        let found = match get(&api, "Gateway", name).await {
            Err(KubeError::Refused { .. }) => return Ok(Gateways::default()),
            other => other?,
        };
        let why = match &found {
            None => format!("Gateway {of}/{name} does not exist"),
            Some(gateway) => match not_programmed(gateway) {
                Some(said) => format!("Gateway {of}/{name} is not programmed: {said}"),
                // One that serves is enough.
                None => return Ok(Gateways { refusal: None, edge: edge(gateway, parent, route) }),
            },
        };
        refusal = refusal.or(Some(why));
    }
    Ok(Gateways { refusal, edge: None })
}

fn not_programmed(gateway: &DynamicObject) -> Option<String> {
    let conditions = gateway.data.pointer("/status/conditions").and_then(Value::as_array)?;
    let text = |c: &Value, key: &str| c.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let programmed = conditions.iter().find(|c| text(c, "type") == "Programmed").filter(|c| text(c, "status") == "False")?;
    Some(format!("{} {}", text(programmed, "reason"), text(programmed, "message")).trim().to_owned())
}

/// The listener that the route names, or the first that speaks HTTP, at the addresses of its Gateway.
fn edge(gateway: &DynamicObject, parent: &Value, route: &DynamicObject) -> Option<Edge> {
    let named = |listener: &&Value| {
        let (section, port) = (text(parent, "sectionName"), parent.get("port").and_then(Value::as_u64));
        section.is_none_or(|section| text(listener, "name") == Some(section)) && port.is_none_or(|port| port_of(listener) == Some(port))
    };
    let speaks = |listener: &&Value| matches!(text(listener, "protocol"), Some("HTTP" | "HTTPS"));
    let listener = list(&gateway.data, "/spec/listeners").iter().filter(named).find(speaks)?;
    let stated = list(&gateway.data, "/status/addresses");
    let of =
        |kind: &'static str| stated.iter().filter(move |a| text(a, "type").unwrap_or("IPAddress") == kind).filter_map(|a| text(a, "value"));
    let addresses: Vec<IpAddr> = of("IPAddress").filter_map(|address| address.parse().ok()).collect();
    let hosts = list(&route.data, "/spec/hostnames").iter().filter_map(Value::as_str).chain(text(listener, "hostname"));
    Some(Edge {
        addresses,
        names: of("Hostname").map(str::to_owned).collect(),
        port: u16::try_from(port_of(listener)?).ok()?,
        https: text(listener, "protocol") == Some("HTTPS"),
        host: hosts.filter(|host| !host.contains('*')).map(str::to_owned).next(),
    })
}

/// Looks up the names of Gateways that have no address. One that is not found is none: the resolver's bad day is nobody's fault.
pub(super) async fn resolve(routes: &mut [Route]) {
    let edges = routes.iter_mut().filter_map(|route| route.edge.as_mut());
    join_all(edges.filter(|edge| edge.addresses.is_empty()).map(async |edge| {
        let Some(name) = edge.names.first() else { return };
        let found = timeout(LOOKUP, lookup_host((name.as_str(), edge.port))).await;
        edge.addresses = found.into_iter().flatten().flatten().map(|at| at.ip()).collect();
        // The order of a resolver's answers changes with each of them, and who is asked should not.
        edge.addresses.sort_unstable();
    }))
    .await;
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

fn port_of(listener: &Value) -> Option<u64> {
    listener.get("port").and_then(Value::as_u64)
}

#[cfg(test)]
mod tests;
