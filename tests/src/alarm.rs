//! Strikes when something takes too long.

use anyhow::Result;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Does something after a limit. Dropped before, it does nothing any more.
#[derive(Debug)]
pub struct Alarm {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Alarm {
    /// Sets one.
    pub fn set(limit: Duration, strike: impl FnOnce() + Send + 'static) -> Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("alarm".into()).spawn(move || {
            if stopped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                strike();
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the alarm does not panic");
        }
    }
}
