//! Publishing: a staged volume bound into a pod, or an inline volume mounted there.

use super::stage::{in_the_way, is_inline, make_dir, own_keys};
use super::{Node, paths};
use crate::capability::Use;
use crate::error::{Error, Kind, Result};
use crate::mounter::{Access, Keys, Seen};
use crate::parameters::Attributes;
use crate::proto::volume_capability::access_mode::Mode;
use crate::proto::*;
use crate::web_identity::{Role, Token};
use std::io;
use std::path::{Path, PathBuf};
use tarn_fs::fuse::session::OptionText;
use tarn_fs::spec::Source;

/// Mounts on top of each other at one target that are taken away in one call.
const MOST_LAYERS: usize = 16;

impl Node {
    pub(super) async fn publish(
        &self,
        request: NodePublishVolumeRequest,
    ) -> Result<NodePublishVolumeResponse> {
        let volume_id = paths::volume_id(&request.volume_id)?;
        let target = self.path("target path", &request.target_path)?;
        let wanted = Use::parse(request.volume_capability.as_ref())?;
        let _hold = self.in_flight.enter(&request.target_path)?;
        let inline = is_inline(&request.volume_context);
        let mut attributes = if inline {
            self.inline_attributes(&request)?
        } else {
            Attributes::parse(&request.volume_context)?
        };
        if inline || attributes.role.is_some() {
            if !inline {
                self.renew_quota((volume_id, &target), &mut attributes, &request.secrets).await?;
            }
            self.publish_alone(volume_id, &target, attributes, &wanted, &request).await?;
        } else {
            let staging = self.path("staging target path", &request.staging_target_path)?;
            let access =
                if request.readonly || wanted.only_reads() { Access::ReadOnly } else { Access::ReadWrite };
            let device = self.staged(volume_id, &staging, &wanted).await?;
            // The kubelet calls again for a pod that runs, and brings what the secret says by then.
            let keys = own_keys(&request.secrets)?;
            self.mounter.renew(&self.records.home(&staging), &keys).await?;
            if wanted.mode == Mode::SingleNodeSingleWriter {
                self.must_be_alone(volume_id, &device, &staging, &target).await?;
            }
            self.bind(&staging, &target, &device, access).await?;
        }
        Ok(NodePublishVolumeResponse {})
    }

    fn inline_attributes(&self, request: &NodePublishVolumeRequest) -> Result<Attributes> {
        if !self.settings.inline_volumes {
            return Err(Error::new(
                Kind::Precondition,
                "inline volumes are off: any user of a namespace could name any bucket; an administrator turns them on with --inline-volumes",
            ));
        }
        Attributes::parse_inline(&request.volume_context)
    }

    /// A mount for this pod alone: of an inline volume, or with the pod's own rights. The kubelet calls again for a pod that
    /// runs, and brings a new token.
    async fn publish_alone(
        &self,
        volume_id: &str,
        target: &Path,
        attributes: Attributes,
        wanted: &Use,
        request: &NodePublishVolumeRequest,
    ) -> Result<()> {
        let context = &request.volume_context;
        let keys = match &attributes.role {
            Some(role) => {
                let token = Token::find(context, &request.secrets, &self.settings.token_audience)?;
                Keys::Pod(Role::new(role, context), token)
            }
            None => own_keys(&request.secrets)?,
        };
        if wanted.mode == Mode::SingleNodeSingleWriter {
            let others = self.records.all()?;
            if let Some(other) = others.iter().find(|one| one.volume_id == volume_id && one.dir != target) {
                return Err(in_use(volume_id, &other.dir));
            }
        }
        let mut staged = self.plan(volume_id, target, attributes, wanted)?;
        if request.readonly {
            staged.options.insert("read-only".to_owned(), "true".to_owned());
        }
        self.make(&staged, keys).await
    }

    /// The device of the volume where it is staged. A mount whose process has died is made again first.
    async fn staged(&self, volume_id: &str, staging: &Path, wanted: &Use) -> Result<String> {
        let not_staged = || {
            let text =
                format!("the volume {volume_id} is not staged at {}; it must be first", staging.display());
            Error::new(Kind::Precondition, text)
        };
        let staged = self.records.find(staging)?.filter(|staged| staged.volume_id == volume_id);
        let staged = staged.ok_or_else(not_staged)?;
        let group = paths::group(&wanted.mount.volume_mount_group)?;
        if group.is_some() && group != staged.group {
            return Err(Error::new(
                Kind::Precondition,
                format!(
                    "the volume {volume_id} is mounted on this node for the fsGroup {:?}; pods that share it on a node need the same fsGroup",
                    staged.group
                ),
            ));
        }
        let mut seen = self.mounter.look(staging).await?;
        if seen == Seen::Dead {
            let _hold = self.in_flight.enter(volume_id)?;
            self.heal(&staged).await?;
            seen = self.mounter.look(staging).await?;
        }
        match seen {
            Seen::Live { device, source } if same_source(&source, &staged.source) => Ok(device),
            Seen::Nothing | Seen::Bare | Seen::Dead => Err(not_staged()),
            other @ (Seen::Live { .. } | Seen::Other | Seen::Foreign(_)) => Err(in_the_way(staging, &other)),
        }
    }

    /// One writer on one node means one target path.
    async fn must_be_alone(
        &self,
        volume_id: &str,
        device: &str,
        staging: &Path,
        target: &Path,
    ) -> Result<()> {
        let elsewhere =
            |dir: &PathBuf| dir != staging && dir != target && dir.starts_with(&self.settings.kubelet_dir);
        match self.mounter.shown_at(device).await?.iter().find(|dir| elsewhere(dir)) {
            None => Ok(()),
            Some(dir) => Err(in_use(volume_id, dir)),
        }
    }

    /// Binds, and makes sure that what is at the target then is the mount.
    async fn bind(&self, staging: &Path, target: &Path, device: &str, access: Access) -> Result<()> {
        match self.mounter.look(target).await? {
            Seen::Live { device: shown, .. } if shown == device => return Ok(()),
            Seen::Dead => self.mounter.unbind(target).await?,
            Seen::Nothing => make_dir(target)?,
            Seen::Bare => {}
            other @ (Seen::Live { .. } | Seen::Other | Seen::Foreign(_)) => {
                return Err(in_the_way(target, &other));
            }
        }
        self.mounter.bind(staging, target, access).await?;
        match self.mounter.look(target).await {
            Ok(Seen::Live { device: shown, .. }) if shown == device => Ok(()),
            seen => {
                self.mounter.unbind(target).await?;
                Err(Error::new(Kind::Internal, format!("{} was bound and shows {seen:?}", target.display())))
            }
        }
    }

    pub(super) async fn unpublish(
        &self,
        request: NodeUnpublishVolumeRequest,
    ) -> Result<NodeUnpublishVolumeResponse> {
        let volume_id = paths::volume_id(&request.volume_id)?;
        let target = self.path("target path", &request.target_path)?;
        let _hold = self.in_flight.enter(&request.target_path)?;
        if self.records.find(&target)?.is_some() {
            self.end(volume_id, &target).await?;
        }
        for _ in 0..MOST_LAYERS {
            match self.mounter.look(&target).await {
                Ok(Seen::Live { .. } | Seen::Dead) => self.mounter.unbind(&target).await?,
                // A bind of a mount that hangs is let go all the same.
                Err(error) if error.kind == Kind::Unavailable => self.mounter.unbind(&target).await?,
                Ok(Seen::Nothing) => break,
                Ok(Seen::Bare) => {
                    remove_dir(&target)?;
                    break;
                }
                Ok(other @ (Seen::Other | Seen::Foreign(_))) => return Err(in_the_way(&target, &other)),
                Err(error) => return Err(error),
            }
        }
        Ok(NodeUnpublishVolumeResponse {})
    }
}

fn in_use(volume_id: &str, dir: &Path) -> Error {
    let text = format!(
        "the volume {volume_id} is for one pod only (ReadWriteOncePod) and is used at {}",
        dir.display()
    );
    Error::new(Kind::Precondition, text)
}

/// Whether what the kernel's table shows is what was mounted. `tarn mount` escapes it for that table.
fn same_source(shown: &str, planned: &str) -> bool {
    let source = Source::parse(planned).map(|source| OptionText::escape(&source.to_string()));
    source.is_ok_and(|source| source.as_str() == shown)
}

/// Removes an empty directory. One with files was written to while nothing was mounted there: they are not ours to delete.
fn remove_dir(dir: &Path) -> Result<()> {
    match std::fs::remove_dir(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Err(Error::new(
            Kind::Internal,
            format!("{} holds files although nothing is mounted there; save and remove them", dir.display()),
        )),
        Err(error) => Err(Error::local(format_args!("remove {}", dir.display()), &error)),
    }
}
