//! Reads the ring by position, through a window, for recovery. It never writes.

use super::ring::{RingPosition, RingShape};
use crate::disk::{AlignedBuf, DiskError, DiskFile};

/// Bytes read ahead.
const WINDOW_BYTES: u64 = 1024 * 1024;

/// A window on the ring.
pub(super) struct RingReader<'a, F> {
    files: &'a [F],
    shape: RingShape,
    buf: Option<AlignedBuf>,
    /// The file and the offset of the window's first byte.
    place: Option<(usize, u64)>,
}

impl<'a, F: DiskFile> RingReader<'a, F> {
    pub(super) fn new(files: &'a [F], shape: RingShape) -> RingReader<'a, F> {
        RingReader { files, shape, buf: None, place: None }
    }

    /// `len_bytes` bytes at a block-aligned position, fewer at the end of the file.
    pub(super) async fn read(
        &mut self,
        at: RingPosition,
        len_bytes: u64,
    ) -> Result<&[u8], DiskError> {
        let (file, offset) = self.shape.place(at);
        let len_bytes = len_bytes.min(self.shape.file_bytes - offset);
        if !self.holds(file, offset, len_bytes) {
            self.load(file, offset, len_bytes).await?;
        }
        let start = self.place.map_or(0, |(_, start)| offset.saturating_sub(start)) as usize;
        let bytes = self.buf.as_ref().map_or(&[][..], |buf| buf.as_slice());
        let end = (start + len_bytes as usize).min(bytes.len());
        Ok(bytes.get(start..end).unwrap_or(&[]))
    }

    fn holds(&self, file: usize, offset: u64, len_bytes: u64) -> bool {
        let Some((held, start)) = self.place else {
            return false;
        };
        let end = start + self.buf.as_ref().map_or(0, |buf| buf.len() as u64);
        held == file && start <= offset && offset + len_bytes <= end
    }

    async fn load(&mut self, file: usize, offset: u64, len_bytes: u64) -> Result<(), DiskError> {
        let rest = self.shape.file_bytes - offset;
        let block = u64::from(self.shape.block_bytes);
        let wanted = len_bytes.max(WINDOW_BYTES).next_multiple_of(block).min(rest) as usize;
        let buf = match self.buf.take() {
            Some(buf) if buf.capacity() >= wanted => buf,
            _ => AlignedBuf::with_capacity(wanted, block as usize),
        };
        self.place = None;
        let (result, buf) = self.files[file].read_at(offset, buf, wanted).await;
        self.buf = Some(buf);
        result?;
        self.place = Some((file, offset));
        Ok(())
    }
}
