//! The asking side.

use super::proto::control_client::ControlClient;
use super::proto::{
    CacheAction, CacheReply, CacheRequest, FlushReply, FlushRequest, LogLevel, MountStatus, Quota,
    StatusRequest,
};
use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// How long a mount may take to say how it is.
const STATUS_TIME: Duration = Duration::from_secs(10);

/// Why a mount did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("connect to {}: {reason}; does the process that serves the mount run?", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The mount refused.
    #[error("{0}")]
    Refused(String),
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(status.message().to_owned())
    }
}

/// A connection to a mount.
#[derive(Debug, Clone)]
pub struct Client {
    inner: ControlClient<Channel>,
}

impl Client {
    /// Connects to the socket at `path`.
    pub async fn connect(path: &Path) -> Result<Self, Error> {
        let socket = path.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        // The name is only for the Host header: the connector knows where to go.
        let channel = Endpoint::from_static("http://tarn").connect_with_connector(connector).await;
        let reason = |error: tonic::transport::Error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            Error::Connect { path: path.to_owned(), reason: cause.unwrap_or_else(|| error.to_string()) }
        };
        Ok(Self { inner: ControlClient::new(channel.map_err(reason)?) })
    }

    /// What the mount is and how it is doing.
    pub async fn status(&mut self) -> Result<MountStatus, Error> {
        let mut request = tonic::Request::new(StatusRequest {});
        request.set_timeout(STATUS_TIME);
        Ok(self.inner.status(request).await?.into_inner())
    }

    /// Puts everything that was written into the bucket.
    pub async fn flush(&mut self) -> Result<FlushReply, Error> {
        Ok(self.inner.flush(FlushRequest {}).await?.into_inner())
    }

    /// Changes what is logged; returns what was before.
    pub async fn set_log_level(&mut self, level: &str) -> Result<String, Error> {
        Ok(self.inner.set_log_level(LogLevel { level: level.to_owned() }).await?.into_inner().level)
    }

    /// Changes the quota, in bytes, 0 being none; returns what it was before.
    pub async fn set_quota(&mut self, bytes: u64) -> Result<u64, Error> {
        let mut request = tonic::Request::new(Quota { bytes });
        request.set_timeout(STATUS_TIME);
        Ok(self.inner.set_quota(request).await?.into_inner().bytes)
    }

    /// Works on the local copy of the file with this inode number.
    pub async fn cache(&mut self, action: CacheAction, ino: u64) -> Result<CacheReply, Error> {
        let request = CacheRequest { action: action.into(), ino };
        Ok(self.inner.cache(request).await?.into_inner())
    }
}
