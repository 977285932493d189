//! Starts the threads of the engine, notices when one of them ends, and drains them.
//!
//! ```text
//!  rx-0 … rx-R ──leases──▶ shard-0 … shard-S ──batches──▶ deliver
//! ```
//!
//! Unless told otherwise each receiver runs a shard on its own thread, and there are only `rx-0` … and
//! `deliver`.
//!
//! Draining goes the same way: the receivers read what the sockets still hold and end; each shard
//! reads its rings empty, hands over its open batches and ends; the deliver thread sends what is left
//! and ends. Whatever is not through when the time is over is counted as `shutdown`.
//!
//! A thread that ends otherwise, by a panic, takes the engine with it: half an engine would lose
//! events silently.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use crate::counters::writer::{DESTINATION, Sources, Writer};
use crate::counters::{self, Tally};
use crate::deliver::batch::{self, BatchReceiver};
use crate::deliver::clock::SystemClock;
use crate::deliver::{Destination, Served, Spooling, spool};
use crate::enrich::AppNames;
use crate::event::Listener;
use crate::observe::checkpoint::LastRun;
use crate::observe::health::{Beat, Health};
use crate::observe::histogram::Latency;
use crate::observe::ledger::{DestinationLedger, Ledger, Snapshot};
use crate::observe::stats::{Sockets, State};
use crate::observe::tap;
use crate::receive::{
    self, BackendKind, Gate, Handle, ReceiveError, Receiver, Receivers, RingStats, Shards,
};
use crate::rules::Rules;
use crate::shard::{self, Lookups, Output, Shard};

/// After the time to shut down is over, threads get this long to count what is left.
const LAST_COUNT: Duration = Duration::from_secs(2);

/// A thread that has panicked unwinds, and reports its end, within this time.
const TO_BLAME: Duration = Duration::from_millis(500);

/// How the engine is to run.
#[derive(Debug)]
pub struct Settings {
    /// Sockets, pool, backend, number of receivers and shards.
    pub receive: receive::Settings,
    /// How batches are made.
    pub shard: shard::Settings,
    /// Which events are wanted. What is stored here later holds from the next turn of each shard on.
    pub rules: Arc<ArcSwap<Rules>>,
    /// Names of apps; swapped like the rules.
    pub app_names: Arc<ArcSwap<AppNames>>,
    /// Where events go.
    pub destinations: Vec<Box<dyn Destination>>,
    /// Ringside's own points.
    pub counters: counters::Settings,
    /// Requests under way per destination, where order does not matter.
    pub in_flight: usize,
    /// How batches are kept on disk that a destination does not take; `None` for not at all.
    pub spool: Option<SpoolSettings>,
    /// What the last run has left.
    pub last_run: Option<LastRun>,
    /// Whether samples of single events are taken, because somebody reads them.
    pub sampled: bool,
}

/// How batches are kept on disk.
#[derive(Clone, Debug)]
pub struct SpoolSettings {
    /// Holds one folder for each destination.
    pub dir: PathBuf,
    /// Most bytes on disk, per destination.
    pub max_bytes: u64,
    /// How long events are kept.
    pub max_age: Duration,
    /// Time between two syncs.
    pub sync_interval: Duration,
    /// Old events go before new ones.
    pub strict: bool,
    /// Every batch is written before it is sent.
    pub always: bool,
}

impl SpoolSettings {
    /// The folder of this destination; `None` for one that has no spool.
    #[must_use]
    pub fn folder(&self, destination: &dyn Destination) -> Option<PathBuf> {
        let identity = destination.identity()?;
        Some(spool::folder(&self.dir, &destination.name(), &identity))
    }

    /// The spool of this destination.
    fn of(&self, destination: &dyn Destination) -> Option<Spooling<()>> {
        Some(Spooling {
            disk: (),
            settings: spool::Settings {
                folder: self.folder(destination)?,
                destination: destination.name(),
                max_bytes: self.max_bytes,
                max_age: self.max_age,
            },
            sync_interval: self.sync_interval,
            strict: self.strict,
            always: self.always,
        })
    }
}

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    handle: Arc<Handle>,
    state: Arc<State>,
    /// Receives one message from each thread that ends.
    ended: mpsc::UnboundedReceiver<Ended>,
    /// Threads whose end has not been received yet.
    left: usize,
    /// Whether no thread ended by itself or by a panic.
    all_well: bool,
    abandon: Arc<AtomicBool>,
    give_up: watch::Sender<bool>,
}

/// Why the engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A listener or the receive backend.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The system gives no more threads.
    #[error("cannot start thread {name}: {error}; raise the limit on processes (ulimit -u)")]
    Thread {
        /// Which thread.
        name: String,
        /// What the system said.
        error: std::io::Error,
    },
}

/// The end of a thread.
#[derive(Debug)]
struct Ended {
    name: String,
    /// By a panic or an error.
    failed: bool,
}

/// Reports the end of a thread, however it comes about.
#[derive(Debug)]
struct EndReport {
    name: String,
    /// Until its work has ended well.
    failed: bool,
    sender: mpsc::UnboundedSender<Ended>,
}

impl EndReport {
    /// Runs the work of a thread.
    fn of(mut self, body: impl FnOnce() -> Result<(), ReceiveError>) {
        match body() {
            Ok(()) => self.failed = false,
            Err(error) => tracing::error!("thread {} stopped: {error}", self.name),
        }
    }
}

impl Drop for EndReport {
    fn drop(&mut self) {
        let ended = Ended { name: std::mem::take(&mut self.name), failed: self.failed };
        // Nobody listens any more when the process is about to exit anyway.
        let _ = self.sender.send(ended);
    }
}

/// What draining came to.
#[derive(Debug)]
pub struct Drained {
    /// The ledger at the end.
    pub ledger: Snapshot,
    /// Datagrams that the kernel dropped, per listener.
    pub kernel_dropped: [u64; Listener::COUNT],
    /// Whether every event was delivered or dropped for a reason other than the shutdown itself.
    pub clean: bool,
}

impl Engine {
    /// Binds the listeners and starts all threads. When this returns, datagrams are received.
    pub fn start(settings: Settings) -> Result<Self, EngineError> {
        let layout = settings.receive.shards;
        let shard_count = layout.count(settings.receive.receivers);
        let ledger = Arc::new(ledger(&settings));
        let gates = settings.receive.gates.clone();
        let Receivers { threads: receivers, shards: inputs, handle } =
            receive::start(settings.receive, &ledger)?;

        let mut health = Health::default();
        for listener in Listener::ALL {
            if let Some(address) = handle.addresses(listener).first() {
                health.add_listener(listener).set(*address);
            }
        }
        let latency = Arc::new(Latency::default());
        let (sender, ended) = mpsc::unbounded_channel();
        let mut spawner = Spawner { spawned: 0, sender };
        let abandon = Arc::new(AtomicBool::new(false));
        let (give_up, over) = watch::channel(false);
        let series = settings.destinations.iter().find_map(|destination| destination.series());
        let (outputs, served) = connect(settings.destinations, &ledger, shard_count);
        let sources = Sources {
            ledger: Arc::clone(&ledger),
            latency: Arc::clone(&latency),
            sockets: Box::new(Kernel(Arc::clone(&handle), gates.clone())),
        };
        let (writer, tallies) = count(settings.counters, shard_count, sources);
        let deliver = Deliver {
            served,
            writer,
            given_up: over,
            latency: Arc::clone(&latency),
            uring: handle.backend() == BackendKind::IoUring,
            in_flight: settings.in_flight,
            spool: settings.spool,
        };
        // Without destinations it would end at once, which counts as a failure.
        if !deliver.served.is_empty() || deliver.writer.is_some() {
            let beat = health.add_thread("deliver");
            spawner.spawn("deliver", move || {
                deliver.run(&beat);
                Ok(())
            })?;
        }
        let app_names = Arc::clone(&settings.app_names);
        let lookups = Lookups { rules: settings.rules, app_names: settings.app_names };
        let (taps, readers) = taps(settings.sampled, shard_count);
        let parts = inputs.into_iter().zip(outputs).zip(tallies).zip(taps).enumerate();
        let shards = parts.map(|(index, (((input, outputs), tally), tap))| {
            let (ledger, latency) = (Arc::clone(&ledger), Arc::clone(&latency));
            let shard =
                Shard::new(index, settings.shard, lookups.clone(), ledger, outputs, latency)
                    .with_tally(tally)
                    .with_tap(tap);
            shard::Worker::new(shard, input, SystemClock::new(), Arc::clone(&abandon))
        });
        spawner.spawn_workers(layout, receivers, shards, &mut health)?;
        let state = Arc::new(State {
            backend: handle.backend().name(),
            ledger,
            health,
            latency,
            sockets: Box::new(Kernel(Arc::clone(&handle), gates)),
            started: SystemTime::now(),
            taps: readers,
            app_names,
            series: series.unwrap_or_default(),
        });
        Ok(Self { handle, state, ended, left: spawner.spawned, all_well: true, abandon, give_up })
    }

    /// What the endpoints show.
    #[must_use]
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// The receivers: backend, addresses, granted socket buffer.
    #[must_use]
    pub fn receivers(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// Waits for a thread to end that should not have ended; gives its name.
    ///
    /// A thread that fails takes those with it that live on what it sends. They may end first, so the
    /// one to blame is waited for, for a moment.
    pub async fn failed(&mut self) -> String {
        let Some(mut ended) = self.ended.recv().await else { return "engine".into() };
        self.left -= 1;
        self.all_well = false;
        while !ended.failed {
            let next = tokio::time::timeout(TO_BLAME, self.ended.recv()).await;
            let Ok(Some(next)) = next else { break };
            self.left -= 1;
            ended = next;
        }
        ended.name
    }

    /// Reads what is queued, sends what can be sent within `timeout`, counts the rest.
    pub async fn drain(mut self, timeout: Duration) -> Drained {
        // Whoever has ended before anybody was told to has failed.
        while let Ok(ended) = self.ended.try_recv() {
            tracing::error!("thread {} has ended", ended.name);
            self.left -= 1;
            self.all_well = false;
        }
        self.handle.stop(Instant::now() + timeout);
        let mut in_time = true;
        let mut give_up = tokio::time::Instant::now() + timeout;
        while self.left > 0 {
            match tokio::time::timeout_at(give_up, self.ended.recv()).await {
                Ok(Some(ended)) => {
                    self.all_well &= !ended.failed;
                    self.left -= 1;
                }
                Err(_) if in_time => {
                    in_time = false;
                    self.abandon.store(true, Ordering::Release);
                    // Nobody listens when the deliver thread has ended, which is as well.
                    let _ = self.give_up.send(true);
                    give_up += LAST_COUNT;
                }
                Ok(None) | Err(_) => break,
            }
        }
        let ledger = self.state.ledger.snapshot();
        // Past the time, what waits may still have been written to disk.
        let ended = self.all_well && self.left == 0;
        let clean = ended && ledger.at_rest() && !ledger.lost_by_shutdown();
        let kernel_dropped = Listener::ALL.map(|listener| self.handle.kernel_drops(listener));
        Drained { ledger, kernel_dropped, clean }
    }
}

/// A tap for each shard, and their other ends.
fn taps(sampled: bool, shards: usize) -> (Vec<tap::Tap>, tap::Readers) {
    if !sampled {
        return ((0..shards).map(|_| tap::Tap::default()).collect(), tap::Readers::default());
    }
    // Gaps between samples are random, but need not be unforeseeable.
    let (taps, readers) = (0..shards as u64).map(tap::tap).unzip();
    (taps, tap::Readers::new(readers))
}

/// Starts named threads that report their end.
struct Spawner {
    spawned: usize,
    sender: mpsc::UnboundedSender<Ended>,
}

impl Spawner {
    fn spawn(
        &mut self,
        name: &str,
        body: impl FnOnce() -> Result<(), ReceiveError> + Send + 'static,
    ) -> Result<(), EngineError> {
        let sender = self.sender.clone();
        let report = EndReport { name: name.to_owned(), failed: true, sender };
        // Nobody joins the thread: its report says more than its handle would.
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || report.of(body))
            .map_err(|error| EngineError::Thread { name: name.to_owned(), error })?;
        self.spawned += 1;
        Ok(())
    }

    /// The threads of receivers and shards.
    fn spawn_workers(
        &mut self,
        layout: Shards,
        receivers: Vec<Receiver>,
        shards: impl Iterator<Item = shard::Worker<SystemClock>>,
        health: &mut Health,
    ) -> Result<(), EngineError> {
        if layout == Shards::Inline {
            for (receiver, shard) in receivers.into_iter().zip(shards) {
                let name = format!("rx-{}", receiver.index());
                let beat = health.add_thread(&name);
                self.spawn(&name, move || shard.run_inline(receiver, &beat))?;
            }
            return Ok(());
        }
        for (index, shard) in shards.enumerate() {
            let name = format!("shard-{index}");
            let beat = health.add_thread(&name);
            self.spawn(&name, move || {
                shard.run(&beat);
                Ok(())
            })?;
        }
        for receiver in receivers {
            let name = format!("rx-{}", receiver.index());
            let beat = health.add_thread(&name);
            self.spawn(&name, move || receiver.run(beat))?;
        }
        Ok(())
    }
}

/// The deliver thread: all destinations on one runtime.
struct Deliver {
    served: Vec<(Box<dyn Destination>, BatchReceiver, Arc<DestinationLedger>)>,
    writer: Option<Writer>,
    given_up: watch::Receiver<bool>,
    latency: Arc<Latency>,
    uring: bool,
    in_flight: usize,
    spool: Option<SpoolSettings>,
}

impl Deliver {
    fn run(self, beat: &Beat) {
        let uring = self.uring;
        let work = self.serve(beat);
        if uring {
            #[cfg(target_os = "linux")]
            return tokio_uring::start(work);
        }
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            // A process without a runtime delivers nothing; the panic ends it with this text.
            .expect("a tokio runtime for the deliver thread")
            .block_on(tokio::task::LocalSet::new().run_until(work));
    }

    async fn serve(self, beat: &Beat) {
        let mut destinations: Vec<Pin<Box<dyn Future<Output = ()>>>> = self
            .served
            .into_iter()
            .map(|(destination, batches, ledger)| {
                let spool = self.spool.as_ref().and_then(|spool| spool.of(&*destination));
                destination.serve(Served {
                    spool,
                    batches,
                    ledger,
                    given_up: self.given_up.clone(),
                    latency: Arc::clone(&self.latency),
                    uring: self.uring,
                    in_flight: self.in_flight,
                })
            })
            .collect();
        if let Some(writer) = self.writer {
            destinations.push(Box::pin(writer.run(self.given_up.clone(), self.uring)));
        }
        let all = join_all(destinations);
        tokio::pin!(all);
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            beat.touch();
            tokio::select! {
                () = &mut all => return,
                _ = tick.tick() => {}
            }
        }
    }
}

/// Runs all futures to their end. A panic in one of them is a panic of the deliver thread.
async fn join_all(futures: Vec<Pin<Box<dyn Future<Output = ()>>>>) {
    let mut tasks = tokio::task::JoinSet::new();
    for future in futures {
        tasks.spawn_local(future);
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Per shard its outputs, and per destination what its future needs.
type Connected =
    (Vec<Vec<Output>>, Vec<(Box<dyn Destination>, BatchReceiver, Arc<DestinationLedger>)>);

/// Makes the queues between all shards and all destinations.
fn connect(destinations: Vec<Box<dyn Destination>>, ledger: &Ledger, shards: usize) -> Connected {
    let mut outputs: Vec<Vec<Output>> = (0..shards).map(|_| Vec::new()).collect();
    let mut served = Vec::new();
    for (destination, ledger) in destinations.into_iter().zip(&ledger.destinations) {
        let (senders, batches) = batch::queue(shards);
        for (outputs, sender) in outputs.iter_mut().zip(senders) {
            let encoder = destination.encoder();
            outputs.push(Output { encoder, sender, ledger: Arc::clone(ledger) });
        }
        served.push((destination, batches, Arc::clone(ledger)));
    }
    (outputs, served)
}

/// A ledger of zeros for everything that these settings start.
fn ledger(settings: &Settings) -> Ledger {
    let names: Vec<String> = settings.destinations.iter().map(|d| d.name()).collect();
    let receive = &settings.receive;
    let shards = receive.shards.count(receive.receivers);
    let ledger = Ledger::new(receive.receivers, shards, &names);
    if let Some(last_run) = &settings.last_run {
        last_run.hand_over(&ledger);
    }
    if settings.counters.influxdb.is_some() { ledger.with_own_points(DESTINATION) } else { ledger }
}

/// The writer of own points, if there is anything to write, and each shard's tally.
fn count(
    settings: counters::Settings,
    shards: usize,
    sources: Sources,
) -> (Option<Writer>, Vec<Tally>) {
    if settings.is_idle() {
        return (None, (0..shards).map(|_| Tally::default()).collect());
    }
    let (writer, tallies) = Writer::new(settings, shards, sources);
    (Some(writer), tallies)
}

/// What the endpoints ask of the sockets.
#[derive(Debug)]
struct Kernel(Arc<Handle>, [Arc<Gate>; Listener::COUNT]);

impl Sockets for Kernel {
    fn kernel_dropped(&self, listener: Listener) -> u64 {
        self.0.kernel_drops(listener)
    }

    fn rate_limit_current(&self, listener: Listener) -> u64 {
        self.1[listener as usize].rate_counted().into()
    }

    fn backpressure(&self, listener: Listener) -> bool {
        self.0.backpressure(listener)
    }

    fn receive_events(&self) -> Vec<(&'static str, u64)> {
        let RingStats { enters, rearms, starved, overflow, errors } = self.0.ring_stats();
        vec![
            ("calls", enters),
            ("rearms", rearms),
            ("pauses", starved),
            ("overflow", overflow),
            ("errors", errors),
        ]
    }

    fn buffer_bytes(&self, listener: Listener) -> u64 {
        let sockets = self.0.addresses(listener).len() * self.0.receivers();
        (self.0.socket_buffer() * sockets) as u64
    }
}
