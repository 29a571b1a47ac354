//! What lies between the host, which has a batch, and the guest, which stands in the middle of its
//! question for one: the batch, how far the guest has read, what it wrote.
//!
//! It must never let a guest make more than the batch's limits allow, and never keep a record that
//! was written for another batch.

use super::payload::{self, Written};
use crate::batch_buffer::StageInput;
use crate::fault::{FailureReason, Fault, Lie};
use crate::logs::{Level, LogBuffer, LogQuota};
use crate::rows::{Row, Span};
use crate::spec::TransformSpec;
use crate::verdicts::{Decision, Emitted, Gathered, HEADER_OVERHEAD_BYTES, RECORD_BYTES_MAX};
use crate::verdicts::{RECORD_OVERHEAD_BYTES, too_many_records};
use bytes::Bytes;
use millpond_wire::{limits as caps, topic_name};
use std::ops::Range;
use std::sync::Arc;

/// The host's side of one guest.
pub(crate) struct Desk {
    pub(crate) batch: Option<Batch>,
    /// The guest stands in its question for a batch.
    pub(crate) is_waiting: bool,
    /// Beats that the guest may take, and, once it waits, those that it left.
    pub(crate) beats_left: u64,
    /// The guest's linear memory when it asked for a batch.
    pub(crate) memory_bytes: usize,
    pub(crate) logs: LogBuffer,
    quota: Arc<LogQuota>,
    /// What was printed without the end of its line, to standard output and standard error.
    open_lines: [Vec<u8>; 2],
    /// What was printed to standard error in this call: a panic's words.
    pub(crate) last_words: Vec<u8>,
    /// Its environment: `NAME=value`, each with a 0 behind.
    pub(crate) environment: Vec<Vec<u8>>,
    pub(crate) seed: u64,
    /// Random blocks that were given since the start or the batch's start.
    pub(crate) draws: u64,
}

impl Desk {
    pub(crate) fn new(environment: Vec<Vec<u8>>, quota: Arc<LogQuota>) -> Self {
        Desk {
            batch: None,
            is_waiting: false,
            beats_left: caps::TRANSFORM_INIT_CPU_MS,
            memory_bytes: 0,
            logs: LogBuffer::default(),
            quota,
            open_lines: [Vec::new(), Vec::new()],
            last_words: Vec::new(),
            environment,
            seed: 0,
            draws: 0,
        }
    }

    /// Lays a batch out for the guest.
    pub(crate) fn lay_out(&mut self, batch: Batch, beats: u64) {
        self.seed = batch.seed;
        self.draws = 0;
        self.last_words.clear();
        self.beats_left = beats;
        self.is_waiting = false;
        self.batch = Some(batch);
    }

    /// The guest's clock, in ms since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        self.batch.as_ref().map_or(0, Batch::now_ms).max(0)
    }

    /// Takes what was printed; whole lines go to the log.
    pub(crate) fn print(&mut self, is_error: bool, text: &[u8]) {
        if is_error {
            let room = caps::TRANSFORM_ERROR_BYTES_MAX.saturating_sub(self.last_words.len());
            self.last_words.extend_from_slice(text.get(..room).unwrap_or(text));
        }
        let level = if is_error { Level::Warn } else { Level::Info };
        let [out, err] = &mut self.open_lines;
        let open = if is_error { err } else { out };
        for piece in text.split_inclusive(|byte| *byte == b'\n') {
            let room = (caps::TRANSFORM_LOG_LINE_BYTES_MAX + 1).saturating_sub(open.len());
            open.extend_from_slice(piece.get(..room).unwrap_or(piece));
            if piece.ends_with(b"\n") {
                let line = open.strip_suffix(b"\n").unwrap_or(open);
                self.logs.push(level, line, &self.quota);
                open.clear();
            }
        }
    }
}

/// A record that was written.
struct Made {
    /// Of the record in hand, within the batch.
    index: usize,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Option<Range<usize>>,
    header_count: u32,
    output: Option<usize>,
    /// It is what was read, to the topic that it came to.
    is_as_it_came: bool,
}

/// Records on the desk.
pub(crate) struct Batch {
    rows: Vec<Row>,
    payloads: Vec<u8>,
    places: Vec<Range<usize>>,
    outputs: Vec<String>,
    topic: String,
    pub(crate) first_input: u64,
    seed: u64,
    /// Of the record to be read next.
    next: usize,
    made: Vec<Made>,
    /// Bytes of what was made.
    arena: Vec<u8>,
    bytes_left: usize,
    records_left: usize,
    /// Records of which something was written that cannot be taken, with the reason.
    refused: Vec<(usize, String)>,
}

/// Why a record was not taken.
pub(crate) enum Refused {
    /// The guest is told so, and the record in hand has failed.
    Write,
    /// The guest ends.
    Fault(Fault),
}

impl Batch {
    pub(crate) fn of(input: &StageInput<'_>, spec: &TransformSpec, gathered: &Gathered) -> Self {
        let mut payloads = Vec::new();
        let mut places = Vec::with_capacity(input.rows.len());
        for row in input.rows {
            let start = payloads.len();
            payload::put(&mut payloads, row, input.arenas);
            places.push(start..payloads.len());
        }
        Batch {
            rows: input.rows.to_vec(),
            payloads,
            places,
            outputs: spec.outputs.clone(),
            topic: input.topic.to_owned(),
            first_input: input.first_input,
            seed: input.seed ^ input.first_input,
            next: 0,
            made: Vec::new(),
            arena: Vec::new(),
            bytes_left: gathered.bytes_left,
            records_left: gathered.records_left,
            refused: Vec::new(),
        }
    }

    pub(crate) fn records(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of the largest record.
    pub(crate) fn record_bytes_max(&self) -> usize {
        self.places.iter().map(Range::len).max().unwrap_or(0)
    }

    /// Of its first record, and the greatest.
    pub(crate) fn timestamps_ms(&self) -> (i64, i64) {
        let first = self.rows.first().map_or(0, |row| row.timestamp_ms);
        let greatest = self.rows.iter().map(|row| row.timestamp_ms).max().unwrap_or(0);
        (first, greatest)
    }

    /// The record to be read next: its row and its bytes.
    pub(crate) fn peek(&self) -> Option<(Row, &[u8])> {
        let place = self.places.get(self.next)?.clone();
        Some((*self.rows.get(self.next)?, self.payloads.get(place)?))
    }

    pub(crate) fn advance(&mut self) {
        self.next += 1;
    }

    /// Index of the record that was read last.
    pub(crate) fn in_hand(&self) -> Option<usize> {
        self.next.checked_sub(1)
    }

    fn now_ms(&self) -> i64 {
        let row = self.rows.get(self.in_hand().unwrap_or(0));
        row.map_or(0, |row| row.timestamp_ms)
    }

    /// Takes a record that the guest wrote for the one in hand.
    pub(crate) fn write(&mut self, record: &[u8], topic: Option<&[u8]>) -> Result<(), Refused> {
        let Some(index) = self.in_hand() else {
            return Err(Refused::Write);
        };
        let Some(written) = payload::read(record) else {
            return Err(self.refuse(index, "what was written is no record".to_owned()));
        };
        let output = match topic {
            None => None,
            Some(name) => self.output(index, name)?,
        };
        if record.len() > RECORD_BYTES_MAX {
            return Err(Refused::Fault(Lie::RecordTooLarge(record.len()).into()));
        }
        let is_as_it_came = output.is_none()
            && self.places.get(index).and_then(|place| self.payloads.get(place.clone()))
                == Some(record);
        let overhead =
            RECORD_OVERHEAD_BYTES + written.header_count as usize * HEADER_OVERHEAD_BYTES;
        self.spend(record.len() + overhead)?;
        let (key, value) = (self.keep(written.key), self.keep(written.value));
        let Written { headers, header_count, .. } = written;
        let headers = self.keep((header_count > 0).then_some(headers));
        let made = Made { index, key, value, headers, header_count, output, is_as_it_came };
        self.made.push(made);
        Ok(())
    }

    fn output(&mut self, index: usize, name: &[u8]) -> Result<Option<usize>, Refused> {
        if name == self.topic.as_bytes() {
            return Ok(None);
        }
        if let Some(at) = self.outputs.iter().position(|output| output.as_bytes() == name) {
            return Ok(Some(at));
        }
        let name = std::str::from_utf8(name).ok().filter(|name| topic_name::is_valid(name));
        let reason = match name {
            Some(name) => format!("sent to `{name}`, which is not among the outputs"),
            None => "sent to a topic whose name is none".to_owned(),
        };
        Err(self.refuse(index, reason))
    }

    /// The guest may go on as if nothing were; the record must not be lost for that.
    fn refuse(&mut self, index: usize, reason: String) -> Refused {
        if self.refused.last().is_none_or(|(last, _)| *last != index) {
            self.refused.push((index, reason));
        }
        Refused::Write
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Refused> {
        let left = self.bytes_left;
        let too_much = Fault::TooMuchOutput { limit: left, unit: "bytes" };
        self.bytes_left = left.checked_sub(bytes).ok_or(Refused::Fault(too_much))?;
        let left = self.records_left;
        let too_many = Refused::Fault(too_many_records(left));
        self.records_left = left.checked_sub(1).ok_or(too_many)?;
        Ok(())
    }

    fn keep(&mut self, piece: Option<&[u8]>) -> Option<Range<usize>> {
        let start = self.arena.len();
        self.arena.extend_from_slice(piece?);
        Some(start..self.arena.len())
    }

    /// Hands over the decisions on the records `range` of the stage.
    pub(crate) fn decide(self, range: Range<usize>, gathered: &mut Gathered) {
        (gathered.bytes_left, gathered.records_left) = (self.bytes_left, self.records_left);
        let arena = (gathered.first_arena + gathered.arenas.len()) as u32;
        let span = |piece: &Option<Range<usize>>| match piece {
            // The arena is below the cap on output, far below 4 GiB.
            Some(piece) => Span { arena, start: piece.start as u32, bytes: piece.len() as u32 },
            None => Span::NONE,
        };
        let mut made = self.made.iter().peekable();
        let mut refused = self.refused.iter().peekable();
        for (index, at) in range.enumerate() {
            let Some(row) = self.rows.get(index).filter(|_| index < self.next) else {
                gathered.decide(
                    at,
                    Decision::Failed(
                        FailureReason::Verdict,
                        "the module did not read it".to_owned(),
                    ),
                );
                continue;
            };
            let start = gathered.emitted.len();
            let mut is_as_it_came = false;
            while let Some(one) = made.next_if(|one| one.index == index) {
                is_as_it_came = one.is_as_it_came;
                let row = Row {
                    ordinal: 0,
                    key: span(&one.key),
                    value: span(&one.value),
                    headers: span(&one.headers),
                    header_count: one.header_count,
                    ..*row
                };
                gathered.emitted.push(Emitted { row, output: one.output });
            }
            if let Some((_, reason)) = refused.next_if(|(refused, _)| *refused == index) {
                gathered.emitted.truncate(start);
                gathered.decide(at, Decision::Failed(FailureReason::Verdict, reason.clone()));
            } else if is_as_it_came && gathered.emitted.len() == start + 1 {
                gathered.emitted.truncate(start);
                gathered.decide(at, Decision::Keep(0..0));
            } else {
                gathered.decide(at, Decision::Drop(start..gathered.emitted.len()));
            }
        }
        if !self.arena.is_empty() {
            gathered.arenas.push(Bytes::from(self.arena));
        }
    }
}
