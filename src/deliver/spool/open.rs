//! From a folder as the last process left it to a [`Spool`].

use std::io;

use super::read::READ_MAX;
use super::record::{self, HEADER, Header};
use super::segment::{self, PREFIX, Walk};
use super::store::{Segment, Spool};
use super::{Settings, SpoolError, cursor};
use crate::deliver::{Listed, Storage};
use crate::observe::ledger::SpoolMark;

/// What lay in the folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Events to be sent.
    pub events: u64,
    /// Events, not among these, that were in a record which was not completely written when the last
    /// process or the machine crashed, as far as its header says so.
    pub torn: u64,
    /// How far the spool is.
    pub mark: SpoolMark,
}

impl<D: Storage> Spool<D> {
    /// Takes over a folder. One that does not exist is made when something is written.
    ///
    /// What a crash has left at the end of the last segment is cut off. After an error nothing has
    /// been lost, and it may be tried again.
    pub async fn open(disk: D, settings: Settings) -> Result<(Self, Found), SpoolError> {
        let mut spool = Self::empty(disk, settings);
        spool.look_at_disk().await;
        let mut found = Found::default();
        let folder = spool.settings.folder.clone();
        let list = |listed: io::Result<Vec<Listed>>| {
            listed.map_err(|error| SpoolError::io("list", &folder, error))
        };
        match spool.disk.list(&folder).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                found.mark = spool.mark();
                return Ok((spool, found));
            }
            listed => list(listed)?,
        };
        spool.take_lock().await?;
        // Again, now that nobody else changes it.
        let files = list(spool.disk.list(&folder).await)?;
        spool.find_gone(&files).await?;
        let mut segments: Vec<_> = files
            .into_iter()
            .filter_map(|file| segment::parse_name(&file.name).map(|name| (name, file)))
            .collect();
        segments.sort_by_key(|((first, end), _)| (*first, *end));
        for index in 0..segments.len() {
            let limit = segments.get(index + 1).map_or(u64::MAX, |((first, _), _)| *first);
            let ((first, end), file) = &segments[index];
            if *first < spool.next || end.is_some_and(|end| end > limit) {
                // Nothing that this program did; nothing to guess about either.
                tracing::error!(
                    "{}: overlaps with another segment and is left alone; move it away",
                    folder.join(&file.name).display()
                );
                continue;
            }
            spool.check_version(&file.name).await?;
            match end {
                Some(end) => spool.add(*first, *end, file.length, file.modified_ns),
                None => found.torn += spool.recover(*first, limit, file).await?,
            }
        }
        for range in cursor::take(&spool.disk, &folder).await? {
            // Beyond the last segment nothing is done yet, whatever it says.
            let new = spool.done.insert(range.start.min(spool.next)..range.end.min(spool.next));
            spool.events -= new;
        }
        // There may be no segment any more, though there were some.
        spool.skip_to(spool.mark.next);
        spool.look_at_times().await;
        found.events = spool.events;
        found.mark = spool.mark();
        Ok((spool, found))
    }

    fn add(&mut self, first: u64, end: u64, bytes: u64, newest_ns: u64) {
        self.skip_to(first);
        self.next = end;
        self.events += end - first;
        self.bytes += bytes;
        self.segments.insert(first, Segment { end, bytes, newest_ns, sealed: true });
    }

    /// Events before this are in no segment, if they are not in one of those before.
    fn skip_to(&mut self, first: u64) {
        self.done.insert(self.next..first.max(self.next));
        self.next = self.next.max(first);
    }

    /// Notes how old each segment is: the first as its first record says, and no other has an event
    /// that is much older than the end of the segment before.
    async fn look_at_times(&mut self) {
        let mut before = None;
        for (&first, segment) in &self.segments {
            self.times.insert(first, before.unwrap_or(segment.newest_ns));
            before = Some(segment.newest_ns);
        }
        if let Some((&first, _)) = self.segments.first_key_value()
            && let Some(time) = self.first_time(first).await
        {
            self.times.insert(first, time);
        }
    }

    /// Receive time of the oldest event of a segment's first record, unless that is damaged.
    async fn first_time(&self, first: u64) -> Option<u64> {
        let path = self.segment_path(first);
        let head = self.disk.read(&path, PREFIX as u64, HEADER).await.ok()?;
        let header = Header::read(&head)?;
        let record = self.disk.read(&path, PREFIX as u64, header.whole()).await.ok()?;
        let whole = header.matches(&record);
        let body = whole.then(|| record::decode(&record[HEADER..], header.events)).flatten()?;
        Some(body.oldest_ns)
    }

    async fn check_version(&self, name: &str) -> Result<(), SpoolError> {
        let path = self.path(name);
        let prefix = self.disk.read(&path, 0, PREFIX).await;
        let prefix = prefix.map_err(|error| SpoolError::io("read", &path, error))?;
        match segment::newer_version(&prefix) {
            Some(version) => Err(SpoolError::Newer { path, version }),
            None => Ok(()),
        }
    }

    /// Completes a segment that was written to when the last process crashed. Returns how many events
    /// were in the record that is cut off.
    async fn recover(&mut self, first: u64, limit: u64, file: &Listed) -> Result<u64, SpoolError> {
        let path = self.path(&file.name);
        let bytes = self.disk.read(&path, 0, READ_MAX).await;
        let bytes = bytes.map_err(|error| SpoolError::io("read", &path, error))?;
        let mut walk = Walk::new(&bytes, PREFIX, first..limit);
        let end = walk.by_ref().last().map_or(first, |last| last.header.end());
        let (length, torn) = (walk.at() as u64, u64::from(walk.claimed()));
        if file.length > length {
            tracing::warn!(
                destination = self.settings.destination,
                bytes = file.length - length,
                events = torn,
                "{}: ends in a record that was not completely written; it is cut off, and its events \
                 are counted as `crash`",
                path.display()
            );
        }
        if end == first {
            let removed = self.disk.remove(&path).await;
            removed.map_err(|error| SpoolError::io("remove", &path, error))?;
            self.skip_to(first);
        } else {
            let truncated = self.disk.truncate(&path, length).await;
            truncated.map_err(|error| SpoolError::io("cut", &path, error))?;
            let sealed = self.path(&segment::name(first, Some(end)));
            let renamed = self.disk.rename(&path, &sealed).await;
            renamed.map_err(|error| SpoolError::io("rename", &path, error))?;
            self.add(first, end, length, file.modified_ns);
        }
        self.sync_folder().await?;
        Ok(torn)
    }
}
