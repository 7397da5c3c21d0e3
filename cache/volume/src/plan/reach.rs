//! The way of one of our volumes from wherever it is to a mounted file system.

use super::{Action, CloudSeen, LATER, SOON, Step, View, Why};
use crate::id::DeviceName;
use crate::spec::FileSystem;
use crate::state::{AttachmentState, Content, Health, Instance, Volume, VolumeState};
use std::collections::BTreeSet;
use std::time::Duration;

/// An attachment that takes longer is stuck, and another name of a device may help.
const ATTACH_LIMIT: Duration = Duration::from_secs(90);
/// A device that takes longer to appear will not.
const DEVICE_LIMIT: Duration = Duration::from_secs(120);

impl View<'_> {
    /// The next step towards a mount; `None` if it is mounted. The volume is ours and not spoiled.
    pub(super) fn reach(self, cloud: &CloudSeen, volume: &Volume) -> Option<Step> {
        if let Some(mount) = self.mount(volume) {
            // A dead mount is taken away first.
            return if mount.alive { None } else { Some(Step::Done) };
        }
        let Some(attachment) = &volume.attachment else { return Some(self.attach(cloud, volume)) };
        Some(match attachment.state {
            AttachmentState::Attaching if self.seen.now.since(attachment.since) > ATTACH_LIMIT => {
                self.detach(volume)
            }
            AttachmentState::Attaching => self.wait(Some(volume), Why::Attaching, SOON),
            AttachmentState::Detaching => self.wait(Some(volume), Why::Detaching, SOON),
            AttachmentState::Attached => self.prepare(volume),
        })
    }

    /// Takes an unmounted volume off this instance.
    pub(super) fn detach(self, volume: &Volume) -> Step {
        Step::Do(Action::Detach { volume: volume.id.clone(), instance: self.desired.instance.clone() })
    }

    /// Whether one more volume can be attached, with the reserved slots left free.
    pub(super) fn has_slot(self, cloud: &CloudSeen) -> bool {
        self.would_have_slot(cloud, 0)
    }

    /// The same once so many volumes have been taken off.
    pub(super) fn would_have_slot(self, cloud: &CloudSeen, freed: u32) -> bool {
        let reserved = self.desired.spec.as_ref().map_or(0, |spec| spec.reserved_slots);
        cloud.instances.get(&self.desired.instance).is_none_or(|instance| {
            let taken = instance.slots_taken.saturating_sub(freed).saturating_add(reserved);
            instance.slots.is_none_or(|slots| taken < slots)
        })
    }

    fn attach(self, cloud: &CloudSeen, volume: &Volume) -> Step {
        match volume.state {
            VolumeState::Available if !self.has_slot(cloud) => self.wait(Some(volume), Why::NoSlot, LATER),
            VolumeState::Available => {
                let taken =
                    cloud.instances.get(&self.desired.instance).map(|instance: &Instance| &instance.devices);
                let device = free_device(taken.unwrap_or(&BTreeSet::new()), &self.seen.memory.bad_devices);
                match device {
                    Some(device) => Step::Do(Action::Attach { volume: volume.id.clone(), device }),
                    None => self.wait(Some(volume), Why::NoSlot, LATER),
                }
            }
            VolumeState::Creating => self.wait(Some(volume), Why::Creating, SOON),
            VolumeState::InUse | VolumeState::Deleting | VolumeState::Error => {
                self.wait(Some(volume), Why::Detaching, SOON)
            }
        }
    }

    fn prepare(self, volume: &Volume) -> Step {
        let id = volume.id.clone();
        let Some(device) = self.host(volume).and_then(|host| host.device.as_ref()) else {
            let missing = self.seen.memory.missing.get(&id);
            let too_long = missing.is_some_and(|&since| self.seen.now.since(since) > DEVICE_LIMIT);
            return if too_long {
                self.detach(volume)
            } else {
                self.wait(Some(volume), Why::DeviceMissing, SOON)
            };
        };
        match (&device.content, self.seen.memory.checked.get(&id)) {
            (Content::Blank, _) => {
                Step::Do(Action::Format { volume: id, file_system: self.file_system(volume) })
            }
            (Content::Ours(_), None) => Step::Do(Action::Check { volume: id }),
            (Content::Ours(_), Some(Health::Sound)) => Step::Do(Action::Mount { volume: id }),
            // Both are spoiled, which the caller looks at first.
            (Content::Ours(_), Some(Health::Damaged)) | (Content::Foreign(_), _) => Step::Done,
        }
    }

    fn file_system(self, volume: &Volume) -> FileSystem {
        let wanted = self.desired.spec.as_ref().map(|spec| spec.file_system);
        volume.tags.file_system.or(wanted).unwrap_or_default()
    }
}

/// The first name that is free; one that did not work before only if all others are taken.
fn free_device(taken: &BTreeSet<DeviceName>, bad: &BTreeSet<DeviceName>) -> Option<DeviceName> {
    // Names that AWS recommends for HVM instances beyond the first few: /dev/xvdba to /dev/xvddx.
    let names =
        ('b'..='d').flat_map(|first| ('a'..='x').map(move |second| format!("/dev/xvd{first}{second}")));
    let free = || names.clone().map(DeviceName::new).filter(|name| !taken.contains(name));
    free().find(|name| !bad.contains(name)).or_else(|| free().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_name_is_preferred_to_a_bad_one_and_that_to_none() {
        let name = |text: &str| DeviceName::new(text);
        let none = BTreeSet::new();
        assert_eq!(free_device(&none, &none), Some(name("/dev/xvdba")));
        let taken = BTreeSet::from([name("/dev/xvdba")]);
        assert_eq!(free_device(&taken, &BTreeSet::from([name("/dev/xvdbb")])), Some(name("/dev/xvdbc")));
        let mut all = none.clone();
        while let Some(next) = free_device(&all, &none) {
            all.insert(next);
        }
        assert_eq!(all.len(), 72);
        let last = name("/dev/xvddx");
        all.remove(&last);
        assert_eq!(free_device(&all, &BTreeSet::from([last.clone()])), Some(last));
    }
}
