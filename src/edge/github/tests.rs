//! What a person would read about a GitHub that behaves like this; over real sockets, with time that stands still.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod answers;
mod asking;
mod credentials;
mod documents;
mod refusals;
mod server;

use super::*;
use crate::model::source::HistoryEnd;
use server::{Reply, Server, data, says, with};

fn shop() -> Repository {
    Repository::parse("acme/shop").unwrap()
}

fn branch(repository: &str, name: &str) -> Branch {
    Branch { repository: Repository::parse(repository).unwrap(), name: (!name.is_empty()).then(|| name.to_owned()) }
}

fn main_branch() -> Branch {
    branch("acme/shop", "main")
}

/// The commit with this number.
fn sha(number: usize) -> Sha {
    Sha::new(format!("{number:040x}"))
}

fn absent(what: &str) -> ForgeError {
    ForgeError::Absent { what: what.to_owned() }
}
