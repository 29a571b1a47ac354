//! Which offset of each key is the newest, in bounded memory. Must never take two keys for one:
//! that would drop the newest record of the other. Keys are told apart by the first 128 bits of
//! their SHA-256, of which nobody can find two alike; a weaker hash would let a producer delete
//! records of another one.

use millpond_wire::limits;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The map holds as many keys as its memory allows; the round ends before this record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the map of keys is full with {keys} keys")]
pub struct MapFull {
    /// Keys that it holds.
    pub keys: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    hash: [u64; 2],
    /// Negative where nothing is.
    offset: i64,
}

const EMPTY: Slot = Slot { hash: [0, 0], offset: -1 };
const SLOT_BYTES: usize = size_of::<Slot>();
const SLOTS_AT_FIRST: usize = 1_024;

/// The newest offset of each key, as far as it was told. Open addressing: a slot is looked for
/// from where the hash points, onwards; a quarter of them stays empty.
#[derive(Debug)]
pub struct OffsetMap {
    slots: Vec<Slot>,
    keys: usize,
    slots_max: usize,
}

impl OffsetMap {
    /// An empty map that never takes more than `budget_bytes` (no less than
    /// [`limits::COMPACTION_MAP_BYTES_MIN`]), also while it grows. It begins small.
    #[must_use]
    pub fn new(budget_bytes: usize) -> Self {
        let budget_bytes = budget_bytes.max(limits::COMPACTION_MAP_BYTES_MIN);
        // While it grows the old half is there as well.
        let most = (budget_bytes / SLOT_BYTES / 3).saturating_mul(2).max(1);
        let slots_max = 1 << most.ilog2();
        Self { slots: vec![EMPTY; SLOTS_AT_FIRST.min(slots_max)], keys: 0, slots_max }
    }

    /// Notes that `key` stands at `offset`. Of several offsets of a key the greatest counts.
    ///
    /// # Errors
    /// [`MapFull`] for a new key that does not fit; the map is as before.
    pub fn note(&mut self, key: &[u8], offset: i64) -> Result<(), MapFull> {
        let hash = hash_of(key);
        let mut at = self.find(hash);
        if self.slots.get(at).is_none_or(|slot| slot.offset < 0) {
            if (self.keys + 1) * 4 > self.slots.len() * 3 {
                self.grow()?;
                at = self.find(hash);
            }
            self.keys += 1;
        }
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Slot { hash, offset: slot.offset.max(offset) };
        }
        Ok(())
    }

    /// The greatest offset that was noted for `key`.
    #[must_use]
    pub fn newest(&self, key: &[u8]) -> Option<i64> {
        let slot = self.slots.get(self.find(hash_of(key)))?;
        (slot.offset >= 0).then_some(slot.offset)
    }

    /// Number of keys.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys
    }

    /// Whether there is no key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// Memory that it takes now.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.slots.capacity() * SLOT_BYTES
    }

    /// The slot of a hash, or the empty one where it would go. There is always an empty one.
    fn find(&self, hash: [u64; 2]) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash[0] as usize & mask;
        while self.slots.get(at).is_some_and(|slot| slot.offset >= 0 && slot.hash != hash) {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) -> Result<(), MapFull> {
        if self.slots.len() * 2 > self.slots_max {
            return Err(MapFull { keys: self.keys });
        }
        let wider = vec![EMPTY; self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, wider);
        for slot in old.into_iter().filter(|slot| slot.offset >= 0) {
            let at = self.find(slot.hash);
            if let Some(into) = self.slots.get_mut(at) {
                *into = slot;
            }
        }
        Ok(())
    }
}

fn hash_of(key: &[u8]) -> [u64; 2] {
    let digest = Sha256::digest(key);
    let word = |from: usize| {
        digest.iter().skip(from).take(8).fold(0_u64, |word, byte| word << 8 | u64::from(*byte))
    };
    [word(0), word(8)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_offset_of_each_key_is_kept() {
        let mut map = OffsetMap::new(limits::DEFAULT_COMPACTION_MAP_BYTES);
        for offset in 0..100_000_i64 {
            map.note(format!("key-{}", offset % 30_000).as_bytes(), offset).unwrap();
        }
        map.note(b"key-7", 3).unwrap();
        assert_eq!(map.len(), 30_000);
        assert_eq!(map.newest(b"key-7"), Some(90_007));
        assert_eq!(map.newest(b"key-29999"), Some(89_999));
        assert_eq!(map.newest(b"key-30000"), None);
        assert_eq!(map.newest(b""), None);
        map.note(b"", 0).unwrap();
        assert_eq!(map.newest(b""), Some(0));
    }

    #[test]
    fn memory_stays_within_its_budget_and_known_keys_are_noted_in_a_full_map() {
        for budget in [0, 100_000, limits::MIB, 3 * limits::MIB] {
            let mut map = OffsetMap::new(budget);
            let full = (0..i64::MAX)
                .find(|i| {
                    let was_bytes = map.memory_bytes();
                    let full = map.note(&i.to_be_bytes(), *i).is_err();
                    let grows = map.memory_bytes() > was_bytes;
                    let peak_bytes = map.memory_bytes() + if grows { was_bytes } else { 0 };
                    assert!(peak_bytes <= budget.max(limits::COMPACTION_MAP_BYTES_MIN));
                    full
                })
                .unwrap();
            assert_eq!(map.len(), full as usize);
            assert!(map.len() >= map.memory_bytes() / SLOT_BYTES * 3 / 4 - 1);
            assert!(map.len() * SLOT_BYTES * 4 >= budget, "a quarter is used at least");
            map.note(&0_i64.to_be_bytes(), i64::MAX).unwrap();
            assert_eq!(map.newest(&0_i64.to_be_bytes()), Some(i64::MAX));
            assert_eq!(map.newest(&full.to_be_bytes()), None);
        }
    }
}
