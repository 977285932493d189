//! One destination's counts, and what its operator is told.

use std::sync::Arc;
use std::time::Duration;

use super::held::Held;
use crate::deliver::Storage;
use crate::deliver::spool::{Found, Lost, Spool, SpoolError};
use crate::observe::failures::Failure;
use crate::observe::ledger::{DeliverCounts, DestinationLedger, Left, LossReason, SpoolMark};
use crate::observe::logging::{RateLimited, preview};

/// A refused line is shown up to this many characters: enough for measurement, tags and the start of
/// the fields.
const SHOWN: usize = 300;

/// Events that the run before has lost without counting them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Untold {
    crash: u64,
    full: u64,
    expired: u64,
}

impl Untold {
    /// What that run said last, and what is on disk.
    fn new(left: Option<&Left>, found: &Found) -> Self {
        let Some(left) = left else { return Self { crash: found.torn, ..Self::default() } };
        let now = found.mark;
        // Where nothing was known about a spool, there was none.
        let then = left.spool.unwrap_or(SpoolMark { next: 0, ..now });
        if then.folder != now.folder {
            return Self { crash: left.in_memory, ..Self::default() };
        }
        // What was written since is not lost. What is not there any more is, unless it had been
        // delivered: a power failure may have taken it. A torn record was in memory, or came later.
        let written = now.next.saturating_sub(then.next);
        let missing = then.next.saturating_sub(now.next).min(left.on_disk);
        let crash = left.in_memory.saturating_sub(written).saturating_add(missing);
        let full = now.full.saturating_sub(then.full);
        let expired = now.expired.saturating_sub(then.expired);
        Self { crash, full, expired }
    }
}

#[derive(Debug)]
pub(in crate::deliver) struct Books {
    ledger: Arc<DestinationLedger>,
    counts: DeliverCounts,
    /// Why it does not work at the moment.
    trouble: Option<String>,
    /// Why nothing can be staged at the moment.
    blocked: Option<String>,
    refusals: RateLimited,
    spool_errors: RateLimited,
    refused_unlogged: u64,
}

impl Books {
    pub fn new(ledger: Arc<DestinationLedger>) -> Self {
        Self {
            ledger,
            counts: DeliverCounts::default(),
            trouble: None,
            blocked: None,
            refusals: RateLimited::new(),
            spool_errors: RateLimited::new(),
            refused_unlogged: 0,
        }
    }

    pub fn took(&mut self, events: u32) {
        self.counts.taken += u64::from(events);
        self.counts.held += u64::from(events);
    }

    /// What was there when this began. Events that the run before had lost, and had not counted when
    /// it ended, are counted now.
    pub fn found(&mut self, found: &Found) {
        let untold = Untold::new(self.ledger.left.get(), found);
        let Untold { crash, full, expired } = untold;
        self.counts.found += found.events + crash + full + expired;
        self.counts.spooled += found.events;
        self.counts.lost.add(LossReason::Crash, crash);
        self.counts.lost.add(LossReason::SpoolFull, full);
        self.counts.lost.add(LossReason::Expired, expired);
        self.counts.settled = 1;
        if untold == Untold::default() {
            return;
        }
        let at = self.ledger.left.get().map(|left| left.at.elapsed().unwrap_or_default());
        tracing::warn!(
            destination = self.ledger.name,
            crash,
            spool_full = full,
            expired,
            seconds_ago = at.map(|at| at.as_secs()),
            "events were lost when the last run ended: those that were in memory, and those that were \
             dropped from the spool in its last moment; they are counted now"
        );
    }

    /// Events went from memory to disk.
    pub fn spooled(&mut self, events: u32) {
        self.counts.held -= u64::from(events);
        self.counts.spooled += u64::from(events);
    }

    /// Events will not be read back.
    fn lost_on_disk(&mut self, lost: Lost) {
        self.counts.spooled -= lost.sum();
        self.counts.lost.add(LossReason::SpoolFull, lost.full);
        self.counts.lost.add(LossReason::Expired, lost.expired);
        self.counts.lost.add(LossReason::Crash, lost.damaged);
    }

    /// What an operation has changed in the spool besides what it was asked for.
    pub fn look_at<D: Storage>(&mut self, spool: &mut Spool<D>) {
        self.lost_on_disk(spool.take_lost());
        self.counts.spool_bytes = spool.bytes();
        self.counts.spool = spool.mark();
    }

    /// `events` of a part have an outcome.
    fn take_off(&mut self, part: &Held, events: u32) {
        let level = if part.on_disk() { &mut self.counts.spooled } else { &mut self.counts.held };
        *level -= u64::from(events);
    }

    pub fn delivered(&mut self, part: &Held, events: u32) {
        self.take_off(part, events);
        self.counts.delivered += u64::from(events);
        self.counts.batches += 1;
    }

    /// Events on disk have an outcome: they came in `batches`, and `refused` of them are lost.
    pub fn delivered_from_disk(&mut self, events: u64, refused: u64, batches: u64) {
        self.counts.spooled -= events;
        self.counts.delivered += events - refused;
        self.counts.lost.add(LossReason::Refused, refused);
        self.counts.batches += batches;
    }

    /// The whole part is lost.
    pub fn lost(&mut self, reason: LossReason, part: &Held) {
        self.take_off(part, part.events);
        self.counts.lost.add(reason, u64::from(part.events));
    }

    pub fn retried(&mut self) {
        self.counts.retries += 1;
    }

    pub fn publish(&mut self, oldest_ns: Option<u64>, bytes: u64) {
        self.counts.oldest_ns = oldest_ns.unwrap_or(0);
        self.counts.bytes = bytes;
        debug_assert!(self.counts.held == 0 || oldest_ns.is_some(), "held events have an oldest");
        self.ledger.delivered.publish(&self.counts);
    }

    /// Counts refused events and logs the first, and then one a minute at most.
    pub fn refused(&mut self, now: Duration, part: &Held, events: u32, line: &[u8], reason: &str) {
        self.take_off(part, events);
        self.counts.lost.add(LossReason::Refused, u64::from(events));
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
                "the destination does not accept this configuration; events are kept; \
                 correct it there or in the configuration file"
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
                "the destination is not available; events are kept"
            );
        }
    }

    fn is_news(&mut self, reason: &str) -> bool {
        let news = self.trouble.as_deref() != Some(reason);
        if news {
            self.trouble = Some(reason.to_owned());
            self.show();
        }
        news
    }

    fn show(&self) {
        self.ledger.last_error.set(self.trouble.as_ref().or(self.blocked.as_ref()).cloned());
    }

    /// Notes that the destination works.
    pub fn works(&mut self) {
        if self.trouble.take().is_some() {
            self.show();
            tracing::info!(destination = self.ledger.name, "the destination works again");
        }
    }

    /// A part was pushed out of memory, or grew too old in it.
    pub fn expired(&mut self, part: &Held) {
        self.lost(LossReason::Expired, part);
    }

    /// Notes that the spool cannot be used; an error in the log once a minute at most.
    pub fn spool_trouble(&mut self, now: Duration, error: &SpoolError) {
        if let Some(suppressed) = self.spool_errors.allow(now) {
            tracing::error!(
                destination = self.ledger.name,
                suppressed,
                "the spool: {error}; what cannot be written is kept while memory lasts"
            );
        }
    }

    /// Notes that the spool cannot be used, and that events have no other way.
    pub fn blocked(&mut self, now: Duration, error: &SpoolError) {
        self.spool_trouble(now, error);
        let reason = format!("the spool: {error}");
        if self.blocked.as_ref() != Some(&reason) {
            self.blocked = Some(reason);
            self.show();
        }
    }

    /// Notes that the spool can be used.
    pub fn unblocked(&mut self) {
        if self.blocked.take().is_some() {
            self.show();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    /// What is counted of 10 events in memory, after 100 were ever written and 7 and 3 dropped.
    fn untold(found: &Found) -> (u64, u64, u64) {
        let spool = Some(SpoolMark { folder: 1, next: 100, full: 7, expired: 3 });
        let left = Left { at: SystemTime::UNIX_EPOCH, in_memory: 10, on_disk: 50, spool };
        let Untold { crash, full, expired } = Untold::new(Some(&left), found);
        (crash, full, expired)
    }

    fn found(folder: u64, next: u64, full: u64, expired: u64) -> Found {
        let mark = SpoolMark { folder, next, full, expired };
        Found { events: 50, torn: 2, mark }
    }

    #[test]
    fn what_the_last_run_did_not_count() {
        assert_eq!(untold(&found(1, 100, 7, 3)), (10, 0, 0), "as it was");
        assert_eq!(untold(&found(1, 104, 7, 3)), (6, 0, 0), "four reached the disk");
        assert_eq!(untold(&found(1, 150, 7, 3)), (0, 0, 0), "and more that came since");
        assert_eq!(untold(&found(1, 95, 7, 3)), (15, 0, 0), "five did not survive");
        assert_eq!(untold(&found(1, 104, 27, 4)), (6, 20, 1), "dropped in the last moment");
        assert_eq!(untold(&found(2, 999, 99, 99)), (10, 0, 0), "another folder");
        assert_eq!(untold(&found(1, 0, 0, 0)), (60, 0, 0), "all that was on disk is gone");
        assert_eq!(untold(&Found::default()), (10, 0, 0), "no spool");
        let first = Untold::new(None, &found(1, 104, 27, 4));
        assert_eq!(first, Untold { crash: 2, full: 0, expired: 0 }, "no checkpoint");
    }
}
