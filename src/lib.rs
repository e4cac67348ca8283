//! Haldane.

pub mod act;
pub mod api;
pub mod cli;
pub mod clock;
pub mod control;
pub mod decide;
pub mod edge;
pub mod model;
