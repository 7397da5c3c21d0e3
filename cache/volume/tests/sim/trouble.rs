//! What goes wrong on one node.

use super::faults::Faults;
use super::world::{Node, World, owner, small};
use std::sync::Arc;
use std::time::Duration;
use tarn_volume::cloud::fake::{Delays, Stuck};
use tarn_volume::spec::Spec;
use tarn_volume::state::{Content, Gib, Health, Place, Staged, VolumeState};

async fn serving(delays: Delays) -> (Arc<World>, Node) {
    let world = World::new(delays);
    let mut node = world.node("one", &Arc::<Faults>::default());
    node.until("a volume serves", |node| node.serving().is_some()).await;
    (world, node)
}

fn volumes(node: &Node) -> usize {
    node.world.cloud.truth().len()
}

#[tokio::test]
async fn a_stuck_attachment_is_given_up_and_tried_under_another_name() {
    let world = World::new(Delays::SLOW);
    let mut node = world.node("one", &Arc::default());
    world.cloud.set_stuck(Stuck { attaching: true, detaching: false });
    let name =
        |node: &Node| node.world.cloud.truth().first()?.attachment.as_ref().map(|it| it.device.clone());
    while name(&node).is_none() {
        node.step().await;
    }
    let first = name(&node).unwrap();
    node.spend(Duration::from_secs(150)).await;
    world.cloud.set_stuck(Stuck::default());
    node.until("it serves", |node| node.serving().is_some()).await;
    assert_ne!(name(&node).unwrap(), first);
    assert_eq!(volumes(&node), 1);
}

#[tokio::test]
async fn a_volume_pulled_out_is_left_for_the_host_and_comes_back_with_what_is_staged() {
    let (world, mut node) = serving(Delays::SLOW).await;
    let volume = node.serving().unwrap().id;
    node.stage("a");
    world.cloud.pull(&volume);
    node.step().await;
    assert_eq!(node.place(), Some(Place::Host), "mounts do not stay on a dead device");
    node.until("it serves again", |node| node.serving().is_some()).await;
    assert_eq!((node.serving().unwrap().id, volumes(&node)), (volume, 1));
    assert!(world.has_bucket("a"));
}

#[tokio::test]
async fn a_volume_somebody_is_detaching_is_let_go() {
    let (world, mut node) = serving(Delays::SLOW).await;
    let instance = node.desired.instance.clone();
    tarn_volume::Cloud::detach(&*world.cloud, &node.serving().unwrap().id, &instance).await.unwrap();
    node.until("it is back", |node| node.serving().is_some() && node.tenants.state.lock().history.len() > 2)
        .await;
    assert_eq!(volumes(&node), 1);
}

#[tokio::test]
async fn a_volume_deleted_behind_our_back_is_replaced() {
    let (world, mut node) = serving(Delays::SLOW).await;
    let volume = node.serving().unwrap().id;
    world.destroy(&volume);
    node.until("another serves", |node| node.serving().is_some_and(|other| other.id != volume)).await;
    assert_eq!(volumes(&node), 1);
}

#[tokio::test]
async fn without_a_slot_the_host_serves_until_there_is_one() {
    let world = World::new(Delays::SLOW);
    // One slot for the root volume, one left to others.
    let mut node = world.node_in("one", "a", 2, &Arc::default());
    node.spend(Duration::from_secs(600)).await;
    assert_eq!((node.place(), volumes(&node)), (Some(Place::Host), 0));
    assert!(node.is_waiting_for("no free volume slot"), "{:#?}", node.status());
    world.cloud.launch(&node.desired.instance, &node.desired.zone, 3, 1);
    node.until("it serves", |node| node.serving().is_some()).await;
}

#[tokio::test]
async fn the_only_slot_is_handed_from_a_volume_to_its_successor() {
    let world = World::new(Delays::SLOW);
    let mut node = world.node_in("one", "a", 3, &Arc::default());
    node.until("it serves", |node| node.serving().is_some()).await;
    node.stage("a");
    node.desired.spec = Some(Spec { size_min: Gib(4), size_max: Gib(8), ..small() });
    node.until("a smaller one serves", |node| node.serving().is_some_and(|volume| volume.size == Gib(4)))
        .await;
    assert_eq!(volumes(&node), 1);
    assert!(world.has_bucket("a"));
}

#[tokio::test]
async fn a_quota_of_nothing_leaves_the_host_serving_and_asks_seldom() {
    let world = World::new(Delays::SLOW);
    let faults: Arc<Faults> = Arc::default();
    let mut node = world.node("one", &faults);
    world.cloud.set_quota(0);
    node.spend(Duration::from_secs(3_600)).await;
    assert_eq!(node.place(), Some(Place::Host));
    assert!(node.status().last_error.unwrap().contains("VolumeLimitExceeded"));
    world.cloud.set_quota(1);
    node.until("it serves", |node| node.serving().is_some()).await;
}

#[tokio::test]
async fn a_damaged_volume_is_put_aside_with_its_data_and_replaced() {
    let (world, mut node) = serving(Delays::SLOW).await;
    let volume = node.serving().unwrap().id;
    node.stage("a");
    world.disk(&volume, |disk| disk.health = Health::Damaged);
    world.cloud.pull(&volume);
    node.until("another serves", |node| node.serving().is_some_and(|other| other.id != volume)).await;
    node.spend(Duration::from_secs(24 * 3_600)).await;
    let aside = world.cloud.truth().into_iter().find(|other| other.id == volume).unwrap();
    assert!(aside.tags.quarantine.unwrap().contains("damaged"));
    assert_eq!(aside.attachment, None);
    assert!(node.is_waiting_for("look at it, then remove its tag"), "{:#?}", node.status());
    // Somebody repairs it and takes the tag away.
    world.disk(&volume, |disk| disk.health = Health::Sound);
    world.cloud.retag(&volume, |tags| tags.quarantine = None);
    node.until("it is emptied and deleted", |node| volumes(node) == 1).await;
    assert!(world.has_bucket("a"));
}

#[tokio::test]
async fn a_new_volume_that_is_not_blank_is_never_formatted() {
    let world = World::new(Delays::SLOW);
    let mut node = world.node("one", &Arc::default());
    while volumes(&node) == 0 {
        node.step().await;
    }
    let odd = world.cloud.truth()[0].id.clone();
    world.disk(&odd, |disk| disk.content = Content::Foreign("data".into()));
    node.until("another serves", |node| node.serving().is_some_and(|volume| volume.id != odd)).await;
    assert_eq!(volumes(&node), 1, "nothing was ever on it, so it was deleted");
}

#[tokio::test]
async fn foreign_data_on_a_volume_that_was_in_use_is_left_alone() {
    let (world, mut node) = serving(Delays::SLOW).await;
    let volume = node.serving().unwrap().id;
    world.disk(&volume, |disk| disk.content = Content::Foreign("the file system ntfs".into()));
    world.cloud.pull(&volume);
    node.until("another serves", |node| node.serving().is_some_and(|other| other.id != volume)).await;
    node.spend(Duration::from_secs(7_200)).await;
    let aside = world.cloud.truth().into_iter().find(|other| other.id == volume).unwrap();
    assert!(aside.tags.quarantine.unwrap().contains("ntfs"));
}

#[tokio::test]
async fn a_broken_volume_of_the_service_is_replaced_without_haste() {
    let world = World::new(Delays::SLOW);
    let mut node = world.node("one", &Arc::default());
    while volumes(&node) == 0 {
        node.step().await;
    }
    let broken = world.cloud.truth()[0].id.clone();
    world.cloud.edit(&broken, |volume| volume.state = VolumeState::Error);
    node.until("another serves", |node| node.serving().is_some_and(|volume| volume.id != broken)).await;
    assert_eq!(volumes(&node), 1);
}

#[tokio::test]
async fn lost_tags_protect_the_data() {
    let (world, mut node) = serving(Delays::SLOW).await;
    let volume = node.serving().unwrap().id;
    node.stage("a");
    let unknown = tarn_volume::state::Tags::parse(&std::collections::BTreeMap::new());
    world.cloud.retag(&volume, |tags| *tags = unknown);
    node.spend(Duration::from_secs(600)).await;
    let volume = node.serving().unwrap();
    assert_eq!((&volume.tags.instance, volume.tags.staged), (&node.desired.instance, Staged::Maybe));
}

#[tokio::test]
async fn a_bucket_that_is_away_keeps_the_volume_until_it_is_back() {
    let (world, mut node) = serving(Delays::SLOW).await;
    node.stage("a");
    node.tenants.state.lock().bucket_away = true;
    node.desired.spec = None;
    node.spend(Duration::from_secs(7_200)).await;
    assert_eq!(volumes(&node), 1);
    assert!(node.is_waiting_for("not in their bucket"), "{:#?}", node.status());
    node.tenants.state.lock().bucket_away = false;
    node.until("it is deleted", |node| volumes(node) == 0).await;
    assert!(world.has_bucket("a"));
}

#[tokio::test]
async fn another_installations_volumes_are_not_seen() {
    let (world, mut node) = serving(Delays::NONE).await;
    let mut other = node.serving().unwrap();
    other.id = tarn_volume::VolumeId::parse("vol-ffffffff").unwrap();
    other.attachment = None;
    other.state = VolumeState::Available;
    other.tags.staged = Staged::None;
    other.tags.instance = tarn_volume::InstanceId::new("i-gone");
    world.cloud.insert(&tarn_volume::Owner::new("somebody"), other);
    node.spend(Duration::from_secs(24 * 3_600)).await;
    assert_eq!(volumes(&node), 2);
    assert_ne!(owner(), tarn_volume::Owner::new("somebody"));
}
