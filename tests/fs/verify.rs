//! What comes over the wire is compared with the checksums that the bucket keeps.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use tarn_tests::faulty::{Fault, FaultyServer, Kind, Rule};
use tarn_tests::mount::Mount;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, data};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::Tarn,
    a_bit_flipped_in_flight_is_never_read_when_all_is_verified,
    a_bit_flipped_in_a_sequential_read_is_fetched_again,
    a_wrong_copy_is_found_when_it_is_whole,
    a_body_that_is_always_wrong_is_an_error,
);

const SIZE: usize = 40 << 20;

/// A bit that is wrong in the middle of a body, in these requests of a kind.
fn flips(on: Kind, nth: impl IntoIterator<Item = usize>) -> Vec<Rule> {
    nth.into_iter().map(|at| Rule { on, nth: at..at + 1, fault: Fault::Flip(100_000) }).collect()
}

/// The bucket through a server that breaks answers, mounted in place of the subject.
struct Broken {
    server: FaultyServer,
    mount: Option<Mount>,
    // Last: the server's task lives on it.
    runtime: tokio::runtime::Runtime,
}

impl Broken {
    /// With a file `f` of several parts in the bucket and nothing of it in the cache.
    fn new(subject: &Subject<'_>, options: &[&str], rules: Vec<Rule>) -> (Self, Vec<u8>) {
        let bytes = data::bytes(7, SIZE);
        fs::write(subject.path("f"), &bytes).unwrap();
        subject.take_mount().unmount().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(FaultyServer::start(&subject.server().endpoint(), rules)).unwrap();
        let mut plan = subject.plan().clone().with(options);
        // Another endpoint is another bucket for the cache.
        plan.endpoint = server.endpoint();
        let mount = Some(plan.mount().unwrap());
        (Self { server, mount, runtime }, bytes)
    }

    fn end(mut self, subject: &Subject<'_>) {
        self.mount.take().unwrap().unmount().unwrap();
        drop(self.server);
        self.runtime.shutdown_background();
        subject.mount_again().unwrap();
    }
}

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

fn a_bit_flipped_in_a_sequential_read_is_fetched_again(subject: &Subject<'_>) {
    let (broken, bytes) = Broken::new(subject, &[], flips(Kind::GetPart, [0, 1, 3]));
    assert!(fs::read(subject.path("f")).unwrap() == bytes);
    let parts = broken.server.count(Kind::GetPart);
    assert!(parts > 3, "every wrong body was sent: {parts}");
    broken.end(subject);
}

fn a_wrong_copy_is_found_when_it_is_whole(subject: &Subject<'_>) {
    // The first bodies are of less than a part and carry no checksum.
    let (broken, bytes) = Broken::new(subject, &[], flips(Kind::Get, [0, 1]));
    let first = fs::read(subject.path("f")).unwrap();
    assert!(first != bytes, "the test breaks what cannot be checked at once");
    assert!(fs::read(subject.path("f")).unwrap() == bytes, "the copy was compared and fetched again");
    assert!(fs::read(subject.path("f")).unwrap() == bytes);
    broken.end(subject);
}

fn a_body_that_is_always_wrong_is_an_error(subject: &Subject<'_>) {
    let every = vec![Rule::every(Kind::GetPart, Fault::Flip(100_000))];
    let (broken, _) = Broken::new(subject, &["--verify", "always"], every);
    let error = fs::read(subject.path("f")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    broken.end(subject);
}
