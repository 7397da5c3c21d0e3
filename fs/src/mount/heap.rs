//! Settings of the C library's allocator.
//!
//! It learns from every large buffer that is freed to keep such buffers, in one heap for each few threads. Parts of
//! uploads are 8 MiB, so tarn came to keep several times the memory it was allowed. With a fixed threshold a part
//! goes back to the kernel when it is freed. Blocks of 256 KiB stay in the heap: there is one for all threads, since
//! each further one keeps a peak of its own (233 MiB became 198 while 64 files were read and written at once).

#![cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "the C library has no safe way to be told"))]

/// Buffers from this size on are mapped each by itself.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: libc::c_int = 1 << 20;
/// Heaps.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 1;
/// Free memory at the end of a heap is given back from this size on.
#[cfg(target_env = "gnu")]
const TRIMMED_FROM: libc::c_int = 4 << 20;

/// Sets them; to be called before threads are started.
#[cfg(target_env = "gnu")]
pub(super) fn bound() {
    let settings = [
        (libc::M_MMAP_THRESHOLD, MAPPED_FROM),
        (libc::M_TRIM_THRESHOLD, TRIMMED_FROM),
        (libc::M_ARENA_MAX, HEAPS),
    ];
    for (setting, value) in settings {
        // SAFETY: mallopt takes two numbers and no pointers; it locks the heap that it changes.
        if unsafe { libc::mallopt(setting, value) } == 0 {
            tracing::debug!(setting, value, "the allocator keeps its own setting");
        }
    }
}

/// Gives back what is free.
#[cfg(target_env = "gnu")]
pub(super) fn trim() {
    // SAFETY: malloc_trim takes a number; it locks each heap that it looks at.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give back by themselves.
#[cfg(not(target_env = "gnu"))]
pub(super) fn trim() {}

/// Other C libraries do not learn.
#[cfg(not(target_env = "gnu"))]
pub(super) fn bound() {}
