use super::*;
use crate::store::ETag;
use proptest::prelude::*;
use std::time::{Duration, UNIX_EPOCH};

const DEFAULTS: Defaults =
    Defaults { uid: 7, gid: 8, file_mode: 0o644, dir_mode: 0o755, attributes: Attributes::Keep };
const FIXED: Defaults = Defaults { attributes: Attributes::Fixed, ..DEFAULTS };

fn version() -> Version {
    Version {
        etag: ETag::new("e"),
        size: 1,
        last_modified: UNIX_EPOCH + Duration::from_secs(100),
        version_id: None,
    }
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    let user = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Headers { user, ..Headers::default() }
}

fn read_user(pairs: &[(&str, &str)]) -> Posix {
    read(&headers(pairs), &version(), Kind::File, &DEFAULTS)
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::File),
        Just(Kind::Symlink),
        Just(Kind::Fifo),
        Just(Kind::Socket),
        any::<u32>().prop_map(|rdev| Kind::CharDevice { rdev }),
        any::<u32>().prop_map(|rdev| Kind::BlockDevice { rdev }),
    ]
}

fn any_time() -> impl Strategy<Value = SystemTime> {
    (-(1i64 << 40)..1i64 << 40, 0u32..1_000_000_000).prop_map(|(seconds, nanos)| {
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let second = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
        second + Duration::from_nanos(nanos.into())
    })
}

prop_compose! {
    fn any_posix()(
        kind in any_kind(),
        (mode, uid, gid) in (0u32..0o10000, any::<u32>(), any::<u32>()),
        (atime, mtime, ctime, btime) in (any_time(), any_time(), any_time(), any_time()),
    ) -> Posix {
        Posix { kind, mode, uid, gid, atime, mtime, ctime, btime }
    }
}

proptest! {
    /// SEMANTICS: "Times are kept in nanoseconds, also before 1970."
    #[test]
    fn what_is_written_is_read_back(posix in any_posix()) {
        let mut headers = Headers::default();
        write(&posix, &mut headers, Attributes::Keep).expect("room in empty metadata");
        prop_assert_eq!(read(&headers, &version(), Kind::File, &DEFAULTS), posix);
    }

    #[test]
    fn no_text_in_any_field_is_an_error(
        field in prop_oneof![
            Just("file-permissions"), Just("file-owner"), Just("file-group"), Just("file-mtime"), Just("file-atime"),
            Just("file-ctime"), Just("file-btime"), Just("file-rdev"), Just("mode"), Just("uid"), Just("gid"),
            Just("mtime"), Just("atime"), Just("ctime"), Just("rdev"), Just("xattr"), Just("--symlink-target"),
        ],
        text in prop_oneof![".*", "-?[0-9]{0,45}(\\.[0-9+-]{0,12})?(ns|ms|s)?", "%7B.{0,20}"],
    ) {
        let mut headers = headers(&[(field, &text)]);
        read(&headers, &version(), Kind::File, &DEFAULTS);
        read(&headers, &version(), Kind::Directory, &DEFAULTS);
        symlink_target(&headers);
        Xattrs::read(&headers);
        acl::follow_mode(0o600, &mut headers);
    }

    #[test]
    fn xattrs_are_read_back(values in proptest::collection::btree_map("user\\..{0,20}", any::<Vec<u8>>(), 0..5)) {
        let mut xattrs = Xattrs::default();
        for (name, value) in &values {
            xattrs.set(name, value.clone());
        }
        let mut headers = Headers::default();
        xattrs.write(&mut headers);
        prop_assert!(headers.user.values().all(|text| text.bytes().all(|byte| byte.is_ascii_graphic())));
        prop_assert_eq!(Xattrs::edit(&headers).expect("our own form"), xattrs);
    }
}

#[test]
fn foreign_metadata_stays_and_foreign_dialects_go() {
    let mut headers = headers(&[("team", "blue"), ("mode", "33188"), ("atime", "1")]);
    write(&DEFAULTS.file(UNIX_EPOCH), &mut headers, Attributes::Keep).expect("room");
    assert_eq!(headers.user.get("team").map(String::as_str), Some("blue"));
    assert!(!headers.user.contains_key("mode") && !headers.user.contains_key("atime"));
}

/// SEMANTICS: "Those of s3fs, geesefs (symbolic links included) and rclone are read."
#[test]
fn s3fs_is_understood() {
    let posix = read_user(&[
        ("mode", "33261"),
        ("uid", "1"),
        ("gid", "2"),
        ("mtime", "1500000000.5"),
        ("atime", "1500000001"),
        ("ctime", "1500000002.25"),
    ]);
    assert_eq!((posix.kind, posix.mode, posix.uid, posix.gid), (Kind::File, 0o755, 1, 2));
    let at = |nanos| UNIX_EPOCH + Duration::from_secs(1_500_000_000) + Duration::from_nanos(nanos);
    assert_eq!(
        (posix.mtime, posix.atime, posix.ctime),
        (at(500_000_000), at(1_000_000_000), at(2_250_000_000))
    );
    assert_eq!(read_user(&[("mode", "41471")]).kind, Kind::Symlink);
    assert_eq!(read_user(&[("mode", "4516")]).kind, Kind::Fifo);
}

/// As s3fs 1.97 writes it.
/// SEMANTICS: "They share one metadata entry `xattr`, in the form of s3fs."
#[test]
fn the_xattrs_of_s3fs_are_understood() {
    let headers = headers(&[("xattr", "%7B%22user.a%22%3A%22aGVsbG8%3D%22%2C%22user.b%22%3A%22%22%7D")]);
    let xattrs = Xattrs::edit(&headers).expect("the form of s3fs");
    assert_eq!((xattrs.value("user.a"), xattrs.value("user.b")), (Some(&b"hello"[..]), Some(&b""[..])));
}

/// SEMANTICS: "An entry of another form is left alone: it shows no attributes, and to set one answers EPERM."
#[test]
fn an_xattr_entry_of_another_form_is_left_alone() {
    let headers = headers(&[("xattr", "not%20json")]);
    assert_eq!(Xattrs::read(&headers), Xattrs::default());
    assert!(matches!(Xattrs::edit(&headers), Err(Error::NotPermitted(_))));
}

/// SEMANTICS: "Those of s3fs, geesefs (symbolic links included) and rclone are read."
#[test]
fn geesefs_is_understood() {
    let posix = read_user(&[("mode", "8612"), ("rdev", "259"), ("uid", "5"), ("mtime", "1500000000")]);
    assert_eq!((posix.kind, posix.mode, posix.uid), (Kind::CharDevice { rdev: 259 }, 0o644, 5));
    let link = headers(&[("--symlink-target", "a%20b")]);
    assert_eq!(read(&link, &version(), Kind::File, &DEFAULTS).kind, Kind::Symlink);
    assert_eq!(symlink_target(&link).as_deref(), Some(&b"a b"[..]));
}

/// SEMANTICS: "Those of s3fs, geesefs (symbolic links included) and rclone are read."
#[test]
fn rclone_is_understood() {
    let posix = read_user(&[("mode", "100755"), ("mtime", "1500000000.000000001")]);
    assert_eq!((posix.kind, posix.mode), (Kind::File, 0o755));
    assert_eq!(posix.mtime, UNIX_EPOCH + Duration::new(1_500_000_000, 1));
}

#[test]
fn nonsense_takes_the_defaults() {
    let posix = read_user(&[
        ("mode", "rwx"),
        ("uid", "-1"),
        ("file-mtime", "99999999999999999999999999999999999999999s"),
    ]);
    assert_eq!(posix, DEFAULTS.file(version().last_modified));
}

/// SEMANTICS: "What carries none shows `--uid`, `--gid`, `--file-mode`, `--dir-mode`, and the object's own
/// time."
#[test]
fn an_object_without_metadata_takes_the_defaults() {
    let file = read_user(&[]);
    assert_eq!((file.kind, file.mode, file.uid, file.gid), (Kind::File, 0o644, 7, 8));
    assert_eq!((file.mtime, file.ctime), (version().last_modified, version().last_modified));
    let directory = read(&headers(&[]), &version(), Kind::Directory, &DEFAULTS);
    assert_eq!((directory.mode, directory.uid, directory.gid), (0o755, 7, 8));
}

#[test]
fn fixed_attributes_are_shown_and_leave_those_of_the_object_alone() {
    let mut headers = headers(&[("file-permissions", "0100600"), ("uid", "1000"), ("mtime", "5")]);
    let posix = read(&headers, &version(), Kind::File, &FIXED);
    assert_eq!((posix.mode, posix.uid, posix.gid), (0o644, 7, 8));
    assert_eq!(posix.mtime, UNIX_EPOCH + Duration::from_secs(5));
    write(&posix, &mut headers, Attributes::Fixed).expect("room");
    let kept = read(&headers, &version(), Kind::File, &DEFAULTS);
    assert_eq!((kept.mode, kept.uid, kept.mtime), (0o600, 1000, posix.mtime));
}

/// SEMANTICS: "Where the metadata of others leaves too little room, `file-atime`, `file-btime` and
/// `file-ctime` stay out."
#[test]
fn times_give_way_to_the_metadata_of_others() {
    let posix = DEFAULTS.file(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let full = |size| headers(&[("note", &"x".repeat(size))]);
    let mut headers = full(1850);
    write(&posix, &mut headers, Attributes::Keep).expect("room without the times");
    assert!(headers.user.contains_key("file-mtime") && !headers.user.contains_key("file-atime"));
    let mut headers = full(1900);
    write(&posix, &mut headers, Attributes::Keep).expect("room without any of the three");
    let times = ["file-atime", "file-btime", "file-ctime", "file-mtime"];
    assert_eq!(times.map(|name| headers.user.contains_key(name)), [false, false, false, true]);
    let mut headers = full(2000);
    assert!(matches!(write(&posix, &mut headers, Attributes::Keep), Err(Error::NoRoom)));
    assert_eq!(headers, full(2000), "nothing is changed");
}
