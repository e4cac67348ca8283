//! Names that a description does not have. Schemas are open: a field that GitHub does not know is valid in them, and yet a client
//! that leans on one of the fake's, or a request that hopes for one, is wrong.

use serde_json::{Value, json};

use crate::parts::Description;

/// Where a value has fields that none of its schemas has.
pub fn undeclared(description: &Description, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(description, &[schema], value, "", &mut found);
    found
}

fn walk(description: &Description, schemas: &[&Value], value: &Value, at: &str, found: &mut Vec<String>) {
    let mut leaves = Vec::new();
    for schema in schemas {
        flatten(description, schema, &mut leaves);
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let at = format!("{at}.{name}");
                let here: Vec<&Value> = leaves
                    .iter()
                    .filter_map(|leaf| {
                        leaf["properties"].get(name).or(leaf["additionalProperties"].as_object().map(|_| &leaf["additionalProperties"]))
                    })
                    .collect();
                if !here.is_empty() {
                    walk(description, &here, value, &at, found);
                } else if !leaves.iter().any(|leaf| takes_anything(leaf)) {
                    found.push(at);
                }
            }
        }
        Value::Array(list) => {
            let items: Vec<&Value> = leaves.iter().filter_map(|leaf| leaf.get("items")).collect();
            for value in list {
                walk(description, &items, value, &format!("{at}[]"), found);
            }
        }
        _ => {}
    }
}

/// Schemas without `allOf` and the like.
fn flatten<'a>(description: &'a Description, schema: &'a Value, leaves: &mut Vec<&'a Value>) {
    let schema = description.follow(schema);
    leaves.push(schema);
    for kind in ["allOf", "anyOf", "oneOf"] {
        for part in schema[kind].as_array().into_iter().flatten() {
            flatten(description, part, leaves);
        }
    }
}

fn takes_anything(leaf: &Value) -> bool {
    let composed = ["allOf", "anyOf", "oneOf", "enum", "properties"].iter().any(|kind| leaf.get(kind).is_some());
    let object = match &leaf["type"] {
        Value::Null => true,
        Value::Array(types) => types.iter().any(|kind| kind == "object"),
        kind => kind == "object",
    };
    leaf["additionalProperties"] == true || (object && !composed && leaf["additionalProperties"] != false)
}

#[test]
fn an_invented_name_is_found_wherever_it_is() {
    let named = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    let document = json!({"components": {"schemas": {"named": named, "open": {"type": "object"}}}});
    let refer = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let schema = json!({"allOf": [refer("named"), {"type": "object", "properties": {
        "one": {"anyOf": [refer("named"), {"enum": [null]}]},
        "all": {"type": "array", "items": refer("named")},
        "any": refer("open"),
        "map": {"type": "object", "additionalProperties": refer("named")},
    }}]});
    let description = Description { document };
    let here = json!({"name": "x", "one": {"name": "x"}, "all": [{"name": "x"}], "any": {"x": 1}, "map": {"x": {"name": "x"}}});
    assert_eq!(undeclared(&description, &schema, &here), Vec::<String>::new());
    let invented = json!({"x": 1, "one": {"x": 1}, "all": [{"x": 1}], "map": {"x": {"x": 1}}});
    assert_eq!(undeclared(&description, &schema, &invented), [".all[].x", ".map.x.x", ".one.x", ".x"]);
}
