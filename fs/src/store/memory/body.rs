//! The bytes of an object: in memory, or in a scratch file if the store was given one.
//!
//! A body is a list of segments, so that joining parts and copying ranges moves no bytes. Space in the scratch
//! file is given back to its file system when the last body that uses it is gone.

use bytes::{Bytes, BytesMut};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bodies up to this size stay in memory.
const IN_MEMORY: usize = 64 << 10;
/// Extents begin at whole pages, so that a punched hole frees what it covers.
const ALIGN: u64 = 4096;

/// A file without a name, that bodies are written to one behind the other.
#[derive(Debug)]
pub(super) struct Scratch {
    file: Arc<File>,
    end: AtomicU64,
}

impl Scratch {
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        Ok(Self { file: Arc::new(tempfile::tempfile_in(dir)?), end: AtomicU64::new(0) })
    }

    fn write(&self, bytes: &[u8]) -> io::Result<Extent> {
        let length = bytes.len() as u64;
        let start = self.end.fetch_add(length.next_multiple_of(ALIGN), Ordering::Relaxed);
        let extent = Extent { file: Arc::clone(&self.file), start, length };
        self.file.write_all_at(bytes, start)?;
        Ok(extent)
    }
}

/// A piece of the scratch file, freed on drop.
#[derive(Debug)]
struct Extent {
    file: Arc<File>,
    start: u64,
    length: u64,
}

impl Drop for Extent {
    fn drop(&mut self) {
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if let Err(error) = fallocate(&self.file, punch, self.start, self.length.next_multiple_of(ALIGN)) {
            // The space comes back with the file; nothing reads it any more.
            tracing::debug!(%error, "scratch space is not freed");
        }
    }
}

/// Bytes of an object.
#[derive(Debug, Clone, Default)]
pub(super) struct Body {
    segments: Vec<Segment>,
    length: u64,
}

#[derive(Debug, Clone)]
enum Segment {
    Memory(Bytes),
    File { extent: Arc<Extent>, range: Range<u64> },
}

impl Body {
    /// Keeps the bytes, large ones in the scratch file if there is one.
    pub(super) fn new(bytes: Bytes, scratch: Option<&Scratch>) -> io::Result<Self> {
        let length = bytes.len() as u64;
        let segment = match scratch {
            Some(scratch) if bytes.len() > IN_MEMORY => {
                Segment::File { extent: Arc::new(scratch.write(&bytes)?), range: 0..length }
            }
            Some(_) | None => Segment::Memory(bytes),
        };
        Ok(Self { segments: vec![segment], length })
    }

    /// One body behind the other.
    pub(super) fn join(bodies: impl IntoIterator<Item = Self>) -> Self {
        let mut joined = Self::default();
        for body in bodies {
            joined.length += body.length;
            joined.segments.extend(body.segments);
        }
        joined
    }

    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// A range of the body, which must lie inside it.
    pub(super) fn slice(&self, range: &Range<u64>) -> Self {
        let mut at = 0;
        let mut segments = Vec::new();
        for segment in &self.segments {
            let length = segment.len();
            let (start, end) = (range.start.max(at), range.end.min(at + length));
            if start < end {
                segments.push(segment.slice(start - at..end - at));
            }
            at += length;
        }
        Self { segments, length: range.end - range.start }
    }

    /// The body's bytes.
    pub(super) fn read(&self) -> io::Result<Bytes> {
        if let [Segment::Memory(bytes)] = self.segments.as_slice() {
            return Ok(bytes.clone());
        }
        let mut all = BytesMut::with_capacity(self.length as usize);
        for segment in &self.segments {
            match segment {
                Segment::Memory(bytes) => all.extend_from_slice(bytes),
                Segment::File { extent, range } => {
                    let from = all.len();
                    all.resize(from + (range.end - range.start) as usize, 0);
                    extent.file.read_exact_at(&mut all[from..], extent.start + range.start)?;
                }
            }
        }
        Ok(all.freeze())
    }
}

impl Segment {
    fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { range, .. } => range.end - range.start,
        }
    }

    fn slice(&self, part: Range<u64>) -> Self {
        match self {
            Self::Memory(bytes) => Self::Memory(bytes.slice(part.start as usize..part.end as usize)),
            Self::File { extent, range } => {
                let range = range.start + part.start..range.start + part.end;
                Self::File { extent: Arc::clone(extent), range }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_joined_bodies_are_the_bytes_they_name() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(dir.path()).unwrap();
        let large: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let parts = [Bytes::from_static(b"small"), Bytes::from(large), Bytes::from_static(b"end")];
        let whole = parts.concat();
        let body = Body::join(parts.map(|part| Body::new(part, Some(&scratch)).unwrap()));
        assert_eq!(body.read().unwrap(), whole);
        for range in [0..0, 0..5, 3..8, 4..200_007, 100_000..150_000, 200_004..200_008] {
            let slice = body.slice(&range);
            assert_eq!(slice.len(), range.end - range.start);
            assert_eq!(slice.read().unwrap(), whole[range.start as usize..range.end as usize], "{range:?}");
        }
    }
}
