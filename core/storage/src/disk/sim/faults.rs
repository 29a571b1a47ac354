//! What goes wrong with the simulated device: faults armed one by one, rates at which the seed draws
//! them, and damage done to bytes at rest. It must never leave a trace that a real device could not.

use super::names::{InodeId, Node};
use super::{SimDisk, State};
use crate::disk::sim::inode::{Change, SECTOR_BYTES};

/// What [`SimFault::SlowSync`] adds, in ns: a card that collects its garbage.
pub const SLOW_SYNC_NS: u64 = 5_000_000_000;

/// A fault to be met by one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimFault {
    /// A sync of a file, or a durable write, answers EIO.
    SyncError,
    /// A sync of a directory answers EIO.
    SyncDirError,
    /// A write that need not be durable answers EIO.
    WriteError,
    /// A read answers EIO.
    ReadError,
    /// A write arrives in two parts with time between them.
    ShortWrite,
    /// A sync takes [`SLOW_SYNC_NS`] longer.
    SlowSync,
    /// A write arrives somewhere else: at another place of its file, or in another file. The device
    /// says that all is well.
    Misdirected,
}

impl SimFault {
    /// How many there are.
    pub const COUNT: usize = 7;
}

/// The faults that wait for their operation.
#[derive(Default)]
pub(super) struct Faults {
    armed: Vec<Armed>,
    rates: Vec<Rate>,
}

struct Armed {
    fault: SimFault,
    path_part: String,
    skip: u64,
}

struct Rate {
    fault: SimFault,
    path_part: String,
    per_mille: u64,
}

impl SimDisk {
    /// Lets the operation number `skip` (from 0) that `fault` fits, on a path that contains
    /// `path_part`, meet the fault. Once.
    pub fn inject(&self, fault: SimFault, path_part: &str, skip: u64) {
        let armed = Armed { fault, path_part: path_part.to_owned(), skip };
        self.state.borrow_mut().faults.armed.push(armed);
    }

    /// From now on `per_mille` of a thousand operations that `fault` fits, on a path that contains
    /// `path_part`, meet it.
    pub fn inject_often(&self, fault: SimFault, path_part: &str, per_mille: u64) {
        let rate = Rate { fault, path_part: path_part.to_owned(), per_mille };
        self.state.borrow_mut().faults.rates.push(rate);
    }

    /// Takes back the faults that no operation has met, and all rates.
    pub fn disarm(&self) {
        self.state.borrow_mut().faults = Faults::default();
    }

    /// Flips a bit of a file at rest. False if there is no such byte.
    pub fn corrupt(&self, path: &str, offset_bytes: u64) -> bool {
        let bit = self.state.borrow_mut().rng.below(8) as u8;
        let Some(old) = self.content_at(path, offset_bytes, 1) else {
            return false;
        };
        let flipped: Vec<u8> = old.iter().map(|byte| byte ^ (1 << bit)).collect();
        self.overwrite(path, offset_bytes, &flipped).is_some()
    }

    /// Puts these bytes into a file at rest, under the feet of whoever has it open, as far as the
    /// file goes: a write that was meant for another place. Answers what stood there; `None` if
    /// there is no such file or place.
    pub fn overwrite(&self, path: &str, offset_bytes: u64, bytes: &[u8]) -> Option<Vec<u8>> {
        let old = self.content_at(path, offset_bytes, bytes.len())?;
        let state = &mut *self.state.borrow_mut();
        let Some(Node::File(id)) = state.names.get(path) else {
            return None;
        };
        let offset = usize::try_from(offset_bytes).ok()?;
        state.inodes.get_mut(&id)?.overwrite(offset, bytes);
        Some(old)
    }

    /// The bytes of a file from an offset on, at least one.
    fn content_at(&self, path: &str, offset_bytes: u64, len: usize) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        let Some(Node::File(id)) = state.names.get(path) else {
            return None;
        };
        let found = state.inodes.get(&id)?.read(usize::try_from(offset_bytes).ok()?, len);
        (!found.is_empty()).then(|| found.to_vec())
    }
}

impl State {
    /// Whether a fault meets this operation now.
    pub(super) fn meets(&mut self, fault: SimFault, path: &str) -> bool {
        let is_met = self.faults.meets_armed(fault, path) || self.meets_rate(fault, path);
        self.stats.faults_met[fault as usize] += u64::from(is_met);
        is_met
    }

    fn meets_rate(&mut self, fault: SimFault, path: &str) -> bool {
        let State { faults, rng, .. } = self;
        let mut fitting = faults
            .rates
            .iter()
            .filter(|rate| rate.fault == fault && path.contains(&rate.path_part));
        fitting.any(|rate| rng.chance(rate.per_mille))
    }

    /// A write that was handed over goes astray: its own place keeps what it had.
    pub(super) fn misdirect(&mut self, id: InodeId, op: u64) {
        let taken = self.inodes.get_mut(&id).and_then(|inode| inode.take_in_flight(op));
        let Some(Change::Write { bytes, .. }) = taken else {
            return;
        };
        let other = self.rng.chance(500);
        let named = self.names.inodes();
        let mut victims: Vec<InodeId> = self.inodes.keys().copied().collect();
        victims.retain(|victim| named.contains(victim) && (*victim == id) != other);
        let chosen = self.rng.below(victims.len() as u64) as usize;
        let Some(victim) = victims.get(chosen).and_then(|victim| self.inodes.get_mut(victim))
        else {
            return;
        };
        let sectors = (victim.len() / SECTOR_BYTES) as u64;
        let offset = self.rng.below(sectors) as usize * SECTOR_BYTES;
        victim.overwrite(offset, &bytes);
    }
}

impl Faults {
    fn meets_armed(&mut self, fault: SimFault, path: &str) -> bool {
        for (index, armed) in self.armed.iter_mut().enumerate() {
            if armed.fault == fault && path.contains(&armed.path_part) {
                if armed.skip == 0 {
                    self.armed.remove(index);
                    return true;
                }
                armed.skip -= 1;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{SimClock, SimExecutor};
    use crate::disk::{AlignedBuf, Disk, DiskError, DiskFile, OpenMode};

    /// Does something on a new disk and answers what it says.
    fn on_disk<T: 'static, F: Future<Output = T> + 'static>(
        seed: u64,
        act: impl FnOnce(SimDisk, SimClock) -> F,
    ) -> T {
        let executor = SimExecutor::new(seed);
        let disk = SimDisk::new(executor.clock(), seed);
        let clock = executor.clock();
        executor.block_on(act(disk, clock))
    }

    fn blocks(byte: u8, count: usize) -> AlignedBuf {
        AlignedBuf::copied_from(&vec![byte; count * 4096], 4096)
    }

    async fn write(disk: &SimDisk, path: &str, at: u64, byte: u8) -> Result<(), DiskError> {
        let file = disk.open(path, OpenMode::CREATE).await?;
        file.write_durable(at, blocks(byte, 1)).await.0
    }

    #[test]
    fn a_misdirected_write_lands_elsewhere_and_says_that_all_is_well() {
        let mut in_another = 0;
        for seed in 0..40 {
            let (one, two) = on_disk(seed, |disk, _| async move {
                for (path, at) in [("one", 0), ("one", 4096), ("two", 0), ("two", 4096)] {
                    write(&disk, path, at, 1).await.unwrap();
                }
                disk.sync_dir("").await.unwrap();
                disk.inject(SimFault::Misdirected, "one", 0);
                write(&disk, "one", 8192, 7).await.unwrap();
                assert_eq!(disk.stats().met(SimFault::Misdirected), 1);
                disk.power_cut();
                (disk.content("one").unwrap(), disk.content("two").unwrap())
            });
            let strays = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == 7).count();
            assert_eq!(one.len(), 8192, "it did not arrive where it was meant to");
            assert!(strays(&one) + strays(&two) > 0, "seed {seed}: it arrived nowhere");
            in_another += u64::from(strays(&two) > 0);
        }
        assert!((5..35).contains(&in_another), "{in_another} of 40 in another file");
    }

    #[test]
    fn a_slow_sync_takes_five_seconds_and_others_do_not() {
        let (slow_ns, quick_ns) = on_disk(3, |disk, clock| async move {
            disk.inject(SimFault::SlowSync, "f", 0);
            write(&disk, "f", 0, 1).await.unwrap();
            let slow_ns = clock.now_ns();
            write(&disk, "f", 0, 1).await.unwrap();
            (slow_ns, clock.now_ns() - slow_ns)
        });
        assert!(slow_ns >= SLOW_SYNC_NS && quick_ns < SLOW_SYNC_NS / 100);
    }

    #[test]
    fn a_read_only_file_system_can_be_read_and_not_changed() {
        on_disk(4, |disk, _| async move {
            write(&disk, "f", 0, 1).await.unwrap();
            disk.set_read_only(true);
            let refused = write(&disk, "f", 0, 2).await.unwrap_err();
            assert_eq!(refused.source.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
            assert!(disk.open("g", OpenMode::CREATE).await.is_err());
            assert!(disk.remove_file("f").await.is_err());
            assert!(disk.rename("f", "h").await.is_err());
            let file = disk.open("f", OpenMode::EXISTING).await.unwrap();
            let (result, buf) = file.read_at(0, blocks(0, 1), 4096).await;
            assert!(result.is_ok() && buf.as_slice().iter().all(|byte| *byte == 1));
            disk.set_read_only(false);
            write(&disk, "f", 0, 2).await.unwrap();
            assert!(disk.stats().refused_read_only >= 4);
        });
    }

    #[test]
    fn a_full_disk_takes_what_does_not_grow_it() {
        on_disk(5, |disk, _| async move {
            write(&disk, "f", 0, 1).await.unwrap();
            disk.set_capacity_bytes(Some(disk.used_bytes()));
            assert!(write(&disk, "f", 4096, 1).await.unwrap_err().is_refusal());
            assert!(write(&disk, "g", 0, 1).await.unwrap_err().is_refusal());
            write(&disk, "f", 0, 2).await.unwrap();
            disk.set_capacity_bytes(None);
            write(&disk, "f", 4096, 1).await.unwrap();
            assert_eq!(disk.stats().refused_full, 2);
        });
    }

    #[test]
    fn a_rate_is_met_about_as_often_as_it_says() {
        let met = on_disk(6, |disk, _| async move {
            disk.inject_often(SimFault::ShortWrite, "f", 200);
            for _ in 0..500 {
                write(&disk, "f", 0, 1).await.unwrap();
            }
            disk.disarm();
            write(&disk, "f", 0, 1).await.unwrap();
            disk.stats().met(SimFault::ShortWrite)
        });
        assert!((60..140).contains(&met), "{met} of 500");
    }

    #[test]
    fn damage_at_rest_can_be_put_back() {
        on_disk(7, |disk, _| async move {
            write(&disk, "f", 0, 1).await.unwrap();
            let old = disk.overwrite("f", 4000, &[9; 200]).unwrap();
            assert_eq!(old, [1; 96], "only as far as the file goes");
            assert_eq!(disk.content("f").unwrap()[4000..], [9; 96]);
            disk.overwrite("f", 4000, &old).unwrap();
            assert_eq!(disk.content("f").unwrap(), [1; 4096]);
            assert!(!disk.corrupt("f", 4096) && !disk.corrupt("g", 0));
            assert!(disk.corrupt("f", 4095));
            assert_eq!(disk.content("f").unwrap()[4095].count_ones().abs_diff(1), 1);
        });
    }
}
