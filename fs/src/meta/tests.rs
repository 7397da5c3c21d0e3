use super::*;
use crate::store::ETag;

const DEFAULTS: Defaults = Defaults { uid: 7, gid: 8, file_mode: 0o644, dir_mode: 0o755 };

fn version() -> Version {
    Version {
        etag: ETag::new("e"),
        size: 1,
        last_modified: UNIX_EPOCH + Duration::from_secs(100),
        version_id: None,
    }
}

fn read_user(pairs: &[(&str, &str)]) -> Posix {
    let user = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    read(&Headers { user, ..Headers::default() }, &version(), Kind::File, &DEFAULTS)
}

#[test]
fn what_is_written_is_read_back() {
    for (kind, mtime) in [
        (Kind::File, UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789)),
        (Kind::Symlink, UNIX_EPOCH - Duration::new(5, 250_000_000)),
    ] {
        let posix = Posix { kind, mode: 0o4755, uid: 1000, gid: 100, mtime };
        let mut headers = Headers::default();
        write(&posix, &mut headers);
        assert_eq!(read(&headers, &version(), Kind::File, &DEFAULTS), posix);
    }
}

#[test]
fn foreign_metadata_stays_and_foreign_dialects_go() {
    let mut headers = Headers::default();
    headers.user.insert("team".into(), "blue".into());
    headers.user.insert("mode".into(), "33188".into());
    write(&DEFAULTS.file(UNIX_EPOCH), &mut headers);
    assert_eq!(headers.user.get("team").map(String::as_str), Some("blue"));
    assert!(!headers.user.contains_key("mode"));
}

#[test]
fn s3fs_and_rclone_are_understood() {
    let posix = read_user(&[("mode", "33261"), ("uid", "1"), ("gid", "2"), ("mtime", "1500000000.5")]);
    assert_eq!((posix.mode, posix.uid, posix.gid), (0o755, 1, 2));
    assert_eq!(posix.mtime, UNIX_EPOCH + Duration::new(1_500_000_000, 500_000_000));
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

#[test]
fn an_object_without_metadata_takes_the_defaults() {
    assert_eq!(read_user(&[]), DEFAULTS.file(version().last_modified));
}
