//! Memory and uptime of the process: a log line, and points of `butlersos_memory_usage`.
//!
//! The fields are named after the memory of Node.js. For a native process, on Linux, from
//! `/proc/self/status`: `process_memory` is the resident set (`VmRSS`); `heap_total` what is mapped
//! for data (`VmData`), `heap_used` the part of the resident set that belongs to no file (`RssAnon`),
//! `external` the part that does or is shared (`RssFile` + `RssShmem`), the buffer pool among it where
//! it is shared with the kernel. Elsewhere they are 0.

use std::fs;
use std::time::Duration;

use crate::schedule::Schedule;

use crate::deliver::influxdb::point::{Point, Value};
use crate::observe::logging::Level;

/// When and where memory and uptime are shown.
#[derive(Clone, Debug)]
pub struct UptimeSettings {
    /// When the next is due.
    pub schedule: Schedule,
    /// Level of the log line.
    pub level: Level,
    /// Value of the tag `butler_sos_instance`; `None`: no points.
    pub instance: Option<String>,
}

/// Memory of this process in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Anonymous memory in use.
    pub heap_used: u64,
    /// Memory mapped for data, used or not.
    pub heap_total: u64,
    /// Resident memory that is mapped from files or shared.
    pub external: u64,
    /// All resident memory.
    pub process_memory: u64,
}

impl Memory {
    /// Reads it now; zeros where the system does not say.
    #[must_use]
    pub fn read() -> Self {
        fs::read_to_string("/proc/self/status").map_or_else(|_| Self::default(), |s| Self::of(&s))
    }

    fn of(status: &str) -> Self {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|line| line.trim().strip_suffix("kB"));
            number.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        Self {
            heap_used: bytes("RssAnon"),
            heap_total: bytes("VmData"),
            external: bytes("RssFile") + bytes("RssShmem"),
            process_memory: bytes("VmRSS"),
        }
    }

    /// The point.
    #[must_use]
    pub fn point(self, instance: &str) -> Point<'_> {
        Point::new("butlersos_memory_usage")
            .tag("butler_sos_instance", instance)
            .tag("version", env!("CARGO_PKG_VERSION"))
            .field("heap_used", Value::Number(megabytes(self.heap_used)))
            .field("heap_total", Value::Number(megabytes(self.heap_total)))
            .field("external", Value::Number(megabytes(self.external)))
            .field("process_memory", Value::Number(megabytes(self.process_memory)))
    }

    /// Writes the log line.
    pub fn log(self, level: Level, uptime: Duration) {
        let (hours, minutes) = (uptime.as_secs() / 3600, uptime.as_secs() / 60 % 60);
        let memory = [self.process_memory, self.heap_used, self.external].map(megabytes);
        let [resident, heap, external] = memory;
        let text = format!(
            "uptime {hours} h {minutes} min, memory {resident:.1} MB (heap {heap:.1} MB, mapped \
             {external:.1} MB)"
        );
        match level {
            Level::Error => tracing::error!("{text}"),
            Level::Warn => tracing::warn!("{text}"),
            Level::Info => tracing::info!("{text}"),
            Level::Verbose => tracing::debug!("{text}"),
            Level::Debug | Level::Silly => tracing::trace!("{text}"),
        }
    }
}

/// As Butler SOS has it: 1024 × 1024 bytes, to two decimals.
fn megabytes(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 bytes")]
    let bytes = bytes as f64;
    (bytes / (1024.0 * 1024.0) * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::batch::Buffer;
    use crate::deliver::influxdb::Version;

    #[test]
    fn the_kernel_says_how_much_memory_is_in_use() {
        let status = "Name:\tringside\nVmRSS:\t    4096 kB\nRssAnon:\t 1024 kB\nRssFile:\t 2048 kB\n\
                      RssShmem:\t1024 kB\nVmData:\t 8192 kB\n";
        let memory = Memory::of(status);
        let mut out = Buffer::default();
        memory.point("DEV").write(Version::V2, 1, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            format!(
                "butlersos_memory_usage,butler_sos_instance=DEV,version={} \
                 heap_used=1,heap_total=8,external=3,process_memory=4 1\n",
                env!("CARGO_PKG_VERSION")
            )
        );
    }
}
