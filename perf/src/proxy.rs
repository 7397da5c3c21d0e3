//! A relay before the S3 server that makes it as far away as a real one: the first byte of an answer leaves at least
//! some time after the last byte of its request came, and a connection carries no more than some bytes each second.
//! It counts the requests by kind.
//!
//! One thread for each connection, and a connection of its own to the server behind it. Bodies go through a pipe in
//! the kernel (splice), so that the relay takes little of the two cores that it shares with those it measures.

pub mod count;
pub mod http;

use anyhow::Result;
use count::{Counts, Kind};
use http::{Answer, Body, Request};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};
use std::collections::BTreeMap;
use std::io::{self, Error, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tarn_tests::acceptor::Acceptor;

/// No head is longer.
const LONGEST_HEAD: usize = 64 << 10;
/// Bytes that go through the pipe at once.
const PIPE: usize = 1 << 20;
/// The same where bandwidth is bounded, so that what comes is even.
const PACED_PIPE: usize = 64 << 10;

/// How far away the server is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Distance {
    /// From the last byte of a request to the first of its answer, at least.
    pub delay: Duration,
    /// Bytes each second of one connection and direction; `None` is no bound.
    pub bandwidth: Option<f64>,
}

/// A running relay on the loopback interface. Dropping it cuts all connections and ends its threads.
#[derive(Debug)]
pub struct Proxy {
    state: Arc<State>,
    acceptor: Acceptor,
}

#[derive(Debug)]
struct State {
    server: SocketAddr,
    distance: Mutex<Distance>,
    counts: Mutex<Counts>,
    /// Those that are open, by number.
    connections: Mutex<BTreeMap<u64, Arc<Connection>>>,
    stopped: Mutex<bool>,
    stop: Condvar,
}

/// A client's connection and the one to the server behind it.
#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Proxy {
    /// Starts a relay to `server`, at no distance.
    pub fn start(server: SocketAddr) -> Result<Self> {
        let state = Arc::new(State {
            server,
            distance: Mutex::default(),
            counts: Mutex::default(),
            connections: Mutex::default(),
            stopped: Mutex::new(false),
            stop: Condvar::new(),
        });
        let accepting = Arc::clone(&state);
        let acceptor =
            Acceptor::start(Ipv4Addr::LOCALHOST.into(), move |listener| accepting.accept(listener))?;
        Ok(Self { state, acceptor })
    }

    /// Its URL, to be used instead of the server's.
    pub fn endpoint(&self) -> String {
        self.acceptor.endpoint()
    }

    /// Moves the server away, for the requests from now on.
    pub fn set(&self, distance: Distance) {
        *lock(&self.state.distance) = distance;
    }

    /// What has been asked for since the start.
    pub fn counts(&self) -> Counts {
        *lock(&self.state.counts)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        *lock(&self.state.stopped) = true;
        self.state.stop.notify_all();
    }
}

impl State {
    fn accept(&self, listener: &TcpListener) {
        thread::scope(|scope| {
            for (number, client) in (0_u64..).zip(listener.incoming()) {
                if *lock(&self.stopped) {
                    break;
                }
                // A connection that cannot be relayed is closed, as a server without sockets would do.
                if let Ok(connection) = client.and_then(|client| self.connect(client)) {
                    let connection = Arc::new(connection);
                    lock(&self.connections).insert(number, Arc::clone(&connection));
                    scope.spawn(move || {
                        // Clients end connections as they like.
                        drop(self.serve(&connection));
                        connection.end();
                        lock(&self.connections).remove(&number);
                    });
                }
            }
            lock(&self.connections).values().for_each(|connection| connection.end());
        });
    }

    fn connect(&self, client: TcpStream) -> io::Result<Connection> {
        let server = TcpStream::connect(self.server)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok(Connection { client, server })
    }

    /// Relays one request after the other.
    fn serve(&self, connection: &Connection) -> io::Result<()> {
        let (mut client, mut server) = (Side::new(&connection.client), Side::new(&connection.server));
        while client.has_more() || connection.is_asked()? {
            let Some(head) = client.head()? else { break };
            let request = Request::parse(&head).ok_or(ErrorKind::InvalidData)?;
            let distance = *lock(&self.distance);
            lock(&self.counts).note(request.kind);
            server.send(head.as_bytes())?;
            let refused = if request.waits { server.refusal(&mut client, request.kind)? } else { None };
            let sent = match refused {
                Some(_) => Ok(0),
                None => client.pass(&mut server, request.body, distance.bandwidth, self),
            };
            lock(&self.counts).up_bytes += *sent.as_ref().unwrap_or(&0);
            let asked = Instant::now();
            // A server that wants no more of a body has answered nevertheless.
            let (head, answer) = match refused {
                Some(answer) => answer,
                None => server.final_answer(&mut client, request.kind)?,
            };
            self.wait_until(asked + distance.delay);
            client.send(head.as_bytes())?;
            let passed = server.pass(&mut client, answer.body, distance.bandwidth, self)?;
            lock(&self.counts).down_bytes += passed;
            if answer.last || sent.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Waits, but not for longer than the relay lives.
    fn wait_until(&self, end: Instant) {
        let left = end.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            let stopped = lock(&self.stopped);
            let waited = self.stop.wait_timeout_while(stopped, left, |stopped| !*stopped);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Connection {
    /// Waits for the next request; `false` if one of the two has gone.
    fn is_asked(&self) -> io::Result<bool> {
        let mut both = [PollFd::new(&self.client, PollFlags::IN), PollFd::new(&self.server, PollFlags::IN)];
        while let Err(error) = poll(&mut both, None) {
            if error != Errno::INTR {
                return Err(error.into());
            }
        }
        // The server says nothing that it was not asked: this is its end.
        Ok(both[1].revents().is_empty())
    }

    fn end(&self) {
        // What the other side has ended is ended.
        let _ = (self.client.shutdown(Shutdown::Both), self.server.shutdown(Shutdown::Both));
    }
}

/// One side of a connection, with what was read of it and not used yet.
struct Side<'a> {
    stream: &'a TcpStream,
    ahead: Vec<u8>,
    pipe: Option<(PipeReader, PipeWriter)>,
}

impl<'a> Side<'a> {
    fn new(stream: &'a TcpStream) -> Self {
        Self { stream, ahead: Vec::new(), pipe: None }
    }

    fn has_more(&self) -> bool {
        !self.ahead.is_empty()
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Takes what ends with `end`; `None` if the other side has ended before it.
    fn take_until(&mut self, end: &[u8]) -> io::Result<Option<String>> {
        let mut chunk = [0; 16 << 10];
        loop {
            if let Some(at) = self.ahead.windows(end.len()).position(|window| window == end) {
                let rest = self.ahead.split_off(at + end.len());
                let taken = std::mem::replace(&mut self.ahead, rest);
                return Ok(Some(String::from_utf8_lossy(&taken).into_owned()));
            }
            if self.ahead.len() > LONGEST_HEAD {
                return Err(ErrorKind::InvalidData.into());
            }
            match self.stream.read(&mut chunk)? {
                0 => return Ok(None),
                count => self.ahead.extend_from_slice(&chunk[..count]),
            }
        }
    }

    fn head(&mut self) -> io::Result<Option<String>> {
        self.take_until(b"\r\n\r\n")
    }

    fn answer(&mut self, to: Kind) -> io::Result<(String, Answer)> {
        let head = self.head()?.ok_or(ErrorKind::UnexpectedEof)?;
        let answer = Answer::parse(&head, to).ok_or(ErrorKind::InvalidData)?;
        Ok((head, answer))
    }

    /// The answer of a server that does not want the body that the client announced, if it is none.
    fn refusal(&mut self, client: &mut Side<'_>, to: Kind) -> io::Result<Option<(String, Answer)>> {
        let (head, answer) = self.answer(to)?;
        if answer.interim {
            client.send(head.as_bytes())?;
            return Ok(None);
        }
        Ok(Some((head, Answer { last: true, ..answer })))
    }

    /// The last answer, after those that only announce it.
    fn final_answer(&mut self, client: &mut Side<'_>, to: Kind) -> io::Result<(String, Answer)> {
        loop {
            let (head, answer) = self.answer(to)?;
            if !answer.interim {
                return Ok((head, answer));
            }
            client.send(head.as_bytes())?;
        }
    }

    /// Hands a body on; its length.
    fn pass(&mut self, to: &mut Side<'_>, body: Body, rate: Option<f64>, state: &State) -> io::Result<u64> {
        let mut pace = Pace { start: Instant::now(), bytes: 0, rate, state };
        match body {
            Body::None => {}
            Body::Length(length) => self.pass_bytes(to, length, &mut pace)?,
            Body::Chunked => self.pass_chunks(to, &mut pace)?,
            Body::ToEnd => match self.pass_bytes(to, u64::MAX, &mut pace) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
                other => other?,
            },
        }
        Ok(pace.bytes)
    }

    fn pass_chunks(&mut self, to: &mut Side<'_>, pace: &mut Pace<'_>) -> io::Result<()> {
        loop {
            let line = self.take_until(b"\r\n")?.ok_or(ErrorKind::UnexpectedEof)?;
            to.send(line.as_bytes())?;
            match http::chunk_length(&line).ok_or(ErrorKind::InvalidData)? {
                0 => break,
                // The chunk's own end of line goes with it.
                length => self.pass_bytes(to, length + 2, pace)?,
            }
        }
        loop {
            let trailer = self.take_until(b"\r\n")?.ok_or(ErrorKind::UnexpectedEof)?;
            to.send(trailer.as_bytes())?;
            if trailer == "\r\n" {
                return Ok(());
            }
        }
    }

    fn pass_bytes(&mut self, to: &mut Side<'_>, length: u64, pace: &mut Pace<'_>) -> io::Result<()> {
        let known = usize::try_from(length).unwrap_or(usize::MAX).min(self.ahead.len());
        to.stream.write_all(&self.ahead[..known])?;
        self.ahead.drain(..known);
        pace.passed(known);
        let mut left = length - known as u64;
        while left > 0 {
            let count = self.splice(to, left.min(pace.step() as u64) as usize)?;
            left -= count as u64;
            pace.passed(count);
        }
        Ok(())
    }

    /// Moves what is there, `most` bytes at most, without a copy through this process.
    fn splice(&mut self, to: &Side<'_>, most: usize) -> io::Result<usize> {
        if self.pipe.is_none() {
            let pipe = io::pipe()?;
            fcntl_setpipe_size(&pipe.0, PIPE)?;
            self.pipe = Some(pipe);
        }
        let (reader, writer) = self.pipe.as_ref().expect("it was made above");
        let move_bytes =
            |length| retry(|| splice(self.stream, None, writer, None, length, SpliceFlags::MOVE));
        let count = move_bytes(most)?;
        let mut left = count;
        while left > 0 {
            left -= retry(|| splice(reader, None, to.stream, None, left, SpliceFlags::MOVE))?;
        }
        if count == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
    }
}

fn retry(mut call: impl FnMut() -> rustix::io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other.map_err(Error::from),
        }
    }
}

/// How fast one body may go.
struct Pace<'a> {
    start: Instant,
    bytes: u64,
    rate: Option<f64>,
    state: &'a State,
}

impl Pace<'_> {
    fn step(&self) -> usize {
        if self.rate.is_some() { PACED_PIPE } else { PIPE }
    }

    /// So many bytes have gone; waits until more may.
    fn passed(&mut self, count: usize) {
        self.bytes += count as u64;
        if let Some(rate) = self.rate {
            self.state.wait_until(self.start + Duration::from_secs_f64(self.bytes as f64 / rate));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
