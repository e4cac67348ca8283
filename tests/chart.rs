//! The Helm chart: what it renders, what a real API server makes of it, and what the rights that it gives allow and forbid.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    missing_docs,
    unreachable_pub,
    reason = "a test says what broke by panicking; nothing here is an interface"
)]

use std::{process::Command, sync::Once, time::Duration};

use serde_json::{Value, json};

mod plane;
#[path = "chart/rights.rs"]
mod rights;

use haldane::uninstall::{UninstallError, ungate_all};
use plane::{
    apiserver::ApiServer,
    run::{Said, checked_in, checked_in_definitions, program, repo, run},
};

/// A helm that is built without version flags believes that every cluster is 1.20; this is the oldest one that we support.
const KUBERNETES: &str = "v1.30.0";
const HALDANE: &str = "system:serviceaccount:haldane-system:haldane";
const NAMESPACES: [&str; 4] = ["--set", "profile=namespaces", "--set", "namespaces={shop,pay}"];
const NAMESPACE: &str = "\
apiVersion: v1
kind: Namespace
metadata:
  name: haldane-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/warn: restricted
";

#[test]
fn lint_has_nothing_to_say() {
    for more in [&[][..], &NAMESPACES] {
        helm(&[&["lint", "--strict", "--kube-version", KUBERNETES, chart().as_str()], more].concat()).good();
    }
}

#[test]
fn the_plain_manifests_are_the_chart() {
    let head = "# The chart with its default values, for those without Helm: kubectl apply --server-side -f haldane.yaml\n\
                # Before you delete it: kubectl delete dlv -A --all, so that every Deployment is its owner's again.\n";
    checked_in_definitions();
    // Hooks are Helm's alone.
    let rendered = helm(&template(&["--no-hooks"])).good();
    checked_in("deploy/haldane.yaml", &format!("{head}{NAMESPACE}{rendered}"));
}

#[test]
fn wrong_values_are_refused_before_anything_is_installed() {
    for (values, words) in [
        ("profile=namespaces", "/namespaces"),
        ("namespaces={shop}", "/namespaces"),
        ("profile=everything", "/profile"),
        ("replicas=0", "/replicas"),
        ("image.digest=latest", "/image/digest"),
        ("image.tga=v1", "tga"),
        ("uninstall.limitSeconds=soon", "/uninstall/limitSeconds"),
        ("github.webhooks=true", "needs github.secretName"),
        ("registries.hooksSecretName=a,github.secretName=b,github.webhooks=true", "put registryToken into the Secret of github.secretName"),
    ] {
        let said = helm(&template(&["--set", values]));
        assert!(!said.ok && said.err.contains(words), "{values}: {said:?}");
    }
}

#[test]
fn no_role_names_secrets_or_everything() {
    for more in [&[][..], &NAMESPACES] {
        let roles = rendered(more).into_iter().filter(|o| o["kind"] == "ClusterRole" || o["kind"] == "Role");
        for role in roles {
            for rule in role["rules"].as_array().unwrap() {
                let text = rule.to_string();
                assert!(!text.contains('*') && !text.contains("secrets"), "{}: {text}", role["metadata"]["name"]);
                assert!(!["impersonate", "escalate", "bind", "pods/exec"].iter().any(|verb| text.contains(verb)), "{text}");
            }
        }
    }
}

#[test]
fn what_may_change_workloads_is_bound_in_namespaces_only() {
    let clusterwide = |objects: &[Value]| {
        let bound = objects.iter().filter(|o| o["kind"] == "ClusterRoleBinding").map(|o| o["roleRef"]["name"].clone());
        bound.collect::<Vec<_>>()
    };
    assert_eq!(clusterwide(&rendered(&["--no-hooks"])), ["haldane-controller"]);
    let objects = rendered(&NAMESPACES);
    assert_eq!(clusterwide(&objects), ["haldane-controller"]);
    let role = objects.iter().find(|o| o["kind"] == "ClusterRole" && o["metadata"]["name"] == "haldane-controller").unwrap();
    let read: Vec<_> = role["rules"].as_array().unwrap().iter().flat_map(|rule| rule["resources"].as_array().unwrap()).collect();
    assert_eq!(read, ["selfsubjectaccessreviews", "customresourcedefinitions", "deliveries"]);
    let last = role["rules"].as_array().unwrap().last().unwrap();
    assert_eq!(last["verbs"], json!(["get", "patch"]), "the finalizer comes off where the Roles of its namespace are gone already");
    let opted_in = objects.iter().filter(|o| o["kind"] == "RoleBinding" && o["roleRef"]["name"] == "haldane-delivery");
    assert_eq!(opted_in.map(|o| o["metadata"]["namespace"].clone()).collect::<Vec<_>>(), ["shop", "pay"]);
}

#[test]
fn the_pods_are_restricted_and_say_who_they_are() {
    for more in [&[][..], &NAMESPACES] {
        let objects = rendered(more);
        for kind in ["Deployment", "Job"] {
            let pod = &objects.iter().find(|o| o["kind"] == kind).unwrap()["spec"]["template"]["spec"];
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{kind}");
            assert_eq!(pod["securityContext"]["runAsUser"], 65532);
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
            let container = &pod["containers"][0];
            let security = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}});
            assert_eq!(container["securityContext"], security);
            assert!(container["resources"]["requests"]["memory"].is_string());
        }
    }
    let pod = controller(&[]);
    assert_eq!(pod["terminationGracePeriodSeconds"], 10);
    assert_eq!(pod["containers"][0]["env"][0], json!({"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}));
    let plain = [
        "run",
        "--lease-namespace=$(POD_NAMESPACE)",
        "--lease-name=haldane",
        "--listen=0.0.0.0:8080",
        "--log-format=json",
        "--suites-at-once=4",
        "--load-per-second=100",
    ];
    assert_eq!(pod["containers"][0]["args"], json!(plain));
    assert_eq!(controller(&NAMESPACES)["containers"][0]["args"], json!([&plain[..], &["--namespaces=shop,pay"]].concat()));
}

/// The API server's own word on it, in a namespace that takes nothing else.
#[test]
fn what_merges_need_is_there_when_they_are_wanted_and_not_before() {
    let about = |more: &[&str]| {
        let objects = rendered(more);
        let doors = objects.iter().filter(|o| o["kind"] == "Service" && o["metadata"]["name"] == "haldane-hooks").count();
        let deployment = objects.into_iter().find(|o| o["kind"] == "Deployment").unwrap();
        let pod = &deployment["spec"]["template"]["spec"];
        let args: Vec<String> = pod["containers"][0]["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned()).collect();
        (doors, args, pod["volumes"].clone())
    };
    let (doors, args, volumes) = about(&[]);
    assert!(doors == 0 && volumes.is_null() && !args.iter().any(|arg| arg.contains("github") || arg.contains("hooks")), "{args:?}");
    let more = ["--set", "github.secretName=app", "--set", "github.webhooks=true", "--set", "registries.secrets={ghcr,harbor}"];
    let (doors, args, volumes) = about(&more);
    assert_eq!(doors, 1);
    for arg in ["--github=/etc/haldane/github", "--hooks=0.0.0.0:8081", "--registry-logins=/etc/haldane/registries"] {
        assert!(args.iter().any(|given| given == arg), "{arg}: {args:?}");
    }
    let (doors, args, only) = about(&["--set", "registries.hooksSecretName=door"]);
    assert!(
        doors == 1 && args.iter().any(|arg| arg == "--hook-secrets=/etc/haldane/hooks") && !args.iter().any(|arg| arg.contains("github"))
    );
    assert_eq!(only[0]["secret"]["secretName"], "door");
    let projected = &volumes.as_array().unwrap().iter().find(|v| v["name"] == "registries").unwrap()["projected"]["sources"];
    assert_eq!(projected[1]["secret"], json!({"name": "harbor", "items": [{"key": ".dockerconfigjson", "path": "harbor"}]}));
}

#[test]
fn pod_security_admission_takes_the_pods() {
    let server = installed();
    let ask = ["create", "--dry-run=server", "-n", "haldane-system", "-f", "-"];
    let pod = |spec: &Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "pod-"}, "spec": spec}).to_string();
    for object in rendered(&[]).iter().filter(|o| o["kind"] == "Deployment" || o["kind"] == "Job") {
        let mut spec = object["spec"]["template"]["spec"].clone();
        server.kubectl_with(&ask, &pod(&spec)).good();
        // Else this test would also pass where nobody looks.
        spec["securityContext"]["runAsNonRoot"] = json!(false);
        assert!(!server.kubectl_with(&ask, &pod(&spec)).ok);
    }
}

#[test]
fn a_digest_wins_over_a_tag() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let pod = controller(&[
        "--set",
        "image.repository=registry.example.com/haldane",
        "--set",
        "image.tag=v9",
        "--set",
        &format!("image.digest={digest}"),
    ]);
    assert_eq!(pod["containers"][0]["image"], format!("registry.example.com/haldane@{digest}"));
}

#[test]
fn the_api_server_takes_all_of_it() {
    let server = installed();
    for more in [&[][..], &NAMESPACES, &["--set", "networkPolicy.enabled=true", "--set", "priorityClassName=system-cluster-critical"]] {
        let yaml = helm(&template(more)).good();
        // The definitions are installed already, so what is here is compared with what is there.
        let said = server
            .kubectl_with(&["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-"], &yaml);
        assert!(said.ok && !said.err.contains("Warning"), "{more:?}: {said:?}");
    }
}

#[test]
fn the_plain_manifests_install_as_they_are() {
    let server = installed();
    let file = repo("deploy/haldane.yaml");
    let said = server.kubectl(&[
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        file.to_str().unwrap(),
    ]);
    assert!(said.ok && !said.err.contains("Warning"), "{said:?}");
}

/// Helm never upgrades what lies in `crds/`, and deletes what does not: with a definition go all objects of its kind.
#[test]
fn an_upgrade_brings_the_definitions_and_an_uninstallation_leaves_them() {
    let server = ApiServer::start();
    let namespaced = ["-n", "haldane-system"];
    let mut values = vec!["haldane".to_owned(), chart(), "--set".to_owned(), "image.repository=registry.example.com/haldane".to_owned()];
    values.extend(namespaced.map(ToOwned::to_owned));
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    helm_in(&server, &[&["install", "--create-namespace", "--no-hooks"], &values[..]].concat()).good();
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/verify";
    let older = json!([{"op": "remove", "path": field}]).to_string();
    server.kubectl(&["patch", "crd", "deliveries.haldane.dev", "--type=json", "-p", &older]).good();
    helm_in(&server, &[&["upgrade"], &values[..]].concat()).good();
    let text = "jsonpath={.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.verify.description}";
    assert!(!server.kubectl(&["get", "crd", "deliveries.haldane.dev", "-o", text]).good().is_empty(), "the upgrade brings the field back");
    server.until(&["create", "-n", "default", "-f", "-"], &delivery("kept", "default", &[]), |said| said.ok);
    helm_in(&server, &[&["uninstall", "haldane", "--no-hooks"], &namespaced[..]].concat()).good();
    server.kubectl(&["get", "deliveries.haldane.dev", "kept", "-n", "default"]).good();
    assert!(!server.kubectl(&["get", "deployment", "haldane", "-n", "haldane-system"]).ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstalling_waits_until_every_gate_is_open() {
    let server = installed();
    server.kubectl(&["create", "namespace", "leaving"]).good();
    for name in ["checkout", "search"] {
        server.kubectl_with(&["create", "-f", "-"], &delivery(name, "leaving", &["haldane.dev/ungate"])).good();
    }
    let namespaces = ["leaving".to_owned()];
    // With the rights that the hook gives, and no others.
    let hook: Vec<_> = rendered(&[]).into_iter().filter(|o| o["metadata"]["name"] == "haldane-uninstall" && o["kind"] != "Job").collect();
    let hook = json!({"apiVersion": "v1", "kind": "List", "items": hook}).to_string();
    server.kubectl_with(&["apply", "--server-side", "-f", "-"], &hook).good();
    let user = "system:serviceaccount:haldane-system:haldane-uninstall";
    server.until(&["auth", "can-i", "list", "deliveries.haldane.dev", "--as", user], "", |said| said.ok);
    let client = || client(server, user);
    // Nobody is there who would open a gate: it says which ones, and what to look at.
    let stuck = ungate_all(client().await, &namespaces, Duration::from_secs(2), |_| {}).await;
    let Err(UninstallError::Left { left, .. }) = &stuck else { panic!("{stuck:?}") };
    assert_eq!(left, &["leaving/checkout", "leaving/search"]);
    // Now somebody is.
    let controller = tokio::task::spawn_blocking(|| {
        let server = installed();
        for name in ["search", "checkout"] {
            std::thread::sleep(Duration::from_millis(1500));
            let open = json!([{"op": "remove", "path": "/metadata/finalizers"}]).to_string();
            server.kubectl(&["patch", "deliveries.haldane.dev", name, "-n", "leaving", "--type=json", "-p", &open]).good();
        }
    });
    let mut lines = Vec::new();
    let done = ungate_all(client().await, &namespaces, Duration::from_mins(1), |line| lines.push(line.to_owned())).await;
    assert_eq!(done.unwrap(), 2);
    assert_eq!(lines, ["leaving/search: gone", "leaving/checkout: gone"]);
    controller.await.unwrap();
    assert_eq!(ungate_all(client().await, &namespaces, Duration::from_secs(10), |_| {}).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstalling_without_the_right_to_says_so_at_once() {
    let server = installed();
    let refused = ungate_all(client(server, "nobody").await, &[], Duration::from_secs(30), |_| {}).await;
    assert!(matches!(refused, Err(UninstallError::Refused { .. })), "{refused:?}");
}

/// The chart with its default values, in an API server of our own; `shop` has opted in as NOTES.txt says.
fn installed() -> &'static ApiServer {
    static ONCE: Once = Once::new();
    let server = ApiServer::own();
    ONCE.call_once(|| {
        server.install_crds();
        // kubectl asks about rights to kinds that it finds.
        for (kind, plural) in [("HTTPRoute", "httproutes"), ("GRPCRoute", "grpcroutes"), ("Gateway", "gateways")] {
            server.kubectl_with(&["create", "-f", "-"], &of_gateway_api(kind, plural)).good();
            let name = format!("crd/{plural}.gateway.networking.k8s.io");
            server.kubectl(&["wait", &name, "--for=condition=Established", "--timeout=30s"]).good();
        }
        server.kubectl_with(&["create", "-f", "-"], NAMESPACE).good();
        for namespace in ["shop", "pay", "elsewhere"] {
            server.kubectl(&["create", "namespace", namespace]).good();
        }
        let yaml = helm(&template(&["--no-hooks", "--set", "crds.install=false"])).good();
        server.kubectl_with(&["apply", "--server-side", "-f", "-"], &yaml).good();
        let opt_in =
            ["create", "rolebinding", "haldane", "--clusterrole=haldane-delivery", "--serviceaccount=haldane-system:haldane", "-n", "shop"];
        server.kubectl(&opt_in).good();
        // The API server takes a moment to read what is bound.
        for (verb, what) in [("list", "nodes"), ("patch", "deployments.apps")] {
            server.until(&["auth", "can-i", verb, what, "-n", "shop", "--as", HALDANE], "", |said| said.ok);
        }
    });
    server
}

/// A kind of the Gateway API without its schema.
fn of_gateway_api(kind: &str, plural: &str) -> String {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let group = "gateway.networking.k8s.io";
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}"), "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"}},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
    .to_string()
}

fn delivery(name: &str, namespace: &str, finalizers: &[&str]) -> String {
    let metadata = json!({"name": name, "namespace": namespace, "finalizers": finalizers});
    json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery", "metadata": metadata, "spec": {"workloads": [{"name": name}]}})
        .to_string()
}

async fn client(server: &ApiServer, user: &str) -> kube::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let kubeconfig = kube::config::Kubeconfig::read_from(&server.kubeconfig).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await.unwrap();
    config.auth_info.impersonate = Some(user.to_owned());
    kube::Client::try_from(config).unwrap()
}

fn chart() -> String {
    repo("charts/haldane").display().to_string()
}

fn template<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let chart: &'static str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/haldane");
    [&["template", "haldane", chart, "-n", "haldane-system", "--kube-version", KUBERNETES], more].concat()
}

fn helm(args: &[&str]) -> Said {
    run(Command::new(program("helm")).args(args), "")
}

fn helm_in(server: &ApiServer, args: &[&str]) -> Said {
    run(Command::new(program("helm")).env("KUBECONFIG", &server.kubeconfig).args(args), "")
}

/// What is rendered, object by object, with the hooks.
fn rendered(more: &[&str]) -> Vec<Value> {
    let yaml = helm(&template(more)).good();
    let documents = serde_yaml::Deserializer::from_str(&yaml);
    let objects: Vec<Value> = documents.map(|document| serde::Deserialize::deserialize(document).unwrap()).collect();
    objects.into_iter().filter(|object| !object.is_null()).collect()
}

fn controller(more: &[&str]) -> Value {
    rendered(more).into_iter().find(|o| o["kind"] == "Deployment").unwrap()["spec"]["template"]["spec"].clone()
}
