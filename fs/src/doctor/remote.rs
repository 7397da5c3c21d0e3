//! Tries a store by the probe that every mount can make, and says what its findings mean.

use super::judge::{self, Line, Status};
use crate::clock;
use crate::name::Prefix;
use crate::store::{Capabilities, Depth, ListRequest, ObjectStore, probe};
use std::time::Duration;

const LATE_CHANGES: &str = "what another client writes while a file is renamed goes with the old name";
const SAFE_WRITES: &str = "two writers can overwrite each other unseen; use a store that keeps conditions";

/// Tries everything that needs the store. The scratch objects are removed whatever is found.
pub async fn check(store: &dyn ObjectStore, prefix: &Prefix) -> Vec<Line> {
    let request = ListRequest::new(prefix.clone(), Depth::Directory, 1);
    let first = store.list(request).await.map(|_| ()).map_err(|error| (error.kind, error.to_string()));
    let reached = first.is_ok();
    let mut lines = judge::first_request(first);
    if !reached {
        return lines;
    }
    match probe(store, prefix).await {
        Ok(found) => {
            lines.push(Line::ok("write", "works"));
            lines.extend(features(&found));
        }
        Err(error) => {
            let advice = "allow s3:PutObject, s3:GetObject and s3:DeleteObject, or mount with read-only";
            lines.push(Line::bad(Status::Fail, "write", error.to_string(), advice));
        }
    }
    lines
}

/// What each finding means for a mount.
fn features(found: &Capabilities) -> Vec<Line> {
    let (fail, degraded) = (Status::Fail, Status::Degraded);
    let checks = [
        ("ranged GET", &found.get_range, fail, "tarn reads by ranges; this store cannot be mounted"),
        ("conditional GET", &found.get_matches, fail, "a reader could mix two versions of a file"),
        ("conditional PUT, new", &found.put_absent, degraded, SAFE_WRITES),
        ("conditional PUT, replace", &found.put_matches, degraded, SAFE_WRITES),
        ("conditional completion", &found.complete_absent, degraded, SAFE_WRITES),
        ("completion, replace", &found.complete_matches, degraded, SAFE_WRITES),
        ("checksums", &found.checksum, degraded, "reads are checked against what tarn wrote itself only"),
        ("copy", &found.copy, degraded, "renames send the data again"),
        ("conditional copy", &found.copy_source_matches, degraded, "a rename can take a newer version along"),
        ("copied parts", &found.part_copy, degraded, "a change of a large file sends all of it again"),
        ("// in keys", &found.empty_segments, degraded, "such keys cannot exist here; nothing to do"),
        ("conditional delete", &found.delete_matches, degraded, LATE_CHANGES),
        (
            "delete",
            &found.delete,
            fail,
            "allow s3:DeleteObject; without it tarn cannot remove or rename files",
        ),
    ];
    let mut lines: Vec<_> = checks
        .into_iter()
        .map(|(check, support, status, advice)| judge::support(check, support, status, advice))
        .collect();
    let (now, theirs) = (clock::now(), found.server_time);
    let skew = now.duration_since(theirs).unwrap_or_else(|ahead| ahead.duration());
    // The object is some requests old, and its time has whole seconds.
    lines.push(judge::clock_skew(skew.saturating_sub(Duration::from_secs(1))));
    lines
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
        assert_eq!(lines.len(), 18, "{lines:?}");
        let request = ListRequest::new(Prefix::default(), Depth::Subtree, 10);
        assert!(store.list(request).await.expect("listed").objects.is_empty());
        assert_eq!(store.pending_uploads(), 0);
    }
}
