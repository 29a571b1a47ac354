//! What the sandbox costs a record: the threshold filter natively, in the guest, and with all that
//! is around it. `cargo run --release -p millpond-transform --example overhead`

// The guest's own source, compiled for the host: modules are a workspace of their own.
#[allow(unreachable_pub, reason = "it is a crate of its own")]
#[path = "../../../guests/modules/threshold/src/lib.rs"]
mod threshold;

use millpond_sdk::testing::{Native, TestRecord, encode_input};
use millpond_transform::{Chain, Host, HostConfig, Input, Sha256, Transform, TransformSpec, run};
use millpond_wire::record::{Batch, BatchBuilder, Codec};
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};
use threshold::Threshold;

const RECORDS: u32 = 500;
const ROUNDS: usize = 400;

/// A reading of 195 bytes.
fn reading(index: u32) -> String {
    format!(
        "{{\"device\":\"gateway-17/pump-{index:04}\",\"seq\":{index:08},\"site\":\"north-pier-3\",\
         \"status\":\"nominal\",\"voltage\":231.4,\"current\":4.021,\"temperature\":{:5.2},\
         \"vibration\":0.0132,\"firmware\":\"2.14.7\"}}",
        20.0 + f64::from(index % 100) / 10.0
    )
}

fn main() -> Result<(), Box<dyn Error>> {
    let values: Vec<_> = (0..RECORDS).map(reading).collect();
    println!("{RECORDS} records of {} bytes", values[0].len());
    let host = Host::new(HostConfig::default())?;
    let module = host.compile(millpond_guests::THRESHOLD)?;
    println!(
        "threshold: {} bytes of wasm, {} of code, compiled in {:.1} ms",
        module.wasm_bytes(),
        module.code_bytes(),
        module.compile_time().as_secs_f64() * 1e3
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for (name, min) in [("keeps all", "0"), ("drops 90 %", "29")] {
        let settings = [("field", "temperature"), ("min", min)];
        let native = native(&settings, &values)?;
        println!("{name}:");
        println!("  native                 {native:7.1} ns/record");
        for codec in [Codec::None, Codec::Lz4] {
            let transform = runtime.block_on(deploy(&host, &module, &settings))?;
            let mut chain = Chain::new(vec![transform], "readings", 0)?;
            let batch = batch(codec, &values)?;
            let (call, all) = runtime.block_on(inline(&mut chain, &batch));
            println!(
                "  guest call,      {codec:>5} {call:7.1} ns/record, {:.2} x native",
                call / native
            );
            println!(
                "  whole transform, {codec:>5} {all:7.1} ns/record, {:.2} x native",
                all / native
            );
        }
    }
    Ok(())
}

fn native(settings: &[(&str, &str)], values: &[String]) -> Result<f64, Box<dyn Error>> {
    let records: Vec<_> = values.iter().map(|value| TestRecord::of(value.as_bytes())).collect();
    let input = encode_input(&records);
    let mut native =
        Native::<Threshold>::new(settings).map_err(|failure| failure.message().to_string())?;
    Ok(median(|| {
        let started = Instant::now();
        black_box(native.run(&input));
        started.elapsed()
    }))
}

async fn deploy(
    host: &Host,
    module: &millpond_transform::CompiledModule,
    settings: &[(&str, &str)],
) -> Result<std::sync::Arc<Transform>, Box<dyn Error>> {
    let mut spec = TransformSpec::new("threshold", Sha256::of(millpond_guests::THRESHOLD));
    for (key, value) in settings {
        spec = spec.setting(key, value);
    }
    Ok(Transform::deploy(host, spec, module.clone()).await?)
}

fn batch(codec: Codec, values: &[String]) -> Result<Batch, Box<dyn Error>> {
    let mut builder = BatchBuilder::new(codec, None);
    for (index, value) in values.iter().enumerate() {
        let timestamp = 1_790_000_000_000 + index as i64;
        builder.push(timestamp, Some(b"pump"), Some(value.as_bytes()), &[])?;
    }
    Ok(Batch::parse(builder.build()?)?)
}

/// Medians for the call of the guest, its buffers included, and for all of the run.
async fn inline(chain: &mut Chain, batch: &Batch) -> (f64, f64) {
    let mut calls = Vec::new();
    let mut whole = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let input = Input { batch: Some(batch), input_count: 0, ..Input::default() };
        let report = black_box(run(chain, input).await);
        whole.push(started.elapsed());
        calls.extend(report.stages.iter().map(|stage| stage.cpu));
    }
    (per_record(calls), per_record(whole))
}

fn median(mut once: impl FnMut() -> Duration) -> f64 {
    per_record((0..ROUNDS).map(|_| once()).collect())
}

fn per_record(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    median.as_nanos() as f64 / f64::from(RECORDS)
}
