//! A proxy before an S3 server that breaks answers by rule: the Nth request of a kind gets a fault, everything
//! else passes. It records the kind and the headers of each request, so that tests can count and look at them.
//!
//! Requests are forwarded as they are, with their `Host`, so that signatures hold.

mod fault;
mod kind;

pub use fault::Fault;
pub use kind::Kind;

use anyhow::{Context, Result};
use bytes::Bytes;
use fault::{Answer, Broken};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What happens to which requests.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The kind of request.
    pub on: Kind,
    /// Which of them, counted from zero.
    pub nth: Range<usize>,
    /// What happens to it.
    pub fault: Fault,
}

impl Rule {
    /// A fault of the first request of a kind.
    pub fn first(on: Kind, fault: Fault) -> Self {
        Self { on, nth: 0..1, fault }
    }

    /// A fault of every request of a kind.
    pub fn every(on: Kind, fault: Fault) -> Self {
        Self { on, nth: 0..usize::MAX, fault }
    }
}

/// A request that came by.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its kind.
    pub kind: Kind,
    /// Its headers.
    pub headers: HeaderMap,
}

/// A running proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct FaultyServer {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    rules: Vec<Rule>,
    seen: Mutex<Vec<Seen>>,
}

impl FaultyServer {
    /// Starts a proxy before the server at `endpoint` (`http://ADDRESS`).
    pub async fn start(endpoint: &str, rules: Vec<Rule>) -> Result<Self> {
        let upstream =
            endpoint.strip_prefix("http://").context("plain http")?.parse().context("an address")?;
        let state = Arc::new(State { upstream, rules, seen: Mutex::default() });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { address, state, task })
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().expect("no holder panics").clone()
    }

    /// How many requests of a kind came by.
    pub fn count(&self, kind: Kind) -> usize {
        self.seen().iter().filter(|seen| seen.kind == kind).count()
    }
}

impl Drop for FaultyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    // Dropped with this task, and with it every connection.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            let connection = hyper::server::conn::http1::Builder::new();
            // A fault ends the connection with an error, and so do clients.
            drop(connection.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Answer>, Broken> {
    let kind = Kind::of(&request);
    let number = {
        let mut seen = state.seen.lock().expect("no holder panics");
        seen.push(Seen { kind, headers: request.headers().clone() });
        seen.iter().filter(|seen| seen.kind == kind).count() - 1
    };
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
    let rule = state.rules.iter().find(|rule| rule.on == kind && rule.nth.contains(&number));
    match rule.map(|rule| &rule.fault) {
        Some(fault) if !fault.needs_answer() => fault.alone().await,
        fault => {
            let forwarded = Request::from_parts(head, Full::new(body));
            let (head, body) = forward(state.upstream, forwarded).await.map_err(|_| Broken)?;
            match fault {
                Some(fault) => Ok(fault.apply(head, body)),
                None => Ok(fault::whole(head, body)),
            }
        }
    }
}

async fn forward(
    upstream: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<(hyper::http::response::Parts, Bytes)> {
    let stream = TcpStream::connect(upstream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        anyhow::Ok((head, body))
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => {
            ended?;
            anyhow::bail!("the server closed the connection")
        }
    }
}
