//! Batches of encoded events, and the bounded queue between a shard and a destination.

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

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
    spare: rtrb::Consumer<BytesMut>,
}

/// The delivering end of the queue of one destination, fed by all shards.
#[derive(Debug)]
pub struct BatchReceiver {
    queue: mpsc::Receiver<Batch>,
    spare: Vec<rtrb::Producer<BytesMut>>,
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
    pub fn buffer(&mut self, capacity: usize) -> BytesMut {
        self.spare.pop().unwrap_or_else(|_| BytesMut::with_capacity(capacity))
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
        if let Ok(mut buffer) = bytes.try_into_mut()
            && buffer.capacity() <= 2 * 1024 * 1024
        {
            buffer.clear();
            let _ = self.spare[shard].push(buffer);
        }
    }
}
