//! The thread of a relay that takes its connections.

use anyhow::{Context, Result};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

/// Listens on a free port. Dropped, it makes one more connection, so that whoever waits for one sees that it shall
/// stop, and waits for its end.
#[derive(Debug)]
pub struct Acceptor {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Starts a thread that takes connections until it is told to stop by other means.
    pub fn start(ip: IpAddr, accept: impl FnOnce(&TcpListener) + Send + 'static) -> Result<Self> {
        let listener = TcpListener::bind((ip, 0)).context("listen")?;
        let address = listener.local_addr()?;
        let thread = thread::Builder::new().name("proxy".into()).spawn(move || accept(&listener))?;
        Ok(Self { address, thread: Some(thread) })
    }

    /// Its URL, to be used instead of the server's.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the acceptor does not panic");
        }
    }
}
