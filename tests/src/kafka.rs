//! A small blocking Kafka client over plain TCP, straight on the wire crate: the tests' own eyes,
//! so that what is judged does not pass through the client that made the load. Never retries and
//! never hides an error: whatever goes wrong is in the result.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use millpond_wire::frame::{FrameDecoder, decode_response, encode_request};
use millpond_wire::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use millpond_wire::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use millpond_wire::messages::delete_topics_request::DeleteTopicsRequest;
use millpond_wire::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use millpond_wire::messages::init_producer_id_request::InitProducerIdRequest;
use millpond_wire::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use millpond_wire::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millpond_wire::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestTopic};
use millpond_wire::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use millpond_wire::messages::{Request, Response};
use millpond_wire::record::{BatchBuilder, Codec, HEADER_BYTES, LogBatch, Record};
use millpond_wire::{ErrorCode, limits};

/// Versions that every broker of the last years speaks.
const PRODUCE: i16 = 9;
const FETCH: i16 = 11;
const LIST_OFFSETS: i16 = 4;
const CREATE_TOPICS: i16 = 5;
const DELETE_TOPICS: i16 = 4;
const DELETE_RECORDS: i16 = 1;
const INIT_PRODUCER_ID: i16 = 1;
const OFFSET_COMMIT: i16 = 7;
const OFFSET_FETCH: i16 = 5;

/// Why a call failed.
#[derive(Debug)]
pub enum CallError {
    /// The connection broke, or nothing came in time.
    Socket(std::io::Error),
    /// The broker answered with this code.
    Code(ErrorCode),
    /// The answer makes no sense.
    Nonsense(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Socket(error) => write!(out, "{error}"),
            CallError::Code(code) => write!(out, "the broker answered {code:?}"),
            CallError::Nonsense(what) => write!(out, "{what}"),
        }
    }
}

impl From<std::io::Error> for CallError {
    fn from(error: std::io::Error) -> CallError {
        CallError::Socket(error)
    }
}

/// A record as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<(String, Bytes)>,
}

impl Found {
    /// Its value as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }
}

/// One connection.
pub struct Kafka {
    stream: TcpStream,
    frames: FrameDecoder,
    correlation_id: i32,
}

impl Kafka {
    /// Connect; a call that is not answered within `patience` fails.
    pub fn connect(address: SocketAddr, patience: Duration) -> Result<Kafka, CallError> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Kafka { stream, frames: FrameDecoder::for_responses(), correlation_id: 0 })
    }

    /// Send a request and wait for its answer.
    pub fn call(&mut self, version: i16, request: Request) -> Result<Response, CallError> {
        self.correlation_id += 1;
        let api = request.api_key();
        let frame = encode_request(version, self.correlation_id, Some("millpond-tests"), &request)
            .map_err(|error| CallError::Nonsense(error.to_string()))?;
        self.stream.write_all(&frame.concat())?;
        let frame = self.next_frame()?;
        let (correlation_id, response) = decode_response(api, version, frame)
            .map_err(|error| CallError::Nonsense(error.to_string()))?;
        if correlation_id != self.correlation_id {
            let asked = self.correlation_id;
            let what = format!("correlation id {correlation_id} for {asked}");
            return Err(CallError::Nonsense(what));
        }
        Ok(response)
    }

    fn next_frame(&mut self) -> Result<Bytes, CallError> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let frame = self.frames.next_frame();
            if let Some(frame) = frame.map_err(|error| CallError::Nonsense(error.to_string()))? {
                return Ok(frame);
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
                count => self.frames.extend(&buffer[..count]),
            }
        }
    }

    /// Create a topic; one that exists is an error.
    pub fn create_topic(&mut self, name: &str, partitions: i32) -> Result<(), CallError> {
        self.create_topic_with(name, partitions, &[])
    }

    /// Create a topic with settings.
    pub fn create_topic_with(
        &mut self,
        name: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<(), CallError> {
        let setting = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
        };
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: settings.iter().map(setting).collect(),
            ..Default::default()
        };
        let request =
            CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        match self.call(CREATE_TOPICS, request.into())? {
            Response::CreateTopics(answer) => {
                let code = answer.topics.first().map_or(-1, |topic| topic.error_code);
                succeeded(code)
            }
            other => Err(nonsense(&other)),
        }
    }

    /// Delete a topic; one that does not exist is an error.
    pub fn delete_topic(&mut self, name: &str) -> Result<(), CallError> {
        let request = DeleteTopicsRequest {
            topic_names: vec![name.into()],
            timeout_ms: 10_000,
            ..Default::default()
        };
        match self.call(DELETE_TOPICS, request.into())? {
            Response::DeleteTopics(answer) => {
                let code = answer.responses.first().map_or(-1, |topic| topic.error_code);
                succeeded(code)
            }
            other => Err(nonsense(&other)),
        }
    }

    /// Delete the records below `offset`; the log start that is left.
    pub fn delete_records(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<i64, CallError> {
        let asked = DeleteRecordsPartition { partition_index: partition, offset };
        let topic = DeleteRecordsTopic { name: topic.into(), partitions: vec![asked] };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 10_000 };
        let Response::DeleteRecords(answer) = self.call(DELETE_RECORDS, request.into())? else {
            return Err(CallError::Nonsense("not a delete records response".into()));
        };
        let topic = answer.topics.into_iter().next();
        match topic.and_then(|topic| topic.partitions.into_iter().next()) {
            Some(partition) => succeeded(partition.error_code).map(|()| partition.low_watermark),
            None => Err(CallError::Nonsense("no partition in the answer".into())),
        }
    }

    /// An id and an epoch for an idempotent producer.
    pub fn new_producer_id(&mut self) -> Result<(i64, i16), CallError> {
        let request =
            InitProducerIdRequest { transaction_timeout_ms: 60_000, ..Default::default() };
        let Response::InitProducerId(answer) = self.call(INIT_PRODUCER_ID, request.into())? else {
            return Err(CallError::Nonsense("not an init producer id response".into()));
        };
        succeeded(answer.error_code).map(|()| (answer.producer_id, answer.producer_epoch))
    }

    /// Create a topic of one partition and produce one value to it; its offset.
    pub fn produce_new_topic(&mut self, topic: &str, value: &[u8]) -> Result<i64, CallError> {
        self.create_topic(topic, 1)?;
        self.produce(topic, 0, &[value])
    }

    /// Produce uncompressed values with `acks=all` in one batch; the offset of the first.
    pub fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        values: &[&[u8]],
    ) -> Result<i64, CallError> {
        let mut builder = BatchBuilder::new(Codec::None, None);
        for value in values {
            let pushed = builder.push(now_ms(), None, Some(value), &[]);
            pushed.map_err(|error| CallError::Nonsense(error.to_string()))?;
        }
        let batch = builder.build().map_err(|error| CallError::Nonsense(error.to_string()))?;
        self.produce_bytes(topic, partition, batch)
    }

    /// Produce these bytes, whatever they are, with `acks=all`; the base offset.
    pub fn produce_bytes(
        &mut self,
        topic: &str,
        partition: i32,
        records: Bytes,
    ) -> Result<i64, CallError> {
        let data = PartitionProduceData { index: partition, records: Some(records) };
        let topic = TopicProduceData {
            name: topic.into(),
            partition_data: vec![data],
            ..Default::default()
        };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![topic],
            ..Default::default()
        };
        let Response::Produce(answer) = self.call(PRODUCE, request.into())? else {
            return Err(CallError::Nonsense("not a produce response".into()));
        };
        let topic = answer.responses.into_iter().next();
        match topic.and_then(|topic| topic.partition_responses.into_iter().next()) {
            Some(partition) => succeeded(partition.error_code).map(|()| partition.base_offset),
            None => Err(CallError::Nonsense("a produce response without a partition".into())),
        }
    }

    /// The offset of the earliest record (`at` -2), or behind the latest (`at` -1).
    pub fn list_offset(&mut self, topic: &str, partition: i32, at: i64) -> Result<i64, CallError> {
        let asked = ListOffsetsPartition {
            partition_index: partition,
            current_leader_epoch: -1,
            timestamp: at,
        };
        let topics = vec![ListOffsetsTopic { name: topic.into(), partitions: vec![asked] }];
        let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        let Response::ListOffsets(answer) = self.call(LIST_OFFSETS, request.into())? else {
            return Err(CallError::Nonsense("not a list offsets response".into()));
        };
        let topic = answer.topics.into_iter().next();
        match topic.and_then(|topic| topic.partitions.into_iter().next()) {
            Some(partition) => succeeded(partition.error_code).map(|()| partition.offset),
            None => Err(CallError::Nonsense("no partition in the answer".into())),
        }
    }

    /// Every record from `offset` up to the high watermark of this moment.
    pub fn read(
        &mut self,
        topic: &str,
        partition: i32,
        mut offset: i64,
    ) -> Result<Vec<Found>, CallError> {
        let end = self.list_offset(topic, partition, -1)?;
        let mut found = Vec::new();
        while offset < end {
            let next = self.fetch(topic, partition, offset, &mut found)?;
            if next <= offset {
                let what = format!("nothing served at {offset}, below the end {end}");
                return Err(CallError::Nonsense(what));
            }
            offset = next;
        }
        Ok(found)
    }

    /// What one fetch at `offset` brings, as records; the offset behind its last batch, which may
    /// hold none any more.
    fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        found: &mut Vec<Found>,
    ) -> Result<i64, CallError> {
        records_of(self.fetch_bytes(topic, partition, offset)?, offset, found)
    }

    /// What one fetch at `offset` brings, as it stands in the log.
    pub fn fetch_bytes(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<Bytes, CallError> {
        let asked = FetchPartition {
            partition,
            current_leader_epoch: -1,
            fetch_offset: offset,
            partition_max_bytes: 4 << 20,
            ..Default::default()
        };
        let partitions = vec![asked];
        let topics = vec![FetchTopic { topic: topic.into(), partitions, ..Default::default() }];
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: 5_000,
            min_bytes: 1,
            max_bytes: 8 << 20,
            session_epoch: -1,
            topics,
            ..Default::default()
        };
        let Response::Fetch(answer) = self.call(FETCH, request.into())? else {
            return Err(CallError::Nonsense("not a fetch response".into()));
        };
        succeeded(answer.error_code)?;
        let topic = answer.responses.into_iter().next();
        let Some(data) = topic.and_then(|topic| topic.partitions.into_iter().next()) else {
            return Err(CallError::Nonsense("no partition in the answer".into()));
        };
        succeeded(data.error_code)?;
        Ok(data.records.map(|records| records.to_bytes()).unwrap_or_default())
    }

    /// Commit an offset for a group without members, as a stand-alone consumer does.
    pub fn commit(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), CallError> {
        let committed = OffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: offset,
            committed_leader_epoch: -1,
            ..Default::default()
        };
        let topic = OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![committed],
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let Response::OffsetCommit(answer) = self.call(OFFSET_COMMIT, request.into())? else {
            return Err(CallError::Nonsense("not an offset commit response".into()));
        };
        let topic = answer.topics.into_iter().next();
        match topic.and_then(|topic| topic.partitions.into_iter().next()) {
            Some(partition) => succeeded(partition.error_code),
            None => Err(CallError::Nonsense("no partition in the answer".into())),
        }
    }

    /// The offset that a group has committed, -1 for none.
    pub fn committed(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Result<i64, CallError> {
        let topic =
            OffsetFetchRequestTopic { name: topic.into(), partition_indexes: vec![partition] };
        let request = OffsetFetchRequest {
            group_id: group.into(),
            topics: Some(vec![topic]),
            ..Default::default()
        };
        let Response::OffsetFetch(answer) = self.call(OFFSET_FETCH, request.into())? else {
            return Err(CallError::Nonsense("not an offset fetch response".into()));
        };
        succeeded(answer.error_code)?;
        let topic = answer.topics.into_iter().next();
        match topic.and_then(|topic| topic.partitions.into_iter().next()) {
            Some(found) => succeeded(found.error_code).map(|()| found.committed_offset),
            None => Err(CallError::Nonsense("no partition in the answer".into())),
        }
    }
}

/// The records of fetched bytes from `offset` on, and the offset behind them. A last batch that is
/// cut off is left out, as every consumer does.
fn records_of(mut rest: Bytes, offset: i64, found: &mut Vec<Found>) -> Result<i64, CallError> {
    let bad = |what: String| CallError::Nonsense(format!("fetched at {offset}: {what}"));
    let mut next = offset;
    while let Some(size) = whole_batch(&rest) {
        let batch = LogBatch::parse(rest.split_to(size)).map_err(|error| bad(error.to_string()))?;
        let base = batch.base_offset();
        next = batch.next_offset();
        let batch = batch.to_batch().map_err(|error| bad(error.to_string()))?;
        let section = batch.decompress(limits::DECOMPRESSED_BYTES_MAX);
        let section = section.map_err(|error| bad(error.to_string()))?;
        for record in batch.records(&section) {
            let record = record.map_err(|error| bad(error.to_string()))?;
            let at = base + i64::from(record.offset_delta);
            if at >= offset {
                found.push(found_record(at, &record));
            }
        }
    }
    Ok(next)
}

fn found_record(offset: i64, record: &Record<'_>) -> Found {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = record
        .headers
        .clone()
        .map(|header| (text(header.key), Bytes::copy_from_slice(header.value.unwrap_or_default())));
    Found {
        offset,
        timestamp_ms: record.timestamp,
        key: record.key.map(Bytes::copy_from_slice),
        value: record.value.map(Bytes::copy_from_slice),
        headers: headers.collect(),
    }
}

/// The size of the first batch, if it is there as a whole.
fn whole_batch(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(8..12)?;
    let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
    let size = 12 + usize::try_from(length).ok()?;
    (bytes.len() >= HEADER_BYTES && bytes.len() >= size).then_some(size)
}

fn succeeded(code: i16) -> Result<(), CallError> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        Some(code) => Err(CallError::Code(code)),
        None => Err(CallError::Nonsense(format!("error code {code}"))),
    }
}

fn nonsense(response: &Response) -> CallError {
    CallError::Nonsense(format!("an answer of {:?}", response.api_key()))
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis() as i64)
}
