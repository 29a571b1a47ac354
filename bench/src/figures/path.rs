//! QUIC against TLS over TCP where packets are lost: a producer and a broker with a bad path of packets
//! between them that both transports cross, with the same congestion controller and with each one's
//! own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use millpond_client::{ClientConfig, Producer, Record, Trust};
use millpond_tests::path::{GATEWAY_ADDRESS, Path, Rate, Weather};
use tempfile::TempDir;

use crate::broker::Broker;
use crate::error::{BenchError, Context, Outcome};
use crate::figures::{Bench, progress};
use crate::latency::Latencies;
use crate::process::LOG;
use crate::report::{Figure, Target};
use crate::spread::Spread;

const PORT: u16 = 9_094;
const PARTITIONS: usize = 8;
/// Records under way in each partition.
const UNDER_WAY: usize = 64;
const VALUE_BYTES: usize = 1_024;
/// Of the closed loop: where one batch crawls, so do few records.
const BATCH_BYTES: usize = 16 * 1_024;
/// At rest: a small record to each partition, so often.
const PACE: Duration = Duration::from_millis(100);
const REST_VALUE_BYTES: usize = 200;
/// Half of the round trip.
const DELAY: Duration = Duration::from_millis(50);
/// 40 Mbit/s, and a queue of one round trip.
const RATE: Rate = Rate { bytes_per_second: 5_000_000, queue_bytes: 500_000 };
const LOSSES_PER_MILLE: [u64; 3] = [0, 10, 50];
const SEED: u64 = 20_261_122;
/// The loss and the goal of issue 6.
const JUDGED_PER_MILLE: u64 = 50;
const THROUGHPUT_AT_LEAST: f64 = 3.0;
const P99_AT_MOST: f64 = 1.0 / 3.0;

/// A transport and its congestion controller.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    scheme: &'static str,
    congestion: &'static str,
}

const WAYS: [Way; 6] = [
    Way { name: "QUIC, bbr", scheme: "quic", congestion: "bbr" },
    Way { name: "TLS, bbr", scheme: "tls", congestion: "bbr" },
    Way { name: "QUIC, cubic", scheme: "quic", congestion: "cubic" },
    Way { name: "TLS, cubic", scheme: "tls", congestion: "cubic" },
    Way { name: "QUIC, newreno", scheme: "quic", congestion: "newreno" },
    Way { name: "TLS, reno", scheme: "tls", congestion: "reno" },
];

/// Ours and theirs, by their places in [`WAYS`].
const PAIRS: [(usize, usize, &str); 5] = [
    (0, 3, "QUIC by bbr / TLS by cubic"),
    (0, 5, "QUIC by bbr / TLS by reno"),
    (0, 1, "QUIC / TLS, both by bbr"),
    (2, 3, "QUIC / TLS, both by cubic"),
    (4, 5, "QUIC / TLS, both by reno"),
];

/// What was measured of a way, a round after the other.
#[derive(Default)]
struct Samples {
    kib_per_second: Vec<f64>,
    p99_ms: Vec<f64>,
    rest_p50_ms: Vec<f64>,
    rest_p99_ms: Vec<f64>,
}

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let mut figure = Figure::new(
        "path",
        format!(
            "{PARTITIONS} partitions, a round trip of 100 ms, 40 Mbit/s, loss in each direction; \
             {UNDER_WAY} records of {VALUE_BYTES} B under way in each partition; at rest: \
             {REST_VALUE_BYTES} B to each every 100 ms"
        ),
    );
    let weather = Weather { rate: Some(RATE), ..Weather::calm(DELAY) };
    let path = Path::open(weather, SEED).context("the path")?;
    let (broker, home) = broker(bench, &path)?;
    let ways = available(&path)?;
    for lost_per_mille in LOSSES_PER_MILLE {
        let weather = Weather { lost_per_mille, ..weather };
        path.set_weather(weather, weather);
        let mut samples: [Samples; WAYS.len()] = Default::default();
        for round in 1..=bench.rounds {
            for at in &ways {
                let way = WAYS[*at];
                progress(&format!("path, {} ‰ lost, round {round}, {}", lost_per_mille, way.name));
                measure(bench, &path, &home, way, &mut samples[*at])?;
            }
        }
        lines(&mut figure, lost_per_mille, &samples);
    }
    broker.stop()?;
    Ok(figure)
}

fn broker(bench: &Bench, path: &Path) -> Outcome<(Broker, TempDir)> {
    let home = bench.scratch()?;
    let config = format!(
        "topics.partitions = {PARTITIONS}\n[[listeners]]\ntcp = \"tls\"\ninsecure = true\n"
    );
    let kafka = SocketAddr::from((GATEWAY_ADDRESS, PORT));
    let start = || Broker::start_at(&bench.binary, home.path(), &config, kafka);
    Ok((path.gateway().run(start)?, home))
}

/// The places of the ways that this kernel has the controllers for, and lets a namespace have.
fn available(path: &Path) -> Outcome<Vec<usize>> {
    for namespace in [path.device(), path.gateway()] {
        namespace.sysctl("tcp_no_metrics_save", "1").context("a namespace")?;
    }
    let is_there = |way: &Way| match set_controller(path, *way) {
        Ok(()) => true,
        Err(error) => {
            progress(&format!(
                "{} is left out: {error} (the machine's net.ipv4.tcp_allowed_congestion_control \
                 says which are free)",
                way.name
            ));
            false
        }
    };
    Ok((0..WAYS.len()).filter(|at| is_there(&WAYS[*at])).collect())
}

/// TCP's is a setting of the namespaces, QUIC's one of the client.
fn set_controller(path: &Path, way: Way) -> Outcome<()> {
    if way.scheme == "tls" {
        for namespace in [path.device(), path.gateway()] {
            namespace.sysctl("tcp_congestion_control", way.congestion).context("a controller")?;
        }
    }
    Ok(())
}

fn measure(
    bench: &Bench,
    path: &Path,
    home: &TempDir,
    way: Way,
    into: &mut Samples,
) -> Outcome<()> {
    set_controller(path, way)?;
    let config = config(home, way)?;
    let (warm, full, rest) = (bench.seconds(2.0), bench.seconds(8.0), bench.seconds(4.0));
    let (loaded, calm) = path.device().run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("a runtime")?.block_on(async {
            let producer =
                Producer::builder().batch_bytes(BATCH_BYTES).connect(config.clone()).await;
            let producer = producer.context("connecting")?;
            let calm = at_rest(&producer, rest).await?;
            let loaded = full_load(&producer, warm, full).await?;
            producer.close().await;
            producer.client().close().await;
            Ok::<_, BenchError>((loaded, calm))
        })
    })?;
    let kib = loaded.count() * VALUE_BYTES as u64 / 1_024;
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    into.kib_per_second.push(kib as f64 / full.as_secs_f64());
    into.p99_ms.push(loaded.quantile_us(0.99) / 1_000.0);
    into.rest_p50_ms.push(calm.quantile_us(0.5) / 1_000.0);
    into.rest_p99_ms.push(calm.quantile_us(0.99) / 1_000.0);
    Ok(())
}

fn config(home: &TempDir, way: Way) -> Outcome<ClientConfig> {
    let log = std::fs::read_to_string(home.path().join(LOG)).context("its log")?;
    let shown = log.lines().find_map(|line| line.split_once("fingerprint="));
    let trust = Trust::fingerprint(shown.context("a fingerprint in its log")?.1).context("it")?;
    let url = format!("{}://{GATEWAY_ADDRESS}:{PORT}", way.scheme);
    let config = ClientConfig::new(&url).context("an address")?.trust(trust);
    Ok(match way.scheme {
        "quic" => config.quic_congestion(way.congestion.parse().context("a controller")?),
        _ => config,
    })
}

/// As many as are under way at most, all the time; the acknowledgements of the second part.
async fn full_load(producer: &Producer, warm: Duration, full: Duration) -> Outcome<Latencies> {
    let begin = Instant::now() + warm;
    let end = begin + full;
    let worker = |at: usize| async move {
        let mut taken = Latencies::new()?;
        while Instant::now() < end {
            let sent = Instant::now();
            send(producer, at % PARTITIONS, VALUE_BYTES).await?;
            let now = Instant::now();
            if now >= begin && now < end {
                taken.record(now - sent);
            }
        }
        Ok::<_, BenchError>(taken)
    };
    let mut all = Latencies::new()?;
    for taken in join_all((0..PARTITIONS * UNDER_WAY).map(worker)).await {
        all.merge(&taken?)?;
    }
    Ok(all)
}

/// A small record to each partition from time to time.
async fn at_rest(producer: &Producer, duration: Duration) -> Outcome<Latencies> {
    // The first ones open the lanes.
    for partition in 0..PARTITIONS {
        send(producer, partition, REST_VALUE_BYTES).await?;
    }
    let begin = Instant::now();
    let rounds = duration.as_millis() / PACE.as_millis();
    let due = (1..=u32::try_from(rounds).unwrap_or(u32::MAX)).map(|n| begin + PACE * n);
    let records = due.flat_map(|due| (0..PARTITIONS).map(move |partition| (due, partition)));
    let one = |(due, partition): (Instant, usize)| async move {
        tokio::time::sleep_until(due.into()).await;
        send(producer, partition, REST_VALUE_BYTES).await?;
        Ok::<_, BenchError>(due.elapsed())
    };
    let mut all = Latencies::new()?;
    for taken in join_all(records.map(one)).await {
        all.record(taken?);
    }
    Ok(all)
}

async fn send(producer: &Producer, partition: usize, bytes: usize) -> Outcome<()> {
    let partition = i32::try_from(partition).context("a partition")?;
    let record = Record::to("path").partition(partition).value(vec![b'x'; bytes]);
    let delivery = producer.send(record).await.context("sending")?;
    delivery.await.context("a delivery").map(drop)
}

#[allow(clippy::cast_precision_loss, reason = "a thousand at most")]
fn lines(figure: &mut Figure, lost_per_mille: u64, samples: &[Samples; WAYS.len()]) {
    let loss = format!("{} % lost", lost_per_mille as f64 / 10.0);
    for (way, taken) in WAYS.iter().zip(samples) {
        let mut line = |what: &str, samples: &[f64], unit: &'static str| {
            figure.line(format!("{loss}, {}: {what}", way.name), Spread::of(samples), unit);
        };
        line("throughput", &taken.kib_per_second, "KiB/s");
        line("p99 of acks", &taken.p99_ms, "ms");
        line("p50 at rest", &taken.rest_p50_ms, "ms");
        line("p99 at rest", &taken.rest_p99_ms, "ms");
    }
    let is_judged = lost_per_mille == JUDGED_PER_MILLE;
    for (ours, theirs, name) in PAIRS {
        let (ours, theirs) = (&samples[ours], &samples[theirs]);
        let mut ratio = |what: &str, ours: &[f64], theirs: &[f64], target: Option<Target>| {
            let spread = Spread::of_ratios(ours, theirs);
            figure.line_to(format!("{loss}, {name}: {what}"), spread, "x", target);
        };
        let goal = |target| is_judged.then_some(target);
        let more = goal(Target::AtLeast(THROUGHPUT_AT_LEAST));
        ratio("throughput", &ours.kib_per_second, &theirs.kib_per_second, more);
        ratio("p99 of acks", &ours.p99_ms, &theirs.p99_ms, goal(Target::AtMost(P99_AT_MOST)));
        ratio("p99 at rest", &ours.rest_p99_ms, &theirs.rest_p99_ms, None);
    }
}
