//! Reading history: whole batches by offset or by time, each checked before it is given out. A
//! batch that fails its checks is an error for this read, never skipped and never served.

use bytes::Bytes;
use millpond_engine::{HistoryRead, HistorySlice, PartitionKey, ReadFault};
use millpond_wire::limits::{BATCH_BYTES_MAX, HISTORY_READ_BYTES_MAX};
use millpond_wire::record::{BatchHeader, HEADER_BYTES, LogBatch};

use super::Segments;
use super::format::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_path};
use super::index::Mark;
use super::table::SegmentMeta;
use crate::disk::{AlignedBuf, Disk, DiskError, DiskFile, OpenMode};

/// Bytes read at once when batches are only passed over.
const SCAN_BYTES: usize = 256 * 1024;
/// Least bytes read at once when batches are wanted.
const READ_BYTES_MIN: usize = 64 * 1024;
const READ_ALIGN_BYTES: usize = 512;
/// How often a read begins anew because its segments were replaced under it: each time another
/// checkpoint came between.
const GONE_RETRIES: usize = 8;

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

/// Why a read stopped.
enum Fault {
    /// The segment was replaced or dropped while the read was under way.
    Gone,
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

/// A walk over the batches of one segment.
struct Walk<'a, D: Disk> {
    segments: &'a Segments<D>,
    key: PartitionKey,
    meta: SegmentMeta,
    file: D::File,
    /// Where the next batch begins.
    at: u64,
    /// What the batch there must begin with.
    next_offset: i64,
    piece: Piece,
    read_bytes: usize,
}

impl<D: Disk> Segments<D> {
    /// Answers one read.
    pub(crate) async fn read(&self, read: &HistoryRead) -> Result<HistorySlice, ReadFault> {
        let mut found = Vec::new();
        let mut tries = 0;
        let fault = loop {
            let result = match read.find_timestamp {
                Some(timestamp) => self.find(read, timestamp, &mut found).await,
                None => self.collect(read, &mut found).await,
            };
            match result {
                Err(Fault::Read(fault)) if found.is_empty() => break fault,
                // What stands before damage is served; the read that begins at it is told.
                Ok(()) | Err(Fault::Read(_)) => {
                    let bytes = found.iter().map(Bytes::len).sum::<usize>() as u64;
                    self.meter.history_read(found.len() as u64, bytes);
                    return Ok(HistorySlice { records: found });
                }
                // The table of now names what took its place.
                Err(Fault::Gone) if tries < GONE_RETRIES => {
                    found.clear();
                    tries += 1;
                }
                Err(Fault::Gone) => {
                    break ReadFault::Io("its segments are being replaced all the time".to_owned());
                }
            }
        };
        self.meter.history_fault();
        tracing::error!(partition = %read.partition, %fault, "history cannot be read");
        Err(fault)
    }

    async fn collect(&self, read: &HistoryRead, records: &mut Vec<Bytes>) -> Result<(), Fault> {
        let budget = read.max_bytes.min(HISTORY_READ_BYTES_MAX);
        let metas = self.state.borrow().table.from_offset(read.partition, read.offset).to_vec();
        let mut taken = 0;
        for meta in metas {
            if meta.base_offset >= read.upto {
                break;
            }
            let start = self.mark(read.partition, &meta, |index| index.before_offset(read.offset));
            let mut walk = self.walk(read.partition, meta, start, budget).await?;
            while let Some(header) = walk.peek().await? {
                if header.base_offset >= read.upto {
                    return Ok(());
                }
                if header.last_offset() < read.offset {
                    walk.skip(&header)?;
                    continue;
                }
                let size = walk.size(&header)?;
                if taken > 0 && taken + size > budget {
                    return Ok(());
                }
                records.push(walk.take(&header).await?);
                taken += size;
            }
        }
        Ok(())
    }

    async fn find(
        &self,
        read: &HistoryRead,
        timestamp: i64,
        found: &mut Vec<Bytes>,
    ) -> Result<(), Fault> {
        let metas = self.state.borrow().table.from_offset(read.partition, read.offset).to_vec();
        for meta in metas {
            if meta.base_offset >= read.upto {
                break;
            }
            if meta.max_timestamp < timestamp {
                continue;
            }
            let start = self.mark(read.partition, &meta, |index| {
                let by_offset = index.before_offset(read.offset);
                let by_time = index.before_timestamp(timestamp);
                if by_offset.position > by_time.position { by_offset } else { by_time }
            });
            let mut walk = self.walk(read.partition, meta, start, SCAN_BYTES).await?;
            while let Some(header) = walk.peek().await? {
                if header.base_offset >= read.upto {
                    return Ok(());
                }
                if header.last_offset() >= read.offset && header.max_timestamp >= timestamp {
                    found.push(walk.take(&header).await?);
                    return Ok(());
                }
                walk.skip(&header)?;
            }
        }
        Ok(())
    }

    async fn walk(
        &self,
        key: PartitionKey,
        meta: SegmentMeta,
        start: Mark,
        budget: usize,
    ) -> Result<Walk<'_, D>, Fault> {
        let file = self.open_checked(key, &meta).await?;
        let Mark { position: at, base_offset: next_offset, .. } = start;
        let piece = Piece { bytes: Bytes::new(), at };
        let read_bytes = budget.clamp(READ_BYTES_MIN, SCAN_BYTES.max(HISTORY_READ_BYTES_MAX));
        Ok(Walk { segments: self, key, meta, file, at, next_offset, piece, read_bytes })
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
        match SegmentHeader::decode(buf.as_slice()) {
            Ok(header) if header.partition == key && header.name == name => {}
            Ok(_) => return Err(damaged(key, meta, 0, "it belongs to another partition")),
            Err(what) => return Err(damaged(key, meta, 0, &what)),
        }
        self.cache((key, name), file.clone());
        Ok(file)
    }
}

impl<D: Disk> Walk<'_, D> {
    /// The header of the batch at `at`, checked for plausibility only; `None` at the trusted end.
    async fn peek(&mut self) -> Result<Option<BatchHeader>, Fault> {
        if self.at >= self.meta.trusted_bytes {
            let has_gap = self.next_offset != self.meta.end_offset;
            if has_gap && self.meta.generation == 0 {
                return Err(self.damage("the last batch ends at another offset"));
            }
            return Ok(None);
        }
        let bytes = self.bytes(HEADER_BYTES, self.read_bytes).await?;
        let Some(raw) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(self.damage("a batch header is cut off"));
        };
        let header = BatchHeader::read(raw);
        let size = self.size(&header)?;
        // The base offset is outside of the batch's checksum: only its place in the row vouches
        // for it. Compaction, whose segments have a generation, leaves gaps; nothing else does.
        let may_have_gaps = self.meta.generation > 0;
        if header.base_offset < self.next_offset
            || (header.base_offset > self.next_offset && !may_have_gaps)
            || header.last_offset() < header.base_offset
            || header.last_offset() >= self.meta.end_offset
        {
            return Err(self.damage("a batch has offsets that do not belong here"));
        }
        let (key, meta) = (self.key, self.meta);
        let max_timestamp = header.max_timestamp;
        self.segments.saw(key, &meta, self.at, size as u64, header.base_offset, max_timestamp);
        Ok(Some(header))
    }

    fn size(&self, header: &BatchHeader) -> Result<usize, Fault> {
        let size = header.batch_bytes().map_err(|error| self.damage(&error.to_string()))?;
        let rest = self.meta.trusted_bytes - self.at;
        if !(HEADER_BYTES..=BATCH_BYTES_MAX).contains(&size) || size as u64 > rest {
            return Err(self.damage("the length of a batch is impossible"));
        }
        Ok(size)
    }

    fn skip(&mut self, header: &BatchHeader) -> Result<(), Fault> {
        self.at += self.size(header)? as u64;
        self.next_offset = header.last_offset() + 1;
        Ok(())
    }

    /// The batch at `at`, its checksum checked.
    async fn take(&mut self, header: &BatchHeader) -> Result<Bytes, Fault> {
        let size = self.size(header)?;
        let bytes = self.bytes(size, size.max(self.read_bytes)).await?;
        if bytes.len() < size {
            return Err(self.damage("a batch is cut off"));
        }
        let raw = bytes.slice(..size);
        LogBatch::parse(raw.clone()).map_err(|error| self.damage(&error.to_string()))?;
        self.at += size as u64;
        self.next_offset = header.last_offset() + 1;
        Ok(raw)
    }

    /// At least `want` bytes from `at` on, or what the trusted part has left.
    async fn bytes(&mut self, want: usize, read_bytes: usize) -> Result<Bytes, Fault> {
        let rest = self.meta.trusted_bytes - self.at;
        let want = (want as u64).min(rest) as usize;
        let skip = self.at.checked_sub(self.piece.at).unwrap_or(u64::MAX);
        let held = (self.piece.bytes.len() as u64).saturating_sub(skip);
        if held < want as u64 {
            let len = (read_bytes.max(want) as u64).min(rest) as usize;
            let buf = AlignedBuf::with_capacity(len, READ_ALIGN_BYTES);
            let (result, buf) = self.file.read_at(self.at, buf, len).await;
            result?;
            self.piece = Piece { bytes: Bytes::from_owner(Owned(buf)), at: self.at };
        }
        let skip = (self.at - self.piece.at) as usize;
        Ok(self.piece.bytes.slice(skip.min(self.piece.bytes.len())..))
    }

    fn damage(&self, what: &str) -> Fault {
        damaged(self.key, &self.meta, self.at, what)
    }
}
