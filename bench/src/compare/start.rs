//! (f) From the start of a process to its first acknowledgement, what it takes while nobody asks
//! anything of it, and how long it takes to come back after kill -9 with much stored.

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::compare::bulk::{self, ready, takes_part};
use crate::compare::duel::{Ring, mib, settle};
use crate::compare::results::{BASE, Board, Goal, Measure};
use crate::compare::{Phrases, Task};
use crate::error::{BenchError, Context, Outcome};
use crate::figures::footprint::make_topic;
use crate::figures::progress;
use crate::load::answers::Language;
use crate::load::conversation::Conversation;
use crate::load::frames::{Content, Frames, Order, Shape, expect_taken};
use crate::load::mqtt;
use crate::load::nats;
use crate::load::saturate::{Pressure, saturate};
use crate::peers::{Peer, Seat, Server};
use crate::report::Target;

pub(crate) const WHAT: &str = "from the start of the process to the acknowledgement of a record of a topic \
    that is made in between (Kafka's data directory was formatted before); memory and processor time \
    while nobody is connected; the same start after kill -9 under a saturating load of 64 KiB batches with \
    much stored";
const SHAPE: Shape = Shape { records: 1, value_bytes: 200 };
const TOPIC: &str = "first";
/// A start that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries to be acknowledged.
const TRY_EVERY: Duration = Duration::from_micros(500);
/// After its first answer a broker may have things to do.
const SETTLE: Duration = Duration::from_secs(3);
const FILL: &str = "fill";
const FILL_PARTITIONS: usize = 8;

const FRESH: Measure = Measure::less("start to first ack, new data directory", "ms").plotted();
const AGAIN: Measure = Measure::less("start to first ack, existing one", "ms");
const IDLE_RSS: Measure = Measure::less("resident memory, idle", "MiB").plotted();
const IDLE_CPU: Measure = Measure::less("CPU, idle, of one core", "%");
const SIZE: Measure = Measure::less("program, with its libraries or jars", "MiB");
const RECOVERY: Measure = Measure::less("start to first ack after kill -9", "ms").plotted();

pub(crate) fn goals(_case: &str, measure: &str, label: &str) -> (Goal, Goal) {
    let goal = match measure {
        "start to first ack, existing one" => Some(Target::AtMost(100.0)),
        "resident memory, idle" | "program, with its libraries or jars" => {
            Some(Target::AtMost(16.0))
        }
        _ => None,
    };
    (None, goal.filter(|_| label == BASE))
}

pub(crate) fn run(task: &Task<'_>, board: &mut Board) -> Outcome<()> {
    let ring = &task.ring;
    if task.wants("start") {
        starts(ring, board)?;
    }
    if task.wants("idle") {
        idle(ring, board);
    }
    let recovery = format!("recovery, {} MiB stored", task.stored_bytes >> 20);
    if task.wants(&recovery) {
        recoveries(ring, &recovery, task.stored_bytes, board)?;
    }
    Ok(())
}

fn starts(ring: &Ring<'_>, board: &mut Board) -> Outcome<()> {
    let order = Order { shape: SHAPE, content: Content::Readings, lines: 1, each: 1 };
    let phrases = Phrases::of(ring.peers, TOPIC, 1, order)?;
    for round in 1..=ring.bench.rounds {
        for peer in ring.peers.iter().copied() {
            progress(&format!("start: {}, round {round}", peer.name()));
            settle(&ring.bench.dir)?;
            let frames = phrases.for_peer(peer)?;
            let both = ring.seat(peer).and_then(|seat| {
                seat.prepare(ring.installed)?;
                let fresh = first_ack_ms(ring, &seat, frames)?;
                Ok((fresh, first_ack_ms(ring, &seat, frames)?))
            });
            match both {
                Ok((fresh, again)) => {
                    board.add("start", FRESH, peer.name(), fresh);
                    board.add("start", AGAIN, peer.name(), again);
                }
                Err(error) => board.fail("start", peer.name(), &error),
            }
        }
    }
    Ok(())
}

/// From the start of the process to the acknowledgement of a record, in ms. Stops it after that.
fn first_ack_ms(ring: &Ring<'_>, seat: &Seat, frames: &Frames) -> Outcome<f64> {
    let frame = frames.get(0).context("a request")?;
    let started = Instant::now();
    let server = seat.spawn(ring.installed)?;
    loop {
        match try_first(&server, seat.peer, frame) {
            Ok(()) => break,
            Err(error) if started.elapsed() > PATIENCE => {
                return Err(server.process().complaint(&error.to_string()));
            }
            Err(_) => thread::sleep(TRY_EVERY),
        }
    }
    let took = started.elapsed();
    server.stop()?;
    Ok(took.as_secs_f64() * 1e3)
}

/// A record, to a topic that is made if it is not there.
fn try_first(server: &Server, peer: Peer, frame: &[u8]) -> Outcome<()> {
    let address = server.address();
    match peer.language() {
        Language::Kafka => {
            let mut line = Conversation::with(address)?;
            // Some make it and say that it is not there yet.
            make_topic(&mut line, TOPIC)?;
            expect_taken(line.exchange(frame)?)
        }
        Language::Nats => {
            nats::create_stream(address, TOPIC)?;
            nats::publish_one(address, frame)
        }
        Language::Mqtt => {
            mqtt::keep(address, TOPIC)?;
            mqtt::publish_one(address, frame)
        }
    }
}

fn idle(ring: &Ring<'_>, board: &mut Board) {
    for peer in ring.peers.iter().copied() {
        progress(&format!("idle: {}", peer.name()));
        let name = peer.name();
        match idle_of(ring, peer) {
            Ok((rss, cpu)) => {
                board.add("idle", IDLE_RSS, name, rss);
                board.add("idle", IDLE_CPU, name, cpu);
            }
            Err(error) => board.fail("idle", name, &error),
        }
        match ring
            .installed
            .programs(peer)
            .and_then(|paths| paths.iter().map(|path| size_of(path)).sum::<Outcome<u64>>())
        {
            Ok(bytes) => board.add("idle", SIZE, name, mib(bytes)),
            Err(error) => board.fail("idle", name, &error),
        }
    }
}

/// Memory in MiB, and the part of a core in percent.
fn idle_of(ring: &Ring<'_>, peer: Peer) -> Outcome<(f64, f64)> {
    let seat = ring.seat(peer)?;
    let server = seat.start(ring.installed)?;
    thread::sleep(SETTLE);
    let cpu = server.process().cpu_seconds()?;
    let watch = ring.bench.seconds(8.0);
    thread::sleep(watch);
    let cpu = server.process().cpu_seconds()? - cpu;
    let rss = mib(server.process().memory()?.rss_bytes);
    server.stop()?;
    Ok((rss, 100.0 * cpu / watch.as_secs_f64()))
}

fn size_of(path: &Path) -> Outcome<u64> {
    let what = || format!("the size of {}", path.display());
    let metadata = std::fs::metadata(path).context(what())?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let entries = std::fs::read_dir(path).context(what())?;
    entries.map(|entry| size_of(&entry.context(what())?.path())).sum()
}

fn recoveries(ring: &Ring<'_>, case: &str, bytes: u64, board: &mut Board) -> Outcome<()> {
    let phrases = Phrases::of(ring.peers, FILL, FILL_PARTITIONS, bulk::order(ring.bench.pressure))?;
    let order = Order { shape: SHAPE, content: Content::Readings, lines: 1, each: 1 };
    let first = Phrases::of(ring.peers, TOPIC, 1, order)?;
    let mut seats = Vec::new();
    for peer in ring.peers.iter().copied().filter(|peer| takes_part(*peer)) {
        progress(&format!("{case}: {}, writing it", peer.name()));
        let filled = ring.seat(peer).and_then(|seat| {
            let server = seat.start(ring.installed)?;
            let frames = phrases.for_peer(peer)?;
            ready(&server, frames, (FILL, FILL_PARTITIONS), peer)?;
            fill(&server, frames, ring.bench.pressure, bytes)?;
            server.stop()?;
            Ok(seat)
        });
        match filled {
            Ok(seat) => seats.push(seat),
            Err(error) => board.fail(case, peer.name(), &error),
        }
    }
    for round in 1..=ring.bench.rounds {
        for seat in &seats {
            progress(&format!("{case}: {}, round {round}", seat.peer.name()));
            let back = kill_under_load(ring, seat, phrases.for_peer(seat.peer)?)
                .and_then(|()| settle(&ring.bench.dir))
                .and_then(|()| first_ack_ms(ring, seat, first.for_peer(seat.peer)?));
            match back {
                Ok(back) => board.add(case, RECOVERY, seat.peer.name(), back),
                Err(error) => board.fail(case, seat.peer.name(), &error),
            }
        }
    }
    Ok(())
}

/// Sends until so many bytes of values are acknowledged.
pub(crate) fn fill(
    server: &Server,
    frames: &Frames,
    pressure: Pressure,
    bytes: u64,
) -> Outcome<()> {
    // Who is slower than this is not waited for.
    const TURNS_MAX: usize = 180;
    let mut sent = 0;
    for _ in 0..TURNS_MAX {
        let run = saturate(server.address(), frames, pressure, Duration::from_secs(1))?;
        sent += run.requests_in_all * frames.shape().payload_bytes() as u64;
        if sent >= bytes {
            return Ok(());
        }
    }
    let why = format!("{} MiB of {} after {TURNS_MAX} s", sent >> 20, bytes >> 20);
    Err(BenchError::new("filling it", why))
}

/// Starts the broker, loads it, and kills it in the middle of the load.
fn kill_under_load(ring: &Ring<'_>, seat: &Seat, frames: &Frames) -> Outcome<()> {
    let server = seat.start(ring.installed)?;
    ready_again(&server, frames, seat.peer)?;
    let (address, pressure) = (server.address(), ring.bench.pressure);
    let (done, ended) = mpsc::channel();
    thread::scope(|scope| {
        let load = scope.spawn(move || {
            // Ends with an error when the broker is killed: that is what is wanted.
            let result = saturate(address, frames, pressure, Duration::from_secs(20));
            let _ = done.send(());
            result.map(drop)
        });
        // Nothing to wait for but time: what is in memory and in the page cache grows.
        let early = ended.recv_timeout(ring.bench.seconds(4.0)).is_ok();
        server.kill()?;
        match (early, load.join().ok().context("the load's thread")?) {
            (true, Err(error)) => Err(error),
            (true, Ok(())) => Err(BenchError::new("the load", "it ended before the kill")),
            (false, _) => Ok(()),
        }
    })
}

/// All partitions take records again.
fn ready_again(server: &Server, frames: &Frames, peer: Peer) -> Outcome<()> {
    match peer.language() {
        Language::Kafka => bulk::wait_for_leaders(server, frames, FILL_PARTITIONS),
        _ => Ok(()),
    }
}
