//! Haldane: every merge rides a canary, production judges it, and a bad version is gone before people notice.

pub mod clock;
pub mod control;
pub mod edge;
pub mod model;
