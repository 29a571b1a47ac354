//! (e) A filter: within Millpond, against a Kafka Streams application and a consumer with a producer
//! beside the broker. All that it takes counts, from the record that is sent to the record that a reader
//! of the filtered topic gets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::compare::Task;
use crate::compare::bulk::wait_for_leaders;
use crate::compare::duel::{Ring, settle};
use crate::compare::results::{BASE, Board, Goal, Measure};
use crate::error::{BenchError, Context, Outcome};
use crate::figures::progress;
use crate::load::frames::{Frames, Shape};
use crate::load::saturate::saturate;
use crate::load::topics::end_offsets;
use crate::payload::FIELD;
use crate::peers::{Peer, Seat, Server, java};
use crate::process::Process;
use crate::report::Target;

pub(crate) const WHAT: &str = "batches of 500 JSON records of 195 B to 4 partitions at saturation, and of these \
    the records whose temperature is at least a limit. millpond: the threshold module inline, so that the \
    filtered topic is the one that is written to. Others: bench/peers/Filter.java reads the topic and writes \
    what passes to a second one, with default settings; records per second count until the last of them is \
    there, processor time is of broker and filter together";
const SHAPE: Shape = Shape { records: 500, value_bytes: 195 };
const PARTITIONS: usize = 4;
/// Different requests that are sent round and round.
const FRAMES: usize = 32;
/// The limits, by what they let pass.
const CASES: [(&str, Option<&str>); 3] =
    [("no filter", None), ("keep all", Some("0")), ("drop 90 %", Some("90"))];
/// A filtered topic that did not grow for so long is complete.
const COMPLETE_AFTER: Duration = Duration::from_millis(1_500);
/// A filter that has not caught up by then never does.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);

const RATE: Measure = Measure::more("records through", "1/s").plotted();
const CPU: Measure = Measure::less("CPU per million records, all of it", "s").plotted();
const ADDED: Measure = Measure::aside("of it, more than without a filter", "s");
const PASSED: Measure = Measure::aside("records that passed", "%");
const BY_NONE: Measure = Measure::more("records through, by those without a filter", "x");
const PEAK: Measure = Measure::less("peak resident memory of the filter's process", "MiB");

pub(crate) fn goals(case: &str, measure: &str, label: &str) -> (Goal, Goal) {
    let is_dropping = case.starts_with("drop");
    match (measure, label) {
        (name, "kafka + streams") if name == CPU.name => (Some(Target::AtMost(0.1)), None),
        (name, BASE) if name == BY_NONE.name && is_dropping => (None, Some(Target::AtLeast(1.0))),
        _ => (None, None),
    }
}

/// One way to filter.
struct Lane {
    case: &'static str,
    label: String,
    peer: Peer,
    input: String,
    output: String,
    frames: Frames,
    app: Option<Process>,
}

pub(crate) fn run(task: &Task<'_>, board: &mut Board) -> Outcome<()> {
    let ring = &task.ring;
    let mut servers: Vec<(Peer, Server, Seat)> = Vec::new();
    for peer in ring.peers.iter().copied() {
        if matches!(peer, Peer::Millpond | Peer::Kafka) {
            let seat = ring.seat(peer)?;
            servers.push((peer, seat.start(ring.installed)?, seat));
        }
    }
    let mut lanes = Vec::new();
    // What no filter does is what the others are measured by.
    let wanted = |case: &str| case == CASES[0].0 || task.wants(case);
    for (case, min) in CASES.into_iter().filter(|(case, _)| wanted(case)) {
        for (peer, server, seat) in &servers {
            lanes.extend(lanes_of(ring, (case, min), *peer, server, seat)?);
        }
    }
    let mut plain = Vec::new();
    for round in 0..=ring.bench.rounds {
        plain.clear();
        for lane in &lanes {
            progress(&format!("{}: {}, round {round}", lane.case, lane.label));
            settle(&ring.bench.dir)?;
            let server = servers.iter().find(|(peer, _, _)| *peer == lane.peer);
            let turn = turn(ring, lane, &server.context("a server")?.1)?;
            if lane.app.is_none() && lane.case == CASES[0].0 {
                plain.push((lane.peer, turn.rate, turn.cpu));
            }
            if round > 0 {
                tell(lane, &turn, &plain, board);
            }
        }
    }
    for lane in lanes {
        if let Some(app) = lane.app {
            let peak = app.peak_rss_bytes()? as f64 / f64::from(1 << 20);
            board.add(lane.case, PEAK, &lane.label, peak);
            app.kill()?;
        }
    }
    servers.into_iter().try_for_each(|(_, server, _)| server.stop().map(drop))
}

fn lanes_of(
    ring: &Ring<'_>,
    (case, min): (&'static str, Option<&str>),
    peer: Peer,
    server: &Server,
    seat: &Seat,
) -> Outcome<Vec<Lane>> {
    let topic = case.replace([' ', '%'], "");
    let ways: &[&str] = match (min, peer) {
        (None, _) => &[""],
        (Some(_), Peer::Millpond) => &["", "loop"],
        (Some(_), _) => &["loop", "streams"],
    };
    let mut lanes = Vec::new();
    for way in ways {
        let input = format!("{topic}{way}-in");
        server.make_topic(&input, PARTITIONS)?;
        let frames = Frames::build(&input, PARTITIONS, FRAMES, SHAPE)?;
        wait_for_leaders(server, &frames, PARTITIONS)?;
        let (mut label, mut output, mut app) = (peer.name().to_owned(), input.clone(), None);
        match (min, *way) {
            (Some(min), "") => deploy(server, &input, min)?,
            (Some(min), way) => {
                label = format!("{label} + {way}");
                output = format!("{topic}{way}-out");
                server.make_topic(&output, PARTITIONS)?;
                let home = seat.home.path().join(format!("filter-{topic}{way}"));
                let topics = (input.as_str(), output.as_str());
                app = Some(start_filter(ring, way, server.address(), topics, (min, home))?);
            }
            (None, _) => {}
        }
        lanes.push(Lane { case, label, peer, input, output, frames, app });
    }
    Ok(lanes)
}

fn deploy(server: &Server, topic: &str, min: &str) -> Outcome<()> {
    let description = serde_json::json!({
        "name": topic, "version": "1", "topics": [topic],
        "settings": { "field": FIELD, "min": min },
    });
    let broker = server.millpond().context("a broker that takes modules")?;
    broker.deploy(&description, millpond_guests::THRESHOLD)
}

fn start_filter(
    ring: &Ring<'_>,
    way: &str,
    broker: SocketAddr,
    (input, output): (&str, &str),
    (min, home): (&str, PathBuf),
) -> Outcome<Process> {
    std::fs::create_dir_all(&home).context(format!("making {}", home.display()))?;
    let quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn";
    let mut command = java(&ring.installed.peers, &[quiet], "Filter");
    command.args([way, &broker.to_string(), input, output, min]).arg(home.join("state"));
    Process::start(&format!("the filter ({way})"), command, &home)
}

/// What a lane did in one turn.
struct Turn {
    rate: f64,
    /// Seconds for a million records.
    cpu: f64,
    passed: f64,
}

fn turn(ring: &Ring<'_>, lane: &Lane, server: &Server) -> Outcome<Turn> {
    server.process().wait_until_quiet()?;
    let cpu = || {
        let app = lane.app.as_ref().map_or(Ok(0.0), Process::cpu_seconds)?;
        Ok::<_, BenchError>(app + server.process().cpu_seconds()?)
    };
    let (cpu_before, before) = (cpu()?, count(server, &lane.output)?);
    let sent_before = count(server, &lane.input)?;
    let started = Instant::now();
    let run =
        saturate(server.address(), &lane.frames, ring.bench.pressure, ring.bench.seconds(3.0))?;
    let records = run.requests_in_all as f64 * SHAPE.records as f64;
    let (mut took, mut spent) = (started.elapsed(), cpu()? - cpu_before);
    let mut passed = count(server, &lane.output)? - before;
    if let Some(app) = &lane.app {
        let sent = count(server, &lane.input)? - sent_before;
        if sent as f64 != records {
            return Err(BenchError::new("the filter's input", format!("{sent} of {records}")));
        }
        let (mut grown_at, give_up) = (Instant::now(), Instant::now() + PATIENCE);
        while passed == 0 || grown_at.elapsed() < COMPLETE_AFTER {
            if Instant::now() > give_up {
                return Err(app.complaint("it does not catch up"));
            }
            thread::sleep(LOOK_EVERY);
            let now = count(server, &lane.output)? - before;
            if now != passed {
                (passed, grown_at) = (now, Instant::now());
                (took, spent) = (started.elapsed(), cpu()? - cpu_before);
            }
        }
    }
    Ok(Turn {
        rate: records / took.as_secs_f64(),
        cpu: spent * 1e6 / records,
        passed: 100.0 * passed as f64 / records,
    })
}

/// Records in a topic.
fn count(server: &Server, topic: &str) -> Outcome<i64> {
    Ok(end_offsets(server.address(), topic)?.iter().sum())
}

fn tell(lane: &Lane, turn: &Turn, plain: &[(Peer, f64, f64)], board: &mut Board) {
    let (case, label) = (lane.case, lane.label.as_str());
    board.add(case, RATE, label, turn.rate);
    board.add(case, CPU, label, turn.cpu);
    board.add(case, PASSED, label, turn.passed);
    let plain = plain.iter().find(|(peer, _, _)| *peer == lane.peer && case != CASES[0].0);
    if let Some((_, rate, cpu)) = plain {
        board.add(case, ADDED, label, turn.cpu - cpu);
        board.add(case, BY_NONE, label, turn.rate / rate);
    }
}
