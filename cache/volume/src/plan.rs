//! From what is wanted and what is seen to the next thing to do. Pure: no clock, no calls, no memory of its own.
//!
//! One step at a time: it is done, everything is looked at again, and the next one follows. So a crash between two
//! steps needs no care, and whatever others did meanwhile is taken into account.
//!
//! Invariants, which `plan/tests.rs` tries on arbitrary states:
//! - Only a blank device is formatted, and only of a volume that was never in use.
//! - A volume is deleted only when its tags say that nothing is staged on it, it is attached to nothing and no node
//!   that may still live has it.
//! - A volume is detached only from this instance, when it is not mounted here, or from one that is terminated.
//! - A directory is served from a volume only after its tags say that something may be staged on it.
//! - The mounts have a directory whatever the cloud does: the one on the host.
//!
//! Several things go on at once (the volume in use, its growth, old volumes, other nodes' orphans): each gives its own
//! step, and the first one that is to be done now is the plan.

mod action;
mod grow;
mod orphans;
mod reach;
mod retire;
mod target;

pub use action::{Action, ActionKey, Change, NewVolume, Wait, Why};

use crate::id::{DeviceName, InstanceId, NodeName, Owner, VolumeId, Zone};
use crate::spec::Spec;
use crate::state::{
    AttachmentState, Content, Health, HostVolume, Instance, InstanceState, Mount, Place, Staged, StagedFiles,
    Timestamp, Volume, VolumeState,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How soon something is looked at again that changes within seconds.
const SOON: Duration = Duration::from_secs(2);
/// How soon something is looked at again that changes when somebody does something about it.
const LATER: Duration = Duration::from_secs(60);

/// What is wanted on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Whose volumes are touched at all.
    pub owner: Owner,
    /// The node's name.
    pub node: NodeName,
    /// The instance it is.
    pub instance: InstanceId,
    /// Where that is.
    pub zone: Zone,
    /// The cache volume that it is to have; `None` for none, so that those it has are emptied and deleted.
    pub spec: Option<Spec>,
}

impl Desired {
    /// The volume that would be made first, to ask the cloud whether it would be allowed.
    pub fn first_volume(&self) -> Option<NewVolume> {
        self.spec.as_ref().map(|spec| target::new_volume(self, spec, 1))
    }
}

/// What is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub now: Timestamp,
    /// Where the mounts of this node keep what they cache; `None` before they were told.
    pub place: Option<Place>,
    /// What the cloud says; `None` while it does not answer or does not let us ask.
    pub cloud: Option<CloudSeen>,
    /// What the host says of our volumes.
    pub host: BTreeMap<VolumeId, HostVolume>,
    /// What is staged on mounted volumes, as far as it could be found out.
    pub staged: BTreeMap<VolumeId, StagedFiles>,
    /// What this process has learnt.
    pub memory: Memory,
}

/// What the cloud says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CloudSeen {
    /// All volumes of the owner.
    pub volumes: Vec<Volume>,
    /// This instance and those that the volumes name, as far as they exist.
    pub instances: BTreeMap<InstanceId, Instance>,
}

/// What a process learns by acting. Losing it costs a few calls that change nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// What checks of unmounted file systems found.
    pub checked: BTreeMap<VolumeId, Health>,
    /// The size of the device for which a file system was last grown, in bytes.
    pub grown: BTreeMap<VolumeId, u64>,
    /// A volume that was made but is not listed yet, and since when.
    pub created: Option<(VolumeId, Timestamp)>,
    /// The last generation whose token is used up.
    pub generation: u64,
    /// Names of devices that did not work.
    pub bad_devices: BTreeSet<DeviceName>,
    /// Since when an attached volume has had no device.
    pub missing: BTreeMap<VolumeId, Timestamp>,
    /// What was done a moment ago, and until when the cloud may not show it yet.
    pub settling: BTreeMap<ActionKey, Timestamp>,
    /// What failed and is not tried again before this time.
    pub held: BTreeMap<ActionKey, Timestamp>,
    /// The cloud is not asked for anything before this time.
    pub cloud_held: Option<Timestamp>,
}

/// The next thing to do, and what is being waited for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// To be done now; `None` if there is nothing.
    pub action: Option<Action>,
    /// What goes on by itself, or what somebody else must see to.
    pub waits: Vec<Wait>,
}

/// What one of the things that go on comes to.
#[derive(Debug)]
enum Step {
    Do(Action),
    Wait(Wait),
    Done,
}

/// Decides.
pub fn plan(desired: &Desired, seen: &Seen) -> Plan {
    let mut plan = Plan::default();
    for step in (View { desired, seen }).steps() {
        match step {
            Step::Do(action) => match held(&action, seen) {
                Some((why, until)) => {
                    plan.waits.push(Wait { volume: action.volume().cloned(), why, until });
                }
                None => plan.action = plan.action.or(Some(action)),
            },
            Step::Wait(wait) => plan.waits.push(wait),
            Step::Done => {}
        }
    }
    plan
}

/// Why and until when an action must wait.
fn held(action: &Action, seen: &Seen) -> Option<(Why, Timestamp)> {
    let (key, memory) = (action.key(), &seen.memory);
    let settling = memory.settling.get(&key).map(|&until| (Why::Settling(key.clone()), until));
    let throttled = memory.cloud_held.filter(|_| action.is_of_the_cloud());
    let failed = memory.held.get(&key).copied().max(throttled).map(|until| (Why::Held(key), until));
    [settling, failed].into_iter().flatten().find(|&(_, until)| until > seen.now)
}

/// Both sides, and what follows from them.
#[derive(Debug, Clone, Copy)]
struct View<'a> {
    desired: &'a Desired,
    seen: &'a Seen,
}

impl<'a> View<'a> {
    /// Most urgent first.
    fn steps(self) -> Vec<Step> {
        let mut steps = vec![self.have_a_place()];
        steps.extend(self.seen.host.values().map(|volume| self.leave_the_lost(volume)));
        let Some(cloud) = &self.seen.cloud else {
            steps.push(self.wait(None, Why::CloudAway, LATER));
            return steps;
        };
        let target = self.target(cloud);
        steps.push(self.bring_up(cloud, target));
        steps.extend(target.map(|target| self.grow(target)));
        let others = cloud.volumes.iter().filter(|volume| target.is_none_or(|target| target.id != volume.id));
        let (mine, foreign): (Vec<&Volume>, Vec<&Volume>) = others.partition(|volume| self.is_mine(volume));
        steps.extend(mine.iter().map(|volume| self.retire(cloud, volume)));
        let idle = mine.iter().all(|volume| volume.tags.quarantine.is_some());
        steps
            .extend(foreign.iter().map(|volume| self.collect(cloud, volume, idle && self.is_served(target))));
        steps
    }

    /// Mounts start on the host's directory, so that they never wait for the cloud, and go back to it when their volume
    /// is not mounted, as after a reboot: the directory under a mount point is nobody's cache.
    fn have_a_place(self) -> Step {
        let has_one = match &self.seen.place {
            None => false,
            Some(Place::Host) => true,
            Some(Place::Volume(volume)) => {
                self.seen.host.get(volume).is_some_and(|host| host.mount.is_some())
            }
        };
        if has_one { Step::Done } else { Step::Do(Action::Serve(Place::Host)) }
    }

    /// Takes the mounts off a volume that has gone, or that somebody is taking off the instance.
    fn leave_the_lost(self, volume: &HostVolume) -> Step {
        let Some(mount) = &volume.mount else { return Step::Done };
        let taken = self.cloud_volume(&volume.volume).is_some_and(|cloud| {
            let detaching = |state| state == AttachmentState::Detaching;
            self.is_mine(cloud) && cloud.attachment.as_ref().is_some_and(|a| detaching(a.state))
        });
        if mount.alive && !taken {
            return Step::Done;
        }
        if self.serves(&volume.volume) {
            return Step::Do(Action::Serve(Place::Host));
        }
        unmount(volume, mount)
    }

    fn cloud_volume(self, id: &VolumeId) -> Option<&'a Volume> {
        self.seen.cloud.as_ref()?.volumes.iter().find(|volume| volume.id == *id)
    }

    fn host(self, volume: &Volume) -> Option<&'a HostVolume> {
        self.seen.host.get(&volume.id)
    }

    fn mount(self, volume: &Volume) -> Option<&'a Mount> {
        self.host(volume)?.mount.as_ref()
    }

    /// Whether this volume is where the mounts keep what they cache.
    fn serves(self, volume: &VolumeId) -> bool {
        matches!(&self.seen.place, Some(Place::Volume(served)) if served == volume)
    }

    /// Whether the wanted volume is in use, if one is wanted.
    fn is_served(self, target: Option<&Volume>) -> bool {
        target.is_some_and(|target| self.serves(&target.id))
    }

    /// An attachment is a fact; a tag is what somebody wrote, perhaps at the same time as somebody else.
    fn is_mine(self, volume: &Volume) -> bool {
        match &volume.attachment {
            Some(attachment) => attachment.instance == self.desired.instance,
            None => volume.tags.instance == self.desired.instance && volume.zone == self.desired.zone,
        }
    }

    /// Why a volume of ours cannot be used, if so.
    fn spoiled(self, volume: &Volume) -> Option<String> {
        if volume.state == VolumeState::Error {
            return Some("EC2 reports the state error".into());
        }
        if self.seen.memory.checked.get(&volume.id) == Some(&Health::Damaged) {
            return Some("its file system is damaged beyond automatic repair".into());
        }
        match &self.host(volume)?.device.as_ref()?.content {
            Content::Foreign(what) => Some(format!("it holds {what}, which tarn did not make")),
            Content::Blank if volume.tags.staged == Staged::Maybe => {
                Some("it is blank although it was in use".into())
            }
            Content::Blank | Content::Ours(_) => None,
        }
    }

    /// Whether the node that a volume names will never use it. One that is not listed may be too young to be.
    fn is_left(self, cloud: &CloudSeen, volume: &Volume) -> bool {
        const UNLISTED: Duration = Duration::from_secs(10 * 60);
        match cloud.instances.get(&volume.tags.instance) {
            Some(instance) => instance.state == InstanceState::Terminated || instance.zone != volume.zone,
            None => self.seen.now.since(volume.tags.claimed.unwrap_or(volume.created)) > UNLISTED,
        }
    }

    fn wait(self, volume: Option<&Volume>, why: Why, pause: Duration) -> Step {
        let until = self.seen.now.after(pause);
        Step::Wait(Wait { volume: volume.map(|volume| volume.id.clone()), why, until })
    }

    fn wait_until(self, volume: &Volume, why: Why, until: Timestamp) -> Step {
        Step::Wait(Wait { volume: Some(volume.id.clone()), why, until })
    }
}

/// Nobody is waited for where there is nothing left to be written back.
fn unmount(volume: &HostVolume, mount: &Mount) -> Step {
    Step::Do(Action::Unmount { volume: volume.volume.clone(), lost: !mount.alive })
}

#[cfg(test)]
mod tests;
