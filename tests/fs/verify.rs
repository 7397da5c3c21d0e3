//! What comes over the wire is compared with the checksums that the bucket keeps.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use tarn_tests::faulty::{Fault, FaultyServer, Kind, Rule};
use tarn_tests::mount::{CHANGE_LIMIT, Mount};
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::wait::eventually;
use tarn_tests::{behaviours, data};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::Tarn,
    a_bit_flipped_in_flight_is_never_read_when_all_is_verified,
    a_bit_flipped_in_parts_that_could_be_others_is_fetched_again,
    a_bit_flipped_in_a_sequential_read_is_fetched_again,
    a_wrong_copy_is_found_when_it_is_whole,
    a_file_of_one_piece_is_compared_when_it_is_whole,
    a_body_that_is_always_wrong_is_an_error,
    a_small_file_is_compared_with_whichever_checksum_it_has,
);

const SIZE: usize = 40 << 20;

/// A bit that is wrong in the middle of a body, in these requests of a kind.
fn flips(on: Kind, nth: impl IntoIterator<Item = usize>) -> Vec<Rule> {
    nth.into_iter().map(|at| Rule { on: Some(on), nth: at..at + 1, fault: Fault::Flip(100_000) }).collect()
}

/// The bucket through a server that breaks answers, mounted in place of the subject.
struct Broken {
    server: FaultyServer,
    mount: Option<Mount>,
    // Last: the server's task lives on it.
    runtime: tokio::runtime::Runtime,
}

impl Broken {
    /// With a file `f` of several parts in the bucket.
    fn new(subject: &Subject<'_>, options: &[&str], rules: Vec<Rule>) -> (Self, Vec<u8>) {
        let bytes = data::bytes(7, SIZE);
        fs::write(subject.path("f"), &bytes).unwrap();
        (Self::with(subject, options, rules), bytes)
    }

    /// With what is in the bucket, and nothing of it in the cache.
    fn with(subject: &Subject<'_>, options: &[&str], rules: Vec<Rule>) -> Self {
        subject.take_mount().unmount().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(FaultyServer::start(&subject.server().endpoint(), rules)).unwrap();
        let mut plan = subject.plan().clone().with(options);
        // Another endpoint is another bucket for the cache.
        plan.endpoint = server.endpoint();
        let mount = Some(plan.mount().unwrap());
        Self { server, mount, runtime }
    }

    fn end(mut self, subject: &Subject<'_>) {
        self.mount.take().unwrap().unmount().unwrap();
        drop(self.server);
        self.runtime.shutdown_background();
        subject.mount_again().unwrap();
    }
}

/// SEMANTICS: "With `--verify always` nothing less than a part is fetched, so this holds for random reads
/// too, at 8 MiB each."
fn a_bit_flipped_in_flight_is_never_read_when_all_is_verified(subject: &Subject<'_>) {
    let (broken, bytes) = Broken::new(subject, &["--verify", "always"], flips(Kind::GetPart, [0, 2, 3, 6]));
    let file = File::open(subject.path("f")).unwrap();
    let mut found = vec![0; 4096];
    for at in [20 << 20, 100_000 - 2048, 33 << 20, 9 << 20, 0, (40 << 20) - 4096] {
        file.read_exact_at(&mut found, at as u64).unwrap();
        assert!(found == bytes[at..at + 4096], "at {at}");
    }
    assert!(fs::read(subject.path("f")).unwrap() == bytes);
    assert!(broken.server.count(Kind::GetPart) > 7, "the wrong bodies were sent");
    drop(file);
    broken.end(subject);
}

/// Size and number of the parts fit 8 MiB too, which is asked for first.
/// SEMANTICS: "With `--verify always` nothing less than a part is fetched, so this holds for random reads
/// too, at 8 MiB each."
fn a_bit_flipped_in_parts_that_could_be_others_is_fetched_again(subject: &Subject<'_>) {
    subject.take_mount().unmount().unwrap();
    subject.give_mount(subject.plan().clone().with(&["--part-size", "5MiB"]).mount().unwrap());
    let bytes = data::bytes(7, 9 << 20);
    fs::write(subject.path("f"), &bytes).unwrap();
    let rules = [flips(Kind::GetPart, [0, 1]), flips(Kind::Get, 0..10)].concat();
    let broken = Broken::with(subject, &["--verify", "always"], rules);
    let file = File::open(subject.path("f")).unwrap();
    let mut found = vec![0; 4096];
    for at in [100_000 / 8 - 2048, 7 << 20] {
        file.read_exact_at(&mut found, at as u64).unwrap();
        assert!(found == bytes[at..at + 4096], "at {at}");
    }
    assert!(fs::read(subject.path("f")).unwrap() == bytes);
    drop(file);
    broken.end(subject);
}

/// SEMANTICS: "a larger file that was uploaded in parts of 5, 8, 10 or 16 MiB (tarn, the AWS command line,
/// boto3, mountpoint, mc, rclone, s3fs), where whole parts are read, as any sequential reader does after its
/// first 8 to 16 MiB: with the checksum of the part."
fn a_bit_flipped_in_a_sequential_read_is_fetched_again(subject: &Subject<'_>) {
    let (broken, bytes) = Broken::new(subject, &[], flips(Kind::GetPart, [0, 1, 3]));
    assert!(fs::read(subject.path("f")).unwrap() == bytes);
    let parts = broken.server.count(Kind::GetPart);
    assert!(parts > 3, "every wrong body was sent: {parts}");
    broken.end(subject);
}

/// SEMANTICS: "Random reads of a large file, and files that went up in one piece of over 8 MiB, are not
/// checked at once."
/// SEMANTICS: "When all blocks of such a file are here, the copy is compared with the CRC64NVME of the
/// object, before it is passed through to the kernel; one that is wrong is dropped and fetched again."
fn a_wrong_copy_is_found_when_it_is_whole(subject: &Subject<'_>) {
    // The first bodies are of less than a part and carry no checksum.
    let (broken, bytes) = Broken::new(subject, &[], flips(Kind::Get, [0, 1]));
    let first = fs::read(subject.path("f")).unwrap();
    assert!(first != bytes, "the test breaks what cannot be checked at once");
    assert!(fs::read(subject.path("f")).unwrap() == bytes, "the copy was compared and fetched again");
    assert!(fs::read(subject.path("f")).unwrap() == bytes);
    broken.end(subject);
}

/// SEMANTICS: "A body that is wrong is fetched again, twice; then the read answers EIO."
fn a_body_that_is_always_wrong_is_an_error(subject: &Subject<'_>) {
    let every = vec![Rule::every(Kind::GetPart, Fault::Flip(100_000))];
    let (broken, _) = Broken::new(subject, &["--verify", "always"], every);
    let file = File::open(subject.path("f")).unwrap();
    let error = file.read_exact_at(&mut [0; 4096], 20 << 20).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    // Others may be under way, fetched ahead.
    let settled = || {
        let parts = broken.server.count(Kind::GetPart);
        Ok((parts > 0 && parts.is_multiple_of(3)).then_some(()))
    };
    eventually(CHANGE_LIMIT, "each is fetched again twice", settled).unwrap();
    drop(file);
    broken.end(subject);
}

/// SEMANTICS: "Random reads of a large file, and files that went up in one piece of over 8 MiB, are not
/// checked at once."
/// SEMANTICS: "When all blocks of such a file are here, the copy is compared with the CRC64NVME of the
/// object, before it is passed through to the kernel; one that is wrong is dropped and fetched again."
fn a_file_of_one_piece_is_compared_when_it_is_whole(subject: &Subject<'_>) {
    let bytes = data::bytes(8, SIZE);
    subject.take_mount().unmount().unwrap();
    subject.give_mount(subject.plan().clone().with(&["--part-size", "64MiB"]).mount().unwrap());
    fs::write(subject.path("f"), &bytes).unwrap();
    let broken = Broken::with(subject, &[], flips(Kind::Get, [0, 1]));
    assert!(fs::read(subject.path("f")).unwrap() != bytes, "it is not checked at once");
    assert!(fs::read(subject.path("f")).unwrap() == bytes, "the copy was compared and fetched again");
    broken.end(subject);
}

/// SEMANTICS: "a file of up to 8 MiB: with the object's CRC64NVME, CRC32C or CRC32, whichever it has;"
/// SEMANTICS: "An object without any checksum is taken as it came: use TLS."
fn a_small_file_is_compared_with_whichever_checksum_it_has(subject: &Subject<'_>) {
    let bytes = data::bytes(9, 200_000);
    fs::write(subject.path("CRC64NVME"), &bytes).unwrap();
    for checksum in ["CRC32", "CRC32C", "none"] {
        subject.bucket().put_checked(checksum, &bytes, checksum).unwrap();
    }
    // The first body of each is wrong.
    let broken = Broken::with(subject, &[], flips(Kind::Get, [0, 2, 4, 6]));
    for (index, name) in ["CRC64NVME", "CRC32C", "CRC32"].into_iter().enumerate() {
        assert!(fs::read(subject.path(name)).unwrap() == bytes, "{name}");
        assert_eq!(broken.server.count(Kind::Get), 2 * (index + 1), "{name} is fetched again");
    }
    assert!(fs::read(subject.path("none")).unwrap() != bytes, "nothing tells that it is wrong");
    broken.end(subject);
}
