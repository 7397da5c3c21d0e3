use super::*;
use crate::proto::volume_capability::access_mode::Mode;
use crate::proto::volume_capability::{AccessMode, AccessType, MountVolume};
use crate::service::fake::Fake;
use bytes::Bytes;
use tarn_fs::name::Key;
use tarn_fs::store::{Condition, Headers};

struct World {
    fake: Fake,
    controller: Controller,
}

impl World {
    fn new() -> Self {
        let fake = Fake::default();
        let driver = Driver {
            name: "csi.test".into(),
            bucket_prefix: "tarn-".into(),
            endpoint: None,
            region: None,
            credentials: None,
            ca_bundle: None,
            connect: Arc::new(fake.clone()),
        };
        Self { fake, controller: Controller::new(Arc::new(driver)) }
    }

    async fn put(&self, bucket: &str, key: &str) {
        let store = crate::service::Service::objects(&self.fake, bucket);
        let key = Key::parse(key).expect("a key");
        store.put(&key, Bytes::from_static(b"x"), &Headers::default(), Condition::Always).await.expect("put");
    }

    async fn create(&self, request: CreateVolumeRequest) -> Result<Volume> {
        Ok(self.controller.create(request).await?.volume.expect("a volume"))
    }

    async fn delete(&self, volume_id: &str) -> Result<()> {
        let request = DeleteVolumeRequest { volume_id: volume_id.to_owned(), ..Default::default() };
        self.controller.delete(request).await.map(drop)
    }

    async fn snapshot(&self, name: &str, volume_id: &str) -> Result<Snapshot> {
        let request = CreateSnapshotRequest {
            name: name.to_owned(),
            source_volume_id: volume_id.to_owned(),
            ..Default::default()
        };
        Ok(self.controller.snapshot(request).await?.snapshot.expect("a snapshot"))
    }
}

fn wish(name: &str, parameters: &[(&str, &str)]) -> CreateVolumeRequest {
    let capability = VolumeCapability {
        access_mode: Some(AccessMode { mode: Mode::MultiNodeMultiWriter.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    };
    CreateVolumeRequest {
        name: name.to_owned(),
        volume_capabilities: vec![capability],
        parameters: parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..Default::default()
    }
}

fn from_snapshot(id: &str) -> Option<VolumeContentSource> {
    use volume_content_source::{SnapshotSource, Type};
    let source = SnapshotSource { snapshot_id: id.to_owned() };
    Some(VolumeContentSource { r#type: Some(Type::Snapshot(source)) })
}

#[tokio::test]
async fn a_bucket_of_its_own_is_made_once_and_deleted_with_all_that_is_in_it() {
    let world = World::new();
    let volume = world.create(wish("pvc-1", &[])).await.expect("made");
    assert_eq!(volume.volume_id, "b:tarn-pvc-1");
    assert_eq!(world.create(wish("pvc-1", &[])).await.expect("again"), volume);
    world.put("tarn-pvc-1", "a/b").await;
    world.delete(&volume.volume_id).await.expect("deleted");
    world.delete(&volume.volume_id).await.expect("deleted again");
    assert!(world.fake.names().is_empty());
}

#[tokio::test]
async fn a_folder_of_a_shared_bucket_goes_alone() {
    let world = World::new();
    world.fake.foreign_bucket("shared");
    let volume = world.create(wish("pvc-1", &[("bucket", "shared")])).await.expect("made");
    let other = world.create(wish("pvc-2", &[("bucket", "shared")])).await.expect("made");
    assert_eq!(volume.volume_context.get("prefix").map(String::as_str), Some("pvc-1/"));
    world.put("shared", "pvc-1/a").await;
    world.put("shared", "pvc-2/a").await;
    world.put("shared", "pvc-10").await;
    world.delete(&volume.volume_id).await.expect("deleted");
    let keys = world.fake.keys("shared").await;
    assert_eq!(keys, [".tarn-csi/volumes/pvc-2", "pvc-10", "pvc-2/a"]);
    world.delete(&other.volume_id).await.expect("deleted");
}

#[tokio::test]
async fn what_is_not_ours_is_neither_taken_nor_deleted() {
    let world = World::new();
    world.fake.foreign_bucket("tarn-pvc-1");
    world.put("tarn-pvc-1", "theirs").await;
    let error = world.create(wish("pvc-1", &[])).await.expect_err("not empty");
    assert_eq!(error.kind, Kind::Exists);
    assert_eq!(world.delete("b:tarn-pvc-1").await.expect_err("no mark").kind, Kind::Precondition);
    for id in ["some-static-volume", "b:absent-bucket", "p:tarn-pvc-1:x", "../../etc"] {
        world.delete(id).await.expect("nothing of ours");
    }
    assert_eq!(world.fake.keys("tarn-pvc-1").await, ["theirs"]);
}

#[tokio::test]
async fn a_folder_with_objects_of_others_is_not_adopted() {
    let world = World::new();
    world.fake.foreign_bucket("shared");
    world.put("shared", "pvc-1/theirs").await;
    let error = world.create(wish("pvc-1", &[("bucket", "shared")])).await.expect_err("not empty");
    assert_eq!(error.kind, Kind::Exists);
    let error = world.create(wish("pvc-1", &[("bucket", "absent")])).await.expect_err("no such bucket");
    assert!(error.message.contains("does not exist"), "{error}");
}

#[tokio::test]
async fn the_same_name_with_another_wish_is_refused() {
    let world = World::new();
    world.create(wish("pvc-1", &[])).await.expect("made");
    let sized = |bytes| {
        let range = CapacityRange { required_bytes: bytes, limit_bytes: 0 };
        CreateVolumeRequest { capacity_range: Some(range), ..wish("pvc-1", &[]) }
    };
    assert_eq!(world.create(sized(5 << 30)).await.expect_err("size").kind, Kind::Exists);
    let error = world.create(wish("pvc-1", &[("uid", "5")])).await.expect_err("parameters");
    assert!(error.message.contains("parameters"), "{error}");
    let limits = CapacityRange { required_bytes: 2, limit_bytes: 1 };
    let error =
        world.create(CreateVolumeRequest { capacity_range: Some(limits), ..wish("pvc-2", &[]) }).await;
    assert_eq!(error.expect_err("contradiction").kind, Kind::OutOfRange);
}

#[tokio::test]
async fn on_delete_is_obeyed_and_can_change() {
    let world = World::new();
    let volume = world.create(wish("pvc-1", &[("onDelete", "refuse-unless-empty")])).await.expect("made");
    world.put("tarn-pvc-1", "a").await;
    let error = world.delete(&volume.volume_id).await.expect_err("not empty");
    assert_eq!(error.kind, Kind::Precondition);
    let keep = ControllerModifyVolumeRequest {
        volume_id: volume.volume_id.clone(),
        mutable_parameters: HashMap::from([("onDelete".to_owned(), "keep".to_owned())]),
        ..Default::default()
    };
    world.controller.modify(keep).await.expect("modified");
    world.delete(&volume.volume_id).await.expect("forgotten");
    assert_eq!(world.fake.keys("tarn-pvc-1").await, ["a"]);
    // Without the mark it is somebody's bucket again.
    assert_eq!(world.delete(&volume.volume_id).await.expect_err("no mark").kind, Kind::Precondition);
}

#[tokio::test]
async fn whatever_step_is_interrupted_the_next_call_ends_the_same() {
    for class in [&[][..], &[("bucket", "shared")][..], &[("versioning", "true")][..]] {
        for step in 0..12 {
            let world = World::new();
            world.fake.foreign_bucket("shared");
            let source = world.create(wish("source", class)).await.expect("made");
            let folder = source.volume_context.get("prefix").cloned().unwrap_or_default();
            world.put(&source.volume_context["bucket"], &format!("{folder}a")).await;
            let snapshot = world.snapshot("snap", &source.volume_id).await.expect("taken");
            let restore = || CreateVolumeRequest {
                volume_content_source: from_snapshot(&snapshot.snapshot_id),
                ..wish("pvc-1", class)
            };
            world.fake.fail_from(Some(step));
            let first = world.create(restore()).await;
            world.fake.fail_from(None);
            let volume = world.create(restore()).await.expect("made in the end");
            if let Ok(first) = first {
                assert_eq!(first, volume);
            }
            let folder = volume.volume_context.get("prefix").cloned().unwrap_or_default();
            let keys = world.fake.keys(&volume.volume_context["bucket"]).await;
            assert!(keys.contains(&format!("{folder}a")), "{class:?} step {step}: {keys:?}");
            world.fake.fail_from(Some(step));
            let _ = world.delete(&volume.volume_id).await;
            world.fake.fail_from(None);
            world.delete(&volume.volume_id).await.expect("deleted in the end");
            let keys = world.fake.keys(&volume.volume_context["bucket"]).await;
            assert!(!keys.contains(&format!("{folder}a")), "{class:?} step {step}: {keys:?}");
        }
    }
}

#[tokio::test]
async fn a_snapshot_outlives_its_volume() {
    for class in [&[][..], &[("bucket", "shared")][..]] {
        let world = World::new();
        world.fake.foreign_bucket("shared");
        let volume = world.create(wish("pvc-1", class)).await.expect("made");
        let bucket = volume.volume_context["bucket"].clone();
        let folder = volume.volume_context.get("prefix").cloned().unwrap_or_default();
        world.put(&bucket, &format!("{folder}dir/a")).await;
        let snapshot = world.snapshot("snap-1", &volume.volume_id).await.expect("taken");
        assert!(snapshot.ready_to_use);
        assert_eq!(world.snapshot("snap-1", &volume.volume_id).await.expect("again"), snapshot);
        world.delete(&volume.volume_id).await.expect("deleted");
        let restored = CreateVolumeRequest {
            volume_content_source: from_snapshot(&snapshot.snapshot_id),
            ..wish("pvc-2", class)
        };
        let restored = world.create(restored).await.expect("restored");
        let folder = restored.volume_context.get("prefix").cloned().unwrap_or_default();
        let keys = world.fake.keys(&restored.volume_context["bucket"]).await;
        assert!(keys.contains(&format!("{folder}dir/a")), "{keys:?}");
        let request =
            DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id.clone(), ..Default::default() };
        world.controller.delete_snapshot(request).await.expect("deleted");
        world.delete(&restored.volume_id).await.expect("deleted");
        assert_eq!(world.fake.names(), ["shared"]);
        assert!(world.fake.keys("shared").await.is_empty());
    }
}

#[tokio::test]
async fn lists_go_on_where_the_last_page_ended() {
    let world = World::new();
    world.fake.foreign_bucket("shared");
    world.fake.foreign_bucket("aaa-unrelated");
    let mut all = Vec::new();
    for (name, class) in [
        ("a", &[("bucket", "shared")][..]),
        ("b", &[("bucket", "shared")][..]),
        ("c", &[][..]),
        ("d", &[][..]),
    ] {
        all.push(world.create(wish(name, class)).await.expect("made").volume_id);
    }
    let snapshot = world.snapshot("s", &all[0]).await.expect("taken");
    world.snapshot("t", &all[2]).await.expect("taken");
    let page =
        |starting_token: String| world.controller.list(ListVolumesRequest { max_entries: 1, starting_token });
    let (mut token, mut seen) = (String::new(), Vec::new());
    for _ in 0..all.len() {
        let answer = page(token).await.expect("listed");
        seen.extend(answer.entries.into_iter().filter_map(|entry| Some(entry.volume?.volume_id)));
        token = answer.next_token;
        if let Some(last) = seen.last().filter(|id| id.ends_with("tarn-c")) {
            world.delete(last).await.expect("the token's own volume goes");
        }
    }
    assert_eq!(token, "");
    assert_eq!(seen, all);
    assert_eq!(page("nonsense".into()).await.expect_err("no token").kind, Kind::BadToken);
    let request = ListSnapshotsRequest { source_volume_id: all[0].clone(), ..Default::default() };
    let found = world.controller.snapshots(request).await.expect("listed").entries;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].snapshot.as_ref().expect("one").snapshot_id, snapshot.snapshot_id);
}

#[tokio::test]
async fn the_size_of_a_volume_is_its_quota_unless_the_class_says_off() {
    let world = World::new();
    let quota = async |name: &str, parameters: &[(&str, &str)]| {
        let volume = world.create(wish(name, parameters)).await.expect("made");
        (volume.volume_context.get("quota").cloned(), volume.capacity_bytes)
    };
    assert_eq!(quota("one", &[]).await, (Some((1 << 30).to_string()), 1 << 30));
    assert_eq!(quota("two", &[("quota", "off")]).await, (None, 1 << 30));
    let error = world.create(wish("one", &[("quota", "off")])).await.expect_err("another volume");
    assert_eq!(error.kind, Kind::Exists);
    let error = world.create(wish("three", &[("quota", "5GiB")])).await.expect_err("a size");
    assert!(error.message.contains("on, off"), "{error}");
}

#[tokio::test]
async fn volumes_grow_and_never_shrink() {
    let world = World::new();
    let volume = world.create(wish("pvc-1", &[])).await.expect("made");
    for (asked, expected) in [(5 << 30, 5 << 30), (2 << 30, 5 << 30)] {
        let request = ControllerExpandVolumeRequest {
            volume_id: volume.volume_id.clone(),
            capacity_range: Some(CapacityRange { required_bytes: asked, limit_bytes: 0 }),
            ..Default::default()
        };
        let answer = world.controller.expand(request).await.expect("expanded");
        assert_eq!((answer.capacity_bytes, answer.node_expansion_required), (expected, true));
    }
    let again = world.create(CreateVolumeRequest {
        capacity_range: Some(CapacityRange { required_bytes: 1 << 30, limit_bytes: 0 }),
        ..wish("pvc-1", &[])
    });
    assert_eq!(again.await.expect_err("of another size").kind, Kind::Exists);
}

#[tokio::test]
async fn health_tells_a_lost_bucket_from_a_lost_mark() {
    let world = World::new();
    let volume = world.create(wish("pvc-1", &[])).await.expect("made");
    let health = || {
        let request =
            ControllerGetVolumeHealthRequest { volume_id: volume.volume_id.clone(), ..Default::default() };
        world.controller.health(request)
    };
    let reasons = |answer: ControllerGetVolumeHealthResponse| {
        let health = answer.volume_health.expect("health");
        health.health_statuses.into_iter().map(|entry| entry.reason).collect::<Vec<_>>()
    };
    assert!(reasons(health().await.expect("answered")).is_empty());
    let service: &dyn crate::service::Service = &world.fake;
    service.set_tags("tarn-pvc-1", &Default::default()).await.expect("untagged");
    assert_eq!(reasons(health().await.expect("answered")), ["MarkGone"]);
    service.delete_bucket("tarn-pvc-1").await.expect("deleted");
    assert_eq!(reasons(health().await.expect("answered")), ["BucketGone"]);
}
