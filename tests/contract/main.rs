//! Is our model of GitHub like GitHub, and do we speak to it as it wants? Its own published descriptions say so: `OpenAPI` by Prism, the
//! schema of GraphQL, the examples and schemas of webhooks. They come from npm (`tests/contract/parts`).
//!
//! What they cannot say is how GitHub behaves; that is in `tests/forge/selftest`, from its documentation.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test says what broke by panicking"
)]

#[path = "../forge/mod.rs"]
mod forge;
#[path = "../forge/selftest/support.rs"]
#[allow(dead_code, reason = "the selftest of the fake uses more of it")]
mod support;

mod door;
mod graphql;
mod middle;
mod names;
mod parts;
mod prism;
mod rest;
mod source;
mod told;
mod walk;
