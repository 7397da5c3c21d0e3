//! Growth of the volume in use, and every other change that needs no other volume.

use super::{Action, Change, LATER, SOON, Step, View, Why};
use crate::spec::Spec;
use crate::state::{ModificationState, Mount, Volume};

impl View<'_> {
    /// The next step until the volume in use is as large and as fast as it is wanted.
    pub(super) fn grow(self, volume: &Volume) -> Step {
        let Some(spec) = self.desired.spec.as_ref().filter(|_| self.serves(&volume.id)) else {
            return Step::Done;
        };
        let Some(host) = self.host(volume) else { return Step::Done };
        let (Some(device), Some(mount)) = (&host.device, &host.mount) else { return Step::Done };
        if self.seen.memory.grown.get(&volume.id) != Some(&device.size) {
            return Step::Do(Action::GrowFileSystem { volume: volume.id.clone(), size: device.size });
        }
        let running = volume.modification.filter(|modification| match modification.state {
            ModificationState::Modifying | ModificationState::Optimizing => true,
            ModificationState::Completed | ModificationState::Failed => false,
        });
        if device.size < volume.size.bytes() {
            return self.wait(Some(volume), Why::DeviceGrowing, SOON);
        }
        let Some(change) = change(spec, volume, mount) else {
            let full = spec.is_over_mark(mount.used, mount.size);
            return if full { self.wait(Some(volume), Why::AtCeiling, LATER) } else { Step::Done };
        };
        if running.is_some() {
            return self.wait(Some(volume), Why::Modifying, SOON);
        }
        if let Some(last) = volume.modification {
            let until = last.started.after(spec.modify_cool_down);
            if until > self.seen.now {
                return self.wait_until(volume, Why::CoolDown, until);
            }
        }
        Step::Do(Action::Modify { volume: volume.id.clone(), change })
    }
}

/// What the volume is to become, if that is not what it is.
fn change(spec: &Spec, volume: &Volume, mount: &Mount) -> Option<Change> {
    let full = spec.is_over_mark(mount.used, mount.size);
    let grown = if full { spec.grown(volume.size, mount.used) } else { volume.size };
    let size = grown.max(spec.size_min).max(volume.size);
    let change =
        Change { size, volume_type: spec.volume_type, iops: spec.iops_at(size), throughput: spec.throughput };
    let differs = |wanted: Option<u32>, now: Option<u32>| wanted.is_some() && wanted != now;
    let changes = size > volume.size
        || Some(change.volume_type) != volume.volume_type
        || differs(change.iops, volume.iops)
        || differs(change.throughput, volume.throughput);
    changes.then_some(change)
}
