//! What a filter costs: the threshold module inline against the same source compiled natively, and
//! a produce with it against one without. Interleaved.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_sdk::testing::{Native, TestRecord, encode_input};
use millpond_transform::{Chain, Host, HostConfig, Input, Outcome as Ran, Sha256, Transform};
use millpond_transform::{TransformSpec, run};
use millpond_wire::limits;
use millpond_wire::record::{Batch, BatchBuilder};
use tokio::runtime::Runtime;

use crate::broker::Broker;
use crate::error::{BenchError, Context, Outcome};
use crate::figures::{Bench, progress};
use crate::load::frames::{Frames, Shape};
use crate::load::saturate::saturate;
use crate::payload::{FIELD, Telemetry};
use crate::report::{Figure, Target};
use crate::spread::Spread;

/// The very source of the module that ships.
#[allow(unreachable_pub, reason = "it is a crate of its own in the guest")]
#[path = "../../../guests/modules/threshold/src/lib.rs"]
#[rustfmt::skip]
mod threshold;

/// What `reference/wasm.md` was measured with.
const SHAPE: Shape = Shape { records: 500, value_bytes: 195 };
/// Partitions of the topics that are produced to.
const PARTITIONS: usize = 4;
/// Different requests that are sent round and round.
const FRAMES: usize = 32;
/// The most that the module may take of what native code takes, by who looks for the field.
const READERS: [(&str, f64); 2] = [("module", 2.0), ("broker", 1.3)];
/// The least that a filter which keeps all may leave of the rate.
const KEEP_ALL_TARGET: f64 = 0.9;
/// The topics, and the least temperature that their filter lets pass, if they have one.
const TOPICS: [(&str, Option<&str>); 3] =
    [("unfiltered", None), ("keep-all", Some("0")), ("drop-90", Some("90"))];

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let mut figure = Figure::new(
        "transform",
        format!(
            "the threshold filter on batches of {} JSON records of {} B; produces over {} TCP \
             connections to {PARTITIONS} partitions, payload as it was sent",
            SHAPE.records, SHAPE.value_bytes, bench.pressure.connections
        ),
    );
    alone(bench, &mut figure)?;
    within_produce(bench, &mut figure)?;
    Ok(figure)
}

/// The filter by itself, in ns per record.
#[derive(Default)]
struct Alone {
    native: Vec<f64>,
    native_whole: Vec<f64>,
    /// By who looks for the field.
    inline: [Vec<f64>; 2],
    inline_whole: [Vec<f64>; 2],
}

fn alone(bench: &Bench, figure: &mut Figure) -> Outcome<()> {
    for (name, min) in TOPICS.into_iter().filter_map(|(name, min)| Some((name, min?))) {
        progress(&format!("transform, {name}, inline and native"));
        let mut guests = Vec::with_capacity(READERS.len());
        for (reader, _) in READERS {
            guests.push(Inline::new(min, reader)?);
        }
        let mut native = NativeFilter::new(min)?;
        let mut samples = Alone::default();
        let duration = bench.seconds(0.4);
        for _ in 0..=bench.rounds + 1 {
            samples.native.push(native.filter_ns(duration));
            for (index, inline) in guests.iter_mut().enumerate() {
                let (guest, whole) = inline.ns(duration)?;
                samples.inline[index].push(guest);
                samples.inline_whole[index].push(whole);
            }
            samples.native_whole.push(native.whole_ns(duration)?);
        }
        samples.tell(name, figure);
    }
    Ok(())
}

impl Alone {
    fn tell(&self, name: &str, figure: &mut Figure) {
        // The first round warmed caches and compiled code.
        let of = |samples: &[f64]| samples.get(1..).and_then(Spread::of);
        let ratio = |ours: &[f64], theirs: &[f64]| {
            ours.get(1..).zip(theirs.get(1..)).and_then(|(a, b)| Spread::of_ratios(a, b))
        };
        let mut line = |text: &str, spread, unit, target| {
            figure.line_to(format!("{name}: {text}"), spread, unit, target);
        };
        line("filter, native", of(&self.native), "ns/record", None);
        line("whole batch, native", of(&self.native_whole), "ns/record", None);
        for (index, (reader, target)) in READERS.into_iter().enumerate() {
            let (inline, whole) = (&self.inline[index], &self.inline_whole[index]);
            let text = |text: &str| format!("{text}, read by the {reader}");
            line(&text("filter inline"), of(inline), "ns/record", None);
            let target = (name == "drop-90").then_some(Target::AtMost(target));
            line(&text("inline / native"), ratio(inline, &self.native), "x", target);
            line(&text("whole batch inline"), of(whole), "ns/record", None);
            line(&text("inline / native, whole"), ratio(whole, &self.native_whole), "x", None);
        }
    }
}

fn batch() -> Outcome<Batch> {
    let raw = Telemetry::new(5).batch(SHAPE.records, SHAPE.value_bytes)?;
    Batch::parse(raw).context("a batch of our own")
}

fn per_record_ns(spent: Duration, batches: u32) -> f64 {
    spent.as_secs_f64() * 1e9 / f64::from(batches) / SHAPE.records as f64
}

/// The module in the broker's own host.
struct Inline {
    runtime: Runtime,
    chain: Chain,
    batch: Batch,
    first_input: u64,
}

impl Inline {
    fn new(min: &str, reader: &str) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("a runtime for the transform")?;
        let host = Host::new(HostConfig::default()).context("the transform's host")?;
        let module = host.compile(millpond_guests::THRESHOLD).context("the threshold module")?;
        let spec = TransformSpec::new("threshold", Sha256::of(millpond_guests::THRESHOLD));
        let spec = spec.setting("field", FIELD).setting("min", min).setting("read", reader);
        let transform: Arc<Transform> = runtime
            .block_on(Transform::deploy(&host, spec, module))
            .context("deploying the threshold module")?;
        let chain = Chain::new(vec![transform], "bench", 0).context("a chain")?;
        Ok(Self { runtime, chain, batch: batch()?, first_input: 0 })
    }

    /// In the guest and on its buffers; in all, with reading the batch and building the new one.
    fn ns(&mut self, duration: Duration) -> Outcome<(f64, f64)> {
        let (mut guest, mut batches) = (Duration::ZERO, 0);
        let started = Instant::now();
        while started.elapsed() < duration {
            let (batch, input_count) = (Some(&self.batch), self.first_input);
            let input = Input { batch, input_count, ..Input::default() };
            let ran = run(&mut self.chain, input);
            let report = self.runtime.block_on(ran);
            if let Ran::Rejected { message, .. } = report.outcome {
                return Err(BenchError::new("the threshold module", message));
            }
            guest += report.stages.iter().map(|stage| stage.cpu).sum::<Duration>();
            batches += 1;
            self.first_input += SHAPE.records as u64;
        }
        let whole = started.elapsed();
        Ok((per_record_ns(guest, batches), per_record_ns(whole, batches)))
    }
}

/// The same source in this program.
struct NativeFilter {
    filter: Native<threshold::Threshold>,
    input: Vec<u8>,
    min: f64,
    batch: Batch,
}

impl NativeFilter {
    fn new(min: &str) -> Outcome<Self> {
        let settings = [("field", FIELD), ("min", min), ("read", "module")];
        let filter = Native::new(&settings).map_err(|failure| {
            BenchError::new("the threshold filter", failure.message().to_owned())
        })?;
        let batch = batch()?;
        let section = section(&batch)?;
        let mut records = Vec::new();
        for record in batch.records(&section) {
            let value = record.context("a record of our own")?.value.unwrap_or_default();
            records.push(TestRecord::of(value));
        }
        let input = encode_input(&records);
        Ok(Self { filter, input, min: min.parse().context("a limit")?, batch })
    }

    /// The filter on a buffer that is laid out already: what the guest does.
    fn filter_ns(&mut self, duration: Duration) -> f64 {
        let mut batches = 0;
        let started = Instant::now();
        while started.elapsed() < duration {
            black_box(self.filter.run(black_box(&self.input)));
            batches += 1;
        }
        per_record_ns(started.elapsed(), batches)
    }

    /// Reading the batch, filtering, and building the new one, as a broker without modules would.
    fn whole_ns(&self, duration: Duration) -> Outcome<f64> {
        let mut batches = 0;
        let started = Instant::now();
        while started.elapsed() < duration {
            let section = section(&self.batch)?;
            let mut builder = BatchBuilder::like(&self.batch);
            for record in self.batch.records(&section) {
                let record = record.context("a record of our own")?;
                let value = record.value.unwrap_or_default();
                if millpond_sdk::json::number(value, FIELD).is_some_and(|n| n >= self.min) {
                    builder.push_record(&record).context("a record of our own")?;
                }
            }
            if !builder.is_empty() && builder.len() < SHAPE.records {
                black_box(builder.build_batch().context("a batch of our own")?);
            }
            batches += 1;
        }
        Ok(per_record_ns(started.elapsed(), batches))
    }
}

fn section(batch: &Batch) -> Outcome<bytes::Bytes> {
    batch.decompress(limits::DECOMPRESSED_BYTES_MAX).context("a batch of our own")
}

/// Rates of one topic.
#[derive(Default)]
struct Rates {
    records_per_second: Vec<f64>,
    cpu_us_per_record: Vec<f64>,
}

fn within_produce(bench: &Bench, figure: &mut Figure) -> Outcome<()> {
    let (broker, _home) = bench.broker()?;
    let mut loads = Vec::new();
    for (topic, min) in TOPICS {
        broker.create_topic(topic, PARTITIONS)?;
        if let Some(min) = min {
            let description = serde_json::json!({
                "name": topic, "version": "1", "topics": [topic],
                "settings": { "field": FIELD, "min": min },
            });
            broker.deploy(&description, millpond_guests::THRESHOLD)?;
        }
        let frames = Frames::build(topic, PARTITIONS, FRAMES, SHAPE)?;
        loads.push((topic, frames, Rates::default()));
    }
    for round in 1..=bench.rounds {
        for (topic, frames, rates) in &mut loads {
            progress(&format!("transform, produce to {topic}, round {round}"));
            measure(bench, &broker, frames, rates)?;
            broker.wait_until_quiet()?;
        }
    }
    broker.stop()?;
    let Some((plain, filtered)) = loads.split_first() else { return Ok(()) };
    let unfiltered = &plain.2;
    for (topic, _, rates) in &loads {
        let label = |text: &str| format!("produce, {topic}: {text}");
        figure.line(label("records sent"), Spread::of(&rates.records_per_second), "1/s");
        figure.line(label("CPU"), Spread::of(&rates.cpu_us_per_record), "us/record");
    }
    for (topic, _, rates) in filtered {
        let ours = &rates.records_per_second;
        let ratio = Spread::of_ratios(ours, &unfiltered.records_per_second);
        let target = (*topic == "keep-all").then_some(Target::AtLeast(KEEP_ALL_TARGET));
        figure.line_to(format!("produce, {topic} / unfiltered: rate"), ratio, "x", target);
        let ours = &rates.cpu_us_per_record;
        let ratio = Spread::of_ratios(ours, &unfiltered.cpu_us_per_record);
        figure.line(format!("produce, {topic} / unfiltered: CPU"), ratio, "x");
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn measure(bench: &Bench, broker: &Broker, frames: &Frames, rates: &mut Rates) -> Outcome<()> {
    let cpu_before = broker.cpu_seconds()?;
    let run = saturate(broker.kafka(), frames, bench.pressure, bench.seconds(2.0))?;
    let cpu = broker.cpu_seconds()? - cpu_before;
    let records = SHAPE.records as f64;
    rates.records_per_second.push(run.requests_per_second() * records);
    rates.cpu_us_per_record.push(cpu * 1e6 / (run.requests_in_all as f64 * records));
    Ok(())
}
