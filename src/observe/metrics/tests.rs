use std::collections::{BTreeMap, HashSet};

use super::*;
use crate::documented::assert_table;
use crate::observe::host::{IpCounters, Softnet};
use crate::observe::ledger::{DropReason, LossReason, Note, Reason, RejectReason};
use crate::observe::stats::tests::sample_stats;

fn sample_host() -> HostCounters {
    let ip = IpCounters { udp_in_errors: 1, udp_rcvbuf_errors: 2, reassembly_failures: 3 };
    HostCounters {
        ipv4: Some(ip),
        ipv6: Some(ip),
        softnet: Some(Softnet { dropped: 4, time_squeezed: 5 }),
        resident_bytes: Some(6),
    }
}

/// Splits a sample line into series (name and labels) and value; panics on bad syntax.
fn sample(line: &str) -> (&str, &str, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').expect(line)),
        None => (series, ""),
    };
    assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
    let mut rest = labels;
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").expect(line);
        assert!(label.bytes().all(|b| b.is_ascii_lowercase()), "{line}");
        let mut escaped = false;
        let end = after.find(|c| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        rest = &after[end.expect(line) + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name, labels, value.parse().unwrap_or_else(|_| panic!("{line}")))
}

/// Checks the text as strictly as `promtool check metrics` and returns the samples.
fn check(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'));
    let mut families = HashSet::new();
    let mut samples = BTreeMap::new();
    let (mut family, mut kind) = ("", "");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split_once(' ').unwrap().0;
            assert!(families.insert(family), "{family} twice");
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, found) = typed.split_once(' ').unwrap();
            assert_eq!(name, family);
            kind = found;
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        } else {
            let (name, _, value) = sample(line);
            let suffix = name.strip_prefix(family).expect(line);
            let suffixes: &[&str] =
                if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.contains(&suffix), "{line} in {family}");
            let series = line.rsplit_once(' ').unwrap().0.to_owned();
            assert!(samples.insert(series, value).is_none(), "{line} twice");
        }
    }
    samples
}

#[test]
fn the_text_is_valid_and_complete() {
    let text = render(&sample_stats(), &sample_host());
    let samples = check(&text);
    let expect = [
        ("ringside_datagrams_received_total{listener=\"user_events\"}", 100.0),
        ("ringside_datagrams_dropped_total{listener=\"user_events\",reason=\"rate_limit\"}", 10.0),
        ("ringside_events_rejected_total{listener=\"user_events\",reason=\"excluded_user\"}", 15.0),
        (
            "ringside_events_accepted_total{listener=\"user_events\",source=\"qseow-proxy-session\"}",
            65.0,
        ),
        ("ringside_kernel_drops_total{listener=\"log_events\"}", 32.0),
        ("ringside_queue_events{listener=\"user_events\"}", 10.0),
        ("ringside_destination_events_total{destination=\"influxdb\",outcome=\"delivered\"}", 40.0),
        ("ringside_destination_events_total{destination=\"influxdb\",outcome=\"overflow\"}", 7.0),
        ("ringside_destination_oldest_seconds{destination=\"influxdb\"}", 1.5),
        ("ringside_own_points_assigned_total{destination=\"influxdb\"}", 9.0),
        ("ringside_own_points_total{destination=\"influxdb\",outcome=\"refused\"}", 2.0),
        ("ringside_own_points_in_flight{destination=\"influxdb\"}", 3.0),
        ("ringside_spool_bytes{destination=\"new_relic:First \\\"A\\\"\"}", 0.0),
        ("ringside_event_latency_seconds_bucket{stage=\"batch\",le=\"0.0002\"}", 0.0),
        ("ringside_event_latency_seconds_bucket{stage=\"batch\",le=\"0.0005\"}", 60.0),
        ("ringside_event_latency_seconds_bucket{stage=\"batch\",le=\"+Inf\"}", 60.0),
        ("ringside_event_latency_seconds_count{stage=\"batch\"}", 60.0),
        ("ringside_event_latency_seconds_sum{stage=\"delivered\"}", 48.0),
        ("ringside_host_udp_rcvbuf_errors_total{ip=\"6\"}", 2.0),
        ("ringside_host_softnet_dropped_total", 4.0),
        ("process_start_time_seconds", 1_699_999_940.0),
    ];
    for (series, value) in expect {
        assert_eq!(samples.get(series), Some(&value), "{series}\n{text}");
    }
    for family in FAMILIES {
        assert!(text.contains(&format!("# TYPE {} ", family.name)), "{}", family.name);
    }
}

#[test]
fn unknown_numbers_are_left_out() {
    let text = render(&sample_stats(), &HostCounters::default());
    check(&text);
    assert!(!text.contains("ringside_host_"));
    assert!(!text.contains("process_resident"));
}

#[test]
fn label_values_cannot_break_a_line() {
    let mut text = String::new();
    escape_into(&mut text, "a\\b\"c\nd");
    assert_eq!(text, r#"a\\b\"c\nd"#);
}

#[test]
fn the_documentation_lists_each_metric_and_each_reason() {
    const PAGE: &str = "docs/metrics.md";
    let metrics = FAMILIES.iter().map(|Family { name, kind, labels, help, .. }| {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{name}` | {} | {} | {help} |", kind.name(), labels.join(", "))
    });
    assert_table(PAGE, "| metric | type | labels | meaning |", &metrics.collect::<Vec<_>>());
    assert_table(PAGE, "| `reason` of dropped datagrams | meaning |", &reasons::<DropReason>());
    assert_table(PAGE, "| `reason` of rejected events | meaning |", &reasons::<RejectReason>());
    let delivered = "| delivered | The destination acknowledged it. |".to_owned();
    let outcomes = [vec![delivered], reasons::<LossReason>()].concat();
    assert_table(PAGE, "| `outcome` at a destination | meaning |", &outcomes);
    assert_table(PAGE, "| `note` | meaning |", &reasons::<Note>());
}

fn reasons<R: Reason>() -> Vec<String> {
    let rows = R::NAMES.iter().zip(R::ABOUT);
    rows.map(|(name, about)| format!("| {name} | {} |", about.trim())).collect()
}
