//! What two mounts of a bucket promise each other, each with a cache of its own as on two nodes.

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use tarn_tests::behaviours;
use tarn_tests::mount::Mount;
use tarn_tests::subject::{Subject, private_dir};
use tarn_tests::suite::{Behaviour, On};

pub(crate) const TARN: &[Behaviour] = behaviours!(
    On::Tarn,
    only_one_node_makes_a_file_exclusively,
    exclusive_creation_can_be_left_to_each_node,
    only_one_node_makes_a_directory,
    only_one_node_makes_a_link,
    a_lock_file_goes_from_node_to_node,
    a_lock_holds_on_one_node,
);

/// The same bucket, mounted as another node would.
fn elsewhere(subject: &Subject<'_>) -> Mount {
    elsewhere_with(subject, &[])
}

fn elsewhere_with(subject: &Subject<'_>, options: &[&str]) -> Mount {
    let mut plan = subject.plan().clone().with(&["--attr-ttl", "0s"]).with(options);
    plan.dir = subject.scratch();
    plan.cache = plan.cache.with_file_name("cache-elsewhere");
    private_dir(&plan.cache).unwrap();
    plan.mount().unwrap()
}

/// SEMANTICS: "`open(O_CREAT|O_EXCL)`, `mkdir`, `mknod` and `symlink` put the object on the condition that
/// the key is free, before they return: of all nodes one succeeds, the others get EEXIST."
fn only_one_node_makes_a_file_exclusively(subject: &Subject<'_>) {
    let other = elsewhere(subject);
    // The other node has looked before, and remembers that there is nothing.
    fs::metadata(subject.path("lock")).unwrap_err();
    let mut winner = File::create_new(other.dir().join("lock")).unwrap();
    let lost = File::create_new(subject.path("lock")).unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::AlreadyExists);
    winner.write_all(b"winner").unwrap();
    drop(winner);
    other.unmount().unwrap();
    subject.remount().unwrap();
    assert_eq!(fs::read(subject.path("lock")).unwrap(), b"winner");
}

/// SEMANTICS: "If another node makes the name meanwhile, the later of their closes is a conflict: ESTALE, and both
/// files are kept."
fn exclusive_creation_can_be_left_to_each_node(subject: &Subject<'_>) {
    let other = elsewhere_with(subject, &["--exclusive", "node"]);
    let mut later = File::create_new(other.dir().join("lock")).unwrap();
    let again = File::create_new(other.dir().join("lock")).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    later.write_all(b"later").unwrap();
    let mut first = File::create_new(subject.path("lock")).unwrap();
    first.write_all(b"first").unwrap();
    drop(first);
    let error = later.sync_all().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::STALE.raw_os_error()), "{error}");
    drop(later);
    other.unmount().unwrap();
    let mut kept: Vec<_> = subject.bucket().objects().unwrap().into_iter().map(|object| object.key).collect();
    kept.sort();
    assert!(
        matches!(kept.as_slice(), [lock, beside] if lock == "lock" && beside.starts_with("lock.conflict-"))
    );
    assert_eq!(subject.bucket().get("lock").unwrap(), b"first");
    assert_eq!(subject.bucket().get(&kept[1]).unwrap(), b"later");
    subject.remount().unwrap();
}

/// SEMANTICS: "Lock files made with `link(2)` do not work; those made with `open(O_EXCL)`, `mkdir` or
/// `symlink` do, across nodes."
fn only_one_node_makes_a_directory(subject: &Subject<'_>) {
    let other = elsewhere(subject);
    fs::metadata(subject.path("lock")).unwrap_err();
    fs::create_dir(other.dir().join("lock")).unwrap();
    let lost = fs::create_dir(subject.path("lock")).unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::AlreadyExists);
    other.unmount().unwrap();
    subject.remount().unwrap();
}

/// SEMANTICS: "Lock files made with `link(2)` do not work; those made with `open(O_EXCL)`, `mkdir` or
/// `symlink` do, across nodes."
fn only_one_node_makes_a_link(subject: &Subject<'_>) {
    let other = elsewhere(subject);
    fs::metadata(subject.path("lock")).unwrap_err();
    std::os::unix::fs::symlink("winner", other.dir().join("lock")).unwrap();
    let lost = std::os::unix::fs::symlink("loser", subject.path("lock")).unwrap_err();
    assert_eq!(lost.raw_os_error(), Some(Errno::EXIST.raw_os_error()));
    other.unmount().unwrap();
    subject.remount().unwrap();
    assert_eq!(fs::read_link(subject.path("lock")).unwrap().to_str(), Some("winner"));
}

/// SEMANTICS: "Lock files made with `link(2)` do not work; those made with `open(O_EXCL)`, `mkdir` or
/// `symlink` do, across nodes."
fn a_lock_file_goes_from_node_to_node(subject: &Subject<'_>) {
    let other = elsewhere(subject);
    for _ in 0..3 {
        drop(File::create_new(subject.path("lock")).unwrap());
        assert_eq!(File::create_new(other.dir().join("lock")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        fs::remove_file(subject.path("lock")).unwrap();
        drop(File::create_new(other.dir().join("lock")).unwrap());
        fs::remove_file(other.dir().join("lock")).unwrap();
    }
    other.unmount().unwrap();
}

/// SEMANTICS: "Other nodes do not see them."
fn a_lock_holds_on_one_node(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"guarded").unwrap();
    let other = elsewhere(subject);
    let here = File::open(subject.path("f")).unwrap();
    let (beside, there) =
        (File::open(subject.path("f")).unwrap(), File::open(other.dir().join("f")).unwrap());
    flock(&here, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(flock(&beside, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    flock(&there, FlockOperation::NonBlockingLockExclusive).unwrap();
    drop(there);
    other.unmount().unwrap();
}
