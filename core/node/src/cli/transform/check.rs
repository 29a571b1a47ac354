//! `millpond transform test`: a module against cases that stand in a file beside it. Records in,
//! expected records out; what a case does not name is not compared.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::super::json_record::JsonRecord;
use super::super::{CliError, text};
use super::local::{self, Local, Ran};
use millpond_http::{Action, Description};

/// Largest file of cases that is read.
const CASES_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Args)]
#[command(after_help = "The file:
  {
    \"topic\": \"readings\",
    \"settings\": { \"min\": \"70\" },
    \"cases\": [
      {
        \"name\": \"what is cold is dropped\",
        \"records\": [{ \"value\": { \"json\": { \"celsius\": 12 } } }],
        \"expect\": []
      }
    ]
  }
A case may have settings of its own. Expected records may name topic, key, value, headers,
timestamp_ms; a record of another topic names it. Bytes are text, {\"hex\": ...} or {\"json\": ...}.")]
pub(super) struct TestArgs {
    /// The module, a .wasm file, or a directory in which `millpond transform build` built one.
    #[arg(default_value = ".", value_name = "MODULE")]
    module: PathBuf,
    /// The cases [default: transform.test.json beside the module].
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
}

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    #[serde(default = "default_topic")]
    topic: String,
    #[serde(default)]
    outputs: Vec<String>,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    #[serde(default)]
    limits: BTreeMap<String, u64>,
    #[serde(default)]
    on_failure: Action,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    #[serde(default)]
    partition: i32,
    records: Vec<Value>,
    expect: Vec<Value>,
}

fn default_topic() -> String {
    "test".to_owned()
}

pub(super) async fn run(args: TestArgs, json: bool) -> Result<(), CliError> {
    let module = super::project::module_of(&args.module)?;
    let file = args.cases.unwrap_or_else(|| super::project::beside(&args.module));
    let cases = read(&file)?;
    let mut failed = Vec::new();
    for case in &cases.cases {
        let result = run_case(&module, &cases, case).await?;
        if !json {
            let mark = if result.is_ok() { "ok    " } else { "FAILED" };
            text::print(&format!("{mark}  {}\n", case.name))?;
        }
        failed.extend(result.err().map(|why| (case.name.clone(), why)));
    }
    report(&failed, cases.cases.len(), json)
}

fn read(file: &Path) -> Result<Cases, CliError> {
    let wrong = |error: String| CliError::usage(format!("{}: {error}", file.display()));
    let size = std::fs::metadata(file).map_err(|e| {
        wrong(e.to_string()).hint("`millpond transform test --help` shows what stands in it")
    })?;
    if size.len() > CASES_BYTES_MAX {
        return Err(wrong(format!("more than {CASES_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(file).map_err(|e| wrong(e.to_string()))?;
    let cases: Cases = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    match cases.cases.is_empty() {
        true => Err(wrong("there are no cases in it".to_owned())),
        false => Ok(cases),
    }
}

/// The inner error is what differs, for people.
async fn run_case(module: &Path, all: &Cases, case: &Case) -> Result<Result<(), String>, CliError> {
    let wrong = |error: String| CliError::usage(format!("case {:?}: {error}", case.name));
    let parse = |values: &[Value]| -> Result<Vec<JsonRecord>, CliError> {
        values.iter().map(JsonRecord::parse).collect::<Result<_, _>>().map_err(wrong)
    };
    let (records, expected) = (parse(&case.records)?, parse(&case.expect)?);
    let mut settings = all.settings.clone();
    settings.extend(case.settings.clone());
    let description = Description {
        name: "test".to_owned(),
        topics: vec![all.topic.clone()],
        outputs: all.outputs.clone(),
        settings,
        limits: all.limits.clone(),
        on_failure: all.on_failure,
        ..Description::default()
    };
    let transform = local::load(module, &description).await?;
    let mut local = Local::new(&transform, &all.topic, case.partition, 0)?;
    let ran = local.run(&records).await?;
    Ok(compare(&ran, &expected, &all.topic))
}

fn compare(ran: &Ran, expected: &[JsonRecord], topic: &str) -> Result<(), String> {
    if let Some(why) = &ran.refused {
        return Err(format!("the batch was refused: {why}"));
    }
    let said: Vec<Value> = ran.outputs.iter().map(JsonRecord::to_json).collect();
    let listed = || said.iter().map(|v| format!("    {v}\n")).collect::<String>();
    if said.len() != expected.len() {
        let (want, got) = (expected.len(), said.len());
        return Err(format!("{want} records are expected, {got} came out:\n{}", listed()));
    }
    for (index, (found, wanted)) in ran.outputs.iter().zip(expected).enumerate() {
        if let Some(field) = difference(found, wanted, topic) {
            let (found, wanted) = (found.to_json(), wanted.to_json());
            return Err(format!(
                "record {index} differs in its {field}\n    expected {wanted}\n    got      {found}\n"
            ));
        }
    }
    Ok(())
}

/// The first field that differs, of those that are named.
fn difference(found: &JsonRecord, wanted: &JsonRecord, topic: &str) -> Option<&'static str> {
    let differs = |named: bool, is_equal: bool| named && !is_equal;
    let fields = [
        ("topic", differs(true, found.topic.as_deref() == wanted.topic.as_deref().or(Some(topic)))),
        ("key", differs(wanted.key.is_some(), found.key == wanted.key)),
        ("value", differs(true, found.value == wanted.value)),
        ("headers", differs(wanted.headers.is_some(), found.headers == wanted.headers)),
        (
            "timestamp_ms",
            differs(wanted.timestamp_ms.is_some(), found.timestamp_ms == wanted.timestamp_ms),
        ),
    ];
    fields.into_iter().find(|(_, differs)| *differs).map(|(name, _)| name)
}

fn report(failed: &[(String, String)], count: usize, json: bool) -> Result<(), CliError> {
    if json {
        let rows: Vec<Value> =
            failed.iter().map(|(name, why)| json!({ "case": name, "why": why })).collect();
        text::print_json(&json!({ "cases": count, "failed": rows }))?;
    } else {
        for (name, why) in failed {
            text::print(&format!("\n{name}:\n  {why}\n"))?;
        }
    }
    match failed.len() {
        0 => Ok(()),
        failed => Err(CliError::failed(format!("{failed} of {count} cases failed"))),
    }
}
