//! Many small files: create (in the bucket when the close returns), list and stat, read, each for the first time by
//! a mount that knows nothing.

use crate::bench::Bench;
use crate::figure::Figure;
use crate::files;
use anyhow::{Result, ensure};
use std::path::Path;
use std::time::Instant;

/// Bytes of a file.
const SIZE: u64 = 4096;
/// Threads that create or read at once.
const THREADS: [usize; 2] = [1, 8];

/// See the module.
pub fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for threads in THREADS {
        let (mut creates, mut stats, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..bench.plan.rounds.min(3) {
            let folder = format!("small-{threads}-{round}");
            creates.push(create(bench, &folder, threads)?);
            let (stat, read) = read(bench, &folder, threads)?;
            stats.push(stat);
            reads.push(read);
        }
        let of = |what: &str, samples| {
            let threads = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
            Figure::new(format!("{what}, {threads}"), "1/s", samples)
        };
        figures.push(of("4 KiB files, create", creates));
        figures.push(of("4 KiB files, cold read", reads));
        if threads == 1 {
            figures.push(of("4 KiB files, first list and stat", stats));
        }
    }
    Ok(figures)
}

fn create(bench: &Bench, folder: &str, threads: usize) -> Result<f64> {
    let mounted = bench.mount()?;
    std::fs::create_dir(mounted.path(folder))?;
    bench.settle()?;
    let dir = mounted.path(folder);
    let rate = each(bench, threads, |index| {
        files::write(&dir.join(index.to_string()), SIZE, index as u64).map(drop)
    })?;
    mounted.end()?;
    // The directory is an object too.
    let prefix = format!("{folder}/");
    let found = bench
        .bucket()
        .keys()?
        .iter()
        .filter(|key| key.len() > prefix.len() && key.starts_with(&prefix))
        .count();
    ensure!(found == bench.plan.small_files, "{found} files are in the bucket");
    Ok(rate)
}

fn read(bench: &Bench, folder: &str, threads: usize) -> Result<(f64, f64)> {
    let mounted = bench.mount()?;
    bench.settle()?;
    let dir = mounted.path(folder);
    let stat = list(bench, &dir)?;
    let read = each(bench, threads, |index| files::read(&dir.join(index.to_string()), SIZE).map(drop))?;
    mounted.end()?;
    Ok((stat, read))
}

/// Lists a directory and stats every file, as `ls -l` does; files each second.
fn list(bench: &Bench, dir: &Path) -> Result<f64> {
    let start = Instant::now();
    let mut count = 0;
    for entry in std::fs::read_dir(dir)? {
        ensure!(entry?.metadata()?.len() == SIZE, "a file has another size");
        count += 1;
    }
    ensure!(count == bench.plan.small_files, "{count} files are listed");
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Does `work` for every file, by several threads; files each second.
fn each(bench: &Bench, threads: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<f64> {
    let (count, work) = (bench.plan.small_files, &work);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| scope.spawn(move || (worker..count).step_by(threads).try_for_each(work)))
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker returns its errors"))
    })?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}
