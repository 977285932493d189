//! Everything that has to be in place before the receiver threads run, and the handle to them.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::admission::{Admission, Levels};
use super::clock::Stamps;
use super::handoff::{self, ShardEnd};
use super::intake::{Inline, Intake, IntakeParts};
use super::pressure::Peak;
use super::settings::{BackendChoice, BackendKind, ReceiveError, Settings, Shards};
use super::slots::{Pool, SLOTS_MAX, SLOTS_MIN};
use super::socket::{self, Bound, KernelDrops};
use super::wake::Sleeper;
use crate::event::Listener;
use crate::observe::health::Beat;
use crate::observe::ledger::Ledger;

/// What [`start`] makes.
#[derive(Debug)]
pub struct Receivers {
    /// One per receiver thread, in order of their index.
    pub threads: Vec<Receiver>,
    /// One per shard; of inline shards, in the order of the receivers.
    pub shards: Vec<ShardInput>,
    /// Stops the receivers and knows about them.
    pub handle: Arc<Handle>,
}

/// Where a shard gets its leases from.
#[derive(Debug)]
pub struct ShardInput {
    /// One per receiver; of an inline shard, its own receiver's.
    pub ends: Vec<ShardEnd>,
    /// Where the shard sleeps when there are no leases.
    pub sleeper: Sleeper,
}

/// What the kernel and the receivers' rings did. All zero with the tokio backend, but `enters`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// System calls that received, or waited to.
    pub enters: u64,
    /// Times a receive request had ended and was made anew.
    pub rearms: u64,
    /// Times receiving paused: the pool was short and datagrams waited in the socket, or every slot
    /// was out.
    pub starved: u64,
    /// Completions that the kernel lost for want of memory.
    pub overflow: u64,
    /// Receives that failed and were tried again.
    pub errors: u64,
}

/// The counters behind [`RingStats`].
#[derive(Debug, Default)]
pub(super) struct RingCounters {
    pub(super) enters: AtomicU64,
    pub(super) rearms: AtomicU64,
    pub(super) starved: AtomicU64,
    pub(super) overflow: AtomicU64,
    pub(super) errors: AtomicU64,
}

/// Adds one, for the only thread that writes the counter.
pub(super) fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Tells one receiver to stop. The pipe wakes it, whatever it waits with.
#[derive(Debug)]
pub(super) struct Stop {
    requested: AtomicBool,
    deadline: OnceLock<Instant>,
    pub(super) reader: PipeReader,
    writer: PipeWriter,
}

impl Stop {
    fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let (requested, deadline) = (AtomicBool::new(false), OnceLock::new());
        Ok(Self { requested, deadline, reader, writer })
    }

    fn request(&self, deadline: Instant) {
        // Asked twice, the first deadline stands.
        if self.deadline.set(deadline).is_ok() {
            self.requested.store(true, Ordering::Release);
            // One byte always fits an empty pipe; and if not, the receiver looks after `IDLE`.
            let _ = (&self.writer).write(&[1]);
        }
    }

    /// Whether to stop, and by when.
    pub(super) fn requested(&self) -> Option<Instant> {
        self.requested.load(Ordering::Acquire).then(|| self.deadline.get().copied()).flatten()
    }
}

/// Stops the receivers and answers questions about them, from any thread.
#[derive(Debug)]
pub struct Handle {
    backend: BackendKind,
    socket_buffer: usize,
    addresses: [Vec<SocketAddr>; Listener::COUNT],
    drops: KernelDrops,
    levels: Arc<Levels>,
    stops: Vec<Arc<Stop>>,
    rings: Vec<Arc<RingCounters>>,
}

impl Handle {
    /// The backend in use.
    #[must_use]
    pub fn backend(&self) -> BackendKind {
        self.backend
    }

    /// Number of receivers; fewer than asked for where they cannot be steered.
    #[must_use]
    pub fn receivers(&self) -> usize {
        self.stops.len()
    }

    /// The smallest socket buffer granted, in bytes, counted as the setting is.
    #[must_use]
    pub fn socket_buffer(&self) -> usize {
        self.socket_buffer
    }

    /// Where a listener listens, with real port numbers.
    #[must_use]
    pub fn addresses(&self, listener: Listener) -> &[SocketAddr] {
        &self.addresses[listener as usize]
    }

    /// Datagrams that the kernel dropped before a receiver saw them: the socket's buffer was full,
    /// or the engine was draining. Counted since the socket was opened, which for a passed socket is
    /// before this process began. Never decreases. Costs one system call per socket. Zero where the
    /// system does not tell.
    #[must_use]
    pub fn kernel_drops(&self, listener: Listener) -> u64 {
        self.drops.total(listener)
    }

    /// Leases handed to shards and not yet returned, as of each receiver's last turn.
    #[must_use]
    pub fn queued(&self, listener: Listener) -> usize {
        self.levels.queued(listener)
    }

    /// Whether the listener's queue is above its backpressure threshold (and has not been below
    /// four fifths of it since).
    #[must_use]
    pub fn backpressure(&self, listener: Listener) -> bool {
        self.levels.backpressure(listener)
    }

    /// What the listener's queue did since this was last asked.
    pub(super) fn peak(&self, listener: Listener) -> Peak {
        self.levels.peak(listener)
    }

    /// Statistics of all receivers together.
    #[must_use]
    pub fn ring_stats(&self) -> RingStats {
        let sum = |counter: fn(&RingCounters) -> &AtomicU64| {
            self.rings.iter().map(|ring| counter(ring).load(Ordering::Relaxed)).sum()
        };
        RingStats {
            enters: sum(|ring| &ring.enters),
            rearms: sum(|ring| &ring.rearms),
            starved: sum(|ring| &ring.starved),
            overflow: sum(|ring| &ring.overflow),
            errors: sum(|ring| &ring.errors),
        }
    }

    /// Begins the drain: nothing more gets into the sockets (it counts as kernel drops), the
    /// receivers hand over what is queued in them and end. What cannot be handed over by `deadline`
    /// is dropped as `shutdown`. Passed sockets are left as they are, to the next process.
    pub fn stop(&self, deadline: Instant) {
        self.drops.close_door();
        for stop in &self.stops {
            stop.request(deadline);
        }
    }
}

/// One receiver, to be run on a thread of its own.
#[derive(Debug)]
pub struct Receiver {
    pub(super) intake: Intake,
    pub(super) sockets: Vec<Bound>,
    pub(super) settings: Arc<Settings>,
    pub(super) stop: Arc<Stop>,
    pub(super) ring: Arc<RingCounters>,
    backend: BackendKind,
}

impl Receiver {
    /// Its index: the thread's name is `rx-` and this.
    #[must_use]
    pub fn index(&self) -> usize {
        self.intake.index()
    }

    /// Touches `beat` once per turn and at least once a second.
    ///
    /// Receives until [`Handle::stop`] is called and the sockets are empty. Whichever way it ends,
    /// its [`ShardEnd`]s then become finished.
    pub fn run(self, beat: Beat) -> Result<(), ReceiveError> {
        self.run_with(beat, &mut Elsewhere)
    }

    /// The same with a shard on this thread, which takes the leases of each batch right after it.
    pub fn run_with(mut self, beat: Beat, inline: &mut dyn Inline) -> Result<(), ReceiveError> {
        self.intake.beat_with(beat);
        match self.backend {
            #[cfg(target_os = "linux")]
            BackendKind::IoUring => super::uring::run(self, inline),
            #[cfg(target_os = "linux")]
            BackendKind::Tokio => super::recvmmsg::run(self, inline),
            #[cfg(not(target_os = "linux"))]
            _ => super::portable::run(self, inline),
        }
    }
}

/// Leases are taken on other threads.
pub(super) struct Elsewhere;

impl Inline for Elsewhere {
    fn turn(&mut self) -> Duration {
        Duration::MAX
    }
}

/// Binds the sockets, chooses the backend and prepares the receivers. Nothing is received before
/// [`Receiver::run`], but the kernel queues datagrams from here on.
///
/// # Panics
/// When the ledger has fewer receivers than `settings`, or when there is no shard.
pub fn start(settings: Settings, ledger: &Arc<Ledger>) -> Result<Receivers, ReceiveError> {
    assert!(settings.receivers > 0, "at least one receiver");
    if !(SLOTS_MIN..=SLOTS_MAX).contains(&settings.slots) {
        return Err(ReceiveError::Slots { slots: settings.slots });
    }
    let backend = choose_backend(&settings)?;
    let receivers = steerable(&settings);
    let shard_count = settings.shards.count(receivers);
    assert!(shard_count > 0, "at least one shard");
    assert!(ledger.receivers.len() >= receivers, "a ledger block per receiver");
    let sockets = socket::bind(&settings, receivers)?;
    let socket_buffer = set_buffers(&settings, &sockets)?;

    let levels = Arc::new(Levels::new(&settings, receivers));
    let during = |during| move |source| ReceiveError::Run { during, source };
    let stops: Vec<Arc<Stop>> = (0..receivers)
        .map(|_| Stop::new().map(Arc::new))
        .collect::<io::Result<_>>()
        .map_err(during("making a pipe"))?;
    let rings: Vec<Arc<RingCounters>> = (0..receivers).map(|_| Arc::default()).collect();
    let drops = KernelDrops::new(sockets.iter().flatten()).map_err(during("watching a socket"))?;
    let addresses = Listener::ALL.map(|listener| {
        let of_listener = sockets[0].iter().filter(|bound| bound.listener == listener);
        of_listener.map(|bound| bound.address).collect()
    });
    let mut shards: Vec<ShardInput> = (0..shard_count)
        .map(|_| ShardInput { ends: Vec::new(), sleeper: Sleeper::default() })
        .collect();

    let settings = Arc::new(settings);
    let mut threads = Vec::with_capacity(receivers);
    for (index, sockets) in sockets.into_iter().enumerate() {
        let pool = pool(&settings)?;
        let its_shards = match settings.shards {
            Shards::Inline => index..=index,
            Shards::Threads(shards) => 0..=shards - 1,
        };
        let ends = shards[its_shards]
            .iter_mut()
            .map(|shard| {
                let (receiver_end, shard_end) = handoff::rings(&pool, shard.sleeper.waker());
                shard.ends.push(shard_end);
                receiver_end
            })
            .collect();
        let intake = Intake::new(IntakeParts {
            index,
            pool,
            admission: Admission::new(&settings, index),
            stamps: Stamps::new(index, receivers),
            ends,
            ledger: Arc::clone(ledger),
            levels: Arc::clone(&levels),
        });
        threads.push(Receiver {
            intake,
            sockets,
            settings: Arc::clone(&settings),
            stop: Arc::clone(&stops[index]),
            ring: Arc::clone(&rings[index]),
            backend,
        });
    }
    let handle =
        Arc::new(Handle { backend, socket_buffer, addresses, drops, levels, stops, rings });
    Ok(Receivers { threads, shards, handle })
}

fn pool(settings: &Settings) -> Result<Pool, ReceiveError> {
    Pool::new(settings.slots, settings.message_size_max())
        .map_err(|source| ReceiveError::Memory { slots: settings.slots, source })
}

/// The one place where the backend is chosen.
#[cfg(target_os = "linux")]
fn choose_backend(settings: &Settings) -> Result<BackendKind, ReceiveError> {
    if settings.backend == BackendChoice::Tokio {
        return Ok(BackendKind::Tokio);
    }
    match super::uring::probe(settings) {
        Ok(()) => Ok(BackendKind::IoUring),
        Err(reason) if settings.backend == BackendChoice::IoUring => {
            Err(ReceiveError::IoUring { reason })
        }
        Err(reason) => {
            tracing::warn!("receiving with tokio, because io_uring is not to be had: {reason}");
            Ok(BackendKind::Tokio)
        }
    }
}

/// The one place where the backend is chosen.
#[cfg(not(target_os = "linux"))]
fn choose_backend(settings: &Settings) -> Result<BackendKind, ReceiveError> {
    match settings.backend {
        BackendChoice::IoUring => {
            Err(ReceiveError::IoUring { reason: "it exists on Linux only".into() })
        }
        BackendChoice::Auto | BackendChoice::Tokio => Ok(BackendKind::Tokio),
    }
}

/// How many receivers can be used.
fn steerable(settings: &Settings) -> usize {
    if settings.receivers == 1 {
        return 1;
    }
    if !settings.passed.is_empty() {
        tracing::warn!(
            "using 1 receiver instead of {}: sockets passed by systemd cannot be shared by several; \
             set receive.receivers to 1 to silence this",
            settings.receivers
        );
        return 1;
    }
    #[cfg(target_os = "linux")]
    let refused = if settings.mask.no_steering {
        Some(io::ErrorKind::PermissionDenied.into())
    } else {
        super::steer::probe().err()
    };
    #[cfg(not(target_os = "linux"))]
    let refused: Option<io::Error> = Some(io::ErrorKind::Unsupported.into());
    let Some(error) = refused else { return settings.receivers };
    tracing::warn!(
        "using 1 receiver instead of {}: the system cannot keep the datagrams of a source together \
         on one receiver (SO_ATTACH_REUSEPORT_CBPF: {error}); set receive.receivers to 1 to silence \
         this",
        settings.receivers
    );
    1
}

/// Sets the size of every socket's buffer and answers the smallest that was granted.
fn set_buffers(settings: &Settings, sockets: &[Vec<Bound>]) -> Result<usize, ReceiveError> {
    let wanted = settings.socket_buffer;
    let mut granted = usize::MAX;
    for bound in sockets.iter().flatten() {
        let this = socket::set_buffer(&bound.socket, wanted).map_err(|source| {
            ReceiveError::Socket { listener: bound.listener, address: bound.address, source }
        })?;
        granted = granted.min(this);
    }
    if granted < wanted {
        tracing::warn!(
            "the socket buffer is {granted} bytes instead of {wanted}: bursts may be lost in the \
             kernel (they are counted); raise it with `sysctl -w net.core.rmem_max={wanted}`, or \
             grant CAP_NET_ADMIN"
        );
    }
    Ok(granted)
}
