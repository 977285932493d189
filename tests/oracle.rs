//! The datagrams that Butler SOS was recorded with, sent to Ringside.
//!
//! In three steps. The model of Butler SOS writes exactly the lines that Butler SOS wrote. The
//! differences, one function each, turn them into the lines that are expected. Ringside writes those
//! lines: in this process, and as a program that receives UDP and sends to every destination.

mod butler_sos;
mod differences;
mod line_protocol;
mod messages;
mod posts;
mod recordings;
mod replay;
mod support;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;
use ringside::deliver::influxdb::encode::{Encoder, EncoderSettings, InfluxVersion};
use ringside::deliver::{Buffer, Encode};
use ringside::enrich::{Enriched, UNKNOWN_APP, UserAgent};
use ringside::event::{Column, Event, Kind, Listener, ParseError, parse};
use ringside::rules::Categories;
use uuid::Uuid;

use butler_sos::{Datagram, Loss, Rules, Version};
use differences::{DIFFERENCES, Expected};
use line_protocol::Line;
use recordings::judging::Judge;
use recordings::{Recording, modelled, rules, unrecorded};
use ringside::observe::ledger::RejectReason;

/// Seed of the changed datagrams: every run has the same ones.
const SEED: u64 = 15;

/// How many mismatches are printed before the rest is only counted.
const SHOWN: usize = 8;

#[test]
fn the_model_writes_what_butler_sos_wrote() {
    let recordings = Recording::all();
    let mut mismatches = Mismatches::default();
    for version in Version::ALL {
        let rules = rules(version);
        for mqtt in [false, true] {
            if version != Version::V1 && !mqtt {
                continue; // Versions 2 and 3 were recorded with MQTT on.
            }
            for recording in &recordings {
                let modelled = recording.modelled(&rules, version, mqtt);
                let lines: Vec<String> = modelled
                    .iter()
                    .flat_map(Expected::points)
                    .map(|point| point.line(version))
                    .collect();
                mismatches.note(
                    recording,
                    version,
                    lines == recording.lines(version, mqtt),
                    || format!("model {lines:#?}\nseen {:#?}", recording.lines(version, mqtt)),
                );
            }
        }
    }
    mismatches.assert_none();
}

#[test]
fn ringside_writes_what_butler_sos_wrote_after_the_differences() {
    let recordings = Recording::all();
    let mut mismatches = Mismatches::default();
    for version in Version::ALL {
        let rules = rules(version);
        for recording in &recordings {
            let modelled = recording.modelled(&rules, version, true);
            let modelled = modelled.map(Expected::with_differences);
            let wanted = lines(modelled.as_ref(), version);
            let got = encoded(&recording.datagram, &rules, version).unwrap_or_default();
            mismatches.note(recording, version, wanted == got, || difference(&wanted, &got));
        }
    }
    mismatches.assert_none();
}

#[test]
fn every_difference_changes_what_is_expected_of_some_datagram() {
    let recordings = Recording::all();
    let unrecorded = unrecorded::all();
    let mut idle: BTreeSet<&str> = DIFFERENCES.iter().map(|(name, _)| *name).collect();
    for version in Version::ALL {
        let rules = rules(version);
        let recorded = recordings.iter().filter_map(|r| r.modelled(&rules, version, true));
        let others =
            unrecorded.iter().filter_map(|(_, d)| modelled(d, &rules, version, vec![], true));
        for mut expected in recorded.chain(others) {
            let mut before = state(&expected);
            for (name, difference) in DIFFERENCES {
                difference(&mut expected);
                let after = state(&expected);
                if after != before {
                    idle.remove(name);
                }
                before = after;
            }
        }
    }
    assert_eq!(idle, BTreeSet::new(), "these change nothing");
}

/// All that a difference may change, as text: unlike numbers, NaN is equal to itself there.
fn state(expected: &Expected<'_>) -> String {
    format!("{:?} {:?} {:?}", expected.point, expected.judged, expected.refused)
}

#[test]
fn datagrams_that_nobody_recorded_become_what_the_model_says_after_the_differences() {
    for version in Version::ALL {
        let rules = rules(version);
        for (name, datagram) in unrecorded::all() {
            assert_as_modelled(name, &datagram, &rules, version);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        rng_seed: RngSeed::Fixed(SEED),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// A recorded datagram with some of its fields replaced, removed or added.
    #[test]
    fn changed_datagrams_become_what_the_model_says_after_the_differences(
        recording in any::<Index>(),
        version in select(&Version::ALL[..]),
        changes in vec((any::<Index>(), change()), 1..4),
    ) {
        static RECORDINGS: LazyLock<Vec<Recording>> = LazyLock::new(Recording::all);
        static RULES: LazyLock<[Rules; 3]> = LazyLock::new(|| Version::ALL.map(rules));

        let mut datagram = recording.get(&RECORDINGS).datagram.clone();
        let mut fields: Vec<Vec<u8>> = datagram.payload.split(|b| *b == b';').map(<[u8]>::to_vec).collect();
        for (at, change) in &changes {
            let at = at.index(fields.len());
            match change {
                Some(text) => fields[at] = text.clone(),
                None => drop(fields.remove(at)),
            }
            if fields.is_empty() {
                fields.push(Vec::new());
            }
        }
        datagram.payload = fields.join(&b';');
        assert_as_modelled("changed", &datagram, &RULES[version as usize], version);
    }
}

/// The new content of a field, or none if the field is to be removed.
fn change() -> impl Strategy<Value = Option<Vec<u8>>> {
    let interesting = select(
        &[
            "",
            "(null)",
            "0",
            "-1",
            "14",
            "-0",
            "1e400",
            "NaN",
            "99999999999999999999",
            "12.5ms",
            "9223372036854775807",
            " 5",
            "\u{A0}5",
            "-5.25e-9",
            "WARN",
            "INFO",
            "undefined",
            "LAB\\",
            "\\",
            "\\\\",
            "a\\,b",
            "a\\ b",
            "a\\=b",
            "a\\'b\\'c",
            "<Unknown>",
            "<\\>",
            "a\\>",
            "LAB\\goran",
            "e7af59a0-c243-480d-9571-08727551a66f",
            "E7AF59A0-C243-480D-9571-08727551A66F",
            "/app/E7AF59A0-C243-480D-9571-08727551A66F/x",
            "app/e7af59a0-c243-480d-9571-08727551a66f",
            "20211109T153726.028-0500",
            "2021-11-09T15:37:26.028Z",
            "2021-11-09 15:37:26,028",
            "2023-02-29T15:37:26.028+01:00",
            "a;b",
            ";",
            "line\nbreak",
            "\"quoted\"",
            "😀",
        ][..],
    );
    prop_oneof![
        8 => interesting.prop_map(|text| Some(text.as_bytes().to_vec())),
        2 => "\\PC{0,8}".prop_map(|text| Some(text.into_bytes())),
        1 => vec(any::<u8>(), 0..12).prop_map(Some),
        1 => (80..1100_usize).prop_map(|n| Some("é😀".repeat(n / 2).into_bytes())),
        1 => Just(None),
    ]
}

fn assert_as_modelled(name: &str, datagram: &Datagram, rules: &Rules, version: Version) {
    let modelled = modelled(datagram, rules, version, vec![], true);
    let modelled = modelled.map(Expected::with_differences);
    let wanted = lines(modelled.as_ref(), version);
    let got = encoded(datagram, rules, version).unwrap_or_default();
    assert!(
        wanted == got,
        "{name}, {version:?}: {:?}\n{}",
        String::from_utf8_lossy(&datagram.payload),
        difference(&wanted, &got)
    );
}

#[test]
fn what_is_no_event_or_not_wanted_is_rejected_for_its_reason() {
    let rules = rules(Version::V1);
    for recording in Recording::all() {
        let mut scratch = Vec::new();
        let got = judged(&recording.datagram, Version::V1, &mut scratch);
        let got = got.map(|(event, _)| event.kind());
        assert_eq!(got, outcome(&recording, &rules), "{}", recording.id);
    }
}

/// The kind of a recorded event, or why it is rejected.
fn outcome(recording: &Recording, rules: &Rules) -> Result<Kind, RejectReason> {
    let payload = &recording.datagram.payload;
    let expected = recording
        .modelled(rules, Version::V1, true)
        .map(Expected::with_differences)
        .filter(|expected| !expected.judged.contains(&Loss::UnknownType));
    let first = payload.split(|byte| *byte == b';').next().unwrap_or_default();
    match expected {
        Some(expected) => match expected.judged.first() {
            None => Ok(expected.event.kind),
            Some(Loss::ExcludedUser) => Err(RejectReason::ExcludedUser),
            Some(Loss::Filtered) => Err(RejectReason::Filter),
            Some(Loss::Dropped) => Err(RejectReason::CategoryDrop),
            Some(other) => panic!("{}: {other:?} is no judgement", recording.id),
        },
        None if payload.is_empty() => Err(ParseError::Empty.into()),
        // What UTF-16 looks like.
        None if first.contains(&0) => Err(ParseError::Malformed.into()),
        None => Err(ParseError::UnknownType.into()),
    }
}

/// What decides, per version.
static JUDGES: LazyLock<[Judge; 3]> = LazyLock::new(|| Version::ALL.map(Judge::new));

/// What Ringside reads from a datagram and decides about it.
fn judged<'a>(
    datagram: &'a Datagram,
    version: Version,
    scratch: &'a mut Vec<u8>,
) -> Result<(Event<'a>, Option<Categories<'static>>), RejectReason> {
    let Judge { rules, names } = &JUDGES[version as usize];
    let event = parse(datagram.listener, &datagram.payload, scratch)?;
    let name = event.uuid(Column::AppId).and_then(|app| names.get(&app));
    let mut categories = Categories::new();
    let categorised = rules.judge(&event, name.map(String::as_str), &mut categories)?.is_some();
    Ok((event, categorised.then_some(categories)))
}

/// The lines that are expected: one or none.
fn expected(modelled: Option<Expected<'_>>, version: Version) -> Vec<Line> {
    lines(modelled.map(Expected::with_differences).as_ref(), version)
}

fn lines(expected: Option<&Expected<'_>>, version: Version) -> Vec<Line> {
    expected.into_iter().flat_map(Expected::points).map(|point| Line::of(point, version)).collect()
}

/// The lines that Ringside's parser, rules and encoder make of a datagram.
fn encoded(
    datagram: &Datagram,
    rules: &Rules,
    version: Version,
) -> Result<Vec<Line>, RejectReason> {
    let mut encoder = Encoder::new(&EncoderSettings {
        version: match version {
            Version::V1 => InfluxVersion::V1,
            Version::V2 => InfluxVersion::V2,
            Version::V3 => InfluxVersion::V3,
        },
        user_tags: rules.static_tags(Listener::UserEvents),
        log_tags: rules.static_tags(Listener::LogEvents),
        tags_as_fields: Vec::new(),
        log_row_tag: false,
        kinds: [true; Kind::COUNT],
    });
    let mut scratch = Vec::new();
    let (event, categories) = judged(datagram, version, &mut scratch)?;
    let user_agent = event.user_agent().and_then(UserAgent::parse);
    let enriched = Enriched {
        app_name: app_name(&event, version),
        user_agent: user_agent.as_ref(),
        categories: categories.as_deref(),
        ..Enriched::plain(&event, 1_700_000_000_000_000_000)
    };
    let mut out = Buffer::default();
    encoder.encode(&enriched, &mut out);
    let text = std::str::from_utf8(&out).expect("lines are UTF-8");
    assert!(text.ends_with('\n') && text.lines().count() == 1, "one event is one line: {text}");
    Ok(Line::read_all(text, version).into_iter().map(|(_, line)| line).collect())
}

/// The name of the app that an event is about, as [`Enriched`] wants it.
fn app_name(event: &Event<'_>, version: Version) -> Option<&'static str> {
    let Judge { rules, names } = &JUDGES[version as usize];
    let known = |app: &Uuid| names.get(app).map(String::as_str);
    let name = match event.kind() {
        Kind::ProxySession | Kind::ProxyConnection => {
            event.context_app_id().map(|app| known(&app).unwrap_or(UNKNOWN_APP))
        }
        _ => event.uuid(Column::AppId).and_then(|app| known(&app)),
    };
    rules.written_app_name(event, name)
}

/// What differs, member by member.
fn difference(wanted: &[Line], got: &[Line]) -> String {
    let ([wanted], [got]) = (wanted, got) else {
        return format!("wanted {wanted:#?}\ngot {got:#?}");
    };
    let mut out = format!("{} / {}\n", wanted.measurement, got.measurement);
    let names: BTreeSet<_> = wanted.tags.keys().chain(got.tags.keys()).collect();
    for name in names {
        let (w, g) = (wanted.tags.get(name), got.tags.get(name));
        if w != g {
            out += &format!("tag {name}\n  wanted {w:?}\n  got    {g:?}\n");
        }
    }
    let names: BTreeSet<_> = wanted.fields.keys().chain(got.fields.keys()).collect();
    for name in names {
        let (w, g) = (wanted.fields.get(name), got.fields.get(name));
        if w != g {
            out += &format!("field {name}\n  wanted {w:?}\n  got    {g:?}\n");
        }
    }
    out
}

/// Recordings for which what came is not what was wanted.
#[derive(Default)]
struct Mismatches {
    equal: [usize; 3],
    ids: Vec<String>,
}

impl Mismatches {
    fn note(
        &mut self,
        recording: &Recording,
        version: Version,
        equal: bool,
        explain: impl FnOnce() -> String,
    ) {
        if equal {
            self.equal[version as usize] += 1;
            return;
        }
        if self.ids.len() < SHOWN {
            eprintln!("--- {} {version:?}\n{}", recording.id, explain());
        }
        self.ids.push(format!("{} {version:?}", recording.id));
    }

    fn assert_none(&self) {
        assert!(
            self.ids.is_empty(),
            "{} equal, not: {:#?}",
            self.equal.iter().sum::<usize>(),
            self.ids
        );
        eprintln!("equal, versions 1 to 3: {:?}", self.equal);
    }
}
