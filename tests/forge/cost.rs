//! What a GraphQL query costs, by GitHub's own sum: one request for each connection of each node above it, taken as full;
//! divided by 100, rounded, at least 1 ("Rate limits and query limits for the GraphQL API").

use apollo_compiler::{
    ExecutableDocument,
    ast::Value,
    executable::{Field, Operation, Selection},
    response::{JsonMap, JsonValue},
};

/// Nodes that one query may ask for.
pub const MAX_NODES: u64 = 500_000;

/// What a query asks for at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub requests: u64,
    pub nodes: u64,
}

impl Asked {
    pub fn points(self) -> u64 {
        ((self.requests + 50) / 100).max(1)
    }
}

/// Of this operation with these variables.
pub fn asked(document: &ExecutableDocument, operation: &Operation, variables: &JsonMap) -> Asked {
    let mut sum = Asked::default();
    walk(document, variables, &operation.selection_set.selections, 1, &mut sum);
    sum
}

fn walk(document: &ExecutableDocument, variables: &JsonMap, selections: &[Selection], above: u64, sum: &mut Asked) {
    for selection in selections {
        match selection {
            Selection::Field(field) => {
                let mut here = above;
                if field.ty().inner_named_type().ends_with("Connection") {
                    here = above.saturating_mul(first(field, variables));
                    sum.requests = sum.requests.saturating_add(above);
                    sum.nodes = sum.nodes.saturating_add(here);
                }
                walk(document, variables, &field.selection_set.selections, here, sum);
            }
            Selection::InlineFragment(fragment) => walk(document, variables, &fragment.selection_set.selections, above, sum),
            Selection::FragmentSpread(spread) => {
                if let Some(fragment) = spread.fragment_def(document) {
                    walk(document, variables, &fragment.selection_set.selections, above, sum);
                }
            }
        }
    }
}

fn first(field: &Field, variables: &JsonMap) -> u64 {
    let Some(value) = field.specified_argument_by_name("first") else { return 0 };
    match value.as_ref() {
        Value::Int(number) => number.try_to_i32().ok().and_then(|number| u64::try_from(number).ok()).unwrap_or(0),
        Value::Variable(name) => variables.get(name.as_str()).and_then(JsonValue::as_u64).unwrap_or(0),
        _ => 0,
    }
}
