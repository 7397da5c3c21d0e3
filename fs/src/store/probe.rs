//! Finds out what an endpoint really does. Some servers accept a condition and ignore it, and then two writers
//! overwrite each other without a word; that must be known before the first write.
//!
//! The probe writes small objects below one scratch prefix with a random name and removes them, also when it
//! fails. A server that cannot be reached, or a missing permission, is an error and no finding.

use super::{
    Abandoned, CompleteRequest, Condition, CopyRequest, ETag, Error, ErrorKind, GetRequest, Headers,
    ObjectStore, PartKinds, PartSource, Result, Upload, Version,
};
use crate::name::{Key, Prefix};
use bytes::Bytes;
use futures::StreamExt;
use std::fmt;
use std::ops::Range;
use std::time::SystemTime;

/// What the probe writes.
const BODY: &[u8] = b"tarn looks what this server can do";
/// A tag that no object has.
const NO_TAG: &str = "00000000000000000000000000000000";

/// How a server takes a kind of request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// It does what it should.
    Yes,
    /// It accepts the request and does something else: a condition that is not checked, a range that is not kept.
    Ignored,
    /// It refuses the request, for this reason.
    Refused(String),
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => f.write_str("yes"),
            Self::Ignored => f.write_str("accepted and ignored"),
            Self::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

/// What a server can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// A PUT only if the key is new.
    pub put_absent: Support,
    /// A PUT only over one version.
    pub put_matches: Support,
    /// The completion of an upload only if the key is new.
    pub complete_absent: Support,
    /// The completion of an upload only over one version.
    pub complete_matches: Support,
    /// A GET of a range.
    pub get_range: Support,
    /// A GET of one version only.
    pub get_matches: Support,
    /// A copy on the server.
    pub copy: Support,
    /// A copy of one version only.
    pub copy_source_matches: Support,
    /// A part copied from another object.
    pub part_copy: Support,
    /// A CRC64NVME over the whole object, kept and told.
    pub checksum: Support,
    /// Keys with `//`.
    pub empty_segments: Support,
    /// A delete of one version only.
    pub delete_matches: Support,
    /// The removal of what the probe wrote.
    pub delete: Support,
    /// `Last-Modified` of an object that was written just before the end of the probe.
    pub server_time: SystemTime,
}

impl Capabilities {
    /// Each capability with a name for people, in a fixed order.
    pub fn named(&self) -> [(&'static str, &Support); 13] {
        [
            ("conditional PUT of a new key", &self.put_absent),
            ("conditional PUT over a version", &self.put_matches),
            ("conditional completion of a new key", &self.complete_absent),
            ("conditional completion over a version", &self.complete_matches),
            ("ranged GET", &self.get_range),
            ("conditional GET", &self.get_matches),
            ("copy", &self.copy),
            ("conditional copy source", &self.copy_source_matches),
            ("copied part", &self.part_copy),
            ("CRC64NVME", &self.checksum),
            ("// in keys", &self.empty_segments),
            ("conditional delete", &self.delete_matches),
            ("delete", &self.delete),
        ]
    }

    /// Those that keep a writer from overwriting another unnoticed.
    pub fn guards(&self) -> [(&'static str, &Support); 4] {
        let [absent, matches, complete_absent, complete_matches, ..] = self.named();
        [absent, matches, complete_absent, complete_matches]
    }

    /// Whether no writer can overwrite another unnoticed.
    pub fn guards_writes(&self) -> bool {
        self.guards().iter().all(|(_, support)| **support == Support::Yes)
    }
}

/// Tries everything out below `prefix`.
pub async fn probe(store: &dyn ObjectStore, prefix: &Prefix) -> Result<Capabilities> {
    let dir = format!("{}.tarn-probe-{:016x}/", prefix.as_str(), rand::random::<u64>());
    let key = |name: &str| {
        let key = Key::parse(&format!("{dir}{name}"));
        key.map_err(|error| Error::new(ErrorKind::NameTooLong, super::Op::Put, None, error.to_string()))
    };
    let probe = Probe { store, key: key("object")?, copy: key("copy")?, odd: key("a//b")? };
    let found = probe.run().await;
    let delete = probe.clean().await;
    if let Support::Refused(why) = &delete {
        tracing::warn!(%dir, why, "the probe's objects stay");
    }
    Ok(Capabilities { delete, ..found? })
}

struct Probe<'a> {
    store: &'a dyn ObjectStore,
    key: Key,
    copy: Key,
    odd: Key,
}

impl Probe<'_> {
    async fn run(&self) -> Result<Capabilities> {
        let version = self.put(&self.key, Condition::Always).await?;
        let stale = Condition::Matches(ETag::new(NO_TAG));
        Ok(Capabilities {
            get_range: self.range(&version).await?,
            get_matches: must_refuse(self.read(Some(0..1), Some(ETag::new(NO_TAG))).await)?,
            checksum: self.checksum().await?,
            copy: must_do(self.copy(version.etag.clone()).await)?,
            copy_source_matches: must_refuse(self.copy(ETag::new(NO_TAG)).await)?,
            part_copy: must_do(self.part_copy(&version).await)?,
            complete_absent: must_refuse(self.complete(Condition::Absent).await)?,
            complete_matches: must_refuse(self.complete(stale.clone()).await)?,
            empty_segments: must_do(self.put(&self.odd, Condition::Always).await)?,
            put_absent: must_refuse(self.put(&self.key, Condition::Absent).await)?,
            put_matches: must_refuse(self.put(&self.key, stale).await)?,
            delete_matches: must_refuse(self.store.delete_version(&self.key, &ETag::new(NO_TAG)).await)?,
            delete: Support::Yes,
            server_time: self.server_time().await?,
        })
    }

    /// Removes what was written. A server that refuses `//` has nothing there to delete.
    async fn clean(&self) -> Support {
        let keys = [self.key.clone(), self.copy.clone(), self.odd.clone()];
        let failed = match self.store.delete(&keys).await {
            Ok(deleted) => {
                deleted.into_iter().find_map(|(key, result)| result.err().filter(|_| key != self.odd))
            }
            Err(error) => Some(error),
        };
        failed.map_or(Support::Yes, |error| Support::Refused(error.to_string()))
    }

    async fn server_time(&self) -> Result<SystemTime> {
        self.put(&self.key, Condition::Always).await?;
        Ok(self.store.head(&self.key).await?.version.last_modified)
    }

    async fn put(&self, key: &Key, condition: Condition) -> Result<Version> {
        self.store.put(key, Bytes::from_static(BODY), &Headers::default(), condition).await
    }

    async fn read(&self, range: Option<Range<u64>>, if_match: Option<ETag>) -> Result<Vec<u8>> {
        let mut answer = self.store.get(&self.key, GetRequest { range, if_match, part: None }).await?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.body.next().await {
            body.extend_from_slice(&chunk?);
        }
        Ok(body)
    }

    async fn range(&self, version: &Version) -> Result<Support> {
        let read = self.read(Some(3..9), Some(version.etag.clone())).await;
        Ok(match known(read)? {
            Ok(body) if body == BODY[3..9] => Support::Yes,
            Ok(_) => Support::Ignored,
            Err(error) if error.kind == ErrorKind::Corrupt => Support::Ignored,
            Err(error) => Support::Refused(error.message),
        })
    }

    async fn checksum(&self) -> Result<Support> {
        let expected = crc_fast::crc64_nvme(BODY);
        Ok(match known(self.store.head(&self.key).await)? {
            Ok(info) if info.crc64nvme == Some(expected) => Support::Yes,
            Ok(_) => Support::Ignored,
            Err(error) => Support::Refused(error.message),
        })
    }

    async fn copy(&self, if_match: ETag) -> Result<Version> {
        let (from, to, size) = (self.key.clone(), self.copy.clone(), BODY.len() as u64);
        let (condition, headers, log) = (Condition::Always, None, None);
        let request = CopyRequest { from, if_match, size, to, condition, headers, log };
        self.store.copy(request).await
    }

    async fn part_copy(&self, version: &Version) -> Result<()> {
        let upload = self.store.create_upload(&self.copy, &Headers::default(), PartKinds::Copied).await?;
        let (key, if_match) = (self.key.clone(), version.etag.clone());
        let source = PartSource::Copy { key, if_match, range: 0..version.size };
        let part = self.store.upload_part(&upload, 1, source).await;
        self.abort(&upload).await;
        part.map(|_| ())
    }

    /// Completes an upload over the object that is there.
    async fn complete(&self, condition: Condition) -> Result<Version> {
        let upload = self.store.create_upload(&self.key, &Headers::default(), PartKinds::Sent).await?;
        let completed = async {
            let part =
                self.store.upload_part(&upload, 1, PartSource::Bytes(Bytes::from_static(BODY))).await?;
            let upload = upload.clone();
            self.store.complete_upload(CompleteRequest { upload, parts: vec![part], condition }).await
        };
        let completed = completed.await;
        if completed.is_err() {
            self.abort(&upload).await;
        }
        completed
    }

    async fn abort(&self, upload: &Upload) {
        if let Err(error) = self.store.abort_upload(&Abandoned::Upload(upload.clone())).await {
            tracing::warn!(key = %upload.key, %error, "the probe's upload stays");
        }
    }
}

/// A finding about a request that the server must carry out.
fn must_do<T>(result: Result<T>) -> Result<Support> {
    Ok(known(result)?.map_or_else(|error| Support::Refused(error.message), |_| Support::Yes))
}

/// A finding about a request whose condition does not hold.
fn must_refuse<T>(result: Result<T>) -> Result<Support> {
    Ok(match known(result)? {
        Ok(_) => Support::Ignored,
        Err(error) if error.kind == ErrorKind::Precondition => Support::Yes,
        Err(error) => Support::Refused(error.message),
    })
}

/// Sets errors apart that say nothing of what the server can do.
fn known<T>(result: Result<T>) -> Result<std::result::Result<T, Error>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => match error.kind {
            ErrorKind::Denied
            | ErrorKind::Credentials
            | ErrorKind::Throttled
            | ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Full => Err(error),
            ErrorKind::NotFound
            | ErrorKind::Precondition
            | ErrorKind::Corrupt
            | ErrorKind::InvalidName
            | ErrorKind::NameTooLong
            | ErrorKind::TooLarge
            | ErrorKind::Archived
            | ErrorKind::Unsupported
            | ErrorKind::Rejected => Ok(Err(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Depth, ListRequest, MemoryStore};

    #[tokio::test]
    async fn the_memory_store_can_do_everything_and_is_left_clean() {
        let store = MemoryStore::new();
        let found = probe(&store, &Prefix::parse("p").unwrap()).await.unwrap();
        assert!(found.named().iter().all(|(_, support)| **support == Support::Yes), "{found:?}");
        assert!(found.guards_writes());
        let (prefix, depth) = (Prefix::default(), Depth::Subtree);
        let page = store.list(ListRequest::new(prefix, depth, 10)).await.unwrap();
        assert!(page.objects.is_empty() && store.pending_uploads() == 0, "{page:?}");
    }
}
