//! (b) Many devices, each with a connection of its own and one record to a batch.

use std::time::Duration;

use crate::compare::duel::{Contender, Ring};
use crate::compare::results::{Board, Goal, Measure};
use crate::compare::{Phrases, Task, contest};
use crate::error::Outcome;
use crate::load::frames::{Content, Frames, Order, Shape};
use crate::load::saturate::{Pressure, at_intervals, saturate};
use crate::peers::Server;
use crate::report::Target;

pub(crate) const WHAT: &str = "devices with a TCP connection each and a record of 200 B of JSON \
    telemetry in each request, over 64 partitions (of NATS: subjects of one stream; of Mosquitto: \
    topics, QoS 1); each waits for its acknowledgement before the next; at saturation, and one record \
    a second of each, timed from when it was due";
const SHAPE: Shape = Shape { records: 1, value_bytes: 200 };
const TOPIC: &str = "fleet";
const PARTITIONS: usize = 64;
/// Different requests, at the least.
const FRAMES: usize = 128 * 1024;
/// One record a second of each.
const PERIOD: Duration = Duration::from_secs(1);

const RATE: Measure = Measure::more("acknowledged", "1/s").plotted();
const P50: Measure = Measure::less("ack p50", "ms");
const P99: Measure = Measure::less("ack p99", "ms").plotted();

pub(crate) fn goals(case: &str, measure: &str, label: &str) -> (Goal, Goal) {
    let is_saturated = case.contains("saturation");
    let ratio = match (measure, label) {
        ("acknowledged", "kafka-flush" | "nats-always") if is_saturated => {
            Some(Target::AtLeast(10.0))
        }
        // The second has the file system's own journal in it, the first what is written after the turn.
        (
            "written by the server in its life" | "written to the device in the turn",
            "kafka-flush",
        ) => Some(Target::AtMost(0.1)),
        _ => None,
    };
    (ratio, None)
}

pub(crate) fn run(task: &Task<'_>, board: &mut Board) -> Outcome<()> {
    let ring = &task.ring;
    for devices in [500_usize, 5_000] {
        let each = FRAMES.div_ceil(devices.next_multiple_of(PARTITIONS));
        let order = Order { shape: SHAPE, content: Content::Readings, lines: devices, each };
        let modes = [("at saturation", None), ("1/s each", Some(PERIOD))];
        let modes = modes.map(|(name, period)| (format!("{devices} devices, {name}"), period));
        if !modes.iter().any(|(case, _)| task.wants(case)) {
            continue;
        }
        let phrases = Phrases::of(ring.peers, TOPIC, PARTITIONS, order)?;
        for (case, period) in modes.into_iter().filter(|(case, _)| task.wants(case)) {
            let (all, place) = (|_| true, (TOPIC, PARTITIONS));
            contest(ring, (&case, board), (&phrases, place), all, |round, one, frames, board| {
                turn(ring, (&case, round), (devices, period), one, frames, board)
            })?;
        }
    }
    Ok(())
}

fn turn(
    ring: &Ring<'_>,
    (case, round): (&str, usize),
    (devices, period): (usize, Option<Duration>),
    contender: &mut Contender,
    frames: &Frames,
    board: &mut Board,
) -> Outcome<()> {
    // A second has each device's record in it, and a few of them make a quantile.
    let turn = ring.bench.seconds(4.0).max(PERIOD * 2);
    let duration = if round == 0 { ring.warm_up() } else { turn };
    let pressure = Pressure { connections: devices, in_flight: 1 };
    let load = |server: &Server| match period {
        Some(period) => at_intervals(server.address(), frames, pressure, (period, duration)),
        None => saturate(server.address(), frames, pressure, duration),
    };
    let (run, cost) =
        ring.measured(contender, SHAPE.payload_bytes(), load, |run| run.requests_in_all)?;
    if round == 0 {
        return Ok(());
    }
    let label = contender.peer.name();
    board.add(case, RATE, label, run.requests_per_second_in_all());
    // A short turn may end before a slow one's first answer.
    if run.latencies.count() > 0 {
        board.add(case, P50, label, run.latencies.quantile_us(0.5) / 1e3);
        board.add(case, P99, label, run.latencies.quantile_us(0.99) / 1e3);
    }
    cost.tell(case, label, SHAPE.records, board);
    Ok(())
}
