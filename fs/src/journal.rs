//! What the bucket does not have yet, written down so that whoever comes after this process can finish it.
//!
//! Every staged file has a [`Record`] in its label, which the local store keeps locked while its owner lives and
//! replaces atomically. A rename that takes more than one request has a [`Move`] in the label of an empty staged
//! file while it is under way, an exchange of two names an [`Exchange`]. `FORMAT.md` beside this file has their text.
//!
//! Invariants:
//! - A record is written before what it speaks of is begun: nobody is told that a file is closed, and no upload
//!   starts, before the journal says so.
//! - Only a record that says [`State::Closed`] keeps its file when the owner lets go of it.
//!
//! What it does not do: it decides what becomes of what is found ([`judge`]); `vfs` does it. Nothing is flushed to
//! the disk: after a loss of power the checksums say which bytes can be trusted.

mod judge;

pub use judge::{Found, Verdict, judge};

use crate::clock;
use crate::error::Result;
use crate::meta;
use crate::name::Key;
use crate::process::ProcessId;
use crate::store::{ETag, Headers, ObjectInfo, Version};
use crate::write::{Extents, Progress};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tarn_cache::{BucketId, Staged, StagedLabel};

/// Unheard commits that a record remembers.
const ATTEMPTS_MAX: usize = 16;

/// What a label says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// A staged file.
    File(Box<Record>),
    /// A rename under way.
    Move(Move),
    /// An exchange of two names under way.
    Exchange(Exchange),
}

/// What has become, and is to become, of a staged file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where it belongs.
    pub key: Key,
    /// How far it is.
    pub state: State,
    /// When the record was written, in nanoseconds since 1970: of two for one key the younger counts.
    pub written: u64,
    /// The object that it is to replace; `None` if the key must be free.
    pub base: Option<Base>,
    /// The headers that go with it.
    #[serde(default)]
    pub headers: Headers,
    /// For a layer over the base: which ranges the file holds.
    pub layer: Option<Layer>,
    /// The bytes that the file holds, where they are known.
    pub sum: Option<Sum>,
    /// The file's modification time when the record was written, in nanoseconds since 1970.
    pub modified: Option<i64>,
    /// The object that goes once this one is there: the file was renamed.
    #[serde(default)]
    pub moved_from: Vec<Origin>,
    /// A multipart upload that was begun.
    pub upload: Option<Progress>,
    /// The `file-ctime` of commits that may have arrived unheard; no two commits have the same.
    #[serde(default)]
    pub attempts: Vec<String>,
    /// The process that keeps the mount it belongs to; while it lives, nobody else takes the file.
    #[serde(default)]
    pub owner: Option<ProcessId>,
    /// Counts the closes that were answered before the bucket had the file; not kept.
    #[serde(skip)]
    pub closes: u64,
}

/// How far a staged file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It may be written to; nobody was told that anything is kept.
    Open,
    /// Somebody closed it or asked for a commit: it must get into the bucket.
    Closed,
    /// The bucket has what it held when this was written.
    Committed,
    /// Its name is gone.
    Removed,
}

/// The object that a staged file replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its entity tag.
    pub etag: ETag,
    /// Its size in bytes.
    pub size: u64,
}

impl From<&Version> for Base {
    fn from(version: &Version) -> Self {
        Self { etag: version.etag.clone(), size: version.size }
    }
}

impl From<&Base> for Version {
    fn from(base: &Base) -> Self {
        Self { etag: base.etag.clone(), size: base.size, last_modified: UNIX_EPOCH, version_id: None }
    }
}

/// Which bytes a layer has of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// So many bytes of the base show through.
    pub base_len: u64,
    /// Ranges that the staged file holds.
    pub dirty: Vec<Range<u64>>,
}

impl Layer {
    /// The ranges as a set.
    pub fn extents(&self) -> Extents {
        let mut extents = Extents::default();
        self.dirty.iter().cloned().for_each(|range| extents.insert(range));
        extents
    }
}

/// What a staged file held: all its bytes, or those of its layer's ranges one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Its length in bytes.
    pub size: u64,
    /// CRC64NVME of the bytes.
    pub crc64nvme: u64,
}

/// The object of a file before it was renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its key.
    pub key: Key,
    /// Its tag; `None` if no answer has told one.
    pub etag: Option<ETag>,
    /// [`Record::attempts`] under that key.
    #[serde(default)]
    pub attempts: Vec<String>,
}

impl Origin {
    /// Whether the object there is the file's own.
    pub fn is(&self, found: &ObjectInfo) -> bool {
        let time = meta::commit_time(&found.headers);
        self.etag.as_ref() == Some(&found.version.etag)
            || time.is_some_and(|time| self.attempts.iter().any(|attempt| attempt == time))
    }
}

/// A rename of what is in the bucket: copies, then deletes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// A key; a prefix with its final `/` for a directory.
    pub from: String,
    /// What it is to be called.
    pub to: String,
    /// Tag of the object that is replaced.
    pub replaces: Option<ETag>,
    /// What is moved.
    #[serde(default)]
    pub source: Option<Source>,
    /// When it was begun, in nanoseconds since 1970.
    #[serde(default)]
    pub written: u64,
    /// The process that keeps the mount it was asked of.
    #[serde(default)]
    pub owner: Option<ProcessId>,
}

/// What tells objects that are moved from those that get their names later: after a loss of power the record of a rename
/// that was done long ago may be there again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The tag of the one object.
    Tag(ETag),
    /// When the youngest object of a directory was modified by the listings of the store, in nanoseconds since 1970.
    Youngest(i64),
}

impl Source {
    /// The objects of a directory.
    pub fn of<'a>(objects: impl IntoIterator<Item = &'a Version>) -> Self {
        let times = objects.into_iter().filter_map(|version| nanoseconds(version.last_modified));
        Self::Youngest(times.max().unwrap_or_default())
    }

    fn has(&self, version: &Version) -> bool {
        match self {
            Self::Tag(etag) => version.etag == *etag,
            Self::Youngest(youngest) => {
                nanoseconds(version.last_modified).is_some_and(|time| time <= *youngest)
            }
        }
    }
}

impl Move {
    /// A move of whatever has the old name, that replaces nothing.
    pub fn new(from: &str, to: &str, owner: Option<ProcessId>) -> Self {
        let (from, to) = (from.to_owned(), to.to_owned());
        Self { from, to, replaces: None, source: None, written: now(), owner }
    }

    /// Whether this version of an object under the old name is moved.
    pub fn has(&self, version: &Version) -> bool {
        self.source.as_ref().is_none_or(|source| source.has(version))
    }

    /// Whether it moves a directory.
    pub fn is_tree(&self) -> bool {
        self.from.ends_with('/') && self.to.ends_with('/')
    }

    /// The new text of a key below the old one, if it is.
    pub fn moved(&self, key: &Key) -> Option<Key> {
        let rest = key.as_str().strip_prefix(&self.from)?;
        if !self.is_tree() && !rest.is_empty() {
            return None;
        }
        Key::parse(&format!("{}{rest}", self.to)).ok()
    }
}

/// An exchange of two names of what is in the bucket: the first is set aside, the second takes its name, then the first
/// that of the second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// A key; a prefix with its final `/` for a directory.
    pub first: String,
    /// The other one.
    pub second: String,
    /// Where the first is meanwhile.
    pub aside: String,
    /// Of two objects.
    pub objects: Option<Swap>,
    /// The kernel's request.
    pub request: Option<u64>,
    /// The process that keeps the mount it was asked of.
    pub owner: Option<ProcessId>,
}

/// What tells an object before an exchange from the same one after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// Tag of the first object before.
    pub first: ETag,
    /// Tag of the second object before.
    pub second: ETag,
    /// When it was begun, in nanoseconds since 1970: the `file-ctime` of every copy.
    pub at: u64,
}

impl Swap {
    /// The ctime of every copy.
    pub fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.at)
    }

    /// Whether the object is the first one as it was before.
    pub fn is_first(&self, found: &ObjectInfo) -> bool {
        found.version.etag == self.first && !self.made(found)
    }

    /// Whether the object is the second one as it was before.
    pub fn is_second(&self, found: &ObjectInfo) -> bool {
        found.version.etag == self.second && !self.made(found)
    }

    /// Whether the object is a copy that the exchange has made.
    pub fn made(&self, found: &ObjectInfo) -> bool {
        meta::commit_time(&found.headers) == Some(&meta::commit_mark(self.time()))
    }
}

impl Exchange {
    /// The exchange as three renames, one after the other.
    pub fn steps(&self) -> [Move; 3] {
        let (first, second) = (self.first.trim_end_matches('/'), self.second.trim_end_matches('/'));
        let slash = |path: &str| if path.ends_with('/') { "/" } else { "" };
        let to_first = format!("{first}{}", slash(&self.second));
        let to_second = format!("{second}{}", slash(&self.first));
        [(&self.first, &self.aside), (&self.second, &to_first), (&self.aside, &to_second)]
            .map(|(from, to)| Move::new(from, to, self.owner))
    }
}

impl Entry {
    /// The label that carries this entry.
    pub fn label(&self, bucket: &BucketId) -> StagedLabel {
        let record = serde_json::to_vec(self).expect("plain data with text keys");
        StagedLabel { bucket: bucket.clone(), record }
    }

    /// The process that keeps the mount it belongs to.
    pub fn owner(&self) -> Option<ProcessId> {
        match self {
            Self::File(record) => record.owner,
            Self::Move(of) => of.owner,
            Self::Exchange(of) => of.owner,
        }
    }

    /// The entry that a label carries, if this version knows it.
    pub fn read(label: &StagedLabel) -> Option<Self> {
        serde_json::from_slice(&label.record).ok()
    }
}

impl Record {
    /// The record of a file that was just opened.
    pub fn open(key: Key, base: Option<&Version>) -> Self {
        Self {
            key,
            state: State::Open,
            written: now(),
            base: base.map(Base::from),
            headers: Headers::default(),
            layer: None,
            sum: None,
            modified: None,
            moved_from: Vec::new(),
            upload: None,
            attempts: Vec::new(),
            owner: None,
            closes: 0,
        }
    }

    /// A commit with these headers may arrive unheard from now on.
    pub fn attempted(&mut self, headers: &Headers) {
        let Some(ctime) = meta::commit_time(headers) else { return };
        if !self.attempts.iter().any(|attempt| attempt == ctime) {
            if self.attempts.len() == ATTEMPTS_MAX {
                self.attempts.remove(0);
            }
            self.attempts.push(ctime.to_owned());
        }
    }

    /// Notes a rename. Under the old key the bucket has the version `etag`, or what an upload has left there whose answer
    /// was lost.
    pub fn moves(&mut self, old: Key, mut etag: Option<ETag>, new: Key) {
        // Sent again after a kill it has been noted before: the attempts are those under the new key, and the journal
        // knows the version better than who reads the session log.
        let again = self.key == new;
        let mut attempts = if again { Vec::new() } else { std::mem::take(&mut self.attempts) };
        if let Some(known) = self.take_origin(&old) {
            attempts.extend(known.attempts);
            etag = known.etag.filter(|_| again).or(etag);
        }
        if etag.is_some() || !attempts.is_empty() {
            self.moved_from.push(Origin { key: old, etag, attempts });
        }
        // What is there now is replaced, and is no more to be deleted.
        let back = self.take_origin(&new);
        self.attempts.extend(back.into_iter().flat_map(|back| back.attempts));
        self.key = new;
    }

    fn take_origin(&mut self, key: &Key) -> Option<Origin> {
        let at = self.moved_from.iter().position(|origin| origin.key == *key)?;
        Some(self.moved_from.remove(at))
    }
}

/// A staged file with its record.
#[derive(Debug)]
pub struct StagedFile {
    /// The local store's hold on it.
    pub staged: Staged,
    bucket: BucketId,
    record: Mutex<Record>,
}

impl StagedFile {
    /// A staged file whose label carries `record`.
    pub fn new(staged: Staged, bucket: BucketId, record: Record) -> Self {
        staged.keep(record.state == State::Closed);
        Self { staged, bucket, record: Mutex::new(record) }
    }

    /// Writes into the file.
    pub fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.staged.file().write_all_at(bytes, offset)?;
        Ok(clock::stamp(self.staged.file())?)
    }

    /// Cuts the file, or lengthens it with zeros.
    pub fn set_len(&self, size: u64) -> Result<()> {
        self.staged.file().set_len(size)?;
        Ok(clock::stamp(self.staged.file())?)
    }

    /// The record as it was written last.
    pub fn record(&self) -> Record {
        self.record.lock().clone()
    }

    /// A part of the record, which is large while an upload is under way.
    pub fn get<T>(&self, part: impl FnOnce(&Record) -> T) -> T {
        part(&self.record.lock())
    }

    /// Whether somebody was told that it is safe, and the bucket may not have it yet.
    pub fn is_closed(&self) -> bool {
        self.get(|record| record.state == State::Closed)
    }

    /// Changes the record, and the label with it. If that cannot be written, nothing is changed.
    pub fn note(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let mut record = self.record.lock();
        let mut changed = record.clone();
        change(&mut changed);
        if changed == *record {
            return Ok(());
        }
        changed.written = now();
        self.staged.relabel(&Entry::File(Box::new(changed.clone())).label(&self.bucket))?;
        self.staged.keep(changed.state == State::Closed);
        *record = changed;
        Ok(())
    }
}

/// The time in nanoseconds since 1970.
pub fn now() -> u64 {
    nanoseconds(clock::now()).unwrap_or_default().cast_unsigned()
}

/// Nanoseconds since 1970, up to the year 2262.
pub fn nanoseconds(time: SystemTime) -> Option<i64> {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).ok(),
        Err(before) => i64::try_from(before.duration().as_nanos()).ok().map(|nanos| -nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_as_it_was_written_and_no_other_text_does() {
        let record = Record {
            state: State::Closed,
            base: Some(Base { etag: ETag::new("e"), size: 7 }),
            layer: Some(Layer { base_len: 7, dirty: vec![1..3, 5..7] }),
            sum: Some(Sum { size: 7, crc64nvme: u64::MAX }),
            ..Record::open(Key::parse("d/ä\u{1}").unwrap(), None)
        };
        let entry = Entry::File(Box::new(record));
        let label = entry.label(&BucketId::new("b"));
        assert_eq!(Entry::read(&label), Some(entry));
        let other = StagedLabel { record: br#"{"later": {}}"#.to_vec(), ..label };
        assert_eq!(Entry::read(&other), None);
    }

    #[test]
    fn a_move_renames_what_is_below_it_and_nothing_else() {
        let key = |text: &str| Key::parse(text).unwrap();
        let tree = Move::new("a/", "b/c/", None);
        assert_eq!(tree.moved(&key("a/x/y")), Some(key("b/c/x/y")));
        assert_eq!(tree.moved(&key("ab/x")), None);
        let file = Move::new("a", "b", None);
        assert_eq!(file.moved(&key("a")), Some(key("b")));
        assert_eq!(file.moved(&key("a/x")), None);
    }

    #[test]
    fn a_directory_and_a_file_are_exchanged_in_three_renames() {
        let [first, second, aside] = ["d/a/", "b", "d/a.aside/"].map(str::to_owned);
        let of = Exchange { first, second, aside, objects: None, request: Some(7), owner: None };
        let steps = of.steps().map(|step| [step.from, step.to]);
        assert_eq!(steps, [["d/a/", "d/a.aside/"], ["b", "d/a"], ["d/a.aside/", "b/"]]);
    }
}
