//! What state, helpers and instances cost. `cargo run --release -p millpond-transform --example
//! figures`

use millpond_guests::THRESHOLD;
use millpond_transform::{
    Chain, EngineKind, Host, HostConfig, Input, Sha256, Transform, TransformSpec, run,
};
use millpond_wire::record::{Batch, BatchBuilder, Codec};
use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const LOOPS: u32 = 1_000;
const ROUNDS: u32 = 300;
const INSTANCES: i32 = 200;

const DOCUMENT: &str = r#"{"device":"gateway-17/pump-0042","seq":42,"site":"north-pier-3","status":"nominal","voltage":231.4,"current":4.021,"temperature":24.25,"vibration":0.0132,"firmware":"2.14.7"}"#;

/// A module that does `body` a thousand times for a batch; `$i` counts.
fn looping(body: &str) -> Vec<u8> {
    let document = DOCUMENT.replace('"', "\\22");
    let text = format!(
        "(module
           (import \"millpond\" \"state_get\" (func $get (param i32 i32 i32 i32) (result i32)))
           (import \"millpond\" \"state_put\" (func $put (param i32 i32 i32 i32 i64) (result i32)))
           (import \"millpond\" \"json_field\" (func $field (param i32 i32 i32 i32 i32) (result i32)))
           (import \"millpond\" \"json_number\" (func $number (param i32 i32 i32 i32 i32) (result i32)))
           (import \"millpond\" \"hash64\" (func $hash (param i32 i32 i64) (result i64)))
           (memory (export \"memory\") 2)
           (data (i32.const 0) \"device-0000\")
           (data (i32.const 256) \"/temperature\")
           (data (i32.const 512) \"{document}\")
           (func (export \"millpond_alloc\") (param i32) (result i32) (i32.const 4096))
           (func (export \"millpond_transform_v1\") (param i32 i32) (result i64)
             (local $i i32)
             (loop $again
               (i32.store (i32.const 7) (i32.and (local.get $i) (i32.const 255)))
               {body}
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $again (i32.lt_u (local.get $i) (i32.const {LOOPS}))))
             (i64.const 0)))"
    );
    wat::parse_str(text).unwrap_or_default()
}

fn batch() -> Result<Batch, Box<dyn Error>> {
    let mut builder = BatchBuilder::new(Codec::None, None);
    builder.push(1, None, Some(br#"{"t":1}"#), &[])?;
    Ok(Batch::parse(builder.build()?)?)
}

async fn deploy(host: &Host, wasm: &[u8]) -> Result<Arc<Transform>, Box<dyn Error>> {
    let spec = TransformSpec::new("figures", Sha256::of(wasm));
    let spec = spec.setting("field", "t").setting("min", "0");
    Ok(Transform::deploy(host, spec, host.compile(wasm)?).await?)
}

/// The least time of a run, in ns, and the chain that it was measured on.
async fn least(chain: &mut Chain, batch: &Batch, discard: bool) -> f64 {
    let mut least = f64::MAX;
    for _ in 0..ROUNDS {
        if discard {
            chain.discard_instances();
        }
        let started = Instant::now();
        let input = Input { batch: Some(batch), input_count: 0, ..Input::default() };
        black_box(run(chain, input).await);
        least = least.min(started.elapsed().as_nanos() as f64);
    }
    least
}

async fn per_loop(host: &Host, body: &str) -> Result<f64, Box<dyn Error>> {
    let mut chain = Chain::new(vec![deploy(host, &looping(body)).await?], "figures", 0)?;
    chain.load_state(0, [])?;
    Ok(least(&mut chain, &batch()?, false).await / f64::from(LOOPS))
}

fn resident_bytes() -> Result<usize, Box<dyn Error>> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm.split(' ').nth(1).unwrap_or_default().parse()?;
    Ok(pages * 4096)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    for engine in [EngineKind::Native, EngineKind::Interpreter] {
        println!("{}:", engine.name());
        let memory_bytes = 1 << 30;
        let host = Host::new(HostConfig { engine, memory_bytes, ..HostConfig::default() })?;
        let get = "(drop (call $get (i32.const 0) (i32.const 11) (i32.const 1024) (i32.const 16)))";
        let put = "(drop (call $put (i32.const 0) (i32.const 11) (i32.const 512) (i32.const 8) (i64.const 0)))";
        let json = |name: &str| {
            let len = DOCUMENT.len();
            format!(
                "(drop (call ${name} (i32.const 512) (i32.const {len}) (i32.const 256)
                   (i32.const 12) (i32.const 1024)))"
            )
        };
        let hash = "(drop (call $hash (i32.const 512) (i32.const 64) (i64.const 0)))";
        let empty = per_loop(&host, "").await?;
        println!("  empty loop           {empty:8.1} ns");
        for (name, body) in [
            ("state get", get.to_string()),
            ("state get and put", format!("{get}{put}")),
            ("json_field", json("field")),
            ("json_number", json("number")),
            ("hash64 of 64 bytes", hash.to_string()),
        ] {
            println!("  {name:20} {:8.1} ns", per_loop(&host, &body).await? - empty);
        }
        let transform = deploy(&host, THRESHOLD).await?;
        let mut chain = Chain::new(vec![transform.clone()], "figures", 0)?;
        let warm = least(&mut chain, &batch()?, false).await;
        let fresh = least(&mut chain, &batch()?, true).await;
        println!("  run of one record    {:8.1} us", warm / 1e3);
        println!(
            "  the same, fresh      {:8.1} us, {:.1} us for the instance",
            fresh / 1e3,
            (fresh - warm) / 1e3
        );
        let before = resident_bytes()?;
        let mut chains = Vec::new();
        for partition in 0..INSTANCES {
            let mut chain = Chain::new(vec![transform.clone()], "figures", partition)?;
            least(&mut chain, &batch()?, false).await;
            chains.push(chain);
        }
        let each = (resident_bytes()? - before) / INSTANCES as usize;
        println!("  an idle instance     {:8.1} KiB resident", each as f64 / 1024.0);
    }
    Ok(())
}
