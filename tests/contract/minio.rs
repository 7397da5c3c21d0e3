//! A MinIO for the contract suite: on a free port, with one bucket, ended and removed with the value.

use anyhow::{Context, Result, bail};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
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
    _data: TempDir,
    port: u16,
}

impl Minio {
    /// Starts one and waits until it answers.
    pub(crate) async fn start() -> Result<Self> {
        let data = tempfile::Builder::new().prefix("tarn-contract-").tempdir()?;
        // A folder in the drive's root is a bucket.
        std::fs::create_dir(data.path().join(BUCKET))?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut child = Command::new(program())
            .args(["server", "--quiet", "--address", &format!("127.0.0.1:{port}")])
            .arg(data.path())
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
            ready = tokio::time::timeout(START_LIMIT, ready(port)) => ready.context("MinIO is not ready in time")?,
        }
        Ok(Self { _child: child, _data: data, port })
    }

    /// Settings of a store on its bucket.
    pub(crate) fn config(&self) -> S3Config {
        S3Config {
            endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
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

async fn ready(port: u16) {
    loop {
        if healthy(port).await.unwrap_or(false) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn healthy(port: u16) -> Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream
        .write_all(b"GET /minio/health/cluster HTTP/1.1\r\nHost: minio\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
