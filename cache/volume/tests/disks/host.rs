//! The promises of a Linux host.

use super::bench::{Bench, Images, grows_here, must, scribble};
use std::fs;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use tarn_volume::spec::FileSystem;
use tarn_volume::state::{Content, Gib, Health, HostVolume, Place};
use tarn_volume::{Host, VolumeId};

type Test = fn() -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! behaviours {
    ($($name:ident),+ $(,)?) => {
        /// Every promise, by name.
        pub(crate) const BEHAVIOURS: &[(&str, Test)] = &[$((stringify!($name), || Box::pin($name()))),+];
    };
}

behaviours!(
    ext4_is_made_checked_mounted_grown_and_unmounted,
    xfs_is_made_checked_mounted_grown_and_unmounted,
    only_a_blank_device_is_formatted,
    another_volumes_file_system_is_foreign,
    ext4_that_was_not_unmounted_is_repaired_and_whole,
    xfs_that_was_not_unmounted_is_repaired_and_whole,
    damage_is_told_from_untidiness,
    a_volume_in_use_is_not_unmounted,
    a_device_that_goes_leaves_a_dead_mount_that_can_be_taken_away,
    two_devices_of_one_serial_are_not_touched,
);

fn volume(number: u8) -> VolumeId {
    VolumeId::parse(&format!("vol-0000000000000{number:04x}")).unwrap()
}

async fn look(host: &dyn Host, volume: &VolumeId) -> HostVolume {
    host.observe(std::slice::from_ref(volume)).await.unwrap().remove(0)
}

async fn content(host: &dyn Host, volume: &VolumeId) -> Content {
    look(host, volume).await.device.unwrap().content
}

async fn life(kind: FileSystem) {
    let (images, bench, volume) = (Images::new(), Bench::new(), volume(1));
    let host = bench.host();
    assert_eq!(look(&host, &volume).await.device, None);
    bench.plug(&images, &volume, Gib(1));
    assert_eq!(content(&host, &volume).await, Content::Blank);
    host.format(&volume, kind).await.unwrap();
    assert_eq!(content(&host, &volume).await, Content::Ours(kind));
    assert_eq!(host.check(&volume).await.unwrap(), Health::Sound);
    host.mount(&volume).await.unwrap();
    host.mount(&volume).await.unwrap();

    let dir = host.cache_dir(&Place::Volume(volume.clone()));
    fs::write(dir.join("file"), vec![7; 4 << 20]).unwrap();
    let mount = look(&host, &volume).await.mount.unwrap();
    assert!(mount.alive && mount.used >= 4 << 20 && mount.size < Gib(1).bytes(), "{mount:?}");
    let options = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line =
        options.lines().find(|line| line.contains(volume.as_str()) && line.contains("mounts")).unwrap();
    for option in ["noatime", "nodev", "nosuid", "discard"] {
        assert!(line.contains(option), "{line}");
    }

    bench.plug(&images, &volume, Gib(2));
    assert_eq!(look(&host, &volume).await.device.unwrap().size, Gib(2).bytes());
    if grows_here(kind) {
        host.grow(&volume).await.unwrap();
        host.grow(&volume).await.unwrap();
        let grown = look(&host, &volume).await.mount.unwrap();
        assert!(grown.size > mount.size + Gib(1).bytes() * 9 / 10, "{grown:?}");
    } else {
        let refused = host.grow(&volume).await.unwrap_err().to_string();
        assert!(refused.contains("CAP_SYS_RESOURCE"), "{refused}");
    }

    host.unmount(&volume, false).await.unwrap();
    host.unmount(&volume, false).await.unwrap();
    assert!(!dir.exists(), "nobody can write under the mount point");
    assert_eq!(host.check(&volume).await.unwrap(), Health::Sound);
    host.mount(&volume).await.unwrap();
    assert_eq!(fs::read(dir.join("file")).unwrap(), vec![7; 4 << 20]);
}

async fn ext4_is_made_checked_mounted_grown_and_unmounted() {
    life(FileSystem::Ext4).await;
}

async fn xfs_is_made_checked_mounted_grown_and_unmounted() {
    life(FileSystem::Xfs).await;
}

async fn only_a_blank_device_is_formatted() {
    let bench = Bench::new();
    let host = bench.host();
    let cases: [(&str, &dyn Fn(&Path)); 5] = [
        ("swap", &|image| drop(must("mkswap", &[image]))),
        ("an ext4 of others", &|image| drop(must("mkfs.ext4", &[Path::new("-q"), image]))),
        ("a partition table", &|image| {
            scribble(image, 510, &[0x55, 0xaa]);
            scribble(image, 446, &[0, 1, 1, 0, 0x83, 1, 1, 0, 0, 8, 0, 0, 0, 8, 0, 0]);
        }),
        ("a byte of data", &|image| scribble(image, 3 << 20, b"x")),
        ("data at the end", &|image| scribble(image, Gib(1).bytes() - 1, b"x")),
    ];
    for (number, (what, fill)) in (10..).zip(cases) {
        let (images, volume) = (Images::new(), volume(number));
        bench.plug(&images, &volume, Gib(1));
        fill(&images.path(&volume));
        bench.unplug(&volume);
        bench.plug(&images, &volume, Gib(1));
        let before = Images::new();
        must("cp", &[Path::new("--sparse=always"), &images.path(&volume), &before.path(&volume)]);
        assert!(matches!(content(&host, &volume).await, Content::Foreign(_)), "{what}");
        for kind in FileSystem::ALL {
            host.format(&volume, kind).await.expect_err(what);
        }
        host.mount(&volume).await.expect_err(what);
        host.check(&volume).await.expect_err(what);
        must("cmp", &[&images.path(&volume), &before.path(&volume)]);
        bench.unplug(&volume);
    }
}

async fn another_volumes_file_system_is_foreign() {
    let (images, bench) = (Images::new(), Bench::new());
    let host = bench.host();
    let [one, copy] = [volume(1), volume(2)];
    bench.plug(&images, &one, Gib(1));
    host.format(&one, FileSystem::Ext4).await.unwrap();
    bench.unplug(&one);
    // As a volume made from a snapshot would be.
    fs::rename(images.path(&one), images.path(&copy)).unwrap();
    bench.plug(&images, &copy, Gib(1));
    assert!(matches!(content(&host, &copy).await, Content::Foreign(_)));
    host.mount(&copy).await.unwrap_err();
}

async fn not_unmounted(kind: FileSystem) {
    let (images, bench, volume) = (Images::new(), Bench::new(), volume(1));
    let host = bench.host();
    bench.plug(&images, &volume, Gib(1));
    host.format(&volume, kind).await.unwrap();
    host.mount(&volume).await.unwrap();
    let file = host.cache_dir(&Place::Volume(volume.clone())).join("file");
    fs::write(&file, vec![7; 1 << 20]).unwrap();
    fs::File::open(&file).unwrap().sync_all().unwrap();
    // What a crash of the machine leaves: what has reached the device by now.
    let crashed = Images::new();
    must("cp", &[Path::new("--sparse=always"), &images.path(&volume), &crashed.path(&volume)]);
    host.unmount(&volume, false).await.unwrap();
    bench.unplug(&volume);
    bench.plug(&crashed, &volume, Gib(1));
    assert_eq!(host.check(&volume).await.unwrap(), Health::Sound);
    host.mount(&volume).await.unwrap();
    assert_eq!(fs::read(&file).unwrap(), vec![7; 1 << 20]);
}

async fn ext4_that_was_not_unmounted_is_repaired_and_whole() {
    not_unmounted(FileSystem::Ext4).await;
}

async fn xfs_that_was_not_unmounted_is_repaired_and_whole() {
    not_unmounted(FileSystem::Xfs).await;
}

async fn damage_is_told_from_untidiness() {
    for kind in FileSystem::ALL {
        let (images, bench, volume) = (Images::new(), Bench::new(), volume(1));
        let host = bench.host();
        bench.plug(&images, &volume, Gib(1));
        host.format(&volume, kind).await.unwrap();
        bench.unplug(&volume);
        let image = images.path(&volume);
        match kind {
            // The root directory is gone.
            FileSystem::Ext4 => {
                let arguments = ["-w", "-R", "clri <2>"].map(Path::new);
                must("debugfs", &[&arguments[..], &[&image]].concat());
            }
            // The second sector says what space is free.
            FileSystem::Xfs => scribble(&image, 512, &[0xff; 512]),
        }
        bench.plug(&images, &volume, Gib(1));
        assert_eq!(host.check(&volume).await.unwrap(), Health::Damaged, "{kind}");
        assert_eq!(look(&host, &volume).await.mount, None);
    }
}

async fn a_volume_in_use_is_not_unmounted() {
    let (images, bench, volume) = (Images::new(), Bench::new(), volume(1));
    let host = bench.host();
    bench.plug(&images, &volume, Gib(1));
    host.format(&volume, FileSystem::Ext4).await.unwrap();
    host.mount(&volume).await.unwrap();
    let open = fs::File::create(host.cache_dir(&Place::Volume(volume.clone())).join("file")).unwrap();
    host.unmount(&volume, false).await.unwrap_err();
    assert!(look(&host, &volume).await.mount.is_some());
    drop(open);
    host.unmount(&volume, false).await.unwrap();
}

async fn a_device_that_goes_leaves_a_dead_mount_that_can_be_taken_away() {
    let (images, bench, volume) = (Images::new(), Bench::new(), volume(1));
    let host = bench.host();
    bench.plug(&images, &volume, Gib(1));
    host.format(&volume, FileSystem::Ext4).await.unwrap();
    host.mount(&volume).await.unwrap();
    let open = fs::File::create(host.cache_dir(&Place::Volume(volume.clone())).join("file")).unwrap();
    bench.unplug(&volume);
    let seen = look(&host, &volume).await;
    assert_eq!((seen.device, seen.mount.map(|mount| mount.alive)), (None, Some(false)));
    host.grow(&volume).await.unwrap_err();
    host.unmount(&volume, true).await.unwrap();
    assert_eq!(look(&host, &volume).await.mount, None);
    drop(open);
}

async fn two_devices_of_one_serial_are_not_touched() {
    let (images, bench, volume) = (Images::new(), Bench::new(), volume(1));
    let host = bench.host();
    bench.plug(&images, &volume, Gib(1));
    let node = fs::read_link(bench.path("dev/nvme1n1")).unwrap();
    bench.appear("nvme9n1", &volume.serial(), &node);
    let refused = host.format(&volume, FileSystem::Ext4).await.unwrap_err().to_string();
    assert!(refused.contains("both have the serial"), "{refused}");
    assert!(matches!(content(&host, &volume).await, Content::Foreign(_)));
}
