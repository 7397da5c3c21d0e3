//! Extended attributes and access control lists. These tests need root: they act as other users.

use crate::permissions::{as_user, let_in, mode, set_mode};
use rustix::fs::{XattrFlags, removexattr, setxattr};
use rustix::io::Errno;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use tarn_tests::behaviours;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    extended_attributes_survive_a_remount,
    extended_attributes_of_an_open_written_file_survive,
    an_attribute_is_created_and_replaced_as_asked,
);

pub(crate) const TARN: &[Behaviour] = behaviours!(
    On::Tarn,
    access_control_lists_are_enforced_and_kept,
    a_default_list_is_handed_on,
    an_attribute_that_does_not_fit_is_refused,
);

pub(crate) fn xattr(subject: &Subject<'_>, path: &str, name: &str) -> Result<Vec<u8>, Errno> {
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
