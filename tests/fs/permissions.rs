//! Who may do what: modes, owners, set-id bits, sticky directories, and special files. These tests need root: they act
//! as other users.

use crate::xattrs::xattr;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, XattrFlags, mknodat, renameat_with, setxattr};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::process::{Command, Output};
use tarn_tests::behaviours;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};

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
    a_link_count_falls_to_zero_while_the_file_is_open,
    a_directory_counts_its_subdirectories,
);

pub(crate) const TARN: &[Behaviour] = behaviours!(
    On::Tarn,
    the_attributes_of_s3fs_are_shown,
    tags_and_metadata_of_others_survive_changes_of_attributes,
    tags_and_expiry_survive_changes_of_content,
    fixed_attributes_are_shown_for_all,
    a_renamed_directory_keeps_what_its_objects_carry,
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

pub(crate) fn mode(subject: &Subject<'_>, name: &str) -> u32 {
    fs::symlink_metadata(subject.path(name)).unwrap().mode() & 0o7777
}

pub(crate) fn set_mode(subject: &Subject<'_>, name: &str, mode: u32) {
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
