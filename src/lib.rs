//! Haldane: every change of a pod template goes to production behind a canary, production itself judges it, and a bad
//! version is gone before people notice.
//!
//! # Through the house
//!
//! A value walks through four rooms and never turns back: [`observe`] reads the world into an
//! [`Observation`](model::world::Observation); [`decide`] makes of (plan, state, observation, now) one
//! [`Decision`](model::decision::Decision), purely; [`decide::check`] refuses what may never happen; [`act`] carries out the
//! effects in order, then records where the delivery stands, then tells people. [`control`] is the loop that sends one
//! [`Delivery`](api::delivery::Delivery) after the other through them. Looking for a rule? It is in `decide`, in the file that
//! has its name. An `if` about deploying anywhere else is a defect.
//!
//! | Where | What |
//! |---|---|
//! | [`api`] | what users write and read; the only place where a field of a kind is defined |
//! | [`model`] | plain types without IO: plan, phase, world, decision, version, template |
//! | [`observe`] | edges → observation; reads only; the boards on which probes run and branches are read |
//! | [`decide`] | (plan, state, observation, now) → decision; no client, clock, randomness or async |
//! | [`act`] | decision → world; writes only, ordered, each repeatable and with its precondition |
//! | [`edge`] | thin clients with typed errors and time limits; no rules |
//! | [`control`] | who leads, what wakes a Delivery up, one pass over it, when it comes again |
//! | [`web`] | health, readiness, metrics; the door for webhooks |
//! | [`uninstall`] | every gate opened while there is somebody to open it |
//! | [`setup`] | the GitHub App, made with two clicks |
//! | [`clock`] | the only place that reads a clock |
//! | [`config`], [`metrics`], [`telemetry`] | what can be set, what is counted, what is logged |
//!
//! A first walk: [`control::reconcile`] (one pass, top to bottom), [`model::decision`] (everything that can be decided and every
//! sentence that people read), [`model::phase`] (where a delivery can stand), then the file of `decide` that you came for.
//!
//! # What holds in every stored state
//!
//! 1. I1: enough ready and routable pods, always.
//! 2. I2: the share of an unproven version is never above its step.
//! 3. I3: weight only with ready endpoints: scale up, wait, shift, wait, scale down.
//! 4. I4: the old side is kept at serving size until the new one is proven.
//! 5. I5: at most one rollout per app.
//! 6. I6: with a source that has commits, the desired one only moves forward along main.
//! 7. I7: what was rolled back is not started again until a person says so.
//! 8. I8: no data is never a pass.
//! 9. I9: a lost signal never promotes.
//! 10. I10: from a failed verdict back to stable needs the Kubernetes API and nothing else.
//! 11. I11: from any state finitely many writes, then none.
//! 12. I12: a crash at any point reaches the same end; waits are stored moments, not timers.
//! 13. I13: two processes that both believe they lead have the effect of one.
//! 14. I14: no decision on anything older than our own last write; every write has a precondition; objects are known by uid.
//! 15. I15: only objects of the Delivery's namespace that it names, and only fields that are ours to change.
//! 16. I16: deleting a Delivery leaves the proven version serving, and the owner's objects as they are theirs.
//! 17. I17: with the controller away nothing that serves changes.
//! 18. I18: people are told each thing at least once, and twice only when an answer was lost.
//! 19. I19: every pod of a version runs what was verified.
//! 20. I20: hold and abort are obeyed: after them, nothing moves forward.
//! 21. I21: no secret leaves: not in status, events, logs, metrics or messages.
//! 22. I22: a pin matches a ready pod.
//! 23. I23: no template acts before it is proven, except by replace, recreate or break-glass, and then it is told. No `CronJob` gets the
//!     image of a version that is not proven.
//! 24. I24: at rest the owner's objects are as they wrote them, `paused` excepted, and where a source names the image, that; of a
//!     `CronJob` that follows, the image.
//! 25. I25: no change of an owner is ever lost.
//!
//! # Absent on purpose
//!
//! An admission webhook (nothing of ours stands in the way of a pod) · server-side apply and ownerRefs on what is the owner's or
//! carries traffic · retries below a pass (a late write could land under another leader) · a cache that a decision is made on ·
//! reading Secrets across namespaces · templates or scripts from tenants · a database: all state is in the API server.

pub mod act;
pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod decide;
pub mod edge;
pub mod metrics;
pub mod model;
pub mod observe;
pub mod setup;
pub mod telemetry;
pub mod uninstall;
pub mod web;
