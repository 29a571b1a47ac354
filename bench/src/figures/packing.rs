//! What is stored of JSON telemetry once it is packed: bytes of segments for each byte of the
//! records' values, sent one record to a batch and many to a batch, none compressed by its sender.

use std::fs;
use std::path::Path;

use crate::error::{BenchError, Context, Outcome};
use crate::figures::{Bench, progress};
use crate::load::frames::Frames;
use crate::load::saturate::{Pressure, saturate};
use crate::payload::Telemetry;
use crate::report::{Figure, Target};
use crate::spread::Spread;

/// Bytes of a record's value.
const VALUE_BYTES: usize = 200;
/// Different requests that are sent round and round: more bytes than a codec looks back on.
const FRAMES: usize = 40_000;
const PARTITIONS: usize = 8;
const TARGET: f64 = 0.17;

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let mut figure = Figure::new(
        "packing",
        format!(
            "segments of {VALUE_BYTES} B records of JSON telemetry over {PARTITIONS} partitions, after a \
             stop, per byte of the records' values; nothing was compressed by its sender"
        ),
    );
    for (name, records) in [("one record a batch", 1), ("20 records a batch", 20)] {
        progress(&format!("packing, {name}"));
        let (stored, all) = measure(bench, records)?;
        let label = format!("{name}: stored");
        figure.line_to(label, Some(Spread::one(stored)), "B/B", Some(Target::AtMost(TARGET)));
        figure.line(format!("{name}: written in all"), Some(Spread::one(all)), "B/B");
    }
    Ok(figure)
}

/// Bytes stored, and bytes written in all, for each byte of values.
#[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn measure(bench: &Bench, records: usize) -> Outcome<(f64, f64)> {
    let (broker, home) = bench.broker()?;
    broker.create_topic("telemetry", PARTITIONS)?;
    let mut telemetry = Telemetry::new(0x7061_636b);
    let batches = (0..FRAMES / records)
        .map(|frame| telemetry.batch_of_readings(frame % 500, records, VALUE_BYTES))
        .collect::<Outcome<Vec<_>>>()?;
    let frames = Frames::of_batches("telemetry", PARTITIONS, batches)?;
    let pressure = Pressure { connections: PARTITIONS, in_flight: 16 };
    let written_before = broker.written_bytes()?;
    let run = saturate(broker.kafka(), &frames, pressure, bench.seconds(4.0))?;
    let written = broker.stop()?.saturating_sub(written_before) as f64;
    let payload = (run.requests_in_all as usize * records * VALUE_BYTES) as f64;
    let stored = segment_bytes(&home.path().join("data"))? as f64;
    Ok((stored / payload, written / payload))
}

/// Bytes of all segments of a data directory, as the file system counts them.
pub(crate) fn segment_bytes(data_dir: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for file in segments(&data_dir.join("topics"))? {
        bytes += fs::metadata(&file).context(format!("{}", file.display()))?.len();
    }
    Ok(bytes)
}

/// All segment files below a directory.
pub(crate) fn segments(dir: &Path) -> Outcome<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).context(format!("{}", dir.display()))? {
            let path = entry.context("a directory")?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|end| end == "seg") {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        return Err(BenchError::new("segments", format!("none in {}", dir.display())));
    }
    found.sort();
    Ok(found)
}
