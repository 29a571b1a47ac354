//! (a) Large batches at saturation: what comes through, and what it takes.

use std::thread;
use std::time::Duration;

use crate::compare::duel::{Contender, Ring};
use crate::compare::results::{Board, Goal, Measure};
use crate::compare::{Phrases, Place, Task, contest};
use crate::error::{Context, Outcome};
use crate::load::answers::Language;
use crate::load::conversation::Conversation;
use crate::load::frames::{Content, Frames, Order, Shape, expect_taken};
use crate::load::saturate::{Pressure, saturate};
use crate::peers::{Peer, Server};
use crate::report::Target;

pub(crate) const WHAT: &str = "records of 1 KiB of JSON telemetry, 63 of them in a batch of 64 KiB, \
    acks=all, at saturation over TCP; for NATS the same records as single messages, 63 of them in \
    each write, each acknowledged by itself";
/// 63 of them make a batch of 64 KiB with what surrounds them.
pub(crate) const SHAPE: Shape = Shape { records: 63, value_bytes: 1024 };
pub(crate) const TOPIC: &str = "bulk";
/// Different requests for each connection.
const EACH: usize = 128;

const RATE: Measure = Measure::more("acknowledged", "MiB/s").plotted();
const P50: Measure = Measure::less("ack p50, queue full", "ms");
const P99: Measure = Measure::less("ack p99, queue full", "ms");

pub(crate) fn goals(_case: &str, measure: &str, label: &str) -> (Goal, Goal) {
    let ratio = match (measure, label) {
        ("acknowledged", "kafka") => Some(Target::AtLeast(1.5)),
        ("acknowledged", "kafka-flush") => Some(Target::AtLeast(5.0)),
        ("peak resident memory", "kafka") => Some(Target::AtMost(0.1)),
        _ => None,
    };
    (ratio, None)
}

/// What saturates everyone.
pub(crate) fn order(pressure: Pressure) -> Order {
    Order { shape: SHAPE, content: Content::Mixed, lines: pressure.connections, each: EACH }
}

/// MQTT has no batches and keeps what nobody fetched in memory: gigabytes would say nothing.
pub(crate) fn takes_part(peer: Peer) -> bool {
    peer.language() != Language::Mqtt
}

pub(crate) fn run(task: &Task<'_>, board: &mut Board) -> Outcome<()> {
    let ring = &task.ring;
    let pressure = ring.bench.pressure;
    for partitions in [1, 64] {
        let case = format!("{partitions} partition{}", if partitions == 1 { "" } else { "s" });
        if !task.wants(&case) {
            continue;
        }
        let phrases = Phrases::of(ring.peers, TOPIC, partitions, order(pressure))?;
        let place = (TOPIC, partitions);
        contest(
            ring,
            (&case, board),
            (&phrases, place),
            takes_part,
            |round, one, frames, board| turn(ring, (&case, round), one, frames, board),
        )?;
    }
    Ok(())
}

fn turn(
    ring: &Ring<'_>,
    (case, round): (&str, usize),
    contender: &mut Contender,
    frames: &Frames,
    board: &mut Board,
) -> Outcome<()> {
    let bench = ring.bench;
    let duration = if round == 0 { ring.warm_up() } else { bench.seconds(4.0) };
    let load = |server: &Server| saturate(server.address(), frames, bench.pressure, duration);
    let (run, cost) =
        ring.measured(contender, SHAPE.payload_bytes(), load, |run| run.requests_in_all)?;
    if round == 0 {
        return Ok(());
    }
    let label = contender.peer.name();
    let rate = run.requests_per_second_in_all() * SHAPE.payload_bytes() as f64 / f64::from(1 << 20);
    board.add(case, RATE, label, rate);
    // A short turn may end before a slow one's first answer.
    if run.latencies.count() > 0 {
        board.add(case, P50, label, run.latencies.quantile_us(0.5) / 1e3);
        board.add(case, P99, label, run.latencies.quantile_us(0.99) / 1e3);
    }
    cost.tell(case, label, SHAPE.records, board);
    Ok(())
}

/// Makes the topic and waits until all of its partitions take records.
pub(crate) fn ready(
    server: &Server,
    frames: &Frames,
    (topic, partitions): Place<'_>,
    peer: Peer,
) -> Outcome<()> {
    server.make_topic(topic, partitions)?;
    match peer.language() {
        Language::Kafka => wait_for_leaders(server, frames, partitions),
        _ => Ok(()),
    }
}

/// Sends a record to each partition until it is taken: a leader may not know yet that it is one.
pub(crate) fn wait_for_leaders(server: &Server, frames: &Frames, partitions: usize) -> Outcome<()> {
    const TRIES: usize = 500;
    const TRY_EVERY: Duration = Duration::from_millis(20);
    let mut line = Conversation::with(server.address())?;
    for index in 0..partitions {
        let frame = frames.get(index).context("a request")?;
        let mut tries = 0;
        while let Err(error) = expect_taken(line.exchange(frame)?) {
            tries += 1;
            if tries == TRIES {
                return Err(error);
            }
            thread::sleep(TRY_EVERY);
        }
    }
    Ok(())
}
