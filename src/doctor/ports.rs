//! Are the ports free, and if not, who has them?

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use super::{Finding, Place, ReceivePlaces, machine};
use crate::event::Listener;
use crate::observe::http::{self, BindSettings};
use crate::receive::{ReceiveError, Settings, inspect};

/// An HTTP address to listen on.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// What is bound.
    pub bind: BindSettings,
    /// The key of its port.
    pub place: Place,
}

pub(super) fn examine(
    receive: &Settings,
    places: &ReceivePlaces,
    endpoints: &[Endpoint],
) -> Vec<Finding> {
    let listeners = Listener::ALL.into_iter().filter_map(|listener| {
        receive.listeners[listener as usize].as_ref()?;
        Some(udp(receive, listener).at(&places.ports[listener as usize]))
    });
    listeners
        .chain(endpoints.iter().map(|endpoint| tcp(&endpoint.bind).at(&endpoint.place)))
        .collect()
}

fn udp(receive: &Settings, listener: Listener) -> Finding {
    const TOPIC: &str = "port";
    match inspect::bind(receive, listener) {
        Ok(addresses) => {
            let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            Finding::ok(TOPIC, format!("UDP {} is free", shown.join(" and ")))
        }
        Err(ReceiveError::PortInUse { address, .. }) => {
            taken(Protocol::Udp, address.port(), &format!("UDP {address}"))
        }
        Err(error) => {
            let text = error.to_string();
            let (what, hint) = machine::split(&text);
            Finding::error(TOPIC, what, hint)
        }
    }
}

fn tcp(bind: &BindSettings) -> Finding {
    const TOPIC: &str = "port";
    match http::Server::bind(std::slice::from_ref(bind)) {
        Ok(server) => {
            let shown: Vec<String> = server.addresses().map(|(_, it)| it.to_string()).collect();
            Finding::ok(TOPIC, format!("TCP {} of the {} is free", shown.join(" and "), bind.part))
        }
        Err(http::Error::Bind { host, port, source, .. })
            if source.kind() == io::ErrorKind::AddrInUse =>
        {
            taken(Protocol::Tcp, port, &format!("TCP {host}:{port} of the {}", bind.part))
        }
        Err(error) => {
            let text = error.to_string();
            let (what, hint) = machine::split(&text);
            Finding::error(TOPIC, what, hint)
        }
    }
}

/// A port that Ringside has, or that systemd keeps for it, is as it should be when this is the file of
/// that Ringside; which cannot be known.
fn taken(protocol: Protocol, port: u16, what: &str) -> Finding {
    const TOPIC: &str = "port";
    match Holder::of(Path::new("/proc"), protocol, port) {
        Some(holder) if ["ringside", "systemd"].contains(&holder.name.as_str()) => {
            Finding::warning(
                TOPIC,
                format!("{what} is in use by {holder}"),
                "nothing, if that is the Ringside of this file at work, or its socket unit; else choose another \
             port",
            )
        }
        Some(holder) => Finding::error(
            TOPIC,
            format!("{what} is in use by {holder}"),
            "stop it, or choose another port",
        ),
        None => Finding::error(
            TOPIC,
            format!("{what} is in use by a process of another user"),
            "`ss -ulpn` and `ss -tlpn` as root name it; stop it, or choose another port",
        ),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Udp,
    Tcp,
}

/// A process that has a socket.
#[derive(Debug, PartialEq, Eq)]
struct Holder {
    name: String,
    pid: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

impl Holder {
    /// Looks through the open files of all processes that this user may look into.
    fn of(proc: &Path, protocol: Protocol, port: u16) -> Option<Self> {
        let tables = match protocol {
            Protocol::Udp => ["net/udp", "net/udp6"],
            Protocol::Tcp => ["net/tcp", "net/tcp6"],
        };
        let texts = tables.map(|table| fs::read_to_string(proc.join(table)).unwrap_or_default());
        let links: Vec<String> = texts
            .iter()
            .flat_map(|text| sockets(text, protocol, port))
            .map(|inode| format!("socket:[{inode}]"))
            .collect();
        for entry in fs::read_dir(proc).ok()?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
            let mut targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
            if targets.any(|target| links.iter().any(|link| target.as_os_str() == link.as_str())) {
                let name = fs::read_to_string(entry.path().join("comm")).ok()?;
                return Some(Self { name: name.trim_end().to_owned(), pid });
            }
        }
        None
    }
}

/// The inodes of the sockets bound to a port, of a table of the kernel: `sl local_address rem_address st
/// tx:rx tr:when retrnsmt uid timeout inode …`, addresses in hexadecimal.
fn sockets(table: &str, protocol: Protocol, port: u16) -> impl Iterator<Item = u64> {
    /// `TCP_LISTEN`
    const LISTENING: &str = "0A";
    table.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (_, local) = fields.next()?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        let wanted = u16::from_str_radix(local, 16) == Ok(port)
            && (protocol == Protocol::Udp || state == LISTENING);
        let inode = fields.nth(5)?.parse().ok()?;
        wanted.then_some(inode)
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn sockets_are_found_by_port_and_state() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  \
                     timeout inode\n   \
                     0: 0100007F:270D 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        \
                     0 12345 1 0 100 0\n   \
                     1: 0100007F:270D 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        \
                     0 12346 1 0\n   \
                     2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        \
                     0 12347 1 0\n";
        let found = |protocol| sockets(table, protocol, 9997).collect::<Vec<_>>();
        assert_eq!(found(Protocol::Tcp), [12_345]);
        assert_eq!(found(Protocol::Udp), [12_345, 12_346]);
        assert_eq!(sockets("header\nshort line\n", Protocol::Udp, 1).count(), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_that_has_a_port_is_named() {
        let (udp, tcp) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        for (protocol, port) in [
            (Protocol::Udp, udp.local_addr().unwrap().port()),
            (Protocol::Tcp, tcp.local_addr().unwrap().port()),
        ] {
            let holder = Holder::of(Path::new("/proc"), protocol, port).expect("this process");
            assert_eq!(holder.pid, std::process::id());
            let finding = taken(protocol, port, "it");
            assert_eq!(finding.level, crate::doctor::Level::Error);
            assert!(finding.what.contains(&holder.name), "{finding}");
        }
    }
}
