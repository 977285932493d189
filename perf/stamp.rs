//! Latency by the sender's clock: a text in some events says when they were sent.
//!
//! The text is [`MARK`] and the nanoseconds since 1970 in 19 digits. The load puts it in the place of a
//! user's id, a column that every destination writes; whoever finds it downstream subtracts it from the
//! present time. Both ends run on one machine, so there is one clock.
//!
//! Included by path, so not every user needs all of it.
#![allow(dead_code, reason = "each program that includes this file uses its own part")]

use std::time::{SystemTime, UNIX_EPOCH};

use memchr::memmem;

/// What the digits come after. No user of the synthetic cluster is called so.
pub const MARK: &[u8] = b"sentAt";
/// Digits of a time in nanoseconds, from 2001 to 2286.
const DIGITS: usize = 19;
/// Length of the whole text.
pub const LEN: usize = MARK.len() + DIGITS;

/// Nanoseconds since 1970.
pub fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes a time in the place of the digits; `text` begins with the mark.
pub fn write(text: &mut [u8], mut ns: u64) {
    for digit in text[MARK.len()..LEN].iter_mut().rev() {
        *digit = b'0' + (ns % 10) as u8;
        ns /= 10;
    }
}

/// The time of a text that begins with the mark.
pub fn read(text: &[u8]) -> Option<u64> {
    let digits = text.strip_prefix(MARK)?.get(..DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Calls `found` with each time in a text.
pub fn find_all(finder: &memmem::Finder<'_>, text: &[u8], mut found: impl FnMut(u64)) {
    for at in finder.find_iter(text) {
        if let Some(ns) = read(&text[at..]) {
            found(ns);
        }
    }
}

/// Latencies in nanoseconds, kept one by one: with an event in many stamped they fit in memory, and the
/// percentiles are exact.
#[derive(Debug)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// Room for a long run, so that adding one does not allocate.
    pub fn new() -> Self {
        Self(Vec::with_capacity(1 << 20))
    }

    /// Adds the time from `sent_ns` to `now_ns`.
    pub fn add(&mut self, sent_ns: u64, now_ns: u64) {
        if self.0.len() < self.0.capacity() {
            self.0.push(now_ns.saturating_sub(sent_ns));
        }
    }

    /// Count and percentiles in microseconds, as JSON.
    pub fn json(mut self) -> serde_json::Value {
        self.0.sort_unstable();
        let part = |of_thousand: usize| {
            let last = self.0.len().saturating_sub(1);
            self.0.get((self.0.len() * of_thousand / 1000).min(last)).map(|ns| ns / 1000)
        };
        serde_json::json!({
            "count": self.0.len(),
            "p50_us": part(500), "p99_us": part(990), "p999_us": part(999), "max_us": part(1000),
        })
    }
}
