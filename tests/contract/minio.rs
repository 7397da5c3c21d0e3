//! A MinIO for the contract suite: on a free port, with one bucket, ended and removed with the value.

use anyhow::{Context, Result, bail, ensure};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tarn_fs::store::{CredentialSource, S3Config};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const BUCKET: &str = "contract";
const USER: &str = "tarn-contract";
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running server.
#[derive(Debug)]
pub(crate) struct Minio {
    _child: Child,
    data: TempDir,
    port: u16,
    scheme: &'static str,
}

impl Minio {
    /// Starts one and waits until it answers.
    pub(crate) async fn start() -> Result<Self> {
        Self::launch(false).await
    }

    /// Starts one that speaks TLS, with a certificate of a CA of its own.
    pub(crate) async fn start_tls() -> Result<Self> {
        Self::launch(true).await
    }

    async fn launch(tls: bool) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("tarn-contract-").tempdir()?;
        let certificates = data.path().join("certs");
        std::fs::create_dir(&certificates)?;
        if tls {
            make_certificates(&certificates).await?;
        }
        // A folder in the drive's root is a bucket.
        let drive = data.path().join("drive");
        std::fs::create_dir_all(drive.join(BUCKET))?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut child = Command::new(program())
            .args(["server", "--quiet", "--address", &format!("127.0.0.1:{port}")])
            .arg("--certs-dir")
            .arg(&certificates)
            .arg(&drive)
            .env("MINIO_ROOT_USER", USER)
            .env("MINIO_ROOT_PASSWORD", USER)
            .env("MINIO_BROWSER", "off")
            .env("HOME", data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start MinIO")?;
        tokio::select! {
            ended = child.wait() => bail!("MinIO ends at once: {}", ended?),
            ready = tokio::time::timeout(START_LIMIT, ready(port, tls)) => ready.context("MinIO is not ready in time")?,
        }
        Ok(Self { _child: child, data, port, scheme: if tls { "https" } else { "http" } })
    }

    /// The CA that its certificate is from.
    pub(crate) fn ca(&self) -> PathBuf {
        self.data.path().join("certs/ca.crt")
    }

    /// Settings of a store on its bucket.
    pub(crate) fn config(&self) -> S3Config {
        S3Config {
            endpoint: Some(format!("{}://127.0.0.1:{}", self.scheme, self.port)),
            region: Some("us-east-1".into()),
            credentials: CredentialSource::Static {
                access_key: USER.into(),
                secret_key: USER.into(),
                session_token: None,
            },
            ..S3Config::new(BUCKET)
        }
    }
}

/// The program: `TARN_MINIO`, the repository's tools, or the path.
fn program() -> PathBuf {
    let tool = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/bin/minio"));
    match std::env::var_os("TARN_MINIO") {
        Some(path) => path.into(),
        None if tool.exists() => tool,
        None => "minio".into(),
    }
}

/// Makes a CA and a certificate for 127.0.0.1 with the names that MinIO wants.
async fn make_certificates(dir: &Path) -> Result<()> {
    std::fs::write(dir.join("extensions"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")?;
    let key = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    for arguments in [
        format!("{key} -x509 -subj /CN=tarn-test-ca -keyout ca.key -out ca.crt"),
        format!("{key} -subj /CN=127.0.0.1 -keyout private.key -out request"),
        "x509 -req -in request -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out public.crt"
            .to_owned(),
    ] {
        let made = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().await?;
        ensure!(made.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&made.stderr));
    }
    Ok(())
}

async fn ready(port: u16, tls: bool) {
    loop {
        // A server that speaks TLS refuses the plain request, but it is there.
        if healthy(port, if tls { b"HTTP/1.0 400" } else { b"HTTP/1.1 200" }).await.unwrap_or(false) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn healthy(port: u16, expected: &[u8]) -> Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream
        .write_all(b"GET /minio/health/cluster HTTP/1.1\r\nHost: minio\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(expected))
}
