//! Files beneath a [`Disk`]: plain ones everywhere, `io_uring`'s on Linux.
//!
//! Which one is used follows the receive backend: where `io_uring` is refused, tokio-uring cannot
//! run either. [`UringDisk`] works only inside `tokio_uring::start`.
//!
//! Both append at an offset of their own, which moves only when everything was written. What a
//! failed append left behind is overwritten by the next one, so a retried batch never stands in the
//! file twice, and never behind half a line. In return the file has one writer, which a lock sees to:
//! whoever rotates it moves it away and restarts the program.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;

use super::{Disk, Listed, Storage};

/// Plain files, on the threads that tokio keeps for blocking work.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainDisk;

/// A file opened by [`PlainDisk`].
#[derive(Debug)]
pub struct PlainFile {
    file: Arc<File>,
    end: u64,
}

impl Disk for PlainDisk {
    type File = PlainFile;

    async fn open_append(&self, path: &Path) -> io::Result<PlainFile> {
        let path = path.to_owned();
        blocking(move || {
            let (file, end) = open_append(&path)?;
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

impl Storage for PlainDisk {
    type Lock = File;

    async fn create(&self, path: &Path) -> io::Result<PlainFile> {
        let path = path.to_owned();
        blocking(move || Ok(PlainFile { file: Arc::new(create_new(&path)?), end: 0 })).await
    }

    async fn read(&self, path: &Path, from: u64, most: usize) -> io::Result<Bytes> {
        let path = path.to_owned();
        blocking(move || {
            let mut file = File::open(&path)?;
            let length = file.metadata()?.len().saturating_sub(from);
            file.seek(SeekFrom::Start(from))?;
            let room = usize::try_from(length).unwrap_or(usize::MAX).min(most);
            let mut bytes = Vec::with_capacity(room);
            file.take(most as u64).read_to_end(&mut bytes)?;
            Ok(bytes.into())
        })
        .await
    }

    async fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(length)?;
            file.sync_all()
        })
        .await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || fs::remove_file(path)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(move || fs::rename(from, to)).await
    }

    async fn create_folder(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(path)
        })
        .await
    }

    async fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        let folder = folder.to_owned();
        blocking(move || list(&folder)).await
    }

    async fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        if !cfg!(unix) {
            // Elsewhere a folder cannot be opened as a file, and names are journalled.
            return Ok(());
        }
        let folder = folder.to_owned();
        blocking(move || File::open(folder)?.sync_all()).await
    }

    async fn lock(&self, path: &Path) -> io::Result<File> {
        let path = path.to_owned();
        blocking(move || {
            let file = owners(OpenOptions::new().write(true).create(true)).open(path)?;
            match file.try_lock() {
                Ok(()) => Ok(file),
                Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
                Err(TryLockError::Error(error)) => Err(error),
            }
        })
        .await
    }

    async fn free(&self, folder: &Path) -> io::Result<Option<u64>> {
        let folder = folder.to_owned();
        blocking(move || free(&folder)).await
    }
}

/// Opens a file of lines, keeps other processes from writing to it, and ends a line that an earlier
/// run has left half. Returns where it ends.
fn open_append(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Not O_APPEND, which would ignore the offset.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    // FILE_SHARE_READ and FILE_SHARE_DELETE: a lock would keep readers out too.
    #[cfg(windows)]
    std::os::windows::fs::OpenOptionsExt::share_mode(&mut options, 1 | 4);
    let mut file = options.open(path).map_err(in_use)?;
    if cfg!(not(windows)) {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(in_use(io::ErrorKind::WouldBlock.into())),
            // Some file systems have no locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
    }
    let end = file.metadata()?.len();
    let Some(last) = end.checked_sub(1) else { return Ok((file, end)) };
    let mut byte = [0];
    let mut reader = File::open(path)?;
    reader.seek(SeekFrom::Start(last))?;
    reader.read_exact(&mut byte)?;
    if byte == *b"\n" {
        return Ok((file, end));
    }
    file.seek(SeekFrom::Start(end))?;
    file.write_all(b"\n")?;
    Ok((file, end + 1))
}

/// Says so when the error means that another process writes to the file.
fn in_use(error: io::Error) -> io::Error {
    /// What Windows answers when a file is not shared.
    const ERROR_SHARING_VIOLATION: i32 = 32;
    let denied = cfg!(windows) && error.raw_os_error() == Some(ERROR_SHARING_VIOLATION);
    if !denied && error.kind() != io::ErrorKind::WouldBlock {
        return error;
    }
    io::Error::new(io::ErrorKind::WouldBlock, "another process writes this file; give each its own")
}

fn create_new(path: &Path) -> io::Result<File> {
    owners(OpenOptions::new().write(true).create_new(true)).open(path)
}

/// Only the owner may read what is created.
fn owners(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn list(folder: &Path) -> io::Result<Vec<Listed>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_file() {
            let modified = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            files.push(Listed {
                name: entry.file_name().to_string_lossy().into_owned(),
                length: about.len(),
                modified_ns: u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX),
            });
        }
    }
    Ok(files)
}

/// Bytes that this user may still write to the disk of a folder; `None` where the system does not tell.
#[cfg(target_os = "linux")]
pub(crate) fn free(folder: &Path) -> io::Result<Option<u64>> {
    let about = nix::sys::statvfs::statvfs(folder)?;
    Ok(Some(about.blocks_available().saturating_mul(about.fragment_size())))
}

#[cfg(not(target_os = "linux"))]
// The same signature on every system.
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn free(_: &Path) -> io::Result<Option<u64>> {
    Ok(None)
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
    use bytes::BytesMut;

    use super::{Bytes, Disk, Listed, Path, PlainDisk, Storage, blocking, create_new, fs, io};

    /// Files through `io_uring`. What it has no operation for, or tokio-uring none, and what happens
    /// once per segment or less, goes the way of [`PlainDisk`]: making files, making and listing folders,
    /// bringing names to the disk, cutting, locking.
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
            // tokio-uring has no way to lock a file.
            let path = path.to_owned();
            let (file, end) = blocking(move || super::open_append(&path)).await?;
            let file = tokio_uring::fs::File::from_std(file);
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

    impl Storage for UringDisk {
        type Lock = fs::File;

        async fn create(&self, path: &Path) -> io::Result<UringFile> {
            // tokio-uring has no way to say who may read the file.
            let path = path.to_owned();
            let file = blocking(move || create_new(&path)).await?;
            Ok(UringFile { file: tokio_uring::fs::File::from_std(file), end: 0 })
        }

        async fn read(&self, path: &Path, from: u64, most: usize) -> io::Result<Bytes> {
            let file = tokio_uring::fs::File::open(path).await?;
            let length = file.statx().await?.stx_size.saturating_sub(from);
            let room = usize::try_from(length).unwrap_or(usize::MAX).min(most);
            let mut bytes = BytesMut::with_capacity(room);
            while bytes.len() < room {
                let (at, filled) = (from + bytes.len() as u64, bytes.len());
                // A read fills from the start of what it gets.
                let (read, rest) = file.read_at(bytes.split_off(filled), at).await;
                let read = read?;
                bytes.unsplit(rest);
                if read == 0 {
                    break;
                }
            }
            file.close().await?;
            bytes.truncate(room);
            Ok(bytes.freeze())
        }

        async fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
            PlainDisk.truncate(path, length).await
        }

        async fn remove(&self, path: &Path) -> io::Result<()> {
            tokio_uring::fs::remove_file(path).await
        }

        async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            tokio_uring::fs::rename(from, to).await
        }

        async fn create_folder(&self, path: &Path) -> io::Result<()> {
            PlainDisk.create_folder(path).await
        }

        async fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
            PlainDisk.list(folder).await
        }

        async fn sync_folder(&self, folder: &Path) -> io::Result<()> {
            PlainDisk.sync_folder(folder).await
        }

        async fn lock(&self, path: &Path) -> io::Result<fs::File> {
            PlainDisk.lock(path).await
        }

        async fn free(&self, folder: &Path) -> io::Result<Option<u64>> {
            PlainDisk.free(folder).await
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

    async fn continues_lines<D: Disk>(disk: D) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.ndjson");
        std::fs::write(&path, "one\nhal").unwrap();
        let mut file = disk.open_append(&path).await.unwrap();
        disk.append(&mut file, Bytes::from_static(b"two\n")).await.unwrap();
        let second = disk.open_append(&path).await.map(|_| ()).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(std::fs::read(&path).unwrap(), b"one\nhal\ntwo\n");
    }

    async fn keeps_files<D: Storage>(disk: D) {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("spool/a");
        disk.create_folder(&folder).await.unwrap();
        let path = folder.join("segment");
        let mut file = disk.create(&path).await.unwrap();
        disk.append(&mut file, Bytes::from(vec![b'x'; 300_000])).await.unwrap();
        disk.append(&mut file, Bytes::from_static(b"end")).await.unwrap();
        let again = disk.create(&path).await.map(|_| ()).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        disk.sync(&mut file).await.unwrap();
        assert_eq!(disk.read(&path, 299_999, 3).await.unwrap(), "xen");
        assert_eq!(disk.read(&path, 0, usize::MAX).await.unwrap().len(), 300_003);
        assert_eq!(disk.read(&path, 400_000, 10).await.unwrap(), "");
        disk.truncate(&path, 5).await.unwrap();
        let other = folder.join("other");
        disk.rename(&path, &other).await.unwrap();
        disk.sync_folder(&folder).await.unwrap();
        let listed = disk.list(&folder).await.unwrap();
        assert_eq!((listed[0].name.as_str(), listed[0].length, listed.len()), ("other", 5, 1));
        #[cfg(unix)]
        for (path, mode) in [(&folder, 0o700), (&other, 0o600)] {
            let about = std::os::unix::fs::MetadataExt::mode(&fs::metadata(path).unwrap());
            assert_eq!(about & 0o777, mode, "{}", path.display());
        }
        disk.remove(&other).await.unwrap();
        assert_eq!(disk.list(&folder).await.unwrap(), []);
        let lock = disk.lock(&folder.join("lock")).await.unwrap();
        let second = disk.lock(&folder.join("lock")).await.map(|_| ()).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        disk.lock(&folder.join("lock")).await.map(|_| ()).unwrap();
        assert!(disk.free(&folder).await.unwrap().is_none_or(|free| free > 0));
    }

    /// All threads for blocking work are busy, as when the disk stalls: whatever is asked of it waits,
    /// and this thread does not.
    async fn waits_for_nothing<D: Storage>(disk: D) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("segment");
        let builder = &mut tokio::runtime::Builder::new_current_thread();
        let other = builder.max_blocking_threads(1).build().unwrap();
        let (release, stalled) = std::sync::mpsc::channel::<()>();
        other.spawn_blocking(move || stalled.recv());
        let mut create = std::pin::pin!(disk.create(&path));
        {
            let _stalls = other.enter();
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(create.as_mut().poll(&mut context).is_pending());
            assert!(!path.exists());
        }
        drop(release);
        create.await.map(|_| ()).unwrap();
        assert!(path.exists());
        other.shutdown_background();
    }

    async fn all<D: Storage + Copy>(disk: D) {
        appends(disk).await;
        continues_lines(disk).await;
        keeps_files(disk).await;
        waits_for_nothing(disk).await;
    }

    #[test]
    fn plain_files() {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(all(PlainDisk));
    }

    /// Where `io_uring` is refused there is nothing to test, and the engine does not choose it there.
    #[cfg(target_os = "linux")]
    #[test]
    fn uring_files() {
        if let Err(refused) = io_uring::IoUring::new(2) {
            eprintln!("io_uring is refused here: {refused}");
            return;
        }
        tokio_uring::start(all(UringDisk));
    }
}
