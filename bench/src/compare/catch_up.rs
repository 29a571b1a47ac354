//! (d) A consumer that reads much of the past while others write: how fast it is, and what it does to
//! them.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::compare::bulk::{self, ready};
use crate::compare::duel::{Contender, Ring};
use crate::compare::results::{Board, Goal, Measure};
use crate::compare::start::fill;
use crate::compare::{Phrases, Task};
use crate::error::{BenchError, Context, Outcome};
use crate::figures::history::forget;
use crate::load::answers::Language;
use crate::load::frames::Frames;
use crate::load::paced::{Paced, Rate, paced};
use crate::load::reader::read_until;
use crate::peers::Server;

pub(crate) const WHAT: &str = "a consumer reads 8 partitions from their start, one after the other, over one \
    TCP connection, nothing of them in the page cache, while 100 batches of 64 KiB a second are \
    written to another topic and timed from when each was due; bytes are those of the batches as the \
    consumer gets them";
const PAST: &str = "bulk";
const NOW: &str = "now";
const PARTITIONS: usize = 8;
const RATE: Rate = Rate { per_second: 100, connections: 4 };

const READ: Measure = Measure::more("read", "MiB/s").plotted();
const ACK_P50: Measure = Measure::less("ack p50 meanwhile", "ms");
const ACK_P99: Measure = Measure::less("ack p99 meanwhile", "ms").plotted();
const CPU: Measure = Measure::less("server's CPU, of one core", "%");

pub(crate) fn goals(_case: &str, _measure: &str, _label: &str) -> (Goal, Goal) {
    (None, None)
}

pub(crate) fn run(task: &Task<'_>, board: &mut Board) -> Outcome<()> {
    let ring = &task.ring;
    let case = format!("{} MiB stored", task.stored_bytes >> 20);
    let order = bulk::order(ring.bench.pressure);
    let past = Phrases::of(ring.peers, PAST, PARTITIONS, order)?;
    let now = Phrases::of(ring.peers, NOW, PARTITIONS, order)?;
    let takes_part = |peer: crate::peers::Peer| peer.language() == Language::Kafka;
    let mut contenders = ring.enter(&case, board, takes_part, |server, peer| {
        let frames = past.for_peer(peer)?;
        ready(server, frames, (PAST, PARTITIONS), peer)?;
        ready(server, now.for_peer(peer)?, (NOW, PARTITIONS), peer)?;
        fill(server, frames, ring.bench.pressure, task.stored_bytes)
    });
    ring.rounds(&case, board, &mut contenders, |round, contender, board| {
        turn(ring, (&case, round), contender, now.for_peer(contender.peer)?, board)
    })?;
    ring.leave(&case, board, contenders);
    Ok(())
}

fn turn(
    ring: &Ring<'_>,
    (case, round): (&str, usize),
    contender: &Contender,
    frames: &Frames,
    board: &mut Board,
) -> Outcome<()> {
    let server = &contender.server;
    server.process().wait_until_quiet()?;
    let duration = ring.bench.seconds(8.0);
    let cpu = server.process().cpu_seconds()?;
    let (read, written) = thread::scope(|scope| {
        let writing = scope.spawn(|| paced(server.address(), frames, RATE, duration));
        let read = read_past(server, contender.seat.home.path(), Instant::now() + duration);
        let written = writing.join().map_err(|_| BenchError::new("the writers", "a panic"))?;
        Ok::<_, BenchError>((read?, written?))
    })?;
    let cpu = server.process().cpu_seconds()? - cpu;
    if round == 0 {
        return Ok(());
    }
    let Paced { latencies, .. } = written;
    let label = contender.peer.name();
    board.add(case, READ, label, read);
    board.add(case, ACK_P50, label, latencies.quantile_us(0.5) / 1e3);
    board.add(case, ACK_P99, label, latencies.quantile_us(0.99) / 1e3);
    board.add(case, CPU, label, 100.0 * cpu / duration.as_secs_f64());
    Ok(())
}

/// Reads all partitions again and again until the time has come; MiB a second while it read.
fn read_past(server: &Server, home: &Path, until: Instant) -> Outcome<f64> {
    let (mut bytes, mut took) = (0, Duration::ZERO);
    while Instant::now() < until {
        let mut files = Vec::new();
        files_below(&home.join("data"), &mut files)?;
        forget(&files)?;
        for partition in 0..PARTITIONS {
            let partition = i32::try_from(partition).context("a partition")?;
            let reading = read_until(server.address(), PAST, partition, Some(until))?;
            bytes += reading.batch_bytes;
            took += Duration::from_secs_f64(reading.seconds);
        }
    }
    Ok(bytes as f64 / f64::from(1 << 20) / took.as_secs_f64())
}

fn files_below(dir: &Path, into: &mut Vec<std::path::PathBuf>) -> Outcome<()> {
    for entry in fs::read_dir(dir).context(format!("reading {}", dir.display()))?.flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => files_below(&path, into)?,
            false => into.push(path),
        }
    }
    Ok(())
}
