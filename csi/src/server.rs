//! Serves gRPC on unix sockets, until a signal: then no new call is taken, and those under way may finish.

use crate::authority;
use crate::error::{Error, Kind, Result};
use futures::StreamExt;
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
        let clients = UnixListenerStream::new(self.listener).map(|client| client.map(authority::relay));
        let served = router.serve_with_incoming_shutdown(clients, stopped(stop));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::registration::registration_server::RegistrationServer;
    use crate::registration::Registration;
    use loona_hpack::{Decoder, Encoder};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A frame of HTTP/2 (RFC 9113, section 4.1).
    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("a short one");
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    #[tokio::test]
    async fn a_client_that_calls_the_sockets_path_a_host_is_answered() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a-reg.sock");
        let socket = Socket::listen(&path.display().to_string()).await.expect("listen");
        let service = Registration { name: "a".to_owned(), socket: "/a.sock".to_owned() };
        let router = tonic::transport::Server::builder().add_service(RegistrationServer::new(service));
        let (_running, stop) = watch::channel(false);
        tokio::spawn(socket.serve(router, stop));
        let host = path.display().to_string().replace('/', "%2F");
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/pluginregistration.Registration/GetInfo"),
            (":authority", &host),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let block =
            Encoder::new().encode(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let mut client = UnixStream::connect(&path).await.expect("connect");
        let call = [frame(4, 0, 0, &[]), frame(1, 4, 1, &block), frame(0, 1, 1, &[0; 5])].concat();
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("write");
        client.write_all(&call).await.expect("write");
        let (mut head, mut payload) = ([0; 9], Vec::new());
        while head[8] != 1 {
            client.read_exact(&mut head).await.expect("an answer");
            payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            client.read_exact(&mut payload).await.expect("an answer");
        }
        assert_eq!(head[3], 1, "not headers but {payload:?}");
        let answer = Decoder::new().decode(&payload).expect("headers");
        assert!(answer.contains(&(b":status".to_vec(), b"200".to_vec())), "{answer:?}");
    }
}
