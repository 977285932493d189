//! What is done in segments that are not done as a whole, from one clean stop to the next start.
//!
//! The file is read and removed before anything else happens, so that it never speaks about a later
//! state than the one it was written in.
//!
//! ```text
//! magic "ringscur" | crc32c of what follows u32 | (first u64, end u64)*        little endian
//! ```

use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::{BufMut as _, BytesMut};

use super::SpoolError;
use crate::deliver::Storage;

const NAME: &str = "cursor";
const NEW: &str = "cursor.new";
const MAGIC: &[u8; 8] = b"ringscur";
const HEADER: usize = 12;

/// Ranges kept at most; what is beyond is sent again. Acknowledgements come nearly in order, so there
/// are about as many ranges as requests under way.
const RANGES_MAX: usize = 65_536;

/// Writes `ranges`, in place of those of before.
pub(super) async fn write<D: Storage>(
    disk: &D,
    folder: &Path,
    ranges: &[Range<u64>],
) -> Result<(), SpoolError> {
    let mut bytes = BytesMut::with_capacity(HEADER + ranges.len() * 16);
    bytes.put_slice(MAGIC);
    bytes.put_u32_le(0);
    for range in ranges.iter().take(RANGES_MAX) {
        bytes.put_u64_le(range.start);
        bytes.put_u64_le(range.end);
    }
    let checksum = crc32c::crc32c(&bytes[HEADER..]);
    bytes[8..HEADER].copy_from_slice(&checksum.to_le_bytes());
    let (new, path) = (folder.join(NEW), folder.join(NAME));
    remove(disk, &new).await?;
    let written = async {
        let mut file = disk.create(&new).await?;
        disk.append(&mut file, bytes.freeze()).await?;
        disk.sync(&mut file).await?;
        disk.rename(&new, &path).await?;
        disk.sync_folder(folder).await
    };
    written.await.map_err(|error| SpoolError::io("write", &path, error))
}

/// Reads the ranges and removes them.
pub(super) async fn take<D: Storage>(
    disk: &D,
    folder: &Path,
) -> Result<Vec<Range<u64>>, SpoolError> {
    let path = folder.join(NAME);
    let bytes = match disk.read(&path, 0, HEADER + RANGES_MAX * 16).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|error| SpoolError::io("read", &path, error))?,
    };
    remove(disk, &path).await?;
    let synced = disk.sync_folder(folder).await;
    synced.map_err(|error| SpoolError::io("sync", folder, error))?;
    Ok(parse(&bytes).unwrap_or_else(|| {
        tracing::warn!("{}: damaged; some events may be sent twice", path.display());
        Vec::new()
    }))
}

fn parse(bytes: &[u8]) -> Option<Vec<Range<u64>>> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (checksum, ranges) = rest.split_first_chunk()?;
    if u32::from_le_bytes(*checksum) != crc32c::crc32c(ranges) {
        return None;
    }
    let (ranges, rest) = ranges.as_chunks::<16>();
    let number = |half: &[u8]| Some(u64::from_le_bytes(*half.first_chunk()?));
    let ranges = ranges.iter().map(|range| Some(number(range)?..number(&range[8..])?));
    rest.is_empty().then(|| ranges.collect())?
}

async fn remove<D: Storage>(disk: &D, path: &Path) -> Result<(), SpoolError> {
    match disk.remove(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SpoolError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}
