//! What the receive room is told, and what it answers when it cannot do it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::gate::Gate;
use super::passed::Passed;
use super::slots::{SLOTS_MAX, SLOTS_MIN};
use crate::event::Listener;

/// Which backend is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// `io_uring` where the host allows it, else tokio, with one warning that says why.
    #[default]
    Auto,
    /// `io_uring` or nothing.
    IoUring,
    /// tokio.
    Tokio,
}

/// Who takes the leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// Each receiver runs a shard of its own, on its own thread: nothing has to cross from one
    /// processor to another, and nobody has to be woken.
    Inline,
    /// Threads of their own, so many; leases are spread over them by source.
    Threads(usize),
}

impl Shards {
    /// How many shards there are beside so many receivers.
    #[must_use]
    pub const fn count(self, receivers: usize) -> usize {
        match self {
            Self::Inline => receivers,
            Self::Threads(shards) => shards,
        }
    }
}

/// Which backend is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// Multishot receives into a ring of provided buffers.
    IoUring,
    /// recvmmsg inside tokio's readiness on Linux, tokio's `recv_from` elsewhere.
    Tokio,
}

impl BackendKind {
    /// Name in JSON, metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Tokio => "tokio",
        }
    }
}

/// One listener.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Where to listen, resolved by the caller. `[::]` listens on IPv4 too, unless an IPv4 address
    /// with the same port is in the list. Port 0 takes a free port (see [`Handle::addresses`]).
    ///
    /// [`Handle::addresses`]: super::Handle::addresses
    pub addresses: Vec<SocketAddr>,
    /// Longest datagram that is accepted, in bytes.
    pub max_message_size: usize,
    /// Documented capacity of the queue, in datagrams: `maxSize + maxConcurrent`.
    pub queue_capacity: usize,
    /// Percent of the capacity above which backpressure is reported.
    pub backpressure_threshold: u8,
    /// Whether a full queue is a reason to drop while there are free slots.
    pub strict: bool,
}

/// Features of the kernel that are not to be used although it may have them. For tests, which must
/// cover kernels other than the one they run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureMask {
    /// As on a host that forbids `io_uring`.
    pub no_io_uring: bool,
    /// As on a kernel before 6.12, which cannot gather by timer.
    pub no_min_wait: bool,
    /// As where `SO_ATTACH_REUSEPORT_CBPF` is refused.
    pub no_steering: bool,
}

/// What [`start`](super::start()) needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The listeners, in the order of [`Listener::ALL`]; `None` when one is not enabled.
    pub listeners: [Option<ListenerSettings>; Listener::COUNT],
    /// What each listener lets in; may be changed while it runs.
    pub gates: [Arc<Gate>; Listener::COUNT],
    /// Which backend is wanted.
    pub backend: BackendChoice,
    /// Receiver threads. One is used where datagrams cannot be steered by source.
    pub receivers: usize,
    /// Who takes the leases.
    pub shards: Shards,
    /// Slots per receiver, from [`SLOTS_MIN`] to [`SLOTS_MAX`].
    pub slots: usize,
    /// Socket buffer to ask for, in bytes.
    pub socket_buffer: usize,
    /// How long datagrams are gathered under load. None is gathered when it is zero.
    pub gather: Duration,
    /// Features not to use.
    pub mask: FeatureMask,
    /// Sockets to use instead of binding new ones, where they fit a listener's address.
    pub passed: Passed,
}

impl Settings {
    /// Slots per receiver unless told otherwise.
    pub const SLOTS: usize = 8192;
    /// Socket buffer unless told otherwise: about 30 000 small datagrams by the kernel's count.
    pub const SOCKET_BUFFER: usize = 32 << 20;
    /// Gathering time unless told otherwise: the shortest that halves the cost per datagram.
    pub const GATHER: Duration = Duration::from_micros(500);

    /// Longest datagram of any listener, in bytes.
    pub(super) fn message_size_max(&self) -> usize {
        let sizes = self.listeners.iter().flatten().map(|listener| listener.max_message_size);
        sizes.max().unwrap_or_default()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listeners: [const { None }; Listener::COUNT],
            gates: Default::default(),
            backend: BackendChoice::Auto,
            receivers: 1,
            shards: Shards::Threads(1),
            slots: Self::SLOTS,
            socket_buffer: Self::SOCKET_BUFFER,
            gather: Self::GATHER,
            mask: FeatureMask::default(),
            passed: Passed::default(),
        }
    }
}

/// Why datagrams cannot be received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// No listener is enabled.
    #[error(
        "no UDP listener is enabled; enable userEvents or logEvents in the configuration, or both"
    )]
    NoListener,
    /// A listener has no address.
    #[error(
        "the {} listener has no address to bind; check its udpServerConfig.serverHost", listener.name()
    )]
    NoAddress {
        /// The listener.
        listener: Listener,
    },
    /// The pool cannot have this size.
    #[error(
        "receive.slots is {slots}, which is not from {SLOTS_MIN} to {SLOTS_MAX}; the default is {}",
        Settings::SLOTS
    )]
    Slots {
        /// What was asked for.
        slots: usize,
    },
    /// The port is taken.
    #[error(
        "UDP port {} on {} is in use ({} listener); stop the other program, or choose another port \
         (`ss -ulpn` names the program)", address.port(), address.ip(), listener.name()
    )]
    PortInUse {
        /// The listener.
        listener: Listener,
        /// The address.
        address: SocketAddr,
    },
    /// The address does not belong to this host.
    #[error(
        "{} is not an address of this host ({} listener); use one that `ip address` shows, or \
         0.0.0.0 or :: for all", address.ip(), listener.name()
    )]
    NotOurAddress {
        /// The listener.
        listener: Listener,
        /// The address.
        address: SocketAddr,
    },
    /// The port needs a privilege.
    #[error(
        "no permission to bind UDP port {} on {} ({} listener); use a port above 1023, or grant \
         CAP_NET_BIND_SERVICE", address.port(), address.ip(), listener.name()
    )]
    NoPermission {
        /// The listener.
        listener: Listener,
        /// The address.
        address: SocketAddr,
    },
    /// Anything else about a socket.
    #[error("cannot listen on {address} ({} listener): {source}", listener.name())]
    Socket {
        /// The listener.
        listener: Listener,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A passed descriptor is something else.
    #[error(
        "a socket passed by systemd cannot be used: {source}; use ListenDatagram= with a port in the \
         socket unit"
    )]
    NotOurKind {
        /// Which one, and what it is.
        source: io::Error,
    },
    /// A passed socket has an address that is not configured.
    #[error(
        "systemd passes a socket on {address}, but no listener has port {} there; make \
         ListenDatagram= of the socket unit and udpServerConfig agree", address.port()
    )]
    NoListenerFor {
        /// Its address.
        address: SocketAddr,
    },
    /// The buffer pool cannot be had.
    #[error("no memory for the buffer pool of {slots} slots ({source}); lower receive.slots")]
    Memory {
        /// Slots per receiver.
        slots: usize,
        /// What the system said.
        source: io::Error,
    },
    /// `receive.backend: io_uring`, and the host refuses it.
    #[error("io_uring is not to be had: {reason}; or set receive.backend to auto or tokio")]
    IoUring {
        /// Why, and what to do.
        reason: String,
    },
    /// A receiver cannot go on.
    #[error("receiving failed ({during}): {source}")]
    Run {
        /// What was being done.
        during: &'static str,
        /// What the system said.
        source: io::Error,
    },
}
