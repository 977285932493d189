//! Receiving with `io_uring`: one multishot request per socket, filling provided buffers.
//!
//! A request lives until a completion comes without `IORING_CQE_F_MORE`. That completion is consumed
//! like any other, then the request is made anew. The kernel ends a request when
//!
//! * there is no buffer (`ENOBUFS`): the ring is replenished and published before the request is
//!   made anew, else it would end at once again;
//! * the completion queue is full: the completions that did not fit follow with the next call;
//! * an empty datagram came, which the kernel takes for an end of file;
//! * something failed.
//!
//! When the shards fall so far behind that there is little room left, the request of the socket is
//! cancelled and its datagrams wait in the socket, until there is room again or the
//! socket's buffer fills up too.
//!
//! When every slot is out, requests stay unmade until slots come back. Admission holds a quarter of
//! the pool back from leases, and half of that is lent to the kernel, so a receiver gets there
//! only if that reserve was misjudged.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode};

use super::bufring::{self, BufRing};
use super::completion;
use super::intake::{Datagram, Inline, Intake};
use super::pace::{Pace, STARVED};
use super::settings::{ReceiveError, Settings};
use super::socket::Bound;
use super::start::{Receiver, RingCounters, Stop, count};
use crate::event::Listener;

/// Buffers lent to the kernel at most; an eighth of the pool if that is less. A gathered wait can use
/// all of them at once (measured: the kernel goes on until the buffers end, whatever was asked for).
const LENT_MAX: usize = 4096;
/// `user_data` of the request that waits for the stop pipe; sockets use their index.
const STOP: u64 = u64::MAX;
/// `IORING_ENTER_GETEVENTS`: run deferred work, whether or not there is anything to wait for.
const GETEVENTS: u32 = 1;
/// Receives that the kernel does for one request before it looks at the next (`MULTISHOT_MAX_RETRY`).
/// Fewer mean that the socket was found empty.
const RUN: usize = 32;
/// Failed receives in a row after which the receiver gives up: a tenth of a second, since it rests a
/// millisecond after each.
const FAILURES_MAX: u32 = 100;

/// Rounds of cancelling before giving up; two are usual.
const FINISH_MAX: u32 = 1000;

/// Sizes of the rings.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    sq: u32,
    cq: u32,
    buffers: u16,
}

impl Sizes {
    fn new(slots: usize, sockets: usize) -> Self {
        let lent = (slots / 8).min(LENT_MAX);
        // The largest power of two that is not larger.
        let buffers = 1 << lent.max(1).ilog2();
        Self {
            // One request per socket, and the one for the stop pipe.
            sq: u32::try_from(sockets + 1).unwrap_or(u32::MAX).next_power_of_two(),
            // Every completion with data holds a buffer, so this cannot overflow, short of empty
            // rings and errors: these add one per request.
            cq: u32::from(buffers) * 2,
            buffers,
        }
    }
}

/// A ring for the calling thread, which must be the one that uses it. Needs Linux 6.1.
fn build(sizes: Sizes) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_submit_all()
        .setup_cqsize(sizes.cq.max(sizes.sq))
        .dontfork();
    // Saves an indirection, where the kernel has it (6.6).
    match builder.clone().setup_no_sqarray().build(sizes.sq) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => builder.build(sizes.sq),
        result => result,
    }
}

/// Whether `io_uring` can be used, found out by setting up what the receivers will set up, all at
/// once: what is short may be memory. If not: why, and what to do.
pub(super) fn probe(settings: &Settings) -> Result<(), String> {
    if settings.mask.no_io_uring {
        return Err(explain(&io::Error::from_raw_os_error(libc::EPERM)));
    }
    let listeners = settings.listeners.iter().flatten();
    let sockets = listeners.map(|listener| listener.addresses.len()).sum();
    let sizes = Sizes::new(settings.slots, sockets);
    let attempt = || {
        // Dropped in the order of their declaration, so each ring goes before its buffers.
        let mut held: Vec<(IoUring, BufRing)> = Vec::new();
        for _ in 0..settings.receivers {
            let buffers = BufRing::new(sizes.buffers)?;
            let ring = build(sizes)?;
            // SAFETY: in the tuple, and here if it fails, `ring` is closed before `buffers` goes.
            unsafe { buffers.register(&ring.submitter()) }?;
            held.push((ring, buffers));
        }
        Ok(())
    };
    attempt().map_err(|e: io::Error| explain(&e))
}

fn explain(error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "the host forbids it: allow io_uring_setup, io_uring_enter and io_uring_register in the \
             container's seccomp profile, and see `sysctl kernel.io_uring_disabled`"
        }
        Some(libc::ENOSYS) => "the kernel, or the container's seccomp profile, does not have it",
        Some(libc::EINVAL) => "the kernel is too old: Linux 6.1 or later is needed",
        Some(libc::ENOMEM) => {
            "not enough locked memory: raise `ulimit -l` (LimitMEMLOCK= in systemd)"
        }
        _ => "see io_uring_setup(2)",
    };
    format!("{error}; {hint}")
}

/// Receives until told to stop, then drains.
pub(super) fn run(receiver: Receiver, inline: &mut dyn Inline) -> Result<(), ReceiveError> {
    let Receiver { mut intake, sockets, settings, stop, ring: counters, .. } = receiver;
    let sizes = Sizes::new(settings.slots, sockets.len());
    let deadline = {
        let failed = |during| move |source| ReceiveError::Run { during, source };
        // The order matters: what is declared first is dropped last. The requests are cancelled and
        // the buffers unregistered by `Uring`, then the ring is closed, and only then does the memory
        // go that the kernel was told of.
        let mut buffers = BufRing::new(sizes.buffers).map_err(failed("making the buffer ring"))?;
        let mut ring = build(sizes).map_err(failed("setting up io_uring"))?;
        let parts = Parts {
            intake: &mut intake,
            inline,
            sockets: &sockets,
            stop: &stop,
            counters: &counters,
        };
        let pace = Pace::new(settings.gather);
        let mut uring = Uring::new(&mut ring, &mut buffers, parts, pace)
            .map_err(failed("setting up io_uring"))?;
        uring.min_wait &= !settings.mask.no_min_wait;
        let deadline = loop {
            uring.turn().map_err(failed("receiving with io_uring"))?;
            if let Some(deadline) = stop.requested() {
                break deadline;
            }
        };
        uring.finish().map_err(failed("stopping io_uring"))?;
        deadline
    };
    super::recvmmsg::drain(&mut intake, inline, &sockets, deadline)
}

/// What a [`Uring`] works for.
struct Parts<'a> {
    intake: &'a mut Intake,
    inline: &'a mut dyn Inline,
    sockets: &'a [Bound],
    stop: &'a Stop,
    counters: &'a RingCounters,
}

/// The request for one socket.
#[derive(Debug)]
struct Request {
    listener: Listener,
    armed: bool,
    /// Not to be made for now: its datagrams wait in the socket.
    held: bool,
}

/// The loop of one receiver.
struct Uring<'a> {
    submitter: Submitter<'a>,
    sq: SubmissionQueue<'a>,
    cq: CompletionQueue<'a>,
    buffers: &'a mut BufRing,
    intake: &'a mut Intake,
    inline: &'a mut dyn Inline,
    sockets: &'a [Bound],
    /// What the requests were made with: the kernel copies it, and answers are read by it.
    message: Box<libc::msghdr>,
    /// In the order of the registered files.
    requests: Vec<Request>,
    pace: Pace,
    /// Whether the kernel can gather by timer (6.12).
    min_wait: bool,
    failures: u32,
    registered: bool,
    counters: &'a RingCounters,
}

impl<'a> Uring<'a> {
    /// Registers everything and makes the first requests.
    fn new(
        ring: &'a mut IoUring,
        buffers: &'a mut BufRing,
        parts: Parts<'a>,
        pace: Pace,
    ) -> io::Result<Self> {
        let Parts { intake, inline, sockets, stop, counters } = parts;
        let min_wait = ring.params().is_feature_min_timeout();
        let (mut submitter, sq, cq) = ring.split();
        let files: Vec<i32> = sockets
            .iter()
            .map(|bound| bound.socket.as_raw_fd())
            .chain([stop.reader.as_raw_fd()])
            .collect();
        submitter.register_files(&files)?;
        submitter.register_ring_fd()?;
        let requests = sockets
            .iter()
            .map(|bound| Request { listener: bound.listener, armed: false, held: false })
            .collect();
        let mut uring = Self {
            submitter,
            sq,
            cq,
            buffers,
            intake,
            inline,
            sockets,
            message: Box::new(completion::message()),
            requests,
            pace,
            min_wait,
            failures: 0,
            registered: false,
            counters,
        };
        // SAFETY: `Drop` unregisters, and `buffers` outlives both `uring` and the ring.
        unsafe { uring.buffers.register(&uring.submitter) }?;
        uring.registered = true;
        let stop_file = u32::try_from(sockets.len()).unwrap_or(u32::MAX);
        let poll = opcode::PollAdd::new(Fixed(stop_file), libc::POLLIN as u32).build();
        // SAFETY: the request points to no memory.
        unsafe { uring.sq.push(&poll.user_data(STOP)) }.map_err(|_| io::ErrorKind::InvalidInput)?;
        uring.replenish();
        uring.arm();
        // The first requests are not made anew.
        counters.rearms.store(0, Ordering::Relaxed);
        Ok(uring)
    }

    /// Waits, handles what came, and leaves everything ready for the next wait.
    fn turn(&mut self) -> io::Result<()> {
        self.wait()?;
        let now = Instant::now();
        self.intake.start_turn();
        let reaped = self.reap();
        // Whatever came before a failure is counted and handed over.
        let received = self.intake.end_turn(self.inline);
        reaped?;
        self.pace.after_wait(received, now);
        self.replenish();
        self.hold()?;
        self.arm();
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        let paused = self.buffers.posted() == 0 || self.requests.iter().any(|r| r.held);
        let timeout = if paused { STARVED } else { self.intake.idle() };
        match self.pace.gather() {
            None => self.enter(1, Duration::ZERO, timeout),
            // The kernel comes back after `gather` if there is anything by then, else with the first
            // datagram after it.
            Some(gather) if self.min_wait => {
                self.enter((self.cq.capacity() / 4).max(1), gather, timeout)
            }
            Some(gather) => {
                thread::sleep(gather);
                self.sweep()
            }
        }
    }

    /// Takes what has arrived without waiting.
    fn sweep(&mut self) -> io::Result<()> {
        let mut before = 0;
        loop {
            self.enter(0, Duration::ZERO, Duration::ZERO)?;
            self.cq.sync();
            let brought = self.cq.len() - before;
            before = self.cq.len();
            if brought < RUN || before >= self.cq.capacity() / 4 {
                return Ok(());
            }
        }
    }

    /// Submits, and waits for `want` completions, for no less than `gather` and no more than
    /// `timeout`. Does not wait when `want` is 0.
    fn enter(&mut self, want: usize, gather: Duration, timeout: Duration) -> io::Result<()> {
        count(&self.counters.enters);
        self.sq.sync();
        let result = if want == 0 {
            let submit = u32::try_from(self.sq.len()).unwrap_or(u32::MAX);
            // SAFETY: without an argument nothing but the ring is read or written.
            unsafe { self.submitter.enter::<libc::sigset_t>(submit, 0, GETEVENTS, None) }
        } else {
            let timeout = Timespec::from(timeout);
            let gather = u32::try_from(gather.as_micros()).unwrap_or(u32::MAX);
            let args = SubmitArgs::new().min_wait_usec(gather).timespec(&timeout);
            self.submitter.submit_with_args(want, &args)
        };
        let Err(error) = result else { return Ok(()) };
        match error.raw_os_error() {
            // Time is up, a signal came, or completions have to be taken before more can be done.
            Some(libc::ETIME | libc::EINTR | libc::EBUSY) => Ok(()),
            Some(libc::EAGAIN | libc::ENOMEM) => self.failed(error),
            _ => Err(error),
        }
    }

    /// Handles every completion there is.
    fn reap(&mut self) -> io::Result<()> {
        self.cq.sync();
        while let Some(completion) = self.cq.next() {
            if completion.user_data() != STOP {
                self.complete(&completion)?;
            }
        }
        self.cq.sync();
        self.counters.overflow.store(u64::from(self.cq.overflow()), Ordering::Relaxed);
        Ok(())
    }

    fn complete(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let request = usize::try_from(completion.user_data())
            .ok()
            .and_then(|index| self.requests.get_mut(index))
            .ok_or_else(|| io::Error::other("a completion of no request"))?;
        if !cqueue::more(completion.flags()) {
            request.armed = false;
        }
        let listener = request.listener;
        match (cqueue::buffer_select(completion.flags()), usize::try_from(completion.result())) {
            (Some(slot), result) => {
                self.failures = 0;
                // A failure never carries a buffer; one that did would be too short for its header.
                self.received(slot, result.unwrap_or_default(), listener)
            }
            (None, Ok(_)) => Ok(()),
            (None, Err(_)) => match -completion.result() {
                libc::ENOBUFS | libc::ECANCELED => Ok(()),
                error => self.failed(io::Error::from_raw_os_error(error)),
            },
        }
    }

    /// A datagram came: `filled` bytes of the slot, header and name included.
    fn received(&mut self, slot: u16, filled: usize, listener: Listener) -> io::Result<()> {
        let pool = self.intake.pool();
        if !pool.is_posted(slot) {
            return Err(io::Error::other("the kernel named a buffer that it does not have"));
        }
        self.buffers.taken();
        let filled = filled.min(pool.slots().slot_size());
        // SAFETY: the slot was posted and the kernel has answered with it: it is ours again.
        let bytes = unsafe { pool.slots().bytes(slot, 0, filled) };
        let Some(found) = completion::parse(bytes, &self.message) else {
            self.intake.pool_mut().recycle(slot, filled);
            return Err(io::Error::other("a completion shorter than its header"));
        };
        let datagram =
            Datagram { listener, source: found.source, len: found.len, stored: found.stored };
        self.intake.admit(slot, &datagram);
        Ok(())
    }

    /// Counts a failure and rests; too many in a row are the end.
    fn failed(&mut self, error: io::Error) -> io::Result<()> {
        count(&self.counters.errors);
        self.failures += 1;
        if self.failures >= FAILURES_MAX {
            return Err(error);
        }
        thread::sleep(STARVED);
        Ok(())
    }

    /// Lends the kernel as many slots as it can hold, or as there are.
    fn replenish(&mut self) {
        while !self.buffers.is_full()
            && let Some(slot) = self.intake.pool_mut().take()
        {
            // SAFETY: the slot was just taken from the pool, which outlives the ring.
            unsafe { self.buffers.push(self.intake.pool().slots(), slot) };
        }
        self.buffers.publish();
        if self.buffers.posted() == 0 {
            count(&self.counters.starved);
        }
    }

    /// Decides which sockets' datagrams are to wait, and cancels their requests.
    fn hold(&mut self) -> io::Result<()> {
        for index in 0..self.requests.len() {
            let held = self.intake.holds(&self.sockets[index]);
            self.requests[index].held = held;
            if held && self.requests[index].armed {
                count(&self.counters.starved);
                self.cancel(CancelBuilder::user_data(index as u64))?;
            }
        }
        Ok(())
    }

    /// Makes the requests that have ended anew, unless they would end at once for want of buffers.
    fn arm(&mut self) {
        if self.buffers.posted() == 0 {
            return;
        }
        // Learns what the kernel has consumed, so that there is room for every request.
        self.sq.sync();
        for (index, request) in
            self.requests.iter_mut().enumerate().filter(|(_, r)| !r.armed && !r.held)
        {
            let file = Fixed(u32::try_from(index).unwrap_or(u32::MAX));
            let receive = opcode::RecvMsgMulti::new(file, &raw const *self.message, bufring::GROUP)
                .flags(libc::MSG_TRUNC as u32)
                .build()
                .user_data(index as u64);
            // SAFETY: `message` lives as long as `self`, which cancels the request before it goes.
            let pushed = unsafe { self.sq.push(&receive) };
            assert!(pushed.is_ok(), "the submission queue has room for every request");
            request.armed = true;
            count(&self.counters.rearms);
        }
    }

    /// Ends all requests, takes their last completions, and takes the lent slots back.
    fn finish(mut self) -> io::Result<()> {
        for _ in 0..FINISH_MAX {
            // Submit, because what was not submitted cannot be cancelled; and take what cancelling
            // brought the last time.
            self.enter(0, Duration::ZERO, Duration::ZERO)?;
            self.intake.start_turn();
            self.reap()?;
            self.intake.end_turn(self.inline);
            if self.requests.iter().all(|request| !request.armed) {
                self.unregister()?;
                self.intake.pool_mut().reclaim();
                return Ok(());
            }
            self.cancel(CancelBuilder::any())?;
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "receive requests that cannot be cancelled"))
    }

    /// Cancels requests; each still brings a last completion. That there is none is as well.
    fn cancel(&mut self, which: CancelBuilder) -> io::Result<()> {
        match self.submitter.register_sync_cancel(None, which) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            _ => Ok(()),
        }
    }

    fn unregister(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.registered) {
            self.submitter.unregister_buf_ring(bufring::GROUP)?;
        }
        Ok(())
    }
}

impl Drop for Uring<'_> {
    /// After an error or a panic. If the kernel cannot be made to let go of the slots, they are
    /// never unmapped.
    fn drop(&mut self) {
        if self.registered
            && (self.cancel(CancelBuilder::any()).is_err() || self.unregister().is_err())
        {
            std::mem::forget(Arc::clone(self.intake.pool().slots()));
        }
    }
}

#[cfg(test)]
mod tests;
