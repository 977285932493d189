//! One JSON object per event and line, to a file or to standard output.

pub mod transport;

pub use transport::NdjsonTransport;
