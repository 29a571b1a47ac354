//! One record as the broker hands it over: views into the input buffer, nothing copied.
//!
//! Reads the layout of `abi.rs`. A buffer that does not follow it ends the call: it is the
//! host's, not a peer's.

use crate::abi;
use crate::random::Random;
use core::sync::atomic::{AtomicU32, Ordering};

/// Inputs read so far: what tells one call from the next.
static CALLS: AtomicU32 = AtomicU32::new(0);

/// One input batch in the module's memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    bytes: &'a [u8],
    records: &'a [u8],
    headers: &'a [u8],
    topic: &'a str,
    partition: i32,
    flags: u32,
    first_input: u64,
    seed: u64,
    watermark_ms: i64,
    state_bytes: u64,
    call: u32,
}

impl<'a> Input<'a> {
    /// `None` if the buffer does not follow the contract.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header: &[u8; abi::INPUT_HEADER_BYTES] = bytes.first_chunk()?;
        let word = |at: usize| u32_at(header, at);
        if word(0) != abi::INPUT_MAGIC
            || word(8) as usize != bytes.len()
            || word(20) as usize != abi::INPUT_RECORD_BYTES
        {
            return None;
        }
        let records_bytes = (word(12) as usize).checked_mul(abi::INPUT_RECORD_BYTES)?;
        let headers_bytes = (word(28) as usize).checked_mul(abi::HEADER_ENTRY_BYTES)?;
        Some(Input {
            bytes,
            records: slice(bytes, word(16), records_bytes)?,
            headers: slice(bytes, word(24), headers_bytes)?,
            topic: core::str::from_utf8(slice(bytes, word(32), word(36) as usize)?).ok()?,
            partition: word(40) as i32,
            flags: word(44),
            first_input: u64_at(header, 48),
            seed: u64_at(header, 56),
            watermark_ms: u64_at(header, 64) as i64,
            state_bytes: u64_at(header, 72),
            call: CALLS.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// The records in order; `None` for one whose entry points outside of the buffer.
    pub(crate) fn records(&self) -> impl Iterator<Item = Option<Record<'a>>> {
        let input = *self;
        let (entries, _) = self.records.as_chunks::<{ abi::INPUT_RECORD_BYTES }>();
        (0..).zip(entries).map(move |(index, entry)| Record::parse(input, index, entry))
    }

    pub(crate) fn record_count(&self) -> usize {
        self.records.len() / abi::INPUT_RECORD_BYTES
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// One record.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    input: Input<'a>,
    index: u32,
    timestamp_ms: i64,
    origin: u32,
    ordinal: u32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> Record<'a> {
    #[inline]
    fn parse(
        input: Input<'a>,
        index: u32,
        entry: &'a [u8; abi::INPUT_RECORD_BYTES],
    ) -> Option<Self> {
        let word = |at: usize| u32_at(entry, at);
        let headers_start = word(32) as usize * abi::HEADER_ENTRY_BYTES;
        let headers_bytes = word(36) as usize * abi::HEADER_ENTRY_BYTES;
        Some(Record {
            input,
            index,
            timestamp_ms: u64_at(entry, 0) as i64,
            origin: word(8),
            ordinal: word(12),
            key: nullable(input.bytes, word(16), word(20))?,
            value: nullable(input.bytes, word(24), word(28))?,
            headers: Headers {
                bytes: input.bytes,
                entries: input
                    .headers
                    .get(headers_start..headers_start.checked_add(headers_bytes)?)?,
            },
        })
    }

    /// Which of the records of its call it is.
    #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
    pub(crate) fn index(&self) -> usize {
        self.index as usize
    }

    /// The call that it came in: another number for each.
    #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
    pub(crate) fn call(&self) -> u32 {
        self.input.call
    }

    /// The values of all records of its call: offset in the input and length, as they stand there.
    #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
    pub(crate) fn values_of_call(&self) -> (&'a [u8], impl Iterator<Item = (u32, u32)>) {
        let (entries, _) = self.input.records.as_chunks::<{ abi::INPUT_RECORD_BYTES }>();
        (self.input.bytes, entries.iter().map(|entry| (u32_at(entry, 24), u32_at(entry, 28))))
    }

    /// The key, if there is one.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value; `None` is a tombstone.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The value, empty if there is none.
    pub fn value_or_empty(&self) -> &'a [u8] {
        self.value.unwrap_or_default()
    }

    /// The headers, in order.
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }

    /// When the record was made, in milliseconds since 1970. This is the module's clock.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// The topic that the record was sent to.
    pub fn topic(&self) -> &'a str {
        self.input.topic
    }

    /// The partition that the record was sent to.
    pub fn partition(&self) -> i32 {
        self.input.partition
    }

    /// How many records this partition was sent before this one. In a chain the records that an
    /// earlier transform made of one carry its number.
    pub fn input_number(&self) -> u64 {
        self.input.first_input + u64::from(self.origin)
    }

    /// Which it is of the records that an earlier transform of the chain made of one. Together
    /// with [`Self::input_number`] it names a record of the partition, for good.
    pub fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// The partition's watermark before this batch: the greatest timestamp seen, less the
    /// transform's limit `watermark_delay_ms`. `None` before the first batch. It is the same for all records of a batch.
    pub fn watermark_ms(&self) -> Option<i64> {
        let watermark_ms = self.input.watermark_ms;
        (watermark_ms != abi::NO_WATERMARK).then_some(watermark_ms)
    }

    /// Whether this is a replay or a try, of which nothing is stored.
    pub fn is_replay(&self) -> bool {
        self.input.flags & abi::INPUT_FLAG_REPLAY != 0
    }

    /// Bytes of state in use before this batch.
    pub fn state_bytes(&self) -> u64 {
        self.input.state_bytes
    }

    /// Random numbers that are the same each time this record is run.
    pub fn random(&self) -> Random {
        Random::new(self.input.seed, self.input_number(), self.ordinal)
    }
}

/// A record's headers: an iterator of name and value.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    entries: &'a [u8],
}

impl<'a> Headers<'a> {
    /// How many headers are left.
    pub fn len(&self) -> usize {
        self.entries.len() / abi::HEADER_ENTRY_BYTES
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of the last header of this name, as Kafka's `lastHeader`. The outer `None`: no
    /// such header; the inner: a header without a value.
    pub fn get(&self, name: &str) -> Option<Option<&'a [u8]>> {
        self.filter(|(found, _)| *found == name.as_bytes()).last().map(|(_, value)| value)
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let (entry, rest) = self.entries.split_first_chunk::<{ abi::HEADER_ENTRY_BYTES }>()?;
        self.entries = rest;
        let name = slice(self.bytes, u32_at(entry, 0), u32_at(entry, 4) as usize)?;
        let value = nullable(self.bytes, u32_at(entry, 8), u32_at(entry, 12))?;
        Some((name, value))
    }
}

#[inline]
fn slice(bytes: &[u8], start: u32, len: usize) -> Option<&[u8]> {
    let start = start as usize;
    bytes.get(start..start.checked_add(len)?)
}

#[inline]
fn nullable(bytes: &[u8], start: u32, len: u32) -> Option<Option<&[u8]>> {
    if len == abi::NULL {
        return Some(None);
    }
    slice(bytes, start, len as usize).map(Some)
}

#[inline]
fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline]
fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | (u64::from(u32_at(bytes, at + 4)) << 32)
}
