//! Where the engine's state of a transform and the host's meet: pages of a changelog into a chain, and
//! changes out of it. The host's side is in the six functions at the end, each of which says what it
//! will call; all else is ready.

use std::collections::BTreeMap;

use bytes::Bytes;
use millpond_engine::transform::{StateBatch, TransformJob};
use millpond_engine::{TransformId, read_state, state_batches};
use millpond_transform::{Chain, CompiledModule, Outcome, Report};

use crate::serve::EngineHandle;

/// Gives a chain the state that it keeps and has not in memory, as of the last result.
///
/// # Errors
/// Why it cannot be had: the job is to be tried again.
pub(super) async fn load(
    engine: &EngineHandle,
    chain: &mut Chain,
    job: &TransformJob,
) -> Result<(), String> {
    for stage in wanted(chain) {
        let Some(transform) = job.chain.get(stage) else { continue };
        let entries = read(engine, job, *transform).await?;
        give(chain, stage, entries)?;
    }
    Ok(())
}

/// The state of one transform of a job, from the first page to the last.
async fn read(
    engine: &EngineHandle,
    job: &TransformJob,
    transform: TransformId,
) -> Result<BTreeMap<Bytes, Bytes>, String> {
    let (mut state, mut from) = (BTreeMap::new(), 0);
    loop {
        let page = engine.read_state(job.ticket, transform, from).await;
        let page = page.map_err(|gone| gone.to_string())??;
        read_state(&page.records, &mut state).map_err(|e| format!("its state is damaged: {e}"))?;
        if page.is_end {
            return Ok(state);
        }
        from = page.next;
    }
}

/// What a run changed, for the changelogs.
///
/// # Errors
/// A change that fits no batch: the chain must forget it.
pub(super) fn changes(report: &Report, job: &TransformJob) -> Result<Vec<StateBatch>, String> {
    let timestamp_ms = job.batch.as_ref().map_or(-1, |batch| batch.header().max_timestamp);
    let mut all = Vec::new();
    for (stage, changed) in changed(report) {
        let Some(transform) = job.chain.get(stage) else { continue };
        let changed = changed.iter().map(|(key, value)| (&key[..], value.as_deref()));
        let batches = state_batches(*transform, changed, timestamp_ms);
        all.extend(batches.map_err(|e| format!("its state cannot be kept: {e}"))?);
    }
    Ok(all)
}

type Changed = Vec<(Bytes, Option<Bytes>)>;

/// Whether a module asks for state: it imports `state_*` or `timer_*`.
pub(super) fn keeps_state(_module: &CompiledModule) -> bool {
    false
}

/// `Chain::forget_state`.
pub(super) fn forget(_chain: &mut Chain) {}

/// `Chain::state_wanted`.
fn wanted(_chain: &Chain) -> Vec<usize> {
    Vec::new()
}

/// `Chain::load_state`.
fn give(_chain: &mut Chain, _stage: usize, _state: BTreeMap<Bytes, Bytes>) -> Result<(), String> {
    Ok(())
}

/// `Report.state`, by stage.
fn changed(_report: &Report) -> Vec<(usize, Changed)> {
    Vec::new()
}

/// `run` with `Input { batch, input_count, idle_ms }`.
pub(super) async fn run(chain: &mut Chain, job: &TransformJob) -> Report {
    match &job.batch {
        Some(batch) => millpond_transform::run(chain, batch, job.input_count).await,
        // Without state time changes nothing.
        None => Report { outcome: Outcome::Untouched, stages: Vec::new(), logs: Vec::new() },
    }
}
