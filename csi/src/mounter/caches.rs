//! Where a mount caches: a folder of the node or, for the hot tier, the node's cache volume.
//!
//! The choice is made when a volume is mounted and holds until it is unmounted: the mount's staged files lie there, and the
//! kernel reads its cached files by itself. Nothing is waited for: a volume that is not there yet, or does not work, is a
//! mount in the node's folder.

use crate::parameters::CacheTier;
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The caches of a node.
#[derive(Debug, Clone)]
pub struct Caches {
    /// The folder of the node, which is always there.
    pub standard: PathBuf,
    /// The cache of the hot tier: a directory, or a symbolic link to the one in use.
    pub hot: Option<PathBuf>,
}

/// Where one mount caches, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cache {
    pub(super) dir: PathBuf,
    /// The size that it has unless the volume says one; `None` is the mount's own default, a share of the disk.
    pub(super) size: Option<&'static str>,
}

/// A cache volume is there to be filled, and grows: what is left free of it is the bound. The largest that EBS has.
const WHOLE_VOLUME: &str = "64TiB";
/// A disk that takes longer to keep one byte is none to cache on.
const TRIAL_TIME: Duration = Duration::from_secs(5);

impl Caches {
    /// Chooses the directory of a mount. `earlier` is that of a mount that has died: what it had staged there is
    /// uploaded by the next mount that caches there.
    pub(super) async fn choose(&self, tier: CacheTier, earlier: Option<PathBuf>) -> Cache {
        let standard = Cache { dir: self.standard.clone(), size: None };
        let (CacheTier::Hot, Some(hot)) = (tier, &self.hot) else { return standard };
        for dir in earlier.iter().chain([hot]) {
            match works(dir).await {
                // The link leads to the node's folder while there is no volume.
                Ok(dir) if self.standard.canonicalize().is_ok_and(|standard| standard == dir) => break,
                Ok(dir) => return Cache { dir, size: Some(WHOLE_VOLUME) },
                Err(error) => {
                    tracing::warn!(%error, dir = %dir.display(), "the cache of the hot tier does not work");
                }
            }
        }
        tracing::info!(dir = %standard.dir.display(), "a mount of the hot tier caches in the node's folder");
        standard
    }
}

/// The real path of a directory on which a byte can be kept.
async fn works(dir: &Path) -> io::Result<PathBuf> {
    let dir = dir.to_owned();
    let trial = tokio::task::spawn_blocking(move || try_out(&dir));
    match tokio::time::timeout(TRIAL_TIME, trial).await {
        Ok(tried) => tried.map_err(io::Error::other)?,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn try_out(dir: &Path) -> io::Result<PathBuf> {
    let dir = dir.canonicalize()?;
    let mut file = tempfile::tempfile_in(&dir)?;
    file.write_all(b"x")?;
    file.sync_all()?;
    // The kubelet makes folders for everybody to read, and no mount takes such a cache.
    if dir.metadata()?.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    struct Node {
        home: tempfile::TempDir,
        caches: Caches,
    }

    impl Node {
        fn new() -> Self {
            let home = tempfile::tempdir().expect("temp dir");
            let [standard, hot] = ["own", "link"].map(|name| home.path().join(name));
            fs::create_dir(&standard).expect("a folder");
            Self { home, caches: Caches { standard, hot: Some(hot) } }
        }

        /// Makes a volume and has the link lead to it.
        fn volume(&self, name: &str) -> PathBuf {
            let dir = self.home.path().join(name);
            fs::create_dir(&dir).expect("a folder");
            self.point(&dir);
            dir.canonicalize().expect("there")
        }

        fn point(&self, dir: &Path) {
            let link = self.home.path().join("link");
            let _ = fs::remove_file(&link);
            symlink(dir, link).expect("a link");
        }

        async fn hot(&self, earlier: Option<&Path>) -> PathBuf {
            self.caches.choose(CacheTier::Hot, earlier.map(Path::to_owned)).await.dir
        }
    }

    #[tokio::test]
    async fn only_the_hot_tier_follows_the_link_and_may_fill_the_volume() {
        let node = Node::new();
        let volume = node.volume("vol-1");
        let standard = Cache { dir: node.caches.standard.clone(), size: None };
        assert_eq!(node.caches.choose(CacheTier::Standard, None).await, standard);
        assert_eq!(node.caches.choose(CacheTier::Standard, Some(volume.clone())).await, standard);
        let hot = Cache { dir: volume.clone(), size: Some(WHOLE_VOLUME) };
        assert_eq!(node.caches.choose(CacheTier::Hot, None).await, hot);
        assert_eq!(volume.metadata().expect("there").permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(volume).expect("listed").count(), 0, "the trial leaves nothing");
    }

    #[tokio::test]
    async fn without_a_volume_that_works_it_is_the_nodes_folder() {
        let node = Node::new();
        let standard = Cache { dir: node.caches.standard.clone(), size: None };
        let choose = || node.caches.choose(CacheTier::Hot, None);
        assert_eq!(choose().await, standard, "no link");
        node.point(&node.home.path().join("gone"));
        assert_eq!(choose().await, standard, "it dangles");
        let file = node.home.path().join("file");
        fs::write(&file, b"").expect("written");
        node.point(&file);
        assert_eq!(choose().await, standard, "no directory");
        // Where nothing can be written, even by root.
        node.point(Path::new("/proc/self"));
        assert_eq!(choose().await, standard, "it does not keep a byte");
        node.point(&node.caches.standard);
        assert_eq!(choose().await, standard, "the node's own folder has no volume to fill");
        let none = Caches { hot: None, ..node.caches.clone() };
        assert_eq!(none.choose(CacheTier::Hot, None).await, standard, "no hot tier");
    }

    #[tokio::test]
    async fn a_mount_that_died_is_made_again_where_its_staged_files_are() {
        let node = Node::new();
        let earlier = node.volume("vol-1");
        let later = node.volume("vol-2");
        assert_eq!(node.hot(Some(&earlier)).await, earlier);
        fs::remove_dir(&earlier).expect("removed");
        assert_eq!(node.hot(Some(&earlier)).await, later);
    }
}
