//! Log lines in daily files, where the configuration file asks for them.

mod support;

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use ringside::calendar::civil_from_days;
use support::{Config, DEADLINE, Ringside, number, proxy_event, send_all, wait_for};

fn run(more: &str) -> Ringside {
    let text = format!("{}  {more}\n", Config::default().text());
    let mut ringside = Ringside::start_with(&text, &["-l", "debug"]);
    // Something to be logged.
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.send_to(b"no event", ringside.log_events).expect("send on loopback");
    ringside.wait_stats("the datagram is judged", |stats| {
        number(stats, "/listeners/log_events/parsed") == 1
    });
    assert!(ringside.stop().success(), "{}", ringside.log());
    ringside
}

/// Names and texts of the files in a directory; none where there is no directory.
fn files(directory: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let read = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path()).expect("a log file");
        (entry.file_name().to_string_lossy().into_owned(), text)
    };
    entries.map(read).collect()
}

#[test]
fn every_line_is_also_in_the_file_of_its_day() {
    let ringside = run("logDirectory: some/logs");
    let files = files(&ringside.directory.path().join("some/logs"));
    let log = ringside.log();
    let lines: Vec<&str> =
        log.lines().filter(|line| line.as_bytes().get(26) == Some(&b'Z')).collect();
    assert!(!lines.is_empty(), "{log}");
    for line in lines {
        let name = format!("butler-sos.{}.log", &line[..10]);
        let held =
            files.iter().any(|(file, text)| *file == name && text.lines().any(|l| l == line));
        assert!(held, "{line} in {name}: {files:?}");
    }
}

#[test]
fn no_file_is_written_when_they_are_off() {
    let ringside = run("fileLogging: false");
    assert_eq!(files(&ringside.directory.path().join("log")), []);
}

#[test]
fn a_directory_that_cannot_be_made_is_a_warning() {
    let ringside = run("logDirectory: ringside.yaml");
    let log = ringside.log();
    assert!(log.contains("warn: no log files: ringside.yaml: "), "{log}");
}

/// Waits until a metric of lost lines is no longer 0.
fn wait_lost(ringside: &Ringside, reason: &str) -> u64 {
    let start = format!("ringside_log_lines_lost_total{{reason=\"{reason}\"}} ");
    wait_for("lost lines", DEADLINE, || {
        let (_, metrics) = ringside.get("/metrics");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&start)).expect("the metric");
        value.parse().ok().filter(|lines| *lines > 0)
    })
}

#[test]
fn lines_that_are_in_no_file_are_counted() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let days = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let today = days.as_secs() / (24 * 60 * 60);
    for day in [today, today + 1] {
        // A directory where the file should be.
        let (year, month, day) = civil_from_days(day);
        let name = format!("log/butler-sos.{year:04}-{month:02}-{day:02}.log");
        fs::create_dir_all(directory.path().join(name)).expect("a directory");
    }
    let file = directory.path().join("ringside.yaml");
    fs::write(&file, Config::default().text()).expect("write the configuration");
    let mut command = Command::new(support::binary());
    command.arg("run").arg("-c").arg(&file).args(["-l", "debug"]);
    let ringside = Ringside::spawn(command, directory);
    send_all(ringside.log_events, [proxy_event("one")]);
    wait_lost(&ringside, "files");
    assert!(ringside.log().contains("cannot be written"), "{}", ringside.log());
}

#[test]
fn events_over_the_limit_of_a_second_are_counted() {
    const EVENTS: u64 = 1_000;
    let ringside = Ringside::start_with(&Config::default().text(), &["-l", "verbose"]);
    send_all(ringside.log_events, (0..EVENTS).map(|_| proxy_event("x")));
    let lost = wait_lost(&ringside, "event_limit");
    assert!(lost < EVENTS, "some are logged: {lost}");
}
