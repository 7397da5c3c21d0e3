//! kill -9 in the middle of everything. What was acknowledged is there after the next mount, byte for byte.

use crate::load::{Manifest, Promise};
use crate::{COMMITS, results, rounds};
use std::thread;
use std::time::{Duration, Instant};
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, data, wait};

pub(crate) const TARN: &[Behaviour] = behaviours!(On::Tarn, every_acknowledged_file_survives_kill_9);

const WRITERS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

fn every_acknowledged_file_survives_kill_9(subject: &Subject<'_>) {
    subject.take_mount().unmount().unwrap();
    // One for both: the second finds what the first has left in the bucket.
    let manifest = Manifest::default();
    for commit in COMMITS {
        let plan = subject.plan().clone().with(commit).with(&["--part-size", "5MiB"]);
        let (started, rounds) = (Instant::now(), rounds(3, 100));
        let mut moments = data::numbers(u64::from(std::process::id()), 40);
        let mut files = 0;
        for round in 0..rounds {
            let mount = plan.mount().unwrap();
            let enough = manifest.acknowledged() + 5 + moments.next().unwrap_or(0) as usize;
            thread::scope(|scope| {
                for writer in 0..WRITERS {
                    let manifest = &manifest;
                    scope.spawn(move || manifest.write(subject.root(), writer, round as u64, Promise::Close));
                }
                let reached = || Ok((manifest.acknowledged() >= enough).then_some(()));
                let reached = wait::eventually(PATIENCE, "the writers have written enough", reached);
                // Whatever is answered from here on may be the answer of a dead process.
                manifest.stop();
                mount.crash().unwrap();
                reached.unwrap();
            });
            let again = plan.mount().unwrap();
            files = manifest.check(subject.root(), false);
            manifest.go_on();
            again.unmount().unwrap();
            let uploads = subject.bucket().uploads().unwrap();
            assert!(uploads.is_empty(), "round {round}, {commit:?}: uploads are left half done: {uploads:?}");
        }
        results::record("kill -9 under load", subject.mode(), commit[1], (rounds, files), started.elapsed());
    }
    subject.mount_again().unwrap();
}
