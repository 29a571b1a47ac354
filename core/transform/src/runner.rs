//! Runs a chain on a batch, or on the passing of time alone.
//!
//! Each record ends in exactly one of: kept, dropped by a module, replaced by what a module made
//! of it, or given to the failure policy. It must never change a batch of which all records are
//! kept, and never leave a trace in the state of a run that is refused.

use crate::batch_buffer::StageInput;
use crate::chain::{Chain, Stage, StateMissing, Transform};
use crate::dead_letters::DeadLetters;
use crate::fault::{FailureReason, Fault};
use crate::horizon::Horizon;
use crate::isolate::{Unavailable, run_stage};
use crate::logs::{Level, LogBuffer, LogLine};
use crate::outcome::{Outcome, OutputTopic};
use crate::policy::OnFailure;
use crate::rebuild;
use crate::rows::{self, Row};
use crate::shared::Shared;
use crate::state::StateChange;
use crate::stats::StageStats;
use crate::timers;
use crate::verdicts::{Decision, Gathered};
use bytes::Bytes;
use millpond_wire::ErrorCode;
use millpond_wire::limits as caps;
use millpond_wire::record::Batch;
use std::collections::BTreeMap;

/// What a chain is to be run on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Input<'a> {
    /// The batch; `None`: no records have come for a while.
    pub batch: Option<&'a Batch>,
    /// Records that were sent to the partition before.
    pub input_count: u64,
    /// Without a batch: time since the last record by the node's clock, in ms.
    pub idle_ms: Option<u64>,
    /// Where several topics share the state: which of them this is.
    pub shared: Option<Shared<'a>>,
    /// What the node's clock says, ms since 1970; `None`: it was never set, or nothing is stored of
    /// what comes out, and each record's time is believed.
    pub now_ms: Option<i64>,
}

/// What a run did.
#[derive(Debug, Clone)]
pub struct Report {
    /// What becomes of the batch.
    pub outcome: Outcome,
    /// One for each transform, in their order, up to one that refuses the batch; one that had
    /// nothing to do was called 0 times.
    pub stages: Vec<StageStats>,
    /// What the modules logged, and what failed.
    pub logs: Vec<LogLine>,
    /// What the run changed in the state of the stages that keep some: to be journalled with the
    /// outcome. If it is not, [`Chain::forget_state`] must be called.
    pub state: Vec<StageChanges>,
    /// Timers are due that had no room in this run: run the chain again, without a batch.
    pub timers_left: bool,
}

/// What a run changed in one stage's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageChanges {
    /// The stage's place in the chain.
    pub stage: usize,
    /// One for each key that has another value now, in the order of the keys.
    pub changes: Vec<StateChange>,
}

/// Runs a chain. It yields to other tasks each millisecond while a module computes. A future that
/// is dropped half-way leaves stages without state, which must be loaded again.
pub async fn run(chain: &mut Chain, input: Input<'_>) -> Report {
    let mut report = Report {
        outcome: Outcome::Untouched,
        stages: Vec::new(),
        logs: Vec::new(),
        state: Vec::new(),
        timers_left: false,
    };
    match run_chain(chain, input, &mut report).await {
        Ok(outcome) => {
            report.outcome = outcome;
            commit(chain, &mut report);
        }
        Err(Rejected { code, message }) => {
            report.outcome = Outcome::Rejected { code, message };
            chain.stages.iter_mut().for_each(Stage::roll_back_run);
            report.timers_left = false;
        }
    }
    report
}

fn commit(chain: &mut Chain, report: &mut Report) {
    for (index, stage) in chain.stages.iter_mut().enumerate() {
        let Some(state) = &mut stage.state else {
            continue;
        };
        let changes = state.commit_run();
        if let Some(stats) = report.stages.get_mut(index) {
            stats.state_changes = changes.len() as u64;
        }
        if !changes.is_empty() {
            report.state.push(StageChanges { stage: index, changes });
        }
    }
}

/// Ends a run: the batch is refused.
struct Rejected {
    code: ErrorCode,
    message: String,
}

impl From<StateMissing> for Rejected {
    fn from(StateMissing(transform): StateMissing) -> Self {
        Rejected {
            code: ErrorCode::KafkaStorageError,
            message: format!("the state of the transform `{transform}` is not loaded; try again"),
        }
    }
}

async fn run_chain(
    chain: &mut Chain,
    input: Input<'_>,
    report: &mut Report,
) -> Result<Outcome, Rejected> {
    for stage in &mut chain.stages {
        stage.begin_run()?;
    }
    let mut flow = Flow::of(input.batch)?;
    let horizon = Horizon::of(&flow.rows, input.now_ms);
    let place = Place {
        topic: input.shared.map_or(&chain.topic, |shared| shared.topic),
        shared: input.shared,
        partition: chain.partition,
        first_input: input.input_count,
        replay: chain.replay,
        horizon: &horizon,
        idle_ms: match input.batch {
            Some(_) => 0,
            None => input.idle_ms.unwrap_or(0),
        },
    };
    for stage in &mut chain.stages {
        flow.run_stage(stage, place, report).await?;
    }
    if !flow.touched {
        return Ok(Outcome::Untouched);
    }
    flow.into_outputs(input.batch)
}

/// What all stages of a run have in common.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) first_input: u64,
    replay: bool,
    shared: Option<Shared<'a>>,
    horizon: &'a Horizon,
    idle_ms: u64,
}

/// The records on their way.
pub(crate) struct Flow {
    rows: Vec<Row>,
    pub(crate) arenas: Vec<Bytes>,
    /// Records that left the chain for other topics.
    pub(crate) aside: BTreeMap<String, Vec<Row>>,
    touched: bool,
    /// Origin of the next timer that fires: those of the batch's records come first.
    next_origin: u32,
}

/// A stage and what is written down about it.
struct At<'a> {
    transform: &'a Transform,
    place: Place<'a>,
    stats: &'a mut StageStats,
    logs: &'a mut LogBuffer,
}

impl Flow {
    fn of(batch: Option<&Batch>) -> Result<Self, Rejected> {
        let mut flow = Flow {
            rows: Vec::new(),
            arenas: Vec::new(),
            aside: BTreeMap::new(),
            touched: false,
            next_origin: 0,
        };
        let Some(batch) = batch else {
            return Ok(flow);
        };
        let corrupt = |error| Rejected {
            code: ErrorCode::CorruptMessage,
            message: format!("the batch cannot be read for its transforms: {error}"),
        };
        if batch.records_count() as usize > caps::TRANSFORM_INPUT_RECORDS_MAX {
            let max = caps::TRANSFORM_INPUT_RECORDS_MAX;
            let count = batch.records_count();
            let message = format!("a batch of {count} records: up to {max} go through transforms");
            return Err(Rejected { code: ErrorCode::RecordListTooLarge, message });
        }
        let section = batch.decompress(caps::DECOMPRESSED_BYTES_MAX).map_err(corrupt)?;
        flow.rows = rows::of_batch(batch, &section).map_err(corrupt)?;
        flow.arenas.push(section);
        flow.next_origin = flow.rows.len() as u32;
        Ok(flow)
    }

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
            bytes_in: payload_bytes(&self.rows),
            ..StageStats::default()
        };
        let mut logs = LogBuffer::default();
        let mut at = At { transform: &transform, place, stats: &mut stats, logs: &mut logs };
        let running = transform.host().running();
        let result = self.run_records_and_timers(stage, &mut at).await;
        drop(running);
        if let Ok(timers_left) = result {
            report.timers_left |= timers_left;
        }
        stats.memory_bytes = stage.memory_bytes() as u64;
        stats.state_bytes = stage.state_bytes() as u64;
        stats.bytes_out += payload_bytes(&self.rows);
        stats.log_lines_dropped = logs.dropped;
        report.logs.extend(logs.lines.into_iter().map(|(level, text)| LogLine {
            level,
            transform: stats.transform.clone(),
            partition: place.partition,
            text,
        }));
        report.stages.push(stats);
        result.map(drop)
    }

    /// The records that came, then time, which goes on with them. Whether timers are left.
    async fn run_records_and_timers(
        &mut self,
        stage: &mut Stage,
        at: &mut At<'_>,
    ) -> Result<bool, Rejected> {
        let ahead_ms = stage.limits.watermark_ahead_ms_max;
        let seen_ms = at.place.horizon.greatest_ms(&self.rows, ahead_ms);
        if !self.rows.is_empty() {
            let gathered = self.gather(stage, None, at).await?;
            let rows = std::mem::take(&mut self.rows);
            self.apply(rows, gathered, at)?;
        }
        let Some(state) = &mut stage.state else {
            return Ok(false);
        };
        let (idle_ms, delay_ms) = (at.place.idle_ms, stage.limits.watermark_delay_ms);
        match at.place.shared {
            Some(shared) => state.advance_shared(seen_ms, idle_ms, delay_ms, shared),
            None => state.advance(seen_ms, idle_ms, delay_ms),
        }
        let timers_left = self.run_timers(stage, at).await?;
        if let Some(state) = &mut stage.state {
            at.stats.expired += state.expire(caps::TRANSFORM_EXPIRIES_PER_RUN_MAX) as u64;
        }
        Ok(timers_left)
    }

    /// Timers that are due, in rounds: those of one may set others. Whether some are left.
    async fn run_timers(&mut self, stage: &mut Stage, at: &mut At<'_>) -> Result<bool, Rejected> {
        if !at.transform.module().has_timers() {
            return Ok(false);
        }
        let bytes_before = payload_bytes(&self.rows);
        for _ in 0..caps::TRANSFORM_TIMER_ROUNDS_MAX {
            let Some(state) = &mut stage.state else {
                return Ok(false);
            };
            let due = state.take_due(caps::TRANSFORM_TIMERS_PER_CALL_MAX);
            if due.is_empty() {
                break;
            }
            at.stats.timers += due.len() as u64;
            let arena = self.arenas.len() as u32;
            let (rows, keys) = timers::rows_of(&due, arena, self.next_origin);
            self.arenas.push(keys);
            self.next_origin = self.next_origin.saturating_add(rows.len() as u32);
            let gathered = self.gather(stage, Some(&rows), at).await?;
            self.apply_timers(rows, gathered, at);
            let made = payload_bytes(&self.rows).saturating_sub(bytes_before);
            if made > caps::TRANSFORM_TIMER_OUTPUT_BYTES as u64
                || self.rows.len() > caps::TRANSFORM_INPUT_RECORDS_MAX / 2
            {
                break;
            }
        }
        Ok(stage.state.as_ref().is_some_and(|state| state.has_due()))
    }

    async fn gather(
        &self,
        stage: &mut Stage,
        timers: Option<&[Row]>,
        at: &mut At<'_>,
    ) -> Result<Gathered, Rejected> {
        let watermark = stage.state.as_ref().map(|state| state.watermark_ms());
        let input = StageInput {
            rows: timers.unwrap_or(&self.rows),
            arenas: &self.arenas,
            topic: at.place.topic,
            partition: at.place.partition,
            first_input: at.place.first_input,
            seed: stage.seed,
            timers: timers.is_some(),
            replay: at.place.replay,
            watermark_ms: watermark.unwrap_or(crate::abi::NO_WATERMARK),
            state_bytes: stage.state_bytes(),
        };
        // Retriable for every client; nothing was stored.
        run_stage(stage, input, at.stats, at.logs).await.map_err(|Unavailable(fault)| Rejected {
            code: ErrorCode::RequestTimedOut,
            message: fault.to_string(),
        })
    }

    /// Turns decisions into the records of the next stage.
    fn apply(
        &mut self,
        rows: Vec<Row>,
        gathered: Gathered,
        at: &mut At<'_>,
    ) -> Result<(), Rejected> {
        let all_kept = Decision::Keep(0..0);
        if gathered.decisions.iter().all(|decision| decision.as_ref() == Some(&all_kept)) {
            at.stats.kept += rows.len() as u64;
            self.rows = rows;
            return Ok(());
        }
        self.arenas.extend(gathered.arenas);
        let mut letters = DeadLetters::new(at.transform, at.place);
        let mut ordinals = Ordinals::default();
        for (row, decision) in rows.into_iter().zip(gathered.decisions) {
            let emits = match decision {
                Some(Decision::Keep(emits)) => {
                    at.stats.kept += 1;
                    self.touched |= !emits.is_empty();
                    self.rows.push(ordinals.number(row));
                    emits
                }
                Some(Decision::Drop(emits)) => {
                    at.stats.dropped += 1;
                    at.stats.replaced += u64::from(!emits.is_empty());
                    self.touched = true;
                    emits
                }
                failed => {
                    at.stats.failed += 1;
                    let (reason, words) = failure(failed);
                    at.stats.failures.add(reason, 1);
                    note_failure(at, &format!("record {}", at.input_number(&row)), &words);
                    match at.transform.spec().on_failure.then {
                        OnFailure::Pass => self.rows.push(ordinals.number(row)),
                        OnFailure::Skip => self.touched = true,
                        OnFailure::DeadLetter => {
                            self.touched = true;
                            at.stats.bytes_out += row.payload_bytes() as u64;
                            letters.push(row, &words, &self.arenas);
                        }
                        OnFailure::Reject => return Err(reject(at.transform, &row, &words)),
                    }
                    continue;
                }
            };
            let emitted = gathered.emitted.get(emits).unwrap_or_default();
            self.emit(emitted, &mut ordinals, at);
        }
        letters.into_flow(self);
        Ok(())
    }

    /// Turns what was decided on timers into records. A timer goes nowhere by itself. One that
    /// failed meets no policy that would let it fail for ever, or make a record of it: it becomes a
    /// dead letter, or is left out.
    fn apply_timers(&mut self, rows: Vec<Row>, gathered: Gathered, at: &mut At<'_>) {
        self.arenas.extend(gathered.arenas);
        let mut letters = DeadLetters::new(at.transform, at.place);
        let mut ordinals = Ordinals::default();
        for (row, decision) in rows.into_iter().zip(gathered.decisions) {
            match decision {
                Some(Decision::Keep(emits) | Decision::Drop(emits)) => {
                    self.touched |= !emits.is_empty();
                    let emitted = gathered.emitted.get(emits).unwrap_or_default();
                    self.emit(emitted, &mut ordinals, at);
                }
                failed => {
                    at.stats.timers_failed += 1;
                    let (reason, words) = failure(failed);
                    at.stats.failures.add(reason, 1);
                    note_failure(at, &format!("timer of {}", row.timestamp_ms), &words);
                    match at.transform.spec().on_failure.then {
                        OnFailure::DeadLetter | OnFailure::Reject => {
                            self.touched = true;
                            letters.push(row, &words, &self.arenas);
                        }
                        OnFailure::Skip | OnFailure::Pass => {}
                    }
                }
            }
        }
        letters.into_flow(self);
    }

    fn emit(
        &mut self,
        emitted: &[crate::verdicts::Emitted],
        ordinals: &mut Ordinals,
        at: &mut At<'_>,
    ) {
        at.stats.emitted += emitted.len() as u64;
        for emitted in emitted {
            let outputs = &at.transform.spec().outputs;
            let output = emitted.output.and_then(|index| outputs.get(index));
            match output.filter(|topic| *topic != at.place.topic) {
                None => self.rows.push(ordinals.number(emitted.row)),
                Some(topic) => {
                    at.stats.routed += 1;
                    at.stats.bytes_out += emitted.row.payload_bytes() as u64;
                    self.aside.entry(topic.clone()).or_default().push(emitted.row);
                }
            }
        }
    }

    fn into_outputs(self, came: Option<&Batch>) -> Result<Outcome, Rejected> {
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

impl At<'_> {
    fn input_number(&self, row: &Row) -> u64 {
        self.place.first_input + u64::from(row.origin)
    }
}

fn payload_bytes(rows: &[Row]) -> u64 {
    rows.iter().map(|row| row.payload_bytes() as u64).sum()
}

fn failure(decision: Option<Decision>) -> (FailureReason, String) {
    match decision {
        Some(Decision::Failed(reason, words)) => (reason, words),
        _ => (Fault::NotTried.reason(), "no decision".to_string()),
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

fn note_failure(at: &mut At<'_>, what: &str, words: &str) {
    let policy = at.transform.spec().on_failure.then.name();
    let text = format!("{what}: {words} ({policy})");
    at.logs.push(Level::Error, text.as_bytes(), &at.transform.log_quota());
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
