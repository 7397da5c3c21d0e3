//! Whether the server keeps two writers apart: some accept a condition and ignore it, and then the later one
//! overwrites the earlier without a word. Tried once for each bucket and local store, before the first write.

use crate::name::Prefix;
use crate::store::{ObjectStore, Support, probe};
use serde::{Deserialize, Serialize};
use tarn_cache::{BucketId, Store as Cache};

/// The note's topic; no directory's note has an empty component.
const TOPIC: &str = "//guard";

/// What is known of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guard {
    /// Every condition is honoured.
    Holds,
    /// These are not; a line for each.
    Weak(Vec<String>),
    /// It was not tried, for this reason.
    NotTried(String),
}

impl Guard {
    /// What an earlier mount found.
    pub fn noted(cache: &Cache, bucket: &BucketId) -> Option<Self> {
        cache.note(bucket, TOPIC).and_then(|note| serde_json::from_slice(&note).ok())
    }

    /// Takes an earlier finding, or tries the server below `prefix`.
    pub async fn find(store: &dyn ObjectStore, prefix: &Prefix, cache: &Cache, bucket: &BucketId) -> Self {
        let found = match Self::noted(cache, bucket) {
            Some(found) => found,
            None => Self::try_out(store, prefix, cache, bucket).await,
        };
        match &found {
            Self::Holds => {}
            Self::Weak(what) => tracing::warn!(
                what = what.join(", "),
                "this server ignores conditions: two clients that write one object overwrite each other unnoticed"
            ),
            Self::NotTried(why) => tracing::warn!(why, "what this server enforces is not known"),
        }
        found
    }

    async fn try_out(store: &dyn ObjectStore, prefix: &Prefix, cache: &Cache, bucket: &BucketId) -> Self {
        let found = match probe(store, prefix).await {
            Ok(found) => found,
            Err(error) => return Self::NotTried(error.to_string()),
        };
        let weak = found.guards().into_iter().filter(|(_, support)| **support != Support::Yes);
        let weak: Vec<String> = weak.map(|(name, support)| format!("{name}: {support}")).collect();
        let guard = if weak.is_empty() { Self::Holds } else { Self::Weak(weak) };
        if let Ok(note) = serde_json::to_vec(&guard) {
            cache.put_note(bucket, TOPIC, &note);
        }
        guard
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, ObserveStore};
    use std::sync::Arc;
    use tarn_cache::StoreOptions;

    #[tokio::test]
    async fn a_server_is_tried_once_for_a_bucket() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (dir, bucket) = (dir.path().join("cache"), BucketId::new("http://s/b"));
        let options = StoreOptions { dir, max_bytes: 1 << 30, min_free_bytes: 0, boot_id: None };
        let cache = Cache::open(options).expect("a cache");
        let store = ObserveStore::new(Arc::new(MemoryStore::new()));
        let find = async || Guard::find(&store, &Prefix::default(), &cache, &bucket).await;
        assert_eq!(find().await, Guard::Holds);
        let asked = store.counts();
        assert_ne!(asked.total(), 0);
        assert_eq!(find().await, Guard::Holds);
        assert_eq!(store.counts(), asked, "the second mount asks nothing");
    }
}
