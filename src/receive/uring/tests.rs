//! Every rule about making requests anew, on real sockets. The loop is driven turn by turn on the
//! test's own thread, so what is asserted does not depend on timing.

use super::*;
use std::net::UdpSocket;

use crate::observe::ledger::{DropReason, Ledger, ReceiveCounts};
use crate::receive::slots::SLOTS_MIN;
use crate::receive::start::Elsewhere;
use crate::receive::{
    BackendChoice, FeatureMask, Handle, Lease, ListenerSettings, ShardEnd, ShardInput, start,
};

const LISTENER: Listener = Listener::LogEvents;
const SIZE_MAX: usize = 1000;

/// Everything around a [`Uring`].
struct Rig {
    sender: UdpSocket,
    shard: ShardInput,
    ledger: Arc<Ledger>,
    handle: Arc<Handle>,
}

impl Rig {
    fn send(&self, payload: &[u8]) {
        let to = self.handle.addresses(LISTENER)[0];
        assert_eq!(self.sender.send_to(payload, to).expect("send"), payload.len());
    }

    fn end(&mut self) -> &mut ShardEnd {
        &mut self.shard.ends[0]
    }

    fn take_all(&mut self) -> Vec<Lease> {
        std::iter::from_fn(|| self.end().take()).collect()
    }

    fn give_back(&mut self, leases: Vec<Lease>) {
        for lease in leases {
            self.end().give_back(lease);
        }
    }

    fn counts(&self) -> ReceiveCounts {
        self.ledger.receivers[0][LISTENER as usize].read()
    }
}

struct Shape {
    sizes: Sizes,
    reserve: bool,
    min_wait: bool,
    socket_buffer: usize,
}

impl Default for Shape {
    fn default() -> Self {
        let sizes = Sizes { sq: 2, cq: 8, buffers: 4 };
        Self { sizes, reserve: true, min_wait: true, socket_buffer: 1 << 20 }
    }
}

/// Sixteen slots, of which four are lent to the kernel and twelve may be leased, nine for one
/// listener.
fn with_uring(shape: &Shape, test: impl FnOnce(&mut Uring<'_>, &mut Rig)) {
    let mut settings = Settings {
        slots: SLOTS_MIN,
        backend: BackendChoice::IoUring,
        socket_buffer: shape.socket_buffer,
        ..Default::default()
    };
    settings.listeners[LISTENER as usize] = Some(ListenerSettings {
        addresses: vec!["127.0.0.1:0".parse().expect("address")],
        max_message_size: SIZE_MAX,
        queue_capacity: 100,
        backpressure_threshold: 80,
        strict: false,
    });
    let ledger = Arc::new(Ledger::new(1, 1, &[]));
    let mut receivers = start(settings, &ledger).expect("start");
    let mut rig = Rig {
        sender: UdpSocket::bind("127.0.0.1:0").expect("sender"),
        shard: receivers.shards.remove(0),
        ledger,
        handle: receivers.handle,
    };
    let Receiver { mut intake, sockets, settings, stop, ring: counters, .. } =
        receivers.threads.remove(0);
    if !shape.reserve {
        intake.hold_nothing_back();
    }
    let mut buffers = BufRing::new(shape.sizes.buffers).expect("buffer ring");
    let mut kernel_ring = build(shape.sizes).expect("ring");
    let parts = Parts {
        intake: &mut intake,
        inline: &mut Elsewhere,
        sockets: &sockets,
        stop: &stop,
        counters: &counters,
    };
    let mut uring = Uring::new(&mut kernel_ring, &mut buffers, parts, Pace::new(settings.gather))
        .expect("io_uring set up");
    uring.min_wait &= shape.min_wait;
    test(&mut uring, &mut rig);
    let leases = rig.take_all();
    rig.give_back(leases);
    uring.finish().expect("requests end");
    intake.start_turn();
    assert_eq!(intake.pool().leased_total(), 0, "every slot came back");
    assert_eq!(intake.pool().free(), SLOTS_MIN, "and is free");
}

/// Turns until `count` datagrams have been received in all.
fn turn_until(uring: &mut Uring<'_>, rig: &Rig, count: u64) {
    let begin = Instant::now();
    while rig.counts().received < count {
        uring.turn().expect("turn");
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?} of {count}", rig.counts());
    }
    assert_eq!(rig.counts().received, count);
}

#[test]
fn datagrams_arrive_whole_and_in_order() {
    with_uring(&Shape::default(), |uring, rig| {
        // One fewer than the buffers lent, so that they do not run out.
        for i in 0..3_u8 {
            rig.send(&vec![i; usize::from(i) * 100 + 1]);
        }
        turn_until(uring, rig, 3);
        let leases = rig.take_all();
        let mut last = 0;
        for (i, lease) in (0..3_u8).zip(&leases) {
            assert_eq!(rig.end().payload(lease).bytes(), vec![i; usize::from(i) * 100 + 1]);
            assert_eq!(lease.source, rig.sender.local_addr().expect("address"));
            assert_eq!(lease.listener, LISTENER);
            assert!(lease.received_ns > last);
            last = lease.received_ns;
        }
        rig.give_back(leases);
        assert_eq!(rig.handle.ring_stats().rearms, 0, "one request is enough");
    });
}

#[test]
fn an_empty_datagram_ends_the_request_which_is_made_anew() {
    with_uring(&Shape::default(), |uring, rig| {
        rig.send(b"");
        turn_until(uring, rig, 1);
        assert_eq!(rig.handle.ring_stats().rearms, 1);
        rig.send(b"after");
        turn_until(uring, rig, 2);
        let leases = rig.take_all();
        assert_eq!(rig.end().payload(&leases[0]).bytes(), b"");
        assert_eq!(rig.end().payload(&leases[1]).bytes(), b"after");
        rig.give_back(leases);
    });
}

#[test]
fn running_out_of_buffers_ends_the_request_which_is_made_anew_after_replenishing() {
    with_uring(&Shape::default(), |uring, rig| {
        // Four buffers are lent; seven leases may be out before the rest waits in the socket.
        for i in 0..7 {
            rig.send(&[i]);
        }
        turn_until(uring, rig, 7);
        assert!(rig.handle.ring_stats().rearms >= 1);
        assert_eq!(rig.handle.ring_stats().starved, 0);
        assert_eq!(rig.counts().handed, 7);
        let leases = rig.take_all();
        for (i, lease) in (0..7).zip(&leases) {
            assert_eq!(rig.end().payload(lease).bytes(), [i]);
        }
        rig.give_back(leases);
    });
}

#[test]
fn a_burst_longer_than_the_pool_waits_in_the_socket() {
    with_uring(&Shape::default(), |uring, rig| {
        for _ in 0..50 {
            rig.send(b"burst");
        }
        for _ in 0..20 {
            uring.turn().expect("turn");
        }
        let counts = rig.counts();
        assert!((8..=9).contains(&counts.received), "{counts:?}");
        assert_eq!(counts.dropped.sum(), 0);
        let begin = Instant::now();
        while rig.counts().received < 50 {
            let leases = rig.take_all();
            rig.give_back(leases);
            uring.turn().expect("turn");
            assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", rig.counts());
        }
        assert_eq!(rig.counts().handed, 50, "nothing was dropped");
    });
}

#[test]
fn the_receiver_goes_on_when_no_shard_returns_anything() {
    let shape = Shape { socket_buffer: 4096, ..Shape::default() };
    with_uring(&shape, |uring, rig| {
        // The socket fills, and is emptied all the same.
        let begin = Instant::now();
        while rig.counts().dropped.get(DropReason::QueueFull) < 20 {
            rig.send(b"flood");
            uring.turn().expect("turn");
            assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", rig.counts());
        }
        assert_eq!(rig.counts().handed, 9, "three quarters of three quarters of sixteen");
        assert_eq!(rig.handle.kernel_drops(LISTENER), 0);
        let leases = rig.take_all();
        assert_eq!(leases.len(), 9, "the ring holds what was handed over and not taken");
        rig.give_back(leases);
        rig.send(b"room again");
        while rig.counts().handed < 10 {
            uring.turn().expect("turn");
            assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", rig.counts());
        }
    });
}

#[test]
fn starved_requests_wait_for_slots_to_come_back() {
    with_uring(&Shape { reserve: false, ..Shape::default() }, |uring, rig| {
        for _ in 0..SLOTS_MIN + 4 {
            rig.send(b"more than there are slots");
        }
        turn_until(uring, rig, SLOTS_MIN as u64);
        assert_eq!(uring.buffers.posted(), 0);
        // The last request may only now learn that there are no buffers; it is not made anew.
        uring.turn().expect("turn");
        let (stats, begin) = (rig.handle.ring_stats(), Instant::now());
        for _ in 0..5 {
            uring.turn().expect("turn");
        }
        assert!(begin.elapsed() >= STARVED * 5, "it sleeps, it does not spin");
        assert!(uring.requests.iter().all(|request| !request.armed));
        assert_eq!(rig.handle.ring_stats().rearms, stats.rearms);
        assert!(stats.starved > 0);
        let leases = rig.take_all();
        rig.give_back(leases);
        turn_until(uring, rig, SLOTS_MIN as u64 + 4);
        assert_eq!(rig.counts().handed, SLOTS_MIN as u64 + 4, "nothing was lost");
    });
}

#[test]
fn a_full_completion_queue_loses_nothing() {
    let sizes = Sizes { sq: 2, cq: 2, buffers: 8 };
    with_uring(&Shape { sizes, ..Shape::default() }, |uring, rig| {
        for i in 0..8 {
            rig.send(&[i]);
        }
        turn_until(uring, rig, 8);
        assert!(rig.handle.ring_stats().rearms >= 1, "the request was ended");
        assert_eq!(rig.handle.ring_stats().overflow, 0);
        let leases = rig.take_all();
        for (i, lease) in (0..8).zip(&leases) {
            assert_eq!(rig.end().payload(lease).bytes(), [i]);
        }
        rig.give_back(leases);
    });
}

#[test]
fn what_is_too_long_is_dropped_with_its_true_size() {
    with_uring(&Shape::default(), |uring, rig| {
        rig.send(&[0; SIZE_MAX]);
        rig.send(&[0; SIZE_MAX + 1]);
        // Longer than a slot: the kernel cuts it and tells the true length.
        rig.send(&vec![0; 60_000]);
        turn_until(uring, rig, 3);
        assert_eq!(rig.counts().handed, 1);
        assert_eq!(rig.counts().dropped.get(DropReason::Size), 2);
        assert_eq!(rig.handle.ring_stats().rearms, 0);
    });
}

#[test]
fn under_load_a_turn_gathers_with_and_without_the_kernels_timer() {
    for min_wait in [true, false] {
        with_uring(&Shape { min_wait, ..Shape::default() }, |uring, rig| {
            rig.send(b"1");
            rig.send(b"2");
            turn_until(uring, rig, 2);
            // Two at once, or two in short order: both are load.
            assert_eq!(uring.pace.gather(), Some(Settings::GATHER));
            for _ in 0..4 {
                rig.send(b"gathered");
            }
            let begin = Instant::now();
            uring.turn().expect("turn");
            assert_eq!(rig.counts().received, 6, "min_wait {min_wait}");
            assert!(uring.min_wait == min_wait && begin.elapsed() < uring.intake.idle());
            // Silence ends it: at once without the timer, at the idle time-out with it.
            uring.turn().expect("turn");
            assert_eq!(uring.pace.gather(), None);
        });
    }
}

#[test]
fn a_refusal_says_why_and_what_to_do() {
    let mask = FeatureMask { no_io_uring: true, ..Default::default() };
    let masked = Settings { mask, ..Default::default() };
    let reason = probe(&masked).expect_err("masked");
    assert!(reason.contains("seccomp") && reason.contains("io_uring_disabled"), "{reason}");
    probe(&Settings::default()).expect("this host allows io_uring");
}

#[test]
fn a_seccomp_filter_is_noticed() {
    // The filter holds for this thread alone.
    let probed = thread::spawn(|| {
        forbid_io_uring();
        probe(&Settings::default())
    });
    let reason = probed.join().expect("thread").expect_err("forbidden");
    assert!(reason.contains("seccomp"), "{reason}");
}

/// What Docker's default profile does: `io_uring_setup` answers `EPERM`.
fn forbid_io_uring() {
    let op = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).expect("opcode"),
        jt,
        jf,
        k,
    };
    let number = u32::try_from(libc::SYS_io_uring_setup).expect("number");
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let mut program = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, refuse),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).expect("length"),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the filter outlives the calls, and the kernel copies it.
    let results = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter),
        ]
    };
    assert_eq!(results, [0, 0], "{}", io::Error::last_os_error());
}
