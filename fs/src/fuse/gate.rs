//! Counts the requests that are worked on, and lets no more in when another worker is about to take over.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

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
    closed: bool,
}

/// A request that is being worked on; drop it when it is answered.
#[derive(Debug)]
pub(super) struct Pass(Arc<Inner>);

impl Gate {
    /// Lets a request in. At a closed gate the thread that has read it waits for the end of the process: the kernel
    /// sends the request to the next worker.
    pub(super) fn enter(&self) -> Pass {
        let mut state = self.0.state.lock();
        while state.closed {
            self.0.empty.wait(&mut state);
        }
        state.inside += 1;
        Pass(Arc::clone(&self.0))
    }

    /// Closes the gate and waits until every request inside has been answered. Who waits for this sets the limit.
    pub fn close(&self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        while state.inside > 0 {
            self.0.empty.wait(&mut state);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.state.lock().inside -= 1;
        self.0.empty.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_closed_gate_lets_out_and_not_in() {
        let gate = Gate::default();
        let inside = gate.enter();
        let (closed, told) = mpsc::channel();
        let closing = gate.clone();
        let thread = std::thread::spawn(move || {
            closing.close();
            closed.send(()).expect("the test waits");
        });
        while !gate.0.state.lock().closed {
            std::thread::yield_now();
        }
        assert!(told.try_recv().is_err(), "somebody is inside");
        drop(inside);
        told.recv().expect("closed");
        thread.join().expect("closed");
    }
}
