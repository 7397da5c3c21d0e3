//! The size of a volume as its quota: a pod that goes beyond, and a volume that grows under it.

use crate::Test;
use crate::life::{Volume, block, capability};
use anyhow::{Context, Result, ensure};
use std::io::ErrorKind;
use std::path::Path;
use tarn_csi::proto::volume_capability::access_mode::Mode;
use tarn_csi::proto::volume_usage::Unit;
use tarn_csi::proto::*;
use tarn_tests::csi::Driver;
use tarn_tests::foreign::Foreign;
use tarn_tests::server::Server;
use tarn_tests::wait;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("quota::a_full_volume_refuses_writes_and_takes_them_once_it_has_grown", grows),
    ("quota::a_volume_without_quota_takes_more_than_its_size", off),
];

const MIB: u64 = 1 << 20;

fn size(bytes: u64) -> Option<CapacityRange> {
    Some(CapacityRange { required_bytes: bytes.cast_signed(), limit_bytes: 0 })
}

async fn create(driver: &Driver, name: &str, parameters: &[(&str, &str)]) -> Result<Volume> {
    let mut client = driver.client().await?;
    let request = CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: size(4 * MIB),
        volume_capabilities: vec![capability(Mode::MultiNodeMultiWriter)],
        parameters: parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..Default::default()
    };
    let made = client.controller.create_volume(request).await?.into_inner().volume.context("a volume")?;
    Ok(Volume::of(driver, client, made.volume_id, made.volume_context))
}

/// Makes the volume of a pod larger, as the resizer and the kubelet do.
async fn grow(volume: &mut Volume, path: &Path, bytes: u64) -> Result<()> {
    let request = ControllerExpandVolumeRequest {
        volume_id: volume.id.clone(),
        capacity_range: size(bytes),
        ..Default::default()
    };
    let answer = volume.client.controller.controller_expand_volume(request).await?.into_inner();
    ensure!(answer.node_expansion_required, "the mount must learn of it");
    let request = NodeExpandVolumeRequest {
        volume_id: volume.id.clone(),
        volume_path: path.display().to_string(),
        capacity_range: size(bytes),
        ..Default::default()
    };
    volume.client.node.node_expand_volume(request).await?;
    Ok(())
}

/// Total and used, in bytes and in files.
async fn stats(volume: &mut Volume, path: &Path) -> Result<[(u64, u64); 2]> {
    let request = NodeGetVolumeStatsRequest {
        volume_id: volume.id.clone(),
        volume_path: path.display().to_string(),
        ..Default::default()
    };
    let usage = volume.client.node.node_get_volume_stats(request).await?.into_inner().usage;
    let figures = |unit: Unit| {
        let found = usage.iter().find(|usage| usage.unit() == unit).context("figures")?;
        anyhow::Ok((found.total.cast_unsigned(), found.used.cast_unsigned()))
    };
    Ok([figures(Unit::Bytes)?, figures(Unit::Inodes)?])
}

fn is_full(written: std::io::Result<()>) -> Result<()> {
    let error = written.err().context("the volume takes more than its size")?;
    ensure!(error.kind() == ErrorKind::StorageFull, "{error}");
    Ok(())
}

fn grows(server: &Server) -> Result<()> {
    block(async {
        let driver = Driver::start(server, &[])?;
        let foreign = Foreign::start(&server.endpoint())?;
        let shared = foreign.bucket("quota-shared");
        shared.create()?;
        for (name, parameters) in [("own", &[][..]), ("folder", &[("bucket", "quota-shared")][..])] {
            let mut volume = create(&driver, name, parameters).await?;
            let pod = driver.kubelet(&format!("pod-{name}"));
            volume.stage().await?;
            volume.publish(&pod, false).await?;
            std::fs::write(pod.join("a"), vec![1; 3 << 20])?;
            is_full(std::fs::write(pod.join("b"), vec![2; 2 << 20]))?;
            std::fs::remove_file(pod.join("b"))?;
            let [bytes, (_, files)] = stats(&mut volume, &pod).await?;
            ensure!((bytes, files) == ((4 * MIB, 3 * MIB), 1), "{name}: {bytes:?}, {files} files");
            grow(&mut volume, &pod, 8 * MIB).await?;
            std::fs::write(pod.join("b"), vec![2; 2 << 20])?;
            let [bytes, (_, files)] = stats(&mut volume, &pod).await?;
            ensure!((bytes, files) == ((8 * MIB, 5 * MIB), 2), "{name}: {bytes:?}, {files} files");
            // Another node, later: its cache knows nothing, and the volume's attributes have the first size.
            volume.unpublish(&pod).await?;
            volume.unstage().await?;
            std::fs::remove_dir_all(driver.state().with_file_name("cache"))?;
            volume.stage().await?;
            volume.publish(&pod, false).await?;
            let space = rustix::fs::statvfs(&pod)?;
            let total = space.f_blocks * space.f_frsize;
            ensure!(total == 8 * MIB, "{name} has {total} bytes in all");
            wait::eventually(std::time::Duration::from_secs(20), "the volume is counted", || {
                let space = rustix::fs::statvfs(&pod)?;
                Ok((space.f_bavail * space.f_frsize == 3 * MIB).then_some(()))
            })?;
            is_full(std::fs::write(pod.join("c"), vec![3; 4 << 20]))?;
            volume.unpublish(&pod).await?;
            volume.unstage().await?;
            volume.delete().await?;
        }
        shared.drop_all()
    })
}

fn off(server: &Server) -> Result<()> {
    block(async {
        let driver = Driver::start(server, &[])?;
        let mut volume = create(&driver, "unbound", &[("quota", "off")]).await?;
        let pod = driver.kubelet("pod-unbound");
        volume.stage().await?;
        volume.publish(&pod, false).await?;
        std::fs::write(pod.join("a"), vec![1; 5 << 20])?;
        grow(&mut volume, &pod, 8 * MIB).await?;
        std::fs::write(pod.join("b"), vec![1; 5 << 20])?;
        volume.unpublish(&pod).await?;
        volume.unstage().await?;
        volume.delete().await
    })
}
