//! The Grafana dashboards and the alert rules: an hour of a Sense cluster goes through the real program,
//! and then every query of every panel has rows.
//!
//! `InfluxQL` runs in a real `InfluxDB` 1, `PromQL` in a real Prometheus. `InfluxDB` 2 and 3 are in no
//! package registry: SQL runs in DataFusion, the engine of `InfluxDB` 3, over what the program sent; Flux
//! is read and type-checked by InfluxData's own parser and run by `grafana/flux.mjs`.
#![cfg(target_os = "linux")]

#[path = "grafana/dashboard.rs"]
mod dashboard;
#[path = "grafana/hour.rs"]
mod hour;
#[path = "line_protocol/parsed.rs"]
mod parsed;
mod support;

use std::collections::{BTreeSet, HashSet};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use dashboard::{Chosen, Dashboard, Query, files, root};
use hour::{DATABASE, OWN_SERIES, Sense};
use parsed::{Line, Value as FieldValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use support::influxd::Influxd;
use support::server::Server;
use support::sink::{Reply, Request, Sink};
use support::{DEADLINE, Ringside, binary, http_get, wait_for};

/// Panels whose number may well be 0 when all goes well.
const MAY_BE_ZERO: [&str; 1] = ["Queues"];

/// Asserts that a query gave rows, and numbers other than 0.
fn assert_rows(query: &Query, text: &str, rows: u64, telling: u64) {
    let zero = MAY_BE_ZERO.contains(&query.of.as_str());
    assert!(
        rows > 0 && (telling > 0 || zero),
        "{}: {rows} rows, {telling} telling\n{text}",
        query.of
    );
}

#[test]
fn dashboards_are_what_their_table_says() {
    let generator = root().join("config/grafana/generate.py");
    let output = Command::new("python3").arg("-B").arg(generator).arg("--check").output();
    let output = output.expect("these tests need Python 3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names: BTreeSet<_> =
        files().into_iter().map(|file| file.file_stem().unwrap().to_owned()).collect();
    let known =
        ["flux", "influxql", "prometheus", "sql"].map(|name| format!("ringside-{name}").into());
    assert_eq!(names, BTreeSet::from(known));
}

#[test]
fn panels_do_not_overlap_and_can_be_told_apart() {
    let mut uids = HashSet::new();
    for file in files() {
        let stem = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let dashboard = Dashboard::read(stem.strip_prefix("ringside-").unwrap());
        assert_eq!(dashboard.0["uid"], *stem, "its address stays when it is imported again");
        assert!(uids.insert(stem.clone()));
        let (mut ids, mut cells) = (HashSet::new(), HashSet::new());
        for panel in dashboard.panels() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{stem}: {panel}");
            let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(place("x") + place("w") <= 24, "{stem}: {panel}");
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    assert!(cells.insert((x, y)), "{stem}: {} overlaps", panel["title"]);
                }
            }
        }
    }
}

/// What is chosen in the tests: everything, by name; and each server, by id.
fn choices(from: SystemTime, hosts: Vec<String>) -> [Chosen; 2] {
    assert_eq!(hosts.len(), 4, "{hosts:?}");
    [Chosen::since(from, None, "app_name"), Chosen::since(from, Some(hosts), "app_id")]
}

#[test]
fn influxql_panels_have_rows() {
    let (server, start) = (Influxd::start(""), SystemTime::now());
    let sense = Sense::new("127.42.44.1");
    let mut ringside = sense.start(1, SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    sense.replay(&ringside);
    wait_for_own_series(|| server.query_in(DATABASE, "SHOW MEASUREMENTS").to_string());
    assert!(ringside.stop().success(), "{}", ringside.log());

    let dashboard = Dashboard::read("influxql");
    let variable = dashboard.variable("host", "/query");
    let answer = server.query_in(DATABASE, &variable.text);
    let hosts = answer["results"][0]["series"][0]["values"].as_array().expect("hosts");
    let hosts = hosts.iter().map(|row| row[1].as_str().expect("a host").to_owned()).collect();
    for chosen in choices(start, hosts) {
        for query in dashboard.queries("query") {
            let text = chosen.fill(&query);
            let (rows, telling) = influxql_rows(&server, DATABASE, &text);
            assert_rows(&query, &text, rows, telling);
        }
    }
}

/// Waits until a text names all series that Ringside writes about itself.
fn wait_for_own_series(names: impl Fn() -> String) {
    for series in OWN_SERIES {
        wait_for(series, DEADLINE, || names().contains(series).then_some(()));
    }
}

/// The number of rows, and of those with something but the time, null and 0.
fn influxql_rows(server: &Influxd, database: &str, text: &str) -> (u64, u64) {
    let answer = server.query_in(database, text);
    let series = answer["results"][0]["series"].as_array().cloned().unwrap_or_default();
    let (mut rows, mut telling) = (0, 0);
    for row in series.iter().flat_map(|one| one["values"].as_array().expect("rows")) {
        let values = &row.as_array().expect("a row")[1..];
        rows += 1;
        telling +=
            u64::from(values.iter().any(|value| !value.is_null() && value.as_f64() != Some(0.0)));
    }
    (rows, telling)
}

/// What arrives of an hour at an `InfluxDB` of version 2 or 3: the bodies of all requests.
fn lines_of_an_hour(version: u8, host: &'static str) -> String {
    let sink = Sink::answering(|request: &Request| {
        match request.path.split('?').next().unwrap_or_default() {
            "/api/v2/orgs" => Reply::json(200, r#"{"orgs":[{"id":"0000000000000001"}]}"#),
            "/api/v2/buckets" => Reply::json(200, r#"{"buckets":[{"id":"0000000000000002"}]}"#),
            _ => Reply::status(204),
        }
    });
    let sense = Sense::new(host);
    let mut ringside = sense.start(version, sink.address());
    sense.replay(&ringside);
    let arrived = || {
        let bodies = sink.bodies();
        bodies
            .iter()
            .map(|body| String::from_utf8(body.clone()).expect("UTF-8"))
            .collect::<String>()
    };
    wait_for_own_series(arrived);
    assert!(ringside.stop().success(), "{}", ringside.log());
    arrived()
}

/// The points of version 2 or 3 as JSON, as the scripts read them.
fn points(lines: &str, version: u8) -> Value {
    let point = |(time, line): (i64, Line)| {
        let fields: serde_json::Map<_, _> = line
            .fields
            .into_iter()
            .map(|(name, value)| match value {
                FieldValue::Text(text) => (name, json!(text)),
                FieldValue::Float(number) => (name, json!(number)),
                FieldValue::Int(number) => (name, json!(number)),
            })
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "microseconds are exact enough")]
        let time = time as f64 / 1e9;
        json!({ "measurement": line.measurement, "tags": line.tags, "fields": fields, "time": time })
    };
    Line::parse_all(lines, version == 2).into_iter().map(point).collect()
}

/// Runs queries on points; what a script answers for each.
fn run(script: &mut Command, points: &Value, scripts: &[String]) -> Vec<Value> {
    let mut child = script
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("these tests need Python 3, Node.js and what tests/run installs for them");
    let input = json!({ "points": points, "scripts": scripts }).to_string();
    let mut stdin = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success(), "{script:?}");
    writer.join().unwrap().expect("all was read");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Runs all queries of a dashboard, with the server names that its variable finds.
fn assert_dashboard_has_rows(
    script: impl Fn() -> Command,
    points: &Value,
    (queries, variable): (&[Query], &Query),
    start: SystemTime,
) {
    let mut hosts = BTreeSet::new();
    for point in points.as_array().expect("points") {
        if point["measurement"] == "log_event" {
            hosts.insert(point["tags"]["host"].as_str().expect("a host").to_owned());
        }
    }
    let found = hosts.len();
    for chosen in choices(start, hosts.into_iter().collect()) {
        let mut texts: Vec<String> = queries.iter().map(|query| chosen.fill(query)).collect();
        texts.push(chosen.fill(variable));
        let mut answers = run(&mut script(), points, &texts);
        assert_eq!(answers.len(), texts.len());
        assert_eq!(answers.pop(), Some(json!([found, found])), "{}", variable.text);
        for ((query, text), answer) in queries.iter().zip(&texts).zip(answers) {
            let number = |at: usize| {
                answer[at].as_u64().unwrap_or_else(|| panic!("{}: {answer}\n{text}", query.of))
            };
            assert_rows(query, text, number(0), number(1));
        }
    }
}

fn script(program: &str, name: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(root().join("tests/grafana").join(name));
    command
}

#[test]
fn sql_panels_have_rows() {
    let start = SystemTime::now();
    let points = points(&lines_of_an_hour(3, "127.42.44.3"), 3);
    let dashboard = Dashboard::read("sql");
    let (queries, variable) =
        (dashboard.queries("rawSql"), dashboard.variable("host", "/query/rawSql"));
    let sql = || script("python3", "sql.py");
    assert_dashboard_has_rows(sql, &points, (&queries, &variable), start);

    let wrong =
        [r#"SELECT "no_such_column" FROM "log_event""#, "SELECT FROM", "SELECT 1 WHERE false"];
    let answers = run(&mut sql(), &points, &wrong.map(str::to_owned));
    assert!(answers[0].as_str().is_some_and(|text| text.contains("no_such_column")), "{answers:?}");
    assert!(answers[1].is_string(), "{answers:?}");
    assert_eq!(answers[2], json!([0, 0]));
}

#[test]
fn flux_panels_have_rows() {
    let start = SystemTime::now();
    let points = points(&lines_of_an_hour(2, "127.42.44.2"), 2);
    let dashboard = Dashboard::read("flux");
    let (queries, variable) = (dashboard.queries("query"), dashboard.variable("host", "/query"));
    let package = flux_package();
    let flux = || {
        let mut command = script("node", "flux.mjs");
        command.arg(&package);
        command
    };
    assert_dashboard_has_rows(flux, &points, (&queries, &variable), start);

    let bucket =
        "from(bucket: \"b\") |> range(start: 2020-01-01T00:00:00Z, stop: 2120-01-01T00:00:00Z)";
    let wrong = [
        "|> limit(m: 3)",
        "|> limit(n: \"3\")",
        "|> rang(start: 1)",
        "|> rename(columns: {nothing: \"something\"})",
        "|> filter(fn: (r) => r._measurement == \"nothing\")",
    ];
    let answers = run(&mut flux(), &points, &wrong.map(|rest| format!("{bucket} {rest}")));
    assert_eq!(answers[..3], ["not valid Flux", "not valid Flux", "not valid Flux"]);
    assert_eq!(answers[3..], [json!("there is no column nothing"), json!([0, 0])]);
}

/// The folder of InfluxData's parser, of exactly the version in the lock file.
fn flux_package() -> std::path::PathBuf {
    let folder = root().join("tests/grafana");
    let package = folder.join("node_modules/@influxdata/flux-lsp-browser");
    if !package.exists() {
        let install = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"];
        let status = Command::new("npm").args(install).current_dir(&folder).status();
        assert!(status.expect("these tests need npm").success());
    }
    package
}

/// What the panels of Butler SOS's own dashboard select, by measurement, and the tags that they filter
/// and group by.
const BUTLER_SOS: &[(&str, &str, &str, &[&str])] = &[
    (
        r#"count(distinct("userFull")), count("userId")"#,
        "user_events",
        "",
        &["origin", "event_action", "host", "uaBrowserName", "uaOsName"],
    ),
    (
        r#"count("userId")"#,
        "user_events",
        r#""event_action" = 'Open connection'"#,
        &["appName", "userFull"],
    ),
    (
        r#"count("message")"#,
        "log_event",
        r#""level" = 'WARN'"#,
        &["host", "source", "subsystem", "user_full"],
    ),
    (
        r#"count("message")"#,
        "log_event",
        r#""level" = 'ERROR'"#,
        &["host", "source", "task_name", "task_id"],
    ),
    (r#"count("message")"#, "log_event", r#""qs_log_category" = 'unknown'"#, &["level"]),
    (
        r#"sum("work_time"), mean("work_time"), max("peak_ram"), max("net_ram")"#,
        "log_event",
        r#""source" = 'qseow-qix-perf'"#,
        &[
            "app_name",
            "app_id",
            "object_type",
            "object_id",
            "method",
            "proxy_session_id",
            "event_activity_source",
        ],
    ),
    (
        r#"sum("counter"), last("counter")"#,
        "event_count",
        "",
        &["source", "event_type", "subsystem", "host"],
    ),
    (
        r#"count("counter"), sum("counter"), mean("process_time"), min("process_time"), max("process_time")"#,
        "rejected_event_count",
        r#""app_name_set" = 'true' AND "object_type" != '<Unknown>'"#,
        &["app_name", "app_id", "source"],
    ),
    (
        r#"sum("process_time")"#,
        "rejected_event_count",
        r#""method" = 'Global::OpenApp'"#,
        &["app_name"],
    ),
    (r#"mean("processing_time_avg_ms"), sum("messages_processed")"#, "log_events_queue", "", &[]),
    (
        r#"last("process_memory"), last("heap_used"), last("heap_total"), last("external")"#,
        "butlersos_memory_usage",
        "",
        &["butler_sos_instance", "version"],
    ),
];

/// Their lists of events.
const BUTLER_SOS_LISTS: [&str; 2] = [
    r#"SELECT "message", "exception_message", "user_full", "host" FROM "log_event" WHERE "level" = 'ERROR'"#,
    r#"SELECT "message", "task_name", "task_id" FROM "log_event" WHERE "source" = 'qseow-scheduler'"#,
];

/// Its dashboard asks `InfluxDB` 2 in `InfluxQL`, for the names of version 2; with an `InfluxDB` 1 the two
/// panels that need those show nothing, with Butler SOS neither.
#[test]
fn panels_of_butler_sos_have_rows() {
    let server = Influxd::start("");
    server.query(&format!("CREATE DATABASE {DATABASE}"));
    server.write(DATABASE, &lines_of_an_hour(2, "127.42.44.4"));
    let assert_rows = |text: &str| {
        let (rows, telling) = influxql_rows(&server, DATABASE, text);
        assert!(rows > 0 && telling > 0, "{rows} rows, {telling} telling\n{text}");
    };
    for (what, measurement, filter, tags) in BUTLER_SOS {
        let mut terms: Vec<&str> = vec!["time > now() - 1h"];
        // Its dashboard looks at one environment; these two series get no tags from the file here.
        if !["butlersos_memory_usage"].contains(measurement) {
            terms.push(r#""qs_env" = 'dev'"#);
        }
        terms.extend((!filter.is_empty()).then_some(*filter));
        let text = format!(r#"SELECT {what} FROM "{measurement}" WHERE {}"#, terms.join(" AND "));
        assert_rows(&text);
        assert_rows(&format!("{text} GROUP BY time(1m) fill(none)"));
        for tag in *tags {
            // What lacks the tag is a group of its own, and not what the panel is about. Some fields
            // have the name of a tag.
            assert_rows(&format!(r#"{text} AND "{tag}"::tag != '' GROUP BY "{tag}""#));
        }
    }
    for text in BUTLER_SOS_LISTS {
        assert_rows(text);
    }
    for field in ["appName_field", "appId_field"] {
        assert_rows(&format!(r#"SELECT count("{field}") FROM "user_events" GROUP BY "appName""#));
    }
    for measurement in ["log_event", "rejected_event_count"] {
        assert_rows(&format!(r#"SHOW TAG VALUES FROM "{measurement}" WITH KEY = "app_name""#));
    }
}

/// A Prometheus that scrapes Ringside, with the file and the rules that are shipped.
struct Prometheus(Server);

impl Prometheus {
    fn start(ringside: &Ringside) -> Self {
        let mut server = Server::new("prometheus");
        let folder = server.folder().to_owned();
        let shipped = root().join("config/prometheus");
        let mut file = std::fs::read_to_string(shipped.join("prometheus.yml")).expect("the file");
        for (shipped, here) in [
            ("127.0.0.1:9842", ringside.console.to_string()),
            ("interval: 15s", "interval: 1s".into()),
        ] {
            assert!(file.contains(shipped), "{shipped}");
            file = file.replace(shipped, &here);
        }
        std::fs::write(folder.join("prometheus.yml"), file).expect("write");
        std::fs::copy(shipped.join("alerts.yml"), folder.join("alerts.yml")).expect("copy");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display()).into();
        let arguments = [
            option("config.file", &folder.join("prometheus.yml")),
            option("storage.tsdb.path", &folder.join("data")),
            format!("--web.listen-address={address}").into(),
        ];
        // Its port is open before it can answer.
        let up = || {
            std::net::TcpStream::connect(address).is_ok() && http_get(address, "/-/ready").0 == 200
        };
        server.start(&arguments, up);
        Self(server)
    }

    /// The numbers that an expression gives now.
    fn numbers(&self, expression: &str) -> Vec<f64> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.0.port()));
        let escaped = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let (status, body) = http_get(address, &format!("/api/v1/query?query={escaped}"));
        assert_eq!(status, 200, "{expression}: {body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        let rows = answer["data"]["result"].as_array().expect("rows");
        rows.iter()
            .map(|row| row["value"][1].as_str().expect("a number").parse().expect("one"))
            .collect()
    }
}

#[test]
fn prometheus_panels_have_rows() {
    let sink = Sink::recording();
    let sense = Sense::new("127.42.44.5");
    let mut ringside = sense.start(3, sink.address());
    let prometheus = Prometheus::start(&ringside);
    // It takes its time before it looks at what it is to scrape.
    wait_for("a scrape", DEADLINE, || {
        (prometheus.numbers("ringside_build_info") == [1.0]).then_some(())
    });
    sense.replay(&ringside);

    let dashboard = Dashboard::read("prometheus");
    let variable = dashboard.variable("instance", "/query/query");
    assert_eq!(variable.text, "label_values(ringside_build_info, instance)");
    let mut waiting = dashboard.queries("expr");
    waiting.push(Query { of: variable.of, text: "ringside_build_info{instance!=\"\"}".into() });
    for query in &mut waiting {
        for (name, value) in [("$instance", ".*"), ("$__rate_interval", "10m"), ("$__range", "1h")]
        {
            query.text = query.text.replace(name, value);
        }
        assert!(!query.text.contains('$'), "{query:?}");
    }
    // A rate needs two scrapes.
    let mut left = String::new();
    let begun = std::time::Instant::now();
    while !waiting.is_empty() {
        assert!(begun.elapsed() < 2 * DEADLINE, "no rows: {left}");
        waiting.retain(|query| {
            let numbers = prometheus.numbers(&query.text);
            numbers.is_empty() || numbers.iter().any(|number| number.is_nan())
        });
        left = format!("{waiting:#?}");
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
    // What the hour holds is there, and nothing is wrong but what was sent wrong.
    // The rows may be of a scrape during the hour.
    wait_for("what was too long is counted", DEADLINE, || {
        (prometheus.numbers("sum(ringside_datagrams_dropped_total)") == [2.0]).then_some(())
    });
    assert_eq!(prometheus.numbers("up{job=\"ringside\"}"), [1.0]);
    assert_eq!(prometheus.numbers("ALERTS{alertname=\"RingsideDown\"}").len(), 0);
    assert!(ringside.stop().success(), "{}", ringside.log());
}

/// The names behind `key` in a text.
fn names<'a>(text: &'a str, key: &str, ends: &[char]) -> BTreeSet<&'a str> {
    let after = text.split(key).skip(1);
    after.map(|rest| rest.split(ends).next().expect("a part")).collect()
}

#[test]
fn alerts_fire_when_they_should_and_the_manual_says_what_to_do() {
    for arguments in [
        &["check", "config", "config/prometheus/prometheus.yml"][..],
        &["check", "rules", "config/prometheus/alerts.yml"],
        &["test", "rules", "tests/grafana/alerts_test.yml"],
    ] {
        let output = Command::new("promtool").args(arguments).current_dir(root()).output();
        let output = output.expect("these tests need promtool: `tests/run` installs it");
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "promtool {arguments:?}: {said}");
    }
    let read = |file: &str| std::fs::read_to_string(root().join(file)).expect("the file");
    let rules = read("config/prometheus/alerts.yml");
    let alerts = names(&rules, "- alert: ", &['\n']);
    assert!(alerts.len() > 10);
    let tests = read("tests/grafana/alerts_test.yml");
    assert_eq!(
        names(&tests, "{ labels: '{alertname=\"", &['"']),
        alerts,
        "each has to fire in the test"
    );
    assert_eq!(names(&read("docs/grafana.md"), "| `Ringside", &['`']).len(), alerts.len());
    for alert in alerts {
        assert!(read("docs/grafana.md").contains(&format!("| `{alert}` |")), "{alert}");
    }
}

#[test]
fn the_manual_s_file_is_right() {
    let manual = std::fs::read_to_string(root().join("docs/grafana.md")).expect("the manual");
    let blocks = manual.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let blocks: Vec<_> = blocks.filter(|block| block.starts_with("Butler-SOS:")).collect();
    let [block] = blocks.as_slice() else { panic!("{blocks:?}") };
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
    file.write_all(block.as_bytes()).expect("write");
    let output = Command::new(binary()).args(["check", "-c"]).arg(file.path()).output();
    let output = output.expect("start ringside check");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_alerts_and_panels_name_is_a_metric() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).expect("the file");
    let manual = read("docs/metrics.md");
    let mut named = BTreeSet::new();
    for text in [
        read("config/prometheus/alerts.yml"),
        read("config/grafana/dashboards/ringside-prometheus.json"),
    ] {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        named.extend(words.filter(|word| word.starts_with("ringside_")).map(str::to_owned));
    }
    assert!(named.len() >= 20);
    for metric in named {
        let family = metric.strip_suffix("_bucket").unwrap_or(&metric);
        assert!(manual.contains(&format!("| `{family}` |")), "{metric}");
    }
}
