//! A disk in memory that tears, fills, lies and fails as real ones do.
//!
//! Data and names are durable separately: data after a sync of the file, names after a sync of the
//! folder. A crash keeps, of what is not durable, any beginning of each file's tail and any beginning
//! of the list of changes to names, as a journalling file system does. What a failed sync could not
//! write is durable no more, whatever later syncs say.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::deliver::{Disk, Listed, Storage};

/// Runs a future that never waits, as all of this disk's.
pub fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the simulated disk never waits"),
    }
}

/// The disk; copies are the same disk.
#[derive(Clone, Debug)]
pub struct FaultyDisk(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes to names that are not durable.
    pending: Vec<Change>,
    folders: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    /// Counts crashes: what was open before is dead.
    life: u32,
    random: fastrand::Rng,
    /// Bytes that all files together can hold.
    capacity: usize,
    /// Syncs of files say that they worked and do nothing.
    lying: bool,
    /// A sync has failed.
    forgetful: bool,
    /// Appending and listing do not end.
    stalled: bool,
    /// The operation, counted from now, that fails.
    fails_in: Option<u32>,
    /// What the files' times of change show.
    now_ns: u64,
}

#[derive(Clone, Debug, Default)]
struct Content {
    data: Vec<u8>,
    durable: Vec<u8>,
    /// A sync has failed, and the system has forgotten what is not durable: later syncs say that they
    /// worked.
    forgotten: bool,
    modified_ns: u64,
}

impl Content {
    /// Makes the data durable, as far as anybody remembers that they are not.
    fn write_back(&mut self) {
        if !self.forgotten {
            self.durable.clone_from(&self.data);
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Set(PathBuf, usize),
    Remove(PathBuf),
}

/// An open file.
#[derive(Debug)]
pub struct FaultyFile {
    file: usize,
    end: usize,
    life: u32,
}

/// A lock, given back when it is dropped.
#[derive(Debug)]
pub struct FaultyLock {
    disk: FaultyDisk,
    path: PathBuf,
    life: u32,
}

impl FaultyFile {
    /// Which file it is, whatever its name.
    pub fn number(&self) -> usize {
        self.file
    }
}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut state = self.disk.0.borrow_mut();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

impl State {
    /// Counts an operation; an error when it is the one that fails.
    fn operate(&mut self) -> io::Result<()> {
        match &mut self.fails_in {
            Some(0) => {
                self.fails_in = None;
                Err(io::Error::other("simulated fault"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.pending.push(change);
    }

    fn used(&self) -> usize {
        self.names.values().map(|&file| self.files[file].data.len()).sum()
    }

    /// Writes at `end`; a disk that is too small takes what fits.
    fn write(&mut self, file: usize, end: usize, bytes: &[u8]) -> io::Result<()> {
        let room = self.capacity.saturating_sub(self.used()) + self.files[file].data.len() - end;
        let fault = self.operate();
        let fits = match fault {
            Ok(()) => bytes.len().min(room),
            Err(_) => self.random.usize(0..=bytes.len().min(room)),
        };
        let content = &mut self.files[file];
        content.modified_ns = self.now_ns;
        if content.data.len() < end + fits {
            content.data.resize(end + fits, 0);
        }
        content.data[end..end + fits].copy_from_slice(&bytes[..fits]);
        fault?;
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: &Change) {
    match change {
        Change::Set(path, file) => {
            names.retain(|_, named| named != file);
            names.insert(path.clone(), *file);
        }
        Change::Remove(path) => {
            names.remove(path);
        }
    }
}

impl FaultyDisk {
    /// An empty disk without faults; equal seeds crash alike.
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(State {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            folders: BTreeSet::new(),
            locks: BTreeSet::new(),
            life: 0,
            random: fastrand::Rng::with_seed(seed),
            capacity: usize::MAX / 2,
            lying: false,
            forgetful: false,
            stalled: false,
            fails_in: None,
            now_ns: 1,
        })))
    }

    /// All files together hold this many bytes at most.
    pub fn set_capacity(&self, bytes: usize) {
        self.0.borrow_mut().capacity = bytes;
    }

    /// From now on syncs of files do nothing, or work again.
    pub fn set_lying(&self, lying: bool) {
        self.0.borrow_mut().lying = lying;
    }

    /// From now on appending and listing do not end until this is taken back, and somebody looks.
    pub fn set_stalled(&self, stalled: bool) {
        self.0.borrow_mut().stalled = stalled;
    }

    async fn answer(&self) {
        poll_fn(|_| if self.0.borrow().stalled { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    /// The operation after `after` others fails, once.
    pub fn fail_in(&self, after: Option<u32>) {
        self.0.borrow_mut().fails_in = after;
    }

    /// What files that are written from now on show as the time of their change.
    pub fn set_now(&self, now_ns: u64) {
        self.0.borrow_mut().now_ns = now_ns;
    }

    /// The power fails. Of each file's tail that is not durable, `torn` says how much survives, given
    /// its length.
    pub fn crash_torn(&self, mut torn: impl FnMut(usize) -> usize) {
        let state = &mut *self.0.borrow_mut();
        state.life += 1;
        state.locks.clear();
        let kept = state.random.usize(0..=state.pending.len());
        for change in std::mem::take(&mut state.pending).iter().take(kept) {
            apply(&mut state.durable_names, change);
        }
        state.names = state.durable_names.clone();
        for content in &mut state.files {
            let tail = content.data.len().saturating_sub(content.durable.len());
            let kept = torn(tail).min(tail);
            let end = content.durable.len();
            content.durable.extend_from_slice(&content.data[content.data.len() - tail..][..kept]);
            // Some file systems note the length first: what was not written is zeros then.
            if state.random.bool() {
                content.durable.resize(end + tail, 0);
            }
            content.data = content.durable.clone();
            content.forgotten = false;
        }
    }

    /// The power fails, anywhere.
    pub fn crash(&self) {
        let mut random = self.0.borrow_mut().random.fork();
        self.crash_torn(|tail| random.usize(0..=tail));
    }

    /// The process is killed: its locks are gone, and what it had written is there.
    pub fn kill(&self) {
        let state = &mut *self.0.borrow_mut();
        state.life += 1;
        state.locks.clear();
        state.fails_in = None;
    }

    /// What was written to a file is on the disk, as happens sooner or later without a sync too.
    pub fn write_back(&self, number: usize) {
        self.0.borrow_mut().files[number].write_back();
    }

    /// The beginning of `bytes` reaches a file before the process is killed.
    pub fn tear(&self, file: &FaultyFile, bytes: &[u8]) {
        let state = &mut *self.0.borrow_mut();
        state.fails_in = Some(0);
        let torn = state.write(file.file, file.end, bytes);
        debug_assert!(torn.is_err(), "it is not complete");
    }

    /// Whether a sync has ever failed.
    pub fn was_forgetful(&self) -> bool {
        self.0.borrow().forgetful
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.borrow().names.keys().cloned().collect()
    }

    /// Length of a file.
    pub fn length(&self, path: &Path) -> usize {
        let state = self.0.borrow();
        state.files[state.names[path]].data.len()
    }

    /// Flips a bit of a file, on the disk too.
    pub fn flip(&self, path: &Path, bit: usize) {
        let state = &mut *self.0.borrow_mut();
        let content = &mut state.files[state.names[path]];
        for bytes in [&mut content.data, &mut content.durable] {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }
}

impl Disk for FaultyDisk {
    type File = FaultyFile;

    async fn open_append(&self, path: &Path) -> io::Result<FaultyFile> {
        if self.0.borrow().find(path).is_err() {
            return self.create(path).await;
        }
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        let file = state.find(path)?;
        Ok(FaultyFile { file, end: state.files[file].data.len(), life: state.life })
    }

    async fn append(&self, file: &mut FaultyFile, bytes: Bytes) -> io::Result<()> {
        self.answer().await;
        let state = &mut *self.0.borrow_mut();
        assert_eq!(file.life, state.life, "a file from before the crash");
        state.write(file.file, file.end, &bytes)?;
        file.end += bytes.len();
        Ok(())
    }

    async fn sync(&self, file: &mut FaultyFile) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        assert_eq!(file.life, state.life, "a file from before the crash");
        let failed = state.operate();
        let content = &mut state.files[file.file];
        if failed.is_err() {
            content.forgotten = true;
            state.forgetful = true;
            return failed;
        }
        if !state.lying {
            content.write_back();
        }
        Ok(())
    }
}

impl Storage for FaultyDisk {
    type Lock = FaultyLock;

    async fn create(&self, path: &Path) -> io::Result<FaultyFile> {
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        if state.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        assert!(state.folders.iter().any(|f| path.starts_with(f)), "its folder is there");
        let file = state.files.len();
        state.files.push(Content { modified_ns: state.now_ns, ..Content::default() });
        state.change(Change::Set(path.to_owned(), file));
        Ok(FaultyFile { file, end: 0, life: state.life })
    }

    async fn read(&self, path: &Path, from: u64, most: usize) -> io::Result<Bytes> {
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        let data = &state.files[state.find(path)?].data;
        let from = usize::try_from(from).unwrap().min(data.len());
        Ok(Bytes::copy_from_slice(&data[from..data.len().min(from.saturating_add(most))]))
    }

    async fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        let file = state.find(path)?;
        let content = &mut state.files[file];
        content.data.truncate(usize::try_from(length).unwrap());
        content.durable.truncate(content.data.len());
        content.forgotten &= length > 0;
        content.write_back();
        Ok(())
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        state.find(path)?;
        state.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        let file = state.find(from)?;
        state.change(Change::Set(to.to_owned(), file));
        Ok(())
    }

    async fn create_folder(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        state.folders.insert(path.to_owned());
        Ok(())
    }

    async fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        self.answer().await;
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        if !state.folders.contains(folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names = state.names.iter().filter(|(path, _)| path.parent() == Some(folder));
        let listed = names.map(|(path, &file)| Listed {
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            length: state.files[file].data.len() as u64,
            modified_ns: state.files[file].modified_ns,
        });
        Ok(listed.collect())
    }

    async fn sync_folder(&self, _: &Path) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        state.durable_names = state.names.clone();
        state.pending.clear();
        Ok(())
    }

    async fn lock(&self, path: &Path) -> io::Result<FaultyLock> {
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(FaultyLock { disk: self.clone(), path: path.to_owned(), life: state.life })
    }

    async fn free(&self, _: &Path) -> io::Result<Option<u64>> {
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        Ok(Some(state.capacity.saturating_sub(state.used()) as u64))
    }
}
