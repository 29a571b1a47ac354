//! Produce requests, encoded before the clock starts, so that the generator costs as little as it
//! can; and what came back for them.

use bytes::Bytes;
use millpond_wire::frame::{decode_response, encode_request};
use millpond_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millpond_wire::messages::{ProduceRequest, Request, Response};
use millpond_wire::{ApiKey, ErrorCode};

use crate::error::{BenchError, Context, Outcome};
use crate::payload::Telemetry;

/// The version of Produce that is spoken: the first with flexible fields.
const PRODUCE_VERSION: i16 = 9;
/// How long the broker may hold a request.
const TIMEOUT_MS: i32 = 30_000;

/// What one request carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Records in its one batch.
    pub(crate) records: usize,
    /// Bytes of each record's value.
    pub(crate) value_bytes: usize,
}

impl Shape {
    /// Bytes of values in one request: what the sender wanted to have stored.
    pub(crate) fn payload_bytes(self) -> usize {
        self.records * self.value_bytes
    }
}

/// Requests, each a whole frame with acks = -1, to be sent round and round.
pub(crate) struct Frames {
    frames: Vec<Bytes>,
    shape: Shape,
}

impl Frames {
    /// `count` different requests, spread evenly over the partitions of `topic`.
    pub(crate) fn build(
        topic: &str,
        partitions: usize,
        count: usize,
        shape: Shape,
    ) -> Outcome<Self> {
        let mut telemetry = Telemetry::new(0x6d69_6c6c);
        let mut frames = Vec::with_capacity(count);
        for index in 0..count {
            let batch = telemetry.batch(shape.records, shape.value_bytes)?;
            let partition = i32::try_from(index % partitions.max(1)).context("a partition")?;
            frames.push(frame(topic, partition, batch)?);
        }
        Ok(Self { frames, shape })
    }

    /// Requests of one batch each, made by the caller; `payload_bytes` of the shape is what each
    /// batch takes, header included.
    pub(crate) fn of_batches(topic: &str, partitions: usize, batches: Vec<Bytes>) -> Outcome<Self> {
        let value_bytes = batches.iter().map(Bytes::len).sum::<usize>() / batches.len().max(1);
        let mut frames = Vec::with_capacity(batches.len());
        for (index, batch) in batches.into_iter().enumerate() {
            let partition = i32::try_from(index % partitions.max(1)).context("a partition")?;
            frames.push(frame(topic, partition, batch)?);
        }
        Ok(Self { frames, shape: Shape { records: 1, value_bytes } })
    }

    /// The n-th request to be sent.
    pub(crate) fn get(&self, index: usize) -> Option<&Bytes> {
        self.frames.get(index.checked_rem(self.frames.len())?)
    }

    /// What each carries.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }
}

/// One produce request of one batch, as a frame.
pub(crate) fn frame(topic: &str, partition: i32, batch: Bytes) -> Outcome<Bytes> {
    let request = Request::Produce(ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: TIMEOUT_MS,
        topic_data: vec![TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![PartitionProduceData { index: partition, records: Some(batch) }],
            ..Default::default()
        }],
    });
    let chunks = encode_request(PRODUCE_VERSION, 0, Some("millpond-bench"), &request);
    Ok(chunks.context("encoding a produce request")?.concat().into())
}

/// Checks that a response says that everything was taken.
pub(crate) fn expect_taken(response: Bytes) -> Outcome<()> {
    let decoded = decode_response(ApiKey::Produce, PRODUCE_VERSION, response);
    let (_, Response::Produce(produce)) = decoded.context("reading the answer to a produce")?
    else {
        return Err(BenchError::new("a produce", "answered by something else"));
    };
    let mut partitions = produce.responses.iter().flat_map(|topic| &topic.partition_responses);
    match partitions.find(|partition| partition.error_code != ErrorCode::None.code()) {
        Some(refused) => {
            let code = ErrorCode::from_code(refused.error_code);
            let message = refused.error_message.as_deref().unwrap_or_default();
            Err(BenchError::new("a produce", format!("refused: {code:?} {message}")))
        }
        None => Ok(()),
    }
}
