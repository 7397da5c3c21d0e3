//! The promises of `Cloud`, each tried on a site of its own owner.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tarn_volume::plan::{Change, Desired, NewVolume};
use tarn_volume::spec::{Encryption, FileSystem, Spec, VolumeType};
use tarn_volume::state::{AttachmentState, Gib, InstanceState, Staged, Tags, Timestamp, Volume, VolumeState};
use tarn_volume::{Cloud, CloudErrorKind, DeviceName, InstanceId, NodeName, Owner, VolumeId, Zone};

/// A cloud with an instance in it.
pub(crate) struct Site {
    pub(crate) cloud: Arc<dyn Cloud>,
    pub(crate) instance: InstanceId,
    pub(crate) zone: Zone,
    /// Lets time pass until everything that was asked for has come about and shows.
    pub(crate) settle: Box<dyn Fn() + Send + Sync>,
}

type Test = for<'a> fn(&'a Site) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

macro_rules! behaviours {
    ($($name:ident),+ $(,)?) => {
        /// Every promise, by name.
        pub(crate) const BEHAVIOURS: &[(&str, Test)] = &[$((stringify!($name), |site| Box::pin($name(site)))),+];
    };
}

behaviours!(
    what_was_made_is_listed_as_it_was_asked_for,
    only_the_owners_volumes_are_listed,
    a_volume_is_attached_detached_and_deleted,
    what_is_not_there_is_gone_already,
    a_volume_that_is_not_there_cannot_be_attached,
    a_volume_in_use_is_not_deleted,
    a_volume_grows_and_says_when_it_did,
    tags_are_replaced,
    instances_that_are_not_known_are_left_out,
    everything_is_allowed,
);

fn owner() -> Owner {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    Owner::new(format!("contract-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

impl Site {
    fn new_volume(&self) -> NewVolume {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        NewVolume {
            token: format!("token-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
            zone: self.zone.clone(),
            volume_type: VolumeType::Gp3,
            size: Gib(10),
            iops: Some(4_000),
            throughput: Some(250),
            encryption: Encryption::Encrypted(None),
            tags: Tags {
                node: NodeName::new("node"),
                instance: self.instance.clone(),
                generation: 7,
                staged: Staged::None,
                file_system: Some(FileSystem::Xfs),
                claimed: None,
                orphan_since: None,
                discard: false,
                quarantine: None,
            },
            user_tags: BTreeMap::from([("team".to_owned(), "web".to_owned())]),
        }
    }

    async fn make(&self, owner: &Owner) -> VolumeId {
        let id = self.cloud.create(owner, &self.new_volume()).await.unwrap();
        (self.settle)();
        id
    }

    async fn look(&self, owner: &Owner, id: &VolumeId) -> Volume {
        (self.settle)();
        self.cloud.volumes(owner).await.unwrap().into_iter().find(|volume| volume.id == *id).unwrap()
    }

    async fn attach(&self, id: &VolumeId) {
        let device = DeviceName::new("/dev/xvdba");
        self.cloud.attach(id, &self.instance, &device).await.unwrap();
        (self.settle)();
    }
}

async fn what_was_made_is_listed_as_it_was_asked_for(site: &Site) {
    let (owner, new) = (owner(), site.new_volume());
    let id = site.cloud.create(&owner, &new).await.unwrap();
    let volume = site.look(&owner, &id).await;
    assert_eq!((volume.state, volume.size, &volume.zone), (VolumeState::Available, Gib(10), &site.zone));
    assert_eq!(volume.volume_type, Some(VolumeType::Gp3));
    assert_eq!((volume.iops, volume.throughput, volume.encrypted), (Some(4_000), Some(250), true));
    assert_eq!(volume.tags, new.tags);
    assert_eq!((&volume.attachment, &volume.modification), (&None, &None));
    assert!(volume.created > Timestamp(1_600_000_000));
}

async fn only_the_owners_volumes_are_listed(site: &Site) {
    let (one, two) = (owner(), owner());
    let id = site.make(&one).await;
    site.make(&two).await;
    let ids: Vec<VolumeId> =
        site.cloud.volumes(&one).await.unwrap().into_iter().map(|volume| volume.id).collect();
    assert_eq!(ids, [id]);
    assert_eq!(site.cloud.volumes(&owner()).await.unwrap(), []);
}

async fn a_volume_is_attached_detached_and_deleted(site: &Site) {
    let owner = owner();
    let id = site.make(&owner).await;
    let taken = site.cloud.instances(std::slice::from_ref(&site.instance)).await.unwrap()[0].slots_taken;

    site.attach(&id).await;
    let volume = site.look(&owner, &id).await;
    let attachment = volume.attachment.unwrap();
    assert_eq!((volume.state, attachment.state), (VolumeState::InUse, AttachmentState::Attached));
    assert_eq!((&attachment.instance, attachment.device.as_str()), (&site.instance, "/dev/xvdba"));
    let instance = &site.cloud.instances(std::slice::from_ref(&site.instance)).await.unwrap()[0];
    assert_eq!((instance.state, instance.slots_taken), (InstanceState::Alive, taken + 1));
    assert_eq!(instance.zone, site.zone);
    assert!(instance.devices.contains(&attachment.device));

    site.cloud.detach(&id, &site.instance).await.unwrap();
    let volume = site.look(&owner, &id).await;
    assert_eq!((volume.state, &volume.attachment), (VolumeState::Available, &None));

    site.cloud.delete(&id).await.unwrap();
    (site.settle)();
    let left = site.cloud.volumes(&owner).await.unwrap();
    assert!(left.iter().all(|volume| volume.state == VolumeState::Deleting), "{left:?}");
}

async fn what_is_not_there_is_gone_already(site: &Site) {
    let owner = owner();
    let id = site.make(&owner).await;
    site.cloud.detach(&id, &site.instance).await.unwrap();
    site.cloud.delete(&id).await.unwrap();
    (site.settle)();
    site.cloud.delete(&id).await.unwrap();
}

async fn a_volume_that_is_not_there_cannot_be_attached(site: &Site) {
    let missing = VolumeId::parse("vol-0123456789abcdef0").unwrap();
    let error =
        site.cloud.attach(&missing, &site.instance, &DeviceName::new("/dev/xvdba")).await.unwrap_err();
    assert_eq!(error.cloud_kind(), Some(CloudErrorKind::NotFound), "{error}");
}

async fn a_volume_in_use_is_not_deleted(site: &Site) {
    let owner = owner();
    let id = site.make(&owner).await;
    site.attach(&id).await;
    let error = site.cloud.delete(&id).await.unwrap_err();
    assert_eq!(error.cloud_kind(), Some(CloudErrorKind::State), "{error}");
    assert_eq!(site.look(&owner, &id).await.state, VolumeState::InUse);
}

async fn a_volume_grows_and_says_when_it_did(site: &Site) {
    let owner = owner();
    let id = site.make(&owner).await;
    site.attach(&id).await;
    let change =
        Change { size: Gib(15), volume_type: VolumeType::Gp3, iops: Some(5_000), throughput: Some(300) };
    site.cloud.modify(&id, &change).await.unwrap();
    let volume = site.look(&owner, &id).await;
    assert_eq!(volume.size, Gib(15));
    assert!(volume.modification.unwrap().started > Timestamp(1_600_000_000));
}

async fn tags_are_replaced(site: &Site) {
    let owner = owner();
    let id = site.make(&owner).await;
    let tags = Tags {
        instance: InstanceId::new("i-other"),
        staged: Staged::Maybe,
        claimed: Some(Timestamp(1_700_000_000)),
        orphan_since: None,
        quarantine: Some("a reason: with \"odd\" <signs> & more".into()),
        ..site.new_volume().tags
    };
    site.cloud.tag(&owner, &id, &tags).await.unwrap();
    assert_eq!(site.look(&owner, &id).await.tags, tags);
    let cleared = Tags { claimed: None, quarantine: None, ..tags };
    site.cloud.tag(&owner, &id, &cleared).await.unwrap();
    assert_eq!(site.look(&owner, &id).await.tags, cleared);
}

async fn instances_that_are_not_known_are_left_out(site: &Site) {
    let unknown = InstanceId::new("i-0123456789abcdef0");
    let found = site.cloud.instances(&[unknown, site.instance.clone()]).await.unwrap();
    assert_eq!(found.iter().map(|instance| &instance.id).collect::<Vec<_>>(), [&site.instance]);
    assert_eq!(site.cloud.instances(&[]).await.unwrap(), []);
}

async fn everything_is_allowed(site: &Site) {
    let owner = owner();
    let desired = Desired {
        owner: owner.clone(),
        node: NodeName::new("node"),
        instance: site.instance.clone(),
        zone: site.zone.clone(),
        spec: Some(Spec::default()),
    };
    let volume = desired.first_volume().unwrap();
    assert_eq!(site.cloud.denied(&owner, &volume).await.unwrap(), Vec::<&str>::new());
    site.make(&owner).await;
    assert_eq!(site.cloud.denied(&owner, &volume).await.unwrap(), Vec::<&str>::new());
    assert_eq!(site.cloud.volumes(&owner).await.unwrap().len(), 1, "a dry run changes nothing");
}
