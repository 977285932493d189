//! What each part of the settings decides, and that all of it together decides as a reading of the
//! settings from top to bottom does.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

use super::categorise::{Action, Filter, Level, Rule};
use super::monitor::{AllApps, AppFilter, AppSelector, Choice};
use super::*;
use crate::event::{Column, parse};

const ALL: EnabledKinds = EnabledKinds([true; Kind::COUNT]);
const SALES: &str = "5b817efe-472d-43ce-8a31-6cce34af7de9";
const BUDGET: &str = "f42d6b16-8faf-45ca-a783-59f9da47db6e";

/// What rules say about a datagram: the categories, or the reason.
fn judged(
    settings: &Settings,
    payload: &str,
    name: Option<&str>,
) -> Result<Option<Vec<Category>>, RejectReason> {
    let listener = if payload.starts_with("/qseow-proxy-session/") {
        Listener::UserEvents
    } else {
        Listener::LogEvents
    };
    let mut scratch = Vec::new();
    let event = parse(listener, payload.as_bytes(), &mut scratch).unwrap();
    let rules = Rules::compile(settings).unwrap();
    let mut room = Categories::new();
    let categories = rules.judge(&event, name, &mut room)?;
    Ok(categories.map(|list| list.iter().copied().cloned().collect()))
}

fn session(directory: &str, id: &str) -> String {
    format!("/qseow-proxy-session/;host;Start session;{directory};{id};AppAccess;/app/x;message")
}

fn engine(level: &str, message: &str) -> String {
    format!("/qseow-engine/;1;;;{level};host;System;LAB\\service;{message}")
}

fn perf(app: &str, method: &str, object: &str, object_type: &str) -> String {
    format!(
        "/qseow-qix-perf/;1;;;INFO;host;Qix;LAB\\service;;LAB;goran;;;{app};7;{method};1;1;1;1;1;3;\
         {object};1;1;{object_type}"
    )
}

fn category(name: &str, value: &str) -> Category {
    Category { name: name.into(), value: value.into() }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn disabled_sources_are_rejected() {
    let mut settings = Settings::accepting(ALL);
    assert_eq!(judged(&settings, &engine("WARN", "text"), None), Ok(None));
    settings.enabled.0[Kind::Engine as usize] = false;
    let disabled = Err(RejectReason::SourceDisabled);
    assert_eq!(judged(&settings, &engine("WARN", "text"), None), disabled);
    assert_eq!(judged(&settings, &session("LAB", "goran"), None), Ok(None));
}

#[test]
fn excluded_users_are_those_whose_both_parts_are_the_same() {
    let user =
        |directory: &str, id: &str| ExcludedUser { directory: directory.into(), id: id.into() };
    let excluded_users = vec![user("LAB", "goran"), user("LAB", "anna"), user("", "")];
    let settings = Settings { excluded_users, ..Settings::accepting(ALL) };
    for (directory, id, excluded) in [
        ("LAB", "goran", true),
        ("LAB", "anna", true),
        ("L\u{1}AB", "gor\tan", true), // compared when control characters are gone
        ("", "(null)", true),
        ("lab", "goran", false),
        ("LAB", "Goran", false),
        ("LAB", "gora", false),
        ("LABg", "oran", false),
        ("goran", "LAB", false),
    ] {
        let wanted = if excluded { Err(RejectReason::ExcludedUser) } else { Ok(None) };
        assert_eq!(judged(&settings, &session(directory, id), None), wanted, "{directory} {id}");
    }
    let engine = "/qseow-engine/;1;;;WARN;host;System;svc;text;;LAB;goran";
    assert_eq!(judged(&settings, engine, None), Ok(None), "log events have no excluded users");
}

fn accepts(filter: &MonitorFilter, payload: &str, name: Option<&str>) -> bool {
    let settings = Settings { monitor_filter: Some(filter.clone()), ..Settings::accepting(ALL) };
    match judged(&settings, payload, name) {
        Ok(None) => true,
        Err(RejectReason::Filter) => false,
        other => panic!("{other:?}"),
    }
}

fn all_apps() -> AllApps {
    let all = Choice::AllBut(Vec::new());
    AllApps { exclude: Vec::new(), object_types: all.clone(), methods: all }
}

fn some_apps(include: AppSelector) -> AppFilter {
    let all = Choice::AllBut(Vec::new());
    AppFilter {
        include: vec![include],
        object_types: all.clone(),
        objects: all.clone(),
        methods: all,
    }
}

fn by_id(id: &str) -> AppSelector {
    AppSelector { id: Some(Uuid::try_parse(id).unwrap()), name: None }
}

fn by_name(name: &str) -> AppSelector {
    AppSelector { id: None, name: Some(name.into()) }
}

fn by_both(id: &str, name: &str) -> AppSelector {
    AppSelector { name: Some(name.into()), ..by_id(id) }
}

#[test]
fn filters_that_are_off_reject_every_performance_event_and_nothing_else() {
    let nothing = MonitorFilter::default();
    assert!(!accepts(&nothing, &perf(SALES, "m", "o", "t"), Some("Sales")));
    assert!(accepts(&nothing, &engine("WARN", "text"), None));
    let empty = MonitorFilter {
        app_specific: vec![AppFilter { include: Vec::new(), ..some_apps(by_id(SALES)) }],
        ..nothing
    };
    assert!(!accepts(&empty, &perf(SALES, "m", "o", "t"), None), "no app is included");
}

#[test]
fn a_filter_for_all_apps_excludes_some() {
    let exclude = vec![by_id(SALES), by_name("Secret"), by_both(BUDGET, "Budget")];
    let filter = MonitorFilter {
        all_apps: Some(AllApps { exclude, ..all_apps() }),
        app_specific: Vec::new(),
    };
    let accepted = |app: &str, name| accepts(&filter, &perf(app, "m", "o", "t"), name);
    assert!(!accepted(SALES, None) && !accepted(SALES, Some("Sales")));
    assert!(!accepted(&SALES.to_uppercase(), None), "ids compare in any case");
    assert!(!accepted("", Some("Secret")) && accepted("", Some("secret")) && accepted("", None));
    assert!(!accepted(BUDGET, Some("Budget")), "id and name");
    assert!(
        accepted(BUDGET, Some("Other")) && accepted(BUDGET, None),
        "the id alone is not enough"
    );
    assert!(accepted("", Some("Budget")), "nor is the name");
    let any = AllApps { exclude: vec![AppSelector::default()], ..all_apps() };
    let filter = MonitorFilter { all_apps: Some(any), app_specific: Vec::new() };
    assert!(!accepts(&filter, &perf("", "m", "o", "t"), None), "an empty selector is any app");
}

/// An event for each of the two values of one column, with a filter made for a choice.
fn assert_chooses(filter: impl Fn(Choice) -> MonitorFilter, event: impl Fn(&str) -> String) {
    let all_but = filter(Choice::AllBut(texts(&["listed", "other"])));
    assert!(!accepts(&all_but, &event("listed"), None) && accepts(&all_but, &event(""), None));
    assert!(accepts(&all_but, &event("Listed"), None), "with case");
    assert!(accepts(&all_but, &event("li\u{1}sted"), None), "as it stands in the datagram");
    let only = filter(Choice::Only(texts(&["listed", "other"])));
    assert!(accepts(&only, &event("listed"), None) && accepts(&only, &event("other"), None));
    assert!(!accepts(&only, &event("unlisted"), None) && !accepts(&only, &event(""), None));
    assert!(!accepts(&filter(Choice::Only(Vec::new())), &event("listed"), None));
    let long = "x".repeat(100);
    let cut = filter(Choice::Only(vec![long.clone()]));
    assert!(accepts(&cut, &event(&long), None) && !accepts(&cut, &event(&(long + "y")), None));
}

#[test]
fn a_filter_for_all_apps_chooses_object_types_and_methods() {
    let filter = |all| MonitorFilter { all_apps: Some(all), app_specific: Vec::new() };
    assert_chooses(
        |object_types| filter(AllApps { object_types, ..all_apps() }),
        |object_type| perf(SALES, "m", "o", object_type),
    );
    assert_chooses(
        |methods| filter(AllApps { methods, ..all_apps() }),
        |method| perf(SALES, method, "o", "t"),
    );
}

#[test]
fn a_filter_for_some_apps_chooses_object_types_objects_and_methods() {
    let filter = |some| MonitorFilter { all_apps: None, app_specific: vec![some] };
    let some = || some_apps(by_id(SALES));
    assert_chooses(
        |object_types| filter(AppFilter { object_types, ..some() }),
        |object_type| perf(SALES, "m", "o", object_type),
    );
    assert_chooses(
        |objects| filter(AppFilter { objects, ..some() }),
        |object| perf(SALES, "m", object, "t"),
    );
    assert_chooses(
        |methods| filter(AppFilter { methods, ..some() }),
        |method| perf(SALES, method, "o", "t"),
    );
}

#[test]
fn one_filter_that_accepts_is_enough() {
    let mut filter = MonitorFilter {
        all_apps: Some(AllApps { exclude: vec![by_id(SALES)], ..all_apps() }),
        app_specific: vec![some_apps(by_name("Sales")), some_apps(by_id(SALES))],
    };
    filter.app_specific[1].methods = Choice::Only(texts(&["m"]));
    assert!(accepts(&filter, &perf(BUDGET, "n", "o", "t"), None), "all apps");
    assert!(accepts(&filter, &perf(SALES, "n", "o", "t"), Some("Sales")), "the first app");
    assert!(accepts(&filter, &perf(SALES, "m", "o", "t"), None), "the second app");
    assert!(!accepts(&filter, &perf(SALES, "n", "o", "t"), None), "none");
}

fn rule(levels: &[Level], filter: Filter, names: &[&str]) -> Rule {
    let categories = names.iter().map(|name| category(name, "x")).collect();
    Rule { levels: levels.to_vec(), action: Action::Categorise(categories), filters: vec![filter] }
}

/// The names of the categories.
fn names(
    rules: &[Rule],
    default: &[&str],
    payload: &str,
) -> Result<Option<Vec<String>>, RejectReason> {
    let default = default.iter().map(|name| category(name, "x")).collect();
    let categorise = Some(Categorise { rules: rules.to_vec(), default });
    let categories = judged(&Settings { categorise, ..Settings::accepting(ALL) }, payload, None)?;
    Ok(categories.map(|list| list.into_iter().map(|category| category.name).collect()))
}

#[test]
fn texts_are_found_where_they_have_to_be() {
    use Level::Warn;
    let rules = [
        rule(&[Warn], Filter::Start("abc".into()), &["start"]),
        rule(&[Warn], Filter::End("abc".into()), &["end"]),
        rule(&[Warn], Filter::Anywhere("abc".into()), &["anywhere"]),
        rule(&[Warn], Filter::Anywhere("b".into()), &["within"]),
    ];
    for (message, found) in [
        ("abc", &["start", "end", "anywhere", "within"][..]),
        ("abcd", &["start", "anywhere", "within"]),
        ("xabc", &["end", "anywhere", "within"]),
        ("xabcd", &["anywhere", "within"]),
        ("ABCb", &["within"]),
        ("ABC", &["default"]),
        ("", &["default"]),
    ] {
        assert_eq!(
            names(&rules, &["default"], &engine("WARN", message)),
            Ok(Some(texts(found))),
            "{message}"
        );
    }
    // The message as destinations get it: cut to 1000 characters, without control characters.
    let long = format!("{}abc", "x".repeat(998));
    assert_eq!(names(&rules[1..3], &[], &engine("WARN", &long)), Ok(Some(texts(&[]))));
    assert_eq!(
        names(&rules[1..3], &[], &engine("WARN", "xa\u{1}bc")),
        Ok(Some(texts(&["end", "anywhere"])))
    );
}

#[test]
fn one_text_of_a_rule_is_enough_and_an_empty_one_always_is() {
    let mut any = rule(&[Level::Warn], Filter::Start("a".into()), &["c"]);
    any.filters.extend([Filter::Anywhere("b".into()), Filter::End("c".into())]);
    for (message, found) in [("a.", &["c"][..]), (".b.", &["c"]), (".c", &["c"]), ("...", &[])] {
        let rules = std::slice::from_ref(&any);
        assert_eq!(
            names(rules, &[], &engine("WARN", message)),
            Ok(Some(texts(found))),
            "{message}"
        );
    }
    for filter in [Filter::Start, Filter::End, Filter::Anywhere] {
        let rules = [rule(&[Level::Warn], filter(String::new()), &["c"])];
        assert_eq!(names(&rules, &[], &engine("WARN", "text")), Ok(Some(texts(&["c"]))));
    }
}

#[test]
fn rules_apply_to_their_levels_in_any_case() {
    for &level in Level::ALL {
        for filter in [Filter::Start, Filter::Anywhere] {
            let rules = [rule(&[level], filter("text".into()), &["c"])];
            for &other in Level::ALL {
                let found: &[&str] = if level == other { &["c"] } else { &["none"] };
                for text in [other.name().to_owned(), other.name().to_uppercase()] {
                    assert_eq!(
                        names(&rules, &["none"], &engine(&text, "text")),
                        Ok(Some(texts(found)))
                    );
                }
            }
            for unknown in ["", "WARNING", " warn", "faTAL "] {
                assert_eq!(
                    names(&rules, &["none"], &engine(unknown, "text")),
                    Ok(Some(texts(&["none"])))
                );
            }
        }
    }
}

#[test]
fn categories_are_those_of_all_rules_without_duplicates_in_their_order() {
    let all = |names| rule(&[Level::Error, Level::Warn], Filter::Anywhere("t".into()), names);
    let rules = [all(&["b", "a"]), all(&["a", "c", "b"]), all(&["d"])];
    assert_eq!(
        names(&rules, &["e"], &engine("WARN", "text")),
        Ok(Some(texts(&["b", "a", "c", "d"])))
    );
    let mut other = all(&[]);
    other.action = Action::Categorise(vec![category("a", "y"), category("a", "x")]);
    assert_eq!(
        names(&[all(&["a"]), other], &[], &engine("WARN", "text")),
        Ok(Some(texts(&["a", "a"])))
    );
}

#[test]
fn the_default_is_for_events_that_no_rule_matched() {
    let matched = [rule(&[Level::Warn], Filter::Start("t".into()), &[])];
    assert_eq!(
        names(&matched, &["d"], &engine("WARN", "text")),
        Ok(Some(texts(&[]))),
        "matched, no category"
    );
    assert_eq!(
        names(&matched, &["d", "d", "e"], &engine("WARN", "-")),
        Ok(Some(texts(&["d", "e"])))
    );
    assert_eq!(names(&matched, &[], &engine("WARN", "-")), Ok(Some(texts(&[]))));
    assert_eq!(names(&[], &["d"], &engine("WARN", "-")), Ok(Some(texts(&["d"]))));
}

#[test]
fn a_rule_that_drops_has_the_last_word() {
    for filter in [Filter::Start, Filter::End, Filter::Anywhere] {
        let mut drop = rule(&[Level::Warn], filter("noise".into()), &[]);
        drop.action = Action::Drop;
        let keep = rule(&[Level::Warn], Filter::Start("noise".into()), &["c"]);
        for rules in [[drop.clone(), keep.clone()], [keep, drop]] {
            let dropped = Err(RejectReason::CategoryDrop);
            assert_eq!(names(&rules, &["d"], &engine("WARN", "noise")), dropped);
            assert_eq!(names(&rules, &["d"], &engine("ERROR", "noise")), Ok(Some(texts(&["d"]))));
        }
    }
}

#[test]
fn user_events_and_switched_off_rules_have_no_categories() {
    let rules = [rule(Level::ALL, Filter::Start(String::new()), &["c"])];
    assert_eq!(names(&rules, &["d"], &session("LAB", "goran")), Ok(None));
    assert_eq!(judged(&Settings::accepting(ALL), &engine("WARN", "text"), None), Ok(None));
}

#[test]
fn performance_events_get_the_default_category() {
    let rules = [rule(&[Level::Info], Filter::Anywhere("e".into()), &["c"])];
    assert_eq!(names(&rules, &["d"], &perf(SALES, "method", "o", "t")), Ok(Some(texts(&["d"]))));
}

#[test]
fn many_rules_keep_their_texts_apart() {
    let rules: Vec<Rule> = (0..300)
        .map(|n| rule(&[Level::Warn], Filter::Anywhere(format!("<{n}>")), &[&n.to_string()]))
        .collect();
    for n in [0, 63, 64, 255, 256, 299] {
        let message = engine("WARN", &format!("text <{n}> text"));
        assert_eq!(names(&rules, &[], &message), Ok(Some(texts(&[&n.to_string()]))));
    }
}

#[test]
fn names_of_performance_events_are_written_when_their_lookup_is_on() {
    let settings = |app_name_lookup| Settings { app_name_lookup, ..Settings::accepting(ALL) };
    let mut scratch = Vec::new();
    for (payload, written_anyway) in
        [(perf(SALES, "m", "o", "t"), false), (session("LAB", "goran"), true)]
    {
        let listener = if written_anyway { Listener::UserEvents } else { Listener::LogEvents };
        let event = parse(listener, payload.as_bytes(), &mut scratch).unwrap();
        for (lookup, written) in [(true, true), (false, written_anyway)] {
            let rules = Rules::compile(&settings(lookup)).unwrap();
            let wanted = written.then_some("Sales");
            assert_eq!(rules.written_app_name(&event, Some("Sales")), wanted);
        }
    }
}

/// The settings read from top to bottom, event by event.
fn naive(
    settings: &Settings,
    event: &Event<'_>,
    name: Option<&str>,
) -> Result<Option<Vec<Category>>, RejectReason> {
    let text = |column| event.text(column);
    if !settings.enabled.0[event.kind() as usize] {
        return Err(RejectReason::SourceDisabled);
    }
    if event.kind().listener() == Listener::UserEvents {
        let user = (text(Column::UserDirectory), text(Column::UserId));
        let excluded = settings.excluded_users.iter().any(|u| (&*u.directory, &*u.id) == user);
        return if excluded { Err(RejectReason::ExcludedUser) } else { Ok(None) };
    }
    let wanted = |choice: &Choice, column| match choice {
        Choice::AllBut(list) => !list.iter().any(|item| item.as_bytes() == event.raw(column)),
        Choice::Only(list) => list.iter().any(|item| item.as_bytes() == event.raw(column)),
    };
    let is = |app: &AppSelector| {
        (app.id.is_none() || app.id == event.uuid(Column::AppId))
            && (app.name.is_none() || app.name.as_deref() == name)
    };
    if event.kind() == Kind::QixPerf
        && let Some(MonitorFilter { all_apps, app_specific }) = &settings.monitor_filter
        && !all_apps.iter().any(|all| {
            !all.exclude.iter().any(is)
                && wanted(&all.object_types, Column::ObjectType)
                && wanted(&all.methods, Column::Method)
        })
        && !app_specific.iter().any(|some| {
            some.include.iter().any(is)
                && wanted(&some.object_types, Column::ObjectType)
                && wanted(&some.objects, Column::ObjectId)
                && wanted(&some.methods, Column::Method)
        })
    {
        return Err(RejectReason::Filter);
    }
    let Some(categorise) = &settings.categorise else { return Ok(None) };
    let message = text(Column::Message);
    let matches = |rule: &&Rule| {
        let level = text(Column::Level).to_lowercase();
        rule.levels.iter().any(|known| known.name() == level)
            && rule.filters.iter().any(|filter| match filter {
                Filter::Start(text) => message.starts_with(text),
                Filter::End(text) => message.ends_with(text),
                Filter::Anywhere(text) => message.contains(text),
            })
    };
    let matching: Vec<&Rule> = categorise.rules.iter().filter(matches).collect();
    let mut lists = Vec::new();
    for rule in &matching {
        match &rule.action {
            Action::Drop => return Err(RejectReason::CategoryDrop),
            Action::Categorise(categories) => lists.extend(categories),
        }
    }
    if matching.is_empty() {
        lists.extend(&categorise.default);
    }
    let mut found: Vec<Category> = Vec::new();
    for category in lists {
        if !found.contains(category) {
            found.push(category.clone());
        }
    }
    Ok(Some(found))
}

/// Few letters, so that texts meet.
fn word() -> impl Strategy<Value = String> {
    "[abAö]{0,3}"
}

fn choice() -> impl Strategy<Value = Choice> {
    (any::<bool>(), vec(word(), 0..3))
        .prop_map(|(all, list)| if all { Choice::AllBut(list) } else { Choice::Only(list) })
}

fn app() -> impl Strategy<Value = AppSelector> {
    let id = select(&[None, Some(SALES), Some(BUDGET)][..]);
    (id, proptest::option::of(word()))
        .prop_map(|(id, name)| AppSelector { id: id.map(|id| Uuid::try_parse(id).unwrap()), name })
}

fn monitor_filter() -> impl Strategy<Value = MonitorFilter> {
    let all = (vec(app(), 0..2), choice(), choice())
        .prop_map(|(exclude, object_types, methods)| AllApps { exclude, object_types, methods });
    let some = (vec(app(), 0..3), choice(), choice(), choice()).prop_map(
        |(include, object_types, objects, methods)| AppFilter {
            include,
            object_types,
            objects,
            methods,
        },
    );
    (proptest::option::of(all), vec(some, 0..3))
        .prop_map(|(all_apps, app_specific)| MonitorFilter { all_apps, app_specific })
}

fn categories() -> impl Strategy<Value = Vec<Category>> {
    vec(("[ab]", "[ab]").prop_map(|(name, value)| Category { name, value }), 0..4)
}

fn categorise() -> impl Strategy<Value = Categorise> {
    let filter = (select(&[Filter::Start, Filter::End, Filter::Anywhere][..]), word())
        .prop_map(|(place, text)| place(text));
    let action = prop_oneof![
        8 => categories().prop_map(Action::Categorise),
        1 => Just(Action::Drop),
    ];
    let rule = (vec(select(Level::ALL), 1..4), action, vec(filter, 1..4))
        .prop_map(|(levels, action, filters)| Rule { levels, action, filters });
    (vec(rule, 0..6), categories()).prop_map(|(rules, default)| Categorise { rules, default })
}

prop_compose! {
    fn settings()(
        enabled in prop::array::uniform7(prop::bool::weighted(0.9)),
        users in vec((word(), word()), 0..4),
        monitor_filter in proptest::option::weighted(0.8, monitor_filter()),
        categorise in proptest::option::weighted(0.8, categorise()),
        app_name_lookup in any::<bool>(),
    ) -> Settings {
        let excluded = |(directory, id)| ExcludedUser { directory, id };
        Settings {
            enabled: EnabledKinds(enabled),
            excluded_users: users.into_iter().map(excluded).collect(),
            monitor_filter,
            categorise,
            app_name_lookup,
        }
    }
}

fn payload() -> impl Strategy<Value = String> {
    let level = select(&["WARN", "error", "Info", "FATAL", "other"][..]);
    let id = select(&["", SALES, BUDGET, "F42D6B16-8FAF-45CA-A783-59F9DA47DB6E"][..]);
    prop_oneof![
        (word(), word()).prop_map(|(directory, id)| session(&directory, &id)),
        (level, "[abAö]{0,12}").prop_map(|(level, message)| engine(level, &message)),
        (id, word(), word(), word()).prop_map(|(id, m, o, t)| perf(id, &m, &o, &t)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn compiled_rules_decide_as_the_settings_read_from_top_to_bottom(
        settings in settings(),
        payload in payload(),
        name in proptest::option::of(word()),
    ) {
        let mut scratch = Vec::new();
        let listener = if payload.starts_with("/qseow-proxy-session/") {
            Listener::UserEvents
        } else {
            Listener::LogEvents
        };
        let event = parse(listener, payload.as_bytes(), &mut scratch).unwrap();
        let wanted = naive(&settings, &event, name.as_deref());
        prop_assert_eq!(judged(&settings, &payload, name.as_deref()), wanted);
    }
}
