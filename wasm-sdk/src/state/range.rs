//! Entries in the order of their keys, fetched in packs of which one buffer holds as many as fit.
//!
//! It never shows an entry twice. An entry put or deleted while a range is read is shown as it is
//! when its pack is fetched.

use super::{cache, raw};
use crate::abi;

/// The entries with `from` <= key < `to`, ascending; without `to`, to the end.
pub fn range(from: &[u8], to: Option<&[u8]>) -> Range {
    let mut range = Range::default();
    range.restart(from, to);
    range
}

/// Walks over entries; see [`range`]. Keep one and [`restart`](Range::restart) it, and nothing is
/// allocated.
#[derive(Debug, Default)]
pub struct Range {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
    pack: Vec<u8>,
    pack_bytes: usize,
    at: usize,
    ended: bool,
}

impl Range {
    /// Starts again with other bounds.
    pub fn restart(&mut self, from: &[u8], to: Option<&[u8]>) {
        self.from.clear();
        self.from.extend_from_slice(from);
        match (&mut self.to, to) {
            (Some(own), Some(to)) => {
                own.clear();
                own.extend_from_slice(to);
            }
            (own, to) => *own = to.map(<[u8]>::to_vec),
        }
        (self.pack_bytes, self.at, self.ended) = (0, 0, false);
    }

    /// The next entry: key and value.
    pub fn next_entry(&mut self) -> Option<(&[u8], &[u8])> {
        if self.at == self.pack_bytes {
            self.fetch();
        }
        if self.ended {
            return None;
        }
        let (key, value, next) = entry_at(&self.pack[..self.pack_bytes], self.at)?;
        self.at = next;
        if next == self.pack_bytes {
            self.from.clear();
            self.from.extend_from_slice(&self.pack[key.clone()]);
            self.from.push(0);
        }
        Some((&self.pack[key], &self.pack[value]))
    }

    fn fetch(&mut self) {
        if self.ended {
            return;
        }
        if self.pack.is_empty() {
            self.pack.resize(PACK_BYTES, 0);
        }
        cache::write();
        loop {
            let got = raw::range(&self.from, self.to.as_deref(), &mut self.pack);
            match usize::try_from(got) {
                Ok(0) => self.ended = true,
                Ok(bytes) => (self.pack_bytes, self.at) = (bytes.min(self.pack.len()), 0),
                Err(_) => {
                    self.pack.resize(got.unsigned_abs() as usize, 0);
                    continue;
                }
            }
            return;
        }
    }
}

type Place = core::ops::Range<usize>;

/// Where key and value stand, and where the next entry starts.
fn entry_at(pack: &[u8], at: usize) -> Option<(Place, Place, usize)> {
    let word = |at: usize| Some(u32::from_le_bytes(*pack.get(at..)?.first_chunk()?) as usize);
    let key = at + abi::STATE_ENTRY_BYTES;
    let value = key.checked_add(word(at)?)?;
    let next = value.checked_add(word(at + 4)?)?;
    (next <= pack.len()).then_some((key..value, value..next, next))
}

const PACK_BYTES: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{self, memory};

    fn all(from: &[u8], to: Option<&[u8]>) -> Vec<(Vec<u8>, usize)> {
        let mut range = range(from, to);
        let mut found = Vec::new();
        while let Some((key, value)) = range.next_entry() {
            found.push((key.to_vec(), value.len()));
        }
        assert!(range.next_entry().is_none(), "it stays at the end");
        found
    }

    #[test]
    fn entries_come_in_order_however_many_packs_they_take() {
        memory::with_new(|| {
            for number in (0..500_u32).rev() {
                let value = vec![7; number as usize % 90];
                state::put(&number.to_be_bytes(), &value).unwrap();
            }
            let expected: Vec<_> =
                (3..400_u32).map(|n| (n.to_be_bytes().to_vec(), n as usize % 90)).collect();
            let (from, to) = (3_u32.to_be_bytes(), 400_u32.to_be_bytes());
            assert_eq!(all(&from, Some(&to)), expected);
            assert_eq!(all(&[], None).len(), 500);
        });
    }

    #[test]
    fn an_entry_larger_than_the_buffer_makes_it_grow() {
        memory::with_new(|| {
            state::put(b"a", &[1; 10]).unwrap();
            state::put(b"b", &[1; 50_000]).unwrap();
            state::put(b"c", &[1; 10]).unwrap();
            let lens: Vec<_> = all(b"", None).into_iter().map(|(_, len)| len).collect();
            assert_eq!(lens, [10, 50_000, 10]);
        });
    }

    #[test]
    fn empty_and_reversed_bounds_give_nothing() {
        memory::with_new(|| {
            state::put(b"b", b"").unwrap();
            assert_eq!(all(b"b", Some(b"b")), []);
            assert_eq!(all(b"c", Some(b"a")), []);
            assert_eq!(all(b"b", Some(b"c")), [(b"b".to_vec(), 0)]);
        });
    }

    #[test]
    fn what_is_deleted_while_reading_is_not_shown_twice_nor_skips_others() {
        memory::with_new(|| {
            for number in 0..300_u32 {
                state::put(&number.to_be_bytes(), &[0; 40]).unwrap();
            }
            let mut range = range(b"", None);
            let mut seen = Vec::new();
            while let Some((key, _)) = range.next_entry() {
                let key = key.to_vec();
                state::delete(&key);
                seen.push(key);
            }
            assert_eq!(seen.len(), 300);
            assert!(seen.is_sorted());
            assert_eq!(all(b"", None), []);
        });
    }
}
