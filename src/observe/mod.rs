//! What the engine says about itself: the loss ledger, metrics, logs and the HTTP endpoints.

pub mod block;
pub mod ledger;
