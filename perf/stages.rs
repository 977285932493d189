//! What Ringside's own stages cost, one more with each mode, so that the differences are the stages. As in
//! the program, unless told otherwise, the receiver's thread does them all:
//!
//! * `drain`: the receiver, and a shard that gives each datagram back unread;
//! * `parse`: the shard splits and validates each event, and that is all;
//! * `encode`: the whole engine, with line protocol for InfluxDB 1 into batches that are thrown away.
//!
//! `cargo run --release --example stages -- MODE [--latency] [--backend tokio]`. Prints its address, and
//! one line of JSON once its standard input ends and everything has been taken.

mod stamp;

use std::error::Error;
use std::future::Future;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use clap::{Parser, ValueEnum};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use ringside::counters;
use ringside::deliver::influxdb::{self, Version};
use ringside::deliver::{Buffer, Destination, Encode, Served};
use ringside::engine::{self, Engine};
use ringside::enrich::{AppNames, Enriched};
use ringside::event::{self, Column, Event, Kind, Listener};
use ringside::observe::health::Beat;
use ringside::observe::ledger::{DeliverCounts, Ledger};
use ringside::receive::{
    self, BackendChoice, Inline, ListenerSettings, Receivers, ShardInput, Shards,
};
use ringside::rules::{EnabledKinds, Rules};
use ringside::shard;

/// Takes events up to a stage.
#[derive(Debug, Parser)]
struct Arguments {
    mode: Mode,
    /// In mode encode: time from the sender's clock to the open batch.
    #[arg(long)]
    latency: bool,
    /// How datagrams are received.
    #[arg(long, value_enum, default_value_t = Backend::IoUring)]
    backend: Backend,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Mode {
    Drain,
    Parse,
    Encode,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Backend {
    #[value(name = "io_uring")]
    IoUring,
    Tokio,
}

/// What was taken.
struct Taken {
    datagrams: u64,
    bytes: Option<u64>,
    kernel_drops: u64,
    latency: Option<serde_json::Value>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let taken = match arguments.mode {
        Mode::Encode => encode(&arguments)?,
        mode => shard_only(&arguments, mode)?,
    };
    // Of the whole process: beside the stages it only waits for its standard input.
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    println!(
        "{}",
        serde_json::json!({
            "datagrams": taken.datagrams, "bytes": taken.bytes,
            "user_ns": usage.user_time().num_nanoseconds(),
            "system_ns": usage.system_time().num_nanoseconds(),
            "context_switches": usage.voluntary_context_switches(),
            "kernel_drops": taken.kernel_drops, "latency": taken.latency,
        })
    );
    Ok(())
}

/// As Ringside receives unless told otherwise, on one port.
fn receive_settings(arguments: &Arguments) -> receive::Settings {
    let listener = ListenerSettings {
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        max_message_size: 65_507,
        queue_capacity: 210,
        backpressure_threshold: 80,
        strict: false,
    };
    let backend = match arguments.backend {
        Backend::IoUring => BackendChoice::IoUring,
        Backend::Tokio => BackendChoice::Tokio,
    };
    let listeners = [None, Some(listener)];
    receive::Settings { listeners, backend, shards: Shards::Inline, ..receive::Settings::default() }
}

/// Waits until nobody wants more events.
fn wait_for_end() -> io::Result<()> {
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

/// The real receivers, and in place of the shard a loop that goes no further than `mode`.
fn shard_only(arguments: &Arguments, mode: Mode) -> Result<Taken, Box<dyn Error>> {
    let ledger = Arc::new(Ledger::new(1, 1, &[]));
    let Receivers { threads, shards, handle } =
        receive::start(receive_settings(arguments), &ledger)?;
    println!("{}", handle.addresses(Listener::LogEvents)[0]);
    let [receiver] = <[_; 1]>::try_from(threads).map_err(|_| "one receiver")?;
    let [input] = <[_; 1]>::try_from(shards).map_err(|_| "one shard")?;
    let mut shard = UpTo { mode, input, datagrams: 0, bytes: 0, scratch: Vec::new() };
    thread::scope(|scope| {
        let thread = scope.spawn(|| receiver.run_with(Beat::default(), &mut shard));
        let ended = wait_for_end();
        handle.stop(Instant::now() + Duration::from_secs(10));
        thread.join().expect("the receiver does not panic")?;
        ended.map_err(Box::<dyn Error>::from)
    })?;
    let kernel_drops = handle.kernel_drops(Listener::LogEvents);
    let UpTo { datagrams, bytes, .. } = shard;
    Ok(Taken { datagrams, bytes: Some(bytes), kernel_drops, latency: None })
}

/// Takes leases on the receiver's thread, and goes no further than `mode`.
struct UpTo {
    mode: Mode,
    input: ShardInput,
    datagrams: u64,
    bytes: u64,
    scratch: Vec<u8>,
}

impl Inline for UpTo {
    fn turn(&mut self) -> Duration {
        let end = &mut self.input.ends[0];
        while let Some(lease) = end.take() {
            let payload = end.payload(&lease);
            self.bytes += payload.bytes().len() as u64;
            if self.mode == Mode::Parse {
                let event = event::parse(lease.listener, payload, &mut self.scratch);
                std::hint::black_box(&event).as_ref().expect("the load sends events");
            }
            end.give_back(lease);
            self.datagrams += 1;
        }
        Duration::MAX
    }
}

/// The whole engine up to the batch.
fn encode(arguments: &Arguments) -> Result<Taken, Box<dyn Error>> {
    let latencies = arguments.latency.then(|| Arc::new(Mutex::new(stamp::Latencies::new())));
    let engine = Engine::start(engine::Settings {
        receive: receive_settings(arguments),
        shard: shard::Settings {
            flush_interval: Duration::from_secs(1),
            batch_bytes: 256 * 1024,
            batch_events: 1000,
            turn_leases: shard::TURN_LEASES,
        },
        rules: Arc::new(ArcSwap::from_pointee(Rules::accepting(EnabledKinds([true; Kind::COUNT])))),
        app_names: Arc::new(ArcSwap::from_pointee(AppNames::default())),
        destinations: vec![Box::new(Nowhere { latencies: latencies.clone() })],
        counters: counters::Settings {
            influxdb: None,
            counts: None,
            queues: [None, None],
            uptime: None,
            errors: None,
        },
        in_flight: 1,
        spool: None,
        last_run: None,
        sampled: true,
    })?;
    println!("{}", engine.receivers().addresses(Listener::LogEvents)[0]);
    let ended = wait_for_end();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let drained = runtime.block_on(engine.drain(Duration::from_secs(10)));
    ended?;
    let kernel_drops = drained.kernel_dropped[Listener::LogEvents as usize];
    let latency = match latencies {
        // The shard, which had the other half, has ended.
        Some(latencies) => {
            let latencies = Arc::try_unwrap(latencies).map_err(|_| "the shard still runs")?;
            Some(latencies.into_inner().map_err(|_| "the shard panicked")?.json())
        }
        None => None,
    };
    let datagrams = drained.ledger.listeners[Listener::LogEvents as usize].accepted;
    Ok(Taken { datagrams, bytes: None, kernel_drops, latency })
}

/// Line protocol into batches that nobody gets.
#[derive(Debug)]
struct Nowhere {
    latencies: Option<Arc<Mutex<stamp::Latencies>>>,
}

impl Destination for Nowhere {
    fn name(&self) -> String {
        "nowhere".into()
    }

    fn identity(&self) -> Option<String> {
        None
    }

    fn encoder(&self) -> Box<dyn Encode> {
        let line_protocol = influxdb::encode::Encoder::new(&influxdb::encode::EncoderSettings {
            version: Version::V1,
            user_tags: Vec::new(),
            log_tags: Vec::new(),
            tags_as_fields: Vec::new(),
            log_row_tag: false,
            kinds: [true; Kind::COUNT],
        });
        let series = Arc::new(line_protocol.series());
        let line_protocol = line_protocol.counting(series);
        match &self.latencies {
            None => Box::new(line_protocol),
            Some(latencies) => Box::new(Timed { line_protocol, latencies: Arc::clone(latencies) }),
        }
    }

    fn serve(self: Box<Self>, mut served: Served) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            let mut counts = DeliverCounts::default();
            while let Some(batch) = served.batches.recv().await {
                counts.taken += u64::from(batch.events);
                counts.delivered += u64::from(batch.events);
                served.ledger.delivered.publish(&counts);
                served.batches.recycle(batch.shard, batch.bytes);
            }
        })
    }
}

/// Looks at the clock after a stamped event is in the batch.
struct Timed {
    line_protocol: influxdb::encode::Encoder,
    /// Never contended: the shard alone uses it until the end.
    latencies: Arc<Mutex<stamp::Latencies>>,
}

impl Encode for Timed {
    fn wants(&self, event: &Event<'_>) -> bool {
        self.line_protocol.wants(event)
    }

    fn encode(&mut self, enriched: &Enriched<'_>, out: &mut Buffer) {
        self.line_protocol.encode(enriched, out);
        if let Some(sent) = stamp::read(enriched.event.raw(Column::UserId)) {
            let mut latencies = self.latencies.lock().expect("nobody panics with it");
            latencies.add(sent, stamp::wall_ns());
        }
    }
}
