//! How long an acknowledgement takes at a modest, even rate, against a bare durable write of one
//! block at the same rate. Both open loop, both timed from when each was due.

use crate::error::Outcome;
use crate::figures::{Bench, progress};
use crate::latency::Latencies;
use crate::load::frames::{Frames, Shape};
use crate::load::pace::Pace;
use crate::load::paced::{Rate, paced};
use crate::payload::Telemetry;
use crate::raw::RawDisk;
use crate::report::{Figure, Target};
use crate::spread::Spread;

/// Records, and requests, a second.
const PER_SECOND: u32 = 2_000;
const RATE: Rate = Rate { per_second: PER_SECOND, connections: 1 };
/// One record a request.
const SHAPE: Shape = Shape { records: 1, value_bytes: 1024 };
/// Different requests that are sent round and round.
const FRAMES: usize = 64;
/// With their names: what is shown of the latencies.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let raw_dir = bench.scratch()?;
    let raw = RawDisk::prepare(raw_dir.path())?;
    let payload = Telemetry::new(2).batch(8, 1024)?;
    let (broker, _home) = bench.broker()?;
    broker.create_topic("paced", 1)?;
    let frames = Frames::build("paced", 1, FRAMES, SHAPE)?;
    let (mut ours, mut bounds) = (Rounds::new()?, Rounds::new()?);
    for round in 1..=bench.rounds + 1 {
        progress(&format!("ack-latency, round {round}"));
        let duration = bench.seconds(3.0);
        ours.add(&paced(broker.kafka(), &frames, RATE, duration)?.of_all()?)?;
        broker.wait_until_quiet()?;
        let pace = Pace::starting_now(PER_SECOND);
        bounds.add(&raw.paced(&payload, pace, pace.operations(duration))?)?;
    }
    broker.stop()?;
    let mut figure = Figure::new(
        "ack-latency",
        format!(
            "{PER_SECOND} requests/s of one {} B record, open loop over one TCP connection, timed \
             from when each was due to its acknowledgement; the raw loop writes and syncs a block \
             at the same rate; the spread is between rounds, p99.9 also over all of them",
            SHAPE.value_bytes
        ),
    );
    for (at, (name, quantile)) in QUANTILES.into_iter().enumerate() {
        let (ours_us, bounds_us) = (ours.by_quantile(at), bounds.by_quantile(at));
        figure.line(format!("{name}: broker's ack"), Spread::of(&ours_us), "us");
        figure.line(format!("{name}: raw write and sync"), Spread::of(&bounds_us), "us");
        let ratio = Spread::of_ratios(&ours_us, &bounds_us);
        let target = (name == "p99").then_some(Target::AtMost(2.0));
        figure.line_to(format!("{name}: broker / raw"), ratio, "x", target);
        if quantile > 0.99 {
            let ours_us = Spread::one(ours.all.quantile_us(quantile));
            let bound_us = Spread::one(bounds.all.quantile_us(quantile));
            let label = format!("{name} of all {} acks", ours.all.count());
            figure.line(label, Some(ours_us), "us");
            let label = format!("{name} of all {} raw writes", bounds.all.count());
            figure.line(label, Some(bound_us), "us");
        }
    }
    Ok(figure)
}

/// The latencies of each round, and of all.
struct Rounds {
    all: Latencies,
    quantiles_us: Vec<[f64; QUANTILES.len()]>,
}

impl Rounds {
    fn new() -> Outcome<Self> {
        Ok(Self { all: Latencies::new()?, quantiles_us: Vec::new() })
    }

    fn add(&mut self, round: &Latencies) -> Outcome<()> {
        self.quantiles_us.push(QUANTILES.map(|(_, quantile)| round.quantile_us(quantile)));
        self.all.merge(round)
    }

    fn by_quantile(&self, at: usize) -> Vec<f64> {
        self.quantiles_us.iter().filter_map(|quantiles| quantiles.get(at).copied()).collect()
    }
}
