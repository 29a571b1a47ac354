//! Going over the batches of one segment, in order: headers are peeked at, batches taken with their
//! checksum verified. A hole in the offsets, a length that cannot be, a segment that ends too early
//! are damage; it never gives out bytes that failed a check.

use bytes::Bytes;
use millpond_engine::{PartitionKey, ReadFault};
use millpond_wire::limits::{BATCH_BYTES_MAX, HISTORY_READ_BYTES_MAX};
use millpond_wire::record::{BatchHeader, HEADER_BYTES, LogBatch};

use super::format::{PADDING_UNIT_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, segment_path};
use super::index::Mark;
use super::table::SegmentMeta;
use super::{SegmentId, Segments};
use crate::disk::{AlignedBuf, Disk, DiskError, DiskFile, OpenMode};

/// Bytes read at once when batches are only passed over.
pub(crate) const SCAN_BYTES: usize = 256 * 1024;
/// Least bytes read at once when batches are wanted.
const READ_BYTES_MIN: usize = 64 * 1024;
const READ_ALIGN_BYTES: usize = 512;
/// Of the one batch format that is stored.
const MAGIC: i8 = 2;

/// Why a read stopped.
#[derive(Debug)]
pub enum Fault {
    /// The segment was replaced or dropped while the read was under way.
    Gone,
    /// A mark of the index led astray; the index is forgotten.
    BadMark,
    /// To be told.
    Read(ReadFault),
}

impl From<DiskError> for Fault {
    fn from(error: DiskError) -> Fault {
        Fault::Read(ReadFault::Io(error.to_string()))
    }
}

fn damaged(key: PartitionKey, meta: &SegmentMeta, at: u64, what: &str) -> Fault {
    let path = segment_path(key, meta.name());
    Fault::Read(ReadFault::Damaged(format!("{path} at byte {at}: {what}")))
}

/// Whether a segment begins with its own header.
fn check_header(key: PartitionKey, meta: &SegmentMeta, bytes: &[u8]) -> Result<(), Fault> {
    match SegmentHeader::decode(bytes) {
        Ok(header) if header.partition == key && header.name == meta.name() => Ok(()),
        Ok(_) => Err(damaged(key, meta, 0, "it belongs to another partition")),
        Err(what) => Err(damaged(key, meta, 0, &what)),
    }
}

/// A piece of a segment in memory: batches can be cut out of it without copying.
struct Piece {
    bytes: Bytes,
    /// Where in the file it begins.
    at: u64,
}

/// A buffer that `Bytes` can own.
struct Owned(AlignedBuf);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// A walk over the batches of one segment.
pub struct Walk<'a, D: Disk> {
    segments: &'a Segments<D>,
    key: PartitionKey,
    meta: SegmentMeta,
    file: D::File,
    /// Where the next batch begins.
    at: u64,
    /// The offset with which it begins: a segment has no holes unless compaction made them.
    expected: Option<i64>,
    /// Whether it began at a mark and has not met a batch yet.
    is_at_mark: bool,
    piece: Piece,
    read_bytes: usize,
}

impl<D: Disk> Segments<D> {
    /// A walk from a mark of the segment's index on, reading about `read_bytes` at once.
    pub(crate) async fn walk(
        &self,
        key: PartitionKey,
        meta: SegmentMeta,
        from: Mark,
        read_bytes: usize,
    ) -> Result<Walk<'_, D>, Fault> {
        let file = self.open_checked(key, &meta).await?;
        let piece = Piece { bytes: Bytes::new(), at: from.position };
        let read_bytes = read_bytes.clamp(READ_BYTES_MIN, SCAN_BYTES.max(HISTORY_READ_BYTES_MAX));
        let is_at_mark = from.position > SEGMENT_HEADER_BYTES as u64;
        let expected = (is_at_mark || !meta.is_clean).then_some(from.base_offset);
        let at = from.position;
        Ok(Walk { segments: self, key, meta, file, at, expected, is_at_mark, piece, read_bytes })
    }

    /// A walk over all of a segment.
    pub async fn walk_all(
        &self,
        key: PartitionKey,
        meta: SegmentMeta,
    ) -> Result<Walk<'_, D>, Fault> {
        let from = Mark::first(SEGMENT_HEADER_BYTES as u64, meta.base_offset);
        self.walk(key, meta, from, SCAN_BYTES).await
    }

    /// An open file whose header was checked.
    async fn open_checked(&self, key: PartitionKey, meta: &SegmentMeta) -> Result<D::File, Fault> {
        let name = meta.name();
        if let Some(file) = self.cached((key, name)) {
            return Ok(file);
        }
        let path = segment_path(key, name);
        let file = match self.disk.open(&path, OpenMode::EXISTING).await {
            Ok(file) => file,
            Err(error) if error.is_not_found() => {
                return Err(match self.with_table(|table| table.holds(key, name)) {
                    true => damaged(key, meta, 0, "no such file"),
                    false => Fault::Gone,
                });
            }
            Err(error) => return Err(error.into()),
        };
        let buf = AlignedBuf::with_capacity(READ_ALIGN_BYTES, READ_ALIGN_BYTES);
        let (result, buf) = file.read_at(0, buf, SEGMENT_HEADER_BYTES).await;
        result?;
        check_header(key, meta, buf.as_slice())?;
        self.cache((key, name), file.clone());
        Ok(file)
    }
}

impl<D: Disk> Walk<'_, D> {
    /// Where the next batch begins; after [`Walk::peek`] padding is behind.
    pub fn position(&self) -> u64 {
        self.at
    }

    fn id(&self) -> SegmentId {
        (self.key, self.meta.name())
    }

    /// The header of the next batch, checked for plausibility only; `None` at the trusted end.
    pub async fn peek(&mut self) -> Result<Option<BatchHeader>, Fault> {
        let header = loop {
            if self.at >= self.meta.trusted_bytes {
                return self.end();
            }
            let bytes = self.bytes(HEADER_BYTES, self.read_bytes).await?;
            let header = bytes.first_chunk::<HEADER_BYTES>().map(BatchHeader::read);
            match header {
                Some(header) if self.goes_on_with(&header) => break header,
                _ if self.skip_padding().await? => {}
                Some(header) => break header,
                None => return Err(self.damage("a batch header is cut off")),
            }
        };
        let size = self.size(&header)?;
        let is_here = header.base_offset >= self.meta.base_offset
            && header.last_offset() >= header.base_offset
            && header.last_offset() < self.meta.end_offset;
        let is_next = self.expected.is_none_or(|expected| header.base_offset == expected);
        if self.is_at_mark && !(is_here && is_next) {
            return Err(self.bad_mark());
        }
        if !is_here {
            return Err(self.damage("a batch has offsets that do not belong here"));
        }
        if !is_next {
            return Err(self.damage("there is a hole in the offsets before a batch"));
        }
        self.is_at_mark = false;
        self.segments.saw(self.id(), self.at, size as u64, &header);
        Ok(Some(header))
    }

    fn end(&self) -> Result<Option<BatchHeader>, Fault> {
        match self.expected {
            _ if self.is_at_mark => Err(self.bad_mark()),
            Some(expected) if expected != self.meta.end_offset && !self.meta.is_clean => {
                Err(self.damage("its last batches are missing"))
            }
            _ => Ok(None),
        }
    }

    /// Whether a header is likely that of the next batch; what is wrong with it comes later.
    fn goes_on_with(&self, header: &BatchHeader) -> bool {
        let is_next = match self.expected {
            Some(expected) => header.base_offset == expected,
            None => header.base_offset >= self.meta.base_offset,
        };
        is_next && header.batch_length != 0 && header.magic == MAGIC
    }

    /// Goes past zeros up to a boundary; false if there is something else.
    async fn skip_padding(&mut self) -> Result<bool, Fault> {
        let boundary = self.at.next_multiple_of(PADDING_UNIT_BYTES as u64);
        let len = (boundary.min(self.meta.trusted_bytes) - self.at) as usize;
        if len == 0 || self.is_at_mark {
            return Ok(false);
        }
        let bytes = self.bytes(len, self.read_bytes).await?;
        let is_padding = bytes.get(..len).is_some_and(|zeros| zeros.iter().all(|byte| *byte == 0));
        if is_padding {
            self.segments.passed(self.id(), self.at, boundary);
            self.at = boundary;
        }
        Ok(is_padding)
    }

    fn bad_mark(&self) -> Fault {
        self.segments.forget_index(self.id());
        let path = segment_path(self.key, self.meta.name());
        tracing::warn!(path, at = self.at, "a mark of an index leads astray; it is made anew");
        Fault::BadMark
    }

    /// Bytes of the batch that was peeked at.
    pub fn size(&self, header: &BatchHeader) -> Result<usize, Fault> {
        let wrong = |what: &str| match self.is_at_mark {
            true => self.bad_mark(),
            false => self.damage(what),
        };
        let size = header.batch_bytes().map_err(|error| wrong(&error.to_string()))?;
        let rest = self.meta.trusted_bytes - self.at;
        if !(HEADER_BYTES..=BATCH_BYTES_MAX).contains(&size) || size as u64 > rest {
            return Err(wrong("the length of a batch is impossible"));
        }
        Ok(size)
    }

    /// Goes past the batch that was peeked at.
    pub fn skip(&mut self, header: &BatchHeader) -> Result<(), Fault> {
        self.at += self.size(header)? as u64;
        self.expected = self.next_expected(header);
        Ok(())
    }

    fn next_expected(&self, header: &BatchHeader) -> Option<i64> {
        (!self.meta.is_clean).then_some(header.last_offset().saturating_add(1))
    }

    /// The batch that was peeked at, its checksum verified.
    pub async fn take(&mut self, header: &BatchHeader) -> Result<LogBatch, Fault> {
        let size = self.size(header)?;
        let bytes = self.bytes(size, size.max(self.read_bytes)).await?;
        if bytes.len() < size {
            return Err(self.damage("a batch is cut off"));
        }
        let raw = bytes.slice(..size);
        let batch = LogBatch::parse(raw).map_err(|error| self.damage(&error.to_string()))?;
        self.at += size as u64;
        self.expected = self.next_expected(header);
        Ok(batch)
    }

    /// At least `want` bytes from `at` on, or what the trusted part has left.
    async fn bytes(&mut self, want: usize, read_bytes: usize) -> Result<Bytes, Fault> {
        let rest = self.meta.trusted_bytes - self.at;
        let want = (want as u64).min(rest) as usize;
        let skip = self.at.checked_sub(self.piece.at).unwrap_or(u64::MAX);
        let held = (self.piece.bytes.len() as u64).saturating_sub(skip);
        if held < want as u64 {
            let len = (read_bytes.max(want) as u64).min(rest) as usize;
            // A write that went astray brings the first batches of another partition with their
            // header: it is looked at whenever they are read, not only when the file is opened.
            let header = if self.at == SEGMENT_HEADER_BYTES as u64 { self.at } else { 0 };
            let len = len + header as usize;
            let buf = AlignedBuf::with_capacity(len, READ_ALIGN_BYTES);
            let (result, buf) = self.file.read_at(self.at - header, buf, len).await;
            result?;
            if header > 0 {
                check_header(self.key, &self.meta, buf.as_slice())?;
            }
            self.announce_next(len - header as usize);
            self.piece = Piece { bytes: Bytes::from_owner(Owned(buf)), at: self.at - header };
        }
        let skip = (self.at - self.piece.at) as usize;
        Ok(self.piece.bytes.slice(skip.min(self.piece.bytes.len())..))
    }

    /// Who reads a large piece wants the next one soon: the device gets it while this one is sent.
    fn announce_next(&self, len: usize) {
        let next = self.at + len as u64;
        let rest = self.meta.trusted_bytes.saturating_sub(next);
        if len > SCAN_BYTES && rest > 0 {
            self.file.will_need(next, rest.min(len as u64) as usize);
        }
    }

    fn damage(&self, what: &str) -> Fault {
        damaged(self.key, &self.meta, self.at, what)
    }
}
