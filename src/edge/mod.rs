//! Thin clients: foreign bytes become our types or one of our errors, within a time limit, and no rule about deploying
//! lives here.

pub mod forge;
pub mod github;
pub mod kube;
pub mod logs;
pub mod probe;
pub mod prometheus;
pub mod registry;
