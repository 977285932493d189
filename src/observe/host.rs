//! What the kernel itself counts, for the whole host: losses before a datagram reaches a socket.
//!
//! On Linux from `/proc/net` (of the process's network namespace); elsewhere nothing is reported.
//! These numbers are shown beside the ledger, never mixed in: other programs cause them too.

use std::fmt;
use std::fs;

/// The counters of one version of IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpCounters {
    /// UDP datagrams that could not be delivered: `InErrors`.
    pub udp_in_errors: u64,
    /// UDP datagrams dropped because a socket's receive buffer was full: `RcvbufErrors`.
    pub udp_rcvbuf_errors: u64,
    /// Fragmented datagrams that could not be put together: `ReasmFails`.
    pub reassembly_failures: u64,
}

/// What happened between the network card and the IP stack, over all processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Softnet {
    /// Packets dropped because a processor's backlog was full.
    pub dropped: u64,
    /// Times that receiving stopped with work left because its budget was used up.
    pub time_squeezed: u64,
}

/// The kernel's counters; `None` where the kernel does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounters {
    /// `/proc/net/snmp`
    pub ipv4: Option<IpCounters>,
    /// `/proc/net/snmp6`
    pub ipv6: Option<IpCounters>,
    /// `/proc/net/softnet_stat`
    pub softnet: Option<Softnet>,
    /// Resident memory of this process in bytes: `VmRSS` of `/proc/self/status`.
    pub resident_bytes: Option<u64>,
}

impl HostCounters {
    /// Reads them now: four small files. All `None` on other systems than Linux.
    #[must_use]
    pub fn read() -> Self {
        if !cfg!(target_os = "linux") {
            return Self::default();
        }
        let read = |path| fs::read_to_string(path).ok();
        Self {
            ipv4: read("/proc/net/snmp").and_then(|text| snmp(&text)),
            ipv6: read("/proc/net/snmp6").and_then(|text| snmp6(&text)),
            softnet: read("/proc/net/softnet_stat").and_then(|text| softnet(&text)),
            resident_bytes: read("/proc/self/status").and_then(|text| resident(&text)),
        }
    }
}

impl fmt::Display for HostCounters {
    /// One line per counter and what it hints at; `unknown` where the kernel does not say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (version, counters) in [("IPv4", self.ipv4), ("IPv6", self.ipv6)] {
            let Some(counters) = counters else {
                writeln!(f, "host: {version}: unknown")?;
                continue;
            };
            let IpCounters { udp_in_errors, udp_rcvbuf_errors, reassembly_failures } = counters;
            writeln!(f, "host: {version}: Udp InErrors {udp_in_errors} (not delivered, in all)")?;
            writeln!(
                f,
                "host: {version}: Udp RcvbufErrors {udp_rcvbuf_errors} (full socket buffers)"
            )?;
            writeln!(
                f,
                "host: {version}: Ip ReasmFails {reassembly_failures} (lost fragments: events over \
                 1472 bytes travel in several)"
            )?;
        }
        match self.softnet {
            Some(Softnet { dropped, .. }) => {
                writeln!(f, "host: softnet dropped {dropped} (raise net.core.netdev_max_backlog)")
            }
            None => writeln!(f, "host: softnet: unknown"),
        }
    }
}

/// `/proc/net/snmp`: for each protocol a line of names, then a line of numbers.
fn snmp(text: &str) -> Option<IpCounters> {
    let value = |protocol: &str, name: &str| {
        let mut lines = text.lines().filter(|line| line.split(' ').next() == Some(protocol));
        let (names, numbers) = (lines.next()?, lines.next()?);
        let at = names.split(' ').position(|field| field == name)?;
        numbers.split(' ').nth(at)?.parse().ok()
    };
    Some(IpCounters {
        udp_in_errors: value("Udp:", "InErrors")?,
        udp_rcvbuf_errors: value("Udp:", "RcvbufErrors")?,
        reassembly_failures: value("Ip:", "ReasmFails")?,
    })
}

/// `/proc/net/snmp6`: one name and number per line.
fn snmp6(text: &str) -> Option<IpCounters> {
    let value = |name: &str| {
        text.lines().find_map(|line| {
            let (found, number) = line.split_once(char::is_whitespace)?;
            (found == name).then(|| number.trim().parse().ok())?
        })
    };
    Some(IpCounters {
        udp_in_errors: value("Udp6InErrors")?,
        udp_rcvbuf_errors: value("Udp6RcvbufErrors")?,
        reassembly_failures: value("Ip6ReasmFails")?,
    })
}

/// `/proc/net/softnet_stat`: per processor a line of hexadecimal numbers: processed, dropped,
/// times squeezed, …
fn softnet(text: &str) -> Option<Softnet> {
    let mut sum = Softnet::default();
    for line in text.lines() {
        let mut numbers = line.split(' ').map(|field| u64::from_str_radix(field, 16));
        sum.dropped += numbers.nth(1)?.ok()?;
        sum.time_squeezed += numbers.next()?.ok()?;
    }
    Some(sum)
}

/// `VmRSS:      1234 kB`
fn resident(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name() {
        let text = "Ip: Forwarding ReasmOKs ReasmFails FragOKs\nIp: 1 2 3 4\n\
                    Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\nUdp: 5 6 7 8 9\n\
                    UdpLite: InErrors RcvbufErrors\nUdpLite: 100 101\n";
        let expected =
            IpCounters { udp_in_errors: 7, udp_rcvbuf_errors: 9, reassembly_failures: 3 };
        assert_eq!(snmp(text), Some(expected));
        assert_eq!(snmp("Ip: ReasmFails\nIp: 1\n"), None);
        let text = "Ip6ReasmFails   \t3\nUdp6InErrors  \t7\nUdp6RcvbufErrors \t9\n";
        assert_eq!(snmp6(text), Some(expected));
        assert_eq!(snmp6(""), None);
    }

    #[test]
    fn processors_are_added_up() {
        let text = "000016d3 0000000a 00000001 00000000\n00000001 00000001 0000000f 00000000\n";
        assert_eq!(softnet(text), Some(Softnet { dropped: 11, time_squeezed: 16 }));
        assert_eq!(softnet("00 zz 00"), None);
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 * 1024 * 1024));
    }

    #[test]
    fn shown_line_by_line() {
        let ip = IpCounters { udp_in_errors: 7, udp_rcvbuf_errors: 9, reassembly_failures: 3 };
        let softnet = Some(Softnet { dropped: 11, time_squeezed: 16 });
        let text = HostCounters { ipv4: Some(ip), softnet, ..Default::default() }.to_string();
        for line in [
            "host: IPv4: Udp InErrors 7 ",
            "host: IPv4: Udp RcvbufErrors 9 ",
            "host: IPv4: Ip ReasmFails 3 ",
            "host: IPv6: unknown",
            "host: softnet dropped 11 ",
        ] {
            assert!(text.lines().any(|found| found.starts_with(line)), "{line}: {text}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_kernel_is_understood() {
        let host = HostCounters::read();
        assert!(host.ipv4.is_some());
        assert!(host.softnet.is_some());
        assert!(host.resident_bytes.is_some_and(|bytes| bytes > 0));
    }
}
