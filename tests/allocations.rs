//! The steady state allocates nothing per event, from the receive to the encoded batch.
//!
//! The real engine runs in this process under a counting allocator, with everything that can be switched
//! on: rules, names, browsers, counters, and a destination for each format, which gives each batch back
//! at once.

#[path = "support/sink.rs"]
mod sink;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ringside::counters::queue::QueueSettings;
use ringside::counters::{CountSettings, InfluxSink, SeriesSettings};
use ringside::deliver::influxdb::{
    self, Gzip, InfluxSettings, InfluxTransport, TIMEOUT_DEFAULT, Target, Version,
};
use ringside::deliver::mqtt::encode::{LogTopics, UserTopics};
use ringside::deliver::new_relic::encode::Levels;
use ringside::deliver::{Destination, Encode, Served, archive, mqtt, ndjson, new_relic};
use ringside::engine::{Engine, Settings};
use ringside::enrich::AppNames;
use ringside::event::{self, Column, Event, Kind, Listener};
use ringside::observe::ledger::{DeliverCounts, RejectReason};
use ringside::observe::tap;
use ringside::receive::{self, BackendChoice, ListenerSettings};
use ringside::rules::categorise::{Action, Categorise, Filter, Level, Rule};
use ringside::rules::monitor::{AllApps, AppFilter, AppSelector, Choice, MonitorFilter};
use ringside::rules::{Category, EnabledKinds, ExcludedUser, Rules};
use ringside::shard;
use ringside::synthetic::{Cluster, Mix};
use sink::{Options, Reply, Sink};

/// Allocations of the receivers and the shards: what delivers, and this test, say that they do not
/// count.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static UNCOUNTED: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

impl Counting {
    fn count() {
        if !UNCOUNTED.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a destination is given.
#[derive(Clone, Copy, Debug)]
enum Format {
    Influx(Version),
    Ndjson,
    Mqtt,
    NewRelic,
    Archive,
}

const FORMATS: [Format; 7] = [
    Format::Influx(Version::V1),
    Format::Influx(Version::V2),
    Format::Influx(Version::V3),
    Format::Ndjson,
    Format::Mqtt,
    Format::NewRelic,
    Format::Archive,
];

fn tags() -> Vec<(String, String)> {
    vec![("qs_env".into(), "dev".into())]
}

impl Format {
    fn encoder(self) -> Box<dyn Encode> {
        let kinds = [true; Kind::COUNT];
        match self {
            Self::Influx(version) => {
                let encoder = influxdb::encode::Encoder::new(&influxdb::encode::EncoderSettings {
                    version,
                    user_tags: tags(),
                    log_tags: tags(),
                    tags_as_fields: Vec::new(),
                    log_row_tag: false,
                    kinds,
                });
                // As the destination has it made: its series are counted.
                let series = Arc::new(encoder.series());
                Box::new(encoder.counting(series))
            }
            Self::Archive => Box::new(archive::record::Encoder),
            Self::Ndjson => Box::new(ndjson::encode::Encoder::new(kinds)),
            Self::Mqtt => Box::new(mqtt::encode::Encoder::new(&mqtt::encode::EncoderSettings {
                user: Some(UserTopics {
                    everything: Some("sense/users".into()),
                    commands: vec![("Open connection", "sense/opened".into())],
                }),
                log: Some(LogTopics {
                    base: "sense/log".into(),
                    to_base: true,
                    to_subsystem: true,
                }),
                user_tags: tags(),
                log_tags: tags(),
            })),
            Self::NewRelic => {
                Box::new(new_relic::encode::Encoder::new(&new_relic::EncoderSettings {
                    user_events: true,
                    user_attributes: tags(),
                    scramble_user_events: true,
                    levels: [Levels { fatal: true, error: true, warn: true }; Kind::COUNT],
                    log_attributes: tags(),
                    scramble_log_events: true,
                }))
            }
        }
    }
}

/// Encodes in one format and delivers to nowhere.
#[derive(Debug)]
struct Nowhere {
    format: Format,
    batches: Arc<AtomicU64>,
}

impl Destination for Nowhere {
    fn name(&self) -> String {
        format!("{:?}", self.format)
    }

    fn identity(&self) -> Option<String> {
        None
    }

    fn encoder(&self) -> Box<dyn Encode> {
        self.format.encoder()
    }

    fn serve(self: Box<Self>, mut served: Served) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            UNCOUNTED.set(true);
            let mut counts = DeliverCounts::default();
            while let Some(batch) = served.batches.recv().await {
                counts.taken += u64::from(batch.events);
                counts.delivered += u64::from(batch.events);
                served.ledger.delivered.publish(&counts);
                self.batches.fetch_add(1, Ordering::Relaxed);
                served.batches.recycle(batch.shard, batch.bytes);
            }
        })
    }
}

/// Events of all seven kinds; some are missing, as if lost on the way.
fn traffic() -> Vec<(Listener, Vec<u8>)> {
    let events = Cluster::new(7, Mix::CLUSTER, 1).take(4000);
    let arrives = |(index, event)| (index % 50 != 0).then_some(event);
    events.into_iter().enumerate().filter_map(arrives).collect()
}

/// What the events say in one way or another, each once.
fn said<T: Ord>(
    events: &[(Listener, Vec<u8>)],
    what: impl Fn(&Event<'_>) -> Option<T>,
) -> BTreeSet<T> {
    let mut scratch = Vec::new();
    let said = events.iter().filter_map(|(listener, payload)| {
        what(&event::parse(*listener, payload, &mut scratch).expect("an event"))
    });
    said.collect()
}

/// Rules of every sort, each of which some of the events meet.
fn rules(events: &[(Listener, Vec<u8>)]) -> ringside::rules::Settings {
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let category =
        |value: &str| vec![Category { name: "qs_log_category".into(), value: value.into() }];
    let rule = |action, filters: Vec<Filter>| Rule {
        levels: vec![Level::Warn, Level::Error, Level::Fatal],
        action,
        filters,
    };
    let messages = said(events, |event| {
        let message = event.text(Column::Message);
        let judged = event.kind().listener() == Listener::LogEvents && !message.is_empty();
        judged.then(|| message.to_owned())
    });
    let first = messages.first().expect("a message").clone();
    let last = messages.last().expect("a message").clone();
    let user = said(events, |event| {
        let text = |column| event.text(column).to_owned();
        (event.kind().listener() == Listener::UserEvents)
            .then(|| (text(Column::UserDirectory), text(Column::UserId)))
    });
    let excluded = user.into_iter().take(3).map(|(directory, id)| ExcludedUser { directory, id });
    let apps: Vec<AppSelector> = said(events, |event| event.uuid(Column::AppId))
        .into_iter()
        .map(|id| AppSelector { id: Some(id), name: None })
        .collect();
    let named = AppSelector { id: None, name: Some("App 1".into()) };
    ringside::rules::Settings {
        excluded_users: excluded.collect(),
        monitor_filter: Some(MonitorFilter {
            all_apps: Some(AllApps {
                exclude: [&apps[..3], std::slice::from_ref(&named)].concat(),
                object_types: Choice::AllBut(texts(&["kpi", "map"])),
                methods: Choice::AllBut(texts(&["Global::OpenApp"])),
            }),
            app_specific: vec![AppFilter {
                include: [&apps[2..5], &[named]].concat(),
                object_types: Choice::AllBut(texts(&["map"])),
                objects: Choice::AllBut(texts(&["x"])),
                methods: Choice::Only(texts(&["GenericObject::GetLayout"])),
            }],
        }),
        categorise: Some(Categorise {
            rules: vec![
                rule(Action::Categorise(category("e")), vec![Filter::Anywhere("e".into())]),
                rule(Action::Categorise(category("end")), vec![Filter::End("d".into())]),
                rule(Action::Categorise(category("start")), vec![Filter::Start(first)]),
                rule(Action::Drop, vec![Filter::Start(last)]),
            ],
            default: category("unknown"),
        }),
        ..ringside::rules::Settings::accepting(EnabledKinds([true; Kind::COUNT]))
    }
}

/// Names of all apps of the events but one.
fn names(events: &[(Listener, Vec<u8>)]) -> AppNames {
    let apps = said(events, |event| event.uuid(Column::AppId).or_else(|| event.context_app_id()));
    let named = apps.into_iter().skip(1).enumerate();
    named.map(|(number, id)| (id, format!("App {number}"))).collect()
}

/// Counts of everything that is counted, sent to a server.
fn counters(server: &Sink) -> ringside::counters::Settings {
    let address = server.address();
    let transport = InfluxTransport::new(InfluxSettings {
        https: false,
        host: address.ip().to_string(),
        port: address.port(),
        target: Target::V1 { database: "sense".into(), retention_policy: None, credentials: None },
        connect_timeout: TIMEOUT_DEFAULT,
        timeout: TIMEOUT_DEFAULT,
        gzip: Gzip::Never,
    });
    let series = SeriesSettings { measurement: "own".into(), tags: tags() };
    let queue = QueueSettings {
        every: Duration::from_millis(20),
        series: series.clone(),
        max_size: 200,
        capacity: 210,
    };
    ringside::counters::Settings {
        influxdb: Some(InfluxSink {
            version: Version::V1,
            transport: transport.expect("a transport"),
        }),
        counts: Some(CountSettings {
            // At the end: handing counts over costs something per series and interval, not per event.
            every: Duration::from_hours(1),
            received: Some(series.clone()),
            rejected: Some(series),
        }),
        queues: [Some(queue.clone()), Some(queue)],
        uptime: None,
        errors: None,
    }
}

fn settings(
    backend: BackendChoice,
    events: &[(Listener, Vec<u8>)],
    batches: &Arc<AtomicU64>,
    server: &Sink,
) -> Settings {
    let listener = ListenerSettings {
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        max_message_size: 65_507,
        queue_capacity: 210,
        backpressure_threshold: 80,
        strict: false,
    };
    let rules = Rules::compile(&rules(events)).expect("few texts");
    Settings {
        receive: receive::Settings {
            listeners: [Some(listener.clone()), Some(listener)],
            backend,
            slots: 1024,
            ..receive::Settings::default()
        },
        shard: shard::Settings {
            // Large batches, so that what a batch costs does not hide what an event costs.
            flush_interval: Duration::from_secs(1),
            batch_bytes: 1024 * 1024,
            batch_events: 5000,
            turn_leases: shard::TURN_LEASES,
        },
        rules: Arc::new(ArcSwap::from_pointee(rules)),
        app_names: Arc::new(ArcSwap::from_pointee(names(events))),
        destinations: FORMATS
            .map(|format| Box::new(Nowhere { format, batches: Arc::clone(batches) }) as Box<_>)
            .into(),
        counters: counters(server),
        in_flight: 1,
        spool: None,
        last_run: None,
        sampled: true,
    }
}

/// The console's end of the samples of single events.
struct Samples {
    readers: Vec<tap::Reader>,
    read: u64,
}

impl Samples {
    fn read(&mut self) {
        for reader in &mut self.readers {
            while reader.read().is_some() {
                self.read += 1;
            }
        }
    }
}

/// Sends `events` after `sent` others and waits until they are delivered.
fn pass(
    engine: &Engine,
    sockets: &[UdpSocket; Listener::COUNT],
    events: &[(Listener, Vec<u8>)],
    sent: &mut u64,
    samples: &mut Samples,
) {
    // Paced by the shard, which is slow without optimization: nothing is to be lost.
    let ledger = &engine.state().ledger;
    let taken = || ledger.shards[0].iter().map(|b| b.read().taken).sum::<u64>();
    let start = Instant::now();
    for chunk in events.chunks(200) {
        for (listener, event) in chunk {
            sockets[*listener as usize].send(event).expect("send on loopback");
        }
        *sent += chunk.len() as u64;
        while taken() < *sent {
            assert!(start.elapsed() < Duration::from_secs(30), "{} of {sent} taken", taken());
            thread::park_timeout(Duration::from_micros(200));
        }
        samples.read();
    }
    let waiting = || ledger.snapshot().destinations.iter().map(|d| d.in_flight).sum::<u64>();
    while waiting() > 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "{} on their way", waiting());
        thread::park_timeout(Duration::from_millis(1));
    }
}

fn encoded(engine: &Engine) -> u64 {
    engine.state().ledger.snapshot().destinations.iter().map(|d| d.assigned).sum()
}

/// Whether the events met everything that was switched on.
fn assert_all_used(engine: &Engine) {
    let snapshot = engine.state().ledger.snapshot();
    let [user, log] = &snapshot.listeners;
    assert!(user.rejected.get(RejectReason::ExcludedUser) > 0);
    assert!(log.rejected.get(RejectReason::Filter) > 0);
    assert!(log.rejected.get(RejectReason::CategoryDrop) > 0);
    assert!(log.upstream_lost > 0 && log.accepted > 0);
    assert!(snapshot.destinations.iter().all(|destination| destination.assigned > 0));
    assert!(snapshot.own_points.iter().any(|points| points.assigned > 0), "queue metrics");
}

fn allocates_nothing_per_event(backend: BackendChoice, server: &Sink) {
    let events = traffic();
    let batches = Arc::new(AtomicU64::new(0));
    let engine =
        Engine::start(settings(backend, &events, &batches, server)).expect("the engine starts");
    let sockets = Listener::ALL.map(|listener| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(engine.receivers().addresses(listener)[0]).expect("connect");
        socket
    });

    let mut samples = Samples { readers: engine.state().taps.take(), read: 0 };
    // The first rounds fill pools and grow buffers to their size.
    let mut sent = 0;
    for _ in 0..2 {
        pass(&engine, &sockets, &events, &mut sent, &mut samples);
    }
    let before =
        (ALLOCATIONS.load(Ordering::SeqCst), batches.load(Ordering::SeqCst), encoded(&engine));
    for _ in 0..2 {
        pass(&engine, &sockets, &events, &mut sent, &mut samples);
    }
    let allocations = ALLOCATIONS.load(Ordering::SeqCst) - before.0;
    let batches = batches.load(Ordering::SeqCst) - before.1;
    let encoded = encoded(&engine) - before.2;
    eprintln!("{allocations} allocations, {batches} batches, {encoded} events encoded");
    assert_all_used(&engine);
    assert!(samples.read > 1_000, "{} samples", samples.read);
    // A batch may cost a few (the queue's blocks, a shared buffer's header), an event none.
    assert!(allocations <= 4 * batches, "{allocations} allocations for {batches} batches");
    assert!(batches * 100 <= encoded, "{batches} batches would hide what {encoded} events cost");

    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let drained = runtime.block_on(engine.drain(Duration::from_secs(10)));
    assert!(drained.clean && drained.ledger.balanced());
}

/// One test, so that nothing else in the process allocates meanwhile.
#[test]
fn from_receive_to_batch() {
    UNCOUNTED.set(true);
    let answer = |_: &sink::Request| {
        UNCOUNTED.set(true);
        Reply::status(204)
    };
    let server = Sink::start(Options { answer: Some(Arc::new(answer)), ..Options::default() });
    allocates_nothing_per_event(BackendChoice::IoUring, &server);
    allocates_nothing_per_event(BackendChoice::Tokio, &server);
}
