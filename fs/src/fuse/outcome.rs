//! What an operation has brought about when nobody has heard of it: the kernel gives nothing of it back later.

use super::Adapter;
use crate::inode::Attr;
use crate::vfs::{Entry, Opened};
use bytes::Bytes;
use std::sync::Arc;

/// What an operation answers with.
pub(super) trait Outcome: Send + 'static {
    /// Gives back what the kernel would have given back, had it heard of it.
    fn unheard(self, _fs: &Adapter)
    where
        Self: Sized,
    {
    }
}

impl Outcome for () {}
impl Outcome for u32 {}
impl Outcome for Attr {}
impl Outcome for Bytes {}
impl Outcome for Vec<u8> {}

impl Outcome for Entry {
    fn unheard(self, fs: &Adapter) {
        fs.vfs.forget(self.attr.ino, 1);
    }
}

impl Outcome for Opened {
    fn unheard(self, fs: &Adapter) {
        let (vfs, fh) = (Arc::clone(&fs.vfs), self.fh);
        fs.runtime.spawn(async move {
            if let Err(error) = vfs.release(fh).await {
                tracing::warn!(%error, "close a file whose opener was killed");
            }
        });
    }
}

impl Outcome for (Entry, Opened) {
    fn unheard(self, fs: &Adapter) {
        self.1.unheard(fs);
        self.0.unheard(fs);
    }
}
