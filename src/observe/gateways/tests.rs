use serde_json::json;

use super::*;

fn object(data: &Value) -> DynamicObject {
    let mut raw = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Any", "metadata": {"name": "edge"}});
    for (key, value) in data.as_object().unwrap() {
        raw[key] = value.clone();
    }
    serde_json::from_value(raw).unwrap()
}

#[test]
fn a_gateway_that_says_nothing_is_no_reason_to_wait() {
    let gateway = |conditions: Value| not_programmed(&object(&json!({"status": {"conditions": conditions}})));
    assert_eq!(gateway(json!([])), None);
    assert_eq!(gateway(json!([{"type": "Programmed", "status": "Unknown"}])), None);
    assert_eq!(
        gateway(json!([{"type": "Programmed", "status": "False", "reason": "Invalid", "message": "no"}])),
        Some("Invalid no".to_owned())
    );
}

/// Listeners, addresses, the reference of the route to its Gateway, and its hostnames.
fn found(listeners: &Value, addresses: &Value, parent: &Value, hostnames: &Value) -> Option<Edge> {
    let gateway = object(&json!({"spec": {"listeners": listeners}, "status": {"addresses": addresses}}));
    edge(&gateway, parent, &object(&json!({"spec": {"hostnames": hostnames}})))
}

fn listeners() -> Value {
    json!([
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "web", "port": 80, "protocol": "HTTP"},
        {"name": "tls", "port": 443, "protocol": "HTTPS", "hostname": "shop.example.com"},
    ])
}

#[test]
fn a_route_is_reached_at_the_listener_that_it_names_or_at_the_first_that_speaks_http() {
    let one = || json!([{"value": "192.0.2.80"}]);
    let at = |parent: Value| found(&listeners(), &one(), &parent, &json!([])).map(|e| (e.port, e.https, e.host));
    assert_eq!(at(json!({"name": "edge"})), Some((80, false, None)));
    assert_eq!(at(json!({"name": "edge", "sectionName": "tls"})), Some((443, true, Some("shop.example.com".to_owned()))));
    assert_eq!(at(json!({"name": "edge", "port": 443})).map(|e| e.0), Some(443));
    assert_eq!(at(json!({"name": "edge", "sectionName": "dns"})), None);
    assert_eq!(at(json!({"name": "edge", "sectionName": "gone"})), None);
}

#[test]
fn a_pattern_is_no_host_that_anybody_asks_for() {
    let host = |hostnames: Value| found(&listeners(), &json!([]), &json!({"sectionName": "tls"}), &hostnames).unwrap().host;
    assert_eq!(host(json!(["*.example.com", "www.example.com"])), Some("www.example.com".to_owned()));
    assert_eq!(host(json!(["*.example.com"])), Some("shop.example.com".to_owned()));
}

#[tokio::test]
async fn a_gateway_is_found_by_its_address_and_else_by_its_name() {
    let parsed = |addresses: Value| found(&listeners(), &addresses, &json!({}), &json!([])).unwrap();
    let both = parsed(
        json!([{"type": "Hostname", "value": "localhost"}, {"type": "IPAddress", "value": "192.0.2.80"}, {"type": "example.com/x", "value": "192.0.2.1"}]),
    );
    assert_eq!(both.addresses, [IpAddr::from([192, 0, 2, 80])]);
    let mut routes =
        [json!([{"type": "Hostname", "value": "localhost"}]), json!([{"type": "Hostname", "value": "nowhere.invalid"}]), json!([])]
            .map(|addresses| Route { edge: Some(parsed(addresses)), ..crate::observe::tests::route() });
    resolve(&mut routes).await;
    let known = routes.map(|route| route.edge.unwrap().addresses.first().map(IpAddr::is_loopback));
    assert_eq!(known, [Some(true), None, None], "a name that nobody knows is no error");
}
