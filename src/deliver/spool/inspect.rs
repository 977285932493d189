//! Spools as files, for whoever looks at them: nothing is changed, and a running process does not
//! mind. What it writes meanwhile may be missed.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::Record;
use super::record::{self, Body};
use super::segment::{self, PREFIX, Walk};
use super::store::{ABOUT, READ_MAX};

/// A destination's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// The destination's name, with control characters escaped; empty when nobody has noted it.
    pub destination: String,
    /// Segments.
    pub segments: u64,
    /// Bytes of all segments.
    pub bytes: u64,
}

/// What a folder's segments hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Whole records.
    pub records: u64,
    /// Events in them, those that were delivered already among them while their segment is there.
    pub events: u64,
    /// Events that are damaged.
    pub damaged: u64,
    /// Bytes behind the last whole record of segments that are, or were, being written to.
    pub torn_bytes: u64,
}

/// Longest name that is shown; those of accounts are free text.
const NAME_MAX: u64 = 1024;

/// The folders below `dir`, sorted by path. None when `dir` does not exist: nothing was ever spooled.
pub fn folders(dir: &Path) -> io::Result<Vec<Folder>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let segments = segments(&path)?;
        let mut bytes = 0;
        for segment in &segments {
            bytes += fs::metadata(&segment.path)?.len();
        }
        let mut about = String::new();
        if let Ok(file) = fs::File::open(path.join(ABOUT)) {
            // What cannot be read is not known; the path is.
            let _ = file.take(NAME_MAX).read_to_string(&mut about);
        }
        let destination = about.lines().next().unwrap_or_default();
        let destination = destination.chars().filter(|c| !c.is_control()).collect();
        folders.push(Folder { path, destination, segments: segments.len() as u64, bytes });
    }
    folders.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(folders)
}

/// Reads everything in a folder and checks it.
pub fn verify(folder: &Path) -> io::Result<Content> {
    export(folder, |_| Ok(()))
}

/// Gives every whole record of a folder to `each`, in order. Also those that were delivered already,
/// while their segment is there.
pub fn export(
    folder: &Path,
    mut each: impl FnMut(Record) -> io::Result<()>,
) -> io::Result<Content> {
    let mut content = Content::default();
    for Segment { path, first, end } in segments(folder)? {
        let mut bytes = Vec::new();
        fs::File::open(&path)?.take(READ_MAX as u64).read_to_end(&mut bytes)?;
        let mut expected = first;
        let mut walk = Walk::new(&bytes, PREFIX, first..end.unwrap_or(u64::MAX));
        for found in walk.by_ref() {
            let header = found.header;
            content.damaged += header.sequence - expected;
            expected = header.end();
            let Some(Body { oldest_ns, lines }) =
                record::decode(&bytes[found.payload], header.events)
            else {
                content.damaged += u64::from(header.events);
                continue;
            };
            content.records += 1;
            content.events += u64::from(header.events);
            let (sequence, events) = (header.sequence, header.events);
            each(Record { sequence, events, oldest_ns, lines })?;
        }
        match end {
            Some(end) => content.damaged += end - expected,
            None => content.torn_bytes += bytes.len().saturating_sub(walk.at()) as u64,
        }
    }
    Ok(content)
}

struct Segment {
    path: PathBuf,
    first: u64,
    end: Option<u64>,
}

fn segments(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
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
            Ok(())
        });
        let whole = Content { records: 3, events: 4, ..Content::default() };
        assert_eq!((all.unwrap(), lines.as_slice()), (whole, &b"a\nb\nc\nd\n"[..]));
        // Damage in the complete segment, a torn end of the other.
        for (name, cut) in [(segment::name(0, Some(3)), 20), (segment::name(3, None), 3)] {
            let file = path.join(name);
            let mut bytes = fs::read(&file).unwrap();
            let at = bytes.len() - cut;
            bytes[at] ^= 1;
            fs::write(&file, bytes).unwrap();
        }
        let content = verify(&path).unwrap();
        assert_eq!((content.records, content.events, content.damaged), (1, 2, 1));
        assert!(content.torn_bytes > 0);
    }
}
