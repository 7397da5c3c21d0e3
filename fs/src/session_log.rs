//! What a mount's next worker must know if this one is killed: a log in memory that the keeper holds.
//!
//! Records go to a buffer while a request is worked on, and to the log with one write(2) before the request is
//! answered: a kill can lose only what the kernel was never told. The log is gone with the mount; what must
//! outlive that lies in the local store.
//!
//! Invariants: records of one thing are in the order of its changes; the last record counts. A record that was
//! torn by a kill is the last one, and is left out. When the log has grown, it is replaced by what it comes to.

mod file;
mod record;
mod state;
pub mod time;

pub use record::{
    CommittedRecord, ConflictRecord, ContentRecord, FileRecord, How, NodeRecord, OverlayRecord, PlaceRecord,
    Record, RemovedRecord, StagedRecord, VersionRecord,
};
pub use state::{CONFLICTS_MAX, HandleState, InodeState, REMOVED_FOR, State};

use file::LogFile;
use parking_lot::Mutex;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The layout of the log. A worker that knows another one cannot take over: see `tarn upgrade`.
pub const FORMAT: u32 = 4;

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Reading or writing failed.
    #[error("session log: {0}")]
    Io(#[from] std::io::Error),
    /// Another version of tarn wrote it.
    #[error(
        "the session log has format {0}, this tarn knows {FORMAT}; start the version that made the mount"
    )]
    Format(u32),
    /// It is no log, or damaged where no kill can have damaged it.
    #[error("the session log is damaged: {0}")]
    Damaged(&'static str),
}

/// Where a mount notes its state. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct SessionLog(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    /// Encoded records that are not in the log yet. Innermost of all locks.
    buffer: Mutex<Vec<u8>>,
    file: Mutex<LogFile>,
    failed: AtomicBool,
}

impl SessionLog {
    /// No log: for mounts without a keeper.
    pub fn none() -> Self {
        Self::default()
    }

    /// Opens the log in `file` and reads what it comes to; an empty file becomes a log.
    pub fn open(file: File) -> Result<(Self, State), LogError> {
        let (file, state) = LogFile::open(file)?;
        let inner =
            Inner { buffer: Mutex::default(), file: Mutex::new(file), failed: AtomicBool::new(false) };
        Ok((Self(Some(Arc::new(inner))), state))
    }

    /// The format of the log in `file`; `None` if it is none.
    pub fn format_of(file: &File) -> Result<Option<u32>, LogError> {
        LogFile::format_of(file)
    }

    /// Notes what is to be in the log before the next answer. `make` is not called if there is no log.
    pub fn note(&self, make: impl FnOnce() -> Record) {
        if let Some(inner) = &self.0 {
            record::encode(&make(), &mut inner.buffer.lock());
        }
    }

    /// Puts everything noted so far into the log. A log that cannot be written is said once: the mount goes on,
    /// but will not survive a kill.
    pub fn flush(&self) {
        let Some(inner) = &self.0 else { return };
        // In this order: who finds the buffer empty has waited for the write of what was in it.
        let mut file = inner.file.lock();
        let noted = std::mem::take(&mut *inner.buffer.lock());
        if noted.is_empty() {
            return;
        }
        if let Err(error) = file.append(&noted)
            && !inner.failed.swap(true, Ordering::Relaxed)
        {
            tracing::error!(%error, "the session log cannot be written: this mount will not survive a kill");
        }
    }
}
