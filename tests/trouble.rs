//! Bad input on a real cluster: what is wrong is said on the object, with what to do about it, and as an Event; nothing is
//! moved; nobody else notices; and after the mend it goes on by itself. `make test-cluster`.

#![allow(clippy::indexing_slicing, reason = "manifests of our own, with fields that are there")]

#[allow(dead_code, reason = "the other tests use the rest")]
mod support;

#[path = "trouble/apart.rs"]
mod apart;
#[path = "trouble/balancer.rs"]
mod balancer;
#[path = "trouble/blamed.rs"]
mod blamed;
#[path = "trouble/doctor.rs"]
mod doctor;
#[path = "trouble/names.rs"]
mod names;
#[path = "trouble/namespace.rs"]
mod namespace;
#[path = "trouble/poison.rs"]
mod poison;
#[path = "trouble/refused.rs"]
mod refused;
#[path = "trouble/room.rs"]
mod room;
#[path = "trouble/sentence.rs"]
mod sentence;
#[path = "trouble/witness.rs"]
mod witness;

use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use anyhow::{Result, anyhow};

use support::Bed;
use support::shop::Setup;

/// Within this a person who looks sees what is wrong, and what is mended goes on: the slowest mends are those that nobody
/// tells the controller about, which it looks for every 10 s.
const SOON: Duration = Duration::from_secs(30);
/// A rollout of these tests takes about 15 s on a quiet machine.
const ROLLOUT: Duration = Duration::from_mins(2);

/// The cluster `test`, which other tests share; `TROUBLE_CLUSTER` names another.
fn bed() -> Result<&'static Bed> {
    static BED: OnceLock<Result<Bed, String>> = OnceLock::new();
    let up = || Bed::up(&std::env::var("TROUBLE_CLUSTER").unwrap_or_else(|_| "test".to_owned())).map_err(|error| format!("{error:#}"));
    BED.get_or_init(up).as_ref().map_err(|error| anyhow!("{error}"))
}

/// Every watch of Deliveries ends when their definition is changed, as one test does: nobody else may be watching then.
static DEFINITION: RwLock<()> = RwLock::new(());

/// The definition stays as it is while this is held.
fn calm() -> RwLockReadGuard<'static, ()> {
    DEFINITION.read().unwrap_or_else(PoisonError::into_inner)
}

/// The definition may be changed.
fn storm() -> RwLockWriteGuard<'static, ()> {
    DEFINITION.write().unwrap_or_else(PoisonError::into_inner)
}

/// Says how far a test is; the harness itself is silent until the end.
fn tell(what: &str) {
    eprintln!("     {what}");
}

/// A rollout that is over soon.
fn quick() -> Setup {
    Setup { steps: vec![(50, "1s")], guard: "1s", settle: "1s", probe_at_rest: "5s", ..Setup::default() }
}
