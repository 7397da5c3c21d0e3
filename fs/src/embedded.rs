//! An S3 server inside the process, for `tarn demo` and for tests: one bucket on a free port of the loopback
//! interface, with the request parsing and signatures of s3s in front of a [`MemoryStore`] that keeps larger
//! bodies in a scratch file.
//!
//! Invariants: only requests signed with its credentials are answered; conditions, ranges, multipart uploads and
//! listings keep the contract of [`crate::store::ObjectStore`]. Its task is owned: [`EmbeddedServer::stop`] waits
//! until every connection has ended.
//!
//! What it does not do: nothing outlives the server, and there is one bucket, no versions and no TLS.

mod answer;
mod front;
mod request;

use crate::store::{CredentialSource, MemoryStore, S3Config};
use front::Front;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How long connections may take to finish what they are doing when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// The pause after a connection could not be accepted, so that a lack of descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who may talk to an embedded server. `Debug` hides the secret.
#[derive(Clone)]
pub struct EmbeddedCredentials {
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
}

impl EmbeddedCredentials {
    /// New ones that nobody can guess.
    pub fn random() -> Self {
        let word = || format!("{:032x}", rand::random::<u128>());
        Self { access_key: format!("tarn{}", &word()[..12]), secret_key: word() }
    }
}

impl fmt::Debug for EmbeddedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmbeddedCredentials(hidden)")
    }
}

/// A running server. Dropping it lets it end by itself; [`Self::stop`] waits for that.
#[derive(Debug)]
pub struct EmbeddedServer {
    address: SocketAddr,
    bucket: String,
    credentials: EmbeddedCredentials,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl EmbeddedServer {
    /// Starts a server with one empty bucket; its scratch file is in `dir`. Needs a tokio runtime.
    pub async fn start(bucket: &str, dir: &Path, credentials: EmbeddedCredentials) -> io::Result<Self> {
        let store = MemoryStore::with_scratch(dir)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut service = S3ServiceBuilder::new(Front::new(bucket, Arc::new(store)));
        service.set_auth(SimpleAuth::from_single(
            credentials.access_key.clone(),
            credentials.secret_key.clone(),
        ));
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve(listener, service.build(), stopped));
        Ok(Self { address, bucket: bucket.to_owned(), credentials, stop, task })
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Who may talk to it.
    pub fn credentials(&self) -> &EmbeddedCredentials {
        &self.credentials
    }

    /// Settings for a store on its bucket.
    pub fn config(&self) -> S3Config {
        S3Config {
            endpoint: Some(self.endpoint()),
            region: Some("us-east-1".to_owned()),
            credentials: CredentialSource::Static {
                access_key: self.credentials.access_key.clone(),
                secret_key: self.credentials.secret_key.clone(),
                session_token: None,
            },
            ..S3Config::new(&self.bucket)
        }
    }

    /// Stops listening, lets requests under way finish, and waits for the end.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the embedded server failed");
        }
    }
}

async fn serve(listener: TcpListener, service: S3Service, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, service.clone(), stopped.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the embedded server cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            // An error means that the server was dropped.
            _ = stopped.changed() => break,
        }
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        connections.shutdown().await;
    }
}

/// Answers the requests of one connection until it ends or the server stops.
async fn converse(stream: TcpStream, service: S3Service, mut stopped: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the embedded server broke");
    }
}
