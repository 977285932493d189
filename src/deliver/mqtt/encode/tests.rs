use super::*;
use crate::event::parse;
use crate::rules::Category;
use proptest::prelude::*;

fn settings() -> EncoderSettings {
    EncoderSettings {
        user: Some(UserTopics {
            everything: Some("all".into()),
            commands: vec![("Start session", "start".into()), ("Stop session", "s+top".into())],
        }),
        log: Some(LogTopics { base: "log".into(), to_base: true, to_subsystem: true }),
        user_tags: vec![
            ("env".into(), "test".into()),
            ("q\"".into(), "1".into()),
            ("env".into(), "prod".into()),
        ],
        log_tags: vec![],
    }
}

/// What is known about an event beside itself.
#[derive(Default)]
struct Known<'a> {
    app_name: Option<&'a str>,
    user_agent: Option<&'a UserAgent>,
    categories: Option<&'a [&'a Category]>,
}

/// Payload and topics of an event.
fn encode(payload: &str, known: &Known<'_>) -> (String, Vec<String>) {
    let listener = Kind::ALL
        .into_iter()
        .find(|kind| payload.starts_with(&format!("/{}/", kind.name())))
        .unwrap()
        .listener();
    let mut scratch = Vec::new();
    let event = parse(listener, payload.as_bytes(), &mut scratch).unwrap();
    let Known { app_name, user_agent, categories } = *known;
    let enriched = Enriched { app_name, user_agent, categories, ..Enriched::plain(&event, 1) };
    let mut out = Buffer::default();
    Encoder::new(&settings()).encode(&enriched, &mut out);
    let line = String::from_utf8(out.to_vec()).unwrap();
    let mut parts = line.strip_suffix('\n').unwrap().split('\t').map(str::to_owned);
    (parts.next().unwrap(), parts.collect())
}

const START: &str = "/qseow-proxy-session/;h;Start session;LAB;anna;AppAccess;\
                     /app/E7AF59A0-c243-480d-9571-08727551a66f;\"m\"";

fn proxy(subsystem: &str) -> String {
    format!("/qseow-proxy/;5;;;WARN;h;{subsystem};w;m\\;e;LAB;anna;c;403;o;x")
}

#[test]
fn a_user_event() {
    let agent = UserAgent {
        browser_name: "Chrome".into(),
        browser_major_version: "124".into(),
        os_name: "Linux".into(),
        ..UserAgent::default()
    };
    let (payload, topics) = encode(
        START,
        &Known { app_name: Some("Sales \\"), user_agent: Some(&agent), ..Known::default() },
    );
    assert_eq!(topics, ["all", "start"]);
    assert_eq!(
        payload,
        concat!(
            r#"{"messageType":"qseow-proxy-session","host":"h","command":"Start session","#,
            r#""userDir":"LAB","userId":"anna","origin":"AppAccess","#,
            r#""context":"/app/E7AF59A0-c243-480d-9571-08727551a66f","message":"\"m\"","#,
            r#""tags":{"env":"prod","q\"":"1"},"appId":"e7af59a0-c243-480d-9571-08727551a66f","#,
            r#""appName":"Sales \\","uaBrowserName":"Chrome","uaBrowserMajorVersion":"124","#,
            r#""uaOsName":"Linux"}"#
        )
    );
}

#[test]
fn the_documentation_lists_the_members_of_user_events() {
    let agent = UserAgent {
        browser_name: "b".into(),
        browser_major_version: "1".into(),
        os_name: "o".into(),
        os_version: "2".into(),
        ..UserAgent::default()
    };
    let known = Known { app_name: Some("a"), user_agent: Some(&agent), ..Known::default() };
    let (payload, _) = encode(START, &known);
    let object: serde_json::Map<_, _> = serde_json::from_str(&payload).unwrap();
    let mut members: Vec<&String> = object.keys().collect();
    members.sort_by_key(|name| payload.find(&format!("\"{name}\":")));
    let page = std::fs::read_to_string("docs/series.md").unwrap();
    let shown = page.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(shown.split_whitespace().collect::<Vec<_>>(), members);
}

#[test]
fn a_log_event_with_categories() {
    let category = Category { name: "a\tb".into(), value: "1".into() };
    let both = [&category, &category];
    let (payload, topics) =
        encode(&proxy("System.Proxy"), &Known { categories: Some(&both), ..Known::default() });
    assert_eq!(topics, ["log", "log/system/proxy"]);
    assert_eq!(
        payload,
        concat!(
            r#"{"source":"qseow-proxy","log_row":5,"ts_iso":"","ts_local":"","level":"WARN","#,
            r#""host":"h","subsystem":"System.Proxy","windows_user":"w","message":"m\\","#,
            r#""exception_message":"e","user_directory":"LAB","user_id":"anna","command":"c","#,
            r#""result_code":"403","origin":"o","context":"x","user_full":"LAB\\anna","#,
            r#""category":[{"name":"a\tb","value":"1"},{"name":"a\tb","value":"1"}],"tags":{}}"#
        )
    );
}

#[test]
fn a_performance_event_has_the_name_of_its_app_behind_the_id() {
    let (payload, _) = encode("/qseow-qix-perf/;4;;;INFO;h", &Known::default());
    assert!(payload.contains(r#""app_id":"","app_name":"","request_id""#), "{payload}");
    assert!(payload.contains(r#","event_activity_source":"user","user_full":"""#), "{payload}");
    assert!(payload.contains(r#""process_time":null"#), "{payload}");
}

#[test]
fn levels_without_a_name_and_wildcards_become_underscores() {
    for (subsystem, topic) in [
        ("", "log/_"),
        ("a..b", "log/a/_/b"),
        ("a.", "log/a/_"),
        (".A", "log/_/a"),
        ("a/b//c", "log/a/b/_/c"),
        ("A+.#.b#", "log/a_/_/b_"),
        ("É.\u{FFFF}\u{85}", "log/é/__"),
    ] {
        let (payload, topics) = encode(&proxy(subsystem), &Known::default());
        assert_eq!(topics[1], topic, "{subsystem:?}");
        let json: Json = serde_json::from_str(&payload).unwrap();
        assert_eq!(json["subsystem"], subsystem, "the payload keeps the original");
    }
}

#[test]
fn topics_of_the_file_are_cleaned_and_cut() {
    let (_, topics) = encode(&START.replace("Start", "Stop"), &Known::default());
    assert_eq!(topics, ["all", "s_top"]);
    let long = clean(&"é".repeat(40_000), TOPIC_MAX);
    assert_eq!(long.len(), TOPIC_MAX - 1, "not inside a character");
}

#[test]
fn an_event_without_a_topic_is_not_wanted() {
    let wants = |settings: &EncoderSettings, listener, payload: &str| {
        let mut scratch = Vec::new();
        let event = parse(listener, payload.as_bytes(), &mut scratch).unwrap();
        Encoder::new(settings).wants(&event)
    };
    let other = START.replace("Start session", "Open connection");
    let mut settings = settings();
    assert!(wants(&settings, Listener::UserEvents, &other));
    settings.user.as_mut().unwrap().everything = None;
    assert!(wants(&settings, Listener::UserEvents, START));
    assert!(!wants(&settings, Listener::UserEvents, &other));
    assert!(wants(&settings, Listener::LogEvents, &proxy("s")));
    settings.log = None;
    assert!(!wants(&settings, Listener::LogEvents, &proxy("s")));
}

proptest! {
    #[test]
    fn hostile_events_are_one_line_of_json_and_topics_that_brokers_take(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        columns in prop::collection::vec("[a\\\\\"{}+#./İȺ\u{FDD0}\u{1}\n\r\t]{0,90}", 0..30),
    ) {
        let payload = format!("/{}/;{}", kind.name(), columns.join(";"));
        let (json, topics) = encode(&payload, &Known::default());
        prop_assert!(serde_json::from_str::<Json>(&json).unwrap().is_object());
        for topic in topics {
            prop_assert!(topic.chars().all(is_allowed), "{:?}", topic);
            prop_assert!(topic.split('/').all(|level| !level.is_empty()), "{:?}", topic);
        }
    }
}
