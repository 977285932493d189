//! Batches of encoded events, and the bounded queue between a shard and a destination.

use std::ops::Deref;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

/// Zeros written at once when an event needs room that was never written to.
const ZEROED: usize = 16 * 1024;

/// A batch that is being filled.
///
/// Events are written into room that is claimed before their length is known, and room has to be
/// initialised. Clearing it for every event would be a pass over more bytes than are written, so those
/// beyond the filled part stay as they are: a buffer that comes back is full of an old batch, and is
/// written over without being cleared again.
#[derive(Debug, Default)]
pub struct Buffer {
    /// As long as what was ever initialised.
    bytes: BytesMut,
    filled: usize,
}

impl Buffer {
    /// An empty buffer that grows beyond `capacity` bytes only if it must.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: BytesMut::with_capacity(capacity), filled: 0 }
    }

    /// Forgets what was written.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// What was written, for sending.
    #[must_use]
    pub fn freeze(mut self) -> Bytes {
        self.bytes.truncate(self.filled);
        self.bytes.freeze()
    }

    /// The next `length` bytes; what they hold is arbitrary.
    #[inline]
    pub(super) fn room(&mut self, length: usize) -> &mut [u8] {
        let end = self.filled + length;
        if end > self.bytes.len() {
            self.initialise(end);
        }
        &mut self.bytes[self.filled..end]
    }

    /// Takes the first `length` bytes of the room as written.
    #[inline]
    pub(super) fn fill(&mut self, length: usize) {
        debug_assert!(length <= self.bytes.len() - self.filled);
        self.filled += length;
    }

    #[cold]
    fn initialise(&mut self, end: usize) {
        let ahead = self.bytes.capacity().min(end + ZEROED);
        self.bytes.resize(ahead.max(end), 0);
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

/// Encoded events on their way to a destination. One event is one line.
#[derive(Debug)]
pub struct Batch {
    /// The encoded events.
    pub bytes: Bytes,
    /// How many events `bytes` holds.
    pub events: u32,
    /// Receive time of the oldest event, in ns since 1970.
    pub oldest_ns: u64,
    /// The shard that made it; its buffer goes back there.
    pub shard: usize,
}

/// Batches waiting between a shard and its destination: enough that a destination that answers
/// within `flushInterval` never makes a shard's batch grow, small enough that memory stays bounded
/// (batches of up to 4 MiB while a backlog exists).
pub const QUEUE_BATCHES: usize = 8;

/// Spare buffers kept per shard and destination: those under way plus those waiting.
const SPARE_BUFFERS: usize = 16;

/// The shard's end of the queue to one destination.
#[derive(Debug)]
pub struct BatchSender {
    queue: mpsc::Sender<Batch>,
    spare: rtrb::Consumer<Buffer>,
}

/// The delivering end of the queue of one destination, fed by all shards.
#[derive(Debug)]
pub struct BatchReceiver {
    queue: mpsc::Receiver<Batch>,
    spare: Vec<rtrb::Producer<Buffer>>,
}

/// Makes the queue of one destination: one sender per shard.
#[must_use]
pub fn queue(shards: usize) -> (Vec<BatchSender>, BatchReceiver) {
    let (sender, receiver) = mpsc::channel(QUEUE_BATCHES * shards);
    let (spare_in, spare_out): (Vec<_>, Vec<_>) =
        (0..shards).map(|_| rtrb::RingBuffer::new(SPARE_BUFFERS)).unzip();
    let senders =
        spare_out.into_iter().map(|spare| BatchSender { queue: sender.clone(), spare }).collect();
    (senders, BatchReceiver { queue: receiver, spare: spare_in })
}

impl BatchSender {
    /// Whether a batch sent now would be taken.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queue.capacity() > 0
    }

    /// Hands a batch over, or gives it back when the queue is full or the destination is gone.
    pub fn try_send(&self, batch: Batch) -> Result<(), Batch> {
        self.queue.try_send(batch).map_err(|error| match error {
            mpsc::error::TrySendError::Full(batch) | mpsc::error::TrySendError::Closed(batch) => {
                batch
            }
        })
    }

    /// An empty buffer, used before if there is one.
    pub fn buffer(&mut self, capacity: usize) -> Buffer {
        self.spare.pop().unwrap_or_else(|_| Buffer::with_capacity(capacity))
    }
}

impl BatchReceiver {
    /// Takes no more batches; those that are queued can still be received.
    pub fn close(&mut self) {
        self.queue.close();
    }

    /// The next batch; `None` when all shards are gone and the queue is empty.
    pub async fn recv(&mut self) -> Option<Batch> {
        self.queue.recv().await
    }

    /// A batch that waits already, if there is one.
    pub fn try_recv(&mut self) -> Option<Batch> {
        self.queue.try_recv().ok()
    }

    /// Gives the buffer of a finished batch back to its shard.
    pub fn recycle(&mut self, shard: usize, bytes: Bytes) {
        // A buffer that grew in a backlog is let go, so that memory returns after it.
        if let Ok(bytes) = bytes.try_into_mut()
            && bytes.capacity() <= 2 * 1024 * 1024
        {
            let _ = self.spare[shard].push(Buffer { bytes, filled: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(buffer: &mut Buffer, text: &[u8], room: usize) {
        buffer.room(room)[..text.len()].copy_from_slice(text);
        buffer.fill(text.len());
    }

    #[test]
    fn only_what_was_filled_is_sent() {
        let mut buffer = Buffer::with_capacity(10);
        write(&mut buffer, b"one", 8);
        write(&mut buffer, b"two", 2 * ZEROED);
        assert_eq!(&buffer[..], b"onetwo");
        assert_eq!(&buffer.freeze()[..], b"onetwo");
    }

    #[test]
    fn a_recycled_buffer_is_empty_and_is_not_cleared_again() {
        let (mut senders, mut receiver) = queue(1);
        let mut buffer = Buffer::with_capacity(100);
        write(&mut buffer, b"an old batch", 20);
        receiver.recycle(0, buffer.freeze());
        let mut buffer = senders[0].buffer(100);
        assert!(buffer.is_empty());
        assert_eq!(buffer.room(12), b"an old batch");
        write(&mut buffer, b"new", 50);
        assert_eq!(&buffer.freeze()[..], b"new");
    }
}
