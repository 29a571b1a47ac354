//! (c) Acknowledgements at even rates, open loop, with the machine's own write and sync beside them.

use crate::compare::duel::{Contender, Ring, settle};
use crate::compare::results::{Board, Goal, Measure};
use crate::compare::{Phrases, Task, contest};
use crate::error::Outcome;
use crate::figures::progress;
use crate::latency::Latencies;
use crate::load::frames::{Content, Frames, Order, Shape};
use crate::load::pace::Pace;
use crate::load::paced::{Rate, paced};
use crate::payload::Telemetry;
use crate::peers::Server;
use crate::raw::RawDisk;
use crate::report::Target;

pub(crate) const WHAT: &str = "requests of one record of 200 B at an even rate over 8 TCP connections to \
    64 partitions, timed from when each was due (open loop): what is late makes all that wait behind it \
    late; those that were not answered 5 s after the end count as answered then. raw: one block \
    written and synced at a time, 200 a second, with no broker";
const SHAPE: Shape = Shape { records: 1, value_bytes: 200 };
const TOPIC: &str = "paced";
const PARTITIONS: usize = 64;
const CONNECTIONS: usize = 8;
const RATES: [u32; 2] = [1_000, 10_000];
/// Different requests for each connection.
const EACH: usize = 2_048;
/// The bound, by which Millpond is divided as by any other.
const RAW: &str = "raw write and sync";
/// So few that none waits for the one before, on a disk that syncs in milliseconds too.
const RAW_PER_SECOND: u32 = 200;

const QUANTILES: [(Measure, f64); 3] = [
    (Measure::less("ack p50", "us"), 0.5),
    (Measure::less("ack p99", "us").plotted(), 0.99),
    (Measure::less("ack p99.9", "us"), 0.999),
];
const UNANSWERED: Measure = Measure::less("not answered", "%");

pub(crate) fn goals(case: &str, measure: &str, label: &str) -> (Goal, Goal) {
    let is_goal = case.starts_with("10000/s") && measure == "ack p99";
    let ratio = match label {
        RAW => Some(Target::AtMost(2.0)),
        "kafka-flush" => Some(Target::AtMost(0.5)),
        _ => None,
    };
    (ratio.filter(|_| is_goal), None)
}

pub(crate) fn run(task: &Task<'_>, board: &mut Board) -> Outcome<()> {
    let ring = &task.ring;
    let order = Order { shape: SHAPE, content: Content::Readings, lines: CONNECTIONS, each: EACH };
    let phrases = Phrases::of(ring.peers, TOPIC, PARTITIONS, order)?;
    let raw_dir = ring.bench.scratch()?;
    let raw = RawDisk::prepare(raw_dir.path())?;
    let payload = Telemetry::new(2).batch(8, 1024)?;
    for per_second in RATES {
        let case = format!("{per_second}/s");
        if !task.wants(&case) {
            continue;
        }
        let mut raw_rounds = 0;
        let (all, place) = (|_| true, (TOPIC, PARTITIONS));
        contest(ring, (&case, board), (&phrases, place), all, |round, one, frames, board| {
            // Once in each round, before the first of the contenders.
            if round > raw_rounds {
                raw_rounds = round;
                progress(&format!("{case}: raw, round {round}"));
                let pace = Pace::starting_now(RAW_PER_SECOND);
                let duration = ring.bench.seconds(4.0);
                let bound = raw.paced(&payload, pace, pace.operations(duration))?;
                tell(&case, RAW, &bound, board);
                settle(&ring.bench.dir)?;
            }
            turn(ring, (&case, round), per_second, one, frames, board)
        })?;
    }
    Ok(())
}

fn turn(
    ring: &Ring<'_>,
    (case, round): (&str, usize),
    per_second: u32,
    contender: &mut Contender,
    frames: &Frames,
    board: &mut Board,
) -> Outcome<()> {
    let duration = if round == 0 { ring.warm_up() } else { ring.bench.seconds(4.0) };
    let rate = Rate { per_second, connections: CONNECTIONS };
    let load = |server: &Server| paced(server.address(), frames, rate, duration);
    let (run, cost) =
        ring.measured(contender, SHAPE.payload_bytes(), load, |run| run.requests - run.unanswered)?;
    if round == 0 {
        return Ok(());
    }
    let label = contender.peer.name();
    tell(case, label, &run.latencies, board);
    let unanswered = 100.0 * run.unanswered as f64 / run.requests.max(1) as f64;
    board.add(case, UNANSWERED, label, unanswered);
    cost.tell(case, label, SHAPE.records, board);
    Ok(())
}

fn tell(case: &str, label: &str, latencies: &Latencies, board: &mut Board) {
    for (measure, quantile) in QUANTILES {
        board.add(case, measure, label, latencies.quantile_us(quantile));
    }
}
