//! Tries a store, on objects of its own below a random prefix, and removes them.

use super::judge::{self, Line, Status, Support};
use crate::name::{Key, NameError, Prefix};
use crate::store::{
    CompleteRequest, Condition, CopyRequest, Depth, ETag, Error, ErrorKind, GetRequest, Headers, ListRequest,
    ObjectStore, PartKinds, PartSource, Version,
};
use bytes::Bytes;
use futures::TryStreamExt;
use std::time::{Duration, SystemTime};

const CONTENT: &[u8] = b"tarn doctor was here; this object can be deleted\n";
const SAFE_WRITES: &str = "two writers can overwrite each other unseen; use a store that keeps conditions";

/// Tries everything that needs the store. The scratch objects are removed whatever is found.
pub async fn check(store: &dyn ObjectStore, prefix: &Prefix) -> Vec<Line> {
    let request = ListRequest { prefix: prefix.clone(), depth: Depth::Directory, after: None, limit: 1 };
    let first = store.list(request).await.map(|_| ()).map_err(|error| (error.kind, error.to_string()));
    let reached = first.is_ok();
    let mut lines = judge::first_request(first);
    if !reached {
        return lines;
    }
    let scratch = match Scratch::new(store, prefix) {
        Ok(scratch) => scratch,
        Err(error) => {
            lines.push(Line::bad(Status::Fail, "scratch objects", error.to_string(), "use a shorter prefix"));
            return lines;
        }
    };
    match store.put(&scratch.plain, Bytes::from_static(CONTENT), &Headers::default(), Condition::Always).await
    {
        Ok(version) => {
            lines.push(Line::ok("write", "works"));
            lines.extend(scratch.features(&version).await);
        }
        Err(error) => {
            let advice = "allow s3:PutObject, or mount with read-only; what needs a write was not tried";
            lines.push(Line::bad(Status::Fail, "write", error.to_string(), advice));
        }
    }
    lines.extend(scratch.clean().await);
    lines
}

struct Scratch<'a> {
    store: &'a dyn ObjectStore,
    plain: Key,
    parts: Key,
    copied: Key,
    doubled: Key,
}

impl<'a> Scratch<'a> {
    fn new(store: &'a dyn ObjectStore, prefix: &Prefix) -> Result<Self, NameError> {
        let base = format!("{}.tarn-doctor-{:016x}", prefix.as_str(), rand::random::<u64>());
        let key = |name: &str| Key::parse(&format!("{base}/{name}"));
        Ok(Self {
            store,
            plain: key("plain")?,
            parts: key("parts")?,
            copied: key("copied")?,
            doubled: key("a//b")?,
        })
    }

    async fn features(&self, version: &Version) -> Vec<Line> {
        let ranged = self.ranged_get().await;
        let conditional_get = refused(self.get(None, Some(ETag::new("0123456789abcdef"))).await);
        let absent = self.put(Condition::Absent).await;
        let matches = self.put(Condition::Matches(ETag::new("0123456789abcdef"))).await;
        vec![
            judge::support(
                "ranged GET",
                &ranged,
                Status::Fail,
                "tarn reads by ranges; this store cannot be mounted",
            ),
            judge::support(
                "conditional GET",
                &conditional_get,
                Status::Fail,
                "a reader could mix two versions of a file",
            ),
            judge::support("conditional PUT, new", &absent, Status::Degraded, SAFE_WRITES),
            judge::support("conditional PUT, replace", &matches, Status::Degraded, SAFE_WRITES),
            judge::support("conditional completion", &self.completion().await, Status::Degraded, SAFE_WRITES),
            self.checksum().await,
            judge::support(
                "copy",
                &self.copy(version).await,
                Status::Degraded,
                "renames send the data again",
            ),
            judge::support(
                "// in keys",
                &self.doubled_slash().await,
                Status::Degraded,
                "such keys cannot exist here; nothing to do",
            ),
            self.clock().await,
        ]
    }

    async fn get(&self, range: Option<std::ops::Range<u64>>, if_match: Option<ETag>) -> Result<Bytes, Error> {
        let answer = self.store.get(&self.plain, GetRequest { range, if_match }).await?;
        let body = answer.body.try_fold(Vec::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        });
        body.await.map(Bytes::from)
    }

    async fn ranged_get(&self) -> Support {
        match self.get(Some(5..11), None).await {
            Ok(bytes) if bytes == CONTENT[5..11] => Support::Yes,
            Ok(_) => Support::Ignored,
            Err(error) => Support::Refused(error.to_string()),
        }
    }

    /// A write whose condition does not hold.
    async fn put(&self, condition: Condition) -> Support {
        refused(
            self.store.put(&self.plain, Bytes::from_static(CONTENT), &Headers::default(), condition).await,
        )
    }

    /// A completion on a key that has an object, on condition that it has none.
    async fn completion(&self) -> Support {
        let tried = async {
            self.store
                .put(&self.parts, Bytes::from_static(CONTENT), &Headers::default(), Condition::Always)
                .await?;
            let upload = self.store.create_upload(&self.parts, &Headers::default(), PartKinds::Sent).await?;
            let part =
                self.store.upload_part(&upload, 1, PartSource::Bytes(Bytes::from_static(CONTENT))).await;
            let completed = match part {
                Ok(part) => {
                    let parts = vec![part];
                    let request =
                        CompleteRequest { upload: upload.clone(), parts, condition: Condition::Absent };
                    self.store.complete_upload(request).await
                }
                Err(error) => Err(error),
            };
            if completed.is_err() {
                self.store.abort_upload(&upload).await?;
            }
            completed
        };
        refused(tried.await)
    }

    async fn copy(&self, version: &Version) -> Support {
        // The conditional writes above may have replaced the object on a store that ignores conditions.
        let current =
            self.store.head(&self.plain).await.map_or_else(|_| version.clone(), |info| info.version);
        let request = CopyRequest {
            from: self.plain.clone(),
            if_match: current.etag,
            size: current.size,
            to: self.copied.clone(),
            condition: Condition::Always,
            headers: None,
        };
        match self.store.copy(request).await {
            Ok(_) => Support::Yes,
            Err(error) => Support::Refused(error.to_string()),
        }
    }

    async fn checksum(&self) -> Line {
        const CHECK: &str = "checksums";
        match self.store.head(&self.plain).await {
            Ok(info) if info.crc64nvme.is_some() => Line::ok(CHECK, "CRC64NVME over the whole object"),
            Ok(_) => {
                let advice = "reads are checked against what tarn wrote itself only";
                Line::bad(Status::Degraded, CHECK, "the store keeps no CRC64NVME", advice)
            }
            Err(error) => Line::bad(Status::Fail, CHECK, error.to_string(), "allow s3:GetObject"),
        }
    }

    async fn doubled_slash(&self) -> Support {
        let headers = Headers::default();
        let put = self.store.put(&self.doubled, Bytes::from_static(CONTENT), &headers, Condition::Always);
        match put.await {
            Ok(_) => match self.store.head(&self.doubled).await {
                Ok(_) => Support::Yes,
                Err(_) => Support::Ignored,
            },
            Err(error) => Support::Refused(error.to_string()),
        }
    }

    async fn clock(&self) -> Line {
        match self.store.head(&self.plain).await {
            Ok(info) => {
                let now = SystemTime::now();
                let modified = info.version.last_modified;
                let skew = now.duration_since(modified).unwrap_or_else(|ahead| ahead.duration());
                // The object is some requests old, and its time has whole seconds.
                judge::clock_skew(skew.saturating_sub(Duration::from_secs(1)))
            }
            Err(error) => Line::bad(Status::Fail, "clock skew", error.to_string(), "allow s3:GetObject"),
        }
    }

    /// Removes the scratch objects; only what stays behind is worth a line.
    async fn clean(&self) -> Option<Line> {
        const ADVICE: &str = "allow s3:DeleteObject; without it tarn cannot remove or rename files";
        let keys = [&self.plain, &self.parts, &self.copied, &self.doubled].map(Key::clone);
        let deleted = self.store.delete(&keys).await;
        let failed = match deleted {
            // A server that refuses `//` refuses to delete it too; there is nothing to delete.
            Ok(deleted) => {
                deleted.into_iter().find_map(|(key, result)| result.err().filter(|_| key != self.doubled))
            }
            Err(error) => Some(error),
        };
        Some(match failed {
            None => Line::ok("delete", "works"),
            Some(error) => Line::bad(Status::Fail, "delete", error.to_string(), ADVICE),
        })
    }
}

/// What became of a request whose condition does not hold.
fn refused<T>(result: Result<T, Error>) -> Support {
    match result {
        Ok(_) => Support::Ignored,
        Err(error) if error.kind == ErrorKind::Precondition => Support::Yes,
        Err(error) => Support::Refused(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn a_good_store_passes_and_is_left_empty() {
        let store = MemoryStore::new();
        let lines = check(&store, &Prefix::parse("deep/er").expect("a prefix")).await;
        for line in &lines {
            assert_eq!(line.status, Status::Ok, "{line}");
        }
        assert_eq!(lines.len(), 14, "{lines:?}");
        let request =
            ListRequest { prefix: Prefix::default(), depth: Depth::Subtree, after: None, limit: 10 };
        assert!(store.list(request).await.expect("listed").objects.is_empty());
        assert_eq!(store.pending_uploads(), 0);
    }
}
