//! Which partition a record goes to: by murmur2 of its key, as every Kafka client has it, or
//! without a key to one partition until its batch is full (KIP-480).
//!
//! It decides from what it is told; it keeps no clock and asks no network.

use millpond_wire::murmur2::partition_for_key;
use std::collections::HashMap;
use std::sync::Arc;

/// The partitioner of one producer.
#[derive(Debug)]
pub(crate) struct Partitioner {
    sticky: HashMap<Arc<str>, u32>,
    random: u64,
}

impl Partitioner {
    /// `seed`: so that many devices do not all begin at the same partition.
    pub(crate) fn new(seed: u64) -> Self {
        Self { sticky: HashMap::new(), random: seed | 1 }
    }

    /// The partition for a key.
    pub(crate) fn for_key(key: &[u8], partitions: u32) -> u32 {
        partition_for_key(key, partitions)
    }

    /// The partition for a record without a key. `fits`: whether the open batch of a partition
    /// has room for it; `has_leader`: whether records for a partition can be sent at all.
    pub(crate) fn for_none(
        &mut self,
        topic: &Arc<str>,
        partitions: u32,
        fits: impl Fn(u32) -> bool,
        has_leader: impl Fn(u32) -> bool,
    ) -> u32 {
        let current = self.sticky.get(topic).copied().filter(|current| *current < partitions);
        if let Some(current) = current.filter(|current| fits(*current)) {
            return current;
        }
        let start = self.next_random(partitions);
        let others = (0..partitions).map(|step| (start + step) % partitions);
        let best = others.clone().find(|p| Some(*p) != current && has_leader(*p));
        let next = best.or(current).unwrap_or(start);
        self.sticky.insert(Arc::clone(topic), next);
        next
    }

    /// xorshift64: even enough to spread load, nothing more is asked of it.
    fn next_random(&mut self, below: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let below = u64::from(below.max(1));
        u32::try_from((self.random >> 32) % below).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Hashes published with the Java client's tests (`UtilsTest.testMurmur2`), made partitions by
    /// its rule: sign bit off, modulo the count.
    #[test]
    fn keys_go_where_the_java_client_sends_them() {
        let vectors: [(&str, i32); 7] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
            ("a-little-bit-long-string", -985_981_536),
        ];
        for (key, hash) in vectors {
            for partitions in [1_u32, 3, 7, 64] {
                let expected = (hash & i32::MAX).unsigned_abs() % partitions;
                assert_eq!(Partitioner::for_key(key.as_bytes(), partitions), expected, "{key}");
            }
        }
    }

    #[test]
    fn records_without_a_key_stay_together_until_the_batch_is_full() {
        let mut partitioner = Partitioner::new(42);
        let topic: Arc<str> = "t".into();
        let first = partitioner.for_none(&topic, 8, |_| false, |_| true);
        for _ in 0..10 {
            assert_eq!(partitioner.for_none(&topic, 8, |_| true, |_| true), first);
        }
        assert_ne!(partitioner.for_none(&topic, 8, |_| false, |_| true), first);
    }

    #[test]
    fn every_partition_gets_its_turn() {
        let mut partitioner = Partitioner::new(7);
        let topic: Arc<str> = "t".into();
        let mut choose = || partitioner.for_none(&topic, 4, |_| false, |_| true);
        let seen: HashSet<u32> = (0..100).map(|_| choose()).collect();
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn partitions_without_a_leader_are_passed_over() {
        let mut partitioner = Partitioner::new(7);
        let topic: Arc<str> = "t".into();
        for _ in 0..50 {
            assert_eq!(partitioner.for_none(&topic, 4, |_| false, |p| p == 2), 2);
        }
        assert!(partitioner.for_none(&topic, 4, |_| false, |_| false) < 4);
        assert_eq!(partitioner.for_none(&topic, 1, |_| false, |_| true), 0);
    }
}
