//! The routes of a Delivery: where they lead now, and how somebody tests the version that is on its way.

use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::{json, seen::Seen},
    model::route::{Course, Pair, Testers, canary_service},
};

/// A route and where it leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RouteView {
    /// `HTTPRoute/shop`.
    pub(crate) name: String,
    /// The canary's share in percent; none: somebody has changed what was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) canary: Option<u8>,
    /// What a tester types.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) test: Option<String>,
}

/// What the routes say.
pub(crate) fn of(seen: &Seen) -> Vec<RouteView> {
    let workloads = seen.delivery.spec.workloads.iter();
    let named = workloads.flat_map(|w| w.route_refs.iter().map(move |r| (w, r)));
    let of = |route: &Value, service: &str| {
        let canary = canary_service(service);
        let pair = Pair { namespace: json::text(route, "/metadata/namespace"), stable: service, canary: &canary };
        pair.course(route.pointer("/spec/rules").unwrap_or(&Value::Null))
    };
    let view = |(workload, named): (&crate::api::delivery::WorkloadRef, &crate::api::delivery::RouteRef)| {
        let kind = format!("{:?}", named.kind);
        let route = seen.routes.iter().find(|r| json::name(r) == named.name && json::text(r, "/kind") == kind)?;
        let only = || seen.services.first().map(|s| json::name(s).to_owned());
        let service = workload.service_ref.as_ref().map(|s| s.name.clone()).or_else(only)?;
        let course = of(route, &service);
        let testers = match &course {
            Some(Course::Shared { testers, .. }) => testers.as_ref(),
            _ => None,
        };
        Some(RouteView {
            name: format!("{kind}/{}", named.name),
            canary: course.as_ref().map(|course| course.weight().percent()),
            test: testers.map(|testers| curl(route, &seen.gateways, testers)),
        })
    };
    named.filter_map(view).collect()
}

/// A line to paste: by the real name, at the address of the Gateway where that is known, so that it works before DNS does.
fn curl(route: &Value, gateways: &[Value], testers: &Testers) -> String {
    let parent = json::list(route, "/spec/parentRefs").first();
    let gateway = parent.and_then(|parent| {
        let namespace =
            Some(json::text(parent, "/namespace")).filter(|n| !n.is_empty()).unwrap_or(json::text(route, "/metadata/namespace"));
        let is = |g: &&Value| json::name(g) == json::text(parent, "/name") && json::text(g, "/metadata/namespace") == namespace;
        gateways.iter().find(is)
    });
    let wanted = parent.map(|parent| json::text(parent, "/sectionName")).unwrap_or_default();
    let listeners = gateway.map(|g| json::list(g, "/spec/listeners")).unwrap_or_default();
    let fits =
        |l: &&Value| matches!(json::text(l, "/protocol"), "HTTP" | "HTTPS") && (wanted.is_empty() || json::text(l, "/name") == wanted);
    let listener = listeners.iter().filter(fits).max_by_key(|l| json::text(l, "/protocol") == "HTTPS");
    let scheme = if listener.is_none_or(|l| json::text(l, "/protocol") == "HTTPS") { "https" } else { "http" };
    let address =
        gateway.and_then(|g| json::list(g, "/status/addresses").first()).map(|a| json::text(a, "/value")).filter(|a| !a.is_empty());
    let host = json::list(route, "/spec/hostnames").first().and_then(Value::as_str).map(|host| host.replace('*', "www"));
    let to = match (address, listener, &host) {
        (Some(address), Some(listener), Some(_)) => format!("--connect-to ::{}:{} ", bracketed(address), json::number(listener, "/port")),
        _ => String::new(),
    };
    let host = host.or_else(|| address.map(bracketed)).unwrap_or_else(|| "HOST".to_owned());
    format!("curl {to}-H '{testers}' {scheme}://{host}{}", path(route))
}

fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// A path that the owner's first rule takes.
fn path(route: &Value) -> String {
    let rules = json::list(route, "/spec/rules").iter();
    let path = rules.flat_map(|rule| json::list(rule, "/matches")).map(|m| json::text(m, "/path/value")).find(|path| !path.is_empty());
    path.unwrap_or("/").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(hostnames: &Value) -> Value {
        json!({
            "kind": "HTTPRoute", "metadata": {"name": "shop", "namespace": "shop"},
            "spec": {
                "parentRefs": [{"name": "edge", "namespace": "gateway"}], "hostnames": hostnames,
                "rules": [{"matches": [{"path": {"value": "/orders"}}], "backendRefs": [{"name": "shop"}]}],
            },
        })
    }

    fn gateway(listeners: &Value) -> Value {
        json!({"metadata": {"name": "edge", "namespace": "gateway"}, "spec": {"listeners": listeners},
            "status": {"addresses": [{"value": "198.51.100.2"}]}})
    }

    #[test]
    fn a_tester_pastes_a_line_that_works_before_dns_does() {
        let header = Testers::Header("X-Track".to_owned());
        let plain = gateway(&json!([{"name": "http", "protocol": "HTTP", "port": 80}]));
        assert_eq!(
            curl(&route(&json!(["shop.test"])), &[plain], &header),
            "curl --connect-to ::198.51.100.2:80 -H 'X-Track: canary' http://shop.test/orders"
        );
        let both = gateway(&json!([{"name": "http", "protocol": "HTTP", "port": 80}, {"name": "tls", "protocol": "HTTPS", "port": 443}]));
        assert_eq!(
            curl(&route(&json!(["shop.test"])), std::slice::from_ref(&both), &Testers::Cookie("track".to_owned())),
            "curl --connect-to ::198.51.100.2:443 -H 'Cookie: track=canary' https://shop.test/orders"
        );
        assert_eq!(curl(&route(&json!([])), &[both], &header), "curl -H 'X-Track: canary' https://198.51.100.2/orders");
        assert_eq!(curl(&route(&json!(["shop.test"])), &[], &header), "curl -H 'X-Track: canary' https://shop.test/orders");
    }
}
