//! What classic consumers say about their subscriptions, in the metadata of their protocol. The
//! only place that looks into it, and only for deleting offsets and for static members that come
//! back: bytes that cannot be read subscribe to nothing, and no member is refused for them.

use super::{Group, GroupState, Member};
use bytes::Bytes;
use millpond_wire::messages::ConsumerProtocolSubscription;
use millpond_wire::{Message, Reader};

/// The protocol type whose metadata is a subscription.
const CONSUMER: &str = "consumer";
/// The newest layout that is known; later ones only add fields at the end.
const VERSION_MAX: i16 = 3;

/// The topics of a subscription.
pub(super) fn topics_of(metadata: &Bytes) -> Option<Vec<String>> {
    let mut reader = Reader::new(metadata.clone());
    let version = reader.i16().ok().filter(|version| *version >= 0)?;
    let subscription = ConsumerProtocolSubscription::decode(&mut reader, version.min(VERSION_MAX));
    subscription.ok().map(|subscription| subscription.topics)
}

impl Group {
    /// Whether its members speak the protocol of consumers.
    pub(crate) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Whether it is known what its members read: of consumers that all have said it.
    pub(crate) fn tells_subscriptions(&self) -> bool {
        let tells = |member: &Member| match &self.protocol {
            Some(chosen) => topics_of(&member.metadata(chosen)).is_some(),
            None => false,
        };
        self.is_of_consumers()
            && self.state == GroupState::Stable
            && self.members.values().all(tells)
    }

    /// Whether a member reads a topic, as far as its words can be understood.
    pub(crate) fn subscribes(&self, topic: &str) -> bool {
        let names = |metadata: &Bytes| {
            topics_of(metadata).is_some_and(|topics| topics.iter().any(|name| name == topic))
        };
        let reads = |member: &Member| match &self.protocol {
            Some(chosen) if member.supports(chosen) => names(&member.metadata(chosen)),
            _ => member.said.protocols.iter().any(|(_, metadata)| names(metadata)),
        };
        self.is_of_consumers() && self.members.values().any(reads)
    }

    /// Whether what a member says now means what it said before. What it owned and its own data
    /// are no reason to share anew: a process that starts again owns nothing yet.
    pub(super) fn means_the_same(&self, before: &Bytes, now: &Bytes) -> bool {
        if before == now || !self.is_of_consumers() {
            return true;
        }
        let sorted = |metadata: &Bytes| {
            let mut topics = topics_of(metadata)?;
            topics.sort_unstable();
            Some(topics)
        };
        sorted(before) == sorted(now)
    }
}
