//! Spares calls of the host: what a call has read or written once, it finds here.
//!
//! A put waits for the end of the call only where there is room for it: the key is there already,
//! with a value at least as long. All else goes to the host at once, so answers are the host's own.
//! What waits is written in the order of the keys, so the same call writes the same each time; if
//! the run has changed more state than a run may, the call is aborted. It holds nothing from one
//! call to the next.

use super::raw;
use crate::abi;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
struct Cache {
    slots: BTreeMap<Vec<u8>, Slot>,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    value: Vec<u8>,
    /// Of the value that the host has.
    host_len: usize,
    /// Of a value that waits; `None`: the host has this one.
    waits: Option<i64>,
}

std::thread_local! {
    static AT_END: Cell<Option<fn()>> = const { Cell::new(None) };
    static CACHE: RefCell<Cache> =
        const { RefCell::new(Cache { slots: BTreeMap::new(), bytes: 0 }) };
}

/// As the host's function.
pub(super) fn get(key: &[u8], buffer: &mut [u8]) -> i32 {
    CACHE.with_borrow_mut(|cache| {
        if let Some(slot) = cache.slots.get(key) {
            if let Some(place) = buffer.get_mut(..slot.value.len()) {
                place.copy_from_slice(&slot.value);
            }
            return slot.value.len() as i32;
        }
        let len = raw::get(key, buffer);
        if let Some(value) = usize::try_from(len).ok().and_then(|len| buffer.get(..len)) {
            cache.insert(key, value);
        }
        len
    })
}

/// As the host's function.
pub(super) fn put(key: &[u8], value: &[u8], expires_ms: i64) -> u32 {
    CACHE.with_borrow_mut(|cache| {
        if let Some(slot) = cache.slots.get_mut(key)
            && value.len() <= slot.host_len
        {
            slot.value.clear();
            slot.value.extend_from_slice(value);
            slot.waits = Some(expires_ms);
            return abi::STATE_DONE;
        }
        let answer = raw::put(key, value, expires_ms);
        if answer == abi::STATE_DONE {
            cache.insert(key, value);
        }
        answer
    })
}

/// As the host's function.
pub(super) fn delete(key: &[u8]) -> u32 {
    CACHE.with_borrow_mut(|cache| cache.slots.remove(key));
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

impl Cache {
    fn insert(&mut self, key: &[u8], value: &[u8]) {
        let bytes = key.len() + value.len();
        if bytes > ENTRY_BYTES_MAX {
            self.slots.remove(key);
            return;
        }
        if self.bytes + bytes > BYTES_MAX {
            self.end();
        }
        self.bytes += bytes;
        AT_END.set(Some(|| CACHE.with_borrow_mut(Cache::end)));
        let slot = Slot { value: value.to_vec(), host_len: value.len(), waits: None };
        self.slots.insert(key.to_vec(), slot);
    }

    fn write(&mut self) {
        for (key, slot) in &mut self.slots {
            let Some(expires_ms) = slot.waits.take() else {
                continue;
            };
            slot.host_len = slot.value.len();
            if raw::put(key, &slot.value, expires_ms) != abi::STATE_DONE {
                crate::abort("more of the state changes than may in one run: send smaller batches");
            }
        }
    }

    fn end(&mut self) {
        self.write();
        self.slots.clear();
        self.bytes = 0;
    }
}

/// A larger one is not kept twice.
const ENTRY_BYTES_MAX: usize = 16 * 1024;
/// What is held of one call; beyond it starts anew.
const BYTES_MAX: usize = 256 * 1024;

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
