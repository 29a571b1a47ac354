//! Whether a request that came in the first flight of a resumed connection (0-RTT) may be served before the peer
//! has shown that the flight is no recording. Only what changes nothing when it comes again: reading, and batches
//! that a repetition of would be known as one. Decides only; who is told no waits for the end of the handshake.

use crate::engine::Engine;
use crate::topic::Topic;
use crate::units::PartitionKey;
use bytes::Bytes;
use millpond_wire::Early;
use millpond_wire::messages::{FetchRequest, MetadataRequest, ProduceRequest, Request};
use millpond_wire::record::BatchHeader;

/// The first version of Produce that names topics by their id.
const BY_ID_VERSION: i16 = 13;
/// A fetch outside of any session (KIP-227).
const NO_SESSION: (i32, i32) = (0, -1);

impl Engine {
    /// Whether `request` may be served although it may be a recording of one that was served before.
    #[must_use]
    pub fn takes_early(&self, request: &Request, version: i16) -> bool {
        match (request.api_key().early(), request) {
            (Early::Always, _) => true,
            (Early::Never, _) => false,
            (Early::ByContent, Request::Metadata(request)) => creates_nothing(request),
            (Early::ByContent, Request::Fetch(request)) => leaves_no_trace(request),
            (Early::ByContent, Request::Produce(request)) => self.knows_again(request, version),
            (Early::ByContent, _) => false,
        }
    }

    /// Whether each batch would be known as a repetition: its producer id has state in the partition, under the
    /// same epoch. Without it, any sequence number is taken, also that of a batch that was taken long ago. A batch
    /// of a transaction is not: a repetition could open a transaction that nobody ends.
    fn knows_again(&self, request: &ProduceRequest, version: i16) -> bool {
        let is_plain = request.transactional_id.is_none();
        let mut parts = request.topic_data.iter().flat_map(|topic| {
            let by_id = version >= BY_ID_VERSION;
            let topic_of = match by_id {
                true => self.state.catalog.by_id(topic.topic_id),
                false => self.state.catalog.by_name(&topic.name),
            };
            topic.partition_data.iter().map(move |part| (topic_of, part))
        });
        is_plain && parts.all(|(topic, part)| self.knows(topic, part.index, part.records.as_ref()))
    }

    fn knows(&self, topic: Option<&Topic>, partition: i32, records: Option<&Bytes>) -> bool {
        let (Some(topic), Some(records)) = (topic, records) else { return false };
        // Whether it is a whole batch is looked at where it is taken.
        let Some(header) = records.first_chunk().map(BatchHeader::read) else { return false };
        let key = PartitionKey { topic_id: topic.id, partition };
        let state = self.state.producers.get(key, header.producer_id);
        header.has_producer()
            && !header.attributes.is_transactional()
            && state.is_some_and(|state| state.epoch == header.producer_epoch && !state.is_doubtful)
    }
}

fn creates_nothing(request: &MetadataRequest) -> bool {
    !request.allow_auto_topic_creation || request.topics.is_none()
}

fn leaves_no_trace(request: &FetchRequest) -> bool {
    (request.session_id, request.session_epoch) == NO_SESSION
}

#[cfg(test)]
mod tests {
    use crate::access::examples::example;
    use crate::tests::rig::{Producer, Rig, batch, produce_request};
    use millpond_wire::api::APIS;
    use millpond_wire::messages::Request;
    use millpond_wire::{ApiKey, Early};

    const VERSION: i16 = 9;

    fn sent(values: &[&str], epoch: i16, sequence: i32) -> Request {
        let producer = Producer { id: 7, epoch, sequence };
        produce_request("t", 0, batch(values, Some(producer)), -1)
    }

    #[test]
    fn of_every_api_only_what_is_harmless_when_it_comes_again_is_taken() {
        let rig = Rig::new();
        for spec in APIS {
            let taken = rig.engine.takes_early(&example(spec.key), spec.max_version);
            let may = spec.key.early();
            assert_eq!(may == Early::Always, taken && may != Early::ByContent, "{}", spec.name);
            assert!(may != Early::Never || !taken, "{}", spec.name);
        }
    }

    #[test]
    fn a_batch_is_taken_where_a_repetition_would_be_known() {
        let mut rig = Rig::new();
        rig.create_topic("t", 2);
        assert!(!rig.engine.takes_early(&sent(&["a"], 0, 0), VERSION), "nobody is known");
        rig.call(sent(&["a"], 0, 0), VERSION);
        assert!(rig.engine.takes_early(&sent(&["a"], 0, 0), VERSION), "that one again");
        assert!(rig.engine.takes_early(&sent(&["b"], 0, 1), VERSION), "the next one");
        assert!(!rig.engine.takes_early(&sent(&["b"], 1, 0), VERSION), "of another epoch");
        let nobodys = produce_request("t", 0, batch(&["a"], None), -1);
        assert!(!rig.engine.takes_early(&nobodys, VERSION), "without a producer id");
        let Request::Produce(mut two) = sent(&["b"], 0, 1) else { panic!() };
        let mut second = two.topic_data[0].partition_data[0].clone();
        second.index = 1;
        two.topic_data[0].partition_data.push(second);
        assert!(!rig.engine.takes_early(&two.into(), VERSION), "one partition knows it, one not");
        let Request::Produce(mut within) = sent(&["b"], 0, 1) else { panic!() };
        within.transactional_id = Some("x".to_owned());
        assert!(!rig.engine.takes_early(&within.into(), VERSION), "within a transaction");
    }

    #[test]
    fn a_topic_of_the_same_name_knows_nobody() {
        let mut rig = Rig::new();
        rig.create_topic("t", 1);
        rig.call(sent(&["a"], 0, 0), VERSION);
        rig.delete_topic("t");
        rig.create_topic("t", 1);
        assert!(!rig.engine.takes_early(&sent(&["a"], 0, 0), VERSION));
    }

    #[test]
    fn metadata_that_creates_and_a_fetch_that_has_a_session_wait() {
        let rig = Rig::new();
        let takes = |request: &Request| rig.engine.takes_early(request, VERSION);
        let Request::Metadata(mut metadata) = example(ApiKey::Metadata) else { panic!() };
        metadata.allow_auto_topic_creation = true;
        assert!(!takes(&metadata.clone().into()));
        metadata.allow_auto_topic_creation = false;
        assert!(takes(&metadata.into()));
        let Request::Fetch(mut fetch) = example(ApiKey::Fetch) else { panic!() };
        assert!(takes(&fetch.clone().into()));
        for (id, epoch) in [(0, 0), (5, 1), (5, -1)] {
            (fetch.session_id, fetch.session_epoch) = (id, epoch);
            assert!(!takes(&fetch.clone().into()), "session {id}, epoch {epoch}");
        }
    }
}
