//! Starts the threads of the engine, notices when one of them ends, and drains them.
//!
//! ```text
//!  rx-0 … rx-R ──leases──▶ shard-0 … shard-S ──batches──▶ deliver
//! ```
//!
//! Draining goes the same way: the receivers read what the sockets still hold and end; each shard
//! reads its rings empty, hands over its open batches and ends; the deliver thread sends what is left
//! and ends. Whatever is not through when the time is over is counted as `shutdown`.
//!
//! A thread that ends otherwise, by a panic, takes the engine with it: half an engine would lose
//! events silently.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::deliver::batch::{self, BatchReceiver};
use crate::deliver::clock::SystemClock;
use crate::deliver::{Destination, Served};
use crate::observe::health::{Beat, Health};
use crate::observe::histogram::Latency;
use crate::observe::ledger::{Ledger, Snapshot};
use crate::observe::stats::{ListenerState, State};
use crate::receive::{self, BackendKind, Receivers};
use crate::rules::EnabledKinds;
use crate::shard::{self, Output, Shard};

/// After the time to shut down is over, threads get this long to count what is left.
const LAST_COUNT: Duration = Duration::from_secs(2);

/// How the engine is to run.
#[derive(Debug)]
pub struct Settings {
    /// Sockets, pool, backend, number of receivers and shards.
    pub receive: receive::Settings,
    /// How batches are made.
    pub shard: shard::Settings,
    /// Which kinds of events are wanted.
    pub enabled: EnabledKinds,
    /// Where events go.
    pub destinations: Vec<Box<dyn Destination>>,
}

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    receivers: Arc<Receivers>,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
    ended: mpsc::UnboundedReceiver<Ended>,
    abandon: Arc<AtomicBool>,
    give_up: watch::Sender<bool>,
}

/// Why the engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A listener or the receive backend.
    #[error(transparent)]
    Receive(#[from] receive::ReceiveError),
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
    panicked: bool,
}

/// Reports the end of a thread, however it comes about.
#[derive(Debug)]
struct EndReport {
    name: String,
    sender: mpsc::UnboundedSender<Ended>,
}

impl Drop for EndReport {
    fn drop(&mut self) {
        let ended = Ended { name: std::mem::take(&mut self.name), panicked: thread::panicking() };
        // Nobody listens any more when the process is about to exit anyway.
        let _ = self.sender.send(ended);
    }
}

/// What draining came to.
#[derive(Debug)]
pub struct Drained {
    /// The ledger at the end.
    pub ledger: Snapshot,
    /// Whether every event was delivered or dropped for a reason other than the shutdown itself.
    pub clean: bool,
}

impl Engine {
    /// Binds the listeners and starts all threads. When this returns, datagrams are received.
    pub fn start(settings: Settings) -> Result<Self, EngineError> {
        let names: Vec<String> = settings.destinations.iter().map(|d| d.name()).collect();
        let (receiver_count, shard_count) =
            (settings.receive.receivers.max(1), settings.receive.shards.max(1));
        let ledger = Arc::new(Ledger::new(receiver_count, shard_count, &names));
        let (receivers, rx_threads, feeds) =
            receive::start(settings.receive, Arc::clone(&ledger))?;
        let receivers = Arc::new(receivers);
        let latency = Arc::new(Latency::default());
        let mut health = Health::default();
        for (listener, address) in receivers.addresses() {
            health.add_listener(listener).set(address);
        }
        let (sender, ended) = mpsc::unbounded_channel();
        let mut spawner = Spawner { threads: Vec::new(), sender };
        let abandon = Arc::new(AtomicBool::new(false));
        let (give_up, given_up) = watch::channel(false);

        let mut outputs: Vec<Vec<Output>> = (0..shard_count).map(|_| Vec::new()).collect();
        let mut served = Vec::new();
        for (destination, ledger) in settings.destinations.into_iter().zip(&ledger.destinations) {
            let (senders, receiver) = batch::queue(shard_count);
            for (outputs, sender) in outputs.iter_mut().zip(senders) {
                let encoder = destination.encoder();
                outputs.push(Output { encoder, sender, ledger: Arc::clone(ledger) });
            }
            served.push((destination, receiver, Arc::clone(ledger)));
        }
        let uring = receivers.backend() == BackendKind::IoUring;
        let beat = health.add_thread("deliver");
        let deliver = Deliver { served, given_up, latency: Arc::clone(&latency), uring };
        spawner.spawn("deliver", move || deliver.run(&beat))?;

        for (index, (feed, outputs)) in feeds.into_iter().zip(outputs).enumerate() {
            let name = format!("shard-{index}");
            let beat = health.add_thread(&name);
            let shard = Shard::new(
                index,
                settings.shard,
                settings.enabled,
                Arc::clone(&ledger),
                outputs,
                Arc::clone(&latency),
            );
            let abandon = Arc::clone(&abandon);
            spawner.spawn(&name, move || {
                shard::run(shard, feed.ends, &feed.sleeper, &SystemClock::new(), &beat, &abandon);
            })?;
        }
        for (index, receiver) in rx_threads.into_iter().enumerate() {
            let name = format!("rx-{index}");
            let beat = health.add_thread(&name);
            spawner.spawn(&name, move || receiver.run(&beat))?;
        }
        let state = Arc::new(State::new(
            ledger,
            health,
            latency,
            receivers.backend().name(),
            listener_state(&receivers),
        ));
        Ok(Self { receivers, state, threads: spawner.threads, ended, abandon, give_up })
    }

    /// What the endpoints show.
    #[must_use]
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// The receivers: backend, addresses, granted socket buffers.
    #[must_use]
    pub fn receivers(&self) -> &Receivers {
        &self.receivers
    }

    /// Waits for a thread to end that should not have ended; gives its name.
    pub async fn failed(&mut self) -> String {
        match self.ended.recv().await {
            Some(ended) => ended.name,
            None => "engine".into(),
        }
    }

    /// Reads what is queued, sends what can be sent within `timeout`, counts the rest.
    pub async fn drain(mut self, timeout: Duration) -> Drained {
        self.receivers.stop();
        let running = self.threads.iter().filter(|thread| !thread.is_finished()).count();
        let mut all_well = running == self.threads.len();
        let mut left = running;
        let give_up = tokio::time::sleep(timeout);
        tokio::pin!(give_up);
        let mut in_time = true;
        while left > 0 {
            tokio::select! {
                ended = self.ended.recv() => {
                    let Some(ended) = ended else { break };
                    all_well &= !ended.panicked;
                    left -= 1;
                }
                () = &mut give_up, if in_time => {
                    in_time = false;
                    self.abandon.store(true, Ordering::Release);
                    let _ = self.give_up.send(true);
                    give_up.as_mut().reset(tokio::time::Instant::now() + LAST_COUNT);
                }
                () = &mut give_up => break,
            }
        }
        let ledger = self.state.ledger().snapshot();
        let clean = all_well && in_time && ledger.at_rest();
        Drained { ledger, clean }
    }
}

/// Starts named threads that report their end.
struct Spawner {
    threads: Vec<JoinHandle<()>>,
    sender: mpsc::UnboundedSender<Ended>,
}

impl Spawner {
    fn spawn(
        &mut self,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), EngineError> {
        let report = EndReport { name: name.to_owned(), sender: self.sender.clone() };
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _report = report;
                body();
            })
            .map_err(|error| EngineError::Thread { name: name.to_owned(), error })?;
        self.threads.push(thread);
        Ok(())
    }
}

/// The deliver thread: all destinations on one runtime.
struct Deliver {
    served: Vec<(Box<dyn Destination>, BatchReceiver, Arc<crate::observe::ledger::DestinationLedger>)>,
    given_up: watch::Receiver<bool>,
    latency: Arc<Latency>,
    uring: bool,
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
        let destinations: Vec<Pin<Box<dyn Future<Output = ()>>>> = self
            .served
            .into_iter()
            .map(|(destination, batches, ledger)| {
                destination.serve(Served {
                    batches,
                    ledger,
                    given_up: self.given_up.clone(),
                    latency: Arc::clone(&self.latency),
                    uring: self.uring,
                })
            })
            .collect();
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

fn listener_state(receivers: &Arc<Receivers>) -> Vec<ListenerState> {
    let _ = receivers;
    Vec::new()
}
