//! How a volume is to be used: what of it this driver can do. Every access mode, and no raw block.

use crate::error::{Error, Kind, Result};
use crate::proto::VolumeCapability;
use crate::proto::volume_capability::access_mode::Mode;
use crate::proto::volume_capability::{AccessType, MountVolume};

/// A use of a volume that was found possible.
#[derive(Debug, Clone, PartialEq)]
pub struct Use {
    /// Who may write at once.
    pub mode: Mode,
    /// Options, file system and group of the mount.
    pub mount: MountVolume,
}

impl Use {
    /// Reads one capability.
    pub fn parse(capability: Option<&VolumeCapability>) -> Result<Self> {
        let capability = capability.ok_or_else(|| Error::invalid("the volume capability is missing"))?;
        let mount = match &capability.access_type {
            Some(AccessType::Mount(mount)) => mount.clone(),
            Some(AccessType::Block(_)) => {
                return Err(Error::invalid(
                    "a bucket holds files and cannot be a raw block device; use volumeMode: Filesystem",
                ));
            }
            None => return Err(Error::invalid("the volume capability has no access type")),
        };
        let mode = capability.access_mode.as_ref().and_then(|mode| Mode::try_from(mode.mode).ok());
        match mode {
            None | Some(Mode::Unknown) => {
                Err(Error::invalid("the volume capability has no known access mode"))
            }
            Some(mode) => {
                check_file_system(&mount.fs_type)?;
                Ok(Self { mode, mount })
            }
        }
    }

    /// Reads all capabilities of a request, of which there must be one.
    pub fn parse_all(capabilities: &[VolumeCapability]) -> Result<Vec<Self>> {
        if capabilities.is_empty() {
            return Err(Error::invalid("the volume capabilities are missing"));
        }
        capabilities.iter().map(|capability| Self::parse(Some(capability))).collect()
    }

    /// Whether the mode forbids every change.
    pub fn only_reads(&self) -> bool {
        match self.mode {
            Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly => true,
            Mode::Unknown
            | Mode::SingleNodeWriter
            | Mode::MultiNodeSingleWriter
            | Mode::MultiNodeMultiWriter
            | Mode::SingleNodeSingleWriter
            | Mode::SingleNodeMultiWriter => false,
        }
    }
}

fn check_file_system(name: &str) -> Result<()> {
    if matches!(name, "" | "tarn" | "fuse.tarn") {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, format!("the file system type is {name:?}; leave it out, or say tarn")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::volume_capability::{AccessMode, BlockVolume};

    fn capability(mode: Mode, access_type: AccessType) -> VolumeCapability {
        VolumeCapability {
            access_mode: Some(AccessMode { mode: mode.into() }),
            access_type: Some(access_type),
        }
    }

    #[test]
    fn every_mode_of_a_mount_and_no_block() {
        let mount = || AccessType::Mount(MountVolume::default());
        for mode in [
            Mode::SingleNodeWriter,
            Mode::SingleNodeReaderOnly,
            Mode::MultiNodeReaderOnly,
            Mode::MultiNodeSingleWriter,
            Mode::MultiNodeMultiWriter,
            Mode::SingleNodeSingleWriter,
            Mode::SingleNodeMultiWriter,
        ] {
            assert_eq!(Use::parse(Some(&capability(mode, mount()))).expect("good").mode, mode);
            let block = AccessType::Block(BlockVolume {});
            let error = Use::parse(Some(&capability(mode, block))).expect_err("block");
            assert!(error.message.contains("volumeMode: Filesystem"), "{error}");
        }
        assert!(Use::parse(Some(&capability(Mode::Unknown, mount()))).is_err());
        assert!(Use::parse(None).is_err() && Use::parse_all(&[]).is_err());
        let ext4 = MountVolume { fs_type: "ext4".into(), ..MountVolume::default() };
        assert!(Use::parse(Some(&capability(Mode::SingleNodeWriter, AccessType::Mount(ext4)))).is_err());
    }
}
