//! What several tests need: a real API server, and the commands to talk to it.

// Each test takes what it needs.
#![allow(dead_code)]

pub mod apiserver;
pub mod run;
