//! Haldane.

pub mod act;
pub mod api;
pub mod clock;
pub mod config;
pub mod control;
pub mod decide;
pub mod edge;
pub mod metrics;
pub mod model;
pub mod observe;
pub mod telemetry;
pub mod web;
