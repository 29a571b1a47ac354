//! The bytes of one simulated file: what is on the device, what a reader sees, and the writes in
//! between. A power cut decides the fate of each of those writes alone.

use std::collections::BTreeMap;

use super::rng::SimRng;

/// What the device writes as a whole or not at all, in bytes.
pub(crate) const SECTOR_BYTES: usize = 512;

/// A change of a file that was handed to the disk.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

/// How a power cut treats what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CutMood {
    LoseAll,
    KeepAll,
    EachItsOwn,
}

/// What became of a file's unsynced writes at a power cut.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CutTally {
    pub(crate) lost: u64,
    pub(crate) torn: u64,
    /// Kept, though an older one was not.
    pub(crate) reordered: u64,
}

/// One file's content.
#[derive(Default)]
pub(crate) struct Inode {
    durable: Vec<u8>,
    live: Vec<u8>,
    /// Done as far as the caller knows, but not synced; in order.
    pending: Vec<(u64, Change)>,
    /// Handed over, not done.
    in_flight: BTreeMap<u64, Change>,
    /// Sectors made durable past older pending writes: those may not come back over them.
    durable_seq: BTreeMap<usize, u64>,
    next_seq: u64,
}

impl Inode {
    /// A file whose bytes are on the device.
    pub(crate) fn durable(bytes: Vec<u8>) -> Inode {
        Inode { live: bytes.clone(), durable: bytes, ..Inode::default() }
    }

    /// All bytes, as a reader sees them.
    pub(crate) fn read_all(&self) -> &[u8] {
        &self.live
    }

    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn read(&self, offset: usize, len: usize) -> &[u8] {
        let start = offset.min(self.live.len());
        let end = offset.saturating_add(len).min(self.live.len());
        &self.live[start..end]
    }

    pub(crate) fn begin(&mut self, op: u64, change: Change) {
        self.in_flight.insert(op, change);
    }

    /// The operation is done: readers see it; it is on the device only if `is_durable`.
    pub(crate) fn finish(&mut self, op: u64, is_durable: bool) {
        let Some(change) = self.in_flight.remove(&op) else {
            return;
        };
        apply(&mut self.live, &change);
        self.next_seq += 1;
        let seq = self.next_seq;
        if is_durable {
            self.make_durable(seq, &change);
        } else {
            self.pending.push((seq, change));
        }
    }

    /// The operation failed: nobody can say which of its sectors arrived. Those of a durable write
    /// are seen by readers as well, since it went to the device; those of another are not.
    pub(crate) fn fail(&mut self, op: u64, is_durable: bool, rng: &mut SimRng) {
        if let Some(change) = self.in_flight.remove(&op) {
            self.next_seq += 1;
            let seq = self.next_seq;
            for (at, part) in self.tear(seq, &change, rng) {
                if is_durable {
                    write(&mut self.live, at, part);
                }
            }
        }
    }

    /// Takes back an operation that was handed over.
    pub(crate) fn take_in_flight(&mut self, op: u64) -> Option<Change> {
        self.in_flight.remove(&op)
    }

    /// Whether a sync would have something to do.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn has_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// The newest change a sync that starts now will cover.
    pub(crate) fn sync_point(&self) -> u64 {
        self.next_seq
    }

    pub(crate) fn sync_to(&mut self, point: u64) {
        let pending = std::mem::take(&mut self.pending);
        for (seq, change) in pending {
            if seq <= point {
                self.make_durable(seq, &change);
            } else {
                self.pending.push((seq, change));
            }
        }
    }

    /// A failed sync: the kernel calls the pages clean, so no later sync will write them.
    pub(crate) fn sync_failed(&mut self, point: u64, rng: &mut SimRng) {
        let pending = std::mem::take(&mut self.pending);
        for (seq, change) in pending {
            if seq > point {
                self.pending.push((seq, change));
            } else if rng.chance(500) {
                let _ = self.tear(seq, &change, rng);
            }
        }
    }

    /// The power goes; what became of the writes that nobody had synced.
    pub(crate) fn cut(&mut self, mood: CutMood, rng: &mut SimRng) -> CutTally {
        let mut tally = CutTally::default();
        let mut fated = std::mem::take(&mut self.pending);
        for change in std::mem::take(&mut self.in_flight).into_values() {
            self.next_seq += 1;
            fated.push((self.next_seq, change));
        }
        for (seq, change) in fated {
            let fate = match mood {
                CutMood::LoseAll => 0,
                CutMood::KeepAll => 1,
                CutMood::EachItsOwn => rng.below(3),
            };
            match fate {
                0 => tally.lost += 1,
                1 => {
                    self.make_durable(seq, &change);
                    tally.reordered += u64::from(tally.lost + tally.torn > 0);
                }
                _ => {
                    let _ = self.tear(seq, &change, rng);
                    tally.torn += 1;
                }
            }
        }
        self.durable_seq.clear();
        self.live = self.durable.clone();
        tally
    }

    /// Puts bytes in the place of others, on the device and in the cache, as far as each goes.
    pub(crate) fn overwrite(&mut self, offset: usize, bytes: &[u8]) {
        for content in [&mut self.durable, &mut self.live] {
            let end = (offset + bytes.len()).min(content.len());
            if let Some(place) = content.get_mut(offset..end) {
                place.copy_from_slice(&bytes[..place.len()]);
            }
        }
    }

    fn make_durable(&mut self, seq: u64, change: &Change) {
        match change {
            Change::SetLen(_) => apply(&mut self.durable, change),
            Change::Write { offset, bytes } => {
                for (sector, at, part) in sectors(*offset, bytes) {
                    self.store_sector(seq, sector, at, part);
                }
                if self.durable.len() < *offset {
                    self.durable.resize(*offset, 0);
                }
            }
        }
        if self.pending.is_empty() && self.in_flight.is_empty() {
            self.durable_seq.clear();
        }
    }

    /// Some of its sectors arrive, others do not; answers those that do.
    fn tear<'a>(
        &mut self,
        seq: u64,
        change: &'a Change,
        rng: &mut SimRng,
    ) -> Vec<(usize, &'a [u8])> {
        let mut arrived = Vec::new();
        let Change::Write { offset, bytes } = change else {
            return arrived;
        };
        let count = sectors(*offset, bytes).count() as u64;
        let is_prefix = rng.chance(500);
        let cut_at = rng.below(count + 1);
        for (index, (sector, at, part)) in sectors(*offset, bytes).enumerate() {
            let arrives = if is_prefix { (index as u64) < cut_at } else { rng.chance(500) };
            if arrives {
                self.store_sector(seq, sector, at, part);
                arrived.push((at, part));
            }
        }
        arrived
    }

    fn store_sector(&mut self, seq: u64, sector: usize, at: usize, part: &[u8]) {
        if self.durable_seq.get(&sector).is_some_and(|newer| *newer > seq) {
            return;
        }
        if !self.pending.is_empty() || !self.in_flight.is_empty() {
            self.durable_seq.insert(sector, seq);
        }
        write(&mut self.durable, at, part);
    }
}

/// The parts of a write by sector: (sector number, offset in the file, bytes).
fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, usize, &[u8])> {
    let mut at = offset;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let take = (SECTOR_BYTES - at % SECTOR_BYTES).min(rest.len());
        let (part, left) = rest.split_at(take);
        let found = (at / SECTOR_BYTES, at, part);
        at += take;
        rest = left;
        Some(found)
    })
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes } => write(content, *offset, bytes),
        Change::SetLen(len) => content.resize(*len, 0),
    }
}

fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_of(byte: u8, offset: usize, len: usize) -> Change {
        Change::Write { offset, bytes: vec![byte; len] }
    }

    #[test]
    fn an_old_unsynced_write_never_comes_back_over_a_newer_durable_one() {
        for seed in 0..50 {
            let mut rng = SimRng::new(seed);
            let mut inode = Inode::default();
            inode.begin(1, write_of(1, 0, 1024));
            inode.finish(1, false);
            inode.begin(2, write_of(2, 0, 512));
            inode.finish(2, true);
            inode.cut(CutMood::EachItsOwn, &mut rng);
            assert_eq!(inode.read(0, 512), &[2; 512]);
        }
    }

    #[test]
    fn tearing_respects_sectors() {
        let mut rng = SimRng::new(3);
        let mut inode = Inode::default();
        inode.begin(1, write_of(0, 0, 4096));
        inode.finish(1, true);
        inode.begin(2, write_of(9, 0, 4096));
        inode.cut(CutMood::EachItsOwn, &mut rng);
        for sector in inode.read(0, 4096).chunks(SECTOR_BYTES) {
            assert!(sector.iter().all(|byte| *byte == sector[0]));
        }
    }

    #[test]
    fn pages_of_a_failed_sync_are_not_written_by_the_next() {
        let lost = (0..50_u64).any(|seed| {
            let mut rng = SimRng::new(seed);
            let mut inode = Inode::default();
            inode.begin(1, write_of(5, 0, 512));
            inode.finish(1, false);
            inode.sync_failed(inode.sync_point(), &mut rng);
            inode.sync_to(inode.sync_point());
            inode.cut(CutMood::KeepAll, &mut rng);
            inode.len() == 0
        });
        assert!(lost);
    }
}
