//! Log lines in daily files, where the configuration file asks for them.

mod support;

use std::fs;
use std::net::UdpSocket;
use std::path::Path;

use support::{Config, Ringside, number};

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
