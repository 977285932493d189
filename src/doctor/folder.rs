//! Can files be written where they are to be written, and is there room?

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{DISK_TIMEOUT, Finding, Place, bytes};
use crate::deliver::{disk, spool};

/// Written and synced; about a batch.
static SAMPLE: [u8; 64 * 1024] = [0; 64 * 1024];

/// A disk that takes longer to sync a sample holds batches up.
const SLOW: Duration = Duration::from_secs(1);

/// With less than this the spool and the archive have no room for one segment.
const FREE_MIN: u64 = 16 << 20;

/// A spool with less room than this is worth a warning: it holds some 600 000 log events, a quarter of a
/// day of a busy site.
const SPOOL_LOW: u64 = 1 << 30;

/// How much may be written to a folder.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// What there is.
    Disk,
    /// So many bytes.
    Bytes(u64),
    /// So many bytes for each destination, and no more than a share of what is free.
    Spool(u64),
}

/// A folder that files are written to. It need not be there yet.
#[derive(Clone, Debug)]
pub struct Folder {
    /// What it is for.
    pub what: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// How much may be written there.
    pub limit: Limit,
    /// The key that names it.
    pub place: Place,
    /// The key that limits it.
    pub limit_place: Option<Place>,
}

impl Folder {
    pub(super) async fn examine(self) -> Vec<Finding> {
        let (what, path, place) = (self.what, self.path.clone(), self.place.clone());
        let look = tokio::task::spawn_blocking(move || self.look());
        if let Ok(findings) = tokio::time::timeout(DISK_TIMEOUT, look).await {
            return findings.unwrap_or_default();
        }
        let what = format!("{}: the {what} is not written within {DISK_TIMEOUT:?}", path.display());
        let hint = "check the disk, or the network share, and its system's log";
        vec![Finding::error("folder", what, hint).at(&place)]
    }

    fn look(&self) -> Vec<Finding> {
        let Some(there) = nearest(&self.path) else {
            let what = format!("{}: no part of the path is there", self.path.display());
            return vec![Finding::error("folder", what, "create the folder").at(&self.place)];
        };
        vec![self.writable(there).at(&self.place), self.room(there)]
    }

    fn writable(&self, there: &Path) -> Finding {
        const TOPIC: &str = "folder";
        let shown = self.path.display();
        let later = if there == self.path { "" } else { " (it is made at the first start)" };
        match sample(there) {
            Ok(took) if took > SLOW => Finding::warning(
                TOPIC,
                format!("{shown}: the {} can be written, but one sync took {took:.1?}", self.what),
                "use a faster disk: batches wait for it",
            ),
            Ok(took) => Finding::ok(
                TOPIC,
                format!("{shown}: the {} can be written{later}; a sync took {took:.1?}", self.what),
            ),
            Err(error) => Finding::error(
                TOPIC,
                format!("{shown}: the {} cannot be written by this user: {error}", self.what),
                format!(
                    "let the user that Ringside runs as write to {}, or name another folder; if this check \
                     runs as another user, run it as that one",
                    there.display()
                ),
            ),
        }
    }

    fn room(&self, there: &Path) -> Finding {
        const TOPIC: &str = "disk";
        let shown = self.path.display();
        let finding = match disk::free(there) {
            Err(error) => Finding::warning(TOPIC, format!("{shown}: free space: {error}"), ""),
            Ok(None) => {
                Finding::ok(TOPIC, format!("{shown}: the system does not tell what is free"))
            }
            Ok(Some(free)) => {
                // What the folder has already is within its limit.
                let room = free.saturating_add(used(&self.path));
                judge(&format!("{shown}: {} are free", bytes(free)), free, room, self.limit)
            }
        };
        finding.at(self.limit_place.as_ref().unwrap_or(&self.place))
    }
}

fn judge(what: &str, free: u64, room: u64, limit: Limit) -> Finding {
    const TOPIC: &str = "disk";
    if free < FREE_MIN {
        return Finding::error(TOPIC, what, "make room, or name a folder on another disk");
    }
    match limit {
        Limit::Disk => Finding::ok(TOPIC, what),
        Limit::Bytes(max) if room < max => Finding::warning(
            TOPIC,
            format!("{what}, less than the {} that may be kept there", bytes(max)),
            "make room, or lower the limit: what does not fit is dropped, and counted",
        ),
        Limit::Bytes(max) => {
            Finding::ok(TOPIC, format!("{what}; {} may be kept there", bytes(max)))
        }
        Limit::Spool(max) => {
            let budget = max.min(room / spool::FREE_SHARE);
            let what =
                format!("{what}, of which the spool of a destination takes {}", bytes(budget));
            if budget < max.min(SPOOL_LOW) {
                let hint = format!(
                    "make room: a spool takes a {}th of what is free at most, and what does not fit is \
                     dropped, and counted",
                    spool::FREE_SHARE
                );
                return Finding::warning(TOPIC, what, hint);
            }
            Finding::ok(TOPIC, format!("{what} at most"))
        }
    }
}

/// The path, or what of it is there. An empty path is the working folder.
fn nearest(path: &Path) -> Option<&Path> {
    path.ancestors()
        .map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path })
        .find(|path| path.exists())
}

/// Writes, syncs and removes a file; how long the sync took.
fn sample(folder: &Path) -> io::Result<Duration> {
    let path =
        folder.join(format!(".ringside-check-{}-{:08x}", std::process::id(), fastrand::u32(..)));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let written = write(&mut file);
    drop(file);
    let removed = fs::remove_file(&path);
    written.and_then(|took| removed.map(|()| took))
}

fn write(file: &mut File) -> io::Result<Duration> {
    file.write_all(&SAMPLE)?;
    let start = Instant::now();
    file.sync_all()?;
    Ok(start.elapsed())
}

/// Bytes of the files in a folder and, as the spool has them, in folders in it.
fn used(folder: &Path) -> u64 {
    let length = |path: &Path| fs::symlink_metadata(path).map_or(0, |about| about.len());
    let entries = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let inside = |path: &Path| -> u64 { entries(path).iter().map(|path| length(path)).sum() };
    let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|about| about.is_dir());
    entries(folder)
        .iter()
        .map(|path| if is_folder(path) { inside(path) } else { length(path) })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use crate::doctor::tests::place;

    fn folder(path: &Path) -> Folder {
        let place = place("ringside.spool.dir");
        Folder {
            what: "spool",
            path: path.to_owned(),
            limit: Limit::Disk,
            place,
            limit_place: None,
        }
    }

    #[test]
    fn a_folder_that_is_to_be_made_is_looked_for_above_and_nothing_is_left() {
        let there = tempfile::tempdir().unwrap();
        let findings = folder(&there.path().join("a/b")).look();
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
        assert!(findings[0].what.contains("made at the first start"), "{findings:?}");
        assert_eq!(fs::read_dir(there.path()).unwrap().count(), 0);
        assert_eq!(nearest(Path::new("no-such-folder/x")), Some(Path::new(".")));
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_an_error() {
        let there = tempfile::tempdir().unwrap();
        let file = there.path().join("file");
        fs::write(&file, "x").unwrap();
        assert_eq!(folder(&file.join("spool")).look()[0].level, Level::Error);
    }

    #[test]
    fn room_is_compared_with_the_limit() {
        const GIB: u64 = 1 << 30;
        let level = |free, room, limit| judge("x", free, room, limit).level;
        assert_eq!(level(10 * GIB, 10 * GIB, Limit::Bytes(8 * GIB)), Level::Ok);
        assert_eq!(level(4 * GIB, 9 * GIB, Limit::Bytes(8 * GIB)), Level::Ok, "with what it has");
        assert_eq!(level(4 * GIB, 4 * GIB, Limit::Bytes(8 * GIB)), Level::Warning);
        assert_eq!(level(4 * GIB, 4 * GIB, Limit::Disk), Level::Ok);
        for limit in [Limit::Disk, Limit::Bytes(GIB), Limit::Spool(GIB)] {
            assert_eq!(level(1 << 20, 9 * GIB, limit), Level::Error, "{limit:?}");
        }
    }

    #[test]
    fn a_spool_takes_a_share_of_what_is_free() {
        const GIB: u64 = 1 << 30;
        let finding = |free, max| judge("x", free, free, Limit::Spool(max));
        let ok = finding(25 * GIB, 8 * GIB);
        assert!(ok.level == Level::Ok && ok.what.ends_with("takes 2.5 GiB at most"), "{ok}");
        assert_eq!(finding(5 * GIB, 8 * GIB).level, Level::Warning);
        assert_eq!(finding(5 * GIB, GIB / 4).level, Level::Ok, "no more is wanted");
    }

    #[test]
    fn what_is_used_is_added_up_over_two_levels() {
        let there = tempfile::tempdir().unwrap();
        fs::write(there.path().join("a"), [0; 10]).unwrap();
        fs::create_dir(there.path().join("d")).unwrap();
        fs::write(there.path().join("d/b"), [0; 5]).unwrap();
        assert_eq!(used(there.path()), 15);
        assert_eq!(used(Path::new("no-such-folder")), 0);
    }
}
