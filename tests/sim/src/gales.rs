//! How each kind of trouble is made. Each leaves the disk whole behind it, but for damage; what the
//! node must make of it is the run's business and the oracle's. Must never excuse the node.

use crate::damage;
use crate::run::Run;
use crate::storm::Gale;
use millpond_storage::disk::sim::{SLOW_SYNC_NS, SimFault};

/// The kinds of files that a fault is aimed at.
const BEHIND_THE_JOURNAL: [&str; 2] = ["topics", "checkpoint"];
const ANYWHERE: [&str; 3] = ["topics", "checkpoint", "journal"];
/// A start takes less, in virtual ms.
const START_MS: u64 = 60;
const YEAR_MS: i64 = 365 * 24 * 3_600_000;

impl Run {
    /// Lets a gale blow; false if there was nothing for it to hit.
    pub(crate) fn blow(&mut self, gale: Gale) -> bool {
        match gale {
            Gale::PowerCut => self.cut_power(),
            Gale::ProcessKill => self.kill_process(),
            Gale::ReadErrors => self.fail_reads(),
            Gale::RecoveryReadError => self.fail_recovery(),
            Gale::WriteError => self.fail_one(&[SimFault::WriteError], &BEHIND_THE_JOURNAL),
            Gale::SyncError => self.fail_sync(),
            Gale::ShortWrites => self.shorten_writes(),
            Gale::FullDisk => self.fill_disk(),
            Gale::ReadOnly => self.remount_read_only(),
            Gale::SlowSync => self.stall_sync(),
            Gale::DamagedSegment => self.damage_segment(),
            Gale::DamagedJournal | Gale::DamagedFreeSpace | Gale::DamagedCheckpoint => {
                self.damage_while_off(gale)
            }
            Gale::ClockJump => self.jump_clock(),
        }
    }

    /// Brown-outs repeat: sometimes the power goes again while the node still recovers.
    fn cut_power(&mut self) -> bool {
        self.report.cut_under_way += u64::from(self.cut());
        self.pass_ms(2);
        while self.rng.chance(250) && !self.has_failed() {
            self.turn_on();
            let us = self.rng.between(1, 8_000);
            self.pass_us(us);
            self.cut();
        }
        self.turn_on();
        true
    }

    fn kill_process(&mut self) -> bool {
        self.kill();
        let now_ns = self.executor.clock().now_ns();
        self.restart_at_ns = Some(now_ns + self.rng.between(0, 20_000_000));
        self.pass_ms(START_MS);
        true
    }

    fn fail_reads(&mut self) -> bool {
        let before = self.met(SimFault::ReadError);
        self.world.oracle.set_reads_may_fail(true);
        let per_mille = self.rng.between(20, 500);
        self.machine.disk().inject_often(SimFault::ReadError, "topics", per_mille);
        self.pass_calm();
        self.machine.disk().disarm();
        // What was refused may still be on its way.
        self.pass_ms(20);
        self.world.oracle.set_reads_may_fail(false);
        self.met(SimFault::ReadError) > before
    }

    fn fail_recovery(&mut self) -> bool {
        let before = self.met(SimFault::ReadError);
        self.cut();
        let part = ["journal", "checkpoint"][self.rng.below(2) as usize];
        let skip = if part == "journal" { self.rng.below(6) } else { 0 };
        self.machine.disk().inject(SimFault::ReadError, part, skip);
        self.turn_on();
        self.pass_ms(START_MS);
        self.machine.disk().disarm();
        self.met(SimFault::ReadError) > before
    }

    /// One operation on one kind of file fails.
    fn fail_one(&mut self, faults: &[SimFault], parts: &[&str]) -> bool {
        let fault = faults[self.rng.below(faults.len() as u64) as usize];
        let part = parts[self.rng.below(parts.len() as u64) as usize];
        let (before, skip) = (self.met(fault), self.rng.below(6));
        self.machine.disk().inject(fault, part, skip);
        self.pass_calm();
        self.machine.disk().disarm();
        self.met(fault) > before
    }

    fn fail_sync(&mut self) -> bool {
        if self.rng.chance(250) {
            return self.fail_one(&[SimFault::SyncDirError], &BEHIND_THE_JOURNAL);
        }
        self.fail_one(&[SimFault::SyncError], &ANYWHERE)
    }

    fn shorten_writes(&mut self) -> bool {
        let before = self.met(SimFault::ShortWrite);
        let per_mille = self.rng.between(50, 600);
        self.machine.disk().inject_often(SimFault::ShortWrite, "", per_mille);
        self.pass_calm();
        self.machine.disk().disarm();
        self.met(SimFault::ShortWrite) > before
    }

    fn fill_disk(&mut self) -> bool {
        let before = self.machine.disk().stats().refused_full;
        let room = self.rng.between(0, 64 << 10);
        let used = self.machine.disk().used_bytes();
        self.machine.disk().set_capacity_bytes(Some(used + room));
        self.pass_calm();
        self.pass_calm();
        self.machine.disk().set_capacity_bytes(None);
        self.machine.disk().stats().refused_full > before
    }

    fn remount_read_only(&mut self) -> bool {
        let before = self.machine.disk().stats().refused_read_only;
        self.machine.disk().set_read_only(true);
        self.pass_calm();
        self.machine.disk().set_read_only(false);
        self.machine.disk().stats().refused_read_only > before
    }

    fn stall_sync(&mut self) -> bool {
        let before = self.met(SimFault::SlowSync);
        let part = ANYWHERE[self.rng.below(3) as usize];
        let skip = self.rng.below(4);
        self.machine.disk().inject(SimFault::SlowSync, part, skip);
        self.pass_calm();
        if self.met(SimFault::SlowSync) > before && self.rng.chance(500) {
            self.pass_ms(SLOW_SYNC_NS / 1_000_000);
        }
        self.machine.disk().disarm();
        self.met(SimFault::SlowSync) > before
    }

    /// Under the feet of the running node.
    fn damage_segment(&mut self) -> bool {
        let machine = &self.machine;
        let name_of = |dir: &str| machine.topic_of_dir(dir);
        let Some(hit) = damage::strike_segment(machine.disk(), &mut self.rng, name_of) else {
            return false;
        };
        self.world.trace.note("gale", || {
            let (path, at) = (&hit.damage.path, hit.damage.offset_bytes);
            format!("hits {path} at {at}, partition {} from {} on", hit.partition, hit.from)
        });
        self.world.oracle.damaged(hit.partition, hit.from, hit.upto);
        true
    }

    /// While the power is off; then the node starts over it, or refuses to.
    fn damage_while_off(&mut self, gale: Gale) -> bool {
        self.cut();
        let disk = self.machine.disk();
        let damage = match gale {
            Gale::DamagedJournal => damage::strike_journal(disk, &mut self.rng),
            Gale::DamagedCheckpoint => damage::strike_checkpoint(disk, &mut self.rng),
            _ => damage::strike_free_space(disk, &mut self.rng),
        };
        let is_hit = damage.is_some();
        if let Some(damage) = damage {
            self.world
                .trace
                .note("gale", || format!("hits {} at {}", damage.path, damage.offset_bytes));
            // A node that refuses to start because of bytes that count for nothing is wrong.
            self.damage = (gale != Gale::DamagedFreeSpace).then_some(damage);
        }
        self.turn_on();
        self.pass_ms(START_MS);
        is_hit
    }

    /// What is kept does not depend on what time somebody says it is.
    fn jump_clock(&mut self) -> bool {
        let years = self.rng.below(60) as i64;
        self.machine.set_wall_jump_ms(years * YEAR_MS);
        true
    }

    fn met(&self, fault: SimFault) -> u64 {
        self.machine.disk().stats().met(fault)
    }
}
