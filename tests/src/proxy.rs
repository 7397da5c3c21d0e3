//! A relay between tarn and the server that writes down every request, and that can be cut or hang.
//!
//! It relays bytes and knows only the first line of a request. A request line is recognised at the start of what
//! one read delivers, which is where HTTP clients put it.

use crate::acceptor::Acceptor;
use anyhow::Result;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A running relay. Dropping it cuts all connections and ends its threads.
#[derive(Debug)]
pub struct Proxy {
    state: Arc<State>,
    acceptor: Acceptor,
}

#[derive(Debug)]
struct State {
    server: SocketAddr,
    requests: Mutex<Vec<String>>,
    connections: Mutex<Vec<TcpStream>>,
    cut: AtomicBool,
    refused: AtomicUsize,
    hangs: Mutex<bool>,
    goes_on: Condvar,
    stopped: AtomicBool,
}

impl Proxy {
    /// Starts a relay to `server` on a free port of the same address.
    pub fn start(server: SocketAddr) -> Result<Self> {
        let state = Arc::new(State {
            server,
            requests: Mutex::default(),
            connections: Mutex::default(),
            cut: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            hangs: Mutex::new(false),
            goes_on: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&state);
        let acceptor = Acceptor::start(server.ip(), move |listener| accepting.accept(listener))?;
        Ok(Self { state, acceptor })
    }

    /// Its URL, to be used instead of the server's.
    pub fn endpoint(&self) -> String {
        self.acceptor.endpoint()
    }

    /// Takes the requests since the last call, each as `METHOD /path?query`.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many connections were refused because of a [`cut`](Self::cut).
    pub fn refused(&self) -> usize {
        self.state.refused.load(Ordering::SeqCst)
    }

    /// Takes requests and hands nothing on, as a server that hangs, or goes on.
    pub fn hang(&self, hangs: bool) {
        self.state.hang(hangs);
    }

    /// Cuts all connections and refuses new ones, or lets them through again.
    pub fn cut(&self, cut: bool) {
        self.state.cut.store(cut, Ordering::SeqCst);
        if cut {
            self.state.close_all();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        self.state.hang(false);
        self.state.close_all();
    }
}

impl State {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let mut relays = Vec::new();
        for client in listener.incoming() {
            if self.stopped.load(Ordering::SeqCst) {
                break;
            }
            if self.cut.load(Ordering::SeqCst) {
                self.refused.fetch_add(1, Ordering::SeqCst);
            } else if let Ok(client) = client
                // A connection that cannot be relayed is closed, as a server without sockets would do.
                && let Ok(pair) = self.relay(client)
            {
                relays.extend(pair);
            }
        }
        self.close_all();
        for relay in relays {
            relay.join().expect("a relay does not panic");
        }
    }

    fn relay(self: &Arc<Self>, client: TcpStream) -> Result<[JoinHandle<()>; 2]> {
        let server = TcpStream::connect(self.server)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.extend([client.try_clone()?, server.try_clone()?]);
        drop(connections);
        let back = (server.try_clone()?, client.try_clone()?);
        let state = Arc::clone(self);
        Ok([
            std::thread::spawn(move || copy(client, server, |bytes| state.take(bytes))),
            std::thread::spawn(move || copy(back.0, back.1, |_| {})),
        ])
    }

    /// Has seen what a client sent, and hands it on when it may.
    fn take(&self, bytes: &[u8]) {
        self.note(bytes);
        let mut hangs = self.hangs.lock().unwrap_or_else(PoisonError::into_inner);
        while *hangs {
            hangs = self.goes_on.wait(hangs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn hang(&self, hangs: bool) {
        *self.hangs.lock().unwrap_or_else(PoisonError::into_inner) = hangs;
        self.goes_on.notify_all();
    }

    fn note(&self, bytes: &[u8]) {
        const METHODS: [&[u8]; 5] = [b"GET /", b"HEAD /", b"PUT /", b"POST /", b"DELETE /"];
        if METHODS.iter().any(|method| bytes.starts_with(method)) {
            let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or(bytes);
            let line = String::from_utf8_lossy(line).trim_end_matches(" HTTP/1.1").to_owned();
            self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }

    fn close_all(&self) {
        for connection in self.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // One that the other side has closed already is closed.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

/// Copies until one side ends, then ends both.
fn copy(mut from: TcpStream, mut to: TcpStream, mut see: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        see(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Whoever is still there sees the end.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
