//! Does the fake do what GitHub documents? Witnesses are others than the fake itself: git, openssl.

#![allow(unreachable_pub, reason = "a test binary has no reachable items")]
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "mod.rs"]
mod forge;

#[path = "selftest/door.rs"]
mod door;
#[path = "selftest/graph.rs"]
mod graph;
#[path = "selftest/history.rs"]
mod history;
#[path = "selftest/hooks.rs"]
mod hooks;
#[path = "selftest/knobs.rs"]
mod knobs;
#[path = "selftest/support.rs"]
mod support;
