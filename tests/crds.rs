//! The definitions of our kinds: that what is checked in is what the code says, that every field is told and bounded, and
//! that a real API server takes what is right and refuses what is wrong, naming the field.

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

use std::{fs, path::PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, CustomResourceDefinitionVersion};
use serde_json::Value;

mod plane;

use haldane::api::crd_yaml;
use plane::{apiserver::ApiServer, run::repo};

/// Asks the API server for everything but the storing.
const ASK: [&str; 6] = ["create", "--dry-run=server", "--validate=strict", "-n", "default", "-f"];

#[test]
fn the_checked_in_definitions_are_those_of_the_code() {
    plane::run::checked_in_definitions();
}

#[test]
fn delivery_has_the_columns_that_people_know() {
    let crd = definition("Delivery");
    let columns = version(&crd).additional_printer_columns.clone().unwrap();
    let wide = |priority: i32| columns.iter().filter(|c| c.priority.unwrap_or(0) == priority).map(|c| c.name.clone()).collect::<Vec<_>>();
    assert_eq!(wide(0), ["Desired", "Live", "Phase", "Weight", "Verified", "Reason", "Since", "Age"]);
    assert_eq!(wide(1), ["Commit", "Back", "Message"]);
    let names = |kind: &str| definition(kind).spec.names.short_names.unwrap_or_default();
    assert_eq!([names("Delivery"), names("Release"), names("ProductionProbe"), names("ProbeRun")], [["dlv"], ["rel"], ["pp"], ["pr"]]);
}

/// A column over a path that the schema does not have would be empty for ever.
#[test]
fn every_column_shows_a_field_that_exists() {
    for crd in crd_yaml::definitions() {
        let root = root(&crd);
        for column in version(&crd).additional_printer_columns.iter().flatten() {
            let path = column.json_path.replace(r#"[?(@.type=="Verified")]"#, "[]").replace(r#"[?(@.type=="Accepted")]"#, "[]");
            let mut at = Some(&root);
            for name in path.split('.').filter(|part| !part.is_empty() && !path.starts_with(".metadata")) {
                at = at.and_then(|schema| schema["properties"].get(name.trim_end_matches("[]")));
                if name.ends_with("[]") {
                    at = at.and_then(|schema| schema.get("items"));
                }
            }
            assert!(at.is_some(), "{}: column {} shows {}", crd.spec.names.kind, column.name, column.json_path);
        }
    }
}

#[test]
fn every_field_is_told_and_bounded_and_has_no_default() {
    let mut wrong = Vec::new();
    for crd in crd_yaml::definitions() {
        let root = root(&crd);
        assert!(!root["description"].as_str().unwrap().contains("Auto-generated"), "{}", crd.spec.names.kind);
        for name in ["spec", "status"] {
            if let Some(schema) = root["properties"].get(name) {
                look(&format!("{}.{name}", crd.spec.names.kind), schema, true, &mut wrong);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn look(at: &str, schema: &Value, named: bool, wrong: &mut Vec<String>) {
    let mut must = |holds: bool, what: &str| {
        if !holds {
            wrong.push(format!("{at}: {what}"));
        }
    };
    let has = |key: &str| schema.get(key).is_some();
    must(!named || schema["description"].as_str().is_some_and(|text| !text.trim().is_empty()), "has no description");
    must(!has("default"), "has a default");
    must(!has("nullable"), "is nullable");
    must(!["anyOf", "oneOf", "allOf", "not"].iter().any(|key| has(key)), "is not one type");
    match schema["type"].as_str() {
        Some("string") => must(has("maxLength") || has("enum") || schema["format"] == "date-time", "has no greatest length"),
        Some("integer") => {
            must(has("minimum") && (has("maximum") || at.ends_with("conditions[].observedGeneration")), "has no bounds");
            must(schema.get("format").is_none_or(|f| f == "int32" || f == "int64"), "has a format that nobody knows");
        }
        Some("array") => {
            must(has("maxItems"), "has no greatest number of items");
            look(&format!("{at}[]"), &schema["items"], false, wrong);
        }
        Some("object") => {
            let free = schema["x-kubernetes-preserve-unknown-fields"] == true || has("additionalProperties");
            must(!free || has("maxProperties"), "has no greatest number of properties");
        }
        Some("boolean") => {}
        other => must(false, &format!("is of type {other:?}")),
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        look(&format!("{at}.{name}"), property, true, wrong);
    }
}

#[test]
fn the_api_server_takes_what_is_right() {
    let server = installed();
    let mut files = yaml_files("deploy/examples");
    files.extend(yaml_files("tests/crds/right"));
    assert!(files.len() >= 8, "{files:?}");
    for file in files {
        let said = server.kubectl(&[&ASK[..], &[file.to_str().unwrap()]].concat());
        assert!(said.ok && !said.err.contains("Warning"), "{}: {said:?}", file.display());
    }
}

#[test]
fn the_api_server_refuses_what_is_wrong_and_names_the_field() {
    let server = installed();
    let files = yaml_files("tests/crds/wrong");
    assert!(files.len() >= 20, "{files:?}");
    let mut trouble = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let words = text.lines().find_map(|line| line.strip_prefix("# refused: ")).expect("a line: # refused: WORDS");
        let said = server.kubectl(&[&ASK[..], &[file.to_str().unwrap()]].concat());
        if said.ok || !said.err.contains(words) {
            trouble.push(format!("{}: should be refused with {words:?}: {}{}", file.display(), said.err, said.out));
        }
    }
    assert!(trouble.is_empty(), "{}", trouble.join("\n"));
}

#[test]
fn what_never_changes_cannot_be_changed() {
    let server = installed();
    let kinds = [("command", "reason", "another"), ("release", "version", "v9"), ("hold", "by", "bob")];
    for (kind, field, other) in kinds {
        let file = repo(&format!("tests/crds/right/{kind}.yaml"));
        let resource = format!("{kind}s.haldane.dev");
        let named = ["--ignore-not-found", "-n", "default", "-f", file.to_str().unwrap()];
        server.kubectl(&[&["delete"], &named[..]].concat()).good();
        server.kubectl(&["create", "-n", "default", "-f", file.to_str().unwrap()]).good();
        let name = server.kubectl(&["get", &resource, "-n", "default", "-o", "jsonpath={.items[0].metadata.name}"]).good();
        let patch = serde_json::json!({"spec": {field: other}}).to_string();
        let said = server.kubectl(&["patch", &resource, &name, "-n", "default", "--type=merge", "-p", &patch]);
        assert!(
            !said.ok && said.err.contains(if kind == "hold" { "stays with the one who made it" } else { "never changes" }),
            "{kind}: {said:?}"
        );
        server.kubectl(&[&["delete"], &named[..]].concat()).good();
    }
}

/// Nobody would open the gate of a name that went.
#[test]
fn workloads_keep_their_names_once_they_are_gated() {
    let server = installed();
    let delivery = |names: &[&str]| {
        let workloads: Vec<Value> = names.iter().map(|name| serde_json::json!({"name": name})).collect();
        serde_json::json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery", "metadata": {"name": "renamed", "namespace": "default"},
            "spec": {"workloads": workloads}})
        .to_string()
    };
    let apply = |names: &[&str]| server.kubectl_with(&["apply", "-f", "-"], &delivery(names));
    apply(&["wbe"]).good();
    apply(&["web", "worker"]).good();
    let gated = ["web", "worker"].map(|name| serde_json::json!({"name": name, "uid": "u", "wasPaused": false}));
    let status = serde_json::json!({"status": {"gated": gated}}).to_string();
    server.kubectl(&["patch", "dlv", "renamed", "-n", "default", "--subresource=status", "--type=merge", "-p", &status]).good();
    for names in [&["web"][..], &["web", "worker", "third"], &["web", "other"]] {
        let said = apply(names);
        assert!(!said.ok && said.err.contains("spec.workloads: their Deployments are gated"), "{names:?}: {said:?}");
    }
    apply(&["worker", "web"]).good();
    let other = r#"{"spec": {"rollout": {"guard": "1m"}}}"#;
    server.kubectl(&["patch", "dlv", "renamed", "-n", "default", "--type=merge", "-p", other]).good();
    server.kubectl(&["delete", "dlv", "renamed", "-n", "default"]).good();
}

#[test]
fn kubectl_explain_tells_what_to_write() {
    let server = installed();
    for (path, words) in [
        ("deliveries", "how they roll out, and what checks them"),
        ("deliveries.spec.rollout.onDeadline", "Return (the default)"),
        ("deliveries.spec.rollout.guard", "Default 10m"),
        ("pp.spec.vote", "Vote (the default)"),
        ("pp.spec.sweep", "is found by the name of the run"),
        ("pr", "deleting it means to give up"),
        ("commands.spec.action", "Abort: take the rollout back"),
    ] {
        let said = server.kubectl(&["explain", path, "--api-version=haldane.dev/v1alpha1"]).good();
        // kubectl wraps its lines.
        let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(words), "{path}: {said}");
    }
}

fn installed() -> &'static ApiServer {
    static ONCE: std::sync::Once = std::sync::Once::new();
    let server = ApiServer::shared();
    ONCE.call_once(|| server.install_crds());
    server
}

fn definition(kind: &str) -> CustomResourceDefinition {
    crd_yaml::definitions().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap()
}

fn version(crd: &CustomResourceDefinition) -> &CustomResourceDefinitionVersion {
    let [version] = crd.spec.versions.as_slice() else { panic!("one version") };
    version
}

fn root(crd: &CustomResourceDefinition) -> Value {
    serde_json::to_value(version(crd).schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap()
}

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(repo(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}
