//! The contract of the configuration file: what is accepted, what is said about a wrong one, and that
//! the documentation knows every key.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
};

use ringside::config::{
    self, ByteSize, Config, ConfigError, InfluxdbVersion, Loaded, Millis, ObjectId, RuleAction,
    Shards, Status, Threads,
};

fn accept(text: &str) -> Loaded {
    config::parse(text, "f.yaml").unwrap_or_else(|error| panic!("refused:\n{error}\n{text}"))
}

fn refuse(text: &str) -> String {
    match config::parse(text, "f.yaml") {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(error) => error.to_string(),
    }
}

/// A file that is complete, to add to.
const USER_EVENTS: &str = "\
Butler-SOS:
  userEvents:
    enable: true
    udpServerConfig:
      serverHost: 127.0.0.1
";

fn with(more: &str) -> Loaded {
    accept(&format!("{USER_EVENTS}{more}"))
}

#[test]
fn files_of_butler_sos_are_accepted() {
    let versions = [InfluxdbVersion::V1, InfluxdbVersion::V2, InfluxdbVersion::V3];
    for (number, version) in (1..).zip(versions) {
        let path = format!("tests/config/butler-sos-v{number}.yaml");
        let Loaded { config, warnings, .. } = config::load(Path::new(&path)).expect(&path);
        assert_eq!(config.influxdb_config.version, version);
        assert_eq!(config.influxdb_config.port, 28_086);
        assert_eq!(config.user_listener().expect("enabled").port, 9997);
        assert_eq!(config.log_listener().expect("enabled").port, 9996);
        assert_eq!(config.log_events.tags[1].value, "north europe");
        assert_eq!(config.log_events.categorise.rules[4].action, RuleAction::Drop);
        let account = &config.third_party_tools_credentials.new_relic[1];
        assert_eq!(account.insert_api_key.expose(), "NRKEY-2");
        assert!(!format!("{config:?}").contains("NRKEY"), "secrets do not show");

        // One warning for what is left to Butler SOS; all the rest has an effect.
        let [left_alone] = warnings.as_slice() else { panic!("{warnings:#?}") };
        for section in ["crashFile", "serversToMonitor", "userSessions", "anonTelemetry"] {
            assert!(left_alone.what.contains(section), "{}", left_alone.what);
        }
    }
}

#[test]
fn the_sample_is_accepted_without_a_word() {
    let Loaded { config, warnings, .. } =
        config::load(Path::new("config/ringside.yaml")).expect("the sample is right");
    assert_eq!(warnings, []);
    let defaults = Config::default().ringside;
    assert_eq!(config.ringside, defaults, "the sample shows the defaults");
}

/// `tests/config/wrong-files.txt` holds wrong files and what is said about them:
/// `=== name`, the file, `---->`, the messages.
#[test]
fn wrong_files_are_refused_with_place_and_hint() {
    let table = include_str!("config/wrong-files.txt");
    let mut wrong = String::new();
    let mut cases = 0;
    for case in table.split("=== ").skip(1) {
        let (name, case) = case.split_once('\n').expect("a name");
        let (text, expected) = case.split_once("---->\n").expect("an arrow");
        let actual = refuse(text);
        if actual != expected.trim_end() {
            let _ = write!(wrong, "\n=== {name}\n{text}---->\n{actual}\n");
        }
        cases += 1;
    }
    assert!(wrong.is_empty(), "these are refused with other words:\n{wrong}");
    assert!(cases >= 40, "only {cases} cases were found");
}

#[test]
fn missing_keys_take_the_defaults_and_missing_sections_are_off() {
    let Loaded { config, warnings, .. } = with("");
    assert_eq!(warnings, []);
    let listener = config.user_listener().expect("enabled");
    assert_eq!((listener.host, listener.port), ("127.0.0.1", 9997));
    assert_eq!((listener.queue.max_size, listener.queue.max_concurrent), (200, 10));
    assert_eq!(listener.max_message_size, 65_507);
    assert!(!listener.rate_limit.enable);
    assert!(config.log_listener().is_none());
    assert!(!config.influxdb_config.enable);
    assert!(!config.user_events.send_to_influxdb.enable);
    assert!(config.ringside.console.enable);

    // A section that is there has the switch of the template.
    let Loaded { config, .. } =
        with("    sendToInfluxdb: {}\n  logEvents:\n    source: {qixPerf: {}}\n");
    assert!(config.user_events.send_to_influxdb.enable);
    assert!(config.log_listener().is_some());
}

#[test]
fn a_missing_host_is_loopback_with_a_warning() {
    let Loaded { config, warnings, .. } = accept("Butler-SOS:\n  userEvents:\n    enable: true\n");
    assert_eq!(config.user_listener().expect("enabled").host, "127.0.0.1");
    assert_eq!(
        warnings[0].to_string(),
        "f.yaml:2:3: Butler-SOS.userEvents.udpServerConfig.serverHost: the key is missing: the \
         listener is at 127.0.0.1 only\n  hint: set it to an address of this machine, or 0.0.0.0 \
         for all, if Sense runs elsewhere"
    );
}

#[test]
fn shapes_of_the_documents_are_accepted() {
    let Loaded { config, .. } = with(
        "    excludeUser:
    tags:
      - tag: env
        value: DEV
  logEvents:
    enginePerformanceMonitor:
      enable: true
      monitorFilter:
        appSpecific: []
        allApps: []
    categorise:
      enable: true
      rules:
        - logLevel: [FATAL]
          action: ' Drop '
          filter: [{type: SO, value: <noise>}]
",
    );
    assert_eq!(config.user_events.exclude_user, []);
    assert_eq!(config.user_events.tags[0].name, "env");
    let filter = &config.log_events.engine_performance_monitor.monitor_filter;
    assert!(!filter.all_apps.enable && !filter.app_specific.enable);
    assert_eq!(config.log_events.categorise.rules[0].action, RuleAction::Drop);

    let Loaded { config, .. } = with(
        "  logEvents:
    enginePerformanceMonitor:
      monitorFilter:
        appSpecific:
          enable: true
          app:
            - appObject:
                someAppObjectsInclude: [abc, {objectId: def}]
",
    );
    let filter = &config.log_events.engine_performance_monitor.monitor_filter;
    let objects = &filter.app_specific.app[0].app_object.some_app_objects_include;
    assert_eq!(*objects, [ObjectId("abc".to_owned()), ObjectId("def".to_owned())]);
}

#[test]
fn an_empty_list_for_a_section_switches_it_off() {
    assert!(!with("  influxdbConfig: []\n").config.influxdb_config.enable);
}

#[test]
fn anchors_and_merge_keys_are_understood() {
    let Loaded { config, .. } = with(
        "    tags: &tags
      - {name: env, value: dev}
  logEvents:
    tags: *tags
    source:
      engine: &on {enable: true}
      proxy:
        <<: *on
",
    );
    assert_eq!(config.log_events.tags, config.user_events.tags);
    assert!(config.log_events.source.proxy.enable);
}

#[test]
fn units_are_optional() {
    let Loaded { config, .. } = with(
        "  ringside:
    flushInterval: 10
    shutdownTimeout: 1m
    batchBytes: 65536
    receive: {socketBuffer: 4MiB, receivers: 2, backend: IO_URING}
    shards: AUTO
    influxdb: {gzip: false}
",
    );
    let ringside = &config.ringside;
    assert_eq!(ringside.flush_interval, Millis::new(10));
    assert_eq!(ringside.shutdown_timeout, Millis::seconds(60));
    assert_eq!(ringside.batch_bytes, ByteSize::new(65_536));
    assert_eq!(ringside.receive.socket_buffer.bytes(), 4 << 20);
    assert_eq!(ringside.receive.receivers, Threads::Fixed(2));
    assert_eq!(ringside.receive.backend, config::Backend::IoUring);
    assert_eq!(ringside.shards, Shards::Auto);
    assert_eq!(ringside.influxdb.gzip, config::Gzip::Off);
}

#[test]
fn shards_are_a_number_or_inline() {
    for (text, shards) in [("Inline", Shards::Inline), ("64", Shards::Fixed(64))] {
        let Loaded { config, .. } = with(&format!("  ringside: {{shards: {text}}}\n"));
        assert_eq!(config.ringside.shards, shards);
    }
}

#[test]
fn what_is_wrong_in_a_disabled_section_does_no_harm() {
    let Loaded { config, warnings, .. } = with(
        "  mqttConfig:
    enable: false
    brokerHost: <IP of MQTT broker/server>
    brokerPort: none
",
    );
    assert_eq!(config.mqtt_config.broker_port, 1883);
    let [warning] = warnings.as_slice() else { panic!("{warnings:#?}") };
    assert_eq!((warning.line, warning.column), (9, 17));
    assert_eq!(warning.path, "Butler-SOS.mqttConfig.brokerPort");
}

#[test]
fn an_unknown_key_far_from_the_known_ones_is_a_warning() {
    let Loaded { warnings, .. } = with("  sendToCarrierPigeon:\n    enable: true\n");
    assert_eq!(
        warnings[0].to_string(),
        "f.yaml:6:3: Butler-SOS.sendToCarrierPigeon: unknown key\n  hint: it is ignored; a newer \
         Butler SOS may know it"
    );
    // A neighbour that is present is no slip.
    let v4 = "  influxdbConfig:\n    enable: false\n    v1Config: {}\n    v2Config: {}\n    \
              v3Config: {}\n    v4Config: {}\n";
    assert_eq!(with(v4).warnings[0].path, "Butler-SOS.influxdbConfig.v4Config");
}

#[test]
fn events_for_a_destination_that_is_off_are_a_warning() {
    let Loaded { warnings, .. } = with("    sendToInfluxdb:\n      enable: true\n");
    let [warning] = warnings.as_slice() else { panic!("{warnings:#?}") };
    assert_eq!((warning.line, warning.column), (7, 15));
    assert_eq!(warning.what, "on, but influxdbConfig is off: the events do not get there");
}

#[test]
fn protections_are_accepted_without_a_warning() {
    let Loaded { warnings, .. } = with(
        "      rateLimit:\n        enable: true\n      enableSourceValidation: true\n      \
         allowedSources: [10.0.0.1]\n",
    );
    assert!(warnings.is_empty(), "{warnings:#?}");
}

#[test]
fn a_secret_never_shows() {
    let report = refuse(&format!(
        "{USER_EVENTS}  influxdbConfig:\n    enable: true\n    host: db\n    v3Config:\n      \
         database: d\n      token: 123456\n"
    ));
    assert!(report.contains("f.yaml:11:14: Butler-SOS.influxdbConfig.v3Config.token"), "{report}");
    assert!(!report.contains("123456"), "{report}");
}

#[test]
fn aliases_cannot_multiply_without_end() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        let items = vec![below; 10].join(", ");
        let _ = writeln!(text, "a{level}: &a{level} [{items}]");
    }
    assert!(refuse(&text).contains("more than 100000 values"));
    let deep = format!("Butler-SOS: {}1{}\n", "[".repeat(100), "]".repeat(100));
    assert!(refuse(&deep).contains("nested deeper than 64 levels"));
}

#[test]
fn files_that_are_no_text_are_refused() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"Butler-SOS:\n  logLevel: caf\xe9\n").expect("written");
    let error = config::load(file.path()).expect_err("refused");
    let expected = format!(
        "{}:2:16: not UTF-8\n  hint: save the file with the encoding UTF-8",
        file.path().display()
    );
    assert_eq!(error.to_string(), expected);

    let missing = config::load(Path::new("tests/config/none.yaml")).expect_err("refused");
    assert!(matches!(missing, ConfigError::Read { .. }));
    assert!(missing.to_string().starts_with("tests/config/none.yaml: "));
}

#[test]
fn a_byte_order_mark_and_windows_lines_are_accepted() {
    let text = format!("\u{feff}{}", USER_EVENTS.replace('\n', "\r\n"));
    assert!(accept(&text).config.user_events.enable);
}

#[test]
fn without_a_file_everything_is_received_on_loopback() {
    let config = config::embedded_default();
    let (user, log) = (config.user_listener().expect("on"), config.log_listener().expect("on"));
    assert_eq!((user.host, user.port), ("127.0.0.1", 9997));
    assert_eq!((log.host, log.port), ("127.0.0.1", 9996));
    assert!(config.log_events.engine_performance_monitor.enable);
    assert!(config.ringside.archive.enable);
    assert_eq!(config.ringside.archive.dir, "ringside-data/archive");
    assert_eq!(config.ringside.console.port, 8088);
}

/// The file that says which test fails when a key is ignored.
const TESTS_OF_KEYS: &str = "tests/config/tests-of-keys.txt";

/// Its lines: key, and test.
fn tests_of_keys() -> BTreeMap<String, String> {
    let text = fs::read_to_string(TESTS_OF_KEYS).expect(TESTS_OF_KEYS);
    let mut tests = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (key, test) = line.split_once(" = ").unwrap_or_else(|| panic!("no ` = ` in {line:?}"));
        let former = tests.insert(key.to_owned(), test.to_owned());
        assert_eq!(former, None, "{key} is there twice");
    }
    tests
}

/// A key as the documentation writes it.
fn documented(path: &str) -> &str {
    path.strip_prefix("Butler-SOS.").expect("below the root")
}

/// The section of a key: the part behind the root.
fn section(path: &str) -> &str {
    path.split('.').nth(1).unwrap_or_default()
}

/// Whether `FILE::NAME` is a test: `FILE` is a path that ends with `.rs`, or stands for `tests/FILE.rs`.
fn is_test(test: &str) -> bool {
    let Some((file, name)) = test.rsplit_once("::") else { return false };
    let path = if file.ends_with(".rs") { file.to_owned() } else { format!("tests/{file}.rs") };
    let Ok(text) = fs::read_to_string(path) else { return false };
    let Some((before, _)) = text.split_once(&format!("fn {name}(")) else { return false };
    // Some tests run once per backend: their names are in the list of a macro.
    before.trim_end().ends_with("#[test]") || text.contains(&format!("\n    {name},\n"))
}

#[test]
fn every_key_has_a_test_that_fails_when_it_is_ignored() {
    let rows = config::reference();
    let tests = tests_of_keys();
    let known: BTreeSet<&str> = rows.iter().map(|row| documented(&row.path)).collect();
    let unknown: Vec<_> = tests.keys().filter(|key| !known.contains(key.as_str())).collect();
    assert!(unknown.is_empty(), "{TESTS_OF_KEYS} has keys that do not exist: {unknown:#?}");
    let used = rows.iter().filter(|row| row.status == Status::Used);
    let without: Vec<_> =
        used.map(|row| documented(&row.path)).filter(|key| !tests.contains_key(*key)).collect();
    assert!(without.is_empty(), "{TESTS_OF_KEYS} has no test for {without:#?}");
    let missing: BTreeSet<_> = tests.values().filter(|test| !is_test(test)).collect();
    assert!(missing.is_empty(), "{TESTS_OF_KEYS} has tests that do not exist: {missing:#?}");
}

/// The tables of `docs/configuration.md`, one per section, Ringside's own first.
fn tables() -> String {
    const HEADER: &str = "| key | value | default | limits | meaning | status | test |\n\
                          |---|---|---|---|---|---|---|";
    let mut rows = config::reference();
    let tests = tests_of_keys();
    rows.sort_by_key(|row| section(&row.path) != "ringside");
    let mut text = String::new();
    let mut current = None;
    for row in rows {
        let alone = row.path.matches('.').count() == 1;
        let heading =
            if alone { "Other keys".to_owned() } else { format!("`{}`", section(&row.path)) };
        if current.as_ref() != Some(&heading) {
            let _ = write!(text, "\n### {heading}\n\n{HEADER}\n");
            current = Some(heading);
        }
        let path = documented(&row.path);
        let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
        let default = code(&row.default);
        let test = code(tests.get(path).map_or("", String::as_str));
        let status = match row.status {
            Status::Used => "",
            Status::Later => "later",
            Status::LeftAlone => "Butler SOS",
        };
        let _ = writeln!(
            text,
            "| `{path}` | {} | {default} | {} | {} | {status} | {test} |",
            row.kind, row.limits, row.about
        );
    }
    text
}

#[test]
fn the_documentation_lists_every_key() {
    const MARK: &str = "<!-- The rest is written by";
    let path = "docs/configuration.md";
    let text = fs::read_to_string(path).expect(path);
    let mark = text.find(MARK).expect("the mark");
    let tables_at = mark + text[mark..].find('\n').expect("a line") + 1;
    let expected = format!("{}{}", &text[..tables_at], tables());
    if std::env::var_os("RINGSIDE_UPDATE_DOCS").is_some() {
        fs::write(path, expected).expect("written");
    } else {
        assert!(text == expected, "run RINGSIDE_UPDATE_DOCS=1 cargo test --test config");
    }
}

#[test]
fn the_settings_in_effect_are_a_file_of_their_own_without_secrets() {
    let file = fs::read_to_string("tests/config/butler-sos-v1.yaml").expect("the file");
    let config = ringside::config::parse(&file, "v1.yaml").expect("valid").config;
    let shown = config.to_yaml();
    assert!(!shown.contains("mytoken") && !shown.contains("NRKEY"), "{shown}");
    assert!(shown.contains("'***'"), "{shown}");
    let again = ringside::config::parse(&shown, "shown.yaml").expect("valid").config;
    assert_eq!(again.to_yaml(), shown, "showing and reading change nothing");
    assert_eq!(again.log_events, config.log_events);
    assert_eq!(again.ringside, config.ringside);
}
