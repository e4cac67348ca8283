//! Does the fake do what a real cluster did? Each test is named after what was seen there.

#[path = "mod.rs"]
mod sim;

#[path = "selftest/controller.rs"]
mod controller;
#[path = "selftest/gate.rs"]
mod gate;
#[path = "selftest/server.rs"]
mod server;
#[path = "selftest/support.rs"]
mod support;
#[path = "selftest/traps.rs"]
mod traps;
#[path = "selftest/world.rs"]
mod world;
