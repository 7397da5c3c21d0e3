//! One request of each kind is broken, in each way that breaks a write: the file is right, or there is an error.

use crate::load::close;
use crate::{COMMITS, results};
use std::fs::{self, File};
use std::io::Write;
use std::time::Instant;
use tarn_tests::faulty::{Fault, FaultyServer, Kind, Rule};
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, data};

pub(crate) const TARN: &[Behaviour] = behaviours!(On::Tarn, any_kind_of_request_may_break_once);

const KINDS: [Kind; 8] = [
    Kind::Head,
    Kind::List,
    Kind::Put,
    Kind::Copy,
    Kind::Delete,
    Kind::CreateUpload,
    Kind::UploadPart,
    Kind::CompleteUpload,
];

fn any_kind_of_request_may_break_once(subject: &Subject<'_>) {
    subject.take_mount().unmount().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for commit in COMMITS {
        let started = Instant::now();
        let mut cells = 0;
        for kind in KINDS {
            for fault in [Fault::LostAnswer, Fault::Status(503, "SlowDown"), Fault::Reset] {
                let rules = vec![Rule::first(kind, fault.clone())];
                let endpoint = subject.server().endpoint();
                let server = runtime.block_on(FaultyServer::start(&endpoint, rules)).unwrap();
                let mut plan = subject.plan().clone().with(commit).with(&["--part-size", "5MiB"]);
                plan.endpoint = server.endpoint();
                let mount = plan.mount().unwrap();
                scenario(subject, &format!("{kind:?} {fault:?} {}", commit[1]));
                mount.unmount().unwrap();
                assert!(subject.bucket().uploads().unwrap().is_empty(), "{kind:?} {fault:?}");
                cells += 1;
            }
        }
        results::record("a request breaks", subject.mode(), commit[1], (cells, 3), started.elapsed());
    }
    subject.mount_again().unwrap();
}

/// The retries of the client hide a fault that comes once: nothing may fail, and nothing may be wrong.
fn scenario(subject: &Subject<'_>, context: &str) {
    let (small, large) = (data::bytes(1, 1000), data::bytes(2, 11 << 20));
    let path = |name: &str| subject.path(name);
    for (name, body) in [("small", &small), ("large", &large), ("temporary", &small)] {
        let mut file =
            File::create(path(name)).unwrap_or_else(|error| panic!("{context}: create {name}: {error}"));
        file.write_all(body).unwrap();
        close(file).unwrap_or_else(|error| panic!("{context}: close {name}: {error}"));
    }
    fs::rename(path("temporary"), path("saved")).unwrap_or_else(|error| panic!("{context}: rename: {error}"));
    fs::rename(path("small"), path("saved"))
        .unwrap_or_else(|error| panic!("{context}: rename over: {error}"));
    assert!(fs::read(path("large")).unwrap() == large, "{context}");
    assert!(fs::read(path("saved")).unwrap() == small, "{context}");
    for name in ["large", "saved"] {
        fs::remove_file(path(name)).unwrap_or_else(|error| panic!("{context}: remove {name}: {error}"));
    }
    assert_eq!(fs::read_dir(subject.root()).unwrap().count(), 0, "{context}");
}
