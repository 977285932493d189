//! What is known beyond the event: app names, user agents, categories, and where their names collide
//! with others.

use proptest::prelude::*;

use super::*;
use crate::enrich::UserAgent;
use crate::rules::Category;

const WARNING: &str = "/qseow-repository/;1;;;WARN;h;s;w;m;;LAB;anna;;;;";

/// The line of an event about which `known` tells more.
fn encode_known(
    settings: &EncoderSettings,
    payload: &str,
    known: impl for<'a> FnOnce(Enriched<'a>, &mut dyn FnMut(Enriched<'_>)),
) -> String {
    let mut scratch = Vec::new();
    let event = parse(listener(payload), payload.as_bytes(), &mut scratch).unwrap();
    let mut out = Buffer::default();
    let mut encoder = Encoder::new(settings);
    known(Enriched::plain(&event, 7), &mut |enriched| encoder.encode(&enriched, &mut out));
    String::from_utf8(out.to_vec()).unwrap()
}

fn categorised(settings: &EncoderSettings, categories: &[(&str, &str)]) -> String {
    let all: Vec<Category> = categories
        .iter()
        .map(|(name, value)| Category { name: (*name).into(), value: (*value).into() })
        .collect();
    let all: Vec<&Category> = all.iter().collect();
    encode_known(settings, WARNING, |plain, encode| {
        encode(Enriched { categories: Some(&all), ..plain });
    })
}

fn pairs(tags: &[(&str, &str)]) -> Vec<(String, String)> {
    tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn user_events_have_the_name_of_their_app() {
    for (version, field, tag) in [
        (V1, "appName", "<b>Sales\\, 1\\ \\=\\ \"2\"</b>"),
        (V2, "appName_field", "<b>Sales\\, 1\\ \\=\\ \"2\"</b>"),
        (V3, "appName_field", "bSales\\, 1\\ \\=\\ \"2\"/b"),
    ] {
        let line = encode_known(&settings(version), SESSION, |plain, encode| {
            encode(Enriched { app_name: Some("<b>Sales, 1 = \"2\"</b>\\"), ..plain });
        });
        let tag = tag.replace(", 1", ",\\ 1");
        assert!(line.contains(&format!(",appName={tag},event_action=")), "{line}");
        assert_eq!(read_v3(&line)[field], "<b>Sales, 1 = \"2\"</b>\\");
    }
}

#[test]
fn line_breaks_in_names_of_apps_do_not_end_the_line() {
    for (version, tag) in [(V1, "a\\nb\\rc\\td"), (V2, "a\\nb\\rc\\td"), (V3, "abc\\td")] {
        for payload in [SESSION.to_owned(), performance(&[])] {
            let line = encode_known(&settings(version), &payload, |plain, encode| {
                encode(Enriched { app_name: Some("a\nb\rc\td"), ..plain });
            });
            assert_eq!(line.lines().count(), 1, "{line}");
            let name = if payload == SESSION { "appName" } else { "app_name" };
            assert!(line.contains(&format!(",{name}={tag},")), "{line}");
        }
    }
}

/// The string fields, without looking at the tags.
fn read_v3(line: &str) -> BTreeMap<String, String> {
    let parsed = parse_lines(line).next().unwrap().unwrap();
    let text = |value: &FieldValue<'_>| match value {
        FieldValue::String(text) => text.to_string(),
        other => format!("{other:?}"),
    };
    parsed.field_set.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

#[test]
fn an_empty_name_is_no_name() {
    let line = encode_known(&settings(V1), SESSION, |plain, encode| {
        encode(Enriched { app_name: Some(""), ..plain });
    });
    assert!(!line.contains("appName"), "{line}");
}

#[test]
fn performance_events_have_the_name_as_a_tag_and_in_the_raw_event() {
    for version in ALL {
        let line = encode_known(&settings(version), &performance(&[]), |plain, encode| {
            encode(Enriched { app_name: Some("a \"b\""), ..plain });
        });
        let read = read(&line);
        assert_eq!(read.tags["app_name"], "a \"b\"");
        assert!(!read.fields.contains_key("app_name"));
        let raw: Json = serde_json::from_str(text(&read, "raw_event")).unwrap();
        assert_eq!(raw["app_name"], "a \"b\"");
    }
}

#[test]
fn user_agents_are_tags_as_far_as_they_are_known() {
    let agent = UserAgent {
        browser_name: "Microsoft Edge".into(),
        browser_version: "120.0.0.1".into(),
        browser_major_version: "120".into(),
        os_name: "<Windows>".into(),
        os_version: "".into(),
    };
    for (version, os) in [(V1, "<Windows>"), (V2, "<Windows>"), (V3, "Windows")] {
        let line = encode_known(&settings(version), SESSION, |plain, encode| {
            encode(Enriched { user_agent: Some(&agent), ..plain });
        });
        let tags = read(&line).tags;
        let of_agent: Vec<_> = tags.iter().filter(|(name, _)| name.starts_with("ua")).collect();
        let wanted = [
            ("uaBrowserMajorVersion", "120"),
            ("uaBrowserName", "Microsoft Edge"),
            ("uaOsName", os),
        ];
        assert!(of_agent.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(wanted), "{line}");
        assert!(!line.contains("120.0.0.1"), "{line}");
    }
}

#[test]
fn categories_stand_among_the_sorted_tags_and_all_of_them_in_the_raw_event() {
    for version in ALL {
        let line =
            categorised(&settings(version), &[("zone", "b"), ("area", "x y"), ("zone", "a\\")]);
        assert!(line.starts_with("log_event,area=x\\ y,host=h,level=WARN,"), "{line}");
        assert!(line.contains(",user_id=anna,zone=a "), "{line}");
        let raw = read_v3(&line).remove("raw_event").unwrap();
        let wanted = concat!(
            r#","user_full":"LAB\\anna","category":[{"name":"zone","value":"b"},"#,
            r#"{"name":"area","value":"x y"},{"name":"zone","value":"a\\"}]}"#
        );
        assert!(raw.ends_with(wanted), "{raw}");
    }
}

#[test]
fn no_category_is_an_empty_list_and_off_is_none() {
    let settings = settings(V1);
    assert!(categorised(&settings, &[]).contains(r#",\"category\":[]}""#));
    assert!(!encode_with(&settings, WARNING).contains("category"));
}

#[test]
fn of_one_name_configured_tags_win_over_categories_and_those_over_built_in_tags() {
    for version in ALL {
        let settings =
            EncoderSettings { log_tags: pairs(&[("env", "static")]), ..settings(version) };
        let tags = read(&categorised(
            &settings,
            &[("host", "one"), ("host", "two"), ("env", "category"), ("source", "mine")],
        ))
        .tags;
        let of = |name: &str| tags[name].as_str();
        assert_eq!((of("host"), of("env"), of("source")), ("two", "static", "mine"));
    }
}

#[test]
fn a_category_without_name_or_value_is_no_tag() {
    for version in ALL {
        let line = categorised(
            &settings(version),
            &[("host", "\\"), ("\\", "x"), ("", "y"), ("area", ""), ("ar\\ea\n", "\\x")],
        );
        assert!(read(&line).tags["host"] == "h", "{line}");
        let area = if version == V3 { ",area=x," } else { ",area=\\x," };
        assert!(line.contains(area) && line.matches(",area=").count() == 1, "{line}");
    }
}

#[test]
fn version_3_takes_characters_out_of_categories() {
    let line = categorised(&settings(V3), &[("a", "<\\x>"), ("b", "<>")]);
    let tags = read(&line).tags;
    assert!(tags["a"] == "x" && !tags.contains_key("b"), "{line}");
}

#[test]
fn in_version_3_nothing_takes_the_name_of_a_field() {
    let log_tags = pairs(&[("message", "x"), ("lock_time", "x"), ("log_row_field", "x")]);
    let settings = EncoderSettings { log_tags, ..settings(V3) };
    assert_eq!(settings.tags_left_out(), ["message", "lock_time", "log_row_field"]);
    let read = read(&categorised(&settings, &[("raw_event", "x"), ("handle", "x")]));
    for name in ["message", "lock_time", "log_row_field", "raw_event", "handle"] {
        assert!(!read.tags.contains_key(name), "{name}");
    }
    assert_eq!(text(&read, "message"), "m");
}

/// There `session_id` is a field of engine events and a tag of performance events, which InfluxDB 3
/// does not take in one table.
#[test]
fn in_version_3_session_ids_can_be_fields_of_all_events() {
    let settings = EncoderSettings { tags_as_fields: vec!["session_id".into()], ..settings(V3) };
    for (payload, id) in [
        (performance(&[]), "3b3b3b3b-3333-4a3b-8b3b-000000000003"),
        (ENGINE.to_owned(), "3b3b3b3b-3333-4a3b-8b3b-000000000003"),
    ] {
        let read = read(&encode_with(&settings, &payload));
        assert!(!read.tags.contains_key("session_id"), "{payload}");
        assert_eq!(text(&read, "session_id"), id, "{payload}");
    }
}

#[test]
fn tags_become_string_fields_where_the_configuration_says_so() {
    for version in ALL {
        let settings = EncoderSettings {
            log_tags: pairs(&[("env", "a \"b\"\\"), ("level", "static")]),
            tags_as_fields: ["env", "host", "level", "user_id", "area", "absent"]
                .map(str::to_owned)
                .into(),
            ..settings(version)
        };
        assert!(settings.tags_left_out().is_empty());
        let read = read(&categorised(
            &settings,
            &[("area", "one"), ("area", "t\"wo"), ("user_id", "mine"), ("level", "lost")],
        ));
        for (name, wanted) in [
            ("env", "a \"b\"\\"),
            ("host", "h"),
            ("level", "static"),
            ("area", "t\"wo"),
            ("user_id", "mine"),
        ] {
            assert!(!read.tags.contains_key(name), "{name}");
            assert_eq!(text(&read, name), wanted);
        }
        assert!(!read.fields.contains_key("absent"));
    }
}

#[test]
fn a_tag_does_not_become_a_field_that_exists() {
    let app = "e7af59a0-c243-480d-9571-08727551a66f";
    for version in [V1, V2] {
        let settings = EncoderSettings {
            log_tags: pairs(&[("lock_time", "x"), ("message", "x")]),
            tags_as_fields: ["app_id", "lock_time"].map(str::to_owned).into(),
            ..settings(version)
        };
        assert_eq!(settings.tags_left_out(), ["lock_time"]);
        let read = read(&encode_with(&settings, &performance(&[])));
        assert_eq!(text(&read, "app_id"), app);
        assert!(!read.tags.contains_key("app_id") && !read.tags.contains_key("lock_time"));
        assert_eq!(read.fields["lock_time"], Json::from(0.25));
        assert_eq!(read.tags["message"], "x", "these versions have tags and fields of one name");
    }
}

fn is_distinct(names: &[String]) -> bool {
    names.iter().collect::<std::collections::BTreeSet<_>>().len() == names.len()
}

fn hostile_text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(&["host", "env", "a\\", "message", "level", "h\\ost"][..])
            .prop_map(str::to_owned),
        3 => "[ab\\\\ ,=\"<>é\u{1}\n\r\t]{0,6}",
        1 => "[\u{1}\\\\\",=]{40,90}",
    ]
}

fn hostile_pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec((hostile_text(), hostile_text()), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn hostile_names_and_values_are_one_line_without_a_tag_or_field_twice(
        version in prop::sample::select(&ALL[..]),
        categories in hostile_pairs(),
        tags in hostile_pairs(),
        tags_as_fields in prop::collection::vec(hostile_text(), 0..4),
        name in hostile_text(),
        perf in any::<bool>(),
    ) {
        let settings = EncoderSettings { log_tags: tags, tags_as_fields, ..settings(version) };
        let all: Vec<Category> = categories
            .into_iter()
            .map(|(name, value)| Category { name, value })
            .collect();
        let all: Vec<&Category> = all.iter().collect();
        let payload = if perf { performance(&[]) } else { WARNING.to_owned() };
        let line = encode_known(&settings, &payload, |plain, encode| {
            encode(Enriched { categories: Some(&all), app_name: Some(&name), ..plain });
        });
        prop_assert_eq!(line.matches('\n').count(), 1);
        let (head, rest) = split_unescaped(&line, ' ');
        let bare = format!("m {rest}");
        let fields = parse_lines(&bare).next().unwrap().unwrap().field_set;
        let mut names: Vec<String> = fields.iter().map(|(name, _)| name.to_string()).collect();
        prop_assert!(is_distinct(&names), "{}", line);
        if version == V3 {
            let parsed: Vec<_> = parse_lines(&line).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(parsed.len(), 1);
            prop_assert_eq!(&parsed[0].field_set, &fields, "{}", head);
            let tags = parsed[0].series.tag_set.iter().flatten();
            names.extend(tags.map(|(name, _)| name.to_string()));
            prop_assert!(is_distinct(&names), "{}", line);
        } else {
            read(&line);
        }
        let raw: Json = serde_json::from_str(&read_v3(&bare)["raw_event"]).unwrap();
        let listed = raw["category"].as_array().unwrap();
        prop_assert_eq!(listed.len(), all.len());
        for (listed, category) in listed.iter().zip(&all) {
            prop_assert_eq!(&listed["name"], &category.name);
            prop_assert_eq!(&listed["value"], &category.value);
        }
    }
}
