//! The request that is being worked on. If the worker before this one was killed, the kernel sends what it had not
//! answered once more; such a request may have been done already, wholly or in part.

use super::handle::FileHandle;
use super::{Opened, Serve, Vfs};
use crate::clock;
use crate::inode::Serving;
use crate::session_log::time::Time;
use crate::session_log::{How, Record, State};
use crate::telemetry::traces;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;
use tracing::Instrument;

/// A request of the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Its name.
    pub op: &'static str,
    /// Its number, never used twice while the mount lives.
    pub unique: u64,
    /// An earlier worker has had it.
    pub resent: bool,
    /// The thread that waits for the answer, by the numbers of where the mount was made; zero if there is none, or
    /// none that can be seen from there.
    pub thread: u32,
}

tokio::task_local! {
    static CURRENT: Call;
}

impl Call {
    /// Works on the request.
    pub async fn during<T>(self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self, work).instrument(traces::request(self.op, self.unique)).await
    }

    /// The same without waiting.
    pub fn during_now<T>(self, work: impl FnOnce() -> T) -> T {
        traces::request(self.op, self.unique).in_scope(|| CURRENT.sync_scope(self, work))
    }
}

fn current() -> Option<Call> {
    CURRENT.try_with(|call| *call).ok()
}

/// What earlier workers had begun.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// The requests that may have been done, each with the time that it was begun with.
    intents: Mutex<HashMap<u64, SystemTime>>,
    opened: HashMap<u64, (u64, How)>,
}

impl Earlier {
    pub(super) fn of(state: &State) -> Self {
        let opened = state.handles.iter().map(|(fh, handle)| (handle.unique, (*fh, handle.how)));
        Self { intents: Mutex::new(state.intents()), opened: opened.collect() }
    }
}

impl Vfs {
    /// Whether the kernel has sent this request before.
    pub(super) fn is_resent(&self) -> bool {
        current().is_some_and(|call| call.resent)
    }

    /// Whether an earlier worker had begun to change the bucket for this request: what it asks for may be done.
    pub(super) fn may_be_done(&self) -> bool {
        self.begun().is_some()
    }

    /// When an earlier worker had begun to change the bucket for this request.
    pub(super) fn begun(&self) -> Option<SystemTime> {
        current().filter(|call| call.resent).and_then(|call| self.begun_as(call.unique))
    }

    /// When an earlier worker of this mount had begun to change the bucket for the request with this number.
    pub(super) fn begun_as(&self, unique: u64) -> Option<SystemTime> {
        self.earlier.get()?.intents.lock().get(&unique).copied()
    }

    /// Notes that this request has passed its checks and is about to change the bucket. The answer is the time that
    /// what it makes is to have: the same one if it comes again.
    pub(super) fn intend(&self) -> SystemTime {
        if let Some(at) = self.begun() {
            return at;
        }
        let at = clock::now();
        if let Some(Call { unique, .. }) = current() {
            self.log.note(|| Record::Intent { unique, at: Time(at) });
            self.log.flush();
        }
        at
    }

    /// Notes that what an earlier worker had begun for a request is done: if it comes, it is only answered.
    pub(super) fn done_for(&self, unique: u64) {
        let Some(earlier) = self.earlier.get() else { return };
        let at = clock::now();
        earlier.intents.lock().insert(unique, at);
        self.log.note(|| Record::Intent { unique, at: Time(at) });
        self.log.flush();
    }

    /// The number of the request that is being worked on.
    pub(super) fn request(&self) -> Option<u64> {
        current().map(|call| call.unique)
    }

    /// Notes a handle as the answer to this request.
    pub(super) fn note_opened(&self, fh: u64, ino: u64, how: How) {
        let unique = current().map_or(0, |call| call.unique);
        self.log.note(|| Record::Opened { fh, unique, ino, how });
    }

    /// The handle that an earlier worker has opened for this request.
    pub(super) fn handle_opened_earlier(&self) -> Option<(u64, How)> {
        let call = current().filter(|call| call.resent)?;
        self.earlier.get()?.opened.get(&call.unique).copied()
    }

    /// The file that an earlier worker has opened for this request.
    pub(super) fn opened_earlier(&self) -> Option<(Arc<FileHandle>, Opened)> {
        let (fh, How::File { passthrough, direct, sync, .. }) = self.handle_opened_earlier()? else {
            return None;
        };
        let handle = self.file_handle(fh).ok()?;
        let backing = match &handle.inode.file()?.state.lock().serving {
            Serving::Passthrough { file, .. } if passthrough => Some(Arc::clone(file)),
            Serving::Passthrough { .. } | Serving::Cached { .. } | Serving::Idle => None,
        };
        let serve = match backing {
            Some(file) => Serve::Passthrough(file),
            None if direct => Serve::Direct,
            None => Serve::Cached { keep_pages: false },
        };
        Some((handle, Opened { fh, serve, sync }))
    }
}
