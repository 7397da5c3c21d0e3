//! Every request of a scenario fails in turn, in every way: what was acknowledged is in the bucket in the end, byte
//! for byte, and nothing is left behind.

use super::faulty::{Fault, FaultyStore, copy_dir};
use super::*;
use crate::clock::{self, simulated};
use crate::journal::{Record, State};
use crate::store::{Depth, ErrorKind, ListRequest, PartKinds, PartSource};
use crate::write::Progress;
use std::collections::BTreeMap;
use std::path::Path;

/// Small parts, so that little data makes many.
const PART: u64 = tarn_cache::BLOCK_SIZE;

type Files = BTreeMap<String, Option<Vec<u8>>>;

/// What must be in the bucket: what was acknowledged last or, for what was under way, what it was to become.
#[derive(Debug)]
struct Promises {
    kept: Files,
    tried: Files,
}

impl Promises {
    /// An operation that is to make these files; what it said decides what it has promised.
    fn step(&mut self, files: &[(&str, Option<&[u8]>)], store: &FaultyStore, said: Result<()>) -> bool {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.map(<[u8]>::to_vec)));
        // What is answered after the death of the process is an answer to nobody.
        let acknowledged = said.is_ok() && !store.is_hit();
        if acknowledged {
            self.kept.extend(files)
        } else {
            self.tried.extend(files)
        }
        acknowledged
    }

    async fn check(&self, bucket: &MemoryStore, context: &str) {
        for name in self.kept.keys().chain(self.tried.keys()) {
            let found = object(bucket, name).await;
            let kept = self.kept.get(name).cloned().flatten();
            let tried = self.tried.get(name);
            let show = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(Vec::len);
            assert!(
                found == kept || tried.is_some_and(|tried| *tried == found),
                "{context}: {name} has {:?} bytes, promised {:?}, tried {:?}",
                show(&found),
                show(&kept),
                tried.map(show),
            );
        }
    }
}

fn mounted(store: &Arc<FaultyStore>, cache: &Path, commit: Commit) -> Arc<Vfs> {
    mount_with(Arc::clone(store) as Arc<dyn ObjectStore>, cache, None, |options| {
        options.commit = commit;
        options.part_size = PART;
    })
}

const LATER: Commit = Commit::Async { max_bytes: 1 << 30, max_age: Duration::from_secs(3600) };

async fn write(vfs: &Arc<Vfs>, name: &str, at: u64, body: &[u8], truncate: bool) -> Result<()> {
    let flags = OpenFlags { truncate, ..WRITE };
    let (parent, last) = split(vfs, name).await?;
    let (entry, opened) = vfs.create(parent, OsStr::new(last), 0o644, CALLER, flags, false).await?;
    let written = async {
        vfs.write(opened.fh, at, body)?;
        vfs.flush(opened.fh).await
    };
    let written = written.await;
    let released = vfs.release(opened.fh).await;
    vfs.forget(entry.attr.ino, 1);
    written.and(released)
}

async fn split<'a>(vfs: &Arc<Vfs>, path: &'a str) -> Result<(Ino, &'a str)> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    Ok((lookup(vfs, directory).await?, name))
}

async fn rename(vfs: &Arc<Vfs>, from: &str, to: &str) -> Result<()> {
    let (from, to) = (split(vfs, from).await?, split(vfs, to).await?);
    vfs.rename((from.0, OsStr::new(from.1)), (to.0, OsStr::new(to.1)), RenameMode::Replace).await
}

fn bytes(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 251) as u8 ^ (at as u8).wrapping_mul(seed)).collect()
}

/// What is done while requests fail.
#[derive(Debug, Clone, Copy)]
enum Scenario {
    /// Files of one request and of many, a rename over another, a directory, a removal.
    Files,
    /// A change of a large object.
    Layer,
}

impl Scenario {
    /// Whether it came to its end.
    async fn run(self, vfs: &Arc<Vfs>, store: &FaultyStore, promises: &mut Promises) -> bool {
        match self {
            Self::Files => files(vfs, store, promises).await,
            Self::Layer => {
                let mut changed = large();
                changed[100..103].copy_from_slice(b"NEW");
                let said = write(vfs, "large", 100, b"NEW", false).await;
                promises.step(&[("large", Some(&changed))], store, said)
            }
        }
    }

    async fn bucket(self) -> Arc<MemoryStore> {
        let options = MemoryOptions { min_part_size: PART, ..MemoryOptions::default() };
        let bucket = MemoryStore::with_options(options);
        if let Self::Layer = self {
            let headers = Headers::default();
            bucket.put(&parse("large"), large().into(), &headers, Condition::Always).await.expect("put");
        }
        Arc::new(bucket)
    }

    fn promises(self) -> Promises {
        let kept = match self {
            Self::Files => Files::new(),
            Self::Layer => [("large".to_owned(), Some(large()))].into(),
        };
        Promises { kept, tried: Files::new() }
    }
}

fn large() -> Vec<u8> {
    bytes(7, 9 << 20)
}

async fn files(vfs: &Arc<Vfs>, store: &FaultyStore, promises: &mut Promises) -> bool {
    let (small, parts, second) = (bytes(3, 1000), bytes(5, 5 * PART as usize + 7), bytes(9, 2000));
    for (name, body, truncate) in [
        ("small", &small[..], false),
        ("parts", &parts, false),
        ("small", &second, true),
        ("temporary", b"saved", false),
    ] {
        let said = write(vfs, name, 0, body, truncate).await;
        if !promises.step(&[(name, Some(body))], store, said) {
            return false;
        }
    }
    let said = rename(vfs, "temporary", "small").await;
    if !promises.step(&[("temporary", None), ("small", Some(b"saved"))], store, said) {
        return false;
    }
    let said = vfs.mkdir(Ino::ROOT, OsStr::new("d"), 0o755, CALLER).await.map(|_| ());
    if !promises.step(&[("d/", Some(b""))], store, said) {
        return false;
    }
    let said = write(vfs, "d/inner", 0, b"inner", false).await;
    if !promises.step(&[("d/inner", Some(b"inner"))], store, said) {
        return false;
    }
    let said = rename(vfs, "d", "e").await;
    let moved: [(&str, Option<&[u8]>); 4] =
        [("d/", None), ("d/inner", None), ("e/", Some(b"")), ("e/inner", Some(b"inner"))];
    if !promises.step(&moved, store, said) {
        return false;
    }
    let said = vfs.unlink(Ino::ROOT, OsStr::new("parts")).await;
    promises.step(&[("parts", None)], store, said)
}

/// Conflict copies and other things that nobody made.
async fn strangers(bucket: &MemoryStore) -> Vec<String> {
    let request = ListRequest::new(Prefix::default(), Depth::Subtree, 1000);
    let page = bucket.list(request).await.expect("list");
    let known = ["small", "parts", "large", "temporary", "d/", "d/inner", "e/", "e/inner"];
    let keys = page.objects.into_iter().map(|object| object.key.as_str().to_owned());
    keys.filter(|key| !known.contains(&key.as_str())).collect()
}

/// Runs the scenario with a process that dies at request `number`. False if it never came to that.
async fn dies_at(number: usize, fault: Fault, commit: Commit, scenario: Scenario) -> bool {
    let context = format!("{scenario:?}: {fault:?} at request {number}, {commit:?}");
    let home = tempfile::tempdir().expect("a folder");
    let bucket = scenario.bucket().await;
    let dying = FaultyStore::new(Arc::clone(&bucket), home.path());
    let vfs = mounted(&dying, &home.path().join("cache"), commit);
    dying.plan(number, fault);
    let mut promises = scenario.promises();
    let through = scenario.run(&vfs, &dying, &mut promises).await;
    if through {
        assert!(vfs.drain().await.failed.is_empty() || dying.is_hit(), "{context}");
    }
    let died = dying.is_hit();
    let image = if died { home.path().join("image") } else { home.path().join("cache") };
    // The dead process holds its locks on the original, not on the copy.
    let next = FaultyStore::new(Arc::clone(&bucket), home.path());
    if died {
        // The next one is killed in the middle of its recovery, and once more is harmless.
        let second = mounted(&next, &image, commit);
        next.set_down(true);
        if let Ok(recovered) = second.recover().await {
            assert!(recovered.uploading <= 6, "{context}: {recovered:?}");
        }
        let gone = Arc::downgrade(&second);
        drop(second);
        // An attempt under way holds on to it for a moment.
        while gone.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }
    let next = FaultyStore::new(Arc::clone(&bucket), home.path());
    let third = mounted(&next, &image, commit);
    third.recover().await.expect("recovery");
    let report = third.drain().await;
    assert!(report.failed.is_empty(), "{context}: {:?}", report.failed);
    promises.check(&bucket, &context).await;
    assert_eq!(bucket.pending_uploads(), 0, "{context}: an upload is left");
    assert_eq!(strangers(&bucket).await, [""; 0], "{context}");
    died
}

async fn dies_everywhere(fault: Fault, commit: Commit) {
    for (scenario, least) in [(Scenario::Files, 20), (Scenario::Layer, 5)] {
        let mut number = 0;
        while dies_at(number, fault, commit, scenario).await {
            number += 1;
        }
        assert!(number > least, "{scenario:?} has only {number} requests");
    }
}

#[tokio::test]
async fn a_process_that_dies_before_any_request_loses_nothing() {
    dies_everywhere(Fault::DieBefore, Commit::Close).await;
}

#[tokio::test]
async fn a_process_that_dies_after_any_request_loses_nothing() {
    dies_everywhere(Fault::DieAfter, Commit::Close).await;
}

#[tokio::test]
async fn a_process_that_dies_with_a_backlog_before_any_request_loses_nothing() {
    dies_everywhere(Fault::DieBefore, LATER).await;
}

#[tokio::test]
async fn a_process_that_dies_with_a_backlog_after_any_request_loses_nothing() {
    dies_everywhere(Fault::DieAfter, LATER).await;
}

/// One request fails and the process lives on: the operation fails, or it succeeds and has done what it said.
async fn survives(number: usize, fault: Fault, commit: Commit, scenario: Scenario) -> bool {
    let context = format!("{scenario:?}: {fault:?} at request {number}, {commit:?}");
    let home = tempfile::tempdir().expect("a folder");
    let bucket = scenario.bucket().await;
    let store = FaultyStore::new(Arc::clone(&bucket), home.path());
    let vfs = mounted(&store, &home.path().join("cache"), commit);
    store.plan(number, fault);
    let mut promises = scenario.promises();
    scenario.run(&vfs, &store, &mut promises).await;
    let hit = store.is_hit();
    // The fault may also hit the drain.
    vfs.drain().await;
    let report = vfs.drain().await;
    assert!(report.failed.is_empty(), "{context}: {:?}", report.failed);
    promises.check(&bucket, &context).await;
    assert_eq!(bucket.pending_uploads(), 0, "{context}: an upload is left");
    assert_eq!(strangers(&bucket).await, [""; 0], "{context}");
    hit
}

#[tokio::test]
async fn any_request_may_fail_once() {
    for commit in [Commit::Close, LATER] {
        for fault in [Fault::Refuse, Fault::LoseReply] {
            for scenario in [Scenario::Files, Scenario::Layer] {
                let mut number = 0;
                while survives(number, fault, commit, scenario).await {
                    number += 1;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_file_whose_upload_lost_its_answer_is_removed_for_good() {
    for (commit, number) in
        [Commit::Close, LATER].into_iter().flat_map(|commit| (0..6).map(move |n| (commit, n)))
    {
        let home = tempfile::tempdir().expect("a folder");
        let bucket = Scenario::Files.bucket().await;
        let store = FaultyStore::new(Arc::clone(&bucket), home.path());
        let vfs = mounted(&store, &home.path().join("cache"), commit);
        store.plan(number, Fault::LoseReply);
        // It fails, or the drain does, or the fault hits neither.
        drop(write(&vfs, "f", 0, b"content", false).await);
        vfs.drain().await;
        let name = std::ffi::OsStr::new("f");
        let said = match vfs.unlink(Ino::ROOT, name).await {
            Ok(()) | Err(Error::NotFound) => Ok(()),
            // The fault hit the removal.
            Err(_) => vfs.unlink(Ino::ROOT, name).await,
        };
        assert!(matches!(said, Ok(()) | Err(Error::NotFound)), "request {number}, {commit:?}: {said:?}");
        vfs.drain().await;
        assert_eq!(object(&*bucket, "f").await, None, "request {number}, {commit:?}");
    }
}

#[tokio::test]
async fn a_commit_to_a_busy_key_is_sent_again_and_no_conflict() {
    let home = tempfile::tempdir().expect("a folder");
    let bucket = Arc::new(MemoryStore::new());
    let store = FaultyStore::new(Arc::clone(&bucket), home.path());
    let vfs = mounted(&store, &home.path().join("cache"), Commit::Close);
    let made = vfs.create(Ino::ROOT, OsStr::new("f"), 0o644, CALLER, WRITE, false).await;
    let fh = made.expect("a file").1.fh;
    for body in [&b"new"[..], b"replaced"] {
        vfs.write(fh, 0, body).expect("write");
        store.plan(0, Fault::Busy);
        vfs.flush(fh).await.expect("sent again");
        assert!(store.is_hit());
        assert_eq!(object(&*bucket, "f").await.as_deref(), Some(body));
    }
    vfs.release(fh).await.expect("release");
    assert_eq!(names(&vfs, "").await, ["f"]);
}

/// SEMANTICS: "A file whose upload may have arrived is known by it under every name that it had."
#[tokio::test]
async fn a_file_whose_upload_lost_its_answer_leaves_nothing_under_its_old_names() {
    for chain in [&["f", "g"][..], &["f", "g", "h"], &["f", "g", "f"]] {
        let home = tempfile::tempdir().expect("a folder");
        let bucket = Arc::new(MemoryStore::new());
        let store = FaultyStore::new(Arc::clone(&bucket), home.path());
        let vfs = mounted(&store, &home.path().join("cache"), Commit::Close);
        let made = vfs.create(Ino::ROOT, OsStr::new(chain[0]), 0o644, CALLER, WRITE, false).await;
        let fh = made.expect("a file").1.fh;
        for (at, names) in chain.windows(2).enumerate() {
            vfs.write(fh, at as u64, b"content").expect("write");
            store.plan(0, Fault::LoseReply);
            vfs.flush(fh).await.expect_err("its answer is lost");
            let [from, to] = [names[0], names[1]].map(|name| (Ino::ROOT, OsStr::new(name)));
            vfs.rename(from, to, RenameMode::Replace)
                .await
                .unwrap_or_else(|error| panic!("{names:?}: {error}"));
        }
        vfs.flush(fh).await.expect("flush");
        vfs.release(fh).await.expect("release");
        let last = chain[chain.len() - 1];
        for name in ["f", "g", "h"] {
            assert_eq!(object(&*bucket, name).await.is_some(), name == last, "{name} of {chain:?}");
        }
    }
}

/// What an attempt of ours left in the bucket is no other client's, even if the file has changed since. Says whether
/// there was such a request.
async fn changes_go_on_top(scenario: Scenario, number: usize) -> bool {
    let home = tempfile::tempdir().expect("a folder");
    let bucket = scenario.bucket().await;
    let store = FaultyStore::new(Arc::clone(&bucket), home.path());
    let vfs = mounted(&store, &home.path().join("cache"), Commit::Close);
    let (name, mut wanted) = match scenario {
        Scenario::Files => ("f", Vec::new()),
        Scenario::Layer => ("large", large()),
    };
    let made = vfs.create(Ino::ROOT, OsStr::new(name), 0o644, CALLER, WRITE, false).await;
    let fh = made.expect("a file").1.fh;
    store.plan(number, Fault::LoseReply);
    for (at, body) in [(0, &b"first"[..]), (3, b"second, and longer"), (40, b"third")] {
        vfs.write(fh, at as u64, body).expect("write");
        wanted.resize(wanted.len().max(at + body.len()), 0);
        wanted[at..at + body.len()].copy_from_slice(body);
        // One of the three meets the fault.
        drop(vfs.flush(fh).await);
    }
    if !store.is_hit() {
        return false;
    }
    let context = format!("{scenario:?}, request {number}");
    vfs.flush(fh).await.unwrap_or_else(|error| panic!("{context}: {error}"));
    vfs.release(fh).await.unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(object(&*bucket, name).await == Some(wanted), "{context}");
    assert_eq!(names(&vfs, "").await, [name], "{context}");
    vfs.drain().await;
    assert_eq!(bucket.pending_uploads(), 0, "{context}");
    true
}

/// SEMANTICS: "A refused commit looks first whether the object there is its own, from an attempt whose answer
/// was lost; otherwise it is a conflict: theirs stays, ours is kept beside it, and the caller gets ESTALE."
#[tokio::test]
async fn a_file_that_changes_after_its_upload_lost_its_answer_is_no_conflict() {
    for (scenario, least) in [(Scenario::Files, 3), (Scenario::Layer, 9)] {
        let mut number = 0;
        while changes_go_on_top(scenario, number).await {
            number += 1;
        }
        assert!(number >= least, "{scenario:?}: {number} requests were met");
    }
}

#[tokio::test]
async fn an_upload_goes_on_where_a_killed_process_left_it() {
    let home = tempfile::tempdir().expect("a folder");
    let bucket = Scenario::Files.bucket().await;
    let dying = FaultyStore::new(Arc::clone(&bucket), home.path());
    let vfs = mounted(&dying, &home.path().join("cache"), Commit::Close);
    let body = bytes(5, 20 * PART as usize);
    lookup(&vfs, "parts").await.expect_err("not there yet");
    // The creation of the upload, 15 of its 20 parts, and then the end.
    dying.plan(3 + 15, Fault::DieBefore);
    write(&vfs, "parts", 0, &body, false).await.expect_err("killed");
    let counted = Arc::new(ObserveStore::new(Arc::clone(&bucket) as Arc<dyn ObjectStore>));
    let next = mount_with(
        Arc::clone(&counted) as Arc<dyn ObjectStore>,
        &home.path().join("image"),
        None,
        |options| {
            options.part_size = PART;
        },
    );
    assert_eq!(next.recover().await.expect("recovery").uploading, 1);
    assert!(next.drain().await.failed.is_empty());
    assert_eq!(object(&*bucket, "parts").await, Some(body));
    let parts = counted.counts().of(crate::store::Op::UploadPart);
    assert!((5..12).contains(&parts), "{}", counted.counts());
    assert_eq!(counted.counts().of(crate::store::Op::CreateUpload), 0);
}

/// A request that a dead process had sent may be carried out after the next one has looked for it.
#[tokio::test]
async fn an_upload_that_begins_late_is_dropped_in_the_end() {
    let world = World::new();
    let (key, headers) = (parse("late"), Headers::default());
    world.vfs.uploader.drop_upload(&Progress::asked(&key, &headers, None)).await.expect("dropped");
    let late = world.store.create_upload(&key, &headers, PartKinds::Sent).await.expect("begun");
    world.vfs.drain().await;
    let part = world.store.upload_part(&late, 1, PartSource::Bytes("x".into())).await;
    assert_eq!(part.expect_err("dropped").kind, ErrorKind::NotFound);
}

/// Programs wait while a worker takes over what others have left.
#[test]
fn what_was_dropped_for_a_killed_worker_is_dropped_once_more_and_not_by_each_next_one() {
    simulated::run(1, async {
        let home = tempfile::tempdir().expect("a folder");
        let bucket = Arc::new(MemoryStore::default());
        let counted = Arc::new(ObserveStore::new(Arc::clone(&bucket) as Arc<dyn ObjectStore>));
        let image = |round: usize| home.path().join(round.to_string());
        let mount =
            |round| mount_with(Arc::clone(&counted) as Arc<dyn ObjectStore>, &image(round), None, |_| ());
        let key = parse("copied");
        let begun = Progress::asked(&key, &Headers::default(), None);
        let upload = Some(Progress { id: Some("gone".into()), ..begun });
        let record = Record { state: State::Removed, upload, ..Record::open(key, None) };
        let mut workers = vec![mount(0)];
        workers[0].cache.stage(&workers[0].label(&record)).expect("a record").keep(true);
        for (round, drops) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)] {
            if round == 4 {
                clock::sleep(Duration::from_secs(126)).await;
            }
            copy_dir(&image(round - 1), &image(round));
            let next = mount(round);
            next.recover().await.expect("recovery");
            assert_eq!(counted.counts().of(crate::store::Op::AbortUpload), drops, "worker {round}");
            workers.push(next);
        }
        let left = workers[5].cache.orphans_where(|_| true).expect("a list");
        assert!(left.is_empty(), "{left:?}");
    });
}
