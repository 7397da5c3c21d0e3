//! The planner's promises, on states that no order of events need lead to.

use super::*;
use crate::spec::{FileSystem, VolumeType};
use crate::state::{Attachment, Device, Gib, Modification, ModificationState, Tags};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const NOW: Timestamp = Timestamp(1_000_000);

fn volume_id(number: u8) -> VolumeId {
    VolumeId::parse(&format!("vol-{number:08x}")).unwrap()
}

/// This instance, a living one, one that is terminated, and one that is not listed.
fn instance(number: usize) -> InstanceId {
    InstanceId::new(["i-me", "i-alive", "i-dead", "i-unknown"][number])
}

fn desired(spec: Option<Spec>) -> Desired {
    Desired {
        owner: Owner::new("test"),
        node: NodeName::new("me"),
        instance: instance(0),
        zone: Zone::new("a"),
        spec,
    }
}

fn spec() -> Spec {
    Spec { size_min: Gib(10), size_max: Gib(40), ..Spec::default() }
}

fn times() -> impl Strategy<Value = Timestamp> {
    select(vec![0_u64, 1, 60, 100, 200, 4_000, 30_000]).prop_map(|ago| Timestamp(NOW.0 - ago))
}

fn tags() -> impl Strategy<Value = Tags> {
    let staged = select(vec![Staged::None, Staged::Maybe]);
    let quarantine = prop_oneof![4 => Just(None), 1 => Just(Some("broken".to_owned()))];
    (0..4_usize, 0..4_u64, staged, option::of(times()), option::of(times()), quarantine).prop_map(
        |(owner, generation, staged, claimed, orphan_since, quarantine)| Tags {
            node: NodeName::new("me"),
            instance: instance(owner),
            generation,
            staged,
            file_system: Some(FileSystem::Ext4),
            claimed,
            orphan_since,
            discard: false,
            quarantine,
        },
    )
}

fn volume(id: VolumeId) -> impl Strategy<Value = Volume> {
    use AttachmentState::{Attached, Attaching, Detaching};
    let state = select(vec![
        VolumeState::Available,
        VolumeState::Creating,
        VolumeState::Deleting,
        VolumeState::Error,
        VolumeState::InUse,
    ]);
    let attachment =
        (0..4_usize, select(vec![Attached, Attaching, Detaching]), times()).prop_map(|(to, state, since)| {
            Attachment { instance: instance(to), device: DeviceName::new("/dev/xvdba"), state, since }
        });
    let modification = (
        select(vec![
            ModificationState::Modifying,
            ModificationState::Optimizing,
            ModificationState::Completed,
        ]),
        times(),
    )
        .prop_map(|(state, started)| Modification { state, started });
    let size = select(vec![10_u32, 20, 40, 80]);
    let zone = select(vec!["a", "a", "a", "b"]);
    (state, option::of(attachment), option::of(modification), size, zone, times(), tags()).prop_map(
        move |(state, attachment, modification, size, zone, created, tags)| Volume {
            id: id.clone(),
            zone: Zone::new(zone),
            volume_type: Some(VolumeType::Gp3),
            size: Gib(size),
            iops: Some(3_000),
            throughput: Some(125),
            encrypted: true,
            kms_key: None,
            state: if attachment.is_some() { VolumeState::InUse } else { state },
            attachment,
            modification,
            created,
            tags,
        },
    )
}

fn host_volume(volume: VolumeId) -> impl Strategy<Value = HostVolume> {
    let content =
        select(vec![Content::Blank, Content::Ours(FileSystem::Ext4), Content::Foreign("ntfs".to_owned())]);
    let size = select(vec![10_u64 << 30, 20 << 30]);
    let device = (size, content).prop_map(|(size, content)| Device { size, content });
    let mount = (1_u64..100, any::<bool>()).prop_map(|(percent, alive)| Mount {
        size: 10 << 30,
        used: percent * (10 << 30) / 100,
        alive,
    });
    (option::of(device), option::of(mount)).prop_map(move |(device, mount)| HostVolume {
        volume: volume.clone(),
        device,
        mount,
    })
}

fn states() -> impl Strategy<Value = (Desired, Seen)> {
    let volumes = (1..5_u8).map(|number| option::of(volume(volume_id(number)))).collect::<Vec<_>>();
    let hosts = (1..5_u8).map(|number| option::of(host_volume(volume_id(number)))).collect::<Vec<_>>();
    let place = option::of(prop_oneof![
        Just(Place::Host),
        (1..5_u8).prop_map(|number| Place::Volume(volume_id(number)))
    ]);
    let staged = btree_map(
        (1..5_u8).prop_map(volume_id),
        (0..3_u64).prop_map(|files| StagedFiles { files, bytes: files }),
        0..4,
    );
    let checked =
        btree_map((1..5_u8).prop_map(volume_id), select(vec![Health::Sound, Health::Damaged]), 0..4);
    let created = option::of((Just(volume_id(9)), times()));
    let known = (0..6_u32, vec(any::<bool>(), 3));
    (option::of(Just(spec())), volumes, hosts, place, staged, checked, created, known, any::<bool>())
        .prop_map(|(spec, volumes, hosts, place, staged, checked, created, (taken, _), away)| {
            let instances = (0..3).map(|number| {
                let state = if number == 2 { InstanceState::Terminated } else { InstanceState::Alive };
                let (id, zone) = (instance(number), Zone::new("a"));
                let (devices, slots, slots_taken) = (BTreeSet::new(), Some(5), taken);
                (id.clone(), Instance { id, zone, state, devices, slots, slots_taken })
            });
            let cloud = CloudSeen {
                volumes: volumes.into_iter().flatten().collect(),
                instances: instances.collect(),
            };
            let host = hosts.into_iter().flatten().map(|host| (host.volume.clone(), host)).collect();
            let memory = Memory { checked, created, ..Memory::default() };
            let cloud = (!away).then_some(cloud);
            (desired(spec), Seen { now: NOW, place, cloud, host, staged, memory })
        })
}

/// What every action must respect.
fn is_safe(desired: &Desired, seen: &Seen, action: &Action) -> Result<(), String> {
    let volumes = seen.cloud.iter().flat_map(|cloud| &cloud.volumes);
    let find = |id: &VolumeId| volumes.clone().find(|volume| volume.id == *id).ok_or("unknown volume");
    let host = |id: &VolumeId| seen.host.get(id);
    let mounted = |id: &VolumeId| host(id).is_some_and(|host| host.mount.is_some());
    let device = |id: &VolumeId| host(id).and_then(|host| host.device.as_ref());
    let serves = |id: &VolumeId| seen.place == Some(Place::Volume(id.clone()));
    let check = |holds: bool, rule: &str| if holds { Ok(()) } else { Err(rule.to_owned()) };
    match action {
        Action::Format { volume, .. } => {
            let tags = &find(volume)?.tags;
            check(tags.staged == Staged::None, "formats a volume that was in use")?;
            check(device(volume).is_some_and(|device| device.content == Content::Blank), "formats data")
        }
        Action::Delete { volume } => {
            let seen = find(volume)?;
            check(seen.tags.staged == Staged::None, "deletes staged data")?;
            check(seen.attachment.is_none() && !mounted(volume), "deletes what is attached")?;
            check(seen.tags.quarantine.is_none(), "deletes what is in quarantine")?;
            check(
                seen.tags.instance == desired.instance
                    || seen.tags.instance.as_str() != "i-alive"
                    || seen.zone.as_str() != "a",
                "deletes a living node's volume",
            )
        }
        Action::Detach { volume, instance } => {
            let dead = instance.as_str() == "i-dead";
            check(dead || (*instance == desired.instance && !mounted(volume)), "detaches what is in use")
        }
        Action::Unmount { volume, lost } => {
            check(!serves(volume), "unmounts the place in use")?;
            let alive = host(volume).and_then(|host| host.mount.as_ref()).is_some_and(|mount| mount.alive);
            check(*lost != alive, "does not wait for those who use it")
        }
        Action::Serve(Place::Volume(volume)) => {
            check(find(volume)?.tags.staged == Staged::Maybe, "serves unmarked")?;
            check(
                host(volume).and_then(|host| host.mount.as_ref()).is_some_and(|mount| mount.alive),
                "serves unmounted",
            )
        }
        Action::Tag { volume, tags } => {
            let before = find(volume)?;
            let cleared = before.tags.staged == Staged::Maybe && tags.staged == Staged::None;
            let empty = seen.staged.get(volume).is_some_and(|staged| staged.is_empty());
            check(
                !cleared || (empty && !serves(volume) && mounted(volume)),
                "says that nothing is staged without a look",
            )?;
            let attached_elsewhere =
                before.attachment.as_ref().is_some_and(|attachment| attachment.instance != desired.instance);
            check(!attached_elsewhere, "writes on what another node has")
        }
        Action::Recover { volume } => check(!serves(volume) && mounted(volume), "recovers under its users"),
        Action::Mount { volume } | Action::Check { volume } => {
            let ours = matches!(device(volume).map(|device| &device.content), Some(Content::Ours(_)));
            check(ours && !mounted(volume), "touches what is not ours")
        }
        Action::Attach { volume, .. } => {
            let seen = find(volume)?;
            check(seen.attachment.is_none() && seen.zone == desired.zone, "attaches what cannot be")
        }
        Action::Modify { volume, change } => check(change.size >= find(volume)?.size, "shrinks"),
        Action::Create(new) => check(new.tags.staged == Staged::None, "makes a volume that is in use"),
        Action::GrowFileSystem { volume, .. } => check(serves(volume), "grows what is not in use"),
        Action::Serve(Place::Host) => Ok(()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_step_from_any_state_harms((desired, seen) in states()) {
        let view = View { desired: &desired, seen: &seen };
        for step in view.steps() {
            if let Step::Do(action) = step
                && let Err(rule) = is_safe(&desired, &seen, &action)
            {
                prop_assert!(false, "{rule}: {action:?}");
            }
        }
    }

    #[test]
    fn a_node_that_knows_no_place_is_given_one_first((desired, mut seen) in states()) {
        seen.place = None;
        prop_assert_eq!(plan(&desired, &seen).action, Some(Action::Serve(Place::Host)));
    }

    #[test]
    fn without_a_cloud_nothing_is_asked_of_it((desired, mut seen) in states()) {
        seen.cloud = None;
        let action = plan(&desired, &seen).action;
        prop_assert!(action.is_none_or(|action| !action.is_of_the_cloud()));
    }

    #[test]
    fn what_is_held_waits_and_the_rest_goes_on((desired, mut seen) in states()) {
        let Some(first) = plan(&desired, &seen).action else { return Ok(()) };
        seen.memory.held.insert(first.key(), NOW.after(SOON));
        let second = plan(&desired, &seen);
        prop_assert_ne!(second.action.map(|action| action.key()), Some(first.key()));
    }
}

#[test]
fn growth_waits_for_the_cool_down_and_is_reported_at_the_ceiling() {
    let id = volume_id(1);
    let mut cloud_volume = Volume {
        id: id.clone(),
        zone: Zone::new("a"),
        volume_type: Some(VolumeType::Gp3),
        size: Gib(10),
        iops: Some(3_000),
        throughput: Some(125),
        encrypted: false,
        kms_key: None,
        state: VolumeState::InUse,
        attachment: Some(Attachment {
            instance: instance(0),
            device: DeviceName::new("/dev/xvdba"),
            state: AttachmentState::Attached,
            since: NOW,
        }),
        modification: None,
        created: NOW,
        tags: Tags { instance: instance(0), staged: Staged::Maybe, ..Tags::parse(&BTreeMap::new()) },
    };
    let decide = |volume: &Volume| {
        let device = Device { size: volume.size.bytes(), content: Content::Ours(FileSystem::Ext4) };
        let size = device.size;
        let mount = Mount { size, used: size / 100 * 90, alive: true };
        let host = HostVolume { volume: id.clone(), device: Some(device), mount: Some(mount) };
        let memory = Memory { grown: BTreeMap::from([(id.clone(), size)]), ..Memory::default() };
        let seen = Seen {
            now: NOW,
            place: Some(Place::Volume(id.clone())),
            cloud: Some(CloudSeen { volumes: vec![volume.clone()], instances: BTreeMap::new() }),
            host: BTreeMap::from([(id.clone(), host)]),
            staged: BTreeMap::new(),
            memory,
        };
        plan(&desired(Some(spec())), &seen)
    };
    let change = Change { size: Gib(15), volume_type: VolumeType::Gp3, iops: None, throughput: None };
    assert_eq!(decide(&cloud_volume).action, Some(Action::Modify { volume: id.clone(), change }));

    let started = Timestamp(NOW.0 - 3_600);
    cloud_volume.modification = Some(Modification { state: ModificationState::Completed, started });
    let waits = decide(&cloud_volume).waits;
    assert_eq!((&waits[0].why, waits[0].until), (&Why::CoolDown, Timestamp(NOW.0 + 5 * 3_600)));

    cloud_volume.modification = Some(Modification { state: ModificationState::Optimizing, started });
    assert_eq!(decide(&cloud_volume).waits[0].why, Why::Modifying);

    cloud_volume.size = Gib(40);
    let plan = decide(&cloud_volume);
    assert_eq!((plan.action, &plan.waits[0].why), (None, &Why::AtCeiling));
}
