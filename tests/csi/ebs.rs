//! The hot tier from end to end on one node: the driver, `tarn-volume` with an EC2 API of other people (moto), a volume on
//! a loop device, and the API of Kubernetes as far as it is asked.
//!
//! `tarn-volume` runs in a mount namespace of its own, as in its pod: with other /sys/block and /dev, in which the
//! loop device looks as an NVMe device does, and with one directory whose mounts the driver sees.

use crate::Test;
use crate::hot::{FILE, LIMIT, kept, use_it};
use crate::life::{Volume, block};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use std::convert::Infallible;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tarn_tests::csi::Driver;
use tarn_tests::foreign::Foreign;
use tarn_tests::http::HttpServer;
use tarn_tests::server::Server;
use tarn_tests::{paths, run, wait};
use tempfile::TempDir;
use tokio::net::TcpListener;

pub(crate) const TESTS: &[(&str, Test)] =
    &[("ebs::a_hot_claim_gets_a_volume_that_comes_and_goes_and_the_resource_tells", story)];

const ZONE: &str = "eu-central-1a";
const OBJECT: &str = "/apis/tarn.dev/v1alpha1/cachevolumes/node-1";

fn story(server: &Server) -> Result<()> {
    let bench = Bench::new()?;
    told(server, &bench).with_context(|| {
        let log = fs::read_to_string(bench.path("log")).unwrap_or_default();
        format!("--- the last lines of tarn-volume's log\n{}", run::tail(&log))
    })
}

fn told(server: &Server, bench: &Bench) -> Result<()> {
    block(async {
        let moto = Moto::start()?;
        let instance = moto.launch()?;
        let metadata = metadata(instance.clone()).await?;
        let api = Api::start().await?;
        let link = bench.path("link").display().to_string();
        let driver = Driver::start(server, &["--bucket-prefix", "ebs-", "--hot-cache-dir", &link])?;
        let foreign = Foreign::start(&server.endpoint())?;
        let target = driver.kubelet("ebs");
        let mut hot = Volume::create(&driver, "pvc-hot", &[("cacheTier", "hot")]).await?;
        let bucket = foreign.bucket("ebs-pvc-hot");

        // Nothing waits for EC2.
        use_it(&mut hot, &target, &bucket).await?;
        ensure!(kept(&driver.cache())? >= FILE as u64, "the node's folder serves while there is no volume");
        let mut looking_after = bench.look_after(&driver, &moto, &metadata.endpoint(), &api)?;
        let volume = moto.attached()?;
        api.await_status("the node's folder is told", |status| status["place"] == "Host")?;
        bench.plug(&volume)?;
        let status = api.await_status("the volume is told", |status| status["place"] == "Volume")?;
        ensure!(status["volumeId"] == volume.as_str() && status["sizeGib"] == 1, "{status}");
        ensure!(status["conditions"][0]["status"] == "True", "{status}");
        ensure!(api.owner()? == "uid-of-node-1", "it goes with its node");

        hot.unpublish(&target).await?;
        hot.unstage().await?;
        use_it(&mut hot, &target, &bucket).await?;
        let cache = bench.path("volumes").join(&volume).join("cache");
        ensure!(kept(&cache)? >= FILE as u64, "the next mount caches on the volume");
        let before = kept(&cache)?;
        let other = driver.kubelet("standard");
        let mut standard = Volume::create(&driver, "pvc-standard", &[]).await?;
        use_it(&mut standard, &other, &foreign.bucket("ebs-pvc-standard")).await?;
        ensure!(kept(&cache)? == before, "a standard claim caches on the volume");

        // Somebody pulls it: the mount reads on, and new ones begin in the node's folder.
        moto.pull(&volume, &instance)?;
        bench.unplug()?;
        let status = api.await_status("the pull is told", |status| status["place"] == "Host")?;
        ensure!(status["conditions"][0]["status"] == "False", "{status}");
        ensure!(fs::read(target.join("file"))? == tarn_tests::data::bytes(3, FILE), "another text");
        ensure!(
            fs::read_link(bench.path("link"))? == driver.cache().canonicalize()?,
            "the link still leads there"
        );

        kill_process(wait::pid(&looking_after), Signal::TERM)?;
        wait::exit(&mut looking_after, LIMIT)?.context("it does not end")?;
        for (mut volume, target) in [(hot, target), (standard, other)] {
            volume.unpublish(&target).await?;
            volume.unstage().await?;
            volume.delete().await?;
        }
        Ok(())
    })
}

/// The EC2 API.
struct Moto {
    child: Child,
    endpoint: String,
}

impl Moto {
    fn start() -> Result<Self> {
        let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let child = run::command("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(paths::tool("venv/bin/moto_server")?)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start moto_server")?;
        let moto = Self { child, endpoint: format!("http://127.0.0.1:{port}") };
        let there = || Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(()));
        wait::eventually(Duration::from_secs(60), "moto listens", there)?;
        Ok(moto)
    }

    /// Asks it with boto3; `script` prints the answer.
    fn ask(&self, script: &str) -> Result<String> {
        let client = format!(
            "import boto3\nec2 = boto3.client('ec2', endpoint_url='{}', region_name='eu-central-1', \
             aws_access_key_id='test', aws_secret_access_key='test')\n{script}",
            self.endpoint
        );
        let python = paths::tool("venv/bin/python")?;
        Ok(run::must(run::command(python).args(["-c", &client]), LIMIT)?.trim().to_owned())
    }

    fn launch(&self) -> Result<String> {
        self.ask(&format!(
            "made = ec2.run_instances(ImageId='ami-12c6146b', MinCount=1, MaxCount=1, InstanceType='m5.large', \
             Placement={{'AvailabilityZone': '{ZONE}'}})\nprint(made['Instances'][0]['InstanceId'])"
        ))
    }

    /// The volume that was made and attached.
    fn attached(&self) -> Result<String> {
        let script = "found = ec2.describe_volumes(Filters=[{'Name': 'tag:tarn:owner', 'Values': ['story']}])\n\
                      print(*[v['VolumeId'] for v in found['Volumes'] if v['Attachments']])";
        wait::eventually(Duration::from_secs(60), "a volume is made and attached", || {
            Ok(Some(self.ask(script)?).filter(|volume| !volume.is_empty()))
        })
    }

    fn pull(&self, volume: &str, instance: &str) -> Result<()> {
        self.ask(&format!("ec2.detach_volume(VolumeId='{volume}', InstanceId='{instance}', Force=True)"))
            .map(drop)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.child.kill().expect("kill moto_server");
        self.child.wait().expect("wait for moto_server");
    }
}

/// The metadata service of an instance.
async fn metadata(instance: String) -> Result<HttpServer> {
    HttpServer::start(move |request| {
        let text = match request.uri().path().trim_start_matches("/latest/") {
            "api/token" => "token",
            "meta-data/instance-id" => &instance,
            "meta-data/placement/availability-zone" => ZONE,
            "meta-data/placement/region" => "eu-central-1",
            _ => "",
        };
        let answer = Response::builder().header("x-aws-ec2-metadata-token-ttl-seconds", "21600");
        answer.body(Full::new(Bytes::from(text.to_owned()))).expect("plain headers")
    })
    .await
}

/// The API of Kubernetes: a node, and the last that was applied to its CacheVolume.
struct Api {
    endpoint: String,
    applied: Arc<Mutex<[Value; 2]>>,
    account: TempDir,
}

impl Api {
    async fn start() -> Result<Self> {
        let account = tempfile::tempdir()?;
        fs::write(account.path().join("token"), "the-pods-token")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let applied: Arc<Mutex<[Value; 2]>> = Arc::default();
        let shared = Arc::clone(&applied);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { endpoint, applied, account })
    }

    fn await_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let last = || self.applied.lock().unwrap_or_else(PoisonError::into_inner)[1].clone();
        let found = wait::eventually(Duration::from_secs(90), what, || {
            Ok(Some(last()["status"].take()).filter(|status| wanted(status)))
        });
        found.with_context(|| last().to_string())
    }

    fn owner(&self) -> Result<String> {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = applied[0]["metadata"]["ownerReferences"][0]["uid"].as_str();
        uid.map(str::to_owned).context("an owner")
    }
}

async fn answer(
    request: Request<Incoming>,
    applied: Arc<Mutex<[Value; 2]>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let fields: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut applied = applied.lock().unwrap_or_else(PoisonError::into_inner);
    match path.strip_prefix(OBJECT) {
        Some("") => applied[0] = fields,
        Some("/status") => applied[1] = fields,
        Some(_) | None => {}
    }
    let node = r#"{"metadata": {"name": "node-1", "uid": "uid-of-node-1"}}"#;
    Ok(Response::new(Full::new(Bytes::from(node))))
}

/// Folders that stand for those of the node, and the device in them.
struct Bench {
    home: TempDir,
    device: Mutex<Option<PathBuf>>,
}

impl Bench {
    fn new() -> Result<Self> {
        let bench =
            Self { home: tempfile::Builder::new().prefix("tarn-ebs-").tempdir()?, device: Mutex::default() };
        for part in ["block", "dev", "dev/shm", "volumes"] {
            fs::create_dir(bench.path(part))?;
        }
        // What is mounted there by one is seen by the other, as with the propagation of the chart's pods.
        let volumes = bench.path("volumes");
        run::must(run::command("mount").arg("--bind").args([&volumes, &volumes]), LIMIT)?;
        run::must(run::command("mount").arg("--make-shared").arg(&volumes), LIMIT)?;
        for (name, minor) in [("null", "3"), ("zero", "5"), ("urandom", "9")] {
            run::must(
                run::command("mknod").arg(bench.path("dev").join(name)).args(["c", "1", minor]),
                LIMIT,
            )?;
        }
        Ok(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Starts what the chart starts on a node.
    fn look_after(&self, driver: &Driver, moto: &Moto, metadata: &str, api: &Api) -> Result<Child> {
        // A copy of a mount of tarn would keep it alive after its end; a container has none. One that hangs is not looked at.
        let script = "awk '$3 ~ \"^fuse\" { print $2 }' /proc/self/mounts | xargs -r -n 1 umount -cinl; \
                      mount --bind \"$1\" /sys/block && mount --rbind /dev/shm \"$2\"/shm && \
                      mount --rbind \"$2\" /dev && shift 2 && exec \"$@\"";
        let log = fs::File::create(self.path("log"))?;
        let mut command = run::command("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation", "unchanged", "--"]);
        command.args(["sh", "-c", script, "sh"]).args([self.path("block"), self.path("dev")]);
        command.arg(paths::program("tarn-csi")?).args(["cache-volume", "--node-name", "node-1"]);
        command.args(["--kubernetes", &api.endpoint, "--service-account"]).arg(api.account.path()).arg("--");
        command.arg(paths::program("tarn-volume")?).args(["run", "--owner", "story", "--node", "node-1"]);
        command.args(["--endpoint", &moto.endpoint, "--metadata-endpoint", metadata]);
        command.args(["-o", "minSize=1Gi", "-o", "maxSize=4Gi", "-o", "reservedSlots=0"]);
        for (flag, dir) in [
            ("--mounts", self.path("volumes")),
            ("--host-dir", driver.cache()),
            ("--link", self.path("link")),
        ] {
            command.arg(flag).arg(dir);
        }
        command.envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("start tarn-csi")
    }

    /// Makes the device of a volume show up.
    fn plug(&self, volume: &str) -> Result<()> {
        let image = self.path("image");
        fs::File::create(&image)?.set_len(1 << 30)?;
        let shown = run::must(run::command("losetup").args(["--find", "--show"]).arg(&image), LIMIT)?;
        let device = PathBuf::from(shown.trim());
        let minor =
            device.to_str().and_then(|name| name.strip_prefix("/dev/loop")).context("a loop device")?;
        let node = self.path("dev").join("nvme1n1");
        run::must(run::command("mknod").arg(&node).args(["b", "7", minor]), LIMIT)?;
        let about = self.path("block/nvme1n1/device");
        fs::create_dir_all(&about)?;
        fs::write(about.join("serial"), format!("{:20}\n", volume.replacen('-', "", 1)))?;
        *self.device.lock().unwrap_or_else(PoisonError::into_inner) = Some(device);
        Ok(())
    }

    /// Takes it away again; what is mounted from it holds the loop device.
    fn unplug(&self) -> Result<()> {
        let Some(device) = self.device.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        fs::remove_dir_all(self.path("block/nvme1n1"))?;
        fs::remove_file(self.path("dev").join("nvme1n1"))?;
        run::must(run::command("losetup").arg("--detach").arg(device), LIMIT).map(drop)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for dir in mounts_below(&self.path("volumes")) {
            let unmounted = run::must(run::command("umount").arg("-l").arg(&dir), LIMIT);
            if let Err(error) = unmounted {
                eprintln!("{} stays mounted: {error:#}", dir.display());
            }
        }
        if let Err(error) = self.unplug() {
            eprintln!("a device stays: {error:#}");
        }
    }
}

/// The last first.
fn mounts_below(root: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let dirs = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut dirs: Vec<PathBuf> = dirs.filter(|dir| dir.starts_with(root)).collect();
    dirs.reverse();
    dirs
}
