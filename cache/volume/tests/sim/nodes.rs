//! Several nodes: succession, rescue, races and orphans.

use super::world::{Node, World};
use std::sync::Arc;
use std::time::Duration;
use tarn_volume::cloud::fake::Delays;
use tarn_volume::state::Place;

async fn serving(world: &Arc<World>, name: &str, zone: &str) -> Node {
    let mut node = world.node_in(name, zone, 8, &Arc::default());
    node.until("a volume serves", |node| node.serving().is_some()).await;
    node
}

/// The instance ends, and the process with it; some time later the listings show that its volume is free.
fn end(node: Node) {
    node.world.cloud.terminate(&node.desired.instance);
    node.world.cloud.advance(Duration::from_secs(50));
    node.world.cloud.advance(Duration::from_secs(10));
}

#[tokio::test]
async fn a_successor_takes_over_the_volume_with_its_cache_and_its_staged_data() {
    let world = World::new(Delays::SLOW);
    let node = serving(&world, "one", "a").await;
    let volume = node.serving().unwrap().id;
    node.stage("a");
    end(node);
    let successor = serving(&world, "two", "a").await;
    assert_eq!(successor.serving().unwrap().id, volume);
    assert!(world.has_bucket("a"));
}

#[tokio::test]
async fn a_node_with_a_volume_rescues_what_is_staged_on_an_orphan_which_is_then_deleted() {
    let world = World::new(Delays::SLOW);
    let [first, mut second] = [serving(&world, "one", "a").await, serving(&world, "two", "a").await];
    let (kept, left) = (second.serving().unwrap().id, first.serving().unwrap().id);
    first.stage("a");
    end(first);
    second.until("the orphan is emptied and deleted", |node| node.world.cloud.truth().len() == 1).await;
    assert!(world.has_bucket("a"));
    assert_eq!(second.serving().unwrap().id, kept);
    assert!(!second.tenants.state.lock().history.contains(&Place::Volume(left)), "it never served there");
}

#[tokio::test]
async fn an_orphan_in_another_zone_waits_for_a_node_there() {
    let world = World::new(Delays::SLOW);
    let [first, mut second] = [serving(&world, "one", "a").await, serving(&world, "two", "b").await];
    first.stage("a");
    end(first);
    second.spend(Duration::from_secs(48 * 3_600)).await;
    assert_eq!(world.cloud.truth().len(), 2);
    assert!(second.is_waiting_for("a node in a will upload it"), "{:#?}", second.status());
    serving(&world, "three", "a").await;
    assert!(world.has_bucket("a"));
}

#[tokio::test]
async fn an_empty_orphan_is_kept_for_the_grace_time_and_deleted_by_any_node() {
    let world = World::new(Delays::SLOW);
    let [mut first, mut second] = [serving(&world, "one", "a").await, serving(&world, "two", "b").await];
    let left = first.serving().unwrap().id;
    first.desired.spec = None;
    while !first.serving().is_none_or(|volume| volume.tags.staged == tarn_volume::state::Staged::None) {
        first.step().await;
    }
    world.cloud.retag(&left, |tags| tags.staged = tarn_volume::state::Staged::None);
    end(first);
    let there = |world: &World| world.cloud.truth().iter().any(|volume| volume.id == left);
    second.spend(Duration::from_secs(50 * 60)).await;
    assert!(there(&world));
    second.spend(Duration::from_secs(20 * 60)).await;
    assert!(!there(&world));
}

#[tokio::test]
async fn two_nodes_that_want_one_orphan_end_with_a_volume_each() {
    for lead in 0..12 {
        let world = World::new(Delays::SLOW);
        let node = serving(&world, "one", "a").await;
        node.stage("a");
        end(node);
        let mut two = world.node("two", &Arc::default());
        let mut three = world.node("three", &Arc::default());
        for _ in 0..lead {
            two.step().await;
        }
        for _ in 0..400 {
            two.step().await;
            three.step().await;
        }
        let served: Vec<_> = [&two, &three].map(|node| node.serving().map(|volume| volume.id)).into();
        assert!(served[0].is_some() && served[1].is_some() && served[0] != served[1], "{lead}: {served:?}");
        assert!(world.has_bucket("a"), "{lead}");
        assert_eq!(world.cloud.truth().len(), 2, "{lead}");
    }
}

#[tokio::test]
async fn a_node_that_is_only_away_keeps_its_volume() {
    let world = World::new(Delays::SLOW);
    let first = serving(&world, "one", "a").await;
    let volume = first.serving().unwrap();
    world.cloud.pull(&volume.id);
    let mut second = serving(&world, "two", "a").await;
    second.spend(Duration::from_secs(3 * 3_600)).await;
    let now = world.cloud.truth().into_iter().find(|other| other.id == volume.id).unwrap();
    assert_eq!(now.tags.instance, first.desired.instance);
    assert_eq!(now.attachment, None);
}

#[tokio::test]
async fn a_volume_of_a_node_that_is_no_longer_listed_is_an_orphan_too() {
    let world = World::new(Delays::SLOW);
    let first = serving(&world, "one", "a").await;
    first.stage("a");
    let instance = first.desired.instance.clone();
    end(first);
    world.cloud.advance(Duration::from_secs(3_600));
    world.cloud.forget_instance(&instance);
    serving(&world, "two", "a").await;
    assert!(world.has_bucket("a"));
}
