//! Does the fake do what a real cluster did? Each test is named after what was seen there.

#![allow(unreachable_pub, reason = "a test binary has no reachable items")]
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]
#![allow(clippy::unchecked_time_subtraction, reason = "virtual time only grows")]

#[path = "mod.rs"]
mod sim;

#[path = "selftest/controller.rs"]
mod controller;
#[path = "selftest/gate.rs"]
mod gate;
#[path = "selftest/routes.rs"]
mod routes;
#[path = "selftest/server.rs"]
mod server;
#[path = "selftest/support.rs"]
mod support;
#[path = "selftest/traps.rs"]
mod traps;
#[path = "selftest/world.rs"]
mod world;
