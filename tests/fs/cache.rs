//! The local cache: warm after every end, shared by mounts, bounded, and honest when its disk is full. And what a
//! mount asks of the server.

use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;
use tarn_tests::disk::{self, Disk};
use tarn_tests::mapping::Mapping;
use tarn_tests::mount::{Mount, MountPlan};
use tarn_tests::proxy::Proxy;
use tarn_tests::subject::{Subject, private_dir};
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::wait::eventually;
use tarn_tests::{behaviours, data};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::Tarn,
    a_killed_mount_finds_its_cache_warm,
    what_was_written_is_cached,
    closed_files_hold_no_descriptors,
    two_mounts_share_one_cache,
    a_cold_file_is_mapped_while_others_read_it,
    a_full_cache_disk_still_reads,
    a_full_cache_disk_writes_or_says_so,
    the_cache_keeps_its_budget,
    reading_a_listed_small_file_is_one_request,
    tags_are_asked_for_where_an_object_had_some,
    an_outage_is_an_error_and_passes,
);

fn is_data(request: &&String) -> bool {
    request.starts_with("GET /") && !request.contains("list-type=2")
}

/// The subject's mount, ended and mounted again through a relay. The endpoint is part of a bucket's identity, so the
/// cache of the direct mount is not used.
fn through_proxy(subject: &Subject<'_>) -> (Proxy, MountPlan, Mount) {
    subject.take_mount().unmount().unwrap();
    let proxy = Proxy::start(subject.server().address()).unwrap();
    let mut plan = subject.plan().clone();
    plan.endpoint = proxy.endpoint();
    let mount = plan.mount().unwrap();
    proxy.take_requests();
    (proxy, plan, mount)
}

fn a_killed_mount_finds_its_cache_warm(subject: &Subject<'_>) {
    let bytes = data::bytes(1, 30 << 20);
    subject.bucket().put("f", &bytes).unwrap();
    let (proxy, plan, mount) = through_proxy(subject);
    assert!(fs::read(subject.path("f")).unwrap() == bytes);
    let requests = proxy.take_requests();
    assert!(requests.iter().any(|request| is_data(&request)), "the relay sees requests: {requests:?}");
    mount.crash().unwrap();
    let mount = plan.mount().unwrap();
    assert!(fs::read(subject.path("f")).unwrap() == bytes);
    let requests = proxy.take_requests();
    assert_eq!(requests.iter().filter(is_data).count(), 0, "nothing is fetched again: {requests:?}");
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
}

fn what_was_written_is_cached(subject: &Subject<'_>) {
    let (proxy, plan, mount) = through_proxy(subject);
    let bytes = data::bytes(2, 20 << 20);
    fs::write(subject.path("f"), &bytes).unwrap();
    for _ in 0..2 {
        assert!(fs::read(subject.path("f")).unwrap() == bytes);
    }
    mount.unmount().unwrap();
    let mount = plan.mount().unwrap();
    assert!(fs::read(subject.path("f")).unwrap() == bytes);
    let requests = proxy.take_requests();
    assert_eq!(requests.iter().filter(is_data).count(), 0, "nothing is fetched: {requests:?}");
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
}

fn a_cold_file_is_mapped_while_others_read_it(subject: &Subject<'_>) {
    let bytes = data::bytes(4, 24 << 20);
    subject.bucket().put("f", &bytes).unwrap();
    let first = File::open(subject.path("f")).unwrap();
    let mapping = Mapping::read_only(&first, bytes.len()).unwrap();
    assert!(mapping.read(20 << 20, 4096) == bytes[20 << 20..(20 << 20) + 4096]);
    // The file becomes whole while it is open and mapped: later handles must fit the kernel's mode of the first.
    for _ in 0..2 {
        assert!(fs::read(subject.path("f")).unwrap() == bytes);
    }
    assert!(mapping.read(0, bytes.len()) == bytes);
    drop((mapping, first));
    assert!(fs::read(subject.path("f")).unwrap() == bytes);
}

fn closed_files_hold_no_descriptors(subject: &Subject<'_>) {
    let mount = subject.take_mount();
    let open = || {
        let worker = mount.worker().unwrap().unwrap().as_raw_nonzero();
        fs::read_dir(format!("/proc/{worker}/fd")).unwrap().count()
    };
    fs::write(subject.path("first"), b"the connections that a client keeps").unwrap();
    let before = open();
    for index in 0..400 {
        fs::write(subject.path(&format!("f{index}")), b"content").unwrap();
    }
    File::options().write(true).open(subject.path("f0")).unwrap().set_len(3).unwrap();
    eventually(Duration::from_secs(20), "what was written is let go", || {
        Ok((open() <= before + 20).then_some(()))
    })
    .unwrap();
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
}

fn two_mounts_share_one_cache(subject: &Subject<'_>) {
    let bytes = data::bytes(3, 24 << 20);
    subject.bucket().put("shared", &bytes).unwrap();
    let mut plan = subject.plan().clone();
    plan.dir = subject.scratch();
    let second = plan.mount().unwrap();
    std::thread::scope(|scope| {
        for dir in [subject.root(), second.dir(), subject.root(), second.dir()] {
            let bytes = &bytes;
            scope.spawn(move || assert!(fs::read(dir.join("shared")).unwrap() == *bytes));
        }
        for (name, dir) in [("first", subject.root()), ("second", second.dir())] {
            scope.spawn(move || {
                for i in 0..20 {
                    fs::write(dir.join(format!("{name}-{i}")), data::bytes(i, 100_000)).unwrap();
                }
            });
        }
    });
    for i in 0..20 {
        for path in [second.dir().join(format!("first-{i}")), subject.path(&format!("second-{i}"))] {
            // One mount believes its listing for a second; what the other makes meanwhile is seen after that.
            eventually(Duration::from_secs(10), "the other mount's file", || {
                Ok(path.try_exists()?.then_some(()))
            })
            .unwrap();
            assert!(fs::read(path).unwrap() == data::bytes(i, 100_000));
        }
    }
    second.unmount().unwrap();
}

/// A second mount of the bucket whose cache is on a disk of 64 MiB; none where this user cannot mount disks.
fn on_a_small_disk(subject: &Subject<'_>) -> Option<(Disk, Mount)> {
    if !disk::is_root() {
        eprintln!("skipped: a disk of its own needs root");
        return None;
    }
    let disk = Disk::new(64).unwrap();
    let mut plan = subject.plan().clone();
    plan.cache = disk.path().join("cache");
    private_dir(&plan.cache).unwrap();
    plan.dir = subject.scratch();
    let mount = plan.mount().unwrap();
    Some((disk, mount))
}

fn a_full_cache_disk_still_reads(subject: &Subject<'_>) {
    let bytes = data::bytes(4, 150 << 20);
    subject.bucket().put("large", &bytes).unwrap();
    let Some((disk, mount)) = on_a_small_disk(subject) else { return };
    for round in 0..2 {
        assert!(fs::read(mount.dir().join("large")).unwrap() == bytes, "{round}");
    }
    // Somebody else fills the disk to the last byte.
    let mut filler = File::create(disk.path().join("filler")).unwrap();
    while filler.write_all(&[1; 65536]).is_ok() {}
    let file = File::open(mount.dir().join("large")).unwrap();
    let mut piece = vec![0; 300_000];
    for offset in data::numbers(5, 149 << 20).take(30) {
        file.read_exact_at(&mut piece, offset).unwrap();
        assert!(piece == bytes[offset as usize..offset as usize + 300_000], "{offset}");
    }
    drop((file, filler));
    mount.unmount().unwrap();
}

fn a_full_cache_disk_writes_or_says_so(subject: &Subject<'_>) {
    let Some((_disk, mount)) = on_a_small_disk(subject) else { return };
    let bytes = data::bytes(6, 150 << 20);
    let write = || -> std::io::Result<()> {
        let mut file = File::create(mount.dir().join("large"))?;
        file.write_all(&bytes)?;
        file.sync_all()
    };
    match write() {
        Ok(()) => assert!(subject.bucket().get("large").unwrap() == bytes),
        Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()), "{error}"),
    }
    fs::remove_file(mount.dir().join("large")).unwrap();
    fs::write(mount.dir().join("small"), b"there is room again").unwrap();
    assert_eq!(subject.bucket().get("small").unwrap(), b"there is room again");
    mount.unmount().unwrap();
}

fn used(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => used(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            // Evicted between the listing and the look.
            Err(_) => 0,
        })
        .sum()
}

fn the_cache_keeps_its_budget(subject: &Subject<'_>) {
    for i in 0..10 {
        subject.bucket().put(&format!("f{i}"), &data::bytes(i, 16 << 20)).unwrap();
    }
    let mut plan = subject.plan().clone().with(&["--cache-size", "64MiB"]);
    plan.dir = subject.scratch();
    plan.cache = plan.cache.with_file_name("small-cache");
    private_dir(&plan.cache).unwrap();
    let mount = plan.mount().unwrap();
    for round in 0..2 {
        for i in 0..10 {
            let read = fs::read(mount.dir().join(format!("f{i}"))).unwrap();
            assert!(read == data::bytes(i, 16 << 20), "{round} {i}");
        }
    }
    mount.unmount().unwrap();
    let used = used(&plan.cache);
    assert!(used <= 72 << 20, "{} MiB for a budget of 64", used >> 20);
    assert!(used >= 16 << 20, "{} MiB: something stays cached", used >> 20);
}

fn reading_a_listed_small_file_is_one_request(subject: &Subject<'_>) {
    for i in 0..5 {
        subject.bucket().put(&format!("d/f{i}"), &data::bytes(i, 10_000)).unwrap();
    }
    let (proxy, _, mount) = through_proxy(subject);
    let sizes =
        fs::read_dir(subject.path("d")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    assert_eq!(sizes.collect::<Vec<_>>(), [10_000; 5]);
    proxy.take_requests();
    assert!(fs::read(subject.path("d/f3")).unwrap() == data::bytes(3, 10_000));
    let requests = proxy.take_requests();
    assert_eq!(requests.len(), 1, "one GET and nothing else: {requests:?}");
    assert_eq!(requests.iter().filter(is_data).count(), 1, "{requests:?}");
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
}

/// SEMANTICS: "Tags are read once more when an object that had some is made anew (`s3:GetObjectTagging`);
/// those that were set since tarn last looked at an object without any are lost then."
fn tags_are_asked_for_where_an_object_had_some(subject: &Subject<'_>) {
    // Each in a directory of its own: what the listing behind a first look-up tells of others is asked for again.
    const TAGGED: &str = "d/tagged";
    const BARE: &str = "e/bare";
    let tags = BTreeMap::from([("team".to_owned(), "blue".to_owned())]);
    for name in [TAGGED, BARE] {
        subject.bucket().put(name, b"theirs").unwrap();
    }
    subject.bucket().tag(TAGGED, &tags).unwrap();
    let (proxy, plan, mount) = through_proxy(subject);
    mount.unmount().unwrap();
    // What has been looked at once is believed from then on.
    let mount = plan.with(&["--attr-ttl", "1h"]).mount().unwrap();
    for name in [TAGGED, BARE] {
        assert_eq!(fs::read(subject.path(name)).unwrap(), b"theirs");
    }
    subject.bucket().tag(BARE, &tags).unwrap();
    proxy.take_requests();
    for name in [TAGGED, BARE] {
        File::options().write(true).open(subject.path(name)).unwrap().write_all_at(b"ours", 0).unwrap();
        assert_eq!(subject.bucket().get(name).unwrap(), b"oursrs");
    }
    let mut asked = proxy.take_requests();
    asked.retain(|request| request.contains("?tagging"));
    assert!(asked.len() == 1 && asked[0].contains("/tagged?"), "{asked:?}");
    assert_eq!(subject.bucket().tags(TAGGED).unwrap(), tags);
    assert_eq!(subject.bucket().tags(BARE).unwrap(), BTreeMap::new(), "nobody had looked");
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
}

fn an_outage_is_an_error_and_passes(subject: &Subject<'_>) {
    subject.bucket().put("f", &data::bytes(7, 100_000)).unwrap();
    let (proxy, _, mount) = through_proxy(subject);
    proxy.cut(true);
    let error = fs::read(subject.path("f")).unwrap_err();
    assert_ne!(error.raw_os_error(), Some(Errno::NOENT.raw_os_error()), "an error is never an absence");
    proxy.cut(false);
    assert!(fs::read(subject.path("f")).unwrap() == data::bytes(7, 100_000));
    fs::write(subject.path("g"), b"after the outage").unwrap();
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
}
