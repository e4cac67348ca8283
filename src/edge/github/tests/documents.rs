//! Every document that can be sent fits the part of GitHub's schema that the model of it has, which `tests/contract` holds against
//! the published one, with the documents that were sent.

use apollo_compiler::{ExecutableDocument, Schema, validation::Valid};

use super::*;

fn schema() -> Valid<Schema> {
    Schema::parse_and_validate(include_str!("../../../../tests/forge/schema.graphql"), "schema.graphql").unwrap()
}

/// What is wrong with a document.
fn wrong(schema: &Valid<Schema>, document: &str) -> Option<String> {
    ExecutableDocument::parse_and_validate(schema, document, "document.graphql").err().map(|error| error.to_string())
}

#[test]
fn every_document_fits_the_schema() {
    let (named, default) = (main_branch(), branch("acme/site", ""));
    let many: Vec<_> = [&named, &default].into_iter().cycle().take(heads::TOGETHER).collect();
    let documents = [
        heads::document(&[&named]),
        heads::document(&[&default]),
        heads::document(&many),
        history::first_page(&named),
        history::first_page(&default),
        history::next_page(),
        checks::document(1),
        checks::document(checks::TOGETHER),
        checks::next_page(),
    ];
    let schema = schema();
    for document in documents {
        assert_eq!(wrong(&schema, &document), None, "{document}");
    }
}

#[test]
fn a_document_that_does_not_fit_is_found() {
    let schema = schema();
    for (right, spoilt) in
        [("cost", "price"), ("GitObjectID!", "String!"), ("first:50", "first:\"50\""), ("Facts on Commit", "Facts on Tag")]
    {
        let document = checks::document(1);
        assert!(document.contains(right));
        assert!(wrong(&schema, &document.replace(right, spoilt)).is_some(), "{right}");
    }
}
