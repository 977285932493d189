//! The files of an archive: where they are, what their names say, and which are old.
//!
//! ```text
//! <dir>/kind=qseow-engine/date=2026-11-22/20261122T030405Z-<staging>-<first>-<end>.parquet
//! <dir>/.unfinished/                       files that are being written
//! ```
//!
//! The time is that of the first event. `staging` names the staging folder that the events came from,
//! and `first` and `end` are numbers there: the file has all events of its kind and date from `first`
//! to before `end`. So an event that is replayed is known to be there, or not, from names alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::calendar::{civil_from_days, write_date_time};
use crate::event::Kind;

/// The folder of files that are being written. Readers pass over names with a dot.
pub const UNFINISHED: &str = ".unfinished";

/// Ending of the name of a whole file.
const SUFFIX: &str = ".parquet";

const NS_PER_SECOND: u64 = 1_000_000_000;
const NS_PER_DAY: u64 = 86_400 * NS_PER_SECOND;

/// What the files of one folder have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    /// Days since 1970 in UTC, of the receive time.
    pub day: u64,
    /// Which of [`Kind::ALL`].
    kind: u8,
}

impl Partition {
    /// Where an event belongs.
    #[must_use]
    pub fn of(kind: Kind, received_ns: u64) -> Self {
        Self { day: received_ns / NS_PER_DAY, kind: kind as u8 }
    }

    /// The kind of its events.
    #[must_use]
    pub fn kind(self) -> Kind {
        Kind::ALL[usize::from(self.kind)]
    }

    /// The date as it stands in the folder's name.
    #[must_use]
    pub fn date(self) -> String {
        let (year, month, day) = civil_from_days(self.day);
        format!("{year:04}-{month:02}-{day:02}")
    }

    /// Its folder below that of the archive.
    #[must_use]
    pub fn folder(self) -> PathBuf {
        PathBuf::from(format!("kind={}", self.kind().name())).join(format!("date={}", self.date()))
    }

    fn parse(kind: &str, date: &str) -> Option<Self> {
        let kind = kind.strip_prefix("kind=")?;
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind)?;
        let date = date.strip_prefix("date=")?;
        let time = format!("{date}T00:00:00.000Z");
        let ms = crate::event::TimeText::read(time.as_bytes())?.moment_ms()?;
        let day = u64::try_from(ms).ok()? / 86_400_000;
        Some(Self { day, kind: kind as u8 })
    }
}

/// What a name says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Receive time of the first event, as text.
    time: String,
    /// The staging folder.
    pub staging: u64,
    /// The numbers that the events have there.
    pub first: u64,
    /// See `first`.
    pub end: u64,
}

impl Name {
    /// The name of a file whose first event was received then.
    #[must_use]
    pub fn new(first_ns: u64, staging: u64, numbers: &Range<u64>) -> Self {
        let mut time = String::new();
        // Writing to a `String` does not fail.
        let _ = write_date_time(&mut time, first_ns / NS_PER_SECOND);
        time.retain(|c| c != '-' && c != ':');
        Self { time: time + "Z", staging, first: numbers.start, end: numbers.end }
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(SUFFIX)?.split('-');
        let time = parts.next()?;
        let mut number = || {
            let part = parts.next().filter(|part| part.len() == 16)?;
            u64::from_str_radix(part, 16).ok()
        };
        let (staging, first, end) = (number()?, number()?, number()?);
        let name = Self { time: time.to_owned(), staging, first, end };
        let is_time = time.len() == 16 && time.ends_with('Z');
        (is_time && parts.next().is_none() && first < end).then_some(name)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { time, staging, first, end } = self;
        write!(f, "{time}-{staging:016x}-{first:016x}-{end:016x}{SUFFIX}")
    }
}

/// A whole file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArchiveFile {
    /// Its folder.
    pub partition: Partition,
    /// What its name says.
    pub name: Name,
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// A folder or a file of an archive with which the system refuses to do something.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {error}", path.display())]
pub struct Refused {
    /// What was to be done.
    pub action: &'static str,
    /// The folder or the file.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

/// All whole files of an archive, the oldest first; none when `dir` does not exist. Others that may
/// lie there are passed over.
pub fn list(dir: &Path) -> Result<Vec<ArchiveFile>, Refused> {
    let (files, refused) = list_readable(dir);
    refused.map_or(Ok(files), Err)
}

/// As [`list`], of the folders that can be read, and the first that cannot.
#[must_use]
pub fn list_readable(dir: &Path) -> (Vec<ArchiveFile>, Option<Refused>) {
    let mut refused = None;
    let mut entries = |folder: &Path| match entries(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let path = folder.to_owned();
            refused.get_or_insert(Refused { action: "list", path, error });
            Vec::new()
        }
    };
    let mut files = Vec::new();
    for (kind, path) in entries(dir) {
        if !kind.starts_with("kind=") {
            continue;
        }
        for (date, path) in entries(&path) {
            let Some(partition) = Partition::parse(&kind, &date) else { continue };
            for (name, path) in entries(&path) {
                let Some(name) = Name::parse(&name) else { continue };
                // Nobody minds what is removed meanwhile.
                let Ok(about) = fs::metadata(&path) else { continue };
                files.push(ArchiveFile { partition, name, path, bytes: about.len() });
            }
        }
    }
    files.sort();
    (files, refused)
}

/// Names and paths in a folder; none when it is not there, or is no folder.
fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    use io::ErrorKind::{NotADirectory, NotFound};
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(Vec::new()),
        entries => entries?,
    };
    entries
        .map(|entry| {
            let path = entry?.path();
            Ok((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path))
        })
        .collect()
}

/// Makes a folder and those above it, which their owner and its group may enter, durably.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        make_folder(parent)?;
    }
    #[cfg_attr(not(unix), expect(unused_mut, reason = "folders have no mode"))]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o750);
    match builder.create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_folder(parent.unwrap_or(Path::new(".")))
}

/// Brings the names in a folder to the disk.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        // Elsewhere a folder cannot be opened as a file, and names are journalled.
        return Ok(());
    }
    File::open(folder)?.sync_all()
}

/// Which events of one staging folder are in files already.
#[derive(Debug, Default)]
pub(super) struct Covered(BTreeMap<Partition, Vec<Range<u64>>>);

impl Covered {
    /// What these files have of a staging folder.
    pub fn new(files: &[ArchiveFile], staging: u64) -> Self {
        let mut covered = Self::default();
        for file in files.iter().filter(|file| file.name.staging == staging) {
            covered.add(file.partition, file.name.first..file.name.end);
        }
        covered
    }

    pub fn add(&mut self, partition: Partition, numbers: Range<u64>) {
        self.0.entry(partition).or_default().push(numbers);
    }

    pub fn has(&self, partition: Partition, number: u64) -> bool {
        let ranges = self.0.get(&partition);
        ranges.is_some_and(|ranges| ranges.iter().any(|range| range.contains(&number)))
    }

    /// The number behind the last of all.
    pub fn end(&self) -> u64 {
        self.0.values().flatten().map(|range| range.end).max().unwrap_or(0)
    }

    /// Nothing before this number will be asked for.
    pub fn forget_before(&mut self, number: u64) {
        self.0.retain(|_, ranges| {
            ranges.retain(|range| range.end > number);
            !ranges.is_empty()
        });
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// A day's files are removed when the day ended so long ago.
    pub max_age: Duration,
    /// The oldest files give way when all are larger than this.
    pub max_bytes: u64,
}

impl Retention {
    /// Whether the file is of a day that ended too long ago.
    pub(super) fn is_old(&self, file: &ArchiveFile, now_ns: u64) -> bool {
        let age = u64::try_from(self.max_age.as_nanos()).unwrap_or(u64::MAX);
        (file.partition.day + 1) * NS_PER_DAY <= now_ns.saturating_sub(age)
    }

    /// The files that are not kept, of all files, the oldest first. Without the time their age does not
    /// matter.
    pub(super) fn excess<'a>(
        &self,
        files: &'a [ArchiveFile],
        now_ns: Option<u64>,
    ) -> &'a [ArchiveFile] {
        let is_old = |file| now_ns.is_some_and(|now_ns| self.is_old(file, now_ns));
        let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let mut count = 0;
        for file in files {
            if bytes <= self.max_bytes && !is_old(file) {
                break;
            }
            bytes -= file.bytes;
            count += 1;
        }
        &files[..count]
    }
}

/// Removes files and the folders that are empty then. Returns how many these were, and the first that
/// could not be removed.
pub(super) fn remove(files: &[ArchiveFile]) -> (usize, Option<Refused>) {
    let mut removed = 0;
    let mut refused = None;
    for ArchiveFile { path, .. } in files {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let path = path.clone();
                refused.get_or_insert(Refused { action: "remove", path, error });
                continue;
            }
            _ => removed += 1,
        }
        // Fails unless it was the last.
        if let Some(folder) = path.parent() {
            let _ = fs::remove_dir(folder);
        }
    }
    (removed, refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_NS: u64 = 1_700_000_000 * NS_PER_SECOND;

    fn touch(dir: &Path, received_ns: u64, first: u64, bytes: usize) -> PathBuf {
        let partition = Partition::of(Kind::Engine, received_ns);
        let folder = dir.join(partition.folder());
        make_folder(&folder).unwrap();
        let path = folder.join(Name::new(received_ns, 0xabc, &(first..first + 10)).to_string());
        fs::write(&path, vec![0; bytes]).unwrap();
        path
    }

    #[test]
    fn names() {
        let partition = Partition::of(Kind::QixPerf, NOW_NS);
        assert_eq!(partition.folder(), Path::new("kind=qseow-qix-perf/date=2023-11-14"));
        let parsed = Partition::parse("kind=qseow-qix-perf", "date=2023-11-14");
        assert_eq!(parsed, Some(partition));
        assert_eq!(Partition::parse("kind=qseow-qix-perf", "date=2023-11-31"), None);
        let name = Name::new(NOW_NS, 0xabc, &(1..32));
        let text = "20231114T221320Z-0000000000000abc-0000000000000001-0000000000000020.parquet";
        assert_eq!(name.to_string(), text);
        assert_eq!(Name::parse(text), Some(name));
        for other in ["data.parquet", &text.replace("abc", "xyz"), &text.replace(".p", "-0.p")] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }

    #[test]
    fn what_lies_there_besides_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("archive");
        assert_eq!(list(&dir).unwrap(), []);
        let path = touch(&dir, NOW_NS, 0, 3);
        for other in ["notes.txt", "kind=x/date=2023-11-14/a.parquet", "kind=qseow-engine/readme"] {
            let other = dir.join(other);
            fs::create_dir_all(other.parent().unwrap()).unwrap();
            fs::write(other, "x").unwrap();
        }
        fs::write(path.with_file_name("mine.parquet"), "x").unwrap();
        let files = list(&dir).unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!((&files[0].path, files[0].bytes), (&path, 3));
        let none = Retention { max_age: Duration::ZERO, max_bytes: 0 };
        assert_eq!(remove(none.excess(&files, Some(u64::MAX))).0, 1);
        assert!(path.with_file_name("mine.parquet").exists(), "what others made stays");
    }

    #[test]
    fn covered_events() {
        let folder = tempfile::tempdir().unwrap();
        touch(folder.path(), NOW_NS, 5, 1);
        touch(folder.path(), NOW_NS, 40, 1);
        let files = list(folder.path()).unwrap();
        let mut covered = Covered::new(&files, 0xabc);
        let [engine, proxy] = [Kind::Engine, Kind::Proxy].map(|kind| Partition::of(kind, NOW_NS));
        let has = |covered: &Covered| [4, 5, 14, 15, 49].map(|n| covered.has(engine, n));
        assert_eq!(has(&covered), [false, true, true, false, true]);
        assert!(!covered.has(proxy, 5));
        assert_eq!(covered.end(), 50);
        covered.forget_before(15);
        assert_eq!(has(&covered), [false, false, false, false, true]);
        assert_eq!(Covered::new(&files, 1).end(), 0, "another staging folder's");
    }

    #[test]
    fn old_files_and_the_oldest_of_too_many_give_way() {
        let folder = tempfile::tempdir().unwrap();
        let day = |days: u64| NOW_NS - days * NS_PER_DAY;
        let paths: Vec<_> =
            (0..5).map(|days| touch(folder.path(), day(days), 10 * days, 100)).collect();
        let there = || paths.iter().map(|path| path.exists()).collect::<Vec<_>>();
        let keep = |days: u64, max_bytes| {
            let retention = Retention { max_age: Duration::from_hours(24 * days), max_bytes };
            remove(retention.excess(&list(folder.path()).unwrap(), Some(NOW_NS))).0
        };
        assert_eq!(keep(30, 500), 0);
        // Of the fourth day back the last event may be no older than three days and a bit.
        assert_eq!(keep(3, 500), 1);
        assert_eq!(there(), [true, true, true, true, false]);
        assert_eq!(keep(30, 299), 2);
        assert_eq!(there(), [true, true, false, false, false]);
        assert!(!paths[4].parent().unwrap().exists(), "empty folders go too");
    }

    /// Not even root can list it.
    #[cfg(unix)]
    fn unreadable(dir: &Path) -> PathBuf {
        let path = dir.join("kind=qseow-engine/date=2023-01-01");
        std::os::unix::fs::symlink(&path, &path).unwrap();
        path
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_cannot_be_read_is_named_and_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = touch(folder.path(), NOW_NS, 0, 3);
        let broken = unreadable(folder.path());
        let refused = list(folder.path()).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("cannot list {}: ", broken.display())), "{refused}");
        let (files, refused) = list_readable(folder.path());
        assert_eq!(files.iter().map(|file| &file.path).collect::<Vec<_>>(), [&path]);
        assert_eq!(refused.unwrap().path, broken);
    }

    #[test]
    fn a_file_that_cannot_be_removed_does_not_keep_others() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] =
            [1, 0].map(|days| touch(folder.path(), NOW_NS - days * NS_PER_DAY, 0, 3));
        // Not even root removes a folder as a file.
        fs::remove_file(&first).unwrap();
        fs::create_dir(&first).unwrap();
        let (removed, refused) = remove(&list(folder.path()).unwrap());
        assert_eq!((removed, refused.unwrap().path, second.exists()), (1, first, false));
    }
}
