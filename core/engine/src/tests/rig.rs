//! A shell for tests: keeps every entry as the journal would, in bytes, and makes entries durable
//! at once or when told. Time passes only when a test says so.

use crate::transform::{
    AdminError, AdminRequest, AdminResponse, TransformJob, TransformOutcome, TransformSpec,
};
use crate::units::{AdminId, EntrySeq, Now, PartitionKey, Peer, RequestId, SessionId};
use crate::{Effect, Engine, EngineConfig, Entry, EntryScope, Event, ReadJob, StatePage, SyncBy};
use bytes::{Bytes, BytesMut};
use millpond_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use millpond_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use millpond_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use millpond_wire::messages::fetch_response::PartitionData;
use millpond_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millpond_wire::messages::produce_response::PartitionProduceResponse;
use millpond_wire::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, FetchRequest, FetchResponse,
    ProduceRequest, Request, Response,
};
use millpond_wire::record::{Batch, BatchBuilder, Codec, LogBatch};
use std::collections::{BTreeMap, VecDeque};

pub(crate) struct Rig {
    pub(crate) engine: Engine,
    pub(crate) now: Now,
    /// Entries become durable as soon as they are made.
    pub(crate) is_instant: bool,
    pub(crate) entries: Vec<Bytes>,
    pub(crate) appended: EntrySeq,
    /// When each entry of this run was wanted on flash.
    pub(crate) syncs: Vec<SyncBy>,
    pub(crate) replies: BTreeMap<RequestId, Option<Response>>,
    pub(crate) jobs: VecDeque<TransformJob>,
    pub(crate) reads: VecDeque<ReadJob>,
    /// Of state.
    pub(crate) pages: Vec<Result<StatePage, String>>,
    pub(crate) admin: BTreeMap<AdminId, Result<AdminResponse, AdminError>>,
    pub(crate) dropped: Vec<PartitionKey>,
    /// Changes of users that connections were told of.
    pub(crate) told_users: Vec<crate::UserFact>,
    pub(crate) reclaims: u64,
    next_id: u64,
}

/// What a producer sends: where, and with which sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) sequence: i32,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        Rig::with_config(EngineConfig::default())
    }

    pub(crate) fn with_config(config: EngineConfig) -> Rig {
        Rig::around(Engine::new(config, 1))
    }

    fn around(engine: Engine) -> Rig {
        Rig {
            engine,
            now: Now { mono_ms: 1_000, wall_ms: 1_700_000_000_000 },
            is_instant: true,
            entries: Vec::new(),
            appended: EntrySeq(0),
            syncs: Vec::new(),
            replies: BTreeMap::new(),
            jobs: VecDeque::new(),
            reads: VecDeque::new(),
            pages: Vec::new(),
            admin: BTreeMap::new(),
            dropped: Vec::new(),
            told_users: Vec::new(),
            reclaims: 0,
            next_id: 0,
        }
    }

    /// A new engine from a snapshot and the entries that this one made.
    pub(crate) fn reborn(&self, snapshot: Option<Bytes>) -> Rig {
        self.reborn_without(snapshot, &[])
    }

    /// As [`Rig::reborn`] from a journal in which these entries, each of one partition, are lost.
    pub(crate) fn reborn_without(&self, snapshot: Option<Bytes>, lost: &[EntrySeq]) -> Rig {
        let config = self.engine.config().clone();
        let mut engine = Engine::restore(config, 1, snapshot).expect("our own snapshot");
        for (entry, seq) in self.entries.iter().zip(1..) {
            let (seq, len_bytes) = (EntrySeq(seq), entry.len());
            let entry = Entry::decode(seq, entry.clone()).expect("our own entry");
            if lost.contains(&seq) {
                let EntryScope::Partition(key) = entry.scope() else { panic!("of the node") };
                engine.replay_lost(seq, key, len_bytes).expect("our own journal");
            } else {
                engine.replay(entry).expect("our own journal");
            }
        }
        engine.finish_recovery();
        let mut rig = Rig::around(engine);
        rig.entries = self.entries.clone();
        rig.appended = EntrySeq(self.entries.len() as u64);
        rig.next_id = self.next_id;
        rig.pump();
        rig
    }

    pub(crate) fn handle(&mut self, event: Event) {
        self.engine.handle(self.now, event);
        self.pump();
    }

    fn pump(&mut self) {
        while let Some(effect) = self.engine.poll_effect() {
            match effect {
                Effect::Append { entry, sync } => {
                    self.syncs.push(sync);
                    self.append(&entry);
                }
                Effect::Reply { id, response } => {
                    assert!(self.replies.insert(id, response).is_none(), "answered twice");
                }
                Effect::Transform(job) => self.jobs.push_back(job),
                Effect::ReadHistory(job) => self.reads.push_back(job),
                Effect::StateRead { page, .. } => self.pages.push(page),
                Effect::TransformsChanged(_) => {}
                Effect::UserChanged(change) => self.told_users.push(change),
                Effect::Reclaim => self.reclaims += 1,
                Effect::TopicDeleted(keys) => self.dropped.extend(keys),
                Effect::AdminReply { id, result } => {
                    self.admin.insert(id, result);
                }
            }
        }
    }

    fn append(&mut self, entry: &Entry) {
        assert_eq!(entry.seq, self.appended.next(), "entries are consecutive");
        self.appended = entry.seq;
        let mut bytes = BytesMut::new();
        entry.encode(&mut bytes);
        assert_eq!(bytes.len(), entry.encoded_len());
        self.entries.push(bytes.freeze());
        if self.is_instant {
            self.engine.handle(self.now, Event::Durable(entry.seq));
        }
    }

    /// Everything appended so far is on flash.
    pub(crate) fn sync(&mut self) {
        self.handle(Event::Durable(self.appended));
    }

    /// Time passes, timer by timer.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        while let Some(deadline) = self.engine.next_deadline_ms()
            && deadline <= end
        {
            self.advance_to(deadline.max(self.now.mono_ms));
            self.handle(Event::Tick);
        }
        self.advance_to(end);
    }

    fn advance_to(&mut self, mono_ms: u64) {
        self.now.wall_ms += (mono_ms - self.now.mono_ms) as i64;
        self.now.mono_ms = mono_ms;
    }

    pub(crate) fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn send(&mut self, request: Request, version: i16) -> RequestId {
        self.send_from(SessionId(1), "test", request, version)
    }

    pub(crate) fn send_from(
        &mut self,
        session: SessionId,
        client: &str,
        request: Request,
        version: i16,
    ) -> RequestId {
        let id = RequestId(self.fresh());
        let peer = Peer { session, client_id: Some(client.to_owned()), ..Peer::default() };
        self.handle(Event::Request { id, peer, request, version });
        id
    }

    pub(crate) fn is_answered(&self, id: RequestId) -> bool {
        self.replies.contains_key(&id)
    }

    pub(crate) fn take(&mut self, id: RequestId) -> Response {
        self.replies.remove(&id).expect("answered").expect("with a response")
    }

    pub(crate) fn call(&mut self, request: Request, version: i16) -> Response {
        let id = self.send(request, version);
        self.take(id)
    }

    pub(crate) fn create_topic(&mut self, name: &str, partitions: i32) {
        self.create_topic_with(name, partitions, &[]);
    }

    pub(crate) fn create_topic_with(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) {
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        };
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        match self.call(Request::CreateTopics(request), 7) {
            Response::CreateTopics(response) => assert_eq!(response.topics[0].error_code, 0),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delete_topic(&mut self, name: &str) {
        let request = DeleteTopicsRequest {
            topic_names: vec![name.to_owned()],
            ..DeleteTopicsRequest::default()
        };
        match self.call(Request::DeleteTopics(request), 5) {
            Response::DeleteTopics(response) => assert_eq!(response.responses[0].error_code, 0),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delete_records(&mut self, topic: &str, partition_index: i32, offset: i64) {
        let part = DeleteRecordsPartition { partition_index, offset };
        let topic = DeleteRecordsTopic { name: topic.to_owned(), partitions: vec![part] };
        let request = DeleteRecordsRequest { topics: vec![topic], ..Default::default() };
        match self.call(Request::DeleteRecords(request), 2) {
            Response::DeleteRecords(response) => {
                assert_eq!(response.topics[0].partitions[0].error_code, 0);
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn key(&self, topic: &str, partition: i32) -> PartitionKey {
        let topic_id = self.engine.catalog().by_name(topic).expect("a topic").id;
        PartitionKey { topic_id, partition }
    }

    pub(crate) fn send_batch(&mut self, topic: &str, partition: i32, batch: Bytes) -> RequestId {
        self.send(produce_request(topic, partition, batch, -1), 9)
    }

    pub(crate) fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        values: &[&str],
    ) -> PartitionProduceResponse {
        let id = self.send_batch(topic, partition, batch(values, None));
        self.produced(id)
    }

    /// The answer to a produce of one partition.
    pub(crate) fn produced(&mut self, id: RequestId) -> PartitionProduceResponse {
        match self.take(id) {
            Response::Produce(mut response) => {
                response.responses.remove(0).partition_responses.remove(0)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn send_fetch(&mut self, topic: &str, partition: i32, offset: i64) -> RequestId {
        self.send(fetch_request(topic, partition, offset, 500, 1), 12)
    }

    /// What is there now, without waiting.
    pub(crate) fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> PartitionData {
        let response = self.call(fetch_request(topic, partition, offset, 0, 1), 12);
        fetched(response)
    }

    /// The values from an offset on, with their offsets.
    pub(crate) fn read(&mut self, topic: &str, partition: i32, offset: i64) -> Vec<(i64, String)> {
        let mut at = offset;
        let mut all = Vec::new();
        loop {
            let data = self.fetch(topic, partition, at);
            assert_eq!(data.error_code, 0);
            let records = values_of(&data);
            let Some((last, _)) = records.last() else { return all };
            at = last + 1;
            all.extend(records.into_iter().filter(|(own, _)| *own >= offset));
        }
    }

    pub(crate) fn admin(&mut self, request: AdminRequest) -> Result<AdminResponse, AdminError> {
        let id = AdminId(self.fresh());
        self.handle(Event::Admin { id, by: None, request });
        self.admin.remove(&id).expect("answered")
    }

    pub(crate) fn deploy(&mut self, name: &str, topic: &str) {
        let spec = TransformSpec {
            name: name.to_owned(),
            topics: vec![topic.to_owned()],
            ..TransformSpec::default()
        };
        self.admin(AdminRequest::DeployTransform(spec)).expect("deployed");
    }

    pub(crate) fn finish(&mut self, job: &TransformJob, outcome: TransformOutcome) {
        self.handle(Event::Transformed { ticket: job.ticket, outcome });
    }
}

pub(crate) fn batch(values: &[&str], producer: Option<Producer>) -> Bytes {
    batch_at(1_000, values, producer)
}

/// Records one millisecond apart.
pub(crate) fn batch_at(first_ms: i64, values: &[&str], producer: Option<Producer>) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None, None);
    if let Some(producer) = producer {
        builder.set_producer(producer.id, producer.epoch, producer.sequence);
    }
    for (index, value) in values.iter().enumerate() {
        let timestamp = first_ms + index as i64;
        builder.push(timestamp, None, Some(value.as_bytes()), &[]).expect("a small record");
    }
    builder.build().expect("a small batch")
}

pub(crate) fn parsed(values: &[&str]) -> Batch {
    Batch::parse(batch(values, None)).expect("our own batch")
}

pub(crate) fn produce_request(topic: &str, partition: i32, batch: Bytes, acks: i16) -> Request {
    let part = PartitionProduceData { index: partition, records: Some(batch) };
    let topic = TopicProduceData {
        name: topic.to_owned(),
        partition_data: vec![part],
        ..Default::default()
    };
    Request::Produce(ProduceRequest { acks, topic_data: vec![topic], ..ProduceRequest::default() })
}

pub(crate) fn fetch_request(
    topic: &str,
    partition: i32,
    offset: i64,
    max_wait_ms: i32,
    min_bytes: i32,
) -> Request {
    let part = FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        ..FetchPartition::default()
    };
    let topic =
        FetchTopic { topic: topic.to_owned(), partitions: vec![part], ..FetchTopic::default() };
    Request::Fetch(FetchRequest {
        max_wait_ms,
        min_bytes,
        max_bytes: 1 << 20,
        topics: vec![topic],
        ..FetchRequest::default()
    })
}

pub(crate) fn fetched(response: Response) -> PartitionData {
    match response {
        Response::Fetch(FetchResponse { error_code: 0, mut responses, .. }) => {
            responses.remove(0).partitions.remove(0)
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn values_of(data: &PartitionData) -> Vec<(i64, String)> {
    let bytes = data.records.as_ref().map(|records| records.to_bytes()).unwrap_or_default();
    let mut values = Vec::new();
    for batch in LogBatch::split(bytes, 1_000).expect("whole batches") {
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
