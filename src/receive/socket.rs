//! The UDP sockets: binding, buffer sizes, kernel drops, and closing the door at the end.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, Protocol, Socket, Type};

use super::passed::Taken;
use super::settings::{ReceiveError, Settings};
use crate::event::Listener;

/// A bound socket of one receiver.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) socket: Socket,
    pub(super) listener: Listener,
    pub(super) address: SocketAddr,
    /// It was passed to this process and outlives it.
    pub(super) passed: bool,
}

impl Bound {
    /// Whether the socket's own buffer has little room left: less than a sixteenth, or than the
    /// longest datagram may need; or the system does not tell. A sixteenth of 32 MiB is what 300 000
    /// datagrams a second fill in 10 ms, ten times as long as a receiver looks away.
    pub(super) fn is_filling(&self) -> bool {
        const LONGEST: u32 = 128 * 1024;
        memory(&self.socket).is_none_or(|Memory { used, size, .. }| {
            size.saturating_sub(used) < LONGEST.max(size / 16)
        })
    }
}

/// What the kernel tells about a socket's buffer.
#[derive(Clone, Copy, Debug)]
struct Memory {
    /// Bytes used, as the kernel accounts for them.
    used: u32,
    /// Bytes that may be used.
    size: u32,
    /// Datagrams dropped since the socket was opened; wraps.
    drops: u32,
}

/// Binds every address of every listener, once per receiver, unless a passed socket serves it. The
/// outer vector is per receiver.
pub(super) fn bind(settings: &Settings, receivers: usize) -> Result<Vec<Vec<Bound>>, ReceiveError> {
    let mut bound: Vec<Vec<Bound>> = (0..receivers).map(|_| Vec::new()).collect();
    let mut passed = settings.passed.choice();
    for listener in Listener::ALL {
        let Some(ListenerAddresses(addresses)) = addresses(settings, listener)? else { continue };
        let mut taken: Vec<Taken> = Vec::new();
        for address in addresses {
            if let Some(socket) = passed.take(*address) {
                taken.push(socket.map_err(|source| explain(listener, *address, source))?);
                continue;
            }
            if taken.iter().any(|taken| taken.covers(*address)) {
                continue;
            }
            let only_v6 = address.is_ipv6()
                && addresses.iter().any(|a| a.is_ipv4() && a.port() == address.port());
            let sockets = bind_group(*address, only_v6, receivers)
                .map_err(|source| explain(listener, *address, source))?;
            for (receiver, socket) in bound.iter_mut().zip(sockets) {
                let address =
                    local_address(&socket).map_err(|source| explain(listener, *address, source))?;
                receiver.push(Bound { socket, listener, address, passed: false });
            }
        }
        // There is one receiver then: nothing can steer one socket's datagrams to several.
        bound[0].extend(taken.into_iter().map(|Taken { socket, address, .. }| Bound {
            socket,
            listener,
            address,
            passed: true,
        }));
    }
    passed.finish()?;
    if bound.iter().all(Vec::is_empty) {
        return Err(ReceiveError::NoListener);
    }
    Ok(bound)
}

struct ListenerAddresses<'a>(&'a [SocketAddr]);

fn addresses(
    settings: &Settings,
    listener: Listener,
) -> Result<Option<ListenerAddresses<'_>>, ReceiveError> {
    match &settings.listeners[listener as usize] {
        None => Ok(None),
        Some(listener_settings) if listener_settings.addresses.is_empty() => {
            Err(ReceiveError::NoAddress { listener })
        }
        Some(listener_settings) => Ok(Some(ListenerAddresses(&listener_settings.addresses))),
    }
}

/// One socket per receiver on one address.
fn bind_group(address: SocketAddr, only_v6: bool, receivers: usize) -> io::Result<Vec<Socket>> {
    // Alone first: with SO_REUSEPORT a second Ringside would share the port without a word, and the
    // two would get half of the events each.
    let alone = open(address, only_v6, false)?;
    if receivers == 1 {
        return Ok(vec![alone]);
    }
    let address = local_address(&alone)?;
    drop(alone);
    let group: Vec<Socket> =
        (0..receivers).map(|_| open(address, only_v6, true)).collect::<io::Result<_>>()?;
    #[cfg(target_os = "linux")]
    super::steer::by_source(&group)?;
    Ok(group)
}

/// A socket that nobody can send to.
pub(super) fn unbound() -> io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))
}

fn open(address: SocketAddr, only_v6: bool, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    #[cfg(unix)]
    if shared {
        socket.set_reuse_port(true)?;
    }
    #[cfg(not(unix))]
    let _ = shared;
    socket.bind(&address.into())?;
    Ok(socket)
}

pub(super) fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    // A UDP socket over IP has an IP address.
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
}

fn explain(listener: Listener, address: SocketAddr, source: io::Error) -> ReceiveError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ReceiveError::PortInUse { listener, address },
        io::ErrorKind::AddrNotAvailable => ReceiveError::NotOurAddress { listener, address },
        io::ErrorKind::PermissionDenied => ReceiveError::NoPermission { listener, address },
        _ => ReceiveError::Socket { listener, address, source },
    }
}

/// Asks for a receive buffer of `wanted` bytes, beyond the system's limit where privileges allow.
/// Answers what was granted, counted as `wanted` is (the kernel doubles both on Linux).
pub(super) fn set_buffer(socket: &Socket, wanted: usize) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    {
        // The kernel doubles the value and keeps it in an int.
        let wanted = wanted.min(i32::MAX as usize / 2);
        if linux::force_buffer(socket, wanted).is_err() {
            socket.set_recv_buffer_size(wanted)?;
        }
        Ok(socket.recv_buffer_size()? / 2)
    }
    #[cfg(not(target_os = "linux"))]
    {
        // Some systems refuse what they cannot grant; what they have is then read back.
        let _ = socket.set_recv_buffer_size(wanted);
        socket.recv_buffer_size()
    }
}

/// From the socket address that the kernel writes (`sockaddr_in` or `sockaddr_in6`).
#[cfg(target_os = "linux")]
pub(super) fn source_of(name: &[u8]) -> Option<SocketAddr> {
    use std::net::IpAddr;

    let family = u16::from_ne_bytes(*name.first_chunk()?);
    let address = match i32::from(family) {
        libc::AF_INET => IpAddr::from(*name.get(4..)?.first_chunk::<4>()?),
        libc::AF_INET6 => IpAddr::from(*name.get(8..)?.first_chunk::<16>()?),
        _ => return None,
    };
    // In both families the port comes right after the family, in network order.
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk::<2>()?);
    Some(SocketAddr::new(address, port))
}

/// Stands for a sender that the kernel did not name.
pub(super) const UNKNOWN_SOURCE: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

#[derive(Debug)]
struct Watched {
    socket: Socket,
    listener: Listener,
    passed: bool,
    /// The kernel counts in 32 bits and wraps.
    last: u32,
    total: u64,
}

/// What the kernel dropped because a socket's buffer was full, or because the door was closed.
#[derive(Debug)]
pub(super) struct KernelDrops(Mutex<Vec<Watched>>);

impl KernelDrops {
    /// Watches the sockets through descriptors of its own.
    pub(super) fn new<'a>(sockets: impl Iterator<Item = &'a Bound>) -> io::Result<Self> {
        let watched = sockets.map(|bound| {
            let socket = bound.socket.try_clone()?;
            let Bound { listener, passed, .. } = *bound;
            Ok(Watched { socket, listener, passed, last: 0, total: 0 })
        });
        Ok(Self(Mutex::new(watched.collect::<io::Result<_>>()?)))
    }

    /// Datagrams that the kernel dropped at a listener's sockets since they were opened. Zero where
    /// the system does not tell.
    pub(super) fn total(&self, listener: Listener) -> u64 {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sockets = watched.iter_mut().filter(|socket| socket.listener == listener);
        sockets
            .map(|socket| {
                if let Some(Memory { drops, .. }) = memory(&socket.socket) {
                    socket.total += u64::from(drops.wrapping_sub(socket.last));
                    socket.last = drops;
                }
                socket.total
            })
            .sum()
    }

    /// Lets nothing into the sockets any more; what is queued in them can still be read. Where the
    /// system cannot do that, datagrams keep coming in until the sockets are closed. Passed sockets
    /// stay open: the filter would outlive this process, and the next one would get nothing.
    #[cfg_attr(not(target_os = "linux"), expect(clippy::unused_self, reason = "as on Linux"))]
    pub(super) fn close_door(&self) {
        #[cfg(target_os = "linux")]
        let watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        #[cfg(target_os = "linux")]
        for watched in watched.iter().filter(|watched| !watched.passed) {
            if let Err(error) = linux::refuse_all(&watched.socket) {
                tracing::warn!("cannot stop the flow into a socket while draining: {error}");
            }
        }
    }
}

#[cfg(target_os = "linux")]
use linux::memory;
#[cfg(target_os = "linux")]
pub(super) use linux::option_len;

#[cfg(not(target_os = "linux"))]
fn memory(_socket: &Socket) -> Option<Memory> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{Memory, Socket, io};
    use socket2::SockFilter;
    use std::os::fd::AsRawFd;

    /// `SK_MEMINFO_RMEM_ALLOC`, `SK_MEMINFO_RCVBUF`, `SK_MEMINFO_DROPS` and the number of values
    /// that the kernel knows (`linux/sock_diag.h`).
    const USED: usize = 0;
    const SIZE: usize = 1;
    const DROPS: usize = 8;
    const VALUES: usize = 9;

    /// Size of a socket option, in the type that system calls take.
    #[expect(clippy::cast_possible_truncation, reason = "socket options are a few bytes")]
    pub(in crate::receive) const fn option_len<T>() -> libc::socklen_t {
        size_of::<T>() as libc::socklen_t
    }

    pub(super) fn force_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
        let value = libc::c_int::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the option takes an int, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const value).cast(),
                option_len::<libc::c_int>(),
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The socket's own counters (Linux 4.12).
    pub(super) fn memory(socket: &Socket) -> Option<Memory> {
        let mut values = [0_u32; VALUES];
        let mut size = option_len::<[u32; VALUES]>();
        // SAFETY: the kernel writes at most `size` bytes to `values`, which has that many.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                (&raw mut values).cast(),
                &raw mut size,
            )
        };
        let complete = result == 0 && size as usize > DROPS * size_of::<u32>();
        let [used, size, drops] = [values[USED], values[SIZE], values[DROPS]];
        complete.then_some(Memory { used, size, drops })
    }

    /// A filter that keeps zero bytes of every datagram, which drops it.
    pub(super) fn refuse_all(socket: &Socket) -> io::Result<()> {
        let code = u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap_or_default();
        socket.attach_filter(&[SockFilter::new(code, 0, 0, 0)])
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn loopback() -> Socket {
        open(SocketAddr::from(([127, 0, 0, 1], 0)), false, false).expect("loopback")
    }

    #[test]
    fn the_granted_buffer_is_read_back() {
        let socket = loopback();
        assert_eq!(set_buffer(&socket, 64 * 1024).expect("buffer"), 64 * 1024);
        // The kernel has a least value; what it grants is told, not what was asked for.
        assert!(set_buffer(&socket, 1).expect("buffer") > 1);
    }

    #[test]
    fn each_failure_to_bind_says_what_to_do() {
        let address = SocketAddr::from(([192, 0, 2, 1], 514));
        for (kind, text, advice) in [
            (io::ErrorKind::AddrInUse, "in use", "stop the other program"),
            (io::ErrorKind::AddrNotAvailable, "192.0.2.1", "address"),
            (io::ErrorKind::PermissionDenied, "514", "CAP_NET_BIND_SERVICE"),
        ] {
            let shown = explain(Listener::LogEvents, address, kind.into()).to_string();
            assert!(shown.contains(text) && shown.contains(advice), "{shown}");
        }
    }

    #[test]
    fn a_closed_door_counts_what_comes_after() {
        let socket = loopback();
        let address = local_address(&socket).expect("address");
        let bound = Bound { socket, listener: Listener::LogEvents, address, passed: false };
        let drops = KernelDrops::new(std::iter::once(&bound)).expect("clone");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("sender");
        sender.send_to(b"before", address).expect("send");
        drops.close_door();
        for _ in 0..3 {
            sender.send_to(b"after", address).expect("send");
        }
        assert_eq!(drops.total(Listener::LogEvents), 3);
        assert_eq!(drops.total(Listener::LogEvents), 3, "monotonic, not counted twice");
        assert_eq!(drops.total(Listener::UserEvents), 0);
        let mut buffer = [std::mem::MaybeUninit::new(0); 16];
        assert_eq!(bound.socket.recv(&mut buffer).expect("queued before"), 6);
    }

    #[test]
    fn the_door_of_a_passed_socket_stays_open_and_its_drops_count_on() {
        let socket = loopback();
        set_buffer(&socket, 1).expect("the smallest buffer");
        let address = local_address(&socket).expect("address");
        let bound = Bound { socket, listener: Listener::LogEvents, address, passed: true };
        let sender = UdpSocket::bind("127.0.0.1:0").expect("sender");
        for _ in 0..100 {
            sender.send_to(&[0; 372], address).expect("send");
        }
        let total = || {
            let drops = KernelDrops::new(std::iter::once(&bound)).expect("clone");
            drops.close_door();
            drops.total(Listener::LogEvents)
        };
        let dropped = total();
        assert!(dropped > 0 && dropped < 100, "{dropped}");
        assert_eq!(total(), dropped, "for the next process too");
        let mut buffer = [std::mem::MaybeUninit::new(0); 400];
        for _ in dropped..100 {
            assert_eq!(bound.socket.recv(&mut buffer).expect("queued before"), 372);
        }
        sender.send_to(b"after", address).expect("send");
        assert_eq!(bound.socket.recv(&mut buffer).expect("not dropped"), 5);
    }

    #[test]
    fn names_are_parsed_and_short_ones_refused() {
        let v4 = [2, 0, 0, 53, 10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(source_of(&v4), Some(SocketAddr::from(([10, 1, 2, 3], 53))));
        assert_eq!(source_of(&v4[..7]), None);
        let mut v6 = [0; 28];
        v6[0] = 10;
        v6[23] = 1;
        assert_eq!(source_of(&v6), Some(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0))));
        assert_eq!(source_of(&[]), None);
        assert_eq!(source_of(&[1, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
