//! Signals as readable descriptors.

use rustix::process::Signal;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Those that end a mount. A terminal that goes away must not leave a dead one.
const ENDING: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::HUP];

#[derive(Debug)]
pub(super) struct Signals([(Signal, UnixStream); 3]);

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        let pipe = |signal: Signal| {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(signal.as_raw(), theirs)?;
            io::Result::Ok((signal, ours))
        };
        Ok(Self([pipe(ENDING[0])?, pipe(ENDING[1])?, pipe(ENDING[2])?]))
    }

    /// What becomes readable when one arrives.
    pub(super) fn fds(&self) -> [BorrowedFd<'_>; 3] {
        self.0.each_ref().map(|(_, pipe)| pipe.as_fd())
    }

    /// One that has arrived; the next call tells of the next.
    pub(super) fn arrived(&self) -> Option<Signal> {
        let arrived = |(signal, pipe): &(Signal, UnixStream)| {
            // Nothing to read is no signal.
            (&*pipe).read(&mut [0]).is_ok_and(|count| count > 0).then_some(*signal)
        };
        self.0.iter().find_map(arrived)
    }
}
