//! The map of an object: whose bytes the data file holds, and for every block its CRC64NVME and the boot in
//! which it was last written or verified.
//!
//! Invariants: the header is a function of the identity and is compared whole, so a map of another object, of
//! another version or of another format never matches. A block's CRC is stored before its tag. A tag is 0
//! (absent), this boot's (trusted) or any other value (present, to be verified before use); so a reboot needs
//! no pass over the map, and a tag damaged on disk is only a block to be verified.

use crate::files;
use crate::key::{BLOCK_SIZE, BlockIndex, ObjectId};
use crate::mapping::Mapping;
use crate::object::crc;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: u64 = u64::from_le_bytes(*b"tarn-map");
const VERSION: u64 = 1;

const WORD: usize = size_of::<u64>();
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 1;
const HEADER_WORDS_AT: usize = 2;
const SIZE_AT: usize = 3;
const BLOCK_SIZE_AT: usize = 4;
const FLAGS_AT: usize = 5;
const FIXED_WORDS: usize = 6;
const WORDS_PER_BLOCK: usize = 2;

/// Set for ever when the data file was handed out: the kernel may hold it although no process pins it.
const FLAG_HANDED_OUT: u64 = 1;

/// The running boot, as blocks are tagged with it. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Boot(u64);

impl Boot {
    /// From the kernel's boot id.
    pub(crate) fn new(boot_id: &str) -> Self {
        Self(crc::checksum(boot_id.trim().as_bytes()).max(1))
    }

    /// The tag that stands for it on the disk.
    pub(crate) fn tag(self) -> u64 {
        self.0
    }
}

/// What is known of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockState {
    /// It is not there.
    Absent,
    /// It was there in another boot; holds its tag.
    Unverified(u64),
    /// It is there and its bytes are right.
    Verified,
}

/// The map of one object, shared with every process that has it open.
#[derive(Debug)]
pub(crate) struct Map {
    mapping: Mapping,
    header_words: usize,
    blocks: u64,
    boot: Boot,
}

impl Map {
    /// Bytes of the map file of `id`.
    pub(crate) fn file_len(id: &ObjectId) -> u64 {
        header(id).len() as u64 + id.blocks() * (WORDS_PER_BLOCK * WORD) as u64
    }

    /// Writes a map without blocks into the empty `file`, with every block of the file allocated.
    pub(crate) fn create(file: &File, id: &ObjectId, boot: Boot) -> io::Result<Self> {
        let len = Self::file_len(id);
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(file, len)?,
            Err(error) => return Err(error.into()),
        }
        file.write_all_at(&header(id), 0)?;
        Self::open_any(file, boot)?.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Maps `file` if it is the map of `id`.
    pub(crate) fn open(file: &File, id: &ObjectId, boot: Boot) -> io::Result<Option<Self>> {
        let expected = header(id);
        if file.metadata()?.len() != Self::file_len(id) {
            return Ok(None);
        }
        let mut actual = vec![0; expected.len()];
        file.read_exact_at(&mut actual, 0)?;
        actual[FLAGS_AT * WORD..(FLAGS_AT + 1) * WORD].fill(0);
        if actual != expected {
            return Ok(None);
        }
        // A sector that cannot be read is an error here and would be a SIGBUS later.
        read_through(file, expected.len() as u64)?;
        Self::open_any(file, boot)
    }

    /// Maps `file` whoever it belongs to, if it is a map of this format.
    pub(crate) fn open_any(file: &File, boot: Boot) -> io::Result<Option<Self>> {
        let mut fixed = [0; FIXED_WORDS * WORD];
        let len = file.metadata()?.len();
        if len < fixed.len() as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut fixed, 0)?;
        let word = |at: usize| {
            u64::from_le_bytes(fixed[at * WORD..(at + 1) * WORD].try_into().expect("a word has eight bytes"))
        };
        if (word(MAGIC_AT), word(VERSION_AT), word(BLOCK_SIZE_AT)) != (MAGIC, VERSION, BLOCK_SIZE) {
            return Ok(None);
        }
        let blocks = word(SIZE_AT).div_ceil(BLOCK_SIZE);
        let words = word(HEADER_WORDS_AT).checked_add(blocks * WORDS_PER_BLOCK as u64);
        let (Some(words), Ok(header_words)) = (words, usize::try_from(word(HEADER_WORDS_AT))) else {
            return Ok(None);
        };
        if header_words < FIXED_WORDS || words.checked_mul(WORD as u64) != Some(len) {
            return Ok(None);
        }
        let words = usize::try_from(words).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Ok(Some(Self { mapping: Mapping::new(file, words)?, header_words, blocks, boot }))
    }

    /// How many blocks the object has.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Bytes of the object.
    pub(crate) fn size(&self) -> u64 {
        u64::from_le(self.mapping.words()[SIZE_AT].load(Ordering::Relaxed))
    }

    /// What is known of `block`; one beyond the end is absent.
    pub(crate) fn state(&self, block: BlockIndex) -> BlockState {
        let Some(entry) = self.entry(block) else { return BlockState::Absent };
        match u64::from_le(entry.tag.load(Ordering::Acquire)) {
            0 => BlockState::Absent,
            tag if tag == self.boot.0 => BlockState::Verified,
            tag => BlockState::Unverified(tag),
        }
    }

    /// The CRC64NVME of `block`, which must be present.
    pub(crate) fn crc(&self, block: BlockIndex) -> u64 {
        self.entry(block).map_or(0, |entry| u64::from_le(entry.crc.load(Ordering::Acquire)))
    }

    /// Says that the bytes of `block` are in the data file and have this CRC. Returns whether it was absent.
    pub(crate) fn publish(&self, block: BlockIndex, crc: u64) -> bool {
        let Some(entry) = self.entry(block) else { return false };
        entry.crc.store(crc.to_le(), Ordering::Release);
        entry.tag.swap(self.boot.0.to_le(), Ordering::AcqRel) == 0
    }

    /// Says that a block found in state `Unverified(tag)` has the right bytes.
    pub(crate) fn confirm(&self, block: BlockIndex, tag: u64) {
        self.replace_tag(block, tag, self.boot.0);
    }

    /// Says that a block is not there after all, unless somebody has written it since it was seen with `tag`.
    /// Returns whether it was this call.
    pub(crate) fn withdraw(&self, block: BlockIndex, tag: u64) -> bool {
        self.replace_tag(block, tag, 0)
    }

    /// The tag of a block that is [`BlockState::Verified`].
    pub(crate) fn current_tag(&self) -> u64 {
        self.boot.0
    }

    fn replace_tag(&self, block: BlockIndex, old: u64, new: u64) -> bool {
        self.entry(block).is_some_and(|entry| {
            let (order, failure) = (Ordering::AcqRel, Ordering::Acquire);
            entry.tag.compare_exchange(old.to_le(), new.to_le(), order, failure).is_ok()
        })
    }

    /// Whether the data file was ever handed out.
    pub(crate) fn handed_out(&self) -> bool {
        u64::from_le(self.mapping.words()[FLAGS_AT].load(Ordering::Acquire)) & FLAG_HANDED_OUT != 0
    }

    /// Remembers that the data file is handed out.
    pub(crate) fn hand_out(&self) {
        self.mapping.words()[FLAGS_AT].fetch_or(FLAG_HANDED_OUT.to_le(), Ordering::AcqRel);
    }

    fn entry(&self, block: BlockIndex) -> Option<Entry<'_>> {
        if block.get() >= self.blocks {
            return None;
        }
        let at = self.header_words + usize::try_from(block.get()).ok()? * WORDS_PER_BLOCK;
        let words = self.mapping.words();
        Some(Entry { crc: &words[at], tag: &words[at + 1] })
    }
}

struct Entry<'a> {
    crc: &'a AtomicU64,
    tag: &'a AtomicU64,
}

/// The header of the map of `id`, with no flag set.
fn header(id: &ObjectId) -> Vec<u8> {
    let mut identity = Vec::new();
    for part in [id.bucket().as_str(), id.key(), id.etag()] {
        identity.extend_from_slice(&(part.len() as u64).to_le_bytes());
        identity.extend_from_slice(part.as_bytes());
    }
    identity.resize(identity.len().next_multiple_of(WORD), 0);
    let words = FIXED_WORDS + identity.len() / WORD;
    let mut header = Vec::with_capacity(words * WORD);
    for word in [MAGIC, VERSION, words as u64, id.size(), BLOCK_SIZE, 0] {
        header.extend_from_slice(&word.to_le_bytes());
    }
    header.extend_from_slice(&identity);
    header
}

fn write_zeros(file: &File, len: u64) -> io::Result<()> {
    files::in_chunks(0, len, |chunk, at| file.write_all_at(chunk, at))
}

fn read_through(file: &File, from: u64) -> io::Result<()> {
    let len = file.metadata()?.len();
    files::in_chunks(from, len, |chunk, at| file.read_exact_at(chunk, at))
}
