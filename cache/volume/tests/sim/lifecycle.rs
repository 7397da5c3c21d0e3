//! One volume from its making to its end, on two nodes after each other; then the same with every single call failing
//! in every way.

use super::faults::{Fault, Faults};
use super::world::{Node, World, small};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tarn_volume::cloud::fake::Delays;
use tarn_volume::spec::Spec;
use tarn_volume::state::{Gib, Place};

/// Makes, fills, grows, replaces, hands over and deletes, and checks at each stage that nothing is lost or left over.
async fn live(delays: Delays, faults: &Arc<Faults>) {
    let world = World::new(delays);
    let mut node = world.node("one", faults);
    let only_one = |node: &Node| node.world.cloud.truth().len() == 1;

    node.until("a volume serves", |node| node.serving().is_some() && only_one(node)).await;
    let first = node.serving().unwrap();
    assert_eq!((first.size, node.tenants.state.lock().history[0].clone()), (Gib(10), Place::Host));

    node.stage("a");
    world.disk(&first.id, |disk| disk.used_percent = 95);
    let grown = |node: &Node| node.world.disk(&first.id, |disk| disk.file_system_size) == Gib(15).bytes();
    node.until("it grows", |node| grown(node) && only_one(node)).await;

    node.desired.spec = Some(Spec { size_max: Gib(12), ..small() });
    let replaced =
        |node: &Node| node.serving().is_some_and(|volume| volume.size == Gib(10)) && only_one(node);
    node.until("it is replaced by a smaller one", replaced).await;
    assert!(world.has_bucket("a"));

    node.stage("b");
    let second = node.serving().unwrap().id;
    let zone = node.desired.zone.as_str().to_owned();
    world.cloud.terminate(&node.desired.instance);
    drop(node);
    let mut successor = world.node_in("two", &zone, 8, faults);
    let adopted = |node: &Node| {
        node.serving().is_some_and(|volume| volume.id == second) || node.serving().is_some() && only_one(node)
    };
    successor.until("its successor has it", |node| adopted(node) && only_one(node)).await;
    assert!(world.has_bucket("b"));

    successor.stage("c");
    successor.desired.spec = None;
    let gone = |node: &Node| node.world.cloud.truth().is_empty() && node.place() == Some(Place::Host);
    successor.until("nothing is left", gone).await;
    assert_eq!(*world.bucket.lock(), BTreeSet::from(["a", "b", "c"].map(String::from)));
    assert!(successor.host.mounts.lock().is_empty());
}

#[tokio::test]
async fn a_volume_lives_and_leaves_nothing_behind() {
    live(Delays::NONE, &Arc::default()).await;
    live(Delays::SLOW, &Arc::default()).await;
}

async fn each_call(fault: Fault) {
    let faults: Arc<Faults> = Arc::default();
    live(Delays::SLOW, &faults).await;
    let calls = faults.calls();
    assert!(calls > 100, "{calls}");
    for number in 1..=calls {
        let faults = Faults::planned(number, fault);
        let lived = tokio::spawn(async move { live(Delays::SLOW, &faults).await }).await;
        assert!(lived.is_ok(), "call {number} of {calls}, {fault:?}");
    }
}

#[tokio::test]
async fn any_call_may_fail() {
    each_call(Fault::Before).await;
}

#[tokio::test]
async fn any_answer_may_be_lost() {
    each_call(Fault::After).await;
}

#[tokio::test]
async fn any_call_may_be_the_last_of_its_process() {
    each_call(Fault::Crash).await;
}

#[tokio::test]
async fn growth_keeps_to_the_cool_down() {
    let world = World::new(Delays::NONE);
    let mut node = world.node("one", &Arc::default());
    node.until("a volume serves", |node| node.serving().is_some()).await;
    let id = node.serving().unwrap().id;
    let size = |node: &Node| node.serving().unwrap().size;

    world.disk(&id, |disk| disk.used_percent = 95);
    node.until("it grows", |node| size(node) == Gib(15)).await;
    let grown_at = world.cloud.now();
    world.disk(&id, |disk| disk.used_percent = 95);
    node.spend(Duration::from_secs(3 * 3_600)).await;
    assert_eq!(size(&node), Gib(15));
    assert!(node.is_waiting_for("too recently"), "{:#?}", node.status());
    node.until("it grows again", |node| size(node) == Gib(23)).await;
    assert!(world.cloud.now().since(grown_at) >= Duration::from_secs(6 * 3_600 - 60));
}
