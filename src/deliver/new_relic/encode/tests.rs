//! Attributes one by one; what Butler SOS recorded is compared in `tests/oracle.rs`.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::documented::assert_table;
use crate::enrich::UserAgent;
use crate::event::parse;

const USER_EVENT: &str = "/qseow-proxy-session/;h;Start session;LAB;anna;AppAccess;\
    /app/E7AF59A0-c243-480d-9571-08727551a66f;m";
const LOG_EVENT: &str = "/qseow-proxy/;14;20211109T153726.028+0200;2021-11-09 15:37:26,028;WARN;\
    h;Proxy;LAB\\svc;say \"it\";;LAB;anna;Open;403;o;c";

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn all() -> EncoderSettings {
    EncoderSettings {
        user_events: true,
        levels: [Levels { fatal: true, error: true, warn: true }; Kind::COUNT],
        ..EncoderSettings::default()
    }
}

fn encode(settings: &EncoderSettings, listener: Listener, payload: &str) -> String {
    let mut scratch = Vec::new();
    let event = parse(listener, payload.as_bytes(), &mut scratch).unwrap();
    let mut out = Buffer::default();
    let agent = UserAgent {
        browser_name: "Chrome".into(),
        browser_major_version: "120".into(),
        os_name: "Windows".into(),
        ..UserAgent::default()
    };
    let enriched = Enriched {
        app_name: Some("Sales \"1\""),
        user_agent: Some(&agent),
        ..Enriched::plain(&event, 1_709_164_799_123_456_789)
    };
    Encoder::new(settings).encode(&enriched, &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn wants(settings: &EncoderSettings, listener: Listener, payload: &str) -> bool {
    let mut scratch = Vec::new();
    let event = parse(listener, payload.as_bytes(), &mut scratch).unwrap();
    Encoder::new(settings).wants(&event)
}

#[test]
fn a_user_event() {
    let settings = EncoderSettings { user_attributes: pairs(&[("env", "a\"b")]), ..all() };
    assert_eq!(
        encode(&settings, Listener::UserEvents, USER_EVENT),
        concat!(
            r#"{"timestamp":1709164799123,"qs_host":"h","qs_event_action":"Start session","#,
            r#""qs_userFull":"LAB\\anna","qs_userDirectory":"LAB","qs_userId":"anna","#,
            r#""qs_origin":"AppAccess","qs_appId":"e7af59a0-c243-480d-9571-08727551a66f","#,
            r#""qs_appName":"Sales \"1\"","qs_uaBrowserName":"Chrome","#,
            r#""qs_uaBrowserMajorVersion":"120","qs_uaOsName":"Windows","env":"a\"b","#,
            r#""eventType":"qs_userEvent"}"#,
            "\n"
        )
    );
}

#[test]
fn a_log_event() {
    let settings = EncoderSettings { log_attributes: pairs(&[("dc", "north")]), ..all() };
    assert_eq!(
        encode(&settings, Listener::LogEvents, LOG_EVENT),
        concat!(
            r#"{"timestamp":1709164799123,"qs_ts_iso":"20211109T153726.028+0200","#,
            r#""qs_ts_local":"2021-11-09 15:37:26,028","qs_log_source":"qseow-proxy","#,
            r#""qs_log_level":"WARN","qs_host":"h","qs_subsystem":"Proxy","#,
            r#""qs_windows_user":"LAB\\svc","qs_message":"say \"it\"","#,
            r#""qs_exception_message":"","qs_user_full":"LAB\\anna","qs_user_directory":"LAB","#,
            r#""qs_user_id":"anna","qs_command":"Open","qs_result_code":"403","qs_origin":"o","#,
            r#""qs_context":"c","dc":"north","eventType":"qs_logEvent"}"#,
            "\n"
        )
    );
}

#[test]
fn the_documentation_lists_every_attribute() {
    for (table, event) in [(USER, "qs_userEvent"), (LOG, "qs_logEvent")] {
        let row = |(name, source): &(&str, Source)| format!("| `{name}` | {} |", holds(*source));
        let rows: Vec<_> = table.iter().map(row).collect();
        let header = format!("| attribute of `{event}` | holds |");
        assert_table("docs/series.md", &header, &rows);
    }
}

fn holds(source: Source) -> String {
    match source {
        Source::Time => "milliseconds since 1970 at receipt",
        Source::Column(column) => return format!("column `{}`", column.name()),
        Source::UserFull => "directory and id of the user",
        Source::UserDirectory => "the user's directory",
        Source::UserId => "the user's id",
        Source::App => "the app that the context names",
        Source::AppName => "the app's name",
        Source::BrowserName => "browser",
        Source::BrowserMajorVersion => "the browser's major version",
        Source::OsName => "operating system",
        Source::OsVersion => "the system's version",
    }
    .to_owned()
}

#[test]
fn users_are_scrambled_where_it_says_so() {
    let user = EncoderSettings { scramble_user_events: true, ..all() };
    let line = encode(&user, Listener::UserEvents, USER_EVENT);
    assert!(line.contains(r#""qs_userDirectory":"e917621682605938""#), "{line}");
    assert!(!line.contains("anna"), "{line}");
    assert!(encode(&user, Listener::LogEvents, LOG_EVENT).contains("anna"));
    // Difference 29.
    let log = EncoderSettings { scramble_log_events: true, ..all() };
    let scrambled = encode(&log, Listener::LogEvents, LOG_EVENT);
    assert!(!scrambled.contains("anna"), "{scrambled}");
    let member = |line: &str, name: &str| serde_json::from_str::<Json>(line).unwrap()[name].clone();
    for (user, log) in [("qs_userFull", "qs_user_full"), ("qs_userId", "qs_user_id")] {
        assert_eq!(member(&line, user), member(&scrambled, log), "the same user, the same text");
    }
    assert!(encode(&log, Listener::UserEvents, USER_EVENT).contains("anna"));
}

#[test]
fn the_later_of_two_equal_names_wins() {
    let fixed = pairs(&[
        ("qs_host", "tag"),
        ("env", "tag"),
        ("timestamp", "tag"),
        ("env", "static"),
        ("eventType", "mine"),
    ]);
    let settings =
        EncoderSettings { user_attributes: fixed.clone(), log_attributes: fixed, ..all() };
    for (listener, payload, event_type) in [
        (Listener::UserEvents, USER_EVENT, "qs_userEvent"),
        (Listener::LogEvents, LOG_EVENT, "qs_logEvent"),
    ] {
        let line = encode(&settings, listener, payload);
        for (name, value) in
            [("qs_host", "tag"), ("env", "static"), ("timestamp", "tag"), ("eventType", event_type)]
        {
            assert_eq!(line.matches(&format!("\"{name}\":")).count(), 1, "{line}");
            assert!(line.contains(&format!("\"{name}\":\"{value}\"")), "{line}");
        }
    }
}

#[test]
fn only_the_levels_that_are_asked_for() {
    let proxy = |levels| {
        let mut settings = EncoderSettings::default();
        settings.levels[Kind::Proxy as usize] = levels;
        settings
    };
    let at = |level: &str| LOG_EVENT.replacen("WARN", level, 1);
    let warn = proxy(Levels { warn: true, ..Levels::default() });
    assert!(wants(&warn, Listener::LogEvents, LOG_EVENT));
    assert!(wants(&warn, Listener::LogEvents, &at("wArN")));
    for other in ["WARNING", " WARN", "ERROR", "FATAL", "INFO", ""] {
        assert!(!wants(&warn, Listener::LogEvents, &at(other)), "{other}");
    }
    let repository = LOG_EVENT.replacen("proxy", "repository", 1);
    assert!(!wants(&warn, Listener::LogEvents, &repository), "another service");
    // Difference 16.
    assert!(wants(
        &proxy(Levels { fatal: true, ..Levels::default() }),
        Listener::LogEvents,
        &at("FATAL")
    ));
    assert!(wants(
        &proxy(Levels { error: true, ..Levels::default() }),
        Listener::LogEvents,
        &at("error")
    ));
}

#[test]
fn performance_events_never_and_user_events_where_it_says_so() {
    assert!(!wants(&all(), Listener::LogEvents, "/qseow-qix-perf/;4;;;WARN;h"));
    assert!(wants(&all(), Listener::UserEvents, USER_EVENT));
    assert!(!wants(&EncoderSettings::default(), Listener::UserEvents, USER_EVENT));
}

proptest! {
    #[test]
    fn hostile_events_are_one_object_on_one_line(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        columns in prop::collection::vec("[a\\\\\"{},:é\u{1}\n\r\t]{0,90}", 0..30),
        scrambled in any::<bool>(),
    ) {
        let settings = EncoderSettings {
            scramble_user_events: scrambled,
            scramble_log_events: scrambled,
            ..all()
        };
        let payload = format!("/{}/;{}", kind.name(), columns.join(";"));
        let line = encode(&settings, kind.listener(), &payload);
        prop_assert_eq!(line.matches('\n').count(), 1);
        let json: Json = serde_json::from_str(&line).unwrap();
        let mut scratch = Vec::new();
        let event = parse(kind.listener(), payload.as_bytes(), &mut scratch).unwrap();
        prop_assert_eq!(&json["qs_host"], event.text(Column::Host));
    }
}
