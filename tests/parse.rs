//! The parser and the naive one agree on datagrams of every shape.

mod naive;

use naive::assert_agree;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use ringside::event::{Kind, Listener};

/// Message types: right, nearly right, wrong.
fn source() -> impl Strategy<Value = Vec<u8>> {
    let exact = select(&Kind::ALL[..]).prop_map(|kind| format!("/{}/", kind.name()).into_bytes());
    let nearly = (select(&Kind::ALL[..]), 0..8_usize).prop_map(|(kind, way)| {
        let name = kind.name();
        let text = match way {
            0 => name.to_owned(),
            1 => format!("/{name}"),
            2 => format!("{name}/"),
            3 => format!("//{name}/"),
            4 => format!("/{}/", name.to_uppercase()),
            5 => format!("/{name}/\0"),
            6 => format!("/{}/", name.replace('k', "\u{212A}")),
            _ => format!(" /{name}/"),
        };
        text.into_bytes()
    });
    let wrong = vec(any::<u8>(), 0..30);
    prop_oneof![20 => exact, 3 => nearly, 1 => wrong]
}

/// Fields that mean something to some column.
const INTERESTING: &[&str] = &[
    "",
    "",
    "(null)",
    "0",
    "e7af59a0-c243-480d-9571-08727551a66f",
    "e7af59a0-c243-480d-9571-08727551a66f",
    "E7AF59A0-C243-480D-9571-08727551A66F",
    "00000000-0000-0000-0000-000000000000",
    "e7af59a0c243480d957108727551a66f",
    "{e7af59a0-c243-480d-9571-08727551a66f}",
    "e7af59a0-c243-480d-9571-08727551a66f\n",
    "/app/e7af59a0-c243-480d-9571-08727551a66f/sheet",
    "app/FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    "/app/2c5ea4c0-4067-91e9-8bad-9b1deb4d3b7d",
    "/app/e7af59a0\u{1}-c243-480d-9571-08727551a66f",
    "/app/ééééééééééééééééééé",
    "20211109T153726.028+0200",
    "2021-11-09T15:37:26-05:30",
    "2021-11-09 15:37:26,028",
    "2024-02-29T00:00:00Z",
    "2023-02-29T00:00:00Z",
    "2021-11-09T15:37:26.028+0260",
    "2021-11-09T15:37:26.028123+0200",
    "14",
    "-1",
    "+7",
    " 5",
    "\u{A0}\u{2003}5",
    "\n5",
    "\u{0}5",
    "12abc",
    "1,5",
    ".5",
    "5.",
    "1e",
    "1e3",
    "-.5e-1x",
    "0x10",
    "NaN",
    "-Infinity",
    "1e400",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "99999999999999999999",
    "LAB",
    "goran",
    "LAB\\goran",
    "\\goran",
    "A\\b\\c",
    "a\tb\r\n",
    "tail\u{7F}",
    "C1 \u{85} stays",
];

fn field() -> impl Strategy<Value = Vec<u8>> {
    let interesting = select(INTERESTING).prop_map(|text| text.as_bytes().to_vec());
    // Around every limit, with the last character being one, two or four bytes long.
    let long = (
        select(&[20_usize, 50, 100, 200, 500, 1000][..]),
        0..3_usize,
        select(&["x", "ö", "😀", "\u{1}"][..]),
        select(&["x", "ö", "😀"][..]),
    )
        .prop_map(|(limit, over, fill, last)| {
            format!("{}{last}end", fill.repeat(limit + over - 1)).into_bytes()
        });
    let number = "[ +-]?[0-9]{0,20}[.]?[0-9]{0,20}([eE][+-]?[0-9]{0,3})?";
    let noise = vec(any::<u8>(), 0..20);
    prop_oneof![
        12 => interesting,
        1 => long,
        2 => number.prop_map(String::into_bytes),
        1 => "[0-9]{4}-?[0-9]{2}-?[0-9]{2}[T ][0-2][0-9]:?[0-5][0-9]:?[0-5][0-9]([.,][0-9]{3})?\
              ([+-][0-9]{2}:?[0-9]{2}|Z)?".prop_map(String::into_bytes),
        1 => noise,
    ]
}

/// A type and about as many fields as its layout has columns, or far too many.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let count = prop_oneof![10 => 0..32_usize, 1 => 100..200_usize];
    (source(), count.prop_flat_map(|count| vec(field(), count))).prop_map(|(source, fields)| {
        fields.into_iter().fold(source, |mut line, field| {
            line.push(b';');
            line.extend(field);
            line
        })
    })
}

/// A good event of each kind with separators in free text, which random fields seldom give.
fn nearly_good() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), select(&[";", ";;", "\u{1}", "😀", "", "0"][..]));
    (select(&Kind::ALL[..]), vec(edit, 0..4)).prop_map(|(kind, edits)| {
        let good = match kind.listener() {
            Listener::UserEvents => {
                "host;Open connection;LAB;goran;AppAccess;/app/x;message".into()
            }
            Listener::LogEvents => log_event(kind),
        };
        let mut line = format!("/{}/;{good}", kind.name());
        for (at, text) in edits {
            let at = at.index(line.len());
            if line.is_char_boundary(at) {
                line.insert_str(at, text);
            }
        }
        line.into_bytes()
    })
}

fn log_event(kind: Kind) -> String {
    let id = "e7af59a0-c243-480d-9571-08727551a66f";
    let head = "14;20211109T153726.028+0200;2021-11-09 15:37:26,028;WARN;host;Sub.System;LAB\\svc";
    let tail = match kind {
        Kind::Engine => format!("message;{id};LAB;goran;ts;{id};12.1;ts;System;{id};{id}"),
        Kind::Scheduler => format!("message;exc;LAB;goran;LAB\\goran;task;app;{id};{id};{id}"),
        Kind::QixPerf => format!(
            "{id};LAB;goran;ts;{id};{id};7;Global::OpenApp;12.5;11;0.25;1;0;3;rwPjBk;1;2;barchart"
        ),
        _ => "message;exc;LAB;goran;Open;403;AppAccess;/app/x".into(),
    };
    format!("{head};{tail}")
}

fn agree(payload: &[u8]) {
    for listener in Listener::ALL {
        assert_agree(listener, payload);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn agree_on_structured_datagrams(payload in datagram()) {
        agree(&payload);
    }

    #[test]
    fn agree_on_nearly_good_events(payload in nearly_good()) {
        agree(&payload);
    }

    #[test]
    fn agree_on_noise(payload in vec(any::<u8>(), 0..300)) {
        agree(&payload);
    }
}

#[test]
fn agree_on_the_largest_datagrams() {
    for kind in Kind::ALL {
        for fill in [b';', b'x', b'\x01', b'\xFF', b'0'] {
            let mut payload = format!("/{}/;", kind.name()).into_bytes();
            payload.resize(65_507, fill);
            agree(&payload);
        }
    }
}
