//! What the flash pays: bytes sent to the device and syncs for each byte of payload, when many
//! devices send small records to many partitions.

use std::time::Duration;

use crate::broker::Broker;
use crate::error::{Context, Outcome};
use crate::figures::{Bench, progress};
use crate::load::fleet::Fleet;
use crate::report::{Figure, Target};
use crate::spread::Spread;

/// Partitions that the devices write to.
const PARTITIONS: usize = 64;
/// Devices, each with a QUIC connection.
const DEVICES: usize = 500;
/// Bytes of a record's value.
const VALUE_BYTES: usize = 200;
/// How often a window is cut for a spread.
const WINDOWS: usize = 3;

/// One way to load the broker.
#[derive(Clone, Copy)]
struct Mode {
    name: &'static str,
    linger_ms: u64,
    /// Records a second of each device; `None`: as fast as it is answered.
    per_second: Option<f64>,
    /// The settings of the topic.
    settings: &'static [(&'static str, &'static str)],
    all_bytes_max: Option<f64>,
    segment_bytes_max: Option<f64>,
}

const PLAIN: Mode = Mode {
    name: "1/s, linger 0",
    linger_ms: 0,
    per_second: Some(1.0),
    settings: &[],
    all_bytes_max: None,
    segment_bytes_max: None,
};

const MODES: [Mode; 6] = [
    Mode {
        name: "saturated, linger 10 ms",
        linger_ms: 10,
        per_second: None,
        all_bytes_max: Some(1.6),
        segment_bytes_max: Some(0.25),
        ..PLAIN
    },
    PLAIN,
    Mode { name: "1/s, linger 10 ms", linger_ms: 10, ..PLAIN },
    Mode { name: "1/s, linger 100 ms", linger_ms: 100, ..PLAIN },
    Mode { name: "1/s, flush.ms 1000", settings: &[("flush.ms", "1000")], ..PLAIN },
    Mode { name: "10/s, linger 0", per_second: Some(10.0), ..PLAIN },
];

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let mut figure = Figure::new(
        "wear",
        format!(
            "{DEVICES} devices, each a QUIC connection and an idempotent producer, {VALUE_BYTES} B \
             of JSON telemetry in a record, one record to a batch, {PARTITIONS} partitions; per byte \
             of the records' values; all = with the last checkpoint, journal = without"
        ),
    );
    for mode in MODES {
        progress(&format!("wear, {DEVICES} devices, {}", mode.name));
        measure(bench, mode, &mut figure)?;
    }
    Ok(figure)
}

/// The counters that matter, at one moment.
#[derive(Clone, Copy)]
struct Counters {
    journal_bytes: f64,
    syncs: f64,
}

impl Counters {
    fn of(broker: &Broker) -> Outcome<Self> {
        let scrape = broker.scrape()?;
        let sum = |name: &str, labels: &[(&str, &str)]| scrape.sum(name, labels).context(name);
        Ok(Self {
            journal_bytes: sum("millpond_disk_written_bytes_total", &[("cause", "journal")])?,
            syncs: sum("millpond_disk_syncs_total", &[])?,
        })
    }
}

/// Per window.
#[derive(Default)]
struct Samples {
    journal: Vec<f64>,
    syncs_per_kib: Vec<f64>,
    records_per_sync: Vec<f64>,
    records_per_second: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    skipped: u64,
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn measure(bench: &Bench, mode: Mode, figure: &mut Figure) -> Outcome<()> {
    let config = format!("[journal]\nlinger_ms = {}\n", mode.linger_ms);
    let (broker, home) = bench.broker_with(&config)?;
    broker.create_topic_with("fleet", PARTITIONS, mode.settings)?;
    let fleet = Fleet::connect(broker.kafka(), "fleet", PARTITIONS, (DEVICES, VALUE_BYTES))?;
    broker.wait_until_quiet()?;
    let written_before = broker.written_bytes()?;
    let mut samples = Samples::default();
    let mut before = Counters::of(&broker)?;
    let mut payload_in_all = 0.0;
    for _ in 0..WINDOWS {
        let duration = bench.seconds(3.0).max(Duration::from_secs(1));
        let run = match mode.per_second {
            Some(rate) => fleet.run(rate, duration)?,
            None => fleet.run_flat_out(duration)?,
        };
        let after = Counters::of(&broker)?;
        let payload = run.records as f64 * VALUE_BYTES as f64;
        payload_in_all += payload;
        let syncs = after.syncs - before.syncs;
        samples.journal.push((after.journal_bytes - before.journal_bytes) / payload);
        samples.syncs_per_kib.push(syncs / (payload / 1024.0));
        samples.records_per_sync.push(run.records as f64 / syncs.max(1.0));
        samples.records_per_second.push(run.records as f64 / duration.as_secs_f64());
        samples.p50_us.push(run.latencies.quantile_us(0.5));
        samples.p99_us.push(run.latencies.quantile_us(0.99));
        samples.skipped += run.skipped;
        before = after;
    }
    fleet.close();
    let written = broker.stop()?.saturating_sub(written_before) as f64;
    let stored = super::packing::segment_bytes(&home.path().join("data"))? as f64;
    lines(figure, mode, &samples, (written / payload_in_all, stored / payload_in_all));
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn lines(figure: &mut Figure, mode: Mode, samples: &Samples, (all, stored): (f64, f64)) {
    let name = mode.name;
    let target = mode.all_bytes_max.map(Target::AtMost);
    figure.line_to(format!("{name}: all (/proc io)"), Some(Spread::one(all)), "B/B", target);
    let mut line = |text: &str, spread: Option<Spread>, unit: &'static str| {
        figure.line(format!("{name}: {text}"), spread, unit);
    };
    line("to the journal (/metrics)", Spread::of(&samples.journal), "B/B");
    line("records acknowledged", Spread::of(&samples.records_per_second), "1/s");
    line("syncs", Spread::of(&samples.syncs_per_kib), "1/KiB");
    line("records for each sync", Spread::of(&samples.records_per_sync), "");
    line("ack p50", Spread::of(&samples.p50_us), "us");
    line("ack p99", Spread::of(&samples.p99_us), "us");
    line("records skipped", Some(Spread::one(samples.skipped as f64)), "");
    let target = mode.segment_bytes_max.map(Target::AtMost);
    let stored = Some(Spread::one(stored));
    figure.line_to(format!("{name}: packed segments"), stored, "B/B", target);
}
