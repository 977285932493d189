//! One JSON object per event and line, to a file or to standard output.

pub mod destination;
pub mod encode;
pub mod transport;

pub use destination::NdjsonDestination;
pub use transport::NdjsonTransport;
