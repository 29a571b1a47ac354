//! One consistent picture of engine and storage, taken on their thread between two events.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond_engine::{DeriveView, Engine, GroupOffsets};
use millpond_storage::disk::RealDisk;
use millpond_storage::{
    DurableEngine, LATENCY_BOUNDS_US, LatencyHistogram, StorageMetrics, WriteCause,
};
use millpond_wire::limits;

use super::engine_handle::Question;
use super::shell::NodeShell;
use crate::metrics::Snapshot;
use crate::metrics::snapshot::{
    DeriveState, EngineCounts, GroupOffset, GroupState, PartitionState, SpaceState, StorageState,
};

/// What the rules of access say; `None`: there are none.
pub(super) fn may(
    engine: &DurableEngine<RealDisk, NodeShell>,
    question: &Question,
) -> Option<bool> {
    let Question { principal, host, operation, resource, name } = question;
    engine.with_engine(|engine| {
        let may = || engine.allows(principal, host, *operation, *resource, name);
        engine.keeps_rules().then(may)
    })
}

/// Takes the picture.
pub(super) fn take(engine: &DurableEngine<RealDisk, NodeShell>) -> Snapshot {
    let metrics = engine.metrics();
    let mono_ms = engine.mono_ms();
    engine.with_engine(|engine| {
        let config = engine.config();
        let address = config.advertised.values().next();
        Snapshot {
            node_id: config.node_id,
            address: address.map(|a| format!("{}:{}", a.host, a.port)).unwrap_or_default(),
            partitions: partitions(engine),
            groups: groups(engine),
            derives: derives(engine),
            engine: counts(engine),
            storage: storage(&metrics),
            space: space(engine, mono_ms),
        }
    })
}

fn partitions(engine: &Engine) -> Vec<PartitionState> {
    let topics = engine.catalog().iter();
    topics
        .flat_map(|topic| {
            (0..).zip(&topic.partitions).map(|(index, partition)| PartitionState {
                topic: topic.name.clone(),
                partition: index,
                log_start: partition.log_start(),
                high_watermark: partition.high_watermark(),
                tail_bytes: partition.tail_bytes() as u64,
            })
        })
        .collect()
}

fn groups(engine: &Engine) -> Vec<GroupState> {
    let groups = engine.groups().into_iter();
    groups
        .map(|group| {
            let offsets = engine.offsets().group(&group.id);
            GroupState {
                state: group.state.name(),
                protocol: group.kind.name(),
                members: group.members.len() as u64,
                offsets: offsets.map(|o| committed(engine, &group.id, o)).unwrap_or_default(),
                group: group.id,
            }
        })
        .collect()
}

fn committed(engine: &Engine, group: &str, offsets: &GroupOffsets) -> Vec<GroupOffset> {
    let found = offsets.offsets.iter().filter_map(|(key, committed)| {
        let topic = engine.catalog().by_id(key.topic_id)?;
        Some(GroupOffset {
            topic: topic.name.clone(),
            partition: key.partition,
            committed: committed.offset,
            lag: engine.lag(group, *key)?,
        })
    });
    found.collect()
}

fn derives(engine: &Engine) -> Vec<DeriveState> {
    let state = |view: DeriveView| DeriveState {
        transform: view.transform,
        topic: view.topic,
        partition: view.partition.partition,
        lag: view.lag,
        failures: u64::from(view.failures),
        fault: view.fault,
        pause_ms: view.pause_ms,
        next_offset: view.next_offset,
        is_running: view.is_running,
    };
    engine.derives().into_iter().map(state).collect()
}

fn counts(engine: &Engine) -> EngineCounts {
    let counters = engine.counters();
    let (throttled_connections, held_requests) = engine.throttled_len();
    let (fetch_sessions, fetch_sessions_evicted) = engine.fetch_sessions_len();
    let (producers, producers_evicted) = engine.producers_len();
    let ids = engine.transactional_ids_by_state().into_iter();
    let transactional_ids: Vec<_> = ids.map(|(state, n)| (state.name(), n as u64)).collect();
    EngineCounts {
        records_in: counters.records_in,
        bytes_in: counters.bytes_in,
        records_appended: counters.records_appended,
        bytes_appended: counters.bytes_appended,
        bytes_out: counters.bytes_out,
        duplicates: counters.duplicates,
        produce_refusals: counters.produce_refusals,
        rebalances: counters.rebalances,
        tail_bytes: engine.tail_bytes() as u64,
        waiting_fetches: engine.waiters_len() as u64,
        transforming_batches: engine.transforming_len() as u64,
        derived_batches: counters.derive_batches,
        derive_failures: counters.derive_failures,
        derive_records_gone: counters.derive_records_gone,
        idle_jobs: counters.idle_jobs,
        throttled_requests: counters.requests_throttled,
        throttle_seconds: Duration::from_millis(counters.throttle_ms).as_secs_f64(),
        denials: engine.denials().map(|(api, count)| (api.name(), count)).collect(),
        throttled_connections: throttled_connections as u64,
        held_requests: held_requests as u64,
        fetch_sessions: fetch_sessions as u64,
        fetch_sessions_max: limits::FETCH_SESSIONS_MAX as u64,
        fetch_sessions_evicted,
        transactional_ids,
        open_transactions: engine.open_transactions_len() as u64,
        transactions_committed: counters.transactions_committed,
        transactions_aborted: counters.transactions_aborted,
        transactions_timed_out: counters.transactions_timed_out,
        producers: producers as u64,
        producers_evicted,
    }
}

fn storage(metrics: &StorageMetrics) -> StorageState {
    let by_cause = |values: &[u64]| {
        WriteCause::ALL.iter().map(|c| c.name()).zip(values.iter().copied()).collect()
    };
    StorageState {
        backend: metrics.backend.to_owned(),
        payload_bytes: metrics.payload_bytes,
        written_bytes: by_cause(&metrics.written_bytes),
        syncs: by_cause(&metrics.syncs),
        commit_buckets: buckets(&metrics.commit_latency),
        commit_seconds_sum: seconds(metrics.commit_latency.sum_us),
        commits: metrics.commit_latency.count,
        journal_commits: metrics.commits,
        checkpoints: metrics.checkpoints,
        journal_used_bytes: metrics.journal_used_bytes,
        journal_size_bytes: metrics.journal_size_bytes,
        history_bytes: metrics.history_bytes,
        history_faults: metrics.history_faults,
        segment_bytes: metrics.segment_bytes,
        packed_from_bytes: metrics.packed_from_bytes,
        packed_to_bytes: metrics.packed_to_bytes,
        checkpoints_refused: metrics.checkpoints_refused,
        scrubbed_bytes: metrics.scrubbed_bytes,
        scrub_rounds: metrics.scrub_rounds,
        scrub_damaged_segments: metrics.scrub_damaged_segments,
        compaction_rounds: metrics.compaction.rounds,
        compaction_read_bytes: metrics.compaction.read_bytes,
        compaction_removed_records: metrics.compaction.superseded_records
            + metrics.compaction.expired_tombstones
            + metrics.compaction.aborted_records,
        compaction_waiting: metrics.compaction.partitions_waiting,
        compaction_damaged: metrics.compaction.partitions_damaged,
        damaged_entries: metrics.recovery.damaged_entries,
        corrected_bits: metrics.recovery.corrected_bits,
    }
}

fn space(engine: &Engine, mono_ms: u64) -> SpaceState {
    let (space, unsynced) = (engine.space(), engine.unsynced(mono_ms));
    let ms = |ms: u64| std::time::Duration::from_millis(ms).as_secs_f64();
    let mut lost: BTreeMap<(String, i32), u64> = BTreeMap::new();
    for range in engine.lost_ranges() {
        let key = range.partition;
        let topic = engine.catalog().by_id(key.topic_id).map(|topic| topic.name.clone());
        let offsets = u64::try_from(range.upto - range.from).unwrap_or(0);
        *lost.entry((topic.unwrap_or_default(), key.partition)).or_default() += offsets;
    }
    SpaceState {
        used_bytes: space.used_bytes,
        budget_bytes: space.budget_bytes,
        soft_bytes: space.soft_bytes,
        hard_bytes: space.hard_bytes,
        free_bytes: space.free_bytes,
        is_refusing: space.is_refusing,
        refused_batches: space.refused_batches,
        full_in_seconds: space.full_in_ms.map(ms),
        unsynced_records: unsynced.records,
        unsynced_bytes: unsynced.bytes,
        unsynced_oldest_seconds: ms(unsynced.oldest_age_ms),
        lost: lost.into_iter().map(|((topic, index), n)| (topic, index, n)).collect(),
    }
}

/// Cumulative, as Prometheus wants them; the last bucket is the count.
fn buckets(histogram: &LatencyHistogram) -> Vec<(f64, u64)> {
    let mut below = 0;
    let bounds = LATENCY_BOUNDS_US.iter().zip(&histogram.buckets);
    bounds
        .map(|(bound_us, count)| {
            below += count;
            (seconds(*bound_us), below)
        })
        .collect()
}

fn seconds(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64()
}
