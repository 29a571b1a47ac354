//! Many devices that say nothing: what each costs the broker in memory and in processor time, awake and asleep.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Context, Outcome};
use crate::figures::{Bench, progress};
use crate::load::fleet::Fleet;
use crate::report::{Figure, Target};
use crate::spread::Spread;

/// Devices unless `MILLPOND_BENCH_DEVICES` says how many.
const DEVICES: usize = 10_000;
/// With --quick.
const DEVICES_QUICK: usize = 500;
/// Before memory is read.
const SETTLE: Duration = Duration::from_secs(3);
/// How long they say nothing.
const IDLE: Duration = Duration::from_secs(10);
/// What a device may take.
const KIB_EACH_MAX: f64 = 48.0;
const PARTITIONS: usize = 64;

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let count = match std::env::var("MILLPOND_BENCH_DEVICES") {
        Ok(text) => text.parse().context("MILLPOND_BENCH_DEVICES")?,
        Err(_) if bench.quick => DEVICES_QUICK,
        Err(_) => DEVICES,
    };
    let limits = "[limits]\nquic_connections_max = 65536\nconnections_per_ip_max = 65536\n\
                  connections_per_ip_per_second = 0\n";
    let (broker, _home) = bench.broker_with(limits)?;
    broker.create_topic("fleet", PARTITIONS)?;
    // What only the first devices make it allocate is not theirs.
    Fleet::connect(broker.kafka(), "fleet", PARTITIONS, (PARTITIONS, 200))?.close();
    thread::sleep(SETTLE);
    let before = broker.memory()?;
    progress(&format!("devices, {count} connect"));
    let began = Instant::now();
    let fleet = Fleet::connect(broker.kafka(), "fleet", PARTITIONS, (count, 200))?;
    let connected = began.elapsed();
    fleet.idle(SETTLE);
    let awake = broker.memory()?;
    progress("devices, idle");
    let cpu = broker.cpu_seconds()?;
    fleet.idle(IDLE);
    let idle_cpu = broker.cpu_seconds()? - cpu;
    progress("devices, all send once more");
    let again = fleet.run(1.0, Duration::from_secs(1))?;
    fleet.close();
    thread::sleep(SETTLE);
    let asleep = broker.memory()?;
    broker.stop()?;

    let mut figure = Figure::new(
        "devices",
        format!(
            "{count} QUIC devices of the SDK with default settings, each has delivered one record and says nothing"
        ),
    );
    #[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
    let each = |bytes: u64| {
        Some(Spread::one(bytes.saturating_sub(before.rss_bytes) as f64 / 1024.0 / count as f64))
    };
    let target = Some(Target::AtMost(KIB_EACH_MAX));
    figure.line_to("RSS for each, connected", each(awake.rss_bytes), "KiB", target);
    figure.line("RSS for each, asleep (closed)", each(asleep.rss_bytes), "KiB");
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let (count, again) = (count as f64, again.records as f64);
    let one = |value: f64| Some(Spread::one(value));
    figure.line("connected and delivered", one(count / connected.as_secs_f64()), "1/s");
    figure.line("CPU while idle, of one core", one(100.0 * idle_cpu / IDLE.as_secs_f64()), "%");
    figure.line("records that they delivered after that", one(again), "");
    Ok(figure)
}
