//! A shard's counts, and how they get to the writer.
//!
//! A shard counts into its own tables and, when they are due, hands them over whole through a ring
//! and goes on with emptied ones that come back through another: nothing is locked, copied or counted
//! twice, and while the ring is full the shard simply counts on. Without counters all this is one
//! branch per event.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};
use uuid::fmt::Hyphenated;

use super::table::Table;
use crate::event::{Column, Event, Field, Listener};

/// Handed-over tables that wait: one, and one for a writer that is late.
const RING: usize = 2;

/// Stands for a source, host or subsystem that is not known.
pub(super) const UNKNOWN: &str = "Unknown";

/// Longest source, host and subsystem that is kept of a datagram of an unknown type, in characters.
/// The payload reference gives hosts 100.
const UNKNOWN_TEXT_MAX: usize = 100;

/// Where the log events of all known types have their host; the subsystem is next.
const LOG_HOST: usize = 5;

/// What a shard counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct TallySettings {
    /// Received events.
    pub received: bool,
    /// Performance events that no monitor filter accepts.
    pub rejected: bool,
    /// Time between two hand-overs.
    pub every: Duration,
}

/// Received and rejected events.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// By event type, source, host, subsystem.
    pub(super) received: Table,
    /// By app id, app name, method, object type.
    pub(super) rejected: Table,
}

impl Counts {
    pub(super) fn is_empty(&self) -> bool {
        self.received.is_empty() && self.rejected.is_empty()
    }

    pub(super) fn reset(&mut self) {
        self.received.reset();
        self.rejected.reset();
    }
}

/// One shard's counts.
#[derive(Debug, Default)]
pub struct Tally(Option<Box<Counting>>);

#[derive(Debug)]
struct Counting {
    settings: TallySettings,
    due: Duration,
    counts: Counts,
    full: Producer<Counts>,
    emptied: Consumer<Counts>,
    /// Leases taken as of the last turn, per listener.
    taken: [u64; Listener::COUNT],
    most_leases: Arc<[AtomicU64; Listener::COUNT]>,
    scratch: String,
}

/// The writer's end of a [`Tally`].
#[derive(Debug)]
pub(super) struct Collector {
    full: Consumer<Counts>,
    emptied: Producer<Counts>,
    most_leases: Arc<[AtomicU64; Listener::COUNT]>,
}

/// A tally and its other end.
pub(super) fn pair(settings: TallySettings) -> (Tally, Collector) {
    let (full, full_out) = RingBuffer::new(RING);
    let (emptied_in, emptied) = RingBuffer::new(RING);
    let most_leases: Arc<[AtomicU64; Listener::COUNT]> = Arc::default();
    let counting = Counting {
        settings,
        due: settings.every,
        counts: Counts::default(),
        full,
        emptied,
        taken: [0; Listener::COUNT],
        most_leases: Arc::clone(&most_leases),
        scratch: String::new(),
    };
    let collector = Collector { full: full_out, emptied: emptied_in, most_leases };
    (Tally(Some(Box::new(counting))), collector)
}

impl Tally {
    /// Counts an event that was received, whatever becomes of it.
    pub fn received(&mut self, event: &Event<'_>) {
        let Some(counting) = self.0.as_deref_mut().filter(|it| it.settings.received) else {
            return;
        };
        let kind = event.kind();
        let subsystem = match kind.listener() {
            Listener::UserEvents => Column::Origin,
            Listener::LogEvents => Column::Subsystem,
        };
        let key = [
            event_type(kind.listener()),
            kind.name(),
            or_unknown(event.text(Column::Host)),
            or_unknown(event.text(subsystem)),
        ];
        counting.counts.received.add(key, 1, 0.0);
    }

    /// Counts a datagram that is no event of a known type, as Butler SOS does: all user events of
    /// unknown types together; log events under the type that they claim, and host and subsystem
    /// where every log event has them (difference 10).
    pub fn unknown(&mut self, listener: Listener, payload: &[u8]) {
        let Some(counting) = self.0.as_deref_mut().filter(|it| it.settings.received) else {
            return;
        };
        let mut key = [event_type(listener), UNKNOWN, UNKNOWN, UNKNOWN];
        let mut ends = [0; 3];
        if listener == Listener::LogEvents {
            let scratch = &mut counting.scratch;
            scratch.clear();
            for (end, column) in ends.iter_mut().zip([0, LOG_HOST, LOG_HOST + 1]) {
                let raw = payload.split(|&byte| byte == b';').nth(column).unwrap_or_default();
                push_clean(raw, column == 0, scratch);
                *end = scratch.len();
            }
            let mut start = 0;
            for (text, end) in key[1..].iter_mut().zip(ends) {
                *text = or_unknown(&scratch[start..end]);
                start = end;
            }
        }
        counting.counts.received.add(key, 1, 0.0);
    }

    /// Counts a performance event that no monitor filter accepts.
    pub fn filtered(&mut self, event: &Event<'_>, app_name: Option<&str>) {
        let Some(counting) = self.0.as_deref_mut().filter(|it| it.settings.rejected) else {
            return;
        };
        let mut room = [0; Hyphenated::LENGTH];
        let app_id =
            event.uuid(Column::AppId).map_or("", |app| app.hyphenated().encode_lower(&mut room));
        let key = [
            app_id,
            app_name.unwrap_or_default(),
            event.text(Column::Method),
            event.text(Column::ObjectType),
        ];
        let process_time = match event.field(Column::ProcessTime) {
            // A sum that is once NaN would stay so.
            Some(Field::Float(time)) if time.is_finite() => time,
            _ => 0.0,
        };
        counting.counts.rejected.add(key, 1, process_time);
    }

    /// Hands the counts over when they are due. `now` is the clock's monotonic time, `taken` the
    /// leases that the shard ever took, per listener.
    pub fn end_turn(&mut self, now: Duration, taken: [u64; Listener::COUNT]) {
        let Some(counting) = self.0.as_deref_mut() else { return };
        for ((most, taken), before) in
            counting.most_leases.iter().zip(taken).zip(&mut counting.taken)
        {
            let leases = taken - *before;
            *before = taken;
            // Not `fetch_max`: the writer may reset it in between, and then a turn is seen once more.
            if leases > most.load(Ordering::Relaxed) {
                most.store(leases, Ordering::Relaxed);
            }
        }
        if now >= counting.due {
            counting.due = now + counting.settings.every;
            counting.hand_over();
        }
    }

    /// When counts are to be handed over; `None` while there are none.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let counting = self.0.as_deref()?;
        (!counting.counts.is_empty()).then_some(counting.due)
    }

    /// Hands over what was counted, due or not; whether all of it is out.
    pub fn flush(&mut self) -> bool {
        self.0.as_deref_mut().is_none_or(Counting::hand_over)
    }
}

impl Counting {
    fn hand_over(&mut self) -> bool {
        if self.counts.is_empty() {
            return true;
        }
        if self.full.slots() == 0 {
            return false;
        }
        let emptied = self.emptied.pop().unwrap_or_default();
        let counts = std::mem::replace(&mut self.counts, emptied);
        self.full.push(counts).is_ok()
    }
}

impl Collector {
    /// Whether the shard is gone. What it handed over before may still wait.
    pub(super) fn ended(&self) -> bool {
        self.full.is_abandoned()
    }

    /// Adds everything that was handed over to `counts`; whether there was anything.
    pub(super) fn collect(&mut self, counts: &mut Counts) -> bool {
        let mut any = false;
        while let Ok(mut taken) = self.full.pop() {
            counts.received.add_all(&taken.received);
            counts.rejected.add_all(&taken.rejected);
            taken.reset();
            any = true;
            // Without room, or when the shard is gone, it is let go.
            let _ = self.emptied.push(taken);
        }
        any
    }

    /// The most leases of a turn since the last call.
    pub(super) fn take_most_leases(&self, listener: Listener) -> u64 {
        self.most_leases[listener as usize].swap(0, Ordering::Relaxed)
    }
}

/// Value of the tag `event_type`.
fn event_type(listener: Listener) -> &'static str {
    match listener {
        Listener::UserEvents => "user",
        Listener::LogEvents => "log",
    }
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { UNKNOWN } else { text }
}

/// Appends a raw field without control characters; a type also in lower case and without the slashes
/// around it.
fn push_clean(raw: &[u8], is_type: bool, out: &mut String) {
    let chunks = raw.utf8_chunks();
    let characters = chunks.flat_map(|chunk| {
        let replacement = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        chunk.valid().chars().chain(replacement)
    });
    let mut slashes = if is_type { 2 } else { 0 };
    let kept = characters.filter(|character| {
        let slash = *character == '/' && slashes > 0;
        slashes -= u32::from(slash);
        !slash && !character.is_ascii_control()
    });
    for character in kept.take(UNKNOWN_TEXT_MAX) {
        if is_type {
            out.extend(character.to_lowercase());
        } else {
            out.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::parse;

    const EVERY: Duration = Duration::from_secs(20);

    fn both() -> (Tally, Collector) {
        pair(TallySettings { received: true, rejected: true, every: EVERY })
    }

    fn receive(tally: &mut Tally, listener: Listener, payload: &[u8]) {
        match parse(listener, payload, &mut Vec::new()) {
            Ok(event) => tally.received(&event),
            Err(_) => tally.unknown(listener, payload),
        }
    }

    fn texts(table: &Table) -> Vec<(String, u64)> {
        let mut texts: Vec<_> =
            table.counted().map(|series| (series.texts.join("|"), series.count)).collect();
        texts.sort();
        texts
    }

    fn collected(tally: &mut Tally, collector: &mut Collector) -> Counts {
        assert!(tally.flush());
        let mut counts = Counts::default();
        collector.collect(&mut counts);
        counts
    }

    #[test]
    fn events_count_by_type_source_host_and_subsystem() {
        let (mut tally, mut collector) = both();
        let user: &[u8] = b"/qseow-proxy-session/;h1;Start session;LAB;goran;AppAccess;/hub/;x";
        receive(&mut tally, Listener::UserEvents, user);
        receive(&mut tally, Listener::UserEvents, user);
        receive(&mut tally, Listener::UserEvents, b"hello;h1");
        receive(&mut tally, Listener::LogEvents, b"/qseow-proxy/;1;t;t;WARN;h2;Sub");
        receive(&mut tally, Listener::LogEvents, b"/qseow-Foo/;1;t;t;WARN;h\n3;Su\x01b");
        receive(&mut tally, Listener::LogEvents, b"hello world");
        let counts = collected(&mut tally, &mut collector);
        assert_eq!(
            texts(&counts.received),
            [
                ("log|hello world|Unknown|Unknown".to_owned(), 1),
                ("log|qseow-foo|h3|Sub".to_owned(), 1),
                ("log|qseow-proxy|h2|Sub".to_owned(), 1),
                ("user|Unknown|Unknown|Unknown".to_owned(), 1),
                ("user|qseow-proxy-session|h1|AppAccess".to_owned(), 2),
            ]
        );
    }

    #[test]
    fn of_what_is_no_event_100_characters_are_told_apart() {
        let (mut tally, mut collector) = both();
        let [long, wanted] = [150, 100].map(|characters| "é".repeat(characters));
        for end in ["", "x"] {
            let payload = format!("{long}{end};1;t;t;WARN;{long}{end};{long}{end}");
            receive(&mut tally, Listener::LogEvents, payload.as_bytes());
        }
        let counts = collected(&mut tally, &mut collector);
        let series = ["log", &wanted, &wanted, &wanted].join("|");
        assert_eq!(texts(&counts.received), [(series, 2)]);
    }

    #[test]
    fn filtered_events_count_by_app_method_and_object_type() {
        let (mut tally, mut collector) = both();
        let payload = b"/qseow-qix-perf/;14;20211109T153726.028+0200;2021-11-09 15:37:26,028;INFO;h;S;\
            9d2b0b3e-1b8f-4f3a-9c53-6b7a2b7d7c11;LAB;u;2021-11-09T15:37:26.028Z;\
            0;e7af59a0-c243-480d-9571-08727551a66f;2021;5;Global::OpenApp;12.5;1;1;1;1;3;barchart;4;5";
        let mut scratch = Vec::new();
        let event = parse(Listener::LogEvents, payload, &mut scratch).unwrap();
        tally.filtered(&event, Some("Sales"));
        tally.filtered(&event, Some("Sales"));
        let counts = collected(&mut tally, &mut collector);
        let series: Vec<_> = counts.rejected.counted().collect();
        assert_eq!(series.len(), 1);
        assert_eq!(series[0].count, 2);
        assert_eq!(&*series[0].texts[1], "Sales");
        assert_eq!(counts.received.counted().count(), 0);
    }

    #[test]
    fn counts_leave_when_due_and_nothing_is_lost_while_the_ring_is_full() {
        let (mut tally, mut collector) = both();
        for turn in 1..=10 {
            receive(&mut tally, Listener::UserEvents, b"x");
            assert_eq!(tally.deadline(), Some(EVERY * turn));
            tally.end_turn(EVERY * turn, [0, 0]);
        }
        assert!(!tally.flush(), "no room");
        let mut counts = Counts::default();
        assert!(collector.collect(&mut counts));
        assert_eq!(texts(&counts.received)[0].1, RING as u64);
        assert!(tally.flush());
        assert_eq!(tally.deadline(), None);
        assert!(collector.collect(&mut counts));
        assert_eq!(texts(&counts.received)[0].1, 10);
    }

    #[test]
    fn what_is_off_is_not_counted() {
        let (mut tally, mut collector) = pair(TallySettings { every: EVERY, ..Default::default() });
        receive(&mut tally, Listener::UserEvents, b"x");
        assert!(collected(&mut tally, &mut collector).is_empty());
        let mut none = Tally::default();
        receive(&mut none, Listener::UserEvents, b"x");
        none.end_turn(EVERY, [1, 1]);
        assert!(none.flush() && none.deadline().is_none());
    }

    #[test]
    fn the_largest_turn_counts() {
        let (mut tally, collector) = both();
        for taken in [[3, 0], [10, 0], [11, 2]] {
            tally.end_turn(EVERY, taken);
        }
        assert_eq!(collector.take_most_leases(Listener::UserEvents), 7);
        assert_eq!(collector.take_most_leases(Listener::LogEvents), 2);
        assert_eq!(collector.take_most_leases(Listener::LogEvents), 0);
    }

    #[test]
    fn the_end_of_the_shard_shows() {
        let (tally, collector) = both();
        assert!(!collector.ended());
        drop(tally);
        assert!(collector.ended());
    }
}
