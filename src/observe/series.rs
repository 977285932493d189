//! How many series InfluxDB gets, and which tag multiplies them.
//!
//! A series is a measurement with one set of tags and their values. InfluxDB 1 and 2 keep an index of all
//! series, and a tag with a new value in each event (a message, a time, a number of a row) makes it grow
//! until the server drowns. So distinct sets are counted, and the distinct values of each tag, in sketches
//! (`HyperLogLog`) of fixed size: an estimate, since the start of this process.
//!
//! Shards write and the endpoints read, both without locks: a register only ever rises.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::Serialize;

use super::stats::Named;

/// Bits of a hash that choose a register.
const PRECISION: u32 = 11;

/// Registers of a sketch. The standard error is 1.04 / √2048 = 2.3 %, enough to tell thousands from
/// millions, for 2 KiB.
const REGISTERS: usize = 1 << PRECISION;

/// Bits of a hash that a register counts zeros in.
const COUNTED: usize = 64 - PRECISION as usize;

/// Tags that a warning names at most.
const NAMED_MAX: usize = 4;

/// Estimates how many distinct hashes it has been given.
#[derive(Debug)]
pub struct Sketch(Box<[AtomicU8]>);

impl Default for Sketch {
    fn default() -> Self {
        Self(std::iter::repeat_with(AtomicU8::default).take(REGISTERS).collect())
    }
}

impl Sketch {
    /// Takes a hash, all of whose bits have to depend on all of what is counted.
    pub fn add(&self, hash: u64) {
        let register = &self.0[(hash >> COUNTED) as usize];
        // The last bit set stops the count where the hash ends.
        let counted = (hash << PRECISION) | (1 << (PRECISION - 1));
        let rank = u8::try_from(counted.leading_zeros() + 1).unwrap_or(u8::MAX);
        // Nearly always it is there already, and then nothing has to be written.
        if register.load(Ordering::Relaxed) < rank {
            register.fetch_max(rank, Ordering::Relaxed);
        }
    }

    /// The estimate: Ertl, "New cardinality estimation algorithms for `HyperLogLog` sketches" (2017),
    /// algorithm 6, which needs no tables of corrections.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of registers are small")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above it")]
    pub fn estimate(&self) -> u64 {
        let mut with = [0_u32; COUNTED + 2];
        for register in &self.0 {
            with[usize::from(register.load(Ordering::Relaxed)).min(COUNTED + 1)] += 1;
        }
        let all = REGISTERS as f64;
        let share = |rank: usize| f64::from(with[rank]) / all;
        let mut z = all * tau(1.0 - share(COUNTED + 1));
        for count in with[1..=COUNTED].iter().rev() {
            z = 0.5 * (z + f64::from(*count));
        }
        z += all * sigma(share(0));
        let estimate = all * all / (2.0 * std::f64::consts::LN_2 * z);
        // Neither negative nor beyond 2^64; 0 where z is infinite.
        estimate.round() as u64
    }
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

/// The sketches of one measurement.
#[derive(Debug)]
pub struct Measurement {
    /// Its name.
    pub name: &'static str,
    /// Sets of tags.
    pub sets: Sketch,
    /// Values of each tag, by name.
    pub tags: Vec<(Box<str>, Sketch)>,
}

/// The sketches of all measurements that events go to.
#[derive(Debug, Default)]
pub struct Series(pub Vec<Measurement>);

/// The estimates for one measurement.
#[derive(Clone, Debug, Serialize)]
pub struct SeriesStats {
    /// Series.
    pub series: u64,
    /// Values of each tag, most first.
    pub tags: Named<String, u64>,
}

impl Series {
    /// The estimates for each measurement.
    #[must_use]
    pub fn stats(&self) -> Named<&'static str, SeriesStats> {
        let stats = |measurement: &Measurement| {
            let tags = measurement.tags.iter();
            let mut tags: Vec<_> =
                tags.map(|(name, sketch)| (name.to_string(), sketch.estimate())).collect();
            tags.sort_by_key(|(_, values)| std::cmp::Reverse(*values));
            SeriesStats { series: measurement.sets.estimate(), tags: Named(tags) }
        };
        Named(self.0.iter().map(|measurement| (measurement.name, stats(measurement))).collect())
    }
}

impl SeriesStats {
    /// The tags that multiply the series: the one with the most values, and those that have half as many
    /// or more, since without them the first would be no help (a user's name and the full name).
    fn culprits(&self) -> &[(String, u64)] {
        let tags = &self.tags.0;
        let most = tags.first().map_or(0, |(_, values)| *values);
        let many = tags.iter().take_while(|(_, values)| *values > 1 && *values >= most / 2).count();
        &tags[..many.min(NAMED_MAX)]
    }
}

/// Notices when a measurement gets more series than it should have.
#[derive(Debug)]
pub struct Growth {
    /// Said again when there are as many.
    due: Vec<u64>,
    limit: u64,
}

impl Growth {
    /// Speaks up from `limit` series in a measurement on, and again each time that they have doubled.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { due: Vec::new(), limit }
    }

    /// What is to be said now, a warning for each measurement.
    pub fn look(&mut self, series: &Series) -> Vec<String> {
        self.due.resize(series.0.len(), self.limit);
        let mut warnings = Vec::new();
        for ((name, stats), due) in series.stats().0.iter().zip(&mut self.due) {
            if stats.series >= *due {
                *due = stats.series.saturating_mul(2);
                warnings.push(warning(name, stats, self.limit));
            }
        }
        warnings
    }
}

fn warning(measurement: &str, stats: &SeriesStats, limit: u64) -> String {
    let mut text = format!(
        "InfluxDB gets about {} series of {measurement}, over the {limit} of \
         ringside.influxdb.seriesWarning; each takes memory there",
        stats.series
    );
    let culprits = stats.culprits();
    for (index, (tag, values)) in culprits.iter().enumerate() {
        let before = if index == 0 { "; most are due to" } else { " and" };
        // Writing to a `String` does not fail.
        let _ =
            write!(text, "{before} the tag `{}` with about {values} values", tag.escape_debug());
    }
    if !culprits.is_empty() {
        let names: Vec<_> =
            culprits.iter().map(|(tag, _)| tag.escape_debug().to_string()).collect();
        let _ = write!(
            text,
            "; write it as a field with ringside.tagsAsFields: [{}]",
            names.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash with the quality that is asked for: the finisher of `SplitMix64`.
    fn hash(number: u64) -> u64 {
        let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn filled(numbers: impl Iterator<Item = u64>) -> Sketch {
        let sketch = Sketch::default();
        numbers.for_each(|number| sketch.add(hash(number)));
        sketch
    }

    #[test]
    fn estimates_are_within_four_standard_errors() {
        assert_eq!(Sketch::default().estimate(), 0);
        for start in [0, 1 << 40, 1 << 50] {
            for count in [1_u32, 2, 10, 100, 1000, 3000, 5000, 10_000, 100_000, 1_000_000] {
                let sketch = filled(start + 1..=start + u64::from(count));
                let (found, wanted) = (sketch.estimate(), f64::from(count));
                #[expect(clippy::cast_precision_loss, reason = "far smaller")]
                let error = (found as f64 - wanted).abs() / wanted;
                assert!(error < 4.0 * 0.023, "{found} for {count}");
            }
        }
    }

    #[test]
    fn what_comes_again_does_not_count() {
        let once = filled(0..5000).estimate();
        assert_eq!(filled((0..5000).chain(0..5000).chain(2000..3000)).estimate(), once);
    }

    #[test]
    fn hashes_at_the_ends_have_their_place() {
        let sketch = Sketch::default();
        for hash in [0, 1, u64::MAX, 1 << 63, 1 << 53, (1 << 53) - 1] {
            sketch.add(hash);
        }
        assert!((1..=10).contains(&sketch.estimate()), "{}", sketch.estimate());
    }

    fn measurement(name: &'static str, sets: u64, tags: &[(&str, u64)]) -> Measurement {
        let tags = tags.iter().map(|(tag, values)| ((*tag).into(), filled(0..*values)));
        Measurement { name, sets: filled(0..sets), tags: tags.collect() }
    }

    #[test]
    fn a_warning_names_the_tags_and_comes_again_with_twice_as_many() {
        let few = [("host", 3), ("user_full", 40)];
        let many = [("host", 3), ("user_id", 9_000), ("user_full", 10_000), ("level", 4)];
        let mut growth = Growth::new(5_000);
        let series =
            Series(vec![measurement("few", 100, &few), measurement("many", 10_000, &many)]);
        let warnings = growth.look(&series);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let warning = &warnings[0];
        assert!(warning.contains("series of many, over the 5000 of"), "{warning}");
        assert!(warning.ends_with("ringside.tagsAsFields: [user_full, user_id]"), "{warning}");
        assert!(growth.look(&series).is_empty(), "said already");
        for number in 0..30_000 {
            series.0[1].sets.add(hash(number));
        }
        assert_eq!(growth.look(&series).len(), 1, "more than twice as many");
    }

    #[test]
    fn series_without_a_tag_that_stands_out_are_named_all_the_same() {
        let series = Series(vec![measurement("m", 100, &[])]);
        let warnings = Growth::new(10).look(&series);
        assert!(!warnings[0].contains("tagsAsFields"), "{warnings:?}");
    }
}
