//! A Kubernetes cluster in memory, on tokio's paused clock.
//!
//! [`api`] is the API server: it stores objects and gives `kube::Client`s. [`world`] plays the controllers, the kubelet and the
//! data plane of routes over the same store. Both are driven by virtual time and a seed, so that one seed is one history. What
//! is deliberately absent: real HTTP, schemas of custom resources, admission, quota, nodes.
//!
//! A fake is for faults. Each behaviour here that a decision leans on is named in `selftest` after what a real cluster did.
#![allow(dead_code, reason = "each test binary that includes this module uses another part of it")]
#![allow(unreachable_pub, reason = "a module of a test binary has no reachable items, yet its interface should be seen")]
#![allow(clippy::expect_used, clippy::panic, reason = "test code: a broken fake should stop the test at the place where it broke")]
#![allow(clippy::format_collect, reason = "lines of a log; nobody waits for them")]

pub mod api;
pub mod clock;
pub mod json;
pub mod rng;
pub mod world;

#[allow(unused_imports, reason = "the short names that most tests want")]
pub use self::{
    api::{ApiServer, Incarnation, Options, faults::Fault, kinds::Key, kinds::Kind, refusal::Refusal, store::Store},
    clock::SimClock,
    world::{World, behaviour::Answer, behaviour::Answers, behaviour::Behaviour, plane::Lag, plane::Trouble},
};
