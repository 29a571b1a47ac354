//! Reading history from its start to its end as one consumer, against reading the same segments'
//! files with nothing in between. Both begin without anything in the page cache.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::error::{Context, Outcome};
use crate::figures::bulk::compressed_frames;
use crate::figures::packing::segments;
use crate::figures::{Bench, progress};
use crate::load::frames::Frames;
use crate::load::reader::read_partition;
use crate::load::saturate::{Pressure, saturate};
use crate::payload::Telemetry;
use crate::report::{Figure, Target};
use crate::spread::Spread;

const TARGET: f64 = 0.6;
const READ_BYTES: usize = 1 << 20;
/// Batches that are packed, and unpacked when they are read.
const SMALL_RECORDS: usize = 20;
const SMALL_VALUE_BYTES: usize = 200;

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let mut figure = Figure::new(
        "history",
        "one consumer reads a partition from its start over TCP, against reading the segments' files \
         in pieces of 1 MiB; page cache emptied before each turn. Bytes of the files, but for the \
         packed ones, where the consumer gets several times as many: those are told apart",
    );
    let large = compressed_frames("history", 1)?;
    measure(bench, "large batches, stored as they came", &large, Some(TARGET), &mut figure)?;
    let mut telemetry = Telemetry::new(0x6869_7374);
    let batches = (0..4_000)
        .map(|frame| telemetry.batch_of_readings(frame % 500, SMALL_RECORDS, SMALL_VALUE_BYTES))
        .collect::<Outcome<Vec<_>>>()?;
    let small = Frames::of_batches("history", 1, batches)?;
    measure(bench, "small batches, packed", &small, None, &mut figure)?;
    Ok(figure)
}

#[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn measure(
    bench: &Bench,
    name: &str,
    frames: &Frames,
    target: Option<f64>,
    figure: &mut Figure,
) -> Outcome<()> {
    progress(&format!("history, {name}: writing it"));
    let home = bench.scratch()?;
    let broker = Broker::start(&bench.binary, home.path())?;
    broker.create_topic("history", 1)?;
    saturate(
        broker.kafka(),
        frames,
        Pressure { connections: 4, in_flight: 16 },
        bench.seconds(4.0),
    )?;
    broker.stop()?;
    let files = segments(&home.path().join("data/topics"))?;
    let stored: u64 = sizes(&files)?;
    // Restarted: nothing of it is in the broker's memory.
    let broker = Broker::start(&bench.binary, home.path())?;
    let (mut consumed, mut read, mut bytes_per_byte) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=bench.rounds {
        progress(&format!("history, {name}, round {round}"));
        forget(&files)?;
        let reading = read_partition(broker.kafka(), "history", 0)?;
        consumed.push(stored as f64 / reading.seconds);
        bytes_per_byte.push(reading.batch_bytes as f64 / stored as f64);
        forget(&files)?;
        read.push(stored as f64 / read_files(&files)?.as_secs_f64());
    }
    broker.stop()?;
    let mib = |rates: &[f64]| {
        let rates: Vec<f64> = rates.iter().map(|rate| rate / f64::from(1 << 20)).collect();
        Spread::of(&rates)
    };
    figure.line(format!("{name}: consumer, bytes of files"), mib(&consumed), "MiB/s");
    let served: Vec<f64> =
        consumed.iter().zip(&bytes_per_byte).map(|(rate, factor)| rate * factor).collect();
    figure.line(format!("{name}: consumer, bytes of batches"), mib(&served), "MiB/s");
    figure.line(format!("{name}: files"), mib(&read), "MiB/s");
    let target = target.map(Target::AtLeast);
    let ratio = Spread::of_ratios(&consumed, &read);
    figure.line_to(format!("{name}: consumer / files"), ratio, "x", target);
    let ratio = Spread::of_ratios(&served, &read);
    figure.line(format!("{name}: consumer's batches / files"), ratio, "x");
    Ok(())
}

fn sizes(files: &[PathBuf]) -> Outcome<u64> {
    let mut bytes = 0;
    for file in files {
        bytes += fs::metadata(file).context(format!("{}", file.display()))?.len();
    }
    Ok(bytes)
}

/// Takes the files out of the page cache.
pub(crate) fn forget(files: &[PathBuf]) -> Outcome<()> {
    for path in files {
        let file = open(path)?;
        let advice = rustix::fs::Advice::DontNeed;
        rustix::fs::fadvise(&file, 0, None, advice).context("emptying the page cache")?;
    }
    Ok(())
}

fn read_files(files: &[PathBuf]) -> Outcome<Duration> {
    let mut buffer = vec![0; READ_BYTES];
    let started = Instant::now();
    for path in files {
        let mut file = open(path)?;
        while file.read(&mut buffer).context(format!("reading {}", path.display()))? > 0 {}
    }
    Ok(started.elapsed())
}

fn open(path: &Path) -> Outcome<File> {
    File::open(path).context(format!("opening {}", path.display()))
}
