//! Serves gRPC on unix sockets, until a signal: then no new call is taken, and those under way may finish.

use crate::error::{Error, Kind, Result};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::Router;

/// How long calls under way may take after a signal: less than Kubernetes gives a pod to end.
const GRACE: Duration = Duration::from_secs(25);

/// A socket that is removed again at the end.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at `unix:///PATH` or `/PATH`. What an earlier process has left is removed; a living one is an error.
    pub async fn listen(endpoint: &str) -> Result<Self> {
        let path = endpoint.strip_prefix("unix://").or(endpoint.strip_prefix("unix:")).unwrap_or(endpoint);
        if !path.starts_with('/') {
            return Err(Error::invalid(format!("the endpoint {endpoint:?} is not unix:///PATH")));
        }
        let path = PathBuf::from(path);
        let failed = |error: io::Error| Error::local(format_args!("listen at {}", path.display()), &error);
        if path.exists() {
            if UnixStream::connect(&path).await.is_ok() {
                let text = format!("another process serves {} already", path.display());
                return Err(Error::new(Kind::Exists, text));
            }
            std::fs::remove_file(&path).map_err(failed)?;
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        // Whoever may open it can mount and delete: root alone.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until `stop` says so, then lets calls under way finish.
    pub async fn serve(self, router: Router, stop: watch::Receiver<bool>) -> Result<()> {
        let stopped = |mut stop: watch::Receiver<bool>| async move {
            // An error means that nobody can stop it any more, which is as good as a stop.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let late = stopped(stop.clone());
        let served =
            router.serve_with_incoming_shutdown(UnixListenerStream::new(self.listener), stopped(stop));
        let result = tokio::select! {
            result = served => result.map_err(|error| Error::new(Kind::Internal, format!("serve: {error}"))),
            () = async { late.await; tokio::time::sleep(GRACE).await } => {
                tracing::warn!("calls were still under way after {} s", GRACE.as_secs());
                Ok(())
            }
        };
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.path.display(), "the socket stays behind");
            }
            Ok(()) | Err(_) => {}
        }
        result
    }
}
