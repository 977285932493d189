//! A disk of 10 MB.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::unistd::geteuid;
use tempfile::TempDir;

use crate::support::numbered::{Stream, arrived_once, long_event};
use crate::support::server::nobody;
use crate::support::sink::{Options, Sink};
use crate::support::{Config, DEADLINE, Ringside, number, wait_for};

/// A file system of 10 MB in memory. It ends with the value.
struct Disk(TempDir);

impl Disk {
    /// `None`, with a word about it, where only root could make one.
    fn new() -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("NOT TESTED: a small disk, since only root may mount one.");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=10m,mode=700", "tmpfs"])
            .arg(folder.path())
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "mount a tmpfs");
        Some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever used it has ended; if it is busy still, it goes when it is not.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

fn config(to: SocketAddr, disk: &Disk) -> Config {
    Config::influxdb(1, to).ringside("flushInterval: 20ms").ringside(&format!(
        "spool: {{ dir: '{}/spool', syncInterval: 50ms }}",
        disk.path().display()
    ))
}

const PAUSE: Duration = Duration::from_micros(100);
const SPOOLED: &str = "/destinations/influxdb/spooled";
const SPOOL_BYTES: &str = "/destinations/influxdb/spool_bytes";
const SPOOL_FULL: &str = "/destinations/influxdb/dropped/spool_full";

#[test]
fn a_full_spool_drops_the_oldest_and_counts_them() {
    let Some(disk) = Disk::new() else { return };
    let address = nobody();
    let mut ringside = Ringside::start(&config(address, &disk));
    let stream = Stream::start(ringside.log_events, 0, PAUSE, long_event);
    ringside.wait_stats("a full spool", |stats| number(stats, SPOOL_FULL) > 1_000);
    let (sent, _) = stream.finish();
    ringside.wait_stats("all events read", |stats| {
        number(stats, "/destinations/influxdb/assigned") == sent
    });

    let sink = Sink::start(Options { bind: address, record: true, ..Options::default() });
    let stats = ringside.wait_stats("what is left is delivered", |stats| {
        number(stats, "/destinations/influxdb/in_flight") + number(stats, SPOOLED) == 0
    });
    let (lost, there) = (number(&stats, SPOOL_FULL), arrived_once(&sink));
    assert_eq!(number(&stats, "/destinations/influxdb/delivered"), there.len() as u64);
    assert_eq!(there.len() as u64 + lost, sent, "{stats:#}");
    assert_eq!(number(&stats, "/destinations/influxdb/assigned"), sent);
    // The oldest record is tried again and again and stays; all others that are left are younger than
    // all that are lost.
    let missing: BTreeSet<u64> = (0..sent).filter(|number| !there.contains(number)).collect();
    let youngest_lost = *missing.last().expect("some are lost");
    let older = there.range(..youngest_lost).count();
    println!("{sent} sent, {lost} lost, {older} kept that are older than one that is lost");
    assert!(there.contains(&(sent - 1)), "the youngest is there");
    assert!(older * 2 < there.len(), "{older} of {} are older than {youngest_lost}", there.len());
    assert!(ringside.stop().success());
}

#[test]
fn a_disk_that_others_fill_costs_what_comes_and_not_what_is_there() {
    let Some(disk) = Disk::new() else { return };
    let address = nobody();
    let mut ringside = Ringside::start(&config(address, &disk));
    let stream = Stream::start(ringside.log_events, 0, PAUSE, long_event);
    ringside.wait_stats("events on disk", |stats| number(stats, SPOOLED) > 800);
    let rest = disk.path().join("somebody-else");
    let mut file = File::create(&rest).expect("a file");
    let full = wait_for("a full disk", DEADLINE, || file.write_all(&[0; 64 << 10]).err());
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let before = number(&ringside.stats(), SPOOL_BYTES);
    stream.wait_for(1_000);
    let (sent, _) = stream.finish();
    let stats = ringside.wait_stats("all events read", |stats| {
        number(stats, "/destinations/influxdb/assigned") == sent
    });
    // In bytes: how many events a byte holds depends on how many came together in a record.
    assert!(number(&stats, SPOOL_BYTES) * 2 > before, "{before} before: {stats:#}");
    assert_eq!(ringside.get("/health").0, 200, "{}", ringside.log());

    std::fs::remove_file(&rest).expect("somebody else cleans up");
    let sink = Sink::start(Options { bind: address, record: true, ..Options::default() });
    let stats = ringside.wait_stats("what is left is delivered", |stats| {
        number(stats, "/destinations/influxdb/in_flight") + number(stats, SPOOLED) == 0
    });
    let there = arrived_once(&sink).len() as u64;
    assert_eq!(number(&stats, "/destinations/influxdb/delivered"), there, "{stats:#}");
    assert_eq!(there + number(&stats, SPOOL_FULL), sent, "{stats:#}");
    assert!(ringside.stop().success());
}
