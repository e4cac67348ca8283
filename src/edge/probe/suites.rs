//! Where a suite is run. What a Job is, is not known here.

use std::net::SocketAddr;

use futures::future::BoxFuture;

use crate::model::probe::{Check, Outcome, Suite};

/// Runs suites.
pub trait Suites: Send + Sync {
    /// Runs one once against an address, for a check of a namespace. Dropping the future ends what it has begun.
    fn run<'a>(&'a self, namespace: &'a str, check: &'a Check, suite: &'a Suite, at: SocketAddr) -> BoxFuture<'a, Outcome>;
}

#[cfg(test)]
pub(crate) mod scripted {
    //! Suites that end as a test says.

    use std::{
        net::SocketAddr,
        sync::{Mutex, PoisonError},
        time::Duration,
    };

    use futures::future::BoxFuture;

    use super::{Check, Outcome, Suite, Suites};
    use crate::model::probe::Ended;

    /// What was run, and what comes of it.
    #[derive(Default)]
    pub(crate) struct Scripted {
        /// Against which address, with which seed.
        pub(crate) ran: Mutex<Vec<(SocketAddr, u32)>>,
        /// The exit code at each address; 0 at all others.
        pub(crate) codes: Mutex<Vec<(SocketAddr, i32)>>,
    }

    impl Suites for Scripted {
        fn run<'a>(&'a self, _: &'a str, _: &'a Check, suite: &'a Suite, at: SocketAddr) -> BoxFuture<'a, Outcome> {
            Box::pin(async move {
                self.ran.lock().unwrap_or_else(PoisonError::into_inner).push((at, suite.seed));
                tokio::time::sleep(Duration::from_mins(1)).await;
                let codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
                let code = codes.iter().find(|(of, _)| *of == at).map_or(0, |(_, code)| *code);
                suite.outcome(Ended::Exited { code, message: String::new() }, Duration::from_mins(1))
            })
        }
    }
}
