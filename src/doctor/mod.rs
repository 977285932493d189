//! What of this machine and of the destinations would keep events from arriving, found out before any
//! is lost: `ringside check --host`.
//!
//! Nothing is changed by looking: sockets are bound and closed, a file is written and removed,
//! destinations are asked what leaves no trace. Each question has a time limit, and those that go over
//! the network are asked at the same time.
//!
//! | file | what |
//! |---|---|
//! | `machine` | io_uring, socket buffer, memory, limits, clock |
//! | `ports` | are the ports free, and who has them? |
//! | `folder` | can files be written, and is there room? |
//! | `certificate` | until when do certificates hold? |
//! | `server` | names, reachability, credentials |

mod certificate;
mod folder;
mod machine;
mod ports;
mod server;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use certificate::{Holds, PemFile};
pub use folder::{Folder, Limit};
pub use ports::Endpoint;
pub use server::{Host, Question, Server};

use crate::event::Listener;
use crate::receive;

/// Longest wait for a disk: one that takes longer to write 64 KiB is broken, or a network share that is
/// gone.
const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the file says what a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named on the command line.
    pub file: Arc<str>,
    /// Line, from 1: of the key, or of the nearest section that the file has.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key, from the root of the file.
    pub key: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.key)
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, or may, but not as well as it could.
    Warning,
    /// Events would not arrive.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at, in a word or two.
    pub topic: &'static str,
    /// Where the configuration speaks of it.
    pub place: Option<Place>,
    /// What was found. Never holds a secret.
    pub what: String,
    /// What to do; empty when there is nothing to do.
    pub hint: String,
}

impl Finding {
    fn ok(topic: &'static str, what: impl Into<String>) -> Self {
        Self { level: Level::Ok, topic, place: None, what: what.into(), hint: String::new() }
    }

    fn warning(topic: &'static str, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level: Level::Warning, hint: hint.into(), ..Self::ok(topic, what) }
    }

    fn error(topic: &'static str, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level: Level::Error, hint: hint.into(), ..Self::ok(topic, what) }
    }

    fn at(self, place: &Place) -> Self {
        Self { place: Some(place.clone()), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.level, self.topic)?;
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.what)?;
        if !self.hint.is_empty() {
            write!(f, "\n  hint: {}", self.hint)?;
        }
        Ok(())
    }
}

/// What is looked at.
#[derive(Debug)]
pub struct Settings {
    /// How datagrams are to be received.
    pub receive: receive::Settings,
    /// Where the file says so.
    pub places: ReceivePlaces,
    /// HTTP addresses to listen on.
    pub endpoints: Vec<Endpoint>,
    /// Where files are written.
    pub folders: Vec<Folder>,
    /// Certificates of our own and their keys, and certificates that we trust.
    pub pem_files: Vec<PemFile>,
    /// Names that are looked up and not connected to.
    pub hosts: Vec<Host>,
    /// Whom we connect to.
    pub servers: Vec<Server>,
}

/// Where the file speaks of receiving.
#[derive(Clone, Debug)]
pub struct ReceivePlaces {
    /// `receive.backend`
    pub backend: Place,
    /// `receive.socketBuffer`
    pub socket_buffer: Place,
    /// `receive.slots`
    pub slots: Place,
    /// The ports, in the order of [`Listener::ALL`].
    pub ports: [Place; Listener::COUNT],
}

/// Looks at everything. Fails when there is no runtime for it.
pub fn examine(settings: Settings) -> io::Result<Vec<Finding>> {
    let mut findings = machine::examine(&settings.receive, &settings.places);
    findings.extend(ports::examine(&settings.receive, &settings.places, &settings.endpoints));
    findings.extend(settings.pem_files.iter().map(PemFile::examine));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks: Vec<_> = {
        let folders = settings.folders.into_iter().map(|folder| runtime.spawn(folder.examine()));
        let hosts = settings.hosts.into_iter().map(|host| runtime.spawn(host.examine()));
        let servers = settings.servers.into_iter().map(|server| runtime.spawn(server.examine()));
        folders.chain(hosts).chain(servers).collect()
    };
    runtime.block_on(async {
        for task in tasks {
            // A task that panics has said so itself.
            findings.extend(task.await.unwrap_or_default());
        }
    });
    // Not to wait for a disk or a name server that does not answer.
    runtime.shutdown_background();
    Ok(findings)
}

/// A number of bytes for people: `8.0 GiB`.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} bytes");
    }
    let unit = (count.ilog2() / 10).min(4);
    // Tenths, without rounding up.
    let tenths = (u128::from(count) * 10) >> (10 * unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit as usize - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn place(key: &str) -> Place {
        Place { file: "f.yaml".into(), line: 3, column: 5, key: key.to_owned() }
    }

    #[test]
    fn a_finding_says_how_bad_what_where_and_what_to_do() {
        let finding = Finding::error("port", "is taken", "choose another").at(&place("a.b"));
        assert_eq!(
            finding.to_string(),
            "error: port: f.yaml:3:5: a.b: is taken\n  hint: choose another"
        );
        assert_eq!(Finding::ok("clock", "is right").to_string(), "ok: clock: is right");
        assert!(Level::Error > Level::Warning && Level::Warning > Level::Ok);
    }

    #[test]
    fn bytes_for_people() {
        for (count, shown) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (212_992, "208.0 KiB"),
            (32 << 20, "32.0 MiB"),
            ((8 << 30) - 1, "7.9 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
    }
}
