//! A machine with a node on it: the disk outlives the node, power cuts end the node.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use futures::future::LocalBoxFuture;
use millpond_engine::transform::TransformJob;
use millpond_engine::{
    Effect, EngineConfig, Event, Now, PartitionKey, Peer, RequestId, SessionId, StatePage, Ticket,
};
use millpond_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use millpond_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use millpond_wire::messages::fetch_response::PartitionData;
use millpond_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millpond_wire::messages::produce_response::PartitionProduceResponse;
use millpond_wire::messages::{
    CreateTopicsRequest, FetchRequest, ProduceRequest, Request, Response,
};
use millpond_wire::record::{BatchBuilder, Codec, LogBatch};

use crate::disk::sim::{SimClock, SimDisk, SimExecutor, SimGroup, SimTask};
use crate::{DurableEngine, FatalDiskError, OpenError, Shell, StorageConfig};

/// The node's tasks die together.
pub(super) const NODE: SimGroup = SimGroup(1);

pub(super) type Replies = Rc<RefCell<BTreeMap<RequestId, Option<Response>>>>;
pub(super) type SimEngine = DurableEngine<SimDisk, SimShell>;

/// What the engine asks of the workers of transforms, until a test takes it.
#[derive(Default)]
pub(super) struct Work {
    pub(super) jobs: RefCell<VecDeque<TransformJob>>,
    /// Of state, by the ticket of the job.
    pub(super) pages: RefCell<BTreeMap<Ticket, Result<StatePage, String>>>,
}

pub(super) struct SimShell {
    clock: SimClock,
    replies: Replies,
    work: Rc<Work>,
}

impl Shell for SimShell {
    fn now(&self) -> Now {
        let mono_ms = self.clock.now_ms();
        Now { mono_ms, wall_ms: 1_700_000_000_000 + mono_ms as i64 }
    }

    fn sleep_until_ms(&self, mono_ms: u64) -> LocalBoxFuture<'static, ()> {
        Box::pin(self.clock.sleep_until_ms(mono_ms))
    }

    fn effect(&self, effect: Effect) {
        match effect {
            Effect::Reply { id, response } => {
                assert!(self.replies.borrow_mut().insert(id, response).is_none(), "answered twice");
            }
            Effect::Transform(job) => self.work.jobs.borrow_mut().push_back(job),
            Effect::StateRead { ticket, page, .. } => {
                self.work.pages.borrow_mut().insert(ticket, page);
            }
            _ => {}
        }
    }

    fn mono_us(&self) -> u64 {
        self.clock.now_ns() / 1000
    }
}

pub(super) struct Machine {
    pub(super) executor: SimExecutor,
    pub(super) clock: SimClock,
    pub(super) disk: SimDisk,
    pub(super) storage: StorageConfig,
    pub(super) config: EngineConfig,
    /// Of the node that was started last.
    work: RefCell<Rc<Work>>,
}

/// A node that runs.
pub(super) struct Node {
    pub(super) engine: Rc<SimEngine>,
    pub(super) run: SimTask<Result<(), FatalDiskError>>,
    pub(super) replies: Replies,
    pub(super) work: Rc<Work>,
    executor: SimExecutor,
    next_id: RefCell<u64>,
}

impl Machine {
    pub(super) fn new(seed: u64) -> Machine {
        let executor = SimExecutor::new(seed);
        let clock = executor.clock();
        let disk = SimDisk::new(clock.clone(), seed ^ 0xD15C);
        let storage = StorageConfig::small(0xF00D);
        let config = EngineConfig { tail_retain_bytes: 0, ..EngineConfig::default() };
        Machine { executor, clock, disk, storage, config, work: RefCell::default() }
    }

    pub(super) fn begin_open(&self) -> (SimTask<Result<Rc<SimEngine>, OpenError>>, Replies) {
        let replies = Replies::default();
        let work = Rc::<Work>::default();
        *self.work.borrow_mut() = Rc::clone(&work);
        let shell = SimShell { clock: self.clock.clone(), replies: Rc::clone(&replies), work };
        let (disk, storage, config) =
            (self.disk.clone(), self.storage.clone(), self.config.clone());
        let open = async move { DurableEngine::open(disk, storage, config, 7, shell).await };
        (self.executor.spawn_in(NODE, open), replies)
    }

    pub(super) fn try_start(&self) -> Result<Node, OpenError> {
        let (opening, replies) = self.begin_open();
        let engine = loop {
            if let Some(opened) = opening.take() {
                break opened?;
            }
            assert!(self.executor.step(), "the start is stuck");
        };
        let running = Rc::clone(&engine);
        let run = self.executor.spawn_in(NODE, async move { running.run().await });
        let executor = self.executor.clone();
        let work = Rc::clone(&self.work.borrow());
        Ok(Node { engine, run, replies, work, executor, next_id: RefCell::new(0) })
    }

    pub(super) fn start(&self) -> Node {
        self.try_start().unwrap_or_else(|error| panic!("the node does not start: {error}"))
    }

    /// Tasks die first: what they hold (the lock) must not outlive the cut.
    pub(super) fn power_cut(&self, node: Node) {
        self.disk.power_cut();
        self.executor.kill(NODE);
        drop(node);
    }

    pub(super) fn run_for_ms(&self, ms: u64) {
        self.executor.run_until_ns(self.clock.now_ns() + ms * 1_000_000);
    }

    pub(super) fn stop(&self, node: Node) {
        let engine = Rc::clone(&node.engine);
        let stopping = self.executor.spawn_in(NODE, async move { engine.shutdown().await });
        while !stopping.is_done() {
            assert!(self.executor.step(), "the stop is stuck");
        }
        node.run.take().expect("run ended").expect("without an error");
        drop(stopping);
        drop(node);
    }
}

impl Node {
    pub(super) fn send(&self, request: Request, version: i16) -> RequestId {
        let mut next_id = self.next_id.borrow_mut();
        *next_id += 1;
        let id = RequestId(*next_id);
        let peer = Peer { session: SessionId(1), ..Peer::default() };
        self.engine.submit(Event::Request { id, peer, request, version });
        id
    }

    pub(super) fn answer(&self, id: RequestId) -> Option<Response> {
        self.replies.borrow_mut().remove(&id).flatten()
    }

    pub(super) fn call(&self, request: Request, version: i16) -> Response {
        let id = self.send(request, version);
        loop {
            if let Some(response) = self.answer(id) {
                return response;
            }
            assert!(self.executor.step(), "no answer will come");
        }
    }

    pub(super) fn create_topic(&self, name: &str, partitions: i32) {
        match self.call(create_topic_request(name, partitions), 7) {
            Response::CreateTopics(response) => assert_eq!(response.topics[0].error_code, 0),
            other => panic!("{other:?}"),
        }
    }

    /// A topic with a window of loss.
    pub(super) fn create_topic_with(&self, name: &str, configs: &[(&str, &str)]) {
        let Request::CreateTopics(mut request) = create_topic_request(name, 1) else { return };
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        };
        request.topics[0].configs = configs.iter().map(config).collect();
        match self.call(Request::CreateTopics(request), 7) {
            Response::CreateTopics(response) => assert_eq!(response.topics[0].error_code, 0),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn key(&self, topic: &str, partition: i32) -> PartitionKey {
        let topic_id =
            self.engine.with_engine(|engine| engine.catalog().by_name(topic).expect("topic").id);
        PartitionKey { topic_id, partition }
    }

    pub(super) fn send_value(&self, topic: &str, partition: i32, value: &str) -> RequestId {
        self.send(produce_request(topic, partition, batch(&[value])), 9)
    }

    pub(super) fn produced(&self, id: RequestId) -> Option<PartitionProduceResponse> {
        match self.answer(id)? {
            Response::Produce(mut response) => {
                Some(response.responses.remove(0).partition_responses.remove(0))
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn produce(&self, topic: &str, partition: i32, value: &str) -> i64 {
        let response = self.call(produce_request(topic, partition, batch(&[value])), 9);
        match response {
            Response::Produce(response) => {
                let answer = &response.responses[0].partition_responses[0];
                assert_eq!(answer.error_code, 0);
                answer.base_offset
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn fetch(&self, topic: &str, partition: i32, offset: i64) -> PartitionData {
        match self.call(fetch_request(topic, partition, offset), 12) {
            Response::Fetch(mut response) => response.responses.remove(0).partitions.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// All values of a partition, by offset.
    pub(super) fn read(&self, topic: &str, partition: i32) -> BTreeMap<i64, String> {
        let mut all = BTreeMap::new();
        let mut at = 0;
        loop {
            let data = self.fetch(topic, partition, at);
            assert_eq!(data.error_code, 0, "fetch of {topic}/{partition} at {at}");
            let values = values_of(&data);
            let Some((last, _)) = values.last() else {
                return all;
            };
            at = last + 1;
            for (offset, value) in values {
                let again = all.insert(offset, value);
                assert!(again.is_none() || offset < at, "offset {offset} twice");
            }
        }
    }
}

pub(super) fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None, None);
    for (index, value) in values.iter().enumerate() {
        let timestamp = 1_000 + index as i64;
        builder.push(timestamp, None, Some(value.as_bytes()), &[]).expect("a small record");
    }
    builder.build().expect("a small batch")
}

pub(super) fn create_topic_request(name: &str, partitions: i32) -> Request {
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    Request::CreateTopics(CreateTopicsRequest {
        topics: vec![topic],
        ..CreateTopicsRequest::default()
    })
}

pub(super) fn produce_request(topic: &str, partition: i32, batch: Bytes) -> Request {
    let part = PartitionProduceData { index: partition, records: Some(batch) };
    let topic = TopicProduceData {
        name: topic.to_owned(),
        partition_data: vec![part],
        ..Default::default()
    };
    Request::Produce(ProduceRequest {
        acks: -1,
        topic_data: vec![topic],
        ..ProduceRequest::default()
    })
}

pub(super) fn fetch_request(topic: &str, partition: i32, offset: i64) -> Request {
    let part = FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 20_000,
        current_leader_epoch: -1,
        ..FetchPartition::default()
    };
    let topic =
        FetchTopic { topic: topic.to_owned(), partitions: vec![part], ..FetchTopic::default() };
    Request::Fetch(FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 20_000,
        topics: vec![topic],
        ..FetchRequest::default()
    })
}

pub(super) fn values_of(data: &PartitionData) -> Vec<(i64, String)> {
    let bytes = data.records.as_ref().map(|records| records.to_bytes()).unwrap_or_default();
    let mut values = Vec::new();
    for batch in LogBatch::split(bytes, 10_000).expect("whole batches") {
        let base = batch.base_offset();
        let batch = batch.to_batch().expect("a batch");
        let section = batch.decompress(1 << 20).expect("records");
        for record in batch.records(&section) {
            let record = record.expect("a record");
            let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
            values.push((base + i64::from(record.offset_delta), value));
        }
    }
    values
}
