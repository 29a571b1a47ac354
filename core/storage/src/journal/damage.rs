//! What can be had of a commit that is damaged: single flipped bits are corrected, entries of one
//! partition are given up, everything else is refused. It is asked only about commits that are known
//! to have been durable: what a power cut left half written is no business of its own.

use bytes::Bytes;
use millpond_wire::limits::CORRECTED_BYTES_MAX;

use super::correct::{flip, flipped_bit};
use super::format::{COMMIT_HEADER_BYTES, CommitHeader, ENTRY_ROW_BYTES, EntryRow};
use super::recovery::{EntryBytes, LostEntry, Replayed};
use crate::fields::{crc, u32_at};

/// Bytes that somebody was told are safe are not there as they were written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the journal is damaged: commit {commit} in {file} at byte {offset_bytes}: {reason}; \
     commits up to {durable_mark} were acknowledged. Nothing was changed. Restore the data \
     directory from a replica or a backup, or see what `millpond log repair` can save"
)]
pub struct JournalDamage {
    /// Relative to the data directory.
    pub file: String,
    /// Where the commit begins.
    pub offset_bytes: u64,
    /// Its number.
    pub commit: u64,
    /// The highest commit known to have been durable.
    pub durable_mark: u64,
    /// What is wrong.
    pub reason: String,
}

/// A commit's entries after correction.
pub(super) struct Mended {
    pub(super) items: Vec<Replayed>,
    /// Bits that were turned back.
    pub(super) corrected_bits: u64,
    /// Entries that are lost.
    pub(super) lost: u64,
}

/// The header at the start of `bytes`, one flipped bit corrected.
pub(super) fn mend_header(bytes: &[u8]) -> Option<CommitHeader> {
    let mut header = *bytes.first_chunk::<COMMIT_HEADER_BYTES>()?;
    let covered = COMMIT_HEADER_BYTES - 4;
    let wanted = u32_at(&header, covered);
    // If it is the checksum itself that has the flipped bit, the fields are as they should be.
    if (crc(&header[..covered]) ^ wanted).count_ones() != 1 {
        let bit = flipped_bit(&header[..covered], wanted)?;
        flip(&mut header, bit);
        return CommitHeader::decode(&header, true).ok();
    }
    let sum = crc(&header[..covered]);
    header[covered..].copy_from_slice(&sum.to_le_bytes());
    CommitHeader::decode(&header, true).ok()
}

/// A commit's entries, as far as they are sound, correctable, or of one partition only. The header
/// is sound by now.
pub(super) fn mend_entries(header: &CommitHeader, body: &[u8]) -> Result<Mended, &'static str> {
    let count = header.entry_count as usize;
    let parts = body.split_at_checked(count.saturating_mul(ENTRY_ROW_BYTES));
    let (table, entries) = parts.ok_or("its table is longer than its body")?;
    let mut mended = Mended { items: Vec::with_capacity(count), corrected_bits: 0, lost: 0 };
    let mut table = table.to_vec();
    if crc(&table) != header.table_crc {
        correct(&mut table, header.table_crc).ok_or("the entry table is damaged")?;
        mended.corrected_bits += 1;
    }
    let mut at = 0_usize;
    for (index, row) in table.chunks_exact(ENTRY_ROW_BYTES).enumerate() {
        let row = EntryRow::decode(row);
        let end = at.saturating_add(row.len_bytes as usize);
        let bytes = entries.get(at..end).ok_or("an entry is longer than the commit")?;
        at = end;
        let seq = header.first_entry + index as u64;
        mended.add(seq, row, bytes)?;
    }
    if at == entries.len() { Ok(mended) } else { Err("bytes are left over after its entries") }
}

impl Mended {
    fn add(&mut self, seq: u64, row: EntryRow, bytes: &[u8]) -> Result<(), &'static str> {
        let mut bytes = bytes.to_vec();
        let scope = row.scope;
        let is_sound = crc(&bytes) == row.crc;
        let is_corrected = !is_sound && correct(&mut bytes, row.crc).is_some();
        if is_sound || is_corrected {
            self.corrected_bits += u64::from(is_corrected);
            let bytes = Bytes::from(bytes);
            self.items.push(Replayed::Entry(EntryBytes { seq, bytes, scope, is_corrected }));
        } else if scope == 0 {
            return Err("an entry that concerns the whole node is damaged");
        } else {
            self.lost += 1;
            let len_bytes = bytes.len();
            self.items.push(Replayed::Lost(LostEntry { seq, scope, len_bytes }));
        }
        Ok(())
    }
}

/// Turns the one flipped bit back, if it is one and the bytes are few enough to look for it.
fn correct(bytes: &mut [u8], wanted: u32) -> Option<()> {
    if bytes.len() > CORRECTED_BYTES_MAX {
        return None;
    }
    let bit = flipped_bit(bytes, wanted)?;
    flip(bytes, bit);
    Some(())
}
