//! The host's state and timers in memory, for native tests: the same rules, no journal.
//!
//! One store is in force at a time on a thread; without one the answers are those that a module
//! gets in `Transform::new`.

use crate::abi;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// State, timers and watermark of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Store {
    entries: BTreeMap<Vec<u8>, Entry>,
    timers: BTreeSet<(i64, Vec<u8>)>,
    /// Whether the module handles timers.
    pub(crate) has_timers: bool,
    pub(crate) watermark_ms: Option<i64>,
    pub(crate) bytes_max: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    value: Vec<u8>,
    expires_ms: i64,
}

impl Store {
    pub(crate) fn new(has_timers: bool) -> Self {
        Store {
            entries: BTreeMap::new(),
            timers: BTreeSet::new(),
            has_timers,
            watermark_ms: None,
            bytes_max: usize::MAX,
        }
    }

    /// Runs something with this store in force.
    pub(crate) fn in_force<R>(&mut self, run: impl FnOnce() -> R) -> R {
        let empty = Store::new(self.has_timers);
        STORE.set(Some(core::mem::replace(self, empty)));
        let result = run();
        super::end_call();
        if let Some(store) = STORE.take() {
            *self = store;
        }
        result
    }

    /// Moves the watermark on, never back.
    pub(crate) fn advance(&mut self, watermark_ms: i64) {
        self.watermark_ms = self.watermark_ms.max(Some(watermark_ms));
    }

    /// Forgets the entries that the watermark has reached. The timers that it has reached come
    /// first: they may still read what ends with them.
    pub(crate) fn expire(&mut self) {
        let watermark_ms = self.watermark_ms;
        self.entries.retain(|_, entry| {
            entry.expires_ms == 0 || watermark_ms.is_none_or(|now_ms| now_ms < entry.expires_ms)
        });
    }

    /// Takes the timers that the watermark has reached, in order.
    pub(crate) fn take_due(&mut self) -> Vec<(i64, Vec<u8>)> {
        let Some(watermark_ms) = self.watermark_ms else {
            return Vec::new();
        };
        let is_later = |timer: &(i64, Vec<u8>)| timer.0 > watermark_ms;
        let (later, due) = core::mem::take(&mut self.timers).into_iter().partition(is_later);
        self.timers = later;
        let due: BTreeSet<_> = due;
        due.into_iter().collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        let entry = |(key, entry): (&Vec<u8>, &Entry)| key.len() + entry.value.len() + ENTRY_BYTES;
        let entries: usize = self.entries.iter().map(entry).sum();
        entries + self.timers.iter().map(|(_, key)| key.len() + ENTRY_BYTES).sum::<usize>()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|(key, entry)| (key.as_slice(), entry.value.as_slice()))
    }

    pub(crate) fn timers(&self) -> impl Iterator<Item = (i64, &[u8])> {
        self.timers.iter().map(|(at_ms, key)| (*at_ms, key.as_slice()))
    }

    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(|entry| entry.value.as_slice())
    }

    fn put(&mut self, key: &[u8], value: &[u8], expires_ms: i64) -> u32 {
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return abi::STATE_TOO_LONG;
        }
        let old = self.entries.get(key).map_or(0, |old| key.len() + old.value.len() + ENTRY_BYTES);
        if !self.has_room(key.len() + value.len() + ENTRY_BYTES, old) {
            return abi::STATE_FULL;
        }
        self.entries.insert(key.to_vec(), Entry { value: value.to_vec(), expires_ms });
        abi::STATE_DONE
    }

    fn set_timer(&mut self, at_ms: i64, key: &[u8]) -> u32 {
        if key.len() > KEY_BYTES_MAX {
            return abi::STATE_TOO_LONG;
        }
        if !self.has_timers || !self.has_room(key.len() + ENTRY_BYTES, 0) {
            return abi::STATE_FULL;
        }
        self.timers.insert((at_ms, key.to_vec()));
        abi::STATE_DONE
    }

    fn has_room(&self, more: usize, less: usize) -> bool {
        self.bytes_max == usize::MAX || self.bytes() + more - less <= self.bytes_max
    }

    fn range(&self, from: &[u8], to: Option<&[u8]>, buffer: &mut [u8]) -> i32 {
        let mut written = 0;
        for (key, entry) in self.entries.range(from.to_vec()..) {
            if to.is_some_and(|to| key.as_slice() >= to) {
                break;
            }
            let bytes = abi::STATE_ENTRY_BYTES + key.len() + entry.value.len();
            let Some(place) = buffer.get_mut(written..written + bytes) else {
                return if written > 0 { written as i32 } else { -(bytes as i32) };
            };
            place[..4].copy_from_slice(&(key.len() as u32).to_le_bytes());
            place[4..8].copy_from_slice(&(entry.value.len() as u32).to_le_bytes());
            place[8..8 + key.len()].copy_from_slice(key);
            place[8 + key.len()..].copy_from_slice(&entry.value);
            written += bytes;
        }
        written as i32
    }
}

std::thread_local! {
    static STORE: RefCell<Option<Store>> = const { RefCell::new(None) };
}

fn with<R>(without: R, run: impl FnOnce(&mut Store) -> R) -> R {
    STORE.with_borrow_mut(|store| match store {
        Some(store) => run(store),
        None => without,
    })
}

pub(crate) fn get(key: &[u8], buffer: &mut [u8]) -> i32 {
    with(-1, |store| {
        let Some(value) = store.get(key) else {
            return -1;
        };
        if let Some(place) = buffer.get_mut(..value.len()) {
            place.copy_from_slice(value);
        }
        value.len() as i32
    })
}

pub(crate) fn put(key: &[u8], value: &[u8], expires_ms: i64) -> u32 {
    with(abi::STATE_FULL, |store| store.put(key, value, expires_ms))
}

pub(crate) fn delete(key: &[u8]) -> u32 {
    with(0, |store| u32::from(store.entries.remove(key).is_some()))
}

pub(crate) fn range(from: &[u8], to: Option<&[u8]>, buffer: &mut [u8]) -> i32 {
    with(0, |store| store.range(from, to, buffer))
}

pub(crate) fn set_timer(at_ms: i64, key: &[u8]) -> u32 {
    with(abi::STATE_FULL, |store| store.set_timer(at_ms, key))
}

pub(crate) fn delete_timer(at_ms: i64, key: &[u8]) -> u32 {
    with(0, |store| u32::from(store.timers.remove(&(at_ms, key.to_vec()))))
}

/// Runs a test with an empty store in force.
#[cfg(test)]
pub(crate) fn with_new<R>(run: impl FnOnce() -> R) -> R {
    Store::new(true).in_force(run)
}

/// What is counted for an entry besides its key and value, as in the broker.
const ENTRY_BYTES: usize = 96;
/// As the broker's caps.
const KEY_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use crate::state::{self, StateError};
    use crate::timers;

    use super::*;

    #[test]
    fn what_is_put_is_got_and_what_is_deleted_is_gone() {
        with_new(|| {
            let mut scratch = Vec::new();
            assert_eq!(state::get(b"k", &mut scratch), None);
            state::put(b"k", &[5; 1000]).unwrap();
            assert_eq!(state::get(b"k", &mut scratch), Some(&[5; 1000][..]));
            state::put(b"k", b"").unwrap();
            assert_eq!(state::get(b"k", &mut scratch), Some(&b""[..]));
            assert!(state::contains(b"k") && state::delete(b"k"));
            assert!(!state::contains(b"k") && !state::delete(b"k"));
        });
    }

    #[test]
    fn an_entry_is_gone_once_the_watermark_reaches_it() {
        let mut store = Store::new(false);
        store.in_force(|| state::put_until(b"k", b"v", 100).unwrap());
        store.advance(99);
        store.expire();
        assert!(store.in_force(|| state::contains(b"k")));
        store.advance(100);
        assert!(store.in_force(|| state::contains(b"k")), "timers still see it");
        store.expire();
        assert!(!store.in_force(|| state::contains(b"k")));
        store.advance(5);
        assert_eq!(store.watermark_ms, Some(100));
        assert_eq!(store.bytes(), 0);
    }

    #[test]
    fn a_full_state_refuses_and_changes_nothing() {
        let mut store = Store::new(true);
        store.bytes_max = 2 * ENTRY_BYTES + 40;
        store.in_force(|| {
            state::put(b"a", &[1; 20]).unwrap();
            assert_eq!(state::put(b"b", &[1; 30]), Err(StateError::Full));
            assert_eq!(timers::set(1, &[0; 20]), Err(StateError::Full));
            assert!(!state::contains(b"b"));
            state::put(b"a", &[1; 30]).unwrap();
            assert_eq!(state::put(&[0; 5_000], b""), Err(StateError::TooLong));
        });
    }

    #[test]
    fn without_a_store_nothing_is_found_and_nothing_put() {
        assert_eq!(state::put(b"k", b"v"), Err(StateError::Full));
        assert_eq!(timers::set(1, b"k"), Err(StateError::Full));
        assert!(!state::contains(b"k"));
        assert!(state::range(b"", None).next_entry().is_none());
    }

    #[test]
    fn timers_come_due_in_order_and_once() {
        let mut store = Store::new(true);
        store.in_force(|| {
            for (at_ms, key) in [(20, "a"), (10, "b"), (10, "a"), (30, "a"), (10, "a")] {
                timers::set(at_ms, key.as_bytes()).unwrap();
            }
            assert!(timers::delete(30, b"a") && !timers::delete(30, b"a"));
        });
        assert_eq!(store.take_due(), []);
        store.advance(20);
        let due: Vec<_> = store.take_due().into_iter().map(|(at, key)| (at, key[0])).collect();
        assert_eq!(due, [(10, b'a'), (10, b'b'), (20, b'a')]);
        assert_eq!(store.take_due(), []);
    }
}
