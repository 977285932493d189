//! Which datagrams become leases.
//!
//! A receiver that waited for a slow shard would stop taking datagrams, and the kernel would drop
//! them unseen. So when there is no room it takes them all the same and drops them itself, with a
//! reason. Before that it leaves them in the socket as long as the socket's own buffer has room: that
//! is where a burst waits that is longer than the pool. A strict queue is full when it is full.
//!
//! The checks stand in the documented order: source address, size, rate limit, room; the first that
//! fails is the reason.

use std::array;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::gate::Gate;
use super::pressure::Peak;
use super::settings::Settings;
use super::slots::Pool;
use super::sources::Sources;
use crate::event::Listener;
use crate::observe::ledger::DropReason;

/// Backpressure ends below this share of its threshold, in percent, so that it does not flicker.
const CLEAR_PERCENT: usize = 80;

/// How full the queue of one listener is, over all receivers.
#[derive(Debug)]
struct Level {
    /// Leases handed over and not yet returned, per receiver.
    queued: Vec<AtomicUsize>,
    /// The documented capacity.
    capacity: usize,
    threshold_percent: u8,
    /// Backpressure begins above this many.
    threshold: usize,
    backpressure: AtomicBool,
    /// The most that were queued since the last look, if that was above the threshold; else 0.
    peak: AtomicUsize,
}

/// How full the queues are; shared by all receivers and whoever asks.
#[derive(Debug)]
pub(super) struct Levels([Level; Listener::COUNT]);

impl Levels {
    pub(super) fn new(settings: &Settings, receivers: usize) -> Self {
        Self(array::from_fn(|listener| {
            let (capacity, percent) = settings.listeners[listener]
                .as_ref()
                .map_or((usize::MAX, 100), |l| (l.queue_capacity, l.backpressure_threshold));
            Level {
                queued: (0..receivers).map(|_| AtomicUsize::new(0)).collect(),
                capacity,
                threshold_percent: percent,
                threshold: capacity / 100 * usize::from(percent)
                    + capacity % 100 * usize::from(percent) / 100,
                backpressure: AtomicBool::new(false),
                peak: AtomicUsize::new(0),
            }
        }))
    }

    /// Leases of a listener handed over and not yet returned, as of each receiver's last turn.
    pub(super) fn queued(&self, listener: Listener) -> usize {
        self.0[listener as usize].queued.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn backpressure(&self, listener: Listener) -> bool {
        self.0[listener as usize].backpressure.load(Ordering::Relaxed)
    }

    /// What a queue did since this was last asked.
    pub(super) fn peak(&self, listener: Listener) -> Peak {
        let level = &self.0[listener as usize];
        let peak = level.peak.swap(0, Ordering::Relaxed);
        // Queues are far shorter than the 2^52 up to which doubles are exact.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        let utilization = (peak > 0).then(|| peak as f64 * 100.0 / level.capacity as f64);
        Peak {
            utilization,
            threshold: level.threshold_percent,
            active: level.backpressure.load(Ordering::Relaxed),
        }
    }

    /// Publishes one receiver's part.
    pub(super) fn set(&self, receiver: usize, listener: Listener, queued: usize) {
        let level = &self.0[listener as usize];
        level.queued[receiver].store(queued, Ordering::Relaxed);
        let total = self.queued(listener);
        if total > level.threshold {
            level.backpressure.store(true, Ordering::Relaxed);
            level.peak.fetch_max(total, Ordering::Relaxed);
        } else if total == 0 || total < level.threshold * CLEAR_PERCENT / 100 {
            level.backpressure.store(false, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
struct Limit {
    size_max: usize,
    /// Queue length at which a strict queue is full; `usize::MAX` when it is not strict.
    queued_max: usize,
    /// What the other receivers have queued, as of the start of the batch.
    queued_elsewhere: usize,
}

/// The checks of one receiver.
#[derive(Debug)]
pub(super) struct Admission {
    receiver: usize,
    gates: [Arc<Gate>; Listener::COUNT],
    /// Who may send, as of the start of the batch; `None`: everybody.
    sources: [Option<Arc<Sources>>; Listener::COUNT],
    /// The batch's clock reading in ms, wrapping.
    now_ms: u32,
    limits: [Limit; Listener::COUNT],
    /// Leases that may be out: the rest is held back for the kernel to fill.
    leased_max: usize,
    /// Leases that may be out for one listener: a log flood must leave room for user events.
    leased_by_one_max: usize,
    /// Leases left below which datagrams had better wait in the socket: a turn brings an eighth of
    /// the pool and a little more, and the share of the other listener is three sixteenths.
    short_below: usize,
}

impl Admission {
    pub(super) fn new(settings: &Settings, receiver: usize) -> Self {
        // A quarter of the pool stays free, and a quarter of the rest for the other listener.
        let leased_max = settings.slots - settings.slots.div_ceil(4);
        Self {
            receiver,
            gates: settings.gates.clone(),
            sources: [const { None }; Listener::COUNT],
            now_ms: 0,
            limits: array::from_fn(|listener| {
                let listener = settings.listeners[listener].as_ref();
                Limit {
                    size_max: listener.map_or(0, |l| l.max_message_size),
                    queued_max: listener
                        .filter(|l| l.strict)
                        .map_or(usize::MAX, |l| l.queue_capacity),
                    queued_elsewhere: 0,
                }
            }),
            leased_max,
            leased_by_one_max: leased_max - leased_max.div_ceil(4),
            short_below: settings.slots * 5 / 32,
        }
    }

    /// Lets a test run the pool dry.
    #[cfg(test)]
    pub(super) fn hold_nothing_back(&mut self) {
        self.leased_max = usize::MAX;
        self.leased_by_one_max = usize::MAX;
    }

    /// Begins a batch at this time (ns since 1970): takes the newest senders, and the levels of the
    /// other receivers.
    pub(super) fn start_batch(&mut self, levels: &Levels, now_ns: u64) {
        #[expect(clippy::cast_possible_truncation, reason = "the gate takes a clock that wraps")]
        let reading = (now_ns / 1_000_000) as u32;
        self.now_ms = reading;
        for (gate, view) in self.gates.iter().zip(&mut self.sources) {
            gate.renew(view);
        }
        self.look_at_others(levels);
    }

    /// Takes the levels of the other receivers.
    pub(super) fn look_at_others(&mut self, levels: &Levels) {
        for listener in Listener::ALL {
            let limit = &mut self.limits[listener as usize];
            if limit.queued_max != usize::MAX {
                let own = levels.0[listener as usize].queued[self.receiver].load(Ordering::Relaxed);
                limit.queued_elsewhere = levels.queued(listener).saturating_sub(own);
            }
        }
    }

    /// Whether a datagram of `len` bytes, as sent, from this address in canonical form is admitted.
    pub(super) fn judge(
        &self,
        listener: Listener,
        source: IpAddr,
        len: usize,
        pool: &Pool,
    ) -> Result<(), DropReason> {
        let limit = &self.limits[listener as usize];
        if let Some(sources) = &self.sources[listener as usize]
            && !sources.contains(source)
        {
            return Err(DropReason::SourceDenied);
        }
        if len > limit.size_max {
            return Err(DropReason::Size);
        }
        if !self.gates[listener as usize].admits(self.now_ms) {
            return Err(DropReason::RateLimit);
        }
        let leased = pool.leased(listener);
        if pool.leased_total() >= self.leased_max
            || leased >= self.leased_by_one_max
            || leased.saturating_add(limit.queued_elsewhere) >= limit.queued_max
        {
            return Err(DropReason::QueueFull);
        }
        Ok(())
    }

    /// Whether a listener has too little room for what a turn may bring, and more had better wait in
    /// its socket.
    pub(super) fn is_short(&self, listener: Listener, pool: &Pool) -> bool {
        let limit = &self.limits[listener as usize];
        let left = self.leased_max.saturating_sub(pool.leased_total());
        let left_for_it = self.leased_by_one_max.saturating_sub(pool.leased(listener));
        limit.queued_max == usize::MAX && left.min(left_for_it) < self.short_below
    }

    /// How many datagrams there is room for, whatever their listener.
    pub(super) fn room(&self, pool: &Pool) -> usize {
        let left = self.leased_max.saturating_sub(pool.leased_total());
        Listener::ALL.into_iter().fold(left, |left, listener| {
            let limit = &self.limits[listener as usize];
            let leased = pool.leased(listener);
            left.min(self.leased_by_one_max.saturating_sub(leased))
                .min(limit.queued_max.saturating_sub(leased.saturating_add(limit.queued_elsewhere)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::ListenerSettings;

    const SLOTS: usize = 64;
    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn settings(strict: bool) -> Settings {
        let listener = ListenerSettings {
            addresses: Vec::new(),
            max_message_size: 100,
            queue_capacity: 10,
            backpressure_threshold: 80,
            strict,
        };
        Settings {
            listeners: [Some(listener.clone()), Some(listener)],
            slots: SLOTS,
            ..Default::default()
        }
    }

    /// Leases for one listener until refused; how many, and why not more.
    fn fill(admission: &Admission, pool: &mut Pool, listener: Listener) -> (usize, DropReason) {
        let mut count = 0;
        loop {
            if let Err(reason) = admission.judge(listener, SOURCE, 1, pool) {
                return (count, reason);
            }
            let slot = pool.take().expect("admission keeps slots free");
            pool.lease(slot, listener, 1);
            count += 1;
        }
    }

    #[test]
    fn a_flood_leaves_room_for_the_other_listener_and_the_kernel() {
        let admission = Admission::new(&settings(false), 0);
        let mut pool = Pool::new(SLOTS, 100).expect("mapping");
        let flood = fill(&admission, &mut pool, Listener::LogEvents);
        assert_eq!(flood, (SLOTS * 9 / 16, DropReason::QueueFull));
        let other = fill(&admission, &mut pool, Listener::UserEvents);
        assert_eq!(other, (SLOTS * 3 / 16, DropReason::QueueFull));
        assert_eq!(pool.len() - pool.leased_total(), SLOTS / 4);
        assert_eq!(admission.room(&pool), 0);
    }

    #[test]
    fn a_flood_is_held_back_in_its_socket_and_the_other_listener_is_not() {
        let admission = Admission::new(&settings(false), 0);
        let mut pool = Pool::new(SLOTS, 100).expect("mapping");
        assert!(!admission.is_short(Listener::LogEvents, &pool));
        fill(&admission, &mut pool, Listener::LogEvents);
        assert!(admission.is_short(Listener::LogEvents, &pool));
        assert!(!admission.is_short(Listener::UserEvents, &pool));
        let strict = Admission::new(&settings(true), 0);
        assert!(!strict.is_short(Listener::LogEvents, &pool), "a strict queue drops");
    }

    #[test]
    fn size_is_judged_before_room() {
        let admission = Admission::new(&settings(false), 0);
        let mut pool = Pool::new(SLOTS, 100).expect("mapping");
        fill(&admission, &mut pool, Listener::LogEvents);
        let judge = |listener, len| admission.judge(listener, SOURCE, len, &pool);
        assert_eq!(judge(Listener::LogEvents, 101), Err(DropReason::Size));
        assert_eq!(judge(Listener::LogEvents, 100), Err(DropReason::QueueFull));
        assert_eq!(judge(Listener::UserEvents, 100), Ok(()));
    }

    #[test]
    fn the_first_check_that_fails_is_the_reason() {
        let settings = settings(true);
        let levels = Levels::new(&settings, 2);
        let mut admission = Admission::new(&settings, 0);
        let pool = Pool::new(SLOTS, 100).expect("mapping");
        let gate = &settings.gates[Listener::LogEvents as usize];
        gate.allow(Some(Sources::new([SOURCE], [])));
        gate.limit(Some(2));
        levels.set(1, Listener::LogEvents, 10);
        admission.start_batch(&levels, 0);
        let stranger = "127.0.0.2".parse().expect("an address");
        let judge = |source, len| admission.judge(Listener::LogEvents, source, len, &pool);
        assert_eq!(judge(stranger, 101), Err(DropReason::SourceDenied));
        for _ in 0..5 {
            assert_eq!(judge(SOURCE, 101), Err(DropReason::Size), "does not count for the rate");
        }
        assert_eq!(judge(SOURCE, 100), Err(DropReason::QueueFull));
        assert_eq!(judge(SOURCE, 100), Err(DropReason::QueueFull), "does count for the rate");
        assert_eq!(judge(SOURCE, 100), Err(DropReason::RateLimit));
        assert_eq!(judge(stranger, 100), Err(DropReason::SourceDenied));
        // The other listener has a gate of its own.
        assert_eq!(admission.judge(Listener::UserEvents, stranger, 100, &pool), Ok(()));
    }

    #[test]
    fn a_strict_queue_is_full_at_its_capacity_over_all_receivers() {
        let settings = settings(true);
        let levels = Levels::new(&settings, 2);
        let mut admission = Admission::new(&settings, 0);
        let mut pool = Pool::new(SLOTS, 100).expect("mapping");
        levels.set(1, Listener::LogEvents, 4);
        admission.start_batch(&levels, 0);
        assert_eq!(admission.room(&pool), 6);
        let filled = fill(&admission, &mut pool, Listener::LogEvents);
        assert_eq!(filled, (10 - 4, DropReason::QueueFull));
    }

    #[test]
    fn backpressure_has_hysteresis() {
        let levels = Levels::new(&settings(false), 2);
        let listener = Listener::UserEvents;
        levels.set(0, listener, 8);
        assert!(!levels.backpressure(listener), "at the threshold, not above");
        levels.set(1, listener, 1);
        assert!(levels.backpressure(listener));
        levels.set(1, listener, 0);
        levels.set(0, listener, 7);
        assert!(levels.backpressure(listener), "not yet below four fifths of the threshold");
        levels.set(0, listener, 5);
        assert!(!levels.backpressure(listener));
        assert!(!levels.backpressure(Listener::LogEvents));
    }
}
