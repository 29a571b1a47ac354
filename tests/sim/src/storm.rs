//! What goes wrong in a run, and how often: each seed draws which faults are on and in what order
//! they come, so that every mixture is met by some seed. Must never look at what the node does.

use crate::topics::TopicKind;
use millpond_storage::disk::sim::SimRng;

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gale {
    /// The power goes, sometimes again and again while the node recovers.
    PowerCut,
    /// The process is killed; the machine, and what its cache holds, live on.
    ProcessKill,
    /// For a while some reads of segments answer EIO.
    ReadErrors,
    /// A read of recovery answers EIO.
    RecoveryReadError,
    /// A write of a segment or a checkpoint answers EIO.
    WriteError,
    /// A sync, of a file or of a directory, answers EIO.
    SyncError,
    /// For a while writes arrive in two parts.
    ShortWrites,
    /// For a while the disk is full.
    FullDisk,
    /// For a while the file system is read-only.
    ReadOnly,
    /// A sync takes five seconds.
    SlowSync,
    /// Bits of a segment flip at rest, or a write meant for another place hits it.
    DamagedSegment,
    /// The same in the journal, where it is known to be durable.
    DamagedJournal,
    /// The same in the journal's free space, where nothing counts.
    DamagedFreeSpace,
    /// The same in the checkpoint.
    DamagedCheckpoint,
    /// The wall clock jumps, forward by years or back to 1970.
    ClockJump,
}

impl Gale {
    /// All of them.
    pub const ALL: [Gale; 15] = [
        Gale::PowerCut,
        Gale::ProcessKill,
        Gale::ReadErrors,
        Gale::RecoveryReadError,
        Gale::WriteError,
        Gale::SyncError,
        Gale::ShortWrites,
        Gale::FullDisk,
        Gale::ReadOnly,
        Gale::SlowSync,
        Gale::DamagedSegment,
        Gale::DamagedJournal,
        Gale::DamagedFreeSpace,
        Gale::DamagedCheckpoint,
        Gale::ClockJump,
    ];
}

/// How hard a run is.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// The test that runs it, for the command that runs a seed again.
    pub test: &'static str,
    /// What may happen; each seed draws a part of it.
    pub kinds: &'static [Gale],
    /// How many gales a run has, the node running some while between them.
    pub gales: u64,
    /// Bounds of that while, in virtual ms.
    pub calm_ms: (u64, u64),
    /// Which topics there are.
    pub topics: &'static [TopicKind],
    /// Producers.
    pub lanes: u32,
    /// Topics that come and go.
    pub fleeting: i32,
    /// Whether transactional workers are at work.
    pub has_transactions: bool,
}

impl Storm {
    /// Nothing but power cuts, four a run.
    pub const POWER_CUTS: Storm = Storm {
        test: "power_cuts",
        kinds: &[Gale::PowerCut],
        gales: 4,
        calm_ms: (5, 400),
        topics: &TopicKind::PLAIN,
        lanes: 7,
        fleeting: 1,
        has_transactions: false,
    };

    /// Everything that a disk can do, five gales a run.
    pub const DISK_FAULTS: Storm = Storm {
        test: "disk_faults",
        kinds: &Gale::ALL,
        calm_ms: (5, 300),
        gales: 5,
        ..Storm::POWER_CUTS
    };

    /// The same over transactions: from one topic to another, exactly once.
    pub const TRANSACTIONS: Storm = Storm {
        test: "transactions",
        kinds: &Gale::ALL,
        gales: 4,
        calm_ms: (10, 350),
        topics: &TopicKind::MILL,
        lanes: 3,
        fleeting: 0,
        has_transactions: true,
    };

    /// The gales of one run: each kind is on or off, and those that are on come in any order.
    pub fn draw(&self, rng: &mut SimRng) -> Vec<Gale> {
        let mut on: Vec<Gale> = self.kinds.iter().copied().filter(|_| rng.chance(300)).collect();
        if on.is_empty() {
            on.push(self.kinds[rng.below(self.kinds.len() as u64) as usize]);
        }
        (0..self.gales).map(|_| on[rng.below(on.len() as u64) as usize]).collect()
    }
}
