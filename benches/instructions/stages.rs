//! The stages whose instructions are counted.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ringside::deliver::batch::{self, BatchReceiver};
use ringside::deliver::clock::SystemClock;
use ringside::deliver::{Buffer, Encode};
use ringside::enrich::{AppNames, Enriched, UserAgents};
use ringside::event::{self, Event, Kind, Listener};
use ringside::observe::ledger::Ledger;
use ringside::rules::{EnabledKinds, Rules};
use ringside::shard::{Lookups, Output, Settings, Shard, TURN_LEASES};
use ringside::synthetic::{Cluster, Mix};

use crate::busy_rules;
use crate::encoders;
use crate::events::{InSlot, typical};
use crate::floor;
use crate::receive::{BATCH, Book, Copies, Inline, Leases};

/// Times that a stage runs to warm up, and times that count.
const ROUNDS: usize = 64;

/// Counts one stage, and says which. `work` does as many `events`.
fn stage(name: &str, events: usize, mut work: impl FnMut()) {
    let mut rounds = || (0..ROUNDS).for_each(|_| work());
    rounds();
    crate::counted(&mut rounds);
    println!("{name} {}", events * ROUNDS);
}

/// Runs all of them, one after the other, and writes a line for each: name, and events counted.
///
/// Only what does the same in every run is here: how often a channel of the standard library spins,
/// for one, is not.
pub fn run() {
    reading();
    judging();
    browsers();
    encoding();
    handing_over();
    shard();
}

fn reading() {
    let mut scratch = Vec::new();
    let payload = typical(Kind::QixPerf).into_bytes();
    stage("floor/memchr-into-26-pieces", 1, || {
        black_box(floor::pieces(black_box(&payload)));
    });
    let mut copy = vec![0; payload.len()];
    stage("floor/memcpy", 1, || {
        copy.copy_from_slice(black_box(&payload));
        black_box(&mut copy);
    });
    for kind in Kind::ALL {
        let slot = InSlot::typical(kind);
        stage(&format!("parse/{}", kind.name()), 1, || {
            let event = event::parse(kind.listener(), slot.payload(), &mut scratch);
            let _ = black_box(&event);
        });
    }
    let dirty = InSlot::new(typical(Kind::QixPerf).replace("pro2", "pro\x01").as_bytes());
    stage("parse/with-a-control-character", 1, || {
        let event = event::parse(Listener::LogEvents, dirty.payload(), &mut scratch);
        let _ = black_box(&event);
    });
    // A datagram of unknown type is split, and no more.
    let unknown = InSlot::new(typical(Kind::QixPerf).replace("perf", "pert").as_bytes());
    stage("split/qseow-qix-perf", 1, || {
        let _ = black_box(&event::parse(Listener::LogEvents, unknown.payload(), &mut scratch));
    });
}

fn parsed<'a>(kind: Kind, slot: &'a InSlot, scratch: &'a mut Vec<u8>) -> Event<'a> {
    event::parse(kind.listener(), slot.payload(), scratch).expect("a valid event")
}

fn judging() {
    let payloads = Cluster::new(1, Mix::BENCHMARK, 4).take(100);
    let mut scratches = vec![Vec::new(); payloads.len()];
    let events: Vec<Event<'_>> = payloads
        .iter()
        .zip(&mut scratches)
        .map(|((listener, payload), scratch)| {
            event::parse(*listener, payload, scratch).expect("a valid event")
        })
        .collect();
    let (rules, names) = busy_rules::lookups(&events);
    let mut agents = UserAgents::new();
    stage("rules/benchmark-mix", events.len(), || {
        for event in &events {
            black_box(busy_rules::judge(&rules, &names, &mut agents, black_box(event)));
        }
    });
}

fn browsers() {
    let slot = InSlot::typical(Kind::ProxySession);
    let mut scratch = Vec::new();
    let event = parsed(Kind::ProxySession, &slot, &mut scratch);
    let mut agents = UserAgents::new();
    stage("user-agent/hit", 1, || {
        black_box(agents.of_event(black_box(&event)));
    });
    let texts: Vec<String> = (0..2 * ROUNDS)
        .map(|number| {
            format!(
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/124.0.{number}.0 Safari/537.36"
            )
        })
        .collect();
    let mut texts = texts.iter();
    stage("user-agent/miss", 1, || {
        black_box(agents.get(black_box(texts.next().expect("a text for each round"))));
    });
}

/// A performance event, a log event and a user event, as far as the destination wants them.
fn encoding() {
    for (name, mut encoder) in encoders::all() {
        for kind in [Kind::QixPerf, Kind::Proxy, Kind::ProxySession] {
            let slot = InSlot::typical(kind);
            let mut scratch = Vec::new();
            let event = parsed(kind, &slot, &mut scratch);
            if encoder.wants(&event) {
                encode(&format!("encode/{name}/{}", kind.name()), &event, &mut *encoder);
            }
        }
    }
}

fn encode(name: &str, event: &Event<'_>, encoder: &mut dyn Encode) {
    let enriched = Enriched::plain(event, 1_736_150_400_000_000_000);
    let mut batch = Buffer::with_capacity(256 * 1024);
    stage(name, 1, || {
        if batch.len() > 64 * 1024 {
            batch.clear();
        }
        encoder.encode(black_box(&enriched), &mut batch);
    });
}

fn handing_over() {
    let payload = typical(Kind::QixPerf).into_bytes();
    let mut book = Book::new(&payload);
    stage("pool/take-lease-give-back", BATCH, || book.turn());
    let mut leases = Leases::new(&payload);
    stage("hand-off/lease", BATCH, || leases.turn(|payload| _ = black_box(payload)));
    let mut copies = Copies::new(&payload);
    stage("hand-off/copy", BATCH, || copies.turn(|payload| _ = black_box(payload)));
    let mut inline = Inline::new(&payload);
    stage("hand-off/inline", BATCH, || inline.turn(|payload| _ = black_box(payload)));
}

/// Whole turns of a shard: everything between a lease and a batch.
fn shard() {
    let slot = InSlot::typical(Kind::QixPerf);
    let (mut shard, mut batches) = shard_to_influxdb();
    let clock = SystemClock::new();
    let source: SocketAddr = (Ipv4Addr::LOCALHOST, 40_000).into();
    stage("shard/perf-to-influxdb-v1", TURN_LEASES, || {
        shard.begin_turn();
        for received_ns in 0..TURN_LEASES as u64 {
            shard.take(Listener::LogEvents, slot.payload(), source, received_ns, Duration::ZERO);
        }
        shard.end_turn(&clock);
        while let Some(batch) = batches.try_recv() {
            batches.recycle(batch.shard, batch.bytes);
        }
    });
}

fn shard_to_influxdb() -> (Shard, BatchReceiver) {
    let ledger = Arc::new(Ledger::new(1, 1, &["influxdb".into()]));
    let (mut senders, batches) = batch::queue(1);
    let (_, encoder) = encoders::all().swap_remove(0);
    let ledger_of_output = Arc::clone(&ledger.destinations[0]);
    let output = Output { encoder, sender: senders.remove(0), ledger: ledger_of_output };
    let lookups = Lookups {
        rules: Arc::new(ArcSwap::from_pointee(Rules::accepting(EnabledKinds([true; Kind::COUNT])))),
        app_names: Arc::new(ArcSwap::from_pointee(AppNames::default())),
    };
    let settings = Settings {
        flush_interval: Duration::from_secs(3600),
        batch_bytes: 256 * 1024,
        batch_events: 1000,
        turn_leases: TURN_LEASES,
    };
    (Shard::new(0, settings, lookups, ledger, vec![output], Arc::default()), batches)
}
