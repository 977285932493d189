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

use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::writer::SerializedFileWriter;
use tokio::sync::mpsc;

use super::columns::{Columns, properties};
use super::files::{self, Covered, Name, Partition, Retention, UNFINISHED};
use super::record::Row;
use super::schema::Schema;
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
        let there = files::list(&self.dir).map_err(WriterError::io("list", &self.dir))?;
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
        // What a crash has left.
        let prefix = format!("{:016x}-", self.staging);
        let left = fs::read_dir(&unfinished).map_err(WriterError::io("list", &unfinished))?;
        for entry in left.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let path = entry.path();
                fs::remove_file(&path).map_err(WriterError::io("remove", &path))?;
            }
        }
        self.retain();
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
    fn retain(&self) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_ns = now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        match self.retention.apply(&self.dir, now_ns) {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "{}: removed old files", self.dir.display()),
            Err(error) => {
                tracing::warn!("{}: cannot remove old files: {error}", self.dir.display());
            }
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
