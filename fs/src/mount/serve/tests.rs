//! The whole life of a kernel mount, with a file system that is empty.

use super::*;
use crate::fuse::session::{self, MountRequest, OptionText, mountinfo};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A root directory without entries.
struct Empty;

impl fuser::Filesystem for Empty {
    fn getattr(
        &self,
        _: &fuser::Request,
        ino: fuser::INodeNo,
        _: Option<fuser::FileHandle>,
        reply: fuser::ReplyAttr,
    ) {
        let time = std::time::UNIX_EPOCH;
        let attr = fuser::FileAttr {
            ino,
            size: 0,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: fuser::FileType::Directory,
            perm: 0o755,
            nlink: 2,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        };
        reply.attr(&Duration::from_secs(1), &attr);
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

#[async_trait::async_trait]
impl Served for Count {
    async fn drain(&self) -> Drained {
        self.0.fetch_add(1, Ordering::SeqCst);
        Drained { committed: 3, failed: Vec::new() }
    }
}

fn mount(dir: &Path) -> SessionHandle {
    let request = MountRequest {
        dir: dir.to_owned(),
        source: OptionText::escape("s3://data/a,b"),
        allow_other: false,
        read_only: false,
        no_exec: true,
    };
    session::start(&request, Empty, &session::DeviceSlot::default())
        .expect("this machine has /dev/fuse and the right to mount")
}

fn temp_dir() -> (tempfile::TempDir, std::path::PathBuf) {
    let temp = tempfile::tempdir().expect("temp dir");
    let dir = temp.path().canonicalize().expect("canonical");
    (temp, dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn umount_from_outside_ends_in_a_drain() {
    let (_temp, dir) = temp_dir();
    let session = mount(&dir);
    let entry = mountinfo::find_last(&dir).expect("mountinfo").expect("mounted");
    assert_eq!((entry.fs_type.as_str(), entry.source.as_str()), ("fuse.tarn", "s3://data/a%2Cb"));
    let served = Arc::new(Count::default());
    let task = tokio::spawn(serve(session, served.clone()));
    let outside = dir.clone();
    tokio::task::spawn_blocking(move || {
        assert!(std::fs::metadata(&outside).expect("served").is_dir());
        session::unmount_entry(&entry, Mode::Clean).expect("unmounted");
    })
    .await
    .expect("the outside thread");
    let end = task.await.expect("served");
    let drained = Drained { committed: 3, failed: Vec::new() };
    assert_eq!(end, End { session: Some(Ended::Unmounted), forced: false, drained });
    assert_eq!(served.0.load(Ordering::SeqCst), 1);
    assert!(mountinfo::find_last(&dir).expect("mountinfo").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_mount_is_committed_and_detached() {
    let (_temp, dir) = temp_dir();
    let session = Arc::new(mount(&dir));
    let served = Count::default();
    let held = dir.clone();
    let open = tokio::task::spawn_blocking(move || std::fs::File::open(held))
        .await
        .expect("thread")
        .expect("opened");
    assert!(holders(&dir).iter().any(|name| name.contains(&std::process::id().to_string())));
    let end = {
        let down = take_down(&session, &served);
        tokio::pin!(down);
        tokio::select! {
            _ = &mut down => panic!("ended while a file was open"),
            () = async {
                while session.is_mounted().expect("mountinfo") {
                    tokio::task::yield_now().await;
                }
            } => drop(open),
        }
        down.await
    };
    assert_eq!(end, Some(Ended::Unmounted));
    assert_eq!(served.0.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_mount_on_top_is_left_alone() {
    let (_temp, dir) = temp_dir();
    let below = mount(&dir);
    let above = {
        let dir = dir.clone();
        tokio::task::spawn_blocking(move || mount(&dir)).await.expect("thread")
    };
    assert!(matches!(below.unmount(Mode::Lazy), Err(SessionError::NotOurs(_))));
    above.unmount(Mode::Clean).expect("the upper one is ours");
    assert_eq!(above.wait().await, Ended::Unmounted);
    below.unmount(Mode::Clean).expect("now it is on top");
    assert_eq!(below.wait().await, Ended::Unmounted);
}

#[test]
fn an_end_says_which_files_are_missing() {
    let drained = Drained { committed: 1, failed: vec![("a/b".into(), "denied".into())] };
    let end = End { session: Some(Ended::Unmounted), forced: false, drained };
    assert_eq!(end.into_result(), Err("1 files are not in the bucket: a/b (denied)".into()));
}
