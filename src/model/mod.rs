//! Plain types without IO: what is planned, what was seen, where a delivery stands, what was decided.
//!
//! Absent on purpose: clients, clocks, randomness, async, and the types of Kubernetes. A template is a JSON value here.

pub mod before;
pub mod cron_job;
pub mod decision;
pub mod external;
pub mod logs;
pub mod measure;
pub mod phase;
pub mod plan;
pub mod policy;
pub mod probe;
pub mod query;
pub mod repo_config;
pub mod route;
pub mod source;
pub mod template;
pub mod version;
pub mod window;
pub mod world;
