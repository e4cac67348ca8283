//! Haldane.

pub mod api;
pub mod decide;
pub mod model;
