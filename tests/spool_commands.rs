//! `ringside spool ls | verify | export` with the real binary: on the spool of a running process, on
//! one that a stop has left, and on damaged ones. None of them changes a byte.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::sink::{Options, Sink};
use support::{Config, Ringside, binary, number, proxy_event, send_all};

const SPOOLED: &str = "/destinations/influxdb/spooled";

/// What a command said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn spool(arguments: &[&str]) -> Said {
    let mut command = Command::new(binary());
    let output = command.arg("spool").args(arguments).output().expect("run ringside spool");
    let Output { status, stdout, stderr } = output;
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said { code: status.code(), out: text(stdout), err: text(stderr) }
}

fn config(to: SocketAddr, spool: &Path, more: &str) -> Config {
    Config::influxdb(1, to)
        .ringside("flushInterval: 10ms")
        .ringside(&format!("spool: {{ dir: '{}'{more} }}", spool.display()))
}

/// A process whose events all go to disk, as nobody takes them.
fn away(spool: &Path, more: &str) -> Ringside {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Ringside::start(&config(nobody, spool, more))
}

/// Sends events and waits until `total` are on disk.
fn fill(ringside: &Ringside, numbers: std::ops::Range<u64>) {
    let total = numbers.end;
    send_all(ringside.log_events, numbers.map(|number| proxy_event(&format!("number {number}."))));
    ringside.wait_stats("events on disk", |stats| number(stats, SPOOLED) == total);
}

/// All files and what is in them.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(content(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    content(dir).into_keys().filter(|path| path.extension().is_some_and(|e| e == "seg")).collect()
}

/// The name of the only folder.
fn folder(dir: &Path) -> String {
    let segment = segments(dir).remove(0);
    segment.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_an_outage_left_is_listed_checked_and_exported() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("spool");
    let file = directory.path().join("ringside.yaml");
    let nothing = spool(&["ls", "--dir", text(&dir)]);
    assert_eq!((nothing.code, nothing.out.as_str()), (Some(0), ""));
    assert!(nothing.err.contains("nothing waits here"), "{nothing:?}");

    let mut ringside = away(&dir, "");
    fill(&ringside, 0..300);
    let name = folder(&dir);
    fs::copy(ringside.directory.path().join("ringside.yaml"), &file).unwrap();
    for running in [true, false] {
        if !running {
            assert!(ringside.stop().success());
        }
        let before = (!running).then(|| content(&dir));
        let listed = spool(&["ls", "-c", text(&file)]);
        assert_eq!(listed.code, Some(0), "{listed:?}");
        let row: Vec<&str> = listed.out.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!((row[0], row[1], row[2]), (name.as_str(), "influxdb", "300"), "{listed:?}");
        assert!(row[3].parse::<u64>().unwrap() > 0 && row[4].ends_with('Z'), "{listed:?}");
        assert!(listed.out.contains("of a destination of this file"), "{listed:?}");

        let checked = spool(&["verify", "-c", text(&file)]);
        assert_eq!(checked.code, Some(0), "{checked:?}");
        assert!(checked.out.contains("300 events, whole"), "{checked:?}");

        let exported = spool(&["export", &name, "--dir", text(&dir)]);
        assert_eq!(exported.code, Some(0), "{exported:?}");
        assert_eq!(exported.out.lines().count(), 300);
        assert!((0..300).all(|n| exported.out.contains(&format!("number {n}."))), "{exported:?}");
        assert!(exported.out.starts_with("log_event,"), "InfluxDB's format: {exported:?}");
        assert!(exported.err.contains("300 events written"), "{exported:?}");
        if let Some(before) = before {
            assert_eq!(before, content(&dir), "nothing changes");
        }
    }
}

#[test]
fn folders_of_former_settings_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("spool");
    let mut ringside = away(&dir, "");
    fill(&ringside, 0..10);
    assert!(ringside.stop().success());
    let other = directory.path().join("other.yaml");
    let elsewhere = config(SocketAddr::from(([127, 0, 0, 1], 1)), &dir, "").text();
    fs::write(&other, elsewhere).unwrap();
    let listed = spool(&["ls", "-c", text(&other)]);
    assert!(
        listed.out.contains("not sent by itself; export it or delete the folder"),
        "{listed:?}"
    );
    let listed = spool(&["ls", "--dir", text(&dir)]);
    assert!(!listed.out.contains("settings"), "without a file nobody knows: {listed:?}");
}

#[test]
fn an_export_goes_to_a_new_file_of_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("spool");
    let mut ringside = away(&dir, "");
    fill(&ringside, 0..10);
    assert!(ringside.stop().success());
    let (name, out) = (folder(&dir), directory.path().join("events.txt"));
    let arguments = ["export", &name, "--dir", text(&dir), "--out", text(&out)];
    let exported = spool(&arguments);
    assert_eq!((exported.code, exported.out.as_str()), (Some(0), ""), "{exported:?}");
    let lines = fs::read_to_string(&out).unwrap();
    assert_eq!(lines, spool(&["export", &name, "--dir", text(&dir)]).out);
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let again = spool(&arguments);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.err.contains("cannot create") && again.err.contains("events.txt"), "{again:?}");
    assert_eq!(fs::read_to_string(&out).unwrap(), lines, "the former file is kept");

    let unknown = spool(&["export", "influxdb-0", "--dir", text(&dir)]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.err.contains("influxdb-0: no such folder"), "{unknown:?}");
}

#[test]
fn damage_is_counted_and_the_rest_is_exported() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("spool");
    let mut ringside = away(&dir, ", mode: always");
    // Written one after the other: records of their own.
    fill(&ringside, 0..10);
    fill(&ringside, 10..30);
    assert!(ringside.stop().success());
    let segment = segments(&dir).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    // In the last record, whatever came before it.
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&segment, bytes).unwrap();
    let checked = spool(&["verify", "--dir", text(&dir)]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.out.contains("; damaged: 1 records, "), "{checked:?}");
    let exported = spool(&["export", &folder(&dir), "--dir", text(&dir)]);
    assert_eq!(exported.code, Some(1), "{exported:?}");
    let whole = exported.out.lines().count();
    assert!((10..30).contains(&whole), "{exported:?}");
    let damaged = format!("damaged: 1 records, {} events", 30 - whole);
    assert!(exported.err.contains(&damaged), "{exported:?}");
}

#[test]
fn the_torn_end_that_a_crash_leaves_is_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("spool");
    let mut ringside = away(&dir, "");
    fill(&ringside, 0..10);
    ringside.signal(nix::sys::signal::Signal::SIGKILL);
    ringside.wait();
    let segment = segments(&dir).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    bytes.extend_from_slice(b"half a record");
    fs::write(&segment, bytes).unwrap();
    let checked = spool(&["verify", "--dir", text(&dir)]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.out.contains("10 events, whole; 13 bytes at the end"), "{checked:?}");
}

#[test]
fn a_spool_in_use_is_whole_at_every_moment() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("spool");
    let sink = Sink::start(Options::default());
    // Everything is written, delivered and removed.
    let mut ringside =
        Ringside::start(&config(sink.address(), &dir, ", mode: always, syncInterval: 1ms"));
    for round in 0..20 {
        send_all(ringside.log_events, (0..100).map(|n| proxy_event(&format!("{round} {n}"))));
        let checked = spool(&["verify", "--dir", text(&dir)]);
        assert_eq!(checked.code, Some(0), "{checked:?}");
    }
    ringside.wait_stats("all events delivered", |stats| {
        number(stats, "/destinations/influxdb/delivered") == 2000
    });
    assert!(ringside.stop().success());
}
