//! Runs an operation and answers the request, whatever happens.

use super::gate::Gate;
use crate::error::{Error, Result};
use crate::vfs::{Call, Vfs};
use fuser::Errno;
use futures::FutureExt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A read or look-up that takes longer answers ETIMEDOUT. The store's own deadlines are shorter; this one holds
/// when something else is stuck, for the kernel cannot interrupt a request.
const DEADLINE: Duration = Duration::from_secs(120);

/// Whether an operation may take as long as it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// It must end within [`DEADLINE`].
    Bounded,
    /// It moves data; every request below it has a deadline of its own.
    Unbounded,
}

/// The kernel's form of an error. Logs those that are no plain answer.
pub fn errno(op: &'static str, error: &Error) -> Errno {
    let code = error.errno();
    match error {
        Error::Store(_)
        | Error::Fetch(_)
        | Error::Cache(_)
        | Error::Disk(_)
        | Error::Deadline
        | Error::Internal(_) => {
            tracing::warn!(op, %error, "request failed");
        }
        Error::Stale(_) | Error::BadHandle => tracing::info!(op, %error, "request refused"),
        Error::NotFound
        | Error::Exists
        | Error::NotDirectory
        | Error::IsDirectory
        | Error::NotEmpty
        | Error::Quota(_)
        | Error::ReadOnly
        | Error::Invalid(_)
        | Error::Unsupported(_)
        | Error::NotPermitted(_)
        | Error::TooLarge
        | Error::NoSuchOffset
        | Error::NoAttribute
        | Error::NoRoom
        | Error::Name(_) => {}
    }
    Errno::from_i32(code.raw_os_error())
}

/// Everything that the next worker must know is in the log from here on: the request may be answered.
pub(super) fn seal(vfs: &Vfs, call: Call) {
    failpoint("done", call);
    vfs.log().flush();
    failpoint("logged", call);
}

/// Kills this worker where a test wants it: `TARN_FAILPOINT=done:mkdir` before the log knows of the request's end,
/// `logged:mkdir` after that and before the answer. A request that comes again passes.
#[cfg(debug_assertions)]
fn failpoint(at: &str, call: Call) {
    let Some((wanted, op)) = FAILPOINT.as_ref().and_then(|text| text.split_once(':')) else { return };
    if !call.resent && wanted == at && op == call.op {
        tracing::warn!(op, at, "killed at a failpoint");
        // Nothing can be done about a process that may not kill itself.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

#[cfg(debug_assertions)]
static FAILPOINT: std::sync::LazyLock<Option<String>> =
    std::sync::LazyLock::new(|| std::env::var("TARN_FAILPOINT").ok());

#[cfg(not(debug_assertions))]
fn failpoint(_at: &str, _call: Call) {}

/// Polls `work` once here; if it has to wait, it goes on in `runtime`. `reply` gets the result.
pub(super) fn answer<T: Send + 'static>(
    (runtime, gate): (&tokio::runtime::Handle, &Gate),
    patience: Patience,
    work: impl Future<Output = Result<T>> + Send + 'static,
    reply: impl FnOnce(Result<T>) + Send + 'static,
) {
    let _context = runtime.enter();
    let (gate, caught) = (gate.clone(), AssertUnwindSafe(work).catch_unwind());
    let mut work = Box::pin(async move {
        match patience {
            Patience::Bounded => {
                tokio::time::timeout(DEADLINE, caught).await.map_err(|_elapsed| Error::Deadline)?
            }
            Patience::Unbounded => caught.await,
        }
        .unwrap_or_else(|_panic| panicked(&gate))
    });
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => reply(result),
        Poll::Pending => drop(runtime.spawn(async move { reply(work.await) })),
    }
}

/// Runs an operation that never waits; a panic is an error of this request alone.
pub(super) fn guarded<T>(gate: &Gate, work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_panic| panicked(gate))
}

fn panicked<T>(gate: &Gate) -> Result<T> {
    gate.panicked();
    Err(Error::Internal("a request panicked"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_panic_is_an_error_of_its_request_alone() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        let (told, hear) = mpsc::channel();
        let gate = Gate::default();
        let on = (runtime.handle(), &gate);
        let panics = |later: bool| async move {
            if later {
                tokio::task::yield_now().await;
            }
            panic!("as a bug would")
        };
        for later in [false, true] {
            let told = told.clone();
            let reply = move |result: Result<()>| told.send(result).expect("the test listens");
            answer(on, Patience::Unbounded, panics(later), reply);
            assert!(matches!(hear.recv().expect("an answer"), Err(Error::Internal(_))), "{later}");
        }
        assert!(matches!(guarded::<()>(&gate, || panic!("as a bug would")), Err(Error::Internal(_))));
        assert_eq!(gate.answered().panics, 3);
        let reply = move |result: Result<u8>| told.send(result.map(drop)).expect("the test listens");
        answer(on, Patience::Unbounded, async { Ok(1) }, reply);
        hear.recv().expect("an answer").expect("the next request is served");
    }
}
