//! Any bytes as a segment of a spool: no panic, and what is found holds together. The same bytes
//! behind a whole record never hide it, nor change it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringside::deliver::spool::record::{self, BODY_MAX, HEADER, Header};
use ringside::deliver::spool::segment::{self, PREFIX, Walk};

fuzz_target!(|bytes: &[u8]| {
    let _ = segment::newer_version(bytes);
    if let Ok(name) = std::str::from_utf8(bytes)
        && let Some((first, end)) = segment::parse_name(name)
    {
        assert_eq!(segment::name(first, end), name, "one name, one segment");
    }
    walk(bytes, 0..u64::MAX);
    walk(bytes, 3..1000);
    // What is behind a checksum, as a faulty disk would hardly give it.
    if let Some((events, payload)) = bytes.split_first()
        && let Some(body) = record::decode(payload, u32::from(*events))
    {
        assert_eq!(lines(&body.lines), usize::from(*events));
    }
    behind_a_record(bytes);
});

fn lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

fn walk(bytes: &[u8], sequences: std::ops::Range<u64>) {
    let mut walk = Walk::new(bytes, PREFIX, sequences.clone());
    let (mut at, mut next) = (PREFIX, sequences.start);
    for found in walk.by_ref() {
        let header = found.header;
        assert!(found.payload.start >= at + HEADER, "records do not overlap");
        assert!(header.sequence >= next && header.end() <= sequences.end, "events are numbered on");
        let whole = &bytes[found.payload.start - HEADER..found.payload.end];
        assert!(header.matches(whole));
        if let Some(body) = record::decode(&bytes[found.payload.clone()], header.events) {
            assert!(body.lines.len() <= BODY_MAX);
            assert_eq!(lines(&body.lines), header.events as usize);
        }
        (at, next) = (found.payload.end, header.end());
    }
    assert!(walk.at() <= bytes.len());
    let _ = walk.claimed();
}

fn behind_a_record(bytes: &[u8]) {
    let written = record::encode(7, 1, 9, b"one\n").expect("a short body");
    let segment = [&segment::prefix(), &*written, bytes].concat();
    let first = Walk::new(&segment, PREFIX, 7..u64::MAX).next().expect("the record");
    assert_eq!((first.header.sequence, first.header.events), (7, 1));
    assert_eq!(Header::read(&written), Some(first.header));
    let body = record::decode(&segment[first.payload], 1).expect("its body");
    assert_eq!((body.oldest_ns, &body.lines[..]), (9, &b"one\n"[..]));
}
