//! The journal's bytes. All numbers are little-endian, all checksums CRC-32C.
//!
//! A journal is a ring of files of one size, `journal/000.mpj`, `001.mpj`, …, filled with zeros when
//! they are made. A **position** counts bytes along the ring and never goes back: lap 3 continues
//! where lap 2 ended, so bytes of an earlier lap are recognised by their position alone.
//!
//! ```text
//! file      | file header, one block | commit | commit | ... | unused rest |
//!
//! file header (64 bytes, padded with zeros to a block)
//!   0 magic "MPJF"     4 version u16      6 header bytes u16
//!   8 journal id u64  16 file index u32  20 files u32
//!  24 file bytes u64  32 block bytes u32 36 reserved, zero
//!  60 crc u32 of bytes 0..60
//!
//! commit: one aligned write, never across files
//!   | header 96 | entry table 16 x count | entries, end to end | zeros to a block |
//!
//! commit header (96 bytes)
//!   0 magic "MPJC"     4 version u16      6 header bytes u16
//!   8 journal id u64  16 position u64    24 commit number u64 (consecutive)
//!  32 first entry u64 40 entry count u32 44 table + entries, bytes u32
//!  48 highest commit known durable when this one was written, u64
//!  56 incarnation u64: how often the journal was opened before this was written
//!  64 header crc of the commit before u32
//!  68 crc of the entry table u32
//!  72 blocks of this commit u32          76 reserved, zero
//!  92 crc u32 of bytes 0..92
//!
//! entry table row (16 bytes)
//!   0 length u32       4 crc of the entry u32
//!   8 scope u64: 0 = the node or several partitions, else the hash of one partition
//! ```
//!
//! The header's CRC covers the table's, that the entries', and the next commit's header covers this
//! one's: the chain says that nothing is missing in between. A commit without entries is a **seal**:
//! it carries the durable mark of what went before it.
//!
//! **Recovery rule.** Follow the chain from the checkpoint's position. The first place where it
//! breaks is the end, or damage. If any whole header found beyond that place tells that the commit
//! expected there was durable (its mark, or its number: at most [`COMMITS_UNRELEASED_MAX`] are ever
//! under way), the break is damage. Otherwise it is a torn tail that nobody was told of, and writing
//! continues over it.
//!
//! **Damage** is contained where that is possible. A single flipped bit of a header, a table or an
//! entry is turned back. Where header and table are sound and an entry is not, an entry of one
//! partition is given up, and that partition told; one that concerns more is not: then, and where
//! header or table are beyond correction, name it, change nothing and stop.
//!
//! The journal id is a random number, so a record that a peer made up to look like a commit is not
//! taken for one.

use crate::fields::{crc, put_at, u16_at, u32_at, u64_at};

/// The version that is written; a higher one is refused.
pub const JOURNAL_VERSION: u16 = 1;
/// Bytes of a file header without its padding.
pub const FILE_HEADER_BYTES: usize = 64;
/// Bytes of a commit header.
pub const COMMIT_HEADER_BYTES: usize = 96;
/// Bytes of a row of the entry table.
pub const ENTRY_ROW_BYTES: usize = 16;
/// Commits that may be written and not yet released to their waiters.
pub const COMMITS_UNRELEASED_MAX: u64 = millpond_wire::limits::JOURNAL_WRITES_IN_FLIGHT as u64;

const FILE_MAGIC: [u8; 4] = *b"MPJF";
const COMMIT_MAGIC: [u8; 4] = *b"MPJC";

/// What a file of the ring says about the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Tells this journal from every other.
    pub journal_id: u64,
    /// Which file of the ring this is.
    pub file_index: u32,
    /// How many there are.
    pub files: u32,
    /// The size of each.
    pub file_bytes: u64,
    /// What offsets and lengths of commits are multiples of.
    pub block_bytes: u32,
}

/// The header of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitHeader {
    /// Whose commit.
    pub journal_id: u64,
    /// Where on the ring.
    pub position: u64,
    /// Consecutive.
    pub number: u64,
    /// The sequence of the first entry; of the next one to come if there is none.
    pub first_entry: u64,
    /// Entries.
    pub entry_count: u32,
    /// Bytes of the table and the entries.
    pub body_bytes: u32,
    /// The highest commit known durable.
    pub durable_number: u64,
    /// How often the journal was opened before.
    pub incarnation: u64,
    /// The header CRC of the commit before.
    pub previous_crc: u32,
    /// CRC of the entry table.
    pub table_crc: u32,
    /// Length of the commit in blocks.
    pub blocks: u32,
}

/// A row of the entry table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRow {
    /// Bytes of the entry.
    pub len_bytes: u32,
    /// Its CRC.
    pub crc: u32,
    /// Whom damage to it would concern.
    pub scope: u64,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The magic is not there: never written, or something else.
    #[error("no header")]
    Absent,
    /// It looks like one and its CRC is wrong.
    #[error("checksum of the header is wrong")]
    Checksum,
    /// Written by a later version of the program.
    #[error("format version {0} is newer than this program knows ({JOURNAL_VERSION})")]
    Newer(u16),
}

impl FileHeader {
    /// The bytes, without padding.
    pub fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut out = [0; FILE_HEADER_BYTES];
        put_at(&mut out, 0, &FILE_MAGIC);
        put_at(&mut out, 4, &JOURNAL_VERSION.to_le_bytes());
        put_at(&mut out, 6, &(FILE_HEADER_BYTES as u16).to_le_bytes());
        put_at(&mut out, 8, &self.journal_id.to_le_bytes());
        put_at(&mut out, 16, &self.file_index.to_le_bytes());
        put_at(&mut out, 20, &self.files.to_le_bytes());
        put_at(&mut out, 24, &self.file_bytes.to_le_bytes());
        put_at(&mut out, 32, &self.block_bytes.to_le_bytes());
        let sum = crc(&out[..60]);
        put_at(&mut out, 60, &sum.to_le_bytes());
        out
    }

    /// Reads a header from the start of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<FileHeader, HeaderFault> {
        let bytes = checked(bytes, FILE_HEADER_BYTES, FILE_MAGIC, true)?;
        Ok(FileHeader {
            journal_id: u64_at(bytes, 8),
            file_index: u32_at(bytes, 16),
            files: u32_at(bytes, 20),
            file_bytes: u64_at(bytes, 24),
            block_bytes: u32_at(bytes, 32),
        })
    }
}

impl CommitHeader {
    /// The bytes; the last four are the CRC that the next commit repeats.
    pub fn encode(&self) -> [u8; COMMIT_HEADER_BYTES] {
        let mut out = [0; COMMIT_HEADER_BYTES];
        put_at(&mut out, 0, &COMMIT_MAGIC);
        put_at(&mut out, 4, &JOURNAL_VERSION.to_le_bytes());
        put_at(&mut out, 6, &(COMMIT_HEADER_BYTES as u16).to_le_bytes());
        put_at(&mut out, 8, &self.journal_id.to_le_bytes());
        put_at(&mut out, 16, &self.position.to_le_bytes());
        put_at(&mut out, 24, &self.number.to_le_bytes());
        put_at(&mut out, 32, &self.first_entry.to_le_bytes());
        put_at(&mut out, 40, &self.entry_count.to_le_bytes());
        put_at(&mut out, 44, &self.body_bytes.to_le_bytes());
        put_at(&mut out, 48, &self.durable_number.to_le_bytes());
        put_at(&mut out, 56, &self.incarnation.to_le_bytes());
        put_at(&mut out, 64, &self.previous_crc.to_le_bytes());
        put_at(&mut out, 68, &self.table_crc.to_le_bytes());
        put_at(&mut out, 72, &self.blocks.to_le_bytes());
        let sum = crc(&out[..92]);
        put_at(&mut out, 92, &sum.to_le_bytes());
        out
    }

    /// Reads a header from the start of `bytes`. `check_crc` is true but in a mutant.
    pub fn decode(bytes: &[u8], check_crc: bool) -> Result<CommitHeader, HeaderFault> {
        let bytes = checked(bytes, COMMIT_HEADER_BYTES, COMMIT_MAGIC, check_crc)?;
        Ok(CommitHeader {
            journal_id: u64_at(bytes, 8),
            position: u64_at(bytes, 16),
            number: u64_at(bytes, 24),
            first_entry: u64_at(bytes, 32),
            entry_count: u32_at(bytes, 40),
            body_bytes: u32_at(bytes, 44),
            durable_number: u64_at(bytes, 48),
            incarnation: u64_at(bytes, 56),
            previous_crc: u32_at(bytes, 64),
            table_crc: u32_at(bytes, 68),
            blocks: u32_at(bytes, 72),
        })
    }

    /// The CRC that stands in encoded header bytes.
    pub fn crc_of(encoded: &[u8]) -> u32 {
        u32_at(encoded, 92)
    }
}

impl EntryRow {
    /// The bytes.
    pub fn encode(&self) -> [u8; ENTRY_ROW_BYTES] {
        let mut out = [0; ENTRY_ROW_BYTES];
        put_at(&mut out, 0, &self.len_bytes.to_le_bytes());
        put_at(&mut out, 4, &self.crc.to_le_bytes());
        put_at(&mut out, 8, &self.scope.to_le_bytes());
        out
    }

    /// Reads a row.
    pub fn decode(bytes: &[u8]) -> EntryRow {
        EntryRow { len_bytes: u32_at(bytes, 0), crc: u32_at(bytes, 4), scope: u64_at(bytes, 8) }
    }
}

/// The header's own bytes, if magic, version and checksum are in order.
fn checked(
    bytes: &[u8],
    len: usize,
    magic: [u8; 4],
    check_crc: bool,
) -> Result<&[u8], HeaderFault> {
    let header = bytes.get(..len).ok_or(HeaderFault::Absent)?;
    if !header.starts_with(&magic) {
        return Err(HeaderFault::Absent);
    }
    if check_crc && crc(&header[..len - 4]) != u32_at(header, len - 4) {
        return Err(HeaderFault::Checksum);
    }
    let version = u16_at(header, 4);
    if version > JOURNAL_VERSION {
        return Err(HeaderFault::Newer(version));
    }
    Ok(header)
}

const _: () = {
    assert!(FILE_HEADER_BYTES == 60 + 4);
    assert!(COMMIT_HEADER_BYTES == 92 + 4);
    assert!(ENTRY_ROW_BYTES == 4 + 4 + 8);
    assert!(FILE_HEADER_BYTES <= crate::disk::BLOCK_BYTES_MIN);
    assert!(COMMIT_HEADER_BYTES <= crate::disk::BLOCK_BYTES_MIN);
};

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: CommitHeader = CommitHeader {
        journal_id: 1,
        position: 4096,
        number: 7,
        first_entry: 9,
        entry_count: 2,
        body_bytes: 40,
        durable_number: 5,
        incarnation: 3,
        previous_crc: 0xABCD,
        table_crc: 0x1234,
        blocks: 1,
    };

    #[test]
    fn headers_come_back_as_they_were() {
        assert_eq!(CommitHeader::decode(&HEADER.encode(), true), Ok(HEADER));
        let file = FileHeader {
            journal_id: 5,
            file_index: 1,
            files: 3,
            file_bytes: 1 << 20,
            block_bytes: 4096,
        };
        assert_eq!(FileHeader::decode(&file.encode()), Ok(file));
    }

    #[test]
    fn the_commit_header_of_version_1_keeps_its_bytes() {
        let encoded = HEADER.encode();
        assert_eq!(&encoded[..8], b"MPJC\x01\x00\x60\x00");
        assert_eq!(CommitHeader::crc_of(&encoded), 3_786_455_988);
    }

    #[test]
    fn any_flipped_bit_of_a_header_is_noticed() {
        for at in 0..COMMIT_HEADER_BYTES {
            let mut bytes = HEADER.encode();
            bytes[at] ^= 0x10;
            assert!(CommitHeader::decode(&bytes, true).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = HEADER.encode();
        put_at(&mut bytes, 4, &9_u16.to_le_bytes());
        let sum = crc(&bytes[..92]);
        put_at(&mut bytes, 92, &sum.to_le_bytes());
        assert_eq!(CommitHeader::decode(&bytes, true), Err(HeaderFault::Newer(9)));
    }

    #[test]
    fn truncated_headers_are_absent() {
        let bytes = HEADER.encode();
        for len in 0..COMMIT_HEADER_BYTES {
            assert_eq!(CommitHeader::decode(&bytes[..len], true), Err(HeaderFault::Absent));
        }
    }
}
