//! Reads a guest's answer. Everything in it may be a lie: each pointer, length and count is
//! checked before it is used, each byte is counted before it is copied.

use crate::abi;
use crate::fault::{FailureReason, Fault, Lie};
use crate::headers;
use crate::imports::slice;
use crate::logs::printable;
use crate::rows::{Row, Span};
use crate::spec::TransformSpec;
use bytes::Bytes;
use millpond_wire::{limits as caps, topic_name};
use std::ops::Range;

/// What becomes of one record of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It goes on, then what was emitted for it.
    Keep(Range<usize>),
    /// Only what was emitted for it goes on.
    Drop(Range<usize>),
    /// Its failure policy applies, for this reason, in these words.
    Failed(FailureReason, String),
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
            let words = printable(message, caps::TRANSFORM_ERROR_BYTES_MAX);
            return Ok(Decision::Failed(FailureReason::Verdict, words));
        }
        let start = self.gathered.emitted.len();
        for emit in emits {
            match self.emitted(emit, origin) {
                Ok(emitted) => self.gathered.emitted.push(emitted),
                Err(Refused::Answer(fault)) => return Err(fault),
                Err(Refused::Record(reason)) => {
                    self.gathered.emitted.truncate(start);
                    return Ok(Decision::Failed(FailureReason::Verdict, reason));
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
        let name = std::str::from_utf8(name).ok().filter(|name| topic_name::is_valid(name));
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
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 24;
/// What a header costs beside its name and value, at most.
pub(crate) const HEADER_OVERHEAD_BYTES: usize = 10;
/// Largest record that a guest may make: it and a header must fit a batch.
pub(crate) const RECORD_BYTES_MAX: usize = caps::BATCH_BYTES_MAX - 64 * caps::KIB;

pub(crate) fn too_many_records(limit: usize) -> Fault {
    Fault::TooMuchOutput { limit, unit: "records" }
}

/// The `index`-th 32-bit number; a constant index of a fixed size, so never out of bounds.
#[inline]
fn word<const N: usize>(bytes: &[u8; N], index: usize) -> u32 {
    let (words, _) = bytes.as_chunks::<4>();
    words.get(index).map_or(0, |word| u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Numbers;
    use crate::spec::Sha256;

    const RECORDS: usize = 6;
    const MEMORY_BYTES: usize = 8 * 1024;

    impl Numbers {
        fn index(&mut self, end: usize) -> usize {
            self.below(end as u64) as usize
        }

        /// Numbers near which mistakes are made.
        fn lie(&mut self) -> u32 {
            let edges = [0, 1, 2, 3, 4, 16, 48, 4096, MEMORY_BYTES as u32, u32::MAX - 1, u32::MAX];
            match self.index(3) {
                0 => self.next() as u32,
                1 => self.index(MEMORY_BYTES) as u32,
                _ => edges[self.index(edges.len())],
            }
        }
    }

    fn put(memory: &mut [u8], at: usize, words: &[u32]) {
        for (index, word) in words.iter().enumerate() {
            let at = at + index * 4;
            memory[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
    }

    /// An honest answer: each record is replaced by one with a header, to a declared topic.
    fn honest() -> (Vec<u8>, u64) {
        let mut memory = vec![0; MEMORY_BYTES];
        let (output, verdicts, emits, header, data) = (64, 256, 1024, 3072, 4096);
        let (records, data) = (RECORDS as u32, data as u32);
        put(
            &mut memory,
            output,
            &[abi::OUTPUT_MAGIC, 32, records, verdicts as u32, records, emits as u32],
        );
        put(&mut memory, header, &[data, 4, data, 8]);
        memory[data as usize..data as usize + 5].copy_from_slice(b"other");
        for index in 0..RECORDS {
            put(&mut memory, verdicts + index * abi::VERDICT_BYTES, &[abi::VERDICT_DROP, 1]);
            let emit = [7, 0, data, 10, data, 20, header as u32, 1, data, 5];
            put(&mut memory, emits + index * abi::EMIT_BYTES, &emit);
        }
        (memory, ((output as u64) << 32) | 32)
    }

    fn read_into(memory: &[u8], answer: u64, gathered: &mut Gathered) -> Result<(), Fault> {
        let row = Row {
            timestamp_ms: 0,
            origin: 0,
            ordinal: 0,
            key: Span::NONE,
            value: Span::NONE,
            headers: Span::NONE,
            header_count: 0,
        };
        let mut spec = TransformSpec::new("subject", Sha256::of(b""));
        spec.outputs.push("other".to_string());
        read(memory, answer, &[row; RECORDS], 0..RECORDS, &spec, gathered)
    }

    #[test]
    fn an_honest_answer_is_taken_whole() {
        let (memory, answer) = honest();
        let mut gathered = Gathered::new(RECORDS, 0, 1, 1);
        read_into(&memory, answer, &mut gathered).expect("it is honest");
        assert_eq!(gathered.emitted.len(), RECORDS);
        for (index, decision) in gathered.decisions.iter().enumerate() {
            assert_eq!(decision, &Some(Decision::Drop(index..index + 1)));
        }
        let last = gathered.emitted[RECORDS - 1];
        assert_eq!((last.output, last.row.timestamp_ms), (Some(0), 7));
        let value = last.row.value;
        assert_eq!((value.arena, value.bytes), (1, 20));
    }

    #[test]
    fn whatever_a_guest_answers_output_stays_bounded_and_whole() {
        let mut numbers = Numbers(7);
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let (mut memory, mut answer) = honest();
            for _ in 0..1 + numbers.index(4) {
                match numbers.index(8) {
                    0 => answer = (u64::from(numbers.lie()) << 32) | u64::from(numbers.lie()),
                    _ => {
                        // Aim at the structures: all of them stand below 4 KiB.
                        let at = numbers.index(1024) * 4;
                        put(&mut memory, at, &[numbers.lie()]);
                    }
                }
            }
            let mut gathered = Gathered::new(RECORDS, 0, 0, 1);
            let before = gathered.bytes_left;
            match read_into(&memory, answer, &mut gathered) {
                Ok(()) => {
                    taken += 1;
                    assert!(gathered.decisions.iter().all(Option::is_some));
                }
                Err(_) => {
                    refused += 1;
                    assert_eq!((gathered.bytes_left, gathered.emitted.len()), (before, 0));
                    assert!(gathered.arenas.is_empty());
                }
            }
            let made: usize = gathered.arenas.iter().map(Bytes::len).sum();
            assert!(made <= caps::TRANSFORM_OUTPUT_EXEMPT_BYTES);
        }
        assert!(taken > 1_000 && refused > 1_000, "{taken} taken, {refused} refused");
    }
}
