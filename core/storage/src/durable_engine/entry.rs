//! The engine's entries as the journal takes them: bytes and a scope.

use millpond_engine::{Catalog, Entry, EntryScope, PartitionKey};

use crate::journal::JournalEntry;

impl JournalEntry for Entry {
    fn seq(&self) -> u64 {
        self.seq.0
    }

    fn encoded_len(&self) -> usize {
        Entry::encoded_len(self)
    }

    fn encode(&self, mut out: &mut [u8]) {
        Entry::encode(self, &mut out);
        assert!(out.is_empty(), "an entry is as long as it says");
    }

    fn scope(&self) -> u64 {
        match Entry::scope(self) {
            EntryScope::Node => 0,
            EntryScope::Partition(key) => scope_hash(key),
        }
    }

    fn payload_bytes(&self) -> usize {
        Entry::payload_bytes(self)
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
