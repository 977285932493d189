//! Sockets that systemd has bound and passes on (socket activation, `sd_listen_fds(3)`).
//!
//! They outlive the process. What arrives between one process and the next waits in the socket's
//! buffer, so a restart loses nothing that fits there. Therefore the drain leaves such a socket open
//! and unread, and what the kernel drops there is counted since the socket was opened, whoever read
//! it then.

use std::net::SocketAddr;
use std::sync::Arc;

use socket2::Socket;

use super::settings::ReceiveError;

/// The sockets that this process was started with; usually none.
#[derive(Clone, Debug, Default)]
pub struct Passed(Arc<[PassedSocket]>);

#[derive(Debug)]
struct PassedSocket {
    socket: Socket,
    address: SocketAddr,
    /// Takes IPv4 too.
    dual_stack: bool,
}

impl Passed {
    /// What `LISTEN_FDS` tells, if `LISTEN_PID` says that it is meant for this process. The variables
    /// are removed from the environment: call it before other threads read that.
    pub fn from_environment() -> Result<Self, ReceiveError> {
        #[cfg(unix)]
        {
            let mut passed = listenfd::ListenFd::from_env();
            let mut sockets = Vec::with_capacity(passed.len());
            for index in 0..passed.len() {
                let socket = passed
                    .take_udp_socket(index)
                    .map_err(|source| ReceiveError::NotOurKind { source })?;
                sockets.extend(socket.map(Socket::from));
            }
            Self::of(sockets)
        }
        #[cfg(not(unix))]
        Ok(Self::default())
    }

    /// Bound UDP sockets.
    pub fn of(sockets: impl IntoIterator<Item = Socket>) -> Result<Self, ReceiveError> {
        let passed = |socket: Socket| {
            let address = super::socket::local_address(&socket)?;
            let dual_stack =
                address.ip().is_ipv6() && address.ip().is_unspecified() && !socket.only_v6()?;
            Ok(PassedSocket { socket, address, dual_stack })
        };
        let sockets: std::io::Result<_> = sockets.into_iter().map(passed).collect();
        sockets.map(Self).map_err(|source| ReceiveError::NotOurKind { source })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// To take them one by one.
    pub(super) fn choice(&self) -> Choice<'_> {
        Choice { left: self.0.iter().collect() }
    }
}

/// Those that no listener has taken yet.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    left: Vec<&'a PassedSocket>,
}

impl Choice<'_> {
    /// The socket that fits this address best: it has its port, and its family or both. The rest of
    /// the address is systemd's to say.
    pub(super) fn take(&mut self, wanted: SocketAddr) -> Option<std::io::Result<Taken>> {
        let fits = self.left.iter().enumerate().filter(|(_, passed)| {
            let family = passed.dual_stack || passed.address.is_ipv4() == wanted.is_ipv4();
            family && passed.address.port() == wanted.port()
        });
        let (at, _) = fits.min_by_key(|(_, passed)| {
            let other_family = passed.address.is_ipv4() != wanted.is_ipv4();
            (other_family, passed.address != wanted)
        })?;
        let PassedSocket { socket, address, dual_stack } = self.left.swap_remove(at);
        let (address, dual_stack) = (*address, *dual_stack);
        Some(socket.try_clone().map(|socket| Taken { socket, address, dual_stack }))
    }

    /// Everything must have been taken: what nobody reads would fill up.
    pub(super) fn finish(self) -> Result<(), ReceiveError> {
        match self.left.first() {
            None => Ok(()),
            Some(passed) => Err(ReceiveError::NoListenerFor { address: passed.address }),
        }
    }
}

/// A socket for a listener.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) socket: Socket,
    pub(super) address: SocketAddr,
    dual_stack: bool,
}

impl Taken {
    /// Whether it also serves this address.
    pub(super) fn covers(&self, address: SocketAddr) -> bool {
        let family = self.dual_stack || self.address.is_ipv4() == address.is_ipv4();
        let any = self.address.ip().is_unspecified() && family;
        self.address == address || (any && self.address.port() == address.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Type};

    fn bound(address: &str, only_v6: bool) -> Socket {
        let address: SocketAddr = address.parse().expect("an address");
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).expect("socket");
        if address.is_ipv6() {
            socket.set_only_v6(only_v6).expect("an option");
        }
        socket.bind(&address.into()).expect("bind");
        socket
    }

    fn at(ip: &str, port: u16) -> SocketAddr {
        SocketAddr::new(ip.parse().expect("an address"), port)
    }

    #[test]
    fn sockets_go_by_port_and_family() {
        let passed = Passed::of([
            bound("127.0.0.1:0", false),
            bound("[::1]:0", false),
            bound("127.0.0.1:0", false),
        ])
        .expect("sockets");
        let ports: Vec<u16> = passed.0.iter().map(|passed| passed.address.port()).collect();
        let mut choice = passed.choice();
        assert!(choice.take(at("127.0.0.1", ports[1])).is_none(), "of the other family");
        for (ip, index) in [("0.0.0.0", 2), ("::1", 1)] {
            let taken = choice.take(at(ip, ports[index])).expect("one").expect("a clone");
            assert_eq!(taken.address, passed.0[index].address);
            assert!(choice.take(at(ip, ports[index])).is_none(), "taken");
        }
        let error = choice.finish().expect_err("one is left").to_string();
        assert!(error.contains(&ports[0].to_string()), "{error}");
        assert!(error.contains("ListenDatagram="), "{error}");
    }

    #[test]
    fn a_dual_stack_socket_serves_both_families() {
        let passed = Passed::of([bound("[::]:0", false)]).expect("sockets");
        let port = passed.0[0].address.port();
        let mut choice = passed.choice();
        let taken = choice.take(at("127.0.0.1", port)).expect("it fits").expect("a clone");
        assert!(taken.covers(at("::1", port)) && taken.covers(at("10.0.0.1", port)));
        assert!(!taken.covers(at("::1", port.wrapping_add(1))));
        choice.finish().expect("all taken");

        let passed = Passed::of([bound("[::]:0", true)]).expect("sockets");
        let port = passed.0[0].address.port();
        assert!(passed.choice().take(at("127.0.0.1", port)).is_none(), "IPv6 only");
    }
}
