//! F1, F2: what time somebody says it is, and how much memory and how many descriptors there are.

use millpond_sim::lab::{Lab, Write, value};
use millpond_wire::limits::OPEN_SEGMENTS_MAX;

const YEAR_MS: i64 = 365 * 24 * 3_600_000;

#[test]
fn f01_clock_jumps_delete_nothing() {
    for seed in 0..10 {
        let mut lab = Lab::new(seed);
        lab.machine.storage.tail_bytes = 8 << 10;
        lab.start();
        lab.create_topic("t", 2);
        let jumps = [0, 10 * YEAR_MS, -1_000, 56 * YEAR_MS, 0, 3 * YEAR_MS];
        for (round, jump_ms) in jumps.into_iter().enumerate() {
            lab.machine.set_wall_jump_ms(jump_ms);
            for index in 0..12 {
                lab.produce("t", index % 2, &value(round * 100 + index as usize, 900));
            }
            // Long enough for whatever looks at the clock now and then.
            lab.run_ms(700_000);
            lab.check();
            lab.power_cycle();
            lab.check();
        }
        assert_eq!(lab.acked().len(), 72, "seed {seed}");
    }
}

#[test]
fn f02_descriptors_are_capped_and_every_partition_is_served() {
    let partitions = OPEN_SEGMENTS_MAX as i32 + 40;
    let mut lab = Lab::new(2);
    lab.machine.storage.journal_file_bytes = 1 << 20;
    lab.machine.storage.tail_bytes = 64 << 10;
    lab.start();
    lab.create_topic("wide", partitions);
    let writes: Vec<Write> =
        (0..partitions).map(|partition| lab.send("wide", partition, &value(0, 300))).collect();
    for write in &writes {
        assert!(matches!(lab.outcome(write), Some(Ok(0))));
    }
    lab.shut_down();
    lab.start();
    let fixed = lab.disk().open_files();
    let mut most = 0;
    for round in 0..2 {
        for partition in 0..partitions {
            assert_eq!(lab.read("wide", partition).len(), 1, "round {round}");
            most = most.max(lab.disk().open_files());
        }
    }
    assert!(most > fixed + 100, "segments were never open: {most}");
    assert!(most <= fixed + OPEN_SEGMENTS_MAX as u64 + 1, "{most} files are open");
}

#[test]
fn f02_memory_is_capped_new_writes_wait_and_what_is_there_is_served() {
    const TAIL_MAX: usize = 96 << 10;
    let mut lab = Lab::new(3);
    lab.machine.storage.journal_file_bytes = 1 << 20;
    lab.machine.storage.tail_bytes = TAIL_MAX / 2;
    lab.machine.config.tail_max_bytes = TAIL_MAX;
    lab.start();
    lab.create_topic("t", 1);
    for index in 0..10 {
        lab.produce("t", 0, &value(index, 1_000));
    }
    // Nothing comes to segments for a while: memory cannot be given back.
    lab.disk().set_extra_sync_ns(3_000_000_000);
    let writes: Vec<Write> = (0..300).map(|n| lab.send("t", 0, &value(n, 2_000))).collect();
    for _ in 0..100 {
        lab.run_ms(20);
        let engine = lab.machine.engine().expect("a node that serves");
        let held = engine.with_engine(|engine| engine.tail_bytes());
        assert!(held <= TAIL_MAX + 8_000, "{held} bytes are held");
    }
    let waiting = writes.iter().filter(|write| !write.is_done()).count();
    assert!(waiting > 100, "only {waiting} of 300 wait or are refused");
    lab.check();
    lab.disk().set_extra_sync_ns(0);
    lab.run_ms(30_000);
    lab.produce("t", 0, "and on");
    lab.check();
}
