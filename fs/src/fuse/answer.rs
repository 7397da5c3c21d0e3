//! Runs an operation and answers the request, whatever happens.

use super::gate::{Gate, Pass};
use crate::error::{Error, Result};
use crate::process;
use crate::vfs::{Call, Vfs};
use fuser::Errno;
use futures::FutureExt;
use std::future::{Future, pending};
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How often a request that takes its time looks whether anybody still waits for it.
const LOOK: Duration = Duration::from_millis(500);

/// Whether an operation may take as long as it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// It must end by the deadline, and answers ETIMEDOUT then. The store's own deadlines are shorter; this one holds
    /// when something else is stuck.
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
        | Error::Interrupted
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

/// How a request is to be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) patience: Patience,
    /// What [`Patience::Bounded`] has.
    pub(super) deadline: Duration,
    /// See [`Call::thread`].
    pub(super) thread: u32,
}

/// Polls `work` once here; if it has to wait, it goes on in `runtime`. `reply` gets the result.
///
/// The library does not know the kernel's INTERRUPT. Without it a killed process would stay until its request is
/// answered, so that is done as soon as it is seen to be killed. The work goes on, and `unheard` gets what comes of it:
/// half of a change would be worse than all of it.
pub(super) fn answer<T: Send + 'static>(
    runtime: &tokio::runtime::Handle,
    pass: Pass,
    terms: Terms,
    work: impl Future<Output = Result<T>> + Send + 'static,
    reply: impl FnOnce(Result<T>) + Send + 'static,
    unheard: impl FnOnce(T) + Send + 'static,
) {
    let _context = runtime.enter();
    let (gate, caught) = (pass.gate(), AssertUnwindSafe(work).catch_unwind());
    let mut work = Box::pin(async move {
        match terms.patience {
            Patience::Bounded => {
                tokio::time::timeout(terms.deadline, caught).await.map_err(|_elapsed| Error::Deadline)?
            }
            Patience::Unbounded => caught.await,
        }
        .unwrap_or_else(|_panic| panicked(&gate))
    });
    if let Poll::Ready(result) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return reply(result);
    }
    runtime.spawn(async move {
        tokio::select! {
            biased;
            result = &mut work => reply(result),
            () = killed(terms.thread) => {
                reply(Err(Error::Interrupted));
                if let Ok(result) = work.await {
                    unheard(result);
                }
            }
        }
        drop(pass);
    });
}

/// Ends when the process of this thread has been killed.
async fn killed(thread: u32) {
    if thread == 0 {
        return pending().await;
    }
    loop {
        tokio::time::sleep(LOOK).await;
        // On a thread of its own: what the kernel says of a process may wait for the very answer that is looked after.
        if tokio::task::spawn_blocking(move || process::was_killed(thread)).await.is_ok_and(|killed| killed) {
            return;
        }
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
        let terms = Terms { patience: Patience::Unbounded, deadline: Duration::MAX, thread: 0 };
        let panics = |later: bool| async move {
            if later {
                tokio::task::yield_now().await;
            }
            panic!("as a bug would")
        };
        for later in [false, true] {
            let told = told.clone();
            let reply = move |result: Result<()>| told.send(result).expect("the test listens");
            answer(runtime.handle(), gate.enter("write"), terms, panics(later), reply, drop);
            assert!(matches!(hear.recv().expect("an answer"), Err(Error::Internal(_))), "{later}");
        }
        assert!(matches!(guarded::<()>(&gate, || panic!("as a bug would")), Err(Error::Internal(_))));
        assert_eq!(gate.answered().panics, 3);
        let reply = move |result: Result<u8>| told.send(result.map(drop)).expect("the test listens");
        answer(runtime.handle(), gate.enter("write"), terms, async { Ok(1) }, reply, drop);
        hear.recv().expect("an answer").expect("the next request is served");
    }

    #[test]
    fn who_was_killed_is_answered_and_the_work_goes_on() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
        let runtime = runtime.expect("a runtime");
        let mut program = std::process::Command::new("sleep").arg("600").spawn().expect("coreutils");
        let terms = Terms { patience: Patience::Unbounded, deadline: Duration::MAX, thread: program.id() };
        let (gate, (told, hear)) = (Gate::default(), mpsc::channel());
        let (finish, finished) = tokio::sync::oneshot::channel();
        let (left, found) = mpsc::channel();
        let work = async { finished.await.map_err(|_| Error::Internal("the test has ended")) };
        let reply = move |result: Result<u8>| told.send(result).expect("the test listens");
        let unheard = move |result| left.send(result).expect("the test listens");
        answer(runtime.handle(), gate.enter("create"), terms, work, reply, unheard);
        assert!(hear.recv_timeout(3 * LOOK).is_err(), "somebody waits for it");
        // Nobody waits for its end: it stays as one that cannot go yet.
        program.kill().expect("killed");
        assert!(matches!(hear.recv().expect("an answer"), Err(Error::Interrupted)));
        assert!(gate.answered().kinds.is_empty(), "another worker waits for the rest");
        finish.send(7).expect("it goes on");
        assert_eq!(found.recv(), Ok(7));
        program.wait().expect("gone");
    }
}
