//! What GitHub publishes of itself, from npm; and of its descriptions the part that is of use here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::{Map, Value, json};

use crate::middle::{RAW, RAW_BEFORE_PRISM};

/// The folder of the packages.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/parts");
        let done = Command::new(script).output().expect("bash");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        PathBuf::from(String::from_utf8(done.stdout).expect("a path").trim())
    })
}

fn package(file: &str) -> String {
    let path = folder().join("node_modules/@octokit").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json_of(file: &str) -> Value {
    serde_json::from_str(&package(file)).expect("JSON")
}

/// The schema of GraphQL.
pub fn graphql() -> String {
    package("graphql-schema/schema.graphql")
}

/// An event and its examples.
pub fn examples() -> Vec<(String, Vec<Value>)> {
    let Value::Array(events) = json_of("webhooks-examples/api.github.com/index.json") else { panic!("a list") };
    let named = |mut event: Value| {
        (event["name"].as_str().expect("a name").to_owned(), event["examples"].as_array_mut().map(std::mem::take).expect("examples"))
    };
    events.into_iter().map(named).collect()
}

/// A description in the words of `OpenAPI`.
pub struct Description {
    pub document: Value,
}

/// What GitHub's prose says of every call, and the description of some only: a repository that was renamed ("Best practices": follow
/// redirects), credentials that are not taken, limits and rights ("Troubleshooting", "Rate limits"), what is not there.
const ANYWHERE: [(&str, &str); 4] =
    [("301", "moved_permanently"), ("401", "requires_authentication"), ("403", "forbidden"), ("404", "not_found")];

/// Segments of a path that is one parameter of the description (`x-multi-segment`), which Prism takes for one segment.
const SEGMENTS: usize = 3;

impl Description {
    /// Of REST, these operations.
    pub fn rest(operations: &[&str]) -> Self {
        let whole = json_of("openapi/generated/api.github.com.json");
        let (mut paths, mut found) = (Map::new(), Vec::new());
        for (path, item) in whole["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("a path") {
                let Some(id) = operation["operationId"].as_str().filter(|id| operations.contains(id)).map(str::to_owned) else { continue };
                found.push(id.clone());
                let mut operation = operation.clone();
                for (status, response) in ANYWHERE {
                    let there = operation["responses"].as_object_mut().expect("responses");
                    there.entry(status).or_insert_with(|| json!({"$ref": format!("#/components/responses/{response}")}));
                }
                // Only its prose has it.
                if operation["description"].as_str().is_some_and(|text| text.contains(RAW)) {
                    operation["responses"]["200"]["content"][RAW_BEFORE_PRISM] = json!({"schema": {"type": "string"}});
                }
                if id == "apps/list-installations" {
                    let items = operation.pointer_mut("/responses/200/content/application~1json/schema/items").expect("a list");
                    // A copy of that schema, except that every account is a user and an enterprise at once.
                    assert!(items["properties"]["account"].get("allOf").is_some(), "they have mended it: this can go");
                    *items = json!({"$ref": "#/components/schemas/installation"});
                }
                for (path, operation) in forms(path, operation) {
                    paths.entry(path).or_insert_with(|| json!({}))[method.as_str()] = operation;
                }
            }
        }
        found.sort_unstable();
        let mut wanted = operations.to_vec();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "not all of these are in the description");
        Self::cut(&whole, &paths)
    }

    /// Of webhooks, those of these events; each as a call of `POST /name`.
    pub fn webhooks(events: &[&str]) -> Self {
        let whole = json_of("openapi-webhooks/generated/api.github.com.json");
        let of_us = |name: &str| events.iter().any(|event| name == *event || name.starts_with(&format!("{event}-")));
        let all = whole["webhooks"].as_object().expect("webhooks").iter().filter(|(name, _)| of_us(name));
        let paths: Map<String, Value> = all.map(|(name, item)| (format!("/{name}"), item.clone())).collect();
        Self::cut(&whole, &paths)
    }

    /// With what these paths refer to, and nothing else: of 13 MB Prism would read for 17 s.
    fn cut(whole: &Value, paths: &Map<String, Value>) -> Self {
        let mut document = json!({"openapi": whole["openapi"], "info": whole["info"], "paths": paths, "components": {}});
        let mut open = references(&document["paths"]);
        while let Some(pointer) = open.pop() {
            let [_, _, kind, name] = pointer.split('/').collect::<Vec<_>>()[..] else { panic!("{pointer}") };
            if document["components"][kind].get(name).is_none() {
                let part = whole.pointer(&pointer[1..]).unwrap_or_else(|| panic!("{pointer} is not there")).clone();
                open.extend(references(&part));
                document["components"][kind][name] = part;
            }
        }
        plain(&mut document);
        Self { document }
    }

    /// What an entry stands for.
    pub fn follow<'a>(&'a self, entry: &'a Value) -> &'a Value {
        match entry["$ref"].as_str() {
            Some(pointer) => self.follow(self.document.pointer(&pointer[1..]).expect("what is referred to")),
            None => entry,
        }
    }

    /// The operation of a call.
    pub fn operation(&self, method: &str, path: &str) -> Option<&Value> {
        let fits = |form: &str| {
            let (form, path): (Vec<_>, Vec<_>) = (form.split('/').collect(), path.split('/').collect());
            form.len() == path.len() && form.iter().zip(&path).all(|(form, path)| form.starts_with('{') || form == path)
        };
        // A name beats a parameter.
        let all = self.document["paths"].as_object()?.iter().filter(|(form, _)| fits(form));
        let (_, item) = all.min_by_key(|(form, _)| form.matches('{').count())?;
        item.get(method.to_lowercase())
    }
}

/// The paths under which an operation is called.
fn forms(path: &str, mut operation: Value) -> Vec<(String, Value)> {
    let (owner, repo) = (json!({"$ref": "#/components/parameters/owner"}), json!({"$ref": "#/components/parameters/repo"}));
    let mut all = vec![(path.to_owned(), operation.clone())];
    let several = operation["parameters"].as_array().into_iter().flatten().find(|parameter| parameter["x-multi-segment"] == true).cloned();
    if let Some(several) = several {
        let mut path = path.to_owned();
        for number in 2..=SEGMENTS {
            let (mut next, name) = (several.clone(), format!("{}_{number}", several["name"].as_str().expect("a name")));
            path = format!("{path}/{{{name}}}");
            next["name"] = json!(name);
            operation["parameters"].as_array_mut().expect("parameters").push(next);
            all.push((path.clone(), operation.clone()));
        }
    }
    // Where a renamed repository is sent on to: the same by its number.
    for (path, operation) in all.clone() {
        if let Some(below) = path.strip_prefix("/repos/{owner}/{repo}") {
            let mut operation = operation;
            let parameters = operation["parameters"].as_array_mut().expect("parameters");
            parameters.retain(|parameter| *parameter != owner && *parameter != repo);
            parameters.push(json!({"name": "repository_id", "in": "path", "required": true, "schema": {"type": "integer"}}));
            all.push((format!("/repositories/{{repository_id}}{below}"), operation));
        }
    }
    all
}

fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => {
            let own = map.get("$ref").and_then(Value::as_str).map(str::to_owned);
            // Examples are many and big.
            let below = map.iter().filter(|(name, _)| *name != "examples" || !map.contains_key("schema"));
            own.into_iter().chain(below.flat_map(|(_, value)| references(value))).collect()
        }
        Value::Array(list) => list.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// Takes away examples, and says `nullable` in words that Prism understands: beside anything but `type` it makes a schema that the
/// validator does not compile, and what is not compiled is silently taken for valid.
fn plain(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.contains_key("schema") {
                map.remove("examples");
                map.remove("example");
            }
            map.values_mut().for_each(plain);
            if map.get("nullable") == Some(&json!(true)) && !map.contains_key("type") {
                map.remove("nullable");
                let bare = Value::Object(std::mem::take(map));
                map.insert("anyOf".to_owned(), json!([bare, {"enum": [null]}]));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(plain),
        _ => {}
    }
}
