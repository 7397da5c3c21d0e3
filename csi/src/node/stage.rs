//! Staging: one mount for each volume and node, made once and healed when its process has died.

use super::records::Staged;
use super::{Node, paths};
use crate::capability::Use;
use crate::credentials::Credentials;
use crate::error::{Error, Kind, Result};
use crate::mounter::{Keys, MountPlan, Seen};
use crate::parameters::Attributes;
use crate::proto::*;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

/// Permission bits that a group keeps when a pod names one.
const GROUP_UMASK: &str = "002";

impl Node {
    pub(super) async fn stage(&self, request: NodeStageVolumeRequest) -> Result<NodeStageVolumeResponse> {
        let volume_id = paths::volume_id(&request.volume_id)?;
        let dir = self.path("staging target path", &request.staging_target_path)?;
        let wanted = Use::parse(request.volume_capability.as_ref())?;
        let mut attributes = Attributes::parse(&request.volume_context)?;
        let keys = own_keys(&request.secrets)?;
        if attributes.role.is_some() {
            // Each pod mounts by itself when it is published: only then is its token there.
            return Ok(NodeStageVolumeResponse {});
        }
        let _hold = self.in_flight.enter(volume_id)?;
        self.renew_quota((volume_id, &dir), &mut attributes, &request.secrets).await?;
        let staged = self.plan(volume_id, &dir, attributes, &wanted)?;
        self.make(&staged, keys).await?;
        Ok(NodeStageVolumeResponse {})
    }

    /// What is to be mounted at `dir`.
    pub(super) fn plan(
        &self,
        volume_id: &str,
        dir: &Path,
        mut attributes: Attributes,
        wanted: &Use,
    ) -> Result<Staged> {
        attributes.add_mount_flags(&wanted.mount.mount_flags)?;
        let group = paths::group(&wanted.mount.volume_mount_group)?;
        if let Some(group) = group {
            attributes.options.entry("gid").or_insert_with(|| group.to_string());
            let umask = attributes.options.entry("umask").or_insert_with(|| GROUP_UMASK.to_owned());
            let dir_mode = shared_dir_mode(umask)?;
            attributes.options.entry("dir-mode").or_insert(dir_mode);
        }
        if wanted.only_reads() {
            attributes.options.insert("read-only", "true".to_owned());
        }
        Ok(Staged {
            volume_id: volume_id.to_owned(),
            dir: dir.to_owned(),
            source: attributes.source(),
            tier: attributes.tier,
            options: attributes.options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            group,
        })
    }

    /// Sees to it that the volume is mounted as planned.
    pub(super) async fn make(&self, staged: &Staged, keys: Keys) -> Result<()> {
        let noted = self.records.find(&staged.dir)?;
        match self.mounter.look(&staged.dir).await? {
            Seen::Live { .. } if noted.as_ref() == Some(staged) => {
                return self.mounter.renew(&self.records.home(&staged.dir), &keys).await;
            }
            Seen::Live { source, .. } => {
                return Err(Error::new(
                    Kind::Exists,
                    format!(
                        "{} shows {source} already, for another volume or with other options",
                        staged.dir.display()
                    ),
                ));
            }
            Seen::Dead => self.clear(&staged.dir).await?,
            Seen::Nothing => make_dir(&staged.dir)?,
            Seen::Bare => {}
            other @ (Seen::Other | Seen::Foreign(_)) => return Err(in_the_way(&staged.dir, &other)),
        }
        self.mount(staged, keys).await
    }

    /// Mounts what is not mounted. A failure leaves no note and no key behind.
    async fn mount(&self, staged: &Staged, keys: Keys) -> Result<()> {
        self.records.write(staged)?;
        let plan = MountPlan {
            source: staged.source.clone(),
            dir: staged.dir.clone(),
            options: staged.known_options(),
            tier: staged.tier,
            keys,
            home: self.records.home(&staged.dir),
        };
        match self.mounter.mount(&plan).await {
            Ok(()) => Ok(()),
            Err(error) => {
                if let Err(left) = self.records.forget(&staged.dir) {
                    tracing::warn!(error = %left, "the note of a mount that failed stays behind");
                }
                Err(error.during(format_args!("mount {}", staged.source)))
            }
        }
    }

    /// Mounts a staged volume again whose process has died, with the keys that it had.
    pub(super) async fn heal(&self, staged: &Staged) -> Result<()> {
        tracing::warn!(volume = staged.volume_id, dir = %staged.dir.display(), "the mount is dead; mounting again");
        self.clear(&staged.dir).await?;
        self.mount(staged, Keys::Kept).await
    }

    /// Takes a dead mount away. What its process had not committed is in the cache, and the next mount names it; that this
    /// process can no longer say so is no reason to leave the volume without a mount.
    async fn clear(&self, dir: &Path) -> Result<()> {
        let Err(error) = self.mounter.unmount(dir).await else { return Ok(()) };
        match self.mounter.look(dir).await? {
            Seen::Nothing | Seen::Bare => {
                tracing::warn!(%error, dir = %dir.display(), "a dead mount was taken away");
                Ok(())
            }
            Seen::Live { .. } | Seen::Dead | Seen::Other | Seen::Foreign(_) => Err(error),
        }
    }

    /// After a start of the driver or the node: mounts that died are made again, notes of those that are gone removed.
    /// Calls are answered meanwhile; a volume that one of them works on is left to it.
    pub async fn recover(&self) -> Result<()> {
        for staged in self.records.all()? {
            let dir = staged.dir.display().to_string();
            let (Ok(_volume), Ok(_dir)) =
                (self.in_flight.enter(&staged.volume_id), self.in_flight.enter(&dir))
            else {
                continue;
            };
            let done = match self.mounter.look(&staged.dir).await {
                Ok(Seen::Dead) => self.heal(&staged).await,
                Ok(Seen::Nothing | Seen::Bare | Seen::Other | Seen::Foreign(_)) => {
                    self.records.forget(&staged.dir)
                }
                Ok(Seen::Live { .. }) => Ok(()),
                Err(error) => Err(error),
            };
            // The next call for this volume meets the same, and says so to its pod.
            if let Err(error) = done {
                tracing::warn!(volume = staged.volume_id, %error, "a mount could not be recovered");
            }
        }
        Ok(())
    }

    pub(super) async fn unstage(
        &self,
        request: NodeUnstageVolumeRequest,
    ) -> Result<NodeUnstageVolumeResponse> {
        let volume_id = paths::volume_id(&request.volume_id)?;
        let dir = self.path("staging target path", &request.staging_target_path)?;
        let _hold = self.in_flight.enter(volume_id)?;
        self.end(volume_id, &dir).await?;
        Ok(NodeUnstageVolumeResponse {})
    }

    /// Ends the mount at `dir`, if there is one, and forgets it.
    pub(super) async fn end(&self, volume_id: &str, dir: &Path) -> Result<()> {
        if let Some(staged) = self.records.find(dir)?.filter(|staged| staged.volume_id != volume_id) {
            let text = format!("{} is the volume {}, not {volume_id}", dir.display(), staged.volume_id);
            return Err(Error::new(Kind::Precondition, text));
        }
        match self.mounter.look(dir).await {
            Ok(Seen::Live { .. } | Seen::Dead) => self.mounter.unmount(dir).await?,
            Ok(Seen::Nothing | Seen::Bare | Seen::Other) => {}
            Ok(other @ Seen::Foreign(_)) => return Err(in_the_way(dir, &other)),
            // It hangs: the unmount commits what it can, or says who is in the way.
            Err(error) if error.kind == Kind::Unavailable => self.mounter.unmount(dir).await?,
            Err(error) => return Err(error),
        }
        self.records.forget(dir)
    }
}

/// Something else stands where a volume should be.
pub(super) fn in_the_way(dir: &Path, seen: &Seen) -> Error {
    let what = match seen {
        Seen::Foreign(fs_type) => format!("a mount of {fs_type}"),
        Seen::Other => "no directory".to_owned(),
        Seen::Live { source, .. } => format!("a mount of {source}"),
        Seen::Dead => "a dead mount".to_owned(),
        Seen::Nothing | Seen::Bare => "no mount".to_owned(),
    };
    Error::new(Kind::Precondition, format!("{} is {what}, and the driver does not touch it", dir.display()))
}

/// Makes a mount point that nobody but root may enter while nothing is mounted there.
pub(super) fn make_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let failed = |error: io::Error| Error::local(format_args!("make {}", dir.display()), &error);
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The mode of directories that hand their group on, as a pod with an fsGroup expects: its programs may run with another
/// primary group, and new files must not get that one.
fn shared_dir_mode(umask: &str) -> Result<String> {
    let bits = u32::from_str_radix(umask, 8);
    let bits = bits.map_err(|_| Error::invalid(format!("the umask {umask:?} is not octal, such as 002")))?;
    Ok(format!("{:o}", 0o2777 & !(bits & 0o777)))
}

/// The keys of a call's secret, or else the driver's.
pub(super) fn own_keys(secrets: &HashMap<String, String>) -> Result<Keys> {
    Ok(Credentials::from_secret(secrets)?.map_or(Keys::Driver, Keys::Own))
}

/// Whether a volume is written into a pod's own description.
pub(super) fn is_inline(context: &HashMap<String, String>) -> bool {
    context.get("csi.storage.k8s.io/ephemeral").is_some_and(|value| value == "true")
}
