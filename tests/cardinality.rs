//! Too many series: the log names the tag that makes them, and what it says to do helps. With a real
//! InfluxDB, which is asked how many series it has got.

mod support;

use serde_json::Value;
use support::influxd::Influxd;
use support::{Config, Ringside, number, send_all, user_event};

/// Each with a series of its own.
const USERS: u64 = 600;

/// More than are sent before the warning is due.
const LIMIT: u64 = 200;

fn start(influxd: &Influxd, more: &str) -> Ringside {
    let config = Config::influxdb(1, ([127, 0, 0, 1], influxd.port()).into())
        .ringside("flushInterval: 10ms")
        .ringside(&format!("influxdb: {{ seriesWarning: {LIMIT} }}"))
        .ringside(more);
    Ringside::start(&config)
}

/// Sends an event of each user, and waits until InfluxDB has them.
fn send(ringside: &Ringside) -> Value {
    send_all(ringside.user_events, (0..USERS).map(|user| user_event(&format!("user{user}"))));
    ringside.wait_stats("the acknowledgements", |stats| {
        number(stats, "/destinations/influxdb/delivered") == USERS
    })
}

fn is_about(found: u64, wanted: u64) -> bool {
    found.abs_diff(wanted) * 10 <= wanted
}

/// How many series of user events InfluxDB has.
fn at_influxdb(influxd: &Influxd) -> u64 {
    influxd.rows(r#"SHOW SERIES ON senseops FROM "user_events""#).len() as u64
}

#[test]
fn the_warning_names_the_tags_and_its_advice_helps() {
    let influxd = Influxd::start("");
    let mut ringside = start(&influxd, "shards: 2");
    let stats = send(&ringside);
    let estimate = number(&stats, "/series/user_events/series");
    assert_eq!(at_influxdb(&influxd), USERS);
    assert!(is_about(estimate, USERS), "{estimate}");
    assert!(is_about(number(&stats, "/series/user_events/tags/userId"), USERS));
    assert_eq!(number(&stats, "/series/user_events/tags/host"), 1);
    let metric = format!("ringside_influxdb_series{{measurement=\"user_events\"}} {estimate}\n");
    assert!(ringside.get("/metrics").1.contains(&metric), "no {metric}");

    let warning = ringside.wait_for_line("series of user_events, over the 200 of");
    let (_, advice) = warning.split_once("; write it as a field with ").expect(&warning);
    assert!(advice.contains("userId") && !advice.contains("host"), "{advice}");
    assert!(ringside.stop().success());

    // Just what was said.
    influxd.query("DROP DATABASE senseops");
    let advice = advice.trim().replace("ringside.", "");
    let mut ringside = start(&influxd, &advice);
    let stats = send(&ringside);
    assert_eq!(number(&stats, "/series/user_events/series"), 1, "{advice}");
    assert_eq!(at_influxdb(&influxd), 1, "{advice}");
    assert_eq!(influxd.count("senseops", "user_events", "userId"), USERS, "{advice}");
    assert!(ringside.stop().success());
    assert!(!ringside.log().contains("series of"), "{}", ringside.log());
}

#[test]
fn nothing_is_said_of_a_few_series() {
    let influxd = Influxd::start("");
    let mut ringside = start(&influxd, "shards: inline");
    send_all(ringside.user_events, (0..USERS).map(|user| user_event(&format!("user{}", user % 7))));
    let stats = ringside.wait_stats("the acknowledgements", |stats| {
        number(stats, "/destinations/influxdb/delivered") == USERS
    });
    assert_eq!(number(&stats, "/series/user_events/series"), 7);
    assert!(ringside.stop().success());
    assert!(!ringside.log().contains("series of"), "{}", ringside.log());
}
