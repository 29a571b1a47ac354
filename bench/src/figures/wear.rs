//! What the flash pays: bytes sent to the device and syncs for each byte of payload, when many
//! devices send small records to many partitions.

use crate::broker::Broker;
use crate::error::{Context, Outcome};
use crate::figures::{Bench, progress};
use crate::load::fleet::Fleet;
use crate::report::Figure;
use crate::spread::Spread;

/// Partitions that the devices write to.
const PARTITIONS: usize = 64;
/// Devices, each with a QUIC connection.
const DEVICES: usize = 500;
/// Bytes of a record's value.
const VALUE_BYTES: usize = 200;
/// Records a second of each device, slow and fast.
const RATES: [f64; 2] = [1.0, 10.0];
/// How often the fast rate's window is cut for a spread.
const WINDOWS: usize = 4;

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let mut figure = Figure::new(
        "wear",
        format!(
            "{DEVICES} devices, each a QUIC connection and an idempotent producer, {VALUE_BYTES} B \
             records one to a batch, {PARTITIONS} partitions; per byte of the records' values (a record \
             that is acknowledged alone costs a block of 4 KiB: 20.5 B/B)"
        ),
    );
    for rate in RATES {
        progress(&format!("wear, {DEVICES} devices at {rate} records/s each"));
        measure(bench, rate, &mut figure)?;
    }
    Ok(figure)
}

/// The counters that matter, at one moment.
#[derive(Clone, Copy)]
struct Reading {
    device_bytes: f64,
    journal_bytes: f64,
    syncs: f64,
    accepted_bytes: f64,
}

impl Reading {
    #[allow(clippy::cast_precision_loss, reason = "byte counts are far below 2^52")]
    fn of(broker: &Broker) -> Outcome<Self> {
        let scrape = broker.scrape()?;
        let sum = |name: &str, labels: &[(&str, &str)]| scrape.sum(name, labels).context(name);
        Ok(Self {
            device_bytes: broker.written_bytes()? as f64,
            journal_bytes: sum("millpond_disk_written_bytes_total", &[("cause", "journal")])?,
            syncs: sum("millpond_disk_syncs_total", &[])?,
            accepted_bytes: sum("millpond_payload_bytes_total", &[])?,
        })
    }
}

/// Per window.
#[derive(Default)]
struct Samples {
    device: Vec<f64>,
    journal: Vec<f64>,
    accepted: Vec<f64>,
    syncs_per_kib: Vec<f64>,
    records_per_sync: Vec<f64>,
    records_per_second: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    skipped: u64,
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn measure(bench: &Bench, rate: f64, figure: &mut Figure) -> Outcome<()> {
    let (broker, _home) = bench.broker()?;
    broker.create_topic("fleet", PARTITIONS)?;
    let fleet = Fleet::connect(broker.kafka(), "fleet", PARTITIONS, (DEVICES, VALUE_BYTES))?;
    broker.wait_until_quiet()?;
    let first = Reading::of(&broker)?;
    let mut samples = Samples::default();
    let mut before = first;
    let mut payload_in_all = 0.0;
    for _ in 0..WINDOWS {
        let duration = bench.seconds(2.5).max(std::time::Duration::from_secs(1));
        let run = fleet.run(rate, duration)?;
        let after = Reading::of(&broker)?;
        let payload = run.records as f64 * VALUE_BYTES as f64;
        payload_in_all += payload;
        let syncs = after.syncs - before.syncs;
        samples.device.push((after.device_bytes - before.device_bytes) / payload);
        samples.journal.push((after.journal_bytes - before.journal_bytes) / payload);
        samples.accepted.push((after.accepted_bytes - before.accepted_bytes) / payload);
        samples.syncs_per_kib.push(syncs / (payload / 1024.0));
        samples.records_per_sync.push(run.records as f64 / syncs.max(1.0));
        samples.records_per_second.push(run.records as f64 / duration.as_secs_f64());
        samples.p50_us.push(run.latencies.quantile_us(0.5));
        samples.p99_us.push(run.latencies.quantile_us(0.99));
        samples.skipped += run.skipped;
        before = after;
    }
    fleet.close();
    let written = broker.stop()? as f64;
    let with_checkpoint = (written - first.device_bytes) / payload_in_all;
    lines(figure, rate, &samples, with_checkpoint);
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn lines(figure: &mut Figure, rate: f64, samples: &Samples, with_checkpoint: f64) {
    let mut line = |text: &str, spread: Option<Spread>, unit: &'static str| {
        figure.line(format!("{rate}/s each: {text}"), spread, unit);
    };
    line("records acknowledged", Spread::of(&samples.records_per_second), "1/s");
    line("to the device (/proc io)", Spread::of(&samples.device), "B/B");
    line("to the journal (/metrics)", Spread::of(&samples.journal), "B/B");
    line("all, with a last checkpoint", Some(Spread::one(with_checkpoint)), "B/B");
    line("batches as accepted", Spread::of(&samples.accepted), "B/B");
    line("syncs", Spread::of(&samples.syncs_per_kib), "1/KiB");
    line("records for each sync", Spread::of(&samples.records_per_sync), "");
    line("ack p50, from when due", Spread::of(&samples.p50_us), "us");
    line("ack p99, from when due", Spread::of(&samples.p99_us), "us");
    line("records skipped", Some(Spread::one(samples.skipped as f64)), "");
}
