//! Reads a guest's answer. Everything in it may be a lie: each pointer, length and count is
//! checked before it is used, each byte is counted before it is copied.

use crate::abi;
use crate::fault::{Fault, Lie};
use crate::headers;
use crate::imports::slice;
use crate::logs::printable;
use crate::rows::{Row, Span};
use crate::spec::{TransformSpec, is_topic_name};
use bytes::Bytes;
use millpond_wire::limits as caps;
use std::ops::Range;

/// What becomes of one record of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It goes on, then what was emitted for it.
    Keep(Range<usize>),
    /// Only what was emitted for it goes on.
    Drop(Range<usize>),
    /// Its failure policy applies, for this reason.
    Failed(String),
}

/// A record that a guest made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Emitted {
    pub(crate) row: Row,
    /// Which of the transform's outputs it goes to; `None`: on in the chain.
    pub(crate) output: Option<usize>,
}

/// What is gathered of the answers to one batch, or to parts of it.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// One for each record; `None` while it is not known.
    pub(crate) decisions: Vec<Option<Decision>>,
    pub(crate) emitted: Vec<Emitted>,
    /// Blocks that the emitted records stand in; their index starts at `first_arena`.
    pub(crate) arenas: Vec<Bytes>,
    pub(crate) first_arena: usize,
    /// What the guest may still make for this batch.
    pub(crate) bytes_left: usize,
    pub(crate) records_left: usize,
}

impl Gathered {
    /// For a stage with these records, of so many bytes.
    pub(crate) fn new(
        records: usize,
        bytes: usize,
        first_arena: usize,
        output_ratio: usize,
    ) -> Self {
        Gathered {
            decisions: vec![None; records],
            emitted: Vec::new(),
            arenas: Vec::new(),
            first_arena,
            bytes_left: bytes
                .saturating_mul(output_ratio)
                .clamp(caps::TRANSFORM_OUTPUT_EXEMPT_BYTES, caps::TRANSFORM_OUTPUT_BYTES_MAX),
            records_left: caps::TRANSFORM_OUTPUT_RECORDS_MAX,
        }
    }

    pub(crate) fn decide(&mut self, index: usize, decision: Decision) {
        if let Some(place) = self.decisions.get_mut(index) {
            *place = Some(decision);
        }
    }
}

/// Takes the answer to the records `range` of the stage's `rows` into `gathered`. On an error
/// nothing is taken.
pub(crate) fn read(
    memory: &[u8],
    answer: u64,
    rows: &[Row],
    range: Range<usize>,
    spec: &TransformSpec,
    gathered: &mut Gathered,
) -> Result<(), Fault> {
    if answer == 0 {
        for index in range {
            gathered.decide(index, Decision::Keep(0..0));
        }
        return Ok(());
    }
    let emitted_before = gathered.emitted.len();
    let left_before = (gathered.bytes_left, gathered.records_left);
    let mut reader = Reader {
        memory,
        spec,
        arena: Vec::new(),
        arena_index: (gathered.first_arena + gathered.arenas.len()) as u32,
        gathered,
    };
    let read = reader.read(answer, rows, range);
    let arena = std::mem::take(&mut reader.arena);
    match &read {
        Ok(()) if !arena.is_empty() => gathered.arenas.push(arena.into()),
        Ok(()) => {}
        Err(_) => {
            gathered.emitted.truncate(emitted_before);
            (gathered.bytes_left, gathered.records_left) = left_before;
        }
    }
    read
}

struct Reader<'a> {
    memory: &'a [u8],
    spec: &'a TransformSpec,
    arena: Vec<u8>,
    arena_index: u32,
    gathered: &'a mut Gathered,
}

/// Why a record that a guest made was not taken: its own fault, or the whole answer's.
enum Refused {
    Record(String),
    Answer(Fault),
}

impl<E: Into<Fault>> From<E> for Refused {
    fn from(fault: E) -> Self {
        Refused::Answer(fault.into())
    }
}

impl Reader<'_> {
    fn read(&mut self, answer: u64, rows: &[Row], range: Range<usize>) -> Result<(), Fault> {
        let memory = self.memory;
        let output = slice(memory, "the output", (answer >> 32) as u32, answer & 0xffff_ffff)?;
        let header: &[u8; abi::OUTPUT_HEADER_BYTES] = output.first_chunk().ok_or(Lie::NoHeader)?;
        let word = |index| word(header, index);
        if word(0) != abi::OUTPUT_MAGIC || word(1) as usize != abi::OUTPUT_HEADER_BYTES {
            return Err(Lie::NoHeader.into());
        }
        let (verdict_count, emit_count) = (word(2), word(4));
        if verdict_count as usize != range.len() {
            let records = range.len();
            return Err(Lie::VerdictCount { verdicts: verdict_count, records }.into());
        }
        if emit_count as usize > self.gathered.records_left {
            return Err(too_many_records(self.gathered.records_left));
        }
        let bytes = range.len() as u64 * abi::VERDICT_BYTES as u64;
        let (verdicts, _) = slice(memory, "the verdicts", word(3), bytes)?.as_chunks();
        let bytes = u64::from(emit_count) * abi::EMIT_BYTES as u64;
        let (mut emits, _) = slice(memory, "the emitted records", word(5), bytes)?.as_chunks();

        // Twice, so that nothing is made of an answer that does not add up.
        let claimed: u64 = verdicts.iter().map(|verdict| u64::from(self::word(verdict, 1))).sum();
        if claimed != u64::from(emit_count) {
            return Err(Lie::EmitCount { claimed, emitted: emit_count }.into());
        }
        for (index, verdict) in range.zip(verdicts) {
            let own;
            (own, emits) =
                emits.split_at_checked(self::word(verdict, 1) as usize).unwrap_or_default();
            let origin = rows.get(index).map_or(0, |row| row.origin);
            let decision = self.decision(verdict, own, origin)?;
            self.gathered.decide(index, decision);
        }
        self.gathered.records_left -= emit_count as usize;
        Ok(())
    }

    fn decision(
        &mut self,
        verdict: &[u8; abi::VERDICT_BYTES],
        emits: &[[u8; abi::EMIT_BYTES]],
        origin: u32,
    ) -> Result<Decision, Fault> {
        let kind = word(verdict, 0);
        if kind == abi::VERDICT_FAILED {
            let bytes = u64::from(word(verdict, 3));
            let message = slice(self.memory, "a message", word(verdict, 2), bytes)?;
            return Ok(Decision::Failed(printable(message, caps::TRANSFORM_ERROR_BYTES_MAX)));
        }
        let start = self.gathered.emitted.len();
        for emit in emits {
            match self.emitted(emit, origin) {
                Ok(emitted) => self.gathered.emitted.push(emitted),
                Err(Refused::Answer(fault)) => return Err(fault),
                Err(Refused::Record(reason)) => {
                    self.gathered.emitted.truncate(start);
                    return Ok(Decision::Failed(reason));
                }
            }
        }
        let emits = start..self.gathered.emitted.len();
        match kind {
            abi::VERDICT_KEEP => Ok(Decision::Keep(emits)),
            abi::VERDICT_DROP => Ok(Decision::Drop(emits)),
            unknown => Err(Lie::UnknownVerdict(unknown).into()),
        }
    }

    fn emitted(&mut self, emit: &[u8; abi::EMIT_BYTES], origin: u32) -> Result<Emitted, Refused> {
        let output = self.output(word(emit, 8), word(emit, 9))?;
        let timestamp_ms = (u64::from(word(emit, 0)) | (u64::from(word(emit, 1)) << 32)) as i64;
        // -1 says that there is none; the upper half would overflow as a difference.
        if !(-1..=i64::MAX / 2).contains(&timestamp_ms) {
            return Err(Lie::Timestamp(timestamp_ms).into());
        }
        let key = self.copy("a key", word(emit, 2), word(emit, 3))?;
        let value = self.copy("a value", word(emit, 4), word(emit, 5))?;
        let header_count = word(emit, 7);
        let headers = self.copy_headers(word(emit, 6), header_count)?;
        self.spend(RECORD_OVERHEAD_BYTES)?;
        let row = Row { timestamp_ms, origin, ordinal: 0, key, value, headers, header_count };
        if row.payload_bytes() > RECORD_BYTES_MAX {
            return Err(Lie::RecordTooLarge(row.payload_bytes()).into());
        }
        Ok(Emitted { row, output })
    }

    fn output(&self, address: u32, bytes: u32) -> Result<Option<usize>, Refused> {
        if bytes == 0 {
            return Ok(None);
        }
        let name = slice(self.memory, "a topic's name", address, u64::from(bytes))?;
        let found = self.spec.outputs.iter().position(|output| output.as_bytes() == name);
        if found.is_some() {
            return Ok(found);
        }
        // No topic has such a name, so the answer is a lie; else the record goes where it may not.
        let name = std::str::from_utf8(name).ok().filter(|name| is_topic_name(name));
        let name = name.ok_or(Lie::TopicName(bytes))?;
        Err(Refused::Record(format!("sent to `{name}`, which is not among the outputs")))
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Fault> {
        let left = self.gathered.bytes_left;
        let too_much = Fault::TooMuchOutput { limit: left, unit: "bytes" };
        self.gathered.bytes_left = left.checked_sub(bytes).ok_or(too_much)?;
        Ok(())
    }

    fn copy(&mut self, what: &'static str, address: u32, bytes: u32) -> Result<Span, Fault> {
        if bytes == abi::NULL {
            return Ok(Span::NONE);
        }
        let piece = slice(self.memory, what, address, u64::from(bytes))?;
        self.spend(piece.len())?;
        let start = self.arena.len();
        self.arena.extend_from_slice(piece);
        Ok(self.span_from(start))
    }

    fn copy_headers(&mut self, address: u32, count: u32) -> Result<Span, Fault> {
        if count == 0 {
            return Ok(Span::NONE);
        }
        if count as usize > caps::RECORD_HEADERS_MAX {
            return Err(Lie::HeaderCount(count).into());
        }
        let bytes = u64::from(count) * abi::HEADER_ENTRY_BYTES as u64;
        let (entries, _) = slice(self.memory, "headers", address, bytes)?
            .as_chunks::<{ abi::HEADER_ENTRY_BYTES }>();
        self.spend(entries.len() * HEADER_OVERHEAD_BYTES)?;
        let start = self.arena.len();
        headers::put_count(&mut self.arena, entries.len());
        for entry in entries {
            let memory = self.memory;
            let name = slice(memory, "a header's name", word(entry, 0), u64::from(word(entry, 1)))?;
            let value = match word(entry, 3) {
                abi::NULL => None,
                bytes => Some(slice(memory, "a header", word(entry, 2), u64::from(bytes))?),
            };
            self.spend(name.len() + value.map_or(0, <[u8]>::len))?;
            headers::put_header(&mut self.arena, name, value);
        }
        Ok(self.span_from(start))
    }

    fn span_from(&self, start: usize) -> Span {
        // The arena is below the cap on output, far below 4 GiB.
        let bytes = (self.arena.len() - start) as u32;
        Span { arena: self.arena_index, start: start as u32, bytes }
    }
}

/// What a record costs a batch beside its payload, at most.
const RECORD_OVERHEAD_BYTES: usize = 24;
/// What a header costs beside its name and value, at most.
const HEADER_OVERHEAD_BYTES: usize = 10;
/// Largest record that a guest may make: it and a header must fit a batch.
const RECORD_BYTES_MAX: usize = caps::BATCH_BYTES_MAX - 64 * caps::KIB;

fn too_many_records(limit: usize) -> Fault {
    Fault::TooMuchOutput { limit, unit: "records" }
}

/// The `index`-th 32-bit number; a constant index of a fixed size, so never out of bounds.
#[inline]
fn word<const N: usize>(bytes: &[u8; N], index: usize) -> u32 {
    let (words, _) = bytes.as_chunks::<4>();
    words.get(index).map_or(0, |word| u32::from_le_bytes(*word))
}
