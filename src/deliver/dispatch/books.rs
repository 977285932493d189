//! One destination's counts, and what its operator is told.

use std::sync::Arc;
use std::time::Duration;

use crate::observe::failures::Failure;
use crate::observe::ledger::{DeliverCounts, DestinationLedger, LossReason};
use crate::observe::logging::{RateLimited, preview};

/// A refused line is shown up to this many characters: enough for measurement, tags and the start of
/// the fields.
const SHOWN: usize = 300;

#[derive(Debug)]
pub(super) struct Books {
    ledger: Arc<DestinationLedger>,
    counts: DeliverCounts,
    /// Why it does not work at the moment.
    trouble: Option<String>,
    refusals: RateLimited,
    refused_unlogged: u64,
}

impl Books {
    pub fn new(ledger: Arc<DestinationLedger>) -> Self {
        Self {
            ledger,
            counts: DeliverCounts::default(),
            trouble: None,
            refusals: RateLimited::new(),
            refused_unlogged: 0,
        }
    }

    pub fn took(&mut self, events: u32) {
        self.counts.taken += u64::from(events);
        self.counts.held += u64::from(events);
    }

    pub fn delivered(&mut self, events: u32) {
        self.counts.held -= u64::from(events);
        self.counts.delivered += u64::from(events);
        self.counts.batches += 1;
    }

    pub fn lost(&mut self, reason: LossReason, events: u32) {
        self.counts.held -= u64::from(events);
        self.counts.lost.add(reason, u64::from(events));
    }

    pub fn retried(&mut self) {
        self.counts.retries += 1;
    }

    pub fn publish(&mut self, oldest_ns: Option<u64>, bytes: u64) {
        self.counts.oldest_ns = oldest_ns.unwrap_or(0);
        self.counts.bytes = bytes;
        debug_assert_eq!(self.counts.held == 0, oldest_ns.is_none(), "held events have an oldest");
        self.ledger.delivered.publish(&self.counts);
    }

    /// Counts refused events and logs the first, and then one a minute at most.
    pub fn refused(&mut self, now: Duration, events: u32, line: &[u8], reason: &str) {
        self.lost(LossReason::Refused, events);
        self.ledger.failures.add(Failure::of(reason), events.into());
        self.refused_unlogged += u64::from(events);
        if self.refusals.allow(now).is_none() {
            return;
        }
        tracing::warn!(
            destination = self.ledger.name,
            refused = std::mem::take(&mut self.refused_unlogged),
            reason = %reason.escape_debug(),
            line = %preview(line, SHOWN),
            "the destination refuses events; they are dropped and counted as `refused`"
        );
    }

    /// Notes that the configuration is wrong; an error in the log when that is news.
    pub fn misconfigured(&mut self, reason: &str) {
        self.ledger.failures.add(Failure::of(reason), 1);
        if self.is_news(reason) {
            tracing::error!(
                destination = self.ledger.name,
                reason = %reason.escape_debug(),
                "the destination does not accept this configuration; events are kept while memory \
                 lasts; correct it there or in the configuration file"
            );
        }
    }

    /// Notes that the destination is busy or out of reach; a warning in the log when that is news.
    pub fn unavailable(&mut self, reason: &str) {
        self.ledger.failures.add(Failure::of(reason), 1);
        if self.is_news(reason) {
            tracing::warn!(
                destination = self.ledger.name,
                reason = %reason.escape_debug(),
                "the destination is not available; events are kept while memory lasts"
            );
        }
    }

    fn is_news(&mut self, reason: &str) -> bool {
        let news = self.trouble.as_deref() != Some(reason);
        if news {
            self.trouble = Some(reason.to_owned());
            self.ledger.last_error.set(self.trouble.clone());
        }
        news
    }

    /// Notes that the destination works.
    pub fn works(&mut self) {
        if self.trouble.take().is_some() {
            self.ledger.last_error.set(None);
            tracing::info!(destination = self.ledger.name, "the destination works again");
        }
    }

    /// Notes that events were pushed out or grew too old.
    pub fn expired(&mut self, events: u32) {
        self.lost(LossReason::Expired, events);
    }
}
