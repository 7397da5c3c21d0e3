use super::*;
use crate::capability::Use;
use crate::mounter::Access;
use crate::mounter::fake::FakeMounter;
use crate::parameters::{Attributes, CacheTier};
use crate::proto::volume_capability::access_mode::Mode;
use crate::proto::volume_capability::{AccessMode, AccessType, MountVolume};
use crate::record::{OnDelete, Record, State};
use crate::service::Service;
use crate::service::fake::Fake;

struct World {
    _temp: tempfile::TempDir,
    root: PathBuf,
    fake: Fake,
    mounter: Arc<FakeMounter>,
    node: Node,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut NodeSettings)) -> Self {
        let temp = tempfile::tempdir().expect("temp dir");
        let root = temp.path().canonicalize().expect("exists");
        let mut settings = NodeSettings {
            node_id: "n".into(),
            max_volumes: 0,
            kubelet_dir: root.join("kubelet"),
            state_dir: root.join("state"),
            inline_volumes: false,
            token_audience: "sts".into(),
            topology: BTreeMap::new(),
        };
        std::fs::create_dir(&settings.kubelet_dir).expect("made");
        change(&mut settings);
        let mounter = Arc::new(FakeMounter::default());
        let fake = Fake::default();
        let driver = Arc::new(Driver {
            name: "csi.test".into(),
            bucket_prefix: "tarn-".into(),
            endpoint: None,
            region: None,
            credentials: None,
            ca_bundle: None,
            connect: Arc::new(fake.clone()),
        });
        let node = Node::new(settings, driver, Arc::clone(&mounter) as Arc<dyn Mounter>).expect("opened");
        Self { _temp: temp, root, fake, mounter, node }
    }

    fn dir(&self, name: &str) -> String {
        self.root.join("kubelet").join(name).display().to_string()
    }

    fn stage_request(&self, mode: Mode) -> NodeStageVolumeRequest {
        NodeStageVolumeRequest {
            volume_id: "v".into(),
            staging_target_path: self.dir("staging"),
            volume_capability: Some(capability(mode)),
            volume_context: HashMap::from([("bucket".to_owned(), "data".to_owned())]),
            ..Default::default()
        }
    }

    fn publish_request(&self, mode: Mode, target: &str) -> NodePublishVolumeRequest {
        NodePublishVolumeRequest {
            volume_id: "v".into(),
            staging_target_path: self.dir("staging"),
            target_path: self.dir(target),
            volume_capability: Some(capability(mode)),
            volume_context: HashMap::from([("bucket".to_owned(), "data".to_owned())]),
            ..Default::default()
        }
    }

    async fn stage(&self) -> Result<()> {
        self.node.stage(self.stage_request(Mode::MultiNodeMultiWriter)).await.map(drop)
    }

    async fn publish(&self, target: &str) -> Result<()> {
        self.node.publish(self.publish_request(Mode::MultiNodeMultiWriter, target)).await.map(drop)
    }

    async fn unpublish(&self, target: &str) -> Result<()> {
        let request = NodeUnpublishVolumeRequest { volume_id: "v".into(), target_path: self.dir(target) };
        self.node.unpublish(request).await.map(drop)
    }

    async fn unstage(&self) -> Result<()> {
        let request =
            NodeUnstageVolumeRequest { volume_id: "v".into(), staging_target_path: self.dir("staging") };
        self.node.unstage(request).await.map(drop)
    }

    fn notes(&self) -> usize {
        std::fs::read_dir(self.root.join("state")).expect("state").count()
    }
}

fn capability(mode: Mode) -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode { mode: mode.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}

#[tokio::test]
async fn a_whole_life_and_every_call_of_it_twice() {
    let world = World::new();
    for _ in 0..2 {
        world.stage().await.expect("staged");
    }
    assert_eq!(world.mounter.made(), 1);
    for target in ["one", "two", "one", "two"] {
        world.publish(target).await.expect("published");
    }
    for _ in 0..2 {
        world.unpublish("one").await.expect("unpublished");
        assert!(!Path::new(&world.dir("one")).exists());
    }
    world.unpublish("two").await.expect("unpublished");
    for _ in 0..2 {
        world.unstage().await.expect("unstaged");
    }
    assert_eq!(world.notes(), 0);
}

#[tokio::test]
async fn nothing_is_published_that_is_not_mounted() {
    let world = World::new();
    std::fs::create_dir(world.dir("staging")).expect("bare");
    assert_eq!(world.publish("one").await.expect_err("not staged").kind, Kind::Precondition);
    world.mounter.refuse(Some("there is no bucket data"));
    let error = world.stage().await.expect_err("refused");
    assert!(error.message.contains("there is no bucket data"), "{error}");
    assert_eq!(world.publish("one").await.expect_err("not staged").kind, Kind::Precondition);
    assert_eq!(world.notes(), 0);
    assert!(!Path::new(&world.dir("one")).exists());
}

#[tokio::test]
async fn the_pod_of_a_dead_mount_gets_a_new_one_and_health_says_so_before() {
    let world = World::new();
    world.stage().await.expect("staged");
    world.publish("one").await.expect("published");
    world.mounter.kill(Path::new(&world.dir("staging")));
    let request = NodeGetVolumeHealthRequest { volume_id: "v".into(), ..Default::default() };
    let health = world.node.health(request).await.expect("answered").volume_health.expect("health");
    assert_eq!(health.health_statuses[0].reason, "MountDead");
    world.publish("two").await.expect("healed");
    world.publish("one").await.expect("bound anew");
    assert_eq!(world.mounter.made(), 2);
}

#[tokio::test]
async fn a_restart_heals_dead_mounts_and_forgets_those_that_are_gone() {
    let world = World::new();
    world.stage().await.expect("staged");
    world.mounter.kill(Path::new(&world.dir("staging")));
    world.node.recover().await.expect("recovered");
    assert_eq!((world.mounter.made(), world.notes()), (2, 1));
    world.mounter.unbind(Path::new(&world.dir("staging"))).await.expect("gone");
    world.node.recover().await.expect("recovered");
    assert_eq!((world.mounter.made(), world.notes()), (2, 0));
}

#[tokio::test]
async fn one_pod_only_means_one_target() {
    let world = World::new();
    let mode = Mode::SingleNodeSingleWriter;
    world.node.stage(world.stage_request(mode)).await.expect("staged");
    world.node.publish(world.publish_request(mode, "one")).await.expect("published");
    world.node.publish(world.publish_request(mode, "one")).await.expect("again");
    let error = world.node.publish(world.publish_request(mode, "two")).await.expect_err("second");
    assert_eq!(error.kind, Kind::Precondition);
}

#[tokio::test]
async fn read_only_holds_for_the_bind_and_for_the_mode() {
    let world = World::new();
    world.stage().await.expect("staged");
    let request = world.publish_request(Mode::MultiNodeMultiWriter, "one");
    world.node.publish(NodePublishVolumeRequest { readonly: true, ..request }).await.expect("published");
    assert_eq!(world.mounter.access(Path::new(&world.dir("one"))), Some(Access::ReadOnly));
    world.publish("two").await.expect("published");
    assert_eq!(world.mounter.access(Path::new(&world.dir("two"))), Some(Access::ReadWrite));
}

#[tokio::test]
async fn another_volume_or_other_options_at_the_same_place_are_refused() {
    let world = World::new();
    world.stage().await.expect("staged");
    let mut other = world.stage_request(Mode::MultiNodeMultiWriter);
    other.volume_context.insert("uid".into(), "5".into());
    assert_eq!(world.node.stage(other).await.expect_err("options").kind, Kind::Exists);
    let request =
        NodeUnstageVolumeRequest { volume_id: "other".into(), staging_target_path: world.dir("staging") };
    assert_eq!(world.node.unstage(request).await.expect_err("another's").kind, Kind::Precondition);
}

#[tokio::test]
async fn a_volume_of_the_hot_tier_is_mounted_in_it_also_after_its_mount_has_died() {
    let world = World::new();
    let mut request = world.stage_request(Mode::MultiNodeMultiWriter);
    request.volume_context.insert("cacheTier".into(), "hot".into());
    let dir = PathBuf::from(&request.staging_target_path);
    for _ in 0..2 {
        world.node.stage(request.clone()).await.expect("staged");
    }
    assert_eq!((world.mounter.tier(&dir), world.mounter.made()), (Some(CacheTier::Hot), 1));
    world.mounter.kill(&dir);
    world.publish("one").await.expect("healed");
    assert_eq!((world.mounter.tier(&dir), world.mounter.made()), (Some(CacheTier::Hot), 2));
    let error = world.stage().await.expect_err("the same volume in another tier");
    assert_eq!(error.kind, Kind::Exists);
}

#[tokio::test]
async fn a_secret_that_changed_reaches_the_living_mount() {
    let world = World::new();
    let with_secret = || {
        let secrets = [("accessKeyId", "A"), ("secretAccessKey", "S")];
        let secrets = secrets.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        NodeStageVolumeRequest { secrets, ..world.stage_request(Mode::MultiNodeMultiWriter) }
    };
    world.node.stage(with_secret()).await.expect("staged");
    world.node.stage(with_secret()).await.expect("staged again");
    assert_eq!((world.mounter.made(), world.mounter.renewed()), (1, 1));
    let mut publish = world.publish_request(Mode::MultiNodeMultiWriter, "one");
    world.node.publish(publish.clone()).await.expect("published");
    publish.secrets = with_secret().secrets;
    world.node.publish(publish).await.expect("published again");
    assert_eq!((world.mounter.made(), world.mounter.renewed()), (1, 2));
}

#[tokio::test]
async fn files_under_a_target_are_never_deleted() {
    let world = World::new();
    std::fs::create_dir(world.dir("one")).expect("made");
    std::fs::write(format!("{}/file", world.dir("one")), "x").expect("written");
    assert!(world.unpublish("one").await.expect_err("not empty").message.contains("holds files"));
    assert!(Path::new(&format!("{}/file", world.dir("one"))).exists());
}

#[tokio::test]
async fn inline_volumes_are_off_until_they_are_turned_on() {
    let inline = |world: &World| {
        let mut request = world.publish_request(Mode::SingleNodeWriter, "one");
        request.staging_target_path.clear();
        request.volume_context.insert("csi.storage.k8s.io/ephemeral".into(), "true".into());
        request
    };
    let off = World::new();
    assert_eq!(off.node.publish(inline(&off)).await.expect_err("off").kind, Kind::Precondition);
    let on = World::with(|settings| settings.inline_volumes = true);
    on.node.publish(inline(&on)).await.expect("published");
    on.node.publish(inline(&on)).await.expect("again");
    assert_eq!((on.mounter.made(), on.notes()), (1, 1));
    on.unpublish("one").await.expect("unpublished");
    assert_eq!(on.notes(), 0);
    let mut hostile = inline(&on);
    hostile.volume_context.insert("endpoint".into(), "http://evil".into());
    assert_eq!(on.node.publish(hostile).await.expect_err("endpoint").kind, Kind::Invalid);
}

#[tokio::test]
async fn each_pod_mounts_with_its_own_token_and_gets_a_new_one_while_it_runs() {
    let world = World::new();
    let role = ("roleArn".to_owned(), "arn:aws:iam::1:role/data".to_owned());
    let mut stage = world.stage_request(Mode::MultiNodeMultiWriter);
    stage.volume_context.extend([role.clone()]);
    world.node.stage(stage).await.expect("nothing is mounted yet");
    assert_eq!(world.mounter.made(), 0);
    let publish = |target: &str, token: Option<&str>| {
        let mut request = world.publish_request(Mode::MultiNodeMultiWriter, target);
        request.volume_context.extend([role.clone()]);
        let tokens = token.map(|token| format!("{{\"sts\": {{\"token\": \"{token}\"}}}}"));
        let tokens = tokens.map(|tokens| ("csi.storage.k8s.io/serviceAccount.tokens".to_owned(), tokens));
        request.volume_context.extend(tokens);
        request
    };
    let error = world.node.publish(publish("one", None)).await.expect_err("no token");
    assert!(error.message.contains("tokenRequests"), "{error}");
    for (target, token) in [("one", "a"), ("two", "b"), ("one", "c")] {
        world.node.publish(publish(target, Some(token))).await.expect("published");
    }
    assert_eq!((world.mounter.made(), world.mounter.renewed(), world.notes()), (2, 1, 2));
    for target in ["one", "two"] {
        world.unpublish(target).await.expect("unpublished");
    }
    world.unstage().await.expect("unstaged");
    assert_eq!(world.notes(), 0);
}

#[tokio::test]
async fn pods_with_different_groups_do_not_share_a_mount() {
    let world = World::new();
    let with_group = |group: &str| {
        let mount = MountVolume { volume_mount_group: group.to_owned(), ..MountVolume::default() };
        Some(VolumeCapability {
            access_type: Some(AccessType::Mount(mount)),
            ..capability(Mode::MultiNodeMultiWriter)
        })
    };
    let mut stage = world.stage_request(Mode::MultiNodeMultiWriter);
    stage.volume_capability = with_group("2000");
    world.node.stage(stage).await.expect("staged");
    for (group, good) in [("2000", true), ("", true), ("3000", false)] {
        let mut request = world.publish_request(Mode::MultiNodeMultiWriter, &format!("g{group}"));
        request.volume_capability = with_group(group);
        assert_eq!(world.node.publish(request).await.is_ok(), good, "{group:?}");
    }
}

#[tokio::test]
async fn a_pods_group_is_that_of_new_files_too() {
    let world = World::new();
    let mount = MountVolume { volume_mount_group: "2000".to_owned(), ..MountVolume::default() };
    let wanted = Use { mode: Mode::MultiNodeMultiWriter, mount };
    for (own, dir_mode) in
        [(None, "2775"), (Some(("umask", "027")), "2750"), (Some(("dirMode", "700")), "700")]
    {
        let all = [("bucket", "data")].into_iter().chain(own);
        let context = all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let attributes = Attributes::parse(&context).expect("good");
        let staged = world.node.plan("v", Path::new("/x"), attributes, &wanted).expect("good");
        let option = |name: &str| staged.options.get(name).cloned();
        assert_eq!((option("gid"), option("dir-mode")), (Some("2000".into()), Some(dir_mode.into())));
    }
}

#[tokio::test]
async fn hostile_calls_are_refused_before_anything_is_done() {
    let world = World::new();
    for (volume_id, path) in [("a\nb", world.dir("x")), ("v", "/etc".into()), ("v", world.dir("../../x"))] {
        let request = NodeStageVolumeRequest {
            volume_id: volume_id.into(),
            staging_target_path: path.clone(),
            ..world.stage_request(Mode::MultiNodeMultiWriter)
        };
        assert_eq!(world.node.stage(request).await.expect_err(&path).kind, Kind::Invalid);
    }
    assert_eq!((world.mounter.made(), world.notes()), (0, 0));
}

/// The record of a volume in a bucket of its own, as the controller writes it.
async fn record(fake: &Fake, bytes: u64) {
    let record = Record {
        id: "b:data".into(),
        state: State::Ready,
        bytes,
        on_delete: OnDelete::Keep,
        folder: String::new(),
        source: None,
        created_at: 0,
        parameters: String::new(),
    };
    fake.create_bucket("data").await.expect("made");
    fake.set_tags("data", &record.fields()).await.expect("tagged");
}

#[tokio::test]
async fn a_volume_has_the_size_that_it_has_grown_to() {
    let world = World::new();
    let staging = PathBuf::from(world.dir("staging"));
    let mut request = world.stage_request(Mode::MultiNodeMultiWriter);
    request.volume_id = "b:data".into();
    request.volume_context.insert("quota".into(), "1000".into());
    let grow = |bytes| NodeExpandVolumeRequest {
        volume_id: "b:data".into(),
        volume_path: world.dir("staging"),
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        ..Default::default()
    };
    world.node.stage(request.clone()).await.expect("staged without a record");
    assert_eq!(world.mounter.quota(&staging), Some(1000));
    let stats = NodeGetVolumeStatsRequest {
        volume_id: "b:data".into(),
        volume_path: world.dir("staging"),
        ..Default::default()
    };
    assert_eq!(world.node.stats(stats).await.expect("stats").usage[0].total, 1000);
    for (asked, has) in [(3000, 3000), (2000, 3000)] {
        assert_eq!(world.node.expand(grow(asked)).await.expect("grown").capacity_bytes, asked);
        assert_eq!(world.mounter.quota(&staging), Some(has));
    }
    // Its process dies; the next publish mounts it again, and the kubelet stages it once more.
    world.mounter.kill(&staging);
    world.node.stage(request.clone()).await.expect("staged again");
    assert_eq!(world.mounter.quota(&staging), Some(3000));
    let unstage =
        NodeUnstageVolumeRequest { volume_id: "b:data".into(), staging_target_path: world.dir("staging") };
    world.node.unstage(unstage).await.expect("unstaged");
    record(&world.fake, 5000).await;
    world.node.stage(request).await.expect("staged on another day");
    assert_eq!(world.mounter.quota(&staging), Some(5000));
}

#[tokio::test]
async fn a_volume_without_a_quota_gets_none_by_growing() {
    let world = World::new();
    world.stage().await.expect("staged");
    let grow = NodeExpandVolumeRequest {
        volume_id: "v".into(),
        volume_path: world.dir("staging"),
        capacity_range: Some(CapacityRange { required_bytes: 5, limit_bytes: 0 }),
        ..Default::default()
    };
    assert_eq!(world.node.expand(grow).await.expect("nothing to do").capacity_bytes, 5);
    assert_eq!(world.mounter.quota(Path::new(&world.dir("staging"))), None);
}
