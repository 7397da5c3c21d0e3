//! The memory that requests are read into is there before the first of them.
//!
//! The library maps 16 MiB for each thread that reads, of which the kernel fills what a request needs. If the process is
//! killed while that page by page becomes memory for the first time, the kernel cannot copy the request: it fails with
//! EIO instead of being sent again to the next process (`fuse_copy_fill`, `get_user_pages` under a fatal signal).

#![expect(
    unsafe_code,
    reason = "the library makes its buffers itself; the allocator is the only way to them"
)]

use super::ops::REQUEST_MAX;
use std::alloc::{GlobalAlloc, Layout, System};

/// Bytes of the smallest buffer that a request is read into.
const BUFFER: usize = 16 << 20;
/// What the kernel fills at most, with its headers.
const FILLED: usize = REQUEST_MAX as usize + (8 << 10);

/// The system's allocator, with memory behind the buffers of requests.
struct Filled;

#[global_allocator]
static ALLOCATOR: Filled = Filled;

// SAFETY: every call is handed on; what is done besides changes no byte and moves nothing.
unsafe impl GlobalAlloc for Filled {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let start = unsafe { System.alloc_zeroed(layout) };
        if layout.size() >= BUFFER && !start.is_null() {
            let page = start.map_addr(|at| at & !(rustix::param::page_size() - 1));
            // SAFETY: the pages are those of the new block. If the kernel cannot do it (before 5.14) nothing is lost.
            unsafe { libc::madvise(page.cast(), FILLED, libc::MADV_POPULATE_WRITE) };
        }
        start
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.realloc(start, layout, size) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(start, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_buffer_for_requests_has_memory_as_far_as_they_go() {
        let buffer = vec![0_u8; BUFFER + 4096];
        let pages = std::fs::File::open("/proc/self/pagemap").expect("the page map");
        let page_size = rustix::param::page_size();
        let is_there = |at: usize| {
            let mut entry = [0; 8];
            let page = (buffer.as_ptr().addr() + at) / page_size;
            pages.read_exact_at(&mut entry, page as u64 * 8).expect("its entry");
            // Bit 63: present; 62: swapped out.
            u64::from_le_bytes(entry) >> 62 != 0
        };
        for at in (0..REQUEST_MAX as usize + 4096).step_by(page_size) {
            assert!(is_there(at), "byte {at}");
        }
        assert!(!is_there(BUFFER), "and no further");
    }
}
