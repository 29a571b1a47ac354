//! Requests, encoded before the clock starts, so that the generator costs as little as it can; and
//! what is expected back for them.

use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use millpond_wire::frame::{FrameDecoder, decode_response};
use millpond_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millpond_wire::messages::{ProduceRequest, Request, Response};
use millpond_wire::{ApiKey, ErrorCode};

use super::answers::{Answers, Language};
use super::conversation::{frame_of, other_answer};
use super::{mqtt, nats};
use crate::error::{BenchError, Context, Outcome};
use crate::payload::{Telemetry, batch_of};

/// The version of Produce that is spoken: the first with flexible fields.
pub(crate) const PRODUCE_VERSION: i16 = 9;
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

/// What is to come back for each request of a kind.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    /// The version that is spoken.
    pub(crate) version: i16,
    /// Whether an answer says that all was done.
    pub(crate) check: fn(Response) -> Outcome<()>,
}

/// Produce requests.
const TAKEN: Expected = Expected { version: PRODUCE_VERSION, check: is_taken };

/// Requests of one kind, each a whole frame, to be sent round and round.
pub(crate) struct Frames {
    frames: Vec<Bytes>,
    shape: Shape,
    language: Language,
    api: ApiKey,
    expected: Expected,
    stride: Option<usize>,
}

/// What records say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Counters and text of which no two are alike.
    Mixed,
    /// What a device sends again and again, a little changed.
    Readings,
}

/// Requests to build: what they carry, and by how many lines they are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// What each request carries.
    pub(crate) shape: Shape,
    /// What its records say.
    pub(crate) content: Content,
    /// Connections at the most; where there are more of them than partitions, each keeps to one.
    pub(crate) lines: usize,
    /// Different requests for each of them at the least.
    pub(crate) each: usize,
}

impl Frames {
    /// Requests to produce in any language, spread evenly over the partitions of `topic`.
    pub(crate) fn in_language(
        language: Language,
        topic: &str,
        partitions: usize,
        order: Order,
    ) -> Outcome<Self> {
        let Order { shape, content, lines, each } = order;
        let partitions = partitions.max(1);
        let stride = if lines > partitions { lines.next_multiple_of(partitions) } else { lines };
        let mut telemetry = Telemetry::new(0x6d69_6c6c);
        let mut frames = Vec::with_capacity(stride * each);
        for index in 0..stride * each {
            let (line, partition) = (index % stride, index % partitions);
            let values: Vec<Vec<u8>> = (0..shape.records)
                .map(|_| match content {
                    Content::Mixed => telemetry.value(shape.value_bytes),
                    Content::Readings => telemetry.reading(line, shape.value_bytes),
                })
                .collect();
            frames.push(match language {
                Language::Kafka => {
                    let batch = batch_of(&values)?;
                    frame(topic, i32::try_from(partition).context("a partition")?, batch)?
                }
                Language::Nats => nats::request(topic, partition, line, &values),
                Language::Mqtt => mqtt::request(topic, partition, index, &values),
            });
        }
        let stride = Some(stride);
        Ok(Self { frames, shape, language, api: ApiKey::Produce, expected: TAKEN, stride })
    }

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
        Ok(Self::of_kafka(frames, shape, ApiKey::Produce, TAKEN))
    }

    /// Requests of one batch each, made by the caller; `payload_bytes` of the shape is what each
    /// batch takes, header included.
    pub(crate) fn of_batches(topic: &str, partitions: usize, batches: Vec<Bytes>) -> Outcome<Self> {
        Self::over_topics(&[topic.to_owned()], partitions, batches)
    }

    /// The same over several topics of so many partitions each.
    pub(crate) fn over_topics(
        topics: &[String],
        partitions: usize,
        batches: Vec<Bytes>,
    ) -> Outcome<Self> {
        let value_bytes = batches.iter().map(Bytes::len).sum::<usize>() / batches.len().max(1);
        let mut frames = Vec::with_capacity(batches.len());
        for (index, batch) in batches.into_iter().enumerate() {
            let partition = i32::try_from(index % partitions.max(1)).context("a partition")?;
            let topic = topics.get(index / partitions.max(1) % topics.len().max(1));
            frames.push(frame(topic.context("a topic")?, partition, batch)?);
        }
        let shape = Shape { records: 1, value_bytes };
        Ok(Self::of_kafka(frames, shape, ApiKey::Produce, TAKEN))
    }

    /// Requests of any kind, all of the same.
    pub(crate) fn of_requests(requests: &[Request], expected: Expected) -> Outcome<Self> {
        let api = requests.first().context("requests")?.api_key();
        let frames = requests.iter().map(|request| frame_of(expected.version, request));
        let frames = frames.collect::<Outcome<Vec<_>>>()?;
        Ok(Self::of_kafka(frames, Shape { records: 0, value_bytes: 0 }, api, expected))
    }

    fn of_kafka(frames: Vec<Bytes>, shape: Shape, api: ApiKey, expected: Expected) -> Self {
        Self { frames, shape, language: Language::Kafka, api, expected, stride: None }
    }

    /// Connects as the n-th line of a load.
    pub(crate) fn connect(&self, broker: SocketAddr, line: usize) -> Outcome<TcpStream> {
        self.language.connect(broker, line)
    }

    /// What comes back over one connection.
    pub(crate) fn answers(&self) -> Answers {
        match self.language {
            Language::Kafka => Answers::Kafka {
                decoder: FrameDecoder::for_responses(),
                api: self.api,
                expected: self.expected,
            },
            Language::Nats => Answers::Nats(nats::Acks::of_requests_of(self.shape.records)),
            Language::Mqtt => Answers::Mqtt(mqtt::Acks::of_requests_of(self.shape.records)),
        }
    }

    /// How far apart the requests of one of `lines` lie.
    pub(crate) fn stride(&self, lines: usize) -> usize {
        self.stride.unwrap_or(lines).max(1)
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

/// One produce request of one batch with acks = -1, as a frame.
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
    frame_of(PRODUCE_VERSION, &request)
}

/// Checks that the answer to `frame` says that everything was taken.
pub(crate) fn expect_taken(response: Bytes) -> Outcome<()> {
    let decoded = decode_response(ApiKey::Produce, PRODUCE_VERSION, response);
    is_taken(decoded.context("reading the answer to a produce")?.1)
}

fn is_taken(response: Response) -> Outcome<()> {
    let Response::Produce(produce) = response else { return Err(other_answer(&response)) };
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
