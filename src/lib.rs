//! Ringside receives the events that Qlik Sense Enterprise on Windows sends over UDP and delivers
//! them to databases and files, without losing any of them silently.
//!
//! # The road of a datagram
//!
//! ```text
//!  Sense servers (log4net UdpAppender)
//!       │ UDP 9997 user events · UDP 9996 log events
//!       ▼
//!  receive    io_uring multishot recvmsg fills a slot of the buffer pool     [thread rx-N]
//!             admit: source address → size → rate limit → room in the pool
//!       │ lease (slot, length, source, receive time)     SPSC ring, one per (rx, shard)
//!       ▼
//!  shard      event  = borrowed view of the slot                  [thread rx-N, or shard-N]
//!             rules  = is it wanted, and what are its categories?
//!             encode = straight from the slot into the open batch of each destination
//!       │ lease returned: slot id                        SPSC ring back to rx
//!       │ full batches (bytes + event count)             bounded channel, never waited for
//!       ▼
//!  deliver    per destination: send, retry, else spool to disk               [thread deliver]
//!             InfluxDB 1, 2 and 3 · MQTT · New Relic · Parquet archive · NDJSON
//! ```
//!
//! The bytes of a datagram are written once by the kernel and next copied by the encoder, into the
//! batch that goes on the wire. Nothing in between copies or allocates.
//!
//! # The rooms
//!
//! | room | what lives there |
//! |---|---|
//! | [`event`] | bytes → borrowed events: splitting, the seven layouts, validation. No I/O, no clock |
//! | [`rules`] | which events are wanted: excluded users, monitor filters, categories |
//! | [`enrich`] | app names, user agents |
//! | [`receive`] | sockets, buffer pool, io_uring and fallback backends, admission, leases |
//! | [`shard`] | the loop that turns leases into batches |
//! | [`counters`] | counts of events by source, host and subsystem, and the engine's own points |
//! | [`upstream`] | what was lost before it reached a shard |
//! | [`deliver`] | batches, retry, the disk spool; one folder per destination: encoder and transport |
//! | [`observe`] | the loss ledger, metrics, logging, the HTTP endpoints |
//! | [`appenders`] | the log appender files of the Sense services: writes and checks them |
//! | [`config`] | the YAML file → typed settings |
//! | [`engine`] | starts the threads, watches them, drains them |
//! | [`doctor`] | what of the machine and the destinations would keep events from arriving |
//! | [`synthetic`] | a seeded Sense cluster, for the load generator, the demo and the benches |
//! | [`heartbeat`] | says to a monitoring service that the process lives |
//! | [`schedule`], [`calendar`] | `every 15 minutes`, and the days of the calendar |
//! | `fetch` | single GET requests, and what all HTTP clients share |
//! | [`cli`] | the commands |
//! | [`secret`] | text that must not be shown |
//!
//! Imports point one way: `event` knows nobody, `deliver` knows `event`, `shard` knows both, and only
//! `cli` knows the whole configuration.

#![deny(missing_docs, missing_debug_implementations, unsafe_code, unsafe_op_in_unsafe_fn)]
#![warn(clippy::pedantic, clippy::undocumented_unsafe_blocks, clippy::unnecessary_safety_comment)]
// `module_name_repetitions`: `shard::ShardSettings` reads better at its point of use than `Settings`.
// `missing_errors_doc`: error enums document each variant where they are declared.
#![allow(clippy::module_name_repetitions, clippy::missing_errors_doc)]

pub mod appenders;
pub mod calendar;
pub mod cli;
pub mod config;
pub mod counters;
pub mod deliver;
pub mod doctor;
#[cfg(test)]
mod documented;
pub mod engine;
pub mod enrich;
pub mod event;
mod fetch;
pub mod heartbeat;
mod host_name;
pub mod observe;
pub mod receive;
pub mod rules;
pub mod schedule;
pub mod secret;
pub mod shard;
#[cfg(test)]
mod simulation;
pub mod synthetic;
pub mod upstream;
