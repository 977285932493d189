//! Log lines in one file a day, as Butler SOS keeps them: `butler-sos.2026-01-31.log`.
//!
//! A thread of its own writes them, so that a slow disk never holds back a thread of the engine. What
//! it cannot keep up with, or cannot write, is counted and said at the end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::{RateLimited, say};

/// Files that are kept, today's included: a month, as Butler SOS does.
const FILES_KEPT: usize = 30;

/// Lines that wait for the disk: some seconds of the busiest log, about 2 MB.
const LINES_WAITING_MAX: usize = 16 * 1024;

const PREFIX: &str = "butler-sos.";
const SUFFIX: &str = ".log";

/// Length of a date, with which every line begins: `2026-01-31`.
const DATE: usize = 10;

/// The losses of the process's log, which is one.
static LOST: OnceLock<Lost> = OnceLock::new();

/// Lines that are on stderr and in no file, since the start; 0 without files.
#[must_use]
pub fn lost() -> u64 {
    LOST.get().map_or(0, Lost::count)
}

/// Counts of lines that are on stderr and in no file.
#[derive(Clone, Debug)]
struct Lost {
    /// The disk was too slow for them.
    overtaken: ErrorCounter,
    unwritten: Arc<AtomicU64>,
}

impl Lost {
    fn count(&self) -> u64 {
        self.overtaken.dropped_lines() as u64 + self.unwritten.load(Ordering::Relaxed)
    }
}

/// The files that are written; dropped last, so that the last lines get there.
#[derive(Debug)]
pub struct LogFiles {
    /// Taken when dropped, to wait for the writing thread.
    guard: Option<WorkerGuard>,
    lost: Lost,
}

impl LogFiles {
    /// From now on [`lost`] tells of these files. The first call counts.
    pub(super) fn are_the_log(&self) {
        let _ = LOST.set(self.lost.clone());
    }

    /// Lines that are on stderr and in no file.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.count()
    }
}

impl Drop for LogFiles {
    fn drop(&mut self) {
        self.guard = None;
        let lost = self.lost();
        if lost > 0 {
            say(format_args!("{lost} log lines are missing in the log files"));
        }
    }
}

/// Makes the directory if it is missing, and starts the thread that writes.
pub(super) fn start(directory: &Path) -> io::Result<(NonBlocking, LogFiles)> {
    fs::create_dir_all(directory)?;
    let files = DailyFiles::new(directory);
    let unwritten = Arc::clone(&files.unwritten);
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_WAITING_MAX)
        .lossy(true)
        .thread_name("log-files")
        .finish(files);
    let lost = Lost { overtaken: writer.error_counter(), unwritten };
    Ok((writer, LogFiles { guard: Some(guard), lost }))
}

/// Writes each line to the file of the date that it begins with.
#[derive(Debug)]
struct DailyFiles {
    directory: PathBuf,
    /// The file of the last line, and its date.
    open: Option<(String, File)>,
    unwritten: Arc<AtomicU64>,
    complaints: RateLimited,
    started: Instant,
}

impl DailyFiles {
    fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            open: None,
            unwritten: Arc::default(),
            complaints: RateLimited::new(),
            started: Instant::now(),
        }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let date = line.get(..DATE).and_then(|date| std::str::from_utf8(date).ok());
        let date = date.filter(|date| is_date(date)).ok_or(io::ErrorKind::InvalidData)?;
        let file = match &mut self.open {
            Some((open, file)) if open == date => file,
            _ => {
                let path = self.directory.join(format!("{PREFIX}{date}{SUFFIX}"));
                let file = OpenOptions::new().append(true).create(true).open(path)?;
                prune(&self.directory)?;
                &mut self.open.insert((date.to_owned(), file)).1
            }
        };
        file.write_all(line)
    }
}

impl Write for DailyFiles {
    /// Takes the whole line, written or not: whoever logs cannot help it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.append(line) {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
            if self.complaints.allow(self.started.elapsed()).is_some() {
                say(format_args!(
                    "log files in {} cannot be written: {error}; make room, or set \
                     Butler-SOS.logDirectory to a directory that this user may write to",
                    self.directory.display()
                ));
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_date(text: &str) -> bool {
    text.len() == DATE
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// Removes the oldest files beyond those that are kept. Names say how old a file is; other files are
/// left alone.
fn prune(directory: &Path) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let date = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
        if date.is_some_and(is_date) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    let old = names.len().saturating_sub(FILES_KEPT);
    names.iter().take(old).try_for_each(|name| fs::remove_file(directory.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn each_day_has_its_file_and_a_month_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("butler-sos.notes.log"), "not ours").unwrap();
        let mut files = DailyFiles::new(directory.path());
        for month in [1, 2] {
            for day in 1..=28 {
                let line = format!("2026-{month:02}-{day:02}T00:00:00Z info: one\n");
                files.write_all(line.as_bytes()).unwrap();
            }
        }
        files.write_all(b"2026-02-28T23:59:59Z info: two\n").unwrap();
        assert_eq!(files.unwritten.load(Ordering::Relaxed), 0);
        let names = names(directory.path());
        assert_eq!(names.len(), FILES_KEPT + 1);
        assert_eq!(names[0], "butler-sos.2026-01-27.log");
        assert_eq!(names[FILES_KEPT - 1], "butler-sos.2026-02-28.log");
        assert_eq!(names[FILES_KEPT], "butler-sos.notes.log");
        let last = fs::read_to_string(directory.path().join(&names[FILES_KEPT - 1])).unwrap();
        assert_eq!(last, "2026-02-28T00:00:00Z info: one\n2026-02-28T23:59:59Z info: two\n");
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = DailyFiles::new(&directory.path().join("gone"));
        files.write_all(b"2026-02-28T23:59:59Z info: two\n").unwrap();
        files.write_all(b"../../etc/x info: no date\n").unwrap();
        assert_eq!(files.unwritten.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_last_lines_get_there() {
        let directory = tempfile::tempdir().unwrap();
        let (mut writer, files) = start(&directory.path().join("log")).unwrap();
        for _ in 0..100 {
            writer.write_all(b"2026-02-28T00:00:00Z info: line\n").unwrap();
        }
        assert_eq!(files.lost(), 0);
        drop(files);
        let path = directory.path().join("log/butler-sos.2026-02-28.log");
        assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 100);
    }
}
