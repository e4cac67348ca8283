//! Haldane.

pub mod act;
pub mod api;
pub mod clock;
pub mod control;
pub mod decide;
pub mod edge;
pub mod model;
pub mod observe;
