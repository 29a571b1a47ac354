//! Large batches that their producers compressed: what is written for each byte of them, when
//! every byte should go to flash once.

use crate::error::Outcome;
use crate::figures::{Bench, progress};
use crate::load::frames::Frames;
use crate::load::saturate::{Pressure, saturate};
use crate::payload::{Telemetry, compressed_batch};
use crate::report::{Figure, Target};
use crate::spread::Spread;

const BATCH_BYTES: usize = 256 * 1024;
/// Different requests that are sent round and round.
const FRAMES: usize = 12;
const PARTITIONS: usize = 4;
const TARGET: f64 = 1.05;

/// Measures.
#[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let mut figure = Figure::new(
        "bulk",
        format!(
            "batches of {} KiB, compressed by their producer, over {PARTITIONS} partitions; bytes written \
             for each byte of batches, the last checkpoint included",
            BATCH_BYTES / 1024
        ),
    );
    let frames = compressed_frames("bulk", PARTITIONS)?;
    let batch_bytes = frames.shape().payload_bytes() as f64;
    for (name, pressure) in [
        ("one at a time", Pressure { connections: 1, in_flight: 1 }),
        ("saturated", Pressure { connections: 4, in_flight: 4 }),
    ] {
        let (mut written, mut rates) = (Vec::new(), Vec::new());
        for round in 1..=bench.rounds {
            progress(&format!("bulk, {name}, round {round}"));
            let (broker, _home) = bench.broker()?;
            broker.create_topic("bulk", PARTITIONS)?;
            let before = broker.written_bytes()?;
            let run = saturate(broker.kafka(), &frames, pressure, bench.seconds(2.0))?;
            let bytes = broker.stop()?.saturating_sub(before) as f64;
            written.push(bytes / (run.requests_in_all as f64 * batch_bytes));
            rates.push(run.requests_per_second() * batch_bytes / f64::from(1 << 20));
        }
        let label = format!("{name}: written (/proc io)");
        figure.line_to(label, Spread::of(&written), "B/B", Some(Target::AtMost(TARGET)));
        figure.line(format!("{name}: acknowledged"), Spread::of(&rates), "MiB/s");
    }
    Ok(figure)
}

/// Requests of one large batch each, which is stored as it came.
pub(crate) fn compressed_frames(topic: &str, partitions: usize) -> Outcome<Frames> {
    let mut telemetry = Telemetry::new(0x6275_6c6b);
    let batches = (0..FRAMES)
        .map(|_| compressed_batch(&mut telemetry, BATCH_BYTES))
        .collect::<Outcome<Vec<_>>>()?;
    Frames::of_batches(topic, partitions, batches)
}
