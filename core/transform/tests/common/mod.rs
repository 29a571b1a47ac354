//! What the tests of the host share: one host, batches in, records out.

#![allow(dead_code, reason = "each test file uses a part of it")]

use millpond_transform::{
    Chain, CompiledModule, EngineKind, FailurePolicy, Host, HostConfig, Input, OnFailure, Outcome,
    OutputTopic, Report, Sha256, Transform, TransformSpec, run,
};
use millpond_wire::record::{Batch, BatchBuilder, Codec, Header};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

pub(crate) const TOPIC: &str = "readings";
pub(crate) const FIRST_INPUT: u64 = 1_000;

/// The engine of a file's stories, unless they name one: files `*_interpreted.rs` tell the stories of
/// others on the interpreter.
pub(crate) fn engine() -> EngineKind {
    match env!("CARGO_CRATE_NAME").ends_with("_interpreted") {
        true => EngineKind::Interpreter,
        false => EngineKind::Native,
    }
}

/// The host of all tests of a file: compiling is what costs.
pub(crate) fn host() -> &'static Host {
    host_of(engine())
}

pub(crate) fn host_of(engine: EngineKind) -> &'static Host {
    static NATIVE: OnceLock<Host> = OnceLock::new();
    static INTERPRETER: OnceLock<Host> = OnceLock::new();
    let host = match engine {
        EngineKind::Native => &NATIVE,
        EngineKind::Interpreter => &INTERPRETER,
    };
    let config = HostConfig { engine, ..HostConfig::default() };
    host.get_or_init(|| Host::new(config).expect("a host"))
}

/// The module, compiled once for all tests of a file.
pub(crate) fn compiled_for(engine: EngineKind, wasm: &[u8]) -> CompiledModule {
    static MODULES: Mutex<BTreeMap<(&str, Sha256), CompiledModule>> = Mutex::new(BTreeMap::new());
    let mut modules = MODULES.lock().expect("no test panics while it compiles");
    let compile = || host_of(engine).compile(wasm).expect("the module compiles");
    modules.entry((engine.name(), Sha256::of(wasm))).or_insert_with(compile).clone()
}

pub(crate) fn compiled(wasm: &[u8]) -> CompiledModule {
    compiled_for(engine(), wasm)
}

/// A declaration that a test changes, and the transform of it.
pub(crate) async fn deploy(wasm: &[u8], change: impl FnOnce(&mut TransformSpec)) -> Arc<Transform> {
    deploy_on(engine(), wasm, change).await
}

pub(crate) async fn deploy_on(
    engine: EngineKind,
    wasm: &[u8],
    change: impl FnOnce(&mut TransformSpec),
) -> Arc<Transform> {
    let mut spec = TransformSpec::new("subject", Sha256::of(wasm));
    spec.version = "7".to_string();
    change(&mut spec);
    let module = compiled_for(engine, wasm);
    Transform::deploy(host_of(engine), spec, module).await.expect("the transform deploys")
}

pub(crate) async fn chain(wasm: &[u8], change: impl FnOnce(&mut TransformSpec)) -> Chain {
    Chain::new(vec![deploy(wasm, change).await], TOPIC, 3).expect("a chain")
}

pub(crate) async fn chain_on(
    engine: EngineKind,
    wasm: &[u8],
    change: impl FnOnce(&mut TransformSpec),
) -> Chain {
    Chain::new(vec![deploy_on(engine, wasm, change).await], TOPIC, 3).expect("a chain")
}

pub(crate) fn policy(then: OnFailure) -> FailurePolicy {
    FailurePolicy { retries: 0, then }
}

pub(crate) fn set(spec: &mut TransformSpec, settings: &[(&str, &str)]) {
    for (key, value) in settings {
        spec.settings.insert(key.to_string(), value.to_string());
    }
}

/// A batch of these values; every record has a key, a header and its own timestamp.
pub(crate) fn batch_of<V: AsRef<[u8]>>(codec: Codec, values: &[V]) -> Batch {
    let mut builder = BatchBuilder::new(codec, None);
    for (index, value) in values.iter().enumerate() {
        let key = format!("key-{index}");
        let headers = [Header { key: b"h", value: Some(b"v") }, Header { key: b"n", value: None }];
        builder
            .push(5_000 + index as i64, Some(key.as_bytes()), Some(value.as_ref()), &headers)
            .expect("the record fits");
    }
    Batch::parse(builder.build().expect("a batch")).expect("the batch parses")
}

pub(crate) fn batch<V: AsRef<[u8]>>(values: &[V]) -> Batch {
    batch_of(Codec::None, values)
}

pub(crate) async fn run_once(chain: &mut Chain, batch: &Batch) -> Report {
    run(chain, Input { batch: Some(batch), input_count: FIRST_INPUT, ..Input::default() }).await
}

/// A batch of one record for each of these times and values, without headers; the key is the
/// record's number.
pub(crate) fn batch_at<V: AsRef<[u8]>>(records: &[(i64, V)]) -> Batch {
    let mut builder = BatchBuilder::new(Codec::None, None);
    for (index, (timestamp, value)) in records.iter().enumerate() {
        let key = index.to_string();
        let value = Some(value.as_ref());
        builder.push(*timestamp, Some(key.as_bytes()), value, &[]).expect("the record fits");
    }
    Batch::parse(builder.build().expect("a batch")).expect("the batch parses")
}

/// A record that came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) topic: Option<String>,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) headers: Vec<(String, Option<String>)>,
}

impl Record {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.and_then(|(_, value)| value.as_deref())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The records of a batch.
pub(crate) fn records(batch: &Batch, topic: Option<&str>) -> Vec<Record> {
    let section = batch.decompress(usize::MAX).expect("it decompresses");
    let records = batch.records(&section).map(|record| {
        let record = record.expect("a whole record");
        Record {
            topic: topic.map(str::to_string),
            timestamp: record.timestamp,
            key: record.key.map(text),
            value: record.value.map(text),
            headers: record.headers.map(|h| (text(h.key), h.value.map(text))).collect(),
        }
    });
    records.collect()
}

/// All records that came out, in order. Panics unless the batch was changed.
pub(crate) fn came_out(outcome: &Outcome) -> Vec<Record> {
    let Outcome::Changed { outputs } = outcome else {
        panic!("not changed: {outcome:?}");
    };
    let mut all = Vec::new();
    for output in outputs {
        // Whatever is stored must be a batch that the wire floor takes from anyone.
        let parsed = Batch::parse(output.batch.raw().clone()).expect("a valid batch");
        assert!(!parsed.header().has_producer());
        parsed.check_produced(usize::MAX).expect("a batch as a producer may send it");
        let topic = match &output.topic {
            OutputTopic::Same => None,
            OutputTopic::Named(name) => Some(name.as_str()),
        };
        all.extend(records(&parsed, topic));
    }
    all
}

/// The values that came out for the same topic.
pub(crate) fn values(outcome: &Outcome) -> Vec<String> {
    let same = came_out(outcome).into_iter().filter(|record| record.topic.is_none());
    same.map(|record| record.value.unwrap_or_default()).collect()
}

/// The records that came out for another topic.
pub(crate) fn sent_to(outcome: &Outcome, topic: &str) -> Vec<Record> {
    let all = came_out(outcome).into_iter();
    all.filter(|record| record.topic.as_deref() == Some(topic)).collect()
}
