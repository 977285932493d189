//! `ringside appenders` with the real binary: the files that it writes, what Sense would send because
//! of them, and what it says about files that are wrong.

#[path = "appenders/log4net.rs"]
mod log4net;
#[path = "appenders/service.rs"]
mod service;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use log4net::{Log4net, Logged};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};
use ringside::appenders::{self, Expected};
use ringside::event::{self, Check, Event, Field, Int, Kind};
use service::{Case, cases, folder};
use support::{Config, Ringside, binary, number, send_all};

const WRONG_FILES: &str = include_str!("appenders/wrong-files.txt");

const FOLDERS: [&str; 4] = ["Engine", "Proxy", "Repository", "Scheduler"];
const NAME: &str = "LocalLogConfig.xml";

/// What a command said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(directory: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(binary());
    command.arg("appenders").args(arguments).current_dir(directory);
    let Output { status, stdout, stderr } = command.output().expect("run ringside appenders");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// The files of a run, by folder; the temporary directory is gone afterwards.
fn written(arguments: &[&str]) -> BTreeMap<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let said = run(directory.path(), arguments);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    let read = |folder: &str| {
        fs::read_to_string(directory.path().join("appenders").join(folder).join(NAME))
    };
    let files =
        FOLDERS.iter().filter_map(|folder| Some(((*folder).to_owned(), read(folder).ok()?)));
    files.collect()
}

static ALL: LazyLock<BTreeMap<String, String>> =
    LazyLock::new(|| written(&["--host", "ringside.example.com"]));

/// What a check says about a file's bytes, without the name of the file.
fn checked(content: &[u8], arguments: &[&str]) -> Said {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(NAME);
    fs::write(&file, content).unwrap();
    let arguments = [&["--check", NAME], arguments].concat();
    let said = run(directory.path(), &arguments);
    Said { err: said.err.replace(&format!("{NAME}:"), ""), ..said }
}

#[test]
fn what_is_written_is_right_and_lies_where_sense_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let said = run(directory.path(), &["--host", "10.1.2.3", "--out", "Sense"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    for folder in FOLDERS {
        let to = format!(r"C:\ProgramData\Qlik\Sense\{folder}\{NAME}");
        assert!(said.out.contains(&to), "{said:?}");
        let file = format!("Sense/{folder}/{NAME}");
        let checked = run(directory.path(), &["--check", &file, "--host", "10.1.2.3"]);
        assert_eq!((checked.code, checked.err.as_str()), (Some(0), ""), "{checked:?}");
        assert!(checked.out.contains("this file is right"), "{checked:?}");
    }
    assert!(said.out.contains("UDP to 10.1.2.3, port 9996 and 9997, pass"), "{said:?}");
}

#[test]
fn host_ports_level_and_services_are_those_asked_for() {
    let files = written(&[
        "--host",
        "fd00::7",
        "--user-port",
        "19997",
        "--log-port",
        "19996",
        "--level",
        "error",
        "--services",
        "user-events,scheduler,qix-perf",
    ]);
    assert_eq!(files.keys().collect::<Vec<_>>(), ["Engine", "Proxy", "Scheduler"]);
    let count = |folder: &str, text: &str| files[folder].matches(text).count();
    for (folder, appenders, port) in
        [("Engine", 1, 19996), ("Proxy", 2, 19997), ("Scheduler", 1, 19996)]
    {
        assert_eq!(count(folder, "<appender "), appenders, "{folder}");
        assert_eq!(count(folder, r#""remoteAddress" value="fd00::7""#), appenders, "{folder}");
        assert_eq!(
            count(folder, &format!(r#""remotePort" value="{port}""#)),
            appenders,
            "{folder}"
        );
    }
    assert_eq!(count("Scheduler", r#""threshold" value="error""#), 1);
    // Performance events are INFO, user events have no threshold.
    assert_eq!(count("Engine", r#""threshold" value="info""#), 1);
    assert_eq!(count("Proxy", "threshold"), 0);
    assert!(
        files["Engine"].contains("/qseow-qix-perf/") && !files["Engine"].contains("/qseow-engine/")
    );
    for text in files.values() {
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    }
}

#[test]
fn ports_come_from_the_configuration_file() {
    let directory = tempfile::tempdir().unwrap();
    let text = Config::default().text();
    let text = text.replace("portUserActivityEvents: 0", "portUserActivityEvents: 7001");
    let text = text.replace("portLogEvents: 0", "portLogEvents: 7002");
    fs::write(directory.path().join("ringside.yaml"), text).unwrap();
    let said = run(directory.path(), &["--host", "r", "-c", "ringside.yaml"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let file = format!("appenders/Proxy/{NAME}");
    let proxy = fs::read_to_string(directory.path().join(&file)).unwrap();
    assert_eq!(proxy.matches(r#"value="7001""#).count(), 2);
    assert_eq!(proxy.matches(r#"value="7002""#).count(), 1);
    let right = run(directory.path(), &["--check", &file, "-c", "ringside.yaml"]);
    assert_eq!((right.code, right.err.as_str()), (Some(0), ""), "{right:?}");
    // Without it other ports than the usual may be meant; with other ones known they are wrong.
    assert_eq!(run(directory.path(), &["--check", &file]).code, Some(0));
    let wrong = run(directory.path(), &["--check", &file, "--log-port", "9996"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(
        wrong.err.contains("log events go to port 9996, this is 7002: nothing arrives"),
        "{wrong:?}"
    );
}

#[test]
fn files_that_are_there_are_kept_unless_told_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path().join("appenders/Repository").join(NAME);
    fs::create_dir_all(there.parent().unwrap()).unwrap();
    fs::write(&there, "of another tool").unwrap();
    let said = run(directory.path(), &["--host", "r"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(
        said.err.contains("the file is there already") && said.err.contains("--force"),
        "{said:?}"
    );
    assert_eq!(fs::read_to_string(&there).unwrap(), "of another tool");
    assert!(!directory.path().join("appenders/Engine").exists(), "all or nothing");
    assert_eq!(run(directory.path(), &["--host", "r", "--force"]).code, Some(0));
    assert!(fs::read_to_string(&there).unwrap().contains("/qseow-repository/"));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, said_of_it) in [
        (&[][..], "--host"),
        (&["--host", "ringside:9996"], "neither an IP address nor a host name"),
        (&["--host", "0.0.0.0"], "every address of a host that listens"),
        (&["--host", "r", "--log-port", "0"], "--log-port"),
        (&["--host", "r", "--services", "printing"], "printing"),
        (&["--check", "none.xml"], "check that the file exists"),
    ] {
        let said = run(directory.path(), arguments);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(said_of_it), "{said:?}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is written");
}

/// A case of `wrong-files.txt`.
struct WrongFile {
    about: String,
    content: String,
    arguments: Vec<String>,
    says: String,
}

/// Each case begins with `# what it is about`; then come the service whose file is changed, and
/// arguments for the check; `- text` and `+ text` for each change; and what is to be said.
fn wrong_files() -> Vec<WrongFile> {
    let mut cases = Vec::new();
    for case in WRONG_FILES.split("\n# ").skip(1) {
        let mut lines = case.lines();
        let about = lines.next().unwrap().to_owned();
        let mut first = lines.next().unwrap().split(' ');
        let mut content = ALL[first.next().unwrap()].replace("\r\n", "\n");
        let arguments = first.map(str::to_owned).collect();
        let mut says = String::new();
        let mut from = String::new();
        for line in lines {
            let text = || line.get(2..).unwrap_or_default().replace("\\n", "\n");
            if line.starts_with("- ") {
                from = text();
                assert!(content.contains(&from), "{about}: {from:?}");
            } else if line.starts_with('+') {
                content = content.replacen(&from, &text(), 1);
            } else if !line.is_empty() {
                says.push_str(line);
                says.push('\n');
            }
        }
        cases.push(WrongFile { about, content, arguments, says });
    }
    assert!(cases.len() > 40, "the file was read");
    cases
}

#[test]
fn wrong_files_are_told_apart() {
    let mut wrong = String::new();
    for WrongFile { about, content, arguments, says } in wrong_files() {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = checked(content.as_bytes(), &arguments);
        let code = if says.contains("error: ") { 2 } else { 0 };
        if (said.code, said.err.as_str()) != (Some(code), says.as_str()) {
            wrong += &format!("# {about} ({:?})\n{}\n", said.code, said.err);
        }
    }
    assert_eq!(wrong, "", "this was said instead");
}

/// Files that say the same in other words are right too: as Butler SOS's are written, for instance.
#[test]
fn other_ways_to_write_it_are_right() {
    for folder in FOLDERS {
        let mut text = ALL[folder].replace("\r\n", "\n");
        for (from, to) in [
            ("conversionPattern", "conversionpattern"),
            ("Ringside", "LogEvent"),
            ("remoteAddress", "RemoteAddress"),
            ("\"utf-8\" />", "\"UTF-8\" />"),
            ("log4net.Appender.UdpAppender", "log4net.Appender.UdpAppender, log4net"),
            ("%level;%hostname", "%p;%hostname"),
            ("%property{UserId}", "%X{UserId}"),
            ("  <appender", "  <!-- an appender -->\n\n\t<appender"),
        ] {
            text = text.replace(from, to);
        }
        let wide = text.replacen("encoding=\"utf-8\"", "encoding=\"utf-16\"", 1);
        for bytes in [
            text.clone().into_bytes(),
            [b"\xEF\xBB\xBF", text.as_bytes()].concat(),
            [0xFEFF].into_iter().chain(wide.encode_utf16()).flat_map(u16::to_le_bytes).collect(),
            [0xFEFF].into_iter().chain(wide.encode_utf16()).flat_map(u16::to_be_bytes).collect(),
        ] {
            let said = checked(&bytes, &[]);
            assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{folder}: {said:?}");
        }
    }
}

#[test]
fn files_that_sense_cannot_read() {
    let text = ALL["Repository"].replace("\r\n", "\n");
    let big = format!("{text}<!--{}-->", "x".repeat(1 << 20));
    // As Windows PowerShell writes what it has read and changed.
    let wide: Vec<u8> =
        [0xFEFF].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let latin: Vec<u8> = text
        .replacen("Belongs", "\u{1}", 1)
        .bytes()
        .map(|b| if b == 1 { 0xE5 } else { b })
        .collect();
    for (bytes, says) in [
        (&b""[..], "this is not XML"),
        (&text.as_bytes()[..text.len() / 2], "this is not XML"),
        (big.as_bytes(), "larger than 1 MiB"),
        (&latin, "error: 2:33: the file is not UTF-8 text from here on"),
        (b"\xFF\xFE\x00\xD8", "begins as UTF-16 and is not"),
        (b"\xFF\xFE<\0/", "begins as UTF-16 and is not"),
        (&wide, "the file is UTF-16 and says that it is utf-8; Sense cannot read it"),
        (text.replacen("utf-8", "utf-16", 1).as_bytes(), "says that it is UTF-16 and is not"),
        (b"<configuration />", "nothing would arrive"),
    ] {
        let said = checked(bytes, &[]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(says), "{said:?}");
    }
}

#[test]
fn a_file_in_the_folder_of_another_service() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("Proxy")).unwrap();
    let file = format!("Proxy/{NAME}");
    fs::write(directory.path().join(&file), &ALL["Repository"]).unwrap();
    let said = run(directory.path(), &["--check", &file]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("put it into the folder `Repository`"), "{said:?}");
    fs::write(directory.path().join("Proxy/proxy.xml"), &ALL["Proxy"]).unwrap();
    let said = run(directory.path(), &["--check", "Proxy/proxy.xml"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.err.contains("Sense reads a file of this name only: LocalLogConfig.xml"),
        "{said:?}"
    );
}

// The round trip: what Sense would send because of the files, and what the parser makes of it.

static SERVICES: LazyLock<BTreeMap<String, Log4net>> = LazyLock::new(|| {
    ALL.iter().map(|(folder, text)| (folder.clone(), Log4net::read(text))).collect()
});

/// The one datagram of an event.
fn datagram(case: &Case) -> Vec<u8> {
    let mut datagrams = SERVICES[folder(case.kind)].log(&case.logged);
    assert_eq!(datagrams.len(), 1, "{case:?}");
    let datagram = datagrams.remove(0);
    let user = matches!(case.kind, Kind::ProxySession | Kind::ProxyConnection);
    assert_eq!(datagram.port, if user { 9997 } else { 9996 });
    assert_eq!(datagram.host, "ringside.example.com");
    datagram.bytes
}

/// Text as the payload reference wants it: without control characters, cut.
fn clean(text: &str, limit: usize) -> String {
    let text: String = text.chars().filter(|&c| !(c < ' ' || c == '\u{7F}')).collect();
    if text == "(null)" { String::new() } else { text.chars().take(limit).collect() }
}

fn assert_arrives(case: &Case, event: &Event<'_>) {
    assert_eq!(event.kind(), case.kind);
    let columns = case.kind.layout().columns();
    assert_eq!(case.arrives.len(), columns.len(), "every column is judged");
    for spec in columns {
        let name = spec.column.name();
        let sent = &case.arrives[name];
        assert_eq!(String::from_utf8_lossy(event.raw(spec.column)), *sent, "{name} of {case:?}");
        let set = sent != "(null)";
        match event.field(spec.column).unwrap() {
            // Kept only where directory and id are not known apart.
            Field::Text(_) if name == "user_full" => {}
            Field::Text(_)
                if ["user_directory", "user_id"].contains(&name)
                    && case.kind == Kind::Scheduler => {}
            Field::Text(text) if spec.check == Check::Source => assert_eq!(text, case.kind.name()),
            Field::Text(text) => assert_eq!(text, clean(sent, spec.limit), "{name} of {case:?}"),
            Field::Uuid(uuid) => {
                let sent = set.then(|| sent.to_lowercase());
                assert_eq!(uuid.map(|uuid| uuid.to_string()), sent, "{name} of {case:?}");
            }
            Field::Int(Int::Value(value)) if set => assert_eq!(value.to_string(), *sent, "{name}"),
            Field::Float(value) if set => assert_eq!(value.to_string(), *sent, "{name}"),
            Field::Int(_) | Field::Float(_) => assert!(!set, "{name} of {case:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_a_service_logs_arrives_in_the_right_columns(
        case in select(&Kind::ALL[..]).prop_flat_map(cases)
    ) {
        let bytes = datagram(&case);
        let mut scratch = Vec::new();
        let event = event::parse(case.kind.listener(), &bytes, &mut scratch).expect("an event");
        assert_arrives(&case, &event);
    }
}

/// A file with one pattern of its own changed: fields are taken out, put in twice, or exchanged.
fn changed(kind: Kind, changes: &[(u8, Index, Index)]) -> String {
    let text = &ALL[folder(kind)];
    let start = text.find(&format!("/{}/;", kind.name())).unwrap();
    let pattern = &text[start..start + text[start..].find('"').unwrap()];
    let mut fields: Vec<&str> = pattern.split(';').collect();
    for (change, one, other) in changes {
        let behind_the_type = |index: &Index| 1 + index.index(fields.len() - 1);
        let (one, other) = (behind_the_type(one), behind_the_type(other));
        match change {
            0 => drop(fields.remove(one)),
            1 => fields.insert(other, fields[one]),
            _ => fields.swap(one, other),
        }
    }
    text.replace(pattern, &fields.join(";"))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        rng_seed: RngSeed::Fixed(8),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Of no pattern it is said that it is right, unless what arrives is right.
    #[test]
    fn what_is_called_right_is_right(
        mut case in select(&Kind::ALL[..]).prop_flat_map(cases),
        changes in vec((0_u8..3, any::<Index>(), any::<Index>()), 1..3),
    ) {
        let text = changed(case.kind, &changes);
        let expected = Expected { host: None, ports: [9997, 9996], ports_known: [true; 2], folder: None };
        if !appenders::check(text.as_bytes(), &expected).is_right() {
            return Ok(());
        }
        // Of fields too many it is said that they matter when there are `;` in the message.
        case.logged.message = case.logged.message.replace(';', "");
        if let Some(message) = case.arrives.get_mut("message") {
            message.clone_from(&case.logged.message);
        }
        let datagrams = Log4net::read(&text).log(&case.logged);
        let mut scratch = Vec::new();
        let event = event::parse(case.kind.listener(), &datagrams[0].bytes, &mut scratch);
        assert_arrives(&case, &event.expect("an event"));
    }

    /// Damaged files get an answer too.
    #[test]
    fn any_file_is_judged(
        folder in select(&FOLDERS[..]),
        cuts in vec((any::<Index>(), any::<Index>(), any::<Index>()), 1..4),
    ) {
        let mut bytes = ALL[folder].clone().into_bytes();
        for (start, end, to) in cuts {
            // A piece of at most 200 bytes is moved elsewhere.
            let start = start.index(bytes.len());
            let end = (start + end.index(200)).min(bytes.len());
            let piece: Vec<u8> = bytes.drain(start..end).collect();
            let to = to.index(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        let expected = Expected { host: None, ports: [9997, 9996], ports_known: [true; 2], folder: None };
        let checked = appenders::check(&bytes, &expected);
        prop_assert!(!checked.findings.is_empty() || !checked.sent.is_empty());
        for finding in checked.findings {
            prop_assert!(finding.line > 0 && finding.column > 0 && !finding.what.is_empty());
        }
    }
}

#[test]
fn only_what_is_wanted_is_sent() {
    let logged = |logger: &str, level, message: &str| Logged {
        logger: logger.to_owned(),
        level,
        message: message.to_owned(),
        ..Logged::default()
    };
    for (service, logged, datagrams) in [
        ("Proxy", logged("System.Proxy.Core", "INFO", ""), 0),
        ("Proxy", logged("System.Proxy.Core", "WARN", ""), 1),
        ("Proxy", logged("System.Other", "ERROR", ""), 0),
        ("Proxy", logged("AuditActivity.Proxy", "INFO", "Start session for user 'a'"), 1),
        ("Proxy", logged("AuditActivity.Proxy", "INFO", "connection Closed for session 'x'"), 1),
        ("Proxy", logged("AuditActivity.Proxy", "INFO", "something else"), 0),
        ("Engine", logged("QixPerformance.Engine.Engine", "INFO", ""), 1),
        ("Engine", logged("QixPerformance.Engine.Engine", "DEBUG", ""), 0),
        ("Engine", logged("System.Engine", "INFO", ""), 0),
    ] {
        assert_eq!(SERVICES[service].log(&logged).len(), datagrams, "{logged:?}");
    }
}

/// A Sense cluster with these files, and a running Ringside: every event arrives, none is refused.
#[test]
fn everything_that_is_sent_is_accepted() {
    let ringside = Ringside::start(&Config::default());
    let [user, log] = [ringside.user_events, ringside.log_events].map(|a| a.port().to_string());
    let host = ringside.log_events.ip().to_string();
    let files = written(&["--host", &host, "--user-port", &user, "--log-port", &log]);
    let mut runner = TestRunner::deterministic();
    let mut sent = [0_u64; 2];
    for kind in Kind::ALL {
        let service = Log4net::read(&files[folder(kind)]);
        for _ in 0..20 {
            let case = cases(kind).new_tree(&mut runner).unwrap().current();
            for datagram in service.log(&case.logged) {
                let to = format!("{}:{}", datagram.host, datagram.port).parse().unwrap();
                sent[usize::from(to == ringside.log_events)] += send_all(to, [datagram.bytes]);
            }
        }
    }
    assert_eq!(sent, [40, 100]);
    ringside.wait_stats("all is accepted", |stats| {
        let accepted = |name| number(stats, &format!("/listeners/{name}/accepted"));
        [accepted("user_events"), accepted("log_events")] == sent
    });
}
