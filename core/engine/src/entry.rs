//! The entry: what one event decided, the unit of atomicity, and its bytes in the journal.
//! What stands in it is in `fact.rs`.
//!
//! ```text
//! version 2 (written)
//!   entry version u8 = 2 | count varint | count x fact
//!   fact  tag u8 | length varint | body (length bytes)
//! version 1 (read)
//!   entry version u8 = 1 | seq u64 | count u32 | count x fact
//!   fact  tag u8 | length u32 | body (length bytes)
//! ```
//! The sequence of an entry is that of its row in the journal and stands nowhere else (version 1
//! repeated it). An unknown tag or version is an error that says "newer version": it is never skipped.

use crate::codec::{CodecError, Take, put_varint, varint_len};
use crate::compact::Written;
use crate::extent::{self, Extent, WantedExtent};
use crate::fact::EXTENT_TAG;
pub use crate::fact::Fact;
pub use crate::offsets::CommittedOffset;
pub use crate::sent::{Sent, SentAnswer};
use crate::units::{EntrySeq, PartitionKey};
use bytes::{BufMut, Bytes};
use millpond_wire::record::{BatchError, LogBatch};

/// The version of the entry format that is written.
pub const ENTRY_VERSION: u8 = 2;
/// The version that is read besides.
const FIRST_ENTRY_VERSION: u8 = 1;

/// What one event decided.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place in the journal; consecutive.
    pub seq: EntrySeq,
    /// In the order that they are to be applied.
    pub facts: Vec<Fact>,
}

/// Whom damage to an entry would concern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryScope {
    /// One partition only.
    Partition(PartitionKey),
    /// The node, or several partitions.
    Node,
}

/// Why bytes are not an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Written by a version of Millpond that knows more.
    #[error(
        "the journal holds {what} {value}, written by a newer version of millpond; start that version"
    )]
    Newer {
        /// "entry version" or "fact".
        what: &'static str,
        /// Which.
        value: u8,
    },
    /// It says that it is another one than its place in the journal makes it.
    #[error("entry {expected} calls itself {found}: the journal is damaged")]
    OtherNumber {
        /// By its place.
        expected: EntrySeq,
        /// By its own word.
        found: EntrySeq,
    },
    /// Its batch stands in a segment, and is not there.
    #[error(
        "a batch of partition {partition} is missing or damaged: it stands at byte {} of the \
         segment with base offset {} (generation {})",
        extent.position, extent.base_offset, extent.generation
    )]
    ExtentMissing {
        /// Whose.
        partition: PartitionKey,
        /// Where.
        extent: Extent,
    },
    /// Damaged.
    #[error("an entry is damaged: {0}")]
    Codec(#[from] CodecError),
    /// The batch within is damaged.
    #[error("the batch of an entry is damaged: {0}")]
    Batch(#[from] BatchError),
}

impl Entry {
    /// Whom damage to this entry would concern: the journal keeps it outside the body.
    #[must_use]
    pub fn scope(&self) -> EntryScope {
        let mut scope = None;
        for fact in &self.facts {
            match (fact.partition(), scope) {
                (Some(key), None) => scope = Some(key),
                (Some(key), Some(seen)) if key == seen => {}
                _ => return EntryScope::Node,
            }
        }
        scope.map_or(EntryScope::Node, EntryScope::Partition)
    }

    /// Bytes of record batches within: the payload of the write.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        let bytes = |fact: &Fact| match fact {
            Fact::Appended { batch, .. } => batch.size_bytes(),
            _ => 0,
        };
        self.facts.iter().map(bytes).sum()
    }

    /// How long the encoding is, to the byte.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.encoded_len_with(|_| None)
    }

    /// The same, where the batches of the facts for which `extent` (given a fact's index) has an
    /// answer are in segments.
    pub fn encoded_len_with(&self, mut extent: impl FnMut(usize) -> Option<Extent>) -> usize {
        let facts = self.facts.iter().enumerate();
        1 + varint_len(self.facts.len() as u64)
            + facts.map(|(index, fact)| Written::of(fact, extent(index)).len()).sum::<usize>()
    }

    /// Writes the entry: `encoded_len` bytes.
    pub fn encode(&self, out: &mut impl BufMut) {
        self.encode_with(out, |_| None);
    }

    /// Writes the entry: `encoded_len_with` bytes. Only extents that are on flash may be named.
    pub fn encode_with(
        &self,
        out: &mut impl BufMut,
        mut extent: impl FnMut(usize) -> Option<Extent>,
    ) {
        out.put_u8(ENTRY_VERSION);
        put_varint(out, self.facts.len() as u64);
        for (index, fact) in self.facts.iter().enumerate() {
            Written::of(fact, extent(index)).put(out);
        }
    }

    /// Reads the entry that stands at `seq` in the journal; large batches are slices of `bytes`.
    /// Only for bytes whose checksum the journal has verified: those of the batches are not
    /// checked again.
    ///
    /// # Errors
    /// `EntryError` when the bytes are damaged or of a newer version, or a batch stands in a
    /// segment.
    pub fn decode(seq: EntrySeq, bytes: Bytes) -> Result<Entry, EntryError> {
        Self::decode_with(seq, bytes, Vec::new())
    }

    /// The same with the batches that stand in segments, in the order of [`Entry::wanted_extents`].
    ///
    /// # Errors
    /// As `decode`; `EntryError::ExtentMissing` for a batch that is not given, or is another one.
    pub fn decode_with(
        seq: EntrySeq,
        bytes: Bytes,
        batches: Vec<LogBatch>,
    ) -> Result<Entry, EntryError> {
        let mut batches = batches.into_iter();
        let mut facts = Vec::new();
        for_each_fact(seq, bytes, |tag, body| {
            facts.push(match tag {
                EXTENT_TAG => extent::Body::take(body)?.with(batches.next())?,
                tag => Fact::take_body(tag, body)?,
            });
            Ok(())
        })?;
        Ok(Entry { seq, facts })
    }

    /// The batches of an encoded entry that stand in segments.
    ///
    /// # Errors
    /// As `decode`.
    pub fn wanted_extents(seq: EntrySeq, bytes: Bytes) -> Result<Vec<WantedExtent>, EntryError> {
        let mut wanted = Vec::new();
        for_each_fact(seq, bytes, |tag, body| {
            if tag == EXTENT_TAG {
                wanted.push(extent::Body::take(body)?.wanted);
            } else {
                body.rest();
            }
            Ok(())
        })?;
        Ok(wanted)
    }
}

/// Goes over the bodies of an entry's facts; each must be read to its end.
fn for_each_fact(
    seq: EntrySeq,
    bytes: Bytes,
    mut each: impl FnMut(u8, &mut Take) -> Result<(), EntryError>,
) -> Result<(), EntryError> {
    let mut take = Take::new(bytes);
    let version = take.u8("entry version")?;
    let count = match version {
        FIRST_ENTRY_VERSION => {
            let found = EntrySeq(take.u64("entry sequence")?);
            if found != seq {
                return Err(EntryError::OtherNumber { expected: seq, found });
            }
            take.count("facts", 1 + 4)?
        }
        ENTRY_VERSION => take.varint_count("facts", 1 + 1)?,
        value => return Err(EntryError::Newer { what: "entry version", value }),
    };
    for _ in 0..count {
        let tag = take.u8("fact tag")?;
        let len = match version {
            FIRST_ENTRY_VERSION => take.u32("fact length")? as usize,
            _ => take.varint32("fact length")? as usize,
        };
        let mut body = Take::new(take.slice("fact body", len)?);
        each(tag, &mut body)?;
        body.end("fact body")?;
    }
    Ok(take.end("entry")?)
}
