//! From arbitrary states of cloud, disks and mounts: the node comes to have its volume, everything staged comes to the
//! bucket or stays where it is, and nothing of ours is left over.

use super::world::{Disk, World, owner};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tarn_volume::cloud::fake::Delays;
use tarn_volume::spec::{FileSystem, VolumeType};
use tarn_volume::state::{
    Attachment, AttachmentState, Content, Gib, Health, Place, Staged, Tags, Timestamp, Volume, VolumeState,
};
use tarn_volume::{DeviceName, InstanceId, NodeName, VolumeId, Zone};

/// A volume as somebody may have left it. It holds staged data only if it was in use, as its tags then say.
#[derive(Debug, Clone)]
struct Left {
    by: usize,
    attached: bool,
    state: VolumeState,
    zone: &'static str,
    staged: Staged,
    content: Content,
    health: Health,
    files: u64,
    size: u32,
    quarantine: bool,
    generation: u64,
}

fn left() -> impl Strategy<Value = Left> {
    let state = select(vec![
        VolumeState::Available,
        VolumeState::Available,
        VolumeState::Creating,
        VolumeState::Error,
    ]);
    let content = select(vec![
        Content::Ours(FileSystem::Ext4),
        Content::Ours(FileSystem::Ext4),
        Content::Blank,
        Content::Foreign("ntfs".to_owned()),
    ]);
    let health = prop_oneof![4 => Just(Health::Sound), 1 => Just(Health::Damaged)];
    let zone = select(vec!["a", "a", "a", "b"]);
    let used = (select(vec![Staged::None, Staged::Maybe]), 0..3_u64, content, health);
    (0..3_usize, any::<bool>(), state, zone, used, select(vec![4_u32, 10, 200]), any::<bool>(), 0..3_u64)
        .prop_map(|(by, attached, state, zone, (staged, files, content, health), size, odd, generation)| {
            Left {
                by,
                attached,
                state,
                zone,
                staged,
                files: if staged == Staged::Maybe && content != Content::Blank { files } else { 0 },
                content,
                health,
                size,
                quarantine: odd && files == 2,
                generation,
            }
        })
}

fn put(world: &World, number: usize, left: &Left) -> VolumeId {
    let id = VolumeId::parse(&format!("vol-aaaa{number:04x}")).unwrap();
    let instance = InstanceId::new(["i-me", "i-other", "i-dead"][left.by]);
    let attached = left.attached && left.zone == "a" && left.by < 2;
    let attachment = attached.then(|| Attachment {
        instance: instance.clone(),
        device: DeviceName::new(format!("/dev/xvdb{}", char::from(b'a' + u8::try_from(number).unwrap()))),
        state: AttachmentState::Attached,
        since: Timestamp(1_600_000_000),
    });
    let volume = Volume {
        id: id.clone(),
        zone: Zone::new(left.zone),
        volume_type: Some(VolumeType::Gp3),
        size: Gib(left.size),
        iops: Some(3_000),
        throughput: Some(125),
        encrypted: false,
        kms_key: None,
        state: if attached { VolumeState::InUse } else { left.state },
        attachment,
        modification: None,
        created: Timestamp(1_600_000_000),
        tags: Tags {
            node: NodeName::new("whoever"),
            instance,
            generation: left.generation,
            staged: left.staged,
            file_system: Some(FileSystem::Ext4),
            claimed: None,
            orphan_since: None,
            discard: false,
            quarantine: left.quarantine.then(|| "somebody looks at it".to_owned()),
        },
    };
    world.cloud.insert(&owner(), volume);
    let staged = (0..left.files).map(|file| format!("{id}/{file}")).collect();
    let disk = Disk {
        content: left.content.clone(),
        health: left.health,
        staged,
        file_system_size: Gib(left.size).bytes(),
        used_percent: 10,
    };
    world.disks.lock().insert(id.clone(), disk);
    id
}

async fn settles(volumes: Vec<Left>, wanted: bool, served: Option<usize>) {
    let world = World::new(Delays::SLOW);
    world.cloud.launch(&InstanceId::new("i-other"), &Zone::new("a"), 20, 1);
    world.cloud.launch(&InstanceId::new("i-dead"), &Zone::new("a"), 20, 1);
    world.cloud.terminate(&InstanceId::new("i-dead"));
    let ids: Vec<VolumeId> = volumes.iter().enumerate().map(|(n, left)| put(&world, n, left)).collect();
    let mut node = world.node_in("me", "a", 12, &Arc::default());
    if !wanted {
        node.desired.spec = None;
    }
    // The process starts anew on a node whose mounts use a volume.
    let in_use = served.and_then(|number| {
        let (left, id) = (volumes.get(number)?, ids.get(number)?);
        let usable = left.by == 0 && left.attached && left.zone == "a" && left.staged == Staged::Maybe;
        (usable && left.content == Content::Ours(FileSystem::Ext4)).then_some(id)
    });
    if let Some(id) = in_use {
        node.host.mounts.lock().insert(id.clone());
        node.tenants.state.lock().place = Some(Place::Volume(id.clone()));
    }
    let staged: BTreeSet<String> = world.disks.lock().values().flat_map(|disk| disk.staged.clone()).collect();

    node.spend(Duration::from_secs(3 * 3_600)).await;

    assert_eq!(node.serving().is_some(), wanted, "{:#?}", node.status());
    let kept: BTreeSet<String> = world.disks.lock().values().flat_map(|disk| disk.staged.clone()).collect();
    let safe: BTreeSet<String> = world.bucket.lock().union(&kept).cloned().collect();
    assert!(staged.is_subset(&safe), "lost");
    for volume in world.cloud.truth() {
        let is_the_one = node.serving().is_some_and(|serving| serving.id == volume.id);
        let reported =
            node.status().conditions.iter().any(|condition| condition.volume == Some(volume.id.clone()));
        let others = volume.tags.instance.as_str() == "i-other";
        assert!(is_the_one || others || reported, "left over: {volume:#?}\n{:#?}", node.status());
        if others {
            let number = ids.iter().position(|id| *id == volume.id).unwrap();
            let still =
                volume.attachment.is_some() == (volumes[number].attached && volumes[number].zone == "a");
            assert!(still, "touched another node's volume: {volume:#?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_state_comes_to_rest(
        volumes in vec(left(), 0..5),
        wanted in any::<bool>(),
        served in option::of(0..4_usize),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(settles(volumes, wanted, served));
    }
}
