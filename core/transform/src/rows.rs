//! Records on their way through a chain: places in shared bytes, never the bytes themselves.

use bytes::Bytes;
use millpond_wire::record::{Batch, BatchError};

/// A piece of one of the byte blocks that a run works on, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) arena: u32,
    pub(crate) start: u32,
    pub(crate) bytes: u32,
}

impl Span {
    /// No key, no value; as headers: none.
    pub(crate) const NONE: Span = Span { arena: 0, start: 0, bytes: u32::MAX };

    pub(crate) fn is_none(self) -> bool {
        self.bytes == u32::MAX
    }

    /// Its length; nothing has none.
    pub(crate) fn len(self) -> usize {
        if self.is_none() { 0 } else { self.bytes as usize }
    }

    pub(crate) fn get(self, arenas: &[Bytes]) -> Option<&[u8]> {
        if self.is_none() {
            return None;
        }
        let start = self.start as usize;
        arenas.get(self.arena as usize)?.get(start..start + self.bytes as usize)
    }
}

/// One record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) timestamp_ms: i64,
    /// Index of the record, as it was sent, that this one was made of.
    pub(crate) origin: u32,
    /// Which of those that were made of it.
    pub(crate) ordinal: u32,
    pub(crate) key: Span,
    pub(crate) value: Span,
    /// In Kafka's form, the count in front; none if there are no headers.
    pub(crate) headers: Span,
    pub(crate) header_count: u32,
}

impl Row {
    /// Bytes of its key, value and headers.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.key.len() + self.value.len() + self.headers.len()
    }
}

/// Bytes that a processor fetches at once.
const CACHE_LINE_BYTES: usize = 64;

/// Fetches bytes that another core has written. To find the records, each length must be known
/// before the next one can be looked for: without this, the core waits for memory at every record.
/// Lines that nobody waits for come in many at a time.
fn bring_near(bytes: &[u8]) {
    let lines = bytes.iter().step_by(CACHE_LINE_BYTES);
    std::hint::black_box(lines.fold(0, |sum: u8, byte| sum ^ byte));
}

/// The records of a batch, in the one arena `section`.
pub(crate) fn of_batch(batch: &Batch, section: &Bytes) -> Result<Vec<Row>, BatchError> {
    bring_near(section);
    let records = batch.records(section);
    let mut rows = Vec::with_capacity(records.size_hint().1.unwrap_or(0));
    let base = section.as_ptr() as usize;
    let span = |piece: Option<&[u8]>| match piece {
        // A section is below 4 GiB by its cap.
        Some(piece) => Span {
            arena: 0,
            start: (piece.as_ptr() as usize).wrapping_sub(base) as u32,
            bytes: piece.len() as u32,
        },
        None => Span::NONE,
    };
    for record in records {
        let record = record?;
        let header_count = record.headers.len() as u32;
        rows.push(Row {
            timestamp_ms: record.timestamp,
            origin: rows.len() as u32,
            ordinal: 0,
            key: span(record.key),
            value: span(record.value),
            headers: span((header_count > 0).then_some(record.headers_raw)),
            header_count,
        });
    }
    Ok(rows)
}
