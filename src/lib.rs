//! Haldane.

pub mod api;
pub mod cli;
pub mod clock;
pub mod decide;
pub mod model;
