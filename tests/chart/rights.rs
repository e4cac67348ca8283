//! What the rights that the chart gives allow and forbid, in the API server's own words.

use super::{HALDANE, installed, plane::apiserver::ApiServer};

/// In a namespace that has not opted in.
const ANYWHERE: &[(bool, &str)] = &[
    (true, "list deployments.apps"),
    (true, "watch pods"),
    (true, "list endpointslices.discovery.k8s.io"),
    (true, "list nodes"),
    (true, "watch jobs.batch"),
    (false, "create jobs.batch"),
    (false, "delete jobs.batch"),
    (false, "get cronjobs.batch"),
    (false, "patch cronjobs.batch"),
    (true, "watch deliveries.haldane.dev"),
    (true, "patch deliveries.haldane.dev"),
    (true, "patch deliveries.haldane.dev --subresource=status"),
    (true, "patch commands.haldane.dev --subresource=status"),
    (true, "create releases.haldane.dev"),
    (true, "delete releases.haldane.dev"),
    (true, "create proberuns.haldane.dev"),
    (true, "delete proberuns.haldane.dev"),
    (true, "patch proberuns.haldane.dev --subresource=status"),
    (false, "patch proberuns.haldane.dev"),
    (false, "patch productionprobes.haldane.dev"),
    (true, "create events.events.k8s.io"),
    (true, "get customresourcedefinitions.apiextensions.k8s.io/deliveries.haldane.dev"),
    (true, "get customresourcedefinitions.apiextensions.k8s.io/proberuns.haldane.dev"),
    (false, "get customresourcedefinitions.apiextensions.k8s.io/others.example.com"),
    (false, "get secrets"),
    (false, "list secrets"),
    (false, "get configmaps"),
    (false, "patch deployments.apps"),
    (false, "create deployments.apps"),
    (false, "patch services"),
    (false, "create services"),
    (true, "watch httproutes.gateway.networking.k8s.io"),
    (true, "list grpcroutes.gateway.networking.k8s.io"),
    (true, "get gateways.gateway.networking.k8s.io"),
    (false, "patch httproutes.gateway.networking.k8s.io"),
    (false, "create controllerrevisions.apps"),
    (false, "create deliveries.haldane.dev"),
    (false, "delete deliveries.haldane.dev"),
    (false, "create commands.haldane.dev"),
    (false, "get pods --subresource=log"),
    (false, "create pods"),
    (false, "create pods --subresource=exec"),
    (false, "create leases.coordination.k8s.io"),
];

/// In one that has.
const OPTED_IN: &[(bool, &str)] = &[
    (true, "patch deployments.apps"),
    (true, "create deployments.apps"),
    (true, "delete deployments.apps"),
    (true, "patch services"),
    (true, "create services"),
    (true, "delete services"),
    (true, "patch httproutes.gateway.networking.k8s.io"),
    (true, "patch grpcroutes.gateway.networking.k8s.io"),
    (false, "delete httproutes.gateway.networking.k8s.io"),
    (false, "patch gateways.gateway.networking.k8s.io"),
    (true, "create jobs.batch"),
    (true, "delete jobs.batch"),
    (false, "patch jobs.batch"),
    (true, "get cronjobs.batch"),
    // Their image follows the version that goes live.
    (true, "patch cronjobs.batch"),
    (false, "create cronjobs.batch"),
    (false, "delete cronjobs.batch"),
    (true, "create controllerrevisions.apps"),
    (true, "delete controllerrevisions.apps"),
    (true, "get configmaps"),
    (false, "list configmaps"),
    (false, "update deployments.apps"),
    (false, "get secrets"),
    (false, "delete pods"),
    (true, "get pods --subresource=log"),
    (false, "create pods --subresource=exec"),
];

#[test]
fn haldane_may_do_what_it_needs_and_nothing_else() {
    let server = installed();
    for (allowed, what) in ANYWHERE {
        assert_eq!(may(server, HALDANE, what, "elsewhere"), *allowed, "{what} in a namespace that has not opted in");
    }
    for (allowed, what) in OPTED_IN {
        assert_eq!(may(server, HALDANE, what, "shop"), *allowed, "{what} in a namespace that has opted in");
    }
    for (allowed, what) in [
        (true, "update leases.coordination.k8s.io/haldane"),
        (true, "create leases.coordination.k8s.io"),
        (false, "update leases.coordination.k8s.io/other"),
    ] {
        assert_eq!(may(server, HALDANE, what, "haldane-system"), allowed, "{what} in Haldane's own namespace");
    }
}

#[test]
fn people_get_their_rights_through_view_and_edit() {
    let server = installed();
    // Without a controller-manager nobody adds up the rules of `view` and `edit`; so the labels are looked at, and the rules.
    let label = |role: &str, of: &str| {
        let path = format!("jsonpath={{.metadata.labels.rbac\\.authorization\\.k8s\\.io/aggregate-to-{of}}}");
        server.kubectl(&["get", "clusterrole", role, "-o", &path]).good()
    };
    assert_eq!([label("haldane-view", "view"), label("haldane-edit", "edit"), label("haldane-admin", "admin")], ["true"; 3]);
    for (role, verb) in [("view", "list"), ("edit", "create")] {
        let user = format!("person-{role}");
        let role = format!("--clusterrole=haldane-{role}");
        server.kubectl(&["create", "rolebinding", &user, &role, &format!("--user={user}"), "-n", "shop"]).good();
        server.until(&["auth", "can-i", verb, "deliveries.haldane.dev", "-n", "shop", "--as", &user], "", |said| said.ok);
    }
    for (allowed, who, what) in [
        (true, "person-view", "list deliveries.haldane.dev"),
        (true, "person-view", "get releases.haldane.dev"),
        (false, "person-view", "create commands.haldane.dev"),
        (false, "person-view", "patch deliveries.haldane.dev"),
        (true, "person-edit", "create commands.haldane.dev"),
        (true, "person-edit", "create holds.haldane.dev"),
        (true, "person-edit", "delete holds.haldane.dev"),
        (true, "person-edit", "create releases.haldane.dev"),
        (true, "person-edit", "patch deliveries.haldane.dev"),
        (true, "person-edit", "create productionprobes.haldane.dev"),
        (true, "person-view", "get proberuns.haldane.dev"),
        (true, "person-edit", "delete proberuns.haldane.dev"),
        (false, "person-edit", "create proberuns.haldane.dev"),
        (false, "person-edit", "create deliverypolicies.haldane.dev"),
        (false, "person-edit", "patch deliveries.haldane.dev --subresource=status"),
        (false, "person-edit", "patch releases.haldane.dev"),
    ] {
        assert_eq!(may(server, who, what, "shop"), allowed, "{who}: {what}");
    }
}

#[test]
fn nobody_gives_an_order_in_the_name_of_another() {
    let server = installed();
    let order = |by: &str| {
        format!(
            "{{apiVersion: haldane.dev/v1alpha1, kind: Command, metadata: {{generateName: abort-, namespace: shop}}, \
             spec: {{deliveryRef: {{name: checkout}}, release: checkout-1, action: Abort, by: {by}}}}}"
        )
    };
    let hold = |by: &str| {
        format!(
            "{{apiVersion: haldane.dev/v1alpha1, kind: Hold, metadata: {{generateName: freeze-, namespace: shop}}, \
             spec: {{message: m, by: {by}}}}}"
        )
    };
    let ask = ["create", "--dry-run=server", "-f", "-"];
    // The API server takes a moment to read a policy.
    let said = server.until(&ask, &order("ana"), |said| !said.ok);
    assert!(said.err.contains("spec.by: you are admin; write that name"), "{said:?}");
    assert!(!server.kubectl_with(&ask, &hold("ana")).ok);
    server.kubectl_with(&ask, &order("admin")).good();
    server.kubectl_with(&ask, &hold("admin")).good();
}

fn may(server: &ApiServer, who: &str, what: &str, namespace: &str) -> bool {
    let mut args = vec!["auth", "can-i"];
    args.extend(what.split(' '));
    args.extend(["-n", namespace, "--as", who]);
    let said = server.kubectl(&args);
    match said.out.trim() {
        "yes" => true,
        "no" => false,
        _ => panic!("{what}: {said:?}"),
    }
}
