//! A batch as the log keeps it: the bytes as they came and, beside them, its place in the
//! partition. Must never copy records; the stamp is put on when the batch is written out.

use super::batch::{Batch, seal};
use super::codec::{self, Codec};
use super::error::BatchError;
use super::header::{Attributes, BatchHeader, CRC_FROM, HEADER_BYTES};
use crate::limits;
use crate::rope::Records;
use bytes::{BufMut, Bytes, BytesMut};

/// Base offset, batch length and leader epoch: the bytes that a stamp changes are among these.
const STAMPED_BYTES: usize = 16;
/// Where the attributes stand in a header.
const ATTRIBUTES_FROM: usize = 21;

/// A batch with its base offset and leader epoch. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct LogBatch {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Epoch of the leader that appended it.
    pub leader_epoch: i32,
    /// Offset of the last record less the base offset.
    pub last_offset_delta: i32,
    max_timestamp: i64,
    batch_length: i32,
    raw: Bytes,
    is_crc_checked: bool,
}

/// The same bytes in the same place, whatever is known of them.
impl PartialEq for LogBatch {
    fn eq(&self, other: &Self) -> bool {
        let place = |batch: &Self| (batch.base_offset, batch.leader_epoch);
        place(self) == place(other) && self.raw == other.raw
    }
}

impl Eq for LogBatch {}

impl LogBatch {
    /// Gives a batch its place. The bytes are shared with `batch`.
    #[must_use]
    pub fn stamp(batch: Batch, base_offset: i64, leader_epoch: i32) -> Self {
        let header = *batch.header();
        Self {
            base_offset,
            leader_epoch,
            last_offset_delta: header.last_offset_delta,
            max_timestamp: header.max_timestamp,
            batch_length: header.batch_length,
            is_crc_checked: batch.is_crc_checked(),
            raw: batch.into_raw(),
        }
    }

    /// A batch that carries its own place, as [`LogBatch::write_to`] wrote it or as a broker
    /// sent it: fully checked, the CRC included.
    ///
    /// # Errors
    /// As [`Batch::parse`].
    pub fn parse(raw: Bytes) -> Result<Self, BatchError> {
        Batch::parse(raw).map(Self::from_own_stamp)
    }

    /// As [`LogBatch::parse`], the CRC left out: for bytes that another checksum has covered a
    /// moment ago. Never for bytes of a peer.
    ///
    /// # Errors
    /// As [`Batch::parse_trusted`].
    pub fn parse_trusted(raw: Bytes) -> Result<Self, BatchError> {
        Batch::parse_trusted(raw).map(Self::from_own_stamp)
    }

    /// Takes `raw` apart into the batches that fill it exactly, at most `max` of them.
    ///
    /// # Errors
    /// As [`Batch::split`].
    pub fn split(raw: Bytes, max: usize) -> Result<Vec<Self>, BatchError> {
        Ok(Batch::split(raw, max)?.into_iter().map(Self::from_own_stamp).collect())
    }

    /// A parsed batch whose header already says where it stands.
    #[must_use]
    pub fn from_own_stamp(batch: Batch) -> Self {
        let header = *batch.header();
        Self::stamp(batch, header.base_offset, header.partition_leader_epoch)
    }

    /// A batch put together again from a header and the records section behind it. Length and
    /// magic of the header are made right; so is the CRC, unless `crc` is what it has to say.
    ///
    /// # Errors
    /// As [`LogBatch::parse_trusted`].
    pub fn from_parts(
        mut header: BatchHeader,
        section: &[u8],
        crc: Option<u32>,
    ) -> Result<Self, BatchError> {
        let raw = seal(&mut header, section);
        let Some(crc) = crc else {
            return Self::parse_trusted(raw);
        };
        header.crc = crc;
        let mut told = BytesMut::from(raw);
        if let Some(front) = told.first_chunk_mut::<HEADER_BYTES>() {
            *front = header.write();
        }
        Self::parse_trusted(told.freeze())
    }

    /// Whether the CRC in the header is that of the bytes: one pass over them, unless that was
    /// made when the batch was parsed.
    #[must_use]
    pub fn has_right_crc(&self) -> bool {
        self.is_crc_checked
            || crc32c::crc32c(self.raw.get(CRC_FROM..).unwrap_or_default()) == self.header().crc
    }

    /// The records section, as it stands behind the header.
    #[must_use]
    pub fn section(&self) -> &[u8] {
        self.raw.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// Offset of the first record.
    #[must_use]
    pub const fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Offset of the last record.
    #[must_use]
    pub const fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(self.last_offset_delta as i64)
    }

    /// Offset after the last record.
    #[must_use]
    pub const fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Greatest timestamp of the records, in ms since 1970.
    #[must_use]
    pub const fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Size of the batch, header included.
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.raw.len()
    }

    /// Codec and flags, without a look at the rest of the header.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        let bits = self.raw.get(ATTRIBUTES_FROM..).and_then(|from| from.first_chunk());
        Attributes::from_bits(bits.map_or(0, |bits| u16::from_be_bytes(*bits)))
    }

    /// The header with the stamp on.
    #[must_use]
    pub fn header(&self) -> BatchHeader {
        // A parsed batch has at least a header.
        let raw = self.raw.first_chunk().unwrap_or(&[0; HEADER_BYTES]);
        BatchHeader {
            base_offset: self.base_offset,
            batch_length: self.batch_length,
            partition_leader_epoch: self.leader_epoch,
            ..BatchHeader::read(raw)
        }
    }

    /// The 61 bytes of the header with the stamp on.
    #[must_use]
    pub fn stamped_header(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0_u8; HEADER_BYTES];
        // A parsed batch has at least a header.
        if let Some(raw) = self.raw.first_chunk::<HEADER_BYTES>() {
            bytes = *raw;
        }
        if let Some(front) = bytes.first_chunk_mut::<STAMPED_BYTES>() {
            *front = self.stamped_front();
        }
        bytes
    }

    /// The bytes without the stamp, as they came.
    #[must_use]
    pub const fn unstamped(&self) -> &Bytes {
        &self.raw
    }

    /// The stamped header, and the rest as a reference to the bytes as they came.
    #[must_use]
    pub fn chunks(&self) -> [Bytes; 2] {
        [Bytes::copy_from_slice(&self.stamped_header()), self.raw.slice(HEADER_BYTES..)]
    }

    /// Appends the stamped batch to `into`, by copying.
    pub fn write_to(&self, into: &mut impl BufMut) {
        into.put_slice(&self.stamped_front());
        into.put_slice(self.raw.get(STAMPED_BYTES..).unwrap_or_default());
    }

    /// The batch for reading its records; its header says where it stands in the log.
    ///
    /// # Errors
    /// As [`Batch::parse_trusted`]: none for a batch that was parsed before.
    pub fn to_batch(&self) -> Result<Batch, BatchError> {
        let mut bytes = BytesMut::with_capacity(self.raw.len());
        self.write_to(&mut bytes);
        Batch::parse_trusted(bytes.freeze())
    }

    /// The batch for reading its records without copying it. Its header does not say where the
    /// batch stands: offsets count from [`LogBatch::base_offset`].
    ///
    /// # Errors
    /// As [`Batch::parse_trusted`]: none for a batch that was parsed before.
    pub fn unplaced_batch(&self) -> Result<Batch, BatchError> {
        Batch::parse_trusted(self.raw.clone())
    }

    /// The same records in `codec`, or uncompressed where that is smaller, in the same place and
    /// without the mark of repacking. `None` as `level` is the codec's default.
    ///
    /// # Errors
    /// As [`Batch::decompress`] with `cap_bytes`; [`BatchError::TooLarge`] if the batch would be
    /// larger than any may be.
    pub fn recoded(
        &self,
        codec: Codec,
        level: Option<i32>,
        cap_bytes: usize,
    ) -> Result<Self, BatchError> {
        let batch = self.unplaced_batch()?;
        let mut header = *batch.header();
        header.attributes = header.attributes.with_repacked(false);
        let raw = if codec == batch.codec() {
            seal(&mut header, self.raw.get(HEADER_BYTES..).unwrap_or_default())
        } else {
            let section = batch.decompress(cap_bytes)?;
            recode(&mut header, &section, codec, level)?
        };
        Ok(Self::stamp(Batch::parse_trusted(raw)?, self.base_offset, self.leader_epoch))
    }

    fn stamped_front(&self) -> [u8; STAMPED_BYTES] {
        let mut front = [0_u8; STAMPED_BYTES];
        let mut into: &mut [u8] = &mut front;
        into.put_i64(self.base_offset);
        into.put_i32(self.batch_length);
        into.put_i32(self.leader_epoch);
        front
    }
}

/// A batch of `section` in `codec`, unless that would make it larger.
fn recode(
    header: &mut BatchHeader,
    section: &[u8],
    codec: Codec,
    level: Option<i32>,
) -> Result<Bytes, BatchError> {
    let mut compressed = Vec::new();
    if codec != Codec::None {
        codec::compress(codec, level, section, &mut compressed)
            .map_err(|reason| BatchError::Decompress { codec, reason })?;
    }
    let is_smaller = codec != Codec::None && compressed.len() < section.len();
    let (codec, payload) = if is_smaller { (codec, &*compressed) } else { (Codec::None, section) };
    let batch_bytes = HEADER_BYTES + payload.len();
    if batch_bytes > limits::BATCH_BYTES_MAX {
        return Err(BatchError::TooLarge { batch_bytes, limit_bytes: limits::BATCH_BYTES_MAX });
    }
    header.attributes = header.attributes.with_codec(codec);
    Ok(seal(header, payload))
}

/// The stamped batches one after the other, for a vectored write: large ones by reference, small
/// ones and all headers gathered into one buffer, cut where needed.
#[must_use]
pub fn rope<'a, I>(batches: I) -> Records
where
    I: IntoIterator<Item = &'a LogBatch>,
{
    let mut gathered = BytesMut::new();
    let mut chunks = Records::new();
    for batch in batches {
        if batch.size_bytes() < limits::ENCODE_COPY_BELOW_BYTES {
            batch.write_to(&mut gathered);
        } else {
            gathered.extend_from_slice(&batch.stamped_front());
            chunks.push(gathered.split().freeze());
            chunks.push(batch.raw.slice(STAMPED_BYTES..));
        }
    }
    chunks.push(gathered.freeze());
    chunks
}

#[cfg(test)]
mod tests {
    use super::super::builder::BatchBuilder;
    use super::*;

    fn batch(value_bytes: usize) -> Batch {
        let mut builder = BatchBuilder::new(Codec::None, None).with_producer(7, 1, 40);
        builder.push(5, Some(b"k"), Some(&vec![b'v'; value_bytes]), &[]).unwrap();
        builder.push(9, None, None, &[]).unwrap();
        builder.build_batch().unwrap()
    }

    #[test]
    fn a_stamp_needs_no_new_crc_and_reads_back() {
        let log = LogBatch::stamp(batch(10), 1_000, 3);
        assert_eq!(
            (log.base_offset(), log.last_offset(), log.next_offset()),
            (1_000, 1_001, 1_002)
        );
        assert_eq!(log.max_timestamp(), 9);
        let mut written = Vec::new();
        log.write_to(&mut written);
        assert_eq!(written.len(), log.size_bytes());
        assert_eq!(log.chunks().concat(), written);
        let again = LogBatch::parse(written.into()).unwrap();
        assert_eq!((again.base_offset, again.leader_epoch), (1_000, 3));
        assert_eq!(again.header(), log.header());
        assert_eq!(again.header().producer_id, 7);
        assert_eq!(again.attributes(), log.header().attributes);
        assert_eq!(log.to_batch().unwrap().header().base_offset, 1_000);
    }

    #[test]
    fn another_codec_changes_no_record_and_takes_the_mark_off() {
        let mut builder = BatchBuilder::new(Codec::Zstd, None).with_repacked(true);
        for i in 0..50 {
            builder.push_at(i * 3, 5 + i64::from(i), Some(b"k"), Some(&[b'v'; 40]), &[]).unwrap();
        }
        let packed = LogBatch::stamp(builder.build_batch().unwrap(), 1_000, 3);
        assert!(packed.header().attributes.is_repacked());
        let records = |log: &LogBatch| {
            let batch = log.to_batch().unwrap();
            let section = batch.decompress(1 << 20).unwrap();
            batch.records(&section).verify().unwrap();
            section
        };
        for codec in Codec::ALL {
            let log = packed.recoded(codec, None, 1 << 20).unwrap();
            let mut written = Vec::new();
            log.write_to(&mut written);
            let log = LogBatch::parse(written.into()).unwrap();
            assert_eq!(log.header().attributes, Attributes::default().with_codec(codec));
            assert_eq!((log.base_offset(), log.last_offset(), log.leader_epoch), (1_000, 1_147, 3));
            assert_eq!(log.max_timestamp(), packed.max_timestamp());
            assert_eq!(records(&log), records(&packed));
        }
        assert!(matches!(packed.recoded(Codec::None, None, 100), Err(BatchError::Bomb { .. })));
    }

    #[test]
    fn a_batch_put_together_from_its_parts_is_the_same_byte_for_byte() {
        let log = LogBatch::stamp(batch(10), 1_000, 3);
        assert!(log.has_right_crc());
        let again = LogBatch::from_parts(log.header(), log.section(), None).unwrap();
        assert_eq!(again.stamped_header(), log.stamped_header());
        assert_eq!(again.section(), log.section());
        let wrong = LogBatch::from_parts(log.header(), log.section(), Some(7)).unwrap();
        assert_eq!((wrong.header().crc, wrong.has_right_crc()), (7, false));
    }

    #[test]
    fn a_rope_is_the_batches_in_order_and_copies_only_small_ones() {
        let sizes = [10, 10_000, 20, 30, 5_000, 6_000, 40];
        let mut offset = 0;
        let mut plain = Vec::new();
        let batches: Vec<LogBatch> = sizes
            .iter()
            .map(|size| {
                let log = LogBatch::stamp(batch(*size), offset, 1);
                offset = log.next_offset();
                log.write_to(&mut plain);
                log
            })
            .collect();
        let rope = rope(&batches);
        assert_eq!(rope.to_bytes(), plain);
        let large = batches[1].unstamped();
        assert!(
            rope.chunks().iter().any(|chunk| chunk.as_ptr() == large[STAMPED_BYTES..].as_ptr())
        );
        let bases: Vec<i64> =
            LogBatch::split(plain.into(), 10).unwrap().iter().map(LogBatch::base_offset).collect();
        assert_eq!(bases, [0, 2, 4, 6, 8, 10, 12]);
    }
}
