//! Counts the series that events go to, at next to no cost.
//!
//! Nearly every event belongs to a series that has been seen before. Each encoder remembers the hashes of
//! some of them; only an event of another goes on to the sketches (see [`crate::observe::series`]), and only
//! then are its tags looked at one by one. So a site with few series pays for a hash and a comparison
//! per event, and one with too many pays for finding out why.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;

use foldhash::quality::FixedState;

use super::plan::Plan;
use super::values::Values;
use crate::event::Kind;
use crate::observe::series::{Measurement, Series, Sketch};

/// Hashes that an encoder remembers: a few times the series of a usual site, in 8 KiB.
const KNOWN: usize = 1024;

/// One encoder's side of the count.
#[derive(Debug)]
pub(super) struct Guard {
    series: Arc<Series>,
    hasher: FixedState,
    /// Each hash has one place, which the latest takes.
    known: Box<[u64]>,
    /// In the order of [`Kind::ALL`].
    places: Vec<Place>,
}

/// Where a kind's sketches are.
#[derive(Debug)]
struct Place {
    measurement: usize,
    /// For each tag of the plan; `None` for one with a constant value.
    tags: Vec<Option<usize>>,
}

/// Empty sketches for what these plans write.
pub(super) fn series(plans: &[Plan]) -> Series {
    let mut series: Vec<Measurement> = Vec::new();
    for plan in plans {
        let name = plan.measurement;
        if !series.iter().any(|measurement| measurement.name == name) {
            series.push(Measurement { name, sets: Sketch::default(), tags: Vec::new() });
        }
        for measurement in series.iter_mut().filter(|measurement| measurement.name == name) {
            for step in plan.tags.iter().filter(|step| !step.constant) {
                if !measurement.tags.iter().any(|(tag, _)| *tag == step.name) {
                    measurement.tags.push((step.name.clone(), Sketch::default()));
                }
            }
        }
    }
    Series(series)
}

impl Guard {
    /// Counts into `series`, which [`series`] has made for the same plans.
    pub(super) fn new(plans: &[Plan], series: Arc<Series>) -> Self {
        let place = |plan: &Plan| {
            let all = &series.0;
            // One of another plan would be counted nowhere.
            let measurement = all.iter().position(|it| it.name == plan.measurement)?;
            let position =
                |name: &str| all[measurement].tags.iter().position(|(tag, _)| **tag == *name);
            let tags = plan.tags.iter();
            let tags =
                tags.map(|step| if step.constant { None } else { position(&step.name) }).collect();
            Some(Place { measurement, tags })
        };
        let nowhere = || Place { measurement: usize::MAX, tags: Vec::new() };
        let places = plans.iter().map(|plan| place(plan).unwrap_or_else(nowhere)).collect();
        let (hasher, known) = (FixedState::default(), vec![0; KNOWN].into());
        Self { series, hasher, known, places }
    }

    /// Takes an event of which measurement and tags are written as `key`.
    #[inline]
    pub(super) fn note(&mut self, kind: Kind, key: &[u8], plan: &Plan, values: &Values<'_>) {
        let hash = self.hash(key);
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
        let known = &mut self.known[hash as usize % KNOWN];
        if *known != hash {
            *known = hash;
            self.note_series(kind, hash, plan, values);
        }
    }

    #[inline(never)]
    fn note_series(&self, kind: Kind, hash: u64, plan: &Plan, values: &Values<'_>) {
        let place = &self.places[kind as usize];
        let Some(measurement) = self.series.0.get(place.measurement) else { return };
        measurement.sets.add(hash);
        for (step, sketch) in plan.tags.iter().zip(&place.tags) {
            let value = values.get(step.usual.slot).bytes;
            if let Some(sketch) = *sketch
                && !value.is_empty()
            {
                measurement.tags[sketch].1.add(self.hash(value));
            }
        }
    }

    /// The same in all encoders, whose sketches are the same too.
    #[inline]
    fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode::{Encoder, EncoderSettings, InfluxVersion};
    use super::*;
    use crate::deliver::Encode as _;
    use crate::deliver::batch::Buffer;
    use crate::enrich::Enriched;
    use crate::event::{Listener, Payload, parse};

    fn settings(tags_as_fields: &[&str]) -> EncoderSettings {
        EncoderSettings {
            version: InfluxVersion::V1,
            user_tags: vec![("site".into(), "lab".into())],
            log_tags: Vec::new(),
            tags_as_fields: tags_as_fields.iter().map(ToString::to_string).collect(),
            log_row_tag: false,
            kinds: [true; Kind::COUNT],
        }
    }

    /// What two encoders count of sessions of so many users, each twice; the second half goes to the
    /// other encoder.
    fn counted(settings: &EncoderSettings, users: usize) -> (u64, Vec<(String, u64)>) {
        let series = Arc::new(Encoder::new(settings).series());
        let encoder = || Encoder::new(settings).counting(Arc::clone(&series));
        let mut encoders = [encoder(), encoder()];
        let (mut out, mut scratch) = (Buffer::default(), Vec::new());
        for user in (0..users).chain(0..users) {
            let text = format!(
                "/qseow-proxy-session/;pro2-win1;Start session;LAB;user{user};AppAccess;/hub/;hi"
            );
            let payload = Payload::from(text.as_bytes());
            let event = parse(Listener::UserEvents, payload, &mut scratch).expect("an event");
            encoders[usize::from(user >= users / 2)].encode(&Enriched::plain(&event, 7), &mut out);
        }
        let stats = series.stats().0;
        let (_, stats) = stats.iter().find(|(name, _)| *name == "user_events").expect("counted");
        (stats.series, stats.tags.0.clone())
    }

    fn is_about(found: u64, wanted: u64) -> bool {
        found.abs_diff(wanted) * 10 <= wanted
    }

    #[test]
    fn the_tag_that_makes_the_series_has_as_many_values_over_all_encoders() {
        let (series, tags) = counted(&settings(&[]), 3000);
        assert!(is_about(series, 3000), "{series}");
        let values =
            |name: &str| tags.iter().find(|(tag, _)| tag == name).map(|(_, values)| *values);
        assert!(values("userId").is_some_and(|values| is_about(values, 3000)), "{tags:?}");
        assert_eq!(values("host"), Some(1), "{tags:?}");
        assert_eq!(values("site"), None, "a constant is not counted");
    }

    #[test]
    fn a_tag_that_is_a_field_makes_no_series() {
        let (series, tags) = counted(&settings(&["userId", "userFull"]), 500);
        assert_eq!(series, 1, "{tags:?}");
        assert!(tags.iter().all(|(tag, _)| !tag.starts_with("userId")), "{tags:?}");
    }
}
