//! A load of one's own on any broker that speaks Kafka's protocol, over TCP, TLS or QUIC, through our
//! client: at an even rate or as much as is taken, with consumers that say how long records take to
//! reach them. Starts nothing and stops nothing: the broker is somebody else's.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures::future::{join_all, try_join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use millpond_client::{
    Acks, Admin, Client, ClientConfig, Codec, Consumer, ErrorCode, Fingerprint, NewTopic,
    OffsetReset, Producer, Record, Trust,
};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{BenchError, Context, Outcome};
use crate::latency::Latencies;
use crate::payload::Telemetry;
use crate::procfs::{IoCounters, ProcessStat, peak_rss_bytes, switches};
use crate::report::Figure;
use crate::spread::Spread;

/// For acknowledgements and for records on their way to consumers, after the last was sent.
const GRACE: Duration = Duration::from_secs(10);
/// For a consumer to stand at the end of its partitions, before anything is sent.
const CONSUMERS_READY_WITHIN: Duration = Duration::from_secs(20);
/// Different values that are sent round and round.
const VALUES: usize = 4_096;
/// Where a record says when it was due: nanoseconds since the load began.
const DUE: &[u8] = b"due";
/// The smallest value that is JSON telemetry.
const RECORD_BYTES_MIN: i64 = 170;

/// `load` on the command line.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadArgs {
    /// The broker: HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT or quic://HOST:PORT.
    #[arg(long, value_name = "URL")]
    bootstrap: String,
    /// SHA-256 of the broker's certificate, for TLS and QUIC.
    #[arg(long, value_name = "HEX", conflicts_with = "insecure")]
    fingerprint: Option<Fingerprint>,
    /// Believe whoever answers, over TLS and QUIC.
    #[arg(long)]
    insecure: bool,
    /// The topic; made if it is not there.
    #[arg(long, default_value = "bench")]
    topic: String,
    /// Partitions of a topic that is made.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    partitions: u16,
    /// Records a second of all producers together [default: as many as are taken].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: Option<u32>,
    /// Bytes of each value.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(RECORD_BYTES_MIN..=1 << 20))]
    record_bytes: u32,
    /// Bytes of a batch at the most.
    #[arg(long, default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=8 << 20))]
    batch_bytes: u32,
    /// How long a batch waits for more records.
    #[arg(long, default_value_t = 5, value_name = "MS")]
    linger_ms: u32,
    /// Different keys; 0: none, so that records go to all partitions in turn.
    #[arg(long, default_value_t = 0)]
    keys: u32,
    #[arg(long, value_enum, default_value_t = Compression::None)]
    compression: Compression,
    #[arg(long, value_enum, default_value_t = AcksWanted::All)]
    acks: AcksWanted,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=5_000))]
    producers: u16,
    /// Consumers of one group, which read what is sent meanwhile.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=64))]
    consumers: u16,
    /// For how long.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// The broker's process on this machine, to be watched.
    #[arg(long)]
    pid: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AcksWanted {
    None,
    Leader,
    All,
}

impl LoadArgs {
    fn config(&self) -> Outcome<ClientConfig> {
        let url = match self.bootstrap.contains("://") {
            true => self.bootstrap.clone(),
            false => format!("tcp://{}", self.bootstrap),
        };
        let config = ClientConfig::new(&url).context("--bootstrap")?;
        Ok(match (self.fingerprint, self.insecure) {
            (Some(fingerprint), _) => config.trust(Trust::Fingerprint(fingerprint)),
            (None, true) => config.trust(Trust::InsecureNoVerify),
            (None, false) => config,
        })
    }

    fn codec(&self) -> Codec {
        match self.compression {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        }
    }

    fn acks(&self) -> Acks {
        match self.acks {
            AcksWanted::None => Acks::None,
            AcksWanted::Leader => Acks::Leader,
            AcksWanted::All => Acks::All,
        }
    }

    /// Between two records of one producer; `None` at saturation.
    fn period(&self) -> Option<Duration> {
        let each = f64::from(self.rate?) / f64::from(self.producers);
        Some(Duration::from_secs_f64(1.0 / each))
    }

    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

/// What producers or consumers counted.
struct Tally {
    latencies: Latencies,
    /// Records by the second since the load began.
    each_second: Vec<f64>,
    failed: u64,
    /// What the first failure said.
    failure: Option<String>,
}

impl Tally {
    fn new(seconds: u32) -> Outcome<Self> {
        let each_second = vec![0.0; seconds as usize];
        Ok(Self { latencies: Latencies::new()?, each_second, failed: 0, failure: None })
    }

    fn done(&mut self, began: Instant, due: Instant) {
        self.latencies.record(due.elapsed());
        let second = usize::try_from(began.elapsed().as_secs()).unwrap_or(usize::MAX);
        if let Some(count) = self.each_second.get_mut(second) {
            *count += 1.0;
        }
    }

    fn failed(&mut self, why: &dyn std::fmt::Display) {
        self.failed += 1;
        self.failure.get_or_insert_with(|| why.to_string());
    }
}

/// What is known of the broker's process.
struct Watched {
    cpu_seconds: f64,
    written_bytes: u64,
    switches: u64,
}

impl Watched {
    fn of(pid: u32) -> Outcome<Self> {
        Ok(Self {
            cpu_seconds: ProcessStat::of(pid)?.cpu_seconds(),
            written_bytes: IoCounters::of(pid)?.write_bytes,
            switches: switches(pid)?,
        })
    }
}

/// Loads the broker.
pub(crate) fn figure(args: &LoadArgs) -> Outcome<Figure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("a runtime for the load")?;
    runtime.block_on(make_topic(args))?;
    let before = args.pid.map(Watched::of).transpose()?;
    let is_over = AtomicBool::new(false);
    let began = Instant::now();
    let (produced, consumed) = thread::scope(|scope| {
        let (ready, are_ready) = std::sync::mpsc::channel();
        let consuming = scope.spawn(|| consume(args, began, ready, &is_over));
        // An error of theirs is told in the end.
        let _ = are_ready.recv();
        let started = Instant::now();
        let produced = runtime.block_on(produce(args, (began, started)));
        is_over.store(true, Relaxed);
        let consumed = consuming.join().map_err(|_| BenchError::new("consumers", "a panic"))?;
        Ok::<_, BenchError>((produced?, consumed?))
    })?;
    let after = args.pid.map(Watched::of).transpose()?;
    let mut figure = Figure::new("load", what(args));
    lines(args, &produced, consumed.as_ref(), &mut figure);
    if let (Some(pid), Some(before), Some(after)) = (args.pid, before, after) {
        server_lines(&produced, (before, after), peak_rss_bytes(pid)?, args, &mut figure);
    }
    if let Some(failure) = &produced.failure {
        eprintln!("records failed, the first with: {failure}");
    }
    Ok(figure)
}

fn what(args: &LoadArgs) -> String {
    let rate = args.rate.map_or_else(|| "at saturation".to_owned(), |rate| format!("{rate}/s"));
    format!(
        "{}: {rate}, records of {} B in batches of up to {} B, {} producers, {} consumers; latencies of an \
         even rate are from when each record was due",
        args.bootstrap, args.record_bytes, args.batch_bytes, args.producers, args.consumers,
    )
}

async fn make_topic(args: &LoadArgs) -> Outcome<()> {
    let client = Client::connect(args.config()?).await.context("connecting")?;
    let topic = NewTopic::new(args.topic.as_str()).partitions(i32::from(args.partitions));
    match Admin::new(client).create_topic(topic).await {
        Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => Ok(()),
        made => made.context("making the topic"),
    }
}

/// `began` is what records carry their time from, `started` when the first is due.
async fn produce(args: &LoadArgs, (began, started): (Instant, Instant)) -> Outcome<Tally> {
    let mut telemetry = Telemetry::new(0x6c6f_6164);
    let size = args.record_bytes as usize;
    let values: Vec<Bytes> =
        (0..VALUES).map(|device| telemetry.reading(device % 500, size).into()).collect();
    let tally = Rc::new(RefCell::new(Tally::new(args.seconds)?));
    let connect = (0..args.producers).map(|_| async {
        let producer = Producer::builder().linger(Duration::from_millis(args.linger_ms.into()));
        let producer = producer.batch_bytes(args.batch_bytes as usize).compression(args.codec());
        let is_all = matches!(args.acks, AcksWanted::All);
        let producer = producer.acks(args.acks()).idempotence(is_all);
        producer.connect(args.config()?).await.context("a producer")
    });
    let producers = try_join_all(connect).await?;
    // Connecting takes as long as it takes.
    let started = started.max(Instant::now());
    let topic: Arc<str> = args.topic.as_str().into();
    let all = producers.iter().zip(0_u32..).map(|(producer, number)| {
        one(args, (producer, number), &topic, &values, (began, started), Rc::clone(&tally))
    });
    join_all(all).await;
    let close = producers.iter().map(|producer| timeout(GRACE, producer.close()));
    join_all(close).await;
    let tally = Rc::try_unwrap(tally).map_err(|_| BenchError::new("producers", "still running"));
    Ok(tally?.into_inner())
}

async fn one(
    args: &LoadArgs,
    (producer, number): (&Producer, u32),
    topic: &Arc<str>,
    values: &[Bytes],
    (began, started): (Instant, Instant),
    tally: Rc<RefCell<Tally>>,
) {
    let until = started + args.duration();
    let period = args.period();
    let offset =
        period.map_or(Duration::ZERO, |period| period * number / u32::from(args.producers));
    let mut next_due = started + offset;
    let mut under_way = FuturesUnordered::new();
    let mut index = number as usize;
    loop {
        let due = if period.is_some() { next_due } else { Instant::now() };
        if due >= until || Instant::now() >= until {
            break;
        }
        while Instant::now() < due {
            tokio::select! {
                () = sleep_until(due) => {}
                Some((due, fate)) = under_way.next() => tell(&tally, (started, due), fate),
            }
        }
        index = index.wrapping_add(1);
        let since = u64::try_from((due - began).as_nanos()).unwrap_or(u64::MAX);
        let value = values.get(index % values.len()).cloned().unwrap_or_default();
        let record = Record::to(Arc::clone(topic)).value(value);
        let record = record.header(DUE, Bytes::copy_from_slice(&since.to_be_bytes()));
        let record = match args.keys {
            0 => record,
            keys => record.key(format!("key-{}", index as u32 % keys)),
        };
        // Full buffers empty while this waits; fates are told when there is time.
        match producer.send(record).await {
            Ok(delivery) => under_way.push(async move { (due, delivery.await.map(drop)) }),
            Err(error) => tally.borrow_mut().failed(&error),
        }
        while let Some(Some((due, fate))) = futures::FutureExt::now_or_never(under_way.next()) {
            tell(&tally, (started, due), fate);
        }
        next_due += period.unwrap_or_default();
    }
    let give_up = Instant::now() + GRACE;
    while let Ok(Some((due, fate))) = tokio::time::timeout_at(give_up, under_way.next()).await {
        tell(&tally, (started, due), fate);
    }
    for _ in 0..under_way.len() {
        tally.borrow_mut().failed(&"not acknowledged in time");
    }
}

fn tell<E: std::fmt::Display>(
    tally: &RefCell<Tally>,
    (started, due): (Instant, Instant),
    fate: Result<(), E>,
) {
    match fate {
        Ok(()) => tally.borrow_mut().done(started, due),
        Err(error) => tally.borrow_mut().failed(&error),
    }
}

/// Reads with all consumers until the producers are done and nothing comes any more.
fn consume(
    args: &LoadArgs,
    began: Instant,
    ready: std::sync::mpsc::Sender<()>,
    is_over: &AtomicBool,
) -> Outcome<Option<Tally>> {
    if args.consumers == 0 {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("a runtime for consumers")?.block_on(async {
        let group = format!("millpond-bench-{}", std::process::id());
        let connect = (0..args.consumers).map(|_| async {
            let consumer = Consumer::builder().group(group.as_str()).topic(args.topic.as_str());
            let consumer = consumer.offset_reset(OffsetReset::Latest).max_poll_records(5_000);
            let mut consumer = consumer.connect(args.config()?).await.context("a consumer")?;
            consumer.ready(CONSUMERS_READY_WITHIN).await.context("a consumer's group")?;
            Outcome::Ok(consumer)
        });
        let mut consumers = try_join_all(connect).await?;
        drop(ready);
        let tally = RefCell::new(Tally::new(args.seconds)?);
        let (started, tally_of) = (Instant::now(), &tally);
        let all = consumers.iter_mut().map(|consumer| async move {
            loop {
                let records = consumer.poll(Duration::from_millis(500)).await;
                let records = records.context("a consumer")?;
                if records.is_empty() && is_over.load(Relaxed) {
                    return Outcome::Ok(());
                }
                for record in records {
                    let due = record.headers.iter().find(|(name, _)| name.as_ref() == DUE);
                    let due = due.and_then(|(_, value)| value.as_ref()?.first_chunk().copied());
                    if let Some(due) = due {
                        let due = began + Duration::from_nanos(u64::from_be_bytes(due));
                        tally_of.borrow_mut().done(started, due);
                    }
                }
            }
        });
        try_join_all(all).await?;
        for consumer in consumers {
            let _ = timeout(GRACE, consumer.close()).await;
        }
        Ok(Some(tally.into_inner()))
    })
}

fn lines(args: &LoadArgs, produced: &Tally, consumed: Option<&Tally>, figure: &mut Figure) {
    let one = |value: f64| Some(Spread::one(value));
    let sides = [("acknowledged", "ack", Some(produced)), ("consumed", "end to end", consumed)];
    for (name, latency, tally) in sides {
        let Some(tally) = tally else { continue };
        let mib_each = f64::from(args.record_bytes) / f64::from(1 << 20);
        let mib: Vec<f64> = tally.each_second.iter().map(|count| count * mib_each).collect();
        figure.line(format!("{name}, by the second"), Spread::of(&tally.each_second), "1/s");
        figure.line(format!("{name}, by the second"), Spread::of(&mib), "MiB/s");
        figure.line(format!("{name}, in all"), one(tally.latencies.count() as f64), "");
        for (quantile, part) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            let us = tally.latencies.quantile_us(part);
            figure.line(format!("{latency} {quantile}"), one(us), "us");
        }
    }
    figure.line("failed", one(produced.failed as f64), "");
}

fn server_lines(
    produced: &Tally,
    (before, after): (Watched, Watched),
    peak_bytes: u64,
    args: &LoadArgs,
    figure: &mut Figure,
) {
    let records = (produced.latencies.count() as f64).max(1.0);
    let cpu = (after.cpu_seconds - before.cpu_seconds) * 1e6 / records;
    let written = after.written_bytes.saturating_sub(before.written_bytes) as f64;
    let switched = after.switches.saturating_sub(before.switches) as f64;
    let payload_bytes = records * f64::from(args.record_bytes);
    for (name, value, unit) in [
        ("server: CPU", cpu, "us/record"),
        ("server: written", written / payload_bytes, "B/B"),
        ("server: context switches", switched / records, "1/record"),
        ("server: peak RSS", peak_bytes as f64 / f64::from(1 << 20), "MiB"),
    ] {
        figure.line(name, Some(Spread::one(value)), unit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: LoadArgs,
    }

    fn parsed(line: &str) -> Option<LoadArgs> {
        Some(Cli::try_parse_from(format!("x {line}").split(' ')).ok()?.args)
    }

    #[test]
    fn a_rate_is_that_of_all_producers_together() {
        let args = parsed("--bootstrap 127.0.0.1:9092 --rate 1000 --producers 10").unwrap();
        assert_eq!(args.period(), Some(Duration::from_millis(10)));
        assert_eq!(parsed("--bootstrap 127.0.0.1:9092").unwrap().period(), None);
    }

    #[test]
    fn an_address_without_a_scheme_is_spoken_to_over_tcp() {
        for address in ["127.0.0.1:9092", "tls://127.0.0.1:9092", "quic://127.0.0.1:9092"] {
            assert!(parsed(&format!("--bootstrap {address}")).unwrap().config().is_ok());
        }
        assert!(parsed("--bootstrap http://x:1").unwrap().config().is_err());
    }

    #[test]
    fn what_cannot_be_sent_is_refused_before_anything_is() {
        for wrong in ["--record-bytes 10", "--rate 0", "--producers 0", "--acks two", "--seconds 0"]
        {
            assert!(parsed(&format!("--bootstrap 127.0.0.1:9092 {wrong}")).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_record_counts_in_its_second_and_no_later() {
        let mut tally = Tally::new(1).unwrap();
        let now = Instant::now();
        tally.done(now, now);
        tally.done(now - Duration::from_secs(5), now);
        assert_eq!((tally.each_second.as_slice(), tally.latencies.count()), (&[1.0][..], 2));
    }
}
