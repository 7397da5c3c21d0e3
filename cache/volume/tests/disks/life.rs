//! The whole of it: moto's EC2 says what is attached, loop devices follow, and the reconciler makes real file systems.

use super::bench::{Bench, Images, grows_here};
use super::moto::Moto;
use super::tenants::Folders;
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use std::fs;
use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tarn_volume::cloud::ec2::Ec2;
use tarn_volume::plan::{Change, Desired, NewVolume};
use tarn_volume::spec::{FileSystem, Spec};
use tarn_volume::state::{AttachmentState, Gib, Instance, Place, Tags, Timestamp, Volume};
use tarn_volume::{
    Cloud, DeviceName, InstanceId, NodeName, Owner, Reconciler, Result, Tenants, Turn, VolumeId,
};
use tempfile::TempDir;

type Test = for<'a> fn(&'a Moto) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

macro_rules! behaviours {
    ($($name:ident),+ $(,)?) => {
        /// Every promise, by name.
        pub(crate) const BEHAVIOURS: &[(&str, Test)] = &[$((stringify!($name), |moto| Box::pin($name(moto)))),+];
    };
}

behaviours!(
    a_volume_is_made_filled_grown_replaced_and_deleted,
    a_gigabyte_that_was_staged_survives_its_node_byte_for_byte,
    growth_fails_no_write,
    a_pulled_volume_is_left_and_comes_back,
);

/// EC2 over the wire; the bench follows what it lists.
struct Wired {
    ec2: Ec2,
    images: Arc<Images>,
    bench: Arc<Bench>,
    instance: InstanceId,
}

#[async_trait]
impl Cloud for Wired {
    async fn volumes(&self, owner: &Owner) -> Result<Vec<Volume>> {
        let volumes = self.ec2.volumes(owner).await?;
        let here = |volume: &&Volume| {
            volume.attachment.as_ref().is_some_and(|attachment| {
                attachment.instance == self.instance && attachment.state == AttachmentState::Attached
            })
        };
        for id in self.bench.plugged() {
            if !volumes.iter().filter(here).any(|volume| volume.id == id) {
                self.bench.unplug(&id);
            }
            if !volumes.iter().any(|volume| volume.id == id) {
                self.images.remove(&id);
            }
        }
        for volume in volumes.iter().filter(here) {
            self.bench.plug(&self.images, &volume.id, volume.size);
        }
        Ok(volumes)
    }

    async fn instances(&self, ids: &[InstanceId]) -> Result<Vec<Instance>> {
        self.ec2.instances(ids).await
    }

    async fn create(&self, owner: &Owner, volume: &NewVolume) -> Result<VolumeId> {
        self.ec2.create(owner, volume).await
    }

    async fn attach(&self, volume: &VolumeId, instance: &InstanceId, device: &DeviceName) -> Result<()> {
        self.ec2.attach(volume, instance, device).await
    }

    async fn detach(&self, volume: &VolumeId, instance: &InstanceId) -> Result<()> {
        self.ec2.detach(volume, instance).await
    }

    async fn delete(&self, volume: &VolumeId) -> Result<()> {
        self.ec2.delete(volume).await
    }

    async fn modify(&self, volume: &VolumeId, change: &Change) -> Result<()> {
        self.ec2.modify(volume, change).await
    }

    async fn tag(&self, owner: &Owner, volume: &VolumeId, tags: &Tags) -> Result<()> {
        self.ec2.tag(owner, volume, tags).await
    }

    async fn denied(&self, owner: &Owner, volume: &NewVolume) -> Result<Vec<&'static str>> {
        self.ec2.denied(owner, volume).await
    }
}

/// An instance with its devices, its mounts and what looks after its volume.
struct Node {
    desired: Desired,
    tenants: Arc<Folders>,
    bench: Arc<Bench>,
    reconciler: Reconciler,
    now: Timestamp,
}

/// What nodes have in common.
struct Cluster<'a> {
    moto: &'a Moto,
    owner: Owner,
    images: Arc<Images>,
    bucket: TempDir,
}

impl<'a> Cluster<'a> {
    fn new(moto: &'a Moto) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let owner = Owner::new(format!("life-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let bucket = tempfile::Builder::new().prefix("tarn-bucket-").tempdir().unwrap();
        Self { moto, owner, images: Arc::new(Images::new()), bucket }
    }

    async fn node(&self, spec: Spec) -> Node {
        let (instance, zone) = self.moto.launch().await.unwrap();
        let bench = Arc::new(Bench::new());
        let tenants = Arc::new(Folders::new(self.bucket.path()));
        let wired = Wired {
            ec2: self.moto.ec2().await.unwrap(),
            images: Arc::clone(&self.images),
            bench: Arc::clone(&bench),
            instance: instance.clone(),
        };
        let node = NodeName::new(instance.as_str());
        let desired = Desired { owner: self.owner.clone(), node, instance, zone, spec: Some(spec) };
        let host = Arc::new(bench.host());
        let users: Arc<dyn Tenants> = Arc::clone(&tenants) as Arc<dyn Tenants>;
        let reconciler = Reconciler::new(Arc::new(wired), host, users);
        Node { desired, tenants, bench, reconciler, now: SystemTime::now().into() }
    }

    async fn volumes(&self) -> Vec<Volume> {
        self.moto.ec2().await.unwrap().volumes(&self.owner).await.unwrap()
    }
}

impl Node {
    async fn until(&mut self, what: &str, goal: impl Fn(&Self) -> bool) {
        let mut turns = Vec::new();
        for _ in 0..200 {
            let turn = self.reconciler.step(&self.desired, self.now).await;
            let idle = matches!(turn, Turn::Idle(_));
            if idle && goal(self) {
                return;
            }
            turns.push(format!("{turn:?}"));
            // The service is quick; only what is planned to be waited for takes time.
            self.now = self.now.after(Duration::from_secs(if idle { 30 } else { 1 }));
        }
        panic!("never: {what}\n{turns:#?}\n{:#?}", self.reconciler.status().borrow());
    }

    async fn serving(&self) -> Option<VolumeId> {
        match self.tenants.place().await.unwrap() {
            Some(Place::Volume(id)) => Some(id),
            Some(Place::Host) | None => None,
        }
    }

    fn is_on_volume(&self) -> bool {
        self.tenants.staging().starts_with(self.bench.path("mounts").canonicalize().unwrap())
    }
}

fn spec(file_system: FileSystem) -> Spec {
    Spec { size_min: Gib(3), size_max: Gib(8), file_system, ..Spec::default() }
}

async fn a_volume_is_made_filled_grown_replaced_and_deleted(moto: &Moto) {
    for file_system in FileSystem::ALL.into_iter().filter(|&kind| grows_here(kind)) {
        let cluster = Cluster::new(moto);
        let mut node = cluster.node(Spec { size_min: Gib(1), ..spec(file_system) }).await;
        node.until("a volume serves", Node::is_on_volume).await;
        let first = node.serving().await;

        // Room that is taken without writing it.
        let filler = node.tenants.staging().join("filler");
        let file = fs::File::create(&filler).unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 900 << 20).unwrap();
        drop(file);
        let dir = node.tenants.staging();
        let size = || rustix::fs::statvfs(&dir).map(|space| space.f_blocks * space.f_frsize).unwrap();
        node.until("it has grown", |_| size() > Gib(1).bytes() * 3 / 2).await;
        assert_eq!(cluster.volumes().await[0].size, Gib(2));
        fs::remove_file(filler).unwrap();

        fs::write(node.tenants.staging().join("a"), b"staged").unwrap();
        node.desired.spec = Some(Spec { size_min: Gib(1), size_max: Gib(1), ..spec(file_system) });
        let staged = |cluster: &Cluster<'_>| fs::read(cluster.bucket.path().join("a")).is_ok();
        node.until("a smaller one serves", |node| node.is_on_volume() && staged(&cluster)).await;
        assert_ne!(node.serving().await, first);
        assert_eq!(cluster.volumes().await.len(), 1);

        node.desired.spec = None;
        node.until("nothing is left", |node| !node.is_on_volume() && node.bench.plugged().is_empty()).await;
        assert_eq!(cluster.volumes().await, []);
    }
}

/// Writes so many bytes that look random, and gives their checksum.
fn write_noise(path: &Path, bytes: u64) -> Vec<u8> {
    let (mut file, mut digest) = (fs::File::create(path).unwrap(), Sha256::new());
    let (mut state, mut block) = (0x9e37_79b9_7f4a_7c15_u64, vec![0; 1 << 20]);
    for _ in 0..bytes >> 20 {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        digest.update(&block);
        file.write_all(&block).unwrap();
    }
    file.sync_all().unwrap();
    digest.finalize().to_vec()
}

fn checksum(path: &Path) -> Vec<u8> {
    let mut digest = Sha256::new();
    let mut file = fs::File::open(path).unwrap();
    let mut block = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut block).unwrap() {
            0 => return digest.finalize().to_vec(),
            read => digest.update(&block[..read]),
        }
    }
}

async fn a_gigabyte_that_was_staged_survives_its_node_byte_for_byte(moto: &Moto) {
    let cluster = Cluster::new(moto);
    let mut first = cluster.node(spec(FileSystem::Ext4)).await;
    first.until("a volume serves", Node::is_on_volume).await;
    let volume = first.serving().await;
    let written = write_noise(&first.tenants.staging().join("large"), 1 << 30);
    // The instance ends without a word: nothing is unmounted.
    moto.terminate(&first.desired.instance).await.unwrap();
    let instance = first.desired.instance.clone();
    drop(first);
    // EC2 takes the volumes off an instance that ends; moto leaves that to us.
    let ec2 = moto.ec2().await.unwrap();
    for volume in cluster.volumes().await {
        ec2.detach(&volume.id, &instance).await.unwrap();
    }

    let mut second = cluster.node(spec(FileSystem::Ext4)).await;
    second.until("its successor serves", Node::is_on_volume).await;
    assert_eq!(second.serving().await, volume, "the same volume, with all that was cached");
    assert_eq!(checksum(&cluster.bucket.path().join("large")), written);
    assert_eq!(cluster.volumes().await.len(), 1);
}

async fn growth_fails_no_write(moto: &Moto) {
    for file_system in FileSystem::ALL.into_iter().filter(|&kind| grows_here(kind)) {
        let cluster = Cluster::new(moto);
        let mut node = cluster.node(Spec { size_min: Gib(1), ..spec(file_system) }).await;
        node.until("a volume serves", Node::is_on_volume).await;
        let dir = node.tenants.staging();
        let file = fs::File::create(dir.join("filler")).unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 850 << 20).unwrap();
        drop(file);
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (dir, stop) = (dir.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut rounds = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    fs::write(dir.join("busy"), vec![u8::try_from(rounds % 251).unwrap(); 4 << 20]).unwrap();
                    assert_eq!(fs::read(dir.join("busy")).unwrap().len(), 4 << 20);
                    rounds += 1;
                }
                rounds
            })
        };
        let size = || rustix::fs::statvfs(&dir).map(|space| space.f_blocks * space.f_frsize).unwrap();
        node.until("it has grown", |_| size() > Gib(1).bytes() * 3 / 2).await;
        stop.store(true, Ordering::Relaxed);
        assert!(writer.join().expect("no write failed") > 0);
    }
}

async fn a_pulled_volume_is_left_and_comes_back(moto: &Moto) {
    let cluster = Cluster::new(moto);
    let mut node = cluster.node(Spec { size_min: Gib(1), ..spec(FileSystem::Ext4) }).await;
    node.until("a volume serves", Node::is_on_volume).await;
    let volume = node.serving().await.unwrap();
    fs::write(node.tenants.staging().join("a"), b"staged").unwrap();
    fs::File::open(node.tenants.staging().join("a")).unwrap().sync_all().unwrap();

    // Somebody forces it off: EC2 says so and the device goes.
    moto.ec2().await.unwrap().detach(&volume, &node.desired.instance).await.unwrap();
    node.reconciler.step(&node.desired, node.now).await;
    assert!(!node.is_on_volume(), "the mounts have a directory that works");

    node.until("it is back", Node::is_on_volume).await;
    assert_eq!(node.serving().await, Some(volume));
    assert_eq!(fs::read(cluster.bucket.path().join("a")).unwrap(), b"staged");
}
