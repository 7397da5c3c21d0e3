//! Shared memory mappings of files, behind a safe face: copies in and out, never references into the mapping.
//!
//! Invariant: a mapping is only touched inside its length, which the caller makes sure lies inside the file.

#![expect(unsafe_code, reason = "mmap has no safe form")]

use anyhow::{Context, Result};
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
use std::ffi::c_void;
use std::fs::File;

/// A shared mapping of the first bytes of a file.
#[derive(Debug)]
pub struct Mapping {
    start: *mut c_void,
    len: usize,
}

impl Mapping {
    /// Maps the first `len` bytes; the file must be at least that long and stay so.
    pub fn shared(file: &File, len: usize) -> Result<Self> {
        Self::new(file, len, ProtFlags::READ | ProtFlags::WRITE)
    }

    /// The same for a file opened for reading only; [`Mapping::write`] ends the program.
    pub fn read_only(file: &File, len: usize) -> Result<Self> {
        Self::new(file, len, ProtFlags::READ)
    }

    fn new(file: &File, len: usize, protection: ProtFlags) -> Result<Self> {
        // SAFETY: the kernel chooses a free address, so no memory of this program is replaced.
        let start = unsafe { mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, file, 0) };
        Ok(Self { start: start.context("mmap")?, len })
    }

    /// Writes into the mapping.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len, "inside the mapping");
        // SAFETY: the range lies inside the mapping, and no reference into it is ever made.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.cast::<u8>().add(offset), bytes.len());
        }
    }

    /// Reads from the mapping.
    pub fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= self.len, "inside the mapping");
        let mut bytes = vec![0; len];
        // SAFETY: the range lies inside the mapping, and the destination is that long.
        unsafe {
            std::ptr::copy_nonoverlapping(self.start.cast::<u8>().add(offset), bytes.as_mut_ptr(), len);
        }
        bytes
    }

    /// Waits until what was written is in the file.
    pub fn sync(&self) -> Result<()> {
        // SAFETY: the range is exactly the mapping.
        unsafe { msync(self.start, self.len, MsyncFlags::SYNC) }.context("msync")
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly the mapping, which nobody uses after this.
        unsafe { munmap(self.start, self.len) }.expect("munmap of an existing mapping");
    }
}
