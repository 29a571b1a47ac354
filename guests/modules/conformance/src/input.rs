//! One input, read without trust: every rule on its layout is looked at.

use crate::output::Output;

const HEADER: usize = 96;
const RECORD: usize = 48;
const HEADER_ENTRY: usize = 16;

pub(crate) struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Input { bytes }
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes))
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }

    pub(crate) fn record_count(&self) -> usize {
        self.u32(12) as usize
    }

    pub(crate) fn topic(&self) -> Option<&'a [u8]> {
        self.piece(32).flatten()
    }

    /// Outer `None`: not within the input; inner: NULL.
    pub(crate) fn piece(&self, at: usize) -> Option<Option<&'a [u8]>> {
        let (start, len) = (self.u32(at) as usize, self.u32(at + 4));
        if len == u32::MAX {
            return Some(None);
        }
        self.bytes.get(start..start.checked_add(len as usize)?).map(Some)
    }

    pub(crate) fn record_at(&self, index: usize) -> usize {
        self.u32(16) as usize + index * RECORD
    }

    pub(crate) fn timestamp_ms(&self, index: usize) -> i64 {
        self.u64(self.record_at(index)) as i64
    }

    pub(crate) fn key(&self, index: usize) -> Option<&'a [u8]> {
        self.piece(self.record_at(index) + 16).flatten()
    }

    pub(crate) fn value(&self, index: usize) -> Option<&'a [u8]> {
        self.piece(self.record_at(index) + 24).flatten()
    }

    /// Names and values.
    pub(crate) fn headers(&self, index: usize) -> Vec<(&'a [u8], Option<&'a [u8]>)> {
        let record = self.record_at(index);
        let first = self.u32(24) as usize + self.u32(record + 32) as usize * HEADER_ENTRY;
        let entry = |number: usize| {
            let at = first + number * HEADER_ENTRY;
            let name = self.piece(at).flatten().unwrap_or_default();
            (name, self.piece(at + 8).flatten())
        };
        (0..self.u32(record + 36) as usize).map(entry).collect()
    }

    /// The rules on the layout.
    pub(crate) fn check(&self, output: &mut Output) {
        let lengths = self.u32(4) == HEADER as u32
            && self.u32(8) as usize == self.bytes.len()
            && self.u32(20) == RECORD as u32;
        let magic = self.bytes.starts_with(b"MPI1");
        output.check("I1", magic && lengths, "magic or lengths are others");
        output.check("I2", self.is_within(), "an offset leaves the input");
        output.check("I3", self.is_zero_where_it_should(), "what is to be 0 is not");
        output.check("I10", self.record_count() > 0, "there is no record");
    }

    fn is_within(&self) -> bool {
        let table = |at: usize, count: usize, size: usize| {
            let start = self.u32(at) as usize;
            count
                .checked_mul(size)
                .and_then(|bytes| start.checked_add(bytes))
                .is_some_and(|end| start >= HEADER && end <= self.bytes.len())
        };
        let headers = self.u32(28) as usize;
        table(16, self.record_count(), RECORD)
            && table(24, headers, HEADER_ENTRY)
            && matches!(self.piece(32), Some(Some(_)))
            && (0..self.record_count()).all(|index| {
                let at = self.record_at(index);
                let last = self.u32(at + 32).checked_add(self.u32(at + 36));
                self.piece(at + 16).is_some()
                    && self.piece(at + 24).is_some()
                    && last.is_some_and(|last| last as usize <= headers)
            })
            && (0..headers).all(|index| {
                let at = self.u32(24) as usize + index * HEADER_ENTRY;
                matches!(self.piece(at), Some(Some(_))) && self.piece(at + 8).is_some()
            })
    }

    fn is_zero_where_it_should(&self) -> bool {
        let is_zero = |at: usize, len: usize| {
            self.bytes.get(at..at + len).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0))
        };
        self.u32(44) & !1 == 0
            && is_zero(80, 16)
            && (0..self.record_count()).all(|index| is_zero(self.record_at(index) + 40, 8))
    }
}
