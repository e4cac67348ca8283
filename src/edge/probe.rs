//! Runs a probe flow against one address and says what came of it.

use std::net::SocketAddr;

use futures::future::BoxFuture;

use crate::model::probe::{Check, Outcome};

/// Runs checks. The simulation has its own, which answers without a network.
pub trait Prober: Send + Sync {
    /// Runs all steps against this address. Dropping the future ends everything that it has begun.
    fn run<'a>(&'a self, check: &'a Check, target: SocketAddr) -> BoxFuture<'a, Outcome>;
}
