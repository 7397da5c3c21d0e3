//! A bench on which volumes are plugged in: sparse files behind loop devices, with a tree beside them that looks like
//! sysfs and /dev do when they are NVMe devices.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use tarn_volume::VolumeId;
use tarn_volume::host::LinuxHost;
use tarn_volume::spec::FileSystem;
use tarn_volume::state::Gib;
use tempfile::TempDir;

/// Images of volumes; they outlive the hosts that they are plugged into.
pub(crate) struct Images {
    dir: TempDir,
}

impl Images {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("tarn-volumes-").tempdir().unwrap() }
    }

    pub(crate) fn path(&self, volume: &VolumeId) -> PathBuf {
        self.dir.path().join(volume.as_str())
    }

    /// The image of a volume, at least so large.
    fn sized(&self, volume: &VolumeId, size: Gib) -> PathBuf {
        let path = self.path(volume);
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path).unwrap();
        if file.metadata().unwrap().len() < size.bytes() {
            file.set_len(size.bytes()).unwrap();
        }
        path
    }

    pub(crate) fn remove(&self, volume: &VolumeId) {
        let _ = fs::remove_file(self.path(volume));
    }
}

/// A host with slots for devices.
pub(crate) struct Bench {
    dir: TempDir,
    plugged: Mutex<BTreeMap<VolumeId, Plugged>>,
}

struct Plugged {
    name: String,
    loop_device: PathBuf,
    size: Gib,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("tarn-bench-").tempdir().unwrap();
        for part in ["sys/block", "dev", "mounts", "own"] {
            fs::create_dir_all(dir.path().join(part)).unwrap();
        }
        Self { dir, plugged: Mutex::default() }
    }

    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.dir.path().join(part)
    }

    pub(crate) fn host(&self) -> LinuxHost {
        let [mounts, own, sys, dev] = ["mounts", "own", "sys", "dev"].map(|part| self.path(part));
        LinuxHost::with_devices(&mounts, &own, &sys, &dev).unwrap()
    }

    /// Plugs a volume in, or lets its device grow.
    pub(crate) fn plug(&self, images: &Images, volume: &VolumeId, size: Gib) {
        let mut plugged = self.plugged.lock();
        let image = images.sized(volume, size);
        if let Some(there) = plugged.get_mut(volume) {
            if there.size < size {
                must("losetup", &[Path::new("-c"), &there.loop_device]);
                there.size = size;
            }
            return;
        }
        // Others on this machine take loop devices too; losetup finds a free one by trying.
        let shown = must("losetup", &[Path::new("--find"), Path::new("--show"), &image]);
        let loop_device = PathBuf::from(shown.trim());
        let name = format!("nvme{}n1", plugged.len() + 1);
        self.appear(&name, &volume.serial(), &loop_device);
        plugged.insert(volume.clone(), Plugged { name, loop_device, size });
    }

    /// Makes a device show up in the trees.
    pub(crate) fn appear(&self, name: &str, serial: &str, node: &Path) {
        let device = self.path("sys/block").join(name).join("device");
        fs::create_dir_all(&device).unwrap();
        // As the kernel pads it.
        fs::write(device.join("serial"), format!("{serial:20}\n")).unwrap();
        std::os::unix::fs::symlink(node, self.path("dev").join(name)).unwrap();
    }

    /// Pulls a volume out. Its loop device goes when nothing uses it any more.
    pub(crate) fn unplug(&self, volume: &VolumeId) {
        let Some(plugged) = self.plugged.lock().remove(volume) else { return };
        fs::remove_dir_all(self.path("sys/block").join(&plugged.name)).unwrap();
        fs::remove_file(self.path("dev").join(&plugged.name)).unwrap();
        must("losetup", &[Path::new("--detach"), &plugged.loop_device]);
    }

    pub(crate) fn plugged(&self) -> Vec<VolumeId> {
        self.plugged.lock().keys().cloned().collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.path("mounts")).unwrap().flatten() {
            let _ = rustix::mount::unmount(entry.path(), rustix::mount::UnmountFlags::DETACH);
        }
        for volume in self.plugged() {
            self.unplug(&volume);
        }
    }
}

/// Whether a mounted file system can be grown here: ext4 asks for CAP_SYS_RESOURCE, which some containers lack.
pub(crate) fn grows_here(kind: FileSystem) -> bool {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let held = u64::from_str_radix(effective.trim(), 16).unwrap() & CAP_SYS_RESOURCE != 0;
    kind == FileSystem::Xfs || held
}

/// Runs a program that must succeed.
pub(crate) fn must(program: &str, arguments: &[&Path]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Writes to an image that no device has.
pub(crate) fn scribble(image: &Path, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    File::options().write(true).open(image).unwrap().write_all_at(bytes, offset).unwrap();
}
