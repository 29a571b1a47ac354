//! How long a start takes after `kill -9` in the middle of the load, from the start of the process
//! to its first acknowledgement: bounded by the journal, not by what is stored.

use std::sync::mpsc;
use std::thread;

use crate::broker::Broker;
use crate::error::{BenchError, Context, Outcome};
use crate::figures::bulk::compressed_frames;
use crate::figures::footprint::first_ack_ms;
use crate::figures::packing::segment_bytes;
use crate::figures::{Bench, progress};
use crate::load::frames::{Frames, Shape};
use crate::load::saturate::{Pressure, saturate};
use crate::report::{Figure, Target};
use crate::spread::Spread;

const SHAPE: Shape = Shape { records: 63, value_bytes: 1024 };
const TARGET_MS: f64 = 1_000.0;
/// What is stored before the kill, in bytes.
const STORED: [(&str, u64); 2] = [("1 MiB stored", 1 << 20), ("4 GiB stored", 4 << 30)];

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let mut figure = Figure::new(
        "recovery",
        "from the start of the process to the first acknowledgement, after kill -9 under saturating \
         load (64 KiB batches, 8 partitions: the journal is as full as it gets)",
    );
    for (name, bytes) in STORED {
        let bytes = if bench.quick { bytes.min(256 << 20) } else { bytes };
        progress(&format!("recovery, {name}: writing it"));
        let home = bench.scratch()?;
        let mut starts = Vec::new();
        fill(bench, home.path(), bytes)?;
        for round in 1..=bench.rounds {
            progress(&format!("recovery, {name}, round {round}"));
            kill_under_load(bench, home.path())?;
            starts.push(first_ack_ms(bench, home.path())?);
        }
        let target = Some(Target::AtMost(TARGET_MS));
        figure.line_to(format!("{name}: start to first ack"), Spread::of(&starts), "ms", target);
        #[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
        let stored = segment_bytes(&home.path().join("data"))? as f64 / f64::from(1 << 20);
        figure.line(format!("{name}: segments in the end"), Some(Spread::one(stored)), "MiB");
    }
    Ok(figure)
}

fn fill(bench: &Bench, home: &std::path::Path, bytes: u64) -> Outcome<()> {
    let broker = Broker::start(&bench.binary, home)?;
    broker.create_topic("fill", 8)?;
    // Stored as it is sent: what is counted stands on the disk.
    let frames = compressed_frames("fill", 8)?;
    let batch_bytes = frames.shape().payload_bytes() as u64;
    let mut sent = 0;
    while sent < bytes {
        let second = bench.seconds(if bytes < 1 << 24 { 0.02 } else { 1.0 });
        let run =
            saturate(broker.kafka(), &frames, Pressure { connections: 4, in_flight: 8 }, second)?;
        sent += run.requests_in_all * batch_bytes;
    }
    broker.stop().map(drop)
}

/// Starts the broker, loads it, and kills it in the middle of the load.
fn kill_under_load(bench: &Bench, home: &std::path::Path) -> Outcome<()> {
    let broker = Broker::start(&bench.binary, home)?;
    let frames = Frames::build("fill", 8, 64, SHAPE)?;
    let (address, duration) = (broker.kafka(), bench.seconds(6.0));
    let (done, ended) = mpsc::channel();
    let load = thread::spawn(move || {
        let pressure = Pressure { connections: 4, in_flight: 8 };
        // Ends with an error when the broker is killed: that is what is wanted.
        let result = saturate(address, &frames, pressure, duration);
        let _ = done.send(());
        result.map(drop)
    });
    // Nothing to wait for but time: the journal fills.
    let early = ended.recv_timeout(bench.seconds(1.3)).is_ok();
    broker.kill()?;
    let result = load.join().ok().context("the load's thread")?;
    match (early, result) {
        (true, Err(error)) => Err(error),
        (true, Ok(())) => Err(BenchError::new("the load", "it ended before the kill")),
        (false, _) => Ok(()),
    }
}
