//! Saturated durable produce against the bound: the same bytes written and synced by a bare loop
//! on the same file system. Broker, bound, broker, bound, ...

use crate::broker::Broker;
use crate::error::{Context, Outcome};
use crate::figures::{Bench, progress};
use crate::load::frames::{Frames, Shape};
use crate::load::saturate::{Saturation, saturate};
use crate::payload::Telemetry;
use crate::raw::RawDisk;
use crate::report::{Figure, Target};
use crate::spread::Spread;

/// 1 KiB records; 63 of them make a batch of 64 KiB with what surrounds them.
const SHAPE: Shape = Shape { records: 63, value_bytes: 1024 };
/// Different requests that are sent round and round.
const FRAMES: usize = 64;
/// What the plain loop writes at a time, in bytes.
const RAW_WRITE_BYTES: usize = 64 * 1024;
/// Commits that the broker has in flight.
const RAW_IN_FLIGHT: usize = 2;
/// What is asked of the ratio to the plain loop.
const TARGET: f64 = 0.7;

/// The samples of all rounds, in bytes per second where nothing else is said.
#[derive(Default)]
struct Samples {
    broker: Vec<f64>,
    raw: Vec<f64>,
    raw_at_commit_size: Vec<f64>,
    commit_kib: Vec<f64>,
    cpu_us_per_record: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
}

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let mut figure = Figure::new(
        "produce",
        format!(
            "durable produce (acks=-1) of {} B records, {} to a batch, over {} TCP connections with \
             {} requests in flight each; the raw loop writes the same bytes with O_DIRECT and DSYNC",
            SHAPE.value_bytes, SHAPE.records, bench.pressure.connections, bench.pressure.in_flight,
        ),
    );
    let raw_dir = bench.scratch()?;
    let raw = RawDisk::prepare(raw_dir.path())?;
    let payload = Telemetry::new(1).batch(SHAPE.records, SHAPE.value_bytes)?;
    for partitions in [1, 64] {
        let samples = rounds(bench, &raw, &payload, partitions)?;
        lines(&mut figure, partitions, &samples);
    }
    Ok(figure)
}

fn rounds(bench: &Bench, raw: &RawDisk, payload: &[u8], partitions: usize) -> Outcome<Samples> {
    let (broker, _home) = bench.broker()?;
    broker.create_topic("bulk", partitions)?;
    let frames = Frames::build("bulk", partitions, FRAMES, SHAPE)?;
    let mut samples = Samples::default();
    for round in 1..=bench.rounds {
        progress(&format!("produce, {partitions} partitions, round {round}"));
        let commit_bytes = measure(bench, &broker, &frames, &mut samples)?;
        broker.wait_until_quiet()?;
        let duration = bench.seconds(1.5);
        samples.raw.push(raw.saturate(payload, RAW_WRITE_BYTES, 1, duration)?);
        let at_commit_size = raw.saturate(payload, commit_bytes, RAW_IN_FLIGHT, duration)?;
        samples.raw_at_commit_size.push(at_commit_size);
    }
    broker.stop()?;
    Ok(samples)
}

/// One round of the broker. Gives the mean size of its commits.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts far below 2^52, and a size"
)]
fn measure(
    bench: &Bench,
    broker: &Broker,
    frames: &Frames,
    samples: &mut Samples,
) -> Outcome<usize> {
    let (before, cpu_before) = (journal(broker)?, broker.cpu_seconds()?);
    let run: Saturation = saturate(broker.kafka(), frames, bench.pressure, bench.seconds(3.0))?;
    let (after, cpu) = (journal(broker)?, broker.cpu_seconds()? - cpu_before);
    let payload_bytes = frames.shape().payload_bytes() as f64;
    samples.broker.push(run.requests_per_second() * payload_bytes);
    let records = run.requests_in_all as f64 * frames.shape().records as f64;
    samples.cpu_us_per_record.push(cpu * 1e6 / records);
    samples.p50_ms.push(run.latencies.quantile_us(0.5) / 1e3);
    samples.p99_ms.push(run.latencies.quantile_us(0.99) / 1e3);
    let commit = (after.0 - before.0) / (after.1 - before.1).max(1.0);
    samples.commit_kib.push(commit / 1024.0);
    Ok((commit as usize).max(1))
}

/// Bytes and durable writes of the journal so far.
fn journal(broker: &Broker) -> Outcome<(f64, f64)> {
    let scrape = broker.scrape()?;
    let cause = [("cause", "journal")];
    let bytes = scrape.sum("millpond_disk_written_bytes_total", &cause);
    let syncs = scrape.sum("millpond_disk_syncs_total", &cause);
    bytes.zip(syncs).context("the journal's bytes and syncs in /metrics")
}

fn lines(figure: &mut Figure, partitions: usize, samples: &Samples) {
    let mib = |bytes: &[f64]| {
        let mib: Vec<f64> = bytes.iter().map(|bytes| bytes / f64::from(1 << 20)).collect();
        Spread::of(&mib)
    };
    let per_second = |bytes: &[f64]| {
        let records: Vec<f64> = bytes.iter().map(|bytes| bytes / 1024.0).collect();
        Spread::of(&records)
    };
    let label = |text: &str| format!("partitions={partitions}: {text}");
    figure.line(label("broker, acknowledged"), mib(&samples.broker), "MiB/s");
    figure.line(label("broker, records"), per_second(&samples.broker), "1/s");
    figure.line(label("raw, 64 KiB, one at a time"), mib(&samples.raw), "MiB/s");
    let ratio = Spread::of_ratios(&samples.broker, &samples.raw);
    figure.line_to(label("broker / raw"), ratio, "x", Some(Target::AtLeast(TARGET)));
    figure.line(label("broker's commits"), Spread::of(&samples.commit_kib), "KiB");
    let raw = mib(&samples.raw_at_commit_size);
    figure.line(label("raw, that size, two in flight"), raw, "MiB/s");
    let ratio = Spread::of_ratios(&samples.broker, &samples.raw_at_commit_size);
    figure.line(label("broker / that"), ratio, "x");
    figure.line(label("broker's CPU"), Spread::of(&samples.cpu_us_per_record), "us/record");
    figure.line(label("ack p50, queue full"), Spread::of(&samples.p50_ms), "ms");
    figure.line(label("ack p99, queue full"), Spread::of(&samples.p99_ms), "ms");
}
