//! Creating, writing and reading.

use tarn_tests::behaviours;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};

pub(crate) const ALL: &[Behaviour] = behaviours!(On::EveryFileSystem, a_file_reads_back);

fn a_file_reads_back(subject: &Subject<'_>) {
    std::fs::write(subject.path("a"), b"hello").unwrap();
    assert_eq!(std::fs::read(subject.path("a")).unwrap(), b"hello");
}
