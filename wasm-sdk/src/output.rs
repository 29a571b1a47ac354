//! What a module decided on a batch: a verdict for each record, and the records it made.
//!
//! Bytes that lie in the input are passed on by their address; all others are copied to an arena
//! that lives until the next batch, so nothing the module frees is ever read by the host.

use crate::abi;
use crate::failure::Failure;
use crate::record::{Headers, Record};

/// What becomes of the record itself. What was emitted for it goes on in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It is stored as it came.
    Keep,
    /// It is not stored, and takes no offset.
    Drop,
}

/// A record to be made. Starts as a copy of another, or empty.
#[derive(Debug, Clone)]
pub struct Emit<'a> {
    topic: Option<&'a str>,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    timestamp_ms: i64,
    headers: Option<Headers<'a>>,
    more_headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

impl<'a> Emit<'a> {
    /// A copy of a record: key, value, headers and timestamp.
    pub fn copy_of(record: &Record<'a>) -> Self {
        Emit {
            topic: None,
            key: record.key(),
            value: record.value(),
            timestamp_ms: record.timestamp_ms(),
            headers: Some(record.headers()),
            more_headers: Vec::new(),
        }
    }

    /// A record without key, value or headers.
    pub fn new(timestamp_ms: i64) -> Self {
        Emit {
            topic: None,
            key: None,
            value: None,
            timestamp_ms,
            headers: None,
            more_headers: Vec::new(),
        }
    }

    /// Sends it to another topic, which the transform must be allowed to write to.
    pub fn topic(mut self, topic: &'a str) -> Self {
        self.topic = Some(topic);
        self
    }

    /// Sets the key, or takes it away.
    pub fn key(mut self, key: Option<&'a [u8]>) -> Self {
        self.key = key;
        self
    }

    /// Sets the value.
    pub fn value(mut self, value: &'a [u8]) -> Self {
        self.value = Some(value);
        self
    }

    /// Takes the value away: in a compacted topic that deletes the key.
    pub fn tombstone(mut self) -> Self {
        self.value = None;
        self
    }

    /// Sets the timestamp, in milliseconds since 1970.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = timestamp_ms;
        self
    }

    /// Adds a header after those it has.
    pub fn header(mut self, name: &'a str, value: &'a [u8]) -> Self {
        self.more_headers.push((name.as_bytes(), Some(value)));
        self
    }

    /// Takes away the headers it has so far.
    pub fn without_headers(mut self) -> Self {
        self.headers = None;
        self.more_headers.clear();
        self
    }
}

/// Collects what a module decides on one batch.
#[derive(Debug, Default)]
pub struct Output {
    verdicts: Vec<u8>,
    emits: Vec<EmitRow>,
    headers: Vec<[Span; 2]>,
    arena: Vec<u8>,
    /// Address and length of the input, as `usize`: bytes within it need not be copied.
    input: (usize, usize),
    emits_of_finished: usize,
    untouched: bool,
    encoded: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct EmitRow {
    timestamp_ms: i64,
    key: Span,
    value: Span,
    topic: Span,
    first_header: u32,
    header_count: u32,
}

/// Bytes in the input or in the arena.
#[derive(Debug, Clone, Copy)]
struct Span {
    in_input: bool,
    start: u32,
    len: u32,
}

impl Span {
    const NULL: Span = Span { in_input: false, start: 0, len: abi::NULL };

    fn pointer(self, input: u32, arena: u32) -> u32 {
        if self.len == abi::NULL {
            0
        } else if self.in_input {
            input.wrapping_add(self.start)
        } else {
            arena.wrapping_add(self.start)
        }
    }
}

impl Output {
    pub(crate) const fn new() -> Self {
        Output {
            verdicts: Vec::new(),
            emits: Vec::new(),
            headers: Vec::new(),
            arena: Vec::new(),
            input: (0, 0),
            emits_of_finished: 0,
            untouched: true,
            encoded: Vec::new(),
        }
    }

    /// Emits a record. It goes behind the record in hand if that is kept, and in its place if
    /// that is dropped.
    pub fn emit(&mut self, emit: &Emit<'_>) {
        let first_header = self.headers.len() as u32;
        for (name, value) in emit.headers.into_iter().flatten() {
            self.push_header(name, value);
        }
        for (name, value) in &emit.more_headers {
            self.push_header(name, *value);
        }
        let row = EmitRow {
            timestamp_ms: emit.timestamp_ms,
            key: self.span(emit.key),
            value: self.span(emit.value),
            topic: match emit.topic {
                Some(topic) => self.span(Some(topic.as_bytes())),
                None => Span { len: 0, ..Span::NULL },
            },
            first_header,
            header_count: self.headers.len() as u32 - first_header,
        };
        self.emits.push(row);
    }

    /// Puts a record with this value in the place of the one in hand; key, headers and timestamp
    /// stay. Gives the verdict to return.
    pub fn replace_value(&mut self, record: &Record<'_>, value: &[u8]) -> Verdict {
        self.emit(&Emit::copy_of(record).value(value));
        Verdict::Drop
    }

    /// Sends the record in hand to another topic. Gives the verdict to return.
    pub fn route(&mut self, record: &Record<'_>, topic: &str) -> Verdict {
        self.emit(&Emit::copy_of(record).topic(topic));
        Verdict::Drop
    }

    fn push_header(&mut self, name: &[u8], value: Option<&[u8]>) {
        let entry = [self.span(Some(name)), self.span(value)];
        self.headers.push(entry);
    }

    #[inline]
    fn span(&mut self, bytes: Option<&[u8]>) -> Span {
        let Some(bytes) = bytes else {
            return Span::NULL;
        };
        let (input, input_len) = self.input;
        let offset = (bytes.as_ptr() as usize).wrapping_sub(input);
        if offset < input_len && bytes.len() <= input_len - offset {
            return Span { in_input: true, start: offset as u32, len: bytes.len() as u32 };
        }
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        Span { in_input: false, start, len: bytes.len() as u32 }
    }

    pub(crate) fn start_batch(&mut self, input: &[u8], records: usize) {
        self.verdicts.clear();
        self.verdicts.reserve(records * abi::VERDICT_BYTES);
        self.emits.clear();
        self.headers.clear();
        self.arena.clear();
        self.input = (input.as_ptr() as usize, input.len());
        self.emits_of_finished = 0;
        self.untouched = true;
    }

    #[inline]
    pub(crate) fn finish_record(&mut self, result: Result<Verdict, Failure>) {
        match result {
            Ok(Verdict::Keep) if self.emits.len() == self.emits_of_finished => {
                self.push_verdict(abi::VERDICT_KEEP, 0, 0, 0);
            }
            Ok(verdict) => {
                let kind = match verdict {
                    Verdict::Keep => abi::VERDICT_KEEP,
                    Verdict::Drop => abi::VERDICT_DROP,
                };
                let emitted = self.emits.len() - self.emits_of_finished;
                self.push_verdict(kind, emitted as u32, 0, 0);
                self.untouched = false;
            }
            Err(failure) => self.fail_record(failure.message()),
        }
        self.emits_of_finished = self.emits.len();
    }

    #[cold]
    fn fail_record(&mut self, message: &str) {
        self.emits.truncate(self.emits_of_finished);
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(message.as_bytes());
        self.push_verdict(abi::VERDICT_FAILED, 0, start, message.len() as u32);
        self.untouched = false;
    }

    #[inline]
    fn push_verdict(&mut self, kind: u32, emitted: u32, message: u32, message_len: u32) {
        let mut entry = [0; abi::VERDICT_BYTES];
        put(&mut entry, 0, kind);
        put(&mut entry, 4, emitted);
        put(&mut entry, 8, message);
        put(&mut entry, 12, message_len);
        self.verdicts.extend_from_slice(&entry);
    }

    pub(crate) fn is_untouched(&self) -> bool {
        self.untouched
    }

    /// The verdicts, once [`Self::encode`] has made their pointers right.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn verdict_bytes(&self) -> &[u8] {
        &self.verdicts
    }

    /// Lays the output out as in `abi.rs`, for a memory in which the input, the arena, the
    /// verdicts and this layout itself stand where the caller says. Gives its bytes.
    pub(crate) fn encode(&mut self, place: impl FnOnce(&Parts<'_>) -> Addresses) -> &[u8] {
        let header_entries = abi::OUTPUT_HEADER_BYTES;
        let emit_entries = header_entries + self.headers.len() * abi::HEADER_ENTRY_BYTES;
        let total = emit_entries + self.emits.len() * abi::EMIT_BYTES;
        self.encoded.clear();
        self.encoded.resize(total, 0);
        let at =
            place(&Parts { arena: &self.arena, verdicts: &self.verdicts, encoded: &self.encoded });

        let (verdicts, _) = self.verdicts.as_chunks_mut::<{ abi::VERDICT_BYTES }>();
        for verdict in verdicts {
            let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = verdict;
            let message = u32::from_le_bytes([*a, *b, *c, *d]);
            [*a, *b, *c, *d] = at.arena.wrapping_add(message).to_le_bytes();
        }
        let verdict_count = (self.verdicts.len() / abi::VERDICT_BYTES) as u32;
        let (head, rest) = self.encoded.split_at_mut(abi::OUTPUT_HEADER_BYTES);
        put(head, 0, abi::OUTPUT_MAGIC);
        put(head, 4, abi::OUTPUT_HEADER_BYTES as u32);
        put(head, 8, verdict_count);
        put(head, 12, at.verdicts);
        put(head, 16, self.emits.len() as u32);
        put(head, 20, at.encoded.wrapping_add(emit_entries as u32));

        let (headers, emits) = rest.split_at_mut(self.headers.len() * abi::HEADER_ENTRY_BYTES);
        let (headers, _) = headers.as_chunks_mut::<{ abi::HEADER_ENTRY_BYTES }>();
        for (entry, [name, value]) in headers.iter_mut().zip(&self.headers) {
            put(entry, 0, name.pointer(at.input, at.arena));
            put(entry, 4, name.len);
            put(entry, 8, value.pointer(at.input, at.arena));
            put(entry, 12, value.len);
        }
        let (emits, _) = emits.as_chunks_mut::<{ abi::EMIT_BYTES }>();
        for (entry, row) in emits.iter_mut().zip(&self.emits) {
            let first_header = header_entries + row.first_header as usize * abi::HEADER_ENTRY_BYTES;
            row.encode(entry, &at, first_header as u32);
        }
        &self.encoded
    }
}

impl EmitRow {
    fn encode(&self, entry: &mut [u8; abi::EMIT_BYTES], at: &Addresses, first_header: u32) {
        let timestamp = self.timestamp_ms.to_le_bytes();
        entry[..8].copy_from_slice(&timestamp);
        put(entry, 8, self.key.pointer(at.input, at.arena));
        put(entry, 12, self.key.len);
        put(entry, 16, self.value.pointer(at.input, at.arena));
        put(entry, 20, self.value.len);
        put(entry, 24, at.encoded.wrapping_add(first_header));
        put(entry, 28, self.header_count);
        put(entry, 32, self.topic.pointer(at.input, at.arena));
        put(entry, 36, self.topic.len);
    }
}

/// The buffers whose addresses the layout needs.
pub(crate) struct Parts<'a> {
    pub(crate) arena: &'a [u8],
    pub(crate) verdicts: &'a [u8],
    pub(crate) encoded: &'a [u8],
}

/// Where these buffers stand in the memory that the host reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) input: u32,
    pub(crate) arena: u32,
    pub(crate) verdicts: u32,
    pub(crate) encoded: u32,
}

#[inline]
fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}
