//! Runs a chain on a batch.
//!
//! Each record ends in exactly one of: kept, dropped by a module, replaced by what a module made
//! of it, or given to the failure policy. It must never change a batch of which all records are
//! kept.

use crate::batch_buffer::Input;
use crate::chain::{Chain, Stage, Transform};
use crate::headers;
use crate::isolate::{Unavailable, run_stage};
use crate::logs::{Level, LogBuffer, LogLine};
use crate::outcome::{Outcome, OutputTopic};
use crate::policy::OnFailure;
use crate::rebuild;
use crate::rows::{self, Row, Span};
use crate::stats::StageStats;
use crate::verdicts::{Decision, Gathered};
use bytes::Bytes;
use millpond_wire::ErrorCode;
use millpond_wire::limits as caps;
use millpond_wire::record::Batch;
use std::collections::BTreeMap;

/// What a run did.
#[derive(Debug, Clone)]
pub struct Report {
    /// What becomes of the batch.
    pub outcome: Outcome,
    /// One for each transform that ran.
    pub stages: Vec<StageStats>,
    /// What the modules logged, and what failed.
    pub logs: Vec<LogLine>,
}

/// Runs a chain on a batch, of which `first_input` records were sent to the partition before. It
/// yields to other tasks each millisecond while a module computes.
pub async fn run(chain: &mut Chain, batch: &Batch, first_input: u64) -> Report {
    let mut report = Report { outcome: Outcome::Untouched, stages: Vec::new(), logs: Vec::new() };
    report.outcome = match run_chain(chain, batch, first_input, &mut report).await {
        Ok(outcome) => outcome,
        Err(Rejected { code, message }) => Outcome::Rejected { code, message },
    };
    report
}

/// Ends a run: the batch is refused.
struct Rejected {
    code: ErrorCode,
    message: String,
}

async fn run_chain(
    chain: &mut Chain,
    batch: &Batch,
    first_input: u64,
    report: &mut Report,
) -> Result<Outcome, Rejected> {
    let corrupt = |error| Rejected {
        code: ErrorCode::CorruptMessage,
        message: format!("the batch cannot be read for its transforms: {error}"),
    };
    if batch.records_count() as usize > caps::TRANSFORM_INPUT_RECORDS_MAX {
        let max = caps::TRANSFORM_INPUT_RECORDS_MAX;
        let message = format!(
            "a batch of {} records: up to {max} go through transforms",
            batch.records_count()
        );
        return Err(Rejected { code: ErrorCode::RecordListTooLarge, message });
    }
    let section = batch.decompress(caps::DECOMPRESSED_BYTES_MAX).map_err(corrupt)?;
    let mut flow = Flow {
        rows: rows::of_batch(batch, &section).map_err(corrupt)?,
        arenas: vec![section],
        aside: BTreeMap::new(),
        touched: false,
    };
    for stage in &mut chain.stages {
        if flow.rows.is_empty() {
            break;
        }
        let place = Place { topic: &chain.topic, partition: chain.partition, first_input };
        flow.run_stage(stage, place, report).await?;
    }
    if !flow.touched {
        return Ok(Outcome::Untouched);
    }
    flow.into_outputs(batch)
}

#[derive(Clone, Copy)]
struct Place<'a> {
    topic: &'a str,
    partition: i32,
    first_input: u64,
}

/// The records on their way.
struct Flow {
    rows: Vec<Row>,
    arenas: Vec<Bytes>,
    /// Records that left the chain for other topics.
    aside: BTreeMap<String, Vec<Row>>,
    touched: bool,
}

impl Flow {
    async fn run_stage(
        &mut self,
        stage: &mut Stage,
        place: Place<'_>,
        report: &mut Report,
    ) -> Result<(), Rejected> {
        let transform = std::sync::Arc::clone(&stage.transform);
        let mut stats = StageStats {
            transform: transform.spec().name.clone(),
            records_in: self.rows.len() as u64,
            ..StageStats::default()
        };
        let mut logs = LogBuffer::default();
        let input = Input {
            rows: &self.rows,
            arenas: &self.arenas,
            topic: place.topic,
            partition: place.partition,
            first_input: place.first_input,
            seed: stage.seed,
        };
        let running = transform.host().running();
        let gathered = run_stage(stage, input, &mut stats, &mut logs).await;
        drop(running);
        let applied = match gathered {
            Ok(gathered) => self.apply(gathered, &transform, place, &mut stats, &mut logs),
            // Retriable for every client; nothing was stored.
            Err(Unavailable(fault)) => {
                Err(Rejected { code: ErrorCode::RequestTimedOut, message: fault.to_string() })
            }
        };
        stats.log_lines_dropped = logs.dropped;
        report.logs.extend(logs.lines.into_iter().map(|(level, text)| LogLine {
            level,
            transform: stats.transform.clone(),
            partition: place.partition,
            text,
        }));
        report.stages.push(stats);
        applied
    }

    /// Turns decisions into the records of the next stage.
    fn apply(
        &mut self,
        gathered: Gathered,
        transform: &Transform,
        place: Place<'_>,
        stats: &mut StageStats,
        logs: &mut LogBuffer,
    ) -> Result<(), Rejected> {
        let all_kept = Decision::Keep(0..0);
        if gathered.decisions.iter().all(|decision| decision.as_ref() == Some(&all_kept)) {
            stats.kept += self.rows.len() as u64;
            return Ok(());
        }
        self.arenas.extend(gathered.arenas);
        let rows = std::mem::take(&mut self.rows);
        let mut letters = DeadLetters::new(transform, place);
        let mut ordinals = Ordinals::default();
        for (row, decision) in rows.into_iter().zip(gathered.decisions) {
            let emits = match decision {
                Some(Decision::Keep(emits)) => {
                    stats.kept += 1;
                    self.touched |= !emits.is_empty();
                    self.rows.push(ordinals.number(row));
                    emits
                }
                Some(Decision::Drop(emits)) => {
                    stats.dropped += 1;
                    self.touched = true;
                    emits
                }
                failed => {
                    stats.failed += 1;
                    let reason = match &failed {
                        Some(Decision::Failed(reason)) => reason.as_str(),
                        _ => "no decision",
                    };
                    note_failure(
                        logs,
                        transform,
                        place.first_input + u64::from(row.origin),
                        reason,
                    );
                    match transform.spec().on_failure.then {
                        OnFailure::Pass => self.rows.push(ordinals.number(row)),
                        OnFailure::Skip => self.touched = true,
                        OnFailure::DeadLetter => {
                            self.touched = true;
                            letters.push(row, reason, &self.arenas);
                        }
                        OnFailure::Reject => return Err(reject(transform, &row, reason)),
                    }
                    continue;
                }
            };
            stats.emitted += emits.len() as u64;
            for emitted in gathered.emitted.get(emits).unwrap_or_default() {
                let output = emitted.output.and_then(|index| transform.spec().outputs.get(index));
                match output.filter(|topic| *topic != place.topic) {
                    None => self.rows.push(ordinals.number(emitted.row)),
                    Some(topic) => {
                        self.aside.entry(topic.clone()).or_default().push(emitted.row);
                    }
                }
            }
        }
        letters.into_flow(self);
        Ok(())
    }

    fn into_outputs(self, came: &Batch) -> Result<Outcome, Rejected> {
        let mut outputs = Vec::new();
        let same = (OutputTopic::Same, self.rows);
        let aside = self.aside.into_iter().map(|(topic, rows)| (OutputTopic::Named(topic), rows));
        for (topic, rows) in std::iter::once(same).chain(aside) {
            rebuild::rebuild(came, &rows, &self.arenas, &topic, &mut outputs)
                .map_err(|error| Rejected { code: error.code(), message: error.to_string() })?;
        }
        Ok(Outcome::Changed { outputs })
    }
}

/// Counts the records that are made of one.
#[derive(Default)]
struct Ordinals {
    origin: Option<u32>,
    next: u32,
}

impl Ordinals {
    fn number(&mut self, mut row: Row) -> Row {
        if self.origin != Some(row.origin) {
            self.origin = Some(row.origin);
            self.next = 0;
        }
        row.ordinal = self.next;
        self.next += 1;
        row
    }
}

fn note_failure(logs: &mut LogBuffer, transform: &Transform, input_number: u64, reason: &str) {
    let policy = transform.spec().on_failure.then.name();
    let text = format!("record {input_number}: {reason} ({policy})");
    logs.push(Level::Error, text.as_bytes(), &transform.log_quota());
}

fn reject(transform: &Transform, row: &Row, reason: &str) -> Rejected {
    Rejected {
        code: ErrorCode::InvalidRecord,
        message: format!(
            "transform `{}` refuses record {} of the batch: {reason}",
            transform.spec().name,
            row.origin
        ),
    }
}

/// Gathers the records that a transform failed on, with headers that say why.
struct DeadLetters<'a> {
    transform: &'a Transform,
    place: Place<'a>,
    rows: Vec<Row>,
    block: Vec<u8>,
}

impl<'a> DeadLetters<'a> {
    fn new(transform: &'a Transform, place: Place<'a>) -> Self {
        DeadLetters { transform, place, rows: Vec::new(), block: Vec::new() }
    }

    /// The record with its own headers first.
    fn push(&mut self, mut row: Row, reason: &str, arenas: &[Bytes]) {
        let spec = self.transform.spec();
        let partition = self.place.partition.to_string();
        let more: [(&str, &str); 5] = [
            ("millpond.error", reason),
            ("millpond.transform", &spec.name),
            ("millpond.version", &spec.version),
            ("millpond.topic", self.place.topic),
            ("millpond.partition", &partition),
        ];
        let own = row.headers.get(arenas).unwrap_or_default();
        let start = self.block.len();
        // A record with as many headers as there may be loses its last ones to the five.
        let own_kept = (row.header_count as usize).min(caps::RECORD_HEADERS_MAX - more.len());
        headers::put_count(&mut self.block, own_kept + more.len());
        let mut walk = headers::walk(own);
        let own_start = walk.position();
        walk.by_ref().take(own_kept).for_each(drop);
        self.block.extend_from_slice(own.get(own_start..walk.position()).unwrap_or_default());
        for (name, value) in more {
            headers::put_header(&mut self.block, name.as_bytes(), Some(value.as_bytes()));
        }
        row.header_count = (own_kept + more.len()) as u32;
        row.headers = Span {
            // Set when the block has its place.
            arena: 0,
            start: start as u32,
            bytes: (self.block.len() - start) as u32,
        };
        self.rows.push(row);
    }

    fn into_flow(self, flow: &mut Flow) {
        if self.rows.is_empty() {
            return;
        }
        let arena = flow.arenas.len() as u32;
        flow.arenas.push(self.block.into());
        let topic = self.transform.dead_letter_topic(self.place.topic);
        let letters = self.rows.into_iter().map(|mut row| {
            row.headers.arena = arena;
            row
        });
        flow.aside.entry(topic).or_default().extend(letters);
    }
}
