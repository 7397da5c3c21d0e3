//! The matrix: every operation under every fault, once at each of its requests and for as long as it lasts. It ends in
//! time, with the right result or an error; what the bucket holds then is what was there before or what was to be
//! there, never something between; and when the fault is over all is well, for this mount and for others.
//!
//! The quick run takes a part of the cells, always the same, and prints which.

mod faults;
mod operations;

use crate::{COMMITS, results};
use faults::{FAULTS, Named, Strikes};
use operations::{Body, Cell, OPERATIONS, Operation};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::time::{Duration, Instant};
use tarn_tests::faulty::FaultyServer;
use tarn_tests::mount::{Mount, tarn};
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::wait::eventually;
use tarn_tests::{behaviours, data, paths, run, tree};

pub(crate) const TARN: &[Behaviour] =
    behaviours!(On::Tarn, every_operation_is_right_or_fails_under_every_fault);

/// How long an operation may take: a few requests, each with its attempts.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long it may take until all is well again.
const PATIENCE: Duration = Duration::from_secs(20);
const SEED: u64 = 1;
/// The quick run takes one cell of so many.
const SPARSE: usize = 11;

/// What an operation may answer that could not be done.
const ERRNOS: &[Errno] = &[Errno::IO, Errno::TIMEDOUT, Errno::ACCESS, Errno::STALE, Errno::NOSPC];

fn every_operation_is_right_or_fails_under_every_fault(subject: &Subject<'_>) {
    subject.take_mount().unmount().unwrap();
    let commits = if paths::full() { &COMMITS[..] } else { &COMMITS[..1] };
    for commit in commits {
        let started = Instant::now();
        let mut bench = Bench::new(subject, commit);
        let cells = bench.run();
        let (count, wrong) = (bench.cells, std::mem::take(&mut bench.wrong));
        bench.end();
        assert!(wrong.is_empty(), "{} of {count} cells are wrong:\n  {}", wrong.len(), wrong.join("\n  "));
        results::record("matrix of faults", subject.mode(), commit[1], (count, cells), started.elapsed());
    }
    subject.mount_again().unwrap();
}

/// One mount for all cells, through a server whose faults change.
struct Bench<'a> {
    subject: &'a Subject<'a>,
    mount: Mount,
    server: FaultyServer,
    /// Cells that ran, which is the number of the next.
    cells: usize,
    wrong: Vec<String>,
    asynchronous: bool,
    // Last: the server's tasks live on it.
    runtime: tokio::runtime::Runtime,
}

/// SHA-256 of each object of a cell, by its name there.
type Sums = BTreeMap<String, String>;

impl<'a> Bench<'a> {
    fn new(subject: &'a Subject<'a>, commit: &[&str]) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let endpoint = subject.server().endpoint();
        let server = runtime.block_on(FaultyServer::start(&endpoint, Vec::new())).unwrap();
        let mut plan = subject.plan().clone().with(commit);
        // Whatever is known is asked for again at once; nothing is used unchecked.
        plan = plan.with(&["--request-timeout", "1s", "--attr-ttl", "0s"]);
        plan = plan.with(&["--part-size", "5MiB", "--verify", "always"]);
        plan.endpoint = server.endpoint();
        let mount = plan.mount().unwrap();
        let asynchronous = commit[1] == "async";
        Self { subject, mount, server, cells: 0, wrong: Vec::new(), asynchronous, runtime }
    }

    fn end(self) {
        self.mount.unmount().unwrap();
        drop(self.server);
        self.runtime.shutdown_background();
    }

    /// Runs what is due; gives how many cells struck.
    fn run(&mut self) -> usize {
        let mut numbers = data::numbers(SEED, 1 << 30);
        let (mut struck, mut names) = (0, Vec::new());
        for (row, operation) in OPERATIONS.iter().enumerate() {
            let requests = self.requests(operation);
            for (column, fault) in FAULTS.iter().enumerate() {
                let number = numbers.next().unwrap_or(0) as usize;
                let strikes: Vec<Strikes> = if paths::full() {
                    (0..requests).map(Strikes::Once).chain([Strikes::Always]).collect()
                } else if (column + 3 * row).is_multiple_of(SPARSE) {
                    let once = Strikes::Once(number / 2 % requests.max(1));
                    vec![if number.is_multiple_of(2) { once } else { Strikes::Always }]
                } else {
                    Vec::new()
                };
                for strikes in strikes {
                    let name = format!("{} / {} / {strikes:?}", operation.name, fault.name);
                    struck += usize::from(self.cell(operation, Some((fault, strikes)), &name).1 > 0);
                    names.push(name);
                }
            }
        }
        if !paths::full() {
            println!("cells: {}", names.join(", "));
        }
        struck
    }

    /// How many requests an operation takes without a fault, which must be right.
    fn requests(&mut self, operation: &Operation) -> usize {
        self.cell(operation, None, operation.name).0
    }

    /// Runs one cell; gives how many requests came by during the operation, and how many were struck.
    fn cell(
        &mut self,
        operation: &Operation,
        fault: Option<(&Named, Strikes)>,
        name: &str,
    ) -> (usize, usize) {
        let number = self.cells;
        self.cells += 1;
        let prefix = format!("c{number}/");
        let cell = Cell {
            dir: self.subject.path(&prefix),
            salt: number as u64 + 1,
            stale: fault.is_some_and(|(fault, _)| fault.is_stale()),
        };
        prepare(self.subject, &cell, &prefix, operation);
        self.server.play(fault.map(|(fault, strikes)| fault.rules(strikes)).unwrap_or_default());
        let started = Instant::now();
        let result = (operation.act)(&cell);
        let took = started.elapsed();
        let counts = (self.server.seen().len(), self.server.struck());
        self.server.play(Vec::new());
        let mut wrong = Vec::new();
        if took > DEADLINE {
            wrong.push(format!("took {took:?}"));
        }
        wrong.extend(answer(&result, fault.is_some(), operation.exclusive).err());
        let begins_twice = fault.is_some_and(|(fault, _)| fault.begins_twice());
        let judge = Judge { operation, cell: &cell, prefix: &prefix, done: result.is_ok(), begins_twice };
        wrong.extend(self.aftermath(&judge));
        for wrong in wrong {
            eprintln!("{name}, cell {number}, {result:?}: {wrong}");
            self.wrong.push(format!("{name}, cell {number}, {result:?}: {wrong}"));
        }
        counts
    }

    /// What is wrong with the bucket, at once and when the fault is over, and with the mount then.
    fn aftermath(&self, judge: &Judge<'_>) -> Vec<String> {
        let (subject, mut wrong) = (self.subject, Vec::new());
        let done = || Ok((self.server.late() == 0).then_some(()));
        wrong.extend(eventually(PATIENCE, "late requests are done", done).err().map(|e| e.to_string()));
        if !self.asynchronous {
            wrong.extend(judge.bucket(subject).err().map(|what| format!("at once: {what}")));
        }
        let well = eventually(PATIENCE, "the mount shows what the bucket has", || {
            heal(&judge.cell.dir);
            let tree = tree::read(subject.root())?;
            Ok(tree::compare(&tree, &subject.bucket().objects()?).ok())
        });
        wrong.extend(well.err().map(|error| format!("{error:#}")));
        wrong.extend(judge.bucket(subject).err().map(|what| format!("after the fault: {what}")));
        let uploads = subject.bucket().uploads().unwrap();
        if !uploads.is_empty() {
            if !judge.begins_twice {
                wrong.push(format!("left half done: {uploads:?}"));
            }
            subject.bucket().abort_uploads().unwrap();
        }
        let removed = || Ok(fs::remove_dir_all(&judge.cell.dir).ok());
        wrong.extend(eventually(PATIENCE, "the cell is removed", removed).err().map(|e| e.to_string()));
        wrong
    }
}

/// Makes what is there before, in a folder that was listed while it was empty.
fn prepare(subject: &Subject<'_>, cell: &Cell, prefix: &str, operation: &Operation) {
    fs::create_dir(&cell.dir).unwrap();
    assert_eq!(fs::read_dir(&cell.dir).unwrap().count(), 0);
    for (name, body) in operation.old {
        if *body == Body::Large {
            // By this mount, in parts; its copy is dropped.
            fs::write(cell.path(name), cell.bytes(*body)).unwrap();
            run::must(tarn().unwrap().args(["cache", "drop"]).arg(&cell.dir), PATIENCE).unwrap();
        } else {
            subject.bucket().put(&format!("{prefix}{name}"), &cell.bytes(*body)).unwrap();
        }
    }
}

/// Brings into the bucket what could not be brought there while the fault lasted.
fn heal(dir: &std::path::Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if let Ok(file) = File::open(entry.path()) {
            // Tried again until mount and bucket agree.
            let _ = file.sync_all();
        }
    }
}

/// The answer to an operation: right, or an error that a program can make something of.
fn answer(result: &io::Result<()>, under_fault: bool, exclusive: bool) -> Result<(), String> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if !under_fault => Err(format!("fails without a fault: {error}")),
        Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(errno) if ERRNOS.contains(&errno) => Ok(()),
            Some(Errno::EXIST) if exclusive => Ok(()),
            Some(_) | None => Err(format!("not what it may say: {error}")),
        },
    }
}

/// Judges what the bucket holds of a cell.
struct Judge<'a> {
    operation: &'a Operation,
    cell: &'a Cell,
    prefix: &'a str,
    done: bool,
    begins_twice: bool,
}

impl Judge<'_> {
    fn sums(&self, files: &[(&str, Body)]) -> Sums {
        files.iter().map(|(name, body)| ((*name).to_owned(), tree::sha256(&self.cell.bytes(*body)))).collect()
    }

    fn bucket(&self, subject: &Subject<'_>) -> Result<(), String> {
        let objects = subject.bucket().objects().unwrap().into_iter();
        let found = objects
            .filter_map(|object| Some((object.key.strip_prefix(self.prefix)?.to_owned(), object.sha256)));
        self.state(&found.filter(|(name, _)| !name.is_empty()).collect())
    }

    /// Each object is as before or as it was to become; what was to stay is there, under one name or another. What was
    /// said to be done is done.
    fn state(&self, found: &Sums) -> Result<(), String> {
        let (old, new) = (self.sums(self.operation.old), self.sums(self.operation.new));
        for (name, sum) in found {
            let known = old.get(name) == Some(sum) || new.get(name) == Some(sum);
            let any = old.values().chain(new.values()).any(|known| known == sum);
            let begun = !self.done && self.operation.exclusive && *sum == tree::sha256(b"");
            let beside = !self.done && name.contains(".conflict-") && any;
            if !known && !begun && !beside && !name.ends_with('/') {
                return Err(format!("{name} is neither old nor new"));
            }
        }
        for (name, sum) in old.iter().filter(|(_, sum)| new.values().any(|new| new == *sum)) {
            if !found.values().any(|found| found == sum) {
                return Err(format!("the bytes of {name} are gone"));
            }
        }
        for name in old.keys().filter(|name| new.contains_key(*name)) {
            if !found.contains_key(name) {
                return Err(format!("{name} is gone"));
            }
        }
        if self.done && !(self.cell.stale && *found == old) {
            let missing = new.iter().find(|(name, sum)| found.get(*name) != Some(sum));
            let left = old.keys().find(|name| !new.contains_key(*name) && found.contains_key(*name));
            if let Some(name) = missing.map(|(name, _)| name).or(left) {
                return Err(format!("it was said to be done, and {name} is not as it should be"));
            }
        }
        Ok(())
    }
}
