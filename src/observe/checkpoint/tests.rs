use std::fs;

use super::*;
use crate::observe::ledger::{AssignCounts, DeliverCounts, DropReason, LossReason, ReceiveCounts};

const MARK: SpoolMark = SpoolMark { folder: 9, next: 5, full: 3, expired: 1 };

const NAMES: [&str; 2] = ["influxdb", "new_relic:First \"A\"\n"];

fn ledger() -> Arc<Ledger> {
    Arc::new(Ledger::new(1, 1, &NAMES.map(str::to_owned)))
}

/// 10 datagrams received, 3 of them queued; of 7 events 2 delivered, 1 spooled, 1 refused.
fn busy() -> Arc<Ledger> {
    let ledger = ledger();
    let mut received = ReceiveCounts { received: 10, handed: 3, ..Default::default() };
    received.dropped.add(DropReason::Size, 7);
    ledger.receivers[0][Listener::LogEvents as usize].publish(&received);
    for destination in &ledger.destinations {
        destination.assigned[0].publish(&AssignCounts {
            assigned: 7,
            sent: 5,
            open: 2,
            ..Default::default()
        });
        let mut delivered =
            DeliverCounts { taken: 4, delivered: 2, spooled: 1, settled: 1, ..Default::default() };
        delivered.spool = MARK;
        delivered.lost.add(LossReason::Refused, 1);
        destination.delivered.publish(&delivered);
    }
    ledger
}

/// A run that ends as if killed, or after a clean stop.
fn run(folder: &Path, ledger: &Arc<Ledger>, clean: bool) {
    let checkpoint = Checkpoint::open(folder).expect("nobody else");
    if let Some(last_run) = checkpoint.last_run() {
        last_run.hand_over(ledger);
    }
    let checkpointer = Checkpointer::start(checkpoint, Arc::clone(ledger)).expect("a thread");
    if clean {
        checkpointer.finish();
    } else {
        drop(checkpointer.finish);
        checkpointer.finished.recv().expect("the end of the thread");
    }
}

/// What a run says that the one before had in memory.
fn crashed(ledger: &Ledger) -> (u64, Vec<u64>) {
    let snapshot = ledger.snapshot();
    assert!(snapshot.balanced());
    let destinations = ledger.destinations.iter();
    let listener = &snapshot.listeners[Listener::LogEvents as usize];
    (
        listener.dropped.get(DropReason::Crash),
        destinations.map(|it| it.left.get().map_or(0, |left| left.in_memory)).collect(),
    )
}

#[test]
fn what_was_in_memory_is_counted_once() {
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), &busy(), false);
    let second = ledger();
    run(folder.path(), &second, false);
    assert_eq!(crashed(&second), (3, vec![3, 3]));
    assert_eq!(second.destinations[0].left.get().expect("a record").spool, Some(MARK));
    // The second has not come to opening its spools.
    let third = ledger();
    run(folder.path(), &third, false);
    assert_eq!(crashed(&third), (0, vec![3, 3]));
    assert_eq!(third.destinations[0].left.get().expect("a record").spool, Some(MARK));
    for destination in &third.destinations {
        destination.delivered.publish(&DeliverCounts { settled: 1, ..Default::default() });
    }
    run(folder.path(), &third, false);
    let fourth = ledger();
    run(folder.path(), &fourth, false);
    assert_eq!(crashed(&fourth), (0, vec![0, 0]), "not again");
}

#[test]
fn what_crashed_is_no_part_of_what_is_in_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), &busy(), false);
    let second = busy();
    run(folder.path(), &second, false);
    assert_eq!(crashed(&second), (3, vec![3, 3]));
    let third = ledger();
    run(folder.path(), &third, false);
    assert_eq!(crashed(&third), (3, vec![3, 3]), "only what the second had in memory");
}

#[test]
fn a_destination_that_is_not_configured_any_more_is_not_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), &busy(), false);
    let other = Arc::new(Ledger::new(1, 1, &[NAMES[1].to_owned()]));
    run(folder.path(), &other, false);
    assert_eq!(crashed(&other), (3, vec![3]));
}

#[test]
fn a_clean_stop_is_marked() {
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), &busy(), true);
    let opened = Checkpoint::open(folder.path()).expect("nobody else");
    assert!(opened.previous.expect("a record").stopped);
}

#[test]
fn no_trace_while_nothing_was_received() {
    let folder = tempfile::tempdir().expect("a folder");
    let inner = folder.path().join("spool");
    run(&inner, &ledger(), true);
    run(&inner, &ledger(), false);
    assert!(!inner.exists());
}

#[test]
fn damage_is_no_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(FILE);
    let not_json = {
        let file = File::create(&path).expect("create");
        let mut slots = Slots::new(file, 10, 0).expect("slots");
        slots.write(b"{}").expect("write");
        fs::read(&path).expect("read")
    };
    for content in [&b"garbage"[..], b"", &[0; 8192], &not_json] {
        fs::write(&path, content).expect("write");
        let fresh = ledger();
        run(folder.path(), &fresh, false);
        assert_eq!(crashed(&fresh), (0, vec![0, 0]));
        run(folder.path(), &busy(), false);
        let next = ledger();
        run(folder.path(), &next, false);
        assert_eq!(crashed(&next), (3, vec![3, 3]), "it works again");
    }
}

#[test]
fn one_process_per_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), &busy(), false);
    let first = Checkpoint::open(folder.path()).expect("nobody else");
    let error = Checkpoint::open(folder.path()).expect_err("in use").to_string();
    assert!(error.contains("another ringside") && error.contains("spool.dir"), "{error}");
    drop(first);
    Checkpoint::open(folder.path()).expect("free again");
}

#[test]
fn a_folder_that_cannot_be_written_is_told_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    // A file in the place of the folder: refused whoever runs the test.
    let not_a_folder = folder.path().join("file");
    fs::write(&not_a_folder, "").expect("write");
    let mut writer = Writer {
        checkpoint: Checkpoint::open(&not_a_folder).expect("no failure"),
        slots: None,
        written: None,
        warnings: RateLimited::new(),
        started: Instant::now(),
    };
    let error = writer.update(&busy().snapshot(), false).expect_err("not a folder");
    assert!(error.to_string().contains("spool.dir"), "{error}");
    writer.look(&busy(), false);
}

#[test]
fn equal_totals_are_not_written_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = Writer {
        checkpoint: Checkpoint::open(folder.path()).expect("nobody else"),
        slots: None,
        written: None,
        warnings: RateLimited::new(),
        started: Instant::now(),
    };
    let read = || fs::read(folder.path().join(FILE)).expect("read");
    writer.look(&busy(), false);
    let first = read();
    writer.look(&busy(), false);
    assert_eq!(read(), first);
    writer.look(&ledger(), false);
    assert_ne!(read(), first);
}

#[cfg(unix)]
#[test]
fn the_folder_is_its_owners() {
    use std::os::unix::fs::MetadataExt as _;
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("data/spool");
    run(&folder, &busy(), false);
    for made in [&parent.path().join("data"), &folder] {
        let about = fs::metadata(made).expect("it was made");
        assert_eq!(about.mode() & 0o777, 0o700, "{}", made.display());
    }
    assert_eq!(fs::metadata(folder.join(FILE)).expect("a file").mode() & 0o777, 0o600);
}
