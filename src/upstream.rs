//! How many events were lost before they reached the socket.
//!
//! Each appender numbers its log events from 1 to 9999 and begins anew. A number that never comes is
//! an event that was lost between the Sense service and the socket.

use std::net::SocketAddr;

use crate::event::{Event, Kind};

/// The row numbers seen, by sender and kind.
#[derive(Debug, Default)]
pub struct Gaps {}

impl Gaps {
    /// Takes note of an event's row number; returns how the estimate changes: up when rows are
    /// missing, down when missing rows arrive late.
    pub fn note(&mut self, _source: SocketAddr, _event: &Event<'_>) -> i64 {
        let _ = Kind::COUNT;
        0
    }
}
