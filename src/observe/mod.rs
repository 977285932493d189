//! What the engine says about itself: the loss ledger, metrics, logs and the HTTP endpoints.

pub mod block;
pub mod checkpoint;
pub mod event_lines;
pub mod failures;
pub mod health;
pub mod histogram;
pub mod history;
pub mod host;
pub mod http;
pub mod ledger;
pub mod left;
pub mod logging;
pub mod metrics;
mod page;
pub mod reason;
pub mod recent;
pub mod series;
pub mod stats;
pub mod tap;
pub mod top;
pub mod watch;
