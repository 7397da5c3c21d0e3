//! What is on a device. A wrong "blank" would destroy data, so it takes two proofs: libblkid knows nothing of what is
//! there, and there are zeros wherever we look. A wrong "ours" would mix up volumes, so the file system must carry
//! the UUID that belongs to the volume's id.

use super::command;
use crate::error::{Error, Result};
use crate::id::VolumeId;
use crate::spec::FileSystem;
use crate::state::Content;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The label of our file systems; XFS takes 12 characters.
pub(super) const LABEL: &str = "tarn-cache";
/// Read whole at the beginning, where every file system has its superblock, and at the end, where RAIDs have theirs.
const EDGE: u64 = 4 << 20;
/// Read between them.
const SAMPLES: u64 = 256;
const SAMPLE: u64 = 4 << 10;

/// The UUID of the file system that tarn makes for a volume.
pub(super) fn uuid(volume: &VolumeId) -> String {
    let digest = Sha256::digest(format!("tarn cache volume\n{volume}"));
    let mut bytes: [u8; 16] = std::array::from_fn(|index| digest[index]);
    // Version 8, which leaves the rest to its maker, of the usual variant.
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Looks.
pub(super) async fn content(volume: &VolumeId, device: &Path) -> Result<Content> {
    let arguments = [Path::new("-p"), Path::new("-o"), Path::new("export"), Path::new("--"), device];
    let ended = command::run("blkid", &arguments, device).await?;
    match ended.code {
        Some(0) => Ok(known(volume, &ended.stdout)),
        // Nothing that it knows.
        Some(2) => {
            let path = device.to_owned();
            let blank =
                tokio::task::spawn_blocking(move || is_zero(&path)).await.expect("it does not panic")?;
            Ok(if blank { Content::Blank } else { Content::Foreign("data of an unknown kind".into()) })
        }
        Some(8) => Ok(Content::Foreign("signatures of several file systems".into())),
        Some(_) | None => Err(ended.error("blkid", device)),
    }
}

/// What the signatures that were found mean.
fn known(volume: &VolumeId, exported: &str) -> Content {
    let value = |key: &str| exported.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let Some(kind) = value("TYPE") else {
        let table = value("PTTYPE").unwrap_or("unknown");
        return Content::Foreign(format!("a partition table of type {table}"));
    };
    let own = value("UUID") == Some(&uuid(volume)) && value("LABEL") == Some(LABEL);
    match FileSystem::parse(kind).filter(|_| own) {
        Some(file_system) => Content::Ours(file_system),
        None => Content::Foreign(format!("the file system {kind}, UUID {}", value("UUID").unwrap_or("none"))),
    }
}

fn is_zero(path: &Path) -> Result<bool> {
    let failed = |error| Error::io("read", path, error);
    let mut device = File::open(path).map_err(failed)?;
    let size = device.seek(SeekFrom::End(0)).map_err(failed)?;
    let edge = EDGE.min(size);
    let samples = (1..SAMPLES).map(|n| (size / SAMPLES * n, SAMPLE));
    let places = [(0, edge), (size - edge, edge)].into_iter().chain(samples);
    let mut buffer = Vec::new();
    for (offset, length) in places {
        buffer.resize(usize::try_from(length.min(size - offset)).expect("at most an edge"), 0);
        device.read_exact_at(&mut buffer, offset).map_err(failed)?;
        if buffer.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_ours_only_with_the_uuid_of_the_volume() {
        let [volume, other] = ["vol-00000001", "vol-00000002"].map(|id| VolumeId::parse(id).unwrap());
        let export = |id: &VolumeId, label: &str, kind: &str| {
            format!("DEVNAME=/dev/x\nLABEL={label}\nUUID={}\nBLOCK_SIZE=4096\nTYPE={kind}\n", uuid(id))
        };
        assert_eq!(known(&volume, &export(&volume, LABEL, "ext4")), Content::Ours(FileSystem::Ext4));
        assert_eq!(known(&volume, &export(&volume, LABEL, "xfs")), Content::Ours(FileSystem::Xfs));
        for foreign in [
            export(&other, LABEL, "ext4"),
            export(&volume, "data", "ext4"),
            export(&volume, LABEL, "btrfs"),
            "PTUUID=1\nPTTYPE=gpt\n".to_owned(),
            String::new(),
        ] {
            assert!(matches!(known(&volume, &foreign), Content::Foreign(_)), "{foreign}");
        }
    }

    #[test]
    fn a_uuid_has_its_form_and_belongs_to_one_volume() {
        let [one, two] = ["vol-00000001", "vol-00000002"].map(|id| uuid(&VolumeId::parse(id).unwrap()));
        assert_ne!(one, two);
        assert_eq!(one.len(), 36);
        assert_eq!(&one[14..15], "8");
    }

    #[test]
    fn one_byte_anywhere_near_the_edges_is_no_blank() {
        let image = tempfile::NamedTempFile::new().unwrap();
        let size = 64 << 20;
        image.as_file().set_len(size).unwrap();
        assert!(is_zero(image.path()).unwrap());
        for offset in [0, 1_000, EDGE - 1, size / 2, size - EDGE, size - 1] {
            image.as_file().write_all_at(&[1], offset).unwrap();
            assert!(!is_zero(image.path()).unwrap(), "{offset}");
            image.as_file().write_all_at(&[0], offset).unwrap();
        }
    }
}
