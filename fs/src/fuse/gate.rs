//! Every request of the kernel passes here: it is counted by its kind and timed, and no more are let in when another
//! worker is about to take over.

use crate::clock;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Every request passes here. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    empty: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inside: u64,
    door: Door,
    /// Threads that read no more.
    stopped: usize,
    answered: Answered,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Door {
    #[default]
    Open,
    /// Nobody comes in.
    Closed,
    /// Who comes in is the last one that its thread has read.
    Last,
}

/// What has been answered so far.
#[derive(Debug, Clone, Default)]
pub struct Answered {
    /// By the name of the request.
    pub kinds: BTreeMap<&'static str, Kind>,
    /// Requests that ran into a bug and got EIO.
    pub panics: u64,
}

/// The requests of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kind {
    /// How many.
    pub count: u64,
    /// Nanoseconds until they were answered, summed up.
    pub nanos: u64,
}

/// A request that is being worked on; drop it when it is answered.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Inner>,
    op: &'static str,
    since: Instant,
}

impl Gate {
    /// Lets a request in. At a closed gate the thread that has read it waits for the end of the process: the kernel
    /// sends the request to the next worker.
    pub(super) fn enter(&self, op: &'static str) -> Pass {
        let mut state = self.0.state.lock();
        while state.door == Door::Closed {
            self.0.empty.wait(&mut state);
        }
        state.inside += 1;
        Pass { gate: Arc::clone(&self.0), op, since: clock::instant() }
    }

    /// Closes the gate and waits until every request inside has been answered. Who waits for this sets the limit.
    pub fn close(&self) {
        let mut state = self.0.state.lock();
        state.door = Door::Closed;
        while state.inside > 0 {
            self.0.empty.wait(&mut state);
        }
    }

    /// For kernels that send nothing again: each of the `readers` answers one more request and reads no other. Waits
    /// until all of them have stopped and everything is answered. `nudge` sees to it that there are requests enough.
    pub fn drain<E>(&self, readers: usize, nudge: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        self.0.state.lock().door = Door::Last;
        nudge()?;
        let mut state = self.0.state.lock();
        while state.inside > 0 || state.stopped < readers {
            self.0.empty.wait(&mut state);
        }
        Ok(())
    }

    /// Where a thread that has read a request stands when it is about to read another.
    pub(super) fn rest(&self) {
        let mut state = self.0.state.lock();
        if state.door == Door::Last {
            state.stopped += 1;
            self.0.empty.notify_all();
            // For the end of the process.
            while state.door == Door::Last {
                self.0.empty.wait(&mut state);
            }
        }
    }

    /// Counts a request that ran into a bug.
    pub(super) fn panicked(&self) {
        self.0.state.lock().answered.panics += 1;
    }

    /// What has been answered so far.
    pub fn answered(&self) -> Answered {
        self.0.state.lock().answered.clone()
    }
}

impl Pass {
    /// The gate through which it has come.
    pub(super) fn gate(&self) -> Gate {
        Gate(Arc::clone(&self.gate))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let elapsed = clock::instant().saturating_duration_since(self.since);
        let mut state = self.gate.state.lock();
        state.inside -= 1;
        let kind = state.answered.kinds.entry(self.op).or_default();
        kind.count += 1;
        kind.nanos = kind.nanos.saturating_add(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
        drop(state);
        self.gate.empty.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_closed_gate_lets_out_and_not_in() {
        let gate = Gate::default();
        let inside = gate.enter("read");
        let (closed, told) = mpsc::channel();
        let closing = gate.clone();
        let thread = std::thread::spawn(move || {
            closing.close();
            closed.send(()).expect("the test waits");
        });
        while gate.0.state.lock().door == Door::Open {
            std::thread::yield_now();
        }
        assert!(told.try_recv().is_err(), "somebody is inside");
        drop(inside);
        told.recv().expect("closed");
        thread.join().expect("closed");
    }

    #[test]
    fn a_draining_gate_lets_each_reader_in_at_most_once_more() {
        let (gate, (send, requests)) = (Gate::default(), mpsc::channel::<()>());
        let (reader, (answered, told)) = (gate.clone(), mpsc::channel());
        let under_way = gate.enter("write");
        std::thread::spawn(move || {
            for () in requests {
                drop(reader.enter("statfs"));
                answered.send(()).expect("the test waits");
                reader.rest();
            }
        });
        send.send(()).expect("it reads");
        told.recv().expect("an open gate");
        let draining = gate.clone();
        let drain =
            std::thread::spawn(move || draining.drain(1, || send.send(()).and_then(|()| send.send(()))));
        while gate.0.state.lock().stopped == 0 {
            std::thread::yield_now();
        }
        assert!(!drain.is_finished(), "one is under way");
        drop(under_way);
        drain.join().expect("drained").expect("nudged");
        assert!(told.try_iter().count() <= 1, "the reader has stopped");
    }

    #[test]
    fn requests_count_by_kind_once_they_are_answered() {
        let gate = Gate::default();
        drop(gate.enter("lookup"));
        let (under_way, second) = (gate.enter("read"), gate.enter("lookup"));
        drop(second);
        let answered = gate.answered();
        let counts: Vec<_> = answered.kinds.iter().map(|(op, kind)| (*op, kind.count)).collect();
        assert_eq!(counts, [("lookup", 2)]);
        assert!(answered.kinds["lookup"].nanos > 0);
        drop(under_way);
        assert_eq!(gate.answered().kinds["read"].count, 1);
    }
}
