//! What a person or a custom resource is told.

use super::Reconciler;
use crate::id::VolumeId;
use crate::plan::{Action, Seen, Wait, Why};
use crate::state::{Gib, Place, StagedFiles, Timestamp};
use serde::Serialize;

/// The state of a node's cache volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Where the mounts keep what they cache; `None` before they were told.
    pub place: Option<Place>,
    /// Every volume that this node can see.
    pub volumes: Vec<VolumeStatus>,
    /// What is being done.
    pub doing: Option<String>,
    /// What is waited for, or needs a person.
    pub conditions: Vec<Condition>,
    /// The last failure, which may be over.
    pub last_error: Option<String>,
}

/// A volume that is attached to this node or may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
    /// The volume.
    pub id: VolumeId,
    /// Its size.
    pub size_gib: Option<Gib>,
    /// Bytes in use, while it is mounted.
    pub used_bytes: Option<u64>,
    /// What is staged on it, while it is mounted.
    pub staged: Option<StagedFiles>,
}

/// Something that is not as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The volume it is about.
    pub volume: Option<VolumeId>,
    /// For programs.
    pub reason: Why,
    /// For people.
    pub message: String,
    /// Whether nothing will change unless somebody does something.
    pub needs_a_person: bool,
    /// When it is looked at again.
    pub until: Timestamp,
}

impl From<&Wait> for Condition {
    fn from(wait: &Wait) -> Self {
        Self {
            volume: wait.volume.clone(),
            reason: wait.why.clone(),
            message: wait.why.to_string(),
            needs_a_person: wait.why.needs_a_person(),
            until: wait.until,
        }
    }
}

impl Reconciler {
    pub(super) fn report(&self, seen: &Seen, action: Option<&Action>, waits: &[Wait]) {
        let doing = action.map(|action| match action.volume() {
            Some(volume) => format!("{} {volume}", action.name()),
            None => action.name().to_owned(),
        });
        let conditions: Vec<Condition> = waits.iter().map(Condition::from).collect();
        let volumes = volumes(seen);
        self.status.send_if_modified(|status| {
            // An error is told until something succeeds and nothing is held.
            let last_error =
                if conditions.is_empty() && doing.is_none() { None } else { status.last_error.clone() };
            let new = Status { place: seen.place.clone(), volumes, doing, conditions, last_error };
            let changed = *status != new;
            *status = new;
            changed
        });
    }
}

fn volumes(seen: &Seen) -> Vec<VolumeStatus> {
    let listed = seen.cloud.iter().flat_map(|cloud| &cloud.volumes);
    let size = |id: &VolumeId| listed.clone().find(|volume| volume.id == *id).map(|volume| volume.size);
    let present = seen.host.values().map(|host| VolumeStatus {
        id: host.volume.clone(),
        size_gib: size(&host.volume),
        used_bytes: host.mount.as_ref().map(|mount| mount.used),
        staged: seen.staged.get(&host.volume).copied(),
    });
    present.collect()
}
