//! The machine: what the kernel grants to the receivers.

use std::fs;
use std::path::Path;

use super::{Finding, ReceivePlaces, bytes};
use crate::receive::inspect::{self, Clock, PoolBytes};
use crate::receive::{BackendChoice, Settings};

/// Beside some dozen sockets, rings and files: 64 connections on each of four HTTP addresses, and some
/// requests under way to each destination.
const OPEN_FILES_MIN: u64 = 512;

pub(super) fn examine(receive: &Settings, places: &ReceivePlaces) -> Vec<Finding> {
    let probed = match receive.backend {
        BackendChoice::Tokio => None,
        BackendChoice::Auto | BackendChoice::IoUring => Some(inspect::io_uring(receive)),
    };
    let mut findings = vec![io_uring(receive.backend, probed.as_ref()).at(&places.backend)];
    findings.push(match inspect::socket_buffer(receive) {
        Ok(granted) => socket_buffer(granted, receive.socket_buffer),
        Err(error) => Finding::error("socket buffer", format!("no socket: {error}"), ""),
    });
    if let Some(finding) = findings.last_mut() {
        finding.place = Some(places.socket_buffer.clone());
    }
    let pool = inspect::pool_bytes(receive);
    findings.extend(available_memory().map(|left| memory(pool, left).at(&places.slots)));
    findings.extend(limits(matches!(probed, Some(Ok(())))));
    findings.push(clock(inspect::clock()));
    findings
}

fn io_uring(wanted: BackendChoice, probed: Option<&Result<(), String>>) -> Finding {
    const TOPIC: &str = "io_uring";
    match (wanted, probed) {
        (BackendChoice::Tokio, _) | (_, None) => Finding::ok(TOPIC, "is not asked for"),
        (_, Some(Ok(()))) => {
            Finding::ok(TOPIC, "is permitted, with the rings of buffers that the receivers need")
        }
        (BackendChoice::IoUring, Some(Err(reason))) => {
            let (what, hint) = split(reason);
            Finding::error(
                TOPIC,
                format!("is not to be had: {what}; Ringside does not start"),
                format!("{hint}; or set the key to auto or tokio"),
            )
        }
        (BackendChoice::Auto, Some(Err(reason))) => {
            let (what, hint) = split(reason);
            Finding::warning(
                TOPIC,
                format!("is not to be had: {what}; tokio is used, which costs more per event"),
                hint,
            )
        }
    }
}

/// What is wrong, and what to do, of a text that says both.
pub(super) fn split(text: &str) -> (&str, &str) {
    text.split_once("; ").unwrap_or((text, ""))
}

fn socket_buffer(granted: usize, wanted: usize) -> Finding {
    const TOPIC: &str = "socket buffer";
    let (have, want) = (bytes(granted as u64), bytes(wanted as u64));
    if granted >= wanted {
        return Finding::ok(TOPIC, format!("{want} are granted"));
    }
    let max = fs::read_to_string("/proc/sys/net/core/rmem_max").ok();
    let max = max.map_or(String::new(), |max| format!(" (net.core.rmem_max is {})", max.trim()));
    Finding::warning(
        TOPIC,
        format!(
            "{have} are granted to this user instead of {want}{max}: bursts may be lost in the kernel"
        ),
        format!(
            "sysctl -w net.core.rmem_max={wanted}, and the line net.core.rmem_max = {wanted} in a file in \
             /etc/sysctl.d; or grant Ringside CAP_NET_ADMIN, as its service does"
        ),
    )
}

fn memory(pool: PoolBytes, available: u64) -> Finding {
    const TOPIC: &str = "memory";
    let PoolBytes { usual, most } = pool;
    let [left, usual_text, most_text] = [available, usual, most].map(bytes);
    if usual > available {
        return Finding::error(
            TOPIC,
            format!("{left} are left, and the receivers' slots alone take {usual_text}"),
            "lower receive.slots, or give the machine or container more memory",
        );
    }
    if most > available {
        return Finding::warning(
            TOPIC,
            format!(
                "{left} are left: enough for usual events ({usual_text}), but if each slot held the \
                 longest datagram that is let in, the slots would take {most_text}"
            ),
            "lower receive.slots or maxMessageSize, or give the machine or container more memory",
        );
    }
    Finding::ok(TOPIC, format!("{left} are left; the receivers' slots take {most_text} at most"))
}

/// Bytes that can be had without swapping: what the machine has left, or what the container's limit
/// allows, if that is less.
fn available_memory() -> Option<u64> {
    let left = mem_available(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let limit = cgroup_left();
    Some(limit.map_or(left, |limit| limit.min(left)))
}

/// `MemAvailable:    1234 kB`
fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// What the limit of this process's own control group (version 2) leaves.
fn cgroup_left() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = Path::new("/sys/fs/cgroup").join(group);
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
    };
    // `max` is no number: no limit.
    Some(number("memory.max")?.saturating_sub(number("memory.current").unwrap_or_default()))
}

/// Limits of the process. It inherits them: as a service it may have others.
#[cfg(target_os = "linux")]
fn limits(with_rings: bool) -> Vec<Finding> {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
    let limit = |resource| getrlimit(resource).ok().map(|(soft, _)| soft);
    let mut findings = Vec::new();
    if let Some(files) = limit(Resource::RLIMIT_NOFILE) {
        findings.push(open_files(files));
    }
    if let Some(locked) = limit(Resource::RLIMIT_MEMLOCK).filter(|_| with_rings) {
        let shown = if locked == RLIM_INFINITY { "no limit".to_owned() } else { bytes(locked) };
        findings.push(Finding::ok("locked memory", format!("{shown}: enough for the rings")));
    }
    findings
}

#[cfg(not(target_os = "linux"))]
fn limits(_: bool) -> Vec<Finding> {
    Vec::new()
}

#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "asked on Linux only"))]
fn open_files(limit: u64) -> Finding {
    const TOPIC: &str = "open files";
    if limit < OPEN_FILES_MIN {
        return Finding::warning(
            TOPIC,
            format!("{limit} at most: under load connections or files cannot be opened"),
            format!("raise `ulimit -n` (LimitNOFILE= in systemd) to {OPEN_FILES_MIN} or more"),
        );
    }
    Finding::ok(TOPIC, format!("{limit} at most"))
}

fn clock(state: Option<Clock>) -> Finding {
    const TOPIC: &str = "clock";
    match state {
        None => Finding::ok(TOPIC, "the system does not say whether it is synchronised"),
        Some(Clock { synchronised: true, error_max_us }) => Finding::ok(
            TOPIC,
            format!("is synchronised, within {} ms", error_max_us.div_ceil(1000)),
        ),
        Some(Clock { synchronised: false, .. }) => Finding::warning(
            TOPIC,
            "is not synchronised: events get the time at which they come in, and dashboards that compare \
             hosts show it shifted",
            "run an NTP client: systemd-timesyncd or chrony; in a container or virtual machine, its host",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn io_uring_is_judged_by_what_was_asked_for() {
        use BackendChoice::{Auto, IoUring, Tokio};
        let refused = Err("Operation not permitted; the host forbids it".to_owned());
        assert_eq!(io_uring(Auto, Some(&Ok(()))).level, Level::Ok);
        assert_eq!(io_uring(Tokio, None).level, Level::Ok);
        let finding = io_uring(Auto, Some(&refused));
        assert_eq!((finding.level, finding.hint.as_str()), (Level::Warning, "the host forbids it"));
        let finding = io_uring(IoUring, Some(&refused));
        assert_eq!(finding.level, Level::Error);
        assert!(finding.hint.contains("auto"), "{finding}");
    }

    #[test]
    fn a_small_buffer_names_the_sysctl_line() {
        assert_eq!(socket_buffer(100, 100).level, Level::Ok);
        let finding = socket_buffer(212_992, 32 << 20);
        assert_eq!(finding.level, Level::Warning);
        assert!(finding.hint.starts_with("sysctl -w net.core.rmem_max=33554432"), "{finding}");
        assert!(finding.what.starts_with("208.0 KiB are granted"), "{finding}");
    }

    #[test]
    fn memory_is_enough_for_all_for_usual_events_or_for_nothing() {
        let pool = PoolBytes { usual: 32 << 20, most: 512 << 20 };
        assert_eq!(memory(pool, 1 << 30).level, Level::Ok);
        assert_eq!(memory(pool, 100 << 20).level, Level::Warning);
        assert_eq!(memory(pool, 10 << 20).level, Level::Error);
        assert_eq!(mem_available("MemFree: 1 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(mem_available("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn limits_and_clock() {
        assert_eq!(open_files(1024).level, Level::Ok);
        assert_eq!(open_files(64).level, Level::Warning);
        assert_eq!(clock(None).level, Level::Ok);
        let state = |synchronised| Some(Clock { synchronised, error_max_us: 1500 });
        assert!(clock(state(true)).what.ends_with("within 2 ms"));
        assert_eq!(clock(state(false)).level, Level::Warning);
    }
}
