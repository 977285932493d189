//! Single events for the console, sampled: copies of datagrams on their way from the shards to the
//! thread that shows them.
//!
//! A shard counts down to the next event that it copies into a ring of bytes of its own, which the
//! console reads a few times a second: no allocation, no lock, and for all other events one
//! decrement. Up to [`SAMPLES_PER_SECOND`] events a second are all copied; beyond that each copy
//! stands for those since the one before ([`Sample::stands_for`]), with gaps of random length, so
//! that no pattern in the load keeps some events out. Whatever is computed from samples is therefore
//! exact on quiet sites and an estimate on busy ones.
//!
//! Envelope: 500 copies a second of 0.4 µs each, 0.2 ms a second; at 20 000 events/s some six instructions
//! per event. A ring holds a second of usual events; when it is full because nobody reads,
//! nothing is copied.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use rtrb::{Consumer, Producer, RingBuffer};

use super::reason::RejectReason;
use crate::event::Listener;

/// Samples of one shard in a second, about: enough that a name with one event in a hundred is
/// counted to within a tenth over five minutes, few enough not to be noticed.
pub const SAMPLES_PER_SECOND: u32 = 500;

/// Bytes between a shard and the console: a second of usual events, 400 bytes each, and room for some long ones.
const RING_BYTES: usize = 256 * 1024;

/// Bytes of a datagram that are copied: beyond what any appender writes without being asked to.
const PAYLOAD_MAX: usize = 16 * 1024;

/// How long one gap between samples holds before it is fitted to the rate anew.
const WINDOW: Duration = Duration::from_secs(1);

/// Bytes before each payload: length, events it stands for, receive time, source, listener, outcome.
const HEAD_BYTES: usize = 4 + 8 + 8 + 16 + 1 + 1;

/// A shard's end. The default copies nothing.
#[derive(Debug)]
pub struct Tap {
    /// Events until the next sample, that one included.
    left: u32,
    on: Option<On>,
}

#[derive(Debug)]
struct On {
    ring: Producer<u8>,
    /// The sample that is being written; never grows.
    record: Vec<u8>,
    rng: Rng,
    /// Events between two samples, on average.
    stride: u32,
    /// Events from the last sample to the next, and those that stand for nothing yet because the
    /// ring had no room.
    gap: u64,
    /// Samples before the stride is doubled within a window.
    room: u32,
    window_began: Duration,
    taken_before: u64,
}

/// The console's end.
#[derive(Debug)]
pub struct Reader {
    ring: Consumer<u8>,
    payload: Vec<u8>,
}

/// The console's ends of all shards.
#[derive(Debug, Default)]
pub struct Readers(Mutex<Vec<Reader>>);

impl Readers {
    /// The ends of these shards.
    #[must_use]
    pub fn new(readers: Vec<Reader>) -> Self {
        Self(Mutex::new(readers))
    }

    /// Gives the ends away; whoever asks later gets none.
    #[must_use]
    pub fn take(&self) -> Vec<Reader> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One event that was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<'a> {
    /// Where it arrived.
    pub listener: Listener,
    /// The datagram, of which at most 16 KiB were copied.
    pub payload: &'a [u8],
    /// Who sent it.
    pub source: IpAddr,
    /// When, in ns since 1970.
    pub received_ns: u64,
    /// Why it was not accepted; `None` when it was.
    pub rejected: Option<RejectReason>,
    /// So many events arrived since the sample before, this one included.
    pub stands_for: u64,
}

/// Both ends of one shard's ring.
#[must_use]
pub fn tap(seed: u64) -> (Tap, Reader) {
    let (producer, consumer) = RingBuffer::new(RING_BYTES);
    let on = On {
        ring: producer,
        record: Vec::with_capacity(HEAD_BYTES + PAYLOAD_MAX),
        rng: Rng::with_seed(seed),
        stride: 1,
        gap: 1,
        room: SAMPLES_PER_SECOND,
        window_began: Duration::ZERO,
        taken_before: 0,
    };
    let reader = Reader { ring: consumer, payload: Vec::with_capacity(PAYLOAD_MAX) };
    (Tap { left: 1, on: Some(on) }, reader)
}

impl Default for Tap {
    fn default() -> Self {
        Self { left: u32::MAX, on: None }
    }
}

impl Tap {
    /// Counts an event, and copies it if it is its turn.
    #[inline]
    pub fn note<'a>(&mut self, sample: impl FnOnce() -> Sample<'a>) {
        self.left -= 1;
        if self.left == 0 {
            self.copy(&sample());
        }
    }

    #[cold]
    #[inline(never)]
    fn copy(&mut self, sample: &Sample<'_>) {
        let Some(on) = &mut self.on else {
            self.left = u32::MAX;
            return;
        };
        // Who is excluded is not to be seen, here neither.
        let hidden = sample.rejected == Some(RejectReason::ExcludedUser);
        let stood_for = if hidden || on.write(sample) { 0 } else { on.gap };
        on.room = on.room.saturating_sub(1);
        if on.room == 0 {
            // The load has grown since the window began.
            on.stride = on.stride.saturating_mul(2);
            on.room = SAMPLES_PER_SECOND;
        }
        self.left = on.next_gap();
        on.gap = stood_for + u64::from(self.left);
    }

    /// Ends a turn of the shard, which has taken so many events since its start. `now` is monotonic.
    pub fn end_turn(&mut self, now: Duration, taken: u64) {
        let Some(on) = &mut self.on else { return };
        let passed = now.saturating_sub(on.window_began);
        if passed < WINDOW {
            return;
        }
        let rate = u128::from(taken - on.taken_before) * 1_000 / passed.as_millis().max(1);
        let stride = rate.div_ceil(u128::from(SAMPLES_PER_SECOND)).max(1);
        on.stride = u32::try_from(stride).unwrap_or(u32::MAX / 2);
        (on.window_began, on.taken_before, on.room) = (now, taken, 2 * SAMPLES_PER_SECOND);
        // A long gap of a busy time would keep the first events of a quiet one out.
        let next = on.next_gap();
        if next < self.left {
            on.gap -= u64::from(self.left - next);
            self.left = next;
        }
    }
}

impl On {
    /// Events until the next sample: 1 to twice the stride, the stride on average.
    fn next_gap(&mut self) -> u32 {
        if self.stride == 1 { 1 } else { self.rng.u32(1..self.stride.saturating_mul(2)) }
    }

    /// Writes a sample, if there is room for all of it.
    fn write(&mut self, sample: &Sample<'_>) -> bool {
        let payload = &sample.payload[..sample.payload.len().min(PAYLOAD_MAX)];
        // In one piece, so that the reader never finds half of it.
        self.record.clear();
        self.record.extend_from_slice(&head(sample, payload.len(), self.gap));
        self.record.extend_from_slice(payload);
        self.ring.push_entire_slice(&self.record).is_ok()
    }
}

fn head(sample: &Sample<'_>, length: usize, stands_for: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    // At most `PAYLOAD_MAX`.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let source = match sample.source {
        IpAddr::V4(source) => source.to_ipv6_mapped(),
        IpAddr::V6(source) => source,
    };
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..12].copy_from_slice(&stands_for.to_le_bytes());
    head[12..20].copy_from_slice(&sample.received_ns.to_le_bytes());
    head[20..36].copy_from_slice(&source.octets());
    head[36] = sample.listener as u8;
    // 0 for accepted events.
    head[37] = sample.rejected.map_or(0, |reason| reason as u8 + 1);
    head
}

impl Reader {
    /// The next sample, if there is one.
    pub fn read(&mut self) -> Option<Sample<'_>> {
        let mut head = [0; HEAD_BYTES];
        self.ring.pop_entire_slice(&mut head).ok()?;
        let number = |from: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[from..from + 8]);
            u64::from_le_bytes(bytes)
        };
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let mut source = [0; 16];
        source.copy_from_slice(&head[20..36]);
        self.payload.resize(length, 0);
        // Written together with its head.
        self.ring.pop_entire_slice(&mut self.payload).ok()?;
        Some(Sample {
            listener: Listener::ALL[usize::from(head[36])],
            payload: &self.payload,
            source: Ipv6Addr::from(source).to_canonical(),
            received_ns: number(12),
            rejected: head[37].checked_sub(1).map(|at| RejectReason::ALL[usize::from(at)]),
            stands_for: number(4),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sample(payload: &[u8], number: u64) -> Sample<'_> {
        Sample {
            listener: Listener::LogEvents,
            payload,
            source: IpAddr::from([10, 0, 0, 7]),
            received_ns: number,
            rejected: None,
            stands_for: 1,
        }
    }

    fn read_all(reader: &mut Reader) -> Vec<(u64, u64, usize)> {
        let mut samples = Vec::new();
        while let Some(sample) = reader.read() {
            samples.push((sample.received_ns, sample.stands_for, sample.payload.len()));
        }
        samples
    }

    #[test]
    fn what_is_written_is_read_wherever_the_ring_wraps() {
        let (mut tap, mut reader) = tap(1);
        let payload = vec![b'x'; 999];
        for number in 0..2_000 {
            let mut sent = sample(&payload[..(number % 1_000) as usize], number);
            sent.rejected = (number % 3 == 0).then_some(RejectReason::Filter);
            tap.end_turn(SECOND * u32::try_from(number).unwrap(), number);
            tap.note(|| sent);
            assert_eq!(reader.read(), Some(sent));
        }
        assert_eq!(reader.read(), None);
    }

    #[test]
    fn a_quiet_shard_copies_all_and_a_busy_one_a_few_that_stand_for_all() {
        let (mut tap, mut reader) = tap(2);
        let (mut taken, mut stood_for, mut copied) = (0, 0, Vec::new());
        for (second, rate) in [(1, 100), (2, 100), (3, 300_000), (4, 300_000), (5, 40), (6, 40)] {
            let mut samples = 0;
            for _ in 0..rate {
                taken += 1;
                tap.note(|| sample(b"an event", taken));
                for (_, stands_for, _) in read_all(&mut reader) {
                    stood_for += stands_for;
                    samples += 1;
                }
            }
            tap.end_turn(SECOND * second, taken);
            copied.push(samples);
        }
        assert_eq!(copied[..2], [100, 100], "all");
        assert!(copied[2] < 20 * SAMPLES_PER_SECOND, "a burst is noticed at once: {copied:?}");
        assert!(copied[3].abs_diff(SAMPLES_PER_SECOND) < SAMPLES_PER_SECOND / 4, "{copied:?}");
        assert!(copied[5] == 40, "{copied:?}");
        assert_eq!(stood_for, taken, "every event is stood for");
    }

    #[test]
    fn a_full_ring_loses_no_count_and_excluded_users_are_not_copied() {
        let (mut tap, mut reader) = tap(3);
        let payload = vec![b'x'; PAYLOAD_MAX + 100];
        for number in 1..=20 {
            tap.note(|| sample(&payload, number));
        }
        let copied = read_all(&mut reader);
        assert_eq!(copied.len(), RING_BYTES / (PAYLOAD_MAX + HEAD_BYTES));
        assert!(copied.iter().all(|(_, _, length)| *length == PAYLOAD_MAX));
        tap.note(|| sample(b"next", 21));
        tap.note(|| Sample { rejected: Some(RejectReason::ExcludedUser), ..sample(b"", 22) });
        let missed = 20 - copied.len() as u64;
        assert_eq!(read_all(&mut reader), [(21, missed + 1, 4)]);
    }

    #[test]
    fn the_default_copies_nothing() {
        let mut tap = Tap { left: 3, ..Tap::default() };
        for number in 0..10 {
            tap.note(|| sample(b"", number));
        }
        tap.end_turn(SECOND, 10);
        assert!(tap.on.is_none());
    }
}
