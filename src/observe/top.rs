//! What occurs most often: apps, users, methods, hosts and complaints of the last minutes, counted in
//! bounded memory.
//!
//! Each list is a space-saving sketch (Metwally, Agrawal, El Abbadi, 2005): so many names have a
//! counter; a new name takes over the smallest one together with its count, which is how far the new
//! count may be too high. A name with more than 1 / [`NAMES_MAX`] of the events is never missed.
//! There is one set of sketches a minute; what is shown adds the last [`MINUTES`] up.
//!
//! Envelope: 5 lists × 5 minutes × 200 names of at most 120 bytes, 700 KB when all are full.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;
use serde::Serialize;

use super::stats::Named;

/// Names with a counter, per list and minute.
pub const NAMES_MAX: usize = 200;

/// Minutes that are added up, the one that has begun included.
pub const MINUTES: usize = 5;

/// Bytes of a name that are kept.
const NAME_BYTES_MAX: usize = 120;

const MINUTE: Duration = Duration::from_mins(1);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum List {
    /// Apps, by name where it is known, else by id.
    Apps,
    /// Users, as `DIRECTORY\id`.
    Users,
    /// Methods of the engine.
    Methods,
    /// Sense servers.
    Hosts,
    /// Messages of warnings and errors, without what differs from one to the next.
    Complaints,
}

impl List {
    /// Every list, in the order of the discriminants.
    pub const ALL: [Self; 5] =
        [Self::Apps, Self::Users, Self::Methods, Self::Hosts, Self::Complaints];

    /// Name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Apps => "apps",
            Self::Users => "users",
            Self::Methods => "methods",
            Self::Hosts => "hosts",
            Self::Complaints => "complaints",
        }
    }
}

/// A name and how often it occurred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The name.
    pub name: Box<str>,
    /// Events; never less than there were samples of.
    pub events: u64,
    /// At most so many of them may belong to names that had to make room.
    pub over: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    events: u64,
    over: u64,
}

/// One space-saving sketch.
#[derive(Debug, Default)]
struct Sketch(HashMap<Box<str>, Count>);

impl Sketch {
    fn add(&mut self, name: &str, events: u64) {
        if let Some(count) = self.0.get_mut(name) {
            count.events += events;
            return;
        }
        let over = self.floor();
        if over > 0 {
            let least = self.0.iter().min_by_key(|(_, count)| count.events);
            if let Some(name) = least.map(|(name, _)| name.clone()) {
                self.0.remove(&name);
            }
        }
        self.0.insert(name.into(), Count { events: over + events, over });
    }

    /// How often a name that is not here may have occurred at most.
    fn floor(&self) -> u64 {
        if self.0.len() < NAMES_MAX {
            return 0;
        }
        self.0.values().map(|count| count.events).min().unwrap_or_default()
    }
}

/// The lists of one minute.
#[derive(Debug, Default)]
struct Minute {
    /// Since the start.
    number: u64,
    /// Samples, and the events that they stand for.
    samples: (u64, u64),
    sketches: [Sketch; List::ALL.len()],
}

/// The lists of the last minutes.
#[derive(Debug, Default)]
pub struct Top {
    minutes: VecDeque<Minute>,
}

impl Top {
    /// Counts a name, `now` being the time since the start. Empty names are none.
    pub fn add(&mut self, list: List, name: &str, events: u64, now: Duration) {
        if name.is_empty() {
            return;
        }
        self.advance(now);
        if let Some(minute) = self.minutes.back_mut() {
            let end = name.floor_char_boundary(NAME_BYTES_MAX);
            minute.sketches[list as usize].add(&name[..end], events);
        }
    }

    /// Counts a sample that stands for so many events.
    pub fn sampled(&mut self, events: u64, now: Duration) {
        self.advance(now);
        if let Some(minute) = self.minutes.back_mut() {
            minute.samples.0 += 1;
            minute.samples.1 += events;
        }
    }

    /// Samples, and the events that they stand for.
    #[must_use]
    pub fn samples(&self) -> (u64, u64) {
        let sum =
            |sum: (u64, u64), minute: &Minute| (sum.0 + minute.samples.0, sum.1 + minute.samples.1);
        self.minutes.iter().fold((0, 0), sum)
    }

    /// Begins a new minute and forgets old ones, if it is time to.
    pub fn advance(&mut self, now: Duration) {
        let number = now.as_secs() / MINUTE.as_secs();
        if self.minutes.back().is_none_or(|last| last.number < number) {
            self.minutes.push_back(Minute { number, ..Minute::default() });
        }
        while self.minutes.front().is_some_and(|m| m.number + MINUTES as u64 <= number) {
            self.minutes.pop_front();
        }
    }

    /// The names that occurred most often, at most `rows` of them.
    #[must_use]
    pub fn rows(&self, list: List, rows: usize) -> Vec<Row> {
        let sketches = || self.minutes.iter().map(|minute| &minute.sketches[list as usize]);
        let mut sums: HashMap<&str, Count> = HashMap::new();
        for name in sketches().flat_map(|sketch| sketch.0.keys()) {
            sums.entry(name).or_default();
        }
        for sketch in sketches() {
            let floor = sketch.floor();
            for (name, sum) in &mut sums {
                let count = sketch.0.get(*name);
                let count = count.copied().unwrap_or(Count { events: floor, over: floor });
                sum.events += count.events;
                sum.over += count.over;
            }
        }
        let mut sorted: Vec<_> = sums.into_iter().collect();
        // By what is certain; names decide ties, so that rows do not dance.
        sorted.sort_unstable_by(|(a, x), (b, y)| {
            (y.events - y.over).cmp(&(x.events - x.over)).then(a.cmp(b))
        });
        let row =
            |(name, Count { events, over }): (&str, _)| Row { name: name.into(), events, over };
        sorted.into_iter().take(rows).map(row).collect()
    }

    /// All lists.
    #[must_use]
    pub fn lists(&self, rows: usize) -> Named<&'static str, Vec<Row>> {
        Named(List::ALL.map(|list| (list.name(), self.rows(list, rows))).into())
    }

    /// The seconds that the lists cover at `now`.
    #[must_use]
    pub fn seconds(now: Duration) -> u64 {
        let begun = now.as_secs() % MINUTE.as_secs();
        now.as_secs().min(begun + (MINUTES as u64 - 1) * MINUTE.as_secs())
    }
}

/// A message without what differs from one to the next: numbers, ids and quoted names become `…`, so
/// that messages that say the same are counted as one.
#[must_use]
pub fn gist(message: &str) -> String {
    /// A quoted name is not longer.
    const QUOTED_MAX: usize = 80;
    let mut gist = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let taken = match first {
            // Within a word it is an apostrophe.
            '\'' | '"' if !gist.ends_with(char::is_alphanumeric) => rest[1..]
                .find(first)
                .filter(|end| (1..=QUOTED_MAX).contains(end))
                .map_or(0, |end| end + 2),
            _ if is_word(first) => {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let word = &rest[..end];
                if !word.bytes().any(|byte| byte.is_ascii_digit()) {
                    gist.push_str(word);
                    rest = &rest[end..];
                    continue;
                }
                end
            }
            _ => 0,
        };
        if taken > 0 {
            gist.push('…');
            rest = &rest[taken..];
        } else {
            gist.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    gist
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap as Exact;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn frequent_names_are_never_missed_and_errors_are_bounded() {
        let mut rng = fastrand::Rng::with_seed(5);
        let (mut top, mut exact) = (Top::default(), Exact::<String, u64>::new());
        let total = 50_000;
        for _ in 0..total {
            // Squared, so that small numbers come more often: a few hot names and a long tail.
            let part = rng.f64();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let number = (part * part * part * 5_000.0) as u32;
            let name = format!("name-{number}");
            *exact.entry(name.clone()).or_default() += 1;
            top.add(List::Users, &name, 1, at(3));
        }
        assert_eq!(top.minutes[0].sketches[List::Users as usize].0.len(), NAMES_MAX);
        let rows = top.rows(List::Users, NAMES_MAX);
        for row in &rows {
            let true_count = exact[&*row.name];
            assert!(row.events >= true_count && row.events - row.over <= true_count, "{row:?}");
            assert!(row.over <= total / NAMES_MAX as u64, "{row:?}");
        }
        for (name, count) in exact.iter().filter(|(_, count)| **count > total / NAMES_MAX as u64) {
            assert!(rows.iter().any(|row| *row.name == **name), "{name} with {count}");
        }
        assert_eq!(&*rows[0].name, "name-0");
    }

    #[test]
    fn minutes_are_added_up_and_forgotten() {
        let mut top = Top::default();
        for minute in 0..7 {
            top.add(List::Apps, "Sales", 10, at(60 * minute + 30));
        }
        let row = |events| Row { name: "Sales".into(), events, over: 0 };
        assert_eq!(top.rows(List::Apps, 9), [row(50)]);
        top.advance(at(60 * 9));
        assert_eq!(top.rows(List::Apps, 9), [row(20)]);
        top.advance(at(3_600));
        assert_eq!(top.rows(List::Apps, 9), []);
        assert_eq!(
            [0, 59, 60, 299, 300, 330].map(|s| Top::seconds(at(s))),
            [0, 59, 60, 299, 240, 270]
        );
    }

    #[test]
    fn nothing_is_no_name_and_long_names_are_cut_between_characters() {
        let mut top = Top::default();
        top.add(List::Hosts, "", 1, at(0));
        assert_eq!(top.rows(List::Hosts, 9), []);
        top.add(List::Hosts, &"å".repeat(100), 1, at(0));
        assert_eq!(*top.rows(List::Hosts, 9)[0].name, *"å".repeat(60));
    }

    #[test]
    fn messages_that_say_the_same_are_one() {
        let gists = [
            (
                "Lost the connector on qs-engine2, load of 0e4c1f2a-9b1d-4c3e-8f00-aa11bb22cc33 aborted",
                "Lost the connector on …, load of … aborted",
            ),
            (
                "A chart in 'Sales \"EMEA\"' took longer than 5000 ms",
                "A chart in … took longer than … ms",
            ),
            ("Service can't start; won't retry", "Service can't start; won't retry"),
            ("Förlorade anslutningen", "Förlorade anslutningen"),
            ("it's", "it's"),
            ("", ""),
        ];
        for (message, expected) in gists {
            assert_eq!(gist(message), expected);
        }
    }
}
