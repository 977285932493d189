//! Zeroed, page-aligned memory that costs nothing until it is touched.
//!
//! The pool reserves room for the longest datagram in every slot; nearly all datagrams are a few
//! hundred bytes, so nearly all of that room is never backed by memory.

use std::io;
use std::ptr::NonNull;

/// Slots and rings start at, and are rounded up to, this many bytes.
pub(super) const PAGE: usize = 4096;

/// Owned memory. It hands out raw pointers only, because the kernel writes into it.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is owned memory without thread affinity; it is reached through raw pointers
// only, and who may use which part of it when is settled by the users of `start()`.
unsafe impl Send for Mapping {}
// SAFETY: as above; no method that takes `&self` touches the memory, except `discard`, whose caller
// promises exclusive use of the part.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The first byte.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use super::{Mapping, NonNull, PAGE, io};
    use std::ptr;

    impl Mapping {
        /// Reserves `len` bytes of zeros (rounded up to a page).
        pub(in crate::receive) fn new(len: usize) -> io::Result<Self> {
            let len = len.next_multiple_of(PAGE);
            // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no
            // existing memory.
            let start = unsafe {
                libc::mmap(
                    ptr::null_mut(),
                    len,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                    -1,
                    0,
                )
            };
            if start == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            // DONTFORK: a child must not get copy-on-write pages that the kernel fills for us.
            // NOHUGEPAGE: one small datagram must not make two megabytes resident.
            for advice in [libc::MADV_DONTFORK, libc::MADV_NOHUGEPAGE] {
                // SAFETY: the range was mapped above and neither advice changes its contents. A
                // kernel that lacks one of them answers EINVAL, and works without.
                unsafe { libc::madvise(start, len, advice) };
            }
            let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
            Ok(Self { start, len })
        }

        /// Gives the memory behind a part back to the system; it reads as zeros afterwards.
        ///
        /// # Safety
        /// Nobody else may use the part meanwhile: no reference into it, no request of the kernel.
        pub(in crate::receive) unsafe fn discard(&self, offset: usize, len: usize) {
            assert!(offset.is_multiple_of(PAGE) && offset + len <= self.len);
            // SAFETY: the range lies within the mapping, and the caller has exclusive use of it.
            // Failure means that the memory stays resident, which harms nobody.
            unsafe {
                libc::madvise(self.start.as_ptr().add(offset).cast(), len, libc::MADV_DONTNEED)
            };
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: the range was mapped by `new`, and whoever uses it borrows or shares `self`.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use super::{Mapping, NonNull, PAGE, io};
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    fn layout(len: usize) -> io::Result<Layout> {
        Layout::from_size_align(len, PAGE).map_err(|_| io::ErrorKind::OutOfMemory.into())
    }

    impl Mapping {
        /// Reserves `len` bytes of zeros (rounded up to a page).
        pub(in crate::receive) fn new(len: usize) -> io::Result<Self> {
            let layout = layout(len.next_multiple_of(PAGE).max(PAGE))?;
            // SAFETY: the size is not zero.
            let start = NonNull::new(unsafe { alloc_zeroed(layout) });
            Ok(Self { start: start.ok_or(io::ErrorKind::OutOfMemory)?, len: layout.size() })
        }

        /// Does nothing: the allocator keeps its pages.
        ///
        /// # Safety
        /// As on Linux, so that callers need not tell the platforms apart.
        #[expect(clippy::unused_self, reason = "as on Linux")]
        pub(in crate::receive) unsafe fn discard(&self, _offset: usize, _len: usize) {}
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            if let Ok(layout) = layout(self.len) {
                // SAFETY: allocated by `new` with this very layout.
                unsafe { dealloc(self.start.as_ptr(), layout) };
            }
        }
    }
}
