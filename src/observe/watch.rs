//! What the console knows beyond the present state: the last minutes, the newest events, and what
//! occurs most often.
//!
//! [`Watch::run`] is a task of the console's thread. It empties the shards' taps, so everything here
//! is computed off the road of the events.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use super::history::{History, Point};
use super::recent::{self, Filter, Newest, Recent};
use super::stats::{Named, State, Stats};
use super::tap::{Reader, Sample};
use super::top::{List, Row, Top, gist};
use crate::event::{self, Column, Event, Kind};

/// How often the taps are emptied: so late a new event is shown at most, and a quarter of what their
/// rings hold of a busy second.
const INTERVAL: Duration = Duration::from_millis(250);

/// Of these a second for the history.
const INTERVALS_PER_POINT: usize = 4;

/// Rows of each list that are shown.
const ROWS: usize = 10;

/// What the console has seen, shared by its task and its answers.
#[derive(Debug, Default)]
pub struct Watch(Mutex<Seen>);

/// See [`Watch`].
#[derive(Debug, Default)]
pub struct Seen {
    /// The last minutes.
    pub history: History,
    /// The newest events.
    pub newest: Newest,
    top: Top,
    /// Time since the start.
    now: Duration,
    samples: Samples,
}

/// How many events are looked at.
#[derive(Debug, Default)]
struct Samples {
    /// Samples and the events that they stand for, in the present interval.
    present: (u64, u64),
    /// The same of each of the last intervals, newest first.
    last: [(u64, u64); INTERVALS_PER_POINT],
}

/// What occurs most often, as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct TopAnswer {
    /// Seconds that the lists cover.
    pub seconds: u64,
    /// One event in so many was looked at; above 1, counts are estimates.
    pub one_in: f64,
    /// The same in the last second, which says how many of the newest events are there.
    pub newest_one_in: f64,
    /// The lists.
    pub lists: Named<&'static str, Vec<Row>>,
}

impl Watch {
    /// What has been seen so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what comes, until the console's thread ends.
    pub async fn run(self: Arc<Self>, state: Arc<State>) {
        let mut readers = state.taps.take();
        let mut scratch = Vec::new();
        let mut tick = interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in 0_usize.. {
            tick.tick().await;
            let mut seen = self.seen();
            seen.look(&mut readers, &state, &mut scratch);
            if turn % INTERVALS_PER_POINT == 0 {
                seen.history.add(Stats::read(&state));
            }
        }
    }
}

impl Seen {
    /// Reads what the taps hold.
    fn look(&mut self, readers: &mut [Reader], state: &State, scratch: &mut Vec<u8>) {
        self.now = state.health.now();
        self.top.advance(self.now);
        self.samples.last.rotate_right(1);
        self.samples.last[0] = std::mem::take(&mut self.samples.present);
        for reader in readers {
            while let Some(sample) = reader.read() {
                self.add(&sample, state, scratch);
            }
        }
    }

    /// Adds one sample.
    fn add(&mut self, sample: &Sample<'_>, state: &State, scratch: &mut Vec<u8>) {
        self.samples.present.0 += 1;
        self.samples.present.1 += sample.stands_for;
        self.top.sampled(sample.stands_for, self.now);
        let Ok(event) = event::parse(sample.listener, sample.payload, scratch) else {
            self.newest.push(Recent::of_unknown(sample));
            return;
        };
        let app = app(&event, state);
        if sample.rejected.is_none() {
            self.count(&event, &app, sample.stands_for);
        }
        self.newest.push(Recent::of_event(sample, &event, &app));
    }

    fn count(&mut self, event: &Event<'_>, app: &str, events: u64) {
        let Self { top, now, .. } = self;
        let mut add = |list, name: &str| top.add(list, &recent::cut(name), events, *now);
        add(List::Apps, app);
        add(List::Hosts, event.text(Column::Host));
        if let Some(user) = event.user_full() {
            add(List::Users, &user.to_string());
        }
        if event.kind() == Kind::QixPerf {
            add(List::Methods, event.text(Column::Method));
        }
        let level = event.text(Column::Level);
        if ["WARN", "ERROR", "FATAL"].contains(&level) {
            add(List::Complaints, &format!("{level} {}", gist(event.text(Column::Message))));
        }
    }

    /// What occurs most often.
    #[must_use]
    pub fn top(&self) -> TopAnswer {
        let sum = |(a, b), (c, d): &(u64, u64)| (a + c, b + d);
        let newest = self.samples.last.iter().fold((0, 0), sum);
        TopAnswer {
            seconds: Top::seconds(self.now),
            one_in: one_in(self.top.samples()),
            newest_one_in: one_in(newest),
            lists: self.top.lists(ROWS),
        }
    }

    /// The newest point of the history.
    #[must_use]
    pub fn point(&self) -> Option<&Point> {
        self.history.last()
    }

    /// The newest events after `seq` that pass, as one server-sent event; nothing if there are none.
    pub fn write_events(&self, filter: &Filter, seq: u64, limit: usize, out: &mut String) {
        let events = self.newest.matching(filter, seq, limit);
        if !events.is_empty() {
            write_event(out, "events", &events);
        }
    }
}

/// Events for each sample, to tenths; 1 without any.
#[expect(clippy::cast_precision_loss, reason = "rounded to tenths")]
fn one_in((samples, events): (u64, u64)) -> f64 {
    if samples == 0 { 1.0 } else { (events as f64 * 10.0 / samples as f64).round() / 10.0 }
}

/// Appends a named server-sent event.
pub fn write_event(out: &mut String, name: &str, value: &impl Serialize) {
    // JSON has no raw newline, so one `data:` line holds it.
    if let Ok(json) = serde_json::to_string(value) {
        let _ = write!(out, "event: {name}\ndata: {json}\n\n");
    }
}

/// The app that an event is about: its name where that is known, else its id, else nothing.
fn app(event: &Event<'_>, state: &State) -> String {
    let written = event.text(Column::AppName);
    if !written.is_empty() {
        return written.to_owned();
    }
    let Some(id) = event.uuid(Column::AppId).or_else(|| event.context_app_id()) else {
        return String::new();
    };
    let names = state.app_names.load();
    names.get(&id).map_or_else(|| id.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Listener;
    use crate::observe::reason::RejectReason;
    use crate::observe::stats::tests::sample_state;
    use crate::observe::tap::{Readers, tap};

    fn sample(payload: &[u8], rejected: Option<RejectReason>) -> Sample<'_> {
        Sample {
            listener: Listener::LogEvents,
            payload,
            source: [10, 0, 0, 7].into(),
            received_ns: 1,
            rejected,
            stands_for: 1,
        }
    }

    #[test]
    fn what_the_taps_bring_is_listed_counted_and_shown() {
        let (mut tap, reader) = tap(1);
        let mut state = sample_state();
        state.taps = Readers::new(vec![reader]);
        let app = "0e4c1f2a-9b1d-4c3e-8f00-aa11bb22cc33";
        let names = [(app.parse().unwrap(), "Sales".to_owned())];
        state.app_names.store(Arc::new(names.into_iter().collect()));
        let complaint = format!(
            "/qseow-engine/;7;20250106T080000.000+0000;2025-01-06 08:00:00,000;ERROR;eng1;\
             System.Engine.Engine;LAB\\svc;Load 12 of {app} failed;;LAB;anna;;;;;;;{app}"
        );
        for _ in 0..3 {
            tap.note(|| sample(complaint.as_bytes(), None));
        }
        tap.note(|| sample(complaint.as_bytes(), Some(RejectReason::CategoryDrop)));
        tap.note(|| sample(b"junk", Some(RejectReason::UnknownType)));

        let mut seen = Seen::default();
        let mut readers = state.taps.take();
        seen.look(&mut readers, &state, &mut Vec::new());
        let top = serde_json::to_value(seen.top()).unwrap();
        let first = |list: &str| {
            let row = &top["lists"][list][0];
            (row["name"].as_str().unwrap().to_owned(), row["events"].as_u64().unwrap())
        };
        assert_eq!(first("apps"), ("Sales".into(), 3), "{top}");
        assert_eq!(first("users"), ("LAB\\anna".into(), 3));
        assert_eq!(first("hosts"), ("eng1".into(), 3));
        assert_eq!(first("complaints"), ("ERROR Load … of … failed".into(), 3));
        assert_eq!(top["lists"]["methods"], serde_json::json!([]));

        assert_eq!((&top["one_in"], &top["newest_one_in"]), (&1.0.into(), &1.0.into()));
        let mut text = String::new();
        seen.write_events(&Filter::default(), 0, 10, &mut text);
        let json = text.strip_prefix("event: events\ndata: ").unwrap();
        let events: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(events.as_array().unwrap().len(), 5);
        assert_eq!(events[0]["rejected"], "unknown_type");
        assert_eq!(events[1]["rejected"], "category_drop");
        assert_eq!(events[4]["app"], "Sales");
        text.clear();
        seen.write_events(&Filter::default(), seen.newest.last(), 10, &mut text);
        assert_eq!(text, "");
    }
}
