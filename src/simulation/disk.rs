//! A disk that takes its time, fails, fills up, lies and forgets, and a witness of what it was given.
//!
//! [`FaultyDisk`] does the forgetting. Around it, every operation waits before and after, so that
//! whoever is waiting can be stopped when nothing, or everything, or a part of it has happened.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::clock::SimulatedClock;
use crate::deliver::spool::faults::{FaultyDisk, FaultyFile, FaultyLock};
use crate::deliver::spool::record::{self, HEADER, Header};
use crate::deliver::spool::segment::PREFIX;
use crate::deliver::{Clock, Disk, Listed, Storage};

/// What was written, or found, so long ago has been synced, unless the disk fails: the interval of syncs in
/// this simulation, and as much for what the disk does meanwhile.
const LOSS_WINDOW: Duration = Duration::from_secs(2);

/// How a disk is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Of a thousand operations so many fail.
    pub failures: u32,
    /// Of a thousand operations so many take up to a minute.
    pub stalls: u32,
    /// Bytes that fit on it; all that come, when it is not said.
    pub capacity: Option<usize>,
    /// What a sync says is on the disk gets there this much later.
    pub lie: Duration,
}

impl Weather {
    /// Whether nothing goes wrong, and soon.
    pub fn is_fine(&self) -> bool {
        self.failures == 0 && self.stalls == 0 && self.capacity.is_none()
    }
}

/// The disk; copies are the same disk.
#[derive(Clone)]
pub struct SimulatedDisk {
    clock: SimulatedClock,
    disk: FaultyDisk,
    state: Rc<RefCell<State>>,
    /// Whether somebody stopped waiting for an operation that had happened.
    cut: Rc<Cell<bool>>,
}

struct State {
    random: fastrand::Rng,
    weather: Weather,
    /// When this life began.
    begun: Duration,
    records: Vec<Written>,
    /// The operation of each time that somebody waited, before it and after it.
    waits: Vec<&'static str>,
    /// Syncs that lied: when the file gets to the disk, and its number.
    owed: Vec<(Duration, usize)>,
}

/// A record whose writing was reported as done.
struct Written {
    file: usize,
    lines: Bytes,
    at: Duration,
    /// When it is on the disk for certain.
    durable: Option<Duration>,
}

/// Notices that nobody waits any more.
struct Cut(Rc<Cell<bool>>, bool);

impl Drop for Cut {
    fn drop(&mut self) {
        if self.1 {
            self.0.set(true);
        }
    }
}

impl SimulatedDisk {
    pub fn new(clock: &SimulatedClock, seed: u64) -> Self {
        let state = State {
            random: fastrand::Rng::with_seed(seed),
            weather: Weather::default(),
            begun: Duration::ZERO,
            records: Vec::new(),
            waits: Vec::new(),
            owed: Vec::new(),
        };
        Self {
            clock: clock.clone(),
            disk: FaultyDisk::new(seed),
            state: Rc::new(RefCell::new(state)),
            cut: Rc::default(),
        }
    }

    /// A process begins, and finds this weather.
    pub fn begin_life(&self, weather: Weather) {
        let state = &mut *self.state.borrow_mut();
        state.weather = weather;
        state.begun = self.clock.now();
        self.disk.set_capacity(weather.capacity.unwrap_or(usize::MAX / 2));
        self.disk.fail_in(None);
    }

    /// The process is killed.
    pub fn kill(&self) {
        self.disk.kill();
    }

    /// The power fails.
    pub fn power_off(&self) {
        let state = &mut *self.state.borrow_mut();
        let now = self.clock.now();
        for (_, file) in state.owed.drain(..).filter(|(at, _)| *at <= now) {
            self.disk.write_back(file);
        }
        self.disk.crash();
    }

    /// A bit of a complete segment flips, if there is one.
    pub fn flip(&self) -> bool {
        let state = &mut *self.state.borrow_mut();
        let is_complete = |path: &Path| {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            path.extension().is_some_and(|end| end == "seg") && stem.contains('-')
        };
        let mut paths = self.disk.paths();
        paths.retain(|path| is_complete(path));
        if paths.is_empty() {
            return false;
        }
        let path = &paths[state.random.usize(0..paths.len())];
        self.disk.flip(path, state.random.usize(0..self.disk.length(path) * 8));
        true
    }

    /// Whether somebody stopped waiting for an operation that had happened.
    pub fn was_cut(&self) -> bool {
        self.cut.get()
    }

    /// The operations that somebody has begun to wait for since this was asked last.
    pub fn waits(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.state.borrow_mut().waits)
    }

    /// The lines of all records that survive the end of the process, or a failure of the power now.
    pub fn kept(&self, power_off: bool) -> Vec<Bytes> {
        let state = self.state.borrow();
        let now = self.clock.now();
        let window = LOSS_WINDOW + state.weather.lie;
        let is_kept = |written: &&Written| {
            let seen_at = written.at.max(state.begun);
            let late = state.weather.is_fine() && now >= seen_at + window;
            !power_off || late || written.durable.is_some_and(|at| at <= now)
        };
        state.records.iter().filter(is_kept).map(|written| written.lines.clone()).collect()
    }

    /// Waits as long as the disk needs, and decides whether the next operation fails.
    async fn before(&self, operation: &'static str) {
        self.state.borrow_mut().waits.push(operation);
        self.pause().await;
        self.disk.set_now(self.clock.wall_ns());
        let state = &mut *self.state.borrow_mut();
        let fails = state.random.u32(0..1000) < state.weather.failures;
        self.disk.fail_in(fails.then_some(0));
    }

    /// Waits until the system says what became of it.
    async fn after(&self, operation: &'static str) {
        self.state.borrow_mut().waits.push(operation);
        let mut cut = Cut(Rc::clone(&self.cut), true);
        self.pause().await;
        cut.1 = false;
    }

    async fn pause(&self) {
        let wait = {
            let State { random, weather, .. } = &mut *self.state.borrow_mut();
            let stalls = random.u32(0..1000) < weather.stalls;
            let most = if stalls { 60_000_000 } else { [0, 500, 5_000][random.usize(0..3)] };
            Duration::from_micros(random.u64(0..=most))
        };
        self.clock.sleep(wait).await;
    }
}

/// The lines of what is appended, if it is a record.
fn lines(bytes: &[u8]) -> Option<Bytes> {
    let record = bytes.strip_prefix(b"ringside").map_or(bytes, |_| &bytes[PREFIX..]);
    let header = Header::read(record).filter(|header| header.matches(record))?;
    Some(record::decode(&record[HEADER..], header.events)?.lines)
}

/// A write that may be stopped when a part of it has happened.
struct Torn<'a> {
    disk: &'a SimulatedDisk,
    file: &'a FaultyFile,
    bytes: &'a [u8],
    begun: bool,
}

impl Drop for Torn<'_> {
    fn drop(&mut self) {
        if self.begun {
            self.disk.disk.tear(self.file, self.bytes);
        }
    }
}

impl Disk for SimulatedDisk {
    type File = FaultyFile;

    async fn open_append(&self, path: &Path) -> io::Result<FaultyFile> {
        self.before("open_append").await;
        let opened = self.disk.open_append(path).await;
        self.after("open_append").await;
        opened
    }

    async fn append(&self, file: &mut FaultyFile, bytes: Bytes) -> io::Result<()> {
        let mut torn = Torn { disk: self, file, bytes: &bytes, begun: true };
        self.before("append").await;
        torn.begun = false;
        drop(torn);
        let appended = self.disk.append(file, bytes.clone()).await;
        self.after("append").await;
        if appended.is_ok()
            && let Some(lines) = lines(&bytes)
        {
            let at = self.clock.now();
            let written = Written { file: file.number(), lines, at, durable: None };
            self.state.borrow_mut().records.push(written);
        }
        appended
    }

    async fn sync(&self, file: &mut FaultyFile) -> io::Result<()> {
        self.before("sync").await;
        let lie = self.state.borrow().weather.lie;
        self.disk.set_lying(!lie.is_zero());
        let synced = self.disk.sync(file).await;
        self.disk.set_lying(false);
        self.after("sync").await;
        if synced.is_ok() {
            let state = &mut *self.state.borrow_mut();
            let at = self.clock.now() + lie;
            if !lie.is_zero() {
                state.owed.push((at, file.number()));
            }
            let of_file = state.records.iter_mut().filter(|it| it.file == file.number());
            of_file.for_each(|written| {
                written.durable.get_or_insert(at);
            });
        }
        synced
    }
}

impl Storage for SimulatedDisk {
    type Lock = FaultyLock;

    async fn create(&self, path: &Path) -> io::Result<FaultyFile> {
        self.before("create").await;
        let created = self.disk.create(path).await;
        self.after("create").await;
        created
    }

    async fn read(&self, path: &Path, from: u64, most: usize) -> io::Result<Bytes> {
        self.before("read").await;
        let read = self.disk.read(path, from, most).await;
        self.after("read").await;
        read
    }

    async fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        self.before("truncate").await;
        let truncated = self.disk.truncate(path, length).await;
        self.after("truncate").await;
        truncated
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.before("remove").await;
        let removed = self.disk.remove(path).await;
        self.after("remove").await;
        removed
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before("rename").await;
        let renamed = self.disk.rename(from, to).await;
        self.after("rename").await;
        renamed
    }

    async fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.before("create_folder").await;
        let created = self.disk.create_folder(path).await;
        self.after("create_folder").await;
        created
    }

    async fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        self.before("list").await;
        let listed = self.disk.list(folder).await;
        self.after("list").await;
        listed
    }

    async fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.before("sync_folder").await;
        let synced = self.disk.sync_folder(folder).await;
        self.after("sync_folder").await;
        synced
    }

    async fn lock(&self, path: &Path) -> io::Result<FaultyLock> {
        self.before("lock").await;
        let locked = self.disk.lock(path).await;
        self.after("lock").await;
        locked
    }

    async fn free(&self, folder: &Path) -> io::Result<Option<u64>> {
        self.before("free").await;
        let free = self.disk.free(folder).await;
        self.after("free").await;
        free
    }
}
