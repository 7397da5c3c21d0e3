//! Signals as readable descriptors.

use rustix::process::Signal;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Ends the keeper and leaves the mount to the next one (`RestartKillSignal=` of the unit).
pub(super) const LEAVE: Signal = Signal::USR1;
/// How many are listened to.
pub(super) const COUNT: usize = 4;
/// The others end the mount. A terminal that goes away must not leave a dead one.
const HEARD: [Signal; COUNT] = [Signal::TERM, Signal::INT, Signal::HUP, LEAVE];

#[derive(Debug)]
pub(super) struct Signals([(Signal, UnixStream); COUNT]);

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        let pipe = |signal: Signal| {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(signal.as_raw(), theirs)?;
            io::Result::Ok((signal, ours))
        };
        let [term, interrupt, hang_up, leave] = HEARD;
        Ok(Self([pipe(term)?, pipe(interrupt)?, pipe(hang_up)?, pipe(leave)?]))
    }

    /// What becomes readable when one arrives.
    pub(super) fn fds(&self) -> [BorrowedFd<'_>; COUNT] {
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
