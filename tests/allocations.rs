//! The steady state allocates nothing per event, from the receive to the encoded batch.
//!
//! The real engine runs in this process under a counting allocator, with a destination that encodes
//! for InfluxDB and gives each batch back at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::future::Future;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringside::deliver::{Destination, Encode, Served};
use ringside::engine::{Engine, Settings};
use ringside::event::{Kind, Listener};
use ringside::rules::EnabledKinds;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Encodes for InfluxDB 1 and delivers to nowhere.
#[derive(Debug)]
struct Nowhere {
    batches: Arc<AtomicU64>,
    events: Arc<AtomicU64>,
}

impl Destination for Nowhere {
    fn name(&self) -> String {
        "nowhere".into()
    }

    fn encoder(&self) -> Box<dyn Encode> {
        todo!()
    }

    fn serve(self: Box<Self>, mut served: Served) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            while let Some(batch) = served.batches.recv().await {
                self.batches.fetch_add(1, Ordering::Relaxed);
                self.events.fetch_add(batch.events.into(), Ordering::Release);
                served.batches.recycle(batch.shard, batch.bytes);
            }
        })
    }
}
