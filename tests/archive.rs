//! The archive of the real program, read with DuckDB: what is in it, when, and what a kill costs.
#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use ringside::deliver::archive::files;
use ringside::event::Kind;
use serde_json::{Value, json};
use support::duckdb::{duckdb, python};
use support::numbered::{Stream, event, long_event};
use support::{
    Config, DEADLINE, Ringside, binary, number, proxy_event, send_all, user_event, wait_for,
};

const DELIVERED: &str = "/destinations/archive/delivered";
const SPOOLED: &str = "/destinations/archive/spooled";

/// An archive in the folder of this name below `directory`; `more` are other keys of it.
fn config(directory: &Path, more: &str) -> Config {
    let dir = directory.join("archive");
    let spool = directory.join("spool");
    Config::default()
        .ringside("flushInterval: 10ms")
        .ringside(&format!("spool: {{ dir: '{}' }}", spool.display()))
        .ringside(&format!("archive: {{ enable: true, dir: '{}'{more} }}", dir.display()))
}

const PERF: &str = "/qseow-qix-perf/;7;20211109T153726.028+0200;2021-11-09 15:37:26,028;INFO;\
    pro2-win1;QixPerformance.Engine.Engine;LAB\\qlikservice;\
    e7af59a0-c243-480d-9571-08727551a66f;LAB;anna;20211109T153726.028+0200;\
    e7af59a0-c243-480d-9571-08727551a66e;E7AF59A0-c243-480d-9571-08727551a66d;4;\
    Global::OpenApp;12.5;10;0;1;1.5;-1;;1024;2048;AppObject";

#[test]
fn duckdb_reads_what_was_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut ringside = Ringside::start(&config(folder.path(), ""));
    send_all(ringside.log_events, [PERF, &proxy_event("a \"quoted\" message, café"), PERF]);
    send_all(ringside.user_events, [user_event("goran"), user_event("anna")]);
    ringside.wait_stats("staged", |stats| number(stats, SPOOLED) == 5);
    assert!(ringside.stop().success(), "{}", ringside.log());

    let counts = "select kind, count(*), count(distinct received_ns), \
        min(date = strftime(received, '%Y-%m-%d')::date) \
        from read_parquet('archive/kind=*/date=*/*.parquet', hive_partitioning = true, union_by_name = true) \
        group by kind order by kind";
    assert_eq!(
        duckdb(folder.path(), counts),
        [
            json!(["qseow-proxy", 1, 1, true]),
            json!(["qseow-proxy-session", 2, 2, true]),
            json!(["qseow-qix-perf", 2, 2, true]),
        ]
    );
    let perf = "select log_row, ts_iso, ts_local, engine_ts, app_id, request_id, process_time, handle, \
        object_id, net_ram, user_full, event_activity_source, untyped \
        from 'archive/kind=qseow-qix-perf/*/*.parquet' limit 1";
    assert_eq!(
        duckdb(folder.path(), perf),
        [json!([
            7,
            "2021-11-09 13:37:26.028000+00:00",
            "2021-11-09 15:37:26.028000",
            "2021-11-09 13:37:26.028000+00:00",
            "e7af59a0-c243-480d-9571-08727551a66d",
            4,
            12.5,
            -1,
            null,
            1024,
            "LAB\\anna",
            "user",
            null,
        ])]
    );
    let proxy = "select message, exception_message, level, result_code \
        from 'archive/kind=qseow-proxy/*/*.parquet'";
    let wanted = json!(["a \"quoted\" message, café", null, "WARN", "403"]);
    assert_eq!(duckdb(folder.path(), proxy), [wanted]);
    let metadata = "select distinct compression from \
        parquet_metadata('archive/kind=qseow-qix-perf/*/*.parquet')";
    assert_eq!(duckdb(folder.path(), metadata), [json!(["ZSTD"])]);
    let encodings = "select count(*) from parquet_metadata('archive/kind=qseow-qix-perf/*/*.parquet') \
        where path_in_schema = 'host' and encodings like '%RLE_DICTIONARY%'";
    assert_eq!(duckdb(folder.path(), encodings), [json!([1])]);
}

/// The types that DuckDB sees are those that `ringside archive schema` lists.
#[test]
fn the_schema_is_what_the_command_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut ringside = Ringside::start(&config(folder.path(), ""));
    send_all(ringside.log_events, [PERF]);
    ringside.wait_stats("staged", |stats| number(stats, SPOOLED) == 1);
    assert!(ringside.stop().success(), "{}", ringside.log());
    let query = "describe from read_parquet('archive/kind=qseow-qix-perf/*/*.parquet', \
        hive_partitioning = false)";
    let columns = duckdb(folder.path(), query);
    let seen: Vec<(String, &str)> = columns
        .iter()
        .map(|row| {
            let kind = match row[1].as_str().expect("a type") {
                "VARCHAR" => "text",
                "BIGINT" => "int64",
                "DOUBLE" => "double",
                "TIMESTAMP WITH TIME ZONE" => "timestamp, UTC",
                "TIMESTAMP" => "timestamp, local",
                other => panic!("{other}"),
            };
            (row[0].as_str().expect("a name").to_owned(), kind)
        })
        .collect();
    let said = command(folder.path(), &["archive", "schema", "qseow-qix-perf"]);
    let said: Vec<(String, &str)> = said
        .lines()
        .skip(1)
        .map(|line| {
            let (name, kind) = line.trim().split_once(' ').expect("two columns");
            (name.to_owned(), kind.trim())
        })
        .collect();
    assert_eq!(seen, said);
}

/// What a command of `ringside` prints.
fn command(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new(binary()).args(arguments).current_dir(directory).output();
    let output = output.expect("run ringside");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn commands_show_files_and_what_is_staged() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut ringside = Ringside::start(&config(folder.path(), ", rollInterval: 1s"));
    let file = ringside.directory.path().join("ringside.yaml").display().to_string();
    send_all(ringside.log_events, (0..30).map(event));
    ringside.wait_stats("in files", |stats| number(stats, DELIVERED) == 30);
    let list = command(folder.path(), &["archive", "ls", "-c", &file]);
    assert!(list.contains("qseow-proxy ") && list.contains(" 30 "), "{list}");
    assert_eq!(command(folder.path(), &["archive", "ls", "--dir", "archive"]), list);

    send_all(ringside.log_events, (30..33).map(event));
    ringside.wait_stats("staged", |stats| number(stats, "/destinations/archive/in_flight") == 0);
    // Wherever they are by now.
    let tail = |more: &[&str]| -> Vec<u64> {
        let text = command(folder.path(), &[&["archive", "tail", "-c", &file], more].concat());
        support::numbered::numbers(&text).collect()
    };
    ringside.wait_stats("all assigned", |stats| {
        number(stats, DELIVERED) + number(stats, SPOOLED) == 33
    });
    assert_eq!(tail(&["-n", "5"]), [28, 29, 30, 31, 32]);
    assert_eq!(tail(&["--kind", "qseow-proxy"]), (23..33).collect::<Vec<_>>());
    assert_eq!(tail(&["--kind", "qseow-engine"]), [0; 0]);
    assert!(ringside.stop().success());
    assert_eq!(tail(&["-n", "1000"]), (0..33).collect::<Vec<_>>());
    let line = command(folder.path(), &["archive", "tail", "-n", "1", "--dir", "archive"]);
    let json: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(json["ts_iso"], "2021-11-09T13:37:26.028000Z");
    assert_eq!(json["ts_local"], "2021-11-09T15:37:26.028000");
    assert_eq!(json["log_row"], 14);
}

fn parquet_files(directory: &Path) -> Vec<PathBuf> {
    let files = files::list(&directory.join("archive")).expect("an archive");
    files.into_iter().map(|file| file.path).collect()
}

#[test]
fn files_are_completed_at_roll_interval() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut ringside = Ringside::start(&config(folder.path(), ", rollInterval: 1s"));
    for round in 1..3 {
        let start = Instant::now();
        send_all(ringside.log_events, (0..10).map(event));
        ringside.wait_stats("in files", |stats| number(stats, DELIVERED) == 10 * round);
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    }
    assert_eq!(parquet_files(folder.path()).len(), 2);
    assert!(ringside.stop().success());
}

#[test]
fn files_are_completed_at_roll_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut ringside = Ringside::start(&config(folder.path(), ", rollBytes: 64KiB"));
    send_all(ringside.log_events, (0..10).map(long_event));
    ringside.wait_stats("staged", |stats| number(stats, SPOOLED) == 10);
    let mut sent = 10;
    while parquet_files(folder.path()).is_empty() {
        assert!(sent < 10_000, "more than enough");
        send_all(ringside.log_events, (sent..sent + 100).map(long_event));
        sent += 100;
        ringside
            .wait_stats("taken", |stats| number(stats, DELIVERED) + number(stats, SPOOLED) == sent);
    }
    assert!(sent > 50, "no sooner: {sent}");
    assert!(ringside.stop().success());
}

/// Makes a file of the archive's, of `bytes`, on this day of 2020.
fn old_file(directory: &Path, day: u64, bytes: usize) -> PathBuf {
    let ns = (1_577_836_800 + day * 86_400) * 1_000_000_000;
    let partition = files::Partition::of(Kind::Proxy, ns);
    let folder = directory.join("archive").join(partition.folder());
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(files::Name::new(ns, 1, &(day..day + 1)).to_string());
    std::fs::write(&path, vec![0; bytes]).expect("a file");
    path
}

#[test]
fn old_days_are_removed_at_max_age() {
    let since_1970 = std::time::UNIX_EPOCH.elapsed().expect("later than 1970");
    let today = since_1970.as_secs() / 86_400 - 1_577_836_800 / 86_400;
    for (max_age, stays) in [("36500d", true), ("1d", false)] {
        let folder = tempfile::tempdir().expect("a folder");
        let old = old_file(folder.path(), 0, 10);
        // If all were old, the clock might be wrong.
        let young = old_file(folder.path(), today, 10);
        let more = format!(", rollInterval: 1s, maxAge: {max_age}");
        let mut ringside = Ringside::start(&config(folder.path(), &more));
        send_all(ringside.log_events, [event(0)]);
        ringside.wait_stats("in a file", |stats| number(stats, DELIVERED) == 1);
        assert_eq!((old.exists(), young.exists()), (stays, true), "{max_age}");
        assert_eq!(parquet_files(folder.path()).len(), 2 + usize::from(stays));
        assert!(ringside.stop().success());
    }
}

#[test]
fn a_folder_that_cannot_be_read_does_not_hide_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut ringside = Ringside::start(&config(folder.path(), ""));
    send_all(ringside.log_events, [PERF]);
    ringside.wait_stats("staged", |stats| number(stats, SPOOLED) == 1);
    assert!(ringside.stop().success(), "{}", ringside.log());
    // Not even root can list it.
    let day = folder.path().join("archive/kind=qseow-qix-perf/date=2023-01-01");
    std::os::unix::fs::symlink(&day, &day).expect("a link to itself");
    let mut list = Command::new(binary());
    let output = list.args(["archive", "ls", "--dir", "archive"]).current_dir(folder.path());
    let output = output.output().expect("run ringside");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(
        errors.contains("warning: cannot list archive/kind=qseow-qix-perf/date=2023"),
        "{errors}"
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("qseow-qix-perf"), "{output:?}");
}

/// Both begin before there is a spool, and the first one ends.
#[test]
fn a_second_process_says_so_and_delivers_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), ", rollInterval: 1s");
    let [mut first, mut second] = [Ringside::start(&config), Ringside::start(&config)];
    send_all(first.log_events, (0..50).map(event));
    first.wait_stats("in files", |stats| number(stats, DELIVERED) == 50);
    assert!(first.stop().success(), "{}", first.log());
    send_all(second.log_events, (50..60).map(event));
    let stats = second.wait_stats("an error", |stats| {
        let error = stats.pointer("/destinations/archive/last_error").and_then(Value::as_str);
        error.is_some_and(|error| error.contains("another process uses this spool"))
    });
    assert_eq!((number(&stats, DELIVERED), number(&stats, SPOOLED)), (0, 0));
    assert!(!second.stop().success(), "what it has is lost, and counted");
    second.wait_for_line("shutdown=10");
}

#[test]
fn the_oldest_files_give_way_at_max_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = [0, 1, 2].map(|day| old_file(folder.path(), day, 600_000));
    let mut ringside = Ringside::start(&config(
        folder.path(),
        ", rollInterval: 1s, maxAge: 36500d, maxBytes: 1MiB",
    ));
    send_all(ringside.log_events, [event(0)]);
    ringside.wait_stats("in a file", |stats| number(stats, DELIVERED) == 1);
    assert_eq!(old.map(|path| path.exists()), [false, false, true]);
    assert!(ringside.stop().success());
}

/// Between two events.
const PAUSE: Duration = Duration::from_micros(500);

/// The number of lost events is promised to within 100 ms of traffic; other tests keep the processors
/// busy.
const PRECISION: Duration = Duration::from_millis(200);

/// Runs `begin` again and again, kills it each time in the midst of its work, and at last lets it end.
/// Everything that was staged is in the archive, once; the rest was counted. Returns how many that were.
fn killed(rounds: u64, archive: &str, directory: &Path, begin: impl Fn() -> Ringside) -> u64 {
    let crashed = |ringside: &Ringside| {
        let stats = ringside.stats();
        number(&stats, "/destinations/archive/dropped/crash")
            + number(&stats, "/listeners/log_events/dropped/crash")
    };
    let mut next = 0;
    let mut stories = Vec::new();
    let mut counted = Vec::new();
    for round in 0..rounds {
        let mut ringside = begin();
        let stats = ringside.wait_stats("staging is open", |stats| {
            round == 0 || number(stats, "/destinations/archive/assigned") > 0
        });
        let found = number(&stats, SPOOLED) + number(&stats, DELIVERED);
        let stream = Stream::start(ringside.log_events, next, PAUSE, event);
        // Each round ends somewhere else, the last writes of the run before done or not.
        stream.wait_for(700 + round * 131 % 600);
        ringside.wait_stats("new ones are safe", |stats| {
            number(stats, SPOOLED) + number(stats, DELIVERED) > found + 100
        });
        stream.wait_for(300 + round * 57 % 200);
        counted.push(crashed(&ringside));
        let killed = Instant::now();
        ringside.signal(Signal::SIGKILL);
        ringside.wait();
        let (end, times) = stream.finish();
        // What was sent after the end was sent to nobody.
        let sent = next + times.partition_point(|at| *at < killed) as u64;
        let late = times.iter().filter(|at| **at < killed && **at + PRECISION > killed).count();
        stories.push((next..sent, late as u64));
        next = end;
    }
    let mut last = begin();
    last.wait_stats("staging is open", |stats| number(stats, "/destinations/archive/assigned") > 0);
    counted.push(crashed(&last));
    assert!(last.stop().success(), "{}", last.log());

    let query = format!(
        "select regexp_extract(message, '<([0-9]+)>', 1)::bigint, count(*) \
         from '{archive}/kind=qseow-proxy/*/*.parquet' group by all order by all"
    );
    let rows = duckdb(directory, &query);
    let twice: Vec<_> = rows.iter().filter(|row| row[1] != 1).collect();
    assert!(twice.is_empty(), "archived more than once: {twice:?}");
    let archived: BTreeSet<u64> = rows.iter().map(|row| row[0].as_u64().expect("one")).collect();
    for (round, (sent, uncertain)) in stories.into_iter().enumerate() {
        let lost = sent.end - sent.start - archived.range(sent.clone()).count() as u64;
        let counted = counted[round + 1];
        println!("round {round}: {sent:?}, {lost} lost, {counted} counted, to within {uncertain}");
        assert!(
            lost.abs_diff(counted) <= uncertain,
            "round {round}: {lost} lost, {counted} counted"
        );
        assert!(archived.range(sent).count() > 100, "round {round}");
    }
    counted.iter().sum()
}

#[test]
fn killed_while_files_are_completed() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), ", rollInterval: 1s, rollBytes: 64KiB");
    killed(6, "archive", folder.path(), || Ringside::start(&config));
}

/// The embedded default has fixed ports. They are free in a network of the test's own, which this
/// thread, its children and what they start are in.
fn own_network() {
    unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.expect("this test needs `ip`").success());
}

#[test]
fn the_embedded_default_killed() {
    own_network();
    let folder = tempfile::tempdir().expect("a folder");
    let lost = killed(3, "ringside-data/archive", folder.path(), || {
        for port in [9996, 9997] {
            // The kernel takes its time to close what a killed ring had open.
            let free = || UdpSocket::bind(("127.0.0.1", port)).ok();
            wait_for("a free port", DEADLINE, free);
        }
        // Each run in the same directory, which outlives them.
        let mut command = Command::new("sh");
        command.args(["-c", "cd \"$0\" && exec \"$1\" run"]).arg(folder.path()).arg(binary());
        Ringside::spawn(command, tempfile::tempdir().expect("a folder"))
    });
    // Batches are open for a second.
    assert!(lost > 0);
}

/// The blocks of this language in the documentation.
fn blocks(language: &str) -> Vec<String> {
    let text = include_str!("../docs/archive.md");
    let begin = format!("```{language}\n");
    let blocks = text.split(&begin).skip(1);
    blocks.map(|rest| rest.split("```").next().expect("an end").to_owned()).collect()
}

/// Every query and script of the documentation, where it says: beside `ringside-data`.
#[test]
fn what_the_documentation_shows_works() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("ringside-data/archive");
    let config = Config::default()
        .ringside(&format!("spool: {{ dir: '{}' }}", folder.path().join("spool").display()))
        .ringside(&format!("archive: {{ enable: true, dir: '{}' }}", dir.display()));
    let mut ringside = Ringside::start(&config);
    send_all(ringside.log_events, [PERF, PERF, &proxy_event("message")]);
    send_all(ringside.user_events, [user_event("goran")]);
    for service in ["engine", "repository", "scheduler"] {
        let event = format!("/qseow-{service}/;1;20211109T153726.028+0200;;ERROR;h;s;w;message");
        send_all(ringside.log_events, [event]);
    }
    let connection = user_event("goran").replace("proxy-session", "proxy-connection");
    send_all(ringside.user_events, [connection]);
    ringside.wait_stats("staged", |stats| number(stats, SPOOLED) == 8);
    assert!(ringside.stop().success(), "{}", ringside.log());

    let queries = blocks("sql");
    assert!(queries.len() >= 3);
    for query in queries {
        for query in query.split(';').filter(|query| !query.trim().is_empty()) {
            assert!(!duckdb(folder.path(), query).is_empty(), "no rows: {query}");
        }
    }
    let scripts = blocks("python");
    assert!(scripts.len() >= 2);
    for script in scripts {
        assert!(!python(folder.path(), &script, &[]).trim().is_empty(), "no output: {script}");
    }
    for line in blocks("sh").iter().flat_map(|block| block.lines()) {
        let arguments: Vec<&str> = line.split_whitespace().skip(1).collect();
        assert!(line.starts_with("ringside archive "), "{line}");
        assert!(!command(folder.path(), &arguments).is_empty(), "{line}");
    }
    qlik_fields_exist(&blocks("qlik").join("\n"));
}

/// Qlik Sense itself is not at hand: at least its script asks for folders and columns that exist.
fn qlik_fields_exist(script: &str) {
    let schema = command(Path::new("."), &["archive", "schema"]);
    let mut columns = BTreeSet::new();
    for line in schema.lines() {
        columns.insert(line.split_whitespace().next().expect("a name").to_owned());
    }
    let mut fields = 0;
    let mut tables = 0;
    for line in script.lines().map(str::trim) {
        if let Some((_, from)) = line.split_once("kind=") {
            let kind = from.split('/').next().expect("a folder");
            assert!(kind == "$(vKind)" || columns.contains(&format!("kind={kind}")), "{line}");
            tables += 1;
        }
        // Columns that are loaded as they are stand alone on a line.
        let name = line.trim_end_matches(',');
        if line.ends_with(',') && name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
            assert!(columns.contains(name), "{line}");
            fields += 1;
        }
    }
    assert!(fields > 5 && tables > 0, "{fields} fields, {tables} tables");
}
