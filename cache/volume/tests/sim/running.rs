//! The loop: it goes on by itself, takes a change of what is wanted at once, and ends when it is told to.

use super::faults::{Faults, Faulty};
use super::world::{World, owner};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tarn_volume::cloud::fake::Delays;
use tarn_volume::cloud::{Cloud, Shared};
use tarn_volume::state::Place;
use tarn_volume::{InstanceId, Reconciler, Tenants, VolumeId};
use tokio::sync::{oneshot, watch};

#[tokio::test]
async fn it_runs_until_it_is_told_to_stop() {
    // The loop asks the real clock, and the cloud says since when it has been attaching.
    let world = World::at(SystemTime::now().into(), Delays::NONE);
    let node = world.node("one", &Arc::<Faults>::default());
    let reconciler = Reconciler::new(world.cloud.clone(), node.host.clone(), node.tenants.clone());
    let mut status = reconciler.status();
    let (wanted, desired) = watch::channel(node.desired.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(reconciler.run(desired, async {
        // The other side ends either way.
        let _ = stopped.await;
    }));
    let time = {
        let cloud = Arc::clone(&world.cloud);
        tokio::spawn(async move {
            loop {
                // The pace of the cloud's time. Nothing waits for it.
                tokio::time::sleep(Duration::from_millis(20)).await;
                cloud.advance(Duration::from_secs(1));
            }
        })
    };

    let limit = Duration::from_secs(60);
    let on_volume = status.wait_for(|status| matches!(status.place, Some(Place::Volume(_))));
    tokio::time::timeout(limit, on_volume).await.unwrap().unwrap();
    wanted.send_modify(|desired| desired.spec = None);
    let on_host = status.wait_for(|status| status.place == Some(Place::Host));
    tokio::time::timeout(limit, on_host).await.unwrap().unwrap();
    stop.send(()).unwrap();
    running.await.unwrap();
    time.abort();
    assert_eq!(node.tenants.place().await.unwrap(), Some(Place::Host));
}

#[tokio::test]
async fn nodes_that_share_a_cloud_ask_it_once() {
    let world = World::new(Delays::NONE);
    let faults: Arc<Faults> = Arc::default();
    let counted = Faulty { inner: Arc::clone(&world.cloud), faults: Arc::clone(&faults) };
    let shared = Shared::new(counted, Duration::from_secs(3_600));
    let ids: Vec<_> = ["i-1", "i-2"].map(InstanceId::new).into();
    for _ in 0..20 {
        shared.volumes(&owner()).await.unwrap();
        shared.instances(&ids).await.unwrap();
        shared.instances(&ids[..1]).await.unwrap();
    }
    assert_eq!(faults.calls(), 2);
    // A change shows at once.
    shared.delete(&VolumeId::parse("vol-00000001").unwrap()).await.unwrap();
    shared.volumes(&owner()).await.unwrap();
    assert_eq!(faults.calls(), 4);
    // An instance that nobody asked for before is asked for together with the others.
    shared.instances(&ids).await.unwrap();
    shared.instances(&[InstanceId::new("i-3")]).await.unwrap();
    shared.instances(&ids).await.unwrap();
    assert_eq!(faults.calls(), 6);
}

#[tokio::test]
async fn an_answer_that_is_too_old_is_asked_for_again() {
    let world = World::new(Delays::NONE);
    let faults: Arc<Faults> = Arc::default();
    let counted = Faulty { inner: Arc::clone(&world.cloud), faults: Arc::clone(&faults) };
    let shared = Shared::new(counted, Duration::ZERO);
    for _ in 0..3 {
        shared.volumes(&owner()).await.unwrap();
        let answered = Instant::now();
        while Instant::now() == answered {}
    }
    assert_eq!(faults.calls(), 3);
}
