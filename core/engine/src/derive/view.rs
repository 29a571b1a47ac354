//! What metrics and people see of derived transforms. Only reads.

use super::{Busy, Lane, LaneId, Source};
use crate::engine::Engine;
use crate::units::PartitionKey;

/// Where a derived transform stands in one partition of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeriveView {
    /// Its name.
    pub transform: String,
    /// The source.
    pub topic: String,
    /// The partition of it.
    pub partition: PartitionKey,
    /// The first offset that it has not been given; -1: its start is being looked for.
    pub next_offset: i64,
    /// Offsets up to the last stable one that it has not been given.
    pub lag: i64,
    /// Failures in a row: it waits and tries again.
    pub failures: u32,
    /// The last of them.
    pub fault: Option<String>,
    /// A batch of it is under way.
    pub is_running: bool,
    /// After a failure: how long until it tries again, ms.
    pub pause_ms: Option<u64>,
}

impl Engine {
    /// All derived transforms, by source partition.
    #[must_use]
    pub fn derives(&self) -> Vec<DeriveView> {
        let lanes = self.derives.lanes.iter();
        lanes.flat_map(|(id, lane)| self.views_of(id, lane)).collect()
    }

    fn views_of(&self, id: &LaneId, lane: &Lane) -> Vec<DeriveView> {
        let of = |source: &Source| {
            let topic = self.state.catalog.by_id(source.partition.topic_id)?;
            let log = self.state.catalog.partition(source.partition)?;
            let cursor = self.state.cursors.get(source.partition, &id.transform);
            let at = cursor.map_or(log.log_start, |cursor| cursor.next.max(source.at));
            Some(DeriveView {
                transform: id.transform.to_string(),
                topic: topic.name.clone(),
                partition: source.partition,
                next_offset: cursor.map_or(-1, |cursor| cursor.next),
                lag: (log.last_stable() - at).max(0),
                failures: lane.failures,
                fault: lane.fault.clone(),
                is_running: matches!(lane.busy, Busy::Running(_)),
                pause_ms: match lane.busy {
                    Busy::Pausing { until_ms } => Some(until_ms.saturating_sub(self.now.mono_ms)),
                    _ => None,
                },
            })
        };
        lane.sources.iter().filter_map(of).collect()
    }
}
