//! Each rule of the series with one event, then hostile events against two readers: the parser of
//! InfluxDB 3, and the rules of InfluxDB 1 and 2, which read backslashes differently.

use std::collections::BTreeMap;

use influxdb_line_protocol::{FieldValue, parse_lines};
use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::event::{Column, Field, PADDING, Payload, parse};

use InfluxVersion::{V1, V2, V3};

mod enriched;

const ALL: [InfluxVersion; 3] = [V1, V2, V3];

fn settings(version: InfluxVersion) -> EncoderSettings {
    EncoderSettings {
        version,
        user_tags: Vec::new(),
        log_tags: Vec::new(),
        tags_as_fields: Vec::new(),
        log_row_tag: false,
        kinds: [true; Kind::COUNT],
    }
}

fn listener(payload: &str) -> Listener {
    let is_session = payload.starts_with("/qseow-proxy-");
    if is_session { Listener::UserEvents } else { Listener::LogEvents }
}

/// As a line, which is the same whatever stands behind the datagram.
fn encode_with(settings: &EncoderSettings, payload: &str) -> String {
    let in_slot = [payload.as_bytes(), &[b'"'; PADDING]].concat();
    let given = [Payload::from(payload.as_bytes()), Payload::new(&in_slot, payload.len())];
    let [line, same] = given.map(|given| {
        let mut scratch = Vec::new();
        let event = parse(listener(payload), given, &mut scratch).unwrap();
        let mut out = Buffer::default();
        Encoder::new(settings).encode(&Enriched::plain(&event, 7), &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    });
    assert_eq!(line, same);
    line
}

fn encode(version: InfluxVersion, payload: &str) -> String {
    encode_with(&settings(version), payload)
}

/// Tags, with all but the value's escapes of delimiters as they stand in the line, and fields.
struct Read {
    tags: BTreeMap<String, String>,
    fields: BTreeMap<String, Json>,
}

/// Reads one line by the rules of InfluxDB 1 and 2: a delimiter counts unless the byte before it is
/// a backslash, and backslashes elsewhere are literal.
fn read(line: &str) -> Read {
    let (head, rest) = split_unescaped(line, ' ');
    let mut parts = Vec::new();
    let mut left = head;
    while !left.is_empty() {
        let (part, rest) = split_unescaped(left, ',');
        parts.push(part);
        left = rest;
    }
    let mut tags = BTreeMap::new();
    for part in &parts[1..] {
        let (name, value) = split_unescaped(part, '=');
        assert!(!name.is_empty() && !value.is_empty() && !value.ends_with('\\'), "{line}");
        let plain = value.replace("\\,", ",").replace("\\=", "=").replace("\\ ", " ");
        assert!(tags.insert(name.to_owned(), plain).is_none(), "{name} twice in {line}");
    }
    let bare = format!("{} {rest}", parts[0]);
    Read { tags, fields: fields(&bare) }
}

fn split_unescaped(text: &str, delimiter: char) -> (&str, &str) {
    let mut before = ' ';
    for (index, character) in text.char_indices() {
        if character == delimiter && before != '\\' {
            return (&text[..index], &text[index + 1..]);
        }
        before = character;
    }
    (text, "")
}

/// The fields of exactly one line, read by the parser of InfluxDB 3.
fn fields(line: &str) -> BTreeMap<String, Json> {
    let lines: Vec<_> = parse_lines(line).collect::<Result<_, _>>().unwrap();
    assert_eq!(lines.len(), 1, "{line}");
    assert_eq!(lines[0].timestamp, Some(7));
    // JSON tells 1 from 1.0 as well.
    let owned = |value: &FieldValue<'_>| match value {
        FieldValue::I64(number) => Json::from(*number),
        FieldValue::F64(number) => Json::from(*number),
        FieldValue::String(text) => Json::from(text.as_str()),
        other => panic!("unexpected {other:?}"),
    };
    let fields = lines[0].field_set.iter();
    fields.map(|(name, value)| (name.as_str().to_owned(), owned(value))).collect()
}

fn text<'r>(read: &'r Read, field: &str) -> &'r str {
    read.fields[field].as_str().unwrap()
}

const SESSION: &str = "/qseow-proxy-session/;host 1;Start session;LAB;anna;https://a,b=c;\
    /app/E7AF59A0-c243-480d-9571-08727551a66f/sheet;a \"message\"";

#[test]
fn user_events_per_version() {
    let tags = "appId=e7af59a0-c243-480d-9571-08727551a66f,event_action=Start\\ session,\
        host=host\\ 1,origin=https://a\\,b\\=c,userDirectory=LAB,userFull=LAB\\anna,userId=anna";
    let app = "\"e7af59a0-c243-480d-9571-08727551a66f\"";
    for (version, app_id, full, id) in [
        (V1, "appId", "userFull", "userId"),
        (V2, "appId_field", "userFull", "userId"),
        (V3, "appId_field", "userFull_field", "userId_field"),
    ] {
        let fields = format!("{app_id}={app},{full}=\"LAB\\\\anna\",{id}=\"anna\"");
        assert_eq!(encode(version, SESSION), format!("user_events,{tags} {fields} 7\n"));
    }
}

#[test]
fn user_events_without_an_app_have_no_app_id_at_all() {
    let line = encode(V1, "/qseow-proxy-session/;h;Start session;LAB;anna;o;/hub/;m");
    assert!(!line.contains("appId"));
}

#[test]
fn user_events_with_empty_parts_are_delivered_without_those_tags() {
    for version in ALL {
        let read = read(&encode(version, "/qseow-proxy-session/;;;;anna;;/hub/;m"));
        let wanted = [("userFull", "\\anna"), ("userId", "anna")];
        assert!(read.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(wanted));
    }
}

#[test]
fn nothing_at_all_is_still_a_line() {
    for version in ALL {
        for kind in Kind::ALL {
            let line = encode(version, &format!("/{}/", kind.name()));
            assert!(!read(&line).fields.is_empty());
        }
    }
}

const ENGINE: &str = "/qseow-engine/;14;20211109T153726.028+0200;2021-11-09 15:37:26,028;WARN;\
    h;System.Engine;LAB\\svc;It \"happened\"\\;3b3b3b3b-1111-4a3b-8b3b-000000000001;LAB;anna;\
    20211109T153726.028+0200;3b3b3b3b-2222-4a3b-8b3b-000000000002;12.1;20211101T080000.000+0200;\
    System;3B3B3B3B-3333-4a3b-8b3b-000000000003;e7af59a0-c243-480d-9571-08727551a66f";

#[test]
fn engine_events_per_version() {
    let app = "app_id=e7af59a0-c243-480d-9571-08727551a66f,engine_exe_version=12.1,host=h";
    let user = "source=qseow-engine,subsystem=System.Engine,user_directory=LAB,\
        user_full=LAB\\anna,user_id=anna";
    let message = r#"log_row_field=14i,message="It \"happened\"\\""#;
    let session = "session_id=\"3b3b3b3b-3333-4a3b-8b3b-000000000003\"";
    let raw = concat!(
        r#"raw_event="{\"source\":\"qseow-engine\",\"log_row\":14,"#,
        r#"\"ts_iso\":\"20211109T153726.028+0200\",\"ts_local\":\"2021-11-09 15:37:26,028\","#,
        r#"\"level\":\"WARN\",\"host\":\"h\",\"subsystem\":\"System.Engine\","#,
        r#"\"windows_user\":\"LAB\\\\svc\",\"message\":\"It \\\"happened\\\"\\\\\","#,
        r#"\"proxy_session_id\":\"3b3b3b3b-1111-4a3b-8b3b-000000000001\","#,
        r#"\"user_directory\":\"LAB\",\"user_id\":\"anna\","#,
        r#"\"engine_ts\":\"20211109T153726.028+0200\","#,
        r#"\"process_id\":\"3b3b3b3b-2222-4a3b-8b3b-000000000002\","#,
        r#"\"engine_exe_version\":\"12.1\",\"server_started\":\"20211101T080000.000+0200\","#,
        r#"\"entry_type\":\"System\",\"session_id\":\"3b3b3b3b-3333-4a3b-8b3b-000000000003\","#,
        r#"\"app_id\":\"e7af59a0-c243-480d-9571-08727551a66f\",\"user_full\":\"LAB\\\\anna\"}""#,
    );
    assert_eq!(
        encode(V1, ENGINE),
        format!(
            "log_event,{app},level=WARN,{user},windows_user=LAB\\svc {message},{raw},{session} 7\n"
        )
    );
    let empty = r#"command="",context="",exception_message="""#;
    let (origin, result) = (r#"origin="""#, r#"result_code_field="""#);
    for (version, windows_user) in [(V2, "LAB\\svc"), (V3, "LABsvc")] {
        assert_eq!(
            encode(version, ENGINE),
            format!(
                "log_event,{app},level=WARN,{user},windows_user={windows_user} \
                 {empty},{message},{origin},{raw},{result},{session} 7\n"
            )
        );
    }
}

/// A performance event with some columns, by position, replaced.
fn performance(changes: &[(usize, &str)]) -> String {
    let mut columns: Vec<&str> = "/qseow-qix-perf/;14;20211109T153726.028+0200;\
        20211109T153726.028+0200;INFO;h;Qix;LAB\\svc;3b3b3b3b-1111-4a3b-8b3b-000000000001;LAB;anna;\
        20211109T153726.028+0200;3b3b3b3b-3333-4a3b-8b3b-000000000003;\
        e7af59a0-c243-480d-9571-08727551a66f;7;Doc::Get;12.5;11;0.25;1;0;3;obj;123;456;barchart"
        .split(';')
        .collect();
    for (position, text) in changes {
        columns[*position] = text;
    }
    columns.join(";")
}

#[test]
fn performance_events_per_version() {
    for (version, handle, app_id) in [
        (V1, "handle=3i", "app_id"),
        (V2, "handle=\"3\"", "app_id"),
        (V3, "handle=3i", "app_id_field"),
    ] {
        let line = encode(version, &performance(&[]));
        let read = read(&line);
        assert!(line.contains(handle), "{line}");
        assert_eq!(text(&read, app_id), "e7af59a0-c243-480d-9571-08727551a66f");
        assert_eq!(read.tags["event_activity_source"], "user");
        assert_eq!(read.fields["process_time"], Json::from(12.5));
        assert_eq!(read.fields["net_ram"], Json::from(123));
        assert_eq!(read.fields["log_row_field"], Json::from(14));
        assert!(!read.tags.contains_key("app_name") && !read.tags.contains_key("log_row"));
        let raw = text(&read, "raw_event");
        assert!(raw.contains(r#","app_name":"","request_id":7,"method""#), "{raw}");
        assert!(raw.ends_with(r#","event_activity_source":"user","user_full":"LAB\\anna"}"#));
    }
}

#[test]
fn empty_tags_of_performance_events_have_a_default_in_versions_1_and_3() {
    let blank = performance(&[(4, ""), (5, ""), (6, ""), (8, "0"), (12, "x"), (15, ""), (25, "")]);
    let names =
        ["host", "level", "method", "object_type", "subsystem", "proxy_session_id", "session_id"];
    for (version, unknown, none) in [(V1, "<Unknown>", "-1"), (V3, "Unknown", "-1")] {
        let tags = read(&encode(version, &blank)).tags;
        for (name, wanted) in
            names.into_iter().zip([unknown, unknown, unknown, unknown, unknown, none, none])
        {
            assert_eq!(tags[name], wanted, "{name}");
        }
        assert_eq!(tags["event_activity_source"], "non-user");
    }
    let tags = read(&encode(V2, &blank)).tags;
    assert!(names.iter().all(|name| !tags.contains_key(*name)));
}

#[test]
fn an_empty_subsystem_is_not_available_in_version_3_only() {
    let payload = "/qseow-scheduler/;1;;;;h;;;message";
    assert_eq!(read(&encode(V3, payload)).tags["subsystem"], "n/a");
    for version in [V1, V2] {
        assert!(!read(&encode(version, payload)).tags.contains_key("subsystem"));
    }
}

#[test]
fn numbers_that_cannot_be_stored_are_left_out_and_stay_in_the_raw_event() {
    let odd = performance(&[
        (1, "10000000000000000000000"),
        (16, "NaN"),
        (17, "Infinity"),
        (21, "0"),
        (23, "100000000000000000000"),
    ]);
    for (version, handle) in [(V1, Json::from(0)), (V2, Json::from("")), (V3, Json::from(0))] {
        let read = read(&encode(version, &odd));
        for name in ["log_row_field", "process_time", "work_time", "net_ram"] {
            assert!(!read.fields.contains_key(name), "{name}");
        }
        assert_eq!(read.fields["handle"], handle);
        let raw = text(&read, "raw_event");
        assert!(raw.contains(r#""log_row":1e+22,"#));
        assert!(raw.contains(r#""process_time":null,"work_time":null,"#));
        assert!(raw.contains(r#""net_ram":100000000000000000000,"#));
    }
}

#[test]
fn the_row_number_comes_back_as_the_tag_that_butler_sos_writes() {
    let proxy = |row| format!("/qseow-repository/;{row};;;WARN;h;s;w;m;;;;;;;");
    let perf = |row| performance(&[(1, row)]);
    for (version, payload, wanted) in [
        (V1, proxy("14"), Some("14")),
        (V1, proxy("0"), Some("0")),
        (V2, proxy("0"), None),
        (V3, proxy("0"), None),
        (V3, proxy("x"), Some("-1")),
        (V1, perf("14"), Some("-1")),
        (V2, perf("14"), Some("14")),
        (V2, perf("0"), None),
        (V3, perf("0"), Some("-1")),
        (V3, perf("100000000000000000000"), Some("100000000000000000000")),
    ] {
        let settings = EncoderSettings { log_row_tag: true, ..settings(version) };
        let read = read(&encode_with(&settings, &payload));
        assert_eq!(read.tags.get("log_row").map(String::as_str), wanted, "{version:?} {payload}");
        assert!(!read.fields.contains_key("log_row_field"));
    }
}

#[test]
fn a_backslash_at_the_end_of_a_tag_is_cut() {
    let payload = "/qseow-repository/;1;;;WARN\\\\;h\\;s;w;m;;LAB;anna\\\\;;;;";
    for version in ALL {
        let tags = read(&encode(version, payload)).tags;
        let of = |name: &str| tags[name].as_str();
        let wanted = ("WARN", "h", "anna", "LAB\\anna");
        assert_eq!((of("level"), of("host"), of("user_id"), of("user_full")), wanted);
    }
}

#[test]
fn version_3_takes_some_characters_out_of_some_tags() {
    let payload = "/qseow-repository/;1;;;WARN;<h\\x>;s;w;m;;<L\\AB>;<\\>;;;;";
    let tags = read(&encode(V3, payload)).tags;
    assert_eq!(tags["host"], "<h\\x>");
    assert_eq!(tags["user_directory"], "LAB");
    assert_eq!(tags["user_full"], "<L\\AB>\\<\\>");
    assert!(!tags.contains_key("user_id"), "nothing is left of it");
    assert_eq!(read(&encode(V2, payload)).tags["user_id"], "<\\>");
}

#[test]
fn a_backslash_before_a_delimiter_does_not_end_the_tags_of_version_3() {
    let payload = "/qseow-proxy-session/;h;c;LAB; injected=1i;o;/hub/;m";
    let line = encode(V3, payload);
    assert!(line.contains(",userFull=LAB\\\\\\ injected\\=1i,"), "{line}");
    let parsed = parse_lines(&line).next().unwrap().unwrap();
    assert_eq!(parsed.tag_value("userFull").unwrap().as_str(), "LAB\\ injected=1i");
    // Versions 1 and 2 take the backslash literally, and have series written so.
    assert!(encode(V1, payload).contains(",userFull=LAB\\\\ injected\\=1i,"));
}

fn tagged(version: InfluxVersion, tags: &[(&str, &str)]) -> String {
    let log_tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let settings = EncoderSettings { log_tags, ..settings(version) };
    encode_with(&settings, "/qseow-repository/;1;;;WARN;h;s;w;m;;;;;;;")
}

#[test]
fn configured_tags_are_sorted_in_and_the_later_of_one_name_wins() {
    for version in ALL {
        let line = tagged(
            version,
            &[("dc", "one"), ("host", "mine"), ("my env", "a=b, c"), ("dc", "two"), ("none", "")],
        );
        let head = "log_event,dc=two,host=mine,level=WARN,my\\ env=a\\=b\\,\\ c,source=";
        assert!(line.starts_with(head), "{line}");
        assert!(!line.contains("none"));
    }
}

#[test]
fn configured_tags_cannot_break_the_line() {
    let hostile = [("a\\", "x\\\\"), ("b\nc", "1\r\n2\t"), ("\\", "x"), ("d", "\\")];
    for (version, wanted) in [
        (V1, "a=x,bc=1\\r\\n2\\t,level"),
        (V2, "a=x,bc=1\\r\\n2\\t,level"),
        (V3, "a=x,bc=12\\t,level"),
    ] {
        let line = tagged(version, &hostile).replace("host=h,", "");
        assert!(line.contains(wanted), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
    }
}

#[test]
fn only_wanted_kinds_are_wanted() {
    let mut kinds = [false; Kind::COUNT];
    kinds[Kind::Engine as usize] = true;
    let encoder = Encoder::new(&EncoderSettings { kinds, ..settings(V1) });
    let (mut one, mut other) = (Vec::new(), Vec::new());
    assert!(encoder.wants(&parse(Listener::LogEvents, ENGINE.as_bytes(), &mut one).unwrap()));
    assert!(!encoder.wants(&parse(Listener::UserEvents, SESSION.as_bytes(), &mut other).unwrap()));
}

/// Datagrams of any kind whose columns are made to break lines, tags, strings and JSON.
fn hostile() -> impl Strategy<Value = (Kind, String)> {
    let column = prop_oneof![
        4 => "[a\\\\ ,=\"<>'{}é\u{1}\n\r\t]{0,14}",
        1 => "[a\\\\ ,=\"]{30,150}",
        1 => Just("e7af59a0-c243-480d-9571-08727551a66f".to_owned()),
        1 => "-?[0-9]{1,21}(\\.[0-9]{1,9})?",
    ];
    let columns = prop::collection::vec(column, 0..30);
    (prop::sample::select(Kind::ALL.to_vec()), columns)
        .prop_map(|(kind, columns)| (kind, format!("/{}/;{}", kind.name(), columns.join(";"))))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn hostile_events_are_one_line_with_the_right_values((kind, payload) in hostile()) {
        let mut scratch = Vec::new();
        let event = parse(kind.listener(), payload.as_bytes(), &mut scratch).unwrap();
        for version in ALL {
            let mut out = Buffer::default();
            let tags = vec![("dc".to_owned(), "north europe".to_owned())];
            let settings =
                EncoderSettings { user_tags: tags.clone(), log_tags: tags, ..settings(version) };
            Encoder::new(&settings).encode(&Enriched::plain(&event, 7), &mut out);
            let line = std::str::from_utf8(&out).unwrap();
            prop_assert_eq!(line.matches('\n').count(), 1);
            if version == V3 {
                check_tags_of_version_3(line);
            } else {
                check_tags(&event, line);
            }
            check_raw_event(&event, line);
        }
    }
}

/// The parser of InfluxDB 3 finds one line, no empty tag, and the tags that are there.
fn check_tags_of_version_3(line: &str) {
    let lines: Vec<_> = parse_lines(line).collect::<Result<_, _>>().unwrap();
    assert_eq!(lines.len(), 1, "{line}");
    let tags = lines[0].series.tag_set.as_ref().unwrap();
    let mut names: Vec<_> = tags.iter().map(|(name, _)| name.as_str()).collect();
    assert!(tags.iter().all(|(_, value)| !value.as_str().is_empty()), "{line}");
    assert!(names.is_sorted() && names.contains(&"dc"), "{line}");
    names.dedup();
    assert_eq!(names.len(), tags.len(), "{line}");
    assert_eq!(lines[0].timestamp, Some(7));
}

/// InfluxDB 1 and 2 find the values of the event in the tags.
fn check_tags(event: &Event<'_>, line: &str) {
    let read = read(line);
    assert_eq!(read.tags["dc"], "north europe");
    for (name, column) in [("host", Column::Host), ("userId", Column::UserId)] {
        let wanted = event.text(column).trim_end_matches('\\');
        if let Some(value) = read.tags.get(name).filter(|_| !wanted.is_empty()) {
            assert_eq!(value, wanted, "{line}");
        }
    }
    if event.kind().listener() == Listener::LogEvents {
        assert_eq!(read.tags["source"], event.kind().name());
    }
}

/// `raw_event` is JSON and holds every column as it is.
fn check_raw_event(event: &Event<'_>, line: &str) {
    if event.kind().listener() == Listener::UserEvents {
        return;
    }
    let at = line.find("raw_event=").unwrap();
    let fields = fields(&format!("m {}", &line[at..]));
    let raw = fields["raw_event"].as_str().unwrap();
    let raw: Json = serde_json::from_str(raw).unwrap();
    for (column, field) in event.columns().filter(|(column, _)| *column != Column::UserFull) {
        let value = &raw[column.name()];
        match field {
            Field::Text(text) => assert_eq!(value, text, "{line}"),
            Field::Uuid(uuid) => {
                assert_eq!(value, &uuid.map_or(String::new(), |uuid| uuid.to_string()));
            }
            Field::Float(number) => assert_eq!(value.is_number(), number.is_finite(), "{line}"),
            Field::Int(_) => assert!(value.is_number(), "{line}"),
        }
    }
}
