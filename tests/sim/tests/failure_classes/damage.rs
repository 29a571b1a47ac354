//! A3, A4: files that are missing, and bytes that are not what was written.

use millpond_sim::lab::{Lab, value};
use millpond_storage::disk::sim::{SimImage, SimRng};
use millpond_storage::journal::format::CommitHeader;
use millpond_wire::ErrorCode;
use std::collections::BTreeSet;

const BLOCK_BYTES: usize = 4096;

/// A node with two topics in segments and some more in its journal, sealed and switched off.
fn image_of_a_node() -> (SimImage, Lab) {
    let mut lab = Lab::new(4);
    lab.start();
    lab.create_topic("hit", 1);
    lab.create_topic("other", 1);
    for index in 0..20 {
        lab.produce("hit", 0, &value(index, 450));
        lab.produce("other", 0, &value(index, 700));
    }
    lab.shut_down();
    lab.start();
    for index in 20..30 {
        lab.produce("hit", 0, &value(index, 450));
        lab.produce("other", 0, &value(index, 700));
    }
    // An idle journal seals what it has: from then on all of it is known to be durable.
    lab.run_ms(10_000);
    lab.machine.power_cut();
    (lab.disk().image(), lab)
}

#[test]
fn a03_an_emptied_directory_is_noticed() {
    let (image, whole) = image_of_a_node();
    for (lost, named) in [
        ("checkpoint", "no checkpoint"),
        ("journal", "journal/000.mpj is unusable: it is missing"),
        ("journal/001.mpj", "journal/001.mpj is unusable: it is missing"),
    ] {
        let mut image = image.clone();
        image.remove(lost);
        let mut lab = Lab::on_image(30, &image);
        let refusal = lab.refusal();
        assert!(refusal.contains(named), "without {lost}: {refusal}");
        assert!(lab.disk().image() == image, "without {lost}: something was changed");
    }
    // Without segments the node starts, and says which history it cannot read: never nothing.
    let mut without = image.clone();
    without.remove("topics");
    let mut lab = Lab::on_image(31, &without);
    match lab.try_start() {
        Ok(()) => {
            let fetched = lab.fetch("hit", 0, 0, 1 << 20);
            assert_eq!(fetched.code, ErrorCode::KafkaStorageError);
            assert!(fetched.values.is_empty());
            lab.produce("hit", 0, "and on");
        }
        Err(stop) => assert!(stop.to_string().contains("topics/"), "{stop}"),
    }
    drop(whole);
}

#[test]
fn a03_an_empty_directory_is_a_new_node_and_takes_no_part_of_an_old_one() {
    let (image, _) = image_of_a_node();
    let mut new = Lab::new(32);
    new.machine.storage.journal_seed = 0xBEEF;
    new.start();
    assert!(!new.has_topic("hit"), "a new node knows nothing");
    new.create_topic("hit", 1);
    assert_eq!(new.produce("hit", 0, "first"), 0);
    new.machine.power_cut();
    let mut mixed = new.disk().image();
    mixed.put("journal/001.mpj", image.file("journal/001.mpj").expect("it").to_vec());
    let refusal = Lab::on_image(33, &mixed).refusal();
    assert!(refusal.contains("belongs to another ring"), "{refusal}");
}

/// The first block of one partition where that of another should be: its batches have the offsets
/// that belong there, and right checksums.
#[test]
fn a04_the_first_block_of_another_partition_is_refused_though_the_file_was_open() {
    let (image, _) = image_of_a_node();
    let mut lab = Lab::on_image(41, &image);
    lab.start();
    assert_eq!(lab.read("hit", 0).len(), 30);
    let segment = |topic: &str| {
        let mut paths = lab.disk().files();
        let dir = lab.dir_of(topic);
        paths.retain(|path| path.ends_with(".seg") && path.contains(&dir));
        paths.swap_remove(0)
    };
    let stray = lab.disk().content(&segment("other")).expect("a segment");
    lab.disk().overwrite(&segment("hit"), 0, &stray[..BLOCK_BYTES]).expect("a segment");
    let fetched = lab.fetch("hit", 0, 0, 1 << 20);
    assert_eq!((fetched.code, fetched.values.len()), (ErrorCode::KafkaStorageError, 0));
    assert_eq!(lab.read("other", 0).len(), 30);
}

#[test]
fn a04_bit_flip_or_misdirected_write_is_found() {
    let (image, whole) = image_of_a_node();
    let mut rng = SimRng::new(44);
    let (mut refused, mut owned_up, mut harmless) = (0, 0, 0);
    for (path, offset) in places(&image) {
        for is_flip in [true, false] {
            let mut damaged = image.clone();
            let bytes = damaged.file_mut(&path).expect("a file of the image");
            if is_flip {
                bytes[offset] ^= 1 << rng.below(8);
            } else {
                // A sector that was meant for another place.
                let at = offset - offset % 512;
                let end = (at + 512).min(bytes.len());
                let stray: Vec<u8> = (0..end - at).map(|_| rng.next_u64() as u8).collect();
                bytes[at..end].copy_from_slice(&stray);
            }
            let mut lab = Lab::on_image(40, &damaged);
            lab.owe(whole.acked());
            match lab.try_start() {
                Err(stop) => {
                    let said = stop.to_string();
                    let kind = path.split('/').next().expect("a directory");
                    assert!(said.contains(kind), "{path} at {offset}: {said}");
                    assert!(lab.disk().image() == damaged, "{path}: something was changed");
                    refused += 1;
                }
                Ok(()) if serves_it_all_or_owns_up(&lab, &path) => owned_up += 1,
                // Commits that a checkpoint has made superfluous, and the padding of others.
                Ok(()) if path.starts_with("journal/") => {}
                // The leader epoch of a batch is outside of its checksum.
                Ok(()) => harmless += 1,
            }
        }
    }
    println!("{refused} refused, {owned_up} read errors, {harmless} of no effect");
    assert!(refused > 50 && owned_up > 50, "{refused} refused, {owned_up} read errors");
    assert!(harmless < owned_up / 10, "{harmless} of no effect");
}

/// Some places of every file that holds something: of the journal only what was written.
fn places(image: &SimImage) -> Vec<(String, usize)> {
    let mut places = Vec::new();
    // A checkpoint that a newer one has replaced counts for nothing.
    let newest = image.paths().filter(|path| path.ends_with(".mpc")).max();
    for path in image.paths().filter(|path| !path.ends_with(".mpc") || Some(*path) == newest) {
        let bytes = image.file(path).expect("a file of the image");
        if path.ends_with(".mpj") {
            for (index, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
                let is_header = index == 0 || CommitHeader::decode(block, true).is_ok();
                let offsets = if is_header { &[3, 30, 200][..] } else { &[] };
                places.extend(offsets.iter().map(|at| (path.to_owned(), index * BLOCK_BYTES + at)));
            }
        } else {
            // Every byte of the headers of the file and of the first batch; some of the rest.
            let begin = 0..bytes.len().min(130);
            let rest = (130..bytes.len()).step_by(149);
            // The padding behind a flush holds nothing.
            let is_padding = |at: &usize| {
                let near = at.saturating_sub(64)..(at + 64).min(bytes.len());
                bytes[near].iter().all(|byte| *byte == 0)
            };
            let chosen = begin.chain(rest).filter(|at| !is_padding(at));
            places.extend(chosen.map(|at| (path.to_owned(), at)));
        }
    }
    places
}

/// Whether any fetch was refused. Whatever is served is what was written, and only the partition
/// that was hit has anything missing.
fn serves_it_all_or_owns_up(lab: &Lab, path: &str) -> bool {
    let acked = lab.acked();
    let mut refused = BTreeSet::new();
    for ((topic, partition, offset), value) in &acked {
        let fetched = lab.fetch(topic, *partition, *offset, 1);
        if fetched.code != ErrorCode::None {
            assert_eq!(fetched.code, ErrorCode::KafkaStorageError, "{path}");
            assert!(fetched.values.is_empty(), "{path}: an error with data");
            refused.insert(topic.clone());
            continue;
        }
        let found = fetched.values.iter().find(|(at, _)| at == offset);
        assert_eq!(found.map(|(_, found)| found), Some(value), "{path}: {topic} at {offset}");
    }
    assert!(refused.len() <= 1, "{path}: damage of one partition is felt in {refused:?}");
    lab.produce("hit", 0, "and on");
    lab.produce("other", 0, "and on");
    !refused.is_empty()
}
