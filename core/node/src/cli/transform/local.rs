//! A module run here, in this process, on records that a person gave: with the node's own host and
//! the node's own rules, so that what comes out is what a node would store. It never touches a node.

use std::path::Path;
use std::time::Duration;

use millpond_transform::{
    Chain, Host, HostConfig, Input, LogLine, Outcome, OutputTopic, Transform,
};
use millpond_wire::record::{Batch, BatchBuilder, Codec, Header};

use super::super::CliError;
use super::super::json_record::{Headers, JsonRecord};
use crate::transforms::host_spec;
use millpond_http::Description;

/// One partition with one transform.
pub(super) struct Local {
    chain: Chain,
    topic: String,
    /// Records given to it so far.
    inputs: u64,
}

/// What became of some records.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// Every record was kept as it was.
    pub(super) is_untouched: bool,
    /// What is stored, with topics.
    pub(super) outputs: Vec<JsonRecord>,
    /// The batch is refused, and why.
    pub(super) refused: Option<String>,
    pub(super) kept: u64,
    pub(super) dropped: u64,
    pub(super) emitted: u64,
    pub(super) failed: u64,
    pub(super) cpu: Duration,
    pub(super) logs: Vec<LogLine>,
}

/// Compiles a module and starts it with these settings.
pub(super) async fn load(
    module: &Path,
    description: &Description,
) -> Result<std::sync::Arc<Transform>, CliError> {
    let wasm = super::read_module(module)?;
    let host = Host::new(HostConfig::default()).map_err(|e| CliError::failed(e.to_string()))?;
    let module = host.compile(&wasm).map_err(|e| CliError::failed(e.to_string()))?;
    let spec = host_spec(&description.clone().into_spec(module.hash().0));
    let spec = spec.map_err(CliError::usage)?;
    Transform::deploy(&host, spec, module).await.map_err(|e| CliError::failed(e.to_string()))
}

impl Local {
    pub(super) fn new(
        transform: &std::sync::Arc<Transform>,
        topic: &str,
        partition: i32,
        first_input: u64,
    ) -> Result<Self, CliError> {
        let chain = Chain::new(vec![transform.clone()], topic, partition);
        let mut chain = chain.map_err(|e| CliError::failed(e.to_string()))?;
        // It starts with nothing remembered, and what it remembers ends with it.
        chain.set_replay(true);
        for stage in chain.state_wanted() {
            chain.load_state(stage, []).map_err(|e| CliError::failed(e.to_string()))?;
        }
        Ok(Self { chain, topic: topic.to_owned(), inputs: first_input })
    }

    /// Gives it these records as one batch.
    pub(super) async fn run(&mut self, records: &[JsonRecord]) -> Result<Ran, CliError> {
        let batch = batch_of(records)?;
        let input = Input { batch: Some(&batch), input_count: self.inputs, ..Input::default() };
        let report = millpond_transform::run(&mut self.chain, input).await;
        self.inputs += records.len() as u64;
        let mut ran = Ran { logs: report.logs, ..Ran::default() };
        for stage in &report.stages {
            ran.kept += stage.kept;
            ran.dropped += stage.dropped;
            ran.emitted += stage.emitted;
            ran.failed += stage.failed;
            ran.cpu += stage.cpu;
        }
        match report.outcome {
            Outcome::Untouched => {
                ran.is_untouched = true;
                ran.outputs = records_of(&batch, &self.topic)?;
            }
            Outcome::Changed { outputs } => {
                for output in outputs {
                    let topic = match &output.topic {
                        OutputTopic::Same => &self.topic,
                        OutputTopic::Named(topic) => topic,
                    };
                    ran.outputs.extend(records_of(&output.batch, topic)?);
                }
            }
            Outcome::Rejected { message, .. } => ran.refused = Some(message),
        }
        Ok(ran)
    }
}

fn batch_of(records: &[JsonRecord]) -> Result<Batch, CliError> {
    let wrong = |error: millpond_wire::record::BuildError| {
        CliError::usage(format!("the records cannot be one batch: {error}"))
    };
    let mut builder = BatchBuilder::new(Codec::None, None);
    for record in records {
        let headers = record.headers.as_deref().unwrap_or_default();
        let headers: Vec<Header<'_>> =
            headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        let timestamp_ms = record.timestamp_ms.unwrap_or(0);
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.push(timestamp_ms, key, value, &headers).map_err(wrong)?;
    }
    builder.build_batch().map_err(wrong)
}

fn records_of(batch: &Batch, topic: &str) -> Result<Vec<JsonRecord>, CliError> {
    let damaged = |error: String| CliError::failed(format!("what came out is damaged: {error}"));
    let section = batch.decompress(millpond_wire::limits::DECOMPRESSED_BYTES_MAX);
    let section = section.map_err(|e| damaged(e.to_string()))?;
    let mut records = Vec::new();
    for record in batch.records(&section) {
        let record = record.map_err(|e| damaged(e.to_string()))?;
        let mut headers = Headers::new();
        for header in record.headers.clone() {
            headers.push((header.key.to_vec(), header.value.map(<[u8]>::to_vec)));
        }
        records.push(JsonRecord {
            topic: Some(topic.to_owned()),
            timestamp_ms: Some(record.timestamp),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: Some(headers),
            ..JsonRecord::default()
        });
    }
    Ok(records)
}
