//! Rules of the spool, one by one.

use std::path::Path;
use std::time::Duration;

use super::faults::{FaultyDisk, at_once};
use super::record::HEADER;
use super::{Found, Lost, Settings, Spool, SpoolError, folder};
use crate::observe::ledger::SpoolMark;

pub(super) const FOLDER: &str = "/spool/influxdb-1";

pub(super) fn settings(max_bytes: u64) -> Settings {
    Settings {
        folder: FOLDER.into(),
        destination: "influxdb".into(),
        max_bytes,
        max_age: Duration::from_secs(1000),
    }
}

pub(super) fn open(disk: &FaultyDisk, max_bytes: u64) -> (Spool<FaultyDisk>, Found) {
    at_once(Spool::open(disk.clone(), settings(max_bytes))).unwrap()
}

/// Random letters: what repeats would hardly take room.
pub(super) fn lines(id: u64, events: u32, length: usize) -> String {
    let mut random = fastrand::Rng::with_seed(id);
    let mut line = |number| {
        let text: String = (0..length).map(|_| random.alphanumeric()).collect();
        format!("{id}-{number} {text}\n")
    };
    (0..events).map(&mut line).collect()
}

fn push(spool: &mut Spool<FaultyDisk>, id: u64, events: u32) -> u64 {
    at_once(spool.push(lines(id, events, 100).as_bytes(), events, 1, 1)).unwrap()
}

fn read(spool: &mut Spool<FaultyDisk>) -> Option<(u64, String)> {
    let record = at_once(spool.next(1)).unwrap()?;
    Some((record.sequence, String::from_utf8(record.lines.to_vec()).unwrap()))
}

fn read_all(spool: &mut Spool<FaultyDisk>) -> Vec<u64> {
    std::iter::from_fn(|| read(spool).map(|(sequence, _)| sequence)).collect()
}

fn segments(disk: &FaultyDisk) -> usize {
    let is_segment = |path: &&std::path::PathBuf| path.extension().is_some_and(|e| e == "seg");
    disk.paths().iter().filter(is_segment).count()
}

const MANY: u64 = 1 << 30;

#[test]
fn what_is_written_is_read_in_order_and_removed() {
    let disk = FaultyDisk::new(1);
    let (mut spool, found) = open(&disk, MANY);
    assert_eq!(found, Found { mark: spool.mark(), ..Found::default() });
    assert_eq!(disk.paths(), [] as [&Path; 0], "nothing is made before it is needed");
    assert_eq!((push(&mut spool, 0, 3), push(&mut spool, 1, 2)), (0, 3));
    assert_eq!((spool.events(), spool.unread_events()), (5, 5));
    assert_eq!(read(&mut spool), Some((0, lines(0, 3, 100))));
    assert_eq!((spool.events(), spool.unread_events()), (5, 2));
    spool.unread(0);
    assert_eq!(read_all(&mut spool), [0, 3]);
    push(&mut spool, 2, 1);
    assert_eq!(read(&mut spool), Some((5, lines(2, 1, 100))), "what came meanwhile");
    for sequence in [3, 0, 5] {
        spool.acknowledge(sequence);
    }
    assert_eq!(spool.events(), 0);
    at_once(spool.tend(1)).unwrap();
    assert_eq!(segments(&disk), 1, "it was just written to");
    at_once(spool.tend(1)).unwrap();
    assert_eq!((segments(&disk), spool.bytes()), (0, 0));
    assert_eq!(spool.take_lost(), Lost::default());
}

#[test]
fn a_clean_stop_sends_nothing_twice() {
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = open(&disk, MANY);
    for id in 0..6 {
        push(&mut spool, id, 2);
    }
    assert_eq!(read_all(&mut spool).len(), 6);
    for sequence in [0, 2, 6] {
        spool.acknowledge(sequence);
    }
    at_once(spool.close()).unwrap();
    drop(spool);
    disk.crash();
    let (mut spool, found) = open(&disk, MANY);
    let mark = SpoolMark { next: 12, ..spool.mark() };
    assert_eq!(found, Found { events: 6, torn: 0, mark });
    assert_eq!(read_all(&mut spool), [4, 8, 10]);
    // The notes are gone: from here on a crash sends what is in the segment again.
    drop(spool);
    disk.crash();
    let (mut spool, found) = open(&disk, MANY);
    assert_eq!((found.events, read_all(&mut spool).len()), (12, 6));
    (0..12).step_by(2).for_each(|sequence| spool.acknowledge(sequence));
    at_once(spool.close()).unwrap();
    drop(spool);
    assert_eq!(segments(&disk), 0);
}

#[test]
fn the_oldest_make_room_unless_they_are_being_sent() {
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = open(&disk, 40_000);
    let (first, _) = {
        push(&mut spool, 0, 10);
        read(&mut spool).unwrap()
    };
    for id in 1..200 {
        push(&mut spool, id, 10);
    }
    assert!(spool.bytes() <= 40_000, "{}", spool.bytes());
    assert!(segments(&disk) >= 6, "{}", segments(&disk));
    let lost = spool.take_lost();
    assert_eq!(lost.full + spool.events(), 2000);
    let rest = read_all(&mut spool);
    assert_eq!(spool.unread_events(), 0);
    assert!(rest.is_sorted() && rest[0] > first, "{rest:?}");
    assert_eq!(rest.last(), Some(&1990));
    // Everything is being sent now.
    let full = at_once(spool.push(lines(200, 10, 1000).as_bytes(), 10, 1, 1));
    assert!(matches!(full, Err(SpoolError::Full { limit: 40_000 })), "{full:?}");
    for sequence in rest {
        spool.acknowledge(sequence);
    }
    spool.acknowledge(first);
    assert_eq!(spool.events(), 0);
}

#[test]
fn a_tenth_of_the_free_disk() {
    let disk = FaultyDisk::new(1);
    disk.set_capacity(100_000);
    let (mut spool, _) = open(&disk, MANY);
    for id in 0..100 {
        push(&mut spool, id, 10);
    }
    assert!(spool.bytes() <= 10_000, "{}", spool.bytes());
    assert_eq!(spool.take_lost().full + spool.events(), 1000);
}

#[test]
fn others_that_fill_the_disk_do_not_push_out_what_is_there() {
    let disk = FaultyDisk::new(1);
    disk.set_capacity(100_000);
    let (mut spool, _) = open(&disk, MANY);
    for id in 0..100 {
        push(&mut spool, id, 10);
    }
    let (before, _) = (spool.events(), spool.take_lost());
    disk.set_capacity(usize::try_from(spool.bytes()).unwrap() + 2_000);
    for id in 100..104 {
        push(&mut spool, id, 10);
    }
    // Room for the new ones is made segment by segment, an eighth of the spool each.
    assert!(spool.events() > before / 2, "{} of {before}", spool.events());
    // However many come: what gives way makes room for them, not for others.
    for id in 104..200 {
        push(&mut spool, id, 10);
    }
    assert!(spool.events() > before / 2, "{} of {before}", spool.events());
    assert_eq!(spool.take_lost().full + spool.events(), before + 1000);
}

#[test]
fn a_full_disk_loses_nothing_that_is_there() {
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = open(&disk, MANY);
    push(&mut spool, 0, 10);
    disk.set_capacity(disk.length(&Path::new(FOLDER).join("0000000000000000.seg")) + 200);
    let refused = at_once(spool.push(lines(1, 10, 100).as_bytes(), 10, 1, 1));
    assert!(matches!(refused, Err(SpoolError::Io { .. })), "{refused:?}");
    disk.set_capacity(1 << 20);
    assert_eq!(push(&mut spool, 2, 10), 10, "in the place of the one that did not fit");
    assert_eq!(read(&mut spool), Some((0, lines(0, 10, 100))));
    assert_eq!(read(&mut spool), Some((10, lines(2, 10, 100))));
    assert_eq!(spool.take_lost(), Lost::default());
}

#[test]
fn what_is_too_old_goes() {
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = open(&disk, MANY);
    let second = 1_000_000_000;
    let push_at = |spool: &mut Spool<_>, at: u64| {
        at_once(spool.push(b"a\nb\n", 2, at * second, at * second)).unwrap()
    };
    push_at(&mut spool, 10);
    push_at(&mut spool, 500);
    // Records that are read are looked at one by one,
    let record = at_once(spool.next(1011 * second)).unwrap().unwrap();
    assert_eq!((record.sequence, spool.take_lost()), (2, Lost { expired: 2, ..Lost::default() }));
    spool.unread(2);
    // and segments as a whole.
    at_once(spool.tend(1499 * second)).unwrap();
    assert_eq!(spool.events(), 2);
    at_once(spool.tend(1501 * second)).unwrap();
    assert_eq!((spool.events(), segments(&disk)), (0, 0));
    assert_eq!(spool.take_lost(), Lost { expired: 2, ..Lost::default() });
}

/// After a restart nobody knows how old the events of a segment are, but when it was written.
#[test]
fn a_segment_is_as_old_as_its_file() {
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = open(&disk, MANY);
    let second = 1_000_000_000;
    disk.set_now(500 * second);
    push(&mut spool, 0, 2);
    at_once(spool.close()).unwrap();
    drop(spool);
    let (mut spool, _) = open(&disk, MANY);
    at_once(spool.tend(1499 * second)).unwrap();
    assert_eq!(spool.events(), 2);
    at_once(spool.tend(1501 * second)).unwrap();
    assert_eq!((spool.take_lost().expired, segments(&disk)), (2, 0));
}

#[test]
fn one_process_at_a_time() {
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = open(&disk, MANY);
    push(&mut spool, 0, 1);
    let second = at_once(Spool::open(disk.clone(), settings(MANY)));
    assert!(matches!(second, Err(SpoolError::Locked { .. })));
    at_once(spool.close()).unwrap();
    drop(spool);
    assert_eq!(open(&disk, MANY).1.events, 1);
}

/// Both begin before there is a folder. What the first one has numbered is not numbered again, whether
/// it is still there or done with.
#[test]
fn one_process_after_another_in_a_folder_that_was_not_there() {
    for all_done in [false, true] {
        let disk = FaultyDisk::new(1);
        let [(mut first, _), (mut second, _)] = [open(&disk, MANY), open(&disk, MANY)];
        push(&mut first, 0, 3);
        if all_done {
            read(&mut first).unwrap();
            first.acknowledge(0);
        }
        at_once(first.close()).unwrap();
        drop(first);
        for _ in 0..2 {
            let refused = at_once(second.push(b"a\n", 1, 1, 1));
            assert!(matches!(refused, Err(SpoolError::Locked { .. })), "{refused:?}");
        }
        let (_, found) = open(&disk, MANY);
        assert_eq!((found.events, found.mark.next), (if all_done { 0 } else { 3 }, 3));
    }
}

/// What fails on the way in does not lock this process out.
#[test]
fn moving_in_may_be_tried_again() {
    for step in 0..12 {
        let disk = FaultyDisk::new(1);
        let (mut spool, _) = open(&disk, MANY);
        disk.fail_in(Some(step));
        if at_once(spool.push(b"a\n", 1, 1, 1)).is_err() {
            disk.fail_in(None);
            at_once(spool.push(b"a\n", 1, 1, 1)).unwrap();
        }
        assert_eq!(spool.events(), 1, "step {step}");
    }
}

#[test]
fn what_was_dropped_is_known_to_the_next_start() {
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = open(&disk, 2000);
    let mut lost = 0;
    // Killed after each step of dropping a segment: whether the file is there says whether it counts.
    for id in 0..60 {
        let before = spool.mark();
        disk.fail_in(Some(u32::try_from(id % 9).unwrap()));
        let pushed = at_once(spool.push(lines(id, 3, 100).as_bytes(), 3, 1, 1));
        lost += spool.take_lost().full;
        drop(spool);
        disk.kill();
        let (opened, found) = open(&disk, 2000);
        spool = opened;
        let mark = found.mark;
        assert_eq!(mark.full, lost, "step {id}");
        assert!(mark.next >= before.next, "numbers are not used again");
        assert_eq!(mark.next, found.events + lost, "step {id}: {pushed:?}");
    }
    assert!(lost > 30, "{lost}");
    assert_eq!(
        disk.paths().iter().filter(|path| path.extension().is_some_and(|it| it == "gone")).count(),
        1
    );
}

/// Every byte at which the last record can be torn.
#[test]
fn torn_at_each_byte() {
    let whole = {
        let disk = FaultyDisk::new(1);
        let (mut spool, _) = open(&disk, MANY);
        push(&mut spool, 0, 2);
        let before = spool.bytes();
        push(&mut spool, 1, 3);
        usize::try_from(spool.bytes() - before).unwrap()
    };
    for torn in 0..=whole {
        let disk = FaultyDisk::new(torn as u64);
        let (mut spool, _) = open(&disk, MANY);
        push(&mut spool, 0, 2);
        at_once(spool.tend(1)).unwrap();
        push(&mut spool, 1, 3);
        drop(spool);
        disk.crash_torn(|_| torn);
        let (mut spool, found) = open(&disk, MANY);
        let mark = |next| SpoolMark { next, ..spool.mark() };
        let expected = match torn {
            _ if torn == whole => Found { events: 5, torn: 0, mark: mark(5) },
            HEADER.. => Found { events: 2, torn: 3, mark: mark(2) },
            _ => found, // Part of a header, or that and zeros.
        };
        assert_eq!(found, expected, "{torn} bytes");
        assert_eq!(read(&mut spool), Some((0, lines(0, 2, 100))), "{torn} bytes");
        let next = push(&mut spool, 2, 1);
        assert_eq!(next, found.events);
        assert_eq!(read_all(&mut spool).last(), Some(&next));
        assert_eq!(spool.take_lost(), Lost::default());
    }
}

/// What a failed append has left is read together with what is whole, and then written over.
#[test]
fn a_torn_append_does_not_hide_the_next() {
    for seed in 0..20 {
        let disk = FaultyDisk::new(seed);
        let (mut spool, _) = open(&disk, MANY);
        push(&mut spool, 0, 2);
        disk.fail_in(Some(0));
        at_once(spool.push(lines(1, 20, 100).as_bytes(), 20, 1, 1)).unwrap_err();
        assert_eq!(read_all(&mut spool), [0]);
        push(&mut spool, 2, 2);
        assert_eq!((read_all(&mut spool), spool.take_lost()), (vec![2], Lost::default()));
    }
}

/// What a sync could not write, the system may forget: the next says that it worked.
#[test]
fn a_sync_that_failed_is_not_repeated() {
    for power_off in [false, true] {
        let disk = FaultyDisk::new(1);
        let (mut spool, _) = open(&disk, MANY);
        push(&mut spool, 0, 2);
        disk.fail_in(Some(0));
        assert!(at_once(spool.tend(1)).is_err());
        assert_eq!(push(&mut spool, 1, 3), 2);
        at_once(spool.tend(1)).unwrap();
        assert_eq!(segments(&disk), 2, "what comes goes to another file");
        drop(spool);
        if power_off {
            disk.crash_torn(|_| 0);
        } else {
            disk.kill();
        }
        let (mut spool, found) = open(&disk, MANY);
        assert_eq!((found.events, found.torn), (5, 0));
        let damaged = if power_off { 2 } else { 0 };
        assert_eq!(read_all(&mut spool).len(), if power_off { 1 } else { 2 });
        assert_eq!(spool.take_lost(), Lost { damaged, ..Lost::default() }, "counted");
    }
}

/// A bit anywhere in a segment costs the events of its record and no others.
#[test]
fn each_bit_flipped() {
    let sealed = Path::new(FOLDER).join("0000000000000000-0000000000000006.seg");
    let prepare = || {
        let disk = FaultyDisk::new(1);
        let (mut spool, _) = open(&disk, MANY);
        for (id, events) in [(0, 1), (1, 2), (2, 3)] {
            at_once(spool.push(lines(id, events, 1).as_bytes(), events, 1, 1)).unwrap();
        }
        at_once(spool.close()).unwrap();
        drop(spool);
        disk
    };
    for bit in 0..prepare().length(&sealed) * 8 {
        let disk = prepare();
        disk.flip(&sealed, bit);
        let (mut spool, found) = open(&disk, MANY);
        assert_eq!(found.events, 6);
        let mut left: Vec<u64> = vec![0, 1, 3];
        let read = read_all(&mut spool);
        let lost = spool.take_lost();
        let before = left.len();
        left.retain(|sequence| read.contains(sequence));
        assert_eq!(read, left, "bit {bit}");
        assert!(before - read.len() <= 1, "bit {bit}");
        let events: u64 = read
            .iter()
            .map(|sequence| match sequence {
                0 => 1,
                1 => 2,
                _ => 3,
            })
            .sum();
        assert_eq!(lost, Lost { damaged: 6 - events, ..Lost::default() }, "bit {bit}");
    }
}

#[test]
fn nothing_in_a_name_is_a_path() {
    let dir = Path::new("/spool");
    let path = folder(dir, "new_relic:../../etc/passwd\n", "https://a");
    assert_eq!(path.parent(), Some(dir));
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("new_relic-") && name.len() == 26, "{name}");
    let others = [("new_relic:b", "https://a"), ("new_relic:../../etc/passwd\n", "https://b")];
    assert!(others.iter().all(|(name, identity)| folder(dir, name, identity) != path));
    assert_ne!(folder(dir, "ab", "c"), folder(dir, "a", "bc"), "kept apart");
}
