//! A commit being built: entries are encoded straight into the buffer that the device will read.
//! That is the one copy of a record's bytes on their way to flash.

use super::JournalEntry;
use super::format::{COMMIT_HEADER_BYTES, CommitHeader, ENTRY_ROW_BYTES, EntryRow};
use super::queue::Waiting;
use super::ring::RingPosition;
use crate::disk::AlignedBuf;
use crate::fields::crc;

/// A commit that is ready to be written.
pub(super) struct Commit {
    pub(super) position: RingPosition,
    pub(super) number: u64,
    /// The last entry that is durable when this is.
    pub(super) last_entry: u64,
    pub(super) buf: AlignedBuf,
    /// When each of its entries began to wait.
    pub(super) since_us: Vec<u64>,
    pub(super) payload_bytes: u64,
}

/// What the header needs to know beyond the entries.
pub(super) struct CommitPlace {
    pub(super) journal_id: u64,
    pub(super) position: RingPosition,
    pub(super) number: u64,
    pub(super) next_entry: u64,
    pub(super) durable_number: u64,
    pub(super) incarnation: u64,
    pub(super) previous_crc: u32,
    pub(super) block_bytes: usize,
}

/// Encodes `entries` into `buf` (which has room) as one commit; answers its header CRC as well.
pub(super) fn build<E: JournalEntry>(
    place: &CommitPlace,
    entries: Vec<Waiting<E>>,
    mut buf: AlignedBuf,
) -> (Commit, u32) {
    let table_bytes = entries.len() * ENTRY_ROW_BYTES;
    let entries_bytes: usize = entries.iter().map(|waiting| waiting.len_bytes).sum();
    let body_bytes = table_bytes + entries_bytes;
    buf.clear();
    buf.set_len(COMMIT_HEADER_BYTES + body_bytes);
    let (header, body) = buf.as_mut_slice().split_at_mut(COMMIT_HEADER_BYTES);
    let (table, mut rest) = body.split_at_mut(table_bytes);
    for (waiting, row) in entries.iter().zip(table.chunks_exact_mut(ENTRY_ROW_BYTES)) {
        let (bytes, after) = rest.split_at_mut(waiting.len_bytes);
        waiting.entry.encode(bytes);
        let sum = crc(bytes);
        let scope = waiting.entry.scope();
        row.copy_from_slice(
            &EntryRow { len_bytes: waiting.len_bytes as u32, crc: sum, scope }.encode(),
        );
        rest = after;
    }
    let len = (COMMIT_HEADER_BYTES + body_bytes).next_multiple_of(place.block_bytes);
    let encoded = CommitHeader {
        journal_id: place.journal_id,
        position: place.position.0,
        number: place.number,
        first_entry: place.next_entry,
        entry_count: entries.len() as u32,
        body_bytes: body_bytes as u32,
        durable_number: place.durable_number,
        incarnation: place.incarnation,
        previous_crc: place.previous_crc,
        table_crc: crc(table),
        blocks: (len / place.block_bytes) as u32,
    }
    .encode();
    header.copy_from_slice(&encoded);
    buf.pad_to_multiple(place.block_bytes);
    let commit = Commit {
        position: place.position,
        number: place.number,
        last_entry: place.next_entry + entries.len() as u64 - 1,
        buf,
        since_us: entries.iter().map(|waiting| waiting.since_us).collect(),
        payload_bytes: entries.iter().map(|waiting| waiting.entry.payload_bytes() as u64).sum(),
    };
    (commit, CommitHeader::crc_of(&encoded))
}
