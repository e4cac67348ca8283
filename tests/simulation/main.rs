//! The real controller in a simulated cluster, on virtual time: stories, crashes at every write, bad days of the API.
//!
//! One seed is one history. Each stored state is looked at by the invariants, whatever the test is about.

#![allow(unreachable_pub, reason = "a test binary has no reachable items")]
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "../sim/mod.rs"]
mod sim;

mod app;
mod crash;
mod diary;
mod faults;
mod invariants;
mod ledger;
mod routed;
mod routes;
mod rules;
mod script;
mod small;
mod stories;
mod town;
mod traps;
mod watched;
