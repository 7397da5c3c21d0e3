#![expect(unsafe_code, reason = "a shared mapping of a file is how processes see each other's bits at once")]
//! A file as an array of atomic 64-bit words, shared with every process that maps it.
//!
//! Invariant: the file's blocks are allocated before it is mapped and it is never shortened, since a write to
//! a page without room, or a read beyond the end, would be a SIGBUS. The store's directory is private to one
//! user (mode 0700), so nobody else can shorten it.

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// A mapped file.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the memory is only reached as `&[AtomicU64]`, which any thread may use; `base` itself never changes.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `words` words of `file`, which must be that long.
    pub(crate) fn new(file: &File, words: usize) -> io::Result<Self> {
        let bytes = words * size_of::<AtomicU64>();
        if bytes == 0 || file.metadata()?.len() < bytes as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing that Rust knows of.
        let base = unsafe { mmap(std::ptr::null_mut(), bytes, access, MapFlags::SHARED, file, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, words })
    }

    /// Its words. Little-endian order is the caller's business.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `base` is page-aligned, valid for `words` words as long as `self` lives, and every other
        // process writes these words by aligned 64-bit stores too.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let bytes = self.words * size_of::<AtomicU64>();
        // SAFETY: exactly the range that `new` mapped, to which no reference is left.
        if let Err(error) = unsafe { munmap(self.base.as_ptr().cast(), bytes) } {
            tracing::error!(%error, "unmapping a map of the local store failed");
        }
    }
}
