//! Thin clients to the world: typed errors, time limits, no rules about deploying.

pub mod probe;
