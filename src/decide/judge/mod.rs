//! How sure are we that the version on its way is worse? One book of bets per Release, and one bound.
//!
//! Everything that is known of canary and stable is a bet against "the canary is no worse": failures of users' requests ([`bet`]), probe pairs
//! ([`probes`]), slow requests ([`latency`]), new log lines ([`logs`]), restarts ([`platform`]). The [`book`] weighs them, and when 1 has
//! become 1/α the canary is bad: of a thousand good releases one is taken back at most, however often one looks. To go on takes evidence
//! as well ([`mirror`]). What cannot be compared may only ask ([`recheck`]).
//!
//! A purse without a source gives its weight to the others. `make bench ROWS="J1 J2 J3 J4 J5 J6"` plays
//! releases against all of them.
//!
//! | Where | What |
//! |---|---|
//! | [`terms`] | what is agreed at Preflight: purses, weights, probes, steps |
//! | [`block`] | how long a block of errors is, and the try on stable itself |
//! | [`collect`] | scrapes → blocks, on the observer's side |
//! | [`book`] | inputs → evidence → verdict |
//! | [`state`], [`record`], [`journal`] | as it is stored; the same verdict again from what was seen |
//! | [`words`] | what people read |
//!
//! Absent on purpose: clocks, chance, logarithms, and knowledge of rollouts; what a verdict leads to is the matter of [`super::verdict`].

#![cfg_attr(test, allow(clippy::float_cmp, reason = "to the last bit is what is promised"))]

pub mod arms;
pub mod bet;
pub mod block;
pub mod book;
mod bytes;
pub mod collect;
pub mod journal;
pub mod latency;
pub mod logs;
pub mod mirror;
pub mod platform;
pub mod probes;
pub mod recheck;
pub mod record;
pub mod state;
pub mod sums;
pub mod terms;
pub mod words;
