//! What the process serves over HTTP. No page of it decides anything.

pub mod door;
pub mod server;
