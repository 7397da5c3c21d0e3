//! The file of the log: a page with a header, then records. The header says where the records begin; the room
//! before that is given back.

use super::record::{decode, encode};
use super::state::State;
use super::{FORMAT, LogError};
use rustix::fs::FallocateFlags;
use std::fs::File;
use std::os::unix::fs::FileExt;

const MAGIC: [u8; 8] = *b"tarn-ses";
/// Records begin behind the header's page.
const PAGE: u64 = 4096;
/// A log is made short when it is longer than this, and than twice what it came to the last time. The next worker reads
/// it before it serves.
const COMPACT_MIN: u64 = 512 << 10;

#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    /// The first record.
    start: u64,
    /// Behind the last.
    end: u64,
    /// Bytes when it was made short.
    short: u64,
}

impl LogFile {
    /// Opens the log, makes one of an empty file.
    pub(super) fn open(file: File) -> Result<(Self, State), LogError> {
        let length = file.metadata()?.len();
        if length == 0 {
            let log = Self { file, start: PAGE, end: PAGE, short: 0 };
            log.write_header(PAGE)?;
            return Ok((log, State::default()));
        }
        let start = read_header(&file)?;
        let mut log = Self { file, start, end: length.max(start), short: 0 };
        let (state, end) = log.replay()?;
        // The record that a kill has torn was never answered for.
        log.file.set_len(end)?;
        log.end = end;
        if log.end - log.start > COMPACT_MIN {
            log.shorten(&state)?;
        }
        Ok((log, state))
    }

    /// The format that the header tells; `None` if there is no header.
    pub(super) fn format_of(file: &File) -> Result<Option<u32>, LogError> {
        match read_header(file) {
            Ok(_) => Ok(Some(FORMAT)),
            Err(LogError::Format(other)) => Ok(Some(other)),
            Err(LogError::Damaged(_)) => Ok(None),
            Err(LogError::Io(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Appends whole records.
    pub(super) fn append(&mut self, records: &[u8]) -> Result<(), LogError> {
        self.file.write_all_at(records, self.end)?;
        self.end += records.len() as u64;
        if self.end - self.start > COMPACT_MIN.max(2 * self.short) {
            let (state, end) = self.replay()?;
            if end != self.end {
                return Err(LogError::Damaged("a record in the middle cannot be read"));
            }
            self.shorten(&state)?;
        }
        Ok(())
    }

    /// Writes what the log comes to behind it, then makes that the log. A kill leaves the old one or the new one.
    fn shorten(&mut self, state: &State) -> Result<(), LogError> {
        let mut records = Vec::new();
        for record in state.records() {
            encode(&record, &mut records);
        }
        let start = self.end.next_multiple_of(PAGE);
        self.file.write_all_at(&records, start)?;
        self.write_header(start)?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&self.file, flags, PAGE, start - PAGE).map_err(std::io::Error::from)?;
        self.start = start;
        self.short = records.len() as u64;
        self.end = start + self.short;
        Ok(())
    }

    /// The state, and where the last whole record ends.
    fn replay(&self) -> Result<(State, u64), LogError> {
        let length =
            usize::try_from(self.end - self.start).map_err(|_| LogError::Damaged("it is too long"))?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, self.start)?;
        let (mut state, mut at) = (State::default(), 0);
        while let Some((record, length)) = decode(&bytes[at..]) {
            state.apply(record);
            at += length;
        }
        Ok((state, self.start + at as u64))
    }

    fn write_header(&self, start: u64) -> Result<(), LogError> {
        let mut header = Vec::with_capacity(24);
        header.extend(MAGIC);
        header.extend(start.to_le_bytes());
        header.extend(u64::from(FORMAT).to_le_bytes());
        // Within one page, so that no kill tears it.
        Ok(self.file.write_all_at(&header, 0)?)
    }
}

fn read_header(file: &File) -> Result<u64, LogError> {
    let mut header = [0; 24];
    file.read_exact_at(&mut header, 0)?;
    let word = |at: usize| header[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or_default();
    if header[..8] != MAGIC {
        return Err(LogError::Damaged("it does not begin like one"));
    }
    match u32::try_from(word(16)) {
        Ok(FORMAT) => Ok(word(8)),
        Ok(other) => Err(LogError::Format(other)),
        Err(_) => Err(LogError::Damaged("its format is no number of one")),
    }
}

#[cfg(test)]
mod tests;
