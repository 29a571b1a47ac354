//! What the broker takes before it does anything: memory, idle and with many devices connected;
//! the size of the program; the time from its start to its first acknowledgement.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use millpond_wire::messages::metadata_request::MetadataRequestTopic;
use millpond_wire::messages::{MetadataRequest, Response};

use crate::broker::Broker;
use crate::error::{Context, Outcome};
use crate::figures::{Bench, progress};
use crate::load::conversation::{Conversation, accepted, other_answer};
use crate::load::fleet::Fleet;
use crate::load::frames::{Frames, expect_taken, frame};
use crate::load::reader::read_partition;
use crate::load::saturate::saturate;
use crate::payload::Telemetry;
use crate::procfs::Memory;
use crate::report::Figure;
use crate::spread::Spread;

/// Devices, each with a QUIC connection.
const DEVICES: usize = 500;
/// Partitions of a crowded board, and of one that holds far more than it should.
const CROWDS: [usize; 2] = [1_000, 5_000];
/// Most partitions of one topic.
const TOPIC_PARTITIONS: usize = 1_000;
/// The version of Metadata that is spoken.
const METADATA_VERSION: i16 = 9;
/// A start that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// After a start, before memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let mut figure = Figure::new(
        "footprint",
        format!("memory of the process, idle and with {DEVICES} QUIC devices; size; start"),
    );
    let (mut idle, mut connected) = (Vec::new(), Vec::new());
    for round in 1..=if bench.quick { 1 } else { 2 } {
        progress(&format!("footprint, memory, round {round}"));
        let (one, many) = memory(bench)?;
        idle.push(one);
        connected.push(many);
    }
    memory_lines(&mut figure, &idle, &connected);
    for partitions in CROWDS {
        for (name, value, unit) in crowded(bench, partitions)? {
            figure.line(name, Some(Spread::one(value)), unit);
        }
    }
    let size = fs::metadata(&bench.binary).context("the broker's binary")?.len();
    let size = Spread::one(mib(size));
    figure.line("program, as built for release", Some(size), "MiB");
    let (mut fresh, mut again) = (Vec::new(), Vec::new());
    for round in 1..=bench.rounds + 2 {
        progress(&format!("footprint, start, round {round}"));
        let home = bench.scratch()?;
        fresh.push(first_ack_ms(bench, home.path())?);
        again.push(first_ack_ms(bench, home.path())?);
    }
    figure.line("start to first ack, new data directory", Spread::of(&fresh), "ms");
    figure.line("start to first ack, existing one", Spread::of(&again), "ms");
    Ok(figure)
}

/// Idle, and with all devices connected, each of which has sent one record.
fn memory(bench: &Bench) -> Outcome<(Memory, Memory)> {
    let (broker, _home) = bench.broker()?;
    thread::sleep(SETTLE);
    let idle = broker.memory()?;
    broker.create_topic("fleet", 64)?;
    let fleet = Fleet::connect(broker.kafka(), "fleet", 64, (DEVICES, 200))?;
    fleet.idle(SETTLE);
    let connected = broker.memory()?;
    fleet.close();
    broker.stop()?;
    Ok((idle, connected))
}

/// A board with many partitions, all of them written to as fast as it goes, then killed, started
/// and read again: what it takes at most.
fn crowded(bench: &Bench, partitions: usize) -> Outcome<[(String, f64, &'static str); 5]> {
    progress(&format!("footprint, {partitions} partitions"));
    let home = bench.scratch()?;
    let broker = Broker::start(&bench.binary, home.path())?;
    let each = partitions.min(TOPIC_PARTITIONS);
    let topics: Vec<String> = (0..partitions / each).map(|at| format!("crowd-{at}")).collect();
    topics.iter().try_for_each(|topic| broker.create_topic(topic, each))?;
    let empty = broker.peak_rss_bytes()?;
    let mut telemetry = Telemetry::new(5);
    let batches = (0..partitions * 4)
        .map(|index| telemetry.batch_of_readings(index % 500, 10, 200))
        .collect::<Outcome<Vec<_>>>()?;
    let frames = Frames::over_topics(&topics, each, batches)?;
    saturate(broker.kafka(), &frames, bench.pressure, bench.seconds(6.0))?;
    let written = broker.peak_rss_bytes()?;
    broker.kill()?;
    let start_ms = first_ack_ms(bench, home.path())?;
    let broker = Broker::start(&bench.binary, home.path())?;
    let started = broker.peak_rss_bytes()?;
    for (topic, partition) in topics.iter().flat_map(|topic| (0..each).map(move |at| (topic, at))) {
        let partition = i32::try_from(partition).context("a partition")?;
        read_partition(broker.kafka(), topic, partition)?;
    }
    let read = broker.peak_rss_bytes()?;
    broker.stop()?;
    let name = |what: &str| format!("{partitions} partitions: {what}");
    Ok([
        (name("peak RSS, empty"), mib(empty), "MiB"),
        (name("peak RSS, saturated"), mib(written), "MiB"),
        (name("start to first ack after kill -9"), start_ms, "ms"),
        (name("peak RSS after a start"), mib(started), "MiB"),
        (name("peak RSS, all of them read"), mib(read), "MiB"),
    ])
}

fn memory_lines(figure: &mut Figure, idle: &[Memory], connected: &[Memory]) {
    type Part = fn(&Memory) -> u64;
    let parts: [(&str, Part); 3] = [
        ("RSS", |memory| memory.rss_bytes),
        ("PSS", |memory| memory.pss_bytes),
        ("anonymous", |memory| memory.anonymous_bytes),
    ];
    let of = |samples: &[Memory], part: Part| {
        let mib: Vec<f64> = samples.iter().map(|memory| mib(part(memory))).collect();
        Spread::of(&mib)
    };
    for (name, part) in parts {
        figure.line(format!("{name}, idle"), of(idle, part), "MiB");
    }
    for (name, part) in parts {
        figure.line(format!("{name}, {DEVICES} devices"), of(connected, part), "MiB");
    }
    #[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
    let each: Vec<f64> = idle
        .iter()
        .zip(connected)
        .map(|(one, many)| many.rss_bytes.saturating_sub(one.rss_bytes) as f64)
        .map(|bytes| bytes / 1024.0 / DEVICES as f64)
        .collect();
    figure.line("RSS, for each device", Spread::of(&each), "KiB");
}

#[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// From the start of the process to the acknowledgement of a record, in ms.
pub(crate) fn first_ack_ms(bench: &Bench, home: &Path) -> Outcome<f64> {
    let produce = frame("first", 0, Telemetry::new(4).batch(1, 200)?)?;
    let started = Instant::now();
    let broker = Broker::spawn(&bench.binary, home)?;
    let mut client = Conversation::over(connect(broker.kafka(), started + PATIENCE)?)?;
    make_topic(&mut client, "first")?;
    expect_taken(client.exchange(&produce)?)?;
    let took = started.elapsed();
    broker.stop()?;
    Ok(took.as_secs_f64() * 1e3)
}

/// Connects as soon as somebody listens.
fn connect(address: SocketAddr, give_up: Instant) -> Outcome<TcpStream> {
    loop {
        match TcpStream::connect(address) {
            Ok(socket) => return Ok(socket),
            Err(error) if Instant::now() > give_up => return Err(error).context("connecting"),
            Err(_) => thread::sleep(Duration::from_micros(500)),
        }
    }
}

/// Makes a topic by asking for it.
pub(crate) fn make_topic(client: &mut Conversation, topic: &str) -> Outcome<()> {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(topic.to_owned()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    let answer = client.call(METADATA_VERSION, request)?;
    let Response::Metadata(metadata) = answer else { return Err(other_answer(&answer)) };
    let topic = metadata.topics.first().context("a topic in the answer")?;
    accepted("making a topic on first use", topic.error_code)
}
