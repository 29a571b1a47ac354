//! What the sandbox costs a record: filters, a map and a windowed mean natively, in the guest, and
//! with all that is around it. `cargo run --release -p millpond-transform --example overhead`,
//! with a part of a subject's name behind `--` for some of them.
//!
//! Native and guest take turns in one run, and ratios are of the least times and of the medians:
//! on a machine that others use, the first are the steadier ones.

mod stateless;
mod windowed;

// The guests' own sources, compiled for the host: modules are a workspace of their own.
#[allow(unreachable_pub, reason = "it is a crate of its own")]
#[path = "../../../../guests/modules/serde-map/src/lib.rs"]
mod serde_map;
#[allow(unreachable_pub, reason = "it is a crate of its own")]
#[path = "../../../../guests/modules/threshold/src/lib.rs"]
mod threshold;
#[allow(unreachable_pub, reason = "it is a crate of its own")]
#[path = "../../../../guests/modules/window-mean/src/lib.rs"]
mod window_mean;

use millpond_transform::{Host, HostConfig, Sha256, Transform, TransformSpec};
use millpond_wire::record::{Batch, BatchBuilder, Codec};
use stateless::Subject;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// Records of a batch.
const RECORDS: usize = 500;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Times of the same work, in turns.
#[derive(Default)]
struct Times {
    /// The same code compiled natively, on a buffer that is laid out.
    native: Vec<Duration>,
    /// The guest with its buffers, as the host counts it.
    guest: Vec<Duration>,
    /// All of a run: reading the batch, the guest, making the new batch.
    whole: Vec<Duration>,
}

/// Prints ns per record and ratios, of the times of one batch or of several of `records` each.
fn tell(subject: &str, batches: &mut [Times], records: usize, to_reach: Option<f64>) {
    let records = (batches.len() * records) as f64;
    // The least and the median of each batch, summed up.
    let mut of = |times: fn(&mut Times) -> &mut Vec<Duration>| {
        let (mut least, mut median) = (0.0, 0.0);
        for times in batches.iter_mut().map(times) {
            times.sort_unstable();
            let ns = |index: usize| times.get(index).map_or(0.0, |time| time.as_nanos() as f64);
            least += ns(0) / records;
            median += ns(times.len() / 2) / records;
        }
        (least, median)
    };
    let native = of(|times| &mut times.native);
    let to_reach = to_reach.map_or(String::new(), |ratio| format!("  (to reach: {ratio})"));
    println!("{subject}{to_reach}");
    println!("  native           least {:7.1}  median {:7.1} ns/record", native.0, native.1);
    let ours =
        [("guest", of(|times| &mut times.guest)), ("whole run", of(|times| &mut times.whole))];
    for (name, (least, median)) in ours {
        println!(
            "  {name:16} least {least:7.1}  median {median:7.1} ns/record  \
             x {:.2} of least, {:.2} of medians",
            least / native.0,
            median / native.1
        );
    }
}

/// A reading of 195 bytes.
fn reading(index: usize) -> String {
    let seq = 10_000_000 + index;
    format!(
        "{{\"device\":\"gateway-17/pump-{index:04}\",\"seq\":{seq},\"site\":\"north-pier-3\",\
         \"status\":\"nominal\",\"voltage\":231.4,\"current\":4.021,\"temperature\":{:.2},\
         \"vibration\":0.0132,\"firmware\":\"2.14.7\"}}",
        20.0 + (index % 100) as f64 / 10.0
    )
}

/// A batch of records, each with its time and key.
fn batch(records: &[(i64, String, String)]) -> Outcome<Batch> {
    let mut builder = BatchBuilder::new(Codec::None, None);
    for (at_ms, key, value) in records {
        builder.push(*at_ms, Some(key.as_bytes()), Some(value.as_bytes()), &[])?;
    }
    Ok(Batch::parse(builder.build()?)?)
}

async fn deploy(host: &Host, wasm: &[u8], settings: &[(&str, &str)]) -> Outcome<Arc<Transform>> {
    let mut spec = TransformSpec::new("subject", Sha256::of(wasm));
    for (key, value) in settings {
        spec = spec.setting(key, value);
    }
    Ok(Transform::deploy(host, spec, host.compile(wasm)?).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let host = Host::new(HostConfig::default())?;
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let filter = |min, read| [("field", "temperature"), ("min", min), ("read", read)];
    let pointer = [("pointer", "/temperature"), ("min", "29")];
    let map = [("field", "temperature"), ("scale", "1.8"), ("add", "seen")];
    let (filters_module, map_module) = (millpond_guests::THRESHOLD, millpond_guests::SERDE_MAP);
    // Whoever reads the field for the guest, the native code that it is compared with is the same.
    let filters = [
        ("threshold, keeps all", "0", filter("0", "module").to_vec(), Some(2.0)),
        ("threshold, drops 90 %", "29", filter("29", "module").to_vec(), Some(2.0)),
        ("threshold with helpers, keeps all", "0", filter("0", "broker").to_vec(), Some(1.3)),
        ("threshold with helpers, drops 90 %", "29", filter("29", "broker").to_vec(), Some(1.3)),
        ("threshold by a pointer, drops 90 %", "29", pointer.to_vec(), None),
    ];
    for (name, min, settings, to_reach) in &filters {
        let (wasm, to_reach) = (filters_module, *to_reach);
        let subject = Subject { name, wasm, settings, to_reach };
        if name.contains(&wanted) {
            subject.measure::<threshold::Threshold>(&host, &filter(min, "module")).await?;
        }
    }
    let name = "serde_json map";
    let subject = Subject { name, wasm: map_module, settings: &map, to_reach: Some(2.0) };
    if subject.name.contains(&wanted) {
        subject.measure::<serde_map::SerdeMap>(&host, &map).await?;
    }
    if windowed::NAME.contains(&wanted) {
        windowed::measure(&host).await?;
    }
    Ok(())
}
