//! What the kernel alone costs: three loops that take datagrams from a socket and do nothing with them.
//!
//! A receiver cannot cost less than the loop with its own way of waiting, and how far above that it is
//! says what is left to gain. All three learn the sender's address, as every receiver must that admits
//! by source, and have the same socket buffer:
//!
//! * `waking`: `recvmmsg` with `MSG_WAITFORONE`, the textbook loop, which wakes for every arrival;
//! * `budgeted`: `recvmmsg` that sleeps between two looks at the socket for as long as Ringside gathers;
//! * `multishot`: an `io_uring` multishot receive into provided buffers that waits as Ringside waits.
//!
//! `cargo run --release --example floor -- MODE [--latency] [--buffer BYTES]`. Prints its address, and one
//! line of JSON once its standard input ends and the socket is empty.

mod stamp;

use std::error::Error;
use std::io::{self, Read};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use io_uring::types::{BufRingEntry, Fixed, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use memchr::memmem;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeValLike;

/// Datagrams per call.
const CALL: usize = 64;
/// Ringside's own, unless told otherwise.
const GATHER: Duration = Duration::from_micros(500);
const SOCKET_BUFFER: usize = 32 << 20;
/// Buffers that the multishot loop provides.
const BUFFERS: u16 = 1024;
/// How long a loop waits in silence before it looks whether it is to end.
const IDLE: Duration = Duration::from_millis(100);
/// Room for a sender's address: `struct sockaddr_in6`.
const NAME: usize = 28;

/// Takes datagrams and throws them away.
#[derive(Debug, Parser)]
struct Arguments {
    mode: Mode,
    /// Looks for the sender's clock in each datagram; costs time of its own.
    #[arg(long)]
    latency: bool,
    /// Bytes of each buffer; longer datagrams are cut.
    #[arg(long, default_value_t = 2048)]
    buffer: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    Waking,
    Budgeted,
    Multishot,
}

/// What was taken.
struct Taken {
    datagrams: u64,
    bytes: u64,
    calls: u64,
    latencies: Option<(memmem::Finder<'static>, stamp::Latencies)>,
}

impl Taken {
    fn add(&mut self, datagram: &[u8]) {
        self.datagrams += 1;
        self.bytes += datagram.len() as u64;
        if let Some((finder, latencies)) = &mut self.latencies {
            let now = stamp::wall_ns();
            stamp::find_all(finder, datagram, |sent| latencies.add(sent, now));
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    // Without the privilege, what the system allows.
    if setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER)?;
    }
    socket.set_read_timeout(Some(IDLE))?;
    println!("{}", socket.local_addr()?);
    let stop = AtomicBool::new(false);
    let (taken, usage) = thread::scope(|scope| {
        let drain = scope.spawn(|| drain(&arguments, &socket, &stop));
        let ended = io::stdin().read_to_end(&mut Vec::new());
        stop.store(true, Ordering::Relaxed);
        ended.and_then(|_| drain.join().expect("the loop does not panic"))
    })?;
    let Taken { datagrams, bytes, calls, latencies } = taken;
    println!(
        "{}",
        serde_json::json!({
            "datagrams": datagrams, "bytes": bytes, "calls": calls,
            "user_ns": usage.user_time().num_nanoseconds(),
            "system_ns": usage.system_time().num_nanoseconds(),
            "context_switches": usage.voluntary_context_switches(),
            "kernel_drops": kernel_drops(socket.as_raw_fd())?,
            "latency": latencies.map(|(_, latencies)| latencies.json()),
        })
    );
    Ok(())
}

/// Runs one of the loops; what it took and what its thread cost.
fn drain(
    arguments: &Arguments,
    socket: &UdpSocket,
    stop: &AtomicBool,
) -> io::Result<(Taken, Usage)> {
    let latencies =
        arguments.latency.then(|| (memmem::Finder::new(stamp::MARK), stamp::Latencies::new()));
    let mut taken = Taken { datagrams: 0, bytes: 0, calls: 0, latencies };
    match arguments.mode {
        Mode::Waking => waking(socket, arguments.buffer, stop, &mut taken)?,
        Mode::Budgeted => budgeted(socket, arguments.buffer, stop, &mut taken)?,
        Mode::Multishot => multishot(socket, arguments.buffer, stop, &mut taken)?,
    }
    Ok((taken, getrusage(UsageWho::RUSAGE_THREAD)?))
}

/// Buffers for `recvmmsg`, described once: only the lengths change from call to call.
///
/// All memory lives as long as the process, so that the pointers among its parts cannot dangle.
struct Batch {
    headers: &'static mut [libc::mmsghdr],
    buffers: &'static [u8],
    size: usize,
}

impl Batch {
    fn new(size: usize) -> Self {
        let buffers = Box::leak(vec![0; CALL * size].into_boxed_slice());
        let names = Box::leak(vec![0_u8; CALL * NAME].into_boxed_slice());
        // SAFETY: zeros are an empty message.
        let mut headers = vec![unsafe { std::mem::zeroed::<libc::mmsghdr>() }; CALL];
        let parts = buffers.chunks_mut(size).zip(names.chunks_mut(NAME)).zip(&mut headers);
        for ((buffer, name), header) in parts {
            let vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: size };
            header.msg_hdr.msg_iov = Box::leak(Box::new(vector));
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = name.as_mut_ptr().cast();
        }
        Self { headers: Box::leak(headers.into_boxed_slice()), buffers, size }
    }

    /// One call; how many datagrams it brought, 0 when there are none.
    fn receive(&mut self, fd: RawFd, flags: i32, taken: &mut Taken) -> io::Result<usize> {
        for header in &mut *self.headers {
            header.msg_hdr.msg_namelen = NAME as u32;
        }
        taken.calls += 1;
        // SAFETY: every header describes memory of its own that lives forever, and nothing borrows it
        // during the call.
        let got = unsafe {
            libc::recvmmsg(fd, self.headers.as_mut_ptr(), CALL as u32, flags, std::ptr::null_mut())
        };
        let Ok(got) = usize::try_from(got) else {
            let error = io::Error::last_os_error();
            let nothing =
                matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            return if nothing { Ok(0) } else { Err(error) };
        };
        for (header, buffer) in self.headers[..got].iter().zip(self.buffers.chunks(self.size)) {
            taken.add(&buffer[..header.msg_len as usize]);
        }
        Ok(got)
    }
}

fn waking(socket: &UdpSocket, size: usize, stop: &AtomicBool, taken: &mut Taken) -> io::Result<()> {
    let mut batch = Batch::new(size);
    // The socket's own timeout ends a wait in silence.
    while batch.receive(socket.as_raw_fd(), libc::MSG_WAITFORONE, taken)? > 0
        || !stop.load(Ordering::Relaxed)
    {}
    Ok(())
}

fn budgeted(
    socket: &UdpSocket,
    size: usize,
    stop: &AtomicBool,
    taken: &mut Taken,
) -> io::Result<()> {
    let mut batch = Batch::new(size);
    loop {
        let first = batch.receive(socket.as_raw_fd(), libc::MSG_WAITFORONE, taken)?;
        if first == 0 && stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Gathers until a look finds nothing; then the next datagram is waited for.
        let mut swept = first;
        while swept > 0 {
            thread::sleep(GATHER);
            swept = 0;
            loop {
                let got = batch.receive(socket.as_raw_fd(), libc::MSG_DONTWAIT, taken)?;
                swept += got;
                if got < CALL {
                    break;
                }
            }
        }
    }
}

/// The buffers that are lent to the kernel, and the ring through which they are; both live as long as
/// the process.
struct Lent {
    entries: &'static mut [BufRingEntry],
    tail: u16,
    buffers: *mut u8,
    size: usize,
}

impl Lent {
    fn new(size: usize) -> Self {
        let layout = |len| std::alloc::Layout::from_size_align(len, 4096).expect("a small layout");
        let count = usize::from(BUFFERS);
        // SAFETY: neither size is zero, zeros are valid entries, and neither is ever freed.
        let (entries, buffers) = unsafe {
            let entries = std::alloc::alloc_zeroed(layout(count * size_of::<BufRingEntry>()));
            let buffers = std::alloc::alloc_zeroed(layout(count * size));
            assert!(!entries.is_null() && !buffers.is_null(), "memory for the buffers");
            (std::slice::from_raw_parts_mut(entries.cast(), count), buffers)
        };
        let mut lent = Self { entries, tail: 0, buffers, size };
        (0..BUFFERS).for_each(|buffer| lent.push(buffer));
        lent.publish();
        lent
    }

    fn push(&mut self, buffer: u16) {
        let entry = &mut self.entries[usize::from(self.tail % BUFFERS)];
        // Lies within the allocation: there are `BUFFERS` buffers of this size.
        entry.set_addr(self.buffers.wrapping_add(usize::from(buffer) * self.size) as u64);
        entry.set_len(u32::try_from(self.size).expect("a buffer of a few kilobytes"));
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the pointer is that of the first entry; the field is read by the kernel only.
        let tail =
            unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// What the kernel wrote into a buffer that it has named.
    fn filled(&self, buffer: u16, len: usize) -> &[u8] {
        let start = self.buffers.wrapping_add(usize::from(buffer % BUFFERS) * self.size);
        // SAFETY: the buffer is one of ours, initialised, and no longer the kernel's.
        unsafe { std::slice::from_raw_parts(start, len.min(self.size)) }
    }
}

fn multishot(
    socket: &UdpSocket,
    size: usize,
    stop: &AtomicBool,
    taken: &mut Taken,
) -> io::Result<()> {
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_cqsize(u32::from(BUFFERS) * 2)
        .build(4)?;
    // The header and the sender's address stand before the datagram.
    let mut lent = Lent::new((size + 64).next_multiple_of(64));
    // SAFETY: zeros are an empty message; the kernel copies it with each request.
    let message: &libc::msghdr = Box::leak(Box::new(libc::msghdr {
        msg_namelen: NAME as u32,
        ..unsafe { std::mem::zeroed() }
    }));
    let (mut submitter, mut sq, mut cq) = ring.split();
    submitter.register_files(&[socket.as_raw_fd()])?;
    submitter.register_ring_fd()?;
    // SAFETY: the entries are page-aligned and are never freed.
    unsafe { submitter.register_buf_ring_with_flags(lent.entries.as_ptr() as u64, BUFFERS, 0, 0) }?;
    let receive = opcode::RecvMsgMulti::new(Fixed(0), message, 0).build();
    let idle = Timespec::from(IDLE);
    let (mut armed, mut gathering, mut last) = (false, false, Instant::now());
    loop {
        if !armed {
            // SAFETY: the message lives forever.
            unsafe { sq.push(&receive) }.map_err(io::Error::other)?;
            sq.sync();
            armed = true;
        }
        let (want, gather) =
            if gathering { (usize::from(BUFFERS), GATHER) } else { (1, Duration::ZERO) };
        let gather = u32::try_from(gather.as_micros()).unwrap_or(u32::MAX);
        taken.calls += 1;
        let args = SubmitArgs::new().min_wait_usec(gather).timespec(&idle);
        match submitter.submit_with_args(want, &args) {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR)) => {
                return Err(error);
            }
            _ => {}
        }
        sq.sync();
        cq.sync();
        let mut got = 0_u32;
        for completion in &mut cq {
            armed &= cqueue::more(completion.flags());
            let Some(buffer) = cqueue::buffer_select(completion.flags()) else { continue };
            let filled = lent.filled(buffer, usize::try_from(completion.result()).unwrap_or(0));
            if let Ok(out) = RecvMsgOut::parse(filled, message) {
                taken.add(out.payload_data());
            }
            lent.push(buffer);
            got += 1;
        }
        lent.publish();
        let now = Instant::now();
        gathering = got > 1 || (got == 1 && now - last < GATHER);
        last = now;
        if got == 0 && stop.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}

/// Datagrams that the kernel threw away because the socket's buffer was full.
fn kernel_drops(fd: RawFd) -> io::Result<u32> {
    let mut info = [0_u32; 9];
    let mut length = u32::try_from(size_of_val(&info)).expect("36 bytes");
    // SAFETY: the option fills at most `length` bytes of the array.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &mut length,
        )
    };
    // SK_MEMINFO_DROPS
    if result == 0 { Ok(info[8]) } else { Err(io::Error::last_os_error()) }
}
