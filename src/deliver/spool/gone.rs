//! What is left of segments that are gone: an empty file whose name says how far the folder is.
//!
//! A segment is dropped by giving its file this name. So there is no moment at which its events are
//! neither in a segment nor counted, and it takes no room on a disk that is full. The next start reads
//! the name and compares it with what the last run had told ([`SpoolMark`]). The newest of such files
//! is kept, which also keeps the numbering of events going while there is no segment.

use std::io;
use std::path::Path;

use super::SpoolError;
use super::segment::number;
use super::store::{Segment, Spool};
use crate::deliver::{Listed, Storage};
use crate::observe::ledger::SpoolMark;

/// Ending of the name.
const SUFFIX: &str = ".gone";

/// Why a segment is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// All of its events have an outcome.
    Done,
    /// Younger ones need the room.
    Full,
    /// It is older than the limit.
    Expired,
}

/// The name of the file.
fn name(mark: &SpoolMark) -> String {
    format!("{:016x}-{:016x}-{:016x}{SUFFIX}", mark.next, mark.full, mark.expired)
}

/// What a name says; `None` for other files.
fn parse(name: &str) -> Option<SpoolMark> {
    let mut parts = name.strip_suffix(SUFFIX)?.split('-').map(number);
    let mut part = || parts.next().flatten();
    let mark = SpoolMark { folder: 0, next: part()?, full: part()?, expired: part()? };
    parts.next().is_none().then_some(mark)
}

/// Whether a file is what is left of a segment.
pub(super) fn is_name(name: &str) -> bool {
    parse(name).is_some()
}

impl<D: Storage> Spool<D> {
    /// Removes a segment of which nothing is handed out, and counts what goes with it. When this
    /// fails, the segment is as it was, or gone and counted.
    pub(super) async fn drop_segment(
        &mut self,
        first: u64,
        cause: Cause,
    ) -> Result<(), SpoolError> {
        let Some(Segment { end, .. }) = self.segments.get(&first) else { return Ok(()) };
        let left = (end - first) - self.done.count(&(first..*end));
        let before = self.mark;
        let mut mark = SpoolMark { next: self.next, ..before };
        match cause {
            Cause::Done => {}
            Cause::Full => mark.full += left,
            Cause::Expired => mark.expired += left,
        }
        let (from, to) = (self.segment_path(first), self.path(&name(&mark)));
        let renamed = match self.disk.rename(&from, &to).await {
            Ok(()) => true,
            // Whoever removed it did what was to be done.
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(SpoolError::io("rename", &from, error)),
        };
        self.mark = mark;
        self.forget(first);
        if !matches!(cause, Cause::Full) {
            self.kept = self.bytes;
        }
        match cause {
            Cause::Done => {}
            Cause::Full => self.lost.full += left,
            Cause::Expired => self.lost.expired += left,
        }
        if !renamed {
            return Ok(());
        }
        // First of all: a power failure must not bring back the old name of an emptied file.
        self.sync_folder().await?;
        self.cut_off(&to).await?;
        if before == mark { Ok(()) } else { self.remove(&self.path(&name(&before))).await }
    }

    /// Reads the newest of such names, and removes the others.
    pub(super) async fn find_gone(&mut self, files: &[Listed]) -> Result<(), SpoolError> {
        let marks = files.iter().filter_map(|file| Some((parse(&file.name)?, file.length)));
        let mut marks: Vec<(SpoolMark, u64)> = marks.collect();
        marks.sort_unstable();
        let Some((newest, length)) = marks.pop() else { return Ok(()) };
        self.mark = newest;
        if length > 0 {
            self.cut_off(&self.path(&name(&newest))).await?;
        }
        for (older, _) in marks {
            self.remove(&self.path(&name(&older))).await?;
        }
        Ok(())
    }

    async fn cut_off(&self, path: &Path) -> Result<(), SpoolError> {
        match self.disk.truncate(path, 0).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SpoolError::io("cut", path, error))
            }
            _ => Ok(()),
        }
    }

    async fn remove(&self, path: &Path) -> Result<(), SpoolError> {
        match self.disk.remove(path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SpoolError::io("remove", path, error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let mark = SpoolMark { folder: 0, next: u64::MAX, full: 0xabc, expired: 7 };
        let text = "ffffffffffffffff-0000000000000abc-0000000000000007.gone";
        assert_eq!((name(&mark).as_str(), parse(text)), (text, Some(mark)));
        for other in ["", ".gone", "lock", &text[1..], &text[17..], &format!("0-{text}")] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
