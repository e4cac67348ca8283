//! The exact requests that effects become, and what a real API server makes of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    missing_docs,
    unreachable_pub,
    reason = "a test says what broke by panicking; nothing here is an interface"
)]

mod plane;

mod requests {
    pub mod exact;
    pub mod fake;
    pub mod real;
    pub mod world;
}
