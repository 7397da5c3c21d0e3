//! A tree of every kind of entry with attributes, as two mounts see it: the one that made it, and a second one with
//! an empty cache.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, data, disk};

pub(crate) const ALL: &[Behaviour] =
    behaviours!(On::EveryFileSystem, a_second_mount_shows_every_kind_of_entry_the_same);

/// What `stat` shows of an entry, without what belongs to one mount alone (inode number, blocks).
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    mode: u32,
    owner: (u32, u32),
    size: u64,
    modified: (i64, i64),
    target: Option<std::path::PathBuf>,
}

fn shown(root: &Path) -> BTreeMap<String, Shown> {
    let mut entries = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                folders.push(path.clone());
            }
            let entry = Shown {
                mode: meta.mode(),
                owner: (meta.uid(), meta.gid()),
                size: if meta.is_dir() { 0 } else { meta.size() },
                modified: (meta.mtime(), meta.mtime_nsec()),
                target: fs::read_link(&path).ok(),
            };
            entries.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), entry);
        }
    }
    entries
}

/// A deterministic mix: 4 folders of 20 entries, then the attributes from the leaves up.
fn make(root: &Path) {
    for folder in 0..4_u64 {
        let dir = root.join(format!("folder {folder}/inner"));
        fs::create_dir_all(&dir).unwrap();
        for index in 0..20_u64 {
            let path = dir.join(format!("entry-{index}"));
            match index % 5 {
                0 => fs::create_dir(&path).unwrap(),
                1 => symlink(format!("entry-{}", index + 1), &path).unwrap(),
                _ => {
                    let bytes = data::bytes(folder * 100 + index, (index * index * 257) as usize);
                    fs::write(&path, bytes).unwrap();
                }
            }
            if index % 3 == 0 {
                fs::rename(&path, dir.join(format!("moved-{index}"))).unwrap();
            }
        }
    }
    let paths: Vec<_> = shown(root).into_iter().rev().collect();
    for (number, (relative, entry)) in (0_u32..).zip(paths) {
        let path = root.join(relative);
        if entry.target.is_some() {
            continue;
        }
        if disk::is_root() {
            chown(&path, Some(1000 + number % 7), Some(2000 + number % 3)).unwrap();
        }
        let mode = if path.is_dir() { 0o1700 | (number % 0o100) } else { 0o600 | (number % 0o200) };
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let time = UNIX_EPOCH + Duration::new(1_000_000_000 + u64::from(number) * 86_400, number * 1_000_003);
        File::open(&path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
    }
}

fn a_second_mount_shows_every_kind_of_entry_the_same(subject: &Subject<'_>) {
    make(subject.root());
    let before = shown(subject.root());
    assert_eq!(before.len(), 4 * 22);
    subject.remount().unwrap();
    let after = shown(subject.root());
    for (path, entry) in &before {
        assert_eq!(after.get(path), Some(entry), "{path}");
    }
    assert_eq!(after.len(), before.len());
}
