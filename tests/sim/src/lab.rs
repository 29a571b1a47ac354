//! A bench for one story at a time: a machine whose every step the test decides, and a client that
//! asks, waits and keeps the books. Panics where the story goes wrong. Must never help the node.

use crate::client::code_of;
use crate::network::{Connection, Network};
use crate::node::Machine;
use crate::stop::Stop;
use crate::trace::Trace;
use bytes::Bytes;
use millpond_storage::disk::sim::{SimDisk, SimExecutor, SimImage, SimRng, SimTask};
use millpond_wire::ErrorCode;
use millpond_wire::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, ProduceRequest, Request, Response,
    create_topics_request, delete_topics_request, fetch_request, produce_request,
};
use millpond_wire::record::{BatchBuilder, Codec, LogBatch};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// An answer that takes longer than this, in virtual ms, does not come.
const ANSWER_MS_MAX: u64 = 20_000;

/// Topic, partition and offset.
pub type At = (String, i32, i64);

/// A machine on a bench.
pub struct Lab {
    /// Decides what runs when.
    pub executor: SimExecutor,
    /// The machine.
    pub machine: Machine,
    network: Network,
    trace: Trace,
    seed: u64,
    acked: Rc<RefCell<BTreeMap<At, String>>>,
}

/// A write under way: its offset, or why it was refused; `None` if the connection broke.
pub type Write = SimTask<Option<Result<i64, ErrorCode>>>;

/// What a fetch gave.
pub struct Fetched {
    /// What it says.
    pub code: ErrorCode,
    /// Values by offset.
    pub values: Vec<(i64, String)>,
}

impl Lab {
    /// A machine with an empty disk, switched off. Nothing stays in memory that is in a segment.
    pub fn new(seed: u64) -> Lab {
        Lab::on_image(seed, &SimImage::default())
    }

    /// A machine with this on its disk.
    pub fn on_image(seed: u64, image: &SimImage) -> Lab {
        let executor = SimExecutor::new(seed);
        let disk = SimDisk::with_image(executor.clock(), seed ^ 0xD15C, image);
        let network = Network::new(executor.clock(), SimRng::new(seed ^ 0x2E7));
        let trace = Trace::new(executor.clock());
        let mut machine = Machine::new(&executor, disk, network.clone(), trace.clone(), seed);
        machine.config.tail_retain_bytes = 0;
        Lab { executor, machine, network, trace, seed, acked: Rc::default() }
    }

    /// The disk.
    pub fn disk(&self) -> &SimDisk {
        self.machine.disk()
    }

    /// Operations that the disk has finished.
    pub fn operations(&self) -> u64 {
        self.disk().stats().operations
    }

    /// Switches on and waits until the node serves or refuses to.
    pub fn try_start(&mut self) -> Result<(), Stop> {
        self.machine.power_on();
        while !self.machine.is_serving() {
            if let Some(stop) = self.machine.take_stop() {
                self.machine.power_off();
                self.disk().process_died();
                return Err(stop);
            }
            assert!(self.executor.step(), "seed {}: the start is stuck", self.seed);
        }
        Ok(())
    }

    /// Switches on; the node must serve.
    pub fn start(&mut self) {
        if let Err(stop) = self.try_start() {
            panic!("seed {}: {stop}\n{}", self.seed, self.trace.text());
        }
    }

    /// Switches on; the node must refuse, and says so.
    pub fn refusal(&mut self) -> String {
        match self.try_start() {
            Ok(()) => panic!("seed {}: it started", self.seed),
            Err(stop) => stop.to_string(),
        }
    }

    /// Lets `operations` more disk operations end, or virtual `ms` pass; true if the former.
    pub fn run_operations(&mut self, operations: u64, ms: u64) -> bool {
        let wanted = self.operations() + operations;
        let deadline_ns = self.executor.clock().now_ns() + ms * 1_000_000;
        while self.operations() < wanted {
            if self.executor.clock().now_ns() >= deadline_ns || !self.executor.step() {
                return false;
            }
        }
        true
    }

    /// Lets virtual time pass.
    pub fn run_ms(&self, ms: u64) {
        self.executor.run_until_ns(self.executor.clock().now_ns() + ms * 1_000_000);
    }

    /// Cuts the power and starts the node again.
    pub fn power_cycle(&mut self) {
        self.machine.power_cut();
        self.start();
    }

    /// Kills the process and starts it again on the same machine.
    pub fn restart_process(&mut self) {
        self.machine.power_off();
        while self.disk().has_in_flight() {
            self.run_ms(1);
        }
        self.machine.process_died();
        self.start();
    }

    /// Stops the node as an operator does (its last checkpoint is whole), and switches off.
    pub fn shut_down(&mut self) {
        let engine = self.machine.engine().expect("a node that serves");
        let stopping = self.executor.spawn(async move { engine.shutdown().await });
        while !stopping.is_done() {
            assert!(self.executor.step(), "seed {}: the stop is stuck", self.seed);
        }
        self.machine.power_off();
        self.disk().process_died();
    }

    /// Waits until the node gives up; why.
    pub fn await_stop(&self) -> Stop {
        for _ in 0..ANSWER_MS_MAX {
            if let Some(stop) = self.machine.take_stop() {
                return stop;
            }
            self.run_ms(1);
        }
        panic!("seed {}: the node does not stop", self.seed);
    }

    /// A connection.
    pub fn connect(&self) -> Connection {
        self.network.connect().expect("a node that serves")
    }

    /// Asks and waits; `None` if the connection broke or no answer comes.
    pub fn try_call(&self, request: Request, version: i16) -> Option<Response> {
        self.answer(&self.ask(request, version))
    }

    /// Asks, and does not wait.
    pub fn ask(&self, request: Request, version: i16) -> SimTask<Option<Response>> {
        self.ask_over(&self.connect(), request, version)
    }

    /// The same over a connection that is kept: what is sent first arrives first.
    pub fn ask_over(
        &self,
        connection: &Connection,
        request: Request,
        version: i16,
    ) -> SimTask<Option<Response>> {
        let pending = connection.send(request, version);
        self.executor.spawn(async move { pending.answer().await.ok().flatten() })
    }

    /// Waits for the answer to what was asked; `None` if the connection broke or none comes.
    pub fn answer(&self, asked: &SimTask<Option<Response>>) -> Option<Response> {
        let deadline_ns = self.executor.clock().now_ns() + ANSWER_MS_MAX * 1_000_000;
        loop {
            if let Some(answer) = asked.take() {
                return answer;
            }
            if self.executor.clock().now_ns() > deadline_ns || !self.executor.step() {
                return None;
            }
        }
    }

    /// Asks; there must be an answer.
    pub fn call(&self, request: Request, version: i16) -> Response {
        let answer = self.try_call(request, version);
        answer.unwrap_or_else(|| panic!("seed {}: no answer\n{}", self.seed, self.trace.text()))
    }

    /// Creates a topic.
    pub fn create_topic(&self, name: &str, partitions: i32) {
        let topic = create_topics_request::CreatableTopic {
            name: name.to_owned(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        match self.call(Request::CreateTopics(request), 5) {
            Response::CreateTopics(answer) => assert_eq!(answer.topics[0].error_code, 0),
            other => panic!("{other:?}"),
        }
    }

    /// Asks for a topic to be deleted; whether the answer came.
    pub fn delete_topic(&self, name: &str) -> SimTask<bool> {
        let topic = delete_topics_request::DeleteTopicState {
            name: Some(name.to_owned()),
            ..Default::default()
        };
        let request = DeleteTopicsRequest {
            topics: vec![topic],
            topic_names: vec![name.to_owned()],
            ..Default::default()
        };
        self.acked.borrow_mut().retain(|(topic, ..), _| topic != name);
        let pending = self.connect().send(Request::DeleteTopics(request), 5);
        self.executor.spawn(async move { matches!(pending.answer().await, Ok(Some(_))) })
    }

    /// Whether the node knows a topic.
    pub fn has_topic(&self, name: &str) -> bool {
        let engine = self.machine.engine().expect("a node that serves");
        engine.with_engine(|engine| engine.catalog().by_name(name).is_some())
    }

    /// The directory of a topic.
    pub fn dir_of(&self, topic: &str) -> String {
        let engine = self.machine.engine().expect("a node that serves");
        let id = engine.with_engine(|engine| engine.catalog().by_name(topic).map(|one| one.id));
        crate::damage::hex(&id.expect("a topic").0)
    }

    /// Sends a value; an acknowledgement goes to the books when it comes.
    pub fn send(&self, topic: &str, partition: i32, value: &str) -> Write {
        self.send_batch(topic, partition, &[value], None)
    }

    /// Sends values as one batch of an idempotent producer (id, epoch and first sequence).
    pub fn send_batch(
        &self,
        topic: &str,
        partition: i32,
        values: &[&str],
        producer: Option<(i64, i16, i32)>,
    ) -> Write {
        self.send_batch_over(&self.connect(), topic, partition, values, producer)
    }

    /// The same over a connection that is kept: what is sent first arrives first.
    pub fn send_batch_over(
        &self,
        connection: &Connection,
        topic: &str,
        partition: i32,
        values: &[&str],
        producer: Option<(i64, i16, i32)>,
    ) -> Write {
        let request = produce_request(topic, partition, batch(values, producer));
        let pending = connection.send(request, 9);
        let acked = Rc::clone(&self.acked);
        let topic = topic.to_owned();
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        self.executor.spawn(async move {
            let Ok(Some(Response::Produce(answer))) = pending.answer().await else {
                return None;
            };
            let answer = &answer.responses[0].partition_responses[0];
            match code_of(answer.error_code) {
                ErrorCode::None => {
                    for (index, value) in values.into_iter().enumerate() {
                        let at = (topic.clone(), partition, answer.base_offset + index as i64);
                        acked.borrow_mut().insert(at, value);
                    }
                    Some(Ok(answer.base_offset))
                }
                code => Some(Err(code)),
            }
        })
    }

    /// Waits for a write; `None` if its connection broke or no answer comes.
    pub fn outcome(&self, write: &Write) -> Option<Result<i64, ErrorCode>> {
        let deadline_ns = self.executor.clock().now_ns() + ANSWER_MS_MAX * 1_000_000;
        loop {
            if let Some(outcome) = write.take() {
                return outcome;
            }
            if self.executor.clock().now_ns() > deadline_ns || !self.executor.step() {
                return None;
            }
        }
    }

    /// Writes a value, which must be acknowledged; its offset.
    pub fn produce(&self, topic: &str, partition: i32, value: &str) -> i64 {
        let write = self.send(topic, partition, value);
        match self.outcome(&write) {
            Some(Ok(offset)) => offset,
            other => panic!("seed {}: produce: {other:?}\n{}", self.seed, self.trace.text()),
        }
    }

    /// One fetch of at most `max_bytes`.
    pub fn fetch(&self, topic: &str, partition: i32, offset: i64, max_bytes: i32) -> Fetched {
        let request = fetch_request(topic, partition, offset, max_bytes);
        let Response::Fetch(mut answer) = self.call(request, 11) else {
            panic!("Fetch was answered with something else");
        };
        let data = answer.responses.remove(0).partitions.remove(0);
        let bytes = data.records.as_ref().map(|rope| rope.to_bytes()).unwrap_or_default();
        Fetched { code: code_of(data.error_code), values: values_of(bytes) }
    }

    /// All values of a partition. No fetch may be refused and no offset may be missing.
    pub fn read(&self, topic: &str, partition: i32) -> Vec<String> {
        let mut values: Vec<String> = Vec::new();
        loop {
            let fetched = self.fetch(topic, partition, values.len() as i64, 1 << 20);
            let place = format!("seed {}: {topic}/{partition} at {}", self.seed, values.len());
            assert_eq!(fetched.code, ErrorCode::None, "{place}");
            let before = values.len() as i64;
            for (offset, value) in fetched.values.into_iter().filter(|(at, _)| *at >= before) {
                assert_eq!(offset, values.len() as i64, "{place}: an offset is missing");
                values.push(value);
            }
            if values.len() as i64 == before {
                return values;
            }
        }
    }

    /// Everything that was acknowledged so far.
    pub fn acked(&self) -> BTreeMap<At, String> {
        self.acked.borrow().clone()
    }

    /// Takes over the books of another machine, whose disk this one has.
    pub fn owe(&self, acked: BTreeMap<At, String>) {
        *self.acked.borrow_mut() = acked;
    }

    /// Everything that was acknowledged is there, at its offset.
    pub fn check(&self) {
        let acked = self.acked();
        let mut logs: BTreeMap<(&str, i32), Vec<String>> = BTreeMap::new();
        for ((topic, partition, offset), value) in &acked {
            let log =
                logs.entry((topic, *partition)).or_insert_with(|| self.read(topic, *partition));
            assert!(
                log.get(*offset as usize) == Some(value),
                "seed {}: {topic}/{partition}, offset {offset}: acknowledged {value:.20}, found \
                 {:.20?}\n{}",
                self.seed,
                log.get(*offset as usize),
                self.trace.text()
            );
        }
    }
}

fn batch(values: &[&str], producer: Option<(i64, i16, i32)>) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None, None);
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.with_producer(id, epoch, sequence);
    }
    for (index, value) in values.iter().enumerate() {
        let timestamp_ms = 1_000 + index as i64;
        builder.push(timestamp_ms, None, Some(value.as_bytes()), &[]).expect("a small record");
    }
    builder.build().expect("a small batch")
}

fn produce_request(topic: &str, index: i32, records: Bytes) -> Request {
    let data = produce_request::TopicProduceData {
        name: topic.to_owned(),
        partition_data: vec![produce_request::PartitionProduceData {
            index,
            records: Some(records),
        }],
        ..Default::default()
    };
    Request::Produce(ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![data],
        ..ProduceRequest::default()
    })
}

fn fetch_request(topic: &str, partition: i32, fetch_offset: i64, max_bytes: i32) -> Request {
    let partition = fetch_request::FetchPartition {
        partition,
        current_leader_epoch: -1,
        fetch_offset,
        partition_max_bytes: max_bytes,
        ..Default::default()
    };
    Request::Fetch(FetchRequest {
        replica_id: -1,
        min_bytes: 1,
        max_bytes,
        session_epoch: -1,
        topics: vec![fetch_request::FetchTopic {
            topic: topic.to_owned(),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..FetchRequest::default()
    })
}

fn values_of(bytes: Bytes) -> Vec<(i64, String)> {
    let mut values = Vec::new();
    for batch in LogBatch::split(bytes, 10_000).expect("whole batches with right checksums") {
        let base = batch.base_offset();
        let batch = batch.to_batch().expect("a parsed batch");
        let section = batch.decompress(1 << 24).expect("a small batch");
        for record in batch.records(&section) {
            let record = record.expect("a whole record");
            let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
            values.push((base + i64::from(record.offset_delta), value));
        }
    }
    values
}

/// A value that names itself, of about this length.
pub fn value(index: usize, len: usize) -> String {
    format!("{index:->len$}")
}
