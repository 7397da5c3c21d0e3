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
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What happens to which requests.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The kind of request; `None` is any.
    pub on: Option<Kind>,
    /// Which of them, counted from zero.
    pub nth: Range<usize>,
    /// What happens to it.
    pub fault: Fault,
}

impl Rule {
    /// A fault of the first request of a kind.
    pub fn first(on: Kind, fault: Fault) -> Self {
        Self { on: Some(on), nth: 0..1, fault }
    }

    /// A fault of every request of a kind.
    pub fn every(on: Kind, fault: Fault) -> Self {
        Self { on: Some(on), nth: 0..usize::MAX, fault }
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
    script: Mutex<Script>,
    /// Requests that will be done later.
    late: AtomicUsize,
    /// The last whole answer to each listing.
    listings: Mutex<HashMap<String, (hyper::http::response::Parts, Bytes)>>,
}

#[derive(Debug, Default)]
struct Script {
    rules: Vec<Rule>,
    seen: Vec<Seen>,
    struck: usize,
}

impl Script {
    /// Notes a request; gives what is to happen to it.
    fn play(&mut self, seen: Seen) -> Option<Fault> {
        let kind = seen.kind;
        let (all, same) = (self.seen.len(), self.seen.iter().filter(|seen| seen.kind == kind).count());
        self.seen.push(seen);
        let strikes = |rule: &&Rule| match rule.on {
            Some(on) => on == kind && rule.nth.contains(&same),
            None => rule.nth.contains(&all),
        };
        let rule = self.rules.iter().find(strikes)?;
        self.struck += 1;
        Some(rule.fault.clone())
    }
}

impl FaultyServer {
    /// Starts a proxy before the server at `endpoint` (`http://ADDRESS`).
    pub async fn start(endpoint: &str, rules: Vec<Rule>) -> Result<Self> {
        let upstream =
            endpoint.strip_prefix("http://").context("plain http")?.parse().context("an address")?;
        let script = Mutex::new(Script { rules, ..Script::default() });
        let state =
            Arc::new(State { upstream, script, late: AtomicUsize::new(0), listings: Mutex::default() });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { address, state, task })
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Plays by these rules from now on, and counts from zero.
    pub fn play(&self, rules: Vec<Rule>) {
        *self.state.script() = Script { rules, ..Script::default() };
    }

    /// All requests since the rules were set.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.script().seen.clone()
    }

    /// How many of them got a fault.
    pub fn struck(&self) -> usize {
        self.state.script().struck
    }

    /// How many requests are still to be done late.
    pub fn late(&self) -> usize {
        self.state.late.load(Ordering::SeqCst)
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

impl State {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("no holder panics")
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
    let fault = state.script().play(Seen { kind, headers: request.headers().clone() });
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head, Full::new(body.collect().await.map_err(|_| Broken)?.to_bytes()));
    if let Some(fault) = &fault
        && let Some(answer) = fault.instead().await
    {
        return answer;
    }
    let listing = (kind == Kind::List).then(|| request.uri().to_string());
    let remembered = || state.listings.lock().expect("no holder panics").get(listing.as_ref()?).cloned();
    let answered = match fault {
        Some(Fault::Stale) => remembered(),
        Some(Fault::Twice) => {
            drop(forward(state.upstream, request.clone()).await);
            None
        }
        Some(Fault::Late(delay)) => Some(late(&state, request.clone(), delay).await?),
        Some(_) | None => None,
    };
    let (head, body) = match answered {
        Some(answered) => answered,
        None => forward(state.upstream, request).await.map_err(|_| Broken)?,
    };
    match (fault, listing) {
        (Some(fault), _) => fault.apply(head, body),
        (None, None) => Ok(fault::whole(head, body)),
        (None, Some(listing)) => {
            let answer = (head.clone(), body.clone());
            state.listings.lock().expect("no holder panics").insert(listing, answer);
            Ok(fault::whole(head, body))
        }
    }
}

/// Forwards a request after a while, in a task of its own: it is done even if its client has gone by then.
async fn late(
    state: &Arc<State>,
    request: Request<Full<Bytes>>,
    delay: Duration,
) -> Result<(hyper::http::response::Parts, Bytes), Broken> {
    let state = Arc::clone(state);
    state.late.fetch_add(1, Ordering::SeqCst);
    let later = tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        let answer = forward(state.upstream, request).await;
        state.late.fetch_sub(1, Ordering::SeqCst);
        answer
    });
    later.await.map_err(|_| Broken)?.map_err(|_| Broken)
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
