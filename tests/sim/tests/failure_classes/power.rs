//! A1, A2, A5, A9: the power goes, or the process is killed.

use millpond_sim::lab::{Lab, Write, value};
use millpond_storage::disk::sim::{SimImage, SimRng};

const SECTOR_BYTES: usize = 512;

#[test]
fn a01_acked_loss_at_power_cut() {
    let (mut cuts_with_writes_under_way, mut acked) = (0, 0);
    for seed in 0..60 {
        let mut rng = SimRng::new(seed);
        let mut lab = Lab::new(seed);
        lab.start();
        lab.create_topic("t", 2);
        for round in 0..4 {
            let writes: Vec<Write> = (0..30)
                .map(|index| lab.send("t", index % 2, &value(round * 100 + index as usize, 900)))
                .collect();
            lab.run_operations(rng.below(6), 200);
            cuts_with_writes_under_way += u64::from(writes.iter().any(|write| !write.is_done()));
            lab.power_cycle();
            lab.check();
        }
        acked += lab.acked().len();
    }
    assert!(acked > 60 * 10, "{acked} records were acknowledged");
    assert!(cuts_with_writes_under_way > 60, "{cuts_with_writes_under_way} of 240");
}

#[test]
fn a02_a_node_that_lost_its_unsynced_tail_never_contradicts_what_it_acked() {
    let mut lost = 0;
    for seed in 0..60 {
        let mut rng = SimRng::new(seed);
        let mut lab = Lab::new(seed);
        lab.start();
        lab.create_topic("t", 1);
        for round in 0..4 {
            let before = lab.acked().len();
            let sent = 20;
            for index in 0..sent {
                lab.send("t", 0, &value(round * 100 + index, 400));
            }
            lab.run_operations(rng.below(4), 100);
            lab.disk().set_extra_sync_ns(500_000_000);
            // What any consumer is shown now, it can tell others of.
            let shown = lab.read("t", 0);
            lab.machine.power_cut();
            lab.disk().set_extra_sync_ns(0);
            lab.start();
            let found = lab.read("t", 0);
            assert!(found.starts_with(&shown), "seed {seed}: what was shown is not there");
            lab.check();
            // An offset that somebody was told of is never given to another record.
            let next = lab.produce("t", 0, "next");
            assert_eq!(next, found.len() as i64, "seed {seed}");
            lost += u64::from(lab.acked().len() < before + sent);
        }
    }
    assert!(lost > 60, "only {lost} of 240 cuts met a tail that was not acknowledged");
}

#[test]
fn a05_torn_tail_never_bricks_and_offsets_are_never_reused() {
    let lab = &mut Lab::new(5);
    lab.start();
    lab.create_topic("t", 1);
    for index in 0..3 {
        lab.produce("t", 0, &value(index, 300));
    }
    let mut images = 0;
    for index in 3..9 {
        let (before, acked) = (lab.disk().image(), lab.acked());
        lab.produce("t", 0, &value(index, [1_500, 5_000, 9_000][index % 3]));
        let after = lab.disk().image();
        let torn = torn_between(&before, &after);
        assert!(torn.len() > 4, "a write of {} sectors", torn.len() / 2);
        for (count, image) in torn.into_iter().enumerate() {
            let mut cut = Lab::on_image(1_000 + count as u64, &image);
            cut.owe(acked.clone());
            open_and_go_on(&mut cut);
            images += 1;
        }
        let mut whole = Lab::on_image(2_000, &after);
        whole.owe(lab.acked());
        open_and_go_on(&mut whole);
    }
    assert!(images > 80, "{images} images");
}

/// What is there stays, and a new record takes an offset of its own, twice over.
fn open_and_go_on(lab: &mut Lab) {
    lab.start();
    for round in 0..2 {
        lab.check();
        let found = lab.read("t", 0);
        let offset = lab.produce("t", 0, &format!("new in round {round}"));
        assert_eq!(offset, found.len() as i64);
        lab.power_cycle();
        assert!(lab.read("t", 0).starts_with(&found));
    }
    lab.check();
}

/// Every picture in which only the first, or only the last, n of the sectors arrived that differ.
fn torn_between(before: &SimImage, after: &SimImage) -> Vec<SimImage> {
    let mut sectors = Vec::new();
    for path in after.paths() {
        let (old, new) = (before.file(path).expect("no new file"), after.file(path).expect("it"));
        assert_eq!(old.len(), new.len(), "only the journal is written");
        for at in (0..new.len()).step_by(SECTOR_BYTES) {
            let sector = at..(at + SECTOR_BYTES).min(new.len());
            if old[sector.clone()] != new[sector.clone()] {
                sectors.push((path.to_owned(), sector));
            }
        }
    }
    let with = |chosen: &[(String, std::ops::Range<usize>)]| {
        let mut image = before.clone();
        for (path, sector) in chosen {
            let new = &after.file(path).expect("it")[sector.clone()];
            image.file_mut(path).expect("it")[sector.clone()].copy_from_slice(new);
        }
        image
    };
    let firsts = (0..sectors.len()).map(|count| with(&sectors[..count]));
    let lasts = (1..sectors.len()).map(|from| with(&sectors[from..]));
    firsts.chain(lasts).collect()
}

#[test]
fn a09_process_kill_loses_nothing() {
    for seed in 0..60 {
        let mut rng = SimRng::new(seed);
        let mut lab = Lab::new(seed);
        lab.machine.storage.tail_bytes = 20 << 10;
        lab.start();
        lab.create_topic("t", 2);
        for round in 0..5 {
            for index in 0..25 {
                lab.send("t", index % 2, &value(round * 100 + index as usize, 900));
            }
            lab.run_operations(rng.below(60), 200);
            lab.restart_process();
            lab.check();
        }
        // And what a killed process left in the cache is on the device by now.
        lab.power_cycle();
        lab.check();
        assert!(lab.acked().len() > 20, "seed {seed}: {} acknowledged", lab.acked().len());
    }
}
