//! An archive for whoever looks at it: nothing is changed, and a running process does not mind.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::Field;

use super::columns::{Columns, properties};
use super::files::{self, ArchiveFile, Partition, Refused};
use super::record::Row;
use super::schema::{RECEIVED_NS, Schema};
use crate::calendar::write_date_time;
use crate::deliver::spool::{SpoolError, inspect};
use crate::event::Kind;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refuses.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// What was read.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A folder cannot be listed.
    #[error(transparent)]
    Folder(#[from] Refused),
    /// Damaged, or not a Parquet file.
    #[error(
        "{}: cannot be read as Parquet ({error}); it is damaged: move it out of the archive",
        path.display()
    )]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ParquetError,
    },
    /// What is staged cannot be read.
    #[error(transparent)]
    Staging(#[from] SpoolError),
}

impl ReadError {
    fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }

    fn parquet(path: &Path, error: ParquetError) -> Self {
        Self::Parquet { path: path.to_owned(), error }
    }
}

/// What a folder of an archive holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Files.
    pub files: u64,
    /// Events in them.
    pub events: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// The folders of an archive, the oldest first, and the first that could not be read; none when it does
/// not exist.
pub fn partitions(
    dir: &Path,
) -> Result<(BTreeMap<Partition, Content>, Option<Refused>), ReadError> {
    let mut partitions = BTreeMap::new();
    let (files, refused) = files::list_readable(dir);
    for file in files {
        let Some(reader) = open(&file.path)? else { continue };
        let content: &mut Content = partitions.entry(file.partition).or_default();
        content.files += 1;
        content.bytes += file.bytes;
        let rows = reader.metadata().file_metadata().num_rows();
        content.events += u64::try_from(rows).unwrap_or_default();
    }
    Ok((partitions, refused))
}

/// Events that wait in staging.
pub fn staged(staging: &Path) -> Result<u64, ReadError> {
    let folders = staging.parent().map(inspect::folders).transpose()?.unwrap_or_default();
    let own = folders.into_iter().find(|folder| folder.path == staging);
    Ok(own.map_or(0, |folder| folder.events))
}

/// A file; `None` when it was removed meanwhile.
fn open(path: &Path) -> Result<Option<SerializedFileReader<File>>, ReadError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ReadError::io(path, error)),
        Ok(file) => {
            let reader = SerializedFileReader::new(file);
            reader.map(Some).map_err(|error| ReadError::parquet(path, error))
        }
    }
}

/// The newest events, as JSON objects.
#[derive(Debug)]
struct Newest {
    most: usize,
    kind: Option<Kind>,
    /// By receive time. An event may be in a file and still in staging, but is here once.
    events: BTreeMap<(i64, u8), String>,
}

impl Newest {
    fn is_full(&self) -> bool {
        self.events.len() >= self.most
    }

    fn wants(&self, kind: Kind) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind)
    }

    /// Adds those rows that are newer than what is there.
    fn add<R: ChunkReader + 'static>(
        &mut self,
        kind: Kind,
        reader: &SerializedFileReader<R>,
    ) -> Result<(), ParquetError> {
        for row in reader.get_row_iter(None)? {
            let row = row?;
            let ns = row.get_column_iter().find(|(name, _)| *name == RECEIVED_NS);
            let Some((_, Field::Long(ns))) = ns else {
                return Err(ParquetError::General(format!("no column {RECEIVED_NS}")));
            };
            let key = (*ns, kind as u8);
            let is_older = self.events.first_key_value().is_some_and(|(first, _)| key < *first);
            if self.is_full() && is_older {
                continue;
            }
            self.events.insert(key, json(row.get_column_iter()));
            if self.events.len() > self.most {
                self.events.pop_first();
            }
        }
        Ok(())
    }

    /// Adds events that wait in staging.
    fn add_staged(&mut self, staging: &Path) -> Result<(), ReadError> {
        // Files are the only way to what a row looks like, so the newest lines become some, in memory.
        let mut lines: [VecDeque<Bytes>; Kind::COUNT] = Default::default();
        inspect::export::<ReadError>(staging, |record| {
            for line in record.lines.split_inclusive(|&byte| byte == b'\n') {
                let Some(row) = Row::read(line).filter(|row| self.wants(row.kind)) else {
                    continue;
                };
                let lines = &mut lines[row.kind as usize];
                lines.push_back(record.lines.slice_ref(line));
                if lines.len() > self.most {
                    lines.pop_front();
                }
            }
            Ok(())
        })?;
        for (kind, lines) in Kind::ALL.into_iter().zip(lines) {
            let added = file_of(kind, &lines).and_then(|bytes| {
                let reader = SerializedFileReader::new(bytes)?;
                self.add(kind, &reader)
            });
            added.map_err(|error| ReadError::parquet(staging, error))?;
        }
        Ok(())
    }
}

/// These lines as a file in memory.
fn file_of(kind: Kind, lines: &VecDeque<Bytes>) -> Result<Bytes, ParquetError> {
    let mut rows = Columns::new(kind);
    for line in lines {
        if let Some(row) = Row::read(line) {
            rows.push(&row, line.len());
        }
    }
    let mut bytes = Vec::new();
    let schema = Arc::clone(&Schema::of(kind).parquet);
    let mut file = SerializedFileWriter::new(&mut bytes, schema, properties())?;
    if !rows.is_empty() {
        rows.write(&mut file)?;
    }
    file.close()?;
    Ok(bytes.into())
}

/// The newest `most` events, of one kind or of all, the oldest of them first, one JSON object each.
/// What is still staged is among them.
pub fn tail(
    dir: &Path,
    staging: Option<&Path>,
    most: usize,
    kind: Option<Kind>,
) -> Result<Vec<String>, ReadError> {
    let mut newest = Newest { most, kind, events: BTreeMap::new() };
    if most == 0 {
        return Ok(Vec::new());
    }
    if let Some(staging) = staging.filter(|staging| staging.is_dir()) {
        newest.add_staged(staging)?;
    }
    for round in rounds(dir)? {
        if newest.is_full() {
            break;
        }
        for file in
            round.iter().filter(|file| newest.wants(file.partition.kind())).collect::<Vec<_>>()
        {
            let Some(reader) = open(&file.path)? else { continue };
            let added = newest.add(file.partition.kind(), &reader);
            added.map_err(|error| ReadError::parquet(&file.path, error))?;
        }
    }
    Ok(newest.events.into_values().collect())
}

/// Files that were completed together, the newest first: no event in one is newer than those of the
/// one before.
fn rounds(dir: &Path) -> Result<Vec<Vec<ArchiveFile>>, ReadError> {
    let mut rounds: BTreeMap<(u64, u64), Vec<ArchiveFile>> = BTreeMap::new();
    for file in files::list(dir)? {
        rounds.entry((file.name.staging, file.name.first)).or_default().push(file);
    }
    let mut rounds: Vec<_> = rounds.into_values().collect();
    let began = |round: &Vec<ArchiveFile>| round.iter().map(|file| file.name.clone()).min();
    rounds.sort_by_key(|round| std::cmp::Reverse(began(round)));
    Ok(rounds)
}

/// A row as a JSON object; what is missing is left out.
fn json<'a>(fields: impl Iterator<Item = (&'a String, &'a Field)>) -> String {
    let mut text = String::from("{");
    for (name, field) in fields {
        let value = match field {
            Field::Str(value) => serde_json::Value::from(value.as_str()),
            Field::Long(value) => (*value).into(),
            Field::Double(value) => (*value).into(),
            Field::TimestampMicros(micros) => time(*micros, name.as_str()).into(),
            _ => continue,
        };
        let comma = if text.len() == 1 { "" } else { "," };
        // Writing to a `String` does not fail.
        let _ = write!(text, "{comma}\"{name}\":{value}");
    }
    text + "}"
}

/// A timestamp as text; `Z` for those in UTC.
fn time(micros: i64, column: &str) -> String {
    let local = crate::event::Column::TsLocal.name() == column;
    let mut text = String::new();
    let Ok(since) = u64::try_from(micros) else { return micros.to_string() };
    // Writing to a `String` does not fail.
    let _ = write_date_time(&mut text, since / 1_000_000);
    let _ = write!(text, ".{:06}{}", since % 1_000_000, if local { "" } else { "Z" });
    text
}
