//! The exact requests that effects become, and what a real API server makes of them.

mod requests {
    pub mod exact;
    pub mod fake;
    pub mod real;
    pub mod world;
}
