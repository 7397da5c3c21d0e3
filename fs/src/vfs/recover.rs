//! What a process that is gone has left in the journal: files are put back into the tree, as if they had just been
//! closed, and uploaded in the background; renames are finished before anything else.
//!
//! Invariant: what is not understood, or belongs to nobody's promise, stays on the disk and is named in the log.

use super::Vfs;
use super::commit::blocking;
use super::resume::Unfinished;
use crate::clock;
use crate::error::Result;
use crate::inode::{Content, File, FileState, Ino, Inode, Marker, Node, Overlay, Place, RemoteFile, Stage};
use crate::journal::{self, Entry, Exchange, Found, Move, Record, StagedFile, State, Sum, Verdict, judge};
use crate::meta::{self, Kind};
use crate::name::{Key, Name};
use crate::store::Version;
use crate::write::Progress;
use std::collections::HashSet;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;
use tarn_cache::{OrphanStaged, Staged, StagedLabel};

/// How long programs wait for the store when a worker takes over.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a recovery did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Files that are being uploaded.
    pub uploading: usize,
    /// Files that were left where they are.
    pub left: usize,
    /// Renames that were finished.
    pub renames: usize,
}

impl Vfs {
    /// Takes over what processes that are gone have left of this bucket. To be called before anybody asks for a file.
    pub async fn recover(self: &Arc<Self>) -> Result<Recovered> {
        let mut report = Recovered::default();
        let mut files = Vec::new();
        let mut unfinished = Unfinished::default();
        for orphan in self.cache.orphans_where(|label| self.is_lost(label))? {
            match read_entry(&orphan) {
                Orphan::Unknown => leave(&mut report, &orphan, None, "its label cannot be read"),
                Orphan::Move(of) => unfinished.moves.push((orphan, of)),
                Orphan::Exchange(of) => unfinished.exchanges.push((orphan, of)),
                Orphan::File(record) => files.push((orphan, *record)),
            }
        }
        if self.options.read_only {
            for (orphan, record) in files {
                leave(&mut report, &orphan, Some(&record.key), "this mount is read-only");
            }
            return Ok(report);
        }
        report.renames = self.finish(unfinished, &mut files).await?;
        // Of two files for one key the younger counts.
        files.sort_by_key(|(_, record)| std::cmp::Reverse(record.written));
        let mut round = Round::default();
        for (orphan, record) in files {
            let (path, key) = (orphan.path(), record.key.clone());
            if let Err(error) = self.take_over(orphan, record, &mut round, &mut report).await {
                // One file that cannot be read must not keep the others from being seen.
                tracing::error!(path = %path.display(), %key, %error, "bytes that are not in the bucket stay behind");
                report.left += 1;
            }
        }
        Ok(report)
    }

    /// Whether it is of this bucket and nobody's any more. Between two workers of a live mount its files are locked
    /// by nobody, and still its own.
    pub(super) fn is_lost(&self, label: &StagedLabel) -> bool {
        let owner = || Entry::read(label).and_then(|entry| entry.owner());
        label.bucket == self.bucket
            && owner().is_none_or(|owner| owner == self.options.owner || !owner.is_alive())
    }

    async fn take_over(
        self: &Arc<Self>,
        orphan: OrphanStaged,
        mut record: Record,
        round: &mut Round,
        report: &mut Recovered,
    ) -> Result<()> {
        let mut verdict = judge(&record, &inspect(&orphan, &record)?);
        if verdict == Verdict::Upload && !round.taken.insert(record.key.clone()) {
            verdict = Verdict::Leave("a younger file has its name");
        }
        if verdict == Verdict::Remove && record.upload.is_some() {
            return self.remove_upload(orphan, record, round).await;
        }
        if verdict != Verdict::Upload
            && let Some(progress) = &record.upload
            && self.drop_upload(progress, round).await
        {
            record.upload = None;
            orphan.relabel(&self.label(&record))?;
        }
        match verdict {
            Verdict::Leave(why) => leave(report, &orphan, Some(&record.key), why),
            Verdict::Remove => orphan.adopt()?.discard(),
            Verdict::Upload => match self.place_of(&record.key, Missing::Made)? {
                Some(place) => {
                    tracing::info!(key = %record.key, "a closed file that is not in the bucket yet: uploading it");
                    let staged = orphan.adopt()?;
                    staged.keep(true);
                    self.put_back(place, staged, record)?;
                    report.uploading += 1;
                }
                None => leave(report, &orphan, Some(&record.key), "its key is not below the mounted prefix"),
            },
        }
        Ok(())
    }

    /// Removes a record and the upload that it speaks of. While requests for that may still arrive the record stays, and
    /// says that it was dropped: programs wait for whoever takes over, who asks nothing then.
    async fn remove_upload(&self, orphan: OrphanStaged, mut record: Record, round: &mut Round) -> Result<()> {
        let Some(progress) = &mut record.upload else { return Ok(()) };
        if !progress.is_settled() {
            if !self.drop_upload(progress, round).await {
                // The next worker or mount tries again.
                return Ok(());
            }
            progress.dropped = true;
            orphan.relabel(&self.label(&record))?;
        }
        if let Some(progress) = &record.upload {
            self.uploader.settle_record(progress, orphan.adopt()?);
        }
        Ok(())
    }

    /// Says whether it is dropped. A worker that programs wait for gives up early.
    async fn drop_upload(&self, progress: &Progress, round: &mut Round) -> bool {
        let dropped = async { self.uploader.drop_upload(progress).await.is_ok() };
        if self.earlier.get().is_none() {
            return dropped.await;
        }
        if !round.is_store_away {
            round.is_store_away = tokio::select! {
                dropped = dropped => !dropped,
                () = clock::sleep(PATIENCE) => true,
            };
        }
        !round.is_store_away
    }

    /// The place of a key in the tree. `None` if it is not shown here.
    pub(super) fn place_of(&self, key: &Key, missing: Missing) -> Result<Option<Place>> {
        let Some((parent, last)) = self.walk(key, missing)? else { return Ok(None) };
        let name = if last.is_empty() { Name::own() } else { Name::of(last)? };
        let is_directory =
            |name| self.table.child(parent, name).is_some_and(|inode| inode.directory().is_some());
        let name = if is_directory(&name) { name.other()? } else { name };
        Ok(Some(Place { parent, name }))
    }

    /// The directory of a key, and the key's last component.
    pub(super) fn walk<'a>(&self, key: &'a Key, missing: Missing) -> Result<Option<(Ino, &'a str)>> {
        let Some(rest) = key.as_str().strip_prefix(self.options.prefix.as_str()) else { return Ok(None) };
        let (directories, last) =
            rest.rsplit_once('/').map_or((None, rest), |(above, last)| (Some(above), last));
        let mut parent = Ino::ROOT;
        for component in directories.into_iter().flat_map(|above| above.split('/')) {
            let name = Name::of(component)?;
            let known = self.table.child(parent, &name).filter(|inode| inode.directory().is_some());
            parent = match known {
                Some(inode) => inode.ino,
                None if missing == Missing::Made => {
                    self.insert_directory(Place { parent, name }, Marker::Unknown).ino
                }
                None => return Ok(None),
            };
        }
        Ok(Some((parent, last)))
    }

    /// Makes the staged file the content of an inode, which stays until the bucket has it.
    fn put_back(self: &Arc<Self>, place: Place, staged: Staged, record: Record) -> Result<()> {
        let base = record.base.as_ref().map(Version::from);
        let modified = staged.file().metadata()?.modified()?;
        let written = base.clone().unwrap_or_else(|| Version::unknown(modified));
        let posix = meta::read(&record.headers, &written, Kind::File, &self.options.defaults);
        let overlay = record.layer.as_ref().zip(base.clone()).map(|(layer, base)| Overlay {
            dirty: layer.extents(),
            base: Arc::new(RemoteFile::new(base)),
            base_len: layer.base_len,
        });
        let headers = record.headers.clone();
        let file = Arc::new(StagedFile::new(staged, self.bucket.clone(), record));
        file.note(|record| record.owner = Some(self.options.owner))?;
        let size = file.staged.file().metadata()?.len();
        let claim = Arc::new(self.quota.claim());
        let stage =
            Stage { file, base, committed: None, overlay, writes: 0, copied: None, unsure: true, claim };
        let state = FileState::new(posix, headers, Content::Staged(Box::new(stage)), true);
        let file = Box::new(File::new(state));
        let inode = self.table.insert(place, |ino| Inode { ino, node: Node::File(file) });
        self.enqueue(&inode, size);
        Ok(())
    }
}

/// What becomes of a directory on the way to a key that is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is taken for granted.
    Made,
    /// The way ends.
    End,
}

/// What is found out while files are taken over.
#[derive(Default)]
struct Round {
    /// Their keys.
    taken: HashSet<Key>,
    /// The store has not answered in time.
    is_store_away: bool,
}

/// An orphan of this bucket.
enum Orphan {
    /// Nobody can say what it is.
    Unknown,
    Move(Move),
    Exchange(Exchange),
    File(Box<Record>),
}

fn read_entry(orphan: &OrphanStaged) -> Orphan {
    match orphan.label().and_then(Entry::read) {
        Some(Entry::File(record)) => Orphan::File(record),
        Some(Entry::Move(of)) => Orphan::Move(of),
        Some(Entry::Exchange(of)) => Orphan::Exchange(of),
        None => Orphan::Unknown,
    }
}

fn leave(report: &mut Recovered, orphan: &OrphanStaged, key: Option<&Key>, why: &str) {
    report.left += 1;
    let (path, key) = (orphan.path().display().to_string(), key.map(Key::to_string));
    tracing::warn!(
        path,
        key,
        why,
        "a mount that ended left bytes that are not in the bucket; copy them from here"
    );
}

/// Looks at the file itself; reads it only if its bytes must be compared.
fn inspect(orphan: &OrphanStaged, record: &Record) -> Result<Found> {
    let file = orphan.open()?;
    let meta = file.metadata()?;
    let sum = match record.sum {
        Some(_) => sum_of(&file, meta.len(), record.layer.as_ref())?,
        None => None,
    };
    Ok(Found {
        size: meta.len(),
        has_data: has_data(&file),
        modified: journal::nanoseconds(meta.modified()?),
        of_this_boot: orphan.is_of_this_boot(),
        sum,
    })
}

fn has_data(file: &std::fs::File) -> bool {
    // ENXIO says that there is none; a file system that cannot tell has some.
    !matches!(rustix::fs::seek(file, rustix::fs::SeekFrom::Data(0)), Err(rustix::io::Errno::NXIO))
}

/// What a staged file holds: all its bytes, or those of its layer. `None` if it is too short for its layer.
pub(super) fn sum_of(file: &std::fs::File, size: u64, layer: Option<&journal::Layer>) -> Result<Option<Sum>> {
    let whole = std::iter::once(0..size);
    let ranges: Vec<_> = layer.map_or_else(|| whole.collect(), |layer| layer.dirty.clone());
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    let mut buffer = vec![0; 1 << 20];
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let length = buffer.len().min(usize::try_from(range.end - at).unwrap_or(usize::MAX));
            match file.read_exact_at(&mut buffer[..length], at) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            digest.update(&buffer[..length]);
            at += length as u64;
        }
    }
    Ok(Some(Sum { size, crc64nvme: digest.finalize() }))
}

impl Vfs {
    /// Writes down what a closed file holds, for whoever finds it after a loss of power.
    pub(super) async fn note_sum(&self, inode: &Inode) -> Result<()> {
        let Some(file) = inode.file() else { return Ok(()) };
        let Content::Staged(stage) = file.state.lock().content.clone() else { return Ok(()) };
        let staged = Arc::clone(&stage.file);
        let before = staged.record();
        if before.state != State::Closed || before.sum.is_some() {
            return Ok(());
        }
        let read = Arc::clone(&staged);
        let layer = before.layer.clone();
        let sum = blocking(move || {
            let file = read.staged.file();
            let modified = journal::nanoseconds(file.metadata()?.modified()?);
            Ok((sum_of(file, file.metadata()?.len(), layer.as_ref())?, modified))
        });
        let (sum, modified) = sum.await?;
        staged.note(|record| {
            if record.closes == before.closes && record.modified == modified {
                record.sum = sum;
            }
        })
    }
}
