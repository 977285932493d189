//! Sockets of the load: datagrams gathered and handed to the kernel many at a time.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use super::load::{LoadError, Report};
use crate::event::{Kind, Listener};

/// Datagrams for one system call. Beyond 64 the call's own cost no longer shows beside the
/// kernel's work per datagram.
pub(super) const BATCH: usize = 64;

/// How long to wait when the kernel has no room for another datagram.
const ROOM_WAIT: Duration = Duration::from_micros(100);

/// One connected socket and the datagrams that wait for it.
///
/// Connected, because only then does the kernel say that nobody listens at the other end.
#[derive(Debug)]
pub(super) struct Lane {
    socket: UdpSocket,
    target: SocketAddr,
    listener: Listener,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    kinds: Vec<Option<Kind>>,
    #[cfg(target_os = "linux")]
    headers: nix::sys::socket::MultiHeaders<()>,
}

impl Lane {
    /// A socket towards `target`. With `source`, one towards an IPv4 target sends from the address
    /// 127.0.0.`source`.
    pub(super) fn connect(
        target: SocketAddr,
        listener: Listener,
        source: Option<u8>,
    ) -> Result<Self, LoadError> {
        let local = match (target, source) {
            (SocketAddr::V4(_), Some(source)) => {
                SocketAddr::from((Ipv4Addr::new(127, 0, 0, source), 0))
            }
            (SocketAddr::V4(_), None) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            (SocketAddr::V6(_), _) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(local)
            .map_err(|error| LoadError::Bind { address: local.ip(), error })?;
        socket.connect(target).map_err(|error| LoadError::Send { target, error })?;
        Ok(Self {
            socket,
            target,
            listener,
            bytes: Vec::new(),
            ends: Vec::with_capacity(BATCH),
            kinds: Vec::with_capacity(BATCH),
            #[cfg(target_os = "linux")]
            headers: nix::sys::socket::MultiHeaders::preallocate(BATCH, None),
        })
    }

    /// Adds the datagram that `write` appends to the buffer; a full batch has to be sent first.
    pub(super) fn push(&mut self, kind: Option<Kind>, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
        self.kinds.push(kind);
    }

    /// Whether the batch is full.
    pub(super) fn is_full(&self) -> bool {
        self.ends.len() >= BATCH
    }

    /// Sends everything gathered, and counts what the kernel took.
    pub(super) fn flush(&mut self, report: &mut Report) -> Result<(), LoadError> {
        let mut first = 0;
        while first < self.ends.len() {
            match self.send_from(first) {
                Ok(taken) => {
                    let start = self.start_of(first);
                    let last = first + taken;
                    let bytes = self.start_of(last) - start;
                    report.count(self.listener, &self.kinds[first..last], bytes);
                    first = last;
                }
                Err(error) => report.excuse(self.target, error)?,
            }
        }
        self.bytes.clear();
        self.ends.clear();
        self.kinds.clear();
        Ok(())
    }

    fn start_of(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1] }
    }

    /// Hands the datagrams from `first` on to the kernel; how many it took, at least one.
    #[cfg(target_os = "linux")]
    fn send_from(&mut self, first: usize) -> io::Result<usize> {
        use std::io::IoSlice;
        use std::os::fd::AsRawFd;

        use nix::sys::socket::{ControlMessage, MsgFlags, sendmmsg};
        use smallvec::SmallVec;

        let mut start = self.start_of(first);
        let slices: SmallVec<[[IoSlice<'_>; 1]; BATCH]> = self.ends[first..]
            .iter()
            .map(|&end| [IoSlice::new(&self.bytes[std::mem::replace(&mut start, end)..end])])
            .collect();
        // The socket is connected: no address, no control messages.
        let addresses = [None; BATCH];
        let control: [ControlMessage<'_>; 0] = [];
        let descriptor = self.socket.as_raw_fd();
        let headers = &mut self.headers;
        let taken =
            sendmmsg(descriptor, headers, slices.iter(), addresses, control, MsgFlags::empty())?;
        Ok(taken.count())
    }

    /// Hands the datagram at `first` to the kernel.
    #[cfg(not(target_os = "linux"))]
    fn send_from(&mut self, first: usize) -> io::Result<usize> {
        self.socket.send(&self.bytes[self.start_of(first)..self.ends[first]])?;
        Ok(1)
    }
}

impl Report {
    fn count(&mut self, listener: Listener, kinds: &[Option<Kind>], bytes: usize) {
        self.by_listener[listener as usize] += kinds.len() as u64;
        self.bytes += bytes as u64;
        for kind in kinds.iter().flatten() {
            self.by_kind[*kind as usize] += 1;
        }
    }

    /// Notes an error after which the same datagram can be tried again; others end the load.
    fn excuse(&mut self, target: SocketAddr, error: io::Error) -> Result<(), LoadError> {
        #[cfg(target_os = "linux")]
        let no_room = error.raw_os_error() == Some(nix::libc::ENOBUFS);
        #[cfg(not(target_os = "linux"))]
        let no_room = false;
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            // The answer to an earlier datagram; this one was not sent because of it.
            io::ErrorKind::ConnectionRefused => self.refused += 1,
            io::ErrorKind::WouldBlock => self.wait_for_room(),
            _ if no_room => self.wait_for_room(),
            _ => return Err(LoadError::Send { target, error }),
        }
        Ok(())
    }

    fn wait_for_room(&mut self) {
        self.waits += 1;
        thread::sleep(ROOM_WAIT);
    }
}
