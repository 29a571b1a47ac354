//! Runs a transform natively on records, through the same buffers as in the broker.
//!
//! For unit tests of a module; not part of what is built for wasm32.

mod native;
mod partition;

pub use native::Native;
pub use partition::{Fired, Partition, Step};

use crate::abi;
use crate::guest::{Run, run_batch};
use crate::host::{self, Level};
use crate::output::{Addresses, Output};
use crate::{Failure, Settings, Transform};

/// A record to feed to a transform, or one that it made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestRecord {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Where it was sent; `None` is the topic that the transform runs on.
    pub topic: Option<String>,
}

impl TestRecord {
    /// A record with this value and nothing else.
    pub fn of(value: &[u8]) -> Self {
        TestRecord { value: Some(value.to_vec()), ..TestRecord::default() }
    }

    /// Sets the key.
    pub fn key(mut self, key: &[u8]) -> Self {
        self.key = Some(key.to_vec());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.push((name.to_string(), Some(value.to_vec())));
        self
    }

    /// Sets the timestamp, in milliseconds since 1970.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = timestamp_ms;
        self
    }

    /// Sets the topic.
    pub fn topic(mut self, topic: &str) -> Self {
        self.topic = Some(topic.to_string());
        self
    }
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the record itself goes on.
    pub kept: bool,
    /// What was emitted for it, in order.
    pub emitted: Vec<TestRecord>,
    /// The message, if the record failed.
    pub failed: Option<String>,
}

impl Outcome {
    /// Kept, nothing emitted.
    pub fn keep() -> Self {
        Outcome { kept: true, emitted: Vec::new(), failed: None }
    }

    /// Dropped, nothing emitted.
    pub fn drop() -> Self {
        Outcome::emit(Vec::new())
    }

    /// Dropped, and these emitted.
    pub fn emit(emitted: Vec<TestRecord>) -> Self {
        Outcome { kept: false, emitted, failed: None }
    }

    /// Failed with this message.
    pub fn failed(message: &str) -> Self {
        Outcome { failed: Some(message.to_string()), ..Outcome::drop() }
    }
}

/// What a transform did.
#[derive(Debug, Clone)]
pub struct Report {
    /// One for each record, in order.
    pub outcomes: Vec<Outcome>,
    /// What it logged.
    pub logged: Vec<(Level, String)>,
}

/// Makes a transform with these settings and runs it on the records as one batch, sent to
/// partition 0 of the topic `test`.
///
/// # Errors
/// What `Transform::new` refused.
pub fn run<T: Transform>(
    settings: &[(&str, &str)],
    records: &[TestRecord],
) -> Result<Report, Failure> {
    host::take_logged();
    let mut transform = T::new(&Settings::from_pairs(settings))?;
    let outcomes = outcomes(&mut transform, run_batch, &encode_input(records), records.len());
    Ok(Report { outcomes, logged: host::take_logged() })
}

/// Runs one call and reads its answer.
fn outcomes<T>(transform: &mut T, run: Run<T>, input: &[u8], records: usize) -> Vec<Outcome> {
    let mut output = Output::new();
    run(transform, input, &mut output);
    if output.is_untouched() {
        return vec![Outcome::keep(); records];
    }
    Memory::of(input, &mut output).outcomes()
}

/// An input buffer as the broker lays it out; for benchmarks and tests of the layout.
pub fn encode_input(records: &[TestRecord]) -> Vec<u8> {
    encode(records, &Place::default())
}

/// What an input says of the batch as a whole.
#[derive(Debug, Clone)]
struct Place {
    topic: String,
    replay: bool,
    first_input: u64,
    watermark_ms: Option<i64>,
    state_bytes: u64,
}

impl Default for Place {
    fn default() -> Self {
        Place {
            topic: "test".to_string(),
            replay: false,
            first_input: 0,
            watermark_ms: None,
            state_bytes: 0,
        }
    }
}

fn encode(records: &[TestRecord], place: &Place) -> Vec<u8> {
    let header_count: usize = records.iter().map(|record| record.headers.len()).sum();
    let records_at = abi::INPUT_HEADER_BYTES;
    let headers_at = records_at + records.len() * abi::INPUT_RECORD_BYTES;
    let mut input = vec![0; headers_at + header_count * abi::HEADER_ENTRY_BYTES];
    let mut next_header = 0;
    for (index, record) in records.iter().enumerate() {
        let at = records_at + index * abi::INPUT_RECORD_BYTES;
        let key = append(&mut input, record.key.as_deref());
        let value = append(&mut input, record.value.as_deref());
        input[at..at + 8].copy_from_slice(&record.timestamp_ms.to_le_bytes());
        let words = [
            index as u32,
            0,
            key.0,
            key.1,
            value.0,
            value.1,
            next_header,
            record.headers.len() as u32,
        ];
        put_words(&mut input, at + 8, &words);
        for (name, value) in &record.headers {
            let name = append(&mut input, Some(name.as_bytes()));
            let value = append(&mut input, value.as_deref());
            let at = headers_at + next_header as usize * abi::HEADER_ENTRY_BYTES;
            put_words(&mut input, at, &[name.0, name.1, value.0, value.1]);
            next_header += 1;
        }
    }
    let topic = append(&mut input, Some(place.topic.as_bytes()));
    let total = input.len() as u32;
    let header = [
        abi::INPUT_MAGIC,
        abi::INPUT_HEADER_BYTES as u32,
        total,
        records.len() as u32,
        records_at as u32,
        abi::INPUT_RECORD_BYTES as u32,
        headers_at as u32,
        next_header,
        topic.0,
        topic.1,
        0,
        if place.replay { abi::INPUT_FLAG_REPLAY } else { 0 },
    ];
    put_words(&mut input, 0, &header);
    input[48..56].copy_from_slice(&place.first_input.to_le_bytes());
    let watermark_ms = place.watermark_ms.unwrap_or(abi::NO_WATERMARK);
    input[64..72].copy_from_slice(&watermark_ms.to_le_bytes());
    input[72..80].copy_from_slice(&place.state_bytes.to_le_bytes());
    input
}

fn append(input: &mut Vec<u8>, bytes: Option<&[u8]>) -> (u32, u32) {
    let start = input.len() as u32;
    let Some(bytes) = bytes else {
        return (0, abi::NULL);
    };
    input.extend_from_slice(bytes);
    (start, bytes.len() as u32)
}

fn put_words(bytes: &mut [u8], at: usize, words: &[u32]) {
    for (index, word) in words.iter().enumerate() {
        let at = at + index * 4;
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
}

/// The guest's memory as the host would see it, made of the buffers one after the other.
struct Memory {
    bytes: Vec<u8>,
    output_at: usize,
}

impl Memory {
    fn of(input: &[u8], output: &mut Output) -> Self {
        let mut bytes = input.to_vec();
        let mut encoded_at = 0;
        let mut verdicts_at = 0;
        let encoded = output.encode(|parts| {
            let arena = bytes.len();
            bytes.extend_from_slice(parts.arena);
            verdicts_at = bytes.len();
            encoded_at = verdicts_at + parts.verdicts.len();
            Addresses {
                input: 0,
                arena: arena as u32,
                verdicts: verdicts_at as u32,
                encoded: encoded_at as u32,
            }
        });
        let encoded = encoded.to_vec();
        bytes.extend_from_slice(output.verdict_bytes());
        bytes.extend_from_slice(&encoded);
        Memory { bytes, output_at: encoded_at }
    }

    fn word(&self, at: usize) -> usize {
        let bytes: [u8; 4] = self.bytes[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes) as usize
    }

    fn text(&self, at: usize) -> Option<Vec<u8>> {
        let (start, len) = (self.word(at), self.word(at + 4));
        (len != abi::NULL as usize).then(|| self.bytes[start..start + len].to_vec())
    }

    fn string(&self, at: usize) -> String {
        String::from_utf8(self.text(at).unwrap_or_default()).expect("text is UTF-8")
    }

    fn outcomes(&self) -> Vec<Outcome> {
        let at = self.output_at;
        assert_eq!(self.word(at), abi::OUTPUT_MAGIC as usize);
        let (verdicts, mut emit) = (self.word(at + 12), self.word(at + 20));
        let mut outcomes = Vec::new();
        for index in 0..self.word(at + 8) {
            let verdict = verdicts + index * abi::VERDICT_BYTES;
            let kind = self.word(verdict) as u32;
            let emitted = (0..self.word(verdict + 4)).map(|_| {
                emit += abi::EMIT_BYTES;
                self.emitted(emit - abi::EMIT_BYTES)
            });
            outcomes.push(Outcome {
                kept: kind == abi::VERDICT_KEEP,
                emitted: emitted.collect(),
                failed: (kind == abi::VERDICT_FAILED).then(|| self.string(verdict + 8)),
            });
        }
        outcomes
    }

    fn emitted(&self, at: usize) -> TestRecord {
        let timestamp: [u8; 8] = self.bytes[at..at + 8].try_into().expect("eight bytes");
        let headers = self.word(at + 24);
        let header = |index| {
            let at = headers + index * abi::HEADER_ENTRY_BYTES;
            (self.string(at), self.text(at + 8))
        };
        let topic = self.string(at + 32);
        TestRecord {
            key: self.text(at + 8),
            value: self.text(at + 16),
            headers: (0..self.word(at + 28)).map(header).collect(),
            timestamp_ms: i64::from_le_bytes(timestamp),
            topic: (!topic.is_empty()).then_some(topic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Emit, Record, Verdict};

    /// Does what the record's value says.
    struct Puppet;

    impl Transform for Puppet {
        fn new(_: &Settings) -> Result<Self, Failure> {
            Ok(Puppet)
        }

        fn on_record(&mut self, record: &Record, out: &mut Output) -> Result<Verdict, Failure> {
            crate::log!(debug, "record {}", record.input_number());
            match record.value_or_empty() {
                b"keep" => Ok(Verdict::Keep),
                b"drop" => Ok(Verdict::Drop),
                b"replace" => Ok(out.replace_value(record, b"replaced")),
                b"route" => Ok(out.route(record, "elsewhere")),
                b"several" => {
                    let more = Emit::copy_of(record).key(Some(b"new")).header("n", b"1");
                    out.emit(&more);
                    out.emit(&Emit::new(9).tombstone());
                    Ok(Verdict::Keep)
                }
                _ => {
                    out.emit(&Emit::copy_of(record));
                    Err("no such trick".into())
                }
            }
        }
    }

    #[test]
    fn a_batch_of_kept_records_is_untouched() {
        let report = run::<Puppet>(&[], &[TestRecord::of(b"keep"), TestRecord::of(b"keep")]);
        let report = report.unwrap();
        assert_eq!(report.outcomes, [Outcome::keep(), Outcome::keep()]);
        assert_eq!(report.logged[1], (Level::Debug, "record 1".to_string()));
    }

    #[test]
    fn every_verdict_reaches_its_record() {
        let several = TestRecord::of(b"several").key(b"k").header("h", b"v").timestamp_ms(5);
        let records = [
            TestRecord::of(b"drop"),
            TestRecord::of(b"replace").key(b"k").header("h", b"v").timestamp_ms(7),
            several.clone(),
            TestRecord::of(b"fail"),
            TestRecord::of(b"route"),
            TestRecord::of(b"keep"),
        ];
        let outcomes = run::<Puppet>(&[], &records).unwrap().outcomes;
        assert_eq!(outcomes[0], Outcome::drop());
        let replaced = TestRecord::of(b"replaced").key(b"k").header("h", b"v").timestamp_ms(7);
        assert_eq!(outcomes[1], Outcome::emit(vec![replaced]));
        assert!(outcomes[2].kept);
        let tombstone = TestRecord::default().timestamp_ms(9);
        assert_eq!(outcomes[2].emitted, [several.key(b"new").header("n", b"1"), tombstone]);
        assert_eq!(outcomes[3], Outcome::failed("no such trick"));
        let routed = TestRecord::of(b"route").topic("elsewhere");
        assert_eq!(outcomes[4], Outcome::emit(vec![routed]));
        assert_eq!(outcomes[5], Outcome::keep());
    }
}
