//! Plain types without IO.

pub mod probe;
