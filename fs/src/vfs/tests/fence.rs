//! A server carries out what it has received, also for a worker that is dead.

use super::faulty::Fault;
use super::takeover::{RENAME, Workers, write_new};
use super::*;
use crate::meta::Kind;

/// A file in a directory, whose upload is under way when its worker is killed; the next worker, and the directory.
async fn killed_while_uploading(workers: &Workers) -> (Arc<Vfs>, Ino) {
    let vfs = workers.first();
    let dir = vfs.mkdir(Ino::ROOT, OsStr::new("d"), 0o755, CALLER).await.expect("mkdir").attr.ino;
    let fh = write_new(&vfs, (dir, "f"), WRITE, b"body").await;
    vfs.log.flush();
    workers.store.plan(0, Fault::Stray);
    vfs.fsync(fh).await.expect_err("killed");
    let next = workers.next(&workers.open_log().1).await;
    next.release(fh).await.expect("release");
    (next, dir)
}

/// MinIO carries out a PUT that it has received, also if its sender is gone.
#[tokio::test]
async fn an_upload_of_a_killed_worker_brings_no_removed_file_back() {
    for look in ["rmdir", "lookup", "create", "readdir", "another worker"] {
        let workers = Workers::new();
        let (mut vfs, dir) = killed_while_uploading(&workers).await;
        let unlink = async |vfs: &Vfs, resent| {
            Call { op: "unlink", resent, ..RENAME }.during(vfs.unlink(dir, OsStr::new("f"))).await
        };
        unlink(&vfs, false).await.expect("unlink");
        if look == "another worker" {
            // This one was killed before it could answer.
            let another = workers.worker(Arc::clone(&workers.store), "cache-of-another");
            another.restore(&workers.open_log().1).expect("restore");
            workers.store.set_down(false);
            unlink(&another, true).await.expect("it is gone");
            vfs = another;
        }
        assert_eq!(workers.store.arrive().await, [false]);
        assert!(workers.object("d/f").await.is_some(), "it has come back");
        match look {
            "lookup" => {
                let found = vfs.lookup(dir, OsStr::new("f")).await;
                assert!(matches!(found, Err(Error::NotFound)), "{found:?}");
            }
            "create" => {
                let made = vfs.mknod(dir, OsStr::new("f"), Kind::File, 0o644, CALLER).await;
                made.expect("the name is free");
                assert_eq!(workers.object("d/f").await.as_deref(), Some(&b""[..]));
                vfs.unlink(dir, OsStr::new("f")).await.expect("unlink");
            }
            "readdir" => assert_eq!(names(&vfs, "d").await, [""; 0]),
            _ => {}
        }
        vfs.rmdir(Ino::ROOT, OsStr::new("d")).await.expect("it is empty");
        assert_eq!(workers.object("d/f").await, None, "{look}");
    }
}

#[tokio::test]
async fn what_is_put_under_a_removed_name_stays() {
    for who in ["another client", "one that moves it back", "this mount", "a rename"] {
        let workers = Workers::new();
        let (vfs, dir) = killed_while_uploading(&workers).await;
        let f = OsStr::new("f");
        let other = "moved";
        if who == "one that moves it back" {
            assert!(vfs.drain().await.failed.is_empty());
            vfs.rename((dir, f), (Ino::ROOT, OsStr::new(other)), RenameMode::Replace).await.expect("rename");
        } else if who == "a rename" {
            assert!(vfs.drain().await.failed.is_empty());
            let there_and_back = [((dir, f), (Ino::ROOT, f)), ((Ino::ROOT, f), (dir, f))];
            for (from, to) in there_and_back {
                vfs.rename(from, to, RenameMode::Replace).await.expect("rename");
            }
        } else {
            vfs.unlink(dir, f).await.expect("unlink");
        }
        match who {
            "another client" => {
                let (key, body, headers) = (parse("d/f"), Bytes::from_static(b"body"), Headers::default());
                workers.store.inner.put(&key, body, &headers, Condition::Absent).await.expect("put");
            }
            "one that moves it back" => workers.copy(other, "d/f").await,
            "this mount" => {
                let fh = write_new(&vfs, (dir, "f"), WRITE, b"body").await;
                vfs.fsync(fh).await.expect("fsync");
                vfs.release(fh).await.expect("release");
            }
            _ => {}
        }
        assert_eq!(workers.store.arrive().await, [true], "{who}: it is refused");
        assert_eq!(names(&vfs, "d").await, ["f"]);
        let removed = vfs.rmdir(Ino::ROOT, OsStr::new("d")).await;
        assert!(matches!(removed, Err(Error::NotEmpty)), "{who}: {removed:?}");
        assert_eq!(workers.object("d/f").await.as_deref(), Some(&b"body"[..]), "{who}");
    }
}
