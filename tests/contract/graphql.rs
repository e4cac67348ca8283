//! Every document that our client sends fits the schema that GitHub publishes, and the model's schema is a part of it.

use std::{collections::BTreeSet, sync::LazyLock};

use apollo_compiler::{
    ExecutableDocument, Name, Schema,
    ast::FieldDefinition,
    collections::{IndexMap, IndexSet},
    schema::{Component, ComponentName, ExtendedType},
    validation::Valid,
};
use serde_json::Value;

use crate::{parts, source, walk::walk};

/// Of the model, and of our client's own tests.
const OURS: &str = include_str!("../forge/schema.graphql");

/// As it is published: with two fields that stand in it twice, which no validator takes.
static PUBLISHED: LazyLock<Valid<Schema>> = LazyLock::new(|| {
    let schema = Schema::parse(parts::graphql(), "published.graphql").unwrap_or_else(|found| {
        let others: Vec<String> =
            found.errors.iter().map(|error| error.to_json().message).filter(|text| !text.starts_with("duplicate definitions")).collect();
        assert_eq!(others, Vec::<String>::new());
        found.partial
    });
    Valid::assume_valid(schema)
});

#[tokio::test]
async fn every_document_of_the_client_was_sent_and_fits_the_published_schema() {
    let mut sent = BTreeSet::new();
    for heard in walk().await.ours.iter().filter(|heard| heard.path == "/graphql") {
        let asked: Value = serde_json::from_slice(&heard.asked).unwrap();
        let text = asked["query"].as_str().unwrap();
        let document = ExecutableDocument::parse_and_validate(&PUBLISHED, text, "sent.graphql")
            .unwrap_or_else(|error| panic!("{text}\n{}", error.errors));
        let operation = document.operations.get(None).unwrap();
        let raw = serde_json::from_value(asked["variables"].clone()).unwrap();
        apollo_compiler::request::coerce_variable_values(&PUBLISHED, operation, &raw)
            .unwrap_or_else(|error| panic!("{text}\n{}", error.message()));
        assert_eq!(asked.as_object().unwrap().len(), 2, "a query, its variables, nothing else: {asked}");
        sent.insert(operation.name.clone().unwrap().to_string());
    }
    assert_eq!(sent, source::documents(), "a document of src/edge/github was not sent: walk it in walk.rs");
}

/// What of a schema is not so in the published one.
fn apart(ours: &Schema, published: &Schema) -> Vec<String> {
    let mut found = Vec::new();
    for (name, ours) in ours.types.iter().filter(|(_, definition)| !definition.is_built_in()) {
        let Some(theirs) = published.types.get(name) else {
            found.push(format!("{name}: no such type"));
            continue;
        };
        match (ours, theirs) {
            (ExtendedType::Scalar(_), ExtendedType::Scalar(_)) => {}
            (ExtendedType::Object(ours), ExtendedType::Object(theirs)) => {
                interfaces(name, &ours.implements_interfaces, &theirs.implements_interfaces, &mut found);
                fields(name, &ours.fields, &theirs.fields, &mut found);
            }
            (ExtendedType::Interface(ours), ExtendedType::Interface(theirs)) => {
                interfaces(name, &ours.implements_interfaces, &theirs.implements_interfaces, &mut found);
                fields(name, &ours.fields, &theirs.fields, &mut found);
            }
            // A value that is left away would be one that nobody is ready for.
            (ExtendedType::Enum(ours), ExtendedType::Enum(theirs)) => {
                let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) = (ours.values.keys().collect(), theirs.values.keys().collect());
                found.extend(ours.symmetric_difference(&theirs).map(|value| format!("{name}.{value}: on one side alone")));
            }
            _ => found.push(format!("{name}: a type of another kind")),
        }
    }
    found
}

fn interfaces(name: &str, ours: &IndexSet<ComponentName>, theirs: &IndexSet<ComponentName>, found: &mut Vec<String>) {
    found.extend(ours.iter().filter(|one| !theirs.contains(*one)).map(|one| format!("{name}: does not implement {one}")));
}

fn fields(
    name: &str,
    ours: &IndexMap<Name, Component<FieldDefinition>>,
    theirs: &IndexMap<Name, Component<FieldDefinition>>,
    found: &mut Vec<String>,
) {
    for (field, ours) in ours {
        let at = format!("{name}.{field}");
        let Some(theirs) = theirs.get(field) else {
            found.push(format!("{at}: no such field"));
            continue;
        };
        if ours.ty != theirs.ty {
            found.push(format!("{at}: {} and not {}", theirs.ty, ours.ty));
        }
        for argument in &ours.arguments {
            match theirs.argument_by_name(&argument.name) {
                None => found.push(format!("{at}({}): no such argument", argument.name)),
                Some(published) if published.ty == argument.ty && published.default_value == argument.default_value => {}
                Some(_) => found.push(format!("{at}({}): of another type or default", argument.name)),
            }
        }
        // Without one of these GitHub answers nothing.
        let left_out = theirs.arguments.iter().filter(|argument| argument.is_required() && ours.argument_by_name(&argument.name).is_none());
        found.extend(left_out.map(|argument| format!("{at}({}): is required", argument.name)));
    }
}

#[test]
fn the_schema_of_the_model_is_a_part_of_the_published_one() {
    let ours = Schema::parse_and_validate(OURS, "schema.graphql").unwrap();
    assert_eq!(apart(&ours, &PUBLISHED), Vec::<String>::new());
}

#[test]
fn what_is_not_in_the_published_one_is_found() {
    for (right, other, said) in [
        (
            "type Workflow implements Node {\n  id: ID!\n  name: String!",
            "type Workflow implements Node {\n  id: ID!\n  name: String",
            "Workflow.name: String! and not String",
        ),
        ("  qualifiedName: String!", "  name: String!", "Repository.ref(name): no such argument"),
        ("  totalCount: Int!\n", "  totalCount: Int!\n  count: Int!\n", "CommitConnection.count: no such field"),
        ("  STARTUP_FAILURE\n", "", "CheckConclusionState.STARTUP_FAILURE: on one side alone"),
        ("followRenames: Boolean = true", "followRenames: Boolean = false", "Query.repository(followRenames): of another type or default"),
        ("type GitActor", "interface Thing {\n  name: String\n}\n\ntype GitActor implements Thing", "GitActor: does not implement Thing"),
    ] {
        let text = OURS.replace("ref(qualifiedName", "ref(\n  qualifiedName");
        assert!(text.contains(right), "{right}");
        let other =
            Schema::parse_and_validate(text.replace(right, other), "other.graphql").unwrap_or_else(|error| panic!("{}", error.errors));
        let found = apart(&other, &PUBLISHED);
        assert!(found.iter().any(|one| one == said), "{right}: {found:#?}");
    }
}
