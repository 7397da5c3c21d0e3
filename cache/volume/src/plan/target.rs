//! The volume that is to be in use: which one, how to come by it, and the way until it serves.

use super::{Action, CloudSeen, Desired, LATER, NewVolume, SOON, Step, View, Why};
use crate::spec::{Fit, Spec};
use crate::state::{Place, Staged, Tags, Volume, VolumeState};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// A volume that was made and is not listed for so long will not be: its token belongs to one that was deleted.
const APPEAR_LIMIT: Duration = Duration::from_secs(5 * 60);

impl<'a> View<'a> {
    /// Which of our volumes is to be in use: the one that is, if it will do, else the last that was made.
    pub(super) fn target(self, cloud: &'a CloudSeen) -> Option<&'a Volume> {
        let spec = self.desired.spec.as_ref()?;
        let will_do = cloud.volumes.iter().filter(|volume| {
            self.is_mine(volume)
                && volume.state != VolumeState::Deleting
                && volume.tags.quarantine.is_none()
                && !volume.tags.discard
                && self.spoiled(volume).is_none()
                && spec.fit(volume) == Fit::Usable
        });
        will_do.max_by_key(|volume| (self.serves(&volume.id), volume.tags.generation, &volume.id))
    }

    /// The next step until the target serves.
    pub(super) fn bring_up(self, cloud: &CloudSeen, target: Option<&Volume>) -> Step {
        let Some(spec) = &self.desired.spec else { return Step::Done };
        let Some(volume) = target else { return self.acquire(cloud, spec) };
        if volume.tags.instance != self.desired.instance || volume.tags.orphan_since.is_some() {
            return self.claim(volume, volume.tags.generation);
        }
        if let Some(step) = self.reach(cloud, volume) {
            return step;
        }
        if volume.tags.staged == Staged::None {
            let tags = Box::new(Tags { staged: Staged::Maybe, ..volume.tags.clone() });
            return Step::Do(Action::Tag { volume: volume.id.clone(), tags });
        }
        if self.serves(&volume.id) {
            return Step::Done;
        }
        // What its last users left is uploaded first. If that fails the volume serves all the same: nothing of it is
        // lost, and it is tried again by whoever uses the directory.
        let recover = Action::Recover { volume: volume.id.clone() };
        let left = self.seen.staged.get(&volume.id).is_some_and(|staged| !staged.is_empty());
        if left && !self.seen.memory.held.contains_key(&recover.key()) {
            return Step::Do(recover);
        }
        Step::Do(Action::Serve(Place::Volume(volume.id.clone())))
    }

    /// A volume that another node left, or a new one.
    fn acquire(self, cloud: &CloudSeen, spec: &Spec) -> Step {
        if let Some(zone) = spec.zone.as_ref().filter(|&zone| *zone != self.desired.zone) {
            return self.wait(None, Why::OtherZone(zone.clone()), LATER);
        }
        if !self.has_slot(cloud) {
            return self.wait(None, Why::NoSlot, LATER);
        }
        if let Some((_, since)) = &self.seen.memory.created
            && self.seen.now.since(*since) <= APPEAR_LIMIT
        {
            return self.wait(None, Why::Appearing, SOON);
        }
        let fitting = cloud.volumes.iter().filter(|volume| {
            self.is_orphan(cloud, volume)
                && volume.state == VolumeState::Available
                && volume.zone == self.desired.zone
                && !volume.tags.discard
                && spec.fit(volume) == Fit::Usable
        });
        let best =
            fitting.max_by_key(|volume| (volume.tags.staged == Staged::Maybe, volume.size, &volume.id));
        match best {
            Some(volume) => self.claim(volume, self.next_generation(cloud)),
            None => Step::Do(Action::Create(Box::new(new_volume(
                self.desired,
                spec,
                self.next_generation(cloud),
            )))),
        }
    }

    /// Writes this node's name on a volume.
    pub(super) fn claim(self, volume: &Volume, generation: u64) -> Step {
        let tags = Tags {
            node: self.desired.node.clone(),
            instance: self.desired.instance.clone(),
            generation,
            claimed: Some(self.seen.now),
            orphan_since: None,
            ..volume.tags.clone()
        };
        Step::Do(Action::Tag { volume: volume.id.clone(), tags: Box::new(tags) })
    }

    fn next_generation(self, cloud: &CloudSeen) -> u64 {
        let own = cloud.volumes.iter().filter(|volume| volume.tags.instance == self.desired.instance);
        let known = own.map(|volume| volume.tags.generation).max().unwrap_or(0);
        // A volume that was made and never listed has used up its token.
        let lost = u64::from(self.seen.memory.created.is_some());
        known.max(self.seen.memory.generation + lost) + 1
    }
}

/// The volume that a node makes as its `generation`th. Nothing of it may change from one try to the next: the service
/// compares.
pub(super) fn new_volume(desired: &Desired, spec: &Spec, generation: u64) -> NewVolume {
    let tags = Tags {
        node: desired.node.clone(),
        instance: desired.instance.clone(),
        generation,
        staged: Staged::None,
        file_system: Some(spec.file_system),
        claimed: None,
        orphan_since: None,
        discard: false,
        quarantine: None,
    };
    NewVolume {
        token: token(desired, generation),
        zone: desired.zone.clone(),
        volume_type: spec.volume_type,
        size: spec.size_min,
        iops: spec.iops_at(spec.size_min),
        throughput: spec.throughput,
        encryption: spec.encryption.clone(),
        tags,
        user_tags: spec.tags.clone(),
    }
}

/// 64 characters, the most that EC2 takes.
fn token(desired: &Desired, generation: u64) -> String {
    let text = format!("{}\n{}\n{generation}", desired.owner, desired.instance);
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
