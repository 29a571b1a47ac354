//! The engine's entries as the journal takes them: bytes, a scope, and which batches stand elsewhere.

use std::rc::Rc;

use millpond_engine::{Catalog, Entry, EntryScope, Extent, PartitionKey};

use super::direct::{Place, Placement};
use crate::journal::JournalEntry;

/// An entry on its way to the journal.
pub(super) struct DurableEntry {
    entry: Entry,
    /// Of its facts, by index: those whose batches have a place in a segment.
    places: Vec<(usize, Rc<Place>)>,
}

impl DurableEntry {
    pub(super) fn new(entry: Entry, places: Vec<(usize, Rc<Place>)>) -> DurableEntry {
        DurableEntry { entry, places }
    }

    /// Where the batch of a fact stands, if not in the entry.
    fn extent(&self, index: usize) -> Option<Extent> {
        let (_, place) = self.places.iter().find(|(at, _)| *at == index)?;
        (place.placement() != Placement::Refused).then(|| place.extent())
    }
}

impl JournalEntry for DurableEntry {
    fn seq(&self) -> u64 {
        self.entry.seq.0
    }

    fn encoded_len(&self) -> usize {
        self.entry.encoded_len_with(|index| self.extent(index))
    }

    fn encode(&self, mut out: &mut [u8]) {
        self.entry.encode_with(&mut out, |index| self.extent(index));
        assert!(out.is_empty(), "an entry is as long as it says");
    }

    fn scope(&self) -> u64 {
        match self.entry.scope() {
            EntryScope::Node => 0,
            EntryScope::Partition(key) => scope_hash(key),
        }
    }

    fn payload_bytes(&self) -> usize {
        self.entry.payload_bytes()
    }

    /// A batch that has a place is on the device before its entry is.
    fn is_ready(&self) -> bool {
        self.places.iter().all(|(_, place)| place.placement() != Placement::Waiting)
    }
}

/// FNV-1a of topic id and partition (little-endian), never 0: part of the journal's format.
fn scope_hash(key: PartitionKey) -> u64 {
    let bytes = key.topic_id.0.into_iter().chain(key.partition.to_le_bytes());
    let hash = bytes.fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    hash.max(1)
}

/// The partition that a scope names, if it exists.
pub(super) fn partition_of(scope: u64, catalog: &Catalog) -> Option<PartitionKey> {
    let mut keys = catalog.iter().flat_map(|topic| topic.keys());
    keys.find(|key| scope_hash(*key) == scope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_wire::uuid::Uuid;

    #[test]
    fn the_scope_of_a_partition_is_part_of_the_format() {
        let key = PartitionKey { topic_id: Uuid([1; 16]), partition: 2 };
        assert_eq!(scope_hash(key), 10_084_690_117_123_385_191);
    }
}
