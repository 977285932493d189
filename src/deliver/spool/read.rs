//! The way of a spool's records back into memory.

use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

use super::ranges::Ranges;
use super::record::{self, Body, HEADER, Header};
use super::segment::{PREFIX, Walk};
use super::store::{SEGMENT_BYTES, Spool};
use super::{Record, SpoolError};
use crate::deliver::Storage;

/// Most bytes of a segment that are read: a complete one, and the record that made it so. What lies
/// behind is nothing that this program wrote.
pub(super) const READ_MAX: usize = SEGMENT_BYTES as usize + 2 * record::PAYLOAD_MAX;

/// The part of a segment that is being read.
#[derive(Debug)]
pub(super) struct Window {
    pub segment: u64,
    /// Where in the file `bytes` begin.
    base: u64,
    bytes: Bytes,
    /// Where in `bytes` the next record begins, and its sequence.
    at: usize,
    pub sequence: u64,
}

impl<D: Storage> Spool<D> {
    /// The oldest record that is not handed out; `None` when there is none. What is damaged or older
    /// than the limit is passed over and counted as lost.
    pub async fn next(&mut self, now_ns: u64) -> Result<Option<Record>, SpoolError> {
        loop {
            self.read_at = self.first_unread();
            let from = self.read_at;
            let Some((&first, segment)) = self.segments.range(..=from).next_back() else {
                return Ok(None);
            };
            let end = segment.end;
            if from >= end {
                return Ok(None);
            }
            let Some((header, record)) = self.read(first, from, end).await? else { continue };
            let oldest_kept = self.settings.oldest_kept(now_ns);
            if record.oldest_ns < oldest_kept {
                for range in record.numbers.ranges() {
                    self.lost.expired += self.lose(range);
                }
                continue;
            }
            self.out.insert(header.sequence, header.end());
            self.times.insert(header.sequence, record.oldest_ns);
            return Ok(Some(record));
        }
    }

    /// The first event that neither has an outcome nor is handed out.
    pub(super) fn first_unread(&self) -> u64 {
        let mut at = self.read_at;
        loop {
            at = self.done.gap(at);
            match self.out.range(..=at).next_back() {
                Some((_, &end)) if end > at => at = end,
                _ => return at,
            }
        }
    }

    /// The next record from `from` on in the segment `first`; `None` when there is none, or it is
    /// damaged: what is missing is counted then.
    async fn read(
        &mut self,
        first: u64,
        from: u64,
        end: u64,
    ) -> Result<Option<(Header, Record)>, SpoolError> {
        let path = self.segment_path(first);
        let bytes = self.segments[&first].bytes;
        let window = look_at(&self.disk, &path, &mut self.window, first, bytes).await?;
        let mut walk = Walk::new(&window.bytes, window.at, window.sequence..end);
        let Some(found) = walk.find(|found| found.header.end() > from) else {
            window.at = walk.at();
            self.damaged(&path, from..end);
            return Ok(None);
        };
        let header = found.header;
        if header.sequence > from {
            // What comes behind the damage may have its outcome already: look again.
            window.at = found.payload.start - HEADER;
            window.sequence = header.sequence;
            self.damaged(&path, from..header.sequence);
            return Ok(None);
        }
        window.at = walk.at();
        window.sequence = header.end();
        let body = record::decode(&window.bytes[found.payload], header.events);
        let Some(Body { oldest_ns, lines }) = body else {
            self.damaged(&path, header.sequence..header.end());
            return Ok(None);
        };
        Ok(Some((header, rest(&self.done, &header, oldest_ns, lines))))
    }

    fn damaged(&mut self, path: &Path, range: Range<u64>) {
        let events = self.lose(range);
        if events > 0 {
            tracing::error!(
                destination = self.settings.destination,
                events,
                "{}: damaged; these events are skipped and counted as `crash`; look after the disk",
                path.display()
            );
        }
        self.lost.damaged += events;
    }
}

/// What is left of a record besides the events in `done`.
pub(super) fn rest(done: &Ranges, header: &Header, oldest_ns: u64, lines: Bytes) -> Record {
    let sequence = header.sequence;
    let numbers = done.missing(sequence..header.end());
    let count = numbers.count();
    let whole = count == u64::from(header.events);
    let lines = if whole { lines } else { numbers.lines(sequence, &lines) };
    // No more than there were, which is a `u32`.
    let events = u32::try_from(count).unwrap_or(header.events);
    Record { sequence, numbers, events, oldest_ns, lines }
}

/// Has the rest of a segment of `length` bytes in memory.
async fn look_at<'a, D: Storage>(
    disk: &D,
    path: &Path,
    window: &'a mut Option<Window>,
    first: u64,
    length: u64,
) -> Result<&'a mut Window, SpoolError> {
    let (base, at, sequence) = match &window {
        Some(window) if window.segment == first => {
            let end = window.base + window.bytes.len() as u64;
            if end >= length.min(READ_MAX as u64) {
                (None, window.at, window.sequence)
            } else {
                // It has grown since.
                (Some(window.base + window.at as u64), 0, window.sequence)
            }
        }
        _ => (Some(0), PREFIX, first),
    };
    if let Some(base) = base {
        // Behind the end lies what an append that failed has left, until the next one is there instead.
        let most = usize::try_from(length.saturating_sub(base)).unwrap_or(READ_MAX).min(READ_MAX);
        let bytes = match disk.read(path, base, most).await {
            // Somebody removed it: its events are missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Bytes::new(),
            read => read.map_err(|error| SpoolError::io("read", path, error))?,
        };
        *window = Some(Window { segment: first, base, bytes, at, sequence });
    }
    let missing = || SpoolError::io("read", path, io::ErrorKind::NotFound.into());
    window.as_mut().ok_or_else(missing)
}
