//! `--quota` on the memory store: what is refused, what is counted, and that the books are right after every operation.

use super::*;
use crate::quota::Usage;
use crate::store::{Depth, ListRequest, Op, PartKinds, PartSource};
use rustix::io::Errno;
use std::os::fd::AsRawFd;

const MIB: usize = 1 << 20;
const TRUNCATE: OpenFlags = OpenFlags { truncate: true, ..WRITE };

fn is_full<T: std::fmt::Debug>(result: Result<T>) {
    assert_eq!(result.expect_err("no room").errno(), Errno::NOSPC);
}

fn stored(vfs: &Vfs) -> Usage {
    vfs.quota().expect("a quota").stored
}

fn free(vfs: &Vfs) -> u64 {
    vfs.statfs().free
}

async fn rename(vfs: &Vfs, from: &str, to: &str, mode: RenameMode) {
    vfs.rename((Ino::ROOT, OsStr::new(from)), (Ino::ROOT, OsStr::new(to)), mode).await.expect("rename");
}

async fn unlink(vfs: &Vfs, name: &str) {
    vfs.unlink(Ino::ROOT, OsStr::new(name)).await.expect("unlink");
}

fn size(size: u64) -> SetAttr {
    SetAttr { size: Some(size), ..SetAttr::default() }
}

/// Makes a passed-through file as long as this, past tarn, as the kernel does.
fn grow_unseen(opened: &Opened, size: u64) {
    let Serve::Passthrough(file) = &opened.serve else { panic!("it does not pass through: {opened:?}") };
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("the backing file");
    file.set_len(size).expect("on a sparse file");
}

/// What the bucket really has.
async fn truth(store: &dyn ObjectStore) -> Usage {
    let request = ListRequest::new(Prefix::default(), Depth::Subtree, 1000);
    let objects = store.list(request).await.expect("list").objects;
    let files = objects.iter().filter(|object| !object.key.as_str().ends_with('/')).count();
    Usage { bytes: objects.iter().map(|object| object.version.size).sum(), files: files as u64 }
}

/// SEMANTICS: "With `--quota` the mounted prefix may hold so many bytes: those of its objects, and what written
/// files will add to them."
/// SEMANTICS: "`df` shows the quota as the size, and what is left of it."
/// SEMANTICS: "Removing and shortening files makes room at once."
#[tokio::test]
async fn what_is_written_is_taken_from_what_is_left() {
    let world = World::new();
    world.put("old", vec![1; 30]).await;
    world.vfs.set_quota(Some(100));
    world.vfs.count_usage().await.expect("counted");
    assert_eq!((world.vfs.statfs().total, free(&world.vfs), world.vfs.statfs().files), (100, 70, 1));
    let (ino, fh) = world.write_open("new", &[2; 50]).await;
    assert_eq!(free(&world.vfs), 20);
    is_full(world.vfs.write(fh, 50, &[2; 21]));
    world.vfs.write(fh, 50, &[2; 20]).expect("fits");
    assert_eq!(free(&world.vfs), 0);
    world.vfs.write(fh, 0, &[3; 70]).expect("nothing is added");
    world.close(fh).await;
    assert_eq!((free(&world.vfs), stored(&world.vfs)), (0, Usage { bytes: 100, files: 2 }));
    world.vfs.setattr(ino, size(10)).await.expect("truncate");
    assert_eq!(free(&world.vfs), 60);
    unlink(&world.vfs, "old").await;
    assert_eq!((free(&world.vfs), stored(&world.vfs)), (90, Usage { bytes: 10, files: 1 }));
}

/// SEMANTICS: "A write, a truncation, an allocation or a copy that does not fit answers ENOSPC and changes nothing, and so
/// does making a file, a directory or a link once nothing is left."
#[tokio::test]
async fn all_that_grows_is_refused_and_changes_nothing() {
    let world = World::new();
    world.vfs.set_quota(Some(10));
    let (ino, fh) = world.write_open("f", b"123456789").await;
    is_full(world.vfs.write(fh, 8, b"9ab"));
    is_full(world.vfs.setattr(ino, size(11)).await);
    is_full(world.vfs.fallocate(fh, 0, 11, Allocate::Reserve { keep_size: false }));
    is_full(world.vfs.fallocate(fh, 0, 11, Allocate::Reserve { keep_size: true }));
    is_full(world.vfs.fallocate(fh, 9, 2, Allocate::Zero { keep_size: false }));
    is_full(world.vfs.copy_file_range((fh, 0), (fh, 9), 9).await);
    let (_, other) = world.write_open("other", b"x").await;
    is_full(world.vfs.copy_file_range((fh, 0), (other, 0), 9).await);
    world.vfs.fallocate(fh, 0, 4, Allocate::Punch).expect("a hole takes nothing");
    is_full(world.vfs.create(Ino::ROOT, OsStr::new("n"), 0o644, CALLER, WRITE, false).await);
    let exclusive = OpenFlags { exclusive: true, ..WRITE };
    is_full(world.vfs.create(Ino::ROOT, OsStr::new("n"), 0o644, CALLER, exclusive, false).await);
    is_full(world.vfs.mkdir(Ino::ROOT, OsStr::new("n"), 0o755, CALLER).await);
    is_full(world.vfs.symlink(Ino::ROOT, OsStr::new("n"), OsStr::new("f"), CALLER).await);
    let taken = world.vfs.mkdir(Ino::ROOT, OsStr::new("f"), 0o755, CALLER).await;
    assert!(matches!(taken, Err(Error::Exists)), "{taken:?}");
    world.close(fh).await;
    world.close(other).await;
    assert_eq!(world.object("f").await.as_deref(), Some(&b"\0\0\0\x0056789"[..]));
    assert_eq!(names(&world.vfs, "").await, ["f", "other"]);
}

/// SEMANTICS: "What the kernel writes by itself is looked at once a second, and `fsync` and `close` refuse it if it does not
/// fit; the bytes stay as after any other failed commit."
#[tokio::test]
async fn what_the_kernel_wrote_unseen_is_refused_by_the_commit() {
    let world = World::new();
    let quota = 2 << 30;
    world.vfs.set_quota(Some(quota));
    let made = world.vfs.create(Ino::ROOT, OsStr::new("f"), 0o644, CALLER, WRITE, true).await;
    let opened = made.expect("create").1;
    grow_unseen(&opened, quota + 1);
    assert_eq!(free(&world.vfs), 0);
    is_full(world.vfs.create(Ino::ROOT, OsStr::new("g"), 0o644, CALLER, WRITE, true).await);
    is_full(world.vfs.fsync(opened.fh).await);
    is_full(world.vfs.flush(opened.fh).await);
    assert_eq!((world.object("f").await, stored(&world.vfs)), (None, Usage::default()));
    world.vfs.setattr(world.lookup("f").await.expect("f"), size(3)).await.expect("truncate");
    world.close(opened.fh).await;
    assert_eq!(world.object("f").await.as_deref(), Some(&[0; 3][..]));
}

#[tokio::test]
async fn a_file_that_was_refused_can_be_replaced_and_removed() {
    let world = World::new();
    world.vfs.set_quota(Some(2 << 30));
    world.write_file("tmp", b"small").await;
    let made = world.vfs.create(Ino::ROOT, OsStr::new("f"), 0o644, CALLER, WRITE, true).await;
    let opened = made.expect("create").1;
    grow_unseen(&opened, (2 << 30) + 1);
    is_full(world.vfs.flush(opened.fh).await);
    is_full(world.vfs.release(opened.fh).await);
    rename(&world.vfs, "tmp", "f", RenameMode::Replace).await;
    assert_eq!(world.object("f").await.as_deref(), Some(&b"small"[..]));
    assert_eq!(free(&world.vfs), (2 << 30) - 5);
    unlink(&world.vfs, "f").await;
    assert_eq!(free(&world.vfs), 2 << 30);
}

/// SEMANTICS: "With less than 1 GiB or an eighth of the quota left no file that is opened for writing passes through, unless
/// another handle has it pass through already: then every write is checked."
#[tokio::test]
async fn writers_do_not_pass_through_near_the_quota() {
    let world = World::new();
    world.write_file("f", b"x").await;
    let ino = world.lookup("f").await.expect("f");
    let passes = async |flags| {
        let opened = world.vfs.open(ino, flags, true).await.expect("open");
        let passes = matches!(opened.serve, Serve::Passthrough(_));
        (passes, opened.fh)
    };
    world.vfs.set_quota(Some((1 << 30) + 1));
    world.vfs.count_usage().await.expect("counted");
    let (far, fh) = passes(WRITE).await;
    world.close(fh).await;
    world.vfs.set_quota(Some(1 << 30));
    let (near, fh) = passes(WRITE).await;
    is_full(world.vfs.write(fh, 1 << 30, b"x"));
    world.close(fh).await;
    let (reader, held) = passes(READ).await;
    let (beside, fh) = passes(WRITE).await;
    world.close(fh).await;
    world.vfs.release(held).await.expect("release");
    assert_eq!([far, near, reader, beside], [true, false, true, true]);
}

/// SEMANTICS: "What the bucket holds is listed in the background when a mount begins, unless the local cache knows it from an
/// earlier mount; until then only what was listed counts."
#[tokio::test]
async fn a_remount_knows_at_once_what_the_last_one_knew() {
    let world = World::new();
    for name in 0..5 {
        world.put(&format!("d/{name}"), vec![0; 10]).await;
    }
    world.vfs.set_quota(Some(100));
    assert_eq!(free(&world.vfs), 100, "nothing was listed yet");
    world.vfs.count_usage().await.expect("counted");
    world.write_file("f", &[0; 7]).await;
    let listed = |counts: Counts| counts.of(Op::List);
    let again = world.again().await;
    let before = listed(world.counts());
    again.set_quota(Some(100));
    assert_eq!((free(&again), stored(&again)), (43, Usage { bytes: 57, files: 6 }));
    tokio::task::yield_now().await;
    assert_eq!(listed(world.counts()), before, "and need not ask so soon");
    // A mount that did not end well may have missed something.
    let killed = mount(&world.store, &world.dir.path().join("cache"), Duration::ZERO, Attributes::Keep);
    world.put("later", vec![0; 3]).await;
    killed.set_quota(Some(100));
    assert_eq!(free(&killed), 43);
    while free(&killed) != 40 {
        tokio::task::yield_now().await;
    }
}

/// SEMANTICS: "Each mount counts for itself, so several of one prefix may go beyond the quota together by what they write
/// between two listings."
#[tokio::test]
async fn two_mounts_learn_of_each_other_by_listing() {
    let world = World::new();
    let other = world.elsewhere();
    for vfs in [&world.vfs, &other] {
        vfs.set_quota(Some(10));
        vfs.count_usage().await.expect("counted");
    }
    world.write_file("one", &[1; 8]).await;
    let made = other.create(Ino::ROOT, OsStr::new("two"), 0o644, CALLER, WRITE, false).await.expect("create");
    other.write(made.1.fh, 0, &[2; 8]).expect("as far as it knows");
    other.flush(made.1.fh).await.expect("flush");
    other.release(made.1.fh).await.expect("release");
    assert_eq!((free(&world.vfs), free(&other)), (2, 2));
    for vfs in [&world.vfs, &other] {
        vfs.count_usage().await.expect("counted");
        assert_eq!((free(vfs), stored(vfs).bytes), (0, 16));
    }
}

/// SEMANTICS: "What counts is what a listing shows: old versions and unfinished uploads do not."
#[tokio::test]
async fn unfinished_uploads_do_not_count() {
    let world = World::new();
    world.put("f", vec![0; 9]).await;
    world.put("f", vec![0; 4]).await;
    let upload = world.store.create_upload(&parse("g"), &Headers::default(), PartKinds::Sent).await;
    let part = PartSource::Bytes(Bytes::from(vec![0; 5 * MIB]));
    world.store.upload_part(&upload.expect("begun"), 1, part).await.expect("a part");
    world.vfs.set_quota(Some(10));
    world.vfs.count_usage().await.expect("counted");
    assert_eq!(stored(&world.vfs), Usage { bytes: 4, files: 1 });
}

/// The books say what the bucket really has, and nothing is left to come.
async fn check(world: &World, what: &str) {
    assert_eq!(stored(&world.vfs), truth(&*world.store).await, "after {what}");
    assert_eq!(world.vfs.quota().expect("a quota").staged, 0, "after {what}");
}

/// Every operation that changes the bytes of a file, one after the other.
#[tokio::test]
async fn the_books_are_right_after_every_change_of_a_file() {
    let world = World::new();
    world.put("foreign", vec![0; 9 * MIB]).await;
    let vfs = &world.vfs;
    vfs.set_quota(Some(1 << 40));
    vfs.count_usage().await.expect("counted");
    check(&world, "the count").await;
    world.write_file("new", &vec![1; 6 * MIB]).await;
    check(&world, "a new file in parts").await;
    let (_, fh) = world.write_open("new2", b"12").await;
    world.vfs.flush(fh).await.expect("flush");
    check(&world, "a first flush").await;
    world.vfs.write(fh, 2, b"345").expect("write");
    world.close(fh).await;
    check(&world, "another").await;
    let ino = world.lookup("foreign").await.expect("there");
    let opened = vfs.open(ino, WRITE, false).await.expect("open");
    vfs.write(opened.fh, 9 * MIB as u64 - 1, b"grows").expect("write");
    world.close(opened.fh).await;
    check(&world, "a layer").await;
    vfs.setattr(ino, size(5)).await.expect("truncate");
    check(&world, "a truncation").await;
    let opened = vfs.open(ino, TRUNCATE, false).await.expect("open");
    world.close(opened.fh).await;
    check(&world, "emptying").await;
    vfs.setattr(ino, SetAttr { mode: Some(0o600), ..SetAttr::default() }).await.expect("chmod");
    check(&world, "new attributes").await;
    let (_, fh) = world.write_open("raced", b"ours").await;
    world.put("raced", vec![0; 100]).await;
    vfs.quota.change(&parse("raced"), None, Some(100));
    vfs.flush(fh).await.expect_err("a conflict");
    vfs.release(fh).await.expect("release");
    check(&world, "a conflict").await;
}

/// Every operation that changes names, one after the other.
#[tokio::test]
async fn the_books_are_right_after_every_change_of_names() {
    let world = World::new();
    world.put("dir/a", vec![0; 11]).await;
    world.put("dir/b/c", vec![0; 13]).await;
    world.put("both", vec![0; 3]).await;
    world.put("both/", vec![0; 5]).await;
    let vfs = &world.vfs;
    vfs.set_quota(Some(1 << 40));
    vfs.count_usage().await.expect("counted");
    check(&world, "the count").await;
    world.write_file("new", b"new").await;
    world.write_file("new2", b"second").await;
    vfs.symlink(Ino::ROOT, OsStr::new("link"), OsStr::new("target"), CALLER).await.expect("symlink");
    vfs.mkdir(Ino::ROOT, OsStr::new("made"), 0o755, CALLER).await.expect("mkdir");
    check(&world, "a link and a directory").await;
    rename(vfs, "new2", "new3", RenameMode::Replace).await;
    rename(vfs, "new3", "link", RenameMode::Replace).await;
    rename(vfs, "dir", "made", RenameMode::Replace).await;
    check(&world, "renames").await;
    rename(vfs, "new", "link", RenameMode::Exchange).await;
    rename(vfs, "new", "made", RenameMode::Exchange).await;
    check(&world, "exchanges").await;
    let (_, fh) = world.write_open("dirty", b"dirty").await;
    rename(vfs, "dirty", "clean", RenameMode::Replace).await;
    rename(vfs, "clean", "link", RenameMode::Replace).await;
    world.close(fh).await;
    check(&world, "a written file under its third name").await;
    let opened = vfs.open(world.lookup("link").await.expect("there"), WRITE, false).await.expect("open");
    vfs.write(opened.fh, 0, b"longer than before").expect("write");
    rename(vfs, "link", "moved", RenameMode::Replace).await;
    world.close(opened.fh).await;
    check(&world, "a changed file renamed").await;
    let inside = world.lookup("both").await.expect("there");
    vfs.unlink(inside, OsStr::new("%=")).await.expect("the marker's bytes");
    unlink(vfs, "%=both").await;
    vfs.rmdir(Ino::ROOT, OsStr::new("both")).await.expect("rmdir");
    check(&world, "an object beside a directory").await;
    let (_, fh) = world.write_open("gone", b"never there").await;
    unlink(vfs, "gone").await;
    world.close(fh).await;
    unlink(vfs, "moved").await;
    check(&world, "removals").await;
}

#[tokio::test]
async fn a_close_that_is_answered_early_is_refused_early() {
    let world = World::new();
    let store = Arc::clone(&world.store) as Arc<dyn ObjectStore>;
    let vfs = mount_with(store, &world.dir.path().join("later"), None, |options| {
        options.commit = Commit::Async { max_bytes: 1 << 40, max_age: Duration::from_secs(3600) };
    });
    vfs.set_quota(Some(2 << 30));
    let made = vfs.create(Ino::ROOT, OsStr::new("f"), 0o644, CALLER, WRITE, true).await;
    let (entry, opened) = made.expect("create");
    grow_unseen(&opened, (2 << 30) + 1);
    is_full(vfs.flush(opened.fh).await);
    vfs.setattr(entry.attr.ino, size(3)).await.expect("truncate");
    vfs.flush(opened.fh).await.expect("fits");
    vfs.release(opened.fh).await.expect("release");
    assert!(vfs.drain().await.failed.is_empty());
    assert_eq!(world.object("f").await.as_deref(), Some(&[0; 3][..]));
    assert_eq!(stored(&vfs), Usage { bytes: 3, files: 1 });
}
