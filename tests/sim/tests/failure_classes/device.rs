//! A6, A10, A11: the device says no.

use millpond_sim::lab::{Lab, Write, value};
use millpond_sim::stop::Stop;
use millpond_storage::disk::sim::SimFault;
use millpond_wire::ErrorCode;

/// A node that has written some.
fn lab(seed: u64) -> Lab {
    let mut lab = Lab::new(seed);
    lab.machine.storage.tail_bytes = 16 << 10;
    lab.start();
    lab.create_topic("t", 2);
    for index in 0..10 {
        lab.produce("t", index % 2, &value(index as usize, 500));
    }
    lab
}

#[test]
fn a06_failed_sync_is_fatal_and_not_retried() {
    for seed in 0..40 {
        let mut lab = lab(seed);
        let before = lab.acked().len();
        lab.disk().inject(SimFault::SyncError, "journal", 0);
        let writes: Vec<Write> = (0..6).map(|n| lab.send("t", 0, &value(n, 300))).collect();
        let stop = lab.await_stop();
        assert!(matches!(stop, Stop::Died(_)), "seed {seed}: {stop}");
        let said = stop.to_string();
        assert!(said.contains("journal/") && said.contains("failed"), "seed {seed}: {said}");
        // The device is well again. Nothing is tried again, and nothing is acknowledged.
        let written = lab.disk().stats();
        lab.run_ms(20_000);
        let since = lab.disk().stats();
        assert_eq!((since.writes, since.syncs), (written.writes, written.syncs), "seed {seed}");
        for write in &writes {
            let outcome = write.take();
            assert!(outcome.is_none(), "seed {seed}: {outcome:?}");
        }
        assert_eq!((lab.acked().len(), lab.machine.late_acks()), (before, 0), "seed {seed}");
        if seed % 2 == 0 {
            lab.power_cycle();
        } else {
            lab.restart_process();
        }
        lab.check();
        lab.produce("t", 0, "and on");
        lab.power_cycle();
        lab.check();
    }
}

#[test]
fn a06_failed_sync_behind_the_journal_is_fatal_too_and_loses_nothing() {
    for (fault, part) in [
        (SimFault::SyncError, "topics"),
        (SimFault::SyncError, "checkpoint"),
        (SimFault::SyncDirError, "topics"),
        (SimFault::SyncDirError, "checkpoint"),
    ] {
        for seed in 0..8 {
            let mut lab = lab(seed);
            lab.disk().inject(fault, part, 0);
            for index in 0..60 {
                lab.send("t", index % 2, &value(index as usize, 900));
            }
            let stop = lab.await_stop();
            let said = stop.to_string();
            let is_named = said.contains("sync") || said.contains("durable write");
            assert!(said.contains(part) && is_named, "seed {seed}: {said}");
            lab.machine.power_off();
            lab.run_ms(10);
            lab.power_cycle();
            lab.check();
        }
    }
}

#[test]
fn a10_read_error_is_never_served_as_data() {
    for seed in 0..40 {
        let mut lab = lab(seed);
        lab.shut_down();
        lab.start();
        let whole = lab.read("t", 0);
        for skip in 0..6 {
            lab.disk().inject(SimFault::ReadError, "topics", skip);
            let mut at = 0;
            while at < whole.len() {
                let fetched = lab.fetch("t", 0, at as i64, 1_000);
                if fetched.code == ErrorCode::None {
                    for (offset, value) in fetched.values {
                        assert_eq!(Some(&value), whole.get(offset as usize), "seed {seed}");
                        at = at.max(offset as usize + 1);
                    }
                } else {
                    assert_eq!(fetched.code, ErrorCode::KafkaStorageError, "seed {seed}");
                    assert!(fetched.values.is_empty(), "seed {seed}: an error with data");
                }
            }
            lab.disk().disarm();
        }
        let met = lab.disk().stats().met(SimFault::ReadError);
        assert!(met > 0, "seed {seed}: no read failed");
        lab.check();
        lab.produce("t", 0, "and on");
    }
}

#[test]
fn a10_read_error_of_recovery_is_no_torn_tail() {
    let mut refused = 0;
    for part in ["journal", "checkpoint"] {
        for skip in 0..8 {
            let mut lab = lab(100 + skip);
            lab.machine.power_cut();
            let before = lab.disk().image();
            lab.disk().inject(SimFault::ReadError, part, skip);
            if let Err(stop) = lab.try_start() {
                refused += 1;
                let said = stop.to_string();
                assert!(said.contains("read of") && said.contains(part), "{said}");
                assert!(lab.disk().image() == before, "a start that failed changed something");
                lab.start();
            }
            lab.check();
        }
    }
    assert!(refused >= 4, "only {refused} starts met it");
}

#[test]
fn a11_full_or_read_only_disk_fails_closed_and_recovers() {
    for seed in 0..20 {
        let mut lab = lab(seed);
        lab.disk().set_read_only(true);
        let writes: Vec<Write> = (0..4).map(|n| lab.send("t", 0, &value(n, 300))).collect();
        let said = lab.await_stop().to_string();
        assert!(said.contains("journal/"), "seed {seed}: {said}");
        assert!(writes.iter().all(|write| write.take().is_none()), "seed {seed}: acknowledged");
        lab.machine.power_off();
        lab.disk().process_died();
        let refusal = lab.refusal();
        assert!(refusal.to_lowercase().contains("read-only"), "seed {seed}: {refusal}");
        lab.disk().set_read_only(false);
        lab.start();
        lab.check();
        lab.produce("t", 0, "and on");
    }
}

#[test]
fn a11_full_disk_refuses_writes_cleanly_and_they_go_on_when_there_is_room() {
    for seed in 0..20 {
        let mut lab = lab(seed);
        lab.disk().set_capacity_bytes(Some(lab.disk().used_bytes()));
        for index in 0..200 {
            lab.send("t", index % 2, &value(index as usize, 2_000));
        }
        lab.run_ms(2_000);
        assert!(lab.machine.take_stop().is_none(), "seed {seed}: it stopped");
        // Reads go on meanwhile.
        lab.check();
        lab.disk().set_capacity_bytes(None);
        lab.run_ms(10_000);
        lab.check();
        lab.produce("t", 0, "and on");
        lab.power_cycle();
        lab.check();
    }
}
