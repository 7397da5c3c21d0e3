//! A MinIO server of this test run: on a free port, of the loopback interface unless pods shall reach it, on a bounded disk
//! of its own.

use crate::disk::{self, Disk};
use crate::{paths, run, wait};
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use tarn_fs::store::{CredentialSource, S3Config};
use tempfile::TempDir;

/// The access key of the test servers.
pub const ACCESS_KEY: &str = "tarn-tests";
/// Its secret, which protects nothing but a server on the loopback interface that lives as long as the tests.
pub const SECRET_KEY: &str = "tarn-tests-secret";

const DISK_MIB: u64 = 24 * 1024;
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running server. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct Server {
    child: Child,
    _parent: Parent,
    address: SocketAddr,
    scheme: &'static str,
    data: PathBuf,
    // Dropped after the child is dead, in this order.
    _disk: Option<Disk>,
    home: TempDir,
}

/// How clients talk to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Plain,
    /// With a certificate of a CA of its own.
    Tls,
}

impl Server {
    /// Starts a server on a disk of its own, if this user can mount one, and waits until it is ready.
    pub fn start() -> Result<Self> {
        let disk = if disk::is_root() { Some(Disk::new(DISK_MIB)?) } else { None };
        Self::start_on(disk, Transport::Plain, &[])
    }

    /// Starts a server whose data lies in a temporary folder, for tests that store little.
    pub fn start_small() -> Result<Self> {
        Self::start_on(None, Transport::Plain, &[])
    }

    /// The same, speaking TLS; [`Server::ca`] is what its clients must trust.
    pub fn start_tls() -> Result<Self> {
        Self::start_on(None, Transport::Tls, &[])
    }

    /// The same, also able to encrypt what it stores: with keys of its own (`tarn-tests` is one) and of its clients.
    pub fn start_encrypting() -> Result<Self> {
        let settings = [("MINIO_KMS_SECRET_KEY", "tarn-tests:dGFybi10ZXN0cy1rZXktb2YtMzItYnl0ZXMtaGVyZSE=")];
        Self::start_on(None, Transport::Tls, &settings)
    }

    /// The same, at an address of this machine that pods reach.
    pub fn start_for_pods(address: Ipv4Addr) -> Result<Self> {
        Self::start_at(address, None, Transport::Plain, &[])
    }

    /// The same, with further settings of MinIO by their variables.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_on(None, Transport::Plain, settings)
    }

    fn start_on(disk: Option<Disk>, transport: Transport, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST, disk, transport, settings)
    }

    fn start_at(
        interface: Ipv4Addr,
        disk: Option<Disk>,
        transport: Transport,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("tarn-minio-").tempdir().context("folder for MinIO")?;
        let data = disk.as_ref().map_or_else(|| home.path().join("data"), |disk| disk.path().join("data"));
        std::fs::create_dir(&data)?;
        std::fs::create_dir(certificates(home.path()))?;
        let scheme = match transport {
            Transport::Plain => "http",
            Transport::Tls => {
                make_certificates(&certificates(home.path()))?;
                "https"
            }
        };
        // The port is free now; should another program take it before MinIO does, MinIO ends and the next is tried.
        for _ in 0..3 {
            let address = free_port_at(interface)?;
            let (mut child, parent) = spawn(home.path(), &data, address, settings)?;
            let ready = wait::eventually(START_LIMIT, "MinIO is ready", || {
                Ok(if child.try_wait()?.is_some() {
                    Some(false)
                } else {
                    is_healthy(address, transport).then_some(true)
                })
            });
            match ready {
                Ok(true) => {
                    return Ok(Self { child, _parent: parent, address, scheme, data, _disk: disk, home });
                }
                Ok(false) => {}
                Err(error) => {
                    end(&mut child);
                    return Err(error.context(log(home.path())));
                }
            }
        }
        bail!("MinIO ends at once:\n{}", log(home.path()))
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Makes a bucket and gives the settings of a store on it. To MinIO a folder in its drive is a bucket.
    pub fn store_config(&self, bucket: &str) -> Result<S3Config> {
        std::fs::create_dir(self.data.join(bucket)).context("make a bucket")?;
        Ok(S3Config {
            endpoint: Some(self.endpoint()),
            region: Some("us-east-1".into()),
            credentials: CredentialSource::Static {
                access_key: ACCESS_KEY.into(),
                secret_key: SECRET_KEY.into(),
                session_token: None,
            },
            ..S3Config::new(bucket)
        })
    }

    /// The certificate of the CA that signed a TLS server's certificate.
    pub fn ca(&self) -> PathBuf {
        certificates(self.home.path()).join("ca.crt")
    }

    /// Removes folders of a bucket that hold no object. MinIO leaves them, and lists them as prefixes, when a client
    /// dies in the middle of an upload.
    pub fn sweep(&self, bucket: &str) -> Result<()> {
        sweep(&self.data.join(bucket)).map(drop)
    }

    /// Whether the bytes stand somewhere in the files of a bucket, as they are.
    pub fn has_on_disk(&self, bucket: &str, bytes: &[u8]) -> Result<bool> {
        contains(&self.data.join(bucket), bytes)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        log(self.home.path())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// An address of the loopback interface that nothing listens on.
pub fn free_port() -> Result<SocketAddr> {
    free_port_at(Ipv4Addr::LOCALHOST)
}

fn free_port_at(interface: Ipv4Addr) -> Result<SocketAddr> {
    let listener = TcpListener::bind((interface, 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}

/// The thread that started a process. The kernel's death signal follows the thread, not the process, and the threads
/// that run tests come and go.
#[derive(Debug)]
struct Parent {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Parent {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it only waits");
        }
    }
}

/// Removes `dir` if no object is below it; whether one is.
fn sweep(dir: &Path) -> Result<bool> {
    if dir.join("xl.meta").exists() {
        return Ok(true);
    }
    let mut holds = false;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        if sweep(&path)? {
            holds = true;
        } else {
            std::fs::remove_dir_all(&path)?;
        }
    }
    Ok(holds)
}

fn contains(dir: &Path, bytes: &[u8]) -> Result<bool> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            contains(&path, bytes)?
        } else {
            std::fs::read(&path)?.windows(bytes.len()).any(|window| window == bytes)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn spawn(
    home: &Path,
    data: &Path,
    address: SocketAddr,
    settings: &[(&str, &str)],
) -> Result<(Child, Parent)> {
    let log = File::create(log_path(home))?;
    // Whatever ends this program ends the server too.
    let mut command = run::command("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(paths::tool("bin/minio")?)
        .args(["server", "--quiet", "--address", &address.to_string(), "--certs-dir"])
        .args([&certificates(home), data])
        .env("MINIO_ROOT_USER", ACCESS_KEY)
        .env("MINIO_ROOT_PASSWORD", SECRET_KEY)
        .env("MINIO_BROWSER", "off")
        .env("HOME", home)
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let (stop, stopped) = mpsc::channel::<()>();
    let (started, start) = mpsc::channel();
    let thread = std::thread::Builder::new().name("parent of MinIO".into()).spawn(move || {
        if started.send(command.spawn()).is_ok() {
            // Nothing is ever sent: the end of the other side is the message.
            let _ = stopped.recv();
        }
    })?;
    let parent = Parent { stop: Some(stop), thread: Some(thread) };
    let child = start.recv().context("start MinIO")?.context("start MinIO")?;
    Ok((child, parent))
}

fn is_healthy(address: SocketAddr, transport: Transport) -> bool {
    // A server that speaks TLS refuses the plain request, but it is there.
    let expected = match transport {
        Transport::Plain => b"200",
        Transport::Tls => b"400",
    };
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream
            .write_all(b"GET /minio/health/cluster HTTP/1.1\r\nHost: minio\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(answer.ends_with(expected))
    };
    ask().unwrap_or(false)
}

fn certificates(home: &Path) -> PathBuf {
    home.join("certs")
}

/// Makes a CA and a certificate for 127.0.0.1 with the names that MinIO wants.
fn make_certificates(dir: &Path) -> Result<()> {
    std::fs::write(dir.join("extensions"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")?;
    let key = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    for arguments in [
        format!("{key} -x509 -subj /CN=tarn-test-ca -keyout ca.key -out ca.crt"),
        format!("{key} -subj /CN=127.0.0.1 -keyout private.key -out request"),
        "x509 -req -in request -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out public.crt"
            .to_owned(),
    ] {
        let made = run::command("openssl").args(arguments.split(' ')).current_dir(dir).output()?;
        ensure!(made.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&made.stderr));
    }
    Ok(())
}

fn end(child: &mut Child) {
    // Neither can fail for a child that was not waited for.
    child.kill().expect("kill MinIO");
    child.wait().expect("wait for MinIO");
}

fn log_path(home: &Path) -> PathBuf {
    home.join("minio.log")
}

fn log(home: &Path) -> String {
    std::fs::read_to_string(log_path(home)).unwrap_or_default()
}
