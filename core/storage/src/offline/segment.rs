//! A walk over one segment that goes on after damage: every batch that is whole, and every place
//! where none is. Nothing is believed but what a checksum covers; it must never write, and never
//! take bytes within a record for a batch of the log.
//!
//! **After damage** the walk looks for the next batch that can be one of this segment: its offsets
//! lie between what came before and the segment's end, its checksum is right, and what follows it
//! is the end, padding, or again such a batch. First where the damaged batch says that it ends,
//! then byte for byte.

use bytes::Bytes;
use millpond_engine::PartitionKey;
use millpond_wire::limits::BATCH_BYTES_MAX;
use millpond_wire::record::{BatchHeader, HEADER_BYTES, LogBatch};

use crate::disk::{AlignedBuf, Disk, DiskError, DiskFile, OpenMode};
use crate::segments::SegmentMeta;
use crate::segments::format::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_path};

/// Padding ends at a multiple of this.
const PADDING_BYTES: u64 = 4096;
/// Bytes read at once.
const WINDOW_BYTES: usize = 1024 * 1024;
const ALIGN_BYTES: usize = 512;

/// A batch and where it stands.
#[derive(Clone, Debug)]
pub struct BatchFacts {
    /// Where in the file.
    pub at_bytes: u64,
    /// Its length in the file.
    pub size_bytes: u64,
    /// What it says about itself.
    pub header: BatchHeader,
}

/// What stands at a place of a segment.
#[derive(Clone, Debug)]
pub enum SegmentPiece {
    /// A whole batch.
    Batch(BatchFacts),
    /// No batch that could be served.
    Damage {
        /// Where in the file.
        at_bytes: u64,
        /// How many bytes of it.
        len_bytes: u64,
        /// The offsets that it may cost: from the first to before the second.
        offsets: (i64, i64),
        /// What is wrong.
        what: String,
    },
}

/// An open segment, walked from its first batch to the end that a checkpoint vouches for.
pub struct SegmentScan<F> {
    file: F,
    meta: SegmentMeta,
    file_bytes: u64,
    at: u64,
    next_offset: i64,
    piece: Bytes,
    piece_at: u64,
    header_fault: Option<String>,
    is_cut_told: bool,
}

/// What a place turned out to be.
enum Place {
    Batch(BatchFacts),
    Padding(u64),
    Bad(String),
}

impl<F: DiskFile> SegmentScan<F> {
    /// Opens a segment; `None` if its file is not there.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn open<D: Disk<File = F>>(
        disk: &D,
        key: PartitionKey,
        meta: SegmentMeta,
    ) -> Result<Option<SegmentScan<F>>, DiskError> {
        let file = match disk.open(&segment_path(key, meta.name()), OpenMode::EXISTING).await {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let file_bytes = file.len_bytes().await?;
        let mut scan = SegmentScan {
            file,
            meta,
            file_bytes,
            at: SEGMENT_HEADER_BYTES as u64,
            next_offset: meta.base_offset,
            piece: Bytes::new(),
            piece_at: 0,
            header_fault: None,
            is_cut_told: false,
        };
        scan.header_fault = scan.check_header(key).await;
        Ok(Some(scan))
    }

    /// What is wrong with the segment's header, if anything is.
    #[must_use]
    pub fn header_fault(&self) -> Option<&str> {
        self.header_fault.as_deref()
    }

    /// Bytes of the file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    async fn check_header(&mut self, key: PartitionKey) -> Option<String> {
        let wanted = SegmentHeader { partition: key, name: self.meta.name() };
        match self.bytes(0, SEGMENT_HEADER_BYTES).await {
            Err(error) => Some(format!("it cannot be read: {error}")),
            Ok(bytes) => match SegmentHeader::decode(&bytes) {
                Ok(header) if header == wanted => None,
                Ok(_) => Some("it belongs to another segment".to_owned()),
                Err(what) => Some(what),
            },
        }
    }

    /// Where the walk ends: what the checkpoint vouches for, or the end of a file that is shorter.
    fn end(&self) -> u64 {
        self.meta.trusted_bytes.min(self.file_bytes)
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// Never for what can be told as a [`SegmentPiece::Damage`].
    pub async fn next(&mut self) -> Result<Option<SegmentPiece>, DiskError> {
        while self.at < self.end() {
            match self.place(self.at).await {
                Place::Batch(facts) => {
                    self.at += facts.size_bytes;
                    self.next_offset = facts.header.last_offset() + 1;
                    return Ok(Some(SegmentPiece::Batch(facts)));
                }
                Place::Padding(upto) => self.at = upto,
                Place::Bad(what) => return Ok(Some(self.pass_damage(what).await)),
            }
        }
        Ok(self.cut_off())
    }

    /// A file that is shorter than the checkpoint says.
    fn cut_off(&mut self) -> Option<SegmentPiece> {
        let missing = self.meta.trusted_bytes.saturating_sub(self.file_bytes);
        if missing == 0 || self.is_cut_told {
            return None;
        }
        self.is_cut_told = true;
        Some(SegmentPiece::Damage {
            at_bytes: self.file_bytes,
            len_bytes: missing,
            offsets: (self.next_offset, self.meta.end_offset),
            what: format!("the file ends {missing} bytes before its trusted end"),
        })
    }

    /// The bytes of a batch that [`SegmentScan::next`] gave.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn batch(&mut self, facts: &BatchFacts) -> Result<Bytes, DiskError> {
        let size = usize::try_from(facts.size_bytes).unwrap_or(usize::MAX).min(BATCH_BYTES_MAX);
        self.bytes(facts.at_bytes, size).await
    }

    /// What stands at `at`.
    async fn place(&mut self, at: u64) -> Place {
        let what = match self.batch_at(at).await {
            Ok(facts) => return Place::Batch(facts),
            Err(what) => what,
        };
        let boundary = at.next_multiple_of(PADDING_BYTES).min(self.end());
        // At a boundary there is no padding: a block of zeros is a block that was lost.
        let is_zero = boundary > at
            && self
                .bytes(at, (boundary - at) as usize)
                .await
                .is_ok_and(|bytes| bytes.iter().all(|byte| *byte == 0));
        if is_zero { Place::Padding(boundary) } else { Place::Bad(what) }
    }

    /// The whole batch at `at`; the error says why there is none.
    async fn batch_at(&mut self, at: u64) -> Result<BatchFacts, String> {
        let bytes = self.bytes(at, HEADER_BYTES).await.map_err(|error| error.to_string())?;
        let raw = bytes.first_chunk::<HEADER_BYTES>().ok_or("a batch header is cut off")?;
        let header = BatchHeader::read(raw);
        let size = header.batch_bytes().map_err(|error| error.to_string())?;
        let rest = self.end().saturating_sub(at);
        if !(HEADER_BYTES..=BATCH_BYTES_MAX).contains(&size) || size as u64 > rest {
            return Err("the length of a batch is impossible".to_owned());
        }
        if header.base_offset < self.next_offset
            || header.last_offset() < header.base_offset
            || header.last_offset() >= self.meta.end_offset
        {
            return Err("a batch has offsets that do not belong here".to_owned());
        }
        let bytes = self.bytes(at, size).await.map_err(|error| error.to_string())?;
        LogBatch::parse(bytes.slice(..size.min(bytes.len()))).map_err(|error| error.to_string())?;
        // The base offset is outside of the checksum: where it leaves a gap, what follows must
        // bear it out.
        let is_gap = header.base_offset > self.next_offset;
        let follower = if is_gap { self.base_offset_at(at + size as u64).await } else { None };
        if follower.is_some_and(|next| next <= header.last_offset()) {
            return Err("the offset of a batch is not where its neighbours are".to_owned());
        }
        Ok(BatchFacts { at_bytes: at, size_bytes: size as u64, header })
    }

    /// The base offset of the batch that begins at `at` or, after padding, at the next boundary.
    async fn base_offset_at(&mut self, at: u64) -> Option<i64> {
        for at in [at, at.next_multiple_of(PADDING_BYTES)] {
            let bytes = self.bytes(at, HEADER_BYTES).await.ok()?;
            let header = BatchHeader::read(bytes.first_chunk::<HEADER_BYTES>()?);
            if header.magic == 2 && header.batch_length > 0 {
                return Some(header.base_offset);
            }
        }
        None
    }

    /// Passes over damage to the next batch of this segment, or to the end.
    async fn pass_damage(&mut self, what: String) -> SegmentPiece {
        let from = self.at;
        let next = match self.claimed_end(from).await {
            Some(end) if self.continues_at(end).await => end,
            _ => self.search(from + 1).await,
        };
        let first = self.first_offset_at(next).await;
        let offsets = (self.next_offset, first);
        self.at = next;
        SegmentPiece::Damage { at_bytes: from, len_bytes: next - from, offsets, what }
    }

    /// Where the batch at `at` says that it ends, if it says something possible.
    async fn claimed_end(&mut self, at: u64) -> Option<u64> {
        let bytes = self.bytes(at, HEADER_BYTES).await.ok()?;
        let size = BatchHeader::read(bytes.first_chunk::<HEADER_BYTES>()?).batch_bytes().ok()?;
        let end = at.checked_add(size as u64)?;
        ((HEADER_BYTES..=BATCH_BYTES_MAX).contains(&size) && end <= self.end()).then_some(end)
    }

    /// Whether the segment goes on at `at`: with its end, a whole batch, or padding before one.
    async fn continues_at(&mut self, at: u64) -> bool {
        let mut at = at;
        loop {
            if at >= self.end() {
                return true;
            }
            match self.place(at).await {
                Place::Batch(_) => return true,
                Place::Padding(upto) => at = upto,
                Place::Bad(_) => return false,
            }
        }
    }

    /// The first place from `from` on where a batch of this segment begins that is followed by
    /// what may follow it; the end if there is none.
    async fn search(&mut self, from: u64) -> u64 {
        let mut at = from;
        while at < self.end() {
            let Ok(bytes) = self.bytes(at, WINDOW_BYTES).await else {
                // Blocks that the device cannot read hold nothing.
                at = (at + 1).next_multiple_of(PADDING_BYTES);
                continue;
            };
            let last = bytes.len().saturating_sub(HEADER_BYTES);
            for skip in 0..=last {
                let candidate = at + skip as u64;
                let rest = bytes.get(skip..).unwrap_or(&[]);
                if self.looks_like_batch(rest)
                    && let Ok(facts) = self.batch_at(candidate).await
                    && self.continues_at(candidate + facts.size_bytes).await
                {
                    return candidate;
                }
            }
            at += last as u64 + 1;
        }
        self.end()
    }

    /// The cheap part of [`SegmentScan::batch_at`].
    fn looks_like_batch(&self, bytes: &[u8]) -> bool {
        let Some(raw) = bytes.first_chunk::<HEADER_BYTES>() else {
            return false;
        };
        let header = BatchHeader::read(raw);
        header.magic == 2 && (self.next_offset..self.meta.end_offset).contains(&header.base_offset)
    }

    async fn first_offset_at(&mut self, at: u64) -> i64 {
        let mut at = at;
        while at < self.end() {
            match self.place(at).await {
                Place::Batch(facts) => return facts.header.base_offset,
                Place::Padding(upto) => at = upto,
                Place::Bad(_) => break,
            }
        }
        self.meta.end_offset
    }

    /// `want` bytes at `at`, fewer at the end of the file. Reads a window, or, where the device
    /// cannot, no more than is wanted.
    async fn bytes(&mut self, at: u64, want: usize) -> Result<Bytes, DiskError> {
        let want = (want as u64).min(self.file_bytes.saturating_sub(at)) as usize;
        let skip = at.checked_sub(self.piece_at).unwrap_or(u64::MAX);
        if (self.piece.len() as u64).saturating_sub(skip) < want as u64 {
            self.piece = match self.read(at, want.max(WINDOW_BYTES)).await {
                Ok(piece) => piece,
                Err(error) if want >= WINDOW_BYTES => return Err(error),
                Err(_) => self.read(at, want).await?,
            };
            self.piece_at = at;
        }
        let skip = (at.saturating_sub(self.piece_at) as usize).min(self.piece.len());
        let end = (skip + want).min(self.piece.len());
        Ok(self.piece.slice(skip..end))
    }

    async fn read(&self, at: u64, len: usize) -> Result<Bytes, DiskError> {
        let len = (len as u64).min(self.file_bytes.saturating_sub(at)) as usize;
        let buf = AlignedBuf::with_capacity(len, ALIGN_BYTES);
        let (result, buf) = self.file.read_at(at, buf, len).await;
        result?;
        Ok(Bytes::copy_from_slice(buf.as_slice()))
    }
}
