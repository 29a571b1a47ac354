//! The part of a scrape that is about the device: bytes and syncs by cause, wear, space, damage.

use std::time::Duration;

use super::exposition::Exposition;
use super::snapshot::{SpaceState, StorageState};
use super::wear::{is_of_load, life_days};

/// What storage did.
#[allow(clippy::cast_precision_loss)]
pub(super) fn storage(out: &mut Exposition, storage: &StorageState) {
    out.gauge("millpond_disk_backend_info", "How the disk is driven.")
        .add(&[("backend", &storage.backend)], 1.0);
    out.counter("millpond_payload_bytes_total", "Record batches accepted, in bytes.")
        .count(storage.payload_bytes);
    let mut written =
        out.counter("millpond_disk_written_bytes_total", "Bytes given to the disk, by cause.");
    for (cause, bytes) in &storage.written_bytes {
        written.add_count(&[("cause", cause)], *bytes);
    }
    let mut syncs = out.counter("millpond_disk_syncs_total", "Durable writes and syncs, by cause.");
    for (cause, n) in &storage.syncs {
        syncs.add_count(&[("cause", cause)], *n);
    }
    out.histogram(
        "millpond_commit_latency_seconds",
        "From the first waiting record to its commit on flash.",
    )
    .distribution(
        storage.commit_buckets.iter().copied(),
        storage.commit_seconds_sum,
        storage.commits,
    );
    out.counter("millpond_journal_commits_total", "Writes to the journal.")
        .count(storage.journal_commits);
    out.counter("millpond_checkpoints_total", "Checkpoints taken.").count(storage.checkpoints);
    out.counter("millpond_history_bytes_total", "Bytes read back from segments.")
        .count(storage.history_bytes);
    out.counter("millpond_history_faults_total", "Reads that met damage or an error.")
        .count(storage.history_faults);
    out.gauge("millpond_journal_used_bytes", "Journal bytes that a restart would replay.")
        .count(storage.journal_used_bytes);
    out.gauge("millpond_journal_size_bytes", "Size of the journal's ring.")
        .count(storage.journal_size_bytes);
    out.gauge("millpond_segment_bytes", "Bytes of all segments.").count(storage.segment_bytes);
    background(out, storage);
}

/// What packing, the scrub and compaction did.
fn background(out: &mut Exposition, storage: &StorageState) {
    let counters = [
        (
            "millpond_packing_input_bytes_total",
            "Bytes of batches that packing looked at.",
            storage.packed_from_bytes,
        ),
        (
            "millpond_packing_output_bytes_total",
            "Bytes that packing made of them.",
            storage.packed_to_bytes,
        ),
        (
            "millpond_checkpoints_refused_total",
            "Checkpoints that found no space.",
            storage.checkpoints_refused,
        ),
        (
            "millpond_scrubbed_bytes_total",
            "Bytes of segments that were read to find damage.",
            storage.scrubbed_bytes,
        ),
        (
            "millpond_scrub_rounds_total",
            "How often all segments were read so.",
            storage.scrub_rounds,
        ),
        (
            "millpond_compaction_rounds_total",
            "Rounds of compaction that came to their end.",
            storage.compaction_rounds,
        ),
        (
            "millpond_compaction_read_bytes_total",
            "Bytes of segments that compaction read.",
            storage.compaction_read_bytes,
        ),
        (
            "millpond_compaction_removed_records_total",
            "Records that compaction removed, tombstones included.",
            storage.compaction_removed_records,
        ),
    ];
    for (name, help, value) in counters {
        out.counter(name, help).count(value);
    }
    state_of_background(out, storage);
}

/// What waits, and what was found damaged.
fn state_of_background(out: &mut Exposition, storage: &StorageState) {
    let gauges = [
        (
            "millpond_scrub_damaged_segments",
            "Segments in which the last round found damage.",
            storage.scrub_damaged_segments,
        ),
        (
            "millpond_compaction_waiting_partitions",
            "Partitions that wait for compaction.",
            storage.compaction_waiting,
        ),
        (
            "millpond_compaction_damaged_partitions",
            "Partitions that are not compacted because a segment of theirs is damaged.",
            storage.compaction_damaged,
        ),
        (
            "millpond_recovery_damaged_entries",
            "Entries of the journal that the last start could not read.",
            storage.damaged_entries,
        ),
        (
            "millpond_recovery_corrected_bits",
            "Bits that the last start turned back.",
            storage.corrected_bits,
        ),
    ];
    for (name, help, value) in gauges {
        out.gauge(name, help).count(value);
    }
}

/// What the load does to the device; `endurance` is 0 where nobody stated it.
#[allow(clippy::cast_precision_loss)]
pub(super) fn wear(out: &mut Exposition, storage: &StorageState, uptime: Duration, endurance: u64) {
    let written = storage.written_bytes.iter().copied();
    let of_load: u64 = written.filter(|(cause, _)| is_of_load(cause)).map(|(_, n)| n).sum();
    if storage.payload_bytes > 0 {
        let payload = storage.payload_bytes as f64;
        out.gauge(
            "millpond_write_amplification",
            "Bytes given to the disk per byte accepted, since the start, without metadata.",
        )
        .set(of_load as f64 / payload);
        let mut shares =
            out.gauge("millpond_write_amplification_by_cause", "The same, of each cause alone.");
        for (cause, bytes) in &storage.written_bytes {
            shares.add(&[("cause", cause)], *bytes as f64 / payload);
        }
    }
    if endurance > 0 {
        out.gauge("millpond_card_endurance_bytes", "What the card bears, as configured.")
            .count(endurance);
        if let Some(days) = life_days(endurance, of_load, uptime) {
            out.gauge(
                "millpond_card_life_days",
                "From new to worn out, if every day were as the time since the start; without \
                 what other programs and the file system write.",
            )
            .set(days);
        }
    }
}

#[allow(clippy::cast_precision_loss)]
pub(super) fn space(out: &mut Exposition, space: &SpaceState) {
    let gauges = [
        ("millpond_space_used_bytes", "Bytes of the data directory.", space.used_bytes),
        ("millpond_space_budget_bytes", "What it may use.", space.budget_bytes),
        (
            "millpond_space_soft_bytes",
            "From here on segments of drop-oldest topics go.",
            space.soft_bytes,
        ),
        ("millpond_space_hard_bytes", "From here on nothing is accepted.", space.hard_bytes),
        ("millpond_space_free_bytes", "Free bytes of the file system.", space.free_bytes),
        ("millpond_disk_refusing", "1 while the disk takes no writes.", space.is_refusing.into()),
        (
            "millpond_unsynced_records",
            "Answered and not synced: what a power cut would take from topics with flush.ms.",
            space.unsynced_records,
        ),
        ("millpond_unsynced_bytes", "The same in bytes of batches.", space.unsynced_bytes),
    ];
    for (name, help, value) in gauges {
        out.gauge(name, help).count(value);
    }
    out.gauge("millpond_unsynced_oldest_seconds", "Age of the oldest of them.")
        .set(space.unsynced_oldest_seconds);
    if let Some(seconds) = space.full_in_seconds {
        out.gauge("millpond_space_full_in_seconds", "Until the hard mark, at the present rate.")
            .set(seconds);
    }
    out.counter("millpond_space_refusals_total", "Batches refused for want of space.")
        .count(space.refused_batches);
    let mut lost = out.gauge("millpond_lost_offsets", "Offsets that damage to the device took.");
    for (topic, partition, offsets) in &space.lost {
        lost.add_count(&[("topic", topic), ("partition", &partition.to_string())], *offsets);
    }
}
