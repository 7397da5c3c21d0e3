//! `--quota`: where the bytes of a mount are claimed, committed and counted. The books are [`crate::quota`]'s.
//!
//! A write that comes to tarn is refused at once if it does not fit. One that the kernel makes by itself is seen once a
//! second, and refused by the commit; near the quota no writer is passed through. What the bucket has is listed in the
//! background when the mount begins, unless the local store has an earlier mount's figure, and again now and then,
//! for other clients change it too.

use super::Vfs;
use super::commit::Snapshot;
use super::handle::FileHandle;
use crate::clock;
use crate::error::Result;
use crate::inode::{Inode, Node, Stage};
use crate::name::Key;
use crate::quota::{Standing, Usage};
use crate::session_log::Record;
use crate::store::{Depth, ListRequest, Version};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often what the kernel writes unseen is looked at, and what changed is noted.
const LOOK: Duration = Duration::from_secs(1);
/// Keys asked for at once.
const PAGE: u16 = 1000;

/// What the local store keeps for the next mount of the prefix.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    usage: Usage,
    /// When it was counted, in seconds since 1970; `None` if something may be missing since.
    counted: Option<u64>,
}

impl Vfs {
    /// Sets the most bytes that the prefix may hold; `None` is no quota. The first time it begins to count them.
    pub fn set_quota(self: &Arc<Self>, limit: Option<u64>) {
        let before = self.quota.limit();
        self.quota.set_limit(limit);
        if before.is_some() || limit.is_none() {
            return;
        }
        if let Some(Note { usage, counted }) = self.noted_usage() {
            let counted = counted.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
            self.quota.recall(usage, counted);
        }
        // Until it ends well, what this mount changes is missing in the note.
        self.note_usage(self.quota.standing().map_or_else(Usage::default, |standing| standing.stored), None);
        for inode in self.table.all() {
            see(&inode);
        }
        self.runtime.spawn(tend(Arc::downgrade(self)));
    }

    /// The same of a mount that is in use: the next worker must know it too.
    pub fn change_quota(self: &Arc<Self>, limit: Option<u64>) {
        let is_new = self.quota.limit().is_none();
        self.set_quota(limit);
        if is_new {
            // Nobody kept the books so far.
            self.quota.doubt();
        }
        self.log.note(|| Record::Quota { bytes: limit.unwrap_or(0) });
        self.log.flush();
    }

    /// How the quota stands; `None` if there is none.
    pub fn quota(&self) -> Option<Standing> {
        self.see_unseen();
        self.quota.standing()
    }

    /// Counts what the prefix holds.
    pub async fn count_usage(&self) -> Result<()> {
        self.quota.begin_count(clock::now());
        let mut after = None;
        loop {
            let prefix = self.options.prefix.clone();
            let request =
                ListRequest { after: after.take(), ..ListRequest::new(prefix, Depth::Subtree, PAGE) };
            let page = self.store.list(request).await.inspect_err(|_| self.quota.drop_count())?;
            if !self.quota.count_page(&page, clock::now()) {
                self.note_books();
                return Ok(());
            }
            after = page.next;
        }
    }

    /// Claims what a staged file takes once it reaches to `end`.
    pub(super) fn claim_up_to(&self, stage: &Stage, end: u64) -> Result<()> {
        if self.quota.limit().is_none() || end <= stage.file.staged.file().metadata()?.len() {
            return Ok(());
        }
        stage.claim.grow(stage.excess(end))
    }

    /// Refuses to send what does not fit, unless the bucket has the bytes already (`base`). A rename takes its room
    /// along: the old object goes when the new one is there.
    pub(super) fn must_fit(&self, snapshot: &Snapshot, base: Option<&Version>) -> Result<()> {
        if self.quota.limit().is_none() {
            return Ok(());
        }
        let stage = &snapshot.stage;
        let needed = stage.excess(snapshot.stamp.size);
        stage.claim.see(needed);
        if base.is_some() || stage.file.get(|record| !record.moved_from.is_empty()) {
            return Ok(());
        }
        stage.claim.grow(needed)
    }

    /// An object has another size now; `None` stands for no object.
    pub(super) fn count_change(&self, key: &Key, old: Option<u64>, new: Option<u64>) {
        self.quota.change(key, old, new);
        self.note_books();
    }

    /// The next worker goes on with these books.
    fn note_books(&self) {
        if let Some(Standing { stored, .. }) = self.quota.standing() {
            self.log.note(|| Record::Stored { usage: stored });
        }
    }

    /// The bucket has the file in this version now.
    pub(super) fn count_commit(&self, snapshot: &Snapshot, version: &Version) {
        let stage = &snapshot.stage;
        let old = stage.base.as_ref().map(|base| base.size);
        let written = stage.file.staged.file().metadata().map_or(version.size, |data| data.len());
        stage.claim.commit(&snapshot.key, (old, version.size), written.saturating_sub(version.size));
        self.note_books();
    }

    /// Looks at the files that the kernel writes by itself.
    pub(super) fn see_unseen(&self) {
        if self.quota.limit().is_some() {
            self.handles.unseen_writers().iter().for_each(|handle: &Arc<FileHandle>| see(&handle.inode));
        }
    }

    /// Writes down what is known, for the next mount. `counted` is `None` while more may change.
    fn note_usage(&self, usage: Usage, counted: Option<SystemTime>) {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let note = Note { usage, counted: counted.map(seconds) };
        if let Ok(note) = serde_json::to_vec(&note) {
            self.cache.put_note(&self.bucket, &self.usage_topic(), &note);
        }
    }

    /// The same at the end of a mount of which everything is in the bucket.
    pub(super) fn note_final_usage(&self) {
        if let Some(standing) = self.quota.standing() {
            // They are in this note.
            self.quota.changes();
            self.note_usage(standing.stored, standing.counted);
        }
    }

    fn noted_usage(&self) -> Option<Note> {
        let note = self.cache.note(&self.bucket, &self.usage_topic())?;
        serde_json::from_slice(&note).ok()
    }

    /// No directory's note has an empty component.
    fn usage_topic(&self) -> String {
        format!("//usage/{}", self.options.prefix)
    }

    /// Looks after the books; whether there still is a quota.
    async fn tend_quota(&self) -> bool {
        if self.quota.limit().is_none() {
            return false;
        }
        self.see_unseen();
        if self.quota.is_due(clock::now())
            && let Err(error) = self.count_usage().await
        {
            tracing::warn!(%error, "what the quota has to count cannot be listed; trying again");
        }
        if let Some(usage) = self.quota.changes() {
            self.note_usage(usage, None);
        }
        true
    }
}

/// Until the mount or its quota is gone.
async fn tend(vfs: Weak<Vfs>) {
    while let Some(vfs) = vfs.upgrade() {
        if !vfs.tend_quota().await {
            return;
        }
        drop(vfs);
        tokio::time::sleep(LOOK).await;
    }
}

/// Notes how long a staged file is.
fn see(inode: &Inode) {
    let Node::File(file) = &inode.node else { return };
    let state = file.state.lock();
    if let Some(stage) = state.pending()
        && let Ok(data) = stage.file.staged.file().metadata()
    {
        stage.claim.see(stage.excess(data.len()));
    }
}
