//! fio: a program made to find file systems that lose or mix bytes.

use crate::must;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, paths, run};

pub(crate) const ALL: &[Behaviour] =
    behaviours!(On::EveryFileSystem, fio_verifies_random_writes, fio_verifies_rewritten_and_mapped_files,);

fn fio(subject: &Subject<'_>, job: &str) {
    let mut command = run::command("fio");
    command
        .arg(format!("--directory={}", subject.root().display()))
        .arg(paths::root().join("tests/fio").join(job))
        // fio leaves its state where it stands.
        .current_dir(subject.scratch());
    must(&mut command);
}

fn fio_verifies_random_writes(subject: &Subject<'_>) {
    fio(subject, "random.fio");
}

fn fio_verifies_rewritten_and_mapped_files(subject: &Subject<'_>) {
    fio(subject, "rewrite.fio");
    subject.remount().unwrap();
    fio(subject, "rewrite.fio");
}
