//! Names: what is allowed, what is kept, what is refused.

use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use tarn_fs::embedded::{EmbeddedCredentials, EmbeddedServer};
use tarn_tests::behaviours;
use tarn_tests::foreign::{self, Foreign};
use tarn_tests::hostile::{self, Bucket};
use tarn_tests::mount::{Mount, MountPlan};
use tarn_tests::server::{ACCESS_KEY, SECRET_KEY};
use tarn_tests::subject::{Subject, private_dir};
use tarn_tests::suite::{Behaviour, On};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    unusual_names_are_kept,
    a_name_of_255_bytes_is_the_longest,
    any_bytes_are_a_name,
);

pub(crate) const TARN: &[Behaviour] = behaviours!(
    On::Tarn,
    a_name_that_is_not_utf8_is_an_encoded_key,
    names_that_the_server_refuses_are_refused_at_once,
    an_object_beside_a_directory_has_a_mark,
    a_tree_of_odd_keys_is_written_renamed_and_removed,
    a_component_over_255_bytes_is_reached_and_not_made,
    the_bytes_of_a_marker_are_a_file_in_its_directory,
    a_hostile_listing_hides_nothing,
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

/// SEMANTICS: "A name over 255 bytes, or a path whose key is over 1,024 bytes, is ENAMETOOLONG at once."
fn a_name_of_255_bytes_is_the_longest(subject: &Subject<'_>) {
    let (longest, longer) = ("x".repeat(255), "x".repeat(256));
    fs::write(subject.path(&longest), b"long").unwrap();
    let error = fs::write(subject.path(&longer), b"longer").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
    let error = fs::create_dir(subject.path(&longer)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
    assert_eq!(fs::read(subject.path(&longest)).unwrap(), b"long");
}

fn any_bytes_are_a_name(subject: &Subject<'_>) {
    let latin = OsStr::from_bytes(b"latin-\xe9");
    let cut = OsStr::from_bytes(b"cut \xf0\x9f");
    let directory = subject.root().join(latin);
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join(latin), b"in latin").unwrap();
    symlink(latin, directory.join("link")).unwrap();
    fs::rename(directory.join(latin), directory.join(cut)).unwrap();
    subject.remount().unwrap();
    let mut names: Vec<_> =
        fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [cut, OsStr::new("link")]);
    assert_eq!(fs::read(directory.join(cut)).unwrap(), b"in latin");
    assert_eq!(fs::read_link(directory.join("link")).unwrap().as_os_str(), latin);
    fs::remove_dir_all(&directory).unwrap();
}

fn a_name_that_is_not_utf8_is_an_encoded_key(subject: &Subject<'_>) {
    let path = subject.root().join(OsStr::from_bytes(b"100% latin-\xe9"));
    fs::write(&path, b"latin").unwrap();
    assert_eq!(subject.bucket().keys().unwrap(), ["%:100%25 latin-%E9"]);
    fs::remove_file(&path).unwrap();
}

/// SEMANTICS: "making a name over 255 bytes, or looking for one that is not there; a key over 1,024 bytes,
/// the mount's prefix included; a component that is too long for the server | ENAMETOOLONG"
/// SEMANTICS: "a key that the server does not take: MinIO takes no empty, `.` or `..` component and no NUL |
/// EINVAL"
fn names_that_the_server_refuses_are_refused_at_once(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    let refused = |result: std::io::Result<()>, expected: Errno, name: &OsStr| {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(expected.raw_os_error()), "{name:?}");
    };
    let long = OsStr::from_bytes(&[0xff; 200]);
    let odd = ["%:.", "%:..", "%:a%00", "%:"].map(|name| (OsStr::new(name), Errno::INVAL));
    for (name, expected) in odd.into_iter().chain([(long, Errno::NAMETOOLONG)]) {
        let path = subject.root().join(name);
        refused(fs::metadata(&path).map(drop), Errno::NOENT, name);
        refused(File::create(&path).map(drop), expected, name);
        refused(fs::create_dir(&path), expected, name);
        refused(fs::rename(subject.path("f"), &path), expected, name);
        refused(symlink("to", &path), expected, name);
        let mut open = File::create(subject.path("open")).unwrap();
        open.write_all(b"still here").unwrap();
        refused(fs::rename(subject.path("open"), &path), expected, name);
    }
    for name in ["%=", "%=none", "%=f"] {
        refused(File::create(subject.path(name)).map(drop), Errno::INVAL, OsStr::new(name));
    }
    assert_eq!(subject.bucket().keys().unwrap(), ["f", "open"]);
}

/// Runs a test on a mount of a server that takes every key, as S3 does; MinIO takes fewer and lists none below an
/// object's own.
fn on_a_server_of_any_key(
    subject: &Subject<'_>,
    test: impl FnOnce(&dyn Fn() -> Mount, &foreign::Bucket<'_>),
) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let scratch = subject.scratch();
    let credentials = EmbeddedCredentials { access_key: ACCESS_KEY.into(), secret_key: SECRET_KEY.into() };
    let server = runtime.block_on(EmbeddedServer::start("odd", &scratch, credentials)).unwrap();
    let client = Foreign::start(&server.endpoint()).unwrap();
    let (dir, cache) = (scratch.join("mnt"), scratch.join("cache"));
    fs::create_dir_all(&dir).unwrap();
    private_dir(&cache).unwrap();
    let source = server.bucket().to_owned();
    let plan = MountPlan { source, endpoint: server.endpoint(), dir, cache, ..subject.plan().clone() };
    let mount = || {
        fs::remove_dir_all(&plan.cache).unwrap();
        private_dir(&plan.cache).unwrap();
        plan.mount().unwrap()
    };
    test(&mount, &client.bucket(server.bucket()));
    runtime.block_on(server.stop());
}

/// SEMANTICS: "`%=name` is read, written, renamed and removed like any file."
fn an_object_beside_a_directory_has_a_mark(subject: &Subject<'_>) {
    on_a_server_of_any_key(subject, |mounted, bucket| {
        bucket.put("a", b"object").unwrap();
        bucket.put("a/b", b"below").unwrap();
        let mount = mounted();
        let path = |name: &str| mount.dir().join(name);
        assert_eq!(fs::read(path("a/b")).unwrap(), b"below", "found by its path alone");
        assert_eq!(names_in(mount.dir()), ["%=a", "a"]);
        assert_eq!(fs::read(path("%=a")).unwrap(), b"object");
        fs::write(path("%=a"), b"changed").unwrap();
        assert_eq!(bucket.get("a").unwrap(), b"changed");
        fs::rename(path("%=a"), path("away")).unwrap();
        assert_eq!(bucket.get("away").unwrap(), b"changed");
        fs::rename(path("away"), path("%=a")).unwrap();
        let taken = fs::create_dir(path("a")).unwrap_err();
        assert_eq!(taken.raw_os_error(), Some(Errno::EXIST.raw_os_error()));
        fs::remove_dir_all(path("a")).unwrap();
        assert_eq!(fs::read(path("a")).unwrap(), b"changed", "it has the name for itself");
        assert_eq!(names_in(mount.dir()), ["a"]);
        mount.unmount().unwrap();
        assert_eq!(bucket.keys().unwrap(), ["a"]);
    });
}

fn a_tree_of_odd_keys_is_written_renamed_and_removed(subject: &Subject<'_>) {
    on_a_server_of_any_key(subject, |mounted, bucket| {
        let mount = mounted();
        let root = mount.dir().join("%:");
        let names = ["%:.", "%:..", "%:nul%00", "%:%25:..", "%:plain", "new\nline", "plain"];
        for directory in ["", "%:", "%:..", "x"] {
            fs::create_dir(root.join(directory)).unwrap();
            for name in names.iter().filter(|name| directory == "x" || **name != "%:..") {
                fs::write(root.join(directory).join(name), name).unwrap();
            }
        }
        mount.unmount().unwrap();
        let mut keys = bucket.keys().unwrap();
        keys.retain(|key| key.starts_with("/x/"));
        assert_eq!(keys.len(), names.len() + 1);
        assert_eq!(bucket.get("/x/..").unwrap(), b"%:..");
        assert_eq!(bucket.get("//nul\0").unwrap(), b"%:nul%00");
        let mount = mounted();
        let (root, moved) = (mount.dir().join("%:"), mount.dir().join("moved"));
        fs::rename(&root, &moved).unwrap();
        assert_eq!(names_in(&moved.join("x")).len(), names.len());
        for name in names {
            assert_eq!(fs::read_to_string(moved.join("x").join(name)).unwrap(), name);
        }
        assert_eq!(bucket.get("moved//nul\0").unwrap(), b"%:nul%00");
        fs::remove_dir_all(&moved).unwrap();
        mount.unmount().unwrap();
        assert_eq!(bucket.keys().unwrap(), [""; 0]);
    });
}

/// SEMANTICS: "making a name over 255 bytes, or looking for one that is not there; a key over 1,024 bytes,
/// the mount's prefix included; a component that is too long for the server | ENAMETOOLONG"
/// SEMANTICS: "A component of 256 to 1,024 bytes that another client made is read, written, renamed and
/// removed like any other."
fn a_component_over_255_bytes_is_reached_and_not_made(subject: &Subject<'_>) {
    on_a_server_of_any_key(subject, |mounted, bucket| {
        let (file, directory, other) = ("f".repeat(600), "d".repeat(300), "o".repeat(256));
        bucket.put(&format!("{directory}/{file}"), b"far").unwrap();
        bucket.put(&file, b"near").unwrap();
        let mount = mounted();
        let root = mount.dir();
        assert_eq!(names_in(root), [directory.clone(), file.clone()]);
        assert_eq!(names_in(&root.join(&directory)), std::slice::from_ref(&file));
        assert_eq!(fs::read(root.join(&directory).join(&file)).unwrap(), b"far");
        fs::write(root.join(&file), b"written in place").unwrap();
        fs::set_permissions(root.join(&file), fs::Permissions::from_mode(0o600)).unwrap();
        for refused in [
            fs::write(root.join(&other), b"").unwrap_err(),
            fs::create_dir(root.join(&other)).unwrap_err(),
            symlink("target", root.join(&other)).unwrap_err(),
            fs::rename(root.join(&file), root.join(&other)).unwrap_err(),
            fs::metadata(root.join(&other)).unwrap_err(),
            fs::remove_file(root.join(&other)).unwrap_err(),
        ] {
            assert_eq!(refused.raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
        }
        fs::rename(root.join(&file), root.join("short")).unwrap();
        assert_eq!(bucket.get("short").unwrap(), b"written in place");
        fs::rename(root.join(&directory), root.join("tree")).unwrap();
        assert_eq!(bucket.get(&format!("tree/{file}")).unwrap(), b"far");
        fs::remove_dir_all(root.join("tree")).unwrap();
        fs::remove_file(root.join("short")).unwrap();
        mount.unmount().unwrap();
        assert_eq!(bucket.keys().unwrap(), [""; 0]);
    });
}

fn the_bytes_of_a_marker_are_a_file_in_its_directory(subject: &Subject<'_>) {
    subject.bucket().put("d/", b"bytes").unwrap();
    assert_eq!(names(subject, "d"), ["%="]);
    assert_eq!(fs::read(subject.path("d/%=")).unwrap(), b"bytes");
    fs::write(subject.path("d/%="), b"other bytes").unwrap();
    fs::set_permissions(subject.path("d"), fs::Permissions::from_mode(0o750)).unwrap();
    assert_eq!(subject.bucket().get("d/").unwrap(), b"other bytes");
    let busy = fs::remove_dir(subject.path("d")).unwrap_err();
    assert_eq!(busy.raw_os_error(), Some(Errno::NOTEMPTY.raw_os_error()));
    fs::remove_file(subject.path("d/%=")).unwrap();
    assert_eq!(subject.bucket().get("d/").unwrap(), b"");
    assert_eq!(fs::metadata(subject.path("d")).unwrap().mode() & 0o7777, 0o750);
}

/// SEMANTICS: "What cannot be shown is left out, counted, and logged once for each directory; it hides
/// nothing else, and a directory that holds such a key is not empty."
/// SEMANTICS: "It is: a key that is not UTF-8 or longer than 1,024 bytes, since it cannot be asked for; and a
/// component whose file name would be over 1,024 bytes once it is encoded, which is more than the kernel
/// takes."
/// SEMANTICS: "A directory with keys that cannot be asked for is not renamed (EPERM)."
fn a_hostile_listing_hides_nothing(subject: &Subject<'_>) {
    let keys = vec![
        "zz-first",
        "one%01",
        "new%0Aline",
        "cdata%5D%5D%3E",
        "nul%00",
        "bad%zz",
        "cut%4",
        "..",
        "../up",
        "a/../b",
        "a/b",
        "a",
        "a",
        "//",
        "/lead",
        "%FF",
        "latin/%E9",
        "latin/",
        "latin/ok",
        "sibling",
        // A key that is too long to be asked for, and one whose name would be.
        "k".repeat(1025).leak(),
        "%00".repeat(400).leak(),
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for page in [0, 1, 3] {
        let bucket = Bucket {
            keys: keys.clone(),
            stray_keys: vec!["outside/the/prefix", "d"],
            stray_prefixes: vec!["elsewhere/", "no-slash", "deep/er/"],
            page,
        };
        let server = runtime.block_on(hostile::start(bucket)).unwrap();
        let (dir, cache) = (subject.scratch().join("mnt"), subject.scratch().join("cache"));
        fs::create_dir_all(&dir).unwrap();
        private_dir(&cache).unwrap();
        let plan = MountPlan { endpoint: server.endpoint(), dir, cache, ..subject.plan().clone() };
        let mount = plan.mount().unwrap();
        // Of a directory that is larger than a page, a look-up alone does not learn what is beside an object; and this
        // server's pages have no order, so that only the whole of the first reading tells.
        for _ in 0..if page == 0 { 0 } else { 2 } {
            assert!(fs::read_dir(mount.dir()).unwrap().count() > 0);
        }
        check_hostile(mount.dir());
        mount.unmount().unwrap();
        fs::remove_dir_all(subject.scratch()).unwrap();
    }
}

/// What the hostile bucket shows: every key that can be asked for, by its name and with its bytes.
fn check_hostile(root: &Path) {
    let files = [
        ("zz-first", "zz-first"),
        ("one\u{1}", "one%01"),
        ("new\nline", "new%0Aline"),
        ("cdata]]>", "cdata%5D%5D%3E"),
        ("%:nul%00", "nul%00"),
        ("bad%zz", "bad%zz"),
        ("cut%4", "cut%4"),
        ("%=%:..", ".."),
        ("%:../up", "../up"),
        ("a/%:../b", "a/../b"),
        ("a/b", "a/b"),
        ("%=a", "a"),
        ("%:/%:/%=", "//"),
        ("%:/lead", "/lead"),
        ("latin/%=", "latin/"),
        ("latin/ok", "latin/ok"),
        ("sibling", "sibling"),
    ];
    for (path, body) in files {
        assert_eq!(
            fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path:?}: {e}")),
            body,
            "{path:?} by its path"
        );
    }
    let mut shown: Vec<&str> = files.iter().map(|(path, _)| path.split('/').next().unwrap()).collect();
    // What the server adds to every listing is there by name only.
    shown.extend(["d", "elsewhere"]);
    shown.sort_unstable();
    shown.dedup();
    let mut listed = names_in(root);
    listed.dedup();
    assert_eq!(listed, shown);
    assert_eq!(names_in(&root.join("latin")), ["%=", "ok"]);
    for (path, body) in files {
        assert_eq!(fs::read_to_string(root.join(path)).unwrap(), body, "{path:?} after the listing");
    }
    let stays = fs::rename(root.join("latin"), root.join("moved")).unwrap_err();
    assert_eq!(stays.raw_os_error(), Some(Errno::PERM.raw_os_error()), "it holds a key that is not UTF-8");
}

fn names(subject: &Subject<'_>, directory: &str) -> Vec<String> {
    names_in(&subject.path(directory))
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// SEMANTICS: "making a name over 255 bytes, or looking for one that is not there; a key over 1,024 bytes,
/// the mount's prefix included; a component that is too long for the server | ENAMETOOLONG"
/// SEMANTICS: "A name over 255 bytes, or a path whose key is over 1,024 bytes, is ENAMETOOLONG at once."
fn a_path_over_the_key_limit_is_refused(subject: &Subject<'_>) {
    let deep = ["d".repeat(240), "e".repeat(240), "f".repeat(240), "g".repeat(240)].join("/");
    fs::create_dir_all(subject.path(&deep)).unwrap();
    fs::write(subject.path(&deep).join("h".repeat(60)), b"1,024 bytes").unwrap();
    let error = fs::write(subject.path(&deep).join("h".repeat(61)), b"1,025 bytes").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
}

/// SEMANTICS: "A key is cut at its slashes, and each component is a file name of the same text."
fn unusual_names_are_the_same_keys(subject: &Subject<'_>) {
    for name in UNUSUAL {
        fs::write(subject.path(name), name).unwrap();
    }
    for name in UNUSUAL {
        assert_eq!(subject.bucket().get(name).unwrap(), name.as_bytes(), "{name:?}");
    }
}
