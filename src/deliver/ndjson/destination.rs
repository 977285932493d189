//! NDJSON as a destination: the encoder for the shards and the transport for the deliver thread.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use super::NdjsonTransport;
use super::encode::Encoder;
use crate::deliver::disk::PlainDisk;
use crate::deliver::{Destination, Encode, Served};
use crate::event::Kind;

/// A file of events, or standard output.
#[derive(Debug)]
pub struct NdjsonDestination {
    /// Which kinds are written, in the order of [`Kind::ALL`].
    pub kinds: [bool; Kind::COUNT],
    /// The file; `-` is standard output.
    pub path: PathBuf,
}

impl Destination for NdjsonDestination {
    fn name(&self) -> String {
        "ndjson".into()
    }

    fn identity(&self) -> Option<String> {
        // It is a file itself: on a disk that does not take it, a spool would do no better.
        None
    }

    fn encoder(&self) -> Box<dyn Encode> {
        Box::new(Encoder::new(self.kinds))
    }

    fn serve(self: Box<Self>, served: Served) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            #[cfg(target_os = "linux")]
            if served.uring {
                use crate::deliver::disk::UringDisk;
                return served.run(NdjsonTransport::new(UringDisk, self.path)).await;
            }
            served.run(NdjsonTransport::new(PlainDisk, self.path)).await;
        })
    }
}
