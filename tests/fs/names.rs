//! Names: what is allowed, what is kept, what is refused.

use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use tarn_tests::behaviours;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};

pub(crate) const ALL: &[Behaviour] =
    behaviours!(On::EveryFileSystem, unusual_names_are_kept, a_name_of_255_bytes_is_the_longest);

pub(crate) const TARN: &[Behaviour] = behaviours!(
    On::Tarn,
    a_name_that_is_not_utf8_is_refused,
    a_path_over_the_key_limit_is_refused,
    unusual_names_are_the_same_keys,
);

const UNUSUAL: &[&str] = &[
    "with space",
    " leading and trailing ",
    "ünïcödé-名前-🏔",
    "e\u{301} decomposed",
    "percent%20sign",
    "plus+and&and=and?and#",
    "quote'\"`$(x)",
    "back\\slash",
    "semi;colon,comma:colon",
    "<xml>&amp;",
    "-dash",
    ".hidden",
    "..two dots",
    "dots.",
    "star*[x]{y}~!@^|",
];

fn unusual_names_are_kept(subject: &Subject<'_>) {
    for name in UNUSUAL {
        fs::create_dir(subject.path(name)).unwrap_or_else(|error| panic!("{name:?}: {error}"));
        fs::write(subject.path(name).join(name), name).unwrap_or_else(|error| panic!("{name:?}: {error}"));
    }
    subject.remount().unwrap();
    for name in UNUSUAL {
        assert_eq!(fs::read_to_string(subject.path(name).join(name)).unwrap(), **name, "{name:?}");
    }
    let listed = fs::read_dir(subject.root()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut listed: Vec<String> = listed.collect();
    let mut expected = UNUSUAL.to_vec();
    listed.sort();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    for name in UNUSUAL {
        fs::rename(subject.path(name).join(name), subject.path(name).join("plain")).unwrap();
        fs::remove_file(subject.path(name).join("plain")).unwrap();
        fs::remove_dir(subject.path(name)).unwrap();
    }
    assert_eq!(fs::read_dir(subject.root()).unwrap().count(), 0);
}

fn a_name_of_255_bytes_is_the_longest(subject: &Subject<'_>) {
    let (longest, longer) = ("x".repeat(255), "x".repeat(256));
    fs::write(subject.path(&longest), b"long").unwrap();
    let error = fs::write(subject.path(&longer), b"longer").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
    let error = fs::create_dir(subject.path(&longer)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
    assert_eq!(fs::read(subject.path(&longest)).unwrap(), b"long");
}

fn a_name_that_is_not_utf8_is_refused(subject: &Subject<'_>) {
    let path = subject.root().join(OsStr::from_bytes(b"latin-\xe9"));
    let illegal = Some(Errno::ILSEQ.raw_os_error());
    assert_eq!(File::create(&path).unwrap_err().raw_os_error(), illegal);
    assert_eq!(fs::create_dir(&path).unwrap_err().raw_os_error(), illegal);
    fs::write(subject.path("f"), b"f").unwrap();
    assert_eq!(fs::rename(subject.path("f"), &path).unwrap_err().raw_os_error(), illegal);
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"f");
}

fn a_path_over_the_key_limit_is_refused(subject: &Subject<'_>) {
    let deep = ["d".repeat(240), "e".repeat(240), "f".repeat(240), "g".repeat(240)].join("/");
    fs::create_dir_all(subject.path(&deep)).unwrap();
    fs::write(subject.path(&deep).join("h".repeat(60)), b"1,024 bytes").unwrap();
    let error = fs::write(subject.path(&deep).join("h".repeat(61)), b"1,025 bytes").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
}

fn unusual_names_are_the_same_keys(subject: &Subject<'_>) {
    for name in UNUSUAL {
        fs::write(subject.path(name), name).unwrap();
    }
    for name in UNUSUAL {
        assert_eq!(subject.bucket().get(name).unwrap(), name.as_bytes(), "{name:?}");
    }
}
