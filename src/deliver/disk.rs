//! Files beneath a [`Disk`]: plain ones everywhere, `io_uring`'s on Linux.
//!
//! Which one is used follows the receive backend: where `io_uring` is refused, tokio-uring cannot
//! run either. [`UringDisk`] works only inside `tokio_uring::start`.
//!
//! Both append at an offset of their own, which moves only when everything was written. What a
//! failed append left behind is overwritten by the next one, so a retried batch never stands in the
//! file twice, and never behind half a line. In return the file has one writer: whoever rotates it
//! moves it away and restarts the program.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::Disk;

/// Plain files, on the threads that tokio keeps for blocking work.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainDisk;

/// A file opened by [`PlainDisk`].
#[derive(Debug)]
pub struct PlainFile {
    file: Arc<std::fs::File>,
    end: u64,
}

impl Disk for PlainDisk {
    type File = PlainFile;

    async fn open_append(&self, path: &Path) -> io::Result<PlainFile> {
        let path = path.to_owned();
        blocking(move || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            // Not O_APPEND, which would ignore the offset.
            let file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
            let end = file.metadata()?.len();
            Ok(PlainFile { file: Arc::new(file), end })
        })
        .await
    }

    async fn append(&self, file: &mut PlainFile, bytes: Bytes) -> io::Result<()> {
        let (handle, end, length) = (Arc::clone(&file.file), file.end, bytes.len() as u64);
        blocking(move || {
            let mut handle = &*handle;
            handle.seek(SeekFrom::Start(end))?;
            handle.write_all(&bytes)
        })
        .await?;
        file.end += length;
        Ok(())
    }

    async fn sync(&self, file: &mut PlainFile) -> io::Result<()> {
        let handle = Arc::clone(&file.file);
        blocking(move || handle.sync_data()).await
    }
}

#[cfg(test)]
impl PlainDisk {
    /// Leaves `bytes` behind the end of the file, as an append that failed half-way does.
    pub(super) async fn append_torn(&self, file: &mut PlainFile, bytes: Bytes) -> io::Result<()> {
        let end = file.end;
        let written = self.append(file, bytes).await;
        file.end = end;
        written
    }
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> io::Result<R> + Send + 'static,
) -> io::Result<R> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(target_os = "linux")]
pub use uring::{UringDisk, UringFile};

#[cfg(target_os = "linux")]
mod uring {
    use super::{Bytes, Disk, Path, io};

    /// Files through `io_uring`: no other thread takes part.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct UringDisk;

    /// A file opened by [`UringDisk`].
    pub struct UringFile {
        file: tokio_uring::fs::File,
        end: u64,
    }

    impl std::fmt::Debug for UringFile {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("UringFile").field("end", &self.end).finish_non_exhaustive()
        }
    }

    impl Disk for UringDisk {
        type File = UringFile;

        async fn open_append(&self, path: &Path) -> io::Result<UringFile> {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                tokio_uring::fs::create_dir_all(folder).await?;
            }
            let file =
                tokio_uring::fs::OpenOptions::new().write(true).create(true).open(path).await?;
            let end = file.statx().await?.stx_size;
            Ok(UringFile { file, end })
        }

        async fn append(&self, file: &mut UringFile, bytes: Bytes) -> io::Result<()> {
            let length = bytes.len() as u64;
            let (written, _bytes) = file.file.write_all_at(bytes, file.end).await;
            written?;
            file.end += length;
            Ok(())
        }

        async fn sync(&self, file: &mut UringFile) -> io::Result<()> {
            file.file.sync_data().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn appends<D: Disk>(disk: D) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/events.ndjson");
        for (round, line) in ["one\n", "two\n", "three\n"].into_iter().enumerate() {
            let mut file = disk.open_append(&path).await.unwrap();
            disk.append(&mut file, Bytes::from_static(line.as_bytes())).await.unwrap();
            disk.append(&mut file, Bytes::from(format!("{round}\n"))).await.unwrap();
            disk.sync(&mut file).await.unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"one\n0\ntwo\n1\nthree\n2\n");
        let error = disk.open_append(folder.path()).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn plain_files() {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(appends(PlainDisk));
    }

    /// Where `io_uring` is refused there is nothing to test, and the engine does not choose it there.
    #[cfg(target_os = "linux")]
    #[test]
    fn uring_files() {
        if let Err(refused) = io_uring::IoUring::new(2) {
            eprintln!("io_uring is refused here: {refused}");
            return;
        }
        tokio_uring::start(appends(UringDisk));
    }
}
