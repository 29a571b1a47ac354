//! Where the engine's state of a transform and the host's meet: pages of a changelog into a chain, and
//! changes out of it. Never keeps state of its own.

use std::collections::BTreeMap;

use bytes::Bytes;
use millpond_engine::transform::{StateBatch, TransformJob};
use millpond_engine::{TransformId, read_state, state_batches};
use millpond_transform::{Chain, Report};

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
    for stage in chain.state_wanted() {
        let Some(transform) = job.chain.get(stage) else { continue };
        let entries = read(engine, job, *transform).await?;
        chain.load_state(stage, entries).map_err(|e| e.to_string())?;
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
    for stage in &report.state {
        let Some(transform) = job.chain.get(stage.stage) else { continue };
        let changed = stage.changes.iter().map(|one| (&one.key[..], one.value.as_deref()));
        let batches = state_batches(*transform, changed, timestamp_ms);
        all.extend(batches.map_err(|e| format!("its state cannot be kept: {e}"))?);
    }
    Ok(all)
}
