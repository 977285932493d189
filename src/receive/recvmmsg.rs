//! The fallback on Linux: recvmmsg inside tokio's readiness, for hosts that forbid `io_uring`.
//!
//! It fills the same slots and gathers for the same time, so it costs about the same under load. It
//! also reads what is left in the sockets when the engine drains, whichever backend filled the slots
//! before.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;
use std::task::Poll;
use std::thread;
use std::time::Instant;

use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use super::intake::{Datagram, Inline, Intake};
use super::pace::{Pace, STARVED};
use super::settings::ReceiveError;
use super::slots::{HEADER, NAME, NAME_LEN, PAYLOAD};
use super::socket::{self, Bound};
use super::start::{Receiver, RingCounters, count};

/// Datagrams per system call: beyond, the cost of the call is lost in that of the datagrams.
const BATCH: usize = 64;

/// Receives up to [`BATCH`] datagrams at a time into slots of the pool.
pub(super) struct Batch {
    /// Taken from the pool, to be filled by the next call.
    slots: Vec<u16>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl Batch {
    /// No more than a quarter of the pool is taken.
    pub(super) fn new(intake: &Intake) -> Self {
        let size = BATCH.min(intake.pool().len() / 4);
        // SAFETY: both are plain data, for which zeros are valid.
        let (vector, header) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        Self {
            slots: Vec::with_capacity(size),
            vectors: vec![vector; size],
            headers: vec![header; size],
        }
    }

    /// Takes what is queued in a socket, up to `limit` or one batch, and gives each datagram to
    /// `each`. Answers how many there were; fewer mean that the socket is empty, or that the pool is.
    pub(super) fn receive(
        &mut self,
        bound: &Bound,
        intake: &mut Intake,
        limit: usize,
        mut each: impl FnMut(&mut Intake, u16, &Datagram),
    ) -> io::Result<usize> {
        let filled = match self.fill(bound, intake, limit) {
            Ok(filled) => filled,
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
            {
                0
            }
            Err(e) => return Err(e),
        };
        for (slot, header) in self.slots.drain(..filled).zip(&self.headers) {
            let slots = intake.pool().slots();
            let name_len = (header.msg_hdr.msg_namelen as usize).min(NAME);
            // SAFETY: the slot was taken from the pool and the call that wrote to it has returned.
            let name = unsafe { slots.bytes(slot, HEADER, name_len) };
            let source = socket::source_of(name).unwrap_or(socket::UNKNOWN_SOURCE);
            let len = header.msg_len as usize;
            let stored = len.min(slots.slot_size() - PAYLOAD);
            each(intake, slot, &Datagram { listener: bound.listener, source, len, stored });
        }
        Ok(filled)
    }

    pub(super) fn capacity(&self) -> usize {
        self.headers.len()
    }

    fn fill(&mut self, bound: &Bound, intake: &mut Intake, limit: usize) -> io::Result<usize> {
        while self.slots.len() < self.capacity() {
            let Some(slot) = intake.pool_mut().take() else { break };
            self.slots.push(slot);
        }
        let slots = intake.pool().slots();
        for ((slot, vector), header) in
            self.slots.iter().zip(&mut self.vectors).zip(&mut self.headers)
        {
            let start = slots.start_of(*slot);
            vector.iov_base = start.wrapping_add(PAYLOAD).cast();
            vector.iov_len = slots.slot_size() - PAYLOAD;
            header.msg_hdr.msg_name = start.wrapping_add(HEADER).cast();
            header.msg_hdr.msg_namelen = NAME_LEN;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // At most `BATCH`.
        let count = libc::c_uint::try_from(self.slots.len().min(limit)).unwrap_or_default();
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: the headers point to the vectors of `self` and, like these, into slots that were
        // taken from the pool: nobody else uses them during the call. MSG_TRUNC makes `msg_len` the
        // true length; what is stored is bounded by `iov_len`.
        let received = unsafe {
            libc::recvmmsg(
                bound.socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT | libc::MSG_TRUNC,
                ptr::null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }
}

/// Receives with tokio until told to stop, then drains.
pub(super) fn run(receiver: Receiver, inline: &mut dyn Inline) -> Result<(), ReceiveError> {
    let Receiver { mut intake, sockets, settings, stop, ring, .. } = receiver;
    let runtime = ::tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| ReceiveError::Run { during: "making a tokio runtime", source })?;
    let pace = Pace::new(settings.gather);
    let deadline = runtime
        .block_on(async {
            let mut waiter = Waiter::new(&sockets, stop.reader.as_fd())?;
            let stop = || stop.requested();
            receive(&mut waiter, pace, (&mut intake, inline), &sockets, &ring, stop).await
        })
        .map_err(|source| ReceiveError::Run { during: "receiving with recvmmsg", source })?;
    drain(&mut intake, inline, &sockets, deadline)
}

/// Waits until a socket, or the pipe that says stop, has something to read.
struct Waiter<'a>(Vec<AsyncFd<BorrowedFd<'a>>>);

impl<'a> Waiter<'a> {
    fn new(sockets: &'a [Bound], stop: BorrowedFd<'a>) -> io::Result<Self> {
        let fds = sockets.iter().map(|bound| bound.socket.as_fd()).chain([stop]);
        fds.map(|fd| {
            // SAFETY: a `BorrowedFd` names the same open descriptor for as long as it lives.
            unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
                .map_err(io::Error::from)
        })
        .collect::<io::Result<_>>()
        .map(Self)
    }

    /// Answers the first that is ready. Its guard is to be cleared when reading finds nothing.
    async fn ready(&self) -> io::Result<AsyncFdReadyGuard<'_, BorrowedFd<'a>>> {
        poll_fn(|context| {
            let mut ready = self.0.iter().map(|fd| fd.poll_read_ready(context));
            ready.find(Poll::is_ready).unwrap_or(Poll::Pending)
        })
        .await
    }
}

async fn receive(
    waiter: &mut Waiter<'_>,
    mut pace: Pace,
    (intake, inline): (&mut Intake, &mut dyn Inline),
    sockets: &[Bound],
    counters: &RingCounters,
    stop: impl Fn() -> Option<Instant>,
) -> io::Result<Instant> {
    let mut batch = Batch::new(intake);
    // As many datagrams a turn as io_uring would bring: shards get what came before more is taken.
    let turn_max = intake.pool().len() / 8;
    loop {
        let mut guard = None;
        if let Some(gather) = pace.gather() {
            // The thread is this receiver's own, and tokio's timers are too coarse.
            thread::sleep(gather);
        } else {
            // The time-out is no error: the beat goes on and returned slots are taken back.
            let ready = ::tokio::time::timeout(intake.idle(), waiter.ready()).await;
            guard = ready.ok().transpose()?;
        }
        let now = Instant::now();
        if let Some(deadline) = stop() {
            return Ok(deadline);
        }
        intake.start_turn();
        let mut held = false;
        for bound in sockets {
            for _ in 0..turn_max.div_ceil(batch.capacity() * sockets.len()) {
                if intake.holds(bound) {
                    held = true;
                    break;
                }
                count(&counters.enters);
                let limit = batch.capacity();
                if batch.receive(bound, intake, limit, Intake::admit)? < limit {
                    break;
                }
            }
        }
        let received = intake.end_turn(inline);
        pace.after_wait(received, now);
        if held || (received == 0 && intake.pool().is_empty()) {
            count(&counters.starved);
            thread::sleep(STARVED);
        } else if received == 0
            && let Some(guard) = &mut guard
        {
            guard.clear_ready();
        }
    }
}

/// Hands over what is left in the sockets, whose door is closed. Here, unlike before, the receiver
/// waits for room: nothing can be lost meanwhile. What is left at the deadline is dropped. What is in
/// a passed socket is left to the next process.
pub(super) fn drain(
    intake: &mut Intake,
    inline: &mut dyn Inline,
    sockets: &[Bound],
    deadline: Instant,
) -> Result<(), ReceiveError> {
    let failed = |source| ReceiveError::Run { during: "draining the sockets", source };
    let mut batch = Batch::new(intake);
    for bound in sockets.iter().filter(|bound| !bound.passed) {
        loop {
            let now = Instant::now();
            intake.start_turn();
            let late = now >= deadline;
            let limit = if late { batch.capacity() } else { intake.room() };
            if limit == 0 {
                thread::sleep(STARVED);
                continue;
            }
            let each = if late { Intake::abandon } else { Intake::admit };
            let received = batch.receive(bound, intake, limit, each).map_err(failed)?;
            intake.end_turn(inline);
            if received == 0 {
                break;
            }
        }
    }
    Ok(())
}
