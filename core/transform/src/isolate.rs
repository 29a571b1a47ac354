//! Runs a stage on a batch, and when that fails finds the records that made it fail.
//!
//! Only they meet their policy; every other record gets its verdict. What may be spent on that is
//! bounded. It must never give up on a batch without a decision for each record.

use crate::batch_buffer::StageInput;
use crate::chain::{Stage, Transform};
use crate::fault::Fault;
use crate::guest::Guest;
use crate::instance::{CallFailure, timed};
use crate::logs::LogBuffer;
use crate::policy::FailurePolicy;
use crate::stats::StageStats;
use crate::verdicts::{Decision, Gathered};
use millpond_wire::limits as caps;
use std::ops::Range;
use std::time::Duration;

/// Why a stage could not run at all: the node's lack, no record's.
#[derive(Debug)]
pub(crate) struct Unavailable(pub(crate) Fault);

/// Decides on each record of `input`. A call that fails leaves no trace in the stage's state, and
/// records are always run in their order, so that the state is as if those that failed had never
/// come.
pub(crate) async fn run_stage(
    stage: &mut Stage,
    input: StageInput<'_>,
    stats: &mut StageStats,
    logs: &mut LogBuffer,
) -> Result<Gathered, Unavailable> {
    let transform = std::sync::Arc::clone(&stage.transform);
    let limits = stage.limits;
    let bytes = match input.timers {
        true => input.rows.len() * caps::TRANSFORM_TIMER_INPUT_BYTES,
        false => input.rows.iter().map(|row| row.payload_bytes()).sum(),
    };
    let records = input.rows.len();
    let mut run = Run {
        gathered: Gathered::new(records, bytes, input.arenas.len(), limits.output_ratio),
        stage,
        transform: &transform,
        input,
        stats,
        logs,
        trust_hints: true,
        failed_before: false,
        budget: Budget::of(limits.cpu_ms_per_batch, records),
    };
    let whole = 0..records;
    let first = run.call(whole.clone(), limits.cpu_ms_per_batch).await?;
    if let Err(failure) = first {
        run.isolate(whole, failure).await?;
    }
    Ok(run.gathered)
}

struct Run<'a> {
    stage: &'a mut Stage,
    transform: &'a Transform,
    input: StageInput<'a>,
    gathered: Gathered,
    stats: &'a mut StageStats,
    logs: &'a mut LogBuffer,
    trust_hints: bool,
    /// The next instance is made because one has failed.
    failed_before: bool,
    budget: Budget,
}

/// A call that failed, and whether its instance had run anything before.
struct Failed {
    failure: CallFailure,
    fresh: bool,
}

/// Records that are to be run, and what is thought of them.
struct Part {
    range: Range<usize>,
    role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Unknown,
    /// They come before the one that a hint names: they fail only if the hint was a lie.
    Innocent,
    /// The one that a hint names. It gets a fresh instance.
    Suspect,
}

impl Run<'_> {
    /// One call; the instance survives, and the state is changed, only if it succeeds.
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
        let mut state = self.stage.state.take();
        let mut input = self.input;
        if let Some(state) = &mut state {
            state.begin_call();
            input.state_bytes = state.bytes();
        }
        // Whoever drops this future drops the state with the instance: it is then loaded again.
        instance.lend_state(state);
        let call = instance.call(input, range, cpu_ms, self.transform, &mut self.gathered);
        let (result, spent) = timed(call).await;
        let mut state = instance.take_state();
        if let Some(state) = &mut state {
            match &result {
                Ok(()) => state.commit_call(),
                Err(_) => state.roll_back_call(),
            }
        }
        self.stage.state = state;
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
                self.failed_before = true;
                self.stats.faults += 1;
                self.stats.overruns += u64::from(matches!(failure.fault, Fault::Overrun { .. }));
                Ok(Err(Failed { failure, fresh }))
            }
        }
    }

    async fn start(&mut self) -> Result<Guest, Fault> {
        let memory_bytes = self.stage.limits.memory_bytes;
        let start = Guest::start(self.transform, memory_bytes, self.input.topic);
        let (started, spent) = timed(start).await;
        self.stats.instances_started += 1;
        self.stats.instances_restarted += u64::from(self.failed_before);
        self.stats.cpu += spent;
        let mut instance = started?;
        self.budget.spent_ms += instance.beats_used();
        self.logs.append(instance.take_logs());
        Ok(instance)
    }

    /// Takes the failed range apart until each of its records is decided on.
    async fn isolate(&mut self, whole: Range<usize>, first: Failed) -> Result<(), Unavailable> {
        self.budget.spent_ms = 0;
        // The first to be run stands last.
        let mut parts = Vec::new();
        self.take_apart(whole, first, &mut parts).await?;
        while let Some(Part { range, role }) = parts.pop() {
            let Some(cpu_ms) = self.budget.for_call(range.len()) else {
                self.fail(range, &Fault::NotTried);
                continue;
            };
            if role == Role::Suspect {
                self.stage.instance = None;
            }
            match self.call(range.clone(), cpu_ms).await? {
                Ok(()) => self.trust_hints &= role != Role::Suspect,
                Err(failed) => {
                    self.trust_hints &= role != Role::Innocent;
                    self.take_apart(range, failed, &mut parts).await?;
                }
            }
        }
        Ok(())
    }

    /// What to do next about a range that failed.
    async fn take_apart(
        &mut self,
        range: Range<usize>,
        failed: Failed,
        parts: &mut Vec<Part>,
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
            push(parts, suspect + 1..range.end, Role::Unknown);
            push(parts, suspect..suspect + 1, Role::Suspect);
            push(parts, range.start..suspect, Role::Innocent);
            return Ok(());
        }
        let middle = range.start + range.len() / 2;
        push(parts, middle..range.end, Role::Unknown);
        push(parts, range.start..middle, Role::Unknown);
        Ok(())
    }

    /// A single record failed: tries again as often as its policy says if that may help, and once
    /// more if the instance had a past.
    async fn retry_alone(
        &mut self,
        record: Range<usize>,
        fault: Fault,
        fresh: bool,
    ) -> Result<(), Unavailable> {
        let mut fault = fault;
        let mut unspoilt = u32::from(!fresh);
        let mut retries = self.transform.spec().on_failure.retries();
        let mut attempt = 0;
        loop {
            if unspoilt > 0 {
                unspoilt -= 1;
            } else if retries > 0 && fault.may_pass() {
                retries -= 1;
                self.stats.retries += 1;
                let wait = Duration::from_millis(FailurePolicy::wait_ms(attempt));
                tokio::time::sleep(wait).await;
                attempt += 1;
            } else {
                break;
            }
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
        let mut words = fault.to_string();
        let cut = words.floor_char_boundary(caps::TRANSFORM_ERROR_BYTES_MAX);
        words.truncate(cut);
        for index in range {
            self.gathered.decide(index, Decision::Failed(fault.reason(), words.clone()));
        }
    }
}

fn push(parts: &mut Vec<Part>, range: Range<usize>, role: Role) {
    if !range.is_empty() {
        parts.push(Part { range, role });
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
    fn of(batch_ms: u64, records: usize) -> Self {
        Budget { records, batch_ms, spent_ms: 0, calls_left: caps::TRANSFORM_ISOLATION_RUNS_MAX }
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
