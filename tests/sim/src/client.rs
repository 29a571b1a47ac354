//! What every client of a run has at hand: the network, the clock, the books; and the requests that
//! are sent again until they are answered. Must never look into the node.

use crate::history::RecordId;
use crate::network::{Connection, Disconnected, Network};
use crate::oracle::Oracle;
use crate::topics::TopicKind;
use crate::trace::Trace;
use crate::txn_books::TxnBooks;
use millpond_storage::disk::sim::SimClock;
use millpond_wire::ErrorCode;
use millpond_wire::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, InitProducerIdRequest, Request, Response,
    create_topics_request, delete_topics_request,
};
use std::cell::Cell;
use std::rc::Rc;

const INIT_PRODUCER_ID_VERSION: i16 = 4;
const CREATE_TOPICS_VERSION: i16 = 5;
const DELETE_TOPICS_VERSION: i16 = 5;

/// What every client has at hand.
#[derive(Clone)]
pub struct Surroundings {
    /// Virtual time.
    pub clock: SimClock,
    /// The wires.
    pub network: Network,
    /// The books.
    pub oracle: Oracle,
    /// Those of the transactions.
    pub txns: TxnBooks,
    /// For people.
    pub trace: Trace,
    /// Set when the run is over: clients finish what they have under way.
    pub is_over: Rc<Cell<bool>>,
}

impl Surroundings {
    /// Lets virtual time pass.
    pub async fn pause_ms(&self, pause_ms: u64) {
        self.clock.sleep_until_ns(self.clock.now_ns() + pause_ms * 1_000_000).await;
    }

    /// Connects, however long it takes.
    pub async fn connect(&self) -> Connection {
        loop {
            match self.network.connect() {
                Some(connection) => return connection,
                None => self.pause_ms(7).await,
            }
        }
    }

    /// Asks until there is an answer.
    pub async fn ask(&self, request: Request, version: i16) -> Response {
        loop {
            let connection = self.connect().await;
            match connection.send(request.clone(), version).answer().await {
                Ok(Some(response)) => return response,
                Ok(None) | Err(Disconnected) => self.pause_ms(5).await,
            }
        }
    }

    /// A producer id and its epoch.
    pub async fn producer_id(&self) -> (i64, i16) {
        let request = InitProducerIdRequest {
            transaction_timeout_ms: 60_000,
            ..InitProducerIdRequest::default()
        };
        loop {
            let request = Request::InitProducerId(request.clone());
            let answer = self.ask(request, INIT_PRODUCER_ID_VERSION).await;
            let Response::InitProducerId(answer) = answer else {
                panic!("InitProducerId was answered with {answer:?}");
            };
            if answer.error_code == ErrorCode::None.code() {
                self.oracle.producer_id_given(answer.producer_id);
                return (answer.producer_id, answer.producer_epoch);
            }
            self.pause_ms(20).await;
        }
    }
}

/// Creates the topics of the run, again and again until they are there.
pub async fn create_topics(world: &Surroundings, kinds: &[TopicKind]) {
    for kind in kinds {
        create_topic(world, kind.name(), kind.partitions(), kind.settings()).await;
    }
}

/// Creates a topic, again and again until it is there.
pub async fn create_topic(
    world: &Surroundings,
    name: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) {
    let configs =
        settings.iter().map(|(name, value)| create_topics_request::CreatableTopicConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        });
    let topic = create_topics_request::CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs.collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 5_000,
        ..CreateTopicsRequest::default()
    };
    loop {
        let answer = world.ask(Request::CreateTopics(request.clone()), CREATE_TOPICS_VERSION).await;
        let Response::CreateTopics(answer) = answer else {
            panic!("CreateTopics was answered with {answer:?}");
        };
        let there = [ErrorCode::None.code(), ErrorCode::TopicAlreadyExists.code()];
        if answer.topics.iter().all(|topic| there.contains(&topic.error_code)) {
            return;
        }
        world.pause_ms(20).await;
    }
}

/// Deletes a topic, again and again until it is gone.
pub async fn delete_topic(world: &Surroundings, name: &str) {
    let request = DeleteTopicsRequest {
        topics: vec![delete_topics_request::DeleteTopicState {
            name: Some(name.to_owned()),
            ..Default::default()
        }],
        topic_names: vec![name.to_owned()],
        timeout_ms: 5_000,
    };
    loop {
        let answer = world.ask(Request::DeleteTopics(request.clone()), DELETE_TOPICS_VERSION).await;
        let Response::DeleteTopics(answer) = answer else {
            panic!("DeleteTopics was answered with {answer:?}");
        };
        let gone = [ErrorCode::None.code(), ErrorCode::UnknownTopicOrPartition.code()];
        if answer.responses.iter().all(|topic| gone.contains(&topic.error_code)) {
            return;
        }
        world.pause_ms(20).await;
    }
}

/// The error that a code names.
pub fn code_of(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or_else(|| panic!("{code} is no error code of Kafka"))
}

/// The value of a record: it names the record, then comes padding.
pub fn encode_value(record: RecordId, padding: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + padding);
    value.extend_from_slice(&record.producer.to_be_bytes());
    value.extend_from_slice(&record.sequence.to_be_bytes());
    value.resize(8 + padding, b'.');
    value
}

/// The record that a value names.
pub fn decode_value(value: &[u8]) -> RecordId {
    let word = |at: usize| {
        let bytes = value.get(at..at + 4).expect("a value that a producer of this run wrote");
        u32::from_be_bytes(bytes.try_into().expect("four bytes"))
    };
    RecordId { producer: word(0), sequence: word(4) }
}
