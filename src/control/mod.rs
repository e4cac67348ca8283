//! What drives reconciling.

pub mod lease;
