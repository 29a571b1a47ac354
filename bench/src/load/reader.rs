//! A consumer that does nothing with what it gets: fetches one partition from its start to its
//! end over TCP, one request after the other, and counts bytes. It must never ask for less than a
//! real consumer in a hurry would.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use millpond_wire::limits;
use millpond_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use millpond_wire::messages::{FetchRequest, Response};
use millpond_wire::record::LogBatch;

use super::conversation::{Conversation, accepted, other_answer};
use crate::error::{BenchError, Context, Outcome};

const FETCH_VERSION: i16 = 12;

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// Bytes of batches as they came.
    pub(crate) batch_bytes: u64,
    /// Records in them.
    pub(crate) records: u64,
    /// How long it took.
    pub(crate) seconds: f64,
}

/// Reads a partition from its first record to its high watermark.
pub(crate) fn read_partition(broker: SocketAddr, topic: &str, partition: i32) -> Outcome<Reading> {
    read_until(broker, topic, partition, None)
}

/// The same, but no further than it comes until then.
pub(crate) fn read_until(
    broker: SocketAddr,
    topic: &str,
    partition: i32,
    until: Option<Instant>,
) -> Outcome<Reading> {
    let mut broker = Conversation::with(broker)?;
    let started = Instant::now();
    let mut reading = Reading::default();
    let mut offset = 0;
    loop {
        let answer = fetch(&mut broker, topic, partition, offset)?;
        for batch in &answer.batches {
            reading.batch_bytes += batch.size_bytes() as u64;
            reading.records += u64::from(batch.header().records_count.unsigned_abs());
            offset = batch.next_offset();
        }
        let is_over = until.is_some_and(|until| Instant::now() >= until);
        if offset >= answer.high_watermark || is_over {
            reading.seconds = started.elapsed().as_secs_f64();
            return Ok(reading);
        }
        if answer.batches.is_empty() {
            let why = format!("nothing at offset {offset} of {}", answer.high_watermark);
            return Err(BenchError::new("reading history", why));
        }
    }
}

struct Answer {
    batches: Vec<LogBatch>,
    high_watermark: i64,
}

fn fetch(broker: &mut Conversation, topic: &str, partition: i32, offset: i64) -> Outcome<Answer> {
    let bytes_max = i32::try_from(limits::FETCH_BYTES_MAX).context("a size")?;
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: bytes_max,
        topics: vec![FetchTopic {
            topic: topic.to_owned(),
            partitions: vec![FetchPartition {
                partition,
                current_leader_epoch: -1,
                fetch_offset: offset,
                partition_max_bytes: bytes_max,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = broker.call(FETCH_VERSION, request)?;
    let Response::Fetch(fetched) = answer else { return Err(other_answer(&answer)) };
    let mut parts = fetched.responses.into_iter().flat_map(|topic| topic.partitions);
    let part = parts.next().context("a partition in the answer")?;
    accepted("a fetch", part.error_code)?;
    let whole = whole_batches(part.records.map(|records| records.to_bytes()).unwrap_or_default());
    let batches = LogBatch::split(whole, limits::BATCHES_PER_SPLIT_MAX);
    let batches = batches.context("batches of the answer")?;
    Ok(Answer { batches, high_watermark: part.high_watermark })
}

/// Without the beginning of a batch at the end, which some brokers send where a limit cut the answer.
fn whole_batches(mut batches: Bytes) -> Bytes {
    // The base offset, then the length of what comes after the length.
    const BASE_BYTES: usize = 8;
    const HEAD_BYTES: usize = BASE_BYTES + 4;
    let mut end = 0;
    while let Some(length) = batches.get(end + BASE_BYTES..).and_then(|rest| rest.first_chunk()) {
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        match end.checked_add(HEAD_BYTES).and_then(|begun| begun.checked_add(length)) {
            Some(next) if next <= batches.len() => end = next,
            _ => break,
        }
    }
    batches.truncate(end);
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Telemetry;

    #[test]
    fn the_beginning_of_a_batch_at_the_end_is_left_for_the_next_fetch() {
        let batch = Telemetry::new(1).batch(2, 200).unwrap();
        let two = [&batch[..], &batch[..]].concat();
        for cut in [0, 1, 11, 12, 60] {
            let answer = Bytes::from([&two[..], &batch[..cut]].concat());
            assert_eq!(whole_batches(answer), two, "{cut}");
        }
        assert_eq!(whole_batches(Bytes::from(two.clone())), two);
        assert!(whole_batches(Bytes::from_static(&[0xff; 100])).is_empty());
    }
}
