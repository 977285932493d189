//! What the program answers over HTTP is what the pages show.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::PATIENCE;
use crate::page::{Page, regex, root};
use crate::support::sink::Sink;
use crate::support::{Config, Ringside, number, proxy_event, send_all, user_event};

/// Members of the answers that pages show, and of what the program answers.
#[test]
fn answers_have_the_members_that_the_pages_show() {
    let sink = Sink::recording();
    let mut ringside = Ringside::start(&Config::influxdb(1, sink.address()));
    send_all(ringside.log_events, [proxy_event("message"), proxy_event("message")]);
    send_all(ringside.user_events, [user_event("goran")]);
    ringside
        .wait_stats("delivered", |stats| number(stats, "/destinations/influxdb/delivered") == 3);
    let mut compared = 0;
    for page in Page::all() {
        for block in page.of("json") {
            let shown: Value = serde_json::from_str(&block.text)
                .unwrap_or_else(|error| panic!("{}: {error}", block.place));
            let Some(path) = block.info.strip_prefix("GET ") else { continue };
            let start = Instant::now();
            loop {
                let (status, body) = ringside.get(path);
                assert_eq!(status, 200, "{}: {body}", block.place);
                let answer: Value = serde_json::from_str(&body).expect("JSON");
                let mut wrong = Vec::new();
                compare("", &shown, &answer, &mut wrong);
                if wrong.is_empty() {
                    break;
                }
                // Samples are looked at once a second.
                let places = format!("{}:\n{}\n{body}", block.place, wrong.join("\n"));
                assert!(start.elapsed() < PATIENCE, "{places}");
                thread::sleep(Duration::from_millis(200));
            }
            compared += 1;
        }
    }
    assert!(compared >= 4, "{compared}");
    assert!(ringside.stop().success(), "{}", ringside.log());
}

/// Objects have the same members, unless the page says `…`; lists have elements of the same kind.
fn compare(path: &str, shown: &Value, answer: &Value, wrong: &mut Vec<String>) {
    match (shown, answer) {
        (Value::Object(shown), Value::Object(answer)) => {
            for (name, value) in shown.iter().filter(|(name, _)| *name != "…") {
                match answer.get(name) {
                    Some(answer) => compare(&format!("{path}/{name}"), value, answer, wrong),
                    None => wrong.push(format!("{path}/{name} is shown and not answered")),
                }
            }
            for name in answer.keys() {
                if !shown.contains_key(name) && !shown.contains_key("…") {
                    wrong.push(format!("{path}/{name} is answered and not shown"));
                }
            }
        }
        (Value::Array(shown), Value::Array(answer)) => {
            if let Some(shown) = shown.first() {
                match answer.first() {
                    Some(answer) => compare(&format!("{path}/0"), shown, answer, wrong),
                    None => wrong.push(format!("{path} is empty")),
                }
            }
        }
        // Many values may be missing.
        (Value::Null, _) | (_, Value::Null) => {}
        (shown, answer) => {
            if std::mem::discriminant(shown) != std::mem::discriminant(answer) {
                wrong.push(format!("{path}: {shown} is shown, {answer} answered"));
            }
        }
    }
}

/// Every path that the console answers is in the reference, and every path there is answered.
#[test]
fn the_reference_has_every_endpoint() {
    let source = fs::read_to_string(root().join("src/observe/http/mod.rs")).expect("the source");
    let routes = regex(r#"\.route\("([^"{]+)[^"]*", (get|post)\("#);
    let routes = routes.captures_iter(&source);
    let answered: BTreeSet<String> =
        routes.map(|route| format!("{} {}", route[2].to_uppercase(), &route[1])).collect();
    let row = regex(r"(?m)^\| `((?:GET|POST) /[^`]*?)(?:NAME)?` \|");
    let page = Page::read("docs/http.md");
    let documented = row.captures_iter(&page.prose).map(|row| row[1].to_owned());
    let documented: BTreeSet<String> = documented.collect();
    assert_eq!(documented, answered);
}
