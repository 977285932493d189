//! The thread that writes Parquet: records in, whole files out.
//!
//! Compressing takes longer than other destinations may wait, so it has a thread of its own. All files
//! are begun and completed together; that makes one round. A file is written under another name,
//! brought to the disk and renamed, and so is whole wherever readers look. What fails takes the round
//! with it: its unfinished files are removed, and the records, which are on disk, come again. Events
//! that are in whole files already are passed over then; see [`super::files`].

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::writer::SerializedFileWriter;
use tokio::sync::mpsc;

use super::columns::{Columns, properties};
use super::files::{self, Covered, Name, Partition, Retention, UNFINISHED};
use super::record::Row;
use super::schema::Schema;
use super::wall::{Suspicion, Wall};
use crate::deliver::spool::Record;

/// Rows are kept in memory up to so many bytes, over all files; then those of the file with the most
/// become a row group. A row group of one kind is a few MiB at least, which is enough for dictionaries
/// to pay.
const ROWS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Rows are about so much smaller in a file.
const RATIO: usize = 8;

/// Open files. Of one day there are as many as kinds; a backlog of days is archived in more than one
/// round.
const FILES_MAX: usize = 64;

/// A round takes a day at most (`rollInterval`), and some time to be completed: what another process
/// has not finished after this is left over.
const UNFINISHED_MAX: Duration = Duration::from_hours(48);

/// Where the number of a staging folder stands in it.
const STAGING: &str = "archive-id";

/// What is asked of the writer.
#[derive(Debug)]
pub(super) enum Command {
    /// A round begins: records of the staging folder will come, none of which ends after `next`.
    Begin { staging: PathBuf, next: u64 },
    /// More events.
    Write(Record),
    /// The round ends.
    Complete,
}

/// What it answers, to each command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// The round has begun.
    Begun,
    /// The round's files will have about so many bytes.
    Written(u64),
    /// Files are where readers find them, for certain.
    Completed(Completed),
}

/// What a round came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Completed {
    /// Bytes of its files.
    pub bytes: u64,
    /// Records' lines that this version cannot read.
    pub unreadable: u64,
}

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriterError {
    /// The system refuses.
    #[error("cannot {action} {}: {error}", path.display())]
    Io { action: &'static str, path: PathBuf, error: io::Error },
    /// The system refuses.
    #[error(transparent)]
    Refused(#[from] files::Refused),
    /// The system refuses, or a file would be too large for the format.
    #[error("cannot write {}: {error}", path.display())]
    Parquet { path: PathBuf, error: ParquetError },
}

impl WriterError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { action, path: path.to_owned(), error }
    }

    fn parquet(path: &Path) -> impl FnOnce(ParquetError) -> Self {
        move |error| Self::Parquet { path: path.to_owned(), error }
    }
}

/// A file that is being written.
struct Part {
    rows: Columns,
    file: SerializedFileWriter<BufWriter<File>>,
    path: PathBuf,
    first_ns: u64,
}

impl Part {
    fn create(partition: Partition, path: PathBuf, first_ns: u64) -> Result<Self, WriterError> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
        let file = options.open(&path).map_err(WriterError::io("create", &path))?;
        let kind = partition.kind();
        let schema = Arc::clone(&Schema::of(kind).parquet);
        let file = SerializedFileWriter::new(BufWriter::new(file), schema, properties())
            .map_err(WriterError::parquet(&path))?;
        Ok(Self { rows: Columns::new(kind), file, path, first_ns })
    }

    /// Makes a row group of the rows.
    fn flush(&mut self) -> Result<(), WriterError> {
        self.rows.write(&mut self.file).map_err(WriterError::parquet(&self.path))
    }

    /// Writes what is left and brings all of it to the disk. Returns the length.
    fn finish(mut self, numbers: &Range<u64>) -> Result<u64, WriterError> {
        if !self.rows.is_empty() {
            self.flush()?;
        }
        for (key, value) in [("ringside.first", numbers.start), ("ringside.end", numbers.end)] {
            self.file.append_key_value_metadata(KeyValue::new(key.to_owned(), value.to_string()));
        }
        let path = self.path;
        let mut buffer = self.file.into_inner().map_err(WriterError::parquet(&path))?;
        buffer.flush().map_err(WriterError::io("write", &path))?;
        let file = buffer.get_ref();
        file.sync_all().map_err(WriterError::io("sync", &path))?;
        Ok(file.metadata().map_err(WriterError::io("look at", &path))?.len())
    }
}

/// Writes the files of an archive.
pub(super) struct Writer {
    dir: PathBuf,
    retention: Retention,
    wall: Wall,
    /// The number of the staging folder.
    staging: u64,
    covered: Covered,
    parts: BTreeMap<Partition, Part>,
    /// The numbers of the round's events.
    numbers: Option<Range<u64>>,
    unreadable: u64,
}

impl Writer {
    pub fn new(dir: PathBuf, retention: Retention) -> Self {
        Self {
            dir,
            retention,
            wall: Wall::default(),
            staging: 0,
            covered: Covered::default(),
            parts: BTreeMap::new(),
            numbers: None,
            unreadable: 0,
        }
    }

    /// Answers commands until there are no more.
    pub fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        answers: &mpsc::UnboundedSender<Result<Done, WriterError>>,
    ) {
        self.retain();
        let mut failed = false;
        while let Some(command) = commands.blocking_recv() {
            failed &= !matches!(command, Command::Begin { .. });
            if failed {
                // It was sent before the failure was known.
                continue;
            }
            let done = self.obey(command);
            failed = done.is_err();
            if failed {
                self.abandon();
            }
            if answers.send(done).is_err() {
                break;
            }
        }
        self.abandon();
    }

    fn obey(&mut self, command: Command) -> Result<Done, WriterError> {
        match command {
            Command::Begin { staging, next } => self.begin(&staging, next).map(|()| Done::Begun),
            Command::Write(record) => self.write(&record).map(Done::Written),
            Command::Complete => self.complete().map(Done::Completed),
        }
    }

    fn begin(&mut self, staging: &Path, next: u64) -> Result<(), WriterError> {
        let unfinished = self.dir.join(UNFINISHED);
        files::make_folder(&unfinished).map_err(WriterError::io("make the folder", &unfinished))?;
        // What is in files must be known for certain: it is not to be archived twice.
        let there = files::list(&self.dir)?;
        let path = staging.join(STAGING);
        self.staging = match read_number(&path).map_err(WriterError::io("read", &path))? {
            Some(number) => number,
            None => new_number(&path)?,
        };
        self.covered = Covered::new(&there, self.staging);
        if self.covered.end() > next {
            // The folder is older than the files, as after a power failure, or from a backup: its
            // numbers come to mean other events.
            tracing::warn!(
                "{}: files in {} have later events; what it holds is archived as it is, some of it \
                 perhaps for the second time",
                staging.display(),
                self.dir.display()
            );
            self.staging = new_number(&path)?;
            self.covered = Covered::default();
        }
        // What failed last may have failed at this.
        for file in there.iter().filter(|file| file.name.end == self.covered.end()) {
            let folder = self.dir.join(file.partition.folder());
            files::sync_folder(&folder).map_err(WriterError::io("sync", &folder))?;
        }
        self.clear(&unfinished)?;
        self.retain();
        Ok(())
    }

    /// Removes what a crash has left, of this process's files and of others' that are gone.
    fn clear(&self, unfinished: &Path) -> Result<(), WriterError> {
        let prefix = format!("{:016x}-", self.staging);
        let left = fs::read_dir(unfinished).map_err(WriterError::io("list", unfinished))?;
        for entry in left.flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                fs::remove_file(&path).map_err(WriterError::io("remove", &path))?;
                continue;
            }
            let modified = entry.metadata().and_then(|about| about.modified());
            let age = modified.ok().and_then(|modified| modified.elapsed().ok());
            // It is in nobody's way if it cannot be removed.
            if age.is_some_and(|age| age > UNFINISHED_MAX) && fs::remove_file(&path).is_ok() {
                tracing::info!("{}: removed; nobody has worked on it for days", path.display());
            }
        }
        Ok(())
    }

    /// Returns about how many bytes the files of the round will have.
    fn write(&mut self, record: &Record) -> Result<u64, WriterError> {
        let numbers = record.numbers.ranges().flatten();
        for (number, line) in numbers.zip(record.lines.split_inclusive(|&byte| byte == b'\n')) {
            let round = self.numbers.get_or_insert(number..number);
            round.end = number + 1;
            let Some(row) = Row::read(line) else {
                self.unreadable += 1;
                continue;
            };
            let partition = Partition::of(row.kind, row.received_ns);
            if !self.covered.has(partition, number) {
                self.part(partition, row.received_ns)?.rows.push(&row, line.len());
            }
        }
        let in_memory = |parts: &BTreeMap<_, Part>| -> usize {
            parts.values().map(|part| part.rows.bytes()).sum()
        };
        while in_memory(&self.parts) > ROWS_BYTES_MAX {
            let largest = self.parts.values_mut().max_by_key(|part| part.rows.bytes());
            let Some(part) = largest else { break };
            part.flush()?;
        }
        if self.parts.len() > FILES_MAX {
            return Ok(u64::MAX);
        }
        let written: usize = self.parts.values().map(|part| part.file.bytes_written()).sum();
        Ok((written + in_memory(&self.parts) / RATIO) as u64)
    }

    fn part(&mut self, partition: Partition, first_ns: u64) -> Result<&mut Part, WriterError> {
        use std::collections::btree_map::Entry;
        match self.parts.entry(partition) {
            Entry::Occupied(part) => Ok(part.into_mut()),
            Entry::Vacant(place) => {
                let name =
                    format!("{:016x}-{}-{}", self.staging, partition.kind().name(), partition.day);
                let path = self.dir.join(UNFINISHED).join(name);
                Ok(place.insert(Part::create(partition, path, first_ns)?))
            }
        }
    }

    fn complete(&mut self) -> Result<Completed, WriterError> {
        let mut done = Completed { bytes: 0, unreadable: std::mem::take(&mut self.unreadable) };
        let Some(numbers) = self.numbers.take() else { return Ok(done) };
        let mut whole = Vec::new();
        while let Some((partition, part)) = self.parts.pop_first() {
            let (path, first_ns) = (part.path.clone(), part.first_ns);
            done.bytes += part.finish(&numbers)?;
            whole.push((partition, path, Name::new(first_ns, self.staging, &numbers)));
        }
        // Only now: if the disk is full, all of the round is missing rather than a part of it.
        for (partition, from, name) in &whole {
            let folder = self.dir.join(partition.folder());
            files::make_folder(&folder).map_err(WriterError::io("make the folder", &folder))?;
            let to = folder.join(name.to_string());
            fs::rename(from, &to).map_err(WriterError::io("rename to", &to))?;
            self.covered.add(*partition, numbers.clone());
            files::sync_folder(&folder).map_err(WriterError::io("sync", &folder))?;
        }
        self.covered.forget_before(numbers.end);
        self.retain();
        Ok(done)
    }

    /// Removes what is older or more than is wanted.
    fn retain(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ns = now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        self.retain_at(Instant::now(), now_ns);
    }

    pub(super) fn retain_at(&mut self, now: Instant, wall_ns: u64) {
        let dir = self.dir.display();
        let (files, unread) = files::list_readable(&self.dir);
        let all_old = files.last().is_some_and(|last| self.retention.is_old(last, wall_ns));
        match self.wall.look(now, wall_ns, all_old) {
            None => {}
            Some(Suspicion::Jumped(by)) => tracing::error!(
                hours = by.as_secs() / 3600,
                "{dir}: the system's clock has jumped, or the machine was suspended; for 24 hours no files \
                 are removed for their age, those over maxBytes still are; see that the clock is right"
            ),
            Some(Suspicion::AllOld) => tracing::warn!(
                "{dir}: every file is older than maxAge; for 24 hours none is removed for its age; is the \
                 clock right?"
            ),
        }
        let believed = self.wall.is_believed(now).then_some(wall_ns);
        let (removed, kept) = files::remove(self.retention.excess(&files, believed));
        if removed > 0 {
            tracing::info!(files = removed, "{dir}: removed old files");
        }
        for refused in [unread, kept].into_iter().flatten() {
            tracing::warn!("{dir}: not all old files could be removed: {refused}");
        }
    }

    /// Forgets the round.
    fn abandon(&mut self) {
        (self.numbers, self.unreadable) = (None, 0);
        for (_, part) in std::mem::take(&mut self.parts) {
            let path = part.path;
            // Closed first, which some systems ask for. What stays is overwritten by the next round.
            drop(part.file);
            let _ = fs::remove_file(path);
        }
    }
}

/// The number in this file; `None` when there is none.
fn read_number(path: &Path) -> io::Result<Option<u64>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(u64::from_str_radix(text.trim(), 16).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a new number, durably.
fn new_number(path: &Path) -> Result<u64, WriterError> {
    let number = fastrand::u64(..);
    let unnamed = path.with_extension("new");
    let write = || {
        let mut file = File::create(&unnamed)?;
        writeln!(file, "{number:016x}")?;
        file.sync_all()?;
        fs::rename(&unnamed, path)?;
        files::sync_folder(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(WriterError::io("write", path))?;
    Ok(number)
}
