//! The section of the page: how fast, with which requests, for how much processor and memory, and who was measured.
//! Pure.

use super::peer::Kind;
use super::results::{Cell, Results};
use super::trial::{Quantity, Unit, Until};
use crate::plan::{GIB, MIB};
use crate::proxy::count::Counts;
use crate::report::{number, spread};
use anyhow::Result;
use std::fmt::Write as _;

/// The heading that the section begins with.
const HEADING: &str = "## Beside its peers";

/// The whole section.
pub fn section(results: &Results) -> Result<String> {
    let mut notes = Notes::default();
    let mut page = format!("{HEADING}\n\n");
    introduce(&mut page, results)?;
    for delay_ms in results.delays_ms() {
        writeln!(page, "### First byte after {delay_ms} ms\n")?;
        speeds(&mut page, results, delay_ms, &mut notes)?;
    }
    notes.write(&mut page)?;
    if let Some(&delay_ms) = results.delays_ms().first() {
        writeln!(page, "### Requests, first byte after {delay_ms} ms\n")?;
        writeln!(
            page,
            "Those of one operation (a file, a read) where the unit is 1/s, of all of it elsewhere, with the bytes that \
             were moved, and what a million times as many cost in US dollars (0.40 for a million GET or HEAD, 5 for a \
             million of the others, DELETE free).\n"
        )?;
        rows(&mut page, results, delay_ms, requests)?;
        writeln!(page, "### Processor and memory, first byte after {delay_ms} ms\n")?;
        writeln!(
            page,
            "User and system time of the processes that serve the mount: for a GiB where the unit is MiB/s, for 1,000 \
             operations where it is 1/s, of all of it elsewhere. Then the most memory that was resident since the \
             mount; for several processes added up.\n"
        )?;
        rows(&mut page, results, delay_ms, cost)?;
    }
    versions(&mut page, results)?;
    Ok(page)
}

fn introduce(page: &mut String, results: &Results) -> Result<()> {
    let (machine, plan) = (&results.machine, &results.plan);
    writeln!(page, "Written by `make bench-peers`; do not edit. Every sample: [peers.json](peers.json).\n")?;
    writeln!(
        page,
        "- Date: {}; commit {}; {} run of {} s; load before it {}",
        machine.date, machine.commit, plan.name, results.seconds, machine.load_before
    )?;
    let bandwidth = plan
        .bandwidth
        .map_or(String::new(), |bytes| format!("; a connection carries {} MiB/s at most", bytes / MIB));
    writeln!(
        page,
        "- All mount the same bucket of a MinIO on this machine ({}, {} cores, {} GiB, Linux {}, {}) through a relay, \
         which lets no first byte of an answer leave before the time said below{bandwidth}",
        machine.cpu, machine.cores, machine.memory_gib, machine.kernel, machine.file_system
    )?;
    writeln!(
        page,
        "- Median (least .. greatest) of {} rounds, in each of which all have their turn, each time another one first. \
         Before it the page cache is dropped, but for the programs that serve the mount; *cold*: the peer's own cache too. \
         The server has the large object in memory",
        plan.rounds
    )?;
    writeln!(
        page,
        "- The large file has {} MiB; there are {} small files; one thread",
        plan.large / MIB,
        plan.small_files
    )?;
    writeln!(
        page,
        "- The last column is how many times as fast tarn is as the best peer. †: the call returned before the file was \
         in the bucket; such a peer is compared with tarn-async (`--commit async`) only"
    )?;
    writeln!(
        page,
        "- Limits: *disk* is the same on {}, *raw* is curl with 8 transfers of 8 MiB\n",
        machine.file_system
    )?;
    if results.delays_ms().len() == plan.delays_ms.len() {
        writeln!(page, "![How many times as fast as the best peer](peers.svg)\n")?;
    }
    Ok(())
}

/// How fast all are at a delay.
fn speeds(page: &mut String, results: &Results, delay_ms: u64, notes: &mut Notes) -> Result<()> {
    let peers: Vec<Kind> = results.peers.iter().map(|peer| peer.kind).collect();
    head(page, peers.iter().map(|peer| peer.name()).chain(["tarn / best peer"]))?;
    for quantity in results.quantities() {
        write!(page, "| {}, {} |", quantity.label(), quantity.unit.name())?;
        for &peer in &peers {
            let text = results.cell(delay_ms, quantity, peer).map(|cell| speed(cell, notes));
            write!(page, " {} |", text.unwrap_or_default())?;
        }
        writeln!(page, " {} |", ratios(results, delay_ms, quantity))?;
    }
    page.push('\n');
    Ok(())
}

fn speed(cell: &Cell, notes: &mut Notes) -> String {
    let mut parts: Vec<String> = cell.spread().map(spread).into_iter().collect();
    if cell.is_early() {
        parts.push("†".to_owned());
    }
    if let Some(error) = &cell.error {
        let what = if is_unsupported(error) { "not supported" } else { "failed" };
        parts.push(format!("{what} [{}]", notes.number(cell.peer, error)));
    }
    parts.join(" ")
}

fn ratios(results: &Results, delay_ms: u64, quantity: Quantity) -> String {
    let text = |(ratio, peer): (f64, Kind)| format!("{} ({})", number(ratio), peer.name());
    let mut parts: Vec<String> =
        results.ratio(delay_ms, quantity, Kind::Tarn).map(text).into_iter().collect();
    let early = results.cell(delay_ms, quantity, Kind::TarnAsync).is_some_and(Cell::is_early);
    if early && let Some(ratio) = results.ratio(delay_ms, quantity, Kind::TarnAsync) {
        parts.push(format!("async {}", text(ratio)));
    }
    parts.join("; ")
}

/// Whether a peer says that it does not do this at all.
fn is_unsupported(error: &str) -> bool {
    [
        "os error 1)",
        "os error 38)",
        "os error 95)",
        "Operation not permitted",
        "not implemented",
        "not supported",
    ]
    .iter()
    .any(|words| error.contains(words))
}

/// A table of something of the mounts, but for the rows that cost the same as the one above.
fn rows(
    page: &mut String,
    results: &Results,
    delay_ms: u64,
    text: fn(&Cell) -> Option<String>,
) -> Result<()> {
    let peers: Vec<Kind> =
        results.peers.iter().map(|peer| peer.kind).filter(|kind| !kind.is_limit()).collect();
    head(page, peers.iter().map(|peer| peer.name()))?;
    for quantity in results.quantities().into_iter().filter(|quantity| quantity.until == Until::Returned) {
        write!(page, "| {} |", quantity.label())?;
        for &peer in &peers {
            let text = results.cell(delay_ms, quantity, peer).and_then(text);
            write!(page, " {} |", text.unwrap_or_default())?;
        }
        page.push('\n');
    }
    page.push('\n');
    Ok(())
}

fn head(page: &mut String, columns: impl Iterator<Item = &'static str>) -> Result<()> {
    let columns: Vec<&str> = columns.collect();
    writeln!(page, "| Workload | {} |", columns.join(" | "))?;
    writeln!(page, "|---|{}", "---|".repeat(columns.len()))?;
    Ok(())
}

/// The requests of a cell.
fn requests(cell: &Cell) -> Option<String> {
    let operations = cell.samples.iter().map(|sample| operations(cell, sample.amount)).sum::<u64>();
    let Counts { up_bytes, down_bytes, .. } = cell.counts();
    if operations == 0 {
        return None;
    }
    let each = |count: u64| count as f64 / operations as f64;
    let kinds: Vec<String> = cell
        .counts()
        .by_kind()
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {}", count_text(each(*count))))
        .collect();
    if kinds.is_empty() {
        return Some("none".into());
    }
    let dollars = cell.counts().dollars_per_million() / operations as f64;
    Some(format!("{}; {}; ${}", kinds.join(", "), size(each(up_bytes + down_bytes)), count_text(dollars)))
}

/// A number of requests, or what they cost.
fn count_text(count: f64) -> String {
    const LEAST: f64 = 0.001;
    if count.fract() == 0.0 {
        format!("{count}")
    } else if count < LEAST {
        format!("< {LEAST}")
    } else {
        number(count)
    }
}

fn size(bytes: f64) -> String {
    let (mib, kib) = (bytes / MIB as f64, bytes / 1024.0);
    if mib >= 1.0 { format!("{} MiB", number(mib)) } else { format!("{} KiB", count_text(kib)) }
}

fn operations(cell: &Cell, amount: u64) -> u64 {
    if cell.quantity.unit == Unit::PerSecond { amount } else { 1 }
}

/// Processor and memory of a cell.
fn cost(cell: &Cell) -> Option<String> {
    let cpu = cell.median(|sample| match cell.quantity.unit {
        Unit::MibPerSecond => sample.cpu_seconds / (sample.amount as f64 / GIB as f64),
        Unit::PerSecond => sample.cpu_seconds / (sample.amount as f64 / 1000.0),
        Unit::Seconds => sample.cpu_seconds,
    })?;
    let peak = cell.median(|sample| sample.peak_mib)?;
    Some(format!("{} s, {} MiB", number(cpu), number(peak)))
}

fn versions(page: &mut String, results: &Results) -> Result<()> {
    writeln!(page, "### Who was measured\n")?;
    for peer in &results.peers {
        let how = peer.command_line.as_ref().map_or(String::new(), |line| format!(": `{line}`"));
        writeln!(page, "- **{}**, {}{how}", peer.kind.name(), peer.version)?;
    }
    for missing in &results.missing {
        writeln!(page, "- Not measured: {}: {}", missing.name, missing.why)?;
    }
    Ok(())
}

/// The errors below the tables, each once for each peer.
#[derive(Debug, Default)]
struct Notes(Vec<(Kind, String)>);

impl Notes {
    fn number(&mut self, peer: Kind, error: &str) -> usize {
        let known = self.0.iter().position(|(of, text)| *of == peer && text == error);
        known.unwrap_or_else(|| {
            self.0.push((peer, error.to_owned()));
            self.0.len() - 1
        }) + 1
    }

    fn write(&self, page: &mut String) -> Result<()> {
        for (index, (peer, error)) in self.0.iter().enumerate() {
            writeln!(page, "[{}] {}: {error}\n", index + 1, peer.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::{add, empty, mount, sample};
    use super::super::trial::Sample;
    use super::*;

    #[test]
    fn a_row_shows_each_peer_and_the_ratio() {
        let mut results = empty();
        add(&mut results, Kind::Tarn, &[sample(1.0), sample(3.0)]);
        add(&mut results, Kind::TarnAsync, &[Sample { early: true, ..sample(1.0) }]);
        add(&mut results, Kind::S3fs, &[sample(1.0)]);
        let refused = anyhow::anyhow!("Operation not permitted (os error 1)");
        results.add(0, mount(), Kind::Rclone, Vec::new(), Some(refused));
        let page = section(&results).unwrap();
        let row = "| first mount, to the first answer, s | 2.00 (1.00 .. 3.00) | 1.00 † | 1.00 | not supported [1] |  \
                   | 0.50 (s3fs); async 1.00 (s3fs) |";
        assert!(page.starts_with("## Beside its peers\n") && page.contains(row), "{page}");
        assert!(page.contains("\n[1] rclone: Operation not permitted (os error 1)\n"));
        assert!(page.contains("| PUT 1; 0 KiB; $5 |"), "{page}");
        assert!(page.contains("| 0.50 s, 20.0 MiB |"), "{page}");
        assert!(page.contains("- Not measured: geesefs: not there"));
    }

    #[test]
    fn whole_numbers_of_requests_have_no_fraction() {
        assert_eq!([12.0, 12.34, 1e-5, 0.0].map(count_text), ["12", "12.3", "< 0.001", "0"]);
        assert_eq!((size(4096.0), size(3e6)), ("4 KiB".to_owned(), "2.86 MiB".to_owned()));
    }

    #[test]
    fn an_error_is_noted_once() {
        let mut notes = Notes::default();
        assert_eq!(notes.number(Kind::S3fs, "full"), 1);
        assert_eq!(notes.number(Kind::Rclone, "full"), 2);
        assert_eq!(notes.number(Kind::S3fs, "full"), 1);
    }
}
