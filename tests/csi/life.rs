//! The life of a volume, seen by a pod and by another S3 client.

use crate::Test;
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tarn_csi::proto::volume_capability::access_mode::Mode;
use tarn_csi::proto::volume_capability::{AccessMode, AccessType, MountVolume};
use tarn_csi::proto::*;
use tarn_tests::csi::{Client, Driver};
use tarn_tests::foreign::Foreign;
use tarn_tests::server::Server;
use tarn_tests::{mount, run, wait};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("life::what_a_pod_writes_is_an_object_and_two_pods_share_it", shared),
    ("life::read_only_binds_refuse_writes_while_others_write", read_only),
    ("life::a_static_volume_shows_a_folder_of_a_bucket", static_volume),
    ("life::a_snapshot_is_restored_after_its_volume_is_gone", snapshot),
    ("life::a_versioned_bucket_is_purged_to_the_last_version", versions),
    ("life::a_bucket_that_is_not_there_is_a_clear_error_and_leaves_nothing", no_bucket),
    ("life::an_endpoint_that_is_away_is_a_clear_error_in_time", endpoint_away),
    ("life::mounts_outlive_a_restart_of_the_driver", restart),
    ("life::mounts_outlive_a_crash_of_the_driver", crash),
    ("life::a_killed_mount_is_made_again_for_the_next_pod", killed),
    ("life::a_mount_that_hangs_is_cut_off_and_the_pod_can_go", hanging),
    ("life::the_kubelet_can_register_the_driver", registration),
];

/// Runs a future of a test to its end.
pub(crate) fn block<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}

pub(crate) fn capability(mode: Mode) -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode { mode: mode.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}

/// A volume as a cluster sees it, with the driver's part of it.
pub(crate) struct Volume {
    pub(crate) client: Client,
    pub(crate) id: String,
    pub(crate) context: HashMap<String, String>,
    pub(crate) secrets: HashMap<String, String>,
    pub(crate) staging: PathBuf,
}

impl Volume {
    pub(crate) async fn create(driver: &Driver, name: &str, parameters: &[(&str, &str)]) -> Result<Self> {
        Self::create_from(driver, name, parameters, None).await
    }

    async fn create_from(
        driver: &Driver,
        name: &str,
        parameters: &[(&str, &str)],
        volume_content_source: Option<VolumeContentSource>,
    ) -> Result<Self> {
        let mut client = driver.client().await?;
        let request = CreateVolumeRequest {
            name: name.to_owned(),
            volume_capabilities: vec![capability(Mode::MultiNodeMultiWriter)],
            parameters: parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            volume_content_source,
            ..Default::default()
        };
        let volume =
            client.controller.create_volume(request).await?.into_inner().volume.context("a volume")?;
        Ok(Self::of(driver, client, volume.volume_id, volume.volume_context))
    }

    pub(crate) fn of(driver: &Driver, client: Client, id: String, context: HashMap<String, String>) -> Self {
        let name: String = id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let staging = driver.kubelet(&format!("staging-{name}"));
        Self { client, id, context, secrets: HashMap::new(), staging }
    }

    pub(crate) async fn stage(&mut self) -> Result<()> {
        let request = NodeStageVolumeRequest {
            volume_id: self.id.clone(),
            staging_target_path: self.staging.display().to_string(),
            volume_capability: Some(capability(Mode::MultiNodeMultiWriter)),
            volume_context: self.context.clone(),
            secrets: self.secrets.clone(),
            ..Default::default()
        };
        self.client.node.node_stage_volume(request).await?;
        Ok(())
    }

    pub(crate) async fn publish(&mut self, target: &Path, readonly: bool) -> Result<()> {
        let request = NodePublishVolumeRequest {
            volume_id: self.id.clone(),
            staging_target_path: self.staging.display().to_string(),
            target_path: target.display().to_string(),
            volume_capability: Some(capability(Mode::MultiNodeMultiWriter)),
            volume_context: self.context.clone(),
            readonly,
            ..Default::default()
        };
        self.client.node.node_publish_volume(request).await?;
        Ok(())
    }

    pub(crate) async fn unpublish(&mut self, target: &Path) -> Result<()> {
        let target_path = target.display().to_string();
        let request = NodeUnpublishVolumeRequest { volume_id: self.id.clone(), target_path };
        self.client.node.node_unpublish_volume(request).await?;
        Ok(())
    }

    pub(crate) async fn unstage(&mut self) -> Result<()> {
        let staging_target_path = self.staging.display().to_string();
        let request = NodeUnstageVolumeRequest { volume_id: self.id.clone(), staging_target_path };
        self.client.node.node_unstage_volume(request).await?;
        ensure!(!mount::is_mounted(&self.staging)?, "the mount stays");
        Ok(())
    }

    /// Sends a signal to what serves the mount.
    pub(crate) fn signal_mount(&self, signal: &str) -> Result<()> {
        let pattern = format!("mount .* {}", self.staging.display());
        let found = run::must(run::command("pgrep").args(["-f", &pattern]), Duration::from_secs(10))?;
        for pid in found.lines() {
            run::must(run::command("kill").args([signal, pid]), Duration::from_secs(10))?;
        }
        Ok(())
    }

    pub(crate) async fn delete(mut self) -> Result<()> {
        let request = DeleteVolumeRequest { volume_id: self.id, secrets: self.secrets };
        self.client.controller.delete_volume(request).await?;
        Ok(())
    }
}

fn shared(server: &Server) -> Result<()> {
    block(async {
        let driver = Driver::start(server, &["--bucket-prefix", "shared-"])?;
        let mut volume = Volume::create(&driver, "pvc-1", &[]).await?;
        let (one, two) = (driver.kubelet("one"), driver.kubelet("two"));
        volume.stage().await?;
        volume.publish(&one, false).await?;
        volume.publish(&two, false).await?;
        std::fs::create_dir(one.join("dir"))?;
        std::fs::write(one.join("dir/file"), b"of one")?;
        ensure!(std::fs::read(two.join("dir/file"))? == b"of one", "two pods see different files");
        let foreign = Foreign::start(&server.endpoint())?;
        ensure!(foreign.bucket("shared-pvc-1").get("dir/file")? == b"of one", "the object differs");
        volume.unpublish(&one).await?;
        std::fs::write(two.join("late"), b"late")?;
        volume.unpublish(&two).await?;
        ensure!(!one.exists() && !two.exists(), "a target stays");
        volume.unstage().await?;
        ensure!(std::fs::read_dir(driver.state())?.next().is_none(), "a note stays");
        ensure!(foreign.bucket("shared-pvc-1").get("late")? == b"late", "the last write is lost");
        volume.delete().await?;
        ensure!(foreign.bucket("shared-pvc-1").keys().is_err(), "the bucket stays");
        Ok(())
    })
}

fn read_only(server: &Server) -> Result<()> {
    block(async {
        let driver = Driver::start(server, &["--bucket-prefix", "readonly-"])?;
        let mut volume = Volume::create(&driver, "pvc-1", &[]).await?;
        let (writer, reader) = (driver.kubelet("writer"), driver.kubelet("reader"));
        volume.stage().await?;
        volume.publish(&writer, false).await?;
        volume.publish(&reader, true).await?;
        std::fs::write(writer.join("file"), b"x")?;
        ensure!(std::fs::read(reader.join("file"))? == b"x", "the reader does not see it");
        let refused = std::fs::write(reader.join("file"), b"y").expect_err("a read-only bind");
        ensure!(refused.kind() == std::io::ErrorKind::ReadOnlyFilesystem, "{refused}");
        volume.unpublish(&writer).await?;
        volume.unpublish(&reader).await?;
        volume.unstage().await?;
        volume.delete().await
    })
}

fn static_volume(server: &Server) -> Result<()> {
    block(async {
        let driver = Driver::start(server, &[])?;
        let foreign = Foreign::start(&server.endpoint())?;
        let bucket = foreign.bucket("dataset");
        bucket.create()?;
        bucket.put("a set, of 'one'/a", b"in")?;
        bucket.put("other", b"out")?;
        let context = HashMap::from([
            ("bucket".to_owned(), "dataset".to_owned()),
            ("prefix".to_owned(), "a set, of 'one'".to_owned()),
        ]);
        let mut volume =
            Volume::of(&driver, driver.client().await?, "any handle, by a person".to_owned(), context);
        let target = driver.kubelet("static");
        volume.stage().await?;
        volume.publish(&target, true).await?;
        let names: Vec<_> = std::fs::read_dir(&target)?
            .map(|entry| entry.map(|e| e.file_name()))
            .collect::<Result<_, _>>()?;
        ensure!(names == ["a"], "{names:?}");
        volume.unpublish(&target).await?;
        volume.unstage().await?;
        volume.delete().await?;
        ensure!(bucket.get("a set, of 'one'/a")? == b"in", "a static volume's bucket was touched");
        Ok(())
    })
}

fn snapshot(server: &Server) -> Result<()> {
    block(async {
        let driver = Driver::start(server, &["--bucket-prefix", "snapshot-"])?;
        let mut volume = Volume::create(&driver, "pvc-1", &[]).await?;
        let target = driver.kubelet("snapshot");
        volume.stage().await?;
        volume.publish(&target, false).await?;
        let large = tarn_tests::data::bytes(7, 20 << 20);
        std::fs::create_dir(target.join("dir"))?;
        std::fs::write(target.join("dir/large"), &large)?;
        std::fs::write(target.join("empty"), b"")?;
        let request = CreateSnapshotRequest {
            name: "snap-1".to_owned(),
            source_volume_id: volume.id.clone(),
            ..Default::default()
        };
        let taken = volume.client.controller.create_snapshot(request).await?.into_inner();
        let taken = taken.snapshot.context("a snapshot")?;
        ensure!(taken.ready_to_use, "a small snapshot is ready at once");
        std::fs::write(target.join("empty"), b"changed")?;
        volume.unpublish(&target).await?;
        volume.unstage().await?;
        volume.delete().await?;
        let source = volume_content_source::SnapshotSource { snapshot_id: taken.snapshot_id.clone() };
        let source = VolumeContentSource { r#type: Some(volume_content_source::Type::Snapshot(source)) };
        let mut restored = Volume::create_from(&driver, "pvc-2", &[], Some(source)).await?;
        restored.stage().await?;
        restored.publish(&target, false).await?;
        ensure!(std::fs::read(target.join("dir/large"))? == large, "the content differs");
        ensure!(std::fs::read(target.join("empty"))?.is_empty(), "a later write is in the snapshot");
        restored.unpublish(&target).await?;
        restored.unstage().await?;
        let request = DeleteSnapshotRequest { snapshot_id: taken.snapshot_id, ..Default::default() };
        restored.client.controller.delete_snapshot(request).await?;
        restored.delete().await
    })
}

fn versions(server: &Server) -> Result<()> {
    block(async {
        let driver = Driver::start(server, &["--bucket-prefix", "versions-"])?;
        let volume = Volume::create(&driver, "pvc-1", &[("versioning", "true")]).await?;
        let foreign = Foreign::start(&server.endpoint())?;
        let bucket = foreign.bucket("versions-pvc-1");
        for body in [b"1", b"2", b"3"] {
            bucket.put("file", body)?;
        }
        volume.delete().await?;
        ensure!(bucket.keys().is_err(), "the bucket stays");
        Ok(())
    })
}

fn no_bucket(server: &Server) -> Result<()> {
    block(async {
        let driver = Driver::start(server, &[])?;
        let context = HashMap::from([("bucket".to_owned(), "there-is-none".to_owned())]);
        let mut volume = Volume::of(&driver, driver.client().await?, "v".to_owned(), context);
        let error = volume.stage().await.expect_err("no such bucket");
        let text = format!("{error:#}");
        ensure!(text.contains("s3://there-is-none"), "{text}");
        ensure!(std::fs::read_dir(driver.state())?.next().is_none(), "a note stays");
        let error = volume.publish(&driver.kubelet("target"), false).await.expect_err("not staged");
        ensure!(format!("{error:#}").contains("not staged"), "{error:#}");
        ensure!(!driver.kubelet("target").exists(), "a bare directory");
        Ok(())
    })
}

fn endpoint_away(_: &Server) -> Result<()> {
    block(async {
        // A server that has just ended: nothing listens there.
        let server = Server::start_small()?;
        let driver = Driver::start(&server, &[])?;
        let endpoint = server.endpoint();
        drop(server);
        let started = std::time::Instant::now();
        let error = Volume::create(&driver, "pvc-1", &[]).await.map(drop).expect_err("nobody answers");
        let status = error.downcast_ref::<tonic::Status>().context("a status")?;
        ensure!(status.code() == tonic::Code::Unavailable, "{status:?}");
        let context = HashMap::from([("bucket".to_owned(), "dataset".to_owned())]);
        let mut volume = Volume::of(&driver, driver.client().await?, "v".to_owned(), context);
        let text = format!("{:#}", volume.stage().await.expect_err("nobody answers"));
        ensure!(text.contains("s3://dataset") && text.contains(&endpoint), "{text}");
        ensure!(started.elapsed() < Duration::from_secs(100), "it took {:?}", started.elapsed());
        ensure!(std::fs::read_dir(driver.state())?.next().is_none(), "a note stays");
        ensure!(!mount::is_mounted(&volume.staging)?, "a mount stays");
        Ok(())
    })
}

fn restart(server: &Server) -> Result<()> {
    block(async {
        let arguments = ["--bucket-prefix", "restart-"];
        let mut driver = Driver::start(server, &arguments)?;
        let mut volume = Volume::create(&driver, "pvc-1", &[]).await?;
        let target = driver.kubelet("restart");
        volume.stage().await?;
        volume.publish(&target, false).await?;
        std::fs::write(target.join("before"), b"1")?;
        driver.restart(server, &arguments)?;
        ensure!(std::fs::read(target.join("before"))? == b"1", "the mount is broken");
        std::fs::write(target.join("after"), b"2")?;
        volume.client = driver.client().await?;
        volume.stage().await?;
        volume.publish(&target, false).await?;
        volume.unpublish(&target).await?;
        volume.unstage().await?;
        volume.delete().await
    })
}

fn crash(server: &Server) -> Result<()> {
    block(async {
        let mut driver = Driver::start_node(server, &[])?;
        let foreign = Foreign::start(&server.endpoint())?;
        let bucket = foreign.bucket("crash");
        bucket.create()?;
        let context = HashMap::from([("bucket".to_owned(), "crash".to_owned())]);
        let mut volume = Volume::of(&driver, driver.client().await?, "crash".to_owned(), context);
        let (one, two) = (driver.kubelet("crash-one"), driver.kubelet("crash-two"));
        volume.stage().await?;
        volume.publish(&one, false).await?;
        let mut open = std::fs::File::create(one.join("file"))?;
        driver.crash()?;
        open.write_all(b"written after the crash")?;
        drop(open);
        volume.client = driver.client().await?;
        volume.publish(&two, false).await?;
        ensure!(std::fs::read(two.join("file"))? == b"written after the crash", "another mount");
        ensure!(bucket.get("file")? == b"written after the crash", "the object differs");
        volume.unpublish(&one).await?;
        volume.unpublish(&two).await?;
        volume.unstage().await?;
        driver.stop()
    })
}

fn killed(server: &Server) -> Result<()> {
    block(async {
        let driver = Driver::start(server, &["--bucket-prefix", "killed-"])?;
        let mut volume = Volume::create(&driver, "pvc-1", &[]).await?;
        let (one, two) = (driver.kubelet("killed-one"), driver.kubelet("killed-two"));
        volume.stage().await?;
        volume.publish(&one, false).await?;
        std::fs::write(one.join("file"), b"1")?;
        volume.signal_mount("-KILL")?;
        wait::eventually(Duration::from_secs(10), "the mount is dead", || {
            Ok(std::fs::read_dir(&one).is_err().then_some(()))
        })?;
        volume.publish(&two, false).await?;
        ensure!(std::fs::read(two.join("file"))? == b"1", "the new mount shows something else");
        volume.unpublish(&one).await?;
        volume.unpublish(&two).await?;
        volume.unstage().await?;
        volume.delete().await
    })
}

fn hanging(server: &Server) -> Result<()> {
    block(async {
        let driver = Driver::start(server, &["--bucket-prefix", "hanging-", "--commit-timeout", "1s"])?;
        let mut volume = Volume::create(&driver, "pvc-1", &[]).await?;
        let target = driver.kubelet("hanging");
        volume.stage().await?;
        volume.publish(&target, false).await?;
        std::fs::write(target.join("file"), b"1")?;
        volume.signal_mount("-STOP")?;
        let request = NodeGetVolumeHealthRequest { volume_id: volume.id.clone(), ..Default::default() };
        let health = volume.client.node.node_get_volume_health(request).await?.into_inner();
        let trouble = health.volume_health.context("health")?.health_statuses;
        ensure!(trouble.len() == 1 && trouble[0].reason == "NotAnswering", "{trouble:?}");
        volume.unpublish(&target).await?;
        ensure!(!target.exists(), "the target stays");
        volume.unstage().await?;
        volume.signal_mount("-KILL")?;
        volume.delete().await
    })
}

fn registration(server: &Server) -> Result<()> {
    use tarn_csi::proto::registration::registration_client::RegistrationClient;
    use tarn_csi::proto::registration::{InfoRequest, RegistrationStatus};
    block(async {
        let driver =
            Driver::start(server, &["--driver-name", "csi.test", "--kubelet-socket", "/plugins/csi.sock"])?;
        let socket = driver.registry().join("csi.test-reg.sock");
        // The kubelet watches the folder: the driver registers when its own socket stands.
        let there = || Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok().then_some(()));
        wait::eventually(Duration::from_secs(30), "the driver registers", there)?;
        let mut kubelet = RegistrationClient::connect(format!("unix://{}", socket.display())).await?;
        let info = kubelet.get_info(InfoRequest {}).await?.into_inner();
        ensure!((info.r#type.as_str(), info.name.as_str()) == ("CSIPlugin", "csi.test"), "{info:?}");
        ensure!(info.endpoint == "/plugins/csi.sock" && info.supported_versions == ["1.0.0"], "{info:?}");
        let status = RegistrationStatus { plugin_registered: true, error: String::new() };
        kubelet.notify_registration_status(status).await?;
        let mut driver = driver;
        driver.stop()?;
        ensure!(!socket.exists() && !driver.socket().exists(), "a socket stays");
        Ok(())
    })
}
