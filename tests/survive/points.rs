//! A worker dies between doing what it was asked and saying so: `done` before the session log knows, `logged`
//! after. Every program still sees its call succeed once.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tarn_tests::behaviours;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::Tarn,
    mkdir_is_done_once,
    an_exclusive_create_is_done_once,
    a_create_is_done_once,
    an_open_is_done_once,
    a_symlink_is_made_once,
    an_unlink_is_done_once,
    an_rmdir_is_done_once,
    a_rename_is_done_once,
    a_rename_without_replacing_is_done_once,
    a_rename_of_a_directory_is_done_once,
    an_exchange_is_not_undone,
    a_change_of_mode_is_done_once,
    attributes_are_changed_once,
    a_write_and_a_close_are_done_once,
    what_is_written_while_a_commit_is_forgotten_is_no_conflict,
    what_is_refused_stays_refused,
);

/// Runs `work` on mounts whose worker dies at each of the points of `op`.
fn at(subject: &Subject<'_>, op: &str, work: impl Fn(&Path)) {
    for point in ["done", "logged"] {
        subject.take_mount().unmount().unwrap();
        let plan = subject.plan().clone().with_env("TARN_FAILPOINT", &format!("{point}:{op}"));
        subject.give_mount(plan.mount().unwrap());
        let dir = subject.path(point);
        if op != "mkdir" {
            fs::create_dir(&dir).unwrap();
            work(&dir);
        } else {
            work(subject.root());
            fs::rename(subject.path("d"), &dir).unwrap();
        }
        let mount = subject.take_mount();
        assert!(
            mount.log().contains("killed at a failpoint"),
            "{point}:{op} was not reached: {}",
            mount.log()
        );
        subject.give_mount(mount);
    }
}

fn mkdir_is_done_once(subject: &Subject<'_>) {
    at(subject, "mkdir", |dir| {
        fs::create_dir(dir.join("d")).unwrap();
        assert!(fs::create_dir(dir.join("d")).is_err());
        fs::write(dir.join("d/f"), b"in it").unwrap();
    });
}

fn an_exclusive_create_is_done_once(subject: &Subject<'_>) {
    at(subject, "create", |dir| {
        drop(File::create_new(dir.join("f")).unwrap());
        assert!(File::create_new(dir.join("f")).is_err());
    });
}

fn a_create_is_done_once(subject: &Subject<'_>) {
    at(subject, "create", |dir| {
        fs::write(dir.join("f"), b"content").unwrap();
        assert_eq!(fs::read(dir.join("f")).unwrap(), b"content");
    });
}

fn an_open_is_done_once(subject: &Subject<'_>) {
    at(subject, "open", |dir| {
        fs::write(dir.join("f"), b"content").unwrap();
        assert_eq!(fs::read(dir.join("f")).unwrap(), b"content");
        fs::write(dir.join("f"), b"other").unwrap();
        assert_eq!(fs::read(dir.join("f")).unwrap(), b"other");
    });
}

fn a_symlink_is_made_once(subject: &Subject<'_>) {
    at(subject, "symlink", |dir| {
        symlink("target", dir.join("l")).unwrap();
        assert_eq!(fs::read_link(dir.join("l")).unwrap(), Path::new("target"));
    });
}

fn an_unlink_is_done_once(subject: &Subject<'_>) {
    at(subject, "unlink", |dir| {
        fs::write(dir.join("f"), b"content").unwrap();
        fs::remove_file(dir.join("f")).unwrap();
        assert!(!dir.join("f").exists());
    });
}

fn an_rmdir_is_done_once(subject: &Subject<'_>) {
    at(subject, "rmdir", |dir| {
        fs::create_dir(dir.join("d")).unwrap();
        fs::remove_dir(dir.join("d")).unwrap();
        assert!(!dir.join("d").exists());
    });
}

fn a_rename_is_done_once(subject: &Subject<'_>) {
    at(subject, "rename", |dir| {
        fs::write(dir.join("a"), b"first").unwrap();
        fs::write(dir.join("b"), b"second").unwrap();
        fs::rename(dir.join("a"), dir.join("b")).unwrap();
        assert!(!dir.join("a").exists());
        assert_eq!(fs::read(dir.join("b")).unwrap(), b"first");
        let open = File::create(dir.join("c")).unwrap();
        fs::rename(dir.join("c"), dir.join("d")).unwrap();
        drop(open);
        assert!(dir.join("d").exists() && !dir.join("c").exists());
    });
}

fn a_rename_without_replacing_is_done_once(subject: &Subject<'_>) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    at(subject, "rename", |dir| {
        fs::write(dir.join("a"), b"first").unwrap();
        let rename = |from: &str, to: &str| {
            renameat_with(CWD, dir.join(from), CWD, dir.join(to), RenameFlags::NOREPLACE)
        };
        rename("a", "b").unwrap();
        fs::write(dir.join("a"), b"second").unwrap();
        rename("a", "b").unwrap_err();
        assert_eq!(fs::read(dir.join("b")).unwrap(), b"first");
    });
}

fn a_rename_of_a_directory_is_done_once(subject: &Subject<'_>) {
    at(subject, "rename", |dir| {
        fs::create_dir_all(dir.join("a/b")).unwrap();
        fs::write(dir.join("a/b/f"), b"content").unwrap();
        fs::rename(dir.join("a"), dir.join("z")).unwrap();
        assert!(!dir.join("a").exists());
        assert_eq!(fs::read(dir.join("z/b/f")).unwrap(), b"content");
    });
}

fn an_exchange_is_not_undone(subject: &Subject<'_>) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    at(subject, "rename", |dir| {
        fs::write(dir.join("a"), b"first").unwrap();
        fs::write(dir.join("b"), b"second").unwrap();
        renameat_with(CWD, dir.join("a"), CWD, dir.join("b"), RenameFlags::EXCHANGE).unwrap();
        assert_eq!(fs::read(dir.join("a")).unwrap(), b"second");
        assert_eq!(fs::read(dir.join("b")).unwrap(), b"first");
    });
}

fn a_change_of_mode_is_done_once(subject: &Subject<'_>) {
    use std::os::unix::fs::PermissionsExt;
    at(subject, "setattr", |dir| {
        fs::write(dir.join("f"), b"content").unwrap();
        fs::set_permissions(dir.join("f"), fs::Permissions::from_mode(0o600)).unwrap();
        File::options().write(true).open(dir.join("f")).unwrap().set_len(3).unwrap();
        let meta = fs::metadata(dir.join("f")).unwrap();
        assert_eq!((meta.permissions().mode() & 0o777, meta.len()), (0o600, 3));
    });
}

fn attributes_are_changed_once(subject: &Subject<'_>) {
    use rustix::fs::{XattrFlags, getxattr, removexattr, setxattr};
    let name = CString::new("user.a").unwrap();
    for op in ["setxattr", "removexattr"] {
        at(subject, op, |dir| {
            let path = dir.join("f");
            fs::write(&path, b"content").unwrap();
            setxattr(&path, &name, b"value", XattrFlags::CREATE).unwrap();
            setxattr(&path, &name, b"other", XattrFlags::CREATE).unwrap_err();
            let mut value = [0; 16];
            assert_eq!(getxattr(&path, &name, &mut value).unwrap(), 5);
            removexattr(&path, &name).unwrap();
            removexattr(&path, &name).unwrap_err();
            fs::remove_dir_all(dir).unwrap();
        });
    }
}

fn a_write_and_a_close_are_done_once(subject: &Subject<'_>) {
    for op in ["flush", "release", "opendir", "lookup"] {
        at(subject, op, |dir| {
            fs::write(dir.join("f"), b"content").unwrap();
            fs::write(dir.join("g"), b"more").unwrap();
            assert_eq!(fs::read_dir(dir).unwrap().count(), 2);
            assert_eq!(fs::read(dir.join("f")).unwrap(), b"content");
            // The last close is told of later, and the next point begins with a new mount.
            fs::remove_dir_all(dir).unwrap();
        });
    }
}

/// The bucket has the bytes of a moment ago, and the log does not know it.
fn what_is_written_while_a_commit_is_forgotten_is_no_conflict(subject: &Subject<'_>) {
    at(subject, "flush", |dir| {
        let file = File::create(dir.join("f")).unwrap();
        file.write_all_at(&0_u64.to_le_bytes(), 0).unwrap();
        let closed = AtomicBool::new(false);
        let last = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                (1_u64..).find(|round| {
                    file.write_all_at(&round.to_le_bytes(), 0).unwrap();
                    closed.load(Ordering::Relaxed)
                })
            });
            let close = nix::unistd::close(file.try_clone().unwrap());
            closed.store(true, Ordering::Relaxed);
            close.unwrap();
            writer.join().unwrap().unwrap()
        });
        file.sync_all().unwrap();
        drop(file);
        assert_eq!(fs::read(dir.join("f")).unwrap(), last.to_le_bytes());
        assert_eq!(fs::read_dir(dir).unwrap().count(), 1, "no conflict");
    });
}

fn what_is_refused_stays_refused(subject: &Subject<'_>) {
    at(subject, "rmdir", |dir| {
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/f"), b"x").unwrap();
        assert!(fs::remove_dir(dir.join("d")).is_err());
        assert!(fs::remove_dir(dir.join("missing")).is_err());
        fs::remove_file(dir.join("d/f")).unwrap();
        fs::remove_dir(dir.join("d")).unwrap();
    });
}
