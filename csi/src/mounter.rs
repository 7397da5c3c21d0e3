//! What serves mounts. Today each is a `tarn mount` in the background, which outlives the call that made it; how
//! that process is started and kept is known behind this trait only.
//!
//! Two implementations: [`Tarn`] with the kernel, and [`fake::FakeMounter`] for tests.

mod caches;
mod command;
pub mod fake;
mod look;

pub use caches::Caches;
pub use command::Tarn;
pub use look::Seen;

use crate::credentials::Credentials;
use crate::error::Result;
use crate::parameters::{CacheTier, Options};
use crate::web_identity::{Role, Token};
use std::fmt;
use std::path::{Path, PathBuf};

/// What is to be mounted and where.
#[derive(Debug, Clone)]
pub struct MountPlan {
    /// `s3://BUCKET/PREFIX`.
    pub source: String,
    /// The mount point, an existing directory.
    pub dir: PathBuf,
    /// Options by the names that `tarn mount` gives them.
    pub options: Options,
    /// Which of the node's caches it uses.
    pub tier: CacheTier,
    /// Who asks the store.
    pub keys: Keys,
    /// A private folder for what the mount needs while it lives.
    pub home: PathBuf,
}

/// Whose credentials a mount uses.
#[derive(Debug, Clone)]
pub enum Keys {
    /// The driver's.
    Driver,
    /// These, of the volume's own secret.
    Own(Credentials),
    /// Those of a role, for the token of a pod's service account.
    Pod(Role, Token),
    /// Those that an earlier mount of the same home was given.
    Kept,
}

/// Whether a bind may be written through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Yes.
    ReadWrite,
    /// No, whatever the mount allows.
    ReadOnly,
}

/// Mounts, binds, and looks.
#[async_trait::async_trait]
pub trait Mounter: Send + Sync + fmt::Debug {
    /// Mounts, and returns when the mount answers. The error is what `tarn mount` says.
    async fn mount(&self, plan: &MountPlan) -> Result<()>;

    /// Gives a living mount new keys, or a new token for them.
    async fn renew(&self, home: &Path, keys: &Keys) -> Result<()>;

    /// Gives a living mount another quota, in bytes.
    async fn set_quota(&self, dir: &Path, bytes: u64) -> Result<()>;

    /// Unmounts, and returns when everything is in the bucket. A dead mount is removed.
    async fn unmount(&self, dir: &Path) -> Result<()>;

    /// Shows a mount at another directory too.
    async fn bind(&self, from: &Path, to: &Path, access: Access) -> Result<()>;

    /// Takes a bind away.
    async fn unbind(&self, dir: &Path) -> Result<()>;

    /// Says what is at a path now.
    async fn look(&self, path: &Path) -> Result<Seen>;

    /// The directories at which the device of a mount is shown, its own among them.
    async fn shown_at(&self, device: &str) -> Result<Vec<PathBuf>>;

    /// Bytes and files of a living mount.
    async fn space(&self, dir: &Path) -> Result<Space>;
}

/// What a mount says of its size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes that can be written.
    pub available_bytes: u64,
    /// Files in all.
    pub total_files: u64,
    /// Files that can be made.
    pub available_files: u64,
}
