//! Runs a stage on a batch, and when that fails finds the records that made it fail.
//!
//! Only they meet their policy; every other record gets its verdict. What may be spent on that is
//! bounded. It must never give up on a batch without a decision for each record.

use crate::batch_buffer::Input;
use crate::chain::{Stage, Transform};
use crate::fault::Fault;
use crate::guest::Guest;
use crate::instance::{CallFailure, timed};
use crate::logs::LogBuffer;
use crate::stats::StageStats;
use crate::verdicts::{Decision, Gathered};
use millpond_wire::limits as caps;
use std::ops::Range;

/// Why a stage could not run at all: the node's lack, no record's.
#[derive(Debug)]
pub(crate) struct Unavailable(pub(crate) Fault);

/// Decides on each record of `input`.
pub(crate) async fn run_stage(
    stage: &mut Stage,
    input: Input<'_>,
    stats: &mut StageStats,
    logs: &mut LogBuffer,
) -> Result<Gathered, Unavailable> {
    let transform = std::sync::Arc::clone(&stage.transform);
    let bytes = input.rows.iter().map(|row| row.payload_bytes()).sum();
    let ratio = transform.spec().limits.output_ratio;
    let mut run = Run {
        gathered: Gathered::new(input.rows.len(), bytes, input.arenas.len(), ratio),
        stage,
        transform: &transform,
        input,
        stats,
        logs,
        trust_hints: true,
        budget: Budget::of(&transform, input.rows.len()),
    };
    let whole = 0..input.rows.len();
    let cpu_ms = transform.spec().limits.cpu_ms_per_batch;
    let first = run.call(whole.clone(), cpu_ms).await?;
    if let Err(failure) = first {
        run.isolate(whole, failure).await?;
    }
    Ok(run.gathered)
}

struct Run<'a> {
    stage: &'a mut Stage,
    transform: &'a Transform,
    input: Input<'a>,
    gathered: Gathered,
    stats: &'a mut StageStats,
    logs: &'a mut LogBuffer,
    trust_hints: bool,
    budget: Budget,
}

/// A call that failed, and whether its instance had run anything before.
struct Failed {
    failure: CallFailure,
    fresh: bool,
}

impl Run<'_> {
    /// One call; the instance survives only if it succeeds.
    async fn call(
        &mut self,
        range: Range<usize>,
        cpu_ms: u64,
    ) -> Result<Result<(), Failed>, Unavailable> {
        let mut instance = match self.stage.instance.take() {
            Some(instance) => instance,
            None => match self.start().await {
                Ok(instance) => instance,
                Err(fault @ Fault::Unavailable { .. }) => return Err(Unavailable(fault)),
                Err(fault) => {
                    let failure = CallFailure { fault, hint: None };
                    return Ok(Err(Failed { failure, fresh: true }));
                }
            },
        };
        let fresh = instance.is_fresh();
        let call = instance.call(self.input, range, cpu_ms, self.transform, &mut self.gathered);
        let (result, spent) = timed(call).await;
        self.stats.calls += 1;
        self.stats.cpu += spent;
        self.budget.spent_ms += instance.beats_used();
        self.logs.append(instance.take_logs());
        match result {
            Ok(()) => {
                self.stage.instance = Some(instance);
                Ok(Ok(()))
            }
            Err(CallFailure { fault: fault @ Fault::Unavailable { .. }, .. }) => {
                Err(Unavailable(fault))
            }
            Err(failure) => {
                self.stats.faults += 1;
                self.stats.overruns += u64::from(matches!(failure.fault, Fault::Overrun { .. }));
                Ok(Err(Failed { failure, fresh }))
            }
        }
    }

    async fn start(&mut self) -> Result<Guest, Fault> {
        let (started, spent) = timed(Guest::start(self.transform, self.input.topic)).await;
        self.stats.instances_started += 1;
        self.stats.cpu += spent;
        let mut instance = started?;
        self.budget.spent_ms += instance.beats_used();
        self.logs.append(instance.take_logs());
        Ok(instance)
    }

    /// Takes the failed range apart until each of its records is decided on.
    async fn isolate(&mut self, whole: Range<usize>, first: Failed) -> Result<(), Unavailable> {
        self.budget.spent_ms = 0;
        let mut parts = Vec::new();
        self.take_apart(whole, first, &mut parts).await?;
        while let Some(range) = parts.pop() {
            let Some(cpu_ms) = self.budget.for_call(range.len()) else {
                self.fail(range, &Fault::NotTried);
                continue;
            };
            if let Err(failed) = self.call(range.clone(), cpu_ms).await? {
                self.take_apart(range, failed, &mut parts).await?;
            }
        }
        Ok(())
    }

    /// What to do next about a range that failed.
    async fn take_apart(
        &mut self,
        range: Range<usize>,
        failed: Failed,
        parts: &mut Vec<Range<usize>>,
    ) -> Result<(), Unavailable> {
        let CallFailure { fault, hint } = failed.failure;
        if let Fault::Init(_) = fault {
            // It is no record's fault, and it would fail on each of them.
            self.fail(range, &fault);
            return Ok(());
        }
        if range.len() <= 1 {
            return self.retry_alone(range, fault, failed.fresh).await;
        }
        if let Some(hint) = hint.filter(|_| self.trust_hints) {
            let suspect = range.start + hint;
            let alone = suspect..suspect + 1;
            let Some(cpu_ms) = self.budget.for_call(1) else {
                self.fail(range, &Fault::NotTried);
                return Ok(());
            };
            if let Err(failed) = self.call(alone.clone(), cpu_ms).await? {
                let CallFailure { fault, .. } = failed.failure;
                self.retry_alone(alone, fault, failed.fresh).await?;
                push(parts, suspect + 1..range.end);
                push(parts, range.start..suspect);
                return Ok(());
            }
            // Either the hint was a lie, or what came before makes the difference.
            self.trust_hints = false;
            push(parts, suspect + 1..range.end);
            push(parts, range.start..suspect);
            return Ok(());
        }
        let middle = range.start + range.len() / 2;
        push(parts, middle..range.end);
        push(parts, range.start..middle);
        Ok(())
    }

    /// A single record failed: tries again as often as its policy says, and once more if the
    /// instance had a past.
    async fn retry_alone(
        &mut self,
        record: Range<usize>,
        fault: Fault,
        fresh: bool,
    ) -> Result<(), Unavailable> {
        let retries = self.transform.spec().on_failure.retries() + u32::from(!fresh);
        let mut fault = fault;
        for _ in 0..retries {
            let Some(cpu_ms) = self.budget.for_call(1) else {
                break;
            };
            match self.call(record.clone(), cpu_ms).await? {
                Ok(()) => return Ok(()),
                Err(failed) => fault = failed.failure.fault,
            }
        }
        self.fail(record, &fault);
        Ok(())
    }

    fn fail(&mut self, range: Range<usize>, fault: &Fault) {
        let mut reason = fault.to_string();
        let cut = reason.floor_char_boundary(caps::TRANSFORM_ERROR_BYTES_MAX);
        reason.truncate(cut);
        for index in range {
            self.gathered.decide(index, Decision::Failed(reason.clone()));
        }
    }
}

fn push(parts: &mut Vec<Range<usize>>, range: Range<usize>) {
    if !range.is_empty() {
        parts.push(range);
    }
}

/// What may be spent on isolation. Time is counted in beats that found a guest running, so that a
/// machine which is busy with other things does not make records pay for it.
struct Budget {
    records: usize,
    batch_ms: u64,
    spent_ms: u64,
    calls_left: usize,
}

impl Budget {
    fn of(transform: &Transform, records: usize) -> Self {
        Budget {
            records,
            batch_ms: transform.spec().limits.cpu_ms_per_batch,
            spent_ms: 0,
            calls_left: caps::TRANSFORM_ISOLATION_RUNS_MAX,
        }
    }

    /// CPU time in ms for a call on so many records: their share of the batch's, but not less
    /// than what one alone may have. `None`: all is spent.
    fn for_call(&mut self, records: usize) -> Option<u64> {
        let total_ms = self.batch_ms * caps::TRANSFORM_ISOLATION_CPU_FACTOR;
        let left = total_ms.saturating_sub(self.spent_ms);
        self.calls_left = self.calls_left.checked_sub(1)?;
        let share = self.batch_ms * records as u64 / self.records.max(1) as u64;
        let alone = (self.batch_ms / caps::TRANSFORM_RECORD_CPU_DIVISOR)
            .max(caps::TRANSFORM_RECORD_CPU_MS_MIN)
            .min(self.batch_ms);
        (left > 0).then(|| share.max(alone).min(left))
    }
}
