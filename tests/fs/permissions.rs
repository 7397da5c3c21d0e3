//! Who may do what: modes, owners, set-id bits, sticky directories, access control lists, extended attributes and
//! special files. These tests need root: they act as other users.

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, RenameFlags, StatxFlags, StatxTimestamp, XattrFlags, mknodat, removexattr,
    renameat_with, setxattr, statx,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::process::{Command, Output};
use tarn_tests::behaviours;
use tarn_tests::mapping::Mapping;
use tarn_tests::mount::CHANGE_LIMIT;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::wait::eventually;

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    owner_and_group_survive_a_remount,
    special_files_survive_a_remount,
    a_pipe_carries_bytes,
    a_socket_is_connected_to_by_its_name,
    a_write_by_another_user_clears_the_set_id_bits,
    a_change_of_owner_clears_the_set_id_bits,
    a_set_gid_directory_hands_on_its_group,
    in_a_sticky_directory_only_the_owner_removes,
    the_umask_counts,
    a_supplementary_group_counts,
    times_before_1970_are_kept,
    a_change_of_mode_moves_ctime_alone,
    a_directory_moves_with_its_entries,
    an_access_time_is_kept_when_it_is_set,
    extended_attributes_survive_a_remount,
    extended_attributes_of_an_open_written_file_survive,
    an_attribute_is_created_and_replaced_as_asked,
    a_link_count_falls_to_zero_while_the_file_is_open,
    a_directory_counts_its_subdirectories,
);

pub(crate) const TARN: &[Behaviour] = behaviours!(
    On::Tarn,
    access_control_lists_are_enforced_and_kept,
    a_default_list_is_handed_on,
    the_attributes_of_s3fs_are_shown,
    an_attribute_that_does_not_fit_is_refused,
    tags_and_metadata_of_others_survive_changes_of_attributes,
    tags_and_expiry_survive_changes_of_content,
    fixed_attributes_are_shown_for_all,
    a_renamed_directory_keeps_what_its_objects_carry,
    what_a_write_moves_is_shown_with_the_next_close,
    what_a_write_moves_is_shown_within_the_lifetime,
);

/// Runs a command as an ordinary user, who is let in wherever others are.
pub(crate) fn as_user(uid: u32, command: &str, subject: &Subject<'_>) -> Output {
    let id = uid.to_string();
    Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--", "sh", "-c", command])
        .current_dir(subject.root())
        .output()
        .unwrap()
}

/// Opens the way into the folder for everybody.
pub(crate) fn let_in(subject: &Subject<'_>) {
    let home = subject.root().parent().unwrap();
    fs::set_permissions(home, Permissions::from_mode(0o755)).unwrap();
}

fn mode(subject: &Subject<'_>, name: &str) -> u32 {
    fs::symlink_metadata(subject.path(name)).unwrap().mode() & 0o7777
}

fn set_mode(subject: &Subject<'_>, name: &str, mode: u32) {
    fs::set_permissions(subject.path(name), Permissions::from_mode(mode)).unwrap();
}

fn owner_and_group_survive_a_remount(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    fs::create_dir(subject.path("d")).unwrap();
    for name in ["f", "d"] {
        chown(subject.path(name), Some(12), Some(34)).unwrap();
    }
    for _ in 0..2 {
        for name in ["f", "d"] {
            let metadata = fs::metadata(subject.path(name)).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (12, 34), "{name}");
        }
        subject.remount().unwrap();
    }
}

fn special_files_survive_a_remount(subject: &Subject<'_>) {
    let make = |name, kind, device| {
        mknodat(CWD, subject.path(name), kind, Mode::from_raw_mode(0o620), device).unwrap();
    };
    make("pipe", FileType::Fifo, 0);
    make("socket", FileType::Socket, 0);
    make("char", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    make("block", FileType::BlockDevice, rustix::fs::makedev(7, 260));
    for _ in 0..2 {
        let kind = |name| fs::symlink_metadata(subject.path(name)).unwrap();
        assert!(kind("pipe").file_type().is_fifo() && kind("socket").file_type().is_socket());
        assert!(kind("char").file_type().is_char_device() && kind("block").file_type().is_block_device());
        assert_eq!((kind("char").rdev(), kind("block").rdev()), (0x103, rustix::fs::makedev(7, 260)));
        assert_eq!(mode(subject, "pipe"), 0o600, "the umask is 022");
        let mut kinds: Vec<_> = fs::read_dir(subject.root())
            .unwrap()
            .map(|entry| entry.unwrap().file_type().unwrap().is_file())
            .collect();
        kinds.dedup();
        assert_eq!(kinds, [false], "a listing tells the kinds");
        subject.remount().unwrap();
    }
    fs::rename(subject.path("pipe"), subject.path("moved")).unwrap();
    assert!(fs::symlink_metadata(subject.path("moved")).unwrap().file_type().is_fifo());
    fs::remove_file(subject.path("moved")).unwrap();
}

/// SEMANTICS: "Pipes and sockets connect programs of one machine."
fn a_pipe_carries_bytes(subject: &Subject<'_>) {
    let pipe = subject.path("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| fs::write(&pipe, b"through the pipe"));
        assert_eq!(fs::read(&pipe).unwrap(), b"through the pipe");
        writer.join().unwrap().unwrap();
    });
}

/// SEMANTICS: "Pipes and sockets connect programs of one machine."
fn a_socket_is_connected_to_by_its_name(subject: &Subject<'_>) {
    let listener = std::os::unix::net::UnixListener::bind(subject.path("s")).unwrap();
    let _client = std::os::unix::net::UnixStream::connect(subject.path("s")).unwrap();
    listener.accept().unwrap();
}

fn a_write_by_another_user_clears_the_set_id_bits(subject: &Subject<'_>) {
    let_in(subject);
    for (name, command) in [("f", "echo more >> f"), ("g", "truncate -s 1 g"), ("h", "echo x > h")] {
        fs::write(subject.path(name), b"content").unwrap();
        set_mode(subject, name, 0o6777);
        assert_eq!(mode(subject, name), 0o6777);
        let output = as_user(1, command, subject);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(mode(subject, name), 0o777, "{name}");
    }
    subject.remount().unwrap();
    for name in ["f", "g", "h"] {
        assert_eq!(mode(subject, name), 0o777, "{name}");
    }
}

fn a_change_of_owner_clears_the_set_id_bits(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    set_mode(subject, "f", 0o6755);
    chown(subject.path("f"), Some(1), Some(1)).unwrap();
    assert_eq!(mode(subject, "f"), 0o755);
}

/// SEMANTICS: "New files and directories take the group of a set-gid directory."
fn a_set_gid_directory_hands_on_its_group(subject: &Subject<'_>) {
    fs::create_dir(subject.path("d")).unwrap();
    chown(subject.path("d"), None, Some(77)).unwrap();
    set_mode(subject, "d", 0o2775);
    fs::write(subject.path("d/f"), b"f").unwrap();
    fs::create_dir(subject.path("d/e")).unwrap();
    std::os::unix::fs::symlink("f", subject.path("d/l")).unwrap();
    for _ in 0..2 {
        for name in ["d/f", "d/e", "d/l"] {
            assert_eq!(fs::symlink_metadata(subject.path(name)).unwrap().gid(), 77, "{name}");
        }
        assert_eq!(mode(subject, "d/e") & 0o2000, 0o2000);
        subject.remount().unwrap();
    }
}

fn in_a_sticky_directory_only_the_owner_removes(subject: &Subject<'_>) {
    let_in(subject);
    fs::create_dir(subject.path("d")).unwrap();
    set_mode(subject, "d", 0o1777);
    assert!(as_user(1, "echo mine > d/f", subject).status.success());
    assert!(!as_user(2, "rm -f d/f", subject).status.success());
    assert!(!as_user(2, "mv d/f d/g", subject).status.success());
    assert!(as_user(1, "rm d/f", subject).status.success());
}

fn the_umask_counts(subject: &Subject<'_>) {
    let_in(subject);
    fs::create_dir(subject.path("all")).unwrap();
    set_mode(subject, "all", 0o777);
    let output = as_user(1, "cd all; umask 037; echo f > f; mkdir d; mkfifo p", subject);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(["all/f", "all/d", "all/p"].map(|name| mode(subject, name)), [0o640, 0o740, 0o640]);
}

/// SEMANTICS: "The kernel checks them by the modes and lists shown here, supplementary groups included."
fn a_supplementary_group_counts(subject: &Subject<'_>) {
    let_in(subject);
    fs::write(subject.path("f"), b"f").unwrap();
    chown(subject.path("f"), None, Some(77)).unwrap();
    set_mode(subject, "f", 0o640);
    for (groups, reads) in [("--groups=77", true), ("--clear-groups", false)] {
        let mut user = Command::new("setpriv");
        user.args(["--reuid=1", "--regid=1", groups, "--", "cat"]).arg(subject.path("f"));
        assert_eq!(user.output().unwrap().status.success(), reads, "{groups}");
    }
}

/// SEMANTICS: "Times are kept in nanoseconds, also before 1970."
fn times_before_1970_are_kept(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    let touched = Command::new("touch").args(["-d", "@-1.25"]).arg(subject.path("f")).status().unwrap();
    assert!(touched.success());
    for _ in 0..2 {
        let metadata = fs::metadata(subject.path("f")).unwrap();
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-2, 750_000_000));
        assert_eq!((metadata.atime(), metadata.atime_nsec()), (-2, 750_000_000));
        subject.remount().unwrap();
    }
}

/// Modification and change time in nanoseconds.
fn times(subject: &Subject<'_>, name: &str) -> (i64, i64) {
    let metadata = fs::metadata(subject.path(name)).unwrap();
    let nanos = |seconds: i64, nanos: i64| seconds * 1_000_000_000 + nanos;
    (nanos(metadata.mtime(), metadata.mtime_nsec()), nanos(metadata.ctime(), metadata.ctime_nsec()))
}

/// Lets the clock that file systems stamp with go on.
fn tick(subject: &Subject<'_>) {
    let probe = subject.scratch().join("tick");
    let stamp = || {
        fs::write(&probe, b"").unwrap();
        fs::metadata(&probe).unwrap().modified().unwrap()
    };
    let before = stamp();
    while stamp() == before {}
}

fn a_change_of_mode_moves_ctime_alone(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    fs::create_dir(subject.path("d")).unwrap();
    for name in ["f", "d"] {
        let before = times(subject, name);
        tick(subject);
        set_mode(subject, name, 0o700);
        let after = times(subject, name);
        assert!(after.0 == before.0 && after.1 > before.1, "{name}: {before:?} {after:?}");
        subject.remount().unwrap();
        assert_eq!(times(subject, name), after, "{name}");
    }
}

/// SEMANTICS: "A directory's mtime and ctime move with its entries; on this mount they are shown at once, in
/// the bucket they are kept with the next change of the directory itself."
fn a_directory_moves_with_its_entries(subject: &Subject<'_>) {
    fs::create_dir(subject.path("d")).unwrap();
    let steps: [fn(&Subject<'_>); 5] = [
        |subject| fs::write(subject.path("d/f"), b"f").unwrap(),
        |subject| fs::rename(subject.path("d/f"), subject.path("d/g")).unwrap(),
        |subject| fs::remove_file(subject.path("d/g")).unwrap(),
        |subject| fs::create_dir(subject.path("d/e")).unwrap(),
        |subject| fs::remove_dir(subject.path("d/e")).unwrap(),
    ];
    for (index, step) in steps.into_iter().enumerate() {
        let before = times(subject, "d");
        tick(subject);
        step(subject);
        let after = times(subject, "d");
        assert!(after.0 > before.0 && after.1 > before.1, "step {index}: {before:?} {after:?}");
    }
}

fn an_access_time_is_kept_when_it_is_set(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    let touched =
        Command::new("touch").args(["-a", "-d", "@2000000000.5"]).arg(subject.path("f")).status().unwrap();
    assert!(touched.success());
    for _ in 0..2 {
        let metadata = fs::metadata(subject.path("f")).unwrap();
        assert_eq!((metadata.atime(), metadata.atime_nsec()), (2_000_000_000, 500_000_000));
        assert!(metadata.mtime() != metadata.atime());
        subject.remount().unwrap();
    }
}

fn xattr(subject: &Subject<'_>, path: &str, name: &str) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::getxattr(subject.path(path), name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

fn extended_attributes_survive_a_remount(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    fs::create_dir(subject.path("d")).unwrap();
    let binary: Vec<u8> = (0..=255).collect();
    for path in ["f", "d"] {
        for (name, value) in [("user.text", &b"value"[..]), ("user.binary", &binary), ("trusted.empty", b"")]
        {
            setxattr(subject.path(path), name, value, XattrFlags::empty()).unwrap();
        }
    }
    for _ in 0..2 {
        for path in ["f", "d"] {
            assert_eq!(xattr(subject, path, "user.text").unwrap(), b"value");
            assert_eq!(xattr(subject, path, "user.binary").unwrap(), binary);
            assert_eq!(xattr(subject, path, "trusted.empty").unwrap(), b"");
            assert_eq!(xattr(subject, path, "user.other"), Err(Errno::NODATA));
            let mut room = [0; 3];
            assert_eq!(rustix::fs::getxattr(subject.path(path), "user.text", &mut room), Err(Errno::RANGE));
        }
        subject.remount().unwrap();
    }
    removexattr(subject.path("f"), "user.text").unwrap();
    assert_eq!(xattr(subject, "f", "user.text"), Err(Errno::NODATA));
    assert_eq!(removexattr(subject.path("f"), "user.text"), Err(Errno::NODATA));
}

fn extended_attributes_of_an_open_written_file_survive(subject: &Subject<'_>) {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(subject.path("f")).unwrap();
    rustix::fs::fsetxattr(&file, "user.a", b"before", XattrFlags::empty()).unwrap();
    file.write_all_at(b"content", 0).unwrap();
    rustix::fs::fsetxattr(&file, "user.b", b"after", XattrFlags::empty()).unwrap();
    drop(file);
    for _ in 0..2 {
        assert_eq!(xattr(subject, "f", "user.a").unwrap(), b"before");
        assert_eq!(xattr(subject, "f", "user.b").unwrap(), b"after");
        subject.remount().unwrap();
    }
    // Rewriting the bytes keeps them.
    fs::write(subject.path("f"), b"other").unwrap();
    assert_eq!(xattr(subject, "f", "user.a").unwrap(), b"before");
}

fn an_attribute_is_created_and_replaced_as_asked(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    let set = |flags| setxattr(subject.path("f"), "user.a", b"x", flags);
    assert_eq!(set(XattrFlags::REPLACE), Err(Errno::NODATA));
    set(XattrFlags::CREATE).unwrap();
    assert_eq!(set(XattrFlags::CREATE), Err(Errno::EXIST));
    set(XattrFlags::REPLACE).unwrap();
}

fn a_link_count_falls_to_zero_while_the_file_is_open(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    let file = fs::File::open(subject.path("f")).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 1);
    fs::remove_file(subject.path("f")).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
}

fn a_directory_counts_its_subdirectories(subject: &Subject<'_>) {
    let links = || fs::metadata(subject.path("d")).unwrap().nlink();
    fs::create_dir(subject.path("d")).unwrap();
    let none = links();
    fs::create_dir(subject.path("d/e")).unwrap();
    fs::write(subject.path("d/f"), b"f").unwrap();
    assert_eq!(links(), none + 1);
    fs::rename(subject.path("d/e"), subject.path("e")).unwrap();
    assert_eq!(links(), none);
}

/// `u::rwx,u:1:r,g::-,m::r,o::-` as the kernel takes it.
const LIST: [u8; 44] = [
    2, 0, 0, 0, //
    1, 0, 7, 0, 255, 255, 255, 255, //
    2, 0, 4, 0, 1, 0, 0, 0, //
    4, 0, 0, 0, 255, 255, 255, 255, //
    16, 0, 4, 0, 255, 255, 255, 255, //
    32, 0, 0, 0, 255, 255, 255, 255,
];
const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// SEMANTICS: "The kernel checks them by the modes and lists shown here, supplementary groups included."
/// SEMANTICS: "Access control lists are enforced by the kernel, follow chmod, and a default list is handed on
/// in place of the umask."
fn access_control_lists_are_enforced_and_kept(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"secret").unwrap();
    setxattr(subject.path("f"), ACCESS, &LIST, XattrFlags::empty()).unwrap();
    assert_eq!(mode(subject, "f"), 0o740, "the mode shows the mask");
    subject.remount().unwrap();
    let_in(subject);
    assert_eq!(as_user(1, "cat f", subject).stdout, b"secret");
    assert!(!as_user(2, "cat f", subject).status.success());
    assert!(!as_user(1, "echo x >> f", subject).status.success());
    // chmod of the group's bits is one of the mask: user 1 is out.
    set_mode(subject, "f", 0o700);
    assert!(!as_user(1, "cat f", subject).status.success());
    subject.remount().unwrap();
    assert_eq!(xattr(subject, "f", ACCESS).unwrap()[28..32], [16, 0, 0, 0]);
    removexattr(subject.path("f"), ACCESS).unwrap();
    assert_eq!(xattr(subject, "f", ACCESS), Err(Errno::NODATA));
}

/// SEMANTICS: "Access control lists are enforced by the kernel, follow chmod, and a default list is handed on
/// in place of the umask."
fn a_default_list_is_handed_on(subject: &Subject<'_>) {
    fs::create_dir(subject.path("d")).unwrap();
    setxattr(subject.path("d"), DEFAULT, &LIST, XattrFlags::empty()).unwrap();
    fs::write(subject.path("d/f"), b"f").unwrap();
    fs::create_dir(subject.path("d/e")).unwrap();
    for _ in 0..2 {
        assert_eq!(mode(subject, "d/f"), 0o640);
        assert_eq!(mode(subject, "d/e"), 0o740);
        assert_eq!(xattr(subject, "d/e", DEFAULT).unwrap(), LIST);
        assert_eq!(xattr(subject, "d/e", ACCESS).unwrap(), LIST);
        assert_eq!(xattr(subject, "d/f", DEFAULT), Err(Errno::NODATA));
        subject.remount().unwrap();
    }
}

fn the_attributes_of_s3fs_are_shown(subject: &Subject<'_>) {
    let metadata = [
        ("mode", "33184"),
        ("uid", "5"),
        ("gid", "6"),
        ("mtime", "1500000000.25"),
        ("xattr", "%7B%22user.a%22%3A%22aGVsbG8%3D%22%7D"),
    ];
    let metadata = metadata.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    subject.bucket().put_with("f", b"f", &metadata).unwrap();
    let file = fs::metadata(subject.path("f")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (0o640, 5, 6));
    assert_eq!((file.mtime(), file.mtime_nsec()), (1_500_000_000, 250_000_000));
    assert_eq!(xattr(subject, "f", "user.a").unwrap(), b"hello");
}

/// SEMANTICS: "S3 keeps 2 KiB of user metadata: an attribute that does not fit is refused with ENOSPC and
/// nothing is changed."
fn an_attribute_that_does_not_fit_is_refused(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    setxattr(subject.path("f"), "user.a", b"kept", XattrFlags::empty()).unwrap();
    let large = setxattr(subject.path("f"), "user.a", &[7; 3000], XattrFlags::empty());
    assert_eq!(large, Err(Errno::NOSPC));
    assert_eq!(xattr(subject, "f", "user.a").unwrap(), b"kept");
    assert_eq!(setxattr(subject.path("f"), "odd.a", b"", XattrFlags::empty()), Err(Errno::OPNOTSUPP));
}

/// SEMANTICS: "Content type, cache control, storage class, `Expires`, tags and the metadata of others stay as
/// they are, also when the bytes change."
fn tags_and_metadata_of_others_survive_changes_of_attributes(subject: &Subject<'_>) {
    let team = BTreeMap::from([("team".to_owned(), "blue".to_owned())]);
    subject.bucket().put_with("f", b"f", &team).unwrap();
    subject.bucket().tag("f", &team).unwrap();
    set_mode(subject, "f", 0o600);
    chown(subject.path("f"), Some(1), None).unwrap();
    setxattr(subject.path("f"), "user.a", b"x", XattrFlags::empty()).unwrap();
    fs::rename(subject.path("f"), subject.path("g")).unwrap();
    assert_eq!(subject.bucket().tags("g").unwrap(), team);
    let metadata = subject.bucket().head("g").unwrap().metadata;
    assert_eq!(metadata.get("team").map(String::as_str), Some("blue"));
    assert_eq!(metadata.get("file-permissions").map(String::as_str), Some("0100600"));
}

/// SEMANTICS: "Content type, cache control, storage class, `Expires`, tags and the metadata of others stay as
/// they are, also when the bytes change."
fn tags_and_expiry_survive_changes_of_content(subject: &Subject<'_>) {
    let tags = BTreeMap::from([("team".to_owned(), "blue + green/=@:".to_owned())]);
    // Large enough to be changed in parts.
    let bodies = [("small", vec![1; 100]), ("large", vec![2; 24 << 20])];
    let expires = "Wed, 21 Oct 2037 07:28:00 GMT";
    // Before tarn has listed anything: it believes a listing for a second.
    for (name, body) in &bodies {
        subject.bucket().put_expiring(name, body, expires).unwrap();
        subject.bucket().tag(name, &tags).unwrap();
    }
    for (name, _) in &bodies {
        let file = OpenOptions::new().write(true).open(subject.path(name)).unwrap();
        file.write_all_at(b"changed", 10).unwrap();
        drop(file);
        assert_eq!(subject.bucket().tags(name).unwrap(), tags, "{name}");
        // Renamed while it is being written.
        let file = OpenOptions::new().write(true).open(subject.path(name)).unwrap();
        file.write_all_at(b"again", 10).unwrap();
        let moved = format!("{name}-moved");
        fs::rename(subject.path(name), subject.path(&moved)).unwrap();
        drop(file);
        assert_eq!(subject.bucket().tags(&moved).unwrap(), tags, "{moved}");
        assert_eq!(subject.bucket().head(&moved).unwrap().expires, expires, "{moved}");
        // To a name that must be free: copied in parts.
        let (from, to) = (subject.path(&moved), subject.path(&format!("{name}-free")));
        renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).unwrap();
        assert_eq!(subject.bucket().tags(&format!("{name}-free")).unwrap(), tags, "{name}-free");
        assert_eq!(subject.bucket().head(&format!("{name}-free")).unwrap().expires, expires);
    }
}

/// SEMANTICS: "With `--attributes fixed` every file shows the mount's, chmod and chown to anything else
/// answer EPERM, and what the objects carry stays as it is."
fn fixed_attributes_are_shown_for_all(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    set_mode(subject, "f", 0o600);
    subject.take_mount().unmount().unwrap();
    let options = ["--attributes", "fixed", "--file-mode", "0444", "--uid", "42"];
    let mount = subject.plan().clone().with(&options).mount().unwrap();
    let file = fs::metadata(subject.path("f")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.uid()), (0o444, 42));
    let refused = fs::set_permissions(subject.path("f"), Permissions::from_mode(0o777)).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::PERM.raw_os_error()));
    let refused = chown(subject.path("f"), Some(1), None).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::PERM.raw_os_error()));
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
    assert_eq!(mode(subject, "f"), 0o600);
}

/// SEMANTICS: "A renamed directory is copied by the server, which keeps all of that; MinIO alone leaves
/// `Expires` out."
fn a_renamed_directory_keeps_what_its_objects_carry(subject: &Subject<'_>) {
    let team = BTreeMap::from([("team".to_owned(), "blue".to_owned())]);
    subject.bucket().put_with("d/f", b"f", &team).unwrap();
    subject.bucket().put_expiring("d/g", b"g", "Wed, 21 Oct 2037 07:28:00 GMT").unwrap();
    for key in ["d/f", "d/g"] {
        subject.bucket().tag(key, &team).unwrap();
    }
    let before = subject.bucket().head("d/f").unwrap();
    fs::rename(subject.path("d"), subject.path("e")).unwrap();
    let after = subject.bucket().head("e/f").unwrap();
    assert_eq!((after.content_type, after.metadata), (before.content_type, before.metadata));
    for key in ["e/f", "e/g"] {
        assert_eq!(subject.bucket().tags(key).unwrap(), team, "{key}");
    }
    assert_eq!(subject.bucket().head("e/g").unwrap().expires, "", "MinIO leaves it out");
}

/// SEMANTICS: "The times that a write to a mapping moves, and the set-id bits that a write takes away, are shown so
/// with the next close or fsync of the file, at the latest when the lifetime of the attributes (`--attr-ttl`) is over."
fn what_a_write_moves_is_shown_with_the_next_close(subject: &Subject<'_>) {
    let_in(subject);
    subject.take_mount().unmount().unwrap();
    let mount = subject.plan().clone().with(&["--attr-ttl", "1h"]).mount().unwrap();
    for name in ["synced", "closed"] {
        let path = subject.path(name);
        fs::write(&path, [b'.'; 4096]).unwrap();
        // Whoever asks for more is told of all anew once a file was mapped.
        let asked = || {
            let shown = statx(CWD, &path, AtFlags::empty(), StatxFlags::MTIME | StatxFlags::CTIME).unwrap();
            let of = |time: StatxTimestamp| (time.tv_sec, time.tv_nsec);
            (of(shown.stx_mtime), of(shown.stx_ctime))
        };
        assert!(Command::new("touch").args(["-d", "@1000000000"]).arg(&path).status().unwrap().success());
        let before = asked();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut mapping = Mapping::shared(&file, 4096).unwrap();
        mapping.write(0, b"through the mapping");
        match name {
            "synced" => file.sync_all().unwrap(),
            _ => drop(file),
        }
        let now = asked();
        assert!(now.0 > before.0 && now.1 > before.1, "{name}: {before:?}, {now:?}");
    }
    fs::write(subject.path("f"), b"as it was\n").unwrap();
    set_mode(subject, "f", 0o6777);
    assert!(as_user(1, "echo more >> f", subject).status.success());
    let shown = statx(CWD, subject.path("f"), AtFlags::empty(), StatxFlags::MODE).unwrap();
    assert_eq!(shown.stx_mode & 0o7777, 0o777);
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
}

fn what_a_write_moves_is_shown_within_the_lifetime(subject: &Subject<'_>) {
    fs::write(subject.path("f"), [b'.'; 4096]).unwrap();
    let before = times(subject, "f");
    let file = OpenOptions::new().read(true).write(true).open(subject.path("f")).unwrap();
    let mut mapping = Mapping::shared(&file, 4096).unwrap();
    mapping.write(0, b"through the mapping");
    mapping.sync().unwrap();
    eventually(CHANGE_LIMIT, "both times have moved", || {
        let now = times(subject, "f");
        Ok((now.0 > before.0 && now.1 > before.1).then_some(()))
    })
    .unwrap();
}
