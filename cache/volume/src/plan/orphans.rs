//! Volumes of nodes that have gone. What is staged on one is uploaded by a node in its zone; an empty one is kept for
//! a successor for a while, then deleted by whoever sees it.

use super::{Action, CloudSeen, LATER, Step, View, Why};
use crate::spec::Spec;
use crate::state::{AttachmentState, InstanceState, Staged, Tags, Volume, VolumeState};

impl View<'_> {
    /// Whether a node that has gone left it and nothing holds it.
    pub(super) fn is_orphan(self, cloud: &CloudSeen, volume: &Volume) -> bool {
        // A listing may lag behind what is mounted here.
        let free = volume.attachment.is_none()
            && self.host(volume).is_none()
            && volume.tags.quarantine.is_none()
            && matches!(volume.state, VolumeState::Available | VolumeState::Error);
        free && !self.is_mine(volume) && self.is_left(cloud, volume)
    }

    /// The next step with a volume of another node. `idle`: this node has time for a rescue.
    pub(super) fn collect(self, cloud: &CloudSeen, volume: &Volume, idle: bool) -> Step {
        if let Some(attachment) = &volume.attachment {
            // Only what the cloud says outright counts: an instance that it does not list may be alive.
            let dead = cloud.instances.get(&attachment.instance);
            if dead.is_some_and(|instance| instance.state == InstanceState::Terminated) {
                if attachment.state == AttachmentState::Detaching {
                    return self.wait(Some(volume), Why::Detaching, LATER);
                }
                let (volume, instance) = (volume.id.clone(), attachment.instance.clone());
                return Step::Do(Action::Detach { volume, instance });
            }
            return Step::Done;
        }
        if let Some(why) = &volume.tags.quarantine {
            return self.wait(Some(volume), Why::Quarantined(why.clone()), LATER);
        }
        if !self.is_orphan(cloud, volume) {
            return Step::Done;
        }
        match volume.tags.staged {
            Staged::Maybe => self.rescue(cloud, volume, idle),
            Staged::None => self.delete_after_grace(volume),
        }
    }

    fn rescue(self, cloud: &CloudSeen, volume: &Volume, idle: bool) -> Step {
        let reachable = volume.zone == self.desired.zone && volume.state == VolumeState::Available;
        if idle && reachable && self.has_slot(cloud) {
            // Generation 0: it is emptied, it does not become the volume in use.
            return self.claim(volume, 0);
        }
        self.wait(Some(volume), Why::OrphanStaged(volume.zone.clone()), LATER)
    }

    fn delete_after_grace(self, volume: &Volume) -> Step {
        let Some(since) = volume.tags.orphan_since else {
            let tags = Box::new(Tags { orphan_since: Some(self.seen.now), ..volume.tags.clone() });
            return Step::Do(Action::Tag { volume: volume.id.clone(), tags });
        };
        let grace =
            self.desired.spec.as_ref().map_or_else(|| Spec::default().orphan_grace, |spec| spec.orphan_grace);
        let until = since.after(grace);
        if until > self.seen.now {
            return self.wait_until(volume, Why::OrphanGrace, until);
        }
        Step::Do(Action::Delete { volume: volume.id.clone() })
    }
}
