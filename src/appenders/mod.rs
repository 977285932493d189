//! The log appender files of the Sense services: writing them, and checking those that exist.
//!
//! A Sense service logs through log4net. A file `LocalLogConfig.xml` in the service's folder adds
//! appenders to what it logs: here, ones that send UDP datagrams in the layouts of [`crate::event`].
//! Nothing on the Sense server says that such a file is wrong: fields in another order, a converter
//! that is not declared or a host that is not found show as empty fields, as wrong ones, or as silence.
//! Therefore:
//!
//! - [`write`](fn@write) makes the files from two tables: [`Sender`] (who sends what) and the
//!   conversions of `conversion.rs` (what fills which column); the order of fields is the layout's own;
//! - [`check`](fn@check) reads a file as log4net does, renders a line from each of its patterns, has
//!   [`crate::event::parse`] read that line, and compares what arrives with what should.
//!
//! What is known of log4net is from its source, versions 1.2.10 to 3 (`PatternParser`,
//! `XmlHierarchyConfigurator`, `UdpAppender`); what is known of Sense is from Qlik's administration help
//! (customized logging) and from the files that Butler SOS comes with.

mod check;
mod conversion;
mod document;
mod finding;
mod host;
mod level;
mod pattern;
mod sender;
mod write;

pub use check::{Checked, Expected, check};
pub use finding::{Finding, Severity};
pub use host::{Host, HostError};
pub use level::Level;
pub use sender::{Sender, Service};
pub use write::{File, Settings, write};

/// The name that every service looks for in its folder.
pub const FILE_NAME: &str = "LocalLogConfig.xml";

/// Bytes that Sense accepts in such a file (Qlik's help: it must not exceed 1 MB).
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// Where the services have their folders, unless Sense was installed elsewhere.
pub const SENSE_FOLDER: &str = r"C:\ProgramData\Qlik\Sense";
