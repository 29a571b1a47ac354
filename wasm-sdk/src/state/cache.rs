//! Spares calls of the host: what a call has read or written once, it finds here.
//!
//! A put waits for the end of the call only where there is room for it: the key is there already,
//! with a value at least as long. All else goes to the host at once, so answers are the host's own.
//! What waits is written in the order in which its keys were first met, so the same call writes the
//! same each time; if the run has changed more state than a run may, the call is aborted. It holds
//! nothing from one call to the next but room.

use super::raw;
use crate::abi;
use std::cell::{Cell, RefCell};

/// Keys and values stand one behind the other in one buffer; a table finds them by hash. An ordered
/// map would compare keys byte by byte, and that is slow in WebAssembly.
#[derive(Debug, Default)]
struct Cache {
    slots: Vec<Slot>,
    /// Index of a slot plus one, where its hash says or behind; 0 is free. Its length is a power
    /// of two, and half of it is free.
    table: Vec<u32>,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    key_at: u32,
    key_len: u32,
    value_at: u32,
    value_len: u32,
    /// Of the value that the host has: so much room the value has here.
    host_len: u32,
    state: Held,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// The host has this value.
    Same,
    /// The host is yet to be given it, with this expiry.
    Waits(i64),
    /// Nothing is known of the key.
    Unknown,
}

/// Where a key stands in the table.
enum Place {
    /// It has this slot.
    Of(usize),
    /// It has none; one may be entered here.
    Free(usize),
}

std::thread_local! {
    static AT_END: Cell<Option<fn()>> = const { Cell::new(None) };
    static CACHE: RefCell<Cache> =
        const { RefCell::new(Cache { slots: Vec::new(), table: Vec::new(), bytes: Vec::new() }) };
}

/// As the host's function.
pub(super) fn get(key: &[u8], buffer: &mut [u8]) -> i32 {
    CACHE.with_borrow_mut(|cache| {
        let hash = hash(key);
        if let Some(slot) = cache.find(hash, key).map(|index| cache.slots[index])
            && slot.state != Held::Unknown
        {
            let value = slot.value(&cache.bytes);
            if let Some(place) = buffer.get_mut(..value.len()) {
                place.copy_from_slice(value);
            }
            return value.len() as i32;
        }
        let len = raw::get(key, buffer);
        if let Some(value) = usize::try_from(len).ok().and_then(|len| buffer.get(..len)) {
            cache.insert(hash, key, value);
        }
        len
    })
}

/// As the host's function.
pub(super) fn put(key: &[u8], value: &[u8], expires_ms: i64) -> u32 {
    CACHE.with_borrow_mut(|cache| {
        let hash = hash(key);
        if let Some(index) = cache.find(hash, key) {
            let slot = &mut cache.slots[index];
            let at = slot.value_at as usize;
            if slot.state != Held::Unknown && value.len() <= slot.host_len as usize {
                slot.value_len = value.len() as u32;
                slot.state = Held::Waits(expires_ms);
                cache.bytes[at..at + value.len()].copy_from_slice(value);
                return abi::STATE_DONE;
            }
        }
        let answer = raw::put(key, value, expires_ms);
        if answer == abi::STATE_DONE {
            cache.insert(hash, key, value);
        }
        answer
    })
}

/// As the host's function.
pub(super) fn delete(key: &[u8]) -> u32 {
    CACHE.with_borrow_mut(|cache| {
        if let Some(index) = cache.find(hash(key), key) {
            cache.slots[index].state = Held::Unknown;
        }
    });
    raw::delete(key)
}

/// Writes what waits: before the host is asked for a range.
pub(super) fn write() {
    CACHE.with_borrow_mut(Cache::write);
}

/// Writes what waits and forgets all: the call is over.
///
/// Reached by a pointer that only the use of state sets, so that a module without state imports
/// nothing for it: to the host an import says that there is some.
pub(crate) fn end_call() {
    if let Some(end) = AT_END.take() {
        end();
    }
}

impl Slot {
    #[inline]
    fn key<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        &bytes[self.key_at as usize..][..self.key_len as usize]
    }

    #[inline]
    fn value<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        &bytes[self.value_at as usize..][..self.value_len as usize]
    }
}

impl Cache {
    #[inline]
    fn find(&self, hash: u32, key: &[u8]) -> Option<usize> {
        match self.place(hash, key)? {
            Place::Of(index) => Some(index),
            Place::Free(_) => None,
        }
    }

    /// Where the key is, or would be. `None`: nowhere near where its hash says, so it is not held:
    /// keys that were chosen to have one hash must not make a call slow.
    #[inline]
    fn place(&self, hash: u32, key: &[u8]) -> Option<Place> {
        let mask = self.table.len().checked_sub(1)?;
        for step in 0..PROBES_MAX {
            let at = (hash as usize + step) & mask;
            let Some(index) = (self.table[at] as usize).checked_sub(1) else {
                return Some(Place::Free(at));
            };
            let slot = &self.slots[index];
            if slot.hash == hash && equal(slot.key(&self.bytes), key) {
                return Some(Place::Of(index));
            }
        }
        None
    }

    /// Holds what the host has.
    fn insert(&mut self, hash: u32, key: &[u8], value: &[u8]) {
        if key.len() + value.len() > ENTRY_BYTES_MAX {
            if let Some(index) = self.find(hash, key) {
                self.slots[index].state = Held::Unknown;
            }
            return;
        }
        self.make_room(key.len() + value.len());
        let Some(place) = self.place(hash, key) else {
            return;
        };
        AT_END.set(Some(|| CACHE.with_borrow_mut(Cache::end)));
        let key_at = match place {
            Place::Of(index) => self.slots[index].key_at,
            Place::Free(_) => self.append(key),
        };
        let (key_len, len) = (key.len() as u32, value.len() as u32);
        let value_at = self.append(value);
        let state = Held::Same;
        let slot = Slot { hash, key_at, key_len, value_at, value_len: len, host_len: len, state };
        match place {
            Place::Of(index) => self.slots[index] = slot,
            Place::Free(at) => {
                self.slots.push(slot);
                self.table[at] = self.slots.len() as u32;
            }
        }
    }

    fn append(&mut self, piece: &[u8]) -> u32 {
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(piece);
        at
    }

    /// For one more: what does not fit makes it start anew.
    fn make_room(&mut self, bytes: usize) {
        if self.bytes.len() + bytes > BYTES_MAX {
            self.end();
        }
        if self.table.len() < (self.slots.len() + 1) * 2 {
            self.end();
            let places = (self.table.len() * 4).clamp(TABLE_MIN, TABLE_MAX);
            self.table.resize(places, 0);
        }
    }

    fn write(&mut self) {
        for slot in &mut self.slots {
            let Held::Waits(expires_ms) = slot.state else {
                continue;
            };
            slot.state = Held::Same;
            slot.host_len = slot.value_len;
            let (key, value) = (slot.key(&self.bytes), slot.value(&self.bytes));
            if raw::put(key, value, expires_ms) != abi::STATE_DONE {
                crate::abort("more of the state changes than may in one run: send smaller batches");
            }
        }
    }

    fn end(&mut self) {
        self.write();
        self.slots.clear();
        self.bytes.clear();
        self.table.fill(0);
    }
}

/// Eight bytes at a time; spread enough for a table of what one call touches.
#[inline]
fn hash(key: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let (words, rest) = key.as_chunks::<8>();
    let hash =
        words.iter().fold(key.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let rest = rest.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
    let hash = mix(hash, rest);
    (hash ^ (hash >> 32)) as u32
}

/// Whether two keys are the same, eight bytes at a time.
#[inline]
fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    a.iter().zip(b).all(|(a, b)| u64::from_le_bytes(*a) == u64::from_le_bytes(*b))
        && a_rest.iter().zip(b_rest).all(|(a, b)| a == b)
}

/// A larger one is not kept twice.
const ENTRY_BYTES_MAX: usize = 16 * 1024;
/// What is held of one call; beyond it starts anew.
const BYTES_MAX: usize = 256 * 1024;
/// Places of the smallest table and of the largest.
const TABLE_MIN: usize = 256;
const TABLE_MAX: usize = 16 * 1024;
/// Places where a key is looked for.
const PROBES_MAX: usize = 24;

#[cfg(test)]
mod tests {
    use crate::state::{self, memory::Store};
    use std::collections::BTreeMap;

    fn below(random: &mut crate::Random, end: u64) -> u64 {
        random.next_u64() % end
    }

    #[test]
    fn with_it_the_state_is_what_it_is_without() {
        for seed in 0..300 {
            let mut random = crate::Random::new(seed, 0, 0);
            let mut store = Store::new(false);
            let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            for _ in 0..6 {
                store.in_force(|| {
                    for _ in 0..40 {
                        let key = vec![b'k'; below(&mut random, 6) as usize];
                        let large = if below(&mut random, 20) == 0 { 60_000 } else { 40 };
                        let value = vec![seed as u8; below(&mut random, large) as usize];
                        match below(&mut random, 5) {
                            0 | 1 => {
                                state::put(&key, &value).unwrap();
                                model.insert(key, value);
                            }
                            2 => assert_eq!(state::delete(&key), model.remove(&key).is_some()),
                            3 => {
                                let mut scratch = Vec::new();
                                let found = state::get(&key, &mut scratch).map(<[u8]>::to_vec);
                                assert_eq!(found.as_ref(), model.get(&key), "seed {seed}");
                            }
                            _ => {
                                let mut range = state::range(b"", None);
                                let mut found = BTreeMap::new();
                                while let Some((key, value)) = range.next_entry() {
                                    found.insert(key.to_vec(), value.to_vec());
                                }
                                assert_eq!(found, model, "seed {seed}");
                            }
                        }
                    }
                });
                let stored = store.entries().map(|(key, value)| (key.to_vec(), value.to_vec()));
                assert_eq!(stored.collect::<BTreeMap<_, _>>(), model, "seed {seed}");
            }
        }
    }

    #[test]
    fn what_is_written_again_keeps_its_last_expiry() {
        let mut store = Store::new(false);
        store.in_force(|| {
            state::put(b"k", b"12").unwrap();
            state::put_until(b"k", b"3", 50).unwrap();
            state::put_until(b"k", b"4", 100).unwrap();
        });
        store.advance(50);
        store.expire();
        assert!(store.in_force(|| state::contains(b"k")));
        store.advance(100);
        store.expire();
        assert!(!store.in_force(|| state::contains(b"k")));
    }
}
