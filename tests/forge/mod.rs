//! GitHub in one process: a model with state, not canned answers.
//!
//! Commits, parents, ancestry and messages are those of real bare git repositories, which it serves by smart HTTP; apps,
//! installations, tokens, checks, statuses and pull requests live in memory ([`model`]). Over both it speaks what a deployer
//! reads: REST ([`rest`]), GraphQL ([`graphql`]), signed webhooks ([`hooks`]). It runs on a thread of its own, as a foreign
//! service does, so a test may block, pause its own time or have no runtime at all.
//!
//! Deliberately absent: TLS, people (everything is private, and a push needs no password: it listens on 127.0.0.1),
//! deployments, merge conflicts, pages of HTML. A fake is for faults: [`faults`] has the knobs, [`admin`] gives them to shell
//! scripts. What a client may lean on is tested in `selftest`.
#![allow(dead_code, reason = "each test binary that includes this module uses another part of it")]
#![allow(unreachable_pub, reason = "a module of a test binary has no reachable items, yet its interface should be seen")]
#![allow(clippy::expect_used, clippy::panic, reason = "test code: a broken fake should stop the test at the place where it broke")]
#![allow(clippy::indexing_slicing, reason = "fields are added to JSON objects, which never panics")]

pub mod admin;
pub mod api;
pub mod clock;
pub mod cost;
pub mod faults;
pub mod git;
pub mod graphql;
pub mod hooks;
pub mod hub;
pub mod keys;
pub mod limits;
pub mod model;
pub mod rest;
pub mod serve;
pub mod shapes;
pub mod transport;
pub mod workshop;

#[allow(unused_imports, reason = "the short names that most tests want")]
pub use self::{
    clock::HandClock,
    faults::{Fault, Wrong},
    hooks::HookFault,
    hub::{GitHub, Options},
    model::{Checks, TokenForm},
    workshop::{Method, Repository},
};
