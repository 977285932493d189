//! From batches to files, over failures and ends of all sorts. Files are read back with the Parquet
//! library's reader; `tests/archive.rs` reads them with one that is not ours.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use tokio::sync::{mpsc, watch};

use super::files::{self, Name, Partition, Retention};
use super::record::Encoder;
use super::stage::{Parts, Roll, run};
use super::writer::Writer;
use crate::deliver::batch::{Batch, BatchSender, Buffer, queue};
use crate::deliver::clock::SystemClock;
use crate::deliver::disk::{PlainDisk, PlainFile};
use crate::deliver::spool::{self, inspect};
use crate::deliver::{Disk, Encode, Listed, Spooling, Storage};
use crate::enrich::Enriched;
use crate::event::{Kind, parse};
use crate::observe::ledger::{DeliverCounts, DestinationLedger, Ledger, LossReason};

const DEADLINE: Duration = Duration::from_secs(20);
const DAY_NS: u64 = 86_400_000_000_000;
/// 2023-11-14, shortly before midnight.
const START_NS: u64 = 19_675 * DAY_NS + DAY_NS - 10;

/// An archive, its staging and what one run after the other counts.
struct World {
    folder: tempfile::TempDir,
    roll: Roll,
    max_bytes: u64,
    disk: CrowdedDisk,
}

/// A real disk that others fill when the test says so.
#[derive(Clone, Debug, Default)]
struct CrowdedDisk {
    /// It says that nothing is free.
    is_full: Arc<AtomicBool>,
    /// What is appended does not fit.
    refuses: Arc<AtomicBool>,
}

impl Disk for CrowdedDisk {
    type File = PlainFile;

    async fn open_append(&self, path: &Path) -> io::Result<PlainFile> {
        PlainDisk.open_append(path).await
    }

    async fn append(&self, file: &mut PlainFile, bytes: Bytes) -> io::Result<()> {
        if self.refuses.load(Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        PlainDisk.append(file, bytes).await
    }

    async fn sync(&self, file: &mut PlainFile) -> io::Result<()> {
        PlainDisk.sync(file).await
    }
}

impl Storage for CrowdedDisk {
    type Lock = File;

    async fn create(&self, path: &Path) -> io::Result<PlainFile> {
        PlainDisk.create(path).await
    }

    async fn read(&self, path: &Path, from: u64, most: usize) -> io::Result<Bytes> {
        PlainDisk.read(path, from, most).await
    }

    async fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        PlainDisk.truncate(path, length).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        PlainDisk.remove(path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        PlainDisk.rename(from, to).await
    }

    async fn create_folder(&self, path: &Path) -> io::Result<()> {
        PlainDisk.create_folder(path).await
    }

    async fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        PlainDisk.list(folder).await
    }

    async fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        PlainDisk.sync_folder(folder).await
    }

    async fn lock(&self, path: &Path) -> io::Result<File> {
        PlainDisk.lock(path).await
    }

    async fn free(&self, folder: &Path) -> io::Result<Option<u64>> {
        if self.is_full.load(Relaxed) { Ok(Some(0)) } else { PlainDisk.free(folder).await }
    }
}

/// One run.
struct Life {
    sender: BatchSender,
    ledger: Arc<DestinationLedger>,
    give_up: watch::Sender<bool>,
    thread: std::thread::JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        let roll = Roll { interval: Duration::from_hours(1), bytes: u64::MAX };
        let (folder, disk) = (tempfile::tempdir().unwrap(), CrowdedDisk::default());
        Self { folder, roll, max_bytes: 1 << 30, disk }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    fn staging(&self) -> PathBuf {
        self.folder.path().join("spool/archive-1")
    }

    fn begin(&self) -> Life {
        let (mut senders, receiver) = queue(1);
        let ledger = Ledger::new(1, 1, &["archive".into()]);
        let ledger = Arc::clone(&ledger.destinations[0]);
        let (give_up, over) = watch::channel(false);
        let staging = Spooling {
            disk: self.disk.clone(),
            settings: spool::Settings {
                folder: self.staging(),
                destination: "archive".into(),
                max_bytes: self.max_bytes,
                max_age: Duration::from_hours(24 * 36_500),
            },
            sync_interval: Duration::from_millis(20),
            strict: false,
            always: false,
        };
        let keep = Retention { max_age: Duration::from_hours(24 * 36_500), max_bytes: u64::MAX };
        let writer = Writer::new(self.dir(), keep);
        let (roll, counted) = (self.roll, Arc::clone(&ledger));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let clock = &SystemClock::new();
            let parts = Parts { ledger: counted, receiver, clock, staging, roll, writer };
            runtime.unwrap().block_on(run(parts, over, |_, _| ()));
        });
        Life { sender: senders.remove(0), ledger, give_up, thread }
    }

    /// How often each event is in the archive, by receive time, and where.
    fn archived(&self) -> BTreeMap<u64, Vec<(Kind, String)>> {
        let mut events: BTreeMap<u64, Vec<(Kind, String)>> = BTreeMap::new();
        for file in files::list(&self.dir()).unwrap() {
            let reader = SerializedFileReader::new(File::open(&file.path).unwrap()).unwrap();
            for row in reader.get_row_iter(None).unwrap() {
                let row = row.unwrap();
                let ns = row.get_column_iter().find(|(name, _)| *name == "received_ns").unwrap();
                let Field::Long(ns) = ns.1 else { panic!("{ns:?}") };
                let place = (file.partition.kind(), file.partition.date());
                events.entry(u64::try_from(*ns).unwrap()).or_default().push(place);
            }
        }
        events
    }

    fn staged(&self) -> u64 {
        let folders = inspect::folders(self.staging().parent().unwrap()).unwrap();
        folders.iter().map(|folder| folder.events).sum()
    }

    /// Every one of the first `count` events is there exactly once.
    fn assert_whole(&self, count: u64) {
        let archived = self.archived();
        let numbers: Vec<u64> = archived.keys().map(|ns| ns - START_NS).collect();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        for (ns, places) in archived {
            let date = if ns < 19_676 * DAY_NS { "2023-11-14" } else { "2023-11-15" };
            assert_eq!(places, [(kind(ns - START_NS), date.to_owned())], "{}", ns - START_NS);
        }
    }
}

impl Life {
    /// Events `from` to before `to`, in one batch.
    fn send(&self, from: u64, to: u64) {
        let mut out = Buffer::default();
        for number in from..to {
            let payload = format!("/{}/;{number};;;WARN;host;s;w;message", kind(number).name());
            let mut scratch = Vec::new();
            let event = parse(kind(number).listener(), payload.as_bytes(), &mut scratch).unwrap();
            Encoder.encode(&Enriched::plain(&event, START_NS + number), &mut out);
        }
        let events = u32::try_from(to - from).unwrap();
        let oldest_ns = START_NS + from;
        let batch = Batch { bytes: out.freeze(), events, oldest_ns, shard: 0 };
        self.sender.try_send(batch).unwrap();
    }

    fn wait(&self, what: &str, condition: impl Fn(&DeliverCounts) -> bool) -> DeliverCounts {
        self.wait_shown(what, |counts, _| condition(counts))
    }

    /// Waits for counts and the last error.
    fn wait_shown(
        &self,
        what: &str,
        condition: impl Fn(&DeliverCounts, Option<&str>) -> bool,
    ) -> DeliverCounts {
        let start = std::time::Instant::now();
        loop {
            let (error, counts) = (self.ledger.last_error.get(), self.ledger.delivered.read());
            if condition(&counts, error.as_deref()) {
                return counts;
            }
            assert!(start.elapsed() < DEADLINE, "{what}: {counts:?}, {error:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The queue ends.
    fn end(self) -> DeliverCounts {
        drop(self.sender);
        self.thread.join().unwrap();
        self.ledger.delivered.read()
    }

    /// Ends without completing anything: what is staged stays so.
    fn cut_off(self) -> DeliverCounts {
        self.give_up.send_replace(true);
        self.thread.join().unwrap();
        self.ledger.delivered.read()
    }
}

/// Kinds take turns.
fn kind(number: u64) -> Kind {
    [Kind::Engine, Kind::Proxy, Kind::QixPerf][usize::try_from(number % 3).unwrap()]
}

#[test]
fn at_the_end_everything_is_in_files() {
    let world = World::new();
    let life = world.begin();
    life.send(0, 100);
    life.send(100, 150);
    let counts = life.end();
    assert_eq!((counts.delivered, counts.spooled, counts.held), (150, 0, 0));
    assert!(counts.bytes > 0);
    world.assert_whole(150);
    assert_eq!(files::list(&world.dir()).unwrap().len(), 6, "three kinds on two days");
    assert_eq!(world.staged(), 0);
    assert_eq!(fs::read_dir(world.dir().join(files::UNFINISHED)).unwrap().count(), 0);
}

#[test]
fn files_are_completed_in_time_and_by_size() {
    let mut world = World::new();
    world.roll.interval = Duration::from_millis(30);
    let life = world.begin();
    life.send(0, 10);
    life.wait("time", |counts| counts.delivered == 10);
    world.assert_whole(10);
    life.send(10, 20);
    life.wait("time again", |counts| counts.delivered == 20);
    life.end();

    world.roll = Roll { interval: Duration::from_hours(1), bytes: 2000 };
    let life = world.begin();
    life.send(20, 30);
    life.wait("staged", |counts| counts.spooled == 10);
    life.send(30, 3000);
    life.wait("size", |counts| counts.delivered == 2980);
    life.end();
    world.assert_whole(3000);
}

#[test]
fn what_is_staged_is_archived_by_the_next_run() {
    let world = World::new();
    let life = world.begin();
    life.send(0, 100);
    life.wait("staged", |counts| counts.spooled == 100);
    let counts = life.cut_off();
    assert_eq!((counts.delivered, counts.spooled), (0, 100));
    assert!(files::list(&world.dir()).unwrap().is_empty());
    assert_eq!(world.staged(), 100);

    let life = world.begin();
    life.send(100, 110);
    let counts = life.end();
    assert_eq!((counts.found, counts.taken, counts.delivered), (100, 10, 110));
    world.assert_whole(110);
}

/// The folder of a kind cannot be made: of a round, some files are there and others are not.
fn in_the_way(world: &World, kind: Kind) -> PathBuf {
    fs::create_dir_all(world.dir()).unwrap();
    let path = world.dir().join(format!("kind={}", kind.name()));
    fs::write(&path, "in the way").unwrap();
    path
}

/// A life that has nine events, of which those before the obstacle are in files.
fn half_way() -> (World, Life, PathBuf) {
    let mut world = World::new();
    world.roll.interval = Duration::from_millis(10);
    let obstacle = in_the_way(&world, Kind::Proxy);
    let life = world.begin();
    life.send(0, 9);
    life.wait("a failure", |counts| counts.retries > 0);
    assert!(!world.archived().is_empty(), "the engine's come first");
    (world, life, obstacle)
}

#[test]
fn a_round_that_failed_half_way_is_completed_without_a_double() {
    let (world, life, obstacle) = half_way();
    let error = life.ledger.last_error.get().unwrap();
    assert!(error.contains("kind=qseow-proxy"), "{error}");
    assert!(life.ledger.delivered.read().delivered == 0);
    life.send(9, 18);
    fs::remove_file(obstacle).unwrap();
    life.wait("all", |counts| counts.delivered == 18);
    assert_eq!(life.ledger.last_error.get(), None);
    world.assert_whole(18);
    life.end();
}

#[test]
fn nor_does_the_next_run_make_doubles() {
    let (world, life, obstacle) = half_way();
    let counts = life.end();
    assert_eq!((counts.delivered, counts.spooled), (0, 9), "kept for the next run");
    fs::remove_file(obstacle).unwrap();
    let counts = world.begin().end();
    assert_eq!((counts.found, counts.delivered), (9, 9));
    world.assert_whole(9);
}

#[test]
fn staging_that_forgot_its_numbers_loses_nothing() {
    let world = World::new();
    let life = world.begin();
    life.send(0, 30);
    life.end();
    // Fewer events than it had, and so many at once that the numbers are beyond those in files.
    for events in [30..40, 40..140] {
        // As after a restore from a backup: the number is there, and what was counted is not.
        for entry in fs::read_dir(world.staging()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap() != "archive-id" {
                fs::remove_file(path).unwrap();
            }
        }
        let life = world.begin();
        life.send(events.start, events.end);
        assert_eq!(life.end().delivered, events.end - events.start);
        world.assert_whole(events.end);
    }
}

#[test]
fn lines_that_cannot_be_read_are_counted() {
    let world = World::new();
    let life = world.begin();
    life.send(0, 3);
    let bytes = Bytes::from_static(b"9 of a newer version\n");
    life.sender.try_send(Batch { bytes, events: 1, oldest_ns: START_NS, shard: 0 }).unwrap();
    let counts = life.end();
    assert_eq!((counts.delivered, counts.lost.get(LossReason::Refused)), (3, 1));
    world.assert_whole(3);
}

#[test]
fn staging_that_fills_up_ends_the_round() {
    let mut world = World::new();
    world.max_bytes = 200_000;
    let life = world.begin();
    for batch in 0..200 {
        // Times that do not compress well.
        life.wait("room", |counts| counts.held == 0);
        life.send(batch * 200, batch * 200 + 200);
        life.wait("taken", |counts| counts.taken == (batch + 1) * 200);
    }
    let counts = life.end();
    assert_eq!(counts.lost.get(LossReason::SpoolFull), 0, "{counts:?}");
    world.assert_whole(40_000);
    assert!(rounds(&world.dir()) > 1);
}

/// Rounds that made files.
fn rounds(dir: &Path) -> usize {
    let files = files::list(dir).unwrap();
    files.iter().map(|file| file.name.first).collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn a_disk_that_takes_nothing_costs_what_is_held() {
    let world = World::new();
    fs::write(world.folder.path().join("spool"), "in the way").unwrap();
    let life = world.begin();
    life.send(0, 5);
    life.send(5, 9);
    life.wait("taken", |counts| counts.taken > 0);
    let counts = life.cut_off();
    assert_eq!((counts.lost.get(LossReason::Shutdown), counts.held), (9, 0));
}

fn says_spool(error: Option<&str>) -> bool {
    error.is_some_and(|error| error.starts_with("the spool: "))
}

#[test]
fn a_disk_without_room_costs_nothing_and_is_shown() {
    let world = World::new();
    world.disk.is_full.store(true, Relaxed);
    let life = world.begin();
    life.send(0, 5);
    life.send(5, 9);
    let counts = life.wait_shown("an error", |_, error| says_spool(error));
    assert_eq!((counts.lost.sum(), counts.spooled), (0, 0), "{counts:?}");
    assert!(counts.held > 0, "{counts:?}");
    world.disk.is_full.store(false, Relaxed);
    life.wait_shown("room", |counts, error| counts.spooled == 9 && error.is_none());
    assert_eq!(life.end().delivered, 9);
    world.assert_whole(9);
}

#[test]
fn staging_that_takes_nothing_does_not_keep_the_round_open() {
    let mut world = World::new();
    world.roll.interval = Duration::from_millis(500);
    let life = world.begin();
    life.send(0, 9);
    life.wait("staged", |counts| counts.spooled == 9);
    world.disk.refuses.store(true, Relaxed);
    life.send(9, 12);
    life.wait_shown("a round", |counts, error| counts.delivered == 9 && says_spool(error));
    world.assert_whole(9);
    world.disk.refuses.store(false, Relaxed);
    life.wait_shown("the rest", |counts, error| counts.delivered == 12 && error.is_none());
    world.assert_whole(12);
    life.end();
}

#[test]
fn a_backlog_is_archived_in_few_rounds() {
    let mut world = World::new();
    world.max_bytes = 200_000;
    fs::write(world.dir(), "in the way").unwrap();
    let life = world.begin();
    let mut sent = 0;
    while life.ledger.delivered.read().spool_bytes < 150_000 {
        life.send(sent, sent + 200);
        sent += 200;
        life.wait("staged", |counts| counts.spooled == sent);
    }
    life.cut_off();
    fs::remove_file(world.dir()).unwrap();
    let life = world.begin();
    life.wait("half of it", |counts| counts.delivered >= sent / 2);
    assert_eq!(life.end().delivered, sent);
    world.assert_whole(sent);
    assert!(sent / 200 > 20, "many batches");
    assert!(rounds(&world.dir()) <= 4, "{}", rounds(&world.dir()));
}

#[test]
fn an_outage_that_is_over_is_no_error_and_a_stop_completes_the_files() {
    let world = World::new();
    fs::write(world.dir(), "in the way").unwrap();
    let life = world.begin();
    life.send(0, 9);
    life.wait_shown("a failure", |counts, error| counts.retries > 0 && error.is_some());
    fs::remove_file(world.dir()).unwrap();
    life.wait_shown("no error", |_, error| error.is_none());
    let counts = life.end();
    assert_eq!((counts.delivered, counts.spooled), (9, 0));
    world.assert_whole(9);
}

#[test]
fn a_stop_tries_once_more() {
    let (world, life, obstacle) = half_way();
    fs::remove_file(obstacle).unwrap();
    let counts = life.end();
    assert_eq!((counts.delivered, counts.spooled), (9, 0));
    world.assert_whole(9);
}

/// Makes a file of the archive's that is not looked into.
fn old_file(dir: &Path, received_ns: u64) -> PathBuf {
    let folder = dir.join(Partition::of(Kind::Engine, received_ns).folder());
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(Name::new(received_ns, 1, &(0..1)).to_string());
    fs::write(&path, vec![0; 10]).unwrap();
    path
}

#[test]
fn old_files_are_removed_at_the_start() {
    let world = World::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now_ns = u64::try_from(now.as_nanos()).unwrap();
    let [old, young] = [3, 0].map(|days| old_file(&world.dir(), now_ns - days * DAY_NS));
    let keep = Retention { max_age: Duration::from_hours(24), max_bytes: u64::MAX };
    let (_, commands) = mpsc::channel(1);
    let (answers, _received) = mpsc::unbounded_channel();
    Writer::new(world.dir(), keep).run(commands, &answers);
    assert_eq!([old.exists(), young.exists()], [false, true]);
}

#[test]
fn a_clock_that_jumps_does_not_cost_the_archive() {
    let world = World::new();
    let (start, day) = (Instant::now(), Duration::from_hours(24));
    let paths = [399, 300, 1].map(|days| old_file(&world.dir(), START_NS - days * DAY_NS));
    let there = || paths.iter().filter(|path| path.exists()).count();
    let mut writer = Writer::new(world.dir(), Retention { max_age: 400 * day, max_bytes: 25 });
    writer.retain_at(start, START_NS);
    assert_eq!(there(), 2, "the oldest is over maxBytes");
    writer.retain_at(start + Duration::from_secs(3), START_NS + 500 * DAY_NS);
    writer.retain_at(start + Duration::from_secs(6), START_NS + 6_000_000_000);
    assert_eq!(there(), 2);
    old_file(&world.dir(), START_NS);
    writer.retain_at(start + Duration::from_secs(9), START_NS + 500 * DAY_NS);
    assert_eq!(there(), 1, "maxBytes holds all the same");
    // Nobody has set it right: it may be right.
    writer.retain_at(start + 2 * day, START_NS + 502 * DAY_NS);
    assert_eq!(there(), 0);
}

#[test]
fn a_clock_by_which_all_is_old_does_not_cost_the_archive() {
    let world = World::new();
    let (start, day) = (Instant::now(), Duration::from_hours(24));
    let old = old_file(&world.dir(), START_NS);
    let mut writer = Writer::new(world.dir(), Retention { max_age: 400 * day, max_bytes: 100 });
    writer.retain_at(start, START_NS + 500 * DAY_NS);
    assert!(old.exists());
    writer.retain_at(start + 2 * day, START_NS + 502 * DAY_NS);
    assert!(!old.exists());
}

/// Not even root can list it.
#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_read_is_named() {
    let world = World::new();
    let kind = world.dir().join("kind=qseow-engine");
    fs::create_dir_all(&kind).unwrap();
    let day = kind.join("date=2023-01-01");
    std::os::unix::fs::symlink(&day, &day).unwrap();
    let life = world.begin();
    life.send(0, 3);
    life.wait_shown("its name", |_, error| {
        error.is_some_and(|error| error.contains(&day.display().to_string()))
    });
    fs::remove_file(day).unwrap();
    life.wait_shown("no error", |_, error| error.is_none());
    assert_eq!(life.end().delivered, 3);
}

#[test]
fn what_others_have_not_finished_for_days_is_removed() {
    let world = World::new();
    let unfinished = world.dir().join(files::UNFINISHED);
    fs::create_dir_all(&unfinished).unwrap();
    let left = [3, 1].map(|days| {
        let path = unfinished.join(format!("{days:016x}-qseow-engine-20000"));
        let before = SystemTime::now() - Duration::from_hours(24 * days);
        File::create(&path).unwrap().set_modified(before).unwrap();
        path
    });
    let life = world.begin();
    life.send(0, 3);
    assert_eq!(life.end().delivered, 3);
    assert_eq!(left.map(|path| path.exists()), [false, true], "another process may be at it");
}
