//! The CSI driver under test: a `tarn-csi` process with its socket, and a client of it.

use crate::server::{ACCESS_KEY, SECRET_KEY, Server};
use crate::{mount, paths, run, wait};
use anyhow::{Context, Result, bail};
use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;
use tarn_csi::proto::controller_client::ControllerClient;
use tarn_csi::proto::identity_client::IdentityClient;
use tarn_csi::proto::node_client::NodeClient;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

const START_LIMIT: Duration = Duration::from_secs(30);

/// A running driver with folders of its own. Dropping it ends it and every mount it made.
#[derive(Debug)]
pub struct Driver {
    child: Child,
    home: TempDir,
    part: &'static str,
}

impl Driver {
    /// Starts a driver that serves both parts, before a server, with further arguments.
    pub fn start(server: &Server, arguments: &[&str]) -> Result<Self> {
        Self::start_part("all", server, arguments)
    }

    /// Starts the part that runs on every node.
    pub fn start_node(server: &Server, arguments: &[&str]) -> Result<Self> {
        Self::start_part("node", server, arguments)
    }

    fn start_part(part: &'static str, server: &Server, arguments: &[&str]) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("tarn-csi-").tempdir().context("folder for the driver")?;
        let keys = home.path().join("keys");
        for dir in [&keys, &home.path().join("kubelet"), &home.path().join("registry")] {
            std::fs::create_dir(dir)?;
        }
        std::fs::write(keys.join("accessKeyId"), ACCESS_KEY)?;
        std::fs::write(keys.join("secretAccessKey"), SECRET_KEY)?;
        let child = spawn(part, &home, &server.endpoint(), arguments)?;
        let mut driver = Self { child, home, part };
        driver.await_socket()?;
        Ok(driver)
    }

    /// Ends the driver as Kubernetes does, and starts it again with the same folders.
    pub fn restart(&mut self, server: &Server, arguments: &[&str]) -> Result<()> {
        self.stop()?;
        self.child = spawn(self.part, &self.home, &server.endpoint(), arguments)?;
        self.await_socket()
    }

    /// Ends the driver with SIGTERM, which must be a success.
    pub fn stop(&mut self) -> Result<()> {
        kill_process(wait::pid(&self.child), Signal::TERM)?;
        let status = wait::exit(&mut self.child, START_LIMIT)?.context("the driver does not end")?;
        if !status.success() {
            bail!("the driver ended with {status}:\n{}", run::tail(&self.log()));
        }
        Ok(())
    }

    /// Kills the process that serves the calls of a node, and waits until the next one does.
    pub fn crash(&mut self) -> Result<()> {
        let served = mount::worker_of(wait::pid(&self.child))?.context("nothing serves")?;
        let ended = pidfd_open(served, PidfdFlags::empty())?;
        kill_process(served, Signal::KILL)?;
        wait::end(&ended, START_LIMIT)?;
        self.await_socket()
    }

    fn await_socket(&mut self) -> Result<()> {
        let socket = self.socket();
        let ready = wait::eventually(START_LIMIT, "the driver listens", || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the driver ended with {status}");
            }
            Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok().then_some(()))
        });
        ready.with_context(|| run::tail(&self.log()))
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("csi.sock")
    }

    /// The folder in which it registers with the kubelet.
    pub fn registry(&self) -> PathBuf {
        self.home.path().join("registry")
    }

    /// The folder of its notes.
    pub fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// The folder that its mounts cache in.
    pub fn cache(&self) -> PathBuf {
        self.home.path().join("cache")
    }

    /// A path in the folder of the kubelet.
    pub fn kubelet(&self, name: &str) -> PathBuf {
        self.home.path().join("kubelet").join(name)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// Clients of its services.
    pub async fn client(&self) -> Result<Client> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", self.socket().display()))?;
        let channel = endpoint.timeout(Duration::from_secs(120)).connect().await.context("connect")?;
        Ok(Client {
            identity: IdentityClient::new(channel.clone()),
            controller: ControllerClient::new(channel.clone()),
            node: NodeClient::new(channel),
        })
    }
}

/// Clients of a driver's services.
#[derive(Debug, Clone)]
pub struct Client {
    /// Who it is.
    pub identity: IdentityClient<Channel>,
    /// Volumes.
    pub controller: ControllerClient<Channel>,
    /// Mounts.
    pub node: NodeClient<Channel>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the last lines of the driver's log\n{}", run::tail(&self.log()));
        }
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.child.kill().expect("kill a child that was not waited for");
            self.child.wait().expect("wait for the driver");
        }
        if let Err(error) = unmount_below(self.home.path()) {
            eprintln!("mounts of the driver stay: {error:#}");
        }
    }
}

/// Ends what is mounted below a folder, the last first.
fn unmount_below(root: &Path) -> Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let dirs = table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let mut dirs: Vec<&Path> = dirs.filter(|dir| dir.starts_with(root)).collect();
    dirs.reverse();
    for dir in dirs {
        let ended = run::run(mount::tarn()?.args(["umount", "--force"]).arg(dir), Duration::from_secs(60))?;
        if !ended.status.success() && mount::is_mounted(dir)? {
            run::must(run::command("umount").arg("-l").arg(dir), Duration::from_secs(60))?;
        }
    }
    Ok(())
}

fn spawn(part: &str, home: &TempDir, endpoint: &str, arguments: &[&str]) -> Result<Child> {
    let path = |name: &str| home.path().join(name);
    let log = std::fs::File::options().create(true).append(true).open(path("log"))?;
    run::command("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(paths::program("tarn-csi")?)
        .args([part, "--csi-endpoint"])
        .arg(format!("unix://{}", path("csi.sock").display()))
        .args(["--endpoint", endpoint, "--region", "us-east-1", "--node-id", "node-1"])
        .args(["--log-level", "debug", "--tarn"])
        .arg(paths::tarn()?)
        .arg("--credentials")
        .arg(path("keys"))
        .arg("--kubelet-dir")
        .arg(path("kubelet"))
        .arg("--state-dir")
        .arg(path("state"))
        .arg("--cache-dir")
        .arg(path("cache"))
        .arg("--registry-dir")
        .arg(path("registry"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("start the driver")
}
