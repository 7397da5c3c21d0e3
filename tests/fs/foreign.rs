//! The bucket and other clients: their objects are our files, our files are their objects, and changes meet.

use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::time::Duration;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::wait::eventually;
use tarn_tests::{behaviours, data};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::Tarn,
    an_object_put_by_others_is_a_file,
    a_prefix_without_a_marker_is_a_directory,
    an_implicit_directory_is_renamed_and_removed,
    a_marker_put_by_others_is_a_directory,
    an_implicit_directory_stays_when_its_last_file_goes,
    a_change_by_others_is_seen_on_the_next_open,
    a_deletion_by_others_is_seen,
    a_file_created_by_others_appears,
    an_open_handle_keeps_its_version,
    a_large_open_file_is_never_a_mix_of_two_versions,
    a_lost_race_keeps_both_sides,
    headers_of_others_survive_a_rewrite,
    a_prefix_of_a_bucket_is_mounted,
    a_read_only_mount_refuses_every_change,
);

/// How long a change by others may stay unseen: the lifetime of attributes is one second.
const SEEN: Duration = Duration::from_secs(10);

fn an_object_put_by_others_is_a_file(subject: &Subject<'_>) {
    for (key, size) in [("empty", 0), ("small", 1000), ("large", 20 << 20)] {
        subject.bucket().put(key, &data::bytes(size as u64, size)).unwrap();
    }
    for (key, size) in [("empty", 0), ("small", 1000), ("large", 20 << 20)] {
        assert_eq!(fs::metadata(subject.path(key)).unwrap().len(), size as u64, "{key}");
        assert!(fs::read(subject.path(key)).unwrap() == data::bytes(size as u64, size), "{key}");
    }
    let file = File::open(subject.path("large")).unwrap();
    let mut piece = [0; 5000];
    for offset in [19 << 20, 1, 10_000_000] {
        file.read_exact_at(&mut piece, offset).unwrap();
        let start = offset as usize;
        assert!(piece[..] == data::bytes(20 << 20, 20 << 20)[start..start + 5000], "{offset}");
    }
}

fn a_prefix_without_a_marker_is_a_directory(subject: &Subject<'_>) {
    subject.bucket().put("a/b/c", b"deep").unwrap();
    subject.bucket().put("a/f", b"f").unwrap();
    assert_eq!(fs::read(subject.path("a/b/c")).unwrap(), b"deep");
    assert!(subject.path("a").is_dir() && subject.path("a/b").is_dir());
    let mut names: Vec<_> =
        fs::read_dir(subject.path("a")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["b", "f"]);
    fs::write(subject.path("a/b/new"), b"new").unwrap();
    assert_eq!(subject.bucket().get("a/b/new").unwrap(), b"new");
}

fn an_implicit_directory_is_renamed_and_removed(subject: &Subject<'_>) {
    subject.bucket().put("a/b/c", b"deep").unwrap();
    subject.bucket().put("x/y/z", b"deep").unwrap();
    fs::rename(subject.path("a"), subject.path("moved")).unwrap();
    assert_eq!(fs::read(subject.path("moved/b/c")).unwrap(), b"deep");
    fs::remove_dir_all(subject.path("x")).unwrap();
    let mut keys = subject.bucket().keys().unwrap();
    keys.retain(|key| !key.ends_with('/'));
    assert_eq!(keys, ["moved/b/c"]);
}

fn a_marker_put_by_others_is_a_directory(subject: &Subject<'_>) {
    subject.bucket().put("d/", b"").unwrap();
    assert!(subject.path("d").is_dir());
    assert_eq!(fs::read_dir(subject.path("d")).unwrap().count(), 0);
    fs::remove_dir(subject.path("d")).unwrap();
    assert!(subject.bucket().keys().unwrap().is_empty());
}

fn an_implicit_directory_stays_when_its_last_file_goes(subject: &Subject<'_>) {
    subject.bucket().put("a/f", b"f").unwrap();
    fs::remove_file(subject.path("a/f")).unwrap();
    assert!(subject.path("a").is_dir());
    subject.remount().unwrap();
    assert!(subject.path("a").is_dir(), "removing a file removes no directory");
}

fn a_change_by_others_is_seen_on_the_next_open(subject: &Subject<'_>) {
    for size in [100, 3_000_000] {
        let (old, new) = (data::bytes(1, size), data::bytes(2, size + 10));
        fs::write(subject.path("f"), &old).unwrap();
        assert!(fs::read(subject.path("f")).unwrap() == old);
        subject.bucket().put("f", &new).unwrap();
        eventually(SEEN, "the new version is read", || {
            let read = fs::read(subject.path("f"))?;
            assert!(read == old || read == new, "never a mix");
            Ok((read == new).then_some(()))
        })
        .unwrap();
        eventually(SEEN, "the new size", || {
            Ok((subject.path("f").metadata()?.len() == new.len() as u64).then_some(()))
        })
        .unwrap();
    }
}

fn a_deletion_by_others_is_seen(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    subject.bucket().delete("f").unwrap();
    eventually(SEEN, "the file is gone", || Ok((!subject.path("f").try_exists()?).then_some(()))).unwrap();
    eventually(SEEN, "the listing is empty", || {
        Ok((fs::read_dir(subject.root())?.count() == 0).then_some(()))
    })
    .unwrap();
}

fn a_file_created_by_others_appears(subject: &Subject<'_>) {
    assert!(!subject.path("f").exists());
    assert_eq!(fs::read_dir(subject.root()).unwrap().count(), 0);
    subject.bucket().put("f", b"now").unwrap();
    eventually(SEEN, "the file is there", || Ok(subject.path("f").try_exists()?.then_some(()))).unwrap();
    eventually(SEEN, "the file is listed", || Ok((fs::read_dir(subject.root())?.count() == 1).then_some(())))
        .unwrap();
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"now");
}

fn an_open_handle_keeps_its_version(subject: &Subject<'_>) {
    let old = data::bytes(1, 200_000);
    fs::write(subject.path("f"), &old).unwrap();
    let mut reader = File::open(subject.path("f")).unwrap();
    let mut start = vec![0; 1000];
    reader.read_exact(&mut start).unwrap();
    subject.bucket().put("f", b"replaced").unwrap();
    eventually(SEEN, "the new version is read", || {
        Ok((fs::read(subject.path("f"))? == b"replaced").then_some(()))
    })
    .unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(start == old[..1000] && rest == old[1000..]);
}

fn a_large_open_file_is_never_a_mix_of_two_versions(subject: &Subject<'_>) {
    let (old, new) = (data::bytes(1, 40 << 20), data::bytes(2, 40 << 20));
    subject.bucket().put("f", &old).unwrap();
    let reader = File::open(subject.path("f")).unwrap();
    let mut piece = vec![0; 100_000];
    reader.read_exact_at(&mut piece, 0).unwrap();
    assert!(piece == old[..100_000]);
    subject.bucket().put("f", &new).unwrap();
    let mut stale = 0;
    for offset in (0..39 << 20).step_by(1_700_000) {
        match reader.read_exact_at(&mut piece, offset as u64) {
            Ok(()) => assert!(piece == old[offset..offset + 100_000], "bytes of the new version at {offset}"),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(Errno::STALE.raw_os_error()), "{error}");
                stale += 1;
            }
        }
    }
    assert!(stale > 0, "40 MiB were not fetched by one read of the start");
    drop(reader);
    eventually(SEEN, "the new version is read", || Ok((fs::read(subject.path("f"))? == new).then_some(())))
        .unwrap();
}

/// SEMANTICS: "A refused commit looks first whether the object there is its own, from an attempt whose answer
/// was lost; otherwise it is a conflict: theirs stays, ours is kept beside it, and the caller gets ESTALE."
fn a_lost_race_keeps_both_sides(subject: &Subject<'_>) {
    // Not written here: the kernel tells late of a close, which would commit what is written next.
    subject.bucket().put("f", b"the version we started from").unwrap();
    let mut ours = OpenOptions::new().append(true).open(subject.path("f")).unwrap();
    ours.write_all(b" and ours").unwrap();
    subject.bucket().put("f", b"theirs").unwrap();
    let error = ours.sync_all().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::STALE.raw_os_error()), "{error}");
    drop(ours);
    assert_eq!(subject.bucket().get("f").unwrap(), b"theirs");
    let keys = subject.bucket().keys().unwrap();
    let kept: Vec<&String> = keys.iter().filter(|key| key.starts_with("f.conflict-")).collect();
    assert_eq!(kept.len(), 1, "{keys:?}");
    assert_eq!(subject.bucket().get(kept[0]).unwrap(), b"the version we started from and ours");
    eventually(SEEN, "their version is read", || {
        Ok((fs::read(subject.path("f"))? == b"theirs").then_some(()))
    })
    .unwrap();
    eventually(SEEN, "both are listed", || Ok((fs::read_dir(subject.root())?.count() == 2).then_some(())))
        .unwrap();
}

fn headers_of_others_survive_a_rewrite(subject: &Subject<'_>) {
    let theirs = BTreeMap::from([("colour".to_owned(), "green".to_owned())]);
    subject.bucket().put_with("f", b"theirs", &theirs).unwrap();
    let before = subject.bucket().head("f").unwrap();
    let mut file = OpenOptions::new().append(true).open(subject.path("f")).unwrap();
    file.write_all(b" and ours").unwrap();
    drop(file);
    assert_eq!(subject.bucket().get("f").unwrap(), b"theirs and ours");
    let after = subject.bucket().head("f").unwrap();
    assert_eq!(after.metadata.get("colour").map(String::as_str), Some("green"), "{after:?}");
    assert_eq!(after.content_type, before.content_type);
}

fn a_prefix_of_a_bucket_is_mounted(subject: &Subject<'_>) {
    subject.bucket().put("inside/deep/f", b"inside").unwrap();
    subject.bucket().put("insideout", b"outside").unwrap();
    let mut plan = subject.plan().clone();
    plan.source += "/inside";
    plan.dir = subject.scratch();
    let mount = plan.mount().unwrap();
    let names: Vec<_> = fs::read_dir(mount.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["deep"]);
    assert_eq!(fs::read(mount.dir().join("deep/f")).unwrap(), b"inside");
    fs::write(mount.dir().join("new"), b"new").unwrap();
    assert_eq!(subject.bucket().get("inside/new").unwrap(), b"new");
    mount.unmount().unwrap();
    eventually(SEEN, "the first mount sees it", || {
        Ok(subject.path("inside/new").try_exists()?.then_some(()))
    })
    .unwrap();
}

fn a_read_only_mount_refuses_every_change(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    fs::create_dir(subject.path("d")).unwrap();
    let mut plan = subject.plan().clone().with(&["--read-only"]);
    plan.dir = subject.scratch();
    let mount = plan.mount().unwrap();
    let path = |name: &str| mount.dir().join(name);
    assert_eq!(fs::read(path("f")).unwrap(), b"f");
    let refused = [
        fs::write(path("new"), b"new"),
        fs::write(path("f"), b"changed"),
        fs::remove_file(path("f")),
        fs::remove_dir(path("d")),
        fs::create_dir(path("e")),
        fs::rename(path("f"), path("g")),
    ];
    for (index, result) in refused.into_iter().enumerate() {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(Errno::ROFS.raw_os_error()), "{index}");
    }
    mount.unmount().unwrap();
    assert_eq!(subject.bucket().get("f").unwrap(), b"f");
}
