//! A disk in memory whose every delay, order and loss is decided by a seed, with the executor and
//! the clock that drive it. For tests: this crate's and those of the whole node.
//!
//! It is meaner than any file system: an unsynced write is lost, kept or torn by its sectors, each
//! alone; an unsynced directory entry may vanish; a failed sync loses what it covered for good;
//! writes go astray, bits flip, syncs take seconds, the file system becomes read-only. It must never
//! do anything that its seed does not decide.

mod clock;
mod executor;
mod faults;
mod image;
mod inode;
mod names;
mod ops;
mod rng;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

pub use clock::{SimClock, SimSleep};
pub use executor::{SimExecutor, SimGroup, SimTask};
pub use faults::{SLOW_SYNC_NS, SimFault};
pub use image::SimImage;
pub use ops::SimFile;
pub use rng::SimRng;

use faults::Faults;
use inode::{CutMood, Inode};
use names::{InodeId, Names, Node};

/// How fast the simulated device is: bounds of the seeded delay of each operation, in ns.
#[derive(Clone, Copy, Debug)]
pub struct SimLatency {
    /// A read.
    pub read_ns: (u64, u64),
    /// A write to the cache.
    pub write_ns: (u64, u64),
    /// A durable write, a sync of a file or of a directory.
    pub sync_ns: (u64, u64),
}

impl Default for SimLatency {
    fn default() -> SimLatency {
        SimLatency {
            read_ns: (5_000, 200_000),
            write_ns: (5_000, 200_000),
            sync_ns: (100_000, 4_000_000),
        }
    }
}

/// What the disk was asked to do so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimDiskStats {
    /// Operations of any kind that came to their end.
    pub operations: u64,
    /// Writes, durable ones included.
    pub writes: u64,
    /// Bytes of those.
    pub written_bytes: u64,
    /// Syncs of files and durable writes.
    pub syncs: u64,
    /// Syncs of directories.
    pub dir_syncs: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Unsynced writes that a power cut lost.
    pub writes_lost: u64,
    /// Unsynced writes of which a power cut left some sectors.
    pub writes_torn: u64,
    /// Unsynced writes that outlived a power cut, though an older one of their file did not.
    pub writes_reordered: u64,
    /// Operations that met a fault, by [`SimFault`].
    pub faults_met: [u64; SimFault::COUNT],
    /// Operations that found the device full.
    pub refused_full: u64,
    /// Operations that found the file system read-only.
    pub refused_read_only: u64,
}

impl SimDiskStats {
    /// How many operations met this fault.
    pub fn met(&self, fault: SimFault) -> u64 {
        self.faults_met[fault as usize]
    }
}

/// The simulated disk. Clones are the same disk; it outlives the processes that use it.
#[derive(Clone)]
pub struct SimDisk {
    state: Rc<RefCell<State>>,
    clock: SimClock,
    /// How many times a file is open.
    open_files: Rc<Cell<u64>>,
}

struct State {
    rng: SimRng,
    latency: SimLatency,
    names: Names,
    inodes: BTreeMap<InodeId, Inode>,
    next_inode: u64,
    next_op: u64,
    /// Counts power cuts: completions of an earlier life do not arrive.
    life: u64,
    locks: BTreeSet<String>,
    faults: Faults,
    capacity_bytes: Option<u64>,
    is_read_only: bool,
    extra_sync_ns: u64,
    block_bytes: usize,
    stats: SimDiskStats,
}

impl SimDisk {
    /// An empty disk on this clock, every chance of which is decided by `seed`.
    pub fn new(clock: SimClock, seed: u64) -> SimDisk {
        let state = State {
            rng: SimRng::new(seed),
            latency: SimLatency::default(),
            names: Names::default(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            next_op: 1,
            life: 0,
            locks: BTreeSet::new(),
            faults: Faults::default(),
            capacity_bytes: None,
            is_read_only: false,
            extra_sync_ns: 0,
            block_bytes: crate::disk::BLOCK_BYTES_MIN,
            stats: SimDiskStats::default(),
        };
        SimDisk { state: Rc::new(RefCell::new(state)), clock, open_files: Rc::default() }
    }

    /// Changes the speed of the device.
    pub fn set_latency(&self, latency: SimLatency) {
        self.state.borrow_mut().latency = latency;
    }

    /// Adds this to every sync from now on: a device that stalls.
    pub fn set_extra_sync_ns(&self, extra_ns: u64) {
        self.state.borrow_mut().extra_sync_ns = extra_ns;
    }

    /// Caps the sum of all file lengths; a write beyond it answers ENOSPC.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.state.borrow_mut().capacity_bytes = capacity_bytes;
    }

    /// The file system lets nobody change it any more (`true`), as after an error of its own, or is
    /// whole again (`false`).
    pub fn set_read_only(&self, is_read_only: bool) {
        self.state.borrow_mut().is_read_only = is_read_only;
    }

    /// The power goes: what was not synced is lost, kept or torn as the seed has it; operations in
    /// flight never complete; locks are free. Kill the tasks of the process as well.
    pub fn power_cut(&self) {
        let state = &mut *self.state.borrow_mut();
        state.life += 1;
        state.locks.clear();
        state.stats.cuts += 1;
        let mood = match state.rng.below(4) {
            0 => CutMood::LoseAll,
            1 => CutMood::KeepAll,
            _ => CutMood::EachItsOwn,
        };
        state.names.cut(mood, &mut state.rng);
        let named = state.names.inodes();
        state.inodes.retain(|id, _| named.contains(id));
        for inode in state.inodes.values_mut() {
            let tally = inode.cut(mood, &mut state.rng);
            state.stats.writes_lost += tally.lost;
            state.stats.writes_torn += tally.torn;
            state.stats.writes_reordered += tally.reordered;
        }
    }

    /// The process dies but the machine lives: the cache stays, operations in flight complete,
    /// locks are free.
    pub fn process_died(&self) {
        self.state.borrow_mut().locks.clear();
    }

    /// Whether an operation that the device was handed is not over.
    pub fn has_in_flight(&self) -> bool {
        self.state.borrow().inodes.values().any(Inode::has_in_flight)
    }

    /// The paths of all files, sorted.
    pub fn files(&self) -> Vec<String> {
        let state = self.state.borrow();
        let files = state.names.iter().filter(|(_, node)| matches!(node, Node::File(_)));
        files.map(|(path, _)| path.to_owned()).collect()
    }

    /// A copy of a file's bytes as a reader would see them.
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        let Some(Node::File(id)) = state.names.get(path) else {
            return None;
        };
        state.inodes.get(&id).map(|inode| inode.read_all().to_vec())
    }

    /// Files that are open now: descriptors, clones of one not counted.
    pub fn open_files(&self) -> u64 {
        self.open_files.get()
    }

    /// Bytes of all files that have a name.
    pub fn used_bytes(&self) -> u64 {
        self.state.borrow().used_bytes()
    }

    /// What was asked so far.
    pub fn stats(&self) -> SimDiskStats {
        self.state.borrow().stats
    }
}

impl State {
    /// Bytes of the files that have a name.
    fn used_bytes(&self) -> u64 {
        let named = self.names.inodes();
        let used = self.inodes.iter().filter(|(id, _)| named.contains(id));
        used.map(|(_, inode)| inode.len() as u64).sum()
    }

    fn delay_ns(&mut self, bounds: (u64, u64)) -> u64 {
        self.rng.between(bounds.0, bounds.1)
    }
}
