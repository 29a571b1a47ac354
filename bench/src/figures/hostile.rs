//! What hostile modules cost others: acknowledgements on a topic that has no transform, while a
//! topic with a hostile one is fed, and while modules are uploaded that are no good. Each against
//! the same without it, in turns; and each is seen to have met its policy.

use std::time::Duration;

use bytes::Bytes;
use millpond_wire::record::{BatchBuilder, Codec};
use serde_json::json;

use crate::broker::{Broker, Uploads};
use crate::error::{BenchError, Context, Outcome};
use crate::figures::{Bench, progress};
use crate::load::conversation::Conversation;
use crate::load::frames::{Frames, Shape, expect_taken, frame};
use crate::load::paced::{Rate, paced};
use crate::load::storm::Storm;
use crate::report::{Figure, Target};
use crate::spread::Spread;

/// Records, and requests, a second on the topic that is measured.
const PER_SECOND: u32 = 1_000;
const RATE: Rate = Rate { per_second: PER_SECOND, connections: 1 };
const SHAPE: Shape = Shape { records: 1, value_bytes: 1024 };
/// Different requests that are sent round and round.
const FRAMES: usize = 64;
/// As the project promises.
const TARGET: f64 = 1.2;
/// Batches for the hostile topic: so often at the most, one at a time.
const FEED_EVERY: Duration = Duration::from_millis(10);
/// The same of uploads.
const UPLOAD_EVERY: Duration = Duration::from_millis(100);
/// A module may take a second of compiling here, so that several are seen in a turn.
const CONFIG: &str = "transforms.compile_ms_max = 1000\n";
/// More than any module may have.
const TOO_LARGE_BYTES: usize = 10 << 20;
/// Less than that by what stands around it.
const LARGE_BYTES: usize = (8 << 20) - 4_096;

/// What is deployed, and the record in the middle of each batch that it is fed.
struct Module {
    name: &'static str,
    wasm: &'static [u8],
    bad: Vec<u8>,
    on_failure: &'static str,
    /// What its statistics must have counted afterwards.
    met: Option<&'static str>,
}

fn modules() -> Vec<Module> {
    let module = |name, wasm, bad: &str, on_failure, met| {
        let bad = bad.as_bytes().to_vec();
        Module { name, wasm, bad, on_failure, met: Some(met) }
    };
    let failed = "records_failed";
    let large = format!("flood {}", "x".repeat(2_000));
    vec![
        // What the same feed costs where nothing goes wrong.
        Module { met: None, ..module("tame", millpond_guests::HOSTILE_LOOP, "good", "skip", "") },
        module("poison", millpond_guests::HOSTILE_TRAP, "trap", "dead-letter", failed),
        module("lies", millpond_guests::HOSTILE_LIES, "lie output-pointer", "skip", failed),
        module("loop", millpond_guests::HOSTILE_LOOP, "loop", "skip", failed),
        module("memory", millpond_guests::HOSTILE_MEMORY, "memory", "skip", failed),
        module("log", millpond_guests::HOSTILE_LOG, "log", "skip", "log_lines"),
        module("1000-small", millpond_guests::HOSTILE_FLOOD, "flood", "skip", "records_emitted"),
        module("1000-large", millpond_guests::HOSTILE_FLOOD, &large, "skip", failed),
    ]
}

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let (broker, _home) = bench.broker_with(CONFIG)?;
    broker.create_topic("calm", 1)?;
    let frames = Frames::build("calm", 1, FRAMES, SHAPE)?;
    let mut figure = Figure::new(
        "hostile",
        format!(
            "{PER_SECOND} requests/s of one {} B record to a topic without a transform, open loop, \
             timed from when each was due; in turns alone and beside somebody who feeds a hostile \
             module on a topic of its own (a good, a bad and a good record each {} ms, one batch \
             at a time) or uploads modules",
            SHAPE.value_bytes,
            FEED_EVERY.as_millis()
        ),
    );
    let mut turns = Turns { bench, broker: &broker, frames: &frames, figure: &mut figure };
    for module in modules() {
        feed(&mut turns, &module)?;
    }
    let uploads = broker.uploads();
    let bomb = millpond_guests::compile_bomb();
    turns.beside("compile bomb", || {
        let (uploads, bomb) = (uploads.clone(), bomb.clone());
        Ok(Storm::start(UPLOAD_EVERY, move || refused(&uploads, "bomb", &bomb)))
    })?;
    let too_large = padded(millpond_guests::THRESHOLD, TOO_LARGE_BYTES, 0);
    turns.beside("10 MiB module", || {
        let (uploads, module) = (uploads.clone(), too_large.clone());
        Ok(Storm::start(UPLOAD_EVERY, move || refused(&uploads, "too-large", &module)))
    })?;
    for name in ["bomb", "too-large"] {
        if broker.transform_stat(name, "batches").is_ok() {
            return Err(BenchError::new(name, "was to be refused, and was deployed"));
        }
    }
    broker.create_topic("large", 1)?;
    turns.beside("8 MiB module, deployed", || {
        let uploads = uploads.clone();
        let mut number = 0;
        Ok(Storm::start(UPLOAD_EVERY, move || {
            number += 1;
            // Never the same twice: each is stored and compiled.
            let module = padded(millpond_guests::HOSTILE_TRAP, LARGE_BYTES, number);
            taken(&uploads, "large", &module)
        }))
    })?;
    broker.stop()?;
    Ok(figure)
}

fn feed(turns: &mut Turns<'_>, module: &Module) -> Outcome<()> {
    let broker = turns.broker;
    broker.create_topic(module.name, 1)?;
    let description = json!({
        "name": module.name, "version": "1", "topics": [module.name],
        "on_failure": module.on_failure,
    });
    broker.deploy(&description, module.wasm)?;
    let frame = frame(module.name, 0, batch(&module.bad)?)?;
    turns.beside(module.name, || {
        let mut line = Conversation::with(broker.kafka())?;
        let frame = frame.clone();
        Ok(Storm::start(FEED_EVERY, move || expect_taken(line.exchange(&frame)?)))
    })?;
    match module.met {
        None => Ok(()),
        // Its lines are limited, not it.
        Some("log_lines") => met(broker.transform_log_lines(module.name)?, module, "log lines"),
        Some(count) => met(broker.transform_stat(module.name, count)?, module, count),
    }
}

fn met(count: u64, module: &Module, what: &str) -> Outcome<()> {
    match count {
        0 => Err(BenchError::new(module.name, format!("no {what}: it was never hostile"))),
        _ => Ok(()),
    }
}

/// A good, a bad and a good record: a version that fails on more than half is rolled back.
fn batch(bad: &[u8]) -> Outcome<Bytes> {
    let mut builder = BatchBuilder::new(Codec::None, None);
    for value in [b"good".as_slice(), bad, b"good"] {
        builder.push(1_763_700_000_000, None, Some(value), &[]).context("building a batch")?;
    }
    builder.build().context("building a batch")
}

/// The figure as it grows, and what is measured for it.
struct Turns<'a> {
    bench: &'a Bench,
    broker: &'a Broker,
    frames: &'a Frames,
    figure: &'a mut Figure,
}

/// p50 and p99 of each turn, in microseconds.
#[derive(Default)]
struct Quantiles {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Turns<'_> {
    /// Measures alone and beside a storm, in turns.
    fn beside(&mut self, name: &str, mut storm: impl FnMut() -> Outcome<Storm>) -> Outcome<()> {
        let (mut alone, mut beside) = (Quantiles::default(), Quantiles::default());
        let mut per_second = Vec::new();
        for round in 1..=self.bench.rounds {
            progress(&format!("hostile, {name}, round {round}"));
            self.measure(&mut alone)?;
            let blowing = storm()?;
            self.measure(&mut beside)?;
            per_second.push(blowing.end()?);
            self.broker.wait_until_quiet()?;
        }
        let label = |text: &str| format!("{name}: {text}");
        let ratio = |of: fn(&Quantiles) -> &Vec<f64>| Spread::of_ratios(of(&beside), of(&alone));
        let target = Some(Target::AtMost(TARGET));
        let figure = &mut *self.figure;
        figure.line(label("done"), Spread::of(&per_second), "1/s");
        figure.line(label("p99 alone"), Spread::of(&alone.p99), "us");
        figure.line(label("p99 beside"), Spread::of(&beside.p99), "us");
        figure.line(label("p50 beside / alone"), ratio(|turns| &turns.p50), "x");
        figure.line_to(label("p99 beside / alone"), ratio(|turns| &turns.p99), "x", target);
        Ok(())
    }

    fn measure(&self, into: &mut Quantiles) -> Outcome<()> {
        let duration = self.bench.seconds(2.0);
        let latencies = paced(self.broker.kafka(), self.frames, RATE, duration)?.of_all()?;
        into.p50.push(latencies.quantile_us(0.5));
        into.p99.push(latencies.quantile_us(0.99));
        Ok(())
    }
}

fn refused(uploads: &Uploads, name: &str, module: &[u8]) -> Outcome<()> {
    match uploads.deploy(&json!({ "name": name, "topics": ["calm"] }), module) {
        // Too large: the node does not read on, and its answer may be lost with the connection.
        Ok(400..=499) | Err(_) => Ok(()),
        Ok(status) => Err(BenchError::new(name, format!("was to be refused; HTTP {status}"))),
    }
}

fn taken(uploads: &Uploads, name: &str, module: &[u8]) -> Outcome<()> {
    match uploads.deploy(&json!({ "name": name, "topics": [name] }), module)? {
        200..=299 => Ok(()),
        status => Err(BenchError::new(name, format!("was to be deployed; HTTP {status}"))),
    }
}

/// A module with a section of no meaning behind it, so that it takes so many bytes; numbered.
fn padded(module: &[u8], bytes: usize, number: u32) -> Vec<u8> {
    const CUSTOM: u8 = 0;
    /// Its length, in a LEB128 of five bytes, and its name.
    const HEAD_BYTES: usize = 1 + 5 + 2;
    let body = bytes.saturating_sub(module.len() + HEAD_BYTES) + 2;
    let mut all = module.to_vec();
    all.push(CUSTOM);
    let part = |shift: usize| (body >> shift) as u8 & 0x7f;
    all.extend([part(0) | 0x80, part(7) | 0x80, part(14) | 0x80, part(21) | 0x80, part(28)]);
    all.extend([1, b'x']);
    all.extend(number.to_le_bytes());
    all.resize(bytes, 0);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_module_is_one_and_as_large_as_it_was_to_be() {
        let modules = [1, 2].map(|number| padded(millpond_guests::HOSTILE_TRAP, 1 << 20, number));
        assert!(modules.iter().all(|module| module.len() == 1 << 20));
        assert_ne!(modules[0], modules[1]);
        let config = millpond_transform::HostConfig::default();
        let host = millpond_transform::Host::new(config).unwrap();
        assert!(host.compile(&modules[0]).is_ok());
    }
}
