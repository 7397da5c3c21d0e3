//! A Linux host. A device is found by the serial number that its NVMe controller reports, never by the name that was
//! asked for: names are given anew at every boot.

mod table;

use super::{Host, command, probe};
use crate::error::{Error, Result};
use crate::id::VolumeId;
use crate::spec::FileSystem;
use crate::state::{Content, Device, Health, HostVolume, Mount, Place};
use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock, statvfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use table::Mounted;

/// A cache directory is its user's alone.
const PRIVATE: u32 = 0o700;
/// The directory on a volume that is handed to the mounts. It is not the root, which has a `lost+found`, and it is not
/// there while the volume is not mounted: nobody writes under a mount point by mistake.
const CACHE: &str = "cache";

/// Its own words for it are "Permission denied".
const RESIZE_HINT: &str = " (a mounted ext4 grows only by a process with CAP_SYS_RESOURCE)";

/// This host.
#[derive(Debug)]
pub struct LinuxHost {
    mounts: PathBuf,
    own: PathBuf,
    sys: PathBuf,
    dev: PathBuf,
}

/// A block device.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    number: u64,
}

impl LinuxHost {
    /// A host that mounts volumes below `mounts` and caches in `own` without them.
    pub fn open(mounts: &Path, own: &Path) -> Result<Self> {
        Self::with_devices(mounts, own, Path::new("/sys"), Path::new("/dev"))
    }

    /// The same, with other places for sysfs and device nodes.
    pub fn with_devices(mounts: &Path, own: &Path, sys: &Path, dev: &Path) -> Result<Self> {
        // As the mount table shows it.
        Ok(Self { mounts: directory(mounts)?, own: directory(own)?, sys: sys.into(), dev: dev.into() })
    }

    /// Claims the directory of the mounts for this process alone, as long as the file is open.
    pub fn lock(&self) -> Result<File> {
        let path = self.mounts.join(".lock");
        let file = File::create(&path).map_err(|error| Error::io("open", &path, error))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| Error::io("lock (another process looks after these volumes)", &path, error))?;
        Ok(file)
    }

    fn mount_point(&self, volume: &VolumeId) -> PathBuf {
        self.mounts.join(volume.as_str())
    }

    /// Every device that has a volume's serial number. Two with the same are two paths to one volume, which nobody
    /// asked for: neither is touched.
    fn devices(&self) -> Result<BTreeMap<VolumeId, Vec<Found>>> {
        let block = self.sys.join("block");
        let mut found: BTreeMap<VolumeId, Vec<Found>> = BTreeMap::new();
        let entries = std::fs::read_dir(&block).map_err(|error| Error::io("list", &block, error))?;
        for entry in entries {
            let name = entry.map_err(|error| Error::io("list", &block, error))?.file_name();
            let Ok(serial) = std::fs::read_to_string(block.join(&name).join("device/serial")) else {
                continue;
            };
            let Some(volume) = VolumeId::from_serial(&serial) else { continue };
            let path = self.dev.join(&name);
            // The node may not be there yet, or not any more.
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            if meta.file_type().is_block_device() {
                found.entry(volume).or_default().push(Found { path, number: meta.rdev() });
            }
        }
        Ok(found)
    }

    fn device(&self, volume: &VolumeId) -> Result<Found> {
        let mut found = self.devices()?.remove(volume).unwrap_or_default();
        let refuse = |why: String| Error::Refused { volume: volume.clone(), why };
        let one =
            found.pop().ok_or_else(|| refuse(format!("no device has the serial {}", volume.serial())))?;
        if let Some(other) = found.pop() {
            let (one, other) = (one.path.display(), other.path.display());
            return Err(refuse(format!("{one} and {other} both have the serial {}", volume.serial())));
        }
        Ok(one)
    }

    fn mounted(&self) -> Result<BTreeMap<VolumeId, Mounted>> {
        let path = Path::new("/proc/self/mountinfo");
        let text = std::fs::read_to_string(path).map_err(|error| Error::io("read", path, error))?;
        Ok(table::below(&text, &self.mounts))
    }

    /// The device of an unmounted volume that has our file system.
    async fn own_file_system(&self, volume: &VolumeId) -> Result<(Found, FileSystem)> {
        let device = self.device(volume)?;
        match probe::content(volume, &device.path).await? {
            Content::Ours(file_system) => Ok((device, file_system)),
            Content::Blank => Err(Error::Refused { volume: volume.clone(), why: "it is blank".into() }),
            Content::Foreign(what) => {
                Err(Error::Refused { volume: volume.clone(), why: format!("it holds {what}") })
            }
        }
    }

    async fn look(
        &self,
        volume: &VolumeId,
        found: &[Found],
        mounted: Option<&Mounted>,
    ) -> Result<HostVolume> {
        let mount = mounted.map(|mounted| {
            let alive = matches!(found, [device] if device.number == mounted.device);
            let space = statvfs(&mounted.at).ok().filter(|_| alive);
            Mount {
                size: space.as_ref().map_or(0, |space| space.f_blocks * space.f_frsize),
                used: space.map_or(0, |space| (space.f_blocks - space.f_bfree) * space.f_frsize),
                alive,
            }
        });
        let device = match found {
            [] => None,
            [device] => {
                let content = match mounted.and_then(|mounted| FileSystem::parse(&mounted.kind)) {
                    // A probe of a mounted device would read around the kernel's back.
                    Some(file_system) => Content::Ours(file_system),
                    None => probe::content(volume, &device.path).await?,
                };
                Some(Device { size: size(&device.path)?, content })
            }
            [..] => {
                let content = Content::Foreign("several devices of the same serial".into());
                Some(Device { size: 0, content })
            }
        };
        Ok(HostVolume { volume: volume.clone(), device, mount })
    }

    fn mount_now(&self, volume: &VolumeId, device: &Found, file_system: FileSystem) -> Result<()> {
        let at = directory(&self.mount_point(volume))?;
        let flags = MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOSUID;
        let failed = |error| Error::io("mount", &at, error);
        mount(&device.path, &at, file_system.name(), flags, Some(c"discard")).map_err(failed)?;
        // The device may have been taken away and another one been given its name meanwhile.
        let is_ours = self.device(volume).is_ok_and(|again| again.number == device.number);
        let is_mounted = self.mounted()?.get(volume).is_some_and(|mounted| mounted.device == device.number);
        if !is_ours || !is_mounted {
            unmount(&at, UnmountFlags::DETACH).map_err(|error| Error::io("unmount", &at, error))?;
            let why = "its device changed while it was mounted".into();
            return Err(Error::Refused { volume: volume.clone(), why });
        }
        directory(&at.join(CACHE)).map(drop)
    }

    /// A mount replays the log and looks at what it needs.
    fn try_mount(&self, volume: &VolumeId, device: &Found, file_system: FileSystem) -> Result<()> {
        self.mount_now(volume, device, file_system)?;
        self.unmount_now(volume, UnmountFlags::empty())
    }

    fn unmount_now(&self, volume: &VolumeId, flags: UnmountFlags) -> Result<()> {
        let at = self.mount_point(volume);
        if self.mounted()?.contains_key(volume) {
            unmount(&at, flags).map_err(|error| Error::io("unmount", &at, error))?;
        }
        match std::fs::remove_dir(&at) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", at, error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl Host for LinuxHost {
    async fn observe(&self, volumes: &[VolumeId]) -> Result<Vec<HostVolume>> {
        let (devices, mounted) = (self.devices()?, self.mounted()?);
        let mut seen = Vec::new();
        let wanted = volumes.iter().chain(mounted.keys()).collect::<std::collections::BTreeSet<_>>();
        for volume in wanted {
            let found = devices.get(volume).map(Vec::as_slice).unwrap_or_default();
            seen.push(self.look(volume, found, mounted.get(volume)).await?);
        }
        Ok(seen)
    }

    async fn format(&self, volume: &VolumeId, file_system: FileSystem) -> Result<()> {
        let device = self.device(volume)?;
        let content = probe::content(volume, &device.path).await?;
        if content != Content::Blank {
            return Err(Error::Refused { volume: volume.clone(), why: format!("not blank: {content:?}") });
        }
        let uuid = probe::uuid(volume);
        let path = device.path.as_path();
        let label = Path::new(probe::LABEL);
        let [quiet, name, uuid_flag] = ["-q", "-L", "-U"].map(Path::new);
        match file_system {
            FileSystem::Ext4 => {
                let space = [Path::new("-m"), Path::new("0")];
                let identity = [quiet, name, label, uuid_flag, Path::new(&uuid)];
                command::must("mkfs.ext4", &[&space[..], &identity, &[path]].concat(), path).await
            }
            FileSystem::Xfs => {
                let uuid = format!("uuid={uuid}");
                let arguments = [quiet, name, label, Path::new("-m"), Path::new(&uuid), path];
                command::must("mkfs.xfs", &arguments, path).await
            }
        }
    }

    async fn check(&self, volume: &VolumeId) -> Result<Health> {
        let (device, file_system) = self.own_file_system(volume).await?;
        // XFS has no check but that of its mount.
        if file_system == FileSystem::Ext4
            && fsck(file_system, &device.path, Effort::Quick).await? == Health::Damaged
        {
            return Ok(Health::Damaged);
        }
        // What the quick check takes for clean it does not look at.
        let Err(failed) = self.try_mount(volume, &device, file_system) else { return Ok(Health::Sound) };
        match fsck(file_system, &device.path, Effort::Whole).await? {
            Health::Damaged => Ok(Health::Damaged),
            Health::Sound => {
                self.try_mount(volume, &device, file_system).map(|()| Health::Sound).map_err(|_| failed)
            }
        }
    }

    async fn mount(&self, volume: &VolumeId) -> Result<()> {
        if self.mounted()?.contains_key(volume) {
            return Ok(());
        }
        let (device, file_system) = self.own_file_system(volume).await?;
        self.mount_now(volume, &device, file_system)
    }

    async fn grow(&self, volume: &VolumeId) -> Result<()> {
        let device = self.device(volume)?;
        let mounted = self.mounted()?.remove(volume);
        let Some(mounted) = mounted.filter(|mounted| mounted.device == device.number) else {
            return Err(Error::Refused { volume: volume.clone(), why: "it is not mounted".into() });
        };
        match FileSystem::parse(&mounted.kind) {
            Some(FileSystem::Ext4) => {
                let ended = command::run("resize2fs", &[&device.path], &device.path).await?;
                match ended.code {
                    Some(0) => Ok(()),
                    Some(_) | None => Err(ended.error_with("resize2fs", &device.path, RESIZE_HINT)),
                }
            }
            Some(FileSystem::Xfs) => command::must("xfs_growfs", &[&mounted.at], &device.path).await,
            None => Err(Error::Refused { volume: volume.clone(), why: format!("it is {}", mounted.kind) }),
        }
    }

    async fn unmount(&self, volume: &VolumeId, lost: bool) -> Result<()> {
        self.unmount_now(volume, if lost { UnmountFlags::DETACH } else { UnmountFlags::empty() })
    }

    fn cache_dir(&self, place: &Place) -> PathBuf {
        match place {
            Place::Host => self.own.clone(),
            Place::Volume(volume) => self.mount_point(volume).join(CACHE),
        }
    }
}

/// How closely a file system is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// What takes moments.
    Quick,
    /// All of it.
    Whole,
}

/// Checks a file system. ext4 is repaired where that can be done without a loss; XFS is only looked at.
async fn fsck(file_system: FileSystem, device: &Path, effort: Effort) -> Result<Health> {
    let (program, how) = match (file_system, effort) {
        (FileSystem::Ext4, Effort::Quick) => ("e2fsck", "-p"),
        (FileSystem::Ext4, Effort::Whole) => ("e2fsck", "-pf"),
        (FileSystem::Xfs, _) => ("xfs_repair", "-n"),
    };
    let ended = command::run(program, &[Path::new(how), device], device).await?;
    match (file_system, ended.code) {
        // In order, or brought in order.
        (FileSystem::Ext4, Some(0..=3)) | (FileSystem::Xfs, Some(0)) => Ok(Health::Sound),
        (FileSystem::Ext4, Some(4..=7)) | (FileSystem::Xfs, Some(1)) => Ok(Health::Damaged),
        (_, Some(_) | None) => Err(ended.error(program, device)),
    }
}

/// Makes a directory, if need be with those above it, and gives its real path.
fn directory(path: &Path) -> Result<PathBuf> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(PRIVATE).create(path);
    made.and_then(|()| path.canonicalize()).map_err(|error| Error::io("make the directory", path, error))
}

fn size(path: &Path) -> Result<u64> {
    let opened = File::open(path).and_then(|mut device| device.seek(SeekFrom::End(0)));
    opened.map_err(|error| Error::io("ask the size of", path, error))
}
