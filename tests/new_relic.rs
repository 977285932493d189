//! Events on their way to New Relic: the real program, and a server that records whole requests.

mod support;

use std::fmt::Write as _;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use support::sink::{Reply, Request, Sink};
use support::{Config, DEADLINE, Ringside, number, proxy_event, send_all, user_event};

const FIRST: &str = "/v1/accounts/1111111/events";
const SECOND: &str = "/v1/accounts/2222222/events";

const ACCOUNTS: &str = "  thirdPartyToolsCredentials:
    newRelic:
      - accountName: First NR account
        insertApiKey: NRKEY-1
        accountId: '1111111'
      - accountName: Second NR account
        insertApiKey: NRKEY-2
        accountId: '2222222'
";

/// A configuration that sends user and log events to these accounts.
fn file(url: &str, accounts: &[&str], credentials: &str) -> String {
    let to = format!(
        "    sendToNewRelic:\n      enable: true\n      destinationAccount: [{}]\n",
        accounts.join(", ")
    );
    let mut text = Config::default().ringside("flushInterval: 10ms").text();
    text = text.replacen("  logEvents:\n", &format!("{to}      scramble: true\n  logEvents:\n"), 1);
    let levels = "        engine: { enable: false }\n        proxy:\n          enable: true\n          \
                  logLevel: { error: true, warn: true }\n";
    text = text.replacen(
        "    enginePerformanceMonitor:\n",
        &format!("{to}      source:\n{levels}    enginePerformanceMonitor:\n"),
        1,
    );
    write!(
        text,
        "{credentials}  newRelic:\n    enable: true\n    event:\n      url: {url}\n      header:\n        \
         - name: X-My-Header\n          value: Header value\n      attribute:\n        static:\n          \
         - name: service\n            value: mine\n        dynamic:\n          butlerSosVersion:\n            enable: true\n"
    )
    .unwrap();
    text
}

fn delivered(stats: &Value, account: &str) -> u64 {
    number(stats, &format!("/destinations/new_relic:{account}/delivered"))
}

fn wait_delivered(ringside: &Ringside, account: &str, events: u64) -> Value {
    ringside.wait_stats("everything is delivered", |stats| delivered(stats, account) == events)
}

/// The events of all requests to a path that were answered with success.
fn events(requests: &[Request], path: &str) -> Vec<Value> {
    let of_path = requests.iter().filter(|request| request.path == path);
    of_path
        .flat_map(|request| serde_json::from_str::<Vec<Value>>(request.text()).expect("an array"))
        .collect()
}

/// A named account that refuses the key keeps nothing from the other one (difference 30).
#[test]
fn accounts_get_their_events_whatever_becomes_of_the_others() {
    let sink = Sink::answering(|request| match request.path.as_str() {
        FIRST => Reply::json(403, r#"{"error":"NRKEY-1 is no key that we know"}"#),
        _ => Reply::json(202, r#"{"success":true}"#),
    });
    let text = file(&sink.url(), &["First NR account", "Second NR account"], ACCOUNTS);
    let ringside = Ringside::start_with(&text, &[]);
    send_all(ringside.user_events, [user_event("goran")]);
    let fatal = proxy_event("three").replacen("WARN", "FATAL", 1);
    let info = proxy_event("four").replacen("WARN", "INFO", 1);
    let engine = proxy_event("five").replacen("qseow-proxy", "qseow-engine", 1);
    send_all(ringside.log_events, [proxy_event("one"), proxy_event("two"), fatal, info, engine]);
    let stats = wait_delivered(&ringside, "Second NR account", 4);
    assert_eq!(
        number(&stats, "/listeners/log_events/unrouted"),
        2,
        "INFO, and a service that is off"
    );
    let stats = ringside.wait_stats("the other account's error is shown", |stats| {
        !stats["destinations"]["new_relic:First NR account"]["last_error"].is_null()
    });
    let refused = &stats["destinations"]["new_relic:First NR account"];
    let error = refused["last_error"].to_string();
    assert!(error.contains("403") && error.contains("insertApiKey"), "{error}");
    assert!(error.contains("*** is no key"), "the answer repeats the key: {error}");
    for path in ["/api/stats", "/metrics", "/health", "/"] {
        assert!(!ringside.get(path).1.contains("NRKEY"), "{path}");
    }
    let count = |key: &str| refused[key].as_u64().expect("a count");
    assert_eq!(
        count("in_flight") + count("spooled"),
        4,
        "kept until the operator has corrected it"
    );

    let requests = sink.requests();
    for request in &requests {
        assert_eq!(request.method, "POST");
        assert_eq!(request.header("content-encoding"), Some("gzip"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("x-my-header"), Some("Header value"));
        let key = if request.path == FIRST { "NRKEY-1" } else { "NRKEY-2" };
        assert_eq!(request.header("api-key"), Some(key));
    }
    let events = events(&requests, SECOND);
    let user = events.iter().find(|event| event["eventType"] == "qs_userEvent").expect("one");
    assert_eq!(user["qs_userId"], "76b784e6533bb670", "scrambled");
    assert_eq!(user.get("service"), None, "static attributes are for log events");
    let log = events.iter().find(|event| event["qs_message"] == "one").expect("one");
    assert_eq!(log["eventType"], "qs_logEvent");
    assert_eq!(log["qs_user_full"], "LAB\\goran");
    assert_eq!(log["service"], "mine");
    assert_eq!(log["butlerSosVersion"], env!("CARGO_PKG_VERSION"));
    assert!(log["timestamp"].as_u64().expect("a number") > 1_600_000_000_000, "{log}");
    assert!(!ringside.log().contains("NRKEY"), "secrets do not show:\n{}", ringside.log());
}

/// Differences 16 and 29.
#[test]
fn fatal_events_and_scrambled_log_events_are_for_the_file_to_say() {
    let sink = Sink::answering(|_| Reply::json(202, r#"{"success":true}"#));
    let text = file(&sink.url(), &["First NR account"], ACCOUNTS)
        .replacen("error: true, warn: true", "error: true, warn: true, fatal: false", 1)
        .replacen(
            "  ringside:\n",
            "  ringside:\n    newRelic:\n      scrambleLogEvents: true\n",
            1,
        );
    let ringside = Ringside::start_with(&text, &[]);
    send_all(ringside.user_events, [user_event("goran")]);
    let fatal = proxy_event("fatal").replacen("WARN", "FATAL", 1);
    send_all(ringside.log_events, [fatal, proxy_event("warn")]);
    let stats = wait_delivered(&ringside, "First NR account", 2);
    assert_eq!(number(&stats, "/listeners/log_events/unrouted"), 1, "FATAL");
    let events = events(&sink.requests(), FIRST);
    let [user, log] = ["qs_userEvent", "qs_logEvent"].map(|kind| {
        events.iter().find(|event| event["eventType"] == kind).unwrap_or_else(|| panic!("{kind}"))
    });
    assert_eq!(log["qs_message"], "warn");
    for (of_user, of_log) in [
        ("qs_userFull", "qs_user_full"),
        ("qs_userDirectory", "qs_user_directory"),
        ("qs_userId", "qs_user_id"),
    ] {
        assert_eq!(user[of_user], log[of_log], "the same user is the same hash");
    }
    assert_eq!(log["qs_user_id"], "76b784e6533bb670");
}

#[test]
fn a_busy_account_is_left_alone_as_long_as_it_asks() {
    let sink = Sink::answering(|request| match request.number {
        0 => Reply { headers: vec![("Retry-After", "1".into())], ..Reply::json(429, "{}") },
        _ => Reply::json(200, r#"{"success":true}"#),
    });
    let ringside = Ringside::start_with(&file(&sink.url(), &["First NR account"], ACCOUNTS), &[]);
    send_all(ringside.log_events, [proxy_event("one")]);
    wait_delivered(&ringside, "First NR account", 1);
    let requests = sink.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(1), "not before it asked");
    assert_eq!(requests[0].body, requests[1].body);
}

#[test]
fn a_request_that_is_too_large_is_halved() {
    let is_small = |request: &Request| {
        serde_json::from_str::<Vec<Value>>(request.text()).expect("an array").len() <= 2
    };
    let sink = Sink::answering(move |request| match is_small(request) {
        true => Reply::json(202, r#"{"success":true}"#),
        false => Reply::status(413),
    });
    let text = file(&sink.url(), &["First NR account"], ACCOUNTS).replacen(
        "flushInterval: 10ms",
        "flushInterval: 500ms",
        1,
    );
    let ringside = Ringside::start_with(&text, &[]);
    let messages: Vec<String> = (0..9).map(|n| format!("message {n}")).collect();
    send_all(ringside.log_events, messages.iter().map(|message| proxy_event(message)));
    wait_delivered(&ringside, "First NR account", 9);
    let requests: Vec<Request> = sink.requests();
    assert!(requests.iter().any(|request| !is_small(request)), "none was too large");
    let taken: Vec<Request> = requests.into_iter().filter(is_small).collect();
    let mut got: Vec<String> = events(&taken, FIRST)
        .iter()
        .map(|event| event["qs_message"].as_str().expect("text").to_owned())
        .collect();
    got.sort();
    assert_eq!(got, messages);
}

#[test]
fn accounts_of_the_command_line_replace_those_of_the_file() {
    let sink = Sink::answering(|_| Reply::json(202, r#"{"success":true}"#));
    let arguments = [
        ["--new-relic-account-name", "Third"],
        ["--new-relic-api-key", "NRKEY-3"],
        ["--new-relic-account-id", "3333333"],
    ]
    .concat();
    let ringside = Ringside::start_with(&file(&sink.url(), &["Third"], ACCOUNTS), &arguments);
    send_all(ringside.log_events, [proxy_event("one")]);
    wait_delivered(&ringside, "Third", 1);
    let requests = sink.requests();
    assert_eq!(requests[0].path, "/v1/accounts/3333333/events");
    assert_eq!(requests[0].header("api-key"), Some("NRKEY-3"));
}

/// Runs the program until it ends by itself.
fn run(text: &str, arguments: &[&str]) -> (Output, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("ringside.yaml");
    std::fs::write(&path, text).expect("write the configuration");
    let mut command = Command::new(support::binary());
    command.arg("run").arg("-c").arg(&path).args(arguments).current_dir(directory.path());
    let mut child = command
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("start ringside");
    let ended = support::wait_for("the end of ringside", DEADLINE, || child.try_wait().ok()?);
    let output = child.wait_with_output().expect("its output");
    assert_eq!(ended, output.status);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, log)
}

#[test]
fn an_account_without_credentials_is_named_with_its_line() {
    let text = file("http://127.0.0.1:9", &["First NR account"], "");
    let line = 1 + text.lines().position(|line| line.contains("destinationAccount")).expect("it");
    let (output, log) = run(&text, &[]);
    assert_eq!(output.status.code(), Some(2), "{log}");
    let what = "userEvents.sendToNewRelic.destinationAccount[0]: there are no credentials for the \
                account `First NR account`";
    assert!(log.contains(&format!("ringside.yaml:{line}:")) && log.contains(what), "{log}");
    assert!(log.contains("logEvents.sendToNewRelic.destinationAccount[0]"), "{log}");
}

#[test]
fn accounts_of_the_command_line_need_three_values_each() {
    let text = file("http://127.0.0.1:9", &["Third"], "");
    let arguments = ["--new-relic-account-name", "Third", "--new-relic-api-key", "NRKEY-3"];
    let (output, log) = run(&text, &arguments);
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert!(log.contains("1, 1 and 0 values"), "{log}");
    assert!(!log.contains("NRKEY-3"), "{log}");
}

/// Adds the uptime metrics to a configuration.
fn with_uptime(text: &str, url: &str, accounts: &str) -> String {
    format!(
        "{text}    metric:\n      url: {url}/metric/v1\n      header:\n        - name: X-Metric\n          \
         value: Metric value\n  uptimeMonitor:\n    enable: true\n    frequency: every 1 second\n    \
         storeNewRelic:\n      enable: true\n      destinationAccount: [{accounts}]\n      metric:\n        \
         dynamic:\n          butlerMemoryUsage: {{ enable: true }}\n          \
         butlerUptime: {{ enable: true }}\n      attribute:\n        static:\n          \
         - name: metricType\n            value: butler-sos-uptime\n        dynamic:\n          \
         butlerVersion: {{ enable: true }}\n"
    )
}

/// Butler SOS does not ask `newRelic.enable` here, and stops at the first account that fails.
#[test]
fn uptime_metrics_go_to_each_account_on_schedule() {
    let sink = Sink::answering(|request| match request.header("api-key") {
        Some("NRKEY-1") => Reply::status(403),
        _ => Reply::json(202, r#"{"requestId":"x"}"#),
    });
    let text = file(&sink.url(), &["First NR account"], ACCOUNTS);
    let text = text.replacen("newRelic:\n    enable: true", "newRelic:\n    enable: false", 1);
    let accounts = "First NR account, Second NR account, Second NR account";
    let mut ringside = Ringside::start_with(&with_uptime(&text, &sink.url(), accounts), &[]);
    let of_second = || {
        let requests = sink.requests().into_iter();
        requests.filter(|it| it.header("api-key") == Some("NRKEY-2")).collect::<Vec<_>>()
    };
    let requests = support::wait_for("metrics", DEADLINE, || {
        let requests = of_second();
        (requests.len() >= 2).then_some(requests)
    });
    assert!(ringside.stop().success(), "{}", ringside.log());
    let uptimes = requests.iter().map(|request| {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/metric/v1"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("x-metric"), Some("Metric value"));
        let body: Value = serde_json::from_str(request.text()).expect("JSON");
        let common = &body[0]["common"];
        assert_eq!(common["interval.ms"], 1000);
        assert!(number(common, "/timestamp") > 1_600_000_000_000, "{common}");
        let attributes = &common["attributes"];
        assert_eq!(attributes["metricType"], "butler-sos-uptime");
        assert_eq!(attributes["version"], env!("CARGO_PKG_VERSION"));
        let metrics = body[0]["metrics"].as_array().expect("a list");
        let names: Vec<_> = metrics.iter().map(|it| it["name"].as_str().expect("text")).collect();
        assert_eq!(
            names,
            [
                "qs_butlerSosHeapUsed",
                "qs_butlerSosHeapTotal",
                "qs_butlerSosExternalMem",
                "qs_butlerSosProcessMem",
                "qs_butlerSosUptimeMillisec"
            ]
        );
        assert!(number(&metrics[3], "/value") > 1 << 20, "bytes: {body}");
        number(&metrics[4], "/value")
    });
    let uptimes: Vec<u64> = uptimes.collect();
    assert!(uptimes[0] < uptimes[1] && uptimes[1] < 60_000, "{uptimes:?}");
    let log = ringside.log();
    let said = "do not reach the New Relic account First NR account: HTTP 403";
    assert_eq!(log.matches(said).count(), 1, "{log}");
    assert!(!log.contains("NRKEY"), "{log}");
}

#[test]
fn uptime_metrics_can_be_chosen() {
    for (switch, written) in [
        ("butlerMemoryUsage", "qs_butlerSosHeapUsed"),
        ("butlerUptime", "qs_butlerSosUptimeMillisec"),
        ("butlerVersion", "version"),
    ] {
        for enabled in [true, false] {
            let sink = Sink::answering(|_| Reply::json(202, "{}"));
            let text = file(&sink.url(), &["First NR account"], ACCOUNTS);
            let text = with_uptime(&text, &sink.url(), "First NR account");
            let on = format!("{switch}: {{ enable: true }}");
            assert_eq!(text.matches(&on).count(), 1, "{text}");
            let text = text.replace(&on, &format!("{switch}: {{ enable: {enabled} }}"));
            let _ringside = Ringside::start_with(&text, &[]);
            let requests = support::wait_for("metrics", DEADLINE, || {
                let requests = sink.requests();
                (!requests.is_empty()).then_some(requests)
            });
            let is_there = requests[0].text().contains(&format!("\"{written}\""));
            assert_eq!(is_there, enabled, "{switch}: {requests:?}");
        }
    }
}

#[test]
fn an_uptime_account_without_credentials_is_named() {
    let text = file("http://127.0.0.1:9", &["First NR account"], ACCOUNTS);
    let text = with_uptime(&text, "http://127.0.0.1:9", "Nobody");
    let (output, log) = run(&text, &[]);
    assert_eq!(output.status.code(), Some(2), "{log}");
    let what = "uptimeMonitor.storeNewRelic.destinationAccount[0]: there are no credentials for \
                the account `Nobody`";
    assert!(log.contains(what), "{log}");
}
