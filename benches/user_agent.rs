//! What it costs to find the browser of a user event: in the message, in the cache, in the tables.
//! Beside each: what one would write first with the standard library or a regular expression; beside
//! the miss also its floor, a copy of the text that has to be remembered.
//!
//! Run with `cargo bench --bench user_agent`.

use std::collections::HashMap;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use regex::{Captures, Regex};
use ringside::enrich::{UserAgent, UserAgents};
use ringside::event::{self, Column, Listener};

/// A text with a number that makes it one of many.
fn text(number: u32) -> String {
    format!(
        "'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/124.0.{number}.0 Safari/537.36'"
    )
}

fn user_agent(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("user agent");
    let payload = format!(
        "/qseow-proxy-session/;pro2-win1;Open connection;LAB;goran;AppAccess;/hub/;connection \
         Opened for session 'b37523a5-3b4a-4ee2-a463-513755ac0ecd'; UserAgent: {}",
        text(0)
    );
    let mut scratch = Vec::new();
    let event =
        event::parse(Listener::UserEvents, payload.as_bytes(), &mut scratch).expect("a user event");
    group.bench_function("found in the message", |bencher| {
        bencher.iter(|| black_box(&event).user_agent());
    });

    let message = event.text(Column::Message);
    group.bench_function("found by str::split", |bencher| {
        bencher.iter(|| black_box(message).split("UserAgent:").nth(1).map(str::trim));
    });

    let mut agents = UserAgents::new();
    let texts: Vec<String> = (0..500).map(text).collect();
    let mut known = texts.iter().cycle();
    group.bench_function("hit, one of 500", |bencher| {
        bencher.iter(|| agents.get(black_box(known.next()?)).is_some().then_some(()));
    });

    let plain: HashMap<String, Option<UserAgent>> =
        texts.iter().map(|text| (text.clone(), UserAgent::parse(text))).collect();
    group.bench_function("hit in std's HashMap, one of 500", |bencher| {
        bencher.iter(|| plain.contains_key(black_box(known.next()?)).then_some(()));
    });

    let mut number = 0;
    group.bench_function("miss, the cache being full", |bencher| {
        bencher.iter_batched(
            || {
                number += 1;
                text(number)
            },
            |text| agents.get(black_box(&text)).is_some(),
            criterion::BatchSize::SmallInput,
        );
    });
    let plainly = Plainly::new();
    let mut plain = HashMap::new();
    group.bench_function("miss, by regular expressions into std's HashMap", |bencher| {
        bencher.iter_batched(
            || {
                number += 1;
                text(number)
            },
            |text| {
                if plain.len() >= REMEMBERED {
                    plain.clear();
                }
                let agent = plainly.parse(&text);
                plain.insert(text, agent).is_none()
            },
            criterion::BatchSize::SmallInput,
        );
    });
    group.bench_function("floor: a copy of the text", |bencher| {
        bencher.iter(|| black_box(known.next()).cloned());
    });
    group.finish();
}

/// As many as [`UserAgents`] remembers.
const REMEMBERED: usize = 1024;

/// Browser and system as one would look for them first. It knows far fewer than the tables do.
struct Plainly {
    browser: Regex,
    system: Regex,
}

impl Plainly {
    fn new() -> Self {
        let regex = |pattern| Regex::new(pattern).expect("a regular expression");
        Self {
            browser: regex(r"(Edg|OPR|Firefox|Chrome|Version)/(([0-9]+)[0-9.]*)"),
            system: regex(r"(Windows|Mac OS X|Android|iPhone OS|Linux) ?([A-Z]* ?[0-9._]+)?"),
        }
    }

    fn parse(&self, text: &str) -> Option<UserAgent> {
        let browser = self.browser.captures(text)?;
        let system = self.system.captures(text)?;
        let part = |of: &Captures<'_>, index| of.get(index).map_or("", |part| part.as_str()).into();
        Some(UserAgent {
            browser_name: part(&browser, 1),
            browser_version: part(&browser, 2),
            browser_major_version: part(&browser, 3),
            os_name: part(&system, 1),
            os_version: part(&system, 2),
        })
    }
}

criterion_group!(benches, user_agent);
criterion_main!(benches);
