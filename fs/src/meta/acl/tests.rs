use super::*;
use std::time::UNIX_EPOCH;

/// A list as `setfacl` would set it: `(tag, permissions, id)`.
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let entries = entries.iter().map(|&(tag, permissions, id)| Entry { tag, permissions, id });
    Acl { entries: entries.collect() }.bytes()
}

const NONE: u32 = u32::MAX;

/// `u::rwx,u:5:rw,g::r,m::rw,o::-`
fn named() -> Vec<u8> {
    list(&[(USER_OBJ, 7, NONE), (2, 6, 5), (GROUP_OBJ, 4, NONE), (MASK, 6, NONE), (OTHER, 0, NONE)])
}

fn directory(mode: u32, default: Option<Vec<u8>>) -> (Posix, Headers) {
    let (mut xattrs, mut headers) = (Xattrs::default(), Headers::default());
    if let Some(default) = default {
        xattrs.set(DEFAULT, default);
    }
    xattrs.write(&mut headers);
    (Posix { mode, gid: 50, ..Posix::new(Kind::Directory, UNIX_EPOCH) }, headers)
}

fn make(kind: Kind, directory: &(Posix, Headers)) -> (Posix, Headers) {
    let maker = Maker { uid: 1, gid: 2, umask: 0o022, mode: 0o666 };
    inherit(Posix::new(kind, UNIX_EPOCH), maker, &directory.0, &directory.1)
}

/// SEMANTICS: "Access control lists are enforced by the kernel, follow chmod, and a default list is handed on
/// in place of the umask."
#[test]
fn the_mode_follows_the_list_and_the_list_the_mode() {
    let mut posix = Posix { mode: 0o4600, ..Posix::new(Kind::File, UNIX_EPOCH) };
    let mut xattrs = Xattrs::default();
    set_access(&mut posix, &mut xattrs, &named()).expect("a list");
    assert_eq!(posix.mode, 0o4760);
    let mut headers = Headers::default();
    xattrs.write(&mut headers);
    follow_mode(0o640, &mut headers);
    let changed = Xattrs::read(&headers);
    let acl = changed.value(ACCESS).and_then(Acl::parse).expect("still there");
    assert_eq!(acl.mode(), 0o640);
    assert_eq!(acl.entries[2].permissions, 4, "the mask changes, not the group");
}

#[test]
fn a_list_that_is_only_a_mode_is_not_kept() {
    let mut posix = Posix::new(Kind::File, UNIX_EPOCH);
    let mut xattrs = Xattrs::default();
    xattrs.set(ACCESS, named());
    set_access(
        &mut posix,
        &mut xattrs,
        &list(&[(USER_OBJ, 6, NONE), (GROUP_OBJ, 4, NONE), (OTHER, 4, NONE)]),
    )
    .expect("a list");
    assert_eq!((posix.mode, xattrs.value(ACCESS)), (0o644, None));
}

#[test]
fn what_is_no_list_is_refused() {
    let mut posix = Posix::new(Kind::File, UNIX_EPOCH);
    for bad in [&b""[..], b"\x02\0\0\0", b"\x01\0\0\0", &named()[..11]] {
        assert!(set_access(&mut posix, &mut Xattrs::default(), bad).is_err(), "{bad:?}");
    }
}

#[test]
fn without_a_default_list_the_umask_counts() {
    let (posix, headers) = make(Kind::File, &directory(0o755, None));
    assert_eq!((posix.mode, posix.uid, posix.gid), (0o644, 1, 2));
    assert_eq!(headers, Headers::default());
}

/// SEMANTICS: "Access control lists are enforced by the kernel, follow chmod, and a default list is handed on
/// in place of the umask."
#[test]
fn a_default_list_takes_the_place_of_the_umask() {
    let above = directory(0o755, Some(named()));
    let (posix, headers) = make(Kind::File, &above);
    assert_eq!(posix.mode, 0o660);
    assert!(
        Xattrs::read(&headers).value(ACCESS).is_some() && Xattrs::read(&headers).value(DEFAULT).is_none()
    );
    let (_, headers) = make(Kind::Directory, &above);
    assert_eq!(Xattrs::read(&headers).value(DEFAULT), Some(&named()[..]));
    let (_, headers) = make(Kind::Symlink, &above);
    assert_eq!(Xattrs::read(&headers), Xattrs::default());
}

#[test]
fn a_set_gid_directory_hands_on_its_group() {
    let above = directory(0o2775, None);
    let (file, _) = make(Kind::File, &above);
    assert_eq!((file.gid, file.mode & libc::S_ISGID), (50, 0));
    let (inner, _) = make(Kind::Directory, &above);
    assert_eq!((inner.gid, inner.mode & libc::S_ISGID), (50, libc::S_ISGID));
}
