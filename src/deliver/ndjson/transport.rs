//! Appends batches to a file or to standard output.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::deliver::{Disk, Outcome, Transport};

/// The path that stands for standard output.
const STDOUT: &str = "-";

/// A [`Transport`] to one file, or to standard output.
#[derive(Debug)]
pub struct NdjsonTransport<D: Disk> {
    disk: D,
    path: PathBuf,
    /// Open from the first batch on, after errors too: it knows where the last whole batch ends.
    file: Mutex<Option<D::File>>,
    sent_bytes: Cell<u64>,
}

impl<D: Disk> NdjsonTransport<D> {
    /// Opens nothing yet. `-` is standard output.
    pub fn new(disk: D, path: impl Into<PathBuf>) -> Self {
        Self { disk, path: path.into(), file: Mutex::new(None), sent_bytes: Cell::new(0) }
    }

    async fn write(&self, body: Bytes) -> io::Result<()> {
        if self.path.as_os_str() == STDOUT {
            return write_stdout(body).await;
        }
        let mut open = self.file.lock().await;
        if open.is_none() {
            *open = Some(self.disk.open_append(&self.path).await?);
        }
        match open.as_mut() {
            Some(file) => self.disk.append(file, body).await,
            None => Err(io::Error::other("the file is not open")),
        }
    }
}

/// On a thread of its own: whoever reads our output may be slow.
async fn write_stdout(body: Bytes) -> io::Result<()> {
    let write = move || {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&body)?;
        stdout.flush()
    };
    tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
}

impl<D: Disk> Transport for NdjsonTransport<D> {
    async fn send(&self, body: Bytes, _events: u32) -> Outcome {
        let length = body.len() as u64;
        match self.write(body).await {
            Ok(()) => {
                self.sent_bytes.set(self.sent_bytes.get() + length);
                Outcome::Delivered
            }
            Err(error) => Outcome::Unavailable {
                reason: format!("ndjson.path {}: {error}", self.path.display()),
                after: None,
            },
        }
    }

    fn unordered(&self) -> bool {
        false
    }

    fn sent_bytes(&self) -> u64 {
        self.sent_bytes.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::disk::PlainDisk;
    use std::path::Path;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn appends_batches() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/events.ndjson");
        let transport = NdjsonTransport::new(PlainDisk, &path);
        block_on(async {
            for line in ["{\"a\":1}\n", "{\"a\":2}\n"] {
                assert_eq!(transport.send(Bytes::from(line), 1).await, Outcome::Delivered);
            }
        });
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"a\":1}\n{\"a\":2}\n");
        assert_eq!(transport.sent_bytes(), 16);
    }

    #[test]
    fn another_writer_is_told_so_and_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.ndjson");
        let [first, second] = [(); 2].map(|()| NdjsonTransport::new(PlainDisk, &path));
        block_on(async {
            assert_eq!(first.send(Bytes::from("{}\n"), 1).await, Outcome::Delivered);
            let refused = second.send(Bytes::from("{}\n"), 1).await;
            let Outcome::Unavailable { reason, .. } = refused else { panic!("{refused:?}") };
            let wanted = format!("ndjson.path {}: another process writes", path.display());
            assert!(reason.starts_with(&wanted), "{reason}");
            drop(first);
            assert_eq!(second.send(Bytes::from("{}\n"), 1).await, Outcome::Delivered);
        });
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n{}\n");
    }

    /// A disk on which every other append stops half-way.
    #[derive(Default)]
    struct Torn(Cell<u32>);

    impl Disk for Torn {
        type File = <PlainDisk as Disk>::File;

        async fn open_append(&self, path: &Path) -> io::Result<Self::File> {
            PlainDisk.open_append(path).await
        }

        async fn append(&self, file: &mut Self::File, bytes: Bytes) -> io::Result<()> {
            self.0.set(self.0.get() + 1);
            if self.0.get().is_multiple_of(2) {
                return PlainDisk.append(file, bytes).await;
            }
            // What a full disk does: some bytes are there and the call fails.
            PlainDisk.append_torn(file, bytes.slice(..bytes.len() / 2)).await?;
            Err(io::ErrorKind::StorageFull.into())
        }

        async fn sync(&self, file: &mut Self::File) -> io::Result<()> {
            PlainDisk.sync(file).await
        }
    }

    #[test]
    fn a_retried_batch_stands_there_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.ndjson");
        let transport = NdjsonTransport::new(Torn::default(), &path);
        block_on(async {
            for line in ["{\"a\":1}\n", "{\"a\":2}\n"] {
                let failed = transport.send(Bytes::from(line), 1).await;
                let Outcome::Unavailable { reason, .. } = failed else { panic!("{failed:?}") };
                assert!(reason.contains("events.ndjson"), "{reason}");
                assert_eq!(transport.send(Bytes::from(line), 1).await, Outcome::Delivered);
            }
        });
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"a\":1}\n{\"a\":2}\n");
    }
}
