//! Spools as files, for whoever looks at them: nothing is changed, and a running process does not
//! mind. What it writes meanwhile may be missed.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::ranges::Ranges;
use super::read::{READ_MAX, rest};
use super::record::{self, Body};
use super::segment::{self, PREFIX, Walk};
use super::store::ABOUT;
use super::{Record, SpoolError, cursor};

/// A destination's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// The destination's name, with control characters escaped; empty when nobody has noted it.
    pub destination: String,
    /// Segments.
    pub segments: u64,
    /// Events in them, without those that a clean stop has noted as delivered.
    pub events: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Receive time of the oldest event of the first whole record, in ns since 1970.
    pub oldest_ns: Option<u64>,
}

/// What a folder's segments hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Whole records.
    pub records: u64,
    /// Events in them.
    pub events: u64,
    /// Of these, the events that a clean stop has noted as delivered. After a crash nobody knows them.
    pub delivered: u64,
    /// Damaged records; several one behind the other may look like one.
    pub damaged_records: u64,
    /// Events in these.
    pub damaged: u64,
    /// Bytes behind the last whole record of segments that are, or were, being written to.
    pub torn_bytes: u64,
}

impl Content {
    fn damage(&mut self, events: u64) {
        self.damaged_records += u64::from(events > 0);
        self.damaged = self.damaged.saturating_add(events);
    }
}

/// Longest name that is shown; those of accounts are free text.
const NAME_MAX: u64 = 1024;

/// The folders below `dir`, sorted by path. None when `dir` does not exist: nothing was ever spooled.
pub fn folders(dir: &Path) -> Result<Vec<Folder>, SpoolError> {
    let failed = |error| SpoolError::io("list", dir, error);
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            folders.push(look_at(path)?);
        }
    }
    folders.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(folders)
}

fn look_at(path: PathBuf) -> Result<Folder, SpoolError> {
    let destination = destination(&path);
    let mut folder =
        Folder { path, destination, segments: 0, events: 0, bytes: 0, oldest_ns: None };
    let delivered = delivered(&folder.path);
    for mut segment in segments(&folder.path)? {
        let mut end = segment.end;
        // A complete segment's name says what it holds; only the first is opened for the time.
        if end.is_none() || folder.oldest_ns.is_none() {
            let Some(bytes) = segment.read(&folder.path)? else { continue };
            let mut walk = Walk::new(&bytes, PREFIX, segment.sequences());
            let mut last = segment.first;
            for found in walk.by_ref() {
                last = found.header.end();
                if folder.oldest_ns.is_none() {
                    let body = record::decode(&bytes[found.payload], found.header.events);
                    folder.oldest_ns = body.map(|body| body.oldest_ns);
                }
            }
            end = segment.end.or(Some(last));
        }
        let events = segment.first..end.unwrap_or(segment.first);
        folder.segments += 1;
        // Nobody minds what a running process has removed since.
        folder.bytes += fs::metadata(&segment.path).map_or(0, |about| about.len());
        let waiting = events.end - events.start - delivered.count(&events);
        folder.events = folder.events.saturating_add(waiting);
    }
    Ok(folder)
}

/// Reads everything in a folder and checks it.
pub fn verify(folder: &Path) -> Result<Content, SpoolError> {
    walk(folder, |_| Ok(()))
}

/// Gives every whole record of a folder to `each`, in order. Events that a clean stop has noted as
/// delivered are left out; after a crash, others that were delivered may be there.
pub fn export<E: From<SpoolError>>(
    folder: &Path,
    mut each: impl FnMut(Record) -> Result<(), E>,
) -> Result<Content, E> {
    walk(folder, |record| if record.events == 0 { Ok(()) } else { each(record) })
}

/// Gives what is left of every whole record to `each`.
fn walk<E: From<SpoolError>>(
    folder: &Path,
    mut each: impl FnMut(Record) -> Result<(), E>,
) -> Result<Content, E> {
    let mut content = Content::default();
    let delivered = delivered(folder);
    for mut segment in segments(folder)? {
        let Some(bytes) = segment.read(folder)? else { continue };
        let mut expected = segment.first;
        let mut walk = Walk::new(&bytes, PREFIX, segment.sequences());
        for found in walk.by_ref() {
            let header = found.header;
            content.damage(header.sequence - expected);
            expected = header.end();
            let Some(Body { oldest_ns, lines }) =
                record::decode(&bytes[found.payload], header.events)
            else {
                content.damage(u64::from(header.events));
                continue;
            };
            let record = rest(&delivered, &header, oldest_ns, lines);
            content.records += 1;
            content.events += u64::from(header.events);
            content.delivered += u64::from(header.events - record.events);
            each(record)?;
        }
        match segment.end {
            Some(end) => content.damage(end - expected),
            None => content.torn_bytes += bytes.len().saturating_sub(walk.at()) as u64,
        }
    }
    Ok(content)
}

fn destination(folder: &Path) -> String {
    let mut about = String::new();
    if let Ok(file) = File::open(folder.join(ABOUT)) {
        // What cannot be read is not known; the path is.
        let _ = file.take(NAME_MAX).read_to_string(&mut about);
    }
    let line = about.lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).collect()
}

/// Events that the last clean stop has noted as delivered; none while a process runs.
fn delivered(folder: &Path) -> Ranges {
    let bytes = fs::read(folder.join(cursor::NAME)).unwrap_or_default();
    let mut delivered = Ranges::default();
    for range in cursor::parse(&bytes).unwrap_or_default() {
        delivered.insert(range);
    }
    delivered
}

struct Segment {
    path: PathBuf,
    first: u64,
    end: Option<u64>,
}

impl Segment {
    fn sequences(&self) -> Range<u64> {
        self.first..self.end.unwrap_or(u64::MAX)
    }

    /// What is in the file. `None` when it is gone: the process that runs removes what is delivered.
    fn read(&mut self, folder: &Path) -> Result<Option<Vec<u8>>, SpoolError> {
        let mut opened = File::open(&self.path);
        if matches!(&opened, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            // One that is complete since has another name now.
            let renamed = segments(folder)?.into_iter().find(|other| other.first == self.first);
            let Some(renamed) = renamed else { return Ok(None) };
            *self = renamed;
            opened = File::open(&self.path);
        }
        let mut bytes = Vec::new();
        let read = opened.and_then(|file| file.take(READ_MAX as u64).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| SpoolError::io("read", &self.path, error))?,
        };
        match segment::newer_version(&bytes) {
            Some(version) => Err(SpoolError::Newer { path: self.path.clone(), version }),
            None => Ok(Some(bytes)),
        }
    }
}

fn segments(folder: &Path) -> Result<Vec<Segment>, SpoolError> {
    let failed = |error| SpoolError::io("list", folder, error);
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some((first, end)) = segment::parse_name(name) {
            segments.push(Segment { path, first, end });
        }
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::super::{Settings, Spool, folder};
    use super::*;
    use crate::deliver::disk::PlainDisk;
    use std::time::Duration;

    async fn write(folder: PathBuf) {
        let settings = Settings {
            folder,
            destination: "new_relic:A\u{1b}[2J\n".into(),
            max_bytes: 1 << 40,
            max_age: Duration::from_hours(1),
        };
        let (mut spool, _) = Spool::open(PlainDisk, settings).await.unwrap();
        spool.push(b"a\nb\n", 2, 1, 1).await.unwrap();
        spool.push(b"c\n", 1, 1, 1).await.unwrap();
        spool.close().await.unwrap();
        spool.push(b"d\n", 1, 1, 1).await.unwrap();
    }

    #[test]
    fn looks_and_changes_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("spool");
        assert_eq!(folders(&dir).unwrap(), []);
        let path = folder(&dir, "new_relic:A", "x");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(write(path.clone()));
        let found = folders(&dir).unwrap();
        assert_eq!((found.len(), &found[0].path, found[0].segments), (1, &path, 2));
        assert_eq!(found[0].destination, "new_relic:A\\u{1b}[2J\\n");
        let mut lines = Vec::new();
        let all = export(&path, |record| {
            lines.extend_from_slice(&record.lines);
            Ok::<(), SpoolError>(())
        });
        let whole = Content { records: 3, events: 4, ..Content::default() };
        assert_eq!((all.unwrap(), lines.as_slice()), (whole, &b"a\nb\nc\nd\n"[..]));
        assert_eq!((found[0].events, found[0].oldest_ns), (4, Some(1)));
        // Damage in the complete segment, a torn end of the other.
        for (name, cut) in [(segment::name(0, Some(3)), 20), (segment::name(3, None), 3)] {
            let file = path.join(name);
            let mut bytes = fs::read(&file).unwrap();
            let at = bytes.len() - cut;
            bytes[at] ^= 1;
            fs::write(&file, bytes).unwrap();
        }
        let content = verify(&path).unwrap();
        assert_eq!((content.records, content.events), (1, 2));
        assert_eq!((content.damaged_records, content.damaged), (1, 1));
        assert!(content.torn_bytes > 0);
    }

    #[test]
    fn what_is_delivered_is_not_exported() {
        let parent = tempfile::tempdir().unwrap();
        let path = folder(parent.path(), "influxdb", "x");
        let settings = Settings {
            folder: path.clone(),
            destination: "influxdb".into(),
            max_bytes: 1 << 40,
            max_age: Duration::from_hours(1),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut spool, _) = Spool::open(PlainDisk, settings).await.unwrap();
            for (line, ns) in [(b"a\n", 5), (b"b\n", 6), (b"c\n", 7)] {
                spool.push(line, 1, ns, ns).await.unwrap();
            }
            let (first, second) = (spool.next(7).await.unwrap(), spool.next(7).await.unwrap());
            assert_eq!((first.unwrap().sequence, second.unwrap().sequence), (0, 1));
            spool.acknowledge(1);
            spool.close().await.unwrap();
        });
        assert_eq!(folders(parent.path()).unwrap()[0].events, 2);
        let mut lines = Vec::new();
        let content = export(&path, |record| {
            lines.extend_from_slice(&record.lines);
            Ok::<(), SpoolError>(())
        });
        let expected = Content { records: 3, events: 3, delivered: 1, ..Content::default() };
        assert_eq!((content.unwrap(), lines.as_slice()), (expected, &b"a\nc\n"[..]));
    }

    #[test]
    fn files_that_change_meanwhile() {
        let parent = tempfile::tempdir().unwrap();
        let path = folder(parent.path(), "influxdb", "x");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(write(path.clone()));
        let mut found = segments(&path).unwrap();
        let renamed = path.join(segment::name(3, Some(4)));
        fs::rename(&found[1].path, &renamed).unwrap();
        assert!(found[1].read(&path).unwrap().is_some());
        assert_eq!((&found[1].path, found[1].end), (&renamed, Some(4)));
        fs::remove_file(&renamed).unwrap();
        assert!(found[1].read(&path).unwrap().is_none());
        let missing = verify(&path.join("missing")).unwrap_err().to_string();
        assert!(missing.contains("cannot list") && missing.contains("missing"), "{missing}");
    }
}
