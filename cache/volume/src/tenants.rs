//! What is asked of those who cache in the directory: the mounts of the node.

use crate::error::Result;
use crate::state::{Place, StagedFiles};
use async_trait::async_trait;
use std::path::Path;

/// The mounts of a node, as far as the place of their cache is concerned.
#[async_trait]
pub trait Tenants: Send + Sync {
    /// Where they keep what they cache; `None` before they were told.
    async fn place(&self) -> Result<Option<Place>>;

    /// Has all of them use this directory. When it returns, none writes to the earlier one any more, new staged files
    /// included; what they had staged there may remain and is recovered.
    async fn serve(&self, place: &Place, dir: &Path) -> Result<()>;

    /// What is staged in a directory, used by a mount or not.
    async fn staged(&self, dir: &Path) -> Result<StagedFiles>;

    /// Uploads what is staged in a directory that no mount uses. What went wrong stays staged.
    async fn recover(&self, dir: &Path) -> Result<()>;
}
