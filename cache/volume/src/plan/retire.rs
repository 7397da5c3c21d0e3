//! The way of a volume of ours that is not wanted: what is staged on it is uploaded, then it is unmounted, detached
//! and deleted. What cannot be read is left for a person.

use super::{Action, CloudSeen, LATER, SOON, Step, View, Why, unmount};
use crate::state::{AttachmentState, Place, Staged, StagedFiles, Tags, Volume, VolumeState};

impl View<'_> {
    /// The next step until it is gone, or rests in quarantine.
    pub(super) fn retire(self, cloud: &CloudSeen, volume: &Volume) -> Step {
        if volume.state == VolumeState::Deleting {
            return Step::Done;
        }
        if self.serves(&volume.id) {
            return match self.desired.spec {
                None => Step::Do(Action::Serve(Place::Host)),
                Some(_) => self.leave_for_successor(cloud, volume),
            };
        }
        if let Some(why) = &volume.tags.quarantine {
            let released = self.release(volume);
            return released.unwrap_or_else(|| self.wait(Some(volume), Why::Quarantined(why.clone()), LATER));
        }
        let staged = self.seen.staged.get(&volume.id).copied();
        let surely_empty = volume.tags.staged == Staged::None && staged.is_none_or(StagedFiles::is_empty);
        if surely_empty {
            // Remembered, because nothing can be seen of it once it is detached.
            if self.spoiled(volume).is_some() && !volume.tags.discard {
                return self.tag(volume, |tags| tags.discard = true);
            }
            return self.release(volume).unwrap_or_else(|| self.delete(volume));
        }
        if let Some(why) = self.spoiled(volume) {
            return self.tag(volume, |tags| tags.quarantine = Some(why));
        }
        if volume.tags.instance != self.desired.instance {
            return self.claim(volume, 0);
        }
        if let Some(step) = self.reach(cloud, volume) {
            return step;
        }
        match staged {
            None => self.wait(Some(volume), Why::StagedUnknown, SOON),
            Some(staged) if staged.is_empty() => self.tag(volume, |tags| tags.staged = Staged::None),
            Some(staged) => {
                let recover = Action::Recover { volume: volume.id.clone() };
                match self.seen.memory.held.get(&recover.key()) {
                    Some(&until) if until > self.seen.now => {
                        self.wait_until(volume, Why::Staged(staged), until)
                    }
                    Some(_) | None => Step::Do(recover),
                }
            }
        }
    }

    /// It serves until its successor does; a spoiled one, or one whose slot the successor needs, leaves at once.
    fn leave_for_successor(self, cloud: &CloudSeen, volume: &Volume) -> Step {
        let needs_its_slot = !self.has_slot(cloud) && self.would_have_slot(cloud, 1);
        let leave = self.spoiled(volume).is_some() || volume.tags.quarantine.is_some() || needs_its_slot;
        if leave { Step::Do(Action::Serve(Place::Host)) } else { self.wait(Some(volume), Why::Serving, SOON) }
    }

    /// Unmounts and detaches; `None` when it is attached to nothing.
    fn release(self, volume: &Volume) -> Option<Step> {
        if let Some((host, mount)) = self.host(volume).and_then(|host| Some((host, host.mount.as_ref()?))) {
            return Some(unmount(host, mount));
        }
        volume.attachment.as_ref().map(|attachment| match attachment.state {
            AttachmentState::Attaching | AttachmentState::Attached => self.detach(volume),
            AttachmentState::Detaching => self.wait(Some(volume), Why::Detaching, SOON),
        })
    }

    fn delete(self, volume: &Volume) -> Step {
        match volume.state {
            VolumeState::Available | VolumeState::Error => {
                Step::Do(Action::Delete { volume: volume.id.clone() })
            }
            VolumeState::Creating => self.wait(Some(volume), Why::Creating, SOON),
            VolumeState::InUse | VolumeState::Deleting => self.wait(Some(volume), Why::Detaching, SOON),
        }
    }

    fn tag(self, volume: &Volume, change: impl FnOnce(&mut Tags)) -> Step {
        let mut tags = Box::new(volume.tags.clone());
        change(&mut tags);
        Step::Do(Action::Tag { volume: volume.id.clone(), tags })
    }
}
