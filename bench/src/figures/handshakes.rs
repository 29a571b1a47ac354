//! QUIC handshakes: how many a second and what each costs the broker, how many round trips pass before the first
//! answer, and what 2,000 of them at once do to an ingest that is under way.

use std::thread;
use std::time::Duration;

use crate::error::Outcome;
use crate::figures::{Bench, progress};
use crate::load::dials::{Waves, Way, again_and_again, round_trips};
use crate::load::fleet::Fleet;
use crate::load::frames::{Frames, Shape};
use crate::load::paced::{Rate, paced};
use crate::report::{Figure, Target};
use crate::spread::Spread;

/// Devices that come and go at the same time.
const DEVICES: usize = 64;
/// Handshakes of one wave.
const WAVE: usize = 2_000;
/// Requests a second of the ingest over TCP.
const PER_SECOND: u32 = 500;
const RATE: Rate = Rate { per_second: PER_SECOND, connections: 1 };
/// Devices of the ingest over QUIC, and records a second of each.
const FLEET: (usize, f64) = (16, 20.0);
const SHAPE: Shape = Shape { records: 1, value_bytes: 1024 };
/// One way of the path over which round trips are counted.
const DELAY: Duration = Duration::from_millis(50);
/// One address holds them all, and they come faster than any site's.
const LIMITS: &str =
    "[limits]\nconnections_per_ip_max = 65536\nconnections_per_ip_per_second = 0\n";

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let mut figure = Figure::new(
        "handshakes",
        format!(
            "{DEVICES} devices at a time dial, ask and go; then an ingest of {PER_SECOND} requests/s over TCP and \
             of {} devices over QUIC, alone and beside waves of {WAVE} handshakes at once",
            FLEET.0
        ),
    );
    let (broker, _home) = bench.broker_with(LIMITS)?;
    for way in Way::ALL {
        let (mut per_second, mut cpu_us) = (Vec::new(), Vec::new());
        for round in 1..=bench.rounds {
            progress(&format!("handshakes, {}, round {round}", way.name()));
            let cpu = broker.cpu_seconds()?;
            let dials = again_and_again(broker.kafka(), way, DEVICES, bench.seconds(4.0))?;
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            let done = (dials.latencies.count() as f64).max(1.0);
            per_second.push(done / dials.took.as_secs_f64());
            cpu_us.push((broker.cpu_seconds()? - cpu) * 1e6 / done);
        }
        figure.line(format!("{}: a second", way.name()), Spread::of(&per_second), "1/s");
        figure.line(format!("{}: broker's CPU for each", way.name()), Spread::of(&cpu_us), "us");
    }
    progress("handshakes, round trips");
    let trips = round_trips(broker.kafka(), DELAY, 5)?;
    for (way, trips) in Way::ALL.into_iter().zip(trips) {
        figure.line(
            format!("{}: round trips to the answer", way.name()),
            Some(Spread::one(trips)),
            "RTT",
        );
    }
    broker.stop()?;
    disturbed(bench, &mut figure)?;
    Ok(figure)
}

/// The ingest alone, and beside waves.
fn disturbed(bench: &Bench, figure: &mut Figure) -> Outcome<()> {
    let (broker, _home) = bench.broker_with(LIMITS)?;
    broker.create_topic("paced", 1)?;
    broker.create_topic("fleet", FLEET.0)?;
    let frames = Frames::build("paced", 1, 64, SHAPE)?;
    let fleet = Fleet::connect(broker.kafka(), "fleet", FLEET.0, (FLEET.0, 200))?;
    let mut p99_us = [const { Vec::new() }; 4];
    let (mut done, mut failed) = (0, 0);
    for round in 1..=bench.rounds {
        for at in 0..2 {
            progress(&format!("handshakes, ingest, round {round}"));
            let waves = (at == 1).then(|| Waves::start(broker.kafka(), WAVE));
            let (address, duration) = (broker.kafka(), bench.seconds(8.0));
            let over_tcp = thread::scope(|scope| {
                let over_tcp = scope.spawn(|| paced(address, &frames, RATE, duration));
                let over_quic = fleet.run(FLEET.1, duration);
                (over_tcp.join(), over_quic)
            });
            if let Some(waves) = waves {
                let (more, broken) = waves.end()?;
                (done, failed) = (done + more, failed + broken);
            }
            let (Ok(over_tcp), over_quic) = over_tcp else { continue };
            for (samples, p99) in p99_us.iter_mut().skip(at * 2).zip([
                over_tcp?.of_all()?.quantile_us(0.99),
                over_quic?.latencies.quantile_us(0.99),
            ]) {
                samples.push(p99);
            }
        }
    }
    fleet.close();
    broker.stop()?;
    let [tcp, quic, tcp_beside, quic_beside] = &p99_us;
    for (name, alone, beside) in [("TCP", tcp, tcp_beside), ("QUIC", quic, quic_beside)] {
        figure.line(format!("{name}: p99 of acks, alone"), Spread::of(alone), "us");
        figure.line(format!("{name}: p99 beside {WAVE} handshakes"), Spread::of(beside), "us");
        let ratio = Spread::of_ratios(beside, alone);
        figure.line_to(format!("{name}: beside / alone"), ratio, "x", Some(Target::AtMost(2.0)));
    }
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    for (name, count) in [("handshakes done meanwhile", done), ("failed", failed)] {
        figure.line(name, Some(Spread::one(count as f64)), "");
    }
    Ok(())
}
