//! What QUIC costs: durable produce over QUIC, TLS and TCP, and the same bytes over quinn and rustls to a process
//! that does nothing with them. All take turns in each round.

use std::net::SocketAddr;

use crate::broker::Broker;
use crate::error::Outcome;
use crate::figures::{Bench, progress};
use crate::load::fleet::Fleet;
use crate::load::frames::{Frames, Shape};
use crate::load::saturate::{Saturation, saturate_over};
use crate::load::sink::{Sink, Transport};
use crate::load::ways::Way;
use crate::report::{Figure, Target};
use crate::spread::Spread;

/// 1 KiB records; 63 of them make a batch of 64 KiB with what surrounds them.
const SHAPE: Shape = Shape { records: 63, value_bytes: 1024 };
/// Different requests that are sent round and round.
const FRAMES: usize = 64;
/// What is asked of the ratio to bare quinn.
const TARGET: f64 = 0.8;
/// TCP with TLS of the development's certificate, beside QUIC with the same.
const WITH_TLS: &str = "[[listeners]]\ntcp = \"tls\"\n";
const PARTITIONS: usize = 8;
const TOPICS: &str = "topics.partitions = 8\n";

/// The samples of one way.
#[derive(Default)]
struct Samples {
    /// Bytes of values a second.
    rate: Vec<f64>,
    /// Processor seconds of the one that receives, for 10^9 bytes.
    cpu: Vec<f64>,
}

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let pressure = bench.pressure;
    let mut figure = Figure::new(
        "quic",
        format!(
            "{} B records, {} to a batch, {} connections with {} requests in flight each: durable produce \
             (acks=-1) over QUIC, TLS and TCP; \"bare\": to a process that counts the bytes and answers",
            SHAPE.value_bytes, SHAPE.records, pressure.connections, pressure.in_flight,
        ),
    );
    let (plain, _plain_home) = bench.broker_with(TOPICS)?;
    let (secure, _secure_home) = bench.broker_with(&format!("{TOPICS}{WITH_TLS}"))?;
    for broker in [&plain, &secure] {
        // It asks for the topic, and so makes it.
        Fleet::connect(broker.kafka(), "bulk", PARTITIONS, (1, 200))?.close();
    }
    let (quinn, rustls) = (Sink::start(Transport::Quic)?, Sink::start(Transport::Tls)?);
    let frames = Frames::build("bulk", PARTITIONS, FRAMES, SHAPE)?;
    let mut samples: [Samples; 5] = Default::default();
    for round in 1..=bench.rounds {
        progress(&format!("quic, round {round}"));
        let turns: [(&dyn Receiver, SocketAddr, Way); 5] = [
            (&secure, secure.kafka(), Way::Quic),
            (&quinn, quinn.address(), Way::Quic),
            (&secure, secure.kafka(), Way::Tls),
            (&rustls, rustls.address(), Way::Tls),
            (&plain, plain.kafka(), Way::Tcp),
        ];
        for (turn, samples) in turns.into_iter().zip(&mut samples) {
            measure(bench, turn, &frames, samples)?;
        }
    }
    lines(&mut figure, &samples);
    plain.stop()?;
    secure.stop()?;
    Ok(figure)
}

/// Who takes the bytes.
trait Receiver {
    fn cpu_seconds(&self) -> Outcome<f64>;
    fn settle(&self) -> Outcome<()>;
}

impl Receiver for Broker {
    fn cpu_seconds(&self) -> Outcome<f64> {
        Broker::cpu_seconds(self)
    }

    fn settle(&self) -> Outcome<()> {
        self.wait_until_quiet()
    }
}

impl Receiver for Sink {
    fn cpu_seconds(&self) -> Outcome<f64> {
        Sink::cpu_seconds(self)
    }

    fn settle(&self) -> Outcome<()> {
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn measure(
    bench: &Bench,
    (receiver, address, way): (&dyn Receiver, SocketAddr, Way),
    frames: &Frames,
    samples: &mut Samples,
) -> Outcome<()> {
    let cpu = receiver.cpu_seconds()?;
    let duration = bench.seconds(2.0);
    let run: Saturation = saturate_over(way, address, frames, bench.pressure, duration)?;
    let cpu = receiver.cpu_seconds()? - cpu;
    receiver.settle()?;
    let payload_bytes = SHAPE.payload_bytes() as f64;
    samples.rate.push(run.requests_per_second() * payload_bytes);
    samples.cpu.push(cpu * 1e9 / (run.requests_in_all as f64 * payload_bytes));
    Ok(())
}

fn lines(figure: &mut Figure, samples: &[Samples; 5]) {
    let names = ["QUIC", "bare QUIC", "TLS", "bare TLS", "TCP"];
    for (name, samples) in names.into_iter().zip(samples) {
        let mb: Vec<f64> = samples.rate.iter().map(|bytes| bytes / 1e6).collect();
        figure.line(format!("{name}: throughput"), Spread::of(&mb), "MB/s");
        figure.line(format!("{name}: receiver's CPU"), Spread::of(&samples.cpu), "s/GB");
    }
    let [quic, bare_quic, tls, bare_tls, tcp] = samples;
    let target = Some(Target::AtLeast(TARGET));
    let rates = Spread::of_ratios(&quic.rate, &bare_quic.rate);
    figure.line_to("throughput: QUIC / bare QUIC", rates, "x", target);
    figure.line("throughput: TLS / bare TLS", Spread::of_ratios(&tls.rate, &bare_tls.rate), "x");
    figure.line("throughput: QUIC / TLS", Spread::of_ratios(&quic.rate, &tls.rate), "x");
    // What the journal and the log cost is the same whatever carried the bytes.
    let carried = less(&quic.cpu, &tcp.cpu);
    let cost = Spread::of_ratios(&bare_quic.cpu, &carried);
    figure.line_to("CPU: bare QUIC / (QUIC - TCP)", cost, "x", target);
    figure.line("CPU: bare QUIC / QUIC", Spread::of_ratios(&bare_quic.cpu, &quic.cpu), "x");
    figure.line("CPU: bare TLS / TLS", Spread::of_ratios(&bare_tls.cpu, &tls.cpu), "x");
    figure.line("CPU: QUIC / TLS", Spread::of_ratios(&quic.cpu, &tls.cpu), "x");
}

fn less(all: &[f64], part: &[f64]) -> Vec<f64> {
    all.iter().zip(part).map(|(all, part)| all - part).collect()
}
