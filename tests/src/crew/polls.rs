//! Fetches as a consumer makes them: values by offset, what was aborted left out, and where it reads
//! on. Never hides a gap: that is the checker's.

use super::{nonsense, succeeded};
use crate::checker::event::{Log, Place};
use crate::kafka::{CallError, Kafka};
use millpond_wire::limits;
use millpond_wire::messages::Response;
use millpond_wire::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use millpond_wire::messages::fetch_response::PartitionData;
use millpond_wire::record::LogBatch;
use std::collections::BTreeSet;

const FETCH: i16 = 11;
const BATCHES_MAX: usize = 100_000;

/// What a poll brought.
#[derive(Debug)]
pub struct Polled {
    /// By offset.
    pub records: Vec<(i64, String)>,
    /// Where to read on.
    pub next: i64,
}

impl Kafka {
    /// What stands from `from` on, about `max_bytes` of it.
    pub fn poll(
        &mut self,
        place: &Place,
        from: i64,
        is_committed: bool,
        max_bytes: i32,
    ) -> Result<Polled, CallError> {
        let asked = FetchPartition {
            partition: place.1,
            current_leader_epoch: -1,
            fetch_offset: from,
            partition_max_bytes: max_bytes,
            ..Default::default()
        };
        let topic =
            FetchTopic { topic: place.0.clone(), partitions: vec![asked], ..Default::default() };
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: 50,
            min_bytes: 1,
            max_bytes,
            isolation_level: i8::from(is_committed),
            session_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let Response::Fetch(answer) = self.call(FETCH, request.into())? else {
            return nonsense("not a fetch response");
        };
        succeeded(answer.error_code)?;
        let topic = answer.responses.into_iter().next();
        let Some(data) = topic.and_then(|topic| topic.partitions.into_iter().next()) else {
            return nonsense("no partition in the answer");
        };
        succeeded(data.error_code)?;
        polled_in(&data, from, is_committed)
    }

    /// All that stands in a place up to its end of now, in both views.
    pub fn whole_log(&mut self, place: &Place) -> Result<Log, CallError> {
        let end = self.list_offset(&place.0, place.1, -1)?;
        let mut log = Log::default();
        for (is_committed, view) in [(false, &mut log.all), (true, &mut log.committed)] {
            let mut from = 0;
            while from < end {
                let polled = self.poll(place, from, is_committed, 4 << 20)?;
                if polled.next <= from {
                    let what = format!("nothing at {from}, committed {is_committed}, end {end}");
                    return Err(CallError::Nonsense(what));
                }
                view.extend(polled.records);
                from = polled.next;
            }
        }
        Ok(log)
    }
}

fn polled_in(data: &PartitionData, from: i64, is_committed: bool) -> Result<Polled, CallError> {
    let bad = |error: String| CallError::Nonsense(format!("fetched at {from}: {error}"));
    let mut aborted = data.aborted_transactions.clone().unwrap_or_default();
    aborted.sort_by_key(|one| one.first_offset);
    let mut aborted = aborted.into_iter().peekable();
    let mut left_out = BTreeSet::new();
    let bytes = data.records.as_ref().map(|records| records.to_bytes()).unwrap_or_default();
    let batches = LogBatch::split(bytes, BATCHES_MAX).map_err(|error| bad(error.to_string()))?;
    let mut polled = Polled { records: Vec::new(), next: from };
    for batch in batches {
        let header = batch.header();
        while let Some(one) = aborted.next_if(|one| one.first_offset <= batch.last_offset()) {
            left_out.insert(one.producer_id);
        }
        polled.next = batch.next_offset();
        let is_in = header.attributes.is_transactional();
        if header.attributes.is_control() {
            left_out.remove(&header.producer_id);
        } else if !(is_committed && is_in && left_out.contains(&header.producer_id)) {
            take_values(&batch, from, &mut polled.records).map_err(bad)?;
        }
    }
    Ok(polled)
}

fn take_values(
    batch: &LogBatch,
    from: i64,
    records: &mut Vec<(i64, String)>,
) -> Result<(), String> {
    let plain = batch.to_batch().map_err(|error| error.to_string())?;
    let section = plain.decompress(limits::DECOMPRESSED_BYTES_MAX);
    let section = section.map_err(|error| error.to_string())?;
    for record in plain.records(&section) {
        let record = record.map_err(|error| error.to_string())?;
        let at = batch.base_offset() + i64::from(record.offset_delta);
        if at >= from {
            let value = record.value.unwrap_or_default();
            records.push((at, String::from_utf8_lossy(value).into_owned()));
        }
    }
    Ok(())
}
