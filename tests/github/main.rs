//! Merges as our client, our board and our door see them, against a model of GitHub on real git: each trap of the forge by its name.
//!
//! The registry is a shelf here (the real one is in `tests/registry.rs`), and nobody deploys (that is in `tests/merges.rs`). What a
//! commit comes to is told by the same pure rules that the controller uses.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test says what broke by panicking"
)]

mod any_order;
mod flood;
#[path = "../forge/mod.rs"]
mod forge;
mod hearing;
mod limits;
#[path = "../plane/mod.rs"]
mod plane;
mod setup;
mod signals;
mod street;
mod town;
mod traps;
