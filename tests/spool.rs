//! The spool with the real binary and real files: an outage, a stop in the middle of it, and the next
//! start.

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use support::numbered::{arrived_once, event};
use support::server::nobody;
use support::sink::{Options, Sink};
use support::{Config, DEADLINE, Ringside, number, send_all, wait_for};

fn config(to: SocketAddr, backend: &'static str, spool: &Path) -> Config {
    let config = Config { backend, ..Config::influxdb(1, to) };
    config
        .ringside("flushInterval: 20ms")
        .ringside(&format!("spool: {{ dir: '{}', syncInterval: 50ms }}", spool.display()))
}

fn segments(spool: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(spool).into_iter().flatten();
    let folders = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files = files.map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect()
}

fn events(numbers: std::ops::Range<u64>) -> impl Iterator<Item = String> {
    numbers.map(event)
}

fn outage_and_restart(backend: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let address = nobody();
    let mut down = Ringside::start(&config(address, backend, &spool));
    assert!(!spool.exists(), "nothing is made before it is needed");
    send_all(down.log_events, events(0..500));
    let spooled = "/destinations/influxdb/spooled";
    down.wait_stats("all events on disk", |stats| number(stats, spooled) == 500);
    assert!(!segments(&spool).is_empty());
    let (_, metrics) = down.get("/metrics");
    assert!(metrics.contains("ringside_spool_events{destination=\"influxdb\"} 500"), "{metrics}");
    send_all(down.log_events, events(500..600));
    down.wait_stats("the rest is taken", |stats| {
        number(stats, "/destinations/influxdb/assigned") == 600
    });
    assert!(down.stop().success(), "what is on disk is not lost");
    down.wait_for_line("spooled=600");

    let sink = Sink::start(Options { bind: address, record: true, ..Options::default() });
    let mut up = Ringside::start(&config(address, backend, &spool));
    send_all(up.log_events, events(600..650));
    let stats = up.wait_stats("everything is delivered", |stats| {
        number(stats, "/destinations/influxdb/delivered") == 650
    });
    assert_eq!(number(&stats, spooled), 0);
    assert_eq!(number(&stats, "/destinations/influxdb/assigned"), 650);
    assert_eq!(arrived_once(&sink), (0..650).collect());
    wait_for("an empty folder", DEADLINE, || segments(&spool).is_empty().then_some(()));
    assert!(up.stop().success());
}

#[test]
fn nothing_is_lost_or_sent_twice_over_an_outage_and_a_restart() {
    outage_and_restart("tokio");
}

#[test]
#[cfg(target_os = "linux")]
fn through_io_uring_too() {
    if let Err(refused) = io_uring::IoUring::new(2) {
        eprintln!("io_uring is refused here: {refused}");
        return;
    }
    outage_and_restart("io_uring");
}
