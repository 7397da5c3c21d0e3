//! Many writers and readers of few files, through mappings and handles: every end of a write tells the kernel to forget
//! attributes, while others read the same pages and the worker dies.

use crate::killer::while_killing;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};
use tarn_tests::mapping::Mapping;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, paths};

pub(crate) const ALL: &[Behaviour] = behaviours!(On::Tarn, a_storm_of_invalidations_ends);

const FILES: usize = 3;
const LENGTH: usize = 64 << 10;

fn a_storm_of_invalidations_ends(subject: &Subject<'_>) {
    let time = Duration::from_secs(if paths::full() { 120 } else { 4 });
    for of in 0..FILES {
        fs::write(subject.path(&format!("f{of}")), vec![0; LENGTH]).unwrap();
    }
    let path = |round: usize| subject.path(&format!("f{}", round % FILES));
    let rounds = |of: usize, end: Instant, work: &dyn Fn(usize)| {
        let count = (of..).take_while(|_| Instant::now() < end).map(work).count();
        assert!(count > 3, "{count} rounds in {time:?}");
    };
    let write = |round: usize| {
        let file = File::options().read(true).write(true).open(path(round)).unwrap();
        let mut mapping = Mapping::shared(&file, LENGTH).unwrap();
        mapping.write(round * 8 % LENGTH, &round.to_le_bytes());
        file.write_all_at(&round.to_le_bytes(), (round * 4096 % LENGTH) as u64).unwrap();
        mapping.sync().unwrap();
        file.sync_all().unwrap();
    };
    let read = |round: usize| {
        let file = File::open(path(round)).unwrap();
        assert_eq!(file.metadata().unwrap().size(), LENGTH as u64);
        let mapping = Mapping::read_only(&file, LENGTH).unwrap();
        assert_eq!(mapping.read(0, LENGTH).len(), LENGTH);
        file.read_exact_at(&mut [0; 4096], (round * 4096 % LENGTH) as u64).unwrap();
        fs::metadata(path(round + 1)).unwrap();
    };
    let tally = while_killing(subject, || {
        let end = Instant::now() + time;
        std::thread::scope(|scope| {
            for of in 0..3 {
                scope.spawn(move || rounds(of, end, &write));
                scope.spawn(move || rounds(of, end, &read));
            }
        });
    });
    assert!(!tally.stalls.is_empty(), "{tally:?}");
    subject.sweep().unwrap();
}
