//! How far ahead of its readers a file is fetched. Pure.
//!
//! A file has several windows, one for each place it is read in sequence, so that readers of parquet or zip
//! files, and several threads, each get their own. A read that continues none of them starts a new one of
//! size 0: random readers fetch single blocks. The kernel sends its read-ahead in parallel, so reads of one
//! stream arrive slightly out of order.

use std::ops::Range;

/// Streams followed at once in one file.
const STREAMS: usize = 8;
/// How far from its expected place a read may be and still belong to a stream: the kernel's read-ahead.
const SLACK: u64 = 8 << 20;
/// The same for a second read, which must prove that there is a stream at all.
const SLACK_FIRST: u64 = 512 << 10;
/// The first window of a stream.
const FIRST: u64 = 1 << 20;

/// What to fetch beyond the bytes that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ahead {
    /// Nothing.
    None,
    /// This range.
    Fetch(Range<u64>),
}

/// The windows of one file.
#[derive(Debug, Default)]
pub struct Windows {
    /// Most recently used last.
    streams: Vec<Stream>,
}

#[derive(Debug, Clone)]
struct Stream {
    /// The furthest byte read.
    read_to: u64,
    /// Where fetching ahead has got to.
    fetched_to: u64,
    /// How far ahead to be.
    window: u64,
}

impl Windows {
    /// Takes note of a read and says what to fetch ahead. `max` bounds the window; `size` is the file's.
    pub fn on_read(&mut self, range: &Range<u64>, size: u64, max: u64) -> Ahead {
        let near = |stream: &Stream| {
            let slack = if stream.window == 0 { SLACK_FIRST } else { SLACK };
            range.start <= stream.read_to.max(stream.fetched_to) + slack
                && range.start + slack >= stream.read_to
        };
        let mut stream = match self.streams.iter().rposition(near) {
            Some(at) => self.streams.remove(at),
            None => {
                if self.streams.len() == STREAMS {
                    self.streams.remove(0);
                }
                // The first byte of a file is where sequential readers begin; elsewhere a second read must prove it.
                let window = if range.start == 0 { FIRST } else { 0 };
                let stream = Stream { read_to: range.end, fetched_to: range.end, window };
                self.streams.push(stream.clone());
                if window == 0 {
                    return Ahead::None;
                }
                self.streams.pop();
                stream
            }
        };
        let moved = range.end > stream.read_to;
        stream.read_to = stream.read_to.max(range.end);
        let target = stream.read_to.saturating_add(stream.window).min(size);
        let start = stream.fetched_to.max(stream.read_to);
        let due = moved || stream.fetched_to <= range.end;
        let ahead = if due && target > start && (target - start) * 2 >= stream.window.min(size - start) {
            stream.fetched_to = target;
            stream.window = (stream.window * 2).clamp(FIRST, max);
            Ahead::Fetch(start..target)
        } else {
            if moved && stream.window == 0 {
                stream.window = FIRST;
            }
            Ahead::None
        };
        self.streams.push(stream);
        ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SIZE: u64 = 1 << 30;

    #[test]
    fn a_sequential_reader_gets_a_doubling_window() {
        let mut windows = Windows::default();
        let mut longest = 0;
        let mut fetched_to = MIB;
        for index in 0..256 {
            let range = index * MIB..(index + 1) * MIB;
            if let Ahead::Fetch(ahead) = windows.on_read(&range, SIZE, 64 * MIB) {
                assert_eq!(ahead.start, fetched_to.max(range.end), "nothing twice, nothing left out");
                fetched_to = ahead.end;
                longest = longest.max(ahead.end - range.end);
            }
            assert!(fetched_to <= range.end + 64 * MIB);
        }
        assert_eq!(longest, 64 * MIB);
        assert!(fetched_to >= 256 * MIB + 32 * MIB, "{fetched_to}");
    }

    #[test]
    fn a_random_reader_gets_nothing_ahead() {
        let mut windows = Windows::default();
        for index in 1..100u64 {
            let start = index * 7919 % 64 * (16 * MIB) + 4096;
            assert_eq!(windows.on_read(&(start..start + 4096), SIZE, 64 * MIB), Ahead::None, "{start}");
            windows.streams.clear();
        }
    }

    #[test]
    fn two_readers_of_one_file_have_a_window_each() {
        let mut windows = Windows::default();
        let mut fetched = [0u64; 2];
        for index in 0..64 {
            for (reader, base) in [0, SIZE / 2].into_iter().enumerate() {
                let start = base + index * MIB;
                if let Ahead::Fetch(ahead) = windows.on_read(&(start..start + MIB), SIZE, 16 * MIB) {
                    assert!(ahead.start >= base && ahead.end <= base + SIZE / 2);
                    fetched[reader] += ahead.end - ahead.start;
                }
            }
        }
        assert!(fetched.iter().all(|bytes| *bytes >= 64 * MIB), "{fetched:?}");
    }

    #[test]
    fn the_window_ends_with_the_file() {
        let mut windows = Windows::default();
        for index in 0..8u64 {
            if let Ahead::Fetch(ahead) = windows.on_read(&(index * MIB..(index + 1) * MIB), 8 * MIB, 64 * MIB)
            {
                assert!(ahead.end <= 8 * MIB);
            }
        }
    }
}
